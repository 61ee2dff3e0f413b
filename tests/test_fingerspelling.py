"""The fingerspelling corpus: letters of real recordings, words joined from them, canonical rows."""

import builtins
import csv
import hashlib
import importlib.util
import os
import subprocess
import sys
import unicodedata
from collections import Counter
from pathlib import Path

import datasets
import numpy as np
import pytest

from benchmarks import fingerspelling as benchmark
from datasets_scripts import fingerspelling
from datasets_scripts.fingerspelling import (
    LANGUAGES,
    SPLITS,
    Augmentation,
    alphabet,
    build,
    generate_words,
    letter_clip,
    main,
    rows,
    spell,
    split_letters,
    split_of_word,
)
from datasets_scripts.schema import FEATURES, check_row, features
from modeling_unigloR import KeypointProcessor
from modeling_unigloR.keypoints_uniglor import copy_pairs, get_layout, point_index

if importlib.util.find_spec("spoken_to_signed") is None:  # its import takes seconds, so it is only looked for
    pytest.skip("needs pip install spoken-to-signed pose-format", allow_module_level=True)
pytest.importorskip("pose_format")

INDEX, PARTS = point_index("uniglor73"), get_layout("uniglor73").parts


def hand_speed(keypoints, confidence):
    """Mean step (pixels) of the points of a hand that two frames in a row show, by the faster hand; nan where neither does."""
    steps = []
    for hand in (PARTS["left_hand"], PARTS["right_hand"]):
        both = (confidence[1:, hand] > 0) & (confidence[:-1, hand] > 0)
        step = np.linalg.norm(np.diff(keypoints[:, hand], axis=0), axis=-1)
        steps.append(np.where(both.any(1), (step * both).sum(1) / np.maximum(both.sum(1), 1), -1))
    return np.max(steps, axis=0)


# --- Letters ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_letter_of_every_language_is_read(language):
    letters = alphabet(language)
    assert 24 <= len(letters) <= 44
    for letter in letters:
        keypoints, confidence = letter_clip(letter, language)
        assert keypoints.shape == (len(confidence), 73, 2) and keypoints.dtype == confidence.dtype == np.float32
        assert 6 <= len(keypoints) <= 45
        present = confidence > 0
        assert np.isfinite(keypoints).all() and (keypoints[~present] == 0).all()
        assert present[:, PARTS["face"]].mean() > 0.95
        assert max(present[:, PARTS[f"{side}_hand"]].mean() for side in ("left", "right")) > 0.5
        shoulders = keypoints[:, INDEX["left_shoulder"]] - keypoints[:, INDEX["right_shoulder"]]
        assert np.median(shoulders[:, 0]) == pytest.approx(128, rel=0.05)  # one size, and the right shoulder at the smaller x
        copies, originals = copy_pairs("uniglor73")
        np.testing.assert_array_equal(keypoints[:, copies], keypoints[:, originals])


def test_languages_are_those_of_the_installed_lexicon():
    with open(fingerspelling._lexicon_dir() / "index.csv", encoding="utf-8", newline="") as file:
        assert {row["signed_language"]: row["spoken_language"] for row in csv.DictReader(file)} == LANGUAGES


def test_each_hand_is_nearest_to_its_own_wrist_and_within_a_palm_of_it():
    for language in LANGUAGES:
        for letter, clip in alphabet(language).items():
            keypoints, confidence = clip.keypoints, clip.confidence
            for side in ("left", "right"):
                root, wrist = INDEX[f"{side}_hand_root"], INDEX[f"{side}_wrist"]
                seen = (confidence[:, root] > 0) & (confidence[:, wrist] > 0.2)  # MediaPipe guesses wrists that it does not see
                if seen.sum() > 3:
                    distance = np.median(np.linalg.norm(keypoints[seen, root] - keypoints[seen, wrist], axis=-1))
                    assert distance < 0.4, (language, letter, side)


def test_the_italian_signer_is_left_handed_and_the_american_right_handed():
    assert letter_clip("a", "ise")[1][:, PARTS["left_hand"]].any() and not letter_clip("a", "ise")[1][:, PARTS["right_hand"]][:, :21].any()
    assert letter_clip("a", "ase")[1][:, PARTS["right_hand"]].any() and not letter_clip("a", "ase")[1][:, PARTS["left_hand"]][:, :21].any()


