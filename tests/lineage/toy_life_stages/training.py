"""A number that depends on the data, the start and the knobs: what the toys call a model."""

import hashlib
import math

from codellm_dag.stages.failures import Diverged


def train(recipe, start, digest):
    """The model after training."""
    seed = int(hashlib.sha256(digest.encode()).hexdigest()[:6], 16) / 0xFFFFFF
    model = start + seed / 10
    for _ in range(recipe.steps):
        model += recipe.learning_rate * (1 - model)
    if not math.isfinite(model):
        raise Diverged(f"the loss is not finite with learning_rate = {recipe.learning_rate}")
    return model
