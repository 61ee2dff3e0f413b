"""Pose weights: how much each part of the body counts in a loss over keypoints (paper section 3.3, Eq 1-2, Tab 5).

Shapes: N segments, W frames in a window, K keypoints, C channels.
"""

import torch
from transformers import PreTrainedConfig

from .keypoints_uniglor import get_layout, point_index

MOTIONLESS = 1e-12  # squared shoulder lengths


def keypoint_weights(keypoints: torch.Tensor, keypoint_mask: torch.Tensor, config: PreTrainedConfig) -> torch.Tensor:
    """Weights of every keypoint in every segment, as `config.keypoint_weighting` says.

    Args:
        keypoints: (N, W, K, C) in shoulder lengths.
        keypoint_mask: (N, W, K), 1 where the point was seen.
        config: a `SignMAEConfig`.

    Returns:
        (N, 1, K) weights: one for each part and segment, the same for its frames.
    """
    layout = get_layout(config.layout)
    if config.keypoint_weighting in ("adaptive", "adaptive_as_printed"):
        weights = _adaptive_weights(keypoints, keypoint_mask, config)
    else:
        fixed = config.keypoint_weighting == "fixed"
        values = (config.fixed_body_weight, config.fixed_face_weight, config.fixed_hand_weight) if fixed else (1.0, 1.0, 1.0)
        weights = keypoints.new_tensor(values).expand(len(keypoints), 3)
    body, face, hand = weights.unbind(1)
    by_part = {"body": body, "face": face, "left_hand": hand, "right_hand": hand}
    spread = [by_part[part][:, None].expand(-1, span.stop - span.start) for part, span in layout.parts.items()]
    return torch.cat(spread, dim=1)[:, None]  # (N, 1, K)


def part_variances(keypoints: torch.Tensor, keypoint_mask: torch.Tensor, layout_name: str, variance: str = "pooled") -> torch.Tensor:
    """s_b, s_nf, s_rh of each segment: variance of the body, of the face about its centroid, of the hands about their wrists.

    Args:
        keypoints, keypoint_mask: (N, W, K, C), (N, W, K).
        variance: "pooled" over frames and present points; "temporal", of each point over frames, then the mean over points; or "moving",
            the same, but the mean counts each point by its own variance: it is that of the points that move, however many stand still.

    Returns:
        (N, 3): summed over coordinates; 0 for a part of which nothing was seen.
    """
    layout, index = get_layout(layout_name), point_index(layout_name)
    mask = keypoint_mask.to(keypoints.dtype)[..., None]  # (N, W, K, 1)

    body, face = layout.parts["body"], layout.parts["face"]
    centroid = _masked_mean(keypoints[:, :, face], mask[:, :, face], dim=2)
    hands, hand_masks = [], []
    for part in ("left_hand", "right_hand"):
        points = [index[name] for name in layout.names[layout.parts[part]] if name not in layout.copies]
        wrist = index[layout.anchors[layout.names[points[0]]]]
        hands.append(keypoints[:, :, points] - keypoints[:, :, wrist, None])
        hand_masks.append(mask[:, :, points] * mask[:, :, wrist, None])
    parts = (
        (keypoints[:, :, body], mask[:, :, body]),
        (keypoints[:, :, face] - centroid, mask[:, :, face]),
        (torch.cat(hands, 2), torch.cat(hand_masks, 2)),
    )
    return torch.stack([_variance(points, seen, variance) for points, seen in parts], dim=1)


def _adaptive_weights(keypoints: torch.Tensor, keypoint_mask: torch.Tensor, config: PreTrainedConfig) -> torch.Tensor:
    """(N, 3) weights of body, face, hands: Eq 1, as printed or with the sign that its own fixed weights imply."""
    keypoints = keypoints.detach().float()
    variances = part_variances(keypoints, keypoint_mask, config.layout, config.weight_variance)
    body, total = variances[:, :1], variances.sum(1, keepdim=True)
    sign = 1.0 if config.keypoint_weighting == "adaptive_as_printed" else -1.0
    weights = 1 - (variances + sign * body) / total.clamp_min(MOTIONLESS)
    return torch.where(_moves(keypoints, keypoint_mask)[:, None], weights.clamp_min(0), torch.ones_like(weights))


def _moves(keypoints: torch.Tensor, keypoint_mask: torch.Tensor) -> torch.Tensor:
    """(N,) bool: whether any point that is seen in two neighbouring frames moves."""
    seen = keypoint_mask[:, 1:].bool() & keypoint_mask[:, :-1].bool()
    steps = keypoints.diff(dim=1).square().sum(-1)
    return (steps * seen).sum((1, 2)) > MOTIONLESS


def _masked_mean(values: torch.Tensor, mask: torch.Tensor, dim: int | tuple[int, ...], keepdim: bool = True) -> torch.Tensor:
    return (values * mask).sum(dim, keepdim=keepdim) / mask.sum(dim, keepdim=keepdim).clamp_min(1)


def _variance(points: torch.Tensor, mask: torch.Tensor, variance: str) -> torch.Tensor:
    dims = (1, 2) if variance == "pooled" else 1
    squared = (points - _masked_mean(points, mask, dims)).square()
    if variance == "pooled":
        return _masked_mean(squared, mask, dims, keepdim=False).sum(-1)
    over_frames = _masked_mean(squared, mask, 1, keepdim=False).sum(-1, keepdim=True)  # (N, K', 1)
    if variance == "moving":
        return (over_frames.square().sum(1) / over_frames.sum(1).clamp_min(MOTIONLESS)).squeeze(-1)
    return _masked_mean(over_frames, mask.any(1), 1, keepdim=False).squeeze(-1)
