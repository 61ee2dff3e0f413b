"""Where validation clips come from: what is named, or the training data's own validation split; nothing else, and never a test split."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from modeling_unigloR import SignMAE
from train import pretrain, train_recognition, train_sign_to_text
from train.data.data_arguments import find_validation
from train.engine.loading import load_model
from train.engine.trainers import TranslationTrainer, check_amount

from . import test_pretrain
from .test_segments import dataset_of
from .test_train_sign_to_text import arguments


@pytest.fixture
def without_validation(corpus, tmp_path):
    """A data set with the splits train and test."""
    folder = tmp_path / "bare"
    folder.mkdir()
    for split in ("train", "test"):
        shutil.copy(Path(corpus) / f"{split}-00000-of-00001.parquet", folder)
    return str(folder)


def test_the_validation_split_of_the_training_data_is_taken(corpus):
    entries, source = find_validation([corpus], None)
    name = Path(corpus).name
    assert entries == [corpus]
    assert source == {"from": "own split", "datasets": [name], "why": f"Validation: the split 'validation' of {name}."}


def test_without_one_nothing_is_evaluated_and_it_is_said(without_validation):
    entries, source = find_validation([without_validation], None)
    assert entries == [] and source["from"] == "none"
    assert "bare has no split 'validation', only" in source["why"] and "Name data with --validation" in source["why"]


def test_each_data_set_of_a_mix_gives_its_own(corpus, without_validation):
    entries, source = find_validation([{"path": corpus, "weight": 2}, without_validation, {"path": corpus, "split": "train"}], None)
    assert entries == [{"path": corpus}] and source["from"] == "own split"
    assert "bare has no split 'validation'" in source["why"]


@pytest.mark.parametrize(
    "spec, reason",
    [
        ({"path": "CORPUS", "split": "train+validation"}, "is trained on its split 'validation'"),
        ({"path": "CORPUS", "streaming": True}, "is streamed"),
        ({"path": "fingerspelling", "unit": "letter"}, "has letters only"),
        ("rows.parquet", "is one file"),
    ],
)
def test_data_that_have_no_clips_apart_from_training_are_not_validated_on(spec, reason, corpus):
    spec = {**spec, "path": spec["path"].replace("CORPUS", corpus)} if isinstance(spec, dict) else spec
    entries, source = find_validation([spec], None)
    assert entries == [] and reason in source["why"]


def test_fingerspelled_words_have_their_own():
    spec = {"path": "fingerspelling", "languages": ["ase"], "num_words": 10}
    assert find_validation([spec], None)[0] == [spec]


def test_a_test_split_is_only_taken_where_it_is_named_and_then_it_is_said(corpus, without_validation):
    assert find_validation([without_validation], None)[0] == []
    entries, source = find_validation([corpus], [{"path": corpus, "split": "test"}])
    assert entries == [{"path": corpus, "split": "test"}] and "it is a test split: scores on it are no test any more" in source["why"]


def test_a_data_set_that_is_missing_is_named(tmp_path):
    with pytest.raises(ValueError, match="Data set '.*nowhere' does not exist"):
        find_validation([str(tmp_path / "nowhere")], None)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="Data set '.*empty' cannot be read"):
        find_validation([str(tmp_path / "empty")], None)


def test_validation_of_the_config_file_is_not_that_of_other_data(corpus, sign_mae_dir, tmp_path, caplog):
    """`train_sign_to_text.py paper_sign_to_text.yaml --datasets rows` selected the model for my corpus on data/phoenix14t."""
    argv = arguments(corpus, tmp_path / "out", "--sign_mae", sign_mae_dir, steps=2)
    where = argv.index("--validation")
    Path(argv[0]).write_text(Path(argv[0]).read_text()[:-1] + ', "validation": ["data/phoenix14t"]}')
    with caplog.at_level("WARNING"):
        report = train_sign_to_text.main([*argv[:where], *argv[where + 2 :]])
    assert report["num_validation_clips"] == 5 and report["validation_data"]["from"] == "own split"
    assert report["validation_data"]["why"] in caplog.text and "eval_bleu4" in report["validation"]


def test_data_without_validation_train_to_the_end(without_validation, sign_mae_dir, tmp_path, caplog):
    argv = arguments(without_validation, tmp_path / "out", "--sign_mae", sign_mae_dir, steps=2)
    where = argv.index("--validation")
    with caplog.at_level("WARNING"):
        report = train_sign_to_text.main([*argv[:where], *argv[where + 2 :]])
    assert report["num_validation_clips"] == 0 and report["validation_data"]["from"] == "none" and "validation" not in report
    assert "No validation: nothing is evaluated while training" in caplog.text
    assert report["selection"]["why"] == "Trained to step 2 of 2 (epoch 0.6667 of 1). Nothing was evaluated, so the last weights are kept."


def test_the_config_files_own_data_keep_its_validation():
    data, *_ = train_recognition.parse(["paper_recognition.yaml", "--learning_rate", "1e-3"])
    assert data.validation == ["data/ksl_guide"]


# --- How much data ----------------------------------------------------------------------------------------------------------------


def training_arguments(tmp_path, **fields):
    return pretrain.UniGloRTrainingArguments(output_dir=str(tmp_path), use_cpu=True, **fields)


def test_fewer_clips_than_a_batch_are_refused_where_the_rest_is_left_out(tmp_path):
    """It ended in "args.max_steps must be set to a positive value if dataloader does not have a length, was -1"."""
    args = training_arguments(tmp_path, dataloader_drop_last=True)
    with pytest.raises(ValueError) as error:
        check_amount(args, 40)
    assert str(error.value).startswith("Found 40 clips an epoch, expected at least 64, a batch of all processes")
    assert "Lower --per_device_train_batch_size to 40, or give --dataloader_drop_last false." in str(error.value)


@pytest.mark.parametrize(
    "fields, num_items, message",
    [
        ({}, 0, "Found 0 clips to train on, expected at least 1"),
        ({"num_train_epochs": 0}, 100, "Found num_train_epochs=0, expected more than 0: there would be no step"),
    ],
)
def test_what_makes_no_step_is_refused(fields, num_items, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        check_amount(training_arguments(tmp_path, **fields), num_items)


def test_few_steps_are_said_in_one_line(tmp_path, caplog):
    """docs/custom_data.md's command made 50 steps of 88 clips, and nobody said so."""
    with caplog.at_level("WARNING"):
        check_amount(training_arguments(tmp_path, dataloader_drop_last=True), 88)
    assert "Few steps: 88 clips in batches of 64 make 1 step an epoch, 50 in all." in caplog.text and len(caplog.records) == 1


