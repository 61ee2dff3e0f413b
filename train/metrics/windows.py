"""Windows of keypoints as principal components, and how far two sets of windows are from each other.

Shapes: T frames, W frames in a window, K keypoints, C channels, N windows, F features.
"""

from collections.abc import Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view


class WindowFeatures:
    """Principal components of windows of real keypoints. Each is divided by the root of its deviation, and their mean variance is 1.

    This whitens them by half: a plain component analysis sees little but arms, and a whitened one weighs noise as much as arms.

    Args:
        clips: list of (T, K, C), real training clips.
        window_size: frames of a window.
        size: number of components; fewer where the windows have fewer.
        presence: (K,), 0 where a point is not read.
        max_windows: the components are computed from about so many windows at most, evenly spread.
    """

    def __init__(
        self,
        clips: Sequence[np.ndarray],
        window_size: int = 15,
        size: int = 64,
        presence: np.ndarray | None = None,
        max_windows: int = 10_000,
    ):
        if not len(clips):
            raise ValueError("found no clips; give at least one real training clip")
        self.window_size = window_size
        self.points = slice(None) if presence is None else np.flatnonzero(presence)
        total = sum(len(clip) for clip in clips)
        stride = max(window_size // 2, -(-total // max_windows))
        windows = np.concatenate([self._windows(clip, range(0, len(clip), stride)) for clip in clips]).astype(np.float64)
        self.mean = windows.mean(0)
        values, directions = _principal_axes(windows - self.mean)
        best = np.argsort(values)[::-1][:size]
        best = best[values[best] > 1e-9 * max(values.max(), 1e-30)]
        if not len(best):
            raise ValueError("found training clips in which nothing ever moves; give real signing")
        scaled = directions[:, best] / values[best] ** 0.25
        self.directions = scaled / np.sqrt(np.sqrt(values[best]).mean())  # variances are now square roots of the old ones, with mean 1

    def __call__(self, keypoints: np.ndarray, starts: Sequence[int]) -> np.ndarray:
        """Features of the windows that start at these frames, which may lie up to a window outside: (T, K, C) -> (N, F)."""
        return (self._windows(keypoints, starts) - self.mean) @ self.directions

    def _windows(self, keypoints, starts):
        """(N, W K C); the first frame is repeated before the clip, the last one after it."""
        points = np.asarray(keypoints)[:, self.points]
        padded = np.pad(points.reshape(len(points), -1), ((self.window_size, self.window_size), (0, 0)), mode="edge")
        windows = sliding_window_view(padded, self.window_size, axis=0)  # (T + W + 1, K C, W)
        chosen = windows[np.asarray(starts, int) + self.window_size]
        return chosen.reshape(len(chosen), padded.shape[1] * self.window_size)


def _principal_axes(centred):
    """(N, D) -> variances (F,) and unit directions (D, F), by the smaller of the two products of the matrix with itself."""
    num_windows, num_values = centred.shape
    if num_windows >= num_values:
        return np.linalg.eigh(centred.T @ centred / num_windows)
    values, left = np.linalg.eigh(centred @ centred.T / num_windows)
    return values, centred.T @ left / np.sqrt(np.maximum(values, 1e-30) * num_windows)


def frechet_distance(features: np.ndarray, others: np.ndarray) -> float:
    """The squared Fréchet distance of the two normal distributions that fit two sets of features (N, F), (M, F) best.

    |difference of means|² + the trace of A + B - 2 (A B)^(1/2), of covariances A and B. NaN of fewer than two windows.
    """
    if min(len(features), len(others)) < 2:
        return float("nan")
    roots, spread = [], 0.0
    for sample in (features, others):
        values, directions = np.linalg.eigh(np.cov(sample.T, bias=True).reshape(sample.shape[1], -1))
        roots.append((directions * np.sqrt(values.clip(0))) @ directions.T)
        spread += values.sum()
    common = np.linalg.svd(roots[0] @ roots[1], compute_uv=False).sum()  # exact for singular covariances, unlike a root of their product
    return max(float(np.square(features.mean(0) - others.mean(0)).sum() + spread - 2 * common), 0.0)  # equal sets may give -1e-15
