"""Fixed pose weights of a corpus: what the adaptive ones (paper section 3.3) are on average, as lines for a pretraining config.

    python -m train.pose_weights --datasets DIR [--split train] [--processor outputs/sign-mae]

Prints YAML that train/pretrain.py takes, and as comments how far segments differ in it and how much of the variance each part has. The
paper found 1, 1.17 and 1.18 on its corpora (section 6).
"""

from train.engine.commands import CommandParser


def parse(argv=None):
    parser = CommandParser(__doc__)
    parser.add_argument("--datasets", nargs=1, required=True, help="canonical rows: a folder, a .parquet file or a Hub id")
    parser.add_argument("--split", default="train", help="of the data set; by default train")
    parser.add_argument("--processor", metavar="DIR", help="a saved KeypointProcessor, such as a checkpoint's; by default a new one")
    parser.add_argument("--window_size", type=int, help="frames in a segment; by default as a SignMAE has them")
    parser.add_argument("--weight_variance", choices=("pooled", "temporal", "moving"), help="by default as a SignMAE has it")
    parser.add_argument("--cache_dir", help="where processed frames are kept; by default in the cache of datasets")
    return parser.parse_args(argv)


if __name__ == "__main__":
    parse()  # answers --help and mistakes before the imports that take seconds


import torch

from modeling_unigloR import KeypointProcessor, SignMAEConfig, keypoint_weights, part_variances
from modeling_unigloR.keypoints_uniglor import get_layout
from train.data.segments import FrameStore, consecutive_segments, describe, load_rows, specs
from train.engine.loading import load_processor
from train.engine.runs import run_script

PARTS = {"body": ("body",), "face": ("face",), "hand": ("left_hand", "right_hand")}


def main(argv=None):
    arguments = parse(argv)
    processor = load_processor(arguments.processor, "--processor") if arguments.processor else KeypointProcessor()
    (dataset,) = specs(arguments.datasets)
    store = FrameStore.build(load_rows(dataset, arguments.split), processor, arguments.cache_dir, describe(dataset))
    chosen = {name: value for name in ("window_size", "weight_variance") if (value := getattr(arguments, name)) is not None}
    config = SignMAEConfig(layout=processor.layout, num_channels=processor.num_channels, **chosen)
    statistics = mean_weights(*consecutive_segments(store, config.window_size)[:2], config)
    print(f"# {statistics['num_segments']} segments of {config.window_size} frames: {describe(dataset)}, {arguments.split}")
    print("keypoint_weighting: fixed")
    for part, share in statistics["variance_shares"].items():
        weight, spread, seen = (statistics[name][part] for name in ("weights", "deviations", "seen"))
        print(f"fixed_{part}_weight: {weight:.3f}  # +- {spread:.2f}, {share:.1%} of the variance, seen in {seen:.1%} of the segments")
    return statistics


def mean_weights(keypoints, keypoint_mask, config, batch_size=1024):
    """The adaptive weight of each part, on average over the segments that show it.

    Args:
        keypoints: (N, W, K, C) in shoulder lengths.
        keypoint_mask: (N, W, K), 1 where the point was seen.
        config: a `SignMAEConfig` with keypoint_weighting="adaptive"; its layout and weight_variance are read.

    Returns:
        dict: `num_segments`; and by part (body, face, hand) `weights`, 1.0 where no segment shows it, and their `deviations` between
        segments; `variance_shares`, of the mean variances of the three; `seen`, the share of segments that show it.
    """
    spans = get_layout(config.layout).parts
    weights, squares, counts, variances = (torch.zeros(len(PARTS), dtype=torch.double) for _ in range(4))
    for batch, mask in zip(keypoints.split(batch_size), keypoint_mask.split(batch_size)):
        per_keypoint = keypoint_weights(batch, mask, config)[:, 0]  # (N, K)
        seen = torch.stack([torch.stack([mask[:, :, spans[part]].bool().any((1, 2)) for part in parts]).any(0) for parts in PARTS.values()])
        part_weights = torch.stack([per_keypoint[:, spans[parts[0]].start] for parts in PARTS.values()])  # (3, N)
        weights += (part_weights.double() * seen).sum(1)
        squares += (part_weights.double().square() * seen).sum(1)
        counts += seen.sum(1)
        variances += part_variances(batch, mask, config.layout, config.weight_variance).double().sum(0)
    means = torch.where(counts > 0, weights / counts.clamp_min(1), torch.ones_like(weights))
    deviations = torch.where(counts > 0, squares / counts.clamp_min(1) - means.square(), 0).clamp_min(0).sqrt()
    shares = variances / variances.sum().clamp_min(1e-12)
    return {
        "num_segments": len(keypoints),
        **{
            name: dict(zip(PARTS, values.tolist()))
            for name, values in (
                ("weights", means),
                ("deviations", deviations),
                ("variance_shares", shares),
                ("seen", counts / len(keypoints)),
            )  # fmt: skip
        },
    }


if __name__ == "__main__":
    run_script(main)
