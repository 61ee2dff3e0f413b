"""Ten million clips, a million latents, and work that is spread over processes: what grows with a data set, against the code that
did each step anew, or one after the other."""

import itertools
import tempfile
import time
from pathlib import Path

import numpy as np
from tqdm import tqdm

from benchmarks.measure import compare


class MockStore:
    """What a `FrameStore` of many clips says of itself; every clip's frames are the same 64, so that memory holds them."""

    def __init__(self, num_clips, seed=0):
        self.lengths = np.random.default_rng(seed).integers(40, 64, num_clips)
        self.offsets = np.zeros(num_clips + 1, np.int64)
        self.keypoints, self.keypoint_mask = np.zeros((64, 73, 2), np.float32), np.ones((64, 73), bool)
        self.ids = np.zeros(num_clips, "S1")


def segment_index(device, rounds, num_clips=10_000_000, batch_size=64):
    """Which clips and frames a batch is made of, of clips with weight 1 and with weight 0.5."""
    from train.data.segments import SegmentDataset

    class WithoutMemory(SegmentDataset):
        """The code before: it computed lengths from the offsets, and a store's permutation, anew in every batch."""

        def __getitems__(self, indices):
            for store in self.stores:
                store.lengths = np.diff(starts)
            return super().__getitems__(indices)

        def _permuted(self, number, epoch):
            return np.random.default_rng((self.seed, number, epoch)).permutation(self.clips[number])

    rows = []
    for weight in (1.0, 0.5):
        store = MockStore(num_clips)
        starts = np.cumsum(np.concatenate([[0], store.lengths]))
        sides = [kind([store], 15, [weight]) for kind in (SegmentDataset, WithoutMemory)]
        indices = np.random.default_rng(1).integers(0, len(sides[0]), batch_size)
        case = f"batch of {batch_size} from {num_clips:,} clips, weight {weight:g}"
        rows.append({"case": case} | compare(*(lambda side=side: side.__getitems__(indices) for side in sides), rounds))  # noqa: B023
    return rows


def nearest_segments(device, rounds, num_latents=1_000_000, size=512):
    """The ten nearest of a latent, the norms of all being known, against norms and a full sort for each query."""
    from train.embed import nearest_segments, vector_lengths

    latents = np.random.default_rng(0).standard_normal((num_latents, size), np.float32)
    lengths = vector_lengths(latents)

    def before():
        similarity = latents @ latents[7] / (np.maximum(np.linalg.norm(latents, axis=1), 1e-12) * np.linalg.norm(latents[7]))
        return np.argsort(-similarity, kind="stable")[:10]

    def ours():
        return nearest_segments(latents, latents[7], 10, lengths=lengths)[0]

    if ours().tolist() != before().tolist():
        raise AssertionError("Both searches must find the same segments.")
    return [{"case": f"ten of {num_latents:,} latents of {size} numbers"} | compare(ours, before, rounds)]


# --- frame_store ------------------------------------------------------------------------------------------------------------------


def frame_store(device, rounds, num_clips=8000, num_proc=2):
    """Clips of 116 frames to a `FrameStore` by two processes, against the code before: one process, row by row."""
    import datasets

    from benchmarks.run import random_rows
    from datasets_scripts.schema import FEATURES
    from modeling_unigloR import KeypointProcessor
    from train.data.segments import FrameStore

    datasets.disable_progress_bars()
    few = num_clips // 10
    with tempfile.TemporaryDirectory() as folder:
        rows = datasets.Dataset.from_generator(random_rows, features=FEATURES, gen_kwargs={"num_clips": few}, cache_dir=folder)
        rows = datasets.concatenate_datasets([rows] * 10)
        places = (str(Path(folder) / str(number)) for number in itertools.count())

        def ours(rows=rows):
            return FrameStore.build(rows, KeypointProcessor(), next(places), num_proc=num_proc)

        def before(rows=rows):
            return StoreBefore.build(rows, KeypointProcessor(), next(places))

        small = [side(rows.select(range(min(few, 600)))) for side in (ours, before)]  # also loads what both need
        if any(bytes(getattr(small[0], name)) != bytes(getattr(small[1], name)) for name in ("keypoints", "keypoint_mask", "offsets")):
            raise AssertionError("Both must store the same frames.")
        row = compare(ours, before, min(rounds, 2), uncounted=0)
    return [{"case": f"{num_clips:,} clips of 116 frames, {num_proc} processes"} | row]


