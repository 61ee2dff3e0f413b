"""Fixed pose weights of a corpus: the mean of the adaptive ones, and lines that pretraining takes."""

import numpy as np
import pytest
import yaml

from modeling_unigloR import KeypointProcessor, SignMAEConfig, keypoint_weights
from modeling_unigloR.keypoints_uniglor import LAYOUTS
from train import pose_weights, pretrain
from train.data.segments import FrameStore, consecutive_segments, load_rows

BODY, FACE, LEFT, RIGHT = (LAYOUTS["uniglor73"].parts[part] for part in ("body", "face", "left_hand", "right_hand"))


@pytest.fixture
def segments(corpus):
    store = FrameStore.build(load_rows(corpus, "train"), KeypointProcessor())
    return consecutive_segments(store, 15)[:2]


def test_weights_are_the_mean_over_segments(segments):
    keypoints, mask = segments
    found = pose_weights.mean_weights(keypoints, mask, SignMAEConfig(), batch_size=5)
    one_by_one = [keypoint_weights(keypoints[[n]], mask[[n]], SignMAEConfig())[0, 0] for n in range(len(keypoints))]
    assert found["num_segments"] == len(keypoints) > 10
    for part, span in (("body", BODY), ("face", FACE), ("hand", RIGHT)):
        values = [float(weights[span.start]) for weights in one_by_one]
        assert found["weights"][part] == pytest.approx(np.mean(values), abs=1e-5)
        assert found["deviations"][part] == pytest.approx(np.std(values), abs=1e-3)
        assert found["seen"][part] == 1
    assert sum(found["variance_shares"].values()) == pytest.approx(1)


def test_segments_that_do_not_show_a_part_have_no_say_in_its_weight(segments):
    keypoints, mask = (tensor.clone() for tensor in segments)
    whole = pose_weights.mean_weights(keypoints[4:], mask[4:], SignMAEConfig())
    mask[:4, :, FACE] = False
    found = pose_weights.mean_weights(keypoints, mask, SignMAEConfig())
    assert found["weights"]["face"] == pytest.approx(whole["weights"]["face"])
    assert found["seen"]["face"] == pytest.approx(1 - 4 / len(keypoints))
    mask[:, :, FACE] = False
    assert pose_weights.mean_weights(keypoints, mask, SignMAEConfig())["weights"]["face"] == 1


def test_one_hand_is_enough_to_be_seen(segments):
    keypoints, mask = segments
    mask = mask.clone()
    mask[:, :, LEFT] = False
    assert pose_weights.mean_weights(keypoints, mask, SignMAEConfig())["seen"]["hand"] == 1


def test_what_is_printed_pretrains(corpus, capsys, tmp_path):
    found = pose_weights.main(["--datasets", corpus])
    printed = capsys.readouterr().out
    lines = yaml.safe_load(printed)
    assert lines["keypoint_weighting"] == "fixed" and lines["fixed_body_weight"] == 1
    assert lines["fixed_hand_weight"] == pytest.approx(found["weights"]["hand"], abs=1e-3)
    assert "of the variance" in printed
    (tmp_path / "config.yaml").write_text(f"datasets: [{corpus}]\n" + printed)
    _, fields, *_ = pretrain.parse([str(tmp_path / "config.yaml")])
    assert SignMAEConfig(**fields).fixed_face_weight == lines["fixed_face_weight"]


def test_the_processor_of_a_checkpoint_says_which_points_are_seen(corpus, tmp_path, capsys):
    KeypointProcessor(fps=12.5).save_pretrained(tmp_path)
    halved = pose_weights.main(["--datasets", corpus, "--processor", str(tmp_path)])
    whole = pose_weights.main(["--datasets", corpus])
    assert halved["num_segments"] < whole["num_segments"]
    with pytest.raises(ValueError, match="window_size=99"):
        pose_weights.main(["--datasets", corpus, "--window_size", "99"])
