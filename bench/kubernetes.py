"""What following many pods costs: trials queued over a few GPUs on the test cluster, some of them pre-empted.

``python -m bench.kubernetes [--trials N] [--gpus G] [--seconds S] [--preempted P]``. The cluster (the one of
``tests/cluster/bed``, its pods scripted) is a process of its own; this process is one orchestrator that
materializes all trials at once, a thread each, with a store in a temporary folder. A queue like Kueue's
admits a Job when a GPU is free. It prints CPU of this process per trial and per hour that a Job was followed
(queued or running), API calls per trial and per minute that a Job was followed, seconds from a pod's end to
its trial's verdict, and memory. Nothing is computed in the pods: what is left is the launcher's own cost.
`--json` prints one object.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import resource
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from codellm_dag.launch import Outcome, StageEvent, materialize
from codellm_dag.launch.kubernetes.api import Api
from codellm_dag.launch.kubernetes.launcher import KubernetesLauncher
from codellm_dag.recipes.pods import PodShape
from codellm_dag.recipes.runtime import Runtime
from codellm_dag.store import Store
from tests.cluster.bed import Bed, steps
from tests.cluster.bed.kubelet.worker import Worker
from tests.cluster.bed.storage import Entry
from tests.cluster.scripted_stage import ScriptedStage
from tests.support.tiny_recipes import TinyRecipe
from tests.support.tiny_stages import WORDS

_ENDED = ("Succeeded", "Failed")


class Queue:
    """Admits suspended Jobs, oldest first, while there are GPUs; hears of every change."""

    def __init__(self, bed: Bed, gpus: int) -> None:
        self._bed, self._free = bed, gpus
        self._waiting: list[str] = []
        self._admitted: set[str] = set()
        self.ends: dict[str, float] = {}
        self._wake = threading.Event()
        bed.storage.listeners.append(self._hear)
        threading.Thread(target=self._loop, daemon=True).start()

    def _hear(self, entry: Entry) -> None:
        meta = entry.item["metadata"]
        if entry.resource.kind == "Job":
            if entry.change == "ADDED":
                self._waiting.append(meta["name"])
            conditions = entry.item.get("status", {}).get("conditions", ())
            over = entry.change == "DELETED" or any(c["type"] in ("Complete", "Failed") for c in conditions)
            if over and meta["name"] in self._admitted:
                self._admitted.remove(meta["name"])
                self._free += 1
        if entry.resource.kind == "Pod" and entry.item["status"].get("phase") in _ENDED:
            self.ends[(meta.get("labels") or {}).get("job-name", "")] = time.time()
        self._wake.set()

    def _loop(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            while self._free and self._waiting:
                name = self._waiting.pop(0)
                self._free -= 1
                self._admitted.add(name)
                self._bed.edit("jobs", name, lambda job: job["spec"].update(suspend=False))


def cluster(pipe: Connection, folder: str, options: argparse.Namespace) -> None:
    """The process of the cluster: tells its kubeconfig, and when asked what it saw."""
    store = Store(Path(folder) / "store")
    dice, stage = random.Random(options.seed), ScriptedStage(store)

    def works(worker: Worker) -> None:
        seconds = dice.uniform(0.5, 1.5) * options.seconds
        if worker.attempt == 1 and dice.random() < options.preempted:
            worker.sleep(seconds / 2)
            worker.kubelet.preempt(worker.key)
            worker.sleep(None)
        worker.sleep(seconds)

    script = (*steps.BEGIN, stage.opens(), steps.call(works), stage.stores(), stage.closes(), steps.exit(0))
    with Bed(Path(folder) / "bed") as bed:
        bed.otherwise(*script)
        queue = Queue(bed, options.gpus)
        pipe.send(str(bed.kubeconfig()))
        pipe.recv()
        calls = [(f"{verb} {kind}", count) for (verb, kind), count in bed.journal.counts().items()]
        pipe.send({"calls": dict(calls), "ends": queue.ends, "problems": bed.problems})


def run_trials(
    store: Store, kubeconfig: str, trials: int
) -> tuple[list[Outcome], dict[str, tuple[float, float]]]:
    """Materialize all trials at once; what came of them, and when each began and got its verdict."""
    launcher = KubernetesLauncher(Api.connect(kubeconfig), message_seconds=2.0)
    shape = PodShape(
        image="registry.example/stage:1", namespace="default", gpus=1, queue="research", allow_dirty=True
    )
    runtime = Runtime(threads=1, workers=1, kubernetes=shape)
    times: dict[str, tuple[float, float]] = {}

    def one(number: int) -> Outcome:
        begun: dict[str, float] = {}

        def note(event: StageEvent) -> None:
            if event.type == "started":
                begun.setdefault("at", time.time())
            elif event.type == "finished":
                times[event.fingerprint] = (begun["at"], time.time())

        recipe = TinyRecipe(text=f"trial {number}")
        return materialize(
            store, WORDS, recipe, {}, trial=str(number), launcher=launcher, runtime=runtime, on_event=note
        )

    with ThreadPoolExecutor(trials) as pool:
        return list(pool.map(one, range(trials))), times


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """One run."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        os.environ["CODELLM_CACHE"] = f"{folder}/cache"
        pipe, other = context.Pipe()
        process = context.Process(target=cluster, args=(other, folder, options), daemon=True)
        process.start()
        kubeconfig = pipe.recv()
        store = Store(Path(folder) / "store")
        before, start = time.process_time(), time.monotonic()
        memory_before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        outcomes, times = run_trials(store, kubeconfig, options.trials)
        cpu, wall = time.process_time() - before, time.monotonic() - start
        pipe.send("enough")
        seen = pipe.recv()
        process.join(30)
        labels = Counter(row.label for row in store.ledger.rows())
    followed = sum(end - begin for begin, end in times.values())
    ends = {name.split("-")[1]: at for name, at in seen["ends"].items() if name}
    verdicts = sorted(end - ends[fingerprint[:12]] for fingerprint, (_, end) in times.items())
    calls = sum(seen["calls"].values())
    return {
        "trials": len(outcomes),
        "gpus": options.gpus,
        "seconds_a_pod": options.seconds,
        "attempts": dict(labels),
        "wall_seconds": round(wall, 1),
        "launcher_cpu_seconds": round(cpu, 1),
        "launcher_cpu_seconds_per_trial": round(cpu / options.trials, 3),
        "launcher_cpu_seconds_per_followed_job_hour": round(cpu / (followed / 3600), 2),
        "api_calls": seen["calls"],
        "api_calls_per_trial": round(calls / options.trials, 2),
        "api_calls_per_followed_job_minute": round(calls / (followed / 60), 3),
        "pod_end_to_verdict_seconds": {
            "p50": round(statistics.quantiles(verdicts, n=100)[49], 2),
            "p99": round(statistics.quantiles(verdicts, n=100)[98], 2),
        },
        "memory_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "memory_mib_before": round(memory_before / 1024),
        "problems": seen["problems"],
    }


def main(show: Callable[[str], None] = print) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--trials", type=int, default=500)
    parser.add_argument("--gpus", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=10.0, help="mean length of a pod's work")
    parser.add_argument(
        "--preempted", type=float, default=0.05, help="share of pods that are pre-empted once"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = measure(options)
    if options.json:
        show(json.dumps(found))
        return
    for name, value in found.items():
        show(f"{name.replace('_', ' '):45} {value}")


if __name__ == "__main__":
    main()
