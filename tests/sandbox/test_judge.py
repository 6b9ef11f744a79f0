"""Comparisons and verdicts, with outcomes worked out by hand from Python's own semantics."""

from __future__ import annotations

import math
import time
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from codellm_dag.sandbox import Call, Execution, InvalidValueError, Output, Test, Verdict, judge, judge_each
from codellm_dag.sandbox.inside.values import encode
from codellm_dag.sandbox.judge import calls_for, judge_inside, judge_stdout, meets


def output(value: Any) -> Output:
    """What the sandbox gives back for a call that returned `value`."""
    return Output("value", encode(value))


@pytest.mark.parametrize(
    ("got", "expected"),
    [
        (True, "1"), (1, "1.0"), (0, "False"), (1.0, "True"), (2**70, str(2**70)), (float(2**70), str(2**70)),
        (1 + 0j, "1"), (-0.0, "0"), (Fraction(1, 2), "0.5"), (Decimal("0.5"), "0.5"),
        (Decimal("1E+3"), "1000"),
        (math.nan, "nan"), (math.inf, "float('inf')"), ([1, 2.0], "[1.0, 2]"), ((), "()"),
        ({1, 2}, "frozenset({2, 1})"), ({(1, 2.0)}, "{(1.0, 2)}"), ({"a": 1, "b": 2}, "{'b': 2, 'a': True}"),
        ({1: "x"}, "{1.0: 'x'}"), (b"x", "bytearray(b'x')"), ("", "''"), (None, "None"), ([[]], "[[]]"),
    ],
)  # fmt: skip
def test_equal(got: Any, expected: str) -> None:
    assert meets(output(got), Test(Call("f"), expected))
    assert not meets(output(got), Test(Call("f"), expected, "not_equal"))


@pytest.mark.parametrize(
    ("got", "expected"),
    [
        ([1], "(1,)"), ([1, 2], "[2, 1]"), ([1, 2], "[1]"), ("1", "1"), (b"x", "'x'"), ([], "{}"),
        ({}, "set()"),
        (None, "False"), (None, "0"), ("", "None"), (0.1 + 0.2, "0.3"), (2**53 + 1, "9007199254740992.0"),
        (float(2**53), str(2**53 + 1)), ({"a": 1}, "{'a': 2}"), ({"a": 1}, "{'a': 1, 'b': 2}"), ({1}, "[1]"),
        (Fraction(1, 3), "0.3333333333333333"), (Decimal("1E+999999"), "1"), (math.inf, "-inf"),
        ("a,b", "'a'"),
        (["a,b"], "['a', 'b']"), (['"]'], "[']']"), (1j, "1"), ({"1": 1}, "{1: 1}"),
    ],
)  # fmt: skip
def test_not_equal(got: Any, expected: str) -> None:
    assert not meets(output(got), Test(Call("f"), expected))
    assert meets(output(got), Test(Call("f"), expected, "not_equal"))


