"""Teaches a tiny checkpoint a few answers, so that tests can improve or measure it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path


def teach(folder: Path, pairs: Sequence[tuple[str, str]], steps: int = 60, chat: bool = False) -> Path:
    """Train the checkpoint in `folder` on (prompt, continuation) pairs, each ended by the end token."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    end = tokenizer.convert_tokens_to_ids("<|im_end|>" if chat else "<|endoftext|>")
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    rows = []
    for prompt, continuation in pairs:
        start = tokenizer.encode(prompt)
        answer = [*tokenizer.encode(continuation), end]
        rows.append((start + answer, [-100] * len(start) + answer))
    width = max(len(ids) for ids, _ in rows)
    ids = torch.tensor([tokens + [0] * (width - len(tokens)) for tokens, _ in rows])
    labels = torch.tensor([targets + [-100] * (width - len(targets)) for _, targets in rows])
    for _ in range(steps):
        loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    model.save_pretrained(folder)
    (folder / "training.json").write_text(json.dumps({"chat": chat, "steps": steps, "tokens": 0}))
    return folder
