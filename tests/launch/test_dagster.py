"""A stage's messages fed to a real Dagster Pipes session, as a resource would do it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.pipes.client import PipesMessageReader

from codellm_dag.launch import LocalLauncher, StageFailedError, materialize
from codellm_dag.store import Store
from tests.support.tiny_recipes import TinyRecipe
from tests.support.tiny_stages import TROUBLE, WORDS, tiny


class HandedOver(PipesMessageReader):
    """Messages are handed over by `materialize`; nothing has to be read from anywhere."""

    @contextmanager
    def read_messages(self, handler) -> Iterator[dict[str, Any]]:
        self.handler = handler
        yield {}

    def no_messages_debug_text(self) -> str:
        return "the stage's process sent nothing"


class Sink:
    """The `PipesSink` of one session."""

    def __init__(self, session: dg.PipesSession) -> None:
        self.session = session

    def env(self) -> Mapping[str, str]:
        return self.session.get_bootstrap_env_vars()

    def handle(self, message: Mapping[str, Any]) -> None:
        self.session.message_handler.handle_message(message)  # type: ignore[arg-type]


def bridge_for(context: dg.AssetExecutionContext, sessions: list[dg.PipesSession]):
    @contextmanager
    def bridge() -> Iterator[Sink]:
        with dg.open_pipes_session(context, dg.PipesEnvContextInjector(), HandedOver()) as session:
            sessions.append(session)
            yield Sink(session)

    return bridge


def run_asset(store: Store, stage, trouble: str = "", raise_on_error: bool = True):
    sessions: list[dg.PipesSession] = []

    @dg.asset
    def words(context):
        outcome = materialize(
            store,
            stage,
            TinyRecipe(trouble=trouble),
            {},
            launcher=LocalLauncher(),
            dagster=bridge_for(context, sessions),
        )
        return dg.MaterializeResult(
            data_version=dg.DataVersion(outcome.artifact.content_digest), metadata=outcome.manifest.metrics
        )

    result = dg.materialize([words], raise_on_error=raise_on_error)
    return result, sessions


def test_messages_reach_the_event_log(tmp_path: Path) -> None:
    store = Store(tmp_path)
    result, sessions = run_asset(store, WORDS)
    assert result.success
    materialization = result.asset_materializations_for_node("words")[0]
    assert materialization.metadata["words"].value == 3
    events = [payload["event"] for payload in sessions[0].message_handler.get_custom_messages()]
    assert {"progress", "metric", "points", "table", "environment"} <= set(events)
    assert sessions[0].message_handler.received_closed_message
    _, again = run_asset(store, WORDS)
    assert again == [], "no session is opened for a hit"


def test_dagsters_context_reaches_the_stage(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "context_stage.py").write_text(
        "from dagster_pipes import DAGSTER_PIPES_CONTEXT_ENV_VAR, decode_param\nimport os\n"
        "def run(recipe, inputs, out, report):\n"
        "    data = decode_param(os.environ[DAGSTER_PIPES_CONTEXT_ENV_VAR])['data']\n"
        "    (out / 'asset').write_text(data['asset_keys'][0])\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    stage = tiny("context", "words_stage")
    object.__setattr__(stage, "module", "context_stage")
    store = Store(tmp_path / "store")
    run_asset(store, stage)
    artifact = next(store.manifests()).artifact
    assert (store.local_path(artifact) / "asset").read_text() == "words"


def test_a_failure_is_a_failed_step(tmp_path: Path) -> None:
    result, sessions = run_asset(Store(tmp_path), TROUBLE, "diverged", raise_on_error=False)
    assert not result.success
    error = result.failure_data_for_node("words").error.cause
    assert error.cls_name == StageFailedError.__name__
    assert "loss is nan at step 3" in error.message
    assert sessions[0].message_handler.received_closed_message