@pytest.mark.parametrize(
    ("got", "expected", "comparison", "tolerance", "met"),
    [
        (True, "True", "identical", 0, True), (1, "True", "identical", 0, False), (None, "None",
        "identical", 0, True),
        (1.0, "1", "identical", 0, False),
        (1.05, "1.0", "almost", 0.05, True), (1.06, "1.0", "almost", 0.05, False),
        (1050.0, "1000", "almost", 0.05, True), (0.04, "0", "almost", 0.05, True), (0, "0.0",
        "almost", 0, True),
        ([1.0, (2.0, {"a": 3.0})], "[1.001, (2, {'a': 3.001})]", "almost", 0.01, True),
        ([1.0], "[1.0, 2.0]", "almost", 1, False), ([1.0], "(1.0,)", "almost", 1, False),
        ({"a": 1.0}, "{'b': 1.0}", "almost", 1, False), ("a", "'a'", "almost", 0, True), ("a", "1",
        "almost", 9, False),
        (math.nan, "nan", "almost", 0.1, True), (math.nan, "1.0", "almost", 9, False),
        (math.inf, "inf", "almost", 0.1, True), (math.inf, "1.0", "almost", 9, False),
        (10**400, "1.0", "almost", 1, False),
        (10**400, "1" + "0" * 400, "almost", 0, True), (1 + 1j, "1+1.001j", "almost", 0.01, True),
        (Fraction(1, 3), "0.33333", "almost", 1e-4, True), (Decimal("0.33333"), "0.33334", "almost",
        1e-4, True),
        (1.0 + 1e-7, "1.0", "within", 1e-6, True), (1.0 + 2e-6, "1.0", "within", 1e-6, False),
        (1000.001, "1000.0", "within", 1e-4, False), (1.5, "1.0", "within", 0.5, False), (1, "1",
        "within", 0.5, True),
        (1, "1", "within", 0.0, False),
        (1001.0, "1000.0", "relative", 1e-3, True), (1002.0, "1000.0", "relative", 1e-3, False),
        (1e-9, "0.0", "relative", 1e-3, False), (0.0, "0", "relative", 0, True),
        ([0], "1", "truthy", 0, True), ([], "1", "truthy", 0, False), (None, "1", "truthy", 0, False),
        (0.0, "1", "falsy", 0, True), ("0", "1", "falsy", 0, False), ({}, "1", "falsy", 0, True),
        (b"", "1", "falsy", 0, True),
        ((1, 2), "[1, 2]", "equal_as_tuple", 0, True), ([2, 1], "(1, 2)", "equal_as_list", 0, False),
        ([2, 1, 1], "[1, 2]", "equal_as_set", 0, True), ([2, 1, 1], "[1, 2]", "equal_sorted", 0, False),
        ([2, 1, 1], "(1, 1.0, 2)", "equal_sorted", 0, True), ("ab", "['b', 'a']", "equal_as_set", 0, True),
        (5, "(5,)", "equal_as_tuple", 0, False), ({"a": 1}, "['a']", "equal_as_list", 0, True),
        ("anything", "None", "any", 0, True),
        (3, "output > 2", "holds", 0, True), (2, "output > 2", "holds", 0, False),
        ("3", "output > 2", "holds", 0, False),
        ([1, 2], "len(output) == 2 and sum(output) == 3", "holds", 0, True),
        (0.5, "math.fabs(math.pow(output, 2) - 0.25) < 1e-9", "holds", 0, True),
        (5, "[output for i in range(10 ** 9)]", "holds", 0, False),
        (5, "output.real == 5", "holds", 0, False), (5, "open('/etc/passwd')", "holds", 0, False),
        (10**6, "9 ** output", "holds", 0, False), ("x" * 100, "output * 10 ** 9", "holds", 0, False),
        (5, "output >", "holds", 0, False),
    ],
)  # fmt: skip
def test_other_comparisons(got: Any, expected: str, comparison: Any, tolerance: float, met: bool) -> None:
    assert meets(output(got), Test(Call("f"), expected, comparison, tolerance)) is met


def test_exceptions_and_unsupported_values_meet_nothing() -> None:
    for kind in ("exception", "unsupported"):
        for comparison in ("equal", "not_equal", "falsy", "any"):
            assert not meets(Output(kind, detail="x"), Test(Call("f"), "None", comparison))  # type: ignore[arg-type]


def test_forged_text_meets_nothing() -> None:
    for text in (
        "",
        "[",
        '{"t":"int","v":"42"',
        '{"t":"verdict","v":"pass"}',
        '{"t":"set","v":[{"t":"list","v":[]}]}',
    ):
        assert not meets(Output("value", text), Test(Call("f"), "42"))
    # A set that lists a member twice is the set with that member once.
    twice = '{"t":"set","v":[{"t":"int","v":"1"},{"t":"float","v":"0x1p0"}]}'
    assert meets(Output("value", twice), Test(Call("f"), "{1}"))


def test_colliding_numbers_are_compared_in_good_time() -> None:
    """Ints that share one hash value would make a set of them quadratic; nothing is hashed by value here."""
    colliding = [k * (2**61 - 1) for k in range(1, 20_000)]
    listed = encode(colliding).replace('"t":"list"', '"t":"set"')
    assert not meets(Output("value", listed), Test(Call("f"), "{1}"))
    assert not meets(Output("value", encode(colliding * 2)), Test(Call("f"), "len(set(output)) > 0", "holds"))


