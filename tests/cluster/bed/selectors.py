"""Label and field selectors, parsed once and then applied to many objects."""

from __future__ import annotations

import re
from collections.abc import Callable

from tests.cluster.bed.errors import ApiError
from tests.cluster.bed.resources import Object

Test = Callable[[Object], bool]

_KEY = r"[A-Za-z0-9./_-]+"
_SET = re.compile(rf"({_KEY})\s+(in|notin)\s*\(([^)]*)\)$")
_EQUAL = re.compile(rf"({_KEY})\s*(==|!=|=)\s*([A-Za-z0-9._-]*)$")

_COMMON = ("metadata.name", "metadata.namespace")
_FIELDS = {
    "Pod": (*_COMMON, "spec.nodeName", "spec.restartPolicy", "spec.serviceAccountName", "status.phase"),
    "Job": (*_COMMON, "status.successful"),
    "Event": (
        *_COMMON,
        *(f"involvedObject.{name}" for name in ("kind", "namespace", "name", "uid", "apiVersion")),
        "reason",
        "type",
        "reportingComponent",
    ),
    "Secret": (*_COMMON, "type"),
    "Namespace": ("metadata.name", "status.phase"),
    "Node": ("metadata.name", "spec.unschedulable"),
}


def label_test(text: str) -> Test:
    """``a=b,c!=d,e in (f,g),h notin (i),j,!k``. Raises ApiError 400 for what does not parse."""
    tests = [_requirement(part.strip()) for part in re.split(r",(?![^(]*\))", text) if part.strip()]
    return lambda item: all(test(item["metadata"].get("labels") or {}) for test in tests)


def _requirement(text: str) -> Callable[[dict[str, str]], bool]:
    if found := _SET.match(text):
        key, operator, values = found[1], found[2], {value.strip() for value in found[3].split(",")}
        if operator == "in":
            return lambda labels: labels.get(key) in values
        return lambda labels: labels.get(key) not in values
    if found := _EQUAL.match(text):
        key, operator, value = found.groups()
        if operator == "!=":
            return lambda labels: labels.get(key) != value
        return lambda labels: labels.get(key) == value
    if re.fullmatch(_KEY, text):
        return lambda labels: text in labels
    if re.fullmatch(f"!{_KEY}", text):
        return lambda labels: text[1:] not in labels
    raise ApiError(400, f"unable to parse requirement: {text!r}")


def field_test(kind: str, text: str) -> Test:
    """``a.b=c,d!=e`` over the fields this kind supports. Raises ApiError 400 for others, as the real one."""
    tests = []
    for part in filter(None, text.split(",")):
        found = re.fullmatch(r"([^=!]+)(==|!=|=)(.*)", part)
        if not found:
            raise ApiError(400, f'Unable to find "{part}" that match label selector')
        path, operator, value = found.groups()
        if path not in _FIELDS.get(kind, _COMMON):
            raise ApiError(400, f"field label not supported: {path}")
        tests.append((path.split("."), operator == "!=", value))
    return lambda item: all((_value(item, path) == value) != negated for path, negated, value in tests)


def _value(item: Object, path: list[str]) -> str:
    found: object = item
    for name in path:
        found = found.get(name) if isinstance(found, dict) else None
    return "" if found is None else str(found)
