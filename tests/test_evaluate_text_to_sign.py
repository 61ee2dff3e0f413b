"""Judges, and the table of generated signing that they make, from script to file."""

import json

import datasets
import numpy as np
import pytest
import torch

from experiments import production_floors
from modeling_unigloR import KeypointProcessor, SignMAE
from modeling_unigloR.keypoints_uniglor import get_layout, point_index, stand_ins
from tests.conftest import CODES_FLOW, TINY_DECODER, TINY_TEXT, TINY_TEXT_ENCODER
from train import evaluate_checkpoint, train_judges, train_text_to_sign
from train.data.clips import Clips
from train.evaluation.text_to_sign import best_samples, gloss_reader, keypoints_of, length_report, load_sign_mae, sign
from train.metrics.windows import WindowFeatures

STEPS = ["--max_steps", "2", "--per_device_train_batch_size", "4", "--eval_strategy", "no", "--save_strategy", "no", "--use_cpu", "true"]
STEPS += ["--load_best_model_at_end", "false", "--early_stopping_patience", "null"]


@pytest.fixture
def features_of_corpus(corpus):
    clips, train = (Clips([corpus], split, KeypointProcessor()) for split in ("test", "train"))
    keypoints, _ = keypoints_of(train)
    return clips, train, keypoints, WindowFeatures(keypoints)


@pytest.fixture(scope="module")
def systems(corpus, sign_mae_dir, tmp_path_factory):
    """Folders of three judges and of a TextToSign, all of two steps."""
    folder = tmp_path_factory.mktemp("systems")
    judge = ["--text_config", json.dumps(TINY_TEXT), "--max_new_tokens", "6", "--generation_num_beams", "1", *STEPS]
    given = ["--datasets", corpus, "--output_dir", str(folder / "judges"), "--sign_mae", sign_mae_dir, "--seeds", "0", "1", "2"]
    train_judges.main([*given, *judge])
    sizes = [word for name, value in TINY_DECODER.items() for word in (f"--{name}", str(value))]
    argv = ["paper_text_to_sign.yaml", "--datasets", corpus, "--validation", corpus, "--sign_mae", sign_mae_dir, "--text_model", "null"]
    argv += ["--output_dir", str(folder / "text-to-sign"), "--text_config", json.dumps(TINY_TEXT_ENCODER), *sizes, *STEPS]
    train_text_to_sign.main(argv)
    return folder


def test_judges_are_frame_level_and_say_what_they_score_on_real_clips(systems, corpus, sign_mae_dir, capsys):
    pack = json.loads((systems / "judges" / "judges.json").read_text())
    assert [judge["role"] for judge in pack["judges"]] == ["selection", "report", "report"]
    assert all(judge["ground_truth"]["num_scored"] == 5 and judge["training_clips"]["num_scored"] == 12 for judge in pack["judges"])
    assert all(set(judge["floors"]) == {"one constant sentence", "random training sentence"} for judge in pack["judges"])
    assert all(judge["verdict"] for judge in pack["judges"])
    assert json.loads((systems / "judges" / "1" / "config.json").read_text())["sign_encoder"] == "frames"
    stamp = (systems / "judges" / "1" / "model.safetensors").stat().st_mtime
    given = ["--datasets", corpus, "--output_dir", str(systems / "judges"), "--sign_mae", sign_mae_dir, "--seeds", "0", "1", "2"]
    capsys.readouterr()
    train_judges.main(given)  # nothing left to train
    printed = capsys.readouterr().out
    assert f"The judges are in {systems / 'judges'}" in printed and "| seed 0 (selection), real validation clips |" in printed
    assert f"--sign_mae {sign_mae_dir} --judge {systems / 'judges' / '0'} --datasets {corpus}" in printed
    assert (systems / "judges" / "1" / "model.safetensors").stat().st_mtime == stamp


def test_the_table_has_system_ceiling_floors_pose_and_motion(systems, corpus, sign_mae_dir, tmp_path, capsys):
    argv = ["--task", "text-to-sign", "--checkpoint", str(systems / "text-to-sign"), "--datasets", corpus, "--train_datasets", corpus]
    argv += ["--judges", str(systems / "judges"), "--sign_mae", sign_mae_dir, "--output_dir", str(tmp_path), "--device", "cpu"]
    report = evaluate_checkpoint.main(argv)
    printed = capsys.readouterr().out
    rows = [
        "system, length=predicted", "system, length=reference", "ceiling: real keypoints", "ceiling: oracle latents", "floor: mean pose",
        "floor: real keypoints backwards", "floor: another sentence's keypoints", "floor: a random training clip",
        "floor: the training clip of the nearest sentence", "floor: phrases of training clips, stitched",
    ]  # fmt: skip
    assert list(report["rows"]) == rows and all(f"| {row} |" in printed for row in rows)
    assert all(row["num_judges"] == 2 and row["num_scored"] == 5 for row in report["rows"].values())  # not the one that selects
    panel = report["panel"]
    assert list(panel) == [*rows, "zero: halves of the real clips"]
    assert panel["system, length=predicted"]["diversity"] == 0  # a model without chance signs a text alike
    assert panel["ceiling: real keypoints"]["speed"] == 1 and panel["floor: mean pose"]["frechet"] >= 0.99
    assert panel["floor: mean pose"]["bleu4"] == report["rows"]["floor: mean pose"]["bleu4"]
    assert set(report["reader"]) == {"real", "backwards", "shuffled segments", "another sentence"} and "lcs_f" in panel["floor: mean pose"]
    assert not [name for name in report["latents"] if "r2" in name] and "r2" not in printed
    assert {"mpjpe_resampled", "dtw_mje_hands"} <= set(report["pose"]["predicted"]) and "speed_ratio" in report["motion"]["reference"]
    lengths = report["lengths"]
    assert {"error_median", "bias", "predicted_p50", "real_p90"} <= set(lengths) and 0 <= lengths["coverage_50"] <= lengths[
        "coverage_90"
    ] <= 100
    numbers = report["latents"] | report["pose"]["predicted"] | report["motion"]["predicted"]
    first_words = {line.split()[0] for line in printed.splitlines() if line.strip()}
    assert {name for name, value in numbers.items() if isinstance(value, (int, float))} <= first_words  # each on a line of its own
    assert f"Verdict: {' '.join(report['verdict'])}" in printed and "Lower is better: wer, cer." in printed
    assert json.loads((tmp_path / "scores.json").read_text())["signature"].startswith("keypoints:uniglor73@")
    written = datasets.load_dataset("parquet", data_files=str(tmp_path / "generated.parquet"), split="train").with_format("numpy")
    assert list(written["id"])[:2] == ["test-0", "test-1"] and written[0]["keypoints"].shape[1:] == (73, 2)


