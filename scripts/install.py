"""Install the project into the interpreter that runs this: CPU build of PyTorch first, then the rest, pinned.

    python scripts/install.py [EXTRA …]      e.g. python scripts/install.py test

Which build of PyTorch, and from where: see `codellm_dag/training/environments/pytorch.py`. DeepSpeed (the
extra ``deepspeed``) is built against that PyTorch and without its compiled operators, which need a compiler
and are not used: a build of pip's own would fetch another PyTorch, with CUDA. Everything else comes from
`pip` under `constraints.txt`.
"""

from __future__ import annotations

import importlib.util
import os
import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONSTRAINTS = ROOT / "constraints.txt"
sys.path.insert(0, str(ROOT))

from codellm_dag.training.environments.pytorch import install_pytorch, pip  # noqa: E402


def pinned(package: str) -> str:
    """The version of a package in constraints.txt."""
    match = re.search(rf"^{re.escape(package)}==(\S+)$", CONSTRAINTS.read_text(), re.MULTILINE)
    if match is None:
        raise SystemExit(f"{CONSTRAINTS.name} does not pin {package}; run: make lock")
    return match[1]


def install_deepspeed() -> str:
    """DeepSpeed as the extra of that name pins it. What went wrong; empty where nothing did."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins = project["optional-dependencies"]["deepspeed"]
    os.environ["DS_BUILD_OPS"] = "0"
    for arguments in (["setuptools>=77", "wheel"], ["--no-build-isolation", *pins]):
        if (done := pip(sys.executable, "-c", str(CONSTRAINTS), *arguments)).returncode:
            return done.stderr
    return ""


def main(extras: list[str]) -> None:
    print("Installing packages (a few minutes the first time) …", flush=True)
    version = pinned("torch")
    if importlib.util.find_spec("torch") is None and not install_pytorch(
        sys.executable, version, CONSTRAINTS
    ):
        raise SystemExit(
            f"The CPU build of torch {version} could not be installed. Install it by hand into "
            f"{sys.prefix} (PyTorch's site shows the command for CPU), then run make again."
        )
    if "deepspeed" in extras and (error := install_deepspeed()):
        raise SystemExit(f"{error}\nDeepSpeed could not be installed; the lines above say why.")
    target = f"{ROOT}[{','.join(extras)}]" if extras else str(ROOT)
    done = pip(sys.executable, "-c", str(CONSTRAINTS), "-e", target)
    if done.returncode:
        raise SystemExit(
            f"{done.stderr}\nInstallation failed; the lines above say why. Run make again to retry."
        )


if __name__ == "__main__":
    main(sys.argv[1:])
