"""Globs: what '**', '*', '?' and classes match in whole relative paths."""

from __future__ import annotations

import pytest

from codellm_dag.corpora.globs import matcher


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("*.py", ["a.py"], ["d/a.py", "a.pyc"]),
        ("**/*.py", ["a.py", "d/a.py", "d/e/a.py"], ["a.pyi"]),
        ("**/test/**", ["test/a", "x/test/y/z"], ["test", "latest/a", "x/tests/y"]),
        ("src/**", ["src/a", "src/b/c"], ["source/a", "src"]),
        ("a?c", ["abc"], ["ac", "a/c"]),
        ("[ab].x", ["a.x", "b.x"], ["c.x", "[ab].x"]),
        ("[!ab].x", ["c.x"], ["a.x"]),
        ("a.b", ["a.b"], ["axb"]),
    ],
)
def test_a_glob_matches_whole_paths(pattern, yes, no):
    match = matcher([pattern])
    assert [path for path in yes if not match(path)] == []
    assert [path for path in no if match(path)] == []


def test_no_glob_matches_nothing():
    assert not matcher([])("a")
