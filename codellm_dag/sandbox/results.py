"""Turns what a program wrote and what the supervisor reports into an `Execution`.

The supervisor's report is true; the result lines may be lies of the program about its own outputs. So how the
program ended is taken from the report wherever it matters.
"""

from __future__ import annotations

import json
import os
import signal
from dataclasses import dataclass
from typing import Any

from codellm_dag.sandbox.decode import InvalidValueError, parse
from codellm_dag.sandbox.inside.values import dump
from codellm_dag.sandbox.programs import Execution, Limits, Output, Program, Status


@dataclass(frozen=True)
class Ending:
    """All that is known about a program that has ended."""

    report: dict[str, Any]
    stopped: str
    """Why it was stopped: "" or cpu, wall, memory, output, starved."""
    results: bytes
    stdout: bytes
    stderr: bytes
    nonce: str
    machine_killed: bool
    """Whether the machine ran out of memory and killed processes meanwhile."""


def make_execution(program: Program, limits: Limits, ending: Ending) -> Execution:
    """The execution; its status says `infrastructure_error` if the program is not to blame."""
    records = _records(ending)
    status, detail = _status(limits, ending, _end(records))
    return Execution(
        status=status,
        outputs=_outputs(records, len(program.calls)),
        stdout=ending.stdout.decode("utf-8", "replace"),
        stderr=ending.stderr.decode("utf-8", "replace"),
        detail=detail,
        cpu_seconds=ending.report["cpu"],
        wall_seconds=ending.report["wall"],
        peak_bytes=ending.report["rss"],
        judged_inside=program.mode == "asserts",
    )


def _records(ending: Ending) -> list[dict[str, Any]]:
    prefix = ending.nonce.encode() + b" "
    records = []
    for line in ending.results.split(b"\n"):
        if not line.startswith(prefix):
            continue
        try:
            record = json.loads(line[len(prefix) :])
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict):
            records.append(record)
    return records


def _end(records: list[dict[str, Any]]) -> dict[str, Any]:
    return next((record for record in records if "end" in record), {})


def _outputs(records: list[dict[str, Any]], wanted: int) -> tuple[Output, ...]:
    """The outputs of calls 0, 1, … as far as they are there in this order, each once."""
    outputs: list[Output] = []
    for record in records:
        if len(outputs) < wanted and record.get("call") == len(outputs):
            outputs.append(_output(record))
    return tuple(outputs)


def _output(record: dict[str, Any]) -> Output:
    arguments = _canonical(record.get("arguments"))
    if isinstance(record.get("error"), str):
        return Output("exception", detail=record["error"][:500], arguments=arguments)
    if isinstance(record.get("unsupported"), str):
        return Output("unsupported", detail=record["unsupported"][:500], arguments=arguments)
    value = _canonical(record.get("value"))
    if value is None:
        return Output("unsupported", detail="not the text of a plain value", arguments=arguments)
    return Output("value", value=value, arguments=arguments)


def _canonical(text: Any) -> str | None:
    if not isinstance(text, str):
        return None
    try:
        return dump(parse(text))
    except InvalidValueError:
        return None


def _status(limits: Limits, ending: Ending, end: dict[str, Any]) -> tuple[Status, str]:
    report, stopped = ending.report, ending.stopped
    if report["ready"] != "ready":
        return "infrastructure_error", f"the program was not started: {report['ready'] or 'its child died'}"
    if stopped == "starved":
        return "infrastructure_error", "the machine gave the program no processor time"
    if stopped == "cpu" or report["cpu"] > limits.cpu_seconds:
        return "timeout", f"used more than {limits.cpu_seconds:g} s of CPU time"
    if stopped == "wall":
        return "timeout", f"took more than {limits.wall_seconds:g} s without needing the processor"
    if stopped == "memory":
        return "memory", f"its processes held more than {limits.memory_bytes} bytes"
    if stopped == "output":
        return "output_limit", f"wrote more than {limits.output_bytes} bytes"
    return _own_end(ending, end)


def _own_end(ending: Ending, end: dict[str, Any]) -> tuple[Status, str]:
    status = ending.report["status"]
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number == signal.SIGKILL and ending.machine_killed:
            return "infrastructure_error", "the machine ran out of memory and killed the program"
        return "error", f"killed by {signal.Signals(number).name}"
    code = os.waitstatus_to_exitcode(status)
    if code != 0 or end.get("end") not in ("ok", "error"):
        return "error", f"exited with code {code} before its end"
    if end["end"] == "ok":
        return "finished", ""
    detail = str(end.get("error", ""))[:500]
    return ("memory" if end.get("memory") is True else "error"), detail
