"""A run of two stages: ``python -m tests.support.pipeline STORE COUNT SECONDS``; prints the last digest."""

from __future__ import annotations

import sys

from codellm_dag.launch import LocalLauncher, materialize
from codellm_dag.store import Store
from tests.support.tiny_recipes import TinyRecipe
from tests.support.tiny_stages import COUNT, JOIN, WORDS


def main(url: str, count: str, seconds: str) -> None:
    """Words, a slow count that can be resumed, and a join of the words."""
    store = Store(url)
    launcher = LocalLauncher()
    words = materialize(store, WORDS, TinyRecipe(count=5), {}, launcher=launcher)
    slow = materialize(
        store, COUNT, TinyRecipe(count=int(count), seconds=float(seconds)), {}, launcher=launcher
    )
    join = materialize(
        store, JOIN, TinyRecipe(), {"words": words.artifact, "extra/a": words.artifact}, launcher=launcher
    )
    print(slow.artifact.content_digest, join.artifact.content_digest)


if __name__ == "__main__":
    main(*sys.argv[1:])
