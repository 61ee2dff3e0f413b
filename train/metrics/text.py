"""Scores of sentences against references: sign-to-text, and generated signs that a judge reads back.

On the same predictions BLEU-4 differs by two points from scorer to scorer, so every number stands beside a signature that
says what made it. All scores are in per cent.

Every score here is a function of counts that add up over sentences. Sentences are counted once; the bootstrap and the paired test
only add the counts up anew.

Shapes: N sentences, S counts of a sentence, R resamples.
"""

import json
import re
from functools import partial
from importlib.metadata import version
from typing import NamedTuple

import numpy as np

try:
    import jiwer
    from rapidfuzz.distance import LCSseq
    from sacrebleu.metrics import BLEU, CHRF
except ImportError as error:
    raise ImportError("text scores need `pip install sacrebleu jiwer rouge-score rapidfuzz`") from error

ORDERS = (1, 2, 3, 4)
ROUGE_BETA = 1.2  # as in the scorer of image captioning, which sign-to-text took over: recall weighs more than precision

# Options of sacrebleu. `floor` with the value 0 means no smoothing; this is how Joint-SLT's scorer writes it.
BLEU_VARIANTS = {
    "slt": dict(tokenize="none", lowercase=True, smooth_method="floor", smooth_value=0),  # Joint-SLT and its successors
    "13a": dict(tokenize="13a"),  # sacrebleu's default: Uni-Sign, SSVP-SLT
    "13a_lowercased": dict(tokenize="13a", lowercase=True),
    "glofe": dict(tokenize="none", lowercase=True, smooth_method="none"),  # with every "." deleted
    "char": dict(tokenize="char", lowercase=True, smooth_method="floor", smooth_value=0),  # CSL-Daily
    "zh": dict(tokenize="zh"),
}


class Statistics(NamedTuple):
    """What a family of scores counts in every sentence, and how the scores are computed from the counts."""

    counts: np.ndarray  # (N, S), added up over sentences
    scores: dict  # name of a score -> function of the added counts (S,)
    signatures: dict  # name of a score -> what made it


def text_scores(
    predictions, references, final_dot="keep", families=None, max_new_tokens=None, bleurt_checkpoint=None, second_references=None
):
    """Scores predicted sentences against one reference each.

    Args:
        predictions: N strings; None or an empty string scores as an empty sentence and is counted in `num_empty`.
        references: N strings.
        final_dot: what happens to a sentence's final full stop, on both sides: `keep`, `strip`, or `add` (every sentence that
            is not empty ends in " ."). PHOENIX14T's final " ." token alone is worth 5 points of BLEU-1.
        families: names in `FAMILIES`; by default `DEFAULT_FAMILIES`, which leaves out those by character (`char`, `zh`, `rouge_l_char`).
        max_new_tokens: the cap of decoding, for the signature.
        bleurt_checkpoint: folder of a BLEURT checkpoint; without it there is no `bleurt`.
        second_references: N strings, None where a sentence has none, such as those published for PHOENIX14T's test set. BLEU and chrF take
            them beside the first, as sacrebleu does, and say `nrefs` in their signatures; all other scores go by `references` alone.
            With them scores are higher, and compare only with scores that have them.

    Returns:
        A flat dict: `bleu1` .. `bleu4` (cumulative) and `rouge_l` as Joint-SLT scores, the headline; the same with a suffix for the
        other variants (`bleu4_13a`, `rouge_l_package`, ...); `chrf`, `chrf++`, `wer`, `cer`, all in per cent; `num_scored`,
        `num_empty`; and `signatures`, a dict with a signature for each score.

    Raises:
        ValueError: no sentences, numbers that differ, something that is no string, an unknown policy or family.
    """
    families = DEFAULT_FAMILIES if families is None else families
    if unknown := [family for family in families if family not in FAMILIES]:
        raise ValueError(f"families {unknown} are unknown; give some of {', '.join(FAMILIES)}")
    predictions, references, num_empty = _sentences(predictions, references, final_dot)
    more = None if second_references is None else _second_references(second_references, len(references), final_dot)
    scores, signatures = {}, {}
    for family in families:
        options = {"more": more} if more is not None and family in SEVERAL_REFERENCES else {}
        statistics = FAMILIES[family](predictions, references, **options)
        sums = statistics.counts.sum(0)
        scores |= {name: score(sums) for name, score in statistics.scores.items()}
        signatures |= statistics.signatures
    if bleurt_checkpoint is not None:
        scores["bleurt"] = _bleurt(predictions, references, bleurt_checkpoint)
        signatures["bleurt"] = f"bleurt|mean:sentences|case:mixed|checkpoint:{bleurt_checkpoint}"
    signatures = {name: _sign(signature, len(references), final_dot, max_new_tokens) for name, signature in signatures.items()}
    return {**scores, "num_scored": len(references), "num_empty": num_empty, "signatures": signatures}


