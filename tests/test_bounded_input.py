"""Whatever a file, a row or an argument holds: a finite answer or a `ValueError` that names it, without waiting and without much memory."""

import json
import math
import os
import struct
import zipfile

import numpy as np
import pytest

from datasets_scripts import fingerspelling
from datasets_scripts.build import build
from datasets_scripts.corpus import ClipSource, find_clips, list_corpus, read_clip, read_lines, read_table, split_of
from datasets_scripts.folder import CORPUS as FOLDER
from datasets_scripts.isolated import WLASL
from datasets_scripts.ksl_guide import find_files
from datasets_scripts.schema import check_row
from modeling_unigloR import (
    KeypointClip,
    KeypointProcessor,
    clip_from_array,
    keypoint_readers_uniglor,
    limits_uniglor,
    map_layout,
    read_keypoints,
    read_skels,
)
from modeling_unigloR.keypoint_clip_uniglor import RELATIVE_LIMIT, follow_person
from modeling_unigloR.keypoint_processing_uniglor import Calibration
from modeling_unigloR.keypoint_readers_uniglor import clip_from_arrays
from modeling_unigloR.limits_uniglor import MAX_CLIP_FRAMES, MAX_LABELS, MAX_PEOPLE

from .conftest import random_signing
from .test_readers import holistic, person, write_components, write_frames, xs

SIZE = dict(width=640, height=480)


def clip_of(num_frames=10, seed=0):
    return (random_signing(num_frames, seed) * 90 + 300).astype(np.float32)


def save_clip(path, num_frames=10, seed=0, **more):
    np.savez(path, **(dict(keypoints=clip_of(num_frames, seed), fps=25.0, **SIZE) | more))
    return path


# --- Files that are none --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".json", ".pose", ".skels"])
def test_a_fifo_is_refused_without_waiting_for_its_writer(tmp_path, suffix):
    os.mkfifo(tmp_path / f"a{suffix}")
    with pytest.raises(ValueError, match=f"a{suffix}: found a FIFO, expected a regular file"):
        read_keypoints(tmp_path / f"a{suffix}")


@pytest.mark.parametrize("kind", ["fifo", "folder", "device", "loop"])
def test_a_frame_that_is_no_file_is_refused_by_name(tmp_path, kind):
    place = write_frames(tmp_path / "a", {0: [person()]}) / "clip_000000000001_keypoints.json"
    if kind == "fifo":
        os.mkfifo(place)
    elif kind == "folder":
        place.mkdir()
    else:
        os.symlink("/dev/zero" if kind == "device" else place.name, place)
    with pytest.raises(ValueError, match="clip_000000000001_keypoints.json|symbolic links"):
        read_keypoints(tmp_path / "a", **SIZE)


def test_a_link_to_a_device_that_never_ends_is_refused(tmp_path):
    os.symlink("/dev/zero", tmp_path / "a.json")
    with pytest.raises(ValueError, match="a.json: found a device"):
        read_keypoints(tmp_path / "a.json")
    os.symlink("/dev/zero", tmp_path / "a.csv")
    with pytest.raises(ValueError, match="a.csv: found a device"):
        read_lines(tmp_path / "a.csv")


@pytest.mark.parametrize("path", ["x" * 300 + ".npy", None, 3, b"a.npy", ["a.npy"]])
def test_a_path_that_is_none_is_refused(path):
    with pytest.raises(ValueError):
        read_keypoints(path)


def test_a_file_of_more_bytes_than_the_limit_is_not_read(tmp_path, monkeypatch):
    with open(tmp_path / "a.json", "wb") as file:
        file.truncate(limits_uniglor.MAX_TEXT_BYTES + 1)  # a hole: no disk, no memory
    with pytest.raises(ValueError, match="a.json: more than 128 MB"):
        read_keypoints(tmp_path / "a.json")
    monkeypatch.setattr(keypoint_readers_uniglor, "MAX_FILE_BYTES", 1 << 10)
    monkeypatch.setattr(keypoint_readers_uniglor, "_DETECTIONS_HELD", 1)
    with pytest.raises(ValueError, match="which is the most that is read of a clip"):
        read_keypoints(write_frames(tmp_path / "a", {number: [person()] for number in range(3)}))


# --- JSON -----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        '{"people":[{"pose_keypoints_2d":[' + ",".join(["9" * 400] * 75) + "]}]}", "[" * 100_000, '{"a":' * 100_000,
        '{"people":[{"pose_keypoints_2d":7}]}', '{"people":[{"pose_keypoints_2d":true}]}', '{"people":[{"pose_keypoints_2d":"abc"}]}',
        '[{"frame_id":"a","instances":[]},{"frame_id":1,"instances":[]}]', '[{"frame_id":null,"instances":[]}]',
        '[{"frame_id":0.5,"instances":[]}]', '[{"frame_id":[1],"instances":[]}]', '[{"frame_id":1,"instances":5}]',
        '[{"frame_id":1,"instances":null}]', '[{"frame_id":1,"instances":[3]}]',
        '[{"frame_id":1,"instances":[{"keypoints":[[' + "9" * 400 + ',1]],"keypoint_scores":[1]}]}]',
        '[{"frame_id":0,"instances":[]},{"frame_id":1' + "0" * 30 + ',"instances":[]}]',
    ],
)  # fmt: skip
def test_odd_json_is_refused_by_name(tmp_path, content):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(ValueError, match="a.json: "):
        read_keypoints(tmp_path / "a.json", **SIZE)


