"""Adds the numbers up."""


def run(recipe, inputs, out, report):
    values = {key: int((a.path / "number.txt").read_text()) for key, a in inputs.many("number").items()}
    (out / "number.txt").write_text(str(sum(values.values()) + recipe.plus))
    report.table("numbers", [{"language": key, "number": value} for key, value in values.items()])
