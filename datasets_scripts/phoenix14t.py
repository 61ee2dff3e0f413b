"""RWTH-PHOENIX-Weather 2014 T: German Sign Language of weather forecasts, with glosses and German texts.

    python -m datasets_scripts.build phoenix14t --data_dir PHOENIX-2014-T --output_dir phoenix14t --layout uniglor73

Where: https://www-i6.informatik.rwth-aachen.de/~koller/RWTH-PHOENIX-2014-T/ (39 GB of images, no keypoints). Licence: CC BY-NC-SA 3.0.
Published: 7,096 clips for training, 519 for validation ("dev"), 642 for testing; 25 frames a second, images of 210 x 260.

The folder is the unpacked archive or a folder above it; keypoints are yours, in one of three forms:

    annotations/manual/PHOENIX-2014-T.train.corpus.csv      name|video|start|end|speaker|orth|translation; also .dev. and .test.
    keypoints/train/<name>/images0001_keypoints.json ...    OpenPose's, one folder a clip, or
    keypoints/train/<name>.pose                             one file a clip (.pose, .npz, .npy), or
    keypoints/train.skels, keypoints/train.files            as Progressive Transformers writes them

Another folder of keypoints is named by --keypoints_dir.
"""

from pathlib import Path
from typing import Any

from .corpus import CLIP_SUFFIXES, ClipSource, Corpus, Listing, first_existing, read_lines, read_table, skels_offsets, tables_of_splits

SPLITS = {"train": "train", "dev": "validation", "test": "test"}
COLUMNS = ("name", "speaker", "orth", "translation")
FPS, WIDTH, HEIGHT = 25.0, 210, 260
ROOTS = ("", "PHOENIX-2014-T", "PHOENIX-2014-T-release-v3/PHOENIX-2014-T")


def list_clips(data_dir: str | Path, keypoints_dir: str | Path | None = None) -> Listing:
    listing = Listing()
    for name, split, path in tables_of_splits(SPLITS, data_dir, _places):
        clips = keypoint_files(keypoints_dir, data_dir, name)
        for row in read_table(path, "|", COLUMNS):
            place = clips.pop(row["name"], None)
            if place is None:
                listing.leave_out(split, row["name"], "annotated, but there are no keypoints of it")
                continue
            text, gloss = row["translation"].strip() or None, row["orth"].strip() or None
            listing.sources.append(ClipSource(row["name"], split, text=text, gloss=gloss, signer=row["speaker"], fps=FPS, **place))
        for clip in clips:
            listing.leave_out(split, clip, f"keypoints, but no line in {path.name}")
    return listing


def _places(name: str) -> list[str]:
    file = f"PHOENIX-2014-T.{name}.corpus.csv"
    return [str(Path(root) / folder / file) for root in ROOTS for folder in ("", "annotations/manual")]


def keypoint_files(keypoints_dir: str | Path | None, data_dir: str | Path, name: str) -> dict[str, dict[str, Any]]:
    """{clip: fields of its `ClipSource`, which say where its keypoints are} of a split."""
    if keypoints_dir is None:
        keypoints_dir = first_existing([Path(root) / "keypoints" for root in ROOTS], "folder of keypoints (--keypoints_dir)", data_dir)
    keypoints_dir = Path(keypoints_dir)
    skels = keypoints_dir / f"{name}.skels"
    if skels.exists():
        ids = [line.strip().removeprefix(f"{name}/") for line in read_lines(skels.with_suffix(".files")) if line.strip()]
        return {clip: {"path": str(skels), "offset": offset} for clip, offset in skels_offsets(skels, ids).items()}
    folder = keypoints_dir / name
    clips: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        size = {} if path.suffix == ".pose" else {"width": WIDTH, "height": HEIGHT}  # a .pose file says its own
        if path.is_dir() or path.suffix in CLIP_SUFFIXES:
            clips.setdefault(path.name if path.is_dir() else path.stem, {"path": str(path)} | size)
    return clips


CORPUS = Corpus(
    name="phoenix14t",
    title="RWTH-PHOENIX-Weather 2014 T",
    homepage="https://www-i6.informatik.rwth-aachen.de/~koller/RWTH-PHOENIX-2014-T/",
    about="German Sign Language of weather forecasts on television, with glosses and German texts.",
    licence="cc-by-nc-sa-3.0",
    language="gsg",
    list_clips=list_clips,
    published={"train": 7096, "validation": 519, "test": 642},
)
