"""Builds canonical rows in sharded Parquet from a corpus as its owner distributes it.

    python -m datasets_scripts.build phoenix14t --data_dir PHOENIX-2014-T --output_dir phoenix14t --layout uniglor73 --num_proc 4
    python -m datasets_scripts.build folder --data_dir clips --annotations sentences.csv --output_dir rows --dry_run

OUTPUT_DIR/data holds <split>-00000-of-0000N.parquet, which `datasets.load_dataset(output_dir)` reads. audit.json says what was left out
and why, and counts clips beside the published numbers. dataset_card.md describes the data set.

A build that is interrupted leaves nothing that looks finished: finished shards wait in OUTPUT_DIR/.unfinished, and the same command
goes on from there. On a finished output it does nothing; an output of other arguments, files or code is refused.
"""

# ruff: noqa: E402 (--help and mistakes are answered before the imports that take seconds)

import argparse
import ast
import sys
from pathlib import Path
from typing import Any

from .commands import (
    MISTAKES,
    CommandParser,
    add_engine_options,
    check_num_proc,
    did_you_mean,
    existing_folder,
    in_words,
    language_code,
    output_folder,
    parse_early,
    positive,
    print_written,
    run_command,
)
from .options import CORPORA

PROG = "python -m datasets_scripts.build"
CLIPS_PER_SHARD = 500


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    words = sys.argv[1:] if argv is None else list(argv)
    corpora = "\n".join(f"  {name:12}{entry.about}" for name, entry in CORPORA.items())
    overview = CommandParser(
        __doc__, prog=PROG, usage=f"{PROG} CORPUS --data_dir FOLDER --output_dir FOLDER [option ...]",
        epilog=f"corpora:\n{corpora}\n\n{PROG} CORPUS --help describes the folder of a corpus and lists its options.",
    )  # fmt: skip
    overview.add_argument("name", metavar="CORPUS", choices=CORPORA, help="one of the corpora below; it comes first")
    name = overview.parse_args(words[:1]).name
    return _corpus_parser(name).parse_args(words[1:], argparse.Namespace(name=name))


def _corpus_parser(name: str) -> CommandParser:
    source = Path(__file__).with_name(f"{CORPORA[name].module}.py").read_text(encoding="utf-8")
    parser = CommandParser(
        ast.get_docstring(ast.parse(source)), prog=f"{PROG} {name}", argument_default=argparse.SUPPRESS,
        usage=f"{PROG} {name} --data_dir FOLDER --output_dir FOLDER [option ...]",
    )  # fmt: skip
    parser.add_argument("--data_dir", required=True, metavar="FOLDER", help="the corpus' folder, as described above")
    parser.add_argument("--output_dir", required=True, metavar="FOLDER", help="datasets.load_dataset(output_dir) reads the rows")
    parser.add_argument(
        "--layout", metavar="LAYOUT", help="map the points to this layout of the model, such as uniglor73; by default they stay as they are"
    )
    add_engine_options(parser)
    parser.add_argument("--clips_per_shard", type=positive, metavar="N", help=f"rows of a file (default {CLIPS_PER_SHARD})")
    parser.add_argument("--dry_run", action="store_true", help="read everything, write nothing, print the audit")
    parser.add_argument("--strict", action="store_true", help="stop at the first clip that would be left out")
    parser.add_argument("--push_to_hub", metavar="REPO", help="then upload it, as a private data set")
    own = parser.add_argument_group(f"of {name}")
    for option, described in CORPORA[name].options.items():
        own.add_argument(f"--{option}", **described)
    known = parser.add_argument_group("what you know better than the files")
    known.add_argument("--source_layout", metavar="LAYOUT", help="layout of the keypoints, where their shape leaves it open")
    known.add_argument("--width", type=int, metavar="PIXELS", help="of the image in pixels; coordinates relative to it need both")
    known.add_argument("--height", type=int, metavar="PIXELS")
    known.add_argument("--fps", type=float, help="frames per second")
    known.add_argument("--language", type=language_code, metavar="CODE", help="ISO 639-3 code of the sign language")
    return parser


def checked(argv: list[str] | None = None) -> argparse.Namespace:
    """The arguments of a command line, after a look at its folders."""
    arguments = parse(argv)
    arguments.data_dir = existing_folder(arguments.data_dir, "--data_dir")
    arguments.output_dir = output_folder(arguments.output_dir)
    check_num_proc(getattr(arguments, "num_proc", None))
    return arguments


if __name__ == "__main__":
    parse_early(checked)

