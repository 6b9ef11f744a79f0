"""The plot of a law: every point and curve is there, at its place; without points there is none."""

import math
import xml.etree.ElementTree as ET

from assets.scaling_plots import batch_plot, growth_plot, law_plot

POINTS = [
    {"parameters": n, "tokens": d, "bits_per_byte": 1 + 100 / n + 100 / d, "held_out": n == 400}
    for n, d in ((100, 1000), (100, 4000), (200, 1000), (200, 4000), (400, 16000))
]
LAW = {"E": 1.0, "A": 100.0, "B": 100.0, "alpha": 1.0, "beta": 1.0}
PREDICTION = {
    "tokens": 16000,
    "predicted": 1.25,
    "low": 1.2,
    "high": 1.3,
    "measured": 1.2565,
    "relative_error": 1.25 / 1.2565 - 1,
}
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


def test_a_stranger_can_read_it():
    svg = law_plot({"language": "c<d", "points": POINTS, "law": LAW, "prediction": PREDICTION})
    assert svg is not None
    root = ET.fromstring(svg)
    words = [text.text for text in root.iter(f"{NAMESPACE}text")]
    assert "training tokens (log scale)" in words
    assert "bits per byte, held-out documents (log scale)" in words
    assert "predicted 1.250 [1.200, 1.300], measured 1.256: 0.5% too low" in words
    assert {"1 k", "4 k", "16 k"} < set(words)
    assert "400 parameters, held out" in words


def test_no_law_and_no_points():
    svg = law_plot({"language": "go", "points": POINTS[:2], "law": None, "prediction": None})
    assert svg is not None
    assert "polyline" not in svg
    assert "no law: too few points" in svg
    assert law_plot({"language": "go", "points": [], "law": None, "prediction": None}) is None


def test_the_critical_batch_is_a_ring_and_a_loss_that_is_infinite_is_at_the_top():
    losses = {0: (3.0, 3.005, 3.2), 5000: (2.0, 2.1, math.inf)}
    branchings = [
        {
            "tokens": tokens,
            "critical_batch_tokens": 200 if tokens == 0 else 100,
            "branches": [{"batch_tokens": 100 * 2**number, "loss": loss} for number, loss in enumerate(own)],
        }
        for tokens, own in losses.items()
    ]
    root = ET.fromstring(batch_plot(branchings))
    circles = root.findall(f"{NAMESPACE}circle")
    rings = [circle.get("cx") for circle in circles if circle.get("fill") == "#fff"]
    assert rings == [circles[1].get("cx"), circles[3].get("cx")]
    assert float(circles[5].get("cy", 0)) < min(float(circle.get("cy", 0)) for circle in circles[:5])
    words = [text.text for text in root.iter(f"{NAMESPACE}text")]
    assert {"100", "200", "400", "after 0 tokens", "after 5 k tokens", "batch, tokens (log scale)"} < set(
        words
    )


def test_growth_shows_every_curve_and_what_it_saves():
    method = {
        "method": "stack", "grown": [[500.0, 2.5], [900.0, 2.0]], "scratch": [[0.0, 4.0], [1000.0, 2.2]],
        "loss": 2.2, "tokens_ratio": 0.74, "flops_ratio": 0.6,
    }  # fmt: skip
    never = method | {"method": "widen", "tokens_ratio": None, "flops_ratio": None}
    root = ET.fromstring(growth_plot({"small": [[0.0, 4.0], [500.0, 2.6]], "methods": [method, never]}))
    assert len(root.findall(f"{NAMESPACE}polyline")) == 5
    words = [text.text for text in root.iter(f"{NAMESPACE}text")]
    assert "stack: to the loss from scratch, 2.200: 0.74 times its tokens, 0.60 times its FLOPs" in words
    assert "widen: to the loss from scratch, 2.200: not reached" in words
