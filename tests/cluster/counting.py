"""An orchestrator of any place in a process of its own, to be interrupted and killed.

Arguments: the store, the launcher's name, a Runtime as JSON, and the count and seconds of the count stage.
The cluster is the one of KUBECONFIG.
"""

from __future__ import annotations

import sys

from codellm_dag.launch import LocalLauncher, RemoteLauncher, materialize
from codellm_dag.recipes.runtime import Runtime
from codellm_dag.store import Store
from tests.support.tiny_recipes import TinyRecipe
from tests.support.tiny_stages import COUNT


def main(store: str, launcher: str, runtime: str, count: str, seconds: str) -> None:
    """Run the count stage, telling of every event."""
    materialize(
        Store(store),
        COUNT,
        TinyRecipe(count=int(count), seconds=float(seconds)),
        {},
        launcher=LocalLauncher() if launcher == "local" else _cluster(),
        runtime=Runtime.model_validate_json(runtime),
        on_event=lambda event: print(event.type, event.message, flush=True),
    )


def _cluster() -> RemoteLauncher:
    from codellm_dag.launch.kubernetes.api import Api
    from codellm_dag.launch.kubernetes.launcher import KubernetesLauncher

    return KubernetesLauncher(Api.connect(timeout=5, budget=60), message_seconds=0.1)


if __name__ == "__main__":
    main(*sys.argv[1:])
