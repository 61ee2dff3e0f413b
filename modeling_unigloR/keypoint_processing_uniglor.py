"""KeypointProcessor: any estimator's keypoints to the normalised batches that the models read, and back.

The steps of the paper's appendix B.1, one implementation for training and inference: to pixels -> map layout -> put each
hand on its own arm -> drop noisy frames -> fill what was not seen -> centre and scale -> resample -> pad a batch.
Everything is vectorised over frames and points; the tests compare it with a loop over frames.

Shapes: B clips, T frames of a clip, P points of a source layout, K keypoints of the model's layout, C channels (x, y or x, y, z).
"""

import functools
import numbers
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from transformers import BatchFeature, FeatureExtractionMixin
from transformers.utils import logging

from .keypoint_clip_uniglor import MISSING, KeypointClip, as_own, looks_relative, seen_points
from .keypoints_uniglor import (
    SOURCE_LAYOUTS,
    copy_pairs,
    get_layout,
    get_source_layout,
    mirror_permutation,
    point_index,
    source_table,
)
from .keypoints_uniglor import layout_hash as hash_of_layout
from .limits_uniglor import (
    MAX_BATCH_COORDINATES,
    MAX_CLIP_FRAMES,
    MAX_COORDINATE,
    brief,
    check_fps,
    check_image,
    check_length,
    is_number,
    short,
)

logger = logging.get_logger(__name__)

SWAP_MARGIN = 0.1  # shoulder lengths by which the other wrists must be nearer before a clip's hands change arms
FRAME_SWAP_MARGIN = 0.5  # the same for a single frame, where hands that touch must not flicker


class ProcessedClip(NamedTuple):
    """One clip after `KeypointProcessor.process`.

    Attributes:
        keypoints: (T, K, C) float32, in shoulder lengths, the neck at the origin; nothing missing.
        keypoint_mask: (T, K) bool, True where the estimator saw the point in this frame.
        kept_frames: (T', ) int, which source frames were kept (before resampling).
        frame_times: (T,) float64, seconds from the clip's first source frame; source frame numbers where fps is unknown.
        center: (C,) source units that were subtracted; (T, C) with `normalize="frame"`.
        scale: () source units in one shoulder length; (T,) with `normalize="frame"`.
        hands_swapped: whether the source's hand slots were exchanged, since they hang on the other side's wrists.
        layout: name of the keypoints' layout.
        fps: frames a second of the keypoints, or None where unknown.
    """

    keypoints: np.ndarray
    keypoint_mask: np.ndarray
    kept_frames: np.ndarray
    frame_times: np.ndarray
    center: np.ndarray
    scale: np.ndarray
    hands_swapped: bool
    layout: str | None = None
    fps: float | None = None


class Calibration(NamedTuple):
    """The values that a stream fixes before its first window: `center` (C,), `scale` (), and whether the hand slots are swapped."""

    center: np.ndarray
    scale: float
    hands_swapped: bool


def map_layout(clip: KeypointClip, target: str = "uniglor73", min_confidence: float = 0.0) -> KeypointClip:
    """Reorders an estimator's points into a model's layout and puts each hand on the arm that it hangs on.

    Args:
        clip: in any unit that x and y share.
        target: name of the model's layout.
        min_confidence: a point is present above this confidence.

    Returns:
        `KeypointClip` of that layout: keypoints (T, K, C) float32, 0 where not seen; confidence (T, K) float32, 0 where not seen and
        above 0 elsewhere. A point that is the mean of several has the mean of their confidences.

    Raises:
        ValueError: no clip of its layout, or a present point that is not finite.
    """
    clip = _own_clip(clip)
    with np.errstate(over="ignore", invalid="ignore"):  # a result that is not finite is refused below
        mapped, certainty = _gather(clip, target, min_confidence)
        if certainty is not None:
            certainty = certainty.astype(np.float32)
            usual = certainty.min() >= 0 and certainty.max() < np.inf  # False for NaN too
            if not usual or not np.array_equal(certainty > 0, mapped.confidence):
                # Points can be seen although their confidence is no number above 0, and the other way round.
                sure = np.isfinite(certainty) & (certainty > 0)
                certainty = np.where(mapped.confidence, np.where(sure, certainty, 1), 0).astype(np.float32)
            mapped = replace(mapped, confidence=certainty)
        flat = replace(mapped, keypoints=mapped.keypoints[..., :2])  # an estimator's depths of body and hands are not comparable
        scale = _median_scale(flat)
        mapped = settle_hands(mapped, _hands_swapped(flat, scale), scale, num_channels=2)
        keypoints, confidence = mapped.keypoints.astype(np.float32), mapped.confidence.astype(np.float32, copy=False)
    if not np.isfinite(keypoints).all():
        raise ValueError(
            f"{clip.name}: found coordinates beyond {np.finfo(np.float32).max:.3g}, expected some in pixels or shoulder lengths."
        )
    return replace(mapped, keypoints=keypoints, confidence=confidence)


