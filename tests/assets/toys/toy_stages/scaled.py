"""Multiplies a number; a factor of 13 fails."""


def run(recipe, inputs, out, report):
    if recipe.factor == 13:
        raise ValueError("thirteen is unlucky")
    value = float((inputs["total"].path / "number.txt").read_text()) * recipe.factor
    for step in range(recipe.steps):
        report.point(step, loss=value / (step + 1))
        report.progress(step + 1, recipe.steps, "steps")
    (out / "number.txt").write_text(str(value))
