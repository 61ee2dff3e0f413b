"""Files and folders that are whole or absent: forced to the disk before they get their name, checked, and removed when left behind."""

import multiprocessing
import os
import signal
import stat
import time

import pytest

from datasets_scripts import whole
from datasets_scripts.whole import (
    damage,
    discard,
    is_locked,
    locked,
    remove_unfinished,
    scratch_folder,
    seal,
    sync,
    whole_file,
    whole_folder,
    write_whole,
)

FORK = multiprocessing.get_context("fork")


@pytest.fixture
def calls(monkeypatch):
    """[(what, path)] of every fsync and rename, in order."""
    noted, fsync, rename, replace = [], os.fsync, os.rename, os.replace

    def note_fsync(descriptor):
        noted.append(("fsync", os.path.realpath(f"/proc/self/fd/{descriptor}")))
        fsync(descriptor)

    def note(name, function):
        def moved(source, target):
            noted.append((name, os.path.realpath(source), os.path.realpath(target)))
            function(source, target)

        return moved

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "rename", note("rename", rename))
    monkeypatch.setattr(os, "replace", note("rename", replace))
    return noted


needs_proc = pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="descriptors have no paths here")


@pytest.mark.skipif(os.name == "nt", reason="no groups there")
def test_what_a_library_made_private_can_be_read_as_any_other_file(tmp_path):
    """safetensors 0.8 writes weights of mode 0600: colleagues on a cluster could not read them."""
    (tmp_path / "usual").touch()
    with whole_folder(tmp_path / "key") as folder:
        (folder / "part").mkdir()
        for name, mode in (("model.safetensors", 0o600), ("part/script", 0o700)):
            (folder / name).touch()
            (folder / name).chmod(mode)
    usual = stat.S_IMODE((tmp_path / "usual").stat().st_mode)
    assert stat.S_IMODE((tmp_path / "key" / "model.safetensors").stat().st_mode) == usual
    assert stat.S_IMODE((tmp_path / "key" / "part" / "script").stat().st_mode) == usual | 0o700


@needs_proc
def test_all_of_a_folder_is_on_the_disk_before_it_has_its_name_and_the_name_afterwards(tmp_path, calls):
    with whole_folder(tmp_path / "key") as folder:
        (folder / "inner").mkdir()
        for name in ("a", "inner/b"):
            (folder / name).write_bytes(b"x")
        assert calls == []
    names = [call[0] for call in calls]
    at = names.index("rename")
    before = {path for what, path in calls[:at]}
    assert before == {str(folder), str(folder / "a"), str(folder / "inner"), str(folder / "inner/b")}
    assert calls[at:] == [("rename", str(folder), str(tmp_path / "key")), ("fsync", str(tmp_path))]


@needs_proc
def test_a_file_is_on_the_disk_before_it_replaces_the_old_one(tmp_path, calls):
    (tmp_path / "a.json").write_text("old")
    write_whole(tmp_path / "a.json", "new")
    assert [call[0] for call in calls] == ["fsync", "rename", "fsync"]
    assert calls[0][1] == calls[1][1] and calls[1][2] == str(tmp_path / "a.json") and calls[2][1] == str(tmp_path)
    assert (tmp_path / "a.json").read_text() == "new" and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_after_an_error_the_old_state_is_there_and_nothing_else(tmp_path, error):
    (tmp_path / "file").write_text("old")
    with pytest.raises(error), whole_folder(tmp_path / "folder") as folder:
        (folder / "a").write_text("half")
        raise error
    with pytest.raises(error), whole_file(tmp_path / "file") as file:
        file.write_text("half")
        raise error
    assert [path.name for path in tmp_path.iterdir()] == ["file"] and (tmp_path / "file").read_text() == "old"


def test_a_folder_that_is_there_is_not_replaced(tmp_path):
    (tmp_path / "key").mkdir()
    (tmp_path / "key" / "a").write_text("first")
    with pytest.raises(FileExistsError, match="key is there already"), whole_folder(tmp_path / "key") as folder:
        (folder / "a").write_text("second")
    assert (tmp_path / "key" / "a").read_text() == "first" and len(list(tmp_path.iterdir())) == 1


def test_others_may_read_what_is_written(tmp_path):
    """Temporary files and folders are private; colleagues of the same group must read the result."""
    with whole_folder(tmp_path / "folder"):
        pass
    write_whole(tmp_path / "file", b"x")
    plain_file, plain_folder = tmp_path / "plain", tmp_path / "plain_folder"
    plain_file.write_text("x")
    plain_folder.mkdir()
    for ours, theirs in ((tmp_path / "file", plain_file), (tmp_path / "folder", plain_folder)):
        assert stat.S_IMODE(ours.stat().st_mode) == stat.S_IMODE(theirs.stat().st_mode)


