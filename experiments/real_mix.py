"""One SignMAE on real keypoints of several kinds: how well it reconstructs clips of each, compared with a linear code of the same size.

The SignMAE is that of `include`. It has not seen INCLUDE, so all clips of INCLUDE are scored as a corpus that is new to it.
"""

import numpy as np
import torch
from transformers import AutoFeatureExtractor

from experiments import encoders
from experiments.include import SIZES as INCLUDE_SIZES
from experiments.include import STRIDE, WINDOW_SIZE, trained_on_the_mix
from experiments.intervals import draws_of_ratio, over_draws
from experiments.pretraining import untrained
from experiments.results import Result
from experiments.workplace import Workplace
from modeling_unigloR import SignMAE
from train.data.clips import Clips
from train.data.segments import FrameStore, load_rows
from train.evaluation.reconstruction import reconstruct_segments
from train.metrics import reconstruction
from train.pretrain import mean_pose, segment_bank

BANK_CLIPS = 500
OF_INCLUDE = ("sign_mae", "pretrain_steps", "pretrain_seeds", "seeds", "limit")
SIZES = {scale: {name: sizes[name] for name in OF_INCLUDE} for scale, sizes in INCLUDE_SIZES.items()}
METRICS = ("mpjpe", "mpjpe_body", "mpjpe_hands", "hand_shape")


def run(place: Workplace, sizes: dict) -> Result:
    mix, training, folders = trained_on_the_mix(place, sizes)
    processor = AutoFeatureExtractor.from_pretrained(folders[0])
    models = [SignMAE.from_pretrained(folder).eval() for folder in folders]
    never_trained = SignMAE.from_pretrained(untrained(place, training, sizes["sign_mae"])).eval()
    clips = Clips([str(path) for path in training], "train", processor, needs=None)
    components = encoders.PrincipalComponents.fit(clips, sizes["sign_mae"]["hidden_size"], WINDOW_SIZE, STRIDE)
    bank = segment_bank(clips.stores, WINDOW_SIZE, BANK_CLIPS)
    mean = torch.from_numpy(mean_pose(clips.stores))
    ways = {  # for each seed, a function: segments (N, W, K, C), mask -> reconstructed segments
        "pretrained": [lambda segments, mask, model=model: reconstruct_segments(model, segments) for model in models],
        "untrained": [lambda segments, mask: reconstruct_segments(never_trained, segments)],
        "pca": [lambda segments, mask: components.given_back(segments)],
        "every_nth_frame": [lambda segments, mask: segments[:, WINDOW_SIZE // 2 :][:, :1].expand_as(segments)],
        "floor_mean_pose": [lambda segments, mask: mean.expand_as(segments)],
        "floor_static_pose": [lambda segments, mask: reconstruction.best_static_pose(segments, mask).expand_as(segments)],
        "floor_nearest_segment": [lambda segments, mask: reconstruction.nearest_segments(segments, mask, bank)],
    }
    sums = {row: [{metric: [] for metric in METRICS} for _ in made] for row, made in ways.items()}
    sets, ids = {}, []
    for name, files in mix.items():
        if "validation" not in files:
            continue
        store = FrameStore.build(load_rows(str(files["validation"]), "validation"), processor, description=name)
        first = len(ids)
        for id, segments, mask in segments_of(store, models[0].keypoint_presence):
            ids.append(id)
            for row, made in ways.items():
                for seed, way in enumerate(made):
                    for metric, values in errors(way(segments, mask), segments, mask, processor.layout).items():
                        sums[row][seed][metric].append(values)
        sets[name] = {"clips": len(ids) - first, "rows": {}}
        for row, of_seeds in sums.items():
            means = [{metric: _ratio(values[first:]) for metric, values in seed_sums.items()} for seed_sums in of_seeds]
            sets[name]["rows"][row] = {metric: float(np.mean([seed_means[metric] for seed_means in means])) for metric in METRICS}
    drawn = {
        row: {
            metric: (
                np.array([_ratio(seed_sums[metric]) for seed_sums in of_seeds]),
                np.stack([draws_of_ratio(*np.array(seed_sums[metric]).T) for seed_sums in of_seeds]),
            )
            for metric in METRICS
        }
        for row, of_seeds in sums.items()
    }
    rows, contrasts = over_draws(drawn)
    return Result(
        what="one SignMAE on real keypoints of several kinds; error on held-out clips, unmasked, in shoulder lengths",
        rows=rows,
        contrasts=contrasts,
        unit="clips drawn with replacement, means over the seeds of the SignMAE",
        scored="once in this run",
        config=sizes,
        predictions={"ids": ids, "error_and_points": sums},
        more={"sets": sets},
    )


def segments_of(store, presence):
    """Of each clip its id, whole windows laid end to end (S, W, K, C), and (S, W, K) which points are scored."""
    for index, id in enumerate(store.ids):
        count = int(store.lengths[index]) // WINDOW_SIZE
        if count:
            span = slice(store.offsets[index], store.offsets[index] + count * WINDOW_SIZE)
            keypoints = torch.from_numpy(np.array(store.keypoints[span])).unflatten(0, (count, WINDOW_SIZE))
            mask = torch.from_numpy(np.array(store.keypoint_mask[span])).unflatten(0, (count, WINDOW_SIZE))
            yield str(id), keypoints, mask.float() * presence


def errors(given_back, segments, mask, layout):
    """{metric: (sum of distances, points)}; a part without points has two zeros."""
    sums = reconstruction.error_sums(given_back, segments, mask, layout)
    return {metric: tuple(map(float, sums[f"mpjpe_{metric}" if metric == "hand_shape" else metric])) for metric in METRICS}


def _ratio(values):
    total, count = np.array(values).sum(0)
    return float(total / max(count, 1))
