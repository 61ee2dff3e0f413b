"""Sign-to-text on rendered PHOENIX14T: real sentences and timing, procedural motion.

Results compare methods; they are no PHOENIX14T results.
"""

from experiments import corpora, isolated, translation
from experiments.gloss_probe import states_of, window_glosses
from experiments.include import STRIDE, WINDOW_SIZE, representations
from experiments.pretraining import SMALL, TINY, pretrained, untrained
from experiments.results import Result

ROWS = ("pretrained", "untrained", "pca", "frames", "every_nth_frame")
PLAIN_ROWS = ("pretrained", "pca", "frames")  # at variation 0, where a linear code solves nearly all
SIZES = {
    "small": {"sign_mae": SMALL | {"segments_per_clip": 2}, "pretrain_steps": 1500, "rates": [5e-4, 1e-3, 2e-3], "seeds": 3, "steps": 1250,
              "limit": {"train": 1600, "validation": 266, "test": 519}},
    "tiny": {"sign_mae": TINY, "pretrain_steps": 20, "rates": [1e-3], "seeds": 1, "steps": 8,
             "limit": {"train": 48, "validation": 8, "test": 8}},
}  # fmt: skip


def phoenix_rendered(place, sizes):
    """Runs on a corpus in which every token of a sign is signed alike."""
    return run(place, sizes, 0.0, PLAIN_ROWS)


def phoenix_rendered_varied(place, sizes):
    """Runs on a corpus in which signers and tokens vary, which makes it as hard as real signs."""
    return run(place, sizes, 1.2, ROWS)


def run(place, sizes, variation, rows):
    files = corpora.rendered(place, variation, sizes["limit"])
    trained = pretrained(place, [files["train"]], [files["validation"]], sizes["sign_mae"], sizes["pretrain_steps"])
    never_trained = untrained(place, [files["train"]], sizes["sign_mae"])
    encoders_of_rows, processor = representations([trained], [never_trained], [files["train"]], sizes["sign_mae"]["hidden_size"])
    systems = {row: encoders_of_rows[row] for row in rows}
    size = sizes["sign_mae"]["hidden_size"]
    systems["ceiling_true_glosses"] = [(size, translation.true_glosses(size))]
    annotations = [place.data("phoenix14t_annotations", f"{part}.parquet") for part in ("train", "dev")]
    systems["ceiling_gloss_of_each_window"] = [(size, glosses_of_windows(annotations, size))]
    texts, rates = {}, {}
    for row, [(facts, encode)] in systems.items():
        row_sizes = sizes | {"seeds": 1} if row.startswith("ceiling") else sizes
        texts[row], rates[row] = translation.translations(place, files, [row, facts], encode, row_sizes, processor)
    train, test = (translation.clips_of(files[part], processor) for part in ("train", "test"))
    texts |= translation.floors(train, test, isolated.mean_vectors(encoders_of_rows["pretrained"][0][1]))
    scores, contrasts = translation.score(texts, test.texts)
    epochs = sizes["steps"] * translation.READER["per_device_train_batch_size"] / len(train)
    return Result(
        what=f"sign-to-text on rendered PHOENIX14T, variation {variation:g}: real sentences, procedural motion; no PHOENIX14T result",
        rows=scores,
        contrasts=contrasts,
        unit="sentences drawn with replacement, means over seeds",
        scored="once in this run; the official dev was scored by earlier versions of this table too",
        config=sizes | {"reader": translation.READER, "epochs": epochs, "learning_rates_chosen": rates},
        predictions={"ids": test.ids, "texts": texts},
        more={"train_sentences": len(train), "test_sentences": len(test)},
    )


def glosses_of_windows(annotations, size):
    """The encoder of a ceiling, perfect recognition of every window: the gloss that fills most of it, or none."""

    def encode(clips):
        return translation.gloss_vectors(window_glosses(clips, states_of(*annotations), WINDOW_SIZE, STRIDE), size)

    return encode
