"""Latents of a whole data set, for search, clustering and models of your own; and the segments that are nearest to one of them.

    python -m train.embed --checkpoint outputs/sign-mae --datasets DIR --split train validation --output_dir latents
    python -m train.embed --latents latents --nearest CLIP_ID:SEGMENT --top 10 --other_clips

Writes LATENTS/data/SPLIT-*.parquet, one row for each segment (id, segment, start, end, latent, and the clip's text, gloss, label and
signer), which `datasets.load_dataset(LATENTS)` reads, and LATENTS/embedding.json, which says what made them. The folder appears when
all of it is written.
"""

from pathlib import Path

from train.engine.commands import CommandParser


def parse(argv=None):
    parser = CommandParser(__doc__)
    writing = parser.add_argument_group("writing latents")
    writing.add_argument("--checkpoint", help="folder or Hub id of a SignMAE and its keypoint processor")
    writing.add_argument("--datasets", nargs=1, help="canonical rows: a folder, a .parquet file or a Hub id")
    writing.add_argument("--split", nargs="+", default=["train"], help="names of splits; by default train")
    writing.add_argument("--stride", type=int, help="frames between the starts of segments; by default the model's")
    writing.add_argument("--output_dir", type=Path, help="a folder that is not there yet")
    writing.add_argument("--batch_size", type=int, default=16, help="clips that are encoded together")
    writing.add_argument("--device", help="by default a GPU, where there is one")
    searching = parser.add_argument_group("searching them")
    searching.add_argument("--latents", type=Path, help="a folder that was written")
    searching.add_argument("--nearest", metavar="CLIP_ID:SEGMENT", help="segment whose nearest ones are printed; the first is 0")
    searching.add_argument("--top", type=int, default=10, help="how many are printed; by default 10")
    searching.add_argument("--other_clips", action="store_true", help="leave out the segment's own clip")
    arguments = parser.parse_args(argv)
    if arguments.nearest is not None:
        if arguments.latents is None:
            parser.error("--nearest needs --latents, a folder that was written with --output_dir")
    elif not (arguments.checkpoint and arguments.datasets and arguments.output_dir):
        parser.error("writing latents needs --checkpoint, --datasets and --output_dir; searching them --latents and --nearest")
    return arguments


if __name__ == "__main__":
    parse()  # answers --help and mistakes before the imports that take seconds

import difflib
import itertools
import json
import math

import datasets
import numpy as np
import pyarrow.parquet
import torch
from tqdm import tqdm
from transformers.utils import logging

from datasets_scripts.extract import write_parquet
from datasets_scripts.whole import remove_unfinished, whole_folder, write_json
from modeling_unigloR import SignMAEEncoderModel
from modeling_unigloR.fingerprint_uniglor import code_hash, processing_hash
from modeling_unigloR.pipelines_uniglor import span_seconds
from train.data.clips import weights_hash
from train.data.segments import describe, load_rows, specs
from train.engine.loading import check_device, load_model, load_processor
from train.engine.runs import run_script

logger = logging.get_logger(__name__)

FACTS = "embedding.json"
CARRIED = ("text", "gloss", "label", "signer")  # what a row takes over from its clip


def main(argv=None):
    arguments = parse(argv)
    if arguments.nearest is not None:
        return print_nearest(EmbeddedSegments(arguments.latents), arguments.nearest, arguments.top, arguments.other_clips)
    return embed(
        arguments.checkpoint, specs(arguments.datasets)[0], arguments.split, arguments.output_dir, arguments.stride, arguments.batch_size,
        arguments.device or ("cuda" if torch.cuda.is_available() else "cpu"),
    )  # fmt: skip


# --- Writing ----------------------------------------------------------------------------------------------------------------------


