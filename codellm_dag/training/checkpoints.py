"""Checkpoints to resume from: whole or absent, and only for the very same run.

A checkpoint is a folder ``checkpoint-<step>`` as `Trainer` writes it (model, optimizer, schedule, random
state, history), written under another name and renamed when it is complete, so that a kill at any moment
leaves the previous one. ``identity`` in each says which run it belongs to. Final models are in `output.py`.

The number of processes is not part of the identity: data order, global batch and schedule are the same with
any number, so a run whose machines are gone may go on with others. Its losses then agree to float tolerance,
no longer to the bit; ``processes`` in each checkpoint tells with how many it was made, and the stage says so.
"""

from __future__ import annotations

import os
import re
import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path

from codellm_dag.stages.protocol import UNFINISHED

_NAME = re.compile(r"checkpoint-(\d+)")
_PARTIAL = f"new{UNFINISHED}"
_IDENTITY = "identity"
_PROCESSES = "processes"


class ResumeFolder:
    """The folder of a run's checkpoints; `identity` names recipe, inputs, threads and library versions."""

    def __init__(self, folder: Path, identity: str) -> None:
        self.folder = folder
        self.identity = identity

    def latest(self) -> Path | None:
        """The newest whole checkpoint of this run, or None."""
        found = [path for path in self._checkpoints() if self._identity_of(path) == self.identity]
        return found[-1] if found else None

    def named(self, name: str) -> Path | None:
        """The checkpoint of this run with that name, if it is here."""
        path = self.folder / name
        return path if self._identity_of(path) == self.identity else None

    def processes_of(self, path: Path) -> list[int]:
        """With how many processes a checkpoint was made; several numbers where it was resumed with others."""
        return [int(word) for word in (path / _PROCESSES).read_text(encoding="utf-8").split()]

    @property
    def partial(self) -> Path:
        """Where a checkpoint is written before it is published."""
        return self.folder / _PARTIAL

    def clear_partial(self) -> None:
        """Make room for a checkpoint to be written."""
        shutil.rmtree(self.partial, ignore_errors=True)
        self.partial.mkdir(parents=True)

    def publish(self, step: int, processes: Sequence[int]) -> None:
        """Give the written checkpoint its name, on disk for good, and remove older ones."""
        name = f"checkpoint-{step}"
        written, final = self.partial / name, self.folder / name
        (written / _PROCESSES).write_text(" ".join(map(str, processes)), encoding="utf-8")
        (written / _IDENTITY).write_text(self.identity, encoding="utf-8")
        for path in [*written.iterdir(), written]:
            _sync(path)
        if final.exists():
            _retire(final)
        written.rename(final)
        _sync(self.folder)
        for path in self._checkpoints():
            if path != final:
                _retire(path)
        for path in self.folder.glob(f"*{UNFINISHED}"):
            shutil.rmtree(path, ignore_errors=True)

    def _checkpoints(self) -> list[Path]:
        if not self.folder.is_dir():
            return []
        found = [(int(m[1]), path) for path in self.folder.iterdir() if (m := _NAME.fullmatch(path.name))]
        return [path for _, path in sorted(found)]

    def _identity_of(self, path: Path) -> str:
        file = path / _IDENTITY
        return file.read_text(encoding="utf-8") if file.is_file() else ""


def _retire(path: Path) -> None:
    """Take a checkpoint's name away, before its files go: nobody may take what is left for a whole one."""
    path.rename(path.with_name(f"{path.name}-{uuid.uuid4().hex[:8]}{UNFINISHED}"))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
