"""KeypointProcessor against a plain loop over frames, its round trips, and what bad input gets."""

import json

import numpy as np
import pytest
import torch

from modeling_unigloR import KeypointClip, KeypointProcessor, map_layout
from modeling_unigloR.keypoints_uniglor import LAYOUTS, point_index

INDEX = point_index("uniglor73")
LAYOUT = LAYOUTS["uniglor73"]


# --- The judge: one frame and one point at a time ---------------------------------------------------------------------------------


def naive_process(points, present, fps=None, target_fps=25.0, threshold=2.0, max_dropped=3, max_gap=15):
    """Appendix B.1 as one would say it aloud. (T, 73, C), (T, 73) -> keypoints, mask, kept frames."""
    lengths = []
    for t in range(len(points)):
        if present[t, INDEX["right_shoulder"]] and present[t, INDEX["left_shoulder"]]:
            lengths.append(np.linalg.norm(points[t, INDEX["right_shoulder"]] - points[t, INDEX["left_shoulder"]]))
    scale = np.median(lengths)
    center = np.median([points[t, INDEX["neck"]] for t in range(len(points)) if present[t, INDEX["neck"]]], axis=0)
    kept, dropped = [0], 0
    for t in range(1, len(points)):
        steps = [np.linalg.norm(points[t, k] - points[kept[-1], k]) for k in range(73) if present[t, k] and present[kept[-1], k]]
        if steps and np.mean(steps) > threshold * scale and dropped < max_dropped:
            dropped += 1
        else:
            kept.append(t)
            dropped = 0
    points, present = points[kept].astype(float), present[kept]
    filled = points.copy()
    placed = present.copy()
    for k in range(73):
        seen = [t for t in range(len(kept)) if present[t, k]]
        for t in range(len(kept)):
            before = max((s for s in seen if s < t), default=None)
            after = min((s for s in seen if s > t), default=None)
            if present[t, k] or (before is None and after is None):
                continue
            gap = (len(kept) if after is None else after) - (-1 if before is None else before) - 1
            if gap > max_gap:
                continue
            a, b = (after if before is None else before), (before if after is None else after)
            share = 0.0 if a == b else (kept[t] - kept[a]) / (kept[b] - kept[a])
            filled[t, k] = points[a, k] * (1 - share) + points[b, k] * share
            placed[t, k] = True
    for t in range(len(kept)):

        def place(name, t=t):
            if not placed[t, INDEX[name]]:
                if name == LAYOUT.center:
                    filled[t, INDEX[name]] = center
                else:
                    origin = LAYOUT.copies.get(name) or LAYOUT.anchors[name]
                    place(origin)
                    filled[t, INDEX[name]] = filled[t, INDEX[origin]]
                placed[t, INDEX[name]] = True

        for name in LAYOUT.names:
            place(name)
    for copy, original in LAYOUT.copies.items():
        filled[:, INDEX[copy]] = filled[:, INDEX[original]]
    filled = (filled - center) / scale
    if fps is None or fps == target_fps:
        return filled, present, kept
    times = [frame / fps for frame in kept]
    out, out_mask, t = [], [], times[0]
    while t <= times[-1] + 1e-7:
        after = next((i for i, time in enumerate(times) if time > t + 1e-9), len(times) - 1)
        before = max(after - 1, 0)
        share = min((t - times[before]) / (times[after] - times[before]), 1)
        share = 0.0 if share < 1e-6 else 1.0 if share > 1 - 1e-6 else share
        out.append(filled[before] * (1 - share) + filled[after] * share)
        out_mask.append((present[before] | (share == 1)) & (present[after] | (share == 0)))
        t = times[0] + len(out) / target_fps
    return np.array(out), np.array(out_mask), kept


