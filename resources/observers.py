"""Who else is told what stages report: progress bars of a command line that runs a job in its own process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from codellm_dag.launch import StageEvent

Observer = Callable[[StageEvent], None]

_observers: list[Observer] = []


@contextmanager
def observing(observer: Observer) -> Iterator[None]:
    """Have `observer` called with every event of every stage that this process runs, until the block ends.

    Calls come from the thread that runs the stage; an exception of the observer fails that stage.
    """
    _observers.append(observer)
    try:
        yield
    finally:
        _observers.remove(observer)


def notify(event: StageEvent) -> None:
    """Hand an event to all observers, in the order they came."""
    for observer in tuple(_observers):
        observer(event)
