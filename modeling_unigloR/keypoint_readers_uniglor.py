"""Keypoint files of other tools, read into one form: `read_keypoints(path)` -> `KeypointClip`.

What a clip holds is what the file says, in the file's units; putting it into a model's layout is `KeypointProcessor`'s work:

    clip = read_keypoints("clip.pose")
    processed = KeypointProcessor().process(**vars(clip))

Nothing here unpickles: arrays that hide a pickle are refused.

Shapes: T frames, K keypoints of the source layout, C channels (x, y or x, y, z), N people over all frames.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .keypoint_processing_uniglor import RELATIVE_LIMIT
from .keypoints_uniglor import LAYOUTS, POSE178_MESH, SOURCE_LAYOUTS, get_source_layout

VIDEO_SUFFIXES = (".mp4", ".mov", ".avi", ".webm", ".mkv")
MAX_MISSING_FRAMES = 10_000  # between two numbered files; a wider gap is a numbering of another kind

# Layouts of estimators that work in the image plane: where their arrays have a third channel, it is the confidence.
SCORED_LAYOUTS = ("openpose137", "openpose18", "openpose67", "wholebody133")

# Names under which keypoints and their confidence stand in .npz and .json files and in dicts, the first that is there counts.
KEYPOINT_KEYS = ("keypoints", "poses", "pose", "landmarks", "data")
CONFIDENCE_KEYS = ("confidence", "scores", "keypoint_scores", "score", "conf")


@dataclass(eq=False)
class KeypointClip:
    """One clip as a file holds it; its fields are arguments of `KeypointProcessor.process`.

    Attributes:
        keypoints: (T, K, 2 or 3) float32, in the source's units; NaN where a whole frame or person is not there.
        confidence: (T, K) float32, 0 where not seen.
        layout: a key of `keypoints_uniglor.SOURCE_LAYOUTS`.
        fps: frames a second, or None where the file does not say.
        width, height: of the image in pixels, or None where the file does not say.
    """

    keypoints: np.ndarray
    confidence: np.ndarray
    layout: str
    fps: float | None = None
    width: int | None = None
    height: int | None = None

    def row(self, id, language, text=None, gloss=None, label=None, signer=None):
        """The clip as a row of the canonical schema: one dict of plain columns."""
        return dict(id=id, **vars(self), text=text, gloss=gloss, label=label, signer=signer, language=language)


def read_keypoints(path, layout=None, width=None, height=None, fps=None):
    """Reads one clip from a file or folder of keypoints, or estimates it from a video.

    Args:
        path: a folder of OpenPose's `*_keypoints.json`; `.json` (one frame of OpenPose, MMPose's predictions, or an object with
            keypoints and scores); `.pose`; `.npy` or `.npz` (see `clip_from_array`); `.skels` of one line; or a video, which
            `extract_video` estimates by MediaPipe Holistic.
        layout: name of the source layout, where the file's shape leaves it open; elsewhere it is checked.
        width, height: of the image in pixels, instead of what the file says. Coordinates relative to the image (0..1) need them.
        fps: frames a second, instead of what the file says.

    Returns:
        `KeypointClip`.

    Raises:
        FileNotFoundError: nothing at that path.
        ValueError: another kind of file, a broken or empty one, nobody seen in it, an ambiguous or other layout, or coordinates
            relative to an image of unknown size.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist.")
    given = dict(layout=layout, width=width, height=height, fps=fps)
    suffix = path.suffix.lower()
    if path.is_dir():
        return _read_openpose_dir(path, **given)
    if suffix in VIDEO_SUFFIXES:
        from .video_extraction_uniglor import extract_video

        return _with_given(extract_video(path), path, **given)
    if suffix in _READERS:
        return _READERS[suffix](path, **given)
    if suffix in (".pkl", ".pickle", ".pt", ".gz", ".pth"):
        raise ValueError(
            f"{path}: a pickle can run any code, so none is loaded here. Convert it once: python -m datasets_scripts.convert_pickle FILE"
        )
    raise ValueError(
        f"{path}: unknown kind of keypoint file. Expected a folder of OpenPose *_keypoints.json, {', '.join(_READERS)}, "
        f"or a video ({', '.join(VIDEO_SUFFIXES)})."
    )


