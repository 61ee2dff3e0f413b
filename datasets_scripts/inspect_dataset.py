"""What is in a data set, before anything is trained on it: counts, missing points, duplicates, and a few clips to watch.

    python -m datasets_scripts.inspect_dataset phoenix14t
    python -m datasets_scripts.inspect_dataset user/my-rows --output_dir report

DATASET is a folder of canonical rows, a .parquet file, or a Hub id. OUTPUT_DIR gets inspection.json and report.html, one file that
loads nothing else. Every clip is read once, as the models will see it: through `KeypointProcessor`, at its own frame rate.

Shapes: T frames of a clip, K keypoints of the model's layout.
"""

# ruff: noqa: E402 (--help and mistakes are answered before the imports that take seconds)

import argparse
from pathlib import Path

from .commands import CommandParser, local_or_hub, output_folder, parse_early, print_written, run_command


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = CommandParser(__doc__, prog="python -m datasets_scripts.inspect_dataset")
    parser.add_argument("dataset", metavar="DATASET", help="a folder of rows, a .parquet file, or a Hub id")
    parser.add_argument("--output_dir", help="for inspection.json and report.html; by default <name>-inspection here")
    parser.add_argument("--layout", default="uniglor73", help="the model's layout in which clips are judged")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of clips to watch")
    return parser.parse_args(argv)


def checked(argv: list[str] | None = None) -> argparse.Namespace:
    """The arguments of a command line, after a look at its paths."""
    arguments = parse(argv)
    arguments.dataset = local_or_hub(arguments.dataset, "data set")
    arguments.output_dir = arguments.output_dir and output_folder(arguments.output_dir)
    return arguments


if __name__ == "__main__":
    parse_early(checked)

import collections
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

import datasets
import numpy as np
from tqdm import tqdm

from modeling_unigloR.configuration_uniglor import SignMAEConfig
from modeling_unigloR.keypoint_processing_uniglor import KeypointProcessor, ProcessedClip
from modeling_unigloR.keypoints_uniglor import get_layout, point_index
from modeling_unigloR.limits_uniglor import brief
from modeling_unigloR.player_uniglor import player_html

from .schema import Row
from .whole import write_json, write_whole

Facts = dict[str, Any]  # of a split, as inspection.json holds them

WORD = re.compile(r"\w+(?:['’\-]\w+)*")
CLIPS_SHOWN = 3  # of each split
REPORT = "report.html"
ALWAYS_SHOWN = ("clips with hands in swapped slots", "frames that jump", "unusable clips")  # in the table of the report, even if 0
SEGMENT = SignMAEConfig().window_size  # frames; training leaves out shorter clips


class Shown(NamedTuple):
    """A clip of the report's players."""

    name: str
    clip: ProcessedClip
    text: str


def words_of(text: str) -> list[str]:
    """Lower-case words without punctuation. A text without spaces between its words counts as one word."""
    return WORD.findall(text.lower())


