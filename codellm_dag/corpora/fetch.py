"""Set-up: download the pinned packages of source code with pip, and check their digests.

``python -m codellm_dag.corpora.fetch [--into FOLDER] [--language NAME …]``. pip's own configuration says
which index is used. A file that is already there with the right digest is not asked for again. A language
that cannot be fetched is said in one line and left out (exit 0): the run then leaves it out too. Exit 2: the
command or the pins are wrong.

Nothing of a package is run. pip would call an sdist's build backend for its metadata, which for Rust needs a
compiler; so pip is shown a backend of ours (`fetch_backend.py`) in place of the one that the sdist names.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from codellm_dag.corpora.errors import CorpusError
from codellm_dag.corpora.packages import Pin, file_sha256, packages_dir, pins
from codellm_dag.recipes.sources import LANGUAGES

_BACKEND = Path(__file__).with_name("fetch_backend.py")
_TIMEOUT_SECONDS = 300


class FetchError(CorpusError):
    """A pinned file could not be downloaded or is not the pinned bytes."""


def fetch(pin: Pin, folder: Path) -> bool:
    """Bring one pinned file into ``folder``; True when it was downloaded, False when it was there already.

    Raises FetchError with pip's last line. A file with another digest is replaced, never used.
    """
    target = folder / pin.file
    if target.is_file() and file_sha256(target) == pin.sha256:
        return False
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder) as scratch:
        _download(pin, Path(scratch))
        found = Path(scratch) / "got" / pin.file
        if not found.is_file():
            raise FetchError(f"{pin.package} {pin.version}: pip brought no file {pin.file}")
        digest = file_sha256(found)
        if digest != pin.sha256:
            raise FetchError(f"{pin.file} has sha256 {digest}, pinned is {pin.sha256}")
        found.replace(target)
    return True


def _download(pin: Pin, scratch: Path) -> None:
    wheel = pin.file.endswith(".whl")
    requirements = scratch / "requirements.txt"
    requirements.write_text(f"{pin.package}=={pin.version} --hash=sha256:{pin.sha256}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-input"]
    command += ["--disable-pip-version-check", "--ignore-requires-python", "--require-hashes"]
    command += ["--only-binary" if wheel else "--no-binary", ":all:", "--no-build-isolation"]
    command += ["--dest", str(scratch / "got"), "--requirement", str(requirements)]
    environment = dict(os.environ)
    if not wheel:
        environment["PYTHONPATH"] = str(_backend_folder(pin, scratch / "backend"))
    try:
        done = subprocess.run(
            command,
            env=environment,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_SECONDS,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise FetchError(
            f"{pin.package} {pin.version}: pip did not end in {_TIMEOUT_SECONDS} seconds"
        ) from error
    if done.returncode != 0:
        raise FetchError(f"{pin.package} {pin.version}: {_reason(done.stderr)}")


def _reason(stderr: str) -> str:
    """The last error line of pip, or its last line."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")]
    return (errors or lines or ["pip failed and said nothing"])[-1].removeprefix("ERROR: ")[:300]


def _backend_folder(pin: Pin, folder: Path) -> Path:
    """A folder for PYTHONPATH in which the sdist's build backend is `fetch_backend.py`."""
    module = folder / (pin.build_backend.replace(".", "/") + ".py")
    module.parent.mkdir(parents=True)
    for parent in module.parents:
        if parent == folder:
            break
        (parent / "__init__.py").touch()
    module.write_bytes(_BACKEND.read_bytes())
    return folder


def fetch_all(folder: Path, languages: Sequence[str] = LANGUAGES) -> tuple[list[str], list[str]]:
    """Fetch every pin of ``languages``; returns what was done and what is left out, one line each."""
    done: list[str] = []
    failed: list[str] = []
    for language in languages:
        wanted = [pin for pin in pins().values() if pin.language == language]
        for pin in wanted:
            try:
                new = fetch(pin, folder)
            except (FetchError, OSError) as error:
                failed.append(f"{language} is left out: {error}")
                break
            done.append(f"{language}: {pin.package} {pin.version} {'fetched' if new else 'was there'}")
    return done, failed


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m codellm_dag.corpora.fetch", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--into", type=Path, default=None, help="folder for the files (default: see packages)"
    )
    parser.add_argument("--language", action="append", choices=LANGUAGES, help="only this language (repeat)")
    given = parser.parse_args(arguments)
    folder = given.into or packages_dir()
    try:
        done, failed = fetch_all(folder, given.language or LANGUAGES)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for line in done:
        print(line)
    for line in failed:
        print(f"warning: {line}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