# --- OpenPose and other JSON ------------------------------------------------------------------------------------------------------------

_OPENPOSE_PARTS = {"pose_keypoints": 75, "face_keypoints": 210, "hand_left_keypoints": 63, "hand_right_keypoints": 63}  # x, y, confidence
_OPENPOSE_NAMES = [f"{part}_2d" for part in _OPENPOSE_PARTS]  # since version 1.3
_OPENPOSE_BYTES = 8 * sum(_OPENPOSE_PARTS.values())
_BODY, _OLD_BODY = 75, 54  # numbers of the bodies of 25 and of 18 points
_READ_ONLY = os.O_RDONLY | getattr(os, "O_BINARY", 0)  # Windows
_OPENPOSE_SUFFIX = "_keypoints.json"


def _read_openpose_dir(path, **given):
    numbers = {}
    for name in os.listdir(path):
        stem = name.removesuffix(_OPENPOSE_SUFFIX)
        digits = stem[len(stem.rstrip("0123456789")) :]
        if stem is name or not digits or name[0] == ".":  # a leading dot: what other systems leave beside a file
            continue
        number = int(digits)
        if number in numbers:
            raise ValueError(f"{path}: {numbers[number]} and {name} are both frame {number}. Expected one clip in a folder.")
        numbers[number] = name
    if not numbers:
        inside = sorted(os.listdir(path))
        found = f"{len(inside)} other entries, such as {inside[0]!r}" if inside else "nothing"
        raise ValueError(f"{path}: no <number>_keypoints.json of OpenPose in this folder, found {found}. Expected the folder of one clip.")
    frames = sorted(numbers)
    for before, after in zip(frames, frames[1:]):
        if after - before > MAX_MISSING_FRAMES:
            raise ValueError(
                f"{path}: between {numbers[before]} and {numbers[after]} lie {after - before - 1} frames without a file, expected at most "
                f"{MAX_MISSING_FRAMES}. Are they frames of one clip?"
            )
    folder = str(path)
    files = [f"{folder}{os.sep}{numbers[number]}" for number in frames]
    return _openpose_clip(files, frames, path, **given)


def _read_json(path, **given):
    content = _parse_json(path.read_bytes(), path)
    if isinstance(content, dict) and "people" in content:
        return _openpose_clip([path], [0], path, **given)
    frames = content.get("instance_info") if isinstance(content, dict) else content
    if isinstance(frames, list) and frames and all(isinstance(frame, dict) and "instances" in frame for frame in frames):
        return _mmpose_clip(frames, path, **given)
    if isinstance(content, dict):
        return clip_from_arrays(content, name=str(path), **given)
    raise ValueError(
        f"{path}: JSON of another kind (a {type(content).__name__}). Expected OpenPose's 'people', MMPose's 'instance_info', or an object "
        f"with {' or '.join(map(repr, KEYPOINT_KEYS[:2]))} and {CONFIDENCE_KEYS[1]!r}."
    )


def _parse_json(content, path):
    try:
        return json.loads(content)
    except ValueError as error:
        raise ValueError(f"{path}: not a whole JSON file ({error}).") from error


def _openpose_clip(files, numbers, name, layout, width, height, fps):
    """One clip from files of one frame each, whose frame numbers are ascending."""
    try:
        from simdjson import Parser  # not needed: four times as fast

        parser = Parser()
    except ImportError:
        parser = None
    detections, owner, body_sizes = [], [], set()
    for place, path in enumerate(files):
        content, people = _file_bytes(path), None
        if parser is not None:
            people = _usual_people(parser, content)
        if people is None:
            people = _any_people(content, path, body_sizes)
        elif people:
            body_sizes.add(_BODY)
        detections += people
        owner += [place] * len(people)
    if len(body_sizes) > 1:
        raise ValueError(f"{name}: bodies of {' and '.join(str(size // 3) for size in sorted(body_sizes))} points, expected one kind.")
    people = np.frombuffer(b"".join(detections), np.float64).astype(np.float32).reshape(-1, 137, 3)  # (N, 137, 3)
    found = "openpose137"
    if body_sizes == {_OLD_BODY}:
        people, found = np.delete(people, np.s_[18:25], axis=1), "openpose18"
    keypoints, confidence = detections_over_time(numbers, owner, people[..., :2], people[..., 2], width)
    return _clip(keypoints, confidence, found, layout, fps, width, height, name)