class SplitInspector:
    """Collects the facts of one split, clip by clip; memory grows by a few numbers per clip.

    Args:
        name: of the split.
        processor: a `KeypointProcessor` that does not resample.
        rng: chooses the clips that are shown.
    """

    def __init__(self, name: str, processor: KeypointProcessor, rng: np.random.Generator) -> None:
        self.name, self.processor, self.rng = name, processor, rng
        self.frames: list[int] = []
        self.seconds: list[float] = []
        self.text_lengths: list[int] = []
        self.fps: collections.Counter[float | None] = collections.Counter()
        self.layouts: collections.Counter[str] = collections.Counter()
        self.languages: collections.Counter[str] = collections.Counter()
        self.signers: collections.Counter[str] = collections.Counter()
        self.labels: collections.Counter[int] = collections.Counter()
        self.words: collections.Counter[str] = collections.Counter()
        self.ids: collections.Counter[str] = collections.Counter()
        self.texts: dict[str, list[str]] = {}  # words of a text -> ids of its clips
        self.hashes: dict[str, list[str]] = {}  # of a clip's content -> ids
        self.missing: dict[str, list[float]] = {part: [] for part in get_layout(processor.layout).parts}
        self.jumps: list[Facts] = []
        self.reach: list[Facts] = []
        self.unusable: list[Facts] = []
        self.short: list[str] = []
        self.swapped: list[str] = []
        self.shown: list[Shown] = []

    def add(self, row: Row) -> None:
        """Adds a canonical row, whose arrays are NumPy arrays."""
        name = str(row["id"])
        self.ids[name] += 1
        keypoints, confidence = np.asarray(row["keypoints"]), np.asarray(row["confidence"])
        fps = None if row["fps"] is None or np.isnan(row["fps"]) else round(float(row["fps"]), 3)
        self.frames.append(len(keypoints))
        self.seconds.append(len(keypoints) / fps if fps else np.nan)
        self.fps[fps] += 1
        self.layouts[row["layout"]] += 1
        self.languages[row["language"]] += 1
        if row["text"] is not None:
            words = words_of(row["text"])
            self.words.update(words)
            self.text_lengths.append(len(words))
            self.texts.setdefault(" ".join(words), []).append(name)
        if row["label"] is not None and not np.isnan(row["label"]):
            self.labels[int(row["label"])] += 1
        if row["signer"] is not None:
            self.signers[row["signer"]] += 1
        seen = np.where(confidence[..., None] > 0, keypoints, 0)  # points that were not seen may have any coordinates
        digest = hashlib.sha256(np.ascontiguousarray(seen).tobytes()).hexdigest()
        self.hashes.setdefault(digest, []).append(name)
        try:
            clip = self.processor.process_row(row)
        except ValueError as error:
            self.unusable.append({"id": name, "reason": str(error)})
            return
        if len(clip.keypoints) < SEGMENT:
            self.short.append(name)
        for part, span in get_layout(self.processor.layout).parts.items():
            self.missing[part].append(1 - clip.keypoint_mask[:, span].mean())
        if len(clip.kept_frames) < len(keypoints):
            self.jumps.append({"id": name, "frames": len(keypoints) - len(clip.kept_frames)})
        if clip.hands_swapped:
            self.swapped.append(name)
        self._note_reach(name, clip)
        self._show(name, clip, row["text"] or row["gloss"] or "")

    def _note_reach(self, name: str, clip: ProcessedClip) -> None:
        """Collects clips whose hands are far from their wrists, as they are when points have another order than expected."""
        index = point_index(self.processor.layout)
        distances = []
        for side in ("left", "right"):
            root, wrist = index[f"{side}_hand_root"], index[f"{side}_wrist"]
            both = clip.keypoint_mask[:, root] & clip.keypoint_mask[:, wrist]
            if both.any():
                distances.append(np.median(np.linalg.norm(clip.keypoints[both, root] - clip.keypoints[both, wrist], axis=-1)))
        if distances and max(distances) > 1:  # shoulder lengths
            self.reach.append({"id": name, "shoulder_lengths": round(float(max(distances)), 2)})

    def _show(self, name: str, clip: ProcessedClip, text: str) -> None:
        """Keeps a few clips; every clip has the same chance, whatever their number."""
        seen = len(self.frames) - len(self.unusable)
        place = len(self.shown) if len(self.shown) < CLIPS_SHOWN else int(self.rng.integers(seen))
        if place < CLIPS_SHOWN:
            self.shown[place : place + 1] = [Shown(name, clip, text)]

    def facts(self, train: "SplitInspector | None" = None) -> Facts:
        """The facts of the split as plain numbers, with what it shares with a training split."""
        parts = {part: round(float(np.mean(values)), 4) if values else None for part, values in self.missing.items()}
        facts: Facts = {
            "clips": len(self.frames),
            "frames": int(np.sum(self.frames)),
            "hours": round(float(np.nansum(self.seconds)) / 3600, 3),
            "fps": {"unknown" if fps is None else str(fps): count for fps, count in self.fps.most_common()},
            "layouts": dict(self.layouts.most_common()),
            "languages": dict(self.languages.most_common()),
            "frames_per_clip": spread(self.frames),
            "texts": sum(map(len, self.texts.values())),
            "words_per_text": spread(self.text_lengths),
            "words": self.words.total(),
            "vocabulary": len(self.words),
            "labels": len(self.labels),
            "clips_per_label": spread(list(self.labels.values())),
            "signers": dict(self.signers.most_common()),
            "missing_points": parts,
            "jumping_clips": self.jumps,
            "frames_dropped": sum(entry["frames"] for entry in self.jumps),
            "swapped_hands": len(self.swapped),
            "hands_off_their_wrists": self.reach,
            "unusable": self.unusable,
            "shorter_than_a_segment": self.short,
            "duplicate_ids": [name for name, count in self.ids.items() if count > 1],
            "duplicate_clips": [names for names in self.hashes.values() if len(names) > 1],
            "duplicate_texts": sum(len(names) - 1 for names in self.texts.values()),
        }
        if train is None:
            return facts
        unknown = {word: count for word, count in self.words.items() if word not in train.words}
        shared_texts = [names for text, names in self.texts.items() if text in train.texts]
        return facts | {
            "out_of_vocabulary": {
                "words": share(sum(unknown.values()), self.words.total()),
                "vocabulary": share(len(unknown), len(self.words)),
            },
            "texts_also_in_train": share(sum(map(len, shared_texts)), facts["texts"]),
            "clips_also_in_train": [
                {"clips": names, "train": train.hashes[digest]} for digest, names in self.hashes.items() if digest in train.hashes
            ],
            "ids_also_in_train": [name for name in self.ids if name in train.ids],
            "signers_also_in_train": sorted(set(self.signers) & set(train.signers)),
        }


