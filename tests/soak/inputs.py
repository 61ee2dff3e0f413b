"""Any input: generated, mutated and hostile ones for the processor, the readers, the builders, the pipelines and the models.

Asked of each: a finite answer or `ValueError` (a missing path: `FileNotFoundError`), within 10 CPU seconds and 2 GB. A case is a
function of target, number and seed alone; one that failed is tried again, in the foreground, by

    python -c "from tests.soak.inputs import again; again('read', 17, seed=0)"
"""

import dataclasses
import json
import multiprocessing
import os
import re
import resource
import signal
import struct
import tempfile
import warnings
import zipfile
import zlib
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np

from datasets_scripts.build import build
from datasets_scripts.corpus import ClipSource, read_clip
from modeling_unigloR import KeypointProcessor, clip_from_array, map_layout, read_keypoints, read_skels
from modeling_unigloR.keypoint_clip_uniglor import KeypointClip
from modeling_unigloR.keypoint_processing_uniglor import Calibration
from modeling_unigloR.keypoint_readers_uniglor import clip_from_arrays
from modeling_unigloR.keypoints_uniglor import SOURCE_LAYOUTS
from tests.conftest import REAL_DATA, TEXTS, TINY, TINY_DECODER, TINY_ENCODER, TINY_TEXT, TINY_TEXT_ENCODER, random_signing

from . import Row

CASES = {"process": 9000, "read": 6000, "hostile": 150, "pipelines": 3000, "models": 500, "tables": 120, "settings": 120}  # at scale 1
WHAT = {
    "process": "KeypointProcessor and clip_from_array, generated input",
    "read": "read_keypoints, mutated files",
    "then": "those that were read, then process",
    "hostile": "read_keypoints, hand-made hostile files",
    "pipelines": "pipelines of four tasks",
    "models": "encode_sequence, decode, generate with wrong tensors",
    "tables": "folders of data with one bad table or clip, built",
    "settings": "hostile preprocessor_config.json, then process",
}
CPU_SECONDS, WALL_SECONDS, MAX_BYTES = 10, 120, 2 << 30
FINE = ("finite", "ValueError", "FileNotFoundError", "built")

HOSTILE_VALUES = (
    None, True, False, 0, -1, 1, 2, 25, 25.0, -0.0, 1e-9, 5e-324, 0.5, 999.0, 1001, 1e6, 1e9, 1e18, 1e300, float("nan"), float("inf"),
    -float("inf"), 10**30, 10**400, "25", "", "abc", "\ud800", b"25", [], [25], (25, 25), {}, {"a": 1}, np.float32(30), np.array(30.0),
    np.array([]), np.array([25.0, 30.0]), np.array("25"), np.nan * np.ones(3), 1 + 2j, object, Ellipsis, range(3), np.datetime64("2020"),
)  # fmt: skip
LAYOUT_VALUES = (*SOURCE_LAYOUTS, "coco", "", None, 3, [], ["uniglor73"], {}, "\ud800", b"uniglor73", ("uniglor73",))


def pick(rng, choices):
    return choices[int(rng.integers(len(choices)))]


# --- Clips ------------------------------------------------------------------------------------------------------------------------------


def plausible(rng, layout, num_frames, num_channels):
    """Keypoints of a source layout whose shoulders are apart, in pixels."""
    num_points = pick(rng, sorted(SOURCE_LAYOUTS[layout].blocks))
    points = rng.uniform(100, 500, (num_points, num_channels)) + rng.normal(0, 3, (num_frames, num_points, num_channels))
    if layout == "uniglor73":
        points = random_signing(num_frames, int(rng.integers(99)), num_channels=num_channels) * 90.0 + 300
    return points


def clip_arguments(rng):
    """Arguments of `process`: a plausible clip with up to three things wrong."""
    layout, num_frames, num_channels = pick(rng, list(SOURCE_LAYOUTS)), int(pick(rng, (1, 2, 3, 16, 40, 120))), int(rng.integers(2, 4))
    arguments = {"keypoints": plausible(rng, layout, num_frames, num_channels), "layout": layout, "fps": 25.0, "width": 640, "height": 480}
    if rng.random() < 0.5:
        arguments["confidence"] = rng.uniform(0, 1, arguments["keypoints"].shape[:2]) * (rng.random(arguments["keypoints"].shape[:2]) > 0.2)
    for _ in range(int(rng.integers(0, 4))):
        spoil_arguments(rng, arguments)
    keypoints = arguments["keypoints"]
    if rng.random() < 0.02 and isinstance(keypoints, np.ndarray) and keypoints.ndim == 3:
        arguments["keypoints"] = np.broadcast_to(keypoints[:1], (pick(rng, (10_000, 99_000, 10**9)), *keypoints.shape[1:]))
    return arguments


