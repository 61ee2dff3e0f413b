"""Errors, motion and floors of generated clips: by hand, against naive loops, and on real signing."""

import functools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from modeling_unigloR import KeypointClip, KeypointProcessor
from modeling_unigloR.keypoints_uniglor import LAYOUTS, layout_hash, point_index
from train.metrics.production import (
    align,
    another_clip,
    frame_distances,
    mean_pose_clips,
    motion_panel,
    pose_errors,
    random_training_clip,
    resample,
    signature,
    time_reversed,
)
from train.metrics.reconstruction import errors_by_part, motion

from .conftest import REAL_DATA, random_signing

PARTS = LAYOUTS["uniglor73"].parts
INDEX = point_index("uniglor73")
SUFFIXES = ("", "_body", "_face", "_hands", "_hand_shape")
RATIOS = ("speed_ratio", "motion_ratio", "border_jump", "duration_ratio", "jitter_ratio") + tuple(
    f"variance_ratio{suffix}" for suffix in SUFFIXES[1:]
)


def all_seen(clips):
    return [np.ones(clip.shape[:2], bool) for clip in clips]


def signing_clips(*lengths):
    return [random_signing(length, seed) for seed, length in enumerate(lengths)]


# whole numbers, so that frames are often equally far; two clips of any lengths
PAIRS = st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(0, 10**6))


def whole_number_clips(num_frames, other_frames, seed):
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 3, (length, 73, 1)).repeat(2, axis=2) * (np.arange(73) == 0)[:, None] for length in (num_frames, other_frames)]


def naive_warping(distances):
    """(cost, pairs) of the cheapest way, by recursion over its last pair; of equal costs, that with the fewest pairs."""

    @functools.cache
    def ways_to(row, column):
        if row < 0 or column < 0:
            return np.inf, 0
        before = min(ways_to(row - 1, column - 1), ways_to(row - 1, column), ways_to(row, column - 1)) if row or column else (0, 0)
        return before[0] + distances[row, column], before[1] + 1

    return ways_to(distances.shape[0] - 1, distances.shape[1] - 1)


# --- Pose errors ----------------------------------------------------------------------------------------------------------------------


def test_identical_clips_have_no_error():
    clips = signing_clips(20, 33)
    errors = pose_errors(clips, clips, all_seen(clips))
    names = {prefix + suffix for prefix in ("mpjpe_resampled", "mpjpe_truncated", "dtw_mje") for suffix in SUFFIXES}
    assert errors == dict.fromkeys(names, 0)


def test_errors_stand_by_part_and_hand_shape_forgets_the_wrist():
    reference = np.zeros((4, 73, 2))
    generated = reference.copy()
    generated[:, PARTS["body"]] = 3, 4  # wrists too
    generated[:, PARTS["face"], 0] = 2
    generated[:, PARTS["left_hand"]] = 3, 4
    generated[:, PARTS["right_hand"], 0] = 3  # 4 lower than its wrist
    errors = pose_errors([generated], [reference], all_seen([reference]))
    expected = {"": (8 * 5 + 19 * 2 + 23 * 5 + 23 * 3) / 73, "_body": 5, "_face": 2, "_hands": 4, "_hand_shape": 2}
    for prefix in ("mpjpe_resampled", "mpjpe_truncated", "dtw_mje"):
        assert {suffix: errors[prefix + suffix] for suffix in SUFFIXES} == pytest.approx(expected)


def test_at_equal_length_the_headline_is_the_error_of_reconstruction(rng):
    generated, reference = signing_clips(24, 24)
    seen = rng.random((24, 73)) > 0.3
    errors = pose_errors([generated], [reference], [seen])
    expected = errors_by_part(*(torch.from_numpy(array)[None] for array in (generated, reference, seen)), "uniglor73")
    assert {suffix: errors[f"mpjpe_resampled{suffix}"] for suffix in SUFFIXES} == pytest.approx(
        {suffix: expected[f"mpjpe{suffix}"] for suffix in SUFFIXES}, rel=1e-5
    )


def test_a_clip_at_half_speed_is_near_by_warping_and_far_by_truncation():
    (clip,) = signing_clips(40)
    errors = pose_errors([np.repeat(clip, 2, axis=0)], [clip], all_seen([clip]))
    assert errors["dtw_mje"] == 0
    assert errors["mpjpe_resampled"] < 0.1 * errors["mpjpe_truncated"]


