"""Builds toy life cycles through the real `launch.materialize`, for the tests of lineage and of the CLI."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from toy_life_stages import recipes

from codellm_dag.launch import InlineLauncher, Outcome, materialize
from codellm_dag.stages.registry import Stage
from codellm_dag.store import Artifact, Store


def _stage(name: str, kind: str, recipe: str, slots: dict[str, str], packages: tuple[str, ...] = ()) -> Stage:
    return Stage(name, kind, f"toy_life_stages.{name}", f"toy_life_stages.recipes:{recipe}", slots, packages)


STAGES: Mapping[str, Stage] = {
    stage.name: stage
    for stage in (
        _stage("raw_corpus", "corpus", "RawCorpus", {}, ("pyarrow",)),
        _stage("clean_corpus", "corpus", "CleanCorpus", {"corpus": "corpus"}, ("pyarrow",)),
        _stage("mixture", "corpus", "Mixture", {"corpus/*": "corpus"}, ("pyarrow",)),
        _stage("pretrained_checkpoint", "checkpoint", "Training", {"corpus": "corpus"}),
        _stage("sft_checkpoint", "checkpoint", "Training", {"checkpoint": "checkpoint"}),
        _stage("samples", "samples", "Samples", {"checkpoint": "checkpoint"}),
        _stage("eval_report", "report", "Report", {"samples": "samples"}),
    )
}


class LifeCycle:
    """A toy life cycle in `store` over the Python files of `folder`, which $TOY_SOURCES names."""

    def __init__(self, store: Store, folder: Path) -> None:
        self.store = store
        self.folder = folder
        self.made: dict[str, Outcome] = {}

    def run(self, **changes: Mapping[str, Any]) -> dict[str, Artifact]:
        """Run all stages, with changed recipe fields by asset; the reports by model."""
        corpus = self._make("raw_corpus", self.raw_recipe(changes.get("raw_corpus", {})), {}, "python")
        clean = self._make(
            "clean_corpus",
            recipes.CleanCorpus(**changes.get("clean_corpus", {})),
            {"corpus": corpus},
            "python",
        )
        mixture = self._make(
            "mixture", recipes.Mixture(**changes.get("mixture", {})), {"corpus/python": clean}
        )
        pretrained = self._make(
            "pretrained_checkpoint",
            recipes.Training(**changes.get("pretrained_checkpoint", {})),
            {"corpus": mixture},
        )
        tuned = self._make(
            "sft_checkpoint",
            recipes.Training(**changes.get("sft_checkpoint", {})),
            {"checkpoint": pretrained},
            "base",
        )
        return {
            model: self._report(model, checkpoint, changes)
            for model, checkpoint in (("pretrained", pretrained), ("sft", tuned))
        }

    def raw_recipe(self, changes: Mapping[str, Any]) -> recipes.RawCorpus:
        """The recipe of the folder as it is now, its content resolved as the real one's is."""
        hasher = hashlib.sha256()
        for path in sorted(self.folder.glob("*.py")):
            hasher.update(path.name.encode() + path.read_bytes())
        source = {
            "name": "toy-stdlib",
            "path": ".",
            "content_digest": hasher.hexdigest(),
            **changes,
        }
        return recipes.RawCorpus(sources=[recipes.Source(**source)])

    def _report(self, model: str, checkpoint: Artifact, changes: Mapping[str, Any]) -> Artifact:
        key = f"{model}|microbench"
        recipe = recipes.Samples(**changes.get("samples", {}))
        samples = self._make("samples", recipe, {"checkpoint": checkpoint}, key)
        return self._make("eval_report", recipes.Report(), {"samples": samples}, key)

    def _make(
        self, stage: str, recipe: Any, inputs: Mapping[str, Artifact], partition: str | None = None
    ) -> Artifact:
        outcome = materialize(
            self.store, STAGES[stage], recipe, inputs, partition=partition, launcher=InlineLauncher()
        )
        self.made[f"{stage}/{partition}" if partition else stage] = outcome
        return outcome.artifact


def write_sources(folder: Path) -> Path:
    """A few small source files."""
    folder.mkdir(parents=True)
    for name in ("heapq", "bisect", "queue", "abc", "this"):
        (folder / f"{name}.py").write_text(f'"""Module {name}."""\n\nNAME = {name!r}\n' * (1 + len(name)))
    return folder
