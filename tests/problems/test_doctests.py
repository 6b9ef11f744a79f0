"""Examples in docstrings as tests, and docstrings without the hidden ones."""

from __future__ import annotations

import ast
import textwrap

import pytest

from codellm_dag.problems.doctests import as_source, examples_as_tests, examples_of, without_examples

DOCSTRING = textwrap.dedent(
    """\
    Take the first items.

    >>> take([1, 2, 3], 2)
    [1, 2]

    Keeps the type:

    >>> data = (4, 5)
    >>> take(data, n=1)
    (4,)
    >>> list(take({'a': 1}, 1))
    ['a']
    >>> take(range(3), 1)
    [0]
    >>> print(take([1], 1))
    [1]
    >>> take([1, 2, 3, 4], 4)
    [1, ..., 4]
    >>> take(None, 1)
    Traceback (most recent call last):
    TypeError: no
    >>> take('ab', 1) # a string
    'a'

    Examples:
    """
)


def test_only_examples_that_are_data_become_tests() -> None:
    found = examples_as_tests(examples_of(DOCSTRING), "take")
    read = [
        (number, test.call.args, dict(test.call.kwargs), test.comparison, test.expected)
        for number, test in found
    ]
    # Numbers count every `>>>` from 0.
    assert read == [
        (0, ("[1, 2, 3]", "2"), {}, "equal", "[1, 2]"),
        (2, ("(4, 5)",), {"n": "1"}, "equal", "(4,)"),
        (3, ("{'a': 1}", "1"), {}, "equal_as_list", "['a']"),
        (8, ("'ab'", "1"), {}, "equal", "'a'"),
    ]


@pytest.mark.parametrize(
    "example",
    [
        ">>> f(1)\n<generator object at 0x7f>",
        ">>> f(1)\nCounter({'a': 1})",
        ">>> f(open('x'))\n1",
        ">>> g(1)\n1",
        ">>> for i in f(1): print(i)\n1",
        ">>> f(lambda x: x)\n1",
        ">>> f(1)\n...",
        ">>> f(1)  # doctest: +SKIP\n1",
    ],
)
def test_what_is_no_call_with_a_literal_result_is_no_test(example: str) -> None:
    assert examples_as_tests(examples_of(example), "f") == []


def test_a_docstring_that_doctest_cannot_parse_has_no_examples() -> None:
    assert examples_of(">>>f(1)\n1") == []


def test_hidden_examples_go_and_their_heading_with_them() -> None:
    examples = examples_of(DOCSTRING)
    shown = without_examples(DOCSTRING, examples, [0])
    assert shown == "Take the first items.\n\n>>> take([1, 2, 3], 2)\n[1, 2]\n\nKeeps the type:"
    assert without_examples("Double.\n\nFor example:\n\n>>> f(1)\n2\n", examples_of(">>> f(1)\n2"), [0]) == (
        "Double.\n\nFor example:\n\n>>> f(1)\n2"
    )
    text = "Double.\n\nE.g.\n\n>>> f(1)\n2\n"
    assert without_examples(text, examples_of(text), []) == "Double."


@pytest.mark.parametrize(
    "docstring",
    ["One line.", "Two.\n\n    Indented.\n\nEnd.", 'A "quote"', 'Three """ quotes', "Back \\ slash \\n", "é"],
)
def test_a_docstring_is_read_back_as_it_was(docstring: str) -> None:
    source = f"def f():\n{as_source(docstring)}    return 1\n"
    (node,) = ast.parse(source).body
    assert isinstance(node, ast.FunctionDef)
    assert ast.get_docstring(node) == docstring
