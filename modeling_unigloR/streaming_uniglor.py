"""Sign-to-text while the signing goes on: every frame is processed once, every window encoded once.

Shapes: T frames, P points of the source layout, K keypoints, C channels, W frames in a window, S segments, D size of a latent.
"""

import numpy as np
import torch

from .keypoint_processing_uniglor import _fill, _gather_points, _settle_hands
from .keypoints_uniglor import get_layout


class CausalKeypointProcessor:
    """A `KeypointProcessor` for a stream: the frames that it gives, pushed in any portions, are those of `process(causal=True)`.

    Args:
        processor: a `KeypointProcessor`.
        calibration: fixed centre and scale; by default from the first `processor.calibration_frames` frames, and nothing comes out
            before they have arrived.
        layout, fps, width, height, aspect, missing, relative: of the source, see `KeypointProcessor.process`.
    """

    def __init__(self, processor, calibration=None, layout=None, fps=None, **source):
        self.processor, self.calibration, self.fps = processor, calibration, fps
        self.source = dict.fromkeys(("width", "height", "aspect", "missing", "relative")) | source | {"layout": layout, "name": "stream"}
        self._waiting = []  # (frames, confidence) before there is a calibration
        self._held = None  # points (1, K, C) and present (1, K): where every point was last seen
        self._num_read = self._num_given = 0
        self._newest = None  # the newest processed frame, which resampling repeats

    def push(self, keypoints, confidence=None):
        """Frames as they arrive, (T, P, C) with confidence (T, P) or None -> those that can be told now, (T', K, C) float32."""
        self._waiting.append((np.asarray(keypoints), None if confidence is None else np.asarray(confidence)))
        if self.calibration is None and sum(len(frames) for frames, _ in self._waiting) < self.processor.calibration_frames:
            return self._process(None, None)
        return self.flush()

    def flush(self):
        """The frames that wait for a calibration, calibrated on them however few they are."""
        if not self._waiting:
            return self._process(None, None)
        keypoints = np.concatenate([frames for frames, _ in self._waiting])
        confidences = [some for _, some in self._waiting]
        confidence = None if any(some is None for some in confidences) else np.concatenate(confidences)
        self._waiting = []
        first = slice(self.processor.calibration_frames)
        known = keypoints[first], None if confidence is None else confidence[first]
        if self.source["relative"] is None:
            processor, source = self.processor, self.source
            layout = source["layout"] or processor.layout
            seen = _gather_points(*known, layout, processor.layout, source["missing"], processor.min_confidence, source["name"])
            self.source["relative"] = processor._is_relative(*seen, layout)
        if self.calibration is None:
            self.calibration = self.processor.calibrate(*known, **self.source)
        return self._process(keypoints, confidence)

    def _process(self, keypoints, confidence):
        processor, calibration = self.processor, self.calibration
        if keypoints is None:
            return np.zeros((0, len(get_layout(processor.layout).names), processor.num_channels), np.float32)
        points, present = processor._read(keypoints, confidence, **self.source)
        points, present = _settle_hands(points, present, processor.layout, calibration.hands_swapped, calibration.scale)
        num_held = 0 if self._held is None else 1  # a frame before the new ones: what was last seen, so that it is held on
        if num_held:
            points, present = np.concatenate([self._held[0], points]), np.concatenate([self._held[1], present])
        self._held = _last_seen(points, present)
        points = _fill(points, present, np.arange(len(points)), None, processor.layout, calibration.center)[num_held:]
        center, scale = processor._center_and_scale(points, calibration)
        return self._resample(((points - center[..., None, :]) / scale[..., None, None]).astype(np.float32))

    def _resample(self, points):
        """Frame n of the output is the latest one at time n / fps of the processor."""
        rate = self.processor.fps
        first, self._num_read = self._num_read, self._num_read + len(points)
        if self.fps is None or rate is None or abs(self.fps - rate) < 1e-3 * rate:
            return points
        newest = (self._num_read - 1) / self.fps
        wanted = np.arange(self._num_given, int(np.floor(newest * rate + 1e-6)) + 1)
        self._num_given += len(wanted)
        known = points if self._newest is None else np.concatenate([self._newest, points])
        offset = first if self._newest is None else first - 1
        source = np.floor(wanted / rate * self.fps + 1e-6).astype(int)
        self._newest = points[-1:]
        return known[np.clip(source - offset, 0, len(known) - 1)]


def _last_seen(points, present):
    """The newest seen place of every point: (T, K, C), (T, K) -> (1, K, C), (1, K)."""
    frame = np.arange(len(points))[:, None]
    last = np.where(present, frame, -1).max(0)
    return points[np.maximum(last, 0), np.arange(points.shape[1])][None], (last >= 0)[None]


class SignToTextStreamer:
    """Translates a live stream: `push` frames as they come, `translate` whenever a text is wanted.

    A window is encoded once, when its last frame has arrived; only decoding starts anew. What `translate` says equals the pipeline's
    answer to the same frames with `causal=True`.

    Args:
        model: a `SignToText` with sign_encoder="segments".
        processor, tokenizer: saved with the model.
        calibration, layout, fps, **source: see `CausalKeypointProcessor`.
    """

    def __init__(self, model, processor, tokenizer, calibration=None, layout=None, fps=None, **source):
        if model.config.sign_encoder != "segments":
            raise ValueError(
                f"Found sign_encoder={model.config.sign_encoder!r}, expected 'segments': a stream is encoded window by window."
            )
        self.model, self.tokenizer = model, tokenizer
        self.frames = CausalKeypointProcessor(processor, calibration, layout, fps, **source)
        self.latents = torch.zeros(0, model.config.sign_mae_config.hidden_size, device=model.device)  # (S, D)
        self._pending = np.zeros((0, model.config.sign_mae_config.num_keypoints, processor.num_channels), np.float32)  # not all encoded

    @torch.no_grad()
    def push(self, keypoints, confidence=None):
        """Takes frames (T, P, C), confidence (T, P) or None, and encodes the windows that they complete. Returns how many."""
        return self._take(self.frames.push(keypoints, confidence))

    def _take(self, frames):
        self._pending = np.concatenate([self._pending, frames])
        window, stride = self.model.config.sign_mae_config.window_size, self.model.config.stride
        if len(self._pending) < window:
            return 0
        latents, _ = self.model.encode_sequence(torch.from_numpy(self._pending)[None].to(self.model.device))  # (1, S', D)
        self.latents = torch.cat([self.latents, latents[0]])
        self._pending = self._pending[latents.shape[1] * stride :]
        return latents.shape[1]

    @torch.no_grad()
    def translate(self, **kwargs):
        """The text of all that was pushed so far: {"translation_text", "num_segments"}; kwargs go to `generate`.

        Before the first window is complete, the clip is held at its last frame, as offline.
        """
        self._take(self.frames.flush())
        latents = self.latents
        if not len(latents):
            if not len(self._pending):
                raise ValueError("No frame was pushed yet: there is nothing to translate.")
            latents = self.model.encode_sequence(torch.from_numpy(self._pending)[None].to(self.model.device))[0][0]
        ids = self.model.generate(latents=latents[None], **kwargs)
        text = self.tokenizer.decode(ids[0], skip_special_tokens=True).strip()
        return {"translation_text": text, "num_segments": len(latents)}
