"""Files and folders that are whole or absent: written beside their place, forced to the disk, then renamed.

    with whole_folder("cache/key") as folder:   # a folder of another name until the block ends without an error
        (folder / "frames.f4").write_bytes(...)

A crash, a full disk or a lost power supply leaves the old state or the new one. What a killed process leaves behind is
named after it, and `remove_unfinished` deletes it.
"""

import errno
import os
import re
import shutil
import socket
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

_UNFINISHED = re.compile(r"^\..+-unfinished-(?P<host>.+)-(?P<pid>\d+)-[^-]+$")
_MAX_AGE = 7 * 24 * 3600.0  # seconds; a process number may have been given to another process since


@contextmanager
def whole_folder(path):
    """Yields an empty folder that is renamed to `path` when the block ends; after an error nothing is left.

    Raises:
        FileExistsError: `path` is there already, or came to be there meanwhile.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=_prefix(path), dir=path.parent))
    try:
        yield unfinished
        unfinished.chmod(0o777 & ~_UMASK)  # mkdtemp makes private folders
        sync(unfinished)
        try:
            os.rename(unfinished, path)
        except OSError as error:
            if path.exists():
                raise FileExistsError(f"{path} is there already.") from error
            raise
        sync_entry(path.parent)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


@contextmanager
def scratch_folder(path):
    """Yields a folder beside `path` that is gone when the block ends; `remove_unfinished` deletes that of a killed process."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=_prefix(path), dir=path.parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_whole(path, content):
    """Writes text (as UTF-8) or bytes to a file that is replaced at once."""
    path = Path(path)
    descriptor, unfinished = tempfile.mkstemp(prefix=_prefix(path), dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content.encode("utf-8") if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(unfinished, 0o666 & ~_UMASK)
        os.replace(unfinished, path)
        sync_entry(path.parent)
    finally:
        Path(unfinished).unlink(missing_ok=True)


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
        if old or (match["host"] == _host() and not _is_alive(int(match["pid"]))):
            shutil.rmtree(entry, ignore_errors=True) if entry.is_dir() else entry.unlink(missing_ok=True)
            removed += 1
    return removed


def _prefix(path):
    return f".{path.name}-unfinished-{_host()}-{os.getpid()}-"


def _host():
    return re.sub(r"[^A-Za-z0-9.]", "_", socket.gethostname()) or "host"


def _is_alive(pid):
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
