"""Sentences of real signs: clips of INCLUDE joined with the motion between, and English that says the same in another order.

    python -m experiments.spliced_signs --data_dir DIR --output_dir OUT [--scale small|tiny]

DIR holds INCLUDE's `labels.csv` (path, label, session) and its `.npy` files, as for experiments/include.py. OUT gets a folder of canonical
rows for each fold, with the splits train, validation and test; one that is there already stays.

Nobody signed these sentences: they say whether a system reads real signs that it has not seen, in the order in which they stand, and
not whether it translates Indian Sign Language. The 29 words are those that several groups of recording sessions hold. A sentence names a
time, a place and one or two things, in that order; its English has articles, tenses and prepositions, and the order of English. A
fold is tested on sessions 48 to 50 or 86 to 92, each of which holds all words, and trained on takes of the other sessions: train and
test share no recording session, nor a sentence. Validation takes other takes of the training sessions, so it is easier than test.

The signs of a sentence come from one group of sessions where one holds them all, so that the signer seldom changes within it. The id of
a row names its takes (`takes_of`), which is what an interval draws: `48-50/test/00012/MVI_4655+MVI_5063+MVI_4838`.

Shapes: T frames, K = 73 keypoints, C = 2 channels.
"""

import csv
import functools
import hashlib
import zlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from datasets.arrow_writer import ParquetWriter

from datasets_scripts.fingerspelling import HEIGHT, WIDTH, join_on_canvas
from datasets_scripts.schema import check_row, features
from datasets_scripts.whole import whole_folder
from modeling_unigloR import KeypointProcessor, map_layout, read_keypoints
from modeling_unigloR.keypoints_uniglor import SIDES, get_layout, point_index
from train.engine.commands import CommandParser

VERSION = 1  # of the data that are built; part of the folder's name
LAYOUT, FPS, LANGUAGE = "uniglor73", 25.0, "ins"
FOLDS = {"48-50": range(48, 51), "86-92": range(86, 93)}
GROUPS = (range(42, 47), range(48, 51), range(54, 56), range(86, 93))  # neighbouring sessions
SIZES = {
    "small": {"train": 5000, "validation": 300, "test": 300},
    "tiny": {"train": 60, "validation": 12, "test": 12},
}

DAYS = ("Yesterday", "Tomorrow")
PARTS = {"Morning": "in the morning", "Afternoon": "in the afternoon", "Evening": "in the evening", "Night": "at night"}
SPANS = {"Second": "a second", "Minute": "a minute", "Hour": "an hour", "Week": "a week", "Month": "a month", "Year": "a year"}
PLACES = {"Bathroom": "in the bathroom", "Kitchen": "in the kitchen"}
OBJECTS = {
    "Book": "a book", "Gun": "a gun", "Newspaper": "a newspaper", "Page": "a page", "Pen": "a pen", "Pencil": "a pencil",
    "Photograph": "a photograph", "Soap": "soap",
}  # fmt: skip
EVENTS = {
    "Attack": "an attack", "Election": "an election", "Energy": "energy", "Peace": "peace", "Technology": "technology", "War": "a war",
}  # fmt: skip
WORDS = (*DAYS, *PARTS, *SPANS, "Time", *PLACES, *OBJECTS, *EVENTS)
TIMES = ("none", "day", "day part", "part", "span", "day span", "time")
SHARES = (0.1, 0.15, 0.25, 0.15, 0.15, 0.15, 0.05)  # of the kinds of times

RAISED = 0.5  # of the way from where the wrists rest to their highest place: a hand above it signs
LOST_FRAMES = 5
LEAD_FRAMES = 8  # on the way up before the first sign, and down after the last


# --- Language -------------------------------------------------------------------------------------------------------------------------


def draw_signs(rng: np.random.Generator) -> list[str]:
    """The words of one sentence in the order in which they are signed: time, place, things."""
    kind = rng.choice(TIMES, p=SHARES)
    time = []
    if "day" in kind:
        time.append(rng.choice(DAYS))
    if "part" in kind:
        time.append(rng.choice(list(PARTS)))
    if "span" in kind:
        time.append(rng.choice(list(SPANS)))
    if kind == "time":
        time.append("Time")
    things = OBJECTS if rng.random() < 0.6 else EVENTS
    place = [rng.choice(list(PLACES))] if things is OBJECTS and rng.random() < 0.7 else []
    chosen = rng.choice(list(things), size=rng.integers(1, 3), replace=False)
    return [str(word) for word in (*time, *place, *chosen)]


