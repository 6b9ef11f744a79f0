"""Asking costs little: no heavy import, a hit in milliseconds."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from codellm_dag.launch import InlineLauncher, materialize
from codellm_dag.store import Store
from tests.support.tiny_recipes import TinyRecipe
from tests.support.tiny_stages import JOIN, WORDS

HEAVY = (
    "torch",
    "transformers",
    "tokenizers",
    "pandas",
    "pyarrow",
    "numpy",
    "datasets",
    "s3fs",
    "fsspec",
    "dagster",
)


def test_imports_stay_light() -> None:
    code = (
        "import sys, codellm_dag.store, codellm_dag.stages.entry, codellm_dag.launch\n"
        "from codellm_dag.stages.registry import STAGES\n"
        "[stage.recipe_class() for stage in STAGES.values()]\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_hit_takes_milliseconds(tmp_path: Path) -> None:
    store = Store(tmp_path)
    words = materialize(store, WORDS, TinyRecipe(), {}, launcher=InlineLauncher()).artifact
    inputs = {"words": words, **{f"extra/{key}": words for key in range(10)}}
    materialize(store, JOIN, TinyRecipe(), inputs, launcher=InlineLauncher())
    took = []
    for _ in range(5):
        start = time.process_time()
        outcome = materialize(store, JOIN, TinyRecipe(), inputs)
        took.append(time.process_time() - start)
        assert outcome.decision.action == "reused"
    assert min(took) < 0.03, f"CPU seconds of a hit: {took}"
