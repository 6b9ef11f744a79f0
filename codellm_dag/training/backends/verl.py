"""verl: supervised fine-tuning with FSDP2, as overrides of its own Hydra configuration.

It reads the tokenizer's chat template turn by turn. It packs the tokens of a micro-batch without padding, not
rows: a step has as many conversations as our rows hold on average. Its RL trainers are not used here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from codellm_dag.recipes.training import SftRecipe
from codellm_dag.stages.protocol import Report
from codellm_dag.training.backends.protocol import Finished, Rendered, TrainingJob, TrainingRecipe
from codellm_dag.training.environments.framework import FrameworkEnvironment
from codellm_dag.training.expressing import SFT_FIELDS, refuse_all_but, refuse_kind, refuse_schedules

ENVIRONMENT = FrameworkEnvironment.listed(Path(__file__).with_name("verl.txt"))
CONFIG, WORDS, DATA, LOG = "overrides.json", "words.json", "data/train.parquet", "log.jsonl"
_PARSE = f"""
import json
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf
from verl.utils.config import omega_conf_to_dataclass
given = json.load(open("{CONFIG}"))
initialize_config_module("verl.trainer.config", version_base=None)
composed = compose("sft_trainer_engine", json.load(open("{WORDS}")))
found = dict((name, OmegaConf.select(composed, name.lstrip("+"))) for name in given)
for part in ("engine", "optim", "checkpoint", "profiler"):
    omega_conf_to_dataclass(composed[part])
plain = lambda value: OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
wrong = [(name, value, plain(found[name])) for name, value in given.items() if plain(found[name]) != value]
print("\\n" + json.dumps(wrong, default=str))
"""
_SCHEDULES = {"cosine": True, "constant": True}


def version() -> str:
    """verl's version. Raises MissingEnvironmentError, and BackendUnavailableError without a GPU."""
    from codellm_dag.training.outside import require_gpu

    found = ENVIRONMENT.required_version()
    require_gpu("verl", "its processes meet through NCCL only")
    return found


def refusals(recipe: TrainingRecipe) -> list[str]:
    """Pretraining, replayed rows, Muon, schedules but cosine and constant, fields of later recipes."""
    if lines := refuse_kind(recipe, SftRecipe):
        return lines
    return refuse_all_but(recipe, SFT_FIELDS) + refuse_schedules(recipe, _SCHEDULES)


def render(job: TrainingJob) -> Rendered:
    """Overrides of its configuration ``sft_trainer_engine``, as JSON and as its command line has them."""
    from codellm_dag.training.outside import conversations_per_row

    assert isinstance(job.recipe, SftRecipe)
    optimizer, backend, each = job.plan.optimizer, job.backend, conversations_per_row(job)
    overrides: dict[str, Any] = {
        "data.train_files": DATA,
        "data.train_batch_size": job.plan.batch.global_rows * each,
        "data.micro_batch_size_per_gpu": job.micro_rows * each,
        "data.use_dynamic_bsz": False,
        "data.max_length": job.recipe.sequence_length,
        "data.truncation": "right",
        "data.num_workers": 0,
        "model.path": "model",
        "model.enable_gradient_checkpointing": job.plan.compute.gradient_checkpointing,
        "engine.strategy": "fsdp2",
        "engine.fsdp_size": backend.hybrid_sharding or -1,
        "engine.offload_policy": backend.offload,
        "engine.model_dtype": "fp32",
        "+engine.mixed_precision": {
            "param_dtype": job.plan.compute.precision,
            "reduce_dtype": "fp32",
            "buffer_dtype": "fp32",
        },
        "engine.use_torch_compile": False,
        "engine.seed": job.plan.seed,
        "optim.optimizer": "AdamW",
        "optim.lr": optimizer.learning_rate,
        "optim.lr_warmup_steps": math.ceil(optimizer.warmup_fraction * job.plan.steps),
        "optim.lr_scheduler_type": optimizer.schedule,
        "optim.min_lr_ratio": optimizer.final_fraction,
        "optim.weight_decay": optimizer.weight_decay,
        "optim.betas": [optimizer.beta1, optimizer.beta2],
        "optim.clip_grad": optimizer.gradient_clip,
        "optim.override_optimizer_config": {"eps": optimizer.epsilon},
        "checkpoint.save_contents": ["model", "hf_model"],
        "trainer.default_local_dir": "out",
        "trainer.total_epochs": job.plan.steps,
        "trainer.total_training_steps": job.plan.steps,
        "trainer.logger": ["console", "file"],
        "trainer.seed": job.plan.seed,
        "trainer.resume_mode": "disable",
        "trainer.device": "cuda",  # see `version`: it trains on GPUs only
        "trainer.n_gpus_per_node": job.processes,
    }
    launch = (
        () if job.processes > 1 else ("torch.distributed.run", "--standalone", "--nproc-per-node=1", "-m")
    )
    words = [f"{name}={_hydra(value)}" for name, value in overrides.items()]
    return Rendered(
        {CONFIG: json.dumps(overrides, indent=1), WORDS: json.dumps(words)},
        ("-m", *launch, "verl.trainer.sft_trainer", *words),
        {"VERL_FILE_LOGGER_PATH": LOG},
    )


def _hydra(value: Any) -> str:
    """A value in the grammar of Hydra's overrides, which is JSON but for the keys of objects."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{_hydra(item)}" for key, item in value.items()) + "}"
    return json.dumps(value)


def validate(rendered: Rendered) -> None:
    """Compose the overrides with verl's configuration tree. Raises InvalidRecipeError."""
    from codellm_dag.training.outside import understood_as_written

    understood_as_written(ENVIRONMENT, rendered, _PARSE)


def write_data(job: TrainingJob, folder: Path) -> None:
    """Write the conversations below `folder`: Parquet, so not among the rendered texts."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    (folder / DATA).parent.mkdir(exist_ok=True)
    pq.write_table(pa.table({"messages": list(job.messages)}), folder / DATA)


def train(job: TrainingJob, rendered: Rendered, report: Report) -> Finished:
    """Run it; losses come from its file logger."""
    from codellm_dag.training.outside import run_framework

    job.model_folder()
    write_data(job, job.work)
    result = f"out/global_step_{job.plan.steps}/huggingface"
    return run_framework(ENVIRONMENT, job, rendered, report, LOG, _point, result)


def _point(entry: Mapping[str, Any]) -> tuple[int, dict[str, float]] | None:
    data = entry["data"]
    if "train/loss" not in data:
        return None
    names = {"loss": "train/loss", "learning_rate": "train/lr", "grad_norm": "train/grad_norm"}
    return entry["step"], {ours: data[theirs] for ours, theirs in names.items() if theirs in data}
