"""Random segments: the frames that are on disk, a function of seed, epoch and clip, whole or not at all."""

import contextlib
import itertools
import os

import numpy as np
import pytest
import torch
from datasets import Dataset, List

from datasets_scripts import schema
from modeling_unigloR import KeypointProcessor
from train.data import caches, segments
from train.data.segments import FrameStore, SegmentDataset, SegmentSampler, SegmentStream, consecutive_segments

from .conftest import random_signing


def rows_of(lengths, **changes):
    for number, length in enumerate(lengths):
        row = dict(
            id=f"clip-{number}", keypoints=random_signing(length, seed=number) * 100 + 200, confidence=np.ones((length, 73), np.float32),
            layout="uniglor73", fps=25.0, width=400, height=400, text="x", gloss=None, label=None, signer=None, language="ase",
        )  # fmt: skip
        yield row | {key: value(row, number) for key, value in changes.items()}


def dataset_of(lengths, **changes):
    return Dataset.from_list(list(rows_of(lengths, **changes)), features=schema.features(73, 2))


@pytest.fixture
def store(tmp_path):
    return FrameStore.build(dataset_of([40, 15, 9, 100]), KeypointProcessor(), tmp_path)


def test_a_store_holds_every_clip_as_the_processor_gives_it(store):
    processor = KeypointProcessor()
    assert store.ids.tolist() == ["clip-0", "clip-1", "clip-2", "clip-3"] and store.lengths.tolist() == [40, 15, 9, 100]
    for number, row in enumerate(rows_of([40, 15, 9, 100])):
        clip = processor.process_row(row)
        span = slice(store.offsets[number], store.offsets[number + 1])
        np.testing.assert_allclose(store.keypoints[span], clip.keypoints, atol=1e-6)
        np.testing.assert_array_equal(store.keypoint_mask[span], clip.keypoint_mask)


def test_rows_of_unknown_rate_and_size_are_left_at_their_own(tmp_path):
    """A null column comes out of `datasets` as NaN in numpy's format."""
    unknown = dict.fromkeys(("fps", "width", "height"), lambda row, number: None)
    assert FrameStore.build(dataset_of([40, 30], **unknown), KeypointProcessor(fps=50.0), tmp_path).lengths.tolist() == [40, 30]


def test_a_store_is_built_once_for_rows_and_processor(tmp_path):
    rows = dataset_of([40, 20])
    FrameStore.build(rows, KeypointProcessor(), tmp_path)
    folder = tmp_path / "uniglor_frames"
    first = [(path.name, path.stat().st_mtime_ns) for path in folder.iterdir()]
    FrameStore.build(rows, KeypointProcessor(), tmp_path)
    assert [(path.name, path.stat().st_mtime_ns) for path in folder.iterdir()] == first
    FrameStore.build(rows, KeypointProcessor(fps=50.0), tmp_path)
    assert len(list(folder.iterdir())) == 2


def test_a_build_that_dies_leaves_nothing_that_looks_finished(tmp_path, monkeypatch):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez", interrupt)
    with pytest.raises(KeyboardInterrupt):
        FrameStore.build(dataset_of([40]), KeypointProcessor(), tmp_path)
    assert list((tmp_path / "uniglor_frames").iterdir()) == []


def stored(store):
    arrays = store.keypoints, store.keypoint_mask, store.offsets
    return store.ids.tolist(), *(np.array(values).tobytes() for values in arrays)


def half_seen(row, number):
    """Every third clip shows nothing, and of the others the hands are missing now and then."""
    confidence = row["confidence"].copy()
    confidence[number % 5 :: 5, 27:] = 0
    return confidence * (number % 3 > 0)


@pytest.fixture
def ten_rows(tmp_path, monkeypatch):
    """Rows of ten clips in four shards, memory-mapped as those of a real data set are."""
    monkeypatch.setattr(segments, "CLIPS_PER_SHARD", 3)
    path = str(tmp_path / "rows.parquet")
    changes = dict(confidence=half_seen, fps=lambda row, number: None if number == 4 else 50.0)
    dataset_of([40, 15, 9, 100, 30, 31, 32, 33, 34, 35], **changes).to_parquet(path)
    return Dataset.from_parquet(path, cache_dir=str(tmp_path / "arrow"))


def test_frames_are_those_of_the_rows_one_by_one_for_any_number_of_processes(tmp_path, ten_rows):
    """The code before took each row through `datasets`' numpy format, and wrote it at once."""
    clips = []
    for row in ten_rows.with_format("numpy"):
        with contextlib.suppress(ValueError):
            clips.append((str(row["id"]), KeypointProcessor().process_row(row)))
    expected = [name for name, _ in clips], b"".join(clip.keypoints.tobytes() for _, clip in clips)
    stores = [FrameStore.build(ten_rows, KeypointProcessor(), tmp_path / str(count), num_proc=count) for count in (1, 2)]
    assert stored(stores[0])[:2] == expected and stored(stores[0]) == stored(stores[1]) and len(clips) == 6
    files = [{path.name: path.read_bytes() for path in (tmp_path / name / "uniglor_frames").rglob("*.*")} for name in "12"]
    assert files[0] == files[1]


