"""Requests as a remote launcher makes them, and the process that a pod runs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from codellm_dag.launch import identify
from codellm_dag.recipes.base import Recipe
from codellm_dag.recipes.pods import PodShape
from codellm_dag.recipes.runtime import Runtime
from codellm_dag.stages.messages import StoreReader
from codellm_dag.stages.protocol import Inputs
from codellm_dag.stages.registry import Stage
from codellm_dag.stages.request import RequestInput, StageRequest
from codellm_dag.store import Artifact, Manifest, Store, digest
from codellm_dag.store.records import now

ROOT = Path(__file__).resolve().parents[2]


def publish_folder(store: Store, folder: Path, kind: str) -> Artifact:
    """Publish the files of `folder` as an artifact made by a stage ``made``."""
    identity = {"stage": "made", "text": str(folder)}
    fingerprint = digest(identity)
    attempt, out = store.new_attempt("made", fingerprint)
    shutil.copytree(folder, out, dirs_exist_ok=True)
    manifest = Manifest(
        stage="made",
        kind=kind,
        name=folder.name,
        fingerprint=fingerprint,
        content_digest="",
        attempt=attempt,
        created=now(),
        identity=identity,
        outputs=[],
    )
    return store.publish(manifest, out)[0].artifact


def publish_inputs(store: Store, stage: Stage, inputs: Inputs) -> dict[str, Artifact]:
    """Publish a stage's inputs, each with the kind that its slot takes, by slot."""
    kinds = {slot.split("/")[0]: kind for slot, kind in stage.slots.items()}
    return {slot: publish_folder(store, inputs[slot].path, kinds[slot.split("/")[0]]) for slot in inputs}


def pod_request(
    store: Store,
    stage: Stage,
    recipe: Recipe,
    inputs: Mapping[str, Artifact],
    attempt: str = "a1",
    **more: object,
) -> StageRequest:
    """A request whose inputs, outputs, messages and partial work are all in the store; also written there."""
    identity = identify(stage, recipe, inputs)
    shape = PodShape(image="codellm-dag:test", grace_seconds=60)
    request = StageRequest(
        stage=stage.name,
        module=stage.module,
        recipe_class=stage.recipe,
        recipe=identity.payload["recipe"],
        chosen=recipe.chosen_modules(),
        code=identity.code.modules,
        packages=identity.payload["packages"],
        asset=stage.name,
        fingerprint=identity.fingerprint,
        attempt=attempt,
        inputs={slot: RequestInput(artifact=artifact) for slot, artifact in inputs.items()},
        store=store.url,
        resume=f"resume/{stage.name}/{identity.fingerprint}",
        messages=f"messages/{stage.name}/{identity.fingerprint}/{attempt}",
        upload=True,
        runtime=Runtime(threads=1, workers=1, kubernetes=shape),
        import_path=[str(ROOT)],
    ).model_copy(update=more)
    record = {"request": request.model_dump(mode="json")}
    store.backend.put(place_of(request), json.dumps(record).encode())
    return request


def place_of(request: StageRequest) -> str:
    """Where `pod_request` wrote it."""
    return f"launches/{request.stage}/{request.fingerprint}/{request.attempt}.json"


def pod(
    request: StageRequest,
    folder: Path,
    *,
    launcher: Sequence[str] = (),
    options: Sequence[str] = (),
    hold_at: int = 0,
) -> subprocess.Popen[bytes]:
    """Start a pod's command; `folder` is the pod's own disk, its output goes to ``folder/log``.

    Training waits after step `hold_at`, if not 0, until it is asked to end: see `holds`.
    """
    folder.mkdir(parents=True)
    variables = {"PYTHONPATH": str(ROOT), "TMPDIR": str(folder), "CODELLM_CACHE": str(folder / "cache")}
    if hold_at:
        variables |= {"HOLD_AT": str(hold_at), "HOLD_FILE": str(_held(folder))}
        variables["PYTHONPATH"] = f"{ROOT / 'tests/support/hold'}{os.pathsep}{ROOT}"
    module = ["-m", "codellm_dag.stages.entry", place_of(request), "--store", str(request.store), *options]
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, *launcher, *module], env={**os.environ, **variables}, stdout=log, stderr=log
        )


def holds(folder: Path) -> bool:
    """Whether the training in a pod that was started with ``hold_at`` waits."""
    return _held(folder).exists()


def _held(folder: Path) -> Path:
    return folder / "held"


def messages_of(request: StageRequest) -> list:
    """All messages so far."""
    return StoreReader(Store(str(request.store)), request.messages).read()


def events_of(request: StageRequest, kind: str) -> list[dict]:
    """The payloads of our own events of one kind."""
    payloads = [
        m["params"]["payload"] for m in messages_of(request) if m["method"] == "report_custom_message"
    ]
    return [payload for payload in payloads if payload["event"] == kind]


def points_of(request: StageRequest) -> dict[int, dict[str, float]]:
    """The reported values by step, but for measured speeds; a resumed session says again what went before."""
    points = [point for event in events_of(request, "points") for point in event["points"]]
    return {step: values for step, values in points if "tokens_per_second" not in values}


def told(request: StageRequest, folder: Path) -> str:
    """What a pod said of its failure, and what it printed."""
    return f"{events_of(request, 'failed')}\n{(folder / 'log').read_text()}"


def logs(request: StageRequest) -> list[str]:
    """The log lines so far."""
    return [m["params"]["message"] for m in messages_of(request) if m["method"] == "log"]


def outputs_of(request: StageRequest) -> dict[str, str]:
    """SHA-256 of each file of the result."""
    return {item["path"]: item["sha256"] for item in events_of(request, "outputs")[-1]["outputs"]}


def wait_for(condition: Callable[[], object], seconds: float = 180) -> None:
    """Wait until `condition` holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
