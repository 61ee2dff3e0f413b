"""Pickles: containers, numbers, arrays and tensors come out as they went in; nothing else is even looked up."""

import gzip
import os
import pickle
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch

from datasets_scripts import convert_pickle
from datasets_scripts.convert_pickle import load_plain_pickle
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
    for content, message in ((3, "found a int"), ([1, 2], "found a list of 2"), ({}, "found a dict of 0")):
        path = write(tmp_path / "a.pkl", content)
        with pytest.raises(ValueError, match=f"a: {message}, expected a dict with keypoints"):
            convert_pickle.main([str(path), "--output_dir", str(tmp_path / "out")])
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match="Found no pickle"):
        convert_pickle.main([str(tmp_path / "none"), "--output_dir", str(tmp_path / "out")])
