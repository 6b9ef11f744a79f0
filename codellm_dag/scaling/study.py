"""How a study is written: trials, each done once however often the study is killed.

A study (`scaling_ladder`, `critical_batch_size`, `model_growth`, …) names its trials with their cost, then
asks for each in turn::

    study = Study(report, run_identity(recipe, inputs, report.runtime.threads), {"small": flops, …})
    record = study.trial("small", lambda trial: train_and_measure(trial))

The function is called only where no earlier attempt of the same study has done the trial, and is given a
report of its own (`nested.py`): a stage run inside is handed it as it is, an own loop calls its ``step``.
It must not depend on what an earlier trial leaves behind in memory, the global random state too. What it
returns must be JSON; it comes back as JSON gives it (lists for tuples) whether it is fresh or kept, so that
both kinds of run write the same bytes. What later trials need beside it (a model's state) `save` writes to a
folder, found again with `files`; `SmallRun.as_trial` does so for a run.

A trial that is done is an entry ``trial-<name>`` of ``report.resume_dir``, written under another name, synced
and renamed: it is whole or absent. It holds the study's identity (recipe, inputs by content, threads,
PyTorch); another study's is thrown away. What a trial had done when it was stopped is lost, except to a
pretraining run inside, which has checkpoints of its own in the same folder.

The bar goes over the FLOPs of all trials, since sizes differ: those kept count as done before it begins, so
its rate and the time left are this attempt's. ``work`` tells tokens and FLOPs of this attempt alone.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from codellm_dag.scaling.nested import NestedReport, StudyBar, Worked
from codellm_dag.stages.protocol import UNFINISHED, Report, Stopped
from codellm_dag.training.checkpoints import retire, sync

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
_RESULT = "result.json"


class Study:
    """The trials of one study, in this attempt and earlier ones."""

    def __init__(self, report: Report, identity: str, flops: Mapping[str, float], unit: str = "FLOP") -> None:
        """`flops`: what each trial costs, by its name (lower-case letters, digits, ``.``, ``_``, ``-``), or
        its cost in another `unit`.

        Raises ValueError for other names.
        """
        wrong = [name for name in flops if not _NAME.fullmatch(name)]
        if wrong:
            raise ValueError(f"trial = {wrong[0]!r}: allowed: lower-case letters, digits, '.', '_', '-'")
        self._report, self._identity, self._flops = report, identity, dict(flops)
        self._bar = StudyBar(sum(flops.values()), unit)
        self._done, self._worked = 0.0, Worked()
        kept = [name for name in flops if self.is_done(name)]
        if kept:
            report.log(f"{len(kept)} of {len(flops)} trials were done by earlier attempts: {', '.join(kept)}")

    def is_done(self, name: str) -> bool:
        """Whether an attempt of this study has done the trial."""
        return self._read(name) is not None

    def files(self, name: str) -> Path:
        """The folder in which a trial that is done left its files; they are read-only."""
        return self._report.resume_dir / f"trial-{name}"

    def trial(
        self, name: str, run: Callable[[NestedReport], Any], save: Callable[[Path], None] | None = None
    ) -> Any:
        """The trial's result: an earlier attempt's, or that of `run`, with the files that `save` writes.

        Raises Stopped where the attempt was asked to end, before or within it.
        """
        found = self._read(name)
        if found is None:
            if self._report.stop_requested():
                raise Stopped(f"asked to end before trial {name}")
            inner = NestedReport(self._report, name, self._done, self._flops[name], self._bar, self._worked)
            found = self._keep(name, run(inner), save)
            self._bar.show(self._report, self._done + self._flops[name], name)
        self._done += self._flops[name]
        return found["result"]

    def _keep(self, name: str, result: Any, save: Callable[[Path], None] | None) -> dict[str, Any]:
        final = self.files(name)
        partial = final.with_name(final.name + UNFINISHED)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        if save:
            save(partial)
        text = json.dumps({"identity": self._identity, "result": result}, sort_keys=True)
        (partial / _RESULT).write_text(text, encoding="utf-8")
        for path in [*partial.rglob("*"), partial]:
            sync(path)
        if final.exists():
            retire(final)
        partial.rename(final)
        sync(final.parent)
        return json.loads(text)

    def _read(self, name: str) -> dict[str, Any] | None:
        try:
            found = json.loads((self.files(name) / _RESULT).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        return found if found["identity"] == self._identity else None
