"""Isolated signs in a folder for each word: WLASL, INCLUDE, and any set of that shape.

    python -m datasets_scripts.build wlasl --data_dir WLASL --output_dir wlasl
    python -m datasets_scripts.build include --data_dir INCLUDE --output_dir include --width 1920 --height 1080
    python -m datasets_scripts.build isolated --data_dir my_words --output_dir my_words_rows --language bfi

The folder: <word>/<clip>, where a clip is any file of keypoints or a folder of OpenPose's frames. Folders above the word are allowed
(INCLUDE's categories), and one called train, val or test is the split; a number before a word ("1. loud") is no part of it.
Labels are the words in alphabetical order; `gloss` is the word.

WLASL (American, 2,000 words; https://github.com/dxli94/WLASL; C-UDA licence, for research): if the folder contains WLASL_v0.3.json,
that gives the word, split and signer of each clip by its video number, at any depth of folders, and the labels have its order.
INCLUDE (Indian, 263 words; https://zenodo.org/records/4010759; CC BY 4.0): keypoints are yours; MediaPipe's are relative to an image
of 1920 x 1080, so pass its size.
"""

import json
import re
from pathlib import Path
from typing import Any

from modeling_unigloR.keypoint_readers_uniglor import file_bytes
from modeling_unigloR.limits_uniglor import MAX_TEXT_BYTES, brief

from .corpus import SPLITS, ClipSource, Corpus, Listing, find_clips, printable, split_of

WLASL_JSON = "WLASL_v0.3.json"


def list_clips(data_dir: str | Path) -> Listing:
    clips, shadowed = find_clips(data_dir)
    listing = Listing()
    words: dict[str, str] = {}
    for name, reason in shadowed:
        listing.leave_out(_split(name), name, reason)
    for name in clips:
        folder = Path(name).parent.name
        word = re.sub(r"^\d+\.\s*", "", folder).strip()
        if not word or folder.lower() in SPLITS:
            listing.leave_out(_split(name), name, "not in a folder of its word")
        else:
            words[name] = printable(word)
    listing.labels = sorted(set(words.values()))
    labels = {word: number for number, word in enumerate(listing.labels)}
    for name, word in words.items():
        listing.sources.append(ClipSource(name, _split(name), str(clips[name]), gloss=word, label=labels[word]))
    return listing


def _split(name: str) -> str:
    return next((SPLITS[part.lower()] for part in Path(name).parts[:-1] if part.lower() in SPLITS), "train")


def list_wlasl(data_dir: str | Path) -> Listing:
    path = Path(data_dir) / WLASL_JSON
    if not path.exists():
        return list_clips(data_dir)
    try:
        words = [(entry["gloss"], entry["instances"]) for entry in json.loads(file_bytes(path, MAX_TEXT_BYTES))]
        instances = {str(item["video_id"]): (number, dict(item)) for number, (_, items) in enumerate(words) for item in items}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{path}: {type(error).__name__}: {brief(error)}. Expected a list of words with gloss and instances.") from error
    clips, shadowed = find_clips(data_dir)
    listing = Listing(labels=[word for word, _ in words])
    for name, reason in shadowed:
        listing.leave_out("train", name, reason)
    for name, clip in clips.items():
        video = Path(name).name
        if video not in instances:
            if name != path.stem:
                listing.leave_out("train", name, f"a clip, but not in {WLASL_JSON}")
            continue
        number, item = instances.pop(video)
        split, problem = _split_in(item, path)
        if problem:
            listing.leave_out(split, video, problem)
            continue
        signer = item.get("signer_id")
        signer = None if signer is None else str(signer)
        listing.sources.append(ClipSource(video, split, str(clip), gloss=words[number][0], label=number, signer=signer))
    for video, (_, item) in instances.items():
        listing.leave_out(_split_in(item, path)[0], video, f"in {WLASL_JSON}, but there is no clip of it")
    return listing


def _split_in(item: dict[str, Any], path: Path) -> tuple[str, str | None]:
    """The split that an entry names and None, or "train" and what is wrong with the name."""
    try:
        return split_of(item.get("split", "train"), path), None
    except ValueError as error:
        return "train", str(error)


ISOLATED = Corpus(
    name="isolated",
    title="Isolated signs",
    homepage="",
    about="Isolated signs, a folder for each word.",
    licence="unknown",
    language="und",
    list_clips=list_clips,
)
WLASL = Corpus(
    name="wlasl",
    title="WLASL",
    homepage="https://github.com/dxli94/WLASL",
    about="2,000 words of American Sign Language.",
    licence="c-uda",
    language="ase",
    list_clips=list_wlasl,
)
INCLUDE = Corpus(
    name="include",
    title="INCLUDE",
    homepage="https://zenodo.org/records/4010759",
    about="263 words of Indian Sign Language.",
    licence="cc-by-4.0",
    language="ins",
    list_clips=list_clips,
)