def test_letters_that_move_keep_their_movement_and_letters_that_are_held_are_short():
    """J and Z are drawn into the air; the first version cut them to the hold that follows."""
    for language, letter in (("ase", "j"), ("ase", "z"), ("svk", "j"), ("bzs", "z"), ("swl", "å")):
        tips = alphabet(language)[letter].keypoints[:, PARTS["right_hand"]][:, [4, 8, 20]]  # thumb, index finger, little finger
        assert np.linalg.norm(np.diff(tips, axis=0), axis=-1).sum(0).max() > 0.5, (language, letter)
    lengths = [len(clip.keypoints) for language in LANGUAGES for clip in alphabet(language).values()]
    assert np.median(lengths) == 7 and min(lengths) == 6 and max(lengths) < 30


def test_a_recording_of_several_letters_ends_with_its_own():
    """Greek Ο and Φ are one recording of the alphabet's end, 258 and 105 frames long: all but the first letter is cut."""
    for letter in "οφ":
        assert len(letter_clip(letter, "gss")[0]) < 12


# --- Texts ------------------------------------------------------------------------------------------------------------------------


def test_the_longest_letter_matches_first():
    assert split_letters("schach", "sgg") == ["sch", "a", "ch"]
    assert split_letters("schach", "gsg") == ["s", "c", "h", "a", "c", "h"]
    assert split_letters("LLAMAR", "ssp") == ["ll", "a", "m", "a", "r"]
    assert split_letters("Džep", "csq") == ["dž", "e", "p"]
    assert split_letters("الا", "jos") == ["ال", "ا"]


def test_texts_are_composed_and_lower_case_by_the_languages_own_rules():
    assert split_letters(unicodedata.normalize("NFD", "Ä"), "sgg") == ["ä"]
    assert split_letters("ẞ", "asq") == split_letters("ß", "asq") == ["ß"]
    assert split_letters("IİıiŞ", "tsm") == ["ı", "i", "ı", "i", "ş"]
    assert split_letters("ΣΟΦΟΣ", "gss") == split_letters("σοφος", "gss") == ["σ", "ο", "φ", "ο", "σ"]
    for language in LANGUAGES:
        assert all(split_letters(letter.upper(), language) for letter in alphabet(language) if len(letter) == 1 and letter != "ß")


def test_an_unknown_character_is_named():
    with pytest.raises(ValueError, match="'1' of 'Route1' in the alphabet of 'ase'.*a b c d"):
        split_letters("Route1", "ase")
    with pytest.raises(ValueError, match="empty"):
        spell("", "ase")
    with pytest.raises(ValueError, match="'xyz'.*ase"):
        spell("a", "xyz")
    with pytest.raises(ValueError, match="'ch' of 'ase'"):
        letter_clip("ch", "ase")


@pytest.mark.parametrize("language", ["ase", "ise", "sgg", "csq", "jos"])
def test_generated_words_split_into_the_letters_they_were_dealt(language):
    words = generate_words(300, language, seed=1, min_letters=2, max_letters=6)
    assert len(set(words)) == 300
    split = [split_letters(word, language) for word in words]
    assert {len(letters) for letters in split} == {2, 3, 4, 5, 6}
    counts = Counter(letter for letters in split for letter in letters)
    assert set(counts) == set(alphabet(language))
    assert max(counts.values()) <= 1.6 * min(counts.values())
    assert words[:50] == generate_words(50, language, seed=1, min_letters=2, max_letters=6)
    assert words[:50] != generate_words(50, language, seed=2, min_letters=2, max_letters=6)


def test_more_words_than_there_are_is_an_error_that_counts():
    with pytest.raises(ValueError, match="only 26 of num_words=27"):
        generate_words(27, "ase", min_letters=1, max_letters=1)


def test_a_word_has_one_split_whatever_the_seed_and_the_language():
    share = Counter(split_of_word(word) for word in generate_words(2000, "ase"))
    assert share["train"] == pytest.approx(1600, abs=80) and share["validation"] == pytest.approx(200, abs=60)
    assert split_of_word("Hello") == split_of_word("hello")
    found = {split: set() for split in SPLITS}
    for language in ("ase", "gsg"):
        for seed in (0, 1):
            for split in SPLITS:
                found[split] |= set(generate_words(60, language, seed, 2, 3, split=split))
    assert not found["train"] & found["validation"] and not found["train"] & found["test"] and not found["validation"] & found["test"]


# --- Words ------------------------------------------------------------------------------------------------------------------------


