"""What commands say to people, and their exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from toy_life_cycle import LifeCycle

from codellm_dag.store import Store
from tests.cli.conftest import Cli


def test_scores_table(cli: Cli, life_cycle: LifeCycle) -> None:
    reports = life_cycle.run()
    answer = cli("scores")
    lines = answer.out.splitlines()
    header = "score benchmark model value 95 % interval n dev-h"
    assert lines[0].split() == header.split()
    row = next(line for line in lines if line.startswith(f"{reports['sft'].fingerprint[:8]}/pass@1"))
    assert row.split()[1:] == ["microbench", "sft", "0.890", "[0.790,", "0.990]", "40", "<0.001"]


def test_scores_hides_what_was_replaced(cli: Cli, life_cycle: LifeCycle) -> None:
    old = life_cycle.run()["sft"].fingerprint[:8]
    life_cycle.run(sft_checkpoint={"steps": 3})
    assert old not in cli("scores").out
    assert "2 scores of earlier runs: codellm-dag scores --all" in cli("scores").out
    assert old in cli("scores", "--all").out


def test_scores_filters(cli: Cli, life_cycle: LifeCycle) -> None:
    life_cycle.run()
    assert {row["model"] for row in cli("scores", "--model", "sft", "--json").json["scores"]} == {"sft"}
    answer = cli("scores", "--benchmark", "nosuch")
    assert (answer.code, answer.out) == (1, "")
    assert "there are: microbench of pretrained, microbench of sft" in answer.err


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        (["scores"], 1, "has no scores yet; `codellm-dag demo` makes some"),
        (["lineage", "12345678"], 2, "has no scores yet; `codellm-dag demo` makes some"),
        (["diff", "12345678", "12345679"], 2, "has no scores yet"),
        (["reproduce", "12345678"], 2, "has no scores yet"),
        (["why", "mixture"], 2, "is empty; `codellm-dag demo` fills it"),
        (["report", "mixture"], 2, "is empty; `codellm-dag demo` fills it"),
        (["trials"], 1, "no attempt in"),
        (["verify"], 1, "holds no artifacts; `codellm-dag demo` makes some"),
    ],
)
def test_an_empty_store(cli: Cli, command: list[str], code: int, message: str) -> None:
    answer = cli(*command)
    assert (answer.code, answer.out) == (code, "")
    assert message in answer.err
    assert "Traceback" not in answer.err


def test_report_shows_metrics_and_tables(cli: Cli, life_cycle: LifeCycle) -> None:
    old = life_cycle.run()["sft"]
    life_cycle.run(sft_checkpoint={"steps": 3})
    answer = cli("report", "eval_report[sft|microbench]")
    assert (answer.code, answer.err) == (0, "")
    first, metric, _, *table = answer.out.splitlines()
    assert first.startswith("eval_report[sft|microbench]  ")
    assert old.fingerprint[:8] not in first, "it is the one that is there now"
    value = metric.split()[1]
    assert [line.split() for line in table if "─" not in line][:3] == [
        ["scores"],
        ["metric", "value"],
        ["pass@1", value],
    ]
    assert cli("report", old.fingerprint[:8]).out.startswith("eval_report[sft|microbench]  ")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("nosuch", "no asset 'nosuch' in "),
        ("clean_corpus[cobol]", "asset clean_corpus has no such partition; there are: clean_corpus[python]"),
        ("eval_report", "asset eval_report has several partitions; there are: eval_report["),
    ],
)
def test_report_of_a_name_that_is_not_there(cli: Cli, life_cycle: LifeCycle, name: str, told: str) -> None:
    life_cycle.run()
    answer = cli("report", name)
    assert (answer.code, answer.out) == (2, "")
    assert told in answer.err
    assert len(answer.err.splitlines()) == 1


def test_lineage_reads_down_to_a_named_file(cli: Cli, life_cycle: LifeCycle) -> None:
    report = life_cycle.run(sft_checkpoint={"learning_rate": 0.25})["sft"]
    out = cli("lineage", f"{report.fingerprint[:8]}/pass@1").out
    order = [
        "eval_report[sft|microbench]",
        "samples: samples[sft|microbench]",
        "checkpoint: sft_checkpoint[base]",
        "learning_rate 0.25",
        "checkpoint: pretrained_checkpoint",
        "corpus: mixture",
        "corpus/python: clean_corpus[python]",
        "corpus: raw_corpus[python]",
        "toy-stdlib  PSF-2.0  5 files",
        "abc.py",
    ]
    places = [out.index(text) for text in order]
    assert places == sorted(places)
    assert "… and 2 more" in out
    assert f"lineage {report.fingerprint[:8]} --files" in out


def test_lineage_full_shows_every_field(cli: Cli, life_cycle: LifeCycle) -> None:
    report = life_cycle.run()["sft"].fingerprint[:8]
    assert "heldout_every 3" not in cli("lineage", report).out
    assert "heldout_every 3" in cli("lineage", report, "--full").out


def test_lineage_files_and_grep(cli: Cli, life_cycle: LifeCycle) -> None:
    report = life_cycle.run()["sft"].fingerprint[:8]
    out = cli("lineage", report, "--files").out
    for name in ("abc.py", "bisect.py", "heapq.py", "queue.py", "this.py"):
        assert name in out
    found = cli("lineage", report, "--grep", "^heapq")
    assert "heapq.py" in found.out
    assert "abc.py" not in found.out
    nothing = cli("lineage", report, "--grep", "nosuch")
    assert nothing.code == 1
    assert "no source file's path matches 'nosuch'" in nothing.err


def test_diff_names_the_learning_rate_and_its_consequences(cli: Cli, life_cycle: LifeCycle) -> None:
    old = life_cycle.run()["sft"].fingerprint[:8]
    new = life_cycle.run(pretrained_checkpoint={"learning_rate": 0.2})["sft"].fingerprint[:8]
    answer = cli("diff", f"{old}/pass@1", f"{new}/pass@1")
    assert answer.code == 0
    assert "1 cause\n" in answer.out
    assert "recipe  pretrained_checkpoint.learning_rate  0.1 → 0.2" in answer.out
    assert "4 artifacts came out differently" in answer.out
    assert "3 artifacts are the same in both" in answer.out


@pytest.mark.parametrize("which", ["old", "new"])
def test_diff_with_one_score_finds_the_other(cli: Cli, life_cycle: LifeCycle, which: str) -> None:
    old = life_cycle.run()["sft"]
    new = life_cycle.run(sft_checkpoint={"steps": 3})["sft"]
    given = {"old": old, "new": new}[which]
    answer = cli("diff", f"{given.fingerprint[:8]}/pass@1", "--json").json
    assert [row["fingerprint"] for row in answer["first"]] == [old.fingerprint]
    assert [row["fingerprint"] for row in answer["second"]] == [new.fingerprint]


def test_diff_of_a_number_with_itself(cli: Cli, life_cycle: LifeCycle) -> None:
    report = life_cycle.run()["sft"].fingerprint[:8]
    answer = cli("diff", report, report)
    assert answer.code == 0
    assert "No cause: both numbers come from the same computation." in answer.out


def test_reproduce_equal_leaves_nothing_behind(cli: Cli, life_cycle: LifeCycle, store: Store) -> None:
    report = life_cycle.run()["sft"]
    before = set(store.work_root.parent.iterdir())
    answer = cli("reproduce", f"{report.fingerprint[:8]}/pass@1")
    assert answer.code == 0
    assert "equal: pass@1 = 0.890" in answer.out
    assert set(store.work_root.parent.iterdir()) == before


def test_reproduce_keeps_what_it_is_told_to(cli: Cli, life_cycle: LifeCycle, tmp_path: Path) -> None:
    report = life_cycle.run()["sft"]
    answer = cli("reproduce", report.fingerprint[:8], "--into", str(tmp_path / "again"))
    assert f"Kept in {tmp_path / 'again'}" in answer.out
    assert Store(tmp_path / "again").artifact(report.fingerprint).content_digest == report.content_digest
    again = cli("reproduce", report.fingerprint[:8], "--into", str(tmp_path / "again"))
    assert again.code == 2
    assert "is not empty" in again.err


def test_reproduce_not_equal(cli: Cli, life_cycle: LifeCycle, store: Store) -> None:
    """One output is tampered with, and the manifest with it: the bytes of the number cannot come again."""
    report = life_cycle.run()["sft"]
    manifest = store.work_root / "artifacts" / "eval_report" / report.fingerprint / "manifest.json"
    values = json.loads(manifest.read_bytes())
    scores = next(item for item in values["outputs"] if item["path"] == "scores.json")
    scores["sha256"] = "0" * 64
    values["content_digest"] = "1" * 64
    manifest.chmod(0o644)
    manifest.write_text(json.dumps(values))
    answer = cli("reproduce", f"{report.fingerprint[:8]}/pass@1")
    assert answer.code == 1
    assert "not equal, first at eval_report[sft|microbench]" in answer.out
    assert "scores.json" in answer.out
    assert "6 of 7 artifacts have the same bytes" in answer.out
    assert "--other-store" in answer.out


def test_reproduce_refuses_other_code(
    cli: Cli, life_cycle: LifeCycle, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = life_cycle.run()["sft"].fingerprint[:8]
    from codellm_dag.launch import identity

    real = identity.code_digest

    def other(*roots: str):
        found = real(*roots)
        return type(found)("0" * 64, {**found.modules, "toy_life_stages.training": "0" * 64})

    monkeypatch.setattr(identity, "code_digest", other)
    answer = cli("reproduce", report)
    assert answer.code == 2
    assert "go on with --allow-different" in answer.err
    assert "code: toy_life_stages.training changed" in answer.err


def test_why(cli: Cli, life_cycle: LifeCycle) -> None:
    life_cycle.run()
    life_cycle.run(sft_checkpoint={"steps": 3})
    answer = cli("why", "sft_checkpoint")
    assert answer.code == 0
    assert "recipe.steps: 10 → 3" in answer.out
    assert "it would be reused:\n  nothing changed" in answer.out
    changed = cli("why", "sft_checkpoint[base]", "--set", "sft_checkpoint.learning_rate=0.5")
    assert "it would be computed:\n  recipe.learning_rate: 0.1 → 0.5" in changed.out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("nosuch.steps=3", "there is no asset 'nosuch'; allowed: raw_corpus, clean_corpus"),
        ("sft_checkpoint.stepz=3", "no field 'stepz'; allowed: learning_rate, steps"),
        ("sft_checkpoint.learning_rate=-1", "learning_rate = -1: Input should be greater than 0"),
        ("sft_checkpoint.steps", "is not asset.field=value"),
        ("steps=3", "is not asset.field=value"),
    ],
)
def test_bad_changes(cli: Cli, life_cycle: LifeCycle, change: str, message: str) -> None:
    life_cycle.run()
    answer = cli("why", "sft_checkpoint", "--set", change)
    assert answer.code == 2
    assert message in " ".join(answer.err.split())


def test_a_field_given_twice(cli: Cli, life_cycle: LifeCycle) -> None:
    life_cycle.run()
    twice = ["--set", "mixture.heldout_every=2"] * 2
    assert "is given twice" in cli("why", "mixture", *twice).err


def test_trials_table(cli: Cli, life_cycle: LifeCycle) -> None:
    life_cycle.run()
    answer = cli("trials", "--asset", "samples")
    assert answer.code == 0
    assert "samples[sft|microbench]" in answer.out
    assert "2 attempts, 0 failed" in answer.out
    assert cli("trials", "--label", "failed").code == 1
    assert cli("trials", "--label", "nosuch").code == 2


def test_verify_one_and_all(cli: Cli, life_cycle: LifeCycle, store: Store) -> None:
    report = life_cycle.run()["sft"]
    mixture = life_cycle.made["mixture"].artifact
    path = store.local_path(mixture) / "train.parquet"
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    answer = cli("verify")
    assert answer.code == 1
    assert "✗ mixture" in answer.out
    assert "train.parquet: has SHA-256" in answer.out
    assert "damaged: 1 of 9 artifacts" in answer.out
    for name in ("mixture", mixture.fingerprint[:8]):
        assert cli("verify", name).code == 1
    for name in ("clean_corpus[python]", f"{report.fingerprint[:8]}/pass@1"):
        assert cli("verify", name).code == 0
    assert "no asset 'nosuch'" in cli("verify", "nosuch").err


def test_a_damaged_store_gives_one_sentence(cli: Cli, life_cycle: LifeCycle, store: Store) -> None:
    path = store.local_path(life_cycle.run()["sft"]) / "scores.json"
    path.chmod(0o644)
    path.write_text("{")
    answer = cli("scores")
    assert answer.code == 2
    assert "scores.json of eval_report" in answer.err
    assert "codellm-dag verify" in answer.err


@pytest.mark.parametrize("url", ["ftp://x/y", "s3://B/x", "file://host/x"])
def test_a_bad_store_address(url: str) -> None:
    done = _script("scores", "--store", url)
    assert done.returncode == 2
    assert "store's address" in done.stderr
    assert "Traceback" not in done.stderr


def test_debug_shows_the_traceback() -> None:
    done = _script("scores", "--store", "ftp://x/y", "--debug")
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_commands_can_be_typed_as_printed(
    cli: Cli, life_cycle: LifeCycle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Where the program is not on the path, its own path is printed; a store that is not the default too."""
    life_cycle.run()
    life_cycle.run(sft_checkpoint={"steps": 3})
    monkeypatch.setenv("PATH", str(tmp_path))
    program = Path(sys.executable).parent / "codellm-dag"
    monkeypatch.chdir(program.parents[1])
    words = f"{program.relative_to(Path.cwd())} scores --all --store {life_cycle.store.work_root}"
    assert words in cli("scores").out.replace("\n", " ")


