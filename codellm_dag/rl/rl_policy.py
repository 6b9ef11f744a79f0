"""Stage rl_policy: improves a checkpoint by policy gradients on rewards from sandboxed tests.

Each step samples groups of answers from the current policy, runs them in the sandbox, judges the outputs
outside, turns rewards into advantages and makes one (or a few) AdamW updates. Same recipe, inputs and thread
count give the same bytes, also when a killed run resumes; one that is asked to end saves after its step. Runs
in one process; no distributed training, no token-level critics.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path

import torch

from codellm_dag.generation.engine import Generator
from codellm_dag.generation.loading import load_model
from codellm_dag.generation.prompting import is_chat_checkpoint
from codellm_dag.problems.grading import open_sandbox
from codellm_dag.problems.schema import read_problems
from codellm_dag.recipes.rl import RlRecipe
from codellm_dag.rl.checkpoints import PolicyState, load_state, save_state
from codellm_dag.rl.rewards import check_rewardable
from codellm_dag.rl.training_loop import PolicyTraining
from codellm_dag.rl.update import PolicyUpdater
from codellm_dag.stages.protocol import VOLATILE, Inputs, Report, Stopped
from codellm_dag.training.output import run_identity, save_model


def run(recipe: RlRecipe, inputs: Inputs, out: Path, report: Report) -> None:
    """Write the policy's Hugging Face folder to `out`, with training.json.

    Raises NoReward for problems that cannot reward safely, PolicyMismatch for a model that the packed update
    does not fit.
    """
    torch.set_num_threads(report.runtime.threads)
    problems = read_problems(inputs["problems"].path)
    check_rewardable(problems)
    start = inputs["checkpoint"].path
    model, tokenizer = load_model(start)
    chat = is_chat_checkpoint(start)
    reference = copy.deepcopy(model).requires_grad_(False)
    updater = PolicyUpdater(model, recipe, reference)
    identity = run_identity(recipe, inputs, report.runtime.threads)
    state, found = load_state(report.resume_dir, identity)
    report.log(found)
    history: list[dict[str, float]] = []
    if state is not None:
        model.load_state_dict(state.model)
        updater.optimiser.load_state_dict(state.optimiser)
        history = state.history
    for number, statistics in enumerate(history, start=1):
        report.point(number, **statistics)
    with open_sandbox(recipe.execution, report.runtime.workers) as grade:
        generator = Generator(model, tokenizer, batch_size=recipe.rollouts.generation_batch_size)
        training = PolicyTraining(recipe, problems, generator, updater, grade, reference, chat)
        for step in range(len(history), recipe.steps):
            statistics = training.step(step)
            history.append(statistics)
            report.point(step + 1, **statistics)
            report.progress(step + 1, recipe.steps, "steps", _note(statistics))
            stop = report.stop_requested()
            if step + 1 < recipe.steps and (stop or (step + 1) % recipe.checkpoint_every == 0):
                done = PolicyState(step + 1, model.state_dict(), updater.optimiser.state_dict(), history)
                save_state(report.resume_dir, done, identity)
                if stop:
                    raise Stopped(f"asked to end; saved after step {step + 1} of {recipe.steps}")
    facts = {
        "stage": "rl_policy",
        "chat": chat,
        "recipe": recipe.model_dump(mode="json"),
        "steps": len(history),
        "tokens": int(sum(row["trained_tokens"] for row in history)),
    }
    save_model(out, model, start, facts)
    report.metric(**final_metrics(history))
    _write_seconds(out, training.seconds)


def final_metrics(history: list[dict[str, float]]) -> dict[str, float]:
    """Scalars for the manifest: mean reward and pass rate of the first and last tenth of steps, totals."""
    tenth = max(1, len(history) // 10)
    metrics: dict[str, float] = {
        "steps": len(history),
        "trained_tokens": int(sum(row["trained_tokens"] for row in history)),
        "infrastructure_errors": int(sum(row["infrastructure_errors"] for row in history)),
    }
    for name in ("reward", "pass_rate", "entropy", "mixed_group_share"):
        for label, rows in (("first", history[:tenth]), ("last", history[-tenth:])):
            values = [row[name] for row in rows if name in row]
            if values:
                metrics[f"{name}_{label}"] = sum(values) / len(values)
    kl = [row["kl"] for row in history if "kl" in row]
    if kl:
        metrics["kl_last"] = kl[-1]
    return metrics


def _note(statistics: dict[str, float]) -> str:
    if "reward" not in statistics:
        return "no reward"
    return f"reward {statistics['reward']:.3f}, mixed {statistics['mixed_group_share']:.0%}"


def _write_seconds(out: Path, seconds: dict[str, float]) -> None:
    folder = out / VOLATILE
    folder.mkdir(exist_ok=True)
    rounded = {name: round(value, 3) for name, value in sorted(seconds.items())}
    (folder / "seconds.json").write_text(json.dumps(rounded) + "\n", encoding="utf-8")
