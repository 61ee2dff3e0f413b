"""A few hundred of the inputs that `python -m tests.soak --only inputs` tries by the ten thousands."""

import dataclasses

import numpy as np
import pytest

from modeling_unigloR import KeypointProcessor
from modeling_unigloR.keypoint_clip_uniglor import KeypointClip

from .soak import inputs


@pytest.mark.parametrize(
    "target, scale", [("process", 0.02), ("read", 0.02), ("pipelines", 0.03), ("models", 0.2), ("tables", 0.1), ("settings", 0.2)]
)
def test_any_input_gives_a_finite_answer_or_a_value_error(tmp_path, target, scale):
    rows = inputs.soak(scale, tmp_path, 0, (target,), processes=1)
    assert sum(row.bad for row in rows) == 0, [row.examples for row in rows]
    assert sum(row.tried for row in rows) >= round(inputs.CASES[target] * scale)


def test_a_case_is_the_same_every_time(tmp_path):
    first, second = (inputs.clip_arguments(np.random.default_rng(7)) for _ in range(2))
    np.testing.assert_array_equal(first["keypoints"], second["keypoints"])
    content = bytes(range(256)) * 4
    assert inputs.mutate(np.random.default_rng(7), content) == inputs.mutate(np.random.default_rng(7), content) != content


def test_failures_are_told_with_a_command_that_reproduces_them(tmp_path, monkeypatch):
    outcomes = iter([lambda: 3, lambda: 1 / 0, lambda: float("nan"), lambda: (_ for _ in ()).throw(ValueError("a"))])
    monkeypatch.setattr(inputs, "settings_case", lambda rng, folder: next(outcomes)())
    (row,) = inputs.soak(4 / inputs.CASES["settings"], tmp_path, 5, ("settings",), processes=1)
    assert row.outcomes == {"finite": 1, "ZeroDivisionError": 1, "not finite": 1, "ValueError": 1} and row.bad == 2
    assert (
        row.examples[0].startswith("ZeroDivisionError: division by zero | python -c") and "again('settings', 1, seed=5)" in row.examples[0]
    )


def test_numbers_are_looked_for_in_every_kind_of_answer():
    clip = KeypointProcessor().process(KeypointClip(inputs.random_signing(20)))
    assert inputs.is_finite(clip) and not inputs.is_finite(clip._replace(scale=np.array(np.inf)))
    read = KeypointClip(np.full((2, 3, 2), np.nan), np.zeros((2, 3)), "a")
    assert inputs.is_finite(read) and not inputs.is_finite(dataclasses.replace(read, confidence=np.ones((2, 3))))
    assert not inputs.is_finite({"a": [1.0, {"b": float("nan")}]}) and inputs.is_finite(["x", None, 3])
