"""Edit sequences: free of errors at every state, exact when applied, the same for the same seed."""

from __future__ import annotations

import ast
import bisect
import inspect
import io
import random
import shlex
import statistics
import textwrap
import tokenize
from collections.abc import Iterator
from types import ModuleType

import pytest
from pyflakes import messages

from codellm_dag.problems.lintseq import (
    DIFF_TOKEN,
    ERRORS,
    MalformedEditError,
    apply_edits,
    as_text,
    backward_states,
    edits_in,
    edits_of,
    error_lines,
)
from codellm_dag.problems.standalone import NotAloneError, documented, standalone

PROGRAM = textwrap.dedent(
    '''\
    import re

    LIMIT = 3  # items


    def first(items, text=None):
        # what is kept
        kept = []

        for item in items:
            if len(kept) == LIMIT:
                break
            elif text:
                kept.append(re.sub(r"\\s+", " ", item))
            else:
                kept.append(
                    item
                )
        try:
            kept.sort()
        except TypeError:
            return None
        finally:
            note = """+ not a diff
    @@ -1 +1 @@
    """
        return kept, note
    '''
)


def programs_of(module: ModuleType) -> Iterator[str]:
    """The documented functions of a module that stand alone, with their helpers."""
    source = inspect.getsource(module)
    tree = ast.parse(source)
    for node in documented(tree):
        try:
            yield standalone(tree, source.split("\n"), node).program
        except NotAloneError:
            continue


def as_lines(state: str) -> list[str]:
    return state.split("\n")[:-1]


@pytest.mark.parametrize("seed", range(12))
def test_edits_give_the_program_back_and_no_state_has_an_error(seed: int) -> None:
    edits = edits_of(PROGRAM, str(seed))
    assert edits == edits_of(PROGRAM, str(seed))
    states = list(apply_edits(edits_in(as_text(edits))))
    assert states[-1] == PROGRAM
    for state in states:
        assert error_lines(as_lines(state)) == []
        compile(state, "state", "exec")
    sizes = [len(as_lines(state)) for state in states]
    assert sizes == sorted(set(sizes)), "every edit inserts"
    assert not any(line.startswith("-") for edit in edits for line in edit.split("\n"))


@pytest.mark.parametrize("seed", range(12))
def test_a_body_never_stands_without_its_header(seed: int) -> None:
    """Every state is indented by four spaces a level, as the program is; Python alone would take eight."""
    for state in backward_states(PROGRAM, random.Random(seed)):
        depth = 0
        for token in tokenize.generate_tokens(io.StringIO(state).readline):
            depth += (token.type == tokenize.INDENT) - (token.type == tokenize.DEDENT)
            if token.type == tokenize.INDENT:
                assert token.string == "    " * depth


def test_seeds_give_different_sequences() -> None:
    assert len({as_text(edits_of(PROGRAM, str(seed))) for seed in range(12)}) > 8


@pytest.mark.parametrize(("module", "least"), [(textwrap, 4), (bisect, 4), (shlex, 2), (statistics, 15)])
def test_real_functions_round_trip(module: ModuleType, least: int) -> None:
    programs = [program for program in programs_of(module) if not error_lines(as_lines(program))]
    assert len(programs) >= least
    for program in programs:
        *_, written = apply_edits(edits_in(as_text(edits_of(program, "0"))))
        assert written == program


def test_the_only_order_of_two_lines_is_found() -> None:
    """``print(x)`` needs ``x = 1``, so it can only come after it, or together with it."""
    texts = {as_text(edits_of("x = 1\nprint(x)\n", str(seed))) for seed in range(20)}
    assert texts == {
        "<|diff|>@@ -0,0 +1 @@\n+x = 1\n<|diff|>@@ -1,0 +2 @@\n+print(x)",
        "<|diff|>@@ -0,0 +1,2 @@\n+x = 1\n+print(x)",
    }


def test_comments_and_empty_lines_go_with_the_code_after_them() -> None:
    states = backward_states("# one\n\nx = 1\n# two\ny = 2\n# end\n", random.Random(1))
    assert set(states[1:-1]) <= {"# one\n\nx = 1\n", "# two\ny = 2\n# end\n"}
    assert (states[0], states[-1]) == ("# one\n\nx = 1\n# two\ny = 2\n# end\n", "")


@pytest.mark.parametrize(
    ("program", "lines"),
    [
        ("x = 1\nprint(y)\n", [1]),
        ("import os\nx = 1\n", []),  # unused: style
        ("def f():\n    y = 1\n", []),  # unused: style
        ("def f():\nx = 1\n", [0]),  # the header has no body
        ("x = (\ny = 1\n", [0]),  # the bracket is never closed
        ("    x = 1\n", [0]),
        ("return 1\n", [0]),
        ("try:\n    x = 1\ny = 2\n", [0]),
        ("def f():\n    print(a)\n    a = 1\n", [1]),
        ("else:\n    x = 1\n", [0]),
        ("x = '''\ntext\n", [0]),
    ],
)
def test_lines_with_errors(program: str, lines: list[int]) -> None:
    assert error_lines(as_lines(program)) == lines


def test_a_program_with_an_error_is_refused_with_its_line() -> None:
    with pytest.raises(ValueError, match=r"line 2 has an error: 'print\(y\)'"):
        edits_of("x = 1\nprint(y)\n", "0")


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ("x = 1", "edit 1: 'x = 1' is no hunk"),
        ("@@ -0,0 +1,2 @@\n+x = 1", "edit 1: it ends in the middle of a hunk"),
        ("@@ -0,0 +1 @@\nx = 1", r"edit 1: 'x = 1' where the hunk says -0 \+1"),
        ("@@ -5,0 +6 @@\n+x = 1", "out of place in a program of 1 lines"),
        ("@@ -1 +1 @@\n-b\n+c", "it deletes 'b' where 'a' is"),
    ],
)
def test_an_edit_that_does_not_fit_is_named(edit: str, message: str) -> None:
    with pytest.raises(MalformedEditError, match=message):
        list(apply_edits([edit], "a\n"))


def test_edits_may_also_delete_and_replace() -> None:
    assert list(apply_edits(["@@ -1 +1,2 @@\n-a\n+b\n+c", "@@ -3 +2,0 @@\n-z"], "a\nz\n")) == [
        "b\nc\nz\n",
        "b\nc\n",
    ]


def test_the_separator_is_the_papers_and_the_errors_are_pyflakes() -> None:
    assert DIFF_TOKEN == "<|diff|>"
    assert all(hasattr(messages, name) for name in ERRORS)
