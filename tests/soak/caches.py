"""Caches and builds: killed while they write, damaged afterwards, built by four processes at once, and on a full disk."""

import contextlib
import io
import itertools
import json
import multiprocessing
import os
import resource
import signal
import threading
import time
from collections import Counter

import datasets
import numpy as np
import torch
from tqdm import tqdm

from datasets_scripts import build as corpus_build
from datasets_scripts.schema import FEATURES
from datasets_scripts.whole import SEAL
from modeling_unigloR import KeypointProcessor, SignMAE, SignMAEConfig
from tests.conftest import TINY, random_signing
from tests.soak import Row
from train.data import caches
from train.data.clips import Clips, LatentStore
from train.data.segments import FrameStore, load_rows

FORK = multiprocessing.get_context("fork")
TIMEOUT = 120  # seconds, for a build of a second


def soak(scale, folder, seed):
    """Runs all cases, each in a folder of its own below `folder`."""
    torch.set_num_threads(1)  # threads do not survive a fork
    bars = tqdm.get_lock()
    tqdm.set_lock(threading.RLock())  # tqdm's own is shared with forked processes, and stays locked when one is killed in it
    rng, kept = np.random.default_rng(seed), datasets.config.HF_DATASETS_CACHE
    datasets.config.HF_DATASETS_CACHE = folder / "datasets"
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            subjects = [Frames(folder / "frames"), Latents(folder / "latents"), Corpus(folder / "corpus")]
            rows = [kills(subject, count(number, scale), rng) for subject, number in zip(subjects, (12, 12, 10))]
            rows.append(damages(subjects[:2], count(40, scale), rng))
            rows.append(altered_shards(subjects[2], count(10, scale), rng))
            rows.append(at_once(subjects, count(3, scale)))
            rows.append(full_disks(subjects, count(4, scale), rng))
    finally:
        datasets.config.HF_DATASETS_CACHE = kept
        tqdm.set_lock(bars)
    return rows


def count(number, scale):
    return max(1, round(number * scale))


# --- What is built --------------------------------------------------------------------------------------------------------------------


class Frames:
    """Processed frames. `build(place)` builds below a folder; `content(place)` is what a reader gets, `left(place)` what is too much."""

    name, kind = "FrameStore", "frames"

    def __init__(self, folder):
        folder.mkdir(parents=True)
        self.folder, self.number = folder, 0
        rows = []
        for index in range(24):
            keypoints = random_signing(60 + index, seed=index) * 100 + 300
            known = dict(layout="uniglor73", fps=25.0, width=600, height=600, text="a", language="ase")
            confidence = np.ones(keypoints.shape[:2], np.float32)
            rows.append(dict.fromkeys(FEATURES) | dict(id=f"clip-{index}", keypoints=keypoints, confidence=confidence) | known)
        datasets.Dataset.from_list(rows, features=FEATURES).to_parquet(folder / "train.parquet")
        self.data, self.processor = str(folder / "train.parquet"), KeypointProcessor()
        self.rows = load_rows(self.data, "train")
        self.prepare()
        start, calls = time.monotonic(), []
        with _at_each_call(lambda: calls.append(1)):
            self.build(self.place())
        self.seconds, self.calls = time.monotonic() - start, len(calls)
        self.expected = self.content(self.folder / "1")

    def prepare(self):
        pass

    def place(self):
        self.number += 1
        return self.folder / str(self.number)

    def build(self, place):
        return FrameStore.build(self.rows, self.processor, place)

    def content(self, place):
        """None where nothing is there to be opened."""
        found = self.folders(place)
        if not found:
            return None
        store = FrameStore(found[0])
        return store.ids.tolist(), store.offsets.tolist(), bytes(store.keypoints), bytes(store.keypoint_mask)

    def is_torn(self, place):
        """Whether something stands under its name that is not whole."""
        found = self.content(place)
        return found is not None and found != self.expected

    def folders(self, place):
        parent = place / f"uniglor_{self.kind}"
        return [path for path in parent.iterdir() if not path.name.startswith(".")] if parent.is_dir() else []

    def left(self, place):
        parent = place / f"uniglor_{self.kind}"
        return [path.name for path in parent.iterdir() if path.name.startswith(".")] if parent.is_dir() else []

    def writing(self, place):
        return bool(self.left(place))


class Latents(Frames):
    name, kind = "LatentStore", "latents"

    def prepare(self):
        self.clips = Clips([self.data], "train", self.processor, self.folder / "frames")
        torch.manual_seed(0)
        self.model = SignMAE(SignMAEConfig(**TINY)).eval()

    def build(self, place):
        return LatentStore.build(self.clips, self.model, 7, place)

    def content(self, place):
        found = self.folders(place)
        if not found:
            return None
        store = LatentStore(found[0])
        return store.offsets.tolist(), bytes(store.latents)