def embed(checkpoint, dataset, splits, output_dir, stride=None, batch_size=16, device="cpu"):
    """Writes the latents of every segment of a data set's splits into a new folder; returns what embedding.json says.

    Args:
        checkpoint: folder or Hub id of a SignMAE and its keypoint processor.
        dataset: an entry of `segments.load_rows`.
        splits: list of names.
        output_dir: a folder that is not there yet, or empty.
        stride: frames between the starts of segments; by default the model's.
        batch_size: clips that are encoded together.

    Raises:
        ValueError: the folder is not empty, the stride is below 1, or no clip of a split can be used.
    """
    output_dir = Path(output_dir)
    if output_dir.exists() and (not output_dir.is_dir() or any(output_dir.iterdir())):
        raise ValueError(f"{output_dir} is already there. Give another --output_dir, or remove it.")
    if stride is not None and stride < 1:
        raise ValueError(f"Found stride={stride}, expected at least 1.")
    check_device(device)
    model, processor = load_model(checkpoint, SignMAEEncoderModel).to(device), load_processor(checkpoint)
    stride = model.config.stride if stride is None else stride
    facts = {
        "model": str(checkpoint),
        "weights": weights_hash(model),
        "code": {"processing": processing_hash(processor), "encoding": code_hash(of=model)},
        "dataset": describe(dataset),
        "window_size": model.config.window_size,
        "stride": stride,
        "hidden_size": model.config.hidden_size,
        "splits": {},
    }
    output_dir.parent.mkdir(parents=True, exist_ok=True)
    remove_unfinished(output_dir.parent)
    with whole_folder(output_dir) as unfinished:
        for split in splits:
            split_facts = facts["splits"][split] = {"clips": 0, "segments": 0, "unusable_clips": 0, "clips_of_unknown_rate": 0}
            sums = np.zeros((2, model.config.hidden_size))
            rows = embedded_rows(
                model, processor, load_rows(dataset, split), stride, batch_size, split_facts, sums, f"{describe(dataset)}, {split}"
            )
            rows = itertools.chain([next(rows)], rows)  # raises before a file is begun if no clip can be used
            write_parquet(rows, features(model.config.hidden_size), unfinished / "data" / f"{split}-00000-of-00001.parquet")
            mean = sums[0] / split_facts["segments"]
            std = np.sqrt(np.maximum(sums[1] / split_facts["segments"] - mean**2, 0))
            # About 0 and 1 on the SignMAE's training data. Values far from these show that this signing is unlike it.
            split_facts |= {"mean_of_absolute_means": float(abs(mean).mean()), "mean_of_standard_deviations": float(std.mean())}
        write_json(facts, unfinished / FACTS)
    for split, split_facts in facts["splits"].items():
        print(f"{output_dir}, {split}: {split_facts}")
    return facts


def features(hidden_size):
    return datasets.Features(
        {
            "id": datasets.Value("string"),
            "segment": datasets.Value("int32"),
            "start": datasets.Value("float64"),
            "end": datasets.Value("float64"),
            "latent": datasets.List(datasets.Value("float32"), length=hidden_size),
            "text": datasets.Value("string"),
            "gloss": datasets.Value("string"),
            "label": datasets.Value("int64"),
            "signer": datasets.Value("string"),
        }
    )


@torch.no_grad()
def embedded_rows(model, processor, rows, stride, batch_size, counts, sums, description):
    """Yields a row for each segment; adds to `counts`, and the latents and their squares to `sums` (2, D)."""
    for batch in batches(usable_clips(processor, rows, counts, description), batch_size):
        padded = processor.pad([clip for _, clip in batch], return_tensors="pt").to(model.device)
        latents, latent_mask = model.encode_sequence(padded["keypoints"], padded["attention_mask"], stride)
        for (row, clip), values, count in zip(batch, latents.float().cpu().numpy(), latent_mask.sum(1).tolist()):
            values = values[:count]
            sums += values.sum(0, dtype=float), np.square(values, dtype=float).sum(0)
            counts["segments"] += count
            first = np.arange(count) * stride
            seconds = span_seconds(clip.frame_times, np.stack([first, first + model.config.window_size], axis=1))
            carried = {name: _plain(row.get(name)) for name in CARRIED}
            for segment, (latent, (start, end)) in enumerate(zip(values, seconds.tolist())):
                yield {"id": str(row["id"]), "segment": segment, "start": start, "end": end, "latent": latent, **carried}


def usable_clips(processor, rows, counts, description):
    """Yields (row, `ProcessedClip`); clips that cannot be used are left out, counted, and named in one warning."""
    unusable = []
    for row in tqdm(rows.with_format("numpy"), desc=f"Encoding {description}", unit=" clips"):
        try:
            clip = processor.process_row(row)
        except ValueError as error:
            unusable.append(str(error))
            continue
        counts["clips"] += 1
        counts["clips_of_unknown_rate"] += _plain(row.get("fps")) is None
        yield row, clip
    counts["unusable_clips"] = len(unusable)
    if unusable:
        logger.warning(f"{description}: {len(unusable)} clips cannot be used, the first: " + "; ".join(unusable[:3]))
    if counts["clips_of_unknown_rate"]:
        logger.warning(
            f"{description}: the frame rate of {counts['clips_of_unknown_rate']} clips is not known; their start and end are frames."
        )
    if not counts["clips"]:
        raise ValueError(f"{description}: none of {len(unusable)} clips can be used. " + "; ".join(unusable[:3]))


def batches(items, size):
    """Yields lists of `size` items, the last maybe shorter."""
    items = iter(items)
    while batch := list(itertools.islice(items, size)):
        yield batch


def _plain(value):
    """A value of a row in numpy format as plain Python; a null, which numpy holds as NaN, is None again."""
    value = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(value, float) and math.isnan(value) else value


# --- Searching --------------------------------------------------------------------------------------------------------------------