@pytest.mark.parametrize("key, value", [("fps", []), ("width", {}), ("height", 1e300), ("fps", 1e9), ("fps", "fast"), ("layout", [1])])
def test_odd_facts_beside_keypoints_are_refused_by_name(tmp_path, key, value):
    (tmp_path / "a.json").write_text(json.dumps({"keypoints": clip_of(3).tolist(), key: value}))
    with pytest.raises(ValueError, match="a.json: .*(fps|width|height|layout)"):
        read_keypoints(tmp_path / "a.json")


def test_json_of_too_many_values_is_refused_before_it_is_parsed(tmp_path, monkeypatch):
    (tmp_path / "a.json").write_text("[" + "[]," * 1000 + "[]]")
    monkeypatch.setattr(keypoint_readers_uniglor, "MAX_TEXT_VALUES", 1000)
    with pytest.raises(ValueError, match="a.json: 2,002 values, expected at most 1,000"):
        read_keypoints(tmp_path / "a.json")


def test_gaps_between_numbered_frames_are_counted_together(tmp_path):
    """A hundred files numbered 10,000 apart took 1.9 GB: each gap alone was allowed."""
    with pytest.raises(ValueError, match="there are 19,996 frames without a file, expected at most 10,000"):
        read_keypoints(write_frames(tmp_path / "a", {0: [person()], 9_999: [person()], 19_998: [person()]}), **SIZE)
    clip = read_keypoints(write_frames(tmp_path / "b", {0: [person()], 10_001: [person()]}), **SIZE)
    assert len(clip.keypoints) == 10_002 and (clip.confidence > 0).any(1).sum() == 2
    frames = [{"frame_id": number, "instances": []} for number in (0, 9_999, 19_998)]
    (tmp_path / "m.json").write_text(json.dumps(frames))
    with pytest.raises(ValueError, match="frames without a file"):
        read_keypoints(tmp_path / "m.json")


# --- NumPy ----------------------------------------------------------------------------------------------------------------------------


def npy(shape, dtype="<f4", content=b""):
    text = f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape!r}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + content


@pytest.mark.parametrize("shape", [(10**12, 75, 3), (2**63, 2**63), (-5, 75, 3), (5, 75, 3), (200_000, 75, 3), (10**5, 10**5, 3)])
def test_a_header_that_asks_for_more_than_there_is_takes_no_memory(tmp_path, shape):
    (tmp_path / "a.npy").write_bytes(npy(shape))
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("keypoints.npy", npy(shape))
    for name in ("a.npy", "a.npz"):
        with pytest.raises(ValueError, match=name):
            read_keypoints(tmp_path / name, **SIZE)


@pytest.mark.parametrize("dtype", ["<c16", "<M8[s]", "|V8", "<U1000000"])
def test_arrays_of_other_types_are_refused(tmp_path, dtype):
    (tmp_path / "a.npy").write_bytes(npy((1, 75, 3), dtype, bytes(4000)))
    with pytest.raises(ValueError, match="a.npy: found an array of type"):
        read_keypoints(tmp_path / "a.npy", **SIZE)


def test_members_that_make_no_clip_are_not_read(tmp_path):
    """A clip of 30 frames with 8 unrelated members of 256 MB took 2 GB; here the other member could not be read at all."""
    np.savez(tmp_path / "a.npz", keypoints=clip_of(), fps=25.0)
    with zipfile.ZipFile(tmp_path / "a.npz", "a") as archive:
        archive.writestr("video.npy", b"no array")
    assert read_keypoints(tmp_path / "a.npz").fps == 25.0
    np.savez(tmp_path / "b.npz", keypoints=clip_of(), names=np.array([None]), allow_pickle=True)
    assert len(read_keypoints(tmp_path / "b.npz").keypoints) == 10


def test_arrays_by_columns_are_read_as_they_are(tmp_path):
    np.save(tmp_path / "a.npy", np.asfortranarray(clip_of()))
    np.savez(tmp_path / "b.npz", keypoints=np.asfortranarray(clip_of(), ">f8"))
    for name in ("a.npy", "b.npz"):
        np.testing.assert_array_equal(read_keypoints(tmp_path / name).keypoints, clip_of())