def test_truncation_forgives_what_comes_after_the_end():
    (clip,) = signing_clips(40)
    for generated, reference in ((clip, clip[:30]), (clip[:30], clip)):
        errors = pose_errors([generated], [reference], all_seen([reference]))
        assert errors["mpjpe_truncated"] == 0 and errors["mpjpe_resampled"] > 0.01 and errors["dtw_mje"] > 0


def test_resampling_keeps_both_ends_and_is_linear_between():
    clip = np.array([0.0, 1.0, 4.0]).reshape(3, 1, 1)
    assert resample(clip, 5).ravel().tolist() == [0, 0.5, 1, 2.5, 4]
    assert resample(clip, 2).ravel().tolist() == [0, 4]
    assert resample(clip[:1], 3).ravel().tolist() == [0, 0, 0]


@settings(deadline=None, max_examples=60)
@given(PAIRS)
def test_warping_is_that_of_the_naive_recursion(sizes):
    generated, reference = whole_number_clips(*sizes)
    distances = frame_distances(generated, reference, all_seen([reference])[0])
    cost, num_pairs = naive_warping(distances)
    pairs = align(distances)
    steps = np.diff(pairs, axis=0)
    assert pairs[0].tolist() == [0, 0] and pairs[-1].tolist() == [len(generated) - 1, len(reference) - 1]
    assert ((steps >= 0) & (steps <= 1)).all() and steps.any(axis=1).all()
    assert len(pairs) == num_pairs and distances[tuple(pairs.T)].sum() == pytest.approx(cost)
    found = pose_errors([generated], [reference], all_seen([reference]))["dtw_mje"]
    assert found == pytest.approx(cost / num_pairs)


@settings(deadline=None)
@given(PAIRS)
def test_of_equally_cheap_ways_warping_takes_one_with_the_fewest_pairs(sizes):
    distances = np.random.default_rng(sizes[2]).integers(0, 3, sizes[:2]).astype(float)
    pairs = align(distances)
    assert (distances[tuple(pairs.T)].sum(), len(pairs)) == naive_warping(distances)


def test_the_nearest_diagonal_step_is_not_always_the_shortest_way():
    """Going back from the end by diagonal steps wherever they are cheapest takes one pair more here than is needed."""
    distances = np.array([[0, 0, 1, 1, 2], [0, 2, 2, 2, 0], [0, 1, 1, 0, 0.0]])
    assert len(align(distances)) == len(align(distances.T)) == naive_warping(distances)[1]


@settings(deadline=None, max_examples=40)
@given(PAIRS)
def test_warping_does_not_ask_which_clip_comes_first(sizes):
    first, second = whole_number_clips(*sizes)
    there = pose_errors([first], [second], all_seen([second]))["dtw_mje"]
    back = pose_errors([second], [first], all_seen([first]))["dtw_mje"]
    assert there == pytest.approx(back)


@settings(deadline=None, max_examples=40)
@given(PAIRS)
def test_at_equal_length_warping_is_never_further_than_frame_by_frame(sizes):
    generated, reference = whole_number_clips(sizes[0], sizes[0], sizes[2])
    errors = pose_errors([generated], [reference], all_seen([reference]))
    assert errors["dtw_mje"] <= errors["mpjpe_truncated"] + 1e-12


def test_frame_distances_are_means_over_the_points_that_a_reference_frame_shows(rng):
    generated, reference = rng.normal(size=(3, 73, 3)), rng.normal(size=(5, 73, 3))
    seen = rng.random((5, 73)) > 0.5
    expected = [[np.linalg.norm(a - b, axis=-1)[some].mean() for b, some in zip(reference, seen)] for a in generated]
    np.testing.assert_allclose(frame_distances(generated, reference, seen), expected)


def test_points_that_were_not_seen_do_not_count_whatever_stands_there():
    (clip,) = signing_clips(20)
    reference, seen = clip.copy(), all_seen([clip])[0]
    seen[3:9, PARTS["left_hand"]] = False
    reference[~seen] = np.nan
    assert set(pose_errors([clip], [reference], [seen]).values()) == {0}


def test_no_frame_can_wait_where_nothing_was_seen():
    """Such a frame is as far from one frame as from another: five wrong frames would hide behind it, and cost nothing."""
    reference = np.zeros((10, 73, 2))
    seen = all_seen([reference])[0]
    seen[5] = False
    generated = reference.copy()
    generated[4:9, :, 0] = 1
    errors = pose_errors([generated], [reference], [seen])
    assert errors["dtw_mje"] == pytest.approx(5 / 10)  # the fewest pairs: ten, of which nine frames were seen
    assert errors["mpjpe_resampled"] == pytest.approx(4 / 9)


