"""Recipes of the toy stages."""

from pydantic import Field

from codellm_dag.recipes import Recipe


class Source(Recipe):
    """A folder of files."""

    kind: str = "local_dir"
    name: str = ""
    path: str
    licence: str = "PSF-2.0"
    max_bytes: int = 0
    content_digest: str = ""


class RawCorpus(Recipe):
    """Which folders are read."""

    sources: list[Source] = Field(default_factory=lambda: [Source(name="toy-stdlib", path=".")])


class CleanCorpus(Recipe):
    """How short a document may be."""

    min_bytes: int = 1


class Mixture(Recipe):
    """Which share is held out."""

    heldout_every: int = Field(default=3, ge=2)


class Training(Recipe):
    """Toy training."""

    learning_rate: float = Field(default=0.1, gt=0)
    steps: int = 10


class Samples(Recipe):
    """Toy sampling; rounding makes several models give the same samples."""

    benchmark: str = "microbench"
    decimals: int = 6


class Report(Recipe):
    """Toy report."""

    digits: int = 6
