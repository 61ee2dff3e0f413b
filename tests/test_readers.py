"""Keypoint files: every kind in trees of their real shape, what is wrong with the wrong ones, and the real files where they are."""

import csv
import json
import sys

import numpy as np
import pytest

from benchmarks.readers import write_openpose, write_pose
from datasets_scripts.schema import check_row
from modeling_unigloR import (
    KeypointClip,
    KeypointProcessor,
    clip_from_array,
    map_layout,
    read_keypoints,
    read_skels,
    rendering_uniglor,
)
from modeling_unigloR.keypoint_clip_uniglor import follow_person
from modeling_unigloR.keypoints_uniglor import LAYOUTS, POSE178_MESH, SOURCE_LAYOUTS, point_index

from .conftest import REAL_DATA, random_signing

INDEX = point_index("uniglor73")
WHOLEBODY = dict(BODY=23, FACE=68, LEFT_HAND=21, RIGHT_HAND=21)


def person(seed=0, shift=0.0, confidence=0.9, body=25, parts=("pose", "face", "hand_left", "hand_right")):
    """One person of an OpenPose file, about 100 pixels wide at x = 300 + shift."""
    rng = np.random.default_rng(seed)
    sizes = dict(pose=body, face=70, hand_left=21, hand_right=21)
    points = {part: np.c_[rng.uniform(250, 350, (sizes[part], 2)) + (shift, 0), np.full(sizes[part], confidence)] for part in parts}
    return {f"{part}_keypoints_2d": values.round(3).ravel().tolist() for part, values in points.items()}


