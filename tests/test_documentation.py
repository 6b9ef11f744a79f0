"""The docs say what is true: links lead somewhere, commands parse, make targets exist, the tree is today's.

The commands that show a number are run for real by tests/lifecycle.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main

from codellm_dag.cli.app import app

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"```(?:bash|console)\n(.*?)```", re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


def commands(first_word: str) -> list[tuple[str, str]]:
    """Lines of shell blocks that start with a word: (page, line)."""
    found = []
    for page in PAGES:
        for block in FENCE.findall(page.read_text(encoding="utf-8")):
            joined = block.replace("\\\n", " ")
            lines = (
                line.strip().removeprefix("$ ").removeprefix(".venv/bin/") for line in joined.splitlines()
            )
            found += [(page.name, line) for line in lines if line.split(" ")[0] == first_word]
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}, which does not exist"


def test_commands_of_the_docs_parse() -> None:
    listed = commands("codellm-dag")
    assert len(listed) >= 8
    group = typer.main.get_command(app)
    for page, line in listed:
        words = shlex.split(line.split(" | ")[0], comments=True)[1:]
        context = group.context_class(group, info_name="codellm-dag")
        name, command, rest = group.resolve_command(context, words)
        assert command is not None, f"{page}: {line}: no command {name}"
        command.make_context(name, list(rest), parent=context)


def test_make_targets_of_the_docs_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    listed = commands("make")
    assert {"make demo", "make test"} <= {line for _, line in listed}
    for page, line in listed:
        words = [word for word in shlex.split(line, comments=True)[1:] if "=" not in word]
        assert set(words) <= targets, f"{page}: {line}"


def test_file_tree_is_of_this_commit() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "file_tree.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_nothing_is_left_open_in_the_readme() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "@@" not in text
    assert len(text) > 3000
