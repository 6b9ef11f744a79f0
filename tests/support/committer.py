"""A process that commits: run as ``python -m tests.support.committer STORE TEXT READY GO [REPEAT]``.

It writes its own files for the computation TEXT, makes the file READY, waits for the file GO, and publishes.
Prints the attempt that won and whether it was its own. With REPEAT it goes on with TEXT-1, TEXT-2, … until
it is killed.
"""

from __future__ import annotations

import itertools
import sys
import time
from pathlib import Path

from codellm_dag.store import Store, digest
from tests.support.stores import draft


def commit(store: Store, text: str) -> tuple[str, bool]:
    """Write two files and publish them."""
    fingerprint = digest({"stage": "made", "text": text})
    attempt, folder = store.new_attempt("made", fingerprint)
    (folder / "data.txt").write_text(text * 1000)
    (folder / "who.txt").write_text(attempt)
    manifest, ours = store.publish(draft(text, attempt), folder)
    return manifest.attempt, ours


def main(url: str, text: str, ready: str, go: str, repeat: str = "") -> None:
    """See the module's text."""
    store = Store(url)
    store.backend.children("artifacts")  # connect before the start
    Path(ready).touch()
    while not Path(go).exists():
        time.sleep(0.001)
    if repeat:
        for number in itertools.count():
            commit(store, f"{text}-{number}")
    print(*commit(store, text))


if __name__ == "__main__":
    main(*sys.argv[1:])
