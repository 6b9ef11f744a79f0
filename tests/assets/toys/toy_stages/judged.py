"""Rounds a model's number."""


def run(recipe, inputs, out, report):
    report.log(recipe.benchmark)
    value = float((inputs["model"].path / "number.txt").read_text())
    (out / "number.txt").write_text(f"{value:.{recipe.digits}f}")
