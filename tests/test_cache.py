"""Caches: other tables or code give another key, damage is noticed and mended, one process builds, `clean` removes what is not used."""

import dataclasses
import importlib
import multiprocessing
import os
import shutil
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers.dynamic_module_utils import get_class_from_dynamic_module

import modeling_unigloR
from datasets_scripts.corpus import sources_hash
from datasets_scripts.folder import CORPUS, list_clips
from datasets_scripts.whole import SEAL
from modeling_unigloR import KeypointProcessor, fingerprint_uniglor, keypoints_uniglor
from modeling_unigloR.fingerprint_uniglor import code_hash, modules_of, processing_hash
from train import cache
from train.data import caches
from train.data.clips import Clips, LatentStore
from train.data.segments import FrameStore

from .test_build import write_clips
from .test_segments import dataset_of

PACKAGE = Path(modeling_unigloR.__file__).parent


@pytest.fixture
def keys(corpus, tiny_sign_mae, tmp_path):
    """A function that gives the keys of frames, latents and built rows, of the same data each time."""
    write_clips(tmp_path / "clips", 2, texts=False)
    model = tiny_sign_mae()

    def current():
        clips = Clips([corpus], "test", KeypointProcessor(), tmp_path / "cache")
        frames = clips.stores[0].key
        latents = {path.name for path in (tmp_path / "cache").glob("uniglor_latents/*")}
        LatentStore.build(clips, model, 7, tmp_path / "cache")
        new = {path.name for path in (tmp_path / "cache").glob("uniglor_latents/*")} - latents
        built = sources_hash(CORPUS, list_clips(tmp_path / "clips").sources, None, ("uniglor73", 73, 2))
        return frames, new.pop() if new else None, built

    return current


def change_openpose_nose(monkeypatch):
    source = keypoints_uniglor.SOURCE_LAYOUTS["openpose137"]
    table = source.table | {"body": source.table["body"] | {"nose": 1}}
    monkeypatch.setitem(keypoints_uniglor.SOURCE_LAYOUTS, "openpose137", dataclasses.replace(source, table=table))


def change_an_anchor(monkeypatch):
    layout = keypoints_uniglor.LAYOUTS["uniglor73"]
    monkeypatch.setitem(
        keypoints_uniglor.LAYOUTS, "uniglor73", dataclasses.replace(layout, anchors=layout.anchors | {"mouth_left": "neck"})
    )


def change_code_of(module):
    def change(monkeypatch):
        source = fingerprint_uniglor._source
        monkeypatch.setattr(fingerprint_uniglor, "_source", lambda name: source(name) + "#" * name.endswith(module))

    return change


@pytest.mark.parametrize(
    "change", [change_openpose_nose, change_an_anchor, change_code_of("readers_uniglor"), change_code_of("processing_uniglor")]
)
def test_another_table_or_code_of_reading_and_processing_gives_every_cache_another_key(keys, monkeypatch, change):
    """OpenPose's nose was moved in its table: the key of processed frames was the same, and cached frames were not what processing gave."""
    before = keys()
    assert keys() == (before[0], None, before[2])  # opened, not built again
    change(monkeypatch)
    assert all(new and new != old for new, old in zip(keys(), before))


