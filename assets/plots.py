"""Small SVG plots for an asset's page in Dagster's UI: curves over steps, and values with their intervals.

SVG by hand keeps a plot at a few kB in the event log and costs no import of a plotting library, which
matters because a run that recomputes nothing still shows every plot. Not for papers.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from html import escape

from assets.svg import COLOURS, GRID, svg, text

Series = Mapping[str, Sequence[tuple[int, float | None]]]

_PANEL_WIDTH, _PANEL_HEIGHT, _MARGIN = 380, 210, (34, 14, 28, 58)  # margins: top, right, bottom, left
_COLUMNS, _MOST_PANELS, _MOST_POINTS = 2, 8, 160
_SPAN = 300  # pixels from the least to the most of an interval plot
_WIDE, _TALL = 640, 320  # of a plot with several lines, legend included
_LINE, _BAND = COLOURS[0], "#a5b4fc"


def curves(series: Series) -> str | None:
    """An SVG with one panel per series (at most 8), points joined in order of step; None if all are empty.

    Values that are None or not finite are left out. Long series are thinned to 160 points, ends included.
    """
    panels = [(name, _finite(points)) for name, points in series.items()]
    panels = [(name, points) for name, points in panels if points][:_MOST_PANELS]
    if not panels:
        return None
    columns = min(_COLUMNS, len(panels))
    drawn = []
    for index, (name, points) in enumerate(panels):
        x, y = index % columns * _PANEL_WIDTH, index // columns * _PANEL_HEIGHT
        drawn.append(f'<g transform="translate({x} {y})">{_panel(name, points)}</g>')
    return svg(columns * _PANEL_WIDTH, math.ceil(len(panels) / columns) * _PANEL_HEIGHT, drawn)


def overlaid(title: str, series: Series) -> str | None:
    """An SVG of one panel with a line for each series (at most 8), to one scale; None if all are empty.

    The legend has each series' last value. Long series are thinned as in `curves`.
    """
    lines = [(name, _finite(points)) for name, points in series.items()]
    lines = [(name, points) for name, points in lines if points][: len(COLOURS)]
    if not lines:
        return None
    places = [point for _, points in lines for point in points]
    frame = _Frame(places, _WIDE - 170, _TALL)
    drawn = [text(frame.left, 20, title, weight="bold"), *frame.axes()]
    for number, (name, points) in enumerate(lines):
        colour = COLOURS[number]
        drawn.append(frame.line(points, colour))
        words = f"{name} {_number(points[-1][1])}"
        drawn.append(text(_WIDE - 160, frame.top + 14 + 18 * number, words, fill=colour))
    return svg(_WIDE, _TALL, drawn)


def sparkline(points: Sequence[tuple[int, float | None]]) -> str | None:
    """A bare curve of 40 points, 280 by 48 pixels and about 400 characters; None without points."""
    kept = _thinned(_finite(points), 40)
    if not kept:
        return None
    first, last = kept[0][0], max(kept[-1][0], kept[0][0] + 1)
    least, most = _padded(min(value for _, value in kept), max(value for _, value in kept))
    joined = ",".join(
        f"{(step - first) / (last - first) * 276 + 2:.0f},{(most - value) / (most - least) * 44 + 2:.0f}"
        for step, value in kept
    )
    return (
        "<svg xmlns='http://www.w3.org/2000/svg' width='280' height='48'>"
        f"<polyline points='{joined}' fill='none' stroke='{_LINE}' stroke-width='2'/></svg>"
    )


def intervals(rows: Sequence[tuple[str, float, float, float]]) -> str | None:
    """An SVG with a line per (label, value, low, high): a dot on its interval, to one scale that holds 0.

    Up to seven rows with short labels stay below what Dagster shows in place. None without rows.
    """
    rows = [row for row in rows if all(math.isfinite(number) for number in row[1:])]
    if not rows:
        return None
    texts = [f"{label} {_number(value)}" for label, value, _, _ in rows]
    left = 14 + 6.5 * max(map(len, texts))
    least, most = _padded(min(0.0, *(row[2] for row in rows)), max(row[3] for row in rows))
    x_of = [[left + (number - least) / (most - least) * _SPAN for number in row[1:]] for row in rows]
    places = [12 + 20 * index for index in range(len(rows))]
    bars = "".join(f"M{low:.0f},{y}H{high:.0f}" for (_, low, high), y in zip(x_of, places, strict=True))
    dots = "".join(f"M{x:.0f},{y}h0" for (x, _, _), y in zip(x_of, places, strict=True))
    words = "".join(f"<text y='{y + 4}'>{escape(text)}</text>" for text, y in zip(texts, places, strict=True))
    size = f"width='{left + _SPAN + 10:.0f}' height='{20 * len(rows) + 4}'"
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' {size} "
        f"font-size='11' font-family='sans-serif' stroke-linecap='round'>{words}"
        f"<path d='{bars}' stroke='{_BAND}' stroke-width='5'/>"
        f"<path d='{dots}' stroke='{_LINE}' stroke-width='9'/></svg>"
    )


def markdown_image(svg: str, alt: str) -> str:
    """Markdown that shows an SVG inline, as Dagster's ``MetadataValue.md`` renders it offline."""
    return f"![{alt}](data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()})"


