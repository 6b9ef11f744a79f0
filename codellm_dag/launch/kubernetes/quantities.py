"""Kubernetes quantities (``500m``, ``4``, ``16Gi``, ``1000G``) as exact numbers."""

from __future__ import annotations

import re
from fractions import Fraction

_UNITS = {"": Fraction(1), "m": Fraction(1, 1000)}
_UNITS |= {unit: Fraction(1000**power) for power, unit in enumerate("kMGTPE", start=1)}
_UNITS |= {f"{unit}i": Fraction(1024**power) for power, unit in enumerate("KMGTPE", start=1)}

_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]+)?)([KMGTPE]i|[mkMGTPE])?")


def quantity(text: object) -> Fraction:
    """The number that a quantity is. Raises ValueError for what is none (a YAML number is one, too)."""
    match = _QUANTITY.fullmatch(str(text))
    if match is None:
        raise ValueError(f"{text!r} is no quantity such as 500m, 4, 16Gi or 1000G")
    return Fraction(match[1]) * _UNITS[match[2] or ""]
