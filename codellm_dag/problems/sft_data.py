"""Stage ``sft_data``: chat examples from microbench's training half, as ``train.parquet``.

The user's turn is the prompt (signature and docstring), the assistant's the body that completes it. In every
example each step has an effect, and none shares a template, prompt or solution with a benchmark's problem.
Columns: problem_id, template, messages (list of role and content), language.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from codellm_dag.problems.programs import user_message
from codellm_dag.problems.schema import Problem
from codellm_dag.problems.training_half import training_problems
from codellm_dag.recipes.problems import SftDataRecipe
from codellm_dag.stages.protocol import Inputs, Report

FILE = "train.parquet"
_MESSAGE = pa.struct([("role", pa.string()), ("content", pa.string())])
SCHEMA = pa.schema(
    [
        ("problem_id", pa.string()),
        ("template", pa.string()),
        ("messages", pa.list_(_MESSAGE)),
        ("language", pa.string()),
    ]
)


def run(recipe: SftDataRecipe, inputs: Inputs, out: Path, report: Report) -> None:
    """Write the examples. Needs slot ``benchmark/microbench``; compares with every benchmark given.

    Metrics: examples, and those of `training_problems`, which also names the errors.
    """
    problems = training_problems(
        inputs, report, name="sft", count=recipe.examples, steps=recipe.steps, seed=recipe.seed, tests=0
    )
    pq.write_table(to_table(problems), out / FILE, compression="zstd")
    report.metric(examples=len(problems))
    sample = problems[:5]
    report.table("examples", [{"prompt": p.prompt, "answer": p.reference} for p in sample])


def to_table(problems: list[Problem]) -> pa.Table:
    """The examples of `problems`, in their order."""
    rows = [
        {
            "problem_id": problem.problem_id,
            "template": problem.template,
            "messages": [
                {"role": "user", "content": user_message(problem)},
                {"role": "assistant", "content": problem.reference.rstrip("\n")},
            ],
            "language": problem.language,
        }
        for problem in problems
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)