@pytest.mark.parametrize(
    ("predicate", "got"),
    [
        ("output % 2 == 0", "%9999999999d"), ("output % 2 == 0", b"%9999999999d"),
        ("output ** 9 > 0", 2**150_000), ("2 ** output > 0", 10**9), ("1 << output > 0", 10**12),
        ("2 ** output > 0", Fraction(10**9)), ("output * 3 == 0", 2**3_000_000),
        ("int(output) > 0", Decimal("1E+999999")), ("[int(x) for x in output]", [Decimal("1E+999999")]),
        ("round(5, output) == 5", -(10**9)), ("len(list(range(output))) > 1", 10**9),
        ("sum(range(output)) > 1", 10**12), ("'x' * output == 'x'", 10**10), ("[0] * output == []", 10**10),
        ("str(output) == ''", 10**5000), ("output[0] * output[0] > 0", [2**190_000]),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else type(value).__name__,
)  # fmt: skip
def test_outputs_cannot_make_a_predicate_costly(predicate: str, got: Any) -> None:
    started = time.process_time()
    meets(output(got), Test(Call("f"), predicate, "holds"))
    assert time.process_time() - started < 0.5


def test_bad_tests_are_errors_not_failures() -> None:
    with pytest.raises(InvalidValueError, match="is not the literal"):
        meets(output(1), Test(Call("f"), "open('x')"))
    with pytest.raises(ValueError, match="comparison = 'close': must be one of equal, not_equal"):
        meets(output(1), Test(Call("f"), "1", "close"))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no tests"):
        judge(Execution("finished"), [])


TESTS = (Test(Call("f", ("1",)), "1"), Test(Call("f", ("2",)), "2"))


def test_all_tests_must_pass() -> None:
    good = Execution("finished", (output(1), output(2)))
    assert judge_each(good, TESTS).passed == (True, True)
    assert judge(good, TESTS) is Verdict.PASS
    half = judge_each(Execution("finished", (output(1), output(3))), TESTS)
    assert (half.verdict, half.passed) == (Verdict.FAIL, (True, False))
    assert half.detail == 'call 1 gave {"t":"int","v":"3"}, expected equal 2'


def test_missing_outputs_fail() -> None:
    """Also when nothing is expected but nothing: code that only raises is no solution."""
    short = judge_each(Execution("finished", (output(1),)), TESTS)
    assert (short.verdict, short.passed, short.detail) == ("fail", (True, False), "call 1 gave no output")
    raised = Execution("finished", (Output("exception", detail="KeyError"),))
    assert judge(raised, [Test(Call("f"), "None")]) == "fail"
    assert (
        judge(Execution("finished", (Output("exception", detail="KeyError"),)), [Test(Call("f"), "''")])
        == "fail"
    )


def test_right_outputs_of_a_program_that_did_not_finish_fail() -> None:
    for status in ("error", "timeout", "memory", "output_limit"):
        assert judge(Execution(status, (output(1), output(2))), TESTS) == "fail"  # type: ignore[arg-type]


def test_infrastructure_errors_are_neither_pass_nor_fail() -> None:
    lost = Execution("infrastructure_error", detail="the cell is gone")
    assert judge(lost, TESTS) is Verdict.INFRASTRUCTURE_ERROR
    assert judge_inside(lost) is Verdict.INFRASTRUCTURE_ERROR
    assert judge_stdout(lost, "") is Verdict.INFRASTRUCTURE_ERROR


def test_verdict_of_scripts() -> None:
    assert judge_inside(Execution("finished", judged_inside=True)) == "pass"
    assert judge_inside(Execution("error", judged_inside=True)) == "fail"
    assert judge_stdout(Execution("finished", stdout="1 \n2\n\n"), "1\n2") == "pass"
    assert judge_stdout(Execution("finished", stdout="1 2"), "1\n2") == "fail"
    assert judge_stdout(Execution("error", stdout="1\n2"), "1\n2") == "fail"


def test_calls_carry_the_view_of_their_comparison() -> None:
    tests = [Test(Call("ignored", ("1",), {"k": "2"}), "1"), Test(Call("", ("1",)), "{1}", "equal_as_set")]
    assert calls_for(tests, "f") == (Call("f", ("1",), {"k": "2"}), Call("f", ("1",), view="set"))
