"""One table of devices, for plans and for MFU."""

from __future__ import annotations

import pytest

from codellm_dag.recipes.base import InvalidRecipeError
from codellm_dag.training.devices import DEVICES, device_named, peak_flops


@pytest.mark.parametrize(
    ("driver", "name"),
    [
        ("NVIDIA H200", "h200-141gb"),
        ("NVIDIA H100 80GB HBM3", "h100-80gb"),
        ("NVIDIA H100 PCIe", "h100-pcie-80gb"),
        ("NVIDIA H100 NVL", "h100-nvl-94gb"),
        ("NVIDIA A100-SXM4-40GB", "a100-40gb"),
        ("NVIDIA A100 80GB PCIe", "a100-80gb"),
        ("NVIDIA L40S", "l40s-48gb"),
        ("NVIDIA L4", "l4-24gb"),
        ("NVIDIA GeForce RTX 4090", "rtx4090-24gb"),
        ("Tesla V100-SXM2-32GB", "v100-32gb"),
        ("NVIDIA B200", "b200-180gb"),
    ],
)
def test_peaks_by_the_names_that_drivers_give(driver: str, name: str) -> None:
    device = DEVICES[name]
    assert peak_flops(driver, half=True) == device.peak("bf16") == device.peak("fp16")
    assert peak_flops(driver, half=False) == device.peak("fp32")


def test_some_figures_of_data_sheets() -> None:
    assert DEVICES["h100-80gb"].peak("bf16") == 1979e12 / 2
    assert DEVICES["h100-pcie-80gb"].peak("bf16") == 1513e12 / 2
    assert DEVICES["b200-180gb"].peak("bf16") == 36e15 / 8 / 2
    assert DEVICES["b200-180gb"].peak("fp32") == 600e12 / 8
    assert (DEVICES["a100-80gb"].memory, DEVICES["a100-80gb"].peak("fp32")) == (80 * 10**9, 19.5e12)


@pytest.mark.parametrize(
    "driver",
    [
        *("AMD EPYC", "", "NVIDIA L40", "NVIDIA GB200", "NVIDIA GH200 480GB", "NVIDIA H200 NVL"),
        *("NVIDIA GeForce RTX 4090 Laptop GPU", "NVIDIA H100 80GB HBM3 MIG 1g.10gb"),
    ],
)
def test_a_device_that_is_not_in_the_table_has_no_peak(driver: str) -> None:
    assert peak_flops(driver, half=True) is None


def test_a_device_can_be_changed() -> None:
    device = device_named("cpu", memory_gb=24, teraflops=0.5)
    assert (device.memory, device.peak("fp32"), device.peak("bf16")) == (24 * 10**9, 5e11, 5e11)


def test_a_name_that_is_not_there_is_refused() -> None:
    with pytest.raises(InvalidRecipeError, match="--device 'h900': allowed: cpu, v100-32gb,"):
        device_named("h900")
