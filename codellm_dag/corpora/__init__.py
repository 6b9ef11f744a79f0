"""Corpora: documents with their path, source and licence; cleaned step by step; mixed and held out.

Stages: `raw_corpus`, `clean_corpus`, `mixture` (one module each). `sources` says where documents come from,
`steps` what cleaning removes, `fetch` is the part of the set-up that downloads pinned packages of source
code, `bounds` tells whether a cleaning removed too much. Importing this package imports nothing heavy.
"""
