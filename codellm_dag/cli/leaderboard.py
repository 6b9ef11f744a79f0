"""The leaderboard at the end of a demo, and the commands that a newcomer tries next."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from codellm_dag.cli import format as fmt
from codellm_dag.cli.recipes import Choice, flat_fields
from codellm_dag.cli.session import Session
from codellm_dag.lineage.scores import Score
from codellm_dag.recipes.presets import DEFAULT_PRESET

_LABEL_WIDTH, _CELL_WIDTH = 44, 22


def leaderboard(scores: Sequence[Score], width: int) -> Table:
    """A row for each benchmark and metric, a column for each model in the order they were made.

    Where room is scarce, intervals stand below their values.
    """
    models = list(dict.fromkeys(score.model for score in sorted(scores, key=lambda row: row.updated)))
    between = " " if width >= _LABEL_WIDTH + _CELL_WIDTH * len(models) else "\n"
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, header_style="bold")
    table.add_column("benchmark")
    table.add_column("n", justify="right", no_wrap=True)
    for model in models:
        table.add_column(Text(model), no_wrap=True)
    cells = {(score.benchmark, score.metric, score.model): score for score in scores}
    last = ""
    for benchmark, metric in dict.fromkeys((score.benchmark, score.metric) for score in scores):
        if last not in ("", benchmark):
            table.add_section()
        last = benchmark
        row = [cells.get((benchmark, metric, model)) for model in models]
        known = [score for score in row if score is not None]
        counts = sorted({str(score.n) for score in known if score.n})
        table.add_row(
            _title(known[0]), "/".join(counts) or "–", *(_cell(score, known, between) for score in row)
        )
    return table


def _title(score: Score) -> Text:
    """``microbench pass@1``; for what is better when lower, with an arrow."""
    return Text.assemble(score.title, ("" if score.higher_is_better else " (lower is better)", "dim"))


def _cell(score: Score | None, row: Sequence[Score], between: str) -> Text:
    if score is None:
        return Text("–", style="dim")
    best = max if score.higher_is_better else min
    first = len(row) > 1 and score.value == best(other.value for other in row)
    return Text.assemble(
        (fmt.number(score.value), "bold green" if first else ""), (f"{between}{fmt.interval(score)}", "dim")
    )


def next_commands(here: Session, choice: Choice, scores: Sequence[Score]) -> list[tuple[str, str]]:
    """Three commands with a real score id, and what each does; none without scores."""
    if not scores:
        return []
    last = _last(scores)
    recipe = "" if choice.recipe == DEFAULT_PRESET else f" --recipe {shlex.quote(choice.recipe)}"
    knob, value = _another_learning_rate(choice)
    kept = [change for change in choice.changes if change.partition("=")[0].strip() != knob]
    changes = "".join(f" --set {shlex.quote(change)}" for change in [*kept, f"{knob}={value}"])
    return [
        (here.command(f"lineage {last.id}"), "from the last number down to the source files"),
        (
            f"{here.command(f'demo{recipe}{changes}')} && {here.command(f'diff {last.id}')}",
            "change one knob, run what depends on it, and see what it did",
        ),
        (here.command(f"reproduce {last.id}"), "make the number again in an empty store: equal?"),
    ]


def _another_learning_rate(choice: Choice) -> tuple[str, str]:
    """The field of the fine-tuning's learning rate, and half its value."""
    fields = flat_fields(choice.recipe_of("sft_checkpoint").model_dump(mode="json"))
    name = next(field for field in fields if field.rpartition(".")[2] == "learning_rate")
    return f"sft_checkpoint.{name}", f"{fields[name] / 2:g}"


def _last(scores: Sequence[Score]) -> Score:
    """The number of the last model that newcomers care for: microbench pass@1, else the latest."""
    wanted = [score for score in scores if (score.benchmark, score.metric) == ("microbench", "pass@1")]
    return max(wanted or scores, key=lambda score: score.updated)
