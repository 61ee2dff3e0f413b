"""Measures how well a checkpoint's `distance` tells clips unlike its training data from clips like it: the area under the ROC curve.

    python -m experiments.abstention --checkpoint DIR --datasets IN --split validation --others dgs=DIR fingerspelling=DIR [--json FILE]

DIR is a SignToText or SignRecognition whose training kept distances. The clips of --datasets are compared with --others, and with the same
clips changed as `evaluate_checkpoint --robustness` changes them, and by noise five times as strong. 0.5 is chance, 1 tells all apart.
The second column is the share of clips whose text `abstain=True` withholds; of the clips as they are, those are withheld in vain.
"""

import json
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import torch

from modeling_unigloR.pipelines_uniglor import ABSTAIN_ABOVE
from train.data.clips import Clips
from train.data.segments import specs
from train.engine.commands import CommandParser
from train.engine.loading import load_pipeline
from train.evaluation import robustness
from train.evaluation.tables import format_table, without_nan

STRONG_NOISE = 0.1  # shoulder lengths


def parse(argv=None):
    parser = CommandParser(__doc__)
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--task", choices=["sign-to-text", "sign-recognition"], default="sign-to-text")
    parser.add_argument("--datasets", nargs="+", required=True, help="clips like those of the training, that it did not see")
    parser.add_argument("--split", default="validation")
    parser.add_argument("--others", nargs="*", default=[], metavar="NAME=DIR", help="other corpora, canonical rows; their split is train")
    parser.add_argument("--cache_dir")
    parser.add_argument("--json", type=Path)
    return parser.parse_args(argv)


def main(argv=None):
    arguments = parse(argv)
    pipe = load_pipeline(arguments.task, arguments.checkpoint, "cpu")
    clips = Clips(specs(arguments.datasets), arguments.split, pipe.feature_extractor, arguments.cache_dir, needs=None)
    known_distances = measure(pipe, clips)
    rows = {"as they are": row(known_distances, known_distances)}
    changes = dict(list(robustness.CHANGES.items())[1:]) | {f"noise of {STRONG_NOISE}": partial(robustness.with_noise, size=STRONG_NOISE)}
    for name, change in changes.items():
        with tempfile.TemporaryDirectory() as folder:
            robustness.write_changed(Path(folder) / "clips.parquet", clips, change, pipe.feature_extractor)
            changed_clips = Clips([str(Path(folder) / "clips.parquet")], "train", pipe.feature_extractor, folder, needs=None)
            rows[name] = row(known_distances, measure(pipe, changed_clips))
            del changed_clips
    for entry in arguments.others:
        name, path = entry.split("=", 1)
        rows[name] = row(known_distances, measure(pipe, Clips([path], "train", pipe.feature_extractor, arguments.cache_dir, needs=None)))
    print(format_table(rows, ("auc", "withheld")))
    if arguments.json:
        arguments.json.write_text(json.dumps(without_nan(rows), indent=2) + "\n")
    return rows


@torch.no_grad()
def measure(pipe, clips: Clips) -> np.ndarray:
    """(clips, 2): the distance of every clip, and its percentile."""
    distances = []
    for index in range(len(clips)):
        latents, latent_mask = pipe.model.encode_sequence(torch.from_numpy(clips.keypoints(index)[0])[None])
        distances.append([float(of(latents, latent_mask)) for of in (pipe.model.latent_distance, pipe.model.distance_percentile)])
    return np.array(distances)


def row(known_distances: np.ndarray, other_distances: np.ndarray) -> dict[str, float]:
    """`auc`: how often one of the others has a larger distance than a known clip. `withheld`: share of the others, in per cent."""
    difference = other_distances[:, :1] - known_distances[:, 0]
    auc = ((difference > 0) + (difference == 0) / 2).mean()
    return {"auc": float(auc), "withheld": float(100 * (other_distances[:, 1] > ABSTAIN_ABOVE).mean()), "num_scored": len(other_distances)}


if __name__ == "__main__":
    main()