def test_latents_have_another_key_by_weights_config_type_code_and_stride(corpus, tiny_sign_mae, tmp_path, monkeypatch):
    clips = Clips([corpus], "test", KeypointProcessor(), tmp_path)
    model = tiny_sign_mae()

    def folders():
        return {path.name for path in (tmp_path / "uniglor_latents").iterdir() if not path.name.startswith(".")}

    LatentStore.build(clips, model, 7, tmp_path)
    assert len(folders()) == 1
    LatentStore.build(clips, model, 5, tmp_path)
    LatentStore.build(clips, model, 7, tmp_path, hold_last=True)
    assert len(folders()) == 3
    model.config.layer_norm_eps = 1e-3
    LatentStore.build(clips, model, 7, tmp_path)
    assert len(folders()) == 4
    change_code_of("modeling_layers_uniglor")(monkeypatch)
    LatentStore.build(clips, model, 7, tmp_path)
    assert len(folders()) == 5
    with torch.no_grad():
        model.encoder.frame_projection.weight[0, 0] += 1
    LatentStore.build(clips, model, 7, tmp_path)
    assert len(folders()) == 6
    key = folders()
    model.double().float()
    LatentStore.build(clips, model, 7, tmp_path)
    assert folders() == key
    LatentStore.build(clips, model.bfloat16(), 7, tmp_path)
    assert len(folders()) == 7


def test_a_checkpoint_that_was_moved_opens_its_latents(corpus, tiny_sign_mae, tmp_path):
    clips, model = Clips([corpus], "test", KeypointProcessor(), tmp_path), tiny_sign_mae()
    LatentStore.build(clips, model, 7, tmp_path)
    for name in ("here", "there"):
        model.save_pretrained(tmp_path / name)
        LatentStore.build(clips, type(model).from_pretrained(tmp_path / name), 7, tmp_path)
    assert len(list((tmp_path / "uniglor_latents").iterdir())) == 1


def copy_of_the_package(folder, name, change=None):
    """The modules that hash and what they need, as a package of another name; its own hash."""
    (folder / name).mkdir(parents=True)
    (folder / name / "__init__.py").touch()
    for path in PACKAGE.glob("*_uniglor.py"):
        shutil.copy(path, folder / name)
    if change:
        path = folder / name / change[0]
        path.write_text(path.read_text(encoding="utf-8").replace(*change[1:]), encoding="utf-8")


def hash_of(name):
    return importlib.import_module(f"{name}.fingerprint_uniglor").processing_hash()


def test_a_package_gives_the_same_hash_wherever_it_is_also_in_an_archive(tmp_path, monkeypatch):
    copy_of_the_package(tmp_path, "copied")
    copy_of_the_package(tmp_path / "in", "archived")
    with zipfile.ZipFile(tmp_path / "package.zip", "w") as archive:
        for path in sorted((tmp_path / "in").rglob("*.py")):
            archive.write(path, path.relative_to(tmp_path / "in"))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.syspath_prepend(tmp_path / "package.zip")
    assert ".zip" in importlib.import_module("archived.fingerprint_uniglor").__file__
    assert hash_of("copied") == hash_of("archived") == processing_hash()


@pytest.mark.parametrize("change", [
    ("limits_uniglor.py", "MAX_MISSING_FRAMES = ", "MAX_MISSING_FRAMES = 7 + "),
    ("keypoint_readers_uniglor.py", "CONFIDENCE_KEYS = (", 'CONFIDENCE_KEYS = ("sureness", '),
    ("keypoint_clip_uniglor.py", "RELATIVE_LIMIT = 2.0", "RELATIVE_LIMIT = 3.0"),
    ("keypoint_processing_uniglor.py", "SWAP_MARGIN = 0.1", "SWAP_MARGIN = 0.2"),
    ("keypoints_uniglor.py", '"nose": "neck"', '"nose": "right_shoulder"'), ("keypoints_uniglor.py", 'missing="zero"', 'missing="nan"'),
])  # fmt: skip
def test_a_change_in_a_file_changes_the_hash(tmp_path, monkeypatch, change):
    name = f"changed_{tmp_path.name}"
    copy_of_the_package(tmp_path, name, change)
    monkeypatch.syspath_prepend(tmp_path)
    assert hash_of(name) != processing_hash()


