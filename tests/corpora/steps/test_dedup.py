"""Exact and near deduplication, against sets of word tuples made by hand."""

from __future__ import annotations

import itertools
import random
import re
import sysconfig
from pathlib import Path

import numpy as np
import pytest

from codellm_dag.corpora.steps.base import Rejection
from codellm_dag.corpora.steps.exact_dedup import ExactDedup
from codellm_dag.corpora.steps.near_dedup import NearDedup, jaccard
from codellm_dag.corpora.steps.words import run_hashes, word_hashes, words_of
from codellm_dag.recipes.corpora import ExactDedupRecipe, NearDedupRecipe


def _shingles(text: str, length: int = 5) -> set[tuple[str, ...]]:
    """Runs of words as plain tuples: the definition, without hashes."""
    words = re.findall(r"\w+", text)
    length = min(length, len(words))
    return {tuple(words[at : at + length]) for at in range(len(words) - length + 1)} if words else set()


def _similarity(one: str, other: str) -> float:
    first, second = _shingles(one), _shingles(other)
    return len(first & second) / len(first | second)


def _text(words: list[str]) -> str:
    return "\n".join(" ".join(words[at : at + 8]) for at in range(0, len(words), 8)) + "\n"


def test_exact_duplicates_keep_the_first(document):
    step = ExactDedup(ExactDedupRecipe())
    first = document("a = 1\n", "first.py")
    assert step.apply(first) is first
    assert step.apply(document("a = 1\n", "again.py")) == Rejection("duplicate", "of here@1: first.py")
    assert isinstance(step.apply(document("a = 1  \r\n\n", "blanks.py")), Rejection)
    assert not isinstance(step.apply(document(" a = 1\n", "indented.py")), Rejection)


def test_trailing_blanks_can_count(document):
    step = ExactDedup(ExactDedupRecipe(ignore_trailing_whitespace=False))
    step.apply(document("a = 1\n"))
    assert not isinstance(step.apply(document("a = 1 \n")), Rejection)
    assert isinstance(step.apply(document("a = 1\n")), Rejection)


@pytest.mark.parametrize(
    "text", ["", "one", "a b c d", "a b c d e", "a b a b a b a b a b", "x = f(y, z) + 1"]
)
def test_run_hashes_count_the_runs_of_words(text):
    runs = run_hashes(word_hashes(words_of(text)), 5)
    assert len(np.unique(runs)) == len(_shingles(text))


def test_word_order_and_word_borders_count():
    def one(text):
        return run_hashes(word_hashes(words_of(text)), 5).tolist()

    assert one("a b c d e") == one("a, b\n\tc (d) e")
    assert len({*one("a b c d e"), *one("b a c d e"), *one("ab c d e f"), *one("a bc d e f")}) == 4


def test_jaccard_equals_that_of_sets_on_real_files():
    root = Path(sysconfig.get_path("stdlib"))
    names = ("encodings/cp037.py", "encodings/cp500.py", "encodings/cp1140.py", "bisect.py", "heapq.py")
    texts = [(root / name).read_text(encoding="utf-8") for name in names]
    hashed = [np.unique(run_hashes(word_hashes(words_of(text)), 5)) for text in texts]
    for one, other in itertools.combinations(range(len(names)), 2):
        assert jaccard(hashed[one], hashed[other]) == pytest.approx(
            _similarity(texts[one], texts[other]), abs=0
        )


def test_a_near_copy_goes_and_a_less_similar_file_stays(document):
    words = [f"w{number}" for number in range(400)]
    original = _text(words)
    near = _text([*words[:200], "changed", *words[201:]])
    far = _text([word if number % 12 else f"x{number}" for number, word in enumerate(words)])
    assert _similarity(original, near) == pytest.approx(391 / 401)
    assert _similarity(original, far) < 0.5
    step = NearDedup(NearDedupRecipe())
    step.apply(document(original, "original.py"))
    assert step.apply(document(near, "near.py")) == Rejection(
        "near_duplicate", f"{391 / 401:.3f} similar to here@1: original.py"
    )
    assert not isinstance(step.apply(document(far, "far.py")), Rejection)


def test_a_chain_of_similar_files_does_not_collapse(document):
    """Each is 0.75 similar to the next and far from the one after: transitive closure would keep one."""
    words = [f"w{number}" for number in range(2000)]
    chain = [_text(words[start : start + 700]) for start in range(0, 1300, 100)]
    assert _similarity(chain[0], chain[1]) == pytest.approx(596 / 796)
    assert _similarity(chain[0], chain[2]) < 0.6
    step = NearDedup(NearDedupRecipe())
    kept = [at for at, text in enumerate(chain) if not isinstance(step.apply(document(text)), Rejection)]
    assert kept == list(range(0, 13, 2))


def test_every_removal_is_of_a_pair_that_is_similar_and_nearly_all_are_found(document):
    """Against all pairs by sets: 300 texts in families whose members differ by random edits."""
    random.seed(7)
    texts = []
    for family in range(60):
        base = [f"f{family}w{random.randrange(300)}" for _ in range(250)]
        for edits in (0, 2, 6, 12, 25):
            words = list(base)
            for _ in range(edits):
                words[random.randrange(len(words))] = f"e{random.randrange(10**6)}"
            texts.append(_text(words))
    step = NearDedup(NearDedupRecipe())
    results = [step.apply(document(text, str(at))) for at, text in enumerate(texts)]
    kept: list[int] = []
    missed = removed = 0
    for at, result in enumerate(results):
        best = max(
            (_similarity(texts[at], texts[other]) for other in kept if other // 5 == at // 5), default=0
        )
        if isinstance(result, Rejection):
            removed += 1
            named = int(result.detail.rsplit(" ", 1)[1])
            similarity = _similarity(texts[at], texts[named])
            assert named in kept
            assert similarity >= 0.7
            assert result.detail.startswith(f"{similarity:.3f} ")
        else:
            kept.append(at)
            missed += best >= 0.7
    assert removed > 100
    assert missed <= 1  # a pair at 0.7 escapes 32 bands of 4 rows with probability 0.0002


def test_minhash_agrees_with_jaccard():
    """The share of equal MinHash values estimates the similarity: standard error 0.02 at 512 hashes."""
    step = NearDedup(NearDedupRecipe(bands=128, rows=4))
    words = [f"w{number}" for number in range(1000)]
    one, other = _text(words), _text([*words[:800], *(f"x{number}" for number in range(200))])
    signatures = [
        step.signature(np.unique(run_hashes(word_hashes(words_of(text)), 5))) for text in (one, other)
    ]
    assert np.mean(signatures[0] == signatures[1]) == pytest.approx(_similarity(one, other), abs=0.08)


def test_texts_without_words_are_left_to_other_steps(document):
    step = NearDedup(NearDedupRecipe())
    for text in ("", "{}\n", "{}\n"):
        given = document(text)
        assert step.apply(given) is given
