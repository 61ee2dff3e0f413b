"""Verdicts on made-up scores: what is worse, what chance explains, what cannot be said."""

import math

import pytest

from train.evaluation.verdicts import (
    BLIND_JUDGE,
    BLIND_JUDGES,
    compare,
    difference_in_words,
    directions,
    headline,
    verdict,
    verdict_of_judge,
    verdict_of_reconstruction,
    verdict_of_rows,
)

CONSTANT, RANDOM = "floor: one constant sentence", "floor: random training sentence"


@pytest.mark.parametrize(
    "score, floor, lower, interval, spread, expected",
    [
        (5.0, 4.0, False, None, 0, "better"),
        (5.0, 4.0, True, None, 0, "worse"),
        (3.0, 4.0, False, None, 0, "worse"),
        (4.0, 4.0, False, None, 0, "equal"),
        (5.0, 4.0, False, (3.5, 6.5), 0, "equal"),
        (5.0, 4.0, False, (4.5, 5.5), 0, "better"),
        (5.0, 4.0, False, (4.5, 5.5), 0.3, "equal"),  # two standard deviations of the floor reach the interval
        (5.0, 4.0, False, None, 0.4, "better"),
        (5.0, 4.0, False, (math.nan, 6.0), 0, "better"),
        (math.nan, 4.0, False, None, 0, None),
        (None, 4.0, False, None, 0, None),
        (5.0, math.nan, False, None, 0, None),
        (5.0, None, False, None, 0, None),
    ],
)
def test_a_score_is_better_or_worse_than_a_floor_only_beyond_chance(score, floor, lower, interval, spread, expected):
    assert compare(score, floor, lower, interval, spread) == expected


def test_a_reader_below_one_constant_sentence_is_not_usable():
    rows = {"system": {"bleu4": 0.3}, RANDOM: {"bleu4": 0.1, "std": {"bleu4": 0.02}}, CONSTANT: {"bleu4": 4.12}}
    assert verdict_of_rows(rows) == ["bleu4 0.3 is worse than one constant sentence (4.12): not usable."]


def test_what_chance_explains_is_neither_better_nor_worse():
    rows = {"system": {"bleu4": 4.5}, RANDOM: {"bleu4": 2.0}, CONSTANT: {"bleu4": 4.12}}
    (said,) = verdict_of_rows(rows, {"low": 3.5, "high": 5.5, "metric": "bleu4"})
    assert said == "bleu4 4.5 (95 % interval 3.5 to 5.5) is not distinguishable from one constant sentence (4.12): not usable."


def test_an_interval_of_another_score_is_not_used():
    rows = {"system": {"bleu4": 4.5}, CONSTANT: {"bleu4": 4.12}}
    assert (
        "is better than one constant sentence (4.12), the strongest of 1 floor."
        in verdict_of_rows(rows, {"low": 3.5, "high": 5.5, "metric": "cer"})[0]
    )


def test_better_than_every_floor_names_the_strongest():
    rows = {"system": {"cer": 20.0}, RANDOM: {"cer": 95.0}, CONSTANT: {"cer": 90.0}}
    assert verdict_of_rows(rows, metric="cer") == ["cer 20 is better than one constant sentence (90), the strongest of 2 floors."]


def test_worse_and_indistinguishable_floors_are_both_named():
    said = verdict("bleu4", 3.0, {"a": (9.0, 0.0), "b": (8.0, 0.0), "c": (3.1, 0.2), "d": (1.0, 0.0)})
    assert said == ["bleu4 3 is worse than a (9) and b (8): not usable.", "bleu4 3 is not distinguishable from c (3.1)."]


@pytest.mark.parametrize("nothing", [math.nan, None, math.inf])
def test_a_score_that_is_no_number_says_nothing(nothing):
    rows = {"system": {"bleu4": nothing}, CONSTANT: {"bleu4": 4.12}}
    assert verdict_of_rows(rows) == ["bleu4 is no number: nothing can be said of it."]


@pytest.mark.parametrize("floors", [{}, {CONSTANT: {"bleu4": math.nan}}, {CONSTANT: {"chrf": 3.0}}])
def test_without_a_floor_the_worth_of_a_score_is_open(floors):
    assert verdict_of_rows({"system": {"bleu4": 4.0}} | floors) == ["bleu4 4: no floor was scored, so what it is worth is open."]


def test_a_table_without_a_system_is_no_error():
    assert verdict_of_rows({}, metric="bleu4") == ["bleu4 is no number: nothing can be said of it."]


def test_texts_that_are_too_short_for_bleu4_are_judged_by_chrf():
    rows = {"system": {"bleu4": 0.0, "chrf": 30.0}, CONSTANT: {"bleu4": 0.0, "chrf": 10.0}}
    assert headline(rows) == "chrf" and verdict_of_rows(rows)[0].startswith("chrf 30 is better than")
    assert headline(rows | {CONSTANT: {"bleu4": 0.1}}) == "bleu4" and headline({"system": {"top1": 3.0}}) == "top1"


