"""Text-to-sign by codes and flow: what is fitted, what is learned, what is sampled, what is refused."""

import json

import numpy as np
import pytest
import torch
from transformers import AutoModel, pipeline

from modeling_unigloR import TextToSignConfig
from modeling_unigloR.modeling_latent_codes import choose, guided
from tests.conftest import CODES_FLOW, TEXTS
from tests.test_text_to_sign import batch
from train.data.latent_codes import fit_codes


@pytest.fixture
def model(tiny_text_to_sign):
    return tiny_text_to_sign(**CODES_FLOW).model


class Latents(list):
    """Latents of clips as a `LatentStore` gives them."""

    @property
    def lengths(self):
        return np.array([len(clip) for clip in self])


# --- Components and codes -----------------------------------------------------------------------------------------------------------


def test_components_are_given_back_and_codes_leave_a_remainder(model):
    codes, latents = model.latent_decoder.codes, torch.randn(2, 4, 16)
    components = codes.components(latents)
    torch.testing.assert_close(codes.latents(components), latents, atol=1e-5, rtol=1e-5)
    chosen, remainder = codes.encode(components)
    assert chosen.shape == (2, 4, 2) and remainder.shape == (2, 4, 16)
    torch.testing.assert_close(codes.vectors(chosen) + remainder * codes.remainder_scales, components, atol=1e-5, rtol=1e-5)


def test_each_code_is_the_nearest_to_what_those_before_it_leave(model):
    codes = model.latent_decoder.codes
    components = torch.randn(5, 16)
    chosen, _ = codes.encode(components)
    for left, found in zip(components, chosen.tolist()):
        for codebook, code in zip(codes.codebooks, found):
            assert code == min(range(len(codebook)), key=lambda index: float((left - codebook[index]).norm()))
            left = left - codebook[code]


def test_codes_are_fitted_on_latents_that_lie_about_a_few_places(tiny_text_to_sign):
    model = tiny_text_to_sign(latent_decoder="codes_flow", codebook_size=3, num_codebooks=1, latent_components=4).model
    rng = np.random.default_rng(0)
    places = rng.normal(0, 1, (3, 16)) * 4
    latents = Latents((places[rng.integers(3, size=20)] + rng.normal(0, 0.05, (20, 16))).astype(np.float32) for _ in range(10))
    facts = fit_codes(model, latents)
    assert facts["num_latents"] == 200 and facts["kept_by_components"] > 0.99 and facts["kept_by_codes"] > 0.8
    codes, values = model.latent_decoder.codes, torch.from_numpy(np.concatenate(latents))
    components = codes.components(values)
    assert components.shape == (200, 4) and components.mean(0).abs().max() < 1e-4
    assert float(components.var(0, correction=0).mean()) == pytest.approx(1, abs=1e-3)
    _, remainder = codes.encode(components)
    torch.testing.assert_close(remainder.std(0, correction=0), torch.ones(4), atol=1e-3, rtol=1e-3)


def test_codebooks_that_are_larger_than_what_fits_them_are_refused(model):
    with pytest.raises(
        ValueError, match=r"^Found 6 latents in the training clips, but codebooks of 8 codes, expected [^\n]*smaller codebook_size\.$"
    ):
        fit_codes(model, Latents(np.zeros((3, 16), np.float32) for _ in range(2)))


def test_a_model_whose_codes_were_never_fitted_says_so(model):
    model.latent_decoder.codes.codebooks.zero_()
    inputs, targets = batch()
    for call in (lambda: model(**inputs, **targets), lambda: model.generate(**inputs)):
        with pytest.raises(ValueError, match="The codes of this model were not fitted yet. Call set_codes first"):
            call()


