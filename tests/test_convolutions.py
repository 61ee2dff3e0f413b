"""The graph and the temporal convolution against loops that say what they compute."""

import copy
import os
import subprocess
import sys

import pytest
import torch
from torch.nn import functional as F

from modeling_unigloR.fast_layers_uniglor import convolve_and_norm, fast_mix, in_chunks, use_fast_layers
from modeling_unigloR.graph_mixing_uniglor import mix, mix_plain
from modeling_unigloR.keypoints_uniglor import adjacency
from modeling_unigloR.modeling_layers_uniglor import ChannelTopologyGraphConv, MultiScaleTemporalConv


def naive_graph_convolution(layer, features):
    """CTR-GC in its published order of operations: project every frame, then average; a topology for each subset and channel."""
    num_segments, _, num_points, window = features.shape
    num_subsets, num_channels, num_relations = layer.refine.shape
    query, key = (
        proj(features.flatten(2)).view(num_segments, num_subsets, num_relations, num_points, window).mean(-1)
        for proj in (layer.query, layer.key)
    )
    mixed = features.new_zeros(num_segments, num_channels, num_points, window)
    for n in range(num_segments):
        for s in range(num_subsets):
            for c in range(num_channels):
                topology = layer.adjacency[s].clone()
                for v in range(num_points):
                    for u in range(num_points):
                        relation = torch.tanh(query[n, s, :, v] - key[n, s, :, u])
                        topology[v, u] += layer.alpha[0] * (layer.refine[s, c] @ relation + layer.refine_bias[s, c])
                value = torch.einsum("i,ikw->kw", layer.value[s, c], features[n]) + layer.value_bias[s, c]
                mixed[n, c] += topology @ value
    return F.relu(layer.norm(mixed) + layer.residual_norm(layer.residual(features)))


