"""Named pod shapes: YAML files in the folder ``pods`` beside this module, and which stage takes which.

CODELLM_PODS names a preset or a YAML file. Such a file is one shape (fields of `PodShape`; ``extends``
names another that it changes), or tells the shape of each stage:

    default: cpu
    pretrained_checkpoint: gpu-8
    rl_policy: {extends: gpu-1, memory: 200Gi}

A shape without ``image`` takes CODELLM_IMAGE.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from codellm_dag.recipes.base import InvalidRecipeError
from codellm_dag.recipes.pods import PodShape

PODS_VARIABLE = "CODELLM_PODS"
IMAGE_VARIABLE = "CODELLM_IMAGE"
DEFAULT_PODS = "cpu"

_FOLDER = Path(__file__).parent / "pods"
_DEFAULT = "default"
_EXTENDS = "extends"


@dataclass(frozen=True)
class Pods:
    """The shapes of a choice: one for all stages, or some stages' own and a default."""

    shapes: Mapping[str, PodShape]

    def of(self, stage: str) -> PodShape:
        """The shape of a stage's pods."""
        return self.shapes.get(stage, self.shapes[_DEFAULT])


def pod_preset_names() -> list[str]:
    """Names of the shapes that come with the package, sorted."""
    return sorted(path.stem for path in _FOLDER.glob("*.yaml"))


def load_pods(choice: str = "", image: str = "", stages: Collection[str] = ()) -> Pods:
    """The shapes that `choice` names (a preset or a YAML file); empty: CODELLM_PODS, or ``cpu``.

    `image` is for shapes without one; empty: CODELLM_IMAGE. A file may tell the shape of `stages` and of no
    others; empty: of any. Raises InvalidRecipeError for a preset, file, stage, field or value that is not
    allowed, and for a shape without an image.
    """
    path, values = _read(choice or os.environ.get(PODS_VARIABLE) or DEFAULT_PODS)
    image = image or os.environ.get(IMAGE_VARIABLE, "")
    if _DEFAULT not in values:
        return Pods({_DEFAULT: _shape(values, path, image, path.name)})
    shapes = {}
    for stage, entry in values.items():
        where = f"{path.name}: {stage}"
        if stages and stage not in (_DEFAULT, *stages):
            raise InvalidRecipeError(
                f"{where}: there is no such stage; allowed: default, {', '.join(stages)}"
            )
        if isinstance(entry, str):
            entry = {_EXTENDS: entry}
        if not isinstance(entry, dict):
            raise InvalidRecipeError(f"{where} = {entry!r}: must be a preset, a file, or fields of a shape")
        shapes[str(stage)] = _shape(entry, path, image, where)
    return Pods(shapes)


def load_pod_shape(choice: str) -> PodShape:
    """The one shape that `choice` names. Raises InvalidRecipeError, also for a file of several."""
    pods = load_pods(choice)
    if len(pods.shapes) > 1:
        raise InvalidRecipeError(f"{choice} tells the shapes of several stages; one shape is needed here")
    return pods.of(_DEFAULT)


def _shape(values: dict[str, Any], beside: Path, image: str, where: str) -> PodShape:
    merged = _extended(values, beside, ())
    merged["image"] = merged.get("image") or image
    if not merged["image"]:
        raise InvalidRecipeError(
            f"{where}: no image; give the field 'image' or the variable {IMAGE_VARIABLE}, by digest: "
            "name@sha256:…"
        )
    return PodShape.parse(merged, where)


def _extended(values: dict[str, Any], beside: Path, seen: tuple[str, ...]) -> dict[str, Any]:
    """`values` laid over what they extend; mappings key by key, anything else replaced whole."""
    own = {name: value for name, value in values.items() if name != _EXTENDS}
    if isinstance(own.get("pod_template"), str):  # beside the file that names it
        own["pod_template"] = str(beside.parent / own["pod_template"])
    if _EXTENDS not in values:
        return own
    name = str(values[_EXTENDS])
    if name in seen:
        raise InvalidRecipeError(f"{beside.name}: extends goes round: {' → '.join([*seen, name])}")
    path, base = _read(name, beside.parent)
    if _DEFAULT in base:
        raise InvalidRecipeError(
            f"{beside.name}: extends = {name!r} tells several stages' shapes; name one shape"
        )
    merged = _extended(base, path, (*seen, name))
    for field, value in own.items():
        old = merged.get(field)
        merged[field] = old | value if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _read(choice: str, folder: Path | None = None) -> tuple[Path, dict[str, Any]]:
    is_file = choice.endswith((".yaml", ".yml"))
    path = (folder or Path()) / choice if is_file else _FOLDER / f"{choice}.yaml"
    if not path.is_file():
        raise InvalidRecipeError(
            f"pods {choice!r} do not exist; allowed: {', '.join(pod_preset_names())}, or a YAML file's path"
        )
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise InvalidRecipeError(f"{path.name} is no YAML: {error}") from error
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise InvalidRecipeError(f"{path.name}: must be a mapping of fields of a shape, or of stages")
    return path, values