def _usual_people(parser, content):
    """For each person of a file, 411 numbers as bytes of doubles; None where anything is not as OpenPose usually writes it.

    The numbers go straight into buffers: as Python's floats they would cost half of the time.
    """
    people = []
    try:
        for person in parser.parse(content)["people"]:
            people.append(b"".join([person[name].as_buffer(of_type="d") for name in _OPENPOSE_NAMES]))
            if len(people[-1]) != _OPENPOSE_BYTES:  # only all parts together have so many
                return None
    except (AttributeError, KeyError, TypeError, ValueError):
        return None
    return people


def _file_bytes(path):
    """What open(path, "rb").read() gives, in half its time: of thousands of small files that is a fifth of all."""
    file = os.open(path, _READ_ONLY)
    try:
        content = os.read(file, 1 << 16)
        while len(content) % (1 << 16) == 0 and (more := os.read(file, 1 << 16)):
            content += more
    finally:
        os.close(file)
    return content


def _any_people(content, path, body_sizes):
    """The same for people that lack parts, have the older body, or were written before version 1.3, without "_2d"; says what is wrong."""
    frame = _parse_json(content, path)
    if not (isinstance(frame, dict) and isinstance(frame.get("people"), list)):
        raise ValueError(f"{path}: JSON of another kind, expected an object with a list 'people', as OpenPose writes it.")
    people = []
    for person in frame["people"]:
        if not isinstance(person, dict):
            raise ValueError(f"{path}: a person that is a {type(person).__name__}, expected an object of keypoints.")
        numbers = []
        for part, size in _OPENPOSE_PARTS.items():
            values = person.get(f"{part}_2d") or person.get(part) or []
            if part == "pose_keypoints" and values:
                body_sizes.add(len(values))
                values = values + [0.0] * (size - _OLD_BODY) if len(values) == _OLD_BODY else values
            if values and len(values) != size:
                raise ValueError(f"{path}: {part} has {len(values)} numbers, expected {size}{' or 54' if size == _BODY else ''}.")
            numbers += values or [0.0] * size
        try:
            people.append(np.array(numbers, np.float64).tobytes())
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}: keypoints that are not numbers ({error}).") from error
    return people


def _mmpose_clip(frames, path, layout, width, height, fps):
    """MMPose's predictions of a video: frames with `frame_id` and `instances` of keypoints and keypoint_scores."""
    frames = sorted(frames, key=lambda frame: frame.get("frame_id", 0))
    numbers = [frame.get("frame_id", 0) for frame in frames]
    if len(set(numbers)) < len(numbers) or numbers[-1] - numbers[0] > MAX_MISSING_FRAMES + len(numbers):
        raise ValueError(f"{path}: frame_id goes from {numbers[0]} to {numbers[-1]} in {len(numbers)} frames, expected each number once.")
    owner = [place for place, frame in enumerate(frames) for _ in frame["instances"]]
    people = [person for frame in frames for person in frame["instances"]]
    if not people:
        raise ValueError(f"{path}: nobody in any of {len(frames)} frames.")
    try:
        points = np.array([person["keypoints"] for person in people], np.float32)  # (N, K, 2)
        scores = np.array([person["keypoint_scores"] for person in people], np.float32)  # (N, K)
    except (KeyError, ValueError, TypeError) as error:
        raise ValueError(f"{path}: an instance without whole keypoints and keypoint_scores ({type(error).__name__}: {error}).") from error
    points, _, found = _points_of(points, scores, layout, str(path))
    return _clip(*detections_over_time(numbers, owner, points, scores, width), found, layout, fps, width, height, path)


# --- One person of several --------------------------------------------------------------------------------------------------------------


