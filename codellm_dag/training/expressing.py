"""What of a training recipe a backend expresses; asked before a launch, so without PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from codellm_dag.recipes.base import Recipe
from codellm_dag.recipes.training import PretrainingRecipe, SftRecipe

SHARED_FIELDS = frozenset(
    {
        *("optimizer.name", "optimizer.learning_rate", "optimizer.matrix_learning_rate"),
        *("optimizer.schedule", "optimizer.warmup_fraction", "optimizer.decay_fraction"),
        *("optimizer.final_fraction", "optimizer.weight_decay", "optimizer.beta1", "optimizer.beta2"),
        *("optimizer.epsilon", "optimizer.gradient_clip", "batch.global_rows", "seed"),
        *("compute.precision", "compute.gradient_checkpointing"),
    }
)
SFT_FIELDS = SHARED_FIELDS | {"base", "epochs", "sequence_length", "maximum_examples"}

PRETRAINING_FIELDS = (
    SHARED_FIELDS
    | {"tokens"}
    | {
        f"model.{name}"
        for name in (
            *("hidden_size", "layers", "heads", "kv_heads", "intermediate_size", "tie_embeddings"),
            *("rope_theta", "maximum_positions", "initializer_range"),
        )
    }
)


def refuse_all_but(recipe: PretrainingRecipe | SftRecipe, expressed: frozenset[str]) -> list[str]:
    """A line for every field, beside the backend's, that is not its default and not `expressed`.

    So a field that is added to the recipe later is refused, not ignored. Muon is refused too: where a
    framework has it, it is another one.
    """
    name = recipe.backend.name
    default = flat(type(recipe)())
    lines = [
        f"{field} = {value}: {name} cannot express it; allowed: {default.get(field)}"
        for field, value in flat(recipe).items()
        if field not in expressed and not field.startswith("backend.") and value != default.get(field)
    ]
    if recipe.optimizer.name != "adamw":
        lines.append(f"optimizer.name = {recipe.optimizer.name}: {name} has another one; allowed: adamw")
    return lines


TORCH_TYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
"""``compute.precision`` → PyTorch's name of the type."""


def half_flag(precision: str) -> dict[str, bool]:
    """``{"bf16": True}`` or ``{"fp16": True}``, as most frameworks spell it; nothing for fp32."""
    return {} if precision == "fp32" else {precision: True}


def refuse_precisions(recipe: PretrainingRecipe | SftRecipe, allowed: tuple[str, ...], why: str) -> list[str]:
    """A line unless the recipe's ``compute.precision`` is `allowed`; `why`: the framework's reason."""
    precision, name = recipe.compute.precision, recipe.backend.name
    if precision in allowed:
        return []
    return [f"compute.precision = {precision}: {name} {why}; allowed: {', '.join(allowed)}"]


def refuse_where_sharded(
    recipe: PretrainingRecipe | SftRecipe, *, compiles: bool, scales: bool = False
) -> list[str]:
    """Lines for what our own trainers cannot do with a model that is shared out over processes.

    ``compiles``: whether the backend can train compiled blocks; ``scales``: whether it keeps the scale of the
    loss, which fp16 needs.
    """
    allowed = {
        "optimizer.name": (("adamw",), "Muon needs whole matrices, which are cut into pieces"),
        "compute.precision": (
            ("fp32", "bf16", *(["fp16"] if scales else [])),
            "the scale of its loss is not kept for pieces of a model",
        ),
        "compute.compile": (
            (False, True) if compiles else (False,),
            "its hooks around layers cannot be compiled",
        ),
    }
    values, name = flat(recipe), recipe.backend.name
    return [
        f"{field} = {values[field]}: {name}: {why}; allowed: {', '.join(map(str, can))}, or backend.name = "
        "trainer"
        for field, (can, why) in allowed.items()
        if values[field] not in can
    ]


def refuse_kind(recipe: PretrainingRecipe | SftRecipe, wanted: type[Recipe]) -> list[str]:
    """A line if the recipe is not of the class that the backend is used for."""
    if isinstance(recipe, wanted):
        return []
    kind = "fine-tuning on messages" if wanted is SftRecipe else "pretraining on shards"
    return [
        f"backend.name = {recipe.backend.name}: used for {kind} only; allowed here: trainer, deepspeed, fsdp2"
    ]


def refuse_schedules(recipe: PretrainingRecipe | SftRecipe, allowed: Mapping[str, bool]) -> list[str]:
    """Lines for a schedule that is not in `allowed`, or whose end is not what the framework can do.

    `allowed`: schedule → whether its final learning rate can be chosen; False where it always ends at 0.
    """
    optimizer, name = recipe.optimizer, recipe.backend.name
    if optimizer.schedule not in allowed:
        return [f"optimizer.schedule = {optimizer.schedule}: not in {name}; allowed: {', '.join(allowed)}"]
    if optimizer.schedule != "constant" and not allowed[optimizer.schedule] and optimizer.final_fraction:
        return [
            f"optimizer.final_fraction = {optimizer.final_fraction}: {name}'s schedule "
            f"{optimizer.schedule} ends at 0; allowed: 0, or a schedule of {_free(allowed)}"
        ]
    return []


def _free(allowed: Mapping[str, bool]) -> str:
    return ", ".join(name for name, free in allowed.items() if free) or "none"


def flat(recipe: Recipe) -> dict[str, Any]:
    """Dotted names of a recipe's fields and their values."""
    found: dict[str, Any] = {}

    def walk(values: Mapping[str, Any], prefix: str) -> None:
        for name, value in values.items():
            if isinstance(value, dict):
                walk(value, f"{prefix}{name}.")
            else:
                found[f"{prefix}{name}"] = value

    walk(recipe.model_dump(mode="json"), "")
    return found
