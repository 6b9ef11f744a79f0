"""Rules of a pod shape that no schema knows: what a cluster would refuse, or take and not do as meant.

Each broken rule is one line that names the field, its value and what is allowed; all are told at once.
`check_manifests` holds the rules of what is rendered, a team's pod template in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from codellm_dag.launch.kubernetes import names
from codellm_dag.launch.kubernetes.quantities import quantity
from codellm_dag.recipes.base import InvalidRecipeError
from codellm_dag.recipes.pods import PodShape

_SMALLEST_MEMORY = 64 * 1024**2
_SECRET = re.compile(r"SECRET|PASSWORD|PASSWD|PRIVATE_KEY|API_KEY|ACCESS_KEY|(^|_)TOKEN$")
_RESERVED_VARIABLES = re.compile(
    r"JOB_COMPLETION_INDEX|PET_\w*|RANK|LOCAL_RANK|WORLD_SIZE|MASTER_(ADDR|PORT)"
)
_NATIVE = ("cpu", "memory", "ephemeral-storage")
_KUEUE = "kueue.x-k8s.io/"


def check_shape(shape: PodShape) -> None:
    """Raises InvalidRecipeError if a rule is broken."""
    broken = [
        f"PodShape.{problem}"
        for rule in (
            _image,
            _sizes,
            _resources,
            _processes,
            _sandbox,
            _variables,
            _keys,
            _deadlines,
            _trainjob,
        )
        for problem in rule(shape)
    ]
    if broken:
        raise InvalidRecipeError("\n".join(broken))


def _image(shape: PodShape) -> Iterator[str]:
    name, _, digest = shape.image.partition("@")
    tag = name.rpartition("/")[2].partition(":")[2]
    if not digest and tag in ("", "latest"):
        yield (
            f"image = {shape.image!r}: a retry could run another image; allowed: a digest (name@sha256:…) or "
            "a tag other than latest"
        )


def _sizes(shape: PodShape) -> Iterator[str]:
    if quantity(shape.cpu) <= 0:
        yield f"cpu = {shape.cpu!r}: must be more than 0, e.g. 500m or 4"
    for field in ("memory", "shared_memory", "ephemeral_storage"):
        text = getattr(shape, field)
        if quantity(text) < _SMALLEST_MEMORY:
            yield f"{field} = {text!r}: is {float(quantity(text)):g} bytes; must be 64Mi or more, with a unit"
    if quantity(shape.shared_memory) >= quantity(shape.memory):
        yield (
            f"shared_memory = {shape.shared_memory!r}: counts as memory; must be less than "
            f"memory = {shape.memory!r}"
        )


def _resources(shape: PodShape) -> Iterator[str]:
    if shape.gpus and "/" not in shape.gpu_resource:
        yield f"gpu_resource = {shape.gpu_resource!r}: must have a domain, e.g. nvidia.com/gpu"
    for name, amount in shape.extra_resources.items():
        where = f"extra_resources.{name} = {amount!r}"
        if name in _NATIVE or name == shape.gpu_resource:
            field = "gpus" if name == shape.gpu_resource else name.replace("-", "_")
            yield f"{where}: has a field of its own, {field}"
        elif name.startswith("hugepages-"):
            continue
        elif "/" not in name:
            yield f"{where}: must be a resource with a domain, e.g. rdma/ib"
        elif not amount.isdigit() or int(amount) == 0:
            yield f"{where}: must be a whole number of 1 or more"


def _processes(shape: PodShape) -> Iterator[str]:
    if shape.gpus and shape.processes not in (None, 1, shape.gpus):
        yield f"processes = {shape.processes}: must be {shape.gpus} (one for each GPU) or 1"


def _sandbox(shape: PodShape) -> Iterator[str]:
    if shape.sandbox and shape.seccomp_profile == "RuntimeDefault":
        yield (
            "seccomp_profile = 'RuntimeDefault': forbids the user namespaces of the sandbox; allowed with "
            "sandbox = true: localhost/FILE of a profile that allows them (k8s/sandbox), or Unconfined"
        )
    if shape.sandbox and shape.apparmor_profile == "RuntimeDefault":
        yield (
            "apparmor_profile = 'RuntimeDefault': forbids the mounts of the sandbox; allowed with "
            "sandbox = true: localhost/NAME, Unconfined, or none on nodes without AppArmor"
        )


def _variables(shape: PodShape) -> Iterator[str]:
    for name in shape.env:
        if _SECRET.search(name.upper()):
            yield f"env.{name}: looks like a secret, which is not for manifests; name a Secret in 'secrets'"
        elif _RESERVED_VARIABLES.fullmatch(name):
            yield f"env.{name}: is set by the Job or by torchrun; leave it out"


def _keys(shape: PodShape) -> Iterator[str]:
    for field, keys in (("labels", shape.labels), ("annotations", shape.annotations)):
        for key in keys:
            if key.startswith(names.PREFIX) or key == names.MANAGED_BY:
                yield f"{field}.{key}: is the launcher's own; choose another key"
            elif key.startswith(_KUEUE):
                yield f"{field}.{key}: is said by the fields 'queue', 'priority_class' and 'topology'"
    if shape.node_selector.get("kubernetes.io/hostname") and shape.nodes > 1:
        yield (
            f"node_selector.kubernetes.io/hostname: names one node, but nodes = {shape.nodes} and each pod "
            "has its own; leave it out"
        )


def _deadlines(shape: PodShape) -> Iterator[str]:
    if shape.grace_seconds >= shape.deadlines.run:
        yield (
            f"grace_seconds = {shape.grace_seconds}: must be less than deadlines.run = {shape.deadlines.run}"
        )


def _trainjob(shape: PodShape) -> Iterator[str]:
    if shape.form != "trainjob":
        return
    for field in ("secrets", "priority_class", "pod_template"):
        if value := getattr(shape, field):
            yield (
                f"{field} = {value!r}: a TrainJob cannot say it; put it into "
                f"training_runtime = {shape.training_runtime!r}"
            )
