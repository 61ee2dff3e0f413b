"""Tables of scores, as they are printed, and written as JSON."""

import numpy as np

COLUMNS = ("bleu1", "bleu2", "bleu3", "bleu4", "rouge_l", "bleu4_13a", "chrf", "wer", "cer")  # of the printed table; scores.json has all
RECOGNITION_COLUMNS = ("top1", "top5", "top10", "top1_class", "top5_class", "top10_class")


def format_table(rows, columns=COLUMNS, decimals=2):
    """Rows {name: scores} as a Markdown table; a score that a row lacks, or that is NaN, stays blank."""
    lines = ["| | " + " | ".join(columns) + " | clips |", "| --- |" + " ---: |" * (len(columns) + 1)]
    for name, scores in rows.items():
        values = [f"{scores[column]:.{decimals}f}" if not np.isnan(scores.get(column, np.nan)) else "" for column in columns]
        lines.append(f"| {name} | " + " | ".join(values) + f" | {scores['num_scored']} |")
    return "\n".join(lines)


def without_nan(values):
    """NaN, what has no value, becomes null: JSON knows no NaN."""
    if isinstance(values, dict):
        return {name: without_nan(value) for name, value in values.items()}
    if isinstance(values, (list, tuple)):
        return [without_nan(value) for value in values]
    return None if isinstance(values, float) and np.isnan(values) else values
