"""An orchestrator in a process of its own.

``python -m tests.cluster.orchestrator STORE KUBECONFIG COUNT SECONDS``.
"""

from __future__ import annotations

import sys

from codellm_dag.launch import Outcome, materialize
from codellm_dag.launch.kubernetes.api import Api
from codellm_dag.launch.kubernetes.launcher import KubernetesLauncher
from codellm_dag.recipes.pods import PodShape
from codellm_dag.recipes.runtime import Runtime
from codellm_dag.store import Store
from tests.support.tiny_recipes import TinyRecipe
from tests.support.tiny_stages import COUNT

SHAPE = PodShape(namespace="default", image="registry.example/stage:1", allow_dirty=True, grace_seconds=5)


def count(url: str, kubeconfig: str, recipe: TinyRecipe, on_event=None) -> Outcome:
    """Materialize the count in pods."""
    launcher = KubernetesLauncher(Api.connect(kubeconfig), message_seconds=0.1)
    runtime = Runtime(threads=1, workers=1, kubernetes=SHAPE)
    return materialize(Store(url), COUNT, recipe, {}, launcher=launcher, runtime=runtime, on_event=on_event)


if __name__ == "__main__":
    outcome = count(sys.argv[1], sys.argv[2], TinyRecipe(count=int(sys.argv[3]), seconds=float(sys.argv[4])))
    print(outcome.manifest.attempt, outcome.artifact.content_digest)