def follow_person(frames, points, confidence, width=None):
    """Which detections are the signer: of the people that overlap from frame to frame, the most central and confident one.

    Args:
        frames: (N,) ascending frame numbers of the detections.
        points: (N, K, 2 or more), confidence: (N, K).
        width: of the image; by default its middle is the middle of all that was seen.

    Returns:
        (M,) indices of detections, at most one for each frame.
    """
    frames, points = np.asarray(frames, int), np.asarray(points)[..., :2]
    if (np.diff(frames) > 0).all():  # nobody else
        return np.arange(len(frames))
    seen = (confidence > 0) & np.isfinite(points).all(-1)
    low = np.where(seen[..., None], points, np.inf).min(1)  # (N, 2), the box of each detection
    high = np.where(seen[..., None], points, -np.inf).max(1)
    there = seen.any(1)
    if not there.any():
        return np.unique(frames, return_index=True)[1]
    left, right = low[there, 0].min(), high[there, 0].max()
    middle = (left + right) / 2
    if width:
        middle = width / 2 if right > RELATIVE_LIMIT else 0.5
    reach = max(right - middle, middle - left) or 1.0
    central = 1 - np.abs((np.where(there, low[:, 0], middle) + np.where(there, high[:, 0], middle)) / 2 - middle) / reach
    worth = np.where(there, np.where(seen, confidence, 0).mean(1) * central, 0)

    tracks = []  # lists of detections, the latest last
    for frame in np.unique(frames[there]):
        new = [int(index) for index in np.flatnonzero((frames == frame) & there)]
        overlaps = [(_overlap(low, high, track[-1], index), track, index) for track in tracks for index in new]
        taken = set()
        for overlap, track, index in sorted(overlaps, key=lambda entry: -entry[0]):
            if overlap > 0 and index not in taken and frames[track[-1]] < frame:
                track.append(index)
                taken.add(index)
        tracks += [[index] for index in new if index not in taken]
    return np.array(max(tracks, key=lambda track: worth[track].sum()))


def _overlap(low, high, a, b):
    """Intersection over union of two boxes."""
    shared = np.maximum(np.minimum(high[a], high[b]) - np.maximum(low[a], low[b]), 0).prod()
    return shared / max((high[a] - low[a]).prod() + (high[b] - low[b]).prod() - shared, 1e-9)


def detections_over_time(numbers, owner, points, confidence, width=None):
    """Detections (N, K, C), (N, K) of the frames `numbers` -> (T, K, C), (T, K): NaN where a frame has no file or nobody."""
    owner = np.asarray(owner, int)
    chosen = follow_person(owner, points, confidence, width)
    num_frames = numbers[-1] - numbers[0] + 1
    if len(chosen) == num_frames:
        return points[chosen], confidence[chosen]
    keypoints = np.full((num_frames, *points.shape[1:]), np.nan, np.float32)
    over_time = np.zeros((num_frames, points.shape[1]), np.float32)
    at = np.asarray(numbers)[owner[chosen]] - numbers[0]
    keypoints[at], over_time[at] = points[chosen], confidence[chosen]
    return keypoints, over_time


# --- .pose ------------------------------------------------------------------------------------------------------------------------------

_HOLISTIC = ("POSE_LANDMARKS", "FACE_LANDMARKS", "LEFT_HAND_LANDMARKS", "RIGHT_HAND_LANDMARKS")
_OPENPOSE = ("pose_keypoints_2d", "face_keypoints_2d", "hand_left_keypoints_2d", "hand_right_keypoints_2d")
_WHOLEBODY = ("BODY", "FACE", "LEFT_HAND", "RIGHT_HAND")
_RENDERED = ("POSE", "FACE", "LEFT_HAND", "RIGHT_HAND")  # what rendering_uniglor.to_pose writes: the parts of a layout of ours
_POSE_FILES = {  # components of a header, in our order -> their numbers of points -> our layout
    _HOLISTIC: {
        (33, 468, 21, 21): "mediapipe543",
        (33, 478, 21, 21): "mediapipe543",
        (33, 0, 21, 21): "mediapipe75",
        (8, 128, 21, 21): "pose178",
    },
    _OPENPOSE: {
        (25, 70, 21, 21): "openpose137",
        (25, 0, 21, 21): "openpose67",
        (18, 70, 21, 21): "openpose18",
        (18, 0, 21, 21): "openpose18",
        (18, 0, 0, 0): "openpose18",
    },
    ("BODY_135",): {(135,): "wholebody133"},
    tuple(f"{part}_136" for part in _WHOLEBODY): {(26, 68, 21, 21): "wholebody133"},
    tuple(f"{part}_133" for part in _WHOLEBODY): {(23, 68, 21, 21): "wholebody133"},
    _WHOLEBODY: {(23, 68, 21, 21): "wholebody133"},
    _RENDERED: {(8, 19, 23, 23): "uniglor73"},
}
_POINT_NAMES = {  # of components whose numbers of points do not tell them from those of other programs
    "pose178": {"FACE_LANDMARKS": tuple(map(str, POSE178_MESH))},
    "uniglor73": {name: LAYOUTS["uniglor73"].names[span] for name, span in zip(_RENDERED, LAYOUTS["uniglor73"].parts.values())},
}
# Layouts near COCO-WholeBody, and where each of its 133 points is in them. OpenPose's 135 have the wrists (9, 10) once, as roots
# of the hands too, neck and head top after the body, and two pupils after the face; AlphaPose's 136 have head top, neck and pelvis
# after the body and order the feet by toe.
_TO_WHOLEBODY = {
    "BODY_135": (*range(17), *range(19, 25), *range(65, 133), 9, *range(25, 45), 10, *range(45, 65)),
    "BODY_136": (*range(17), 20, 22, 24, 21, 23, 25, *range(26, 136)),
}


