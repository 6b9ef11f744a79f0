"""The files a stage wrote: listed, checked, hashed and made durable.

Refused: pickles (loading one runs code), links and special files, and an empty result.
"""

from __future__ import annotations

import hashlib
import os
import stat
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from codellm_dag.store.errors import InvalidOutputError
from codellm_dag.store.fingerprint import content_digest
from codellm_dag.store.manifest import VOLATILE, Output

_PICKLES = (".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".joblib", ".dill")
_PICKLED_NAMES = (
    "training_args.bin",
    "pytorch_model.bin",
    "optimizer.bin",
    "scheduler.bin",
    "random_states.bin",
)
_TORCH_MAGIC = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46"
_BLOCK = 1 << 20


def sha256_of(path: Path, *, sync: bool = False) -> str:
    """SHA-256 of a file's bytes, read in blocks of 1 MiB; with `sync` the file is flushed to disk too."""
    hasher = hashlib.sha256()
    with path.open("rb", buffering=0) as stream:
        while block := stream.read(_BLOCK):
            hasher.update(block)
        if sync:
            os.fsync(stream.fileno())
    return hasher.hexdigest()


def describe_outputs(folder: Path) -> list[Output]:
    """All files below `folder`, sorted by path, each flushed to disk and hashed.

    Raises InvalidOutputError for a file an artifact must not hold, or if no file counts as a result.
    """
    outputs = []
    for path in _files(folder, ""):
        _refuse_pickle(path, folder / path)
        outputs.append(
            Output(
                path=path,
                bytes=(folder / path).stat().st_size,
                sha256=sha256_of(folder / path, sync=True),
                volatile=path.split("/")[0] == VOLATILE,
            )
        )
    if not any(not output.volatile for output in outputs):
        raise InvalidOutputError(
            f"the stage wrote no result; it must write at least one file below `out`, outside {VOLATILE}/"
        )
    return outputs


def digest_of(outputs: Sequence[Output]) -> str:
    """The content digest of an artifact: over its files that are not volatile."""
    return content_digest((output.path, output.sha256) for output in outputs if not output.volatile)


def protect(folder: Path, outputs: Sequence[Output]) -> None:
    """Take the right to write from committed files, so that a careless reader cannot damage them."""
    for output in outputs:
        (folder / output.path).chmod(0o444)


def _files(folder: Path, prefix: str) -> Iterator[str]:
    for entry in sorted(os.scandir(folder), key=lambda item: item.name):
        name = f"{prefix}{entry.name}"
        mode = entry.stat(follow_symlinks=False).st_mode
        try:
            name.encode("utf-8")
        except UnicodeEncodeError as error:
            raise InvalidOutputError(
                f"the output {name!r} has a name that is not UTF-8; rename it"
            ) from error
        if stat.S_ISDIR(mode):
            yield from _files(Path(entry.path), f"{name}/")
        elif stat.S_ISREG(mode):
            yield name
        else:
            raise InvalidOutputError(
                f"the output {name} is a link or special file; write a regular file instead"
            )


def _refuse_pickle(name: str, path: Path) -> None:
    base = name.rsplit("/", 1)[-1].lower()
    if base.endswith(_PICKLES) or base in _PICKLED_NAMES or (base.endswith(".bin") and _is_torch_file(path)):
        raise InvalidOutputError(
            f"the output {name} is a pickle, and reading a pickle runs code; "
            "write safetensors, JSON or Parquet instead (checkpoints to resume from go to report.resume_dir)"
        )


def _is_torch_file(path: Path) -> bool:
    """Whether a ``.bin`` is what torch.save writes: a zip, or its old format with a magic number."""
    with path.open("rb") as stream:
        head = stream.read(len(_TORCH_MAGIC))
    return head == _TORCH_MAGIC or (head.startswith(b"PK\x03\x04") and zipfile.is_zipfile(path))
