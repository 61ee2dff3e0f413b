"""The graph and the temporal convolution against loops that say what they compute."""

import pytest
import torch
from torch.nn import functional as F

from modeling_unigloR.graph_mixing_uniglor import mix, mix_plain
from modeling_unigloR.keypoints_uniglor import adjacency
from modeling_unigloR.modeling_layers_uniglor import ChannelTopologyGraphConv, MultiScaleTemporalConv


def naive_graph_convolution(layer, features):
    """CTR-GC in its published order of operations: project every frame, then average; a topology for each subset and channel."""
    num_segments, _, window, num_points = features.shape
    num_subsets, num_channels, num_relations = layer.refine_weight.shape
    query, key, value = layer.query(features.flatten(2)), layer.key(features.flatten(2)), layer.value(features)
    query, key = (x.view(num_segments, num_subsets, num_relations, window, num_points).mean(3) for x in (query, key))
    value = value.view(num_segments, num_subsets, num_channels, window, num_points)
    mixed = torch.zeros(num_segments, num_channels, window, num_points)
    for n in range(num_segments):
        for s in range(num_subsets):
            for c in range(num_channels):
                topology = layer.adjacency[s].clone()
                for v in range(num_points):
                    for u in range(num_points):
                        relation = torch.tanh(query[n, s, :, v] - key[n, s, :, u])
                        topology[v, u] += layer.alpha[0] * (layer.refine_weight[s, c] @ relation + layer.refine_bias[s, c])
                mixed[n, c] += value[n, s, c] @ topology.T
    return F.relu(layer.norm(mixed) + layer.residual_norm(layer.residual(features)))


def naive_temporal_convolution(layer, features):
    """Every branch by itself, every output frame by itself."""
    width = layer.out_channels - layer.num_temporal
    opened = layer.open_norm(layer.open(features))
    window = features.shape[2]
    branches = []
    for number, conv in enumerate(layer.dilated):
        branch = opened[:, number * width : (number + 1) * width].clamp_min(0)
        out = torch.zeros_like(branch)
        for t in range(window):
            for tap in range(conv.kernel_size[0]):
                source = t + (tap - conv.kernel_size[0] // 2) * conv.dilation[0]
                if 0 <= source < window:
                    out[:, :, t] += torch.einsum("oi,nik->nok", conv.weight[:, :, tap, 0], branch[:, :, source])
            out[:, :, t] += conv.bias[:, None]
        branches.append(out)
    pooled = opened[:, layer.num_temporal - width : layer.num_temporal].clamp_min(0)
    branches.append(torch.stack([pooled[:, :, max(t - 1, 0) : t + 2].amax(2) for t in range(window)], dim=2))
    temporal = layer.close_norm(torch.cat(branches, 1))
    pointwise = opened[:, layer.num_temporal : layer.out_channels]
    return (torch.cat([temporal, pointwise], 1) + opened[:, layer.out_channels :]).clamp_min(0)


@pytest.mark.parametrize("norm", ["batch", "layer"])
@torch.no_grad()
def test_graph_convolution_equals_its_loops(norm):
    torch.manual_seed(0)
    layer = ChannelTopologyGraphConv(2, 3, 2, "uniglor73", norm).eval()
    layer.alpha.fill_(0.7)
    layer.refine_weight.normal_()
    layer.refine_bias.normal_()
    features = torch.randn(2, 2, 5, 73)
    torch.testing.assert_close(layer(features), naive_graph_convolution(layer, features), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("norm", ["batch", "layer"])
@torch.no_grad()
def test_temporal_convolution_equals_its_loops(norm):
    torch.manual_seed(0)
    layer = MultiScaleTemporalConv(3, 4, 3, [1, 2, 3, 4], norm).eval()
    features = torch.randn(2, 3, 15, 6)
    out = layer(features)
    assert out.shape == (2, 24, 15, 6)
    torch.testing.assert_close(out, naive_temporal_convolution(layer, features), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_with_alpha_zero_the_topology_is_the_skeleton():
    layer = ChannelTopologyGraphConv(2, 3, 2, "uniglor73", "batch").eval()
    layer.refine_weight.normal_()
    features = torch.randn(2, 2, 5, 73)
    values = layer.value(features).view(2, 3, 3, 5, 73)
    plain = torch.einsum("svu,nsctu->nctv", torch.from_numpy(adjacency("uniglor73")), values)
    expected = F.relu(layer.norm(plain) + layer.residual_norm(layer.residual(features)))
    torch.testing.assert_close(layer(features), expected, atol=1e-5, rtol=1e-5)


def mixing_arguments(num_segments, num_points, dtype, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = dict(
        query=(num_segments, 3, 2, num_points), key=(num_segments, 3, 2, num_points), values=(num_segments, 3, 4, 5, num_points),
        weight=(3, 4, 2), bias=(3, 4), adjacency=(3, num_points, num_points),
    )  # fmt: skip
    return [torch.randn(shape, generator=generator, dtype=dtype).requires_grad_() for shape in shapes.values()]


@pytest.mark.parametrize("cache_floats", [1, 30_000, 10**9])
def test_mixing_in_chunks_equals_the_plain_order_forward_and_backward(monkeypatch, cache_floats):
    """One segment at a time, a few with a shorter rest, and all at once."""
    monkeypatch.setattr("modeling_unigloR.graph_mixing_uniglor.CACHE_FLOATS", cache_floats)
    results = []
    for function in (mix, mix_plain):
        arguments = mixing_arguments(7, 20, torch.float32)
        mixed = function(*arguments)
        (mixed * torch.linspace(-1, 1, mixed.numel()).view_as(mixed)).sum().backward()
        results.append([mixed.detach(), *(argument.grad for argument in arguments)])
    for chunked, plain in zip(*results):
        torch.testing.assert_close(chunked, plain, atol=1e-4, rtol=1e-4)


def test_the_gradient_of_mixing_is_right_in_double_precision():
    assert torch.autograd.gradcheck(mix, mixing_arguments(3, 6, torch.float64))


def test_mixing_under_autocast_stays_within_roundings_of_bfloat16():
    arguments = mixing_arguments(3, 20, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = mix(*(argument.bfloat16() for argument in arguments[:3]), *arguments[3:])
    expected = mix_plain(*arguments)
    assert (mixed.float() - expected).abs().max() < 0.02 * expected.abs().max()
