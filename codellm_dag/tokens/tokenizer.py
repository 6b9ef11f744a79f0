"""Stage ``tokenizer``: a byte-level BPE vocabulary learnt from the mixture, saved as a Hugging Face folder.

Any bytes round-trip. The pre-tokeniser is Qwen2's regular expression, in which each digit is one token, so
that fast encoders that know that expression can be used. ``AutoTokenizer.from_pretrained`` loads the folder,
chat template included. Files are the same bytes for the same documents and recipe. Does not extend an
existing vocabulary.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codellm_dag.recipes.tokens import TokenizerRecipe
from codellm_dag.tokens.corpus import InvalidCorpusError, read_documents
from codellm_dag.tokens.special import CHAT_TEMPLATE, END_OF_TEXT, MESSAGE_END, SPECIAL_TOKENS

if TYPE_CHECKING:
    from tokenizers import Tokenizer

QWEN2_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
"""Qwen2's pre-tokeniser (tokenizer.json of Qwen/Qwen2-0.5B)."""

TOKENIZER_FILE = "tokenizer.json"


def run(recipe: TokenizerRecipe, inputs: Any, out: Path, report: Any) -> None:
    """Learn the vocabulary from input ``corpus`` and write the folder.

    Metrics: vocabulary_size, training_bytes, bytes_per_token (over what it was trained on). Raises
    InvalidCorpusError for a corpus without documents or too small for the vocabulary.
    """
    texts = _sample(inputs["corpus"].path, recipe.training_bytes)
    if not texts:
        raise InvalidCorpusError(f"{inputs['corpus'].path} holds no documents to train a tokenizer on")
    total = sum(len(text.encode()) for text in texts)
    report.progress(0, total, unit="bytes", note="learning merges")
    tokenizer = train(texts, recipe)
    if tokenizer.get_vocab_size() < recipe.vocabulary_size:
        raise InvalidCorpusError(
            f"vocabulary_size = {recipe.vocabulary_size}: {total} bytes of text give only "
            f"{tokenizer.get_vocab_size()} entries; lower it or give more text"
        )
    save(tokenizer, out)
    sample = texts[: max(1, len(texts) // 10)]
    tokens = sum(len(encoding.ids) for encoding in tokenizer.encode_batch_fast(sample))
    report.progress(total, total, unit="bytes")
    report.metric(
        vocabulary_size=tokenizer.get_vocab_size(),
        training_bytes=total,
        bytes_per_token=sum(len(text.encode()) for text in sample) / tokens,
    )


def train(texts: list[str], recipe: TokenizerRecipe) -> Tokenizer:
    """Learn a byte-level BPE of ``recipe.vocabulary_size`` entries from `texts`."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN2_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=recipe.vocabulary_size,
        min_frequency=recipe.minimum_frequency,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def save(tokenizer: Tokenizer, folder: Path) -> None:
    """Write the Hugging Face files of `tokenizer` into `folder`."""
    tokenizer.save(str(folder / TOKENIZER_FILE))
    config = {
        "add_prefix_space": False,
        "additional_special_tokens": list(SPECIAL_TOKENS),
        "bos_token": None,
        "chat_template": CHAT_TEMPLATE,
        "clean_up_tokenization_spaces": False,
        "eos_token": END_OF_TEXT,
        "errors": "replace",
        "pad_token": END_OF_TEXT,
        "split_special_tokens": False,
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": None,
    }
    _write_json(folder / "tokenizer_config.json", config)
    special = {"eos_token": END_OF_TEXT, "pad_token": END_OF_TEXT, "additional_special_tokens": [MESSAGE_END]}
    _write_json(folder / "special_tokens_map.json", special)


def load(folder: Path) -> Tokenizer:
    """The tokenizer in `folder`, without importing transformers.

    Raises FileNotFoundError when the folder holds none.
    """
    path = folder / TOKENIZER_FILE
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; a tokenizer folder holds {TOKENIZER_FILE}")
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(path))


def token_id(tokenizer: Tokenizer, name: str) -> int:
    """The id of the special token `name`. Raises ValueError when the vocabulary does not hold it."""
    number = tokenizer.token_to_id(name)
    if number is None:
        raise ValueError(f"the tokenizer has no token {name}; it must hold: {', '.join(SPECIAL_TOKENS)}")
    return number


def _sample(folder: Path, limit: int) -> list[str]:
    """Texts in order of document id, a fair order, until `limit` bytes."""
    documents = sorted(read_documents(folder), key=lambda document: document.document_id)
    return list(_until([document.text for document in documents], limit))


def _until(texts: list[str], limit: int) -> Iterator[str]:
    used = 0
    for text in texts:
        if used >= limit:
            return
        used += len(text.encode())
        yield text


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")