import collections
import hashlib
import importlib
import json
import os
from collections.abc import Iterator
from typing import NamedTuple

from huggingface_hub.errors import HTTPError

from modeling_unigloR.configuration_uniglor import VERSION

from .corpus import KNOWN_BETTER, ClipSource, Corpus, Entry, Listing, Shape, kind_of_reason, list_corpus, read_rows, row_shape, sources_hash
from .schema import Row, features
from .shards import READY, Advance, finished, make_shards, publish, unfinished_folder
from .whole import discard, seal, whole_folder, write_json

Audit = dict[str, Any]  # what audit.json holds

CLIPS_PER_ROW_GROUP = 32  # what is held in memory while writing: about 10 MB of whole OpenPose clips
RESULTS = ("data", "audit.json", "dataset_card.md")  # moved in this order: `datasets` would read a lone audit as rows
ROWS = "rows.parquet"  # in the folder of a finished shard


class Shard(NamedTuple):
    """One file of a split: its clips, their shape, and the folder where it waits for the other shards (None in a dry run)."""

    corpus: Corpus
    sources: list[ClipSource]
    shape: Shape
    layout: str | None
    strict: bool
    path: Path | None

    @property
    def size(self) -> int:
        return len(self.sources)


def get_corpus(name: str) -> Corpus:
    if name not in CORPORA:
        raise ValueError(f"Unknown corpus {name!r}. Expected one of {', '.join(CORPORA)}.{did_you_mean(name, CORPORA)}")
    return getattr(importlib.import_module(f"datasets_scripts.{CORPORA[name].module}"), CORPORA[name].attribute)


# --- Shards ---------------------------------------------------------------------------------------------------------------------------


def build_shard(shard: Shard, folder: Path | None, advance: Advance) -> Audit:
    """Reads a shard's clips and writes them into its folder, if it has one; returns its part of the audit."""
    report: Audit = {"clips": 0, "frames": 0, "seconds": 0.0, "without_fps": 0, "without_text": 0, "without_label": 0, "left_out": []}
    kinds: collections.Counter[str] = collections.Counter()

    def rows() -> Iterator[Row]:
        for source, row, reason in read_rows(shard.corpus, shard.sources, shard.shape, shard.layout):
            num_frames = 0 if row is None else len(row["keypoints"])
            advance(1, num_frames)
            if row is None:
                if shard.strict:
                    raise ValueError(f"{source.id}: {reason}")
                report["left_out"].append({"split": source.split, "id": source.id, "reason": reason})
                continue
            report["clips"] += 1
            report["frames"] += num_frames
            report["seconds"] += num_frames / row["fps"] if row["fps"] else 0.0
            report["without_fps"] += not row["fps"]
            report["without_text"] += row["text"] is None
            report["without_label"] += row["label"] is None
            kinds["folder of JSON" if os.path.isdir(source.path) else Path(source.path).suffix] += 1
            yield row

    if folder is None:
        for _ in rows():
            pass
    else:
        from datasets.arrow_writer import ParquetWriter  # takes a second, which a dry run does not need

        columns = features(*shard.shape[1:])
        with ParquetWriter(path=str(folder / ROWS), features=columns, writer_batch_size=CLIPS_PER_ROW_GROUP) as writer:
            for row in rows():
                writer.write(row)
            writer.finalize()
    return report | {"kinds": dict(sorted(kinds.items()))}


# --- Data sets ------------------------------------------------------------------------------------------------------------------------


