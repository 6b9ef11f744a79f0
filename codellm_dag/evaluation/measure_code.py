"""Measures benchmarks of problems with tests: references first, then samples, one record each."""

from __future__ import annotations

import pyarrow as pa

from codellm_dag.evaluation.benchmarks.base import Measurement
from codellm_dag.evaluation.benchmarks.code import CodeBenchmark
from codellm_dag.evaluation.errors import BadInput
from codellm_dag.evaluation.references import check_references
from codellm_dag.evaluation.sampling import RECORD_SCHEMA, Sampler, chosen_problems
from codellm_dag.generation.loading import load_model
from codellm_dag.generation.prompting import is_chat_checkpoint
from codellm_dag.problems.grading import open_sandbox
from codellm_dag.problems.schema import Problem, read_problems
from codellm_dag.recipes.evaluation import SamplesRecipe
from codellm_dag.stages.protocol import Inputs, Report


def measure_code(
    benchmark: CodeBenchmark, recipe: SamplesRecipe, inputs: Inputs, report: Report
) -> Measurement:
    """One record a sample, in order of problem id and sample index.

    Raises ReferenceFailed or InfrastructureFailed before any model code runs if the sandbox does not pass the
    reference solutions, and BadInput if the slot 'problems' is missing or holds none of this benchmark.
    """
    block = benchmark.block(recipe)
    problems = chosen_problems(_problems(benchmark, inputs), block)
    checkpoint = inputs["checkpoint"].path
    chat = block.prompt_style == "chat" or (block.prompt_style == "auto" and is_chat_checkpoint(checkpoint))
    with open_sandbox(block.execution, report.runtime.workers) as grade:
        problems = check_references(problems, block.known_reference_failures, grade)
        left_out = len(block.known_reference_failures)
        report.log(f"{len(problems)} reference solutions pass in this sandbox, {left_out} known not to")
        model, tokenizer = load_model(checkpoint)
        sampler = Sampler(model, tokenizer, block, grade, chat)
        rows = sampler.run(problems, lambda done, total, note: report.progress(done, total, "samples", note))
    summary = {
        "problems": len(problems),
        "prompt_style": "chat" if chat else "completion",
        "samples_per_problem": block.samples_per_problem,
        "references_passed": len(problems),
        "known_reference_failures": block.known_reference_failures,
        "prompts_cut": sampler.prompts_cut,
    }
    return Measurement(pa.Table.from_pylist(rows, schema=RECORD_SCHEMA), summary)


def _problems(benchmark: CodeBenchmark, inputs: Inputs) -> list[Problem]:
    if "problems" not in inputs:
        raise BadInput(f"{benchmark.name} needs the slot 'problems': the artifact of benchmark_problems")
    problems = [problem for problem in read_problems(inputs["problems"].path) if benchmark.selects(problem)]
    if not problems:
        raise BadInput(f"the artifact in slot 'problems' holds no problem of {benchmark.name}")
    return problems
