"""KeypointClip: one clip of keypoints with all that is known of it, the one thing that goes from a file to a model's input.

Readers give clips; the processor, the pipelines, streams, builders and pictures take them. Here too: how the signer is chosen
where several people were detected, and whether coordinates are relative to the image.

Shapes: T frames, K keypoints of the clip's layout, C channels (x, y or x, y, z), N people over all frames.
"""

import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from .keypoints_uniglor import get_source_layout
from .limits_uniglor import (
    MAX_FPS,
    MAX_IMAGE_SIDE,
    MAX_PEOPLE,
    MAX_TRACKS,
    MIN_FPS,
    check_length,
    checked_number,
    short,
)

RELATIVE_LIMIT = 2.0  # coordinates whose median is below 2 are not pixels
FRAMES_JUDGED = 8  # enough frames to decide whether coordinates are relative
MISSING = ("nan", "zero", "confidence")
# Numbers that describe a clip, and between which limits they lie.
CLIP_LIMITS = {
    "fps": (MIN_FPS, MAX_FPS),
    "width": (1, MAX_IMAGE_SIDE),
    "height": (1, MAX_IMAGE_SIDE),
    "aspect": (1 / MAX_IMAGE_SIDE, MAX_IMAGE_SIDE),
}


@dataclass(eq=False)
class KeypointClip:
    """One clip of keypoints, in the units of its source.

    Nothing is checked when a clip is made; the functions that use it (`KeypointProcessor`, `map_layout`, `check_row`) check it.

    Attributes:
        keypoints: (T, K, 2 or 3).
        confidence: (T, K), 0 where not seen; None where the source has none.
        layout: a key of `keypoints_uniglor.SOURCE_LAYOUTS`; None is the layout of the model that reads it.
        fps: frames a second, None where unknown.
        width, height: of the image in pixels, None where unknown.
        aspect: width / height, enough where the size is not known.
        missing: how "not seen" is spelled, instead of the layout's own way: "nan", "zero" or "confidence".
        relative: whether coordinates are 0..1 of width and height; None leaves it to their size, see `is_relative`.
        id: name of the clip in errors, and the id of its row.
        source: where it came from, such as the path of its file.
    """

    keypoints: np.ndarray
    confidence: Any = None  # np.ndarray or None
    layout: str | None = None
    fps: float | None = None
    width: int | float | None = None
    height: int | float | None = None
    aspect: float | None = None
    missing: str | None = None
    relative: bool | None = None
    id: str | None = None
    source: str | None = None

    def __len__(self) -> int:
        """The number of frames."""
        return len(self.keypoints)

    @property
    def name(self) -> str:
        """The name of the clip in errors."""
        return self.id or self.source or "clip"

    @classmethod
    def of(cls, inputs: Any, **known: Any) -> "KeypointClip":
        """The clip of a `KeypointClip`, of a row or another mapping with keypoints, or of an array (T, K, C).

        Args:
            **known: fields of the clip, used where `inputs` does not have them itself.
        """
        clip = cls.from_row(inputs) if isinstance(inputs, Mapping) else as_own(inputs)
        if clip is None:
            return cls(inputs, **known)
        return replace(clip, **{key: value for key, value in known.items() if value is not None and getattr(clip, key) is None})

    # --- Rows -------------------------------------------------------------------------------------------------------------------------

    @classmethod
    def from_row(cls, row: Any) -> "KeypointClip":
        """The clip of a row of the canonical schema, or of any mapping with `keypoints` and fields of a clip.

        Raises:
            ValueError: no mapping with keypoints, or fields of another type.
        """
        if not (hasattr(row, "get") and hasattr(row, "keys")):
            raise ValueError(f"Found {short(row)}, expected a row: a dict with keypoints (T, K, C) and layout.")
        if "keypoints" not in row:
            raise ValueError(f"Found a dict with {short(sorted(map(str, row)))}, expected a row with keypoints (T, K, C) and layout.")
        name = None if row.get("id") is None else str(row.get("id"))
        facts: dict[str, Any] = {field.name: row.get(field.name) for field in fields(cls)} | {"id": name}
        if facts["confidence"] is None:
            facts["confidence"] = row.get("keypoint_mask")  # of what text-to-sign gives
        try:
            for key in CLIP_LIMITS:
                facts[key] = _number_of_row(facts[key])
            check_facts(facts)
        except ValueError as error:
            raise ValueError(f"{name or 'clip'}: {error}") from error
        return cls(**facts)

    def row(
        self,
        id: str | None = None,
        language: str = "und",
        text: str | None = None,
        gloss: str | None = None,
        label: int | None = None,
        signer: str | None = None,
    ) -> dict[str, Any]:
        """The clip as a row of the canonical schema: one dict of plain columns."""
        keypoints = np.asarray(self.keypoints)
        confidence = self.confidence
        if confidence is None:
            confidence = seen_points(keypoints, None, self.missing or get_source_layout(self.layout).missing).astype(np.float32)
        width, height = (None if side is None else int(side) if side == int(side) else side for side in (self.width, self.height))
        return dict(
            id=self.id if id is None else id, keypoints=keypoints, confidence=confidence, layout=self.layout, fps=self.fps,
            width=width, height=height, text=text, gloss=gloss, label=label, signer=signer, language=language,
        )  # fmt: skip

    # --- Units ------------------------------------------------------------------------------------------------------------------------

    def is_relative(self) -> bool:
        """Whether coordinates are 0..1 of the image: as the clip says, or by the size of those that are seen."""
        if self.relative is not None:
            return bool(self.relative)
        source = get_source_layout(self.layout)
        if not source.image:
            return False
        return looks_relative(self.keypoints, seen_points(self.keypoints, self.confidence, self.missing or source.missing))

    def in_pixels(self, need_size: bool = False) -> "KeypointClip":
        """The clip in one unit for x and y: as it is, or where coordinates are relative, multiplied by the image's width and height.

        Args:
            need_size: whether the unit must be pixels, so that the image's aspect is not enough.
        """
        if not self.is_relative():
            return self if self.relative is False else replace(self, relative=False)
        if self.width and self.height:
            factors = (self.width, self.height, self.width)  # MediaPipe's z is in units of the width
        elif self.aspect and not need_size:
            factors = (self.aspect, 1.0, self.aspect)
        else:
            raise ValueError(
                f"{self.name}: its coordinates are relative to the image (0..1), so x and y have different units. Pass width and height, "
                "or aspect=width / height (aspect alone is not enough for noisy_frame_unit='pixels'); or relative=False if they are not."
            )
        scale = np.array(factors[: self.keypoints.shape[-1]], self.keypoints.dtype)
        return replace(self, keypoints=self.keypoints * scale, relative=False)


