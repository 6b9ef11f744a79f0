"""Runs one stage request in this process and tells how it ended through a Pipes session.

Shared by the entry point (a process of its own) and the inline launcher (the orchestrator's process).
`worker.py` holds what the other processes of a group do.
"""

from __future__ import annotations

import functools
import importlib
import os
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dagster_pipes import PipesContext

from codellm_dag.recipes.base import InvalidRecipeError, Recipe
from codellm_dag.stages.environment import collect_environment, version_of
from codellm_dag.stages.group import ALONE, Board, Failure, WorkerGroup
from codellm_dag.stages.protocol import Inputs, LocalArtifact, Report
from codellm_dag.stages.reporting import StageReport
from codellm_dag.stages.request import StageRequest
from codellm_dag.store.code import code_digest
from codellm_dag.store.errors import StoreError
from codellm_dag.store.outputs import describe_outputs
from codellm_dag.store.paths import attempt_prefix
from codellm_dag.store.store import Store


class StageSetupError(RuntimeError):
    """This process does not hold the code or packages that were fingerprinted, or not a stage at all."""


@dataclass(frozen=True)
class Surroundings:
    """What only a process of the stage's own has: a signal to stop, other ranks, things to wait for."""

    stop_requested: Callable[[], bool] = lambda: False
    group: WorkerGroup = ALONE
    wait_until_ready: Callable[[Callable[[], bool]], list[str]] = lambda _: []


IN_THIS_PROCESS = Surroundings()


def run_request(request: StageRequest, session: PipesContext, around: Surroundings = IN_THIS_PROCESS) -> bool:
    """Run the stage; True if it ended well. Always closes `session`: with the exception if there was one.

    In a group this is rank 0, which speaks for all; the other ranks are `worker.run_worker`.
    """
    ending = threading.Lock()  # held by who tells how it ended, and never given back
    board: Board | None = None
    try:
        with session:
            try:
                if around.group.size > 1:
                    board = Board(around.group)
                    board.watch(functools.partial(_end_for_another, session, board, ending))
                _run(request, session, around)
                ending.acquire()
            except BaseException as error:
                ending.acquire()
                failure = board.reason(error) if board else Failure.of(error)
                _tell_failure(session, failure)
                raise
            finally:
                if board:
                    board.end()
    except KeyboardInterrupt:
        raise
    except BaseException:
        return False
    return True


def _tell_failure(session: PipesContext, failure: Failure) -> None:
    session.report_custom_message({"event": "failed", "label": failure.label, "error": failure.error})


def _end_for_another(session: PipesContext, board: Board, ending: threading.Lock, failure: Failure) -> None:
    """Another rank failed, in a thread's view: this process may hang in a collective, so it ends here."""
    ending.acquire()
    _tell_failure(session, failure)
    session.close(
        {"message": failure.error, "stack": [], "name": "RankFailed", "cause": None, "context": None}
    )
    print(failure.error, file=sys.stderr, flush=True)
    board.end()
    os._exit(1)


def _run(request: StageRequest, session: PipesContext, around: Surroundings) -> None:
    prepare(request)
    distributed = is_distributed(request)
    if around.group.size > 1 and not distributed:
        around.group.leave()
    with tempfile.TemporaryDirectory(prefix="codellm-") as scratch:
        out = Path(request.out or f"{scratch}/out")
        resume_dir = Path(request.resume_dir or f"{scratch}/resume")
        out.mkdir(parents=True, exist_ok=True)
        resume_dir.mkdir(parents=True, exist_ok=True)
        report = StageReport(session, request.runtime, resume_dir, stop_requested=around.stop_requested)
        for line in around.wait_until_ready(lambda: False):
            report.log(line)
        try:
            call_stage(request, out, report)
        finally:
            report.flush()
        processes = around.group.size if distributed else 1
        environment = collect_environment(request.runtime, processes)
        session.report_custom_message({"event": "environment", "values": environment.model_dump(mode="json")})
        if request.upload:
            _upload(request, out, session)


def prepare(request: StageRequest) -> None:
    """Make the stage importable here, and check that it is what was fingerprinted."""
    sys.path.extend(place for place in request.import_path if place not in sys.path)
    _check_code(request)


def is_distributed(request: StageRequest) -> bool:
    """Whether the stage runs in every process of a group; the others run in rank 0 only."""
    return getattr(importlib.import_module(request.module), "DISTRIBUTED", False)


def call_stage(request: StageRequest, out: Path, report: Report) -> None:
    """Call the stage's function on its recipe and inputs."""
    recipe = _recipe(request)
    inputs = _inputs(request)
    try:
        _function(request)(recipe, inputs, out, report)
    except SystemExit as error:
        raise StageSetupError(
            f"the stage called sys.exit({error.code!r}); it must return or raise"
        ) from error


def _check_code(request: StageRequest) -> None:
    """Raise unless code and packages here are what was fingerprinted (an edit meanwhile, an old image)."""
    roots = (request.module, request.recipe_class.partition(":")[0], *request.chosen)
    here = code_digest(*roots).modules
    wrong = sorted(name for name in {*here, *request.code} if here.get(name) != request.code.get(name))
    if wrong:
        raise StageSetupError(
            f"the code here is not the code that was asked for; {', '.join(wrong[:5])} "
            f"{'differs' if len(wrong) == 1 else 'differ'}: start again (or rebuild the image)"
        )
    for name, version in request.packages.items():
        found = version_of(name)
        if found != version:
            raise StageSetupError(f"the package {name} is {found} here, {version} was asked for")


def _recipe(request: StageRequest) -> Recipe:
    module, _, name = request.recipe_class.partition(":")
    recipe_class = getattr(importlib.import_module(module), name, None)
    if not (isinstance(recipe_class, type) and issubclass(recipe_class, Recipe)):
        raise InvalidRecipeError(
            f"stage {request.stage!r} names the recipe {request.recipe_class!r}, which is none"
        )
    return recipe_class.parse(request.recipe)


def _function(request: StageRequest):
    function = getattr(importlib.import_module(request.module), "run", None)
    if not callable(function):
        raise StageSetupError(f"{request.module} has no function run(recipe, inputs, out, report)")
    return function


def _inputs(request: StageRequest) -> Inputs:
    store = Store(request.store) if request.store else None
    artifacts = {}
    for slot, given in request.inputs.items():
        if given.path is not None:
            path = Path(given.path)
        elif store is not None:
            path = store.local_path(given.artifact)
        else:
            raise StoreError(f"input {slot} has neither a path nor a store")
        artifacts[slot] = LocalArtifact(
            kind=given.artifact.kind,
            name=given.artifact.label,
            fingerprint=given.artifact.fingerprint,
            content_digest=given.artifact.content_digest,
            path=path,
        )
    return Inputs(artifacts)


def _upload(request: StageRequest, out: Path, session: PipesContext) -> None:
    if request.store is None:
        raise StoreError("a request with upload needs a store")
    outputs = describe_outputs(out)
    prefix = attempt_prefix(request.stage, request.fingerprint, request.attempt)
    Store(request.store).backend.upload(out, prefix, [output.path for output in outputs])
    session.report_custom_message(
        {"event": "outputs", "outputs": [output.model_dump(mode="json") for output in outputs]}
    )
