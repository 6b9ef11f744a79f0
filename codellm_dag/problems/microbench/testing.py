"""Inputs and hidden tests of a microbench problem, and the near-misses that those tests must catch.

Tests are chosen from random inputs so that every near-miss (a step left out, two steps swapped, a constant
off by one, a step replaced by one of its siblings) that differs from the reference on any of the inputs fails
at least one test. A problem one of whose steps changes nothing is refused. Only generated, trusted source is
run here, never a model's.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from codellm_dag.problems.microbench.pipelines import Rendered, body
from codellm_dag.problems.microbench.primitives import INT, INTS, PRIMITIVES, STR
from codellm_dag.problems.schema import Call, Test

INPUTS = 40
"""Random inputs that tests are chosen from."""

COMMONEST_OUTPUT = 0.8
"""Largest share of the inputs that may have the same output, else returning a constant nearly passes."""

LARGEST_OUTPUT = 200
"""Characters of an expected value's source; problems with longer ones are refused."""

_SIBLINGS = 6
_TEXT = ("apple", "Banana", "cat", "Dog", "echo", "fig", "Green", "hat", "ink", "Jam", "kiwi", "Lemon", "mix")
_MORE_TEXT = (
    "noon",
    "Orange",
    "pear",
    "quiz",
    "river",
    "Sun",
    "tree",
    "up",
    "Vase",
    "wax",
    "yes",
    "zoo",
    "a",
)


class UnusableProblemError(ValueError):
    """A rendered template makes no fair problem: a step has no effect, or an output is too large."""


def choose_tests(rendered: Rendered, rng: random.Random, count: int) -> tuple[Test, ...]:
    """At least `count` tests for `rendered` (more where near-misses need them); none if `count` is 0.

    Raises UnusableProblemError if leaving out a step changes no output, nearly every output is the same,
    the reference raises, or an output's source is longer than LARGEST_OUTPUT.
    """
    inputs = [_arguments(rendered, rng) for _ in range(INPUTS)]
    expected = _outputs(rendered, rendered.reference, inputs)
    if any(value.startswith("error") or len(value) > LARGEST_OUTPUT for value in expected):
        raise UnusableProblemError("an output is an error or too large")
    if max(Counter(expected).values()) > COMMONEST_OUTPUT * INPUTS:
        raise UnusableProblemError("nearly every output is the same")
    different = []
    for dropped, source in near_misses(rendered, rng):
        if not (dropped or count):
            continue  # without tests it is enough that every step has an effect
        outputs = _outputs(rendered, source, inputs)
        caught = {index for index in range(INPUTS) if outputs[index] != expected[index]}
        if not caught and dropped:
            raise UnusableProblemError("a step has no effect")
        if caught:
            different.append(caught)
    chosen = _cover(different, expected, count) if count else set()
    return tuple(
        Test(call=Call(args=tuple(map(repr, inputs[index]))), expected=expected[index])
        for index in sorted(chosen)
    )


def near_misses(rendered: Rendered, rng: random.Random) -> Iterator[tuple[bool, str]]:
    """Wrong bodies close to the reference, with True for those that only leave out a step."""
    template, constants = rendered.template, rendered.constants
    for index in range(len(template)):
        shorter = template[:index] + template[index + 1 :]
        if shorter and _fits(rendered, shorter):
            yield True, _body(rendered, shorter, constants[:index] + constants[index + 1 :])
        for sibling in _siblings(template[index], rng):
            changed = (*template[:index], sibling, *template[index + 1 :])
            yield False, _body(rendered, changed, constants)
        if constants[index].isdigit():
            for other in (int(constants[index]) - 1, int(constants[index]) + 1):
                yield False, _body(rendered, template, _replaced(constants, index, str(other)))
    for index in range(len(template) - 1):
        order = list(range(len(template)))
        order[index], order[index + 1] = order[index + 1], order[index]
        swapped = tuple(template[number] for number in order)
        if _fits(rendered, swapped):
            yield False, _body(rendered, swapped, tuple(constants[number] for number in order))


def _replaced(constants: tuple[str, ...], index: int, value: str) -> tuple[str, ...]:
    return (*constants[:index], value, *constants[index + 1 :])


