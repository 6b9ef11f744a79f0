"""The licence filter."""

from __future__ import annotations

import pytest

from codellm_dag.corpora.steps.base import Rejection
from codellm_dag.corpora.steps.licence import LicenceFilter
from codellm_dag.recipes.corpora import LicenceRecipe


@pytest.mark.parametrize(
    ("licence", "reason"),
    [
        ("MIT", None),
        ("PSF-2.0", None),
        ("MIT OR Apache-2.0", None),
        ("GPL-3.0-only", "not_allowed"),
        ("MIT AND GPL-2.0-only", "not_allowed"),
        ("", "unknown"),
        ("see LICENSE", "invalid"),
    ],
)
def test_the_default_list_is_permissive(document, licence, reason):
    given = document("x = 1\n", licence=licence)
    result = LicenceFilter(LicenceRecipe()).apply(given)
    assert result is given if reason is None else isinstance(result, Rejection) and result.reason == reason


def test_unknown_licences_may_pass_but_forbidden_ones_never(document):
    step = LicenceFilter(LicenceRecipe(allow_unknown=True))
    for licence in ("", "see LICENSE"):
        given = document("x = 1\n", licence=licence)
        assert step.apply(given) is given
    assert step.apply(document("x = 1\n", licence="GPL-3.0-only")) == Rejection("not_allowed", "GPL-3.0-only")
