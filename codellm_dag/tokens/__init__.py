"""From documents to rows of tokens: vocabulary, fill-in-the-middle, packing, shards on disk."""
