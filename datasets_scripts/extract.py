"""Videos to canonical rows: estimates keypoints and writes them as Parquet.

    pip install mediapipe==0.10.14 av
    python -m datasets_scripts.extract clips/ more/clip.mp4 --output_dir extracted --language ase
    python -m datasets_scripts.extract clips/ --output_dir extracted --extractor rtmpose --detector yolox.onnx --pose rtmw.onnx

Rows stand in OUTPUT_DIR/data, in the extractor's own layout; OUTPUT_DIR/extraction.json names the extractor and its version, and the
videos that were skipped, with the reason. Both are written whole or not at all.
"""

import argparse
import contextlib
import json
import sys
import uuid
from pathlib import Path

import datasets

from modeling_unigloR.keypoint_readers_uniglor import VIDEO_SUFFIXES
from modeling_unigloR.video_extraction_uniglor import HolisticExtractor, RTMPoseExtractor, extract_video

from .schema import check_row, features
from .whole import remove_unfinished, scratch_folder, whole_file, write_whole

FILE = Path("data") / "train-00000-of-00001.parquet"


def find_videos(paths):
    """{id: path} of video files and of all videos in folders. A file's id is its name; in a folder, its way down from there."""
    videos = {}
    for path in map(Path, paths):
        if not path.exists():
            raise FileNotFoundError(f"{path} does not exist.")
        found = sorted(inner for inner in path.rglob("*") if inner.suffix.lower() in VIDEO_SUFFIXES) if path.is_dir() else [path]
        for video in found:
            name = (video.relative_to(path) if path.is_dir() else Path(video.name)).with_suffix("").as_posix()
            if name in videos:
                raise ValueError(f"{videos[name]} and {video} would both have the id {name!r}. Expected videos of different names.")
            videos[name] = video
    if not videos:
        raise ValueError(f"Found no video ({', '.join(VIDEO_SUFFIXES)}) in {', '.join(map(str, paths))}.")
    return videos


def extract(videos, extractor, language="und", progress=False):
    """Yields (id, row, None) for each of {id: path}, or (id, None, reason) where a video cannot be used."""
    for name, path in videos.items():
        try:
            yield name, check_row(extract_video(path, extractor, progress).row(name, language)), None
        except (ValueError, OSError) as error:  # of the file; those of the extractor would be the same for all
            yield name, None, str(error)


def write_parquet(rows, row_features, path):
    """Writes the rows of an iterable as one Parquet file, whole or not at all; returns their number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_unfinished(path.parent)
    with whole_file(path) as unfinished, scratch_folder(path) as cache, _without_bars():
        # A fingerprint of its own: the rows are not a function of the arguments that could be hashed.
        table = datasets.Dataset.from_generator(lambda: iter(rows), row_features, cache_dir=str(cache), fingerprint=uuid.uuid4().hex)
        num_rows = len(table)
        table.to_parquet(unfinished)
        del table  # it maps a file of the folder that goes
    return num_rows


@contextlib.contextmanager
def _without_bars():
    """The rows show their own progress; that of `datasets` would stand across it."""
    shown = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()


def write_json(content, path):
    """Replaces a file by another, which is whole when a crash leaves any."""
    write_whole(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def parse(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", nargs="+", metavar="VIDEO", help="video files, or folders of them")
    parser.add_argument("--output_dir", required=True, type=Path, help="read it back with datasets.load_dataset(output_dir)")
    parser.add_argument("--language", default="und", metavar="CODE", help="ISO 639-3 code of the sign language; by default undetermined")
    parser.add_argument("--extractor", choices=("mediapipe", "rtmpose"), default="mediapipe")
    parser.add_argument("--detector", metavar="ONNX", help="with rtmpose: a YOLOX person detector")
    parser.add_argument("--pose", metavar="ONNX", help="with rtmpose: a whole-body pose model of 133 points")
    parser.add_argument("--device", default="cpu", help="with rtmpose: cpu or cuda")
    arguments = parser.parse_args(argv)
    if (arguments.extractor == "rtmpose") != bool(arguments.detector and arguments.pose):
        parser.error("--extractor rtmpose needs --detector and --pose, and only that one takes them")
    return arguments


def main(argv=None):
    arguments = parse(argv)
    videos = find_videos(arguments.videos)
    rtmpose = arguments.extractor == "rtmpose"
    extractor = RTMPoseExtractor(arguments.detector, arguments.pose, arguments.device) if rtmpose else HolisticExtractor()
    skipped, num_frames = {}, 0

    def rows():
        nonlocal num_frames
        for name, row, reason in extract(videos, extractor, arguments.language, progress=True):
            if row is None:
                skipped[name] = reason
                print(f"skipped: {reason}", file=sys.stderr)
            else:
                num_frames += len(row["keypoints"])
                yield row

    found = rows()
    first = next(found, None)
    if first is None:
        sys.exit(f"Not one of {len(videos)} videos could be used.")

    def all_rows():
        yield first
        yield from found

    path = arguments.output_dir / FILE
    num_clips = write_parquet(all_rows(), features(extractor.num_keypoints, extractor.num_channels), path)
    facts = extractor.facts | {"clips": num_clips, "frames": num_frames, "skipped": skipped}
    write_json(facts, arguments.output_dir / "extraction.json")
    print(f"{path}: {num_clips} clips, {num_frames} frames, {len(skipped)} skipped")
    return facts


if __name__ == "__main__":
    main()
