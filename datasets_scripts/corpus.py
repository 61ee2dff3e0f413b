"""What the corpora share: how clips and tables of annotations are found and read, and how a clip becomes a row.

A corpus is data: facts about it, and one function that lists its clips without reading them. `build.py` turns the list into Parquet.

Shapes: T frames of a clip, K keypoints of its layout, C channels.
"""

import csv
import dataclasses
import functools
import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modeling_unigloR.fingerprint_uniglor import code_hash, processing_hash
from modeling_unigloR.keypoint_clip_uniglor import KeypointClip
from modeling_unigloR.keypoint_processing_uniglor import map_layout
from modeling_unigloR.keypoint_readers_uniglor import (
    VIDEO_SUFFIXES,
    clip_from_skels,
    file_bytes,
    open_regular,
    read_keypoints,
)
from modeling_unigloR.keypoints_uniglor import get_layout, get_source_layout
from modeling_unigloR.limits_uniglor import (
    MAX_CLIP_SECONDS,
    MAX_SPLIT_BYTES,
    MAX_TABLE_BYTES,
    MAX_TEXT_BYTES,
    MAX_TEXT_VALUES,
    brief,
    check_fps,
    check_image,
    is_number,
    short,
)

from .commands import near_files
from .schema import Row, check_row

Entry = dict[str, str]  # {split, id, reason} of a clip in the audit
Shape = tuple[str, int, int]  # layout, K, C

CLIP_SUFFIXES = (".pose", ".npz", ".npy", ".skels", ".json")  # of two files of the same name, the first kind is read
OPENPOSE_SUFFIX = "_keypoints.json"
SPLITS = {"train": "train", "training": "train", "test": "test", "testing": "test"} | dict.fromkeys(
    ("dev", "val", "valid", "validation"), "validation"
)
CLIPS_PROBED = 16  # to find out the shape that most clips of a data set have
KNOWN_BETTER = (
    "language",
    "source_layout",
    "width",
    "height",
    "fps",
)  # what a user may know better than the files: options of `list_corpus`
TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")


@dataclass(frozen=True)
class ClipSource:
    """Where a clip of a corpus is, and what its annotations say about it.

    Attributes:
        id, split: of the row. A split is "train", "validation", "test", or any other word.
        path: of what `read_keypoints` reads.
        text, gloss, label, signer: of the row.
        language: of the row; None is the corpus' own.
        layout, width, height, fps: where the file does not say them, or says them wrongly; None leaves them to the file.
        start, end: seconds, where the file holds more than the clip.
        offset: byte at which the clip's line starts, in a `.skels` file of many.
    """

    id: str
    split: str
    path: str
    text: str | None = None
    gloss: str | None = None
    label: int | None = None
    signer: str | None = None
    language: str | None = None
    layout: str | None = None
    width: int | None = None
    height: int | None = None
    fps: float | None = None
    start: float | None = None
    end: float | None = None
    offset: int | None = None


@dataclass
class Listing:
    """The clips of a corpus, and what is wrong with the others.

    Attributes:
        sources: the clips; `list_corpus` makes each id occur once.
        left_out: clips without an annotation, and annotations without a clip.
        doubtful: clips that are kept although something about them is unusual.
        labels: the words of the labels 0, 1, ..., for isolated signs.
        columns_not_read: {name of a table: its columns that were not read}, where a user may name them.
    """

    sources: list[ClipSource] = field(default_factory=list)
    left_out: list[Entry] = field(default_factory=list)
    doubtful: list[Entry] = field(default_factory=list)
    labels: list[str] | None = None
    columns_not_read: dict[str, list[str]] = field(default_factory=dict)

    def leave_out(self, split: str, id: str, reason: str) -> None:
        self.left_out.append({"split": printable(split), "id": printable(id), "reason": printable(reason)})

    def doubt(self, split: str, id: str, reason: str) -> None:
        self.doubtful.append({"split": printable(split), "id": printable(id), "reason": printable(reason)})


def printable(text: object) -> str:
    """A text that can be written as UTF-8; the name of a file may hold bytes that cannot."""
    return str(text).encode("utf-8", "backslashreplace").decode("utf-8")


