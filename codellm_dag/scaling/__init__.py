"""Scaling: what a run needs before it is launched, and how loss falls with size and data."""
