"""Fast forms of the convolution layers: the same functions as the plain `forward`s of `modeling_layers_uniglor.py`, computed faster.

`accelerated` puts a fast form in the place of a plain one, and `use_fast_layers` switches all of them. They rest on three identities:

- A BatchNorm after a 1 x 1 convolution is a change of the convolution's weights (`fold`).
- The graph convolution is linear in its relations and in its input, and there are few of both: the relations mix the input's points
  first, and the channels are made of that (`graph_mixing_uniglor.py`, on a GPU by the kernels of `graph_mixing_triton_uniglor.py`).
- Both blocks treat every segment by itself: on a CPU a few segments at a time stay in cache (`in_chunks`).

Shapes: N segments, W frames in a window, K keypoints, C channels, S subsets of the graph, R relations of a subset.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar, cast

import torch
from torch import nn
from torch.nn import functional as F

from .graph_mixing_uniglor import mix

_fast = True

Forward = TypeVar("Forward", bound=Callable[..., torch.Tensor])


class GraphConvolution(Protocol):
    """The parameters and layers of a `ChannelTopologyGraphConv`, whose module imports this one."""

    adjacency: nn.Parameter
    alpha: nn.Parameter
    query: nn.Conv1d
    key: nn.Conv1d
    refine: nn.Parameter
    refine_bias: nn.Parameter
    value: nn.Parameter
    value_bias: nn.Parameter
    norm: nn.Module
    residual: nn.Conv2d
    residual_norm: nn.Module


class TemporalConvolution(Protocol):
    """The layers of a `MultiScaleTemporalConv`."""

    split_sizes: list[int]
    open: nn.Conv2d
    open_norm: nn.Module
    dilated: nn.ModuleList
    pool: nn.Module
    close_norm: nn.Module


def accelerated(fast: Callable[[Any, torch.Tensor], torch.Tensor]) -> Callable[[Forward], Forward]:
    """Decorates a layer's plain `forward`: `fast(layer, features)` is computed in its place, unless `use_fast_layers` says otherwise."""

    def decorate(plain: Forward) -> Forward:
        @functools.wraps(plain)
        def forward(self: nn.Module, features: torch.Tensor) -> torch.Tensor:
            return fast(self, features) if _fast else plain(self, features)

        return cast(Forward, forward)

    return decorate


@contextmanager
def use_fast_layers(enabled: bool = True) -> Iterator[None]:
    """Inside it, layers compute their fast forms or, with False, their plain ones; in all threads. Made for tests and benchmarks."""
    global _fast
    before, _fast = _fast, enabled
    try:
        yield
    finally:
        _fast = before


# --- The two blocks ---------------------------------------------------------------------------------------------------------------


def fast_graph_convolution(layer: GraphConvolution, features: torch.Tensor) -> torch.Tensor:
    """A `ChannelTopologyGraphConv` on features: (N, C_in, K, W) -> (N, C_out, K, W)."""
    mixed = layer.norm(fast_mix(layer, features))
    return mixed.add_(convolve_and_norm(layer.residual, layer.residual_norm, features)).relu_()


def fast_mix(layer: GraphConvolution, features: torch.Tensor) -> torch.Tensor:
    """`ChannelTopologyGraphConv.mix`, summed from the inside out: (N, C_in, K, W) -> (N, C_out, K, W).

    The topology has K x K numbers for every segment, subset and channel: 260 MB at batch 64 with 64 channels. It is never built.
    """
    average = features.mean(-1)  # (N, C_in, K)
    refine, refine_bias = layer.alpha * layer.refine, layer.alpha * layer.refine_bias
    by_relation = torch.einsum("sci,scr->icsr", layer.value, refine).flatten(2)  # (C_in, C, S R)
    bias_by_relation = torch.einsum("sc,scr->csr", layer.value_bias, refine).flatten(1)  # (C, S R)
    mixed = mix(layer.query(average), layer.key(average), features, by_relation, bias_by_relation)

    # Adjacency and refine_bias are the same for every segment.
    skeleton = layer.adjacency.flatten(0, 1) @ features.transpose(1, 2).flatten(2)  # (N, S K, C_in W)
    skeleton = skeleton.view(len(features), *layer.adjacency.shape[:2], -1, features.shape[-1])  # (N, S, K, C_in, W)
    mixed = mixed.add_(torch.einsum("sci,nskiw->nckw", layer.value, skeleton))
    everywhere = torch.einsum("sci,sc,nikw->ncw", layer.value, refine_bias, features)[:, :, None]
    constant = torch.einsum("sc,sk->ck", layer.value_bias, layer.adjacency.sum(-1))
    constant = constant + (layer.value_bias * refine_bias).sum(0)[:, None] * features.shape[2]
    return mixed.add_(everywhere).add_(constant[..., None])


