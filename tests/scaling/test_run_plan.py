"""The arithmetic of a plan, and published counts."""

from __future__ import annotations

import pytest

from codellm_dag.recipes.base import InvalidRecipeError
from codellm_dag.scaling.memory import Work
from codellm_dag.scaling.published import PUBLISHED
from codellm_dag.scaling.run_plan import Question, micro_rows_for, plan_run
from codellm_dag.training.devices import DEVICES


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("llama-2-7b", 6_738_415_616),
        ("tinyllama-1.1b", 1_100_048_384),
        ("smollm2-135m", 134_515_008),
        ("qwen2.5-coder-14b", 14_770_033_664),
        ("qwen3-30b-a3b", 30_532_122_624),
    ],
)
def test_published_counts(name, count):
    assert PUBLISHED[name].parameters == count


def test_active_parameters_of_qwen3():
    assert PUBLISHED["qwen3-30b-a3b"].active_parameters == pytest.approx(3.3e9, rel=0.02)  # the model card's


def question(**changes) -> Question:
    work = Work(PUBLISHED["tinyllama-1.1b"], length=2048, micro_rows=1, precision="bf16")
    values = {
        "work": work,
        "global_rows": 8,
        "tokens": 8 * 2048 * 1000 + 5,
        "devices": 8,
        "device": DEVICES["a100-40gb"],
        "mfu": 0.5,
        "price": 2.0,
    }
    return Question(**(values | changes))


def test_steps_hours_and_cost():
    answer = plan_run(question())
    per_token = 6 * (1_100_048_384 - 32_000 * 2048 - 45 * 2048) + 12 * 22 * 2048 * 2048
    assert answer.flops_per_token == per_token
    assert answer.steps == 1000
    seconds = per_token * 8 * 2048 * 1000 / (8 * 312e12 * 0.5)
    assert answer.hours == pytest.approx(seconds / 3600)
    assert answer.cost == pytest.approx(seconds / 3600 * 8 * 2.0)
    assert answer.weights_bytes == 4 * 1_100_048_384
    assert answer.resume_bytes == 12 * 1_100_048_384


def test_what_does_not_fit_is_named():
    work = Work(PUBLISHED["llama-2-7b"], length=4096, micro_rows=1, precision="bf16", checkpointing=True)
    answer = plan_run(question(work=work))
    assert "ddp" not in answer.fitting
    assert "zero3" in answer.fitting
    ddp = answer.strategies[0]
    assert ddp.missing == ddp.memory.total - 36 * 10**9  # nine tenths of 40 GB


def test_unknown_stays_unknown():
    answer = plan_run(question(tokens=0, device=DEVICES["cpu"]))
    assert (answer.steps, answer.flops, answer.hours, answer.cost) == (None, None, None, None)


def test_bad_input():
    with pytest.raises(InvalidRecipeError, match="tokens = 100: less than one step of 16384 tokens"):
        plan_run(question(tokens=100))
    with pytest.raises(
        InvalidRecipeError, match=r"--devices 3: must divide batch\.global_rows = 8; allowed: 1, 2"
    ):
        micro_rows_for(8, 3, 8)
    with pytest.raises(InvalidRecipeError, match="--devices 8: must be a multiple"):
        plan_run(question(tensor=3))


def test_micro_rows_share_the_batch_out_evenly():
    assert micro_rows_for(96, 4, 10) == 8
    assert micro_rows_for(8, 8, 8) == 1
