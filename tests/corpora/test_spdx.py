"""Licence expressions against an allow-list, by hand."""

from __future__ import annotations

import pytest
from packaging.licenses import InvalidLicenseExpression

from codellm_dag.corpora.spdx import satisfied

ALLOWED = {"MIT", "Apache-2.0", "ISC"}


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("MIT", True),
        ("mit", True),
        ("GPL-3.0-only", False),
        ("MIT OR GPL-3.0-only", True),
        ("GPL-3.0-only OR MIT", True),
        ("MIT AND GPL-3.0-only", False),
        ("MIT AND Apache-2.0", True),
        ("GPL-3.0-only AND MIT OR ISC", True),
        ("GPL-3.0-only AND (MIT OR ISC)", False),
        ("(MIT OR GPL-2.0-only) AND (ISC OR GPL-2.0-only)", True),
        ("Apache-2.0 WITH LLVM-exception", True),
        ("GPL-2.0-only WITH Classpath-exception-2.0", False),
        ("Apache-2.0+", True),
        ("LicenseRef-own", False),
    ],
)
def test_or_offers_and_demands(expression, expected):
    assert satisfied(expression, ALLOWED) is expected


def test_an_exception_can_be_allowed_on_its_own():
    gpl = "GPL-2.0-only WITH Classpath-exception-2.0"
    assert satisfied(gpl, {gpl})


@pytest.mark.parametrize("bad", ["MIT AND", "Foo", "(MIT", ""])
def test_what_is_not_spdx_is_an_error(bad):
    with pytest.raises(InvalidLicenseExpression):
        satisfied(bad, ALLOWED)
