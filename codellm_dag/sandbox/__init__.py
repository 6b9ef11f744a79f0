"""Runs untrusted code: it returns outputs, and the verdict is formed outside.

``with Sandbox() as sandbox: execution = sandbox.run_one(Program(source, calls))``, then ``judge(execution,
tests)``. See docs/sandbox.md for what a program can and cannot do and which kernel features that takes.
Importing this package loads no heavy library.
"""

from codellm_dag.sandbox.asserts import Conversion, convert_asserts
from codellm_dag.sandbox.compare import Comparison
from codellm_dag.sandbox.decode import InvalidValueError, from_literal, to_literal
from codellm_dag.sandbox.errors import SandboxError, SandboxUnavailableError
from codellm_dag.sandbox.judge import (
    Judgement,
    Test,
    Verdict,
    calls_for,
    judge,
    judge_each,
    judge_inside,
    judge_stdout,
)
from codellm_dag.sandbox.pool import Sandbox
from codellm_dag.sandbox.programs import Call, Execution, Limits, Output, Program
from codellm_dag.sandbox.recorded import record_asserts

__all__ = [
    "Call",
    "Comparison",
    "Conversion",
    "Execution",
    "InvalidValueError",
    "Judgement",
    "Limits",
    "Output",
    "Program",
    "Sandbox",
    "SandboxError",
    "SandboxUnavailableError",
    "Test",
    "Verdict",
    "calls_for",
    "convert_asserts",
    "from_literal",
    "judge",
    "judge_each",
    "judge_inside",
    "judge_stdout",
    "record_asserts",
    "to_literal",
]