def _panel(name: str, points: Sequence[tuple[int, float]]) -> str:
    frame = _Frame(points, _PANEL_WIDTH, _PANEL_HEIGHT)
    title = text(frame.left, 20, f"{name}: {_number(points[-1][1])} at the end", weight="bold")
    return "".join([title, *frame.axes(), frame.line(points, _LINE)])


class _Frame:
    """The place of a plot of `points` (all its lines' together) in a panel of that size."""

    def __init__(self, points: Sequence[tuple[int, float]], panel_width: int, panel_height: int) -> None:
        self.top, right, bottom, self.left = _MARGIN
        self.width, self.height = panel_width - self.left - right, panel_height - self.top - bottom
        steps, values = [step for step, _ in points], [value for _, value in points]
        self.first, self.last = min(steps), max(*steps, min(steps) + 1)
        self.least, self.most = _padded(min(values), max(values))

    def x_of(self, step: float) -> float:
        return self.left + (step - self.first) / (self.last - self.first) * self.width

    def y_of(self, value: float) -> float:
        return self.top + (self.most - value) / (self.most - self.least) * self.height

    def axes(self) -> list[str]:
        drawn = []
        for tick in (self.least, (self.least + self.most) / 2, self.most):
            height = self.y_of(tick)
            drawn.append(_segment(self.left, height, self.left + self.width, height, GRID, 1))
            drawn.append(text(self.left - 6, height + 4, _number(tick), anchor="end"))
        for step, anchor in ((self.first, "start"), (self.last, "end")):
            drawn.append(text(self.x_of(step), self.top + self.height + 18, f"{step:,}", anchor=anchor))
        return drawn

    def line(self, points: Sequence[tuple[int, float]], colour: str) -> str:
        thinned = _thinned(points, _MOST_POINTS)
        joined = " ".join(f"{self.x_of(step):.1f},{self.y_of(value):.1f}" for step, value in thinned)
        drawn = f'<polyline points="{joined}" fill="none" stroke="{colour}" stroke-width="1.8"/>'
        if len(points) == 1:
            ((step, value),) = points
            drawn += f'<circle cx="{self.x_of(step):.1f}" cy="{self.y_of(value):.1f}" r="3" fill="{colour}"/>'
        return drawn


def _finite(points: Sequence[tuple[int, float | None]]) -> list[tuple[int, float]]:
    return sorted(
        (step, float(value)) for step, value in points if value is not None and math.isfinite(value)
    )


def _thinned(points: Sequence[tuple[int, float]], most: int) -> Sequence[tuple[int, float]]:
    if len(points) <= most:
        return points
    stride = (len(points) - 1) / (most - 1)
    return [points[round(index * stride)] for index in range(most)]


def _padded(least: float, most: float) -> tuple[float, float]:
    """A range that is never empty."""
    return (least, most) if most > least else (least - (abs(least) or 1) / 2, most + (abs(most) or 1) / 2)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _segment(x1: float, y1: float, x2: float, y2: float, colour: str, width: float) -> str:
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" '
        f'stroke-width="{width}" stroke-linecap="round"/>'
    )
