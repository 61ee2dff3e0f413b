"""Files and folders that are whole or absent: written under another name, forced to the disk, then renamed.

    with whole_folder("cache/key") as folder:   # a folder of another name until the block ends without an error
        (folder / "frames.f4").write_bytes(...)
        seal(folder)                            # writes size and SHA-256 of its files, for `damage`

A crash, a full disk or a lost power supply leaves the old state or the new one. The names of unfinished files and folders contain
the process that writes them, so that `remove_unfinished` can delete those of killed processes.
"""

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import socket
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # Windows, which does not delete or rename open files
    fcntl = None  # type: ignore[assignment]

SEAL = "seal.json"
_UNFINISHED = re.compile(r"^\..+-unfinished-(?P<host>.+)-(?P<pid>\d+)-[^-]+$")
_MAX_AGE = 7 * 24 * 3600.0  # seconds; by then another process may have the same number


# --- Writing --------------------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def whole_folder(path: str | Path, forced: bool = True) -> Iterator[Path]:
    """Yields an empty folder that is renamed to `path` when the block ends; after an error nothing is left.

    Args:
        forced: whether all of it is forced to the disk first. Otherwise a lost power supply may leave a torn folder, which its seal tells.

    Raises:
        FileExistsError: `path` exists already, or exists by the time the block ends.
    """
    path = Path(path)
    with scratch_folder(path) as unfinished:
        yield unfinished
        unfinished.chmod(0o777 & ~_UMASK)  # mkdtemp makes private folders
        open_files(unfinished)
        if forced:
            sync(unfinished)
        try:
            os.rename(unfinished, path)
        except OSError as error:
            if path.exists():
                raise FileExistsError(f"{path} is there already.") from error
            raise
        if forced:
            sync_entry(path.parent)


@contextlib.contextmanager
def scratch_folder(path: str | Path) -> Iterator[Path]:
    """Yields an empty folder beside `path` that is deleted when the block ends, or by `remove_unfinished` after its process has died."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=_prefix(path), dir=path.parent))
    try:
        with locked(scratch):
            yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextlib.contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Yields the path of an empty file that replaces `path` when the block ends; after an error `path` is as it was."""
    path = Path(path)
    descriptor, name = tempfile.mkstemp(prefix=_prefix(path), dir=path.parent)
    os.close(descriptor)
    unfinished = Path(name)
    try:
        with locked(unfinished):
            yield unfinished
            os.chmod(unfinished, 0o666 & ~_UMASK)
            sync_entry(unfinished)
            os.replace(unfinished, path)
            sync_entry(path.parent)
    finally:
        unfinished.unlink(missing_ok=True)


def write_whole(path: str | Path, content: str | bytes) -> None:
    """Writes text (as UTF-8) or bytes to a file that is replaced at once."""
    with whole_file(path) as unfinished:
        unfinished.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)


def open_files(folder: str | Path) -> None:
    """Gives the files below `folder` the rights that the umask leaves: safetensors writes weights that their owner alone can read."""
    for path in Path(folder).rglob("*"):
        if path.is_file() and not path.is_symlink():
            path.chmod((path.stat().st_mode | 0o666) & ~_UMASK)


def write_json(content: Any, path: str | Path) -> None:
    """Writes JSON to a file that is replaced at once."""
    write_whole(path, _json(content))


def _json(content: Any) -> str:
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def sync(folder: str | Path) -> None:
    """Forces all files and folders below `folder` to the disk."""
    for parent, _, names in os.walk(folder):
        for name in names:
            sync_entry(os.path.join(parent, name))
        sync_entry(parent)


