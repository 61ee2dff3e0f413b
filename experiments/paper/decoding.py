"""Ours where it stands beside baselines: beams and length penalty are chosen on held-out training sentences, as theirs are."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from experiments import encoders, translation
from experiments.pretraining import names
from experiments.readers import code_version
from experiments.workplace import Workplace
from modeling_unigloR import KeypointProcessor
from train.engine.loading import load_pipeline
from train.evaluation.translation import translate_inputs
from train.metrics.text import text_scores


def translations(
    place: Workplace, files: dict[str, Path], row: list, encode: encoders.Encoder, sizes: dict, processor: KeypointProcessor
) -> tuple[list[list[str]], float, dict]:
    """As `experiments.translation.translations`, with facts as those of `translators.translations`."""
    rate = translation.best_rate(place, files, row, encode, sizes, processor)
    made: list[dict] = []
    for seed in range(sizes["seeds"]):

        def make(seed: int = seed) -> dict:
            folder, reading = translation.train(place, files, row, encode, rate, seed, sizes["steps"], processor)
            report, pipe = (
                json.loads((folder / "report.json").read_text(encoding="utf-8")),
                load_pipeline("sign-to-text", str(folder), "cpu"),
            )
            held_out, test = (translation.clips_of(files[part], processor) for part in ("validation", "test"))
            decoding = made[0]["decoding"] if made else best_decoding(pipe.model, pipe.tokenizer, reading.build(held_out), held_out.texts)
            texts = translate(pipe.model, pipe.tokenizer, reading.build(test), decoding)
            shutil.rmtree(folder)
            return {"texts": texts, "decoding": decoding, **facts_of(pipe.model, report)}

        facts = [code_version(), names(files.values()), row, rate, seed, sizes["steps"], translation.READER]
        made.append(place.once(place.path("translations-tuned", facts), make))
    facts = {"parameters": made[0]["parameters"], "steps": made[0]["steps"], **made[0]["decoding"]}
    return [piece["texts"] for piece in made], rate, facts | {"seconds": float(np.mean([piece["seconds"] for piece in made]))}


def facts_of(model: Any, report: dict) -> dict[str, float]:
    """Parameters without those of the SignMAE, and steps and seconds of a training by its report."""
    parameters = sum(each.numel() for name, each in model.named_parameters() if not name.startswith("sign_mae."))
    return {"parameters": parameters, "steps": report["steps"], "seconds": 3600 * report["compute"]["hours"]}


def best_decoding(model: Any, tokenizer: Any, inputs: Any, references: list[str]) -> dict[str, float]:
    """The entry of the baselines' `DECODINGS` with the best BLEU-4, of equal ones the best chrF, on as many clips as theirs."""
    from experiments.baselines.translators import DECODINGS, MOST_TUNED

    chosen = range(0, len(inputs), -(-len(inputs) // MOST_TUNED))

    def score(decoding):
        texts = translate(model, tokenizer, [inputs[index] for index in chosen], decoding)
        scores = text_scores(texts, [references[index] for index in chosen], families=("slt", "chrf"))
        return scores["bleu4"], scores["chrf"]

    return max(DECODINGS, key=score)


def translate(model: Any, tokenizer: Any, inputs: Any, decoding: dict) -> list[str]:
    return translate_inputs(model, tokenizer, [inputs[index] for index in range(len(inputs))], **decoding)
