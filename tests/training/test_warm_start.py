"""Pretraining from the weights of a model that was trained before."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import load_file

from codellm_dag.recipes.training_options import Start
from codellm_dag.stages.protocol import Inputs
from codellm_dag.training.model import new_model
from codellm_dag.training.rows import InvalidTrainingDataError
from codellm_dag.training.warm_start import started_from
from tests.modelkit.tiny import artifact, save_checkpoint
from tests.training.conftest import TINY
from tests.training.test_pretrained_checkpoint import run


@pytest.fixture(scope="module")
def trained(inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    run(TINY, inputs, folder)
    return folder / "out"


def test_weights_are_shrunk_and_perturbed_as_published(trained: Path) -> None:
    there, fresh = load_file(trained / "model.safetensors"), new_model(TINY.model, 400, 0, seed=5)
    random = {name: parameter.detach().clone() for name, parameter in fresh.named_parameters()}
    mixed = started_from(trained, fresh, Start(how="shrink_perturb"))
    for name, parameter in mixed.named_parameters():
        expected = 0.4 * there[name] + 0.1 * random[name]
        assert parameter.detach().numpy() == pytest.approx(expected.numpy(), abs=1e-6), name
    warm = started_from(trained, new_model(TINY.model, 400, 0, seed=5), Start(how="warm"))
    assert all(parameter.equal(there[name]) for name, parameter in warm.named_parameters())


def test_a_warm_start_begins_where_the_other_ended(trained: Path, inputs: Inputs, tmp_path: Path) -> None:
    slots = Inputs({**inputs, "start": artifact(trained)})
    reports = {
        how: run(TINY.with_changes({"start.how": how}), slots if how != "fresh" else inputs, tmp_path / how)
        for how in ("fresh", "warm", "shrink_perturb")
    }
    first = {how: report.metrics["loss_first"] for how, report in reports.items()}
    assert first["warm"] < first["shrink_perturb"] < first["fresh"] - 0.1
    assert all(reports[how].metrics["loss_last"] < first[how] for how in ("fresh", "shrink_perturb"))


def test_what_cannot_be_started_from_is_refused(trained: Path, inputs: Inputs, tmp_path: Path) -> None:
    warm = TINY.with_changes({"start.how": "warm"})
    with pytest.raises(InvalidTrainingDataError, match=r"start.how = warm needs the input start"):
        run(warm, inputs, tmp_path / "none")
    other = Inputs({**inputs, "start": artifact(save_checkpoint(tmp_path / "other", chat=False))})
    with pytest.raises(InvalidTrainingDataError, match=r"other tokens \(259\) than the tokenizer \(400\)"):
        run(warm, other, tmp_path / "tokens")
    wide = warm.with_changes({"model.intermediate_size": 96})
    slots = Inputs({**inputs, "start": artifact(trained)})
    with pytest.raises(InvalidTrainingDataError, match=r"is \(32, 64\), model asks for \(32, 96\)"):
        run(wide, slots, tmp_path / "shape")
