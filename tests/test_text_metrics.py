"""Text scores by hand, against sacrebleu's, jiwer's and rouge_score's own numbers, and against naive re-scoring."""

import json
import math
import sys
from pathlib import Path

import jiwer
import numpy as np
import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from tests.conftest import REAL_DATA
from train.metrics.text import (
    FAMILIES,
    bootstrap_interval,
    compare_files,
    paired_test,
    resample,
    rouge_l,
    text_scores,
)
from train.metrics.text_floors import (
    best_constant_sentence,
    constant_sentence_floor,
    nearest_clip,
    random_sentence_floor,
    retrieval_floor,
    scores_by_seen,
    share_verbatim,
)

REFERENCES = [
    "und nun die wettervorhersage für morgen donnerstag .",
    "im Norden weht der Wind schwach bis mäßig .",
    "am tag scheint die sonne .",
    "in der nacht fällt im süden etwas regen oder schnee .",
    "guten abend liebe zuschauer .",
    "auch am samstag bleibt es meist trocken .",
]
PREDICTIONS = [
    "und nun die wettervorhersage für morgen freitag .",
    "im norden weht der wind mäßig bis frisch .",
    "am tag scheint im süden die sonne .",
    "heute nacht regen oder schnee .",
    "guten abend liebe zuschauer .",
    "und nun die wettervorhersage .",
]

# few words, so that sentences share n-grams and repeat words
SENTENCES = st.lists(st.sampled_from(["a", "b", "c", "D", "ä", "."]), max_size=8).map(" ".join)
PAIRS = st.lists(st.tuples(SENTENCES, SENTENCES), min_size=1, max_size=6)


def scores_alone(found):
    return {name: found[name] for name in found["signatures"]}


def test_bleu_of_one_wrong_word_is_as_by_hand():
    found = text_scores(["a b c d e"], ["a b c d f"])
    precisions = [4 / 5, 3 / 4, 2 / 3, 1 / 2]
    for order in (1, 2, 3, 4):
        assert found[f"bleu{order}"] == pytest.approx(100 * math.prod(precisions[:order]) ** (1 / order))
    assert found["wer"] == pytest.approx(100 / 5)
    assert found["cer"] == pytest.approx(100 / 9)  # spaces are characters


def test_bleu_pays_for_brevity():
    assert text_scores(["a b c d"], ["a b c d e f"])["bleu4"] == pytest.approx(100 * math.exp(1 - 6 / 4))


def test_bleu_of_the_headline_is_not_smoothed():
    found = text_scores(["a b x c"], ["a b y c"])
    assert found["bleu2"] > 0 and found["bleu3"] == 0 and found["bleu3_13a"] > 0


def test_rouge_weighs_recall_with_beta_1_2():
    precision, recall = 1, 1 / 2  # a b c of a b c d e f
    expected = (1 + 1.44) * precision * recall / (recall + 1.44 * precision)
    assert text_scores(["a b c"], ["a b c d e f"])["rouge_l"] == pytest.approx(100 * expected)
    assert expected == pytest.approx(0.628866, abs=1e-6)


def test_rouge_is_a_mean_over_sentences():
    assert text_scores(["a b", "x y z u v w"], ["a b", "a b c d e f"], families=["rouge_l"])["rouge_l"] == pytest.approx(50)


