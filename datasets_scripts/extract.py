"""Videos to canonical rows: estimates keypoints and writes them as Parquet.

    pip install mediapipe==0.10.14 av
    python -m datasets_scripts.extract clips/ more/clip.mp4 --output_dir extracted --language ase
    python -m datasets_scripts.extract clips/ --output_dir extracted --extractor rtmpose --detector yolox.onnx --pose rtmw.onnx
    python -m datasets_scripts.extract clips/ --output_dir extracted --num_proc 8       # or, on many machines, --engine ray

The rows in OUTPUT_DIR/data have the extractor's own layout. OUTPUT_DIR/extraction.json names the extractor and its version, and the
videos that were skipped, with the reason. Both are written whole or not at all.

An extraction that is interrupted loses the videos that it was working on, and no other: finished ones wait in OUTPUT_DIR/.unfinished,
and the same command goes on from there.
"""

# ruff: noqa: E402 (--help and mistakes are answered before the imports that take seconds)

import argparse
from pathlib import Path

from .commands import (
    FILE,
    WAITING,
    CommandParser,
    add_engine_options,
    check_new,
    check_num_proc,
    existing_path,
    language_code,
    output_folder,
    parse_early,
    positive,
    print_written,
    run_command,
)

CLIPS_PER_SHARD = 500


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
    add_engine_options(parser)
    parser.add_argument(
        "--clips_per_shard", type=positive, default=CLIPS_PER_SHARD, metavar="N", help=f"rows of a file (default {CLIPS_PER_SHARD})"
    )
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
    check_num_proc(arguments.num_proc)
    if not (arguments.output_dir / WAITING).exists():  # else the same command goes on
        check_new(arguments.output_dir / FILE)
    return arguments


if __name__ == "__main__":
    parse_early(checked)

import contextlib
import functools
import hashlib
import importlib.metadata
import json
import os
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from tqdm import tqdm

from modeling_unigloR.fingerprint_uniglor import code_hash
from modeling_unigloR.keypoint_readers_uniglor import VIDEO_SUFFIXES
from modeling_unigloR.video_extraction_uniglor import HolisticExtractor, RTMPoseExtractor, extract_video

from .schema import Row, check_row, features
from .shards import READY, Advance, Report, make_shards, publish, unfinished_folder
from .whole import discard, remove_unfinished, scratch_folder, seal, whole_file, whole_folder, write_json

if TYPE_CHECKING:
    import datasets

RESULTS = ("data", "extraction.json")  # moved in this order: `datasets` would read a lone report as rows
ROW = "row.parquet"  # in the folder of a finished video
CODE = ("modeling_unigloR.video_extraction_uniglor", "datasets_scripts.schema")
PACKAGES = ("av", "mediapipe", "rtmlib", "onnxruntime")
CLIPS_PER_ROW_GROUP, BYTES_PER_ROW_GROUP = 32, 1 << 26  # whichever comes first is held in memory while writing


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


# --- One video ------------------------------------------------------------------------------------------------------------------------


class VideoShard(NamedTuple):
    """One video, since it may be an hour long: its id, its file, and the folder where its row waits for the others."""

    id: str
    video: Path
    path: Path
    size: int = 1


class VideoWriter:
    """Writes the row of a video. The extractor, which takes seconds to start, is started once in each process.

    Args:
        start: makes an object like `HolisticExtractor`.
        language: ISO 639-3 code of the sign language.
    """

    def __init__(self, start: Callable[[], Any], language: str = "und") -> None:
        self.start, self.language = start, language
        self.extractor: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"extractor": None}  # what the libraries hold stays in its process

    def __call__(self, shard: VideoShard, folder: Path | None, advance: Advance) -> Report:
        self.extractor = self.extractor or self.start()
        report: Report = {"id": shard.id, "frames": 0, "extractor": self.extractor.facts, "skipped": None}
        try:
            counted: Any = _Counted(self.extractor, functools.partial(advance, 0))
            row = check_row(extract_video(shard.video, counted).row(shard.id, self.language))
        except (ValueError, OSError) as error:  # of this video; an error of the extractor would be the same for all
            report["skipped"] = str(error)
        else:
            report["frames"] = len(row["keypoints"])
            if folder is not None:
                with _parquet_writer(folder / ROW, features(*row["keypoints"].shape[1:])) as writer:
                    writer.write(row)
                    writer.finalize()
        advance(1, 0)
        return report


