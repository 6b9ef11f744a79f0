"""From what a model wrote to the program that is run: cutting a completion, unwrapping a chat answer.

Python only. Nothing here parses a model's text with `ast` or runs it: deep nesting can kill a parser, and the
program is judged in the sandbox anyway.
"""

from __future__ import annotations

import ast
import re

from codellm_dag.problems.schema import Problem

STOPS = ("\ndef ", "\nclass ", "\nif ", "\nprint(", "\nassert ", "\nimport ", "\nfrom ", "\n@", "\n```")
"""Strings at which sampling a completion may stop: `function_body` would cut the text there."""

_FENCE = re.compile(r"```[^\n`]*\n(.*?)(?:```|\Z)", re.DOTALL)
_BRACKETS = {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}


def user_message(problem: Problem) -> str:
    """The user's turn that asks a chat model for `problem`: signature and docstring say what is wanted."""
    return problem.prompt.rstrip("\n")


def program_of(problem: Problem, text: str, *, chat: bool) -> str:
    """The program for what a model wrote: an answer to a chat turn, or a continuation of the prompt."""
    return program_from_answer(problem, text) if chat else program_from_completion(problem, text)


def program_from_completion(problem: Problem, completion: str) -> str:
    """The program for a text that continues the prompt: prompt plus the text's function body."""
    return problem.program(function_body(completion, at_line_start=problem.prompt.endswith("\n")))


def program_from_answer(problem: Problem, answer: str) -> str:
    """The program for a chat answer: plain code, or code between ``` lines.

    Code that defines the entry point runs after the prompt's imports and helpers; code that does not and is
    indented is taken as the body that continues the prompt; any other code runs alone, and fails because the
    entry point is missing.
    """
    code = code_of_answer(answer, problem.entry_point)
    if _defines(code, problem.entry_point):
        return f"{prompt_as_stub(problem)}{code.rstrip()}\n"
    first = next((line for line in code.split("\n") if line.strip()), "")
    if first[:1] in {" ", "\t"}:
        return program_from_completion(problem, code)
    # Without the stub: it would define the function, and a test that expects None would pass.
    return f"{problem.setup}\n{code.rstrip()}\n"


def code_of_answer(answer: str, entry_point: str) -> str:
    """The code in a chat answer: the first ``` block that defines `entry_point`, else the first block, else
    the whole answer. A block that is never closed reaches to the end.
    """
    blocks = _FENCE.findall(answer)
    if not blocks:
        return answer.strip("\n")
    return next((block for block in blocks if _defines(block, entry_point)), blocks[0])


def function_body(text: str, *, at_line_start: bool = True) -> str:
    """`text` up to the first line that leaves the function whose body it continues.

    That is a line that starts in column 0 with anything but white space or a comment, outside brackets and
    strings and not after a backslash. With ``at_line_start=False`` the first line continues a line of the
    prompt and is always kept.
    """
    lines = text.split("\n")
    state = _LineState()
    for number, line in enumerate(lines):
        starts_statement = state.outside and (number > 0 or at_line_start)
        if starts_statement and line[:1] not in {"", " ", "\t", "\r", "#"}:
            kept = lines[:number]
            return "\n".join([*kept, ""]) if kept else ""
        state.read(line)
    return text


class _LineState:
    """Whether the next line starts a statement: no bracket, string or backslash is open."""

    def __init__(self) -> None:
        self.depth = 0
        self.quote = ""
        self.continued = False

    @property
    def outside(self) -> bool:
        return not (self.depth or self.quote or self.continued)

    def read(self, line: str) -> None:
        position = 0
        self.continued = False
        while position < len(line):
            position = self._in_string(line, position) if self.quote else self._in_code(line, position)
        if len(self.quote) == 1 and not self.continued:
            self.quote = ""  # a one-line string ends with its line, closed or not

    def _in_code(self, line: str, position: int) -> int:
        char = line[position]
        if char == "#":
            return len(line)
        if char in "'\"":
            self.quote = char * 3 if line.startswith(char * 3, position) else char
            return position + len(self.quote)
        if char == "\\" and position == len(line) - 1:
            self.continued = True
        self.depth = max(0, self.depth + _BRACKETS.get(char, 0))
        return position + 1

    def _in_string(self, line: str, position: int) -> int:
        if line[position] == "\\":
            self.continued = position == len(line) - 1
            return position + 2
        if line.startswith(self.quote, position):
            position += len(self.quote)
            self.quote = ""
            return position
        return position + 1


def _defines(code: str, name: str) -> bool:
    pattern = rf"^(?:(?:async[ \t]+)?def[ \t]+{re.escape(name)}\b|{re.escape(name)}[ \t]*=)"
    return re.search(pattern, code, re.MULTILINE) is not None


def prompt_as_stub(problem: Problem) -> str:
    """Setup and prompt with an empty body, so that imports and helpers of the prompt exist for an answer.

    Only the setup when the prompt does not end in an open function.
    """
    for indent in ("    ", "\t", "  "):
        stub = problem.program(f"{indent}pass")
        try:
            ast.parse(stub)
        except SyntaxError:
            continue
        return f"{stub}\n"
    return f"{problem.setup}\n" if problem.setup else ""
