"""What a training says at its end, and what comes next: words that can be copied."""

import json
import shlex
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from train import pretrain, train_text_to_sign
from train.evaluation.closing import (
    NOT_SCORED,
    assess_signing,
    closing,
    config_for,
    evaluation_command,
    judges_command,
    text_floors,
    training_command,
)
from train.evaluation.tables import compute_in_words, duration, format_table, rounded
from train.evaluation.verdicts import BLIND_JUDGE

REPORT = {
    "selection": {"why": "Stopped at step 8 of 40: bleu4 was not above 7 since step 4."},
    "compute": {"device": "1 CPU thread", "processes": 1, "hours": 0.00245},
    "num_validation_clips": 5,
    "validation": {"eval_bleu4": 0.30212345678901234, "eval_cer": 98.0, "eval_chrf": float("nan"), "epoch": 2.0},
    "floors": {"one constant sentence": {"bleu4": 4.12, "cer": 70.0, "num_scored": 5}},
    "verdict": ["bleu4 0.3021 is worse than one constant sentence (4.12): not usable."],
}


def test_a_closing_says_where_what_why_how_good_and_what_next():
    said = closing(REPORT, "outputs/reader", "python -m train.evaluate_checkpoint")
    assert said.splitlines()[1:] == [
        "The model is in outputs/reader",
        "  kept:    Stopped at step 8 of 40: bleu4 was not above 7 since step 4.",
        "  took:    9 seconds on 1 CPU thread",
        "",
        "| | bleu4 | cer | clips |",
        "| --- | ---: | ---: | ---: |",
        "| this model | 0.30 | 98.00 | 5 |",
        "| floor: one constant sentence | 4.12 | 70.00 | 5 |",
        "",
        "  On validation clips. Higher is better: bleu4. Lower is better: cer.",
        "  verdict: bleu4 0.3021 is worse than one constant sentence (4.12): not usable.",
        "  next:    python -m train.evaluate_checkpoint",
    ]


def test_a_closing_of_a_sign_mae_has_its_errors_and_latents():
    report = {
        "validation": {"eval_mpjpe": 0.22159212827682495, "eval_motion_ratio": 0.5},
        "floors": {"mean_pose": 0.4, "static": 0.13, "bank_segments": 100},
        "latents": {"effective_rank": 12.345, "hidden_size": 16, "dead_dimensions": 0},
    }
    said = closing(report, "out")
    assert "| this model | 0.2216 | 0.5000 |" in said and "| floor: static | 0.1300 |  |\n" in said and "bank" not in said
    assert "effective rank 12.3 of 16, 0 dead" in said and "next:" not in said and "kept:" not in said


def test_a_resumed_run_says_from_where():
    assert "9 seconds on 1 CPU thread, resumed from step 4" in closing(REPORT | {"resumed_from": 4}, "out")


@pytest.mark.parametrize(
    "seconds, expected",
    [(0.4, "less than 1 second"), (1, "1 second"), (8.82, "9 seconds"), (60, "1 minute"), (100, "1.7 minutes"), (5400, "1.5 hours"),
     (3600, "1 hour"), (86400, "24 hours"), (172800, "2 days")],
)  # fmt: skip
def test_times_are_in_units_that_a_person_reads(seconds, expected):
    assert duration(seconds) == expected


def test_what_older_reports_call_threads_is_said_alike():
    used = {"device": "1 threads of a CPU", "processes": 2, "hours": 1.5}
    assert compute_in_words(used) == "1.5 hours on 2 x 1 CPU thread"


def test_numbers_are_rounded_to_what_a_person_reads():
    assert rounded({"a": [0.22159212827682495, 12345.678, 3], "b": None}) == {"a": [0.2216, 12350.0, 3], "b": None}
    assert "| a | 1.00 |  |  |" in format_table({"a": {"x": np.float32(1), "y": None, "z": np.nan}}, ("x", "y", "z"))


def test_floors_of_texts_look_at_no_clip():
    floors = text_floors(["a b c d", "a b c d", "e f g h"], ["a b c d", "x y z w"])
    assert floors["one constant sentence"]["sentence"] == "a b c d" and floors["random training sentence"]["std"]["chrf"] >= 0


