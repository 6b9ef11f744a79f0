"""benchmark_problems, sft_data and rl_problems: files, no overlap with any benchmark, bad inputs."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from codellm_dag.problems import benchmark_problems, rl_problems, sft_data
from codellm_dag.problems.chat_files import ChatExample, Sieve
from codellm_dag.problems.schema import Problem, read_problems, write_problems
from codellm_dag.problems.sft_data import MissingExamplesError
from codellm_dag.problems.split import ContaminationError, MissingBenchmarkError, check_disjoint
from codellm_dag.recipes import InvalidRecipeError
from codellm_dag.recipes.problems import BenchmarkRecipe, RlProblemsRecipe, SftDataRecipe
from codellm_dag.stages.protocol import Inputs
from tests.modelkit.tiny import RecordingReport, artifact


def make_benchmark(folder: Path, **values: object) -> RecordingReport:
    folder.mkdir(parents=True)
    report = RecordingReport(folder)
    benchmark_problems.run(BenchmarkRecipe.parse(values), Inputs({}), folder, report)
    return report


@pytest.fixture(scope="module")
def benchmarks(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    folder = tmp_path_factory.mktemp("benchmarks")
    make_benchmark(folder / "microbench", microbench_problems=40)
    make_benchmark(folder / "humaneval", benchmark="humaneval")
    return Inputs({f"benchmark/{name}": artifact(folder / name) for name in ("humaneval", "microbench")})


def test_microbench_is_the_heldout_half_one_problem_a_template(benchmarks: Inputs) -> None:
    problems = read_problems(benchmarks["benchmark/microbench"].path)
    assert len(problems) == len({problem.template for problem in problems}) == 40
    assert {problem.split for problem in problems} == {"heldout"}
    assert problems[0].problem_id == "microbench/00"
    assert not any(problem.inside_tests for problem in problems)


def test_humaneval_is_whole_and_judged_outside(benchmarks: Inputs) -> None:
    problems = {
        problem.problem_id: problem for problem in read_problems(benchmarks["benchmark/humaneval"].path)
    }
    assert len(problems) == 164
    # HumanEval/0's second assertion: has_close_elements([1.0, 2.0, 3.9, 4.0, 5.0, 2.2], 0.05) == False
    second = problems["HumanEval/0"].tests[1]
    assert second.call.args == ("[1.0, 2.0, 3.9, 4.0, 5.0, 2.2]", "0.05")
    assert second.expected == "False"
    assert sum(bool(problem.inside_tests) for problem in problems.values()) <= 1
    assert all(problem.tests or problem.inside_tests for problem in problems.values())


def test_sft_examples_are_prompt_and_reference(benchmarks: Inputs, tmp_path: Path) -> None:
    report = RecordingReport(tmp_path)
    sft_data.run(SftDataRecipe(examples=150), benchmarks, tmp_path, report)
    rows = pq.read_table(tmp_path / "train.parquet").to_pylist()
    assert len(rows) == 150
    user, assistant = rows[0]["messages"]
    assert (user["role"], assistant["role"]) == ("user", "assistant")
    assert user["content"].startswith("def ")
    assert user["content"].endswith('"""')
    compile(f"{user['content']}\n{assistant['content']}\n", "example", "exec")
    held = {problem.template for problem in read_problems(benchmarks["benchmark/microbench"].path)}
    assert not held & {row["template"] for row in rows}
    assert report.metrics["compared_with"] == 204


def test_rl_problems_are_new_and_have_outside_tests(benchmarks: Inputs, tmp_path: Path) -> None:
    for name in ("rl", "again", "sft"):
        (tmp_path / name).mkdir()
    report = RecordingReport(tmp_path)
    for name in ("rl", "again"):
        rl_problems.run(RlProblemsRecipe(problems=80), benchmarks, tmp_path / name, report)
    sft_data.run(SftDataRecipe(examples=300), benchmarks, tmp_path / "sft", report)
    problems = read_problems(tmp_path / "rl")
    assert len(problems) == 80
    assert all(
        problem.tests and not problem.inside_tests and problem.split == "train" for problem in problems
    )
    first, second = (tmp_path / name / "problems.jsonl" for name in ("rl", "again"))
    assert first.read_bytes() == second.read_bytes()
    learnt = {
        row["messages"][0]["content"] for row in pq.read_table(tmp_path / "sft" / "train.parquet").to_pylist()
    }
    assert not learnt & {problem.prompt.rstrip("\n") for problem in problems}


def test_the_benchmark_is_needed(tmp_path: Path, benchmarks: Inputs) -> None:
    report = RecordingReport(tmp_path)
    with pytest.raises(MissingBenchmarkError, match=r"benchmark/microbench is empty \(given: humaneval\)"):
        sft_data.run(
            SftDataRecipe(),
            Inputs({"benchmark/humaneval": benchmarks["benchmark/humaneval"]}),
            tmp_path,
            report,
        )
    write_problems(tmp_path, [])
    with pytest.raises(MissingBenchmarkError, match=r"split\.json does not exist"):
        rl_problems.run(
            RlProblemsRecipe(), Inputs({"benchmark/microbench": artifact(tmp_path)}), tmp_path, report
        )


