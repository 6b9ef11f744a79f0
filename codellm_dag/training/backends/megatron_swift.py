"""MS-Swift's Megatron mode: fine-tuning with tensor, pipeline, expert, context parallelism. Validated only.

Its own parser, `MegatronSftArguments`, reads the rendered arguments and sets up Megatron-Core's groups in a
group of processes that is only pretended to be there. Two packages that the parser imports but does not use
have no build without CUDA: Transformer Engine and Triton; empty stand-ins are put in their place, and in that
of the classes that Megatron-Core leaves empty without the former. Training needs them, so `train` starts
nothing. Which sizes the parallel degrees divide is asked when the model is known, in `render`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NoReturn

from codellm_dag.recipes.training import SftRecipe
from codellm_dag.stages.protocol import Report
from codellm_dag.training.architecture import of_config
from codellm_dag.training.backends.protocol import (
    BackendUnavailableError,
    Finished,
    Rendered,
    TrainingJob,
    TrainingRecipe,
)
from codellm_dag.training.environments.framework import FrameworkEnvironment
from codellm_dag.training.expressing import (
    SFT_FIELDS,
    TORCH_TYPES,
    half_flag,
    refuse_all_but,
    refuse_kind,
    refuse_schedules,
)
from codellm_dag.training.megatron_divides import indivisible_sizes
from codellm_dag.training.swift_arguments import CONFIG, parser, shared_arguments, shared_files

ENVIRONMENT = FrameworkEnvironment.listed(Path(__file__).with_name("swift.txt"))
GROUP = "group.json"
_SCHEDULES = {"cosine": True, "linear": True, "warmup_stable_decay": True, "constant": True}
_STAND_INS = f"""
import importlib.abc, importlib.machinery, json, sys, types
import torch
import torch.distributed as dist
from torch.testing._internal.distributed.fake_pg import FakeStore
import megatron.core.extensions.transformer_engine as extensions
group = json.load(open("{GROUP}"))
def called(kind, *given, **named):
    return given[0] if given and callable(given[0]) else object.__new__(kind)
def empty(name):
    return type(name, (), {{"__new__": called, "__call__": lambda self, given: given}})
for name in [name for name, value in vars(extensions).items() if value is None and name[:2] == "TE"]:
    setattr(extensions, name, empty(name))
class Absent(types.ModuleType):
    __path__ = []
    def __getattr__(self, name):
        if name[:2] == "__":
            raise AttributeError(name)
        return empty(name)
class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("transformer_engine", "triton"):
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
    def create_module(self, spec):
        return Absent(spec.name)
    def exec_module(self, module):
        pass
sys.meta_path.append(Finder())
import swift.megatron.arguments
sys.meta_path.pop()
for name in [name for name, module in sys.modules.items() if isinstance(module, Absent)]:
    del sys.modules[name]
dist.init_process_group("fake", rank=0, world_size=group["processes"], store=FakeStore())
if not torch.cuda.is_available():
    torch.cuda.current_device = lambda: "cpu"  # where the router's loss of a mixture of experts is set up
new_group = dist.new_group
dist.new_group = lambda *given, **named: new_group(*given, **{{**named, "backend": "fake"}})
"""
_COMPARE = """
found["attention_backend"] = found["attention_backend"].name
found["recompute_granularity"] = found["recompute_granularity"] or "none"
given["data_parallel_size"] = group["data_parallel_size"]
found["data_parallel_size"] = understood.data_parallel_size
"""
_PARSE = parser("swift.megatron.arguments:MegatronSftArguments", _STAND_INS, _COMPARE)


def version() -> NoReturn:
    """MS-Swift's version. Raises BackendUnavailableError: this mode cannot train here."""
    raise BackendUnavailableError(
        f"backend.name = megatron_swift: the Megatron mode of MS-Swift {ENVIRONMENT.version} needs "
        "transformer_engine, which its environment has not; its arguments are rendered and validated only. "
        "Allowed for training: trainer, deepspeed, fsdp2, llamafactory, swift"
    )