def spoil_arguments(rng, arguments):
    what = pick(rng, ("values", "values", "values", "shape", "dtype", "confidence", "scalar", "scalar", "layout", "choice", "calibration"))
    keypoints = arguments["keypoints"]
    if what == "values" and isinstance(keypoints, np.ndarray) and keypoints.ndim > 1 and keypoints.size and keypoints.dtype.kind == "f":
        values = keypoints.copy()
        share = pick(rng, (1, 0.5, 0.01, 1 / values.size))
        number = pick(rng, (np.nan, np.inf, -np.inf, 0.0, 1e300, -1e300, 3e38, 1e20, 1e7, 5e-324, -1.0))
        how = rng.integers(3)
        if how == 0:
            values[rng.random(values.shape) < share] = number
        elif how == 1:
            values[:, rng.integers(values.shape[1])] = number
        else:
            values *= pick(rng, (0, 1e-320, 1e-30, 1e30, 1e300, -1, 1 / 640))
        arguments["keypoints"] = values
    elif what == "shape" and isinstance(keypoints, np.ndarray) and keypoints.ndim == 3 and keypoints.size and keypoints.shape[2] > 1:
        arguments["keypoints"] = pick(
            rng, (keypoints[:0], keypoints[0], keypoints[None], keypoints[:, :-1], keypoints[..., :1], keypoints[..., [0, 1, 0, 1]],
                  keypoints.reshape(len(keypoints), -1), keypoints[:, :0], np.array(3.0), keypoints.tolist(), [keypoints[:1], keypoints],
                  [[1, 2], [3]], None, "clip", b"", {}, object()),
        )  # fmt: skip
    elif what == "dtype" and isinstance(keypoints, np.ndarray) and keypoints.dtype.kind == "f":
        with np.errstate(all="ignore"):
            arguments["keypoints"] = keypoints.astype(pick(rng, ("f2", "f4", "f8", "i1", "i8", "u2", "c16", "O", "U8", "?", "S4")))
    elif what == "confidence":
        shape = getattr(keypoints, "shape", (3, 73))[:2]
        arguments["confidence"] = pick(
            rng, (np.zeros(shape), np.ones(shape, bool), np.full(shape, np.nan), np.full(shape, np.inf), np.full(shape, -1.0),
                  np.full(shape, 1e300), np.ones(shape, object), np.full(shape, "1"), np.ones(shape, complex), np.ones((*shape, 1)),
                  np.ones(shape[:1]), np.ones((5, 5)), [], 1.0, "high", None, object(), [[None] * 2] * 3),
        )  # fmt: skip
    elif what == "scalar":
        arguments[pick(rng, ("fps", "fps", "width", "height", "aspect"))] = pick(rng, HOSTILE_VALUES)
    elif what == "layout":
        arguments["layout"] = pick(rng, LAYOUT_VALUES)
    elif what == "choice":
        arguments[pick(rng, ("missing", "relative", "causal"))] = pick(rng, ("nan", "zero", "confidence", True, False, *HOSTILE_VALUES))
    elif what == "calibration":
        center = pick(rng, (np.zeros(2), np.zeros(3), np.full(2, np.nan), np.full(2, 1e300), np.zeros((4, 2)), None, "x", [0, 0]))
        arguments["calibration"] = Calibration(center, pick(rng, (1.0, 100.0, *HOSTILE_VALUES)), pick(rng, (True, False, None)))


PROCESSORS = (
    {}, {"fps": None}, {"num_channels": 3}, {"normalize": "frame"}, {"noisy_frame_threshold": None}, {"fps": 1000.0}, {"fps": 1.0},
    {"noisy_frame_threshold": 400, "noisy_frame_unit": "pixels"}, {"max_gap": None}, {"min_confidence": 0.3}, {"calibration_frames": 1},
)  # fmt: skip


def process_case(rng, folder):
    processor, arguments = KeypointProcessor(**pick(rng, PROCESSORS)), clip_arguments(rng)
    others = ("call", "calls", "row", "calibrate", "map_layout", "array", "arrays", "pad", "mirror", "denormalize")
    how = pick(rng, ("process",) * 8 + others)
    if how == "process":
        known = {key: arguments.pop(key) for key in ("causal", "calibration") if key in arguments}
        return processor.process(KeypointClip(**arguments), **known)
    if how == "call":
        return dict(processor(arguments.pop("keypoints"), **arguments))
    if how == "calls":
        clips = [arguments["keypoints"], clip_arguments(rng)["keypoints"]]
        return dict(processor(clips, layout=arguments["layout"], fps=arguments["fps"], ids=pick(rng, (None, ["a", "b"], ["a"], "ab", 3))))
    if how == "row":
        row = {key: arguments[key] for key in arguments if key not in ("missing", "relative", "causal", "calibration", "aspect")}
        return processor.process_row(pick(rng, (row, row, row, row | {"id": 3}, {"id": "a"}, {}, None, [row], "row")))
    if how in ("calibrate", "map_layout"):
        names = ("keypoints", "confidence", "layout", "missing") + (("width", "height", "aspect") if how == "calibrate" else ())
        given = {key: arguments[key] for key in names if key in arguments}
        return processor.calibrate(KeypointClip(**given)) if how == "calibrate" else map_layout(KeypointClip(**given))
    names = ("confidence", "layout", "width", "height", "fps")
    if how == "array":
        return vars(clip_from_array(arguments["keypoints"], **{key: arguments[key] for key in names if key in arguments}))
    if how == "arrays":
        arrays = {key: arguments[key] for key in ("keypoints", *names) if key in arguments}
        return vars(clip_from_arrays(pick(rng, (arrays, arrays, arrays, {}, {"a": 1, "b": 2}, None, [], arrays | {"layout": 3}))))
    clip = processor.process(KeypointClip(plausible(rng, "uniglor73", 20, processor.num_channels), layout="uniglor73"))
    hostile = pick(rng, (arguments["keypoints"], *HOSTILE_VALUES))
    if how == "pad":
        other = clip._replace(keypoints=clip.keypoints[:, :5])
        return dict(processor.pad(pick(rng, ([clip], [clip, other], [], None, [None], hostile)), pick(rng, ("np", "pt", None, "pt"))))
    if how == "mirror":
        return processor.mirror(pick(rng, (clip.keypoints, hostile)), pick(rng, (None, clip.keypoint_mask, clip.keypoint_mask[:2])))
    return processor.denormalize(*(pick(rng, (value, hostile)) for value in (clip.keypoints, clip.center, clip.scale)))


# --- Files ------------------------------------------------------------------------------------------------------------------------------


