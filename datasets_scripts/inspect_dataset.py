"""What is in a data set, before anything is trained on it: counts, what is missing, what is there twice, and a few clips to watch.

    python -m datasets_scripts.inspect_dataset phoenix14t
    python -m datasets_scripts.inspect_dataset user/my-rows --output_dir report

DATASET is a folder of canonical rows, a .parquet file, or a Hub id. OUTPUT_DIR gets inspection.json and report.html, one file that
loads nothing. Every clip is read once, as the models will see it: through `KeypointProcessor`, at its own frame rate.

Shapes: T frames of a clip, K keypoints of the model's layout.
"""

import argparse
import collections
import hashlib
import re
from html import escape
from pathlib import Path

import datasets
import numpy as np
from tqdm import tqdm

from modeling_unigloR.keypoint_processing_uniglor import KeypointProcessor
from modeling_unigloR.keypoints_uniglor import get_layout, point_index
from modeling_unigloR.rendering_uniglor import player_html

from .extract import write_json
from .whole import write_whole

WORD = re.compile(r"\w+(?:['’\-]\w+)*")
CLIPS_SHOWN = 3  # of each split
EXAMPLES = 5  # of what is wrong, in the report
REPORT = "report.html"
ALWAYS_SHOWN = ("clips with hands in swapped slots", "frames that jump", "unusable clips")  # that there are none is news too


def words_of(text):
    """Lower-case words; punctuation is none. Texts without spaces between words count as one word."""
    return WORD.findall(text.lower())


