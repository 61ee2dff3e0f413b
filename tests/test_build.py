"""Building: sharded Parquet that everything reads, whole or not there at all, the same for any number of processes."""

import csv
import json
import multiprocessing
import signal
import subprocess
import sys
import time
from pathlib import Path

import datasets
import numpy as np
import pytest
from datasets.distributed import split_dataset_by_node

from datasets_scripts import build as build_module
from datasets_scripts import whole
from datasets_scripts.build import build, describe, main, push_to_hub
from datasets_scripts.corpus import row_of
from datasets_scripts.folder import CORPUS, list_clips
from datasets_scripts.schema import check_row
from modeling_unigloR import KeypointClip, map_layout

from .conftest import random_signing


def write_clips(folder, num_clips, num_frames=20, splits=("train",), texts=True):
    """Clips in the model's points, in pixels, and a table of their texts."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(num_clips):
        name = f"clip_{number:03d}"
        keypoints = random_signing(num_frames + number % 3, seed=number) * 100 + 300
        np.savez(folder / f"{name}.npz", keypoints=keypoints, fps=25.0)
        rows.append({"id": name, "text": f"satz nummer {number}", "split": splits[number % len(splits)]})
    table = folder.parent / f"{folder.name}.csv"
    if texts:
        write_table(table, rows)
    return table


def write_table(path, rows):
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture
def clips(tmp_path):
    """A folder of 10 clips in three splits, and its table."""
    return tmp_path / "clips", write_clips(tmp_path / "clips", 10, splits=("train", "train", "train", "dev", "test"))


def load(folder, tmp_path, **kwargs):
    return datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"), **kwargs)


def files_of(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_build_is_read_back_by_plain_load_dataset(clips, tmp_path):
    folder, table = clips
    audit = build("folder", folder, tmp_path / "out", annotations=table, clips_per_shard=2)
    rows = load(tmp_path / "out", tmp_path)
    assert {split: len(rows[split]) for split in rows} == {"train": 6, "validation": 2, "test": 2}
    assert sorted(path.name for path in (tmp_path / "out" / "data").glob("train*")) == [
        f"train-{number:05d}-of-00003.parquet" for number in range(3)
    ]
    row = rows["validation"].with_format("numpy")[0]
    assert row["id"] == "clip_003" and row["text"] == "satz nummer 3" and row["keypoints"].shape == (20, 73, 2)
    check_row(rows["train"][0])
    np.testing.assert_array_equal(row["keypoints"], random_signing(20, seed=3) * 100 + 300)
    assert (
        audit["splits"]["train"]["clips"] == 6
        and audit["left_out"] == []
        and json.loads((tmp_path / "out/audit.json").read_text()) == audit
    )


def test_shards_stream_to_several_nodes(clips, tmp_path):
    folder, table = clips
    build("folder", folder, tmp_path / "out", annotations=table, clips_per_shard=3)
    stream = load(tmp_path / "out", tmp_path, split="train", streaming=True)
    shares = [{row["id"] for row in split_dataset_by_node(stream, rank, 2)} for rank in range(2)]
    assert not shares[0] & shares[1] and len(shares[0]) == len(shares[1]) == 3


@pytest.mark.parametrize("layout", [None, "uniglor73"])
def test_any_number_of_processes_writes_the_same_files(clips, tmp_path, layout):
    folder, table = clips
    for num_proc in (1, 3):
        build("folder", folder, tmp_path / str(num_proc), layout, num_proc, annotations=table, clips_per_shard=2)
    assert files_of(tmp_path / "1") == files_of(tmp_path / "3")


def test_building_again_does_nothing(clips, tmp_path, monkeypatch):
    folder, table = clips
    first = build("folder", folder, tmp_path / "out", annotations=table)
    before = files_of(tmp_path / "out")
    monkeypatch.setattr(build_module, "build_shard", lambda *_: pytest.fail("a shard was built again"))
    assert build("folder", folder, tmp_path / "out", annotations=table) == first and files_of(tmp_path / "out") == before


def test_an_output_of_other_arguments_or_files_is_refused(clips, tmp_path):
    folder, table = clips
    build("folder", folder, tmp_path / "out", annotations=table)
    with pytest.raises(ValueError, match="holds rows of folder, built from other files, with other arguments"):
        build("folder", folder, tmp_path / "out", annotations=table, fps=50.0)
    np.savez(folder / "clip_000.npz", keypoints=random_signing(5) * 100 + 300)
    with pytest.raises(ValueError, match="holds rows of folder"):
        build("folder", folder, tmp_path / "out", annotations=table)


def test_a_disk_that_is_full_half_way_leaves_nothing_that_looks_finished(clips, tmp_path, monkeypatch):
    folder, table = clips
    arguments = ["folder", "--data_dir", str(folder), "--annotations", str(table), "--output_dir", str(tmp_path / "out")]
    arguments += ["--clips_per_shard", "2"]
    writer_class, written = datasets.arrow_writer.ParquetWriter, []

    class FullDisk(writer_class):
        def write(self, row):
            written.append(row["id"])
            if len(written) > 5:
                raise OSError(28, "No space left on device")
            super().write(row)

    monkeypatch.setattr(datasets.arrow_writer, "ParquetWriter", FullDisk)
    with pytest.raises(OSError, match="No space left on device"):
        main(arguments)
    assert all(path.name.startswith(".") for path in (tmp_path / "out").iterdir())
    with pytest.raises((FileNotFoundError, ValueError)):  # what `datasets` says to a folder without data
        load(tmp_path / "out", tmp_path)

    monkeypatch.setattr(datasets.arrow_writer, "ParquetWriter", writer_class)
    built = []
    original = build_module.build_shard
    monkeypatch.setattr(build_module, "build_shard", lambda shard, *rest: built.append(shard.sources[0].id) or original(shard, *rest))
    main(arguments)
    assert len(built) == 3  # of five shards: the two whole ones were kept
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["audit.json", "data", "dataset_card.md"]
    fresh = build("folder", folder, tmp_path / "fresh", annotations=[str(table)], clips_per_shard=2)
    assert files_of(tmp_path / "out") == files_of(tmp_path / "fresh") and fresh["splits"]["train"]["clips"] == 6


def test_a_killed_build_goes_on_where_it_stopped(tmp_path):
    """Killed without a chance to tidy up: the same command must end in the same files as a build that ran through."""
    table = write_clips(tmp_path / "clips", 40, num_frames=60)
    arguments = ["folder", "--data_dir", str(tmp_path / "clips"), "--annotations", str(table), "--clips_per_shard", "2"]
    command = [sys.executable, "-m", "datasets_scripts.build", *arguments, "--output_dir", str(tmp_path / "out")]
    process = subprocess.Popen(command, cwd=Path(__file__).parents[1], stderr=subprocess.DEVNULL)
    waiting = tmp_path / "out" / ".unfinished"
    deadline = time.monotonic() + 120
    while len(list(waiting.glob("[!.]*/rows.parquet"))) < 2 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    main([*arguments, "--output_dir", str(tmp_path / "out")])
    main([*arguments, "--output_dir", str(tmp_path / "whole")])
    assert files_of(tmp_path / "out") == files_of(tmp_path / "whole")


@pytest.mark.parametrize("moved", [(), ("data",), ("data", "audit.json")])
def test_a_build_that_was_killed_while_its_results_moved_is_completed(clips, tmp_path, moved):
    folder, table = clips
    audit = build("folder", folder, tmp_path / "out", annotations=table)
    whole = files_of(tmp_path / "out")
    ready = tmp_path / "out" / ".unfinished" / "ready"
    ready.mkdir(parents=True)
    for name in build_module.RESULTS:
        if name not in moved:
            (tmp_path / "out" / name).rename(ready / name)
    assert build("folder", folder, tmp_path / "out", annotations=table) == audit and files_of(tmp_path / "out") == whole


def killed_before_publishing(arguments, monkeypatch, name):
    """Ends a build as a kill would, where its function of this name begins."""

    class KilledError(BaseException):
        pass

    def kill(*_):
        raise KilledError

    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(build_module, name, kill)
        build("folder", **arguments)


def alter(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_shard_that_was_altered_while_it_waited_is_built_again(clips, tmp_path, monkeypatch, capsys):
    """Its rows were published as they were."""
    folder, table = clips
    arguments = dict(data_dir=folder, output_dir=tmp_path / "out", annotations=table, clips_per_shard=2)
    killed_before_publishing(arguments, monkeypatch, "_make_ready")
    first, *_, last = sorted((tmp_path / "out" / ".unfinished").glob("*/rows.parquet"))
    alter(first)
    last.write_bytes(last.read_bytes()[:-9])
    built, original = [], build_module.build_shard
    monkeypatch.setattr(build_module, "build_shard", lambda shard, *rest: built.append(shard.path) or original(shard, *rest))
    build("folder", **arguments)
    said = capsys.readouterr().err
    assert sorted(built) == [first.parent, last.parent]
    assert f"the content of {first} was altered" in said and f"{last} has " in said
    build("folder", **arguments | {"output_dir": tmp_path / "fresh"})
    assert files_of(tmp_path / "out") == files_of(tmp_path / "fresh")


def test_a_shard_that_is_altered_while_others_are_built_is_not_published(clips, tmp_path, monkeypatch):
    folder, table = clips
    arguments = dict(data_dir=folder, output_dir=tmp_path / "out", annotations=table, clips_per_shard=2)
    make_ready = build_module._make_ready

    def altered(corpus, shards, *rest):
        alter(shards[0].path / "rows.parquet")
        make_ready(corpus, shards, *rest)

    with monkeypatch.context() as patch, pytest.raises(ValueError, match="was altered while the others were built. The same command"):
        patch.setattr(build_module, "_make_ready", altered)
        build("folder", **arguments)
    assert not (tmp_path / "out" / "data").exists()
    build("folder", **arguments)
    build("folder", **arguments | {"output_dir": tmp_path / "fresh"})
    assert files_of(tmp_path / "out") == files_of(tmp_path / "fresh")


@pytest.mark.parametrize("name", ["data/test-00000-of-00001.parquet", "audit.json"])
def test_results_that_were_altered_while_they_waited_to_be_moved_are_built_again(clips, tmp_path, monkeypatch, capsys, name):
    folder, table = clips
    arguments = dict(data_dir=folder, output_dir=tmp_path / "out", annotations=table)

    def kill(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(build_module, "publish", kill)
        build("folder", **arguments)
    alter(tmp_path / "out" / ".unfinished" / "ready" / name)
    build("folder", **arguments)
    assert "Finished results were damaged while they waited" in capsys.readouterr().err
    build("folder", **arguments | {"output_dir": tmp_path / "fresh"})
    assert files_of(tmp_path / "out") == files_of(tmp_path / "fresh")


def test_what_killed_processes_left_in_the_waiting_folder_is_removed(clips, tmp_path, monkeypatch):
    folder, table = clips
    arguments = dict(data_dir=folder, output_dir=tmp_path / "out", annotations=table, clips_per_shard=2)
    killed_before_publishing(arguments, monkeypatch, "_make_ready")
    left = tmp_path / "out" / ".unfinished" / f".shard-unfinished-{whole._host()}-{2**22 + 1}-x"  # beyond all numbers of processes
    left.mkdir()
    killed_before_publishing(arguments, monkeypatch, "_make_ready")
    assert not left.exists() and len(list((tmp_path / "out" / ".unfinished").iterdir())) == 5


def test_two_builds_into_one_folder_end_in_one_result(clips, tmp_path):
    folder, table = clips
    context = multiprocessing.get_context("fork")
    arguments = dict(annotations=table, clips_per_shard=1)
    processes = [context.Process(target=build, args=("folder", folder, tmp_path / "out"), kwargs=arguments) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    build("folder", folder, tmp_path / "alone", **arguments)
    assert files_of(tmp_path / "out") == files_of(tmp_path / "alone")


def test_a_dry_run_writes_nothing_and_audits_everything(clips, tmp_path, capsys):
    folder, table = clips
    (folder / "clip_001.npz").write_bytes((folder / "clip_001.npz").read_bytes()[:-500])
    audit = main(["folder", "--data_dir", str(folder), "--annotations", str(table), "--output_dir", str(tmp_path / "out"), "--dry_run"])
    assert not (tmp_path / "out").exists() and audit["splits"]["train"]["clips"] == 5
    assert '"left_out"' in capsys.readouterr().out
    assert "clip_001" in audit["left_out"][0]["id"] and "not a whole NumPy file" in audit["left_out"][0]["reason"]


def test_what_no_clip_has_is_said_last_with_the_columns_that_were_not_read(tmp_path, capsys):
    """A table had its sentences in a column "german"; only a number within 40 lines of JSON told that all rows were without text."""
    write_clips(tmp_path / "clips", 3, texts=False)
    for number in range(3):
        np.savez(tmp_path / "clips" / f"clip_{number:03d}.npz", keypoints=random_signing(20) * 100 + 300)
    rows = [{"id": f"clip_{number:03d}", "gloss": "A", "german": "hallo", "start_ms": "7"} for number in range(3)]
    table = write_table(tmp_path / "sentences.csv", rows)
    arguments = ["folder", "--data_dir", str(tmp_path / "clips"), "--annotations", str(table), "--output_dir", str(tmp_path / "out")]
    expected = [
        "No clip has a text.", "No clip has a label.", "No clip has a frame rate.",
        "A clip without a frame rate is read as if it had the model's. Pass --fps if all clips have the same.",
        "Columns of sentences.csv that were not read: german, start_ms. Name one with --text_column or --label_column or --fps_column.",
    ]  # fmt: skip
    for extra in (["--dry_run"], []):
        main([*arguments, *extra])
        lines = capsys.readouterr().out.splitlines()
        assert lines[lines.index(expected[0]) :][:5] == expected and len(lines) - lines.index(expected[0]) <= 7
    main([*arguments[:-1], str(tmp_path / "better"), "--text_column", "german", "--fps", "25"])
    assert capsys.readouterr().out.splitlines()[-4:-2] == [
        "No clip has a label.",
        "Columns of sentences.csv that were not read: start_ms. Name one with --label_column.",
    ]
    main([*arguments[:3], "--output_dir", str(tmp_path / "bare"), "--fps", "25"])
    assert capsys.readouterr().out.splitlines()[-5:-2] == [
        "No clip has a text.", "No clip has a label.", "Pass a table of texts or labels with --annotations.",
    ]  # fmt: skip


def test_what_only_some_clips_lack_is_counted(clips, tmp_path, capsys):
    folder, table = clips
    rows = [{"id": f"clip_{number:03d}", "text": "a" * (number > 3), "label": "x"} for number in range(10)]
    main(["folder", "--data_dir", str(folder), "--annotations", str(write_table(table, rows)), "--output_dir", str(tmp_path / "out")])
    assert "4 of 10 clips have no text." in capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("name, text, words", [
    ("a.csv", "id;text\nclip_000;x\n", r"a.csv: found cells that are separated by semicolons \('id;text'\), expected commas"),
    ("a.csv", "id\ttext\nclip_000\tx\n", "separated by tabs .* expected commas. Save the table with commas as .csv, or with tabs as .tsv"),
    ("a.tsv", "id,text\nclip_000,x\n", "separated by commas .* expected tabs"),
    ("a.csv", None, "a.csv: no such table. Expected the path of a .csv, .tsv, .jsonl or .parquet file"),
    ("a.parquet", None, "a.parquet: no such table"),
])  # fmt: skip
def test_a_table_of_another_delimiter_or_that_is_not_there_is_named(clips, tmp_path, name, text, words):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        main(["folder", "--data_dir", str(clips[0]), "--annotations", str(tmp_path / name), "--output_dir", str(tmp_path / "out")])


def test_broken_clips_are_rows_of_the_audit_and_errors_when_strict(clips, tmp_path):
    folder, table = clips
    (folder / "clip_000.npz").rename(folder / "gone")
    np.savez(folder / "clip_001.npz", keypoints=np.zeros((0, 73, 2), np.float32))
    np.savez(folder / "clip_002.npz", keypoints=np.full((5, 73, 2), np.nan, np.float32))
    np.savez(folder / "clip_003.npz", keypoints=np.full((5, 137, 3), 500, np.float32))
    np.savez(folder / "clip_004.npz", keypoints=np.array([{"a": 1}], object))
    audit = build("folder", folder, tmp_path / "out", annotations=table)
    reasons = {entry["id"]: entry["reason"] for entry in audit["left_out"]}
    expected = {
        "clip_000": "there is no clip of it", "clip_001": "0 frames", "clip_002": "nobody is seen",
        "clip_003": "expected ('uniglor73', 73, 2)", "clip_004": "pickled objects, which are not loaded",
    }  # fmt: skip
    assert set(reasons) == set(expected)
    for name, reason in expected.items():
        assert reason in reasons[name]
    assert "validation" in audit["splits"] and "left out: 1 x" in describe(audit)
    assert len(load(tmp_path / "out", tmp_path)["train"]) == 3
    with pytest.raises(ValueError, match="1 clips would be left out. The first, clip_000"):
        build("folder", folder, tmp_path / "strict", annotations=table, strict=True)
    with pytest.raises(ValueError, match="5 clips would be left out|clip_000"):
        build("folder", folder, tmp_path / "out", annotations=table, strict=True)
    table.write_text("id,text\nclip_005,a\nclip_001,b\n", encoding="utf-8")
    for name in ("clip_002", "clip_003", "clip_004", "clip_006", "clip_007", "clip_008", "clip_009"):
        (folder / f"{name}.npz").unlink()
    with pytest.raises(ValueError, match="clip_001.npz: found 0 frames"):
        build("folder", folder, tmp_path / "strict", annotations=table, strict=True)
    assert not (tmp_path / "strict" / "data").exists()


def test_a_split_whose_clips_all_fail_is_absent_not_empty(clips, tmp_path):
    folder, table = clips
    for name in ("clip_003", "clip_008"):
        np.savez(folder / f"{name}.npz", keypoints=np.zeros((0, 73, 2), np.float32))
    audit = build("folder", folder, tmp_path / "out", annotations=table)
    assert audit["splits"]["validation"]["clips"] == 0 and set(load(tmp_path / "out", tmp_path)) == {"train", "test"}


def test_an_audit_names_no_folder_of_the_machine_that_built_it(tmp_path):
    folder = tmp_path / "my clips"
    write_clips(folder / "deep", 2, texts=False)
    (folder / "deep" / "clip_000.npz").write_bytes(b"broken")
    audit = build("folder", folder, tmp_path / "out")
    assert audit["left_out"][0]["reason"].startswith("deep/clip_000.npz: not plain numbers")
    assert str(tmp_path) not in (tmp_path / "out" / "audit.json").read_text()


def test_an_audit_calls_a_file_from_elsewhere_by_its_name(tmp_path):
    corpus, keypoints = tmp_path / "phoenix", tmp_path / "elsewhere"
    (corpus / "annotations/manual").mkdir(parents=True)
    for name in ("train", "dev", "test"):
        lines = "name|video|start|end|speaker|orth|translation\n" + "".join(
            f"{name}-{clip}|-|-1|-1|Signer01|REGEN|regen .\n" for clip in ("good", "broken")
        )
        (corpus / f"annotations/manual/PHOENIX-2014-T.{name}.corpus.csv").write_text(lines)
        write_clips(keypoints / name, 1, texts=False)
        (keypoints / name / "clip_000.npz").rename(keypoints / name / f"{name}-good.npz")
        (keypoints / name / f"{name}-broken.npz").write_bytes(b"broken")
    audit = build("phoenix14t", corpus, tmp_path / "out", keypoints_dir=keypoints)
    assert [entry["reason"].split(":")[0] for entry in audit["left_out"]] == ["train-broken.npz", "dev-broken.npz", "test-broken.npz"]
    assert str(tmp_path) not in (tmp_path / "out" / "audit.json").read_text()


def test_nothing_usable_is_an_error_with_the_first_reasons(tmp_path):
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "a.json").write_text('{"people": [')
    with pytest.raises(ValueError, match="not one of 1 clips can be used.*not a whole JSON file"):
        build("folder", tmp_path / "clips", tmp_path / "out")
    (tmp_path / "clips" / "a.json").write_text("[1, 2]")
    with pytest.raises(ValueError, match="not one of 1 clips can be used.*JSON of another kind"):
        build("folder", tmp_path / "clips", tmp_path / "out")
    assert not (tmp_path / "out" / "data").exists()


def test_ids_that_are_there_twice_are_left_out_across_splits(clips, tmp_path):
    """One clip in train and in test would make the test worthless."""
    folder, _ = clips
    rows = [{"id": "clip_000", "text": "a", "split": "train"}, {"id": "clip_000", "text": "a", "split": "test"}]
    table = write_table(tmp_path / "twice.csv", [*rows, {"id": "clip_001", "text": "b", "split": "test"}])
    audit = build("folder", folder, tmp_path / "out", annotations=table)
    twice = [entry for entry in audit["left_out"] if entry["id"] == "clip_000"]
    assert twice == [{"split": "test", "id": "clip_000", "reason": "the id is there already, in split train"}]


def test_mapping_keeps_confidence_and_depth_on_their_points(rng):
    keypoints = np.zeros((6, 75, 3), np.float32)
    body = {11: (60, 40), 12: (40, 40), 13: (62, 60), 14: (38, 60), 15: (60, 80), 16: (40, 80), 0: (50, 20)}
    for point, place in body.items():
        keypoints[:, point, :2] = place
    keypoints[:, 33:54, :2] = rng.normal((40, 82), 2, (6, 21, 2))  # the left slot holds the right hand, as in INCLUDE
    keypoints[:, 54:75, :2] = rng.normal((60, 82), 2, (6, 21, 2))
    keypoints[..., 2] = rng.normal(size=(6, 75))
    confidence = rng.uniform(0.1, 1, (6, 75)).astype(np.float32)
    mapped = map_layout(KeypointClip(keypoints, confidence, "mediapipe75", 25.0, 100, 100).in_pixels(), "uniglor73")
    assert mapped.keypoints.shape == (6, 73, 3)
    np.testing.assert_allclose(mapped.confidence[:, 50:71], confidence[:, 33:54], rtol=1e-6)
    np.testing.assert_allclose(mapped.keypoints[:, 50:71], keypoints[:, 33:54], rtol=1e-6)
    np.testing.assert_allclose(mapped.confidence[:, 0], confidence[:, 0], rtol=1e-6)
    assert not mapped.confidence[:, 8:27].any()  # no face in these 75


def test_mapping_makes_relative_coordinates_pixels(tmp_path):
    """The model's layouts know no image: what stayed relative would be 1.78 times too wide for ever."""
    keypoints = np.full((5, 67, 2), 0.5, np.float32)
    keypoints[:, 2], keypoints[:, 5] = (0.4, 0.5), (0.6, 0.5)
    np.savez(tmp_path / "a.npz", keypoints=keypoints)
    source = list_clips(tmp_path).sources[0]
    row = row_of(CORPUS, build_module.list_corpus(CORPUS, tmp_path, width=1600, height=900).sources[0], "uniglor73")
    np.testing.assert_allclose(row["keypoints"][0, [2, 5]], [[640, 450], [960, 450]], rtol=1e-6)
    with pytest.raises(ValueError, match="Pass width and height"):
        row_of(CORPUS, source, "uniglor73")


