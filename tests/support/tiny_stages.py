"""Stages small enough for tests: they need no package and run in milliseconds."""

from __future__ import annotations

from codellm_dag.stages.registry import Stage

PACKAGE = "tests.support"


def tiny(name: str, module: str, slots: dict[str, str] | None = None, **more) -> Stage:
    """A stage whose function lives in ``tests/support/<module>.py``."""
    return Stage(
        name=name,
        kind="corpus",
        module=f"{PACKAGE}.{module}",
        recipe=f"{PACKAGE}.tiny_recipes:TinyRecipe",
        slots=slots or {},
        **more,
    )


WORDS = tiny("words", "words_stage")
JOIN = tiny("join", "join_stage", {"words": "corpus", "extra/*": "corpus"})
TROUBLE = tiny("trouble", "trouble_stage")
COUNT = tiny("count", "count_stage")
PROCESS = tiny("process", "process_stage", packages=("pyarrow",))
GROUP = tiny("group", "group_stage")
