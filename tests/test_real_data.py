"""Every source layout on real keypoints of its kind. Skipped where the data folder is absent (set UNIGLOR_DATA)."""

import csv

import numpy as np
import pytest

from modeling_unigloR import KeypointClip, KeypointProcessor, read_keypoints
from modeling_unigloR.keypoints_uniglor import LAYOUTS, POSE178_MESH, point_index

from .conftest import REAL_DATA

pytestmark = pytest.mark.skipif(not REAL_DATA.exists(), reason="real keypoints are not here: set UNIGLOR_DATA to their folder")

INDEX = point_index("uniglor73")
HANDS = {side: (INDEX[f"{side}_hand_root"], INDEX[f"{side}_wrist"]) for side in ("left", "right")}


def process(name, **kwargs):
    return KeypointProcessor().process(KeypointClip(id=name, **kwargs))


def check_body(clip):
    """A person who faces the camera: right shoulder at the left of the picture, nose above the neck, hands at their own wrists."""
    points, seen = clip.keypoints, clip.keypoint_mask
    assert np.isfinite(points).all()
    shoulder = np.median(points[:, INDEX["right_shoulder"]], 0)
    assert shoulder[0] == pytest.approx(-0.5, abs=0.1)
    assert -1.2 < np.median(points[:, INDEX["nose"], 1]) < -0.25
    for side, (root, wrist) in HANDS.items():
        other = HANDS["left" if side == "right" else "right"][1]
        both = seen[:, root] & seen[:, wrist]
        if both.sum() > 3:
            own = np.median(np.linalg.norm(points[both, root] - points[both, wrist], axis=-1))
            assert own < 0.55, side
            assert own < np.median(np.linalg.norm(points[both, root] - points[both, other], axis=-1)) + 0.45  # hands may touch


def openpose_frames():
    """(T, 137, 3) x, y, confidence of the How2Sign sentence."""
    clip = read_keypoints(next((REAL_DATA / "how2sign_openpose" / "json").iterdir()))
    return np.concatenate([clip.keypoints, clip.confidence[..., None]], -1)


def test_openpose_json_of_how2sign():
    frames = openpose_frames()
    clip = process("how2sign", keypoints=frames[..., :2], confidence=frames[..., 2], layout="openpose137", fps=24.0)
    assert len(frames) == 62 and len(clip.keypoints) == 64 and clip.keypoint_mask.mean() > 0.99
    check_body(clip)
    old_body = frames[:, [*range(18), *range(25, 137)]]  # the older body agrees on the points that we take
    again = process("how2sign", keypoints=old_body[..., :2], confidence=old_body[..., 2], layout="openpose18", fps=24.0)
    np.testing.assert_array_equal(again.keypoints, clip.keypoints)


def test_sixty_seven_points_of_the_dgs_corpus():
    present = []
    for path in sorted((REAL_DATA / "dgs_sentences" / "motion").glob("*.npz"))[::4]:
        clip = process(path.stem, keypoints=np.load(path)["keypoints"].reshape(-1, 67, 2), layout="openpose67", fps=50.0, aspect=16 / 9)
        check_body(clip)
        assert not clip.keypoint_mask[:, LAYOUTS["uniglor73"].parts["face"]].any() and not clip.hands_swapped
        present.append(clip.keypoint_mask.mean())
    assert np.mean(present) > 0.6


def test_includes_hand_slots_are_exchanged():
    """INCLUDE's hands stand in each other's slots in about 95 % of its frames; by name they would hang on the wrong arms."""
    with open(REAL_DATA / "include43" / "labels.csv", encoding="utf-8") as file:
        paths = [row["path"] for row in csv.DictReader(file)]
    swapped = []
    for path in paths[::6]:
        clip = process(path, keypoints=np.load(REAL_DATA / "include43" / path), layout="mediapipe75", aspect=16 / 9)
        check_body(clip)
        swapped.append(clip.hands_swapped)
    assert np.mean(swapped) > 0.9


def test_webcam_words_whose_zeros_mean_not_seen():
    words = np.load(REAL_DATA / "asl_webcam10" / "help.npz")["keypoints"]
    for index, word in enumerate(words[:10]):
        points = np.concatenate([word[:, :132].reshape(-1, 33, 4)[..., :3], word[:, 132:].reshape(-1, 42, 3)], axis=1)
        check_body(process(f"help {index}", keypoints=points, layout="mediapipe75", missing="zero", aspect=4 / 3))


