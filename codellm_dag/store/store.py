"""The store: artifacts that are published whole or not at all, and found only if they are all there.

Layout below the store's address::

    artifacts/<stage>/<fingerprint>/manifest.json             written last, by one conditional create
    artifacts/<stage>/<fingerprint>/manifest.<n>.damaged      a manifest whose files were damaged, replaced
    artifacts/<stage>/<fingerprint>/attempts/<attempt>/…      the files, each attempt under its own name
    refs/  decisions/  ledger/                                see records.py
    launches/  messages/  resume/                             remote attempts; see launch/remote.py

The first commit of a fingerprint wins; whoever loses gets the winner's artifact. Killing a writer anywhere
leaves no manifest or a whole one. Not covered: deciding what to compute (`codellm_dag/launch`) and deleting
what nothing reaches.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from codellm_dag.store.backend import DiskBackend
from codellm_dag.store.download import cached_folder
from codellm_dag.store.errors import StoreError
from codellm_dag.store.findings import BadFile, Hit, Miss, bad_files, missing_output, parse_manifest
from codellm_dag.store.fingerprint import digest
from codellm_dag.store.location import open_backend
from codellm_dag.store.manifest import Artifact, Manifest, Output, to_json
from codellm_dag.store.outputs import describe_outputs, digest_of, protect
from codellm_dag.store.paths import attempt_prefix, cache_root, manifest_path
from codellm_dag.store.records import Decisions, Ledger, Refs, new_id

_HEX = re.compile(r"[0-9a-f]{4,64}")


class Store:
    """A place for artifacts: ``/path``, ``file:///path`` or ``s3://bucket/prefix``.

    Opening it touches nothing; `check` finds out whether it works. Raises InvalidStoreURLError.
    """

    def __init__(self, url: str | Path, options: Mapping[str, Any] | None = None) -> None:
        self.backend = open_backend(url, options)
        self.url = self.backend.url
        self.refs = Refs(self.backend)
        self.decisions = Decisions(self.backend)
        self.ledger = Ledger(self.backend)

    def __repr__(self) -> str:
        return f"Store({self.url!r})"

    @property
    def is_local(self) -> bool:
        """Whether artifacts are folders on this machine."""
        return isinstance(self.backend, DiskBackend)

    @property
    def work_root(self) -> Path:
        """This machine's folder for unfinished work of this store."""
        if isinstance(self.backend, DiskBackend):
            return self.backend.root
        return cache_root() / "stores" / digest(self.url)[:16]

    def check(self) -> None:
        """Raise StoreError, with the cause and the next step, unless the store can be used."""
        self.backend.check()

    def lookup(self, stage: str, fingerprint: str) -> Hit | Miss:
        """Prove that a computation's result is there; else say exactly what is missing."""
        return self._examine(stage, fingerprint)[0]

    def _examine(self, stage: str, fingerprint: str) -> tuple[Hit | Miss, bytes]:
        """The finding and the very bytes of the manifest it is about."""
        try:
            data = self.backend.read(manifest_path(stage, fingerprint))
        except FileNotFoundError:
            return Miss("never computed"), b""
        try:
            manifest = parse_manifest(data)
        except ValueError as error:
            return Miss(f"manifest.json cannot be read: {error}", damaged=True), data
        problem = missing_output(self.backend, manifest)
        if problem:
            return Miss(problem, damaged=True, manifest=manifest), data
        return Hit(manifest.artifact, manifest), data

    def artifact(self, fingerprint: str) -> Artifact:
        """The artifact with this fingerprint, or a unique beginning of it (4 digits or more)."""
        return self.manifest(fingerprint).artifact

    def manifest(self, fingerprint: str | Artifact) -> Manifest:
        """The manifest of an artifact or fingerprint. Raises StoreError if there is none or several."""
        if isinstance(fingerprint, Artifact):
            place = manifest_path(fingerprint.stage, fingerprint.fingerprint)
        else:
            place = self._find(fingerprint)
        try:
            return parse_manifest(self.backend.read(place))
        except FileNotFoundError:
            raise StoreError(f"{self.url} has no {place}; it was deleted, or this is another store") from None
        except ValueError as error:
            raise StoreError(f"{self.url}/{place} cannot be read: {error}") from error

    def manifests(self, stage: str | None = None) -> Iterator[Manifest]:
        """Every manifest that can be read, of all stages or one, by stage and fingerprint."""
        for name in [stage] if stage else self.backend.children("artifacts"):
            fingerprints = self.backend.children(f"artifacts/{name}")
            for data in self.backend.read_many([manifest_path(name, item) for item in fingerprints]):
                with contextlib.suppress(ValueError):
                    yield parse_manifest(data)

    def new_attempt(self, stage: str, fingerprint: str) -> tuple[str, Path]:
        """A fresh attempt: its id, and the empty local folder its stage writes to."""
        attempt = new_id()
        if isinstance(self.backend, DiskBackend):
            folder = self.backend.local(attempt_prefix(stage, fingerprint, attempt))
        else:
            folder = self.work_root / "work" / fingerprint / "attempts" / attempt / "out"
        folder.mkdir(parents=True)
        return attempt, folder

    def publish(
        self, draft: Manifest, folder: Path | None = None, outputs: Sequence[Output] | None = None
    ) -> tuple[Manifest, bool]:
        """Commit an attempt: its files, then the manifest. Returns the committed one and whether it is ours.

        `folder` is what `new_attempt` gave; its files are hashed and, for S3, uploaded. A remote attempt that
        uploaded its files itself gives `outputs` instead. `draft`'s outputs and content digest are filled in
        here. If another attempt was first, our files are removed and its manifest is returned; if what is
        there is damaged, it is replaced. Raises InvalidOutputError and StoreError.
        """
        if outputs is None:
            if folder is None:
                raise ValueError("publish needs the attempt's folder or its outputs")
            outputs = self.upload(draft, folder)
        manifest = draft.model_copy(update={"outputs": list(outputs), "content_digest": digest_of(outputs)})
        if folder is None or not self.is_local:
            self._prove(manifest)
        winner = self._commit(manifest)
        ours = winner.attempt == manifest.attempt
        if not ours:
            self.backend.delete(attempt_prefix(draft.stage, draft.fingerprint, draft.attempt))
        return winner, ours

    def upload(self, draft: Manifest, folder: Path) -> list[Output]:
        """Hash an attempt's files and bring them to their place in the store, if they are not there yet."""
        outputs = describe_outputs(folder)
        prefix = attempt_prefix(draft.stage, draft.fingerprint, draft.attempt)
        if isinstance(self.backend, DiskBackend) and folder == self.backend.local(prefix):
            protect(folder, outputs)
        else:
            self.backend.upload(folder, prefix, [output.path for output in outputs])
        return outputs

    def _prove(self, manifest: Manifest) -> None:
        """Raise StoreError unless the files to be committed are where they must be."""
        problem = missing_output(self.backend, manifest)
        if problem:
            raise StoreError(f"{self.url}: after the upload, {problem}; nothing was committed")

    def _commit(self, manifest: Manifest) -> Manifest:
        place, data = manifest_path(manifest.stage, manifest.fingerprint), to_json(manifest)
        for _ in range(100):
            if self.backend.create(place, data):
                return manifest
            found, old = self._examine(manifest.stage, manifest.fingerprint)
            if isinstance(found, Hit):
                return found.manifest
            if found.damaged and self._replace(place, data, old, found.manifest):
                return manifest
        raise StoreError(f"{self.url}/{place} keeps changing; is something else writing to this store?")

    def _replace(self, place: str, data: bytes, old: bytes, damaged: Manifest | None) -> bool:
        """Swap the damaged manifest `old` for ours, keeping it beside ours; False if someone was faster."""
        folder = place.rsplit("/", 1)[0]
        number = sum(name.endswith(".damaged") for name in self.backend.children(folder))
        while not self.backend.create(f"{folder}/manifest.{number}.damaged", old):
            number += 1
        if not self.backend.swap(place, data, old):
            return False
        if damaged is not None:
            self.backend.delete(f"{folder}/attempts/{damaged.attempt}")
        return True

    def discard(self, stage: str, fingerprint: str, attempt: str) -> None:
        """Remove the files of an attempt that will not be committed."""
        self.backend.delete(attempt_prefix(stage, fingerprint, attempt))

    def attempts(self, stage: str, fingerprint: str) -> list[str]:
        """Ids of the attempts that have files here, committed or not."""
        return self.backend.children(f"artifacts/{stage}/{fingerprint}/attempts")

    def local_path(self, artifact: Artifact) -> Path:
        """A local folder with the artifact's files; treat it as read-only.

        The artifact's own folder on a disk. From S3 its files (not the volatile ones) are downloaded once
        into a cache keyed by content digest, each checked against its SHA-256. Raises StoreError.
        """
        manifest = self.manifest(artifact)
        if isinstance(self.backend, DiskBackend):
            return self.backend.local(attempt_prefix(manifest.stage, manifest.fingerprint, manifest.attempt))
        return cached_folder(self.backend, manifest)

    def verify(self, artifact: Artifact | Manifest) -> list[BadFile]:
        """Hash everything again: the files that are missing or changed, none if all is as committed."""
        manifest = artifact if isinstance(artifact, Manifest) else self.manifest(artifact)
        return bad_files(self.backend, manifest)

    def _find(self, fingerprint: str) -> str:
        if not _HEX.fullmatch(fingerprint):
            raise StoreError(f"{fingerprint!r} is not a fingerprint; give 4 to 64 hexadecimal digits")
        found = [
            manifest_path(stage, name)
            for stage in self.backend.children("artifacts")
            for name in self.backend.children(f"artifacts/{stage}")
            if name.startswith(fingerprint)
        ]
        if len(found) != 1:
            many = "no artifact" if not found else f"{len(found)} artifacts"
            raise StoreError(f"{self.url} has {many} with a fingerprint that begins with {fingerprint}")
        return found[0]
