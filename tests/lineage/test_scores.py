"""Scores: read from reports, named by short ids, found by unambiguous beginnings."""

from __future__ import annotations

import pytest
from toy_life_cycle import STAGES, LifeCycle

from codellm_dag.launch import InlineLauncher
from codellm_dag.lineage.diff import compare
from codellm_dag.lineage.errors import LineageError, UnknownScoreError
from codellm_dag.lineage.graph import nodes
from codellm_dag.lineage.reproduce import reproduce
from codellm_dag.lineage.scores import counterpart, find_scores, list_scores, score_root
from codellm_dag.store import Store


def test_rows(store: Store, life_cycle: LifeCycle) -> None:
    reports = life_cycle.run()
    rows = list_scores(store)
    assert [(row.metric, row.model) for row in rows] == [
        ("pass@1", "pretrained"),
        ("pass@1", "sft"),
        ("pass@5", "pretrained"),
        ("pass@5", "sft"),
    ]
    first = rows[0]
    assert first.id == f"{reports['pretrained'].fingerprint[:8]}/pass@1"
    assert (first.benchmark, first.trial, first.n, first.samples_per_problem) == (
        "microbench",
        "base",
        40,
        10,
    )
    assert first.ci_low == pytest.approx(first.value - 0.1)
    assert first.current


def test_a_later_run_makes_earlier_scores_not_current(store: Store, life_cycle: LifeCycle) -> None:
    old = life_cycle.run()["sft"]
    new = life_cycle.run(sft_checkpoint={"steps": 11})["sft"]
    current = {row.fingerprint: row.current for row in list_scores(store) if row.model == "sft"}
    assert current == {old.fingerprint: False, new.fingerprint: True}


def test_find_by_id_prefix_and_metric(store: Store, life_cycle: LifeCycle) -> None:
    report = life_cycle.run()["sft"]
    rows = list_scores(store)
    for name in (
        report.fingerprint[:8],
        report.fingerprint[:5],
        report.fingerprint,
        report.fingerprint[:8].upper(),
    ):
        assert [row.metric for row in find_scores(rows, name, store.url)] == ["pass@1", "pass@5"]
    found = find_scores(rows, f"{report.fingerprint[:8]}/pass@5", store.url)
    assert [row.metric for row in found] == ["pass@5"]


@pytest.mark.parametrize("bad", ["", "xyz", "pass@1", "1234 5678", "/pass@1"])
def test_what_is_no_id(bad: str) -> None:
    with pytest.raises(UnknownScoreError, match=r"is not a score id.*codellm-dag scores"):
        find_scores([], bad, "file:///s")


def test_unknown_ids_name_the_next_step(store: Store, life_cycle: LifeCycle) -> None:
    with pytest.raises(UnknownScoreError, match="has no scores yet; `codellm-dag demo` makes some"):
        find_scores([], "0123abcd", store.url)
    report = life_cycle.run()["sft"]
    rows = list_scores(store)
    absent = f"{(int(report.fingerprint[:12], 16) + 1):012x}"
    with pytest.raises(UnknownScoreError, match=rf"no score '{absent}'.*{report.fingerprint[:8]}"):
        find_scores(rows, absent, store.url)
    with pytest.raises(UnknownScoreError, match=r"has no metric 'pass@9'; it has: pass@1, pass@5"):
        find_scores(rows, f"{report.fingerprint[:8]}/pass@9", store.url)


def test_ambiguous_beginning(store: Store, life_cycle: LifeCycle) -> None:
    life_cycle.run()
    rows = list_scores(store)
    digits: set[str] = set()
    steps = 1
    while len(digits) == len({d[0] for d in digits}):  # until two reports begin with the same digit
        steps += 1
        life_cycle.run(sft_checkpoint={"steps": steps})
        rows = list_scores(store)
        digits = {row.report_id for row in rows}
    twice = next(d[0] for d in digits if sum(other[0] == d[0] for other in digits) > 1)
    with pytest.raises(UnknownScoreError, match=r"ambiguous: .* give more digits"):
        find_scores(rows, twice, store.url)


