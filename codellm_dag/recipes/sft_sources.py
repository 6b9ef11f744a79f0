"""Recipes of SFT data from outside material: tests that pass, doctests, edits, datasets as they are.

How they are put together for `sft_checkpoint` is `SftDataRecipe` (`problems.py`).
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from codellm_dag.recipes.base import Recipe
from codellm_dag.recipes.corpora import DecontaminationRecipe
from codellm_dag.recipes.execution import ExecutionRecipe
from codellm_dag.recipes.sources import LicenceExpression

_UNDECIDED = Field(
    default=0.01,
    ge=0,
    lt=1,
    description="Most examples, as a share, on which the sandbox may give no verdict (tried again each time) "
    "before the stage fails as infra. They are left out and never count as failed. Source: own choice.",
)


class Decontaminated(Recipe):
    """What the recipes of all instruction data share."""

    decontamination: DecontaminationRecipe = Field(
        default_factory=DecontaminationRecipe, description="Overlap with benchmarks."
    )


class InstructionFiles(Recipe):
    """Files with one request and its answer a row, and what their fields are called."""

    path: str = Field(
        default="",
        description="A .jsonl or .parquet file, or a folder of them (and of folders), with one sample a row.",
    )
    name: str = Field(
        default="", pattern=r"^[\w.@+-]*$", description="Name of the source; empty: the file's or folder's."
    )
    licence: LicenceExpression = Field(
        default="", description="SPDX licence of the samples; needed with `path` unless licence_field is set."
    )
    instruction_field: str = Field(default="instruction", min_length=1, description="Field of the request.")
    answer_field: str = Field(
        default="answer", min_length=1, description="Field of the answer: code, or text with ``` blocks."
    )
    licence_field: str = Field(default="", description="Field with a sample's SPDX licence.")
    maximum_samples: int = Field(default=0, ge=0, description="Samples to read, in order; 0 reads all.")
    maximum_bytes: int = Field(
        default=32_768,
        ge=64,
        le=1_048_576,
        description="Most bytes of a request, an answer and its tests together. Source: own choice.",
    )
    content_digest: str = Field(
        default="",
        pattern=r"^([0-9a-f]{64})?$",
        description="Digest of the files' names and bytes, filled in before the launch. Not set by hand.",
    )

    @model_validator(mode="after")
    def _has_licence(self) -> Self:
        if self.path and not (self.licence or self.licence_field):
            raise ValueError("samples of `path` need `licence` (SPDX) or `licence_field`")
        return self


class ExecutedExamplesRecipe(InstructionFiles, Decontaminated):
    """Instruction data of which only samples whose tests pass are kept.

    Without a `path` the chat examples of doctest_functions are run once more, as a chat model would answer.
    """

    tests_field: str = Field(
        default="tests",
        min_length=1,
        description="Field of the tests: assertions (text or a list), pairs of stdin and stdout, or calls "
        "with expected values.",
    )
    entry_point_field: str = Field(
        default="",
        description="Field with the name of the tested function; empty: the function of the answer that the "
        "assertions call first.",
    )
    judged_inside: bool = Field(
        default=False,
        description="Also run assertions that could not be turned into data; the program judges itself there "
        "and could forge the verdict. Without it such a sample is rejected.",
    )
    maximum_undecided: float = _UNDECIDED
    execution: ExecutionRecipe = Field(default_factory=ExecutionRecipe, description="Limits on one program.")


class InstructionDataset(InstructionFiles):
    """One dataset of a comparison; `name` is its partition."""

    path: str = Field(
        min_length=1,
        description="A .jsonl or .parquet file, or a folder of them (and of folders), with one sample a row.",
    )
    name: str = Field(pattern=r"^[A-Za-z][\w.-]*$", description="Name of the dataset, e.g. kodcode-v1.")


class InstructionDataRecipe(Decontaminated):
    """Datasets to compare as they are: `sft_checkpoint` learns from one where its `data` names it."""

    datasets: tuple[InstructionDataset, ...] = Field(
        default=(), max_length=1000, description="The datasets; each is a partition."
    )

    @model_validator(mode="after")
    def _named_once(self) -> Self:
        names = self.names()
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"'datasets' names {', '.join(twice)} more than once")
        return self

    def names(self) -> list[str]:
        """The partitions."""
        return [dataset.name for dataset in self.datasets]

    def for_partition(self, key: str) -> Self:
        """This recipe with the dataset `key` alone (none if it has no such)."""
        chosen = tuple(dataset for dataset in self.datasets if dataset.name == key)
        return self.model_copy(update={"datasets": chosen})


class DoctestFunctionsRecipe(Decontaminated):
    """Functions of the clean Python corpus with tests from their own docstrings."""

    shown_examples: int = Field(
        default=1,
        ge=0,
        le=100,
        description="Examples of a docstring that stay in the prompt, if more can be tests; the others are "
        "the hidden tests, so that no test's answer is in the prompt. Source: own choice.",
    )
    maximum_lines: int = Field(
        default=80, ge=1, le=10_000, description="Most lines of a function and its helpers. Own choice."
    )
    maximum_functions: int = Field(
        default=0, ge=0, description="Functions with doctests to look at, in the corpus' order; 0: all."
    )
    maximum_undecided: float = _UNDECIDED
    execution: ExecutionRecipe = Field(default_factory=ExecutionRecipe, description="Limits on one program.")


class EditSequencesRecipe(Decontaminated):
    """Programs as sequences of insertions, none of which brings an error (LintSeq, arXiv:2410.02749)."""

    programs: Literal["functions", "examples"] = Field(
        default="functions",
        description="functions: documented functions of the clean Python corpus, with their helpers; "
        "examples: the answers of doctest_functions and executed_examples, those that there are.",
    )
    sequences: int = Field(
        default=1,
        ge=1,
        le=100,
        description="Edit sequences sampled from each program; equal ones are taken once. Own choice: one, "
        "since the corpus has more functions than a small model needs.",
    )
    minimum_lines: int = Field(default=3, ge=1, le=1000, description="Fewest lines of a program. Own choice.")
    maximum_lines: int = Field(
        default=60,
        ge=1,
        le=1000,
        description="Most lines of a program; the time of a sequence grows with its square. Own choice.",
    )
    maximum_programs: int = Field(
        default=0, ge=0, description="Programs to look at, chosen by hash of seed and name; 0: all."
    )
    seed: int = Field(default=0, ge=0, le=2**31 - 1, description="Seed of the deletions.")

    @model_validator(mode="after")
    def _lines(self) -> Self:
        if self.minimum_lines > self.maximum_lines:
            raise ValueError("minimum_lines must not be above maximum_lines")
        return self
