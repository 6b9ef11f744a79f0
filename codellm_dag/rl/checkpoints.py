"""Resumable checkpoints of a policy run: whole or absent, and only for the very same run.

A checkpoint is one file ``step-000010.pt``, written under another name, synced and then renamed, so a kill
at any moment leaves the previous one. It holds model, optimiser, step, history and the run's identity; draws
need no state, they follow from seed and step. Final models are saved by `training/output.py`.
"""

from __future__ import annotations

import os
import pickle
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

_NAME = re.compile(r"step-(\d{6,})\.pt")


@dataclass(frozen=True)
class PolicyState:
    """``step``: steps done. ``history``: one dict of statistics a step done."""

    step: int
    model: dict[str, Any]
    optimiser: dict[str, Any]
    history: list[dict[str, float]]


def save_state(folder: Path, state: PolicyState, identity: str) -> Path:
    """Write the checkpoint of ``state.step`` and remove older ones. `identity` names recipe and inputs."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"step-{state.step:06d}.pt"
    partial = folder / f".{path.name}.{os.getpid()}.partial"
    payload = {
        "identity": identity,
        "step": state.step,
        "model": state.model,
        "optimiser": state.optimiser,
        "history": state.history,
    }
    with partial.open("wb") as file:
        torch.save(payload, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    for other in folder.iterdir():
        if other != path and (_NAME.fullmatch(other.name) or other.suffix == ".partial"):
            other.unlink(missing_ok=True)
    return path


def load_state(folder: Path, identity: str) -> tuple[PolicyState | None, str]:
    """The latest checkpoint of this run, and a sentence on what was found.

    None if there is none, if it is damaged, or if it belongs to another recipe or other inputs.
    """
    found = sorted(
        (int(match[1]), path)
        for path in (folder.iterdir() if folder.is_dir() else ())
        if (match := _NAME.fullmatch(path.name))
    )
    if not found:
        return None, "no earlier attempt to resume from"
    step, path = found[-1]
    try:
        payload = torch.load(path, weights_only=True)
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError) as error:
        return None, f"{path.name} is damaged ({type(error).__name__}): starting from step 0"
    if payload["identity"] != identity:
        return None, f"{path.name} is of another recipe, inputs or thread count: starting from step 0"
    state = PolicyState(payload["step"], payload["model"], payload["optimiser"], payload["history"])
    return state, f"resuming after step {step}"
