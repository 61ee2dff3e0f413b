"""Whether a result orders two rows as the paper does: the sign of the paired difference, and whether its interval leaves out zero."""

from experiments.paper.values import BASELINES, CLAIMED_METRICS, CLAIMS, LOWER_IS_BETTER, WITHOUT_VALUES, ours_in, values_for

AGREES, SAME, NONE, OTHER, CONTRADICTS = (
    "agrees", "same sign, not resolved", "no difference", "other sign, not resolved", "contradicts",
)  # fmt: skip
UNLEARNT = "neither is above the floors"
BLIND = (
    "floor_random",
    "floor_constant",
    "floor_another",
    "floor_mean_pose",
    "floor_most_frequent",
)  # floors that see no signing, or others'
TEXT, HEADLINE = ("bleu4", "rouge_l"), ("bleu4", "top1", "same_gloss", "near")


def compared(table: str, rows: list[str]) -> list[tuple[str, str]]:
    """The pairs of rows that a result of a table needs differences of: what the paper claims, and ours against every other row."""
    ours = ours_in(table)
    pairs = [pair for pair in CLAIMS.get(table, []) if set(pair) <= set(rows)]
    return pairs + [(ours, other) for other in rows if ours in rows and other != ours and (ours, other) not in pairs]


def judged(table: str, dataset: str, rows: dict, contrasts: dict) -> list[dict]:
    """The paper's orderings that a result can answer, each with a verdict.

    Args:
        rows: of a result: {row: {metric: {"mean", ...}}}; where neither row of a pair is above the floors, it answers nothing.
        contrasts: of a result: {"A - B": {metric: {"mean", "interval"}}}.

    Returns:
        [{"above", "below", "metric", "paper", "ours", "interval", "verdict"}]: differences above - below; `above` is the row that is
        better in the paper, in which both rows may have stood the other way round for one metric. `paper` is None where it gives no values.
    """
    values, answers = values_for(table, dataset), []
    for first, second in CLAIMS.get(table, []):
        for metric in CLAIMED_METRICS.get(table, TEXT):
            score = contrasts.get(f"{first} - {second}", {}).get(metric)
            known = [values.get(row, {}).get(metric) for row in (first, second)]
            if score is None or score["mean"] is None or (None in known and table not in WITHOUT_VALUES):
                continue
            paper = None if None in known else round(known[0] - known[1], 4)
            sign = -1 if paper is not None and paper * (-1 if metric in LOWER_IS_BETTER else 1) < 0 else 1
            low, high = score["interval"] or (None, None)
            interval = None if low is None or high is None else sorted((sign * low, sign * high))
            ours = sign * score["mean"]
            answers.append(
                {
                    "above": first if sign > 0 else second, "below": second if sign > 0 else first, "metric": metric,
                    "paper": None if paper is None else sign * paper, "ours": ours, "interval": interval,
                    "verdict": verdict(ours, interval, metric) if _learnt(rows, (first, second), metric) else UNLEARNT,
                }
            )  # fmt: skip
    return answers


def verdict(difference: float, interval: list[float] | None, metric: str) -> str:
    """Of a difference between the row that the paper has above and the one below; without an interval nothing is resolved."""
    better = -difference if metric in LOWER_IS_BETTER else difference
    if not better:
        return NONE
    resolved = interval is not None and (interval[0] > 0 or interval[1] < 0)
    return (AGREES if resolved else SAME) if better > 0 else (CONTRADICTS if resolved else OTHER)


def _learnt(rows, pair, metric):
    """Whether one row of a pair is better than all floors that are blind, where there are such floors."""
    better = -1 if metric in LOWER_IS_BETTER else 1
    floors = [better * row[metric]["mean"] for name, row in rows.items() if name.startswith(BLIND) and metric in row]
    reached = [better * rows[name][metric]["mean"] for name in pair if metric in rows.get(name, {})]
    return not floors or not reached or max(reached) > max(floors)


def beaten_by(content: dict, table: str) -> list[str]:
    """A sentence for each baseline, and then for each floor, that is above ours; by the first headline metric that both rows have."""
    ours, lines = ours_in(table), []
    is_baseline = {row: row.startswith(BASELINES) for row in content["rows"]}
    rows = [row for row in content["rows"] if is_baseline[row]] + [row for row in content["rows"] if row.startswith("floor")]
    for row in rows:
        contrast = content["contrasts"].get(f"{ours} - {row}", {})
        metric = next((name for name in HEADLINE if name in contrast), None)
        if metric is None or contrast[metric]["mean"] is None or contrast[metric]["mean"] >= 0:
            continue
        low, high = contrast[metric]["interval"] or (None, None)
        resolved = low is not None and high is not None and high < 0
        spread = "" if low is None or high is None else f" ({-high:.1f} to {-low:.1f})"
        kind = "The baseline" if is_baseline[row] else "The floor"
        lines.append(
            f"{kind} `{row}` {'beats' if resolved else 'is above'} ours by {-contrast[metric]['mean']:.1f} {metric}{spread}"
            f"{'' if resolved else ', which is not resolved'}."
        )
    return lines
