"""``plan --manifests`` prints valid manifests, launches nothing, refuses bad input with one message."""

from __future__ import annotations

import json

import pytest
import yaml
from typer.testing import CliRunner

from codellm_dag.cli.app import app
from tests.launch.kubernetes.schemas import validate_strictly

IMAGE = "registry.example/codellm-dag/training:1.0"


@pytest.fixture
def plan(tmp_path, monkeypatch):
    """Run the command on an empty store: (exit code, output, errors)."""
    for name in ("CODELLM_PODS", "CODELLM_IMAGE", "COLUMNS", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments):
        words = ["plan", *arguments, "--manifests", "--store", str(tmp_path / "store")]
        result = CliRunner().invoke(app, words)
        return result.exit_code, result.stdout, result.stderr

    return run


def test_yaml_for_kubectl(plan, tmp_path):
    code, out, err = plan("pretrained_checkpoint", "--pods", "gpu-8x8", "--image", IMAGE)
    assert (code, err) == (0, "")
    job, service = yaml.safe_load_all(out)
    assert (job["kind"], service["kind"]) == ("Job", "Service")
    assert job["metadata"]["name"] == "pretrained-checkpoint-000000000000-a1"
    for manifest in (job, service):
        validate_strictly(manifest)
    command = job["spec"]["template"]["spec"]["containers"][0]["command"]
    assert command[-3:] == [
        f"launches/pretrained_checkpoint/{'0' * 64}/a1.json",
        "--store",
        (tmp_path / "store").as_uri(),
    ]
    assert not (tmp_path / "store").exists()


def test_json(plan):
    code, out, _ = plan("mixture", "sft_checkpoint", "--pods", "gpu-8", "--image", IMAGE, "--json")
    answer = json.loads(out)
    assert (code, answer["schema_version"]) == (0, 1)
    mixture, sft = answer["plans"]
    assert (mixture["stage"], sft["stage"]) == ("mixture", "sft_checkpoint")
    assert sft.keys() == {"stage", "name", "namespace", "pods", "gpus", "processes", "command", "manifests"}
    assert (sft["pods"], sft["gpus"], sft["processes"]) == (1, 8, 8)
    assert [manifest["kind"] for manifest in sft["manifests"]] == ["Job"]


def test_each_stage_its_own_pods(plan, tmp_path):
    pods = tmp_path / "pods.yaml"
    pods.write_text(
        f"default: {{extends: cpu, image: '{IMAGE}'}}\nrl_policy: {{extends: gpu-1, image: 'other:2'}}\n"
    )
    code, out, _ = plan("mixture", "rl_policy", "--pods", str(pods))
    assert code == 0
    images = [job["spec"]["template"]["spec"]["containers"][0]["image"] for job in yaml.safe_load_all(out)]
    assert images == [IMAGE, "other:2"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["mixtur", "--image", IMAGE], "there is no stage 'mixtur'; allowed: benchmark_problems, raw_corpus"),
        (["mixture", "--pods", "gpu-9", "--image", IMAGE], "pods 'gpu-9' do not exist; allowed: cpu,"),
        (["mixture"], "cpu.yaml: no image; give the field 'image' or the variable CODELLM_IMAGE"),
        (
            ["mixture", "--image", "a/b:latest"],
            "PodShape.image = 'a/b:latest': a retry could run another image",
        ),
    ],
)
def test_bad_input(plan, words, message):
    code, out, err = plan(*words)
    assert (code, out) == (2, "")
    assert message in err
    assert "Traceback" not in err
