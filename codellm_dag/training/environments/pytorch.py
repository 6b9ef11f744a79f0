"""PyTorch without CUDA's libraries, for an interpreter that has no PyTorch yet.

PyTorch's plain wheel for Linux pulls several GB of CUDA packages. So its CPU build is asked for by its
local version from the package indexes pip is set up with; where those do not carry it, `uv` fetches it,
which knows where PyTorch keeps its builds (``--torch-backend``). On a machine with an NVIDIA driver uv
chooses the CUDA build that fits the driver. Standard library only: `scripts/install.py` uses this before
anything is installed.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

BACKEND_VARIABLE = "CODELLM_TORCH_BACKEND"
"""uv's name of a build (``cu130``) to take instead, e.g. where an image for GPUs is built without one."""


def pip(python: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``pip install`` of the interpreter `python`; its errors are in ``stderr``."""
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments]
    return subprocess.run(command, check=False, stderr=subprocess.PIPE, text=True)


def install_pytorch(python: str, version: str, constraints: Path, options: Sequence[str] = ()) -> bool:
    """Install PyTorch `version` for `python`: the CPU build, or the CUDA build that fits the driver.

    Its dependencies obey the file `constraints`. `options` go to pip. False when nothing worked.
    """
    wanted = os.environ.get(BACKEND_VARIABLE, "")
    gpu = shutil.which("nvidia-smi") is not None or bool(wanted)
    limits = ("-c", str(constraints), *options)
    if not (sys.platform == "linux" and platform.machine() == "x86_64"):
        return not pip(python, f"torch=={version}", *limits).returncode
    if not gpu and not pip(python, f"torch=={version}+cpu", *limits).returncode:
        return True
    if pip(python, "uv").returncode:
        return False
    uv = [python, "-m", "uv", "pip", "install", "--quiet", "--python", python]
    command = [*uv, f"torch=={version}", f"--torch-backend={wanted or ('auto' if gpu else 'cpu')}"]
    return not subprocess.run(command, check=False).returncode
