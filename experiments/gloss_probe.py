"""How much of a sign is in one vector: a linear classifier of the gloss that a window of rendered PHOENIX14T shows.

The classifier is a linear discriminant (one covariance for all glosses, shrunk) that learns from a number of labelled windows. Its
shrinkage is chosen on windows of other training sentences; what is scored are windows of sentences that nothing was trained or chosen on.
A window counts where one gloss fills more than half of it. `frames` are all frames of the window. All rows are whitened alike.

Metrics: `top1` with 1,000 labelled windows, `top1_N` with others, `_variation_0` where every token of a sign is signed alike.
"""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from experiments import corpora, encoders
from experiments.include import STRIDE, WINDOW_SIZE, representations
from experiments.intervals import draws_of_ratio, over_draws
from experiments.pretraining import SMALL, TINY, names, pretrained, untrained
from experiments.readers import code_version
from experiments.results import Result
from experiments.workplace import Workplace
from train.data.clips import Clips

SHRINKAGES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)  # of features whose variances are about 1
HEADLINE = 1000  # labelled windows
SIZES = {
    "small": {"sign_mae": SMALL | {"segments_per_clip": 2}, "pretrain_steps": 1500,
              "limit": {"train": 1600, "validation": 266, "test": 519}, "labelled": [1000, 5000], "seeds": 3, "variations": [1.2, 0.0]},
    "tiny": {"sign_mae": TINY, "pretrain_steps": 20, "limit": {"train": 48, "validation": 8, "test": 8},
             "labelled": [200], "seeds": 2, "variations": [1.2]},
}  # fmt: skip
PLAIN_ROWS = ("pretrained", "pca", "frames")  # at variation 0, where a linear code solves nearly all


def run(place: Workplace, sizes: dict) -> Result:
    rows, predictions, facts = {}, {}, {}
    for variation in sizes["variations"]:
        suffix = "" if variation else "_variation_0"
        hits, counts, facts[f"variation {variation:g}"] = of_corpus(place, sizes, variation)
        predictions[f"variation {variation:g}"] = {"sentences": counts, "right": hits}
        for row, of_sizes in hits.items():
            for size, right in of_sizes.items():
                metric = ("top1" if size == _headline(sizes) else f"top1_{size}") + suffix
                scores = 100 * np.sum(right, 1) / np.sum(counts)
                drawn = np.stack([100 * draws_of_ratio(np.array(right_of_seed, float), np.array(counts, float)) for right_of_seed in right])
                rows.setdefault(row, {})[metric] = (scores, drawn)
    rows, contrasts = over_draws(rows)
    return Result(
        what="rendered PHOENIX14T: share of held-out windows whose gloss a linear discriminant names, in per cent; no PHOENIX14T result",
        rows=rows,
        contrasts=contrasts,
        unit="held-out training sentences drawn with replacement; seeds draw the labelled windows",
        scored="once in this run; they are training sentences held out by a hash of their id, and the official dev is not touched",
        config=sizes | {"shrinkages": SHRINKAGES, "top1": f"{_headline(sizes)} labelled windows"},
        predictions=predictions,
        more={"corpora": facts},
    )


def of_corpus(place, sizes, variation):
    """-> {row: {labelled windows: (seeds, sentences) windows that are named}}, (sentences,) windows, and further facts."""
    files = corpora.rendered(place, variation, sizes["limit"])
    trained = pretrained(place, [files["train"]], [files["validation"]], sizes["sign_mae"], sizes["pretrain_steps"])
    never_trained = untrained(place, [files["train"]], sizes["sign_mae"])
    encoders_of_rows, processor = representations([trained], [never_trained], [files["train"]], sizes["sign_mae"]["hidden_size"])
    encoders_of_rows["frames"] = [("all of the window", encoders.raw_windows(WINDOW_SIZE, STRIDE))]
    windows = GlossWindows(place, files, processor)
    features_of = {row: entries[0] for row, entries in encoders_of_rows.items() if variation or row in PLAIN_ROWS}
    hits = {}
    for row, (made_of, encode) in features_of.items():
        facts = [code_version(), row, made_of, names(files.values()), sizes, SHRINKAGES]
        labelled = sizes["labelled"] + ([windows.num_labelled] if row == "frames" else [])
        right_of_sizes = place.once(
            place.path("probe", facts), lambda encode=encode, labelled=labelled: windows.named(encode, labelled, sizes["seeds"])
        )
        hits[row] = {size: right for size, right in right_of_sizes.items() if int(size) in sizes["labelled"]}
        if row == "frames":
            hits["ceiling_all_labels"] = {str(_headline(sizes)): right_of_sizes[max(right_of_sizes, key=int)][:1]}
    hits["floor_most_frequent"] = {str(_headline(sizes)): [windows.most_frequent()]}
    hits = {row: {int(size): right for size, right in right_of_sizes.items()} for row, right_of_sizes in hits.items()}
    return hits, windows.counts.tolist(), {"windows": int(windows.counts.sum()), "glosses": len(np.unique(windows.truth))}


