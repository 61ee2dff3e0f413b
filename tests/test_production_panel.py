"""The panel of production and the reader of glosses: against naive versions, and what each does not see."""

import functools
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeling_unigloR.keypoints_uniglor import LAYOUTS, point_index
from train.metrics.gloss_reader import GlossReader, gloss_scores, shuffled_segments
from train.metrics.production import (
    another_clip,
    diversity,
    frechet_of_halves,
    frechet_panel,
    hand_warping,
    hands_panel,
    mean_pose_clips,
    nearest_sentences,
    production_panel,
    resample,
    time_reversed,
)
from train.metrics.windows import WindowFeatures, frechet_distance

from .conftest import random_signing

PARTS = LAYOUTS["uniglor73"].parts
INDEX = point_index("uniglor73")
ROOTS = [PARTS["left_hand"].start, PARTS["right_hand"].start]
GLOSSES = ["REGEN", "SONNE", "WIND", "SCHNEE", "NORD"]


def all_seen(clips):
    return [np.ones(clip.shape[:2], bool) for clip in clips]


def sentence_clip(line, rng, frames=20):
    """Signs that are places of both hands, each its own, with ways between and rests at both ends; no two clips alike."""
    body = random_signing(1)[0]
    places = [np.zeros(4), *(np.random.default_rng(GLOSSES.index(gloss)).uniform(-1, 1, 4) for gloss in line), np.zeros(4)]
    targets = np.repeat(places, [8, *[frames] * len(line), 8], axis=0) + rng.normal(0, 0.05, 4)
    kernel = np.ones(7) / 7
    path = np.stack([np.convolve(np.pad(values, 3, mode="edge"), kernel, "valid") for values in targets.T], axis=1)
    clip = np.repeat(body[None], len(path), axis=0) + rng.normal(0, 0.01, (len(path), 73, 2))
    for hand, columns in (("left_hand", slice(0, 2)), ("right_hand", slice(2, 4))):
        clip[:, PARTS[hand]] += path[:, None, columns]
    return clip.astype(np.float32)


@pytest.fixture(scope="module")
def sentences():
    """(clips, lines) of 60 sentences that are trained on, and of 20 others."""
    rng = np.random.default_rng(0)
    lines = [list(rng.permutation(GLOSSES)[: rng.integers(2, 5)]) for _ in range(80)]
    clips = [sentence_clip(line, rng, frames=int(rng.integers(16, 24))) for line in lines]
    return (clips[:60], lines[:60]), (clips[60:], lines[60:])


@pytest.fixture(scope="module")
def features(sentences):
    return WindowFeatures(sentences[0][0])


@pytest.fixture(scope="module")
def reader(sentences, features):
    return GlossReader(*sentences[0], features=features)


# --- Windows and their distributions --------------------------------------------------------------------------------------------------


def naive_windows(clip, starts, size):
    """Frame by frame; before the first and after the last the clip is held. Values in the order point, coordinate, frame."""
    held = [[clip[min(max(frame, 0), len(clip) - 1)] for frame in range(start, start + size)] for start in starts]
    return np.moveaxis(np.array(held), 1, -1).reshape(len(starts), -1)


def test_features_are_half_whitened_principal_components():
    clips = [random_signing(length, seed) for seed, length in enumerate((40, 55, 61))]
    features = WindowFeatures(clips, window_size=8, size=5)
    windows = np.concatenate([naive_windows(clip, range(0, len(clip), 4), 8) for clip in clips]).astype(float)
    left, deviations, directions = np.linalg.svd(windows - windows.mean(0), full_matrices=False)
    expected = (windows - windows.mean(0)) @ directions[:5].T / np.sqrt(deviations[:5])
    expected /= np.sqrt(expected.var(0).mean())
    found = np.concatenate([features(clip, range(0, len(clip), 4)) for clip in clips])
    signs = np.sign((found * expected).sum(0))
    np.testing.assert_allclose(found[:, ::1], (expected * signs)[:, ::1], rtol=1e-4, atol=1e-4)
    assert found.var(0).mean() == pytest.approx(1, rel=1e-5)


