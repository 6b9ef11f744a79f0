"""A batch that grows: when, by how many rows a step, at which learning rate, and what is refused."""

from __future__ import annotations

import math
from typing import Any

import pytest

from codellm_dag.launch.identity import check_recipe
from codellm_dag.recipes import InvalidRecipeError, Runtime
from codellm_dag.recipes.pods import PodShape
from codellm_dag.recipes.training import Batch, Optimizer, PretrainingRecipe, SftRecipe
from codellm_dag.stages.registry import STAGES
from codellm_dag.training.batch_schedule import BatchSchedule, Stretch, batch_schedule
from codellm_dag.training.batches import MicroBatches, UnevenBatchError, accumulation_steps, micro_rows
from codellm_dag.training.plan import Plan
from codellm_dag.training.processes import Processes
from codellm_dag.training.schedule import learning_rate_factor, learning_rate_share

DOUBLING = Batch.parse(
    {"global_rows": 4, "warmup": [{"share": 0.25, "global_rows": 8}, {"share": 0.5, "global_rows": 16}]}
)


def plan_of(batch: Batch, rows: int, optimizer: Optimizer, *micro: int) -> Plan:
    schedule = batch_schedule(batch, rows, 64)
    parts = zip(schedule.stretches, micro or batch.sizes.values(), strict=True)
    first, *growth = [Stretch(part.step, part.row, part.rows, each) for part, each in parts]
    return Plan(optimizer, batch, schedule.steps, 0, "", first.micro_rows, growth=tuple(growth))


def test_the_batch_grows_where_the_recipe_says() -> None:
    # Of 96 rows the first quarter in steps of 4 rows, the second in steps of 8, the rest in steps of 16.
    schedule = batch_schedule(DOUBLING, 96, 64)
    assert schedule.stretches == (Stretch(0, 0, 4), Stretch(6, 24, 8), Stretch(9, 48, 16))
    assert [schedule.rows_until(step) for step in range(13)] == (
        [0, 4, 8, 12, 16, 20, 24, 32, 40, 48, 64, 80, 96]
    )
    assert (schedule.steps, schedule.rows, schedule.rows_until(14)) == (12, 96, 128)
    assert [schedule.at(step).rows for step in (5, 6, 8, 9, 20)] == [4, 8, 8, 16, 16]


def test_places_in_tokens_are_rounded_up_to_steps_and_the_end_down() -> None:
    # 700 tokens are 10.9 rows: three steps of 4 rows reach them. Of the 30 rows 18 are left: two steps of 8.
    batch = Batch.parse({"global_rows": 4, "warmup": [{"tokens": 700, "global_rows": 8}]})
    assert batch_schedule(batch, 30, 64) == BatchSchedule(5, (Stretch(0, 0, 4), Stretch(3, 12, 8)))
    assert batch_schedule(Batch(global_rows=7), 30, 64) == BatchSchedule(4, (Stretch(0, 0, 7),))
    assert batch_schedule(Batch(global_rows=7), 6, 64).steps == 0


@pytest.mark.parametrize(
    ("batch", "rows", "message"),
    [
        # 24 rows: the second stage would begin at row 18, the third at 19; one step of 16 rows passes both.
        (
            {
                "global_rows": 2,
                "warmup": [{"share": 0.75, "global_rows": 4}, {"share": 0.79, "global_rows": 6}],
            },
            24,
            r"batch.warmup.1.global_rows = 6: no step of 6 rows of 64 tokens fits between token 1408 and",
        ),
        (
            {"global_rows": 4, "warmup": [{"tokens": 6400, "global_rows": 8}]},
            100,
            r"batch.warmup.0.global_rows = 8: no step of 8 rows of 64 tokens fits between token 6400 and",
        ),
        (
            {
                "global_rows": 20,
                "warmup": [{"tokens": 640, "global_rows": 40}, {"tokens": 1200, "global_rows": 80}],
            },
            500,
            r"batch.warmup.0.global_rows = 40: no step of 40 rows of 64 tokens fits between token 1280",
        ),
    ],
)
def test_a_size_without_a_step_is_refused(batch: dict[str, Any], rows: int, message: str) -> None:
    with pytest.raises(InvalidRecipeError, match=message):
        batch_schedule(Batch.parse(batch), rows, 64)


