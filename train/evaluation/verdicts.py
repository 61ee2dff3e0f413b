"""Verdicts in words on scores beside their floors, for what a training prints, for evaluations and for model cards.

A floor knows nothing of what a model is to learn. A model that scores worse than a floor is of no use, however good its score looks. Where
a floor is drawn at random, or the interval of the score is known, a difference that chance explains does not count as one.
"""

import math
from numbers import Real

LOWER_IS_BETTER = {"loss", "wer", "cer", "error", "mpjpe", "dtw", "mse", "bias", "frechet"}  # words of names
NEAR_1_IS_BETTER = {"ratio", "jump", "speed", "motion", "variance", "path", "extent", "hold", "seams"}  # generated / real
NEITHER = {"seam", "elsewhere", "diversity"}  # in names of numbers that are shown, but not judged
SPREADS = 2  # differences of up to so many standard deviations of a random floor are taken for chance
LITTLE_MOTION = 0.5

FLOOR_NAMES = {  # of a SignMAE's report
    "mean_pose": "the mean pose",
    "static": "a static pose for each segment",
    "nearest_segment": "the nearest training segment",
}
BLIND_JUDGES = "Judges cannot read real signing: their scores mean nothing"
BLIND_JUDGE = "this judge cannot read real signing, and its scores mean nothing"


# --- Comparing -----------------------------------------------------------------------------------------------------------------


def lower_is_better(name: str) -> bool:
    """Whether a score is an error: `cer`, `mpjpe_hands`, `gloss_wer`, `length_error`."""
    return not LOWER_IS_BETTER.isdisjoint(name.split("_"))


def directions(names: list[str]) -> str:
    """Says which way scores are better, as in: Higher is better: bleu4, chrf. Lower is better: wer, cer. Best is 1: speed_ratio."""
    names = [name for name in names if NEITHER.isdisjoint(name.split("_"))]
    lower = [name for name in names if lower_is_better(name)]
    near = [name for name in names if name not in lower and not NEAR_1_IS_BETTER.isdisjoint(name.split("_"))]
    higher = [name for name in names if name not in near and name not in lower]
    groups = {"Higher is better": higher, "Lower is better": lower, "Best is 1": near}
    return " ".join(f"{how}: {', '.join(group)}." for how, group in groups.items() if group)


def compare(score: float, floor: float, lower: bool, interval: tuple | None = None, spread: float = 0.0) -> str | None:
    """How a score compares with a floor: "better", "worse", or "equal" where chance explains the difference; None without two numbers.

    Args:
        lower: whether lower is better.
        interval: (low, high) of the score.
        spread: standard deviation of the floor.
    """
    if not (is_number(score) and is_number(floor)):
        return None
    low, high = interval if interval is not None and all(map(is_number, interval)) else (score, score)
    margin = SPREADS * spread if is_number(spread) else 0.0
    if low - margin <= floor <= high + margin:
        return "equal"
    return "better" if (score < floor) == lower else "worse"


def verdict(name: str, score: float, floors: dict, interval: tuple | None = None, useless: str = "not usable") -> list[str]:
    """Sentences on one score beside its floors.

    Args:
        name: of the score.
        floors: {name in words: (value, standard deviation)}.
        interval: (low, high) of the score.
        useless: words that are added where a floor is better.
    """
    if not is_number(score):
        return [f"{name} is no number: nothing can be said of it."]
    subject = f"{name} {_digits(score)}"
    if interval is not None and all(map(is_number, interval)):
        subject += f" (95 % interval {_digits(interval[0])} to {_digits(interval[1])})"
    floors = {floor: pair for floor, pair in floors.items() if is_number(pair[0])}
    if not floors:
        return [f"{subject}: no floor was scored, so what it is worth is open."]
    lower = lower_is_better(name)
    floors_by_result = {"worse": [], "equal": [], "better": []}
    for floor, (value, spread) in sorted(floors.items(), key=lambda item: item[1][0], reverse=not lower):  # the strongest first
        floors_by_result[compare(score, value, lower, interval, spread)].append(f"{floor} ({_digits(value)})")
    sentences = []
    if floors_by_result["worse"]:
        sentences.append(f"{subject} is worse than {_listed(floors_by_result['worse'])}: {useless}.")
    if floors_by_result["equal"]:
        sentences.append(
            f"{subject} is not distinguishable from {_listed(floors_by_result['equal'])}" + (f": {useless}." if not sentences else ".")
        )
    if not sentences:
        sentences.append(
            f"{subject} is better than {floors_by_result['better'][0]}, the strongest of {len(floors)} floor{'s' * (len(floors) > 1)}."
        )
    return sentences


def difference_in_words(test: dict, a: str, b: str) -> str:
    """What a paired test says of two systems.

    Args:
        test: `metric`, `delta` = b - a, and its interval `low`, `high`.
        a, b: their names.
    """
    if not all(is_number(test[name]) for name in ("delta", "low", "high")):
        return f"{test['metric']}, {b} minus {a}: no number, so they are not ordered."
    difference = f"{test['metric']}, {b} minus {a}: {test['delta']:+.2f} (95 % interval {test['low']:+.2f} to {test['high']:+.2f})"
    if test["low"] <= 0 <= test["high"]:
        return f"{difference}: not ordered, the interval covers 0."
    return f"{difference}: {b} is {'better' if (test['delta'] < 0) == lower_is_better(test['metric']) else 'worse'}."


