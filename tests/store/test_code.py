"""The code digest, on a package written for each test."""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from codellm_dag.stages.registry import STAGES, Stage
from codellm_dag.store import CodeDigest, StoreError, code_digest

STAGE = '''"""A stage."""
from __future__ import annotations

from .inner import helper  # a relative import
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from . import only_for_types


def run(recipe, inputs, out, report):
    """Say what it does."""
    from .lazy import deep

    return helper.FACTOR * deep.twice(recipe)
'''
FILES = {
    "__init__.py": '"""A package."""\n__version__ = "1.0"\n',
    "stage.py": STAGE,
    "inner/__init__.py": "",
    "inner/helper.py": "from ..constants import FACTOR as FACTOR\n",
    "constants.py": "FACTOR = 3  # three\n",
    "lazy/__init__.py": "ORDER = ['b', 'a']\n",
    "lazy/deep.py": "def twice(x):\n    return 2 * x\n",
    "only_for_types.py": "class Recipe: ...\n",
    "unrelated.py": "X = 1\n",
}


class Package:
    """A package on disk that can be edited."""

    def __init__(self, folder: Path) -> None:
        self.name = f"pkg_{uuid.uuid4().hex[:12]}"
        self.folder = folder / self.name
        for path, text in FILES.items():
            self.write(path, text)

    def write(self, path: str, text: str) -> None:
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    def edit(self, path: str, old: str, new: str) -> None:
        text = (self.folder / path).read_text()
        assert old in text
        self.write(path, text.replace(old, new))

    @property
    def code(self) -> CodeDigest:
        return code_digest(f"{self.name}.stage")

    def modules(self) -> set[str]:
        return {name.replace(self.name, "p") for name in self.code.modules}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Package:
    monkeypatch.syspath_prepend(tmp_path)
    return Package(tmp_path)


def test_reaches_what_can_run_and_nothing_else(package: Package) -> None:
    assert package.modules() == {
        "p",
        "p.stage",
        "p.inner",
        "p.inner.helper",
        "p.constants",
        "p.lazy",
        "p.lazy.deep",
    }
    assert package.name not in sys.modules, "nothing may be imported"


@pytest.mark.parametrize(
    "edit",
    [
        lambda p: p.edit("constants.py", "# three", "# it was three before, too"),
        lambda p: p.edit("constants.py", "FACTOR = 3", "FACTOR   =   (3)\n\n"),
        lambda p: p.edit("stage.py", "Say what it does.", "Say it better."),
        lambda p: p.edit("stage.py", '"""A stage."""', '"""Another title."""'),
        lambda p: p.edit("lazy/deep.py", "def twice(x):", 'def twice(x):\n    "doc"'),
        lambda p: p.edit("__init__.py", '"1.0"', '"1.1"'),
        lambda p: p.write("unrelated.py", "X = 2\n"),
        lambda p: p.write("only_for_types.py", "class Recipe: x: int\n"),
        lambda p: p.write("added.py", "Y = 1\n"),
    ],
    ids=[
        "comment",
        "format",
        "docstring",
        "title",
        "new docstring",
        "version",
        "unrelated",
        "types",
        "added",
    ],
)
def test_what_cannot_change_a_result_changes_nothing(
    package: Package, edit: Callable[[Package], None]
) -> None:
    before = package.code
    edit(package)
    assert package.code == before


@pytest.mark.parametrize(
    ("edit", "changed"),
    [
        (lambda p: p.edit("constants.py", "3", "4"), "p.constants"),
        (lambda p: p.edit("constants.py", "3", "3.0"), "p.constants"),
        (lambda p: p.edit("lazy/deep.py", "2 * x", "x * 2"), "p.lazy.deep"),
        (lambda p: p.edit("lazy/__init__.py", "'b', 'a'", "'a', 'b'"), "p.lazy"),
        (lambda p: p.write("inner/__init__.py", "import sys\n"), "p.inner"),
        (lambda p: p.write("__init__.py", "SETTING = 1\n"), "p"),
    ],
    ids=[
        "transitive constant",
        "int to float",
        "imported inside a function",
        "package",
        "inner package",
        "root",
    ],
)
def test_what_can_change_a_result_is_named(
    package: Package, edit: Callable[[Package], None], changed: str
) -> None:
    before = package.code
    edit(package)
    after = package.code
    assert after.digest != before.digest
    names = {name for name in after.modules if after.modules[name] != before.modules.get(name)}
    assert {name.replace(package.name, "p") for name in names} == {changed}


