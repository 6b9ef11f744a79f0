"""The ledger: every attempt, the failed ones too."""

from __future__ import annotations

import pytest
from toy_life_cycle import LifeCycle

from codellm_dag.launch import StageFailedError
from codellm_dag.lineage.errors import LineageError
from codellm_dag.lineage.trials import list_trials
from codellm_dag.store import Store


@pytest.fixture(autouse=True)
def _one_failure(life_cycle: LifeCycle) -> None:
    """A life cycle, and another that diverges at its end."""
    life_cycle.run()
    with pytest.raises(StageFailedError):
        life_cycle.run(sft_checkpoint={"learning_rate": 1e300})


def test_rows(store: Store) -> None:
    rows = list_trials(store)
    assert len(rows) == 10
    assert [row.start for row in rows] == sorted(row.start for row in rows)
    assert (rows[-1].asset, rows[-1].label) == ("sft_checkpoint", "diverged")
    assert rows[-1].recipe["learning_rate"] == 1e300


def test_filters(store: Store) -> None:
    assert [row.label for row in list_trials(store, asset="sft_checkpoint")] == ["ok", "diverged"]
    assert len(list_trials(store, label="failed")) == 1
    assert len(list_trials(store, label="ok")) == 9
    assert list_trials(store, label="oom") == []
    assert list_trials(store, last=2) == list_trials(store)[-2:]


def test_bad_filters(store: Store) -> None:
    with pytest.raises(LineageError, match="--label 'bad' does not exist; allowed: failed, ok, oom"):
        list_trials(store, label="bad")
    with pytest.raises(LineageError, match="--asset 'nosuch' has no attempts; there are: clean_corpus"):
        list_trials(store, asset="nosuch")
