"""Dagster assets and checks, one file per noun; each is a dozen lines around one stage."""
