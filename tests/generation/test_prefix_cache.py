"""Rows that share a prompt's cache decode as if each had its own."""

from __future__ import annotations

import pytest
import torch

from codellm_dag.generation.decoder import LlamaDecoder
from codellm_dag.generation.prefix_cache import PrefixCache, RowGroups
from tests.modelkit.tiny import tiny_llama


def test_groups_of_equal_and_unequal_sizes():
    states = torch.arange(12).view(6, 2)
    even = RowGroups.of(torch.tensor([3, 3]))
    assert even.gather(states).tolist() == states.view(2, 3, 2).tolist()
    assert even.scatter(even.gather(states)).tolist() == states.tolist()
    uneven = RowGroups.of(torch.tensor([1, 3, 2]))
    gathered = uneven.gather(states)
    assert gathered.shape == (3, 3, 2)
    assert gathered[0, 0].tolist() == [0, 1]
    assert gathered[1].tolist() == [[2, 3], [4, 5], [6, 7]]
    assert gathered[2, :2].tolist() == [[8, 9], [10, 11]]
    assert uneven.scatter(gathered).tolist() == states.tolist()


@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (4, 2), (4, 1)])
def test_attention_equals_one_softmax_over_the_whole_row(heads: int, kv_heads: int):
    torch.manual_seed(0)
    prompts, repeats, length, size, room = 3, 4, 7, 8, 5
    keys, values = torch.randn(2, prompts, kv_heads, length, size)
    mask = torch.zeros(prompts, 1, 1, length)
    mask[1, :, :, :3] = torch.finfo(torch.float32).min
    cache = PrefixCache(keys, values, prompts * repeats, room)
    rows = torch.arange(prompts * repeats)
    sizes = torch.full((prompts,), repeats)
    for done in range(room):
        query = torch.randn(len(rows), heads, size) * 3
        key, value = torch.randn(2, len(rows), kv_heads, size)
        owners = torch.repeat_interleave(sizes)
        ours = cache.attend(query, key, value, done, mask, RowGroups.of(sizes))
        whole_keys = torch.cat([cache.prompt_keys[owners], cache.keys[:, :, : done + 1]], 2)
        whole_values = torch.cat([cache.prompt_values[owners], cache.values[:, :, : done + 1]], 2)
        seen = torch.cat([mask[owners], torch.zeros(len(rows), 1, 1, done + 1)], -1)
        theirs = torch.nn.functional.scaled_dot_product_attention(
            query[:, :, None], whole_keys, whole_values, attn_mask=seen, enable_gqa=True
        )[:, :, 0]
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
        if done == 1:  # drop single rows
            kept = torch.tensor([0, 2, 3, 4, 8, 9])
            cache.keep(kept, None)
            rows, sizes = rows[kept], torch.tensor([3, 1, 2])
        if done == 2:  # drop a whole prompt
            kept = torch.tensor([0, 1, 4, 5])
            cache.keep(kept, torch.tensor([0, 2]))
            rows, sizes, mask = rows[kept], torch.tensor([2, 2]), mask[[0, 2]]


@pytest.mark.parametrize("kv_heads", [1, 2])
@torch.inference_mode()
def test_decoding_shared_prompts_equals_the_models_own_forward_pass(kv_heads: int):
    model = tiny_llama(kv_heads=kv_heads)
    prompts = [(5, 6, 7, 8, 9), (11, 3), (2,)]
    repeats, width = 3, 5
    tokens = torch.tensor([[0] * (width - len(prompt)) + list(prompt) for prompt in prompts])
    padding = torch.tensor([width - len(prompt) for prompt in prompts])
    decoder = LlamaDecoder(model)
    sequences = [list(prompt) for prompt in prompts for _ in range(repeats)]
    logits = decoder.prefill(tokens, padding, repeats, room=6)
    generator = torch.Generator().manual_seed(0)
    for step in range(6):
        expected = torch.stack([model(torch.tensor([ids])).logits[0, -1] for ids in sequences])
        torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)
        if step in (2, 4):
            kept = [0, 1, 4, 6, 8] if step == 2 else [2]  # at last only one row of the second prompt
            decoder.keep(torch.tensor(kept))
            sequences = [sequences[row] for row in kept]
        chosen = torch.randint(0, 64, (len(sequences),), generator=generator)
        for ids, token in zip(sequences, chosen.tolist(), strict=True):
            ids.append(token)
        logits = decoder.step(chosen)
