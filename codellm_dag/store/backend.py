"""What a store asks of the place it lies in, and that place on a disk.

A backend knows only bytes under relative ``/``-paths; its two atomic acts are `create` (only if nothing is
there) and `swap` (only if exactly this is there). Artifacts, manifests and records are `store.py`'s.
`s3.py` holds the same for S3.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from codellm_dag.store.errors import StoreError

_NO_HARD_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS)


class Backend(Protocol):
    """Bytes under relative paths. Missing files raise FileNotFoundError; all else that fails, StoreError."""

    url: str

    def check(self) -> None:
        """Raise StoreError unless the place can be reached and, for a disk, written to."""
        ...

    def read(self, path: str) -> bytes:
        """The file's bytes."""
        ...

    def read_many(self, paths: Sequence[str]) -> list[bytes]:
        """The bytes of those files that are there, in the order given."""
        ...

    def create(self, path: str, data: bytes) -> bool:
        """Write `data`, whole and durable, only if nothing is there; False if something is."""
        ...

    def swap(self, path: str, data: bytes, expected: bytes) -> bool:
        """Replace the file only if it holds `expected`; False if it does not."""
        ...

    def put(self, path: str, data: bytes) -> None:
        """Write or replace; a reader sees the old bytes or the new ones."""
        ...

    def sizes(self, prefix: str) -> dict[str, int]:
        """Bytes of every file below a folder, by path relative to it; empty if there is no such folder."""
        ...

    def children(self, prefix: str) -> list[str]:
        """Sorted names directly below a folder; empty if there is no such folder."""
        ...

    def delete(self, path: str) -> None:
        """Remove a file or a folder with all below it; nothing happens if it is not there."""
        ...

    def upload(self, folder: Path, prefix: str, paths: Sequence[str]) -> None:
        """Copy files of a local folder to below `prefix`."""
        ...

    def download(self, prefix: str, path: str, target: Path) -> None:
        """Copy one file to a local path whose parent exists."""
        ...


class DiskBackend:
    """A folder. Creates by hard link, swaps under a lock, so it holds on local disks and on NFS."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.url = root.as_uri()

    def local(self, path: str) -> Path:
        """Where a path of the store lies on this machine."""
        return self.root / path

    def check(self) -> None:
        probe = self.root / f".probe-{uuid.uuid4().hex}"
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise StoreError(
                f"the store {self.root} cannot be written: {error.strerror}; "
                "give a folder you may write to, e.g. --store ./runs"
            ) from error

    def read(self, path: str) -> bytes:
        try:
            return self.local(path).read_bytes()
        except NotADirectoryError as error:
            raise FileNotFoundError(*error.args) from error

    def read_many(self, paths: Sequence[str]) -> list[bytes]:
        found = []
        for path in paths:
            with contextlib.suppress(FileNotFoundError):
                found.append(self.read(path))
        return found

    def create(self, path: str, data: bytes) -> bool:
        target = self.local(path)
        if target.exists():
            return False
        with self._written(target, data) as temporary:
            try:
                os.link(temporary, target)
            except FileExistsError:
                return False
            except OSError as error:
                if error.errno not in _NO_HARD_LINKS:
                    raise
                with self._locked(target):
                    if target.exists():
                        return False
                    temporary.rename(target)
        _sync_folder(target.parent)
        return True

    def swap(self, path: str, data: bytes, expected: bytes) -> bool:
        target = self.local(path)
        with self._locked(target), self._written(target, data) as temporary:
            if not target.exists() or target.read_bytes() != expected:
                return False
            temporary.replace(target)
        _sync_folder(target.parent)
        return True

    def put(self, path: str, data: bytes) -> None:
        target = self.local(path)
        with self._written(target, data) as temporary:
            temporary.replace(target)

    def sizes(self, prefix: str) -> dict[str, int]:
        return dict(_walk(str(self.local(prefix)), ""))

    def children(self, prefix: str) -> list[str]:
        try:
            return sorted(item.name for item in self.local(prefix).iterdir() if not _is_temporary(item.name))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def delete(self, path: str) -> None:
        target = self.local(path)
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target, ignore_errors=True)
        else:
            target.unlink(missing_ok=True)

    def upload(self, folder: Path, prefix: str, paths: Sequence[str]) -> None:
        for path in paths:
            target = self.local(f"{prefix}/{path}")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / path, target)

    def download(self, prefix: str, path: str, target: Path) -> None:
        shutil.copyfile(self.local(f"{prefix}/{path}"), target)

    @contextlib.contextmanager
    def _written(self, target: Path, data: bytes) -> Iterator[Path]:
        """A durable temporary file beside `target`, removed if still there."""
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.parent / f".{uuid.uuid4().hex}.tmp"
        try:
            with temporary.open("xb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            yield temporary
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
                raise StoreError(f"cannot write {target}: {error.strerror}") from error
            raise
        finally:
            temporary.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _locked(self, target: Path) -> Iterator[None]:
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)


def _walk(folder: str, prefix: str) -> Iterator[tuple[str, int]]:
    try:
        entries = list(os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(entry.path, f"{prefix}{entry.name}/")
        elif entry.is_file(follow_symlinks=False) and not _is_temporary(entry.name):
            yield f"{prefix}{entry.name}", entry.stat(follow_symlinks=False).st_size


def _is_temporary(name: str) -> bool:
    return name.startswith(".") and name.endswith(".tmp")


def _sync_folder(folder: Path) -> None:
    """Make a new name in `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