def share(count: int, total: int) -> float | None:
    return round(count / total, 4) if total else None


def spread(values: Sequence[int]) -> dict[str, float] | None:
    """Smallest, median, mean and largest of numbers; None if there are none."""
    if not len(values):
        return None
    return {
        "min": int(np.min(values)),
        "median": float(np.median(values)),
        "mean": round(float(np.mean(values)), 2),
        "max": int(np.max(values)),
    }


def load_splits(dataset: str) -> Mapping[str, Any]:
    """{split: streaming rows} of a folder, a .parquet file or a Hub id.

    Raises:
        ValueError, OSError: nothing that can be read is there.
    """
    path = Path(dataset)
    try:
        if path.is_file() and path.suffix != ".parquet":
            raise ValueError("it is a file, expected a folder, or a file that ends in .parquet")
        if path.is_file():
            return datasets.load_dataset("parquet", data_files={"train": dataset}, streaming=True)
        return datasets.load_dataset(dataset, streaming=True)
    except (ValueError, OSError, datasets.exceptions.DatasetsError) as error:
        remedy = "Build rows with python -m datasets_scripts.build first." if path.exists() else "Check the name and the network."
        raise ValueError(f"{dataset} holds no rows that can be read: {brief(error)}. {remedy}") from error


def inspect(splits: Mapping[str, Any], layout: str = "uniglor73", seed: int = 0) -> tuple[Facts, dict[str, SplitInspector]]:
    """Inspects canonical rows.

    Args:
        splits: {name: rows}, `datasets` of any kind.
        layout: the model's layout in which clips are judged.
        seed: of the choice of clips to show.

    Returns:
        {"splits": {name: facts}}, and {name: `SplitInspector`} for the report.

    Raises:
        ValueError: rows of another kind.
    """
    processor = KeypointProcessor(layout=layout, fps=None)
    inspectors: dict[str, SplitInspector] = {}
    for name, rows in splits.items():
        inspector = inspectors[name] = SplitInspector(name, processor, np.random.default_rng(seed))
        for row in tqdm(rows.with_format("numpy"), desc=f"Inspecting {name}", unit=" clips"):
            missing = [key for key in ("id", "keypoints", "confidence", "layout", "fps", "text", "label") if key not in row]
            if missing:
                raise ValueError(f"{name}: found the columns {sorted(row)}, expected canonical rows with {', '.join(missing)} too.")
            inspector.add(row)
    train = inspectors.get("train")
    facts = {name: inspector.facts(None if inspector is train else train) for name, inspector in inspectors.items()}
    return {"splits": facts}, inspectors


