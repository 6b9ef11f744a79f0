"""The sampler: equal to transformers' own decoding, to probabilities by hand, and repeatable."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pytest
import torch

from codellm_dag.generation import engine
from codellm_dag.generation.decoder import LlamaDecoder, ModuleDecoder, decoder_for
from codellm_dag.generation.engine import GenerationError, Generator, choose
from tests.modelkit.tiny import byte_tokenizer, tiny_llama

TOKENIZER = byte_tokenizer()
PROMPTS = ["def f(x):", "a", "some longer prompt that is not like the others"]


def model(kv_heads: int = 1) -> Any:
    return tiny_llama(len(TOKENIZER), kv_heads=kv_heads)


def greedy(llama: Any, prompt: str = "abc", end: int = 300, tokens: int = 20, **more: Any) -> Any:
    """The one greedy completion; 300 is no token of the vocabulary, so nothing ends it."""
    generator = Generator(llama, TOKENIZER, end_token_ids=[end])
    return generator.sample([prompt], max_new_tokens=tokens, temperature=0, **more)[0][0]


def ids(completions: list[Any]) -> list[tuple[int, ...]]:
    return [completion.token_ids for completion in completions]


@pytest.mark.parametrize("kv_heads", [1, 2])
def test_greedy_equals_transformers(kv_heads: int) -> None:
    llama = model(kv_heads)
    sampled = Generator(llama, TOKENIZER, end_token_ids=[300]).sample(
        PROMPTS, max_new_tokens=12, temperature=0
    )
    for prompt, (completion,) in zip(PROMPTS, sampled, strict=True):
        start = torch.tensor([TOKENIZER.encode(prompt)])
        whole = llama.generate(start, max_new_tokens=12, do_sample=False, eos_token_id=300, pad_token_id=0)
        assert completion.token_ids == tuple(whole[0, start.shape[1] :].tolist())


def test_both_decoders_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = Generator(model(), TOKENIZER)
    assert isinstance(decoder_for(generator.model), LlamaDecoder)
    request: dict[str, Any] = {
        "samples_per_prompt": 4,
        "max_new_tokens": 12,
        "temperature": 0.9,
        "top_p": 0.95,
    }
    fast = generator.sample(PROMPTS, **request)
    monkeypatch.setattr(engine, "decoder_for", ModuleDecoder)
    slow = generator.sample(PROMPTS, **request)
    assert [ids(row) for row in fast] == [ids(row) for row in slow]
    for left, right in zip(fast, slow, strict=True):
        for one, other in zip(left, right, strict=True):
            assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)


def test_a_sample_does_not_depend_on_its_company() -> None:
    generator = Generator(model(), TOKENIZER, batch_size=5)
    request: dict[str, Any] = {"max_new_tokens": 10, "temperature": 1.0, "seed": 7}
    together = generator.sample(PROMPTS, samples_per_prompt=3, **request)
    alone = generator.sample(PROMPTS[1:2], samples_per_prompt=2, **request)
    turned = generator.sample(PROMPTS[::-1], samples_per_prompt=3, **request)
    assert ids(alone[0]) == ids(together[1])[:2]
    assert [ids(row) for row in turned[::-1]] == [ids(row) for row in together]
    assert len(set(ids(together[0]))) == 3


def test_seed_and_repeated_prompts_give_other_samples() -> None:
    generator = Generator(model(), TOKENIZER)
    one, two = generator.sample(["abc", "abc"], max_new_tokens=10, seed=1)
    assert ids(one) != ids(two)
    assert ids(generator.sample(["abc"], max_new_tokens=10, seed=2)[0]) != ids(one)
    assert ids(generator.sample(["abc"], max_new_tokens=10, seed=1)[0]) == ids(one)


def test_text_and_token_prompts_are_the_same() -> None:
    generator = Generator(model(), TOKENIZER)
    assert generator.sample(["abc"], max_new_tokens=5) == generator.sample(
        [TOKENIZER.encode("abc")], max_new_tokens=5
    )


def test_logprobs_are_those_of_the_plain_sequence() -> None:
    llama = model()
    (completion,) = Generator(llama, TOKENIZER).sample(["abc"], max_new_tokens=8, temperature=0.5)[0]
    start = TOKENIZER.encode("abc")
    with torch.no_grad():
        logits = llama(torch.tensor([start + list(completion.token_ids)])).logits[0]
    for number, (token, logprob) in enumerate(zip(completion.token_ids, completion.logprobs, strict=True)):
        expected = torch.log_softmax(logits[len(start) - 1 + number] / 0.5, -1)[token]
        assert logprob == pytest.approx(float(expected), abs=1e-4)


def test_choose_by_hand() -> None:
    # Probabilities 0.2, 0.5, 0.3: cumulative 0.2, 0.7, 1.0.
    logits = torch.tensor([[0.2, 0.5, 0.3]]).log().repeat(5, 1)
    tokens, logprobs = choose(logits, torch.tensor([0.0, 0.1999, 0.2001, 0.6999, 0.9999]), 1.0, 1.0)
    assert tokens.tolist() == [0, 0, 1, 1, 2]
    assert logprobs.exp().tolist() == pytest.approx([0.2, 0.2, 0.5, 0.5, 0.3])
    # The smallest set that reaches 0.75 is {0.5, 0.3}: rescaled 0.625 and 0.375, in the vocabulary's order.
    tokens, logprobs = choose(logits, torch.tensor([0.0, 0.1, 0.62, 0.63, 0.99]), 1.0, 0.75)
    assert tokens.tolist() == [1, 1, 1, 2, 2]
    assert logprobs.exp().tolist() == pytest.approx([0.5, 0.5, 0.5, 0.3, 0.3])  # before the cut
    # Temperature 0.5 squares: 0.04, 0.25, 0.09 of 0.38.
    assert choose(logits[:1], torch.tensor([0.0]), 0.5, 1.0)[1].exp().item() == pytest.approx(0.04 / 0.38)
    assert choose(logits[:1], torch.tensor([0.0]), 0.0, 1.0)[0].tolist() == [1]


def test_sampled_frequencies_match_the_models_probabilities() -> None:
    llama = model()
    start = TOKENIZER.encode("x")
    with torch.no_grad():
        probabilities = torch.softmax(llama(torch.tensor([start])).logits[0, -1], -1)
    counts: Counter[int] = Counter()
    for (token,) in ids(
        Generator(llama, TOKENIZER).sample([start], samples_per_prompt=4000, max_new_tokens=1)[0]
    ):
        counts[token] += 1
    for token, count in counts.most_common(5):
        expected = float(probabilities[token])
        assert abs(count / 4000 - expected) < 4 * math.sqrt(expected * (1 - expected) / 4000)


def test_end_tokens_and_stops_end_a_sample() -> None:
    llama = model()
    free = greedy(llama)
    assert (len(free.token_ids), free.finished) == (20, False)
    end = free.token_ids[5]
    ended = greedy(llama, end=end)
    assert (ended.token_ids, ended.finished) == (free.token_ids[: free.token_ids.index(end) + 1], True)
    piece = free.text[3:5]
    stopped = greedy(llama, stop=[piece])
    assert (stopped.text, stopped.finished) == (free.text[: free.text.index(piece)], True)
    assert len(stopped.token_ids) < 20


def test_default_end_tokens() -> None:
    vocabulary = TOKENIZER.get_vocab()
    ends = Generator(model(), TOKENIZER).end_token_ids
    assert ends == {vocabulary["<|endoftext|>"], vocabulary["<|im_end|>"]}


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"samples_per_prompt": 0}, "samples_per_prompt = 0: must be at least 1"),
        ({"max_new_tokens": 0}, "max_new_tokens = 0: must be at least 1"),
        ({"temperature": -1.0}, "temperature = -1.0: must be 0"),
        ({"temperature": math.nan}, "temperature = nan: must be 0"),
        ({"top_p": 0.0}, "top_p = 0.0: must be above 0"),
        (
            {"max_new_tokens": 254},
            "prompt 0 has 3 tokens and max_new_tokens = 254, together more than the model's 256",
        ),
    ],
)
def test_bad_requests(request_: dict[str, Any], message: str) -> None:
    with pytest.raises(GenerationError, match=message):
        Generator(model(), TOKENIZER).sample(["abc"], **request_)


def test_bad_prompts_and_batches() -> None:
    with pytest.raises(GenerationError, match="prompt 1 has no tokens"):
        Generator(model(), TOKENIZER).sample(["abc", ""])
    with pytest.raises(GenerationError, match="batch_size = 0"):
        Generator(model(), TOKENIZER, batch_size=0)


def test_progress_counts_sequences() -> None:
    seen: list[tuple[int, int]] = []
    generator = Generator(model(), TOKENIZER, batch_size=4)
    generator.sample(
        PROMPTS, samples_per_prompt=2, max_new_tokens=2, on_progress=lambda *pair: seen.append(pair)
    )
    assert seen == [(4, 6), (6, 6)]
