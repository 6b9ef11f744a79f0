"""Is a licence expression satisfied by a list of allowed licences?

The grammar is SPDX's (annex D of the specification 2.3): ``OR`` offers a choice, ``AND`` demands both,
``WITH`` adds an exception, which only widens what the licence allows. Ids are checked by `packaging`. Not
covered: the text of a licence, and whether two licences may be combined.
"""

from __future__ import annotations

from collections.abc import Collection

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression


def satisfied(expression: str, allowed: Collection[str]) -> bool:
    """Whether someone who accepts only ``allowed`` (canonical SPDX ids) may use what ``expression`` covers.

    Raises InvalidLicenseExpression (of `packaging.licenses`) when the expression is not valid SPDX.
    """
    tokens = canonicalize_license_expression(expression).replace("(", " ( ").replace(")", " ) ").split()
    if not tokens:
        raise InvalidLicenseExpression("the licence expression is empty")
    return _Parser(tokens, allowed).either()


class _Parser:
    """Recursive descent over a valid expression; AND binds tighter than OR."""

    def __init__(self, tokens: list[str], allowed: Collection[str]) -> None:
        self._tokens = [*tokens, ""]
        self._at = 0
        self._allowed = allowed

    def either(self) -> bool:
        value = self._both()
        while self._accept("OR"):
            value = self._both() or value
        return value

    def _both(self) -> bool:
        value = self._one()
        while self._accept("AND"):
            value = self._one() and value
        return value

    def _one(self) -> bool:
        if self._accept("("):
            value = self.either()
            self._accept(")")
            return value
        licence = self._next()
        names = {licence, licence.removesuffix("+")}
        if self._accept("WITH"):
            names.add(f"{licence} WITH {self._next()}")
        return any(name in self._allowed for name in names)

    def _accept(self, token: str) -> bool:
        found = self._tokens[self._at] == token
        self._at += found
        return found

    def _next(self) -> str:
        self._at += 1
        return self._tokens[self._at - 1]