def _read_pose(path, layout, width, height, fps):
    try:
        from pose_format import Pose
        from pose_format.numpy import NumPyPoseBody
    except ImportError as error:
        raise ImportError(f"{path}: .pose files are read by pose-format: pip install pose-format") from error

    class PlainBody(NumPyPoseBody):
        """Keeps the arrays as they are: a mask costs more than the reading, and says no more than the confidence."""

        def __init__(self, fps, data, confidence):
            self.fps, self.data, self.confidence = fps, data, confidence

    try:
        pose = Pose.read(path.read_bytes(), PlainBody)
    except Exception as error:  # pose-format raises whatever its struct and array calls raise
        raise ValueError(f"{path}: not a whole .pose file ({type(error).__name__}: {error}).") from error
    components = {component.name: component for component in pose.header.components}
    family = next((names for names in _POSE_FILES if names[0] in components), None)
    sizes = tuple(len(components[name].points) if name in components else 0 for name in family or ())
    found = _POSE_FILES[family].get(sizes) if family else None
    if any(tuple(components[name].points) != points for name, points in _POINT_NAMES.get(found, {}).items()):
        found = None
    if found is None:
        have = ", ".join(f"{name} ({len(component.points)})" for name, component in components.items())
        raise ValueError(
            f"{path}: unknown points: {have}. Expected MediaPipe Holistic (whole, reduced to 178, or without the face), OpenPose, "
            "AlphaPose or COCO-WholeBody, as pose-format writes them, or what to_pose wrote."
        )
    data, confidence = (np.ma.getdata(values) for values in (pose.body.data, pose.body.confidence))  # (T, people, K, ...)
    order = _pose_file_order(components, family)
    data, confidence = data[:, :, order], confidence[:, :, order]
    num_frames, num_people = confidence.shape[:2]
    if num_frames == 0 or num_people == 0:
        raise ValueError(f"{path}: found {num_frames} frames of {num_people} people, expected at least one of each.")
    if num_people == 1:
        keypoints, confidence = data[:, 0], confidence[:, 0]
    else:
        frames, people = np.nonzero((confidence > 0).any(-1))
        keypoints, confidence = detections_over_time(
            range(num_frames), frames, data[frames, people], confidence[frames, people], pose.header.dimensions.width
        )
    size = pose.header.dimensions
    width, height = (given or int(own) or None for given, own in ((width, size.width), (height, size.height)))
    return _clip(keypoints[..., :3], confidence, found, layout, fps or float(pose.body.fps) or None, width, height, path)


def _pose_file_order(components, family):
    """Where our points are among the file's, as a slice where they are the first of them, in order. World landmarks are left out."""
    starts = dict(zip(components, np.cumsum([0] + [len(component.points) for component in components.values()])))
    order = [starts[name] + index for name in family if name in components for index in range(len(components[name].points))]
    if family[0] in _TO_WHOLEBODY:
        order = [order[index] for index in _TO_WHOLEBODY[family[0]]]
    return slice(len(order)) if order == list(range(len(order))) else order


# --- Arrays -----------------------------------------------------------------------------------------------------------------------------


