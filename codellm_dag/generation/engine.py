"""Batched sampling from a causal language model on one device: many prompts, several samples each.

Prompts of similar length share a batch, a prompt is read once for all its samples, rows that ended are
dropped, and the weights are read afresh at every call of `sample` (RL changes them in between). A sample
depends on the seed, its prompt's tokens and its number, not on which other prompts are in the call, up to
float rounding in the logits. Does not serve requests, does not do beam search.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from codellm_dag.generation.completion import Completion
from codellm_dag.generation.decoder import Decoder, decoder_for

Prompt = str | Sequence[int]

_DROP_BELOW = 0.75
"""Rows are dropped once fewer than this share of them is unfinished; dropping copies the cache."""


class GenerationError(ValueError):
    """A request the sampler cannot serve; the message names the argument, its value and what is allowed."""


@dataclass
class _Row:
    """A sequence being sampled."""

    prompt: int
    uniforms: np.ndarray
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    finished: bool = False


class Generator:
    """Samples from `model` (a transformers causal model in eval mode) with `tokenizer`.

    ``batch_size``: most sequences decoded at once. ``end_token_ids``: ids that end a sequence; by default the
    tokenizer's ``eos_token`` and ``<|im_end|>`` and ``<|endoftext|>`` where they exist.
    """

    def __init__(
        self, model: Any, tokenizer: Any, *, batch_size: int = 256, end_token_ids: Sequence[int] = ()
    ) -> None:
        if batch_size < 1:
            raise GenerationError(f"batch_size = {batch_size}: must be at least 1")
        self.model = model
        self.tokenizer = tokenizer
        self.batch_size = batch_size
        self.end_token_ids = frozenset(end_token_ids or _end_token_ids(tokenizer))

    def sample(
        self,
        prompts: Sequence[Prompt],
        *,
        samples_per_prompt: int = 1,
        max_new_tokens: int = 128,
        temperature: float = 1.0,
        top_p: float = 1.0,
        seed: int = 0,
        stop: Sequence[str] = (),
        on_progress: Callable[[int, int], None] | None = None,
    ) -> list[list[Completion]]:
        """`samples_per_prompt` completions of each prompt (text, or token ids), in the prompts' order.

        ``temperature`` 0 is greedy. ``top_p``: smallest set of most likely tokens whose mass reaches it.
        ``stop``: strings that end a sample; the text is cut before the first of them. ``on_progress`` is told
        finished and total sequences. Raises GenerationError for an argument out of range, or a prompt that
        is empty or leaves no room in the model's positions.
        """
        _check(samples_per_prompt, max_new_tokens, temperature, top_p)
        encoded = [self._encode(number, prompt, max_new_tokens) for number, prompt in enumerate(prompts)]
        results: list[list[Completion]] = [[] for _ in prompts]
        keys = _keys(encoded, seed)
        # Longest first: the largest cache is allocated first, and a batch's prompts are about equally long.
        order = sorted(range(len(encoded)), key=lambda number: (-len(encoded[number]), number))
        per_batch = max(1, self.batch_size // samples_per_prompt)
        decoder = decoder_for(self.model)
        done, total = 0, len(encoded) * samples_per_prompt
        for start in range(0, len(order), per_batch):
            chosen = order[start : start + per_batch]
            rows = [
                _Row(number, _uniforms(keys[number], sample, max_new_tokens))
                for number in chosen
                for sample in range(samples_per_prompt)
            ]
            self._decode(decoder, [encoded[number] for number in chosen], rows, temperature, top_p, stop)
            for row in rows:
                results[row.prompt].append(self._completion(row, stop))
            done += len(rows)
            if on_progress is not None:
                on_progress(done, total)
        return results

    def _encode(self, number: int, prompt: Prompt, max_new_tokens: int) -> list[int]:
        tokens = (
            self.tokenizer.encode(prompt, add_special_tokens=False)
            if isinstance(prompt, str)
            else list(prompt)
        )
        if not tokens:
            raise GenerationError(f"prompt {number} has no tokens; a prompt needs at least one")
        limit = getattr(self.model.config, "max_position_embeddings", None)
        if limit and len(tokens) + max_new_tokens > limit:
            raise GenerationError(
                f"prompt {number} has {len(tokens)} tokens and max_new_tokens = {max_new_tokens}, together "
                f"more than the model's {limit} positions; shorten the prompt or lower max_new_tokens"
            )
        return tokens

    def _decode(
        self,
        decoder: Decoder,
        prompts: list[list[int]],
        rows: list[_Row],
        temperature: float,
        top_p: float,
        stop: Sequence[str],
    ) -> None:
        longest = max(map(len, prompts))
        padding = torch.tensor([longest - len(prompt) for prompt in prompts])
        tokens = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt in prompts])
        room = len(rows[0].uniforms)
        logits = decoder.prefill(tokens, padding, len(rows) // len(prompts), room)
        active = list(rows)
        for position in range(room):
            uniforms = torch.from_numpy(np.array([row.uniforms[position] for row in active]))
            chosen, logprobs = choose(logits, uniforms, temperature, top_p)
            for row, token, logprob in zip(active, chosen.tolist(), logprobs.tolist(), strict=True):
                if not row.finished:
                    self._append(row, token, logprob, stop)
            unfinished = [index for index, row in enumerate(active) if not row.finished]
            if not unfinished or position == room - 1:
                return
            if len(unfinished) < _DROP_BELOW * len(active):
                keep = torch.tensor(unfinished)
                decoder.keep(keep)
                active, chosen = [active[index] for index in unfinished], chosen[keep]
            logits = decoder.step(chosen)

    def _append(self, row: _Row, token: int, logprob: float, stop: Sequence[str]) -> None:
        row.tokens.append(token)
        row.logprobs.append(logprob)
        row.finished = token in self.end_token_ids
        if stop and not row.finished:
            # Only a stop string that this token completes is new, and a token has at least one byte.
            window = max(len(string.encode()) for string in stop)
            tail = self.tokenizer.decode(row.tokens[-window:], skip_special_tokens=True)
            row.finished = any(string in tail for string in stop)

    def _completion(self, row: _Row, stop: Sequence[str]) -> Completion:
        text = self.tokenizer.decode(row.tokens, skip_special_tokens=True)
        cut = min((text.find(string) for string in stop if string in text), default=len(text))
        return Completion(tuple(row.tokens), text[:cut], tuple(row.logprobs), row.finished)


def choose(logits: Tensor, uniforms: Tensor, temperature: float, top_p: float) -> tuple[Tensor, Tensor]:
    """Token ids [rows] and their log-probabilities [rows] for ``logits`` [rows, vocabulary].

    Sampling inverts the cumulative distribution at ``uniforms`` [rows] in [0, 1), so one number decides one
    token whatever else is in the batch.
    """
    if temperature == 0.0:
        chosen = logits.argmax(-1)
        return chosen, _logprobs(logits, chosen)
    scaled = logits / temperature
    probabilities = torch.softmax(scaled, -1)
    if top_p < 1.0:
        probabilities = _nucleus(probabilities, top_p)
    cumulative = probabilities.cumsum(-1, dtype=torch.float64)
    target = uniforms.to(torch.float64)[:, None] * cumulative[:, -1:]
    chosen = torch.searchsorted(cumulative, target, right=True).squeeze(-1).clamp_max(logits.shape[-1] - 1)
    return chosen, _logprobs(scaled, chosen)


def _logprobs(logits: Tensor, chosen: Tensor) -> Tensor:
    return logits.gather(-1, chosen[:, None]).squeeze(-1) - logits.logsumexp(-1)


def _nucleus(probabilities: Tensor, top_p: float) -> Tensor:
    ordered, order = torch.sort(probabilities, dim=-1, descending=True, stable=True)
    before = ordered.cumsum(-1) - ordered
    return torch.zeros_like(probabilities).scatter(-1, order, ordered.masked_fill(before >= top_p, 0.0))


def _uniforms(key: int, sample: int, count: int) -> np.ndarray:
    return np.random.Generator(np.random.Philox(key=[key, sample])).random(count)


def _keys(prompts: Sequence[Sequence[int]], seed: int) -> list[int]:
    """A 64-bit key a prompt, from the seed, its tokens, and how often they occurred before in the call."""
    occurrences: Counter[bytes] = Counter()
    keys = []
    for prompt in prompts:
        content = np.asarray(prompt, dtype="<i8").tobytes()
        payload = f"{seed}/{occurrences[content]}/".encode() + content
        occurrences[content] += 1
        keys.append(int.from_bytes(hashlib.sha256(payload).digest()[:8], "little"))
    return keys


def _end_token_ids(tokenizer: Any) -> set[int]:
    vocabulary = tokenizer.get_vocab()
    names = {tokenizer.eos_token, "<|im_end|>", "<|endoftext|>"}
    return {vocabulary[name] for name in names if name in vocabulary}


def _check(samples_per_prompt: int, max_new_tokens: int, temperature: float, top_p: float) -> None:
    if samples_per_prompt < 1:
        raise GenerationError(f"samples_per_prompt = {samples_per_prompt}: must be at least 1")
    if max_new_tokens < 1:
        raise GenerationError(f"max_new_tokens = {max_new_tokens}: must be at least 1")
    if not 0.0 <= temperature < float("inf"):
        raise GenerationError(f"temperature = {temperature}: must be 0 (greedy) or a positive number")
    if not 0.0 < top_p <= 1.0:
        raise GenerationError(f"top_p = {top_p}: must be above 0 and at most 1")
