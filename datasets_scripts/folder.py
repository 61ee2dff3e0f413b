"""Your own data: any folder of clips, with or without a table of their texts or labels.

    python -m datasets_scripts.build folder --data_dir clips --annotations sentences.csv --text_column german --output_dir rows
    python -m datasets_scripts.build folder --data_dir clips --annotations train=train.tsv validation=dev.tsv --output_dir rows

A clip is a file of keypoints (.pose, .npz, .npy, .json, .skels) or a folder of OpenPose's frames, anywhere below the folder. A row of
a table (.csv, .tsv, .jsonl, .parquet) names its clip in `--path_column`, by its path below the folder, or in `--id_column`: by its path
below the folder, or by its name alone where that is unique. `docs/own_data.md` goes through it step by step.
"""

import dataclasses
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from modeling_unigloR.limits_uniglor import MAX_LABELS, short

from .commands import did_you_mean
from .corpus import CLIP_SUFFIXES, SPLITS, ClipSource, Corpus, Listing, find_clips, read_table, split_of
from .options import COLUMNS
from .schema import Row

Annotations = str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None


def list_clips(data_dir: str | Path, annotations: Annotations = None, **columns: str) -> Listing:
    """Clips of a folder.

    Args:
        annotations: tables, each a path or "split=path"; one or a list. None takes all clips, without texts.
        **columns: names of the tables' columns, see `COLUMNS`. `start_column` and `end_column` are seconds in a longer file.
    """
    clips, shadowed = find_clips(data_dir)
    listing = Listing()
    for name, reason in shadowed:
        listing.leave_out(_split_by_folder(name), name, reason)
    if annotations is None:
        if columns:
            raise ValueError(f"{', '.join(sorted(columns))} name columns of a table, but there is no table. Pass annotations.")
        listing.sources = [ClipSource(name, _split_by_folder(name), str(path)) for name, path in clips.items()]
        return listing
    by_name: dict[str, list[str]] = {}
    for name in clips:
        by_name.setdefault(Path(name).name, []).append(name)
    used: set[str] = set()
    for annotation in [annotations] if isinstance(annotations, (str, os.PathLike)) else annotations:
        split, path = _split_and_path(annotation)
        rows = read_table(path)
        taken = _columns(rows[0], columns, path)
        listing.columns_not_read[path.name] = [column for column in rows[0] if column not in taken.values()]
        for row in rows:
            _add(listing, {key: row[column] for key, column in taken.items()}, split, clips, by_name, used, path)
    for name in clips:
        if name not in used:
            listing.leave_out(_split_by_folder(name), name, "no row of a table names this clip")
    _number_labels(listing)
    return listing


def _split_and_path(annotation: str | os.PathLike[str]) -> tuple[str | None, Path]:
    split, equals, path = str(annotation).partition("=")
    if equals and not Path(annotation).exists():
        return split_of(split, Path(annotation)), Path(path)
    return None, Path(annotation)


def _columns(row: Row, asked: Mapping[str, str], path: Path) -> dict[str, str]:
    """{field: column} of a table; a column that the user asks for must be there."""
    taken = {}
    for option, default in COLUMNS.items():
        column, field = asked.get(option, default), option.removesuffix("_column")
        if column is not None and column in row:
            taken[field] = column
        elif option in asked:
            hint = did_you_mean(str(column), map(str, row))
            raise ValueError(f"{path}: no column {column!r} (--{option}). It has {', '.join(map(str, row))}.{hint}")
    if not ("id" in taken or "path" in taken):
        raise ValueError(
            f"{path}: no column 'id'. It has {', '.join(map(str, row))}. Pass the name of the column of the clips with --id_column."
        )
    if not ("text" in taken or "label" in taken or "gloss" in taken):
        raise ValueError(
            f"{path}: no column 'text', 'gloss' or 'label'. It has {', '.join(map(str, row))}. Pass the name of the column of the "
            "texts with --text_column, or of the labels with --label_column."
        )
    if "end" in taken and "start" not in taken:
        raise ValueError(f"{path}: --end_column needs --start_column.")
    return taken


