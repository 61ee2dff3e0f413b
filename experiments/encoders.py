"""What the rows of a table read of a clip: latents of a SignMAE, principal components of its windows, or its frames.

Every row is a function from `Clips` to `Vectors`, one array (S, D) for each clip. `Reading` conditions them alike, whoever made
them, and is what `train_recognition.main` and `train_sign_to_text.main` take in the place of a `LatentStore`.

Shapes: T frames, S vectors of a clip, W frames in a window, K keypoints, C channels, D size of a vector.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from modeling_unigloR import SignMAEEncoderModel
from train.data.clips import Clips, LatentStore

FLOOR = 1e-4  # of the mean variance, as `ClipReadingModel.set_latent_whitening`
MOST_WINDOWS = 20_000  # that principal components are fitted on
MOST_VECTORS = 30_000  # that a whitening is fitted on


class Vectors:
    """Arrays (S, D), one for each clip, in the place of a `LatentStore`."""

    def __init__(self, arrays: Iterable[np.ndarray]):
        self.arrays = [np.asarray(array, np.float32) for array in arrays]

    def __len__(self):
        return len(self.arrays)

    def __getitem__(self, index):
        return self.arrays[index]

    @property
    def lengths(self):
        return np.array([len(array) for array in self.arrays])


Encoder = Callable[[Clips], Vectors | LatentStore]

# --- Rows -------------------------------------------------------------------------------------------------------------------------


def latents(sign_mae_dir: Path, stride: int) -> Encoder:
    """Standardised latents, kept on the disk as the trainings do."""
    model = SignMAEEncoderModel.from_pretrained(sign_mae_dir)

    def encode(clips):
        return LatentStore.build(clips, model, stride)

    return encode


def frames(clips: Clips) -> Vectors:
    """Every frame's keypoints."""
    return Vectors([clips.keypoints(index)[0].reshape(int(clips.num_frames[index]), -1) for index in range(len(clips))])


def every_nth_frame(window_size: int, stride: int) -> Encoder:
    """The frame in the middle of each window: as many vectors as there are latents."""

    def encode(clips):
        return Vectors(windows[:, window_size // 2].reshape(len(windows), -1) for windows in windows_of(clips, window_size, stride))

    return encode


def raw_windows(window_size: int, stride: int) -> Encoder:
    """All frames of each window."""

    def encode(clips):
        return Vectors(windows.reshape(len(windows), -1) for windows in windows_of(clips, window_size, stride))

    return encode


@dataclass
class PrincipalComponents:
    """A linear code of windows: what can be had without any network.

    Attributes:
        window_size, stride: of the windows.
        mean: (W K C,) of the windows that it was fitted on.
        axes: (W K C, D), their principal axes, of length 1: what reads them scales them, as it does all vectors.
    """

    window_size: int
    stride: int
    mean: np.ndarray
    axes: np.ndarray

    @classmethod
    def fit(cls, clips: Clips, size: int, window_size: int, stride: int, seed: int = 0) -> "PrincipalComponents":
        """On the windows of training clips, at random starts where there are more than enough; by the eigenvectors of their covariance."""
        starts = np.maximum(clips.num_frames - window_size, 0) + 1
        step = max(1, int(starts.sum()) // MOST_WINDOWS)
        draw = np.random.default_rng(seed)
        windows = np.concatenate(
            [some[draw.integers(step) :: step].reshape(-1, some[0].size) for some in windows_of(clips, window_size, 1)]
        )
        size = min(size, windows.shape[1], len(windows) - 1)
        mean = windows.mean(0, dtype=np.float64)
        _, axes = principal_axes(windows - mean)
        return cls(window_size, stride, mean.astype(np.float32), axes[:, :size].astype(np.float32))

    def given_back(self, segments: torch.Tensor) -> torch.Tensor:
        """What is left of segments (N, W, K, C), a tensor, after they went through the code."""
        code = (segments.flatten(1).numpy() - self.mean) @ self.axes
        return torch.from_numpy(code @ self.axes.T + self.mean).view_as(segments)

    def __call__(self, clips: Clips) -> Vectors:
        return Vectors(
            (windows.reshape(len(windows), -1) - self.mean) @ self.axes for windows in windows_of(clips, self.window_size, self.stride)
        )


def principal_axes(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Variances (R,), the largest first, and axes (D, R) of values (N, D) whose mean is 0; R is the smaller of N and D."""
    if len(values) < values.shape[1]:
        _, scales, axes = np.linalg.svd(values, full_matrices=False)
        return scales**2 / max(1, len(values) - 1), axes.T
    variances, axes = np.linalg.eigh(values.T @ values / max(1, len(values) - 1))
    return np.maximum(variances[::-1], 0), axes[:, ::-1]


def windows_of(clips: Clips, window_size: int, stride: int) -> Iterator[np.ndarray]:
    """(S, W, K, C) of each clip; one that is shorter than a window is held at its last frame, as `SignMAE.segment` does."""
    for index in range(len(clips)):
        keypoints = clips.keypoints(index)[0]
        keypoints = np.pad(keypoints, ((0, max(0, window_size - len(keypoints))), (0, 0), (0, 0)), mode="edge")
        windows = np.lib.stride_tricks.sliding_window_view(keypoints, window_size, axis=0)[::stride]  # (S, K, C, W)
        yield np.moveaxis(windows, -1, 1)


# --- Conditioning -----------------------------------------------------------------------------------------------------------------


@dataclass
class Whitening:
    """Vectors along their principal axes, each divided by the square root of its deviation, as `SignToText` reads latents.

    Attributes:
        mean: (D,).
        matrix: (D, D), with fewer columns where it was fitted on fewer vectors.
    """

    mean: np.ndarray
    matrix: np.ndarray

    @classmethod
    def fit(cls, vectors: Vectors | LatentStore) -> "Whitening":
        """On at most about so many vectors, of clips that are spread over them."""
        step = max(1, int(vectors.lengths.sum()) // MOST_VECTORS)
        values = np.concatenate([vectors[index] for index in range(0, len(vectors), step)]).astype(np.float64)
        mean = values.mean(0)
        variances, axes = principal_axes(values - mean)
        matrix = axes * np.maximum(variances, max(FLOOR * variances.mean(), 1e-30)) ** -0.25
        matrix = matrix / max(((values - mean) @ matrix).std(), 1e-6)  # where nothing moves at all, all vectors are 0
        return cls(mean.astype(np.float32), matrix.astype(np.float32))

    def __call__(self, vectors: Vectors | LatentStore) -> Vectors:
        return Vectors((vectors[index] - self.mean) @ self.matrix for index in range(len(vectors)))


class Reading:
    """A row's vectors, whitened by the clips that its reader learns from.

    Args:
        encode: `Clips` -> `Vectors` or `LatentStore`.
        training: the reader's training clips.
    """

    def __init__(self, encode: Encoder, training: Clips):
        self.encode = encode
        self.whitening = Whitening.fit(encode(training))
        self.size = self.whitening.matrix.shape[1]

    def build(self, clips: Clips, *_, **__) -> Vectors:
        return self.whitening(self.encode(clips))
