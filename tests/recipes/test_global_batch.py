"""How a global batch is shared out, without PyTorch."""

from __future__ import annotations

import subprocess
import sys

import pytest

from codellm_dag.recipes.global_batch import largest_micro_rows, processes_that_share, uneven


def test_numbers_that_share_a_batch() -> None:
    assert processes_that_share(12) == "1, 2, 3, 4, 6, 12"
    assert processes_that_share(2048).endswith("512, 1024")  # no more are named
    assert uneven(12, 4) == ""
    assert "among 5 processes; allowed: a multiple of 5, or 1, 2, 3, 4, 6, 12 processes" in uneven(12, 5)


@pytest.mark.parametrize(
    ("share", "most", "rows"), [(24, 10, 8), (24, 0, 24), (24, 100, 24), (7, 6, 1), (1, 1, 1)]
)
def test_rows_of_a_pass_divide_the_share(share: int, most: int, rows: int) -> None:
    assert largest_micro_rows(share, most) == rows


def test_a_plan_needs_no_pytorch() -> None:
    program = "import sys, codellm_dag.scaling.run_plan; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
