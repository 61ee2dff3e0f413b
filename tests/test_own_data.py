"""docs/own_data.md, followed to the letter: its commands, files and Python in their order, on 60 clips that are made here; and the Python
of docs/own_video.md."""

import importlib
import json
import re
import shlex
from pathlib import Path
from typing import NamedTuple

import datasets
import numpy as np
import pytest

from datasets_scripts.schema import FEATURES

from .conftest import random_signing

DOCS = Path(__file__).parents[1] / "docs"
GUIDE = DOCS / "own_data.md"
SENTENCES = ("Hello!", "How are you?", "Good morning.", "It rains in the north.", "Where do you live?", "Thank you.")
NUM_CLIPS = 60
NOT_RUN = ("make", "source", "pip")  # they change the machine
VIDEOS = "datasets_scripts.extract"


class Block(NamedTuple):
    language: str
    text: str


def blocks(path=GUIDE):
    """Every fenced block of a guide, in order."""
    return [Block(*found) for found in re.findall(r"```(\w+)\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL)]


def commands(block):
    """[[word, ...], ...] of a block of shell commands, without those that change the machine or need videos."""
    lines = [shlex.split(line, comments=True) for line in block.text.replace("\\\n", " ").splitlines()]
    return [words for words in lines if words and words[0] not in NOT_RUN and VIDEOS not in words]


def run(words, more=()):
    """Runs `python -m MODULE ...` in this process: imports of 20 processes would take minutes."""
    assert words[:2] == ["python", "-m"], words
    return importlib.import_module(words[2]).main([*words[3:], *(more if re.search(r"train\.(pretrain|train_)", words[2]) else ())])


def make_extracted(folder):
    """What datasets_scripts.extract would leave of 60 videos, and texts.csv: each sentence is a motion of its own, and a label."""
    rows, table = [], ["id,text,label,signer,split"]
    for number in range(NUM_CLIPS):
        sentence = number % len(SENTENCES)
        day, signer, split = (
            ("monday", "anna", "train") if number < 48 else ("tuesday", "ben", "dev") if number < 54 else ("wednesday", "cem", "test")
        )
        name = f"{day}/clip_{number % 48 + 1}"
        noise = np.random.default_rng(number).normal(0, 0.02, (45, 73, 2))
        keypoints = ((random_signing(45, seed=sentence) + noise) * 100 + 300).astype(np.float32)
        confidence = np.ones(keypoints.shape[:2], np.float32)
        rows.append(
            dict(
                id=name, keypoints=keypoints, confidence=confidence, layout="uniglor73", fps=25.0, width=600, height=600, text=None,
                gloss=None, label=None, signer=None, language="ase",
            )
        )  # fmt: skip
        table.append(f"{name},{SENTENCES[sentence]},{sentence},{signer},{split}")
    datasets.Dataset.from_list(rows, features=FEATURES).to_parquet(folder / "extracted" / "data" / "train-00000-of-00001.parquet")
    (folder / "texts.csv").write_text("\n".join(table) + "\n", encoding="utf-8")


def follow(folder, more=()):
    """The guide from its first command to its last; `more` is given to every training. -> {the words' text: what main returned}."""
    make_extracted(folder)
    returned = {}
    for block in blocks():
        if block.language == "bash":
            for words in commands(block):
                returned[" ".join(words)] = run(words, more)
        elif block.language == "python":
            exec(compile(block.text, GUIDE.name, "exec"), {})
        elif block.language == "yaml":
            (folder / "card.yaml").write_text(block.text, encoding="utf-8")
    return returned


def test_the_guide_runs_as_it_is_printed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    returned = follow(tmp_path, ["--max_steps", "2"])
    assert len(returned) == 18
    assert {path.name for path in Path("outputs").iterdir()} == {
        "sign-mae", "sign-to-text", "text-to-sign", "judges", "sign-recognition", "latents", "latents.svg", "reconstruction.svg",
        "generated.svg", "attention.svg", "how-are-you.html",
    }  # fmt: skip
    assert json.loads(Path("outputs/sign-to-text/report.json").read_text())["validation_data"]["from"] == "own split"
    assert "translation_text" in capsys.readouterr().out and Path("look/README.md").exists()


@pytest.mark.slow
def test_what_the_guide_trains_is_better_than_the_floors(tmp_path, monkeypatch):
    """Its numbers here are far from the floors: six sentences, each always signed the same way."""
    monkeypatch.chdir(tmp_path)
    follow(tmp_path)
    pretraining = json.loads(Path("outputs/sign-mae/report.json").read_text())
    assert pretraining["validation"]["eval_mpjpe"] < pretraining["floors"]["static"]
    for task, score, floor in (
        ("sign-to-text", "bleu1", "one constant sentence"),
        ("text-to-sign", "bleu1", "mean pose"),
        ("sign-recognition", "top1", "most frequent labels"),
    ):
        rows = json.loads(Path(f"outputs/{task}/evaluation-test/scores.json").read_text())["rows"]
        system = next(scores for name, scores in rows.items() if name.startswith("system"))
        assert system[score] > rows[f"floor: {floor}"][score], task


def test_the_python_of_the_video_guide_runs(tmp_path, monkeypatch, tiny_sign_to_text):
    monkeypatch.chdir(tmp_path)
    tiny_sign_to_text().save_pretrained("outputs/sign-to-text")
    np.savez("me.npz", keypoints=random_signing(45) * 100 + 300, fps=25.0)
    names = {}
    for block in blocks(DOCS / "own_video.md"):
        if block.language == "python":
            exec(compile(block.text.replace("me.mp4", "me.npz"), "own_video.md", "exec"), names)
    assert Path("me.html").exists() and names["ids"].shape[0] == 1
