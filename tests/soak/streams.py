"""A live stream for an hour: gaps, empty and odd portions, translations every so often.

Judged are the CPU time of a push (median of the last tenth against the first: below 1.5 times), the resident memory (from a tenth of the
frames to the end: below 20 MB), and open files; nothing may raise but what is refused on purpose, and each frame must come out.
"""

import os
import time

import numpy as np
import torch

from modeling_unigloR import KeypointClip, KeypointProcessor, SignMAE, SignMAEConfig, SignToText, SignToTextStreamer
from modeling_unigloR.streaming_uniglor import CausalKeypointProcessor
from tests.conftest import TEXTS, TINY, TINY_TEXT, random_signing
from tests.soak import Row
from train.data.text_tokenizers import train_tokenizer

NUM_FRAMES = 90_000  # an hour at 25 frames a second
MAX_GROWTH = 20.0  # MB
MAX_RATIO = 1.5
MIN_JUDGED = 20_000  # frames: of fewer, times and memory say nothing


def soak(scale, folder, seed):
    torch.set_num_threads(1)
    num_frames = int(NUM_FRAMES * scale)
    return [hour(num_frames, seed), portions(max(int(400 * scale), 5), seed)]


def hour(num_frames, seed):
    """One stream, frame by frame for the most part."""
    rng = np.random.default_rng(seed)
    streamer = make_streamer(seed)
    signing = random_signing(1500, seed) * 100 + 300  # a minute, and backwards, again and again: no jump
    signing = np.concatenate([signing, signing[::-1]])
    outcomes, examples = {"frames": 0, "empty portions": 0, "refused portions": 0, "translations": 0, "sentences": 0}, []
    times, memory, files = [], {}, {}
    marks = {num_frames // 10: "10 %", num_frames: "the end"}
    sent = ended = away = still = 0
    while sent < num_frames:
        kind = rng.random()
        if kind < 0.002:
            away = int(rng.integers(1, 200))  # nobody is there, for up to 8 seconds
        elif kind < 0.004:
            still = int(rng.integers(20, 80))  # the hands rest
        elif kind < 0.014:
            streamer.push(np.zeros((0, 73, 2)))
            outcomes["empty portions"] += 1
        elif kind < 0.019:
            try:
                streamer.push(*ODD[rng.integers(len(ODD))])
                examples.append("an odd portion was taken")
            except ValueError:
                outcomes["refused portions"] += 1
        count = min(int(rng.integers(2, 40)) if kind > 0.99 else 1, num_frames - sent, *(mark - sent for mark in marks if mark > sent))
        place = np.arange(sent, sent + count) % len(signing)
        if still > 0:
            place[:], still = place[0] - place[0] % 80, still - count
        confidence = (rng.random((count, 73)) > 0.02).astype(np.float32)
        if away > 0:
            confidence[:], away = 0, away - count
        start = time.thread_time()
        try:
            streamer.push(signing[place], confidence)
        except Exception as error:  # whatever it is, it is a failure
            examples.append(f"frame {sent}: {type(error).__name__}: {error}"[:200])
        if count == 1:
            times.append((sent, time.thread_time() - start))
        sent += count
        outcomes["frames"] += count
        try:
            if sent % 250 < count:
                told = streamer.sentences(max_new_tokens=5, num_beams=1)
                outcomes["sentences"] += len(told)
                examples += [f"sentences overlap at {told[0]['start']} s"] if told and told[0]["start"] < ended - 1e-6 else []
                ended = told[-1]["end"] - 0.6 if told else ended  # sentences that ended at their longest share a window's frames
                streamer.translate(max_new_tokens=5, num_beams=1)
                outcomes["translations"] += 1
        except Exception as error:
            examples.append(f"frame {sent}, translating: {type(error).__name__}: {error}"[:200])
        if sent in marks:
            memory[marks[sent]], files[marks[sent]] = resident(), open_files()
    given = streamer.frames._num_read
    if given != num_frames:
        examples.append(f"{num_frames - given} frames are lost")
    first, last = ([t for frame, t in times if low <= frame < low + num_frames // 10] for low in (0, num_frames - num_frames // 10))
    (first_median, first_99), (last_median, last_99) = (np.quantile(tenth, [0.5, 0.99]) * 1000 for tenth in (first, last))
    growth = memory["the end"] - memory["10 %"]
    if num_frames >= MIN_JUDGED and last_median > MAX_RATIO * first_median:
        examples.append(f"the median grew from {first_median:.2f} to {last_median:.2f} ms")
    if num_frames >= MIN_JUDGED and growth > MAX_GROWTH:
        examples.append(f"memory grew by {growth:.1f} MB")
    if files["the end"] > files["10 %"]:
        examples.append(f"open files grew from {files['10 %']} to {files['the end']}")
    note = (
        f"CPU time of a frame {first_median:.2f} ms (99 %: {first_99:.2f}) in the first tenth, "
        f"{last_median:.2f} ({last_99:.2f}) in the last; "
        f"memory {memory['10 %']:.0f} MB at 10 %, {growth:+.1f} MB at the end; {files['the end']} open files"
    )
    asked = f"goes on; median of the last tenth < {MAX_RATIO} x the first; memory < +{MAX_GROWTH:.0f} MB; no more files"
    return Row("a live stream, frame by frame", num_frames, outcomes, len(examples), asked, note, examples)


def portions(num_streams, seed):
    """Short streams in random portions against the whole clip at once."""
    outcomes, examples = {"equal": 0, "no shoulders": 0}, []
    for number in range(num_streams):
        rng = np.random.default_rng([seed, number])
        num_frames = int(rng.integers(1, 300))
        keypoints = random_signing(num_frames, number) * 100 + 300
        confidence = (rng.random((num_frames, 73)) > 0.1).astype(np.float32)
        for _ in range(rng.integers(0, 4)):
            start = rng.integers(num_frames)
            confidence[start : start + rng.integers(1, 100)] = 0
        confidence[: rng.integers(0, 200) if number % 4 == 0 else 0, [2, 5]] = 0
        fps = rng.choice([25.0, 30.0, 50.0, 59.94, 12.5, 7.3, 100.0, 1.0])
        processor = KeypointProcessor(calibration_frames=int(rng.integers(1, 50)), normalize=("clip", "frame")[number % 2])
        try:
            offline = processor.process(KeypointClip(keypoints, confidence, fps=fps), causal=True).keypoints
        except ValueError:
            offline = np.zeros((0, 73, 2), np.float32)
            outcomes["no shoulders"] += 1
        bounds = np.sort(np.append(rng.integers(0, num_frames + 1, rng.integers(0, 60)), [0, num_frames]))
        stream = CausalKeypointProcessor(processor, fps=float(fps))
        try:
            frames = [stream.push(keypoints[a:b], confidence[a:b]) for a, b in zip(bounds[:-1], bounds[1:])] + [stream.flush()]
            np.testing.assert_allclose(np.concatenate(frames), offline, atol=1e-4)
            outcomes["equal"] += bool(len(offline))
        except Exception as error:
            examples.append(f"seed {seed}, stream {number}: {type(error).__name__}: {error}"[:200])
    return Row("streams in random portions against causal processing", num_streams, outcomes, len(examples), "all equal", "", examples)


ODD = [
    (None,), (np.zeros((3, 73)),), (np.zeros((1, 72, 2)),), ("frame",), (np.full((1, 73, 2), np.inf), np.ones((1, 73))),
    (np.ones((1, 73, 2)), np.ones((1, 5))), (np.full((1, 73, 2), 1e300), np.ones((1, 73))), ([[[None, 1]] * 73],),
]  # fmt: skip


def make_streamer(seed):
    torch.manual_seed(seed)
    tokenizer = train_tokenizer(TEXTS)
    text_config = TINY_TEXT | {"vocab_size": len(tokenizer)}
    model = SignToText.from_parts(SignMAE(SignMAEConfig(**TINY)).eval(), text_config=text_config).eval()
    return SignToTextStreamer(model, KeypointProcessor(), tokenizer, fps=25.0)


def resident():
    """Resident memory of this process in MB."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def open_files():
    return len(os.listdir("/proc/self/fd"))
