"""MS-Swift in its transformers mode: supervised fine-tuning of all weights, in an environment of its own.

It trains with templates of its own only; the conversations are given to its ``chatml``, so a tokenizer whose
chat template writes anything else is refused. Packing needs FlashAttention, which its environment has not: a
step has as many conversations as our rows hold on average, unpacked. Its Megatron mode is not used: it needs
transformer_engine, hence a GPU.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from codellm_dag.recipes.training import SftRecipe
from codellm_dag.stages.protocol import Report
from codellm_dag.training.backends.protocol import Finished, Rendered, TrainingJob, TrainingRecipe
from codellm_dag.training.environments.framework import FrameworkEnvironment
from codellm_dag.training.expressing import SFT_FIELDS, refuse_all_but, refuse_kind, refuse_schedules
from codellm_dag.training.huggingface_arguments import SCHEDULES, training_arguments

ENVIRONMENT = FrameworkEnvironment.listed(Path(__file__).with_name("swift.txt"))
CONFIG, DATA = "train.json", "data/train.json"
_PARSE = f"""
import json, os
from swift.arguments import SftArguments
from swift.cli.main import parse_yaml_args
from swift.utils import parse_args
given, argv = json.load(open("{CONFIG}")), ["{CONFIG}"]
parse_yaml_args(argv)
understood, unknown = parse_args(SftArguments, argv)
assert not unknown, f"unknown arguments {{unknown}}"
def plain(value):
    value = getattr(value, "value", value)
    if isinstance(value, str) and value[:1] == "{{":
        return json.loads(value)
    return os.path.basename(value) if isinstance(value, str) else value
found = dict((name, getattr(understood, name)) for name in given)
found["torch_dtype"] = str(found["torch_dtype"]).removeprefix("torch.")
wrong = [(name, value, found[name]) for name, value in given.items() if plain(found[name]) != plain(value)]
print("\\n" + json.dumps(wrong, default=str))
"""


def version() -> str:
    """MS-Swift's version. Raises MissingEnvironmentError."""
    return ENVIRONMENT.required_version()


def refusals(recipe: TrainingRecipe) -> list[str]:
    """Pretraining, replayed rows, Muon, a linear schedule that does not end at 0, fields of later recipes."""
    if lines := refuse_kind(recipe, SftRecipe):
        return lines
    return refuse_all_but(recipe, SFT_FIELDS) + refuse_schedules(recipe, SCHEDULES)


def render(job: TrainingJob) -> Rendered:
    """Its JSON, the conversations, and the model's configuration, which its parser reads."""
    from codellm_dag.training.outside import alternating, conversations_per_row, require_chatml

    assert isinstance(job.recipe, SftRecipe)
    alternating(job.messages)
    require_chatml(job)
    model = (job.model_folder() / "config.json").read_text(encoding="utf-8")
    shared = training_arguments(job)
    shared["per_device_train_batch_size"] *= conversations_per_row(job)
    config = {
        "model": "model",
        "model_type": json.loads(model)["model_type"],
        "template": "chatml",
        "dataset": [DATA],
        "split_dataset_ratio": 0.0,
        "tuner_type": "full",
        "torch_dtype": "float32",
        "attn_impl": "sdpa",
        "max_length": job.recipe.sequence_length,
        "truncation_strategy": "delete",
        "gradient_checkpointing": False,
        "output_dir": "out",
        "add_version": False,
        "use_hf": True,
        **shared,
        "report_to": ["none"],
        "save_strategy": "steps",
        "save_steps": job.plan.steps,
        "save_only_model": True,
        "data_seed": job.plan.seed,
    }
    talks = json.dumps([{"messages": talk} for talk in job.messages], ensure_ascii=False)
    files = {CONFIG: json.dumps(config, indent=1), DATA: talks, "model/config.json": model}
    return Rendered(files, ("-m", "swift.cli.main", "sft", CONFIG), {"MODELSCOPE_OFFLINE": "1"})


def validate(rendered: Rendered) -> None:
    """By `swift.arguments.SftArguments`. Raises InvalidRecipeError, also for changed values."""
    from codellm_dag.training.outside import understood_as_written

    understood_as_written(ENVIRONMENT, rendered, _PARSE)


def train(job: TrainingJob, rendered: Rendered, report: Report) -> Finished:
    """Run it; losses come from its ``logging.jsonl``."""
    from codellm_dag.training.outside import run_framework

    result = f"out/checkpoint-{job.plan.steps}"
    return run_framework(ENVIRONMENT, job, rendered, report, "out/logging.jsonl", _point, result)


def _point(entry: Mapping[str, Any]) -> tuple[int, dict[str, float]] | None:
    if "loss" not in entry:
        return None
    step = int(entry["global_step/max_steps"].partition("/")[0])
    return step, {name: float(entry[name]) for name in ("loss", "learning_rate", "grad_norm")}
