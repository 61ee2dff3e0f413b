"""What `--help` prints, and that it is at once."""

import ast
import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import Seq2SeqTrainingArguments

from train import pretrain, train_recognition, train_sign_to_text, train_text_to_sign
from train.engine.arguments import declared_fields
from train.engine.commands import PASSIVE_WAIT, CommandParser, wait_passively
from train.engine.help import help_of, own_fields, owners_of

TRAIN = Path(pretrain.__file__).parent
TRAININGS = ["pretrain.py", "train_sign_to_text.py", "train_text_to_sign.py", "train_recognition.py"]
COMMANDS = [
    "evaluate_checkpoint.py", "embed.py", "export.py", "pose_weights.py", "train_judges.py", "demo.py", "publish.py", "cache.py",
    "checkpoints.py", "figures/attention.py", "figures/latents.py", "figures/strips.py", "../benchmarks/run.py",
]  # fmt: skip
SCRIPTS = [pretrain, train_sign_to_text, train_text_to_sign, train_recognition]


@pytest.fixture(params=SCRIPTS, ids=lambda script: script.__name__)
def script(request):
    return request.param


def test_the_source_names_the_fields_that_the_command_line_takes(script):
    of_transformers = {field.name for field in dataclasses.fields(Seq2SeqTrainingArguments)}
    assert owners_of(script.__file__) == {owner: kind.__name__ for owner, kind in script.OWNERS.items()}
    for owner, kind in script.OWNERS.items():
        fields = {field.name: field for field in own_fields(Path(script.__file__), kind.__name__)}
        taken = declared_fields(kind)
        assert set(fields) <= set(taken) and set(taken) - set(fields) <= (of_transformers if owner == "training" else set())
        plain = {name: value for name, value in taken.items() if isinstance(value, (bool, int, str)) and name in fields}
        assert {name: repr(value) for name, value in plain.items()} == {name: fields[name].default for name in plain}


def test_every_field_of_the_scripts_has_a_sentence(script):
    for kind in script.OWNERS.values():
        fields = own_fields(Path(script.__file__), kind.__name__)
        assert fields and [field.name for field in fields if not field.help] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_of_the_commands_has_a_sentence(command):
    calls = [node for node in ast.walk(ast.parse((TRAIN / command).read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    options = [call for call in calls if getattr(call.func, "attr", "") == "add_argument"]
    assert options and [ast.unparse(call) for call in options if "help" not in {word.arg for word in call.keywords}] == []


@pytest.mark.parametrize("command", [*TRAININGS, *COMMANDS])
def test_the_same_thing_has_the_same_name_in_every_command(command):
    """Data sets are --datasets, models --checkpoint (or their kind: --sign_mae), what is written --output_dir, caches --cache_dir."""
    source = (TRAIN / command).read_text(encoding="utf-8")
    names = set(re.findall(r'"--(\w+)"', source)) | {f.name for kind in owners(command) for f in own_fields(TRAIN / command, kind)}
    assert not names & {"data", "dataset", "data_dir", "model", "model_dir", "ckpt", "out", "out_dir", "frames_dir", "latents_dir"}


def owners(command):
    return owners_of(TRAIN / command).values() if command in TRAININGS else ()


def test_help_groups_fields_with_type_default_and_sentence(script, capsys):
    with pytest.raises(SystemExit) as ended:
        script.main(["--help"])
    printed = capsys.readouterr().out
    assert ended.value.code == 0 and printed.startswith(script.__doc__.split("\n")[0])
    assert "  --learning_rate float (default 0.0001)\n        highest learning rate, which the warm-up leads to." in printed
    assert "--gradient_accumulation_steps" not in printed and "--help_all lists" in printed


def test_help_all_lists_what_transformers_takes_too(script):
    assert "  --gradient_accumulation_steps int (default 1)\n        Number of" in help_of(script.__file__, with_trainer=True)


@pytest.mark.parametrize("script", [*TRAININGS, *COMMANDS])
def test_help_comes_before_anything_heavy_is_imported_and_threads_are_told_to_sleep_before_it(script):
    code = (
        "import os, runpy, sys; sys.argv = [sys.argv[1], '--help']\n"
        "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit: print({'torch', 'transformers', 'numpy', 'datasets'} & set(sys.modules), os.environ['OMP_WAIT_POLICY'])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(TRAIN / script)], capture_output=True, text=True, env=unchosen())
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == "set() PASSIVE", done.stderr


def unchosen(**chosen):
    """This process's environment without a choice of how threads wait."""
    return {name: value for name, value in os.environ.items() if name not in (*PASSIVE_WAIT, "KMP_BLOCKTIME")} | chosen


@pytest.mark.parametrize("name, value", [("OMP_WAIT_POLICY", "ACTIVE"), ("GOMP_SPINCOUNT", "1000"), ("KMP_BLOCKTIME", "200")])
def test_how_threads_wait_is_the_users_choice(name, value):
    environment = {name: value}
    wait_passively(environment)
    assert environment == {name: value}


def test_how_threads_wait_reaches_openmp():
    """Where torch brings GNU's: it reads its variables once, when torch loads it, and prints what it read."""
    code = "from train.engine.commands import CommandParser; CommandParser(); import torch"
    environment = unchosen(OMP_DISPLAY_ENV="VERBOSE")
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=TRAIN.parent).stderr
    if "GOMP_SPINCOUNT" not in told:
        pytest.skip("torch has another OpenMP than GNU's")
    assert "OMP_WAIT_POLICY = 'PASSIVE'" in told and "GOMP_SPINCOUNT = '0'" in told


def test_every_command_of_train_is_listed_here():
    assert {path.relative_to(TRAIN).as_posix() for path in TRAIN.glob("*.py")} - {"__init__.py"} <= {*TRAININGS, *COMMANDS}


# --- Mistakes ---------------------------------------------------------------------------------------------------------------------


def test_a_mistake_is_one_line_that_says_which_option_was_meant_and_status_2(capsys):
    parser = CommandParser("what", prog="command")
    parser.add_argument("--datasets", required=True)
    parser.add_argument("--split", choices=["train", "test"])
    for words, said in (
        (["--dataset", "a"], "--datasets. --dataset: did you mean --datasets? --help lists all options."),
        (["--datasets", "a", "--spilt=test"], "--spilt=test. --spilt: did you mean --split? --help lists all options."),
        (["--datasets", "a", "--split", "dev"], "invalid choice: 'dev'"),
    ):
        with pytest.raises(SystemExit) as ended:
            parser.parse_args(words)
        told = capsys.readouterr().err
        assert ended.value.code == 2 and told.count("\n") == 1 and told.startswith("command: ") and said in told


def test_what_a_command_refuses_is_one_line_and_status_2(tmp_path):
    """The whole command, in a process of its own."""
    words = ["-m", "train.embed", "--checkpoint", str(tmp_path / "nowhere"), "--datasets", "x", "--output_dir", str(tmp_path / "out")]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, cwd=TRAIN.parent)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and "--checkpoint" in done.stderr, done.stderr