def test_points_that_the_model_never_learned_are_not_scored():
    (clip,) = signing_clips(20)
    presence = np.ones(73)
    presence[PARTS["face"]] = 0
    generated = clip.copy()
    generated[:, PARTS["face"]] = np.nan
    errors = pose_errors([generated], [clip], all_seen([clip]), presence=presence)
    assert errors["mpjpe_resampled"] == errors["dtw_mje"] == errors["dtw_mje_hands"] == 0
    assert all(np.isnan(errors[f"{prefix}_face"]) for prefix in ("mpjpe_resampled", "mpjpe_truncated", "dtw_mje"))


def test_a_part_is_a_mean_over_the_clips_that_show_it():
    references = [np.zeros((5, 73, 2)), np.zeros((5, 73, 2))]
    masks = all_seen(references)
    masks[0][:, PARTS["face"]] = False
    errors = pose_errors([references[0] + [7, 0], references[1] + [1, 0]], references, masks)
    assert errors["mpjpe_resampled_face"] == pytest.approx(1) and errors["mpjpe_resampled_body"] == pytest.approx(4)


def test_a_long_clip_weighs_no_more_than_a_short_one():
    references = [np.zeros((100, 73, 2)), np.zeros((5, 73, 2))]
    errors = pose_errors([references[0] + [3, 0], references[1] + [1, 0]], references, all_seen(references))
    assert errors["mpjpe_resampled"] == errors["mpjpe_truncated"] == errors["dtw_mje"] == pytest.approx(2)


# --- Motion ---------------------------------------------------------------------------------------------------------------------------


def test_identical_clips_move_alike_even_where_points_are_missing(rng):
    clips = signing_clips(40, 64)
    masks = [rng.random(clip.shape[:2]) > 0.2 for clip in clips]
    panel = motion_panel(clips, clips, masks)
    assert {name: panel[name] for name in RATIOS} == pytest.approx(dict.fromkeys(RATIOS, 1))


def test_a_model_that_fell_back_to_the_mean_pose_shows_no_motion():
    clips = signing_clips(40, 64)
    still = mean_pose_clips(zip(clips, all_seen(clips)), [len(clip) for clip in clips])
    panel = motion_panel(still, clips, all_seen(clips))
    still_ratios = [name for name in RATIOS if name != "duration_ratio"]
    assert {name: panel[name] for name in still_ratios} == pytest.approx(dict.fromkeys(still_ratios, 0), abs=1e-6)
    assert panel["duration_ratio"] == 1 and panel["seam_speed"] == panel["elsewhere_speed"] == 0


def test_a_static_pose_for_each_segment_shows_in_the_motion_inside_segments():
    """Its mean speed is that of the truth, which drifts evenly: all of it is at the seams."""
    reference = np.arange(45.0)[:, None, None] * np.ones((73, 1)) * [1.0, 0.0]
    static = reference.reshape(3, 15, 73, 2).mean(1).repeat(15, axis=0)
    panel = motion_panel([static], [reference], all_seen([reference]))
    assert panel["motion_ratio"] == panel["elsewhere_speed"] == 0
    assert panel["border_jump"] == panel["seam_speed"] == pytest.approx(15)
    assert panel["speed_ratio"] == pytest.approx(2 * 15 / 44)


def test_motion_inside_segments_and_at_seams_is_that_of_reconstruction():
    generated, reference = signing_clips(60, 60)
    panel = motion_panel([generated], [reference], all_seen([reference]))
    segments = [torch.from_numpy(clip).reshape(4, 15, 73, 2) for clip in (generated, reference)]
    expected = motion(*segments, torch.ones(4, 15, 73), torch.tensor([False, True, True, True]))
    assert {name: panel[name] for name in expected} == pytest.approx(expected, rel=1e-5)


def test_half_the_size_is_half_the_speed_and_a_quarter_of_the_variance():
    (clip,) = signing_clips(60)
    panel = motion_panel([clip / 2], [clip], all_seen([clip]))
    speeds = ("speed_ratio", "motion_ratio", "border_jump", "jitter_ratio")
    assert {name: panel[name] for name in speeds} == pytest.approx(dict.fromkeys(speeds, 0.5))
    assert panel["variance_ratio_body"] == panel["variance_ratio_hand_shape"] == pytest.approx(0.25)


