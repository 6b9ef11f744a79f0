"""Canonical JSON and the digests built on it: the identity of a computation and of a result.

*Fingerprint*: SHA-256 of the canonical JSON of what determines a computation. *Content digest*: SHA-256 of
the canonical JSON of ``[[path, sha256], …]``, a two-level Merkle hash over a result's files. Two values have
the same canonical JSON only if they are the same: ``1`` and ``1.0``, ``0.0`` and ``-0.0``, and two Unicode
spellings of one letter all differ. What has no exact JSON form is an error, never a ``str()`` of it.

Not covered here: which values make up a computation (`codellm_dag/launch/identity.py`) and how code becomes
a digest (`code.py`).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

from codellm_dag.store.errors import CanonicalError

_SCALARS = (type(None), bool, int, str)


def canonical_json(value: Any) -> bytes:
    """UTF-8 JSON of `value` with sorted keys and no spaces; floats in Python's shortest exact form.

    Allowed: None, bool, int, finite float, str without lone surrogates, list or tuple, dict with str keys;
    exactly these types, no subclasses (so NumPy scalars and enums are refused). Raises CanonicalError that
    names the place in `value`, the type or value found, and what is allowed.
    """
    _check(value, "")
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.encode("utf-8")


def digest(value: Any) -> str:
    """SHA-256 (64 lower-case hex digits) of the canonical JSON of `value`."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def content_digest(files: Mapping[str, str] | Iterable[tuple[str, str]]) -> str:
    """The identity of a result: a hash over ``path -> SHA-256 of its bytes``, whatever the order given.

    Paths are relative, with ``/`` between the parts.
    """
    pairs = files.items() if isinstance(files, Mapping) else files
    return digest(sorted([path, sha256] for path, sha256 in pairs))


def _check(value: Any, where: str) -> None:
    kind = type(value)
    if kind is dict:
        for key, item in value.items():
            if type(key) is not str:
                raise _refusal(where, f"a key of type {_name(key)}", "str keys")
            _check_text(key, f"{where} key")
            _check(item, f"{where}.{key}" if where else key)
    elif kind in (list, tuple):
        for index, item in enumerate(value):
            _check(item, f"{where}[{index}]")
    elif kind is float:
        if not math.isfinite(value):
            raise _refusal(where, f"the value {value}", "finite floats")
    elif kind not in _SCALARS:
        allowed = "None, bool, int, float, str, list, tuple and dict"
        raise _refusal(where, f"a value of type {_name(value)}", f"{allowed} (no subclasses)")
    elif kind is str:
        _check_text(value, where)


def _check_text(text: str, where: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise _refusal(
            where, f"the text {text!r}", "text that UTF-8 can carry (no lone surrogates)"
        ) from error


def _refusal(where: str, found: str, allowed: str) -> CanonicalError:
    return CanonicalError(
        f"{where or 'the value'} holds {found}, which has no canonical form; allowed: {allowed}"
    )


def _name(value: Any) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
