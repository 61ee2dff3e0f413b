"""Varies whole clips while a text task trains on keypoints: the speed, the view and the noise of the estimator."""

from dataclasses import dataclass

import torch
from torch.nn import functional as F


@dataclass
class KeypointAugmentation:
    """(T, K, C) in shoulder lengths -> (T', K, C); draws from torch's random state, which checkpoints keep.

    Attributes:
        speed: bounds of the factor on the signing's speed; (1, 1) keeps it. Text-to-sign must keep it: its lengths are learnt.
        rotation: standard deviation of a turn in the image plane, in degrees.
        stretch: bounds of the factor on the width.
        noise: standard deviation of each coordinate, in shoulder lengths.
    """

    speed: tuple = (0.85, 1.15)
    rotation: float = 5.0
    stretch: tuple = (0.9, 1.1)
    noise: float = 0.005

    def __call__(self, keypoints):
        num_frames = max(round(len(keypoints) / _between(*self.speed)), 1)
        if num_frames != len(keypoints):
            frames = keypoints.flatten(1).T[None]  # (1, K C, T)
            keypoints = F.interpolate(frames, num_frames, mode="linear", align_corners=True)[0].T.reshape(-1, *keypoints.shape[1:])
        angle = torch.deg2rad(self.rotation * torch.randn(()))
        turn = torch.eye(keypoints.shape[-1])
        turn[:2, :2] = torch.stack([torch.stack([angle.cos(), -angle.sin()]), torch.stack([angle.sin(), angle.cos()])])
        turn[0] *= _between(*self.stretch)
        return keypoints @ turn.T + self.noise * torch.randn_like(keypoints)


def _between(low, high):
    return low + (high - low) * torch.rand(()).item()