class SplitInspector:
    """Collects the facts of one split, clip by clip; memory grows by a few numbers a clip.

    Args:
        name: of the split.
        processor: a `KeypointProcessor` that does not resample.
        rng: a `numpy.random.Generator`, for the clips that are shown.
    """

    def __init__(self, name, processor, rng):
        self.name, self.processor, self.rng = name, processor, rng
        self.frames, self.seconds, self.fps, self.layouts = [], [], collections.Counter(), collections.Counter()
        self.words, self.texts, self.text_lengths = collections.Counter(), {}, []
        self.labels, self.signers, self.languages = collections.Counter(), collections.Counter(), collections.Counter()
        self.missing = {part: [] for part in get_layout(processor.layout).parts}
        self.jumps, self.swapped, self.reach, self.unusable = [], [], [], []
        self.hashes, self.ids, self.shown = {}, collections.Counter(), []

    def add(self, row):
        """Takes one canonical row, its arrays as numpy."""
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
        seen = np.where(confidence[..., None] > 0, keypoints, 0)  # what hides under "not seen" is no content
        digest = hashlib.sha256(np.ascontiguousarray(seen).tobytes()).hexdigest()
        self.hashes.setdefault(digest, []).append(name)
        try:
            clip = self.processor.process_row(row)
        except ValueError as error:
            self.unusable.append({"id": name, "reason": str(error)})
            return
        for part, span in get_layout(self.processor.layout).parts.items():
            self.missing[part].append(1 - clip.keypoint_mask[:, span].mean())
        if len(clip.kept_frames) < len(keypoints):
            self.jumps.append({"id": name, "frames": len(keypoints) - len(clip.kept_frames)})
        if clip.hands_swapped:
            self.swapped.append(name)
        self._note_reach(name, clip)
        self._show(name, clip, row["text"] or row["gloss"] or "")

    def _note_reach(self, name, clip):
        """Clips whose hands are never at their wrists: points of another order look like this."""
        index = point_index(self.processor.layout)
        distances = []
        for side in ("left", "right"):
            root, wrist = index[f"{side}_hand_root"], index[f"{side}_wrist"]
            both = clip.keypoint_mask[:, root] & clip.keypoint_mask[:, wrist]
            if both.any():
                distances.append(np.median(np.linalg.norm(clip.keypoints[both, root] - clip.keypoints[both, wrist], axis=-1)))
        if distances and max(distances) > 1:  # shoulder lengths
            self.reach.append({"id": name, "shoulder_lengths": round(float(max(distances)), 2)})

    def _show(self, name, clip, text):
        """Keeps a few clips, each with the same chance, whatever their number."""
        seen = len(self.frames) - len(self.unusable)
        place = len(self.shown) if len(self.shown) < CLIPS_SHOWN else int(self.rng.integers(seen))
        if place < CLIPS_SHOWN:
            self.shown[place : place + 1] = [(name, clip, text)]

    def facts(self, train=None):
        """The split's facts as plain numbers, and, beside a training split, what it shares with it."""
        parts = {part: round(float(np.mean(values)), 4) if values else None for part, values in self.missing.items()}
        facts = {
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


def share(count, total):
    return round(count / total, 4) if total else None


def spread(values):
    """Smallest, median, mean and largest of numbers; None where there are none."""
    if not len(values):
        return None
    return {
        "min": int(np.min(values)),
        "median": float(np.median(values)),
        "mean": round(float(np.mean(values)), 2),
        "max": int(np.max(values)),
    }


def load_splits(dataset):
    """{split: streaming rows} of a folder, a .parquet file or a Hub id."""
    if dataset.endswith(".parquet"):
        if not Path(dataset).exists():
            raise FileNotFoundError(f"{dataset} does not exist.")
        return datasets.load_dataset("parquet", data_files={"train": dataset}, streaming=True)
    return datasets.load_dataset(dataset, streaming=True)


def inspect(splits, layout="uniglor73", seed=0):
    """Inspects canonical rows.

    Args:
        splits: {name: rows}, `datasets` of any kind.
        layout: the model's layout that clips are judged in.
        seed: of the choice of clips to show.

    Returns:
        {"splits": {name: facts}}, and {name: `SplitInspector`} for the report.

    Raises:
        ValueError: rows of another kind.
    """
    processor, inspectors = KeypointProcessor(layout=layout, fps=None), {}
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


def findings(report):
    """What a reader should look at first, as sentences."""
    found = []
    for name, facts in report["splits"].items():
        clips = facts["clips"]
        for key, sentence in (
            ("unusable", "of {clips} clips cannot be used, the first: {first}"),
            ("hands_off_their_wrists", "of {clips} clips have a hand farther than a shoulder length from its wrist: is the layout right?"),
            ("duplicate_ids", "ids are there more than once: {first}"),
            ("duplicate_clips", "clips are there more than once, frame by frame: {first}"),
            ("clips_also_in_train", "clips are in train too, frame by frame: {first}"),
            ("ids_also_in_train", "ids are in train too: {first}"),
        ):
            entries = facts.get(key)
            if entries:
                found.append(f"{name}: {len(entries):,} " + sentence.format(clips=f"{clips:,}", first=_example(entries[0])))
        if facts.get("texts_also_in_train"):
            found.append(f"{name}: {facts['texts_also_in_train']:.1%} of the texts are in train too, word by word")
        if clips and facts["swapped_hands"]:
            found.append(
                f"{name}: in {facts['swapped_hands']:,} of {clips:,} clips the hands stand in each other's slots (they are put back)"
            )
        if facts["frames_dropped"]:
            found.append(
                f"{name}: {facts['frames_dropped']:,} frames jump (the body moves by 2 shoulder lengths at once) and are left out, in "
                f"{len(facts['jumping_clips']):,} clips"
            )
        if clips and not facts["texts"] and not facts["labels"]:
            found.append(f"{name}: no clip has a text or a label")
        absent = [part.replace("_", " ") for part, value in facts["missing_points"].items() if value == 1]
        if absent:
            found.append(f"{name}: {', '.join(absent)} never seen")
        if len(facts["fps"]) > 1 or "unknown" in facts["fps"]:
            found.append(f"{name}: frame rates: {', '.join(f'{fps} ({count:,})' for fps, count in facts['fps'].items())}")
        if "signers_also_in_train" in facts and facts["signers_also_in_train"]:
            found.append(f"{name}: {len(facts['signers_also_in_train'])} of {len(facts['signers'])} signers are in train too")
    return found


def _example(entry):
    if isinstance(entry, dict):
        return entry.get("reason") or ", ".join(map(str, entry.get("clips", (entry.get("id"),))))
    return ", ".join(map(str, entry[:3])) if isinstance(entry, list) else str(entry)


def summary(report):
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


def histogram(values, title, bins=30, percent=False):
    """A histogram as an SVG figure; values beyond the 99th percentile are counted in its last bar."""
    values = np.asarray(values, float)
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


def _label(value, percent):
    return f"{value:.0%}" if percent else f"{value:,.4g}" if value < 1000 else f"{value:,.0f}"


def report_html(name, report, inspectors):
    """The report as one HTML document.

    Args:
        name: of the data set.
        report, inspectors: what `inspect` returned.
    """
    found = "".join(f"<li>{escape(sentence)}</li>" for sentence in findings(report))
    splits = report["splits"]
    rows = [
        ("clips", lambda facts: f"{facts['clips']:,}"),
        ("frames", lambda facts: f"{facts['frames']:,}"),
        ("hours (clips of known rate)", lambda facts: f"{facts['hours']:.2f}"),
        ("frames a second", lambda facts: ", ".join(facts["fps"])),
        ("layout", lambda facts: ", ".join(facts["layouts"])),
        ("sign language", lambda facts: ", ".join(facts["languages"])),
        ("signers", lambda facts: f"{len(facts['signers']):,}"),
        ("texts", lambda facts: f"{facts['texts']:,}"),
        ("words / vocabulary", lambda facts: f"{facts['words']:,} / {facts['vocabulary']:,}"),
        ("of the words, not in train", lambda facts: _percent(facts.get("out_of_vocabulary", {}).get("words"))),
        ("of the texts, also in train", lambda facts: _percent(facts.get("texts_also_in_train"))),
        ("labels", lambda facts: f"{facts['labels']:,}"),
        *(
            (f"points missing: {part.replace('_', ' ')}", lambda facts, part=part: _percent(facts["missing_points"][part]))
            for part in next(iter(splits.values()))["missing_points"]
        ),
        ("clips with hands in swapped slots", lambda facts: f"{facts['swapped_hands']:,}"),
        ("frames that jump", lambda facts: f"{facts['frames_dropped']:,}"),
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
<ul>{found or "<li>Nothing stands out.</li>"}</ul>
<h2>Numbers</h2>
<div class="wide"><table><tr><th></th>{header}</tr>{table}</table></div>
{"".join(_section(split, inspector) for split, inspector in inspectors.items())}
</main></body></html>
"""


def _section(split, inspector):
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
    return f"<h2>{escape(split)}: how it is spread</h2><div class='charts'>{''.join(charts)}</div>{shown}"


def _percent(value):
    return "" if value is None else f"{value:.1%}"


# --- Command line -----------------------------------------------------------------------------------------------------------------------


def parse(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", metavar="DATASET", help="a folder of rows, a .parquet file, or a Hub id")
    parser.add_argument("--output_dir", type=Path, help="for inspection.json and report.html; by default <name>-inspection here")
    parser.add_argument("--layout", default="uniglor73", help="the model's layout that clips are judged in")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of clips to watch")
    return parser.parse_args(argv)


def main(argv=None):
    arguments = parse(argv)
    name = Path(arguments.dataset).stem if arguments.dataset.endswith(".parquet") else Path(arguments.dataset).resolve().name
    output_dir = arguments.output_dir or Path(f"{name}-inspection")
    report, inspectors = inspect(load_splits(arguments.dataset), arguments.layout, arguments.seed)
    if not any(facts["clips"] for facts in report["splits"].values()):
        raise ValueError(f"{arguments.dataset}: no rows in {', '.join(report['splits']) or 'any split'}.")
    output_dir.mkdir(parents=True, exist_ok=True)
    write_json(report, output_dir / "inspection.json")
    write_whole(output_dir / REPORT, report_html(name, report, inspectors))
    print(summary(report))
    print(f"{output_dir / REPORT}")
    return report


if __name__ == "__main__":
    main()
