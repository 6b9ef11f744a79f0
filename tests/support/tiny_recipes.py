"""The recipe of the tiny stages."""

from __future__ import annotations

from pydantic import Field

from codellm_dag.recipes.base import Recipe


class TinyRecipe(Recipe):
    """Enough knobs to make a stage do what a test needs."""

    text: str = Field(default="word", description="What is written")
    count: int = Field(default=3, ge=1, le=1_000_000, description="How often")
    trouble: str = Field(default="", description="How the trouble stage fails")
    seconds: float = Field(default=0.0, ge=0, description="How long a step takes")
