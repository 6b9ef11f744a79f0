"""DeepSpeed as a backend: losses and weights of the trainer, exact resume, and what is refused."""

from __future__ import annotations

import pytest
import torch

from codellm_dag.stages.protocol import Inputs
from tests.training.backends.pods import ADAMW, Bench, losses_of, metrics_of, on

pytestmark = pytest.mark.frameworks

KINDS = [*((stage, False) for stage in range(4)), *((stage, True) for stage in range(1, 4))]


@pytest.fixture(scope="module")
def bench(inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench.of(inputs, tmp_path_factory.mktemp("deepspeed"))


@pytest.mark.parametrize("processes", [1, 2])
def test_losses_and_weights_are_those_of_the_trainer(bench: Bench, processes: int) -> None:
    plain = bench.run(ADAMW, f"trainer-{processes}", processes)
    for stage, offload in KINDS:
        name = f"zero{stage}{'-offload' if offload else ''}-{processes}"
        recipe = on(ADAMW, name="deepspeed", zero_stage=stage, offload=offload)
        found = bench.run(recipe, name, processes)
        metrics = metrics_of(found)
        assert (metrics["backend"], metrics["backend_version"]) == ("deepspeed", "0.19.8")
        print(name, max(abs(a / b - 1) for a, b in zip(losses_of(found), losses_of(plain), strict=True)))
        weights = bench.weights(found)
        print(max(float((weights[k] - v).abs().max()) for k, v in bench.weights(plain).items()))
        assert losses_of(found) == pytest.approx(losses_of(plain), rel=2e-5)
        for key, value in bench.weights(plain).items():
            torch.testing.assert_close(weights[key], value, rtol=1e-3, atol=1e-5)
