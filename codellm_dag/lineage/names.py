"""Asset partitions as a person writes them: ``clean_corpus[python]`` or ``clean_corpus/python``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from codellm_dag.lineage.errors import LineageError
from codellm_dag.lineage.graph import label
from codellm_dag.store import Artifact, Ref, Store

_HEX = re.compile(r"[0-9a-f]{4,64}")


def place(store: Store) -> str:
    """The store as a person would type it: a path, relative if it lies below the working directory."""
    if not store.is_local:
        return store.url
    root, here = store.work_root, Path.cwd()
    return str(root.relative_to(here)) if root.is_relative_to(here) else str(root)


def find_ref(store: Store, text: str) -> Ref:
    """The asset partition that `text` names.

    An asset with a single partition needs no partition in the name. Raises LineageError, listing what there
    is, for anything else that is not in the store.
    """
    refs = store.refs.all()
    exact = [ref for ref in refs if text.strip() in _spellings(ref)]
    if len(exact) == 1:
        return exact[0]
    of_asset = [ref for ref in refs if ref.asset == text.strip()]
    if len(of_asset) == 1:
        return of_asset[0]
    raise LineageError(_not_found(store, text, refs, of_asset))


def _spellings(ref: Ref) -> set[str]:
    return {label(ref.asset, ref.partition), f"{ref.asset}/{ref.partition}" if ref.partition else ref.asset}


def _not_found(store: Store, text: str, refs: Sequence[Ref], of_asset: Sequence[Ref]) -> str:
    if not refs:
        return f"no asset {text!r}: {place(store)} is empty; `codellm-dag demo` fills it"
    asset = text.replace("/", "[").partition("[")[0]
    of_asset = of_asset or [ref for ref in refs if ref.asset == asset]
    if of_asset:
        names = ", ".join(label(ref.asset, ref.partition) for ref in of_asset)
        problem = "has several partitions" if text.strip() == asset else "has no such partition"
        return f"{text!r}: asset {asset} {problem}; there are: {names}"
    assets = ", ".join(dict.fromkeys(ref.asset for ref in refs))
    return f"no asset {text!r} in {place(store)}; there are: {assets}"


def find_artifact(store: Store, text: str) -> Artifact:
    """The artifact that a score id, an asset partition or the beginning of a fingerprint names.

    Raises LineageError, and StoreError for digits that begin no or several fingerprints.
    """
    digits = text.strip().lower().partition("/")[0].partition(":")[0]
    if _HEX.fullmatch(digits):
        return store.artifact(digits)
    return find_ref(store, text).artifact