def test_lexicon_entries_in_pixels_with_confidence():
    for path in sorted((REAL_DATA / "lexicon_unlabelled" / "npz").glob("*.npz"))[::8]:
        entry = np.load(path)
        check_body(
            process(path.stem, keypoints=entry["keypoints"], confidence=entry["confidence"], layout="mediapipe75", fps=float(entry["fps"]))
        )


def test_holistic_pose_files_and_their_reduced_form_agree():
    """The reduced form has no nose: the point that stands for it lies within a tenth of a shoulder length of the real one."""
    body = [11, 12, 13, 14, 15, 16, 23, 24]
    reduced = body + [33 + index for index in POSE178_MESH] + list(range(501, 543))
    for path in sorted((REAL_DATA / "lexicon_unlabelled" / "raw_sample").glob("*.pose"))[:6]:
        read = read_keypoints(path)
        clip = KeypointProcessor().process(read)
        check_body(clip)
        less = process(
            path.stem, layout="pose178", keypoints=read.keypoints[:, reduced], confidence=read.confidence[:, reduced], fps=read.fps
        )
        seen = clip.keypoint_mask[:, 1:]
        np.testing.assert_allclose(less.keypoints[:, 1:][seen], clip.keypoints[:, 1:][seen], atol=1e-4)
        assert np.abs(np.median(less.keypoints[:, 0] - clip.keypoints[:, 0], axis=0)).max() < 0.1


def test_a_pose_file_of_178_points():
    clip = KeypointProcessor().process(read_keypoints(REAL_DATA / "dgs_pose_files" / "train" / "train_1_original.pose"))
    assert clip.keypoint_mask.all() and len(clip.keypoints) == 70
    check_body(clip)


def test_skels_of_progressive_transformers():
    """Their comments call joints 2-4 left; the arm that signs more is at joints 5-7, the picture's left: the signer's right."""
    moved = {"left": 0.0, "right": 0.0}
    for line in (REAL_DATA / "phoenix14t_skels" / "train.skels").read_text().splitlines():
        points = np.array(line.split(), float).reshape(-1, 151)[:, :150].reshape(-1, 50, 3)
        for num_channels in (2, 3):
            clip = KeypointProcessor(num_channels=num_channels).process(KeypointClip(points, layout="skels50", fps=25.0))
            check_body(clip)
            assert clip.keypoint_mask[:, INDEX["neck"]].all() and not clip.hands_swapped
        for side in moved:
            moved[side] += np.linalg.norm(np.diff(clip.keypoints[:, INDEX[f"{side}_wrist"]], axis=0), axis=-1).sum()
    assert moved["right"] > moved["left"]


def test_hands_without_a_body_cannot_be_normalised():
    path = sorted((REAL_DATA / "bsl_fingerspelling" / "npz").glob("*.npz"))[0]
    hands = np.load(path)["keypoints"]
    with_nobody = np.concatenate([np.full((len(hands), 33, 3), np.nan), hands], axis=1)
    with pytest.raises(ValueError, match="no frame shows both"):
        process(path.stem, keypoints=with_nobody, layout="mediapipe75", aspect=16 / 9)


def test_wholebody_rows_made_from_openpose_agree_with_it():
    """No COCO-WholeBody file is at hand: the real OpenPose points, in that layout's order, must give the same clip."""
    frames = openpose_frames()
    coco = [0, 16, 15, 18, 17, 5, 2, 6, 3, 7, 4, 12, 9, 13, 10, 14, 11]  # BODY_25 indices of COCO's 17
    wholebody = frames[:, coco + [19, 20, 21, 22, 23, 24] + list(range(25, 93)) + list(range(95, 137))]
    clip = process("wholebody", keypoints=wholebody[..., :2], confidence=wholebody[..., 2], layout="wholebody133", fps=24.0)
    expected = process("openpose", keypoints=frames[..., :2], confidence=frames[..., 2], layout="openpose137", fps=24.0)
    points = [index for name, index in INDEX.items() if name != "neck"]
    offset = (clip.keypoints - expected.keypoints)[:, points]
    assert np.abs(offset - np.median(offset, axis=(0, 1))).max() < 0.05  # COCO's neck is the middle of the shoulders, OpenPose's its own
    check_body(clip)
