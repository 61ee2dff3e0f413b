"""Keypoints from video: `extract_video(path)` -> `KeypointClip`, by MediaPipe Holistic or by RTMPose models of your own.

MediaPipe's wheel 0.10.14 carries its models (later wheels do not), so nothing is downloaded. RTMPose needs two local ONNX files.

Shapes: T frames, P people in a frame, K keypoints of the extractor's layout, C channels.
"""

import contextlib
import hashlib
import io
import os
import warnings
from collections.abc import Iterator
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from .keypoint_clip_uniglor import KeypointClip, detections_over_time
from .limits_uniglor import MAX_CLIP_FRAMES, MAX_CLIP_SECONDS, MAX_FPS, MAX_VIDEO_PIXELS, MIN_FPS


class HolisticExtractor:
    """MediaPipe Holistic: one person, 543 points in pixels (z in units of the width), body confidence = visibility."""

    layout = "mediapipe543"
    num_keypoints, num_channels = 543, 3

    def __init__(self) -> None:
        try:
            with warnings.catch_warnings(), _quiet_stderr():
                import mediapipe
        except ImportError as error:
            raise ImportError('Video is read by MediaPipe Holistic: pip install "mediapipe==0.10.14" av (Python 3.11 or 3.12)') from error
        if not hasattr(mediapipe, "solutions"):
            raise ImportError(
                f"mediapipe {mediapipe.__version__} has no Holistic models inside; 0.10.14 has: pip install mediapipe==0.10.14"
            )
        self.facts = {"extractor": "mediapipe holistic", "version": mediapipe.__version__, "layout": self.layout}
        with _quiet_stderr():
            self._graph = mediapipe.solutions.holistic.Holistic(model_complexity=1)  # the only complexity whose model is in the wheel
            self._graph.process(np.zeros((64, 64, 3), np.uint8))

    def start(self) -> None:
        """Forgets the person it followed: a new video begins."""
        with _quiet_stderr():
            self._graph.reset()
            self._graph.process(np.zeros((64, 64, 3), np.uint8))  # MediaPipe writes its start-up messages during the first frame

    def __call__(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(H, W, 3) uint8 RGB -> keypoints (P, K, C) in pixels, confidence (P, K); P is 0 or 1."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of protobuf, about how MediaPipe calls it
            result = self._graph.process(image)
        values = np.zeros((1, self.num_keypoints, 4), np.float32)  # x, y, z, confidence
        parts = (
            (result.pose_landmarks, 33),
            (result.face_landmarks, 468),
            (result.left_hand_landmarks, 21),
            (result.right_hand_landmarks, 21),
        )
        start = 0
        for landmarks, size in parts:
            if landmarks is not None:
                points = landmarks.landmark
                values[0, start : start + size, :3] = [(point.x, point.y, point.z) for point in points]
                values[0, start : start + size, 3] = [point.visibility for point in points] if start == 0 else 1
            start += size
        height, width = image.shape[:2]
        values[..., :3] *= (width, height, width)
        return (values[..., :3], values[..., 3]) if values.any() else (values[:0, :, :3], values[:0, :, 3])


class RTMPoseExtractor:
    """RTMPose or RTMW whole-body models of 133 points through rtmlib, from local ONNX files; nothing is downloaded.

    Confidences are the peaks of the models' SimCC heads, no probabilities: rtmlib itself takes a point as seen above 0.3
    (`KeypointProcessor(min_confidence=0.3)`).

    Args:
        detector: path of a YOLOX person detector.
        pose: path of a whole-body pose model.
        device: "cpu" or "cuda", as rtmlib names it.
    """

    layout = "wholebody133"
    num_keypoints, num_channels = 133, 2

    def __init__(self, detector: str | os.PathLike, pose: str | os.PathLike, device: str = "cpu") -> None:
        for path in (detector, pose):
            if not Path(path).is_file():  # rtmlib would take it for an address to download from
                raise FileNotFoundError(f"{path} does not exist. Expected an ONNX file of rtmlib's detector (YOLOX) and pose model (RTMW).")
        try:
            from rtmlib import YOLOX, RTMPose
        except ImportError as error:
            raise ImportError("RTMPose models are run by rtmlib: pip install rtmlib onnxruntime") from error
        with contextlib.redirect_stdout(io.StringIO()):  # rtmlib prints what it loads
            self._detector, self._pose = (
                model(str(path), backend="onnxruntime", device=device) for model, path in ((YOLOX, detector), (RTMPose, pose))
            )
        height, width = _input_size(self._detector)
        self._detector.model_input_size = (height, width)
        height, width = _input_size(self._pose)
        self._pose.model_input_size = (width, height)  # the two classes order it differently
        hashes = {Path(path).name: hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in (detector, pose)}
        self.facts = {"extractor": "rtmlib", "version": version("rtmlib"), "layout": self.layout, "models": hashes}

    def start(self) -> None:
        """Does nothing: this extractor keeps no state from frame to frame."""

    def __call__(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(H, W, 3) uint8 RGB -> keypoints (P, K, C) in pixels, confidence (P, K)."""
        image = np.ascontiguousarray(image[..., ::-1])  # rtmlib takes BGR
        boxes = self._detector(image)
        if len(boxes) == 0:  # rtmlib would look for a person in the whole image, and find one
            return np.zeros((0, self.num_keypoints, 2), np.float32), np.zeros((0, self.num_keypoints), np.float32)
        keypoints, scores = self._pose(image, bboxes=boxes)
        if scores.shape[1] != self.num_keypoints:
            raise ValueError(f"The pose model gives {scores.shape[1]} keypoints, expected one of {self.num_keypoints} (whole body).")
        return np.asarray(keypoints, np.float32), np.maximum(np.asarray(scores, np.float32), 0)


def _input_size(model: Any) -> tuple[int, ...]:
    """(height, width) of an ONNX model's input; rtmlib expects its callers to know them."""
    return tuple(int(size) for size in model.session.get_inputs()[0].shape[2:4])


def extract_video(
    path: str | os.PathLike,
    extractor: "HolisticExtractor | RTMPoseExtractor | None" = None,
    progress: bool = False,
    max_seconds: float | None = None,
) -> KeypointClip:
    """Estimates the keypoints of the one person in a video who signs: the most central and confident, followed by overlap.

    Args:
        path: a video file that FFmpeg reads; its rotation mark is obeyed.
        extractor: a `HolisticExtractor` (by default a new one) or an `RTMPoseExtractor`, which serves many videos.
        progress: whether to show a bar.
        max_seconds: longer videos are refused, before a frame is looked at where the file says how long it is; at most
            MAX_CLIP_SECONDS.

    Returns:
        `KeypointClip` in pixels, with the size and the frame rate of the video; a frame without a person is NaN.

    Raises:
        FileNotFoundError, ValueError: no such file; not a video, one without frames, one that is too long, one whose frames are too
            large or of several sizes, or one that shows nobody.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist.")
    if not path.is_file():  # a pipe would be waited for
        raise ValueError(f"{path}: no regular file. Expected a video.")
    try:
        import av  # noqa: F401 (before the extractor, which takes seconds to start)
    except ImportError as error:
        raise ImportError("Video is decoded by PyAV: pip install av") from error
    extractor = extractor if extractor is not None else HolisticExtractor()
    extractor.start()
    owner: list[int] = []
    times: list[float | None] = []
    all_keypoints, all_scores = [], []
    size: Any = None
    for number, (image, time, rate) in enumerate(decoded_frames(path, progress, max_seconds)):  # noqa: B007 (the last rate is used)
        size = size or (image.shape[1], image.shape[0])
        people, scores = extractor(np.ascontiguousarray(image))
        owner += [number] * len(people)
        all_keypoints.append(people)
        all_scores.append(scores)
        times.append(time)
    if not times:
        raise ValueError(f"{path}: a video without frames. Expected one that a player shows; convert it again: {_CONVERT}")
    if not owner:
        raise ValueError(f"{path}: no person in any of its {len(times)} frames. Expected one whose face and hands are seen.")
    fps = _frame_rate(rate, times)
    if fps is not None and not MIN_FPS <= fps <= MAX_FPS:
        raise ValueError(f"{path}: {fps:g} frames a second, expected {MIN_FPS:g} to {MAX_FPS:g}. Give it times of its own: {_CONVERT}")
    keypoints, confidence = detections_over_time(
        range(len(times)), owner, np.concatenate(all_keypoints), np.concatenate(all_scores), width=size[0]
    )
    width, height = size
    return KeypointClip(keypoints, confidence, extractor.layout, fps, width, height, relative=False, source=str(path))


class _Refused(ValueError):
    """An error of this module; some errors of PyAV are ValueErrors too."""


def decoded_frames(path: Path, progress: bool = False, max_seconds: float | None = None) -> Iterator[tuple[np.ndarray, float | None, Any]]:
    """Yields (image, time in seconds or None, frame rate or None) of each frame; an image is (H, W, 3) uint8 RGB, upright.

    Nothing but the file itself is opened: playlists and other lists of files are refused, however the file is called.
    """
    import av

    max_seconds = MAX_CLIP_SECONDS if max_seconds is None else min(max_seconds, MAX_CLIP_SECONDS)
    options = {"format_whitelist": _CONTAINERS, "protocol_whitelist": "file"}
    first, size, number, damaged = None, None, 0, 0
    try:
        with av.open(os.path.abspath(path), options=options) as container:  # absolute: `a:b.mp4` is no address
            if not container.streams.video:
                raise _Refused(f"{path}: no video in this file, but {_kinds(container)}. Expected a video.")
            stream = container.streams.video[0]
            _check_pixels(path, stream.codec_context.width, stream.codec_context.height)
            stream.codec_context.options = {"max_pixels": str(MAX_VIDEO_PIXELS)}
            stream.thread_type = "AUTO"
            rate = stream.average_rate
            _check_seconds(path, (container.duration or 0) / av.time_base, max_seconds)
            promised = float((stream.duration or 0) * (stream.time_base or 0))
            for frame in tqdm(container.decode(stream), path.name, stream.frames or None, unit="frame", disable=not progress):
                first = frame.time if number == 0 else first
                known = None not in (first, frame.time)
                seconds = frame.time - first if known else number / float(rate or 25)
                _check_seconds(path, seconds, max_seconds)
                if number == MAX_CLIP_FRAMES:
                    raise _Refused(f"{path}: a video of more than {MAX_CLIP_FRAMES} frames, which is the most that is read here. Cut it.")
                _check_pixels(path, frame.width, frame.height)
                size = size or (frame.width, frame.height)
                if (frame.width, frame.height) != size:
                    raise _Refused(
                        f"{path}: frame {number} has {frame.width} x {frame.height} pixels, the first one {size[0]} x {size[1]}. "
                        f"Expected one size: {_CONVERT}"
                    )
                damaged += frame.is_corrupt
                number += 1
                yield np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90)), frame.time, rate
    except _Refused as error:
        raise ValueError(str(error)) from None
    except Exception as error:  # a broken file fails in whatever FFmpeg was about to make of it
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise ValueError(
            f"{path}: not a video that can be decoded ({reason}). Expected MP4, MOV, AVI, WebM or MKV; convert others: {_CONVERT}"
        ) from error
    if number and (damaged or seconds + 2 / float(rate or 25) < 0.9 * promised):
        warnings.warn(
            f"{path}: {damaged} of {number} frames are damaged, and {seconds:.1f} s of {promised:.1f} s were there. It may be cut off.",
            stacklevel=3,
        )


# Formats that contain the video themselves; others of FFmpeg, such as playlists and lists of images, open other files.
_CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,asf,ogg"
_CONVERT = "ffmpeg -i FILE clip.mp4"


def _kinds(container: Any) -> str:
    return ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"


def _check_pixels(path: Path, width: int, height: int) -> None:
    if width * height > MAX_VIDEO_PIXELS:
        raise _Refused(
            f"{path}: frames of {width} x {height} pixels, expected at most {MAX_VIDEO_PIXELS:,} pixels. "
            "Make it smaller: ffmpeg -i FILE -vf scale=1280:-2 clip.mp4"
        )


def _check_seconds(path: Path, seconds: float, max_seconds: float) -> None:
    if seconds > max_seconds:
        raise _Refused(f"{path}: a video of more than {max_seconds:g} s, which is the most that is read here. Cut it.")


def _frame_rate(rate: Fraction | None, times: list[float | None]) -> float | None:
    """Frames a second, measured from the times of the frames. Where the container's rate agrees, it is used, since it is exact; also
    where frames have no times."""
    claimed = float(rate) if rate else None
    first, last = times[0], times[-1]
    if first is None or last is None or last <= first:
        return claimed
    measured = (len(times) - 1) / (last - first)
    return claimed if claimed and abs(claimed - measured) < 0.01 * claimed else measured  # recordings of browsers claim 1000


@contextlib.contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Redirects the descriptor of stderr, since C++ code does not write to Python's sys.stderr."""
    saved, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)