@pytest.mark.parametrize("wrong", [{"scales": torch.zeros(16)}, {"codebooks": torch.full((2, 8, 16), torch.nan)}, {"mean": torch.zeros(4)}])
def test_codes_that_cannot_be_are_refused(wrong, model):
    right = {"mean": torch.zeros(16), "axes": torch.eye(16), "scales": torch.ones(16), "codebooks": torch.ones(2, 8, 16)}
    with pytest.raises(ValueError, match="^Found component_|^Found codebooks"):
        model.set_codes(**(right | {"remainder_scales": torch.ones(16)} | wrong))


# --- Training -----------------------------------------------------------------------------------------------------------------------


def test_the_losses_are_those_of_each_segment_by_itself(model):
    inputs, targets = batch()
    noise = torch.randn(2, 2, 4, 17)
    output = model(**inputs, **targets, noise=noise)
    code_errors, flow_errors = [], []
    for text, count in enumerate((4, 2)):
        tokens = int(inputs["attention_mask"][text].sum())
        alone = {"input_ids": inputs["input_ids"][text : text + 1, :tokens], "latents": targets["latents"][text : text + 1, :count]}
        single = model(**alone, noise=noise[:, text : text + 1, :count])
        code_errors.append(single.code_loss * count)
        flow_errors.append(single.flow_loss * count)
    torch.testing.assert_close(output.code_loss, sum(code_errors) / 6, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(output.flow_loss, sum(flow_errors) / 6, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(output.loss, output.code_loss + output.flow_loss + output.length_loss)


def test_the_flow_is_asked_for_the_velocity_towards_the_data(model):
    flow = model.latent_decoder.flow
    condition, data, noise = torch.randn(1, 1, 16), torch.randn(1, 1, 16), torch.randn(1, 1, 1, 17)
    time = noise[..., -1:].sigmoid()
    points = time * data + (1 - time) * noise[..., :-1]
    expected = flow(points, flow.modulations(condition, time))
    velocity = (expected - points) / (1 - time)
    torch.testing.assert_close(
        flow.error(condition, data, noise), (velocity - (data - noise[..., :-1])).square().mean((0, -1)), rtol=1e-3, atol=1e-4
    )


def test_a_segment_is_predicted_from_those_before_it_alone(model):
    inputs, targets = batch((6,), (4,))
    changed = targets["latents"].clone()
    changed[:, 2:] += 1
    decoder = model.latent_decoder
    _, memory, memory_mask = model.encode_text(**inputs)
    memory, lengths = model.memory_projection(memory), torch.tensor([4])
    first, second = (
        decoder.states(hidden, memory, decoder.text_mask(hidden, memory, memory_mask))
        for latents in (targets["latents"], changed)
        for hidden in [decoder.embed(decoder.codes.components(latents)[:, :-1], decoder.place_embeddings(lengths, 4))]
    )
    torch.testing.assert_close(first[:, :3], second[:, :3])
    assert not torch.allclose(first[:, 3], second[:, 3], atol=1e-3)


def test_training_hides_words_between_the_first_and_the_last_and_whole_texts(tiny_text_to_sign):
    model = tiny_text_to_sign(**CODES_FLOW, word_dropout=0.9, text_dropout=0.5).model
    inputs, _ = batch((6, 4))
    torch.manual_seed(0)
    masks = torch.stack([model.hide_words(**inputs) for _ in range(20)])
    assert masks[:, 0, [0, 5]].all() and masks[:, 1, [0, 3]].all() and not masks[:, 1, 4:].any()
    assert masks[:, 0, 1:5].float().mean() < 0.4
    memory = torch.ones(40, 3, 16)
    hidden = model.latent_decoder.train().hide_texts(memory)
    is_null = (hidden == model.latent_decoder.null_memory).all(-1)
    assert 5 < int(is_null.all(1).sum()) < 35 and torch.equal(is_null.any(1), is_null.all(1))
    assert torch.equal(model.latent_decoder.eval().hide_texts(memory), memory)


def test_every_trainable_parameter_gets_a_gradient(tiny_text_to_sign):
    for fields in ({}, {"text_dropout": 0}, {"num_codebooks": 1, "latent_components": 4}):
        model = tiny_text_to_sign(**CODES_FLOW | fields).model.train()
        inputs, targets = batch()
        model(**inputs, **targets).loss.backward()
        assert not [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]


def test_it_learns_the_codes_of_a_batch_and_signs_them(tiny_text_to_sign):
    fields = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "text_dropout": 0, "word_dropout": 0, "history_noise": 0}
    model = tiny_text_to_sign(**CODES_FLOW, **fields, code_smoothing=0).model
    inputs, targets = batch((6, 5, 4, 6), (4, 2, 3, 1))
    optimizer = torch.optim.AdamW([p for p in model.train().parameters() if p.requires_grad], lr=1e-2)
    losses = []
    for _ in range(100):
        output = model(**inputs, **targets)
        losses.append(output.code_loss.item())
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
    assert losses[-1] < losses[0] / 5
    generated = model.eval().generate(**inputs, temperature=0)
    assert generated.num_segments.tolist() == [4, 2, 3, 1]
    real = targets["latent_mask"].bool()
    codes = model.latent_decoder.codes
    signed, true = (codes.components(latents[real]) for latents in (generated.latents, targets["latents"]))
    error = (signed - true).square().mean() / true.square().mean()
    assert error < 0.6  # measured 0.1 to 0.3; the mean latent has 1


# --- Sampling -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("guidance", [1, 2.5])
def test_generation_with_a_cache_equals_generation_without(guidance, model):
    inputs, _ = batch()
    with_cache, without = (
        model.generate(**inputs, num_segments=[8, 5], seed=1, guidance=guidance, use_cache=use_cache) for use_cache in (True, False)
    )
    torch.testing.assert_close(with_cache.latents, without.latents, atol=1e-4, rtol=1e-4)


def test_temperature_0_signs_a_text_always_alike(model):
    inputs, _ = batch()
    one, two = (model.generate(**inputs, num_segments=4, temperature=0).latents for _ in range(2))
    torch.testing.assert_close(one, two, rtol=0, atol=0)
    warm, other = (model.generate(**inputs, num_segments=4).latents for _ in range(2))
    assert not torch.allclose(warm, other)
    nearly = model.generate(**inputs, num_segments=4, temperature=1e-300, flow_temperature=0).latents
    torch.testing.assert_close(nearly, one)


def test_a_seed_signs_a_text_alike_whatever_is_beside_it(model):
    inputs, _ = batch()
    together = model.generate(**inputs, num_segments=[3, 5], seed=7, num_samples=2)
    alone = model.generate(inputs["input_ids"][1:, :4], num_segments=5, seed=7)
    torch.testing.assert_close(alone.keypoints[0], together.keypoints[2], atol=1e-5, rtol=1e-5)
    longer = model.generate(inputs["input_ids"][1:, :4], num_segments=5, seed=8)
    assert not torch.allclose(longer.latents, alone.latents)
    drawn = [model.generate(**inputs, num_segments=3, generator=torch.Generator().manual_seed(0)).latents for _ in range(2)]
    torch.testing.assert_close(*drawn, rtol=0, atol=0)


def test_samples_of_a_text_are_side_by_side_and_differ(model):
    inputs, _ = batch()
    generated = model.generate(**inputs, num_segments=[2, 3], num_samples=3)
    assert generated.num_segments.tolist() == [2, 2, 2, 3, 3, 3] and generated.keypoints.shape == (6, 45, 73, 2)
    assert not torch.allclose(generated.latents[0], generated.latents[1])


def test_codes_are_chosen_as_often_as_they_are_probable():
    logits = torch.tensor([2.0, 0.0, 1.0, -30.0]).expand(4000, 4)
    chosen = choose(logits, torch.linspace(0, 1, 4001)[:-1], 0.5)
    shares = torch.bincount(chosen, minlength=4) / 4000
    torch.testing.assert_close(shares, (logits[0] / 0.5).softmax(0), atol=1e-3, rtol=0)
    assert choose(logits[:1], torch.ones(1), 1.0).tolist() == [3] and choose(logits[:1], torch.ones(1), 0).tolist() == [0]


def test_guidance_goes_on_from_no_text_to_the_text():
    given, free = torch.tensor([[3.0]]), torch.tensor([[1.0]])
    assert (
        guided(torch.cat([given, free]), 2).item() == 5 and guided(given, 1).item() == 3 and guided(torch.cat([given, free]), 0).item() == 1
    )


def test_the_codes_of_a_text_that_says_nothing_are_alike_whatever_it_is(model, monkeypatch):
    """With a guidance of 0 the codes do not read the text, but for the length; the flow, which is not guided, is left out."""
    inputs, _ = batch((6, 6))
    monkeypatch.setattr(model.latent_decoder.flow, "sample", lambda condition, noise, times: torch.zeros_like(noise))
    latents = model.generate(**inputs, num_segments=4, temperature=0, guidance=0).latents
    torch.testing.assert_close(latents[0], latents[1], atol=1e-4, rtol=1e-4)
    guided_latents = model.generate(**inputs, num_segments=4, temperature=0).latents
    assert not torch.allclose(guided_latents[0], guided_latents[1], atol=1e-3)


def test_no_sample_is_nan_at_the_ends_of_what_is_allowed(model):
    inputs, _ = batch()
    ends = [{"temperature": 10, "flow_temperature": 10, "guidance": 20}, {"temperature": 5e-324}, {"guidance": 0, "flow_steps": 1}]
    for given in ends:
        assert model.generate(**inputs, num_segments=8, **given).keypoints.isfinite().all()


def test_seams_are_mended_unless_it_is_asked_not_to(model):
    inputs, _ = batch()
    by_default, mended, plain = (model.generate(**inputs, num_segments=4, seed=0, seam_frames=frames).keypoints for frames in (None, 3, 0))
    torch.testing.assert_close(by_default, mended, rtol=0, atol=0)
    assert not torch.allclose(mended, plain)


def test_it_trains_and_samples_where_an_evaluation_computes_in_half_precision(model):
    inputs, targets = batch()
    with torch.autocast("cpu", torch.bfloat16):
        loss = model.train()(**inputs, **targets).loss
        latents, _ = model.eval().generate_latents(**inputs, num_segments=3, seed=0)
    loss.backward()
    assert loss.isfinite() and latents.isfinite().all()


# --- The pipeline and what travels --------------------------------------------------------------------------------------------------


def test_the_pipeline_samples(tiny_text_to_sign, tmp_path):
    pipe = tiny_text_to_sign(**CODES_FLOW)
    one = pipe(TEXTS[0], num_segments=2, seed=0, temperature=0.5, guidance=1.5)
    several = pipe(TEXTS[:2], num_segments=2, seed=0, temperature=0.5, guidance=1.5, num_samples=2, batch_size=2)
    assert [len(samples) for samples in several] == [2, 2] and one["keypoints"].shape == (30, 73, 2)
    np.testing.assert_allclose(several[0][0]["keypoints"], one["keypoints"], atol=1e-5)
    assert not np.allclose(several[0][0]["keypoints"], several[0][1]["keypoints"])
    pipe.save_pretrained(tmp_path)
    loaded = pipeline("text-to-sign", model=str(tmp_path), device="cpu")
    np.testing.assert_allclose(
        loaded(TEXTS[0], num_segments=2, seed=0, temperature=0.5, guidance=1.5)["keypoints"], one["keypoints"], atol=1e-5
    )


def test_a_regression_of_before_there_were_codes_loads_and_gives_the_same(tiny_text_to_sign, tmp_path):
    """Its config.json has none of the fields of codes_flow, and its weights none of its tensors."""
    model = tiny_text_to_sign().model
    model.save_pretrained(tmp_path)
    new = {"latent_decoder", "latent_components", "num_codebooks", "codebook_size", "code_smoothing", "flow_layers", "flow_draws"}
    new |= {"code_loss_weight", "flow_loss_weight", "text_dropout", "word_dropout", "history_noise"}
    config = json.loads((tmp_path / "config.json").read_text())
    assert new <= set(config)
    (tmp_path / "config.json").write_text(json.dumps({name: value for name, value in config.items() if name not in new}))
    assert not [name for name in model.state_dict() if "latent_decoder" in name]
    inputs, _ = batch()
    loaded = AutoModel.from_pretrained(tmp_path)
    torch.testing.assert_close(loaded.generate(**inputs).keypoints, model.generate(**inputs).keypoints, rtol=0, atol=0)


# --- Bad input ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        {"temperature": -0.1}, {"temperature": float("nan")}, {"temperature": "a"}, {"temperature": float("inf")}, {"guidance": -1},
        {"guidance": float("nan")}, {"flow_steps": 0}, {"flow_steps": 2.5}, {"flow_temperature": -1}, {"num_samples": 0},
        {"num_samples": True}, {"seed": -1}, {"seed": 0.5},
    ],
)  # fmt: skip
def test_an_absurd_argument_of_sampling_is_refused_in_one_line(given, model, tiny_text_to_sign):
    inputs, _ = batch()
    with pytest.raises(ValueError, match=rf"^Found {next(iter(given))}=[^\n]*, expected an? (int|number) from [^\n]*\.$"):
        model.generate(**inputs, **given)


