"""Scores a checkpoint so that the numbers can be compared: every variant with its signature, floors beside the system.

    python -m train.evaluate_checkpoint --task sign-to-text --checkpoint DIR --datasets D --split test --train_datasets D
    python -m train.evaluate_checkpoint --task text-to-sign --checkpoint DIR --datasets D --train_datasets D --judges DIR --sign_mae DIR
    python -m train.evaluate_checkpoint --task sign-recognition --checkpoint DIR --datasets D --train_datasets D
    python -m train.evaluate_checkpoint --checkpoint DIR --datasets D --dtype int8    # or bfloat16: what a cheaper form costs
    python -m train.evaluate_checkpoint --robustness --task sign-to-text --checkpoint DIR --datasets D
    python -m train.evaluate_checkpoint --compare A/predictions.jsonl B/predictions.jsonl

Writes `scores.json` and `predictions.jsonl`, for text-to-sign `generated.parquet` in its place, for sign-recognition `confusion.svg` too,
into --output_dir (by default `evaluation-SPLIT` in the checkpoint, with --dtype `evaluation-SPLIT-DTYPE`) and prints one table. With
--robustness it scores the clips under noise, lost hands and the like instead, and writes the table into the checkpoint's `report.json`,
from where it goes into the model card.
"""

from train.engine.commands import CommandParser

DTYPES = ("float32", "bfloat16", "int8")


def parse(argv=None):
    parser = CommandParser(__doc__)
    parser.add_argument(
        "--task", choices=["sign-to-text", "text-to-sign", "sign-recognition"], default="sign-to-text", help="by default sign-to-text"
    )
    parser.add_argument("--checkpoint", help="a folder that train_sign_to_text.py wrote, or a Hub id")
    parser.add_argument("--datasets", nargs="+", help="folders or Hub ids of canonical rows")
    parser.add_argument("--split", default="test", help="of the datasets; by default test")
    parser.add_argument("--train_datasets", nargs="+", help="what it was trained on, for the floors and the share of seen sentences")
    parser.add_argument("--train_split", default="train", help="of the train_datasets; by default train")
    parser.add_argument("--sign_mae", help="for the floor of latents beside a frame-level model; for the oracle latents of text-to-sign")
    parser.add_argument("--judges", help="a folder that train_judges.py wrote; the judge that selects is left out")
    parser.add_argument("--shared_encoder", help="a segment-level SignToText on the same SignMAE: its score is marked, and is no judge's")
    parser.add_argument("--seam_frames", type=int, help="of text-to-sign, see TextToSign.generate")
    parser.add_argument("--temperature", type=float, help="of a text-to-sign that samples, the same")
    parser.add_argument("--guidance", type=float, help="the same")
    parser.add_argument("--seed", type=int, default=0, help="of its samples; by default 0")
    parser.add_argument("--best_of", type=int, help="also score the best of so many samples by the judge that selects")
    parser.add_argument("--output_dir", help="of scores and predictions; by default evaluation-SPLIT in the checkpoint")
    parser.add_argument("--final_dot", choices=["keep", "strip", "add"], default="keep", help="of a text's last dot, before scoring")
    parser.add_argument("--num_beams", type=int, help="by default the checkpoint's")
    parser.add_argument("--max_new_tokens", type=int, help="by default the checkpoint's")
    parser.add_argument("--batch_size", type=int, default=32, help="clips that are read together; by default 32")
    parser.add_argument("--device", default=None, help="by default a GPU, where there is one")
    parser.add_argument("--dtype", choices=DTYPES, help="what the model computes in; by default as it was saved. int8 is for a CPU")
    parser.add_argument("--cache_dir", help="where processed frames and latents are kept; by default in the cache of datasets")
    parser.add_argument("--bleurt_checkpoint", help="a folder; BLEURT is scored only with it")
    parser.add_argument("--robustness", action="store_true", help="score the clips with noise, lost hands, half the frame rate, ...")
    parser.add_argument("--compare", nargs=2, metavar="PREDICTIONS", help="two predictions.jsonl on the same clips: a paired test")
    arguments = parser.parse_args(argv)
    if not arguments.compare and not (arguments.checkpoint and arguments.datasets):
        parser.error("give --checkpoint and --datasets, or --compare A B")
    if arguments.dtype == "bfloat16" and arguments.task == "text-to-sign":
        parser.error("--dtype bfloat16 scores what reads keypoints: give --task sign-to-text or sign-recognition, or --dtype int8")
    if arguments.robustness and arguments.task == "text-to-sign":
        parser.error("--robustness scores what reads keypoints: give --task sign-to-text or sign-recognition")
    if arguments.task == "text-to-sign" and not (arguments.judges and arguments.train_datasets and arguments.sign_mae):
        parser.error("text-to-sign needs --judges, --train_datasets and --sign_mae")
    return arguments


