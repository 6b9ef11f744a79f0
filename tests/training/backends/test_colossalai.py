"""Colossal-AI: arguments of its plugin, what is refused, what its plugin says."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from codellm_dag.recipes.base import InvalidRecipeError
from codellm_dag.training.backends import colossalai
from codellm_dag.training.backends.protocol import BackendUnavailableError
from tests.training.backends.jobs import BF16, job, pretraining, sft

DEGREES = {"backend.tensor_parallel": 2, "backend.pipeline_parallel": 2}
CHANGES = {**DEGREES, **BF16, "backend.zero_stage": 1}
GOLDEN = {
    "processes": 8,
    "plugin": {
        "tp_size": 2,
        "pp_size": 2,
        "zero_stage": 1,
        "cpu_offload": False,
        "precision": "bf16",
        "max_norm": 1.0,
        "microbatch_size": 2,
    },
    "optimizer": {"lr": 0.003, "betas": [0.9, 0.95], "eps": 1e-08, "weight_decay": 0.1},
    "gradient_checkpointing": {"gradient_checkpointing_kwargs": {"use_reentrant": False}},
}


def test_golden_configuration(tmp_path: Path) -> None:
    rendered = colossalai.render(job(pretraining("colossalai", CHANGES), tmp_path, processes=8))
    assert json.loads(rendered.files["colossalai.json"]) == GOLDEN


def test_float32_without_recomputation(tmp_path: Path) -> None:
    rendered = colossalai.render(job(pretraining("colossalai", DEGREES), tmp_path, processes=8))
    plain = {**GOLDEN, "plugin": {**GOLDEN["plugin"], "zero_stage": 0, "precision": "fp32"}}
    del plain["gradient_checkpointing"]
    assert json.loads(rendered.files["colossalai.json"]) == plain


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {**BF16, "backend.zero_stage": 3},
            "backend.zero_stage = 3: not in Colossal-AI's hybrid plugin with backend.pipeline_parallel = 1; "
            "allowed: 0 to 2",
        ),
        (
            {**CHANGES, "backend.zero_stage": 2},
            "backend.zero_stage = 2: not in Colossal-AI's hybrid plugin with backend.pipeline_parallel = 2; "
            "allowed: 0 to 1",
        ),
        ({"optimizer.name": "muon"}, "optimizer.name = muon: colossalai has another one; allowed: adamw"),
        (
            {"backend.zero_stage": 1},
            "compute.precision = fp32: colossalai has no ZeRO in float32; allowed: bf16, fp16",
        ),
        (CHANGES, ""),
        (DEGREES, ""),
    ],
)
def test_refusals(changes: dict, line: str) -> None:
    assert colossalai.refusals(pretraining("colossalai", changes)) == ([line] if line else [])


def test_fine_tuning_and_training_here_are_refused() -> None:
    assert colossalai.refusals(sft("colossalai"))[0].startswith(
        "backend.name = colossalai: used for pretraining"
    )
    with pytest.raises(BackendUnavailableError, match=r"Colossal-AI 0\.5\.0 has no training program"):
        colossalai.version()


@pytest.mark.frameworks
def test_its_plugin_takes_what_is_written_and_not_what_is_wrong(
    built: Callable[[str], None], tmp_path: Path
) -> None:
    built("colossalai")
    rendered = colossalai.render(job(pretraining("colossalai", CHANGES), tmp_path, processes=8))
    assert colossalai.degrees(rendered) == [2, 2, 2]
    for wrong, told in (
        ({"tp_size": 3}, "not divisible by tp_size 3"),
        ({"nosuch": 1}, "nosuch"),
        ({"precision": "nosuch"}, "nosuch"),
    ):
        files = {"colossalai.json": json.dumps({**GOLDEN, "plugin": {**GOLDEN["plugin"], **wrong}})}
        with pytest.raises(InvalidRecipeError, match=told):
            colossalai.validate(dataclasses.replace(rendered, files=files))
