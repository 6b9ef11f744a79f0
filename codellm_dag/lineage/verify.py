"""Whether what lies in the store is what was committed: every file hashed again.

Also found: manifests that cannot be read, and names that point at an artifact that is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from codellm_dag.lineage.graph import label
from codellm_dag.store import Artifact, BadFile, Hit, Manifest, Miss, Store


@dataclass(frozen=True)
class Checked:
    """One artifact and what is wrong with it; nothing if `problems` is empty."""

    label: str
    stage: str
    fingerprint: str
    files: int
    bytes: int
    problems: tuple[BadFile, ...]

    @property
    def whole(self) -> bool:
        """Whether every file is as committed."""
        return not self.problems


def verify_all(store: Store, on_start: Callable[[str, int, int], None] | None = None) -> Iterator[Checked]:
    """Check every artifact of the store; `on_start` hears label, number and total before each."""
    places = [
        (stage, fingerprint)
        for stage in store.backend.children("artifacts")
        for fingerprint in store.backend.children(f"artifacts/{stage}")
        if "manifest.json" in store.backend.children(f"artifacts/{stage}/{fingerprint}")
    ]
    for number, (stage, fingerprint) in enumerate(places, start=1):
        if on_start:
            on_start(f"{stage} {fingerprint[:8]}", number, len(places))
        yield verify_one(store, stage, fingerprint)
    yield from _dangling(store, set(places))


def verify_one(store: Store, stage: str, fingerprint: str) -> Checked:
    """Check one artifact by its place."""
    found = store.lookup(stage, fingerprint)
    manifest = found.manifest
    if manifest is None:
        problem = BadFile("manifest.json", found.reason if isinstance(found, Miss) else "missing")
        return Checked(f"{stage} {fingerprint[:8]}", stage, fingerprint, 0, 0, (problem,))
    return _checked(manifest, _misplaced(manifest, stage, fingerprint) + store.verify(manifest))


def _misplaced(manifest: Manifest, stage: str, fingerprint: str) -> list[BadFile]:
    if (manifest.stage, manifest.fingerprint) == (stage, fingerprint):
        return []
    return [BadFile("manifest.json", f"belongs to {manifest.stage} {manifest.fingerprint[:12]}")]


def _checked(manifest: Manifest, problems: list[BadFile]) -> Checked:
    return Checked(
        label=label(manifest.name, manifest.partition),
        stage=manifest.stage,
        fingerprint=manifest.fingerprint,
        files=len(manifest.outputs),
        bytes=manifest.bytes,
        problems=tuple(problems),
    )


def _dangling(store: Store, places: set[tuple[str, str]]) -> Iterator[Checked]:
    """Names that point at nothing."""
    for ref in store.refs.all():
        artifact = ref.artifact
        if (artifact.stage, artifact.fingerprint) not in places:
            yield _gone(store, label(ref.asset, ref.partition), artifact)


def _gone(store: Store, name: str, artifact: Artifact) -> Checked:
    found = store.lookup(artifact.stage, artifact.fingerprint)
    reason = "is there" if isinstance(found, Hit) else found.reason
    problem = BadFile("manifest.json", f"{name} points at it, but {reason}")
    return Checked(name, artifact.stage, artifact.fingerprint, 0, 0, (problem,))
