"""Stopped, killed, damaged, repeated: what a training leaves, and what the next one makes of it."""

import json
import os
import shutil
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch.utils.data import DataLoader
from transformers import Trainer

from datasets_scripts.whole import _host
from train import checkpoints as checkpoints_command
from train import pretrain, train_recognition
from train.engine import checkpoints, runs
from train.engine.checkpoints import MANIFEST, SavingError, damage, newest_whole, write_manifest
from train.engine.trainers import InSharedMemory, LoaderMemoryError

from .conftest import stopped_at
from .test_pretrain import arguments as pretrain_arguments
from .test_pretrain import corpus  # noqa: F401 (a fixture)
from .test_train_recognition import arguments as recognition_arguments
from .test_train_recognition import corpus as labelled  # noqa: F401 (a fixture)


def arguments(corpus, output_dir, **fields):  # noqa: F811
    """Of a run of 4 steps, in the middle of an epoch of 3, with a checkpoint after 2."""
    return pretrain_arguments(corpus, output_dir, **{"eval_strategy": "no", "validation": "[]"} | fields)


RESUME, OVERWRITE = {"resume_from_checkpoint": "true"}, {"overwrite_output_dir": "true"}


@pytest.fixture(scope="module")
def whole(corpus, tmp_path_factory):  # noqa: F811
    """Folder of a run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole") / "out"
    pretrain.main(arguments(corpus, folder))
    return folder


@pytest.fixture
def finished(whole, tmp_path):
    """A copy of it."""
    return Path(shutil.copytree(whole, tmp_path / "out"))


@pytest.fixture(scope="module")
def stopped_run(corpus, tmp_path_factory):  # noqa: F811
    """Folder of a run that was stopped when it had checkpoint-2 and checkpoint-4, before its end."""
    folder = tmp_path_factory.mktemp("stopped") / "out"
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(pretrain, "finish", stop)
        pretrain.main(arguments(corpus, folder))
    return folder


@pytest.fixture
def stopped(stopped_run, tmp_path):
    """A copy of it."""
    return Path(shutil.copytree(stopped_run, tmp_path / "out"))


def stop(*args, **kwargs):
    raise KeyboardInterrupt


def same_weights(folder, other):
    found, expected = (load_file(Path(place) / "model.safetensors") for place in (folder, other))
    return found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in found)


def state_of(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.fixture
def said(monkeypatch):
    """Lines that `train.engine.runs` logged."""
    lines = []
    monkeypatch.setattr(runs.logger, "warning", lines.append)
    return lines


# --- Whole checkpoints ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def checkpoint(tmp_path):
    """A folder of three files, listed."""
    folder = tmp_path / "checkpoint-2"
    (folder / "part").mkdir(parents=True)
    for name in ("a.bin", "b.json", "part/c.bin"):
        (folder / name).write_bytes(name.encode() * 50)
    write_manifest(folder, {"seed": 1})
    return folder


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


DAMAGES = {
    "missing": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),
    "halved": lambda path: os.truncate(path, path.stat().st_size // 2),
    "flipped": flip_a_bit,
}


@pytest.mark.parametrize("name", ["a.bin", "part/c.bin", MANIFEST])
@pytest.mark.parametrize("kind", DAMAGES)
def test_every_damage_is_found_and_its_file_named(checkpoint, kind, name):
    assert damage(checkpoint) is None
    DAMAGES[kind](checkpoint / name)
    assert name in damage(checkpoint)


def test_the_newest_whole_checkpoint_is_taken_and_what_is_newer_is_named(checkpoint):
    for step in (4, 10):
        shutil.copytree(checkpoint, checkpoint.with_name(f"checkpoint-{step}"))
    (checkpoint.with_name("checkpoint-10") / "a.bin").unlink()
    assert newest_whole(checkpoint.parent) == (checkpoint.with_name("checkpoint-4"), ["checkpoint-10 (a.bin is missing)"])


def test_who_trusts_a_checkpoint_without_a_list_may_write_one(checkpoint, capsys):
    (checkpoint / MANIFEST).unlink()
    (checkpoint / "trainer_state.json").write_text("{}")
    assert checkpoints_command.main([str(checkpoint)]) == 1 and f"has no {MANIFEST}" in capsys.readouterr().out
    assert checkpoints_command.main([str(checkpoint), "--accept"]) == 0 and damage(checkpoint) is None


def test_every_file_is_on_the_disk_before_a_checkpoint_gets_its_name_and_the_name_after(corpus, tmp_path, monkeypatch):  # noqa: F811
    """A lost power supply leaves the old state or the new one; kill -9 does not show it, because the system keeps what was written."""
    events, fsync, rename = [], os.fsync, os.rename

    def noted_fsync(descriptor):
        events.append(("fsync", os.readlink(f"/proc/self/fd/{descriptor}") if sys.platform == "linux" else None))
        fsync(descriptor)

    def noted_rename(source, target):
        events.append(("rename", str(source), str(target), sorted(map(str, Path(source).rglob("*")))))
        rename(source, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "rename", noted_rename)
    pretrain.main(arguments(corpus, tmp_path / "out", max_steps=2))
    named = [index for index, event in enumerate(events) if event[0] == "rename" and event[2].endswith(("checkpoint-2", ".finished"))]
    assert len(named) == 2
    if sys.platform != "linux":
        return
    for index in named:
        _, source, _, content = events[index]
        synced = {event[1] for event in events[:index] if event[0] == "fsync"}
        assert {*content, source} <= synced
        assert ("fsync", str(tmp_path / "out")) in events[index:]


def test_an_interrupted_save_leaves_nothing(corpus, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr(Trainer, "_save_rng_state", stop)
    with pytest.raises(KeyboardInterrupt):
        pretrain.main(arguments(corpus, tmp_path / "out"))
    assert [path.name for path in (tmp_path / "out").iterdir()] == [runs.RECORD]


def test_what_a_killed_save_left_is_removed(stopped, corpus):  # noqa: F811
    left = stopped / f".checkpoint-6-unfinished-{_host()}-999999999-x"
    left.mkdir()
    pretrain.main(arguments(corpus, stopped, **RESUME))
    assert not left.exists()


# --- Resuming ---------------------------------------------------------------------------------------------------------------------


def test_a_run_that_was_killed_after_its_last_step_takes_no_other(stopped, corpus, whole, said, capsys):  # noqa: F811
    """Resumed at step 4 of 4, in the middle of an epoch, transformers' Trainer took a fifth step."""
    report = pretrain.main(arguments(corpus, stopped, **RESUME))
    assert report["resumed_from"] == 4 and ", resumed from step 4\n" in capsys.readouterr().out
    assert same_weights(stopped, whole) and f"Resuming {stopped} from step 4 of 4." in said


