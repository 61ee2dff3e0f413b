"""Isolated words of INCLUDE (Indian Sign Language): recognition on words and recordings that the SignMAE never saw.

    python -m experiments.include --data_dir DIR --sign_mae DIR --output_dir OUT --json experiments/results/include.json
    ... --steps 600 --learning_rate 5e-4            # what it does not know itself goes to train/train_recognition.py

DIR holds `labels.csv` (path, label, session) and `.npy` files (T, 75, 3): Holistic's body and hands, relative to a 16:9 image, NaN where
nothing was seen. --sign_mae is a SignMAE that was pretrained without INCLUDE.

Takes that follow each other are near-copies, and neighbouring sessions may be one recording: so five folds of whole groups. A group
is a run of neighbouring session numbers, over all words (--groups sessions) or of each word by itself (--groups words). A word that
was recorded in one group only cannot be tested: its clips are always trained on, as distractors, and never scored.

Every system is trained on four folds for a fixed number of steps, with no selection, and tested on the fifth:
segments on the given SignMAE (the headline); on an untrained one of the same config (whether pretraining helped); on one that went on
pretraining on all these clips, without labels, test clips among them (transductive: no honest score); frames, without a SignMAE; and
two floors that learn class means only. Runs that are done are not done again.
"""

import csv
import hashlib
import json
import time
from pathlib import Path

import datasets
import numpy as np
import pyarrow.parquet
from transformers import AutoFeatureExtractor, AutoModel

from datasets_scripts.schema import features
from modeling_unigloR import SignMAEConfig, SignMAEEncoderModel
from train import pretrain, train_recognition
from train.data.clips import LabelledClips
from train.engine.arguments import declared_fields
from train.engine.commands import CommandParser
from train.evaluation.recognition import mean_latents, recognise
from train.figures.confusion import draw_confusion
from train.figures.plots import save_figure
from train.metrics.recognition import confusion_matrix, nearest_class_mean, recognition_scores, top1_interval

FPS = 25.0
NUM_RESAMPLED = 16  # frames of each clip that the keypoint floor compares
HEADLINE = "segments"
SMALL = {
    "hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 256, "hidden_dropout_prob": 0.3,
    "label_smoothing": 0.1, "per_device_train_batch_size": 32, "learning_rate": "1e-3", "lr_scheduler_kwargs": "{min_lr_rate: 0.02}",
}  # fmt: skip


