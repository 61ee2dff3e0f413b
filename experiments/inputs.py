"""What a SignMAE reads of a frame, and a linear part beside its networks, compared on development data: no table of a task scores it.

Each variant is pretrained alike, with its untrained twin beside it, on two corpora. On rendered PHOENIX14T at variation 1.2, held-out
training sentences are scored: error (in shoulder lengths, unmasked), and the share of windows whose gloss a linear discriminant names
(see `gloss_probe`). Pretrained on the real mix, words of INCLUDE and letters of the British manual alphabet are named by a discriminant of
the mean, the spread and three thirds of a clip's vectors: sessions (or signers) of one fold by those of three others, while the fifth,
which the tables test on, is left out, in turn.
"""

from pathlib import Path

import numpy as np
from transformers import AutoFeatureExtractor

from experiments import corpora, encoders, isolated
from experiments.gloss_probe import Discriminant, GlossWindows
from experiments.include import STRIDE, WINDOW_SIZE
from experiments.intervals import draws_of_ratio, over_draws
from experiments.pretraining import OURS, PAPER, SMALL, TINY, names, pretrained, untrained
from experiments.readers import code_version
from experiments.real_mix import errors, segments_of
from experiments.results import Result
from experiments.workplace import Workplace
from modeling_unigloR import SignMAE
from train.data.clips import Clips
from train.data.segments import FrameStore, load_rows
from train.evaluation.reconstruction import reconstruct_segments

VARIANTS = {
    "paper": PAPER,
    "streams": PAPER | {"input_streams": ["position", "offset"]},
    "whitening": PAPER | {"input_whitening": 110},
    "streams_whitening": PAPER | {"input_streams": ["position", "offset"], "input_whitening": 110},
    "whitening_alone": PAPER | {"input_whitening": 110, "graph_channels": 0},
    "linear_skip": PAPER | {"linear_skip": True},
    "linear_skip_whitening_alone": OURS,
}
SHRINKAGES = (1e-2, 1e-1, 1.0, 10.0)
SIZES = {
    "small": {"sign_mae": SMALL, "pretrain_steps": 800, "seeds": 1, "folds": 5, "limit": None,
              "sentences": {"train": 1600, "validation": 266, "test": 519}, "labelled": [1000, 20000]},
    "tiny": {"sign_mae": TINY, "pretrain_steps": 10, "seeds": 1, "folds": 3, "limit": 2,
             "sentences": {"train": 32, "validation": 6, "test": 6}, "labelled": [200]},
}  # fmt: skip


def run(place: Workplace, sizes: dict) -> Result:
    rows, predictions = {}, {}
    for seed in range(sizes["seeds"]):
        for name, fields in VARIANTS.items():
            for row, scored in scores_of_variant(place, sizes, sizes["sign_mae"] | fields, seed).items():
                row = name if row == "pretrained" else f"{row}_{name}"
                predictions.setdefault(row, []).append(scored)
    components = scores_of_components(place, sizes)
    predictions["pca"] = [components]
    for row, of_seeds in predictions.items():
        rows[row] = {metric: _drawn([scored[metric] for scored in of_seeds]) for metric in of_seeds[0]}
    compared = [(name, other) for name in VARIANTS for other in ("paper", f"untrained_{name}", "pca") if other != name]
    rows, contrasts = over_draws(rows, compared)
    return Result(
        what="development data: what a SignMAE reads, and a linear part beside its networks",
        rows=rows,
        contrasts=contrasts,
        unit="sentences, recording sessions (include) and signers (bsl) drawn with replacement, means over seeds",
        scored="as often as variants were compared: these are development data",
        config=sizes | {"variants": VARIANTS, "shrinkages": SHRINKAGES},
        predictions=predictions,
    )


def scores_of_variant(place, sizes, fields, seed):
    """{row: {metric: [parts, counts] of the units}} of the pretrained and the untrained model."""
    rendered = corpora.rendered(place, 1.2, sizes["sentences"])
    mix = corpora.training_files(corpora.real_mix(place, sizes["limit"] and 12))
    scores = {"pretrained": {}, "untrained": {}}
    for datasets, score in (([rendered["train"]], score_rendered), (mix, score_real)):
        folders = {
            "pretrained": pretrained(place, datasets, [], fields, sizes["pretrain_steps"], seed),
            "untrained": untrained(place, datasets, fields, seed),
        }
        for row, folder in folders.items():

            def make(folder=folder, score=score):
                return score(place, sizes, encoders.latents(folder, STRIDE), folder)

            scores[row] |= place.once(place.path(f"inputs-{score.__name__}", code_version(), folder.name, sizes), make)
    return scores