def sync_entry(path: str | Path) -> None:
    """Forces one file, or the names in one folder, to the disk."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except (PermissionError, IsADirectoryError):  # Windows opens no folders
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
    finally:
        os.close(descriptor)


# --- Checking -------------------------------------------------------------------------------------------------------------------------


def seal(folder: str | Path, **facts: Any) -> None:
    """Writes the size and SHA-256 of every file below an unfinished `folder`, and facts about it, into its `seal.json`."""
    folder = Path(folder)
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    noted = {name: {"size": path.stat().st_size, "sha256": _sha256(path)} for name, path in files.items()}
    (folder / SEAL).write_text(_json({"files": noted, **facts}), encoding="utf-8")


def read_seal(folder: str | Path) -> dict[str, Any]:
    """What `seal` wrote; `ValueError` if that cannot be read."""
    path = Path(folder) / SEAL
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return content | {"files": {name: (int(noted["size"]), str(noted["sha256"])) for name, noted in content["files"].items()}}
    except FileNotFoundError as error:
        raise ValueError(f"{path} is missing") from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read") from error


def damage(folder: str | Path, hashed: Iterable[str] | None = None) -> str | None:
    """What is wrong with a sealed folder, in words, or None.

    Args:
        hashed: names of the files whose content is compared; of the others only the size is compared. None compares all contents.
    """
    folder = Path(folder)
    try:
        files = read_seal(folder)["files"]
    except ValueError as error:
        return str(error)
    for name in {*files, *(hashed or ())}:
        path = folder / name
        if name not in files:
            return f"{folder / SEAL} does not name {name}"
        size, digest = files[name]
        if not path.is_file():
            return f"{path} is missing"
        if path.stat().st_size != size:
            return f"{path} has {path.stat().st_size:,} bytes, expected {size:,}"
        if (hashed is None or name in hashed) and _sha256(path) != digest:
            return f"the content of {path} was altered"
    return None


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# --- Removing -------------------------------------------------------------------------------------------------------------------------


def discard(path: str | Path) -> None:
    """Deletes a file or folder at once, so that no process sees a part of it; a missing one is no error."""
    path = Path(path)
    gone = path.with_name(f"{_prefix(path)}{time.time_ns():x}")
    try:
        os.rename(path, gone)
    except FileNotFoundError:
        return
    _delete(gone)


def remove_unfinished(parent: str | Path) -> int:
    """Deletes unfinished files and folders in `parent` that killed processes of this machine left, or that are a week old.

    Returns:
        How many were deleted.
    """
    removed = 0
    for entry in Path(parent).glob(".*-unfinished-*"):
        match = _UNFINISHED.match(entry.name)
        if match is None:
            continue
        try:
            old = time.time() - entry.stat().st_mtime > _MAX_AGE
        except FileNotFoundError:  # another process removed it
            continue
        # The number of a process is not enough: other containers use the same ones.
        if old or (match["host"] == _host() and not _is_alive(int(match["pid"])) and not is_locked(entry)):
            _delete(entry)
            removed += 1
    return removed


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


# --- Locks ----------------------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def locked(path: str | Path, shared: bool = False, wait: bool = True) -> Iterator[None]:
    """Locks an existing file or folder until the block or the process ends, where the system and the file system have locks.

    Args:
        shared: whether other processes may have a shared lock at the same time.
        wait: whether to wait until the lock is free; otherwise `BlockingIOError` is raised.
    """
    if fcntl is None:
        yield
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise
        except OSError:  # no locks on this file system
            pass
        yield
    finally:
        os.close(descriptor)


def is_locked(path: str | Path) -> bool:
    """Whether a process has locked a file or folder."""
    try:
        with locked(path, wait=False):
            return False
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False


def _prefix(path: Path) -> str:
    return f".{path.name}-unfinished-{_host()}-{os.getpid()}-"


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9.]", "_", socket.gethostname()) or "host"


def _is_alive(pid: int) -> bool:
    if os.name == "nt":  # os.kill would end the process there
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True


def _read_umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


_UMASK = _read_umask()  # once: it can only be read by setting it, which other threads would notice
_NO_SYNC = {errno.EINVAL, errno.EOPNOTSUPP}  # file systems that have no fsync for this kind of entry
