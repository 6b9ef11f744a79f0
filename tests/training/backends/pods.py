"""The tiny pretraining run in processes of its own, one or several under torchrun, its files in a store."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from codellm_dag.recipes import Recipe
from codellm_dag.stages.protocol import Inputs
from codellm_dag.stages.registry import STAGES
from codellm_dag.stages.request import StageRequest
from codellm_dag.store import Artifact, Store
from codellm_dag.store.paths import attempt_prefix
from tests.support.pods import events_of, pod, pod_request, points_of, publish_folder, told
from tests.training.conftest import TINY

STAGE = STAGES["pretrained_checkpoint"]
ADAMW = TINY.with_changes({"optimizer.name": "adamw", "optimizer.learning_rate": 0.003})
"""Twelve steps of four rows with AdamW."""


def on(recipe: Any, **backend: Any) -> Any:
    """`recipe` with another backend."""
    return type(recipe).parse({**recipe.model_dump(mode="json"), "backend": backend})


@dataclass
class Bench:
    """A store with the inputs of `pretrained_checkpoint`, and a folder for what processes leave."""

    store: Store
    slots: dict[str, Artifact]
    folder: Path

    @classmethod
    def of(cls, inputs: Inputs, folder: Path) -> Bench:
        """A bench below `folder`."""
        store = Store(folder / "store")
        kinds = {slot.removesuffix("/*"): kind for slot, kind in STAGE.slots.items()}
        slots = {slot: publish_folder(store, inputs[slot].path, kinds[slot.split("/")[0]]) for slot in inputs}
        return cls(store, slots, folder)

    def request(self, recipe: Recipe, attempt: str, **more: Any) -> StageRequest:
        """A request of an attempt with that name; without ``resume`` nothing is resumed."""
        return pod_request(self.store, STAGE, recipe, self.slots, attempt=attempt, **more)

    def start(self, request: StageRequest, name: str, processes: int = 1) -> Any:
        """Processes that run `request`, each start on a disk of its own."""
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        return pod(request, self.folder / name, launcher=launcher if processes > 1 else [])

    def run(self, recipe: Recipe, name: str, processes: int = 1) -> StageRequest:
        """An undisturbed run."""
        request = self.request(recipe, name, resume=None)
        assert self.start(request, name, processes).wait(200) == 0, told(request, self.folder / name)
        return request

    def weights(self, request: StageRequest) -> dict[str, Tensor]:
        """The weights of a run's model, which is one file."""
        prefix = attempt_prefix(STAGE.name, request.fingerprint, request.attempt)
        target = self.folder / f"weights-{request.attempt}.safetensors"
        target.write_bytes(self.store.backend.read(f"{prefix}/model.safetensors"))
        return load_file(target)


def losses_of(request: StageRequest) -> list[float]:
    """The loss of each step."""
    return [values["loss"] for _, values in sorted(points_of(request).items())]


def metrics_of(request: StageRequest) -> dict[str, Any]:
    """The metrics that the stage told."""
    return {name: value for event in events_of(request, "metric") for name, value in event["values"].items()}
