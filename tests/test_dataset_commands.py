"""The commands that make and look at data sets: help at once, and one line and status 2 where a user is mistaken."""

import contextlib
import importlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from datasets_scripts.commands import run_command
from datasets_scripts.options import COLUMNS, CORPORA
from datasets_scripts.schema import COLUMNS as ROW
from datasets_scripts.schema import features

from .conftest import random_signing

ROOT = Path(__file__).parents[1]
COMMANDS = ("build", "build folder", "extract", "inspect_dataset", "convert_pickle", "fingerspelling")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working directory with three clips, a table of them, and the rows of an earlier build."""
    monkeypatch.chdir(tmp_path)
    Path("clips").mkdir()
    for number in range(3):
        np.savez(f"clips/clip_{number}.npz", keypoints=random_signing(20, seed=number) * 100 + 300, fps=25.0)
    Path("sentences.csv").write_text("id,german\n" + "".join(f"clip_{number},satz {number}\n" for number in range(3)))
    return tmp_path


def run(command, *arguments):
    """The exit status of a command that runs in this process as its script does."""
    module = importlib.import_module(f"datasets_scripts.{command}")
    with contextlib.ExitStack() as stack:
        stack.callback(signal.signal, signal.SIGINT, signal.getsignal(signal.SIGINT))
        try:
            run_command(lambda: module.main(list(map(str, arguments))))
        except SystemExit as ended:
            return ended.code
    return 0


FOLDER = ("build", "folder", "--output_dir", "rows", "--data_dir")
BUILD = (*FOLDER, "clips")


def write(path, content):
    Path(path).parent.mkdir(exist_ok=True)
    Path(path).write_bytes(content) if isinstance(content, bytes) else Path(path).write_text(content)


def write_pickles(name, *contents):
    import pickle

    for number, content in enumerate(contents):
        write(f"pickles/{name}{number}.pkl", pickle.dumps(content))


def no_permission(path):
    os.chmod(path, 0)
    if os.access(path, os.R_OK | os.W_OK):  # root may do everything
        pytest.skip("permissions do not bind this user")


PROGRESS = re.compile(r"(Reading clips|Inspecting .*|Converting):? ")
POSE = {"keypoints": random_signing(5)[..., :2] * 100 + 300, "scores": np.ones((5, 73), np.float32)}
MISTAKES = {
    "a folder that is not there": (None, (*FOLDER, "clip"), "Did you mean clips?"),
    "an archive instead of its folder": (
        lambda: write("clips.zip", b"PK"), (*FOLDER, "clips.zip"), "is a file. Unpack it"),
    "a folder without clips": (lambda: Path("none").mkdir(), (*FOLDER, "none"), "no clip in"),
    "a folder of videos": (lambda: write("v/a.mp4", b""), (*FOLDER, "v"), "datasets_scripts.extract"),
    "an output that is a file": (None, (*BUILD, "--output_dir", "sentences.csv"), "sentences.csv is a file"),
    "another corpus' name": (None, ("build", "phoenix", "--data_dir", "clips"), "Did you mean phoenix14t?"),
    "another corpus' folder": (None, ("build", "phoenix14t", *BUILD[2:]), "No PHOENIX-2014-T.test.corpus.csv"),
    "another corpus' option": (None, (*BUILD, "--views", "F"), "--views F"),
    "a mistyped option": (None, (*BUILD, "--text_colum", "german"), "did you mean --text_column"),
    "a table that is not there": (None, (*BUILD, "--annotations", "sentence.csv"), "no such table. .*Did you mean sentences.csv?"),
    "a column that is not there": (None, (*BUILD, "--annotations", "sentences.csv", "--text_column", "germna"), "Did you mean german?"),
    "no column of texts": (None, (*BUILD, "--annotations", "sentences.csv"), "It has id, german. .*--text_column"),
    "a table in latin1": (
        lambda: write("l.csv", "id,text\nclip_0,Glück\n".encode("latin1")), (*BUILD, "--annotations", "l.csv"), "not UTF-8: .*iconv"),
    "a table of a spreadsheet": (lambda: write("t.xlsx", b"PK"), (*BUILD, "--annotations", "t.xlsx"), "Save the table as .csv"),
    "a table without rows": (lambda: write("e.csv", "id,text\n"), (*BUILD, "--annotations", "e.csv"), "e.csv: no rows"),
    "an empty table": (lambda: write("e.csv", ""), (*BUILD, "--annotations", "e.csv"), "e.csv: no rows"),
    "a table of other clips": (
        lambda: write("o.csv", "id,text\nx,a\n"), (*BUILD, "--annotations", "o.csv"), "x: in o.csv, but there is no clip of it"),
    "clips without keypoints": (lambda: [write(f"c/{x}.npz", b"x") for x in "abc"], (*FOLDER, "c"), r"\(3 alike\)"),
    "an unknown layout": (None, (*BUILD, "--layout", "uniglor74"), "'uniglor74'"),
    "a size of 0": (None, (*BUILD, "--width", "0", "--height", "10"), "width"),
    "a number in words": (None, (*BUILD, "--num_proc", "two"), "'two' is not a whole number above 0"),
    "a language in words": (None, (*BUILD, "--language", "German"), "three small letters, such as ase or gsg"),
    "an output of other arguments": (lambda: run(*BUILD, "--fps", "25"), (*BUILD, "--fps", "30"), "rows holds rows of folder"),
    "an output without permission": (lambda: (Path("rows").mkdir(), no_permission("rows")), BUILD, "rows.*Permission denied"),
    "a table without permission": (
        lambda: no_permission("sentences.csv"), (*BUILD, "--annotations", "sentences.csv"), "sentences.csv.*Permission denied"),
    "no rows to inspect": (None, ("inspect_dataset", "clips"), "clips holds no rows that can be read"),
    "rows that are not there": (None, ("inspect_dataset", "clip"), "Did you mean clips?"),
    "a folder that a build would make": (None, ("inspect_dataset", "data/mine"), "data/mine does not exist"),
    "a folder below one that is there": (None, ("inspect_dataset", "clips/rows"), "clips/rows does not exist"),
    "a file of another kind": (None, ("inspect_dataset", "sentences.csv"), "expected a folder, or a file that ends in .parquet"),
    "rows that are broken": (lambda: write("r/train.parquet", b"PAR1"), ("inspect_dataset", "r"), "r .*"),
    "a single file that is broken": (lambda: write("r/train.parquet", b"PAR1"), ("inspect_dataset", "r/train.parquet"), "train.parquet.*"),
    "a table instead of rows": (lambda: write("t/train.csv", "id,text\na,b\n"), ("inspect_dataset", "t"), "expected canonical rows"),
    "no videos": (None, ("extract", "clips", "--output_dir", "rows"), "No video"),
    "a video that is not there": (None, ("extract", "a.mp4", "--output_dir", "rows"), "video a.mp4 does not exist"),
    "an unknown extractor": (None, ("extract", "clips", "--output_dir", "rows", "--extractor", "mediapip"), "Did you mean mediapipe?"),
    "no pickles": (None, ("convert_pickle", "clips", "--output_dir", "rows"), "No pickle"),
    "a pickle that is none": (None, ("convert_pickle", "sentences.csv", "--output_dir", "rows"), "cannot be unpickled"),
    "two clips of one id": (
        lambda: write_pickles("p", {"a": POSE}, {"a": POSE}), ("convert_pickle", "pickles", "--output_dir", "rows"), "'a' is in .* too"),
    "an unknown language": (None, ("fingerspelling", "--output_dir", "rows", "--languages", "asl"), "'asl' .choose from '?ase"),
    "an augmentation that is no JSON": (None, ("fingerspelling", "--output_dir", "rows", "--augmentation", "noise=1"), "--augmentation"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_and_status_2(here, capsys, mistake):
    prepare, arguments, words = MISTAKES[mistake]
    if prepare:
        prepare()
    capsys.readouterr()
    status = run(*arguments)
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.strip() and not PROGRESS.match(line))
    assert status == 2 and re.search(words, line), line
    assert not list(Path("rows").glob("data/*")) or "other arguments" in mistake


def test_a_full_disk_is_one_line_and_status_1(here, capsys, monkeypatch):
    build = importlib.import_module("datasets_scripts.build")

    def full(*_):
        raise OSError(28, "No space left on device", "rows/x")

    monkeypatch.setattr(build, "seal", full)
    assert run(*BUILD) == 1
    assert "rows/x: No space left on device. Finished shards are kept in rows/.unfinished. The same command" in capsys.readouterr().err


def test_ctrl_c_is_one_line_and_status_130(here, capsys, monkeypatch):
    build = importlib.import_module("datasets_scripts.build")

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(build, "seal", stop)
    assert run(*BUILD) == 130
    assert capsys.readouterr().err.splitlines()[-1].startswith("Stopped by Ctrl-C.")


def test_what_the_system_refuses_names_the_file(capsys):
    def refused():
        raise PermissionError(13, "Permission denied", "rows/data")

    with pytest.raises(SystemExit) as ended:
        run_command(refused)
    assert ended.value.code == 2 and capsys.readouterr().err == "rows/data: Permission denied.\n"


def test_an_error_that_is_no_mistake_keeps_its_traceback(capsys):
    with pytest.raises(KeyError):
        run_command(lambda: {}["a bug"])


def test_commands_end_with_what_they_wrote_and_what_is_next(here, capsys):
    assert run(*BUILD, "--annotations", "sentences.csv", "--text_column", "german") == 0
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "Written: rows/data, rows/audit.json, rows/dataset_card.md",
        "Next: python -m datasets_scripts.inspect_dataset rows",
    ]
    assert run("inspect_dataset", "rows") == 0
    written, following = capsys.readouterr().out.splitlines()[-2:]
    assert written == "Written: rows-inspection/report.html, rows-inspection/inspection.json"
    assert "accelerate launch train/pretrain.py train/configs/small.yaml --datasets rows --output_dir " in following
    assert json.loads(Path("rows-inspection/inspection.json").read_text())["splits"]["train"]["clips"] == 3


@pytest.mark.parametrize("command", COMMANDS)
def test_help_comes_before_anything_heavy_is_imported(command):
    module, *words = command.split()
    code = (
        f"import runpy, sys; sys.argv = ['x', *{[*words, '--help']}]\n"
        f"try: runpy.run_module('datasets_scripts.{module}', run_name='__main__')\n"
        "except SystemExit: print({'torch', 'transformers', 'numpy', 'datasets', 'modeling_unigloR'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.startswith(f"usage: python -m datasets_scripts.{command}") and done.stdout.splitlines()[-1] == "set()", done.stderr


def test_a_dry_run_does_not_import_what_writes(here):
    code = "import sys; from datasets_scripts.build import main; main(sys.argv[1:]); print('datasets' in sys.modules)"
    command = [sys.executable, "-c", code, *BUILD[1:], "--dry_run"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert done.stdout.splitlines()[-2:] == ["Nothing was written. Next: the same command without --dry_run", "False"], done.stderr


def test_the_help_of_a_corpus_has_its_own_options_only(capsys):
    build = importlib.import_module("datasets_scripts.build")
    for name, entry in CORPORA.items():
        with pytest.raises(SystemExit) as ended:
            build.main([name, "--help"])
        printed = capsys.readouterr().out
        others = {option for other in CORPORA.values() for option in other.options} - set(entry.options)
        assert ended.value.code == 0 and "--data_dir FOLDER --output_dir FOLDER" in printed
        assert all(f"--{option} " in printed for option in entry.options) and not any(f"--{option} " in printed for option in others)
        corpus = build.get_corpus(name)
        assert corpus.name == name and set(entry.options) - set(COLUMNS) <= set(corpus.list_clips.__code__.co_varnames)


def test_rows_have_the_columns_of_their_features():
    assert tuple(features(73, 2)) == ROW


@pytest.mark.slow
def test_ctrl_c_while_workers_build_ends_all_of_them_without_a_traceback(here):
    for number in range(3, 40):
        np.savez(f"clips/clip_{number}.npz", keypoints=random_signing(400, seed=number) * 100 + 300, fps=25.0)
    code = (  # a suite in the background ignores Ctrl-C, and so would its children
        "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "runpy.run_module('datasets_scripts.build', run_name='__main__', alter_sys=True)"
    )
    command = [sys.executable, "-c", code, *BUILD[1:], "--num_proc", "2", "--clips_per_shard", "1"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True)
    deadline = time.monotonic() + 120
    while not list(Path("rows").glob(".unfinished/[!.]*")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    said = process.communicate()[1]
    assert "Traceback" not in said and (
        process.returncode == 0 or "Stopped by Ctrl-C. The same command goes on from the finished shards." in said
    )
