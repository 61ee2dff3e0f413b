"""Sign-to-text for live streams of any length: every frame is processed once, and every window is encoded once.

Shapes: T frames, P points of the source layout, K keypoints, C channels, W frames in a window, S segments, D size of a latent.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from transformers.utils import logging

from .keypoint_clip_uniglor import MISSING, KeypointClip, as_own, check_facts, looks_relative
from .keypoint_processing_uniglor import Calibration, KeypointProcessor, check_calibration, fill_missing, settle_hands
from .keypoints_uniglor import get_layout, get_source_layout, point_index
from .limits_uniglor import MAX_CLIP_FRAMES, MAX_COORDINATE, MAX_STREAM_SEGMENTS, MAX_WAITING_FRAMES, checked_number, short
from .pipelines_uniglor import checked_generation

logger = logging.get_logger(__name__)

MAX_SOURCE_COORDINATE = 1e12  # in the source's units, before they can be told in shoulder lengths
REST_REACH = 0.15  # shoulder lengths: wrists that stay within it for a window rest
REST_SECONDS = 1.0  # of rest that end a sentence; within sentences of continuous signing, 6 of 100 have such a hold
FACTS = ("layout", "fps", "width", "height", "aspect", "missing", "relative")  # fields of a clip that all portions of a stream share
KEPT_WINDOWS = 4  # segments that are kept for `sentences`, in multiples of max_segments


class CausalKeypointProcessor:
    """A `KeypointProcessor` for a stream: the frames that it gives, pushed in any portions, are those of `process(causal=True)`.

    A frame in which nobody is seen holds what was seen before. Until shoulders are seen, frames wait, the latest
    `MAX_WAITING_FRAMES` of them; older ones are left out, and `first_frame` says how many. A portion that raises leaves the stream as
    it was. Centre and scale stay as they were calibrated: when another person comes, or the camera moves, call `reset`.

    Args:
        processor: a `KeypointProcessor`.
        calibration: fixed centre and scale; by default from the first `processor.calibration_frames` frames, or where these show no
            shoulders, from as many frames beginning with the first that does. Nothing comes out before they have arrived.
        **known: fields of `KeypointClip` (layout, fps, width, height, aspect, missing, relative) that hold for the whole stream; what
            is not said here is taken from the first clip that is pushed.
    """

    def __init__(self, processor: KeypointProcessor, calibration: Calibration | None = None, **known: Any) -> None:
        if unknown := sorted(set(known) - set(FACTS)):
            raise ValueError(f"Unknown argument {', '.join(unknown)}. Expected fields of the clips: {', '.join(FACTS)}.")
        self.processor = processor
        self._known = self._checked(KeypointClip(np.zeros(0), id="stream", **known))
        self._given = None if calibration is None else check_calibration(calibration, processor.num_channels)
        self.reset()

    def _checked(self, clip: KeypointClip) -> KeypointClip:
        """The facts of all portions, without keypoints: a `KeypointClip`."""
        check_facts({name: getattr(clip, name) for name in FACTS})
        if clip.layout is not None:
            get_source_layout(clip.layout)
        if clip.missing not in (None, *MISSING):
            raise ValueError(f"missing={short(clip.missing)} must be one of {', '.join(map(repr, MISSING))}.")
        if not (clip.relative is None or isinstance(clip.relative, (bool, np.bool_))):
            raise ValueError(f"Found relative={short(clip.relative)}, expected True, False, or None: seen from the coordinates' size.")
        if clip.relative:
            self._in_pixels(replace(clip, keypoints=np.zeros((1, 1, self.processor.num_channels))), True)
        return clip

    def reset(self) -> None:
        """Forgets all frames, and the calibration that was made of them."""
        self.calibration = self._given
        self.facts, self._relative = self._known, self._known.relative
        num_points = len(get_layout(self.processor.layout).names)
        nothing = np.zeros((0, num_points, self.processor.num_channels)), np.zeros((0, num_points), bool)
        # In the model's layout, keypoints 0 and confidence False where not seen.
        self._no_frames = replace(
            self.facts, keypoints=nothing[0], confidence=nothing[1], layout=self.processor.layout, missing="confidence", relative=False
        )
        self._waiting = self._no_frames  # before there is a calibration
        self._held = self._no_frames  # one frame: where every point was last seen
        self.first_frame = 0  # of those that come out: its number since the stream's begin
        self._num_read = self._num_given = 0
        self._newest: np.ndarray | None = None  # the newest processed frame, which resampling repeats

    @property
    def fps(self) -> float | None:
        """Frames a second of what is pushed, or None where unknown."""
        return self.facts.fps

    @property
    def rate(self) -> float | None:
        """Frames a second of what comes out; None where `fps` is not known."""
        return self.fps if self._rates is None else self._rates[1]

    @property
    def num_waiting(self) -> int:
        """How many frames wait for a calibration."""
        return len(self._waiting)

    def push(self, clip: Any, confidence: np.ndarray | None = None) -> np.ndarray:
        """Frames as they arrive, a `KeypointClip` or an array (T, P, C) with confidence (T, P) or None.

        Returns:
            (T', K, C) float32: those that can be told now.
        """
        return self._attempt(lambda ahead: ahead._take(ahead._read(ahead._portion(clip, confidence))))

    def flush(self) -> np.ndarray:
        """The frames that wait for a calibration, calibrated on them however few they are; none where no shoulders were seen."""
        return self._attempt(lambda ahead: ahead._take(ahead._no_frames, few=True))

    def _attempt(self, step: Callable[["CausalKeypointProcessor"], np.ndarray]) -> np.ndarray:
        """Runs a step on a copy and takes over its state if nothing was raised. Arrays are never changed in place."""
        ahead = copy.copy(self)
        frames = step(ahead)
        self.__dict__.update(ahead.__dict__)
        return frames

    def _portion(self, clip: Any, confidence: np.ndarray | None) -> KeypointClip:
        """A `KeypointClip` of what is pushed, with the facts of the stream."""
        own = as_own(clip)
        if own is None:
            return replace(self.facts, keypoints=clip, confidence=confidence)
        clip = own
        said = {name: getattr(clip, name) for name in FACTS if getattr(clip, name) is not None}
        for name, value in said.items():
            own = getattr(self.facts, name)
            if own is not None and own != value:
                raise ValueError(
                    f"stream: found a clip of {name}={short(value)}, expected {short(own)} as before. Call reset for another one."
                )
        if new := {name: value for name, value in said.items() if getattr(self.facts, name) is None}:
            if self._num_read or self.num_waiting:
                raise ValueError(
                    f"stream: found a clip that says {', '.join(new)}, unknown to this stream. Say it when the stream is made."
                )
            self.facts = self._checked(replace(self.facts, **new))
            self._relative = self.facts.relative
        return replace(self.facts, keypoints=clip.keypoints, confidence=clip.confidence if confidence is None else confidence)

    def _read(self, portion: KeypointClip) -> KeypointClip:
        """Checks a portion -> `KeypointClip` in the model's layout and the source's units."""
        keypoints, confidence = _numbers("keypoints", portion.keypoints), portion.confidence
        if not len(keypoints):
            return self._no_frames
        if keypoints.ndim != 3:
            raise ValueError(f"stream: found keypoints of shape {keypoints.shape}, expected (frames, keypoints, 2 or 3).")
        longest = MAX_CLIP_FRAMES if self._rates is None else int(MAX_CLIP_FRAMES * min(1, self._rates[0] / self._rates[1]))
        if len(keypoints) > longest:
            raise ValueError(f"stream: found {len(keypoints):,} frames in a portion, expected at most {longest:,}. Push smaller portions.")
        if confidence is not None:
            confidence = _numbers("confidence", confidence)
            if confidence.shape != keypoints.shape[:2]:
                expected = keypoints.shape[:2]
                raise ValueError(f"stream: found confidence of shape {confidence.shape}, expected {expected} like the keypoints.")
            sure = np.full((1, confidence.shape[1]), self.processor.min_confidence + 1, np.float64)
            confidence = np.concatenate([confidence, sure])
        # `gather` refuses a clip in which nothing is seen, so a frame with all points is appended, and removed afterwards.
        keypoints = np.concatenate([keypoints, np.ones((1, *keypoints.shape[1:]), keypoints.dtype)])
        clip = self.processor.gather(replace(portion, keypoints=keypoints, confidence=confidence, relative=False))
        clip = _frames(clip, slice(-1))
        if np.abs(clip.keypoints).max() > MAX_SOURCE_COORDINATE:
            raise ValueError(f"stream: found a coordinate beyond {MAX_SOURCE_COORDINATE:g}. Are the coordinates right?")
        return clip

    def _take(self, clip: KeypointClip, few: bool = False) -> np.ndarray:
        if self.calibration is None:
            clip = self._waiting = self._calibrate(_joined(self._waiting, clip), few)
            if self.calibration is None:
                return np.zeros((0, *clip.keypoints.shape[1:]), np.float32)
            self._waiting = self._no_frames
            clip, wild = self._measured(clip)
            clip = replace(clip, confidence=clip.confidence & ~wild)  # without a calibration, these could not be refused
        else:
            clip, wild = self._measured(clip)
            if wild.any():
                frame, point = np.argwhere(wild)[0]
                raise ValueError(
                    f"stream: {get_layout(self.processor.layout).names[point]} in frame {frame} of this portion is more than "
                    f"{MAX_COORDINATE:g} shoulder lengths away. Are the coordinates right?"
                )
        return self._process(clip)

    def _calibrate(self, clip: KeypointClip, few: bool) -> KeypointClip:
        """Sets `calibration` where the frames of a clip allow it. Returns those that are not left out."""
        processor = self.processor
        clip = replace(clip, confidence=clip.confidence.copy())
        shoulders = [point_index(processor.layout)[name] for name in get_layout(processor.layout).scale]
        while True:
            span, shows_shoulders = processor.calibration_span(clip)
            if not shows_shoulders or (len(clip) < span.stop and not few):
                return self._left_over(clip)
            first = _frames(clip, span)
            relative = self._judged(first) if self._relative is None else self._relative
            first = self._in_pixels(first, relative)
            try:
                self.calibration = processor.calibration_of(first)
            except ValueError:
                clip.confidence[span, shoulders[0]] = False  # nothing to calibrate on: wait for the next
                continue
            self._relative = relative
            return self._left_over(clip)

    def _left_over(self, clip: KeypointClip) -> KeypointClip:
        """Without the oldest frames that no shoulders were seen in, where there are too many of them."""
        span, shows_shoulders = self.processor.calibration_span(clip)
        too_many = (span.start if shows_shoulders else len(clip)) - max(MAX_WAITING_FRAMES, self.processor.calibration_frames)
        if too_many <= 0:
            return clip
        self._num_read += too_many
        if self._rates is not None:
            self._num_given = math.ceil(self._num_read / self._rates[0] * self._rates[1] - 1e-6)
        self.first_frame = self._num_read if self._rates is None else self._num_given
        return _frames(clip, slice(too_many, None))

    def _measured(self, clip: KeypointClip) -> tuple[KeypointClip, np.ndarray]:
        """-> the clip in one unit for x and y, and which points (T, K) are too far away to be a body's."""
        if self._relative is None and clip.confidence.any():  # the calibration was given
            self._relative = self._judged(clip)
        clip = self._in_pixels(clip, bool(self._relative))
        assert self.calibration is not None  # `_take` sees to it, here and in `_process`
        far = np.abs(clip.keypoints - self.calibration.center).max(-1) > MAX_COORDINATE * self.calibration.scale
        return clip, clip.confidence & far

    def _judged(self, clip: KeypointClip) -> bool:
        """Whether a stream is relative to the image, by frames of it."""
        source = get_source_layout(self.facts.layout or self.processor.layout)
        return source.image and looks_relative(clip.keypoints, clip.confidence)

    def _in_pixels(self, clip: KeypointClip, relative: bool) -> KeypointClip:
        return replace(clip, relative=relative).in_pixels(need_size=self.processor.noisy_frame_unit == "pixels")

    def _process(self, clip: KeypointClip) -> np.ndarray:
        calibration = self.calibration
        assert calibration is not None
        if not len(clip):
            return np.zeros(clip.keypoints.shape, np.float32)
        clip = settle_hands(clip, calibration.hands_swapped, calibration.scale)
        num_held = len(self._held)  # a frame before the new ones: what was last seen, so that it is held on
        clip = _joined(self._held, clip)
        self._held = _last_seen(clip)
        points = fill_missing(clip, calibration.center, np.arange(len(clip)), None)[num_held:]
        return self._resample(self.processor.center_and_scale(points, calibration)[0].astype(np.float32))

    @property
    def _rates(self) -> tuple[float, float] | None:
        """Frames a second of what is pushed and of what comes out; None where frames come out as they are."""
        pushed, wanted = self.fps, self.processor.fps
        return None if pushed is None or wanted is None or abs(pushed - wanted) < 1e-3 * wanted else (pushed, wanted)

    def _resample(self, points: np.ndarray) -> np.ndarray:
        """Frame n of the output is the latest one at time n / fps of the processor."""
        first, self._num_read = self._num_read, self._num_read + len(points)
        if self._rates is None:
            return points
        pushed, rate = self._rates
        newest = (self._num_read - 1) / pushed
        wanted = np.arange(self._num_given, int(np.floor(newest * rate + 1e-6)) + 1)
        self._num_given += len(wanted)
        known = points if self._newest is None else np.concatenate([self._newest, points])
        offset = first if self._newest is None else first - 1
        source = np.floor(wanted / rate * pushed + 1e-6).astype(int)
        self._newest = points[-1:]
        return known[np.clip(source - offset, 0, len(known) - 1)]


def _numbers(name: str, values: Any) -> np.ndarray:
    """An array of numbers, or `ValueError`."""
    try:
        array = np.asarray(values)
    except (ValueError, TypeError, RuntimeError) as error:
        raise ValueError(f"stream: found {name} that are no array ({error}). Expected one array for all frames of a portion.") from error
    if array.dtype.kind not in "fiu" or not array.ndim:
        raise ValueError(f"stream: found {name} of type {array.dtype} and shape {array.shape}, expected an array of numbers.")
    return array


def _last_seen(clip: KeypointClip) -> KeypointClip:
    """One frame: the newest place at which every point was seen."""
    present = clip.confidence
    frame = np.arange(len(clip))[:, None]
    last = np.where(present, frame, -1).max(0)
    newest = clip.keypoints[np.maximum(last, 0), np.arange(present.shape[1])][None]
    return replace(clip, keypoints=newest, confidence=(last >= 0)[None])


def _frames(clip: KeypointClip, frames: slice) -> KeypointClip:
    return replace(clip, keypoints=clip.keypoints[frames], confidence=clip.confidence[frames])


def _joined(first: KeypointClip, second: KeypointClip) -> KeypointClip:
    keypoints, confidence = (np.concatenate([getattr(clip, part) for clip in (first, second)]) for part in ("keypoints", "confidence"))
    return replace(second, keypoints=keypoints, confidence=confidence)


class SignToTextStreamer:
    """Translates a live stream: `push` frames as they come, ask for texts whenever they are wanted.

        streamer.push(frames)
        captions += streamer.sentences()         # what has ended since the last call, each with start and end
        draft = streamer.translate()             # what goes on

    A sentence ends where both wrists rest for a second (also where nobody is seen), or when it has `max_segments`; `sentences` gives each
    once and forgets it. `translate` reads the latest `max_segments` segments that were not given: without any call of `sentences`,
    what it says equals the pipeline's answer to the same frames with `causal=True`, until there are more. A stream goes on for hours
    in the same memory: sentences that nobody asks for are forgotten after `KEPT_WINDOWS * max_segments` segments, the oldest first.

    A window is encoded once, when its last frame has arrived; only decoding starts anew, and `push` never decodes. A portion that raises
    leaves the stream as it was. Centre and scale stay as they were calibrated: when another person comes, or the camera moves, call
    `reset`. Not for several threads at once.

    Args:
        model: a `SignToText` with sign_encoder="segments".
        processor, tokenizer: saved with the model.
        calibration, **known: see `CausalKeypointProcessor`.
        max_segments: how many segments a sentence, and what `translate` reads, may have: by default as many as the text model has
            positions, or `MAX_STREAM_SEGMENTS` where nothing bounds it.
    """

    def __init__(
        self,
        model: Any,
        processor: KeypointProcessor,
        tokenizer: Any,
        calibration: Calibration | None = None,
        max_segments: int | None = None,
        **known: Any,
    ) -> None:
        if model.config.sign_encoder != "segments":
            raise ValueError(
                f"Found sign_encoder={model.config.sign_encoder!r}, expected 'segments': a stream is encoded window by window."
            )
        positions = getattr(model.config.text_config, "max_position_embeddings", None) or MAX_STREAM_SEGMENTS
        self.max_segments = positions if max_segments is None else checked_number("max_segments", max_segments, 1, positions, whole=True)
        self.model, self.tokenizer = model, tokenizer
        self.frames = CausalKeypointProcessor(processor, calibration, **known)
        self._stride = model.config.stride
        index = point_index(processor.layout)
        self._wrists = [index["left_wrist"], index["right_wrist"]]
        self.reset()

    @property
    def _rest_segments(self) -> int:
        """How many segments at rest, in a row, end a sentence."""
        window = self.model.config.sign_mae_config.window_size
        return max(math.ceil((REST_SECONDS * (self.frames.rate or 25.0) - window) / self._stride), 0) + 1

    def reset(self) -> None:
        """Forgets all frames and sentences, and the calibration that was made of them."""
        self.frames.reset()
        config = self.model.config.sign_mae_config
        self._pending = np.zeros((0, config.num_keypoints, config.num_channels), np.float32)  # frames whose windows are not complete
        self._between = 0  # frames to leave out before the next window, where the stride is longer than it
        self._latents: list[torch.Tensor] = []  # S of (D), those of segments that were not given yet
        self._num_forgotten = 0  # segments before them
        self._ended: list[tuple[int, int]] = []  # (first, last + 1) segments of sentences, counted from the stream's begin
        self._begin: int | None = None  # the first segment of the sentence that goes on
        self._num_resting = 0  # segments at rest in a row, the latest one among them

    @property
    def latents(self) -> torch.Tensor:
        """(S, D) of the segments in memory; before there is a calibration, calibrated on the frames so far."""
        kept = self._settled()._latents
        return torch.stack(kept) if kept else torch.zeros(0, self.model.config.sign_mae_config.hidden_size, device=self.model.device)

    def push(self, clip: Any, confidence: np.ndarray | None = None) -> int:
        """Takes frames, a `KeypointClip` or an array (T, P, C) with confidence (T, P) or None, and encodes the windows that they complete.

        Returns:
            how many windows.
        """
        ahead = self._copy()
        encoded = ahead._take(ahead.frames.push(clip, confidence))
        self.__dict__.update(ahead.__dict__)  # only now, so that a portion that raises changes nothing
        return encoded

    def sentences(self, **kwargs: Any) -> list[dict[str, Any]]:
        """The sentences that have ended since the last call; kwargs go to `generate`.

        Returns:
            list of {"translation_text", "start", "end", "num_segments"}; start and end in seconds since the stream's begin (frames where
            fps is not known).
        """
        spans = [slice(first - self._num_forgotten, end - self._num_forgotten) for first, end in self._ended]
        told = [self._translated(self._latents[span], first, kwargs) for (first, _), span in zip(self._ended, spans)]
        kept: list[torch.Tensor] = [] if self._begin is None else self._latents[self._begin - self._num_forgotten :]
        self._ended, self._num_forgotten, self._latents = [], self._num_forgotten + len(self._latents) - len(kept), kept
        return told

    def translate(self, **kwargs: Any) -> dict[str, Any]:
        """The text of what was not given by `sentences`: a dict as there; kwargs go to `generate`. Changes nothing.

        Before the first window is complete, the clip is held at its last frame, as offline; after `sentences`, there may be nothing yet,
        and the text is empty.
        """
        now = self._settled()
        latents = now._latents[-self.max_segments :]
        first = now._num_forgotten + len(now._latents) - len(latents)
        if not latents and not first:
            if not len(now._pending):
                if waiting := now.frames.num_waiting:
                    names = " and ".join(get_layout(self.frames.processor.layout).scale)
                    raise ValueError(f"None of the latest {waiting} frames shows {names}, which set the scale: nothing can be told yet.")
                raise ValueError("No frame was pushed yet: there is nothing to translate.")
            latents = list(self._encode(now._pending))
        return now._translated(latents, first, kwargs)

    def _settled(self) -> "SignToTextStreamer":
        """This stream, or while frames wait for their calibration, a copy that is calibrated on those that there are."""
        if not self.frames.num_waiting:
            return self
        now = self._copy()
        now._take(now.frames.flush())
        return now

    def _copy(self) -> "SignToTextStreamer":
        ahead = copy.copy(self)
        ahead.frames = copy.copy(self.frames)
        return ahead

    @torch.no_grad()
    def _encode(self, frames: np.ndarray) -> torch.Tensor:
        """(T, K, C) -> (S, D)."""
        return self.model.encode_sequence(torch.from_numpy(frames)[None].to(self.model.device, self.model.dtype))[0][0]

    @torch.no_grad()
    def _translated(self, latents: list[torch.Tensor], first: int, kwargs: dict[str, Any]) -> dict[str, Any]:
        window, rate = self.model.config.sign_mae_config.window_size, self.frames.rate or 1.0
        start = self.frames.first_frame + first * self._stride
        end = start + (len(latents) - 1) * self._stride + window if latents else start
        text = ""
        if latents:
            ids = self.model.generate(latents=torch.stack(latents)[None], **checked_generation(self.model, kwargs))
            text = self.tokenizer.decode(ids[0], skip_special_tokens=True).strip()
        return {"translation_text": text, "start": start / rate, "end": end / rate, "num_segments": len(latents)}

    def _take(self, frames: np.ndarray) -> int:
        """Encodes the windows that new frames complete. Returns how many."""
        pending = np.concatenate([self._pending, frames])
        self._between, pending = max(self._between - len(pending), 0), pending[self._between :]
        window = self.model.config.sign_mae_config.window_size
        self._pending = pending
        if len(pending) < window:
            return 0
        latents = self._encode(pending)
        num_frames = len(latents) * self._stride
        self._pending, self._between = pending[num_frames:].copy(), max(num_frames - len(pending), 0)
        wrists = np.lib.stride_tricks.sliding_window_view(pending[:, self._wrists], window, axis=0)[:: self._stride]  # (S, 2, C, W)
        reach = np.linalg.norm(wrists.max(-1) - wrists.min(-1), axis=-1).max(-1)  # (S,)
        self._ended, self._latents = self._ended.copy(), self._latents + [latent.clone() for latent in latents]
        for segment, rests in enumerate(reach < REST_REACH, self._num_forgotten + len(self._latents) - len(latents)):
            self._mark(segment, rests)
        self._forget()
        return len(latents)

    def _mark(self, segment: int, rests: bool) -> None:
        """Begins and ends sentences at a new segment."""
        self._num_resting = self._num_resting + 1 if rests else 0
        if self._begin is None and not rests:
            self._begin = segment
        if self._begin is None:
            return
        if self._num_resting == self._rest_segments:
            self._ended.append((self._begin, segment + 1 - self._rest_segments))
            self._begin = None
        elif segment + 1 - self._begin == self.max_segments:
            self._ended.append((self._begin, segment + 1))
            self._begin = None

    def _forget(self) -> None:
        """Leaves out the oldest segments where there are too many, and sentences that are no longer whole."""
        too_many = len(self._latents) - KEPT_WINDOWS * self.max_segments
        if too_many > 0:
            self._latents, self._num_forgotten = self._latents[too_many:], self._num_forgotten + too_many
            self._ended = [span for span in self._ended if span[0] >= self._num_forgotten]