def test_equal_sentences_score_100_and_make_no_errors():
    found = text_scores(REFERENCES, REFERENCES, families=tuple(FAMILIES))
    errors = {name: found.pop(name) for name in ("wer", "cer")}
    assert errors == {"wer": 0, "cer": 0}
    found["signatures"] = {name: text for name, text in found["signatures"].items() if name not in errors}
    assert len(scores_alone(found)) == 6 * 4 + 3 + 2
    assert all(value == pytest.approx(100) for value in scores_alone(found).values())


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_bleu_equals_sacrebleu(order):
    def theirs(predictions=PREDICTIONS, references=REFERENCES, **arguments):
        return sacrebleu.BLEU(max_ngram_order=order, **arguments).corpus_score(predictions, [references]).score

    found = text_scores(PREDICTIONS, REFERENCES, families=tuple(FAMILIES))
    plain = dict(tokenize="none", smooth_method="floor", smooth_value=0)
    assert found[f"bleu{order}"] == pytest.approx(theirs([s.lower() for s in PREDICTIONS], [s.lower() for s in REFERENCES], **plain))
    assert found[f"bleu{order}_13a"] == pytest.approx(theirs())
    assert found[f"bleu{order}_13a_lowercased"] == pytest.approx(theirs(lowercase=True))
    assert found[f"bleu{order}_zh"] == pytest.approx(theirs(tokenize="zh"))
    without = [[sentence.replace(".", "") for sentence in side] for side in (PREDICTIONS, REFERENCES)]
    assert found[f"bleu{order}_glofe"] == pytest.approx(theirs(*without, lowercase=True, tokenize="none", smooth_method="none"))
    spelt = [[" ".join(sentence.lower().replace(" ", "")) for sentence in side] for side in (PREDICTIONS, REFERENCES)]
    assert found[f"bleu{order}_char"] == pytest.approx(theirs(*spelt, **plain))


def test_case_counts_only_in_cased_scores():
    lower = [reference.lower() for reference in REFERENCES]
    found = text_scores(lower, REFERENCES)
    assert found["bleu4"] == pytest.approx(100) and found["bleu4_13a_lowercased"] == pytest.approx(100)
    assert found["bleu4_13a"] < 99 and found["chrf"] < 100


def test_chrf_equals_sacrebleu():
    found = text_scores(PREDICTIONS, REFERENCES)
    assert found["chrf"] == pytest.approx(sacrebleu.corpus_chrf(PREDICTIONS, [REFERENCES]).score)
    assert found["chrf++"] == pytest.approx(sacrebleu.corpus_chrf(PREDICTIONS, [REFERENCES], word_order=2).score)


def test_error_rates_equal_jiwer():
    lower = [[sentence.lower() for sentence in side] for side in (REFERENCES, PREDICTIONS)]
    found = text_scores(PREDICTIONS, REFERENCES)
    assert found["wer"] == pytest.approx(100 * jiwer.wer(*lower)) and found["cer"] == pytest.approx(100 * jiwer.cer(*lower))


def test_rouge_of_the_package_equals_the_package():
    scorer = RougeScorer(["rougeL"])
    values = [scorer.score(reference, prediction)["rougeL"].fmeasure for prediction, reference in zip(PREDICTIONS, REFERENCES)]
    assert text_scores(PREDICTIONS, REFERENCES)["rouge_l_package"] == pytest.approx(100 * np.mean(values))


def test_character_scores_do_not_need_spaces():
    found = text_scores(["今天天气很好"], ["今天天氣很好"], families=("char", "rouge_l_char"))
    assert found["bleu1_char"] == pytest.approx(100 * 5 / 6) and found["rouge_l_char"] == pytest.approx(100 * 5 / 6)


@settings(deadline=None)
@given(st.lists(st.sampled_from("abc"), max_size=9), st.lists(st.sampled_from("abc"), max_size=9))
def test_the_common_subsequence_is_that_of_the_plain_table(a, b):
    table = np.zeros((len(a) + 1, len(b) + 1), dtype=int)
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            table[i + 1, j + 1] = table[i, j] + 1 if x == y else max(table[i, j + 1], table[i + 1, j])
    expected = 2 * table[-1, -1] / (len(a) + len(b)) if a and b else 0  # F1
    assert rouge_l(a, b, beta=1) == pytest.approx(expected)


@settings(deadline=None, max_examples=50)
@given(PAIRS)
def test_scores_stay_between_0_and_100(pairs):
    found = scores_alone(text_scores(*zip(*pairs), families=tuple(FAMILIES)))
    errors = [found.pop("wer"), found.pop("cer")]
    assert all(-1e-9 <= value <= 100 + 1e-9 for value in found.values()) and min(errors) >= 0


@settings(deadline=None, max_examples=50)
@given(PAIRS, st.randoms(use_true_random=False))
def test_the_order_of_sentences_does_not_matter(pairs, random):
    shuffled = random.sample(pairs, len(pairs))
    assert scores_alone(text_scores(*zip(*shuffled))) == pytest.approx(scores_alone(text_scores(*zip(*pairs))))


