"""Rules of rendered manifests: what holds between their parts, and what a pod template may not bring in."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from codellm_dag.launch.kubernetes import names
from codellm_dag.launch.kubernetes.quantities import quantity
from codellm_dag.recipes.base import InvalidRecipeError

Manifest = Mapping[str, Any]

_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_ADDABLE = frozenset({"IPC_LOCK"})
"""Capabilities a pod template may add: RDMA pins memory."""


def check_manifests(manifests: Sequence[Manifest]) -> None:
    """Raises InvalidRecipeError with one line for each broken rule: object, field, value, what is allowed."""
    broken = [
        f"{manifest['kind']} {manifest['metadata']['name']}: {problem}"
        for manifest in manifests
        for problem in (*_names(manifest), *_selectors(manifest, manifests))
    ]
    for manifest in manifests:
        for template in pod_templates(manifest):
            broken += [f"{manifest['kind']}'s pods: {problem}" for problem in _pod(template)]
    if broken:
        raise InvalidRecipeError("\n".join(dict.fromkeys(broken)))


def pod_templates(manifest: Manifest) -> list[Manifest]:
    """The whole pod templates in a workload; a TrainJob has none, only patches of its runtime's."""
    spec = manifest.get("spec", {})
    if manifest["kind"] == "Job":
        return [spec["template"]]
    if manifest["kind"] == "JobSet":
        return [job["template"]["spec"]["template"] for job in spec["replicatedJobs"]]
    return []


def _names(manifest: Manifest) -> Iterator[str]:
    name = manifest["metadata"]["name"]
    if len(name) > names.MAX_GROUP_NAME or not _DNS_LABEL.fullmatch(name):
        yield f"metadata.name = {name!r}: must be a DNS label of at most {names.MAX_GROUP_NAME}"


def _selectors(manifest: Manifest, manifests: Sequence[Manifest]) -> Iterator[str]:
    if manifest["kind"] != "Service":
        return
    wanted = manifest["spec"]["selector"].items()
    templates = [template for other in manifests for template in pod_templates(other)]
    if not any(wanted <= template["metadata"]["labels"].items() for template in templates):
        yield f"spec.selector = {dict(wanted)}: matches no pod of the group"


def _pod(template: Manifest) -> Iterator[str]:
    spec = template["spec"]
    for field in ("hostPID", "hostIPC"):
        if spec.get(field):
            yield f"{field} = true: not allowed"
    if spec.get("automountServiceAccountToken") is not False:
        yield "automountServiceAccountToken: must be false, generated code could use the token"
    if template["metadata"]["labels"].get(names.SANDBOX) == "true":
        yield from _beside_generated_code(spec)
    for container in spec["containers"]:
        if container["name"] != names.CONTAINER:
            yield (
                f"containers[{container['name']}]: the Job would wait for it for ever; allowed: a sidecar in "
                "initContainers with restartPolicy: Always"
            )
    volumes = {volume["name"] for volume in spec.get("volumes", ())}
    for container in [*spec["containers"], *spec.get("initContainers", ())]:
        yield from (
            f"containers[{container['name']}].{problem}" for problem in _container(container, volumes)
        )


def _beside_generated_code(spec: Manifest) -> Iterator[str]:
    refused = "not allowed in pods that run generated code (sandbox = true)"
    if spec.get("hostNetwork"):
        yield f"hostNetwork = true: {refused}"
    for volume in spec.get("volumes", ()):
        if "hostPath" in volume:
            yield f"volumes[{volume['name']}].hostPath: {refused}"


def _container(container: Manifest, volumes: set[str]) -> Iterator[str]:
    security = container.get("securityContext", {})
    if security.get("privileged"):
        yield "securityContext.privileged = true: not allowed"
    for capability in security.get("capabilities", {}).get("add", ()):
        if capability not in _ADDABLE:
            yield f"securityContext.capabilities.add: {capability!r}; allowed: {', '.join(sorted(_ADDABLE))}"
    paths = set()
    for mount in container.get("volumeMounts", ()):
        if mount["name"] not in volumes:
            allowed = ", ".join(sorted(volumes))
            yield f"volumeMounts[{mount['mountPath']}].name = {mount['name']!r}: allowed: {allowed}"
        if mount["mountPath"] in paths:
            yield f"volumeMounts: {mount['mountPath']} is mounted twice"
        paths.add(mount["mountPath"])
    yield from _amounts(container.get("resources", {}))


def _amounts(resources: Manifest) -> Iterator[str]:
    """Requests never above limits, and for GPUs and other devices equal, as the scheduler wants it."""
    requests, limits = resources.get("requests", {}), resources.get("limits", {})
    for kind, amounts in (("requests", requests), ("limits", limits)):
        for name, amount in amounts.items():
            try:
                quantity(amount)
            except ValueError as error:
                yield f"resources.{kind}.{name}: {error}"
                return
    for name in requests.keys() | limits.keys():
        request, limit = requests.get(name), limits.get(name)
        if "/" in name and (request is None or limit is None or quantity(request) != quantity(limit)):
            yield f"resources.requests.{name} = {request!r}: must equal limits.{name} = {limit!r}"
        elif request is not None and limit is not None and quantity(request) > quantity(limit):
            yield f"resources.requests.{name} = {request!r}: must be at most limits.{name} = {limit!r}"