class KeypointProcessor(FeatureExtractionMixin):
    """Keypoints of a clip or of several to a padded batch (paper, appendix B.1), saved as `preprocessor_config.json`.

    Args:
        layout: the model's layout, a key of `keypoints_uniglor.LAYOUTS`.
        num_channels: 2 (x, y) or 3.
        fps: frame rate of processed clips; clips of another known rate are resampled, clips of unknown rate are not.
            None resamples nothing (the paper).
        noisy_frame_threshold: mean displacement from the last kept frame above which a frame is dropped (Eq 7-9). None drops nothing.
        noisy_frame_unit: unit of that threshold: "shoulder" lengths, or "pixels" (the paper: 400).
        max_dropped_frames: after so many drops in a row the next frame is accepted.
        max_gap: longest gap, in frames, over which a missing point is interpolated or held.
        normalize: "clip" (one centre and scale for the clip, body sway stays) or "frame".
        min_confidence: a point is present above this confidence.
        calibration_frames: with `causal=True`, how many first frames fix centre and scale.
        layout_hash: checked when a saved processor is loaded, so that a changed table of points is noticed.
    """

    model_input_names = ["keypoints", "attention_mask", "keypoint_mask"]

    def __init__(
        self,
        layout: str = "uniglor73",
        num_channels: int = 2,
        fps: float | None = 25.0,
        noisy_frame_threshold: float | None = 2.0,
        noisy_frame_unit: str = "shoulder",
        max_dropped_frames: float = 3,
        max_gap: float | None = 15,
        normalize: str = "clip",
        min_confidence: float = 0.0,
        calibration_frames: int = 25,
        padding_value: float = 0.0,
        layout_hash: str | None = None,
        **kwargs: Any,
    ) -> None:
        if methods := [key for key in kwargs if callable(getattr(type(self), key, None))]:
            raise ValueError(f"Found the settings {', '.join(methods)}, which are methods of KeypointProcessor. Expected its arguments.")
        super().__init__(**kwargs)
        _check_choice("noisy_frame_unit", noisy_frame_unit, ("shoulder", "pixels"))
        _check_choice("normalize", normalize, ("clip", "frame"))
        _check_choice("num_channels", num_channels if isinstance(num_channels, numbers.Integral) else None, (2, 3))
        check_fps(fps, "KeypointProcessor")
        for setting, value, most in (
            ("noisy_frame_threshold", noisy_frame_threshold, 1e9), ("max_dropped_frames", max_dropped_frames, MAX_CLIP_FRAMES),
            ("max_gap", max_gap, MAX_CLIP_FRAMES), ("calibration_frames", calibration_frames, MAX_CLIP_FRAMES),
            ("min_confidence", min_confidence, 1e6), ("padding_value", padding_value, 1e6),
        ):  # fmt: skip
            whole = setting == "calibration_frames"
            least = -most if setting in ("min_confidence", "padding_value") else int(whole)
            optional = value is None and setting in ("noisy_frame_threshold", "max_gap")
            if not (optional or (is_number(value, least, most) and (not whole or isinstance(value, numbers.Integral)))):
                raise ValueError(f"{setting}={short(value)} must be {'an int' if whole else 'a number'} from {least:,} to {most:,.0f}.")
        expected_hash = hash_of_layout(layout)
        if layout_hash not in (None, expected_hash):
            raise ValueError(
                f"This processor was saved for layout {layout!r} with hash {layout_hash}, but the installed package's {layout!r} "
                f"has hash {expected_hash}: its points differ. Use the version of the package that saved it, or its remote code."
            )
        self.layout = layout
        self.layout_hash = expected_hash
        self.num_channels = num_channels
        self.fps = fps
        self.noisy_frame_threshold = noisy_frame_threshold
        self.noisy_frame_unit = noisy_frame_unit
        self.max_dropped_frames = max_dropped_frames
        self.max_gap = max_gap
        self.normalize = normalize
        self.min_confidence = min_confidence
        self.calibration_frames = calibration_frames
        self.padding_value = padding_value
        self.padding_side = "right"

    @classmethod
    def get_feature_extractor_dict(
        cls, pretrained_model_name_or_path: str | os.PathLike, **kwargs: Any
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """The settings in a checkpoint's `preprocessor_config.json`. Raises `ValueError` where the file has another content."""
        try:
            settings, kwargs = super().get_feature_extractor_dict(pretrained_model_name_or_path, **kwargs)
        except (UnicodeDecodeError, TypeError, RecursionError, OSError) as error:
            if isinstance(error, OSError) and not os.path.isfile(os.path.join(pretrained_model_name_or_path, "preprocessor_config.json")):
                raise  # not there, or on the Hub
            raise ValueError(f"{pretrained_model_name_or_path}: preprocessor_config.json is not whole JSON ({error}).") from error
        if not isinstance(settings, dict):
            raise ValueError(
                f"{pretrained_model_name_or_path}: preprocessor_config.json holds a {type(settings).__name__}, expected an object with the "
                "settings of a KeypointProcessor."
            )
        return settings, kwargs

    @classmethod
    def from_dict(cls, feature_extractor_dict: dict[str, Any], **kwargs: Any) -> Any:
        try:
            return super().from_dict(feature_extractor_dict, **kwargs)
        except (TypeError, AttributeError) as error:  # keys that are no names of settings
            raise ValueError(f"preprocessor_config.json: {error}. Expected the settings of a KeypointProcessor.") from error

    # --- Batches ------------------------------------------------------------------------------------------------------------------

    def __call__(
        self,
        clips: Any,
        confidence: Any = None,
        *,
        causal: bool = False,
        calibration: Any = None,
        ids: Sequence[str] | None = None,
        return_tensors: str | None = None,
        **known: Any,
    ) -> BatchFeature:
        """Processes one clip or a list of clips into a padded batch.

        Args:
            clips: a `KeypointClip`, a canonical row, or an array (T, P, C); or a list of B of them.
            confidence: of an array, (T, P) or None; a list for a list.
            causal, calibration: see `process`.
            ids: names of the clips, for error messages.
            return_tensors: "np" (default) or "pt".
            **known: fields of `KeypointClip` (layout, fps, width, height, aspect, missing, relative) where a clip does not have them
                itself, such as an array; one value for all clips, or a list.

        Returns:
            `BatchFeature` with `keypoints` (B, T, K, C) float32, `attention_mask` (B, T) int64, `keypoint_mask` (B, T, K) int64, and
            lists of one entry for each clip: `kept_frames`, `frame_times`, `center`, `scale` (see `ProcessedClip`).
        """
        single = not isinstance(clips, (list, tuple))
        clips = [clips] if single else list(clips)
        if not clips:
            raise ValueError("No clip given. Expected an array (T, P, C) or a list of them.")
        per_clip = {"confidence": confidence, "calibration": calibration, "id": ids} | known
        per_clip = {key: _one_per_clip(key, value, len(clips), single) for key, value in per_clip.items()}
        calibrations = per_clip.pop("calibration")
        processed = []
        for index, inputs in enumerate(clips):
            clip = KeypointClip.of(inputs, **{key: values[index] for key, values in per_clip.items()})
            clip = clip if clip.id or clip.source else replace(clip, id=f"clip {index}")
            processed.append(self.process(clip, causal=causal, calibration=calibrations[index]))
        swapped = sum(clip.hands_swapped for clip in processed)
        if swapped:
            logger.warning_once(
                f"In {swapped} of {len(clips)} clips the hands hang on the other side's wrists: they changed slots, by geometry."
            )
        return self.pad(processed, return_tensors=return_tensors)

    def pad(self, clips: Sequence[ProcessedClip], return_tensors: str | None = None) -> BatchFeature:
        """Pads a list of `ProcessedClip` into the batch that `__call__` returns."""
        if not (isinstance(clips, (list, tuple)) and clips and all(isinstance(clip, ProcessedClip) for clip in clips)):
            raise ValueError(f"Found {short(clips)}, expected a list of at least one ProcessedClip, as `process` gives it.")
        longest = max(len(clip.keypoints) for clip in clips)
        num_points = clips[0].keypoints.shape[1]
        if len({clip.keypoints.shape[1:] for clip in clips} | {(num_points, self.num_channels)}) > 1:
            shapes = sorted({clip.keypoints.shape[1:] for clip in clips})
            raise ValueError(f"Found clips of (points, channels) {shapes}, expected the same of all, with {self.num_channels} channels.")
        if len(clips) * longest * num_points * self.num_channels > MAX_BATCH_COORDINATES:
            raise ValueError(
                f"{len(clips)} clips, the longest of {longest:,} frames, are padded to more than {MAX_BATCH_COORDINATES:,} coordinates. "
                "Give fewer or shorter clips at once."
            )
        keypoints = np.full((len(clips), longest, num_points, self.num_channels), self.padding_value, np.float32)
        attention_mask = np.zeros((len(clips), longest), np.int64)
        keypoint_mask = np.zeros((len(clips), longest, num_points), np.int64)
        for index, clip in enumerate(clips):
            length = len(clip.keypoints)
            keypoints[index, :length] = clip.keypoints
            attention_mask[index, :length] = 1
            keypoint_mask[index, :length] = clip.keypoint_mask
        batch = BatchFeature(
            {"keypoints": keypoints, "attention_mask": attention_mask, "keypoint_mask": keypoint_mask}, tensor_type=return_tensors
        )
        for field in ("kept_frames", "frame_times", "center", "scale"):
            batch[field] = [getattr(clip, field) for clip in clips]
        return batch

    # --- One clip -----------------------------------------------------------------------------------------------------------------

    def process(self, clip: KeypointClip, *, causal: bool = False, calibration: Calibration | None = None) -> ProcessedClip:
        """Cleans and normalises one clip.

        Args:
            clip: a `KeypointClip`. Where its coordinates are relative to the image, it has to have width and height, or aspect.
            causal: for a live stream: centre and scale fixed by `calibration`, missing points held, nothing dropped, and
                resampling repeats the latest frame instead of looking ahead.
            calibration: a `Calibration`; by default from the first `calibration_frames` frames of this clip, or where these show no
                shoulders, from as many beginning with the first frame that does.

        Returns:
            `ProcessedClip`.

        Raises:
            ValueError: wrong rank, points, channels or layout; no frames; nothing seen; shoulders never seen or of length 0;
                a present point that is not finite, or is more than `MAX_COORDINATE` shoulder lengths from the neck; relative
                coordinates without the image's aspect; more than the limits of `limits_uniglor`. The results are always finite.
        """
        clip = _own_clip(clip)
        check_fps(clip.fps, clip.name)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # a result that is not finite is refused
            return self._process(self.gather(clip).in_pixels(need_size=self.noisy_frame_unit == "pixels"), causal, calibration)

    def _process(self, clip: KeypointClip, causal: bool, calibration: Calibration | None) -> ProcessedClip:
        """`process` for a clip that `gather` returned, in one unit for x and y."""
        if calibration is None:
            known = self.calibration_span(clip)[0] if causal else slice(None)
            calibration = self.calibration_of(_frames(clip, known))
        else:
            calibration = check_calibration(calibration, self.num_channels, clip.name)
        clip = settle_hands(clip, calibration.hands_swapped, calibration.scale)
        kept = np.arange(len(clip))
        if self.noisy_frame_threshold is not None and not causal:
            unit = calibration.scale if self.noisy_frame_unit == "shoulder" else 1.0
            kept = _kept_frames(clip, self.noisy_frame_threshold * unit, self.max_dropped_frames)
            if len(kept) < len(clip):
                clip = _frames(clip, kept)
        points = fill_missing(clip, calibration.center, kept, None if causal else self.max_gap)
        points, center, scale = self.center_and_scale(points, calibration)
        self._check_range(points, scale, kept, clip.name)
        times = kept.astype(float) if clip.fps is None else kept / clip.fps
        processed = ProcessedClip(points, clip.confidence, kept, times, center, scale, calibration.hands_swapped, self.layout, clip.fps)
        if not (clip.fps is None or self.fps is None or abs(clip.fps - self.fps) < 1e-3 * self.fps):
            processed = self._resample(processed, self.fps, causal, clip.name)
        return processed._replace(keypoints=processed.keypoints.astype(np.float32, copy=False))

    def process_row(self, row: Any, *, causal: bool = False, calibration: Calibration | None = None) -> ProcessedClip:
        """`process` for a row of the canonical schema (id, keypoints, confidence, layout, fps, width, height)."""
        return self.process(KeypointClip.from_row(row), causal=causal, calibration=calibration)

    def calibrate(self, clip: KeypointClip) -> Calibration:
        """`Calibration` of these frames, for a stream that goes on with them (`process(..., causal=True)`)."""
        clip = _own_clip(clip)
        with np.errstate(over="ignore", invalid="ignore"):
            return self.calibration_of(self.gather(clip).in_pixels(need_size=self.noisy_frame_unit == "pixels"))

    def denormalize(self, keypoints: np.ndarray, center: np.ndarray, scale: np.ndarray) -> np.ndarray:
        """Undoes centring and scaling: (..., T, K, C) in shoulder lengths -> source units.

        Args:
            center: (C,) or (T, C), and scale: () or (T,), as `process` returned them.

        Raises:
            ValueError: arrays that do not fit each other, or of which something is not finite.
        """
        keypoints, center, scale = (_array(values, "arrays", "denormalize") for values in (keypoints, center, scale))
        shapes = f"keypoints {keypoints.shape}, center {center.shape} and scale {scale.shape}"
        expected = "Expected keypoints (..., T, K, C), with center (C,) or (T, C) and scale () or (T,) as `process` returned them."
        try:
            together = np.broadcast_shapes(keypoints.shape, (*scale.shape, 1, 1), (*center.shape[:-1], 1, *center.shape[-1:]))
            fit = (
                center.ndim > 0 and together == keypoints.shape and all(values.dtype.kind in "fiu" for values in (keypoints, center, scale))
            )
        except ValueError:
            fit = False
        if not fit or keypoints.size > MAX_BATCH_COORDINATES:
            raise ValueError(f"Found {shapes} of types {keypoints.dtype}, {center.dtype} and {scale.dtype}. {expected}")
        with np.errstate(over="ignore", invalid="ignore"):
            pixels = (keypoints * scale[..., None, None] + center[..., None, :]).astype(np.float32)
        if not np.isfinite(pixels).all():
            raise ValueError(f"Found {shapes}, of which {int((~np.isfinite(pixels)).sum()):,} numbers come out not finite. {expected}")
        return pixels

    def mirror(self, keypoints: Any, keypoint_mask: Any = None) -> Any:
        """The same signing by the other hand, for left-handed signers: x changes its sign, left and right points change places.

        Args:
            keypoints: (..., K, C) normalised, numpy or torch.
            keypoint_mask: (..., K) or None.

        Returns:
            keypoints, or (keypoints, keypoint_mask) where a mask is given.
        """
        permutation = mirror_permutation(self.layout)
        sizes = [(len(permutation), num_channels) for num_channels in (2, 3)]
        if not (hasattr(keypoints, "shape") and tuple(keypoints.shape[-2:]) in sizes):
            raise ValueError(f"Found {_what(keypoints)}, expected an array (..., {len(permutation)}, 2 or 3) of layout {self.layout!r}.")
        if keypoint_mask is not None and not (hasattr(keypoint_mask, "shape") and keypoint_mask.shape == keypoints.shape[:-1]):
            raise ValueError(f"Found a keypoint_mask of {_what(keypoint_mask)}, expected {tuple(keypoints.shape[:-1])} like the keypoints.")
        flip = np.array([-1.0] + [1.0] * (keypoints.shape[-1] - 1), np.float32)
        flip = flip if isinstance(keypoints, np.ndarray) else keypoints.new_tensor(flip)
        mirrored = keypoints[..., permutation, :] * flip
        return mirrored if keypoint_mask is None else (mirrored, keypoint_mask[..., permutation])

    # --- Steps --------------------------------------------------------------------------------------------------------------------

    def gather(self, clip: KeypointClip) -> KeypointClip:
        """The points of the model's layout, still in the source's units, with the hands still in the source's slots.

        Returns:
            `KeypointClip` with keypoints (T, K, C) float64, 0 where not seen, and confidence (T, K) bool; it says whether its
            coordinates are relative.
        """
        check_image(clip.name, width=clip.width, height=clip.height, aspect=clip.aspect)
        mapped = gather_points(clip, self.layout, self.min_confidence)
        if mapped.keypoints.shape[-1] < self.num_channels:
            raise ValueError(
                f"{clip.name}: found {mapped.keypoints.shape[-1]} channels, expected {self.num_channels} (num_channels of this processor)."
            )
        return replace(mapped, keypoints=mapped.keypoints[..., : self.num_channels])

    def calibration_span(self, clip: KeypointClip) -> tuple[slice, bool]:
        """The frames that fix centre and scale of a stream, and whether any frame of the clip, which `gather` returned, has shoulders.

        They are the first ones, or where these show no shoulders, those that begin with the first frame that does.
        """
        points, present = clip.keypoints, clip.confidence
        a, b = (_point_index(self.layout)[name] for name in get_layout(self.layout).scale)
        apart = present[:, a] & present[:, b] & (points[:, a] != points[:, b]).any(-1)
        first = 0 if apart[: self.calibration_frames].any() or not apart.any() else int(apart.argmax())
        return slice(first, first + self.calibration_frames), bool(apart.any())

    def calibration_of(self, clip: KeypointClip) -> Calibration:
        """`calibrate` for a clip that `gather` returned, in one unit for x and y."""
        points, present = clip.keypoints, clip.confidence
        layout, index = get_layout(self.layout), _point_index(self.layout)
        shoulders = [index[point] for point in layout.scale]
        both = present[:, shoulders].all(1)
        if not both.any():
            raise ValueError(
                f"{clip.name}: no frame shows both {layout.scale[0]} and {layout.scale[1]}, which set the scale "
                f"({int(present.any(1).sum())} of {len(points)} frames show anything). Clips without shoulders cannot be normalised."
            )
        scale = _median_scale(clip)
        if not 0 < scale < np.inf:
            where = "lie on one place in every frame" if scale == 0 else f"are {scale} apart"
            raise ValueError(
                f"{clip.name}: {layout.scale[0]} and {layout.scale[1]} {where}, expected a finite length above 0 to scale by: are the "
                "coordinates right?"
            )
        center_seen = present[:, index[layout.center]]
        center = points[center_seen, index[layout.center]] if center_seen.any() else points[both][:, shoulders].mean(1)
        return Calibration(np.median(center, axis=0), scale, _hands_swapped(clip, scale))

    def center_and_scale(self, points: np.ndarray, calibration: Calibration) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Points (T, K, C) without holes -> points in shoulder lengths about the neck, and the centre and scale that were used."""
        if self.normalize == "clip":
            center, scale = np.asarray(calibration.center), np.asarray(calibration.scale)
        else:
            layout, index = get_layout(self.layout), _point_index(self.layout)
            a, b = (index[point] for point in layout.scale)
            lengths = np.linalg.norm(points[:, a] - points[:, b], axis=-1)
            center, scale = points[:, index[layout.center]], np.maximum(lengths, 0.1 * calibration.scale)  # a turned body has no width
        return (points - center[..., None, :]) / scale[..., None, None], center, scale

    def _check_range(self, points: np.ndarray, scale: np.ndarray, kept: np.ndarray, name: str) -> None:
        if points.max() <= MAX_COORDINATE and points.min() >= -MAX_COORDINATE and np.isfinite(scale).all():  # False for NaN too
            return
        far = np.nan_to_num(np.abs(points).max(-1), nan=np.inf, posinf=np.inf)
        frame, point = np.unravel_index(far.argmax(), far.shape)
        raise ValueError(
            f"{name}: {get_layout(self.layout).names[point]} in frame {kept[frame]} is {far[frame, point]:.3g} shoulder lengths from the "
            f"neck, where shoulders are {np.max(scale):.3g} apart. Expected at most {MAX_COORDINATE:,.0f}: are the coordinates right?"
        )

    def _resample(self, processed: ProcessedClip, fps: float, causal: bool, name: str) -> ProcessedClip:
        """A `ProcessedClip` at another frame rate."""
        points, present, times = processed.keypoints, processed.keypoint_mask, processed.frame_times
        num_frames = int(np.floor((times[-1] - times[0]) * fps + 1e-6)) + 1
        check_length(num_frames, num_frames * points[0].size, f"{name}, at {fps:g} instead of {processed.fps:g} frames a second")
        new_times = times[0] + np.arange(num_frames) / fps
        after = (
            np.searchsorted(times, new_times + 1e-9, side="right").clip(1, max(len(times) - 1, 1))
            if len(times) > 1
            else np.zeros(num_frames, int)
        )
        before = np.maximum(after - 1, 0)
        if causal:  # the latest frame that has arrived
            latest = np.searchsorted(times, new_times + 1e-9, side="right") - 1
            before = after = latest
        span = times[after] - times[before]
        weight = np.divide(new_times - times[before], span, out=np.zeros(num_frames), where=span > 0).clip(0, 1)

        def blend(values: np.ndarray) -> np.ndarray:
            share = weight.reshape((-1,) + (1,) * (values.ndim - 1))
            return values[before] * (1 - share) + values[after] * share

        present = (present[before] | (weight == 1)[:, None]) & (present[after] | (weight == 0)[:, None])
        resampled = processed._replace(keypoints=blend(points), keypoint_mask=present, frame_times=new_times, fps=fps)
        if self.normalize == "frame":
            resampled = resampled._replace(center=blend(processed.center), scale=blend(processed.scale))
        return resampled


KeypointProcessor.register_for_auto_class("AutoFeatureExtractor")


# --- The steps ----------------------------------------------------------------------------------------------------------------------


def gather_points(clip: KeypointClip, target: str, min_confidence: float) -> KeypointClip:
    """Checks a clip and takes the target layout's points from it, in the source's hand slots.

    Returns:
        `KeypointClip` with keypoints (T, K, C) float64, 0 where not seen; confidence (T, K) bool; `relative` decided.
    """
    return _gather(clip, target, min_confidence)[0]


def _gather(clip: KeypointClip, target: str, min_confidence: float) -> tuple[KeypointClip, np.ndarray | None]:
    """`gather_points`, and the (T, K) confidences of its points as the source has them, or None."""
    name, layout = clip.name, target if clip.layout is None else clip.layout
    keypoints = _array(clip.keypoints, "keypoints", name)
    source, _ = get_source_layout(layout), get_layout(target)
    if keypoints.ndim != 3 or keypoints.shape[-1] not in (2, 3):
        raise ValueError(f"{name}: found keypoints of shape {keypoints.shape}, expected (frames, keypoints, 2 or 3).")
    num_frames, num_points, num_channels = keypoints.shape
    if num_frames == 0:
        raise ValueError(f"{name}: found 0 frames, expected at least 1.")
    if num_points not in source.blocks:
        fitting = [own for own, other in SOURCE_LAYOUTS.items() if num_points in other.blocks]
        hint = f" Give layout={' or '.join(map(repr, fitting))}, which has." if clip.layout is None and fitting else ""
        raise ValueError(f"{name}: found {num_points} keypoints, but layout {layout!r} has {' or '.join(map(str, source.blocks))}.{hint}")
    if keypoints.dtype.kind not in "fiu":
        raise ValueError(f"{name}: found keypoints of type {keypoints.dtype}, expected numbers.")
    check_length(num_frames, keypoints.size, name)
    missing = clip.missing or source.missing
    _check_choice("missing", missing, MISSING)
    if not isinstance(clip.relative, (bool, np.bool_, type(None))):
        raise ValueError(f"{name}: found relative={short(clip.relative)}, expected True, False, or None: seen from the coordinates' size.")
    confidence = None if clip.confidence is None else _checked_confidence(clip.confidence, keypoints, name)
    first, several, exists = _gather_table(layout, num_points, target)
    points = keypoints.take(first, axis=1).astype(np.float64)  # several times as fast as indexing
    certainty = None if confidence is None else confidence.take(first, axis=1)
    if certainty is not None and certainty.dtype.kind != "f":
        certainty = certainty.astype(np.float64)
    present = seen_points(points, certainty, missing, min_confidence)
    for index, indices in several:
        of_them = keypoints[:, indices].astype(np.float64)
        seen = seen_points(of_them, None if confidence is None else confidence[:, indices], missing, min_confidence)
        points[:, index], present[:, index] = of_them.mean(1), seen.all(1)
        if certainty is not None and confidence is not None:
            certainty[:, index] = confidence[:, indices].mean(1)
    present &= exists
    if not present.any():
        raise ValueError(
            f"{name}: not one keypoint of {num_frames} frames is marked as seen (layout {layout!r}, 'not seen' spelled {missing!r})."
        )
    if not present.all():
        points[~present] = 0
    if not np.isfinite(points).all():
        frame, point = np.argwhere(~np.isfinite(points).all(-1))[0]
        raise ValueError(
            f"{name}: {get_layout(target).names[point]} in frame {frame} is marked as seen but is {points[frame, point]}. "
            f"Expected finite coordinates, or 'not seen' as layout {layout!r} spells it ({missing!r}; `missing=` overrides)."
        )
    relative = (source.image and looks_relative(points, present)) if clip.relative is None else bool(clip.relative)
    return replace(clip, keypoints=points, confidence=present, layout=target, missing="confidence", relative=relative), certainty


@functools.cache
def _gather_table(layout: str, num_points: int, target: str) -> tuple[np.ndarray, list[tuple[int, tuple[int, ...]]], np.ndarray]:
    """How to take all target points from the source's in one step: most are one point of the source, a few the mean of several.

    Returns:
        (K,) indices of the source; [(our index, indices of the source)] of the means; (K,) bool, whether the source has the point.
    """
    table = source_table(layout, num_points, target)
    first = np.array([indices[0] if indices else 0 for indices in table])
    several = [(index, indices) for index, indices in enumerate(table) if len(indices) > 1]
    return first, several, np.array([bool(indices) for indices in table])


_point_index = functools.cache(point_index)  # not to be written to


def _array(values: Any, what: str, name: str) -> np.ndarray:
    try:
        return np.asarray(values)
    except Exception as error:  # of ragged lists, or of unknown objects
        raise ValueError(f"{name}: found {what} that are not one array: {short(values)} ({brief(error)}).") from error


def _what(values: Any) -> str:
    return f"shape {tuple(values.shape)}" if hasattr(values, "shape") else short(values)


def _checked_confidence(confidence: Any, keypoints: np.ndarray, name: str) -> np.ndarray:
    confidence = _array(confidence, "confidence", name)
    if confidence.dtype.kind not in "fiub":
        raise ValueError(f"{name}: found confidence of type {confidence.dtype}, expected numbers.")
    if confidence.shape != keypoints.shape[:2]:
        raise ValueError(f"{name}: found confidence of shape {confidence.shape}, expected {keypoints.shape[:2]} like the keypoints.")
    return confidence


def _own_clip(clip: Any) -> KeypointClip:
    own = as_own(clip)
    if own is None:
        raise ValueError(f"Found {_what(clip)}, expected a KeypointClip: KeypointClip(keypoints, confidence, layout=..., fps=...).")
    return own


def _frames(clip: KeypointClip, frames: slice | np.ndarray) -> KeypointClip:
    return replace(clip, keypoints=clip.keypoints[frames], confidence=clip.confidence[frames])


def _hand_indices(layout_name: str | None) -> list[tuple[np.ndarray, int, int]]:
    """[(indices of the 21 points, of the root, of the wrist)] of the left and the right hand."""
    layout, index = get_layout(layout_name), _point_index(layout_name)
    hands = []
    for part in ("left_hand", "right_hand"):
        names = [name for name in layout.names[layout.parts[part]] if name not in layout.copies]
        hands.append((np.array([index[name] for name in names]), index[names[0]], index[layout.anchors[names[0]]]))
    return hands


def _median_scale(clip: KeypointClip) -> np.float64:
    """Median distance of the layout's two scale points, over the frames that show both apart; 0 where none does."""
    points, confidence = clip.keypoints, clip.confidence
    a, b = (_point_index(clip.layout)[name] for name in get_layout(clip.layout).scale)
    both = (confidence[:, a] > 0) & (confidence[:, b] > 0)
    lengths = np.linalg.norm(points[both, a] - points[both, b], axis=-1)
    return np.float64(np.median(lengths[lengths > 0]) if (lengths > 0).any() else 0)


def _hand_distances(clip: KeypointClip) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """For left and right: (T,) distance of the hand's root to its own wrist and to the other one, and whether all three are seen."""
    points, confidence = clip.keypoints, clip.confidence
    (_, left_root, left_wrist), (_, right_root, right_wrist) = _hand_indices(clip.layout)
    distances = []
    for root, own, other in ((left_root, left_wrist, right_wrist), (right_root, right_wrist, left_wrist)):
        seen = (confidence[:, root] > 0) & (confidence[:, own] > 0) & (confidence[:, other] > 0)
        to_own, to_other = (np.linalg.norm(points[:, root] - points[:, wrist], axis=-1) for wrist in (own, other))
        distances.append((to_own, to_other, seen))
    return distances


def _hands_swapped(clip: KeypointClip, scale: float) -> bool:
    """Whether, over the clip, the hands' roots lie nearer to the other arm's wrists (median distance, by how often it was seen)."""
    excess = frames = 0.0
    for to_own, to_other, seen in _hand_distances(clip):
        if seen.any():
            excess += seen.sum() * (np.median(to_own[seen]) - np.median(to_other[seen]))
            frames += seen.sum()
    return bool(excess > SWAP_MARGIN * scale * frames) and frames > 0


def settle_hands(clip: KeypointClip, hands_swapped: bool, scale: float, num_channels: int = 3) -> KeypointClip:
    """Assigns each hand to the arm that it is attached to: for the whole clip, and for single frames where the case is clear.

    Trackers exchange the slots for a while, or detect one hand twice. In a frame whose hands lie nearer to the other wrists
    by more than `FRAME_SWAP_MARGIN`, they change slots; a second detection of a hand that is in its own slot becomes "not seen".

    Args:
        clip: in a model's layout, its confidence above 0 where a point is seen.
        hands_swapped: whether the slots are swapped over the whole clip.
        scale: of a shoulder length.
        num_channels: how many coordinates count in distances.
    """
    if hands_swapped:
        clip = _swap_hands(clip)
    distances = _hand_distances(replace(clip, keypoints=clip.keypoints[..., :num_channels]))
    (left, left_present), (right, right_present) = (
        (np.where(seen, to_own - to_other, 0.0), clip.confidence[:, root] > 0)
        for (to_own, to_other, seen), (_, root, _) in zip(distances, _hand_indices(clip.layout))
    )
    margin = FRAME_SWAP_MARGIN * scale
    crossed = left + right > margin
    astray = ((left > margin) & right_present & ~crossed, (right > margin) & left_present & ~crossed)
    if not (crossed.any() or astray[0].any() or astray[1].any()):
        return clip
    other = _swap_hands(clip)
    points = np.where(crossed[:, None, None], other.keypoints, clip.keypoints)
    confidence = np.where(crossed[:, None], other.confidence, clip.confidence)
    for frames, (hand, _, _) in zip(astray, _hand_indices(clip.layout)):
        confidence[np.ix_(frames, hand)] = 0
        points[np.ix_(frames, hand)] = 0
    return replace(clip, keypoints=points, confidence=confidence)


def _swap_hands(clip: KeypointClip) -> KeypointClip:
    (left, _, _), (right, _, _) = _hand_indices(clip.layout)
    order = np.arange(clip.keypoints.shape[1])
    order[left], order[right] = right, left
    return replace(clip, keypoints=clip.keypoints[:, order], confidence=clip.confidence[:, order])


def _kept_frames(clip: KeypointClip, threshold: float, max_dropped: float) -> np.ndarray:
    """Indices of the frames that are not noisy: mean displacement from the last kept frame at most `threshold` (Eq 7-9)."""
    points, present = clip.keypoints, clip.confidence

    def displacement(a: slice | int, b: slice | int) -> np.ndarray:
        seen = present[a] & present[b]
        return (np.linalg.norm(points[b] - points[a], axis=-1) * seen).sum(-1) / np.maximum(seen.sum(-1), 1)

    num_frames = len(points)
    jumps = np.flatnonzero(displacement(slice(0, -1), slice(1, None)) > threshold) + 1
    if not len(jumps):
        return np.arange(num_frames)
    kept = np.ones(num_frames, bool)
    frame = jumps[0]
    while frame < num_frames:  # only around jumps: elsewhere the previous frame is the last kept one
        last, dropped = frame - 1, 0
        while frame < num_frames and dropped < max_dropped and displacement(last, frame) > threshold:
            kept[frame] = False
            frame, dropped = frame + 1, dropped + 1
        later = np.searchsorted(jumps, frame, side="right")
        frame = jumps[later] if later < len(jumps) else num_frames
    return np.flatnonzero(kept)


def fill_missing(clip: KeypointClip, center: np.ndarray, times: np.ndarray, max_gap: float | None) -> np.ndarray:
    """Gives every missing point a place: between its neighbours in time, held at the ends, or on its anchor.

    Args:
        clip: in a model's layout, its confidence bool.
        center: (C,) the place of the layout's centre where it was never seen.
        times: (T,) source frame numbers, so that interpolation knows of dropped frames.
        max_gap: longest gap in frames; None holds the last seen place for ever and never looks ahead (causal).

    Returns:
        (T, K, C).
    """
    points, present, layout_name = clip.keypoints, clip.confidence, clip.layout
    copies, originals = copy_pairs(layout_name)
    missing = ~present
    missing[:, copies] = False
    columns = np.flatnonzero(missing.any(0))
    if len(columns):
        points = points.copy()
        unplaced = missing.copy()
        num_frames = len(points)
        frame = np.arange(num_frames)[:, None]
        seen = present[:, columns]
        before = np.maximum.accumulate(np.where(seen, frame, -1), axis=0)
        after = np.minimum.accumulate(np.where(seen, frame, num_frames)[::-1], axis=0)[::-1]
        if max_gap is None:
            fillable = before >= 0
            after = before
        else:
            first, last = np.maximum(before, -1), np.minimum(after, num_frames)
            # at an end of the clip there is a seen frame on one side only
            fillable = (last - first - 1 <= max_gap) & ((before >= 0) | (after < num_frames))
            before, after = np.where(before < 0, after, before), np.where(after == num_frames, before, after)
        at, which = np.nonzero(fillable & ~seen)
        column, a, b = columns[which], before[at, which], after[at, which]
        span = (times[b] - times[a]).astype(float)
        weight = np.divide(times[at] - times[a], span, out=np.zeros(len(at)), where=span > 0)[:, None]
        points[at, column] = points[a, column] * (1 - weight) + points[b, column] * weight
        unplaced[at, column] = False
        _place_on_anchors(points, unplaced, layout_name, center)
    if (~present[:, originals]).any():
        points = points.copy() if not len(columns) else points
        points[:, copies] = points[:, originals]
    return points


def _place_on_anchors(points: np.ndarray, unplaced: np.ndarray, layout_name: str | None, center: np.ndarray) -> None:
    """In place: points that are still missing are put on their anchors, from the centre outward."""
    layout, index = get_layout(layout_name), _point_index(layout_name)
    root = index[layout.center]
    points[unplaced[:, root], root] = center
    placed, waiting = {layout.center}, dict(layout.anchors)
    while waiting:
        level = [name for name, anchor in waiting.items() if anchor in placed]
        own, anchor = (np.array([index[name] for name in names]) for names in (level, [waiting.pop(name) for name in level]))
        if unplaced[:, own].any():
            points[:, own] = np.where(unplaced[:, own, None], points[:, anchor], points[:, own])
        placed.update(level)


def _one_per_clip(key: str, value: Any, num_clips: int, single: bool) -> list[Any]:
    """A value for each clip: a list as given, anything else for all; a single clip's arrays are its own."""
    if key == "calibration" and isinstance(value, Calibration):
        return [value] * num_clips
    if single or not isinstance(value, (list, tuple, np.ndarray)) or (isinstance(value, np.ndarray) and value.ndim == 0):
        return [value] * num_clips
    if len(value) != num_clips:
        raise ValueError(f"Found {len(value)} values for {key} and {num_clips} clips; expected one for each clip.")
    return list(value)


def check_calibration(calibration: Any, num_channels: int, name: str = "calibration") -> Calibration:
    """A `Calibration` of finite numbers, or `ValueError`."""
    try:
        center, scale, hands_swapped = calibration
        center = np.asarray(center)
        good = center.dtype.kind in "fiu" and center.shape == (num_channels,) and np.isfinite(center).all()
        good &= is_number(scale, 0, 1e300) and bool(scale > 0)
    except (TypeError, ValueError, OverflowError):
        good = False
    if not good:
        raise ValueError(
            f"{name}: found calibration={short(calibration)}, expected a Calibration, as `calibrate` gives it: a finite center of "
            f"{num_channels} numbers and a scale above 0."
        )
    return Calibration(center.astype(np.float64), np.float64(scale), bool(hands_swapped))


def _check_choice(name: str, value: object, choices: Sequence[object]) -> None:
    if not isinstance(value, (str, numbers.Integral)) or value not in choices:
        raise ValueError(f"{name}={short(value)} must be one of {', '.join(map(repr, choices))}.")