def test_the_code_of_a_checkpoint_counts_where_a_processor_comes_from_it(tmp_path):
    KeypointProcessor().save_pretrained(tmp_path)

    def loaded():
        return get_class_from_dynamic_module("keypoint_processing_uniglor.KeypointProcessor", tmp_path)()

    for path in (PACKAGE / "keypoints_uniglor.py", PACKAGE / "keypoint_processing_uniglor.py", PACKAGE / "limits_uniglor.py"):
        shutil.copy(path, tmp_path)
    theirs = loaded()
    assert type(theirs).__module__.startswith("transformers_modules")
    assert processing_hash(theirs) == processing_hash(loaded()) != processing_hash(KeypointProcessor())
    path = tmp_path / "keypoints_uniglor.py"
    path.write_text(path.read_text(encoding="utf-8").replace('"nose": 0, "neck": (5, 6)', '"nose": 1, "neck": (5, 6)'), encoding="utf-8")
    assert processing_hash(loaded()) != processing_hash(theirs)


def test_all_modules_that_reading_processing_and_encoding_import_are_followed():
    names = [f"modeling_unigloR.keypoint_{part}_uniglor" for part in ("readers", "processing")]
    reading = {name.rpartition(".")[2] for name in modules_of(*names)}
    assert reading >= {"keypoint_readers_uniglor", "keypoint_processing_uniglor", "keypoint_clip_uniglor", "keypoints_uniglor"}
    encoding = {name.rpartition(".")[2] for name in modules_of("modeling_unigloR.modeling_sign_mae")}
    assert encoding >= {"modeling_sign_mae", "modeling_layers_uniglor", "fast_layers_uniglor"}
    assert encoding >= {"graph_mixing_uniglor", "graph_mixing_triton_uniglor"}


def test_a_subclass_counts(tmp_path):
    class Other(KeypointProcessor):
        pass

    assert processing_hash(Other()) != processing_hash(KeypointProcessor())
    assert code_hash(of=Other()) == code_hash(__name__, KeypointProcessor.__module__)


# --- Damage -------------------------------------------------------------------------------------------------------------------------


def content(store):
    return store.ids.tolist(), store.lengths.tolist(), np.array(store.keypoints).tobytes(), np.array(store.keypoint_mask).tobytes()


DAMAGES = {
    "truncated": lambda folder: os.truncate(folder / "keypoints.f4", 1000),
    "longer": lambda folder: os.truncate(folder / "keypoint_mask.u1", 10**6),
    "no index": lambda folder: (folder / "index.npz").unlink(),
    "index cut": lambda folder: os.truncate(folder / "index.npz", 100),
    "index altered": lambda folder: (folder / "index.npz").write_bytes(
        (folder / "index.npz").read_bytes().replace(b"c\0\0\0l", b"C\0\0\0l")
    ),
    "no frames": lambda folder: (folder / "keypoints.f4").unlink(),
    "no seal": lambda folder: (folder / SEAL).unlink(),
    "seal of nothing": lambda folder: (folder / SEAL).write_text('{"files": {}}'),
    "empty": lambda folder: [path.unlink() for path in folder.iterdir()],
}


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_store_is_said_to_be_and_built_again(tmp_path, monkeypatch, how):
    """It was opened: "mmap length is greater than file size" or BadZipFile at best, and never built again."""
    rows, said = dataset_of([40, 20]), []
    whole = content(FrameStore.build(rows, KeypointProcessor(), tmp_path))
    (folder,) = (tmp_path / "uniglor_frames").iterdir()
    DAMAGES[how](folder)
    with pytest.raises(caches.DamagedError, match=f"{folder.name} is damaged: "):
        FrameStore(folder)
    monkeypatch.setattr(caches.logger, "warning", said.append)
    assert content(FrameStore.build(rows, KeypointProcessor(), tmp_path)) == whole
    assert len(said) == 1 and str(folder) in said[0] and said[0].endswith("It is built again.")
    assert [path.name for path in (tmp_path / "uniglor_frames").iterdir()] == [folder.name]


