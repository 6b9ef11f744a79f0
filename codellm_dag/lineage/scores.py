"""The numbers: every score in a store, and how one is named.

A score is one row of the ``scores.json`` of one ``eval_report`` artifact. Its id is the first eight hex
digits of the report's fingerprint, ``/``, and the metric: ``3fa1c2d4/pass@1``. Without the metric it names
all numbers of the report; an unambiguous beginning of the digits is enough.

Inputs count by content, so two models whose samples come out the same share a report. It is the number of
both: for the one that came second the id is ``3fa1c2d4:rl/pass@1``, and its lineage begins with its samples.

Not covered: how a score is computed (`codellm_dag/evaluation`) and what it cost (`cost.py`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from codellm_dag.lineage.errors import LineageError, UnknownScoreError
from codellm_dag.lineage.graph import Node, ancestry
from codellm_dag.store import Manifest, Ref, Store, StoreError

REPORT_STAGE = "eval_report"
_ID_DIGITS = 8
_ID = re.compile(r"(?P<report>[0-9a-fA-F]{1,64})(:(?P<model>[^/]+))?(/(?P<metric>.+))?")


@dataclass(frozen=True)
class Score:
    """One number with its uncertainty, and the artifact it was read from."""

    id: str
    """Report id and metric, e.g. ``3fa1c2d4/pass@1`` (or ``3fa1c2d4:rl/pass@1``)."""
    fingerprint: str
    """Of the eval_report artifact, 64 hex digits."""
    asset: str
    partition: str
    """The asset partition whose number it is."""
    benchmark: str
    metric: str
    model: str
    """Model key, e.g. ``sft``, or ``sft@epochs=2`` for a trial."""
    trial: str
    """The trial's changes, or ``base``."""
    value: float
    ci_low: float | None
    ci_high: float | None
    confidence: float | None
    estimator: str
    n: int | None
    """Problems, or documents for bits per byte."""
    samples_per_problem: int | None
    judged_inside: float
    """Share of samples, 0 to 1, whose verdict was formed inside the sandbox, hence forgeable."""
    infrastructure_errors: int
    """Samples without a verdict, left out."""
    higher_is_better: bool
    created: datetime
    """When the report was computed."""
    updated: datetime
    """When it became the report of this model; later than `created` if it was another model's before."""
    current: bool
    """Whether it still is the report of this model; a later run replaces it."""
    computed_as: str
    """The model for which the report was computed: another than `model` if its samples came out the same."""

    @property
    def report_id(self) -> str:
        """The part of the id that names the report."""
        return self.id.partition("/")[0]

    @property
    def title(self) -> str:
        """Benchmark and metric: ``microbench pass@1``, ``bits_per_byte/python``."""
        return self.metric if self.metric.startswith(self.benchmark) else f"{self.benchmark} {self.metric}"


def list_scores(store: Store) -> list[Score]:
    """Every score in the store, by benchmark, metric and time of computation."""
    refs: dict[str, list[Ref]] = {}
    for ref in store.refs.all():
        if ref.artifact.stage == REPORT_STAGE:
            refs.setdefault(ref.artifact.fingerprint, []).append(ref)
    rows = [
        score
        for manifest in store.manifests(REPORT_STAGE)
        for score in read_scores(store, manifest, refs.get(manifest.fingerprint, []))
    ]
    return sorted(rows, key=lambda row: (row.benchmark, row.metric, row.updated, row.id))


def read_scores(store: Store, manifest: Manifest, refs: Sequence[Ref]) -> list[Score]:
    """The scores of one report: for the model it was computed for, and for others whose present report it is.

    Raises LineageError if its ``scores.json`` is gone or damaged.
    """
    try:
        text = (store.local_path(manifest.artifact) / "scores.json").read_text(encoding="utf-8")
        rows = json.loads(text)
        if not isinstance(rows, list):
            raise TypeError("it is not a list")
        names: list[tuple[str, datetime | None]] = [(ref.partition or "", ref.updated) for ref in refs]
        if (manifest.partition or "") not in [name for name, _ in names]:
            names.insert(0, (manifest.partition or "", None))
        return [_score(manifest, row, *name) for row in rows for name in names]
    except (OSError, ValueError, KeyError, TypeError, StoreError) as error:
        raise LineageError(
            f"scores.json of {REPORT_STAGE} {manifest.fingerprint[:_ID_DIGITS]} cannot be read "
            f"({type(error).__name__}: {error}); `codellm-dag verify` names what is damaged, and running the "
            "asset again replaces it"
        ) from error


def report_manifest(store: Store, score: Score) -> Manifest:
    """The manifest of the report that a score stands in."""
    return next(m for m in store.manifests(REPORT_STAGE) if m.fingerprint == score.fingerprint)


