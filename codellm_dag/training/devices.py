"""Devices: memory, and the peak of matrix products, for plans before a run and for MFU while it goes.

A peak is the maker's figure without sparsity and with float32 accumulation, of tensor cores in 16 bits and of
float32. Figures that a data sheet gives with sparsity are halved. Memory is the sheet's number of 10^9 bytes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from codellm_dag.recipes.base import InvalidRecipeError


@dataclass(frozen=True)
class Device:
    """``memory`` in bytes; ``half`` and ``single``: peak operations a second in bf16/fp16 and float32.

    A peak of 0 is unknown: neither hours nor MFU follow. ``known_as`` is a pattern that the name its
    driver gives holds.
    """

    name: str
    known_as: str
    memory: int
    half: float
    single: float

    def peak(self, precision: str) -> float:
        """Peak operations a second in `precision` (fp32, bf16, fp16)."""
        return self.single if precision == "fp32" else self.half

    def with_peak(self, teraflops: float) -> Device:
        """The same device with a peak of so many 10^12 operations a second, in every precision."""
        return replace(self, half=teraflops * 1e12, single=teraflops * 1e12)


_GB = 10**9


def _gpu(name: str, known_as: str, gigabytes: int, half: float, single: float) -> Device:
    return Device(name, known_as, gigabytes * _GB, half * 1e12, single * 1e12)


DEVICES = {
    device.name: device
    for device in (
        # The laptop recipe's machine: 4 GB. A CPU's peak depends on clocks that vary; no sheet states it.
        Device("cpu", "^$", 4 * _GB, 0.0, 0.0),
        # Tesla V100 data sheet, SXM2. Its tensor cores take fp16 only.
        _gpu("v100-32gb", "V100-SXM2-32GB", 32, 125, 15.7),
        # A100 data sheet: the same peaks for both sizes, SXM and PCIe.
        _gpu("a100-40gb", r"A100\b", 40, 312, 19.5),
        _gpu("a100-80gb", r"A100\b", 80, 312, 19.5),
        # H100 data sheet: PCIe 1,513 with sparsity, NVL 1,671, SXM 1,979.
        _gpu("h100-pcie-80gb", "H100 PCIe", 80, 756.5, 51),
        _gpu("h100-nvl-94gb", "H100 NVL", 94, 835.5, 60),
        _gpu("h100-80gb", r"H100\b", 80, 989.5, 67),
        # H200 data sheet, SXM: 1,979 with sparsity. The slower NVL form is not here.
        _gpu("h200-141gb", r"\bH200$", 141, 989.5, 67),
        # HGX B200 data sheet, an eighth of a board: 36,000 with sparsity, 600 and 1,440 GB.
        _gpu("b200-180gb", r"\bB200\b", 180, 2250, 75),
        # L40S data sheet (without sparsity there).
        _gpu("l40s-48gb", "L40S", 48, 362.05, 91.6),
        # L4 data sheet: 242 with sparsity.
        _gpu("l4-24gb", r"L4\b", 24, 121, 30.3),
        # Ada architecture white paper, appendix A, table 2: bfloat16 with float32 accumulation.
        _gpu("rtx4090-24gb", "RTX 4090$", 24, 165.2, 82.6),
    )
}
"""By name. Of two that a driver's name holds, the first is meant."""


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


def peak_flops(driver_name: str, half: bool) -> float | None:
    """Operations per second of the device that its driver calls so, in 16 bits (`half`) or float32.

    None where it is unknown, and for a slice of a device (MIG).
    """
    if " MIG " in driver_name:
        return None
    for device in DEVICES.values():
        if re.search(device.known_as, driver_name):
            return (device.half if half else device.single) or None
    return None
