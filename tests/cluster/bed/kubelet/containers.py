"""What a container is to run: command, arguments and variables, worked out of the pod as the kubelet does."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping

from tests.cluster.bed.resources import CONFIG_MAPS, SECRETS, Object, Resource
from tests.cluster.bed.storage import Storage

_REFERENCE = re.compile(r"\$\$|\$\(([-._a-zA-Z][-._a-zA-Z0-9]*)\)")
_LABEL = re.compile(r"metadata\.(labels|annotations)\['([^']+)'\]")


class ConfigError(Exception):
    """CreateContainerConfigError: something the container needs is not there."""


def environment(storage: Storage, pod: Object, container: Object) -> dict[str, str]:
    """The variables of a container, the last of a name counts, ``$(NAME)`` replaced. Raises ConfigError."""
    found: dict[str, str] = {}
    for source in container.get("envFrom", ()):
        values = _all_values(storage, pod, source)
        found.update({source.get("prefix", "") + name: value for name, value in values.items()})
    for variable in container.get("env", ()):
        if "valueFrom" in variable:
            value = _value_from(storage, pod, container, variable["valueFrom"])
        else:
            value = expand(variable.get("value", ""), found)
        if value is not None:
            found[variable["name"]] = value
    return found


def command(container: Object, variables: Mapping[str, str]) -> list[str]:
    """Command and arguments. An image's own entry point is not known here. Raises ConfigError."""
    words = [*container.get("command", ()), *container.get("args", ())]
    if not container.get("command"):
        raise ConfigError(f"container {container['name']} names no command")
    return [expand(word, variables) for word in words]


def expand(text: str, variables: Mapping[str, str]) -> str:
    """``$(NAME)`` becomes its value, stays as it is if there is no such variable; ``$$`` becomes ``$``."""
    return _REFERENCE.sub(lambda m: "$" if m[0] == "$$" else variables.get(m[1], m[0]), text)


def _all_values(storage: Storage, pod: Object, source: Object) -> dict[str, str]:
    for field, resource in (("secretRef", SECRETS), ("configMapRef", CONFIG_MAPS)):
        if field in source:
            return _data(storage, resource, pod, source[field]) or {}
    return {}


def _value_from(storage: Storage, pod: Object, container: Object, source: Object) -> str | None:
    if field := source.get("fieldRef"):
        return _field(pod, field["fieldPath"])
    if field := source.get("resourceFieldRef"):
        kind, _, name = field["resource"].partition(".")
        return str(container.get("resources", {}).get(kind, {}).get(name, "0"))
    for field, resource in (("secretKeyRef", SECRETS), ("configMapKeyRef", CONFIG_MAPS)):
        if reference := source.get(field):
            values = _data(storage, resource, pod, reference)
            if values is None or reference["key"] in values:
                return None if values is None else values[reference["key"]]
            if reference.get("optional"):
                return None
            raise ConfigError(f"couldn't find key {reference['key']} in {resource.kind} {reference['name']}")
    raise ConfigError(f"unknown source {source}")


def _data(storage: Storage, resource: Resource, pod: Object, reference: Object) -> dict[str, str] | None:
    namespace = pod["metadata"]["namespace"]
    item = storage.get(resource, (namespace, reference["name"]))
    if item is None:
        if reference.get("optional"):
            return None
        raise ConfigError(f'{resource.kind.lower()} "{reference["name"]}" not found')
    values: dict[str, str] = {}
    for name, value in (item.get("data") or {}).items():
        values[name] = base64.b64decode(value).decode() if resource == SECRETS else value
    return values


def _field(pod: Object, path: str) -> str:
    if found := _LABEL.fullmatch(path):
        return str((pod["metadata"].get(found[1]) or {}).get(found[2], ""))
    value: object = pod
    for name in path.split("."):
        value = value.get(name, "") if isinstance(value, dict) else ""
    return str(value)