def test_damaged_latents_are_built_again(corpus, tiny_sign_mae, tmp_path):
    clips, model = Clips([corpus], "test", KeypointProcessor(), tmp_path), tiny_sign_mae()
    first = np.concatenate([LatentStore.build(clips, model, 7, tmp_path)[index] for index in range(5)])
    (folder,) = (tmp_path / "uniglor_latents").iterdir()
    os.truncate(folder / "latents.f4", 8)
    store = LatentStore.build(clips, model, 7, tmp_path)
    np.testing.assert_array_equal(np.concatenate([store[index] for index in range(5)]), first)


def test_a_full_disk_says_where_and_what_to_do_and_leaves_nothing(tmp_path, monkeypatch):
    rows = dataset_of([40])

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(
        OSError, match="frames: no room for .*uniglor_frames: No space left on device; .* are free. Make room .*train.cache"
    ):
        FrameStore.build(rows, KeypointProcessor(), tmp_path)
    assert list((tmp_path / "uniglor_frames").iterdir()) == []
    monkeypatch.undo()
    assert FrameStore.build(rows, KeypointProcessor(), tmp_path).lengths.tolist() == [40]


# --- Several processes --------------------------------------------------------------------------------------------------------------


def build_and_say(rows, folder, start, answers):
    processed, process = [], KeypointProcessor.process_row

    def count(self, row):
        processed.append(row["id"])
        return process(self, row)

    KeypointProcessor.process_row = count
    start.wait(30)
    answers.put((len(processed), FrameStore.build(rows, KeypointProcessor(), folder).lengths.tolist(), len(processed)))


@pytest.mark.skipif(caches.fcntl is None, reason="without locks all build, and the first one's stays")
def test_of_four_processes_that_need_the_same_store_one_builds_it(tmp_path):
    context = multiprocessing.get_context("fork")
    rows, start, answers = dataset_of([40, 20, 30]), context.Barrier(4), context.Queue()
    processes = [context.Process(target=build_and_say, args=(rows, tmp_path, start, answers)) for _ in range(4)]
    for process in processes:
        process.start()
    said = [answers.get(timeout=120) for _ in processes]
    for process in processes:
        process.join()
    assert [lengths for _, lengths, _ in said] == [[40, 20, 30]] * 4 and sorted(count for *_, count in said) == [0, 0, 0, 3]
    assert len(list((tmp_path / "uniglor_frames").iterdir())) == 1


def test_without_locks_the_first_one_s_stays(tmp_path, monkeypatch):
    rows, write = dataset_of([40]), caches.whole_folder
    monkeypatch.setattr(caches, "fcntl", None)
    raced = []

    def slow(path):
        if not raced:
            raced.append(path)
            FrameStore.build(rows, KeypointProcessor(), tmp_path)
        return write(path)

    monkeypatch.setattr(caches, "whole_folder", slow)
    assert FrameStore.build(rows, KeypointProcessor(), tmp_path).lengths.tolist() == [40]
    assert raced and len(list((tmp_path / "uniglor_frames").iterdir())) == 1


# --- Listing and cleaning -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def stores(corpus, tiny_sign_mae, tmp_path):
    """Frames that are used now, frames that were used 40 days ago, and latents of 50 days; their folder."""
    clips, model = Clips([corpus], "test", KeypointProcessor(), tmp_path), tiny_sign_mae()
    LatentStore.build(clips, model, 7, tmp_path)
    FrameStore.build(dataset_of([40]), KeypointProcessor(fps=50.0), tmp_path, "other rows")
    (old,) = (path for path in (tmp_path / "uniglor_frames").iterdir() if path.name != clips.stores[0].key)
    (latents,) = (tmp_path / "uniglor_latents").iterdir()
    for folder, days in ((old, 40), (latents, 50)):
        os.utime(folder / SEAL, (0, time.time() - days * 24 * 3600))
    return clips, tmp_path


