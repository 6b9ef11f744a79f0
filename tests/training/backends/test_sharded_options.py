"""What a sharded model is trained with beside all weights in float32: the trainer's losses, exact resume."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from codellm_dag.launch.identity import check_recipe
from codellm_dag.recipes import InvalidRecipeError
from codellm_dag.recipes.training import SftRecipe
from codellm_dag.stages.protocol import Inputs
from codellm_dag.stages.registry import STAGES
from tests.modelkit.tiny import artifact
from tests.training.backends.groups import ADAMW, Group, Rank, on, train, weights
from tests.training.conftest import SPIKES, TINY, files

ON = [
    pytest.param(1, {"name": "fsdp2"}, id="fsdp2-1"),
    pytest.param(2, {"name": "fsdp2"}, id="fsdp2-2"),
    *(
        pytest.param(
            processes,
            {"name": "deepspeed", "zero_stage": stage},
            id=f"zero{stage}-{processes}",
            marks=[pytest.mark.frameworks, pytest.mark.slow],
        )
        for stage, processes in ((2, 1), (3, 2))
    ),
]
MOE = ADAMW.with_changes({"model": {**ADAMW.model.model_dump(), "experts": 4, "experts_per_token": 2}})
SFT = SftRecipe.parse(
    {
        "optimizer": {"name": "adamw", "learning_rate": 0.01},
        "batch": {"global_rows": 4},
        "epochs": 6,
        "sequence_length": 64,
    }
)
PERTURBED = MOE.with_changes({"compute.gradient_checkpointing": True, "start.how": "shrink_perturb"})
CASES: dict[str, tuple[Any, float]] = {
    "float32": (ADAMW, 2e-5),
    "bf16": (ADAMW.with_changes({"compute.precision": "bf16"}), 1e-4),
    "experts, perturbed, recomputed": (PERTURBED, 2e-5),
    "rollback": (SPIKES, 2e-5),
    "adapters": (SFT.with_changes({"lora.rank": 4}), 2e-5),
    "experts, fine-tuned": (SFT, 2e-5),
}
"""Recipe, and how far losses may be from the trainer's, relative to them (found: 4e-5 and 3e-7)."""


@pytest.fixture(scope="module")
def alone(
    inputs: Inputs, slots: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], tuple[Inputs, Path, Rank]]:
    """The inputs of a case, and what the trainer makes of it in one process."""

    @cache
    def experts() -> Any:
        folder = tmp_path_factory.mktemp("experts")
        assert train(MOE, inputs, folder).ended == ""
        return artifact(folder / "out")

    @cache
    def of(case: str) -> tuple[Inputs, Path, Rank]:
        folder, recipe = tmp_path_factory.mktemp("alone"), CASES[case][0]
        given = Inputs(slots) if isinstance(recipe, SftRecipe) else inputs
        if case.startswith("experts"):
            given = Inputs({**given, "start" if recipe is PERTURBED else "checkpoint": experts()})
        told = train(recipe, given, folder)
        assert told.ended == ""
        return given, folder, told

    return of


@pytest.mark.parametrize("case", [case for case in CASES if case != "float32"])
@pytest.mark.parametrize(("processes", "backend"), ON)
def test_its_losses_are_the_trainer_s_and_it_resumes_to_the_bit(
    alone: Any, tmp_path: Path, processes: int, backend: dict[str, Any], case: str
) -> None:
    (plain, tolerance), (inputs, folder, expected) = CASES[case], alone(case)
    recipe = on(plain, **backend)
    whole = train(recipe, inputs, tmp_path / "whole", processes)
    assert whole.losses == pytest.approx(expected.losses, rel=tolerance), whole.ended
    assert whole.metrics.get("rollbacks") == expected.metrics.get("rollbacks")
    first = train(recipe, inputs, tmp_path, processes, stop_after=8 if case == "rollback" else 4)
    assert first.ended.startswith("Stopped")
    told = train(recipe, inputs, tmp_path, processes)
    assert told.messages[0].startswith("resuming from")
    assert dict(told.points) == dict(whole.points)
    out = files(tmp_path / "out")
    assert out == files(tmp_path / "whole/out")
    assert out["config.json"] == files(folder / "out")["config.json"]
    assert {tensor.dtype for tensor in weights(tmp_path).values()} == {torch.float32}
    if case == "bf16":
        half, full = (alone(kind)[2].points[0][1]["grad_norm"] for kind in ("bf16", "float32"))
        assert (
            whole.points[0][1]["grad_norm"] == pytest.approx(half, rel=5e-4) != pytest.approx(full, rel=1e-3)
        )


