"""Pinned packages that carry source code of other languages: the pins, and where the fetched files lie.

The pins are data (``packages.toml``): version, file, SHA-256, licence, and the globs that choose the code.
Fetching is in `fetch.py` and belongs to the set-up, not to a run.
"""

from __future__ import annotations

import hashlib
import os
import tomllib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from codellm_dag.corpora.errors import CorpusError, MissingSource
from codellm_dag.recipes.base import Recipe
from codellm_dag.recipes.sources import Glob, Language, LicenceExpression

PINS = Path(__file__).with_name("packages.toml")


class Pin(Recipe):
    """One pinned package. ``root`` (a folder of the archive) is cut off the paths of its documents."""

    language: Language = Field(description="Language of the code it is used for.")
    package: str = Field(min_length=1, description="Name on the package index.")
    version: str = Field(min_length=1, description="Version.")
    file: str = Field(pattern=r"^[\w.+-]+\.(whl|tar\.gz)$", description="File name of the wheel or sdist.")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="Digest of the file.")
    licence: LicenceExpression = Field(min_length=1, description="SPDX expression of the chosen files.")
    build_backend: str = Field(
        default="",
        pattern=r"^([a-z_]+(\.[a-z_]+)*)?$",
        description="sdist: the backend its pyproject.toml names (see `fetch.py`).",
    )
    root: str = Field(default="", description="Folder inside the archive that paths are relative to.")
    include: list[Glob] = Field(default_factory=list, description="Globs of the code; empty: by extension.")
    exclude: list[Glob] = Field(default_factory=list, description="Globs to leave out.")

    @model_validator(mode="after")
    def _sdist_names_backend(self) -> Self:
        if self.file.endswith(".tar.gz") and not self.build_backend:
            raise ValueError(f"the sdist {self.file} needs 'build_backend', as its pyproject.toml names it")
        return self


@lru_cache(maxsize=8)
def pins(path: Path = PINS) -> Mapping[str, Pin]:
    """The pinned packages by name.

    Raises CorpusError when the file is not valid TOML, has a package twice, or InvalidRecipeError for a
    field.
    """
    try:
        entries = tomllib.loads(path.read_text(encoding="utf-8"))["packages"]
    except (OSError, KeyError, tomllib.TOMLDecodeError) as error:
        raise CorpusError(f"{path}: not a list of [[packages]] in TOML: {error}") from error
    found: dict[str, Pin] = {}
    for entry in entries:
        pin = Pin.parse(entry)
        if pin.package in found:
            raise CorpusError(f"{path}: package {pin.package!r} is pinned twice; keep one version")
        found[pin.package] = pin
    return found


def pin_of(package: str) -> Pin:
    """The pin of a package; raises CorpusError that lists the pinned ones when there is none."""
    known = pins()
    if package not in known:
        raise CorpusError(
            f"package {package!r} is not pinned in {PINS.name}; pinned are {', '.join(sorted(known))}. "
            "Add it there with version, file and sha256, and run `make setup`"
        )
    return known[package]


def packages_dir() -> Path:
    """Where fetched packages lie: ``$CODELLM_PACKAGES``, or ``packages`` beside the checkout's
    pyproject.toml, or below the user's data folder for an installed copy."""
    named = os.environ.get("CODELLM_PACKAGES")
    if named:
        return Path(named)
    checkout = Path(__file__).parents[2]
    if (checkout / "pyproject.toml").is_file():
        return checkout / "packages"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share") / "codellm-dag/packages"


def file_sha256(path: Path) -> str:
    """SHA-256 (hex) of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def fetched_file(file: str, sha256: str) -> Path:
    """The fetched file, after checking its digest.

    Raises MissingSource when it was not fetched, CorpusError when its bytes are not the pinned ones.
    """
    path = packages_dir() / file
    if not path.is_file():
        raise MissingSource(
            f"{file} was not fetched into {path.parent}; run `make setup` with a package index"
        )
    digest = file_sha256(path)
    if digest != sha256:
        raise CorpusError(f"{path} has sha256 {digest}, pinned is {sha256}; delete it and run `make setup`")
    return path