def test_a_copy_is_found_whatever_the_function_is_called(benchmarks: Inputs) -> None:
    problem = read_problems(benchmarks["benchmark/humaneval"].path)[3]
    copy = Problem(
        problem_id="stolen",
        benchmark="x",
        entry_point="other_name",
        prompt=problem.prompt.replace(problem.entry_point, "other_name").replace("    ", "  "),
        reference="    pass\n",
    )
    with pytest.raises(ContaminationError, match=f"stolen is benchmark problem {problem.problem_id}"):
        check_disjoint([copy], benchmarks.many("benchmark"))
    heldout = read_problems(benchmarks["benchmark/microbench"].path)[0]
    same_template = copy.model_copy(update={"template": heldout.template, "prompt": "def other_name():\n"})
    with pytest.raises(ContaminationError, match="microbench/00"):
        check_disjoint([same_template], benchmarks.many("benchmark"))


def test_recipes_refuse_nonsense() -> None:
    with pytest.raises(InvalidRecipeError, match="one must be 0: single steps are in the training half only"):
        BenchmarkRecipe.parse({"microbench_steps": {"one": 1}})
    with pytest.raises(InvalidRecipeError, match="all weights are 0"):
        SftDataRecipe.parse({"steps": {"one": 0, "two": 0, "three": 0, "four": 0}})
    with pytest.raises(
        InvalidRecipeError, match="benchmark 'mbpp' is not known; allowed: humaneval, microbench"
    ):
        BenchmarkRecipe().for_partition("mbpp")


def test_examples_of_others_are_mixed_in(benchmarks: Inputs, tmp_path: Path) -> None:
    for name in ("edits", "none", "plain", "mixed", "again", "only"):
        (tmp_path / name).mkdir()
    report = RecordingReport(tmp_path)
    with Sieve(tmp_path / "edits", ("lint",)) as sieve:
        for number in range(30):
            sieve.keep(ChatExample(f"edits/{number}", f"Do {number}.", f"x = {number}\n", "lib"))
    given = Inputs({**benchmarks, "examples/edit_sequences": artifact(tmp_path / "edits")})

    def made(folder: str, **values: object) -> list[dict]:
        recipe = SftDataRecipe.parse({"examples": 40, **values})
        sft_data.run(recipe, given, tmp_path / folder, report)
        return pq.read_table(tmp_path / folder / "train.parquet").to_pylist()

    others = [{"source": "edit_sequences", "examples": 10}]
    plain, mixed = made("plain"), made("mixed", others=others)
    assert pq.read_schema(tmp_path / "mixed" / "train.parquet") == pq.read_schema(
        tmp_path / "plain" / "train.parquet"
    )
    assert sorted((row for row in mixed if row["template"] != "edit_sequences"), key=str) == sorted(
        plain, key=str
    )
    edits = [row for row in mixed if row["template"] == "edit_sequences"]
    assert (len(edits), report.metrics["edit_sequences_examples"], report.metrics["examples"]) == (10, 10, 50)
    assert edits[0]["messages"][1]["content"].startswith("x = ")
    places = [number for number, row in enumerate(mixed) if row["template"] == "edit_sequences"]
    assert places != list(range(40, 50)), "they do not all come last"
    made("again", others=others)
    assert (tmp_path / "again" / "train.parquet").read_bytes() == (
        tmp_path / "mixed" / "train.parquet"
    ).read_bytes()
    assert len(made("only", examples=0, others=[{"source": "edit_sequences"}])) == 30


def test_examples_that_are_not_there_are_named(benchmarks: Inputs, tmp_path: Path) -> None:
    report = RecordingReport(tmp_path)
    recipe = SftDataRecipe.parse({"examples": 0, "others": [{"source": "doctest_functions"}]})
    with pytest.raises(MissingExamplesError, match=r"examples/doctest_functions is empty \(given: none\)"):
        sft_data.run(recipe, benchmarks, tmp_path, report)
    with Sieve(tmp_path, ("lint",)) as sieve:
        sieve.keep(ChatExample("one", "Do.", "x = 1\n", "lib"))
    given = Inputs({**benchmarks, "examples/doctest_functions": artifact(tmp_path)})
    (tmp_path / "out").mkdir()
    with pytest.raises(MissingExamplesError, match="asks for 2 of doctest_functions, which has 1"):
        sft_data.run(
            recipe.with_changes({"others": [{"source": "doctest_functions", "examples": 2}]}),
            given,
            tmp_path / "out",
            report,
        )
    with pytest.raises(InvalidRecipeError, match="examples = 0 and no others"):
        SftDataRecipe.parse({"examples": 0})
    with pytest.raises(InvalidRecipeError, match="names edit_sequences more than once"):
        SftDataRecipe.parse({"others": [{"source": "edit_sequences"}] * 2})