def naive_temporal_convolution(layer, features):
    """Every branch by itself, every output frame by itself."""
    width = layer.out_channels - layer.num_temporal
    opened = layer.open_norm(layer.open(features))
    window = features.shape[3]
    branches = []
    for number, conv in enumerate(layer.dilated):
        branch = opened[:, number * width : (number + 1) * width].clamp_min(0)
        out = torch.zeros_like(branch)
        for t in range(window):
            for tap in range(conv.kernel_size[1]):
                source = t + (tap - conv.kernel_size[1] // 2) * conv.dilation[1]
                if 0 <= source < window:
                    out[..., t] += torch.einsum("oi,nik->nok", conv.weight[:, :, 0, tap], branch[..., source])
            if conv.bias is not None:
                out[..., t] += conv.bias[:, None]
        branches.append(out)
    pooled = opened[:, layer.num_temporal - width : layer.num_temporal].clamp_min(0)
    branches.append(torch.stack([pooled[..., max(t - 1, 0) : t + 2].amax(-1) for t in range(window)], dim=-1))
    temporal = layer.close_norm(torch.cat(branches, 1))
    pointwise = opened[:, layer.num_temporal : layer.out_channels]
    return (torch.cat([temporal, pointwise], 1) + opened[:, layer.out_channels :]).clamp_min(0)


FORMS = pytest.mark.parametrize("fast", [True, False], ids=["fast", "plain"])
NORMS = pytest.mark.parametrize("norm", ["calibrated", "batch", "layer"])


@NORMS
@torch.no_grad()
def test_both_forms_of_the_graph_convolution_equal_its_loops(norm):
    torch.manual_seed(0)
    layer = ChannelTopologyGraphConv(2, 3, 2, "uniglor73", norm).eval().double()  # in float32, loops round as much as what they test
    for parameter in layer.parameters():
        parameter.normal_()
    features = torch.randn(2, 2, 73, 5, dtype=torch.float64)
    expected = naive_graph_convolution(layer, features)  # once for both: the loops take seconds
    for fast in (True, False):
        with use_fast_layers(fast):
            torch.testing.assert_close(layer(features), expected, atol=1e-10, rtol=1e-10)


@FORMS
@NORMS
@torch.no_grad()
def test_temporal_convolution_equals_its_loops(norm, fast):
    torch.manual_seed(0)
    layer = MultiScaleTemporalConv(3, 4, 3, [1, 2, 3, 4], norm).eval().double()
    features = torch.randn(2, 3, 6, 15, dtype=torch.float64)
    with use_fast_layers(fast):
        out = layer(features)
    assert out.shape == (2, 24, 6, 15)
    torch.testing.assert_close(out, naive_temporal_convolution(layer, features), atol=1e-10, rtol=1e-10)


@torch.no_grad()
def test_with_alpha_zero_the_topology_is_the_skeleton():
    layer = ChannelTopologyGraphConv(2, 3, 2, "uniglor73", "batch").eval().double()
    layer.refine.normal_()
    layer.value.normal_()
    features = torch.randn(2, 2, 73, 5, dtype=torch.float64)
    plain = torch.einsum("svu,sci,niuw->ncvw", torch.from_numpy(adjacency("uniglor73")).double(), layer.value, features)
    expected = F.relu(layer.norm(plain) + layer.residual_norm(layer.residual(features)))
    torch.testing.assert_close(layer(features), expected, atol=1e-10, rtol=1e-10)


@NORMS
@pytest.mark.parametrize("block", ["graph", "temporal"])
def test_the_fast_forms_train_as_the_plain_ones(block, norm):
    """Outputs, gradients of the features and of every parameter, and the statistics of the norms."""
    torch.manual_seed(0)
    layer = ChannelTopologyGraphConv(3, 8, 4, "uniglor73", norm) if block == "graph" else MultiScaleTemporalConv(3, 4, 3, [1, 2, 3], norm)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    results = []
    for fast in (True, False):
        trained = copy.deepcopy(layer).double()
        features = torch.randn(6, 3, 73, 15, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
        with use_fast_layers(fast):
            out = trained(features)
            (out * torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)).sum().backward()
        gradients = {name: parameter.grad for name, parameter in trained.named_parameters()}
        results.append({"out": out.detach(), "features": features.grad} | gradients | dict(trained.named_buffers()))
    for name, plain in results[1].items():
        tolerance = 1e-9 * max(1, plain.abs().max().item())
        assert torch.allclose(results[0][name], plain, atol=tolerance, rtol=1e-9), name


def test_the_switch_lasts_as_long_as_its_block_and_survives_an_error(monkeypatch):
    calls = []
    monkeypatch.setattr("modeling_unigloR.fast_layers_uniglor.mix", lambda *arguments: calls.append("fast") or mix(*arguments))
    layer, features = ChannelTopologyGraphConv(2, 3, 2, "uniglor73", "layer"), torch.randn(1, 2, 73, 5)
    with pytest.raises(ValueError, match="stop"), use_fast_layers(False):
        layer(features)
        raise ValueError("stop")
    assert calls == []
    layer(features)
    assert calls == ["fast"]


@pytest.mark.parametrize("cache_floats", [1, 300_000, 10**9])
@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_fast_mixing_equals_the_plain_one_forward_and_backward(monkeypatch, cache_floats, dtype, tolerance):
    """One segment at a time, a few with a shorter rest, and all at once."""
    monkeypatch.setattr("modeling_unigloR.graph_mixing_uniglor.CACHE_FLOATS", cache_floats)
    torch.manual_seed(0)
    layer = ChannelTopologyGraphConv(3, 16, 8, "uniglor73", "batch").to(dtype)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_(std=0.3)
    gradients = []
    for function in (lambda x: fast_mix(layer, x), layer.mix):
        layer.zero_grad()
        features = torch.randn(6, 3, 73, 15, dtype=dtype, generator=torch.Generator().manual_seed(1)).requires_grad_()
        mixed = function(features)
        (mixed * torch.linspace(-1, 1, mixed.numel(), dtype=dtype).view_as(mixed)).sum().backward()
        used = {name: parameter.grad for name, parameter in layer.named_parameters() if parameter.grad is not None}
        gradients.append({"mixed": mixed.detach(), "features": features.grad} | used)
    ours, published = gradients
    assert len(ours) == len(published) == 12
    sizes = {name: value.abs().max().item() for name, value in published.items()}
    # One number, a sum over every weight of the refinement that nearly cancels: it rounds by its terms.
    terms = (layer.refine * published["refine"]).abs().sum() + (layer.refine_bias * published["refine_bias"]).abs().sum()
    sizes["alpha"] = (terms / layer.alpha.abs()).item()
    for name, value in published.items():
        torch.testing.assert_close(ours[name], value, atol=tolerance * sizes[name], rtol=tolerance, msg=name)


def mixing_arguments(num_segments, num_points, dtype):
    generator = torch.Generator().manual_seed(0)
    query, key = ((num_segments, 6, num_points),) * 2
    shapes = (query, key, (num_segments, 2, num_points, 5), (2, 4, 6), (4, 6))
    return [torch.randn(shape, generator=generator, dtype=dtype).requires_grad_() for shape in shapes]


def test_the_gradient_of_mixing_is_right_in_double_precision():
    assert torch.autograd.gradcheck(mix, mixing_arguments(3, 6, torch.float64))


def test_mixing_a_few_segments_at_a_time_equals_all_relations_in_memory():
    results = []
    for function in (mix, mix_plain):
        arguments = mixing_arguments(7, 20, torch.float32)
        mixed = function(*arguments)
        (mixed * torch.linspace(-1, 1, mixed.numel()).view_as(mixed)).sum().backward()
        results.append([mixed.detach(), *(argument.grad for argument in arguments)])
    for chunked, plain in zip(*results):
        torch.testing.assert_close(chunked, plain, atol=1e-4, rtol=1e-4)


INTERPRETED = """
import torch
from modeling_unigloR.graph_mixing_triton_uniglor import related_plain, related_points

for num_points, columns, dtype, tolerance in ((20, 11, torch.float32, 1e-5), (73, 31, torch.float32, 1e-5), (73, 31, torch.bfloat16, 2e-2)):
    results = []
    for function in (related_points, related_plain):
        generator = torch.Generator().manual_seed(0)
        shapes = ((2, 3, num_points), (2, 3, num_points), (2, num_points, columns))
        arguments = [torch.randn(shape, generator=generator).to(dtype).requires_grad_() for shape in shapes]
        related = function(*(argument if function is not related_plain else argument.float() for argument in arguments))
        (related.float() * torch.linspace(-1, 1, related.numel()).view_as(related)).sum().backward()
        results.append([related.float(), *(argument.grad.float() for argument in arguments)])
    for kernel, plain in zip(*results):
        torch.testing.assert_close(kernel, plain, atol=tolerance * plain.abs().max().item(), rtol=tolerance)
torch.library.opcheck(related_points, arguments, test_utils=("test_schema", "test_autograd_registration"))
print("equal")
"""


def test_the_gpu_kernels_equal_the_plain_form_in_tritons_interpreter():
    """Forward and backward, sizes that fill their blocks and sizes that do not."""
    pytest.importorskip("triton")
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    done = subprocess.run([sys.executable, "-c", INTERPRETED], capture_output=True, text=True, env=environment)
    assert done.stdout.strip() == "equal", done.stderr[-3000:]


POINTERS = ("query", "key", "points", "related", "grad", "grad_query", "grad_key", "grad_points")


@pytest.mark.slow
@pytest.mark.parametrize("capability", [80, 90])
def test_the_gpu_kernels_compile_for_gpus_that_are_not_here_and_use_their_matrix_units(capability):
    """To the assembly of an A100 and an H100, for which Triton needs neither; the interpreter would not notice what they lack."""
    triton = pytest.importorskip("triton")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from modeling_unigloR import graph_mixing_triton_uniglor as module

    points = torch.empty(2, 73, 31, dtype=torch.bfloat16)
    tiles = module._tiles(points)
    options = {"num_warps": tiles.pop("num_warps")}
    for kernel in (module._forward_kernel, module._query_kernel, module._key_kernel):
        types = {name: "i32" for name in kernel.arg_names} | dict.fromkeys(tiles, "constexpr")
        types |= {name: "*fp32" if name.startswith("grad_") else "*bf16" for name in kernel.arg_names if name in POINTERS}
        places = {(kernel.arg_names.index(name),): value for name, value in tiles.items()}
        assembly = triton.compile(ASTSource(kernel, types, places), target=GPUTarget("cuda", capability, 32), options=options)
        assert "mma" in assembly.asm["ptx"] and assembly.metadata.shared < 48 * 1024


def test_what_is_compiled_keeps_the_gpu_kernels_in_its_graph():
    """Forward and backward are operators; before, `torch.compile` took the plain form, whose K x K matrices are kept for the backward."""
    pytest.importorskip("triton")
    from torch.fx.experimental.proxy_tensor import make_fx

    from modeling_unigloR.graph_mixing_triton_uniglor import related_points

    def step(query, key, points):
        return torch.autograd.grad(related_points(query, key, points).sum(), (query, key, points))

    arguments = [torch.empty(shape, requires_grad=True) for shape in ((2, 3, 73), (2, 3, 73), (2, 73, 31))]
    targets = [str(node.target) for node in make_fx(step, tracing_mode="fake")(*arguments).graph.nodes]
    assert sum("related_points" in target for target in targets) == 2 and not any("tanh" in target for target in targets)


def test_kernels_that_do_not_compile_leave_the_plain_form(monkeypatch):
    from modeling_unigloR import graph_mixing_uniglor

    def fail(*args):
        raise RuntimeError("no ptxas")

    said = []
    monkeypatch.setattr(graph_mixing_uniglor.logger, "warning", said.append)
    monkeypatch.setattr(graph_mixing_uniglor, "related_points", fail)
    graph_mixing_uniglor._triton_compiles.cache_clear()
    assert not graph_mixing_uniglor._triton_compiles(torch.device("cpu"))
    assert len(said) == 1 and "RuntimeError: no ptxas" in said[0] and "the plain form is used" in said[0]
    graph_mixing_uniglor._triton_compiles.cache_clear()


def test_the_graph_convolution_under_autocast_stays_within_roundings_of_bfloat16():
    torch.manual_seed(0)
    layer = ChannelTopologyGraphConv(2, 8, 4, "uniglor73", "batch").eval()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_(std=0.3)
        features = torch.randn(4, 2, 73, 15)
        expected = layer(features)
        with torch.autocast("cpu", torch.bfloat16):
            found = layer(features)
    assert (found.float() - expected).abs().max() < 0.03 * expected.abs().max()


@pytest.mark.parametrize("training", [True, False])
def test_a_norm_folded_into_its_convolution_is_the_norm_after_it(training):
    torch.manual_seed(0)
    conv, norm = torch.nn.Conv2d(5, 7, 1, bias=False), torch.nn.BatchNorm2d(7)
    for parameter in norm.parameters():
        torch.nn.init.normal_(parameter)
    plain_conv, plain_norm = copy.deepcopy(conv), copy.deepcopy(norm)
    results = []
    for function, c, n in ((convolve_and_norm, conv, norm), (lambda c, n, x: n(c(x)), plain_conv, plain_norm)):
        n.train()
        for seed in range(3):  # running statistics too
            function(c, n, torch.randn(4, 5, 6, 3, generator=torch.Generator().manual_seed(seed)) + 2)
        n.train(training)
        features = (torch.randn(4, 5, 6, 3, generator=torch.Generator().manual_seed(9)) + 2).requires_grad_()
        out = function(c, n, features)
        (out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum().backward()
        results.append([out.detach(), features.grad, n.running_mean, n.running_var, *(p.grad for p in (c.weight, n.weight, n.bias))])
    for folded, plain in zip(*results):
        torch.testing.assert_close(folded, plain, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("chunk_floats", [1, 3 * 4 * 6, 10**9])
def test_working_a_few_segments_at_a_time_equals_working_at_once(monkeypatch, chunk_floats):
    """One at a time, three with a shorter rest, and all."""
    monkeypatch.setattr("modeling_unigloR.fast_layers_uniglor.CHUNK_FLOATS", chunk_floats)

    def function(features, weight, bias):
        return torch.tanh(features) @ weight + bias

    results = []
    for run in (in_chunks, lambda f, *arguments: f(*arguments)):
        generator = torch.Generator().manual_seed(0)
        arguments = [torch.randn(shape, generator=generator).requires_grad_() for shape in ((7, 4, 6), (6, 5), (5,))]
        out = run(function, *arguments)
        (out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum().backward()
        results.append([out.detach(), *(argument.grad for argument in arguments)])
    for chunked, plain in zip(*results):
        torch.testing.assert_close(chunked, plain)


@NORMS
def test_the_gradient_of_the_temporal_convolution_is_right_in_double_precision(monkeypatch, norm):
    """Of the features and of every parameter, while the norms use the batch's own statistics."""
    monkeypatch.setattr("modeling_unigloR.fast_layers_uniglor.CHUNK_FLOATS", 2 * 3 * 2 * 7)
    torch.manual_seed(0)
    layer = MultiScaleTemporalConv(3, 2, 3, [1, 3], norm).double()
    names, values = zip(*layer.named_parameters())

    def function(features, *parameters):
        return torch.func.functional_call(layer, dict(zip(names, parameters)), (features,))

    assert torch.autograd.gradcheck(function, (torch.randn(5, 3, 2, 7, dtype=torch.float64, requires_grad=True), *values))


def plain_temporal_convolution(layer, features):
    """Of PyTorch's own layers, one after the other."""
    sizes = [layer.num_temporal, layer.out_channels - layer.num_temporal, layer.out_channels]
    temporal, narrow, residual = layer.open_norm(layer.open(features)).split(sizes, dim=1)
    *branches, pooled = F.relu(temporal).chunk(len(layer.dilated) + 1, dim=1)
    temporal = layer.close_norm(torch.cat([*(conv(branch) for conv, branch in zip(layer.dilated, branches)), layer.pool(pooled)], dim=1))
    return F.relu(torch.cat([temporal, narrow], dim=1) + residual)


def test_the_temporal_convolution_under_autocast_stays_within_roundings_of_bfloat16():
    """Those of plain layers on the same CPU: one that adds up in bfloat16 rounds a gradient four times as much as one that does not."""
    torch.manual_seed(0)
    layer = MultiScaleTemporalConv(8, 4, 3, [1, 2, 3, 4], "batch")
    results = []
    for function, enabled in ((layer, False), (layer, True), (lambda x: plain_temporal_convolution(layer, x), True)):
        layer.zero_grad()
        features = torch.randn(12, 8, 73, 15, generator=torch.Generator().manual_seed(1)).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            out = function(features).float()
        (out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum().backward()
        results.append([out.detach(), features.grad, *(parameter.grad for parameter in layer.parameters())])
    for exact, rounded, plain in zip(*results):
        assert (rounded - exact).norm() < 2 * (plain - exact).norm()
    exact, rounded, _ = (values[0] for values in results)
    assert (rounded - exact).norm() < 0.02 * exact.norm()


def test_the_temporal_convolution_trains_with_weights_in_bfloat16():
    """The statistics of a folded norm are float32, and once met weights that were not."""
    torch.manual_seed(0)
    layer, features = MultiScaleTemporalConv(8, 4, 3, [1, 2], "batch").bfloat16(), torch.randn(3, 8, 5, 15, dtype=torch.bfloat16)
    out = layer(features)
    out.sum().backward()
    assert out.dtype == torch.bfloat16 and all(parameter.grad.isfinite().all() for parameter in layer.parameters())


def test_the_temporal_convolution_keeps_little_for_its_backward():
    """Its input, what its closing norm reads, and its output: not the channels that open the branches, which are made again."""
    layer, features, kept = MultiScaleTemporalConv(8, 4, 3, [1, 2, 3, 4], "batch"), torch.randn(12, 8, 73, 15), {}

    def note(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        out = layer(features)
    one_channel = features[:, 0].numel() * features.element_size()
    assert sum(kept.values()) < (8 + layer.num_temporal + layer.out_channels + 1) * one_channel
    assert out.shape == (12, 24, 73, 15)
