"""Artifacts, their manifests and fingerprints, and the store they lie in (a folder or S3)."""

from codellm_dag.store.code import CodeDigest, code_digest
from codellm_dag.store.errors import CanonicalError, InvalidOutputError, InvalidStoreURLError, StoreError
from codellm_dag.store.findings import BadFile, Hit, Miss
from codellm_dag.store.fingerprint import canonical_json, content_digest, digest
from codellm_dag.store.manifest import (
    Artifact,
    Attempt,
    AttemptCost,
    Change,
    Decision,
    Environment,
    Label,
    Manifest,
    Output,
    Ref,
)
from codellm_dag.store.paths import cache_root
from codellm_dag.store.store import Store

__all__ = [
    "Artifact",
    "Attempt",
    "AttemptCost",
    "BadFile",
    "CanonicalError",
    "Change",
    "CodeDigest",
    "Decision",
    "Environment",
    "Hit",
    "InvalidOutputError",
    "InvalidStoreURLError",
    "Label",
    "Manifest",
    "Miss",
    "Output",
    "Ref",
    "Store",
    "StoreError",
    "cache_root",
    "canonical_json",
    "code_digest",
    "content_digest",
    "digest",
]