def test_extra_spaces_do_not_matter():
    spaced = [f"  {prediction.replace(' ', '  ')}\n" for prediction in PREDICTIONS]
    assert text_scores(spaced, REFERENCES) == text_scores(PREDICTIONS, REFERENCES)


@pytest.mark.parametrize("final_dot, apart, together", [("keep", 50, 0), ("strip", 0, 0), ("add", 50, 50)])
def test_the_final_dot_is_kept_stripped_or_added_on_both_sides(final_dot, apart, together):
    def bleu1(prediction, reference):
        return text_scores([prediction], [reference], final_dot, families=["slt"])["bleu1"]

    assert bleu1("x .", "y .") == pytest.approx(apart)
    assert bleu1("x", "y.") == pytest.approx(together)


def test_an_ellipsis_is_no_full_stop_and_no_dot_is_added_to_silence():
    assert text_scores(["..."], ["..."], "strip", families=["slt"])["bleu1"] == pytest.approx(100)
    assert text_scores([""], ["x"], "add", families=["slt"])["bleu1"] == 0


def test_missing_and_empty_predictions_score_as_empty_sentences_and_are_counted():
    predictions = [None, "", "   ", *PREDICTIONS[3:]]
    found = text_scores(predictions, REFERENCES)
    assert found["num_empty"] == 3 and found["num_scored"] == 6
    assert scores_alone(found) == scores_alone(text_scores(["", "", "", *PREDICTIONS[3:]], REFERENCES))
    assert found["rouge_l"] == pytest.approx(text_scores(PREDICTIONS[3:], REFERENCES[3:])["rouge_l"] / 2)
    assert found["bleu1"] < text_scores(PREDICTIONS[3:], REFERENCES[3:])["bleu1"]


def test_a_system_that_says_nothing_scores_zero():
    found = text_scores([None] * 6, REFERENCES)
    assert found["bleu1"] == found["rouge_l"] == found["chrf"] == 0 and found["wer"] == found["cer"] == 100


def test_every_score_has_a_signature_that_says_what_made_it():
    found = text_scores(PREDICTIONS, REFERENCES, "strip", max_new_tokens=30)
    assert found["signatures"].keys() == found.keys() - {"signatures", "num_scored", "num_empty"}
    made = f"order:4|nrefs:1|case:lc|eff:no|tok:none|smooth:floor[0.00]|version:{sacrebleu.__version__}"
    assert found["signatures"]["bleu4"] == f"{made}|final_dot:strip|max_new_tokens:30|scored:6"
    for signature in found["signatures"].values():
        assert signature.endswith("|final_dot:strip|max_new_tokens:30|scored:6") and "case:" in signature
    assert len(set(found["signatures"].values())) == len(found["signatures"])


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((["a"], ["a", "b"]), "1 predictions for 2 references"),
        (("a", ["a"]), "predictions is one string"),
        (([], []), "no sentences"),
        (([7], ["a"]), "prediction 0 is int"),
        ((["a"], [None]), "reference 0 is NoneType"),
        ((["a"], ["a"], "drop"), "must be keep, strip or add"),
        ((["a"], ["a"], "keep", ["bleu5"]), "give some of slt"),
    ],
)
def test_bad_input_is_refused_with_the_way_out(arguments, message):
    with pytest.raises(ValueError, match=message):
        text_scores(*arguments)


def test_bleurt_without_its_package_says_what_to_install():
    with pytest.raises(ImportError, match="pip install"):
        text_scores(["a"], ["a"], families=["slt"], bleurt_checkpoint="BLEURT-20")


@pytest.mark.parametrize(
    "metric, family", [("bleu4_13a", "13a"), ("bleu2", "slt"), ("rouge_l", "rouge_l"), ("chrf++", "chrf++"), ("cer", "error_rates")]
)
def test_the_bootstrap_equals_scoring_each_resample_anew(metric, family):
    found = bootstrap_interval(PREDICTIONS, REFERENCES, metric, num_samples=40, seed=3)
    naive = [
        text_scores([PREDICTIONS[i] for i in drawn], [REFERENCES[i] for i in drawn], families=[family])[metric]
        for drawn in resample(6, 40, 3)
    ]
    assert [found["low"], found["high"]] == pytest.approx(np.percentile(naive, [2.5, 97.5]).tolist())
    assert found["score"] == pytest.approx(text_scores(PREDICTIONS, REFERENCES)[metric])
    assert found["low"] < found["score"] < found["high"] and found["signature"].endswith("|scored:6|bs:40|seed:3")


