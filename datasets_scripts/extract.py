"""Videos to canonical rows: estimates keypoints and writes them as Parquet.

    pip install mediapipe==0.10.14 av
    python -m datasets_scripts.extract clips/ more/clip.mp4 --output_dir extracted --language ase
    python -m datasets_scripts.extract clips/ --output_dir extracted --extractor rtmpose --detector yolox.onnx --pose rtmw.onnx

The rows in OUTPUT_DIR/data have the extractor's own layout. OUTPUT_DIR/extraction.json names the extractor and its version, and the
videos that were skipped, with the reason. Both are written whole or not at all.
"""

# ruff: noqa: E402 (--help and mistakes are answered before the imports that take seconds)

import argparse
from pathlib import Path

from .commands import (
    FILE,
    CommandParser,
    check_new,
    existing_path,
    language_code,
    output_folder,
    parse_early,
    print_written,
    run_command,
)


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = CommandParser(__doc__, prog="python -m datasets_scripts.extract")
    parser.add_argument("videos", nargs="+", metavar="VIDEO", help="video files, or folders of them")
    parser.add_argument("--output_dir", required=True, help="datasets.load_dataset(output_dir) reads the rows")
    parser.add_argument(
        "--language", default="und", type=language_code, metavar="CODE", help="ISO 639-3 code of the sign language (default und, unknown)"
    )
    parser.add_argument("--extractor", choices=("mediapipe", "rtmpose"), default="mediapipe")
    parser.add_argument("--detector", metavar="ONNX", help="for rtmpose: a YOLOX person detector")
    parser.add_argument("--pose", metavar="ONNX", help="for rtmpose: a whole-body pose model of 133 points")
    parser.add_argument("--device", default="cpu", help="for rtmpose: cpu or cuda")
    arguments = parser.parse_args(argv)
    if (arguments.extractor == "rtmpose") != bool(arguments.detector and arguments.pose):
        parser.error("--extractor rtmpose needs --detector and --pose, and only that one takes them")
    return arguments


def checked(argv: list[str] | None = None) -> argparse.Namespace:
    """The arguments of a command line, after a look at its files and folders."""
    arguments = parse(argv)
    arguments.videos = [existing_path(path, "video") for path in arguments.videos]
    arguments.output_dir = output_folder(arguments.output_dir)
    for option in ("detector", "pose"):
        if getattr(arguments, option):
            existing_path(getattr(arguments, option), f"--{option}")
    check_new(arguments.output_dir / FILE)
    return arguments


if __name__ == "__main__":
    parse_early(checked)

import contextlib
import itertools
import sys
import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from modeling_unigloR.keypoint_readers_uniglor import VIDEO_SUFFIXES
from modeling_unigloR.video_extraction_uniglor import HolisticExtractor, RTMPoseExtractor, extract_video

from .schema import Row, check_row, features
from .whole import remove_unfinished, scratch_folder, whole_file, write_json

if TYPE_CHECKING:
    import datasets


def find_videos(paths: Iterable[str | Path]) -> dict[str, Path]:
    """{id: path} of video files and of all videos in folders. The id of a file is its name; in a folder, its path below the folder."""
    folders, videos = [existing_path(path, "video") for path in paths], dict[str, Path]()
    for path in folders:
        files = sorted(inner for inner in path.rglob("*") if inner.suffix.lower() in VIDEO_SUFFIXES) if path.is_dir() else [path]
        for video in files:
            name = (video.relative_to(path) if path.is_dir() else Path(video.name)).with_suffix("").as_posix()
            if name in videos:
                raise ValueError(f"{videos[name]} and {video} would both have the id {name!r}. Expected videos of different names.")
            videos[name] = video
    if not videos:
        raise ValueError(f"No video ({', '.join(VIDEO_SUFFIXES)}) in {', '.join(map(str, folders))}.")
    return videos


def extract(
    videos: Mapping[str, Path], extractor: Any, language: str = "und", progress: bool = False
) -> Iterator[tuple[str, Row | None, str | None]]:
    """Yields (id, row, None) for each of {id: path}, or (id, None, reason) if a video cannot be used.

    Args:
        extractor: an object like `HolisticExtractor`.
    """
    for name, path in videos.items():
        try:
            yield name, check_row(extract_video(path, extractor, progress).row(name, language)), None
        except (ValueError, OSError) as error:  # of this video; an error of the extractor would be the same for all
            yield name, None, str(error)


def write_parquet(rows: Iterable[Row], row_features: "datasets.Features", path: Path) -> int:
    """Writes the rows of an iterable as one Parquet file, whole or not at all; returns their number."""
    import datasets  # takes a second, which --help and mistakes do not need

    path.parent.mkdir(parents=True, exist_ok=True)
    remove_unfinished(path.parent)
    with whole_file(path) as unfinished, scratch_folder(path) as cache, _without_bars():
        # A fingerprint of its own, since the rows are not a function of arguments that could be hashed.
        try:
            table = datasets.Dataset.from_generator(lambda: iter(rows), row_features, cache_dir=str(cache), fingerprint=uuid.uuid4().hex)
        except datasets.exceptions.DatasetGenerationError as error:
            raise error.__cause__ or error from None
        num_rows = len(table)
        table.to_parquet(unfinished)
        del table  # it maps a file of the folder that is deleted next
    return num_rows


@contextlib.contextmanager
def _without_bars() -> Iterator[None]:
    """Hides the progress bars of `datasets`: the rows show their own progress."""
    import datasets

    shown = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()


def main(argv: list[str] | None = None) -> dict[str, Any]:
    arguments = checked(argv)
    path, report = arguments.output_dir / FILE, arguments.output_dir / "extraction.json"
    videos = find_videos(arguments.videos)
    rtmpose = arguments.extractor == "rtmpose"
    extractor = RTMPoseExtractor(arguments.detector, arguments.pose, arguments.device) if rtmpose else HolisticExtractor()
    skipped, num_frames = {}, 0

    def usable_rows() -> Iterator[Row]:
        nonlocal num_frames
        for name, row, reason in extract(videos, extractor, arguments.language, progress=True):
            if row is None:
                skipped[name] = reason
                print(f"skipped: {reason}", file=sys.stderr)
            else:
                num_frames += len(row["keypoints"])
                yield row

    rows = usable_rows()
    first = next(rows, None)
    if first is None:
        raise ValueError(f"None of {len(videos)} videos could be used; the reasons are above.")
    num_clips = write_parquet(itertools.chain([first], rows), features(extractor.num_keypoints, extractor.num_channels), path)
    facts = extractor.facts | {"clips": num_clips, "frames": num_frames, "skipped": skipped}
    write_json(facts, report)
    print(f"{num_clips:,} clips, {num_frames:,} frames, {len(skipped):,} videos skipped")
    print_written([path, report], f"python -m datasets_scripts.inspect_dataset {arguments.output_dir}")
    return facts


if __name__ == "__main__":
    run_command(main)
