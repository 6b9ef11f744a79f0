"""Where a stage runs: code, packages and machine, recorded beside its result."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from codellm_dag.recipes.runtime import Runtime
from codellm_dag.store.manifest import Environment

_ROOT = Path(__file__).resolve().parents[2]
_CODE = ("codellm_dag", "assets", "resources")


def collect_environment(runtime: Runtime, processes: int = 1) -> Environment:
    """This process' environment, one of a group of `processes` alike.

    In an image without git, ``CODELLM_GIT_COMMIT`` tells the commit.
    """
    return Environment(
        **_git(),
        image_digest=os.environ.get("CODELLM_IMAGE_DIGEST"),
        python=platform.python_version(),
        packages=installed_packages(),
        platform=platform.platform(),
        cpu_model=_cpu_model(),
        cpu_cores=len(os.sched_getaffinity(0)),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        threads=runtime.threads,
        workers=runtime.workers,
        micro_rows=runtime.micro_rows,
        processes=processes,
        devices=devices() if processes == 1 else devices()[:1] * processes,
    )


def version_of(package: str) -> str:
    """Version of a distribution here; ``python`` is the interpreter's, without what bug fixes count.

    Raises importlib.metadata.PackageNotFoundError.
    """
    if package == "python":
        return ".".join(platform.python_version_tuple()[:2])
    return importlib.metadata.version(package)


def installed_packages() -> dict[str, str]:
    """Name and version of every installed distribution, from folder names alone (fast), sorted."""
    found: dict[str, str] = {}
    for place in sys.path:
        try:
            names = os.listdir(place or ".")  # noqa: PTH208 (entries of sys.path are strings)
        except OSError:
            continue
        for name in names:
            if name.endswith(".dist-info"):
                package, _, version = name.removesuffix(".dist-info").partition("-")
                found.setdefault(package.replace("_", "-").lower(), version)
    return dict(sorted(found.items()))


def devices() -> list[str]:
    """Names of the GPUs this process has used through PyTorch, else ``['cpu']``; imports nothing."""
    torch = sys.modules.get("torch")
    cuda = getattr(torch, "cuda", None)
    if cuda is None or not cuda.is_available() or not cuda.is_initialized():
        return ["cpu"]
    return [cuda.get_device_name(index) for index in range(cuda.device_count())]


def _git() -> dict[str, Any]:
    commit = os.environ.get("CODELLM_GIT_COMMIT")
    if not (_ROOT / ".git").exists():
        return {"git_commit": commit}
    head = _run_git("rev-parse", "HEAD")
    if head is None:
        return {"git_commit": commit}
    changes = _run_git("diff", "HEAD", "--binary", "--", *_CODE) or b""
    untracked = (_run_git("ls-files", "--others", "--exclude-standard", "-z", "--", *_CODE) or b"").split(
        b"\0"
    )
    hasher = hashlib.sha256(changes)
    for name in sorted(filter(None, untracked)):
        hasher.update(name + b"\0" + _read(_ROOT / os.fsdecode(name)))
    dirty = bool(changes or any(untracked))
    return {
        "git_commit": head.decode().strip(),
        "git_dirty": dirty,
        "git_diff_digest": hasher.hexdigest() if dirty else None,
    }


def _run_git(*arguments: str) -> bytes | None:
    try:
        command = ["git", "-C", str(_ROOT), *arguments]
        done = subprocess.run(command, capture_output=True, check=False, timeout=30, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.machine()