# --- Each task -----------------------------------------------------------------------------------------------------------------


def verdict_of_rows(rows: dict, interval: dict | None = None, metric: str | None = None) -> list[str]:
    """The verdict on a table that `train.evaluate_checkpoint` made, for any task.

    Args:
        rows: {"system": scores, "floor: ...": scores, "ceiling: ...": scores}; scores may have `std`.
        interval: of the system's score, with `low`, `high` and `metric`.
        metric: which score is looked at; by default see `headline`.
    """
    metric = headline(rows) if metric is None else metric
    system = next((row for name, row in rows.items() if name.split(",")[0] == "system"), {})
    bounds = (interval["low"], interval["high"]) if interval and interval.get("metric", metric) == metric else None
    if bounds is None and (spread := _spread(system, metric)):
        bounds = (system[metric] - SPREADS * spread, system[metric] + SPREADS * spread) if is_number(system.get(metric)) else None
    floors = {name.removeprefix("floor: "): row for name, row in rows.items() if name.startswith("floor") and not _keeps_signs(name)}
    floors = {name: (row.get(metric), _spread(row, metric)) for name, row in floors.items()}
    return blind_judges(rows, metric) or verdict(metric, system.get(metric), floors, bounds)


def blind_judges(rows: dict, metric: str | None = None) -> list[str]:
    """A sentence where judges read real signing no better than keypoints that have nothing to do with the text; [] where they can read."""
    metric = headline(rows) if metric is None else metric
    ceiling = rows.get("ceiling: real keypoints")
    if ceiling is None:
        return []
    if not is_number(ceiling.get(metric)):
        return [f"{BLIND_JUDGES} ({metric} of real signing is no number)."]
    for name, row in rows.items():
        if name.startswith("floor") and not _keeps_signs(name):
            spread = math.hypot(_spread(ceiling, metric), _spread(row, metric))
            if compare(ceiling[metric], row.get(metric), lower_is_better(metric), spread=spread) in ("worse", "equal"):
                comparison = (
                    f"{metric} {_digits(ceiling[metric])} of real signing, {_digits(row[metric])} of {name.removeprefix('floor: ')}"
                )
                return [f"{BLIND_JUDGES} ({comparison})."]
    return []


def verdict_of_judge(scores: dict, floors: dict, interval: dict | None = None) -> list[str]:
    """The verdict on one judge's reading of real validation clips, beside sentences that were made without looking at them."""
    rows = {"system": scores} | {f"floor: {name}": row for name, row in floors.items()}
    metric = headline(rows)
    bounds = (interval["low"], interval["high"]) if interval and interval.get("metric", metric) == metric else None
    values = {name: (row.get(metric), _spread(row, metric)) for name, row in floors.items()}
    return verdict(metric, scores.get(metric), values, bounds, BLIND_JUDGE)


def verdict_of_reconstruction(scores: dict, floors: dict, linear_codes: dict | None = None) -> list[str]:
    """The verdict on what a SignMAE gives back of segments that it never saw.

    Args:
        scores: `mpjpe`, in shoulder widths, and maybe `motion_ratio`.
        floors: {"mean_pose", "static", "nearest_segment"}: their `mpjpe`.
        linear_codes: {number of principal components: `mpjpe`}.
    """
    error = scores.get("mpjpe")
    poses = {FLOOR_NAMES[name]: (floors[name], 0.0) for name in ("mean_pose", "static") if name in floors}
    sentences = verdict("mpjpe", error, poses)
    if not is_number(error):
        return sentences
    if compare(error, floors.get("nearest_segment"), lower=True) in ("worse", "equal"):
        nearest = _digits(floors["nearest_segment"])
        sentences.append(f"{FLOOR_NAMES['nearest_segment']} ({nearest}) is as near or nearer: it gives back no more than copying would.")
    better = [int(size) for size, value in (linear_codes or {}).items() if compare(error, value, lower=True) == "worse"]
    if better:
        size = min(better)
        values = {int(key): value for key, value in linear_codes.items()}
        sentences.append(f"{size} principal components of the training segments come nearer ({_digits(values[size])}).")
    if is_number(scores.get("motion_ratio")) and scores["motion_ratio"] < LITTLE_MOTION:
        sentences.append(f"It gives back {scores['motion_ratio']:.0%} of the motion inside segments.")
    return [sentence[:1].upper() + sentence[1:] if sentence.startswith("the ") else sentence for sentence in sentences]


def headline(rows: dict, preferred: str = "bleu4") -> str:
    """The score that a table is judged by: `top1` of recognition, else `preferred`; chrF where every text scores 0 in that, such as
    single words in BLEU-4."""
    if any("top1" in row for row in rows.values()):
        return "top1"
    values = [row.get(preferred) for row in rows.values()]
    return preferred if lower_is_better(preferred) or any(is_number(value) and value for value in values) else "chrf"


def is_number(value) -> bool:
    """Whether a score is there and finite; JSON has null for NaN."""
    return isinstance(value, Real) and math.isfinite(value)


def _keeps_signs(name):
    """Whether a floor still shows the right signs: clips that run backwards do, and judges hardly notice their order."""
    return "backwards" in name


def _spread(row, metric):
    spread = (row.get("std") or {}).get(metric)
    return spread if is_number(spread) else 0.0


def _digits(value):
    return f"{value:.4g}"


def _listed(words):
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