def bootstrap_interval(predictions, references, metric="bleu4", num_samples=1000, seed=0, final_dot="keep"):
    """The 95 % interval of a corpus score over sentences drawn with replacement.

    Args:
        predictions, references, final_dot: as for `text_scores`.
        metric: a score of `text_scores`, for example `bleu4`, `bleu1_13a`, `rouge_l`, `wer`.
        num_samples: how often N sentences are drawn.
        seed: the draw depends on it and on N alone, see `resample`.

    Returns:
        A dict with `score`, `low`, `high` in per cent, and its `signature`.
    """
    score, drawn, signature = drawn_scores(predictions, references, metric, num_samples, seed, final_dot)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return {"score": score, "low": float(low), "high": float(high), "signature": signature}


def drawn_scores(predictions, references, metric="bleu4", num_samples=1000, seed=0, final_dot="keep", times=None):
    """A corpus score, what it is on sentences that are drawn with replacement, and its signature: float, (R,), str.

    Two systems are scored on the same draws, so that theirs can be subtracted, and averaged over seeds.

    Args:
        predictions, references, metric, num_samples, seed, final_dot: as for `bootstrap_interval`.
        times: (R, N), how often each draw holds each sentence, where something else than sentences is drawn.
    """
    predictions, references, _ = _sentences(predictions, references, final_dot)
    counts, score, signature = _statistics_of(metric, predictions, references)
    drawn = _rescore(score, (_times_drawn(len(references), num_samples, seed) if times is None else times) @ counts)
    signature = f"{_sign(signature, len(references), final_dot)}|bs:{len(drawn)}" + (f"|seed:{seed}" if times is None else "")
    return score(counts.sum(0)), drawn, signature


def paired_test(predictions_a, predictions_b, references, metric="bleu4", num_samples=1000, seed=0, final_dot="keep"):
    """Whether b scores otherwise than a on the same sentences, beyond what the choice of sentences explains.

    The interval is a paired bootstrap: both systems are scored on the same draws. The p value is two-sided approximate
    randomisation (Riezler and Maxwell 2005): how often exchanging the systems' outputs, sentence by sentence at random, makes
    a difference at least as large. sacrebleu's own paired tests ask for a strictly larger one, and so give equal systems
    p = 1 / (num_samples + 1); here that is 1.

    Args:
        predictions_a, predictions_b, references, final_dot: as for `text_scores`.
        metric, num_samples, seed: as for `bootstrap_interval`.

    Returns:
        A dict with `a`, `b`, `delta` = b - a, its interval `low`, `high`, `p_value`, `metric` and `signature`.
    """
    predictions_a, cleaned, _ = _sentences(predictions_a, references, final_dot)
    predictions_b, _, _ = _sentences(predictions_b, references, final_dot)
    counts_a, score, signature = _statistics_of(metric, predictions_a, cleaned)
    counts_b, _, _ = _statistics_of(metric, predictions_b, cleaned)
    sums_a, sums_b = counts_a.sum(0), counts_b.sum(0)
    delta = score(sums_b) - score(sums_a)

    times = _times_drawn(len(cleaned), num_samples, seed)
    low, high = np.percentile(_rescore(score, times @ counts_b) - _rescore(score, times @ counts_a), [2.5, 97.5])

    exchanged = np.random.default_rng(seed).integers(2, size=(num_samples, len(cleaned))) @ (counts_b - counts_a)  # (R, S)
    deltas = _rescore(score, sums_b - exchanged) - _rescore(score, sums_a + exchanged)
    as_large = int((np.abs(deltas) >= abs(delta) - 1e-9).sum())  # a mean of fractions can come out a rounding error smaller
    return {
        "metric": metric,
        "a": score(sums_a),
        "b": score(sums_b),
        "delta": delta,
        "low": float(low),
        "high": float(high),
        "p_value": (as_large + 1) / (num_samples + 1),
        "signature": f"{_sign(signature, len(cleaned), final_dot)}|bs:{num_samples}|ar:{num_samples}|seed:{seed}",
    }


