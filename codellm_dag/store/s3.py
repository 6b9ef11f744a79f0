"""The store's bytes on S3, through s3fs.

`create` is PutObject with ``If-None-Match: *`` and `swap` PutObject with ``If-Match: <ETag>``; the server
decides who wins. Servers without conditional writes (some old S3 look-alikes) accept both writers: `check`
finds that out. Credentials and endpoint come from botocore's own settings (``AWS_ACCESS_KEY_ID``,
``AWS_PROFILE``, ``AWS_ENDPOINT_URL``, …) and are never printed.
"""

from __future__ import annotations

import contextlib
import functools
import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from codellm_dag.store.errors import StoreError

_CONFLICTS = ("PreconditionFailed", "ConditionalRequestConflict", "412", "409")
_Result = TypeVar("_Result")


class S3Backend:
    """A prefix of a bucket."""

    def __init__(self, bucket: str, prefix: str, options: Mapping[str, Any] | None = None) -> None:
        self.bucket = bucket
        self.prefix = prefix.strip("/")
        self.url = f"s3://{bucket}/{self.prefix}".rstrip("/")
        self._options = dict(options or {})
        self._client: tuple[int, Any] | None = None

    @property
    def _fs(self) -> Any:
        """The client of this process; a fork needs another, since the event loop's thread stays behind."""
        if self._client is None or self._client[0] != os.getpid():
            import s3fs  # half a second, and only a store on S3 needs it

            # No listing cache: another process' commit must be seen. An instance of our own, so that
            # nobody else's settings are shared.
            fs = s3fs.S3FileSystem(use_listings_cache=False, skip_instance_cache=True, **self._options)
            self._client = (os.getpid(), fs)
        return self._client[1]

    def _full(self, path: str) -> str:
        return "/".join(part for part in (self.bucket, self.prefix, path) if part)

    def check(self) -> None:
        """Raise StoreError unless the bucket can be listed and honours a conditional write."""
        path = f".probe/{uuid.uuid4().hex}"
        if not self.create(path, b"probe"):
            raise StoreError(f"{self.url}: a new name was refused as taken; is the bucket versioned oddly?")
        try:
            if self.create(path, b"again"):
                raise StoreError(
                    f"{self.url}: this server ignores If-None-Match, so two runs could both commit; "
                    "use a server with conditional writes (AWS S3, MinIO, Ceph Reef or later)"
                )
        finally:
            self.delete(path)

    def read(self, path: str) -> bytes:
        return self._call("read", lambda: self._fs.cat_file(self._full(path)))

    def read_many(self, paths: Sequence[str]) -> list[bytes]:
        if not paths:
            return []
        names = [
            self._full(path) for path in paths
        ]  # none of our records has a pattern's letters in its name
        found = self._call("read", lambda: self._fs.cat(names, on_error="return"))
        for answer in found.values():
            if isinstance(answer, Exception) and not isinstance(answer, FileNotFoundError):
                with self._errors("read"):
                    raise answer
        return [found[name] for name in names if isinstance(found.get(name), bytes)]

    def create(self, path: str, data: bytes) -> bool:
        return self._conditional(path, lambda full: self._fs.pipe_file(full, data, mode="create"))

    def swap(self, path: str, data: bytes, expected: bytes) -> bool:
        try:
            info = self._call("read", lambda: self._fs.info(self._full(path)))
            if self.read(path) != expected:
                return False
        except FileNotFoundError:
            return False
        tag = info["ETag"]
        try:
            return self._conditional(path, lambda full: self._fs.pipe_file(full, data, IfMatch=tag))
        except FileNotFoundError:
            return False

    def put(self, path: str, data: bytes) -> None:
        self._call("write", lambda: self._fs.pipe_file(self._full(path), data))

    def sizes(self, prefix: str) -> dict[str, int]:
        full = self._full(prefix)
        found = self._call("list", lambda: self._fs.find(full, detail=True), missing={})
        return {
            name[len(full) + 1 :]: int(info["size"])
            for name, info in found.items()
            if name.startswith(f"{full}/")
        }

    def children(self, prefix: str) -> list[str]:
        full = self._full(prefix)
        names = self._call("list", lambda: self._fs.ls(full, detail=False), missing=[])
        return sorted({name[len(full) + 1 :].split("/")[0] for name in names if name.startswith(f"{full}/")})

    def delete(self, path: str) -> None:
        full = self._full(path)
        for name in [*(f"{full}/{name}" for name in self.sizes(path)), full]:
            # one by one: s3fs' bulk delete reads '*' and '[' in names as patterns
            self._call("delete", functools.partial(self._fs.rm_file, name), missing=None)

    def upload(self, folder: Path, prefix: str, paths: Sequence[str]) -> None:
        if paths:
            sources = [str(folder / path) for path in paths]
            targets = [self._full(f"{prefix}/{path}") for path in paths]
            self._call("write", lambda: self._fs.put(sources, targets))

    def download(self, prefix: str, path: str, target: Path) -> None:
        self._call("read", lambda: self._fs.get_file(self._full(f"{prefix}/{path}"), str(target)))

    def _conditional(self, path: str, write: Callable[[str], Any]) -> bool:
        try:
            self._call("write", lambda: write(self._full(path)))
        except _Conflict:
            return False
        return True

    def _call(self, act: str, action: Callable[[], _Result], **missing: _Result) -> _Result:
        with self._errors(act):
            try:
                return action()
            except FileNotFoundError as error:
                if "missing" in missing and _code(error) != "NoSuchBucket":
                    return missing["missing"]
                raise

    @contextlib.contextmanager
    def _errors(self, act: str) -> Iterator[None]:
        """Turn the client's errors into one sentence each, none of which can hold a key."""
        try:
            yield
        except Exception as error:
            kind, code = type(error).__name__, _code(error)
            if isinstance(error, FileExistsError) or code in _CONFLICTS:
                raise _Conflict from error
            if code == "NoSuchBucket":
                reason = f"there is no bucket {self.bucket!r}; create it, or correct --store"
            elif isinstance(error, FileNotFoundError):
                raise
            elif kind in ("NoCredentialsError", "PartialCredentialsError"):
                reason = "no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
            elif isinstance(error, PermissionError):
                reason = (
                    f"access denied ({code or 'forbidden'}); check the credentials' rights on {self.bucket!r}"
                )
            elif kind in ("EndpointConnectionError", "ConnectTimeoutError", "ConnectionClosedError"):
                reason = "the server does not answer; check AWS_ENDPOINT_URL and the network"
            elif isinstance(error, OSError) or code:
                reason = f"{code or kind}"
            else:
                raise
            raise StoreError(f"cannot {act} {self.url}: {reason}") from error


class _Conflict(Exception):
    """A conditional write was refused."""


def _code(error: BaseException) -> str:
    """The S3 error code behind an exception, or the empty string."""
    for candidate in (error, error.__cause__):
        response = getattr(candidate, "response", None)
        if isinstance(response, Mapping):
            return str(response.get("Error", {}).get("Code", ""))
    return ""