def test_what_a_judge_reads_says_nothing_where_it_cannot_read_real_signing(tmp_path):
    texts = ["a b c d", "e f g h"]
    trainer = SimpleNamespace(scored=(texts, texts), final_dot="keep", args=SimpleNamespace(metric_for_best_model="bleu4"))
    clips = SimpleNamespace(texts=["a b c d", "x y z w"])
    assert "is better than" in assess_signing(trainer, clips, tmp_path)["verdict"][0]
    blind = f"bleu4 1 is worse than one constant sentence (4.1): {BLIND_JUDGE}."
    (tmp_path / "judge.json").write_text(json.dumps({"verdict": [blind]}))
    assert assess_signing(trainer, clips, tmp_path)["verdict"] == [f"On real signing: {blind}"]
    assert assess_signing(trainer, clips)["verdict"][0].startswith("Nobody has read what it signs yet")


# --- What comes next --------------------------------------------------------------------------------------------------------------


def test_a_test_split_is_scored_where_there_is_one(corpus, tmp_path):
    words = shlex.split(evaluation_command("sign-to-text", tmp_path / "my model", [corpus], ["other"], judges=None))
    assert words == [
        "python", "-m", "train.evaluate_checkpoint", "--task", "sign-to-text", "--checkpoint", str(tmp_path / "my model"), "--datasets",
        corpus, "--train_datasets", corpus,
    ]  # fmt: skip
    spec = {"path": "fingerspelling", "languages": ["ase"]}
    assert json.loads(shlex.split(evaluation_command("sign-to-text", "out", [spec]))[8]) == spec


def test_without_a_test_split_validation_is_scored_and_without_both_nothing(tmp_path):
    words = shlex.split(evaluation_command("sign-to-text", "out", [str(tmp_path)], ["held"], sign_mae="mae"))
    assert words[7:] == ["--datasets", "held", "--split", "validation", "--train_datasets", str(tmp_path), "--sign_mae", "mae"]
    assert evaluation_command("sign-to-text", "out", [str(tmp_path)], []).startswith("Nothing is held out to score it on.")


@pytest.mark.parametrize(
    "argv, task, expected",
    [
        (["demo.yaml"], "sign_to_text", "demo_sign_to_text.yaml"),
        (["demo_adapt.yaml"], "sign_to_text", "demo_sign_to_text.yaml"),
        (["demo_sign_to_text.yaml"], "text_to_sign", "demo_text_to_sign.yaml"),
        (["mine/own.yaml"], "sign_to_text", "paper_sign_to_text.yaml"),
        (["--datasets", "x"], "text_to_sign", "paper_text_to_sign.yaml"),
    ],
)
def test_the_next_training_takes_the_settings_of_the_same_size(argv, task, expected):
    assert config_for(task, argv) == expected


def test_a_training_names_its_script_from_wherever_it_is_started(tmp_path, monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[1])
    assert training_command("pretrain.py", "paper.yaml", "out", ["a b"]).startswith(
        "accelerate launch train/pretrain.py paper.yaml --datasets 'a b'"
    )
    monkeypatch.chdir(tmp_path)
    assert Path(shlex.split(training_command("pretrain.py", "paper.yaml", "out"))[2]).is_file()


def test_after_pretraining_comes_a_reader_and_after_signing_its_judges(corpus, tmp_path):
    words = shlex.split(pretrain.what_is_next(tmp_path / "mae", [corpus], ["paper.yaml"]))
    assert words[3:6] == ["paper_sign_to_text.yaml", "--sign_mae", str(tmp_path / "mae")] and words[6:8] == ["--datasets", corpus]
    assert "--datasets" not in pretrain.what_is_next(tmp_path / "mae", [{"path": "fingerspelling"}], [])
    data = train_text_to_sign.TextToSignArguments(datasets=[corpus], validation=[corpus], sign_mae="mae")
    told = train_text_to_sign.what_is_next(tmp_path / "out", data, ["paper_text_to_sign.yaml"])
    assert told == judges_command("paper_sign_to_text.yaml", tmp_path / "judges", [corpus], "mae")
    (tmp_path / "judges").mkdir()
    (tmp_path / "judges" / "judges.json").touch()
    words = shlex.split(train_text_to_sign.what_is_next(tmp_path / "out", data, ["paper_text_to_sign.yaml"]))
    assert words[2:5] == ["train.evaluate_checkpoint", "--task", "text-to-sign"] and words[-4:-2] == ["--judges", str(tmp_path / "judges")]


def test_what_was_not_scored_is_open():
    assert NOT_SCORED in closing(REPORT | {"validation": None, "verdict": [NOT_SCORED]}, "out")
