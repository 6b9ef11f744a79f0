"""Where things lie: names inside a store and the cache folder of this machine."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from urllib.parse import quote, unquote

_LONGEST = 180
"""A longer quoted name is cut and ended with its hash, since file names hold 255 bytes."""


def cache_root() -> Path:
    """``$CODELLM_CACHE``, else ``$XDG_CACHE_HOME/codellm-dag``, else ``~/.cache/codellm-dag``."""
    own = os.environ.get("CODELLM_CACHE")
    if own:
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "codellm-dag"


def file_name(text: str) -> str:
    """A name (asset, partition) as one path part: no '/', no leading dot, at most 255 bytes, no clashes."""
    quoted = quote(text, safe="")
    if quoted.startswith("."):
        quoted = "%2E" + quoted[1:]
    if len(quoted) > _LONGEST:
        quoted = f"{quoted[:_LONGEST]}%{hashlib.sha256(text.encode()).hexdigest()[:32]}"
    return quoted or "%"


def from_file_name(name: str) -> str:
    """The text of a short name; for long names read the record inside."""
    return unquote(name)


def manifest_path(stage: str, fingerprint: str) -> str:
    """The manifest's place in a store."""
    return f"artifacts/{stage}/{fingerprint}/manifest.json"


def attempt_prefix(stage: str, fingerprint: str, attempt: str) -> str:
    """The folder of one attempt's files in a store."""
    return f"artifacts/{stage}/{fingerprint}/attempts/{attempt}"


def launch_path(stage: str, fingerprint: str, attempt: str) -> str:
    """The launch record of one remote attempt in a store."""
    return f"launches/{stage}/{fingerprint}/{attempt}.json"


def messages_prefix(stage: str, fingerprint: str, attempt: str) -> str:
    """The folder of one remote attempt's messages in a store."""
    return f"messages/{stage}/{fingerprint}/{attempt}"


def resume_prefix(stage: str, fingerprint: str) -> str:
    """The folder in a store where remote attempts at one computation keep their partial work."""
    return f"resume/{stage}/{fingerprint}"