def test_joins_move_no_faster_than_letters_do():
    """Bodies of different recordings on one neck, and transitions that take their time: no step of a word stands out."""
    for language in LANGUAGES:
        fastest = max(hand_speed(clip.keypoints * 128, clip.confidence).max() for clip in alphabet(language).values())
        if language == "gss":
            fastest = 20  # pixels; recorded at a quarter of the frames, its letters hold still for as long as they last
        for word in generate_words(20, language, seed=3):
            keypoints, confidence = spell(word, language)
            assert hand_speed(keypoints, confidence).max() < 1.01 * fastest, (language, word)
            body = [INDEX[name] for name in ("nose", "neck", "right_shoulder", "left_shoulder")]
            assert np.linalg.norm(np.diff(keypoints[:, body], axis=0), axis=-1).max() < 0.1 * 128, (language, word)


def test_words_take_about_as_many_frames_as_fingerspelling_does():
    for language in LANGUAGES:
        words = generate_words(40, language)
        frames = sum(len(spell(word, language)[0]) for word in words) / sum(len(split_letters(word, language)) for word in words)
        assert 10 <= frames <= 16, language


def test_a_hand_that_only_one_letter_shows_is_unseen_in_between():
    keypoints, confidence = spell("džep", "csq")  # dž and p take two hands, e one
    seen = confidence[:, INDEX["left_hand_root"]] > 0
    changes = np.flatnonzero(np.diff(seen.astype(int)))
    assert seen[0] and seen[-1] and len(changes) == 2
    gap = slice(changes[0] + 1, changes[1] + 1)
    letter = len(alphabet("csq")["e"].keypoints)
    assert letter + 8 <= gap.stop - gap.start <= letter + 20  # the letter and the two transitions beside it
    assert (keypoints[gap, PARTS["left_hand"]][:, :21] == 0).all()


def test_the_last_letter_is_held():
    keypoints, _ = spell("hi", "ase")
    assert hand_speed(keypoints, np.ones(keypoints.shape[:2]))[-4:].max() < 2


def test_spelling_does_not_change_the_letters():
    before = spell("hello", "ase")[0]
    keypoints, confidence = spell("hello", "ase", Augmentation(), np.random.default_rng(0))
    keypoints += 1000
    confidence += 1
    letter_clip("h", "ase")[0][:] = 0
    np.testing.assert_array_equal(spell("hello", "ase")[0], before)


def test_two_processes_spell_alike():
    code = (
        "import hashlib; from datasets_scripts.fingerspelling import *\n"
        "from tests.seeds import TEST_SEED, shift_seeds\n"
        "shift_seeds(TEST_SEED)\n"
        "digest = hashlib.sha256()\n"
        "for row in rows(['ase', 'ise'], 'train', 5, seed=7, augmentation=Augmentation()):\n"
        "    digest.update(row['id'].encode() + row['keypoints'].tobytes() + row['confidence'].tobytes())\n"
        "print(digest.hexdigest())"
    )
    environment = os.environ | {"PYTHONHASHSEED": "5"}
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[1], env=environment, check=True
    )  # fmt: skip
    digest = hashlib.sha256()
    for row in rows(["ase", "ise"], "train", 5, seed=7, augmentation=Augmentation()):
        digest.update(row["id"].encode() + row["keypoints"].tobytes() + row["confidence"].tobytes())
    assert result.stdout.strip() == digest.hexdigest()


# --- Augmentation -----------------------------------------------------------------------------------------------------------------


def augmented(seed=0, word="hello", language="ase", **fields):
    return spell(word, language, Augmentation.off(**fields), np.random.default_rng(seed))


def same(keypoints, others):
    return keypoints.shape == others.shape and np.allclose(keypoints, others, atol=1e-3)


def test_augmentation_that_is_off_changes_nothing():
    plain, plain_confidence = spell("hello", "ase")
    keypoints, confidence = augmented()
    np.testing.assert_allclose(keypoints, plain, atol=1e-3)
    np.testing.assert_allclose(confidence, plain_confidence, atol=1e-6)