def test_predicted_lengths_are_compared_with_real_ones(tiny_text_to_sign):
    pipe = tiny_text_to_sign()
    regulator = pipe.model.length_regulator
    torch.nn.init.zeros_(regulator.classifier.weight)
    regulator.classifier.bias.data = torch.tensor([9.0, 9, 9, 0, -9, -9, -9, -9])  # 3 or 4 segments, as probable
    report = length_report(pipe.model, pipe.tokenizer, ["es schneit"] * 4, np.array([3, 4, 4, 8]))
    assert report["error_mean"] == 1.75 and report["bias"] == -1.75 and np.isnan(report["correlation"])
    assert (report["predicted_p50"], report["real_p50"]) == (3, 4)
    assert report["coverage_50"] == report["coverage_90"] == 75


def test_the_best_of_some_samples_is_chosen_by_a_judge_and_said_to_be(tiny_text_to_sign, tiny_sign_to_text, monkeypatch):
    pipe, judge = tiny_text_to_sign(**CODES_FLOW), tiny_sign_to_text(sign_encoder="frames")
    monkeypatch.setattr(
        "train.evaluation.text_to_sign.translate_inputs", lambda *given: ["regen", "es schneit", "es", "die sonne", "x", "y"]
    )
    texts = ["es schneit", "die sonne"]
    chosen = best_samples(pipe.model, pipe.tokenizer, texts, 3, judge.model, judge.tokenizer, seed=0)
    samples = sign(pipe.model, pipe.tokenizer, texts, num_samples=3, seed=0)
    for found, index in zip(chosen, (1, 3)):
        np.testing.assert_allclose(found, samples[index], atol=1e-5)


def test_without_glosses_the_panel_has_what_needs_none(corpus, features_of_corpus):
    clips, train, keypoints, features = features_of_corpus
    lines, reader = gloss_reader(clips, train, keypoints, features)
    assert lines[1] == ["REGEN", "SONNE"] and reader.read(keypoints[0]) == [gloss for gloss in reader.read(keypoints[0]) if gloss]
    clips.glosses = [None, *clips.glosses[1:]]
    assert gloss_reader(clips, train, keypoints, features) == (None, None)


def test_floors_of_a_corpus_need_no_system(corpus, tmp_path, capsys):
    argv = ["--datasets", corpus, "--split", "test[:4]", "--json", str(tmp_path / "floors.json"), "--cache_dir", str(tmp_path)]
    rows = production_floors.main(argv)
    assert all(row["num_scored"] == 4 for row in rows.values()) and rows["ceiling: real keypoints"]["frechet"] == pytest.approx(0, abs=1e-6)
    assert json.loads((tmp_path / "floors.json").read_text())["floor: mean pose"]["speed"] == pytest.approx(0, abs=1e-6)
    assert "| floor: the training clip of the nearest sentence |" in capsys.readouterr().out


def test_another_sign_mae_than_the_models_own_is_refused(systems, tiny_sign_mae, tmp_path):
    from transformers import AutoModel

    other = tiny_sign_mae()
    other.set_latent_statistics(torch.ones(16), torch.ones(16))
    other.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="is not the SignMAE that this model decodes with"):
        load_sign_mae(tmp_path, AutoModel.from_pretrained(systems / "text-to-sign"))


def test_points_that_were_never_learned_stand_on_their_anchors(tiny_text_to_sign, tiny_sign_mae):
    index, parts = point_index("uniglor73"), get_layout("uniglor73").parts
    present = np.ones(73, bool)
    present[parts["left_hand"]] = False
    present[index["left_wrist"]] = False
    chosen = stand_ins("uniglor73", present)
    assert (chosen[parts["left_hand"]] == index["left_elbow"]).all() and chosen[index["left_wrist"]] == index["left_elbow"]
    assert (chosen[present] == np.flatnonzero(present)).all()
    sign_mae: SignMAE = tiny_sign_mae()
    sign_mae.keypoint_presence.copy_(torch.from_numpy(present))
    keypoints = tiny_text_to_sign(sign_mae=sign_mae)("morgen")["keypoints"]
    np.testing.assert_array_equal(keypoints[:, index["left_hand_root"]], keypoints[:, index["left_elbow"]])
