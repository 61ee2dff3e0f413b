"""Folders of processed frames and latents, which any run may build anew: kept whole, shared by all runs,
listed and cleaned (`python -m train.cache`).

They are called uniglor_frames/KEY and uniglor_latents/KEY, in the cache of `datasets` or where `--cache_dir` says. A key is a hash
of everything that decides the content; `docs/caches.md` names it. Nothing that a running process uses is removed.
"""

import contextlib
import errno
import os
import shutil
import time
import weakref
from dataclasses import dataclass, field
from pathlib import Path

import datasets
from transformers.utils import logging

from datasets_scripts.whole import SEAL, damage, discard, is_locked, locked, read_seal, remove_unfinished, seal, whole_folder
from modeling_unigloR import SignMAE
from modeling_unigloR.fingerprint_uniglor import code_hash, processing_hash

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

logger = logging.get_logger(__name__)

KINDS = ("frames", "latents")
INDEX = "index.npz"
SHARDS = ".shards"  # ends the name of a folder where they wait
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class DamagedError(ValueError):
    """A cached folder that is not as it was written."""


# --- Building and opening -------------------------------------------------------------------------------------------------------------


def cache_folder(kind, key, cache_dir=None):
    """The folder that belongs to a key."""
    return Path(cache_dir or datasets.config.HF_DATASETS_CACHE) / f"uniglor_{kind}" / key


