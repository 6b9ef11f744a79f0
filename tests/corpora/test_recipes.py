"""Recipes of the corpora room: what they accept, and one clear sentence for what they refuse."""

from __future__ import annotations

import pytest

from codellm_dag.recipes import InvalidRecipeError
from codellm_dag.recipes.corpora import CleanCorpusRecipe, MixtureRecipe, RawCorpusRecipe
from codellm_dag.recipes.sources import SourceRecipe


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "ftp", "language": "python"}, r"SourceRecipe.kind = 'ftp': Input should be 'local_dir'"),
        ({"kind": "local_dir", "language": "cobol"}, r"SourceRecipe.language = 'cobol'"),
        ({"kind": "local_dir", "language": "go", "licence": "MIT"}, "'local_dir' needs the field 'path'"),
        ({"kind": "local_dir", "language": "go", "path": "x"}, "needs the field 'licence'"),
        ({"kind": "package", "language": "rust"}, "needs the field 'package'"),
        ({"kind": "python_stdlib", "language": "rust"}, "has language 'python', not 'rust'"),
        ({"kind": "python_stdlib", "language": "python", "path": "/x"}, "'path' is not read by"),
        ({"kind": "hf_dataset", "language": "go", "licence": "MIT"}, "either 'dataset' .hub id. or 'path'"),
        ({"kind": "hf_dataset", "language": "go", "licence": "MIT", "dataset": "a/b"}, "needs 'revision'"),
        ({"kind": "hf_dataset", "language": "go", "path": "x"}, "needs 'licence' or 'licence_column'"),
        (
            {"kind": "local_dir", "language": "go", "path": "x", "licence": "Beerware-ish"},
            r"licence = 'Beerware-ish': .*not an SPDX licence expression .*write e.g. 'MIT'",
        ),
        (
            {"kind": "local_dir", "language": "go", "path": "x", "licence": "MIT OR"},
            r"licence = 'MIT OR': .*not an SPDX",
        ),
        (
            {"kind": "local_dir", "language": "go", "path": "x", "licence": "MIT", "include": ["../*.go"]},
            r"include.0 = '../\*.go': .*relative to the source's root",
        ),
        (
            {"kind": "local_dir", "language": "go", "path": "x", "licence": "MIT", "exclude": ["[a-.go"]},
            r"exclude.0 = '\[a-.go': .*closes every '\['",
        ),
        ({"kind": "python_stdlib", "language": "python", "max_bytes": -1}, "max_bytes = -1"),
        ({"kind": "python_stdlib", "language": "python", "nmae": "x"}, "nmae"),
    ],
)
def test_a_bad_source_is_refused_with_field_and_value(values, message):
    with pytest.raises(InvalidRecipeError, match=message):
        SourceRecipe.parse(values)


def test_licences_are_written_canonically():
    source = SourceRecipe.parse(
        {"kind": "local_dir", "language": "go", "path": "x", "licence": "mit or apache-2.0"}
    )
    assert source.licence == "MIT OR Apache-2.0"


def test_a_partition_sees_its_own_sources():
    recipe = RawCorpusRecipe.parse(
        {
            "sources": [
                {"kind": "package", "language": "rust", "package": "b"},
                {"kind": "python_stdlib", "language": "python"},
                {"kind": "package", "language": "rust", "package": "a"},
            ]
        }
    )
    assert recipe.languages() == ("python", "rust")
    assert [source.package for source in recipe.for_partition("rust").sources] == ["b", "a"]
    assert recipe.for_partition("go").sources == []


@pytest.mark.parametrize(
    ("recipe", "values", "message"),
    [
        (CleanCorpusRecipe, {"steps": ["quality", "shine"]}, "steps.1 = 'shine'"),
        (CleanCorpusRecipe, {"steps": ["quality", "quality"]}, "names quality more than once"),
        (CleanCorpusRecipe, {"licence": {"allow": ["MIT OR ISC"]}}, "single SPDX ids"),
        (CleanCorpusRecipe, {"licence": {"allow": ["Foo"]}}, "not an SPDX licence expression"),
        (CleanCorpusRecipe, {"near_dedup": {"jaccard_threshold": 0}}, "jaccard_threshold = 0"),
        (
            MixtureRecipe,
            {"weights": [{"language": "go", "weight": 1}, {"language": "go", "weight": 2}]},
            "names go more than once",
        ),
        (MixtureRecipe, {"weights": [{"language": "go", "weight": 0}]}, "weights.0.weight = 0"),
        (MixtureRecipe, {"heldout_fraction": 0.9}, "heldout_fraction = 0.9"),
    ],
)
def test_bad_knobs_are_refused(recipe, values, message):
    with pytest.raises(InvalidRecipeError, match=message):
        recipe.parse(values)
