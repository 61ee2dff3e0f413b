"""Mixing keypoints by learned relations: the most expensive part of the graph convolution, and several ways to compute it.

    relation[n, r, v, u] = tanh(query[n, r, v] - key[n, r, u])
    mixed[n, c, v, w]    = sum over r, u of relation[n, r, v, u] (sum over i of weight[i, c, r] features[n, i, u, w] + bias[c, r])

`mix_plain` computes this directly, the points first, since there are few input channels; autograd then stores several (N, R, K, K)
tensors. `mix` stores none of them: on a CPU it processes a few segments at a time, whose relations stay in the cache, and computes them
again in the backward pass; on a GPU a Triton kernel does so (`graph_mixing_triton_uniglor.py`), where Triton works.

Shapes: N segments, R relations (of all subsets), C channels, I input channels, W frames in a window, K keypoints.
"""

from functools import cache
from typing import Any

import torch
from torch.nn import functional as F
from transformers.utils import logging

from .graph_mixing_triton_uniglor import can_run, knows_kernels, related_plain, related_points

logger = logging.get_logger(__name__)

CACHE_FLOATS = 1_000_000  # relations that are held at a time


def mix(query: torch.Tensor, key: torch.Tensor, features: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """(N, R, K), (N, R, K), (N, I, K, W), (I, C, R), (C, R) -> (N, C, K, W)."""
    if features.device.type == "cuda" and _kernels_run(features.device):
        points = _columns(features)
        if torch.is_autocast_enabled("cuda"):
            points = points.to(torch.get_autocast_dtype("cuda"))  # as autocast multiplies them in the plain form
        if can_run(query, points):
            return _combine(related_points(query, key, points), features, weight, bias)
    if features.device.type == "cpu" and not torch.compiler.is_compiling():  # a compiler fuses the plain form itself
        return _ChunkedMix.apply(query, key, features, weight, bias)
    return mix_plain(query, key, features, weight, bias)


def mix_plain(query: torch.Tensor, key: torch.Tensor, features: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """`mix` with all relations in memory."""
    return _combine(related_plain(query, key, _columns(features)), features, weight, bias)


def _columns(features: torch.Tensor) -> torch.Tensor:
    """Every input channel and frame of a point, and a 1: (N, I, K, W) -> (N, K, I W + 1)."""
    return F.pad(features.transpose(1, 2).flatten(2), (0, 1), value=1.0)


def _combine(related: torch.Tensor, features: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """The output channels from the points that the relations gathered: (N, R, K, I W + 1) -> (N, C, K, W)."""
    mixed = (bias @ related[..., -1])[..., None]  # (N, C, K, 1)
    by_channel = related[..., :-1].unflatten(-1, (features.shape[1], features.shape[3]))  # (N, R, K, I, W)
    for channel, gathered in enumerate(by_channel.unbind(3)):
        mixed = mixed + (weight[channel] @ gathered.flatten(2)).unflatten(-1, gathered.shape[2:])
    return mixed


@torch.compiler.assume_constant_result
def _kernels_run(device: torch.device) -> bool:
    """Whether the kernels run on a GPU; what is compiled takes the answer for a constant."""
    return knows_kernels(device) and _triton_compiles(device)


@cache
def _triton_compiles(device: torch.device) -> bool:
    """Whether the kernels run on a device, tried once; where they fail, one warning says that the plain form is used."""
    try:
        with torch.enable_grad():
            query, key, points = (torch.zeros(shape, device=device, requires_grad=True) for shape in ((1, 1, 16), (1, 1, 16), (1, 16, 16)))
            related_points(query, key, points).sum().backward()
        return True
    except Exception as error:  # whatever a compiler or driver raises
        logger.warning(
            f"Triton cannot compile the graph convolution's kernels here ({type(error).__name__}: {error}): the plain form is used."
        )
        return False


class _ChunkedMix(torch.autograd.Function):
    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.float32)
    def forward(
        ctx: Any, query: torch.Tensor, key: torch.Tensor, features: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor
    ) -> torch.Tensor:
        ctx.save_for_backward(query, key, features, weight, bias)
        mixed = features.new_empty(len(features), weight.shape[1], *features.shape[2:])
        buffer = _buffer(query)
        for rows in _chunks(query):
            relation = _relation(buffer, query[rows], key[rows])  # (n, R, K, K)
            out = mixed[rows].flatten(2)  # (n, C, K W), a view
            for channel, points in enumerate(features[rows].unbind(1)):
                related = _related(relation, points)
                factor = weight[channel].expand(len(points), -1, -1)
                torch.bmm(factor, related, out=out) if channel == 0 else out.baddbmm_(factor, related)
            mixed[rows] += (bias @ relation.sum(-1))[..., None]
        return mixed

    @staticmethod
    @torch.amp.custom_bwd(device_type="cpu")
    def backward(ctx: Any, grad_mixed: torch.Tensor) -> tuple[torch.Tensor, ...]:
        query, key, features, weight, bias = ctx.saved_tensors
        grad_query, grad_key, grad_features = torch.empty_like(query), torch.empty_like(key), torch.empty_like(features)
        grad_weight, grad_bias = torch.zeros_like(weight), torch.zeros_like(bias)
        grad_mixed = grad_mixed.contiguous()
        buffer, grad_buffer = _buffer(query), _buffer(query)
        for rows in _chunks(query):
            relation = _relation(buffer, query[rows], key[rows])  # (n, R, K, K)
            grad_relation = grad_buffer[: len(relation)]
            grad, grad_sum = grad_mixed[rows].flatten(2), grad_mixed[rows].sum(-1)  # (n, C, K W), (n, C, K)
            grad_bias += torch.bmm(grad_sum, relation.sum(-1).transpose(1, 2)).sum(0)
            grad_relation.copy_((bias.T @ grad_sum)[..., None].expand_as(grad_relation))
            for channel, points in enumerate(features[rows].unbind(1)):
                grad_weight[channel] += torch.bmm(grad, _related(relation, points).transpose(1, 2)).sum(0)
                grad_related = (weight[channel].T @ grad).view(len(points), -1, points.shape[-1])  # (n, R K, W)
                grad_features[rows, channel] = torch.bmm(relation.flatten(1, 2).transpose(1, 2), grad_related)
                grad_relation.flatten(1, 2).baddbmm_(grad_related, points.transpose(1, 2))
            grad_relation.addcmul_(grad_relation * relation, relation, value=-1)  # the slope of tanh
            grad_query[rows] = grad_relation.sum(-1)
            grad_key[rows] = -grad_relation.sum(-2)
        return grad_query, grad_key, grad_features, grad_weight, grad_bias


def _chunks(query: torch.Tensor) -> list[slice]:
    num_segments, size = len(query), _chunk(query)
    return [slice(start, min(start + size, num_segments)) for start in range(0, num_segments, size)]


def _chunk(query: torch.Tensor) -> int:
    num_segments, num_relations, num_points = query.shape
    return max(1, min(num_segments, CACHE_FLOATS // (num_relations * num_points**2)))


def _buffer(query: torch.Tensor) -> torch.Tensor:
    num_points = query.shape[-1]
    return query.new_empty(_chunk(query), query.shape[1], num_points, num_points)


def _relation(buffer: torch.Tensor, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """tanh of the differences, into the buffer: (n, R, K, K)."""
    return torch.sub(query[..., None], key[..., None, :], out=buffer[: len(query)]).tanh_()


def _related(relation: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """(n, R, K, K), (n, K, W) -> (n, R, K W)."""
    return torch.bmm(relation.flatten(1, 2), points).view(len(points), relation.shape[1], -1)