def test_a_seed_beside_a_generator_and_a_misspelt_argument_are_refused(model):
    inputs, _ = batch()
    with pytest.raises(ValueError, match="Found both a generator and a seed, expected one of them"):
        model.generate(**inputs, seed=1, generator=torch.Generator())
    with pytest.raises(TypeError, match="Found the argument temprature"):
        model.generate_latents(**inputs, temprature=1)


def test_guidance_needs_a_model_that_was_trained_with_text_dropout(tiny_text_to_sign):
    model = tiny_text_to_sign(**CODES_FLOW, text_dropout=0).model
    inputs, _ = batch()
    with pytest.raises(ValueError, match="Found guidance=2, but this model was trained with text_dropout=0"):
        model.generate(**inputs, guidance=2)
    assert model.generate(**inputs).keypoints.isfinite().all() and model.generate(**inputs, guidance=1).keypoints.isfinite().all()


def test_a_regression_refuses_what_it_cannot_use(tiny_text_to_sign):
    pipe = tiny_text_to_sign()
    inputs, _ = batch()
    with pytest.raises(ValueError, match="Found temperature, generator, but this model predicts one clip for a text"):
        pipe.model.generate(**inputs, temperature=1.0, generator=torch.Generator())
    with pytest.raises(ValueError, match="Found num_samples, but this model predicts one clip"):
        pipe(TEXTS[0], num_samples=2)
    with pytest.raises(ValueError, match="which has no codes"):
        pipe.model.set_codes(*[torch.zeros(1)] * 5)


def test_more_segments_than_places_are_refused(model):
    inputs, _ = batch()
    with pytest.raises(ValueError, match="each from 1 to max_segments=8"):
        model.generate(**inputs, num_segments=9)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"latent_decoder": "codes"}, "latent_decoder='codes' must be one of 'regression', 'codes_flow'"),
        ({"codebook_size": 1}, "codebook_size=1 must be at least 2"),
        ({"text_dropout": 1}, "text_dropout=1 must be at least 0 and below 1"),
        ({"history_noise": float("nan")}, "history_noise=nan must be at least 0"),
        ({"latent_decoder": "codes_flow", "keypoint_loss_weight": 1.0}, "keypoint_loss_weight=1.0 needs a latent that is predicted"),
    ],
)
def test_a_config_that_cannot_be_says_why(fields, message):
    with pytest.raises(ValueError, match=message):
        TextToSignConfig(**fields)