def _siblings(key: str, rng: random.Random) -> Sequence[str]:
    """A few primitives with the same types and parameter as `key`."""
    own = PRIMITIVES[key]
    others = [
        other.key
        for other in PRIMITIVES.values()
        if other.key != key and (other.source, other.target) == (own.source, own.target)
        if other.parameter in ("", own.parameter)
    ]
    return rng.sample(others, min(_SIBLINGS, len(others)))


def _fits(rendered: Rendered, template: tuple[str, ...]) -> bool:
    kind = rendered.arguments[0][1]
    for key in template:
        if PRIMITIVES[key].source != kind:
            return False
        kind = PRIMITIVES[key].target
    return kind == rendered.returns


def _body(rendered: Rendered, template: tuple[str, ...], constants: tuple[str, ...]) -> str:
    return body(template, constants, *rendered.arguments[0])


def _outputs(rendered: Rendered, source: str, inputs: Sequence[tuple[Any, ...]]) -> list[str]:
    """``repr`` of what `source` returns on each input, or "error" where it raises."""
    function = _function(replace(rendered, docstring="").prompt + source, rendered.entry_point)
    outputs = []
    for arguments in inputs:
        try:
            outputs.append(repr(function(*arguments)))
        except (ValueError, IndexError, TypeError, ZeroDivisionError) as error:
            outputs.append(f"error {type(error).__name__}")
    return outputs


def _function(source: str, name: str) -> Callable[..., Any]:
    namespace: dict[str, Any] = {}
    exec(compile(source, "<microbench reference>", "exec"), namespace)
    return namespace[name]


def _cover(different: list[set[int]], expected: list[str], count: int) -> set[int]:
    """Indices of inputs that catch every near-miss, greedily, filled up to `count` with new outputs first."""
    chosen: set[int] = set()
    open_ = [caught for caught in different if caught]
    while open_:
        best = max(range(INPUTS), key=lambda index: (sum(index in caught for caught in open_), -index))
        chosen.add(best)
        open_ = [caught for caught in open_ if best not in caught]
    seen = {expected[index] for index in chosen}
    for fresh_only in (True, False):
        for index in range(INPUTS):
            if len(chosen) >= count:
                return chosen
            if index not in chosen and not (fresh_only and expected[index] in seen):
                chosen.add(index)
                seen.add(expected[index])
    return chosen


def _arguments(rendered: Rendered, rng: random.Random) -> tuple[Any, ...]:
    """One random input; numbers near the constants and letters among them are likelier."""
    numbers = [int(constant) for constant in rendered.constants if constant.isdigit()]
    letters = [constant for constant in rendered.constants if len(constant) == 1 and constant.isalpha()]
    first = _value(rendered.arguments[0][1], rng, numbers, letters)
    return (first, *(rng.randint(1, 9) for _ in rendered.arguments[1:]))


def _value(kind: str, rng: random.Random, numbers: list[int], letters: list[str]) -> Any:
    if kind == INT:
        return _number(rng, numbers, 60)
    if kind == INTS:
        return [_number(rng, numbers, 20) for _ in range(rng.choice((0, 1, 3, 5, 6, 7, 8, 9, 10, 11, 12)))]
    words = [_word(rng, letters) for _ in range(rng.choice((0, 1, 2, 3, 4, 5, 6, 8, 10)))]
    if kind != STR:
        return words
    text = " ".join(words)
    return f"  {text} " if rng.random() < 0.2 else text


def _number(rng: random.Random, numbers: list[int], largest: int) -> int:
    if numbers and rng.random() < 0.4:
        return rng.choice(numbers) * rng.choice((1, 1, 1, 2, 3, -1)) + rng.choice((-1, 0, 0, 1))
    return rng.randint(-largest // 2, largest)


def _word(rng: random.Random, letters: list[str]) -> str:
    word = rng.choice(_TEXT + _MORE_TEXT)
    if letters and rng.random() < 0.4:
        position = rng.choice((0, len(word), rng.randint(0, len(word))))
        word = word[:position] + rng.choice(letters) + word[position:]
    return word
