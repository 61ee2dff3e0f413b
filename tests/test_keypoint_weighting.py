"""Adaptive pose weights against cases computed by hand."""

import pytest
import torch

from modeling_unigloR import SignMAEConfig, keypoint_weights, part_variances
from modeling_unigloR.keypoints_uniglor import LAYOUTS, point_index

LAYOUT, INDEX = LAYOUTS["uniglor73"], point_index("uniglor73")
BODY, FACE, LEFT, RIGHT = (LAYOUT.parts[part] for part in ("body", "face", "left_hand", "right_hand"))


def two_frames(body=0.0, face=0.0, hand=0.0, body_spread=0.0):
    """Two frames in which whole parts step along x: the variance over frames is a quarter of the step squared.

    The body as a whole steps by `body`, every second face point by `face` (half of it is left about the centroid), the hands
    by `hand` more than their wrists. `body_spread` sets half of the body's points apart.
    """
    keypoints = torch.zeros(1, 2, 73, 2)
    keypoints[:, :, BODY.start : BODY.stop : 2, 1] += body_spread
    keypoints[:, 1, :, 0] += body
    keypoints[:, 1, FACE.start : FACE.stop : 2, 0] += face
    for part in (LEFT, RIGHT):
        keypoints[:, 1, part.start : part.start + 21, 0] += hand
        keypoints[:, :, part.start : part.start + 21, 1] += keypoints[:, :, [INDEX["left_wrist" if part is LEFT else "right_wrist"]], 1]
    return keypoints


def weights(keypoints, mask=None, **fields):
    mask = torch.ones(keypoints.shape[:3]) if mask is None else mask
    spread = keypoint_weights(keypoints, mask, SignMAEConfig(**fields))
    assert spread.shape == (len(keypoints), 1, 73)
    for part in (BODY, FACE, LEFT, RIGHT):
        assert (spread[:, :, part] == spread[:, :, part.start : part.start + 1]).all()
    assert (spread[:, :, LEFT.start] == spread[:, :, RIGHT.start]).all()
    return [round(float(spread[0, 0, part.start]), 5) for part in (BODY, FACE, LEFT)]


@pytest.mark.parametrize("variance", ["pooled", "temporal", "moving"])
def test_variances_of_parts_that_step(variance):
    """Steps of 2 give a variance of 1 for the body. Of 19 face points 10 step by 2 and the centroid by 20/19."""
    found = part_variances(two_frames(body=2.0, face=2.0, hand=4.0), torch.ones(1, 2, 73), "uniglor73", variance)[0]
    stepping, standing = 2 - 20 / 19, -20 / 19
    face_steps = [stepping] * 10 + [standing] * 9
    if variance == "temporal":
        face = sum(step**2 / 4 for step in face_steps) / 19
    elif variance == "moving":
        face = sum((step**2 / 4) ** 2 for step in face_steps) / sum(step**2 / 4 for step in face_steps)
    else:  # over frames and points: half of the values are 0 (the first frame), half are the steps
        values = [0.0] * 19 + face_steps
        face = sum(value**2 for value in values) / 38 - (sum(values) / 38) ** 2
    torch.testing.assert_close(found, torch.tensor([1.0, face, 4.0]), atol=1e-5, rtol=1e-5)


def test_pooled_variance_counts_how_far_apart_the_points_are():
    keypoints = two_frames(body=2.0, body_spread=2.0)
    body = {
        variance: float(part_variances(keypoints, torch.ones(1, 2, 73), "uniglor73", variance)[0, 0]) for variance in ("pooled", "temporal")
    }
    assert body == pytest.approx({"pooled": 2.0, "temporal": 1.0})


def test_the_moving_variance_is_that_of_the_points_that_move():
    """One wrist of eight points of the body moves: the mean over all says an eighth of what the wrist does."""
    keypoints = torch.zeros(1, 2, 73, 2)
    keypoints[0, 1, BODY.start + 7, 0] = 2.0
    mask = torch.ones(1, 2, 73)
    found = {variance: float(part_variances(keypoints, mask, "uniglor73", variance)[0, 0]) for variance in ("temporal", "moving")}
    assert found == pytest.approx({"temporal": 1 / 8, "moving": 1.0})
    mask[0, 0, BODY.start + 7] = 0  # seen once: nothing is known of its movement
    assert float(part_variances(keypoints, mask, "uniglor73", "moving")[0, 0]) == 0


def test_adaptive_weights_keep_the_body_at_one():
    """s_b = 4, s_nf = 0, s_rh = 1: the face gets 1 + 4/5, the hands 1 + 3/5."""
    assert weights(two_frames(body=4.0, hand=2.0)) == [1.0, 1.8, 1.6]


def test_adaptive_weights_fall_below_one_where_a_part_moves_more_than_the_body():
    """s_b = 1, s_rh = 4: the hands get 1 - 3/5."""
    assert weights(two_frames(body=2.0, hand=4.0)) == [1.0, 1.2, 0.4]


def test_adaptive_as_printed_is_equation_one_clamped_at_zero():
    """s_b = 4, s_rh = 1: the body would get 1 - 8/5, the face 1 - 4/5, the hands 1 - 5/5."""
    assert weights(two_frames(body=4.0, hand=2.0), keypoint_weighting="adaptive_as_printed") == [0.0, 0.2, 0.0]
    assert weights(two_frames(body=2.0, hand=4.0), keypoint_weighting="adaptive_as_printed") == [0.6, 0.8, 0.0]


def test_fixed_weights_are_the_papers():
    assert weights(two_frames(body=2.0), keypoint_weighting="fixed") == [1.0, 1.17, 1.18]


def test_no_weighting_is_one_everywhere():
    assert weights(two_frames(body=2.0), keypoint_weighting="none") == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("variance", ["pooled", "temporal", "moving"])
@pytest.mark.parametrize("weighting", ["adaptive", "adaptive_as_printed"])
def test_a_motionless_segment_weighs_one(variance, weighting):
    keypoints = two_frames(body_spread=1.0)
    assert weights(keypoints, keypoint_weighting=weighting, weight_variance=variance) == [1.0, 1.0, 1.0]


def test_a_part_that_was_not_seen_leaves_the_sum():
    """Without the hands the sum is s_b + s_nf: what unseen hands did must not count."""
    keypoints = two_frames(body=4.0, hand=50.0)
    mask = torch.ones(1, 2, 73)
    mask[:, :, LEFT], mask[:, :, RIGHT] = 0, 0
    assert weights(keypoints, mask)[:2] == [1.0, 2.0]


def test_weights_stay_between_zero_and_two():
    torch.manual_seed(0)
    keypoints, mask = torch.randn(64, 15, 73, 2) * torch.rand(64, 1, 73, 1), (torch.rand(64, 15, 73) > 0.3).float()
    for variance in ("pooled", "temporal", "moving"):
        found = keypoint_weights(keypoints, mask, SignMAEConfig(weight_variance=variance))
        assert (found >= 0).all() and (found <= 2).all() and (found[:, :, BODY] == 1).all()
