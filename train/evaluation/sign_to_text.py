"""Scores a SignToText beside floors: sentences that were chosen without understanding the signing.

Run by `python -m train.evaluate_checkpoint --task sign-to-text --checkpoint DIR --datasets D --train_datasets D`.
"""

import numpy as np

from train.data.clips import LatentStore
from train.evaluation.translation import translate, translate_inputs
from train.evaluation.verdicts import headline, verdict_of_rows
from train.metrics.text import bootstrap_interval, text_scores
from train.metrics.text_floors import constant_sentence_floor, random_sentence_floor, retrieval_floor, scores_by_seen, share_verbatim

FLOOR_SEEDS = (0, 1, 2)


def evaluate_sign_to_text(
    model,
    tokenizer,
    clips,
    train=None,
    sign_mae=None,
    final_dot="keep",
    num_beams=None,
    max_new_tokens=None,
    batch_size=32,
    cache_dir=None,
    bleurt_checkpoint=None,
    inputs=None,
):
    """Translates clips and scores them beside the floors.

    Args:
        model, tokenizer: a `SignToText` and its tokenizer.
        clips: `train.data.clips.Clips` that are scored.
        train: `Clips` of its training set; without them there are no floors.
        sign_mae: whose mean latents the retrieval floor compares; by default the model's own, where it has one.
        final_dot, bleurt_checkpoint: see `text_scores`.
        num_beams, max_new_tokens: of decoding; by default the model's.
        inputs: what is read of each clip, (S, D) in place of the model's own latents; for controls.

    Returns:
        report: a dict with `rows` (name of a row -> `text_scores`), `interval` of BLEU-4, `verdict` in words, and what says how they
            were made.
        predictions: a list of texts.
    """
    decoding = {"num_beams": num_beams, "max_new_tokens": max_new_tokens}
    decoding = {name: value for name, value in decoding.items() if value is not None}
    cap = decoding.get("max_new_tokens", model.generation_config.max_new_tokens)
    if inputs is None:
        predictions = translate(model, tokenizer, clips, batch_size, cache_dir, **decoding)
    else:
        predictions = translate_inputs(model, tokenizer, inputs, batch_size, **decoding)
    options = dict(final_dot=final_dot, max_new_tokens=cap)
    rows = {"system": text_scores(predictions, clips.texts, bleurt_checkpoint=bleurt_checkpoint, **options)}
    report = {
        "num_scored": len(clips),
        "num_beams": decoding.get("num_beams", model.generation_config.num_beams),
        "interval": bootstrap_interval(predictions, clips.texts, final_dot=final_dot) | {"metric": "bleu4"},
    }
    if train is not None:
        for name, scores in scores_by_seen(predictions, clips.texts, train.texts, **options).items():
            if scores["num_scored"]:
                rows[f"system, sentences {name} in training"] = scores
        report["share_verbatim"] = share_verbatim(predictions, train.texts)
        rows["floor: random training sentence"] = random_sentence_floor(train.texts, clips.texts, FLOOR_SEEDS, **options)
        rows["floor: one constant sentence"] = constant_sentence_floor(train.texts, clips.texts, **options)
        if sign_mae is None and model.config.sign_encoder == "segments":
            sign_mae = model.sign_mae
        if sign_mae is not None:
            stores = [LatentStore.build(clips_of_split, sign_mae, sign_mae.config.stride, cache_dir) for clips_of_split in (train, clips)]
            means = [np.stack([store[index].mean(0) for index in range(len(store))]) for store in stores]
            rows["floor: sentence of the nearest training clip"] = retrieval_floor(means[0], train.texts, means[1], clips.texts, **options)
    metric, interval = headline(rows), report["interval"]
    if metric != interval["metric"]:
        interval = bootstrap_interval(predictions, clips.texts, metric, final_dot=final_dot) | {"metric": metric}
    return {"rows": rows, **report, "verdict": verdict_of_rows(rows, interval, metric)}, predictions