class _Counted:
    """An extractor that counts its frames, so that the bar moves during a long video too."""

    def __init__(self, extractor: Any, count: Callable[[int], None]) -> None:
        self.extractor, self.count = extractor, count
        self.start, self.layout = extractor.start, extractor.layout

    def __call__(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.count(1)
        return self.extractor(image)


def video_hash(name: str, path: Path, language: str, options: Sequence[Any]) -> str:
    """Sixteen digits that change with a video's id and file, the options, and the versions of the code that reads it."""
    facts: list[Any] = [name, path.name, language, *options, code_hash(*CODE), *map(_version, PACKAGES)]
    with contextlib.suppress(OSError):  # a file that cannot be read is reported where it is opened
        status = os.stat(path)
        facts += [status.st_size, status.st_mtime_ns]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


@functools.cache
def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


# --- Files ----------------------------------------------------------------------------------------------------------------------------


def join_rows(paths: Sequence[Path], row_features: "datasets.Features", output: Path) -> None:
    """Writes the rows of several Parquet files into one."""
    import pyarrow
    import pyarrow.parquet

    def groups() -> Iterator[pyarrow.Table]:
        tables: list[pyarrow.Table] = []
        for path in paths:
            tables.append(pyarrow.parquet.read_table(path))
            if len(tables) == CLIPS_PER_ROW_GROUP or sum(table.nbytes for table in tables) >= BYTES_PER_ROW_GROUP:
                yield pyarrow.concat_tables(tables)
                tables = []
        if tables:
            yield pyarrow.concat_tables(tables)

    with _parquet_writer(output, row_features) as writer:
        for table in groups():
            writer.write_table(table, len(table))
        writer.finalize()


def _parquet_writer(path: Path, row_features: "datasets.Features") -> Any:
    from datasets.arrow_writer import ParquetWriter  # takes a second, which --help and mistakes do not need

    return ParquetWriter(path=str(path), features=row_features)


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


# --- All videos -----------------------------------------------------------------------------------------------------------------------


def make_extractor(arguments: argparse.Namespace) -> Callable[[], Any]:
    """What starts the extractor that a command line asks for."""
    if arguments.extractor == "rtmpose":
        return functools.partial(RTMPoseExtractor, arguments.detector, arguments.pose, arguments.device)
    return HolisticExtractor


def models_of(arguments: argparse.Namespace) -> list[str]:
    """The extractor of a command line, and the SHA-256 of its models: all options that change what is found."""
    models = [path for path in (arguments.detector, arguments.pose) if path]
    return [arguments.extractor, *(hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in models)]


def main(argv: list[str] | None = None) -> dict[str, Any]:
    arguments = checked(argv)
    output_dir = arguments.output_dir
    videos, options = find_videos(arguments.videos), models_of(arguments)

    def said(report: Report) -> None:
        if report["skipped"] is not None:
            tqdm.write(f"skipped: {report['skipped']}", file=sys.stderr)

    was_ready = (output_dir / WAITING / READY).exists()
    with unfinished_folder(output_dir, RESULTS) as waiting:
        if was_ready and (output_dir / FILE.parent).exists():  # an earlier command was killed while it moved its results
            facts = json.loads((output_dir / "extraction.json").read_text(encoding="utf-8"))
        else:
            check_new(output_dir / FILE)
            shards = [
                VideoShard(name, path, waiting / video_hash(name, path, arguments.language, options)) for name, path in videos.items()
            ]
            write = VideoWriter(make_extractor(arguments), arguments.language)
            reports = make_shards(write, shards, arguments.num_proc, arguments.engine or "processes", "Reading videos", said)
            facts = _facts(reports)
            rows = [shard.path / ROW for shard, report in zip(shards, reports) if report["skipped"] is None]
            _make_ready(rows, facts, arguments.clips_per_shard, waiting)
            discard(output_dir / FILE.parent)  # without rows, if it is there
            publish(waiting, output_dir, RESULTS)
    print(f"{facts['clips']:,} clips, {facts['frames']:,} frames, {len(facts['skipped']):,} videos skipped")
    print_written([output_dir / name for name in RESULTS], f"python -m datasets_scripts.inspect_dataset {output_dir}")
    return facts


def _facts(reports: Sequence[Report]) -> dict[str, Any]:
    """What extraction.json says."""
    extractors = {json.dumps(report["extractor"], sort_keys=True): report["extractor"] for report in reports}
    if len(extractors) > 1:
        raise ValueError(f"Found several extractors, {' and '.join(extractors)}, expected one: install the same versions on all machines.")
    skipped = {report["id"]: report["skipped"] for report in reports if report["skipped"] is not None}
    if len(skipped) == len(reports):
        raise ValueError(f"None of {len(reports)} videos could be used; the reasons are above.")
    frames = sum(report["frames"] for report in reports)
    return reports[0]["extractor"] | {"clips": len(reports) - len(skipped), "frames": frames, "skipped": skipped}


def _make_ready(rows: Sequence[Path], facts: dict[str, Any], clips_per_shard: int, waiting: Path) -> None:
    """Collects all results in a folder from which they need only be moved."""
    import datasets
    import pyarrow.parquet

    row_features = datasets.Features.from_arrow_schema(pyarrow.parquet.read_schema(rows[0]))
    starts = range(0, len(rows), clips_per_shard)
    with whole_folder(waiting / READY) as ready:
        (ready / "data").mkdir()
        for number, start in enumerate(starts):
            path = ready / "data" / f"train-{number:05d}-of-{len(starts):05d}.parquet"
            join_rows(rows[start : start + clips_per_shard], row_features, path)
        write_json(facts, ready / "extraction.json")
        seal(ready)


if __name__ == "__main__":
    run_command(main, "The same command goes on from the finished videos.")
