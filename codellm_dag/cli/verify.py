"""``codellm-dag verify``: every file hashed again."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.status import Status
from rich.text import Text

from codellm_dag.cli import format as fmt
from codellm_dag.cli.session import DEFAULT_STORE, DebugOption, JsonOption, Session, StoreOption, session
from codellm_dag.lineage.names import find_artifact, place
from codellm_dag.lineage.verify import Checked, verify_all, verify_one


def verify(
    what: Annotated[
        str,
        typer.Argument(
            metavar="WHAT",
            help=r"A score id, asset\[partition] or fingerprint. Default: everything.",
            show_default=False,
        ),
    ] = "",
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    r"""Hash artifacts again; name what is missing or changed.

    [bold]Examples[/]

    codellm-dag verify

    codellm-dag verify 'clean_corpus\[python]'
    """
    with session(store, as_json=as_json, debug=debug) as here:
        checked = _one(here, what) if what else _all(here)
        bad = [item for item in checked if not item.whole]
        if as_json:
            here.json(
                {
                    "store": here.store.url,
                    "whole": bool(checked) and not bad,
                    "artifacts": [_json(item) for item in checked],
                }
            )
        elif checked:
            _print(here, checked, bad)
        else:
            here.err.print(
                f"{place(here.store)} holds no artifacts; `codellm-dag demo` makes some", soft_wrap=True
            )
        if bad or not checked:
            here.no()


def _one(here: Session, what: str) -> list[Checked]:
    artifact = find_artifact(here.store, what)
    return [verify_one(here.store, artifact.stage, artifact.fingerprint)]


def _all(here: Session) -> list[Checked]:
    with Status("", console=here.err) as status:

        def show(name: str, number: int, total: int) -> None:
            status.update(f"{number} of {total}  {name}")

        return list(verify_all(here.store, show))


def _json(item: Checked) -> dict[str, Any]:
    return {**asdict(item), "whole": item.whole}


def _print(here: Session, checked: list[Checked], bad: list[Checked]) -> None:
    for item in bad:
        name = Text.assemble(
            ("✗ ", "red"), (item.label, "bold"), (f"  {fmt.digest(item.fingerprint)}", "dim")
        )
        here.out.print(name)
        for problem in item.problems:
            here.out.print(Text(f"    {problem.path}: {problem.problem}"), soft_wrap=True)
    files, size = sum(item.files for item in checked), sum(item.bytes for item in checked)
    counted = f"{len(checked)} artifact{'s' if len(checked) > 1 else ''}, {files} files, {fmt.size(size)}"
    if bad:
        here.out.print(f"[bold red]damaged[/]: {len(bad)} of {counted}. The next run computes them again.")
    else:
        here.out.print(f"[bold green]whole[/]: {counted}")
