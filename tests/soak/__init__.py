"""Reliability, tried in bulk: `make soak` runs all parts and writes `benchmarks/results/reliability.md`.

Each part is a module with `soak(scale, folder, seed)`, which returns `Row`s; scale 1 is what the table shows, and the
tests run the same part at a small scale.
"""

from dataclasses import dataclass, field


@dataclass
class Row:
    """What was tried, how often, and what came of it.

    Attributes:
        what: in words, e.g. "kill -9 while saving: resumes that fail".
        tried: number of cases.
        outcomes: {name: count} of all cases, e.g. {"finite": 3120, "ValueError": 880}.
        bad: how many of them are failures.
        asked: what is wanted, in words, e.g. "0 of 40".
        note: numbers that belong to it, in words.
        examples: for each kind of failure one line that reproduces it.
    """

    what: str
    tried: int
    outcomes: dict
    bad: int
    asked: str
    note: str = ""
    examples: list = field(default_factory=list)