def clip_from_array(values, confidence=None, layout=None, width=None, height=None, fps=None, name="array"):
    """A clip from an array of keypoints, whose layout is seen from its shape where that is possible.

    A point is not seen where it is NaN; in an array of an image's keypoints that has neither NaN nor confidence, where every
    coordinate is exactly 0.

    Args:
        values: (T, K, 2 or 3), or (T, K * 2 or K * 3) with coordinates interleaved. Of 2-D estimators (`SCORED_LAYOUTS`) a
            third channel is the confidence. Flattened Holistic has pose 33 x 4 (the fourth is its visibility) or 33 x 3,
            face 468 x 3 or nothing, left and right hand 21 x 3: 1662, 258 or 225 numbers. Or, of several people, a sequence of
            T arrays (P, K, 2 or 3), of which `follow_person` takes one.
        confidence: (T, K), or for several people a sequence of T arrays (P, K), or None.
        layout, width, height, fps: see `read_keypoints`.
        name: what errors call the clip.

    Returns:
        `KeypointClip`.
    """
    if layout is not None:
        get_source_layout(layout)
    if _has_people(values):
        return _clip_of_people(values, confidence, layout, width, height, fps, name)
    values = _numbers(values, "keypoints", name)
    confidence = None if confidence is None else _numbers(confidence, "confidence", name)
    keypoints, confidence, found = _points_of(values, confidence, layout, name)
    return _clip(keypoints, confidence, found, layout, fps, width, height, name)


def _has_people(values):
    try:
        return len(values) > 0 and np.ndim(values[0]) == 3
    except (TypeError, ValueError, KeyError):  # no sequence, or ragged: what is wrong is said where it is read
        return False


def _clip_of_people(values, confidence, layout, width, height, fps, name):
    frames = [_numbers(frame, "keypoints", name) for frame in values]
    owner = [number for number, frame in enumerate(frames) for _ in frame]
    if confidence is not None:
        confidence = [_numbers(frame, "confidence", name) for frame in confidence]
        if [frame.shape[0] for frame in confidence] != [frame.shape[0] for frame in frames]:
            raise ValueError(f"{name}: keypoints and confidence differ in frames or in people, expected one confidence for each point.")
    try:
        people = np.concatenate(frames)
        confidence = None if confidence is None else np.concatenate(confidence)
    except ValueError as error:
        raise ValueError(f"{name}: frames of different keypoints ({error}).") from error
    people, confidence, found = _points_of(people, confidence, layout, name)
    confidence = _seen(people, confidence, found).astype(np.float32) if confidence is None else confidence
    keypoints, confidence = detections_over_time(range(len(frames)), owner, people, confidence, width)
    return _clip(keypoints, confidence, found, layout, fps, width, height, name)


def clip_from_arrays(arrays, layout=None, width=None, height=None, fps=None, name="arrays"):
    """A clip from a mapping that holds keypoints, and maybe confidence, fps, width, height and layout (an .npz file, a dict)."""
    keypoints = next((key for key in KEYPOINT_KEYS if key in arrays), None)
    if keypoints is None and len(arrays) == 1:
        keypoints = next(iter(arrays))
    if keypoints is None:
        raise ValueError(f"{name}: found {sorted(arrays)}, expected keypoints under one of the names {', '.join(KEYPOINT_KEYS)}.")
    scores = next((key for key in CONFIDENCE_KEYS if key in arrays), None)
    own = {key: arrays[key] for key in ("width", "height", "fps") if key in arrays}
    own = {key: None if value is None else float(np.ravel(value)[0]) for key, value in own.items()}
    sizes = [given or (int(own[key]) if own.get(key) else None) for key, given in (("width", width), ("height", height))]
    layout = layout or (str(arrays["layout"]) if "layout" in arrays else None)
    return clip_from_array(arrays[keypoints], arrays[scores] if scores else None, layout, *sizes, fps or own.get("fps"), name)


def _read_npy(path, **given):
    loaded = _load_numpy(path)
    if not isinstance(loaded, np.ndarray):
        raise ValueError(f"{path}: a .npz file by another name, expected one array.")
    return clip_from_array(loaded, name=str(path), **given)


def _read_npz(path, **given):
    loaded = _load_numpy(path)
    if isinstance(loaded, np.ndarray):
        return clip_from_array(loaded, name=str(path), **given)
    with loaded:
        try:
            arrays = {key: loaded[key] for key in loaded.files}
        except Exception as error:
            raise ValueError(_numpy_problem(path, error)) from error
    return clip_from_arrays(arrays, name=str(path), **given)