def build(
    name: str,
    data_dir: str | Path,
    output_dir: str | Path,
    layout: str | None = None,
    num_proc: int | None = None,
    dry_run: bool = False,
    strict: bool = False,
    clips_per_shard: int = CLIPS_PER_SHARD,
    engine: str = "processes",
    **options: Any,
) -> Audit:
    """Builds a corpus; returns its audit, which is also OUTPUT_DIR/audit.json.

    Args:
        name: a key of `CORPORA`.
        data_dir: the folder that its module describes.
        output_dir: where `data/`, `audit.json` and `dataset_card.md` go.
        layout: the model's layout to map rows to, such as "uniglor73"; None keeps the source's.
        num_proc, engine: see `shards.make_shards`; the files are the same for all.
        dry_run: reads everything and writes nothing.
        strict: raises `ValueError` at the first clip that would be left out.
        clips_per_shard: rows of a file.
        **options: of `corpus.list_corpus`, and those of the corpus in `options.CORPORA`.
    """
    if clips_per_shard < 1:
        raise ValueError(f"clips_per_shard={clips_per_shard} must be at least 1.")
    corpus, output_dir = get_corpus(name), Path(output_dir)
    accepted = (*CORPORA[name].options, *KNOWN_BETTER)
    unknown = [option for option in options if option not in accepted]
    if unknown:
        hints = "".join(did_you_mean(option, accepted) for option in unknown)
        raise ValueError(f"{name} knows no option {', '.join(unknown)}. Expected {', '.join(accepted)}.{hints}")
    listing = list_corpus(corpus, data_dir, **options)
    _check_strict(strict, listing.left_out)
    shape = row_shape(corpus, listing.sources, layout)
    key = sources_hash(corpus, listing.sources, layout, shape)
    facts: Audit = {
        "corpus": name,
        "layout": shape[0],
        "num_keypoints": shape[1],
        "num_channels": shape[2],
        "key": f"{key}-{clips_per_shard}",
    }
    places = ("annotations", "keypoints_dir")  # paths of this machine are private
    facts["options"] = {name: str(value) for name, value in sorted(options.items()) if value is not None and name not in places}
    facts["languages"] = sorted({source.language or corpus.language for source in listing.sources})
    chunks = list(_chunks(listing.sources, clips_per_shard))

    if dry_run:
        shards = [Shard(corpus, sources, shape, layout, strict, None) for sources in chunks]
        return _audit(corpus, facts, listing, shards, make_shards(build_shard, shards, num_proc, engine), data_dir)
    with unfinished_folder(output_dir, RESULTS) as waiting:
        audit = _finished_audit(output_dir, facts["key"])
        if audit is None:
            shards = [
                Shard(corpus, sources, shape, layout, strict, waiting / sources_hash(corpus, sources, layout, shape)) for sources in chunks
            ]
            for shard in shards:
                if shard.path is not None and not (shard.path / ROWS).exists():  # an earlier build was killed after it had moved them
                    discard(shard.path)
            audit = _audit(corpus, facts, listing, shards, make_shards(build_shard, shards, num_proc, engine), data_dir)
            _check_strict(strict, audit["left_out"])
            _make_ready(corpus, shards, audit, waiting)
            publish(waiting, output_dir, RESULTS)
    _check_strict(strict, audit["left_out"])
    return audit


def _check_strict(strict: bool, left_out: list[Entry]) -> None:
    if strict and left_out:
        entry = left_out[0]
        raise ValueError(f"{len(left_out)} clips would be left out. The first, {entry['id']} of {entry['split']}: {entry['reason']}")


def _chunks(sources: list[ClipSource], size: int) -> Iterator[list[ClipSource]]:
    """Lists of at most `size` consecutive sources of one split."""
    by_split: dict[str, list[ClipSource]] = {}
    for source in sources:
        by_split.setdefault(source.split, []).append(source)
    for of_split in by_split.values():
        for start in range(0, len(of_split), size):
            yield of_split[start : start + size]


def _finished_audit(output_dir: Path, key: str) -> Audit | None:
    """The audit of a finished build with the same key, None if nothing was built; raises `ValueError` for any other build."""
    path = output_dir / "audit.json"
    if not (output_dir / "data").exists():
        return None
    audit = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if audit.get("key") != key:
        raise ValueError(
            f"{output_dir} holds rows of {audit.get('corpus', 'something else')}, built from other files, with other arguments or by "
            "another version of the code. Remove it, or choose another output_dir."
        )
    return audit


def _make_ready(corpus: Corpus, shards: list[Shard], audit: Audit, waiting: Path) -> None:
    """Names the shards, and collects all results in a folder from which they need only be moved."""
    by_split: dict[str, list[Path]] = {}
    for shard in shards:
        report = finished(shard.path)
        if report is None or shard.path is None:
            raise ValueError(f"{shard.path} was altered while the others were built. The same command builds it again, and goes on.")
        if report["clips"]:  # a split without rows could not be read back
            by_split.setdefault(shard.sources[0].split, []).append(shard.path)
    with whole_folder(waiting / READY) as ready:
        write_json(audit, ready / "audit.json")
        (ready / "dataset_card.md").write_text(card(corpus, audit), encoding="utf-8")
        (ready / "data").mkdir()
        for split, paths in by_split.items():
            for number, path in enumerate(paths):
                os.replace(path / ROWS, ready / "data" / f"{split}-{number:05d}-of-{len(paths):05d}.parquet")
        seal(ready)


