"""A backend is found by name, and it alone counts in the fingerprint of what it trains."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import Any

import pytest

from codellm_dag.launch.identity import check_recipe
from codellm_dag.recipes import InvalidRecipeError
from codellm_dag.recipes.backends import BACKENDS, Backend
from codellm_dag.recipes.training import PretrainingRecipe, SftRecipe
from codellm_dag.stages.registry import STAGES
from codellm_dag.store import code, code_digest
from codellm_dag.training.backends.protocol import BackendUnavailableError, Rendered, backend

FOLDER = Path(code.__file__).parents[1] / "training/backends"
THERE = [name for name in BACKENDS if (FOLDER / f"{name}.py").is_file()]
STAGE = STAGES["pretrained_checkpoint"]


def recipe_of(name: str) -> PretrainingRecipe:
    return PretrainingRecipe.parse({"backend": {"name": name}, "optimizer": {"name": "adamw"}})


@pytest.mark.parametrize("name", THERE)
def test_it_has_all_functions_of_the_protocol(name: str) -> None:
    found = backend(name)
    for function in ("version", "refusals", "render", "validate", "train"):
        assert callable(getattr(found, function)), function
    assert isinstance(found.refusals(recipe_of(name)), list)


@pytest.mark.parametrize("name", THERE)
def test_only_the_chosen_backend_s_module_counts(name: str) -> None:
    for recipe in (recipe_of(name), SftRecipe(backend=Backend.parse({"name": name}))):
        modules = code_digest(*STAGE.roots(recipe)).modules
        own = {f"codellm_dag.training.backends.{other}" for other in BACKENDS} & modules.keys()
        assert own == {f"codellm_dag.training.backends.{name}"}


def test_an_edit_of_another_backend_computes_nothing_again(monkeypatch: pytest.MonkeyPatch) -> None:
    read: Any = code._facts

    def digest_when_edited(edited: str) -> str:
        def facts(path: Path) -> Any:
            found = read(path)
            same = path.parent != FOLDER or path.name != edited
            return found if same else type(found).from_json({**found.to_json(), "digest": "edited"})

        monkeypatch.setattr(code, "_facts", facts)
        return code_digest(*STAGE.roots(recipe_of("trainer"))).digest

    as_it_is = digest_when_edited("none.py")
    assert digest_when_edited("fsdp2.py") == as_it_is
    assert digest_when_edited("deepspeed.py") == as_it_is
    assert digest_when_edited("trainer.py") != as_it_is


def test_its_distribution_counts_only_where_it_is_chosen() -> None:
    assert "deepspeed" not in STAGE.packages_for(recipe_of("trainer"))
    assert "deepspeed" in STAGE.packages_for(recipe_of("deepspeed"))
    assert set(STAGE.packages_for(recipe_of("trainer"))) == set(STAGE.packages)


def test_what_no_backend_of_that_name_can_express_is_refused_when_the_recipe_is_read() -> None:
    with pytest.raises(InvalidRecipeError) as error:
        PretrainingRecipe.parse({"backend": {"name": "fsdp2", "zero_stage": 3, "context_parallel": 2}})
    assert "backend.zero_stage = 3: fsdp2 cannot express it; allowed: 0, or backend.name one of" in str(
        error.value
    )
    assert "backend.context_parallel = 2: fsdp2 cannot express it; allowed: 1" in str(error.value)
    with pytest.raises(InvalidRecipeError, match="Input should be 'trainer', 'deepspeed'"):
        PretrainingRecipe.parse({"backend": {"name": "nosuch"}})


def test_refusals_name_the_recipe() -> None:
    recipe = PretrainingRecipe.parse({"backend": {"name": "fsdp2"}, "optimizer": {"name": "muon"}})
    with pytest.raises(InvalidRecipeError, match=r"^PretrainingRecipe\.optimizer\.name = muon: "):
        check_recipe(STAGE, recipe)


def test_a_framework_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", none)
    with pytest.raises(
        BackendUnavailableError, match=r"deepspeed is not installed; run: python scripts/install"
    ):
        backend("deepspeed").version()


def test_rendered_files_are_written_with_their_folders(tmp_path: Path) -> None:
    Rendered({"a.json": "{}\n", "deep/b.yaml": "c: 1\n"}).write(tmp_path)
    assert (tmp_path / "a.json").read_text() == "{}\n"
    assert (tmp_path / "deep/b.yaml").read_text() == "c: 1\n"