def signing(system, real, mean_pose, spread=0.0):
    return {
        "system, length=predicted": {"bleu4": system, "std": {"bleu4": spread}},
        "ceiling: real keypoints": {"bleu4": real, "std": {"bleu4": spread}},
        "floor: mean pose": {"bleu4": mean_pose, "std": {"bleu4": spread}},
        "floor: real keypoints backwards": {"bleu4": real - 1},
    }


def test_judges_that_read_real_signing_no_better_than_a_held_pose_say_nothing():
    (said,) = verdict_of_rows(signing(system=6.0, real=2.0, mean_pose=2.5))
    assert said == f"{BLIND_JUDGES} (bleu4 2 of real signing, 2.5 of mean pose)."
    assert BLIND_JUDGES in verdict_of_rows(signing(system=6.0, real=3.0, mean_pose=2.5, spread=0.4))[0]  # within their own spread
    assert BLIND_JUDGES in verdict_of_rows(signing(system=6.0, real=math.nan, mean_pose=2.5))[0]


def test_signing_is_not_asked_to_be_read_better_than_real_signing_backwards():
    """Judges hardly notice order: 13.4 BLEU of real signing, 11.3 of it backwards."""
    (said,) = verdict_of_rows(signing(system=6.0, real=13.4, mean_pose=2.0))
    assert said == "bleu4 6 is better than mean pose (2), the strongest of 1 floor."


def test_the_spread_of_the_judges_is_chance():
    (said,) = verdict_of_rows(signing(system=3.0, real=13.4, mean_pose=2.5, spread=0.3))
    assert "is not distinguishable from mean pose (2.5): not usable." in said


def test_a_judge_below_one_constant_sentence_cannot_read():
    floors = {"one constant sentence": {"bleu4": 4.1}}
    assert verdict_of_judge({"bleu4": 1.0}, floors) == [f"bleu4 1 is worse than one constant sentence (4.1): {BLIND_JUDGE}."]
    assert "is better than" in verdict_of_judge({"bleu4": 9.0}, floors)[0]
    assert "no floor was scored" in verdict_of_judge({"bleu4": 9.0}, {})[0]


FLOORS = {"mean_pose": 0.4, "static": 0.13, "nearest_segment": 0.05, "bank_segments": 100}


def test_a_sign_mae_that_is_worse_than_a_static_pose_is_not_usable():
    (said, copying) = verdict_of_reconstruction({"mpjpe": 0.328}, FLOORS)
    assert said == "mpjpe 0.328 is worse than a static pose for each segment (0.13): not usable."
    assert copying == "The nearest training segment (0.05) is as near or nearer: it gives back no more than copying would."


def test_a_sign_mae_stands_beside_principal_components_and_must_move():
    said = verdict_of_reconstruction({"mpjpe": 0.04, "motion_ratio": 0.3}, FLOORS, {"16": 0.05, "32": 0.03, "64": 0.02})
    assert said == [
        "mpjpe 0.04 is better than a static pose for each segment (0.13), the strongest of 2 floors.",
        "32 principal components of the training segments come nearer (0.03).",
        "It gives back 30% of the motion inside segments.",
    ]


@pytest.mark.parametrize("scores", [{}, {"mpjpe": math.nan}, {"mpjpe": None, "motion_ratio": math.nan}])
def test_a_sign_mae_without_an_error_has_no_other_verdict(scores):
    assert verdict_of_reconstruction(scores, FLOORS, {"16": math.nan}) == ["mpjpe is no number: nothing can be said of it."]


def test_a_streamed_sign_mae_has_no_floors():
    assert verdict_of_reconstruction({"mpjpe": 0.1}, {}) == ["mpjpe 0.1: no floor was scored, so what it is worth is open."]


@pytest.mark.parametrize(
    "delta, low, high, metric, expected",
    [
        (-0.37, -0.9, 0.1, "cer", "not ordered, the interval covers 0."),
        (-0.37, -0.7, -0.1, "cer", "segments is better."),
        (0.37, 0.1, 0.7, "cer", "segments is worse."),
        (0.37, 0.1, 0.7, "bleu4", "segments is better."),
        (0.0, 0.0, 0.0, "bleu4", "not ordered, the interval covers 0."),
        (math.nan, 0.0, 1.0, "cer", "no number, so they are not ordered."),
    ],
)
def test_two_systems_are_ordered_only_where_the_interval_leaves_out_0(delta, low, high, metric, expected):
    said = difference_in_words({"metric": metric, "delta": delta, "low": low, "high": high}, "frames", "segments")
    assert said.startswith(f"{metric}, segments minus frames: ") and said.endswith(expected)


def test_numbers_say_which_way_is_better():
    said = directions(
        [
            "bleu4",
            "cer",
            "gloss_wer",
            "mpjpe_hands",
            "speed_ratio",
            "length_error",
            "border_jump",
            "seam_speed",
            "variance_hands",
            "dtw_hands",
            "frechet_seams",
        ]
    )
    assert said == (
        "Higher is better: bleu4. Lower is better: cer, gloss_wer, mpjpe_hands, length_error, dtw_hands, frechet_seams. "
        "Best is 1: speed_ratio, border_jump, variance_hands."
    )
    assert directions([]) == ""