def write_frames(folder, frames):
    """{number: people} as OpenPose's files."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, people in frames.items():
        (folder / f"clip_{number:012d}_keypoints.json").write_text(json.dumps({"version": 1.3, "people": people}))
    return folder


def xs(clip):
    """(T,) mean x of what is seen; NaN where nothing is."""
    seen = clip.confidence > 0
    return np.where(seen, clip.keypoints[..., 0], 0).sum(1) / np.where(seen.any(1), seen.sum(1), np.nan)


# --- OpenPose -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("without_simdjson", [False, True])
def test_a_folder_of_openpose_reads_as_pose_format_reads_it(tmp_path, monkeypatch, without_simdjson):
    openpose = pytest.importorskip("pose_format.utils.openpose")
    if without_simdjson:
        monkeypatch.setitem(sys.modules, "simdjson", None)
    write_openpose(tmp_path, num_frames=5)
    clip, pose = read_keypoints(tmp_path, fps=24), openpose.load_openpose_directory(str(tmp_path))
    np.testing.assert_array_equal(clip.keypoints, pose.body.data.data[:, 0])
    np.testing.assert_array_equal(clip.confidence, pose.body.confidence[:, 0])
    assert clip.layout == "openpose137" and clip.fps == 24 and clip.keypoints.dtype == clip.confidence.dtype == np.float32


def test_frames_without_a_file_or_a_person_keep_their_time(tmp_path):
    folder = write_frames(tmp_path / "a", {7: [person(0)], 8: [person(1)], 9: [], 12: [person(2)]})
    clip = read_keypoints(folder)
    assert len(clip.keypoints) == 6
    assert ((clip.confidence > 0).all(1) == [1, 1, 0, 0, 0, 1]).all()
    assert (np.isnan(clip.keypoints).all((1, 2)) == [0, 0, 1, 1, 1, 0]).all()


def test_stray_files_are_ignored(tmp_path):
    folder = write_frames(tmp_path / "a", {0: [person()], 1: [person()]})
    for name in (".DS_Store", "._clip_000000000005_keypoints.json", "notes.json", "clip.mp4", "info_keypoints.json"):
        (folder / name).write_text("not json")
    assert len(read_keypoints(folder).keypoints) == 2


def test_people_without_face_or_hands_are_padded_with_points_not_seen(tmp_path):
    frames = {0: [person(parts=("pose",))], 1: [person() | {"face_keypoints_2d": []}], 2: [person()]}
    clip = read_keypoints(write_frames(tmp_path / "a", frames))
    assert ((clip.confidence > 0).sum(1) == [25, 67, 137]).all()


def test_the_older_body_has_its_own_layout(tmp_path):
    clip = read_keypoints(write_frames(tmp_path / "a", {0: [person(body=18)], 1: [person(body=18, parts=("pose", "hand_left"))]}))
    assert clip.layout == "openpose18" and clip.keypoints.shape == (2, 130, 2)
    assert clip.confidence[0].all() and ((clip.confidence[1] > 0) == ([1] * 18 + [0] * 70 + [1] * 21 + [0] * 21)).all()


def test_files_before_version_1_3_are_read(tmp_path):
    old = {key.removesuffix("_2d"): values for key, values in person().items()}
    new = read_keypoints(write_frames(tmp_path / "new", {0: [person()]}))
    np.testing.assert_array_equal(read_keypoints(write_frames(tmp_path / "old", {0: [old]})).keypoints, new.keypoints)


def test_the_signer_is_followed_whatever_place_the_file_gives_them(tmp_path):
    signer, bystander = dict(shift=300.0, confidence=0.9), dict(shift=-200.0, confidence=0.8)
    frames = {
        number: [person(number, **who) for who in ((signer, bystander) if number % 2 else (bystander, signer))] for number in range(6)
    }
    frames[3] = [person(9, **bystander)]  # the signer is lost for a frame: nobody stands in
    clip = read_keypoints(write_frames(tmp_path / "a", frames), width=1280, height=720)
    assert np.isnan(clip.keypoints[3]).all()
    assert (np.delete(xs(clip), 3) > 550).all()


def test_a_stray_detection_does_not_break_a_clip_of_one_person(tmp_path):
    frames = {number: [person(number, shift=number * 5.0)] for number in range(10)}
    frames[4] = [person(99, shift=400, confidence=0.2, parts=("hand_left",)), *frames[4]]
    clip = read_keypoints(write_frames(tmp_path / "a", frames))
    assert (clip.confidence > 0).all() and xs(clip).max() < 400


def test_overlap_decides_between_people_who_come_close():
    """Two people of 100 pixels; the one who is central and sure at first goes on being the one after the other has come near."""
    places = np.array([[300, 900], [320, 700], [340, 500], [350, 460]], float)
    order = np.array([[0, 1], [1, 0], [0, 1], [1, 0]])  # in which the detector lists them
    box = np.array([[-50, 0], [50, 200]], float)
    points = np.concatenate([box + [[x, 100]] for row, column in zip(places, order) for x in row[column]]).reshape(8, 2, 2)
    confidence = np.repeat(np.where(order.ravel() == 0, 0.9, 0.6), 2).reshape(8, 2)
    chosen = follow_person(np.repeat(np.arange(4), 2), points, confidence, width=640)
    assert (points[chosen, :, 0].mean(1) == places[:, 0]).all()


def test_one_json_file_is_a_clip_of_one_frame(tmp_path):
    folder = write_frames(tmp_path / "a", {5: [person(shift=-200, confidence=0.3), person(1)]})
    clip = read_keypoints(next(folder.iterdir()), width=640, height=480)
    assert clip.keypoints.shape == (1, 137, 2) and 250 < xs(clip)[0] < 350


@pytest.mark.parametrize(
    "content, message",
    [
        ('{"version": 1.3, "people": [{"pose_keypoi', "not a whole JSON file"),
        ("[1, 2]", "another kind"),
        ('{"people": 3}', "another kind"),
        ('{"people": [3]}', "a person that is a int"),
        (json.dumps({"people": [person() | {"face_keypoints_2d": [1.0] * 12}]}), "face_keypoints has 12 numbers, expected 210"),
        (json.dumps({"people": [person() | {"pose_keypoints_2d": [1.0] * 60}]}), "60 numbers, expected 75 or 54"),
        (json.dumps({"people": [person() | {"pose_keypoints_2d": ["x"] * 75}]}), "not numbers"),
    ],
)
def test_a_wrong_openpose_file_is_named_with_what_is_wrong(tmp_path, content, message):
    folder = write_frames(tmp_path / "a", {0: [person()]})
    (folder / "clip_000000000001_keypoints.json").write_text(content)
    with pytest.raises(ValueError, match=message) as caught:
        read_keypoints(folder)
    assert "clip_000000000001_keypoints.json" in str(caught.value)


def test_wrong_folders_say_what_was_found(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="found nothing"):
        read_keypoints(tmp_path / "empty")
    write_frames(tmp_path / "clips" / "a", {0: [person()]})
    with pytest.raises(ValueError, match="such as 'a'"):
        read_keypoints(tmp_path / "clips")
    with pytest.raises(ValueError, match="nobody is seen in any of its 2 frames"):
        read_keypoints(write_frames(tmp_path / "nobody", {0: [], 1: []}))
    folder = write_frames(tmp_path / "two", {0: [person()]})
    (folder / "other_0_keypoints.json").write_text("{}")
    with pytest.raises(ValueError, match="are both frame 0"):
        read_keypoints(folder)
    with pytest.raises(ValueError, match="frames without a file"):
        read_keypoints(write_frames(tmp_path / "wide", {0: [person()], 20_000: [person()]}))
    with pytest.raises(ValueError, match="bodies of 18 and 25 points"):
        read_keypoints(write_frames(tmp_path / "mixed", {0: [person()], 1: [person(body=18)]}))
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read_keypoints(tmp_path / "nowhere")


# --- Other JSON ---------------------------------------------------------------------------------------------------------------------


def test_mmpose_predictions_are_followed_over_frames(tmp_path):
    rng = np.random.default_rng(0)

    def instance(shift, score):
        points = rng.uniform(250, 350, (133, 2)) + (shift, 0)
        return {"keypoints": points.tolist(), "keypoint_scores": [score] * 133, "bbox": [[0, 0, 1, 1]]}

    frames = [{"frame_id": number, "instances": [instance(200, 0.5), instance(0, 0.9)]} for number in (1, 2, 4)]
    path = tmp_path / "p.json"
    path.write_text(json.dumps({"meta_info": {}, "instance_info": frames}))
    clip = read_keypoints(path, width=600, height=400)
    assert clip.layout == "wholebody133" and clip.keypoints.shape == (4, 133, 2)
    assert np.isnan(clip.keypoints[2]).all() and (np.delete(xs(clip), 2) < 360).all()


def test_an_object_of_keypoints_and_scores_is_read(tmp_path, rng):
    points, scores = rng.uniform(10, 500, (3, 133, 2)), rng.uniform(0, 1, (3, 133))
    points[1, 5] = np.nan  # which Python's json writes and strict parsers refuse
    (tmp_path / "k.json").write_text(json.dumps({"keypoints": points.tolist(), "scores": scores.tolist(), "fps": 30}))
    clip = read_keypoints(tmp_path / "k.json")
    assert clip.layout == "wholebody133" and clip.fps == 30 and clip.confidence[1, 5] == 0
    np.testing.assert_allclose(clip.confidence[0], scores[0], rtol=1e-6)


def test_json_of_another_kind_says_what_is_expected(tmp_path):
    for content, message in (("[1, 2]", "a list"), ('{"a": 1, "b": 2}', "expected keypoints under one of the names"), ("{", "not a whole")):
        (tmp_path / "x.json").write_text(content)
        with pytest.raises(ValueError, match=message):
            read_keypoints(tmp_path / "x.json")


# --- .pose --------------------------------------------------------------------------------------------------------------------------


def write_components(path, sizes, points, confidence, names=None, fps=25.0, channels="XYC"):
    pose_format = pytest.importorskip("pose_format")
    from pose_format.numpy import NumPyPoseBody
    from pose_format.pose_header import PoseHeader, PoseHeaderComponent, PoseHeaderDimensions

    components = [
        PoseHeaderComponent(name, (names or {}).get(name, list(map(str, range(size)))), [], [(0, 0, 0)], channels)
        for name, size in sizes.items()
    ]
    with open(path, "wb") as file:
        header = PoseHeader(0.2, PoseHeaderDimensions(640, 480, 0), components)
        pose_format.Pose(header, NumPyPoseBody(fps, points.astype(np.float32), confidence.astype(np.float32))).write(file)
    return path


def holistic(face, world=0, body=33):
    sizes = dict(POSE_LANDMARKS=body, FACE_LANDMARKS=face, LEFT_HAND_LANDMARKS=21, RIGHT_HAND_LANDMARKS=21, POSE_WORLD_LANDMARKS=world)
    return {name: size for name, size in sizes.items() if size}


@pytest.mark.parametrize(
    "sizes, layout, num_points",
    [
        (holistic(468), "mediapipe543", 543),
        (holistic(468, world=33), "mediapipe543", 543),
        (holistic(478, world=33), "mediapipe543", 553),
        (holistic(0), "mediapipe75", 75),
        (holistic(128, body=8), "pose178", 178),
        (dict(pose_keypoints_2d=25, face_keypoints_2d=70, hand_left_keypoints_2d=21, hand_right_keypoints_2d=21), "openpose137", 137),
        ({"BODY_135": 135}, "wholebody133", 133),
        ({f"{part}_136": size + 3 * (part == "BODY") for part, size in WHOLEBODY.items()}, "wholebody133", 133),
        ({f"{part}_133": size for part, size in WHOLEBODY.items()}, "wholebody133", 133),
        (WHOLEBODY, "wholebody133", 133),
    ],
)
def test_every_layout_that_pose_format_knows_is_read(tmp_path, rng, sizes, layout, num_points):
    total = sum(sizes.values())
    points, confidence = rng.uniform(10, 500, (4, 1, total, 2)), rng.uniform(0.1, 1, (4, 1, total))
    names = {"FACE_LANDMARKS": list(map(str, POSE178_MESH))} if layout == "pose178" else None
    clip = read_keypoints(write_components(tmp_path / "a.pose", sizes, points, confidence, names))
    assert clip.layout == layout and clip.keypoints.shape == (4, num_points, 2) and num_points in SOURCE_LAYOUTS[layout].blocks
    assert (clip.fps, clip.width, clip.height) == (25.0, 640, 480)
    if total == num_points:
        np.testing.assert_array_equal(clip.keypoints, points[:, 0].astype(np.float32))


@pytest.mark.parametrize("num_channels", [2, 3])
def test_what_our_rendering_wrote_is_read_back_exactly(tmp_path, num_channels):
    pytest.importorskip("pose_format")
    motion = np.round(random_signing(6, num_channels=num_channels) * 1024) / 1024  # so that pixels are exact in float32
    motion[0, INDEX["left_elbow"], 0] = 7.5  # a canvas of 1920 pixels, on which the neck's place is whole numbers
    seen = np.ones(motion.shape[:2], bool)
    seen[2:, 27:50] = False
    rendering_uniglor.to_pose((motion, seen), tmp_path / "a.pose", fps=30)
    clip = read_keypoints(tmp_path / "a.pose")
    assert (clip.layout, clip.fps, clip.width, clip.height) == ("uniglor73", 30, 1920, 1920)
    np.testing.assert_array_equal(clip.confidence, seen)
    in_shoulder_lengths = (clip.keypoints - np.array([960, 832, 0])[:num_channels]) / rendering_uniglor.POSE_SCALE
    np.testing.assert_array_equal(in_shoulder_lengths[seen], motion[seen])


def test_the_processor_takes_a_rendered_file_as_the_motion_that_was_drawn(tmp_path):
    pytest.importorskip("pose_format")
    motion, seen = random_signing(40), np.ones((40, 73), bool)
    seen[5:9, 50:71] = False
    rendering_uniglor.to_pose((motion, seen), tmp_path / "a.pose")
    drawn = KeypointProcessor().process(KeypointClip(motion, seen.astype(np.float32), layout="uniglor73", fps=25.0))
    read = KeypointProcessor().process(read_keypoints(tmp_path / "a.pose"))
    np.testing.assert_allclose(read.keypoints, drawn.keypoints, atol=1e-5)
    np.testing.assert_array_equal(read.keypoint_mask, drawn.keypoint_mask)


def test_points_of_another_program_in_components_of_our_names_are_not_taken_for_ours(tmp_path, rng):
    points, confidence = rng.uniform(10, 500, (4, 1, 73, 2)), np.ones((4, 1, 73))
    sizes = dict(POSE=8, FACE=19, LEFT_HAND=23, RIGHT_HAND=23)
    with pytest.raises(ValueError, match=r"unknown points: POSE \(8\), FACE \(19\)"):
        read_keypoints(write_components(tmp_path / "a.pose", sizes, points, confidence))


def test_layouts_near_coco_wholebody_find_the_points_of_the_same_name():
    """The tables, against the point names that pose-format gives these layouts."""
    pytest.importorskip("pose_format")
    from pose_format.utils.alphapose import BODY_POINTS as ALPHAPOSE
    from pose_format.utils.cocowholebody133_header import BODY_POINTS as COCO
    from pose_format.utils.openpose_135 import BODY_135_POINTS

    from modeling_unigloR.keypoint_readers_uniglor import _TO_WHOLEBODY

    assert [ALPHAPOSE[index] for index in _TO_WHOLEBODY["BODY_136"][:23]] == COCO
    found = [BODY_135_POINTS[index] for index in _TO_WHOLEBODY["BODY_135"]]
    sides = {"left_": "L", "right_": "R"}
    expected = [
        "".join(sides.get(name[: name.find("_") + 1], "") + name.split("_", name.startswith(("left", "right")))[-1]) for name in COCO
    ]
    assert [name.lower() for name in found[:23]] == [name.replace("_", "").lower() for name in expected]
    assert found[23:91] == BODY_135_POINTS[65:133] and found[23] == "FaceContour0" and found[90] == "IMouth7"
    assert found[91] == "LWrist" and found[92] == "LThumb1CMC" and found[111] == "LPinky4FingerTip"
    assert found[112] == "RWrist" and found[113] == "RThumb1CMC" and found[132] == "RPinky4FingerTip"


def test_components_in_another_order_find_their_places(tmp_path, rng):
    points, confidence = rng.uniform(10, 500, (2, 1, 75, 3)), np.ones((2, 1, 75))
    usual = read_keypoints(write_components(tmp_path / "a.pose", holistic(0), points, confidence, channels="XYZC"))
    turned = dict(reversed(holistic(0).items()))
    order = [*range(54, 75), *range(33, 54), *range(33)]
    other = read_keypoints(write_components(tmp_path / "b.pose", turned, points[:, :, order], confidence, channels="XYZC"))
    np.testing.assert_array_equal(usual.keypoints, other.keypoints)


def test_one_of_several_people_in_a_pose_file_is_taken(tmp_path, rng):
    points = rng.uniform(280, 320, (5, 2, 75, 2)) + np.array([-200, 0])[None, :, None, None]
    confidence = np.ones((5, 2, 75)) * 0.9
    confidence[2] = 0
    clip = read_keypoints(write_components(tmp_path / "a.pose", holistic(0), points, confidence))
    np.testing.assert_allclose(np.delete(clip.keypoints, 2, 0), np.delete(points[:, 1], 2, 0), rtol=1e-6)
    assert np.isnan(clip.keypoints[2]).all()


def test_wrong_pose_files_are_named(tmp_path, rng):
    good = write_components(tmp_path / "a.pose", holistic(0), rng.uniform(10, 500, (4, 1, 75, 2)), np.ones((4, 1, 75)))
    (tmp_path / "half.pose").write_bytes(good.read_bytes()[:-400])
    with pytest.raises(ValueError, match=r"half.pose: not a whole .pose file"):
        read_keypoints(tmp_path / "half.pose")
    (tmp_path / "text.pose").write_text("no pose")
    with pytest.raises(ValueError, match="text.pose: not a whole"):
        read_keypoints(tmp_path / "text.pose")
    other = write_components(tmp_path / "other.pose", {"HANDS": 42}, rng.uniform(10, 500, (4, 1, 42, 2)), np.ones((4, 1, 42)))
    with pytest.raises(ValueError, match=r"unknown points: HANDS \(42\)"):
        read_keypoints(other)
    unlike = write_components(tmp_path / "u.pose", holistic(128, body=8), rng.uniform(10, 500, (4, 1, 178, 2)), np.ones((4, 1, 178)))
    with pytest.raises(ValueError, match="unknown points"):  # 128 points of the face, but other ones
        read_keypoints(unlike)
    with pytest.raises(ValueError, match="in layout 'mediapipe75', not in layout='pose178'"):
        read_keypoints(good, layout="pose178")


def test_a_pose_file_maps_as_pose_format_and_our_table_do(tmp_path):
    Pose = pytest.importorskip("pose_format").Pose
    write_pose(tmp_path / "a.pose", num_frames=7)
    clip, pose = read_keypoints(tmp_path / "a.pose"), Pose.read((tmp_path / "a.pose").read_bytes())
    ours = map_layout(clip)
    theirs = map_layout(KeypointClip(pose.body.data.filled(0)[:, 0], pose.body.confidence[:, 0], "mediapipe543"))
    np.testing.assert_array_equal(ours.keypoints, theirs.keypoints)
    np.testing.assert_array_equal(ours.confidence, theirs.confidence)


# --- Arrays -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_face, size", [(0, 258), (468, 1662)])
def test_flattened_holistic_is_unflattened_with_its_visibility(rng, num_face, size):
    body, rest = rng.uniform(10, 500, (6, 33, 4)), rng.uniform(10, 500, (6, num_face + 42, 3))
    body[..., 3] = rng.uniform(0.1, 1, (6, 33))
    rest[2, num_face : num_face + 21] = 0  # the left hand was not seen
    clip = clip_from_array(np.concatenate([body.reshape(6, -1), rest.reshape(6, -1)], axis=1))
    assert size == 33 * 4 + rest[0].size and clip.layout == ("mediapipe543" if num_face else "mediapipe75")
    np.testing.assert_allclose(clip.keypoints, np.concatenate([body[..., :3], rest], axis=1), rtol=1e-6)
    np.testing.assert_allclose(clip.confidence[:, :33], body[..., 3], rtol=1e-6)
    assert not clip.confidence[2, -42:-21].any() and clip.confidence[2, -21:].all()


@pytest.mark.parametrize(
    "shape, layout",
    [
        ((5, 225), "mediapipe75"), ((5, 75, 3), "mediapipe75"), ((5, 543, 3), "mediapipe543"), ((5, 1629), "mediapipe543"),
        ((5, 133, 2), "wholebody133"), ((5, 1, 133, 2), "wholebody133"), ((5, 266), "wholebody133"), ((5, 134), "openpose67"),
        ((5, 178, 3), "pose178"), ((5, 137, 2), "openpose137"), ((5, 73, 2), "uniglor73"), ((5, 151), "skels50"),
    ],
)  # fmt: skip
def test_a_layout_is_seen_from_the_shape(rng, shape, layout):
    clip = clip_from_array(rng.uniform(10, 500, shape))
    assert clip.layout == layout and clip.keypoints.shape[1] in SOURCE_LAYOUTS[layout].blocks and clip.confidence.all()


def test_a_shape_of_two_layouts_asks_which(rng):
    values = rng.uniform(10, 500, (5, 150))
    with pytest.raises(ValueError, match=r"mediapipe75 \(75 x 2\) or skels50 \(50 x 3\): pass layout="):
        clip_from_array(values)
    assert clip_from_array(values, layout="skels50").keypoints.shape == (5, 50, 3)
    assert clip_from_array(values, layout="mediapipe75").keypoints.shape == (5, 75, 2)


def test_the_third_channel_of_a_2d_estimator_is_its_confidence(rng):
    values = np.concatenate([rng.uniform(10, 500, (5, 133, 2)), rng.uniform(0.1, 1, (5, 133, 1))], axis=2)
    clip = clip_from_array(values)
    assert clip.keypoints.shape == (5, 133, 2)
    np.testing.assert_allclose(clip.confidence, values[..., 2], rtol=1e-6)
    assert clip_from_array(values, confidence=values[..., 2]).keypoints.shape == (5, 133, 3)  # said elsewhere: then it is z
    values[0, 0, 2] = -3
    assert clip_from_array(values).keypoints.shape == (5, 133, 3)  # no confidence is negative


def test_zeros_are_places_where_nan_says_not_seen(rng):
    values = rng.uniform(10, 500, (5, 75, 2))
    values[1, 3] = 0
    assert clip_from_array(values).confidence[1, 3] == 0
    values[2, 4] = np.nan
    clip = clip_from_array(values)
    assert clip.confidence[1, 3] == 1 and clip.confidence[2, 4] == 0
    skeleton = rng.uniform(-1, 1, (5, 50, 3))
    skeleton[:, 1] = 0  # the neck of .skels is the origin, and real
    assert clip_from_array(skeleton).confidence.all()


def test_relative_coordinates_ask_for_the_images_size(rng):
    values = rng.uniform(0, 1, (5, 75, 3))
    with pytest.raises(ValueError, match="relative to the image.*Pass width and height"):
        clip_from_array(values)
    clip = clip_from_array(values, width=1920, height=1080)
    np.testing.assert_array_equal(clip.keypoints, values.astype(np.float32))  # in source units; the processor multiplies
    assert (clip.width, clip.height) == (1920, 1080)
    clip_from_array(rng.uniform(-1, 1, (5, 50, 3)))  # .skels are in no image


def test_several_people_in_an_array_are_followed(rng):
    frames = [rng.uniform(280, 320, (2, 133, 2)) + np.array([[[200, 0]], [[0, 0]]]) for _ in range(3)]
    scores = [np.stack([np.full(133, 0.4), np.full(133, 0.9)]) for _ in range(3)]
    frames[1], scores[1] = frames[1][::-1], scores[1][::-1]
    frames[2], scores[2] = frames[2][1:], scores[2][1:]  # as many as were found
    clip = clip_from_array(frames, scores, width=600, height=400)
    assert clip.keypoints.shape == (3, 133, 2) and (xs(clip) < 330).all()
    with pytest.raises(ValueError, match="differ in frames or in people"):
        clip_from_array(frames, scores[:2])


@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_numpy_files_are_read(tmp_path, rng, suffix):
    values, confidence = rng.uniform(10, 500, (5, 75, 3)).astype(np.float32), rng.uniform(0.1, 1, (5, 75)).astype(np.float32)
    path = tmp_path / f"a.{suffix}"
    if suffix == "npy":
        np.save(path, values)
    else:
        np.savez(path, keypoints=values, confidence=confidence, fps=np.array([50.0]), width=640, height=480, split="train")
    clip = read_keypoints(path)
    np.testing.assert_array_equal(clip.keypoints, values)
    if suffix == "npz":
        np.testing.assert_array_equal(clip.confidence, confidence)
        assert (clip.fps, clip.width, clip.height) == (50.0, 640, 480)


def test_an_npz_of_one_array_may_call_it_anything_and_one_of_many_may_not(tmp_path, rng):
    values = rng.uniform(10, 500, (5, 134))
    np.savez(tmp_path / "a.npz", values)
    assert read_keypoints(tmp_path / "a.npz").layout == "openpose67"
    np.savez(tmp_path / "b.npz", left=values, right=values)
    with pytest.raises(ValueError, match=r"found \['left', 'right'\], expected keypoints under one of the names"):
        read_keypoints(tmp_path / "b.npz")


def test_arrays_that_hide_a_pickle_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{"keypoints": 1}], object), allow_pickle=True)
    np.savez(tmp_path / "a.npz", keypoints=np.array([None], object), allow_pickle=True)
    (tmp_path / "b.npy").write_bytes(b"\x80\x04K\x01.")
    for name in ("a.npy", "a.npz", "b.npy"):
        with pytest.raises(ValueError, match=f"{name}: not plain numbers but pickled objects"):
            read_keypoints(tmp_path / name)
    (tmp_path / "c.pkl").write_bytes(b"\x80\x04K\x01.")
    with pytest.raises(ValueError, match="datasets_scripts.convert_pickle"):
        read_keypoints(tmp_path / "c.pkl")


@pytest.mark.parametrize(
    "values, message",
    [
        (np.zeros((0, 75, 3)), "found 0 frames"),
        (np.full((5, 75, 3), np.nan), "nobody is seen in any of its 5 frames"),
        (np.zeros((5, 75, 3)), "nobody is seen"),
        (np.ones((5, 42, 3)), "found 42 keypoints, expected those of openpose137"),
        (np.ones((5, 77)), "frames of 77 numbers, expected those of"),
        (np.ones(5), r"shape \(5,\)"),
        (np.ones((4, 5, 258)), "several clips in one array"),
        ([[1, 2], [3]], "not one array of numbers"),
        ([[[1, 2], [3]]], "not one array of numbers"),
        (3, "shape \\(\\)"),
        ("text", "not one array of numbers"),
    ],
)
def test_wrong_arrays_say_what_was_found(values, message):
    with pytest.raises(ValueError, match=message):
        clip_from_array(values)


def test_wrong_arguments_say_what_is_expected(rng, tmp_path):
    values = rng.uniform(10, 500, (5, 75, 3))
    with pytest.raises(ValueError, match="Unknown keypoint layout 'coco'"):
        clip_from_array(values, layout="coco")
    with pytest.raises(ValueError, match="found 75 keypoints, which may be mediapipe75: pass layout=, not 'openpose137'"):
        clip_from_array(values, layout="openpose137")
    with pytest.raises(ValueError, match=r"confidence of shape \(5, 74\), expected \(5, 75\)"):
        clip_from_array(values, np.ones((5, 74)))
    with pytest.raises(ValueError, match="fps=-1 must be above 0"):
        clip_from_array(values, fps=-1)
    (tmp_path / "a.csv").write_text("1,2")
    with pytest.raises(ValueError, match="unknown kind of keypoint file. Expected a folder of OpenPose"):
        read_keypoints(tmp_path / "a.csv")


# --- .skels -------------------------------------------------------------------------------------------------------------------------


def test_skels_give_a_clip_for_each_line(tmp_path, rng):
    clips = [rng.uniform(-1, 1, (num_frames, 150)).round(5) for num_frames in (4, 6)]
    lines = [" ".join(str(value) for row, frame in enumerate(clip) for value in [*frame, row / len(clip)]) for clip in clips]
    (tmp_path / "a.skels").write_text("\n".join(lines) + "\n")
    read = read_skels(tmp_path / "a.skels", fps=25)
    assert [clip.keypoints.shape for clip in read] == [(4, 50, 3), (6, 50, 3)] and read[0].fps == 25
    np.testing.assert_allclose(read[1].keypoints.reshape(6, 150), clips[1], rtol=1e-6)
    with pytest.raises(ValueError, match="2 clips, one a line, expected one. read_skels"):
        read_keypoints(tmp_path / "a.skels")
    (tmp_path / "one.skels").write_text(lines[0])
    assert read_keypoints(tmp_path / "one.skels", fps=25).fps == 25
    for content, message in (
        ("", "an empty file"),
        ("1 2 3", "line 1: found 3 numbers, expected 151"),
        ("1 x", "line 1: could not convert"),
    ):
        (tmp_path / "bad.skels").write_text(content)
        with pytest.raises(ValueError, match=message):
            read_skels(tmp_path / "bad.skels")


# --- What a clip is good for --------------------------------------------------------------------------------------------------------


def test_a_clip_is_what_the_processor_takes_and_a_row_what_the_schema_takes(signing, rng):
    keypoints = signing(30) * 90 + 300
    clip = clip_from_array(keypoints, fps=25.0, width=640, height=480)
    processed = KeypointProcessor().process(clip)
    np.testing.assert_allclose(processed.keypoints, random_signing(30), atol=1e-3)
    row = check_row(clip.row("a", "ase", text="hello", label=3))
    assert row["layout"] == "uniglor73" and row["text"] == "hello" and row["gloss"] is None


def test_a_gap_in_the_files_is_filled_in_its_own_time(tmp_path):
    """The clip with a file missing gives the same frames at the same times as the whole one, but for those of the gap."""
    write_openpose(tmp_path, num_frames=1)
    frame = json.loads(next(tmp_path.iterdir()).read_text())["people"][0]
    body = np.reshape(frame["pose_keypoints_2d"], (25, 3))
    body[:8, :2] = [(300, 100), (300, 200), (250, 200), (240, 280), (260, 260), (350, 200), (360, 280), (340, 260)]
    frame["pose_keypoints_2d"] = body.ravel().tolist()
    clip = KeypointProcessor().process(
        read_keypoints(
            write_frames(
                tmp_path / "gap",
                {0: [frame], 1: [frame], 5: [frame]},
            ),
            fps=25,
        )
    )
    assert len(clip.keypoints) == 6 and not clip.keypoint_mask[2:5].any() and clip.keypoint_mask[5].all()
    np.testing.assert_allclose(clip.keypoints[3], clip.keypoints[0], atol=1e-5)


# --- Real files ---------------------------------------------------------------------------------------------------------------------

real = pytest.mark.skipif(not REAL_DATA.exists(), reason="real keypoints are not here: set UNIGLOR_DATA to their folder")


def check_hands(clip):
    """Each hand's root lies nearer to its own wrist than to the other one, where both arms are apart."""
    roots, wrists = ([INDEX[f"{side}_{point}"] for side in ("left", "right")] for point in ("hand_root", "wrist"))
    points, seen = clip.keypoints, clip.keypoint_mask
    checked = 0
    for own in range(2):
        other = wrists[1 - own]
        frames = seen[:, roots[own]] & seen[:, wrists[own]] & seen[:, other]
        frames &= np.linalg.norm(points[:, wrists[0]] - points[:, wrists[1]], axis=-1) > 0.8
        if frames.sum() > 3:
            distance = [
                np.median(np.linalg.norm(points[frames, roots[own]] - points[frames, wrist], axis=-1)) for wrist in (wrists[own], other)
            ]
            assert distance[0] < 0.4 < distance[1]
            checked += 1
    return checked


