"""Bits against token-by-token computation."""

from __future__ import annotations

import math

import pytest
import torch

from codellm_dag.evaluation.errors import BadInput
from codellm_dag.evaluation.likelihood import document_bits, windows
from codellm_dag.recipes.evaluation import BitsPerByteRecipe
from tests.modelkit.tiny import byte_tokenizer, tiny_llama

TEXTS = ["def f(x):\n    return x + 1\n" * 2, "é", "a = 'ünï'\n" * 3, ""]


@pytest.fixture(scope="module")
def tokenizer():
    return byte_tokenizer()


@pytest.fixture(scope="module")
def model(tokenizer):
    return tiny_llama(len(tokenizer))


@torch.no_grad()
def token_by_token(model, tokenizer, text: str, window: int, stride: int) -> float:
    """Each token's bits from its own forward pass over the context that the window rule gives it."""
    sequence = [tokenizer.eos_token_id, *tokenizer.encode(text)]
    bits, position = 0.0, 1
    while position < len(sequence):
        last = min(len(sequence) - 1, window if position == 1 else position + stride - 1)
        start = max(0, last - window)
        while position <= last:
            context = torch.tensor([sequence[start:position]])
            logprobs = torch.log_softmax(model(context).logits[0, -1].double(), -1)
            bits -= float(logprobs[sequence[position]]) / math.log(2)
            position += 1
    return bits


@pytest.mark.parametrize(("window", "stride", "batch"), [(256, 256, 1), (16, 4, 3), (16, 16, 4), (9, 1, 8)])
def test_bits_equal_token_by_token(model, tokenizer, window: int, stride: int, batch: int):
    recipe = BitsPerByteRecipe(window_tokens=window, stride_tokens=stride, batch_size=batch)
    expected = [token_by_token(model, tokenizer, text, window, stride) for text in TEXTS]
    assert document_bits(model, tokenizer, TEXTS, recipe) == pytest.approx(expected, rel=1e-4)
    assert expected[3] == 0.0


def test_a_model_that_knows_nothing_spends_the_logarithm_of_its_vocabulary(tokenizer):
    flat = tiny_llama(len(tokenizer))
    with torch.no_grad():
        flat.model.norm.weight.zero_()
    bits = document_bits(flat, tokenizer, ["abcd"], BitsPerByteRecipe(window_tokens=256))
    assert bits == pytest.approx([4 * math.log2(259)], rel=1e-6)


@pytest.mark.parametrize(
    ("targets", "window", "stride"), [(100, 10, 3), (5, 10, 3), (10, 10, 10), (11, 8, 8)]
)
def test_windows_score_each_token_once_with_enough_context(targets: int, window: int, stride: int):
    scored = []
    for item in windows(0, targets, window, stride):
        assert item.end - item.start <= window
        for target in range(item.first + 1, item.end + 1):
            scored.append(target)
            assert target - item.start >= min(target, window - stride + 1)
    assert scored == list(range(1, targets + 1))


def test_progress_ends_at_all_tokens(model, tokenizer):
    seen: list[tuple[int, int]] = []
    recipe = BitsPerByteRecipe(window_tokens=256)
    document_bits(model, tokenizer, TEXTS, recipe, lambda *step: seen.append(step))
    tokens = sum(len(text.encode()) for text in TEXTS)
    assert seen[-1] == (tokens, tokens)


def test_a_window_above_the_models_positions_is_refused(model, tokenizer):
    with pytest.raises(BadInput, match=r"window_tokens = 512 is above the model's 256 positions"):
        document_bits(model, tokenizer, TEXTS, BitsPerByteRecipe(window_tokens=512))


def test_a_tokenizer_that_cannot_write_the_text_is_refused(model):
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"[UNK]": 0, "<s>": 1, "a": 2}, unk_token="[UNK]"))
    lossy = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]", bos_token="<s>")
    with pytest.raises(BadInput, match="unknown token"):
        document_bits(model, lossy, ["b"], BitsPerByteRecipe(window_tokens=8, stride_tokens=8))
    startless = PreTrainedTokenizerFast(tokenizer_object=words)
    with pytest.raises(BadInput, match="neither a bos_token nor an eos_token"):
        document_bits(model, startless, ["a"], BitsPerByteRecipe(window_tokens=8, stride_tokens=8))
