"""TEST_SEED: every seed of the suite is shifted by it, so that no test can live on one lucky draw.

    TEST_SEED=3 python -m pytest

What a test asserts has to hold for any seed, its own and those of the scripts and libraries that it runs in its process (weights,
segments that are drawn, bootstraps). A seed that is no number (None: another one each time) stays.
"""

import functools
import os
import random

import numpy as np
import torch

TEST_SEED = int(os.environ.get("TEST_SEED", "0"))


def shifted(function, by):
    """`function`, whose first argument is a seed, with `by` added to it."""

    @functools.wraps(function)
    def call(*args, **fields):
        names = [name for name in ("seed", "a") if name in fields]
        if args:
            args = (shift(args[0], by), *args[1:])
        return function(*args, **fields | {name: shift(fields[name], by) for name in names})

    return call


def shift(seed, by):
    if isinstance(seed, (int, np.integer)):
        return int(seed) + by
    if isinstance(seed, (tuple, list)):  # numpy takes several numbers for one seed
        return [shift(seed[0], by), *seed[1:]]
    return seed


def shift_seeds(by):
    """From now on, in this process and those that it forks; nothing is touched where `by` is 0."""
    if not by:
        return

    class Generator(torch.Generator):
        def manual_seed(self, seed):
            return super().manual_seed(shift(seed, by))

    torch.Generator = Generator
    torch.manual_seed = torch.random.manual_seed = shifted(torch.manual_seed, by)
    np.random.default_rng, np.random.seed = shifted(np.random.default_rng, by), shifted(np.random.seed, by)
    random.seed = shifted(random.seed, by)