def test_an_archive_of_another_packing_or_too_many_members_is_refused(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("keypoints.npy", npy((5, 73, 2), content=bytes(4 * 5 * 73 * 2)))
    with pytest.raises(ValueError, match="a.npz: .*packed by method 14"):
        read_keypoints(tmp_path / "a.npz")
    save_clip(tmp_path / "b.npz")
    monkeypatch.setattr(keypoint_readers_uniglor, "MAX_ARCHIVE_MEMBERS", 2)
    with pytest.raises(ValueError, match="b.npz: 4 arrays, expected at most 2"):
        read_keypoints(tmp_path / "b.npz")
    monkeypatch.setattr(keypoint_readers_uniglor, "_MAX_READ_BYTES", 100)
    with pytest.raises(ValueError, match="b.npz: .*table of members"):
        read_keypoints(tmp_path / "b.npz")


def test_a_torn_member_is_refused(tmp_path):
    save_clip(tmp_path / "a.npz")
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[500] ^= 1
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(ValueError, match="a.npz: not a whole NumPy file .*CRC"):
        read_keypoints(tmp_path / "a.npz")


# --- .pose and .skels -----------------------------------------------------------------------------------------------------------------


def test_pose_files_of_other_dimensions_people_and_confidences_are_refused(tmp_path, rng):
    points, confidence = rng.uniform(10, 500, (4, 1, 75, 1)), np.ones((4, 1, 75))
    with pytest.raises(ValueError, match="a.pose: points of 1 dimensions, expected x, y and maybe z"):
        read_keypoints(write_components(tmp_path / "a.pose", holistic(0), points, confidence, channels="XC"))
    confidence[2] = np.inf
    with pytest.raises(ValueError, match="b.pose: found a confidence that is infinite"):
        read_keypoints(write_components(tmp_path / "b.pose", holistic(0), rng.uniform(10, 500, (4, 1, 75, 2)), confidence))
    empty = write_components(tmp_path / "c.pose", holistic(0), rng.uniform(10, 500, (1, 1, 75, 2)), np.ones((1, 1, 75))).read_bytes()
    body = len(empty) - 75 * 3 * 4 - 10
    old = bytearray(empty[:body] + struct.pack("<HH", 25, 65535) + bytes(2 * 65535))  # the first version: empty frames of two bytes
    old[:4] = struct.pack("<f", 0)
    (tmp_path / "d.pose").write_bytes(old)
    with pytest.raises(ValueError, match="d.pose: .*65,535 frames with .* coordinates"):
        read_keypoints(tmp_path / "d.pose")


def test_skels_that_are_no_text_are_named(tmp_path):
    (tmp_path / "a.skels").write_bytes(b"\xff\xfe 1 2")
    for read in (read_keypoints, read_skels):
        with pytest.raises(ValueError, match="a.skels, line 1: could not convert"):
            read(tmp_path / "a.skels")


def test_a_long_line_of_skels_is_read_in_parts_and_the_same(tmp_path, rng):
    values = rng.normal(size=(2000, 151)).round(3)
    (tmp_path / "a.skels").write_text(" ".join(map(str, values.ravel())))
    assert (tmp_path / "a.skels").stat().st_size > 1 << 20
    np.testing.assert_array_equal(read_keypoints(tmp_path / "a.skels").keypoints, values[:, :150].reshape(-1, 50, 3).astype("f4"))


# --- Every reader ---------------------------------------------------------------------------------------------------------------------


def test_what_no_reader_foresaw_names_the_file(tmp_path, monkeypatch):
    def broken(path, *known):
        raise RuntimeError("BIGINT_ERROR")

    monkeypatch.setitem(keypoint_readers_uniglor._READERS, ".npy", broken)
    (tmp_path / "a.npy").write_bytes(b"x")
    with pytest.raises(ValueError, match="a.npy: cannot be read .RuntimeError: BIGINT_ERROR"):
        read_keypoints(tmp_path / "a.npy")

    def too_large(path, *known):
        raise MemoryError

    monkeypatch.setitem(keypoint_readers_uniglor._READERS, ".npy", too_large)
    with pytest.raises(ValueError, match="a.npy: does not fit into memory .1 bytes in the file"):
        read_keypoints(tmp_path / "a.npy")

    def not_allowed(path, *known):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setitem(keypoint_readers_uniglor._READERS, ".npy", not_allowed)
    with pytest.raises(PermissionError):  # no fault of the file: the same call may succeed later
        read_keypoints(tmp_path / "a.npy")


@pytest.mark.parametrize("fps", [0.999, 1001, 1e-9, 1e9, math.nan, math.inf, "25", [25.0], True, {}, 10**400])
def test_frame_rates_outside_of_1_to_1000_are_refused_everywhere(tmp_path, fps):
    clip = clip_of()
    calls = [
        lambda: KeypointProcessor(fps=fps),
        lambda: KeypointProcessor().process(KeypointClip(clip, fps=fps)),
        lambda: clip_from_array(clip, fps=fps),
        lambda: read_keypoints(save_clip(tmp_path / "a.npz"), fps=fps),
        lambda: check_row(clip_from_array(clip).row("a", "ase") | {"fps": fps}),
        lambda: read_clip(ClipSource("a", "train", str(save_clip(tmp_path / "a.npz")), fps=fps)),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="fps="):
            call()


@pytest.mark.parametrize("value", [0, -5, math.nan, math.inf, 1e300, "640", [640], True])
def test_sides_of_an_image_are_numbers_above_0(value):
    processor, clip = KeypointProcessor(), clip_of()
    for side in ("width", "height", "aspect"):
        with pytest.raises(ValueError, match=f"{side}="):
            processor.process(KeypointClip(clip, **{side: value}))
    with pytest.raises(ValueError, match="width="):
        processor.calibrate(KeypointClip(clip, width=value))
    with pytest.raises(ValueError, match="height="):
        clip_from_array(clip, height=value)


# --- People ---------------------------------------------------------------------------------------------------------------------------


def naive_follow(frames, points, confidence, width=None):
    """Tracks that never end, compared one by one: how `follow_person` worked before, with no limit on people."""
    seen = (confidence > 0) & np.isfinite(points).all(-1)
    boxes = [(p[s].min(0), p[s].max(0)) if s.any() else None for p, s in zip(points, seen)]
    there = [index for index, box in enumerate(boxes) if box is not None]
    left, right = min(boxes[i][0][0] for i in there), max(boxes[i][1][0] for i in there)
    middle = (left + right) / 2 if not width else width / 2 if right > RELATIVE_LIMIT else 0.5
    reach = max(right - middle, middle - left) or 1.0

    def overlap(a, b):
        shared = np.maximum(np.minimum(boxes[a][1], boxes[b][1]) - np.maximum(boxes[a][0], boxes[b][0]), 0).prod()
        areas = sum((boxes[i][1] - boxes[i][0]).prod() for i in (a, b))
        return shared / max(areas - shared, 1e-9)

    tracks = []
    for frame in sorted(set(frames.tolist())):
        new, taken = [i for i in there if frames[i] == frame], set()
        pairs = [(overlap(track[-1], index), track, index) for track in tracks for index in new]
        for share, track, index in sorted(pairs, key=lambda pair: -pair[0]):
            if share > 0 and index not in taken and frames[track[-1]] < frame:
                track.append(index)
                taken.add(index)
        tracks += [[index] for index in new if index not in taken]

    def worth(index):
        central = 1 - abs((boxes[index][0][0] + boxes[index][1][0]) / 2 - middle) / reach
        return np.where(seen[index], confidence[index], 0).mean() * central

    return max(tracks, key=lambda track: sum(map(worth, track)))


def people_who_move(seed, num_frames=60, num_people=4):
    """Detections of people who walk, come and go, in the order of a detector that has none."""
    rng = np.random.default_rng(seed)
    places, speeds = rng.uniform(0, 1200, num_people), rng.normal(0, 12, num_people)
    frames, points, confidence = [], [], []
    for frame in range(num_frames):
        for who in rng.permutation(num_people):
            if rng.random() < 0.8:
                shift = places[who] + speeds[who] * frame, 100
                frames.append(frame)
                points.append(rng.uniform(0, 200, (12, 2)) + shift)
                confidence.append(rng.uniform(0.2, 0.5 + 0.1 * who) * (rng.random(12) > 0.2))
    return np.array(frames), np.array(points), np.array(confidence)


@pytest.mark.parametrize("seed", range(6))
def test_people_are_followed_as_by_comparing_all_with_all(seed):
    frames, points, confidence = people_who_move(seed)
    for width in (None, 1280):
        assert follow_person(frames, points, confidence, width).tolist() == naive_follow(frames, points, confidence, width)


def test_a_person_who_was_away_for_long_is_the_same_person():
    """Tracks end by the number of newer ones, not by time: else the half of a clip after a pause would be lost."""
    here = [frame for frame in range(1000) if not 200 <= frame < 900]
    frames = np.array([0, *here])
    points = np.array([[[0, 0], [20, 20]], *[[[300, 100], [400, 300]]] * len(here)], float)
    chosen = follow_person(np.sort(frames), points, np.ones((len(frames), 2)), 640)
    assert len(chosen) == len(here)


def test_a_crowd_is_tracked_in_time_that_grows_with_the_frames(monkeypatch):
    """100 frames of 15 people who never overlap took 96 s: all tracks were compared with all people."""
    counts = []
    original = np.nonzero
    monkeypatch.setattr(np, "nonzero", lambda values: counts.append(np.ndim(values) > 1 and np.size(values)) or original(values))
    frames = np.repeat(np.arange(300), 15)
    corners = np.arange(len(frames))[:, None, None] * 300.0 + np.array([[0, 0], [100, 100]])
    assert len(follow_person(frames, corners, np.ones((len(frames), 2)))) == 1
    assert max(counts) <= limits_uniglor.MAX_TRACKS * 15


@pytest.mark.parametrize("without_simdjson", [False, True])
def test_a_crowd_in_the_background_does_not_hide_the_signer(tmp_path, monkeypatch, without_simdjson):
    if without_simdjson:
        monkeypatch.setitem(__import__("sys").modules, "simdjson", None)
    crowd = [dict(seed=number, shift=-200.0 + 20 * number, confidence=0.2) for number in range(MAX_PEOPLE + 20)]
    frames = {number: [person(**who) for who in crowd] for number in range(3)}
    for number, people in frames.items():
        people.insert(7 * number, person(50 + number, shift=320.0))
    clip = read_keypoints(write_frames(tmp_path / "a", frames), width=1280, height=720)
    assert np.isclose(clip.confidence, 0.9).all() and (xs(clip) > 580).all()
    points, scores = np.zeros((3, MAX_PEOPLE + 5, 133, 2)), np.full((3, MAX_PEOPLE + 5, 133), 0.1)
    points += np.arange(MAX_PEOPLE + 5)[None, :, None, None] * 500 + np.random.default_rng(0).uniform(50, 100, (133, 2))
    scores[:, 3] = 0.9
    assert (clip_from_array(points, scores, **SIZE).confidence == np.float32(0.9)).all()


# --- The processor --------------------------------------------------------------------------------------------------------------------


def test_frames_are_counted_before_memory_is_taken():
    """Two frames at 1e-9 a second were 186 GiB; here arrays that take no memory would take it when copied."""
    processor, clip = KeypointProcessor(), clip_of(2)
    long = np.broadcast_to(clip[:1], (MAX_CLIP_FRAMES + 1, 73, 2))
    wide = np.broadcast_to(np.ones((1, 543, 3), np.float32), (90_000, 543, 3))
    for call in (
        lambda: processor.process(KeypointClip(long)),
        lambda: map_layout(KeypointClip(long)),
        lambda: clip_from_array(long),
        lambda: clip_from_array(wide),
    ):
        with pytest.raises(ValueError, match="frames.*expected at most"):
            call()
    with pytest.raises(ValueError, match="at 1000 instead of 1 frames a second: 199,001 frames, expected at most 100,000"):
        KeypointProcessor(fps=1000.0, noisy_frame_threshold=None).process(KeypointClip(np.broadcast_to(clip[:1], (200, 73, 2)), fps=1.0))
    with pytest.raises(ValueError, match="padded to more than"):
        processed = processor.process(KeypointClip(clip))
        many = processed._replace(keypoints=np.broadcast_to(processed.keypoints[:1], (90_000, 73, 2)))
        processor.pad([many] * 20)


@pytest.mark.parametrize("number", [1e9, 3e38, 1e300, -1e300])
def test_coordinates_beyond_a_million_shoulder_lengths_are_an_error(number):
    """One finite point of 3e38 in every frame was answered with a score of NaN."""
    clip = clip_of(20).astype(float)
    clip[:, 30] = number
    with pytest.raises(ValueError, match="left_hand_.* in frame 0 is .* shoulder lengths from the neck"):
        KeypointProcessor(noisy_frame_threshold=None).process(KeypointClip(clip, id="a"))


@pytest.mark.parametrize("factor", [1e300, 1e307])
def test_shoulders_that_are_too_far_apart_to_measure_are_an_error(factor):
    with pytest.raises(ValueError, match="apart, expected a finite length|shoulder lengths"):
        KeypointProcessor().process(KeypointClip(random_signing(20).astype(float) * factor))


@pytest.mark.parametrize(
    "given",
    [
        {"layout": ["uniglor73"]}, {"layout": {"a": 1}}, {"confidence": np.ones((10, 73), object)}, {"confidence": "high"},
        {"confidence": [[1], [1, 2]]}, {"missing": ["nan"]}, {"calibration": 3},
        {"calibration": Calibration(np.full(2, np.nan), 1.0, False)},
        {"calibration": Calibration(np.zeros(2), 0.0, False)}, {"calibration": Calibration(np.zeros(3), 1.0, False)},
        {"keypoints": [[[1, 2], [3]]]}, {"keypoints": None}, {"keypoints": np.full((10, 73, 2), "1")},
    ],
)  # fmt: skip
def test_arguments_of_other_types_are_value_errors(given):
    with pytest.raises(ValueError):
        given = {"keypoints": clip_of(), "id": "a"} | given
        calibration = given.pop("calibration", None)
        KeypointProcessor().process(KeypointClip(**given), calibration=calibration)


def test_the_rest_of_the_processor_keeps_the_contract():
    processor = KeypointProcessor()
    clip = processor.process(KeypointClip(clip_of()))
    calls = [
        lambda: processor.pad([]), lambda: processor.pad(None), lambda: processor.pad([None]),
        lambda: processor.pad([clip, clip._replace(keypoints=clip.keypoints[:, :5])]),
        lambda: processor.mirror([[1, 2]]), lambda: processor.mirror(clip.keypoints[:, :72]), lambda: processor.mirror(None),
        lambda: processor.mirror(clip.keypoints, clip.keypoint_mask[:3]),
        lambda: processor.denormalize(clip.keypoints, np.full(2, np.nan), 1.0), lambda: processor.denormalize(clip.keypoints, [0, 0], "a"),
        lambda: processor.denormalize(clip.keypoints, np.zeros(2), np.ones(10**6)), lambda: processor.denormalize(clip.keypoints, 0, 1.0),
        lambda: processor.denormalize(clip.keypoints, np.zeros(2), 1e300),
        lambda: processor.process_row(None), lambda: processor.process_row({"id": "a"}), lambda: processor.process_row({"keypoints": 3}),
        lambda: processor.process_row({"keypoints": clip_of(), "fps": "25"}), lambda: clip_from_arrays(None), lambda: clip_from_arrays([]),
        lambda: map_layout(KeypointClip(clip_of().astype(float) * 1e300)), lambda: map_layout(KeypointClip(clip_of(), layout=3)),
        lambda: map_layout(KeypointClip(clip_of()), target=[]),
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(ValueError):
            call()


@pytest.mark.parametrize(
    "settings",
    [
        {"fps": 1e9}, {"fps": "25"}, {"layout": ["uniglor73"]}, {"layout": {}}, {"max_gap": 1e18}, {"max_gap": -1},
        {"calibration_frames": -1},
        {"calibration_frames": 2.5}, {"normalize": ["clip"]}, {"num_channels": 2.0}, {"noisy_frame_threshold": "a"},
        {"min_confidence": None},
        {"padding_value": math.nan}, {"max_dropped_frames": [3]}, {"process": 3}, {"self": 1},
    ],
)  # fmt: skip
def test_a_strangers_settings_are_refused_when_they_are_loaded(tmp_path, settings):
    content = KeypointProcessor().to_dict() | settings
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(content))
    with pytest.raises(ValueError):
        KeypointProcessor.from_pretrained(tmp_path)


@pytest.mark.parametrize("content", [b"[]", b"3", b"null", b"[" * 100_000, b'{"fps": ', b"\xff\xfe"])
def test_settings_that_are_no_object_are_refused(tmp_path, content):
    (tmp_path / "preprocessor_config.json").write_bytes(content)
    with pytest.raises(ValueError, match="preprocessor_config.json"):
        KeypointProcessor.from_pretrained(tmp_path)
    with pytest.raises(OSError):
        KeypointProcessor.from_pretrained(tmp_path / "nowhere")


# --- Corpora --------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "start, end",
    [
        (-0.2, 0.7),
        (math.nan, 0.2),
        (0.0, math.nan),
        (0.3, 0.1),
        (0.2, 0.2),
        (math.inf, None),
        ("0", 0.2),
        (None, 0.2),
        (0.0, -1.0),
        (True, 2),
    ],
)
def test_times_that_are_no_span_are_refused(tmp_path, start, end):
    """A start of -0.2 s gave other frames, in silence: a slice counts from the end."""
    with pytest.raises(ValueError, match="^a: "):
        read_clip(ClipSource("a", "train", str(save_clip(tmp_path / "a.npz", 20)), start=start, end=end))
    assert len(read_clip(ClipSource("a", "train", str(tmp_path / "a.npz"), start=0.0, end=0.4)).keypoints) == 10


