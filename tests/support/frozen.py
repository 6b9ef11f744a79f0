"""Importing it, last, keeps what is loaded out of garbage collections: libraries live as long as a process.

A training run collects garbage; without this that walks all of PyTorch, and in a forked process copies it.
"""

from __future__ import annotations

import gc

gc.collect()
gc.freeze()
