"""Functions with what they need, and why others are refused."""

from __future__ import annotations

import ast
import textwrap

import pytest

from codellm_dag.problems.standalone import Function, NotAloneError, documented, standalone

MODULE = textwrap.dedent(
    '''
    """A module."""
    import os, re
    from collections import OrderedDict, deque as queue
    from . import sibling
    import numpy

    LIMIT = 3
    UNUSED = 4

    def _helper(text):
        """Its answer: 42."""
        def inner():
            """Only a docstring."""
        return re.sub("a", "b", text)[:LIMIT]

    class Box:
        """A box."""
        size: int = LIMIT

    def alone(text: str, *,
              size=LIMIT):
        """Shorten.

        >>> alone("abcd")
        'bbc'
        """

        # a comment
        return _helper(text) or Box().size

    def needs_package(x):
        """Uses another package."""
        return numpy.array(x)

    def needs_sibling(x):
        """Uses a module of its own package."""
        return sibling.f(x)

    def needs_nothing_known(x):
        """Uses a name that is bound nowhere."""
        return made_at_run_time + x

    @staticmethod
    def decorated(x):
        """Is decorated."""
        return x

    def one_line(x): "Is one line."; return x

    def only_documented(x):
        """Has no body."""

    def recursive(n):
        """Calls itself."""
        return recursive(n - 1) if n else [part for part in queue([n])]

    def counts():
        """Changes a global."""
        global UNUSED
        UNUSED += 1
        return UNUSED

    def even(n):
        """Uses odd, which uses it."""
        return n == 0 or odd(n - 1)

    def odd(n):
        """Uses even, which uses it."""
        return n != 0 and even(n - 1)

    def undocumented(x):
        return x
    '''
)


def extracted(name: str, source: str = MODULE) -> Function:
    module = ast.parse(source)
    (node,) = [node for node in documented(module) if node.name == name]
    return standalone(module, source.split("\n"), node)


def test_a_function_comes_with_its_helpers_and_without_their_docstrings() -> None:
    found = extracted("alone")
    assert found.head == "def alone(text: str, *,\n          size=LIMIT):\n"
    assert found.body == "    # a comment\n    return _helper(text) or Box().size\n"
    assert found.docstring == "Shorten.\n\n>>> alone(\"abcd\")\n'bbc'"
    assert found.helpers == textwrap.dedent(
        """\
        import re
        LIMIT = 3


        def _helper(text):

            def inner():
                pass
            return re.sub('a', 'b', text)[:LIMIT]


        class Box:
            size: int = LIMIT
        """
    )
    names: dict = {}
    exec(found.program, names)
    assert names["alone"]("abcd") == "bbc"  # "abcd" with b for a, cut to three


def test_only_what_is_used_is_imported() -> None:
    assert extracted("recursive").helpers == "from collections import deque as queue\n"


def test_a_global_that_is_changed_comes_along() -> None:
    assert extracted("counts").helpers == "UNUSED = 4\n"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("needs_package", "import: numpy is not of the standard library"),
        ("needs_sibling", r"import: \. is not of the standard library"),
        ("needs_nothing_known", "name: made_at_run_time is not defined"),
        ("decorated", "decorated: staticmethod"),
        ("one_line", "layout: "),
        ("only_documented", "layout: "),
        ("even", "helpers: a helper uses the function itself"),
    ],
)
def test_a_function_that_does_not_stand_alone_is_refused(name: str, reason: str) -> None:
    with pytest.raises(NotAloneError, match=reason):
        extracted(name)


def test_a_name_that_is_bound_twice_is_refused() -> None:
    source = 'def f(x):\n    """First."""\n    return x\n\nf = None\n'
    with pytest.raises(NotAloneError, match="f is bound again"):
        extracted("f", source)


def test_a_helper_is_still_documented_when_its_own_turn_comes() -> None:
    source = 'def a():\n    """A."""\n    return 1\n\ndef b():\n    """B."""\n    return a()\n'
    module = ast.parse(source)
    first, second = documented(module)
    assert '"""' not in standalone(module, source.split("\n"), second).helpers
    assert standalone(module, source.split("\n"), first).docstring == "A."


def test_too_many_helpers_are_refused() -> None:
    helpers = "".join(f"X{number} = {number}\n" for number in range(21))
    total = " + ".join(f"X{number}" for number in range(21))
    with pytest.raises(NotAloneError, match="helpers: 21 definitions"):
        extracted("f", f'{helpers}def f():\n    """Sum."""\n    return {total}\n')