def test_links_are_followed_once(tmp_path):
    """One link to its own folder gave every clip 41 times, two had 2^40 ways."""
    (tmp_path / "data" / "b").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    save_clip(tmp_path / "data" / "b" / "clip.npz")
    save_clip(tmp_path / "outside" / "other.npz")
    for name, target in (("a", "b"), ("loop", "."), ("up", ".."), ("b/again", ".."), ("far", tmp_path / "outside")):
        os.symlink(target, tmp_path / "data" / name)
    assert list(find_clips(tmp_path / "data")[0]) == ["b/clip", "far/other"]
    write_frames(tmp_path / "data" / "NIA_SL_WORD0001_REAL01_F", {0: [person()]})
    assert len(find_files(tmp_path / "data")[0]) == 1


def test_a_split_is_short_enough_for_a_files_name():
    for name in ("x" * 300, "ä" * 60, "\ud800"):
        with pytest.raises(ValueError, match="split .*expected train"):
            split_of(name, "t.csv")


@pytest.mark.parametrize(
    "change",
    [
        {"label": MAX_LABELS}, {"label": 10**22}, {"label": -1}, {"label": True}, {"width": 10**12}, {"text": "\ud800"}, {"id": "a\udcff"},
        {"gloss": "\udfff"}, {"text": 3}, {"keypoints": [[[1, 2], [3]]]}, {"keypoints": np.full((10, 73, 2), 1e300)},
        {"keypoints": np.ones((10, 73, 2), object)}, {"confidence": np.full((10, 73), "1")},
    ],
)  # fmt: skip
def test_rows_that_a_table_or_a_model_cannot_hold_are_refused(change):
    row = clip_from_array(clip_of()).row("a", "ase")
    assert check_row(row) is row
    with pytest.raises(ValueError):
        check_row(row | change)
    with pytest.raises(ValueError):
        check_row(None)