@pytest.mark.parametrize("processes", [1, 2])
def test_fp16_scales_the_loss_and_keeps_the_scale(alone: Any, tmp_path: Path, processes: int) -> None:
    inputs, _, expected = alone("float32")
    recipe = on(ADAMW.with_changes({"compute.precision": "fp16"}), name="fsdp2")
    half = train(recipe, inputs, tmp_path / "half", processes)
    assert half.losses == pytest.approx(expected.losses, rel=5e-5), half.ended  # found: 9e-6
    norms = [[values["grad_norm"] for _, values in told.points] for told in (half, expected)]
    assert norms[0] == pytest.approx(norms[1], rel=1e-3) != pytest.approx(norms[1], rel=1e-6)

    # Weights so large that gradients times 65,536 overflow: such steps are left out and the scale is halved.
    wide = recipe.with_changes({"model.initializer_range": 0.5, "optimizer.gradient_clip": 0.0})
    whole = train(wide, inputs, tmp_path / "whole", processes)
    first = train(wide, inputs, tmp_path, processes, stop_after=6)
    assert first.ended.startswith("Stopped")
    scale, fine = 65536.0, 0
    for _, values in first.points:
        scale, fine = (scale, fine + 1) if math.isfinite(values["grad_norm"]) else (scale / 2, 0)
    (kept,) = (torch.load(path) for path in (tmp_path / "resume").rglob("scaler.pt"))
    assert (kept["scale"], kept["_growth_tracker"]) == (scale, fine)
    assert scale < 65536.0
    told = train(wide, inputs, tmp_path, processes)
    assert told.messages[0].startswith("resuming from")
    assert dict(told.points) == dict(whole.points)
    assert files(tmp_path / "out") == files(tmp_path / "whole/out")


@pytest.mark.parametrize(
    ("backend", "by_thread"),
    [
        ({"name": "trainer"}, False),
        ({"name": "trainer"}, True),
        ({"name": "fsdp2"}, False),
        pytest.param({"name": "deepspeed", "zero_stage": 3}, False, marks=pytest.mark.frameworks),
    ],
    ids=["trainer", "trainer, saved by a thread", "fsdp2", "zero3"],
)
def test_a_rollback_reaches_processes_with_disks_of_their_own(
    alone: Any, inputs: Inputs, tmp_path: Path, backend: dict[str, Any], by_thread: bool
) -> None:
    expected = alone("rollback")[2]
    told = train(on(SPIKES, **backend), inputs, tmp_path, 2, by_thread=by_thread, own_disks=True)
    assert told.losses == pytest.approx(expected.losses, rel=2e-5), told.ended
    assert told.metrics["rollbacks"] == expected.metrics["rollbacks"] >= 1
    assert [path.name for path in (tmp_path / "resume-1").iterdir()] == ["checkpoint-9.1"]


@pytest.mark.frameworks
@pytest.mark.slow
def test_compiled_layers_are_sharded_too(alone: Any, tmp_path: Path) -> None:
    inputs, _, expected = alone("float32")
    recipe = on(ADAMW.with_changes({"compute.compile": True}), name="fsdp2")
    told = Group(recipe, inputs, tmp_path, 2).wait(400)[0]
    assert told.losses == pytest.approx(expected.losses, rel=1e-4), told.ended


def test_what_a_sharded_model_cannot_do_is_refused_before_launch() -> None:
    wanted = TINY.with_changes({"compute": {"precision": "fp16", "compile": True}})
    stage, lines = STAGES["pretrained_checkpoint"], {}
    for name in ("deepspeed", "fsdp2"):
        with pytest.raises(InvalidRecipeError) as error:
            check_recipe(stage, on(wanted, name=name))
        lines[name] = str(error.value).replace("PretrainingRecipe.", "").splitlines()
    assert lines["fsdp2"] == [
        "optimizer.name = muon: fsdp2: Muon needs whole matrices, which are cut into pieces; allowed: adamw, "
        "or backend.name = trainer",
    ]
    assert lines["deepspeed"][:1] == [line.replace("fsdp2", "deepspeed") for line in lines["fsdp2"]]
    assert lines["deepspeed"][1:] == [
        "compute.precision = fp16: deepspeed: the scale of its loss is not kept for pieces of a model; "
        "allowed: fp32, bf16, or backend.name = trainer",
        "compute.compile = True: deepspeed: its hooks around layers cannot be compiled; allowed: False, or "
        "backend.name = trainer",
    ]
