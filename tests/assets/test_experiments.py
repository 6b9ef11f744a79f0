"""What the pages of studies show of their reports."""

from __future__ import annotations

import base64
import json
import xml.etree.ElementTree as ET

from assets import experiments
from assets.metadata import interval_rows
from codellm_dag.scaling.mixture_trials import summary
from tests.scaling.test_mixture_trials import RECIPE


def test_batch_warmup_has_a_line_a_run_over_tokens_and_over_steps(tmp_path):
    curves = {
        "small": [[0.0, 0.0, 6.0], [640.0, 10.0, 4.0]],
        "large": [[0.0, 0.0, 6.0], [640.0, 2.0, 5.0]],
        "warmup": [[0.0, 0.0, 6.0], [640.0, 6.0, 4.5]],
    }
    (tmp_path / "report.json").write_text(json.dumps({"curves": [curves]}))
    shown = experiments._warmup_plots(tmp_path)
    assert list(shown) == ["loss over tokens", "loss over steps"]
    ends = []
    for value in shown.values():
        assert value is not None
        markdown = value.value
        assert isinstance(markdown, str)
        svg = base64.b64decode(markdown.partition("base64,")[2].rstrip(")"))
        lines = ET.fromstring(svg).findall(".//{http://www.w3.org/2000/svg}polyline")
        ends.append([float((line.get("points") or "").split()[-1].split(",")[0]) for line in lines])
    tokens, steps = ends
    assert len(set(tokens)) == 1, "all runs end after as many tokens"
    assert steps[1] < steps[2] < steps[0], "the large batch after the fewest steps"


def test_mixture_trials_have_an_interval_a_language():
    trials = {
        name: [
            {"go": {"bits": bits, "bytes": 10}, "rust": {"bits": bits, "bytes": 10}} for bits in (more, 12.0)
        ]
        for name, more in (("planned", 11.0), ("uniform", 10.0))
    }
    shares = {name: {"go": 1, "rust": 1} for name in trials}
    rows = interval_rows(summary(trials, {"go": 1, "rust": 1}, shares, RECIPE))
    assert [label for label, *_ in rows] == [f"{name}: planned - uniform" for name in ("go", "rust", "all")]
    assert all(low < value < high for _, value, low, high in rows)
