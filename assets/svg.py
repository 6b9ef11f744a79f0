"""What the plots share: colours, a line of text, and the picture around what is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

COLOURS = ("#4f46e5", "#0891b2", "#16a34a", "#ca8a04", "#dc2626", "#9333ea", "#475569", "#db2777")
"""One a line, in this order."""
INK, GRID = "#44403c", "#e7e5e4"


def text(
    x: float, y: float, words: str, anchor: str = "start", weight: str = "normal", fill: str = INK
) -> str:
    """A line of text at pixel (x, y); `words` are escaped."""
    look = f"text-anchor='{anchor}' font-weight='{weight}' fill='{fill}'"
    return f"<text x='{x:.1f}' y='{y:.1f}' {look}>{escape(words)}</text>"


def svg(width: float, height: float, drawn: Sequence[str]) -> str:
    """An SVG of that many pixels, on white."""
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{width:.0f}' height='{height:.0f}' font-size='11' "
        f"font-family='system-ui, sans-serif'><rect width='100%' height='100%' fill='#fff'/>"
        f"{''.join(drawn)}</svg>"
    )
