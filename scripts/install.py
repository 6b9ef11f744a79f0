"""Install the project into the interpreter that runs this: CPU build of PyTorch first, then the rest, pinned.

    python scripts/install.py [EXTRA …]      e.g. python scripts/install.py test

Which build of PyTorch, and from where: see `codellm_dag/training/environments/pytorch.py`. Everything else
comes from `pip` under `constraints.txt`.
"""

from __future__ import annotations

import importlib.util
import re
import sys
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
    target = f"{ROOT}[{','.join(extras)}]" if extras else str(ROOT)
    done = pip(sys.executable, "-c", str(CONSTRAINTS), "-e", target)
    if done.returncode:
        raise SystemExit(
            f"{done.stderr}\nInstallation failed; the lines above say why. Run make again to retry."
        )


if __name__ == "__main__":
    main(sys.argv[1:])
