"""KSL-Guide-Word: 3,000 words of Korean Sign Language by many signers, as AI-Hub distributes them.

    python -m datasets_scripts.build ksl_guide --data_dir sign_videos --output_dir ksl_guide --test_signers REAL17 REAL18

Where: https://aihub.or.kr, data set 103, "sign language videos" (수어 영상). Licence: AI-Hub's terms; an account is needed, and the data
may not be passed on.

The folder holds the unpacked keypoints and morphemes at any depth; their names say which belong together.

    .../NIA_SL_WORD0001_REAL01_F/NIA_SL_WORD0001_REAL01_F_000000000000_keypoints.json ...     a folder for each clip
        {"version": 1.3, "people": {"pose_keypoints_2d": [75 numbers], "face_keypoints_2d": [210], "hand_left_keypoints_2d": [63],
         "hand_right_keypoints_2d": [63], ...}, ...}; one person, as an object or in a list, x, y and confidence of each point
    .../NIA_SL_WORD0001_REAL01_F_morpheme.json
        {"metaData": {"name": ..., "duration": ...}, "data": [{"start": 1.1, "end": 2.3, "attributes": [{"name": "고민"}]}]}

The word of WORD0001 is read from any morpheme file of that number, since all signers and views of it sign the same. Instead of
morpheme files, a table (--annotations FILE, .csv, .tsv, .jsonl or .parquet) may name it: columns `id` (WORD0001, or a whole clip
name) and `label`.

Of the five views (F front, U above, D below, L left, R right) the front is read; --views F U D reads more. A folder in the path that is
called Training, Validation or Test, numbered or not, is the split; --validation_signers and --test_signers split by signer instead.
30 frames a second, images of 1920 x 1080.
"""

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from modeling_unigloR.keypoint_clip_uniglor import KeypointClip
from modeling_unigloR.keypoint_readers_uniglor import check_numbers, clip_from_array, file_bytes
from modeling_unigloR.limits_uniglor import MAX_TABLE_BYTES, MAX_TEXT_BYTES, brief

from .corpus import OPENPOSE_SUFFIX, SPLITS, ClipSource, Corpus, Listing, read_table, walk

FPS, WIDTH, HEIGHT = 30.0, 1920, 1080
NAME = re.compile(r"NIA_SL_(WORD\d+)_([A-Z]+\d+)_([A-Z])")
VIEWS = ("F", "U", "D", "L", "R")
PARTS = {"pose_keypoints_2d": 75, "face_keypoints_2d": 210, "hand_left_keypoints_2d": 63, "hand_right_keypoints_2d": 63}


def list_clips(
    data_dir: str | Path,
    annotations: str | Path | None = None,
    views: Sequence[str] = ("F",),
    validation_signers: Sequence[str] = (),
    test_signers: Sequence[str] = (),
) -> Listing:
    unknown = set(views) - set(VIEWS)
    if unknown:
        raise ValueError(f"Unknown view {', '.join(sorted(unknown))}. Expected one or more of {', '.join(VIEWS)}.")
    clips, morphemes = find_files(data_dir)
    words = table_words(annotations) if annotations else morpheme_words(morphemes)
    listing = Listing(labels=sorted(set(words.values())))
    labels = {word: number for number, word in enumerate(listing.labels or ())}
    for path in clips:
        number, signer, view = NAME.findall(path.name)[0]
        if view not in views:
            continue
        split = _split(path, Path(data_dir))
        if validation_signers or test_signers:
            split = "validation" if signer in validation_signers else "test" if signer in test_signers else "train"
        word = words.get(path.name, words.get(number))
        if word is None:
            listing.leave_out(split, path.name, f"no {'row of the table' if annotations else 'morpheme file'} names its word")
            continue
        known: dict[str, Any] = dict(gloss=word, label=labels[word], signer=signer, width=WIDTH, height=HEIGHT, fps=FPS)
        listing.sources.append(ClipSource(path.name, split, str(path), **known))
    return listing


