"""The layers of the UniGloR models: graph and temporal convolutions over keypoints, and a pre-norm Transformer layer.

Shapes: N segments, W frames in a window, K keypoints, C channels, D hidden size, L queries, M keys.
Channels-first, time last, (N, C, K, W), exists only inside the convolution blocks.
"""

import functools
import math
import re
from collections.abc import Callable, Sequence
from typing import Any, Self, TypeAlias, TypeVar, cast

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.attention.flex_attention import BlockMask
from transformers import PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from .fast_layers_uniglor import accelerated, fast_graph_convolution, fast_temporal_convolution
from .keypoints_uniglor import adjacency, anchor_indices
from .quantization_uniglor import check_saving

AttentionMask: TypeAlias = torch.Tensor | BlockMask | None  # as `transformers.masking_utils` makes it
Forward = TypeVar("Forward", bound=Callable[..., Any])

STATISTICS = frozenset(
    ("latent_mean", "latent_std", "latent_whitening", "offset_mean", "offset_std", "paths", "keypoint_presence")
    + ("distance_mean", "distance_axes", "distance_quantiles", "frame_mean", "frame_axes")
    + ("component_mean", "component_axes", "component_scales", "codebooks", "remainder_scales")
)
WHITENING_FLOOR = 1e-3  # of the largest variance; so that axes of mere noise are not blown up to the size of the others
MOTIONLESS = 1e-6  # shoulder lengths
VARIANCE_FLOOR = 1e-4  # a hundredth of a shoulder length, squared: a coordinate that stood still while calibrating may move later


