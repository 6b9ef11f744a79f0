"""Install the project into the interpreter that runs this: CPU build of PyTorch first, then the rest, pinned.

    python scripts/install.py [EXTRA …]      e.g. python scripts/install.py test

PyTorch's plain wheel for Linux pulls several GB of CUDA packages. So its CPU build is asked for by its local
version from the package indexes pip is set up with; where those do not carry it, `uv` fetches it, which knows
where PyTorch keeps its builds (`--torch-backend`). On a machine with an NVIDIA driver uv chooses the CUDA
build that fits the driver. Everything else comes from `pip` under `constraints.txt`.
"""

from __future__ import annotations

import importlib.util
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONSTRAINTS = ROOT / "constraints.txt"


def pip(*arguments: str, quiet_errors: bool = False) -> bool:
    """Run pip of this interpreter; True when it succeeded."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments]
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL} if quiet_errors else {}
    return subprocess.run(command, check=False, **streams).returncode == 0


def pinned(package: str) -> str:
    """The version of a package in constraints.txt."""
    match = re.search(rf"^{re.escape(package)}==(\S+)$", CONSTRAINTS.read_text(), re.MULTILINE)
    if match is None:
        raise SystemExit(f"{CONSTRAINTS.name} does not pin {package}; run: make lock")
    return match[1]


def install_torch() -> None:
    """The CPU build of PyTorch, or the CUDA build that fits the driver of a machine that has one."""
    if importlib.util.find_spec("torch") is not None:
        return
    version, gpu = pinned("torch"), shutil.which("nvidia-smi") is not None
    if not (sys.platform == "linux" and platform.machine() == "x86_64"):
        installed = pip(f"torch=={version}", "-c", str(CONSTRAINTS))
    else:
        installed = not gpu and pip(f"torch=={version}+cpu", "-c", str(CONSTRAINTS), quiet_errors=True)
        if not installed and pip("uv"):
            backend = "auto" if gpu else "cpu"
            uv = [sys.executable, "-m", "uv", "pip", "install", "--python", sys.executable]
            command = [*uv, f"torch=={version}", f"--torch-backend={backend}"]
            installed = subprocess.run(command, check=False).returncode == 0
    if not installed:
        raise SystemExit(
            f"The CPU build of torch {version} could not be installed. Install it by hand into "
            f"{sys.prefix} (PyTorch's site shows the command for CPU), then run make again."
        )


def main(extras: list[str]) -> None:
    print("Installing packages (a few minutes the first time) …", flush=True)
    install_torch()
    target = f"{ROOT}[{','.join(extras)}]" if extras else str(ROOT)
    if not pip("-c", str(CONSTRAINTS), "-e", target):
        raise SystemExit("Installation failed; the lines above say why. Run make again to retry.")


if __name__ == "__main__":
    main(sys.argv[1:])