def open_or_build(store, folder, write, description, **facts):
    """Opens a cached folder; builds it first where it is not there yet, or is damaged.

    Args:
        store: `store(folder)` opens it, and raises `FileNotFoundError` or `DamagedError`.
        folder: of `cache_folder`.
        write: `write(folder)` fills an empty one.
        description: of the data, for messages.
        **facts: shown by `python -m train.cache list`: data, processor, sign_mae, segments.
    """
    try:
        return store(folder)
    except FileNotFoundError:
        pass
    except DamagedError as error:
        logger.warning(f"{error} It is built again.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        try:
            return store(folder)  # another process has built it meanwhile
        except FileNotFoundError:
            pass
        except DamagedError:
            discard(folder)
        remove_unfinished(folder.parent)
        try:
            with whole_folder(folder) as unfinished:
                write(unfinished)
                seal(unfinished, code=_code(folder.parent.name), **facts)
        except FileExistsError:  # another process was faster, where there are no locks
            pass
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            kept = _waiting(folder)
            left = f"Finished shards are kept in {kept}: the same command goes on" if kept.exists() else "Nothing was left behind"
            raise OSError(
                error.errno,
                f"{description}: no room for {folder.parent}: {error.strerror}; {size_of(shutil.disk_usage(folder.parent).free)} are free. "
                f"Make room (python -m train.cache clean), or give another place (--cache_dir). {left}",
            ) from error
        return store(folder)


@contextlib.contextmanager
def waiting_folder(folder):
    """Yields the place beside a folder that is being built where its finished shards wait; it stays until `forget_waiting`, since the
    process may be killed. With nothing in it, it goes when the block ends."""
    waiting = _waiting(folder)
    waiting.mkdir(parents=True, exist_ok=True)
    with locked(waiting, shared=True):
        remove_unfinished(waiting)
        try:
            yield waiting
        finally:
            with contextlib.suppress(OSError):
                waiting.rmdir()


def forget_waiting(folder):
    """Removes the shards of a folder that is built."""
    discard(_waiting(folder))


def _waiting(folder):
    return folder.with_name(f".{folder.name}{SHARDS}")


def keep(store, folder):
    """Checks a cached folder, notes that it is used now, and keeps `clean` from removing it as long as `store` lives.

    Raises:
        FileNotFoundError: no such folder.
        DamagedError: a file is missing, or of another size, or the index is of other content.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} does not exist.")
    use = contextlib.ExitStack()
    with contextlib.suppress(FileNotFoundError):
        use.enter_context(locked(folder / SEAL, shared=True))
    weakref.finalize(store, use.close)
    wrong = damage(folder, hashed=(INDEX,))
    if wrong:
        raise DamagedError(f"{folder} is damaged: {wrong}.")
    with contextlib.suppress(OSError):  # a folder that may not be written to can still be read
        os.utime(folder / SEAL)


@contextlib.contextmanager
def _alone(folder):
    """Lets one process at a time build a folder, while the others wait. Without locks all build it, and the first one's is kept."""
    if fcntl is None:
        yield
        return
    with open(folder.parents[1] / ".uniglor.lock", "ab") as file:
        place = int.from_bytes(folder.name.encode()[:7], "big")  # one byte of the file for each folder
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
        except (BlockingIOError, PermissionError):
            logger.warning(f"Another process builds {folder}: waiting for it.")
            fcntl.lockf(file, fcntl.LOCK_EX, 1, place)
        except OSError:  # a file system without locks
            pass
        yield


# --- Listing and cleaning -------------------------------------------------------------------------------------------------------------


@dataclass
class Entry:
    """A folder of a cache.

    Attributes:
        path, kind, size: where it is, one of `KINDS`, bytes.
        used: when it was last opened, in seconds of `time.time`.
        facts: what its builder noted; empty where that cannot be read.
        note: a remark, such as "in use"; maybe empty.
    """

    path: Path
    kind: str
    size: int
    used: float
    facts: dict = field(default_factory=dict)
    note: str = ""


def entries(cache_dir=None):
    """All folders of a cache, those that were used last first."""
    cache_entries = []
    for kind in KINDS:
        parent = cache_folder(kind, "", cache_dir)
        for path in sorted(parent.iterdir()) if parent.is_dir() else ():
            if path.is_dir():
                with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                    cache_entries.append(_entry(path, kind))
    return sorted(cache_entries, key=lambda entry: -entry.used)


def _entry(path, kind):
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    if "-unfinished-" in path.name:
        note = "being built" if is_locked(path) else "left by a process that was stopped"
        return Entry(path, kind, size, path.stat().st_mtime, note=note)
    if path.name.endswith(SHARDS):
        note = "being built" if is_locked(path) else "finished part of one that was stopped: the same command goes on"
        return Entry(path, kind, size, path.stat().st_mtime, note=note)
    try:
        facts = read_seal(path)
    except ValueError:
        return Entry(path, kind, size, path.stat().st_mtime, note="by an earlier version, or damaged")
    used = (path / SEAL).stat().st_mtime
    note = "in use" if is_locked(path / SEAL) else "" if facts.get("code") == _code(path.parent.name) else "by another version of the code"
    return Entry(path, kind, size, used, facts, note)


def _code(name):
    """What the folders of `uniglor_frames` or `uniglor_latents` are made by."""
    return processing_hash() + (code_hash(SignMAE.__module__) if name == "uniglor_latents" else "")


def clean(cache_dir=None, kinds=KINDS, older_than=30.0, remove=False):
    """Removes folders that were not used for a number of days.

    Args:
        kinds: of `KINDS`.
        older_than: days since they were used last.
        remove: whether to remove them; by default they are only listed.

    Returns:
        list of the `Entry`s that are, or would be, removed.
    """
    gone = []
    for entry in entries(cache_dir):
        guard = entry.path / SEAL if entry.facts else entry.path
        if entry.kind not in kinds or time.time() - entry.used < older_than * 24 * 3600:
            continue
        try:
            with locked(guard, wait=False):
                if remove:
                    discard(entry.path)
            gone.append(entry)
        except (BlockingIOError, FileNotFoundError):  # a process uses it, or removed it
            continue
    return gone


def describe(entry):
    """An entry as one line."""
    facts = entry.facts
    parts = [facts.get("data"), facts.get("processor"), facts.get("sign_mae") and f"SignMAE {facts['sign_mae']}", facts.get("segments")]
    parts.append(entry.note and f"({entry.note})")
    return f"{entry.kind:8}{entry.path.name:18.18}{size_of(entry.size):>10}{_ago(entry.used):>14}  " + ", ".join(filter(None, parts))


def size_of(count):
    """A number of bytes in a unit that is easy to read, such as 1.5 GB."""
    unit = next((unit for unit in range(4) if count < 1000 ** (unit + 1)), 4)
    return f"{count / 1000**unit:.{min(unit, 1)}f} {('B', 'kB', 'MB', 'GB', 'TB')[unit]}"


def _ago(moment):
    hours = max(time.time() - moment, 0) / 3600
    return f"{hours / 24:.0f} days ago" if hours >= 48 else f"{hours:.0f} h ago" if hours >= 1 else "just now"