def write_seeds(folder):
    """One small file of each kind, and small real ones where they are."""
    from benchmarks.readers import write_openpose

    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    points, scores = plausible(rng, "mediapipe75", 6, 3), rng.uniform(0.1, 1, (6, 75))
    facts = dict(fps=25.0, width=640, height=480, layout="mediapipe75")
    np.savez(folder / "a.npz", keypoints=points.astype("f4"), confidence=scores.astype("f4"), **facts)
    np.savez_compressed(folder / "b.npz", plausible(rng, "openpose67", 5, 2).reshape(5, -1))
    np.save(folder / "a.npy", points)
    np.save(folder / "b.npy", np.asfortranarray(plausible(rng, "wholebody133", 4, 2), "f4"))

    def instance(shift):
        places, sure = rng.uniform(100, 500, (133, 2)) + shift, rng.uniform(0.1, 1, 133)
        return {"keypoints": places.round(1).tolist(), "keypoint_scores": sure.round(2).tolist()}

    frames = [{"frame_id": number, "instances": [instance(0), instance(300)]} for number in (1, 2, 4)]
    (folder / "mmpose.json").write_text(json.dumps({"meta_info": {}, "instance_info": frames}))
    (folder / "object.json").write_text(json.dumps({"keypoints": points.round(1).tolist(), "scores": scores.round(2).tolist(), "fps": 30}))
    (folder / "a.skels").write_text(" ".join(map(str, rng.normal(size=(4, 151)).round(3).ravel())) + "\n")
    (folder / "openpose").mkdir(exist_ok=True)
    write_openpose(folder / "openpose", 4)
    try:
        from benchmarks.readers import write_pose

        write_pose(folder / "a.pose", 3)
    except ImportError:
        pass
    for kind in ("pose", "npz", "npy"):
        candidates = [path for path in sorted(REAL_DATA.rglob(f"*.{kind}")) if path.stat().st_size < 1 << 20]
        for index, path in enumerate(candidates[:: len(candidates) // 12 + 1]):
            try:
                KeypointProcessor().process(read_keypoints(path, width=640, height=480))
            except ValueError:  # of hands alone, or many clips
                continue
            (folder / f"real{index}.{kind}").write_bytes(path.read_bytes())


NUMBER = re.compile(rb"-?\d+\.?\d*(?:[eE][-+]?\d+)?")
TOKENS = (
    b"1e400", b"-1e300", b"NaN", b"Infinity", b"null", b"true", b'"a"', b"[]", b"{}", b"-1", b"0", b"1e38", b"9" * 400, b"[[[[", b"]",
    b",,", b"\xff\xfe", b"0.0000000000000001", b'"\\ud800"', b"99999999999999999999999",
)  # fmt: skip


def mutate(rng, content):
    content = bytearray(content)
    for _ in range(int(rng.integers(1, 3))):
        how, size = rng.integers(8), len(content)
        at = int(rng.integers(size + 1))
        if how == 0:
            content = content[:at]
        elif how == 1:
            content[at : at + 1] = bytes([int(rng.integers(256))])
        elif how == 2:
            content[at:at] = rng.bytes(int(rng.integers(1, 9)))
        elif how == 3:
            content[at : at + 4] = struct.pack("<I", int(pick(rng, (0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 65535, 2**24))))
        elif how == 4:
            content[at : at + 4] = struct.pack("<f", float(pick(rng, (np.nan, np.inf, 3e38, -3e38, 1e-45))))
        elif how == 5 and (numbers := [match.span() for match in NUMBER.finditer(bytes(content[:20_000]))]):
            start, stop = pick(rng, numbers)
            content[start:stop] = pick(rng, TOKENS)
        elif how == 6:
            content[at:at] = content[at : at + int(rng.integers(1, 2000))]
        elif size:
            start = int(rng.integers(min(size, 400)))  # headers
            content[start : start + 1] = bytes([int(rng.integers(256))])
    return bytes(content)


def read_case(rng, folder):
    seeds = sorted((folder.parents[1] / "seeds").iterdir())
    seed = pick(rng, seeds)
    place = Path(tempfile.mkdtemp(dir=folder))
    path = place / seed.name
    if seed.is_dir():
        path.mkdir()
        names = sorted(entry.name for entry in seed.iterdir())
        for name in names:
            (path / name).write_bytes((seed / name).read_bytes())
        name = pick(rng, names)
        if rng.random() < 0.3:
            number = pick(rng, (0, 10, 9_000, 11_000, 10**9, 10**30, 3))
            os.replace(path / name, path / f"clip_{number}_keypoints.json")
        else:
            (path / name).write_bytes(mutate(rng, (seed / name).read_bytes()))
    else:
        path.write_bytes(mutate(rng, seed.read_bytes()))
    given = {"width": 640, "height": 480, "fps": pick(rng, (None, 25, 25.0))}
    if rng.random() < 0.1:
        given[pick(rng, ("layout", "width", "height", "fps"))] = pick(rng, HOSTILE_VALUES + LAYOUT_VALUES)
    return read_keypoints(path, **given)


# --- Hostile files ----------------------------------------------------------------------------------------------------------------------


def npz_with(path, name, content, method=zipfile.ZIP_DEFLATED, **others):
    """An .npz with a member of these bytes, and with arrays beside it."""
    with zipfile.ZipFile(path, "w", method) as archive:
        with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
            for part in content:
                member.write(part)
        for key, values in others.items():
            with archive.open(f"{key}.npy", "w") as member:
                np.lib.format.write_array(member, np.asarray(values))
    return path


def npy_header(shape, dtype="<f4"):
    text = f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape!r}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


ZEROS = b"\0" * (1 << 20)


def openpose_people(rng, count, spread=0.0, confidence=0.5):
    people = []
    for number in range(count):
        shift = number * spread
        parts = {"pose": 25, "face": 70, "hand_left": 21, "hand_right": 21}
        people.append({
            f"{part}_keypoints_2d": np.c_[rng.uniform(100, 150, (size, 2)).round(1) + shift, np.full(size, confidence)].ravel().tolist()
            for part, size in parts.items()
        })  # fmt: skip
    return people


def write_openpose_people(folder, frames):
    folder.mkdir()
    for number, people in frames.items():
        (folder / f"c_{number}_keypoints.json").write_text(json.dumps({"people": people}))
    return folder


def hostile_files(folder, rng):
    """{name: function that makes the file or folder and gives its path}."""
    good = plausible(rng, "mediapipe75", 30, 3).astype("f4")
    cases = {}

    def case(function):
        cases[function.__name__] = function

    def text(name, suffix, content):
        def make():
            written = content() if callable(content) else content
            (folder / f"x{suffix}").write_bytes(written if isinstance(written, bytes) else written.encode())
            return folder / f"x{suffix}"

        cases[f"{name}{suffix}"] = make

    for suffix in (".npy", ".npz", ".json", ".pose", ".skels", "", ".csv", ".pkl"):

        def fifo(suffix=suffix):
            os.mkfifo(folder / f"x{suffix}")
            return folder / f"x{suffix}"

        def directory(suffix=suffix):
            (folder / f"x{suffix}").mkdir()
            return folder / f"x{suffix}"

        def link(target, suffix=suffix):
            os.symlink(target, folder / f"x{suffix}")
            return folder / f"x{suffix}"

        cases[f"fifo{suffix}"], cases[f"folder{suffix}"] = fifo, directory
        for target in (
            ()
            if suffix not in (".npy", ".json")
            else ("/dev/zero", "/dev/null", "/dev/urandom", f"x{suffix}", "/proc/self/mem", "/nowhere")
        ):
            cases[f"link to {target}{suffix}"] = lambda target=target, link=link: link(target)
        text("empty", suffix, "")

    for kind in ("fifo", "folder", "zero", "loop", "missing"):

        def frame(kind=kind):
            place = write_openpose_people(folder / "o", {0: openpose_people(rng, 1)}) / "c_1_keypoints.json"
            if kind == "fifo":
                os.mkfifo(place)
            elif kind == "folder":
                place.mkdir()
            else:
                os.symlink({"zero": "/dev/zero", "loop": place.name, "missing": "nowhere"}[kind], place)
            return folder / "o"

        cases[f"an OpenPose frame that is a {kind}"] = frame

    def bomb(size, name="keypoints", shape=None, method=zipfile.ZIP_DEFLATED, **others):
        shape = shape or (size // 900, 75, 3)
        parts = [npy_header(shape)] + [ZEROS] * (size >> 20)
        return lambda: npz_with(folder / "x.npz", name, parts, method=method, **others)

    cases["npz, 400 MB of zeros"] = bomb(400 << 20)
    cases["npz, 1.2 GB of zeros"] = bomb(1200 << 20)
    cases["npz, 1 GB in a member of another name"] = bomb(1 << 30, "other", keypoints=good, fps=25.0, width=640, height=480)
    cases["npz, 1 GB of confidence"] = bomb(1 << 30, "confidence", keypoints=good, width=640, height=480)
    cases["npz by bzip2"] = bomb(64 << 20, method=zipfile.ZIP_BZIP2)
    cases["npz by lzma"] = bomb(64 << 20, method=zipfile.ZIP_LZMA)
    for shape in ((10**12, 75, 3), (2**63, 2**63, 2**63), (-5, 75, 3), (10**5, 75, 10**7), (0, 10**9, 3), (10**30,), (30, 75, 3)):
        cases[f"npz, shape {shape} and no data"] = lambda shape=shape: npz_with(folder / "x.npz", "keypoints", [npy_header(shape)])
        text(f"shape {shape}", ".npy", npy_header(shape))
    for dtype in ("|O", "<U100000000", "<c16", "<M8[s]", "|V8", "<f16", "|b1", ">f8", "[('a', '<f4')]", "<f99"):
        text(f"type {dtype}", ".npy", npy_header((30, 75, 3), dtype) + ZEROS)
        cases[f"npz, fps of type {dtype}"] = lambda dtype=dtype: npz_with(
            folder / "x.npz", "fps", [npy_header((1,), dtype) + ZEROS], keypoints=good, width=640, height=480
        )
    text("deep header", ".npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", 9000) + b"(" * 9000)
    for key in ("fps", "width", "height", "layout", "confidence"):
        for value in (np.array([]), np.array([np.nan]), np.array([1e300]), np.array(-1.0), np.array("abc"), np.zeros((30, 75))):

            def odd(key=key, value=value):
                np.savez(folder / "x.npz", **({"keypoints": good, "width": 640, "height": 480} | {key: value}))
                return folder / "x.npz"

            cases[f"npz, {key}={value!r:.30}"] = odd

    @case
    def many_members():
        with zipfile.ZipFile(folder / "x.npz", "w") as archive:
            for number in range(20_000):
                archive.writestr(f"{number}.npy", b"")
        return folder / "x.npz"

    @case
    def one_member_many_times():
        with warnings.catch_warnings(), zipfile.ZipFile(folder / "x.npz", "w") as archive:
            warnings.simplefilter("ignore")
            for _ in range(3000):
                archive.writestr("keypoints.npy", b"\x93NUMPY")
        return folder / "x.npz"

    deep = 100_000
    text("deep lists", ".json", "[" * deep)
    text("deep lists closed", ".json", "[" * deep + "]" * deep)
    text("deep objects", ".json", '{"a":' * deep)
    text("deep keypoints", ".json", '{"keypoints":' + "[" * 500 + "]" * 500 + "}")
    text("40 MB of empty lists", ".json", lambda: '{"keypoints":[' + "[]," * 13_000_000 + "[]]}")
    text("130 MB of spaces", ".json", lambda: b" " * (130 << 20))
    text("a number of 20 MB", ".json", lambda: b'{"keypoints": ' + b"1" * (20 << 20) + b"}")
    text("a float of 20 MB", ".json", lambda: b'{"keypoints": [[[0.' + b"1" * (20 << 20) + b", 1]]]}")
    text("a string of 50 MB", ".json", lambda: b'{"keypoints": "' + "\U0001f600".encode() + b"a" * (50 << 20) + b'"}')
    for body in ("[" + ",".join(["1" * 400] * 75) + "]", "7", "true", '"abc"', "{}", "[[1]]", "[null]", str([1e308] * 75), str([-1] * 75)):
        text(f"body {body[:12]}", ".json", '{"people":[{"pose_keypoints_2d":' + body + "}]}")
    for people in ("7", "null", "{}", "[7]", "[null]", "[[]]", "[{}]", '[{"pose_keypoints_2d":[]}]'):
        text(f"people {people}", ".json", '{"people":' + people + "}")
    for frame_id in ('"a"', "null", "0.5", "[1]", "1" + "0" * 30, "1" + "0" * 5000, "true", "-5", "{}"):
        instance = json.dumps({"keypoints": [[1.0, 2.0]] * 133, "keypoint_scores": [1.0] * 133})
        frame = '{"frame_id":' + frame_id + ',"instances":[' + instance + "]}"
        text(f"frame_id {frame_id[:9]}", ".json", f"[{frame}]")
        text(f"frame_id {frame_id[:9]} and 3", ".json", f"[{frame}, {frame.replace(frame_id, '3', 1)}]")
    for instances in ("null", "5", "[5]", "{}", "[[]]", '"ab"'):
        text(f"instances {instances}", ".json", '[{"frame_id":1,"instances":' + instances + "}]")
    odd_numbers = {
        "fps": ("[]", '"x"', "1e-9", "1e9", "1" + "0" * 400), "width": ("{}", "NaN"), "height": ("1e300",), "layout": ("[]",),
        "scores": ("{}", "[[1]]"),
    }  # fmt: skip
    for key, value in ((key, value) for key, values in odd_numbers.items() for value in values):
        text(f"{key} {value[:9]}", ".json", f'{{"keypoints":{good[:3].astype(int).tolist()},"{key}":{value}}}')
    for line in (
        b"\xff\xfe",
        b"1 " * 150,
        b"1 " * 302 + b"x",
        b"nan " * 151,
        b"1e999 " * 151,
        b"\0" * 151,
        b"0 " * (20 << 20),
        b"1" * (20 << 20),
    ):
        text(f"line {line[:9]} of {len(line)}", ".skels", line)
    text("130 MB line", ".skels", lambda: b"0 " * (65 << 20))

    for name, frames in (
        ("a crowd", lambda: {number: openpose_people(rng, 15, 300.0) for number in range(100)}),
        ("a dense crowd", lambda: {number: openpose_people(rng, 40, 1.0) for number in range(40)}),
        ("a crowd that flickers", lambda: {number: openpose_people(rng, 30, 300.0 + number) for number in range(60)}),
        ("gaps of 9,999", lambda: {number * 9_999: openpose_people(rng, 1) for number in range(40)}),
        ("one wide gap", lambda: {0: openpose_people(rng, 1), 10**8: openpose_people(rng, 1)}),
        ("a gap that is allowed", lambda: {0: openpose_people(rng, 1), 10_000: openpose_people(rng, 1)}),
        ("confidence of 1e308", lambda: {number: openpose_people(rng, 3, confidence=1e308) for number in range(4)}),
    ):
        cases[name] = lambda frames=frames: write_openpose_people(folder / "o", frames())

    @case
    def the_largest_array():
        frame = np.random.default_rng(0).uniform(0, 500, (543, 3)).tobytes()
        with open(folder / "x.npy", "wb") as file:
            file.write(npy_header((39_000, 543, 3), "<f8"))
            file.writelines(frame for _ in range(39_000))
        return folder / "x.npy"

    @case
    def a_crowd_in_an_array():
        np.save(folder / "x.npy", rng.uniform(0, 9000, (3_000, 80, 75, 2)).astype("f4"))
        return folder / "x.npy"

    for name in ("x" * 300 + ".npy", "a\0.npy", "\ud800.npy", "", ".", "/", "/dev/zero", None, 3, b"x.npy", [], "nowhere.npy"):
        cases[f"path {name!r:.20}"] = lambda name=name: name

    def pose(version=0.2, frames=2, people=1, components=(("POSE_LANDMARKS", "XYZC", 33),), tail=b"", fps=25.0):
        def string(text):
            return struct.pack("<H", len(text)) + text.encode()

        head = struct.pack("<fHHHH", version, 640, 480, 0, len(components))
        for name, form, size in components:
            head += string(name) + string(form) + struct.pack("<HHH", size, 0, 0) + b"".join(string(str(i)) for i in range(size))
        start = {0: struct.pack("<HH", 25, min(frames, 65535)), 0.1: struct.pack("<HHH", 25, 0, people)}
        return head + start.get(version, struct.pack("<fIH", fps, frames, people)) + tail

    holistic = [(f"{part}_LANDMARKS", "XYZC", size) for part, size in (("POSE", 33), ("FACE", 468), ("LEFT_HAND", 21), ("RIGHT_HAND", 21))]
    hands = [(name, form, size) for name, form, size in holistic if name != "FACE_LANDMARKS"]

    def hands_as(form):
        return [(name, form, size) for name, _, size in hands]

    for name, facts in {
        "no data": {}, "four billion frames": dict(frames=2**32 - 1), "65535 people": dict(people=65535), "no parts": dict(components=()),
        "points without names": dict(components=[("POSE_LANDMARKS", "XYZC", 0)]), "one dimension": dict(components=hands_as("XC")),
        "no dimension": dict(components=hands_as("C")), "no format": dict(components=hands_as("")),
        "format of 60000": dict(components=hands_as("X" * 60_000), version=0, frames=65535, tail=b"\0" * 131072),
        "version 0, 65535 empty frames": dict(components=holistic, version=0, frames=65535, tail=b"\0" * 131072),
        "version 0, 2000 empty frames": dict(components=hands, version=0, frames=2000, tail=b"\0" * 131072),
        "version 0.1": dict(components=hands, version=0.1, people=0), "version nan": dict(components=hands, version=float("nan")),
        "version 9": dict(components=hands, version=9.0), "a long header": dict(components=[("POSE_LANDMARKS", "XYZC", 65535)] * 12),
        "fps nan": dict(components=hands, fps=float("nan"), tail=b"\x3f" * 33 * 3 * 4 * 100),
        "fps inf": dict(components=hands, fps=float("inf"), frames=1, tail=b"\x3f" * 75 * 16),
    }.items():  # fmt: skip
        text(f"pose, {name}", ".pose", lambda facts=facts: pose(**facts))
    return cases


def hostile_case(rng, folder, index):
    """A function that reads the file; making it is not part of the case."""
    cases = hostile_files(folder, np.random.default_rng(0))
    path = cases[sorted(cases)[index % len(cases)]]()

    def read():
        clip = read_keypoints(path, fps=25)
        if isinstance(path, Path) and path.suffix == ".skels":
            read_skels(path)
        return KeypointProcessor().process(dataclasses.replace(clip, aspect=4 / 3))

    return read


# --- Folders of data, settings ----------------------------------------------------------------------------------------------------------


def tables_case(rng, folder):
    """Three good clips, and a table or a clip that is not: a bad table is refused, a bad clip or row is left out and counted."""
    data = folder / "clips"
    data.mkdir()
    for number in range(3):
        points = plausible(rng, "uniglor73", 8, 2)
        np.savez(data / f"clip{number}.npz", keypoints=points.astype("f4"), fps=25.0, width=640, height=480)
    rows = [{"id": f"clip{number}", "text": f"text {number}", "label": str(number), "fps": "25", "split": "train"} for number in range(3)]
    annotations, kept = None, 3
    how = pick(rng, ("clip", "clip", "loop", "row", "row", "csv", "jsonl", "source"))
    if how == "clip":
        write_seeds(folder / "seeds")
        seed = pick(rng, [path for path in sorted((folder / "seeds").iterdir()) if path.is_file()])
        (data / f"bad{seed.suffix}").write_bytes(mutate(rng, mutate(rng, seed.read_bytes())))
        if rng.random() < 0.3:
            (data / f"bad{seed.suffix}").unlink()
            pick(rng, (os.mkfifo, lambda path: os.symlink("/dev/zero", path), os.mkdir))(data / f"bad{seed.suffix}")
    elif how == "loop":
        for name in "ab"[: int(rng.integers(1, 3))]:
            os.symlink(pick(rng, (".", "..", data, "clip0.npz")), data / name)
    elif how == "source":
        source = ClipSource("x", "train", str(data / "clip0.npz"), start=pick(rng, HOSTILE_VALUES), end=pick(rng, HOSTILE_VALUES))
        return vars(read_clip(source))
    elif how == "row":
        key = pick(rng, ("label", "fps", "split", "start", "end", "text", "id"))
        rows[1][key] = pick(rng, ("9" * 23, "9" * 6000, "nan", "-1", "1e300", "x" * 300, "\ud800", "a b", "", "inf", "\0", "=1+1", "🤟"))
        annotations, kept = folder / "t.csv", 2
        columns = list(dict.fromkeys(key for row in rows for key in row))
        lines = [",".join(columns), *(",".join(row.get(key, "") for key in columns) for row in rows)]
        annotations.write_text("\n".join(lines), encoding="utf-8", errors="surrogatepass")
    else:
        annotations = folder / f"t.{how}"
        lines = map(json.dumps, rows) if how == "jsonl" else [",".join(rows[0]), *(",".join(row.values()) for row in rows)]
        content = "\n".join(lines).encode()
        if rng.random() < 0.2:
            content += pick(rng, (b'\n"' + b"a" * 200_000, b"\n" + b"[" * 100_000, b"\n" + b"\xff\xfe", b"\n{}", b'\n{"id": {}}', b"\n[]"))
        annotations.write_bytes(mutate(rng, content))
    options = {} if annotations is None else {"annotations": str(annotations)}
    if how == "row" and ("start" in rows[1] or "end" in rows[1]):
        options |= {"start_column": "start"} if "start" in rows[1] else {}
    audit = build("folder", data, folder / "out", **options)
    num_clips = sum(split["clips"] for split in audit["splits"].values())
    if how in ("clip", "loop") and num_clips not in (3, 4) or how == "row" and num_clips < kept:
        raise AssertionError(f"{num_clips} clips were built of 3 good ones: {audit['left_out']}")
    return "built"


def settings_case(rng, folder):
    settings = KeypointProcessor().to_dict()
    for _ in range(int(rng.integers(1, 4))):
        key = pick(rng, (*settings, "process", "pad", "__class__", "self", "new", "model_input_names"))
        settings[key] = pick(rng, [value for value in HOSTILE_VALUES if value is None or isinstance(value, (int, float, str, list, dict))])
    content = json.dumps(settings).encode()
    if rng.random() < 0.3:
        content = pick(rng, (mutate(rng, content), b"[]", b"3", b"null", b"[" * 100_000, b"\xff", b"", b'"a"'))
    (folder / "preprocessor_config.json").write_bytes(content)
    processor = KeypointProcessor.from_pretrained(folder)
    return processor.process(KeypointClip(plausible(rng, "uniglor73", 30, 3), layout="uniglor73", fps=30.0))


# --- Pipelines and models ---------------------------------------------------------------------------------------------------------------


@cache
def pipelines():
    """The four tasks around tiny random models."""
    import torch

    from modeling_unigloR import (
        SignFeatureExtractionPipeline,
        SignMAE,
        SignMAEConfig,
        SignMAEEncoderModel,
        SignRecognition,
        SignRecognitionPipeline,
        SignToText,
        SignToTextPipeline,
        TextToSign,
        TextToSignPipeline,
    )
    from train.data.text_tokenizers import train_tokenizer
    from train.train_text_to_sign import TextToSignArguments, make_tokenizer

    torch.set_num_threads(1)
    torch.manual_seed(0)
    sign_mae, tokenizer = SignMAE(SignMAEConfig(**TINY)).eval(), train_tokenizer(TEXTS)
    sign_to_text = SignToText.from_parts(sign_mae, text_config=TINY_TEXT | {"vocab_size": len(tokenizer)}).eval()
    recognition = SignRecognition.from_parts(sign_mae, ("REGEN", "SONNE", "SCHNEE"), **TINY_ENCODER).eval()
    words = make_tokenizer(TextToSignArguments(), TEXTS)
    text_to_sign = TextToSign.from_parts(sign_mae, text_config=TINY_TEXT_ENCODER | {"vocab_size": len(words)}, **TINY_DECODER).eval()
    common = dict(feature_extractor=KeypointProcessor(), device="cpu")
    return {
        "sign-to-text": SignToTextPipeline(model=sign_to_text, tokenizer=tokenizer, **common),
        "sign-recognition": SignRecognitionPipeline(model=recognition, **common),
        "sign-feature-extraction": SignFeatureExtractionPipeline(model=SignMAEEncoderModel(sign_mae.config).eval(), **common),
        "text-to-sign": TextToSignPipeline(model=text_to_sign, tokenizer=words, **common),
    }


def pipelines_case(rng, folder):
    task = pick(rng, list(pipelines()))
    given = {}
    if task == "text-to-sign":
        odd = ("", " ", "\ud800", "\0", "x" * 5000, "wort " * 2000, "🤟", None, 3, ["regnet"], [], {}, b"regnet")
        text = pick(rng, (*TEXTS, "regnet", *odd))
        options = {
            "num_segments": (1, 3, 8, *HOSTILE_VALUES), "seam_frames": (0, 2, *HOSTILE_VALUES),
            "units": ("shoulder", "pixels", "cm", 3), "width": (640, *HOSTILE_VALUES), "height": (480, *HOSTILE_VALUES),
        }  # fmt: skip
    else:
        given = clip_arguments(rng)
        keypoints = given.pop("keypoints")
        kind = pick(rng, ("array", "array", "row", "clip", "path", "odd"))
        text = keypoints
        if kind == "row":
            text, given = {"keypoints": keypoints, **given}, {}
        elif kind == "clip":
            text = KeypointClip(keypoints, given.get("confidence"), given.get("layout"), given.get("fps"), 640, 480)
            given = {}
        elif kind == "path":
            np.savez(folder / "a.npz", keypoints=plausible(rng, "mediapipe75", 20, 3), width=640, height=480)
            text = pick(rng, (str(folder / "a.npz"), folder / "a.npz", str(folder), "nowhere.npy", ""))
            given = {key: given[key] for key in ("fps", "layout") if key in given}
        elif kind == "odd":
            text = pick(rng, (None, 3, {}, [], "", {"keypoints": None}, [keypoints, None], {"text": "a"}, *HOSTILE_VALUES))
        options = {
            "sign-to-text": {
                "num_beams": (1, 2), "max_new_tokens": (1, 5, 20, 200, *HOSTILE_VALUES[:24]), "return_attentions": (True, 3),
            },
            "sign-recognition": {"top_k": (1, 2, *HOSTILE_VALUES)},
            "sign-feature-extraction": {"stride": (1, 7, *HOSTILE_VALUES)},
        }[task]  # fmt: skip
        if task == "sign-to-text":
            given["max_new_tokens"] = 8
    for name, choices in options.items():
        if rng.random() < 0.25:
            given[name] = pick(rng, choices)
    return pipelines()[task](text, **given)


def models_case(rng, folder):
    import torch

    tasks = pipelines()
    text_to_sign, sign_to_text = tasks["text-to-sign"].model, tasks["sign-to-text"].model
    sign_mae = sign_to_text.sign_mae
    clips = torch.from_numpy(random_signing(40))[None].repeat(2, 1, 1, 1)
    mask = torch.ones(2, 40, dtype=torch.long)
    mask[1, 30:] = 0
    latents = torch.randn(2, 4, 16, generator=torch.Generator().manual_seed(0))

    def spoil(tensor):
        if rng.random() < 0.4:
            return tensor
        shapes = (tensor[:0], tensor[:, :0], tensor[0], tensor[None], tensor[..., :1], tensor[:, :3], torch.zeros(0))
        types = (tensor.double(), tensor.half(), tensor.int(), tensor.bool(), tensor.to(torch.complex64), tensor.numpy(), tensor.tolist())
        return pick(rng, (*shapes, *types, None, 3, "x", []))

    how = rng.integers(4)
    if how == 0:
        return sign_mae.encode_sequence(spoil(clips), pick(rng, (None, mask, spoil(mask))), pick(rng, (None, None, 1, 7, *HOSTILE_VALUES)))
    if how == 1:
        return text_to_sign.sign_mae.decode(spoil(latents[0]))
    if how == 2:
        given = {"keypoints": spoil(clips), "attention_mask": mask} if rng.random() < 0.5 else {"latents": spoil(latents)}
        return sign_to_text.generate(**given, max_new_tokens=pick(rng, (3, 3, 3, 200, *HOSTILE_VALUES[:24])))
    encoded = tasks["text-to-sign"].tokenizer(TEXTS[:2], padding=True, return_tensors="pt")
    given = {"num_segments": pick(rng, (1, 8, *HOSTILE_VALUES))} if rng.random() < 0.3 else {}
    return text_to_sign.generate(input_ids=spoil(encoded["input_ids"]), attention_mask=encoded["attention_mask"], **given)


# --- Running ----------------------------------------------------------------------------------------------------------------------------


def is_finite(value):
    """Whether all numbers in an answer are."""
    if hasattr(value, "detach"):
        value = value.detach().float().numpy() if value.is_floating_point() else value.numpy()
    if isinstance(value, KeypointClip):
        return bool(np.isfinite(value.confidence).all() and np.isfinite(value.keypoints[value.confidence > 0]).all())
    if isinstance(value, dict) and {"keypoints", "confidence"} <= set(value):  # a clip: NaN where nobody is
        return is_finite(KeypointClip(value["keypoints"], value["confidence"], ""))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = vars(value)
    if isinstance(value, dict) or hasattr(value, "items"):
        return all(is_finite(part) for part in value.values())
    if isinstance(value, (list, tuple)):
        return all(is_finite(part) for part in value)
    if isinstance(value, (np.ndarray, np.generic, float)):
        return np.asarray(value).dtype.kind not in "fc" or bool(np.isfinite(value).all())
    return True


class TooLong(BaseException):
    """A case is still at work: no `except Exception` may take it for the input's."""


def _too_long(number, frame):
    raise TooLong("CPU" if number == signal.SIGPROF else "wall")


def run(target, index, seed, folder):
    """One case -> [(row, outcome, message)]."""
    rng = np.random.default_rng([seed, zlib.crc32(target.encode()), index])
    function = globals()[f"{target}_case"]
    place = Path(tempfile.mkdtemp(dir=folder))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        outcome, message, answer = attempt(function(rng, place, index) if target == "hostile" else lambda: function(rng, place))
        found = [(target, outcome, message)]
        if target == "read" and outcome == "finite":
            found.append(("then", *attempt(lambda: KeypointProcessor().process(answer))[:2]))
    return found


def attempt(call):
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
    signal.alarm(WALL_SECONDS)
    try:
        answer = call()
        if isinstance(answer, str) and answer == "built":
            return "built", "", None
        return ("finite", "", answer) if is_finite(answer) else ("not finite", "", None)
    except TooLong as error:
        return f"over {CPU_SECONDS} s" if str(error) == "CPU" else f"waits for {WALL_SECONDS} s", "", None
    except (Exception, SystemExit) as error:
        return type(error).__name__ if not isinstance(error, ValueError) else "ValueError", f"{error}"[:150], None
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)


