"""TEST_SEED reaches every seed that a test, or what it runs, may fix."""

import random

import numpy as np
import torch
from transformers import set_seed

from tests.seeds import shift_seeds


def draws(by=0):
    numbers = [
        np.random.default_rng(1 + by).random(),
        np.random.default_rng((2 + by, 5)).random(),
        np.random.default_rng(seed=3 + by).random(),
    ]
    numbers.append(torch.randn(1, generator=torch.Generator().manual_seed(4 + by)).item())
    torch.manual_seed(5 + by)
    numbers.append(torch.randn(1).item())
    set_seed(6 + by)
    return numbers + [torch.randn(1).item(), np.random.rand(), random.random()]


def test_every_kind_of_seed_is_shifted(monkeypatch):
    for owner, name in (
        (np.random, "default_rng"), (np.random, "seed"), (random, "seed"),
        (torch, "Generator"), (torch, "manual_seed"), (torch.random, "manual_seed"),
    ):  # fmt: skip
        monkeypatch.setattr(owner, name, getattr(owner, name))  # and back again after the test
    expected = draws(by=3)
    shift_seeds(3)
    assert draws() == expected


def test_a_generator_without_a_seed_stays_another_each_time(monkeypatch):
    monkeypatch.setattr(np.random, "default_rng", np.random.default_rng)
    shift_seeds(3)
    assert np.random.default_rng().random() != np.random.default_rng().random()
