"""Pod shapes: bad fields are named with what is allowed; presets, files and stages' own shapes are found."""

from __future__ import annotations

import pytest

from codellm_dag.recipes import InvalidRecipeError, Runtime
from codellm_dag.recipes.pod_presets import load_pod_shape, load_pods, pod_preset_names
from codellm_dag.recipes.pods import PodShape
from codellm_dag.store.code import code_digest

IMAGE = "registry.example/codellm-dag/training:1.2"


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    monkeypatch.delenv("CODELLM_PODS", raising=False)
    monkeypatch.setenv("CODELLM_IMAGE", IMAGE)


BAD = {
    "cpu": ("12Qx", "cpu = '12Qx': .*must be a quantity such as 500m, 4, 16Gi or 1000G"),
    "memory": ("1e3", "memory = '1e3'"),
    "namespace": ("Bad_Name", "namespace = 'Bad_Name': .*must be a name of at most 63"),
    "image": ("Registry/Name:1", "image = 'Registry/Name:1'"),
    "nodes": (0, "nodes = 0: .*greater than or equal to 1"),
    "gpus": (65, "gpus = 65"),
    "gpu_resource": ("nvidia.com/", "gpu_resource"),
    "node_selector": ({"bad key": "x"}, "node_selector.bad key"),
    "env": ({"A-B": "x"}, r"env.A-B.\[key\] = 'A-B': .*must be a variable's name"),
    "secrets": (["S3"], "secrets.0 = 'S3'"),
    "seccomp_profile": ("Localhost", "must be RuntimeDefault, Unconfined, or localhost/FILE"),
    "run_as_user": (0, "run_as_user = 0"),
    "form": ("deployment", "form = 'deployment': .*'job', 'jobset' or 'trainjob'"),
    "tolerations": ([{"operator": "Equal", "key": "a"}], "operator Equal needs both key and value"),
    "topology": ({}, "topology.level: Field required"),
    "deadlines": ({"run": 0}, "deadlines.run = 0"),
    "ttl": (-1, "ttl = -1"),
    "grace_second": (5, "grace_second = 5: Extra inputs are not permitted"),
}


@pytest.mark.parametrize("field", BAD)
def test_a_bad_field_is_named_with_what_is_allowed(field):
    value, message = BAD[field]
    with pytest.raises(InvalidRecipeError, match=message):
        PodShape.parse({"image": IMAGE, field: value})


@pytest.mark.parametrize(
    "image",
    [
        "a:1",
        "registry:5000/a/b",
        "r.example/a__b-c:V1_2.x",
        f"r.example/a@sha256:{'0' * 64}",
        "ghcr.io/x/y:1",
    ],
)
def test_images(image):
    assert PodShape(image=image).image == image


def test_numbers_of_yaml_are_quantities():
    assert PodShape.parse({"image": IMAGE, "cpu": 4}).cpu == "4"


@pytest.mark.parametrize(
    ("fields", "each", "all_"),
    [
        ({}, 1, 1),
        ({"gpus": 8, "nodes": 2}, 8, 16),
        ({"processes": 2, "nodes": 3}, 2, 6),
        ({"gpus": 8, "processes": 1}, 1, 1),
    ],
)
def test_processes(fields, each, all_):
    shape = PodShape(image=IMAGE, **fields)
    assert (shape.processes_per_node, shape.world_size) == (each, all_)


def test_every_field_says_what_it_is():
    assert [name for name, field in PodShape.model_fields.items() if not field.description] == []


@pytest.mark.parametrize("name", pod_preset_names())
def test_presets_are_shapes(name):
    shape = load_pod_shape(name)
    assert shape.image == IMAGE
    assert shape.gpus * shape.nodes == {"gpu-1": 1, "gpu-1-sandbox": 1, "gpu-8": 8, "gpu-8x8": 64}.get(
        name, 0
    )
    assert shape.sandbox == name.endswith("-sandbox")


def test_the_default_is_the_preset_cpu(monkeypatch):
    assert load_pods().of("mixture") == load_pod_shape("cpu")
    monkeypatch.setenv("CODELLM_PODS", "gpu-1")
    assert load_pods().of("mixture").gpus == 1


