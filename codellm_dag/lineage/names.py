"""Asset partitions as a person writes them: ``clean_corpus[python]`` or ``clean_corpus/python``."""

from __future__ import annotations

from collections.abc import Sequence

from codellm_dag.lineage.errors import LineageError
from codellm_dag.lineage.graph import label
from codellm_dag.store import Ref, Store


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
        return f"no asset {text!r}: {store.url} is empty; `codellm-dag demo` fills it"
    asset = text.replace("/", "[").partition("[")[0]
    of_asset = of_asset or [ref for ref in refs if ref.asset == asset]
    if of_asset:
        names = ", ".join(label(ref.asset, ref.partition) for ref in of_asset)
        problem = "has several partitions" if text.strip() == asset else "has no such partition"
        return f"{text!r}: asset {asset} {problem}; there are: {names}"
    assets = ", ".join(dict.fromkeys(ref.asset for ref in refs))
    return f"no asset {text!r} in {store.url}; there are: {assets}"