def compare_files(path_a, path_b, final_dot="keep", metric="bleu4", num_samples=1000, seed=0):
    """Scores two files of predictions on the same clips, and tests the difference.

    Args:
        path_a, path_b: JSON lines with `id`, `prediction` (null: none) and `reference`, in any order.
        final_dot, metric, num_samples, seed: as for `paired_test`.

    Returns:
        A dict with the `text_scores` of `a` and of `b`, and `paired`, the `paired_test`.

    Raises:
        ValueError: the files hold different ids or, for an id, different references; an id stands twice; a key is missing.
    """
    rows_a, rows_b = read_pair(path_a, path_b)
    references = [row["reference"] for row in rows_a.values()]
    a, b = ([row["prediction"] for row in rows.values()] for rows in (rows_a, rows_b))
    return {
        "a": text_scores(a, references, final_dot),
        "b": text_scores(b, references, final_dot),
        "paired": paired_test(a, b, references, metric, num_samples, seed, final_dot),
    }


def resample(num_sentences, num_samples, seed):
    """Which sentences each resample holds: (R, N) indices."""
    return np.random.default_rng(seed).integers(num_sentences, size=(num_samples, num_sentences))


def clean(sentence, final_dot):
    """One space between tokens, and the policy for the final full stop.

    An ellipsis is no full stop. An empty sentence stays empty, also with `add`.
    """
    if final_dot not in ("keep", "strip", "add"):
        raise ValueError(f"final_dot={final_dot!r} must be keep, strip or add")
    sentence = " ".join(sentence.split())
    if final_dot == "keep" or not sentence:
        return sentence
    stripped = re.sub(r" ?(?<!\.)\.$", "", sentence)
    return stripped if final_dot == "strip" else f"{stripped} .".lstrip()


def rouge_l(prediction, reference, beta=ROUGE_BETA):
    """The F score of the longest common subsequence of two lists of tokens: 0 to 1."""
    common = LCSseq.similarity(prediction, reference)
    if common == 0:
        return 0.0
    precision, recall = common / len(prediction), common / len(reference)
    return (1 + beta**2) * precision * recall / (recall + beta**2 * precision)


def bleu_of_counts(counts, order, metric):
    """Cumulative BLEU: the brevity penalty times the geometric mean of the first `order` precisions.

    Args:
        counts: hypothesis length, reference length, matches of orders 1 to 4, n-grams of orders 1 to 4, as sacrebleu adds them up.
        order: 1 to 4.
        metric: a sacrebleu `BLEU`; its smoothing holds.
    """
    hypothesis_length, reference_length, *rest = (int(count) for count in counts)
    matches, totals = rest[:order], rest[4 : 4 + order]
    return metric.compute_bleu(
        matches, totals, hypothesis_length, reference_length, metric.smooth_method, metric.smooth_value, max_ngram_order=order
    ).score


def _bleu(predictions, references, variant, more=None):
    sides = [predictions, references, *([] if more is None else [more])]
    if variant == "glofe":
        sides = [[sentence and sentence.replace(".", "") for sentence in side] for side in sides]
    metric = BLEU(**BLEU_VARIANTS[variant], force=True)  # force: no warning that text is tokenised already
    counts = np.array(metric._extract_corpus_statistics(sides[0], sides[1:]), dtype=np.float64)  # lengths, matches, totals
    suffix = "" if variant == "slt" else f"_{variant}"
    dots = "|dots:deleted" if variant == "glofe" else ""
    return Statistics(
        counts,
        {f"bleu{order}{suffix}": partial(bleu_of_counts, order=order, metric=metric) for order in ORDERS},
        {f"bleu{order}{suffix}": f"order:{order}|{metric.get_signature()}{dots}" for order in ORDERS},
    )


