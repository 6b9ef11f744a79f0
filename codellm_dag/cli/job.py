"""Runs the Dagster job `lifecycle` in this process, with its log in a file and its events to a progress bar.

Dagster prints its debug log on stderr and captures both standard streams while an op runs. So for the time of
the run stderr is a log file, and what a person shall see goes to a copy of the stream made before.
"""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from rich.console import Console

from codellm_dag.cli.progress import Done, StageProgress
from codellm_dag.cli.recipes import Choice
from codellm_dag.cli.session import make_console
from codellm_dag.recipes.presets import PRESET_VARIABLE
from codellm_dag.store import StoreError

DEFINITIONS = "codellm_dag.definitions"
JOB = "lifecycle"
_KEPT_LOGS = 20
_INTERRUPTED = ("DagsterExecutionInterruptedError", "KeyboardInterrupt")


@dataclass
class Ended:
    """How the run ended."""

    run_id: str = ""
    success: bool = False
    interrupted: bool = False
    problem: str = ""
    log: Path = field(default_factory=Path)
    done: list[Done] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    """Partitions that could not be made here, with the reason, e.g. a language without its package."""


def run_lifecycle(store_url: str, choice: Choice, threads: int, state: Path, console: Console) -> Ended:
    """Run the job on the store and show its progress where `console` writes."""
    os.environ["CODELLM_STORE"] = store_url
    os.environ[PRESET_VARIABLE] = choice.recipe
    ended = Ended(log=_log_file(state / "logs"))
    with _log_on_stderr(ended.log, console.file) as screen, StageProgress(make_console(screen)) as progress:
        progress.wait_for("starting Dagster")
        try:
            _execute(ended, choice, threads, state, progress)
        except KeyboardInterrupt:
            ended.interrupted = True
    ended.done = progress.done
    return ended


def _execute(ended: Ended, choice: Choice, threads: int, state: Path, progress: StageProgress) -> None:
    import dagster as dg

    from resources.instance import ensure_dagster_home
    from resources.launcher import ctrl_c_cancels
    from resources.observers import observing

    home = ensure_dagster_home(Path(os.environ.get("DAGSTER_HOME") or state / "dagster"))
    os.environ["DAGSTER_HOME"] = str(home)
    warnings.simplefilter("ignore", dg.BetaWarning)
    job = importlib.import_module(DEFINITIONS).defs.resolve_job_def(JOB)
    with dg.DagsterInstance.get() as instance, observing(progress), ctrl_c_cancels():
        try:
            result = job.execute_in_process(
                run_config=_run_config(choice, threads), instance=instance, raise_on_error=False
            )
        except dg.DagsterExecutionInterruptedError:
            ended.interrupted = True
            return
        ended.run_id, ended.success = result.run_id, result.success
        ended.left_out = _left_out(result)
        if not result.success:
            ended.problem, ended.interrupted = _problem(result)


def _run_config(choice: Choice, threads: int) -> dict[str, Any]:
    config = choice.run_config()
    config["loggers"] = {"console": {"config": {"log_level": "INFO"}}, **config.get("loggers", {})}
    if threads:
        resources = config.setdefault("resources", {})
        resources.setdefault("launcher", {}).setdefault("config", {})["threads"] = threads
    return config


def _left_out(result: Any) -> list[str]:
    """What assets say they left out (`assets/materialize.py` puts it in their metadata)."""
    found = []
    for event in result.all_events:
        if event.is_step_materialization:
            said = event.materialization.metadata.get("left out")
            if said is not None:
                asset = event.materialization.asset_key.to_user_string()
                lines = str(said.value).replace("**", "").splitlines()
                found += [f"{asset}: {line.removeprefix('- ')}" for line in lines]
    return found


def _problem(result: Any) -> tuple[str, bool]:
    """What failed first, in a step's own words, and whether somebody stopped it."""
    for event in result.all_events:
        if event.is_step_failure:
            error, told = event.step_failure_data.error, event.step_failure_data.user_failure_data
            if error and error.cls_name in _INTERRUPTED:
                return "interrupted", True
            if told and told.description:
                return told.description.strip(), False
            return _failed_checks(result) or f"{event.step_key}: {_innermost(error)}", False
    for event in result.all_events:
        if event.is_failure and event.message:
            return event.message, False
    return "the run failed", False


def _failed_checks(result: Any) -> str:
    """The blocking checks that failed, with what they say."""
    found = []
    for event in result.all_events:
        if event.event_type_value == "ASSET_CHECK_EVALUATION":
            check = event.asset_check_evaluation_data
            if check.blocking and not check.passed:
                asset = check.asset_key.to_user_string()
                found.append(
                    f"{asset} did not pass its check {check.check_name}: {check.description or 'failed'}"
                )
    return "\n".join(found)


def _innermost(error: Any) -> str:
    """The message that all others were wrapped around."""
    while error is not None and error.cause is not None:
        error = error.cause
    return error.message.strip() if error else "failed"


@contextmanager
def _log_on_stderr(log: Path, shown: IO[str]) -> Iterator[IO[str]]:
    """Have everything that is written to stderr go to `log`; yields a copy of the stream `shown`."""
    sys.stdout.flush()
    sys.stderr.flush()
    screen = os.fdopen(os.dup(shown.fileno()), "w", encoding="utf-8", buffering=1)
    kept = os.dup(2)
    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(target, 2)
    os.close(target)
    try:
        yield screen
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)
        screen.close()


def _log_file(folder: Path) -> Path:
    """A new log; old ones are removed but for the last few."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"cannot write logs to {folder}: {error.strerror}; choose another --store"
        ) from error
    for old in sorted(folder.glob("demo-*.log"))[: -_KEPT_LOGS + 1]:
        old.unlink(missing_ok=True)
    return folder / f"demo-{datetime.now():%Y%m%d-%H%M%S}-{os.getpid()}.log"
