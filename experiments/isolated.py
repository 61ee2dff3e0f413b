"""Isolated words in folds: every row's vectors are read by the same `SignRecognition`, tuned alike, tested on what it has not seen.

For each fold that tests, the learning rate is chosen on the next fold, after a quarter of the steps and with one seed; where the best is
the largest or the smallest that was tried, the grid grows. Then the recogniser is trained on all other folds for a fixed number of steps,
with nothing selected, once for each seed.
"""

import shutil

import numpy as np
import torch
from transformers import AutoModel

from experiments import encoders
from experiments.readers import carrier, code_version, rate_that_is_best
from experiments.workplace import words
from modeling_unigloR import SignRecognition
from train import train_recognition
from train.data.clips import LabelledClips, pad
from train.metrics.recognition import nearest_class_mean, ranks

NUM_RESAMPLED = 16  # frames of each clip that the keypoint floor compares
READER = {
    "hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 256, "hidden_dropout_prob": 0.3,
    "label_smoothing": 0.1, "per_device_train_batch_size": 32, "lr_scheduler_kwargs": {"min_lr_rate": 0.02},
}  # fmt: skip
KEPT = 5  # labels that are kept of each answer


def answers(place, data, row, encoders_of_seeds, num_folds, sizes, processor, recognise=None):
    """A row's answers: what its recogniser predicts for every clip that is tested.

    Args:
        place: a `Workplace`.
        data: the folder of `corpora.write_folds`.
        row: its name.
        encoders_of_seeds: [(whatever else it depends on, `Clips` -> `Vectors`)] of each seed, or of all seeds.
        sizes: `rates`, `seeds`, `steps`.
        processor: a `KeypointProcessor`.
        recognise: trains and tests one recogniser; by default `read`.

    Returns:
        [{id: [rank of the true label, most probable labels ...]}] of each seed, and the learning rate of each fold.
    """
    recognise = recognise or read
    answers_of_seeds, chosen = [{} for _ in range(sizes["seeds"])], []
    facts, encode = encoders_of_seeds[0]
    for fold in range(num_folds):
        others = (fold + 1) % num_folds

        def score(rate, fold=fold, others=others):
            quarter = max(1, sizes["steps"] // 4)
            return _first(recognise(place, data, [row, facts], encode, others, sorted([fold, others]), rate, 0, quarter, processor))

        chosen.append(rate_that_is_best(sizes["rates"], score))
    for seed in range(sizes["seeds"]):
        facts, encode = encoders_of_seeds[seed % len(encoders_of_seeds)]
        for fold, rate in enumerate(chosen):
            answers_of_seeds[seed] |= recognise(place, data, [row, facts], encode, fold, [fold], rate, seed, sizes["steps"], processor)
    return answers_of_seeds, chosen


def read(place, data, row, encode, test_fold, left_out, rate, seed, steps, processor):
    """{id: [rank, labels]} of the clips of one fold, by a recogniser that was trained without `left_out`."""
    facts = [code_version(SignRecognition), data.name, row, test_fold, left_out, rate, seed, steps, READER, processor.to_json_string()]

    def make():
        folder = place.path("recogniser", facts)
        training = clips_of(parts(data, left_out), processor)
        reading = encoders.Reading(encode, training)
        fields = READER | {"learning_rate": rate, "max_steps": steps, "seed": seed, "save_strategy": "no", "output_dir": folder}
        fields |= {"overwrite_output_dir": True, "use_cpu": True}
        options = ["--sign_mae", str(carrier(place, reading.size, processor)), "--validation", "[]", "--whiten_latents", "false"]
        train_recognition.main([*words(fields), *options, "--datasets", *map(str, parts(data, left_out))], latent_store=reading)
        tested = clips_of([data / f"fold-{test_fold}.parquet"], processor)
        logits = _logits(AutoModel.from_pretrained(folder), reading.build(tested))
        shutil.rmtree(folder)
        return dict(zip(tested.ids, kept(logits, tested.labels)))

    return place.once(place.path("words", facts), make)


@torch.no_grad()
def _logits(model, vectors, batch_size=64):
    model.eval()
    batches = []
    for start in range(0, len(vectors), batch_size):
        latents, mask = pad([torch.from_numpy(vectors[index]) for index in range(start, min(start + batch_size, len(vectors)))])
        batches.append(model(latents=latents, latent_mask=mask).logits.float().numpy())
    return np.concatenate(batches)


def kept(logits, labels):
    """[rank of the true label, the most probable labels] of each clip; a label that no training clip has comes last."""
    missing = max(0, int(labels.max()) + 1 - logits.shape[1])
    logits = np.pad(logits, ((0, 0), (0, missing)), constant_values=-np.inf)
    best = np.argsort(-logits, axis=1, kind="stable")[:, :KEPT]
    return [[int(rank), *map(int, most_probable)] for rank, most_probable in zip(ranks(logits, labels), best)]


def _first(ranked):
    """The share of clips whose true label came first, and the share where it is among the first five."""
    rank = np.array([entry[0] for entry in ranked.values()])
    return float((rank == 1).mean()), float((rank <= KEPT).mean())


# --- Floors -----------------------------------------------------------------------------------------------------------------------


def class_means(data, num_folds, features, processor):
    """[{id: [rank, labels]}], as `answers`, of the floor that learns class means only. `features`: `Clips` -> (clips, F)."""
    ranked = {}
    for fold in range(num_folds):
        train, test = clips_of(parts(data, [fold]), processor), clips_of([data / f"fold-{fold}.parquet"], processor)
        num_labels = int(max(train.labels.max(), test.labels.max())) + 1
        logits = nearest_class_mean(features(train), train.labels, features(test), num_labels)
        ranked |= dict(zip(test.ids, kept(logits, test.labels)))
    return [ranked]


def most_frequent(data, num_folds, processor):
    """As `class_means`, of a floor that always names the labels that most training clips have."""
    ranked = {}
    for fold in range(num_folds):
        train, test = clips_of(parts(data, [fold]), processor), clips_of([data / f"fold-{fold}.parquet"], processor)
        counts = np.bincount(train.labels, minlength=int(max(train.labels.max(), test.labels.max())) + 1)
        first = -np.argsort(np.argsort(-counts, kind="stable")).astype(float)  # without ties between equally frequent labels
        ranked |= dict(zip(test.ids, kept(np.tile(first, (len(test), 1)), test.labels)))
    return [ranked]


def mean_vectors(encode):
    """The mean of each clip's vectors: (clips, D)."""

    def features(clips):
        vectors = encode(clips)
        return np.stack([vectors[index].mean(0) for index in range(len(clips))])

    return features


def resampled_keypoints(clips):
    """(clips, frames x K x C): the keypoints of each clip at `NUM_RESAMPLED` times."""
    return np.stack([resample_frames(clips.keypoints(index)[0], NUM_RESAMPLED).ravel() for index in range(len(clips))])


def resample_frames(keypoints, num_frames):
    """(T, K, C) at `num_frames` times from the first frame to the last, by straight lines."""
    times = np.linspace(0, len(keypoints) - 1, num_frames)
    before = np.floor(times).astype(int)
    after = np.minimum(before + 1, len(keypoints) - 1)
    share = (times - before)[:, None, None]
    return (1 - share) * keypoints[before] + share * keypoints[after]


# --- Scores -----------------------------------------------------------------------------------------------------------------------


def scores(answers_of_seeds, unit_of, tops=(1, KEPT)):
    """Top-1 and top-5 in per cent, of each seed and unit: {metric: (S, U)}.

    Args:
        answers_of_seeds: what `answers` returns first.
        unit_of: {id: unit} of all clips that are to be scored; a clip without an answer is wrong.
        tops: among how many of the most probable labels the true one is looked for.
    """
    units = sorted(set(unit_of.values()))
    hits = {f"top{most}": np.zeros((len(answers_of_seeds), len(units))) for most in tops}
    sizes = np.bincount([units.index(unit) for unit in unit_of.values()])
    for seed, answered in enumerate(answers_of_seeds):
        for id, unit in unit_of.items():
            rank = answered.get(id, [np.inf])[0]
            for most in tops:
                hits[f"top{most}"][seed, units.index(unit)] += rank <= most
    return {metric: 100 * values / sizes for metric, values in hits.items()}


def clips_of(paths, processor):
    return LabelledClips([str(path) for path in paths], "train", processor)


def parts(data, left_out=()):
    """Parquet files of all clips, except those of the folds that are left out."""
    gone = {f"fold-{fold}" for fold in left_out}
    return [path for path in sorted(data.glob("*.parquet")) if path.stem not in gone]
