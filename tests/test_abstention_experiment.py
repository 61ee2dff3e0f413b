"""The worth of distances: what stands in the table, on a tiny corpus."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from experiments import abstention
from train.data.clips import Clips

VALUES = st.lists(st.integers(0, 5), min_size=1, max_size=6)


@given(VALUES, VALUES)
def test_the_area_is_the_share_of_pairs_in_which_the_other_lies_farther(known, others):
    pairs = [(other > one) + (other == one) / 2 for one in known for other in others]
    known, others = (np.stack([values, 20 * np.array(values)], axis=1).astype(float) for values in (known, others))
    found = abstention.row(known, others)
    assert found["auc"] == pytest.approx(np.mean(pairs)) and found["num_scored"] == len(others)
    assert found["withheld"] == pytest.approx(100 * np.mean(others[:, 0] == 5))


def test_the_table_has_changed_clips_and_other_corpora(corpus, tiny_sign_to_text, tmp_path, capsys):
    pipe = tiny_sign_to_text()
    clips = Clips([corpus], "train", pipe.feature_extractor, tmp_path)
    latents = [pipe.model.encode_sequence(torch.from_numpy(clips.keypoints(index)[0])[None])[0][0] for index in range(len(clips))]
    pipe.model.set_training_distances(latents)
    pipe.save_pretrained(tmp_path / "model")
    argv = ["--checkpoint", str(tmp_path / "model"), "--datasets", corpus, "--split", "validation", "--cache_dir", str(tmp_path)]
    rows = abstention.main([*argv, "--others", f"again={corpus}", "--json", str(tmp_path / "table.json")])
    assert rows["as they are"]["auc"] == 0.5 and {"mirrored signer", "noise of 0.1", "again"} <= set(rows)
    assert rows["again"]["num_scored"] == 12 and (tmp_path / "table.json").exists()
    assert "| mirrored signer |" in capsys.readouterr().out