def test_few_windows_and_many_have_the_same_components():
    """Fewer windows than values take the other product of the matrix with itself."""
    few = WindowFeatures([random_signing(30)], window_size=4, size=3, presence=np.arange(73) < 2)  # 16 values
    many = WindowFeatures([random_signing(30)] * 3, window_size=4, size=3, presence=np.arange(73) < 2)
    assert len(range(0, 30, 2)) < 16 < 3 * len(range(0, 30, 2))
    found = [features(random_signing(30), range(27)) for features in (few, many)]
    np.testing.assert_allclose(np.abs(found[0]), np.abs(found[1]), rtol=1e-3, atol=1e-3)


def test_points_that_no_model_learned_are_not_read():
    presence = np.ones(73)
    presence[PARTS["face"]] = 0
    features, clip = WindowFeatures([random_signing(60)], presence=presence), random_signing(30)
    other = clip.copy()
    other[:, PARTS["face"]] += 5
    np.testing.assert_array_equal(features(clip, [0, 7]), features(other, [0, 7]))


def test_features_of_no_clips_or_of_stillness_are_refused():
    with pytest.raises(ValueError, match="give at least one real training clip"):
        WindowFeatures([])
    with pytest.raises(ValueError, match="nothing ever moves"):
        WindowFeatures([np.zeros((40, 73, 2))])


def test_the_frechet_distance_is_that_of_the_formula_with_a_matrix_root(rng):
    linalg = pytest.importorskip("scipy.linalg")
    first, second = rng.normal(size=(50, 4)) @ rng.normal(size=(4, 4)), rng.normal(1, 2, (60, 4))
    a, b = (np.cov(some.T, bias=True) for some in (first, second))
    expected = np.square(first.mean(0) - second.mean(0)).sum() + np.trace(a + b - 2 * linalg.sqrtm(a @ b).real)
    assert frechet_distance(first, second) == pytest.approx(expected) == pytest.approx(frechet_distance(second, first))


@given(st.integers(0, 1000), st.floats(0.1, 10), st.integers(3, 9))
def test_the_frechet_distance_knows_identity_shift_and_scale(seed, scale, count):
    features = np.random.default_rng(seed).normal(size=(count, 6))  # fewer than values too
    assert frechet_distance(features, features) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(features, features + 2) == pytest.approx(6 * 4)
    spread = features.var(0).sum()
    centred = features - features.mean(0)
    assert frechet_distance(centred, scale * centred) == pytest.approx((scale - 1) ** 2 * spread, abs=1e-5 * (1 + scale**2))
    assert np.isnan(frechet_distance(features[:1], features))


def test_real_clips_have_no_distance_and_the_mean_pose_has_more_than_the_whole_variance(sentences, features):
    clips = sentences[1][0]
    assert frechet_panel(clips, clips, features) == pytest.approx(
        dict.fromkeys(("frechet", "frechet_seams", "frechet_velocity"), 0), abs=1e-6
    )
    assert frechet_panel(clips[::-1], clips, features)["frechet"] == pytest.approx(0, abs=1e-6)  # of distributions, not of pairs
    still = frechet_panel(mean_pose_clips(zip(clips, all_seen(clips)), map(len, clips)), clips, features)
    assert all(value >= 1 - 1e-6 for value in still.values())


