"""An orchestrator of a training in a process of its own, to be killed.

Arguments: a file of JSON with the store, a Runtime, a recipe and the inputs. The cluster is KUBECONFIG's.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from codellm_dag.launch import Outcome, StageEvent, materialize
from codellm_dag.launch.kubernetes.api import Api
from codellm_dag.launch.kubernetes.launcher import KubernetesLauncher
from codellm_dag.recipes.runtime import Runtime
from codellm_dag.recipes.training import PretrainingRecipe
from codellm_dag.stages.registry import STAGES
from codellm_dag.store import Artifact, Store


def train(work: Mapping[str, Any], on_event: Callable[[StageEvent], None] | None = None) -> Outcome:
    """Train in pods."""
    return materialize(
        Store(work["store"]),
        STAGES["pretrained_checkpoint"],
        PretrainingRecipe.parse(work["recipe"]),
        {slot: Artifact.model_validate(item) for slot, item in work["inputs"].items()},
        launcher=KubernetesLauncher(Api.connect(timeout=5, budget=60), message_seconds=0.2),
        runtime=Runtime.model_validate(work["runtime"]),
        retry_seconds=0.1,
        on_event=on_event,
    )


if __name__ == "__main__":
    train(
        json.loads(Path(sys.argv[1]).read_text()),
        lambda event: print(event.type, event.step, event.message, flush=True),
    )
