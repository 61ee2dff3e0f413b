"""What `make demo` shows: words that people know and no model saw, and readers that are ordered only where the words tell them apart."""

from datasets_scripts.fingerspelling import build, split_letters, split_of_word
from train.demo import KNOWN, KNOWN_WORDS, SHOWN, compare_readers


def test_the_words_that_people_know_are_in_no_training_and_spelled_by_the_whole_alphabet():
    """A word's split is its own letters' alone, so none of these is in training, whatever is generated."""
    assert len(set(KNOWN_WORDS)) == len(KNOWN_WORDS) == 50 > SHOWN
    assert {split_of_word(word) for word in KNOWN_WORDS} == {"test"}
    letters = {letter for word in KNOWN_WORDS for letter in split_letters(word, "ase")}
    assert letters == set("abcdefghijklmnopqrstuvwxyz")
    assert max(map(len, KNOWN_WORDS)) <= 8  # as the words of training


def test_they_are_one_split_of_a_corpus(tmp_path):
    spec = {name: value for name, value in KNOWN.items() if name != "path"}
    corpus = build(**spec | {"words": KNOWN_WORDS[:3]}, cache_dir=tmp_path)
    assert list(corpus) == ["test"] and corpus["test"]["text"] == KNOWN_WORDS[:3]


def test_readers_that_differ_by_chance_are_not_ordered(capsys):
    """In four runs segments read at 0.46 to 1.09 % character errors and frames at 0.46 to 0.91, and the demo printed them as if ordered."""
    texts = KNOWN_WORDS[:20]
    one_wrong = [texts[0][:-1] + "x", *texts[1:]]
    read = {"cer": one_wrong, "cer_frames": texts, "cer_untrained_signmae": ["q" * len(text) for text in texts]}
    differences = compare_readers(read, texts)
    printed = capsys.readouterr().out.splitlines()
    assert differences["cer_minus_cer_frames"]["low"] <= 0 <= differences["cer_minus_cer_frames"]["high"]
    assert printed[0].startswith("cer, segments minus frames: +") and printed[0].endswith("not ordered, the interval covers 0.")
    assert printed[1].endswith("segments is better.") and differences["cer_minus_cer_untrained_signmae"]["delta"] < -90
