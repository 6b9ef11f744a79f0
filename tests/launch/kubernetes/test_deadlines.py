"""Deadlines with a clock of the test's own."""

from __future__ import annotations

import pytest

from codellm_dag.launch.kubernetes.deadlines import Stopwatch
from codellm_dag.launch.kubernetes.state import Phase, State
from codellm_dag.recipes.pods import Deadlines

LIMITS = Deadlines(admission=100, scheduling=60, pull=50, start=40, silence=30, run=1000)


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 5000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def watch(clock: Clock) -> Stopwatch:
    return Stopwatch(LIMITS, clock)


def state(phase: Phase, detail: str = "") -> State:
    return State(phase, detail, ())


@pytest.mark.parametrize(
    ("phase", "seconds", "name"),
    [
        (Phase.QUEUED, 100, "admission"),
        (Phase.SCHEDULING, 60, "scheduling"),
        (Phase.PULLING, 50, "pull"),
        (Phase.RUNNING, 40, "start"),
        (Phase.LOST, 30, "silence"),
    ],
)
def test_each_state_has_its_own(
    phase: Phase, seconds: int, name: str, watch: Stopwatch, clock: Clock
) -> None:
    assert watch.look(state(phase)) is None
    clock.now += seconds
    assert watch.look(state(phase)) is None
    clock.now += 0.1
    cause = watch.look(state(phase, "event X: because"))
    assert cause is not None
    assert cause.label == "infra"
    assert "(event X: because)" in cause.text
    assert f"(deadlines.{name} = {seconds})" in cause.text


def test_time_counts_from_when_the_state_began(watch: Stopwatch, clock: Clock) -> None:
    for phase in (Phase.QUEUED, Phase.SCHEDULING, Phase.PULLING, Phase.RUNNING, Phase.QUEUED, Phase.RUNNING):
        assert watch.look(state(phase)) is None
        clock.now += 35


def test_silence_is_measured_from_the_last_word(watch: Stopwatch, clock: Clock) -> None:
    watch.look(state(Phase.RUNNING))
    watch.opened()
    for _ in range(10):
        clock.now += 29
        watch.heard()
        assert watch.look(state(Phase.RUNNING)) is None
    clock.now += 31
    cause = watch.look(state(Phase.RUNNING))
    assert cause is not None
    assert cause.text.startswith("the stage fell silent for 30 s")


def test_a_pod_that_comes_back_has_its_time_to_start(watch: Stopwatch, clock: Clock) -> None:
    watch.look(state(Phase.RUNNING))
    watch.opened()
    clock.now += 20
    watch.look(state(Phase.PULLING))
    clock.now += 20
    watch.look(state(Phase.RUNNING))
    clock.now += 39
    assert watch.look(state(Phase.RUNNING)) is None
    clock.now += 2
    cause = watch.look(state(Phase.RUNNING))
    assert cause is not None
    assert "deadlines.start" in cause.text


def test_the_run_is_measured_over_all_sessions(watch: Stopwatch, clock: Clock) -> None:
    watch.opened()
    for _ in range(50):
        clock.now += 20
        watch.heard()
        assert watch.look(state(Phase.RUNNING)) is None
    clock.now += 1
    cause = watch.look(state(Phase.RUNNING))
    assert cause is not None
    assert (cause.label, "deadlines.run = 1000" in cause.text) == ("over_budget", True)