def _add(
    listing: Listing,
    row: Row,
    split: str | None,
    clips: Mapping[str, Path],
    by_name: Mapping[str, Sequence[str]],
    used: set[str],
    path: Path,
) -> None:
    """Adds the clip of a table's row to the listing, or says why not."""
    row = {key: None if _empty(value) else value for key, value in row.items()}
    named = _name(row.get("path") or row.get("id") or "")
    name = named if named in clips else None
    if name is None and len(by_name.get(named, ())) == 1:
        name = by_name[named][0]
    clip_id = str(row["id"]) if row.get("id") else named
    default = split or _split_by_folder(name or "")
    try:
        split = split_of(row["split"], path) if row.get("split") else default
    except ValueError as error:
        used.update([name] if name else [])
        listing.leave_out(default, clip_id, str(error))
        return
    if name is None:
        several = len(by_name.get(named, ()))
        reason = f"{several} clips have this name: write the path of one" if several else f"in {path.name}, but there is no clip of it"
        listing.leave_out(split, clip_id, reason)
        return
    used.add(name)
    try:
        times = {key: _number(row.get(key), key, clip_id, path) for key in ("fps", "start", "end")}
    except ValueError as error:
        listing.leave_out(split, clip_id, str(error))
        return
    if row.get("text") is None and "text" in row:
        listing.doubt(split, clip_id, f"its text is empty in {path.name}")
    strings = {key: str(row[key]).strip() for key in ("text", "gloss", "signer", "language") if row.get(key) is not None}
    known: Row = {"label": row.get("label"), **strings, **times}  # its label may be a word until `_number_labels`
    listing.sources.append(ClipSource(clip_id, split, str(clips[name]), **known))


def _empty(value: object) -> bool:
    return value is None or (isinstance(value, str) and not value.strip()) or (isinstance(value, float) and math.isnan(value))


def _name(value: object) -> str:
    """The path of a clip without its suffix."""
    path = Path(str(value).strip())
    return (path.with_suffix("") if path.suffix.lower() in CLIP_SUFFIXES else path).as_posix()


def _number(value: Any, key: str, clip_id: str, path: Path) -> float | None:
    try:
        if isinstance(value, bool):
            raise TypeError("a bool")
        return None if value is None else float(value)
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"{path}: {clip_id} has {key} {short(value)}, expected a number.") from error


def _number_labels(listing: Listing) -> None:
    """Whole numbers stay as they are; words become their index in alphabetical order, and the gloss where there is none."""
    kept, numbered = [], all(str(source.label).isdecimal() for source in listing.sources if source.label is not None)
    for source in listing.sources:
        if numbered and source.label is not None and (len(str(source.label)) > 1000 or int(source.label) >= MAX_LABELS):
            reason = f"its label is {short(str(source.label))}, expected a number below {MAX_LABELS:,}, or a word"
            listing.leave_out(source.split, source.id, reason)
        else:
            kept.append(source)
    listing.sources = kept
    values = {str(source.label) for source in listing.sources if source.label is not None}
    if numbered:
        labels = {value: int(value) for value in values}
    else:
        listing.labels = sorted(values)
        labels = {value: number for number, value in enumerate(listing.labels)}
    for index, source in enumerate(listing.sources):
        if source.label is not None:
            word = str(source.label)
            gloss = source.gloss or (word if listing.labels else None)
            listing.sources[index] = dataclasses.replace(source, label=labels[word], gloss=gloss)


def _split_by_folder(name: str) -> str:
    parts = Path(name).parts
    return SPLITS.get(parts[0].lower(), "train") if len(parts) > 1 else "train"


CORPUS = Corpus(
    name="folder",
    title="Own data",
    homepage="",
    about="Clips of a folder.",
    licence="unknown",
    language="und",
    list_clips=list_clips,
)
