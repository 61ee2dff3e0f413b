"""The training script of recognition, its parts, and what scores its result."""

import json
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from transformers import AutoModel, pipeline

from datasets_scripts.schema import FEATURES
from modeling_unigloR import KeypointProcessor, SignMAE, SignMAEConfig
from tests.conftest import TINY, TINY_ENCODER, random_signing, stopped_at
from train import evaluate_checkpoint, train_recognition
from train.data.clips import LabelledClips, LatentStore
from train.evaluation.recognition import evaluate_recognition
from train.metrics.recognition import paired_top1_test

WORDS = ("REGEN", "SONNE", "SCHNEE")


def write(path, rows):
    datasets.Dataset.from_list(rows, features=FEATURES).to_parquet(path)


def rows(split, count, seed):
    for index in range(count):
        keypoints = (random_signing(20 + 5 * (index % 4), seed + index) * 100 + 300).astype(np.float32)
        yield dict(
            id=f"{split}-{index}", keypoints=keypoints, confidence=np.ones(keypoints.shape[:2], np.float32), layout="uniglor73", fps=25.0,
            width=600, height=600, text=None, gloss=WORDS[index % 3], label=index % 3, signer=None, language="gsg",
        )  # fmt: skip


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A folder of canonical rows with labels: 12 clips of training and 5 of validation, of lengths that differ."""
    folder = tmp_path_factory.mktemp("corpus")
    for split, count, seed in (("train", 12, 0), ("validation", 5, 100)):
        write(folder / f"{split}-00000-of-00001.parquet", list(rows(split, count, seed)))
    return str(folder)


@pytest.fixture(scope="module")
def sign_mae(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sign-mae")
    torch.manual_seed(0)
    SignMAE(SignMAEConfig(**TINY)).save_pretrained(folder)
    KeypointProcessor().save_pretrained(folder)
    return str(folder)


def arguments(corpus, output_dir, *more, steps=4):
    config = Path(output_dir).parent / "tiny.yaml"
    config.write_text(json.dumps(TINY_ENCODER))
    return [
        str(config), "--datasets", corpus, "--validation", corpus, "--output_dir", str(output_dir), "--max_steps", str(steps),
        "--per_device_train_batch_size", "4", "--eval_strategy", "steps", "--eval_steps", "2", "--save_strategy", "steps",
        "--save_steps", "2", "--use_cpu", "true", "--learning_rate", "1e-2", "--save_total_limit", "5",
        "--early_stopping_patience", "null", *more,
    ]  # fmt: skip


# --- The script -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("more", [[], ["--cache_latents", "false", "--augmentation", "{}"], ["--sign_encoder", "frames"]])
def test_the_script_writes_a_folder_that_the_pipeline_loads(corpus, sign_mae, tmp_path, more):
    report = train_recognition.main(arguments(corpus, tmp_path / "out", "--sign_mae", sign_mae, *more))
    assert report["steps"] == 4 and report["num_labels"] == 3
    assert report["selection"]["metric"] == "top1" and report["selection"]["tie_breakers"] == ["loss"]
    assert {"eval_top1", "eval_top5_class", "eval_loss"} <= set(report["validation"])
    assert set(report["floors"]) == {"most frequent labels"} and report["verdict"][0].startswith("top1 ")
    pipe = pipeline("sign-recognition", model=str(tmp_path / "out"), device="cpu")
    assert {answer["label"] for answer in pipe(random_signing(40), layout="uniglor73", fps=25.0)} == set(WORDS)
    written = {path.name for path in (tmp_path / "out").rglob("*")}
    assert "training_args.bin" not in written and "training_args.json" in written
    assert sign_mae not in (tmp_path / "out" / "config.json").read_text()


def test_a_frame_model_needs_no_sign_mae(corpus, tmp_path):
    train_recognition.main(arguments(corpus, tmp_path / "out", "--sign_encoder", "frames", "--validation", "[]", steps=2))
    assert AutoModel.from_pretrained(tmp_path / "out").config.id2label == dict(enumerate(WORDS))


def test_stopped_and_resumed_it_ends_with_the_same_weights(corpus, sign_mae, tmp_path):
    more = ["--sign_mae", sign_mae, "--load_best_model_at_end", "false"]
    train_recognition.main(arguments(corpus, tmp_path / "whole", *more))
    with stopped_at(3):
        train_recognition.main(arguments(corpus, tmp_path / "half", *more))
    train_recognition.main([*arguments(corpus, tmp_path / "half", *more), "--resume_from_checkpoint", "true"])
    weights = [AutoModel.from_pretrained(tmp_path / name).state_dict() for name in ("whole", "half")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_training_stops_where_top_1_gets_no_better(corpus, sign_mae, tmp_path):
    more = ["--sign_mae", sign_mae, "--learning_rate", "0", "--early_stopping_patience", "1"]
    assert train_recognition.main(arguments(corpus, tmp_path / "out", *more, steps=40))["steps"] == 4


@pytest.mark.parametrize(
    "more, message",
    [
        ([], "No SignMAE to read the signing with"),
        (["--sign_mae", "x", "--augmentation", "{}"], "give --cache_latents false"),
        (["--sign_mae", "x", "--freeze_sign_mae", "false"], "give --cache_latents false"),
        (["--sign_mae", "x", "--nonsense", "1"], "Unknown field 'nonsense'"),
    ],
)
def test_arguments_that_cannot_be_say_why(corpus, tmp_path, more, message):
    with pytest.raises(ValueError, match=message):
        train_recognition.main(arguments(corpus, tmp_path / "out", *more))


def test_a_checkpoint_of_another_type_is_refused(corpus, tiny_sign_recognition, tmp_path):
    tiny_sign_recognition().save_pretrained(tmp_path / "other")
    with pytest.raises(ValueError, match="holds a model of type 'sign_recognition', expected 'sign_mae'"):
        train_recognition.main(arguments(corpus, tmp_path / "out", "--sign_mae", str(tmp_path / "other")))


# --- Labels -----------------------------------------------------------------------------------------------------------------------


def clips_of(tmp_path, **columns):
    """LabelledClips of three rows, some columns of which are replaced."""
    made = list(rows("train", 3, 0))
    for name, values in columns.items():
        for row, value in zip(made, values):
            row[name] = value
    write(tmp_path / "rows.parquet", made)
    return LabelledClips([str(tmp_path / "rows.parquet")], "train", KeypointProcessor(), tmp_path)


def test_labels_are_called_by_their_gloss_or_else_their_text(tmp_path):
    clips = clips_of(tmp_path, gloss=["REGEN", None, None], text=["es regnet", "die Sonne scheint", None], label=[0, 1, 3])
    assert clips.label_names() == {0: "REGEN", 1: "die Sonne scheint", 2: "LABEL_2", 3: "LABEL_3"}


def test_a_row_without_a_label_is_refused(tmp_path):
    with pytest.raises(ValueError, match="clip 'train-1' has no label"):
        clips_of(tmp_path, label=[0, None, 2])


def test_rows_without_the_column_are_refused(tmp_path):
    made = datasets.Dataset.from_list(list(rows("train", 3, 0)), features=FEATURES).remove_columns("label")
    made.to_parquet(tmp_path / "rows.parquet")
    with pytest.raises(ValueError, match="has no column 'label'"):
        LabelledClips([str(tmp_path / "rows.parquet")], "train", KeypointProcessor(), tmp_path)


def test_a_label_with_two_names_is_refused(tmp_path):
    with pytest.raises(ValueError, match="label 1 is called 'SONNE', but clip 'train-2' calls it 'SCHNEE'"):
        clips_of(tmp_path, label=[0, 1, 1]).label_names()


def test_a_negative_label_is_refused(tmp_path):
    with pytest.raises(ValueError, match="clip 'train-1' has the label -1, expected at least 0"):
        clips_of(tmp_path, label=[0, -1, 1]).label_names()


def test_a_label_map_that_does_not_match_the_head_is_refused(tmp_path, tiny_sign_recognition):
    model = tiny_sign_recognition().model
    with pytest.raises(ValueError, match=r"clip 'train-2' has the label 3 \('SCHNEE'\), but the model's head has the labels 0 to 2"):
        evaluate_recognition(model, clips_of(tmp_path, label=[0, 1, 3]))
    with pytest.raises(ValueError, match="calls its label 0 'SONNE', but the model's head calls it 'REGEN'"):
        evaluate_recognition(model, clips_of(tmp_path, gloss=["SONNE", "REGEN", "SCHNEE"]))


def test_validation_with_labels_numbered_otherwise_is_refused(corpus, sign_mae, tmp_path):
    made = [row | {"label": 2 - row["label"]} for row in rows("validation", 3, 0)]
    write(tmp_path / "other.parquet", made)
    more = ["--sign_mae", sign_mae, "--validation", str(tmp_path / "other.parquet")]
    with pytest.raises(ValueError, match="the numbers of the labels differ"):
        train_recognition.main(arguments(corpus, tmp_path / "out", *more))


# --- Scores -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sign_encoder", ["segments", "frames"])
def test_an_evaluation_scores_what_the_pipeline_answers(corpus, tiny_sign_recognition, tmp_path, sign_encoder):
    pipe = tiny_sign_recognition(sign_encoder=sign_encoder)
    clips, train = (LabelledClips([corpus], split, pipe.feature_extractor, tmp_path) for split in ("validation", "train"))
    report, predictions, confusion = evaluate_recognition(pipe.model, clips, train, batch_size=2, cache_dir=tmp_path)
    answers = [pipe(row) for row in rows("validation", 5, 100)]
    assert predictions == [[answer["label"] for answer in some] for some in answers]
    right = np.mean([some[0] == name for some, name in zip(predictions, clips.names)])
    assert report["rows"]["system"]["top1"] == pytest.approx(100 * right) == report["interval"]["score"]
    assert report["rows"]["floor: most frequent labels"]["top1"] == 40  # 4 clips of each label: the first is guessed
    assert confusion.sum() == 5 and report["labels"] == list(WORDS)
    assert ("floor: nearest class mean of mean latents" in report["rows"]) == (sign_encoder == "segments")


def test_a_frame_model_has_the_floor_of_latents_where_a_sign_mae_is_given(corpus, tiny_sign_recognition, tiny_sign_mae, tmp_path):
    pipe = tiny_sign_recognition(sign_encoder="frames")
    clips = LabelledClips([corpus], "train", pipe.feature_extractor, tmp_path)
    report, *_ = evaluate_recognition(pipe.model, clips, clips, tiny_sign_mae(), cache_dir=tmp_path)
    assert report["rows"]["floor: nearest class mean of mean latents"]["top1"] > 100 / 3  # on its own training set
    assert len(LatentStore.build(clips, tiny_sign_mae(), 7, tmp_path)) == 12


def test_the_command_writes_scores_predictions_and_the_confusion_matrix(corpus, tiny_sign_recognition, tmp_path, capsys):
    pipe = tiny_sign_recognition()
    pipe.save_pretrained(tmp_path / "model")
    argv = ["--task", "sign-recognition", "--checkpoint", str(tmp_path / "model"), "--datasets", corpus, "--split", "validation"]
    report = evaluate_checkpoint.main([*argv, "--train_datasets", corpus, "--device", "cpu"])
    written = {path.name: path.read_text() for path in (tmp_path / "model" / "evaluation-validation").iterdir()}
    assert set(written) == {"scores.json", "predictions.jsonl", "confusion.svg"}
    assert json.loads(written["scores.json"])["rows"].keys() == report["rows"].keys()
    assert set(report["rows"]) == {"system", "floor: most frequent labels", "floor: nearest class mean of mean latents"}
    lines = [json.loads(line) for line in written["predictions.jsonl"].splitlines()]
    assert [line["reference"] for line in lines] == [WORDS[index % 3] for index in range(5)]
    assert all(line["prediction"] == line["predictions"][0] and set(line["predictions"]) == set(WORDS) for line in lines)
    right = 20 * sum(line["prediction"] == line["reference"] for line in lines)
    assert f"5 clips, {right:.1f} % right" in written["confusion.svg"]
    printed = capsys.readouterr().out
    assert "| | top1 | top5 | top10 | top1_class" in printed and f"top1 {right:.2f}, 95 % interval" in printed


def test_a_checkpoint_of_another_task_is_refused(corpus, tiny_sign_to_text, tmp_path):
    tiny_sign_to_text().save_pretrained(tmp_path / "model")
    with pytest.raises(ValueError, match="--checkpoint '.*model' holds a model of type 'sign_to_text', expected 'sign_recognition'"):
        evaluate_checkpoint.main(["--task", "sign-recognition", "--checkpoint", str(tmp_path / "model"), "--datasets", corpus])


def test_two_systems_are_tested_on_the_clips_that_they_differ_on(tmp_path, capsys):
    """In any order; against the binomial distribution by hand: 5 and 1 of 6, two-sided, is 14 / 64."""
    rows = {"a": "xxxxxx" + "y" * 4, "b": "xyyyyy" + "y" * 4}
    truth = "yxxxxx" + "y" * 4  # five clips that only a knows
    for name, labels in rows.items():
        lines = [{"id": index, "prediction": label, "reference": true} for index, (label, true) in enumerate(zip(labels, truth))]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines[:: 1 if name == "a" else -1]))
    files = [str(tmp_path / f"{name}.jsonl") for name in "ab"]
    found = evaluate_checkpoint.main(["--task", "sign-recognition", "--compare", *files])
    assert (found["only_a"], found["only_b"], found["delta"]) == (5, 0, -50)
    assert found["p_value"] == 2 / 2**5 and "top1, B - A (b.jsonl minus a.jsonl): -50.00 (0 clips" in capsys.readouterr().out
    assert paired_top1_test([True] * 5 + [False], [False] * 5 + [True])["p_value"] == 14 / 64
    assert paired_top1_test([True], [True])["p_value"] == 1


def test_latents_are_read_whitened_unless_it_is_said_otherwise(corpus, sign_mae, tmp_path):
    for whitened in (True, False):
        folder = tmp_path / str(whitened)
        train_recognition.main(arguments(corpus, folder, "--sign_mae", sign_mae, "--whiten_latents", str(whitened).lower(), steps=1))
        model = AutoModel.from_pretrained(folder)
        latents = LatentStore.build(LabelledClips([corpus], "train", KeypointProcessor()), model.sign_mae, model.config.stride)
        read = torch.cat([torch.from_numpy(latents[index]) for index in range(len(latents))]) @ model.latent_whitening
        covariance = torch.cov(read.T)
        off_diagonal = covariance - covariance.diag().diag()
        assert bool(off_diagonal.abs().max() < 0.05 * covariance.diag().max()) == whitened
