"""Assertions become calls and expected values; what cannot be known without running stays as source."""

from __future__ import annotations

import math
from typing import Any

import pytest

from codellm_dag.sandbox import Call, Conversion, Program, Sandbox, Test, convert_asserts, record_asserts


def converted(test_source: str, entry_point: str = "f") -> list[tuple[Any, ...]]:
    """The tests as (args, expected, comparison), when all of the source converts."""
    conversion = convert_asserts(test_source, entry_point)
    assert conversion.leftover == ""
    return [(*test.call.args, test.expected, test.comparison) for test in conversion.tests]


@pytest.mark.parametrize(
    ("source", "tests"),
    [
        ("assert f(1, 'a') == [2]", [("1", "'a'", "[2]", "equal")]),
        ("assert (1, 2) == f({1: 2})", [("{1: 2}", "(1, 2)", "equal")]),
        ("assert f(-1.5) == 2.0 / 4, 'message'", [("-1.5", "0.5", "equal")]),
        ("assert f() != None", [("None", "not_equal")]),
        ("assert f() is True", [("True", "identical")]),
        ("assert None is f()", [("None", "identical")]),
        ("assert f(2)", [("2", "True", "truthy")]),
        ("assert not f(2)", [("2", "False", "falsy")]),
        ("assert f(1) == 1 and f(2) == 2", [("1", "1", "equal"), ("2", "2", "equal")]),
        ("assert tuple(f([1])) == tuple([1, 2])", [("[1]", "(1, 2)", "equal_as_tuple")]),
        ("assert set(f(1)) == {1, 2}", [("1", "{1, 2}", "equal_as_set")]),
        ("assert sorted(f(1)) == [1, 2]", [("1", "[1, 2]", "equal_sorted")]),
        ("x = [1, 2]\nassert f(x) == sum(x)", [("[1, 2]", "3", "equal")]),
        ("for i in range(2, 4):\n    assert f(i, i + 1) == str(i)", [("2", "3", "'2'", "equal"),
        ("3", "4", "'3'", "equal")]),
        ("for a, b in [(1, 2), (3, 4)]:\n    c = a + b\n    assert f(a) == c", [("1", "3", "equal"),
        ("3", "7", "equal")]),
        ("assert f('a' * 3, [i ** 2 for i in range(4) if i % 2]) == 1", [("'aaa'", "[1, 9]", "1", "equal")]),
        ("assert f(x=1) == 2 ** 10", [("1024", "equal")]),
        ("assert f(set(), float('inf')) == ()", [("set()", "float('inf')", "()", "equal")]),
    ],
)  # fmt: skip
def test_shapes(source: str, tests: list[tuple[Any, ...]]) -> None:
    assert converted(source) == [tuple(x.replace("float('inf')", "inf") for x in row) for row in tests]


def test_keywords_and_tolerances() -> None:
    conversion = convert_asserts(
        "import math\nassert f(1, k='v') == 2\nassert abs(f(2) - 1.5) < 1e-6\n"
        "assert math.fabs(3 - f(3)) <= 0.5\n"
        "assert math.isclose(f(4), 0.25, rel_tol=0.001)\nassert math.isclose(1, f(5))",
        "f",
    )
    assert conversion.tests == (
        Test(Call("f", ("1",), {"k": "'v'"}), "2"),
        Test(Call("f", ("2",)), "1.5", "within", 1e-6),
        Test(Call("f", ("3",)), "3", "within", math.nextafter(0.5, 1)),
        Test(Call("f", ("4",)), "0.25", "relative", 0.001),
        Test(Call("f", ("5",)), "1", "relative", 1e-9),
    )
    assert conversion.complete


def test_check_function_is_converted_with_its_parameter() -> None:
    source = """
METADATA = {'author': 'x'}

def check(candidate):
    # a comment
    assert True, "dropped"
    assert candidate(1) == 2, "Error"
    print("fine")
"""
    conversion = convert_asserts(source, "inc")
    assert conversion == Conversion((Test(Call("inc", ("1",)), "2"),), "", dropped=1)
    assert conversion.complete


@pytest.mark.parametrize(
    "statement",
    [
        "assert f(g(1)) == 2",
        "assert f(f(1)) == 1",
        "assert f(1) == f(2)",
        "assert f(1) == 1 or f(2) == 2",
        "output = 1\nassert f(1) > output",
        "assert f(1).bit_length() == 2",
        "assert type(f(1)) is int",
        "assert f(1) == 0.1 + random.random()",
        "assert f(*args) == 1",
        "assert f(**{'a': 1}) == 1",
        "assert False",
        "assert f(1) is 5",
        "assert f(lambda: 1) == 1",
        "assert f(9 ** 9 ** 9) == 1",
        "assert f('x' * 10 ** 9) == 1",
        "for i in range(10 ** 9):\n    assert f(i) == i",
        "while True:\n    assert f(1) == 1",
        "with open('x') as x:\n    assert f(x) == 1",
        "assert f(1 / 0) == 1",
    ],
)
def test_what_must_be_run_is_left_over(statement: str) -> None:
    """The convertible assertion next to it is still taken out."""
    conversion = convert_asserts(f"import math, random\nassert f(0) == 0\n{statement}\n", "f")
    assert conversion.tests == (Test(Call("f", ("0",)), "0"),)
    assert statement.split("\n")[-1].strip() in conversion.leftover
    assert "f(0)" not in conversion.leftover
    assert not conversion.complete