def findings(report: Facts) -> list[str]:
    """What a reader should look at first, as sentences."""
    sentences = []
    for name, facts in report["splits"].items():
        clips = facts["clips"]
        for key, sentence in (
            ("unusable", "of {clips} clips cannot be used, the first: {first}"),
            ("shorter_than_a_segment", f"of {{clips}} clips are shorter than the {SEGMENT} frames of a segment: training leaves them out"),
            ("hands_off_their_wrists", "of {clips} clips have a hand farther than a shoulder length from its wrist: is the layout right?"),
            ("duplicate_ids", "ids are there more than once: {first}"),
            ("duplicate_clips", "clips are there more than once, frame by frame: {first}"),
            ("clips_also_in_train", "clips are in train too, frame by frame: {first}"),
            ("ids_also_in_train", "ids are in train too: {first}"),
        ):
            entries = facts.get(key)
            if entries:
                sentences.append(f"{name}: {len(entries):,} " + sentence.format(clips=f"{clips:,}", first=_example(entries[0])))
        if facts.get("texts_also_in_train"):
            sentences.append(f"{name}: {facts['texts_also_in_train']:.1%} of the texts are in train too, word by word")
        if clips and facts["swapped_hands"]:
            sentences.append(
                f"{name}: in {facts['swapped_hands']:,} of {clips:,} clips the hands stand in each other's slots (they are put back)"
            )
        if facts["frames_dropped"]:
            sentences.append(
                f"{name}: {facts['frames_dropped']:,} frames jump (the body moves by 2 shoulder lengths at once) and are left out, in "
                f"{len(facts['jumping_clips']):,} clips"
            )
        if clips and not facts["texts"] and not facts["labels"]:
            sentences.append(f"{name}: no clip has a text or a label")
        absent = [part.replace("_", " ") for part, value in facts["missing_points"].items() if value == 1]
        if absent:
            sentences.append(f"{name}: {', '.join(absent)} never seen")
        if len(facts["fps"]) > 1 or "unknown" in facts["fps"]:
            sentences.append(f"{name}: frame rates: {', '.join(f'{fps} ({count:,})' for fps, count in facts['fps'].items())}")
        if "signers_also_in_train" in facts and facts["signers_also_in_train"]:
            sentences.append(f"{name}: {len(facts['signers_also_in_train'])} of {len(facts['signers'])} signers are in train too")
    return sentences


def _example(entry: object) -> str:
    if isinstance(entry, dict):
        return entry.get("reason") or ", ".join(map(str, entry.get("clips", (entry.get("id"),))))
    return ", ".join(map(str, entry[:3])) if isinstance(entry, list) else str(entry)


def summary(report: Facts) -> str:
    """A line for each split and each finding."""
    lines = []
    for name, facts in report["splits"].items():
        lines.append(
            f"{name}: {facts['clips']:,} clips, {facts['frames']:,} frames, {facts['hours']:.2f} h of known rate, "
            f"{facts['vocabulary']:,} words in {facts['texts']:,} texts, {facts['labels']:,} labels, {len(facts['signers'])} signers"
        )
    return "\n".join(lines + findings(report))


# --- The report -------------------------------------------------------------------------------------------------------------------------

