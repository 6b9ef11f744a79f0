"""Stage ``token_shards``: one language of the mixture as packed rows of tokens.

Encodes, rewrites a share of pieces for fill-in-the-middle (`pieces.py`), packs them (`packing.py`) and writes
the files of `shards.py`. The same documents, tokenizer and recipe give the same bytes, whatever the number of
threads. Holds one language's tokens in memory: about 8 bytes a byte of text.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from codellm_dag.recipes.tokens import ShardsRecipe
from codellm_dag.tokens import tokenizer as tokenizers
from codellm_dag.tokens.corpus import InvalidCorpusError, languages, read_documents
from codellm_dag.tokens.packing import pack
from codellm_dag.tokens.pieces import PieceCutter
from codellm_dag.tokens.shards import write_shard


def run(recipe: ShardsRecipe, inputs: Any, out: Path, report: Any) -> None:
    """Write the shard of ``recipe.language`` from inputs ``corpus`` and ``tokenizer``.

    Metrics: documents, tokens, rows, padding_share, bytes_per_token, fim_share (of pieces). Raises
    InvalidCorpusError when the mixture has no document of that language.
    """
    folder = inputs["corpus"].path
    tokenizer = tokenizers.load(inputs["tokenizer"].path)
    cutter = PieceCutter(tokenizer, recipe)
    pieces: list[list[int]] = []
    documents = tokens = size = 0
    for document, cut in cutter.pieces(read_documents(folder, recipe.language)):
        pieces.extend(cut)
        documents += 1
        tokens += sum(map(len, cut))
        size += len(document.text.encode())
        if documents % 256 == 0:
            report.progress(tokens, max(tokens, recipe.maximum_tokens), unit="tokens", note="encoding")
        if recipe.maximum_tokens and tokens >= recipe.maximum_tokens:
            break
    if not documents:
        known = ", ".join(languages(folder))
        raise InvalidCorpusError(
            f"{folder} holds no document of language {recipe.language!r}; it has: {known}"
        )
    rows = pack([len(piece) for piece in pieces], recipe.sequence_length, recipe.packing)
    index = {
        "documents": documents,
        "fim_pieces": cutter.rewritten,
        "language": recipe.language,
        "sequence_length": recipe.sequence_length,
        "vocabulary_size": tokenizer.get_vocab_size(),
    }
    index = write_shard(out, pieces, rows, cutter.end_of_text, index)
    report.progress(tokens, tokens, unit="tokens")
    report.metric(
        documents=documents,
        tokens=index["tokens"],
        rows=index["rows"],
        padding_share=index["padding"] / (index["rows"] * recipe.sequence_length),
        bytes_per_token=size / tokens,
        fim_share=cutter.rewritten / len(pieces),
    )