def read_clip(source: ClipSource) -> KeypointClip:
    """The clip of a `ClipSource`.

    Raises:
        ValueError, OSError: as `read_keypoints` does; or the clip's times are no times, or lie beyond its file.
    """
    check_times(source)
    known: dict[str, Any] = dict(layout=source.layout, width=source.width, height=source.height, fps=source.fps)
    if source.offset is not None:
        return _read_skels_line(source)
    if source.start is None:
        return read_keypoints(source.path, **known)
    return _cut(_read_whole(source.path, **known), source)


def check_times(source: ClipSource) -> None:
    """Raises `ValueError` if `start` and `end` are no span of seconds."""
    for key in ("start", "end"):
        value = getattr(source, key)
        if value is not None and not is_number(value, 0, MAX_CLIP_SECONDS):
            raise ValueError(f"{source.id}: {key}={short(value)} must be seconds from 0 to {MAX_CLIP_SECONDS:,.0f}, or None.")
    if source.end is not None and source.start is None:
        raise ValueError(f"{source.id}: it ends at {source.end} s, but has no start. Expected both, or a start alone.")
    if source.end is not None and source.start is not None and source.end <= source.start:
        raise ValueError(f"{source.id}: it would last from {source.start} to {source.end} s, expected an end after the start.")


@functools.lru_cache(maxsize=1)  # the sentences of a video follow each other
def _read_whole(path: str, **known: Any) -> KeypointClip:
    return read_keypoints(path, **known)


def _cut(clip: KeypointClip, source: ClipSource) -> KeypointClip:
    """The part of a clip from `start` to `end`."""
    if clip.fps is None:
        raise ValueError(f"{source.id}: cutting {source.path} by seconds needs its frame rate. Pass fps (--fps).")
    num_frames = len(clip.keypoints)
    first = round((source.start or 0) * clip.fps)
    last = num_frames if source.end is None else round(source.end * clip.fps)
    if first >= num_frames or last > num_frames + clip.fps:  # rounding, and an end that is a little late, are no error
        raise ValueError(
            f"{source.id}: its times {source.start} to {source.end} s lie beyond the {num_frames / clip.fps:.2f} s of {source.path}."
        )
    span = slice(first, max(last, first + 1))
    return dataclasses.replace(clip, keypoints=clip.keypoints[span], confidence=clip.confidence[span])


def _read_skels_line(source: ClipSource) -> KeypointClip:
    descriptor, _ = open_regular(source.path)
    with os.fdopen(descriptor, "rb") as file:
        file.seek(source.offset or 0)
        line = file.readline(MAX_TEXT_BYTES + 1)
    return clip_from_skels(line, source.fps, f"{source.id} in {source.path}")


def skels_offsets(path: Path, ids: Sequence[str]) -> dict[str, int]:
    """{id: byte offset} of the lines of a `.skels` file, whose order is that of `ids` (its `.files`).

    Raises:
        ValueError: there are more or fewer lines than ids.
    """
    offsets, start, within = [], 0, False
    descriptor, _ = open_regular(path)
    with os.fdopen(descriptor, "rb") as file:
        while line := file.readline(MAX_TEXT_BYTES):  # a longer line comes in parts
            if not within:
                offsets.append(start)
            start += len(line)
            within = not line.endswith(b"\n")
    if len(offsets) != len(ids):
        raise ValueError(f"{path}: found {len(offsets)} lines for {len(ids)} names in its .files, expected one for each.")
    return dict(zip(ids, offsets))


# --- Annotations ----------------------------------------------------------------------------------------------------------------------


def read_lines(path: str | Path) -> list[str]:
    """The lines of a UTF-8 text file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not UTF-8, no regular file, or more than `MAX_TABLE_BYTES`.
    """
    try:
        return file_bytes(path, MAX_TABLE_BYTES).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: not UTF-8: byte {error.object[error.start]:#04x} at {error.start}. Convert it, for instance by: "
            f"iconv -f latin1 -t utf-8 {path}"
        ) from error


