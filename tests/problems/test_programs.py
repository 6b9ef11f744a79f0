"""From a model's text to the program that is run."""

from __future__ import annotations

import pytest

from codellm_dag.problems.programs import (
    STOPS,
    code_of_answer,
    function_body,
    program_from_answer,
    program_from_completion,
)
from codellm_dag.problems.schema import Problem

PROMPT = 'from math import pi\n\n\ndef area(r):\n    """Area of a disc."""\n'
PROBLEM = Problem(problem_id="p", benchmark="b", prompt=PROMPT, entry_point="area", reference="    return pi")


def result(program: str, argument: float = 2.0) -> float:
    names: dict[str, object] = {}
    exec(program, names)
    return names["area"](argument)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("text", "body"),
    [
        ("    return 1\n\n\ndef f():\n    pass\n", "    return 1\n\n\n"),
        ("    return 1\nprint(area(2))", "    return 1\n"),
        ("    return 1\nif __name__ == '__main__':\n    x()\n", "    return 1\n"),
        ("    return 1", "    return 1"),
        ("def other():\n    return 2\n", ""),
        # Column 0 inside brackets, strings, after a backslash or as a comment does not leave the function.
        ("    return (\n1\n)\nx = 2\n", "    return (\n1\n)\n"),
        ('    s = """\ndef no():\n"""\n    return s\nx', '    s = """\ndef no():\n"""\n    return s\n'),
        ("    x = 1 + \\\n2\n    return x\ny", "    x = 1 + \\\n2\n    return x\n"),
        ("# a comment\n    return 1\n@d\n", "# a comment\n    return 1\n"),
        # Brackets and quotes inside strings and comments do not count.
        ("    return '(' # [\nx", "    return '(' # [\n"),
        ('    return "\\"("\nx', '    return "\\"("\n'),
        ("    return 'it''s'\nx", "    return 'it''s'\n"),
        ("    s = 'open\nx", "    s = 'open\n"),
        ("    s = '''a\\\n'''\nx", "    s = '''a\\\n'''\n"),
        ("    return 1)\nx", "    return 1)\n"),
        ("", ""),
        ("\n\n    return 1\n", "\n\n    return 1\n"),
        ("\treturn 1\r\n\r\nx = 1", "\treturn 1\r\n\r\n"),
    ],
)
def test_function_body(text: str, body: str):
    assert function_body(text) == body


def test_a_line_that_the_prompt_began_is_kept():
    assert function_body("x + 1\ny = 2\n", at_line_start=False) == "x + 1\n"


@pytest.mark.parametrize("stop", STOPS)
def test_stopping_while_sampling_cuts_no_more_than_the_body(stop: str):
    assert function_body("    return 1" + stop + "x") == "    return 1\n"


def test_completion_program_runs():
    program = program_from_completion(PROBLEM, "    return pi * r ** 2\n\nprint(area('no'))\n")
    assert result(program) == pytest.approx(12.566370614359172)


@pytest.mark.parametrize(
    "answer",
    [
        "def area(r):\n    return pi * r ** 2",
        "```python\ndef area(r):\n    return pi * r ** 2\n```",
        "Sure:\n```python\ndef area(r):\n    return pi * r ** 2\n```\nHope it helps!\n```\narea(3)\n```\n",
        "First\n```sh\npip install x\n```\nthen\n```py\ndef area(r):\n    return pi * r ** 2\n```",
        "```python\ndef area(r):\n    return pi * r ** 2\n",
        "area = lambda r: pi * r ** 2",
        "```\n    return pi * r ** 2\n```",
        "def half(x):\n    return x / 2\n\ndef area(r):\n    return pi * half(2 * r) ** 2\n",
    ],
)
def test_answer_programs_run_with_the_prompts_imports(answer: str):
    assert result(program_from_answer(PROBLEM, answer)) == pytest.approx(12.566370614359172)


@pytest.mark.parametrize("answer", ["area2 = 1", "", "```\n```", "area(2)"])
def test_an_answer_without_the_function_defines_none(answer: str):
    # Not even the prompt's stub, which would return None and pass a test that expects None.
    with pytest.raises((KeyError, NameError)):
        result(program_from_answer(PROBLEM, answer))


def test_prose_is_a_syntax_error_of_the_program():
    with pytest.raises(SyntaxError):
        result(program_from_answer(PROBLEM, "I cannot do that."))


def test_setup_runs_before_the_answer():
    problem = PROBLEM.model_copy(update={"setup": "HALF = 0.5\n"})
    assert result(program_from_answer(problem, "def area(r):\n    return HALF")) == 0.5
    assert result(program_from_completion(problem, "    return HALF")) == 0.5


def test_a_prompt_that_is_no_open_function_is_not_prefixed():
    problem = PROBLEM.model_copy(update={"prompt": "Write area(r).", "setup": "HALF = 0.5"})
    assert program_from_answer(problem, "def area(r):\n    return HALF") == (
        "HALF = 0.5\ndef area(r):\n    return HALF\n"
    )


def test_code_of_answer_prefers_the_block_with_the_function():
    answer = "```\na\n```\n```\ndef f(): pass\n```"
    assert code_of_answer(answer, "f") == "def f(): pass\n"
    assert code_of_answer(answer, "g") == "a\n"
    assert code_of_answer("\nplain\n", "f") == "plain"