def test_the_last_steps_may_be_rounded_otherwise() -> None:
    def nearest(steps: float) -> int:
        return max(1, round(steps))

    batch = Batch.parse({"global_rows": 4, "warmup": [{"share": 0.5, "global_rows": 8}]})
    assert [batch_schedule(batch, rows, 64, nearest).rows for rows in (15, 16, 19, 21)] == [16, 16, 20, 20]
    assert batch_schedule(Batch(global_rows=4), 0.5, 64, nearest).rows == 4
    with pytest.raises(InvalidRecipeError, match=r"batch\.warmup\.0\.global_rows = 8: no step"):
        batch_schedule(batch, 3, 64, nearest)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"warmup": [{"global_rows": 64}]}, r"warmup.0: tokens=0, share=0.0: one must be above 0"),
        (
            {"warmup": [{"tokens": 5, "share": 0.5, "global_rows": 64}]},
            r"warmup.0: tokens=5, share=0.5: one must",
        ),
        ({"warmup": [{"share": 0.5, "global_rows": 32}]}, r"warmup.0.global_rows=32 must be above 32"),
        (
            {"warmup": [{"share": 0.5, "global_rows": 64}, {"share": 0.5, "global_rows": 96}]},
            r"warmup.1.share=0.5 must be above 0.5",
        ),
        (
            {"warmup": [{"share": 0.5, "global_rows": 64}, {"tokens": 9, "global_rows": 96}]},
            r"warmup.1.tokens: the stages before it have share; use one of them",
        ),
        ({"learning_rate_scaling": "cube"}, r"learning_rate_scaling = 'cube'"),
    ],
)
def test_bad_stages_are_refused_by_name(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRecipeError, match=message):
        Batch.parse(values)


def test_growth_beyond_the_end_is_refused_when_the_recipe_is_read() -> None:
    batch = {"global_rows": 4, "warmup": [{"tokens": 5000, "global_rows": 8}]}
    assert PretrainingRecipe.parse({"batch": batch, "tokens": 5001}).batch.largest == 8
    with pytest.raises(InvalidRecipeError, match=r"batch.warmup.0.tokens=5000 must be below tokens=5000"):
        PretrainingRecipe.parse({"batch": batch, "tokens": 5000})


def test_every_size_is_shared_out_or_refused_before_launch() -> None:
    recipe = PretrainingRecipe(
        batch=Batch.parse({"global_rows": 4, "warmup": [{"share": 0.5, "global_rows": 6}]})
    )
    recipe.check_runtime(Runtime(kubernetes=PodShape(image="codellm-dag:test", nodes=2)))
    with pytest.raises(InvalidRecipeError) as error:
        recipe.check_runtime(Runtime(kubernetes=PodShape(image="codellm-dag:test", nodes=4)))
    assert str(error.value).startswith(
        "PretrainingRecipe.batch.warmup.0.global_rows = 6 cannot be shared out among 4 processes; allowed: a "
        "multiple of 4"
    )
    with pytest.raises(UnevenBatchError, match=r"batch.warmup.0.global_rows = 6 cannot"):
        micro_rows(6, 4, field="batch.warmup.0.global_rows")


@pytest.mark.parametrize(
    ("stage", "backend"),
    [
        *(("sft_checkpoint", name) for name in ("llamafactory", "swift", "verl")),
        *(
            ("pretrained_checkpoint", name)
            for name in ("torchtitan", "megatron", "megatron_deepspeed", "colossalai")
        ),
    ],
)
def test_frameworks_that_cannot_grow_refuse_it_before_launch(stage: str, backend: str) -> None:
    kind = SftRecipe if stage == "sft_checkpoint" else PretrainingRecipe
    recipe = kind(backend={"name": backend}, batch=DOUBLING)  # type: ignore[arg-type]
    with pytest.raises(
        InvalidRecipeError, match=rf"batch\.warmup = .*: {backend} cannot express it; allowed: \[\]"
    ):
        check_recipe(STAGES[stage], recipe)


