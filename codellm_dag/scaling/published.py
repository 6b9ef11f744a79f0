"""Shapes of published models, to plan with: the values of their config.json on the Hugging Face Hub."""

from __future__ import annotations

from codellm_dag.training.architecture import Architecture

PUBLISHED = {
    # meta-llama/Llama-2-7b-hf: 6,738,415,616 parameters
    "llama-2-7b": Architecture(32_000, 4096, 32, 32, 32, 128, 11_008),
    # TinyLlama/TinyLlama-1.1B: 1,100,048,384
    "tinyllama-1.1b": Architecture(32_000, 2048, 22, 32, 4, 64, 5632),
    # HuggingFaceTB/SmolLM2-135M: 134,515,008
    "smollm2-135m": Architecture(49_152, 576, 30, 9, 3, 64, 1536, tied=True),
    # Qwen/Qwen2.5-Coder-14B: 14,770,033,664
    "qwen2.5-coder-14b": Architecture(152_064, 5120, 48, 40, 8, 128, 13_824, qkv_bias=True),
    # Qwen/Qwen3-30B-A3B: 30,532,122,624
    "qwen3-30b-a3b": Architecture(
        151_936, 2048, 48, 32, 4, 128, 768, qk_norm=True, experts=128, experts_per_token=8
    ),
}
"""By name. A count is that of the repository's safetensors header."""