def fast_temporal_convolution(layer: TemporalConvolution, features: torch.Tensor) -> torch.Tensor:
    """A `MultiScaleTemporalConv` on features: (N, C_in, K, W) -> (N, C_out, K, W).

    With its norm folded, `layer.open` is computed where it is needed: its 2 C_out channels are never in memory together.
    """
    kernels = [conv.weight for conv in _dilated(layer)]
    if not isinstance(layer.open_norm, nn.BatchNorm2d):
        temporal, pointwise, residual = layer.open_norm(layer.open(features)).split(layer.split_sizes, dim=1)
        temporal = layer.close_norm(_along_time(layer, temporal, *kernels))
        return torch.cat([temporal, pointwise], dim=1).add_(residual).relu_()

    (weight, pointwise_weight, residual_weight), (bias, pointwise_bias, residual_bias) = (
        values.split(layer.split_sizes) for values in fold(layer.open, layer.open_norm, features)
    )
    temporal = in_chunks(functools.partial(_open_along_time, layer), features, weight, bias, *kernels)
    temporal = layer.close_norm(temporal)  # (N, num_temporal, K, W)
    num_temporal, num_pointwise, _ = layer.split_sizes
    out = F.pad(temporal.flatten(2), (0, 0, 0, num_pointwise))  # (N, C_out, K W); no view, so that it can be summed into
    # The branch of width 1 and the residual are both linear in the features: their weights add up.
    weight = residual_weight + F.pad(pointwise_weight, (0, 0, num_temporal, 0))
    bias = residual_bias + F.pad(pointwise_bias, (num_temporal, 0))
    out.baddbmm_(weight.to(out.dtype).expand(len(out), -1, -1), features.flatten(2).to(out.dtype)).add_(bias[:, None])
    return out.relu_().unflatten(-1, features.shape[2:])


def _open_along_time(
    layer: TemporalConvolution, features: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, *kernels: torch.Tensor
) -> torch.Tensor:
    return _along_time(layer, pointwise_convolution(features, weight, bias), *kernels)


def _along_time(layer: TemporalConvolution, opened: torch.Tensor, *kernels: torch.Tensor) -> torch.Tensor:
    """`layer.along_time`, with the kernels as arguments so that `in_chunks` can give their gradients."""
    *branches, pooled = F.relu(opened).chunk(len(layer.dilated) + 1, dim=1)
    mixed = (
        F.conv2d(branch, kernel, conv.bias, padding=conv.padding, dilation=conv.dilation)
        for branch, kernel, conv in zip(branches, kernels, _dilated(layer))
    )
    return torch.cat([*mixed, layer.pool(pooled)], dim=1)


def _dilated(layer: TemporalConvolution) -> list[nn.Conv2d]:
    return cast("list[nn.Conv2d]", list(layer.dilated))


# --- Parts of the blocks ----------------------------------------------------------------------------------------------------------


def convolve_and_norm(conv: nn.Conv2d, norm: nn.Module, features: torch.Tensor) -> torch.Tensor:
    """norm(conv(features)) of a 1 x 1 convolution; with a BatchNorm2d, the output of the convolution is never in memory."""
    if not isinstance(norm, nn.BatchNorm2d):
        return norm(conv(features))
    return pointwise_convolution(features, *fold(conv, norm, features))


