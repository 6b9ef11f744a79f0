"""What the collector makes of an attempt's messages."""

from __future__ import annotations

from codellm_dag.launch.collector import Collector


def test_work_is_added_up_over_the_sessions_of_an_attempt() -> None:
    collector = Collector(emit=lambda *_, **__: None)

    def say(method: str, **payload: object) -> None:
        collector({"method": method, "params": {"payload": payload}})

    say("opened")
    say("report_custom_message", event="work", tokens=100, flops=1e6)
    say("report_custom_message", event="work", tokens=300, flops=3e6)
    assert collector.work == {"tokens": 300, "flops": 3e6}
    say("opened")
    assert collector.work == {"tokens": 300, "flops": 3e6}
    say("report_custom_message", event="work", tokens=50, flops=None)
    assert collector.work == {"tokens": 350, "flops": 3e6}