class EmbeddedSegments:
    """The segments of a folder that `embed` wrote, all splits together.

    Attributes:
        latents: (N, D) float32, standardised; lengths: (N,) float32, their norms.
        ids, segments, starts, ends, texts: lists of N: the clip, the segment's number in it, its seconds, the clip's text or None.
        facts: what embedding.json says.
    """

    def __init__(self, folder):
        folder = Path(folder)
        files = sorted(folder.glob("data/*.parquet"))
        if not files or not (folder / FACTS).exists():
            raise ValueError(f"{folder} holds no latents. Expected a folder that python -m train.embed --output_dir wrote.")
        self.facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        table = pyarrow.concat_tables(pyarrow.parquet.read_table(file) for file in files)
        self.latents = table["latent"].combine_chunks().flatten().to_numpy().reshape(len(table), -1)
        self.lengths = vector_lengths(self.latents)
        self.ids, self.segments, self.starts, self.ends, self.texts = (
            table[name].to_pylist() for name in ("id", "segment", "start", "end", "text")
        )

    def __len__(self):
        return len(self.ids)

    def index(self, clip_id, segment):
        """The place of a clip's segment in `latents` and in the lists."""
        count = self.ids.count(clip_id)
        if not count:
            near = difflib.get_close_matches(clip_id, set(self.ids), n=3)
            raise ValueError(f"No clip {clip_id!r} here." + (f" Did you mean {', '.join(near)}?" if near else f" One is {self.ids[0]!r}."))
        if not 0 <= segment < count:
            raise ValueError(f"Clip {clip_id!r} has segments 0 to {count - 1}, found {segment}.")
        return self.ids.index(clip_id) + segment

    def of_clip(self, clip_id):
        """(N,) bool, True for the segments of a clip."""
        return np.array([name == clip_id for name in self.ids])


def vector_lengths(vectors):
    """(N,) Euclidean norms of (N, D) vectors, without the copy of them that `np.linalg.norm` makes."""
    return np.sqrt(np.einsum("nd,nd->n", vectors, vectors))


def _products(vectors, query):
    """(N,) products of (N, D) vectors with one (D,): at the memory's own speed, which takes BLAS half the time of `vectors @ query`."""
    return np.vecdot(vectors, query) if hasattr(np, "vecdot") else np.einsum("nd,d->n", vectors, query)  # numpy 1.26 has no vecdot


def nearest_segments(latents, query, top=10, exclude=None, lengths=None):
    """The latents that are most similar to one of them, or to another one: cosine of standardised latents.

    Args:
        latents: (N, D) float array.
        query: (D,), standardised as they are.
        top: how many; of fewer latents all.
        exclude: (N,) bool, True for those that are left out, such as the query's own clip; or None.
        lengths: (N,) norms of the latents, where they are known: for many queries, `EmbeddedSegments` computes them once.

    Returns:
        indices (top,) int, the most similar first and of equals the first, and similarities (top,), 1 for the same direction.

    Raises:
        ValueError: shapes that do not fit, top below 1, a query of zeros, or nothing left.
    """
    latents, query = np.asarray(latents), np.asarray(query)
    if latents.ndim != 2 or query.shape != latents.shape[1:]:
        raise ValueError(f"Found latents of shape {latents.shape} and a query of shape {query.shape}, expected (N, D) and (D,).")
    if top < 1:
        raise ValueError(f"Found top={top}, expected at least 1.")
    length = np.linalg.norm(query)
    if not length > 0:
        raise ValueError("The query is 0 in every dimension: it has no direction.")
    lengths = vector_lengths(latents) if lengths is None else lengths
    similarity = _products(latents, query) / (np.maximum(lengths, 1e-12) * length)
    candidates = np.arange(len(latents)) if exclude is None else np.flatnonzero(~np.asarray(exclude, bool))
    if not len(candidates):
        raise ValueError("No other segment is left to compare with.")
    distance = -similarity if exclude is None else -similarity[candidates]
    if top < len(candidates):  # sort only what can be among the first, ties with the last of them included
        near = np.flatnonzero(~(distance > np.partition(distance, top - 1)[top - 1]))
        candidates, distance = candidates[near], distance[near]
    best = candidates[np.argsort(distance, kind="stable")[:top]]
    return best, similarity[best]


def print_nearest(embedded, name, top=10, other_clips=False):
    """Prints the segments that are nearest to "CLIP_ID:SEGMENT", and returns their indices and similarities."""
    clip_id, colon, segment = name.rpartition(":")
    if not colon or not segment.isdecimal():
        raise ValueError(f"Found {name!r}, expected CLIP_ID:SEGMENT, such as {embedded.ids[0]}:0.")
    query = embedded.index(clip_id, int(segment))
    exclude = embedded.of_clip(clip_id) if other_clips else np.arange(len(embedded)) == query
    indices, similarities = nearest_segments(embedded.latents, embedded.latents[query], top, exclude, embedded.lengths)
    for index, similarity in [(query, 1.0), *zip(indices.tolist(), similarities.tolist())]:
        span = f"{embedded.starts[index]:7.2f} {embedded.ends[index]:7.2f}"
        print(f"{similarity:6.3f} {span}  {embedded.ids[index]}:{embedded.segments[index]}  {embedded.texts[index] or ''}")
    return indices, similarities


if __name__ == "__main__":
    run_script(main)
