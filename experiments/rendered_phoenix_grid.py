"""Runs a grid of trainings, resumable, and writes its table: segments against frames, and whether pretraining helps at all.

    python -m experiments.rendered_phoenix_grid sign-to-text --datasets DIR --sign_mae DIR --untrained_sign_mae DIR --output_dir OUT
    python -m experiments.rendered_phoenix_grid sign-to-text ... --collect experiments/results/phoenix-rendered-sign-to-text.json

The systems read the same clips with the same text model for the same number of steps, each with the same learning rates and seeds;
the learning rate is chosen on `validation`, and `test` is scored once, with the chosen one. `--part i/n` runs every n-th run, so that
n processes share the grid. DIR holds canonical Parquet with splits train, validation and test.

Two ceilings read the corpus' own glosses, each a vector of its own: one the sequence of glosses, one the gloss that fills most of each of
SignMAE's windows. That is what this text model makes of perfect recognition, without and with windows in between.

An untrained SignMAE is one that train/pretrain.py gave statistics but no step: `--learning_rate 0 --max_steps 1`.
"""

import hashlib
import json
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from transformers import pipeline

import modeling_unigloR  # noqa: F401  registers models and pipelines
from modeling_unigloR import SignMAEEncoderModel
from train import train_sign_to_text
from train.data.clips import Clips
from train.engine.commands import CommandParser
from train.engine.loading import load_model
from train.evaluation.sign_to_text import evaluate_sign_to_text
from train.evaluation.tables import COLUMNS, format_table
from train.metrics.text import paired_test

CONFIG = "phoenix_rendered.yaml"
CEILING = "ceiling: true glosses"
WINDOW_CEILING = "ceiling: true gloss of each window"


def systems(arguments):
    """{name: what train_sign_to_text.py is told}."""
    segments = ["--sign_encoder", "segments", "--sign_mae"]
    return {
        "segments": [*segments, arguments.sign_mae],
        "frames": ["--sign_encoder", "frames"],
        "every 7th frame": ["--sign_encoder", "frames", "--frame_stride", "7"],
        "segments of an untrained SignMAE": [*segments, arguments.untrained_sign_mae],
        CEILING: [*segments, arguments.sign_mae],
        **({WINDOW_CEILING: [*segments, arguments.sign_mae]} if arguments.annotations else {}),
    }


class GlossVectors:
    """What the ceilings read of each clip, in place of a `LatentStore`: a random vector (D,) for each gloss, always the same one.

    Args:
        lines: of each clip a list of its glosses, in their order or window by window.
        size: D.
    """

    def __init__(self, lines, size):
        self.lines, self.size = lines, size

    def __len__(self):
        return len(self.lines)

    def __getitem__(self, index):
        rngs = (np.random.default_rng(zlib.crc32(str(gloss).encode())) for gloss in self.lines[index])
        return np.stack([rng.standard_normal(self.size, dtype=np.float32) for rng in rngs])

    @property
    def lengths(self):
        return np.array(list(map(len, self.lines)))


class TrueGlosses:
    """The glosses that the corpus says a clip has."""

    def build(self, clips, sign_mae, *_):
        lines = [(line or "").split() for line in clips.glosses]
        without = sum(not line for line in lines)
        if without:
            raise ValueError(f"{without} of {len(clips)} clips have no gloss, which the ceiling reads. Leave it out: --systems.")
        return GlossVectors(lines, sign_mae.config.hidden_size)


class GlossesOfWindows:
    """The gloss that fills most of each of SignMAE's windows, or none, by the corpus' alignments: Parquet with `id` and `sign_state`."""

    def __init__(self, annotations):
        tables = [pq.read_table(path, columns=["id", "sign_state"]) for path in annotations]
        self.states = {name: states for table in tables for name, states in zip(*(table[key].to_pylist() for key in table.column_names))}

    def build(self, clips, sign_mae, *_):
        config = sign_mae.config
        found = window_glosses(clips, self.states, config.window_size, config.stride)
        bounds = np.cumsum([sign_mae.num_segments(int(length)) for length in clips.num_frames])
        return GlossVectors(np.split(found, bounds[:-1]), config.hidden_size)


