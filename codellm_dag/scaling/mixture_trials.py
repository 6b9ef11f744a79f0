"""Stage ``mixture_trials``: what the planned mixture of languages gains over equal shares, at equal tokens.

For every seed one small model is trained on rows shared out among the languages as planned, and one on as
many rows in equal shares, by the trainer itself; both start from the same weights. All are measured in bits
per byte on the same held-out documents of each language, read with the same tokenizer. The differences come
with Student's interval over the seeds: what another seed may change, not what other documents may. A language
whose share is more than its shard holds is read again, as in pretraining; the table says how often.
Writes ``report.json``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch

from codellm_dag.corpora.mixture import MIXTURE
from codellm_dag.evaluation.likelihood import document_bits
from codellm_dag.evaluation.measure_likelihood import heldout_documents
from codellm_dag.recipes.base import InvalidRecipeError
from codellm_dag.recipes.scaling import MixtureTrialsRecipe
from codellm_dag.scaling.nested import NestedReport
from codellm_dag.scaling.student import mean_interval
from codellm_dag.scaling.study import Study
from codellm_dag.stages.protocol import Inputs, Report
from codellm_dag.tokens import tokenizer as tokenizers
from codellm_dag.tokens.special import END_OF_TEXT
from codellm_dag.training.architecture import of_shape
from codellm_dag.training.batch_schedule import batch_schedule
from codellm_dag.training.checkpoint_stage import plan_of
from codellm_dag.training.flops import training_flops_per_token
from codellm_dag.training.model import new_model
from codellm_dag.training.output import run_identity, write_json
from codellm_dag.training.rows import Rows, ShardRows, TrainingRow, row_order
from codellm_dag.training.run import train

ALLOCATIONS = ("planned", "uniform")
ALL = "all"


class AllocatedRows:
    """`total` rows of several sources by given shares, drawn by `seed`; the trainer mixes them.

    `rows`: a source's rows by its name. A source's rows repeat only when all of them were drawn.
    """

    def __init__(self, sources: Mapping[str, Rows], rows: Mapping[str, int], seed: int) -> None:
        self.sequence_length = next(iter(sources.values())).sequence_length
        self._sources = [sources[name] for name in rows]
        self._chosen = [row_order(len(sources[name]), count, seed) for name, count in rows.items()]
        self._ends = list(accumulate(rows.values()))

    def __len__(self) -> int:
        return self._ends[-1]

    def row(self, number: int) -> TrainingRow:
        """Row `number`, source after source."""
        which = int(np.searchsorted(self._ends, number, side="right"))
        chosen = self._chosen[which]
        return self._sources[which].row(int(chosen[number - (self._ends[which] - len(chosen))]))


def shared_out(total: int, weights: Mapping[str, float]) -> dict[str, int]:
    """`total` in whole parts in proportion to `weights`: what rounding leaves goes to the largest rests."""
    whole = sum(weights.values())
    exact = {name: total * weight / whole for name, weight in weights.items()}
    parts = {name: int(value) for name, value in exact.items()}
    rests = sorted(exact, key=lambda name: (parts[name] - exact[name], name))
    for name in rests[: total - sum(parts.values())]:
        parts[name] += 1
    return parts


def run(recipe: MixtureTrialsRecipe, inputs: Inputs, out: Path, report: Report) -> None:
    """Train on inputs ``shards/<language>``, measure on the held-out documents of ``corpus``.

    Metrics: ``<language>_difference``, bits per byte with the plan less those with equal shares (below 0: the
    plan is better), means over seeds, and ``all_difference`` over all documents. Raises InvalidRecipeError
    where fewer than two languages have rows and held-out documents, or where a weight has no shard.
    """
    torch.set_num_threads(report.runtime.threads)
    folders = {language: shard.path for language, shard in inputs.many("shards").items()}
    together = ShardRows(list(folders.values()))
    length, vocabulary = together.sequence_length, together.vocabulary_size
    texts = _texts(recipe, inputs["corpus"].path)
    weights = _planned(recipe, inputs["corpus"].path, [name for name in folders if name in texts])
    sources = {language: ShardRows([folders[language]]) for language in weights}
    schedule = batch_schedule(recipe.training.batch, recipe.training.tokens // length, length)
    shares = {
        "planned": shared_out(schedule.rows, weights),
        "uniform": shared_out(schedule.rows, dict.fromkeys(weights, 1.0)),
    }
    seeds = range(recipe.training.seed, recipe.training.seed + recipe.seeds)
    per_token = training_flops_per_token(of_shape(recipe.training.model, vocabulary), length)
    flops = dict.fromkeys(
        (f"{name}-{seed}" for seed in seeds for name in ALLOCATIONS),
        float(schedule.rows * length * per_token),
    )
    identity = run_identity(recipe, inputs, report.runtime.threads)
    study = Study(report, identity, flops)
    documents = {language: texts[language] for language in weights}
    given = _Given(recipe, inputs["tokenizer"].path, sources, documents, identity)
    trials = {
        name: [study.trial(f"{name}-{seed}", partial(_trial, given, shares[name], seed)) for seed in seeds]
        for name in ALLOCATIONS
    }
    rows = summary(trials, {language: len(source) for language, source in sources.items()}, shares, recipe)
    values = {"trials": trials, "languages": rows, "rows": shares, "seeds": list(seeds)}
    write_json(out / "report.json", values)
    report.table("differences", rows)
    report.metric(**{f"{row['language']}_difference": row["value"] for row in rows})


def summary(
    trials: Mapping[str, Sequence[Mapping[str, Any]]],
    available: Mapping[str, int],
    shares: Mapping[str, Mapping[str, int]],
    recipe: MixtureTrialsRecipe,
) -> list[dict[str, Any]]:
    """A row a language and one of all documents: shares, bits per byte, the difference and its interval.

    `trials`: bits and bytes of each language by allocation and seed. ``<allocation>_noise`` is the largest
    less the smallest value of any seed.
    """
    rows = []
    for language in [*available, ALL]:
        chosen = list(available) if language == ALL else [language]
        row: dict[str, Any] = {"language": language, "metric": f"{language}: planned - uniform"}
        found = {}
        for name in ALLOCATIONS:
            found[name] = [
                sum(trial[key]["bits"] for key in chosen) / sum(trial[key]["bytes"] for key in chosen)
                for trial in trials[name]
            ]
            count = sum(shares[name][key] for key in chosen)
            row[f"{name}_share"] = count / sum(shares[name].values())
            row[f"{name}_epochs"] = count / sum(available[key] for key in chosen)
            row[f"{name}_bits_per_byte"] = fmean(found[name])
            row[f"{name}_noise"] = max(found[name]) - min(found[name])
        differences = [a - b for a, b in zip(*(found[name] for name in ALLOCATIONS), strict=True)]
        row["value"], row["ci_low"], row["ci_high"] = mean_interval(differences, recipe.confidence)
        rows.append({**row, "n": len(differences)})
    return rows


@dataclass(frozen=True)
class _Given:
    """What all trials share. ``documents``: held-out texts of each language."""

    recipe: MixtureTrialsRecipe
    tokenizer: Path
    sources: Mapping[str, ShardRows]
    documents: Mapping[str, Sequence[str]]
    identity: str


def _trial(
    given: _Given, rows: Mapping[str, int], seed: int, trial: NestedReport
) -> dict[str, dict[str, float]]:
    """Train one model and measure it: bits and bytes of each language's documents."""
    from transformers import AutoTokenizer

    training = given.recipe.training.with_changes({"seed": seed})
    vocabulary = tokenizers.load(given.tokenizer)
    end = tokenizers.token_id(vocabulary, END_OF_TEXT)
    model = new_model(training.model, vocabulary.get_vocab_size(), end, seed)
    allocated = AllocatedRows(given.sources, rows, seed)
    length = allocated.sequence_length
    schedule = batch_schedule(training.batch, training.tokens // length, length)
    own = hashlib.sha256(f"{given.identity} {trial.name}".encode()).hexdigest()
    plan = plan_of(training, schedule, own, 1, trial.runtime.micro_rows)
    _, model = train(model, allocated, plan, trial)
    model.eval()
    reader = AutoTokenizer.from_pretrained(given.tokenizer, local_files_only=True)
    found = {}
    for language, texts in given.documents.items():
        bits = document_bits(model, reader, texts, given.recipe.bits_per_byte)
        found[language] = {"bits": sum(bits), "bytes": sum(len(text.encode()) for text in texts)}
    return found


def _texts(recipe: MixtureTrialsRecipe, corpus: Path) -> dict[str, list[str]]:
    texts: dict[str, list[str]] = {}
    for _, language, text in heldout_documents(corpus, recipe.bits_per_byte):
        texts.setdefault(language, []).append(text)
    return texts


def _planned(recipe: MixtureTrialsRecipe, corpus: Path, languages: Sequence[str]) -> dict[str, float]:
    """Weights of the languages that can be compared, in sorted order."""
    if len(languages) < 2:
        raise InvalidRecipeError(
            f"mixture_trials: {len(languages)} languages have shards and held-out documents; at least 2 are "
            "compared, so add a language to raw_corpus.sources or raise mixture.heldout_fraction"
        )
    if recipe.planned:
        weights = {entry.language: entry.weight for entry in recipe.planned}
        if missing := sorted(set(weights) ^ set(languages)):
            raise InvalidRecipeError(
                f"planned = {', '.join(sorted(weights))}: {', '.join(missing)} has no weight, or no shard "
                f"with held-out documents; allowed: a weight for each of {', '.join(sorted(languages))}"
            )
    else:
        planned = json.loads((corpus / MIXTURE).read_text(encoding="utf-8"))["languages"]
        weights = {language: float(planned[language]["bytes"]) for language in languages}
    return {language: weights[language] for language in sorted(weights)}
