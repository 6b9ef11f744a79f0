"""What can go wrong when a person asks about a number, in words for that person."""

from __future__ import annotations


class LineageError(RuntimeError):
    """The question cannot be answered; the message says why and names the next step."""


class UnknownScoreError(LineageError):
    """No score, or more than one, has the id that was given."""


class DifferentSoftwareError(LineageError):
    """Code, packages or sources here are not those that made the number; `differences` has one a line."""

    def __init__(self, message: str, differences: list[str]) -> None:
        super().__init__(message)
        self.differences = differences
