"""Grids of trainings: every system, the table of what is done, and the ceiling that recognises everything."""

import json
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from experiments import rendered_phoenix_grid
from modeling_unigloR import KeypointProcessor, SignMAEEncoderModel
from tests.conftest import TINY_TEXT
from train.data.clips import Clips


@pytest.fixture
def grid(corpus, sign_mae_dir, tmp_path):
    """Arguments of a grid over the corpus."""
    config = {
        "text_config": TINY_TEXT, "max_steps": 2, "per_device_train_batch_size": 4, "eval_strategy": "steps", "eval_steps": 2,
        "save_strategy": "steps", "save_steps": 2, "generation_num_beams": 1, "max_new_tokens": 6, "use_cpu": True,
        "early_stopping_patience": None,
    }  # fmt: skip
    (tmp_path / "tiny.yaml").write_text(json.dumps(config))
    return [
        "sign-to-text", "--datasets", corpus, "--sign_mae", sign_mae_dir, "--untrained_sign_mae", sign_mae_dir, "--config",
        str(tmp_path / "tiny.yaml"), "--output_dir", str(tmp_path / "grid"), "--learning_rates", "1e-2", "--seeds", "0",
    ]  # fmt: skip


def test_a_grid_is_shared_resumed_and_collected(grid, tmp_path, monkeypatch):
    chosen = ["--systems", "segments", rendered_phoenix_grid.CEILING]
    for part in ("0/2", "1/2"):
        rendered_phoenix_grid.main([*grid, *chosen, "--part", part])
    monkeypatch.setattr(rendered_phoenix_grid.subprocess, "run", None)
    rendered_phoenix_grid.main([*grid, *chosen])  # all is done
    result = rendered_phoenix_grid.main([*grid, *chosen, "--collect", str(tmp_path / "table.json")])
    assert json.loads((tmp_path / "table.json").read_text()) == result
    assert set(result["rows"]) == {"segments", rendered_phoenix_grid.CEILING} and len(result["floors"]) == 3
    assert list(result["paired_tests"]) == [f"segments against {rendered_phoenix_grid.CEILING}"]


@pytest.fixture
def clips(corpus, tmp_path):
    return Clips([corpus], "train", KeypointProcessor(), tmp_path)


@pytest.fixture
def sign_mae(sign_mae_dir):
    return SignMAEEncoderModel.from_pretrained(sign_mae_dir)


def test_the_ceiling_knows_each_gloss_and_nothing_else(clips, sign_mae):
    vectors = rendered_phoenix_grid.TrueGlosses().build(clips, sign_mae)
    found = {}
    for index, line in enumerate(clips.glosses):
        assert len(vectors[index]) == vectors.lengths[index] == len(line.split())
        for gloss, vector in zip(line.split(), vectors[index]):
            np.testing.assert_array_equal(found.setdefault(gloss, vector), vector)
    assert len(np.unique(np.stack(list(found.values())), axis=0)) == len(found)


def test_the_ceiling_says_that_it_needs_glosses(clips, sign_mae):
    clips.glosses[3] = None
    with pytest.raises(ValueError, match="1 of 12 clips have no gloss"):
        rendered_phoenix_grid.TrueGlosses().build(clips, sign_mae)


def test_a_window_has_the_gloss_that_fills_more_than_half_of_it():
    clips = SimpleNamespace(ids=["a"], num_frames=np.array([30]))
    states = {"a": [0] * 8 + [4, 5, 6] * 4 + [7] * 9}  # rest, gloss 1 for 12 frames, gloss 2 for 9; then one frame that was added
    assert rendered_phoenix_grid.window_glosses(clips, states, window_size=10, stride=5).tolist() == [-1, 1, 1, -1, 2]


def test_the_ceiling_of_windows_has_a_vector_for_each_latent(clips, sign_mae, tmp_path):
    table = {"id": clips.ids, "sign_state": [[1] * int(length) for length in clips.num_frames]}
    pq.write_table(pa.table(table), tmp_path / "alignments.parquet")
    vectors = rendered_phoenix_grid.GlossesOfWindows([tmp_path / "alignments.parquet"]).build(clips, sign_mae)
    assert vectors.lengths.tolist() == [sign_mae.num_segments(int(length)) for length in clips.num_frames]
    assert all((vectors[index] == vectors[0][0]).all() for index in range(12))
