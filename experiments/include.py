"""Isolated words of INCLUDE (Indian Sign Language): words and recordings that neither the SignMAE nor the recogniser has seen."""

from functools import partial

from transformers import AutoFeatureExtractor

from experiments import corpora, encoders, isolated
from experiments.intervals import over_units
from experiments.pretraining import SMALL, TINY, names, pretrained, untrained
from experiments.results import Result
from experiments.workplace import Workplace
from train.data.clips import Clips

WINDOW_SIZE, STRIDE = 15, 7
SIZES = {
    "small": {"sign_mae": SMALL, "pretrain_steps": 2000, "pretrain_seeds": 3, "rates": [5e-4, 1e-3, 2e-3], "seeds": 3, "steps": 300,
              "folds": 5, "limit": None},
    "tiny": {"sign_mae": TINY, "pretrain_steps": 20, "pretrain_seeds": 1, "rates": [1e-3], "seeds": 1, "steps": 8, "folds": 5, "limit": 1},
}  # fmt: skip


def run(place: Workplace, sizes: dict) -> Result:
    """Scores the rows of representations, their floors and a ceiling in folds of recording sessions."""
    data, mixed, fold_of, labels = corpora.include_folds(place, sizes["folds"], sizes["limit"])
    return table(
        place, sizes, data, mixed, fold_of, labels,
        what="INCLUDE, 43 words of its official training part; tested on recording sessions that the recogniser has not seen",
        unit=f"t interval over {sizes['folds']} recording sessions, each the mean over seeds",
    )  # fmt: skip


def table(place, sizes, data, mixed, unit_of, labels, what, unit):
    """The `Result` of recognising isolated words in folds; `bsl` uses it for the British manual alphabet.

    Args:
        data, mixed: folders of folds: of whole sessions (or signers), and of the same clips regardless of them, for the ceiling.
        unit_of: {id: session or signer} of the clips that are scored.
        labels: names of the labels.
        what, unit: for the result.
    """
    encoders_of_rows, processor = rows_of(place, sizes)
    read = partial(isolated.answers, place, data, num_folds=sizes["folds"], sizes=sizes, processor=processor)
    answers, rates = {}, {}
    for row, encoders_of_seeds in encoders_of_rows.items():
        answers[row], rates[row] = read(row, encoders_of_seeds)
    single_seed = {**sizes, "seeds": 1}
    ceiling = isolated.answers(place, mixed, "pretrained", encoders_of_rows["pretrained"], sizes["folds"], single_seed, processor)
    answers["ceiling_known_recordings"], rates["ceiling_known_recordings"] = ceiling
    means = {
        "floor_class_means_of_latents": isolated.mean_vectors(encoders_of_rows["pretrained"][0][1]),
        "floor_class_means_of_keypoints": isolated.resampled_keypoints,
    }
    for row, features in means.items():
        answers[row] = isolated.class_means(data, sizes["folds"], features, processor)
    answers["floor_most_frequent"] = isolated.most_frequent(data, sizes["folds"], processor)
    rows, contrasts = over_units({row: isolated.scores(row_answers, unit_of) for row, row_answers in answers.items()})
    return Result(
        what=what,
        rows=rows,
        contrasts=contrasts,
        unit=unit,
        scored="once in this run; the learning rate of each fold was chosen on another fold",
        config=sizes | {"reader": isolated.READER, "learning_rates_chosen": rates},
        predictions={"labels": labels, "unit_of": unit_of, "rank_and_labels": answers},
        more={"clips": len(unit_of), "units": len(set(unit_of.values()))},
    )


def rows_of(place, sizes):
    """`representations` of real keypoints, pretrained on all sets but those that are tested; and the processor."""
    _, training, trained = trained_on_the_mix(place, sizes)
    never_trained = [untrained(place, training, sizes["sign_mae"], seed) for seed in range(len(trained))]
    return representations(trained, never_trained, training, sizes["sign_mae"]["hidden_size"])


def trained_on_the_mix(place, sizes):
    """-> `corpora.real_mix`, the files that SignMAEs learn from, and the SignMAE of each seed."""
    mix = corpora.real_mix(place, sizes["limit"] and 12)
    training = corpora.training_files(mix)
    validation = [files["validation"] for name, files in mix.items() if "validation" in files and name not in corpora.NEVER_TRAINED_ON]
    seeds = range(min(sizes["seeds"], sizes["pretrain_seeds"]))
    trained = [pretrained(place, training, validation, sizes["sign_mae"], sizes["pretrain_steps"], seed) for seed in seeds]
    return mix, training, trained


def representations(trained, never_trained, training, size):
    """The rows that every table of representations has: {row: [(what it was made of, encoder)]}, for each seed or for all seeds.

    Args:
        trained, never_trained: folders of SignMAEs, one for each seed or one for all.
        training: Parquet files that they learnt from, on which the principal components are fitted too.
        size: of a latent.
    """
    processor = AutoFeatureExtractor.from_pretrained(trained[0])
    window_size, stride = WINDOW_SIZE, STRIDE
    clips = Clips([str(path) for path in training], "train", processor, needs=None)
    components = encoders.PrincipalComponents.fit(clips, size, window_size, stride)
    return {
        "pretrained": [(folder.name, encoders.latents(folder, stride)) for folder in trained],
        "untrained": [(folder.name, encoders.latents(folder, stride)) for folder in never_trained],
        "pca": [([names(training), size], components)],
        "frames": [("", encoders.frames)],
        "every_nth_frame": [(stride, encoders.every_nth_frame(window_size, stride))],
    }, processor
