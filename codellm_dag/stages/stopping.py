"""How a stage's process learns that it is asked to end."""

from __future__ import annotations

import signal


class StopSignal:
    """Whether SIGTERM came. The first call begins to listen; before it the signal ends the process."""

    def __init__(self) -> None:
        self._listening = False
        self._asked = False

    def __call__(self) -> bool:
        if not self._listening:
            self._listening = True
            signal.signal(signal.SIGTERM, self._note)
        return self._asked

    def _note(self, _number: int, _frame: object) -> None:
        self._asked = True