@pytest.mark.parametrize("fields, num_items", [({}, 64 * 20), ({"max_steps": 4}, 88)])
def test_enough_steps_and_those_that_were_asked_for_are_not_commented(fields, num_items, tmp_path, caplog):
    with caplog.at_level("WARNING"):
        check_amount(training_arguments(tmp_path, **fields), num_items)
    assert not caplog.records


def test_a_warm_up_that_is_longer_than_the_training_is_said(tmp_path, caplog):
    with caplog.at_level("WARNING"):
        check_amount(training_arguments(tmp_path, max_steps=50, warmup_steps=1000), 88)
    assert "The warm-up takes 1000 of 50 steps: the learning rate never reaches 0.0001." in caplog.text


def test_one_clip_is_refused_before_a_model_of_nan_is_made(tmp_path):
    """std(): degrees of freedom is <= 0, eval_mpjpe nan, and a latent_std of NaN in model.safetensors, rc 0."""
    dataset_of([60]).to_parquet(tmp_path / "one.parquet")
    one = (tmp_path / "one.parquet", tmp_path / "one.parquet")
    with pytest.raises(ValueError, match="Found 1 segment to train on, expected at least 2. Add clips."):
        pretrain.main(test_pretrain.arguments(one, tmp_path / "out", per_device_train_batch_size=1))
    assert not list((tmp_path / "out").rglob("*.safetensors"))


def test_two_clips_make_a_finite_model(tmp_path):
    dataset_of([60, 60]).to_parquet(tmp_path / "two.parquet")
    two = (tmp_path / "two.parquet", tmp_path / "two.parquet")
    pretrain.main(test_pretrain.arguments(two, tmp_path / "out", per_device_train_batch_size=2, max_steps=2))
    assert load_model(tmp_path / "out", SignMAE).latent_std.isfinite().all()


def test_latents_that_are_not_finite_leave_no_statistics_and_no_model(tmp_path, monkeypatch):
    dataset_of([60] * 4).to_parquet(tmp_path / "rows.parquet")
    rows = (tmp_path / "rows.parquet", tmp_path / "rows.parquet")
    monkeypatch.setattr(pretrain, "latents_of_training", lambda *args: torch.full((4, 16), float("nan")))
    with pytest.raises(ValueError, match="The latents of 4 training segments have no finite mean and spread: no model is saved"):
        pretrain.main(test_pretrain.arguments(rows, tmp_path / "out", max_steps=2))
    assert not (tmp_path / "out" / "model.safetensors").exists()


def test_a_stream_without_an_end_of_training_is_refused(tmp_path):
    dataset_of([60] * 4).to_parquet(tmp_path / "rows.parquet")
    rows = (json.dumps({"path": str(tmp_path / "rows.parquet"), "streaming": True}), "[]")
    with pytest.raises(ValueError, match="A streamed data set says no length, so an epoch has none. Give --max_steps"):
        pretrain.main(test_pretrain.arguments(rows, tmp_path / "out", max_steps=-1))


def test_weights_that_are_not_finite_are_not_saved(corpus, sign_mae_dir, tmp_path, monkeypatch):
    """They diverge in the last step, after which no loss tells."""
    real = TranslationTrainer.training_step

    def diverge(self, model, *args, **kwargs):
        loss = real(self, model, *args, **kwargs)
        next(parameter for parameter in model.parameters() if parameter.requires_grad).data.fill_(float("nan"))
        return loss

    monkeypatch.setattr(TranslationTrainer, "training_step", diverge)
    with pytest.raises(ValueError, match="The trained model has values that are not finite"):
        train_sign_to_text.main(arguments(corpus, tmp_path / "out", "--sign_mae", sign_mae_dir, steps=1))
    assert not (tmp_path / "out" / "model.safetensors").exists()