def scores_of_components(place, sizes):
    """As of a variant, of the principal components of windows."""
    rendered = corpora.rendered(place, 1.2, sizes["sentences"])
    mix = corpora.training_files(corpora.real_mix(place, sizes["limit"] and 12))
    folder = untrained(place, mix, sizes["sign_mae"] | VARIANTS["paper"])  # for its processor
    scores = {}
    for files, score in (([rendered["train"]], score_rendered), (mix, score_real)):
        clips = Clips([str(path) for path in files], "train", AutoFeatureExtractor.from_pretrained(folder), needs=None)
        size = sizes["sign_mae"]["hidden_size"]

        def make(clips=clips, score=score, size=size):
            return score(place, sizes, encoders.PrincipalComponents.fit(clips, size, WINDOW_SIZE, STRIDE), folder)

        scores |= place.once(place.path(f"inputs-{score.__name__}", code_version(), "pca", names(files), size, sizes), make)
    return scores


def score_rendered(place, sizes, encode, folder):
    """Errors and named glosses of held-out training sentences: {metric: [parts, counts]}, each of all sentences."""
    files = corpora.rendered(place, 1.2, sizes["sentences"])
    processor = AutoFeatureExtractor.from_pretrained(folder)
    windows = GlossWindows(place, files, processor)
    named = windows.named(encode, sizes["labelled"], seeds=1)
    scores = {f"top1_{size}": [100 * np.array(right[0], float), windows.counts] for size, right in named.items()}
    model = SignMAE.from_pretrained(folder).eval()
    if isinstance(encode, encoders.PrincipalComponents):
        give_back = encode.given_back
    else:

        def give_back(segments):
            return reconstruct_segments(model, segments)

    store = FrameStore.build(load_rows(str(files["validation"]), "validation"), processor, description="held-out sentences")
    of_clips = [
        errors(give_back(segments), segments, mask, processor.layout) for _, segments, mask in segments_of(store, model.keypoint_presence)
    ]
    for metric in ("mpjpe", "mpjpe_hands", "hand_shape"):
        scores[metric] = np.array([clip[metric] for clip in of_clips]).T
    return {metric: np.asarray(values).tolist() for metric, values in scores.items()}


def score_real(place, sizes, encode, folder):
    """Words of INCLUDE and letters that are named, inside training folds: {metric: [parts, counts]}, each of sessions or signers."""
    processor = AutoFeatureExtractor.from_pretrained(folder)
    scores = {}
    for name, make_folds in (("include", corpora.include_folds), ("bsl", corpora.bsl_folds)):
        data, _, unit_of, _ = make_folds(place, sizes["folds"], sizes["limit"])
        scores[name] = _named_inside(data, sizes["folds"], unit_of, encode, processor)
    return scores


def _named_inside(data: Path, num_folds, unit_of, encode, processor):
    parts = {file.stem: isolated.clips_of([file], processor) for file in isolated.parts(data)}
    vectors = {name: encode(clips) for name, clips in parts.items()}
    everything = encoders.Vectors(vectors[name][index] for name in parts for index in range(len(parts[name])))
    whitening = encoders.Whitening.fit(everything)
    features = {name: _of_clips(whitening(vectors[name])) for name in parts}
    spread = np.concatenate(list(features.values())).std(0) + 1e-6
    units = sorted(set(unit_of.values()))
    right, counts = {shrinkage: np.zeros(len(units)) for shrinkage in SHRINKAGES}, np.zeros(len(units))
    for tested_on in range(num_folds):  # never read
        for fold in set(range(num_folds)) - {tested_on}:
            learnt_from = [name for name in parts if name not in (f"fold-{fold}", f"fold-{tested_on}")]
            scale = 10 / spread / features[learnt_from[0]].shape[1] ** 0.5
            discriminant = Discriminant(
                np.concatenate([features[name] * scale for name in learnt_from]).astype(np.float64),
                np.concatenate([parts[name].labels for name in learnt_from]),
            )
            clips = parts[f"fold-{fold}"]
            unit = np.array([units.index(unit_of[id]) for id in clips.ids])
            np.add.at(counts, unit, 1)
            for shrinkage in SHRINKAGES:
                answers = discriminant.answer((features[f"fold-{fold}"] * scale).astype(np.float64), shrinkage)
                np.add.at(right[shrinkage], unit, answers == clips.labels)
    best = max(right.values(), key=np.sum)  # development data: every row takes its best
    return [(100 * best).tolist(), counts.tolist()]


def _of_clips(vectors):
    """(clips, 5 D): mean, spread and three thirds of each clip's vectors."""
    features = []
    for index in range(len(vectors)):
        clip = vectors[index]
        thirds = [part.mean(0) if len(part) else clip.mean(0) for part in np.array_split(clip, 3)]
        features.append(np.concatenate([clip.mean(0), clip.std(0), *thirds]))
    return np.stack(features)


def _drawn(of_seeds):
    """Scores (S,), and (S, R) on resampled units, of [parts, counts] of each seed."""
    arrays = [np.array(parts_and_counts, float) for parts_and_counts in of_seeds]
    return np.array([parts.sum() / max(counts.sum(), 1) for parts, counts in arrays]), np.stack(
        [draws_of_ratio(parts, np.maximum(counts, 1e-9)) for parts, counts in arrays]
    )
