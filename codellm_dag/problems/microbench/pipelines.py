"""Templates of microbench: chains of primitives, which half each belongs to, and how one becomes a problem.

A template is the tuple of its primitives' keys; names, constants and wordings vary from problem to problem.
The split is by the template's *set* of primitives, so that two templates that only order them differently are
in the same half, and single primitives are always in the training half: held-out problems ask for new
compositions of known steps. Inputs and tests are made in `testing.py`.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass

from codellm_dag.problems.microbench.primitives import (
    BOOL,
    INT,
    INTS,
    PRIMITIVES,
    STR,
    STRS,
    Primitive,
)

Template = tuple[str, ...]
"""Keys of the primitives of a problem, in order."""

SEPARATOR = " > "
"""Between the keys in a template's written name."""

_FUNCTION_NAMES = (
    "solve",
    "compute",
    "process",
    "transform",
    "build",
    "convert",
    "handle",
    "apply",
    "make",
    "derive",
    "prepare",
    "run",
    "change",
    "update",
    "adjust",
    "reduce",
    "collect",
    "extract",
    "select",
    "filter_values",
    "format_result",
    "get_result",
    "evaluate",
    "produce",
    "create",
    "modify",
    "normalize",
    "summarize",
    "translate",
    "simplify",
)
_ARGUMENT_NAMES = {
    INT: ("n", "x", "value", "number", "count", "size", "total", "num"),
    STR: ("s", "text", "line", "name", "string", "message", "label", "title"),
    INTS: ("xs", "values", "numbers", "items", "data", "nums", "scores", "sizes"),
    STRS: ("ws", "words", "names", "lines", "tokens", "parts", "labels", "keys"),
}
_NEXT_NAMES = {INT: "result", STR: "output", INTS: "list_", STRS: "pieces"}
"""Variable that holds an intermediate value whose type is not the argument's."""
_PARAMETER_NAMES = ("k", "m", "limit", "amount", "step")
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_WORDS = ("ab", "end", "new", "go", "my", "ok", "an", "re", "to", "no")
_START_WEIGHTS = {INTS: 0.45, STR: 0.2, STRS: 0.2, INT: 0.15}


@dataclass(frozen=True)
class Rendered:
    """A template with its names, constants and wordings chosen: everything of a problem but its tests.

    ``constants``: value of ``{k}`` of each step as source text ("" for none), a parameter's name where the
    value is an argument. ``arguments``: name and type of each argument.
    """

    template: Template
    entry_point: str
    arguments: tuple[tuple[str, str], ...]
    constants: tuple[str, ...]
    docstring: str

    @property
    def returns(self) -> str:
        """The annotation of the result."""
        return PRIMITIVES[self.template[-1]].target

    @property
    def prompt(self) -> str:
        """Signature and docstring."""
        arguments = ", ".join(f"{name}: {annotation}" for name, annotation in self.arguments)
        head = f"def {self.entry_point}({arguments}) -> {self.returns}:"
        return f'{head}\n    """{self.docstring}"""\n'

    @property
    def reference(self) -> str:
        """The body that completes the prompt, one step a line."""
        return body(self.template, self.constants, *self.arguments[0])


def body(template: Template, constants: tuple[str, ...], name: str, annotation: str) -> str:
    """Python source of the steps, starting from the argument `name` of type `annotation`."""
    lines = []
    variable = name
    for number, (key, constant) in enumerate(zip(template, constants, strict=True), start=1):
        primitive = PRIMITIVES[key]
        expression = primitive.code.replace("{v}", variable).replace("{k}", constant)
        if number == len(template):
            lines.append(f"    return {expression}\n")
        else:
            variable = name if primitive.target == annotation else _NEXT_NAMES[primitive.target]
            lines.append(f"    {variable} = {expression}\n")
    return "".join(lines)


def template_name(template: Template) -> str:
    """The template as one readable string."""
    return SEPARATOR.join(template)


def is_heldout(template: Template, seed: int, fraction: float) -> bool:
    """Whether `template` is in the held-out half, of which it is a member with probability `fraction`.

    Depends on the set of its primitives and the seed alone. Single primitives never are.
    """
    if len(template) < 2:
        return False
    payload = f"microbench/{seed}/" + SEPARATOR.join(sorted(set(template)))
    return int.from_bytes(hashlib.sha256(payload.encode()).digest()[:8], "big") < fraction * 2**64


def random_template(rng: random.Random, steps: int) -> Template:
    """A chain of `steps` primitives whose types fit, drawn at random."""
    while True:
        kind = rng.choices(list(_START_WEIGHTS), list(_START_WEIGHTS.values()))[0]
        chain: list[Primitive] = []
        for number in range(1, steps + 1):
            options = [option for option in _options(kind, chain) if number == steps or option.target != BOOL]
            if not options:
                break
            chain.append(rng.choices(options, [_weight(option) for option in options])[0])
            kind = chain[-1].target
        if len(chain) == steps:
            return tuple(primitive.key for primitive in chain)


def _options(kind: str, chain: list[Primitive]) -> Iterator[Primitive]:
    used = {primitive.key for primitive in chain}
    group = chain[-1].group if chain else ""
    for primitive in PRIMITIVES.values():
        if primitive.source == kind and primitive.key not in used and (not group or primitive.group != group):
            yield primitive


def _weight(primitive: Primitive) -> float:
    """Conditional steps are many variants of one thing, as are those on conditions; this evens them out."""
    head = primitive.key.partition("-")[0]
    return {"if": 0.05, "keep": 0.5, "drop": 0.5, "count": 0.25, "any": 0.25, "all": 0.25, "is": 0.5}.get(
        head, 1.0
    )


def render(template: Template, rng: random.Random) -> Rendered:
    """Choose names, constants and wordings for `template`."""
    primitives = [PRIMITIVES[key] for key in template]
    annotation = primitives[0].source
    arguments = [(rng.choice(_ARGUMENT_NAMES[annotation]), annotation)]
    constants = [_constant(primitive, rng) for primitive in primitives]
    numbered = [index for index, primitive in enumerate(primitives) if primitive.parameter == "number"]
    if numbered and rng.random() < 0.25:
        arguments.append((rng.choice(_PARAMETER_NAMES), INT))
        constants[rng.choice(numbered)] = arguments[1][0]
    clauses = [
        rng.choice(primitive.wordings).replace("{k}", constant)
        for primitive, constant in zip(primitives, constants, strict=True)
    ]
    return Rendered(
        template=template,
        entry_point=rng.choice(_FUNCTION_NAMES),
        arguments=tuple(arguments),
        constants=tuple(constants),
        docstring=_docstring(clauses, rng),
    )


def _constant(primitive: Primitive, rng: random.Random) -> str:
    if primitive.parameter == "number":
        return str(rng.randint(2, 9))
    if primitive.parameter == "letter":
        return rng.choice(_LETTERS)
    return rng.choice(_WORDS) if primitive.parameter == "word" else ""


def _docstring(clauses: list[str], rng: random.Random) -> str:
    style = rng.randrange(3)
    if style == 0:
        return ". ".join(map(_capitalized, clauses)) + "."
    if style == 1 or len(clauses) == 1:
        return _capitalized(", then ".join(clauses)) + "."
    return f"First {', then '.join(clauses[:-1])}, and finally {clauses[-1]}."


def _capitalized(text: str) -> str:
    return text[0].upper() + text[1:]