def test_each_stage_its_own(tmp_path):
    path = tmp_path / "pods.yaml"
    path.write_text(
        "default: cpu\npretrained_checkpoint: gpu-8\n"
        "rl_policy: {extends: gpu-1, memory: 200Gi, deadlines: {run: 60}}\n"
    )
    pods = load_pods(str(path))
    assert pods.of("mixture").gpus == 0
    assert pods.of("pretrained_checkpoint").gpus == 8
    policy = pods.of("rl_policy")
    assert (policy.gpus, policy.memory, policy.deadlines.run) == (1, "200Gi", 60)
    assert policy.tolerations == load_pod_shape("gpu-1").tolerations


def test_mappings_are_extended_key_by_key_and_lists_replaced(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("extends: gpu-8x8\nannotations: {a: b}\ndeadlines: {pull: 7}\nsecrets: []\n")
    shape = load_pod_shape(str(path))
    assert shape.annotations == load_pod_shape("gpu-8x8").annotations | {"a": "b"}
    assert (shape.deadlines.pull, shape.deadlines.scheduling) == (7, 3600)
    assert shape.secrets == ()


def test_a_pod_template_lies_beside_the_file_that_names_it(tmp_path):
    (tmp_path / "team").mkdir()
    (tmp_path / "team" / "base.yaml").write_text("extends: cpu\npod_template: pod.yaml\n")
    (tmp_path / "mine.yaml").write_text("extends: team/base.yaml\ncpu: 1\n")
    assert load_pod_shape(str(tmp_path / "mine.yaml")).pod_template == str(tmp_path / "team" / "pod.yaml")


FILES = {
    "unknown preset": ("extends: gpu-9", "pods 'gpu-9' do not exist; allowed: cpu, "),
    "round": ("extends: bad.yaml", r"extends goes round: bad\.yaml"),
    "list": ("[1]", "must be a mapping"),
    "no YAML": ("a: [", "is no YAML"),
    "field": ("extends: cpu\ncpus: 4", "bad.yaml.cpus = 4"),
    "stage": ("default: cpu\nmixture: 3", "bad.yaml: mixture = 3: must be a preset"),
    "stage's field": ("default: cpu\nmixture: {nodes: 0}", "bad.yaml: mixture.nodes = 0"),
    "several": ("default: cpu\nmixture: {extends: bad.yaml}", "tells several stages' shapes"),
}


@pytest.mark.parametrize("name", FILES)
def test_bad_files_are_named(name, tmp_path):
    text, message = FILES[name]
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(InvalidRecipeError, match=message):
        load_pods(str(tmp_path / "bad.yaml"))


def test_a_misspelt_stage_is_named(tmp_path):
    (tmp_path / "pods.yaml").write_text("default: cpu\nmixtur: gpu-1\n")
    with pytest.raises(
        InvalidRecipeError, match=r"pods\.yaml: mixtur: there is no such stage; .*mixture, sft"
    ):
        load_pods(str(tmp_path / "pods.yaml"), stages=("mixture", "sft"))
    load_pods(str(tmp_path / "pods.yaml"), stages=("mixtur",))


def test_an_image_is_needed(monkeypatch):
    monkeypatch.delenv("CODELLM_IMAGE")
    with pytest.raises(
        InvalidRecipeError, match=r"cpu\.yaml: no image; .*'image' or the variable CODELLM_IMAGE"
    ):
        load_pods("cpu")


def test_one_shape_is_not_several(tmp_path):
    (tmp_path / "pods.yaml").write_text("default: cpu\nmixture: gpu-1\n")
    with pytest.raises(InvalidRecipeError, match="several stages"):
        load_pod_shape(str(tmp_path / "pods.yaml"))


def test_a_runtime_carries_its_pods_through_json():
    runtime = Runtime(threads=1, workers=1, kubernetes=load_pod_shape("gpu-8x8"))
    assert Runtime.model_validate_json(runtime.model_dump_json()) == runtime
    assert Runtime().kubernetes is None


def test_pods_are_no_part_of_a_fingerprint():
    modules = code_digest("codellm_dag.tokens.tokenizer").modules
    assert "codellm_dag.recipes.runtime" in modules
    assert not [name for name in modules if "pods" in name]
