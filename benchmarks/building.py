"""Building a data set, and drawing segments from what was built.

    python -m benchmarks.run build_memory built_segments

`build_memory` builds a corpus of OpenPose folders and one of ten times the clips, each in a process of its own, and compares their
highest resident size. `built_segments` draws random 15-frame segments from a built data set, through the training loader and by
`dataset[i]` and a slice.
"""

import multiprocessing
import tempfile
from pathlib import Path

import numpy as np
import torch

from benchmarks.measure import compare
from benchmarks.readers import write_openpose

NUM_FRAMES = 116  # the mean length of PHOENIX14T's clips


def peak_of_build(data_dir, output_dir, layout=None):
    """MiB that a process holds at most while it builds a folder of clips, libraries and all."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=_build, args=(queue, data_dir, output_dir, layout))
    process.start()
    peak = queue.get()
    process.join()
    return peak


def _build(queue, data_dir, output_dir, layout):
    from datasets_scripts.build import build

    build("folder", data_dir, output_dir, layout)
    with open("/proc/self/status", encoding="utf-8") as file:  # ru_maxrss would start at the parent's
        queue.put(next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) / 1024)


def build_memory(device, rounds, num_clips=60):
    """Peak memory for 10x the clips; below 1.1 it does not grow with the corpus. The device does not matter."""
    peaks = []
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        write_openpose_clip(folder / "frames")
        for name, count in (("small", num_clips), ("large", 10 * num_clips)):
            (folder / name).mkdir()
            for number in range(count):
                (folder / name / f"clip_{number:05d}").symlink_to(folder / "frames")
            peaks.append(peak_of_build(folder / name, folder / f"{name}-rows"))
    return [
        {
            "case": f"peak memory of a build, {10 * num_clips} clips over {num_clips}",
            "ours": round(peaks[1] / peaks[0], 3),
            "unit": "times",
            "mib": [round(peak) for peak in peaks],
        }
    ]


def write_openpose_clip(folder):
    folder.mkdir()
    write_openpose(folder, NUM_FRAMES)


def built_segments(device, rounds, num_clips=1000, batch_size=64):
    from datasets import disable_progress_bars, load_dataset

    from datasets_scripts.build import build
    from modeling_unigloR import KeypointProcessor
    from tests.conftest import random_signing
    from train.data.segments import FrameStore, SegmentDataset

    disable_progress_bars()
    with tempfile.TemporaryDirectory() as folder:
        clips = Path(folder) / "clips"
        clips.mkdir()
        motion = random_signing(NUM_FRAMES) * 100 + 300
        for number in range(num_clips):
            np.savez(clips / f"{number}.npz", keypoints=motion + number % 7, fps=25.0)
        build("folder", clips, Path(folder) / "rows")
        rows = load_dataset(str(Path(folder) / "rows"), split="train", cache_dir=str(Path(folder) / "cache"))
        data = SegmentDataset([FrameStore.build(rows, KeypointProcessor(), folder)], 15)
        loader = torch.utils.data.DataLoader(data, batch_size=batch_size, shuffle=True, collate_fn=lambda batch: batch)
        table, rng = rows.with_format("numpy"), np.random.default_rng(0)

        def ours():
            for _ in loader:
                pass

        def one_by_one():
            for index in rng.integers(0, num_clips, 100).tolist():
                clip = table[index]["keypoints"]
                start = rng.integers(0, len(clip) - 14)
                clip[start : start + 15]

        row = compare(ours, one_by_one, rounds)
    rates = len(data) / row["ours"], 100 / row["reference"]
    return [
        {
            "case": "random segments a second of a built data set, against dataset[i] and a slice",
            "ours": round(rates[0], 1),
            "reference": round(rates[1], 1),
            "ratio": round(rates[0] / rates[1], 1),
            "unit": "segments/s",
        }
    ]