def _load_numpy(path):
    try:
        return np.load(path, allow_pickle=False)
    except Exception as error:  # what a broken file raises depends on where it broke
        raise ValueError(_numpy_problem(path, error)) from error


def _numpy_problem(path, error):
    if "pickle" in str(error):
        return (
            f"{path}: not plain numbers but pickled objects, which are not loaded, since a pickle can run any code. "
            "Save the keypoints as an array of numbers (T, K, 2 or 3)."
        )
    return f"{path}: not a whole NumPy file ({type(error).__name__}: {error})."


def _numbers(values, what, name):
    try:
        values = np.asarray(values)
        if values.dtype.kind not in "fiu":
            values = values.astype(np.float32)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{name}: {what} are not one array of numbers ({error}).") from error
    return values.astype(np.float32, copy=False)


def _points_of(values, confidence, layout, name):
    """-> keypoints (T, K, 2 or 3), confidence (T, K) or None, layout, from any of the shapes of `clip_from_array`."""
    if confidence is not None and confidence.ndim == 3 and confidence.shape[2] == 1:
        confidence = confidence[..., 0]
    if values.ndim == 2:
        values, confidence, found = _unflatten(values, confidence, layout, name)
    elif values.ndim == 3 and values.shape[2] in (2, 3):
        candidates = [candidate for candidate, source in SOURCE_LAYOUTS.items() if values.shape[1] in source.blocks]
        if layout not in candidates and (layout is not None or len(candidates) != 1):
            raise ValueError(
                f"{name}: found {values.shape[1]} keypoints, {_which_layout(candidates)}"
                + (f", not {layout!r}." if layout is not None else ".")
            )
        found = layout or candidates[0]
    else:
        several = values.ndim == 3 and _flat_forms(values.shape[2], layout)
        raise ValueError(
            f"{name}: found keypoints of shape {values.shape}, expected (frames, keypoints, 2 or 3) or (frames, numbers). "
            + ("Are they several clips in one array? Give each to clip_from_array." if several else "")
        )
    if values.shape[2] == 3 and confidence is None and found in SCORED_LAYOUTS and not (values[..., 2] < 0).any():
        values, confidence = values[..., :2], values[..., 2]
    if confidence is not None and confidence.shape != values.shape[:2]:
        raise ValueError(f"{name}: found confidence of shape {confidence.shape}, expected {values.shape[:2]} like the keypoints.")
    return values, confidence, found


def _which_layout(candidates):
    return f"which may be {' or '.join(candidates)}: pass layout=" if candidates else f"expected those of {', '.join(SOURCE_LAYOUTS)}"


def _flat_forms(size, layout):
    """[(layout, K, C)] that rows of `size` numbers may be; C is "visibility" for a Holistic pose of four channels."""
    forms = []
    for candidate in [layout] if layout else SOURCE_LAYOUTS:
        for num_points, blocks in SOURCE_LAYOUTS[candidate].blocks.items():
            forms += [(candidate, num_points, channels) for channels in (2, 3) if num_points * channels == size]
            if candidate in ("mediapipe75", "mediapipe543") and num_points * 3 + blocks[0][1] == size:
                forms.append((candidate, num_points, "visibility"))
    if size == 151 and layout in (None, "skels50"):  # with the counter that .skels files have
        forms.append(("skels50", 50, "counter"))
    return forms


def _unflatten(values, confidence, layout, name):
    forms = _flat_forms(values.shape[1], layout)
    if len(forms) != 1:
        candidates = [f"{form[0]} ({form[1]} x {form[2]})" for form in forms]
        raise ValueError(
            f"{name}: found frames of {values.shape[1]} numbers, {_which_layout(candidates)}" + (f", not {layout!r}." if layout else ".")
        )
    found, num_points, channels = forms[0]
    if channels == "visibility":
        body = values[:, : 33 * 4].reshape(-1, 33, 4)
        points = np.concatenate([body[..., :3], values[:, 33 * 4 :].reshape(-1, num_points - 33, 3)], axis=1)
        if confidence is None:
            confidence = _seen(points, None, found).astype(np.float32)
            confidence[:, :33] *= np.where(body[..., 3] > 0, body[..., 3], 0)
        return points, confidence, found
    if channels == "counter":
        return values[:, :150].reshape(-1, 50, 3), confidence, found
    return values.reshape(-1, num_points, channels), confidence, found