def refusals(recipe: TrainingRecipe) -> list[str]:
    """Pretraining, replayed rows, Muon, fields of later recipes."""
    if lines := refuse_kind(recipe, SftRecipe):
        return lines
    return refuse_all_but(recipe, SFT_FIELDS) + refuse_schedules(recipe, _SCHEDULES)


def render(job: TrainingJob) -> Rendered:
    """Its JSON, the conversations, and the model's configuration.

    Raises InvalidTrainingDataError where the parallel degrees do not divide the model's sizes, the number of
    processes, or the batch.
    """
    from codellm_dag.training import megatron_sizes as sizes
    from codellm_dag.training.outside import conversations_per_row
    from codellm_dag.training.rows import InvalidTrainingDataError

    files, backend = shared_files(job), job.backend
    model = json.loads(files["model/config.json"])
    if lines := indivisible_sizes(of_config(model), backend):
        raise InvalidTrainingDataError("the checkpoint does not fit: " + "; ".join(lines))
    sizes.check_job(job)
    each, optimizer, plan = conversations_per_row(job), job.plan.optimizer, sizes.schedule(job)
    precision = job.plan.compute.precision
    half = half_flag(precision)
    wsd = {"lr_wsd_decay_style": "linear", "lr_wsd_decay_iters": plan.get("wsd_decay_steps")}
    config = {
        **shared_arguments(job, model),
        "torch_dtype": TORCH_TYPES[precision],
        "fp16": False,  # without these two float32 becomes float16
        "bf16": False,
        **half,
        **({"accumulate_allreduce_grads_in_fp32": True} if half else {}),
        "packing": False,
        "padding_free": False,
        "attention_backend": "unfused",
        "recompute_granularity": "none",
        **sizes.recomputation(job),
        "micro_batch_size": job.micro_rows * each,
        "global_batch_size": job.plan.batch.global_rows * each,
        "train_iters": job.plan.steps,
        "optimizer": "adam",
        "lr": optimizer.learning_rate,
        "min_lr": plan["min_lr"],
        "lr_decay_style": plan["lr_decay_style"],
        "lr_decay_iters": job.plan.steps,
        "lr_warmup_iters": plan["lr_warmup_steps"],
        **(wsd if "wsd_decay_steps" in plan else {}),
        "weight_decay": optimizer.weight_decay,
        "adam_beta1": optimizer.beta1,
        "adam_beta2": optimizer.beta2,
        "adam_eps": optimizer.epsilon,
        "clip_grad": optimizer.gradient_clip,
        "seed": sizes.seed(job),
        "tensor_model_parallel_size": backend.tensor_parallel,
        "pipeline_model_parallel_size": backend.pipeline_parallel,
        "expert_model_parallel_size": backend.expert_parallel,
        "context_parallel_size": backend.context_parallel,
        "sequence_parallel": backend.tensor_parallel > 1,
        "use_distributed_optimizer": False,
        "save_strategy": "steps",
        "save_steps": job.plan.steps,
        "no_save_optim": True,
        "no_save_rng": True,
        "logging_steps": 1,
        "eval_iters": 0,
    }
    copies = job.processes // sizes.model_group(backend)
    files[GROUP] = json.dumps({"processes": job.processes, "data_parallel_size": copies})
    files[CONFIG] = json.dumps(config, indent=1)
    return Rendered(files, ("-m", "swift.cli._megatron.main", "sft", CONFIG), {"MODELSCOPE_OFFLINE": "1"})


def validate(rendered: Rendered) -> None:
    """By `MegatronSftArguments`. Raises InvalidRecipeError, also for changed values."""
    from codellm_dag.training.outside import understood_as_written

    understood_as_written(ENVIRONMENT, rendered, _PARSE)


def train(job: TrainingJob, rendered: Rendered, report: Report) -> Finished:
    """Raises BackendUnavailableError, as `version` does."""
    del job, rendered, report
    version()