def _audit(
    corpus: Corpus, facts: dict[str, Any], listing: Listing, shards: list[Shard], reports: list[Audit], data_dir: str | Path
) -> Audit:
    left_out = listing.left_out + [entry for report in reports for entry in report["left_out"]]
    gone = {entry["id"] for report in reports for entry in report["left_out"]}
    splits: dict[str, Any] = {split: collections.Counter() for split in corpus.published}
    ids: dict[str, list[str]] = {}
    kinds: collections.Counter[str] = collections.Counter()
    for shard, report in zip(shards, reports):
        split = shard.sources[0].split
        counts = splits.setdefault(split, collections.Counter())
        counts.update({key: report[key] for key in ("clips", "frames", "seconds", "without_fps", "without_text", "without_label")})
        ids.setdefault(split, []).extend(source.id for source in shard.sources if source.id not in gone)
        kinds.update(report["kinds"])
    for split, counts in splits.items():
        splits[split] = {
            "clips": counts["clips"],
            "published": corpus.published.get(split),
            "left_out": sum(entry["split"] == split for entry in left_out),
            "without_text": counts["without_text"],
            "without_label": counts["without_label"],
            "frames": counts["frames"],
            "hours": round(counts["seconds"] / 3600, 3),
            "without_fps": counts["without_fps"],
            "ids_sha256": hashlib.sha256("\n".join(sorted(ids.get(split, ()))).encode()).hexdigest(),
        }
    return facts | {
        "splits": splits,
        "kinds_of_files": dict(sorted(kinds.items())),
        "labels": listing.labels,
        "columns_not_read": listing.columns_not_read,
        "left_out": _without_folders(left_out, listing.sources, data_dir),
        "doubtful": _without_folders(listing.doubtful, listing.sources, data_dir),
    }


def _without_folders(entries: list[Entry], sources: list[ClipSource], data_dir: str | Path) -> list[Entry]:
    """Entries without folders of this machine: files below `data_dir` keep their path from there, others their name."""
    parents = {source.id: os.path.dirname(source.path) for source in sources}
    cleaned = []
    for entry in entries:
        reason = entry["reason"]
        for folder in (str(data_dir), parents.get(entry["id"], "")):
            if os.path.isabs(folder):
                reason = reason.replace(os.path.join(folder, ""), "")
        cleaned.append(entry | {"reason": reason})
    return cleaned


def describe(audit: Audit) -> str:
    """The audit in a few lines."""
    lines = []
    for split, counts in audit["splits"].items():
        published = f" of {counts['published']:,} published" if counts["published"] else ""
        rate = f", {counts['hours']:.2f} h" if counts["frames"] and not counts["without_fps"] else ""
        lines.append(f"{split}: {counts['clips']:,} clips{published}, {counts['frames']:,} frames{rate}, {counts['left_out']:,} left out")
    for title in ("left_out", "doubtful"):
        reasons = collections.Counter(kind_of_reason(entry["reason"]) for entry in audit[title])
        lines += [f"{title.replace('_', ' ')}: {count:,} x {reason}" for reason, count in reasons.most_common(8)]
    return "\n".join(lines)


def remarks(audit: Audit) -> list[str]:
    """Sentences about what clips lack, and the columns and options that may provide it."""
    splits, table_columns = audit["splits"].values(), audit["columns_not_read"]
    total = sum(counts["clips"] for counts in splits)
    absent: list[str] = []
    sentences: list[str] = []
    for field, name in (("text", "text"), ("label", "label"), ("fps", "frame rate")):
        count = sum(counts[f"without_{field}"] for counts in splits)
        if count == total:
            absent.append(field)
            sentences.append(f"No clip has a {name}.")
        elif count:
            sentences.append(f"{count:,} of {total:,} clips have no {name}.")
    if "fps" in absent:
        sentences.append("A clip without a frame rate is read as if it had the model's. Pass --fps if all clips have the same.")
    if absent and audit["corpus"] == "folder":
        options = " or ".join(f"--{field}_column" for field in absent)
        for table, columns in table_columns.items():
            if columns:
                sentences.append(f"Columns of {table} that were not read: {', '.join(columns)}. Name one with {options}.")
        if not table_columns and absent != ["fps"]:
            sentences.append("Pass a table of texts or labels with --annotations.")
    return sentences


# --- The card, and the Hub --------------------------------------------------------------------------------------------------------------