class Corpus(Frames):
    name, kind = "corpus build", None

    def prepare(self):
        (self.folder / "clips").mkdir()
        for index in range(24):
            np.savez(self.folder / "clips" / f"clip_{index:02d}.npz", keypoints=random_signing(60, seed=index) * 100 + 300, fps=25.0)

    def build(self, place, num_proc=1):
        return corpus_build.build("folder", self.folder / "clips", place, num_proc=num_proc, clips_per_shard=3)

    def content(self, place):
        if not (place / "data").exists():
            return None
        names = [path for path in sorted(place.rglob("*")) if path.is_file() and ".unfinished" not in path.parts and path.name != ".lock"]
        return [(path.relative_to(place).as_posix(), path.read_bytes()) for path in names]

    def is_torn(self, place):
        """The rows come in one move, and only then what is said of them: else `datasets` would read the audit as rows."""
        found, expected = (
            [(name, rows) for name, rows in files or () if name.startswith("data/")] for files in (self.content(place), self.expected)
        )
        return bool(found) and found != expected

    def left(self, place):
        return [path.name for path in place.iterdir() if path.name.startswith(".")]

    def writing(self, place):
        return (place / ".unfinished").exists()


# --- Cases ----------------------------------------------------------------------------------------------------------------------------


def kills(subject, tries, rng):
    """Half of the kills come at a random moment after the first file is there, half at a random fsync or rename."""
    outcomes, bad, examples = Counter(), 0, []
    for number in range(4 * tries):
        if outcomes["killed"] == tries:
            break
        place, at = subject.place(), int(rng.integers(subject.calls)) if number % 2 else None
        delay = float(rng.uniform(0, subject.seconds))
        more = {"num_proc": 2} if isinstance(subject, Corpus) and number % 4 == 2 else {}
        process = FORK.Process(target=_build_and_die, args=(subject, place, at, more))
        process.start()
        if at is None:
            deadline = time.monotonic() + TIMEOUT
            while process.is_alive() and not subject.writing(place) and time.monotonic() < deadline:
                time.sleep(0.0005)
            process.join(delay)
            if process.is_alive():
                os.kill(process.pid, signal.SIGKILL)
        process.join(TIMEOUT)
        outcomes["killed" if process.exitcode == -signal.SIGKILL else "ended before the kill"] += 1
        wrong = _wrong(subject, place, f"killed {f'after {delay:.2f} s' if at is None else f'at call {at}'}")
        with contextlib.suppress(ProcessLookupError):  # workers that outlived it
            os.killpg(process.pid, signal.SIGKILL)
        bad, examples = bad + bool(wrong), examples + wrong
        outcomes["then identical, nothing left over" if not wrong else "then failed"] += 1
    asked = "0 torn, 0 others, 0 left over after the next build"
    return Row(
        f"{subject.name}: kill -9 while it writes, then to the end", outcomes["killed"], dict(outcomes), bad, asked, examples=examples
    )


def _build_and_die(subject, place, at, more):
    os.setsid()  # with its workers it is a group, which can be ended
    calls = itertools.count()

    def die():
        if next(calls) == at:
            os.kill(os.getpid(), signal.SIGKILL)

    with _at_each_call(die):
        subject.build(place, **more)


@contextlib.contextmanager
def _at_each_call(act):
    """Calls `act` before every fsync and rename of this process."""
    kept = {name: getattr(os, name) for name in ("fsync", "rename", "replace")}

    def acting(function):
        def call(*args):
            act()
            return function(*args)

        return call

    for name, function in kept.items():
        setattr(os, name, acting(function))
    try:
        yield
    finally:
        for name, function in kept.items():
            setattr(os, name, function)


def _wrong(subject, place, what):
    """What is wrong with what a stopped build left, and with the next one, in words."""
    try:
        if subject.is_torn(place):
            return [f"{place.name}, {what}: torn"]
        subject.build(place)
        if subject.content(place) != subject.expected:
            return [f"{place.name}, {what}: other content"]
        return [f"{place.name}, {what}: {name} is left over" for name in subject.left(place)]
    except Exception as error:
        return [f"{place.name}, {what}: {type(error).__name__}: {error}"]


