"""A copy of ``Report.resume_dir`` in the store, so that an attempt on another machine resumes from it.

Layout below the request's ``resume`` folder::

    index.json                      generation, and for each complete entry: where it lies, its files' digests
    <generation>-<number>/…         one upload: complete entries of resume_dir with all their files

The index is written after the files it names, and what it named before is removed after that; so it names
whole copies at every moment. Each attempt first takes the folder over by raising the index's generation: an
earlier attempt that still lives (a lost node) can then no longer change the index, and stops copying. What
a stage may leave in resume_dir, and when an entry is complete, is told in `protocol.py`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from codellm_dag.stages.protocol import is_complete
from codellm_dag.store.backend import Backend
from codellm_dag.store.errors import StoreError
from codellm_dag.store.manifest import to_json
from codellm_dag.store.outputs import sha256_of

_LOOK = 1.0  # seconds between two looks at resume_dir
_INDEX = "index.json"


class SavedFile(BaseModel):
    """One file of an entry."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bytes: int
    sha256: str


class SavedEntry(BaseModel):
    """One complete entry: its files by path below resume_dir, and the upload in which they lie."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    upload: str
    files: dict[str, SavedFile]


class Index(BaseModel):
    """What the store holds. ``generation`` counts the attempts that took it over, ``owner`` is the last."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    generation: int = 0
    owner: str = ""
    entries: dict[str, SavedEntry] = {}


Signature = tuple[int, int]
"""Tells an entry from another that had the same name before: inode and time of its last change."""


class Superseded(RuntimeError):
    """A later attempt has taken the folder over."""


