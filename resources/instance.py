"""The folder of Dagster's own state (DAGSTER_HOME), set up so that it runs offline and asks nothing."""

from __future__ import annotations

from pathlib import Path

_SETTINGS = """\
# Written by codellm-dag when the file was missing; change it as you like.
telemetry:
  enabled: false
nux:
  enabled: false
"""


def ensure_dagster_home(folder: Path) -> Path:
    """Make `folder` a DAGSTER_HOME and return its absolute path; an existing dagster.yaml is left as it is.

    The caller sets the environment variable DAGSTER_HOME to it. Never run two ``dagster dev`` on one.
    """
    home = folder.expanduser().absolute()
    home.mkdir(parents=True, exist_ok=True)
    settings = home / "dagster.yaml"
    if not settings.exists():
        settings.write_text(_SETTINGS, encoding="utf-8")
    return home
