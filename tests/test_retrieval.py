"""Signing by phrases of training clips."""

import numpy as np
import pytest

from modeling_unigloR.keypoints_uniglor import get_layout
from train.evaluation.retrieval import RetrievalSigner

TEXTS = ["morgen regnet es im norden", "am abend scheint die sonne", "es schneit"]
WRISTS = [get_layout("uniglor73").parts[part].start for part in ("left_hand", "right_hand")]


def clip(num_frames, rests, number):
    """Hands that move, but for the frames of `rests`; every point also says which clip it is from."""
    steps = np.full(num_frames, 0.1)
    for rest in rests:
        steps[max(0, rest - 1) : rest + 2] = 0
    keypoints = np.full((num_frames, 73, 2), float(number))
    keypoints[:, WRISTS] += np.cumsum(steps)[:, None, None]
    return keypoints.astype(np.float32)


@pytest.fixture
def signer():
    return RetrievalSigner([clip(50, [20, 41], 0), clip(50, [18, 32], 1), clip(20, [10], 2)], TEXTS)


@pytest.mark.parametrize("index", [0, 1, 2])
def test_a_training_sentence_is_its_own_clip(index, signer):
    np.testing.assert_array_equal(signer.sign(TEXTS[index]), signer.clips[index])


def test_phrases_of_two_sentences_are_cut_where_the_hands_rest(signer):
    first, second = signer.phrases("morgen regnet scheint die sonne")
    assert (first.clip, first.start, first.words) == (0, 0, ["morgen", "regnet"])
    assert (second.clip, second.end, second.words) == (1, 50, ["scheint", "die", "sonne"])
    assert abs(first.end - 20) <= 3 and abs(second.start - 18) <= 3  # rests, averaged over 5 frames


def test_the_motion_between_phrases_is_no_faster_than_people_move(signer):
    signed = signer.sign("morgen regnet scheint die sonne")
    first, second = signer.phrases("morgen regnet scheint die sonne")
    num_between = len(signed) - (first.end - first.start) - (second.end - second.start)
    assert 2 <= num_between <= 15
    np.testing.assert_array_equal(signed[: first.end], signer.clips[0][: first.end])
    np.testing.assert_array_equal(signed[-(50 - second.start) :], signer.clips[1][second.start :])
    between = signed[first.end - 1 : first.end + num_between + 1, WRISTS[0], 0]
    assert (np.sign(np.diff(between)) == np.sign(between[-1] - between[0])).all()  # one way, without a step back
    assert signed.dtype == np.float32 and np.isfinite(signed).all()


def test_a_text_without_two_words_in_a_row_of_a_sentence_is_the_clip_of_its_nearest_sentence(signer):
    whole = signer.phrases("sonne die scheint")
    assert [(phrase.clip, phrase.start, phrase.end) for phrase in whole] == [(1, 0, 50)]


def test_words_that_no_sentence_has_are_left_out(signer):
    assert [phrase.clip for phrase in signer.phrases("morgen regnet überall")] == [0]
    assert len(signer.sign("überall")) in (50, 20)  # of no word, the first sentence that is nearest to it


def test_a_clip_of_one_frame_is_signed(signer):
    short = RetrievalSigner([np.zeros((1, 73, 2), np.float32)], ["es schneit heute"])
    assert short.sign("es schneit").shape[0] >= 1


@pytest.mark.parametrize("clips, texts", [([], []), ([np.zeros((5, 73, 2))], [])])
def test_an_empty_training_set_is_refused_in_one_line(clips, texts):
    with pytest.raises(
        ValueError, match=r"^Found \d training clips and 0 sentences, expected at least one clip[^\n]*Give --train_datasets"
    ):
        RetrievalSigner(clips, texts)
