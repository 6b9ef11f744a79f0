"""``codellm-dag …``: questions about numbers, and the demo. See docs/cli.md for every command and its JSON.

Importing this imports neither PyTorch nor Dagster; only `demo` needs Dagster and imports it when it runs.
"""

from __future__ import annotations


def main() -> None:
    """The console script."""
    from codellm_dag.cli.app import app

    app()
