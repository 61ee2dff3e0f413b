"""Worse keypoints, another estimator, another signer: what each change does to a clip, and where the scores go."""

import json

import numpy as np
import pytest

from modeling_unigloR import KeypointClip, KeypointProcessor
from modeling_unigloR.keypoints_uniglor import LAYOUTS, point_index
from train import evaluate_checkpoint
from train.data.clips import Clips
from train.evaluation.robustness import (
    CHANGES,
    CROP,
    NOISE,
    at_half_the_rate,
    by_another_estimator,
    by_the_other_hand,
    from_a_cropped_picture,
    robustness,
    with_lost_hands,
    with_noise,
    write_changed,
)
from train.evaluation.translation import translate
from train.metrics.text import text_scores
from train.publishing.model_cards import _robustness

from .conftest import random_signing

PROCESSOR = KeypointProcessor()
PARTS = LAYOUTS["uniglor73"].parts


def changed(change, num_frames=200, seed=0):
    clip, seen = random_signing(num_frames), np.ones((num_frames, 73), bool)
    before = clip.copy(), seen.copy()
    found = change(clip, seen, 25.0, PROCESSOR, np.random.default_rng(seed))
    np.testing.assert_array_equal(clip, before[0])
    np.testing.assert_array_equal(seen, before[1])
    return clip, *found


def test_noise_trembles_by_what_it_says_and_by_its_seed():
    clip, noisy, seen, fps, _ = changed(with_noise)
    assert np.std(noisy - clip) == pytest.approx(NOISE, rel=0.05) and seen.all() and fps == 25  # of 29,200 numbers
    np.testing.assert_array_equal(noisy, changed(with_noise)[1])
    assert (noisy != changed(with_noise, seed=1)[1]).any()


def test_hands_are_lost_whole_and_in_bursts():
    _, _, seen, *_ = changed(with_lost_hands, num_frames=3000)
    assert seen[:, PARTS["body"]].all() and seen[:, PARTS["face"]].all()
    for part in ("left_hand", "right_hand"):
        lost = ~seen[:, PARTS[part]]
        assert (lost.all(1) == lost.any(1)).all() and 0.05 < lost.any(1).mean() < 0.3
        assert np.mean(lost[1:, 0] == lost[:-1, 0]) > 0.9  # few begin and end


def test_half_the_rate_is_every_second_frame():
    clip, kept, seen, fps, _ = changed(at_half_the_rate)
    np.testing.assert_array_equal(kept, clip[::2])
    assert len(seen) == 100 and fps == 12.5
    assert at_half_the_rate(clip, seen, None, PROCESSOR, None)[2] is None


def test_a_cropped_picture_shows_its_middle():
    clip, _, seen, *_ = changed(from_a_cropped_picture)
    np.testing.assert_array_equal(seen, (np.abs(clip[..., 0]) < CROP) & (clip[..., 1] < CROP))


def test_another_estimator_gives_the_same_body_and_hands_and_no_face():
    clip, points, seen, fps, layout = changed(by_another_estimator, num_frames=30)
    again = PROCESSOR.process(KeypointClip(points * 100 + 500, seen.astype(np.float32), layout, fps=fps, width=1000, height=1000))
    plain = PROCESSOR.process(
        KeypointClip(clip * 100 + 500, np.ones(clip.shape[:2], np.float32), "uniglor73", fps=fps, width=1000, height=1000)
    )
    kept = np.r_[
        PARTS["left_hand"], PARTS["right_hand"], [point_index("uniglor73")[name] for name in ("nose", "left_elbow", "right_wrist")]
    ]
    np.testing.assert_allclose(again.keypoints[:, kept], plain.keypoints[:, kept], atol=2e-5)  # its neck is the middle of the shoulders
    assert not again.keypoint_mask[:, PARTS["face"]].any() and again.keypoint_mask[:, PARTS["body"]].all()


def test_the_other_hand_twice_is_the_signer():
    clip, mirrored, seen, fps, layout = changed(by_the_other_hand)
    again, *_ = by_the_other_hand(mirrored, seen, fps, PROCESSOR, None)
    np.testing.assert_allclose(again, clip, atol=1e-6)
    assert np.abs(mirrored - clip).max() > 0.1


@pytest.fixture(scope="module")
def clips(corpus, tmp_path_factory):
    return Clips([corpus], "test", PROCESSOR, tmp_path_factory.mktemp("frames"))


def test_clips_that_are_written_unchanged_are_read_as_they_were(clips, tmp_path):
    write_changed(tmp_path / "rows.parquet", clips, CHANGES["as they are"], PROCESSOR)
    again = Clips([str(tmp_path / "rows.parquet")], "train", PROCESSOR, tmp_path)
    assert (again.ids, again.texts, again.glosses, again.languages) == (clips.ids, clips.texts, clips.glosses, clips.languages)
    for index in range(len(clips)):
        for one, other in zip(clips.keypoints(index), again.keypoints(index)):
            np.testing.assert_allclose(one, other, atol=1e-3)  # frames are kept as half floats


def test_a_clip_that_nothing_is_left_of_stays_as_it_was(clips, tmp_path):
    write_changed(tmp_path / "rows.parquet", clips, lambda keypoints, seen, fps, *_: (keypoints, seen & False, fps, "uniglor73"), PROCESSOR)
    assert len(Clips([str(tmp_path / "rows.parquet")], "train", PROCESSOR, tmp_path)) == len(clips)


def brief(pipe):
    """A random model never ends a sentence by itself."""
    pipe.model.generation_config.max_new_tokens, pipe.model.generation_config.num_beams = 4, 1
    return pipe


def test_the_first_row_is_the_ordinary_score(clips, tiny_sign_to_text):
    pipe = brief(tiny_sign_to_text())
    rows = robustness("sign-to-text", pipe, clips)
    ordinary = text_scores(translate(pipe.model, pipe.tokenizer, clips), clips.texts)
    assert list(rows) == list(CHANGES) and all(row["num_scored"] == 5 for row in rows.values())
    assert rows["as they are"]["bleu1"] == pytest.approx(ordinary["bleu1"], abs=5)  # half floats may change a token
    with pytest.raises(ValueError, match="expected sign-to-text or sign-recognition"):
        robustness("text-to-sign", pipe, clips)


def test_the_table_goes_into_the_report_and_the_model_card(corpus, tiny_sign_to_text, tmp_path, capsys):
    brief(tiny_sign_to_text()).save_pretrained(tmp_path)
    (tmp_path / "report.json").write_text('{"validation": {"eval_bleu4": 3.0}}')
    argv = ["--robustness", "--checkpoint", str(tmp_path), "--datasets", corpus, "--split", "test", "--device", "cpu"]
    measured = evaluate_checkpoint.main(argv)
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["validation"] == {"eval_bleu4": 3.0} and report["robustness"] == measured
    assert set(measured["rows"]["mirrored signer"]) == {"bleu4", "rouge_l", "wer", "num_scored"}
    assert "| half the frame rate |" in capsys.readouterr().out
    card = _robustness(report)
    assert card.startswith("\n## Robustness") and "| hands lost in bursts |" in card and str(tmp_path) not in card
    assert _robustness({}) == _robustness(None) == ""


def test_signing_that_is_generated_has_no_robustness(capsys):
    with pytest.raises(SystemExit):
        evaluate_checkpoint.main(["--robustness", "--task", "text-to-sign", "--checkpoint", "a", "--datasets", "b"])
    assert "give --task sign-to-text or sign-recognition" in capsys.readouterr().err