def test_every_score_can_be_resampled():
    found = text_scores(PREDICTIONS, REFERENCES, families=tuple(FAMILIES))
    for metric in found["signatures"]:
        assert bootstrap_interval(PREDICTIONS, REFERENCES, metric, num_samples=5)["score"] == pytest.approx(found[metric])


@pytest.mark.parametrize("metric", ["bleu5", "bleu4_zz", "bleurt", "num_scored"])
def test_what_cannot_be_resampled_is_refused(metric):
    with pytest.raises(ValueError, match="no score that can be resampled"):
        bootstrap_interval(PREDICTIONS, REFERENCES, metric)


def test_equal_systems_do_not_differ():
    found = paired_test(PREDICTIONS, PREDICTIONS, REFERENCES)
    assert (found["delta"], found["low"], found["high"], found["p_value"]) == (0, 0, 0, 1)


def test_the_paired_bootstrap_scores_both_systems_on_the_same_draws():
    found = paired_test(PREDICTIONS, REFERENCES, REFERENCES, "wer", num_samples=40, seed=3)
    b_minus_a = [-text_scores([PREDICTIONS[i] for i in drawn], [REFERENCES[i] for i in drawn])["wer"] for drawn in resample(6, 40, 3)]
    assert [found["low"], found["high"]] == pytest.approx(np.percentile(b_minus_a, [2.5, 97.5]).tolist())
    assert found["a"] > 0 and found["b"] == 0 and found["delta"] == pytest.approx(-found["a"])


def test_the_p_value_is_that_of_all_exchanges():
    """Of 64 exchanges of six sentences only none and all make a difference as large, but for the one sentence that is equal."""
    found = paired_test(PREDICTIONS, REFERENCES, REFERENCES, "wer", num_samples=20000)
    assert found["p_value"] == pytest.approx(4 / 64, abs=0.006)


def test_a_system_that_is_better_everywhere_is_found_better(rng):
    references = [" ".join(rng.choice(list("abcdefgh"), 8)) for _ in range(60)]
    worse = [" ".join(rng.permutation(reference.split())) for reference in references]
    better = [reference[:-1] + "x" for reference in references]
    found = paired_test(worse, better, references, num_samples=200)
    assert found["low"] > 0 and found["p_value"] == pytest.approx(1 / 201)


@settings(deadline=None, max_examples=60)
@given(st.lists(SENTENCES.filter(str.strip), min_size=1, max_size=7), st.sampled_from(["keep", "strip", "add"]))
def test_the_constant_sentence_is_the_one_that_trying_all_finds(train_texts, final_dot):
    def score(text):
        found = text_scores([text] * len(train_texts), train_texts, final_dot, families=["slt"])
        return [found[f"bleu{order}"] for order in (4, 3, 2, 1)]

    best = max(train_texts, key=score)
    assert score(best_constant_sentence(train_texts, final_dot)) == score(best)


def test_the_constant_floor_says_its_sentence_and_its_scores():
    found = constant_sentence_floor(["a b c d", "a b c e", "a b c d", "x"], ["a b c d", "y"])
    assert found["sentence"] == "a b c d"
    assert scores_alone(found) == scores_alone(text_scores(["a b c d"] * 2, ["a b c d", "y"]))


def test_the_random_floor_is_the_mean_over_seeds():
    found = random_sentence_floor(PREDICTIONS, REFERENCES, seeds=(0, 1), families=["slt"])
    runs = [random_sentence_floor(PREDICTIONS, REFERENCES, seeds=(seed,), families=["slt"])["bleu1"] for seed in (0, 1)]
    assert runs[0] != runs[1]
    assert found["bleu1"] == pytest.approx(np.mean(runs)) and found["std"]["bleu1"] == pytest.approx(np.std(runs, ddof=1))
    assert found["signatures"]["bleu1"].endswith("|scored:6|seeds:0,1")


