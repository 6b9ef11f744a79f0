"""Environments of outside frameworks: pinned packages, each set in a virtual environment of its own.

``training/backends/<name>.txt`` lists every package with its version; it lies beside the backend whose code
digest it is part of. Nothing is resolved when it is installed (``--no-deps``), so nothing pulls CUDA's
libraries or a version that clashes. Two comments there are read: ``# framework: DISTRIBUTION`` is the package
that the environment is for, ``# empty module: NAME`` a module the framework imports but does not need, put in
place empty. Folders lie in ``$CODELLM_ENVIRONMENTS``, else in ``environments`` of the cache; the name ends in
a digest of the list and of Python's version, so a changed list is another folder. A folder is built under
another name and renamed: it is complete or absent. Scripts in its ``bin`` name the folder it was built in;
start modules with ``python -m``.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from codellm_dag.stages.protocol import UNFINISHED
from codellm_dag.store import cache_root
from codellm_dag.training.environments.pytorch import install_pytorch, pip

VARIABLE = "CODELLM_ENVIRONMENTS"
_LISTS = Path(__file__).parents[1] / "backends"
_STALE = 86_400.0
"""Seconds after which an unfinished folder is taken for one whose build was killed."""


class MissingEnvironmentError(RuntimeError):
    """The environment of a framework is not built on this machine; the message has the command."""

    label = "invalid_recipe"


class EnvironmentBuildError(RuntimeError):
    """An environment could not be built; the message says which package, and pip's own words."""


@dataclass(frozen=True)
class FrameworkEnvironment:
    """One pinned set of packages. ``requirements`` is the text of its list."""

    name: str
    requirements: str

    @classmethod
    def listed(cls, path: Path) -> FrameworkEnvironment:
        """The environment whose list is the file `path`."""
        return cls(path.stem, path.read_text(encoding="utf-8"))

    @property
    def framework(self) -> str:
        """The distribution that the environment is for."""
        (found,) = re.findall(r"^# framework: (\S+)$", self.requirements, re.MULTILINE)
        return found

    @property
    def version(self) -> str:
        """The framework's version."""
        return self.version_of(self.framework)

    def version_of(self, distribution: str) -> str:
        """The pinned version of a distribution."""
        (found,) = re.findall(rf"^{re.escape(distribution)}==(\S+)$", self.requirements, re.MULTILINE)
        return found

    @property
    def folder(self) -> Path:
        """Where the environment lies once it is built."""
        text = f"{sys.version_info[:2]}\n{sys.platform}\n{self.requirements}"
        root = os.environ.get(VARIABLE)
        digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        return (Path(root) if root else cache_root() / "environments") / f"{self.name}-{digest}"

    @property
    def built(self) -> bool:
        """Whether it is there."""
        return self.folder.is_dir()

    def require(self) -> None:
        """Raise MissingEnvironmentError unless it is built."""
        if not self.built:
            raise MissingEnvironmentError(
                f"the environment of {self.name} ({self.framework} {self.version}) is not built on "
                f"this machine (no {self.folder}); build it: codellm-dag environments build {self.name}"
            )

    def required_version(self) -> str:
        """The framework's version. Raises MissingEnvironmentError unless it is built."""
        self.require()
        return self.version

    @property
    def python(self) -> Path:
        """Its interpreter. Raises MissingEnvironmentError."""
        self.require()
        return self.folder / "bin" / "python"

    def build(self, say: Callable[[str], None] = lambda _: None) -> Path:
        """Build it unless it is there; return its folder. Raises EnvironmentBuildError."""
        if self.built:
            return self.folder
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(self.folder.parent)
        partial = self.folder.with_name(f"{self.folder.name}-{uuid.uuid4().hex[:8]}{UNFINISHED}")
        try:
            self._install(partial, say)
            if not self.built:  # another build may have been first
                partial.rename(self.folder)
        except OSError:
            if not self.built:
                raise
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return self.folder

    def _install(self, folder: Path, say: Callable[[str], None]) -> None:
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        python, pins = str(folder / "bin" / "python"), folder / "requirements.txt"
        pins.write_text(self.requirements, encoding="utf-8")
        say(f"{self.name}: PyTorch {self.version_of('torch')}")
        if not install_pytorch(python, self.version_of("torch"), pins, ["--no-compile"]):
            raise EnvironmentBuildError(
                f"{self.name}: PyTorch {self.version_of('torch')} could not be installed"
            )
        say(f"{self.name}: {self.framework} {self.version} and what it needs")
        done = pip(python, "--no-compile", "--no-deps", "-r", str(pins))
        if done.returncode:
            tail = "\n".join(done.stderr.strip().splitlines()[-5:])
            raise EnvironmentBuildError(f"{self.name} could not be installed:\n{tail}")
        (packages,) = (folder / "lib").glob("python*/site-packages")
        for module in re.findall(r"^# empty module: (\S+)$", self.requirements, re.MULTILINE):
            (packages / module).mkdir()
            (packages / module / "__init__.py").touch()


def _remove_stale(root: Path) -> None:
    for path in root.glob(f"*{UNFINISHED}"):
        if time.time() - path.stat().st_mtime > _STALE:
            shutil.rmtree(path, ignore_errors=True)


def names() -> tuple[str, ...]:
    """The environments there are, in alphabetical order."""
    return tuple(sorted(path.stem for path in _LISTS.glob("*.txt")))


def environment(name: str) -> FrameworkEnvironment:
    """The environment of that name. Raises ValueError with the names there are."""
    if name not in names():
        raise ValueError(f"there is no environment {name!r}; allowed: {', '.join(names())}")
    return FrameworkEnvironment.listed(_LISTS / f"{name}.txt")