def again(target, index, seed=0):
    """Tries one case in the foreground, with its traceback."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / target
        place.mkdir()
        write_seeds(Path(folder) / "seeds")
        rng = np.random.default_rng([seed, zlib.crc32(target.encode()), index])
        function = globals()[f"{target}_case"]
        answer = function(rng, place, index)() if target == "hostile" else function(rng, place)
        answer = KeypointProcessor().process(answer) if target == "read" else answer
        print("finite" if is_finite(answer) else "not finite", answer)


def work(target, indices, seed, folder, report):
    """In a process of its own: one line for each case before and after it, so that a death is told."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.closerange(0, 1)
    os.open(os.devnull, os.O_RDONLY)
    signal.signal(signal.SIGPROF, _too_long)
    signal.signal(signal.SIGALRM, _too_long)
    start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with open(report, "a", encoding="utf-8") as file:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        for index in indices:
            print(json.dumps([index]), file=file, flush=True)
            found = run(target, index, seed, folder)
            used = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start) << 10
            if used > MAX_BYTES:
                found[0] = (target, "over 2 GB", f"{used / 2**30:.1f} GB")
            print(json.dumps([index, found, used]), file=file, flush=True)
            if used > MAX_BYTES // 8:  # the peak never falls: go on in a new process
                break


