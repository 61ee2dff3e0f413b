"""How well SignMAE gives segments back: errors in shoulder widths by part, motion, and the floors beside them.

A mean error alone misleads: a decoder that gives one static pose for each segment has a small one. So the error of the best such pose
stands beside it, and the share of the true motion that is given back.

Shapes: N segments, W frames in a window, K keypoints, C channels.
"""

import torch

from modeling_unigloR.keypoints_uniglor import get_layout, point_index

WEISZFELD_STEPS = 20
RERANKED = 16
LINEAR_SIZES = (16, 32, 64, 128, 256)
LINEAR_SEGMENTS = 5000


def distances(prediction, target):
    """(N, W, K, C) twice -> (N, W, K) Euclidean distances."""
    return (prediction - target).norm(dim=-1)


def mpjpe(prediction, target, mask):
    """Mean per joint position error over the points that were seen: a float."""
    return float((distances(prediction, target) * mask).sum() / mask.sum().clamp_min(1))


def errors_by_part(prediction, target, mask, layout_name):
    """`mpjpe` of all points, of body, face and hands, and of the hands relative to their wrists (their shape alone).

    A part that was never seen has no entry.
    """
    sums = error_sums(prediction, target, mask, layout_name)
    return {name: float(total / counted) for name, (total, counted) in sums.items() if counted > 0}


def error_sums(prediction, target, mask, layout_name):
    """What `errors_by_part` divides: {name: (sum of the distances, number of points)}, which add up over clips."""
    layout = get_layout(layout_name)
    error = distances(prediction, target) * mask
    sums = {"mpjpe": (error.sum(), mask.sum())}
    for name, parts in (("body", ["body"]), ("face", ["face"]), ("hands", ["left_hand", "right_hand"])):
        sums[f"mpjpe_{name}"] = tuple(sum(values[..., layout.parts[part]].sum() for part in parts) for values in (error, mask))
    hands, wrists = hands_and_wrists(layout_name)
    shape = [points[:, :, hands] - points[:, :, wrists] for points in (prediction, target)]
    seen = mask[:, :, hands] * mask[:, :, wrists]
    sums["mpjpe_hand_shape"] = ((distances(*shape) * seen).sum(), seen.sum())
    return sums


def hands_and_wrists(layout_name):
    """Index lists of all hand points and, beside each, of the wrist that it hangs on."""
    layout, index = get_layout(layout_name), point_index(layout_name)
    hands, wrists = [], []
    for part in ("left_hand", "right_hand"):
        names = [name for name in layout.names[layout.parts[part]] if name not in layout.copies]
        hands += [index[name] for name in names]
        wrists += [index[layout.anchors[name]] for name in names]
    return hands, wrists


def motion(prediction, target, mask, follows):
    """Motion inside segments and jumps at their borders, generated / true.

    Args:
        prediction, target: (N, W, K, C); mask: (N, W, K).
        follows: (N,) bool, True where a segment goes on from the one before it.

    Returns:
        `motion_ratio`: mean frame-to-frame displacement inside segments, generated / true. 0 is a static pose for each segment.
        `border_jump`: mean displacement over a segment's border, generated / true. Far above 1, the seams show.
    """
    inside = mask[:, 1:] * mask[:, :-1]
    steps = [(points.diff(dim=1).norm(dim=-1) * inside).sum() for points in (prediction, target)]
    after = torch.nonzero(follows).squeeze(-1)
    across = mask[after, 0] * mask[after - 1, -1]
    jumps = [((points[after, 0] - points[after - 1, -1]).norm(dim=-1) * across).sum() for points in (prediction, target)]
    return {"motion_ratio": _ratio(*steps), "border_jump": _ratio(*jumps)}


def best_static_pose(target, mask):
    """The one pose for each segment that has the smallest error: every point's geometric median, by Weiszfeld's iteration.

    (N, W, K, C), (N, W, K) -> (N, 1, K, C)
    """
    mask = mask[..., None].to(target.dtype)
    pose = (target * mask).sum(1, keepdim=True) / mask.sum(1, keepdim=True).clamp_min(1)
    for _ in range(WEISZFELD_STEPS):
        weight = mask / (target - pose).norm(dim=-1, keepdim=True).clamp_min(1e-6)
        pose = (target * weight).sum(1, keepdim=True) / weight.sum(1, keepdim=True).clamp_min(1e-9)
    return pose


def nearest_segment_error(target, mask, bank, batch_size=256):
    """`mpjpe` of giving back, for every segment, the training segment that fits it best: of `nearest_segments`."""
    return mpjpe(nearest_segments(target, mask, bank, batch_size), target, mask)


def nearest_segments(target, mask, bank, batch_size=256):
    """(N, W, K, C): for every segment the training segment that fits it best.

    The candidates are the nearest by squared distance over the points that were seen; among the best of them the error decides.

    Args:
        target, mask: (N, W, K, C), (N, W, K).
        bank: (F, W, K, C), a view of overlapping windows is fine.
    """
    flat = bank.reshape(len(bank), -1)  # (F, W K C)
    squared = flat.square()
    nearest = []
    for segments, seen in zip(target.split(batch_size), mask.to(target.dtype).split(batch_size)):
        weight = seen[..., None].expand_as(segments).reshape(len(segments), -1)
        distance = weight @ squared.T - 2 * (segments.reshape(len(segments), -1) * weight) @ flat.T
        for index, candidates in enumerate(distance.topk(min(RERANKED, len(flat)), largest=False).indices):
            error = (distances(bank[candidates], segments[index]) * seen[index]).sum((1, 2))
            nearest.append(bank[candidates[error.argmin()]])
    return torch.stack(nearest)


def linear_code_errors(target, mask, bank, sizes=LINEAR_SIZES):
    """`mpjpe` of what the first principal components of training segments give back, for several numbers of them.

    This is how exact a latent with as many numbers could be without any network. A model whose error is far above it learnt too little.

    Args:
        target, mask, bank: as for `nearest_segment_error`.
        sizes: those that are above the number of values or of training segments are left out.

    Returns:
        {number of components: error}
    """
    flat = bank[:: -(-len(bank) // LINEAR_SEGMENTS)].flatten(1)
    mean = flat.mean(0)
    sizes = [size for size in sizes if size <= min(flat.shape)]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        directions = torch.svd_lowrank(flat - mean, q=min(max(sizes, default=1) + 10, *flat.shape), niter=3)[2]  # (W K C, q)
    code = (target.flatten(1) - mean) @ directions
    return {size: mpjpe((code[:, :size] @ directions[:, :size].T + mean).view_as(target), target, mask) for size in sizes}


def effective_rank(latents):
    """exp of the entropy of the latents' normalised variances (Roy and Vetterli 2007): (N, D) -> a float in 1..D."""
    centred = latents.double() - latents.double().mean(0)
    variances = torch.linalg.eigvalsh(centred.T @ centred).clamp_min(0)
    shares = variances / variances.sum().clamp_min(1e-30)
    return float(torch.exp(-torch.special.xlogy(shares, shares).sum()))


def _ratio(generated, true):
    return float(generated / true) if float(true) > 0 else float("nan")
