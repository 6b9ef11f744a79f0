"""Recipe of a source: the one place that documents of a language come from.

Not covered: reading it (``codellm_dag/corpora/sources``). Names shared by the corpora recipes live here too.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression
from pydantic import AfterValidator, Field, model_validator

from codellm_dag.recipes.base import Recipe

Language = Literal["python", "java", "javascript", "typescript", "csharp", "go", "rust"]
"""The languages a corpus can be made of; the partitions of the corpora assets."""

LANGUAGES: tuple[Language, ...] = ("python", "java", "javascript", "typescript", "csharp", "go", "rust")
"""All of `Language`, in the order of the graph."""

SourceKind = Literal["local_dir", "python_stdlib", "package", "hf_dataset"]


def _spdx(expression: str) -> str:
    try:
        return canonicalize_license_expression(expression) if expression else ""
    except InvalidLicenseExpression as error:
        raise ValueError(
            f"not an SPDX licence expression ({error}); write e.g. 'MIT' or 'Apache-2.0 OR MIT', and "
            "'LicenseRef-…' for a licence that SPDX does not list"
        ) from error


def _relative_glob(pattern: str) -> str:
    if not pattern or pattern.startswith("/") or ".." in pattern.split("/") or "\\" in pattern:
        raise ValueError("a glob is relative to the source's root, uses '/', and has no '..' part")
    if pattern.count("[") != pattern.count("]"):
        raise ValueError("a glob closes every '[' with ']'")
    return pattern


LicenceExpression = Annotated[str, AfterValidator(_spdx)]
Glob = Annotated[str, AfterValidator(_relative_glob)]

_NEEDS = {
    "local_dir": ("path", "licence"),
    "python_stdlib": (),
    "package": ("package",),
    "hf_dataset": ("split", "text_column"),
}
"""Fields that must not be empty, by kind of source."""

_ONLY = {
    "path": ("local_dir", "hf_dataset"),
    "package": ("package",),
    "file": ("package",),
    "sha256": ("package",),
    "root": ("package",),
    "dataset": ("hf_dataset",),
    "revision": ("hf_dataset",),
    "data_dir": ("hf_dataset",),
    "path_column": ("hf_dataset",),
    "licence_column": ("hf_dataset",),
}
"""Fields that only some kinds read; a value elsewhere would be ignored, so it is refused."""


DEFAULT_EXCLUDE = ("**/test/**", "**/tests/**", "**/idle_test/**", "**/_sysconfigdata*", "**/*-packages/**")
"""Files left out by default: tests (a third of the standard library), a machine's build settings, packages
installed beside an interpreter."""


class SourceRecipe(Recipe):
    """One place that documents of one language come from. ``kind`` says which of the fields are read."""

    kind: SourceKind = Field(
        description="local_dir: files below `path`. python_stdlib: the running interpreter's standard "
        "library. package: files of a fetched, pinned wheel or sdist. hf_dataset: rows of a dataset."
    )
    language: Language = Field(description="Language of every document of this source.")
    name: str = Field(
        default="",
        max_length=100,
        pattern=r"^[\w.@+-]*$",
        description="Name in the documents' `source` column; empty: the package, dataset or folder with its "
        "version.",
    )
    licence: LicenceExpression = Field(
        default="",
        description="SPDX licence expression of the documents (of those without a value in "
        "`licence_column`, for hf_dataset). Empty for python_stdlib (PSF-2.0) and package (as pinned).",
    )
    path: str = Field(default="", description="local_dir: the folder. hf_dataset: a local dataset folder.")
    include: list[Glob] = Field(
        default_factory=list,
        description="Globs of files to take ('**' crosses folders), relative to the root; empty: every file "
        "with the language's extension.",
    )
    exclude: list[Glob] = Field(
        default_factory=lambda: list(DEFAULT_EXCLUDE),
        description="Globs of files to leave out; by default tests and what an interpreter has installed.",
    )
    max_bytes: int = Field(
        default=0,
        ge=0,
        description="Most bytes of text taken (0: all). Files are chosen by hash of `seed` and path; an "
        "hf_dataset, being a stream, is cut instead.",
    )
    seed: int = Field(default=0, ge=0, description="Which files `max_bytes` chooses.")
    package: str = Field(default="", description="package: its name in corpora/packages.toml.")
    version: str = Field(
        default="", description="Version of package or interpreter; empty: filled in by `sources.resolve`."
    )
    file: str = Field(
        default="", description="package: file name of the wheel or sdist; empty: filled in from the pins."
    )
    sha256: str = Field(
        default="",
        pattern=r"^([0-9a-f]{64})?$",
        description="package: digest of that file (64 hex digits); empty: filled in from the pins.",
    )
    root: str = Field(
        default="",
        description="package: folder of the archive that paths and globs are relative to; empty: as pinned.",
    )
    dataset: str = Field(default="", description="hf_dataset: id on the hub (reading it uses the network).")
    revision: str = Field(
        default="",
        pattern=r"^([0-9a-f]{40})?$",
        description="hf_dataset from the hub: the commit (40 hex digits), so that the content is pinned.",
    )
    data_dir: str = Field(default="", description="hf_dataset: folder inside the dataset, e.g. data/python.")
    split: str = Field(default="train", description="hf_dataset: the split to read.")
    text_column: str = Field(default="text", description="hf_dataset: column with the document's text.")
    path_column: str = Field(
        default="", description="hf_dataset: column with the file's path; empty: the row number stands in."
    )
    licence_column: str = Field(
        default="",
        description="hf_dataset: column with the SPDX licence, or a list of them, all of which then apply; "
        "empty: `licence`.",
    )
    take: int = Field(default=0, ge=0, description="hf_dataset: most rows read from the stream (0: all).")
    content_digest: str = Field(
        default="",
        pattern=r"^([0-9a-f]{64})?$",
        description="Digest of the chosen files' paths and bytes, filled in by `sources.resolve`, so that a "
        "changed folder is a changed recipe. Not set by hand.",
    )

    @model_validator(mode="after")
    def _fields_fit_kind(self) -> Self:
        for field in _NEEDS[self.kind]:
            if not getattr(self, field):
                raise ValueError(f"a source of kind {self.kind!r} needs the field {field!r}")
        for field, kinds in _ONLY.items():
            if getattr(self, field) and self.kind not in kinds:
                raise ValueError(
                    f"the field {field!r} is not read by a source of kind {self.kind!r}, only by "
                    f"{' and '.join(kinds)}"
                )
        if self.kind == "python_stdlib" and self.language != "python":
            raise ValueError(f"a source of kind 'python_stdlib' has language 'python', not {self.language!r}")
        if self.kind == "hf_dataset":
            self._check_dataset()
        return self

    def _check_dataset(self) -> None:
        if bool(self.dataset) == bool(self.path):
            raise ValueError("a source of kind 'hf_dataset' needs either 'dataset' (hub id) or 'path'")
        if self.dataset and not self.revision:
            raise ValueError("a hub dataset needs 'revision', the commit to read, so that it is pinned")
        if not self.licence and not self.licence_column:
            raise ValueError("a source of kind 'hf_dataset' needs 'licence' or 'licence_column'")
