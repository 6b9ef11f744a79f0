"""``codellm-dag diff``: what differs between two numbers, causes first."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich import box
from rich.table import Table
from rich.text import Text

from codellm_dag.cli import format as fmt
from codellm_dag.cli.lineage import ScoreArgument
from codellm_dag.cli.scores import score_json
from codellm_dag.cli.session import DEFAULT_STORE, DebugOption, JsonOption, Session, StoreOption, session
from codellm_dag.lineage.causes import Cause
from codellm_dag.lineage.diff import Consequence, Difference, compare
from codellm_dag.lineage.names import place
from codellm_dag.lineage.scores import Score, counterpart, find_scores, list_scores, score_root
from codellm_dag.lineage.sources import FileChanges, compare_files
from codellm_dag.store import Store

_FILES = 5
"""Changed source files that are named."""


def diff(
    score: ScoreArgument,
    other: Annotated[
        str,
        typer.Argument(
            metavar="OTHER",
            help="The score to compare with. Default: the present one of the same model and benchmark, or "
            "for the present one the one before it.",
            show_default=False,
        ),
    ] = "",
    other_store: Annotated[
        str, typer.Option("--other-store", metavar="URL", help="Store of the second score, if it is another.")
    ] = "",
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """What differs between two numbers, causes first.

    Causes are data, knobs, code, packages and machine; consequences are what came out differently.

    [bold]Examples[/]

    codellm-dag diff 3fa1c2d4/pass@1 9b01e77a/pass@1

    codellm-dag diff 3fa1c2d4/pass@1
    """
    with session(store, as_json=as_json, debug=debug) as here:
        second_store = Store(other_store) if other_store else here.store
        first, second = _pairs(here.store, second_store, score, other)
        found = compare(
            score_root(here.store, first[0]),
            score_root(second_store, second[0]),
        )
        files = [compare_files(here.store, a, second_store, b) for a, b in found.corpora]
        if as_json:
            here.json(_json(here.store, second_store, first, second, found, files))
        else:
            _print(here, first, second, found, files)


def _pairs(store: Store, second_store: Store, score: str, other: str) -> tuple[list[Score], list[Score]]:
    """The scores to compare, the older run first where the second is not named."""
    scores = list_scores(store)
    first = find_scores(scores, score, place(store))
    there = list_scores(second_store) if second_store is not store else scores
    if other:
        return first, find_scores(there, other, place(second_store))
    found = counterpart(there, first[0])
    second = [row for row in there if row.fingerprint == found.fingerprint]
    if len(first) == 1:
        second = [found]
    return (first, second) if found.created >= first[0].created else (second, first)


def _json(
    store: Store,
    second_store: Store,
    first: list[Score],
    second: list[Score],
    found: Difference,
    files: list[FileChanges],
) -> dict[str, Any]:
    return {
        "store": store.url,
        "other_store": second_store.url,
        "first": [score_json(score, None) for score in first],
        "second": [score_json(score, None) for score in second],
        "causes": [asdict(cause) for cause in found.causes],
        "consequences": [asdict(item) for item in found.consequences],
        "files": [asdict(changes) for changes in files],
        "context": {
            name: {"before": before, "after": after}
            for name, (before, after) in sorted(found.context.items())
        },
        "shared_artifacts": found.shared,
    }


def _print(
    here: Session, first: list[Score], second: list[Score], found: Difference, files: list[FileChanges]
) -> None:
    here.out.print(_numbers(first, second))
    here.out.print()
    effective = [cause for cause in found.causes if cause.effect]
    if effective:
        here.out.print(f"[bold]{len(effective)} cause{'s' if len(effective) > 1 else ''}[/]")
        for cause in effective:
            here.out.print(_cause(cause))
    else:
        here.out.print("[bold]No cause:[/] both numbers come from the same computation.")
    for changes in files:
        here.out.print(_files(changes))
    idle = [cause for cause in found.causes if not cause.effect]
    if idle:
        here.out.print("\n[bold]Changed without effect[/] (an artifact on the way came out the same)")
        for cause in idle:
            here.out.print(_cause(cause))
    _print_consequences(here, found)


def _numbers(first: list[Score], second: list[Score]) -> Table:
    """Both numbers of each metric, side by side."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    a, b = first[0], second[0]
    table.add_column("")
    for score in (a, b):
        table.add_column(f"{score.report_id}  {score.model}", no_wrap=True)
    table.add_column("change", justify="right", no_wrap=True)
    table.add_column("intervals")
    others = {score.metric: score for score in second}
    metrics = [score.metric for score in first if score.metric in others]
    pairs = [(score, others[score.metric]) for score in first if score.metric in metrics] or [(a, b)]
    for one, two in pairs:
        table.add_row(
            one.title if one.title == two.title else f"{one.title} / {two.title}",
            f"[bold]{fmt.number(one.value)}[/] {fmt.interval(one)}".replace("] [", "] \\["),
            f"[bold]{fmt.number(two.value)}[/] {fmt.interval(two)}".replace("] [", "] \\["),
            f"{two.value - one.value:+.3f}",
            _overlap(one, two),
        )
    return table


