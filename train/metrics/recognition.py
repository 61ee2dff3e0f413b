"""Scores of isolated signs: how often the true label is among the first k, and which labels are taken for which.

Shapes: N clips, L labels, G groups of clips, R resamples, F features.
"""

import math

import numpy as np

TOPS = (1, 5, 10)  # Tab 3


def recognition_scores(logits, labels):
    """Top-1, top-5 and top-10 in per cent, over clips and over labels.

    Args:
        logits: (N, L), larger for a label that is more probable; of any scale.
        labels: (N,) ints below L.

    Returns:
        A flat dict: `top1`, `top5`, `top10`, the share of clips whose true label is among the first k; the same with `_class`, the mean
        over the labels that occur of their clips' share; `num_scored`, `num_labels` that occur, and `signatures`. With fewer than k
        labels a top-k is 100, and says nothing.

    Raises:
        ValueError: as `ranks`.
    """
    rank, labels = ranks(logits, labels), np.asarray(labels)
    _, index, count = np.unique(labels, return_inverse=True, return_counts=True)
    scores, signatures = {}, {}
    for top in TOPS:
        hit = rank <= top
        scores[f"top{top}"] = 100 * float(hit.mean())
        scores[f"top{top}_class"] = 100 * float((np.bincount(index, hit) / count).mean())
        for suffix, mean in (("", "clips"), ("_class", "labels")):
            signatures[f"top{top}{suffix}"] = f"top{top}|mean:{mean}|ties:last|labels:{len(count)} of {np.shape(logits)[1]}|n:{len(labels)}"
    return {**scores, "num_scored": len(labels), "num_labels": len(count), "signatures": signatures}


def ranks(logits, labels):
    """Rank of each clip's true label, from 1 for the most probable: (N, L), (N,) -> (N,). Among equal logits the true label comes last.

    Raises:
        ValueError: shapes that do not fit, no clips, a logit that is no number, a label that has no logit.
    """
    logits, labels = np.asarray(logits, np.float64), np.asarray(labels)
    if logits.ndim != 2 or not len(logits) or labels.shape != logits.shape[:1]:
        raise ValueError(f"Found logits of shape {logits.shape} and labels of shape {labels.shape}, expected (clips, labels) and (clips,).")
    if np.isnan(logits).any():  # comparisons with NaN are false, so that the true label would always come first
        raise ValueError(f"{int(np.isnan(logits).any(1).sum())} of {len(logits)} clips have logits that are no number: the model broke.")
    if labels.min() < 0 or labels.max() >= logits.shape[1]:
        raise ValueError(f"Found labels {labels.min()} to {labels.max()}, expected 0 to {logits.shape[1] - 1}, one for each logit.")
    return (logits >= logits[np.arange(len(labels)), labels][:, None]).sum(1)


def paired_top1_test(right_a, right_b):
    """Whether one system recognises more of the same clips than another: McNemar's exact test, over the clips that they differ on.

    Args:
        right_a, right_b: (N,) bool, whether each clip was recognised.

    Returns:
        `delta`, top-1 of b less that of a, in per cent; `only_a`, `only_b`, clips that only one recognised; `p_value`, two-sided;
        `signature`.
    """
    right_a, right_b = np.asarray(right_a, bool), np.asarray(right_b, bool)
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    differing = only_a + only_b
    tail = sum(math.comb(differing, count) for count in range(min(only_a, only_b) + 1)) / 2**differing
    return {
        "delta": 100 * (only_b - only_a) / len(right_a),
        "only_a": only_a,
        "only_b": only_b,
        "p_value": min(1.0, 2 * tail),
        "signature": f"mcnemar:exact|n:{len(right_a)}",
    }


def top1_interval(logits, labels, groups=None, num_samples=1000, seed=0):
    """The 95 % interval of top-1 over clips, or groups of clips, drawn with replacement.

    Args:
        logits, labels: as for `recognition_scores`.
        groups: (N,) of any kind; clips of one group, such as takes that follow each other, are drawn together. None draws clips.
        num_samples: how often is drawn.
        seed: of the draw.

    Returns:
        A dict with `score`, `low`, `high` in per cent, and its `signature`.
    """
    hit = (ranks(logits, labels) == 1).astype(np.float64)
    _, index = np.unique(np.arange(len(hit)) if groups is None else groups, return_inverse=True)
    hits, sizes = np.bincount(index, hit), np.bincount(index)  # (G,)
    drawn = np.random.default_rng(seed).integers(len(sizes), size=(num_samples, len(sizes)))  # (R, G)
    low, high = np.percentile(100 * hits[drawn].sum(1) / sizes[drawn].sum(1), [2.5, 97.5])
    unit = "clips" if groups is None else f"{len(sizes)} groups"
    signature = f"top1|mean:clips|ties:last|n:{len(hit)}|bs:{num_samples} of {unit}|seed:{seed}"
    return {"score": 100 * float(hit.mean()), "low": float(low), "high": float(high), "signature": signature}


def confusion_matrix(logits, labels):
    """(L, L) ints: row, the true label; column, the most probable one."""
    size = np.shape(logits)[1]
    return np.bincount(np.asarray(labels) * size + np.argmax(logits, axis=1), minlength=size**2).reshape(size, size)


def nearest_class_mean(train_features, train_labels, features, num_labels):
    """A floor that learns only means. Its logits (N, L) are minus the squared distances to each label's mean training features.

    Args:
        train_features: (M, F), train_labels: (M,). Each feature is divided by its standard deviation over these.
        features: (N, F).
        num_labels: L. A label without a training clip is the least probable.
    """
    scale = train_features.std(0) + 1e-3 * train_features.std() + 1e-12  # keeps a feature that hardly varies from being blown up
    means = np.full((num_labels, features.shape[1]), np.nan)
    for label in np.unique(train_labels):
        means[label] = (train_features[train_labels == label] / scale).mean(0)
    # Label by label: with 3,000 labels, an array (N, L, F) would not fit into memory.
    distance = np.stack([np.square(features / scale - mean).sum(1) for mean in means], axis=1)
    return np.nan_to_num(-distance, nan=-np.finfo(np.float64).max)