def as_own(clip: Any) -> KeypointClip | None:
    """A `KeypointClip` as one of this module, or None where it is something else.

    A checkpoint's own code has a copy of this module, and with it a class of its own: clips go from one to the other.
    """
    if isinstance(clip, KeypointClip):
        return clip
    if type(clip).__name__ != KeypointClip.__name__:
        return None
    known: dict[str, Any] = {field.name: getattr(clip, field.name, None) for field in fields(KeypointClip)}
    return KeypointClip(**known)


def looks_relative(keypoints: np.ndarray, seen: np.ndarray) -> bool:
    """Whether the coordinates that are seen, of keypoints (T, K, C), seen (T, K), are too small to be pixels of an image."""
    frames = np.flatnonzero(seen.any(1))
    frames = frames[:: len(frames) // FRAMES_JUDGED + 1]
    return len(frames) > 0 and bool(np.median(np.abs(keypoints[frames][seen[frames]][:, :2])) <= RELATIVE_LIMIT)


def seen_points(keypoints: np.ndarray, confidence: np.ndarray | None, missing: str, min_confidence: float = 0.0) -> np.ndarray:
    """(T, K) bool. A zero is a place unless `missing` is "zero"; NaN is a mistake unless it is "nan"."""
    if missing == "zero":
        seen = (keypoints != 0).any(-1)
    elif missing == "nan" and confidence is None:
        seen = ~np.isnan(keypoints).any(-1)
    else:  # "nan" with a confidence that calls a NaN present is the caller's mistake, and is reported as such
        seen = np.ones(keypoints.shape[:2], bool)
    return seen if confidence is None else seen & (confidence > min_confidence)


def check_facts(facts: Mapping[str, Any]) -> None:
    """Checks fields of a clip by their names: numbers have to be within their limits, and names have to be strings."""
    for key in CLIP_LIMITS.keys() & facts.keys():
        if facts[key] is not None:
            checked_number(key, facts[key], *CLIP_LIMITS[key])
    for key in {"layout", "missing"} & facts.keys():
        if not isinstance(facts[key], str | None):
            raise ValueError(f"Found {key}={short(facts[key])}, expected its name (str).")


def _number_of_row(value: Any) -> Any:
    """A number of a row; a null that came through numpy is a NaN."""
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        return value
    try:
        return None if value != value else float(value)
    except OverflowError:
        return value


# --- One person of several --------------------------------------------------------------------------------------------------------------


def follow_person(frames: Sequence[int] | np.ndarray, points: np.ndarray, confidence: np.ndarray, width: float | None = None) -> np.ndarray:
    """Which detections are the signer: of the people that overlap from frame to frame, the most central and confident one.

    Args:
        frames: (N,) ascending frame numbers of the detections.
        points: (N, K, 2 or more), confidence: (N, K).
        width: of the image; by default its middle is the middle of all that was seen.

    Returns:
        (M,) indices of detections, at most one for each frame.
    """
    frames, points, confidence = np.asarray(frames, int), np.asarray(points)[..., :2], np.asarray(confidence)
    if (np.diff(frames) > 0).all():  # nobody else
        return np.arange(len(frames))
    bounds = np.append(np.flatnonzero(np.diff(frames, prepend=frames[0] - 1)), len(frames))  # where each frame starts
    if np.diff(bounds).max() > MAX_PEOPLE:
        kept = np.concatenate([start + surest(confidence[start:stop]) for start, stop in zip(bounds, bounds[1:])])
        return kept[follow_person(frames[kept], points[kept], confidence[kept], width)]
    seen = (confidence > 0) & np.isfinite(points).all(-1)
    low = np.where(seen[..., None], points, np.inf).min(1).astype(float)  # (N, 2), the box of each detection
    high = np.where(seen[..., None], points, -np.inf).max(1).astype(float)
    there = seen.any(1)
    if not there.any():
        return np.unique(frames, return_index=True)[1]
    left, right = low[there, 0].min(), high[there, 0].max()
    middle = (left + right) / 2
    if width:
        middle = width / 2 if right > RELATIVE_LIMIT else 0.5
    reach = max(right - middle, middle - left) or 1.0
    central = 1 - np.abs((np.where(there, low[:, 0], middle) + np.where(there, high[:, 0], middle)) / 2 - middle) / reach
    worth = np.where(there, np.where(seen, confidence, 0).mean(1, dtype=float) * central, 0)

    indices = np.flatnonzero(there)
    tracks = _tracks(frames[indices], low[indices], high[indices])
    return indices[tracks == np.bincount(tracks, worth[indices]).argmax()]


def surest(confidence: np.ndarray) -> np.ndarray:
    """(P, K) of the people in a frame -> indices of the `MAX_PEOPLE` whose points are surest, ascending."""
    sums = np.nan_to_num(confidence.sum(1, dtype=float), nan=-np.inf)
    return np.sort(np.argsort(-sums, kind="stable")[:MAX_PEOPLE])


def _tracks(frames: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """(N,) which person each detection is: boxes that overlap most go together first, and one that overlaps none is somebody new.

    Args:
        frames: (N,) ascending. low, high: (N, 2), the corners of each detection's box.
    """
    tracks, num_tracks = np.zeros(len(frames), int), 0
    latest = np.zeros(0, int)  # of each track that may go on, its last detection; older tracks first
    area = (high - low).prod(1)
    bounds = np.append(np.flatnonzero(np.diff(frames, prepend=frames[0] - 1)), len(frames)).tolist()
    for start, stop in zip(bounds, bounds[1:]):
        shared = np.minimum(high[latest, None], high[None, start:stop]) - np.maximum(low[latest, None], low[None, start:stop])
        shared = np.maximum(shared, 0).prod(-1)  # (tracks, people)
        overlap = shared / np.maximum(area[latest, None] + area[None, start:stop] - shared, 1e-9)
        rows, columns = np.nonzero(overlap > 0)
        order = np.argsort(-overlap[rows, columns], kind="stable")
        new, taken = set(range(stop - start)), set()
        for row, column in zip(rows[order].tolist(), columns[order].tolist()):
            if column in new and row not in taken:
                tracks[start + column] = tracks[latest[row]]
                new.remove(column)
                taken.add(row)
                latest[row] = start + column
                if not new:
                    break
        for column in sorted(new):
            tracks[start + column] = num_tracks
            num_tracks += 1
        latest = np.append(latest, [start + column for column in sorted(new)]).astype(int)
        if len(latest) > MAX_TRACKS:  # those who were away longest do not come back
            latest = latest[np.sort(np.argsort(-latest, kind="stable")[:MAX_TRACKS])]
    return tracks


def detections_over_time(
    frame_numbers: Sequence[int],
    owner: Sequence[int] | np.ndarray,
    points: np.ndarray,
    confidence: np.ndarray,
    width: float | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Detections (N, K, C), (N, K) of the frames `frame_numbers` -> (T, K, C), (T, K): NaN where a frame has no file or nobody."""
    owner = np.asarray(owner, int)
    num_frames = frame_numbers[-1] - frame_numbers[0] + 1
    check_length(num_frames, num_frames * points[0].size if len(points) else 0)
    chosen = follow_person(owner, points, confidence, width)
    if len(chosen) == num_frames:
        return points[chosen], confidence[chosen]
    keypoints = np.full((num_frames, *points.shape[1:]), np.nan, np.float32)
    over_time = np.zeros((num_frames, points.shape[1]), np.float32)
    at = np.asarray(frame_numbers)[owner[chosen]] - frame_numbers[0]
    keypoints[at], over_time[at] = points[chosen], confidence[chosen]
    return keypoints, over_time
