"""Verify: every kind of damage is found and named."""

from __future__ import annotations

import shutil

from toy_life_cycle import LifeCycle

from codellm_dag.lineage.verify import Checked, verify_all
from codellm_dag.store import Store


def _bad(store: Store) -> list[Checked]:
    return [checked for checked in verify_all(store) if not checked.whole]


def test_whole(store: Store, life_cycle: LifeCycle) -> None:
    life_cycle.run()
    heard: list[tuple[str, int, int]] = []
    checked = list(verify_all(store, lambda *said: heard.append(said)))
    assert len(checked) == 9  # 5 up to the fine-tuned model, 2 samples, 2 reports
    assert all(item.whole for item in checked)
    assert [number for _, number, _ in heard] == list(range(1, 10))
    assert heard[0][2] == 9
    mixture = next(item for item in checked if item.label == "mixture")
    folder = store.local_path(life_cycle.made["mixture"].artifact)
    assert mixture.bytes == sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_a_flipped_byte(store: Store, life_cycle: LifeCycle) -> None:
    life_cycle.run()
    path = store.local_path(life_cycle.made["mixture"].artifact) / "train.parquet"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)
    (bad,) = _bad(store)
    assert bad.label == "mixture"
    assert [problem.path for problem in bad.problems] == ["train.parquet"]
    assert "SHA-256" in bad.problems[0].problem


def test_a_missing_file(store: Store, life_cycle: LifeCycle) -> None:
    life_cycle.run()
    (store.local_path(life_cycle.made["mixture"].artifact) / "heldout.parquet").unlink()
    (bad,) = _bad(store)
    assert [problem.path for problem in bad.problems] == ["heldout.parquet"]


def test_an_unreadable_manifest(store: Store, life_cycle: LifeCycle) -> None:
    artifact = life_cycle.run()["sft"]
    path = store.work_root / "artifacts" / artifact.stage / artifact.fingerprint / "manifest.json"
    path.write_text("{")
    (bad,) = _bad(store)
    assert bad.fingerprint == artifact.fingerprint
    assert bad.problems[0].path == "manifest.json"
    assert "cannot be read" in bad.problems[0].problem


def test_a_manifest_in_the_wrong_place(store: Store, life_cycle: LifeCycle) -> None:
    artifact = life_cycle.run()["sft"]
    folder = store.work_root / "artifacts" / artifact.stage
    shutil.copytree(folder / artifact.fingerprint, folder / ("0" * 64))
    (bad,) = _bad(store)
    assert "belongs to eval_report" in bad.problems[0].problem


def test_a_name_without_an_artifact(store: Store, life_cycle: LifeCycle) -> None:
    life_cycle.run()
    shutil.rmtree(store.work_root / "artifacts" / "mixture")
    (bad,) = _bad(store)
    assert bad.label == "mixture"
    assert bad.problems[0].problem == "mixture points at it, but never computed"
