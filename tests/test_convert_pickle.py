"""Pickles: containers, numbers, arrays and tensors come out as they went in; nothing else is even looked up."""

import gzip
import os
import pickle
import subprocess
import sys
import warnings
import zipfile
from collections import OrderedDict
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch

from datasets_scripts import convert_pickle
from datasets_scripts.convert_pickle import PickleReader, load_plain_pickle
from datasets_scripts.schema import check_row


def write(path, content, protocol=4, compressed=False):
    with gzip.open(path, "wb") if compressed else open(path, "wb") as file:
        pickle.dump(content, file, protocol)
    return path


def uni_sign(num_frames=6, num_people=1, seed=0):
    """Poses as Uni-Sign ships them: lists of frames, people first, relative to the image."""
    rng = np.random.default_rng(seed)
    return {
        "keypoints": [rng.uniform(0.4, 0.6, (num_people, 133, 2)) for _ in range(num_frames)],
        "scores": [rng.uniform(0.3, 0.9, (num_people, 133)).astype(np.float32) for _ in range(num_frames)],
    }


def load(folder, tmp_path):
    return datasets.load_dataset(str(folder), split="train", cache_dir=str(tmp_path / "cache"))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("compressed", [False, True])
def test_plain_content_comes_out_as_it_went_in(tmp_path, protocol, compressed):
    content = {"a": [1, 2.5, "ß", b"b\xff", None, True, (1, 2), {3}], "f": np.float32(3), 7: {"n": 10**20}}
    arrays = {
        "c": np.arange(6.0).reshape(2, 3), "fortran": np.asfortranarray(np.arange(6, dtype=np.int16).reshape(2, 3)),
        "strings": np.array(["a", "bc"]), "objects": np.array(["a", None], object), "tensor": torch.arange(6.0).reshape(2, 3)[:, 1:],
    }  # fmt: skip
    loaded = load_plain_pickle(write(tmp_path / "a.pkl", content | arrays, protocol, compressed))
    assert {key: loaded[key] for key in content} == content
    for key, array in arrays.items():
        np.testing.assert_array_equal(loaded[key], np.asarray(array))


class Hostile:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    "function, arguments, name",
    [
        (os.system, ("touch {}",), f"{os.system.__module__}.system"),
        (eval, ("open('{}', 'w')",), "builtins.eval"),
        (getattr, ([], "append"), "builtins.getattr"),
        (Path, ("a",), "pathlib.*Path"),
        (torch.load, ("a",), "torch.serialization.load"),
        (np.load, ("a",), "numpy.load"),
    ],
)
def test_any_other_name_is_refused_before_it_runs(tmp_path, function, arguments, name):
    touched = tmp_path / "touched"
    arguments = [argument.format(touched) if isinstance(argument, str) else argument for argument in arguments]
    path = write(tmp_path / "a.pkl", {"keypoints": [Hostile(function, *arguments)]})
    with pytest.raises(ValueError, match=f"a.pkl: .* names {name}, which is refused"):
        load_plain_pickle(path)
    assert not touched.exists()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_hostile_pickle_inside_a_tensor_is_refused(tmp_path):
    """A storage carries bytes that torch's own function would unpickle without any check."""
    touched = tmp_path / "touched"
    inner = pickle.dumps(Hostile(os.system, f"touch {touched}"))
    path = write(tmp_path / "a.pkl", Hostile(torch.storage._load_from_bytes, inner))
    with pytest.raises(ValueError, match="cannot be unpickled"):
        load_plain_pickle(path)
    assert not touched.exists()


def test_dotted_names_do_not_reach_around_the_list(tmp_path):
    (tmp_path / "a.pkl").write_bytes(b"\x80\x04\x8c\x05numpy\x8c\x11ndarray.__class__\x93.")
    with pytest.raises(ValueError, match="numpy.ndarray.__class__, which is refused"):
        load_plain_pickle(tmp_path / "a.pkl")


OBJECTS = b"cnumpy\ndtype\n(VO8\n\x89\x88tR(K\x03V|\nNNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x3ftb"
NUMBERS = b"cnumpy\ndtype\n(Vu8\n\x89\x88tR(K\x03V<\nNNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
ARRAY = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tC\x01btR"
FIELDS = b"(VV8\n\x89\x88tR(K\x03V|\nN(Vx\nt}Vx\n(" + OBJECTS + b"K\x00tsK\x08K\x01K\x00tb"
EIGHT = b"C\x08AAAAAAAA"


