"""Word and character error rate for `evaluate`: `evaluate.load("train/metrics/sign_error_rate")` from the repository's root, offline.

One import a line: evaluate reads them line by line.
"""

import datasets
import evaluate

from train.metrics.text import text_scores


class SignErrorRate(evaluate.Metric):
    def _info(self):
        return evaluate.MetricInfo(
            description="Edits of all sentences over words (wer) or characters (cer) of all references, in per cent.",
            citation="",
            inputs_description="predictions (an empty string: none), references: strings; final_dot: keep, strip or add.",
            features=datasets.Features({"predictions": datasets.Value("string"), "references": datasets.Value("string")}),
        )

    def _compute(self, predictions, references, final_dot="keep"):
        return text_scores(predictions, references, final_dot, families=("error_rates",))
