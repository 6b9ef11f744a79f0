"""Gets into trouble in one rank of a group, while the others wait for it without end."""

from __future__ import annotations

import os
import signal
import time

from codellm_dag.recipes.base import InvalidRecipeError

DISTRIBUTED = True


def run(recipe, inputs, out, report):
    """Rank 1 does what ``recipe.trouble`` says; the others write a word, or wait."""
    del inputs
    report.log(f"rank {os.environ['RANK']} of {os.environ['WORLD_SIZE']}")
    (out / "rank.txt").write_text(os.environ["RANK"])
    if recipe.trouble and os.environ["RANK"] != "1":
        time.sleep(600)
    match recipe.trouble:
        case "value":
            raise ValueError("a bug")
        case "recipe":
            raise InvalidRecipeError("TinyRecipe.text: no")
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
