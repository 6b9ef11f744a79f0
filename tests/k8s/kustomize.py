"""As much of ``kustomize build`` as the kit uses: resources, and ConfigMaps from files (without suffix)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

KIT = Path(__file__).parents[2] / "k8s"
FOLDERS = ("base", "queues", "sandbox", "ray", "trainer")

_KNOWN = {"apiVersion", "kind", "resources", "configMapGenerator", "generatorOptions"}


def build(folder: Path) -> list[dict[str, Any]]:
    """The objects of a kustomization. Raises ValueError for a field that is not understood here."""
    spec = yaml.safe_load((folder / "kustomization.yaml").read_text(encoding="utf-8"))
    if unknown := spec.keys() - _KNOWN:
        raise ValueError(f"{folder.name}/kustomization.yaml: {sorted(unknown)} is not understood here")
    objects: list[dict[str, Any]] = []
    for name in spec.get("resources", ()):
        path = folder / name
        if path.is_dir():
            objects += build(path)
        else:
            objects += yaml.safe_load_all(path.read_text(encoding="utf-8"))
    for generator in spec.get("configMapGenerator", ()):
        data = {name: (folder / name).read_text(encoding="utf-8") for name in generator["files"]}
        metadata = {"name": generator["name"], "namespace": generator["namespace"]}
        objects.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})
    return objects


def whole_kit() -> list[dict[str, Any]]:
    """The objects of all folders."""
    return [item for folder in FOLDERS for item in build(KIT / folder)]
