"""A small real remote launcher: stages are processes of this machine that nobody waits for.

``python -m tests.support.detached STORE CLUSTER COUNT SECONDS`` is an orchestrator that runs the count stage
on it. CLUSTER is a folder; each attempt has a folder in it, whose creation is atomic: it is created once.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from codellm_dag.launch import Ended, LaunchRecord, materialize
from codellm_dag.launch.launcher import Handle
from codellm_dag.recipes.runtime import Runtime
from codellm_dag.stages.messages import StoreReader
from codellm_dag.stages.request import StageRequest
from codellm_dag.store import Store
from codellm_dag.store.records import now
from tests.support.tiny_recipes import TinyRecipe
from tests.support.tiny_stages import COUNT

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class DetachedLauncher:
    """Starts ``codellm_dag.stages.entry`` in a session of its own and reads its messages from the store."""

    cluster: Path
    cancel: bool = False
    command: str = f"{shlex.quote(sys.executable)} -m codellm_dag.stages.entry"
    infra_retries: int = 2
    preemptions: int = 20
    name: str = "detached"
    owner: str = ""

    def budget(self, runtime: Runtime) -> Mapping[str, int]:
        """What the test says."""
        del runtime
        return {"infra": self.infra_retries, "evicted": self.preemptions}

    def reserve(self, request: StageRequest) -> LaunchRecord:
        """The record of an attempt."""
        group = f"{request.stage}-{request.fingerprint[:12]}-{request.attempt}"
        return LaunchRecord(request=request, group=group, namespace="here", created=now(), owner=self.owner)

    def follow(
        self,
        record: LaunchRecord,
        store: Store,
        env: Mapping[str, str],
        handle: Handle,
        tell: Callable[[str], None],
    ) -> Ended:
        """Start it, or find that it was started, and wait until its exit code is there."""
        folder = self.cluster / record.group
        with suppress(FileExistsError):
            folder.mkdir(parents=True)
            self._start(record, store, env, folder)
            tell(f"started {record.group}")
        reader = StoreReader(store, record.request.messages)
        while True:
            ended = (folder / "exit").exists()
            for message in reader.read():
                handle(message)
            if ended:
                break
            time.sleep(0.05)
        code = int((folder / "exit").read_text())
        start = datetime.fromtimestamp((folder / "started").stat().st_mtime, UTC)
        printed = (folder / "log").read_text()
        return Ended(start=start, end=now(), hosts=("here",), exit_code=code, printed=printed)

    def _start(self, record: LaunchRecord, store: Store, env: Mapping[str, str], folder: Path) -> None:
        entry = f"{self.command} {shlex.quote(record.path)} --store {shlex.quote(store.url)}"
        script = f"echo $$ >> started; {entry} > log 2>&1; echo $? > exit.new; mv exit.new exit"
        variables = {**os.environ, **env, "PYTHONPATH": str(ROOT)}
        subprocess.Popen(["sh", "-c", script], cwd=folder, env=variables, start_new_session=True)

    def end(self, record: LaunchRecord) -> None:
        """Kill it, if it has not ended."""
        folder = self.cluster / record.group
        with suppress(FileNotFoundError, ProcessLookupError):
            if not (folder / "exit").exists():
                os.killpg(int((folder / "started").read_text().split()[0]), signal.SIGTERM)

    def cancel_requested(self) -> bool:
        """What the test says."""
        return self.cancel


def main(url: str, cluster: str, count: str, seconds: str) -> None:
    """Make the count, and print who made it."""
    recipe = TinyRecipe(count=int(count), seconds=float(seconds))
    outcome = materialize(Store(url), COUNT, recipe, {}, launcher=DetachedLauncher(Path(cluster)))
    print(outcome.manifest.attempt, outcome.artifact.content_digest)


if __name__ == "__main__":
    main(*sys.argv[1:])