@pytest.mark.parametrize("name", ["optimizer.pt", "rng_state.pth", MANIFEST])
def test_from_a_damaged_checkpoint_nothing_is_resumed(stopped, corpus, whole, said, name):  # noqa: F811
    """Without optimizer.pt or rng_state.pth it went on silently, and ended with other weights."""
    DAMAGES["missing"](stopped / "checkpoint-4" / name)
    if name == "optimizer.pt":  # the others end before any training
        pretrain.main(arguments(corpus, stopped, **RESUME))
        assert same_weights(stopped, whole) and any(line.startswith("Passed over") and "optimizer.pt is missing" in line for line in said)
        assert damage(stopped / "checkpoint-4") is None
    else:
        with pytest.raises(ValueError, match=name):
            pretrain.main(arguments(corpus, stopped, resume_from_checkpoint=stopped / "checkpoint-4"))


def test_where_no_checkpoint_is_whole_nothing_is_trained(stopped, corpus):  # noqa: F811
    for step in (2, 4):
        flip_a_bit(stopped / f"checkpoint-{step}" / "model.safetensors")
    before = state_of(stopped)
    with pytest.raises(ValueError, match="checkpoint-4 .model.safetensors is not as.*checkpoint-2.*--overwrite_output_dir true"):
        pretrain.main(arguments(corpus, stopped, **RESUME))
    assert state_of(stopped) == before


