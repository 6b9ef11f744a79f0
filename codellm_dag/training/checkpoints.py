"""Checkpoints to resume from: whole or absent, and only for the very same run.

A checkpoint is a folder ``checkpoint-<step>`` as `Trainer` writes it (model, optimizer, schedule, random
state, history), written under another name and renamed when it is complete, so that a kill at any moment
leaves the previous one. ``identity`` in each says which run it belongs to. Final models are in `output.py`.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

_NAME = re.compile(r"checkpoint-(\d+)")
_PARTIAL = "partial"
_IDENTITY = "identity"


class ResumeFolder:
    """The folder of a run's checkpoints; `identity` names recipe, inputs, threads and library versions."""

    def __init__(self, folder: Path, identity: str) -> None:
        self.folder = folder
        self.identity = identity

    def latest(self) -> Path | None:
        """The newest whole checkpoint of this run, or None."""
        found = [path for path in self._checkpoints() if self._identity_of(path) == self.identity]
        return found[-1] if found else None

    def partial(self) -> Path:
        """Where a checkpoint is written before it is published; empty."""
        path = self.folder / _PARTIAL
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        return path

    def publish(self, step: int) -> None:
        """Give the written checkpoint its name, on disk for good, and remove older ones."""
        name = f"checkpoint-{step}"
        written, final = self.folder / _PARTIAL / name, self.folder / name
        (written / _IDENTITY).write_text(self.identity, encoding="utf-8")
        for path in [*written.iterdir(), written]:
            _sync(path)
        shutil.rmtree(final, ignore_errors=True)
        written.rename(final)
        _sync(self.folder)
        for path in self._checkpoints():
            if path != final:
                shutil.rmtree(path, ignore_errors=True)

    def _checkpoints(self) -> list[Path]:
        if not self.folder.is_dir():
            return []
        found = [(int(m[1]), path) for path in self.folder.iterdir() if (m := _NAME.fullmatch(path.name))]
        return [path for _, path in sorted(found)]

    def _identity_of(self, path: Path) -> str:
        file = path / _IDENTITY
        return file.read_text(encoding="utf-8") if file.is_file() else ""


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
