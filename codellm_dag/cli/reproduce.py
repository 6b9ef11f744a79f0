"""``codellm-dag reproduce``: a number made again in an empty store, and whether it is equal."""

from __future__ import annotations

import shlex
import shutil
import tempfile
from typing import Annotated, Any

import typer
from rich.text import Text

from codellm_dag.cli import format as fmt
from codellm_dag.cli.lineage import ScoreArgument, headline
from codellm_dag.cli.progress import StageProgress
from codellm_dag.cli.scores import score_json
from codellm_dag.cli.session import DEFAULT_STORE, DebugOption, JsonOption, Session, StoreOption, session
from codellm_dag.lineage.graph import Node, nodes
from codellm_dag.lineage.names import place
from codellm_dag.lineage.reproduce import Reproduction, Step, machine_notes
from codellm_dag.lineage.reproduce import reproduce as rebuild
from codellm_dag.lineage.scores import Score, find_scores, list_scores, score_root
from codellm_dag.recipes import Runtime
from codellm_dag.stages.environment import collect_environment
from codellm_dag.store import Store

_MACHINE = ("cpu_model", "cpu_cores", "python")


def reproduce(
    score: ScoreArgument,
    into: Annotated[
        str,
        typer.Option(
            metavar="URL",
            help="Empty store to build in; it is kept. Default: a temporary folder, kept only if not equal.",
            show_default=False,
        ),
    ] = "",
    allow_different: Annotated[
        bool,
        typer.Option("--allow-different", help="Go on although code, packages or sources are not the same."),
    ] = False,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Make a number again in an empty store: equal or not?

    [bold]Examples[/]

    codellm-dag reproduce 3fa1c2d4/pass@1

    codellm-dag reproduce 3fa1c2d4 --into /tmp/again --allow-different
    """
    with session(store, as_json=as_json, debug=debug) as here:
        chosen = find_scores(list_scores(here.store), score, place(here.store))
        root = score_root(here.store, chosen[0])
        target = Store(into or _temporary(here.store))
        target.check()
        kept = bool(into)
        try:
            result = _rebuild(here, chosen, root, target, allow_different)
            again = list_scores(target)
            kept = kept or not result.equal
        finally:
            if not kept:
                shutil.rmtree(target.work_root, ignore_errors=True)
        where = place(target) if kept else ""
        if as_json:
            here.json(_json(here.store, chosen, result, again, where))
        else:
            _print(here, chosen, result, again, where)
        if not result.equal:
            here.no()


def _temporary(store: Store) -> str:
    """A new folder beside the store if it is on disk, so that it lies on the same kind of file system."""
    beside = store.work_root.parent if store.is_local else None
    return tempfile.mkdtemp(prefix="reproduce-", dir=beside)


def _rebuild(
    here: Session, chosen: list[Score], root: Node, target: Store, allow_different: bool
) -> Reproduction:
    if not here.as_json:
        for score in chosen:
            here.out.print(headline(score))
        here.out.print(f"Making its {len(nodes(root))} artifacts again in {place(target)}", style="dim")
    environment = collect_environment(Runtime())
    for note in machine_notes(root, {name: getattr(environment, name) for name in _MACHINE}):
        here.err.print(Text(f"note: another machine: {note}; the last bits may differ", style="yellow"))
    with StageProgress(here.err, tell_done=False) as progress:

        def tell(step: Step) -> None:
            mark = "[green]=[/]" if step.equal else "[red]≠[/]"
            told = "equal" if step.equal else f"not equal: {', '.join(step.files_changed[:3])}"
            progress.line(mark, step.label, fmt.duration(step.seconds), told)

        return rebuild(root, target, allow_different=allow_different, on_event=progress, on_step=tell)


def _json(
    store: Store, chosen: list[Score], result: Reproduction, again: list[Score], kept: str
) -> dict[str, Any]:
    first = result.first_difference
    return {
        "store": store.url,
        "equal": result.equal,
        "first_difference": first.label if first else None,
        "artifacts": [
            {
                "asset": step.label,
                "stage": step.stage,
                "equal": step.equal,
                "expected": step.expected,
                "found": step.found,
                "files_changed": list(step.files_changed),
                "seconds": round(step.seconds, 3),
            }
            for step in result.steps
        ],
        "scores": [score_json(score, None) for score in chosen],
        "reproduced": [score_json(score, None) for score in again],
        "allowed_differences": result.differences,
        "kept_in": kept or None,
    }


def _print(here: Session, chosen: list[Score], result: Reproduction, again: list[Score], kept: str) -> None:
    here.out.print()
    for line in result.differences:
        here.out.print(Text(f"allowed: {line}", style="yellow"))
    differ = [step for step in result.steps if not step.equal]
    for step in differ:
        files = ", ".join(step.files_changed[:4]) + (", …" if len(step.files_changed) > 4 else "")
        content = f"  {fmt.digest(step.expected)} → {fmt.digest(step.found)}  {files}"
        here.out.print(Text.assemble(("≠ ", "red"), (step.label, "bold"), (content, "dim")))
    equal = sum(step.equal for step in result.steps)
    here.out.print(f"{equal} of {len(result.steps)} artifacts have the same bytes.")
    _print_verdict(here, chosen, result, again)
    if kept:
        here.out.print(Text(f"Kept in {kept}", style="dim"))
        if not result.equal and again:
            words = f"diff {chosen[0].id} {again[0].report_id} --other-store {shlex.quote(kept)}"
            here.out.print(
                f"Compare them:  {here.command(words)}",
                soft_wrap=True,
            )


def _print_verdict(here: Session, chosen: list[Score], result: Reproduction, again: list[Score]) -> None:
    first = result.first_difference
    if result.equal:
        values = ", ".join(f"{score.metric} = {fmt.number(score.value)}" for score in chosen)
        here.out.print(f"[bold green]equal[/]: {values}", soft_wrap=True)
        if first:
            here.out.print(f"  though {first.label} is not, from which it was made", markup=False)
        return
    assert first is not None
    here.out.print(Text.assemble(("not equal", "bold red"), f", first at {first.label}"))
    found = {score.metric: score for score in again}
    for score in chosen:
        now = found[score.metric].value if score.metric in found else None
        told = "the same number" if now == score.value else f"{fmt.number(score.value)} → {fmt.number(now)}"
        here.out.print(f"  {score.metric}: {told}")