def sinusoids(length: int, size: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """(length, size) sinusoidal positions of Vaswani et al. 2017, amplitude 1."""
    position = torch.arange(length, dtype=torch.float32)[:, None]
    frequency = torch.exp(torch.arange(0, size, 2, dtype=torch.float32) * (-math.log(10000.0) / size))
    return torch.stack([torch.sin(position * frequency), torch.cos(position * frequency)], dim=-1).flatten(1).to(dtype)


class SinusoidalPositions(nn.Module):
    """Adds fixed positions to (N, L, D) tokens."""

    table: torch.Tensor

    def __init__(self, length: int, size: int) -> None:
        super().__init__()
        self.register_buffer("table", sinusoids(length, size), persistent=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return tokens + self.table[: tokens.shape[1]].to(tokens.dtype)


# --- Blocks over keypoints --------------------------------------------------------------------------------------------------------


class ChannelLayerNorm(nn.LayerNorm):
    """LayerNorm over the channels of (N, C, K, W)."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return super().forward(features.movedim(1, -1)).movedim(-1, 1)


class _Calibrated(nn.modules.batchnorm._BatchNorm):
    """A BatchNorm whose statistics `calibrate` sets once, from data, before training; training steps use the same ones.

    The statistics of a batch vary: at batch 64, whose frames are far from independent, they shift every position by an eighth of its
    standard deviation. That is harmless for classification, but it limits how accurately positions can be reconstructed.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.training = False

    def train(self, mode: bool = True) -> Self:
        return super().train(False)


class CalibratedNorm1d(_Calibrated, nn.BatchNorm1d):
    """For (N, C)."""


class CalibratedNorm2d(_Calibrated, nn.BatchNorm2d):
    """For (N, C, K, W)."""


@torch.no_grad()
def calibrate(module: nn.Module, *inputs: torch.Tensor) -> None:
    """Sets the statistics of every calibrated norm in `module` to those of its inputs when `inputs` pass through the module.

    Only for a model that is not trained yet: weights that were trained with other statistics would no longer fit.
    """
    norms = [(norm, norm.momentum) for norm in module.modules() if isinstance(norm, _Calibrated)]
    for norm, _ in norms:
        norm.training, norm.momentum = True, 1.0  # a momentum of 1 stores the statistics of this batch
    try:
        module(*inputs)
    finally:
        for norm, momentum in norms:
            norm.training, norm.momentum = False, momentum
            if norm.running_var is not None:
                norm.running_var.clamp_min_(VARIANCE_FLOOR)


BLOCK_NORMS: dict[str, Callable[[int], nn.Module]] = {"calibrated": CalibratedNorm2d, "batch": nn.BatchNorm2d, "layer": ChannelLayerNorm}


class KeypointNorm(nn.Module):
    """Normalises every coordinate of every keypoint over segments and frames, as CTR-GCN's data norm: (N, W, K, C) -> same.

    By a BatchNorm, as cited, or with statistics that are set before training.
    """

    def __init__(self, num_keypoints: int, num_channels: int, kind: str = "batch") -> None:
        super().__init__()
        norm = nn.BatchNorm1d if kind == "batch" else CalibratedNorm1d
        self.norm: nn.Module = norm(num_keypoints * num_channels)  # a child, so that SyncBatchNorm can take its place

    def forward(self, keypoints: torch.Tensor) -> torch.Tensor:
        return self.norm(keypoints.flatten(0, 1).flatten(1)).view(keypoints.shape)


class KeypointStreams(nn.Module):
    """What is read of every keypoint, as channels: (N, W, K, C) -> (N, W, K, C x streams). Ours; the paper reads positions.

    All points of a hand move with the arm. Their places relative to the wrist are therefore a small part of their positions.

    Args:
        streams: of "position"; "offset", from the point that each point hangs on in its layout (a finger's from the wrist, a wrist's from
            the elbow, the face's from the nose); "velocity", the step from the frame before, 0 in a window's first frame.
    """

    anchors: torch.Tensor

    def __init__(self, streams: Sequence[str], layout: str) -> None:
        super().__init__()
        self.streams = tuple(streams)
        self.layout = layout
        self.register_buffer("anchors", torch.tensor(anchor_indices(layout)), persistent=False)

    def forward(self, keypoints: torch.Tensor, hidden: torch.Tensor | None = None) -> torch.Tensor:
        """(N, W, K, C), and (N, W) bool, frames of which no other may say anything -> (N, W, K, C x streams)."""
        read = {"position": self.position, "offset": self.offset, "velocity": lambda points: self.velocity(points, hidden)}
        return torch.cat([read[stream](keypoints) for stream in self.streams], dim=-1)

    def position(self, keypoints: torch.Tensor) -> torch.Tensor:
        return keypoints

    def offset(self, keypoints: torch.Tensor) -> torch.Tensor:
        return keypoints - keypoints[..., self.anchors, :]

    def velocity(self, keypoints: torch.Tensor, hidden: torch.Tensor | None = None) -> torch.Tensor:
        step = F.pad(keypoints.diff(dim=-3), (0, 0, 0, 0, 1, 0))
        return step if hidden is None else step * ~F.pad(hidden[:, :-1], (1, 0))[..., None, None]


class FrameWhitening(nn.Module):
    """Frames along the principal axes of the training frames, each divided by its spread: (N, W, K, C) -> (N, W, A). Ours.

    The axes are those of positions and offsets (see `KeypointStreams`) together. Until `fit` has set them, all results are 0.
    """

    frame_mean: torch.Tensor
    frame_axes: torch.Tensor

    def __init__(self, num_axes: int, num_keypoints: int, num_channels: int, layout: str) -> None:
        super().__init__()
        self.streams = KeypointStreams(("position", "offset"), layout)
        self.register_buffer("frame_mean", torch.zeros(2 * num_keypoints * num_channels))
        self.register_buffer("frame_axes", torch.zeros(2 * num_keypoints * num_channels, num_axes))

    def forward(self, keypoints: torch.Tensor) -> torch.Tensor:
        features = self.streams(keypoints).flatten(-2).to(self.frame_mean.dtype)
        return ((features - self.frame_mean) @ self.frame_axes).to(keypoints.dtype)

    @torch.no_grad()
    def fit(self, keypoints: torch.Tensor) -> None:
        """Sets the axes from training segments (N, W, K, C)."""
        features = self.streams(keypoints).flatten(0, 1).flatten(1).double()
        spread = features.std(0)
        scale = torch.where(spread > MOTIONLESS, 1 / spread.clamp_min(MOTIONLESS), 0)  # a coordinate that never moves says nothing
        mean, axes, variances = principal_axes(features * scale, self.frame_axes.shape[1])
        floor = (WHITENING_FLOOR * variances[:1]).clamp_min(MOTIONLESS)
        self.frame_mean.copy_(features.mean(0))
        self.frame_axes.zero_()
        self.frame_axes[:, : len(variances)] = (scale[:, None] * axes * torch.rsqrt(variances + floor)).to(self.frame_axes)


def principal_axes(values: torch.Tensor, most: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Mean (F,), principal axes (F, A) and variances (A,), the largest first, of values (N, F); A is at most `most`, F and N - 1."""
    mean = values.mean(0)
    centred = values - mean
    if len(values) <= values.shape[1]:
        variances, rows = torch.linalg.eigh(centred @ centred.T / max(1, len(values) - 1))
        axes = centred.T @ rows * torch.rsqrt((variances * max(1, len(values) - 1)).clamp_min(MOTIONLESS**2))
    else:
        variances, axes = torch.linalg.eigh(centred.T @ centred / (len(values) - 1))
    number = min(most, values.shape[1], len(values) - 1)
    return mean, axes.flip(1)[:, :number], variances.flip(0)[:number].clamp_min(0)


def interpolate_hidden(keypoints: torch.Tensor, hidden: torch.Tensor | None) -> torch.Tensor:
    """Hidden frames on straight lines between the frames that are seen before and after, or as the nearest one at a window's ends.

    (N, W, K, C), (N, W) bool with a frame that is seen in every window, or None -> (N, W, K, C)
    """
    if hidden is None:
        return keypoints
    window_size = keypoints.shape[1]
    frame = torch.arange(window_size, device=keypoints.device).expand(hidden.shape)
    before = torch.where(hidden, -1, frame).cummax(1).values  # -1 where there is none
    after = torch.where(hidden, window_size, frame).flip(1).cummin(1).values.flip(1)  # window_size where there is none
    first, last = torch.where(before < 0, after, before), torch.where(after == window_size, before, after)
    share = ((frame - first) / (last - first).clamp_min(1)).clamp(0, 1).to(keypoints.dtype)[..., None, None]
    segment = torch.arange(len(keypoints), device=keypoints.device)[:, None]
    return torch.lerp(keypoints[segment, first], keypoints[segment, last], share)


class ChannelTopologyGraphConv(nn.Module):
    """Channel-wise topology refinement graph convolution (CTR-GC; Chen et al. 2021, section 3.2), with its residual.

    In each of three subsets s (itself, inward, outward) the skeleton's learned adjacency is refined, for each segment n and
    channel c, by R relations between time-averaged points, and mixes the points of the projected input:

        relation[n, s, r, v, u] = tanh(query[n, s, r, v] - key[n, s, r, u])
        topology[n, s, c, v, u] = adjacency[s, v, u] + alpha (refine[s, c] . relation[n, s, :, v, u] + refine_bias[s, c])
        mixed[n, c, v, w]       = sum over s, u of topology[n, s, c, v, u] (value[s, c] . input[n, :, u, w] + value_bias[s, c])

    This is written below as in the paper, with one batched operation for all subsets; the time average commutes with the 1 x 1
    convolutions that project the query and the key. `fast_graph_convolution` computes the same without ever building the topology.
    """

    def __init__(self, in_channels: int, out_channels: int, relation_channels: int, layout: str, norm: str) -> None:
        super().__init__()
        graph = torch.from_numpy(adjacency(layout)).to(torch.get_default_dtype())
        self.layout = layout
        self.adjacency = nn.Parameter(graph)  # (S, K, K), learned, from the skeleton
        self.alpha = nn.Parameter(torch.zeros(1))
        self.query = nn.Conv1d(in_channels, len(graph) * relation_channels, 1)
        self.key = nn.Conv1d(in_channels, len(graph) * relation_channels, 1)
        self.refine = nn.Parameter(torch.zeros(len(graph), out_channels, relation_channels))
        self.refine_bias = nn.Parameter(torch.zeros(len(graph), out_channels))
        self.value = nn.Parameter(torch.zeros(len(graph), out_channels, in_channels))
        self.value_bias = nn.Parameter(torch.zeros(len(graph), out_channels))
        self.norm: nn.Module = BLOCK_NORMS[norm](out_channels)
        self.residual = nn.Conv2d(in_channels, out_channels, 1, bias=norm == "layer")
        self.residual_norm = BLOCK_NORMS[norm](out_channels)

    @accelerated(fast_graph_convolution)
    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(N, C_in, K, W) -> (N, C_out, K, W)."""
        return F.relu(self.norm(self.mix(features)) + self.residual_norm(self.residual(features)))

    def mix(self, features: torch.Tensor) -> torch.Tensor:
        """`mixed` of the class docstring: (N, C_in, K, W) -> (N, C_out, K, W)."""
        average = features.mean(-1)  # (N, C_in, K)
        relation = torch.tanh(self.query(average)[..., :, None] - self.key(average)[..., None, :])  # (N, S R, K, K)
        relation = relation.unflatten(1, (len(self.adjacency), -1))  # (N, S, R, K, K)
        refinement = torch.einsum("scr,nsrvu->nscvu", self.refine, relation) + self.refine_bias[..., None, None]
        topology = self.adjacency[:, None] + self.alpha * refinement  # (N, S, C_out, K, K)
        value = torch.einsum("sci,nikw->nsckw", self.value, features) + self.value_bias[..., None, None]  # (N, S, C_out, K, W)
        return torch.einsum("nscvu,nscuw->ncvw", topology, value)


class MultiScaleTemporalConv(nn.Module):
    """Multi-scale temporal convolution (Liu et al. 2020, in the form that CTR-GCN uses), with its residual.

    A branch for each dilation, one that takes maxima, one of width 1: (N, C_in, K, W) -> (N, branches x C_branch, K, W). What the
    branches have in common is one layer over all their channels: the 1 x 1 convolutions that open them and the residual's,
    their norms, and the norms that close them.
    """

    def __init__(self, in_channels: int, branch_channels: int, kernel_size: int, dilations: Sequence[int], norm: str) -> None:
        super().__init__()
        self.num_temporal = branch_channels * (len(dilations) + 1)  # channels of the branches that look along time
        self.out_channels = self.num_temporal + branch_channels
        bias = norm == "layer"
        self.split_sizes = [self.num_temporal, branch_channels, self.out_channels]  # branches along time, branch of width 1, residual
        self.open = nn.Conv2d(in_channels, 2 * self.out_channels, 1, bias=bias)
        self.open_norm = BLOCK_NORMS[norm](2 * self.out_channels)
        self.dilated = nn.ModuleList(
            nn.Conv2d(branch_channels, branch_channels, (1, kernel_size), padding="same", dilation=(1, dilation), bias=bias)
            for dilation in dilations
        )
        self.pool = nn.MaxPool2d((1, 3), stride=1, padding=(0, 1))
        self.close_norm = BLOCK_NORMS[norm](self.num_temporal)

    @accelerated(fast_temporal_convolution)
    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(N, C_in, K, W) -> (N, C_out, K, W)."""
        temporal, pointwise, residual = self.open_norm(self.open(features)).split(self.split_sizes, dim=1)
        temporal = self.close_norm(self.along_time(temporal))
        return F.relu(torch.cat([temporal, pointwise], dim=1) + residual)

    def along_time(self, opened: torch.Tensor) -> torch.Tensor:
        """The dilated branches and the max-pooling branch: (N, num_temporal, K, W) -> same."""
        *branches, pooled = F.relu(opened).chunk(len(self.dilated) + 1, dim=1)
        return torch.cat([*(conv(branch) for conv, branch in zip(self.dilated, branches)), self.pool(pooled)], dim=1)


# --- Transformer ------------------------------------------------------------------------------------------------------------------


def eager_attention_forward(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Plain attention that also returns its weights: (N, heads, L, d) -> (N, L, heads, d), (N, heads, L, M)."""
    scores = query @ key.transpose(2, 3) * scaling
    if attention_mask is not None:
        scores = scores + attention_mask
    weights = F.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
    weights = F.dropout(weights, p=dropout, training=module.training)
    return (weights @ value).transpose(1, 2).contiguous(), weights


class AttentionCache(dict[nn.Module, tuple[torch.Tensor, torch.Tensor]]):
    """Keys and values (N, heads, M, d) of each attention, for generation step by step: those of a memory stay, those of itself grow."""


class Attention(nn.Module):
    """Multi-head attention from `hidden` (N, L, D) to `memory` (N, M, D), by default itself.

    The mask is one of `transformers.masking_utils`, made for `config._attn_implementation`. Only the implementation "eager" also
    returns the attention weights (N, heads, L, M); the others return None in their place.
    """

    def __init__(self, config: PreTrainedConfig, is_causal: bool = False) -> None:
        super().__init__()
        self.config = config
        self.head_dim = config.hidden_size // config.num_attention_heads
        self.scaling = self.head_dim**-0.5
        self.is_causal = is_causal
        self.dropout = config.attention_probs_dropout_prob
        self.q_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.k_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.v_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.o_proj = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(
        self,
        hidden: torch.Tensor,
        memory: torch.Tensor | None = None,
        attention_mask: AttentionMask = None,
        cache: AttentionCache | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        query = self._heads(self.q_proj(hidden))  # (N, heads, L, d)
        if cache is not None and memory is not None and self in cache:
            key, value = cache[self]
        else:
            attended = hidden if memory is None else memory
            key, value = self._heads(self.k_proj(attended)), self._heads(self.v_proj(attended))  # (N, heads, M, d)
            if cache is not None:
                if self in cache:
                    key, value = (torch.cat([earlier, later], dim=2) for earlier, later in zip(cache[self], (key, value)))
                cache[self] = key, value
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention_forward)
        output, weights = attend(
            self, query, key, value, attention_mask, scaling=self.scaling, is_causal=self.is_causal,
            dropout=self.dropout if self.training else 0.0,
        )  # fmt: skip
        return self.o_proj(output.flatten(2)), weights

    def _heads(self, values: torch.Tensor) -> torch.Tensor:
        """(N, L, D) -> (N, heads, L, d)"""
        return values.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)


class SingleKeyAttention(nn.Module):
    """Attention to a memory of one vector: its weight is always 1, so only value and output projections remain.

    It returns None in the place of attention weights.
    """

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__()
        self.v_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.o_proj = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(
        self,
        hidden: torch.Tensor,
        memory: torch.Tensor,
        attention_mask: AttentionMask = None,
        cache: AttentionCache | None = None,
    ) -> tuple[torch.Tensor, None]:
        return self.o_proj(self.v_proj(memory)).expand_as(hidden), None


class TransformerLayer(GradientCheckpointingLayer):
    """Pre-norm Transformer layer, as Joint-SLT's; with cross-attention where `memory_size` gives the number of its keys.

    `math.inf` stands for any number. `attention_mask` and `memory_mask` come from `transformers.masking_utils`.
    """

    def __init__(self, config: PreTrainedConfig, memory_size: int | float | None = None, is_causal: bool = False) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.attention = Attention(config, is_causal)
        self.has_memory = memory_size is not None
        if self.has_memory:
            single = memory_size == 1  # with one key the query is unused, so it needs no norm
            self.cross_attention_norm = nn.Identity() if single else nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
            self.cross_attention = SingleKeyAttention(config) if single else Attention(config)
        self.feed_forward_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size)
        self.activation = ACT2FN[config.hidden_act]
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(
        self,
        hidden: torch.Tensor,
        memory: torch.Tensor | None = None,
        attention_mask: AttentionMask = None,
        memory_mask: AttentionMask = None,
        num_queries: int | None = None,
        cache: AttentionCache | None = None,
    ) -> torch.Tensor:
        """(N, L, D) -> same; of only the first `num_queries` positions, which attend to all, where it is given."""
        tokens = self.attention_norm(hidden)
        if num_queries is None:
            attended, _ = self.attention(tokens, attention_mask=attention_mask, cache=cache)
        else:
            hidden = hidden[:, :num_queries]
            attended, _ = self.attention(tokens[:, :num_queries], tokens, attention_mask)
        hidden = hidden + self.dropout(attended)
        if self.has_memory:
            attended, _ = self.cross_attention(self.cross_attention_norm(hidden), memory, memory_mask, cache)
            hidden = hidden + self.dropout(attended)
        feed_forward = self.down_proj(self.dropout(self.activation(self.up_proj(self.feed_forward_norm(hidden)))))
        return hidden + self.dropout(feed_forward)


# --- Checks of inputs -------------------------------------------------------------------------------------------------------------
# The values of a tensor are checked on a CPU only: on a GPU, the check would wait for all computations before it.


def check_numbers(name: str, tensor: torch.Tensor, shape: Sequence[int | str], weight: torch.Tensor | None = None, hint: str = "") -> None:
    """Raises `ValueError` unless `tensor` is a tensor of floats, of this shape and of the type of `weight`.

    Args:
        shape: sizes, and words for those that are at least 1, as ("clips", "frames", 73, 2); "..." first stands for any sizes.
        weight: the tensor that it will be multiplied with; None allows any floats.
        hint: one more sentence on the shape.
    """
    _check_shape(name, tensor, shape, hint)
    if not tensor.is_floating_point():
        raise ValueError(f"Found {name} of {tensor.dtype}, expected floating-point numbers.")
    if weight is None or not weight.is_floating_point() or tensor.dtype == weight.dtype:
        return
    if not torch.is_autocast_enabled(tensor.device.type):
        raise ValueError(f"Found {name} of {tensor.dtype}, but the model's weights are {weight.dtype}. Give {name}.to(model.dtype).")


def check_ids(name: str, tensor: torch.Tensor, shape: Sequence[int | str], most: int | None = None, padding: int | None = None) -> None:
    """Raises `ValueError` unless `tensor` has integers, this shape, and only values from 0 to below `most`, or `padding`."""
    _check_shape(name, tensor, shape)
    if tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool:
        raise ValueError(f"Found {name} of {tensor.dtype}, expected integers.")
    if most is not None and _is_looked_at(tensor) and tensor.numel():
        real = tensor if padding is None else tensor[tensor != padding]
        if real.numel() and (real.min() < 0 or real.max() >= most):
            raise ValueError(
                f"Found {name} from {int(real.min())} to {int(real.max())}, expected 0 to {most - 1}"
                + (f", or {padding} where there is none." if padding is not None else ".")
            )


def check_mask(name: str, mask: torch.Tensor, shape: Sequence[int | str]) -> None:
    """Raises `ValueError` unless `mask` is a mask of this shape."""
    _check_shape(name, mask, shape)
    if mask.is_complex():
        raise ValueError(f"Found {name} of {mask.dtype}, expected 1 where something is real, else 0.")


def check_padding(name: str, mask: torch.Tensor, shape: Sequence[int | str], only_after: bool = True) -> None:
    """Raises `ValueError` unless `mask` is a mask of this shape with a 1 in each row; with `only_after`, zeros must follow all ones."""
    check_mask(name, mask, shape)
    if not _is_looked_at(mask):
        return
    real = mask != 0
    empty = ~real.any(1)
    if empty.any():
        raise ValueError(f"Found {name} without a 1 in row {int(empty.nonzero()[0])}. Leave out what is empty.")
    if only_after and (real[:, 1:] & ~real[:, :-1]).any():
        raise ValueError(f"Found {name} with a 1 after a 0, expected padding after all that is real, and nowhere else.")


def _check_shape(name: str, tensor: torch.Tensor, shape: Sequence[int | str], hint: str = "") -> None:
    expected = f"({', '.join(map(str, shape))})"
    if not isinstance(tensor, torch.Tensor):
        raise ValueError(f"Found {name} of type {type(tensor).__name__}, expected a tensor {expected}.")
    sizes, words = tensor.shape, [word for word in shape if isinstance(word, str)]
    if words == ["..."]:
        if 0 in sizes:
            raise ValueError(f"Found {name} of shape {tuple(sizes)}, expected {expected} with nothing of size 0. {hint}".rstrip())
        sizes, shape, words = sizes[1 - len(shape) :], shape[1:], []
    if len(sizes) != len(shape) or any(size != each if isinstance(each, int) else size < 1 for size, each in zip(sizes, shape)):
        least = f", {' and '.join(words)} at least 1" if words else ""
        raise ValueError(f"Found {name} of shape {tuple(tensor.shape)}, expected {expected}{least}. {hint}".rstrip())


def _is_looked_at(tensor: torch.Tensor) -> bool:
    return tensor.device.type == "cpu" and not torch.compiler.is_compiling()


# --- Models -----------------------------------------------------------------------------------------------------------------------


def records_layers(forward: Forward) -> Forward:
    """Decorates a model's `forward`: `output_hidden_states`, `output_attentions` and `return_dict` work as in transformers.

    What is recorded is the class's `_can_record_outputs`. The forward names both options in its signature; here they are served.
    """
    recording = capture_outputs(forward)

    @functools.wraps(forward)
    def wrapper(self: PreTrainedModel, *args: Any, **kwargs: Any) -> Any:
        if kwargs.get("output_attentions") and self.config._attn_implementation != "eager":
            raise ValueError(
                f"Found output_attentions=True with attn_implementation={self.config._attn_implementation!r}, which computes no attention "
                'weights. Call model.set_attn_implementation("eager") first, or load with attn_implementation="eager".'
            )
        return recording(self, *args, **kwargs)

    return cast(Forward, wrapper)


# `_can_record_outputs` of models: of their Transformer layers, and of those that have a memory
RECORDED = {
    "hidden_states": OutputRecorder(TransformerLayer),
    "attentions": OutputRecorder(Attention, index=1, layer_name="attention"),
}
RECORDED_WITH_MEMORY = RECORDED | {"cross_attentions": OutputRecorder(Attention, index=1, layer_name="cross_attention")}


def exact(values: torch.Tensor) -> torch.Tensor:
    """The values in at least 32 bits, as losses are computed."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def mean_loss(sums: torch.Tensor, counts: torch.Tensor, num_items_in_batch: torch.Tensor | int | None = None) -> torch.Tensor:
    """The sum over terms of sums / counts; or the share of these items in it, where they are a part of a larger batch.

    The shares of all parts add up to the loss of the whole, however it was cut.

    Args:
        sums, counts: (B, terms), of every item: sum of errors, and how many there are (`count_items`).
        num_items_in_batch: (terms,), the counts of the whole batch; with one term, also a number.
    """
    whole = counts.sum(0) if num_items_in_batch is None else torch.as_tensor(num_items_in_batch, device=sums.device)
    if whole.ndim == 0 and sums.shape[1] > 1:
        raise ValueError(
            f"Found one num_items_in_batch for a loss of {sums.shape[1]} terms that count different things. Give the sum of "
            "model.count_items(**batch) over all batches and items, as the trainers of this package do."
        )
    return (sums.sum(0) / whole.clamp_min(1)).sum()


class UniGloRPreTrainedModel(PreTrainedModel):
    """Base class of all models of this package.

    `_init_weights` sets initial values; a checkpoint's weights replace them, and buffers that no checkpoint contains are computed there
    again. The parts that the configuration freezes are frozen once, when a model is made or loaded, so a later `requires_grad_(True)`
    holds. A checkpoint that lacks a tensor is refused.
    """

    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    supports_gradient_checkpointing = True
    accepts_loss_kwargs = True  # num_items_in_batch: losses are means over what they counted, in the whole batch
    _no_split_modules = ["TransformerLayer", "ChannelTopologyGraphConv"]

    def __init__(self, config: PreTrainedConfig, *args: Any, **kwargs: Any) -> None:
        config.validate()  # fields may have been set since it was made
        super().__init__(config, *args, **kwargs)

    def post_init(self) -> None:
        """As the base class. Loaded in bfloat16 or float16, statistics, the norms over keypoints and linear parts stay in float32."""
        norms = {name for name, module in self.named_modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)}
        self._keep_in_fp32_modules_strict = norms | STATISTICS | {"window_projection"}
        super().post_init()

    def save_pretrained(self, *args: Any, **kwargs: Any) -> None:
        """As the base class; an int8 model is refused before anything is written."""
        check_saving(self)
        super().save_pretrained(*args, **kwargs)

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights, and so of the inputs. The statistics that stay in float32 do not count."""
        weights = (module.weight.dtype for module in self.modules() if isinstance(module, nn.Linear))
        return next((dtype for dtype in weights if dtype.is_floating_point), super().dtype)

    def _frozen_parts(self) -> list[nn.Module]:
        """The modules that the configuration says are not trained."""
        return []

    def _freeze(self) -> None:
        for part in self._frozen_parts():
            part.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        for part in self._frozen_parts():
            if not any(parameter.requires_grad for parameter in part.parameters()):
                part.eval()
        return self

    @staticmethod
    def _finalize_model_loading(model: "UniGloRPreTrainedModel", load_config: Any, loading_info: Any) -> Any:
        """As the base class, but a tensor that is missing, or of another size, is an error that names it, before memory is taken for it.

        `ignore_mismatched_sizes=True` takes new tensors for both.
        """
        if not load_config.ignore_mismatched_sizes:
            _refuse_other_tensors(model, load_config.pretrained_model_name_or_path, loading_info)
        loading_info = PreTrainedModel._finalize_model_loading(model, load_config, loading_info)
        model._freeze()  # loading made parameters anew
        return loading_info

    def get_input_embeddings(self) -> nn.Module | None:  # type: ignore[override]  # transformers says a module, and asks for None
        """None: keypoints come in through convolutions. FSDP asks for a table of tokens, to shard it by itself."""
        return None

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, SinusoidalPositions):
            init.copy_(module.table, sinusoids(*module.table.shape))
        elif isinstance(module, nn.Linear):
            init.xavier_uniform_(module.weight)  # as Joint-SLT; with a fixed deviation a narrow model's signal dies away
        elif isinstance(module, (nn.Conv1d, nn.Conv2d)):
            init.kaiming_normal_(module.weight, mode="fan_out")
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.modules.batchnorm._BatchNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, KeypointStreams):
            init.copy_(module.anchors, torch.tensor(anchor_indices(module.layout)))
        elif isinstance(module, FrameWhitening):
            init.zeros_(module.frame_mean)
            init.zeros_(module.frame_axes)
        elif isinstance(module, ChannelTopologyGraphConv):
            init.copy_(module.adjacency, torch.from_numpy(adjacency(module.layout)))
            for weight in (module.refine, module.value):  # as the 1 x 1 convolutions that they are
                init.normal_(weight, std=(2 / weight.shape[1]) ** 0.5)
            init.zeros_(module.refine_bias)
            init.zeros_(module.value_bias)
            init.zeros_(module.alpha)  # start from the plain skeleton graph; learn its refinement
            init.constant_(module.norm.get_parameter("weight"), 1e-6)  # as CTR-GCN: a new block is close to its residual


def _refuse_other_tensors(model: PreTrainedModel, place: object, loading_info: Any) -> None:
    ignored = model._keys_to_ignore_on_load_missing or ()
    tied = getattr(model, "all_tied_weights_keys", None) or {}
    missing = sorted(
        name for name in loading_info.missing_keys if name not in tied and not any(re.search(pattern, name) for pattern in ignored)
    )
    others = sorted(loading_info.mismatched_keys)
    said = [f"{name} is missing" for name in missing]
    said += [f"{name} has shape {tuple(size)}, expected {tuple(expected)}" for name, size, expected in others]
    if said:
        raise ValueError(
            f"The weights in {str(place)!r} are not those of a {type(model).__name__} of its config.json: {'; '.join(said[:5])}"
            + (f"; and {len(said) - 5} more tensors" if len(said) > 5 else "")
            + ". Take the model and config.json that were saved together; ignore_mismatched_sizes=True takes random values for these."
        )