def english(signs: list[str]) -> str:
    """What signs of `draw_signs` say: [tomorrow] there is a book [in the kitchen] [for an hour] [yesterday] ."""
    day = next((word for word in signs if word in DAYS), None)
    part = next((word for word in signs if word in PARTS), None)
    span = next((word for word in signs if word in SPANS), None)
    things = [(OBJECTS | EVENTS)[word] for word in signs if word in OBJECTS or word in EVENTS]
    be = {"Yesterday": "were" if len(things) > 1 else "was", "Tomorrow": "will be", None: "are" if len(things) > 1 else "is"}[day]
    when = "at that time" if "Time" in signs else PARTS.get(part, "")
    if day:
        when = " ".join(filter(None, (day.lower(), part and part.lower()))).replace("yesterday night", "last night")
    phrases = ["there", be, " and ".join(things), *(PLACES[word] for word in signs if word in PLACES), span and f"for {SPANS[span]}"]
    phrases = [when, *phrases] if day == "Tomorrow" else [*phrases, when]
    return " ".join(filter(None, (*phrases, ".")))


def sentences_of(fold: str, sizes: dict[str, int], seed: int = 0) -> dict[str, list[list[str]]]:
    """{split: signs of each sentence}; no sentence of validation or test stands in another split, and none stands there twice."""
    rng = np.random.default_rng([seed, zlib.crc32(fold.encode())])
    held_out, sentences = set(), {}
    for split in ("test", "validation", "train"):
        sentences[split] = []
        while len(sentences[split]) < sizes[split]:
            signs = draw_signs(rng)
            if tuple(signs) not in held_out:
                sentences[split].append(signs)
                if split != "train":
                    held_out.add(tuple(signs))
    return sentences


# --- Takes ----------------------------------------------------------------------------------------------------------------------------


def read_takes(data_dir: Path) -> list[dict[str, str]]:
    """The lines of `labels.csv` of all words."""
    with open(Path(data_dir) / "labels.csv", encoding="utf-8", newline="") as file:
        lines = [line for line in csv.DictReader(file) if line["label"] in WORDS]
    absent = sorted(set(WORDS) - {line["label"] for line in lines})
    if absent:
        raise ValueError(f"{data_dir}: labels.csv has no clips of {', '.join(absent)}. Expected INCLUDE's official training part.")
    return lines


def takes_by_split(lines: list[dict[str, str]], fold: str) -> dict[str, dict[str, list[dict[str, str]]]]:
    """{split: {word: its takes}}; of the training sessions, the last take of each word in each group of three or more validates."""
    splits = {split: defaultdict(list) for split in ("train", "validation", "test")}
    groups = defaultdict(list)
    for line in lines:
        if int(line["session"]) in FOLDS[fold]:
            splits["test"][line["label"]].append(line)
        else:
            groups[line["label"], group_of(line)].append(line)
    for (word, _), takes in groups.items():
        kept = len(takes) - (len(takes) > 2)
        splits["train"][word] += takes[:kept]
        splits["validation"][word] += takes[kept:]
    for word in WORDS:  # a word with few takes validates on one that is trained on
        splits["validation"][word] = splits["validation"][word] or splits["train"][word][-1:]
    return splits


def group_of(line: dict[str, str]) -> int:
    return next(number for number, sessions in enumerate(GROUPS) if int(line["session"]) in sessions)


def draw_takes(signs: list[str], takes: dict[str, list[dict[str, str]]], rng: np.random.Generator) -> list[dict[str, str]]:
    """A take for each sign, all of one group of sessions where a group has them all."""
    whole = [number for number in range(len(GROUPS)) if all(any(group_of(take) == number for take in takes[word]) for word in signs)]
    group = whole[rng.integers(len(whole))] if whole else None
    usable = [[take for take in takes[word] if group in (None, group_of(take))] for word in signs]
    return [choices[rng.integers(len(choices))] for choices in usable]


def takes_of(row_id: str) -> list[str]:
    """The takes that a row's id names."""
    return row_id.rsplit("/", 1)[1].split("+")


def stem(line: dict[str, str]) -> str:
    return Path(line["path"]).stem


@functools.lru_cache(maxsize=512)
def read_take(path: Path) -> tuple[np.ndarray, np.ndarray, int, int]:
    """A take in shoulder lengths about the neck, keypoints (T, K, C) and confidence (T, K); and the first and last frame of its sign."""
    clip = read_keypoints(path, width=16, height=9, fps=FPS)
    square = clip.keypoints[..., :2] * [16, 9]  # x and y in one unit, in which hands are given to arms and bodies are scaled
    clip = map_layout(replace(clip, keypoints=square, relative=False), LAYOUT)
    shoulders = (clip.confidence[:, [point_index(LAYOUT)[name] for name in get_layout(LAYOUT).scale]] > 0).all(1)
    from_body = slice(np.flatnonzero(shoulders)[0], np.flatnonzero(shoulders)[-1] + 1)  # some takes begin without one
    clip = replace(clip, keypoints=clip.keypoints[from_body], confidence=clip.confidence[from_body])
    calibration = KeypointProcessor().calibrate(clip)
    seen = clip.confidence[..., None] > 0
    keypoints = np.where(seen, (clip.keypoints - calibration.center) / calibration.scale, 0).astype(np.float32)
    return keypoints, clip.confidence, *sign_span(keypoints, clip.confidence)