def test_values_that_unknown_code_may_have_changed_are_not_used() -> None:
    source = "x = [1]\nx.append(2)\nassert f(x) == 1\ny = [1]\nassert f(y) == 2"
    conversion = convert_asserts(source, "f")
    assert [test.call.args for test in conversion.tests] == [("[1]",)]
    assert "assert f(x) == 1" in conversion.leftover
    assert "x.append(2)" in conversion.leftover


def test_leftover_of_a_check_function_runs_it() -> None:
    conversion = convert_asserts(
        "def check(candidate):\n    assert candidate(1) == 1\n    assert candidate(2) > g(1)\n", "g"
    )
    assert len(conversion.tests) == 1
    assert conversion.leftover == "def check(candidate):\n    assert candidate(2) > g(1)\n\ncheck(g)\n"


def test_source_that_is_not_python_is_an_error() -> None:
    with pytest.raises(SyntaxError):
        convert_asserts("assert (", "f")


REFERENCE = "def helper(x):\n    return x[::-1]\ndef f(x):\n    return x + '!'\n"


def test_helpers_and_random_inputs_are_recorded_from_the_reference(sandbox: Sandbox) -> None:
    source = """
def check(candidate):
    from random import choice
    for _ in range(3):
        str = ''.join(choice('ab') for i in range(4))
        list = [helper(str)]
        assert candidate(helper(str)) == list[0] + '!'
        list.append(0)
"""
    conversion = record_asserts(sandbox, source, "f", REFERENCE)
    assert conversion.complete
    assert len(conversion.tests) == 3
    for test in conversion.tests:
        assert eval(test.expected) == eval(test.call.args[0]) + "!"
    assert record_asserts(sandbox, source, "f", REFERENCE) == conversion


def test_what_only_code_can_tell_stays_inside(sandbox: Sandbox) -> None:
    source = """
def check(candidate):
    y = candidate('a')
    assert y.startswith('a')
    y += '!'
    assert y == 'a!!'
    assert candidate('b') == helper('!b')
"""
    conversion = record_asserts(sandbox, source, "f", REFERENCE)
    assert conversion.tests == (Test(Call("f", ("'b'",)), "'b!'"),)
    assert "assert y.startswith('a')" in conversion.leftover
    assert "assert y == 'a!!'" in conversion.leftover
    assert "helper" not in conversion.leftover
    script = Program(REFERENCE + conversion.leftover, mode="asserts")
    assert sandbox.run_one(script).status == "finished"


@pytest.mark.parametrize(
    ("source", "reference"),
    [
        ("assert f(helper('x')) == 'wrong'", REFERENCE),
        ("assert f(missing('x')) == 'x'", REFERENCE),
        ("assert f(helper('x')) == object()", REFERENCE),
        ("assert f(helper('x')) == 'x!'", "def broken("),
        ("while True:\n    assert f(helper('x')) == 'x!'", "import os\nos._exit(0)"),
    ],
)
def test_recording_that_fails_converts_nothing(source: str, reference: str, sandbox: Sandbox) -> None:
    assert record_asserts(sandbox, source, "f", reference) == Conversion((), source)


def test_results_and_helpers_of_predicates_are_recorded(sandbox: Sandbox) -> None:
    """The arguments as they were when the call was made; helpers of one line put in place."""
    source = """
def check(candidate):
    words = ['x']
    y = candidate(words[0])
    words[0] = 'z'
    assert len(helper(y)) > len(words)
    assert helper(candidate('q'))[0] == '!'
"""
    conversion = record_asserts(sandbox, source, "f", REFERENCE)
    assert conversion.complete
    assert conversion.tests == (
        Test(Call("f", ("'x'",)), "len(output[::-1]) > len(['z'])", "holds"),
        Test(Call("f", ("'q'",)), "output[::-1][0] == '!'", "holds"),
    )


def test_answer_of_the_reference_to_another_call_is_not_expected(sandbox: Sandbox) -> None:
    """``f(1) == f(2)`` asks for consistency; a candidate may be consistent in its own way."""
    source = "assert f(helper('a')) == f('a')"
    assert record_asserts(sandbox, source, "f", REFERENCE) == Conversion((), source)


@pytest.mark.parametrize(
    ("assertion", "predicate"),
    [
        ("assert f(1) > 2", "output > 2"),
        ("assert 1 < f(1) <= 2 * 3", "1 < output <= 2 * 3"),
        ("assert len(f(1)) == 2", "len(output) == 2"),
        ("assert f(1) == 1 or f(1) == 2", "output == 1 or output == 2"),
        ("assert f(1) in (1, 2)", "output in (1, 2)"),
        ("assert isinstance(f(1), (int, float))", "isinstance(output, (int, float))"),
        ("assert f(1) is not None", "output is not None"),
        ("x = [3]\nassert all(i in x for i in f(1))", "all((i in [3] for i in output))"),
        ("import math\nassert math.isclose(f(1), 2, abs_tol=1)", "math.isclose(output, 2, abs_tol=1)"),
        ("y = f(1)\nassert y[0] == 1", "output[0] == 1"),
        ("assert int(f(1)) == 3", "int(output) == 3"),
    ],
)
def test_predicates(assertion: str, predicate: str) -> None:
    conversion = convert_asserts(assertion, "f")
    assert conversion.tests[0] == Test(Call("f", ("1",)), predicate, "holds")


def test_function_compared_with_itself_stays_that_weak() -> None:
    """HumanEval/33 holds three such assertions; making them strict would make scores incomparable."""
    conversion = convert_asserts(
        "def check(candidate):\n    assert tuple(candidate([1])) == tuple(f([1]))\n", "f"
    )
    assert conversion.tests == (Test(Call("f", ("[1]",)), "None", "any"),)
