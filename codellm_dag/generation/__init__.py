"""Sampling completions from a checkpoint: `Generator` is in engine.py, loading in loading.py."""

from codellm_dag.generation.completion import Completion
from codellm_dag.generation.loading import chat_prompt, load_model

__all__ = ["Completion", "chat_prompt", "load_model"]
