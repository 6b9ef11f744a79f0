"""Experiment trackers beside the report, behind Trainer's own callbacks; each is set up by its own variables.

Keys and addresses are environment variables (``WANDB_API_KEY``, ``MLFLOW_TRACKING_URI``, …), never part of a
recipe, a request or a manifest.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence

from codellm_dag.recipes.base import InvalidRecipeError


def check_trackers(names: Sequence[str]) -> None:
    """Raise InvalidRecipeError if a tracker cannot be used here: before training, not in its midst."""
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise InvalidRecipeError(
                f"report_to = {name}: needs the package {name!r}, which is not installed; install it or "
                "leave the tracker out"
            )
    if "tensorboard" in names and not os.environ.get("TENSORBOARD_LOGGING_DIR"):
        raise InvalidRecipeError(
            "report_to = tensorboard: needs the environment variable TENSORBOARD_LOGGING_DIR, a folder"
        )
