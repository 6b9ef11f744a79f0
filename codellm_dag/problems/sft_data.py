"""Stage ``sft_data``: the chat examples of fine-tuning, as ``train.parquet``.

By default they are made from microbench's training half: the user's turn is the prompt (signature and
docstring), the assistant's the body that completes it; in every example each step has an effect, and none
shares a template, prompt or solution with a benchmark's problem. The recipe's ``others`` mixes in what other
stages made (slots ``examples/*``). Columns: problem_id, template (others: their source), messages (list of
role and content), language. Memory: all examples.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from codellm_dag.problems.programs import user_message
from codellm_dag.problems.schema import Problem
from codellm_dag.problems.sft_data_file import DATA_FILE, SCHEMA
from codellm_dag.problems.training_half import training_problems
from codellm_dag.recipes.problems import OtherExamples, SftDataRecipe
from codellm_dag.stages.protocol import Inputs, Report


class MissingExamplesError(ValueError):
    """The recipe names examples that were not given, or that are fewer than it asks for."""


def run(recipe: SftDataRecipe, inputs: Inputs, out: Path, report: Report) -> None:
    """Write the examples. Microbench's need slot ``benchmark/microbench``; they are compared with every
    benchmark given, those of others were by their own stage.

    Metrics: examples, one for each other source, and those of `training_problems`, which also names the
    errors. Raises MissingExamplesError.
    """
    problems = (
        training_problems(
            inputs, report, name="sft", count=recipe.examples, steps=recipe.steps, seed=recipe.seed, tests=0
        )
        if recipe.examples
        else []
    )
    table = to_table(problems)
    for other in recipe.others:
        taken = _taken(other, inputs, recipe.seed)
        report.metric(**{f"{other.source}_examples": len(taken)})
        table = pa.concat_tables([table, pa.Table.from_pylist(taken, schema=SCHEMA)])
    if recipe.others:
        names = table["problem_id"].to_pylist()
        table = table.take(sorted(range(len(names)), key=lambda at: _draw(recipe.seed, names[at])))
    pq.write_table(table, out / DATA_FILE, compression="zstd")
    report.metric(examples=table.num_rows)
    sample = table.slice(0, 5)["messages"].to_pylist()
    report.table(
        "examples", [{"prompt": turns[0]["content"], "answer": turns[1]["content"]} for turns in sample]
    )


def _taken(other: OtherExamples, inputs: Inputs, seed: int) -> list[dict[str, Any]]:
    """The rows that a recipe takes of another source."""
    given = inputs.many("examples")
    if other.source not in given:
        raise MissingExamplesError(
            f"others names {other.source}, and the slot examples/{other.source} is empty (given: "
            f"{', '.join(given) or 'none'}); materialize it first"
        )
    columns = ["problem_id", "messages", "language"]
    rows = pq.read_table(given[other.source].path / DATA_FILE, columns=columns).to_pylist()
    if len(rows) < other.examples:
        raise MissingExamplesError(
            f"others asks for {other.examples} of {other.source}, which has {len(rows)}"
        )
    rows.sort(key=lambda row: _draw(seed, row["problem_id"]))
    chosen = rows[: other.examples] if other.examples else rows
    return [{**row, "template": other.source} for row in chosen]


def _draw(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed}:{name}".encode()).digest()


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
