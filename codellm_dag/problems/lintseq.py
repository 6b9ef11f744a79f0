"""LintSeq: a program as a sequence of insertions, none of which brings an error that a linter sees.

Algorithm: LintSeq of Piterbarg, Pinto and Fergus, "Training Language Models on Synthetic Edit Sequences
Improves Code Synthesis", arXiv:2410.02749. Backwards: delete a line at random and what is indented below it,
then what the linter reports, until it reports nothing; again, until the program is empty. Forwards: the
differences between the states, in reverse. As there, an edit is the body of a unified diff without context,
after ``<|diff|>``.

Where this differs: the linter is pyflakes, in this process (the paper's is pylint), of which only what stops
or surely breaks a program counts; a comment or an empty line goes with the line of code after it. Which line
a syntax error names depends on the Python version.
"""

from __future__ import annotations

import ast
import bisect
import difflib
import itertools
import random
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pyflakes.checker import Checker

DIFF_TOKEN = "<|diff|>"
_HUNK = re.compile(r"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")
_ON_LINE = re.compile(r"\bon line (\d+)")

ERRORS = frozenset(
    [
        "UndefinedName",
        "UndefinedLocal",
        "UndefinedExport",
        "ReturnOutsideFunction",
        "YieldOutsideFunction",
        "ContinueOutsideLoop",
        "BreakOutsideLoop",
        "DefaultExceptNotLast",
        "TwoStarredExpressions",
        "DuplicateArgument",
        "TooManyExpressionsInStarredAssignment",
        "LateFutureImport",
        "FutureFeatureNotDefined",
        "ForwardAnnotationSyntaxError",
        "DoctestSyntaxError",
    ]
)
"""Kinds of pyflakes' messages that count as errors. The others (unused imports and variables, …) are
style."""


class MalformedEditError(ValueError):
    """A text is not a sequence of edits that fits the program before it; the message names the edit."""


def error_lines(lines: Sequence[str]) -> list[int]:
    """Numbers, from 0, of the lines that have errors; [] for a program without any."""
    source = "\n".join(lines) + "\n"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
            compile(tree, "program", "exec")
    except SyntaxError as error:
        return [_culprit(error, lines)]
    except (ValueError, RecursionError, MemoryError):
        return list(range(len(lines)))
    told = Checker(tree, filename="program").messages
    found = {int(message.lineno) - 1 for message in told if type(message).__name__ in ERRORS}
    return sorted(found)


def _culprit(error: SyntaxError, lines: Sequence[str]) -> int:
    """The line to blame for a syntax error: the opening one, where the message names it."""
    message = str(error.msg)
    number = (error.lineno or len(lines)) - 1
    if named := _ON_LINE.search(message):
        number = int(named[1]) - 1
    elif "'except' or 'finally'" in message:
        tries = [i for i in range(min(number, len(lines))) if lines[i].strip().startswith("try:")]
        number = tries[-1] if tries else number
    number = min(max(number, 0), len(lines) - 1)
    while number > 0 and not lines[number].strip():
        number -= 1
    return number


def backward_states(program: str, draw: random.Random) -> list[str]:
    """States from `program` down to the empty one; each has fewer lines and no error. Lines end in newlines.

    Raises ValueError for a program that has an error to begin with.
    """
    lines = program.rstrip("\n").split("\n")
    if errors := error_lines(lines):
        raise ValueError(f"line {errors[0] + 1} has an error: {lines[errors[0]].strip()[:100]!r}")
    units = _units(lines)
    states = [lines]
    while units:
        units = _without(units, {draw.randrange(len(units))})
        while units and (errors := error_lines(_lines(units))):
            units = _without(units, _holding(units, errors))
        states.append(_lines(units))
    return ["".join(f"{line}\n" for line in state) for state in states]


@dataclass(frozen=True)
class _Unit:
    """A line of code with the comments and empty lines before it (the last: also those after it)."""

    lines: list[str]
    indent: int


