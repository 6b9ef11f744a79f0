"""microbench: a generated family of small typed functions with hidden tests (see docs/microbench.md)."""
