"""What holds for every outside framework: refusals without PyTorch, its pins in its own code digest."""

from __future__ import annotations

import subprocess
import sys

import pytest

from codellm_dag.store import code_digest

SFT = ("llamafactory", "swift", "verl")
PRETRAINING = ("megatron", "megatron_deepspeed", "torchtitan", "colossalai")
PROGRAM = """
import sys
for name in ("torch", "transformers", "numpy"):
    sys.modules[name] = None
import importlib
from codellm_dag.recipes.training import PretrainingRecipe, SftRecipe
recipe = {recipe}.parse({{"backend": {{"name": "{name}"}}}})
print(importlib.import_module("codellm_dag.training.backends.{name}").refusals(recipe))
"""


@pytest.mark.parametrize("name", SFT + PRETRAINING)
def test_refusals_need_no_pytorch(name: str) -> None:
    recipe = "SftRecipe" if name in SFT else "PretrainingRecipe"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(name=name, recipe=recipe)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("[]\n", 0), done.stderr


@pytest.mark.parametrize("name", SFT + PRETRAINING)
def test_the_pins_are_in_its_own_code_digest_and_no_other(name: str) -> None:
    modules = code_digest(f"codellm_dag.training.backends.{name}").modules
    lists = [entry for entry in modules if entry.endswith(".txt")]
    (found,) = lists
    assert found.endswith(f"{'megatron' if name == 'megatron_deepspeed' else name}.txt")