def _chrf(predictions, references, name, word_order, more=None):
    metric = CHRF(word_order=word_order)
    sides = [references, *([] if more is None else [more])]
    counts = np.array(metric._extract_corpus_statistics(predictions, sides), dtype=np.float64)
    return Statistics(counts, {name: lambda sums: float(metric._compute_score_from_stats(sums).score)}, {name: str(metric.get_signature())})


def _rouge(predictions, references, by="word"):
    """The captioning form, on `split(" ")` of the lower-cased, space-joined sentence, or on its characters."""
    tokens = [[list(s.replace(" ", "")) if by == "char" else s.split(" ") for s in _lower(side)] for side in (predictions, references)]
    name = "rouge_l_char" if by == "char" else "rouge_l"
    return _mean_of(name, [rouge_l(*pair) for pair in zip(*tokens)], f"lcs-f|beta:{ROUGE_BETA}|mean:sentences|case:lc|tok:{by}")


def _rouge_package(predictions, references):
    """As the package scores by default, F1; its tokens are runs of a-z and 0-9, so an umlaut splits a German word."""
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError as error:
        raise ImportError("rouge_l_package needs `pip install rouge-score`") from error
    scorer = RougeScorer(["rougeL"])
    values = [scorer.score(reference, prediction)["rougeL"].fmeasure for prediction, reference in zip(predictions, references)]
    signature = f"rougeL|f1|mean:sentences|case:lc|tok:a-z0-9|stem:no|rouge_score:{version('rouge-score')}"
    return _mean_of("rouge_l_package", values, signature)


def _mean_of(name, values, signature):
    """A score that is the mean over sentences of values in 0..1."""
    counts = np.column_stack([values, np.ones(len(values))])
    return Statistics(counts, {name: lambda sums: float(100 * sums[0] / sums[1])}, {name: signature})


def _error_rates(predictions, references):
    """Edits of all sentences / words, or characters with spaces, of all references: unlike a mean of rates, short sentences weigh less."""
    predictions, references = _lower(predictions), _lower(references)
    counts, scores, signatures = [], {}, {}
    for index, (name, process) in enumerate((("wer", jiwer.process_words), ("cer", jiwer.process_characters))):
        output = process(references, predictions)
        counts += [[_num_edits(chunks) for chunks in output.alignments], [len(tokens) for tokens in output.references]]
        scores[name] = partial(_error_rate, edits=2 * index)
        signatures[name] = f"{name}|edits/length of all|case:lc|jiwer:{version('jiwer')}"
    return Statistics(np.array(counts, dtype=np.float64).T, scores, signatures)


def _error_rate(sums, edits):
    return float(100 * sums[edits] / max(sums[edits + 1], 1))


def _num_edits(chunks):
    return sum(
        max(chunk.ref_end_idx - chunk.ref_start_idx, chunk.hyp_end_idx - chunk.hyp_start_idx) for chunk in chunks if chunk.type != "equal"
    )


def _bleurt(predictions, references, checkpoint):
    try:
        from bleurt.score import BleurtScorer
    except ImportError as error:
        raise ImportError(
            "BLEURT needs `pip install git+https://github.com/google-research/bleurt` and a checkpoint, for example BLEURT-20"
        ) from error
    return float(100 * np.mean(BleurtScorer(str(checkpoint)).score(references=references, candidates=predictions)))


FAMILIES = {variant: partial(_bleu, variant=variant) for variant in BLEU_VARIANTS} | {
    "rouge_l": _rouge,
    "rouge_l_char": partial(_rouge, by="char"),
    "rouge_l_package": _rouge_package,
    "chrf": partial(_chrf, name="chrf", word_order=0),
    "chrf++": partial(_chrf, name="chrf++", word_order=2),
    "error_rates": _error_rates,
}
SEVERAL_REFERENCES = (*BLEU_VARIANTS, "chrf", "chrf++")
DEFAULT_FAMILIES = tuple(family for family in FAMILIES if family not in ("char", "zh", "rouge_l_char"))


def _statistics_of(metric, predictions, references):
    """The counts, the function and the signature of one score."""
    family = metric
    if metric.startswith("bleu"):
        family = metric[len("bleu4_") :] or "slt"
    elif metric in ("wer", "cer"):
        family = "error_rates"
    statistics = FAMILIES[family](predictions, references) if family in FAMILIES else None
    if statistics is None or metric not in statistics.scores:
        raise ValueError(f"{metric!r} is no score that can be resampled; give one of text_scores', for example bleu4, bleu4_13a or wer")
    return statistics.counts, statistics.scores[metric], statistics.signatures[metric]


