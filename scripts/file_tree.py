"""Write the file tree at the end of README.md: one line a file, its comment taken from the file itself.

    python scripts/file_tree.py            rewrite README.md
    python scripts/file_tree.py --check    exit 1 if README.md is behind the files

A Python file's comment is the first sentence of its docstring, a Markdown file's its title, any other file's
its first comment line. Tests mirror the tree and are shown as folders.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
BLOCK = re.compile(r"(## File tree\n\n```text\n).*?(```\n)", re.DOTALL)
SHOWN = ("codellm_dag/", "assets/", "resources/", "bench/", "docs/", "k8s/", "scripts/")
TOP = ("pyproject.toml", "Makefile", "constraints.txt", "LICENSE")
FIXED = {
    "pyproject.toml": "packages, extras, and the settings of ruff, basedpyright, pytest and import-linter",
    "constraints.txt": "the exact version of every package, so that tomorrow's install is today's",
    "LICENSE": "Apache-2.0",
    "k8s/sandbox/codellm-dag-sandbox.json": "a deny list that leaves user namespaces and mounts",
}
COLUMN, WIDTH = 40, 140


def comment(path: Path) -> str:
    """What a file says of itself, in one line."""
    name = path.relative_to(ROOT).as_posix()
    if name in FIXED:
        return FIXED[name]
    if path.suffix in {".png", ".svg"}:
        return "picture"
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        docstring = ast.get_docstring(ast.parse(text)) or ""
        return _sentence(docstring.split("\n\n")[0])
    lines = (line.strip() for line in text.splitlines())
    return next((line.lstrip("# ").rstrip(".") for line in lines if line.startswith("#")), "")


def _sentence(paragraph: str) -> str:
    """The first sentence, without the subject before a colon (which repeats the file's name)."""
    text = re.split(r"(?<=\w\.)\s(?=[A-Z])", " ".join(paragraph.split()).replace("et al. ", "et al "))[0]
    subject, _, rest = text.partition(": ")
    return (rest if rest and len(subject) <= 32 else text).rstrip(".")


def tree() -> str:
    """The tree as text, in the order of `git ls-files`; files that git does not track are left out."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    names = [name for name in listed.splitlines() if (ROOT / name).is_file()]
    tests = sorted({"/".join(name.split("/")[:2]) for name in names if name.startswith("tests/")})
    lines = [_line(0, name, comment(ROOT / name)) for name in TOP if name in names]
    folders: set[str] = set()
    for name in (name for name in names if name.startswith(SHOWN)):
        parts = name.split("/")
        for depth in range(1, len(parts)):
            folder = "/".join(parts[:depth])
            if folder not in folders:
                folders.add(folder)
                package = ROOT / folder / "__init__.py"
                about = comment(package) if package.is_file() else ""
                lines.append(_line(depth - 1, f"{parts[depth - 1]}/", about))
        if parts[-1] != "__init__.py":
            lines.append(_line(len(parts) - 1, parts[-1], comment(ROOT / name)))
    rooms = ", ".join(name.removeprefix("tests/") for name in tests if (ROOT / name).is_dir())
    return "\n".join([*lines, _line(0, "tests/", f"mirror the tree: {rooms}")]) + "\n"


def _line(depth: int, name: str, about: str) -> str:
    left = f"{'  ' * depth}{name}"
    return f"{left:<{COLUMN}} {textwrap.shorten(about, WIDTH - COLUMN, placeholder=' …')}".rstrip()


def main(arguments: list[str]) -> int:
    """Rewrite or check; the exit code."""
    old = README.read_text(encoding="utf-8")
    new = BLOCK.sub(lambda match: match[1] + tree() + match[2], old)
    if "--check" in arguments:
        if new != old:
            print("README.md's file tree is behind; run: python scripts/file_tree.py")
        return int(new != old)
    README.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
