"""Sentences joined from real signs: the language, the splits, and how takes are joined."""

import re

import datasets
import numpy as np
import pytest

from datasets_scripts.fingerspelling import NECK_PIXELS, SHOULDER_PIXELS
from datasets_scripts.schema import check_row
from experiments import spliced_signs
from experiments.spliced_signs import (
    FOLDS,
    LANGUAGE,
    SIZES,
    WORDS,
    build,
    draw_signs,
    draw_takes,
    english,
    group_of,
    read_takes,
    rows,
    sentences_of,
    sign_span,
    takes_by_split,
    takes_of,
)
from modeling_unigloR.keypoints_uniglor import point_index

from .conftest import REAL_DATA, random_signing

INCLUDE = REAL_DATA / "include43"
FEW = {"train": 6, "validation": 2, "test": 3}
real = pytest.mark.skipif(not INCLUDE.exists(), reason="real keypoints are not here: set UNIGLOR_DATA to their folder")


def invented_lines(sessions=(42, 43, 48, 54, 87)):
    """A take of every word in each session, and a second in the last one."""
    return [
        {"path": f"data/{word}/{word}_{session}_{take}.npy", "label": word, "session": str(session)}
        for word in WORDS for session in sessions for take in range(3 if session == sessions[-1] else 1)
    ]  # fmt: skip


@pytest.mark.parametrize(
    "signs, text",
    [
        ("Yesterday Morning Kitchen Book Pen", "there were a book and a pen in the kitchen yesterday morning ."),
        ("Yesterday Night War", "there was a war last night ."),
        ("Tomorrow Hour Bathroom Soap", "tomorrow there will be soap in the bathroom for an hour ."),
        ("Yesterday Week Election Peace", "there were an election and peace for a week yesterday ."),
        ("Evening Photograph", "there is a photograph in the evening ."),
        ("Time Energy", "there is energy at that time ."),
        ("Gun Page", "there are a gun and a page ."),
    ],
)
def test_english_has_articles_tenses_and_another_order(signs, text):
    assert english(signs.split()) == text


def test_every_word_is_signed_often_and_stands_in_the_order_of_slots(rng):
    lines = [draw_signs(rng) for _ in range(3000)]
    slots = [spliced_signs.DAYS, (*spliced_signs.PARTS, *spliced_signs.SPANS, "Time"), spliced_signs.PLACES, WORDS[15:]]
    slot = {word: number for number, words in enumerate(slots) for word in words}
    assert len(WORDS) == len(set(WORDS)) == 29 and set(slot) == set(WORDS)
    for line in lines:
        order = [slot[word] for word in line]
        assert order == sorted(order) and order[-1] == 3 and len(set(line)) == len(line)
    counts = [sum(word in line for line in lines) for word in WORDS]
    assert min(counts) > 60


def test_different_signs_say_different_things(rng):
    """Else a system that reads perfectly could not know what is meant."""
    lines = {tuple(draw_signs(rng)) for _ in range(4000)}
    assert len({english(list(line)) for line in lines}) == len(lines)


def test_sentences_that_are_held_out_stand_in_no_other_split():
    found = sentences_of("48-50", SIZES["tiny"], seed=1)
    texts = {split: [english(line) for line in lines] for split, lines in found.items()}
    assert {split: len(lines) for split, lines in texts.items()} == SIZES["tiny"]
    assert not set(texts["train"]) & {*texts["test"], *texts["validation"]}
    assert len({*texts["test"], *texts["validation"]}) == len(texts["test"]) + len(texts["validation"])
    assert found == sentences_of("48-50", SIZES["tiny"], seed=1) != sentences_of("86-92", SIZES["tiny"], seed=1)


@pytest.mark.parametrize("fold", FOLDS)
def test_no_session_is_trained_on_and_tested(fold):
    takes = takes_by_split(invented_lines(), fold)
    sessions = {split: {int(take["session"]) for some in words.values() for take in some} for split, words in takes.items()}
    assert sessions["test"] <= set(FOLDS[fold]) and not sessions["test"] & (sessions["train"] | sessions["validation"])
    assert all(set(words) == set(WORDS) for words in takes.values())


def test_validation_has_takes_of_its_own_where_a_group_has_three():
    takes = takes_by_split(invented_lines(), "48-50")
    assert [take["path"] for take in takes["validation"]["War"]] == ["data/War/War_87_2.npy"]
    assert "data/War/War_87_2.npy" not in [take["path"] for take in takes["train"]["War"]]