class StoreBefore:
    """`FrameStore.build` as it was: each row through `datasets`' numpy format, in one process."""

    @staticmethod
    def build(rows, processor, cache_dir):
        from train.data.caches import cache_folder, open_or_build
        from train.data.segments import FrameStore

        def write(folder):
            lengths, ids = [], []
            with open(folder / "keypoints.f4", "wb") as keypoints, open(folder / "keypoint_mask.u1", "wb") as masks:
                for row in tqdm(rows.with_format("numpy"), desc="Processing, as before", unit=" clips"):
                    clip = processor.process_row(row)
                    keypoints.write(np.ascontiguousarray(clip.keypoints).data)
                    masks.write(np.ascontiguousarray(clip.keypoint_mask).data)
                    lengths.append(len(clip.keypoints))
                    ids.append(str(row["id"]))
            np.savez(folder / "index.npz", offsets=np.cumsum([0] + lengths), ids=np.array(ids), point_shape=clip.keypoints.shape[1:])

        return open_or_build(FrameStore, cache_folder("frames", "before", cache_dir), write, "frames")


# --- extraction -------------------------------------------------------------------------------------------------------------------


class SteadyExtractor:
    """Stands in for MediaPipe: 133 points at the brightest place, after a fixed 10 ms of one processor for each frame."""

    layout = "wholebody133"
    num_keypoints, num_channels = 133, 2
    facts = {"extractor": "steady", "layout": layout}

    def start(self):
        pass

    def __call__(self, image):
        end = time.thread_time() + 0.01
        while time.thread_time() < end:
            y, x = np.unravel_index(image[..., 0].argmax(), image.shape[:2])
        return np.array([[x, y]] + np.linspace(-9, 9, 133)[:, None], np.float32)[None], np.ones((1, 133), np.float32)


def extraction(device, rounds, num_videos=40, num_frames=40):
    """Videos of a moving square to rows by `datasets_scripts.extract`, two processes against one.

    The time goes into decoding and a fixed 10 ms of one processor for each frame, a fifth of what MediaPipe takes. MediaPipe itself is not
    timed: it needs videos of people.
    """
    from datasets_scripts import extract

    extractor = extract.HolisticExtractor
    extract.HolisticExtractor = SteadyExtractor
    try:
        with tempfile.TemporaryDirectory() as folder:
            write_videos(Path(folder) / "videos", num_videos, num_frames)
            outputs = (str(Path(folder) / str(number)) for number in itertools.count())

            def run(num_proc):
                extract.main([str(Path(folder) / "videos"), "--output_dir", next(outputs), "--num_proc", str(num_proc)])

            row = compare(lambda: run(2), lambda: run(1), min(rounds, 2), uncounted=0)
    finally:
        extract.HolisticExtractor = extractor
    return [{"case": f"{num_videos} videos of {num_frames} frames, 2 processes against 1"} | row]


def write_videos(folder, num_videos, num_frames, side=240):
    import av

    folder.mkdir()
    for number in range(num_videos):
        with av.open(str(folder / f"{number:03d}.mp4"), "w") as container:
            stream = container.add_stream("mpeg4", rate=25)
            stream.height = stream.width = side
            stream.pix_fmt = "yuv420p"
            for frame in range(num_frames):
                image = np.zeros((side, side, 3), np.uint8)
                image[100:140, 20 + frame : 60 + frame] = 255
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(stream.encode())