def read_table(path: str | Path, delimiter: str | None = None, columns: Sequence[str] = ()) -> list[Row]:
    """Rows of a table as dicts.

    Args:
        path: .parquet, .jsonl, or text with a header line: .csv with commas, .tsv with tabs, quoted where needed.
        delimiter: for corpora whose CSV files use another one; each line is then one row, whatever quotes it has.
        columns: names of columns that must be there.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not UTF-8, has no rows, a row of another length, another delimiter or a missing column, or exceeds the
            limits of a table.
    """
    path, rows = Path(path), []
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such table. Expected the path of a .csv, .tsv, .jsonl or .parquet file.{near_files(path)}")
    if path.suffix in (".xlsx", ".xls", ".ods", ".zip", ".gz"):
        raise ValueError(f"{path}: a {path.suffix} file is not read. Save the table as .csv with commas, or as .tsv with tabs.")
    if path.suffix == ".parquet":
        rows = _read_parquet(path)
    elif path.suffix in (".jsonl", ".ndjson"):
        lines = read_lines(path)
        _check_cells(sum(line.count(sign) for line in lines for sign in ",{["), path)
        for number, line in enumerate(lines, 1):
            try:
                row = json.loads(line) if line.strip() else None
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{path}, line {number}: not JSON ({brief(error)}).") from error
            if row is not None and not isinstance(row, dict):
                raise ValueError(f"{path}, line {number}: found a {type(row).__name__}, expected an object.")
            rows += [row] if row is not None else []
    else:
        rows = _read_delimited(path, delimiter)
    if not rows:
        raise ValueError(f"{path}: no rows, expected one for each clip.")
    _check_cells(len(rows) * len(rows[0]), path)
    rows = [row if row.keys() >= rows[0].keys() else dict.fromkeys(rows[0]) | row for row in rows]  # JSON may leave out what is null
    missing = [column for column in columns if column not in rows[0]]
    if missing:
        raise ValueError(f"{path}: found the columns {sorted(rows[0])}, expected {', '.join(missing)} too.")
    return rows


def _read_parquet(path: Path) -> list[Row]:
    import pyarrow
    import pyarrow.parquet

    descriptor, size = open_regular(path)
    with os.fdopen(descriptor, "rb") as file:
        if size > MAX_TABLE_BYTES:
            raise ValueError(f"{path}: {size >> 20:,} MB, expected at most {MAX_TABLE_BYTES >> 20:,} MB in a table. Split it.")
        rows, num_bytes = [], 0
        try:
            for batch in pyarrow.parquet.ParquetFile(file).iter_batches(batch_size=1024):
                num_bytes += batch.nbytes  # as unpacked: a few bytes of the file can stand for many
                if num_bytes > MAX_TABLE_BYTES:
                    raise ValueError(f"more than {MAX_TABLE_BYTES >> 20:,} MB when unpacked, the most that is read of a table. Split it")
                rows += batch.to_pylist()
                _check_cells(len(rows) * batch.num_columns, path)
        except (pyarrow.ArrowException, ValueError, OSError) as error:
            raise ValueError(f"{path}: not a whole Parquet file ({brief(error)}).") from error
    return rows


def _check_cells(count: int, path: Path) -> None:
    if count > MAX_TEXT_VALUES:
        raise ValueError(f"{path}: {count:,} cells, expected at most {MAX_TEXT_VALUES:,} in a table. Split it.")


def _read_delimited(path: Path, delimiter: str | None) -> list[Row]:
    lines = read_lines(path)
    sign = delimiter or ("\t" if path.suffix == ".tsv" else ",")
    _check_cells(sum(line.count(sign) for line in lines) + len(lines), path)
    if delimiter is None:
        _check_delimiter(lines[0] if lines else "", path)
        table = csv.reader((f"{line}\n" for line in lines), delimiter=sign)
    else:
        table = csv.reader(lines, delimiter=sign, quoting=csv.QUOTE_NONE)
    header: list[str] = []
    rows = []
    for cells in _checked_cells(table, path):
        if not cells:
            continue
        if not header:
            header = [cell.strip() for cell in cells]
            continue
        if len(cells) != len(header):
            raise ValueError(f"{path}, line {table.line_num}: found {len(cells)} cells, expected {len(header)}: {', '.join(header)}.")
        rows.append(dict(zip(header, map(_unquote, cells) if delimiter else cells)))
    return rows