def holes(rng, num_frames, share):
    """A mask with bursts: hands that vanish for a while, single points that flicker; copies follow their originals."""
    present = rng.random((num_frames, 73)) > share
    for part in ("left_hand", "right_hand", "face"):
        for _ in range(max(1, num_frames // 40)):
            start = rng.integers(num_frames)
            present[start : start + rng.integers(1, 40), LAYOUT.parts[part]] = False
    for copy, original in LAYOUT.copies.items():
        present[:, INDEX[copy]] = present[:, INDEX[original]]
    return present


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("fps", [None, 25.0, 50.0, 29.97])
def test_vectorised_steps_equal_the_loop_over_frames(signing, share, fps):
    rng = np.random.default_rng(int(share * 10))
    for trial in range(3):
        points = signing(int(rng.integers(20, 120)), seed=trial).astype(np.float64) * 90 + 200
        present = holes(rng, len(points), share) if share else np.ones(points.shape[:2], bool)
        if share:  # and frames that jump, alone and in a row
            for start in rng.integers(1, len(points), 3):
                points[start : start + rng.integers(1, 6)] += 500
        expected, expected_mask, kept = naive_process(points, present, fps)
        processor = KeypointProcessor()
        clip = processor.process(KeypointClip(points, present.astype(float), fps=fps))
        np.testing.assert_array_equal(clip.kept_frames, kept)
        assert clip.keypoints.shape == expected.shape and clip.keypoints.dtype == np.float32
        np.testing.assert_allclose(clip.keypoints, expected, atol=1e-4)
        if fps in (None, 25.0, 50.0):
            np.testing.assert_array_equal(clip.keypoint_mask, expected_mask)


# --- What it promises -------------------------------------------------------------------------------------------------------------


def test_the_neck_is_at_the_origin_and_the_shoulders_one_apart(signing):
    clip = KeypointProcessor().process(KeypointClip(signing(40) * 120 + 300))
    assert np.abs(np.median(clip.keypoints[:, INDEX["neck"]], 0)).max() < 1e-5
    shoulders = clip.keypoints[:, INDEX["right_shoulder"]] - clip.keypoints[:, INDEX["left_shoulder"]]
    assert abs(np.median(np.linalg.norm(shoulders, axis=-1)) - 1) < 1e-5


def test_each_frame_is_normalised_by_itself_where_asked(signing):
    points = signing(30) * np.linspace(50, 150, 30)[:, None, None] + np.arange(30)[:, None, None] * 3
    clip = KeypointProcessor(normalize="frame", noisy_frame_threshold=None).process(KeypointClip(points))
    np.testing.assert_allclose(clip.keypoints[:, INDEX["neck"]], 0, atol=1e-5)
    np.testing.assert_allclose(KeypointProcessor().denormalize(clip.keypoints, clip.center, clip.scale), points, atol=1e-2)


def test_denormalize_undoes_centre_and_scale(signing):
    points = signing(40) * 77 + 123
    processor = KeypointProcessor()
    clip = processor.process(KeypointClip(points))
    np.testing.assert_allclose(processor.denormalize(clip.keypoints, clip.center, clip.scale), points, rtol=1e-4)


def test_a_batch_is_padded_and_masked(signing):
    batch = KeypointProcessor()([signing(30, seed=1), signing(50, seed=2)], return_tensors="pt")
    assert batch["keypoints"].shape == (2, 50, 73, 2) and batch["keypoints"].dtype == torch.float32
    assert batch["attention_mask"].sum(1).tolist() == [30, 50]
    assert batch["keypoint_mask"].shape == (2, 50, 73) and batch["keypoint_mask"][0, 30:].sum() == 0
    assert (batch["keypoints"][0, 30:] == 0).all()
    assert [len(kept) for kept in batch["kept_frames"]] == [30, 50]


def test_one_clip_and_a_list_of_it_give_the_same(signing):
    processor, clip = KeypointProcessor(), signing(30)
    one, many = processor(clip, fps=50.0), processor([clip], fps=50.0)
    np.testing.assert_array_equal(one["keypoints"], many["keypoints"])


def test_input_is_not_changed(signing):
    points, confidence = signing(40) * 50, np.ones((40, 73))
    confidence[5:10, 30] = 0
    before = points.copy(), confidence.copy()
    KeypointProcessor()(points, confidence, fps=50.0)
    assert (points == before[0]).all() and (confidence == before[1]).all()


def test_short_gaps_are_interpolated_and_long_ones_placed_on_the_wrist(signing):
    points, confidence = signing(80) * 100, np.ones((80, 73))
    tip = INDEX["right_hand_index_4"]
    confidence[10:20, tip] = 0
    confidence[30:60, tip] = 0
    points[confidence == 0] = -999
    clip = KeypointProcessor().process(KeypointClip(points, confidence))
    assert not clip.keypoint_mask[10:20, tip].any() and not clip.keypoint_mask[30:60, tip].any()
    middle = (clip.keypoints[9, tip] + clip.keypoints[20, tip]) / 2
    np.testing.assert_allclose((clip.keypoints[14, tip] + clip.keypoints[15, tip]) / 2, middle, atol=1e-5)
    np.testing.assert_array_equal(clip.keypoints[30:60, tip], clip.keypoints[30:60, INDEX["right_wrist"]])


def test_a_hand_and_a_face_that_are_never_seen_rest_on_their_anchors(signing):
    confidence = np.ones((30, 73))
    confidence[:, LAYOUT.parts["face"]] = 0
    confidence[:, LAYOUT.parts["left_hand"].start : LAYOUT.parts["left_hand"].start + 21] = 0
    clip = KeypointProcessor().process(KeypointClip(signing(30), confidence))
    assert (clip.keypoints[:, LAYOUT.parts["face"]] == clip.keypoints[:, [INDEX["nose"]]]).all()
    assert (clip.keypoints[:, LAYOUT.parts["left_hand"]][:, :21] == clip.keypoints[:, [INDEX["left_wrist"]]]).all()


def test_a_jump_is_dropped_and_times_know_of_it(signing):
    points = signing(40) * 100
    points[10:12] += 1000
    clip = KeypointProcessor().process(KeypointClip(points, fps=25.0))
    assert clip.kept_frames.tolist() == [t for t in range(40) if t not in (10, 11)]
    assert clip.frame_times[10] == pytest.approx(12 / 25)


def test_after_three_drops_the_next_frame_is_accepted(signing):
    """A cut to another place is not noise: without the limit everything after it would be dropped."""
    points = signing(40) * 100
    points[20:] += 1000
    assert KeypointProcessor().process(KeypointClip(points)).kept_frames.tolist() == [*range(20), *range(23, 40)]


def test_the_papers_threshold_in_pixels_can_be_chosen(signing):
    points = signing(30) * 10
    points[10] += 100  # 10 shoulder lengths, but 141 pixels
    paper = KeypointProcessor(noisy_frame_threshold=400, noisy_frame_unit="pixels")
    assert len(paper.process(KeypointClip(points)).kept_frames) == 30
    assert len(KeypointProcessor().process(KeypointClip(points)).kept_frames) == 29


def test_fifty_frames_a_second_become_twenty_five(signing):
    points = signing(101) * 100
    clip = KeypointProcessor().process(KeypointClip(points, fps=50.0))
    assert len(clip.keypoints) == 51
    np.testing.assert_allclose(clip.keypoints, KeypointProcessor().process(KeypointClip(points)).keypoints[::2], atol=1e-5)
    assert len(KeypointProcessor(fps=None).process(KeypointClip(points, fps=50.0)).keypoints) == 101


def test_relative_coordinates_need_the_image(signing):
    """Mixing relative and pixel sources without the aspect stretches bodies by 1.78."""
    points = np.zeros((30, 75, 2))
    pixels = signing(30) * 200 + [960, 540]
    points[:, [11, 12, 13, 14, 15, 16, 0]] = pixels[:, [INDEX[n] for n in
        ("left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist", "nose")]]  # fmt: skip
    points[:, 33:54], points[:, 54:] = pixels[:, 27:48], pixels[:, 50:71]
    relative = points / [1920, 1080]
    processor = KeypointProcessor()
    expected = processor.process(KeypointClip(points, layout="mediapipe75", missing="zero"))
    for size in (dict(width=1920, height=1080), dict(aspect=1920 / 1080)):
        found = processor.process(KeypointClip(relative, layout="mediapipe75", missing="zero", **size))
        np.testing.assert_allclose(found.keypoints, expected.keypoints, atol=1e-4)
    with pytest.raises(ValueError, match="relative to the image.*width and height"):
        processor.process(KeypointClip(relative, layout="mediapipe75", missing="zero"))


def test_hands_in_the_wrong_slots_go_to_their_own_arms(signing):
    points = signing(30) * 100
    swapped = points.copy()
    swapped[:, 27:48], swapped[:, 50:71] = points[:, 50:71], points[:, 27:48]
    mended, plain = KeypointProcessor().process(KeypointClip(swapped)), KeypointProcessor().process(KeypointClip(points))
    assert mended.hands_swapped and not plain.hands_swapped
    np.testing.assert_allclose(mended.keypoints, plain.keypoints, atol=1e-5)
    np.testing.assert_allclose(map_layout(KeypointClip(swapped)).keypoints, map_layout(KeypointClip(points)).keypoints, atol=1e-5)


def hands_apart(points):
    """The left wrist and what hangs on it, a shoulder length further to the left."""
    left = [index for name, index in INDEX.items() if name.startswith("left_hand") or name == "left_wrist"]
    points = points.copy()
    points[:, left, 0] += 1
    return points


def test_hands_that_change_slots_for_a_while_are_put_back(signing):
    """INCLUDE's tracker does so in one frame of twenty: the hand would jump across the body and back."""
    points, confidence = hands_apart(signing(40)) * 100, np.ones((40, 73))
    left, right = np.arange(27, 48), np.arange(50, 71)
    expected = KeypointProcessor().process(KeypointClip(points))
    flipped = points.copy()
    flipped[10:13, left], flipped[10:13, right] = points[10:13, right], points[10:13, left]
    np.testing.assert_allclose(KeypointProcessor().process(KeypointClip(flipped)).keypoints, expected.keypoints, atol=1e-5)
    confidence[10:13, right] = 0  # and where one of them is not seen meanwhile
    clip = KeypointProcessor().process(KeypointClip(flipped, confidence))
    np.testing.assert_allclose(clip.keypoints[10:13, right], expected.keypoints[10:13, right], atol=1e-5)
    assert clip.keypoint_mask[10:13][:, right].all() and not clip.keypoint_mask[10:13][:, left].any()


def test_one_hand_found_twice_counts_once(signing):
    points = hands_apart(signing(40)) * 100
    left, right = np.arange(27, 48), np.arange(50, 71)
    points[10:13, left] = points[10:13, right] + 0.5
    mask = KeypointProcessor().process(KeypointClip(points)).keypoint_mask
    assert not mask[10:13][:, left].any() and mask[10:13][:, right].all() and mask[:10].all()


def test_a_zero_is_a_place_unless_the_layout_says_otherwise(signing):
    points = signing(20)
    points[:, INDEX["neck"]] = 0
    assert (map_layout(KeypointClip(points, layout="uniglor73")).confidence[:, INDEX["neck"]] > 0).all()
    assert not map_layout(KeypointClip(points, layout="uniglor73", missing="zero")).confidence[:, INDEX["neck"]].any()


def test_mirroring_twice_gives_the_clip_back(signing):
    processor = KeypointProcessor()
    clip = processor.process(KeypointClip(signing(20), np.random.default_rng(0).random((20, 73)) > 0.1))
    mirrored, mask = processor.mirror(clip.keypoints, clip.keypoint_mask)
    assert (mirrored[:, INDEX["left_wrist"], 0] == -clip.keypoints[:, INDEX["right_wrist"], 0]).all()
    again, mask_again = processor.mirror(mirrored, mask)
    np.testing.assert_array_equal(again, clip.keypoints)
    np.testing.assert_array_equal(mask_again, clip.keypoint_mask)
    torch.testing.assert_close(processor.mirror(torch.from_numpy(clip.keypoints)), torch.from_numpy(mirrored))


# --- Streams ----------------------------------------------------------------------------------------------------------------------


def test_causal_frames_do_not_change_when_later_ones_arrive(signing):
    rng = np.random.default_rng(3)
    points, confidence = signing(90) * 100 + 250, holes(rng, 90, 0.2).astype(float)
    points[40] += 3000
    processor = KeypointProcessor()
    calibration = processor.calibrate(KeypointClip(points[:25], confidence[:25]))
    whole = processor.process(KeypointClip(points, confidence, fps=50.0), causal=True, calibration=calibration)
    start = processor.process(KeypointClip(points[:61], confidence[:61], fps=50.0), causal=True)
    assert len(whole.kept_frames) == 90
    np.testing.assert_array_equal(whole.keypoints[: len(start.keypoints)], start.keypoints)


def test_a_stream_holds_what_it_last_saw(signing):
    points, confidence = signing(60), np.ones((60, 73))
    confidence[30:, 60] = 0
    clip = KeypointProcessor().process(KeypointClip(points, confidence), causal=True)
    assert (clip.keypoints[30:, 60] == clip.keypoints[29, 60]).all()


# --- Saved and loaded -------------------------------------------------------------------------------------------------------------


def test_a_saved_processor_comes_back_with_its_layouts_hash(tmp_path, signing):
    processor = KeypointProcessor(fps=30.0, normalize="frame")
    processor.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "preprocessor_config.json").read_text())
    assert saved["layout"] == "uniglor73" and saved["layout_hash"] == processor.layout_hash
    loaded = KeypointProcessor.from_pretrained(tmp_path)
    np.testing.assert_array_equal(loaded(signing(40), fps=50.0)["keypoints"], processor(signing(40), fps=50.0)["keypoints"])


