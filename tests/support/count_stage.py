"""Counts slowly and resumes where a killed attempt stopped."""

from __future__ import annotations

import time


def run(recipe, inputs, out, report):
    """Write ``count.txt``: the numbers 0 … count-1, each after ``seconds``; its state lies in resume_dir."""
    del inputs
    state = report.resume_dir / "done.txt"
    done = int(state.read_text()) if state.exists() else 0
    report.log(f"begins at {done}")
    for number in range(done):
        report.point(number, square=number * number)
    for number in range(done, recipe.count):
        time.sleep(recipe.seconds)
        report.point(number, square=number * number)
        report.work(number + 1 - done, 2.0 * (number + 1 - done))
        report.progress(number + 1, recipe.count, "numbers")
        fresh = state.with_suffix(".partial")
        fresh.write_text(str(number + 1))
        fresh.replace(state)
    (out / "count.txt").write_text("".join(f"{number}\n" for number in range(recipe.count)))
    report.metric(began_at=done)