BAD_CLIPS = {
    "empty.npz": lambda path: path.write_bytes(b""),
    "torn.npz": lambda path: path.write_bytes(save_clip(path).read_bytes()[:500]),
    "deep.json": lambda path: path.write_text("[" * 100_000),
    "bigint.json": lambda path: path.write_text('{"people":[{"pose_keypoints_2d":[' + ",".join(["9" * 400] * 75) + "]}]}"),
    "seven.json": lambda path: path.write_text('{"people":[{"pose_keypoints_2d":7}]}'),
    "ids.json": lambda path: path.write_text('[{"frame_id":"a","instances":[]},{"frame_id":1,"instances":[]}]'),
    "fps.json": lambda path: path.write_text(json.dumps({"keypoints": clip_of().tolist(), "fps": []})),
    "slow.npz": lambda path: save_clip(path, fps=1e-6),
    "latin.skels": lambda path: path.write_bytes(b"\xe4\xf6 1 2"),
    "fifo.npy": os.mkfifo,
    "device.npy": lambda path: os.symlink("/dev/zero", path),
    "nowhere.npy": lambda path: os.symlink("nowhere", path),
    "folder_keypoints": lambda path: (path / "c_1_keypoints.json").mkdir(parents=True) or write_frames(path, {0: [person()]}),
    "huge.npy": lambda path: path.write_bytes(npy((10**12, 75, 3))),
    "far.npz": lambda path: save_clip(path, keypoints=np.full((10, 42, 2), 1e300)),
    "pickle.npy": lambda path: np.save(path, np.array([{}], object), allow_pickle=True),
}


