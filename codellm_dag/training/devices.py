"""What accelerators can do at most, for MFU. CPUs are left out: their peak depends on clocks that vary."""

from __future__ import annotations

from typing import NamedTuple


class Peak(NamedTuple):
    """Operations per second, without sparsity: of bfloat16 and float16 tensor cores, and of float32."""

    half: float
    single: float


_PEAKS = {
    "B200": Peak(2250e12, 75e12),
    "H200": Peak(989.5e12, 67e12),
    "H100 PCIe": Peak(756.5e12, 51e12),
    "H100 NVL": Peak(835.5e12, 60e12),
    "H100": Peak(989.5e12, 67e12),
    "A100": Peak(312e12, 19.5e12),
    "L40S": Peak(362.05e12, 91.6e12),
    "L4": Peak(121e12, 30.3e12),
}
"""NVIDIA's data sheets, half of the figures that are given with sparsity: HGX B200 (an eighth of its 36,000
and
600 TFLOPS), H200 SXM, H100 PCIe, NVL and SXM, A100, L40S, L4. The first name within a device's own counts."""


def peak_flops(device: str, half: bool) -> float | None:
    """Operations per second of a device of this name, in 16 bits (`half`) or float32; None: unknown."""
    for name, peak in _PEAKS.items():
        if name in device:
            return peak.half if half else peak.single
    return None
