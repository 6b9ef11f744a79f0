"""A stage under torchrun: rank 0 speaks for all, other ranks' failures are told once and at once."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from codellm_dag.store import Store
from tests.support.pods import events_of, messages_of, pod, pod_request, told
from tests.support.tiny_recipes import TinyRecipe
from tests.support.tiny_stages import GROUP, WORDS

TWO = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def test_rank_0_alone_is_heard_and_uploads(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    request = pod_request(store, GROUP, TinyRecipe(), {})
    assert pod(request, tmp_path / "pod", launcher=TWO).wait(60) == 0, told(request, tmp_path / "pod")
    assert [m["params"]["message"] for m in messages_of(request) if m["method"] == "log"] == ["rank 0 of 2"]
    assert [m["method"] for m in messages_of(request) if m["method"] in ("opened", "closed")] == [
        "opened",
        "closed",
    ]
    prefix = f"artifacts/group/{request.fingerprint}/attempts/a1"
    assert {name: store.backend.read(f"{prefix}/{name}") for name in store.backend.sizes(prefix)} == {
        "rank.txt": b"0"
    }
    assert events_of(request, "environment")[-1]["values"]["processes"] == 2
    assert not list((tmp_path / "pod").glob("codellm-*")), "nothing is left on the pod's disk"


def test_a_stage_that_is_not_distributed_runs_once(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    request = pod_request(store, WORDS, TinyRecipe(count=2), {})
    assert pod(request, tmp_path / "pod", launcher=TWO).wait(60) == 0, told(request, tmp_path / "pod")
    assert (tmp_path / "pod/log").read_text().count("printed by the stage") == 1
    assert events_of(request, "environment")[-1]["values"]["processes"] == 1
    outputs = events_of(request, "outputs")[-1]["outputs"]
    assert [output["path"] for output in outputs if not output["volatile"]] == ["words.txt"]


@pytest.mark.parametrize(
    ("trouble", "label", "error"),
    [
        ("value", "error", "rank 1: ValueError: a bug"),
        ("recipe", "invalid_recipe", "rank 1: InvalidRecipeError: TinyRecipe.text: no"),
        ("killed", "infra", "rank 1 was ended by signal 9"),
    ],
)
def test_another_ranks_failure_is_the_groups(tmp_path: Path, trouble: str, label: str, error: str) -> None:
    request = pod_request(Store(tmp_path / "store"), GROUP, TinyRecipe(trouble=trouble), {})
    started = time.monotonic()
    assert pod(request, tmp_path / "pod", launcher=TWO).wait(60) != 0
    assert time.monotonic() - started < 50
    failed = events_of(request, "failed")
    assert [(event["label"], event["error"]) for event in failed] == [(label, error)], told(
        request, tmp_path / "pod"
    )
