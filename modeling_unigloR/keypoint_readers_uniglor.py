"""Keypoint files of other tools, read into one form: `read_keypoints(path)` -> `KeypointClip`.

A clip holds what the file says, in the file's units; `KeypointProcessor` puts it into a model's layout:

    clip = read_keypoints("clip.pose")
    processed = KeypointProcessor().process(clip)

Pickles are never loaded: arrays that contain one are refused. Only regular files are read, within the limits of `limits_uniglor`.

Shapes: T frames, K keypoints of the source layout, C channels (x, y or x, y, z), N people over all frames.
"""

import errno
import json
import os
import re
import stat
import struct
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np

from .keypoint_clip_uniglor import KeypointClip, detections_over_time, looks_relative, surest
from .keypoints_uniglor import LAYOUTS, POSE178_MESH, SOURCE_LAYOUTS, get_source_layout
from .limits_uniglor import (
    MAX_ARCHIVE_BYTES,
    MAX_ARCHIVE_MEMBERS,
    MAX_CLIP_COORDINATES,
    MAX_CLIP_SECONDS,
    MAX_FILE_BYTES,
    MAX_MISSING_FRAMES,
    MAX_PEOPLE,
    MAX_TEXT_BYTES,
    MAX_TEXT_VALUES,
    brief,
    check_fps,
    check_image,
    check_length,
    short,
)

VIDEO_SUFFIXES = (".mp4", ".mov", ".avi", ".webm", ".mkv")

# Layouts of estimators that work in the image plane: where their arrays have a third channel, it is the confidence.
SCORED_LAYOUTS = ("openpose137", "openpose18", "openpose67", "wholebody133")

# Names of keypoints and of their confidence in .npz and .json files and in dicts; the first one that exists is used.
KEYPOINT_KEYS = ("keypoints", "poses", "pose", "landmarks", "data")
CONFIDENCE_KEYS = ("confidence", "scores", "keypoint_scores", "score", "conf")

# What reads one kind of file: (path, layout, width) -> the clip as the file holds it.
Reader = Callable[[Path, str | None, float | None], KeypointClip]


