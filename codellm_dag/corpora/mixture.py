"""Stage `mixture`: the clean corpora of all languages as one, weighted, with documents held out.

Writes ``train.parquet``, ``heldout.parquet`` (schema in `documents.py`; languages in sorted order, documents
in the order they came) and ``mixture.json`` (per language documents, bytes and weight of either part).

A document is held out by the hash of its id, so it stays held out when others come or go; documents beyond
``max_heldout_bytes`` of a language are trained on. That a held-out file has a near duplicate in the training
part is the cleaning's business: within a language `clean_corpus` kept no pair that its near deduplication
found, and equal texts of two languages are dropped here. Near duplicates across languages are not looked for.
Memory: about 200 bytes a document and two row groups of text.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from codellm_dag.corpora.documents import (
    DOCUMENTS,
    DocumentWriter,
    iter_documents,
    open_documents,
)
from codellm_dag.corpora.errors import CorpusError
from codellm_dag.recipes.corpora import MixtureRecipe
from codellm_dag.stages.protocol import Inputs, Report

TRAIN = "train.parquet"
HELDOUT = "heldout.parquet"
MIXTURE = "mixture.json"


@dataclass
class _Share:
    """The documents of one language by id: bytes of those trained on and of those held out."""

    train: dict[str, int] = field(default_factory=dict)
    heldout: dict[str, int] = field(default_factory=dict)
    left_out: int = 0

    def size(self, weigh_by: str) -> int:
        """Training documents, or their bytes."""
        return sum(self.train.values()) if weigh_by == "bytes" else len(self.train)


def run(recipe: MixtureRecipe, inputs: Inputs, out: Path, report: Report) -> None:
    """Mix the corpora of slots ``corpus/<language>``.

    Raises CorpusError when there is no corpus, when no weighted language has one, or when nothing is left to
    train on.
    """
    folders = {language: artifact.path for language, artifact in inputs.many("corpus").items()}
    shares = _split(recipe, _chosen(recipe, folders, report))
    _cut(recipe, shares)
    if not any(share.train for share in shares.values()):
        raise CorpusError(
            "the mixture has no document to train on; look at weights, max_train_bytes and inputs"
        )
    _write(shares, folders, out, report)
    summary = _summary(recipe, shares)
    (out / MIXTURE).write_text(json.dumps(summary, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    for part in ("train", "heldout"):
        report.metric(**{f"{part}_{key}": summary[part][key] for key in ("documents", "bytes")})
    report.table("languages", [{"language": key, **row} for key, row in summary["languages"].items()])


def _chosen(recipe: MixtureRecipe, folders: Mapping[str, Path], report: Report) -> dict[str, Path]:
    if not folders:
        raise CorpusError("the mixture has no corpus as input; at least one language must be there")
    weighted = [entry.language for entry in recipe.weights] or list(folders)
    for language in sorted({*weighted} ^ {*folders}):
        where = "in the weights" if language in folders else "among the corpora"
        report.log(f"{language} is left out of the mixture: it is not {where}")
    chosen = {language: folder for language, folder in folders.items() if language in weighted}
    if not chosen:
        raise CorpusError(f"none of the weighted languages ({', '.join(weighted)}) has a corpus")
    return chosen


def _split(recipe: MixtureRecipe, folders: Mapping[str, Path]) -> dict[str, _Share]:
    """Training and held-out documents of each language; a text that occurred before is left out."""
    seen: set[str] = set()
    shares: dict[str, _Share] = {}
    for language, folder in folders.items():
        share = shares.setdefault(language, _Share())
        columns = open_documents(folder / DOCUMENTS).read(["document_id", "bytes"])
        for key, size in zip(columns["document_id"].to_pylist(), columns["bytes"].to_pylist(), strict=True):
            if key in seen:
                share.left_out += 1
                continue
            seen.add(key)
            share.train[key] = size
        held = 0
        for key in sorted(share.train, key=lambda key: _draw(recipe.seed, "heldout", key)):
            if _draw(recipe.seed, "heldout", key) >= recipe.heldout_fraction:
                break
            if held + share.train[key] <= recipe.max_heldout_bytes:
                share.heldout[key] = share.train.pop(key)
                held += share.heldout[key]
    return shares


def _draw(seed: int, purpose: str, document_id: str) -> float:
    """A number in [0, 1) that depends on nothing but its arguments."""
    digest = hashlib.sha256(f"{seed}:{purpose}:{document_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _cut(recipe: MixtureRecipe, shares: dict[str, _Share]) -> None:
    """Take training documents away until the shares fit the weights and the total fits the limit."""
    if recipe.weights:
        given = {entry.language: entry.weight for entry in recipe.weights}
        weights = {key: given[key] for key, share in shares.items() if share.train}
        scale = min((shares[key].size(recipe.weigh_by) / weights[key] for key in weights), default=0)
        for key, weight in weights.items():
            _keep(shares[key], scale * weight, recipe.weigh_by, recipe.seed)
    total = sum(share.size("bytes") for share in shares.values())
    if recipe.max_train_bytes and total > recipe.max_train_bytes:
        for share in shares.values():
            _keep(share, share.size("bytes") * recipe.max_train_bytes / total, "bytes", recipe.seed)


def _keep(share: _Share, limit: float, weigh_by: str, seed: int) -> None:
    """Keep documents in a random but fixed order as long as they fit into ``limit`` bytes or documents."""
    kept: dict[str, int] = {}
    room = limit * (1 + 1e-12)
    for key in sorted(share.train, key=lambda key: _draw(seed, "train", key)):
        weight = share.train[key] if weigh_by == "bytes" else 1
        if weight <= room:
            kept[key] = share.train[key]
            room -= weight
    share.left_out += len(share.train) - len(kept)
    share.train = kept


def _write(shares: Mapping[str, _Share], folders: Mapping[str, Path], out: Path, report: Report) -> None:
    with DocumentWriter(out / TRAIN) as train, DocumentWriter(out / HELDOUT) as heldout:
        for number, (language, share) in enumerate(shares.items()):
            report.progress(number, len(shares), "languages", language)
            written: set[str] = set()
            for document in iter_documents(open_documents(folders[language] / DOCUMENTS)):
                key = document.document_id
                if key in written:
                    continue
                written.add(key)
                if key in share.train:
                    train.write(document.row())
                elif key in share.heldout:
                    heldout.write(document.row())
    report.progress(len(shares), len(shares), "languages")


def _summary(recipe: MixtureRecipe, shares: Mapping[str, _Share]) -> dict[str, Any]:
    total = sum(share.size(recipe.weigh_by) for share in shares.values())
    languages = {
        language: {
            "documents": len(share.train),
            "bytes": sum(share.train.values()),
            "weight": round(share.size(recipe.weigh_by) / max(1, total), 6),
            "heldout_documents": len(share.heldout),
            "heldout_bytes": sum(share.heldout.values()),
            "left_out_documents": share.left_out,
        }
        for language, share in shares.items()
    }
    parts = {"train": ("documents", "bytes"), "heldout": ("heldout_documents", "heldout_bytes")}
    sums = {
        part: {
            name: sum(row[key] for row in languages.values())
            for name, key in zip(("documents", "bytes"), keys, strict=True)
        }
        for part, keys in parts.items()
    }
    return {"languages": languages, "weigh_by": recipe.weigh_by, **sums}
