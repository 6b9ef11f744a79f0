"""The steps scripts are made of. Each function returns a step; a script is a sequence of steps."""

from __future__ import annotations

from collections.abc import Callable

from tests.cluster.bed.conditions import disruption
from tests.cluster.bed.kubelet import pod_status
from tests.cluster.bed.kubelet.worker import Ending, Step, Stopped, Worker
from tests.cluster.bed.resources import Object


def schedule(node: str = "node-0") -> Step:
    """The scheduler binds the pod to a node, and its kubelet accepts it: ContainerCreating."""

    def step(worker: Worker) -> None:
        def edit(pod: Object) -> Object:
            if pod["metadata"].get("deletionTimestamp"):
                raise Stopped
            return pod_status.scheduled(pod, node)

        worker.update(edit)
        place = f"{worker.key[0]}/{worker.key[1]}"
        worker.kubelet.scheduler.record(worker.pod, "Scheduled", f"Successfully assigned {place} to {node}")
        worker.update(lambda pod: pod_status.accepted(pod, "192.0.2.10"))

    return step


def unschedulable(message: str = "0/4 nodes are available: 4 Insufficient nvidia.com/gpu.") -> Step:
    """The scheduler finds no place. The pod waits; later steps may schedule it after all."""

    def step(worker: Worker) -> None:
        worker.update(
            lambda pod: pod_status.condition(pod, "PodScheduled", "False", "Unschedulable", message)
        )
        worker.kubelet.scheduler.record(worker.pod, "FailedScheduling", message, "Warning")

    return step


def sleep(seconds: float | None = None) -> Step:
    """Time passes (None: for good)."""
    return lambda worker: worker.sleep(seconds)


def waiting(reason: str, message: str = "", container: str = "") -> Step:
    """Containers wait: CreateContainerConfigError, CrashLoopBackOff, …"""
    return lambda worker: worker.update(lambda pod: pod_status.waiting(pod, reason, message, container))


def pull_fails(why: str = "not found") -> Step:
    """The image cannot be pulled: ErrImagePull, ImagePullBackOff, with their events. The pod waits on."""

    def step(worker: Worker) -> None:
        image = worker.pod["spec"]["containers"][0]["image"]
        worker.event("Pulling", f'Pulling image "{image}"')
        message = f'rpc error: code = NotFound desc = failed to pull and unpack image "{image}": {why}'
        worker.update(lambda pod: pod_status.waiting(pod, "ErrImagePull", message))
        worker.event("Failed", f'Failed to pull image "{image}": {message}', "Warning")
        worker.event("Failed", "Error: ErrImagePull", "Warning")
        worker.sleep(0.02)
        back_off = f'Back-off pulling image "{image}"'
        worker.update(lambda pod: pod_status.waiting(pod, "ImagePullBackOff", back_off))
        worker.event("BackOff", back_off)
        worker.event("Failed", "Error: ImagePullBackOff", "Warning")

    return step


def start() -> Step:
    """Images are there, all containers run and are ready."""

    def step(worker: Worker) -> None:
        worker.event("Started", "Started container")
        worker.update(lambda pod: pod_status.running(pod, worker.address))

    return step


def log(text: str, container: str = "") -> Step:
    """The container prints something."""

    def step(worker: Worker) -> None:
        pod = worker.pod
        name = container or pod["spec"]["containers"][0]["name"]
        runs = {entry["name"]: entry["restartCount"] for entry in pod["status"]["containerStatuses"]}
        worker.kubelet.logs.write(pod, name, runs[name], text)

    return step


def exit(code: int = 0, reason: str = "", message: str = "") -> Step:
    """All containers end with a code, and with them the pod."""
    return lambda worker: worker.finish(code, reason, message)


def out_of_memory() -> Step:
    """The kernel ends the container for want of memory: exit code 137, OOMKilled."""

    def step(worker: Worker) -> None:
        worker.event("OOMKilling", "Memory cgroup out of memory: Killed process 4711 (python)", "Warning")
        worker.finish(137, "OOMKilled")

    return step


def reject(reason: str = "OutOfnvidia.com/gpu", message: str = "Node didn't have enough resource") -> Step:
    """The kubelet refuses the pod: failed without ever starting a container."""

    def step(worker: Worker) -> None:
        worker.update(lambda pod: pod_status.ended(pod, "Failed", reason, message))
        worker.event(reason, message, "Warning")

    return step


def evict(reason: str = "Evicted", message: str = "The node was low on resource: memory.") -> Step:
    """The kubelet ends the pod and leaves it as failed, with DisruptionTarget."""

    def step(worker: Worker) -> None:
        worker.event("Evicted", message, "Warning")
        worker.stop(Ending(reason, message, disruption("TerminationByKubelet", message), grace=0))
        raise Stopped

    return step


def preempt() -> Step:
    """The scheduler takes the place away: DisruptionTarget, and the pod is deleted with its grace."""

    def step(worker: Worker) -> None:
        worker.kubelet.preempt(worker.key)
        worker.sleep(None)

    return step


def lose_node(tolerated: float = 0.0) -> Step:
    """The node is cut off; see `Kubelet.lose_node`."""

    def step(worker: Worker) -> None:
        worker.kubelet.lose_node(worker.key, tolerated)
        raise Stopped

    return step


def unknown() -> Step:
    """The pod's phase becomes Unknown, as older clusters say of a lost node."""
    return lambda worker: worker.update(
        lambda pod: pod_status.ended(pod, "Unknown", "NodeLost", "Node is lost")
    )


def call(function: Callable[[Worker], object]) -> Step:
    """Anything a test wants to happen here. It may return an exit code: then the pod ends with it."""

    def step(worker: Worker) -> None:
        code = function(worker)
        if isinstance(code, int):
            worker.finish(code)

    return step


def crash(code: int = 1, times: int = 1) -> Step:
    """The container runs and ends with `code`, is started again after CrashLoopBackOff, `times` times."""
    back_off = "back-off 10s restarting failed container"

    def step(worker: Worker) -> None:
        for run in range(times):
            worker.update(lambda pod, run=run: pod_status.running(pod, worker.address, restarts=run))
            worker.sleep(0.01)
            worker.update(lambda pod: pod_status.terminated(pod, code))
            worker.update(lambda pod: pod_status.waiting(pod, "CrashLoopBackOff", back_off))
            worker.event("BackOff", back_off, "Warning")
            worker.sleep(0.01)
        worker.update(lambda pod: pod_status.running(pod, worker.address, restarts=times))

    return step


BEGIN: tuple[Step, ...] = (schedule(), start())
"""A pod that is placed and starts."""