def read_keypoints(
    path: str | os.PathLike,
    layout: str | None = None,
    width: int | None = None,
    height: int | None = None,
    fps: float | None = None,
) -> KeypointClip:
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
        ValueError: another kind of file, a broken or empty one, nobody seen in it, an ambiguous or other layout, coordinates
            relative to an image of unknown size, or more than the limits of `limits_uniglor`; it names the file. Nothing in a
            file leads to another exception.
        OSError: the machine cannot read any file just now, or PermissionError: the same call may succeed later.
        ImportError: a package that reads this kind of file is not installed.
    """
    try:
        path = Path(path)
    except TypeError as error:
        raise ValueError(f"Found path={short(path)}, expected a str or a path.") from error
    try:
        return _read(path, layout, width, height, fps)
    except (FileNotFoundError, ImportError):
        raise
    except OSError as error:
        if error.errno not in _PATH_ERRORS:
            raise
        raise ValueError(f"{path}: {error.strerror}. Expected a file of keypoints, or the folder of a clip.") from error
    except MemoryError as error:
        raise ValueError(f"{path}: does not fit into memory ({_size_of(path):,} bytes in the file). Cut the clip.") from error
    except ValueError as error:
        if type(error) is ValueError and str(path) in str(error):
            raise
        raise ValueError(f"{path}: {error}") from error
    except Exception as error:  # the reader did not expect it: one broken file must not stop a program that reads many
        raise ValueError(
            f"{path}: cannot be read ({type(error).__name__}: {brief(error)}). Expected a whole file, as its tool writes it."
        ) from error


# One file is at fault: a folder where a file was expected, a loop of links, a socket, a name that is too long, a part that cannot be read.
_PATH_ERRORS = {errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.ENXIO, errno.ENAMETOOLONG, errno.EINVAL, errno.ENODEV, errno.EIO}


def _size_of(path: Path) -> int:
    return sum(entry.stat().st_size for entry in os.scandir(path)) if path.is_dir() else path.stat().st_size


def _read(path: Path, layout: str | None, width: float | None, height: float | None, fps: float | None) -> KeypointClip:
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist.")
    check_fps(fps, path)
    check_image(path, width=width, height=height)
    return _checked(_reader_of(path)(path, layout, width), layout, width, height, fps)


def _reader_of(path: Path) -> Reader:
    """The reader of files of this kind."""
    suffix = path.suffix.lower()
    if path.is_dir():
        return _read_openpose_dir
    _check_regular(os.stat(path), path)  # before anything opens it: a FIFO would wait, a device may act
    if suffix in VIDEO_SUFFIXES:
        return _read_video
    if suffix in _READERS:
        return _READERS[suffix]
    if suffix in (".pkl", ".pickle", ".pt", ".gz", ".pth"):
        raise ValueError(
            f"{path}: a pickle can run any code, so none is loaded here. Convert it once: python -m datasets_scripts.convert_pickle FILE"
        )
    raise ValueError(
        f"{path}: unknown kind of keypoint file. Expected a folder of OpenPose *_keypoints.json, {', '.join(_READERS)}, "
        f"or a video ({', '.join(VIDEO_SUFFIXES)})."
    )


def _read_video(path: Path, layout: str | None, width: float | None) -> KeypointClip:
    from .video_extraction_uniglor import extract_video

    return extract_video(path)


# --- Files ------------------------------------------------------------------------------------------------------------------------------

# Without O_NONBLOCK, opening a FIFO that took the file's place meanwhile would wait for ever; O_BINARY is of Windows.
_READ_ONLY = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
_KINDS = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}


def open_regular(path: str | os.PathLike) -> tuple[int, int]:
    """A descriptor of a regular file, and its size in bytes.

    Raises:
        ValueError: a folder, FIFO, socket or device.
    """
    descriptor = os.open(path, _READ_ONLY)
    try:
        status = os.fstat(descriptor)
        _check_regular(status, path)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor, status.st_size


def _check_regular(status: os.stat_result, path: str | os.PathLike) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"{path}: found {_KINDS.get(stat.S_IFMT(status.st_mode), 'something else')}, expected a regular file.")


def file_bytes(path: str | os.PathLike, most: int = MAX_FILE_BYTES) -> bytes:
    """All of a regular file.

    Raises:
        ValueError: no regular file, or one of more than `most` bytes.
    """
    descriptor, size = open_regular(path)
    if size > most:
        os.close(descriptor)
        raise ValueError(_TOO_LONG.format(path, most >> 20))
    return _content(descriptor, path, most, size + 1)


def _content(descriptor: int, path: str | os.PathLike, most: int, first: int = 1 << 16) -> bytes:
    """What open(path, "rb").read() gives, in half its time: of thousands of small files that is a fifth of all. Closes the descriptor."""
    try:
        content = os.read(descriptor, first)
        if len(content) >= 1 << 16:  # there may be more
            parts, size = [content], len(content)
            while size <= most and (more := os.read(descriptor, 1 << 20)):
                parts.append(more)
                size += len(more)
            content = parts[0] if len(parts) == 1 else b"".join(parts)
    finally:
        os.close(descriptor)
    if len(content) > most:
        raise ValueError(_TOO_LONG.format(path, most >> 20))
    return content


_TOO_LONG = "{}: more than {:,} MB, which is the most that is read of such a file. Cut the clip."


# --- OpenPose and other JSON ------------------------------------------------------------------------------------------------------------

_OPENPOSE_PARTS = {"pose_keypoints": 75, "face_keypoints": 210, "hand_left_keypoints": 63, "hand_right_keypoints": 63}  # x, y, confidence
_OPENPOSE_NAMES = [f"{part}_2d" for part in _OPENPOSE_PARTS]  # since version 1.3
_OPENPOSE_BYTES = 8 * sum(_OPENPOSE_PARTS.values())
_BODY, _OLD_BODY = 75, 54  # numbers of the bodies of 25 and of 18 points
_OPENPOSE_SUFFIX = "_keypoints.json"
_DETECTIONS_HELD = 4096  # as doubles, before they become floats: 13 MB


def _read_openpose_dir(path: Path, layout: str | None, width: float | None) -> KeypointClip:
    numbers: dict[int, os.DirEntry[str]] = {}
    for entry in os.scandir(path):
        name = entry.name
        stem = name.removesuffix(_OPENPOSE_SUFFIX)
        digits = stem[len(stem.rstrip("0123456789")) :]
        if stem is name or not digits or name[0] == ".":  # a leading dot: what other systems leave beside a file
            continue
        number = int(digits)
        if number in numbers:
            raise ValueError(f"{path}: {numbers[number].name} and {name} are both frame {number}. Expected one clip in a folder.")
        if not entry.is_file():  # known from the listing, where it is no link
            _check_regular(os.stat(entry.path), entry.path)
        numbers[number] = entry
    if not numbers:
        inside = sorted(os.listdir(path))
        others = f"{len(inside)} other entries, such as {inside[0]!r}" if inside else "nothing"
        raise ValueError(f"{path}: no <number>_keypoints.json of OpenPose in this folder, found {others}. Expected the folder of one clip.")
    frames = sorted(numbers)
    check_numbers(frames, path, f"from {numbers[frames[0]].name} to {numbers[frames[-1]].name}")
    files = [numbers[number].path for number in frames]
    return _openpose_clip(files, frames, path, width)


def check_numbers(numbers: Sequence[int], name: object, where: str) -> None:
    """Checks the ascending frame numbers of a clip before the frames that are not there get their place."""
    num_frames = numbers[-1] - numbers[0] + 1
    if num_frames - len(numbers) > MAX_MISSING_FRAMES:
        raise ValueError(
            f"{name}: {where} there are {num_frames - len(numbers):,} frames without a file, expected at most {MAX_MISSING_FRAMES:,} in a "
            "clip. Are they frames of one clip?"
        )
    check_length(num_frames, 0, name)


def _read_json(path: Path, layout: str | None, width: float | None) -> KeypointClip:
    content = _parse_json(file_bytes(path, MAX_TEXT_BYTES), path)
    if isinstance(content, dict) and "people" in content:
        return _openpose_clip([path], [0], path, width)
    frames = content.get("instance_info") if isinstance(content, dict) else content
    if isinstance(frames, list) and frames and all(isinstance(frame, dict) and "instances" in frame for frame in frames):
        return _mmpose_clip(frames, path, layout, width)
    if isinstance(content, dict):
        return _clip_of_arrays(content, layout, width, str(path))
    raise ValueError(
        f"{path}: JSON of another kind (a {type(content).__name__}). Expected OpenPose's 'people', MMPose's 'instance_info', or an object "
        f"with {' or '.join(map(repr, KEYPOINT_KEYS[:2]))} and {CONFIDENCE_KEYS[1]!r}."
    )


def _parse_json(content: bytes, path: str | os.PathLike) -> Any:
    if len(content) > MAX_TEXT_VALUES:  # else it cannot hold so many
        num_values = sum(content.count(sign) for sign in b",[{")
        if num_values > MAX_TEXT_VALUES:
            raise ValueError(f"{path}: {num_values:,} values, expected at most {MAX_TEXT_VALUES:,} in a JSON file. Cut the clip.")
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not a whole JSON file ({brief(error)}).") from error


def _openpose_clip(
    files: Sequence[str | os.PathLike], numbers: Sequence[int], name: str | os.PathLike, width: float | None
) -> KeypointClip:
    """One clip from files of one frame each, whose frame numbers are ascending."""
    try:
        from simdjson import Parser  # not needed: four times as fast

        parser = Parser()
    except ImportError:
        parser = None
    detections: list[bytes] = []
    arrays: list[np.ndarray] = []
    owner: list[int] = []
    body_sizes: set[int] = set()
    num_bytes = 0
    for place, path in enumerate(files):
        content = _content(os.open(path, _READ_ONLY), path, MAX_TEXT_BYTES)
        num_bytes += len(content)
        people = None if parser is None else _usual_people(parser, content)
        if people is None:
            people = _any_people(content, path, body_sizes)
        elif people:
            body_sizes.add(_BODY)
        if len(people) > MAX_PEOPLE:
            people = [people[index] for index in surest(_as_floats(people)[..., 2])]
        detections += people
        owner += [place] * len(people)
        if len(detections) >= _DETECTIONS_HELD:
            arrays.append(_as_floats(detections))
            detections = []
            check_length(place + 1, len(owner) * 137 * 2, f"{name}, {len(owner):,} people in all")
            if num_bytes > MAX_FILE_BYTES:
                raise ValueError(f"{name}: more than {MAX_FILE_BYTES >> 20:,} MB, which is the most that is read of a clip. Cut it.")
    if len(body_sizes) > 1:
        raise ValueError(f"{name}: bodies of {' and '.join(str(size // 3) for size in sorted(body_sizes))} points, expected one kind.")
    arrays.append(_as_floats(detections))
    points = np.concatenate(arrays) if len(arrays) > 1 else arrays[0]  # (N, 137, 3)
    layout = "openpose137"
    if body_sizes == {_OLD_BODY}:
        points, layout = np.delete(points, np.s_[18:25], axis=1), "openpose18"
    return KeypointClip(*detections_over_time(numbers, owner, points[..., :2], points[..., 2], width), layout, source=str(name))


def _as_floats(people: Sequence[bytes]) -> np.ndarray:
    """People of an OpenPose file, each as bytes of doubles -> (N, 137, 3) float32."""
    with np.errstate(over="ignore"):
        return np.frombuffer(b"".join(people), np.float64).astype(np.float32).reshape(-1, 137, 3)


def _usual_people(parser: Any, content: bytes) -> list[bytes] | None:
    """For each person of a file, 411 numbers as bytes of doubles; None where anything is not as OpenPose usually writes it.

    The numbers go straight into buffers: as Python's floats they would cost half of the time.
    """
    people = []
    try:
        for person in parser.parse(content)["people"]:
            people.append(b"".join([person[name].as_buffer(of_type="d") for name in _OPENPOSE_NAMES]))
            if len(people[-1]) != _OPENPOSE_BYTES:  # only all parts together have so many
                return None
    except Exception:  # the parser's own, too: what is wrong is said by the slower way, if anything is
        return None
    return people


def _any_people(content: bytes, path: str | os.PathLike, body_sizes: set[int]) -> list[bytes]:
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
            if not isinstance(values, list):
                raise ValueError(f"{path}: {part} is a {type(values).__name__}, expected a list of {size} numbers.")
            if part == "pose_keypoints" and values:
                body_sizes.add(len(values))
                values = values + [0.0] * (size - _OLD_BODY) if len(values) == _OLD_BODY else values
            if values and len(values) != size:
                raise ValueError(f"{path}: {part} has {len(values)} numbers, expected {size}{' or 54' if size == _BODY else ''}.")
            numbers += values or [0.0] * size
        try:
            people.append(np.array(numbers, np.float64).tobytes())
        except (ValueError, TypeError, OverflowError) as error:
            raise ValueError(f"{path}: keypoints that are not numbers ({brief(error)}).") from error
    return people


def _mmpose_clip(frames: list[dict[str, Any]], path: Path, layout: str | None, width: float | None) -> KeypointClip:
    """MMPose's predictions of a video: frames with `frame_id` and `instances` of keypoints and keypoint_scores."""
    for frame in frames:
        number, instances = frame.get("frame_id", 0), frame["instances"]
        if not isinstance(number, int) or abs(number) > 2**53:
            raise ValueError(f"{path}: found frame_id={short(number)}, expected a whole number.")
        if not isinstance(instances, list) or not all(isinstance(person, dict) for person in instances):
            raise ValueError(f"{path}: frame {number} has instances={short(instances)}, expected a list of objects.")
    frames = sorted(frames, key=lambda frame: frame.get("frame_id", 0))
    numbers = [frame.get("frame_id", 0) for frame in frames]
    if len(set(numbers)) < len(numbers):
        raise ValueError(f"{path}: frame_id goes from {numbers[0]} to {numbers[-1]} in {len(numbers)} frames, expected each number once.")
    check_numbers(numbers, path, f"from frame_id {numbers[0]} to {numbers[-1]}")
    owner = [place for place, frame in enumerate(frames) for _ in frame["instances"]]
    people = [person for frame in frames for person in frame["instances"]]
    if not people:
        raise ValueError(f"{path}: nobody in any of {len(frames)} frames.")
    try:
        with np.errstate(over="ignore"):
            points = np.array([person["keypoints"] for person in people], np.float32)  # (N, K, 2)
            scores = np.array([person["keypoint_scores"] for person in people], np.float32)  # (N, K)
    except (KeyError, ValueError, TypeError, OverflowError) as error:
        problem = f"{type(error).__name__}: {brief(error)}"
        raise ValueError(f"{path}: an instance without whole keypoints and keypoint_scores ({problem}).") from error
    points, _, layout = _points_of(points, scores, layout, str(path))
    return KeypointClip(*detections_over_time(numbers, owner, points, scores, width), layout, source=str(path))


