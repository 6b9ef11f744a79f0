"""Stage ``base_checkpoint``: a model that was trained elsewhere becomes a checkpoint like ours.

Files are copied as they are; of a GGUF file the weights are written as float32. Only safetensors and JSON are
taken: no pickles, no code (``trust_remote_code`` is never set). Nothing is trained.
"""

from __future__ import annotations

import math
import shutil
import tempfile
from pathlib import Path

from codellm_dag.generation.prompting import is_chat_checkpoint
from codellm_dag.recipes.base_models import BaseCheckpointRecipe
from codellm_dag.stages.protocol import Inputs, Report
from codellm_dag.training.output import TRAINING_FILE, write_json
from codellm_dag.training.outside_models import KEPT, files_of, packaged, resolved


class OutsideModelError(RuntimeError):
    """The model cannot be fetched or read; the message says which and why."""


def run(recipe: BaseCheckpointRecipe, inputs: Inputs, out: Path, report: Report) -> None:
    """Write the model's folder to `out`, with training.json.

    Metrics: parameters, bytes. Raises InvalidRecipeError where the model is not what the recipe names, and
    OutsideModelError.
    """
    del inputs
    with tempfile.TemporaryDirectory(prefix="base-") as scratch:
        if recipe.kind == "package":
            _read_gguf(packaged(resolved(recipe))[1], out)
        else:
            folder = Path(resolved(recipe).path) if recipe.kind == "folder" else _fetched(recipe, scratch)
            for name in files_of(folder):
                shutil.copyfile(folder / name, out / name)
    facts = {
        "stage": "base_checkpoint",
        "chat": is_chat_checkpoint(out),
        "recipe": recipe.model_dump(mode="json"),
    }
    write_json(out / TRAINING_FILE, facts)
    report.metric(parameters=_parameters(out), bytes=sum(path.stat().st_size for path in out.iterdir()))


def _fetched(recipe: BaseCheckpointRecipe, scratch: str) -> Path:
    import huggingface_hub

    try:
        folder = huggingface_hub.snapshot_download(
            recipe.repository, revision=recipe.revision, allow_patterns=list(KEPT), local_dir=scratch
        )
    except (OSError, ValueError) as error:  # what the hub's client raises, offline mode included
        raise OutsideModelError(
            f"{recipe.repository} at {recipe.revision[:12]} cannot be fetched: {str(error).splitlines()[0]}"
        ) from error
    return Path(folder)


def _read_gguf(file: Path, out: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    where = {"gguf_file": file.name, "local_files_only": True}
    plain = GgufConfig(dequantize=True)  # else it cannot be saved
    try:
        model = AutoModelForCausalLM.from_pretrained(
            file.parent, dtype=torch.float32, quantization_config=plain, **where
        )
        tokenizer = AutoTokenizer.from_pretrained(file.parent, **where)
    except ImportError as error:
        raise OutsideModelError(f"{file.name} cannot be read: {error}") from error
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    for path in out.glob("*.safetensors"):
        path.chmod(0o644)


def _parameters(folder: Path) -> int:
    """Numbers in all tensors, counted in the files' headers."""
    from safetensors import safe_open

    total = 0
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "numpy") as tensors:
            total += sum(math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118
    return total
