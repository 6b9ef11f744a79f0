"""The plot of a scaling law: points of a ladder and the fitted curves, bits per byte over tokens, both
logarithmic.

Drawn by hand as SVG, as in `plots.py`. One colour a size; the run held out is a ring, its prediction a bar
with the interval.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

_WIDTH, _HEIGHT = 560, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 150, 30, 40
_COLOURS = ("#4f46e5", "#0891b2", "#16a34a", "#ca8a04", "#dc2626", "#9333ea", "#475569", "#db2777")
_INK, _GRID = "#44403c", "#e7e5e4"


def law_plot(language: Mapping[str, Any]) -> str | None:
    """An SVG of one language of a scaling report; None without points."""
    points: Sequence[Mapping[str, Any]] = language["points"]
    if not points:
        return None
    x = _Axis([point["tokens"] for point in points], _LEFT, _WIDTH - _RIGHT)
    y = _Axis([point["bits_per_byte"] for point in points], _HEIGHT - _BOTTOM, _TOP)
    sizes = sorted({point["parameters"] for point in points})
    drawn = [_text(_LEFT, 18, f"{language['language']}: bits per byte over training tokens", weight="bold")]
    drawn += _ticks(x, y)
    for number, size in enumerate(sizes):
        colour = _COLOURS[number % len(_COLOURS)]
        own = [point for point in points if point["parameters"] == size]
        drawn.append(
            _text(_WIDTH - _RIGHT + 16, _TOP + 14 + 18 * number, f"{size:,} parameters", fill=colour)
        )
        drawn += [_dot(x.at(p["tokens"]), y.at(p["bits_per_byte"]), colour, bool(p["held_out"])) for p in own]
        if language["law"]:
            drawn.append(_curve(language["law"], size, x, y, colour))
    if language["prediction"]:
        found = language["prediction"]
        place, low, high = x.at(found["tokens"]), y.at(found["low"]), y.at(found["high"])
        bar = f"M{place:.1f},{low:.1f}V{high:.1f}M{place - 5:.1f},{y.at(found['predicted']):.1f}h10"
        drawn.append(f"<path d='{bar}' stroke='{_INK}' stroke-width='1.5' fill='none'/>")
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{_WIDTH}' height='{_HEIGHT}' font-size='11' "
        f"font-family='sans-serif'><rect width='100%' height='100%' fill='#fff'/>{''.join(drawn)}</svg>"
    )


class _Axis:
    """A logarithmic axis from pixel `start` (least) to `end` (most); what lies outside ends at its edge."""

    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        low, high = math.log(min(values)), math.log(max(values))
        room = 0.06 * (high - low) or 0.1
        self.low, self.high, self.start, self.end = low - room, high + room, start, end

    def at(self, value: float) -> float:
        share = (math.log(max(value, 1e-300)) - self.low) / (self.high - self.low)
        return self.start + min(1.0, max(0.0, share)) * (self.end - self.start)

    def ticks(self, count: int = 4) -> list[float]:
        step = (self.high - self.low) / (count + 1)
        return [math.exp(self.low + step * (number + 1)) for number in range(count)]


def _curve(law: Mapping[str, float], size: float, x: _Axis, y: _Axis, colour: str) -> str:
    places = []
    for number in range(41):
        tokens = math.exp(x.low + (x.high - x.low) * number / 40)
        loss = law["E"] + law["A"] / size ** law["alpha"] + law["B"] / tokens ** law["beta"]
        places.append(f"{x.at(tokens):.1f},{y.at(loss):.1f}")
    return f"<polyline points='{' '.join(places)}' fill='none' stroke='{colour}' stroke-opacity='0.6'/>"


def _ticks(x: _Axis, y: _Axis) -> list[str]:
    drawn = []
    for value in y.ticks():
        drawn.append(f"<path d='M{_LEFT},{y.at(value):.1f}H{_WIDTH - _RIGHT}' stroke='{_GRID}'/>")
        drawn.append(_text(_LEFT - 6, y.at(value) + 4, f"{value:.2f}", anchor="end"))
    for value in x.ticks(3):
        drawn.append(_text(x.at(value), _HEIGHT - _BOTTOM + 18, f"{value:,.0f}", anchor="middle"))
    return drawn


def _dot(x: float, y: float, colour: str, ring: bool) -> str:
    look = f"fill='#fff' stroke='{colour}' stroke-width='2'" if ring else f"fill='{colour}'"
    return f"<circle cx='{x:.1f}' cy='{y:.1f}' r='4' {look}/>"


def _text(
    x: float, y: float, text: str, anchor: str = "start", weight: str = "normal", fill: str = _INK
) -> str:
    look = f"text-anchor='{anchor}' font-weight='{weight}' fill='{fill}'"
    return f"<text x='{x:.1f}' y='{y:.1f}' {look}>{text}</text>"
