"""What is in a fingerprint, and requests that are refused before anything runs."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import sys

import pytest

from codellm_dag.launch import InvalidRequestError, identify
from codellm_dag.recipes.base import InvalidRecipeError, Recipe
from codellm_dag.recipes.tokens import TokenizerRecipe
from codellm_dag.stages.registry import Stage
from codellm_dag.store import Artifact, Store
from tests.support.choosing import ChoosingRecipe
from tests.support.stores import publish
from tests.support.tiny_recipes import TinyRecipe
from tests.support.tiny_stages import JOIN, WORDS, tiny


class SetRecipe(Recipe):
    """A recipe that cannot be hashed."""

    names: frozenset[str] = frozenset({"a"})


@pytest.fixture
def words(tmp_path) -> Artifact:
    return publish(Store(tmp_path / "store"), "words")


def test_golden_fingerprint(words: Artifact) -> None:
    """The payload written out by hand and hashed with hashlib."""
    identity = identify(
        tiny("join", "join_stage", dict(JOIN.slots), packages=("pydantic",)), TinyRecipe(), {"words": words}
    )
    payload = {
        "code": hashlib.sha256(
            json.dumps(identity.code.modules, sort_keys=True, separators=(",", ":")).encode()
        ).hexdigest(),
        "inputs": {"words": words.content_digest},
        "packages": {"pydantic": importlib.metadata.version("pydantic")},
        "recipe": {"count": 3, "seconds": 0.0, "text": "word", "trouble": ""},
        "stage": "join",
        "version": 1,
    }
    text = json.dumps(payload, sort_keys=True, separators=(",", ":"))
    assert identity.fingerprint == hashlib.sha256(text.encode()).hexdigest()
    assert set(identity.code.modules) >= {
        "tests.support.join_stage",
        "tests.support.tiny_recipes",
        "codellm_dag.recipes.base",
    }


def test_the_interpreter_counts_where_it_is_declared(words: Artifact) -> None:
    identity = identify(
        tiny("join", "join_stage", dict(JOIN.slots), packages=("python",)), TinyRecipe(), {"words": words}
    )
    assert identity.payload["packages"] == {"python": f"{sys.version_info[0]}.{sys.version_info[1]}"}


def test_what_a_chosen_module_cannot_do_is_refused_before_a_launch(words: Artifact) -> None:
    stage = Stage("join", "corpus", JOIN.module, "tests.support.choosing:ChoosingRecipe", dict(JOIN.slots))
    identity = identify(stage, ChoosingRecipe(depth=2), {"words": words})
    assert "tests.support.choosing" in identity.code.modules
    with pytest.raises(InvalidRecipeError) as error:
        identify(stage, ChoosingRecipe(depth=3), {"words": words})
    assert str(error.value) == "ChoosingRecipe.depth = 3: too deep; allowed: 1, 2"


def test_inputs_count_by_content_not_by_origin(words: Artifact) -> None:
    other = words.model_copy(update={"fingerprint": "0" * 64, "name": "other", "partition": "p"})
    assert identify(JOIN, TinyRecipe(), {"words": words}) != identify(JOIN, TinyRecipe(), {"words": other})
    one = identify(JOIN, TinyRecipe(), {"words": words}).fingerprint
    assert one == identify(JOIN, TinyRecipe(), {"words": other}).fingerprint
    changed = words.model_copy(update={"content_digest": "0" * 64})
    assert one != identify(JOIN, TinyRecipe(), {"words": changed}).fingerprint
    assert one != identify(JOIN, TinyRecipe(), {"words": words, "extra/a": words}).fingerprint


@pytest.mark.parametrize(
    ("slots", "kind", "message"),
    [
        ({}, "corpus", "stage 'join' has no input 'words'; give it a corpus"),
        ({"words": 1, "word": 1}, "corpus", "no slot for input 'word'; allowed: words, extra/\\*"),
        ({"words": 1, "extra": 1}, "corpus", "no slot for input 'extra'"),
        ({"words": 1, "words/a": 1}, "corpus", "no slot for input 'words/a'"),
        ({"words": 1}, "tokenizer", "input words is the tokenizer 'made'; allowed: corpus"),
        ({"words": 1}, "checkpoint", "input words is the checkpoint 'made'; allowed: corpus"),
    ],
)
def test_slots_that_do_not_fit(words: Artifact, slots: dict[str, int], kind: str, message: str) -> None:
    given = dict.fromkeys(slots, words.model_copy(update={"kind": kind}))
    with pytest.raises(InvalidRequestError, match=message):
        identify(JOIN, TinyRecipe(), given)


def test_optional_and_alternative_slots(words: Artifact) -> None:
    stage = tiny("s", "join_stage", {"model": "checkpoint|policy", "corpus?": "corpus"})
    policy = words.model_copy(update={"kind": "policy"})
    identify(stage, TinyRecipe(), {"model": policy})
    identify(stage, TinyRecipe(), {"model": policy, "corpus": words})
    with pytest.raises(InvalidRequestError, match="input model is the corpus 'made'; allowed: checkpoint"):
        identify(stage, TinyRecipe(), {"model": words})


def test_unknown_stage_and_wrong_recipe() -> None:
    with pytest.raises(
        InvalidRequestError, match="there is no stage 'tokeniser'; allowed: benchmark_problems, "
    ):
        identify("tokeniser", TinyRecipe(), {})
    with pytest.raises(InvalidRequestError, match="stage 'words' takes a TinyRecipe, not a TokenizerRecipe"):
        identify(WORDS, TokenizerRecipe(), {})


def test_missing_package_is_named() -> None:
    stage = tiny("s", "words_stage", packages=("no-such-package",))
    with pytest.raises(
        InvalidRequestError, match="needs the package 'no-such-package', which is not installed"
    ):
        identify(stage, TinyRecipe(), {})


def test_a_set_in_a_recipe_is_refused() -> None:
    stage = Stage("s", "corpus", "tests.support.words_stage", f"{__name__}:SetRecipe", {})
    object.__setattr__(stage, "recipe_class", lambda: SetRecipe)
    with pytest.raises(InvalidRecipeError, match=r"SetRecipe\.names is a set, which has no order to hash"):
        identify(stage, SetRecipe(), {})
