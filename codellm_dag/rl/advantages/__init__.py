"""Advantage estimators, one file each. To add one: its file, a line in `ADVANTAGES`, its name in the recipe.

The table is written out (not discovered) so that the code digest of a policy covers the estimators.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from codellm_dag.recipes.base import InvalidRecipeError
from codellm_dag.rl.advantages.base import AdvantageEstimator, RolloutRewards
from codellm_dag.rl.advantages.reinforce_plus_plus_baseline import reinforce_plus_plus_baseline
from codellm_dag.rl.advantages.rloo import rloo

ADVANTAGES: Mapping[str, AdvantageEstimator] = MappingProxyType(
    {"rloo": rloo, "reinforce_plus_plus_baseline": reinforce_plus_plus_baseline}
)
"""All estimators by the name a recipe uses."""


def estimator(name: str) -> AdvantageEstimator:
    """The estimator called `name`. Raises InvalidRecipeError, listing the names that exist."""
    if name not in ADVANTAGES:
        raise InvalidRecipeError(
            f"estimator = {name!r} is not an advantage estimator; allowed: {', '.join(ADVANTAGES)}"
        )
    return ADVANTAGES[name]


__all__ = ["ADVANTAGES", "AdvantageEstimator", "RolloutRewards", "estimator"]
