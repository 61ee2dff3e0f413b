"""Rows into batches: clips, segments, caches, tokenizers."""
