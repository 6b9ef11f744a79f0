"""What a stage's report sends, and how seldom."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codellm_dag.recipes.runtime import Runtime
from codellm_dag.stages.messages import CallChannel, open_session
from codellm_dag.stages.reporting import StageReport


class Heard:
    """A report with a clock of ours, and all that it sent."""

    def __init__(self) -> None:
        self.messages: list[Any] = []
        self.now = 100.0
        session = open_session(CallChannel(self.messages.append))
        self.report = StageReport(session, Runtime(), Path("/nowhere"), clock=lambda: self.now)

    def of(self, event: str) -> list[dict[str, Any]]:
        payloads = [message["params"].get("payload") for message in self.messages if message.get("params")]
        return [payload for payload in payloads if payload and payload["event"] == event]


@pytest.fixture
def heard() -> Heard:
    return Heard()


def test_a_million_calls_send_five_messages_a_second(heard: Heard) -> None:
    for step in range(10_000):
        heard.report.progress(step, 10_000, "steps")
        heard.report.point(step, loss=1.0)
        heard.now += 0.001
    heard.report.flush()
    sent = heard.of("progress")
    assert 48 <= len(sent) <= 52
    assert (sent[-1]["done"], sent[-1]["total"]) == (9_999, 10_000), "the last one is not lost"
    assert sum(len(batch["points"]) for batch in heard.of("points")) == 10_000, "no point is lost"
    assert len(heard.of("points")) <= 52


def test_rate_is_taken_over_the_last_quarter_minute(heard: Heard) -> None:
    heard.report.progress(0, 1000)
    assert heard.of("progress")[-1]["rate"] is None
    for done in range(1, 21):  # 10 a second
        heard.now += 1.0
        heard.report.progress(done * 10, 1000)
    assert heard.of("progress")[-1]["rate"] == pytest.approx(10.0)
    for done in range(1, 31):  # then 2 a second
        heard.now += 1.0
        heard.report.progress(200 + done * 2, 1000)
    assert heard.of("progress")[-1]["rate"] == pytest.approx(2.0)
    heard.now += 1.0
    heard.report.progress(0, 50, "files", "a new phase")
    assert heard.of("progress")[-1]["rate"] is None


def test_a_new_phase_is_told_at_once(heard: Heard) -> None:
    heard.report.progress(1, 2, "files", "reading")
    heard.now += 0.05
    heard.report.progress(1, 2, "files", "reading still")
    heard.report.progress(2, 2, "files", "reading still")
    assert [event["note"] for event in heard.of("progress")] == ["reading", "reading still"]


def test_values_become_plain(heard: Heard) -> None:
    heard.report.metric(a=np.float32(0.5), b=np.int64(3), c=True, d="text", e=float("nan"), f=float("-inf"))
    values = heard.of("metric")[0]["values"]
    assert values == {"a": 0.5, "b": 3, "c": True, "d": "text", "e": "nan", "f": "-inf"}
    heard.report.point(np.int64(2), loss=np.float64(1.5), gap=float("inf"))
    heard.report.flush()
    assert heard.of("points")[0]["points"] == [[2, {"loss": 1.5, "gap": None}]]
    heard.report.table("t", [{"x": np.int32(1), "y": None}])
    assert heard.of("table")[0]["rows"] == [{"x": 1, "y": None}]


def test_what_is_not_plain_is_refused(heard: Heard) -> None:
    with pytest.raises(TypeError, match=r"report: loss = \[1\] is a list; allowed: int, float, str, bool"):
        heard.report.metric(loss=[1])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="report: loss = 'x' is a str; a number is needed"):
        heard.report.point(0, loss="x")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"report.table\('big'\) has 101 rows; at most 100 are allowed"):
        heard.report.table("big", [{"a": 1}] * 101)


def test_log_lines_are_pipes_log_messages(heard: Heard) -> None:
    heard.report.log("100 % done")
    assert heard.messages[-1]["method"] == "log"
    assert heard.messages[-1]["params"] == {"message": "100 % done", "level": "INFO"}