def test_the_card_has_front_matter_that_names_the_files(clips, tmp_path):
    import yaml

    folder, table = clips
    audit = build("folder", folder, tmp_path / "out", annotations=table, language="gsg")
    _, front, body = (tmp_path / "out" / "dataset_card.md").read_text(encoding="utf-8").split("---\n", 2)
    front = yaml.safe_load(front)
    assert front["configs"][0]["data_files"][1] == {"split": "validation", "path": "data/validation-*"}
    assert "| train | 6 |" in body and "gsg" in body and audit["splits"]["train"]["ids_sha256"][:12] in body
    assert str(tmp_path) not in body and str(tmp_path) not in json.dumps(audit)


def test_a_push_is_one_private_commit_that_clears_what_is_stale(clips, tmp_path, monkeypatch):
    import huggingface_hub

    folder, table = clips
    build("folder", folder, tmp_path / "out", annotations=table)
    calls = []

    class Hub:
        def create_repo(self, repo_id, **given):
            calls.append(("create", repo_id, given["private"], given["repo_type"]))

        def list_repo_files(self, repo_id, **given):
            return ["README.md", "data/train-00000-of-00009.parquet", ".gitattributes"]

        def create_commit(self, repo_id, operations, **given):
            calls.append(("commit", *sorted((type(operation).__name__[15:], operation.path_in_repo) for operation in operations)))

    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    push_to_hub(tmp_path / "out", "me/rows")
    splits = [("Add", f"data/{split}-00000-of-00001.parquet") for split in ("test", "train", "validation")]
    assert calls[0] == ("create", "me/rows", True, "dataset")
    assert calls[1] == ("commit", ("Add", "README.md"), ("Add", "audit.json"), *splits, ("Delete", "data/train-00000-of-00009.parquet"))


def test_options_of_another_corpus_are_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["phoenix14t", "--data_dir", str(tmp_path), "--output_dir", str(tmp_path / "out"), "--views", "F"])
    assert "build phoenix14t: unrecognized arguments: --views F" in capsys.readouterr().err
    with pytest.raises(ValueError, match="phoenix14t knows no option text_colum. Expected keypoints_dir, language"):
        build("phoenix14t", tmp_path, tmp_path / "out", text_colum="x")
    with pytest.raises(ValueError, match="folder knows no option text_colum. .* Did you mean text_column?"):
        build("folder", tmp_path, tmp_path / "out", text_colum="x")
    assert not (tmp_path / "out").exists()