# --- .pose ------------------------------------------------------------------------------------------------------------------------------

_HOLISTIC = ("POSE_LANDMARKS", "FACE_LANDMARKS", "LEFT_HAND_LANDMARKS", "RIGHT_HAND_LANDMARKS")
_OPENPOSE = ("pose_keypoints_2d", "face_keypoints_2d", "hand_left_keypoints_2d", "hand_right_keypoints_2d")
_WHOLEBODY = ("BODY", "FACE", "LEFT_HAND", "RIGHT_HAND")
_RENDERED = ("POSE", "FACE", "LEFT_HAND", "RIGHT_HAND")  # what rendering_uniglor.to_pose writes: the parts of a layout of ours
_POSE_FILES: dict[
    tuple[str, ...], dict[tuple[int, ...], str]
] = {  # components of a header, in our order -> their numbers of points -> our layout
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
_POINT_NAMES: dict[
    str, dict[str, tuple[str, ...]]
] = {  # of components whose numbers of points do not tell them from those of other programs
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


_MAX_POSE_BYTES = 6 * MAX_CLIP_COORDINATES  # float32, and a confidence for each two or three of them
_MAX_HEADER_BYTES = 1 << 20  # names of points; a thousand of them take a hundredth


def _read_pose(path: Path, layout: str | None, width: float | None) -> KeypointClip:
    try:
        from pose_format.numpy import NumPyPoseBody
        from pose_format.pose_header import PoseHeader
        from pose_format.utils.reader import BufferReader
    except ImportError as error:
        raise ImportError(f"{path}: .pose files are read by pose-format: pip install pose-format") from error

    class PlainBody(NumPyPoseBody):
        """Keeps the arrays as they are: a mask costs more than the reading, and says no more than the confidence."""

        def __init__(self, fps: float, data: np.ndarray, confidence: np.ndarray) -> None:
            self.fps, self.data, self.confidence = fps, data, confidence

    content = file_bytes(path, _MAX_POSE_BYTES)
    try:
        start = BufferReader(memoryview(content)[:_MAX_HEADER_BYTES])
        header = PoseHeader.read(start)
    except Exception as error:  # pose-format raises whatever its struct and array calls raise
        raise ValueError(f"{path}: not a whole .pose file ({type(error).__name__}: {brief(error)}).") from error
    components = {component.name: component for component in header.components}
    family, own = _pose_file_layout(components, path)
    if header.num_dims() not in (2, 3):
        raise ValueError(f"{path}: points of {header.num_dims()} dimensions, expected x, y and maybe z.")
    try:
        if header.version == 0:  # the format's first version: its frames are read one by one
            num_frames = struct.unpack_from("<HH", content, start.read_offset)[1]
            check_length(num_frames, 8 * num_frames * header.total_points() * header.num_dims(), path)
        whole = BufferReader(content)
        whole.read_offset = start.read_offset
        body = PlainBody.read(header, whole)
    except ValueError as error:
        raise ValueError(f"{path}: not a whole .pose file ({brief(error)}).") from error
    except Exception as error:
        raise ValueError(f"{path}: not a whole .pose file ({type(error).__name__}: {brief(error)}).") from error
    data, confidence = (np.ma.getdata(values) for values in (body.data, body.confidence))  # (T, people, K, ...)
    order = _pose_file_order(components, family)
    data, confidence = data[:, :, order], confidence[:, :, order]
    num_frames, num_people = confidence.shape[:2]
    check_length(num_frames, data.size, path)
    if num_frames == 0 or num_people == 0:
        raise ValueError(f"{path}: found {num_frames} frames of {num_people} people, expected at least one of each.")
    if num_people == 1:
        keypoints, confidence = data[:, 0], confidence[:, 0]
    else:
        frames, people = np.nonzero((confidence > 0).any(-1))
        keypoints, confidence = detections_over_time(
            range(num_frames), frames, data[frames, people], confidence[frames, people], header.dimensions.width
        )
    size = header.dimensions
    return KeypointClip(
        keypoints[..., :3], confidence, own, float(body.fps) or None, int(size.width) or None, int(size.height) or None, source=str(path)
    )


def _pose_file_layout(components: Mapping[str, Any], path: Path) -> tuple[tuple[str, ...], str]:
    """The names of the components that make up one of our source layouts, and the name of that layout."""
    family = next((names for names in _POSE_FILES if names[0] in components), ())
    sizes = tuple(len(components[name].points) if name in components else 0 for name in family)
    own = _POSE_FILES[family].get(sizes) if family else None
    if own is None or any(tuple(components[name].points) != points for name, points in _POINT_NAMES.get(own, {}).items()):
        have = ", ".join(f"{name} ({len(component.points)})" for name, component in components.items())
        raise ValueError(
            f"{path}: unknown points: {have}. Expected MediaPipe Holistic (whole, reduced to 178, or without the face), OpenPose, "
            "AlphaPose or COCO-WholeBody, as pose-format writes them, or what to_pose wrote."
        )
    return family, own


def _pose_file_order(components: Mapping[str, Any], family: tuple[str, ...]) -> slice | list[int]:
    """Where our points are among the file's, as a slice where they are the first of them, in order. World landmarks are left out."""
    starts = dict(zip(components, np.cumsum([0] + [len(component.points) for component in components.values()])))
    order = [starts[name] + index for name in family if name in components for index in range(len(components[name].points))]
    if family[0] in _TO_WHOLEBODY:
        order = [order[index] for index in _TO_WHOLEBODY[family[0]]]
    return slice(len(order)) if order == list(range(len(order))) else order


# --- Arrays -----------------------------------------------------------------------------------------------------------------------------


def clip_from_array(
    values: Any,
    confidence: Any = None,
    layout: str | None = None,
    width: float | None = None,
    height: float | None = None,
    fps: float | None = None,
    name: str = "array",
) -> KeypointClip:
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
    check_fps(fps, name)
    check_image(name, width=width, height=height)
    return _checked(_clip_of_array(values, confidence, layout, width, name), layout, width, height, fps)


def _clip_of_array(values: Any, confidence: Any, layout: str | None, width: float | None, name: str) -> KeypointClip:
    if layout is not None:
        get_source_layout(layout)
    if _has_people(values):
        return _clip_of_people(values, confidence, layout, width, name)
    values = _numbers(values, "keypoints", name)
    confidence = None if confidence is None else _numbers(confidence, "confidence", name)
    return KeypointClip(*_points_of(values, confidence, layout, name), source=name)


def _has_people(values: Any) -> bool:
    try:
        return len(values) > 0 and np.ndim(values[0]) == 3
    except Exception:  # no sequence, or ragged: what is wrong is said where it is read
        return False


def _clip_of_people(values: Any, confidence: Any, layout: str | None, width: float | None, name: str) -> KeypointClip:
    check_length(len(values), 0, name)
    frames = [_numbers(frame, "keypoints", name) for frame in values]
    if {frame.ndim for frame in frames} != {3}:
        raise ValueError(f"{name}: frames of shapes {short([frame.shape for frame in frames])}, expected (people, keypoints, 2 or 3).")
    check_length(len(frames), sum(frame.size for frame in frames), name)
    owner = [number for number, frame in enumerate(frames) for _ in frame]
    if confidence is not None:
        try:
            confidence = [_numbers(frame, "confidence", name) for frame in confidence]
        except TypeError as error:
            raise ValueError(f"{name}: found confidence {short(confidence)}, expected (people, keypoints) for each frame.") from error
        if [frame.shape[:1] for frame in confidence] != [frame.shape[:1] for frame in frames]:
            raise ValueError(f"{name}: keypoints and confidence differ in frames or in people, expected one confidence for each point.")
    try:
        people = np.concatenate(frames)
        confidence = None if confidence is None else np.concatenate(confidence)
    except ValueError as error:
        raise ValueError(f"{name}: frames of different keypoints ({error}).") from error
    people, confidence, layout = _points_of(people, confidence, layout, name)
    confidence = _seen(people, confidence, layout).astype(np.float32) if confidence is None else confidence
    return KeypointClip(*detections_over_time(range(len(frames)), owner, people, confidence, width), layout, source=name)


def clip_from_arrays(
    arrays: Any,
    layout: str | None = None,
    width: float | None = None,
    height: float | None = None,
    fps: float | None = None,
    name: str = "arrays",
) -> KeypointClip:
    """A clip from a mapping that holds keypoints, and maybe confidence, fps, width, height and layout (an .npz file, a dict)."""
    check_fps(fps, name)
    check_image(name, width=width, height=height)
    return _checked(_clip_of_arrays(arrays, layout, width, name), layout, width, height, fps)


def _clip_of_arrays(arrays: Any, layout: str | None, width: float | None, name: str) -> KeypointClip:
    if not hasattr(arrays, "keys"):
        raise ValueError(f"{name}: found {short(arrays)}, expected a mapping with keypoints.")
    keypoints, scores = _keypoints_and_scores(list(arrays), name)
    own = {key: _one_number(arrays[key], key, name) for key in ("width", "height", "fps") if key in arrays}
    check_image(name, **{key: own.get(key) or None for key in ("width", "height")})
    own_width, own_height = (int(side) if (side := own.get(key)) else None for key in ("width", "height"))
    layout = layout or (str(arrays["layout"]) if "layout" in arrays else None)
    clip = _clip_of_array(arrays[keypoints], arrays[scores] if scores else None, layout, width or own_width, name)
    return replace(clip, fps=own.get("fps"), width=own_width, height=own_height)


def _keypoints_and_scores(names: Sequence[str], name: str | os.PathLike) -> tuple[str, str | None]:
    """The names of the keypoints and of the confidence (or None)."""
    keypoints = next((key for key in KEYPOINT_KEYS if key in names), None)
    if keypoints is None and len(names) == 1:
        keypoints = names[0]
    if keypoints is None:
        inside = sorted(map(str, names))
        more = f" and {len(inside) - 10} more" if len(inside) > 10 else ""
        raise ValueError(f"{name}: found {inside[:10]}{more}, expected keypoints under one of the names {', '.join(KEYPOINT_KEYS)}.")
    return keypoints, next((key for key in CONFIDENCE_KEYS if key in names), None)


def _one_number(value: Any, key: str, name: str) -> float | None:
    """A number that stands alone or in an array, None where it is null."""
    try:
        return None if value is None else float(np.ravel(value)[0])
    except (ValueError, TypeError, IndexError, OverflowError) as error:
        raise ValueError(f"{name}: found {key}={short(value)}, expected a number.") from error


def _read_npy(path: Path, layout: str | None, width: float | None) -> KeypointClip:
    return _clip_of_array(_read_numpy(path, False), None, layout, width, str(path))


def _read_npz(path: Path, layout: str | None, width: float | None) -> KeypointClip:
    loaded = _read_numpy(path, True)
    if isinstance(loaded, dict):
        return _clip_of_arrays(loaded, layout, width, str(path))
    return _clip_of_array(loaded, None, layout, width, str(path))


def _read_numpy(path: Path, several: bool) -> np.ndarray | dict[str, np.ndarray]:
    """The array of an .npy file, or the dict of those of an .npz file."""
    loaded: np.ndarray | dict[str, np.ndarray]
    descriptor, size = open_regular(path)
    with os.fdopen(descriptor, "rb") as file:
        start = file.read(4)
        file.seek(0)
        try:
            if not start.startswith(b"PK"):
                if start and not b"\x93NUMPY".startswith(start):  # what NumPy, too, takes for a pickle
                    raise ValueError(_PICKLED.format(path))
                loaded = _read_array(file, size, path)
            elif several:
                loaded = _archived_arrays(file, path)
            else:
                raise ValueError("a .npz file by another name, expected one array")
        except Exception as error:  # what a broken file raises depends on where it broke
            if str(path) in str(error):
                raise
            problem = brief(error) if type(error) is ValueError else f"{type(error).__name__}: {brief(error)}"
            raise ValueError(f"{path}: not a whole NumPy file ({problem}).") from error
    return loaded


def _archived_arrays(file: BinaryIO, path: Path) -> dict[str, np.ndarray]:
    """The arrays of an open .npz file that make up a clip; other arrays are not read."""
    arrays: dict[str, np.ndarray] = {}
    total = 0
    with zipfile.ZipFile(_BoundedReads(file)) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        if len(members) > MAX_ARCHIVE_MEMBERS:
            raise ValueError(f"{path}: {len(members):,} arrays, expected at most {MAX_ARCHIVE_MEMBERS:,} in an .npz file.")
        keypoints, scores = _keypoints_and_scores(list(members), path)
        for key in {keypoints, scores or keypoints, "width", "height", "fps", "layout"} & set(members):
            info = members[key]
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError(f"{key} is packed by method {info.compress_type}, expected stored or deflated, as NumPy writes it")
            total += info.file_size
            if total > MAX_ARCHIVE_BYTES:
                raise ValueError(f"{path}: {total >> 20:,} MB unpacked, expected at most {MAX_ARCHIVE_BYTES >> 20:,} MB. Cut the clip.")
            with archive.open(info) as member:
                arrays[key] = _read_array(member, info.file_size, path)
    return arrays


class _BoundedReads:
    """A file that refuses long reads: zipfile reads the table of an archive at once, however long the archive claims that it is."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.seek, self.tell, self.seekable = file, file.seek, file.tell, file.seekable

    def read(self, size: int = -1) -> bytes:
        content = self._file.read(size if 0 <= size <= _MAX_READ_BYTES else _MAX_READ_BYTES + 1)
        if len(content) > _MAX_READ_BYTES:
            raise ValueError(f"its table of members is longer than {_MAX_READ_BYTES >> 20} MB")
        return content


def _read_array(file: IO[bytes], size: int, path: Path) -> np.ndarray:
    """The array of an open .npy file of so many bytes, after its header was checked: it may ask for any amount of memory."""
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"version {version} of the format, expected 1 or 2: a plain array")
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, by_columns, dtype = read_header(file, max_header_size=10_000)
    if dtype.hasobject:
        raise ValueError(_PICKLED.format(path))
    count = 1
    for side in shape:
        count *= side
    num_bytes, there = count * dtype.itemsize, size - file.tell()
    if dtype.kind not in "fiub" and not (dtype.kind in "US" and num_bytes <= _MAX_STRING_BYTES):  # a layout's name is a string
        raise ValueError(f"{path}: found an array of type {short(str(dtype))}, expected numbers.")
    check_length(shape[0] if shape else 0, count * max(dtype.itemsize // 8, 1) if dtype.kind in "fiub" else 0, path)
    if num_bytes > there:
        raise ValueError(f"its header speaks of {num_bytes:,} bytes, {there:,} are there")
    values = np.frombuffer(bytearray(file.read(num_bytes)), dtype, count) if num_bytes else np.zeros(count, dtype)
    return values.reshape(shape[::-1]).T if by_columns else values.reshape(shape)


_MAX_READ_BYTES = 4 << 20
_MAX_STRING_BYTES = 1 << 20
_PICKLED = (
    "{}: not plain numbers but pickled objects, which are not loaded, since a pickle can run any code. "
    "Save the keypoints as an array of numbers (T, K, 2 or 3)."
)


def _numbers(values: Any, what: str, name: str) -> np.ndarray:
    try:
        values = np.asarray(values)
        if values.dtype.kind in "cmMV":
            raise TypeError(f"found the type {values.dtype}")
        with np.errstate(over="ignore"):  # what float32 cannot hold is a point that is not seen
            return values.astype(np.float32, copy=False)
    except Exception as error:  # of a stranger's object, anything
        raise ValueError(f"{name}: {what} are not one array of numbers ({brief(error)}).") from error


def _points_of(
    values: np.ndarray, confidence: np.ndarray | None, layout: str | None, name: str
) -> tuple[np.ndarray, np.ndarray | None, str]:
    """-> keypoints (T, K, 2 or 3), confidence (T, K) or None, layout, from any of the shapes of `clip_from_array`."""
    check_length(len(values) if values.ndim else 0, values.size, name)
    if confidence is not None and confidence.ndim == 3 and confidence.shape[2] == 1:
        confidence = confidence[..., 0]
    if values.ndim == 2:
        values, confidence, layout_name = _unflatten(values, confidence, layout, name)
    elif values.ndim == 3 and values.shape[2] in (2, 3):
        candidates = [candidate for candidate, source in SOURCE_LAYOUTS.items() if values.shape[1] in source.blocks]
        if layout not in candidates and (layout is not None or len(candidates) != 1):
            raise ValueError(
                f"{name}: found {values.shape[1]} keypoints, {_which_layout(candidates)}"
                + (f", not {layout!r}." if layout is not None else ".")
            )
        layout_name = layout or candidates[0]
    else:
        several = values.ndim == 3 and _flat_forms(values.shape[2], layout)
        raise ValueError(
            f"{name}: found keypoints of shape {values.shape}, expected (frames, keypoints, 2 or 3) or (frames, numbers). "
            + ("Are they several clips in one array? Give each to clip_from_array." if several else "")
        )
    if values.shape[2] == 3 and confidence is None and layout_name in SCORED_LAYOUTS and not (values[..., 2] < 0).any():
        values, confidence = values[..., :2], values[..., 2]
    if confidence is not None and confidence.shape != values.shape[:2]:
        raise ValueError(f"{name}: found confidence of shape {confidence.shape}, expected {values.shape[:2]} like the keypoints.")
    return values, confidence, layout_name


def _which_layout(candidates: Sequence[str]) -> str:
    return f"which may be {' or '.join(candidates)}: pass layout=" if candidates else f"expected those of {', '.join(SOURCE_LAYOUTS)}"


def _flat_forms(size: int, layout: str | None) -> list[tuple[str, int, int | str]]:
    """[(layout, K, C)] that rows of `size` numbers may be; C is "visibility" for a Holistic pose of four channels."""
    forms: list[tuple[str, int, int | str]] = []
    for candidate in [layout] if layout else SOURCE_LAYOUTS:
        for num_points, blocks in SOURCE_LAYOUTS[candidate].blocks.items():
            forms += [(candidate, num_points, channels) for channels in (2, 3) if num_points * channels == size]
            if candidate in ("mediapipe75", "mediapipe543") and num_points * 3 + blocks[0][1] == size:
                forms.append((candidate, num_points, "visibility"))
    if size == 151 and layout in (None, "skels50"):  # with the counter that .skels files have
        forms.append(("skels50", 50, "counter"))
    return forms


def _unflatten(
    values: np.ndarray, confidence: np.ndarray | None, layout: str | None, name: str
) -> tuple[np.ndarray, np.ndarray | None, str]:
    forms = _flat_forms(values.shape[1], layout)
    if len(forms) != 1:
        candidates = [f"{form[0]} ({form[1]} x {form[2]})" for form in forms]
        raise ValueError(
            f"{name}: found frames of {values.shape[1]} numbers, {_which_layout(candidates)}" + (f", not {layout!r}." if layout else ".")
        )
    layout_name, num_points, channels = forms[0]
    if channels == "visibility":
        body = values[:, : 33 * 4].reshape(-1, 33, 4)
        points = np.concatenate([body[..., :3], values[:, 33 * 4 :].reshape(-1, num_points - 33, 3)], axis=1)
        if confidence is None:
            confidence = _seen(points, None, layout_name).astype(np.float32)
            confidence[:, :33] *= np.where(body[..., 3] > 0, body[..., 3], 0)
        return points, confidence, layout_name
    if channels == "counter":
        return values[:, :150].reshape(-1, 50, 3), confidence, layout_name
    return values.reshape(-1, num_points, int(channels)), confidence, layout_name


# --- .skels -----------------------------------------------------------------------------------------------------------------------------


def read_skels(path: str | os.PathLike, fps: float | None = None) -> list[KeypointClip]:
    """All clips of a `.skels` file of Progressive Transformers: one line for each, 151 numbers for each frame.

    Args:
        fps: frames a second of the corpus (25 for PHOENIX14T); the file does not say.

    Returns:
        list of `KeypointClip` of layout `skels50`, in the file's order, which is that of its `.files`, `.text` and `.gloss`.
    """
    clips: list[KeypointClip] = []
    total = 0
    descriptor, _ = open_regular(path)
    with os.fdopen(descriptor, "rb") as file:
        while line := file.readline(MAX_TEXT_BYTES + 1):
            clips.append(clip_from_skels(line, fps, f"{path}, line {len(clips) + 1}"))
            total += clips[-1].keypoints.size
            if total > 4 * MAX_CLIP_COORDINATES:
                raise ValueError(f"{path}: more than {4 * MAX_CLIP_COORDINATES:,} coordinates. Read its lines one by one: clip_from_skels.")
    if not clips:
        raise ValueError(f"{path}: an empty file, expected a line for each clip.")
    return clips


def clip_from_skels(line: bytes, fps: float | None = None, name: str = "line") -> KeypointClip:
    """A clip from one line of a `.skels` file, as bytes."""
    check_fps(fps, name)
    return _checked(_clip_of_skels(line, name), None, None, None, fps)


def _clip_of_skels(line: bytes, name: str) -> KeypointClip:
    if len(line) > MAX_TEXT_BYTES:
        raise ValueError(f"{name}: more than {MAX_TEXT_BYTES >> 20:,} MB, which is the most that is read of a line. Cut the clip.")
    parts, start = [], 0
    try:
        with np.errstate(over="ignore"):
            while start < len(line):  # a part of it at a time: as Python's strings, the numbers take twenty times as much
                gap = _SPACE.search(line, start + (1 << 20))
                stop = gap.start() if gap else len(line)
                parts.append(np.array(line[start:stop].split(), np.float32))
                start = stop
    except ValueError as error:
        raise ValueError(f"{name}: {brief(error)}, expected numbers.") from error
    values = np.concatenate(parts) if parts else np.zeros(0, np.float32)
    if len(values) == 0 or len(values) % 151:
        raise ValueError(f"{name}: found {len(values)} numbers, expected 151 for each frame: 50 x 3 and a counter.")
    return _clip_of_array(values.reshape(-1, 151), None, "skels50", None, name)


_SPACE = re.compile(rb"\s")


def _read_one_skel(path: Path, layout: str | None, width: float | None) -> KeypointClip:
    descriptor, _ = open_regular(path)
    with os.fdopen(descriptor, "rb") as file:
        line = file.readline(MAX_TEXT_BYTES + 1)
        more = 0
        while len(line) <= MAX_TEXT_BYTES and (after := file.readline(1 << 20)):
            more += after.endswith(b"\n") or len(after) < 1 << 20
    if not line:
        raise ValueError(f"{path}: an empty file, expected a line for each clip.")
    if more:
        raise ValueError(f"{path}: {more + 1} clips, one a line, expected one. read_skels(path) returns them all.")
    return _clip_of_skels(line, f"{path}, line 1")


_READERS = {".json": _read_json, ".pose": _read_pose, ".npy": _read_npy, ".npz": _read_npz, ".skels": _read_one_skel}


# --- Checks of every clip ----------------------------------------------------------------------------------------------------------------


def _seen(keypoints: np.ndarray, confidence: np.ndarray | None, layout: str | None) -> np.ndarray:
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


def _checked(clip: KeypointClip, layout: str | None, width: float | None, height: float | None, fps: float | None) -> KeypointClip:
    """The clip of a reader, after the checks that all readers share.

    Args:
        layout: the one that is expected, or None.
        width, height, fps: used instead of the file's own values; None keeps those.
    """
    if layout not in (None, clip.layout):
        get_source_layout(layout)
        raise ValueError(f"{clip.name}: its points are in layout {clip.layout!r}, not in layout={layout!r}.")
    clip = replace(clip, fps=fps or clip.fps, width=width or clip.width, height=height or clip.height)
    keypoints, confidence = clip.keypoints, clip.confidence
    if len(keypoints) == 0:
        raise ValueError(f"{clip.name}: found 0 frames, expected at least 1.")
    check_length(len(keypoints), keypoints.size, clip.name)
    check_fps(clip.fps, clip.name)
    check_image(clip.name, width=clip.width, height=clip.height)
    if clip.fps and len(keypoints) / clip.fps > MAX_CLIP_SECONDS:
        raise ValueError(
            f"{clip.name}: {len(keypoints):,} frames at {clip.fps:g} a second last {len(keypoints) / clip.fps / 3600:.1f} hours, expected "
            f"at most {MAX_CLIP_SECONDS / 3600:g} in one clip. Cut it, or pass its frame rate."
        )
    seen = _seen(keypoints, confidence, clip.layout)
    if not seen.any():
        raise ValueError(f"{clip.name}: nobody is seen in any of its {len(keypoints)} frames.")
    if get_source_layout(clip.layout).image and clip.relative is None and not (clip.width and clip.height):
        if looks_relative(keypoints, seen):
            raise ValueError(
                f"{clip.name}: its coordinates are relative to the image (0..1), so x and y have different units. Pass width and height "
                "of the image; where only their ratio is known, that (width=16, height=9)."
            )
        clip.relative = False
    if confidence is None:
        confidence = seen.astype(np.float32)
    else:
        with np.errstate(invalid="ignore"):
            confidence = np.fmax(confidence, 0, dtype=np.float32) * seen  # fmax: no NaN
        if not confidence.max() < np.inf:
            raise ValueError(f"{clip.name}: found a confidence that is infinite, expected finite numbers.")
    return replace(clip, keypoints=keypoints.astype(np.float32, copy=False), confidence=confidence)