def test_edit_of_the_same_size_is_seen(package: Package) -> None:
    before = package.code.digest
    package.edit("constants.py", "FACTOR = 3", "FACTOR = 7")
    os.utime(package.folder / "constants.py", (2e9, 2e9))
    assert package.code.digest != before


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("import {p}.extra.tool", {"p.extra", "p.extra.tool"}),
        ("import {p}.extra.tool as t, os", {"p.extra", "p.extra.tool"}),
        ("from {p}.extra import tool", {"p.extra", "p.extra.tool"}),
        ("from {p}.extra import *", {"p.extra"}),
        ("from . import extra", {"p.extra"}),
        ("from .extra.tool import name", {"p.extra", "p.extra.tool"}),
        ("try:\n    import {p}.extra\nexcept ImportError:\n    pass", {"p.extra"}),
        ("import importlib\nimportlib.import_module('{p}.extra.tool')", {"p.extra", "p.extra.tool"}),
        ("TABLE = {{'x': '{p}.extra.tool:Class'}}", {"p.extra", "p.extra.tool"}),
        ("import json, numpy.linalg", set()),
        ("import {p}.not_there", set()),
    ],
)
def test_ways_to_import(package: Package, statement: str, found: set[str]) -> None:
    before = package.modules()
    package.write("extra/__init__.py", "")
    package.write("extra/tool.py", "name = 1\n")
    package.write("constants.py", f"FACTOR = 3\n{statement.format(p=package.name)}\n")
    assert package.modules() - before == found


def test_imports_in_a_circle_end(package: Package) -> None:
    package.write("constants.py", "FACTOR = 3\nfrom . import stage\n")
    assert "p.stage" in package.modules()


def test_a_data_file_named_beside_the_code_counts(package: Package) -> None:
    package.write("constants.py", "from pathlib import Path\nFACTOR = Path(__file__).parent / 'table.toml'\n")
    package.write("table.toml", "x = 1\n")
    before = package.code
    assert f"{package.name}/table.toml" in before.modules
    package.write("table.toml", "x = 2\n")
    assert package.code.digest != before.digest


def test_a_folder_joined_to_a_path_counts_whole(package: Package) -> None:
    package.write(
        "constants.py", "from pathlib import Path\nFACTOR = str(Path(__file__).parent / 'mounted')\n"
    )
    package.write("mounted/program.py", "import helper  # by a path of its own\nX = 1\n")
    package.write("mounted/deep/table.txt", "1\n")
    before = package.code
    assert {"p.mounted.program", "p/mounted/deep/table.txt"} <= package.modules()
    package.edit("mounted/program.py", "X = 1", "X = 1  # one")
    assert package.code == before
    package.edit("mounted/program.py", "X = 1", "X = 2")
    changed = package.code
    assert changed.digest != before.digest
    package.write("mounted/deep/table.txt", "2\n")
    assert package.code.digest != changed.digest
    package.edit("constants.py", " / 'mounted'", " == 'mounted'")
    assert "p.mounted.program" not in package.modules()


def test_field_texts_do_not_count_but_bounds_do(package: Package) -> None:
    package.write("constants.py", "FACTOR = Field(default=1, ge=0, description='how many')\n")
    before = package.code.digest
    package.edit("constants.py", "how many", "how many, in words")
    assert package.code.digest == before
    package.edit("constants.py", "ge=0", "ge=1")
    assert package.code.digest != before


def test_cache_on_disk_gives_the_same(
    package: Package, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = package.code
    assert list(own_cache.glob("code/*/*.json"))
    monkeypatch.setattr("codellm_dag.store.code._memory", {})
    assert package.code == first
    for path in own_cache.glob("code/*/*.json"):
        path.write_text("torn {")
    monkeypatch.setattr("codellm_dag.store.code._memory", {})
    assert package.code == first


def test_unknown_root_and_bad_syntax_are_named(package: Package) -> None:
    with pytest.raises(StoreError, match=r"no module 'no_such_package\.stage'"):
        code_digest("no_such_package.stage")
    package.write("constants.py", "FACTOR = = 3\n")
    with pytest.raises(StoreError, match=r"constants\.py cannot be parsed"):
        _ = package.code


@pytest.mark.parametrize("stage", STAGES.values(), ids=list(STAGES))
def test_own_stages_do_not_reach_the_orchestrator(stage: Stage) -> None:
    """What launches stages must not be part of them, or every edit of it would compute everything again."""
    forbidden = (
        "codellm_dag.launch",
        "codellm_dag.lineage",
        "codellm_dag.cli",
        "codellm_dag.stages.registry",
    )
    code = code_digest(stage.module, stage.recipe.partition(":")[0])
    assert [name for name in code.modules if name.startswith(forbidden)] == []
