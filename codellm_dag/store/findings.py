"""What looking into a store can find, and how a manifest is read and held against the files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import ValidationError

from codellm_dag.store.backend import Backend, DiskBackend
from codellm_dag.store.fingerprint import digest
from codellm_dag.store.manifest import SCHEMA_VERSION, Artifact, Manifest, Output
from codellm_dag.store.outputs import digest_of, sha256_of
from codellm_dag.store.paths import attempt_prefix, cache_root
from codellm_dag.store.records import new_id


@dataclass(frozen=True)
class Hit:
    """The artifact is there: its manifest, and every file with its size."""

    artifact: Artifact
    manifest: Manifest


@dataclass(frozen=True)
class Miss:
    """It is not there, or not whole. `manifest` is the damaged artifact's, if it could be read."""

    reason: str
    damaged: bool = False
    manifest: Manifest | None = None


@dataclass(frozen=True)
class BadFile:
    """A file, or the manifest itself, that is not what was committed."""

    path: str
    problem: str


def parse_manifest(data: bytes) -> Manifest:
    """A manifest from its bytes. Raises ValueError that says what is wrong with them."""
    try:
        values = json.loads(data)
    except ValueError as error:
        raise ValueError(f"not JSON ({error})") from error
    version = values.get("schema_version") if isinstance(values, dict) else None
    if version != SCHEMA_VERSION:
        raise ValueError(f"schema_version is {version!r}, this code reads {SCHEMA_VERSION}")
    try:
        return Manifest.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"field {field}: {first['msg']}") from error


def missing_output(backend: Backend, manifest: Manifest) -> str | None:
    """The first result file that is not there with its size, as a reason; None if all are."""
    sizes = backend.sizes(_prefix(manifest))
    for output in manifest.outputs:
        problem = None if output.volatile else _size_problem(output, sizes)
        if problem:
            return f"output {output.path} {problem}"
    return None


def bad_files(backend: Backend, manifest: Manifest) -> list[BadFile]:
    """Everything that is not as committed, found by hashing all of it."""
    bad = []
    if digest(manifest.identity) != manifest.fingerprint:
        bad.append(BadFile("manifest.json", "its identity does not hash to its fingerprint"))
    if digest_of(manifest.outputs) != manifest.content_digest:
        bad.append(BadFile("manifest.json", "its outputs do not hash to its content digest"))
    sizes = backend.sizes(_prefix(manifest))
    for output in manifest.outputs:
        problem = _size_problem(output, sizes) or _hash_problem(backend, manifest, output)
        if problem:
            bad.append(BadFile(output.path, problem))
    return bad


def _prefix(manifest: Manifest) -> str:
    return attempt_prefix(manifest.stage, manifest.fingerprint, manifest.attempt)


def _size_problem(output: Output, sizes: Mapping[str, int]) -> str | None:
    if output.path not in sizes:
        return "is missing"
    if sizes[output.path] != output.bytes:
        return f"has {sizes[output.path]} bytes, its manifest says {output.bytes}"
    return None


def _hash_problem(backend: Backend, manifest: Manifest, output: Output) -> str | None:
    if isinstance(backend, DiskBackend):
        found = sha256_of(backend.local(f"{_prefix(manifest)}/{output.path}"))
    else:
        scratch = cache_root() / "verify" / new_id()
        scratch.parent.mkdir(parents=True, exist_ok=True)
        try:
            backend.download(_prefix(manifest), output.path, scratch)
            found = sha256_of(scratch)
        finally:
            scratch.unlink(missing_ok=True)
    if found == output.sha256:
        return None
    return f"has SHA-256 {found[:12]}…, the manifest says {output.sha256[:12]}…"