def damages(subjects, tries, rng):
    """A file of a store is cut, made longer, emptied, deleted, or a bit of its index or a size in its seal is changed."""
    outcomes, bad, examples = Counter(), 0, []
    for number in range(tries):
        subject = subjects[number % len(subjects)]
        place = subject.place()
        subject.build(place)
        folder = subject.folders(place)[0]
        how = ("cut", "longer", "empty", "deleted", "bit", "size")[number % 6]
        file = sorted(folder.iterdir())[int(rng.integers(len(list(folder.iterdir()))))]
        if how in ("bit", "size"):
            file = folder / {"bit": caches.INDEX, "size": SEAL}[how]
        content = file.read_bytes()
        if how == "size":
            facts = json.loads(content)
            entry = facts["files"][sorted(facts["files"])[int(rng.integers(len(facts["files"])))]]
            entry["size"] += int(rng.choice([-4, -1, 1, 4, 584]))
            changed = json.dumps(facts).encode()
        elif how == "bit":
            place_of_bit = int(rng.integers(len(content)))
            changed = content[:place_of_bit] + bytes([content[place_of_bit] ^ 1 << int(rng.integers(8))]) + content[place_of_bit + 1 :]
        else:
            changed = {"cut": content[: int(rng.integers(len(content)))], "longer": content + bytes(7), "empty": b"", "deleted": None}[how]
        file.unlink() if changed is None else file.write_bytes(changed)
        what = f"{subject.name}, {file.name}: {how}"
        try:
            subject.content(place)
            wrong = [f"{what}: was opened"]
        except (caches.DamagedError, FileNotFoundError):
            wrong = _wrong_after_damage(subject, place, what)
        except Exception as error:
            wrong = [f"{what}: {type(error).__name__}: {error}"]
        outcomes["built again" if not wrong else "failed"] += 1
        bad, examples = bad + bool(wrong), examples + wrong
    note = "the large files' sizes are compared; a bit that flips inside of them is not looked for"
    return Row("damaged FrameStores and LatentStores", tries, dict(outcomes), bad, "0 opened wrongly", note, examples)


def _wrong_after_damage(subject, place, what):
    subject.build(place)
    return [] if subject.content(place) == subject.expected and not subject.left(place) else [f"{what}: other content, or left over"]


def altered_shards(subject, tries, rng):
    """A bit of a finished shard flips while the build is interrupted."""
    outcomes, bad, examples = Counter(), 0, []
    for _ in range(tries):
        place, make_ready = subject.place(), corpus_build._make_ready
        corpus_build._make_ready = _interrupt
        try:
            with contextlib.suppress(KeyboardInterrupt):
                subject.build(place)
        finally:
            corpus_build._make_ready = make_ready
        shards = sorted((place / ".unfinished").glob("*/rows.parquet"))
        shard = shards[int(rng.integers(len(shards)))]
        content = bytearray(shard.read_bytes())
        content[int(rng.integers(len(content)))] ^= 1 << int(rng.integers(8))
        shard.write_bytes(content)
        wrong = _wrong(subject, place, "a shard altered")
        outcomes["built again" if not wrong else "published"] += 1
        bad, examples = bad + bool(wrong), examples + wrong
    return Row("corpus build: a waiting shard is altered", tries, dict(outcomes), bad, "0 published", examples=examples)


def _interrupt(*_):
    raise KeyboardInterrupt


def at_once(subjects, rounds):
    """Four processes need the same at once."""
    outcomes, bad, examples = Counter(), 0, []
    for _ in range(rounds):
        for subject in subjects:
            place = subject.place()
            processes = [FORK.Process(target=subject.build, args=(place,)) for _ in range(4)]
            for process in processes:
                process.start()
            for process in processes:
                process.join(TIMEOUT)
            codes = [process.exitcode for process in processes]
            wrong = [f"{subject.name}: exit codes {codes}"] if any(codes) else []
            wrong += _wrong(subject, place, f"{subject.name} by four at once")
            outcomes["one result, no error" if not wrong else "failed"] += 1
            bad, examples = bad + bool(wrong), examples + wrong
    return Row("4 processes build the same at once", rounds * len(subjects), dict(outcomes), bad, "one result, no error", examples=examples)


def full_disks(subjects, tries, rng):
    """No file may grow beyond a limit: what a full disk is to a build."""
    outcomes, bad, examples = Counter(), 0, []
    for number in range(tries * len(subjects)):
        subject = subjects[number % len(subjects)]
        place, answers = subject.place(), FORK.SimpleQueue()
        limit = int(rng.integers(1, 8)) << 10
        process = FORK.Process(target=_build_within, args=(subject, place, limit, answers))
        process.start()
        process.join(TIMEOUT)
        said = answers.get() if not answers.empty() else f"exit code {process.exitcode}"
        clear = "File too large" in said and str(place) in said
        wrong = [] if clear else [f"{subject.name}, files of at most {limit} bytes: {said}"]
        wrong += _wrong(subject, place, f"{subject.name}, at most {limit} bytes")
        outcomes["clear message, then identical" if not wrong else "failed"] += 1
        bad, examples = bad + bool(wrong), examples + wrong
    asked = "a message that says where; then it goes on"
    return Row("disk full while it writes", tries * len(subjects), dict(outcomes), bad, asked, "by RLIMIT_FSIZE", examples)


def _build_within(subject, place, limit, answers):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    try:
        if isinstance(subject, Corpus):
            arguments = ["folder", "--data_dir", str(subject.folder / "clips"), "--output_dir", str(place), "--clips_per_shard", "3"]
            corpus_build.main(arguments)
        else:
            subject.build(place)
        answers.put("no error")
    except (Exception, SystemExit) as error:
        answers.put(str(error))
