"""ROUGE-L for `evaluate`: `evaluate.load("train/metrics/sign_rouge")` from the repository's root, offline.

One import a line: evaluate reads them line by line.
"""

import datasets
import evaluate

from train.metrics.text import text_scores


class SignRouge(evaluate.Metric):
    def _info(self):
        return evaluate.MetricInfo(
            description="ROUGE-L in the captioning form (beta 1.2) and as the package rouge_score has it, with their signatures.",
            citation="",
            inputs_description="predictions (an empty string: none), references: strings; final_dot: keep, strip or add.",
            features=datasets.Features({"predictions": datasets.Value("string"), "references": datasets.Value("string")}),
        )

    def _compute(self, predictions, references, final_dot="keep"):
        return text_scores(predictions, references, final_dot, families=("rouge_l", "rouge_l_package"))