def test_a_checkpoint_that_is_named_and_not_there_is_an_error(corpus, tmp_path):  # noqa: F811
    with pytest.raises(FileNotFoundError, match="no checkpoint .*checkpoint-7"):
        pretrain.main(arguments(corpus, tmp_path / "out", resume_from_checkpoint=tmp_path / "out" / "checkpoint-7"))


def test_with_nothing_to_resume_from_it_starts_at_the_first_step(corpus, tmp_path, whole, said):  # noqa: F811
    pretrain.main(arguments(corpus, tmp_path / "out", **RESUME))
    assert same_weights(tmp_path / "out", whole) and "starting at step 0" in said[0]


def test_going_back_deletes_the_later_checkpoints(stopped, corpus):  # noqa: F811
    """They are of a course that was left: the next resume must not take them."""
    with stopped_at(3):
        pretrain.main(arguments(corpus, stopped, resume_from_checkpoint=stopped / "checkpoint-2", save_steps=3, save_total_limit=1))
    assert [step for step, _ in checkpoints.checkpoints(stopped)] == [3]


def test_a_finished_run_is_left_as_it_is(finished, corpus, said, capsys):  # noqa: F811
    before, report = state_of(finished), json.loads((finished / "report.json").read_text())
    assert pretrain.main(arguments(corpus, finished, **RESUME)) == report
    assert state_of(finished) == before and "finished at step 4: nothing is left to do" in said[0]
    assert f"The model is in {finished}\n  kept:    {report['selection']['why']}" in capsys.readouterr().out


def test_a_report_names_the_data_that_its_sign_mae_has_seen(finished, tmp_path):
    (tmp_path / "reader").mkdir()
    report = {"datasets": ["words"], "earlier_datasets": runs.data_behind(finished)}
    (tmp_path / "reader" / "report.json").write_text(json.dumps(report))
    assert (
        runs.data_behind(tmp_path / "reader") == ["words", "train.parquet"]
        and runs.data_behind(None) == runs.data_behind("elsewhere") == []
    )


def test_a_finished_run_goes_on_for_more_steps(finished, corpus):  # noqa: F811
    pretrain.main(arguments(corpus, finished, max_steps=5, **RESUME))
    assert (finished / "checkpoint-5").is_dir() and json.loads((finished / runs.RECORD).read_text())["finished"]["step"] == 5


def test_other_arguments_are_refused_and_listed(stopped, corpus):  # noqa: F811
    before = state_of(stopped)
    with pytest.raises(ValueError) as refused:
        pretrain.main(
            arguments(corpus, stopped, learning_rate=0.5, hidden_size=32, datasets=corpus[1], fps=50, dataloader_drop_last=False, **RESUME)
        )
    for difference in ("learning_rate: 0.001 -> 0.5", "hidden_size: 16 -> 32", 'datasets: ["train.parquet"] -> ["validation.parquet"]'):
        assert difference in str(refused.value)
    assert "fps: 25" in str(refused.value) and "training_clips: " in str(refused.value) and str(corpus[0].parent) not in str(refused.value)
    assert state_of(stopped) == before


def test_how_long_how_often_and_where_may_change(stopped, corpus, tmp_path, said):  # noqa: F811
    moved = stopped.rename(tmp_path / "moved")
    data = shutil.copy(corpus[0], tmp_path / "train.parquet")
    changed = dict(datasets=data, logging_steps=2, save_steps=5, save_total_limit=1, max_steps=6, dataloader_num_workers=0)
    pretrain.main(arguments(corpus, moved, **changed, **RESUME))
    assert f"Resuming {moved} from step 4 of 6." in said


def test_the_same_batch_may_be_divided_otherwise_and_it_is_said(stopped, corpus, said):  # noqa: F811
    pretrain.main(arguments(corpus, stopped, per_device_train_batch_size=2, gradient_accumulation_steps=2, max_steps=5, **RESUME))
    assert any("per_device_train_batch_size: 4 -> 2" in line for line in said)


def test_what_a_run_is_holds_no_place(whole):
    record = (whole / runs.RECORD).read_text()
    assert str(whole.parents[1]) not in record and "train.parquet" in record
    assert json.loads(record)["run"] == checkpoints.read_manifest(whole / "checkpoint-4")["run"]