def test_retrieval_gives_the_sentence_of_the_nearest_clip(rng):
    train_latents = rng.normal(size=(6, 4))
    order = [3, 0, 5, 1, 2, 4]
    latents = train_latents[order] + rng.normal(0, 1e-3, (6, 4))
    references = [REFERENCES[index] for index in order]
    assert retrieval_floor(train_latents, REFERENCES, latents, references)["bleu4"] == pytest.approx(100)


def test_nearest_is_measured_on_standardised_latents():
    """In plain distance the wide first dimension alone would decide, and choose clip 1."""
    train_latents = np.array([[0, 0], [1000, 1], [2000, 0], [3000, 1]])
    assert nearest_clip(train_latents, [[600, 0]], batch_size=1).tolist() == [0]


def test_nearest_equals_a_plain_loop(rng):
    train_latents, latents = rng.normal(size=(30, 5)) * [1, 2, 3, 4, 0] + 7, rng.normal(size=(11, 5)) * [1, 2, 3, 4, 0] + 7
    std = train_latents.std(0)
    std[4] = 1
    expected = [min(range(30), key=lambda m: np.linalg.norm((row - train_latents[m]) / std)) for row in latents]
    assert nearest_clip(train_latents, latents, batch_size=4).tolist() == expected


def test_latents_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="one vector for each clip"):
        nearest_clip(np.zeros((3, 4)), np.zeros((3, 5)))
    with pytest.raises(ValueError, match="train_latents of 3 clips are not finite"):
        nearest_clip(np.full((3, 4), np.nan), np.zeros((3, 4)))
    with pytest.raises(ValueError, match="2 training texts for 3 training latents"):
        retrieval_floor(np.zeros((3, 4)), ["a", "b"], np.zeros((1, 4)), ["a"])


def test_floors_need_training_texts():
    with pytest.raises(ValueError, match="no training texts"):
        random_sentence_floor([], REFERENCES)
    with pytest.raises(ValueError, match="training text 1 is NoneType"):
        best_constant_sentence(["a", None])


def test_verbatim_sentences_are_counted_whatever_their_case_and_dot():
    assert share_verbatim(["Guten abend", "guten  abend .", "abend", None, ""], ["guten abend ."]) == pytest.approx(40)


def test_scores_are_split_by_what_training_saw():
    found = scores_by_seen(PREDICTIONS, REFERENCES, [REFERENCES[0], REFERENCES[4]])
    assert found["seen"] == text_scores([PREDICTIONS[i] for i in (0, 4)], [REFERENCES[i] for i in (0, 4)])
    assert found["unseen"]["num_scored"] == 4
    assert scores_by_seen(PREDICTIONS, REFERENCES, ["nie gesagt"])["seen"] == {"num_scored": 0}


def write_predictions(path, predictions, references=REFERENCES, names="abcdef"):
    rows = [
        {"id": name, "prediction": prediction, "reference": reference}
        for name, prediction, reference in zip(names, predictions, references)
    ]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def test_files_are_compared_by_id_in_any_order(tmp_path):
    a = write_predictions(tmp_path / "a.jsonl", [None, *PREDICTIONS[1:]])
    b = write_predictions(tmp_path / "b.jsonl", PREDICTIONS[::-1], REFERENCES[::-1], "fedcba")
    found = compare_files(a, b)
    assert found["a"]["num_empty"] == 1 and found["b"] == text_scores(PREDICTIONS, REFERENCES)
    assert found["paired"] == paired_test([None, *PREDICTIONS[1:]], PREDICTIONS, REFERENCES)


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(names="abcdeg"), r"a.jsonl lacks 1 \(g\), .*b.jsonl lacks 1 \(f\)"),
        (dict(names="abcdee"), "line 6: the id 'e' stands there twice"),
        (dict(references=[*REFERENCES[:5], "anders"]), r"different references for 1 ids \(f\)"),
    ],
    ids=["missing", "twice", "reference"],
)
def test_files_of_different_clips_are_refused(tmp_path, change, message):
    a = write_predictions(tmp_path / "a.jsonl", PREDICTIONS)
    b = write_predictions(tmp_path / "b.jsonl", PREDICTIONS, **change)
    with pytest.raises(ValueError, match=message):
        compare_files(a, b)


