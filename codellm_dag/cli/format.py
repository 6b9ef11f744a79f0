"""Numbers, times and digests as text for people."""

from __future__ import annotations

from typing import Any

from codellm_dag.lineage.scores import Score


def number(value: float | None) -> str:
    """A score: three decimals."""
    return "–" if value is None else f"{value:.3f}"


def interval(score: Score) -> str:
    """The confidence interval: ``[0.101, 0.151]``; a dash where one unit allows none."""
    if score.ci_low is None or score.ci_high is None:
        return "–"
    return f"[{number(score.ci_low)}, {number(score.ci_high)}]"


def digest(text: str) -> str:
    """The first eight digits, as ids have."""
    return text[:8]


def duration(seconds: float) -> str:
    """``0.4 s``, ``12 s``, ``3 min 20 s``, ``2 h 05 min``."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def size(count: float) -> str:
    """Bytes with three digits: ``512 B``, ``11.4 MB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 99.95 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def hours(value: float) -> str:
    """Device-hours: ``<0.001``, ``0.021``, ``3.50``, ``120``."""
    if value < 0.0005:
        return "0" if value == 0 else "<0.001"
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}" if value >= 1 else f"{value:.3f}"


def value(item: Any, longest: int = 60) -> str:
    """A recipe's value on one line, cut if it is long."""
    text = item if isinstance(item, str) else _plain(item)
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _plain(item: Any) -> str:
    if isinstance(item, bool) or item is None:
        return {True: "yes", False: "no", None: "none"}[item]
    if isinstance(item, float):
        return f"{item:g}"
    if isinstance(item, dict):
        return "{" + ", ".join(f"{key}: {_plain(member)}" for key, member in item.items()) + "}"
    if isinstance(item, list | tuple) and any(isinstance(member, dict) for member in item):
        return f"{len(item)} entries" if len(item) != 1 else "1 entry"
    if isinstance(item, list | tuple):
        return "[" + ", ".join(_plain(member) for member in item) + "]"
    return str(item)
