"""From a recipe to the training job that a backend renders: sizes by the recipe, data and model by the store.

Pretraining needs no artifact: rows, steps and the size of the vocabulary are the recipes' (the stage
`tokenizer` makes just as many entries, or fails). Fine-tuning reads the conversations and the model's
configuration and tokenizer.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from codellm_dag.cli.plan_question import PLANNED
from codellm_dag.cli.recipes import Choice
from codellm_dag.lineage.errors import LineageError
from codellm_dag.lineage.names import find_ref
from codellm_dag.recipes import InvalidRecipeError
from codellm_dag.recipes.tokens import ShardsRecipe, TokenizerRecipe
from codellm_dag.recipes.training import PretrainingRecipe, SftRecipe
from codellm_dag.store import Store
from codellm_dag.training.backends.protocol import TrainingJob

if TYPE_CHECKING:
    from codellm_dag.training.batch_schedule import BatchSchedule
    from codellm_dag.training.rows import Rows, TrainingRow

    Read = tuple[Path, Rows, list[list[dict[str, str]]], BatchSchedule]
    """Folder of the tokenizer, rows, conversations, and the steps that read them."""

_MODEL_FILES = ("config.json", "tokenizer.json", "tokenizer_config.json")


@dataclass(frozen=True)
class Sources:
    """Where fine-tuning's inputs come from: newest artifacts of `store`, or the folders that were given."""

    store: Store
    model: str = ""
    data: str = ""

    def model_folder(self, recipe: SftRecipe) -> Path:
        """The Hugging Face folder to start from. Raises InvalidRecipeError."""
        folder = self._folder("--model", self.model, recipe.base, "the model's configuration and tokenizer")
        for name in _MODEL_FILES:
            if not (folder / name).is_file():
                raise InvalidRecipeError(f"--model {folder}: has no {name}; give a Hugging Face folder")
        return folder

    def data_folder(self, recipe: SftRecipe) -> Path:
        """The folder with ``train.parquet``. Raises InvalidRecipeError."""
        asset = f"instruction_data[{recipe.data}]" if recipe.data else "sft_data"
        return self._folder("--data", self.data, asset, "the conversations")

    def _folder(self, option: str, given: str, asset: str, why: str) -> Path:
        if given:
            if not Path(given).is_dir():
                raise InvalidRecipeError(f"{option} {given!r} is not a folder")
            return Path(given).absolute()
        try:
            return self.store.local_path(find_ref(self.store, asset).artifact).absolute()
        except LineageError as error:
            raise InvalidRecipeError(
                f"sft_checkpoint is rendered with {why}: {error}; or give {option} FOLDER"
            ) from error


@dataclass
class _PlannedRows:
    """Rows of pretraining that are not made yet: only their length is known, and all that is asked for."""

    sequence_length: int

    def __len__(self) -> int:
        raise NotImplementedError("the shards of a rendered run are not read")

    def row(self, number: int) -> TrainingRow:
        raise NotImplementedError("the shards of a rendered run are not read")


def job_of(
    stage: str, choice: Choice, sources: Sources, devices: int, micro_rows: int, work: Path
) -> TrainingJob:
    """The job of `stage` on so many devices, with at most `micro_rows` rows a pass (0: no bound).

    `work` is an empty folder; in fine-tuning ``model`` in it links to the model's files. Raises
    InvalidRecipeError, and what reading the data raises.
    """
    from codellm_dag.training.batches import UnevenBatchError
    from codellm_dag.training.checkpoint_stage import plan_of
    from codellm_dag.training.megatron_sizes import model_group

    if stage not in PLANNED:
        raise InvalidRecipeError(f"{stage!r} is not rendered for a framework; allowed: {', '.join(PLANNED)}")
    recipe = choice.recipe_of(stage)
    assert isinstance(recipe, PretrainingRecipe | SftRecipe)
    if isinstance(recipe, SftRecipe):
        tokenizer, rows, messages, schedule = _fine_tuning(recipe, sources, work)
    else:
        tokenizer, rows, messages, schedule = _pretraining(recipe, choice, work)
    copies = max(1, devices // model_group(recipe.backend))
    try:
        plan = plan_of(recipe, schedule, "rendered", copies, micro_rows)
    except UnevenBatchError as error:
        raise InvalidRecipeError(f"{stage}.{error}") from error
    return TrainingJob(recipe, _unbuilt, tokenizer, rows, messages, plan, devices, work, work)


def _pretraining(recipe: PretrainingRecipe, choice: Choice, work: Path) -> Read:
    from tokenizers import Tokenizer, models

    from codellm_dag.tokens.tokenizer import TOKENIZER_FILE
    from codellm_dag.training.batch_schedule import batch_schedule

    shards, vocabulary = choice.recipe_of("token_shards"), choice.recipe_of("tokenizer")
    assert isinstance(shards, ShardsRecipe)
    assert isinstance(vocabulary, TokenizerRecipe)
    length = shards.sequence_length
    schedule = batch_schedule(recipe.batch, recipe.tokens // length, length)
    if not schedule.steps:
        raise InvalidRecipeError(
            f"pretrained_checkpoint.tokens = {recipe.tokens} is less than one step of "
            f"{recipe.batch.global_rows * length} tokens; raise it or lower batch.global_rows"
        )
    folder = work / "tokenizer"  # of the right size; its entries are in no framework's configuration
    folder.mkdir()
    entries = {str(number): number for number in range(vocabulary.vocabulary_size)}
    Tokenizer(models.WordLevel(entries, unk_token="0")).save(str(folder / TOKENIZER_FILE))
    return folder, _PlannedRows(length), [], schedule


def _fine_tuning(recipe: SftRecipe, sources: Sources, work: Path) -> Read:
    from codellm_dag.training.batch_schedule import batch_schedule
    from codellm_dag.training.chat_examples import read_messages, tokenized
    from codellm_dag.training.rows import ExampleRows

    model = sources.model_folder(recipe)
    messages = read_messages(sources.data_folder(recipe), recipe.maximum_examples)
    link_model(model, work / "model")
    rows = ExampleRows(list(tokenized(messages, model)), recipe.sequence_length, 0)
    total = recipe.epochs * len(rows) / (1.0 - recipe.replay)
    schedule = batch_schedule(recipe.batch, total, recipe.sequence_length, lambda steps: max(1, round(steps)))
    return model, rows, messages, schedule


def link_model(model: Path, folder: Path) -> None:
    """Link every file of `model` into `folder` that is not there yet."""
    folder.mkdir(exist_ok=True)
    for path in sorted(model.iterdir()):
        if path.is_file() and not (folder / path.name).exists():
            (folder / path.name).symlink_to(path.resolve())


def _unbuilt() -> NoReturn:
    raise NotImplementedError("a rendered run builds no model")
