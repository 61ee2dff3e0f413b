"""Tables of scores, as they are printed, and written as JSON."""

import re
from typing import Any

import numpy as np

from train.evaluation.verdicts import is_number

COLUMNS = ("bleu1", "bleu2", "bleu3", "bleu4", "rouge_l", "bleu4_13a", "chrf", "wer", "cer")  # of the printed table; scores.json has all
RECOGNITION_COLUMNS = ("top1", "top5", "top10", "top1_class", "top5_class", "top10_class")


def format_table(rows, columns=COLUMNS, decimals=2):
    """Rows {name: scores} as a Markdown table; a score that a row lacks, or that is NaN, stays blank."""
    counted = any(scores.get("num_scored") for scores in rows.values())
    heads = [*columns, *(["clips"] if counted else [])]
    lines = ["| | " + " | ".join(heads) + " |", "| --- |" + " ---: |" * len(heads)]
    for name, scores in rows.items():
        values = [f"{scores[column]:.{decimals}f}" if is_number(scores.get(column)) else "" for column in columns]
        values += [str(scores.get("num_scored", ""))] if counted else []
        lines.append(f"| {name} | " + " | ".join(values) + " |")
    return "\n".join(lines)


def rounded(values: Any, digits: int = 4) -> Any:
    """The same dicts and lists with numbers rounded to `digits` significant digits."""
    if isinstance(values, dict):
        return {name: rounded(value, digits) for name, value in values.items()}
    if isinstance(values, (list, tuple)):
        return [rounded(value, digits) for value in values]
    return float(f"{values:.{digits}g}") if isinstance(values, float) else values


def compute_in_words(used: dict) -> str:
    """The `compute` of a report in words, such as "9 seconds on 1 CPU thread"."""
    device = re.sub(r"^(\d+) threads of a CPU$", lambda match: _count(int(match[1]), "CPU thread"), used["device"])  # in older reports
    if used["processes"] > 1:
        device = f"{used['processes']} x {device}"
    return f"{duration(3600 * used['hours'])} on {device}"


def duration(seconds: float) -> str:
    """ "9 seconds", "4 minutes", "1.5 hours", "3 days": two significant digits, or all of a whole number."""
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= 2 * size or (size < 86400 and seconds >= size):
            return _count(float(f"{seconds / size:.2g}"), unit)
    return _count(round(seconds), "second") if seconds >= 1 else "less than 1 second"


def _count(number, unit):
    return f"{number:g} {unit}{'' if number == 1 else 's'}"


def without_nan(values):
    """The same values with None in place of NaN, which JSON does not have."""
    if isinstance(values, dict):
        return {name: without_nan(value) for name, value in values.items()}
    if isinstance(values, (list, tuple)):
        return [without_nan(value) for value in values]
    return None if isinstance(values, float) and np.isnan(values) else values
