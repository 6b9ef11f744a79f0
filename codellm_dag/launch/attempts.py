"""What attempts here and attempts elsewhere have in common: who is told, the Pipes session, the failure."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from codellm_dag.launch.bookkeeping import Asked
from codellm_dag.launch.collector import make_emitter
from codellm_dag.launch.errors import InvalidRequestError, StageFailedError
from codellm_dag.launch.events import PipesBridge, PipesSink, StageEvent
from codellm_dag.launch.launcher import Ended
from codellm_dag.launch.local import tail
from codellm_dag.store import Artifact, Hit, Label, Miss, Store


@dataclass(frozen=True)
class Request:
    """One call of `materialize`: what is asked for, where it goes, and who is told."""

    store: Store
    asked: Asked
    on_event: Callable[[StageEvent], None] | None
    dagster: PipesBridge | None

    @property
    def stage(self) -> str:
        """Name of the stage."""
        return self.asked.identity.stage.name

    @property
    def fingerprint(self) -> str:
        """Identity of the computation."""
        return self.asked.identity.fingerprint

    def lookup(self) -> Hit | Miss:
        """Whether the result is there."""
        return self.store.lookup(self.stage, self.fingerprint)

    def emitter(self, attempt: str | None = None) -> Callable[..., None]:
        """A function that tells the caller of an event."""
        return make_emitter(
            self.on_event,
            stage=self.stage,
            asset=self.asked.asset,
            partition=self.asked.partition,
            fingerprint=self.fingerprint,
            attempt=attempt,
        )

    def check_inputs(self) -> Iterator[tuple[str, Artifact]]:
        """Each slot and its artifact. Raises InvalidRequestError for an input that is not whole."""
        for slot, artifact in self.asked.identity.inputs.items():
            found = self.store.lookup(artifact.stage, artifact.fingerprint)
            if isinstance(found, Miss):
                raise InvalidRequestError(
                    f"input {slot} of stage {self.stage!r}, the {artifact.kind} {artifact.label!r} "
                    f"({artifact.fingerprint[:12]}), is not whole: {found.reason}; run its asset again"
                )
            if found.artifact.content_digest != artifact.content_digest:
                raise InvalidRequestError(
                    f"input {slot} of stage {self.stage!r}: {artifact.label!r} was computed again with "
                    "another content since it was handed over; run what is below it again"
                )
            yield slot, artifact

    @contextlib.contextmanager
    def pipes(
        self, collect: Callable[[Mapping[str, Any]], None]
    ) -> Iterator[tuple[Mapping[str, str], Callable[[Mapping[str, Any]], None]]]:
        """Variables for the stage's process, and what takes its messages: `collect`, then Dagster."""
        if self.dagster is None:
            yield {}, collect
            return
        with self.dagster() as sink:
            yield dict(sink.env()), _both(collect, sink)

    def failure(self, label: Label, error: str, attempt: str, ended: Ended | None) -> StageFailedError:
        """The exception that tells of a failed attempt."""
        printed = (ended.printed or tail(ended.log)) if ended else ""
        quoted = f"\nIt last printed:\n{printed}" if printed else ""
        return StageFailedError(
            f"{self.asked.title} failed ({label}): {error}{quoted}",
            label=label,
            stage=self.stage,
            asset=self.asked.asset,
            partition=self.asked.partition,
            attempt=attempt,
            log_tail=printed,
        )


def _both(
    collect: Callable[[Mapping[str, Any]], None], sink: PipesSink
) -> Callable[[Mapping[str, Any]], None]:
    def handle(message: Mapping[str, Any]) -> None:
        collect(message)
        sink.handle(message)

    return handle
