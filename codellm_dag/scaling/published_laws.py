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
        "Hoffmann et al. 2022, arXiv:2203.15556, appendix D.2, equation 10",
    ),
    PublishedLaw(
        "Chinchilla, refitted",
        Law(E=1.8172, A=482.01, B=2085.43, alpha=0.3478, beta=0.3658),
        "Besiroglu et al. 2024, arXiv:2404.10102 (github.com/epoch-research/analyzing-chinchilla)",
    ),
)


@dataclass(frozen=True)
class LanguageLaw:
    """Exponents and irreducible loss of one language; the other two coefficients were not published."""

    alpha: float
    beta: float
    E: float


PUBLISHED_LANGUAGES = {
    "python": LanguageLaw(0.221, 1.217, 0.566),
    "java": LanguageLaw(0.447, 1.129, 0.397),
    "javascript": LanguageLaw(0.692, 1.247, 0.554),
    "typescript": LanguageLaw(0.439, 1.303, 0.518),
    "csharp": LanguageLaw(0.321, 1.350, 0.288),
    "go": LanguageLaw(0.845, 1.149, 0.414),
    "rust": LanguageLaw(0.643, 1.297, 0.397),
}
"""Yang et al. 2025, Scaling Laws for Code: Every Programming Language Matters, arXiv:2512.13472, figure 2:
``(N_c/N)^alpha + (D_c/D)^beta + E``, of 60 runs a language (0.1B to 3.1B parameters, 2B to 64B tokens).
Digests of arXiv:2511.18538, section 8.2, quote the same. The text there says that Python has the largest
exponents; its alpha is the smallest of the figure."""


def published_rank(language: str) -> int | None:
    """The place of `language` among the seven by irreducible loss, from 1, the least; None if not there."""
    if language not in PUBLISHED_LANGUAGES:
        return None
    losses = sorted({law.E for law in PUBLISHED_LANGUAGES.values()})
    return losses.index(PUBLISHED_LANGUAGES[language].E) + 1
