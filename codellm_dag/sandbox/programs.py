"""What is run and what comes back: programs, calls, limits, executions. Plain frozen dataclasses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    from codellm_dag.recipes.execution import ExecutionRecipe

Status = Literal["finished", "error", "timeout", "memory", "output_limit", "infrastructure_error"]
Mode = Literal["calls", "stdin", "asserts"]
View = Literal["", "tuple", "list", "set", "sorted", "bool"]
MIB = 1 << 20


@dataclass(frozen=True)
class Limits:
    """What one program may use. A program that needs more is stopped, and that is its own fault."""

    cpu_seconds: float = 5.0
    """CPU seconds of all its processes and threads together; the limit that decides."""
    wall_seconds: float = 30.0
    """Seconds on the clock, less the time it waited for a processor: a backstop for programs that sleep."""
    memory_bytes: int = 512 * MIB
    """Address space of each of its processes, and resident memory of all of them together."""
    processes: int = 16
    """Processes and threads at one time, its own first one included."""
    output_bytes: int = MIB
    """Bytes of results, and also of standard output and of standard error."""
    disk_bytes: int = 16 * MIB
    """Bytes in its scratch folder."""
    open_files: int = 64
    """Open file descriptors of one process."""

    def __post_init__(self) -> None:
        bounds: dict[str, tuple[float, float]] = {
            "cpu_seconds": (0.01, 86_400),
            "wall_seconds": (0.01, 86_400),
            "memory_bytes": (64 * MIB, 1 << 40),
            "processes": (1, 4096),
            "output_bytes": (1024, 1 << 30),
            "disk_bytes": (65_536, 1 << 40),
            "open_files": (64, 4096),
        }
        for name, (low, high) in bounds.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
                raise ValueError(f"Limits.{name} = {value!r}: must be a number from {low} to {high}")

    @classmethod
    def from_recipe(cls, recipe: ExecutionRecipe) -> Limits:
        """The limits that a recipe sets; the others are the defaults."""
        return cls(
            cpu_seconds=recipe.cpu_seconds,
            wall_seconds=recipe.wall_seconds,
            memory_bytes=recipe.memory_megabytes * MIB,
        )

    def as_order(self) -> dict[str, Any]:
        """The integers that the supervisor sets as resource limits."""
        return {
            "cpu": int(-(-self.cpu_seconds // 1)),
            "memory": int(self.memory_bytes),
            "processes": int(self.processes),
            "disk": int(self.disk_bytes),
            "files": int(self.open_files),
        }


@dataclass(frozen=True)
class Call:
    """A call of a function (or ``Class.method``) that the program defines.

    `args` and `kwargs` are the source text of Python literals (``set()``, ``frozenset(…)``, ``nan`` and
    ``inf`` are known too) and are built anew for every call.
    """

    entry_point: str
    args: tuple[str, ...] = ()
    kwargs: Mapping[str, str] = field(default_factory=dict)
    show_arguments: bool = False
    """Also return the arguments as the call left them, for functions that change them in place."""
    view: View = ""
    """Make the result a tuple, list, set or bool, or sort it, before it is returned, as a test may ask."""


@dataclass(frozen=True)
class Program:
    """Untrusted source and what to do with it.

    ``calls``: run the source as a module, then each call; one `Output` a call. ``stdin``: run it as a script
    with `stdin` as standard input; what it prints is the result. ``asserts``: run it as a script that judges
    itself by its assertions, which untrusted code can forge: the execution is marked `judged_inside`.
    """

    source: str
    calls: tuple[Call, ...] = ()
    mode: Mode = "calls"
    stdin: str = ""
    limits: Limits | None = None
    """Limits of this program; None: those of the sandbox."""

    def __post_init__(self) -> None:
        for call in self.calls:
            if call.view not in get_args(View):
                raise ValueError(f"Call.view = {call.view!r}: must be one of {', '.join(get_args(View))}")
        if self.mode not in ("calls", "stdin", "asserts"):
            raise ValueError(f"Program.mode = {self.mode!r}: must be 'calls', 'stdin' or 'asserts'")
        if self.calls and self.mode != "calls":
            raise ValueError(f"Program.calls is only for mode 'calls', and mode is {self.mode!r}")


@dataclass(frozen=True)
class Output:
    """What one call gave: a value, or an exception, or a value that is not plain data."""

    kind: Literal["value", "exception", "unsupported"]
    value: str | None = None
    """The value as canonical text (see ``inside/values.py``); `decode.to_literal` makes it readable."""
    detail: str = ""
    """``Type: message`` of the exception, or why the value is not supported."""
    arguments: str | None = None
    """Canonical text of ``[[arguments], {keywords}]`` after the call, if it was asked for."""

    @property
    def ok(self) -> bool:
        """True if the call returned a plain value."""
        return self.kind == "value"


@dataclass(frozen=True)
class Execution:
    """How a program ended and what it returned. Everything but `infrastructure_error` is the program's doing.

    ``finished``: it ran to its end (single calls may still have raised). ``error``: its source raised, it
    exited or it was killed. ``timeout``, ``memory``, ``output_limit``: it met that limit.
    ``infrastructure_error``: the sandbox failed, also on every retry; this says nothing about the program.
    """

    status: Status
    outputs: tuple[Output, ...] = ()
    stdout: str = ""
    stderr: str = ""
    detail: str = ""
    cpu_seconds: float = 0.0
    wall_seconds: float = 0.0
    peak_bytes: int = 0
    judged_inside: bool = False
    attempts: int = 1
