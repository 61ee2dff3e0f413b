"""Work that may take days, in shards: `build`, `extract` and the processing of frames run by this one engine.

    reports = make_shards(write, shards, num_proc=4)      # processes of this machine
    reports = make_shards(write, shards, engine="ray")    # the cluster that RAY_ADDRESS names

A shard is a part of the input of a fixed size, and its folder is named by a hash of all that it is made from. It is written whole or
not at all. One that is there is not made again, unless it is damaged. Who makes a shard changes nothing in it, so any number of
processes and machines gives the same files.
"""

import concurrent.futures
import contextlib
import importlib
import json
import multiprocessing
import os
import shutil
import signal
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock
from tqdm import tqdm

from .commands import ENGINES, WAITING
from .whole import SEAL, damage, discard, remove_unfinished, seal, sync_entry, whole_folder

Report = dict[str, Any]  # what a shard's report.json holds: plain JSON
Advance = Callable[[int, int], None]  # called with the numbers of clips and frames that are done since the last call
Write = Callable[[Any, Path | None, Advance], Report]  # write(shard, its folder, advance); a shard without a path has no folder

READY, REPORT = "ready", "report.json"


class Shard(Protocol):
    """`path`: folder of the finished shard, named by a hash of what it is made from; None writes nothing. `size`: its number of clips."""

    @property
    def path(self) -> Path | None: ...

    @property
    def size(self) -> int: ...


def make_shards(
    write: Write,
    shards: Sequence[Shard],
    num_proc: int | None = None,
    engine: str = "processes",
    description: str = "Reading clips",
    on_report: Callable[[Report], None] | None = None,
) -> list[Report]:
    """Makes the shards that are not there yet; returns the reports of all, in order.

    Args:
        write: `write(shard, folder, advance)` -> report fills a shard's folder; what it is made from is in the shard or in `write`, which
            is sent to each process once.
        num_proc: processes, by default one. With Ray, processors of a cluster on this machine, by default all; another cluster is used
            as it is.
        engine: "processes" of this machine, or "ray".
        description: of the bar.
        on_report: called with each report as soon as its shard is there.

    Raises:
        ImportError, ConnectionError: Ray is not installed, or its cluster does not answer.
        OSError: a process was ended from outside.
    """
    if engine not in ENGINES:
        raise ValueError(f"engine={engine!r}, expected one of {', '.join(ENGINES)}.")
    reports = [finished(shard.path) for shard in shards]
    open_places = [place for place, report in enumerate(reports) if report is None]
    num_clips = sum(shard.size for shard in shards)
    before = num_clips - sum(shards[place].size for place in open_places)
    for report in reports:
        if report is not None and on_report is not None:
            on_report(report)
    if not open_places:
        return [report for report in reports if report is not None]
    with tqdm(total=num_clips, initial=before, unit=" clips", desc=description) as bar:
        started = time.monotonic()

        def show(clips: int, frames: int) -> None:
            bar.set_postfix_str(f"{frames / max(time.monotonic() - started, 1e-3):,.0f} frames/s", refresh=False)
            bar.update(before + clips - bar.n)

        run = _on_ray if engine == "ray" else _in_this_process if (num_proc or 1) == 1 else _in_processes
        for place, report in run(write, [shards[place] for place in open_places], num_proc, show):
            reports[open_places[place]] = report
            if on_report is not None:
                on_report(report)
    return [report for report in reports if report is not None]


def make_shard(write: Write, shard: Shard, advance: Advance) -> Report:
    """Writes one shard, whole or not at all; returns its report."""
    if shard.path is None:
        return write(shard, None, advance)
    # Another process may have been faster. Waiting for the disk would take as long as the work: the seal tells a torn shard.
    with contextlib.suppress(FileExistsError), whole_folder(shard.path, forced=False) as folder:
        report = write(shard, folder, advance)
        (folder / REPORT).write_text(json.dumps(report, ensure_ascii=False) + "\n", encoding="utf-8")
        seal(folder)
    return report


