"""Writes a text some times."""

from __future__ import annotations


def run(recipe, inputs, out, report):
    """Write ``words.txt`` and report all there is to report."""
    assert not inputs
    lines = []
    for index in range(recipe.count):
        lines.append(f"{recipe.text} {index}\n")
        report.progress(index + 1, recipe.count, "words")
        report.point(index, length=len(lines[-1]))
    (out / "words.txt").write_text("".join(lines))
    (out / "_volatile").mkdir()
    (out / "_volatile" / "note.txt").write_text("not part of the result\n")
    report.metric(words=recipe.count)
    report.table("words", [{"text": recipe.text, "count": recipe.count}])
    report.log(f"wrote {recipe.count} words")
    print("printed by the stage")
