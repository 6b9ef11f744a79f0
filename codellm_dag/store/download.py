"""Artifacts of a remote store on this machine: downloaded once, checked, and kept by content digest.

The cache is safe to delete at any time when nothing runs.
"""

from __future__ import annotations

import contextlib
import fcntl
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from codellm_dag.store.backend import Backend
from codellm_dag.store.errors import StoreError
from codellm_dag.store.manifest import Manifest, Output
from codellm_dag.store.outputs import protect, sha256_of
from codellm_dag.store.paths import attempt_prefix, cache_root
from codellm_dag.store.records import new_id


def cached_folder(backend: Backend, manifest: Manifest) -> Path:
    """A folder of the cache with the artifact's files, but not the volatile ones. Raises StoreError."""
    wanted = [output for output in manifest.outputs if not output.volatile]
    target = cache_root() / "artifacts" / manifest.content_digest
    if not _has_all(target, wanted):
        with _turn(cache_root() / "locks" / f"{manifest.content_digest}.lock"):
            if not _has_all(target, wanted):
                prefix = attempt_prefix(manifest.stage, manifest.fingerprint, manifest.attempt)
                _download(backend, prefix, wanted, target)
    return target


@contextlib.contextmanager
def _turn(path: Path) -> Iterator[None]:
    """One process at a time: the ranks on a node ask for the same artifact at the same moment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _download(backend: Backend, prefix: str, outputs: Sequence[Output], target: Path) -> None:
    """Download beside `target`, then rename: others see all of it or nothing."""
    fresh = target.parent / f".{target.name}.{new_id()}"
    try:
        for output in outputs:
            path = fresh / output.path
            path.parent.mkdir(parents=True, exist_ok=True)
            _download_one(backend, prefix, output, path)
        protect(fresh, outputs)
        if target.exists() and not _has_all(target, outputs):
            damaged = target.parent / f".{target.name}.damaged.{new_id()}"
            target.rename(damaged)
            shutil.rmtree(damaged, ignore_errors=True)
        try:
            fresh.rename(target)
        except OSError:  # someone else was faster; theirs has the same digest
            if not _has_all(target, outputs):
                raise
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _download_one(backend: Backend, prefix: str, output: Output, path: Path) -> None:
    place = f"{backend.url}/{prefix}/{output.path}"
    try:
        backend.download(prefix, output.path, path)
    except FileNotFoundError:
        raise StoreError(f"{place} is missing; run its asset again") from None
    found = sha256_of(path)
    if found != output.sha256:
        raise StoreError(
            f"{place} has SHA-256 {found}, its manifest says {output.sha256}; run its asset again"
        )


def _has_all(folder: Path, outputs: Sequence[Output]) -> bool:
    try:
        return all((folder / output.path).stat().st_size == output.bytes for output in outputs)
    except (FileNotFoundError, NotADirectoryError):
        return False
