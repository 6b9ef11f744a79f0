"""Memory by strategy: published figures, sums by hand, and real runs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from codellm_dag.recipes.base import InvalidRecipeError
from codellm_dag.scaling.memory import Memory, Precision, Work, data_parallel_memory, parallel_memory, states
from codellm_dag.scaling.published import PUBLISHED
from codellm_dag.training.architecture import Architecture

LLAMA = PUBLISHED["llama-2-7b"]
LARGEST = 4 * 32_000 * 4096 / LLAMA.parameters
"""Bytes of an embedding matrix for each parameter of the model."""


def held(memory: Memory) -> float:
    """Bytes a parameter of weights, gradients and optimizer state."""
    return (memory.weights + memory.gradients + memory.optimizer) / LLAMA.parameters


@pytest.mark.parametrize(("stage", "gigabytes"), [(0, 120), (1, 31.4), (2, 16.6), (3, 1.9)])
def test_figure_1_of_the_zero_paper(stage, gigabytes):
    # 7.5 billion parameters, 64 devices; weights and gradients of 2 bytes, 12 of optimizer state.
    parameters = 7_500_000_000
    found = states(stage, parameters, Precision(2, 2, 4, 2, 2), 8 * parameters, 64)
    assert sum(found) == pytest.approx(gigabytes * 1e9, rel=0.015)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    ("strategy", "device", "host"),
    [
        ("zero1", 4 + 4 + 12 / 8, 0),
        ("zero2", 4 + (4 + 12) / 8, 0),
        ("zero3", (4 + 4 + 12) / 8, 0),
        ("fsdp", (4 + 4 + 8) / 8, 0),
        # Also on the host: a copy of the new weights (ZeRO-3: of gradients), the largest tensor's gradient.
        ("zero1_offload", 4 + 4, (4 + 4 + 12) / 8 + LARGEST),
        ("zero2_offload", 4, (4 + 4 + 12) / 8 + LARGEST),
        ("zero3_offload", 0, (4 + 4 + 4 + 12) / 8),
    ],
)
def test_bytes_a_parameter_as_our_backends_hold_them(precision, strategy, device, host):
    # DeepSpeed's optimizer clones its share of the weights, in ZeRO-3 too, where it compares a torch.device
    # with a device's name and finds them unequal.
    memory = data_parallel_memory(strategy, Work(LLAMA, 16, 1, precision=precision), 8)
    assert held(memory) == pytest.approx(device)
    assert memory.host / LLAMA.parameters == pytest.approx(host)


@pytest.mark.parametrize(("precision", "bytes_each"), [("fp32", 16), ("bf16", 18), ("fp16", 20)])
def test_megatrons_bytes_a_parameter(precision, bytes_each):
    # Megatron Core User Guide, "Distributed Optimizer": the column of the optimizer that is not distributed.
    assert held(parallel_memory(Work(LLAMA, 16, 1, precision=precision), 1, 1, 1)) == pytest.approx(
        bytes_each
    )


def test_casts_of_matrices_are_kept_but_not_where_layers_are_gathered():
    work = Work(LLAMA, 16, 1, precision="bf16")
    largest = max(LLAMA.layer, LLAMA.embedding)
    bucket = 4 * 500_000_000
    assert data_parallel_memory("zero1", work, 8).buffers == 2 * LLAMA.matrix_parameters + bucket
    output = 2 * 32_000 * 4096
    assert data_parallel_memory("zero3", work, 8).buffers == output + 4 * 1_000_000_000 + 2 * bucket
    assert data_parallel_memory("fsdp", work, 8).buffers == output + largest * (2 * 2 + 4)


@pytest.mark.parametrize(
    ("strategy", "gigabytes"), [("zero1", 2), ("zero2", 4), ("zero3", 4), ("ddp", 0), ("fsdp", 0)]
)
def test_deepspeeds_bucket_is_there_in_a_process_alone(strategy, gigabytes):
    # setup_buckets (ZeRO-3: __init__) asks for no number of processes; ZeRO-2 and 3 sum a copy of it.
    largest = 4 * (4 * 4096**2 + 3 * 4096 * 11_008 + 2 * 4096) if strategy == "zero2" else 0
    memory = data_parallel_memory(strategy, Work(LLAMA, 16, 1), 1)
    assert memory.buffers == gigabytes * 10**9 + largest


def test_the_copy_of_a_bucket_with_all_gradients_meets_no_activations():
    model = Architecture(100, 8, 4, 2, 2, 4, 16)
    gradients, largest = 4 * model.parameters, 4 * 800
    short, long = (data_parallel_memory("zero2_offload", Work(model, n, 1), 2) for n in (1, 1000))
    # weights; the bucket, the largest block's gradient and the largest tensor's; the bucket's copy
    assert short.total == 2 * gradients + 2 * largest + gradients
    assert long.total == pytest.approx(2 * gradients + 2 * largest + long.activations, rel=0.1)
    assert long.activations > 10 * gradients


def test_deepspeeds_buffers_are_no_larger_than_the_model():
    model = Architecture(100, 8, 4, 2, 2, 4, 16)
    work, weights = Work(model, 4, 1), 4 * model.parameters
    largest = 4 * max(4 * 8 * 8 + 3 * 8 * 16 + 2 * 8, 800)
    found = {name: data_parallel_memory(name, work, 2).buffers for name in ("zero1", "zero2", "zero3")}
    # the bucket; a gradient that is made while it is full; gathered weights, the bucket and a copy of it
    assert found == {"zero1": weights, "zero2": weights + largest, "zero3": 3 * weights}


def test_the_trainers_autocast_keeps_float32_weights():
    memory = data_parallel_memory("ddp", Work(LLAMA, 16, 1, precision="bf16"), 1)
    assert (memory.weights, memory.gradients) == (4 * LLAMA.parameters, 4 * LLAMA.parameters)
    assert memory.optimizer == 8 * LLAMA.parameters
    assert memory.buffers == 2 * (32 * (4 * 4096**2 + 3 * 4096 * 11_008) + 32_000 * 4096)


def test_fsdp_shards_as_zero3_does_and_hybrid_over_a_group():
    work = Work(LLAMA, 16, 1, precision="bf16")
    assert data_parallel_memory("fsdp", work, 64).weights == data_parallel_memory("zero3", work, 64).weights
    hybrid = data_parallel_memory("fsdp", work, 64, shard_group=8)
    assert hybrid.weights == -(-LLAMA.parameters * 4 // 8)
    with pytest.raises(InvalidRecipeError, match="hybrid_sharding = 7: must divide"):
        data_parallel_memory("fsdp", work, 64, shard_group=7)


def test_offloading_moves_what_is_sharded_to_the_host():
    work = Work(LLAMA, 16, 1, precision="bf16")
    whole, offloaded = (data_parallel_memory(name, work, 8) for name in ("zero1", "zero1_offload"))
    largest, share = (
        4 * 32_000 * 4096,
        -(-4 * LLAMA.parameters // 8),
    )  # the embedding; of weights or gradients
    assert whole.optimizer == -(-12 * LLAMA.parameters // 8)
    assert (offloaded.host, offloaded.optimizer) == (whole.optimizer + 2 * share + largest, 0)
    assert whole.total - offloaded.total == whole.optimizer - largest


@pytest.mark.parametrize(("strategy", "more"), [("zero1", 4), ("zero2", 4), ("zero3", 0)])
def test_accumulated_gradients_lie_on_the_host_too(strategy, more):
    # accumulated_grads_in_cpu; ZeRO-3 has one buffer of all partitions for that anyway.
    host = [data_parallel_memory(f"{strategy}_offload", Work(LLAMA, 16, 1, n), 8).host for n in (1, 2)]
    assert (host[1] - host[0]) / LLAMA.parameters == pytest.approx(more / 8)


def test_room_for_the_largest_tensor_where_experts_are_one():
    model = Architecture(100, 8, 4, 2, 2, 4, 16, experts=4, experts_per_token=2)
    host = data_parallel_memory("zero2_offload", Work(model, 4, 1), 2).host
    assert host == 4 * 5 * model.parameters // 2 + 4 * (4 * 2 * 8 * 16)  # gate and up of 4 experts


@pytest.mark.parametrize("strategy", ["zero2_offload", "zero3_offload"])
def test_what_offloading_takes_from_the_device_passes_through_it(strategy):
    # One device alone: the bucket, its copy, the gradients of a block and of an embedding matrix; in ZeRO-3
    # gathered weights and two buckets.
    memory = data_parallel_memory(strategy, Work(LLAMA, 16, 1), 1)
    block = 4 * (4 * 4096**2 + 3 * 4096 * 11_008 + 2 * 4096)
    through = {"zero2_offload": 4 * 10**9 + block + 4 * 32_000 * 4096, "zero3_offload": 8 * 10**9}
    assert memory.buffers == through[strategy]
    assert memory.total == pytest.approx(memory.weights + memory.buffers, abs=2**30)  # activations: 16 tokens


def test_tensor_and_pipeline_parallelism():
    model = Architecture(100, 8, 4, 2, 2, 4, 16)
    layer = 4 * 64 + 3 * 128 + 16
    memory = parallel_memory(Work(model, 4, 1), tensor=2, pipeline=2, data=1)
    assert memory.weights == 4 * (2 * layer + 800 + 8) // 2
    assert memory.buffers == 0
    with pytest.raises(InvalidRecipeError, match="tensor_parallel = 4: must divide kv_heads = 2; allowed: 1"):
        parallel_memory(Work(model, 4, 1), tensor=4, pipeline=1, data=1)
    with pytest.raises(InvalidRecipeError, match="pipeline_parallel = 3: must divide layers = 4"):
        parallel_memory(Work(model, 4, 1), tensor=1, pipeline=3, data=1)


def test_a_pipeline_holds_as_many_micro_batches_as_stages():
    model = Architecture(100, 64, 8, 4, 4, 16, 256)
    one = parallel_memory(Work(model, 64, 1, accumulation=1), 1, 4, 1).activations
    four = parallel_memory(Work(model, 64, 1, accumulation=8), 1, 4, 1).activations
    assert 3.0 < four / one < 4.0  # the loss is counted once


def test_unknown_names_are_refused():
    with pytest.raises(InvalidRecipeError, match="strategy = 'zero4': allowed: ddp, zero1"):
        data_parallel_memory("zero4", Work(LLAMA, 16, 1), 1)
    with pytest.raises(InvalidRecipeError, match="precision = 'fp8': allowed: fp32, bf16, fp16"):
        Work(LLAMA, 16, 1, precision="fp8")


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("name", ["states", "large vocabulary"])
def test_real_runs_take_what_is_predicted(name):
    sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))
    from memory import CASES, RETURNS_AT_ONCE, measured_apart, predict

    case = next(case for case in CASES if case.name == name)
    tensors, resident = predict(case)
    assert resident == pytest.approx(measured_apart(case), rel=0.15)
    assert tensors == pytest.approx(measured_apart(case, RETURNS_AT_ONCE), rel=0.15)