# --- .skels -----------------------------------------------------------------------------------------------------------------------------


def read_skels(path, fps=None):
    """All clips of a `.skels` file of Progressive Transformers: one line for each, 151 numbers for each frame.

    Args:
        fps: frames a second of the corpus (25 for PHOENIX14T); the file does not say.

    Returns:
        list of `KeypointClip` of layout `skels50`, in the file's order, which is that of its `.files`, `.text` and `.gloss`.
    """
    clips = []
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            name = f"{path}, line {number}"
            try:
                values = np.array(line.split(), np.float32)
            except ValueError as error:
                raise ValueError(f"{name}: {error}, expected numbers.") from error
            if len(values) == 0 or len(values) % 151:
                raise ValueError(f"{name}: found {len(values)} numbers, expected 151 for each frame: 50 x 3 and a counter.")
            clips.append(clip_from_array(values.reshape(-1, 151), layout="skels50", fps=fps, name=name))
    if not clips:
        raise ValueError(f"{path}: an empty file, expected a line for each clip.")
    return clips


def _read_one_skel(path, layout, width, height, fps):
    clips = read_skels(path, fps)
    if len(clips) > 1:
        raise ValueError(f"{path}: {len(clips)} clips, one a line, expected one. read_skels(path) returns them all.")
    return _with_given(clips[0], path, layout, width, height, fps)


_READERS = {".json": _read_json, ".pose": _read_pose, ".npy": _read_npy, ".npz": _read_npz, ".skels": _read_one_skel}


# --- What every clip passes -------------------------------------------------------------------------------------------------------------


def _seen(keypoints, confidence, layout):
    """(T, K) bool: finite, with a confidence above 0; where there is none, not the zero that says "not seen"."""
    finite = np.isfinite(keypoints)
    whole = finite.all()
    seen = np.ones(keypoints.shape[:2], bool) if whole else finite.all(-1)
    if confidence is not None:
        return seen & (confidence > 0)
    source = get_source_layout(layout)
    if source.missing == "zero" or (source.image and whole):
        seen &= (keypoints != 0).any(-1)
    return seen


def _clip(keypoints, confidence, layout, wanted, fps, width, height, name):
    """`KeypointClip` of what a file held, after the checks that all of them share."""
    if wanted not in (None, layout):
        get_source_layout(wanted)
        raise ValueError(f"{name}: its points are in layout {layout!r}, not in layout={wanted!r}.")
    if len(keypoints) == 0:
        raise ValueError(f"{name}: found 0 frames, expected at least 1.")
    for key, value in (("fps", fps), ("width", width), ("height", height)):
        if value is not None and not (np.isfinite(value) and value > 0):
            raise ValueError(f"{name}: {key}={value} must be above 0, or None where it is not known.")
    seen = _seen(keypoints, confidence, layout)
    if not seen.any():
        raise ValueError(f"{name}: nobody is seen in any of its {len(keypoints)} frames.")
    if get_source_layout(layout).image and not (width and height) and _is_relative(keypoints, seen):
        raise ValueError(
            f"{name}: its coordinates are relative to the image (0..1), so x and y have different units. Pass width and height of the "
            "image; where only their ratio is known, that (width=16, height=9)."
        )
    confidence = seen.astype(np.float32) if confidence is None else np.fmax(confidence, 0, dtype=np.float32) * seen  # fmax: no NaN
    return KeypointClip(keypoints.astype(np.float32, copy=False), confidence, layout, fps, width, height)


def _is_relative(keypoints, seen):
    frames = np.flatnonzero(seen.any(1))
    frames = frames[:: len(frames) // 8 + 1]  # a few frames tell as much as all
    return np.median(np.abs(keypoints[frames, :, :2][seen[frames]])) <= RELATIVE_LIMIT


def _with_given(clip, path, layout, width, height, fps):
    return _clip(clip.keypoints, clip.confidence, clip.layout, layout, fps or clip.fps, width or clip.width, height or clip.height, path)
