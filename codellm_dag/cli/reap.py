"""``codellm-dag reap``: groups of pods that no live run owns."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from codellm_dag.cli.session import DEFAULT_STORE, DebugOption, JsonOption, Session, StoreOption, session
from codellm_dag.launch.errors import InvalidRequestError

if TYPE_CHECKING:
    from codellm_dag.launch.kubernetes.reaper import Leftover


@dataclass(frozen=True)
class _Found:
    leftover: Leftover
    deleted: bool


def reap(
    namespace: Annotated[
        list[str] | None,
        typer.Option(
            "--namespace",
            help="Look here; may be repeated. Default: where the pod shapes are.",
            show_default=False,
        ),
    ] = None,
    delete: Annotated[bool, typer.Option("--delete", help="Delete them; else they are only named.")] = False,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Pods on Kubernetes that no live run owns.

    Only of this store. A group is left over if its attempt has ended, or its Dagster run has (as the instance
    at DAGSTER_HOME says). The exit code is 0 if nothing is left.

    [bold]Examples[/]

    codellm-dag reap

    codellm-dag reap --delete --namespace training
    """
    with session(store, as_json=as_json, debug=debug) as here, _clear_errors():
        found = list(_reap(here, namespace or [], delete))
        left = [item for item in found if not item.deleted]
        if as_json:
            here.json({"store": here.store.url, "deleted": delete, "groups": [_json(item) for item in found]})
        else:
            _print(here, found, left)
        if left:
            here.no()


def _reap(here: Session, namespaces: list[str], delete: bool) -> Iterator[_Found]:
    from resources.launcher import LauncherResource

    resource = LauncherResource(kind="kubernetes")
    api = resource.cluster()
    from codellm_dag.launch.kubernetes.reaper import find_leftovers, remove

    with _runs() as live:
        for name in namespaces or resource.namespaces():
            for leftover in find_leftovers(api, here.store, name, live):
                if delete:
                    remove(api, here.store, leftover)
                yield _Found(leftover, delete)


@contextmanager
def _runs() -> Iterator[Callable[[str], bool]]:
    """Which runs are live. Without DAGSTER_HOME nobody can say: all may be."""
    if not os.environ.get("DAGSTER_HOME"):
        yield lambda _: True
        return
    import dagster as dg

    from resources.runs import run_is_live

    with dg.DagsterInstance.get() as instance:
        yield run_is_live(instance)


@contextmanager
def _clear_errors() -> Iterator[None]:
    """A cluster that cannot be asked is told in one sentence."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        if type(error).__name__ in ("ApiError", "UnreachableError") or "codellm-dag[kubernetes]" in str(
            error
        ):
            raise InvalidRequestError(str(error)) from error
        raise


def _json(item: _Found) -> dict[str, Any]:
    found = item.leftover
    return {
        "kind": found.kind.name,
        "name": found.name,
        "namespace": found.namespace,
        "created": found.created.isoformat(),
        "run": found.run,
        "reason": found.reason,
        "deleted": item.deleted,
    }


def _print(here: Session, found: list[_Found], left: list[_Found]) -> None:
    for item in found:
        group = item.leftover
        line = Text.assemble(
            ("deleted  " if item.deleted else "left over  ", "green" if item.deleted else "yellow"),
            (f"{group.namespace}/{group.name}", "bold"),
            (f"  {group.created:%Y-%m-%d %H:%M}  {group.reason}", "dim"),
        )
        here.out.print(line, soft_wrap=True)
    if not found:
        here.out.print("[bold green]nothing is left over[/]")
    elif left:
        here.out.print(f"{here.command('reap --delete')} deletes them", soft_wrap=True, markup=False)
