"""Sign-to-text on sentences of real signs, see `spliced_signs`: test and training share no recording session, and the SignMAE saw none."""

import numpy as np

from experiments import isolated, translation
from experiments.include import SIZES as INCLUDE_SIZES
from experiments.include import rows_of
from experiments.intervals import NUM_SAMPLES, times_of_parts
from experiments.results import Result
from experiments.workplace import Workplace

OF_INCLUDE = ("sign_mae", "pretrain_steps", "limit")
SIZES = {
    "small": {name: INCLUDE_SIZES["small"][name] for name in OF_INCLUDE}
    | {"pretrain_seeds": 1, "rates": [5e-4, 1e-3, 2e-3], "seeds": 3, "steps": 800, "corpus": "small"},
    "tiny": {name: INCLUDE_SIZES["tiny"][name] for name in OF_INCLUDE}
    | {"pretrain_seeds": 1, "rates": [1e-3], "seeds": 1, "steps": 8, "corpus": "tiny"},
}


def run(place: Workplace, sizes: dict) -> Result:
    """Trains and tests on both folds, and scores their test sentences together."""
    from experiments import spliced_signs

    encoders_of_rows, processor = rows_of(place, sizes)
    systems = dict(encoders_of_rows)
    size = sizes["sign_mae"]["hidden_size"]
    systems["ceiling_true_glosses"] = [(size, translation.true_glosses(size))]
    all_texts, rates, ids, truth = {}, {}, [], []
    for fold in spliced_signs.FOLDS:
        folder = spliced_signs.build(place.data("real", "include43"), place.output_dir, fold, sizes["corpus"])
        files = {split: next(folder.glob(f"{split}-*.parquet")) for split in ("train", "validation", "test")}
        train, test = (translation.clips_of(files[part], processor) for part in ("train", "test"))
        ids, truth = ids + test.ids, truth + test.texts
        texts = {}
        for row, [(facts, encode), *_] in systems.items():
            row_sizes = sizes | {"seeds": 1} if row.startswith("ceiling") else sizes
            texts[row], rates.setdefault(row, {})[fold] = translation.translations(place, files, [row, facts], encode, row_sizes, processor)
        texts |= translation.floors(train, test, isolated.mean_vectors(encoders_of_rows["pretrained"][0][1]))
        for row, of_seeds in texts.items():
            all_texts[row] = [before + texts_of_seed for before, texts_of_seed in zip(all_texts.get(row, [[]] * len(of_seeds)), of_seeds)]
    epochs = sizes["steps"] * translation.READER["per_device_train_batch_size"] / len(train)
    times = times_of_parts([spliced_signs.takes_of(id) for id in ids], NUM_SAMPLES)
    rows, contrasts = translation.score(all_texts, truth, times)
    return Result(
        what="sign-to-text on sentences spliced of real INCLUDE clips; two folds, tested on recording sessions that were never trained on",
        rows=rows,
        contrasts=contrasts,
        unit="test takes drawn with replacement, means over seeds; the seed of the SignMAE is one",
        scored="once in this run",
        config=sizes | {"reader": translation.READER, "epochs": epochs, "learning_rates_chosen": rates},
        predictions={"ids": ids, "texts": all_texts},
        more={"test_sentences": len(truth), "takes": len(np.unique([take for id in ids for take in spliced_signs.takes_of(id)]))},
    )
