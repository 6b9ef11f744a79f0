"""Draws microbench problems: templates of one half, rendered, with tests, all distinct.

The same arguments give the same problems. docs/microbench.md says what the family is and is not.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from codellm_dag.problems.microbench.pipelines import (
    Rendered,
    Template,
    is_heldout,
    random_template,
    render,
    template_name,
)
from codellm_dag.problems.microbench.testing import UnusableProblemError, choose_tests
from codellm_dag.problems.schema import Problem, Test

BENCHMARK = "microbench"
TESTS = 8
"""Hidden tests of a problem, at least."""

_MOST_TRIES = 200
"""Draws per wanted problem before giving up: the half has too few templates left."""


@dataclass(frozen=True)
class Split:
    """Which templates are held out: a share `heldout_fraction` of them, chosen by `seed`."""

    seed: int
    heldout_fraction: float

    def half(self, template: Template) -> str:
        """``train`` or ``heldout``."""
        return "heldout" if is_heldout(template, self.seed, self.heldout_fraction) else "train"


def draw(
    split: Split,
    half: str,
    steps: Mapping[int, float],
    count: int,
    seed: int,
    *,
    one_per_template: bool = False,
    tests: int = TESTS,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[tuple[Rendered, tuple[Test, ...]]]:
    """`count` rendered templates of `half` with their tests, no two with the same prompt.

    ``steps``: relative weight of each number of steps. ``one_per_template``: no template twice. ``tests``:
    fewest tests of a problem; 0 makes none. Raises ValueError when so many different problems cannot be
    found.
    """
    drawn: list[tuple[Rendered, tuple[Test, ...]]] = []
    endless = _endless(split, half, steps, seed, one_per_template, tests, _MOST_TRIES * count)
    for problem in endless:
        drawn.append(problem)
        if on_progress is not None:
            on_progress(len(drawn), count)
        if len(drawn) == count:
            return drawn
    raise ValueError(
        f"only {len(drawn)} different problems of {count} were found in the half {half!r} with steps "
        f"{dict(steps)}; ask for fewer or for more steps"
    )


def _endless(
    split: Split,
    half: str,
    steps: Mapping[int, float],
    seed: int,
    one_per_template: bool,
    tests: int,
    tries: int,
) -> Iterator[tuple[Rendered, tuple[Test, ...]]]:
    rng = random.Random(f"microbench/{half}/{seed}")
    lengths, weights = list(steps), list(steps.values())
    templates: set[Template] = set()
    prompts: set[str] = set()
    for _ in range(tries):
        template = random_template(rng, rng.choices(lengths, weights)[0])
        if split.half(template) != half or (one_per_template and template in templates):
            continue
        rendered = render(template, rng)
        if rendered.prompt in prompts:
            continue
        try:
            chosen = choose_tests(rendered, rng, tests)
        except UnusableProblemError:
            continue
        templates.add(template)
        prompts.add(rendered.prompt)
        yield rendered, chosen


def to_problem(rendered: Rendered, tests: tuple[Test, ...], problem_id: str, half: str) -> Problem:
    """`rendered` as a problem."""
    return Problem(
        problem_id=problem_id,
        benchmark=BENCHMARK,
        prompt=rendered.prompt,
        entry_point=rendered.entry_point,
        reference=rendered.reference,
        tests=tests,
        template=template_name(rendered.template),
        split="heldout" if half == "heldout" else "train",
    )
