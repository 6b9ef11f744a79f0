"""Checkpoints of a policy run: the latest whole one of the same run, or none."""

from __future__ import annotations

from pathlib import Path

import torch

from codellm_dag.rl.checkpoints import PolicyState, load_state, save_state


def state(step: int) -> PolicyState:
    return PolicyState(step, {"w": torch.full((2,), step / 3)}, {"state": {}}, [{"reward": 0.1}] * step)


def test_round_trip_keeps_the_latest_only(tmp_path: Path):
    folder = tmp_path / "resume"
    assert load_state(folder, "run") == (None, "no earlier attempt to resume from")
    save_state(folder, state(2), "run")
    (folder / ".step-000004.pt.99.partial").write_bytes(b"cut off by a kill")
    save_state(folder, state(10), "run")
    assert [path.name for path in folder.iterdir()] == ["step-000010.pt"]
    loaded, found = load_state(folder, "run")
    assert found == "resuming after step 10"
    assert loaded is not None
    assert torch.equal(loaded.model["w"], state(10).model["w"])
    assert (loaded.step, loaded.history) == (10, [{"reward": 0.1}] * 10)


def test_steps_sort_as_numbers(tmp_path: Path):
    save_state(tmp_path, state(999_999), "run")
    first = (tmp_path / "step-999999.pt").read_bytes()
    save_state(tmp_path, state(1_000_000), "run")
    (tmp_path / "step-999999.pt").write_bytes(first)
    loaded, _ = load_state(tmp_path, "run")
    assert loaded is not None
    assert loaded.step == 1_000_000


def test_another_run_starts_anew(tmp_path: Path):
    save_state(tmp_path, state(2), "one recipe")
    loaded, found = load_state(tmp_path, "another")
    assert loaded is None
    assert "another recipe, inputs or thread count" in found


def test_a_damaged_checkpoint_starts_anew(tmp_path: Path):
    path = save_state(tmp_path, state(2), "run")
    path.write_bytes(path.read_bytes()[:100])
    loaded, found = load_state(tmp_path, "run")
    assert loaded is None
    assert "step-000002.pt is damaged" in found
