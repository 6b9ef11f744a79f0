"""Names and labels of a group: derived from stage, fingerprint and attempt, so that anyone finds it again.

A label's value has at most 63 of a few characters; what does not fit is shortened and made unique by a
digest, and stands whole in an annotation.
"""

from __future__ import annotations

import hashlib
import re

MANAGED_BY = "app.kubernetes.io/managed-by"
"""Label by which all our objects are found; its value is `MANAGER`."""
MANAGER = "codellm-dag"

PREFIX = "codellm-dag/"
GROUP = f"{PREFIX}group"
STAGE = f"{PREFIX}stage"
FINGERPRINT = f"{PREFIX}fingerprint"
ATTEMPT = f"{PREFIX}attempt"
ASSET = f"{PREFIX}asset"
PARTITION = f"{PREFIX}partition"
RUN = f"{PREFIX}run"
OWNER = f"{PREFIX}owner"
SANDBOX = f"{PREFIX}sandbox"
RECORD = f"{PREFIX}record"
STORE = f"{PREFIX}store"

CONTAINER = "stage"
"""Name of the container that runs the stage."""

MAX_GROUP_NAME = 52
"""So that ``<group>-<index>``, a pod's host name, and what controllers put behind it fit in 63."""

_FINGERPRINT_DIGITS = 12
_LABEL_DIGITS = 40
_MAX_LABEL = 63
_DIGEST = 8


def group_name(stage: str, fingerprint: str, attempt: str) -> str:
    """``pretrained-checkpoint-0123456789ab-a1``: a DNS label of at most 52 characters.

    A long stage name is shortened and keeps a digest. Raises ValueError for an attempt that is no name part.
    """
    if not re.fullmatch(r"[a-z0-9]{1,12}", attempt):
        raise ValueError(f"attempt {attempt!r}; it must be 1 to 12 of a-z and 0-9, e.g. a1")
    tail = f"-{fingerprint[:_FINGERPRINT_DIGITS]}-{attempt}"
    plain = re.sub(r"[^a-z0-9]+", "-", stage.lower()).strip("-")
    room = MAX_GROUP_NAME - len(tail)
    if len(plain) > room:
        plain = f"{plain[: room - _DIGEST - 1].rstrip('-')}-{_digest(stage)}"
    return plain + tail


def label_value(text: str) -> str:
    """`text` as a label's value: itself if it is one, else a readable part of it and a digest."""
    if re.fullmatch(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?", text):
        return text
    readable = re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-")[: _MAX_LABEL - _DIGEST - 1].strip("-")
    return f"{readable}-{_digest(text)}".lstrip("-")


def fingerprint_label(fingerprint: str) -> str:
    """The first 40 digits: all 64 are one more than a label's value may have."""
    return fingerprint[:_LABEL_DIGITS]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGEST]
