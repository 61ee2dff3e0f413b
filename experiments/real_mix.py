"""SignMAE pretrained on a mix of real keypoints of seven kinds, from five estimators: error of each kind beside its floors.

    python -m experiments.real_mix --data_dir DIR --output_dir OUT --json experiments/results/real-mix.json
    python -m experiments.real_mix ... --leave_out include --output_dir OUT2     # the SignMAE that experiments.include starts from

DIR holds the folders named in `SETS`. Everything is brought to `uniglor73` and 25 frames a second, in one data set of a `train` and a
`validation` split. Held out are a document of the DGS sentences (another signer), a fifth of INCLUDE in whole recording sessions, the test
sentences of PHOENIX14T, every fifth webcam take, a tenth of the lexicon; one sentence of How2Sign and one `.pose` file are trained on
only. The error is measured unmasked, in shoulder lengths, over points that were seen.
"""

import csv
import hashlib
import json
import time
from pathlib import Path

import datasets
import numpy as np
from transformers import AutoFeatureExtractor

from datasets_scripts.schema import FEATURES, check_row
from experiments.dgs_sentences import TEST_DOCUMENT
from experiments.include import folds_of, groups_of, labels_of, words
from modeling_unigloR import SignMAE, map_layout, read_keypoints
from modeling_unigloR.keypoint_readers_uniglor import clip_from_array, read_skels
from train import pretrain
from train.data.segments import FrameStore, consecutive_segments, load_rows
from train.engine.commands import CommandParser
from train.evaluation.reconstruction import reconstruction_report

SMALL = {
    "hidden_size": 256, "num_hidden_layers": 2, "decoder_num_hidden_layers": 2, "num_attention_heads": 8, "intermediate_size": 512,
    "graph_channels": 16, "relation_channels": 4, "temporal_branch_channels": 4, "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0, "segments_per_clip": 8, "per_device_train_batch_size": 64, "learning_rate": "1e-3",
    "lr_scheduler_kwargs": "{min_lr_rate: 0.02}", "eval_strategy": "no", "save_strategy": "no", "use_cpu": True,
}  # fmt: skip
BANK_CLIPS = 500
COLUMNS = ("mpjpe", "mpjpe_body", "mpjpe_hands", "motion_ratio", "border_jump", "mean_pose", "static", "nearest_segment")


def parse(argv=None):
    parser = CommandParser(__doc__)
    parser.add_argument("--data_dir", type=Path, required=True)
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--leave_out", nargs="*", default=[], choices=list(SETS))
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(argv)


def main(argv=None):
    arguments = parse(argv)
    data, sign_mae = arguments.output_dir / "data", arguments.output_dir / "sign-mae"
    names = [name for name in SETS if name not in arguments.leave_out]
    if not data.exists():
        write_rows(arguments.data_dir, names, data)
    if not (sign_mae / "report.json").exists():
        fields = SMALL | {"max_steps": arguments.steps, "seed": arguments.seed, "output_dir": sign_mae, "datasets": data}
        fields["overwrite_output_dir"] = True  # what a killed run left
        pretrain.main(["paper.yaml", *words(fields), "--validation", str(data), "--cache_dir", str(arguments.output_dir / "frames")])
    result = {
        "what": "one SignMAE on real keypoints of several kinds; error on held-out clips of each, unmasked, in shoulder lengths",
        "date": time.strftime("%Y-%m-%d"),
        "arguments": {"steps": arguments.steps, "seed": arguments.seed, "leave_out": arguments.leave_out, **SMALL},
        "all": json.loads((sign_mae / "report.json").read_text()),
        "sets": score(sign_mae, data, names, arguments.output_dir / "frames"),
    }
    print(format_rows(result["sets"]))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")
    return result


# --- Sets: name -> (id, split, KeypointClip) of every clip ---------------------------------------------------------------------------


def dgs_sentences(folder):
    for line in read_csv(folder / "sentences.csv"):
        split = "validation" if line["document"] == TEST_DOCUMENT else "train"
        yield line["id"], split, read_keypoints(folder / "motion" / f"{line['id']}.npz", width=16, height=9, fps=float(line["fps"]))


def include(folder):
    lines = read_csv(folder / "labels.csv")
    folds = folds_of(groups_of(lines, "sessions"), labels_of(lines)[0], 5)
    for line, fold in zip(lines, folds):
        yield Path(line["path"]).stem, "validation" if fold == 0 else "train", read_keypoints(folder / line["path"], width=16, height=9)