def test_a_list_says_what_is_kept_of_what_and_since_when(stores, corpus, capsys):
    clips, folder = stores
    found = cache.main(["list", "--cache_dir", str(folder)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{folder}: 3 folders of frames and latents, ") and len(found) == 3 == len(lines) - 1
    assert clips.stores[0].key in lines[1] and "uniglor73 at 25 frames/s, (in use)" in lines[1] and corpus in lines[1]
    assert lines[2].startswith("frames") and "40 days ago  other rows, uniglor73 at 50 frames/s" in lines[2]
    assert lines[3].startswith("latents") and "50 days ago" in lines[3] and "SignMAE" in lines[3] and "stride 7" in lines[3]


def test_without_yes_nothing_is_removed(stores, capsys):
    _, folder = stores
    before = sorted(folder.rglob("*"))
    assert len(cache.main(["clean", "--cache_dir", str(folder)])) == 2
    said = capsys.readouterr().out
    assert "would remove 2 folders" in said and "Nothing was removed. Give --yes" in said and sorted(folder.rglob("*")) == before


def test_clean_removes_by_age_and_kind_and_never_what_is_used(stores, capsys):
    clips, folder = stores
    kept = clips.stores[0].key
    assert len(cache.main(["clean", "--cache_dir", str(folder), "--older_than", "45", "--yes"])) == 1
    assert list((folder / "uniglor_latents").iterdir()) == [] and len(list((folder / "uniglor_frames").iterdir())) == 2
    assert cache.main(["clean", "--cache_dir", str(folder), "--kind", "latents", "--older_than", "0", "--yes"]) == []
    assert len(cache.main(["clean", "--cache_dir", str(folder), "--older_than", "0", "--yes"])) == 1
    assert [path.name for path in (folder / "uniglor_frames").iterdir()] == [kept]
    del clips.stores[:]
    assert len(cache.main(["clean", "--cache_dir", str(folder), "--older_than", "0", "--yes"])) == 1
    assert list((folder / "uniglor_frames").iterdir()) == []
    with pytest.raises(SystemExit):
        cache.main(["clean", "--older_than", "-1"])


def test_folders_of_earlier_versions_and_of_other_code_are_named_and_cleaned(tmp_path, monkeypatch, capsys):
    store = FrameStore.build(dataset_of([40]), KeypointProcessor(), tmp_path)
    key = store.key
    del store
    for name in ("0123456789abcdef", "0123456789abcdef-unfinished-x7"):
        (tmp_path / "uniglor_frames" / name).mkdir()
        (tmp_path / "uniglor_frames" / name / "keypoints.f4").write_bytes(bytes(2000))
    change_openpose_nose(monkeypatch)
    cache.main(["list", "--cache_dir", str(tmp_path)])
    lines = {line.split()[1]: line for line in capsys.readouterr().out.splitlines()[1:]}
    assert "(by another version of the code)" in lines[key] and "(by an earlier version, or damaged)" in lines["0123456789abcdef"]
    assert "(left by a process that was stopped)" in lines["0123456789abcdef-u"]
    assert len(cache.main(["clean", "--cache_dir", str(tmp_path), "--older_than", "0", "--yes"])) == 3
    assert list((tmp_path / "uniglor_frames").iterdir()) == []


def test_a_store_that_may_only_be_read_is_opened(tmp_path, monkeypatch):
    rows = dataset_of([40])
    FrameStore.build(rows, KeypointProcessor(), tmp_path)

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "utime", refuse)
    assert FrameStore.build(rows, KeypointProcessor(), tmp_path).lengths.tolist() == [40]


def test_opening_notes_the_time(tmp_path):
    rows = dataset_of([40])
    FrameStore.build(rows, KeypointProcessor(), tmp_path)
    (folder,) = (tmp_path / "uniglor_frames").iterdir()
    os.utime(folder / SEAL, (0, 0))
    FrameStore.build(rows, KeypointProcessor(), tmp_path)
    assert caches.entries(tmp_path)[0].used > 0
