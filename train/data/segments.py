"""Random segments for pretraining: clips processed once into flat memory-mapped frames, and one gather for every batch.

Shapes: M frames of all clips, N segments of a batch, W frames in a window, K keypoints, C channels.
"""

import hashlib
import itertools
import json
import shutil
from pathlib import Path
from typing import NamedTuple

import datasets
import numpy as np
import torch
from torch.utils.data import Dataset, IterableDataset, Sampler
from transformers.utils import logging

from datasets_scripts.shards import make_shards
from datasets_scripts.whole import scratch_folder
from modeling_unigloR.fingerprint_uniglor import processing_hash
from train.data.caches import INDEX, cache_folder, forget_waiting, keep, open_or_build, waiting_folder
from train.data.rows import iterate_rows
from train.engine.loading import DATASETS_BY, check_path

logger = logging.get_logger(__name__)

KEYPOINTS, MASKS = "keypoints.f4", "keypoint_mask.u1"  # frames end to end, in a store and in its shards
CLIPS_PER_SHARD = 500  # a second or two of one processor


class FrameStore:
    """All frames of a data set, normalised, end to end, memory-mapped from a folder.

    Attributes:
        keypoints: (M, K, C) float32 and keypoint_mask (M, K) bool, memory-mapped.
        offsets: (clips + 1,) int64, where each clip starts; lengths: (clips,) int64, its frames.
        ids: (clips,) names of the clips.
        key: names the folder by the rows, the processor, and the tables and the code that it works by.

    Raises:
        FileNotFoundError, DamagedError: see `cache.keep`.
    """

    def __init__(self, folder):
        keep(self, folder)
        self.key = Path(folder).name
        index = np.load(Path(folder) / INDEX)
        self.offsets, self.ids = index["offsets"], index["ids"]
        self.lengths = np.diff(self.offsets)  # kept: every batch asks for it, and there may be millions
        shape = (int(self.offsets[-1]), *index["point_shape"])
        self.keypoints = np.memmap(Path(folder) / KEYPOINTS, np.float32, "r", shape=shape)
        self.keypoint_mask = np.memmap(Path(folder) / MASKS, np.bool_, "r", shape=shape[:2])

    @classmethod
    def build(cls, rows, processor, cache_dir=None, description="frames", num_proc=None, engine="processes"):
        """Processes canonical rows into a folder named by their fingerprint, or opens the one that is there.

        Rows that cannot be used (no shoulders, nothing seen) are left out, with a warning that counts and names them. Where it is
        interrupted, the shards that are finished wait in a folder beside it (`caches.waiting_folder`), and the next call goes on.

        Args:
            rows: a `datasets.Dataset` of canonical rows.
            processor: a `KeypointProcessor`.
            cache_dir: where the folder goes; by default beside the data sets' own cache.
            num_proc, engine: see `shards.make_shards`; the frames are the same for all.
        """
        facts = [rows._fingerprint, processor.to_json_string(), processing_hash(processor)]
        key = hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]
        rate = "own rate" if processor.fps is None else f"{processor.fps:g} frames/s"
        place = cache_folder("frames", key, cache_dir)

        def write(folder):
            kept = len(rows) > CLIPS_PER_SHARD  # else there is nothing to go on from
            with waiting_folder(place) if kept else scratch_folder(folder / "shard") as waiting:
                _write_frames(rows, processor, folder, waiting, description, num_proc, engine)

        entry_facts = dict(data=description, processor=f"{processor.layout} at {rate}")
        store = open_or_build(cls, place, write, description, **entry_facts)
        forget_waiting(place)
        return store


class FrameShard(NamedTuple):
    """Rows `start` to `stop` of a data set, and the folder where their frames wait for the others."""

    start: int
    stop: int
    path: Path

    @property
    def size(self):
        return self.stop - self.start


