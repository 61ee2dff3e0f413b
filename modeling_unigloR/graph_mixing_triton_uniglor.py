"""Triton kernels for a GPU: points related by tanh of differences, whose K x K matrices stay on the chip.

    related[n, r, v, m] = sum over u of tanh(query[n, r, v] - key[n, r, u]) points[n, u, m]

One program takes one segment and one relation: it builds the K x K tanh in registers, multiplies it with the segment's points, and
in the backward builds it again. `related_plain` is the reference in tests, and the fallback where Triton is absent or cannot compile.
TRITON_INTERPRET=1 runs the kernels on a CPU, for tests.

Shapes: N segments, R relations, K keypoints (at most 128), M columns of points (at most 128).
"""

from typing import Any

import torch

try:
    import triton
    import triton.language as tl
except ImportError:
    triton = None

MAX_POINTS = 128


def related_plain(query: torch.Tensor, key: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """(N, R, K), (N, R, K), (N, K, M) -> (N, R, K, M)."""
    relation = torch.tanh(query[..., None] - key[..., None, :])
    return (relation.flatten(1, 2) @ points).unflatten(1, query.shape[1:])


if triton is not None:  # its functions have types of their own, which mypy does not know

    @triton.jit
    def _tanh(x):  # type: ignore[no-untyped-def]
        return 2 * tl.sigmoid(2 * x) - 1

    @triton.jit
    def _relation(query, key, offset, points_in_use, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
        """(BLOCK, BLOCK) tanh of differences of one segment and relation, 0 beyond the last point."""
        rows = tl.arange(0, BLOCK)
        q = tl.load(query + offset * points_in_use + rows, rows < points_in_use, 0.0).to(tl.float32)
        k = tl.load(key + offset * points_in_use + rows, rows < points_in_use, 0.0).to(tl.float32)
        inside = (rows < points_in_use)[:, None] & (rows < points_in_use)[None, :]
        return tl.where(inside, _tanh(q[:, None] - k[None, :]), 0.0)

    @triton.jit
    def _columns(source, offset, points_in_use, columns_in_use, BLOCK: tl.constexpr, COLUMNS: tl.constexpr):  # type: ignore[no-untyped-def]
        """Pointers to a (K, M) matrix and which of them are inside it."""
        rows, columns = tl.arange(0, BLOCK), tl.arange(0, COLUMNS)
        pointers = source + offset * points_in_use * columns_in_use + rows[:, None] * columns_in_use + columns[None, :]
        return pointers, (rows < points_in_use)[:, None] & (columns < columns_in_use)[None, :]

    @triton.jit
    def _forward_kernel(  # type: ignore[no-untyped-def]
        query, key, points, related, num_relations, points_in_use, columns_in_use, BLOCK: tl.constexpr, COLUMNS: tl.constexpr
    ):
        offset = tl.program_id(0).to(tl.int64)  # n * R + r
        relation = _relation(query, key, offset, points_in_use, BLOCK)
        source, inside = _columns(points, offset // num_relations, points_in_use, columns_in_use, BLOCK, COLUMNS)
        values = tl.load(source, inside, 0.0).to(tl.float32)
        target, inside = _columns(related, offset, points_in_use, columns_in_use, BLOCK, COLUMNS)
        tl.store(target, tl.dot(relation, values, input_precision="ieee").to(related.dtype.element_ty), inside)

    @triton.jit
    def _backward_kernel(  # type: ignore[no-untyped-def]
        query, key, points, grad, grad_query, grad_key, grad_points, num_relations, points_in_use, columns_in_use,
        BLOCK: tl.constexpr, COLUMNS: tl.constexpr,
    ):  # fmt: skip
        offset = tl.program_id(0).to(tl.int64)
        relation = _relation(query, key, offset, points_in_use, BLOCK)
        source, inside = _columns(points, offset // num_relations, points_in_use, columns_in_use, BLOCK, COLUMNS)
        values = tl.load(source, inside, 0.0).to(tl.float32)
        source, inside = _columns(grad, offset, points_in_use, columns_in_use, BLOCK, COLUMNS)
        slopes = tl.load(source, inside, 0.0).to(tl.float32)  # (K, M)
        target, inside = _columns(grad_points, offset, points_in_use, columns_in_use, BLOCK, COLUMNS)
        tl.store(target, tl.dot(tl.trans(relation), slopes, input_precision="ieee"), inside)
        grad_difference = tl.dot(slopes, tl.trans(values), input_precision="ieee") * (1 - relation * relation)
        rows = tl.arange(0, BLOCK)
        grad_difference = tl.where((rows < points_in_use)[:, None] & (rows < points_in_use)[None, :], grad_difference, 0.0)
        tl.store(grad_query + offset * points_in_use + rows, tl.sum(grad_difference, 1), rows < points_in_use)
        tl.store(grad_key + offset * points_in_use + rows, -tl.sum(grad_difference, 0), rows < points_in_use)


class RelatedPoints(torch.autograd.Function):
    """`related_plain` by the kernels above; nothing of size K x K is kept."""

    @staticmethod
    def forward(ctx: Any, query: torch.Tensor, key: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
        query, key, points = (tensor.contiguous() for tensor in (query, key, points))
        ctx.save_for_backward(query, key, points)
        num_segments, num_relations, num_points = query.shape
        related = points.new_empty(num_segments, num_relations, num_points, points.shape[-1])
        _forward_kernel[(num_segments * num_relations,)](query, key, points, related, num_relations, *points.shape[1:], **_blocks(points))
        return related

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, ...]:
        query, key, points = ctx.saved_tensors
        num_segments, num_relations, num_points = query.shape
        grad_query, grad_key = (torch.empty_like(query, dtype=torch.float32) for _ in range(2))
        by_relation = torch.empty(grad.shape, dtype=torch.float32, device=grad.device)  # summed below: the same sum every time
        _backward_kernel[(num_segments * num_relations,)](
            query, key, points, grad.contiguous(), grad_query, grad_key, by_relation, num_relations, *points.shape[1:], **_blocks(points)
        )
        return grad_query.to(query.dtype), grad_key.to(key.dtype), by_relation.sum(1).to(points.dtype)


def _blocks(points: torch.Tensor) -> dict[str, int]:
    block, columns = (max(16, triton.next_power_of_2(size)) for size in points.shape[1:])
    return {"BLOCK": block, "COLUMNS": columns}


def can_run(query: torch.Tensor, points: torch.Tensor) -> bool:
    """Whether the kernels take these tensors: Triton there, a GPU of compute capability 8 or newer, sizes that fit on the chip."""
    return (
        triton is not None
        and query.is_cuda
        and torch.version.cuda is not None
        and torch.cuda.get_device_capability(query.device) >= (8, 0)
        and max(points.shape[1:]) <= MAX_POINTS
        and query.dtype in (torch.float32, torch.bfloat16, torch.float16)
    )
