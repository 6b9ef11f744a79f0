"""TorchTitan: pretraining with FSDP2, tensor, pipeline and context parallelism. Validated, not run here.

``titan_job.py`` is a module of configuration as TorchTitan's own are, with our model's sizes; the rest are
options of its command line. `validate` builds its configuration objects and the model without weights. It
runs on GPUs only (on CPUs it needs patches), and it packs raw text by itself, so our shards are not read:
`train` starts nothing.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NoReturn

from codellm_dag.recipes.training import PretrainingRecipe
from codellm_dag.stages.protocol import Report
from codellm_dag.training.backends.protocol import (
    BackendUnavailableError,
    Finished,
    Rendered,
    TrainingJob,
    TrainingRecipe,
)
from codellm_dag.training.environments.framework import FrameworkEnvironment
from codellm_dag.training.expressing import (
    PRETRAINING_FIELDS,
    TORCH_TYPES,
    refuse_all_but,
    refuse_kind,
    refuse_precisions,
)
from codellm_dag.training.megatron_divides import indivisible

ENVIRONMENT = FrameworkEnvironment.listed(Path(__file__).with_name("torchtitan.txt"))
MODULE, WORDS = "titan_job.py", "words.json"
_MODULE = """\
from functools import partial
from torch import nn
from torchtitan.components.loss import CrossEntropyLoss
from torchtitan.components.optimizer import default_adamw
from torchtitan.distributed.activation_checkpoint import FullAC
from torchtitan.distributed.pipeline_parallel import pipeline_llm
from torchtitan.models.common import ComplexRoPE, Embedding, Linear, RMSNorm
from torchtitan.models.llama3 import Llama3Model, _build_llama3_layers, parallelize_llama
from torchtitan.models.llama3.state_dict_adapter import Llama3StateDictAdapter
from torchtitan.protocols.model_spec import ModelSpec
from torchtitan.trainer import Trainer


def job():
    width, entries = {hidden_size}, {vocabulary}
    start = {{"weight": partial(nn.init.normal_, std={initializer_range})}}
    rope = ComplexRoPE.Config(
        dim=width // {heads}, max_seq_len={maximum_positions}, theta={rope_theta}, scaling="none"
    )
    model = Llama3Model.Config(
        dim=width,
        vocab_size=entries,
        enable_weight_tying={tie_embeddings},
        tok_embeddings=Embedding.Config(num_embeddings=entries, embedding_dim=width, param_init=start),
        norm=RMSNorm.Config(normalized_shape=width, param_init={{"weight": nn.init.ones_}}),
        lm_head=Linear.Config(in_features=width, out_features=entries, param_init=start),
        layers=_build_llama3_layers(
            fuse_qkv=True,
            n_layers={layers},
            dim=width,
            n_heads={heads},
            n_kv_heads={kv_heads},
            hidden_dim={intermediate_size},
            rope=rope,
            attn_backend="flex",
        ),
    )
    spec = ModelSpec(
        name="llama3",
        flavor="job",
        model=model,
        parallelize_fn=parallelize_llama,
        pipelining_fn=pipeline_llm,
        post_optimizer_build_fn=None,
        state_dict_adapter=Llama3StateDictAdapter,
    )
    optimizer = default_adamw(lr={learning_rate}, betas={betas}, eps={epsilon}, weight_decay={weight_decay})
    loss = CrossEntropyLoss.Config(global_vocab_size=entries)
    recomputed = FullAC.Config() if {recomputes} else None
    return Trainer.Config(model_spec=spec, optimizer=optimizer, loss=loss, activation_checkpoint=recomputed)
"""
_PARSE = f"""
import json, sys
sys.path.insert(0, ".")
import torch
from torchtitan.config import ConfigManager
config = ConfigManager().parse_args(json.load(open("{WORDS}")))
model = config.model_spec.model
model.update_from_config(config=config)
with torch.device("meta"):
    built = model.build()
print("\\n" + json.dumps(sum(parameter.numel() for parameter in built.parameters())))
"""


def version() -> NoReturn:
    """TorchTitan's version. Raises BackendUnavailableError: it cannot train here."""
    raise BackendUnavailableError(
        f"backend.name = torchtitan: TorchTitan {ENVIRONMENT.version} does not read our shards; its "
        "configuration is rendered and validated only. Allowed for training: trainer, deepspeed, fsdp2"
    )