def test_variance_by_part_shows_what_stands_still():
    (clip,) = signing_clips(60)
    generated = clip.copy()
    generated[:, PARTS["face"]] = clip[:1, PARTS["face"]]
    for side in ("left", "right"):  # hands that move with the wrist and never change their shape
        hand, wrist = PARTS[f"{side}_hand"], INDEX[f"{side}_wrist"]
        generated[:, hand] = clip[:, [wrist]] + clip[:1, hand] - clip[:1, [wrist]]
    panel = motion_panel([generated], [clip], all_seen([clip]))
    assert panel["variance_ratio_body"] == pytest.approx(1) and panel["variance_ratio_hands"] > 0.3
    assert panel["variance_ratio_face"] == 0 and panel["variance_ratio_hand_shape"] == pytest.approx(0, abs=1e-6)


def test_jitter_sees_what_speed_hides():
    (clip,) = signing_clips(30)
    trembling = clip + 0.01 * (-1.0) ** np.arange(30)[:, None, None]
    panel = motion_panel([trembling], [clip], all_seen([clip]))
    assert panel["jitter_ratio"] > 4 * panel["speed_ratio"]


def test_even_acceleration_is_no_jitter():
    time = np.arange(10.0)[:, None, None] * np.ones((73, 2))
    assert motion_panel([time**2], [time**3], all_seen([time]))["jitter_ratio"] == 0
    assert motion_panel([3 * time**3], [time**3], all_seen([time]))["jitter_ratio"] == pytest.approx(3)
    assert np.isnan(motion_panel([time**3], [time**2], all_seen([time]))["jitter_ratio"])  # nothing to compare with


def test_a_clip_of_twice_the_length_has_half_the_speed():
    (clip,) = signing_clips(50)
    panel = motion_panel([resample(clip, 100)], [clip], all_seen([clip]))
    assert panel["duration_ratio"] == 2 and panel["speed_ratio"] == pytest.approx(0.5, rel=0.05)


def test_seams_stand_where_the_models_segments_end():
    clip = np.zeros((16, 73, 2))
    clip[8:, :, 0] = 1
    (moving,) = signing_clips(16)
    found = {size: motion_panel([clip], [moving], all_seen([moving]), window_size=size)["seam_speed"] for size in (8, 15)}
    assert found == {8: 1, 15: 0}


def test_clips_shorter_than_a_segment_have_no_seams():
    clips = signing_clips(10, 1)
    panel = motion_panel(clips, clips, all_seen(clips))
    assert np.isnan(panel["border_jump"]) and np.isnan(panel["seam_speed"]) and panel["speed_ratio"] == 1


# --- Floors ---------------------------------------------------------------------------------------------------------------------------


def test_the_mean_pose_counts_only_seen_points():
    clip = np.zeros((4, 73, 2), np.float32)
    clip[:, 0, 0] = 1, 3, 100, 100
    clip[:, 1, 1] = 8  # never seen: stands where it was placed
    seen = all_seen([clip])[0]
    seen[2:, 0] = seen[:, 1] = False
    short, long = mean_pose_clips([(clip[:1], seen[:1]), (clip[1:], seen[1:])], [2, 5])
    assert short.shape == (2, 73, 2) and long.shape == (5, 73, 2) and short.dtype == np.float32
    assert (long[:, 0] == [2, 0]).all() and (long[:, 1] == [0, 8]).all() and (long[:, 2:] == 0).all()


def test_reversed_twice_is_the_clip():
    clips = signing_clips(5, 7)
    reversed_clips = time_reversed(clips)
    np.testing.assert_array_equal(reversed_clips[1][0], clips[1][-1])
    torch.from_numpy(reversed_clips[0])  # which takes no backward view
    for clip, again in zip(clips, time_reversed(reversed_clips)):
        np.testing.assert_array_equal(clip, again)


@given(st.integers(2, 30), st.integers(0, 1000))
def test_no_clip_keeps_its_own_and_each_is_used_once(num_clips, seed):
    found = another_clip(range(num_clips), seed)
    assert sorted(found) == list(range(num_clips)) and all(index != other for index, other in enumerate(found))
    assert found == another_clip(range(num_clips), seed)


def test_training_clips_are_drawn_by_the_seed():
    assert random_training_clip("abcdefgh", 20, seed=1) == random_training_clip("abcdefgh", 20, seed=1)
    assert random_training_clip("abcdefgh", 20, seed=1) != random_training_clip("abcdefgh", 20, seed=2)
    assert set(random_training_clip("ab", 50)) == {"a", "b"}


@pytest.mark.parametrize("call", [lambda: another_clip([0]), lambda: random_training_clip([], 3), lambda: mean_pose_clips([], [5])])
def test_floors_of_too_few_clips_say_so(call):
    with pytest.raises(ValueError, match="found .* give at least"):
        call()