def test_the_rate_falls_by_tokens_and_rises_with_the_batch() -> None:
    # The last step begins at row 80; a line to 0 is at 1 - row / 80, times the root of k.
    optimizer = Optimizer(schedule="linear", warmup_fraction=0.0, final_fraction=0.0)
    plan = plan_of(DOUBLING, 96, optimizer)
    expected = {0: 1.0, 5: 1 - 20 / 80, 6: 0.7 * math.sqrt(2), 8: 0.5 * math.sqrt(2), 9: 0.4 * 2, 11: 0.0}
    found = {step: learning_rate_factor(step, plan) for step in expected}
    assert found == pytest.approx(expected)
    for scaling, at_six, at_nine in (("none", 0.7, 0.4), ("linear", 1.4, 1.6)):
        batch = DOUBLING.with_changes({"learning_rate_scaling": scaling})
        plan = plan_of(batch, 96, optimizer)
        assert [learning_rate_factor(step, plan) for step in (6, 9)] == pytest.approx([at_six, at_nine])


def test_the_rate_s_warmup_counts_tokens_too() -> None:
    # 30 % of 96 rows are 28.8: eight steps of the first size, 32 rows; the seventh step ends there.
    optimizer = Optimizer(schedule="constant", warmup_fraction=0.3)
    plan = plan_of(DOUBLING.with_changes({"learning_rate_scaling": "none"}), 96, optimizer)
    shares = [learning_rate_factor(step, plan) for step in range(8)]
    assert shares == pytest.approx([4 / 32, 8 / 32, 12 / 32, 16 / 32, 20 / 32, 24 / 32, 1.0, 1.0])


def test_a_constant_batch_has_the_rates_it_always_had() -> None:
    """To the bit, against the formula in steps."""

    def in_steps(step: int, total: int, recipe: Optimizer) -> float:
        warmup = math.ceil(recipe.warmup_fraction * total)
        if step < warmup:
            return (step + 1) / warmup
        progress = min(1.0, (step - warmup) / max(1, total - warmup - 1))
        low = recipe.final_fraction
        if recipe.schedule == "cosine":
            return low + (1 - low) * 0.5 * (1 + math.cos(math.pi * progress))
        if recipe.schedule == "linear":
            return 1 - (1 - low) * progress
        return 1 - (1 - low) * max(0.0, (progress - (1 - recipe.decay_fraction)) / recipe.decay_fraction)

    for schedule in ("cosine", "linear", "warmup_stable_decay"):
        for fraction in (0.0, 0.05, 0.07, 0.29, 0.55, 0.9):
            recipe = Optimizer(schedule=schedule, warmup_fraction=fraction)
            for total in (1, 2, 3, 12, 100, 317):
                for rows in (1, 3, 32):
                    plan = plan_of(Batch(global_rows=rows), total * rows, recipe)
                    assert plan.steps == total
                    for step in range(total + 1):
                        expected = in_steps(step, total, recipe)
                        assert learning_rate_factor(step, plan) == expected
                        assert learning_rate_share(step, total, recipe) == expected


def test_micro_batches_follow_from_each_size() -> None:
    # Two processes, at most 2 rows a pass: 4 rows are 1 pass each, 6 are 3 of one row, 8 are 2 of two.
    batch = Batch.parse(
        {"global_rows": 4, "warmup": [{"share": 0.3, "global_rows": 6}, {"share": 0.6, "global_rows": 8}]}
    )
    sizes = [micro_rows(rows, 2, 2) for rows in batch.sizes.values()]
    assert sizes == [2, 1, 2]
    plan = plan_of(batch, 28, Optimizer(), *sizes)
    assert [part.step for part in plan.schedule.stretches] == [0, 3, 4]
    assert accumulation_steps(plan, 2) == 3
    ranks = [list(MicroBatches(plan, Processes(rank, 2))) for rank in range(2)]
    assert ranks[0][:6] == [[], [], [0, 1], [], [], [4, 5]]
    assert ranks[1][9:] == [[13], [15], [17], [], [20, 21], [24, 25]]
    assert [len(share) for share in ranks] == [len(MicroBatches(plan, Processes(0, 2)))] * 2
    together = [row for turn in zip(*ranks, strict=True) for micro in turn for row in micro]
    assert together == list(range(26))
