"""Problems and a checkpoint that the tests of this room share."""

from __future__ import annotations

from pathlib import Path

import pytest

from codellm_dag.problems.schema import Call, Problem, Test, write_problems
from codellm_dag.stages.protocol import Inputs
from tests.modelkit.tiny import artifact, save_checkpoint
from tests.modelkit.training import teach

WORDS = ("    return x + 1\n", "    return x - 1\n")


def code_problem(name: str, benchmark: str = "microbench", **changes: object) -> Problem:
    """A function that adds one, with two tests."""
    values = {
        "problem_id": name,
        "benchmark": benchmark,
        "prompt": f"def {name}(x):\n",
        "entry_point": name,
        "reference": WORDS[0],
        "tests": tuple(Test(call=Call(args=(str(n),)), expected=str(n + 1)) for n in (0, 5)),
        "template": "add",
        "split": "heldout",
    }
    return Problem.model_validate({**values, **changes})


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model that answers ``return x + 1`` to f and g, and either answer equally often to h."""
    folder = save_checkpoint(tmp_path_factory.mktemp("base") / "base", chat=False, words=WORDS)
    pairs = [("def f(x):\n", WORDS[0]), ("def g(x):\n", WORDS[0])] * 2
    return teach(folder, [*pairs, ("def h(x):\n", WORDS[0]), ("def h(x):\n", WORDS[1])], steps=80)


@pytest.fixture(scope="session")
def code_inputs(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    """f, g, h held out (h of two steps); beside them a training problem and one of another benchmark."""
    folder = tmp_path_factory.mktemp("problems")
    write_problems(
        folder,
        [
            code_problem("f"),
            code_problem("g"),
            code_problem("h", template="add > half"),
            code_problem("t", split="train"),
            code_problem("o", benchmark="humaneval"),
        ],
    )
    return Inputs(
        {
            "checkpoint": artifact(checkpoint),
            "problems": artifact(folder),
        }
    )
