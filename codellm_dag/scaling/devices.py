"""Devices a plan can be made for: memory, and the dense peak of matrix products.

Values are those of the makers' data sheets, without sparsity: NVIDIA A100, H100, H200, L40S and V100 Tensor
Core GPU data sheets, and the GeForce RTX 4090's (Ada architecture white paper, table 2; bfloat16 with float32
accumulation). Memory is the sheet's number of 10^9 bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from codellm_dag.recipes.base import InvalidRecipeError

USABLE = 0.9
"""Share of a device's memory that tensors may take; the rest is for the driver's context, NCCL's buffers and
gaps between blocks. A convention, not a measurement."""


@dataclass(frozen=True)
class Device:
    """``memory`` in bytes; ``half`` and ``single``: peak operations a second in bf16/fp16 and float32.

    A peak of 0 is unknown: no hours follow.
    """

    name: str
    memory: int
    half: float
    single: float

    def peak(self, precision: str) -> float:
        """Peak operations a second in `precision` (fp32, bf16, fp16)."""
        return self.single if precision == "fp32" else self.half

    def with_peak(self, teraflops: float) -> Device:
        """The same device with a peak of so many 10^12 operations a second, in every precision."""
        return replace(self, half=teraflops * 1e12, single=teraflops * 1e12)


_GB, _T = 10**9, 1e12
DEVICES = {
    device.name: device
    for device in (
        Device("cpu", 4 * _GB, 0.0, 0.0),
        Device("v100-32gb", 32 * _GB, 125 * _T, 15.7 * _T),
        Device("a100-40gb", 40 * _GB, 312 * _T, 19.5 * _T),
        Device("a100-80gb", 80 * _GB, 312 * _T, 19.5 * _T),
        Device("h100-80gb", 80 * _GB, 989.4 * _T, 66.9 * _T),
        Device("h200-141gb", 141 * _GB, 989.4 * _T, 66.9 * _T),
        Device("l40s-48gb", 48 * _GB, 362.05 * _T, 91.6 * _T),
        Device("rtx4090-24gb", 24 * _GB, 165.2 * _T, 82.6 * _T),
    )
}
"""By name. ``cpu`` is the laptop recipe's machine: 4 GB, and no peak that a sheet would state."""


def device_named(name: str, memory_gb: float = 0.0, teraflops: float = 0.0) -> Device:
    """The device `name`, with another memory (10^9 bytes) or peak (10^12 a second) where one is given.

    Raises InvalidRecipeError, naming the devices there are.
    """
    if name not in DEVICES:
        raise InvalidRecipeError(f"--device {name!r}: allowed: {', '.join(DEVICES)}")
    device = DEVICES[name]
    if memory_gb:
        device = replace(device, memory=round(memory_gb * _GB))
    return device.with_peak(teraflops) if teraflops else device