def parse(argv=None):
    """-> arguments, and the words that go to train/train_recognition.py."""
    parser = CommandParser(__doc__)
    parser.add_argument("--data_dir", type=Path, required=True)
    parser.add_argument("--sign_mae", required=True, help="a folder that train/pretrain.py wrote, without INCLUDE")
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--groups", choices=["sessions", "words"], default="sessions")
    parser.add_argument("--num_folds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=300, help="of every recogniser")
    parser.add_argument("--pretrain_steps", type=int, default=300, help="that the transductive SignMAE goes on")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_known_args(argv)


def main(argv=None):
    arguments, more = parse(argv)
    with open(arguments.data_dir / "labels.csv", encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    labels, names = labels_of(lines)
    folds = folds_of(groups_of(lines, arguments.groups), labels, arguments.num_folds)
    data = write_rows(arguments, lines, labels, folds)
    sign_maes = {
        HEADLINE: arguments.sign_mae,
        "segments, untrained SignMAE": untrained_sign_mae(arguments, data),
        "segments, SignMAE that saw these clips (transductive)": transductive_sign_mae(arguments, data),
    }
    answers = {name: cross_validate(arguments, data, more, ["--sign_mae", folder]) for name, folder in sign_maes.items()}
    answers["frames"] = cross_validate(arguments, data, more, ["--sign_encoder", "frames", "--sign_mae", arguments.sign_mae])
    answers |= class_means(arguments, data)
    result = report(arguments, more, lines, folds, labels, names, answers)
    print(format_rows(result["rows"]))
    scored = np.flatnonzero(folds >= 0)
    matrix = confusion_matrix(logits_of(answers[HEADLINE], lines, scored, len(names)), labels[scored])
    save_figure(draw_confusion(matrix, names), arguments.output_dir / "confusion.svg")
    write_predictions(arguments.output_dir / "predictions.jsonl", lines, folds, names, answers)
    print(f"\nPredictions, and confusions of the first row: {arguments.output_dir}")
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")
    return result


# --- Folds ------------------------------------------------------------------------------------------------------------------------


def id_of(line):
    return Path(line["path"]).stem


def labels_of(lines):
    """(clips,) number of each clip's word in alphabetical order, and the words."""
    names = sorted({line["label"] for line in lines})
    return np.array([names.index(line["label"]) for line in lines]), names


def blocks(sessions):
    """{session: number of its run of neighbouring sessions}."""
    ordered = sorted(set(sessions))
    return dict(zip(ordered, np.cumsum([0, *(later - earlier > 1 for earlier, later in zip(ordered, ordered[1:]))]).tolist()))


def groups_of(lines, kind):
    """(clips,) number of each clip's group, see the module."""
    keys = [("" if kind == "sessions" else line["label"], int(line["session"])) for line in lines]
    runs = {word: blocks(session for other, session in keys if other == word) for word, _ in keys}
    named = [(word, runs[word][session]) for word, session in keys]
    numbers = {key: number for number, key in enumerate(sorted(set(named)))}
    return np.array([numbers[key] for key in named])


def folds_of(groups, labels, num_folds):
    """(clips,) fold that tests each clip: whole groups, the largest first into the smallest fold; -1 is never tested.

    Raises:
        ValueError: fewer groups than folds.
    """
    groups_of_label = [set(groups[labels == label]) for label in range(labels.max() + 1)]
    testable = np.array([len(groups_of_label[label]) > 1 for label in labels])
    found, sizes = np.unique(groups[testable], return_counts=True)
    if len(found) < num_folds:
        raise ValueError(f"Found {len(found)} groups of clips that can be tested, expected at least num_folds={num_folds}. Lower it.")
    folds, filled = np.full(len(groups), -1), np.zeros(num_folds)
    for index in np.argsort(-sizes, kind="stable"):
        smallest = filled.argmin()
        folds[testable & (groups == found[index])] = smallest
        filled[smallest] += sizes[index]
    for fold in range(num_folds):  # two groups of a word may have come into one fold
        lost = set(labels[folds == fold]) - set(labels[folds != fold])
        folds[(folds == fold) & np.isin(labels, list(lost))] = -1
    return folds


def folder_of(arguments, kind, *facts):
    """Named by what it is made of, so that another setting never finds it."""
    return arguments.output_dir / f"{kind}-{hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:8]}"


def write_rows(arguments, lines, labels, folds):
    """fold-0.parquet ... and always-trained.parquet in the canonical schema; returns their folder, one for each way of splitting."""
    folder = folder_of(arguments, "data", [line["path"] for line in lines], folds.tolist())
    if folder.exists():
        return folder
    unfinished = folder.with_name(folder.name + "-unfinished")
    unfinished.mkdir(parents=True, exist_ok=True)
    for fold in sorted(set(folds.tolist())):
        rows = []
        for index in np.flatnonzero(folds == fold):
            keypoints = np.load(arguments.data_dir / lines[index]["path"]).astype(np.float32)
            seen = np.isfinite(keypoints).all(-1)
            rows.append(
                dict(
                    id=id_of(lines[index]), keypoints=np.where(seen[..., None], keypoints, 0), confidence=seen.astype(np.float32),
                    layout="mediapipe75", fps=FPS, width=16, height=9, text=None, gloss=lines[index]["label"], label=int(labels[index]),
                    signer=None, language="ins",
                )
            )  # fmt: skip
        name = "always-trained" if fold < 0 else f"fold-{fold}"
        datasets.Dataset.from_list(rows, features=features(75, 3)).to_parquet(unfinished / f"{name}.parquet")
    unfinished.rename(folder)
    return folder


# --- Systems ----------------------------------------------------------------------------------------------------------------------


def untrained_sign_mae(arguments, data):
    """A SignMAE of the same config that no step has trained; only its norms' statistics and its latents' are those of these clips."""
    folder = folder_of(arguments, "sign-mae-untrained", arguments.sign_mae, arguments.seed)
    if not (folder / "report.json").exists():
        pretrain_on(arguments, data, folder, steps=1, learning_rate=0, **fields_of(SignMAEConfig.from_pretrained(arguments.sign_mae)))
    return str(folder)


def transductive_sign_mae(arguments, data):
    """The given SignMAE, pretrained further on all clips, those of the tests among them."""
    folder = folder_of(arguments, "sign-mae-transductive", arguments.sign_mae, arguments.pretrain_steps, arguments.seed)
    if not (folder / "report.json").exists():
        pretrain_on(arguments, data, folder, arguments.pretrain_steps, learning_rate=5e-4, init_from=arguments.sign_mae)
    return str(folder)


def pretrain_on(arguments, data, folder, steps, learning_rate, **fields):
    fields |= fields_of(AutoFeatureExtractor.from_pretrained(arguments.sign_mae))
    fields |= {"output_dir": folder, "max_steps": steps, "learning_rate": learning_rate, "seed": arguments.seed}
    fields |= {"save_strategy": "no", "overwrite_output_dir": True, "validation": "[]", "cache_dir": arguments.output_dir / "frames"}
    num_clips = sum(pyarrow.parquet.read_metadata(path).num_rows for path in parts(data))
    fields |= {"per_device_train_batch_size": min(64, num_clips)}  # paper.yaml's, of a small try all of its clips
    pretrain.main(["paper.yaml", *words(fields), "--datasets", *parts(data)])


def fields_of(made):
    """What made a config or a processor, as words of a command line."""
    return {name: json.dumps(getattr(made, name)) for name in declared_fields(type(made))}


def cross_validate(arguments, data, more, options):
    """{id: logits} of a recogniser for every clip that is tested, each by the model that was trained without its fold."""
    fields = SMALL | {"max_steps": arguments.steps, "seed": arguments.seed, "cache_dir": arguments.output_dir / "frames"}
    told = [*words(fields), "--validation", "[]", "--save_strategy", "no", *options, *more]
    run = folder_of(arguments, "run", data.name, told)
    found = {}
    for fold in range(arguments.num_folds):
        folder = run / f"fold-{fold}"
        if not (folder / "logits.npz").exists():
            train_recognition.main([*told, "--output_dir", str(folder), "--overwrite_output_dir", "--datasets", *parts(data, fold)])
            clips = clips_of(arguments, [data / f"fold-{fold}.parquet"])
            logits = recognise(AutoModel.from_pretrained(folder), clips, cache_dir=arguments.output_dir / "frames")
            np.savez(folder / "unfinished.npz", ids=clips.ids, logits=logits)
            (folder / "unfinished.npz").rename(folder / "logits.npz")
        stored = np.load(folder / "logits.npz")
        found |= dict(zip(stored["ids"].tolist(), stored["logits"]))
    return found


def class_means(arguments, data):
    """{system: {id: logits}} of the floors that learn class means only."""
    found = {"nearest class mean of mean latents": {}, "nearest class mean of keypoints": {}}
    sign_mae = SignMAEEncoderModel.from_pretrained(arguments.sign_mae)
    for fold in range(arguments.num_folds):
        train, test = clips_of(arguments, parts(data, fold)), clips_of(arguments, [data / f"fold-{fold}.parquet"])
        latents, keypoints = (
            [features_of(some) for some in (train, test)]
            for features_of in (lambda clips: mean_latents(clips, sign_mae, arguments.output_dir / "frames"), resampled_keypoints)
        )
        for name, (learnt, tested) in zip(found, (latents, keypoints)):
            found[name] |= dict(zip(test.ids, nearest_class_mean(learnt, train.labels, tested, int(train.labels.max()) + 1)))
    return found


def resampled_keypoints(clips):
    """(clips, frames x K x C)"""
    return np.stack([resample_frames(clips.keypoints(index)[0], NUM_RESAMPLED).ravel() for index in range(len(clips))])


def resample_frames(keypoints, num_frames):
    """(T, K, C) at `num_frames` times from the first frame to the last, by straight lines."""
    times = np.linspace(0, len(keypoints) - 1, num_frames)
    before = np.floor(times).astype(int)
    after = np.minimum(before + 1, len(keypoints) - 1)
    share = (times - before)[:, None, None]
    return (1 - share) * keypoints[before] + share * keypoints[after]


def clips_of(arguments, paths):
    processor = AutoFeatureExtractor.from_pretrained(arguments.sign_mae)
    return LabelledClips([str(path) for path in paths], "train", processor, arguments.output_dir / "frames")


def parts(data, left_out=None):
    """Parquet files of all clips, but for those of one fold."""
    return [str(path) for path in sorted(data.glob("*.parquet")) if path.stem != f"fold-{left_out}"]


def words(fields):
    return [word for name, value in fields.items() for word in (f"--{name}", str(value))]


# --- Table ------------------------------------------------------------------------------------------------------------------------


def report(arguments, more, lines, folds, labels, names, answers):
    """What is kept of a run; clips that no system can read are scored, as wrong."""
    scored = np.flatnonzero(folds >= 0)
    takes = groups_of(lines, "words")[scored]  # near-copies are drawn together, however the folds were made
    rows = {}
    for name, found in answers.items():
        logits = logits_of(found, lines, scored, len(names))
        rows[name] = recognition_scores(logits, labels[scored]) | {
            "interval": top1_interval(logits, labels[scored], takes),
            "top1_of_folds": [recognition_scores(logits[some], labels[scored][some])["top1"] for some in folds_in(folds[scored])],
        }
    kept = ("groups", "num_folds", "steps", "pretrain_steps", "seed")
    return {
        "what": "INCLUDE, 43 words of its official training part; tested on recordings that the recogniser has not seen",
        "date": time.strftime("%Y-%m-%d"),
        "arguments": {name: getattr(arguments, name) for name in kept} | {"sign_mae": Path(arguments.sign_mae).name, "more": more},
        "clips": len(lines),
        "scored": {"clips": len(scored), "words": len(set(labels[scored])), "of_folds": [len(some) for some in folds_in(folds[scored])]},
        "never_scored": [name for label, name in enumerate(names) if label not in labels[scored]],
        "ids_sha256": hashlib.sha256("\n".join(sorted(id_of(lines[index]) for index in scored)).encode()).hexdigest()[:16],
        "rows": rows,
    }


def logits_of(found, lines, scored, num_labels):
    """(clips, L); of a clip without an answer all are equal, which counts as wrong."""
    return np.stack([found.get(id_of(lines[index]), np.zeros(num_labels)) for index in scored])


def folds_in(folds):
    return [np.flatnonzero(folds == fold) for fold in range(folds.max() + 1)]


def write_predictions(path, lines, folds, names, answers):
    """One line for each clip: what it is, and what every system takes it for."""
    scored = np.flatnonzero(folds >= 0)
    best = {name: logits_of(found, lines, scored, len(names)).argmax(1) for name, found in answers.items()}
    with open(path, "w", encoding="utf-8") as file:
        for place, index in enumerate(scored):
            taken = {name: names[labels[place]] for name, labels in best.items()}
            line = {"id": id_of(lines[index]), "fold": int(folds[index]), "reference": lines[index]["label"], "predictions": taken}
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


def format_rows(rows):
    """Markdown."""
    lines = ["| system | top-1 | 95 % | top-5 | top-10 | top-1 by word | clips |", "| --- |" + " ---: |" * 6]
    for name, row in rows.items():
        interval = f"{row['interval']['low']:.1f} to {row['interval']['high']:.1f}"
        values = f"{row['top1']:.1f} | {interval} | {row['top5']:.1f} | {row['top10']:.1f} | {row['top1_class']:.1f} | {row['num_scored']}"
        lines.append(f"| {name} | {values} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