def test_weights_that_a_run_reads_are_known_by_their_content(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name / "sign-mae").mkdir(parents=True)
        (tmp_path / name / "sign-mae" / "model.safetensors").write_bytes(b"1")
    a, b = (runs._named(str(tmp_path / name / "sign-mae")) for name in ("a", "b"))
    assert a == b and a.startswith("sign-mae (weights ")
    (tmp_path / "b" / "sign-mae" / "model.safetensors").write_bytes(b"2")
    assert a != runs._named(str(tmp_path / "b" / "sign-mae"))


# --- The best model ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def selecting(labelled, sign_mae_dir):  # noqa: F811
    """Arguments of a run whose weights and scores stay as they are, so that its first evaluation, at step 2, is its best."""

    def make(output_dir, *more, steps=8):
        still = ["--learning_rate", "0", "--lr_scheduler_type", "constant", "--lr_scheduler_kwargs", "null", "--sign_mae", sign_mae_dir]
        selection = ["--metric_for_best_model", "loss", "--greater_is_better", "false", "--early_stopping_patience", "3"]
        return recognition_arguments(labelled, output_dir, *still, *selection, *more, steps=steps)

    return make


def test_a_resumed_run_stops_early_where_it_would_have_stopped(selecting, tmp_path):
    """transformers' Trainer counts from 0 again: stopped after 6 steps, it would have trained for 12."""
    with stopped_at(6):
        train_recognition.main(selecting(tmp_path / "out", steps=30))
    moved = (tmp_path / "out").rename(tmp_path / "moved")
    report = train_recognition.main([*selecting(moved, steps=30), "--resume_from_checkpoint", "true"])
    assert report["steps"] == 8
    assert json.loads((moved / runs.RECORD).read_text())["finished"]["stopped_early"]
    best = json.loads((moved / "checkpoint-8" / "trainer_state.json").read_text())["best_model_checkpoint"]
    assert best == str(moved / "checkpoint-2")  # in the folder's new place