def _units(lines: Sequence[str]) -> list[_Unit]:
    units: list[_Unit] = []
    waiting: list[str] = []
    for line in lines:
        waiting.append(line)
        if line.strip() and not line.lstrip().startswith("#"):
            units.append(_Unit(waiting, len(line) - len(line.lstrip())))
            waiting = []
    if waiting and units:
        units[-1].lines.extend(waiting)
    elif waiting:
        units.append(_Unit(waiting, 0))
    return units


def _lines(units: Sequence[_Unit]) -> list[str]:
    return [line for unit in units for line in unit.lines]


def _holding(units: Sequence[_Unit], errors: Sequence[int]) -> set[int]:
    """Numbers of the units that hold lines with errors."""
    starts = list(itertools.accumulate((len(unit.lines) for unit in units), initial=0))
    return {bisect.bisect_right(starts, error) - 1 for error in errors}


def _without(units: Sequence[_Unit], gone: set[int]) -> list[_Unit]:
    """The units but those in `gone` and what is indented below them, as the paper's implementation does.

    Without its header a body would often still be a program, indented too deep.
    """
    kept: list[_Unit] = []
    depth: int | None = None
    for number, unit in enumerate(units):
        if depth is not None and unit.indent > depth:
            continue
        depth = unit.indent if number in gone else None
        if depth is None:
            kept.append(unit)
    return kept


def edits_of(program: str, seed: str) -> list[str]:
    """A sequence of edits that writes `program`, which ends in one newline; the same for the same `seed`.

    Raises ValueError for a program that has an error to begin with.
    """
    states = backward_states(program, random.Random(seed))[::-1]
    return [_diff(before, after) for before, after in itertools.pairwise(states)]


def _diff(before: str, after: str) -> str:
    old, new = before.split("\n")[:-1], after.split("\n")[:-1]
    hunks = difflib.unified_diff(old, new, n=0, lineterm="")
    return "\n".join(list(hunks)[2:])


def as_text(edits: Sequence[str]) -> str:
    """The edits as a model writes them: each after `DIFF_TOKEN`, on lines of their own."""
    return "\n".join(f"{DIFF_TOKEN}{edit}" for edit in edits)


def edits_in(text: str) -> list[str]:
    """The edits in a text of `as_text`'s form."""
    return [part.removesuffix("\n") for part in text.split(DIFF_TOKEN)[1:]]


def apply_edits(edits: Sequence[str], program: str = "") -> Iterator[str]:
    """The states of `program` after each edit. Raises MalformedEditError."""
    lines = program.split("\n")[:-1]
    for number, edit in enumerate(edits, 1):
        try:
            lines = _applied(lines, edit)
        except (ValueError, IndexError) as error:
            raise MalformedEditError(f"edit {number}: {error}") from error
        yield "".join(f"{line}\n" for line in lines)


def _applied(lines: list[str], edit: str) -> list[str]:
    result: list[str] = []
    position = 0  # in `lines`: what comes before it has been copied or deleted
    hunk: list[int] = []  # lines that the hunk still deletes and inserts
    for text in edit.split("\n"):
        if hunk and any(hunk):
            kind = 0 if text.startswith("-") else 1
            if not text.startswith(("-", "+")) or not hunk[kind]:
                raise ValueError(f"{text[:60]!r} where the hunk says -{hunk[0]} +{hunk[1]}")
            hunk[kind] -= 1
            if kind:
                result.append(text[1:])
            elif lines[position] != text[1:]:
                raise ValueError(f"it deletes {text[1:60]!r} where {lines[position][:60]!r} is")
            else:
                position += 1
            continue
        header = _HUNK.fullmatch(text)
        if header is None:
            raise ValueError(f"{text[:60]!r} is no hunk")
        hunk = [int(size) if size else 1 for size in (header[2], header[4])]
        start = int(header[1]) - (hunk[0] > 0)
        if not position <= start <= len(lines):
            raise ValueError(f"{text!r} is out of place in a program of {len(lines)} lines")
        result += lines[position:start]
        position = start
    if any(hunk):
        raise ValueError("it ends in the middle of a hunk")
    return result + lines[position:]
