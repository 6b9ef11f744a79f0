"""Dagster Pipes without Dagster's message readers.

Dagster's file reader truncates its file at the start of a session and feeds torn lines to the parser, so it
cannot reattach to a running stage. Here the launcher reads the messages (`codellm_dag.stages.messages`, which
can start again from the first) and hands each to the session; what a stage logs reaches Dagster's event log.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import dagster as dg

from codellm_dag.launch import PipesBridge, PipesSink


class _HandedOver(dg.PipesMessageReader):
    """A reader that reads nothing: messages are given to its handler."""

    handler: dg.PipesMessageHandler

    @contextmanager
    def read_messages(self, handler: dg.PipesMessageHandler) -> Iterator[Mapping[str, Any]]:
        """Keep the handler; the stage's process learns from its request where to write."""
        self.handler = handler
        yield {}

    @property
    def expected_writer_count(self) -> int:
        """One stage writes."""
        return 1

    def no_messages_debug_text(self) -> str:
        """What Dagster says if no message came."""
        return "The launcher handed over no message of the stage; see the log in the attempt's folder."


class _Sink:
    def __init__(self, session: dg.PipesSession, reader: _HandedOver) -> None:
        self._session = session
        self._reader = reader

    def env(self) -> Mapping[str, str]:
        """Variables that carry Dagster's context to the stage's process."""
        return self._session.get_bootstrap_env_vars()

    def handle(self, message: Mapping[str, Any]) -> None:
        """Hand one message to Dagster."""
        self._reader.handler.handle_message(message)  # pyright: ignore[reportArgumentType] - a plain dict


def pipes_bridge(context: dg.AssetExecutionContext) -> PipesBridge:
    """What `codellm_dag.launch.materialize` takes as `dagster`: it opens a Pipes session for each attempt."""

    @contextmanager
    def open_session() -> Iterator[PipesSink]:
        reader = _HandedOver()
        with dg.open_pipes_session(context, dg.PipesEnvContextInjector(), reader, extras={}) as session:
            yield _Sink(session, reader)

    return open_session
