"""What can go wrong in an evaluation, as errors a person can act on."""

from __future__ import annotations


class EvaluationError(Exception):
    """Base of the errors of this room."""


class ReferenceFailed(EvaluationError):
    """A benchmark's own reference solution fails in this sandbox, so no score from it can be trusted."""


class InfrastructureFailed(EvaluationError):
    """The sandbox itself failed, also on retry; nothing was scored."""


class BadInput(EvaluationError):
    """An input artifact lacks what the benchmark needs; the message names it and what is allowed."""
