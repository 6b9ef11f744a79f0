"""Faults at random moments of a run: what networks, API servers, nodes, schedulers and operators do."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

from tests.cluster.bed import Bed
from tests.cluster.bed.storage import Key


class Mischief:
    """Does `count` faults, dealt with `seed` from a pack, with `shortest` to `longest` seconds between them.

    `kill_orchestrator` kills it, or says that there is none to kill just now. What needs a running pod waits
    for one. `done` tells what was done.
    """

    def __init__(
        self,
        bed: Bed,
        kill_orchestrator: Callable[[], bool],
        *,
        count: int,
        seed: int,
        shortest: float,
        longest: float,
    ) -> None:
        self._bed, self._kill = bed, kill_orchestrator
        self._dice = random.Random(seed)
        self._pause = (shortest, longest)
        self.count = count
        self.done: list[str] = []
        self.stopped = threading.Event()
        self._thread = threading.Thread(target=self._loop, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Do no more."""
        self.stopped.set()
        self._thread.join()

    def _loop(self) -> None:
        faults: list[Callable[[], bool]] = [
            self._refuse,
            self._refuse,
            self._lose_answers,
            self._close_watches,
            self._forget_history,
            self._repeat_events,
            self._preempt,
            self._preempt,
            self._evict,
            self._lose_node,
            self._cut_off_node,
            self._kill_orchestrator,
        ]
        deck: list[Callable[[], bool]] = []
        while len(self.done) < self.count and not self.stopped.wait(self._dice.uniform(*self._pause)):
            if not deck:
                deck = self._dice.sample(faults, len(faults))
            if deck[-1]():
                self.done.append(deck.pop().__name__.strip("_"))

    def _refuse(self) -> bool:
        code, times = self._dice.choice([429, 500, 503]), self._dice.randint(1, 3)
        self._bed.faults.fail(code=code, times=times, retry_after=1 if code == 429 else 0)
        return True

    def _lose_answers(self) -> bool:
        verb = self._dice.choice(["create", "get", "list", "delete"])
        self._bed.faults.drop(verb, applied=self._dice.random() < 0.5)
        return True

    def _close_watches(self) -> bool:
        self._bed.faults.close_watches(cleanly=self._dice.random() < 0.5)
        return True

    def _forget_history(self) -> bool:
        self._bed.expire("pods", "jobs", "events")
        self._bed.faults.close_watches()
        return True

    def _repeat_events(self) -> bool:
        self._bed.faults.repeat_event(times=5)
        return True

    def _preempt(self) -> bool:
        return self._to_a_pod(self._bed.kubelet.preempt)

    def _evict(self) -> bool:
        return self._to_a_pod(self._bed.kubelet.evict)

    def _lose_node(self) -> bool:
        return self._to_a_pod(lambda key: self._lose(key, running=False))

    def _cut_off_node(self) -> bool:
        """The pod goes on beside the one that takes its place, and both write to the store."""
        return self._to_a_pod(lambda key: self._lose(key, running=True))

    def _lose(self, key: Key, *, running: bool) -> None:
        self._bed.kubelet.lose_node(key, running=running)
        time.sleep(0.5)
        self._bed.kubelet.collect(key)

    def _to_a_pod(self, harm: Callable[[Key], None]) -> bool:
        """Harm a running pod; False if there is none just now."""
        running = [
            (pod["metadata"]["namespace"], pod["metadata"]["name"])
            for pod in self._bed.pods()
            if pod["status"].get("phase") == "Running" and not pod["metadata"].get("deletionTimestamp")
        ]
        if not running:
            return False
        try:
            harm(self._dice.choice(running))
        except KeyError:
            return False
        return True

    def _kill_orchestrator(self) -> bool:
        return self._kill()