def refusals(recipe: TrainingRecipe) -> list[str]:
    """Fine-tuning, Muon, sizes that do not divide, tied embeddings in a pipeline, fields of later recipes."""
    if lines := refuse_kind(recipe, PretrainingRecipe):
        return lines
    assert isinstance(recipe, PretrainingRecipe)
    model, backend = recipe.model, recipe.backend
    lines = refuse_all_but(recipe, PRETRAINING_FIELDS) + indivisible(recipe)
    lines += refuse_precisions(recipe, ("fp32", "bf16"), "has no float16")
    if model.kv_heads % backend.tensor_parallel and backend.tensor_parallel % model.kv_heads == 0:
        lines.append(
            f"model.kv_heads = {model.kv_heads}: torchtitan copies no key heads; allowed: a multiple of "
            f"backend.tensor_parallel = {backend.tensor_parallel}"
        )
    if model.tie_embeddings and backend.pipeline_parallel > 1:
        lines.append(
            "model.tie_embeddings = True: not in a pipeline of torchtitan; allowed with "
            f"backend.pipeline_parallel = {backend.pipeline_parallel}: False"
        )
    return lines


def render(job: TrainingJob) -> Rendered:
    """Its module of configuration and the options of its command line."""
    from codellm_dag.tokens import tokenizer
    from codellm_dag.training.megatron_sizes import check_job

    check_job(job)
    assert isinstance(job.recipe, PretrainingRecipe)
    optimizer = job.plan.optimizer
    text = _MODULE.format(
        **job.recipe.model.model_dump(),
        vocabulary=tokenizer.load(job.tokenizer).get_vocab_size(),
        learning_rate=optimizer.learning_rate,
        betas=(optimizer.beta1, optimizer.beta2),
        epsilon=optimizer.epsilon,
        weight_decay=optimizer.weight_decay,
        recomputes=job.plan.compute.gradient_checkpointing,
    )
    words = ["--module", "titan_job", "--config", "job"]
    for name, value in _options(job).items():
        words += [f"--{name}", str(value)]
    return Rendered({MODULE: text, WORDS: json.dumps(words)}, ("-m", "torchtitan.train", *words))


def _options(job: TrainingJob) -> dict[str, Any]:
    optimizer, backend, steps = job.plan.optimizer, job.backend, job.plan.steps
    warmup = math.ceil(optimizer.warmup_fraction * steps)
    wsd = optimizer.schedule == "warmup_stable_decay"
    group = backend.tensor_parallel * backend.pipeline_parallel * backend.context_parallel
    shard = backend.hybrid_sharding or job.processes // group
    return {
        "training.local_batch_size": job.micro_rows,
        "training.global_batch_size": job.plan.batch.global_rows,
        "training.seq_len": job.rows.sequence_length,
        "training.max_norm": optimizer.gradient_clip,
        "training.steps": steps,
        "training.dtype": "float32",
        "training.mixed_precision_param": TORCH_TYPES[job.plan.compute.precision],
        "lr_scheduler.warmup_steps": warmup,
        "lr_scheduler.decay_type": "cosine" if optimizer.schedule == "cosine" else "linear",
        "lr_scheduler.min_lr_factor": 1.0 if optimizer.schedule == "constant" else optimizer.final_fraction,
        **({"lr_scheduler.decay_ratio": optimizer.decay_fraction * (steps - warmup) / steps} if wsd else {}),
        "parallelism.data_parallel_replicate_degree": job.processes // group // shard,
        "parallelism.data_parallel_shard_degree": shard,
        "parallelism.tensor_parallel_degree": backend.tensor_parallel,
        "parallelism.pipeline_parallel_degree": backend.pipeline_parallel,
        "parallelism.context_parallel_degree": backend.context_parallel,
        "debug.seed": job.plan.seed,
    }


def validate(rendered: Rendered) -> None:
    """Parse with its `ConfigManager` and build the model on no device. Raises InvalidRecipeError."""
    parameters(rendered)


def parameters(rendered: Rendered) -> int:
    """Parameters of the model that TorchTitan builds, while it validates everything."""
    from codellm_dag.training.outside import parse_with

    return parse_with(ENVIRONMENT, rendered, _PARSE)


def train(job: TrainingJob, rendered: Rendered, report: Report) -> Finished:
    """Raises BackendUnavailableError, as `version` does."""
    del job, rendered, report
    version()
