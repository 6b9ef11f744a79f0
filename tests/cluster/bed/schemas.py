"""Admission by the published schemas (of the package `kubernetes-validate`), strict, compiled once a kind."""

from __future__ import annotations

import functools
import json
from importlib import resources as packages
from typing import Any

from jsonschema import Draft202012Validator, ValidationError
from referencing import Registry
from referencing import Resource as Schema

from tests.cluster.bed import errors
from tests.cluster.bed.errors import ApiError
from tests.cluster.bed.resources import Object, Resource

VERSION = "1.37"
"""Kubernetes version whose schemas are used."""


def check(resource: Resource, item: Object, version: str = VERSION) -> None:
    """Raise ApiError 400 for unknown fields and wrong types, 422 for missing fields."""
    if resource.custom:
        return
    name = str(item.get("metadata", {}).get("name") or item.get("metadata", {}).get("generateName") or "")
    found = sorted(
        _validator(resource, version).iter_errors(item), key=lambda error: list(error.absolute_path)
    )
    undecodable = [text for error in found if (text := _undecodable(error))]
    if undecodable:
        start = f'{resource.kind} in version "{resource.version}" cannot be handled as a {resource.kind}'
        raise ApiError(400, f"{start}: {', '.join(undecodable)}")
    if found:
        raise errors.invalid(resource, name, [_cause(error) for error in found])


@functools.cache
def _validator(resource: Resource, version: str) -> Draft202012Validator:
    folder = packages.files("kubernetes_validate") / f"kubernetes-json-schema/v{version}.0-local-strict"
    group = f"{resource.group.partition('.')[0]}-" if resource.group else ""
    schema = _load(folder, f"{resource.kind.lower()}-{group}{resource.version}.json")
    definitions = Schema.from_contents(_load(folder, "_definitions.json"))
    registry = definitions @ (Schema.from_contents(schema) @ Registry())
    return Draft202012Validator(schema, registry=registry)


def _load(folder: Any, name: str) -> Any:
    return json.loads((folder / name).read_text())


def _path(error: ValidationError) -> str:
    text = ""
    for part in error.absolute_path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _undecodable(error: ValidationError) -> str:
    """What makes the body no object of its kind: the real decoder would not read it."""
    if error.validator == "additionalProperties":
        known = set(error.schema.get("properties", {}))  # type: ignore[union-attr]
        unknown = [name for name in error.instance if name not in known]  # type: ignore[union-attr]
        start = f"{_path(error)}." if error.absolute_path else ""
        fields = ", ".join(f'unknown field "{start}{name}"' for name in unknown)
        return f"strict decoding error: {fields}"
    if error.validator in ("type", "oneOf", "anyOf", "format"):
        kind = type(error.instance).__name__
        return f"json: cannot unmarshal {kind} into field {_path(error)} of type {error.validator_value}"
    return ""


def _cause(error: ValidationError) -> tuple[str, str, str]:
    if error.validator == "required":
        missing = next(name for name in error.validator_value if name not in error.instance)  # type: ignore[union-attr]
        start = f"{_path(error)}." if error.absolute_path else ""
        return f"{start}{missing}", "FieldValueRequired", "Required value"
    return _path(error), "FieldValueInvalid", f"Invalid value: {error.message}"
