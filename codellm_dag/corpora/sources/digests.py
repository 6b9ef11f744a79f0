"""SHA-256 of many files, remembered for large folders so that asking again is fast.

Up to 64 MB (the standard library has 11) the files are simply read: 0.1 s. Beyond that the digests are kept
in the user's cache folder by path, size and modification time, as git's index does; a file changed within two
seconds before it was remembered is read again, because a later change could bear the same time.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from codellm_dag.corpora.errors import CorpusError
from codellm_dag.corpora.packages import file_sha256

REMEMBER_FROM_BYTES = 64_000_000
_RACY_NANOSECONDS = 2_000_000_000


def file_digests(
    root: Path, paths: Sequence[str], remember_from: int = REMEMBER_FROM_BYTES
) -> list[tuple[str, str]]:
    """Path and SHA-256 (hex) of each file below ``root``, in the order of ``paths``.

    Raises CorpusError that names a file that cannot be read.
    """
    try:
        stats = {path: (root / path).stat() for path in paths}
        if sum(stat.st_size for stat in stats.values()) < remember_from:
            return [(path, file_sha256(root / path)) for path in paths]
        return _remembered(root, stats)
    except OSError as error:
        raise CorpusError(
            f"{error.filename}: cannot be read ({error.strerror}); mend or exclude it"
        ) from error


def _remembered(root: Path, stats: Mapping[str, os.stat_result]) -> list[tuple[str, str]]:
    memory = _cache_file(root)
    known = _load(memory)
    entries: dict[str, list[str | int]] = {}
    fresh = False
    for path, stat in stats.items():
        key = [stat.st_size, stat.st_mtime_ns]
        entry = known.get(path)
        if not entry or entry[:2] != key or entry[3] - stat.st_mtime_ns < _RACY_NANOSECONDS:
            entry = [*key, file_sha256(root / path), time.time_ns()]
            fresh = True
        entries[path] = entry
    if fresh:
        _save(memory, entries)
    return [(path, str(entries[path][2])) for path in stats]


def _cache_file(root: Path) -> Path:
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    name = hashlib.sha256(str(root.resolve()).encode("utf-8", "surrogateescape")).hexdigest()[:32]
    return home / "codellm-dag" / "digests" / f"{name}.json"


def _load(memory: Path) -> dict[str, list]:
    try:
        known = json.loads(memory.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _save(memory: Path, entries: Mapping[str, list]) -> None:
    """Keep the digests; a cache folder that cannot be written costs time, not the run."""
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        draft = memory.with_name(f"{memory.name}.{os.getpid()}")
        draft.write_text(json.dumps(entries), encoding="utf-8")
        draft.replace(memory)
    except OSError:
        return