# --- What stands beside the numbers, and what is refused ------------------------------------------------------------------------------


def test_the_signature_names_points_normalisation_and_rate():
    assert (
        signature("uniglor73", 25.0, "clip") == f"keypoints:uniglor73@{layout_hash('uniglor73')}|normalize:clip|fps:25|unit:shoulder_length"
    )
    assert "|fps:source|" in signature("uniglor73", None, "frame")


GOOD = np.zeros((5, 73, 2))
SEEN = np.ones((5, 73), bool)


@pytest.mark.parametrize("score", [pose_errors, motion_panel])
@pytest.mark.parametrize(
    "generated, references, masks, message",
    [
        ([GOOD], [GOOD, GOOD], [SEEN, SEEN], "found 1 generated clips, 2 references and 2 masks; give one of each"),
        ([], [], [], "found 0 generated clips"),
        ([GOOD[:, :50]], [GOOD], [SEEN], r"generated clip 0: found shape \(5, 50, 2\), expected \(frames, 73, coordinates\)"),
        ([GOOD, GOOD], [GOOD, GOOD[:0]], [SEEN, SEEN[:0]], "reference 1: found 0 frames, expected at least 1"),
        ([GOOD], [np.zeros((5, 73, 3))], [SEEN], "generated clip 0 has 2 coordinates, its reference 3"),
        ([GOOD], [GOOD], [SEEN[:4]], r"mask 0: found shape \(4, 73\), expected \(5, 73\)"),
        ([GOOD], [GOOD], [~SEEN], "reference 0: found no point that was seen"),
        ([GOOD * np.nan], [GOOD], [SEEN], "generated clip 0: found coordinates that are not finite"),
        ([GOOD], [GOOD * np.nan], [SEEN], "reference 0: found coordinates that are not finite"),
    ],
)
def test_clips_that_do_not_fit_together_are_refused(score, generated, references, masks, message):
    with pytest.raises(ValueError, match=message):
        score(generated, references, masks)


def test_a_presence_of_another_layout_and_a_window_of_no_frames_are_refused():
    with pytest.raises(ValueError, match=r"presence of shape \(50,\), expected \(73,\)"):
        pose_errors([GOOD], [GOOD], [SEEN], presence=np.ones(50))
    with pytest.raises(ValueError, match="found window_size=0"):
        motion_panel([GOOD], [GOOD], [SEEN], window_size=0)


def test_nothing_that_is_given_is_changed():
    clip = random_signing(20)
    reference, seen = clip.copy(), np.ones((20, 73), bool)
    reference[2, 3], seen[2, 3] = np.nan, False
    before = reference.copy(), clip.copy(), seen.copy()
    pose_errors([clip], [reference], [seen], presence=np.zeros(73) + 1)
    motion_panel([clip], [reference], [seen])
    for now, then in zip((reference, clip, seen), before):
        np.testing.assert_array_equal(now, then)


# --- Real signing ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not REAL_DATA.exists(), reason="real keypoints are not here: set UNIGLOR_DATA to their folder")
def test_floors_of_real_sentences_are_far_and_no_one_saw_their_faces():
    """Sentences of German Sign Language without faces and with many missing hands: a copy with noise is nearer than any floor."""
    processor = KeypointProcessor()
    paths = sorted((REAL_DATA / "dgs_sentences" / "motion").glob("*.npz"))[::8]
    files = (np.load(path)["keypoints"].reshape(-1, 67, 2) for path in paths)
    clips = [processor.process(KeypointClip(file, layout="openpose67", fps=50.0, aspect=16 / 9)) for file in files]
    real, masks = [clip.keypoints for clip in clips], [clip.keypoint_mask for clip in clips]
    noise = np.random.default_rng(0)
    near = [clip + noise.normal(0, 0.01, clip.shape).astype(np.float32) for clip in real]
    errors = pose_errors(near, real, masks)
    assert np.isnan(errors["mpjpe_resampled_face"]) and errors["dtw_mje"] < 0.02
    lengths = [len(clip) for clip in real]
    for floor in (time_reversed(real), another_clip(real), mean_pose_clips(zip(real, masks), lengths)):
        floor_errors = pose_errors(floor, real, masks)
        assert floor_errors["mpjpe_resampled"] > floor_errors["dtw_mje"] > 3 * errors["dtw_mje"]
    panel = motion_panel(real, real, masks)
    assert panel["speed_ratio"] == panel["jitter_ratio"] == 1 and panel["motion_ratio"] == 1
