"""Draw the asset graph of the code location to docs/images/asset-graph.svg.

    python scripts/asset_graph.py

A box a group, from left to right by what it is made from. A test fails when the picture is behind
(``tests/test_definitions.py``); Dagster's own, live, is in ``make ui``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from assets.svg import COLOURS

PICTURE = Path(__file__).parents[1] / "docs" / "images" / "asset-graph.svg"
_WIDTH, _HEIGHT, _GAP = 156, 26, 8  # of an asset, and between two
_COLUMN, _ROW, _PAD, _HEAD = 214, 34, 12, 26  # pitch of columns, between groups, inside a group, its title

Graph = Mapping[str, Mapping[str, Sequence[str]]]
"""Group → asset → assets it reads."""


def asset_graph() -> Graph:
    """The graph of the code location."""
    from codellm_dag.definitions import defs

    graph: dict[str, dict[str, list[str]]] = {}
    for spec in defs.resolve_all_asset_specs():
        sources = sorted(dep.asset_key.to_user_string() for dep in spec.deps)
        graph.setdefault(spec.group_name or "default", {})[spec.key.to_user_string()] = sources
    return {group: dict(sorted(assets.items())) for group, assets in sorted(graph.items())}


def drawing(graph: Graph) -> str:
    """An SVG of `graph`."""
    group_of = {asset: group for group, assets in graph.items() for asset in assets}
    reads = {asset: sources for assets in graph.values() for asset, sources in assets.items()}
    groups_read = {
        group: {group_of[source] for sources in assets.values() for source in sources} - {group}
        for group, assets in graph.items()
    }
    colours = dict(zip(graph, COLOURS * len(graph), strict=False))
    places, boxes, height = _placed(graph, _depths(groups_read), _depths(reads))
    drawn = [_box(group, *boxes[group], colours[group]) for group in graph]
    for asset, sources in reads.items():
        for source in sources:
            within = group_of[source] == group_of[asset]
            drawn.append(_edge(places[source], places[asset], colours[group_of[source]], within))
    drawn += [_asset(asset, *places[asset], colours[group_of[asset]]) for asset in reads]
    width = max(x for x, _ in places.values()) + _WIDTH + 2 * _PAD
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
        f'height="{height:.0f}" font-size="13" font-family="sans-serif">\n'
        '<rect width="100%" height="100%" fill="#fff"/>\n' + "\n".join(drawn) + "\n</svg>\n"
    )


def _depths(reads: Mapping[str, Sequence[str] | set[str]]) -> dict[str, int]:
    """The longest way to each name from one that reads nothing."""
    depths: dict[str, int] = {}

    def depth(name: str) -> int:
        if name not in depths:
            depths[name] = 1 + max((depth(source) for source in reads[name]), default=-1)
        return depths[name]

    for name in reads:
        depth(name)
    return depths


def _placed(graph: Graph, columns: Mapping[str, int], depths: Mapping[str, int]):
    """Upper left corners of assets, (x, y, height) of groups, and the height of all."""
    places: dict[str, tuple[float, float]] = {}
    boxes: dict[str, tuple[float, float, float]] = {}
    heights = {group: _HEAD + _PAD + len(assets) * (_HEIGHT + _GAP) for group, assets in graph.items()}
    by_column = [[group for group in graph if columns[group] == n] for n in range(max(columns.values()) + 1)]
    tall = [sum(heights[group] + _ROW for group in groups) - _ROW for groups in by_column]
    for number, groups in enumerate(by_column):
        y = _PAD + (max(tall) - tall[number]) / 2
        for group in sorted(groups, key=lambda group: (heights[group], group)):
            x = _PAD + number * _COLUMN
            boxes[group] = x, y, heights[group]
            for row, asset in enumerate(sorted(graph[group], key=lambda asset: (depths[asset], asset))):
                places[asset] = x + _PAD, y + _HEAD + row * (_HEIGHT + _GAP)
            y += heights[group] + _ROW
    return places, boxes, max(tall) + 2 * _PAD


def _box(group: str, x: float, y: float, height: float, colour: str) -> str:
    return (
        f'<rect x="{x:.0f}" y="{y:.0f}" width="{_WIDTH + 2 * _PAD}" height="{height:.0f}" rx="6" '
        f'fill="{colour}" fill-opacity="0.07" stroke="{colour}" stroke-opacity="0.4"/>'
        f'<text x="{x + _PAD:.0f}" y="{y + 18:.0f}" font-weight="bold" fill="{colour}">{group}</text>'
    )


def _asset(name: str, x: float, y: float, colour: str) -> str:
    return (
        f'<rect x="{x:.0f}" y="{y:.0f}" width="{_WIDTH}" height="{_HEIGHT}" rx="4" fill="#fff" '
        f'stroke="{colour}"/><text x="{x + _WIDTH / 2:.0f}" y="{y + 18:.0f}" text-anchor="middle" '
        f'fill="#1c1917">{name}</text>'
    )


def _edge(source: tuple[float, float], target: tuple[float, float], colour: str, within: bool) -> str:
    """A curve from right to left; between assets of a group one beside them."""
    (x, y), (to_x, to_y) = source, target
    y, to_y = y + _HEIGHT / 2, to_y + _HEIGHT / 2
    if within:
        side = x - _PAD + 2
        path = f"M{x:.0f},{y:.0f}C{side:.0f},{y:.0f} {side:.0f},{to_y:.0f} {to_x:.0f},{to_y:.0f}"
    else:
        x += _WIDTH
        bend = max(30.0, (to_x - x) / 2)
        path = f"M{x:.0f},{y:.0f}C{x + bend:.0f},{y:.0f} {to_x - bend:.0f},{to_y:.0f} {to_x:.0f},{to_y:.0f}"
    return f'<path d="{path}" fill="none" stroke="{colour}" stroke-opacity="0.45"/>'


if __name__ == "__main__":
    PICTURE.write_text(drawing(asset_graph()), encoding="utf-8")