def soak(scale, folder, seed, targets=tuple(CASES), processes=2):
    write_seeds(folder / "seeds")
    if {"pipelines", "models"} & set(targets):
        pipelines()  # made once, before the workers part
    context, outcomes, examples, peak = multiprocessing.get_context("fork"), {}, {}, 0
    for target in targets:
        place = folder / target
        place.mkdir(exist_ok=True)
        count = max(1, round(CASES[target] * scale))
        if target == "hostile":
            total = len(hostile_files(place, np.random.default_rng(0)))
            indices = list(range(total))[:: max(1, round(1 / scale))]
        else:
            indices = list(range(count))
        size = 1 if target == "hostile" else 250
        waiting = [indices[start : start + size] for start in range(0, len(indices), size)]
        running = []
        while waiting or running:
            while waiting and len(running) < processes:
                chunk, report = waiting.pop(0), Path(tempfile.mkstemp(dir=folder, suffix=".jsonl")[1])
                process = context.Process(target=work, args=(target, chunk, seed, place, report))
                process.start()
                running.append((process, chunk, report))
            process, chunk, report = running.pop(0)
            process.join()
            done = {}
            for line in report.read_text(encoding="utf-8").splitlines():
                index, *rest = json.loads(line)
                done[index] = rest
            for index, rest in done.items():
                found = rest[0] if rest else [(target, f"died ({process.exitcode})", "")]
                peak = max(peak, rest[1] if rest else 0)
                for row, outcome, message in found:
                    outcomes.setdefault(row, Counter())[outcome] += 1
                    if outcome not in FINE or (outcome == "FileNotFoundError" and target not in ("hostile", "pipelines", "tables")):
                        command = f"from tests.soak.inputs import again; again({target!r}, {index}, seed={seed})"
                        examples.setdefault(row, []).append(f'{outcome}: {message} | python -c "{command}"')
            rest = [index for index in chunk if index not in done]
            if rest and done:
                waiting.insert(0, rest)
    return [
        Row(
            WHAT[row], sum(counts.values()), dict(counts.most_common()), len(examples.get(row, ())), "finite or ValueError, 10 CPU s, 2 GB",
            note=f"at most {peak / 2**30:.2f} GB more than at the start, over all targets" if row == "hostile" else "",
            examples=examples.get(row, []),
        )
        for row, counts in outcomes.items()
    ]  # fmt: skip
