"""BLEU-1 to 4 for `evaluate`: `evaluate.load("train/metrics/sign_bleu")` from the repository's root, offline.

One import a line: evaluate reads them line by line.
"""

import datasets
import evaluate

from train.metrics.text import text_scores


class SignBleu(evaluate.Metric):
    def _info(self):
        return evaluate.MetricInfo(
            description="Corpus BLEU as sign-to-text papers report it, with its signature.",
            citation="",
            inputs_description="predictions (empty: none), references: strings; variant: a key of BLEU_VARIANTS; final_dot.",
            features=datasets.Features({"predictions": datasets.Value("string"), "references": datasets.Value("string")}),
        )

    def _compute(self, predictions, references, variant="slt", final_dot="keep"):
        return text_scores(predictions, references, final_dot, families=(variant,))
