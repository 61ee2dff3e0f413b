"""Mixing keypoints by a refined topology, the heart of the graph convolution and most of SignMAE's time.

    topology[n, s, c, v, u] = adjacency[s, v, u] + sum over r of weight[s, c, r] tanh(query[n, s, r, v] - key[n, s, r, u]) + bias[s, c]
    mixed[n, c, w, v]       = sum over s, u of topology[n, s, c, v, u] values[n, s, c, w, u]

The topology is 73 x 73 for every segment, subset and channel: 260 MB at batch 64 with 64 channels, and several times that in
autograd's hands. `mix` never holds it: it builds the topology of a few segments, uses it while it is in cache, and builds it
again in the backward. `mix_plain` is the same function in the plain order of operations.

Shapes: N segments, S subsets, R relation channels, C channels, W frames in a window, K keypoints.
"""

import torch

CACHE_FLOATS = 800_000  # topology entries that are built at a time: they should stay in a core's cache


def mix(query, key, values, weight, bias, adjacency):
    """(N, S, R, K), (N, S, R, K), (N, S, C, W, K), (S, C, R), (S, C), (S, K, K) -> (N, C, W, K)."""
    if values.device.type != "cpu":
        return mix_plain(query, key, values, weight, bias, adjacency)
    return _ChunkedMix.apply(query, key, values, weight, bias, adjacency)


def mix_plain(query, key, values, weight, bias, adjacency):
    """`mix` with the whole topology in memory."""
    difference = torch.tanh(query[..., :, None] - key[..., None, :])  # (N, S, R, K, K)
    refinement = torch.einsum("scr,nsrvu->nscvu", weight, difference) + bias[..., None, None]
    return torch.einsum("nscvu,nscwu->ncwv", adjacency[:, None] + refinement, values)


class _ChunkedMix(torch.autograd.Function):
    """`mix` a few segments at a time. Adjacency, bias and refinement are one product: [weight, bias, 1] @ [tanh; 1; adjacency]."""

    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.float32)
    def forward(ctx, query, key, values, weight, bias, adjacency):
        ctx.save_for_backward(query, key, values, weight, bias, adjacency)
        num_segments, num_subsets, num_channels, window, num_points = values.shape
        factors = _factors(weight, bias)
        mixed = values.new_empty(num_segments, num_channels, num_points, window)
        chunk = _chunk(values)
        values = values.transpose(-1, -2)  # (N, S, C, K, W)
        relations = _relation_buffer(query, adjacency, chunk)
        for rows in _slices(num_segments, chunk):
            topology = _topology(relations, query[rows], key[rows], factors)  # (n, S, C, K, K)
            for subset in range(num_subsets):
                left, right = topology[:, subset].flatten(0, 1), values[rows, subset].flatten(0, 1)
                target = mixed[rows].view(-1, num_points, window)
                torch.bmm(left, right, out=target) if subset == 0 else target.baddbmm_(left, right)
        return mixed.transpose(-1, -2)

    @staticmethod
    @torch.amp.custom_bwd(device_type="cpu")
    def backward(ctx, grad_mixed):
        query, key, values, weight, bias, adjacency = ctx.saved_tensors
        num_segments, num_subsets, num_channels, window, num_points = values.shape
        factors = _factors(weight, bias)
        grad_values = torch.empty_like(values, memory_format=torch.contiguous_format)
        grad_query, grad_key = torch.empty_like(query), torch.empty_like(key)
        grad_factors = torch.zeros_like(factors)
        grad_adjacency = torch.zeros_like(adjacency)
        relations = _relation_buffer(query, adjacency, _chunk(values))
        for rows in _slices(num_segments, _chunk(values)):
            size = rows.stop - rows.start
            topology = _topology(relations, query[rows], key[rows], factors)  # (n, S, C, K, K)
            grad = grad_mixed[rows, None].expand(-1, num_subsets, -1, -1, -1).reshape(-1, window, num_points)  # (n S C, W, K)
            torch.bmm(grad, topology.flatten(0, 2), out=grad_values[rows].view(-1, window, num_points))
            grad_topology = torch.bmm(grad.transpose(1, 2), values[rows].reshape(-1, window, num_points))  # (n S C, K, K)
            grad_topology = grad_topology.view(size * num_subsets, num_channels, -1)
            known = relations[:size].flatten(0, 1).flatten(2)  # (n S, R + 2, K K)
            grad_factors += (grad_topology @ known.transpose(1, 2)).view(size, num_subsets, num_channels, -1).sum(0)
            grad_known = factors.transpose(1, 2).repeat(size, 1, 1) @ grad_topology
            grad_known = grad_known.view(size, num_subsets, -1, num_points, num_points)
            grad_adjacency += grad_known[:, :, -1].sum(0)
            slope = 1 - relations[:size, :, :-2].square()
            grad_difference = grad_known[:, :, :-2] * slope
            grad_query[rows] = grad_difference.sum(-1)
            grad_key[rows] = -grad_difference.sum(-2)
        return grad_query, grad_key, grad_values, grad_factors[..., :-2], grad_factors[..., -2], grad_adjacency


def _chunk(values):
    """How many segments' topologies fit into the cache, of (N, S, C, W, K) values."""
    num_segments, num_subsets, num_channels, _, num_points = values.shape
    return min(num_segments, max(1, CACHE_FLOATS // (num_subsets * num_channels * num_points**2)))


def _slices(length, chunk):
    return [slice(start, min(start + chunk, length)) for start in range(0, length, chunk)]


def _factors(weight, bias):
    """[weight, bias, 1]: (S, C, R), (S, C) -> (S, C, R + 2)."""
    return torch.cat([weight, bias[..., None], torch.ones_like(bias)[..., None]], dim=-1)


def _relation_buffer(query, adjacency, chunk):
    """[tanh; 1; adjacency] for a chunk of segments, (n, S, R + 2, K, K); the tanh is filled in for each."""
    _, num_subsets, num_relations, num_points = query.shape
    buffer = query.new_ones(chunk, num_subsets, num_relations + 2, num_points, num_points)
    buffer[:, :, -1] = adjacency
    return buffer


def _topology(relations, query, key, factors):
    """Fills the buffer for these segments and multiplies: -> (n, S, C, K, K)."""
    difference = relations[: len(query), :, :-2]
    torch.sub(query[..., :, None], key[..., None, :], out=difference).tanh_()
    known = relations[: len(query)].flatten(3)  # (n, S, R + 2, K K)
    return torch.matmul(factors, known).unflatten(-1, relations.shape[-2:])
