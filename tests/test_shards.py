"""Work in shards on an engine: Ray gives the files that processes give, and what is missing is said in one line."""

import pickle
import sys
import types

import pytest

from datasets_scripts import commands, extract, shards
from datasets_scripts.build import build
from datasets_scripts.commands import check_num_proc
from datasets_scripts.shards import make_shards

from .test_build import files_of, write_clips


class NumberShard:
    """A shard without a folder; its clips have 10 frames each."""

    path = None

    def __init__(self, size):
        self.size = size


def write_number(shard, folder, advance):
    advance(shard.size, 10 * shard.size)
    return {"size": shard.size}


def test_reports_come_in_the_order_of_the_shards(capsys):
    reports = make_shards(write_number, [NumberShard(size) for size in (3, 1, 2)])
    assert [report["size"] for report in reports] == [3, 1, 2] and "6/6" in capsys.readouterr().err


@pytest.mark.parametrize("error", [ValueError("a.mp4: no video"), OSError(28, "No space left on device")])
def test_an_error_in_a_process_is_that_of_this_one(error):
    def fail(*_):
        raise error

    for num_proc in (1, 2):
        with pytest.raises(type(error), match=str(error.args[-1])):
            make_shards(fail, [NumberShard(1)] * 3, num_proc)


def test_without_ray_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match='--engine ray needs Ray, which is not installed: pip install "ray\\[data\\]", or leave --engine'):
        make_shards(write_number, [NumberShard(1)], engine="ray")
    with pytest.raises(ValueError, match="engine='spark', expected one of processes, ray"):
        make_shards(write_number, [NumberShard(1)], engine="spark")


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nonsense"])
def test_a_cluster_that_does_not_answer_is_one_line(monkeypatch, address):
    def init(**_):
        raise ValueError(f"Invalid address format: {address}")

    data = types.ModuleType("ray.data")
    monkeypatch.setitem(sys.modules, "ray", types.SimpleNamespace(is_initialized=lambda: False, init=init, data=data))
    monkeypatch.setitem(sys.modules, "ray.data", data)
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(
        ConnectionError, match=f"Found no cluster of Ray at {address} .*, expected one that runs. Start it .ray start --head"
    ):
        make_shards(write_number, [NumberShard(1)], engine="ray")


class InlineRay:
    """What `shards` asks of Ray, in this process and with the last shard first; what is sent is pickled as Ray pickles it."""

    class RayError(Exception):
        pass

    def __init__(self):
        self.exceptions = types.SimpleNamespace(RayError=self.RayError)
        self.data = types.ModuleType("ray.data")
        self.data.from_items = self.from_items
        self.is_initialized = lambda: True

    def from_items(self, items, override_num_blocks):
        assert override_num_blocks == len(items)
        self.items = items
        return self

    def map(self, make):
        self.make = make
        return self

    def iter_rows(self):
        for item in reversed(self.items):
            yield pickle.loads(pickle.dumps(self.make({"item": item})))


@pytest.fixture
def inline_ray(monkeypatch):
    ray = InlineRay()
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setitem(sys.modules, "ray.data", ray.data)


def test_ray_gets_a_task_for_each_shard_and_gives_the_same_files(tmp_path, inline_ray, capsys):
    table = write_clips(tmp_path / "clips", 6)
    (tmp_path / "clips" / "clip_002.npz").write_bytes(b"broken")
    for engine in ("processes", "ray"):
        build("folder", tmp_path / "clips", tmp_path / engine, engine=engine, annotations=table, clips_per_shard=2)
    assert files_of(tmp_path / "ray") == files_of(tmp_path / "processes") and "6/6" in capsys.readouterr().err


@pytest.mark.parametrize(
    "error, here",
    [
        (ValueError("a.mp4: no video"), ValueError("a.mp4: no video")),
        (FileNotFoundError(2, "No such file or directory", "a.mp4"), FileNotFoundError(2, "No such file or directory", "a.mp4")),
        (KeyError("fps"), RuntimeError("KeyError: 'fps'")),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_on_another_machine_is_told_here_as_text(error, here, inline_ray):
    """A pickle of it could be anything."""

    def fail(*_):
        raise error

    with pytest.raises(type(here)) as told:
        make_shards(fail, [NumberShard(1)], engine="ray")
    assert type(told.value) is type(here) and str(told.value) == str(here)


def test_an_output_that_only_the_other_machine_sees_is_told_of(tmp_path, inline_ray, monkeypatch):
    shard = NumberShard(1)
    shard.path = tmp_path / "nowhere"
    monkeypatch.setattr(shards, "make_shard", lambda *_: {})
    with pytest.raises(ValueError, match="nowhere, but it is not on this one. Expected a folder that all machines share"):
        make_shards(write_number, [shard], engine="ray")


def test_more_processes_than_processors_name_a_remedy(monkeypatch):
    monkeypatch.setattr(commands, "num_processors", lambda: 4)
    check_num_proc(4)
    check_num_proc(None)
    with pytest.raises(
        ValueError, match="--num_proc 5: found 4 processors, expected at most .* Pass --num_proc 4, or fewer. To use several"
    ):
        check_num_proc(5)
    with pytest.raises(ValueError, match="--preprocessing_num_workers 5: found 4 .* Pass --preprocessing_num_workers 4, or fewer.$"):
        check_num_proc(5, "--preprocessing_num_workers")


@pytest.mark.slow
def test_a_ray_cluster_of_two_processors_writes_the_same_files(tmp_path, monkeypatch):
    """Slow: starting Ray takes ten seconds."""
    pytest.importorskip("ray")
    pytest.importorskip("av")
    from .test_extract import SquareExtractor, squares, write_video

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(commands, "num_processors", lambda: 2)
    table = write_clips(tmp_path / "clips", 6)
    (tmp_path / "clips" / "clip_002.npz").write_bytes(b"broken")
    for engine in ("processes", "ray"):
        build("folder", tmp_path / "clips", tmp_path / f"rows-{engine}", num_proc=2, engine=engine, annotations=table, clips_per_shard=2)
    assert files_of(tmp_path / "rows-ray") == files_of(tmp_path / "rows-processes")

    (tmp_path / "videos").mkdir()
    for number in range(3):
        write_video(tmp_path / "videos" / f"{number}.mp4", squares([[(100, 40)]] * (3 + number)))
    (tmp_path / "videos" / "broken.mp4").write_text("no video")
    monkeypatch.setattr(extract, "HolisticExtractor", SquareExtractor)
    for engine in ("processes", "ray"):
        output = str(tmp_path / f"extracted-{engine}")
        extract.main([str(tmp_path / "videos"), "--output_dir", output, "--num_proc", "2", "--engine", engine])
    assert files_of(tmp_path / "extracted-ray") == files_of(tmp_path / "extracted-processes")
