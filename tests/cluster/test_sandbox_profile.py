"""The sandbox in a container as confined as our pods: it runs under the kit's profile, and says why not else.

The container is an ordinary user's, without capabilities, with a read-only root and `no_new_privileges`. Not
shown: AppArmor, and the kubelet's own way of loading the profile.
"""

from __future__ import annotations

import site
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.cluster.bed.kubelet.engine import Podman

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).parents[2]
PROFILE = ROOT / "k8s" / "sandbox" / "codellm-dag-sandbox.json"
PROGRAM = """
from codellm_dag.sandbox import Limits, Program, Sandbox, convert_asserts, judge
tests = convert_asserts("assert add(1, 2) == 3", "add").tests
program = Program("def add(x, y):\\n    return x + y", tuple(test.call for test in tests))
with Sandbox(workers=1, limits=Limits(cpu_seconds=5)) as sandbox:
    print(judge(sandbox.run_one(program), tests))
"""


def run(engine: Podman, *options: str) -> str:
    """What PROGRAM prints in a confined container."""
    packages = next(path for path in site.getsitepackages() if path.startswith(sys.prefix))
    return engine(
        *("run", "--rm", "--read-only", "--network", "none", "--user", "10001:10001", "--cap-drop", "ALL"),
        *("--security-opt", "no-new-privileges", *options),
        *("--tmpfs", "/tmp:rw,mode=1777", "--tmpfs", "/scratch:rw,mode=1777"),
        *("--volume", "/usr:/usr:ro", "--volume", f"{sys.base_prefix}:/python:ro"),
        *("--volume", f"{packages}:/packages:ro", "--volume", f"{ROOT}:/source:ro"),
        *("--env", "PYTHONPATH=/source:/packages", "--env", "HOME=/scratch", "--env", "TMPDIR=/scratch"),
        *("--env", "PYTHONDONTWRITEBYTECODE=1", "--workdir", "/scratch", "localhost/bed:1"),
        *(f"/python/bin/python{sys.version_info[0]}.{sys.version_info[1]}", "-c", PROGRAM),
    )


def test_with_the_profile_generated_code_runs(engine):
    assert run(engine, "--security-opt", f"seccomp={PROFILE}").strip() == "pass"


def test_with_the_default_profile_it_is_refused_with_the_reason(engine):
    with pytest.raises(RuntimeError, match=r"SandboxUnavailableError: .*docs/sandbox\.md"):
        run(engine)