def test_counterpart(store: Store, life_cycle: LifeCycle) -> None:
    oldest = life_cycle.run()["sft"]
    only = next(row for row in list_scores(store) if row.fingerprint == oldest.fingerprint)
    with pytest.raises(UnknownScoreError, match="is the only pass@1 of sft on microbench so far"):
        counterpart(list_scores(store), only)
    life_cycle.run(sft_checkpoint={"steps": 11})
    newest = life_cycle.run(sft_checkpoint={"steps": 12})["sft"]
    rows = {
        row.fingerprint: row for row in list_scores(store) if row.metric == "pass@1" and row.model == "sft"
    }
    middle = next(key for key in rows if key not in (oldest.fingerprint, newest.fingerprint))
    every = list_scores(store)
    assert counterpart(every, rows[oldest.fingerprint]).fingerprint == newest.fingerprint
    assert counterpart(every, rows[newest.fingerprint]).fingerprint == middle
    assert counterpart(every, rows[newest.fingerprint]).metric == "pass@1"


@pytest.mark.parametrize(
    "text", ["not json", "{}", '[{"metric": "pass@1"}]', '[{"metric": 3, "value": "x"}]']
)
def test_damaged_scores(store: Store, life_cycle: LifeCycle, text: str) -> None:
    report = life_cycle.run()["sft"]
    path = store.local_path(report) / "scores.json"
    path.chmod(0o644)
    path.write_text(text)
    with pytest.raises(LineageError, match=rf"scores.json of eval_report {report.fingerprint[:8]}.*verify"):
        list_scores(store)


def test_a_missing_scores_file(store: Store, life_cycle: LifeCycle) -> None:
    (store.local_path(life_cycle.run()["sft"]) / "scores.json").unlink()
    with pytest.raises(LineageError, match="cannot be read"):
        list_scores(store)


def test_an_empty_store_has_none(store: Store) -> None:
    assert list_scores(store) == []


def test_models_with_equal_samples_share_a_report(store: Store, life_cycle: LifeCycle) -> None:
    """With coarse samples both models give the same bytes: one report, which is the number of both."""
    reports = life_cycle.run(samples={"decimals": 0})
    assert reports["sft"].fingerprint == reports["pretrained"].fingerprint
    digits = reports["sft"].fingerprint[:8]
    rows = [row for row in list_scores(store) if row.fingerprint == reports["sft"].fingerprint]
    assert [(row.id, row.model, row.computed_as, row.current) for row in rows] == [
        (f"{digits}/pass@1", "pretrained", "pretrained", True),
        (f"{digits}:sft/pass@1", "sft", "pretrained", True),
        (f"{digits}/pass@5", "pretrained", "pretrained", True),
        (f"{digits}:sft/pass@5", "sft", "pretrained", True),
    ]
    assert rows[1].updated > rows[1].created
    every = list_scores(store)
    assert find_scores(every, f"{digits}/pass@1", store.url) == [rows[0]]
    assert find_scores(every, f"{digits}:sft/pass@1", store.url) == [rows[1]]
    with pytest.raises(UnknownScoreError, match="is not of model 'rl'; it is of: pretrained, sft"):
        find_scores(every, f"{digits}:rl", store.url)


def test_the_lineage_of_a_shared_report_is_the_models_own(store: Store, life_cycle: LifeCycle) -> None:
    life_cycle.run(samples={"decimals": 0})
    rows = {row.model: row for row in list_scores(store) if row.current and row.metric == "pass@1"}
    assert rows["sft"].fingerprint == rows["pretrained"].fingerprint
    own, other = score_root(store, rows["pretrained"]), score_root(store, rows["sft"])
    assert "sft_checkpoint[base]" not in [node.label for node in nodes(own)]
    assert [node.label for node in nodes(other)][-3:] == [
        "sft_checkpoint[base]",
        "samples[sft|microbench]",
        "eval_report[sft|microbench]",
    ]
    causes = compare(own, other).causes
    assert [(cause.kind, cause.field, cause.effect) for cause in causes] == [
        ("stage", "sft_checkpoint", False)
    ]
    again = reproduce(
        other, Store(store.work_root.parent / "again"), launcher=InlineLauncher(), stages=STAGES
    )
    assert again.equal


def test_a_shared_report_stays_known_as_the_first_models(store: Store, life_cycle: LifeCycle) -> None:
    """The first model gets another report; the second still has the shared one."""
    shared = life_cycle.run(samples={"decimals": 0})["sft"].fingerprint
    life_cycle.run()
    fresh = [(row.model, row.current) for row in list_scores(store) if row.fingerprint == shared]
    assert fresh == [("pretrained", False), ("pretrained", False)]
