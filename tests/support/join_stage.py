"""Joins the words of its inputs."""

from __future__ import annotations


def run(recipe, inputs, out, report):
    """Write ``joined.txt``: the words, then the extras by key."""
    del report
    parts = [(inputs["words"].path / "words.txt").read_text()]
    for key, artifact in inputs.many("extra").items():
        parts.append(f"{key}: " + (artifact.path / "words.txt").read_text())
    (out / "joined.txt").write_text(recipe.text.join(parts))