def test_a_run_that_had_stopped_early_when_it_was_killed_takes_no_other_step(selecting, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(train_recognition.RecognitionTrainer, "_load_best_model", stop)
        train_recognition.main(selecting(tmp_path / "out", steps=30))
    report = train_recognition.main([*selecting(tmp_path / "out", steps=30), "--resume_from_checkpoint", "true"])
    assert report["steps"] == 8


def test_a_damaged_best_checkpoint_is_not_kept_as_the_result(selecting, tmp_path):
    with stopped_at(5):
        train_recognition.main(selecting(tmp_path / "out"))
    flip_a_bit(tmp_path / "out" / "checkpoint-2" / "model.safetensors")
    with pytest.raises(ValueError, match="checkpoint-4 .checkpoint-2, the best so far, model.safetensors is not as it was written"):
        train_recognition.main([*selecting(tmp_path / "out"), "--resume_from_checkpoint", "true"])


def test_a_best_checkpoint_that_is_damaged_later_is_named_at_the_end(selecting, tmp_path, monkeypatch):
    load = train_recognition.RecognitionTrainer._load_best_model

    def damaged(self):
        flip_a_bit(Path(self.state.best_model_checkpoint, "model.safetensors"))
        load(self)

    monkeypatch.setattr(train_recognition.RecognitionTrainer, "_load_best_model", damaged)
    with pytest.raises(ValueError, match="checkpoint-2, whose weights are to be kept, is not whole: model.safetensors"):
        train_recognition.main(selecting(tmp_path / "out", steps=4))


def test_old_checkpoints_go_and_the_newest_and_the_best_stay(selecting, tmp_path):
    with stopped_at(6):
        train_recognition.main(selecting(tmp_path / "out", "--save_total_limit", "1"))
    assert [step for step, _ in checkpoints.checkpoints(tmp_path / "out")] == [2, 6]


# --- Two runs in one folder -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("held", ["checkpoint-2", "report.json", "model.safetensors"])
def test_a_folder_that_holds_a_run_is_not_trained_into(corpus, tmp_path, held):  # noqa: F811
    """It was overwritten without a question; killed, it left checkpoints of both runs."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / held).mkdir() if "." not in held else (tmp_path / "out" / held).write_text("{}")
    with pytest.raises(ValueError, match=f"holds a run .{held}.*--resume_from_checkpoint true.*--overwrite_output_dir true"):
        pretrain.main(arguments(corpus, tmp_path / "out"))
    assert [path.name for path in (tmp_path / "out").iterdir()] == [held]
    with pytest.raises(ValueError, match="holds a run"):  # nor with a checkpoint of another folder
        pretrain.main(arguments(corpus, tmp_path / "out", resume_from_checkpoint=tmp_path / "other" / "checkpoint-2"))


def test_overwriting_deletes_the_old_run_and_nothing_else(finished, corpus, whole):  # noqa: F811
    (finished / "notes.txt").write_text("mine")
    with stopped_at(3):
        pretrain.main(arguments(corpus, finished, seed=1, **OVERWRITE))
    assert [step for step, _ in checkpoints.checkpoints(finished)] == [2] and not (finished / "report.json").exists()
    assert not (finished / "model.safetensors").exists() and (finished / "notes.txt").read_text() == "mine"
    pretrain.main(arguments(corpus, finished, seed=1, **RESUME))
    assert not same_weights(finished, whole)


def test_to_resume_and_to_overwrite_exclude_each_other(corpus, tmp_path):  # noqa: F811
    with pytest.raises(ValueError, match="expected one of them"):
        pretrain.main(arguments(corpus, tmp_path / "out", **RESUME, **OVERWRITE))


def test_weights_without_a_checkpoint_are_not_resumed_from_step_0(corpus, tmp_path):  # noqa: F811
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "model.safetensors").write_text("")
    with pytest.raises(ValueError, match="holds model.safetensors, but no checkpoint to resume from"):
        pretrain.main(arguments(corpus, tmp_path / "out", **RESUME))


# --- No room ----------------------------------------------------------------------------------------------------------------------


def full(kind):
    def write(*args, **kwargs):
        raise {
            "python": OSError(28, "No space left on device"),
            "quota": OSError(122, "Disk quota exceeded"),
            "torch": RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 4992 vs 4880"),
            "safetensors": SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
        }[kind]

    return write


@pytest.mark.parametrize("kind", ["python", "quota", "torch", "safetensors"])
def test_every_library_s_word_for_a_full_disk_is_understood(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**6, 10**6 - 1000, 1000))
    trainer = SimpleNamespace(args=SimpleNamespace(output_dir=tmp_path), model=torch.nn.Linear(1000, 1000))
    reason = os.strerror(122 if kind == "quota" else 28)
    with pytest.raises(SavingError, match=f"Could not save it in .*: {reason}. About 4.0 MB are needed"), checkpoints.saving(trainer, "it"):
        full(kind)()


def test_no_room_for_a_checkpoint_is_said_in_one_line(corpus, tmp_path, monkeypatch):  # noqa: F811
    save = torch.save
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**6, 10**6 - 1000, 1000))

    def fails_later(*args, **kwargs):
        if list((tmp_path / "out").glob("checkpoint-2")):
            full("torch")()
        save(*args, **kwargs)

    monkeypatch.setattr(torch, "save", fails_later)
    with pytest.raises(SavingError) as error:
        pretrain.main(arguments(corpus, tmp_path / "out"))
    assert str(error.value).startswith(f"Could not save checkpoint-4 in {tmp_path / 'out'}: ") and "\n" not in str(error.value)
    for part in (os.strerror(28), "MB are needed there, 0.0 MB are free", "checkpoint-2 is kept", "--resume_from_checkpoint true"):
        assert part in str(error.value)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"checkpoint-2", runs.RECORD}


def test_no_room_for_the_result_is_said_in_one_line_and_made_up_for(corpus, tmp_path, monkeypatch, whole):  # noqa: F811
    with monkeypatch.context() as patch, pytest.raises(SavingError, match="Could not save the trained model in .*checkpoint-4 is kept"):
        patch.setattr(pretrain.SignFeatureExtractionPipeline, "save_pretrained", full("safetensors"))
        pretrain.main(arguments(corpus, tmp_path / "out"))
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"checkpoint-2", "checkpoint-4", runs.RECORD}
    pretrain.main(arguments(corpus, tmp_path / "out", **RESUME))
    assert same_weights(tmp_path / "out", whole)


def test_errors_that_are_none_of_the_disk_stay_what_they_are(corpus, tmp_path, monkeypatch):  # noqa: F811
    def fail(*args, **kwargs):
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(RuntimeError, match="shapes differ"):
        pretrain.main(arguments(corpus, tmp_path / "out"))


class NoRoom(torch.Tensor):
    """A tensor that finds no room in shared memory."""

    def share_memory_(self):
        raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)")


def collate_without_room(items):
    return {"keypoints": torch.zeros(3).as_subclass(NoRoom)}


def test_a_worker_without_shared_memory_ends_in_an_error():
    """It was said by a thread of the worker alone, and the training waited for ever."""
    loader = DataLoader(range(4), batch_size=2, num_workers=1, collate_fn=InSharedMemory(collate_without_room))
    with pytest.raises(LoaderMemoryError, match="workers find no room in .*Give --dataloader_num_workers 0") as error:
        next(iter(loader))
    assert "\n" not in str(error.value)
    assert next(iter(DataLoader(range(4), collate_fn=InSharedMemory(collate_without_room))))["keypoints"].shape == (3,)


# --- How a script ends ------------------------------------------------------------------------------------------------------------


def ended(main, capsys):
    handler = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as end:
            runs.run_script(main)
    finally:
        signal.signal(signal.SIGTERM, handler)
    return end.value.code, capsys.readouterr().err.strip().splitlines()


@pytest.mark.parametrize("number, code, name", [(signal.SIGINT, 130, "Ctrl-C"), (signal.SIGTERM, 143, "SIGTERM")])
def test_a_stopped_script_says_how_to_go_on(corpus, tmp_path, capsys, monkeypatch, number, code, name):  # noqa: F811
    taken = Trainer.training_step

    def training_step(self, *args, **kwargs):
        if self.state.global_step == 3:
            os.kill(os.getpid(), number)
        return taken(self, *args, **kwargs)

    monkeypatch.setattr(Trainer, "training_step", training_step)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # which a suite in the background ignores
    try:
        status, lines = ended(lambda: pretrain.main(arguments(corpus, tmp_path / "out")), capsys)
    finally:
        signal.signal(signal.SIGINT, before)
    assert status == code and not any("Traceback" in line for line in lines)
    assert lines[-1] == (
        f"Stopped by {name} at step 3 of 4. {tmp_path / 'out' / 'checkpoint-2'} is kept: go on with the same command and "
        "--resume_from_checkpoint true."
    )


def test_a_stop_in_the_middle_of_a_file_is_no_full_disk(corpus, tmp_path, capsys, monkeypatch):  # noqa: F811
    """torch's writer says "unexpected pos" where it is interrupted."""

    def interrupted(*args, **kwargs):
        try:
            raise KeyboardInterrupt
        finally:
            full("torch")()

    monkeypatch.setattr(torch, "save", interrupted)
    status, lines = ended(lambda: pretrain.main(arguments(corpus, tmp_path / "out")), capsys)
    assert status == 130 and "No checkpoint was saved yet" in lines[-1]


@pytest.mark.parametrize(
    "error, code",
    [(ValueError("Give this."), 2), (FileNotFoundError("No such."), 2), (SavingError("No room."), 1), (LoaderMemoryError(), 1)],
)
def test_an_error_that_the_user_can_mend_is_one_line(capsys, monkeypatch, error, code):
    def main():
        raise error

    assert ended(main, capsys) == (code, [str(error)])
    monkeypatch.setenv("UNIGLOR_TRACEBACK", "1")
    status, lines = ended(main, capsys)
    assert status == code and lines[0].startswith("Traceback") and lines[-1] == str(error)


def test_a_bug_shows_its_traceback():
    def main():
        raise KeyError("x")

    handler = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(KeyError):
            runs.run_script(main)
    finally:
        signal.signal(signal.SIGTERM, handler)
