"""Decontamination: a document that shares a run of words with a benchmark problem goes, and the problem is
named.

A problem's words are those of its prompt and its reference solution, in lower case. Memory: about 120 bytes
an n-gram of the benchmarks (HumanEval: some 20,000); nothing for documents. Not covered: paraphrases, renamed
variables, and translations of a problem into another language, of which only shared text is found.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from codellm_dag.corpora.documents import Document
from codellm_dag.corpora.errors import CorpusError
from codellm_dag.corpora.steps.base import Rejection
from codellm_dag.corpora.steps.words import run_hashes, word_hashes, words_of
from codellm_dag.recipes.corpora import DecontaminationRecipe

PROBLEMS = "problems.jsonl"


class Decontamination:
    """Reason: ``benchmark/<name>``; the detail names the problem and quotes the shared words."""

    def __init__(self, recipe: DecontaminationRecipe, problems: Iterable[tuple[str, str, str]]) -> None:
        """``problems``: benchmark, problem id, and the text to look for."""
        self._recipe = recipe
        self._names: list[tuple[str, str]] = []
        grams: dict[int, dict[int, list[int]]] = {}
        for benchmark, problem_id, text in problems:
            words = words_of(text.lower())
            length = min(recipe.words_per_ngram, len(words))
            for gram in _grams(words, length, recipe.min_names):
                grams.setdefault(length, {}).setdefault(gram, []).append(len(self._names))
            self._names.append((benchmark, problem_id))
        self._grams = dict(sorted(grams.items()))
        self._sorted = {
            length: np.array(sorted(found), dtype=np.uint64) for length, found in self._grams.items()
        }

    def apply(self, document: Document) -> Document | Rejection:
        """The document when it shares too few n-grams with every problem."""
        words = words_of(document.text.lower())
        hashes = word_hashes(words)
        for length, known in self._sorted.items():
            runs = run_hashes(hashes, length) if len(words) >= length else np.empty(0, dtype=np.uint64)
            at = np.flatnonzero(known[np.searchsorted(known[:-1], runs)] == runs)
            rejection = self._verdict(length, runs, at, words) if len(at) else None
            if rejection:
                return rejection
        return document

    def _verdict(self, length: int, runs: np.ndarray, at: np.ndarray, words: list[str]) -> Rejection | None:
        shared: Counter[int] = Counter()
        first: dict[int, int] = {}
        seen: set[int] = set()
        for position in at.tolist():
            gram = int(runs[position])
            if gram in seen:
                continue
            seen.add(gram)
            for problem in self._grams[length][gram]:
                shared[problem] += 1
                first.setdefault(problem, position)
        needed = self._recipe.min_shared_ngrams if length == self._recipe.words_per_ngram else 1
        problem, count = min(shared.items(), key=lambda item: (-item[1], item[0]))
        if count < needed:
            return None
        benchmark, problem_id = self._names[problem]
        quote = " ".join(words[first[problem] : first[problem] + length])
        return Rejection(f"benchmark/{benchmark}", f"{problem_id}: {count} shared, first '{quote}'")


def _grams(words: list[str], length: int, min_names: int) -> set[int]:
    """Hashes of the n-grams of a problem that are worth looking for; a problem shorter than one: its all."""
    hashes = run_hashes(word_hashes(words), length)
    names = np.array([len(word) > 1 and not word.isdecimal() for word in words], dtype=np.int64)
    in_run = np.convolve(names, np.ones(max(1, length), dtype=np.int64), "valid")
    return set(hashes.tolist() if len(hashes) < 2 else hashes[in_run >= min_names].tolist())


def benchmark_texts(folders: Mapping[str, Path]) -> Iterator[tuple[str, str, str]]:
    """Benchmark, problem id and text (prompt and reference) of every problem of the artifacts.

    Raises CorpusError that names the file and line that is not a problem.
    """
    for benchmark, folder in folders.items():
        path = folder / PROBLEMS
        if not path.is_file():
            raise CorpusError(f"{path}: there is no such file; a problems artifact holds {PROBLEMS}")
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    problem = json.loads(line)
                    yield (
                        benchmark,
                        str(problem["problem_id"]),
                        f"{problem['prompt']}\n{problem['reference']}",
                    )
                except (ValueError, KeyError, TypeError) as error:
                    wanted = "a problem with problem_id, prompt and reference"
                    raise CorpusError(f"{path}, line {number}: not {wanted} ({error!r})") from error
