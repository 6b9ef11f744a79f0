"""Runs one stage request in this process and tells how it ended through a Pipes session.

Shared by the entry point (a process of its own) and the inline launcher (the orchestrator's process).
"""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
import tempfile
from pathlib import Path

from dagster_pipes import PipesContext

from codellm_dag.recipes.base import InvalidRecipeError, Recipe
from codellm_dag.stages.environment import collect_environment
from codellm_dag.stages.failures import label_of
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


def run_request(request: StageRequest, session: PipesContext) -> bool:
    """Run the stage; True if it ended well. Always closes `session`: with the exception if there was one."""
    try:
        with session:
            try:
                _run(request, session)
            except BaseException as error:
                label = label_of(error)
                text = f"{type(error).__name__}: {error}"
                session.report_custom_message({"event": "failed", "label": label, "error": text})
                raise
    except KeyboardInterrupt:
        raise
    except BaseException:
        return False
    return True


def _run(request: StageRequest, session: PipesContext) -> None:
    sys.path.extend(place for place in request.import_path if place not in sys.path)
    _check_code(request)
    with tempfile.TemporaryDirectory(prefix="codellm-") as scratch:
        out = Path(request.out or f"{scratch}/out")
        resume_dir = Path(request.resume_dir or f"{scratch}/resume")
        out.mkdir(parents=True, exist_ok=True)
        resume_dir.mkdir(parents=True, exist_ok=True)
        stage_report = StageReport(session, request.runtime, resume_dir)
        report: Report = stage_report
        recipe = _recipe(request)
        inputs = _inputs(request)
        try:
            _function(request)(recipe, inputs, out, report)
        except SystemExit as error:
            raise StageSetupError(
                f"the stage called sys.exit({error.code!r}); it must return or raise"
            ) from error
        finally:
            stage_report.flush()
        environment = collect_environment(request.runtime)
        session.report_custom_message({"event": "environment", "values": environment.model_dump(mode="json")})
        if request.upload:
            _upload(request, out, session)


def _check_code(request: StageRequest) -> None:
    """Raise unless code and packages here are what was fingerprinted (an edit meanwhile, an old image)."""
    roots = (request.module, request.recipe_class.partition(":")[0])
    here = code_digest(*roots).modules
    wrong = sorted(name for name in {*here, *request.code} if here.get(name) != request.code.get(name))
    if wrong:
        raise StageSetupError(
            f"the code here is not the code that was asked for; {', '.join(wrong[:5])} "
            f"{'differs' if len(wrong) == 1 else 'differ'}: start again (or rebuild the image)"
        )
    for name, version in request.packages.items():
        found = importlib.metadata.version(name)
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