def sign_span(keypoints: np.ndarray, confidence: np.ndarray) -> tuple[int, int]:
    """The first and last frame in which a hand is raised and seen; hands are often lost on their way, so up to `LOST_FRAMES` further in."""
    index, parts = point_index(LAYOUT), get_layout(LAYOUT).parts
    wrists = keypoints[:, [index[f"{side}_wrist"] for side in SIDES], 1]  # (T, 2), larger is lower
    rest = np.median(wrists.max(0))
    raised = rest - wrists > RAISED * (rest - wrists.min())
    seen = np.stack([(confidence[:, parts[f"{side}_hand"]] > 0).all(1) for side in SIDES], axis=1)
    signs = np.flatnonzero(raised.any(1))
    shown = np.flatnonzero(raised.any(1) & (seen | ~raised).all(1))  # every raised hand is seen
    first, last = int(signs[0]), int(signs[-1])
    early, late = shown[shown <= first + LOST_FRAMES], shown[shown >= last - LOST_FRAMES]
    return int(early[0]) if len(early) else first, int(late[-1]) if len(late) else last


def splice(paths: list[Path]) -> tuple[np.ndarray, np.ndarray]:
    """Takes joined by their signs, the way up before the first and down after the last kept: keypoints in pixels, and confidence."""
    pieces = []
    for number, path in enumerate(paths):
        keypoints, confidence, first, last = read_take(path)
        start = max(first - LEAD_FRAMES, 0) if number == 0 else first
        stop = last + 1 + (LEAD_FRAMES if number == len(paths) - 1 else 0)
        pieces.append((keypoints[start:stop], confidence[start:stop]))
    return join_on_canvas(pieces)


# --- Rows -----------------------------------------------------------------------------------------------------------------------------


def rows(data_dir: Path, fold: str, split: str, sizes: dict[str, int], seed: int = 0) -> Iterator[dict]:
    """Canonical rows of one split; the same arguments give the same rows."""
    takes = takes_by_split(read_takes(data_dir), fold)[split]
    rng = np.random.default_rng([seed, zlib.crc32(f"{fold}/{split}".encode())])
    for number, signs in enumerate(sentences_of(fold, sizes, seed)[split]):
        chosen = draw_takes(signs, takes, rng)
        keypoints, confidence = splice([Path(data_dir) / take["path"] for take in chosen])
        yield check_row(
            {
                "id": f"{fold}/{split}/{number:05}/{'+'.join(map(stem, chosen))}", "keypoints": keypoints, "confidence": confidence,
                "layout": LAYOUT, "fps": FPS, "width": WIDTH, "height": HEIGHT, "text": english(signs),
                "gloss": " ".join(word.upper() for word in signs), "label": None, "signer": None, "language": LANGUAGE,
            }
        )  # fmt: skip


def build(data_dir: str | Path, output_dir: str | Path, fold: str, scale: str = "small", seed: int = 0) -> Path:
    """The folder of one fold, built where it is not there yet; its name says what it was built from.

    Args:
        data_dir: INCLUDE, see the module.
        fold: one of `FOLDS`.
        scale: one of `SIZES`.

    Returns:
        A folder that `datasets.load_dataset` reads: train, validation, test.
    """
    if fold not in FOLDS or scale not in SIZES:
        raise ValueError(f"found fold {fold!r} and scale {scale!r}, expected one of {', '.join(FOLDS)} and one of {', '.join(SIZES)}")
    facts = repr([VERSION, scale, seed, SIZES[scale], sorted((line["path"], line["session"]) for line in read_takes(Path(data_dir)))])
    folder = Path(output_dir) / f"spliced-signs-{fold}-{hashlib.sha256(facts.encode()).hexdigest()[:8]}"
    if not folder.exists():
        with whole_folder(folder) as unfinished:
            for split in SIZES[scale]:
                write_rows(unfinished / f"{split}-00000-of-00001.parquet", rows(Path(data_dir), fold, split, SIZES[scale], seed))
    return folder


def write_rows(path: Path, rows: Iterator[dict], together: int = 250) -> None:
    """Writes one Parquet file without holding more than a few rows in memory."""
    with ParquetWriter(path=str(path), features=features(len(point_index(LAYOUT)), 2), writer_batch_size=together) as writer:
        for row in rows:
            writer.write(row)
        writer.finalize()


def main(argv=None):
    parser = CommandParser(__doc__)
    parser.add_argument("--data_dir", type=Path, required=True)
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--scale", choices=list(SIZES), default="small")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    for fold in FOLDS:
        print(build(arguments.data_dir, arguments.output_dir, fold, arguments.scale, arguments.seed))


if __name__ == "__main__":
    main()
