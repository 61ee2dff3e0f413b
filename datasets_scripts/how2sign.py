"""How2Sign: American Sign Language of instructional videos, with English texts.

    python -m datasets_scripts.build how2sign --data_dir How2Sign --output_dir how2sign --layout uniglor73 --num_proc 8

Where: https://how2sign.github.io/#download, "B-F-H 2D Keypoints clips (frontal view)" and "English Translation (manually re-aligned)".
Licence: CC BY-NC 4.0. The UniGloR paper counts 31,128 clips for training, 1,741 for validation, 2,322 for testing. The re-aligned files
hold a few texts more, and for some of them no clip was released (118, 2 and 14, as others count): the audit lists them.

The folder, as the owners' download script makes it (`How2Sign/sentence_level/<split>/...`), or flat:

    how2sign_realigned_train.csv                   tab-separated: VIDEO_ID VIDEO_NAME SENTENCE_ID SENTENCE_NAME START_REALIGNED ...
    train_2D_keypoints/openpose_output/json/       also .../train/rgb_front/features/openpose_output/json/ or train/openpose_output/json/
        <SENTENCE_NAME>/<SENTENCE_NAME>_000000000000_keypoints.json ...

Beware: the released clips were cut at the original times of How2's subtitles, not at the re-aligned ones. For re-aligned clips,
estimate the keypoints of whole videos: a folder or file <VIDEO_NAME> in the place of the clips is cut at START_REALIGNED and
END_REALIGNED, which needs its frame rate (--fps, where the files do not say it). Clips whose times lie beyond the video are left out.
Frame rates differ from clip to clip, and OpenPose does not write them: `fps` is null unless you pass it.
"""

import math
import re
from pathlib import Path

from .corpus import CLIP_SUFFIXES, ClipSource, Corpus, Listing, first_existing, read_table, tables_of_splits
from .schema import Row

SPLITS = {"train": "train", "val": "validation", "test": "test"}
COLUMNS = ("VIDEO_NAME", "SENTENCE_NAME", "START_REALIGNED", "END_REALIGNED", "SENTENCE")
ROOTS = ("", "sentence_level", "How2Sign/sentence_level")
WIDTH, HEIGHT = 1280, 720
JSON = "openpose_output/json"


def list_clips(data_dir: str | Path, keypoints_dir: str | Path | None = None) -> Listing:
    listing = Listing()
    for name, split, path in tables_of_splits(SPLITS, data_dir, _places):
        folder = Path(keypoints_dir) / name if keypoints_dir else None
        if folder is None:
            candidates: list[str | Path] = [f"{name}_2D_keypoints/{JSON}", f"{name}/{JSON}"]
            candidates += [Path(root) / name / "rgb_front/features" / JSON for root in ROOTS]
            folder = first_existing(candidates, f"folder of the clips of {name} (--keypoints_dir)", data_dir)
        clips = {path.stem if path.suffix in CLIP_SUFFIXES else path.name: path for path in sorted(folder.iterdir())}
        _add_split(listing, split, read_table(path, "\t", COLUMNS), clips, path.name)
    return listing


def _places(name: str) -> list[str]:
    file = f"how2sign_realigned_{name}.csv"
    return [file, *(str(Path(root) / name / "text/en/raw_text/re_aligned" / file) for root in ROOTS)]


def _add_split(listing: Listing, split: str, rows: list[Row], clips: dict[str, Path], file: str) -> None:
    used: set[str] = set()
    for row in rows:
        name, video = row["SENTENCE_NAME"], row["VIDEO_NAME"]
        start, end = (_seconds(row[key]) for key in ("START_REALIGNED", "END_REALIGNED"))
        if name in clips:
            place: Row = {"path": str(clips[name])}
            if end is not None and start is not None and end <= start:
                listing.doubt(split, name, f"its re-aligned times are {start} to {end} s; the clip, cut at the original ones, is kept")
        elif video in clips and start is not None:
            place = {"path": str(clips[video]), "start": start, "end": end}
        else:
            listing.leave_out(split, name, "a text, but no clip of that name")
            continue
        used |= {name, video}
        match = re.search(r"-(\d+)-rgb_", video)
        size: Row = {} if Path(place["path"]).suffix == ".pose" else {"width": WIDTH, "height": HEIGHT}
        text, signer = row["SENTENCE"].strip() or None, match.group(1) if match else None
        listing.sources.append(ClipSource(name, split, text=text, signer=signer, **place, **size))
    for clip in clips:
        if clip not in used:
            listing.leave_out(split, clip, f"a clip, but no text in {file}")


def _seconds(cell: str) -> float | None:
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


CORPUS = Corpus(
    name="how2sign",
    title="How2Sign",
    homepage="https://how2sign.github.io/",
    about="American Sign Language of instructional videos, with English texts.",
    licence="cc-by-nc-4.0",
    language="ase",
    list_clips=list_clips,
    published={"train": 31128, "validation": 1741, "test": 2322},
)
