"""The real script of text-to-sign, on tiny data: what it leaves, exact resume, targets, scores, the judge that selects."""

import json

import numpy as np
import pytest
import torch
from transformers import AutoModel, BertConfig, pipeline

from modeling_unigloR import KeypointProcessor, SignMAEEncoderModel
from train import train_text_to_sign
from train.data.clips import Clips, LatentStore
from train.metrics.production import latent_scores

from .conftest import CODES_FLOW, TEXTS, TINY_DECODER, TINY_TEXT_ENCODER, stopped_at
from .test_segments import dataset_of

LENGTHS = [14, 15, 16, 30, 47, 60]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Two canonical data sets with texts, as Parquet files: (training, validation)."""
    folder = tmp_path_factory.mktemp("corpus")
    paths = folder / "train.parquet", folder / "validation.parquet"
    for path, lengths in zip(paths, (LENGTHS * 2, [31, 45, 60])):
        rows = dataset_of(lengths).map(lambda row, index: {"text": TEXTS[index % len(TEXTS)]}, with_indices=True)
        rows.to_parquet(path)
    return paths


@pytest.fixture
def sign_mae(tiny_sign_mae, tmp_path):
    """Folder of a tiny SignMAE and its processor."""
    model = tiny_sign_mae()
    model.set_latent_statistics(torch.zeros(16), torch.ones(16))
    model.save_pretrained(tmp_path / "sign-mae")
    KeypointProcessor().save_pretrained(tmp_path / "sign-mae")
    return tmp_path / "sign-mae"


def arguments(corpus, sign_mae, output_dir, **fields):
    usual = dict(
        output_dir=output_dir, datasets=corpus[0], validation=corpus[1], sign_mae=sign_mae, text_model="null", max_steps=4,
        text_config=json.dumps(TINY_TEXT_ENCODER), per_device_train_batch_size=4, learning_rate=1e-3, eval_strategy="steps", eval_steps=2,
        save_strategy="steps", save_steps=2, logging_steps=1, use_cpu=True, disable_tqdm=True, early_stopping_patience="null",
    )  # fmt: skip
    return ["paper_text_to_sign.yaml"] + [
        word for key, value in (usual | TINY_DECODER | fields).items() for word in (f"--{key}", str(value))
    ]


def test_four_steps_leave_a_folder_that_signs_and_a_report(corpus, sign_mae, tmp_path):
    report = train_text_to_sign.main(arguments(corpus, sign_mae, tmp_path / "out"))
    assert report["num_train_clips"] == 12 and report["num_validation_clips"] == 3 and report["steps"] == 4
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == report
    assert report["selection"]["metric"] == "latent_frechet" and report["selection"]["tie_breakers"] == ["loss"]
    assert report["selection"]["kept_step"] in (2, 4) and report["validation_data"]["from"] == "named"
    assert {"eval_latent_frechet", "eval_latent_mse", "eval_latent_variance_ratio", "eval_length_error"} <= set(report["validation"])
    assert not [name for name in report["validation"] if "r2" in name]
    assert report["verdict"] == ["Nobody has read what it signs yet, so what it is worth is open."]
    answer = pipeline("text-to-sign", model=str(tmp_path / "out"), device="cpu")(TEXTS[0], num_segments=2)
    assert answer["keypoints"].shape == (30, 73, 2) and np.isfinite(answer["keypoints"]).all()
    assert not list((tmp_path / "out").rglob("*.bin"))
    assert str(tmp_path) not in (tmp_path / "out" / "config.json").read_text()


@pytest.mark.parametrize("last_segment, most", [("hold", 5), ("drop", 4)])
def test_auto_makes_as_many_queries_as_the_longest_clip_has_segments(corpus, sign_mae, tmp_path, last_segment, most):
    (tmp_path / "data").mkdir()
    longer = dataset_of([15, 73]).map(lambda row: {"text": TEXTS[0]})
    longer.to_parquet(tmp_path / "data" / "train.parquet")
    fields = dict(max_segments="auto", last_segment=last_segment, max_steps=1, eval_strategy="no", load_best_model_at_end="false")
    argv = arguments((tmp_path / "data" / "train.parquet", "[]"), sign_mae, tmp_path / "out", **fields)
    assert train_text_to_sign.parse(argv)[1]["max_segments"] == "auto"
    train_text_to_sign.main(argv)
    model = AutoModel.from_pretrained(tmp_path / "out")
    assert model.config.max_segments == most and model.queries.shape == (most, 16)


def test_auto_holds_for_validation_clips_too(corpus, sign_mae, tmp_path):
    train_text_to_sign.main(arguments(corpus, sign_mae, tmp_path / "out", max_segments="auto", max_steps=1, eval_steps=1, save_steps=1))
    assert AutoModel.from_pretrained(tmp_path / "out").config.max_segments == 4  # of 60 frames


def test_codes_are_fitted_and_trained_and_the_loss_selects(corpus, sign_mae, tmp_path):
    argv = arguments(corpus, sign_mae, tmp_path / "out", **CODES_FLOW)
    report = train_text_to_sign.main(argv)
    assert report["selection"]["metric"] == "loss" and report["codes"]["num_latents"] == 28
    assert {"eval_loss", "eval_latent_frechet", "eval_length_error"} <= set(report["validation"])
    sign = pipeline("text-to-sign", model=str(tmp_path / "out"), device="cpu")
    one, two = sign(TEXTS[0], num_segments=2, num_samples=2, seed=0)
    assert np.isfinite(one["keypoints"]).all() and not np.allclose(one["keypoints"], two["keypoints"])
    with pytest.raises(ValueError, match="Found 28 latents in the training clips, but codebooks of 29 codes"):
        train_text_to_sign.main(arguments(corpus, sign_mae, tmp_path / "other", **CODES_FLOW | {"codebook_size": 29}))


def test_resuming_a_sampling_model_gives_the_same_weights(corpus, sign_mae, tmp_path):
    """An evaluation lies between: what it draws must not change what training draws."""
    train_text_to_sign.main(arguments(corpus, sign_mae, tmp_path / "whole", **CODES_FLOW))
    with stopped_at(3):
        train_text_to_sign.main(arguments(corpus, sign_mae, tmp_path / "parts", **CODES_FLOW))
    train_text_to_sign.main(arguments(corpus, sign_mae, tmp_path / "parts", **CODES_FLOW, resume_from_checkpoint="true"))
    whole, parts = (AutoModel.from_pretrained(tmp_path / name).state_dict() for name in ("whole", "parts"))
    for name, value in whole.items():
        torch.testing.assert_close(parts[name], value, rtol=0, atol=0, msg=name)


def test_the_frozen_decoder_is_the_sign_maes_after_training(corpus, sign_mae, tmp_path):
    train_text_to_sign.main(arguments(corpus, sign_mae, tmp_path / "out", keypoint_loss_weight=1.0))
    before, after = AutoModel.from_pretrained(sign_mae).state_dict(), AutoModel.from_pretrained(tmp_path / "out").sign_mae.state_dict()
    for name, value in after.items():
        assert torch.equal(value, before[name]), name


def test_resuming_after_two_steps_gives_the_same_weights(corpus, sign_mae, tmp_path):
    """In the middle of an epoch and across one (3 batches make one), with dropout."""
    train_text_to_sign.main(arguments(corpus, sign_mae, tmp_path / "whole", max_steps=6))
    with stopped_at(3):
        train_text_to_sign.main(arguments(corpus, sign_mae, tmp_path / "parts", max_steps=6))
    train_text_to_sign.main(arguments(corpus, sign_mae, tmp_path / "parts", max_steps=6, resume_from_checkpoint="true"))
    whole, parts = (AutoModel.from_pretrained(tmp_path / name).state_dict() for name in ("whole", "parts"))
    for name, value in whole.items():
        torch.testing.assert_close(parts[name], value, rtol=0, atol=0, msg=name)


def test_a_pretrained_text_encoder_is_trained_with_its_tokenizer_or_frozen(corpus, sign_mae, tmp_path):
    data = train_text_to_sign.TextToSignArguments()
    tokenizer = train_text_to_sign.make_tokenizer(data, TEXTS)
    text_model = AutoModel.from_config(BertConfig(**TINY_TEXT_ENCODER, vocab_size=len(tokenizer)))
    text_model.save_pretrained(tmp_path / "text")
    tokenizer.save_pretrained(tmp_path / "text")
    for frozen in (False, True):
        fields = {"text_model": tmp_path / "text", "freeze_text_model": frozen, "text_config": "null", "overwrite_output_dir": True}
        train_text_to_sign.main(arguments(corpus, sign_mae, tmp_path / "out", max_steps=2, **fields))
        trained = AutoModel.from_pretrained(tmp_path / "out").text_model.state_dict()
        same = all(torch.equal(value, trained[name]) for name, value in text_model.state_dict().items() if name in trained)
        assert same == frozen


def test_without_validation_it_trains_to_the_end(corpus, sign_mae, tmp_path):
    assert "validation" not in train_text_to_sign.main(arguments(corpus, sign_mae, tmp_path / "out", validation="[]"))


# --- Targets ----------------------------------------------------------------------------------------------------------------------


def clips_and_encoder(corpus, sign_mae):
    return Clips([str(corpus[0])], "train", KeypointProcessor()), SignMAEEncoderModel.from_pretrained(sign_mae)


@pytest.mark.parametrize("last_segment", ["hold", "drop"])
def test_targets_are_standardised_latents_of_segments_end_to_end(last_segment, corpus, sign_mae, tiny_text_to_sign):
    clips, encoder = clips_and_encoder(corpus, sign_mae)
    model = tiny_text_to_sign(last_segment=last_segment).model
    store = LatentStore.build(clips, encoder, 15, hold_last=last_segment == "hold")
    assert store.lengths.tolist() == model.num_segments(torch.from_numpy(clips.num_frames)).tolist()
    for index in range(len(LENGTHS)):
        keypoints = torch.from_numpy(clips.keypoints(index)[0])
        held = torch.cat([keypoints, keypoints[-1:].expand(15, -1, -1)])
        expected = [encoder.encode(held[None, 15 * n : 15 * n + 15])[0] for n in range(len(store[index]))]
        torch.testing.assert_close(torch.from_numpy(store[index]), torch.stack(expected), atol=1e-5, rtol=1e-5)


def test_held_and_dropped_targets_do_not_share_a_cache(corpus, sign_mae):
    clips, encoder = clips_and_encoder(corpus, sign_mae)
    held, dropped = (LatentStore.build(clips, encoder, 15, hold_last=hold) for hold in (True, False))
    assert held.lengths.sum() > dropped.lengths.sum()


# --- Scores -----------------------------------------------------------------------------------------------------------------------


def sums_of(predicted, true):
    values = (predicted - true) ** 2, predicted, predicted**2, true, true**2
    return np.stack([value.sum(0) for value in values])[None]


def test_latent_scores_tell_the_truth_from_the_mean_and_from_other_latents(rng):
    true = rng.normal(0.3, [1.0, 2.0, 0.5], (50, 3))
    mean = latent_scores(sums_of(np.broadcast_to(true.mean(0), true.shape), true), 50)
    assert mean["latent_frechet"] == pytest.approx(1) and mean["latent_variance_ratio"] == pytest.approx(0, abs=1e-9)
    exact = latent_scores(sums_of(true, true), 50)
    assert exact["latent_variance_ratio"] == pytest.approx(1) and exact["latent_mse"] == exact["latent_bias"] == 0
    others = latent_scores(sums_of(true[::-1], true), 50)  # the same latents in other places
    assert exact["latent_frechet"] == pytest.approx(0, abs=1e-12) and others["latent_frechet"] == pytest.approx(0, abs=1e-12)
    predicted = true + rng.normal(0, 0.2, true.shape)
    found = latent_scores(sums_of(predicted, true), 50)
    by_dimension = (predicted.mean(0) - true.mean(0)) ** 2 + (predicted.std(0) - true.std(0)) ** 2
    assert found["latent_frechet"] == pytest.approx(by_dimension.sum() / true.var(0).sum())
    assert found["latent_mse"] == pytest.approx(((predicted - true) ** 2).mean())


# --- The judge --------------------------------------------------------------------------------------------------------------------


def test_a_judge_reads_the_generated_signing_and_selects(corpus, sign_mae, tiny_sign_to_text, tmp_path, monkeypatch):
    judge = tiny_sign_to_text(sign_encoder="frames")
    judge.save_pretrained(tmp_path / "judge")
    trainers, trainer_class = [], train_text_to_sign.TextToSignTrainer
    monkeypatch.setattr(
        train_text_to_sign, "TextToSignTrainer", lambda *args, **kwargs: trainers.append(trainer_class(*args, **kwargs)) or trainers[-1]
    )
    report = train_text_to_sign.main(arguments(corpus, sign_mae, tmp_path / "out", judge=tmp_path / "judge"))
    trainer = trainers[0]
    assert report["selection"]["metric"] == "bleu4" and report["selection"]["tie_breakers"] == ["chrf", "loss"]
    assert trainer.args.metric_for_best_model == "bleu4" and {"eval_bleu4", "eval_cer", "eval_latent_frechet"} <= set(report["validation"])
    assert not any("judge" in name for name, _ in trainer.model.named_parameters())
    assert "one constant sentence" in report["floors"] and report["verdict"]


def test_the_judge_reads_as_far_as_its_positions_reach(tiny_sign_to_text, tiny_text_to_sign, tmp_path):
    judge = tiny_sign_to_text(sign_encoder="frames").model
    args = train_text_to_sign.TextToSignTrainingArguments(
        output_dir=str(tmp_path), use_cpu=True, eval_strategy="no", load_best_model_at_end=False
    )
    pipe = tiny_text_to_sign(max_segments=12)
    trainer = train_text_to_sign.TextToSignTrainer(model=pipe.model, args=args, judge=judge, judge_tokenizer=pipe.tokenizer)
    generated = pipe.model.generate(**pipe.tokenizer(TEXTS, padding=True, return_tensors="pt"), num_segments=[1, 12, 2])
    mask = (torch.arange(180) < generated.num_frames[:, None]).long()
    expected = judge.generate(generated.keypoints[:, :128], mask[:, :128])
    assert generated.keypoints.shape[1] == 180 and torch.equal(trainer._read_back(generated), expected)


def test_a_judge_that_reads_segments_is_refused(corpus, sign_mae, tiny_sign_to_text, tmp_path):
    tiny_sign_to_text().save_pretrained(tmp_path / "judge")
    with pytest.raises(ValueError, match="is no frame-level reader"):
        train_text_to_sign.main(arguments(corpus, sign_mae, tmp_path / "out", judge=tmp_path / "judge"))


def test_a_judge_of_another_frame_rate_is_refused(corpus, sign_mae, tiny_sign_to_text, tmp_path):
    judge = tiny_sign_to_text(sign_encoder="frames")
    judge.feature_extractor.fps = 50.0
    judge.save_pretrained(tmp_path / "judge")
    with pytest.raises(ValueError, match="reads fps=50.0, but the SignMAE gives 25.0"):
        train_text_to_sign.main(arguments(corpus, sign_mae, tmp_path / "out", judge=tmp_path / "judge"))


# --- Bad input --------------------------------------------------------------------------------------------------------------------


def test_clips_of_more_segments_than_queries_are_refused_by_name(corpus, sign_mae, tmp_path):
    with pytest.raises(ValueError, match=r"4 of 12 clips are too long, the longest .*: found 4 segments, but the model has max_segments=3"):
        train_text_to_sign.main(arguments(corpus, sign_mae, tmp_path / "out", max_segments=3))


def test_texts_of_more_tokens_than_positions_are_refused_by_name(corpus, sign_mae, tmp_path):
    text_config = json.dumps(TINY_TEXT_ENCODER | {"max_position_embeddings": 6})
    with pytest.raises(ValueError, match="8 of 12 clips are too long, the longest .*: found 7 tokens, but the text model reads 6"):
        train_text_to_sign.main(arguments(corpus, sign_mae, tmp_path / "out", text_config=text_config))


def test_without_data_or_a_sign_mae_it_says_what_to_give(corpus, sign_mae, tmp_path):
    with pytest.raises(ValueError, match="No data set to train on"):
        train_text_to_sign.parse(arguments(corpus, sign_mae, tmp_path, datasets="[]"))
    with pytest.raises(ValueError, match="No SignMAE to sign with"):
        train_text_to_sign.parse(arguments(corpus, "null", tmp_path))


@pytest.mark.parametrize("config", ["paper_text_to_sign.yaml", "demo_text_to_sign.yaml"])
def test_the_configs_hold_only_fields_that_exist(config):
    data, model_fields, args = train_text_to_sign.parse([config])
    assert data.datasets and args.metric_for_best_model == "latent_frechet" and not args.greater_is_better
    assert model_fields["max_segments"] in (32, 128)