@real
def test_the_real_openpose_folder():
    folder = next((REAL_DATA / "how2sign_openpose" / "json").iterdir())
    clip = read_keypoints(folder, width=1280, height=720, fps=24)
    assert clip.keypoints.shape == (62, 137, 2) and clip.layout == "openpose137"
    seen = clip.keypoints[clip.confidence > 0]
    assert (seen >= 0).all() and (seen <= (1280, 720)).all()
    processed = KeypointProcessor().process(clip)
    assert len(processed.keypoints) == 64 and processed.keypoint_mask.mean() > 0.99 and check_hands(processed) == 2
    one = read_keypoints(sorted(folder.iterdir())[0])
    np.testing.assert_array_equal(one.keypoints[0], clip.keypoints[0])


@real
def test_the_real_pose_files():
    clip = read_keypoints(REAL_DATA / "dgs_pose_files" / "train" / "train_1_original.pose")
    assert clip.keypoints.shape == (70, 178, 3) and (clip.layout, clip.fps, clip.width) == ("pose178", 25.0, 512)
    assert check_hands(KeypointProcessor().process(clip))
    for path in sorted((REAL_DATA / "lexicon_unlabelled" / "raw_sample").glob("*.pose")):
        clip = read_keypoints(path)
        assert clip.layout == "mediapipe543" and clip.keypoints.shape[1:] == (543, 3) and clip.width == 640
        check_hands(KeypointProcessor().process(clip))


