"""Fixtures of this folder."""

from tests.support.stores import own_cache, s3_endpoint, s3_url, store

__all__ = ["own_cache", "s3_endpoint", "s3_url", "store"]