class FrameWriter:
    """Writes the frames of a `FrameShard`'s rows end to end, and reports what a `FrameStore` says of them."""

    def __init__(self, rows, processor):
        self.rows, self.processor = rows, processor

    def __call__(self, shard, folder, advance):
        report = {"lengths": [], "ids": [], "unusable": [], "point_shape": None, "swapped": 0}
        with open(folder / KEYPOINTS, "wb") as keypoints, open(folder / MASKS, "wb") as masks:
            for row in iterate_rows(self.rows.select(range(shard.start, shard.stop))):
                try:
                    clip = self.processor.process_row(row)
                except ValueError as error:
                    report["unusable"].append(str(error))
                    advance(1, 0)
                    continue
                keypoints.write(np.ascontiguousarray(clip.keypoints).data)  # `tofile` would not say why it could not write
                masks.write(np.ascontiguousarray(clip.keypoint_mask).data)
                report["lengths"].append(len(clip.keypoints))
                report["ids"].append(str(row["id"]))
                report["point_shape"] = list(clip.keypoints.shape[1:])
                report["swapped"] += bool(clip.hands_swapped)
                advance(1, len(clip.keypoints))
        return report


def _write_frames(rows, processor, folder, waiting, description, num_proc, engine):
    spans = [(start, min(start + CLIPS_PER_SHARD, len(rows))) for start in range(0, len(rows), CLIPS_PER_SHARD)]
    shards = [FrameShard(start, stop, waiting / f"{start:012d}-{stop:012d}") for start, stop in spans]
    reports = make_shards(FrameWriter(rows, processor), shards, num_proc, engine, f"Processing {description}")
    lengths, ids, unusable = ([item for report in reports for item in report[name]] for name in ("lengths", "ids", "unusable"))
    swapped = sum(report["swapped"] for report in reports)
    if swapped:
        logger.warning(
            f"{description}: in {swapped} of {len(lengths)} clips the hands hang on the other side's wrists: they changed slots."
        )
    if unusable:
        logger.warning(f"{description}: {len(unusable)} of {len(rows)} clips cannot be used, the first: " + "; ".join(unusable[:3]))
    if not lengths:
        raise ValueError(f"{description}: none of {len(rows)} clips can be used. " + "; ".join(unusable[:3]))
    point_shape = next(report["point_shape"] for report in reports if report["lengths"])
    for name in (KEYPOINTS, MASKS):
        with open(folder / name, "wb") as joined:
            for shard in shards:
                with open(shard.path / name, "rb") as part:
                    shutil.copyfileobj(part, joined, 1 << 24)
    np.savez(folder / INDEX, offsets=np.cumsum([0] + lengths), ids=np.array(ids), point_shape=np.array(point_shape))