def window_glosses(clips, states, window_size, stride):
    """(windows,) number of the gloss that fills more than half of each window of `Clips`; -1 where none does."""
    found = []
    for index, name in enumerate(clips.ids):
        state = np.array(states[name])
        gloss = np.where(state > 0, (state - 1) // 3, -1)
        length = max(int(clips.num_frames[index]), window_size)
        gloss = np.pad(gloss, (0, max(0, length - len(gloss))), constant_values=-1)[:length]
        for window in np.lib.stride_tricks.sliding_window_view(gloss, window_size)[::stride]:
            values, counts = np.unique(window, return_counts=True)
            found.append(values[counts.argmax()] if counts.max() > window_size / 2 else -1)
    return np.array(found)


def ceiling(arguments, name):
    """What builds the vectors of a ceiling; None of a system."""
    if name == CEILING:
        return TrueGlosses()
    return GlossesOfWindows(arguments.annotations) if name == WINDOW_CEILING else None


def parse(argv=None):
    parser = CommandParser(__doc__)
    parser.add_argument("task", choices=["sign-to-text"])
    parser.add_argument("--datasets", nargs=1, required=True, help="canonical rows: a folder or a Hub id")
    parser.add_argument("--sign_mae", required=True)
    parser.add_argument("--untrained_sign_mae", required=True)
    parser.add_argument("--output_dir", required=True)
    parser.add_argument("--config", default=CONFIG)
    parser.add_argument("--learning_rates", nargs="+", default=["5e-4", "1e-3", "2e-3"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--systems", nargs="+", metavar="NAME", help="by default all")
    parser.add_argument("--annotations", nargs="+", metavar="PARQUET", help="frame alignments of all splits, for one of the ceilings")
    parser.add_argument("--part", default="0/1", metavar="I/N")
    parser.add_argument("--collect", metavar="JSON", help="score the test split with the chosen learning rates, and write the table")
    return parser.parse_args(argv)


def main(argv=None):
    arguments = parse(argv)
    runs = [
        (name, rate, seed)
        for seed in arguments.seeds
        for rate in arguments.learning_rates
        for name in arguments.systems or systems(arguments)
    ]  # a whole table of the first seed comes first
    if arguments.collect:
        return collect(arguments, runs)
    part, parts = map(int, arguments.part.split("/"))
    for number, run in enumerate(runs):
        if number % parts == part:
            train(arguments, *run)


def folder_of(arguments, name, rate, seed):
    return Path(arguments.output_dir) / f"{name.replace(': ', '-').replace(' ', '-')}_{rate}_{seed}"


def train(arguments, name, rate, seed):
    """One run in a process of its own, resumed where it was stopped; nothing where it is done."""
    folder = folder_of(arguments, name, rate, seed)
    if (folder / "run.json").exists():
        return
    print(f"{name}, learning rate {rate}, seed {seed}", flush=True)
    start = time.time()
    told = [
        arguments.config, *systems(arguments)[name], "--datasets", *arguments.datasets, "--validation", *arguments.datasets,
        "--output_dir", str(folder), "--learning_rate", rate, "--seed", str(seed),
        "--cache_dir", str(Path(arguments.output_dir) / "frames"), "--resume_from_checkpoint", "true",
    ]  # fmt: skip
    if (vectors := ceiling(arguments, name)) is not None:
        train_sign_to_text.main(told, latent_store=vectors)
    else:
        subprocess.run([sys.executable, "-m", "train.train_sign_to_text", *told], check=True)
    report = json.loads((folder / "report.json").read_text())
    run = {"system": name, "learning_rate": rate, "seed": seed, "seconds": round(time.time() - start), **report}
    (folder / "run.json").write_text(json.dumps(run, indent=2) + "\n")


def collect(arguments, runs):
    """The table of the runs that are done: every system with the learning rate that was best on `validation`."""
    done = {run: json.loads(path.read_text()) for run in runs if (path := folder_of(arguments, *run) / "run.json").exists()}
    sign_mae = load_model(arguments.sign_mae, SignMAEEncoderModel, "--sign_mae")
    cache_dir, rows, clips, predictions = Path(arguments.output_dir) / "frames", {}, {}, {}
    systems_done = {name: {} for name, _, _ in done}
    for (name, rate, _), report in done.items():
        systems_done[name].setdefault(rate, []).append(report["validation"]["eval_bleu4"])
    for name, rates in systems_done.items():
        most = max(map(len, rates.values()))
        best = max((rate for rate in rates if len(rates[rate]) == most), key=lambda rate: np.mean(rates[rate]))
        reports = []
        for seed in arguments.seeds:
            run = (name, best, seed)
            if run not in done:
                continue
            path = folder_of(arguments, *run) / "test.json"
            pipe = pipeline("sign-to-text", model=str(path.parent), device="cpu")
            if not clips:
                clips = {split: Clips(arguments.datasets, split, pipe.feature_extractor, cache_dir) for split in ("train", "test")}
            if not path.exists():
                vectors = ceiling(arguments, name)
                inputs = vectors.build(clips["test"], sign_mae) if vectors else None
                report, texts = evaluate_sign_to_text(
                    pipe.model, pipe.tokenizer, clips["test"], clips["train"], sign_mae, cache_dir=cache_dir, inputs=inputs
                )
                path.write_text(json.dumps({"report": report, "predictions": texts}, ensure_ascii=False) + "\n")
            found = json.loads(path.read_text())
            reports.append(found["report"])
            predictions.setdefault(name, []).append(found["predictions"])
        scores = [report["rows"]["system"] for report in reports]
        rows[name] = {
            "learning_rate": best,
            "validation_bleu4": {rate: [round(value, 3) for value in values] for rate, values in rates.items()},
            "seeds": len(scores),
            "seconds": [done[run]["seconds"] for run in done if run[0] == name and run[1] == best],
            **{column: float(np.mean([score[column] for score in scores])) for column in COLUMNS},
            "std": {column: float(np.std([score[column] for score in scores], ddof=len(scores) > 1)) for column in COLUMNS},
            "intervals": [report["interval"] for report in reports],
            "share_verbatim": [report["share_verbatim"] for report in reports],
            "num_scored": reports[0]["num_scored"],
        }
        floors = {floor: value for floor, value in reports[0]["rows"].items() if floor.startswith("floor")}
    tests = {}
    for name in predictions:
        if name != "segments" and "segments" in predictions:
            tests[f"segments against {name}"] = [
                paired_test(other, ours, clips["test"].texts) for ours, other in zip(predictions["segments"], predictions[name])
            ]
    result = {
        "what": "sign-to-text on rendered PHOENIX14T: real sentences and timing, procedural motion; no PHOENIX14T result",
        "selection": "learning rate by BLEU-4 on training sentences held out by a hash of their id; test is the official dev, scored once",
        "config": Path("train/configs", arguments.config).read_text(),
        "ids_sha256": hashlib.sha256("\n".join(sorted(clips["test"].ids)).encode()).hexdigest()[:16],
        "date": time.strftime("%Y-%m-%d"),
        "rows": rows,
        "floors": floors,
        "paired_tests": tests,
    }
    Path(arguments.collect).write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    print(format_table(rows | floors))
    return result


if __name__ == "__main__":
    main()
