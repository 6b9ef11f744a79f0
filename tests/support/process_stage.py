"""Writes down what its process looks like."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from tests.support.tiny_recipes import TinyRecipe


def run(recipe: TinyRecipe, inputs, out: Path, report) -> None:
    """Facts that are no result: parents, open files, a variable, what was imported."""
    del inputs, report
    watcher = os.getppid()
    server = int(Path(f"/proc/{watcher}/stat").read_text().rpartition(")")[2].split()[1])
    files = []
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            files.append(str(descriptor.readlink()))
        except FileNotFoundError:
            continue  # the one that listed them
    facts = {
        "server": server,
        "files": files,
        "variable": os.environ.get("CODELLM_TEST_VARIABLE"),
        "pyarrow": "pyarrow.parquet" in sys.modules,
        "own_code": sorted(name for name in sys.modules if name.startswith("codellm_dag.corpora")),
    }
    (out / "_volatile").mkdir()
    (out / "_volatile/facts.json").write_text(json.dumps(facts))
    (out / "text").write_text(recipe.text)
