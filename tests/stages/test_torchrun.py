"""The pod with index 0 is the host, also when another one is there first, and nobody else is."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time

import pytest

from codellm_dag.stages.torchrun import with_host
from tests.support.ports import free_port

WORKER = """
import torch, torch.distributed as dist
dist.init_process_group("gloo")
number = torch.tensor([float(dist.get_rank() + 1)])
dist.all_reduce(number)
print("sum", int(number.item()), "of", dist.get_world_size(), flush=True)
dist.destroy_process_group()
"""


@pytest.mark.parametrize(("index", "host"), [("0", "1"), ("1", "0"), ("10", "0")])
def test_only_index_0_is_the_host(index, host):
    assert with_host(["--nnodes=2", "--rdzv-conf=join_timeout=9", "-m", "x"], index) == [
        *["--nnodes=2", f"--rdzv-conf=join_timeout=9,is_host={host}", "-m", "x"]
    ]


def test_the_option_must_be_there():
    with pytest.raises(ValueError, match="--rdzv-conf="):
        with_host(["--nnodes=2"], "0")


def test_two_pods_meet_at_the_first_though_the_second_starts_before(tmp_path):
    (tmp_path / "worker.py").write_text(WORKER)
    port = free_port()

    def start(index: int) -> subprocess.Popen[str]:
        # The address is this machine's, so torchrun's own guess would be that both are the host.
        options = [
            *["--nnodes=2", "--nproc-per-node=1", f"--node-rank={index}", "--rdzv-backend=c10d"],
            *[f"--rdzv-endpoint=127.0.0.1:{port}", "--rdzv-id=x", "--local-addr=127.0.0.1"],
            "--rdzv-conf=join_timeout=60,read_timeout=60",
        ]
        return subprocess.Popen(
            [sys.executable, "-m", "codellm_dag.stages.torchrun", *options, str(tmp_path / "worker.py")],
            env={**os.environ, "JOB_COMPLETION_INDEX": str(index), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    second = start(1)
    time.sleep(3)
    assert second.poll() is None
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0, "the second pod hosts the meeting"
    first = start(0)
    for pod in (first, second):
        out, err = pod.communicate(timeout=90)
        assert pod.returncode == 0, err
        assert "sum 3 of 2" in out
