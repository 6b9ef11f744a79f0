"""LLaMA-Factory: supervised fine-tuning of all weights, in an environment of its own (`llamafactory.txt`).

It is given the conversations and the tokenizer, whose chat template it reads for itself, and packs them
(``neat_packing``: no attention across conversations). Its parser takes almost anything; `validate` therefore
also compares what it understood with what was written. Sharding is not expressed: the environment holds no
DeepSpeed.
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

ENVIRONMENT = FrameworkEnvironment.listed(Path(__file__).with_name("llamafactory.txt"))
CONFIG, DATA = "train.yaml", "data/train.json"
_PARSE = f"""
import json, os
from omegaconf import OmegaConf
from llamafactory.hparams import get_train_args
given = OmegaConf.to_container(OmegaConf.load("{CONFIG}"))
understood = dict()
for part in get_train_args(dict(given)):
    understood.update(vars(part))
understood["cutoff_len"] += 1  # one is taken off for packing
understood["dataset"] = ",".join(understood["dataset"])
understood["lr_scheduler_type"] = getattr(understood["lr_scheduler_type"], "value", None)
understood["optim"] = getattr(understood["optim"], "value", None)
understood["report_to"] = "none" if not understood["report_to"] else understood["report_to"]
understood["save_strategy"] = getattr(understood["save_strategy"], "value", None)
plain = lambda value: os.path.normpath(value) if isinstance(value, str) else value
wrong = [
    (name, value, understood.get(name))
    for name, value in given.items()
    if plain(understood.get(name)) != plain(value)
]
print("\\n" + json.dumps(wrong, default=str))
"""


def version() -> str:
    """LLaMA-Factory's version. Raises MissingEnvironmentError."""
    return ENVIRONMENT.required_version()


def refusals(recipe: TrainingRecipe) -> list[str]:
    """Pretraining, replayed rows, Muon, a linear schedule that does not end at 0, fields of later recipes."""
    if lines := refuse_kind(recipe, SftRecipe):
        return lines
    return refuse_all_but(recipe, SFT_FIELDS) + refuse_schedules(recipe, SCHEDULES)


def render(job: TrainingJob) -> Rendered:
    """Its YAML, the conversations in its ShareGPT form, and the table of data sets."""
    import yaml

    from codellm_dag.training.outside import alternating

    assert isinstance(job.recipe, SftRecipe)
    alternating(job.messages)
    recomputes = job.plan.compute.gradient_checkpointing
    config = {
        "stage": "sft",
        "do_train": True,
        "finetuning_type": "full",
        "model_name_or_path": "model",
        "dataset": "train",
        "dataset_dir": "data",
        "cutoff_len": job.recipe.sequence_length,
        "packing": True,
        "neat_packing": True,
        "flash_attn": "sdpa",
        "disable_gradient_checkpointing": not recomputes,
        **({"use_reentrant_gc": False} if recomputes else {}),
        "preprocessing_num_workers": 1,
        "output_dir": "out",
        **training_arguments(job),
    }
    roles = {"role_tag": "role", "content_tag": "content", "system_tag": "system"}
    table = {
        "file_name": "train.json",
        "formatting": "sharegpt",
        "columns": {"messages": "messages"},
        "tags": {**roles, "user_tag": "user", "assistant_tag": "assistant"},
    }
    files = {
        CONFIG: yaml.safe_dump(config, sort_keys=False),
        DATA: json.dumps([{"messages": talk} for talk in job.messages], ensure_ascii=False),
        "data/dataset_info.json": json.dumps({"train": table}, indent=1),
    }
    return Rendered(files, ("-m", "llamafactory.launcher", CONFIG), {"DISABLE_VERSION_CHECK": "0"})


def validate(rendered: Rendered) -> None:
    """By `llamafactory.hparams.get_train_args`. Raises InvalidRecipeError, also for changed values."""
    from codellm_dag.training.outside import understood_as_written

    understood_as_written(ENVIRONMENT, rendered, _PARSE)


def train(job: TrainingJob, rendered: Rendered, report: Report) -> Finished:
    """Run it; losses come from its ``trainer_log.jsonl``."""
    from codellm_dag.training.outside import run_framework

    job.model_folder()
    return run_framework(ENVIRONMENT, job, rendered, report, "out/trainer_log.jsonl", _point, "out")


def _point(entry: Mapping[str, Any]) -> tuple[int, dict[str, float]] | None:
    if "loss" not in entry:
        return None
    return entry["current_steps"], {"loss": entry["loss"], "learning_rate": entry["lr"]}
