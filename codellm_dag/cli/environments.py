"""``codellm-dag environments``: the virtual environments of outside training frameworks."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from codellm_dag.cli.format import duration
from codellm_dag.cli.session import DEFAULT_STORE, DebugOption, JsonOption, Session, escape, session
from codellm_dag.launch.errors import InvalidRequestError
from codellm_dag.training.environments.framework import (
    VARIABLE,
    EnvironmentBuildError,
    FrameworkEnvironment,
    environment,
    names,
)

app = typer.Typer(
    no_args_is_help=True, help=f"The virtual environments of outside training frameworks (${VARIABLE})."
)


@app.command()
def build(
    wanted: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME...", help="Environments; see `list`.", show_default=False),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Build all of them.")] = False,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Install frameworks, each with its pinned packages in an environment of its own.

    What is there is kept. Packages come from the indexes pip is set up with. The exit code is 0 if all are
    there in the end.

    [bold]Examples[/]

    codellm-dag environments build llamafactory

    codellm-dag environments build --all
    """
    with session(DEFAULT_STORE, as_json=as_json, debug=debug) as here:
        chosen = [_known(name) for name in (names() if everything else wanted or ())]
        if not chosen:
            raise InvalidRequestError(f"name an environment, or --all; allowed: {', '.join(names())}")
        seconds, failed = {}, {}
        for item in chosen:
            started = time.monotonic()
            try:
                item.build(lambda text: here.err.print(escape(text), soft_wrap=True))
            except EnvironmentBuildError as error:
                failed[item.name] = str(error)
                here.err.print(f"[bold red]error[/]: {escape(error)}", soft_wrap=True)
            seconds[item.name] = time.monotonic() - started
        _show(here, chosen, seconds, failed)
        if failed:
            here.no()


@app.command("list")
def show(as_json: JsonOption = False, debug: DebugOption = False) -> None:
    """Which environments there are, with the framework's version, and whether each is built here.

    [bold]Examples[/]

    codellm-dag environments list --json
    """
    with session(DEFAULT_STORE, as_json=as_json, debug=debug) as here:
        _show(here, [environment(name) for name in names()])


def _known(name: str) -> FrameworkEnvironment:
    try:
        return environment(name)
    except ValueError as error:
        raise InvalidRequestError(str(error)) from error


def _show(
    here: Session,
    items: list[FrameworkEnvironment],
    seconds: dict[str, float] | None = None,
    failed: dict[str, str] | None = None,
) -> None:
    rows = [
        {
            "name": item.name,
            "framework": item.framework,
            "version": item.version,
            "folder": str(item.folder),
            "built": item.built,
            "seconds": (seconds or {}).get(item.name),
            "error": (failed or {}).get(item.name, ""),
        }
        for item in items
    ]
    if here.as_json:
        here.json({"environments": rows})
        return
    for item in items:
        mark = "[green]✓[/]" if item.built else "[dim]–[/]"
        where = (
            str(item.folder)
            if item.built
            else f"not built; {here.command(f'environments build {item.name}')}"
        )
        took = f" [dim]{duration(seconds[item.name])}[/]" if seconds else ""
        text = f"{mark} [bold]{item.name}[/] {item.framework} {item.version}{took}  [dim]{escape(where)}[/]"
        here.out.print(text, soft_wrap=True)