def test_one_bad_clip_of_each_kind_among_good_ones_is_left_out_and_counted(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    for number in range(3):
        save_clip(data / f"good{number}.npz", seed=number)
    for name, write in BAD_CLIPS.items():
        (data / name.replace(".", "-")).mkdir()  # a folder of its own: JSON beside other clips is about them
        write(data / name.replace(".", "-") / name)
    (data / "a.npz").mkdir()  # a folder of a clip's name holds no clips
    audit = build("folder", data, tmp_path / "out")
    assert audit["splits"]["train"]["clips"] == 3
    assert audit["splits"]["train"]["left_out"] == len(audit["left_out"]) == len(BAD_CLIPS)
    assert all(entry["reason"] for entry in audit["left_out"])


def test_a_clip_that_a_corpus_of_ones_own_cannot_read_is_left_out(tmp_path):
    import dataclasses

    from datasets_scripts.corpus import read_rows

    def read(source):
        if source.id == "bad":
            raise KeyError("hands")
        return read_clip(source)

    corpus = dataclasses.replace(FOLDER, read=read)
    path = str(save_clip(tmp_path / "a.npz"))
    sources = [ClipSource(name, "train", path, language="ase") for name in ("a", "bad", "b")]
    found = list(read_rows(corpus, sources, ("uniglor73", 73, 2)))
    assert [row is not None for _, row, _ in found] == [True, False, True] and "KeyError" in found[1][2]


BAD_ROWS = {
    "label": ["9" * 23, "9" * 5000, str(MAX_LABELS)],
    "fps": ["fast", "nan", "1e-9", "1e9"],
    "split": ["x" * 300, "my split"],
    "start": ["-0.2", "nan", "abc"],
    "text": ["\ud800"],
}


def test_one_bad_row_of_each_kind_among_good_ones_is_left_out_and_counted(tmp_path):
    data, rows = tmp_path / "data", []
    data.mkdir()
    bad = [(column, value) for column, values in BAD_ROWS.items() for value in values]
    for number, change in enumerate([None, *bad, None, {}, None]):
        save_clip(data / f"clip{number}.npz", seed=number)
        row = {"id": f"clip{number}", "text": f"text {number}", "label": str(number), "fps": "25", "split": "train", "start": "0"}
        rows.append(row if change is None else {"id": row["id"]} if change == {} else row | dict([change]))
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    audit = build("folder", data, tmp_path / "out", annotations=tmp_path / "t.jsonl", start_column="start")
    assert audit["splits"]["train"]["clips"] == 4 and sum(split["left_out"] for split in audit["splits"].values()) == len(bad)


def test_a_broken_row_ends_no_frame_store(tmp_path):
    """One row of 1e-6 frames a second ended the processing of a whole data set with MemoryError."""
    import datasets

    from datasets_scripts.schema import FEATURES
    from train.segments import FrameStore

    good = [clip_from_array(clip_of(20, seed), fps=25.0).row(f"good{seed}", "ase") for seed in range(3)]
    far = clip_of(20).astype(np.float32)
    far[:, 30] = 3e38
    changes = [{"fps": 1e-6}, {"fps": -1.0}, {"fps": 1e9}, {"keypoints": far}, {"keypoints": np.full((20, 73, 2), np.nan, "f4")},
               {"layout": "coco"}, {"width": -5}, {"confidence": np.ones((3, 73), "f4")}]  # fmt: skip
    rows = good[:2] + [good[0] | change | {"id": f"bad{number}"} for number, change in enumerate(changes)] + good[2:]
    store = FrameStore.build(datasets.Dataset.from_list(rows, features=FEATURES), KeypointProcessor(), tmp_path)
    assert store.ids.tolist() == ["good0", "good1", "good2"] and np.isfinite(store.keypoints).all()


def test_tables_that_cannot_be_parsed_are_named_with_the_line(tmp_path, monkeypatch):
    (tmp_path / "a.csv").write_text('id,text\na,"' + "x" * 200_000)
    with pytest.raises(ValueError, match="a.csv, line 2: field larger than field limit .131072.. Is a quote not closed"):
        read_table(tmp_path / "a.csv")
    (tmp_path / "a.jsonl").write_text('{"id": 1}\n' + "[" * 100_000)
    with pytest.raises(ValueError, match="a.jsonl, line 2: not JSON"):
        read_table(tmp_path / "a.jsonl")
    (tmp_path / "a.parquet").write_bytes(b"PAR1 no table PAR1")
    with pytest.raises(ValueError, match="a.parquet: not a whole Parquet file"):
        read_table(tmp_path / "a.parquet")
    monkeypatch.setattr("datasets_scripts.corpus.MAX_TEXT_VALUES", 10)
    (tmp_path / "b.csv").write_text("id,text\n" + "a,b\n" * 10)
    with pytest.raises(ValueError, match="b.csv: 22 cells, expected at most 10"):
        read_table(tmp_path / "b.csv")


def test_a_parquet_table_that_unpacks_to_more_than_the_limit_is_refused(tmp_path, monkeypatch):
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table({"id": ["a"] * 5000, "text": ["x" * 10_000] * 5000}), tmp_path / "a.parquet")
    assert (tmp_path / "a.parquet").stat().st_size < 200_000 and len(read_table(tmp_path / "a.parquet")) == 5000
    monkeypatch.setattr("datasets_scripts.corpus.MAX_TABLE_BYTES", 1 << 20)
    with pytest.raises(ValueError, match="a.parquet: .*1 MB when unpacked"):
        read_table(tmp_path / "a.parquet")