@pytest.mark.parametrize(
    "content",
    [
        b"cnumpy\nndarray\n((K\x01t" + NUMBERS + ARRAY + b"(K\x01(K\x01t" + OBJECTS + b"\x89]NatbtR.",  # pointers as numbers
        b"cnumpy\nndarray\n((K\x01t" + NUMBERS + EIGHT + b"tR.",  # a way to write into bytes
        ARRAY + b"(K\x01(K\x01t" + OBJECTS + b"\x89" + EIGHT + b"tb.",  # numbers as pointers
        b"cnumpy.core.multiarray\nscalar\n(" + OBJECTS + EIGHT + b"tR.",
        b"cnumpy.core.numeric\n_frombuffer\n(" + EIGHT + OBJECTS + b"(K\x01tVC\ntR.",
        ARRAY + b"(K\x01(K\x01tcnumpy\ndtype\n" + FIELDS + b"\x89" + EIGHT + b"tb.",  # a structure that hides its objects
        b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n" + FIELDS + EIGHT + b"tR.",
    ],
)
def test_allowed_names_do_not_give_away_memory(tmp_path, content):
    """A file of allowed names alone ran code: NumPy's own functions made numbers of the addresses of objects, and the reverse."""
    (tmp_path / "a.pkl").write_bytes(b"\x80\x04" + content)
    with pytest.raises(ValueError, match="a.pkl: cannot be unpickled"):
        load_plain_pickle(tmp_path / "a.pkl")


def test_arrays_share_no_memory(tmp_path):
    """The state of an array, set by BUILD, made bytes of the same pickle writable."""
    array = ARRAY + b"(K\x01(K\x01t" + NUMBERS + b"\x89h\x00tb"
    (tmp_path / "a.pkl").write_bytes(b"\x80\x04" + EIGHT + b"q\x00" + array + array + b"\x87.")
    content, first, second = load_plain_pickle(tmp_path / "a.pkl")
    first[0] = 0
    assert content == b"A" * 8 and second.tolist() == [0x4141414141414141]