def _times_drawn(num_sentences, num_samples, seed):
    """How often each resample holds each sentence: (R, N)."""
    return np.stack([np.bincount(row, minlength=num_sentences) for row in resample(num_sentences, num_samples, seed)]).astype(np.float64)


def _rescore(score, sums):
    """(R, S) -> (R,)"""
    return np.array([score(row) for row in sums])


def _sentences(predictions, references, final_dot):
    """Both sides as they are scored, and how many predictions are empty."""
    for name, side in (("predictions", predictions), ("references", references)):
        if isinstance(side, str):
            raise ValueError(f"{name} is one string, {side[:40]!r}; give a list of sentences")
    predictions, references = list(predictions), list(references)
    if len(predictions) != len(references):
        raise ValueError(
            f"{len(predictions)} predictions for {len(references)} references; give one prediction each, None where the system has none"
        )
    if not references:
        raise ValueError("there are no sentences to score; give at least one prediction and its reference")
    predictions = ["" if prediction is None else prediction for prediction in predictions]
    for name, side in (("prediction", predictions), ("reference", references)):
        for index, sentence in enumerate(side):
            if not isinstance(sentence, str):
                raise ValueError(
                    f"{name} {index} is {type(sentence).__name__}, not a string; decode token ids, and drop rows without a text"
                )
    num_empty = sum(not prediction.split() for prediction in predictions)
    predictions, references = ([clean(sentence, final_dot) for sentence in side] for side in (predictions, references))
    return predictions, references, num_empty


def _second_references(sentences, count, final_dot):
    """As they are scored; None where a sentence has no second reference."""
    sentences = list(sentences)
    wrong = [index for index, sentence in enumerate(sentences) if not (sentence is None or isinstance(sentence, str))]
    if len(sentences) != count or wrong:
        raise ValueError(
            f"found {len(sentences)} second references for {count} sentences"
            + (f", of which number {wrong[0]} is no string" if wrong else "")
            + "; give a string for each sentence, None where it has none"
        )
    return [sentence if sentence is None else clean(sentence, final_dot) for sentence in sentences]


def _lower(sentences):
    return [sentence.lower() for sentence in sentences]


def _sign(signature, num_scored, final_dot, max_new_tokens=None):
    cap = "" if max_new_tokens is None else f"|max_new_tokens:{max_new_tokens}"
    return f"{signature}|final_dot:{final_dot}{cap}|scored:{num_scored}"


def _some(names):
    names = sorted(map(str, names))
    return ", ".join(names[:5] + ["..."] * (len(names) > 5))


def read_pair(path_a, path_b):
    """Two files of predictions on the same clips, {id: row} each, in one order; raises as `compare_files`."""
    rows_a, rows_b = _read_predictions(path_a), _read_predictions(path_b)
    if rows_a.keys() != rows_b.keys():
        missing = {path_a: rows_b.keys() - rows_a.keys(), path_b: rows_a.keys() - rows_b.keys()}
        lacks = ", ".join(f"{path} lacks {len(names)} ({_some(names)})" for path, names in missing.items() if names)
        raise ValueError(f"the files hold different ids: {lacks}; predict both on the same clips")
    differ = [name for name in rows_a if rows_a[name]["reference"] != rows_b[name]["reference"]]
    if differ:
        raise ValueError(
            f"{path_a} and {path_b} have different references for {len(differ)} ids ({_some(differ)}); score both against the same ones"
        )
    return rows_a, {name: rows_b[name] for name in rows_a}


def _read_predictions(path):
    """JSON lines -> {id: row}, in the file's order."""
    rows = {}
    with open(path, encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"{path}, line {number} is no JSON ({error}); write one object a line") from error
            lacking = {"id", "prediction", "reference"} - row.keys()
            if lacking:
                raise ValueError(f"{path}, line {number} has no {', '.join(sorted(lacking))}; each line needs id, prediction and reference")
            if row["id"] in rows:
                raise ValueError(f"{path}, line {number}: the id {row['id']!r} stands there twice; give one prediction for each id")
            rows[row["id"]] = row
    return rows
