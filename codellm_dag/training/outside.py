"""Running a framework that lives in an environment of its own: a subprocess whose log is read as it grows.

What all such backends share: the child's environment variables, its group of processes, following its log,
ending it, and its checkpoint. What of a recipe they express is in `expressing.py`. In a group each of our
processes starts one of the framework's, with the same rank and a rendezvous of its own. A framework starts
over at the next attempt: its own checkpoints are not used.
"""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from codellm_dag.recipes.base import InvalidRecipeError
from codellm_dag.stages.protocol import Report, Stopped
from codellm_dag.tokens.special import chat_text
from codellm_dag.training.backends.protocol import (
    BackendUnavailableError,
    Finished,
    FrameworkFailedError,
    Rendered,
    TrainingJob,
)
from codellm_dag.training.environments.framework import FrameworkEnvironment
from codellm_dag.training.plan import DivergedError, Trained
from codellm_dag.training.processes import Processes
from codellm_dag.training.rows import ExampleRows, InvalidTrainingDataError

OUTPUT = "output.txt"
"""What the framework prints, below ``job.work``."""
_POLL = 0.25
"""Seconds between looks at the framework's log."""
_PATIENCE = 20.0
"""Seconds that a framework has to end after SIGTERM."""
_KEPT = ("PATH", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH")
_KEPT_PREFIXES = ("CUDA_", "NVIDIA_", "NCCL_", "GLOO_", "MKL_")
_GROUP = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "MASTER_ADDR")
_MEETS = {"TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "0"}
"""The store is there already: no child opens one."""
_QUIET = {
    "PYTHONNOUSERSITE": "1",
    "PYTHONUNBUFFERED": "1",
    "OMP_WAIT_POLICY": "PASSIVE",  # as our own processes: threads that spin slow each other down
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "WANDB_MODE": "disabled",
    "TOKENIZERS_PARALLELISM": "false",
}

ReadPoint = Callable[[Mapping[str, Any]], tuple[int, dict[str, float]] | None]
"""From an entry of a framework's log to a step and its values, ``loss`` among them."""


def alternating(messages: Sequence[list[dict[str, str]]]) -> None:
    """Raise InvalidTrainingDataError unless every conversation is (system,) user, assistant, user, ….

    Frameworks drop other conversations with a line in their log.
    """
    for number, conversation in enumerate(messages):
        roles = [message["role"] for message in conversation]
        turns = roles[1:] if roles[:1] == ["system"] else roles
        if turns != ["user", "assistant"] * (len(turns) // 2) or not turns:
            raise InvalidTrainingDataError(
                f"conversation {number} of the data has the roles {', '.join(roles)}; allowed with this "
                "backend: an optional system, then user and assistant by turns"
            )


def conversations_per_row(job: TrainingJob) -> int:
    """Conversations in one of our packed rows, on average, at least 1: for frameworks that do not pack."""
    assert isinstance(job.rows, ExampleRows)
    return max(1, round(len(job.rows.examples) / len(job.rows)))


def require_chatml(job: TrainingJob) -> None:
    """Raise InvalidTrainingDataError unless the tokenizer's chat template writes ChatML as ours does."""
    from transformers import AutoTokenizer

    probe = [{"role": role, "content": role.upper()} for role in ("system", "user", "assistant")]
    tokenizer = AutoTokenizer.from_pretrained(job.tokenizer, local_files_only=True)
    for messages in (probe, probe[1:]):
        text = tokenizer.apply_chat_template(messages, tokenize=False)
        if text != chat_text(messages, add_generation_prompt=False):
            raise InvalidTrainingDataError(
                f"the tokenizer's chat template is not ChatML, the only one that {job.backend.name} is used "
                f"with; it writes {text!r}"
            )


def require_gpu(name: str, why: str) -> None:
    """Raise BackendUnavailableError on a machine without one."""
    import torch

    if not torch.cuda.is_available():
        raise BackendUnavailableError(f"backend.name = {name}: needs a GPU ({why}); this machine has none")


def understood_as_written(environment: FrameworkEnvironment, rendered: Rendered, program: str) -> None:
    """Have `program` tell what the framework's parser understood otherwise: name, value written, value got.

    Raises InvalidRecipeError where that is anything, and as `parse_with` does.
    """
    if wrong := parse_with(environment, rendered, program):
        told = "; ".join(f"{name} = {given!r} became {got!r}" for name, given, got in wrong)
        raise InvalidRecipeError(f"{environment.framework}'s own parser understood something else: {told}")


def parse_with(environment: FrameworkEnvironment, rendered: Rendered, program: str) -> Any:
    """Run `program` where the rendered files lie, with the environment's Python; return the JSON value of the
    last line that it prints.

    Raises InvalidRecipeError with the framework's own last words.
    """
    with tempfile.TemporaryDirectory(prefix="validate-") as scratch:
        folder = Path(scratch)
        rendered.write(folder)
        variables = {**_variables(folder, 1), **rendered.environment}
        command = [str(environment.python), "-c", program]
        done = subprocess.run(
            command,
            cwd=folder,
            env=variables,
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    if done.returncode:
        words = _last_words(done.stderr)
        raise InvalidRecipeError(f"{environment.framework}'s own parser refuses the configuration: {words}")
    return json.loads(done.stdout.splitlines()[-1])


_OF_DESTRUCTORS = re.compile(
    r"^Exception ignored in.*\n(?:Traceback .*\n(?:[ \t]+.*\n)+\S.*\n?)?", re.MULTILINE
)


def _last_words(text: str) -> str:
    """The error at the end of what a program printed: all of a box that tyro draws, the message of Python's
    last exception, or the last line."""
    told = re.sub(r"^\[rank\d+\]: ", "", text, flags=re.MULTILINE)
    told = _OF_DESTRUCTORS.sub("", told)
    lines = [line.strip() for line in told.splitlines() if line.strip()]
    if lines and lines[-1].startswith("╰"):
        box = [line.strip("│╭╮╰╯─ ") for line in lines if line[0] in "│╭╰"]
        return " ".join(word for word in box if word)
    raised = [line for line in lines if re.match(r"[\w.]+(Error|Exception)\b", line)]
    return (raised or lines or ["no message"])[-1]


def run_framework(
    environment: FrameworkEnvironment,
    job: TrainingJob,
    rendered: Rendered,
    report: Report,
    log: str,
    read: ReadPoint,
    result: str,
) -> Finished:
    """Run ``rendered.command`` in ``job.work`` and follow the file `log` (a JSON object a line) there.

    `result` is the folder of its Hugging Face checkpoint. Raises DivergedError, Stopped,
    FrameworkFailedError.
    """
    processes = Processes.join()
    store = _meeting(processes)  # is there until the child has ended
    group = _group(processes, store.port if store else 0)
    variables = {**_variables(job.work, report.runtime.threads), **group, **rendered.environment}
    command = [str(environment.python), *rendered.command]
    follower = _Follower(job, report, job.work / log, read)
    with (job.work / OUTPUT).open("wb") as output:
        child = subprocess.Popen(
            command,
            cwd=job.work,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            while child.poll() is None:
                time.sleep(_POLL)
                follower.look()
                if report.stop_requested():
                    raise Stopped(f"asked to end; {job.backend.name} starts over at the next attempt")
        finally:
            _end(child)
    follower.look()
    if child.returncode or (processes.first and follower.steps != list(range(1, job.plan.steps + 1))):
        raise FrameworkFailedError(
            f"{job.backend.name} ended with exit code {child.returncode} after step "
            f"{(follower.steps or [0])[-1]} of {job.plan.steps}; it printed last:\n{_tail(job.work / OUTPUT)}"
        )
    losses = processes.word_of_first(json.dumps([follower.losses[step] for step in follower.steps]))
    trained = Trained(json.loads(losses), estimated_targets(job))
    return Finished(trained, _load(job.work / result) if processes.first else None)


def estimated_targets(job: TrainingJob) -> int:
    """Tokens with a loss in all steps, from our own packing of the conversations; the framework's differs."""
    rows = job.rows
    if not isinstance(rows, ExampleRows):
        return job.plan.steps * job.plan.batch.global_rows * rows.sequence_length
    learnt = sum(sum(example.learnt) for example in rows.examples)
    return round(learnt / len(rows) * job.plan.steps * job.plan.batch.global_rows)


def _variables(home: Path, threads: int) -> dict[str, str]:
    """A child's variables: few of ours (no secrets, no PYTHONPATH), no network, no trackers, `home`."""
    kept = {
        name: value for name, value in os.environ.items() if name in _KEPT or name.startswith(_KEPT_PREFIXES)
    }
    return {**kept, **_QUIET, "HOME": str(home), "HF_HOME": str(home / "hf"), "OMP_NUM_THREADS": str(threads)}


def _meeting(processes: Processes) -> Any:
    """In rank 0 of a group, a store at which the children meet, on a port that the kernel picked."""
    if processes.size == 1 or not processes.first:
        return None
    from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage]

    return TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)


def _group(processes: Processes, port: int) -> dict[str, str]:
    """Variables that make the child one of a group like ours, which meets at rank 0's `port`."""
    if processes.size == 1:
        return {}
    own = {name: os.environ[name] for name in _GROUP if name in os.environ}
    return {**own, **_MEETS, "MASTER_PORT": processes.word_of_first(str(port))}


class _Follower:
    """Reads a growing file of JSON lines and reports its points."""

    def __init__(self, job: TrainingJob, report: Report, path: Path, read: ReadPoint) -> None:
        self.job, self.report, self.path, self.read = job, report, path, read
        self.losses: dict[int, float] = {}
        self._offset = 0

    @property
    def steps(self) -> list[int]:
        """Steps seen, rising."""
        return sorted(self.losses)

    def look(self) -> None:
        """Read what was added since the last look, whole lines only. Raises DivergedError."""
        if not self.path.is_file():
            return
        with self.path.open("rb") as file:
            file.seek(self._offset)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.splitlines():
            point = self.read(json.loads(line))
            if point is not None:
                self._report(*point)

    def _report(self, step: int, values: dict[str, float]) -> None:
        steps = self.job.plan.steps
        # Where the loss is scaled, a step whose gradients overflow is left out and the scale is lowered.
        half = self.job.plan.compute.precision == "fp16"
        for name in ("loss",) if half else ("loss", "grad_norm"):
            if not math.isfinite(values.get(name, 0.0)):
                raise DivergedError(
                    f"{name} is {values[name]} at step {step} of {steps}; lower optimizer.learning_rate, or "
                    "lengthen optimizer.warmup_fraction"
                )
        self.losses[step] = values["loss"]
        self.report.point(step, **values)
        tokens = self.job.plan.batch.global_rows * self.job.rows.sequence_length
        self.report.progress(step * tokens, steps * tokens, unit="tokens", note=f"loss {values['loss']:.3f}")


def _end(child: subprocess.Popen[bytes]) -> None:
    """End a child that still runs, and all it started."""
    if child.poll() is not None:
        return
    for word in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(child.pid, word)
            child.wait(_PATIENCE)
            return
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def _tail(path: Path, lines: int = 15) -> str:
    return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


def _load(folder: Path) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