if __name__ == "__main__":
    parse()  # answers --help and mistakes before the imports that take seconds

import hashlib
import json
import sys
from pathlib import Path

import datasets
import numpy as np
from transformers.utils import logging

from datasets_scripts.schema import features
from modeling_unigloR import SignMAEEncoderModel
from train.data.clips import Clips, LabelledClips
from train.data.segments import names as data_names
from train.data.segments import specs
from train.engine.loading import check_path, load_model, load_pipeline, read_model_type
from train.engine.runs import run_script
from train.evaluation.recognition import evaluate_recognition
from train.evaluation.robustness import COLUMNS as ROBUSTNESS_COLUMNS
from train.evaluation.robustness import robustness
from train.evaluation.sign_to_text import evaluate_sign_to_text
from train.evaluation.tables import COLUMNS, RECOGNITION_COLUMNS, format_table, without_nan
from train.evaluation.text_to_sign import PANEL_COLUMNS, SYSTEM, evaluate_text_to_sign, load_readers, load_sign_mae
from train.evaluation.verdicts import difference_in_words, directions
from train.figures.confusion import draw_confusion
from train.figures.plots import save_figure
from train.metrics.recognition import paired_top1_test
from train.metrics.text import compare_files, read_pair

logger = logging.get_logger(__name__)


