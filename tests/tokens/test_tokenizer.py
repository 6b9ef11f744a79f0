"""The tokenizer stage: bytes round-trip, digits are single, files are loadable and repeatable."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from codellm_dag.recipes.tokens import TokenizerRecipe
from codellm_dag.stages.protocol import Inputs
from codellm_dag.tokens import tokenizer
from codellm_dag.tokens.corpus import InvalidCorpusError
from codellm_dag.tokens.special import CHAT_TEMPLATE, SPECIAL_TOKENS, chat_text
from tests.modelkit.tiny import RecordingReport, artifact
from tests.tokens.conftest import write_mixture


def test_any_text_round_trips(vocabulary: Path) -> None:
    loaded = tokenizer.load(vocabulary)
    rng = random.Random(0)
    texts = ["", "a\r\n\tb  \n\n  c", "naïve 日本語 🦀 \x00\x7f", "def f(x):\n    return x ** 2\n"]
    texts += [
        "".join(chr(rng.choice((rng.randint(0, 0x2FF), rng.randint(0x10000, 0x10FFFF)))) for _ in range(40))
    ]
    for text in texts:
        assert loaded.decode(loaded.encode(text).ids) == text


def test_digits_are_single_tokens(vocabulary: Path) -> None:
    assert tokenizer.load(vocabulary).encode("x = 2026").tokens[-4:] == ["2", "0", "2", "6"]


def test_special_tokens_have_the_first_ids_and_are_never_split(vocabulary: Path) -> None:
    loaded = tokenizer.load(vocabulary)
    assert [loaded.token_to_id(name) for name in SPECIAL_TOKENS] == list(range(len(SPECIAL_TOKENS)))
    assert loaded.encode("a<|im_end|>b").tokens == ["a", "<|im_end|>", "b"]
    assert loaded.get_vocab_size() == 600


def test_transformers_loads_it_with_its_chat_template(vocabulary: Path) -> None:
    from transformers import AutoTokenizer

    auto = AutoTokenizer.from_pretrained(vocabulary, local_files_only=True)
    assert (auto.eos_token, auto.pad_token, auto.chat_template) == (
        "<|endoftext|>",
        "<|endoftext|>",
        CHAT_TEMPLATE,
    )
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "def f():\n"},
        {"role": "assistant", "content": "    return 1"},
    ]
    for prompt in (False, True):
        whole = auto.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt)
        assert whole == chat_text(messages, prompt)
    assert (
        auto.encode(chat_text(messages, True))
        == tokenizer.load(vocabulary).encode(chat_text(messages, True)).ids
    )


def test_same_corpus_same_bytes_whatever_the_order(mixture: Path, vocabulary: Path, tmp_path: Path) -> None:
    from codellm_dag.tokens.corpus import read_documents

    documents = list(read_documents(mixture))
    turned = write_mixture(
        tmp_path / "turned",
        {doc.language: [d.text for d in documents if d.language == doc.language][::-1] for doc in documents},
    )
    out = tmp_path / "out"
    out.mkdir()
    tokenizer.run(
        TokenizerRecipe(vocabulary_size=600),
        Inputs({"corpus": artifact(turned)}),
        out,
        RecordingReport(tmp_path),
    )
    assert {path.name: path.read_bytes() for path in out.iterdir()} == {
        path.name: path.read_bytes() for path in vocabulary.iterdir()
    }


def test_clear_errors(tmp_path: Path) -> None:
    recipe, report = TokenizerRecipe(vocabulary_size=2048), RecordingReport(tmp_path)
    with pytest.raises(InvalidCorpusError, match=r"train\.parquet does not exist"):
        tokenizer.run(recipe, Inputs({"corpus": artifact(tmp_path)}), tmp_path, report)
    small = write_mixture(tmp_path / "small", {"python": ["x = 1\n"]})
    with pytest.raises(InvalidCorpusError, match="vocabulary_size = 2048: 6 bytes of text give only"):
        tokenizer.run(recipe, Inputs({"corpus": artifact(small)}), tmp_path, report)
    with pytest.raises(FileNotFoundError, match=r"a tokenizer folder holds tokenizer\.json"):
        tokenizer.load(tmp_path)
