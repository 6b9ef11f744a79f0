"""``python -m codellm_dag.stages.entry REQUEST.json``: one stage in processes of its own, here or in a pod.

Two processes: this one stays small and watches, a fork of it runs the stage. If the orchestrator dies (its
pid is given with ``--parent``), or the stage ends, all that the stage started is killed, daemons too. If
this watcher is killed, the kernel kills the stage with it. Exit code: 0 the stage ended well, 1 it failed
and said why in its closing message, 128 + n it was ended by signal n, 70 this watcher failed.
``exit.json`` beside the messages tells more (CPU seconds, peak memory, whether memory ran out).

With ``--store URL`` the request is the field ``request`` of the launch record at that path of the store.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from codellm_dag.stages.messages import FileChannel, StoreChannel, open_session
from codellm_dag.stages.request import StageRequest
from codellm_dag.stages.supervision import Usage, supervise
from codellm_dag.store.store import Store

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the request, run it under supervision, return the exit code."""
    parser = argparse.ArgumentParser(prog="codellm_dag.stages.entry", description="Run one stage request.")
    parser.add_argument("request", help="JSON file, or with --store its path in the store")
    parser.add_argument("--store", help="store the request is read from")
    parser.add_argument("--parent", type=int, help="pid of the orchestrator: the stage dies with it")
    options = parser.parse_args(arguments)
    request = _read(options.request, options.store)
    usage = supervise(lambda: _stage_process(request), options.parent)
    _write_usage(request, usage)
    return usage.exit_code


def _read(place: str, store: str | None) -> StageRequest:
    if store is None:
        return StageRequest.model_validate_json(Path(place).read_bytes())
    record = json.loads(Store(store).backend.read(place))
    return StageRequest.model_validate(record["request"])


def _stage_process(request: StageRequest) -> int:
    """The forked process: becomes the stage."""
    from codellm_dag.stages.running import run_request

    threads = str(request.runtime.threads)
    for name in _THREADS:
        os.environ[name] = threads  # before PyTorch or NumPy is imported, which read it once
    os.environ["RAYON_NUM_THREADS"] = str(request.runtime.workers)
    # Threads that wait asleep: where something else wants a core too, spinning costs thrice the CPU time.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if request.upload:
        channel = StoreChannel(Store(request.store or ""), request.messages)
    else:
        channel = FileChannel(Path(request.messages))
    return 0 if run_request(request, open_session(channel)) else 1


def _write_usage(request: StageRequest, usage: Usage) -> None:
    if request.upload:
        store = Store(request.store or "")
        store.backend.put(f"{request.messages}.exit.json", usage.to_json())
    else:
        Path(request.messages).with_name("exit.json").write_bytes(usage.to_json())


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    sys.exit(code)