class GlossWindows:
    """Windows of rendered sentences that show a gloss: some to learn from, some to choose a shrinkage on, and others that are scored.

    Attributes:
        counts: (sentences,) windows that are scored.
        truth: (windows,) their glosses.
    """

    def __init__(self, place, files, processor):
        states = states_of(place.data("phoenix14t_annotations", "train.parquet"))
        self.clips = {name: Clips([str(files[name])], "train", processor) for name in ("probe", "validation")}
        self.glosses = {name: window_glosses(split_clips, states, WINDOW_SIZE, STRIDE) for name, split_clips in self.clips.items()}
        self.learnt_from = np.arange(len(self.clips["probe"])) % 5 > 0  # the others' windows choose the shrinkage
        glosses = np.concatenate(self.glosses["validation"])
        sentence = np.repeat(np.arange(len(self.clips["validation"])), [len(clip_glosses) for clip_glosses in self.glosses["validation"]])
        self.truth, self.sentence = glosses[glosses >= 0], sentence[glosses >= 0]
        self.counts = self._by_sentence(np.ones(len(self.truth)))

    @property
    def num_labelled(self):
        """How many windows there are to learn from."""
        return sum(int((self.glosses["probe"][index] >= 0).sum()) for index in np.flatnonzero(self.learnt_from))

    def named(self, encode, labelled, seeds):
        """{labelled windows: (seeds, sentences) windows that are named} of the vectors that `encode` makes of clips."""
        vectors = {name: encode(split_clips) for name, split_clips in self.clips.items()}
        whitening = encoders.Whitening.fit(vectors["probe"])
        windows = {name: whitening(split_vectors).arrays for name, split_vectors in vectors.items()}
        split = {
            "train": _labelled(windows["probe"], self.glosses["probe"], self.learnt_from),
            "tune": _labelled(windows["probe"], self.glosses["probe"], ~self.learnt_from),
            "test": _labelled(windows["validation"], self.glosses["validation"]),
        }
        right_of_sizes = {}
        for size in labelled:
            right = [probe(split, min(size, len(split["train"][0])), seed) for seed in range(seeds)]
            right_of_sizes[size] = [self._by_sentence(named).tolist() for named in right]
        return right_of_sizes

    def most_frequent(self):
        """(sentences,) windows that are named by the gloss that most windows show."""
        seen = np.concatenate(self.glosses["probe"])
        return self._by_sentence(self.truth == np.bincount(seen[seen >= 0]).argmax()).tolist()

    def _by_sentence(self, right):
        return np.bincount(self.sentence, right, minlength=len(self.clips["validation"]))


def _headline(sizes):
    return HEADLINE if HEADLINE in sizes["labelled"] else sizes["labelled"][0]


def _labelled(windows, glosses, chosen=None):
    """(N, D) windows of the chosen clips that show a gloss, and the (N,) glosses."""
    chosen = range(len(windows)) if chosen is None else np.flatnonzero(chosen)
    features, labels = np.concatenate([windows[index] for index in chosen]), np.concatenate([glosses[index] for index in chosen])
    return features[labels >= 0].astype(np.float64), labels[labels >= 0]


def probe(split: dict[str, tuple[np.ndarray, np.ndarray]], size: int, seed: int) -> np.ndarray:
    """(N,) bool: which test windows a discriminant names that learnt from `size` windows of `train`; `tune` chooses its shrinkage."""
    (train, labels), (tune, true), (test, truth) = split["train"], split["tune"], split["test"]
    chosen = np.random.default_rng(seed).permutation(len(train))[:size]
    discriminant = Discriminant(train[chosen], labels[chosen])
    best = max(SHRINKAGES, key=lambda shrinkage: (discriminant.answer(tune, shrinkage) == true).mean())
    return discriminant.answer(test, best) == truth


class Discriminant:
    """A linear discriminant: (N, F) features and their (N,) labels; the covariance is that within labels, shrunk to the identity."""

    def __init__(self, features: np.ndarray, labels: np.ndarray):
        self.names, index = np.unique(labels, return_inverse=True)
        counts = np.bincount(index)
        self.means = np.zeros((len(self.names), features.shape[1]))
        np.add.at(self.means, index, features)
        self.means /= counts[:, None]
        self.variances, self.axes = encoders.principal_axes(features - self.means[index])  # once for all shrinkages
        self.prior = np.log(counts / len(features))

    def answer(self, features: np.ndarray, shrinkage: float) -> np.ndarray:
        """(M, F) -> (M,) labels."""
        along = self.axes.T @ self.means.T  # (R, labels); beyond these axes there is the shrinkage alone
        weights = self.axes @ (along / (self.variances + shrinkage)[:, None] - along / shrinkage) + self.means.T / shrinkage  # (F, labels)
        return self.names[(features @ weights + self.prior - 0.5 * (self.means.T * weights).sum(0)).argmax(1)]


def states_of(*annotations: Path) -> dict[str, list[int]]:
    """{id: (T,) sign states} of Parquet files with frame alignments."""
    states = {}
    for path in annotations:
        columns = pq.read_table(path, columns=["id", "sign_state"])
        states |= dict(zip(columns["id"].to_pylist(), columns["sign_state"].to_pylist()))
    return states


def window_glosses(clips: Clips, states: dict[str, list[int]], window_size: int, stride: int) -> list[np.ndarray]:
    """Of each clip (S,): the number of the gloss that fills more than half of each window; -1 where none does."""
    glosses = []
    for index, name in enumerate(clips.ids):
        state = np.array(states[name])
        gloss = np.where(state > 0, (state - 1) // 3, -1)
        length = max(int(clips.num_frames[index]), window_size)
        gloss = np.pad(gloss, (0, max(0, length - len(gloss))), constant_values=-1)[:length]
        answers = []
        for window in np.lib.stride_tricks.sliding_window_view(gloss, window_size)[::stride]:
            values, counts = np.unique(window, return_counts=True)
            answers.append(values[counts.argmax()] if counts.max() > window_size / 2 else -1)
        glosses.append(np.array(answers))
    return glosses