def test_shuffled_segments_show_at_their_seams_alone(sentences, features):
    """All of their windows are real ones; only those across seams are not, and the ways from one to the next."""
    clips = [clip[: len(clip) // 15 * 15] for clip in sentences[1][0]]
    found = frechet_panel(shuffled_segments(clips), clips, features)
    assert found["frechet"] == pytest.approx(0, abs=1e-6)
    assert found["frechet_seams"] > 0.02 and found["frechet_velocity"] > 0.02


def test_half_the_motion_is_a_quarter_of_the_variance_away(sentences, features):
    """(1 - 1/2)² of the variance; of velocities a little more, since their mean shrinks too."""
    clips = [clip[: len(clip) // 15 * 15].astype(float) for clip in sentences[1][0]]
    mean = np.concatenate([clip.reshape(-1, 15, 73, 2) for clip in clips]).mean(0)
    smaller = [(clip.reshape(-1, 15, 73, 2) + mean).reshape(clip.shape) / 2 for clip in clips]
    found = frechet_panel(smaller, clips, features)
    assert found["frechet"] == pytest.approx(0.25) and 0.25 <= found["frechet_velocity"] < 0.27


def test_clips_shorter_than_a_window_have_no_distance(features):
    clips = [random_signing(10)]
    assert all(np.isnan(value) for value in frechet_panel(clips, clips, features).values())


def test_halves_of_real_clips_are_near_each_other(sentences, features):
    clips = sentences[0][0] + sentences[1][0]
    halves = frechet_of_halves(clips, features)
    assert all(0 < value < 0.3 for value in halves.values())  # the mean pose has 1
    assert halves == frechet_of_halves(clips, features)


# --- Hands ----------------------------------------------------------------------------------------------------------------------------


def naive_hands(clip, threshold):
    """Mean path and extent of both hands, and share of slow steps, by loops."""
    paths, extents, slow, steps = [], [], 0, 0
    for root in ROOTS:
        ways = [np.linalg.norm(clip[frame + 1, root] - clip[frame, root]) for frame in range(len(clip) - 1)]
        paths.append(sum(ways))
        extents.append(np.mean([np.percentile(clip[:, root, axis], 95) - np.percentile(clip[:, root, axis], 5) for axis in (0, 1)]))
        slow, steps = slow + sum(way < threshold for way in ways), steps + len(ways)
    return np.mean(paths), np.mean(extents), slow / steps


def test_paths_extents_and_holds_are_those_of_loops(sentences):
    generated, reference = (sentences[1][0][index].astype(float) for index in (0, 1))
    speed = np.mean([np.linalg.norm(np.diff(reference[:, root], axis=0), axis=-1) for root in ROOTS])
    expected = [a / b for a, b in zip(*(naive_hands(clip, speed / 4) for clip in (generated, reference)))]
    found = hands_panel([generated], [reference], all_seen([reference]))
    assert list(found.values()) == pytest.approx(expected) and list(found) == ["path_hands", "extent_hands", "hold_hands"]


def test_hands_that_go_backwards_go_as_far(sentences):
    clips = sentences[1][0]
    for same in (clips, time_reversed(clips)):
        assert hands_panel(same, clips, all_seen(clips)) == pytest.approx(dict.fromkeys(("path_hands", "extent_hands", "hold_hands"), 1))


def test_half_the_size_is_half_the_path_and_half_the_room(sentences):
    clips = [clip.astype(float) for clip in sentences[1][0]]
    found = hands_panel([clip / 2 for clip in clips], clips, all_seen(clips))
    assert found["path_hands"] == found["extent_hands"] == pytest.approx(0.5) and found["hold_hands"] > 1


def test_a_static_pose_is_held_all_the_time(sentences):
    clips = sentences[1][0]
    found = hands_panel(mean_pose_clips(zip(clips, all_seen(clips)), map(len, clips)), clips, all_seen(clips))
    assert found["path_hands"] == pytest.approx(0, abs=1e-5) and found["extent_hands"] == pytest.approx(0, abs=1e-5)
    assert found["hold_hands"] > 1


def test_hands_that_were_never_seen_have_no_path():
    clip, seen = random_signing(30), np.ones((30, 73), bool)
    seen[:, PARTS["left_hand"]] = seen[:, PARTS["right_hand"]] = False
    assert all(np.isnan(value) for value in hands_panel([clip], [clip], [seen]).values())
    assert np.isnan(hand_warping([clip], [clip], [seen])["dtw_hands"])


def test_hands_are_warped_by_their_shape_wherever_they_are_and_whenever_it_comes():
    clips = [random_signing(length, seed) for seed, length in enumerate((30, 36, 28))]
    moved = [clip.copy() for clip in clips]
    for clip in moved:
        for side in ("left", "right"):
            clip[:, [INDEX[f"{side}_wrist"], *range(73)[PARTS[f"{side}_hand"]]]] += [0.7, -0.3]
    late = [np.concatenate([clip[:1].repeat(5, axis=0), clip]) for clip in moved]
    slow = [np.repeat(clip, 2, axis=0) for clip in clips]
    for same in (clips, moved, late, slow):
        found = hand_warping(same, clips, all_seen(clips))
        assert found["dtw_hands"] == pytest.approx(0, abs=1e-6) and found["dtw_hands_minus_other"] < -0.01


def test_frames_in_which_no_hand_was_seen_cost_nothing():
    """Real hands are lost in bursts. What stands there was filled in, and no frame of the reference is left for it to be aligned with."""
    clips = [random_signing(60, seed) for seed in (0, 1)]
    masks = all_seen(clips)
    filled = [clip.copy() for clip in clips]
    for clip, seen in zip(filled, masks):
        seen[20:35, PARTS["left_hand"]] = seen[20:35, PARTS["right_hand"]] = False
        clip[20:35, PARTS["left_hand"]] += 1
    assert hand_warping(filled, filled, masks)["dtw_hands"] == 0
    slow = [np.repeat(clip, 2, axis=0) for clip in filled]
    assert hand_warping(slow, filled, masks)["dtw_hands"] < 0.02  # which frames they are is then known to a frame


def test_hand_warping_is_that_of_the_naive_recursion(rng):
    hands = [
        INDEX[name]
        for part in ("left_hand", "right_hand")
        for name in LAYOUTS["uniglor73"].names[PARTS[part]]
        if name.split("_")[2] not in ("wrist", "elbow")
    ]
    wrists = [INDEX[name] for name in ("left_wrist", "right_wrist") for _ in range(21)]
    generated, reference = random_signing(6, 1).astype(float), random_signing(7, 2).astype(float)
    seen = rng.random((7, 73)) > 0.3
    seen[:, wrists] = True
    shapes = [clip[:, hands] - clip[:, wrists] for clip in (generated, reference)]
    counted = seen[:, hands] & seen[:, wrists]
    distances = np.array([[np.linalg.norm(a - b, axis=-1)[some].mean() for b, some in zip(shapes[1], counted)] for a in shapes[0]])

    @functools.cache
    def way(row, column):
        if row < 0 or column < 0:
            return np.inf, 0
        before = min(way(row - 1, column - 1), way(row - 1, column), way(row, column - 1)) if row or column else (0, 0)
        return before[0] + distances[row, column], before[1] + 1

    cost, pairs = way(5, 6)
    assert hand_warping([generated], [reference], [seen])["dtw_hands"] == pytest.approx(cost / pairs)


def test_what_is_no_nearer_to_its_own_sentence_than_to_another_gains_nothing():
    clips = [random_signing(30, seed) for seed in range(8)]
    still = mean_pose_clips(zip(clips, all_seen(clips)), map(len, clips))
    gains = [hand_warping(made, clips, all_seen(clips))["dtw_hands_minus_other"] for made in (clips, still)]
    assert gains[0] < -0.05 and abs(gains[1]) < 0.01
    assert np.isnan(hand_warping(clips[:1], clips[:1], all_seen(clips[:1]))["dtw_hands_minus_other"])


# --- Samples --------------------------------------------------------------------------------------------------------------------------


def test_one_signing_for_a_text_has_no_diversity_and_unrelated_clips_have_one(sentences, features):
    clips = sentences[0][0]
    assert diversity(clips, clips, clips, features) == 0
    assert diversity(clips, another_clip(clips, 0), clips, features, seed=0) == 1
    assert 0.7 < diversity(clips, another_clip(clips, 1), clips, features) < 1.4
    halfway = [(resample(other, len(clip)) + clip) / 2 for clip, other in zip(clips, another_clip(clips))]
    assert 0.2 < diversity(clips, halfway, clips, features) < 0.8
    assert np.isnan(diversity(clips[:1], clips[:1], clips[:1], features))


def test_diversity_compares_windows_at_the_same_place(features):
    first, second, real = random_signing(50, 1), random_signing(38, 2), [random_signing(30, 3), random_signing(30, 4)]

    def distance(a, b, starts):
        return [np.linalg.norm(features(a, [start])[0] - features(b, [start])[0]) for start in starts]

    expected = np.mean(distance(first, second, (0, 15))) / np.mean(2 * distance(*real, (0, 15)))
    assert diversity([first], [second], real, features) == pytest.approx(expected)


# --- Glosses --------------------------------------------------------------------------------------------------------------------------


def naive_lcs(first, second):
    return max(
        size
        for size in range(len(first) + 1)
        if any(some in itertools.combinations(second, size) for some in itertools.combinations(first, size))
    )


def naive_edits(first, second):
    if not first or not second:
        return len(first) + len(second)
    changed = naive_edits(first[1:], second[1:]) + (first[0] != second[0])
    return min(changed, naive_edits(first[1:], second) + 1, naive_edits(first, second[1:]) + 1)


LINES = st.lists(
    st.tuples(st.lists(st.sampled_from("ABC"), max_size=5), st.lists(st.sampled_from("ABC"), min_size=1, max_size=5)),
    min_size=1,
    max_size=3,
)


@given(LINES)
def test_gloss_scores_are_those_of_naive_counts(pairs):
    read, lines = ([tuple(pair[side]) for pair in pairs] for side in (0, 1))
    scores = gloss_scores(read, lines)
    total = sum(map(len, read)) + sum(map(len, lines))
    assert scores["lcs_f"] == pytest.approx(200 * sum(map(naive_lcs, read, lines)) / total)
    assert scores["gloss_wer"] == pytest.approx(100 * sum(map(naive_edits, read, lines)) / sum(map(len, lines)))
    matches = sum(min(guess.count(gloss), truth.count(gloss)) for guess, truth in zip(read, lines) for gloss in "ABC")
    assert scores["gloss_f1"] == pytest.approx(200 * matches / total)
    assert scores["lcs_f"] <= scores["gloss_f1"] + 1e-9
    assert np.isnan(scores["order"]) or 0 <= scores["order"] <= 1


@given(st.lists(st.permutations("ABCDE"), min_size=1, max_size=4))
def test_order_is_the_share_of_pairs_that_stand_as_in_the_truth(lines):
    """Kendall's: of glosses without repeats, pair by pair."""
    truth = "ABCDE"
    right = [line.index(first) < line.index(second) for line in lines for first, second in itertools.combinations(truth, 2)]
    assert gloss_scores(lines, [truth] * len(lines))["order"] == pytest.approx(np.mean(right))


def test_gloss_scores_of_truth_silence_and_the_way_back():
    lines = [["MORGEN", "NORD", "REGEN"], ["SONNE"]]
    assert gloss_scores(lines, lines) == {"lcs_f": 100, "gloss_wer": 0, "gloss_f1": 100, "order": 1}
    silent = gloss_scores([[], []], lines)
    assert np.isnan(silent.pop("order")) and silent == {"lcs_f": 0, "gloss_wer": 100, "gloss_f1": 0}
    backwards = gloss_scores([line[::-1] for line in lines], lines)
    assert backwards["order"] == 0 and backwards["gloss_f1"] == 100 and backwards["lcs_f"] == pytest.approx(100 * (1 + 1) / 4)
    with pytest.raises(ValueError, match="found 1 lines that were read and 2 true ones"):
        gloss_scores(lines[:1], lines)


def test_signs_are_read_in_their_order_though_no_frame_was_ever_labelled(reader, sentences):
    power = reader.power(*sentences[1])
    assert power["real"]["lcs_f"] > 85 and power["real"]["order"] > 0.95
    assert power["backwards"]["gloss_f1"] > 80 and power["backwards"]["order"] < 0.1
    assert power["backwards"]["lcs_f"] < power["shuffled segments"]["lcs_f"] < power["real"]["lcs_f"]
    assert power["another sentence"]["gloss_f1"] < power["real"]["gloss_f1"] - 15


def test_the_mean_pose_says_nothing_that_is_right(reader, sentences):
    clips, lines = sentences[1]
    assert reader.scores(mean_pose_clips(zip(clips, all_seen(clips)), map(len, clips)), lines)["lcs_f"] < 20


def test_a_reader_takes_alignments_of_frames_where_there_are_some(sentences, features):
    clips, lines = sentences[0]
    alignments = []
    for clip, line in zip(clips, lines):
        frames = (len(clip) - 16) // len(line)
        alignments.append([None] * 8 + [gloss for gloss in line for _ in range(frames)] + [None] * 8)
    found = GlossReader(clips, lines, alignments, features).scores(*sentences[1])
    assert found["lcs_f"] > 85


def test_a_reader_of_nothing_is_refused(sentences, features):
    clips = sentences[0][0][:2]
    with pytest.raises(ValueError, match="found 2 clips and 2 lines of glosses"):
        GlossReader(clips, [[], []], features=features)
    with pytest.raises(ValueError, match="give at least two glosses"):
        GlossReader(clips, [["A"], ["A"]], [["A"] * len(clip) for clip in clips], features)


def test_shuffled_segments_hold_the_same_frames():
    (clip,) = shuffled_segments([np.arange(47)], 4)
    assert sorted(clip.tolist()) == list(range(47)) and clip.tolist() != list(range(47))


# --- Sentences ------------------------------------------------------------------------------------------------------------------------


def test_the_nearest_sentence_shares_its_rare_words():
    train = ["morgen regen im norden .", "morgen sonne .", "am abend klart es im süden auf ."]
    found = nearest_sentences(train, ["am morgen sonne .", "es klart auf", train[0], "nichts davon"])
    assert found.tolist()[:3] == [1, 2, 0] and found[3] == 0
    with pytest.raises(ValueError, match="found 0 training texts"):
        nearest_sentences([], ["a"])


@given(st.lists(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=5).map(" ".join), min_size=1, max_size=6, unique=True))
def test_a_training_sentence_is_nearest_to_itself(texts):
    bags = [sorted(text.split()) for text in texts]
    assert (
        [bags[index] for index in nearest_sentences(texts, texts)] == bags
        or len(set(map(str, bags))) < len(bags)
        or any(
            {gloss: bag.count(gloss) / len(bag) for gloss in bag} == {gloss: other.count(gloss) / len(other) for gloss in other}
            for bag, other in itertools.combinations(bags, 2)
        )
    )


# --- The panel ------------------------------------------------------------------------------------------------------------------------

RATIOS = ("speed", "motion", "border_jump", "seams", "variance_hands", "path_hands", "extent_hands", "hold_hands")


def test_real_clips_have_the_truth_in_every_column(sentences, features, reader):
    clips, lines = sentences[1]
    found = production_panel(clips, clips, all_seen(clips), features, lines, reader, clips)
    assert {name: found[name] for name in RATIOS} == pytest.approx(dict.fromkeys(RATIOS, 1))
    zeros = ("frechet", "frechet_seams", "frechet_velocity", "dtw_hands", "diversity")
    assert {name: found[name] for name in zeros} == pytest.approx(dict.fromkeys(zeros, 0), abs=1e-6)
    assert found["dtw_hands_minus_other"] < 0 and found["lcs_f"] > 85
    assert set(found) == {*RATIOS, *zeros, "dtw_hands_minus_other", "lcs_f", "gloss_wer", "gloss_f1", "order"}


def test_without_glosses_and_samples_the_panel_has_what_needs_none(sentences, features):
    clips = sentences[1][0]
    found = production_panel(time_reversed(clips), clips, all_seen(clips), features)
    assert not {"lcs_f", "gloss_wer", "gloss_f1", "order", "diversity"} & set(found)
    assert found["speed"] == pytest.approx(1) and found["variance_hands"] == pytest.approx(1)
    assert found["frechet_velocity"] > 0.02  # what goes backwards is seen by velocities
