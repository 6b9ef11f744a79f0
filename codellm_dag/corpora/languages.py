"""Which files belong to which language, by file name extension.

Not covered: telling the language of a file without an extension, or of one that lies about it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

EXTENSIONS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "python": (".py",),
        "java": (".java",),
        "javascript": (".js", ".mjs", ".cjs", ".jsx"),
        "typescript": (".ts", ".tsx", ".mts", ".cts"),
        "csharp": (".cs",),
        "go": (".go",),
        "rust": (".rs",),
    }
)
"""Extensions of each language; files with ``.min.js`` are left out by the quality filter, not here."""


def is_source_file(path: str, language: str) -> bool:
    """Whether the name of ``path`` has an extension of ``language``."""
    return path.endswith(EXTENSIONS[language])