class Mirror:
    """The copy of one computation's resume_dir. `fetch` it, then `start` copying, then `finish`."""

    def __init__(
        self, backend: Backend, prefix: str, folder: Path, told: Callable[[list[str]], None]
    ) -> None:
        """`folder` is resume_dir; `told` gets the names of the entries after each upload."""
        self._backend = backend
        self._prefix = prefix
        self._folder = folder
        self._told = told
        self._index = Index()
        self._known: bytes | None = None  # the bytes of the index in the store
        self._copied: dict[str, Signature] = {}
        self.superseded = False  # whether a later attempt was seen to have taken the folder over
        self._uploads = 0
        self._hurry = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="mirror", daemon=True)

    def fetch(self, take_over: bool = True) -> list[str]:
        """Bring the store's entries to resume_dir; a line about each. What is not whole there is left out.

        With `take_over` this attempt becomes the one that may change the copy. Raises StoreError.
        """
        self._read()
        owner = uuid.uuid4().hex
        while take_over and not self._write(
            Index(generation=self._index.generation + 1, owner=owner, entries=self._index.entries)
        ):
            self._read()
        lines = [self._fetch_entry(name, entry) for name, entry in sorted(self._index.entries.items())]
        complete = self._complete().items()
        self._copied = {name: signature for name, signature in complete if name in self._index.entries}
        return lines

    def start(self) -> None:
        """Copy what becomes complete from now on."""
        self._thread.start()

    def finish(self, patience: float, keep: bool = True) -> None:
        """End; with `keep` copy first what is complete now. An older copy under way is given up.

        Errors are borne for `patience` seconds. `superseded` is true to the store afterwards.
        """
        self._hurry.set()
        self._thread.join()
        deadline = time.monotonic() + patience
        while not self.superseded:
            try:
                self._check()
                return self._copy() if keep else None
            except Superseded:
                self.superseded = True
            except (StoreError, OSError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(_LOOK)
        return None

    def _loop(self) -> None:
        pause = _LOOK
        while not self._hurry.wait(pause):
            try:
                self._copy()
                pause = _LOOK
            except Superseded:
                self.superseded = True
                print(
                    "checkpoints are no longer copied to the store: a later attempt has taken over",
                    flush=True,
                )
                return
            except (StoreError, OSError) as error:
                pause = min(2 * pause, 30.0)
                print(f"checkpoints wait for the store: {error}", flush=True)

    def _check(self) -> None:
        """Raise Superseded if the index is not as this attempt left it."""
        try:
            there = self._backend.read(f"{self._prefix}/{_INDEX}")
        except FileNotFoundError:
            there = None
        if there != self._known:
            raise Superseded

    def _copy(self) -> None:
        """Bring the store up to date with resume_dir, if that holds something new."""
        complete = self._complete()
        if not complete or complete == self._copied:
            return
        kept = {
            name: self._index.entries[name]
            for name, signature in complete.items()
            if self._copied.get(name) == signature
        }
        fresh = [name for name in complete if name not in kept]
        self._uploads += 1
        upload = f"{self._index.generation}-{self._uploads}"
        frozen = self._folder.parent / f"{self._folder.name}-{upload}"
        try:
            if not self._freeze(fresh, frozen) or self._complete() != complete:
                return
            for name in fresh:
                entry = self._upload(frozen, name, upload)
                if entry is None:
                    return
                kept[name] = entry
        finally:
            shutil.rmtree(frozen, ignore_errors=True)
        if not self._write(self._index.model_copy(update={"entries": kept})):
            raise Superseded
        self._copied = complete
        self._told(list(complete))
        self._remove_old()

    def _complete(self) -> dict[str, Signature]:
        found = {}
        for path in sorted(self._folder.iterdir()):
            if is_complete(path.name):
                with contextlib.suppress(FileNotFoundError):
                    status = path.stat()
                    found[path.name] = (status.st_ino, status.st_mtime_ns)
        return found

    def _freeze(self, names: list[str], target: Path) -> bool:
        """Hard links to entries, since the stage may remove them any time; False if it just did."""
        target.mkdir()
        try:
            for name in names:
                source = self._folder / name
                if source.is_dir():
                    shutil.copytree(source, target / name, copy_function=os.link)
                else:
                    os.link(source, target / name)
        except (FileNotFoundError, shutil.Error):
            return False
        return True

    def _upload(self, frozen: Path, name: str, upload: str) -> SavedEntry | None:
        """Upload one entry; None if there is something newer and no time for this."""
        files = {}
        for path in sorted(file for file in [frozen / name, *(frozen / name).rglob("*")] if file.is_file()):
            if self._hurry.is_set() and name not in self._complete():
                return None
            relative = path.relative_to(frozen).as_posix()
            files[relative] = SavedFile(bytes=path.stat().st_size, sha256=sha256_of(path))
            self._backend.upload(frozen, f"{self._prefix}/{upload}", [relative])
        return SavedEntry(upload=upload, files=files)

    def _remove_old(self) -> None:
        """Remove uploads that the index does not name."""
        named = {_INDEX, *(entry.upload for entry in self._index.entries.values())}
        for name in self._backend.children(self._prefix):
            if name not in named:
                self._backend.delete(f"{self._prefix}/{name}")

    def _read(self) -> None:
        try:
            self._known = self._backend.read(f"{self._prefix}/{_INDEX}")
            self._index = Index.model_validate_json(self._known)
        except FileNotFoundError:
            self._known, self._index = None, Index()

    def _write(self, index: Index) -> bool:
        """Replace the index by `index`, unless someone else did meanwhile."""
        path, data = f"{self._prefix}/{_INDEX}", to_json(index)
        if self._known is None:
            done = self._backend.create(path, data)
        else:
            done = self._backend.swap(path, data, self._known)
        if not done:  # perhaps it was this very write, whose answer was lost
            try:
                done = self._backend.read(path) == data
            except FileNotFoundError:
                done = False
        if done:
            self._known, self._index = data, index
        return done

    def _fetch_entry(self, name: str, entry: SavedEntry) -> str:
        part = self._folder / f".{name}.fetched"
        shutil.rmtree(part, ignore_errors=True)
        try:
            for path, file in entry.files.items():
                target = part / path
                target.parent.mkdir(parents=True, exist_ok=True)
                self._backend.download(f"{self._prefix}/{entry.upload}", path, target)
                if sha256_of(target) != file.sha256:
                    return f"the store's copy of {name} is damaged and not used: {path} has another SHA-256"
            (part / name).rename(self._folder / name)
        except FileNotFoundError as error:
            return f"the store's copy of {name} is not whole and not used: {error}"
        finally:
            shutil.rmtree(part, ignore_errors=True)
        size = sum(file.bytes for file in entry.files.values())
        return f"fetched {name} from the store: {len(entry.files)} files, {size / 1e6:.1f} MB"
