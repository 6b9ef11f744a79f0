"""Memory of one device in training, by strategy: what lies on it, at the moment when it is most.

States follow Rajbhandari et al. 2020 (ZeRO, sections 3.1 and 5, figure 1): with P parameters and N devices
data parallelism holds weights, gradients and optimizer state whole; ZeRO-1 shards the state over the devices,
ZeRO-2 the gradients too, ZeRO-3 and FSDP the weights too. Offloading (Ren et al. 2021) moves the same parts
to host memory: the state, from ZeRO-2 on the gradients, with ZeRO-3 the weights; what DeepSpeed 0.19 keeps
beside them, there and on the device, is read off its source (``runtime/zero``). Tensor and pipeline
parallelism divide layers (Narayanan et al. 2021); activations are divided by the tensor-parallel degree as
with sequence parallelism, and the first stage of a 1F1B pipeline holds those of as many micro-batches as
there are stages (Korthikanti et al. 2022, 4.2.2 and 4.2.3).

A step is largest at one of five moments: at the loss, at the start or at the end of the backward pass, when
gradients are summed, or in the optimizer. Measured against real runs by ``bench/memory.py`` and
``bench/memory_sharded.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil
from typing import Literal

from codellm_dag.recipes.base import InvalidRecipeError
from codellm_dag.scaling.activations import blocks_bytes, layer_bytes, layer_gradient_bytes, loss_bytes
from codellm_dag.scaling.muon import muon_state_bytes, muon_workspace_bytes
from codellm_dag.training.architecture import Architecture

STRATEGIES = ("ddp", "zero1", "zero2", "zero3", "zero1_offload", "zero2_offload", "zero3_offload", "fsdp")
"""Data-parallel strategies; ``tp×pp×dp`` is `parallel_memory`."""
BUCKET, LIVE = 500_000_000, 1_000_000_000
"""Parameters in DeepSpeed's bucket of gradients (``reduce_bucket_size``; a GPU holds all of it, also for a
smaller model), and those ZeRO-3 keeps gathered (``stage3_max_live_parameters``): its defaults."""


@dataclass(frozen=True)
class Precision:
    """Bytes of one parameter's weight, gradient and master copy, of one activation, and of a gathered weight.

    ``autocast``: weights are float32, and matrices are cast to 16 bits as they are used.
    """

    weight: int
    gradient: int
    master: int
    activation: int
    gathered: int
    autocast: bool = False


FLOAT32 = Precision(4, 4, 0, 4, 4)
AUTOCAST = Precision(4, 4, 0, 2, 4, autocast=True)
"""What the trainer and its sharded kin do in 16 bits: weights, gradients and optimizer state are float32."""
MEGATRON = {
    "fp32": FLOAT32,
    "bf16": Precision(2, 4, 4, 2, 2),
    "fp16": Precision(2, 6, 4, 2, 2),
}
"""Megatron-LM's, where layers are divided: 16, 18 and 20 bytes a parameter with AdamW's 8 (the table of its
distributed optimizer, column "non-distributed")."""


@dataclass(frozen=True)
class Work:
    """What one device does in a step: ``micro_rows`` rows of ``length`` tokens, ``accumulation`` times.

    ``targets``: share of the tokens that have a loss, 0 to 1.
    """

    model: Architecture
    length: int
    micro_rows: int
    accumulation: int = 1
    targets: float = 1.0
    optimizer: Literal["adamw", "muon"] = "adamw"
    precision: str = "fp32"
    checkpointing: bool = False

    def __post_init__(self) -> None:
        if self.precision not in MEGATRON:
            raise InvalidRecipeError(f"precision = {self.precision!r}: allowed: {', '.join(MEGATRON)}")

    @property
    def moments_bytes(self) -> int:
        """Optimizer state of the whole model in float32, master weights not counted."""
        return muon_state_bytes(self.model) if self.optimizer == "muon" else 8 * self.model.parameters

    def precision_of(self, strategy: str) -> Precision:
        """How `strategy`, of `STRATEGIES`, holds numbers.

        DeepSpeed's optimizer has weights of its own beside the model's.
        """
        kind = FLOAT32 if self.precision == "fp32" else AUTOCAST
        if strategy == "fsdp" and kind.autocast:
            return replace(kind, gathered=2)
        return replace(kind, master=4) if strategy not in ("ddp", "fsdp") else kind


@dataclass(frozen=True)
class Memory:
    """Bytes on one device. ``total`` is the height of a step, ``host`` the share of host memory.

    ``activations``: what the forward pass leaves for the backward pass, the loss's logits counted.
    ``buffers``: what the strategy and the optimizer add: gradient buckets, gathered weights, scratch space.
    The total is at most the sum: gradients come as activations go, and scratch space after both.
    """

    strategy: str
    weights: int
    gradients: int
    optimizer: int
    activations: int
    buffers: int
    total: int
    host: int = 0


def data_parallel_memory(strategy: str, work: Work, devices: int, shard_group: int = 0) -> Memory:
    """The memory of `strategy` (one of `STRATEGIES`) over `devices`.

    `shard_group`: devices of one sharding group of FSDP's hybrid sharding; 0 is all of them.
    """
    if strategy not in STRATEGIES:
        raise InvalidRecipeError(f"strategy = {strategy!r}: allowed: {', '.join(STRATEGIES)}")
    shards = (shard_group or devices) if strategy == "fsdp" else devices
    if devices % shards:
        raise InvalidRecipeError(f"hybrid_sharding = {shards}: must divide the number of devices, {devices}")
    base, _, offload = strategy.partition("_")
    stage = {"ddp": 0, "fsdp": 3}.get(base, 0) if base in ("ddp", "fsdp") else int(base[-1])
    precision = work.precision_of(strategy)
    model = work.model
    sharded = states(stage, model.parameters, precision, work.moments_bytes, shards)
    extra = _buffers(strategy, stage, work, shards)
    # ZeRO-2 sums a copy of the bucket. Where all gradients fit in the bucket that is once, when activations
    # are gone. ZeRO-1 does the same; there the whole gradients, counted all along, are as large.
    copy = model.parameters * precision.gradient if stage == 2 and model.parameters <= BUCKET else 0
    host = 0
    if offload:
        host = _host(stage, work, shards)
        weights, gradients, _ = sharded
        sharded = (weights if stage < 3 else 0, gradients if stage < 2 else 0, 0)
    # Where the state is sharded each device takes a share of the matrices.
    scratch = _scratch(work) // (shards if stage >= 1 else 1)
    return _height(strategy, work, precision, sharded, extra, scratch, model.layers, host=host, copy=copy)


def states(
    stage: int, parameters: int, precision: Precision, moments: int, shards: int
) -> tuple[int, int, int]:
    """Bytes of weights, gradients and optimizer state on one device at a ZeRO stage, 0 (none) to 3.

    `moments`: bytes of the optimizer's state of the whole model, master weights not counted.
    """
    return (
        ceil(parameters * precision.weight / (shards if stage >= 3 else 1)),
        ceil(parameters * precision.gradient / (shards if stage >= 2 else 1)),
        ceil((parameters * precision.master + moments) / (shards if stage >= 1 else 1)),
    )


def _buffers(strategy: str, stage: int, work: Work, shards: int) -> int:
    precision, model = work.precision_of(strategy), work.model
    extra = 0
    if precision.autocast:  # casts are kept for the backward pass; those of gathered layers are not
        extra = (model.matrix_parameters if stage < 3 else model.embedding) * precision.activation
    largest = max(model.layer, model.embedding)
    if shards == 1 and strategy in ("ddp", "fsdp"):
        return extra
    if strategy == "ddp":
        return extra + model.parameters * precision.gradient  # the reducer's buckets are copies
    if strategy == "fsdp":  # a block at work and the next one, and one block's whole gradient
        return extra + largest * (2 * precision.gathered + precision.gradient)
    bucket = min(model.parameters, BUCKET) * precision.gradient  # a process alone has it too
    offload = strategy.endswith("_offload")
    if stage == 3:  # the bucket, and its copy in the order of the reduce-scatter; weights that stay gathered
        alone = shards == 1 and not offload  # a device that has all weights gathers none
        return extra + 2 * bucket + (0 if alone else min(model.parameters, LIVE) * precision.gathered)
    if offload:  # temp_grad_buffer_for_gpu_offload: through it gradients come back to be summed
        extra += _largest_parameter(model) * precision.gradient
    if stage == 1:
        return extra + bucket
    summed = bucket if model.parameters > BUCKET else 0  # a full bucket's copy, while the pass goes on
    return extra + bucket + summed + largest * precision.gradient


def _host(stage: int, work: Work, shards: int) -> int:
    """Bytes of host memory for one device with offload.

    The device's shares of the master weights and moments, and of the gradients, twice in ZeRO-3 (all
    partitions in one buffer, and the optimizer's). ZeRO-3: of the weights. ZeRO-1 and 2: a copy of the new
    weights on their way to the device, what gradients have summed up to where micro-batches are accumulated,
    and room for the largest parameter's gradient.
    """
    model, precision = work.model, work.precision_of(f"zero{stage}")
    weight, gradient, state = states(3, model.parameters, precision, work.moments_bytes, shards)
    if stage == 3:
        return weight + 2 * gradient + state
    accumulated = gradient if work.accumulation > 1 else 0
    return weight + gradient + accumulated + state + _largest_parameter(model) * precision.gradient


def _largest_parameter(model: Architecture) -> int:
    """Values of the largest tensor of weights; gate and up matrices of all experts are one."""
    swiglu = model.hidden * model.intermediate * (2 * model.experts or 1)
    return max(model.embedding, model.hidden * model.attention_width, swiglu)


def parallel_memory(work: Work, tensor: int, pipeline: int, data: int) -> Memory:
    """The fullest stage's memory with tensor, pipeline and data parallelism, the state sharded over none.

    Raises InvalidRecipeError, naming field, value and the divisors there are, where degrees do not divide
    heads, key heads, SwiGLU width or layers.
    """
    model, precision = work.model, MEGATRON[work.precision]
    for field, degree, parts, name in (
        ("tensor_parallel", tensor, model.kv_heads, "kv_heads"),
        ("tensor_parallel", tensor, model.heads, "heads"),
        ("tensor_parallel", tensor, model.intermediate, "intermediate_size"),
        ("pipeline_parallel", pipeline, model.layers, "layers"),
    ):
        if parts % degree:
            allowed = ", ".join(str(n) for n in range(1, parts + 1) if parts % n == 0 and n <= 64)
            raise InvalidRecipeError(f"{field} = {degree}: must divide {name} = {parts}; allowed: {allowed}")
    layers = model.layers // pipeline
    ends = 1 if pipeline > 1 or model.tied else 2  # embedding and output matrix lie on different stages
    share = ceil((layers * model.layer + ends * model.embedding + model.hidden) / tensor)
    state = ceil((precision.master + work.moments_bytes / model.parameters) * share)
    gradients = share * precision.gradient
    extra = gradients if data > 1 else 0
    held = (share * precision.weight, gradients, state)
    in_flight = min(pipeline, work.accumulation)
    name = f"tp{tensor}×pp{pipeline}×dp{data}"
    scratch = _scratch(work) // (tensor * pipeline)
    return _height(name, work, precision, held, extra, scratch, layers, tensor=tensor, in_flight=in_flight)


def _scratch(work: Work) -> int:
    return muon_workspace_bytes(work.model) if work.optimizer == "muon" else 0


def _height(
    strategy: str,
    work: Work,
    precision: Precision,
    held: tuple[int, int, int],
    extra: int,
    scratch: int,
    layers: int,
    *,
    host: int = 0,
    copy: int = 0,
    tensor: int = 1,
    in_flight: int = 1,
) -> Memory:
    """The largest of the moments; weights and state are there in all of them.

    `copy`: bytes of gradients that are copied when the backward pass is over.
    """
    weights, gradients, state = held
    model, width = work.model, precision.activation
    rows, length = work.micro_rows, work.length
    one = blocks_bytes(
        model,
        rows,
        length,
        layers=layers,
        checkpointing=work.checkpointing,
        width=width,
        autocast=precision.autocast,
    )
    blocks = ceil(in_flight * one / tensor)
    passing = ceil(layer_gradient_bytes(model, rows, length, width) / tensor)
    matrix = ceil(model.embedding / tensor) * precision.gradient
    before = gradients if work.accumulation > 1 else 0
    last = ceil(layer_bytes(model, rows, length, width, precision.autocast) / tensor)
    loss = ceil(loss_bytes(model, rows, length, work.targets, width) / tensor)
    # A tied matrix has a gradient from either end, and their sum.
    ends = 2 * matrix if model.tied else matrix if before else 0
    height = max(
        before + blocks + loss,
        (before or min(matrix, gradients)) + blocks + passing,
        gradients + last + passing + ends,
        before + copy,
        gradients + scratch,
    )
    total = weights + state + extra + height
    return Memory(strategy, weights, gradients, state, blocks + loss, extra + scratch, total, host)
