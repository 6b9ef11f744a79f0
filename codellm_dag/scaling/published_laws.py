"""Published scaling laws, to put ours beside. Losses there are nats a token: compare exponents."""

from __future__ import annotations

from dataclasses import dataclass

from codellm_dag.scaling.law import Law


@dataclass(frozen=True)
class PublishedLaw:
    """A law and where it stands."""

    name: str
    law: Law
    source: str


PUBLISHED_LAWS = (
    PublishedLaw(
        "Chinchilla",
        Law(E=1.69, A=406.4, B=410.7, alpha=0.34, beta=0.28),
        "Hoffmann et al. 2022, arXiv:2203.15556, section 3.3, equation 10",
    ),
    PublishedLaw(
        "Chinchilla, refitted",
        Law(E=1.8172, A=482.01, B=2085.43, alpha=0.3478, beta=0.3658),
        "Besiroglu et al. 2024, arXiv:2404.10102, table 1",
    ),
)

IRREDUCIBLE_ORDER = (("csharp",), ("java", "rust"), ("go",), ("typescript",), ("javascript",), ("python",))
"""Languages by irreducible loss E, the least first: C# < Java ≈ Rust < Go < TypeScript < JavaScript < Python
(Yang et al. 2025, Scaling Laws for Code: Every Programming Language Matters, arXiv:2512.13472, which carries
the experiments of arXiv:2511.18538). Its coefficients were not at hand and are not given here."""


def published_rank(language: str) -> int | None:
    """The place of `language` in that order, from 1; None if it is not among the seven."""
    for place, names in enumerate(IRREDUCIBLE_ORDER, start=1):
        if language in names:
            return place
    return None
