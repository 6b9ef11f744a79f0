"""From a store's address to the backend that keeps its bytes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from codellm_dag.store.backend import Backend, DiskBackend
from codellm_dag.store.errors import InvalidStoreURLError
from codellm_dag.store.s3 import S3Backend

_ALLOWED = "a folder (/path or ./path), file:///path, or s3://bucket/prefix"
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.\-]{1,61}[a-z0-9]")


def open_backend(url: str | Path, options: Mapping[str, Any] | None = None) -> Backend:
    """The backend for an address. Nothing is contacted or created. Raises InvalidStoreURLError.

    `options` go to s3fs (e.g. ``endpoint_url``).
    """
    text = str(url)
    if not text.strip():
        raise InvalidStoreURLError(f"the store's address is empty; allowed: {_ALLOWED}")
    if "://" not in text:
        return DiskBackend(Path(text).expanduser().absolute())
    parts = urlsplit(text)
    if "@" in text or (parts.scheme == "s3" and ":" in parts.netloc):
        raise InvalidStoreURLError(
            f"the store's address ({parts.scheme}://…) holds credentials, which would end up in logs; "
            "give them as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    if parts.query or parts.fragment:
        raise InvalidStoreURLError(
            f"the store's address {parts.scheme}://… has a '?' or '#'; allowed: {_ALLOWED}"
        )
    if parts.scheme == "file":
        return _disk(text, parts.netloc, unquote(parts.path))
    if parts.scheme == "s3":
        return _s3(parts.netloc, unquote(parts.path), options)
    raise InvalidStoreURLError(f"the store's address begins with {parts.scheme}://; allowed: {_ALLOWED}")


def _disk(text: str, host: str, path: str) -> DiskBackend:
    if host not in ("", "localhost") or not path.startswith("/"):
        raise InvalidStoreURLError(
            f"the store's address {text!r} names a host; write file:///path (three slashes)"
        )
    return DiskBackend(Path(path))


def _s3(bucket: str, path: str, options: Mapping[str, Any] | None) -> S3Backend:
    if not _BUCKET.fullmatch(bucket):
        raise InvalidStoreURLError(
            f"the store's address names the bucket {bucket!r}; a bucket has 3 to 63 of a-z, 0-9, '-' and '.'"
        )
    return S3Backend(bucket, path, options)
