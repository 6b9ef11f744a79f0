"""Outside frameworks, each in a virtual environment of its own: pinned lists, and what builds them.

Imports nothing: `pytorch.py` runs before anything is installed.
"""