def test_the_signs_of_a_sentence_come_from_one_group_of_sessions(rng):
    takes = takes_by_split(invented_lines(), "48-50")["train"]
    groups = [{group_of(take) for take in draw_takes(["Yesterday", "Kitchen", "Pen"], takes, rng)} for _ in range(40)]
    assert all(len(group) == 1 for group in groups) and len({min(group) for group in groups}) == 3


def test_a_sign_lasts_from_the_first_raised_hand_to_the_last_and_skips_lost_ends():
    index, keypoints, confidence = point_index("uniglor73"), random_signing(1).repeat(40, axis=0), np.ones((40, 73))
    for side in ("left", "right"):
        keypoints[:, index[f"{side}_wrist"], 1] = 1.7
    keypoints[10:30, index["right_wrist"], 1] = 0.1
    assert sign_span(keypoints, confidence) == (10, 29)
    confidence[10:13, index["right_hand_thumb_1"]] = 0  # the hand is lost on its way up
    assert sign_span(keypoints, confidence) == (13, 29)
    confidence[13:28, index["right_hand_thumb_1"]] = 0  # far longer: then the wrist alone says it
    assert sign_span(keypoints, confidence) == (10, 29)


def test_unknown_words_folds_and_scales_are_refused(tmp_path):
    (tmp_path / "labels.csv").write_text("path,label,session\nBook/1.npy,Book,43\n")
    with pytest.raises(ValueError, match="has no clips of Afternoon, Attack"):
        read_takes(tmp_path)
    with pytest.raises(ValueError, match="found fold '1' and scale 'small', expected one of 48-50, 86-92"):
        build(tmp_path, tmp_path, "1")


@real
def test_rows_are_canonical_name_their_takes_and_join_without_jumps():
    found = [check_row(row) for row in rows(INCLUDE, "86-92", "test", FEW)]
    known = {spliced_signs.stem(line): line for line in read_takes(INCLUDE)}
    for row in found:
        assert row["language"] == LANGUAGE and row["text"].endswith(" .")
        takes = [known[name] for name in takes_of(row["id"])]
        assert [take["label"].upper() for take in takes] == row["gloss"].split()
        assert all(86 <= int(take["session"]) <= 92 for take in takes)
        points, seen = row["keypoints"] / SHOULDER_PIXELS, row["confidence"] > 0
        steps = np.linalg.norm(np.diff(points[:, :8], axis=0), axis=-1)[(seen[1:] & seen[:-1])[:, :8]]
        assert np.percentile(steps, 99) < 0.35  # a fast hand; takes laid end to end without a way between have more
        assert 30 < len(points) < 400
    again = list(rows(INCLUDE, "86-92", "test", FEW))
    np.testing.assert_array_equal(again[0]["keypoints"], found[0]["keypoints"])


@real
def test_bodies_have_one_size_and_stand_in_one_place():
    index = point_index("uniglor73")
    shoulders, necks = [], []
    for row in rows(INCLUDE, "48-50", "train", FEW):
        points, seen = row["keypoints"], row["confidence"] > 0
        whole = seen[:, [index["left_shoulder"], index["right_shoulder"], index["neck"]]].all(1)
        shoulders.append(np.linalg.norm(points[whole, index["left_shoulder"]] - points[whole, index["right_shoulder"]], axis=-1))
        necks.append(points[whole, index["neck"]])
    assert np.abs(np.concatenate(shoulders) / SHOULDER_PIXELS - 1).max() < 0.35
    assert np.abs(np.concatenate(necks) - NECK_PIXELS).max() < 0.35 * SHOULDER_PIXELS


@real
def test_a_fold_is_built_once_and_read_back(tmp_path, monkeypatch):
    monkeypatch.setitem(SIZES, "tiny", FEW)
    folder = build(INCLUDE, tmp_path, "48-50", "tiny")
    table = datasets.load_dataset(str(folder))
    assert {split: len(some) for split, some in table.items()} == FEW
    assert re.fullmatch(r"48-50/test/00000/MVI_\d+(\+MVI_\d+)*", table["test"][0]["id"])
    monkeypatch.setattr(spliced_signs, "write_rows", None)  # nothing left to build
    assert build(INCLUDE, tmp_path, "48-50", "tiny") == folder