def finished(path: Path | None) -> Report | None:
    """The report of a shard that is there, or None; a damaged one is named, and deleted."""
    if path is None or not path.exists():
        return None
    wrong = damage(path)
    if wrong:
        print(f"A finished shard was damaged while it waited ({wrong}): it is made again.", file=sys.stderr)
        discard(path)
        return None
    return json.loads((path / REPORT).read_text(encoding="utf-8"))


# --- Who makes them -------------------------------------------------------------------------------------------------------------------


Show = Callable[[int, int], None]  # called with the numbers of clips and frames that are done so far


def _in_this_process(write: Write, shards: list[Shard], num_proc: int | None, show: Show) -> Iterator[tuple[int, Report]]:
    done = [0, 0]

    def advance(clips: int, frames: int) -> None:
        done[:] = done[0] + clips, done[1] + frames
        show(*done)

    for place, shard in enumerate(shards):
        yield place, make_shard(write, shard, advance)


_write: Write  # of this worker, with what it keeps from shard to shard
_counter: Any  # clips and frames so far, shared by all workers


def _start_worker(write: Write, counter: Any) -> None:
    global _write, _counter
    _write, _counter = write, counter
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, lambda *_: os._exit(130))  # the main process reports Ctrl-C
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Ends a worker whose main process was killed: nobody would ever give it work again, or end it."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _make_in_worker(shard: Shard) -> Report:
    return make_shard(_write, shard, _advance)


def _advance(clips: int, frames: int) -> None:
    with _counter.get_lock():
        _counter[0] += clips
        _counter[1] += frames


def _in_processes(write: Write, shards: list[Shard], num_proc: int | None, show: Show) -> Iterator[tuple[int, Report]]:
    context = multiprocessing.get_context()
    counter, workers = context.Array("q", 2), min(num_proc or 1, len(shards))
    with concurrent.futures.ProcessPoolExecutor(workers, context, _start_worker, (write, counter)) as pool:
        try:
            places = {pool.submit(_make_in_worker, shard): place for place, shard in enumerate(shards)}
            waiting = set(places)
            while waiting:
                done, waiting = concurrent.futures.wait(waiting, 0.5, concurrent.futures.FIRST_COMPLETED)
                show(counter[0], counter[1])
                for future in done:
                    yield places[future], future.result()
        except concurrent.futures.BrokenExecutor as error:
            raise OSError(
                f"One of {workers} processes was ended from outside, most often for want of memory. Pass a smaller --num_proc."
            ) from error
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _on_ray(write: Write, shards: list[Shard], num_proc: int | None, show: Show) -> Iterator[tuple[int, Report]]:
    """Each shard is a block of its own to Ray Data, which sends it to a free processor, and again to another if a machine fails."""
    run = uuid.uuid4().hex
    with _cluster(num_proc) as ray:

        def make(row: dict[str, Any]) -> dict[str, Any]:
            frames: list[int] = []
            done = {"place": row["item"], "report": "", "frames": 0, "error": ""}
            try:
                report = make_shard(_first_one(run, write), shards[row["item"]], lambda clips, more: frames.append(more))
            except Exception as error:  # Ray would wrap it in errors of its own
                return done | {"error": _told(error)}
            return done | {"report": json.dumps(report), "frames": sum(frames)}

        clips = frames = 0
        show(clips, frames)
        tasks = ray.data.from_items(list(range(len(shards))), override_num_blocks=len(shards)).map(make)
        try:
            for row in tasks.iter_rows():
                if row["error"]:
                    raise _as_here(row["error"])
                path = shards[row["place"]].path
                if path is not None and not path.exists():
                    raise ValueError(
                        f"A machine of the cluster wrote {path}, but it is not on this one. Expected a folder that all machines share, "
                        "such as a network drive: give it as the output."
                    )
                clips, frames = clips + shards[row["place"]].size, frames + row["frames"]
                show(clips, frames)
                yield row["place"], json.loads(row["report"])
        except ray.exceptions.RayError as error:
            raise OSError(f"Ray's cluster failed: {' '.join(str(error).split())[:500]}.") from error


ERRORS = {kind.__name__: kind for kind in (ValueError, OSError, MemoryError, ImportError)}  # that a shard may end with