def _checked_cells(table: Any, path: Path) -> Iterator[list[str]]:
    try:
        yield from table
    except csv.Error as error:  # a cell of more than 131,072 letters: a quote that is never closed
        raise ValueError(f"{path}, line {table.line_num}: {error}. Is a quote not closed?") from error


def _check_delimiter(header: str, path: Path) -> None:
    """Raises `ValueError` if a table has one column by its own delimiter, and several by another."""
    expected, other = ("\t", ",") if path.suffix == ".tsv" else (",", "\t")
    names = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "vertical bars"}
    likely = next((delimiter for delimiter in (";", other, "|") if delimiter in header), None)
    if expected not in header and likely:
        raise ValueError(
            f"{path}: found cells that are separated by {names[likely]} ({header!r}), expected {names[expected]}. Save the table with "
            "commas as .csv, or with tabs as .tsv."
        )


def _unquote(cell: str) -> str:
    """A cell without the quotes around it, if it has any."""
    return cell[1:-1].replace('""', '"') if len(cell) > 1 and cell[0] == cell[-1] == '"' else cell


def first_existing(candidates: Iterable[str | Path], what: str, data_dir: str | Path) -> Path:
    """The first of several paths below a corpus' folder that exists.

    Raises:
        FileNotFoundError: none of them exists; the message lists them.
    """
    data_dir, candidates = Path(data_dir), list(candidates)
    if not data_dir.is_dir():
        raise FileNotFoundError(f"{data_dir} is not a folder. Pass the corpus' own with data_dir (--data_dir).")
    for candidate in candidates:
        if (data_dir / candidate).exists():
            return data_dir / candidate
    looked = ", ".join(str(data_dir / candidate) for candidate in candidates)
    raise FileNotFoundError(f"No {what} here. Looked for: {looked}.")


def tables_of_splits(
    splits: Mapping[str, str], data_dir: str | Path, places: Callable[[str], list[str]]
) -> Iterator[tuple[str, str, Path]]:
    """Yields (corpus' name of a split, our name, its table) of the tables that exist.

    Args:
        splits: {corpus' name: our name}.
        places: the paths below `data_dir` where the table of a split may be.

    Raises:
        FileNotFoundError: no split has a table.
    """
    missing = []
    for name, split in splits.items():
        try:
            path = first_existing(places(name), Path(places(name)[0]).name, data_dir)
        except FileNotFoundError as error:
            missing.append(error)
        else:
            yield name, split, path
    if len(missing) == len(splits):
        raise missing[-1]