def find_files(data_dir: str | Path) -> tuple[list[Path], list[Path]]:
    """Folders of clips and files of morphemes, in alphabetical order."""
    if not Path(data_dir).is_dir():
        raise FileNotFoundError(f"{data_dir} is not a folder. Pass the corpus' own with data_dir (--data_dir).")
    clips: list[Path] = []
    morphemes: list[Path] = []
    for folder, folders, files in walk(data_dir):
        named = [name for name in folders if NAME.fullmatch(name)]
        folders[:] = sorted(set(folders) - set(named))  # what is in them is read with the clip
        clips += [Path(folder) / name for name in named]
        morphemes += [Path(folder) / name for name in files if name.endswith("_morpheme.json")]
    if not clips:
        raise ValueError(f"{data_dir}: no folder named like NIA_SL_WORD0001_REAL01_F in this folder or below.")
    return sorted(clips), sorted(morphemes)


def morpheme_words(paths: Iterable[Path]) -> dict[str, str]:
    """{WORD0001: its word} of morpheme files."""
    words: dict[str, str] = {}
    for path in paths:
        match = NAME.match(path.name)
        if match is None or match.group(1) in words:
            continue
        try:
            content = json.loads(file_bytes(path, MAX_TABLE_BYTES))
            words[match.group(1)] = content["data"][0]["attributes"][0]["name"].strip()
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(
                f"{path}: not a morpheme file ({type(error).__name__}: {brief(error)}). Expected data[0].attributes[0].name to be the word."
            ) from error
    return words


def table_words(path: str | Path) -> dict[str, str]:
    return {str(row["id"]): str(row["label"]).strip() for row in read_table(path, columns=("id", "label"))}


def _split(path: Path, data_dir: Path) -> str:
    """The split by a folder of the path: "1.Training", "validation"."""
    for part in path.relative_to(data_dir).parts[:-1]:
        split = SPLITS.get(re.sub(r"^\d+[.\s_]*", "", part).lower())
        if split:
            return split
    return "train"


def read_clip(source: ClipSource) -> KeypointClip:
    """A clip of AI-Hub: OpenPose's parts, but `people` may be one person instead of a list."""
    numbers = {}
    for path in Path(source.path).iterdir():
        digits = re.search(r"(\d+)_keypoints\.json$", path.name)
        if digits and not path.name.startswith("."):
            numbers[int(digits.group(1))] = path
    if not numbers:
        raise ValueError(f"{source.path}: no <number>{OPENPOSE_SUFFIX} in this folder.")
    first, last = min(numbers), max(numbers)
    if last - first > 20 * len(numbers):
        raise ValueError(f"{source.path}: {len(numbers)} files are numbered {first} to {last}. Are they frames of one clip?")
    check_numbers(sorted(numbers), source.path, f"from {first} to {last}")
    frames = np.full((last - first + 1, 137, 3), np.nan, np.float32)
    for number, path in numbers.items():
        frames[number - first] = _frame(path)
    frames[np.isnan(frames[..., 2]), 2] = 0
    return clip_from_array(
        frames[..., :2], frames[..., 2], source.layout or "openpose137", source.width, source.height, source.fps, source.id
    )


def _frame(path: Path) -> np.ndarray:
    """x, y and confidence of a frame's points, (137, 3)."""
    try:
        person = json.loads(file_bytes(path, MAX_TEXT_BYTES))["people"]
        if isinstance(person, list):
            person = person[0] if person else {part: [0.0] * size for part, size in PARTS.items()}
        parts = [np.array(person[part], np.float32).reshape(size // 3, 3) for part, size in PARTS.items()]
    except (ValueError, KeyError, TypeError, IndexError, OverflowError, RecursionError) as error:
        sizes = ", ".join(f"{part} ({size})" for part, size in PARTS.items())
        raise ValueError(f"{path}: {type(error).__name__}: {brief(error)}. Expected an object with people: {sizes}.") from error
    return np.concatenate(parts)


CORPUS = Corpus(
    name="ksl_guide",
    title="KSL-Guide-Word",
    homepage="https://aihub.or.kr/aihubdata/data/view.do?dataSetSn=103",
    about="3,000 words of Korean Sign Language, each by many signers.",
    licence="other",
    language="kvk",
    list_clips=list_clips,
    read=read_clip,
)