def phoenix14t_skels(folder):
    for part in ("train", "dev", "test"):
        for number, clip in enumerate(read_skels(folder / f"{part}.skels", fps=25.0)):
            yield f"{part}-{number}", "validation" if part == "test" else "train", clip


def asl_webcam(folder):
    for path in sorted(folder.glob("*.npz")):
        for take, points in enumerate(np.load(path)["keypoints"]):
            yield f"{path.stem}-{take}", "validation" if take % 5 == 4 else "train", clip_from_array(points, width=4, height=3)


def lexicon(folder):
    for path in sorted((folder / "npz").glob("*.npz")):
        tenth = int(hashlib.sha256(path.stem.encode()).hexdigest(), 16) % 10 == 0
        yield path.stem, "validation" if tenth else "train", read_keypoints(path)


def how2sign(folder):
    for path in sorted((folder / "json").iterdir()):
        yield path.name, "train", read_keypoints(path, fps=24.0)


def dgs_pose_file(folder):
    for path in sorted((folder / "train").glob("*.pose")):
        yield path.stem, "train", read_keypoints(path)


SETS = {  # name: (folder, language, its clips)
    "dgs_sentences": ("dgs_sentences", "gsg", dgs_sentences),
    "include": ("include43", "ins", include),
    "phoenix14t_skels": ("phoenix14t_skels", "gsg", phoenix14t_skels),
    "asl_webcam": ("asl_webcam10", "ase", asl_webcam),
    "lexicon": ("lexicon_unlabelled", "und", lexicon),
    "how2sign": ("how2sign_openpose", "ase", how2sign),
    "dgs_pose_file": ("dgs_pose_files", "gsg", dgs_pose_file),
}


def read_csv(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def write_rows(data_dir, names, folder):
    """One data set in `folder`, and beside it, in `folder`-by-set, the held-out clips of each set by themselves."""
    rows = {"train": [], "validation": []}
    for name in names:
        place, language, clips = SETS[name]
        for id, split, clip in clips(data_dir / place):
            mapped = map_layout(clip.in_pixels(), "uniglor73")
            mapped.keypoints = np.nan_to_num(mapped.keypoints[..., :2])
            rows[split].append(check_row(mapped.row(f"{name}/{id}", language)))
    by_set = folder.with_name(folder.name + "-by-set")
    unfinished = folder.with_name(folder.name + "-unfinished")
    for path in (by_set, unfinished):
        path.mkdir(parents=True, exist_ok=True)
    for split, some in rows.items():
        datasets.Dataset.from_list(some, features=FEATURES).to_parquet(unfinished / f"{split}.parquet")
    for name in names:
        some = [row for row in rows["validation"] if row["id"].startswith(f"{name}/")]
        if some:
            datasets.Dataset.from_list(some, features=FEATURES).to_parquet(by_set / f"{name}.parquet")
    unfinished.rename(folder)


# --- Table -----------------------------------------------------------------------------------------------------------------------------


def score(sign_mae, data, names, cache_dir):
    """{set: errors, motion, floors} on held-out clips."""
    model, processor = SignMAE.from_pretrained(sign_mae).eval(), AutoFeatureExtractor.from_pretrained(sign_mae)
    window_size = model.config.window_size
    train = FrameStore.build(load_rows(str(data), "train"), processor, cache_dir, "training clips")
    bank = pretrain.segment_bank([train], window_size, BANK_CLIPS)
    found = {}
    for name in names:
        path = data.with_name(data.name + "-by-set") / f"{name}.parquet"
        if not path.exists():
            continue
        store = FrameStore.build(load_rows(str(path), "train"), processor, cache_dir, name)
        validation = consecutive_segments(store, window_size)
        found[name] = {
            "clips": len(store.lengths),
            "segments": len(validation[0]),
            **{key: value for key, value in reconstruction_report(model, *validation).items() if np.isscalar(value)},
            **pretrain.floors(model, [train], validation, bank),
        }
    return found


def format_rows(rows):
    """Markdown."""
    lines = [f"| set | clips, segments | {' | '.join(COLUMNS)} |", "| --- |" + " ---: |" * (1 + len(COLUMNS))]
    for name, row in rows.items():
        values = " | ".join(f"{row[column]:.3f}" if column in row else "" for column in COLUMNS)
        lines.append(f"| {name} | {row['clips']}, {row['segments']} | {values} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
