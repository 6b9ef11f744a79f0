"""The store as a Dagster resource."""

from __future__ import annotations

import os

import dagster as dg
from pydantic import Field, PrivateAttr

from codellm_dag.store import Store

STORE_VARIABLE = "CODELLM_STORE"
DEFAULT_STORE = ".codellm-dag/store"


def default_store_url() -> str:
    """CODELLM_STORE, or ``.codellm-dag/store`` below the working directory."""
    return os.environ.get(STORE_VARIABLE) or DEFAULT_STORE


class StoreResource(dg.ConfigurableResource):
    """Where artifacts lie. S3 credentials and endpoint come from AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, …"""

    url: str = Field(
        default="",
        description="/path, ./path, file:///path or s3://bucket/prefix. Empty: CODELLM_STORE, or "
        f"{DEFAULT_STORE} below the working directory.",
    )
    _store: Store | None = PrivateAttr(default=None)

    def open(self) -> Store:
        """The store; the same object for the life of the resource. Raises InvalidStoreURLError."""
        if self._store is None:
            self._store = Store(self.url or default_store_url())
        return self._store
