"""The special tokens and the chat template that every tokenizer of ours carries.

Names and template are Qwen2.5-Coder's, so that models trained here are prompted like it. The template is
ChatML without a default system message.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

END_OF_TEXT = "<|endoftext|>"
"""Ends a document, pads a row, and ends a completion."""
MESSAGE_START, MESSAGE_END = "<|im_start|>", "<|im_end|>"
FIM_PREFIX, FIM_MIDDLE, FIM_SUFFIX = "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>"
FIM_PAD, REPOSITORY, FILE = "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>"

SPECIAL_TOKENS = (
    END_OF_TEXT,
    MESSAGE_START,
    MESSAGE_END,
    FIM_PREFIX,
    FIM_MIDDLE,
    FIM_SUFFIX,
    FIM_PAD,
    REPOSITORY,
    FILE,
)
"""In the order of their ids, from 0."""

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
"""Jinja source, as `tokenizer.apply_chat_template` of transformers reads it."""


def chat_text(messages: Sequence[Mapping[str, str]], add_generation_prompt: bool) -> str:
    """What CHAT_TEMPLATE makes of `messages`, without the cost of Jinja; a test holds the two equal."""
    turns = (f"{MESSAGE_START}{m['role']}\n{m['content']}{MESSAGE_END}\n" for m in messages)
    return "".join(turns) + (f"{MESSAGE_START}assistant\n" if add_generation_prompt else "")