def fold(conv: nn.Conv2d, norm: nn.BatchNorm2d, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight (C_out, C_in) and bias (C_out,) of the 1 x 1 convolution that equals norm(conv(.)) on these features.

    The convolution is linear: mean and variance of its output follow from mean and covariance of its input, so that the norm is a
    change of the convolution's weights. The convolution has no bias before a BatchNorm, which would subtract it again.
    """
    exact = torch.promote_types(features.dtype, torch.float32)  # statistics keep their precision
    weight = conv.weight.flatten(1).to(exact)  # (C_out, C_in)
    running_mean, running_var = norm.running_mean, norm.running_var
    counter, momentum = norm.num_batches_tracked, norm.momentum
    assert running_mean is not None and running_var is not None and counter is not None and momentum is not None  # as in all blocks
    if norm.training:
        with torch.autocast(features.device.type, enabled=False):
            points = features.to(exact).flatten(2)  # (N, C_in, K W)
            count = len(points) * points.shape[2]
            mean = points.mean((0, 2))
            # Only the variances below read these products, so their gradient is symmetric: twice that of one factor.
            products = (points.detach() @ points.transpose(1, 2)).sum(0)
            products = 2 * products - products.detach()
            covariance = products / count - mean * mean[:, None]  # (C_in, C_in)
            variance = ((weight @ covariance) * weight).sum(1).clamp_min(0)  # (C_out,)
            mean = weight @ mean
        with torch.no_grad():
            counter.add_(1)
            running_mean.lerp_(mean.to(running_mean.dtype), momentum)
            running_var.lerp_((variance * count / max(count - 1, 1)).to(running_var.dtype), momentum)
    else:
        mean, variance = running_mean, running_var
    scale = norm.weight * torch.rsqrt(variance + norm.eps)
    return (weight * scale[:, None]).to(features.dtype), (norm.bias - mean * scale).to(features.dtype)


def pointwise_convolution(features: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """A 1 x 1 convolution as a matrix product, which does not reorder the features in memory: (N, C_in, K, W) -> (N, C_out, K, W)."""
    out = torch.baddbmm(bias[:, None], weight.expand(len(features), -1, -1), features.flatten(2))
    return out.unflatten(-1, features.shape[2:])


# How many numbers of the features `in_chunks` works on at a time: 16 segments of the paper's size. Fewer are slower on two threads,
# and a whole batch of 64 takes 30 MiB more.
CHUNK_FLOATS = 1_150_000


def in_chunks(function: Callable[..., torch.Tensor], features: torch.Tensor, *weights: torch.Tensor) -> torch.Tensor:
    """function(features, *weights) of a function that treats every segment by itself; on a CPU for a few segments at a time.

    Intermediate results are then never in memory for all segments, and are computed again in the backward pass.
    """
    if features.device.type != "cpu" or torch.compiler.is_compiling():
        return function(features, *weights)
    return _InChunks.apply(function, features, *weights)


class _InChunks(torch.autograd.Function):
    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu")
    def forward(ctx: Any, function: Callable[..., torch.Tensor], features: torch.Tensor, *weights: torch.Tensor) -> torch.Tensor:
        ctx.function = function
        ctx.save_for_backward(features, *weights)
        result: Any = None
        for rows in _chunks(features):
            chunk = function(features[rows], *weights)
            if result is None:
                result = chunk.new_empty(len(features), *chunk.shape[1:])
            result[rows] = chunk
        return result

    @staticmethod
    @torch.autograd.function.once_differentiable
    @torch.amp.custom_bwd(device_type="cpu")
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # type: ignore[override]  # decorators lose its type
        features, *weights = ctx.saved_tensors
        weights = [weight.detach().requires_grad_() for weight in weights]
        grad_features, grad_weights = torch.empty_like(features), [torch.zeros_like(weight) for weight in weights]
        for rows in _chunks(features):
            chunk = features[rows].detach().requires_grad_()
            with torch.enable_grad():
                result = ctx.function(chunk, *weights)
            grad_features[rows], *grads = torch.autograd.grad(result, [chunk, *weights], grad[rows])
            for total, grad_weight in zip(grad_weights, grads):
                total += grad_weight
        return None, grad_features, *grad_weights


def _chunks(features: torch.Tensor) -> list[slice]:
    size = max(1, CHUNK_FLOATS // features[0].numel())
    return [slice(start, start + size) for start in range(0, len(features), size)]
