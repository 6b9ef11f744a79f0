"""Sources of files: local folders, the standard library, fetched packages; and what resolve pins."""

from __future__ import annotations

import hashlib
import io
import os
import sys
import sysconfig
import tarfile
import time
import zipfile
from pathlib import Path

import pytest

from codellm_dag.corpora.errors import CorpusError, MissingSource
from codellm_dag.corpora.sources import open_source, resolve
from codellm_dag.corpora.sources.digests import REMEMBER_FROM_BYTES, file_digests
from codellm_dag.corpora.sources.local_dir import list_files, read_folder
from codellm_dag.recipes.corpora import RawCorpusRecipe
from codellm_dag.recipes.sources import SourceRecipe


@pytest.fixture
def folder(tmp_path):
    """A small tree of Go files and other things."""
    root = tmp_path / "tree"
    for name, text in {
        "main.go": "package main\n",
        "lib/a.go": "package lib // a\n",
        "lib/b.go": "package lib // b\n",
        "lib/test/c.go": "package test\n",
        ".git/d.go": "package git\n",
        "notes.txt": "notes\n",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (root / "link.go").symlink_to(root / "main.go")
    return root


def _recipe(folder, **more) -> RawCorpusRecipe:
    source = {"kind": "local_dir", "language": "go", "path": str(folder), "licence": "MIT", **more}
    return RawCorpusRecipe.parse({"sources": [source]})


def _read(recipe: RawCorpusRecipe, language="go") -> dict[str, bytes]:
    (source,) = resolve(recipe, language).sources
    return {file.path: file.content for file in open_source(source).read()}


def test_a_local_folder_gives_its_files_sorted_without_tests_links_and_hidden_folders(folder):
    files = _read(_recipe(folder))
    assert list(files) == ["lib/a.go", "lib/b.go", "main.go"]
    assert files["lib/a.go"] == b"package lib // a\n"
    assert list(_read(_recipe(folder, exclude=[]))) == ["lib/a.go", "lib/b.go", "lib/test/c.go", "main.go"]
    assert list(_read(_recipe(folder, include=["lib/*", "*.txt"]))) == ["lib/a.go", "lib/b.go", "notes.txt"]


def test_the_digest_is_that_of_the_chosen_files(folder):
    def digest():
        return resolve(_recipe(folder), "go").sources[0].content_digest

    lines = b"".join(
        f"{len(name)}:{name}:{hashlib.sha256((folder / name).read_bytes()).hexdigest()}\n".encode()
        for name in ("lib/a.go", "lib/b.go", "main.go")
    )
    first = digest()
    assert first == hashlib.sha256(lines).hexdigest()
    (folder / "notes.txt").write_text("other")
    assert digest() == first
    (folder / "main.go").write_text("package other")
    assert digest() != first


def test_resolving_twice_changes_nothing(folder):
    once = resolve(_recipe(folder), "go")
    assert resolve(once, "go") == once
    assert once.sources[0].name == "tree"


def test_max_bytes_chooses_by_hash_of_the_path_and_not_by_order(folder):
    sizes = {name: (folder / name).stat().st_size for name in ("lib/a.go", "lib/b.go", "main.go")}
    for seed in range(4):
        ranked = sorted(sizes, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest())
        expected = sorted(ranked[:2])
        limit = sum(sizes[name] for name in expected)
        assert list(_read(_recipe(folder, max_bytes=limit, seed=seed))) == expected


def test_a_file_that_changes_after_resolve_stops_the_reading(folder):
    (source,) = resolve(_recipe(folder), "go").sources
    (folder / "main.go").write_text("package changed\n")
    with pytest.raises(CorpusError, match=r"its files are not those of the recipe .*run again"):
        list(open_source(source).read())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"path": "/no/such/folder"}, "/no/such/folder: there is no such folder"),
        ({"include": ["*.golang"]}, r"the glob '\*.golang' in 'include' matches no file"),
        ({"language": "rust"}, r"no rust file \(.rs\) to take"),
        ({"max_bytes": 3}, "no go file .* to take; look at its globs and max_bytes"),
    ],
)
def test_a_folder_that_is_not_as_described_is_an_error(folder, values, message):
    with pytest.raises(CorpusError, match=message):
        resolve(_recipe(folder, **values), values.get("language", "go"))


@pytest.mark.parametrize("remember_from", [0, REMEMBER_FROM_BYTES])
@pytest.mark.parametrize("name", ["gone.go", "loop.go", "lib/a.go/b.go"])
def test_a_file_that_cannot_be_read_is_named(folder, name, remember_from):
    (folder / "loop.go").symlink_to("loop.go")  # not even root can read these three
    with pytest.raises(CorpusError, match=rf"{name}: cannot be read \(.+\); mend or exclude it"):
        file_digests(folder, ["main.go", name], remember_from)
    (source,) = resolve(_recipe(folder), "go").sources
    files = read_folder(folder, ["main.go", name], source)
    assert next(files).content == b"package main\n"
    with pytest.raises(CorpusError, match=rf"{name}: cannot be read \(.+\); mend or exclude it"):
        next(files)


def test_covered_folders_are_not_entered(folder):
    assert list(list_files(folder, ["lib/**"])) == ["main.go", "notes.txt"]
    assert "lib/test/c.go" in list_files(folder, ["lib/*"])


