"""FSDP2 as a backend: losses and weights of the trainer, exact resume, other numbers of processes."""

from __future__ import annotations

import pytest

from codellm_dag.stages.protocol import Inputs
from tests.training.backends.pods import ADAMW, Bench, losses_of, on


@pytest.fixture(scope="module")
def bench(inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench.of(inputs, tmp_path_factory.mktemp("fsdp2"))


def test_losses(bench: Bench) -> None:
    plain = bench.run(ADAMW, "plain")
    found = bench.run(on(ADAMW, name="fsdp2"), "fsdp2", 2)
    print(max(abs(a / b - 1) for a, b in zip(losses_of(found), losses_of(plain), strict=True)))
    weights = bench.weights(found)
    print(max(float((weights[k] - v).abs().max()) for k, v in bench.weights(plain).items()))
