"""Paired runs that print ratios: `python -m benchmarks.run --help`."""