@pytest.mark.parametrize("field", [name for name, value in vars(Augmentation.off()).items() if value != vars(Augmentation())[name]])
def test_each_augmentation_changes_something_and_keeps_bodies_together(field):
    value = {"mirror": 1.0, "dropped_hands": 1.0}.get(field, getattr(Augmentation(), field))
    keypoints, confidence = augmented(**{field: value})
    plain, _ = spell("hello", "ase")
    drawn = [keypoints, *(augmented(seed, **{field: value})[0] for seed in range(1, 6))]  # one draw may come near to no change
    assert not all(same(some, plain) for some in drawn)
    assert np.isfinite(keypoints).all()
    copies, originals = copy_pairs("uniglor73")
    np.testing.assert_array_equal(keypoints[:, copies], keypoints[:, originals])
    np.testing.assert_array_equal(confidence[:, copies], confidence[:, originals])
    side = "left" if field == "mirror" else "right"
    root, wrist = INDEX[f"{side}_hand_root"], INDEX[f"{side}_wrist"]
    seen = (confidence[:, root] > 0) & (confidence[:, wrist] > 0)
    assert np.median(np.linalg.norm(keypoints[seen, root] - keypoints[seen, wrist], axis=-1)) < 0.4 * 128  # the arm still has its hand
    repeated, _ = augmented(**{field: value})
    np.testing.assert_array_equal(repeated, keypoints)
    if field not in ("mirror", "dropped_hands"):  # which draw nothing but whether to; may lose the same frames
        assert not all(same(some, keypoints) for some in drawn[1:])


def test_dropped_points_have_confidence_zero():
    _, plain = spell("hello", "ase")
    keypoints, confidence = augmented(dropped_points=0.2)
    dropped = (plain > 0) & (confidence == 0)
    assert dropped[plain > 0].mean() == pytest.approx(0.2, abs=0.03)
    assert (keypoints[confidence == 0] == 0).all()


def test_a_mirrored_word_is_signed_by_the_other_hand():
    keypoints, confidence = augmented(mirror=1.0)
    plain, plain_confidence = spell("hello", "ase")
    np.testing.assert_array_equal(confidence[:, PARTS["left_hand"]], plain_confidence[:, PARTS["right_hand"]])
    assert np.median(keypoints[:, INDEX["right_shoulder"], 0]) < np.median(keypoints[:, INDEX["left_shoulder"], 0])
    np.testing.assert_allclose(keypoints[:, INDEX["left_wrist"], 0], 512 - plain[:, INDEX["right_wrist"], 0], atol=1e-3)


def test_augmentation_says_what_it_expects():
    with pytest.raises(ValueError, match="speed=.*range"):
        Augmentation(speed=(1.2, 0.8))
    with pytest.raises(ValueError, match="mirror=2"):
        Augmentation(mirror=2)
    with pytest.raises(ValueError, match="rng"):
        spell("a", "ase", Augmentation())
    assert Augmentation(speed=[0.5, 2]).speed == (0.5, 2)


# --- Rows -------------------------------------------------------------------------------------------------------------------------


def test_rows_are_canonical_and_the_processor_takes_them():
    found = list(rows(["gsg", "ise"], "validation", 4, seed=2, augmentation=Augmentation()))
    assert len(found) == 8 and len({row["id"] for row in found}) == 8
    for row in found:
        assert check_row(row) is row
        assert row["id"] == f"{row['language']}/word/{row['text']}/2" and split_of_word(row["text"]) == "validation"
        clip = KeypointProcessor().process_row(row)
        assert clip.keypoints.shape[1:] == (73, 2) and not clip.hands_swapped
        assert len(clip.keypoints) == len(row["keypoints"])  # nothing looks like a noisy frame


def test_letters_alone_are_real_frames_and_at_least_a_window_where_the_recording_is():
    found = list(rows("svk", unit="letter"))
    assert len(found) == 44 and found[0]["id"] == "svk/letter/a/0"
    assert min(len(row["keypoints"]) for row in found) >= 15
    varied = list(rows("svk", unit="letter", augmentation=Augmentation()))
    assert [row["text"] for row in varied] == [row["text"] for row in found]


def test_given_words_are_split_as_generated_ones_are():
    words = ["Hello", "world", "keypoints", "sign", "language", "window", "latent", "hello", "zebra", "quick", "juggle"]
    found = {split: [row["text"] for row in rows("ase", split, words=words)] for split in SPLITS}
    assert sorted(sum(found.values(), [])) == sorted({word.lower() for word in words})
    assert all(split_of_word(word) == split for split, texts in found.items() for word in texts)
    assert [row["text"] for row in rows(["ase", "tsm"], words={"ase": ["quiz"], "tsm": ["ışık"]})] == ["quiz", "ışık"]
    with pytest.raises(ValueError, match="num_words nor words"):
        next(rows("ase"))


def test_languages_that_share_clips_cannot_be_on_both_sides():
    with pytest.raises(ValueError, match="'fsl' and language 'ase' share 26"):
        fingerspelling.check_held_out(["gsg", "ase"], ["fsl"])
    with pytest.raises(ValueError, match="'gsg' and language 'gsg'"):
        fingerspelling.check_held_out(["gsg"], ["gsg"])
    fingerspelling.check_held_out(["ase", "fsl"], [language for language in LANGUAGES if language not in ("ase", "fsl")])