@pytest.mark.parametrize("line, message", [("{", "line 1 is no JSON"), ('{"id": 1, "prediction": "x"}', "line 1 has no reference")])
def test_a_broken_line_is_named(tmp_path, line, message):
    (tmp_path / "a.jsonl").write_text(line)
    with pytest.raises(ValueError, match=message):
        compare_files(tmp_path / "a.jsonl", tmp_path / "a.jsonl")


@pytest.fixture(scope="module")
def load_metric(tmp_path_factory):
    """`evaluate.load` from the repository's root, with a cache of its own: one for all, since it is imported as a package."""
    evaluate = pytest.importorskip("evaluate")
    folder = tmp_path_factory.mktemp("evaluate")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(Path(__file__).parents[1])
        patch.setattr(evaluate.config, "HF_MODULES_CACHE", folder)
        patch.setattr(sys, "path", [*sys.path])  # evaluate adds that folder to it
        yield lambda name: evaluate.load(f"train/metrics/{name}", cache_dir=str(folder))


@pytest.mark.parametrize(
    "name, arguments, families",
    [
        ("sign_bleu", {}, ["slt"]),
        ("sign_bleu", {"variant": "13a"}, ["13a"]),
        ("sign_rouge", {}, ["rouge_l", "rouge_l_package"]),
        ("sign_error_rate", {}, ["error_rates"]),
    ],
)
def test_evaluate_loads_the_metrics_offline_from_the_checkout(name, arguments, families, load_metric):
    predictions = ["", *PREDICTIONS[1:]]
    found = load_metric(name).compute(predictions=predictions, references=REFERENCES, final_dot="strip", **arguments)
    assert found == text_scores(predictions, REFERENCES, "strip", families)


def test_one_sentence_for_all_reaches_four_bleu_on_real_weather_reports():
    """The floor that some published rows lie below, on PHOENIX14T's dev split."""
    pandas = pytest.importorskip("pandas")
    folder = REAL_DATA.parent / "phoenix14t_annotations"
    if not folder.is_dir():
        pytest.skip(f"no {folder}; set UNIGLOR_DATA")
    train, dev = (pandas.read_parquet(folder / f"{split}.parquet")["text"].tolist() for split in ("train", "dev"))
    found = constant_sentence_floor(train, dev, families=["slt", "rouge_l"])
    assert [round(found[name], 2) for name in ("bleu1", "bleu2", "bleu3", "bleu4", "rouge_l")] == [16.44, 6.80, 4.82, 3.91, 18.63]


def test_second_references_are_sacrebleus_and_say_so():
    predictions = ["a b c d e", "f g h i", "x y z w"]
    first, second = ["a b c d f", "f g h j", "x y z w"], ["a b c x e", None, "q r s t u"]
    scores = text_scores(predictions, first, second_references=second)
    alone = text_scores(predictions, first)
    expected = sacrebleu.metrics.BLEU().corpus_score(predictions, [first, second])
    assert scores["bleu4_13a"] == pytest.approx(expected.score) and scores["bleu4_13a"] > alone["bleu4_13a"]
    assert scores["chrf"] == pytest.approx(sacrebleu.metrics.CHRF().corpus_score(predictions, [first, second]).score)
    assert "nrefs:var" in scores["signatures"]["bleu4"] and "nrefs:1" in alone["signatures"]["bleu4"]
    assert all(scores[name] == alone[name] for name in ("wer", "cer", "rouge_l"))
    assert "nrefs:2" in text_scores(predictions, first, second_references=first)["signatures"]["chrf"]


def test_equal_second_references_change_nothing():
    predictions, references = ["a b c d e", "f g h"], ["a b c d f .", "f g j ."]
    for policy in ("keep", "strip", "add"):
        twice = text_scores(predictions, references, policy, second_references=references)
        once = text_scores(predictions, references, policy)
        assert {name: twice[name] for name in once if name != "signatures"} == {name: once[name] for name in once if name != "signatures"}


@pytest.mark.parametrize("second, message", [(["a"], "found 1 second references for 2 sentences"), (["a", 3], "of which number 1 is no")])
def test_second_references_that_do_not_fit_are_refused(second, message):
    with pytest.raises(ValueError, match=message):
        text_scores(["a", "b"], ["a", "b"], second_references=second)