def main(argv=None):
    arguments = parse(sys.argv[1:] if argv is None else argv)
    if arguments.compare:
        return compare(arguments)
    arguments.checkpoint = check_path(arguments.checkpoint, "--checkpoint")
    if not arguments.output_dir and not Path(arguments.checkpoint).is_dir():
        raise ValueError(f"--checkpoint {arguments.checkpoint!r} is no folder here, so scores cannot stand in it. Give --output_dir DIR.")
    if arguments.sign_mae:
        read_model_type(arguments.sign_mae, "--sign_mae", ["sign_mae"])  # before clips are processed
    pipe = load_pipeline(arguments.task, arguments.checkpoint, arguments.device, dtype=arguments.dtype)
    read_clips = LabelledClips if arguments.task == "sign-recognition" else Clips
    clips = read_clips(specs(arguments.datasets), arguments.split, pipe.feature_extractor, arguments.cache_dir)
    if arguments.robustness:
        return score_robustness(arguments, pipe, clips)
    train = None
    if arguments.train_datasets:
        train = read_clips(specs(arguments.train_datasets), arguments.train_split, pipe.feature_extractor, arguments.cache_dir)
    kind = "-".join(["evaluation", arguments.split, *([arguments.dtype] if arguments.dtype else [])])
    folder = Path(arguments.output_dir or Path(arguments.checkpoint) / kind)
    folder.mkdir(parents=True, exist_ok=True)
    score = {"sign-to-text": score_sign_to_text, "text-to-sign": score_text_to_sign, "sign-recognition": score_recognition}
    report = score[arguments.task](arguments, pipe, clips, train, folder)
    report |= {
        "dtype": arguments.dtype or str(pipe.model.dtype).removeprefix("torch."),
        "task": arguments.task,
        "dataset": [str(name) for name in arguments.datasets],
        "split": arguments.split,
    }
    report["ids_sha256"] = hashlib.sha256("\n".join(sorted(clips.ids)).encode()).hexdigest()[:16]
    report["processor"] = {name: getattr(pipe.feature_extractor, name) for name in ("layout", "fps", "normalize", "min_confidence")}
    _write(folder / "scores.json", json.dumps(without_nan(report), indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    print(f"\nVerdict: {' '.join(report['verdict'])}\nSignatures and all variants: {folder}")
    return report


def compare(arguments):
    """Prints two systems' scores on the same clips and the test of B - A; returns what the test found, and `names` of A and B."""
    plain = system_names(arguments.compare)
    names = [f"{letter}: {name}" for letter, name in zip("AB", plain)]
    difference = f"B - A ({plain[1]} minus {plain[0]})"
    if arguments.task == "sign-recognition":
        pair = [[row["prediction"] == row["reference"] for row in rows.values()] for rows in read_pair(*arguments.compare)]
        test = paired_top1_test(*pair)
        print(format_table({name: {"top1": 100 * np.mean(right), "num_scored": len(right)} for name, right in zip(names, pair)}, ("top1",)))
        result = f"{test['delta']:+.2f} ({test['only_b']} clips only B knows, {test['only_a']} only A)"
        print(f"\ntop1, {difference}: {result}, p = {test['p_value']:.4f} {test['signature']}")
        return test | {"names": names}
    comparison = compare_files(*arguments.compare, final_dot=arguments.final_dot)
    print(format_table(dict(zip(names, (comparison["a"], comparison["b"])))))
    test = comparison["paired"]
    interval = f"[{test['low']:+.2f}, {test['high']:+.2f}]"
    print(f"\n{test['metric']}, {difference}: {test['delta']:+.2f} {interval}, p = {test['p_value']:.4f} {test['signature']}")
    print(difference_in_words(test, *names))
    return comparison | {"names": names}


def system_names(paths):
    """What two files of predictions are called: their checkpoint's folder, with as many folders before it as tell the two apart."""
    files = [Path(path).resolve() for path in paths]
    folders = [file.parent.parent if file.parent.name.startswith("evaluation-") else file.parent for file in files]
    for places in (folders, files):  # of one checkpoint, the files themselves
        for depth in range(1, max(len(place.parts) for place in places)):
            names = ["/".join(place.parts[-depth:]) for place in places]
            if names[0] != names[1]:
                return names
    return [folder.name for folder in folders]  # the same file twice


def score_sign_to_text(arguments, pipe, clips, train, folder):
    report, predictions = evaluate_sign_to_text(
        pipe.model,
        pipe.tokenizer,
        clips,
        train,
        load_model(arguments.sign_mae, SignMAEEncoderModel, "--sign_mae").to(pipe.device) if arguments.sign_mae else None,
        final_dot=arguments.final_dot,
        num_beams=arguments.num_beams,
        max_new_tokens=arguments.max_new_tokens,
        batch_size=arguments.batch_size,
        cache_dir=arguments.cache_dir,
        bleurt_checkpoint=arguments.bleurt_checkpoint,
    )
    lines = [{"id": name, "prediction": text, "reference": truth} for name, text, truth in zip(clips.ids, predictions, clips.texts)]
    _write(folder / "predictions.jsonl", "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    print_table(report["rows"], COLUMNS)
    low, high = report["interval"]["low"], report["interval"]["high"]
    print(f"bleu4 {report['rows']['system']['bleu4']:.2f}, 95 % interval {low:.2f} to {high:.2f} over {len(clips)} clips.")
    if "share_verbatim" in report:
        print(f"{report['share_verbatim']:.1f} % of the predictions are training sentences word for word.")
    return report


def score_text_to_sign(arguments, pipe, clips, train, folder):
    if not Path(arguments.judges, "judges.json").is_file():
        raise ValueError(f"--judges {arguments.judges!r} has no judges.json. Expected a folder that train/train_judges.py finished.")
    judges = json.loads(Path(arguments.judges, "judges.json").read_text())
    reporting = [judge["seed"] for judge in judges["judges"] if judge["role"] == "report"]
    if not reporting:
        raise ValueError(f"{arguments.judges} has the judge of seed {judges['selection']} only, which selects. Train others with --seeds.")
    shared = load_readers([arguments.shared_encoder], arguments.device, "--shared_encoder")[0] if arguments.shared_encoder else None
    best_of = None
    if arguments.best_of is not None:
        selecting = Path(arguments.judges) / str(judges["selection"])
        best_of = (arguments.best_of, *load_readers([selecting], arguments.device)[0])
    sampling = {name: value for name in ("temperature", "guidance") if (value := getattr(arguments, name)) is not None}
    report, generated = evaluate_text_to_sign(
        pipe.model,
        pipe.tokenizer,
        pipe.feature_extractor,
        load_sign_mae(arguments.sign_mae, pipe.model),
        clips,
        train,
        load_readers([Path(arguments.judges) / str(seed) for seed in reporting], arguments.device),
        final_dot=arguments.final_dot,
        seam_frames=arguments.seam_frames,
        shared_encoder=shared,
        cache_dir=arguments.cache_dir,
        seed=arguments.seed,
        best_of=best_of,
        sampling=sampling,
    )
    report["judge_scores"] = {
        judge["seed"]: {name: judge[name]["bleu4"] for name in ("ground_truth", "training_clips")} for judge in judges["judges"]
    }
    presence = pipe.model.sign_mae.keypoint_presence.cpu().numpy()
    write_generated(folder / "generated.parquet", generated, clips, presence, pipe.feature_extractor)
    print_table(report["rows"], ("bleu1", "bleu4", "rouge_l", "chrf", "wer", "cer"))
    print_table(report["panel"], [name for name in PANEL_COLUMNS if name in report["panel"][SYSTEM]], decimals=3)
    if report["reader"] is not None:
        print("What the reader of glosses sees in real clips:")
        print_table(report["reader"], ("lcs_f", "gloss_wer", "gloss_f1", "order"))
    print("Lengths in segments: " + ", ".join(f"{name} {value:.3g}" for name, value in report["lengths"].items()) + "\n")
    numbers = report["latents"] | report["pose"]["predicted"] | report["motion"]["predicted"]
    width = max(map(len, numbers))
    print("\n".join(f"  {name:{width}} {value:.4g}" for name, value in numbers.items() if isinstance(value, (int, float))))
    print(directions([name for name, value in numbers.items() if isinstance(value, (int, float))]))
    return report


def score_recognition(arguments, pipe, clips, train, folder):
    report, predictions, confusion = evaluate_recognition(
        pipe.model,
        clips,
        train,
        load_model(arguments.sign_mae, SignMAEEncoderModel, "--sign_mae").to(pipe.device) if arguments.sign_mae else None,
        batch_size=arguments.batch_size,
        cache_dir=arguments.cache_dir,
    )
    names = report["labels"]
    lines = [
        {"id": name, "prediction": best[0], "reference": names[label], "predictions": best}
        for name, best, label in zip(clips.ids, predictions, clips.labels)
    ]
    _write(folder / "predictions.jsonl", "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    try:
        save_figure(draw_confusion(confusion, names), folder / "confusion.svg")
    except ImportError as error:
        logger.warning(f"confusion.svg is left out. {error}")
    print_table(report["rows"], RECOGNITION_COLUMNS)
    low, high, count = report["interval"]["low"], report["interval"]["high"], report["rows"]["system"]["num_labels"]
    print(f"top1 {report['interval']['score']:.2f}, 95 % interval {low:.2f} to {high:.2f} over {len(clips)} clips of {count} labels.")
    return report


def print_table(rows, columns, decimals=2):
    print(f"{format_table(rows, columns, decimals)}\n\n{directions(columns)}\n")


def score_robustness(arguments, pipe, clips):
    """Prints the table of `robustness`, and writes it into the checkpoint's report.json, or --output_dir's."""
    rows = robustness(arguments.task, pipe, clips, arguments.batch_size)
    columns = ROBUSTNESS_COLUMNS[arguments.task]
    print_table(rows, columns)
    path = Path(arguments.output_dir or arguments.checkpoint) / "report.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    report = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    scores = {name: {column: scores[column] for column in (*columns, "num_scored")} for name, scores in rows.items()}
    report["robustness"] = {"dataset": data_names(specs(arguments.datasets)), "split": arguments.split, "rows": scores}
    _write(path, json.dumps(without_nan(report), indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    print(f"Written into {path}")
    return report["robustness"]


def write_generated(path, generated, clips, presence, processor):
    """Writes the generated signing as canonical rows in shoulder lengths."""
    rows = [
        dict(
            id=name, keypoints=keypoints, confidence=np.tile(presence, (len(keypoints), 1)).astype(np.float32), layout=processor.layout,
            fps=processor.fps, width=None, height=None, text=text, gloss=None, label=None, signer=None, language=language or "und",
        )
        for name, keypoints, text, language in zip(clips.ids, generated, clips.texts, clips.languages)
    ]  # fmt: skip
    unfinished = path.with_name(path.name + ".unfinished")
    datasets.Dataset.from_list(rows, features=features(*generated[0].shape[1:])).to_parquet(unfinished)
    unfinished.replace(path)


def _write(path, text):
    unfinished = path.with_name(path.name + ".unfinished")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)


if __name__ == "__main__":
    run_script(main)