def test_chosen_and_shuffled_rows_come_in_their_order(tmp_path, ten_rows):
    rows = ten_rows.select([8, 1, 5, 4])
    assert FrameStore.build(rows, KeypointProcessor(), tmp_path).ids.tolist() == ["clip-8", "clip-1", "clip-5", "clip-4"]


def test_rows_of_other_features_are_read_too(tmp_path):
    """From a table that somebody else wrote: nested lists of float64, which `datasets` turns into numpy arrays."""
    rows = dataset_of([40, 30])
    plain = Dataset.from_list([row | {"keypoints": np.array(row["keypoints"]).tolist()} for row in rows])
    assert isinstance(plain.features["keypoints"], List)
    stores = [FrameStore.build(kind, KeypointProcessor(), tmp_path) for kind in (rows, plain)]
    assert stored(stores[0]) == stored(stores[1]) and stores[0].key != stores[1].key


def test_a_killed_build_processes_no_finished_shard_again(tmp_path, ten_rows, monkeypatch, capsys):
    processed, process = [], KeypointProcessor.process_row

    def stop_at_the_eighth(self, row):
        if len(processed) == 7:
            raise KeyboardInterrupt
        processed.append(row["id"])
        return process(self, row)

    monkeypatch.setattr(KeypointProcessor, "process_row", stop_at_the_eighth)
    with pytest.raises(KeyboardInterrupt):
        FrameStore.build(ten_rows, KeypointProcessor(), tmp_path)
    (entry,) = caches.entries(tmp_path)
    assert entry.note == "finished part of one that was stopped: the same command goes on"
    torn, *_ = sorted(entry.path.glob("*/keypoints.f4"))
    os.truncate(torn, 1000)
    del processed[:]
    monkeypatch.setattr(KeypointProcessor, "process_row", lambda self, row: processed.append(row["id"]) or process(self, row))
    store = FrameStore.build(ten_rows, KeypointProcessor(), tmp_path)
    assert processed == [f"clip-{number}" for number in (0, 1, 2, 6, 7, 8, 9)] and f"{torn} has 1,000 bytes" in capsys.readouterr().err
    assert stored(store) == stored(FrameStore.build(ten_rows, KeypointProcessor(), tmp_path / "whole"))
    assert [path.name for path in (tmp_path / "uniglor_frames").iterdir()] == [store.key]


