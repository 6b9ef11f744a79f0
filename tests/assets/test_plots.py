"""The SVG plots: that they hold what they were given, at the right places."""

import base64
import math
import re
from xml.etree import ElementTree

from assets.plots import curves, intervals, markdown_image, sparkline

_SVG = "{http://www.w3.org/2000/svg}"


def lines(svg: str) -> list[list[tuple[float, float]]]:
    root = ElementTree.fromstring(svg)
    return [
        [tuple(map(float, pair.split(","))) for pair in line.attrib["points"].split()]
        for line in root.iter(f"{_SVG}polyline")
    ]


def texts(svg: str) -> list[str]:
    return [node.text or "" for node in ElementTree.fromstring(svg).iter(f"{_SVG}text")]


def test_a_falling_curve_falls_from_the_top_left_to_the_bottom_right():
    svg = curves({"loss": [(0, 4.0), (10, 1.0), (5, 2.5)]})
    assert svg is not None
    ((first, middle, last),) = lines(svg)
    assert first == (58.0, 34.0)  # SVG counts from the top left; the panel's margins are 58 and 34
    assert last == (58.0 + 308.0, 34.0 + 148.0)
    assert middle == (58.0 + 154.0, 34.0 + 74.0)
    assert "loss: 1 at the end" in texts(svg)


def test_what_is_not_a_number_is_left_out():
    svg = curves({"loss": [(0, 1.0), (1, None), (2, math.nan), (3, 2.0)], "empty": [(0, None)]})
    assert svg is not None
    assert [len(points) for points in lines(svg)] == [2]
    assert curves({"empty": [(0, None)]}) is None
    assert curves({}) is None


def test_a_constant_and_a_single_point_can_be_drawn():
    svg = curves({"constant": [(0, 0.0), (1, 0.0)], "one": [(7, 3.0)]})
    assert svg is not None
    assert [len(points) for points in lines(svg)] == [2, 1]


def test_a_long_series_is_thinned_and_keeps_its_ends_and_stays_small():
    svg = curves({f"series {n}": [(step, math.sin(step)) for step in range(100_000)] for n in range(20)})
    assert svg is not None
    assert [len(points) for points in lines(svg)] == [160] * 8
    assert "99,999" in texts(svg)
    assert len(markdown_image(svg, "x")) < 60_000


def test_names_are_escaped():
    svg = curves({"<script>": [(0, 1.0), (1, 2.0)]})
    assert svg is not None
    assert "<script>" not in svg
    assert "<script>: 2 at the end" in texts(svg)


def test_intervals_are_drawn_to_scale():
    svg = intervals([("low", 0.0, 0.0, 0.5), ("high", 0.5, 0.25, 1.0)])
    assert svg is not None
    bars, dots = re.findall(r"<path d='([^']*)'", svg)
    left = 14 + 6.5 * len("high 0.5")  # the scale begins after the longest text; it is 300 wide, from 0 to 1
    assert bars == f"M{left:.0f},12H{left + 150:.0f}M{left + 75:.0f},32H{left + 300:.0f}"
    assert dots == f"M{left:.0f},12h0M{left + 150:.0f},32h0"
    assert texts(svg) == ["low 0", "high 0.5"]
    assert intervals([]) is None
    assert intervals([("nan", math.nan, 0.0, 1.0)]) is None


def test_the_intervals_of_a_few_models_are_shown_in_place():
    svg = intervals([(f"sft@epochs={n}", 0.123, 0.111, 0.234) for n in range(6)])
    assert svg is not None
    assert len(markdown_image(svg, "microbench pass@1")) < 1000  # Dagster's limit


def test_the_image_is_in_the_markdown():
    shown = markdown_image("<svg/>", "a plot")
    assert shown.startswith("![a plot](data:image/svg+xml;base64,")
    assert base64.b64decode(shown.split("base64,")[1].rstrip(")")) == b"<svg/>"


def test_a_sparkline_is_small_enough_to_be_shown_in_place():
    svg = sparkline([(step, 5 / (1 + step) + math.sin(step)) for step in range(10_000)])
    assert svg is not None
    assert len(markdown_image(svg, "a name of forty characters, as long as")) < 960  # Dagster's limit is 1000
    (points,) = re.findall("points='([^']*)'", svg)
    numbers = [float(number) for number in points.split(",")]
    assert len(numbers) == 2 * 40
    assert (numbers[0], numbers[-2]) == (2.0, 278.0)
    assert sparkline([(0, None)]) is None
