"""Checkpoints to resume from: whole or absent, and only for the very same run.

A checkpoint is a folder ``checkpoint-<step>`` (``checkpoint-<step>.<n>`` after n rollbacks) as `Trainer`
writes it (model, optimizer, schedule, random state, history), written under another name and renamed when it
is complete, so that a kill at any moment leaves the previous one. ``identity`` in each says which run it
belongs to. Final models are in `output.py`.

The number of processes and of rows in a forward pass are not part of the identity: data order, global batch
and schedule are the same with any, so a run whose machines are gone may go on with others. Its losses then
agree to float tolerance, no longer to the bit; ``processes`` in each checkpoint tells with which it was made,
and the stage says so.
"""

from __future__ import annotations

import os
import re
import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path

from codellm_dag.stages.protocol import UNFINISHED
from codellm_dag.training.divergence import Rollback, from_text, to_text

_NAME = re.compile(r"checkpoint-(\d+)(?:\.(\d+))?")
_PARTIAL = f"new{UNFINISHED}"
_IDENTITY = "identity"
_LAYOUTS = "processes"
_ROLLBACKS = "rollbacks"


class ResumeFolder:
    """The folder of a run's checkpoints; `identity` names recipe, inputs, threads and library versions.

    The newest `keep` are kept, and the newest at a multiple of `rollback_steps`, if that is not 0.
    """

    def __init__(self, folder: Path, identity: str, keep: int = 1, rollback_steps: int = 0) -> None:
        self.folder = folder
        self.identity = identity
        self.keep = keep
        self.rollback_steps = rollback_steps

    def latest(self) -> Path | None:
        """The newest whole checkpoint of this run, or None."""
        found = self._own()
        return found[-1] if found else None

    def to_go_back_to(self, step: int) -> Path | None:
        """The newest whole checkpoint before `step` at a multiple of ``rollback_steps``, or None."""
        found = [path for path in self._own() if self._is_for_rollbacks(path) and step_of(path) < step]
        return found[-1] if found else None

    def named(self, name: str) -> Path | None:
        """The checkpoint of this run with that name, if it is here."""
        path = self.folder / name
        return path if self._identity_of(path) == self.identity else None

    def layouts_of(self, path: Path) -> list[str]:
        """Processes x rows of a forward pass, e.g. ``4x2``, or ``4x1/2`` where the batch grows; several where
        it was resumed with others.
        """
        return (path / _LAYOUTS).read_text(encoding="utf-8").split()

    def rollbacks_of(self, path: Path) -> list[Rollback]:
        """The rollbacks that led to a checkpoint."""
        return from_text((path / _ROLLBACKS).read_text(encoding="utf-8"))

    @property
    def partial(self) -> Path:
        """Where a checkpoint is written before it is published."""
        return self.folder / _PARTIAL

    def clear_partial(self) -> None:
        """Make room for a checkpoint to be written."""
        shutil.rmtree(self.partial, ignore_errors=True)
        self.partial.mkdir(parents=True)

    def publish(self, step: int, layouts: Sequence[str], rollbacks: Sequence[Rollback] = ()) -> Path:
        """Give the checkpoint written as ``checkpoint-<step>`` its name, on disk for good, and remove older
        ones. Returns where it is.
        """
        written = self.partial / f"checkpoint-{step}"
        final = self.folder / (written.name + (f".{len(rollbacks)}" if rollbacks else ""))
        (written / _LAYOUTS).write_text(" ".join(layouts), encoding="utf-8")
        (written / _ROLLBACKS).write_text(to_text(rollbacks), encoding="utf-8")
        (written / _IDENTITY).write_text(self.identity, encoding="utf-8")
        for path in [*written.rglob("*"), written]:
            sync(path)
        if final.exists():
            retire(final)
        written.rename(final)
        sync(self.folder)
        self._remove_older_than(final)
        for path in self.folder.glob(f"*{UNFINISHED}"):
            shutil.rmtree(path, ignore_errors=True)
        return final

    def go_back_to(self, path: Path, rollbacks: Sequence[Rollback]) -> Path:
        """Publish checkpoint `path` once more, as the newest: the one that follows after `rollbacks`."""
        self.clear_partial()
        shutil.copytree(path, self.partial / f"checkpoint-{step_of(path)}")
        return self.publish(step_of(path), self.layouts_of(path), rollbacks)

    def _remove_older_than(self, newest: Path) -> None:
        own = self._own()
        own = own[: own.index(newest) + 1]
        kept = own[-self.keep :] + [path for path in own if self._is_for_rollbacks(path)][-1:]
        for path in self._checkpoints():
            if path not in kept:
                retire(path)

    def _is_for_rollbacks(self, path: Path) -> bool:
        return self.rollback_steps > 0 and step_of(path) % self.rollback_steps == 0

    def _own(self) -> list[Path]:
        return [path for path in self._checkpoints() if self._identity_of(path) == self.identity]

    def _checkpoints(self) -> list[Path]:
        """Oldest first: a checkpoint is newer than all that were made before an earlier rollback."""
        if not self.folder.is_dir():
            return []
        matches = [(_NAME.fullmatch(path.name), path) for path in self.folder.iterdir()]
        found = [(int(match[2] or 0), int(match[1]), path) for match, path in matches if match]
        return [path for _, _, path in sorted(found)]

    def _identity_of(self, path: Path) -> str:
        file = path / _IDENTITY
        return file.read_text(encoding="utf-8") if file.is_file() else ""


def step_of(path: Path) -> int:
    """The step after which a checkpoint was made."""
    match = _NAME.fullmatch(path.name)
    assert match is not None
    return int(match[1])


def retire(path: Path) -> None:
    """Take a checkpoint's name away, before its files go: nobody may take what is left for a whole one."""
    path.rename(path.with_name(f"{path.name}-{uuid.uuid4().hex[:8]}{UNFINISHED}"))


def sync(path: Path) -> None:
    """Bring a file, or a folder's list of names, to the disk for good."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