def card(corpus: Corpus, audit: Audit) -> str:
    """The data set's card, with the front matter that the Hub reads."""
    splits = {split: counts for split, counts in audit["splits"].items() if counts["clips"]}
    files = "\n".join(f"  - split: {split}\n    path: data/{split}-*" for split in splits)
    rows = []
    for split, counts in splits.items():
        published = f"{counts['published']:,}" if counts["published"] else ""
        hours = "unknown" if counts["without_fps"] else counts["hours"]
        cells = (split, f"{counts['clips']:,}", published, f"{counts['frames']:,}", hours, counts["left_out"], counts["ids_sha256"][:12])
        rows.append(f"| {' | '.join(map(str, cells))} |")
    table = "\n".join(rows)
    total = sum(counts["clips"] for counts in splits.values())
    size = next((name for limit, name in ((1000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K")) if total < limit), "100K<n<1M")
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in audit["kinds_of_files"].items())
    num_points = audit["num_keypoints"]
    where = f"From {corpus.homepage}. " if corpus.homepage else ""
    return f"""---
pretty_name: {corpus.title} (keypoints)
license: {corpus.licence}
tags:
- sign-language
- keypoints
- uniglor
size_categories:
- {size}
configs:
- config_name: default
  data_files:
{files}
---

# {corpus.title}, as keypoints

{corpus.about} {where}Sign language (ISO 639-3): {", ".join(audit["languages"])}.

The corpus' licence and terms ({corpus.licence}) hold for these rows too: keypoints can identify a signer, and whether they may be
passed on is for its owners to say.

| split | clips | published | frames | hours | left out | ids |
| --- | --- | --- | --- | --- | --- | --- |
{table}

Rows are canonical: `id`, `keypoints` (T, {num_points}, {audit["num_channels"]}) and `confidence` (T, {num_points}),
`layout` ({audit["layout"]}), `fps`, `width`, `height`, `text`, `gloss`, `label`, `signer`, `language`. The column "ids" is the
start of the SHA-256 of a split's sorted ids, one a line. What was left out, and why: `audit.json`.

Built by `python -m datasets_scripts.build {corpus.name}` of uniglor {VERSION} from {kinds}.
"""


def push_to_hub(output_dir: str | Path, repo_id: str) -> Any:
    """Puts a finished build on the Hub in one commit, as a private data set; its card becomes README.md.

    Private, since most corpora forbid passing them on: make it public yourself where you may.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    output_dir, api = Path(output_dir), HfApi()
    api.create_repo(repo_id, repo_type="dataset", private=True, exist_ok=True)
    files = {path.relative_to(output_dir).as_posix(): path for path in sorted((output_dir / "data").glob("*.parquet"))}
    files |= {"audit.json": output_dir / "audit.json", "README.md": output_dir / "dataset_card.md"}
    stale = [name for name in api.list_repo_files(repo_id, repo_type="dataset") if name.startswith("data/") and name not in files]
    operations: list[CommitOperationAdd | CommitOperationDelete] = [
        CommitOperationAdd(path_in_repo=name, path_or_fileobj=str(path)) for name, path in files.items()
    ]
    operations += [CommitOperationDelete(path_in_repo=name) for name in stale]
    return api.create_commit(repo_id, operations, commit_message="Rows built by uniglor", repo_type="dataset")


# --- Command line -----------------------------------------------------------------------------------------------------------------------


def main(argv: list[str] | None = None) -> Audit:
    arguments = vars(checked(argv))
    repo_id, output_dir = arguments.pop("push_to_hub", None), arguments["output_dir"]
    try:
        audit = build(**arguments)
    except OSError as error:
        if isinstance(error, MISTAKES):
            raise
        raise OSError(f"{in_words(error)} Finished shards are kept in {output_dir / '.unfinished'}.") from error  # a full disk
    if arguments.get("dry_run"):
        print(json.dumps(audit, indent=1, ensure_ascii=False))
    print(describe(audit))
    for sentence in remarks(audit):
        print(sentence)
    if arguments.get("dry_run"):
        print("Nothing was written. Next: the same command without --dry_run")
        return audit
    if repo_id:
        try:
            push_to_hub(output_dir, repo_id)
        except (OSError, HTTPError) as error:  # HTTPError: of the transport, where nothing answers
            reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise ValueError(
                f"{output_dir} is built, but was not uploaded as {repo_id}: {reason} Expected a name below your own or an organisation of "
                "yours, a token that may write there (`hf auth login` or HF_TOKEN), and a network. The same command then uploads it."
            ) from error
        print(f"{repo_id}: uploaded, private")
    print_written([output_dir / name for name in RESULTS], f"python -m datasets_scripts.inspect_dataset {output_dir}")
    return audit


if __name__ == "__main__":
    run_command(main, "The same command goes on from the finished shards.")
