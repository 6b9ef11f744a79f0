"""Fetching pinned packages with the real pip, from a folder that stands for an index."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
import zipfile

import pytest

from codellm_dag.corpora import fetch as fetch_module
from codellm_dag.corpora.errors import CorpusError, MissingSource
from codellm_dag.corpora.fetch import FetchError, fetch, main
from codellm_dag.corpora.packages import PINS, Pin, fetched_file, packages_dir, pin_of, pins
from codellm_dag.recipes import InvalidRecipeError

METADATA = "Metadata-Version: 2.1\nName: tiny-{kind}\nVersion: 1.0\n\nWords: not a header\n"


def _sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A folder with a wheel and an sdist whose backend would leave a file behind if it ran."""
    folder = tmp_path / "index"
    folder.mkdir()
    with zipfile.ZipFile(folder / "tiny_wheel-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tiny/a.js", "let a = 1;\n")
        wheel.writestr("tiny_wheel-1.0.dist-info/METADATA", METADATA.format(kind="wheel"))
        wheel.writestr("tiny_wheel-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\n")
        wheel.writestr("tiny_wheel-1.0.dist-info/RECORD", "")
    marker = tmp_path / "ran"
    files = {
        "PKG-INFO": METADATA.format(kind="sdist"),
        "pyproject.toml": '[build-system]\nrequires = ["maturin"]\nbuild-backend = "maturin"\n',
        "setup.py": f"open({str(marker)!r}, 'w')\n",
        "src/lib.rs": "fn main() {}\n",
    }
    with tarfile.open(folder / "tiny_sdist-1.0.tar.gz", "w:gz") as sdist:
        for name, text in files.items():
            member = tarfile.TarInfo(f"tiny_sdist-1.0/{name}")
            member.size = len(text)
            sdist.addfile(member, io.BytesIO(text.encode()))
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def _pin(index, kind="sdist", **more):
    file = {"sdist": "tiny_sdist-1.0.tar.gz", "wheel": "tiny_wheel-1.0-py3-none-any.whl"}[kind]
    values = {
        "language": "rust",
        "package": f"tiny-{kind}",
        "version": "1.0",
        "file": file,
        "sha256": _sha256(index / file),
        "licence": "MIT",
        "build_backend": "maturin",
    }
    return Pin.parse({**values, **more})


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_a_file_is_fetched_once_and_nothing_of_it_runs(index, tmp_path, kind):
    pin, folder = _pin(index, kind), tmp_path / "packages"
    assert fetch(pin, folder) is True
    assert (folder / pin.file).read_bytes() == (index / pin.file).read_bytes()
    assert [path.name for path in folder.iterdir()] == [pin.file]
    assert fetch(pin, folder) is False
    assert not (tmp_path / "ran").exists()


def test_other_bytes_than_the_pinned_ones_are_refused(index, tmp_path):
    with pytest.raises(FetchError, match=r"tiny-sdist 1.0: .*"):
        fetch(_pin(index, sha256="0" * 64), tmp_path / "packages")
    assert list((tmp_path / "packages").iterdir()) == []


def test_a_spoiled_file_is_fetched_again_and_never_read(index, tmp_path, monkeypatch):
    pin, folder = _pin(index), tmp_path / "packages"
    folder.mkdir()
    (folder / pin.file).write_bytes(b"spoiled")
    monkeypatch.setenv("CODELLM_PACKAGES", str(folder))
    with pytest.raises(
        CorpusError, match=r"tiny_sdist-1.0.tar.gz has sha256 [0-9a-f]{64}, pinned is .*delete it"
    ):
        fetched_file(pin.file, pin.sha256)
    assert fetch(pin, folder) is True
    assert fetched_file(pin.file, pin.sha256) == folder / pin.file


def test_a_file_that_was_not_fetched_is_a_missing_source(tmp_path, monkeypatch):
    monkeypatch.setenv("CODELLM_PACKAGES", str(tmp_path))
    assert packages_dir() == tmp_path
    with pytest.raises(MissingSource, match=r"a-1.tar.gz was not fetched into .*; run `make setup`"):
        fetched_file("a-1.tar.gz", "0" * 64)


def test_a_language_that_cannot_be_fetched_is_said_and_left_out(index, tmp_path, monkeypatch, capsys):
    bad = _pin(index, "wheel", language="go", version="2.0")
    monkeypatch.setattr(fetch_module, "pins", lambda: {"tiny-sdist": _pin(index), "tiny-wheel": bad})
    assert main(["--into", str(tmp_path / "packages")]) == 0
    said = capsys.readouterr()
    assert said.out == "rust: tiny-sdist 1.0 fetched\n"
    assert said.err.startswith("warning: go is left out: tiny-wheel 2.0: ")
    assert said.err.count("\n") == 1


def test_the_pins_are_valid_and_each_language_is_small():
    languages = {pin.language for pin in pins().values()}
    assert {"javascript", "rust"} <= languages
    assert all(len(pin.sha256) == 64 and pin.licence for pin in pins().values())


def test_an_unknown_package_is_refused_with_the_known_ones():
    with pytest.raises(
        CorpusError, match=r"'leftpad' is not pinned in packages.toml; pinned are .*tokenizers"
    ):
        pin_of("leftpad")


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("packages = [", CorpusError, r"not a list of \[\[packages\]\]"),
        ("other = 1", CorpusError, r"not a list of \[\[packages\]\]"),
        (PINS.read_text() + PINS.read_text(), CorpusError, "is pinned twice"),
        (PINS.read_text().replace('"MIT"', '"Mine"'), InvalidRecipeError, "licence = 'Mine'"),
        (
            PINS.read_text().replace('build_backend = "maturin"\n', ""),
            InvalidRecipeError,
            "needs 'build_backend'",
        ),
    ],
)
def test_bad_pins_are_refused(tmp_path, text, error, message):
    path = tmp_path / "packages.toml"
    path.write_text(text)
    with pytest.raises(error, match=message):
        pins(path)
