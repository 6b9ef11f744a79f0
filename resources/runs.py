"""Which Dagster runs are still at work: who asks for groups that no live run owns needs to know."""

from __future__ import annotations

from collections.abc import Callable

import dagster as dg

_FINISHED = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)


def run_is_live(instance: dg.DagsterInstance) -> Callable[[str], bool]:
    """Whether a run, by its id, has not finished; a run that this instance does not know may be another's."""

    def live(run_id: str) -> bool:
        run = instance.get_run_by_id(run_id)
        return run is None or run.status not in _FINISHED

    return live
