"""What the API server refuses with 422 and the schemas do not know: names, labels, quantities, rules of pods
and Jobs, and which fields of a stored object may not be changed any more."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal

from tests.cluster.bed import errors
from tests.cluster.bed.errors import ApiError
from tests.cluster.bed.resources import JOBS, PODS, SERVICES, Object, Resource

Cause = tuple[str, str, str]

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_LABEL_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")
_QUANTITY = re.compile(r"([+-]?(?:\d+(?:\.\d*)?|\.\d+))(Ki|Mi|Gi|Ti|Pi|Ei|m|k|M|G|T|P|E|[eE][+-]?\d+)?")
_UNITS = {"": 1, "m": Decimal("0.001"), "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15}
_BINARY = {f"{letter}i": 1024 ** (power + 1) for power, letter in enumerate("KMGTPE")}
_RESTARTS = ("Always", "OnFailure", "Never")
_SUBDOMAIN_HELP = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must "
    "start and end with an alphanumeric character"
)


def check(resource: Resource, item: Object) -> None:
    """Raise ApiError 422 with every rule a new object breaks."""
    causes = list(_metadata(resource, item["metadata"]))
    if resource == PODS:
        causes += _pod(item["spec"], "spec")
    elif resource == JOBS:
        causes += _job(item)
    if causes:
        raise errors.invalid(resource, item["metadata"]["name"], causes)


def quantity(text: object) -> Decimal | None:
    """The number a quantity means, None if it is none."""
    found = _QUANTITY.fullmatch(str(text))
    if not found:
        return None
    number, unit = Decimal(found[1]), found[2] or ""
    if unit[:1] in ("e", "E") and len(unit) > 1:
        return number * Decimal(10) ** int(unit[1:])
    return number * {**_UNITS, **_BINARY, "E": 10**18}[unit]


def _bad(field: str, value: object, why: str) -> Cause:
    shown = f'"{value}"' if isinstance(value, str) else str(value)
    return field, "FieldValueInvalid", f"Invalid value: {shown}: {why}"


def _metadata(resource: Resource, meta: Object) -> Iterator[Cause]:
    name = meta["name"]
    if resource == SERVICES:
        if not _LABEL_1035.fullmatch(name) or len(name) > 63:
            yield _bad("metadata.name", name, "a DNS-1035 label must be lower case and at most 63 characters")
    elif not _SUBDOMAIN.fullmatch(name) or len(name) > 253:
        yield _bad("metadata.name", name, _SUBDOMAIN_HELP)
    yield from _labels(meta.get("labels"), "metadata.labels")
    for key in meta.get("annotations") or ():
        yield from _key(key, "metadata.annotations")


def _labels(labels: Mapping[str, str] | None, field: str) -> Iterator[Cause]:
    for key, value in (labels or {}).items():
        yield from _key(key, field)
        if not _VALUE.fullmatch(value):
            yield _bad(
                field, value, "a valid label must be an empty string or consist of alphanumeric characters"
            )
        elif len(value) > 63:
            yield _bad(field, value, "must be no more than 63 characters")


def _key(key: str, field: str) -> Iterator[Cause]:
    prefix, slash, name = key.rpartition("/")
    good = _VALUE.fullmatch(name) and 0 < len(name) <= 63
    if not good or (slash and (not _SUBDOMAIN.fullmatch(prefix) or len(prefix) > 253)):
        yield _bad(field, key, "name part must consist of alphanumeric characters, '-', '_' or '.'")


def _pod(spec: Object, at: str) -> Iterator[Cause]:
    volumes = {volume["name"] for volume in spec.get("volumes", ())}
    if len(volumes) != len(spec.get("volumes", ())):
        yield f"{at}.volumes", "FieldValueDuplicate", "Duplicate value"
    seen: set[str] = set()
    for part in ("initContainers", "containers"):
        for index, container in enumerate(spec.get(part, ())):
            place = f"{at}.{part}[{index}]"
            if container["name"] in seen:
                yield f"{place}.name", "FieldValueDuplicate", f'Duplicate value: "{container["name"]}"'
            seen.add(container["name"])
            if container.get("restartPolicy"):
                text = "Forbidden: the test cluster does not implement sidecars"
                yield f"{place}.restartPolicy", "FieldValueForbidden", text
            yield from _container(container, volumes, place)
    if not spec.get("containers"):
        yield f"{at}.containers", "FieldValueRequired", "Required value"
    if spec["restartPolicy"] not in _RESTARTS:
        yield _unsupported(f"{at}.restartPolicy", spec["restartPolicy"], _RESTARTS)
    for field in ("hostname", "subdomain"):
        if field in spec and (not _LABEL.fullmatch(spec[field]) or len(spec[field]) > 63):
            yield _bad(
                f"{at}.{field}", spec[field], "must be a lowercase RFC 1123 label of at most 63 characters"
            )
    yield from _labels(spec.get("nodeSelector"), f"{at}.nodeSelector")
    for index, toleration in enumerate(spec.get("tolerations", ())):
        if toleration.get("operator", "Equal") == "Exists" and toleration.get("value"):
            yield _bad(
                f"{at}.tolerations[{index}].operator", "", "value must be empty when `operator` is 'Exists'"
            )


def _unsupported(field: str, value: object, known: tuple[str, ...]) -> Cause:
    values = ", ".join(f'"{name}"' for name in known)
    return field, "FieldValueNotSupported", f'Unsupported value: "{value}": supported values: {values}'


def _container(container: Object, volumes: set[str], at: str) -> Iterator[Cause]:
    if not _LABEL.fullmatch(container["name"]) or len(container["name"]) > 63:
        yield _bad(f"{at}.name", container["name"], "must be a lowercase RFC 1123 label")
    if not container.get("image"):
        yield f"{at}.image", "FieldValueRequired", "Required value"
    if container["imagePullPolicy"] not in ("Always", "IfNotPresent", "Never"):
        known = ("Always", "IfNotPresent", "Never")
        yield _unsupported(f"{at}.imagePullPolicy", container["imagePullPolicy"], known)
    for index, mount in enumerate(container.get("volumeMounts", ())):
        if mount["name"] not in volumes:
            yield f"{at}.volumeMounts[{index}].name", "FieldValueNotFound", f'Not found: "{mount["name"]}"'
    for index, variable in enumerate(container.get("env", ())):
        if variable.get("value") and variable.get("valueFrom"):
            yield _bad(f"{at}.env[{index}].valueFrom", "", "may not be specified when `value` is not empty")
    yield from _resources(container.get("resources", {}), f"{at}.resources")


def _resources(needs: Object, at: str) -> Iterator[Cause]:
    limits, requests = needs.get("limits", {}), needs.get("requests", {})
    for part, amounts in (("limits", limits), ("requests", requests)):
        for name, amount in amounts.items():
            value = quantity(amount)
            if value is None:
                why = "quantities must match '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
                yield _bad(f"{at}.{part}[{name}]", amount, why)
            elif value < 0:
                yield _bad(f"{at}.{part}[{name}]", amount, "must be greater than or equal to 0")
            elif "/" in name and value != int(value):
                yield _bad(f"{at}.{part}[{name}]", amount, "must be an integer")
    for name, amount in requests.items():
        asked, limit = quantity(amount), quantity(limits.get(name))
        if "/" in name and name not in limits:
            yield f"{at}.limits", "FieldValueRequired", "Limit must be set for non overcommitable resources"
        elif asked is not None and limit is not None and (asked > limit or ("/" in name and asked != limit)):
            relation = "be equal to" if "/" in name else "be less than or equal to"
            yield _bad(f"{at}.requests", amount, f"must {relation} {name} limit of {limits[name]}")


def _job(job: Object) -> Iterator[Cause]:
    spec = job["spec"]
    pod = spec["template"]["spec"]
    for field in (
        "parallelism",
        "completions",
        "backoffLimit",
        "activeDeadlineSeconds",
        "ttlSecondsAfterFinished",
    ):
        if spec.get(field, 0) < 0:
            yield _bad(f"spec.{field}", spec[field], "must be greater than or equal to 0")
    if spec["completionMode"] not in ("Indexed", "NonIndexed"):
        yield _unsupported("spec.completionMode", spec["completionMode"], ("Indexed", "NonIndexed"))
    if spec["completionMode"] == "Indexed":
        last = f"{job['metadata']['name']}-{max(0, spec.get('completions', 1) - 1)}"
        if "completions" not in spec:
            yield "spec.completions", "FieldValueRequired", "Required value: when completion mode is Indexed"
        if len(last) > 63:
            yield _bad(
                "metadata.name",
                job["metadata"]["name"],
                f"pod hostname {last} must be no more than 63 characters",
            )
    if pod["restartPolicy"] not in ("OnFailure", "Never"):
        yield (
            "spec.template.spec.restartPolicy",
            "FieldValueRequired" if pod["restartPolicy"] == "Always" else "FieldValueNotSupported",
            f'Unsupported value: "{pod["restartPolicy"]}": supported values: "OnFailure", "Never"',
        )
    for field in ("backoffLimitPerIndex", "successPolicy", "managedBy"):
        if field in spec:
            yield f"spec.{field}", "FieldValueForbidden", "Forbidden: the test cluster does not implement it"
    yield from _labels(spec["template"].get("metadata", {}).get("labels"), "spec.template.labels")
    yield from _pod(pod, "spec.template.spec")
    yield from _failure_policy(spec, pod)


def _failure_policy(spec: Object, pod: Object) -> Iterator[Cause]:
    at = "spec.podFailurePolicy"
    if "podFailurePolicy" not in spec:
        return
    if pod["restartPolicy"] != "Never":
        why = 'only "Never" is supported when podFailurePolicy is specified'
        yield _bad("spec.template.spec.restartPolicy", pod["restartPolicy"], why)
    if spec["podReplacementPolicy"] != "Failed":
        yield _unsupported("spec.podReplacementPolicy", spec["podReplacementPolicy"], ("Failed",))
    names = {container["name"] for container in (*pod["containers"], *pod.get("initContainers", ()))}
    for index, rule in enumerate(spec["podFailurePolicy"]["rules"]):
        place = f"{at}.rules[{index}]"
        if rule["action"] not in ("FailJob", "FailIndex", "Ignore", "Count"):
            yield _unsupported(f"{place}.action", rule["action"], ("Count", "FailIndex", "FailJob", "Ignore"))
        if ("onExitCodes" in rule) == ("onPodConditions" in rule):
            yield _bad(place, "", "specifying one of OnExitCodes and OnPodConditions is required")
        if codes := rule.get("onExitCodes"):
            values = codes["values"]
            if codes["operator"] not in ("In", "NotIn"):
                yield _unsupported(f"{place}.onExitCodes.operator", codes["operator"], ("In", "NotIn"))
            if values != sorted(set(values)):
                yield _bad(f"{place}.onExitCodes.values", values, "must be ordered and without duplicates")
            if codes["operator"] == "In" and 0 in values:
                yield _bad(f"{place}.onExitCodes.values", 0, "must not be 0 for the In operator")
            if codes.get("containerName") and codes["containerName"] not in names:
                yield _bad(
                    f"{place}.onExitCodes.containerName",
                    codes["containerName"],
                    "must be one of the containers",
                )


def check_change(resource: Resource, before: Object, after: Object) -> None:
    """Raise ApiError 422 for a change of a field that may not change."""
    name = before["metadata"]["name"]
    causes = [
        _bad(f"metadata.{field}", after["metadata"].get(field), "field is immutable")
        for field in ("name", "namespace", "uid", "creationTimestamp")
        if before["metadata"].get(field) != after["metadata"].get(field)
    ]
    if before["metadata"].get("deletionTimestamp") and set(after["metadata"].get("finalizers") or ()) - set(
        before["metadata"].get("finalizers") or ()
    ):
        causes.append(
            ("metadata.finalizers", "FieldValueForbidden", "Forbidden: no new finalizers can be added")
        )
    if resource == JOBS:
        causes += _job_change(before["spec"], after["spec"], before.get("status", {}))
    if resource == PODS:
        causes += _pod_change(before["spec"], after["spec"])
    if causes:
        raise errors.invalid(resource, name, causes)
    if not after["metadata"].get("name"):
        raise ApiError(400, "the name of the object may not be empty")


def _job_change(before: Object, after: Object, status: Object) -> Iterator[Cause]:
    waiting = before.get("suspend") and not status.get("startTime")
    for field in ("completionMode", "selector", "podFailurePolicy", "backoffLimitPerIndex", "template"):
        old, new = before.get(field), after.get(field)
        if field == "template" and waiting:  # what a queue sets when it admits a Job
            old, new = _without_placement(old), _without_placement(new)
        if old != new:
            yield f"spec.{field}", "FieldValueInvalid", "Invalid value: field is immutable"
    if before.get("completions") != after.get("completions") and before["completionMode"] != "Indexed":
        yield "spec.completions", "FieldValueInvalid", "Invalid value: field is immutable"


def _without_placement(template: Object | None) -> Object:
    template = template or {}
    spec = {
        name: value
        for name, value in template.get("spec", {}).items()
        if name not in ("nodeSelector", "affinity", "tolerations", "schedulingGates")
    }
    meta = {
        name: value
        for name, value in template.get("metadata", {}).items()
        if name not in ("labels", "annotations")
    }
    return {"spec": spec, "metadata": meta}


def _pod_change(before: Object, after: Object) -> Iterator[Cause]:
    free = ("activeDeadlineSeconds", "tolerations", "terminationGracePeriodSeconds", "schedulingGates")
    images = [
        {
            **{name: value for name, value in spec.items() if name not in free},
            "containers": [{**container, "image": ""} for container in spec["containers"]],
        }
        for spec in (before, after)
    ]
    if images[0] != images[1]:
        yield (
            "spec",
            "FieldValueForbidden",
            "Forbidden: pod updates may not change fields other than the image",
        )