def test_help_has_examples(cli: Cli) -> None:
    for command in ("demo", "scores", "report", "lineage", "diff", "reproduce", "why", "trials", "verify"):
        answer = cli(command, "--help")
        assert answer.code == 0
        assert f"codellm-dag {command}" in answer.out.split("Examples")[1]
    assert "codellm-dag report 'framework_checkpoint[trainer]'" in cli("report", "--help").out
    for command in ("why", "verify"):  # square brackets are markup to Rich
        assert f"codellm-dag {command} 'clean_corpus[python]'" in cli(command, "--help").out
        assert "asset[partition]" in cli(command, "--help").out


def test_scores_imports_neither_dagster_nor_torch(life_cycle: LifeCycle, store: Store) -> None:
    life_cycle.run()
    code = (
        "import sys; from codellm_dag.cli.app import app; app(standalone_mode=False);"
        "heavy = {'dagster', 'torch', 'transformers', 'pandas', 'datasets', 'pyarrow'} & set(sys.modules);"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "scores", "--store", str(store.work_root)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "pass@1" in done.stdout


def test_scores_starts_fast(life_cycle: LifeCycle, store: Store) -> None:
    life_cycle.run()
    before = os.times()
    done = _script("scores", "--store", str(store.work_root))
    after = os.times()
    assert done.returncode == 0
    spent = after.children_user - before.children_user + after.children_system - before.children_system
    assert spent < 1.0


def test_a_reader_that_stops_early_is_no_error(life_cycle: LifeCycle, store: Store) -> None:
    life_cycle.run()
    command = f"{sys.executable} -m codellm_dag.cli scores --json --store {store.work_root} | head -1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False
    )
    assert done.stderr == ""


def _script(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "codellm_dag.cli", *arguments], capture_output=True, text=True, check=False
    )
