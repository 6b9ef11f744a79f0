"""Tests from the examples in a docstring, read with `doctest`'s parser; nothing is run.

``>>> f(2)`` followed by ``4`` becomes the assertion ``f(2) == 4`` and then, as any test, a call with an
expected value that never enters the sandbox. Left out: examples that are skipped, print,
raise, elide with ``...``, or show something that is not a literal (``Counter({...})``), and those whose
arguments are not constants.
"""

from __future__ import annotations

import ast
import doctest
import re
from collections.abc import Sequence

from codellm_dag.problems.schema import Call, Test
from codellm_dag.sandbox import InvalidValueError, convert_asserts, from_literal
from codellm_dag.sandbox import Test as SandboxTest

_HEADING = re.compile(
    r"^\s*(for )?(examples?|instance|usages?|e\.g\.?|doctests?|tests?)\s*:{0,2}$"
    r"|^.*\b(examples?|for instance|e\.g\.)[^.]*:{1,2}$|^\s*-{3,}$",
    re.IGNORECASE,
)


def examples_of(docstring: str) -> list[doctest.Example]:
    """The examples of a docstring, in order; none if `doctest` cannot parse it."""
    try:
        return doctest.DocTestParser().get_examples(docstring)
    except ValueError:
        return []


def examples_as_tests(examples: Sequence[doctest.Example], entry_point: str) -> list[tuple[int, Test]]:
    """The examples that can be tests, each with the number of the example it comes from.

    An example may use constants that an earlier one assigned.
    """
    lines: list[str] = []
    found: list[tuple[int, Test]] = []
    for number, example in enumerate(examples):
        if example.exc_msg is not None or example.options.get(doctest.SKIP):
            continue
        source = _assertion(example)
        if source is None:
            continue
        try:
            tests = convert_asserts("\n".join([*lines, source]), entry_point).tests
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
        if example.want:
            found += [(number, _as_data(test)) for test in tests if test.comparison != "any"]
        else:
            lines.append(source)
    return found


def _assertion(example: doctest.Example) -> str | None:
    """The example as a statement or an assertion; None if it shows no literal."""
    source = example.source.rstrip("\n")
    if not example.want:
        return source
    try:
        parsed = ast.parse(source, mode="eval").body
        from_literal(example.want)
        if any(isinstance(part, ast.Constant) and part.value is ... for part in ast.walk(_want(example))):
            return None
    except (InvalidValueError, SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return f"assert ({ast.unparse(parsed)}) == ({example.want.strip()})"


def _want(example: doctest.Example) -> ast.expr:
    return ast.parse(example.want.strip(), mode="eval").body


def _as_data(test: SandboxTest) -> Test:
    call = Call(args=test.call.args, kwargs=dict(test.call.kwargs))
    return Test(call=call, expected=test.expected, comparison=test.comparison, tolerance=test.tolerance)


def without_examples(docstring: str, examples: Sequence[doctest.Example], shown: Sequence[int]) -> str:
    """`docstring` without the examples whose numbers are not in `shown`, nor a heading left alone."""
    lines = docstring.split("\n")
    dropped: set[int] = set()
    for number, example in enumerate(examples):
        if number not in shown:
            length = len(example.source.splitlines()) + len(example.want.splitlines())
            dropped.update(range(example.lineno, example.lineno + length))
    kept: list[str] = []
    for number, line in enumerate(lines):
        if number in dropped or (not line.strip() and kept and not kept[-1].strip()):
            continue
        kept.append(line.rstrip())
    while kept and (not kept[-1].strip() or _HEADING.match(kept[-1])):
        kept.pop()
    return "\n".join(kept)


def as_source(docstring: str, indent: str = "    ") -> str:
    """A docstring as source of one or more lines, ending in a newline."""
    text = docstring.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    if text.endswith('"'):
        text = f'{text[:-1]}\\"'
    lines = text.split("\n")
    body = "\n".join([lines[0], *(f"{indent}{line}" if line else "" for line in lines[1:])])
    end = f'\n{indent}"""' if len(lines) > 1 else '"""'
    return f'{indent}"""{body}{end}\n'