def test_shards_of_a_build_that_nobody_finishes_can_be_removed(tmp_path, ten_rows, monkeypatch):
    monkeypatch.setattr(segments.np, "savez", lambda *_, **__: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space left on device; .* Finished shards are kept in .*shards: the same command goes on"):
        FrameStore.build(ten_rows, KeypointProcessor(), tmp_path)
    assert len(caches.clean(tmp_path, older_than=0, remove=True)) == 1 and list((tmp_path / "uniglor_frames").iterdir()) == []


def test_clips_that_cannot_be_used_are_left_out_and_named(tmp_path, monkeypatch):
    def nothing_seen_in_the_first(row, number):
        return row["confidence"] * (number > 0)

    said = []
    monkeypatch.setattr(segments.logger, "warning", said.append)
    kept = FrameStore.build(dataset_of([40, 30], confidence=nothing_seen_in_the_first), KeypointProcessor(), tmp_path)
    assert kept.ids.tolist() == ["clip-1"]
    assert "1 of 2 clips cannot be used, the first: clip-0: not one keypoint" in said[0]
    with pytest.raises(ValueError, match="none of 1 clips can be used. clip-0"):
        FrameStore.build(dataset_of([40], confidence=nothing_seen_in_the_first), KeypointProcessor(), tmp_path)


def test_a_segment_is_a_window_of_its_clip(store):
    data = SegmentDataset([store], window_size=15)
    assert len(data) == 3  # the clip of 9 frames is left out
    for index in range(30):  # ten epochs
        item = data[index]
        clip = store.ids.tolist().index(data.clip_ids(item["clip_index"].tolist())[0])
        assert clip == [0, 1, 3][index % 3]
        frames = store.keypoints[store.offsets[clip] : store.offsets[clip + 1]]
        windows = [frames[start : start + 15] for start in range(len(frames) - 14)]
        assert any((item["keypoints"][0].numpy() == window).all() for window in windows)


def test_a_batch_is_the_items_one_by_one(store):
    data = SegmentDataset([store, store], window_size=15, weights=[1, 0.5], segments_per_clip=2)
    indices = [5, 0, 17, 3, 100]
    batch = data.__getitems__(indices)
    for place, index in enumerate(indices):
        for key, value in data[index].items():
            assert (batch[key][place] == value[0]).all()


def test_a_part_of_the_clips_is_drawn_anew_in_each_epoch_and_by_any_worker(store):
    data = SegmentDataset([store], 15, weights=[2 / 3])
    for epoch in (0, 1, 5, 2, 5):  # also out of order: what is kept of one epoch must not answer for another
        clips = data.__getitems__(range(epoch * len(data), (epoch + 1) * len(data)))["clip_index"].tolist()
        assert clips == np.random.default_rng((0, 0, epoch)).permutation([0, 1, 3])[:2].tolist()


def test_a_large_epoch_is_shuffled_whole(store):
    data = SegmentDataset([store], 15, segments_per_clip=30_000)
    sampler = SegmentSampler(data)
    sampler.set_epoch(2)
    assert list(sampler) == (np.random.default_rng((0, 2)).permutation(90_000) + 2 * 90_000).tolist()


def test_segments_depend_on_seed_and_epoch_alone(store):
    one, same, other = (SegmentDataset([store], 15, seed=seed) for seed in (0, 0, 1))
    epochs = [one.__getitems__(range(epoch * 3, epoch * 3 + 3))["keypoints"] for epoch in range(8)]
    assert (same.__getitems__(range(3))["keypoints"] == epochs[0]).all()
    assert any((other.__getitems__(range(e * 3, e * 3 + 3))["keypoints"] != epochs[e]).any() for e in range(8))
    assert any((epoch != epochs[0]).any() for epoch in epochs)


def test_every_window_start_is_drawn(tmp_path):
    store = FrameStore.build(dataset_of([20]), KeypointProcessor(), tmp_path)
    data = SegmentDataset([store], 15)
    firsts = {float(data[index]["keypoints"][0, 0, 0, 0]) for index in range(200)}
    assert len(firsts) == 6


def test_weights_are_segments_of_a_clip_and_epoch(tmp_path):
    first = FrameStore.build(dataset_of([20] * 10), KeypointProcessor(), tmp_path)
    second = FrameStore.build(dataset_of([21] * 4), KeypointProcessor(), tmp_path)
    data = SegmentDataset([first, second], 15, weights=[0.5, 2])
    assert len(data) == 5 + 8
    drawn = [np.sort(data.__getitems__(range(e * 13, e * 13 + 13))["clip_index"].numpy()) for e in range(6)]
    for clips in drawn:
        assert len(set(clips[clips < 10])) == 5 and np.bincount(clips[clips >= 10] - 10).tolist() == [2, 2, 2, 2]
    assert len({tuple(clips[clips < 10]) for clips in drawn}) > 1


def test_a_sampler_shuffles_each_epoch_anew(store):
    sampler = SegmentSampler(SegmentDataset([store], 15, segments_per_clip=20))
    first = list(sampler)
    sampler.set_epoch(1)
    second = list(sampler)
    assert sorted(first) == list(range(60)) and sorted(second) == list(range(60, 120))
    assert [index - 60 for index in second] != first
    sampler.set_epoch(0)
    assert list(sampler) == first


def test_a_stream_gives_windows_of_its_rows_in_one_pass_after_another():
    stream = SegmentStream(dataset_of([40, 9, 30]).to_iterable_dataset(), KeypointProcessor(), 15)
    items = list(itertools.islice(stream, 6))
    assert [item["keypoints"].shape for item in items] == [(15, 73, 2)] * 6
    again = itertools.islice(stream, 6)
    assert all((a["keypoints"] == b["keypoints"]).all() for a, b in zip(items, again))
    assert any((a["keypoints"] != b["keypoints"]).any() for a, b in zip(items, items[2:]))
    stream.set_epoch(1)
    assert all((a["keypoints"] == b["keypoints"]).all() for a, b in zip(items[2:], stream))


def test_a_stream_without_a_clip_that_is_long_enough_ends():
    assert list(SegmentStream(dataset_of([9]).to_iterable_dataset(), KeypointProcessor(), 15)) == []


def test_consecutive_segments_lie_end_to_end(store):
    keypoints, mask, follows = consecutive_segments(store, 15)
    assert keypoints.shape == (2 + 1 + 6, 15, 73, 2) and mask.shape == (9, 15, 73)
    assert follows.tolist() == [False, True, False, False, True, True, True, True, True]
    torch.testing.assert_close(keypoints[:2].flatten(0, 1), torch.from_numpy(np.array(store.keypoints[:30])))


def test_no_clip_is_long_enough(tmp_path):
    store = FrameStore.build(dataset_of([9, 10]), KeypointProcessor(), tmp_path)
    with pytest.raises(ValueError, match="No clip of at least window_size=15"):
        SegmentDataset([store], 15)
