"""The three patch formats of the API: JSON patch, JSON merge patch, and strategic merge patch."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from tests.cluster.bed.errors import ApiError
from tests.cluster.bed.resources import Object

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"

_MERGE_KEYS: Mapping[str, str] = {
    "containers": "name",
    "initContainers": "name",
    "ephemeralContainers": "name",
    "env": "name",
    "volumes": "name",
    "volumeMounts": "mountPath",
    "volumeDevices": "devicePath",
    "imagePullSecrets": "name",
    "hostAliases": "ip",
    "topologySpreadConstraints": "topologyKey",
    "conditions": "type",
    "ownerReferences": "uid",
    "containerPorts": "containerPort",
}
"""Lists of objects that a strategic patch merges by key; all others are replaced."""
_SETS = frozenset({"finalizers"})
"""Lists of plain values that a strategic patch merges."""


def apply(content_type: str, patch: Any, item: Object) -> Object:
    """`item` patched. Raises ApiError 400, 415 or 422."""
    if content_type == JSON_PATCH:
        if not isinstance(patch, list):
            text = "error decoding patch: json: cannot unmarshal object into Go value of type jsonpatch.Patch"
            raise ApiError(400, text)
        return _json_patch(patch, item)
    if not isinstance(patch, dict):
        raise ApiError(400, "error decoding patch: cannot unmarshal array into Go value of type map")
    if content_type == MERGE_PATCH:
        return merge(item, patch)
    if content_type == STRATEGIC_PATCH:
        return strategic(item, patch)
    known = ", ".join((JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH))
    raise ApiError(
        415, f"the body of the request was in an unknown format - accepted media types include: {known}"
    )


def merge(target: Any, patch: Any) -> Any:
    """RFC 7386: null removes, objects merge, everything else replaces."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merge(result.get(name), value)
    return result


def strategic(target: Any, patch: Mapping[str, Any]) -> Any:
    """A merge patch that merges known lists by their key; ``$patch: delete|replace`` directives work."""
    if patch.get("$patch") == "replace":
        return {name: value for name, value in patch.items() if name != "$patch"}
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if name.startswith("$deleteFromPrimitiveList/"):
            field = name.partition("/")[2]
            result[field] = [entry for entry in result.get(field) or [] if entry not in value]
        elif name.startswith("$"):
            continue  # $setElementOrder and $retainKeys change order and unions only
        elif value is None:
            result.pop(name, None)
        elif isinstance(value, dict):
            result[name] = strategic(result.get(name), value)
        elif isinstance(value, list):
            result[name] = _strategic_list(name, result.get(name) or [], value)
        else:
            result[name] = value
    return result


def _strategic_list(name: str, target: list[Any], patch: list[Any]) -> list[Any]:
    if name in _SETS:
        return [*target, *(value for value in patch if value not in target)]
    key = "containerPort" if name == "ports" and _has(patch, "containerPort") else _MERGE_KEYS.get(name)
    if name == "ports" and key is None and _has(patch, "port"):
        key = "port"
    if key is None:
        return copy.deepcopy(patch)
    if any(entry.get("$patch") == "replace" for entry in patch):
        return [entry for entry in patch if "$patch" not in entry]
    result = {entry[key]: entry for entry in target}
    for entry in patch:
        if key not in entry:
            raise ApiError(400, f"map: {entry} does not contain declared merge key: {key}")
        if entry.get("$patch") == "delete":
            result.pop(entry[key], None)
        else:
            result[entry[key]] = strategic(result.get(entry[key]), entry)
    return list(result.values())


def _has(entries: list[Any], key: str) -> bool:
    return any(isinstance(entry, dict) and key in entry for entry in entries)


def _json_patch(operations: list[Any], item: Object) -> Object:
    """RFC 6902: add, remove, replace, test, move, copy."""
    result = copy.deepcopy(item)
    for operation in operations:
        kind, path = operation.get("op"), _pointer(operation.get("path"))
        match kind:
            case "add" | "replace":
                _put(result, path, operation.get("value"), kind == "replace")
            case "remove":
                _take(result, path)
            case "test":
                if _look(result, path) != operation.get("value"):
                    raise _refused(f"testing value {operation['path']} failed")
            case "move":
                _put(result, path, _take(result, _pointer(operation["from"])), False)
            case "copy":
                _put(result, path, copy.deepcopy(_look(result, _pointer(operation["from"]))), False)
            case _:
                raise ApiError(400, f"Unexpected kind: {kind}")
    return result


def _refused(why: str) -> ApiError:
    return ApiError(422, f"the server rejected our request due to an error in our request: {why}")


def _pointer(path: Any) -> list[str]:
    if not isinstance(path, str) or (path and not path.startswith("/")):
        raise ApiError(400, f"invalid JSON pointer {path!r}")
    return [part.replace("~1", "/").replace("~0", "~") for part in path.split("/")[1:]]


def _step(place: Any, part: str) -> Any:
    try:
        return place[int(part)] if isinstance(place, list) else place[part]
    except (KeyError, IndexError, ValueError, TypeError):
        raise _refused(f"missing path: {part}") from None


def _look(place: Any, path: list[str]) -> Any:
    for part in path:
        place = _step(place, part)
    return place


def _put(root: Any, path: list[str], value: Any, must_exist: bool) -> None:
    place = _look(root, path[:-1])
    if must_exist:
        _step(place, path[-1])
    if isinstance(place, list):
        index = len(place) if path[-1] == "-" else int(path[-1])
        if must_exist:
            place[index] = value
        else:
            place.insert(index, value)
    else:
        place[path[-1]] = value


def _take(root: Any, path: list[str]) -> Any:
    place = _look(root, path[:-1])
    value = _step(place, path[-1])
    del place[int(path[-1]) if isinstance(place, list) else path[-1]]
    return value
