"""The status of a Job while the controller works it out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from tests.cluster.bed.conditions import with_condition
from tests.cluster.bed.deletion import timestamp
from tests.cluster.bed.resources import Object

Event = tuple[str, str, Literal["Normal", "Warning"]]


class Status:
    """Begins as what the Job says; `apply` writes it back."""

    def __init__(self, job: Object) -> None:
        status = job["status"]
        self.job = job
        self.wanted: int | None = job["spec"].get("completions")
        self.indexes = parse_indexes(status.get("completedIndexes", ""))
        self.succeeded: int = status.get("succeeded", 0)
        self.failed: int = status.get("failed", 0)
        self.active = self.ready = self.terminating = 0
        self.verdict: tuple[str, str, str] | None = None
        self.suspended: bool | None = None
        for condition in status.get("conditions", ()):
            if condition["type"] in ("FailureTarget", "SuccessCriteriaMet") and condition["status"] == "True":
                final = "Failed" if condition["type"] == "FailureTarget" else "Complete"
                self.verdict = (final, condition["reason"], condition["message"])
        self._had_verdict = self.verdict is not None

    @property
    def done(self) -> int:
        """Completions so far."""
        return len(self.indexes) if self.job["spec"]["completionMode"] == "Indexed" else self.succeeded

    def succeed(self, index: int | None) -> None:
        """A pod ended well."""
        if index is None:
            self.succeeded += 1
        else:
            self.indexes.add(index)
            self.succeeded = len(self.indexes)

    def fail(self, reason: str, message: str) -> None:
        """The Job is to fail; the first reason stands."""
        self.verdict = self.verdict or ("Failed", reason, message)

    def complete(self) -> None:
        """The Job has what it wants."""
        self.verdict = ("Complete", "CompletionsReached", "Reached expected number of succeeded pods")

    def suspend(self, suspended: bool) -> None:
        """Whether no pods may run; nothing is said of a Job that never was suspended."""
        self.suspended = suspended if suspended or self._says_suspended else None

    @property
    def _says_suspended(self) -> bool:
        return any(
            entry["type"] == "Suspended" and entry["status"] == "True"
            for entry in self.job["status"].get("conditions", ())
        )

    @property
    def ended(self) -> bool:
        """Whether the last pod has gone after a verdict."""
        return self.verdict is not None and not self.terminating and not self.active

    def events(self) -> Iterator[Event]:
        """What is told of this change."""
        if self.verdict and not self._had_verdict and self.verdict[0] == "Failed":
            yield self.verdict[1], self.verdict[2], "Warning"
        if self.ended and self.verdict and self.verdict[0] == "Complete":
            yield "Completed", "Job completed", "Normal"
        if self.suspended is not None and self.suspended != self._says_suspended:
            yield (
                ("Suspended", "Job suspended", "Normal")
                if self.suspended
                else ("Resumed", "Job resumed", "Normal")
            )

    def apply(self, job: Object) -> Object:
        """Write it into a copy of the Job."""
        status = job["status"]
        counts = {"active": self.active, "succeeded": self.succeeded, "failed": self.failed}
        for name, number in counts.items():
            status.pop(name, None)
            if number:
                status[name] = number
        status.update(ready=self.ready, terminating=self.terminating, uncountedTerminatedPods={})
        if self.indexes:
            status["completedIndexes"] = format_indexes(self.indexes)
        if self.suspended:
            status.pop("startTime", None)
        elif not status.get("startTime") and not job["spec"]["suspend"]:
            status["startTime"] = timestamp()
        if self.suspended is not None:
            word = "JobSuspended" if self.suspended else "JobResumed"
            text = "Job suspended" if self.suspended else "Job resumed"
            _set(job, "Suspended", word, text, "True" if self.suspended else "False")
        if self.verdict:
            final, reason, message = self.verdict
            _set(job, "FailureTarget" if final == "Failed" else "SuccessCriteriaMet", reason, message)
            if self.ended:
                _set(job, final, reason, message)
                if final == "Complete":
                    status["completionTime"] = timestamp()
        return job


def _set(job: Object, kind: str, reason: str, message: str, value: str = "True") -> None:
    now = timestamp()
    there = [entry for entry in job["status"].get("conditions", ()) if entry["type"] == kind]
    if there and (there[0]["status"], there[0]["reason"]) == (value, reason):
        return
    with_condition(
        job, {"type": kind, "status": value, "reason": reason, "message": message, "lastProbeTime": now}
    )


def parse_indexes(text: str) -> set[int | None]:
    """``0,2-4`` → {0, 2, 3, 4}."""
    found: set[int | None] = set()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return found


def format_indexes(indexes: set[int | None]) -> str:
    """{0, 2, 3, 4} → ``0,2-4``."""
    runs: list[list[int]] = []
    for index in sorted(index for index in indexes if index is not None):
        if runs and index == runs[-1][1] + 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)
