"""A team's pod template, with the rendered one laid over it: what we say wins, what we do not say stays.

The rules are those of Kubernetes' strategic merge: mappings key by key, containers and init containers by
name, mounts by path. Variables of one name are ours; volumes of one name are the template's, so that
``scratch`` can lie on a faster disk. Tolerations and the like are joined.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from codellm_dag.recipes.base import InvalidRecipeError

_KEYS = {
    "containers": "name",
    "initContainers": "name",
    "imagePullSecrets": "name",
    "volumeMounts": "mountPath",
    "volumeDevices": "devicePath",
    "ports": "containerPort",
    "hostAliases": "ip",
    "topologySpreadConstraints": "topologyKey",
}
"""Lists whose members are the same if this field is the same."""

_OURS, _THEIRS = "env", "volumes"
"""Lists by name whose members are either side's whole: a variable has one source, a volume one kind."""

_JOINED = frozenset({"tolerations", "envFrom", "add", "drop", "supplementalGroups", "sysctls"})
"""Lists of which both sides' members count."""

_ALLOWED = frozenset({"apiVersion", "kind", "metadata", "spec"})
_METADATA = frozenset({"labels", "annotations"})


def read_template(path: str) -> dict[str, Any]:
    """The ``{metadata, spec}`` of a pod template file.

    Raises InvalidRecipeError for a file that is missing, is no YAML, or is no pod template.
    """
    where = f"PodShape.pod_template = {path!r}"
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidRecipeError(f"{where}: {error.strerror}; it must be a readable YAML file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidRecipeError(f"{where}: no YAML: {error}") from None
    if not isinstance(values, dict) or not isinstance(values.get("spec"), dict):
        raise InvalidRecipeError(f"{where}: must be a mapping with 'spec' (a pod's) and perhaps 'metadata'")
    if unknown := values.keys() - _ALLOWED:
        raise InvalidRecipeError(f"{where}: {sorted(unknown)[0]!r} is unknown; allowed: metadata, spec")
    if values.get("kind", "Pod") != "Pod" or values.get("apiVersion", "v1") != "v1":
        raise InvalidRecipeError(f"{where}: kind = {values.get('kind')!r}; allowed: Pod of v1, or none")
    metadata = values.get("metadata") or {}
    if not isinstance(metadata, dict) or metadata.keys() - _METADATA:
        raise InvalidRecipeError(f"{where}: metadata may have labels and annotations, and nothing else")
    spec = values["spec"]
    for field in ("containers", "initContainers", "volumes"):
        _check_named(spec.get(field, []), f"{where}: spec.{field}")
    for container in [*spec.get("containers", []), *spec.get("initContainers", [])]:
        _check_named(container.get("env", []), f"{where}: env of container {container['name']}")
    return {"metadata": metadata, "spec": spec}


def _check_named(items: Any, where: str) -> None:
    if not isinstance(items, list) or not all(isinstance(item, dict) and item.get("name") for item in items):
        raise InvalidRecipeError(f"{where}: must be a list of mappings with 'name'")


def merge(under: Any, over: Any, name: str = "") -> Any:
    """`over` laid over `under`; `name` is the field that both are values of. Neither is changed."""
    if isinstance(under, Mapping) and isinstance(over, Mapping):
        merged = dict(under)
        for key, value in over.items():
            merged[key] = merge(under[key], value, key) if key in under else value
        return merged
    if isinstance(under, list) and isinstance(over, list):
        if name in _KEYS:
            return _merge_by(_KEYS[name], under, over)
        if name == _OURS:
            return over + _unnamed_in(over, under)
        if name == _THEIRS:
            return under + _unnamed_in(under, over)
        if name in _JOINED:
            return [*over, *(item for item in under if item not in over)]
    return over


def _merge_by(key: str, under: list[Any], over: list[Any]) -> list[Any]:
    """Ours first, each laid over its namesake, then what only the template has."""
    theirs = {item.get(key): item for item in under if isinstance(item, Mapping)}
    merged = [merge(theirs[item[key]], item) if item[key] in theirs else item for item in over]
    ours = {item[key] for item in over}
    return merged + [item for item in under if not isinstance(item, Mapping) or item.get(key) not in ours]


def _unnamed_in(names: list[Any], items: list[Any]) -> list[Any]:
    taken = {item.get("name") for item in names}
    return [item for item in items if item.get("name") not in taken]
