"""How long a group may stay in each state, and what is said of one that stays too long.

Time is this process' own, from when it first saw the state: a clock that differs from the cluster's does no
harm, and an orchestrator that attaches gives a waiting group its deadline anew. The whole run is measured
from the first message by the cluster's backstop too (``activeDeadlineSeconds``).
"""

from __future__ import annotations

import time
from collections.abc import Callable

from codellm_dag.launch.kubernetes.classify import Cause
from codellm_dag.launch.kubernetes.state import Phase, State
from codellm_dag.recipes.pods import Deadlines

_STARTING = "starting"

_WORDS = {
    Phase.QUEUED: (
        "admission",
        "its queue did not admit it",
        "look at `kubectl get workloads`: quota, or a smaller shape",
    ),
    Phase.SCHEDULING: (
        "scheduling",
        "no node took it",
        "check node_selector, tolerations and the size in the pod shape, or add nodes",
    ),
    Phase.PULLING: (
        "pull",
        "its container did not start",
        "check image, image_pull_secrets and secrets in the pod shape",
    ),
    _STARTING: (
        "start",
        "its container runs, but the stage said nothing",
        "check that the pods reach the store and that the image holds this code",
    ),
    Phase.RUNNING: ("silence", "the stage fell silent", "look at the last lines of its log"),
    Phase.LOST: ("silence", "its node was lost", "another attempt goes to another node"),
    "run": ("run", "it ran too long", "raise deadlines.run, or train for less"),
}


class Stopwatch:
    """Call `look` at each look at the group, and `opened` and `heard` when a session began or went on."""

    def __init__(self, limits: Deadlines, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._clock = clock
        self._stage = ""
        self._since = self._apart = clock()
        self._heard: float | None = None
        self._opened: float | None = None

    def opened(self) -> None:
        """A session of the stage began; the whole run is measured from the first."""
        self._opened = self._clock() if self._opened is None else self._opened
        self.heard()

    def heard(self) -> None:
        """The stage said something, or its heartbeat told that it went on."""
        self._heard = self._clock()

    def look(self, state: State) -> Cause | None:
        """The cause, if the group's time is over."""
        now = self._clock()
        stage = self._stage_of(state)
        if stage != self._stage:
            self._stage, self._since = stage, now
            if stage in (Phase.QUEUED, Phase.SCHEDULING, Phase.PULLING):
                self._apart = now  # what was heard before came from a pod that is no more
        if self._opened is not None and now - self._opened > self._limits.run:
            return self._cause("run", state, "over_budget")
        if stage not in _WORDS:
            return None
        since = max(self._since, self._heard or 0.0)
        if now - since <= getattr(self._limits, _WORDS[stage][0]):
            return None
        return self._cause(stage, state, "infra")

    def _stage_of(self, state: State) -> str:
        silent = self._heard is None or self._heard < self._apart
        return _STARTING if state.phase is Phase.RUNNING and silent else state.phase

    def _cause(self, stage: str, state: State, label: str) -> Cause:
        name, what, step = _WORDS[stage]
        seconds = getattr(self._limits, name)
        quoted = f" ({state.detail})" if state.detail else ""
        text = f"{what} for {_duration(seconds)}{quoted}; {step} (deadlines.{name} = {seconds})"
        return Cause(label, text)  # pyright: ignore[reportArgumentType]


def _duration(seconds: int) -> str:
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= size and not seconds % size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
