"""How much of a sign is in one latent: a linear classifier of the gloss that a window shows, for several numbers of labelled windows.

    python -m experiments.gloss_probe --datasets DIR --annotations train.parquet --sign_mae trained=DIR untrained=DIR \\
        --json experiments/results/gloss-probe.json

DIR holds rendered PHOENIX14T with the splits train and validation, --annotations its frame alignments (`id`, `sign_state`: three states for
each gloss). A window counts where one gloss fills more than half of it. The classifier is a linear discriminant (one covariance for all
glosses, shrunk; the best of four shrinkages). Beside the SignMAEs stand the window's keypoints themselves and as many of their
principal components as a latent has numbers: what a SignMAE loses of them, no translator on it gets back.
"""

import json
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from transformers import AutoFeatureExtractor

from experiments.rendered_phoenix_grid import window_glosses
from modeling_unigloR import SignMAEEncoderModel
from train.data.clips import Clips, LatentStore
from train.engine.commands import CommandParser

SIZES = (1_000, 5_000, 20_000, 100_000)  # labelled windows
SHRINKAGES = (1e-3, 1e-2, 1e-1, 1.0)  # of standardised features


def parse(argv=None):
    parser = CommandParser(__doc__)
    parser.add_argument("--datasets", nargs=1, required=True, help="canonical rows: a folder or a Hub id")
    parser.add_argument("--annotations", required=True)
    parser.add_argument("--sign_mae", nargs="+", required=True, metavar="NAME=DIR", help="the first one's processor reads the clips")
    parser.add_argument("--cache_dir")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    return parser.parse_args(argv)


def main(argv=None):
    arguments = parse(argv)
    folders = dict(entry.split("=", 1) for entry in arguments.sign_mae)
    models = {name: SignMAEEncoderModel.from_pretrained(folder) for name, folder in folders.items()}
    config = next(iter(models.values())).config
    processor = AutoFeatureExtractor.from_pretrained(next(iter(folders.values())))
    clips = {split: Clips(arguments.datasets, split, processor, arguments.cache_dir) for split in ("train", "validation")}
    columns = pq.read_table(arguments.annotations, columns=["id", "sign_state"])
    states = dict(zip(columns["id"].to_pylist(), columns["sign_state"].to_pylist()))
    glosses = {split: window_glosses(some, states, config.window_size, config.stride) for split, some in clips.items()}

    windows = {split: keypoints_of_windows(some, config.window_size, config.stride) for split, some in clips.items()}
    rows = {"keypoints of the window": probe(windows, glosses, arguments.seed)}
    rows[f"{config.hidden_size} principal components of them"] = probe(components(windows, config.hidden_size), glosses, arguments.seed)
    for name, model in models.items():
        stores = {split: LatentStore.build(some, model, config.stride, arguments.cache_dir) for split, some in clips.items()}
        rows[name] = probe({split: np.array(store.latents) for split, store in stores.items()}, glosses, arguments.seed)
    result = {
        "what": "rendered PHOENIX14T: share of held-out windows whose gloss a linear discriminant names, in per cent",
        "date": time.strftime("%Y-%m-%d"),
        "windows": {split: int((some >= 0).sum()) for split, some in glosses.items()},
        "glosses": len(np.unique(glosses["train"])) - 1,
        "seed": arguments.seed,
        "rows": rows,
    }
    print(format_rows(rows))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")
    return result


def keypoints_of_windows(clips, window_size, stride):
    """(windows, W K C) float32"""
    found = []
    for index in range(len(clips)):
        keypoints = clips.keypoints(index)[0].reshape(int(clips.num_frames[index]), -1)
        found.append(
            np.lib.stride_tricks.sliding_window_view(keypoints, window_size, axis=0)[::stride].reshape(-1, keypoints[0].size * window_size)
        )
    return np.concatenate(found)


def components(windows, size):
    """The first principal components of training windows: {split: (windows, size)}."""
    mean = windows["train"].mean(0)
    directions = np.linalg.eigh(np.cov(windows["train"][::5].T))[1][:, ::-1][:, :size].astype(np.float32)
    return {split: (some - mean) @ directions for split, some in windows.items()}


def probe(features, glosses, seed):
    """{labelled windows: per cent of validation windows whose gloss is named}."""
    train, test = (features[split][glosses[split] >= 0] for split in ("train", "validation"))
    labels, truth = (glosses[split][glosses[split] >= 0] for split in ("train", "validation"))
    mean, std = train.mean(0), train.std(0) + 1e-6
    train, test = (((some - mean) / std).astype(np.float64) for some in (train, test))
    order = np.random.default_rng(seed).permutation(len(train))
    found = {}
    for size in sorted({min(size, len(train)) for size in SIZES}):
        learnt, (names, index) = train[order[:size]], np.unique(labels[order[:size]], return_inverse=True)
        counts = np.bincount(index)
        means = np.zeros((len(names), train.shape[1]))
        np.add.at(means, index, learnt)
        means /= counts[:, None]
        within = (learnt.T @ learnt - (means * counts[:, None]).T @ means) / size
        best = 0.0
        for shrinkage in SHRINKAGES:
            weights = np.linalg.solve(within + shrinkage * np.eye(len(within)), means.T)  # (F, glosses)
            bias = np.log(counts / size) - 0.5 * (means.T * weights).sum(0)
            best = max(best, float((names[(test @ weights + bias).argmax(1)] == truth).mean()))
        found[size] = round(100 * best, 1)
    return found


def format_rows(rows):
    """Markdown."""
    sizes = list(next(iter(rows.values())))
    lines = [f"| labelled windows | {' | '.join(f'{int(size):,}' for size in sizes)} |", "| --- |" + " ---: |" * len(sizes)]
    return "\n".join(lines + [f"| {name} | {' | '.join(f'{row[size]:.1f}' for size in sizes)} |" for name, row in rows.items()])


if __name__ == "__main__":
    main()
