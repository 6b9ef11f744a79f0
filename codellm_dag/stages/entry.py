"""``python -m codellm_dag.stages.entry REQUEST.json``: one stage in processes of its own, here or in a pod.

Two processes: this one stays small and watches, a fork of it runs the stage. If the orchestrator dies (its
pid is given with ``--parent``), or the stage ends, all that the stage started is killed, daemons too. If
this watcher is killed, the kernel kills the stage with it. Exit code: 0 the stage ended well, 1 it failed
and said why in its closing message, 128 + n it was ended by signal n, 70 this watcher failed.
``exit.json`` beside the messages tells more (CPU seconds, peak memory, whether memory ran out).

With ``--store URL`` the request is the field ``request`` of the launch record at that path of the store. A
request that says ``upload`` has no orchestrator on this machine: see `pod.py`. Under torchrun there is such a
pair of processes for each rank; rank 0 alone speaks and writes ``exit.json``: see `group.py`.

SIGTERM and SIGINT go to the stage. It has ten seconds to end, in a pod two thirds of the pod's grace period:
the rest is for the upload of its last checkpoint. Then it is killed.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from codellm_dag.recipes.runtime import Runtime
from codellm_dag.stages.group import WorkerGroup
from codellm_dag.stages.messages import FileChannel, open_session
from codellm_dag.stages.pod import Pod
from codellm_dag.stages.relay import HEARTBEAT
from codellm_dag.stages.request import StageRequest
from codellm_dag.stages.supervision import GRACE_SECONDS, supervise
from codellm_dag.store.store import Store

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the request, run it under supervision, return the exit code."""
    parser = argparse.ArgumentParser(prog="codellm_dag.stages.entry", description="Run one stage request.")
    parser.add_argument("request", help="JSON file, or with --store its path in the store")
    parser.add_argument("--store", help="store the request is read from")
    parser.add_argument("--parent", type=int, help="pid of the orchestrator: the stage dies with it")
    parser.add_argument(
        "--heartbeat", type=float, default=HEARTBEAT, help="seconds between two signs of life in the store"
    )
    options = parser.parse_args(arguments)
    request = _read(options.request, options.store)
    group = WorkerGroup.from_environment()
    pod = Pod(request, group, options.heartbeat) if request.upload else None
    usage = supervise(lambda: _stage_process(request, group, pod), options.parent, grace_of(request), pod)
    if pod is None and group.rank == 0:
        Path(request.messages).with_name("exit.json").write_bytes(usage.to_json())
    return usage.exit_code


def grace_of(request: StageRequest) -> float:
    """Seconds that the stage has after SIGTERM."""
    shape = request.runtime.kubernetes
    return shape.grace_seconds * 2 / 3 if request.upload and shape is not None else GRACE_SECONDS


def thread_variables(runtime: Runtime) -> dict[str, str]:
    """Variables that hold libraries to the threads and workers of `runtime`."""
    threads = dict.fromkeys(_THREADS, str(runtime.threads))
    return threads | {"RAYON_NUM_THREADS": str(runtime.workers)}


def _read(place: str, store: str | None) -> StageRequest:
    if store is None:
        return StageRequest.model_validate_json(Path(place).read_bytes())
    record = json.loads(Store(store).backend.read(place))
    return StageRequest.model_validate(record["request"])


def _stage_process(request: StageRequest, group: WorkerGroup, pod: Pod | None) -> int:
    """The forked process: becomes the stage."""
    from codellm_dag.stages.running import Surroundings, run_request
    from codellm_dag.stages.stopping import StopSignal
    from codellm_dag.stages.worker import run_worker

    os.environ.update(thread_variables(request.runtime))  # before libraries are loaded, which read them once
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS cannot repeat itself
    around = Surroundings(StopSignal(), group)
    if pod is not None:
        around = Surroundings(StopSignal(), group, pod.wait_until_ready)
    request = pod.request if pod else request
    if group.rank:
        return 0 if run_worker(request, around) else 1
    return 0 if run_request(request, open_session(FileChannel(Path(request.messages))), around) else 1


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # A container's first process has no default for SIGTERM: until a stage runs, it ends us.
    signal.signal(signal.SIGTERM, lambda number, _: os._exit(128 + number))
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    sys.exit(code)
