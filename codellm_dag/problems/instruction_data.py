"""Stage ``instruction_data``: one dataset of instructions as it is, for a comparison of datasets.

Nothing is run: what `executed_examples` rejects for want of tests stays here. Empty and too large samples go,
repeated ones, and those that share a run of words with a benchmark. Writes the files of `chat_files.py`.
Memory: 256 samples, 100 bytes a kept sample, and 120 bytes an n-gram of the benchmarks.
"""

from __future__ import annotations

import itertools
from pathlib import Path

from codellm_dag.problems.chat_files import Contamination, Repeats, Sieve
from codellm_dag.problems.instruction_rows import examples
from codellm_dag.recipes.sft_sources import InstructionDataRecipe
from codellm_dag.stages.protocol import Inputs, Report

STEPS = ("code", "duplicate", "decontamination")
_TELL_EVERY = 1000


def run(recipe: InstructionDataRecipe, inputs: Inputs, out: Path, report: Report) -> None:
    """Keep the samples of the recipe's one dataset, compared with every benchmark in slots ``benchmark/*``.

    Metrics: seen, examples, rejected. Raises CorpusError for rows without the fields, ValueError without a
    benchmark, or when the recipe has another number of datasets, or no sample is left.
    """
    if len(recipe.datasets) != 1:
        raise ValueError(f"datasets: {', '.join(recipe.names()) or 'none'}; a run takes one, its partition")
    (dataset,) = recipe.datasets
    contamination, repeats = Contamination(recipe.decontamination, inputs), Repeats()
    with Sieve(out, STEPS) as sieve:
        found = examples(dataset, "instruction", language="")
        for number, (example, _) in enumerate(itertools.islice(found, dataset.maximum_samples or None), 1):
            if why := example.unfit(dataset.maximum_bytes):
                sieve.reject(example, "code", *why)
            elif earlier := repeats.first(example):
                sieve.reject(example, "duplicate", "duplicate", earlier)
            elif overlap := contamination.of(example):
                sieve.reject(example, "decontamination", overlap.reason, overlap.detail)
            else:
                sieve.keep(example)
            if number % _TELL_EVERY == 0:
                report.progress(number, number, "samples")
    sieve.finish(report)
    if not sieve.kept:
        raise ValueError(
            f"{dataset.name}: no sample of {sieve.counts()['total']['documents_in']} is left; look at the "
            "fields that the recipe names, and at what the log says was rejected"
        )
