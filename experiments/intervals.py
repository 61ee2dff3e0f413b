"""Means over seeds, with intervals over what is independent: recording sessions, signers, sentences, clips.

Shapes: S seeds, U units, R resamples.
"""

import numpy as np
from scipy import stats

NUM_SAMPLES = 1000
OTHERS = ("untrained", "pca", "frames", "every_nth_frame")  # what `pretrained` is compared with, where they are rows


def t_interval(values: np.ndarray, level: float = 0.95) -> list[float]:
    """The interval [low, high] of the mean of a few independent values, by Student's t; NaN where there is only one value."""
    values = np.asarray(values, np.float64)
    if len(values) < 2:
        return [float("nan")] * 2
    half = stats.t.ppf((1 + level) / 2, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
    return [float(values.mean() - half), float(values.mean() + half)]


def over_units(rows: dict[str, dict[str, np.ndarray]], compared: list[tuple[str, str]] | None = None) -> tuple[dict, dict]:
    """Scores (S, U) of every row and metric -> the rows and contrasts of a result; t intervals over the units' means over seeds.

    Args:
        compared: pairs of rows; by default `pairs`.
    """
    result_rows, means = {}, {}
    for name, metrics in rows.items():
        means[name] = {metric: np.asarray(values, np.float64).mean(0) for metric, values in metrics.items()}
        result_rows[name] = {
            metric: {"mean": float(values.mean()), "interval": t_interval(values), "seeds": len(metrics[metric])}
            for metric, values in means[name].items()
        }
    contrasts = {}
    for one, other in pairs(rows) if compared is None else compared:
        shared = [metric for metric in means[one] if metric in means[other]]
        differences = {metric: means[one][metric] - means[other][metric] for metric in shared}
        contrasts[f"{one} - {other}"] = {
            metric: {"mean": float(values.mean()), "interval": t_interval(values)} for metric, values in differences.items()
        }
    return result_rows, contrasts


def over_draws(
    rows: dict[str, dict[str, tuple[np.ndarray, np.ndarray]]], compared: list[tuple[str, str]] | None = None
) -> tuple[dict, dict]:
    """Scores (S,), and scores (S, R) on resampled units, of every row and metric -> the rows and contrasts of a result.

    All rows are scored on the same draws, so that they can be subtracted.

    Args:
        compared: pairs of rows; by default `pairs`.
    """
    result_rows = {
        name: {
            metric: {"mean": float(np.mean(scores)), "interval": _percentiles(np.mean(drawn, 0)), "seeds": len(scores)}
            for metric, (scores, drawn) in metrics.items()
        }
        for name, metrics in rows.items()
    }
    contrasts = {}
    for one, other in pairs(rows) if compared is None else compared:
        contrasts[f"{one} - {other}"] = {}
        for metric, (scores, drawn) in rows[one].items():
            if metric in rows[other]:
                scores_other, drawn_other = rows[other][metric]
                contrasts[f"{one} - {other}"][metric] = {
                    "mean": float(np.mean(scores) - np.mean(scores_other)),
                    "interval": _percentiles(np.mean(drawn, 0) - np.mean(drawn_other, 0)),
                }
    return result_rows, contrasts


def pairs(rows: dict) -> list[tuple[str, str]]:
    """The pairs of rows that are compared."""
    return [("pretrained", other) for other in OTHERS if "pretrained" in rows and other in rows]


def draws_of_ratio(parts: np.ndarray, counts: np.ndarray, num_samples: int = NUM_SAMPLES, seed: int = 0) -> np.ndarray:
    """(R,) sum(parts) / sum(counts) over units that are drawn with replacement; both (U,)."""
    drawn = np.random.default_rng(seed).integers(len(counts), size=(num_samples, len(counts)))
    return parts[drawn].sum(1) / counts[drawn].sum(1)


def times_of_parts(parts: list[list[str]], num_samples: int = NUM_SAMPLES, seed: int = 0) -> np.ndarray:
    """(R, N): how often each of N items is drawn when their parts are drawn with replacement; an item has the mean of its parts.

    Takes are drawn because they are independent; sentences that share a take of a sign are not.
    """
    names = sorted({name for item_parts in parts for name in item_parts})
    shares = np.zeros((len(names), len(parts)))
    for item, item_parts in enumerate(parts):
        for name in item_parts:
            shares[names.index(name), item] += 1 / len(item_parts)
    drawn = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), num_samples)
    return drawn @ shares


def permutation_p(score, num_items: int, num_samples: int = 2000, seed: int = 0) -> float:
    """The p-value of the true order: how often `score(order)` of a random order (num_items,) is at least as high."""
    draw = np.random.default_rng(seed)
    true = score(np.arange(num_items))
    as_good = sum(score(draw.permutation(num_items)) >= true - 1e-9 for _ in range(num_samples))
    return (as_good + 1) / (num_samples + 1)


def _percentiles(drawn: np.ndarray) -> list[float]:
    return [float(value) for value in np.percentile(drawn, [2.5, 97.5])]
