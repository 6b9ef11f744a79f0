"""Globs over '/'-separated relative paths, in which '**' crosses folders.

The standard library of Python 3.11 has no such match for paths that are not on disk (members of archives).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache


@lru_cache(maxsize=512)
def compile_glob(pattern: str) -> re.Pattern[str]:
    """The glob as a regular expression for the whole path.

    ``**/`` matches any number of folders (none too), a final ``**`` everything below, ``*`` and ``?`` do not
    cross a '/', ``[…]`` is a class of characters.
    """
    parts: list[str] = []
    at = 0
    while at < len(pattern):
        if pattern.startswith("**/", at):
            parts.append("(?:[^/]+/)*")
            at += 3
        elif pattern.startswith("**", at):
            parts.append(".*")
            at += 2
        elif pattern[at] == "[" and "]" in pattern[at + 2 :]:
            end = pattern.index("]", at + 2)
            inner = pattern[at + 1 : end].replace("\\", "\\\\")
            parts.append(f"[{'^' + inner[1:] if inner[0] == '!' else inner}]")
            at = end + 1
        else:
            parts.append({"*": "[^/]*", "?": "[^/]"}.get(pattern[at], re.escape(pattern[at])))
            at += 1
    return re.compile("".join(parts), re.DOTALL)


def matcher(patterns: Iterable[str]) -> Callable[[str], bool]:
    """A predicate: does a path match any of the globs?"""
    compiled = [compile_glob(pattern) for pattern in patterns]
    return lambda path: any(regex.fullmatch(path) for regex in compiled)
