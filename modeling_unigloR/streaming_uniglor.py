"""Sign-to-text while the signing goes on: every frame is processed once, every window encoded once, for hours.

Shapes: T frames, P points of the source layout, K keypoints, C channels, W frames in a window, S segments, D size of a latent.
"""

import copy
import math

import numpy as np
import torch
from transformers.utils import logging

from .keypoint_processing_uniglor import RELATIVE_LIMIT, _check_choice, _fill, _relative_to_pixels, _settle_hands
from .keypoints_uniglor import get_layout, get_source_layout, point_index
from .limits_uniglor import MAX_CLIP_FRAMES, MAX_COORDINATE, MAX_STREAM_SEGMENTS, MAX_WAITING_FRAMES, checked_number
from .pipelines_uniglor import checked_calibration, checked_generation, checked_parameters

logger = logging.get_logger(__name__)

MAX_SOURCE_COORDINATE = 1e12  # in the source's units, before they can be told in shoulder lengths
REST_REACH = 0.15  # shoulder lengths: wrists that stay within it for a window rest
REST_SECONDS = 1.0  # of rest that end a sentence; within sentences of continuous signing, 6 of 100 have such a hold
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
        layout, fps, width, height, aspect, missing, relative: of the source, see `KeypointProcessor.process`.
    """

    def __init__(
        self,
        processor,
        calibration=None,
        layout=None,
        fps=None,
        width=None,
        height=None,
        aspect=None,
        missing=None,
        relative=None,
    ):
        checked_parameters(dict(layout=layout, fps=fps, width=width, height=height, aspect=aspect, missing=missing))
        self.processor, self.fps = processor, fps
        self.layout = processor.layout if layout is None else layout
        get_source_layout(self.layout)
        self.width, self.height, self.aspect = width, height, aspect
        if missing is not None:
            _check_choice("missing", missing, ("nan", "zero", "confidence"))
        self.missing = missing
        if relative not in (None, False, True):
            raise ValueError(f"Found relative={relative!r}, expected True, False, or None: seen from the coordinates' size.")
        if relative:
            self._factors()
        self._given = None if calibration is None else checked_calibration(calibration, processor.num_channels), relative
        self.reset()

    def reset(self):
        """Forgets all frames, and the calibration that was made of them."""
        self.calibration, self._relative = self._given
        num_points = len(get_layout(self.processor.layout).names)
        self._no_points = np.zeros((0, num_points, self.processor.num_channels)), np.zeros((0, num_points), bool)
        self._waiting = self._no_points  # points (T, K, C) and present (T, K) before there is a calibration
        self._held = self._no_points  # the same of one frame: where every point was last seen
        self.first_frame = 0  # of those that come out: its number since the stream's begin
        self._num_read = self._num_given = 0
        self._newest = None  # the newest processed frame, which resampling repeats

    @property
    def rate(self):
        """Frames a second of what comes out; None where `fps` is not known."""
        return self.processor.fps if self._resamples else self.fps

    @property
    def num_waiting(self):
        """How many frames wait for a calibration."""
        return len(self._waiting[0])

    def push(self, keypoints, confidence=None):
        """Frames as they arrive, (T, P, C) with confidence (T, P) or None -> those that can be told now, (T', K, C) float32."""
        return self._attempt(lambda ahead: ahead._take(*ahead._read(keypoints, confidence)))

    def flush(self):
        """The frames that wait for a calibration, calibrated on them however few they are; none where no shoulders were seen."""
        return self._attempt(lambda ahead: ahead._take(*self._no_points, few=True))

    def _attempt(self, step):
        """A step of a copy, which takes this one's place when all went well. Arrays are never changed in place."""
        ahead = copy.copy(self)
        frames = step(ahead)
        self.__dict__.update(ahead.__dict__)
        return frames

    def _read(self, keypoints, confidence):
        """Checks a portion -> points (T, K, C) in the source's units, present (T, K)."""
        keypoints = _numbers("keypoints", keypoints)
        if not len(keypoints):
            return self._no_points
        if keypoints.ndim != 3:
            raise ValueError(f"stream: found keypoints of shape {keypoints.shape}, expected (frames, keypoints, 2 or 3).")
        longest = MAX_CLIP_FRAMES if not self._resamples else int(MAX_CLIP_FRAMES * min(1, self.fps / self.processor.fps))
        if len(keypoints) > longest:
            raise ValueError(f"stream: found {len(keypoints):,} frames in a portion, expected at most {longest:,}. Push smaller portions.")
        if confidence is not None:
            confidence = _numbers("confidence", confidence)
            if confidence.shape != keypoints.shape[:2]:
                expected = keypoints.shape[:2]
                raise ValueError(f"stream: found confidence of shape {confidence.shape}, expected {expected} like the keypoints.")
            sure = np.full((1, confidence.shape[1]), self.processor.min_confidence + 1, np.float64)
            confidence = np.concatenate([confidence, sure])
        # A clip that shows nobody is refused where it is read, so a frame that shows everything stands at the end of it.
        keypoints = np.concatenate([keypoints, np.ones((1, *keypoints.shape[1:]), keypoints.dtype)])
        points, present = self.processor._read(keypoints, confidence, self.layout, None, None, None, self.missing, False, "stream")
        points, present = points[:-1], present[:-1]
        if np.abs(points).max() > MAX_SOURCE_COORDINATE:
            raise ValueError(f"stream: found a coordinate beyond {MAX_SOURCE_COORDINATE:g}. Are the coordinates right?")
        return points, present

    def _take(self, points, present, few=False):
        if self.calibration is None:
            points, present = (np.concatenate(pair) for pair in zip(self._waiting, (points, present)))
            self._waiting = self._calibrate(points, present, few)
            if self.calibration is None:
                return np.zeros((0, *points.shape[1:]), np.float32)
            (points, present), self._waiting = self._waiting, self._no_points
            points, wild = self._in_pixels(points, present)
            present = present & ~wild  # they were taken in when nobody could tell
        else:
            points, wild = self._in_pixels(points, present)
            if wild.any():
                frame, point = np.argwhere(wild)[0]
                raise ValueError(
                    f"stream: {get_layout(self.processor.layout).names[point]} in frame {frame} of this portion is more than "
                    f"{MAX_COORDINATE:g} shoulder lengths away. Are the coordinates right?"
                )
        return self._process(points, present)

    def _calibrate(self, points, present, few):
        """Sets `calibration` where frames (T, K, C), (T, K) allow it. Returns those that are not left out."""
        processor, present = self.processor, present.copy()
        shoulders = [point_index(processor.layout)[name] for name in get_layout(processor.layout).scale]
        while True:
            span, found = processor._calibration_frames(points, present)
            if not found or (len(points) < span.stop and not few):
                return self._left_over(points, present)
            relative = self._relative
            if relative is None:
                relative = processor._is_relative(points[span], present[span], self.layout)
            factors = self._factors() if relative else 1.0
            try:
                self.calibration = processor._calibrate(points[span] * factors, present[span], "stream")
            except ValueError:
                present[span, shoulders[0]] = False  # nothing to calibrate on: wait for the next
                continue
            self._relative = relative
            return self._left_over(points, present)

    def _left_over(self, points, present):
        """Without the oldest frames that no shoulders were seen in, where there are too many of them."""
        span, found = self.processor._calibration_frames(points, present)
        too_many = max((span.start if found else len(points)) - max(MAX_WAITING_FRAMES, self.processor.calibration_frames), 0)
        if too_many:
            self._num_read += too_many
            if self._resamples:
                self._num_given = math.ceil(self._num_read / self.fps * self.processor.fps - 1e-6)
            self.first_frame = self._num_given if self._resamples else self._num_read
        return points[too_many:], present[too_many:]

    def _in_pixels(self, points, present):
        """-> points in units that x and y share, and which (T, K) are too far away to be a body's."""
        if self._relative is None and present.any():  # the calibration was given
            body = np.zeros_like(present)
            body[:, get_layout(self.processor.layout).parts["body"]] = True
            seen = points[present & body] if (present & body).any() else points[present]
            self._relative = bool(get_source_layout(self.layout).image and np.median(np.abs(seen[:, :2])) <= RELATIVE_LIMIT)
        points = points * self._factors() if self._relative else points
        far = np.abs(points - self.calibration.center).max(-1) > MAX_COORDINATE * self.calibration.scale
        return points, present & far

    def _factors(self):
        num_channels, unit = self.processor.num_channels, self.processor.noisy_frame_unit
        return _relative_to_pixels(self.width, self.height, self.aspect, num_channels, unit, "stream")

    def _process(self, points, present):
        processor, calibration = self.processor, self.calibration
        if not len(points):
            return np.zeros(points.shape, np.float32)
        points, present = _settle_hands(points, present, processor.layout, calibration.hands_swapped, calibration.scale)
        num_held = len(self._held[0])  # a frame before the new ones: what was last seen, so that it is held on
        points, present = (np.concatenate(pair) for pair in zip(self._held, (points, present)))
        self._held = _last_seen(points, present)
        points = _fill(points, present, np.arange(len(points)), None, processor.layout, calibration.center)[num_held:]
        center, scale = processor._center_and_scale(points, calibration)
        return self._resample(((points - center[..., None, :]) / scale[..., None, None]).astype(np.float32))

    @property
    def _resamples(self):
        rate = self.processor.fps
        return not (self.fps is None or rate is None or abs(self.fps - rate) < 1e-3 * rate)

    def _resample(self, points):
        """Frame n of the output is the latest one at time n / fps of the processor."""
        first, self._num_read = self._num_read, self._num_read + len(points)
        if not self._resamples:
            return points
        rate = self.processor.fps
        newest = (self._num_read - 1) / self.fps
        wanted = np.arange(self._num_given, int(np.floor(newest * rate + 1e-6)) + 1)
        self._num_given += len(wanted)
        known = points if self._newest is None else np.concatenate([self._newest, points])
        offset = first if self._newest is None else first - 1
        source = np.floor(wanted / rate * self.fps + 1e-6).astype(int)
        self._newest = points[-1:]
        return known[np.clip(source - offset, 0, len(known) - 1)]


def _numbers(name, values):
    """An array of numbers, or `ValueError`."""
    try:
        array = np.asarray(values)
    except (ValueError, TypeError, RuntimeError) as error:
        raise ValueError(f"stream: found {name} that are no array ({error}). Expected one array for all frames of a portion.") from error
    if array.dtype.kind not in "fiu" or not array.ndim:
        raise ValueError(f"stream: found {name} of type {array.dtype} and shape {array.shape}, expected an array of numbers.")
    return array


def _last_seen(points, present):
    """The newest seen place of every point: (T, K, C), (T, K) -> (1, K, C), (1, K)."""
    frame = np.arange(len(points))[:, None]
    last = np.where(present, frame, -1).max(0)
    return points[np.maximum(last, 0), np.arange(points.shape[1])][None], (last >= 0)[None]


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
        calibration, layout, fps, **source: see `CausalKeypointProcessor`.
        max_segments: how many segments a sentence, and what `translate` reads, may have: by default as many as the text model has
            positions, or `MAX_STREAM_SEGMENTS` where nothing bounds it.
    """

    def __init__(self, model, processor, tokenizer, calibration=None, layout=None, fps=None, max_segments=None, **source):
        if model.config.sign_encoder != "segments":
            raise ValueError(
                f"Found sign_encoder={model.config.sign_encoder!r}, expected 'segments': a stream is encoded window by window."
            )
        positions = getattr(model.config.text_config, "max_position_embeddings", None) or MAX_STREAM_SEGMENTS
        self.max_segments = positions if max_segments is None else checked_number("max_segments", max_segments, 1, positions, whole=True)
        self.model, self.tokenizer = model, tokenizer
        self.frames = CausalKeypointProcessor(processor, calibration, layout, fps, **source)
        window, self._stride = model.config.sign_mae_config.window_size, model.config.stride
        self._rest_segments = max(math.ceil((REST_SECONDS * (self.frames.rate or 25.0) - window) / self._stride), 0) + 1
        index = point_index(processor.layout)
        self._wrists = [index["left_wrist"], index["right_wrist"]]
        self.reset()

    def reset(self):
        """Forgets all frames and sentences, and the calibration that was made of them."""
        self.frames.reset()
        config = self.model.config.sign_mae_config
        self._pending = np.zeros((0, config.num_keypoints, config.num_channels), np.float32)  # frames whose windows are not complete
        self._between = 0  # frames to leave out before the next window, where the stride is longer than it
        self._latents = []  # S of (D), those of segments that were not given yet
        self._num_forgotten = 0  # segments before them
        self._ended = []  # (first, last + 1) segments of sentences, counted from the stream's begin
        self._begin = None  # the first segment of the sentence that goes on
        self._num_resting = 0  # segments at rest in a row, the latest one among them

    @property
    def latents(self):
        """(S, D) of the segments in memory; before there is a calibration, calibrated on the frames so far."""
        kept = self._settled()._latents
        return torch.stack(kept) if kept else torch.zeros(0, self.model.config.sign_mae_config.hidden_size, device=self.model.device)

    def push(self, keypoints, confidence=None):
        """Takes frames (T, P, C), confidence (T, P) or None, and encodes the windows that they complete. Returns how many."""
        ahead = self._copy()
        encoded = ahead._take(ahead.frames.push(keypoints, confidence))
        self.__dict__.update(ahead.__dict__)  # only now: nothing is half taken
        return encoded

    def sentences(self, **kwargs):
        """The sentences that have ended since the last call; kwargs go to `generate`.

        Returns:
            list of {"translation_text", "start", "end", "num_segments"}; start and end in seconds since the stream's begin (frames where
            fps is not known).
        """
        spans = [slice(first - self._num_forgotten, end - self._num_forgotten) for first, end in self._ended]
        told = [self._translated(self._latents[span], first, kwargs) for (first, _), span in zip(self._ended, spans)]
        kept = [] if self._begin is None else self._latents[self._begin - self._num_forgotten :]
        self._ended, self._num_forgotten, self._latents = [], self._num_forgotten + len(self._latents) - len(kept), kept
        return told

    def translate(self, **kwargs):
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

    def _settled(self):
        """This stream, or while frames wait for their calibration, a copy that is calibrated on those that there are."""
        if not self.frames.num_waiting:
            return self
        now = self._copy()
        now._take(now.frames.flush())
        return now

    def _copy(self):
        ahead = copy.copy(self)
        ahead.frames = copy.copy(self.frames)
        return ahead

    @torch.no_grad()
    def _encode(self, frames):
        """(T, K, C) -> (S, D)."""
        return self.model.encode_sequence(torch.from_numpy(frames)[None].to(self.model.device))[0][0]

    @torch.no_grad()
    def _translated(self, latents, first, kwargs):
        window, rate = self.model.config.sign_mae_config.window_size, self.frames.rate or 1.0
        start = self.frames.first_frame + first * self._stride
        end = start + (len(latents) - 1) * self._stride + window if latents else start
        text = ""
        if latents:
            ids = self.model.generate(latents=torch.stack(latents)[None], **checked_generation(self.model, kwargs))
            text = self.tokenizer.decode(ids[0], skip_special_tokens=True).strip()
        return {"translation_text": text, "start": start / rate, "end": end / rate, "num_segments": len(latents)}

    def _take(self, frames):
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

    def _mark(self, segment, rests):
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

    def _forget(self):
        """Leaves out the oldest segments where there are too many, and sentences that are no longer whole."""
        too_many = len(self._latents) - KEPT_WINDOWS * self.max_segments
        if too_many > 0:
            self._latents, self._num_forgotten = self._latents[too_many:], self._num_forgotten + too_many
            self._ended = [span for span in self._ended if span[0] >= self._num_forgotten]
