"""Puts segments through a SignMAE: what it gives back, and their latents.

Shapes: N segments, W frames in a window, K keypoints, C channels, D size of a latent.
"""

import torch
from torch.utils.data import DataLoader

from train.data.segments import SegmentSampler
from train.metrics import reconstruction


@torch.no_grad()
def reconstruct_segments(model, keypoints, batch_size=256):
    """(N, W, K, C) through encoder and decoder in eval mode, nothing masked, on the model's device; returned on the CPU."""
    was_training = model.training
    model.eval()
    reconstruction = torch.cat([model.reconstruct(batch.to(model.device)).float().cpu() for batch in keypoints.split(batch_size)])
    model.train(was_training)
    return reconstruction


def reconstruction_report(model, keypoints, mask, follows, batch_size=256):
    """Errors by part and motion of a model's reconstructions; points that it never learned are not scored."""
    mask = scored_points(mask, model)
    generated = reconstruct_segments(model, keypoints, batch_size)
    return reconstruction.errors_by_part(generated, keypoints, mask, model.config.layout) | reconstruction.motion(
        generated, keypoints, mask, follows
    )


def scored_points(mask, model):
    """(N, W, K) float: seen, and present in training."""
    return mask.float() * model.keypoint_presence.cpu()


@torch.no_grad()
def latents_of_training(model, dataset, batch_size=256, max_segments=20_000):
    """Unstandardised latents (N, D) of one segment of each training clip, at most `max_segments` of them."""
    order = list(SegmentSampler(dataset))[:max_segments]
    loader = DataLoader(dataset, sampler=order, batch_size=batch_size, collate_fn=_already_a_batch)
    return unstandardised_latents(model, (batch["keypoints"] for batch in loader))


@torch.no_grad()
def unstandardised_latents(model, batches):
    """Latents (N, D) of the segments of several batches (.., W, K, C), nothing masked."""
    model.eval()
    latents = torch.cat([model.encode(keypoints.to(model.device)).float() for keypoints in batches])
    return (latents * model.latent_std + model.latent_mean).cpu()


def _already_a_batch(batch):
    return batch