def _told(error: Exception) -> str:
    """An error as JSON: the first of its classes that is known here, and what it says. It is data, never a pickle."""
    name = next((kind.__name__ for kind in type(error).__mro__ if kind.__name__ in ERRORS), "")
    values: list[Any] = [str(error)]
    if isinstance(error, OSError) and error.errno is not None:
        values = [error.errno, error.strerror] + ([] if error.filename is None else [str(error.filename)])
    return json.dumps([name, type(error).__name__, *values])


def _as_here(told: str) -> Exception:
    """The error that `_told` tells of."""
    name, own_name, *values = json.loads(told)
    return ERRORS[name](*values) if name else RuntimeError(f"{own_name}: {values[0]}")


_writes: dict[str, Write] = {}  # of this worker of Ray


def _first_one(run: str, write: Write) -> Write:
    """The `write` that this worker got first, with what it keeps from shard to shard; Ray unpickles another one for each shard."""
    return _writes.setdefault(run, write)


@contextlib.contextmanager
def _cluster(num_proc: int | None) -> Iterator[Any]:
    """Ray, connected to the cluster that RAY_ADDRESS names, or to one of this process alone."""
    os.environ.setdefault("RAY_raylet_start_wait_time_s", "180")  # a busy machine takes longer than the 30 that Ray waits for it
    try:
        ray: Any = importlib.import_module("ray")  # without types, and not installed everywhere
        importlib.import_module("ray.data")
    except ImportError as error:
        raise ImportError('--engine ray needs Ray, which is not installed: pip install "ray[data]", or leave --engine out.') from error
    address = os.environ.get("RAY_ADDRESS")
    if ray.is_initialized():
        yield ray
        return
    host, _, port = (address or "").rpartition(":")
    try:
        if host and port.isdecimal() and "//" not in host:
            socket.create_connection((host, int(port)), 10).close()  # Ray itself would try for minutes
        place = {} if address else {"address": "local", "num_cpus": num_proc, "include_dashboard": False}
        ray.init(log_to_driver=False, configure_logging=False, **place)
    except Exception as error:  # Ray raises a bare one if a machine is too busy to start it
        raise ConnectionError(
            f"Found no cluster of Ray at {address or 'this machine'} ({' '.join(str(error).split())}), expected one that runs. Start it "
            "(ray start --head), set RAY_ADDRESS to its host:port, or leave --engine out."
        ) from error
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False  # ours is over all shards
    try:
        yield ray
    finally:
        ray.shutdown()


# --- Results --------------------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def unfinished_folder(output_dir: Path, results: Sequence[str]) -> Iterator[Path]:
    """Yields OUTPUT_DIR/.unfinished, where shards wait, to one process at a time; it is deleted when the block ends without an error.

    Results that an earlier process had collected there are published first.

    Args:
        results: names of the files and folders in OUTPUT_DIR, in the order in which they are moved.
    """
    output_dir.mkdir(parents=True, exist_ok=True)
    lock, waiting = output_dir / ".lock", output_dir / WAITING
    with FileLock(lock):  # a second command for the same folder waits
        waiting.mkdir(exist_ok=True)
        remove_unfinished(waiting)
        _drop_damaged(waiting)
        publish(waiting, output_dir, results)
        yield waiting
        shutil.rmtree(waiting, ignore_errors=True)
    lock.unlink(missing_ok=True)


def _drop_damaged(waiting: Path) -> None:
    """Deletes all results that wait to be moved, if one of them was altered."""
    ready = waiting / READY
    if (ready / "data").exists() and (ready / SEAL).exists():  # earlier versions wrote no seal
        wrong = damage(ready)
        if wrong:
            print(f"Finished results were damaged while they waited ({wrong}): all is built again.", file=sys.stderr)
            discard(waiting)
            waiting.mkdir()


def publish(waiting: Path, output_dir: Path, results: Sequence[str]) -> None:
    """Moves finished results to where they belong."""
    for name in results:
        if (waiting / READY / name).exists():
            os.replace(waiting / READY / name, output_dir / name)
    sync_entry(output_dir)