# --- What is left behind ------------------------------------------------------------------------------------------------------------


def die_while_writing(parent, ready):
    with whole_folder(parent / "folder") as folder, whole_file(parent / "file") as file, scratch_folder(parent / "scratch"):
        (folder / "a").write_text("half")
        file.write_text("half")
        ready.set()
        time.sleep(60)


def killed_while_writing(parent):
    ready = FORK.Event()
    process = FORK.Process(target=die_while_writing, args=(parent, ready))
    process.start()
    assert ready.wait(30)
    return process


@pytest.mark.skipif(whole.fcntl is None, reason="no POSIX here")
def test_what_a_killed_process_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path):
    process = killed_while_writing(tmp_path)
    assert len(list(tmp_path.iterdir())) == 3 and remove_unfinished(tmp_path) == 0
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert remove_unfinished(tmp_path) == 3 and list(tmp_path.iterdir()) == []


def test_a_writer_whose_number_nobody_knows_here_is_left_alone_while_it_holds_its_lock(tmp_path, monkeypatch):
    """Two containers may share a folder and the machine's name, but each has numbers of processes of its own."""
    monkeypatch.setattr(whole, "_is_alive", lambda pid: False)
    with whole_folder(tmp_path / "folder") as folder:
        assert is_locked(folder) == (whole.fcntl is not None)
        assert remove_unfinished(tmp_path) == (whole.fcntl is None)
    assert not is_locked(tmp_path / "folder") and not is_locked(tmp_path / "absent")


def test_what_another_machine_left_is_removed_after_a_week(tmp_path):
    for name in (".a-unfinished-elsewhere-1-x", ".b-unfinished-elsewhere-1-y", "c-unfinished-elsewhere-1-z", ".unfinished"):
        (tmp_path / name).mkdir()
    os.utime(tmp_path / ".a-unfinished-elsewhere-1-x", (0, 0))
    assert remove_unfinished(tmp_path) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [".b-unfinished-elsewhere-1-y", ".unfinished", "c-unfinished-elsewhere-1-z"]
    assert remove_unfinished(tmp_path / "absent") == 0


def test_what_is_discarded_is_gone_at_once_also_where_it_was_absent(tmp_path):
    with whole_folder(tmp_path / "folder") as folder:
        (folder / "a").write_text("x")
    (tmp_path / "file").write_text("x")
    for name in ("folder", "file", "absent"):
        discard(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(whole.fcntl is None, reason="no POSIX here")
def test_a_lock_is_one_process_s_alone_unless_it_is_shared(tmp_path):
    with locked(tmp_path, shared=True), locked(tmp_path, shared=True), pytest.raises(BlockingIOError), locked(tmp_path, wait=False):
        pass
    with locked(tmp_path), pytest.raises(BlockingIOError), locked(tmp_path, shared=True, wait=False):
        pass
    with locked(tmp_path, wait=False):
        pass


# --- Seals --------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def sealed(tmp_path):
    with whole_folder(tmp_path / "key") as folder:
        (folder / "inner").mkdir()
        (folder / "index").write_bytes(b"index")
        (folder / "inner" / "large").write_bytes(bytes(1000))
        seal(folder, data="rows")
    return tmp_path / "key"


def test_a_folder_as_it_was_sealed_is_not_damaged(sealed):
    assert damage(sealed) is None and damage(sealed, hashed=("index",)) is None and whole.read_seal(sealed)["data"] == "rows"


@pytest.mark.parametrize("name, content, words", [
    ("inner/large", bytes(999), "has 999 bytes, expected 1,000"), ("inner/large", None, "is missing"), ("index", b"indeX", "was altered"),
    ("index", b"", "has 0 bytes, expected 5"), (whole.SEAL, b"{", "cannot be read"), (whole.SEAL, None, "is missing"),
    (whole.SEAL, b"[]", "cannot be read"), (whole.SEAL, b'{"files": {"index": 7}}', "cannot be read"),
    (whole.SEAL, b'{"files": {}}', "does not name index"), (whole.SEAL, b"\xff\xfe", "cannot be read"),
])  # fmt: skip
def test_damage_is_said(sealed, name, content, words):
    (sealed / name).unlink() if content is None else (sealed / name).write_bytes(content)
    assert words in damage(sealed, hashed=("index",)) and str(sealed) in damage(sealed, hashed=("index",))


def test_large_files_are_compared_by_their_content_where_that_is_asked_for(sealed):
    (sealed / "inner" / "large").write_bytes(b"x" + bytes(999))
    assert damage(sealed, hashed=("index",)) is None and "was altered" in damage(sealed)


def test_a_file_system_without_fsync_is_no_error(tmp_path, monkeypatch):
    def refuse(descriptor):
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(os, "fsync", refuse)
    write_whole(tmp_path / "a", "x")
    sync(tmp_path)
