"""Triton kernels for a GPU: points related by tanh of differences, whose K x K matrices stay on the chip.

    related[n, r, v, m] = sum over u of tanh(query[n, r, v] - key[n, r, u]) points[n, u, m]

A program holds a tile of the K x K matrix at a time, TILE x TILE points, which fits into registers; 73 points are three tiles a side. The
backward computes the tanh again, and sums over relations as it goes. `related_plain` is the reference in tests, and the fallback where
Triton is absent or cannot compile. TRITON_INTERPRET=1 runs the kernels on a CPU, for tests.

The kernels are operators of torch, which `torch.compile` and `torch.export` keep in their graphs.

Shapes: N segments, R relations, K keypoints (at most 128), M columns of points (at most 128).
"""

import re
from typing import Any

import torch

try:
    import triton
    import triton.language as tl
except ImportError:
    triton = None

MAX_POINTS = 128
TILE = 32  # points of a tile's side: 73 of 96 are in use, where one tile of 128 took 3.1 times the work
NUM_WARPS = 4


def related_plain(query: torch.Tensor, key: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """(N, R, K), (N, R, K), (N, K, M) -> (N, R, K, M)."""
    relation = torch.tanh(query[..., None] - key[..., None, :])
    return (relation.flatten(1, 2) @ points).unflatten(1, query.shape[1:])


if triton is not None:  # its functions have types of their own, which mypy does not know

    @triton.jit
    def _relation(q, k, rows, others, num_points):  # type: ignore[no-untyped-def]
        """(TILE, TILE) tanh of differences, 0 beyond the last point."""
        inside = (rows < num_points)[:, None] & (others < num_points)[None, :]
        return tl.where(inside, 2 * tl.sigmoid(2 * (q[:, None] - k[None, :])) - 1, 0.0)

    @triton.jit
    def _vector(source, place, rows, num_points):  # type: ignore[no-untyped-def]
        """(TILE,) of the vector at `place` of (.., K)."""
        return tl.load(source + place * num_points + rows, rows < num_points, 0.0).to(tl.float32)

    @triton.jit
    def _matrix(source, place, rows, num_points, num_columns, COLUMNS: tl.constexpr):  # type: ignore[no-untyped-def]
        """Pointers to (TILE, COLUMNS) of the matrix at `place` of (.., K, M), and which of them are inside it."""
        columns = tl.arange(0, COLUMNS)
        pointers = source + (place * num_points + rows[:, None]) * num_columns + columns[None, :]
        return pointers, (rows < num_points)[:, None] & (columns < num_columns)[None, :]

    @triton.jit
    def _forward_kernel(  # type: ignore[no-untyped-def]
        query, key, points, related, num_relations, num_points, num_columns,
        TILE: tl.constexpr, TILES: tl.constexpr, COLUMNS: tl.constexpr, PRECISION: tl.constexpr,
    ):  # fmt: skip
        """A program for each segment, relation and tile of v."""
        place = (tl.program_id(0) // TILES).to(tl.int64)  # n * R + r
        rows = tl.program_id(0) % TILES * TILE + tl.arange(0, TILE)
        q = _vector(query, place, rows, num_points)
        total = tl.zeros((TILE, COLUMNS), tl.float32)
        for tile in range(TILES):
            others = tile * TILE + tl.arange(0, TILE)
            relation = _relation(q, _vector(key, place, others, num_points), rows, others, num_points)
            source, inside = _matrix(points, place // num_relations, others, num_points, num_columns, COLUMNS)
            values = tl.load(source, inside, 0.0).to(tl.float32)
            total += tl.dot(relation, values, input_precision=PRECISION)
        target, inside = _matrix(related, place, rows, num_points, num_columns, COLUMNS)
        tl.store(target, total.to(related.dtype.element_ty), inside)

    @triton.jit
    def _query_kernel(  # type: ignore[no-untyped-def]
        query, key, points, grad, grad_query, num_relations, num_points, num_columns,
        TILE: tl.constexpr, TILES: tl.constexpr, COLUMNS: tl.constexpr, PRECISION: tl.constexpr,
    ):  # fmt: skip
        """grad_query: a program for each segment, relation and tile of v."""
        place = (tl.program_id(0) // TILES).to(tl.int64)
        rows = tl.program_id(0) % TILES * TILE + tl.arange(0, TILE)
        q = _vector(query, place, rows, num_points)
        source, inside = _matrix(grad, place, rows, num_points, num_columns, COLUMNS)
        slopes = tl.load(source, inside, 0.0).to(tl.float32)
        total = tl.zeros((TILE,), tl.float32)
        for tile in range(TILES):
            others = tile * TILE + tl.arange(0, TILE)
            relation = _relation(q, _vector(key, place, others, num_points), rows, others, num_points)
            source, inside = _matrix(points, place // num_relations, others, num_points, num_columns, COLUMNS)
            values = tl.load(source, inside, 0.0).to(tl.float32)
            total += tl.sum(tl.dot(slopes, tl.trans(values), input_precision=PRECISION) * (1 - relation * relation), 1)
        tl.store(grad_query + place * num_points + rows, total, rows < num_points)

    @triton.jit
    def _key_kernel(  # type: ignore[no-untyped-def]
        query, key, points, grad, grad_key, grad_points, num_relations, num_points, num_columns,
        TILE: tl.constexpr, TILES: tl.constexpr, COLUMNS: tl.constexpr, PRECISION: tl.constexpr,
    ):  # fmt: skip
        """grad_key and grad_points: a program for each segment and tile of u, which sums over its relations always in the same order."""
        segment = (tl.program_id(0) // TILES).to(tl.int64)
        others = tl.program_id(0) % TILES * TILE + tl.arange(0, TILE)
        source, inside = _matrix(points, segment, others, num_points, num_columns, COLUMNS)
        values = tl.load(source, inside, 0.0).to(tl.float32)
        total = tl.zeros((TILE, COLUMNS), tl.float32)
        for relation_index in range(num_relations):
            place = segment * num_relations + relation_index
            k = _vector(key, place, others, num_points)
            by_key = tl.zeros((TILE,), tl.float32)
            for tile in range(TILES):
                rows = tile * TILE + tl.arange(0, TILE)
                relation = _relation(_vector(query, place, rows, num_points), k, rows, others, num_points)
                source, inside_rows = _matrix(grad, place, rows, num_points, num_columns, COLUMNS)
                slopes = tl.load(source, inside_rows, 0.0).to(tl.float32)
                total += tl.dot(tl.trans(relation), slopes, input_precision=PRECISION)
                by_key -= tl.sum(tl.dot(slopes, tl.trans(values), input_precision=PRECISION) * (1 - relation * relation), 0)
            tl.store(grad_key + place * num_points + others, by_key, others < num_points)
        target, inside = _matrix(grad_points, segment, others, num_points, num_columns, COLUMNS)
        tl.store(target, total, inside)

    # Registered once for each copy of this module: that of the package, and those that came with checkpoints from the Hub.
    _NAMES = "uniglor::{}_" + re.sub(r"\W", "_", __name__)

    @torch.library.triton_op(_NAMES.format("related_points"), mutates_args={})
    def related_points(query: torch.Tensor, key: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
        """`related_plain` by the kernels above, with gradients; nothing of size K x K is kept."""
        query, key, points = (tensor.contiguous() for tensor in (query, key, points))
        related = points.new_empty(*query.shape, points.shape[-1])
        tiles = _tiles(points)
        _launched(_forward_kernel, query.shape[0] * query.shape[1] * tiles["TILES"])(
            query, key, points, related, query.shape[1], points.shape[1], points.shape[2], **tiles
        )
        return related

    @torch.library.triton_op(_NAMES.format("related_points_backward"), mutates_args={})
    def _related_points_backward(
        query: torch.Tensor, key: torch.Tensor, points: torch.Tensor, grad: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        query, key, points, grad = (tensor.contiguous() for tensor in (query, key, points, grad))
        grad_query, grad_key, grad_points = (torch.empty_like(tensor, dtype=torch.float32) for tensor in (query, key, points))
        tiles, sizes = _tiles(points), (query.shape[1], points.shape[1], points.shape[2])
        programs = query.shape[0] * tiles["TILES"]
        _launched(_query_kernel, programs * query.shape[1])(query, key, points, grad, grad_query, *sizes, **tiles)
        _launched(_key_kernel, programs)(query, key, points, grad, grad_key, grad_points, *sizes, **tiles)
        return grad_query.to(query.dtype), grad_key.to(key.dtype), grad_points.to(points.dtype)

    def _save(ctx: Any, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        ctx.save_for_backward(*inputs)

    def _backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return _related_points_backward(*ctx.saved_tensors, grad)

    related_points.register_autograd(_backward, setup_context=_save)

    def _launched(kernel: Any, programs: int) -> Any:
        if isinstance(kernel, triton.runtime.JITFunction):  # those of the interpreter are not traced
            kernel = torch.library.wrap_triton(kernel)
        return kernel[(programs,)]

else:
    related_points = related_plain  # for those who import it; `knows_kernels` says that it is not to be called


def _tiles(points: torch.Tensor) -> dict[str, Any]:
    num_points, num_columns = points.shape[1:]
    columns = max(16, triton.next_power_of_2(num_columns))
    # Tensor cores: exact for points of 16 bits, whose numbers TF32 holds; for float32 as torch's own products.
    precision = "tf32" if points.element_size() == 2 or torch.backends.cuda.matmul.allow_tf32 else "ieee"
    return {"TILE": TILE, "TILES": -(-num_points // TILE), "COLUMNS": columns, "PRECISION": precision, "num_warps": NUM_WARPS}


def knows_kernels(device: torch.device) -> bool:
    """Whether Triton is there, and the device a GPU of compute capability 8 or newer."""
    return triton is not None and torch.version.cuda is not None and torch.cuda.get_device_capability(device) >= (8, 0)


def can_run(query: torch.Tensor, points: torch.Tensor) -> bool:
    """Whether the kernels take these tensors."""
    return max(points.shape[1:]) <= MAX_POINTS and query.dtype in (torch.float32, torch.bfloat16, torch.float16)
