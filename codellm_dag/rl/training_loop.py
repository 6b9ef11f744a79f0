"""One step of policy training: sample, run, judge, reward, update. Knows nothing of files or reports."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from codellm_dag.generation.engine import Generator
from codellm_dag.generation.loading import chat_prompt
from codellm_dag.generation.prompting import prompt_ids
from codellm_dag.problems.grading import GradeCache, GradePrograms
from codellm_dag.problems.programs import STOPS, program_of, user_message
from codellm_dag.problems.schema import Problem
from codellm_dag.recipes.rl import RlRecipe
from codellm_dag.rl.rollouts import (
    Group,
    make_groups,
    problems_of_step,
    rollout_statistics,
    seed_of_step,
    with_advantages,
)
from codellm_dag.rl.update import PolicyUpdater


class PolicyTraining:
    """Holds what a step needs; ``seconds`` adds up the wall-clock time of its phases."""

    def __init__(
        self,
        recipe: RlRecipe,
        problems: Sequence[Problem],
        generator: Generator,
        updater: PolicyUpdater,
        grade: GradePrograms,
        reference: Any,
        chat: bool,
    ) -> None:
        self.recipe = recipe
        self.problems = problems
        self.generator = generator
        self.updater = updater
        self.grade = GradeCache(grade)
        self.reference = reference
        self.chat = chat
        self.seconds = {"sampling": 0.0, "grading": 0.0, "update": 0.0}
        self._prompts: dict[int, tuple[int, ...]] = {}

    def step(self, step: int) -> dict[str, float]:
        """Do step `step` (from 0) and return its statistics: of the rollouts and of the update.

        ``kl`` (to the start, nats a token) is measured with every checkpoint and at the last step, or in each
        step where it is part of the loss.
        """
        groups = self._roll_out(step)
        started = time.perf_counter()
        trained = with_advantages(groups, self.recipe)
        statistics = rollout_statistics(groups)
        statistics["trained_tokens"] = float(sum(group.tokens.response_tokens for group in trained))
        statistics.update(self.updater.update(trained, step))
        if "kl" not in statistics and self._measures_divergence(step):
            tokens = [group.tokens_of(group.samples) for group in groups]
            statistics["kl"] = self.updater.divergence(tokens, self.reference)
        self.seconds["update"] += time.perf_counter() - started
        return statistics

    def _measures_divergence(self, step: int) -> bool:
        return (step + 1) % self.recipe.checkpoint_every == 0 or step + 1 == self.recipe.steps

    def _roll_out(self, step: int) -> list[Group]:
        rollouts = self.recipe.rollouts
        chosen = problems_of_step(len(self.problems), rollouts.problems_per_step, step, self.recipe.seed)
        problems = [self.problems[index] for index in chosen]
        prompts = [self._prompt(index) for index in chosen]
        started = time.perf_counter()
        completions = self.generator.sample(
            prompts,
            samples_per_prompt=rollouts.group_size,
            max_new_tokens=rollouts.max_new_tokens,
            temperature=rollouts.temperature,
            seed=seed_of_step(self.recipe.seed, step),
            stop=() if self.chat else STOPS,
        )
        sampled = time.perf_counter()
        groups = make_groups(problems, prompts, completions, self._program, self.grade, self.recipe)
        self.seconds["sampling"] += sampled - started
        self.seconds["grading"] += time.perf_counter() - sampled
        return groups

    def _program(self, problem: Problem, text: str) -> str:
        return program_of(problem, text, chat=self.chat)

    def _prompt(self, index: int) -> tuple[int, ...]:
        if index not in self._prompts:
            problem, tokenizer = self.problems[index], self.generator.tokenizer
            text = chat_prompt(tokenizer, user_message(problem)) if self.chat else problem.prompt
            positions = getattr(self.generator.model.config, "max_position_embeddings", None)
            ids, _ = prompt_ids(tokenizer, text, self.recipe.rollouts.max_new_tokens, positions)
            self._prompts[index] = tuple(ids)
        return self._prompts[index]