def test_a_processor_of_other_points_is_refused(tmp_path):
    KeypointProcessor().save_pretrained(tmp_path)
    path = tmp_path / "preprocessor_config.json"
    path.write_text(path.read_text().replace(KeypointProcessor().layout_hash, "0123456789ab"))
    with pytest.raises(ValueError, match="0123456789ab.*its points differ"):
        KeypointProcessor.from_pretrained(tmp_path)


# --- Bad input --------------------------------------------------------------------------------------------------------------------


def spoil(points, how):
    confidence = np.ones(points.shape[:2])
    if how == "rank":
        return dict(keypoints=points[0])
    if how == "count":
        return dict(keypoints=points[:, :70])
    if how == "layout":
        return dict(keypoints=points, layout="kinect25")
    if how == "missing":
        return dict(keypoints=points, confidence=confidence * 0)
    if how == "nan everywhere":
        return dict(keypoints=points * np.nan)
    if how == "no frames":
        return dict(keypoints=points[:0])
    if how == "shoulders":
        points[:, [INDEX["left_shoulder"], INDEX["right_shoulder"]]] = 0.3
        return dict(keypoints=points)
    if how == "no shoulders":
        confidence[:, INDEX["left_shoulder"]] = 0
        return dict(keypoints=points, confidence=confidence)
    if how == "not finite":
        points[7, 30, 1] = np.inf
        return dict(keypoints=points)
    if how == "nan marked present":
        points[7, 30, 1] = np.nan
        return dict(keypoints=points, confidence=confidence)
    if how == "confidence":
        return dict(keypoints=points, confidence=confidence[:, :5])
    return dict(keypoints=points, fps=0.0)


@pytest.mark.parametrize(
    "how, message",
    [("rank", r"shape \(73, 2\), expected \(frames"), ("count", "found 70 keypoints.*73"), ("layout", "kinect25.*openpose137"),
     ("missing", "not one keypoint of 20 frames"), ("nan everywhere", "not one keypoint"), ("no frames", "found 0 frames"),
     ("shoulders", "lie on one place"), ("no shoulders", "no frame shows both"), ("not finite", "left_hand_thumb_3 in frame 7.*inf"),
     ("nan marked present", "in frame 7 is marked as seen but is.*nan"), ("confidence", r"shape \(20, 5\), expected \(20, 73\)"),
     ("fps", "fps=0.0 must be above 0")],
)  # fmt: skip
def test_bad_clips_are_refused_by_name(signing, how, message):
    arguments = spoil(signing(20), how)
    with pytest.raises(ValueError, match=message) as error:
        KeypointProcessor()([arguments.pop("keypoints")], ids=["clip-17"], **{k: [v] for k, v in arguments.items()})
    assert how == "layout" or "clip-17" in str(error.value)


def test_a_setting_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="normalize='video' must be one of 'clip', 'frame'"):
        KeypointProcessor(normalize="video")