_STYLE = """
:root { color-scheme: light dark; --ink: #222; --soft: #666; --paper: #fff; --line: #d4d4d4; --bar: #1f77b4; --mark: #d62728 }
@media (prefers-color-scheme: dark) { :root {
  --ink: #e8e8e8; --soft: #a0a4a8; --paper: #17181a; --line: #44474b; --bar: #6cb6f5; --mark: #ff8078 } }
* { box-sizing: border-box }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif }
main { max-width: 1080px; margin: 0 auto; padding: 16px }
h1 { font-size: 1.5em; overflow-wrap: anywhere } h2 { font-size: 1.2em; margin: 1.8em 0 .4em }
.wide { overflow-x: auto }
table { border-collapse: collapse; min-width: 50% }
th, td { text-align: right; padding: 3px 12px 3px 0; border-bottom: 1px solid var(--line); font-variant-numeric: tabular-nums }
th:first-child { text-align: left; font-weight: 400; color: var(--soft) }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 320px), 1fr)); gap: 16px }
figure { margin: 0 } figcaption { font-weight: 600; font-size: 14px }
svg { display: block; width: 100%; height: auto } svg text { font: 11px system-ui, sans-serif; fill: var(--soft) }
.charts iframe { min-height: 540px }
li { overflow-wrap: anywhere }
"""


def histogram(numbers: Iterable[float], title: str, bins: int = 30, percent: bool = False) -> str:
    """A histogram as an SVG figure; values beyond the 99th percentile are counted in its last bar."""
    values = np.asarray(numbers, float)
    values = values[np.isfinite(values)]
    if not len(values):
        return ""
    low, high = (0.0, 1.0) if percent else (float(values.min()), float(np.percentile(values, 99)))
    high = high if high > low else low + 1
    if not percent and (values == values.round()).all():  # whole numbers: bars of whole width
        width = max(1, int(np.ceil((high - low + 1) / bins)))
        edges = np.arange(low, high + width + 1e-9, width)
    else:
        edges = np.linspace(low, high, bins + 1)
    counts = np.histogram(np.minimum(values, edges[-1]), edges)[0]
    chart_width, chart_height, base = 320, 120, 100
    bar = chart_width / len(counts)
    bars = "".join(
        f'<rect x="{place * bar:.2f}" y="{base - count / counts.max() * 84:.2f}" width="{max(bar - 1, 0.5):.2f}" '
        f'height="{count / counts.max() * 84:.2f}" fill="var(--bar)"><title>{_label(start, percent)} to {_label(stop, percent)}: {count:,}'
        "</title></rect>"
        for place, (count, start, stop) in enumerate(zip(counts, edges, edges[1:]))
        if count
    )
    beyond = f"; {int((values > edges[-1]).sum())} beyond" if (values > edges[-1]).any() else ""
    return (
        f'<figure><figcaption>{escape(title)}</figcaption><svg viewBox="0 0 {chart_width} {chart_height}" role="img" '
        f'aria-label="{escape(title)}: {len(values):,} values, median {_label(np.median(values), percent)}">{bars}'
        f'<line x1="0" x2="{chart_width}" y1="{base}" y2="{base}" stroke="var(--line)"/>'
        f'<text x="0" y="{base + 14}">{_label(edges[0], percent)}</text>'
        f'<text x="{chart_width / 2}" y="{base + 14}" text-anchor="middle">median {_label(np.median(values), percent)}</text>'
        f'<text x="{chart_width}" y="{base + 14}" text-anchor="end">{_label(edges[-1], percent)}{beyond}</text>'
        f'<text x="{chart_width}" y="11" text-anchor="end">most: {counts.max():,}</text></svg></figure>'
    )


def _label(value: float, percent: bool) -> str:
    return f"{value:.0%}" if percent else f"{value:,.4g}" if value < 1000 else f"{value:,.0f}"


