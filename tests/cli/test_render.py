"""``render`` writes a framework's own configuration and launch command, and refuses bad input beforehand."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from codellm_dag.cli.app import app
from tests.modelkit.tiny import save_checkpoint
from tests.training.backends.jobs import TALKS

PRETRAINING = ("pretrained_checkpoint", "--recipe", "pretrain-1b", "--devices", "8", "--micro-rows", "4")


@pytest.fixture
def render(tmp_path, monkeypatch):
    """Run the command in an empty folder with no store and no environments: (exit code, output, errors)."""
    for name in ("COLUMNS", "FORCE_COLOR", "CODELLM_PRESET"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CODELLM_ENVIRONMENTS", str(tmp_path / "environments"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def run(*arguments):
        result = CliRunner().invoke(app, ["render", *arguments, "--store", str(tmp_path / "store")])
        return result.exit_code, result.stdout, result.stderr

    return run


@pytest.fixture
def fine_tuning(tmp_path):
    """Options that name a tiny model and its conversations, 41 to 43 tokens each."""
    model, data = save_checkpoint(tmp_path / "model", chat=False), tmp_path / "data"
    data.mkdir()
    pq.write_table(pa.table({"messages": TALKS}), data / "train.parquet")
    changes = ("replay=0", "optimizer.name=adamw", "sequence_length=128", "batch.global_rows=4", "epochs=2")
    sets = [word for change in changes for word in ("--set", f"sft_checkpoint.{change}")]
    return ["sft_checkpoint", "--model", str(model), "--data", str(data), *sets]


def backend(name, stage="pretrained_checkpoint"):
    """The option that chooses the framework."""
    return ["--set", f"{stage}.backend.name={name}"]


def test_torchtitan(render):
    code, out, err = render(*PRETRAINING, *backend("torchtitan"))
    assert (code, err) == (0, "")
    folder = Path("torchtitan-pretrained_checkpoint")
    assert {path.name for path in folder.iterdir()} == {"launch.sh", "titan_job.py", "words.json"}
    assert "not checked: the environment of torchtitan" in out
    assert "build it: codellm-dag environments build torchtitan" in out
    words = json.loads((folder / "words.json").read_text())
    given = dict(zip(words[::2], words[1::2], strict=True))
    # 3,000,000,000,000 tokens in steps of 1024 rows of 2048 tokens
    assert given["--training.steps"] == str(3_000_000_000_000 // (1024 * 2048))
    assert (given["--training.global_batch_size"], given["--training.local_batch_size"]) == ("1024", "4")
    assert given["--parallelism.data_parallel_shard_degree"] == "8"
    launch = "python -m torch.distributed.run --nproc-per-node=8 -m torchtitan.train --module titan_job"
    assert launch in out
    assert f"exec {launch} --config job" in (folder / "launch.sh").read_text()
    assert "width, entries = 2048, 32000" in (folder / "titan_job.py").read_text()


def test_json(render):
    code, out, _ = render(*PRETRAINING, *backend("megatron_deepspeed"), "--out", "there/mine", "--json")
    answer = json.loads(out)
    launch = (
        'python -m torch.distributed.run --nproc-per-node=8 "${REPOSITORY:?a clone of Megatron-DeepSpeed}'
    )
    assert code == 0
    assert answer.pop("unchecked").startswith("the environment of megatron (megatron-core 0.16.1) is not")
    assert answer.pop("not_here").startswith("Megatron-DeepSpeed is no package")
    assert answer.pop("store")
    assert answer == {
        "schema_version": 1,
        "stage": "pretrained_checkpoint",
        "backend": "megatron_deepspeed",
        "devices": 8,
        "steps": 1_430_511,
        "folder": "there/mine",
        "files": ["arguments.txt", "deepspeed.json", "launch.sh", "sizes.json"],
        "launch": f'{launch}/pretrain_gpt.py" $(cat arguments.txt)',
        "environment": {},
        "checked": False,
    }
    assert "--train-iters 1430511\n" in Path("there/mine/arguments.txt").read_text()


def test_a_launch_without_its_repository_says_so(render):
    render(*PRETRAINING, *backend("megatron"), "--out", "mine")
    done = subprocess.run(["sh", "mine/launch.sh"], capture_output=True, text=True, check=False)
    assert done.returncode
    assert "REPOSITORY: a clone of Megatron-LM" in done.stderr


def test_what_has_no_program_has_no_launch(render):
    answer = json.loads(render(*PRETRAINING, *backend("colossalai"), "--json")[1])
    assert answer["launch"] is None
    assert answer["files"] == ["colossalai.json"]


def test_our_own_trainer_is_checked_by_transformers(render):
    code, out, _ = render("pretrained_checkpoint")
    assert code == 0
    assert "✓ checked by the framework's own parser" in out
    assert "it trains inside the stage" in out
    assert Path("trainer-pretrained_checkpoint/training_arguments.json").is_file()


def test_verl(render, fine_tuning, tmp_path):
    code, out, err = render(*fine_tuning, *backend("verl", "sft_checkpoint"), "--devices", "2")
    assert (code, err) == (0, "")
    assert "verl on 2 devices, 10 steps" in out  # 2 epochs of 20 rows of two conversations, 4 rows a step
    folder = Path("verl-sft_checkpoint")
    given = json.loads((folder / "overrides.json").read_text())
    assert (given["data.train_batch_size"], given["data.micro_batch_size_per_gpu"]) == (8, 4)
    assert given["trainer.device"] == "cuda"
    assert pq.read_table(folder / "data/train.parquet")["messages"].to_pylist() == TALKS
    assert (folder / "model/model.safetensors").resolve() == tmp_path / "model/model.safetensors"
    script = (folder / "launch.sh").read_text()
    assert "export VERL_FILE_LOGGER_PATH=log.jsonl\n" in script
    assert "--nproc-per-node=2 -m verl.trainer.sft_trainer 'data.train_files=" in script


def test_megatron_swift_leaves_the_models_own_files_alone(render, fine_tuning, tmp_path):
    before = (tmp_path / "model/config.json").read_bytes()
    parallel = ["--set", "sft_checkpoint.backend.tensor_parallel=2", "--devices", "4"]
    code, out, err = render(*fine_tuning, *backend("megatron_swift", "sft_checkpoint"), *parallel)
    assert (code, err) == (0, "")
    folder = Path("megatron_swift-sft_checkpoint")
    given = json.loads((folder / "train.json").read_text())
    assert (given["tensor_model_parallel_size"], given["train_iters"]) == (2, 10)
    # two copies of the model read two rows each, of two conversations
    assert (given["global_batch_size"], given["micro_batch_size"]) == (8, 4)
    assert "--nproc-per-node=4 -m swift.cli._megatron.main sft train.json" in out
    assert not (folder / "model/config.json").is_symlink()
    assert (folder / "model/model.safetensors").is_symlink()
    assert (tmp_path / "model/config.json").read_bytes() == before


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["tokenizer"], "'tokenizer' is not rendered for a framework; allowed: pretrained_checkpoint, sft_"),
        (["sft_checkpoint"], "the model's configuration and tokenizer: no asset 'pretrained_checkpoint'"),
        (["sft_checkpoint"], "or give --model FOLDER"),
        (["sft_checkpoint", "--model", "/nope"], "--model '/nope' is not a folder"),
        (["sft_checkpoint", "--model", "."], "has no config.json; give a Hugging Face folder"),
        (
            ["pretrained_checkpoint", "--devices", "3"],
            "pretrained_checkpoint.batch.global_rows = 16 cannot be",
        ),
        (["pretrained_checkpoint", "--set", "pretrained_checkpoint.tokens=4000"], "4000 is less than one"),
        (["pretrained_checkpoint", *backend("verl")], "backend.name = verl"),
        (
            [*PRETRAINING, *backend("megatron"), "--set", "pretrained_checkpoint.backend.tensor_parallel=16"],
            "8 processes: backend.tensor_parallel * pipeline_parallel * context_parallel = 16",
        ),
    ],
)
def test_what_cannot_be_rendered_is_one_error_and_no_folder(words, line, render):
    code, out, err = render(*words)
    assert (code, out) == (2, "")
    assert line in err
    assert err.count("error") == 1
    assert not list(Path().iterdir())


def test_a_folder_that_holds_something_is_left_alone(render):
    Path("mine").mkdir()
    Path("mine/notes.txt").write_text("mine")
    code, _, err = render("pretrained_checkpoint", "--out", "mine")
    assert code == 2
    assert "--out 'mine' is there and not an empty folder; name a new one" in err
    assert [path.name for path in Path("mine").iterdir()] == ["notes.txt"]
