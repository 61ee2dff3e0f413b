"""Errors, motion and floors on cases that a hand can check, and against plain loops."""

import pytest
import torch

from modeling_unigloR.keypoints_uniglor import LAYOUTS
from train.metrics.reconstruction import (
    best_static_pose,
    effective_rank,
    errors_by_part,
    linear_code_errors,
    motion,
    mpjpe,
    nearest_segment_error,
)

PARTS = LAYOUTS["uniglor73"].parts


def test_the_error_is_the_mean_distance_over_seen_points():
    target, mask = torch.zeros(2, 15, 73, 2), torch.ones(2, 15, 73)
    prediction = target + torch.tensor([3.0, 4.0])
    prediction[:, :, 50:] = 100
    mask[:, :, 50:] = 0
    assert mpjpe(prediction, target, mask) == pytest.approx(5)


def test_errors_stand_by_part_and_hand_shape_forgets_the_wrist():
    target, mask = torch.zeros(1, 15, 73, 2), torch.ones(1, 15, 73)
    prediction = target.clone()
    prediction[:, :, PARTS["body"], 0] = 1  # wrists too
    prediction[:, :, PARTS["face"], 0] = 2
    prediction[:, :, PARTS["left_hand"], 0] = 1
    prediction[:, :, PARTS["right_hand"], 0] = 3
    errors = errors_by_part(prediction, target, mask, "uniglor73")
    expected = {"mpjpe": (8 + 19 * 2 + 23 + 23 * 3) / 73, "mpjpe_body": 1, "mpjpe_face": 2, "mpjpe_hands": 2, "mpjpe_hand_shape": 1}
    assert errors == pytest.approx(expected)


def test_a_static_pose_has_no_motion_and_all_its_jumps_at_the_borders():
    target = torch.arange(45).float().view(3, 15, 1, 1).expand(3, 15, 73, 2).clone()  # one clip that drifts evenly
    follows = torch.tensor([False, True, True])
    still = target.mean(1, keepdim=True).expand_as(target)
    found = motion(still, target, torch.ones(3, 15, 73), follows)
    assert found["motion_ratio"] == 0 and found["border_jump"] == pytest.approx(15)
    assert motion(target, target, torch.ones(3, 15, 73), follows) == pytest.approx({"motion_ratio": 1, "border_jump": 1})


def test_borders_between_clips_do_not_count():
    target = torch.randn(4, 15, 73, 2)
    found = motion(target, target, torch.ones(4, 15, 73), torch.tensor([False, False, False, False]))
    assert found["border_jump"] != found["border_jump"]  # not a number: there is none


def test_the_static_floor_is_the_geometric_median():
    """Of 15 frames 14 stand at 0 and one at 10: the mean would pay for it, the median does not."""
    target = torch.zeros(1, 15, 73, 2)
    target[:, 7] = 10
    pose = best_static_pose(target, torch.ones(1, 15, 73))
    assert pose.abs().max() < 1e-3
    torch.manual_seed(0)
    target, mask = torch.randn(4, 15, 73, 2), (torch.rand(4, 15, 73) > 0.3).float()
    best = mpjpe(best_static_pose(target, mask), target, mask)
    mean = (target * mask[..., None]).sum(1, keepdim=True) / mask.sum(1, keepdim=True)[..., None].clamp_min(1)
    assert best < mpjpe(mean, target, mask)
    for _ in range(20):
        nearby = best_static_pose(target, mask) + 0.05 * torch.randn(4, 1, 73, 2)
        assert best <= mpjpe(nearby, target, mask) + 1e-4


def test_the_nearest_segment_is_the_one_that_a_loop_finds():
    torch.manual_seed(0)
    bank, target = torch.randn(40, 15, 73, 2), torch.randn(5, 15, 73, 2)
    target[0] = bank[17]
    mask = (torch.rand(5, 15, 73) > 0.3).float()
    total = 0.0
    for segment, seen in zip(target, mask):
        total += min(float(((candidate - segment).norm(dim=-1) * seen).sum()) for candidate in bank)
    found = nearest_segment_error(target, mask, bank, batch_size=2)
    assert found == pytest.approx(total / float(mask.sum()), rel=0.01)
    assert nearest_segment_error(target[:1], mask[:1], bank) == pytest.approx(0, abs=1e-5)


def test_linear_codes_are_exact_where_segments_have_as_few_directions():
    """And beyond that as exact as numpy's principal components."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(20, 15 * 73 * 2, generator=generator)

    def segments(num):
        return (torch.randn(num, 20, generator=generator) @ directions + 3).view(num, 15, 73, 2)

    bank, target, mask = segments(200), segments(10), torch.ones(10, 15, 73)
    errors = linear_code_errors(target, mask, bank, sizes=(8, 20, 10_000))
    assert list(errors) == [8, 20] and errors[20] < 1e-3
    flat = bank.flatten(1)
    components = torch.linalg.svd(flat - flat.mean(0), full_matrices=False)[2][:8]
    expected = (target.flatten(1) - flat.mean(0)) @ components.T @ components + flat.mean(0)
    assert errors[8] == pytest.approx(mpjpe(expected.view_as(target), target, mask), rel=1e-3)


def test_effective_rank_counts_directions():
    torch.manual_seed(0)
    assert effective_rank(torch.randn(5000, 8)) == pytest.approx(8, rel=0.02)
    assert effective_rank(torch.randn(5000, 1) @ torch.randn(1, 8)) == pytest.approx(1, rel=0.02)