def report_html(name: str, report: Facts, inspectors: Mapping[str, SplitInspector]) -> str:
    """The report as one HTML document.

    Args:
        name: of the data set.
        report, inspectors: what `inspect` returned.
    """
    list_items = "".join(f"<li>{escape(sentence)}</li>" for sentence in findings(report))
    splits = report["splits"]
    rows = [
        ("clips", lambda facts: f"{facts['clips']:,}"),
        ("frames", lambda facts: f"{facts['frames']:,}"),
        ("hours (clips of known rate)", lambda facts: f"{facts['hours']:.2f}"),
        ("frames per second", lambda facts: ", ".join(facts["fps"])),
        ("layout", lambda facts: ", ".join(facts["layouts"])),
        ("sign language", lambda facts: ", ".join(facts["languages"])),
        ("signers", lambda facts: f"{len(facts['signers']):,}"),
        ("texts", lambda facts: f"{facts['texts']:,}"),
        ("words / vocabulary", lambda facts: f"{facts['words']:,} / {facts['vocabulary']:,}"),
        ("words that are not in train", lambda facts: _percent(facts.get("out_of_vocabulary", {}).get("words"))),
        ("texts that are in train too", lambda facts: _percent(facts.get("texts_also_in_train"))),
        ("labels", lambda facts: f"{facts['labels']:,}"),
        *(
            (f"points missing: {part.replace('_', ' ')}", lambda facts, part=part: _percent(facts["missing_points"][part]))
            for part in next(iter(splits.values()))["missing_points"]
        ),
        ("clips with hands in swapped slots", lambda facts: f"{facts['swapped_hands']:,}"),
        ("frames that jump", lambda facts: f"{facts['frames_dropped']:,}"),
        ("clips shorter than a segment", lambda facts: f"{len(facts['shorter_than_a_segment']):,}"),
        ("unusable clips", lambda facts: f"{len(facts['unusable']):,}"),
    ]
    table = ""
    for title, value in rows:
        cells = [value(facts) for facts in splits.values()]
        if any(cell not in ("", "0", "0 / 0") for cell in cells) or title in ALWAYS_SHOWN:
            table += f'<tr><th scope="row">{escape(title)}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in cells)}</tr>'
    header = "".join(f'<th scope="col">{escape(split)}</th>' for split in splits)
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(name)}: what is in it</title><style>{_STYLE}</style></head>
<body><main>
<h1>{escape(name)}</h1>
<h2>Look at first</h2>
<ul>{list_items or "<li>Nothing stands out.</li>"}</ul>
<h2>Numbers</h2>
<div class="wide"><table><tr><th></th>{header}</tr>{table}</table></div>
{"".join(_section(split, inspector) for split, inspector in inspectors.items())}
</main></body></html>
"""


def _section(split: str, inspector: SplitInspector) -> str:
    charts = [
        histogram(inspector.frames, "Frames of a clip"),
        histogram(inspector.seconds, "Seconds of a clip"),
        histogram(inspector.text_lengths, "Words of a text"),
        histogram(list(inspector.labels.values()), "Clips of a label"),
        *(histogram(values, f"Missing in a clip: {part.replace('_', ' ')}", percent=True) for part, values in inspector.missing.items()),
    ]
    players = []
    for name, clip, text in inspector.shown:
        players.append(player_html(clip, titles=[name], text=text))
    shown = f"<h2>{escape(split)}: clips to watch</h2><div class='charts'>{''.join(players)}</div>" if players else ""
    return f"<h2>{escape(split)}: distributions</h2><div class='charts'>{''.join(charts)}</div>{shown}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


# --- Command line -----------------------------------------------------------------------------------------------------------------------


def main(argv: list[str] | None = None) -> dict[str, Any]:
    arguments = checked(argv)
    name = Path(arguments.dataset).stem if arguments.dataset.endswith(".parquet") else Path(arguments.dataset).resolve().name
    output_dir = arguments.output_dir or Path(f"{name}-inspection")
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)  # an unreadable file is an error of one line
    report, inspectors = inspect(load_splits(arguments.dataset), arguments.layout, arguments.seed)
    if not any(facts["clips"] for facts in report["splits"].values()):
        raise ValueError(f"{arguments.dataset}: no rows in {', '.join(report['splits']) or 'any split'}.")
    output_dir.mkdir(parents=True, exist_ok=True)
    paths = [output_dir / REPORT, output_dir / "inspection.json"]
    write_whole(paths[0], report_html(name, report, inspectors))
    write_json(report, paths[1])
    print(summary(report))
    training = "accelerate launch train/pretrain.py train/configs/small.yaml"
    print_written(paths, f"look at {REPORT} in a browser, then {training} --datasets {arguments.dataset} --output_dir outputs/{name}")
    return report


if __name__ == "__main__":
    run_command(main)
