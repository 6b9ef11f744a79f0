"""The plot of a law: every point and curve is there, at its place; without points there is none."""

import xml.etree.ElementTree as ET

from assets.scaling_plots import law_plot

POINTS = [
    {"parameters": n, "tokens": d, "bits_per_byte": 1 + 100 / n + 100 / d, "held_out": n == 400}
    for n, d in ((100, 1000), (100, 4000), (200, 1000), (200, 4000), (400, 16000))
]
LAW = {"E": 1.0, "A": 100.0, "B": 100.0, "alpha": 1.0, "beta": 1.0}
PREDICTION = {"tokens": 16000, "predicted": 1.25, "low": 1.2, "high": 1.3}
NAMESPACE = "{http://www.w3.org/2000/svg}"


def test_points_and_curves():
    svg = law_plot({"language": "python", "points": POINTS, "law": LAW, "prediction": PREDICTION})
    assert svg is not None
    root = ET.fromstring(svg)
    circles = root.findall(f"{NAMESPACE}circle")
    assert len(circles) == 5
    assert sum(circle.get("fill") == "#fff" for circle in circles) == 1
    curves = root.findall(f"{NAMESPACE}polyline")
    assert len(curves) == 3
    # The law is exact, so each point lies on the curve of its size.
    spots = [(float(circle.get("cx", 0)), float(circle.get("cy", 0))) for circle in circles]
    lines = [
        [tuple(map(float, spot.split(","))) for spot in (curve.get("points") or "").split()]
        for curve in curves
    ]
    for x, y in spots:
        assert min(abs(x - a) + abs(y - b) for line in lines for a, b in line) < 12


def test_no_law_and_no_points():
    svg = law_plot({"language": "go", "points": POINTS[:2], "law": None, "prediction": None})
    assert svg is not None
    assert "polyline" not in svg
    assert law_plot({"language": "go", "points": [], "law": None, "prediction": None}) is None