def find_scores(scores: Sequence[Score], score_id: str, store_url: str) -> list[Score]:
    """The scores that an id names: one, or all of a report if the id has no metric.

    Of several models with one report, those of the model that the id names, else of the first.

    Raises UnknownScoreError if there are none, or if the digits begin several reports.
    """
    matched = _ID.fullmatch(score_id.strip())
    if not matched:
        raise UnknownScoreError(
            f"{score_id!r} is not a score id; an id looks like 3fa1c2d4/pass@1: hex digits of the report and "
            "a metric. `codellm-dag scores` lists them"
        )
    digits, model, metric = matched["report"].lower(), matched["model"], matched["metric"]
    found = [score for score in scores if score.fingerprint.startswith(digits)]
    if not found:
        raise UnknownScoreError(_unknown(score_id, scores, store_url))
    reports = sorted({score.fingerprint[:_ID_DIGITS] for score in found})
    if len(reports) > 1:
        raise UnknownScoreError(
            f"score id {score_id!r} is ambiguous: {len(reports)} reports begin with {digits!r} "
            f"({', '.join(reports[:4])}); give more digits"
        )
    models = dict.fromkeys(score.model for score in found)
    if model is not None and model not in models:
        raise UnknownScoreError(
            f"report {reports[0]} is not of model {model!r}; it is of: {', '.join(models)}"
        )
    of_model = [score for score in found if score.model == (model or score.computed_as)]
    chosen = [score for score in of_model if metric is None or score.metric.lower() == metric.lower()]
    if not chosen:
        metrics = ", ".join(score.metric for score in of_model)
        raise UnknownScoreError(f"report {reports[0]} has no metric {metric!r}; it has: {metrics}")
    return chosen


def score_root(store: Store, score: Score, known: dict[str, Node] | None = None) -> Node:
    """The node of the score's report, with all it was made from below it.

    Of a report that was computed for another model, the inputs are those that this model gave. `known` holds
    nodes that were read before.
    """
    root = ancestry(store, store.artifact(score.fingerprint), known)
    if score.model == score.computed_as:
        return root
    decisions = store.decisions.of(score.asset, score.partition)
    given = next((d.inputs for d in reversed(decisions) if d.fingerprint == score.fingerprint), {})
    inputs = {slot: ancestry(store, artifact, known) for slot, artifact in sorted(given.items())}
    renamed = root.artifact.model_copy(update={"name": score.asset, "partition": score.partition})
    return Node(renamed, root.manifest, inputs or root.inputs)


def counterpart(scores: Sequence[Score], score: Score) -> Score:
    """What a score is compared with if nobody says: the present one of its model, benchmark and metric.

    For the present one itself, the newest of the others. Raises UnknownScoreError if there is none.
    """
    kin = [
        other
        for other in scores
        if (other.model, other.benchmark, other.metric) == (score.model, score.benchmark, score.metric)
        and other.fingerprint != score.fingerprint
    ]
    if not kin:
        raise UnknownScoreError(
            f"{score.id} is the only {score.metric} of {score.model} on {score.benchmark} so far, so there "
            "is none to compare it with; name a second score (`codellm-dag scores` lists them)"
        )
    return max(kin, key=lambda other: (other.current, other.created))


def _unknown(score_id: str, scores: Sequence[Score], store_url: str) -> str:
    if not scores:
        return f"no score {score_id!r}: {store_url} has no scores yet; `codellm-dag demo` makes some"
    known = ", ".join(sorted({score.report_id for score in scores if score.current})[:6])
    return f"no score {score_id!r} in {store_url}; there are {known}, … (`codellm-dag scores` lists them all)"


def _model(partition: str | None) -> str:
    """The model of a partition ``model|benchmark``."""
    return (partition or "").rpartition("|")[0] or partition or ""


def _score(manifest: Manifest, row: dict[str, Any], partition: str, updated: datetime | None) -> Score:
    """A row of ``scores.json`` for one asset partition; `updated` is None if its name points elsewhere."""
    model, computed_as = _model(partition), _model(manifest.partition)
    trial = model.partition("@")[2] or "base"
    report = manifest.fingerprint[:_ID_DIGITS] + ("" if model == computed_as else f":{model}")
    return Score(
        id=f"{report}/{row['metric']}",
        fingerprint=manifest.fingerprint,
        asset=manifest.name,
        partition=partition,
        benchmark=str(row["benchmark"]),
        metric=str(row["metric"]),
        model=model,
        trial=trial,
        value=float(row["value"]),
        ci_low=row.get("ci_low"),
        ci_high=row.get("ci_high"),
        confidence=row.get("confidence"),
        estimator=str(row.get("estimator", "")),
        n=row.get("n"),
        samples_per_problem=row.get("samples_per_problem"),
        judged_inside=float(row.get("judged_inside") or 0),
        infrastructure_errors=int(row.get("infrastructure_errors") or 0),
        higher_is_better=bool(row.get("higher_is_better", True)),
        created=manifest.created,
        updated=updated or manifest.created,
        current=updated is not None,
        computed_as=computed_as,
    )