def test_rows_of_json_lines_may_lack_what_is_null(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"id": "a", "text": "x"}\n{"id": "b"}\n')
    assert read_table(tmp_path / "a.jsonl") == [{"id": "a", "text": "x"}, {"id": "b", "text": None}]


def test_entries_of_wlasl_with_an_odd_split_are_left_out(tmp_path):
    for number in range(2):
        save_clip(tmp_path / f"{number}.npz", seed=number)
    instances = [{"video_id": "0", "split": "train"}, {"video_id": "1", "split": "x" * 300}, {"video_id": "2", "split": 3.5}]
    (tmp_path / "WLASL_v0.3.json").write_text(json.dumps([{"gloss": "book", "instances": instances}]))
    listing = list_corpus(WLASL, tmp_path)
    assert [source.id for source in listing.sources] == ["0"] and [entry["id"] for entry in listing.left_out] == ["1", "2"]


def test_names_that_are_no_unicode_are_written_out_in_a_build(tmp_path):
    try:
        (tmp_path / "data" / "word\udcff").mkdir(parents=True)
        save_clip(tmp_path / "data" / "word\udcff" / "a.npz")
    except (UnicodeEncodeError, OSError):
        pytest.skip("the names of this file system are Unicode")
    (tmp_path / "data" / "book").mkdir()
    save_clip(tmp_path / "data" / "book" / "b.npz")
    audit = build("isolated", tmp_path / "data", tmp_path / "out")
    assert audit["splits"]["train"]["clips"] == 2 and audit["labels"] == ["book", "word\\udcff"]
    assert json.loads((tmp_path / "out" / "audit.json").read_text(encoding="utf-8"))["labels"] == audit["labels"]


@pytest.mark.parametrize("text", ["\ud800", 3, None, "a" * 2000])
def test_texts_that_cannot_be_spelled_are_refused(text):
    pytest.importorskip("spoken_to_signed")
    with pytest.raises(ValueError, match="Found a text|No letter for"):
        fingerspelling.spell(text, "ase")
    with pytest.raises(ValueError):
        next(fingerspelling.rows("ase", words=[text], split="train"))