def _overlap(a: Score, b: Score) -> str:
    if a.ci_low is None or a.ci_high is None or b.ci_low is None or b.ci_high is None:
        return "–"
    return "overlap" if a.ci_low <= b.ci_high and b.ci_low <= a.ci_high else "apart"


def _cause(cause: Cause) -> Text:
    name = f"{cause.asset}.{cause.field}" if cause.kind == "recipe" else cause.field
    text = Text.assemble("  ", (f"{cause.kind:<8}", "yellow"), (name, "bold"), "  ")
    text.append(_change(cause))
    if cause.kind in ("code", "package", "machine", "source", "unknown", "input") and cause.where:
        shown = ", ".join(cause.where[:3]) + (
            f", … {len(cause.where)} in all" if len(cause.where) > 3 else ""
        )
        text.append(f"  in {shown}", style="dim")
    elif cause.kind == "recipe" and cause.where not in ((cause.asset,), (f"{cause.asset}[base]",)):
        text.append(f"  in {', '.join(cause.where)}", style="dim")
    for detail in cause.details:
        text.append(f"\n          {detail}", style="dim")
    return text


def _change(cause: Cause) -> str:
    if cause.kind == "stage" and (cause.before is None or cause.after is None):
        return "added in the second" if cause.before is None else "only in the first"
    if cause.kind == "code" or _is_digest(cause.before) or _is_digest(cause.after):
        return f"{_short(cause.before)} → {_short(cause.after)}"
    return f"{fmt.value(cause.before)} → {fmt.value(cause.after)}"


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and len(value) == 64 and set(value) <= set("0123456789abcdef")


def _short(value: Any) -> str:
    return fmt.digest(value) if _is_digest(value) else fmt.value(value)


def _files(changes: FileChanges) -> Text:
    text = Text.assemble(
        "          ",
        (changes.corpus, "dim"),
        f": {len(changes.added)} files added, {len(changes.removed)} removed, {len(changes.changed)} changed",
    )
    named = [*changes.changed, *changes.added, *changes.removed]
    for path in named[:_FILES]:
        text.append(f"\n            {path}", style="green")
    if len(named) > _FILES:
        text.append(f"\n            … and {len(named) - _FILES} more", style="dim")
    return text


def _print_consequences(here: Session, found: Difference) -> None:
    if found.consequences:
        here.out.print(f"\n[bold]{len(found.consequences)} artifacts came out differently because of it[/]")
        for item in reversed(found.consequences):
            here.out.print(_consequence(item))
    here.out.print(f"\n[dim]{found.shared} artifacts are the same in both.[/]")
    if found.context:
        names = ", ".join(list(found.context)[:6]) + (", …" if len(found.context) > 6 else "")
        here.out.print(f"[dim]Different, but no part of the computation: {names}.[/]")


def _consequence(item: Consequence) -> Text:
    name = item.after if item.before == item.after else f"{item.before} / {item.after}"
    content = f"  {fmt.digest(item.content_before)} → {fmt.digest(item.content_after)}"
    text = Text.assemble("  ", name, (content, "dim"))
    for change in item.metrics[:4]:
        text.append(
            f"\n    {change.name}  {fmt.value(change.before)} → {fmt.value(change.after)}", style="dim"
        )
    if len(item.metrics) > 4:
        text.append(f"\n    … and {len(item.metrics) - 4} more numbers", style="dim")
    return text
