"""Plots of the experiments: a scaling law with its ladder, branches of several batch sizes, grown models.

Drawn by hand as SVG, as in `plots.py`: one colour a line, axes with what they measure, and lines below that
say what the marks are and what was found.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from assets.svg import COLOURS, GRID, INK, svg, text

_WIDTH, _HEIGHT = 640, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 66, 176, 34, 88


def law_plot(language: Mapping[str, Any]) -> str | None:
    """An SVG of one language of a scaling report; None without points."""
    points: Sequence[Mapping[str, Any]] = language["points"]
    if not points:
        return None
    x = _across([point["tokens"] for point in points])
    found = language["prediction"]
    levels = [point["bits_per_byte"] for point in points]
    if found:  # the bar is cut where its interval would press the points together
        levels += [max(found["low"], min(levels) / 1.3), min(found["high"], max(levels) * 1.3)]
    y = _up(levels)
    sizes = sorted({point["parameters"] for point in points})
    larger = {point["parameters"] for point in points if point["held_out"]}
    tokens = sorted({point["tokens"] for point in points})
    labels = "training tokens (log scale)", "bits per byte, held-out documents (log scale)"
    drawn = _frame(f"{language['language']}: loss over data, by size of the model", x, y, tokens, labels)
    for number, size in enumerate(sizes):
        colour = COLOURS[number % len(COLOURS)]
        own = [point for point in points if point["parameters"] == size]
        name = f"{_short(size)} parameters" + (", held out" if size in larger else "")
        drawn.append(_key(number, name, colour))
        drawn += [_dot(x.at(p["tokens"]), y.at(p["bits_per_byte"]), colour, bool(p["held_out"])) for p in own]
        if language["law"]:
            drawn.append(_curve(language["law"], size, x, y, colour))
    if found:
        place, low, high = x.at(found["tokens"]), y.at(found["low"]), y.at(found["high"])
        bar = f"M{place:.1f},{low:.1f}V{high:.1f}M{place - 5:.1f},{y.at(found['predicted']):.1f}h10"
        drawn.append(f"<path d='{bar}' stroke='{INK}' stroke-width='1.5' fill='none'/>")
    return _svg(drawn, _legend(language))


def batch_plot(branchings: Sequence[Mapping[str, Any]]) -> str:
    """Loss of every branch over its batch, a line a branching; a ring is the critical batch."""
    branches = [branch for one in branchings for branch in one["branches"] if math.isfinite(branch["loss"])]
    sizes = sorted({branch["batch_tokens"] for one in branchings for branch in one["branches"]})
    x, y = _across(sizes), _up([branch["loss"] for branch in branches])
    labels = "batch, tokens (log scale)", "held-out loss, nats a token (log scale)"
    drawn = _frame("Loss after equal tokens, by size of the batch", x, y, sizes, labels)
    for number, one in enumerate(branchings):
        colour = COLOURS[number % len(COLOURS)]
        places = [(x.at(b["batch_tokens"]), y.at(b["loss"])) for b in one["branches"]]
        drawn += [_line(places, colour), _key(number, f"after {_short(one['tokens'])} tokens", colour)]
        for branch, place in zip(one["branches"], places, strict=True):
            drawn.append(_dot(*place, colour, branch["batch_tokens"] == one["critical_batch_tokens"]))
    return _svg(
        drawn,
        [
            "ring: the critical batch, the largest up to which no branch ends worse than the",
            "first by more than the tolerance; the first, if even the second does",
        ],
    )


def growth_plot(found: Mapping[str, Any]) -> str:
    """Held-out loss over tokens: the small model, and of each method the grown and the new large model."""
    curves = {"small model": found["small"]}
    for one in found["methods"]:
        curves |= {f"{one['method']}: grown": one["grown"], f"{one['method']}: from scratch": one["scratch"]}
    tokens = [place for curve in curves.values() for place, _ in curve]
    x = _across(tokens, log=False)
    y = _up([loss for curve in curves.values() for _, loss in curve])
    labels = "training tokens, the small model's counted", "held-out loss, nats a token (log scale)"
    drawn = _frame("Growing a small model, beside the large one from scratch", x, y, x.ticks(), labels)
    for number, (name, curve) in enumerate(curves.items()):
        colour = COLOURS[number % len(COLOURS)]
        drawn += [_line([(x.at(t), y.at(loss)) for t, loss in curve], colour), _key(number, name, colour)]
    return _svg(drawn, [_saved(one) for one in found["methods"]])


def _saved(method: Mapping[str, Any]) -> str:
    goal = f"{method['method']}: to the loss from scratch, {method['loss']:.3f}"
    if method["tokens_ratio"] is None:
        return f"{goal}: not reached"
    return (
        f"{goal}: {method['tokens_ratio']:.2f} times its tokens, {method['flops_ratio']:.2f} times its FLOPs"
    )


def _legend(language: Mapping[str, Any]) -> list[str]:
    """What the marks are, and how the prediction did."""
    if not language["law"]:
        return ["dots: measured", f"no law: {language.get('problem', 'too few points')}"]
    found = language["prediction"]
    if not found:
        return ["dots: measured; lines: the law fitted to them; no run was held out"]
    error = found["relative_error"]
    return [
        "dots: measured; lines: the law fitted; ring: the run held out; bar: its prediction with interval",
        f"predicted {found['predicted']:.3f} [{found['low']:.3f}, {found['high']:.3f}], measured "
        f"{found['measured']:.3f}: {abs(error):.1%} too {'high' if error > 0 else 'low'}",
    ]


class _Axis:
    """An axis from pixel `start` (least) to `end` (most); what lies outside ends at its edge."""

    def __init__(self, values: Sequence[float], start: float, end: float, log: bool) -> None:
        self._of, self._back = (math.log, math.exp) if log else (float, float)
        low, high = self._of(min(values)), self._of(max(values))
        room = 0.06 * (high - low) or 0.1
        self.low, self.high, self.start, self.end = low - room, high + room, start, end

    def at(self, value: float) -> float:
        """The pixel of a value, which may be infinite."""
        share = (self._of(min(max(value, 1e-300), 1e300)) - self.low) / (self.high - self.low)
        return self.start + min(1.0, max(0.0, share)) * (self.end - self.start)

    def ticks(self, count: int = 5) -> list[float]:
        """About `count` round values inside the axis."""
        low, high = self._back(self.low), self._back(self.high)
        raw = (high - low) / count
        step = next(
            (m for e in range(-9, 19) for m in (10.0**e, 2 * 10.0**e, 5 * 10.0**e) if m >= raw), high - low
        )
        return [step * number for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _across(values: Sequence[float], log: bool = True) -> _Axis:
    return _Axis(values, _LEFT, _WIDTH - _RIGHT, log)


def _up(values: Sequence[float]) -> _Axis:
    return _Axis(values, _HEIGHT - _BOTTOM, _TOP, log=True)


def _curve(law: Mapping[str, float], size: float, x: _Axis, y: _Axis, colour: str) -> str:
    places = []
    for number in range(41):
        tokens = math.exp(x.low + (x.high - x.low) * number / 40)
        loss = law["E"] + law["A"] / size ** law["alpha"] + law["B"] / tokens ** law["beta"]
        places.append((x.at(tokens), y.at(loss)))
    return _line(places, colour)


def _line(places: Sequence[tuple[float, float]], colour: str) -> str:
    joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    return f"<polyline points='{joined}' fill='none' stroke='{colour}' stroke-opacity='0.6'/>"


def _key(number: int, name: str, colour: str) -> str:
    return text(_WIDTH - _RIGHT + 16, _TOP + 14 + 18 * number, name, fill=colour)


def _svg(drawn: Sequence[str], below: Sequence[str]) -> str:
    """The picture, with lines of text below it."""
    words = [text(_LEFT, _HEIGHT - 30 + 16 * row, line) for row, line in enumerate(below)]
    return svg(_WIDTH, _HEIGHT, [*drawn, *words])


def _frame(title: str, x: _Axis, y: _Axis, ticks: Sequence[float], labels: tuple[str, str]) -> list[str]:
    """Title, axes and what they measure (across, up); `ticks` are those of x that find room."""
    drawn = [text(_LEFT, 20, title, weight="bold")]
    for value in y.ticks():
        drawn.append(f"<path d='M{_LEFT},{y.at(value):.1f}H{_WIDTH - _RIGHT}' stroke='{GRID}'/>")
        drawn.append(text(_LEFT - 6, y.at(value) + 4, f"{value:.4g}", anchor="end"))
    bottom, last = _HEIGHT - _BOTTOM, -math.inf
    for value in ticks:
        if x.at(value) - last >= 44:  # room for a label
            last = x.at(value)
            drawn.append(f"<path d='M{last:.1f},{bottom}v4' stroke='{INK}'/>")
            drawn.append(text(last, bottom + 17, _short(value), anchor="middle"))
    drawn.append(f"<path d='M{_LEFT},{bottom}H{_WIDTH - _RIGHT}' stroke='{INK}'/>")
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    drawn.append(text(middle, bottom + 34, labels[0], anchor="middle"))
    side = f"translate(16 {(_TOP + bottom) / 2:.0f}) rotate(-90)"
    return [*drawn, f"<g transform='{side}'>{text(0, 0, labels[1], anchor='middle')}</g>"]


def _short(value: float) -> str:
    """``10.8 k``, ``193 k``, ``1.33 M``."""
    for unit in ("", " k", " M", " G"):
        if value < 999.5:
            return f"{value:.3g}{unit}"
        value /= 1000
    return f"{value:.3g} T"


def _dot(x: float, y: float, colour: str, ring: bool) -> str:
    look = f"fill='#fff' stroke='{colour}' stroke-width='2'" if ring else f"fill='{colour}'"
    return f"<circle cx='{x:.1f}' cy='{y:.1f}' r='4' {look}/>"
