"""Writes its one number."""


def run(recipe, inputs, out, report):
    assert not inputs
    ((name, value),) = recipe.numbers.items()
    (out / "number.txt").write_text(str(value))
    report.metric(documents=value)
    report.log(f"the number of {name} is {value}")
