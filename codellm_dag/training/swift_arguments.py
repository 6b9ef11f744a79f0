"""What MS-Swift's two modes share: the conversations, the model's configuration, and asking its parser."""

from __future__ import annotations

import json
from typing import Any

from codellm_dag.recipes.training import SftRecipe
from codellm_dag.training.backends.protocol import TrainingJob

CONFIG, DATA = "train.json", "data/train.json"


def shared_files(job: TrainingJob) -> dict[str, str]:
    """The conversations, and the model's configuration, which the parser reads.

    Raises InvalidTrainingDataError where it would drop conversations or write another chat template.
    """
    from codellm_dag.training.outside import alternating, require_chatml

    alternating(job.messages)
    require_chatml(job)
    model = (job.model_folder() / "config.json").read_text(encoding="utf-8")
    talks = json.dumps([{"messages": talk} for talk in job.messages], ensure_ascii=False)
    return {DATA: talks, "model/config.json": model}


def shared_arguments(job: TrainingJob, model: dict[str, Any]) -> dict[str, Any]:
    """Arguments of both modes. `model`: the model's configuration."""
    assert isinstance(job.recipe, SftRecipe)
    return {
        "model": "model",
        "model_type": model["model_type"],
        "template": "chatml",
        "dataset": [DATA],
        "split_dataset_ratio": 0.0,
        "tuner_type": "full",
        "torch_dtype": "float32",
        "max_length": job.recipe.sequence_length,
        "truncation_strategy": "delete",
        "output_dir": "out",
        "add_version": False,
        "use_hf": True,
    }


def parser(arguments: str, before: str = "", after: str = "") -> str:
    """A program for `outside.understood_as_written`.

    `arguments` is the class, ``module:Name``; `before` is run before it is imported. `after` may change
    ``found``, what was understood by name, and add to ``given``, what was written.
    """
    module, _, name = arguments.partition(":")
    return f"""{before}
import json, os
from {module} import {name}
from swift.cli.main import parse_yaml_args
from swift.utils import parse_args
given, argv = json.load(open("{CONFIG}")), ["{CONFIG}"]
parse_yaml_args(argv)
understood, unknown = parse_args({name}, argv)
assert not unknown, f"unknown arguments {{unknown}}"
def plain(value):
    value = getattr(value, "value", value)
    if isinstance(value, str) and value[:1] == "{{":
        return json.loads(value)
    return os.path.basename(value) if isinstance(value, str) else value
found = dict((name, getattr(understood, name)) for name in given)
found["torch_dtype"] = str(found["torch_dtype"]).removeprefix("torch.")
{after}
wrong = [(name, value, found[name]) for name, value in given.items() if plain(found[name]) != plain(value)]
print("\\n" + json.dumps(wrong, default=str))
"""