def test_a_data_set_has_disjoint_splits_and_holds_languages_out(tmp_path):
    corpus = build(["ase", "gsg"], 16, cache_dir=str(tmp_path), held_out_languages=["ise"], augmentation={"mirror": 0.5})
    assert {split: len(split_rows) for split, split_rows in corpus.items()} == {"train": 32, "validation": 4, "test": 4, "held_out": 2}
    texts = {split: set(split_rows["text"]) for split, split_rows in corpus.items()}
    assert not texts["train"] & (texts["validation"] | texts["test"] | texts["held_out"]) and not texts["validation"] & texts["test"]
    assert set(corpus["held_out"]["language"]) == {"ise"} and corpus["train"].features == FEATURES
    letters = build("ase", cache_dir=str(tmp_path), unit="letter", held_out_languages="ise")
    assert {split: len(split_rows) for split, split_rows in letters.items()} == {"train": 26, "held_out": 40}
    assert list(build("ase", cache_dir=str(tmp_path), words=["hello"])) == [split_of_word("hello")]
    with pytest.raises(ValueError, match="share 26"):
        build("ase", 4, cache_dir=str(tmp_path), held_out_languages="fsl")


def test_the_command_writes_parquet_that_datasets_reads_back(tmp_path, capsys):
    arguments = [
        "--output_dir",
        str(tmp_path / "out"),
        "--languages",
        "ase",
        "--num_words",
        "8",
        "--held_out_languages",
        "ise",
        "--seed",
        "3",
    ]
    main(arguments)
    main(arguments)
    assert "train-00000-of-00001.parquet: 8 rows" in capsys.readouterr().out
    corpus = datasets.load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    assert set(corpus) == {"train", "validation", "test", "held_out"} and corpus["train"].features == FEATURES
    expected = list(rows("ase", "train", 8, seed=3))
    for row, original in zip(corpus["train"].with_format("numpy"), expected):
        assert row["id"] == original["id"] and row["fps"] == 25 and row["width"] == 512 and row["gloss"] is None
        np.testing.assert_array_equal(row["keypoints"], original["keypoints"])
        np.testing.assert_array_equal(row["confidence"], original["confidence"])
    assert not list((tmp_path / "out").rglob("*.unfinished"))
    with pytest.raises(ValueError, match="held_out-00000.*another corpus"):
        main(arguments[:6])


def test_check_row_names_the_row_what_it_found_and_what_it_expected():
    row = next(rows("ase", words=["hi"]))
    wrong = [
        ({"keypoints": row["keypoints"][:, :70]}, r"'ase/word/hi/0': found keypoints of shape .*, 70, 2\), expected .*73"),
        ({"keypoints": row["keypoints"][:0]}, "found keypoints of shape"),
        ({"confidence": row["confidence"][1:]}, "found confidence of shape"),
        ({"confidence": row["confidence"] - 2}, "found a confidence that is negative"),
        ({"keypoints": row["keypoints"] * np.nan}, "not finite"),
        ({"fps": 0.0}, "found fps=0.0, expected a number above 0"),
        ({"width": 12.5}, "found width=12.5, expected an int"),
        ({"language": "en"}, "expected an ISO 639-3 code"),
        ({"text": 3}, "found text=3"),
        ({"label": "a"}, "found label='a'"),
        ({"id": ""}, "expected a string that is not empty"),
        ({"layout": "unknown"}, "Unknown keypoint layout 'unknown'"),
        ({"extra": 1}, "found columns"),
    ]
    for change, message in wrong:
        with pytest.raises(ValueError, match=message):
            check_row(row | change)
    assert features(543, 3)["keypoints"].shape == (None, 543, 3)


def test_without_the_optional_packages_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install (spoken-to-signed )?pose-format"):
        fingerspelling._lexicon_dir()
    monkeypatch.undo()
    real_import = builtins.__import__

    def without_pose_format(name, *rest):
        if name == "pose_format":
            raise ImportError(name)
        return real_import(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_pose_format)
    with pytest.raises(ImportError, match=r"pip install (spoken-to-signed )?pose-format"):
        fingerspelling._read_letter.__wrapped__("any")


def test_spelling_is_at_least_fifty_times_faster_than_the_package_itself():
    result = benchmark.run(words=("hi",), num_rounds=3)  # the median: a pause of the process counts in one
    assert result["ratio"] > 50
