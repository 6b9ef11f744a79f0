"""A tiny random Llama, its byte-level tokenizer and its checkpoint folder, for tests of RL and evaluation."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from codellm_dag.recipes import Runtime
from codellm_dag.stages.protocol import LocalArtifact

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] "
    "+ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


def tiny_llama(vocabulary: int = 64, seed: int = 0, kv_heads: int = 1, positions: int = 256) -> Any:
    """A two-layer Llama of width 32 with large random weights, so that outputs differ clearly."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=kv_heads,
        max_position_embeddings=positions,
        tie_word_embeddings=True,
        initializer_range=0.2,
        bos_token_id=0,
        eos_token_id=0,
    )
    return LlamaForCausalLM(config).eval()


def byte_tokenizer(words: Sequence[str] = ()) -> Any:
    """One token a byte, and one for each of `words` (which must not be part of another)."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={char: i for i, char in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIALS))
    tokenizer.add_tokens([AddedToken(word, normalized=False) for word in words])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=SPECIALS[0])
    fast.chat_template = CHAT_TEMPLATE
    return fast


def save_checkpoint(
    folder: Path, *, chat: bool, words: Sequence[str] = (), seed: int = 0, positions: int = 256
) -> Path:
    """Write a checkpoint folder as the training room does: model, tokenizer and training.json."""
    tokenizer = byte_tokenizer(words)
    folder.mkdir(parents=True, exist_ok=True)
    tiny_llama(len(tokenizer), seed, positions=positions).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "training.json").write_text(json.dumps({"chat": chat, "steps": 0, "tokens": 0}))
    return folder


def artifact(path: Path, kind: str = "", name: str = "") -> LocalArtifact:
    """`path` as an input of a stage."""
    return LocalArtifact(
        kind, name or path.name, f"fingerprint of {path.name}", f"digest of {path.name}", path
    )


@dataclass
class RecordingReport:
    """A report that keeps what it was told."""

    resume_dir: Path
    runtime: Runtime = field(default_factory=lambda: Runtime(threads=1, workers=2))
    metrics: dict[str, Any] = field(default_factory=dict)
    points: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    tables: dict[str, list[Mapping[str, Any]]] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)
    steps: list[tuple[float, float, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    measured: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    worked: tuple[int, float | None] = (0, None)
    stop_requested: Callable[[], bool] = lambda: False

    def progress(self, done: float, total: float, unit: str = "", note: str = "") -> None:
        self.steps.append((done, total, unit))
        self.notes.append(note)

    def metric(self, **values: Any) -> None:
        self.metrics.update(values)

    def work(self, tokens: int, flops: float | None) -> None:
        self.worked = tokens, flops

    def point(self, step: int, **values: float) -> None:
        """Points that a clock made are kept apart: no two runs have the same."""
        (self.measured if "tokens_per_second" in values else self.points).append((step, values))

    def table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        self.tables[name] = list(rows)

    def log(self, message: str) -> None:
        self.messages.append(message)
