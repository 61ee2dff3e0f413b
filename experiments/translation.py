"""Sentences: every row's vectors are read by the same `SignToText`, tuned alike.

The learning rate is chosen by BLEU-4 on held-out training sentences, after a quarter of the steps and with one seed; where the best is the
largest or the smallest that was tried, the grid grows. Then a translator is trained for a fixed number of steps, with nothing selected,
once for each seed, and its translations of the test sentences are kept.
"""

import json
import shutil
import zlib

import numpy as np
from transformers import pipeline

from experiments import encoders
from experiments.intervals import NUM_SAMPLES, over_draws
from experiments.pretraining import names
from experiments.readers import carrier, code_version, rate_that_is_best
from experiments.workplace import words
from modeling_unigloR import SignToText
from train import train_sign_to_text
from train.data.clips import Clips
from train.evaluation.translation import translate_inputs
from train.metrics.text import drawn_scores
from train.metrics.text_floors import best_constant_sentence, nearest_clip

METRICS = ("bleu4", "wer", "rouge_l", "chrf")
READER = {
    "text_config": {
        "d_model": 128, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4,
        "encoder_ffn_dim": 512, "decoder_ffn_dim": 512, "dropout": 0.1, "max_position_embeddings": 512,
    },
    "per_device_train_batch_size": 32, "lr_scheduler_kwargs": {"min_lr_rate": 0.02}, "max_new_tokens": 60, "generation_num_beams": 1,
    "early_stopping_patience": None, "eval_strategy": "no", "load_best_model_at_end": False,
}  # fmt: skip


def translations(place, files, row, encode, sizes, processor):
    """What a row's translators make of the test sentences, and the learning rate that was chosen.

    Args:
        place: a `Workplace`.
        files: {"train", "validation", "test"}: Parquet files.
        row: its name, and whatever else `encode` depends on.
        encode: `Clips` -> `Vectors`.
        sizes: `rates`, `seeds`, `steps`.

    Returns:
        [texts] of each seed, in the order of the test clips; a number.
    """

    rate = best_rate(place, files, row, encode, sizes, processor)
    texts_of_seeds = []
    for seed in range(sizes["seeds"]):
        facts = [code_version(SignToText), names(files.values()), row, rate, seed, sizes["steps"], READER]

        def make(seed=seed):
            folder, reading = train(place, files, row, encode, rate, seed, sizes["steps"], processor)
            pipe = pipeline("sign-to-text", model=str(folder), device="cpu")
            vectors = reading.build(clips_of(files["test"], processor))
            texts = translate_inputs(pipe.model, pipe.tokenizer, [vectors[index] for index in range(len(vectors))])
            shutil.rmtree(folder)
            return texts

        texts_of_seeds.append(place.once(place.path("translations", facts), make))
    return texts_of_seeds, rate


def best_rate(place, files, row, encode, sizes, processor):
    """The learning rate of a row; the arguments are those of `translations`."""

    def score(rate):
        facts = [code_version(SignToText), names(files.values()), row, rate, sizes["steps"], READER]

        def make():
            folder, _ = train(place, files, row, encode, rate, 0, max(1, sizes["steps"] // 4), processor, files["validation"])
            scores = json.loads((folder / "report.json").read_text())["validation"]
            shutil.rmtree(folder)
            return [scores["eval_bleu4"], scores["eval_chrf"]]

        return place.once(place.path("rate", facts), make)

    return rate_that_is_best(sizes["rates"], score)


def train(place, files, row, encode, rate, seed, steps, processor, validation=None, fields=READER):
    """-> the folder of a trained SignToText, and its `Reading`. A training that was killed goes on from its last checkpoint."""
    folder = place.path(
        "translator", code_version(SignToText), names([files["train"]]), row, rate, seed, steps, validation is not None, fields
    )
    reading = encoders.Reading(encode, clips_of(files["train"], processor))
    if not (folder / "report.json").exists():
        options = fields | {"learning_rate": rate, "max_steps": steps, "seed": seed, "output_dir": folder}
        options |= {"whiten_latents": False, "use_cpu": True, "resume_from_checkpoint": True}
        options |= {"save_strategy": "steps", "save_steps": max(1, min(250, steps)), "save_total_limit": 1}
        options = words(options | {"sign_mae": carrier(place, reading.size, processor), "datasets": files["train"]})
        options += ["--validation", str(validation) if validation else "[]"]
        train_sign_to_text.main(["paper_sign_to_text.yaml", *options], latent_store=reading)
    return folder, reading


def floors(train_clips, test_clips, mean_vectors):
    """{row: [texts] of each seed} of answers that know nothing of the signing, or only the nearest training clip.

    Args:
        mean_vectors: `Clips` -> (clips, D), by which the nearest clip is chosen.
    """
    count, texts = len(test_clips), train_clips.texts
    drawn = [np.random.default_rng(seed).integers(len(texts), size=count) for seed in range(3)]
    nearest = nearest_clip(mean_vectors(train_clips), mean_vectors(test_clips))
    return {
        "floor_random_sentence": [[texts[index] for index in indices] for indices in drawn],
        "floor_constant_sentence": [[best_constant_sentence(texts)] * count],
        "floor_nearest_clip": [[texts[index] for index in nearest]],
    }


def score(texts_of_rows, references, times=None, metrics=METRICS, compared=None):
    """{row: [texts] of each seed} and the true texts -> rows and contrasts of a result; sentences are drawn for the intervals.

    `times` (R, N) says how often each draw holds each sentence, where something else is drawn: see `intervals.times_of_parts`. `compared`
    are pairs of rows; by default `intervals.pairs`.
    """

    def scored(seeds, metric):
        scores, draws, _ = zip(*(drawn_scores(texts, references, metric, NUM_SAMPLES, times=times) for texts in seeds))
        return np.array(scores), np.stack(draws)

    rows = {row: {metric: scored(seeds, metric) for metric in metrics} for row, seeds in texts_of_rows.items()}
    return over_draws(rows, compared)


def clips_of(path, processor):
    return Clips([str(path)], "train", processor)


# --- Ceilings ---------------------------------------------------------------------------------------------------------------------


def gloss_vectors(lines, size):
    """A random vector (D,) for each gloss, always the same one, of each clip's list of glosses."""
    vectors = {}

    def vector(gloss):
        if gloss not in vectors:
            vectors[gloss] = np.random.default_rng(zlib.crc32(str(gloss).encode())).standard_normal(size, dtype=np.float32)
        return vectors[gloss]

    return encoders.Vectors(np.stack([vector(gloss) for gloss in line]) for line in lines)


def true_glosses(size):
    """The encoder of a ceiling, perfect recognition: the glosses that the corpus says a clip has.

    Raises (when it encodes):
        ValueError: a clip without glosses.
    """

    def encode(clips):
        lines = [(line or "").split() for line in clips.glosses]
        without = sum(not line for line in lines)
        if without:
            raise ValueError(f"{without} of {len(clips)} clips have no gloss, which the ceiling reads. Leave the ceiling out.")
        return gloss_vectors(lines, size)

    return encode