def walk(data_dir: str | Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """`os.walk` that follows links and visits each folder once, even where links form a loop.

    A folder that is below `data_dir` itself and behind a link too has the first path.
    """
    seen: set[tuple[int, int]] = set()
    waiting = [os.fspath(data_dir)]
    while waiting:
        for folder, folders, files in os.walk(waiting.pop(0)):
            status = os.stat(folder)
            if (status.st_dev, status.st_ino) in seen:
                folders.clear()
                continue
            seen.add((status.st_dev, status.st_ino))
            yield folder, folders, files
            waiting += [path for name in folders if os.path.islink(path := os.path.join(folder, name))]


def find_clips(data_dir: str | Path) -> tuple[dict[str, Path], list[tuple[str, str]]]:
    """{path below `data_dir` without its suffix: path} of all clips below a folder, in alphabetical order.

    A clip is a file of keypoints, or a folder of OpenPose's frames.

    Returns:
        The dict, and (name, reason) of each file beside which there is another one of the same name.
    """
    data_dir = Path(data_dir)
    clips: dict[str, Path] = {}
    shadowed = []
    if not data_dir.is_dir():
        raise FileNotFoundError(f"{data_dir} is not a folder. Pass the one that holds the clips.")
    with_video = 0
    for folder, folders, files in walk(data_dir):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        here = Path(folder)
        if here != data_dir and any(name.endswith(OPENPOSE_SUFFIX) for name in files):
            clips[here.relative_to(data_dir).as_posix()] = here
            folders.clear()
            continue
        with_video += sum(name.lower().endswith(VIDEO_SUFFIXES) for name in files)
        named = [here / name for name in files if not name.startswith(".") and Path(name).suffix.lower() in CLIP_SUFFIXES]
        if any(path.suffix.lower() != ".json" for path in named):  # JSON files beside other clips describe them
            named = [path for path in named if path.suffix.lower() != ".json"]
        for path in sorted(named, key=lambda path: (path.stem, CLIP_SUFFIXES.index(path.suffix.lower()))):
            name = path.relative_to(data_dir).with_suffix("").as_posix()
            if name in clips:
                shadowed.append((name, f"{path.name} stands beside {clips[name].name}, which was taken"))
            else:
                clips[name] = path
    if not clips:
        videos = f" It holds {with_video} videos: run python -m datasets_scripts.extract on them first." if with_video else ""
        raise ValueError(
            f"{data_dir}: no clip in this folder or below. Expected files that end in {', '.join(CLIP_SUFFIXES)}, or folders of OpenPose's "
            f"*{OPENPOSE_SUFFIX}.{videos}"
        )
    return dict(sorted(clips.items())), shadowed


def split_of(name: object, where: str | Path) -> str:
    """The name of a split as `datasets` takes it: "dev" and "val" are "validation"."""
    name = str(name).strip()
    split = SPLITS.get(name.lower(), name)
    if not re.fullmatch(r"\w+", split) or len(split.encode()) > MAX_SPLIT_BYTES:
        raise ValueError(
            f"{where}: split {short(name)}, expected train, validation, test, or another name of letters, digits and _, of at most "
            f"{MAX_SPLIT_BYTES} bytes."
        )
    return split


# --- Corpora --------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Corpus:
    """Facts of a corpus, and the function that lists its clips.

    Attributes:
        name: what `datasets_scripts.build` calls it.
        title, homepage, about: for the data set's card; `about` says in a sentence what it is and where its texts are from.
        licence: its identifier on the Hub.
        language: ISO 639-3 code of the sign language.
        list_clips: `list_clips(data_dir, **options)` -> `Listing`, reading no keypoints.
        read: `read(source)` -> `KeypointClip`.
        published: {split: number of clips} as its owners count them.
    """

    name: str
    title: str
    homepage: str
    about: str
    licence: str
    language: str
    list_clips: Callable[..., Listing]
    read: Callable[[ClipSource], KeypointClip] = read_clip
    published: dict[str, int] = field(default_factory=dict)

    def code_hash(self) -> str:
        """A hash that changes with the code that reads the corpus."""
        return processing_hash() + code_hash(*(function.__module__ for function in (read_clip, self.list_clips, self.read)))


def list_corpus(
    corpus: Corpus,
    data_dir: str | Path,
    language: str | None = None,
    source_layout: str | None = None,
    width: int | None = None,
    height: int | None = None,
    fps: float | None = None,
    **options: Any,
) -> Listing:
    """The clips of a corpus, each id once.

    Args:
        corpus: a `Corpus`.
        data_dir: its folder.
        language, source_layout, width, height, fps: of all clips, instead of what the corpus and its files say.
        **options: of `corpus.list_clips`.
    """
    if source_layout is not None:
        get_source_layout(source_layout)
    check_fps(fps, corpus.name)
    check_image(corpus.name, width=width, height=height)
    listing = corpus.list_clips(data_dir, **options)
    known: dict[str, Any] = dict(language=language, layout=source_layout, width=width, height=height, fps=fps)
    known = {key: value for key, value in known.items() if value is not None}
    sources: dict[str, ClipSource] = {}
    for source in listing.sources:
        name = printable(source.id)
        if name in sources:
            listing.leave_out(source.split, name, f"the id is there already, in split {sources[name].split}")
        else:
            sources[name] = dataclasses.replace(source, **{"id": name, "language": source.language or corpus.language} | known)
    listing.sources = list(sources.values())
    listing.labels = None if listing.labels is None else [printable(label) for label in listing.labels]
    if not listing.sources:
        reasons = examples(f"{entry['id']}: {entry['reason']}" for entry in listing.left_out)
        raise ValueError(f"{corpus.name}: no clip with its annotation in {data_dir}. {reasons}")
    return listing


def row_of(corpus: Corpus, source: ClipSource, layout: str | None = None) -> Row:
    """The canonical row of a `ClipSource`, checked.

    Args:
        layout: the model's layout to map it to; None keeps the source's.

    Raises:
        ValueError, OSError: the clip or its annotations cannot be used.
        ImportError: a package that reads it is not installed.
    """
    try:
        clip = corpus.read(source)
        if layout is not None:  # rows in the model's layout have no image size
            clip = map_layout(clip.in_pixels(), layout)
        return check_row(clip.row(source.id, source.language or corpus.language, source.text, source.gloss, source.label, source.signer))
    except (ValueError, OSError, ImportError):
        raise
    except Exception as error:  # one clip of an unforeseen kind must not end the build of all others
        raise ValueError(f"{source.id}: cannot be read ({type(error).__name__}: {brief(error)}).") from error


def row_shape(corpus: Corpus, sources: Sequence[ClipSource], layout: str | None = None) -> Shape:
    """(layout, K, C) that all rows of a data set share: the most common one among a few clips, spread over the list."""
    if layout is not None:
        get_layout(layout)
    step = -(-len(sources) // CLIPS_PROBED)
    spread = [source for start in range(step) for source in sources[start::step]]  # all clips; the first ones are spread over the list
    shapes: Counter[Shape] = Counter()
    reasons: list[str] = []
    for number, source in enumerate(spread):
        if number >= CLIPS_PROBED and shapes:
            break
        try:
            row = row_of(corpus, source, layout)
        except (ValueError, OSError) as error:
            reasons.append(str(error))
        else:
            shapes[row["layout"], *row["keypoints"].shape[1:]] += 1
    if not shapes:
        raise ValueError(f"{corpus.name}: not one of {len(sources)} clips can be used. {examples(reasons)}")
    return shapes.most_common(1)[0][0]


def examples(reasons: Iterable[str], most: int = 3) -> str:
    """The first reason of each kind, with the number of those like it."""
    by_kind: dict[str, list[str]] = {}
    for reason in reasons:
        by_kind.setdefault(kind_of_reason(reason), []).append(reason)
    alike = [f"{group[0]}{f' ({len(group):,} alike)' if len(group) > 1 else ''}" for group in by_kind.values()]
    return "; ".join(alike[:most])


def kind_of_reason(reason: str) -> str:
    """A reason without the names and numbers of its clip, so that reasons of one kind count together; a table keeps its name."""

    def is_own(word: str) -> bool:
        return "/" in word or (any(letter.isdigit() for letter in word) and not word.rstrip(",:.").endswith(TABLE_SUFFIXES))

    return " ".join("..." if is_own(word) else word for word in reason.split())[:160]


def read_rows(
    corpus: Corpus, sources: Iterable[ClipSource], shape: Shape, layout: str | None = None
) -> Iterator[tuple[ClipSource, Row | None, str | None]]:
    """Yields (source, row, None) for each source, or (source, None, reason) if it cannot be used."""
    for source in sources:
        try:
            row = row_of(corpus, source, layout)
            its_shape = row["layout"], *row["keypoints"].shape[1:]
            if its_shape != shape:
                raise ValueError(f"{source.id}: found layout, points and channels {its_shape}, expected {shape} as most clips have.")
        except (ValueError, OSError) as error:
            yield source, None, printable(error)
        else:
            yield source, row, None


def sources_hash(corpus: Corpus, sources: Iterable[ClipSource], layout: str | None, shape: Shape) -> str:
    """Sixteen digits that change with the clips, their annotations, their files, or the code that reads them."""
    facts: list[Any] = [corpus.code_hash(), corpus.name, layout, shape]
    for source in sources:
        facts.append(
            dataclasses.astuple(dataclasses.replace(source, path=Path(source.path).name))
        )  # the same corpus in another folder has the same hash
        try:
            status = os.stat(source.path)
            facts.append((status.st_size, status.st_mtime_ns))
        except OSError:  # a missing file is reported where it is read
            pass
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