@pytest.mark.parametrize("zipped", [True, False])
def test_tensors_of_torch_save_come_out(tmp_path, zipped):
    shared = torch.arange(12.0).reshape(3, 4)
    content = {
        "rows": shared[1:],
        "columns": shared.T[1:3],
        "one": shared[:1].expand(5, 4),
        "long": torch.arange(3),
        "none": torch.zeros(0, 3),
    }
    torch.save(content | {"bool": torch.tensor([True, False])}, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
    loaded = load_plain_pickle(tmp_path / "a.pt")
    for key, tensor in content.items():
        np.testing.assert_array_equal(loaded[key], tensor.numpy())
    assert loaded["bool"].tolist() == [True, False] and loaded["long"].dtype == np.int64


@pytest.mark.parametrize(
    "offset, shape, stride",
    [
        (5, (1,), (1,)),
        (0, (5,), (1,)),
        (0, (2,), (4,)),
        (-1, (1,), (1,)),
        (0, (2,), (-1,)),
        (0, (-2,), (1,)),
        (0, (2, 2), (1,)),
        (0, (2**40,), (0,)),
    ],
)
def test_tensors_stay_within_their_storage(tmp_path, offset, shape, stride):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of torch, about its own class
        storage = torch.arange(4.0).storage()
    rebuild = Hostile(torch._utils._rebuild_tensor_v2, storage, offset, shape, stride, False, OrderedDict())
    with pytest.raises(ValueError, match="cannot be unpickled: .*(leaves its storage|other arguments|bytes come out)"):
        load_plain_pickle(write(tmp_path / "a.pkl", rebuild))


def test_what_a_small_file_may_become_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(convert_pickle, "MAX_PICKLE_OPCODES", 1000)
    monkeypatch.setattr(convert_pickle, "MAX_ARCHIVE_BYTES", 1 << 20)
    zipped = tmp_path / "a.zip"
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", b"\x80\x02N" + bytes(2 << 20))
    double = b"q\x01]h\x01ah\x01a"
    for name, content, message in (
        ("deep", b"]" * 200 + b"a" * 199 + b".", "more than 100 lists or dicts within each other"),
        ("doubled", b"]" + double * 60 + b".", "bytes come out of it"),
        ("strings", b"V" + b"x" * 1000 + b"\n" + double * 60 + b".", "bytes come out of it"),
        ("circle", b"]q\x00h\x00a.", "contains itself"),
        ("opcodes", gzip.compress(b"N0" * 501 + b"N."), "more opcodes than a file of this size may have"),
        ("gzip", gzip.compress(b"C" * (2 << 20)), "unpacks to more than 1048576 bytes"),
        ("zip", zipped.read_bytes(), "unpacks to more"),
        ("lengths", b"\x8e" + b"\xff" * 7 + b"\x7f.", "bytes are missing"),
        ("integer", b"\x8b\xff\xff\xff\x7f.", "an integer has other arguments"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=f"{name}: cannot be unpickled: .*{message}"):
            load_plain_pickle(tmp_path / name)


def test_keys_that_collide_are_refused(tmp_path):
    keys = {(number + 1) * (2**61 - 1): None for number in range(300)}  # the hash of each is 0
    with pytest.raises(ValueError, match="equal or collide"):
        load_plain_pickle(write(tmp_path / "a.pkl", keys))
    assert len(load_plain_pickle(write(tmp_path / "a.pkl", dict.fromkeys(range(3000))))) == 3000


def test_the_reading_process_has_no_rights(tmp_path):
    """It may not open files or start processes, sees no environment, and ends where it takes too much."""
    resource = pytest.importorskip("resource")
    script = (
        "import json, os, sys\n"
        f"sys.path.insert(0, {str(Path(convert_pickle.__file__).parent)!r})\n"
        "import pickle_machine\n"
        "pickle_machine.drop_rights(dict(memory=1 << 30))\n"
        "def fails(call, *arguments):\n"
        "    try: call(*arguments)\n"
        "    except (OSError, MemoryError) as error: return type(error).__name__\n"
        "print(fails(open, os.__file__), fails(os.pipe), fails(bytearray, 2 << 30))\n"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", script], capture_output=True, text=True)
    assert done.stdout.split() == ["OSError", "OSError", "MemoryError"], done.stderr
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 0  # ours is as it was


def test_a_reading_process_that_ends_is_an_error_of_the_file(tmp_path, monkeypatch):
    pytest.importorskip("resource")
    path = write(tmp_path / "a.pkl", bytes(10 << 20))
    with PickleReader() as reader:
        reader._start()
        reader._process.kill()
        with pytest.raises(ValueError, match="a.pkl: cannot be unpickled: the process that reads it ended.* may take 600 s"):
            reader.read(path)
        assert len(reader.read(path)) == 10 << 20
    monkeypatch.setattr(convert_pickle, "MAX_PICKLE_MEMORY", 1 << 20)
    with pytest.raises(ValueError, match="a.pkl: cannot be unpickled: it takes more memory than is given to one pickle"):
        load_plain_pickle(path)


def test_one_process_reads_many_files_and_a_refused_one_ends_it(tmp_path):
    good, bad = write(tmp_path / "good.pkl", [1, "a"]), write(tmp_path / "bad.pkl", Hostile(os.system, "true"))
    with PickleReader() as reader:
        assert reader.read(good) == [1, "a"]
        process = reader._process
        assert reader.read(good) == [1, "a"] and reader._process is process
        with pytest.raises(ValueError, match="bad.pkl: .*system, which is refused"):
            reader.read(bad)
        assert reader.read(good) == [1, "a"] and reader._process is not process
    assert process.poll() is not None and reader._process is None


def test_a_system_without_limits_says_so(tmp_path, monkeypatch):
    path = write(tmp_path / "a.pkl", [1])
    monkeypatch.setattr(convert_pickle.importlib.util, "find_spec", lambda name: None)
    with pytest.warns(UserWarning, match="no `resource` module: .* without bounds of memory and CPU time"):
        assert load_plain_pickle(path) == [1]


def test_pipes_and_folders_are_no_pickles(tmp_path):
    os.mkfifo(tmp_path / "pipe.pkl")
    for path in (tmp_path / "pipe.pkl", tmp_path):
        with pytest.raises(ValueError, match="cannot be unpickled: it is no regular file"):
            load_plain_pickle(path)


def test_what_is_no_plain_data_is_refused(tmp_path):
    for content, what in ((int, "a class or a function"), (np.dtype("f4"), "a dtype")):
        with pytest.raises(ValueError, match=f"it holds {what}"):
            load_plain_pickle(write(tmp_path / "a.pkl", [content]))
    for content in (np.zeros(2, "f4,i2"), np.zeros(2, "M8[s]"), np.datetime64("2026-01-01")):
        with pytest.raises(ValueError, match="dtype (V6|M8), which is refused: expected numbers, bool, strings or objects"):
            load_plain_pickle(write(tmp_path / "a.pkl", [content]))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_hostile_pickles_in_bulk(tmp_path):
    """A small part of `python -m tests.soak --only pickles`."""
    pytest.importorskip("resource")
    from .soak.pickles import soak

    for row in soak(0.04, tmp_path, seed=1):
        assert row.bad == 0, row.examples


def test_broken_files_are_named(tmp_path):
    whole = write(tmp_path / "whole.pkl", uni_sign()).read_bytes()
    for name, content in (("half.pkl", whole[:-50]), ("text.pkl", b"hello"), ("empty.pkl", b""), ("half.gz", gzip.compress(whole)[:-50])):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=f"{name}: cannot be unpickled"):
            load_plain_pickle(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        load_plain_pickle(tmp_path / "nowhere.pkl")


def test_poses_of_a_clip_a_file_become_rows(tmp_path):
    folder = tmp_path / "poses"
    folder.mkdir()
    for number in range(3):
        write(folder / f"S{number}.pkl", uni_sign(4 + number, seed=number))
    (folder / "list.txt").write_text("no pickle")
    arguments = [
        str(folder),
        "--output_dir",
        str(tmp_path / "out"),
        "--width",
        "512",
        "--height",
        "512",
        "--language",
        "csl",
        "--fps",
        "30",
    ]
    convert_pickle.main(arguments)
    rows = load(tmp_path / "out", tmp_path)
    assert rows["id"] == ["S0", "S1", "S2"] and [len(row["keypoints"]) for row in rows] == [4, 5, 6]
    check_row(rows[0])
    assert rows[0]["layout"] == "wholebody133" and rows[0]["width"] == 512 and rows[0]["fps"] == 30
    np.testing.assert_allclose(rows[1]["keypoints"], np.concatenate(uni_sign(5, seed=1)["keypoints"]), rtol=1e-5)
    assert sorted(path.name for path in (tmp_path / "out").rglob("*")) == ["data", "train-00000-of-00001.parquet"]


def test_relative_poses_ask_for_the_size(tmp_path):
    path = write(tmp_path / "a.pkl", uni_sign())
    with pytest.raises(ValueError, match="a: its coordinates are relative to the image"):
        convert_pickle.main([str(path), "--output_dir", str(tmp_path / "out")])


def test_many_clips_in_one_pickle_become_rows(tmp_path):
    by_id = {f"clip{number}": uni_sign(seed=number) | {"text": " ein Satz "} for number in range(2)}
    named = [uni_sign(seed=number) | {"name": f"clip{number}", "label": np.int64(number)} for number in range(2)]
    for kind, content in (("by_id", by_id), ("named", named)):
        convert_pickle.main(
            [str(write(tmp_path / "a.pkl", content)), "--output_dir", str(tmp_path / kind), "--width", "9", "--height", "16"]
        )
        rows = load(tmp_path / kind, tmp_path)
        assert rows["id"] == ["clip0", "clip1"]
        assert rows["text"] == (["ein Satz"] * 2 if kind == "by_id" else [None] * 2)
        assert rows["label"] == ([None] * 2 if kind == "by_id" else [0, 1])


def test_annotations_of_slt_become_a_table(tmp_path):
    facts = {"signer": "Signer01", "gloss": "MORGEN REGEN", "text": "morgen regnet es ."}
    records = [facts | {"name": f"train/{number}", "sign": torch.randn(7 + number, 16)} for number in range(2)]
    path = write(tmp_path / "phoenix14t.pami0.train", records, compressed=True)
    convert_pickle.main([str(path), "--output_dir", str(tmp_path / "out"), "--language", "gsg"])
    rows = load(tmp_path / "out", tmp_path)
    expected = facts | {"id": "train/0", "language": "gsg", "num_frames": 7}
    assert rows[0] == expected and rows[1]["num_frames"] == 8


def test_content_of_another_kind_says_what_was_found(tmp_path):
    for content, message in ((3, "a int"), ([1, 2], "a list of 2"), ({}, "a dict of 0")):
        path = write(tmp_path / "a.pkl", content)
        with pytest.raises(ValueError, match=f"a: .*{message}, expected a dict with keypoints"):
            convert_pickle.main([str(path), "--output_dir", str(tmp_path / "out")])
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match="No pickle"):
        convert_pickle.main([str(tmp_path / "none"), "--output_dir", str(tmp_path / "out")])