class SegmentDataset(Dataset):
    """One random segment of each clip and epoch. It depends on seed, epoch and clip alone, so that resuming is exact.

    An item's index is epoch * len(self) + place; `SegmentSampler` gives such indices. A batch is one gather for each store.

    Args:
        stores: `FrameStore`s.
        window_size: frames in a segment. Clips that are shorter are left out: all frames of a segment are real.
        weights: segments of a clip and epoch, relative to `segments_per_clip`, for each store: 2.0 shows every clip twice,
            0.5 shows half of the clips, others in each epoch.
    """

    def __init__(self, stores, window_size, weights=None, segments_per_clip=1, seed=0):
        self.stores, self.window_size, self.seed = stores, window_size, seed
        weights = [1.0] * len(stores) if weights is None else weights
        if len(weights) != len(stores):
            raise ValueError(f"Found {len(weights)} weights for {len(stores)} data sets.")
        self.clips = [np.flatnonzero(store.lengths >= window_size) for store in stores]
        self.draws = [round(weight * segments_per_clip * len(clips)) for weight, clips in zip(weights, self.clips)]
        self.bounds = np.cumsum([0] + self.draws)
        self._permutations = {}  # (store, epoch) -> clips in that epoch's order
        too_short = sum(len(store.lengths) - len(clips) for store, clips in zip(stores, self.clips))
        if too_short:
            num_clips = sum(len(store.lengths) for store in stores)
            logger.warning(f"{too_short} of {num_clips} clips are shorter than a segment ({window_size} frames) and left out.")
        if not len(self):
            raise ValueError(f"No clip of at least window_size={window_size} frames in {len(stores)} data sets: nothing to train on.")

    def __len__(self):
        return int(self.bounds[-1])

    def __getitem__(self, index):
        return self.__getitems__([index])

    def __getitems__(self, indices):
        """A batch: `keypoints` (N, W, K, C), `keypoint_mask` (N, W, K) and `clip_index` (N,), see `clip_ids`."""
        epoch, place = np.divmod(np.asarray(indices, np.int64), len(self))
        which = np.searchsorted(self.bounds, place, side="right") - 1
        keypoints, mask = None, None
        clip_index = np.zeros(len(place), np.int64)
        for number, store in enumerate(self.stores):
            rows = np.flatnonzero(which == number)
            if not len(rows):
                continue
            clips = self._clips_of(number, epoch[rows], place[rows] - self.bounds[number])
            starts = self._starts(number, epoch[rows], place[rows], store.lengths[clips])
            frames = (store.offsets[clips] + starts)[:, None] + np.arange(self.window_size)  # (N', W)
            taken = np.take(store.keypoints, frames, axis=0), np.take(store.keypoint_mask, frames, axis=0)  # twice as fast as an index
            if len(rows) == len(place):
                keypoints, mask = taken
            else:
                if keypoints is None:
                    keypoints = np.empty((len(place), *taken[0].shape[1:]), np.float32)
                    mask = np.empty(keypoints.shape[:3], np.bool_)
                keypoints[rows], mask[rows] = taken
            clip_index[rows] = sum(len(other.lengths) for other in self.stores[:number]) + clips
        return {
            "keypoints": torch.from_numpy(keypoints),
            "keypoint_mask": torch.from_numpy(mask),
            "clip_index": torch.from_numpy(clip_index),
        }

    def clip_ids(self, clip_index):
        """Names of the clips of a batch's `clip_index`."""
        ids = np.concatenate([store.ids for store in self.stores])
        return [str(ids[index]) for index in clip_index]

    def _clips_of(self, number, epoch, draw):
        """The clips of a store's draws: all in order for each whole part of the weight; for its fraction, a new choice in each epoch."""
        clips = self.clips[number]
        whole = draw < self.draws[number] // len(clips) * len(clips)
        chosen = clips[draw % len(clips)]
        for current in np.unique(epoch[~whole]):
            rows = ~whole & (epoch == current)
            chosen[rows] = self._permuted(number, int(current))[draw[rows] % len(clips)]
        return chosen

    def _permuted(self, number, epoch):
        """A store's clips in the order of an epoch, which every batch of the epoch asks for again."""
        if (number, epoch) not in self._permutations:
            current = {key: order for key, order in self._permutations.items() if key[1] >= epoch - 1}  # prefetching spans two epochs
            order = np.random.default_rng((self.seed, number, epoch)).permutation(self.clips[number])
            self._permutations = {**current, (number, epoch): order}
        return self._permutations[number, epoch]

    def _starts(self, number, epoch, place, lengths):
        noise = _hash(np.uint64(self.seed), np.uint64(number), epoch.astype(np.uint64), place.astype(np.uint64))
        return (noise % (lengths - self.window_size + 1).astype(np.uint64)).astype(np.int64)


def _hash(*numbers):
    """Mixes unsigned integers into one, element by element (the finaliser of SplitMix64)."""
    with np.errstate(over="ignore"):
        mixed = np.uint64(0)
        for number in numbers:
            mixed = (mixed ^ number) + np.uint64(0x9E3779B97F4A7C15)
            mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            mixed = mixed ^ (mixed >> np.uint64(31))
    return mixed


class SegmentSampler(Sampler):
    """A shuffled epoch of a `SegmentDataset`. Indices contain the epoch, so that workers need not be told which one it is."""

    def __init__(self, dataset):
        self.dataset, self.epoch = dataset, 0

    def set_epoch(self, epoch):
        self.epoch = int(epoch)

    def __len__(self):
        return len(self.dataset)

    def __iter__(self):
        size = len(self.dataset)
        order = np.random.default_rng((self.dataset.seed, self.epoch)).permutation(size)
        for start in range(0, size, 65536):  # as Python integers, an epoch of ten million segments would take half a gigabyte
            yield from (order[start : start + 65536] + self.epoch * size).tolist()


