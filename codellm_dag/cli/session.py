"""What all commands share: the options, the store, where text and JSON go, and errors without tracebacks.

Exit codes: 0 what was asked holds; 1 it does not (not equal, damaged, a failed run, nothing to show); 2 the
question is wrong (unknown score, field or store); 130 interrupted.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console, ConsoleDimensions

from codellm_dag.launch import InvalidRequestError, StageFailedError
from codellm_dag.lineage.errors import DifferentSoftwareError, LineageError
from codellm_dag.lineage.names import place
from codellm_dag.recipes import InvalidRecipeError
from codellm_dag.store import InvalidStoreURLError, Store, StoreError

SCHEMA_VERSION = 1
"""Version of the JSON that ``--json`` prints; it goes up when a key is removed or changes its meaning."""

STORE_VARIABLE = "CODELLM_STORE"
DEFAULT_STORE = ".codellm-dag/store"

NO, WRONG_QUESTION, INTERRUPTED = 1, 2, 130

_PIPE_WIDTH = 160
"""Columns where nobody's terminal says how many there are."""

_WRONG_QUESTION = (LineageError, InvalidRecipeError, InvalidRequestError, InvalidStoreURLError)

StoreOption = Annotated[
    str,
    typer.Option(
        "--store",
        envvar=STORE_VARIABLE,
        show_envvar=True,
        metavar="URL",
        help="Where artifacts lie: a folder, or s3://bucket/prefix.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, a stable contract (docs/cli.md).")]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


@dataclass
class Session:
    """One command's store and outputs. `out` is for the answer, `err` for what happens on the way."""

    store: Store
    out: Console
    err: Console
    as_json: bool
    store_words: str = ""
    """`` --store …`` as it must be typed again to come to this store; empty where it need not be."""

    def command(self, words: str) -> str:
        """A command that a person can type as it stands."""
        return f"{_program()} {words}{self.store_words}"

    def json(self, values: Mapping[str, Any]) -> None:
        """Print the answer as JSON: sorted keys, strict, with the contract's version."""
        text = json.dumps(
            {"schema_version": SCHEMA_VERSION, **values}, indent=1, sort_keys=True, allow_nan=False
        )
        print(text, flush=True)

    def no(self) -> NoReturn:
        """End the command: what was asked does not hold."""
        raise typer.Exit(NO)


@contextmanager
def session(store: str, *, as_json: bool, debug: bool) -> Iterator[Session]:
    """Open the store and turn errors that a person can act on into one clear message and an exit code."""
    out = make_console(sys.stdout)
    err = make_console(sys.stderr)
    try:
        yield Session(Store(store), out, err, as_json, _store_words(store))
    except (*_WRONG_QUESTION, StoreError, StageFailedError) as error:
        if debug:
            raise
        _tell(error, err, as_json)
        raise typer.Exit(WRONG_QUESTION if isinstance(error, _WRONG_QUESTION) else NO) from None
    except (typer.Exit, typer.Abort):
        raise
    except BrokenPipeError:  # `codellm-dag … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from None
    except KeyboardInterrupt:
        if debug:
            raise
        err.print("Interrupted.")
        raise typer.Exit(INTERRUPTED) from None
    except Exception as error:
        if debug:
            raise
        told = f"{type(error).__name__}: {error} (not foreseen; the same command with --debug shows where)"
        _tell(RuntimeError(told), err, as_json)
        raise typer.Exit(NO) from None


def _program() -> str:
    """``codellm-dag``, or where it lies if that is not on the path: ``.venv/bin/codellm-dag``."""
    beside = Path(sys.executable).parent / "codellm-dag"
    if shutil.which("codellm-dag") or not beside.is_file():
        return "codellm-dag"
    here = Path.cwd()
    return shlex.quote(str(beside.relative_to(here)) if beside.is_relative_to(here) else str(beside))


def _store_words(store: str) -> str:
    known = os.environ.get(STORE_VARIABLE) or DEFAULT_STORE
    return "" if store == known else f" --store {shlex.quote(store)}"


def _tell(error: Exception, err: Console, as_json: bool) -> None:
    details = error.differences if isinstance(error, DifferentSoftwareError) else []
    if as_json:
        told = {"error": {"kind": type(error).__name__, "message": str(error), "details": details}}
        print(json.dumps({"schema_version": SCHEMA_VERSION, **told}, indent=1, sort_keys=True), flush=True)
        return
    err.print(f"[bold red]error[/]: {escape(str(error))}", soft_wrap=True)
    for line in details:
        err.print(f"  {escape(line)}", soft_wrap=True)


def escape(text: object) -> str:
    """Text as it is: Rich reads square brackets as markup, and asset names have them."""
    return str(text).replace("\\", "\\\\").replace("[", "\\[")


class _Console(Console):
    """A console as wide as the terminal behind its own file, whatever the standard streams are now."""

    @property
    def size(self) -> ConsoleDimensions:
        try:
            columns, lines = os.get_terminal_size(self.file.fileno())
        except (OSError, ValueError, AttributeError):
            return super().size
        if "COLUMNS" in os.environ or columns <= 0:
            return super().size
        return ConsoleDimensions(columns - self.legacy_windows, lines)


def make_console(stream: Any) -> Console:
    """A console that never breaks lines for a pipe's sake and colours nothing but what it is told to."""
    width = None if stream.isatty() or os.environ.get("COLUMNS") else _PIPE_WIDTH
    return _Console(file=stream, highlight=False, width=width, emoji=False)


def state_folder(store: Store) -> Path:
    """Where Dagster's state and logs lie.

    Beside a folder named ``store``, in any other folder below it, and for S3 in ``.codellm-dag`` here.
    """
    if store.is_local:
        root = store.work_root
        return root.parent if root.name == "store" else root / "state"
    return Path(DEFAULT_STORE).parent.absolute()


def nothing_yet(store: Store) -> str:
    """What is said of a store without scores."""
    return f"{place(store)} has no scores yet; `codellm-dag demo` makes some"