def test_two_sources_need_two_names(folder):
    twice = RawCorpusRecipe(sources=_recipe(folder).sources * 2)
    with pytest.raises(CorpusError, match=r"two sources of go are named 'tree'"):
        resolve(twice, "go")


def test_a_language_without_a_source_is_missing(folder):
    with pytest.raises(MissingSource, match=r"no source for java; add one to raw_corpus.sources"):
        resolve(_recipe(folder), "java")


def test_the_standard_library_is_read_without_its_tests_in_under_a_second():
    recipe = RawCorpusRecipe()
    start = time.perf_counter()
    (source,) = resolve(recipe, "python").sources
    assert time.perf_counter() - start < 1 * 5  # five times the promise: the machine may be busy
    version = ".".join(map(str, sys.version_info[:3]))
    assert (source.version, source.name, source.licence) == (version, f"cpython@{version}", "PSF-2.0")
    files = {file.path: file.content for file in open_source(source).read()}
    root = Path(sysconfig.get_path("stdlib"))
    assert files["json/decoder.py"] == (root / "json/decoder.py").read_bytes()
    assert len(files) > 400
    assert not [path for path in files if "/test/" in f"/{path}" or "site-packages" in path]
    assert list(files) == sorted(files)


def test_the_standard_library_of_another_version_is_missing():
    recipe = RawCorpusRecipe.parse(
        {"sources": [{"kind": "python_stdlib", "language": "python", "version": "2.7.18"}]}
    )
    with pytest.raises(MissingSource, match=r"that of Python 2.7.18, this is 3"):
        resolve(recipe, "python")


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A fetched wheel and sdist, and what a recipe must say to read them without a pin."""
    monkeypatch.setenv("CODELLM_PACKAGES", str(tmp_path))
    with zipfile.ZipFile(tmp_path / "w-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("w/js/b.js", "let b;\n")
        wheel.writestr("w/js/a.js", "let a;\n")
        wheel.writestr("w/js/test/t.js", "let t;\n")
        wheel.writestr("w/other.js", "let o;\n")
    with tarfile.open(tmp_path / "s-1.tar.gz", "w:gz") as sdist:
        for name in ("s-1/src/lib.rs", "s-1/README"):
            member = tarfile.TarInfo(name)
            member.size = 3
            sdist.addfile(member, io.BytesIO(b"// "))

    def values(file: str, language: str, **more) -> SourceRecipe:
        digest = hashlib.sha256((tmp_path / file).read_bytes()).hexdigest()
        known = {"kind": "package", "version": "1", "file": file, "sha256": digest, "licence": "MIT"}
        return SourceRecipe.parse({**known, "package": file[0], "language": language, **more})

    return values


def test_packages_are_read_from_their_archives(package):
    wheel = open_source(package("w-1-py3-none-any.whl", "javascript", root="w/js")).resolved()
    assert wheel.name == "w@1"
    found = [(file.path, file.content, file.licence) for file in open_source(wheel).read()]
    assert found == [("a.js", b"let a;\n", "MIT"), ("b.js", b"let b;\n", "MIT")]
    sdist = open_source(package("s-1.tar.gz", "rust", root="s-1")).resolved()
    assert [file.path for file in open_source(sdist).read()] == ["src/lib.rs"]


def test_a_package_with_other_bytes_is_refused(package, tmp_path):
    recipe = package("s-1.tar.gz", "rust")
    (tmp_path / "s-1.tar.gz").write_bytes(b"other")
    with pytest.raises(CorpusError, match=r"s-1.tar.gz has sha256 .* pinned is"):
        open_source(recipe).resolved()
    unreadable = package("s-1.tar.gz", "rust")
    with pytest.raises(CorpusError, match=r"not a readable sdist"):
        list(open_source(unreadable).read())


def test_a_pin_fills_in_what_a_recipe_leaves_open(tmp_path, monkeypatch):
    monkeypatch.setenv("CODELLM_PACKAGES", str(tmp_path))
    recipe = RawCorpusRecipe.parse(
        {"sources": [{"kind": "package", "language": "rust", "package": "tokenizers"}]}
    )
    with pytest.raises(MissingSource, match=r"was not fetched"):
        resolve(recipe, "rust")
    wrong = RawCorpusRecipe.parse(
        {"sources": [{"kind": "package", "language": "go", "package": "tokenizers"}]}
    )
    with pytest.raises(CorpusError, match=r"'tokenizers' is pinned for rust, not for go"):
        resolve(wrong, "go")


def test_digests_of_large_folders_are_remembered_but_never_stale(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = tmp_path / "root"
    root.mkdir()
    (root / "a").write_text("one")
    os.utime(root / "a", (1, 1))

    def digest():
        return file_digests(root, ["a"], remember_from=0)[0][1]

    assert digest() == hashlib.sha256(b"one").hexdigest()
    (memory,) = (tmp_path / "cache").rglob("*.json")
    before = memory.stat().st_mtime_ns
    assert digest() == hashlib.sha256(b"one").hexdigest()
    assert memory.stat().st_mtime_ns == before
    (root / "a").write_text("two")
    assert digest() == hashlib.sha256(b"two").hexdigest()
    (root / "a").write_text("six")  # same size, perhaps the same time: too young to be trusted
    assert digest() == hashlib.sha256(b"six").hexdigest()
    memory.write_text("spoiled")
    assert digest() == hashlib.sha256(b"six").hexdigest()