class SegmentStream(IterableDataset):
    """One random segment of each row of a streaming data set, in one pass after another without end.

    A segment depends on seed, pass and place in the stream alone. Trainer knows no length of a stream and counts the batches of all passes
    together: when it resumes, it takes as many from here and leaves them out.

    Args:
        rows: a `datasets.IterableDataset` of canonical rows.
        processor: a `KeypointProcessor`.
    """

    def __init__(self, rows, processor, window_size, seed=0):
        self.rows, self.processor, self.window_size, self.seed, self.epoch = rows, processor, window_size, seed, 0

    def set_epoch(self, epoch):
        """The pass to begin with."""
        self.epoch = int(epoch)

    def __iter__(self):
        for epoch in itertools.count(self.epoch):
            segments = self.one_pass(epoch)
            first = next(segments, None)
            if first is None:  # no clip is long enough, or this process of the loader has no file to read
                return
            yield from itertools.chain([first], segments)

    def one_pass(self, epoch):
        """The segments of one pass over the rows."""
        self.rows.set_epoch(epoch)
        for place, row in enumerate(self.rows.with_format("numpy")):
            try:
                clip = self.processor.process_row(row)
            except ValueError as error:
                if epoch == self.epoch:
                    logger.warning(f"Left out: {error}")
                continue
            free = len(clip.keypoints) - self.window_size
            if free < 0:
                continue
            noise = _hash(np.uint64(self.seed), np.uint64(0), np.uint64(epoch), np.uint64(place))
            span = slice(int(noise % np.uint64(free + 1)), int(noise % np.uint64(free + 1)) + self.window_size)
            yield {
                "keypoints": torch.from_numpy(clip.keypoints[span]),
                "keypoint_mask": torch.from_numpy(clip.keypoint_mask[span]),
            }


def consecutive_segments(store, window_size, max_segments=None):
    """Windows laid end to end in every clip of a store, for evaluation.

    Returns:
        keypoints (N, W, K, C), keypoint_mask (N, W, K), follows (N,) bool: True where a segment goes on from the one before it.
    """
    starts, follows = [], []
    for begin, length in zip(store.offsets[:-1], store.lengths):
        count = length // window_size
        starts.extend(begin + np.arange(count) * window_size)
        follows.extend([False] + [True] * (count - 1) if count else [])
    if not starts:
        raise ValueError(f"No clip of at least window_size={window_size} frames to evaluate on.")
    if max_segments is not None and len(starts) > max_segments:  # whole runs, spread over the set
        logger.warning(f"Evaluating the first {max_segments} of {len(starts)} segments.")
        starts, follows = starts[:max_segments], follows[:max_segments]
    frames = np.array(starts)[:, None] + np.arange(window_size)
    return torch.from_numpy(store.keypoints[frames]), torch.from_numpy(store.keypoint_mask[frames]), torch.tensor(follows)


def load_rows(spec, split):
    """Canonical rows of one entry of `datasets` or `validation` in a config.

    Args:
        spec: a path or Hub id, or a dict with `path` and optionally `split`, `streaming`, `weight`, and what the built-in
            `fingerspelling` corpus takes.
        split: used where the entry names none.

    Returns:
        `datasets.Dataset` or, with `streaming: true`, `datasets.IterableDataset`.
    """
    spec = {"path": spec} if isinstance(spec, str) else dict(spec)
    path, streaming = str(spec.pop("path")), spec.pop("streaming", False)
    split, _ = spec.pop("split", split), spec.pop("weight", None)
    if path == "fingerspelling":
        return load_fingerspelling(spec, split)
    if spec:
        raise ValueError(f"Unknown keys {sorted(spec)} for data set {path!r}. Expected path, split, streaming, weight.")
    path = check_path(path, "Data set", made_by=DATASETS_BY)
    place = {"path": "parquet", "data_files": {split: path}} if path.endswith(".parquet") else {"path": path}
    try:
        return datasets.load_dataset(**place, split=split, streaming=streaming)
    except (ValueError, datasets.exceptions.DatasetsError) as error:
        raise ValueError(f"Data set {path!r}, split {split!r}: {error}") from error


def specs(values):
    """Data sets as the command line gives them; one that starts with { is a dict in JSON."""
    return [json.loads(value) if value.lstrip().startswith("{") else value for value in values]


def describe(spec):
    """A short name of a `datasets` entry, for progress bars and reports."""
    return spec if isinstance(spec, str) else str(spec["path"])


def names(specs):
    """Names of data sets for a report, without the folders in which this machine keeps them."""
    return [Path(describe(spec)).name if Path(describe(spec)).exists() else describe(spec) for spec in specs]


def load_fingerspelling(spec, split):
    """A split of the built-in corpus; `spec` holds what `datasets_scripts.fingerspelling.build` takes."""
    from datasets_scripts import fingerspelling

    corpus = fingerspelling.build(**spec)
    return corpus["train" if spec.get("unit") == "letter" else split]  # letters belong to no split
