"""One on-policy batch: which problems, their samples, grades, rewards and advantages.

Everything random follows from the recipe's seed and the step, so a resumed run repeats and skips no draw.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from codellm_dag.generation import Completion
from codellm_dag.problems.grading import Grade, GradePrograms
from codellm_dag.problems.schema import Problem
from codellm_dag.recipes.rl import RlRecipe
from codellm_dag.rl.advantages import RolloutRewards, estimator
from codellm_dag.rl.packing import GroupTokens
from codellm_dag.rl.rewards import reward_of


@dataclass(frozen=True)
class Sample:
    """One completion of a group; ``reward`` is None where the sandbox failed."""

    completion: Completion
    grade: Grade
    reward: float | None


@dataclass(frozen=True)
class Group:
    """The samples of one problem and the token ids that it was asked with."""

    problem: Problem
    prompt: tuple[int, ...]
    samples: tuple[Sample, ...]

    @property
    def rewarded(self) -> tuple[Sample, ...]:
        """The samples that have a reward."""
        return tuple(sample for sample in self.samples if sample.reward is not None)

    def tokens_of(self, samples: Sequence[Sample]) -> GroupTokens:
        """The token ids of the prompt and of `samples`."""
        return GroupTokens(self.prompt, tuple(sample.completion.token_ids for sample in samples))

    @property
    def mixed(self) -> bool:
        """Whether rewards differ, so that the group says which sample was better."""
        return len({sample.reward for sample in self.rewarded}) > 1


@dataclass(frozen=True)
class TrainedGroup:
    """What the update needs of a group: tokens, each response's advantage and sampled log-probabilities."""

    tokens: GroupTokens
    advantages: tuple[float, ...]
    sampled_logprobs: tuple[tuple[float, ...], ...]


def problems_of_step(count: int, per_step: int, step: int, seed: int) -> list[int]:
    """Indices of the problems of `step` (from 0): consecutive slices of an endless row of shuffled epochs."""
    chosen = []
    for position in range(step * per_step, (step + 1) * per_step):
        epoch, place = divmod(position, count)
        order = np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(count)
        chosen.append(int(order[place]))
    return chosen


def seed_of_step(seed: int, step: int) -> int:
    """The sampler's seed in `step`, 31 bits."""
    digest = hashlib.sha256(f"rl rollouts/{seed}/{step}".encode()).digest()
    return int.from_bytes(digest[:4], "little") >> 1


def make_groups(
    problems: Sequence[Problem],
    prompts: Sequence[Sequence[int]],
    completions: Sequence[Sequence[Completion]],
    program_of: Callable[[Problem, str], str],
    grade_programs: GradePrograms,
    recipe: RlRecipe,
) -> list[Group]:
    """Grade all completions (one list per problem) in one call and give them their rewards."""
    pairs = [
        (problem, program_of(problem, completion.text))
        for problem, row in zip(problems, completions, strict=True)
        for completion in row
    ]
    grades = iter(grade_programs(pairs))
    groups = []
    for problem, prompt, row in zip(problems, prompts, completions, strict=True):
        samples = []
        for completion in row:
            grade = next(grades)
            reward = reward_of(grade, completion.finished, recipe.reward)
            samples.append(Sample(completion, grade, reward))
        groups.append(Group(problem, tuple(prompt), tuple(samples)))
    return groups


def with_advantages(groups: Sequence[Group], recipe: RlRecipe) -> list[TrainedGroup]:
    """The groups to train on. Samples without reward are left out, and so is a group with fewer than two
    rewarded samples; with ``skip_uniform_groups`` also one whose rewards are all equal.
    """
    kept = [
        group
        for group in groups
        if len(group.rewarded) > 1 and (group.mixed or not recipe.skip_uniform_groups)
    ]
    if not kept:
        return []
    rows = [(number, sample) for number, group in enumerate(kept) for sample in group.rewarded]
    batch = RolloutRewards.of(
        [sample.reward for _, sample in rows if sample.reward is not None],
        [number for number, _ in rows],
        [len(sample.completion.token_ids) for _, sample in rows],
    )
    advantages = iter(estimator(recipe.estimator)(batch).tolist())
    return [
        TrainedGroup(
            group.tokens_of(group.rewarded),
            tuple(next(advantages) for _ in group.rewarded),
            tuple(s.completion.logprobs for s in group.rewarded),
        )
        for group in kept
    ]


def rollout_statistics(groups: Sequence[Group]) -> dict[str, float]:
    """What a batch looks like, over the samples with a reward (entropy, length: over all).

    ``entropy``: nats per token, the mean of -log p over sampled tokens, an unbiased estimate at the sampling
    temperature. ``mixed_group_share``: groups that teach something. NaN never appears: a batch without any
    reward leaves reward and pass_rate out.
    """
    samples = [sample for group in groups for sample in group.samples]
    rewards = [sample.reward for sample in samples if sample.reward is not None]
    tokens = sum(len(sample.completion.token_ids) for sample in samples)
    statistics = {
        "entropy": -math.fsum(value for sample in samples for value in sample.completion.logprobs) / tokens,
        "response_tokens": tokens / len(samples),
        "unfinished_share": fmean(not sample.completion.finished for sample in samples),
        "mixed_group_share": fmean(group.mixed for group in groups),
        "infrastructure_errors": float(len(samples) - len(rewards)),
    }
    if rewards:
        passed = [sample.grade.verdict == "pass" for sample in samples if sample.reward is not None]
        statistics["reward"] = fmean(rewards)
        statistics["pass_rate"] = fmean(passed)
    return statistics