@real
def test_the_real_skels():
    clips = read_skels(REAL_DATA / "phoenix14t_skels" / "train.skels", fps=25)
    assert len(clips) == 5 and sum(len(clip.keypoints) for clip in clips) == 636
    for clip in clips:
        assert clip.confidence.all() and np.abs(clip.keypoints).max() < 2
        check_hands(KeypointProcessor().process(clip))


@real
def test_the_real_include_arrays():
    with open(REAL_DATA / "include43" / "labels.csv", encoding="utf-8") as file:
        paths = [row["path"] for row in csv.DictReader(file)][::40]
    for path in paths:
        clip = read_keypoints(REAL_DATA / "include43" / path, width=16, height=9)
        assert clip.layout == "mediapipe75" and not clip.confidence[np.isnan(clip.keypoints).any(-1)].any()
        check_hands(KeypointProcessor().process(clip))
    with pytest.raises(ValueError, match="Pass width and height"):
        read_keypoints(REAL_DATA / "include43" / paths[0])


@real
def test_the_real_npz_files():
    for path in sorted((REAL_DATA / "dgs_sentences" / "motion").glob("*.npz"))[::30]:
        clip = read_keypoints(path, width=1280, height=720)
        assert clip.layout == "openpose67" and clip.fps == 50.0 and not clip.confidence[(clip.keypoints == 0).all(-1)].any()
        processed = KeypointProcessor().process(clip)
        assert not processed.keypoint_mask[:, LAYOUTS["uniglor73"].parts["face"]].any()
        check_hands(processed)
    for path in sorted((REAL_DATA / "lexicon_unlabelled" / "npz").glob("*.npz"))[::40]:
        clip = read_keypoints(path)
        assert clip.layout == "mediapipe75" and clip.width == 640 and clip.fps > 0
        check_hands(KeypointProcessor().process(clip))


@real
def test_the_real_webcam_words_are_many_clips_in_one_file():
    path = REAL_DATA / "asl_webcam10" / "help.npz"
    with pytest.raises(ValueError, match="several clips in one array"):
        read_keypoints(path, width=640, height=480)
    for word in np.load(path)["keypoints"][:5]:
        clip = clip_from_array(word, width=640, height=480)
        assert clip.keypoints.shape == (30, 75, 3) and clip.layout == "mediapipe75"
        assert not clip.confidence[(clip.keypoints == 0).all(-1)].any()
        check_hands(KeypointProcessor().process(clip))
