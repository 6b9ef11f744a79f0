"""codellm-dag: the life cycle of a code language model as a Dagster asset graph."""

__version__ = "0.1.0"
