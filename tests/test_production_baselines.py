"""Progressive Transformer and NSLP-G: what ends, masks and weighs a clip, against naive versions; trained and scored at a toy size."""

import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoModel

from experiments.baselines import producers
from experiments.baselines.frame_signing import frame_weights
from experiments.baselines.nslpg import NSLPG, SpatialVAE, SpatialVAEConfig
from experiments.baselines.progressive_transformer import ProgressiveTransformer, ProgressiveTransformerConfig
from experiments.workplace import Workplace
from modeling_unigloR import KeypointProcessor, keypoint_weights
from modeling_unigloR.keypoints_uniglor import point_index
from modeling_unigloR.modeling_layers_uniglor import mean_loss
from tests.conftest import TINY_ENCODER, TINY_TEXT, TINY_TEXT_ENCODER, assert_same_weights, random_signing, stopped_at
from train import train_judges
from train.data.clips import Clips
from train.train_text_to_sign import TextToSignArguments, make_tokenizer

NAMES = ("progressive_transformer", "nslpg")
STILL = dict(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
TEXT = TINY_TEXT_ENCODER | STILL | {"vocab_size": 12}
LENGTHS = (20, 33, 8)
IDS = torch.tensor([[1, 5, 6, 2, 0, 0], [1, 7, 8, 9, 10, 2], [1, 4, 2, 0, 0, 0]])


def make(name, seed=0, **fields):
    """A tiny model in eval mode, whose mean frame and lengths are those of the clips of `batch`."""
    torch.manual_seed(seed)
    keypoints = torch.from_numpy(random_signing(30))
    weighting = {"keypoint_weighting": fields.pop("keypoint_weighting", "none")}
    fields = TINY_ENCODER | STILL | {"text_config": TEXT, "max_frames": 40} | fields
    if name == "nslpg":
        vae = SpatialVAE(SpatialVAEConfig(hidden_size=32, latent_size=8, **weighting))
        vae.set_statistics(keypoints.mean(0), torch.ones(73))
        model = NSLPG.from_parts(vae, 0.5, **fields)
        torch.nn.init.normal_(model.latent_projection.weight)
        model.length_regulator.classifier.bias.data = torch.linspace(4, -4, 40)  # lengths about 20
    else:
        model = ProgressiveTransformer(ProgressiveTransformerConfig(**fields | weighting))
        model.set_statistics(keypoints.mean(0), torch.ones(73), 1 / 16)
        torch.nn.init.normal_(model.frame_head.weight, std=0.2)
        torch.nn.init.normal_(model.counter_head.weight, std=0.2)
    torch.nn.init.normal_(model.get_input_embeddings().weight)  # new ones say nearly the same of every text
    return model.eval()


def batch(chosen=(0, 1, 2)):
    items = []
    for index in chosen:
        mask = torch.ones(LENGTHS[index], 73)
        mask[::3, 30:40] = 0
        ids = IDS[index][IDS[index] != 0]
        items.append({"input_ids": ids, "keypoints": torch.from_numpy(random_signing(LENGTHS[index], index)), "keypoint_mask": mask})
    return producers.collate(items)


# --- Models -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*NAMES, "vae"])
def test_a_saved_model_comes_back_through_auto_model(name, tmp_path):
    model = make("nslpg" if name == "vae" else name, keypoint_weighting="fixed")
    model = model.vae if name == "vae" else model
    model.save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path)
    assert type(loaded) is type(model) and loaded.config.keypoint_weighting == "fixed"
    assert_same_weights(model, loaded)
    if name != "vae":
        signed = (each.eval().generate(IDS, (IDS != 0).long()).keypoints for each in (model, loaded))
        torch.testing.assert_close(*signed, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_padding_and_batching_change_neither_losses_nor_signing(name):
    model, whole = make(name, keypoint_weighting="adaptive"), batch()
    sums, counts = model(**whole).loss_sums, model.count_items(**whole)
    texts = whole["input_ids"], whole["attention_mask"]
    signed, with_length = model.generate(*texts), model.generate(*texts, num_frames=LENGTHS)
    for index in range(3):
        alone = batch([index])
        torch.testing.assert_close(model(**alone).loss_sums[0], sums[index], rtol=1e-4, atol=1e-4)
        assert model.count_items(**alone)[0].tolist() == counts[index].tolist()
        for lengths, together in ((None, signed), (LENGTHS[index], with_length)):
            again = model.generate(alone["input_ids"], num_frames=lengths)
            count = again.num_frames.item()
            assert count == together.num_frames[index] and not together.keypoints[index, count:].any()
            torch.testing.assert_close(again.keypoints[0], together.keypoints[index, :count], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_of_a_batch_is_the_sum_of_its_parts_shares(name):
    model, whole = make(name), batch()
    counts = model.count_items(**whole).sum(0)
    shares = [model(**batch([index]), num_items_in_batch=counts).loss for index in range(3)]
    torch.testing.assert_close(sum(shares), model(**whole).loss, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_is_learnt_by_heart(name):
    model, data = make(name).train(), batch()
    if name == "nslpg":
        segments = data["keypoints"][:2, :20], torch.ones(2, 20, 73)
        vae = model.vae.requires_grad_(True)
        learn(vae, lambda: vae(*segments).loss, 60, 0.1)
        vae.requires_grad_(False)
    learn(model, lambda: model(**data).loss, 80, 0.1)  # ran: a fortieth or less


def learn(model, loss_of_step, steps, share):
    optimizer = torch.optim.Adam([parameter for parameter in model.parameters() if parameter.requires_grad], lr=5e-3)
    first = None
    for _ in range(steps):
        loss = loss_of_step()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        first = loss.item() if first is None else first
    assert math.isfinite(loss.item()) and loss.item() < share * first
    assert all(parameter.grad is not None for parameter in model.parameters() if parameter.requires_grad)


@pytest.mark.parametrize("name", NAMES)
def test_what_cannot_be_signed_is_refused_in_one_line(name):
    model, data = make(name), batch()
    with pytest.raises(ValueError, match="Found an empty text in row 1, expected at least one word"):
        model.generate(torch.tensor([[1, 5, 2], [1, 2, 0]]), torch.tensor([[1, 1, 1], [1, 1, 0]]))
    with pytest.raises(ValueError, match="expected one int or one for each of 3 texts, each from 1 to max_frames=40"):
        model.generate(data["input_ids"], data["attention_mask"], num_frames=[5, 41, 3])
    with pytest.raises(ValueError, match="a clip of 33 frames, but the model has max_frames=30"):
        make(name, max_frames=30)(**data)


def test_points_that_no_training_clip_shows_are_put_on_their_anchors():
    for model in map(make, NAMES):
        owner = model.vae if hasattr(model, "vae") else model
        owner.keypoint_presence[50:] = 0  # the right hand
        signed = model.generate(IDS[1:2], num_frames=4).keypoints
        wrist = point_index("uniglor73")["right_wrist"]
        assert (signed[:, :, 50:72] == signed[:, :, wrist, None]).all() and not (signed[:, :, 27:50] == signed[:, :, 27:28]).all()


# --- Progressive Transformer ------------------------------------------------------------------------------------------------------


def test_the_counter_ends_a_clip_and_the_length_follows_its_steps():
    model = make("progressive_transformer")
    torch.nn.init.zeros_(model.counter_head.weight)
    for bias, expected in ((0.0, 16), (1.0, 8), (-0.5, 32), (-1.0, 40)):  # a mean step is 1 / 16; without one, max_frames ends the clip
        model.counter_head.bias.data.fill_(bias)
        signed = model.generate(IDS, (IDS != 0).long())
        assert signed.num_frames.tolist() == [expected] * 3 and signed.keypoints.shape[1] == expected


def test_a_set_length_is_kept_whatever_the_counter_says():
    model = make("progressive_transformer")
    signed = model.generate(IDS, (IDS != 0).long(), num_frames=[3, 9, 40])
    assert signed.num_frames.tolist() == [3, 9, 40] and not signed.keypoints[0, 3:].any() and signed.keypoints[1, 8].any()


@pytest.mark.parametrize("just_counter", [False, True])
def test_cached_decoding_equals_decoding_all_frames_again(just_counter):
    model = make("progressive_transformer", just_counter=just_counter)
    cached, naive = (model.generate(IDS, (IDS != 0).long(), use_cache=use_cache) for use_cache in (True, False))
    assert cached.num_frames.tolist() == naive.num_frames.tolist()
    torch.testing.assert_close(cached.keypoints, naive.keypoints, rtol=1e-4, atol=1e-4)


def test_what_is_signed_is_what_training_predicts_from_it():
    """Teacher forcing on a generated clip gives the same frames: both read the frame before, and the same counter."""
    model = make("progressive_transformer")
    signed = model.generate(IDS[:1, :4], num_frames=12).keypoints
    output = model(IDS[:1, :4], None, signed, torch.ones(1, 12, 73), torch.ones(1, 12))
    torch.testing.assert_close(output.keypoints, signed, rtol=1e-4, atol=1e-4)


def test_noise_is_for_training_alone_and_follows_the_models_own_errors():
    model, data = make("progressive_transformer"), batch()
    clean = model(**data).keypoints
    torch.testing.assert_close(model(**data).keypoints, clean)  # nothing is drawn
    model.train()
    torch.testing.assert_close(model(**data).keypoints, clean)  # no error was seen yet; now one is
    errors = (clean - data["keypoints"]).square() * data["keypoint_mask"][..., None]
    mean_square = errors.sum((0, 1)) / data["keypoint_mask"].sum((0, 1))[:, None]
    torch.testing.assert_close(model.error_variance, 0.02 * mean_square)
    noise = torch.randn(data["keypoints"].shape)
    torch.testing.assert_close(
        model.with_noise(data["keypoints"], noise), data["keypoints"] + 5 * model.error_variance.sqrt() * noise, rtol=1e-5, atol=1e-6
    )
    assert not torch.equal(model(**data).keypoints, clean)
    torch.testing.assert_close(model.eval()(**data).keypoints, clean)
    assert not make("progressive_transformer", noise_factor=0).train().with_noise(data["keypoints"]).sub(data["keypoints"]).any()


def test_the_frames_ahead_are_each_compared_with_their_own_truth():
    model, data = make("progressive_transformer", future_frames=3, keypoint_weighting="adaptive"), batch([0, 2])
    captured = {}
    model.frame_head.register_forward_hook(lambda module, inputs, output: captured.update(output=output))
    output = model(**data)
    frames = captured["output"].unflatten(-1, (3, 73, 2)) + model.frame_mean
    seen = data["keypoint_mask"] * data["frame_mask"][..., None]
    weights = frame_weights(data["keypoints"], seen, model.config)
    for clip, length in enumerate((20, 8)):
        total = count = 0.0
        for place in range(length):
            for ahead in range(3):
                if place + ahead < length:
                    error = (frames[clip, place, ahead] - data["keypoints"][clip, place + ahead]).square().sum(-1)
                    total += (error * weights[clip, place + ahead] * seen[clip, place + ahead]).sum().item()
                    count += 2 * seen[clip, place + ahead].sum().item()
        assert output.loss_sums[clip, 0].item() == pytest.approx(total, rel=1e-4)
        assert model.count_items(**data)[clip].tolist() == [count, length]


# --- NSLP-G -----------------------------------------------------------------------------------------------------------------------


def test_latents_decode_to_frames_and_diverge_from_a_gaussian_as_its_formula_says():
    vae = make("nslpg").vae
    keypoints = torch.from_numpy(np.stack([random_signing(15, seed) for seed in range(3)]))
    torch.nn.init.normal_(vae.log_variance_head.weight, std=0.1)
    output = vae(keypoints, torch.ones(3, 15, 73))
    mean, log_variance = vae.distribution(keypoints)
    own, standard = torch.distributions.Normal(mean, (log_variance / 2).exp()), torch.distributions.Normal(0.0, 1.0)
    torch.testing.assert_close(output.kl_loss, torch.distributions.kl_divergence(own, standard).sum(-1).mean())
    torch.testing.assert_close(output.reconstruction, vae.decode(mean))  # nothing is drawn in eval mode
    noise = torch.randn(3, 15, 8)
    torch.testing.assert_close(vae(keypoints, torch.ones(3, 15, 73), noise=noise).reconstruction, vae.decode(own.mean + own.stddev * noise))
    assert vae.decode(100 * torch.randn(50, 8)).isfinite().all() and vae.decode(torch.zeros(8)).shape == (73, 2)


def test_the_autoencoder_stays_as_it_was_trained():
    model = make("nslpg").train()
    assert not model.vae.training and not any(parameter.requires_grad for parameter in model.vae.parameters())


# --- Weights (Tab 5b) -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weighting", ["none", "fixed", "adaptive"])
def test_frames_are_weighted_as_sign_mae_weighs_their_window(weighting):
    config, data = SpatialVAEConfig(keypoint_weighting=weighting), batch()
    seen = data["keypoint_mask"] * data["frame_mask"][..., None]
    weights = frame_weights(data["keypoints"], seen, config)
    for clip, length in enumerate(LENGTHS):
        for start in range(0, length, 15):
            window = slice(start, min(start + 15, length))
            expected = keypoint_weights(data["keypoints"][clip : clip + 1, window], seen[clip : clip + 1, window], config)[0, 0]
            torch.testing.assert_close(weights[clip, window], expected.expand(window.stop - start, -1))
    body, face, hand = weights[0, 0, 0], weights[0, 0, 10], weights[0, 0, 60]
    if weighting == "adaptive":
        assert body == pytest.approx(1, abs=1e-5) and face != 1 and face != hand and not torch.equal(weights[0, 0], weights[0, 15])
    else:
        assert [body, face, hand] == pytest.approx([1, 1.17, 1.18] if weighting == "fixed" else [1, 1, 1])


@pytest.mark.parametrize("name", [*NAMES, "vae"])
def test_weights_change_the_loss_and_not_what_it_is_divided_by(name):
    data, losses = batch(), {}
    for weighting in ("none", "fixed", "adaptive"):
        model = make("nslpg" if name == "vae" else name, keypoint_weighting=weighting)
        given = {"keypoints": data["keypoints"][:2, :15], "keypoint_mask": data["keypoint_mask"][:2, :15]} if name == "vae" else data
        model = model.vae if name == "vae" else model
        losses[weighting] = model(**given).keypoint_loss.item()
        terms, counts = model(**given).loss_sums[:, :1], model.count_items(**given)[:, :1]
        assert mean_loss(terms, counts).item() == pytest.approx(losses[weighting], rel=1e-5)
    assert losses["none"] < losses["fixed"] < 1.18 * losses["none"] and len(set(losses.values())) == 3


# --- Trained and scored -----------------------------------------------------------------------------------------------------------

TOY = {"steps": 4, "rates": [1e-3], "seeds": 1}
TOY["model"] = TINY_ENCODER | {"text_config": TINY_TEXT_ENCODER, "max_frames": 60, "per_device_train_batch_size": 4, "codebook_size": 8}


@pytest.fixture
def producer(corpus, sign_mae_dir, tmp_path):
    """A factory of `Producer`s of a toy size."""
    files = {part: Path(corpus, f"{part}-00000-of-00001.parquet") for part in ("train", "validation", "test")}

    def make_producer(name="progressive_transformer", weights="none", place="place", **sizes):
        return producers.Producer(Workplace(None, tmp_path / place), files, name, TOY | sizes, Path(sign_mae_dir), weights)

    return make_producer


def test_glosses_are_the_source_where_the_name_says_so(producer, corpus):
    clips = Clips([corpus], "train", KeypointProcessor())
    assert producer("progressive_transformer").sources(clips) == clips.texts
    assert producer("progressive_transformer_gloss").sources(clips) == clips.glosses


def test_missing_glosses_are_refused_before_anything_is_trained(producer, tmp_path, monkeypatch):
    monkeypatch.setattr(producers, "train", None)
    made = producer()
    table = pq.read_table(made.files["train"])
    glosses = pa.array([None, *table["gloss"].to_pylist()[1:]], pa.string())
    pq.write_table(table.set_column(table.column_names.index("gloss"), "gloss", glosses), tmp_path / "without.parquet")
    files = made.files | {"train": tmp_path / "without.parquet"}
    with pytest.raises(ValueError, match="progressive_transformer_gloss signs glosses, but 1 of 12 clips have none, the first 'train-0'"):
        producers.reports(made.place, files, "progressive_transformer_gloss", TOY, made.sign_mae, [])
    with pytest.raises(ValueError, match="without.parquet has clips without glosses, by which the learning rate is chosen"):
        producers.reports(made.place, files, "nslpg", TOY | {"rates": [1e-3, 2e-3]}, made.sign_mae, [])


def test_unknown_names_and_clips_that_are_too_long_are_refused(producer, corpus, sign_mae_dir, tmp_path):
    with pytest.raises(ValueError, match="expected one of progressive_transformer, progressive_transformer_gloss, nslpg, and of none"):
        producers.reports(None, {}, "nslpg", TOY, sign_mae_dir, [], weights="some")
    clips = Clips([corpus], "train", KeypointProcessor())
    tokenizer = make_tokenizer(TextToSignArguments(), clips.texts)
    with pytest.raises(ValueError, match="has 35 frames, but the model has max_frames=34. Leave the clip out, or raise max_frames."):
        producers.FramesDataset(clips, clips.texts, tokenizer, 34)


def test_a_training_that_was_killed_goes_on_as_if_it_had_not_been(producer, monkeypatch):
    monkeypatch.setattr(producers, "SAVE_STEPS", 2)
    whole = producers.load(producer().trained(1e-3, 0))[0]
    killed = producer(place="killed")
    with stopped_at(3):
        killed.trained(1e-3, 0)
    assert_same_weights(whole, producers.load(killed.trained(1e-3, 0))[0])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["progressive_transformer_gloss", "nslpg"])
def test_a_baseline_is_scored_in_the_rows_of_text_to_sign_and_only_once(name, producer, corpus, sign_mae_dir, tmp_path, monkeypatch):
    steps = [
        "--max_steps",
        "2",
        "--per_device_train_batch_size",
        "4",
        "--eval_strategy",
        "no",
        "--save_strategy",
        "no",
        "--use_cpu",
        "true",
    ]
    steps += ["--load_best_model_at_end", "false", "--early_stopping_patience", "null", "--max_new_tokens", "6"]
    given = ["--datasets", corpus, "--output_dir", str(tmp_path / "judges"), "--sign_mae", sign_mae_dir, "--seeds", "0"]
    train_judges.main([*given, "--text_config", str(TINY_TEXT), *steps])
    made, judges = producer(name, "adaptive"), [tmp_path / "judges" / "0"]
    arguments = made.place, made.files, name, TOY | {"rates": [1e-3, 2e-3, 4e-3], "seeds": 2}, Path(sign_mae_dir), judges, "adaptive"
    found, rate, facts = producers.reports(*arguments)
    rows = ["system, length=predicted", "system, length=reference", "ceiling: real keypoints"]
    rows += ["ceiling: oracle latents"] if name == "nslpg" else []
    assert list(found[0]["rows"])[: len(rows)] == rows and "floor: phrases of training clips, stitched" in found[0]["panel"]
    system = found[1]["panel"]["system, length=predicted"]
    assert {"lcs_f", "speed", "bleu4", "dtw_hands", "frechet"} <= set(system) and system["diversity"] == 0 and system["num_scored"] == 5
    assert found[0]["panel"]["ceiling: real keypoints"]["speed"] == 1 and {"bias", "predicted_p50"} <= set(found[0]["lengths"])
    assert found[0]["rows"]["system, length=predicted"]["num_judges"] == 1 and "oracle" in found[0]["pose"] or name != "nslpg"
    assert facts["steps"] == 4 and facts["parameters"] > 10_000 and facts["seconds"] > 0 and ("vae_seconds" in facts) == (name == "nslpg")
    monkeypatch.setattr(producers, "train", None)  # all is kept
    assert producers.reports(*arguments) == (found, rate, facts)
