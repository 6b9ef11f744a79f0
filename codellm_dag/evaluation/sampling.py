"""Draws samples for problems, runs them and keeps one record each."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from codellm_dag.generation import Completion
from codellm_dag.generation.engine import Generator
from codellm_dag.generation.loading import chat_prompt
from codellm_dag.generation.prompting import prompt_ids
from codellm_dag.problems.grading import Grade, GradeCache, GradePrograms
from codellm_dag.problems.programs import STOPS, program_of, user_message
from codellm_dag.problems.schema import Problem
from codellm_dag.recipes.evaluation import SamplingRecipe

RECORD_SCHEMA = pa.schema(
    [
        ("problem_id", pa.string()),
        ("template", pa.string()),
        ("sample_index", pa.int32()),
        ("prompt_digest", pa.string()),
        ("completion", pa.string()),
        ("completion_digest", pa.string()),
        ("tokens", pa.int32()),
        ("tokens_digest", pa.string()),
        ("finished", pa.bool_()),
        ("verdict", pa.string()),
        ("judged", pa.string()),
        ("tests_passed", pa.int32()),
        ("tests", pa.int32()),
        ("detail", pa.string()),
    ]
)
"""Columns of samples.parquet. Digests are SHA-256 hex: of UTF-8 text, or of token ids as little-endian int32.
``tokens`` counts sampled tokens, the end token included; ``finished`` is False where the limit cut it off."""


class Sampler:
    """Samples and grades with one model; ``prompts_cut`` counts prompts whose start did not fit."""

    def __init__(
        self, model: Any, tokenizer: Any, recipe: SamplingRecipe, grade: GradePrograms, chat: bool
    ) -> None:
        self.generator = Generator(model, tokenizer, batch_size=recipe.batch_size)
        self.recipe = recipe
        self.grade = GradeCache(grade)
        self.chat = chat
        self.prompts_cut = 0

    def run(
        self, problems: Sequence[Problem], on_progress: Callable[[int, int, str], None]
    ) -> list[dict[str, Any]]:
        """Records of all samples, by problem and sample index; `on_progress` gets done, total and a note."""
        per_problem = self.recipe.samples_per_problem
        at_once = max(1, self.recipe.batch_size // per_problem)
        total = len(problems) * per_problem
        rows: list[dict[str, Any]] = []
        passed = 0
        for start in range(0, len(problems), at_once):
            chunk = problems[start : start + at_once]
            for row in self._chunk(chunk):
                rows.append(row)
                passed += row["verdict"] == "pass"
            on_progress(len(rows), total, f"{passed / len(rows):.1%} pass")
        return rows

    def _chunk(self, problems: Sequence[Problem]) -> Iterator[dict[str, Any]]:
        prompts = [self._prompt_text(problem) for problem in problems]
        sampled = self.generator.sample(
            [self._ids(prompt) for prompt in prompts],
            samples_per_prompt=self.recipe.samples_per_problem,
            max_new_tokens=self.recipe.max_new_tokens,
            temperature=self.recipe.temperature,
            top_p=self.recipe.top_p,
            seed=self.recipe.seed,
            stop=() if self.chat else STOPS,
        )
        pairs = [
            (problem, program_of(problem, completion.text, chat=self.chat))
            for problem, row in zip(problems, sampled, strict=True)
            for completion in row
        ]
        grades = iter(self.grade(pairs))
        for problem, prompt, row in zip(problems, prompts, sampled, strict=True):
            for index, completion in enumerate(row):
                yield _record(problem, index, prompt, completion, next(grades))

    def _prompt_text(self, problem: Problem) -> str:
        if self.chat:
            return chat_prompt(self.generator.tokenizer, user_message(problem))
        return problem.prompt

    def _ids(self, prompt: str) -> Sequence[int]:
        positions = getattr(self.generator.model.config, "max_position_embeddings", None)
        ids, cut = prompt_ids(self.generator.tokenizer, prompt, self.recipe.max_new_tokens, positions)
        self.prompts_cut += cut
        return ids


def chosen_problems(problems: Sequence[Problem], recipe: SamplingRecipe) -> list[Problem]:
    """All problems, or the first ``max_problems`` in order of a hash of their ids, by id."""
    if not recipe.max_problems or recipe.max_problems >= len(problems):
        return list(problems)
    by_hash = sorted(problems, key=lambda problem: digest_of_text(problem.problem_id))
    return sorted(by_hash[: recipe.max_problems], key=lambda problem: problem.problem_id)


def digest_of_text(text: str) -> str:
    """SHA-256 hex of UTF-8 text (lone surrogates, which a model can produce, included)."""
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def _record(
    problem: Problem, index: int, prompt: str, completion: Completion, grade: Grade
) -> dict[str, Any]:
    return {
        "problem_id": problem.problem_id,
        "template": problem.template,
        "sample_index": index,
        "prompt_digest": digest_of_text(prompt),
        "completion": completion.text,
        "completion_digest": digest_of_text(completion.text),
        "tokens": len(completion.token_ids),
        "tokens_digest": hashlib.sha256(np.asarray(completion.token_ids, "<i4").tobytes()).hexdigest(),
        "finished": completion.finished,
        "verdict": grade.verdict,
        "judged": grade.judged,
        "tests_passed": grade.passed,
        "tests": grade.total,
        "detail": grade.detail,
    }
