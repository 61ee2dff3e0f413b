"""Files and folders that are whole or absent: written beside their place, forced to the disk, then renamed.

    with whole_folder("cache/key") as folder:   # a folder of another name until the block ends without an error
        (folder / "frames.f4").write_bytes(...)
        seal(folder)                            # notes size and SHA-256 of its files, for `damage`

A crash, a full disk or a lost power supply leaves the old state or the new one. What a killed process leaves behind is
named after it, and `remove_unfinished` deletes it.
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
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows, which deletes and renames nothing that a process holds open
    fcntl = None

SEAL = "seal.json"
_UNFINISHED = re.compile(r"^\..+-unfinished-(?P<host>.+)-(?P<pid>\d+)-[^-]+$")
_MAX_AGE = 7 * 24 * 3600.0  # seconds; a process number may have been given to another process since


# --- Writing --------------------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def whole_folder(path):
    """Yields an empty folder that is renamed to `path` when the block ends; after an error nothing is left.

    Raises:
        FileExistsError: `path` is there already, or came to be there meanwhile.
    """
    path = Path(path)
    with scratch_folder(path) as unfinished:
        yield unfinished
        unfinished.chmod(0o777 & ~_UMASK)  # mkdtemp makes private folders
        open_files(unfinished)
        sync(unfinished)
        try:
            os.rename(unfinished, path)
        except OSError as error:
            if path.exists():
                raise FileExistsError(f"{path} is there already.") from error
            raise
        sync_entry(path.parent)


@contextlib.contextmanager
def scratch_folder(path):
    """Yields an empty folder beside `path` that is deleted when the block ends, or when `remove_unfinished` finds its process dead."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=_prefix(path), dir=path.parent))
    try:
        with locked(scratch):
            yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextlib.contextmanager
def whole_file(path):
    """Yields the path of an empty file that replaces `path` when the block ends; after an error `path` is as it was."""
    path = Path(path)
    descriptor, unfinished = tempfile.mkstemp(prefix=_prefix(path), dir=path.parent)
    os.close(descriptor)
    try:
        with locked(unfinished):
            yield Path(unfinished)
            os.chmod(unfinished, 0o666 & ~_UMASK)
            sync_entry(unfinished)
            os.replace(unfinished, path)
            sync_entry(path.parent)
    finally:
        Path(unfinished).unlink(missing_ok=True)


def write_whole(path, content):
    """Writes text (as UTF-8) or bytes to a file that is replaced at once."""
    with whole_file(path) as unfinished:
        unfinished.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)


def open_files(folder: str | Path) -> None:
    """Gives the files below `folder` the rights that the umask leaves: safetensors writes weights that their owner alone can read."""
    for path in Path(folder).rglob("*"):
        if path.is_file() and not path.is_symlink():
            path.chmod((path.stat().st_mode | 0o666) & ~_UMASK)


def sync(folder):
    """Forces all files and folders below `folder` to the disk."""
    for parent, _, names in os.walk(folder):
        for name in names:
            sync_entry(os.path.join(parent, name))
        sync_entry(parent)


def sync_entry(path):
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


def seal(folder, **facts):
    """Notes the size and SHA-256 of every file below `folder`, and facts about it, in its `seal.json`."""
    folder = Path(folder)
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    noted = {name: {"size": path.stat().st_size, "sha256": _sha256(path)} for name, path in files.items()}
    write_whole(folder / SEAL, json.dumps({"files": noted, **facts}, indent=1, ensure_ascii=False) + "\n")


def read_seal(folder):
    """What `seal` noted; `ValueError` where that cannot be read."""
    path = Path(folder) / SEAL
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return content | {"files": {name: (int(noted["size"]), str(noted["sha256"])) for name, noted in content["files"].items()}}
    except FileNotFoundError as error:
        raise ValueError(f"{path} is missing") from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read") from error


def damage(folder, hashed=None):
    """What is wrong with a sealed folder, in words, or None.

    Args:
        hashed: names of the files whose content is compared; of the others only the size is. None compares the content of all.
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


def _sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# --- Removing -------------------------------------------------------------------------------------------------------------------------


def discard(path):
    """Deletes a file or folder so that nobody ever sees a part of it; what is absent already is no error."""
    path = Path(path)
    gone = path.with_name(f"{_prefix(path)}{time.time_ns():x}")
    try:
        os.rename(path, gone)
    except FileNotFoundError:
        return
    _delete(gone)


def remove_unfinished(parent):
    """Deletes what killed processes of this machine left unfinished in `parent`, and any that is a week old. Returns how many."""
    removed = 0
    for entry in Path(parent).glob(".*-unfinished-*"):
        match = _UNFINISHED.match(entry.name)
        if match is None:
            continue
        try:
            old = time.time() - entry.stat().st_mtime > _MAX_AGE
        except FileNotFoundError:  # another process removed it
            continue
        # Numbers of processes alone say little: another container has its own.
        if old or (match["host"] == _host() and not _is_alive(int(match["pid"])) and not is_locked(entry)):
            _delete(entry)
            removed += 1
    return removed


def _delete(path):
    shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


# --- Locks ----------------------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def locked(path, shared=False, wait=True):
    """Locks a file or folder that is there until the block or the process ends, where the system and the file system have locks.

    Args:
        shared: others may share the lock; by default nobody else has it.
        wait: until it is free; else `BlockingIOError` is raised.
    """
    descriptor = os.open(path, os.O_RDONLY) if fcntl else None
    try:
        if fcntl:
            try:
                fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                raise
            except OSError:  # no locks on this file system
                pass
        yield
    finally:
        if fcntl:
            os.close(descriptor)


def is_locked(path):
    """Whether a process has locked a file or folder."""
    try:
        with locked(path, wait=False):
            return False
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False


def _prefix(path):
    return f".{path.name}-unfinished-{_host()}-{os.getpid()}-"


def _host():
    return re.sub(r"[^A-Za-z0-9.]", "_", socket.gethostname()) or "host"


def _is_alive(pid):
    if os.name == "nt":  # os.kill would end the process there
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True


def _read_umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


_UMASK = _read_umask()  # once: it can only be read by setting it, which other threads would notice
_NO_SYNC = {errno.EINVAL, errno.EOPNOTSUPP}  # file systems that have no fsync for this kind of entry
