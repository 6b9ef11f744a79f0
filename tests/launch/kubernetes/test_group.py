"""Names that anyone can derive again, labels that are labels, and the command of each number of processes."""

from __future__ import annotations

import re

import pytest

from codellm_dag.launch.kubernetes import names
from codellm_dag.stages.registry import STAGES
from codellm_dag.stages.torchrun import with_host
from tests.launch.kubernetes.shapes import FINGERPRINT, group_of, shape

DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
LABEL = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")


@pytest.mark.parametrize("stage", [*STAGES, "x" * 80, "Upper_Case", "ends_with_", "a" * 27 + "_" * 9 + "b"])
@pytest.mark.parametrize("attempt", ["a1", "a12345678901"])
def test_group_names_are_dns_labels_of_at_most_52(stage, attempt):
    name = names.group_name(stage, FINGERPRINT, attempt)
    assert DNS_LABEL.fullmatch(name)
    assert len(name) <= 52
    assert name.endswith(f"-0123456789ab-{attempt}")


def test_a_group_name_is_read_by_people():
    assert names.group_name("sft_checkpoint", FINGERPRINT, "a3") == "sft-checkpoint-0123456789ab-a3"


def test_long_stages_with_the_same_beginning_differ():
    assert names.group_name("x" * 70 + "a", FINGERPRINT, "a1") != names.group_name(
        "x" * 70 + "b", FINGERPRINT, "a1"
    )


@pytest.mark.parametrize("attempt", ["", "A1", "a.1", "a-1", "a" * 13])
def test_an_attempt_that_is_no_name_part_is_refused(attempt):
    with pytest.raises(ValueError, match="attempt"):
        names.group_name("mixture", FINGERPRINT, attempt)


@pytest.mark.parametrize(
    "text",
    ["python", "", "gpu_1.2", "optimizer.learning_rate=0.002", "base|humaneval", "x" * 64, "=", "-a-", "ä"],
)
def test_label_values(text):
    value = names.label_value(text)
    assert LABEL.fullmatch(value)
    assert (value == text) == bool(LABEL.fullmatch(text))


def test_label_values_of_different_texts_differ():
    assert names.label_value("a=1") != names.label_value("a|1")
    assert names.label_value("x" * 70) != names.label_value("x" * 71)


def test_labels_find_and_annotations_tell_in_full():
    group = group_of(shape())
    assert all(LABEL.fullmatch(value) for value in group.labels.values())
    assert group.labels["app.kubernetes.io/managed-by"] == "codellm-dag"
    assert group.labels["codellm-dag/fingerprint"] == FINGERPRINT[:40]
    assert group.annotations["codellm-dag/fingerprint"] == FINGERPRINT
    assert group.annotations["codellm-dag/partition"] == "optimizer.learning_rate=0.002"
    assert group.annotations["codellm-dag/record"].endswith("/a1.json")
    assert group.selector == f"codellm-dag/group={group.name}"


def test_what_is_not_known_is_no_label():
    group = group_of(shape(), partition=None, run_id="", owner="")
    assert not {"codellm-dag/partition", "codellm-dag/run", "codellm-dag/owner"} & group.labels.keys()
    assert "" not in group.annotations.values()


ENTRY = ["-m", "codellm_dag.stages.entry", f"launches/pretrained_checkpoint/{FINGERPRINT}/a1.json"]
STORE = ["--store", "s3://models/store"]


def test_one_process_is_started_plainly():
    assert list(group_of(shape(gpus=1)).command) == ["python", *ENTRY, *STORE]


def test_processes_of_one_pod_meet_without_a_service():
    command = list(group_of(shape(gpus=4, grace_seconds=60)).command)
    assert command == [
        *["python", "-m", "torch.distributed.run", "--shutdown-timeout=55"],
        *["--standalone", "--nproc-per-node=4", *ENTRY, *STORE],
    ]


def test_processes_of_several_pods_meet_at_the_first():
    name = "pretrained-checkpoint-0123456789ab-a1"
    deadlines = {"pull": 100, "start": 20}
    command = list(group_of(shape(nodes=3, processes=2, deadlines=deadlines)).command)
    assert command == [
        *["python", "-m", "codellm_dag.stages.torchrun", "--shutdown-timeout=115", "--nnodes=3"],
        *["--nproc-per-node=2", "--node-rank=$(JOB_COMPLETION_INDEX)", "--rdzv-backend=c10d"],
        *[f"--rdzv-id={name}", f"--rdzv-endpoint={name}-0.{name}:29400"],
        *["--rdzv-conf=join_timeout=120,read_timeout=120", *ENTRY, *STORE],
    ]


def test_torchrun_takes_the_command():
    from torch.distributed.run import parse_args

    command = group_of(shape(nodes=3, processes=2)).command
    words = [word.replace("$(JOB_COMPLETION_INDEX)", "2") for word in command[3:]]
    options = parse_args(with_host(words, "2"))
    assert options.rdzv_conf.endswith(",is_host=0")
    assert (options.nnodes, options.nproc_per_node, options.node_rank) == ("3", "2", 2)
    assert (options.module, options.training_script) == (True, "codellm_dag.stages.entry")
    assert options.training_script_args[-2:] == STORE
