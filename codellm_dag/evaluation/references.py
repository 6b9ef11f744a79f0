"""Before a score is published, the benchmark's own reference solutions must pass in the same sandbox."""

from __future__ import annotations

from collections.abc import Sequence

from codellm_dag.evaluation.errors import BadInput, InfrastructureFailed, ReferenceFailed
from codellm_dag.problems.grading import Grade, GradePrograms
from codellm_dag.problems.schema import Problem


def check_references(
    problems: Sequence[Problem], known_failures: Sequence[str], grade: GradePrograms
) -> list[Problem]:
    """Run every reference that is not a known failure; return the problems whose reference passed.

    Raises ReferenceFailed naming the tasks, InfrastructureFailed if the sandbox could not run one, and
    BadInput for a known failure that is no problem of this benchmark.
    """
    ids = {problem.problem_id for problem in problems}
    unknown = [name for name in known_failures if name not in ids]
    if unknown:
        raise BadInput(
            f"known_reference_failures names {', '.join(unknown[:5])}, which is not among the {len(ids)} "
            f"problems (for example {min(ids)})"
        )
    kept = [problem for problem in problems if problem.problem_id not in set(known_failures)]
    grades = grade([(problem, problem.program(problem.reference)) for problem in kept])
    _raise_for(kept, grades, "infrastructure_error", InfrastructureFailed, "The sandbox could not run")
    _raise_for(kept, grades, "fail", ReferenceFailed, "These reference solutions fail:")
    return kept


def _raise_for(
    problems: Sequence[Problem],
    grades: Sequence[Grade],
    verdict: str,
    error: type[Exception],
    what: str,
) -> None:
    bad = [
        f"{problem.problem_id} ({grade.passed} of {grade.total} tests; {grade.detail or 'wrong value'})"
        for problem, grade in zip(problems, grades, strict=True)
        if grade.verdict == verdict
    ]
    if bad:
        more = f" and {len(bad) - 5} more" if len(bad) > 5 else ""
        raise error(
            f"{what} {'; '.join(bad[:5])}{more}. No score is published from such a sandbox: fix it, or "
            "list the tasks in known_reference_failures if the benchmark itself is wrong"
        )
