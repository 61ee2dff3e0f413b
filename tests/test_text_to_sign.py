"""TextToSign: what it learns from, how long it signs, what it gives, what travels."""

import numpy as np
import pytest
import torch
from transformers import AutoModel, BartConfig, BertConfig, DistilBertConfig, T5Config, T5EncoderModel, XLMRobertaConfig, pipeline

from modeling_unigloR import LengthRegulator, SignMAEDecoderModel, SignMAEEncoderModel, TextToSign, TextToSignConfig, pipelines_uniglor
from modeling_unigloR.modeling_text_to_sign import mend_seams
from tests.conftest import TEXTS, TINY_DECODER, TINY_TEXT_ENCODER, assert_same_weights, random_signing

PRETRAINED = {
    "bert": BertConfig(**TINY_TEXT_ENCODER, vocab_size=40),
    "distilbert": DistilBertConfig(dim=16, n_layers=1, n_heads=2, hidden_dim=32, max_position_embeddings=32, vocab_size=40),
    "xlm-roberta": XLMRobertaConfig(**TINY_TEXT_ENCODER, vocab_size=40, pad_token_id=1),
    "t5": T5Config(d_model=16, d_kv=8, num_layers=1, num_heads=2, d_ff=32, vocab_size=40, decoder_start_token_id=0),
    "bart": BartConfig(
        d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=32,
        decoder_ffn_dim=32, max_position_embeddings=32, vocab_size=40,
    ),
}  # fmt: skip


def batch(lengths=(6, 4), segments=(4, 2), seed=0):
    """Texts of so many tokens, and latents of so many segments."""
    torch.manual_seed(seed)
    attention_mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    latent_mask = (torch.arange(max(segments)) < torch.tensor(segments)[:, None]).long()
    latents = torch.randn(len(lengths), max(segments), 16) * latent_mask[..., None]
    input_ids = torch.randint(4, 12, (len(lengths), max(lengths))) * attention_mask
    return {"input_ids": input_ids, "attention_mask": attention_mask}, {"latents": latents, "latent_mask": latent_mask}


@pytest.fixture
def model(tiny_text_to_sign):
    return tiny_text_to_sign().model


# --- Length -----------------------------------------------------------------------------------------------------------------------


def test_the_length_is_the_most_probable_mask_of_all():
    torch.manual_seed(0)
    logits = torch.randn(20, 6) * 3
    for row, found in zip(logits, LengthRegulator.num_segments(logits)):
        likelihoods = []
        for length in range(1, 7):
            within = torch.arange(6) < length
            likelihoods.append(torch.where(within, row.sigmoid().log(), (1 - row.sigmoid()).log()).sum())
        assert int(found) == 1 + int(torch.stack(likelihoods).argmax())


def test_the_length_is_at_least_one():
    assert LengthRegulator.num_segments(torch.full((1, 5), -9.0)).tolist() == [1]


def test_the_length_regulator_is_a_bottleneck_beside_a_residual_connection():
    torch.manual_seed(0)
    regulator = LengthRegulator(16, 8, 0.1, 1e-6).eval()
    assert regulator.down_proj.out_features == 4
    hidden = torch.randn(3, 16)
    inner = torch.nn.functional.gelu(hidden @ regulator.down_proj.weight.T + regulator.down_proj.bias)
    outer = regulator.norm(hidden + inner @ regulator.up_proj.weight.T + regulator.up_proj.bias)
    torch.testing.assert_close(regulator(hidden), outer @ regulator.classifier.weight.T + regulator.classifier.bias)


def test_the_length_only_cuts(model):
    inputs, _ = batch()
    shorter, longer = (model.generate(**inputs, num_segments=count) for count in (2, 5))
    torch.testing.assert_close(shorter.keypoints, longer.keypoints[:, :30])
    assert shorter.num_frames.tolist() == [30, 30] and longer.num_segments.tolist() == [5, 5]


def test_num_segments_may_differ_from_text_to_text(model):
    inputs, _ = batch()
    for given in (torch.tensor([1, 3]), [1, 3], np.array([1, 3])):
        generated = model.generate(**inputs, num_segments=given)
        assert generated.num_frames.tolist() == [15, 45] and generated.keypoints.shape == (2, 45, 73, 2)
    assert not generated.keypoints[0, 15:].any() and not generated.latents[0, 1:].any()


def test_segments_are_counted_as_the_config_says(tiny_text_to_sign):
    frames = torch.tensor([1, 14, 15, 16, 30, 31])
    for last_segment, expected in (("hold", [1, 1, 1, 2, 2, 3]), ("drop", [1, 1, 1, 1, 2, 2])):
        model = tiny_text_to_sign(last_segment=last_segment).model
        assert model.num_segments(frames).tolist() == expected
        assert [model.num_segments(int(count)) for count in frames] == expected


# --- Losses -----------------------------------------------------------------------------------------------------------------------


def test_the_losses_are_those_of_the_paper_counted_by_hand(tiny_text_to_sign):
    model = tiny_text_to_sign(length_loss_weight=0.5, latent_loss_weight=2.0).model
    inputs, targets = batch()
    output = model(**inputs, **targets)
    squared, length = [], []
    for text, count in enumerate((4, 2)):
        squared += [(output.latents[text, n] - targets["latents"][text, n]).square() for n in range(count)]
        for n, logit in enumerate(output.length_logits[text]):
            length.append(-(logit.sigmoid() if n < count else 1 - logit.sigmoid()).log())
    torch.testing.assert_close(output.latent_loss, torch.stack(squared).mean())
    torch.testing.assert_close(output.length_loss, torch.stack(length).mean())
    torch.testing.assert_close(output.loss, 2.0 * output.latent_loss + 0.5 * output.length_loss)
    assert len(length) == 2 * model.config.max_segments and output.keypoint_loss is None


def test_the_keypoint_loss_goes_through_the_frozen_decoder(tiny_text_to_sign):
    model = tiny_text_to_sign(keypoint_loss_weight=1.0).model
    model.sign_mae.keypoint_presence[50:] = 0
    inputs, targets = batch()
    output = model(**inputs, **targets)
    real = targets["latent_mask"].bool()
    true, generated = (model.sign_mae.decode(latents[real]) for latents in (targets["latents"], output.latents[:, :4]))
    torch.testing.assert_close(output.keypoint_loss, (true - generated)[:, :, :50].square().mean())
    output.keypoint_loss.backward()
    assert model.latent_projection.weight.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in model.sign_mae.parameters())


@pytest.mark.parametrize("fields", [{}, {"keypoint_loss_weight": 1.0}, {"text_pooling": "mean"}, {"freeze_text_model": True}])
def test_every_trainable_parameter_gets_a_gradient(fields, tiny_text_to_sign):
    model = tiny_text_to_sign(**fields).model.train()
    inputs, targets = batch()
    model(**inputs, **targets).loss.backward()
    assert not [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not [name for name, p in model.named_parameters() if not p.requires_grad and p.grad is not None]
    frozen = {name.split(".")[0] for name, p in model.named_parameters() if not p.requires_grad}
    assert frozen == ({"sign_mae", "text_model"} if "freeze_text_model" in fields else {"sign_mae"})


def test_it_learns_a_batch(tiny_text_to_sign):
    model = tiny_text_to_sign(hidden_dropout_prob=0.0).model
    inputs, targets = batch((6, 5, 4, 6), (4, 2, 3, 1))
    optimizer = torch.optim.AdamW([p for p in model.train().parameters() if p.requires_grad], lr=1e-2)
    losses = []
    for _ in range(100):
        loss = model(**inputs, **targets).loss
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < losses[0] / 5
    assert model.eval().generate(**inputs).num_segments.tolist() == [4, 2, 3, 1]


# --- Padding and batching ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text_pooling", ["token", "mean"])
def test_batch_equals_single(text_pooling, tiny_text_to_sign):
    model = tiny_text_to_sign(text_pooling=text_pooling).model
    inputs, _ = batch((7, 5, 3), (3, 5, 2))
    together = model.generate(**inputs, num_segments=[3, 5, 2], seam_frames=3)
    predicted = model(**inputs)
    for index, (length, count) in enumerate(((7, 3), (5, 5), (3, 2))):
        alone = {name: value[index : index + 1, :length] for name, value in inputs.items()}
        single = model.generate(**alone, num_segments=count, seam_frames=3)
        torch.testing.assert_close(single.keypoints[0], together.keypoints[index, : 15 * count], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(model(**alone).length_logits[0], predicted.length_logits[index], atol=1e-5, rtol=1e-5)


def test_what_stands_in_the_padding_changes_nothing(model):
    inputs, targets = batch()
    filled = inputs["input_ids"] + 9 * (1 - inputs["attention_mask"])
    padded = targets["latents"] + 7 * (1 - targets["latent_mask"])[..., None]
    torch.testing.assert_close(
        model(filled, inputs["attention_mask"], padded, targets["latent_mask"]).loss, model(**inputs, **targets).loss, atol=1e-6, rtol=1e-5
    )


def test_the_head_token_leads_the_length_and_stays_out_of_the_memory(model):
    inputs, _ = batch()
    head, memory, memory_mask = model.encode_text(**inputs)
    hidden = model.text_model(**inputs).last_hidden_state
    torch.testing.assert_close(head, hidden[:, 0])
    torch.testing.assert_close(memory, hidden[:, 1:])
    assert memory_mask.tolist() == inputs["attention_mask"][:, 1:].tolist()


def test_without_a_head_token_the_mean_of_real_tokens_leads(tiny_text_to_sign):
    model = tiny_text_to_sign(text_pooling="mean").model
    inputs, _ = batch()
    head, memory, _ = model.encode_text(**inputs)
    hidden = model.text_model(**inputs).last_hidden_state
    torch.testing.assert_close(head[1], hidden[1, :4].mean(0))
    assert memory.shape[1] == 6


# --- Decoding and seams -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_generated_latents_are_the_first_of_those_of_all_queries(model, implementation):
    """Positions after the longest clip's end are left out of the last layer, and change nothing there."""
    model.set_attn_implementation(implementation)
    texts, _ = batch()
    sizes, layer = [], model.layers[-1].feed_forward_norm
    layer.register_forward_hook(lambda module, inputs, output: sizes.append(output.shape[1]))
    generated = model.generate(**texts, num_segments=[3, 2])
    everything = model(**texts).latents
    assert sizes == [3, 8]
    torch.testing.assert_close(generated.latents[0], everything[0, :3], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(generated.latents[1, :2], everything[1, :2], atol=1e-5, rtol=1e-5)


def test_oracle_latents_decode_as_sign_mae_decodes_them(tiny_sign_mae, tiny_text_to_sign):
    sign_mae = tiny_sign_mae(3)
    sign_mae.set_latent_statistics(torch.randn(16), torch.rand(16) + 0.5)
    model = tiny_text_to_sign(sign_mae=sign_mae).model
    keypoints = torch.from_numpy(np.stack([random_signing(60, seed) for seed in (1, 2)]))
    latents, latent_mask = sign_mae.encode_sequence(keypoints, stride=15)
    found, num_frames = model.decode_sequence(latents, latent_mask)
    assert found.shape == (2, 60, 73, 2) and num_frames.tolist() == [60, 60]
    torch.testing.assert_close(found, sign_mae.decode(latents).flatten(1, 2))


def test_half_a_sign_mae_loads_from_a_whole_ones_checkpoint(tiny_sign_mae, tmp_path):
    sign_mae = tiny_sign_mae()
    sign_mae.set_latent_statistics(torch.randn(16), torch.rand(16) + 0.5)
    sign_mae.save_pretrained(tmp_path)
    encoder, decoder = SignMAEEncoderModel.from_pretrained(tmp_path), SignMAEDecoderModel.from_pretrained(tmp_path)
    segments = torch.from_numpy(random_signing(30)).unflatten(0, (2, 15))
    latents = encoder.encode(segments)
    torch.testing.assert_close(decoder(latents).keypoints, sign_mae.reconstruct(segments))
    halves = set(encoder.state_dict()) | set(decoder.state_dict())
    assert halves == set(sign_mae.state_dict()) and not any(name.startswith("encoder") for name in decoder.state_dict())


def test_mending_makes_the_step_over_a_seam_the_mean_of_its_neighbours():
    torch.manual_seed(0)
    segments = torch.randn(2, 3, 8, 5, 2)
    latent_mask = torch.tensor([[1, 1, 1], [1, 1, 0]])
    mended = mend_seams(segments, latent_mask, 3)
    before, after = segments[:, :-1], segments[:, 1:]
    expected = (before[:, :, -1] - before[:, :, -2] + after[:, :, 1] - after[:, :, 0]) / 2
    real = torch.tensor([[True, True], [True, False]])
    torch.testing.assert_close((mended[:, 1:, 0] - mended[:, :-1, -1])[real], expected[real])
    assert torch.equal(mended[0, 1, 3:5], segments[0, 1, 3:5])  # further than three frames from both of its borders
    assert torch.equal(mended[0, 0, :5], segments[0, 0, :5])
    assert torch.equal(mended[1, 1, 3:], segments[1, 1, 3:])  # no seam after the last


def test_a_motion_without_jumps_needs_no_mending():
    motion = torch.arange(24.0).view(1, 3, 8, 1, 1).expand(-1, -1, -1, 5, 2)
    torch.testing.assert_close(mend_seams(motion, torch.ones(1, 3), 4), motion)


def test_generated_seams_can_be_mended(tiny_sign_mae, tiny_text_to_sign):
    model = tiny_text_to_sign().model
    inputs, _ = batch()
    plain, mended = (model.generate(**inputs, num_segments=4, seam_frames=frames).keypoints for frames in (0, 5))
    steps, mended_steps = (keypoints.diff(dim=1).norm(dim=-1).mean((0, 2)) for keypoints in (plain, mended))
    assert mended_steps[14::15].max() < steps[14::15].min()


# --- Parts and travel -------------------------------------------------------------------------------------------------------------


def test_saved_and_loaded_it_signs_the_same_and_its_decoder_stays_frozen(tiny_text_to_sign, tmp_path):
    model = tiny_text_to_sign(freeze_text_model=True).model
    model.save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path)
    inputs, targets = batch()
    torch.testing.assert_close(loaded.generate(**inputs).keypoints, model.generate(**inputs).keypoints)
    torch.testing.assert_close(loaded(**inputs, **targets).loss, model(**inputs, **targets).loss)
    assert_same_weights(model, loaded)
    loaded.train()
    assert not any(p.requires_grad for half in (loaded.sign_mae, loaded.text_model) for p in half.parameters())
    assert not loaded.sign_mae.training and not loaded.text_model.training and loaded.queries.requires_grad


def test_a_checkpoint_holds_no_encoder_of_sign_mae_and_no_path(tiny_sign_mae, tmp_path):
    tiny_sign_mae().save_pretrained(tmp_path / "sign-mae")
    model = TextToSign.from_parts(tmp_path / "sign-mae", text_config=TINY_TEXT_ENCODER | {"vocab_size": 20}, **TINY_DECODER)
    model.save_pretrained(tmp_path / "out")
    assert not any(name.startswith("encoder") for name in model.sign_mae.state_dict())
    assert str(tmp_path) not in (tmp_path / "out" / "config.json").read_text()


@pytest.mark.parametrize("kind", PRETRAINED)
def test_a_pretrained_text_encoder_is_taken_whole(kind, tiny_sign_mae, tmp_path):
    torch.manual_seed(0)
    text_model = AutoModel.from_config(PRETRAINED[kind]).eval()
    text_model.save_pretrained(tmp_path / "text")
    model = TextToSign.from_parts(tiny_sign_mae(), tmp_path / "text", **TINY_DECODER).eval()
    encoder = text_model.get_encoder() if PRETRAINED[kind].is_encoder_decoder else text_model
    inputs, targets = batch()
    torch.testing.assert_close(model.text_model(**inputs).last_hidden_state, encoder(**inputs).last_hidden_state)
    assert model.config.text_pooling == ("mean" if kind == "t5" else "token")
    together, alone = model(**inputs), model(inputs["input_ids"][1:, :4])
    torch.testing.assert_close(alone.latents[0], together.latents[1], atol=1e-5, rtol=1e-4)
    model.save_pretrained(tmp_path / "out")
    loaded = AutoModel.from_pretrained(tmp_path / "out")
    torch.testing.assert_close(loaded.generate(**inputs).keypoints, model.generate(**inputs).keypoints)
    model.train()(**inputs, **targets).loss.backward()
    assert not [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]


def test_an_encoder_that_was_saved_without_its_decoder_is_taken(tiny_sign_mae, tmp_path):
    T5EncoderModel(PRETRAINED["t5"]).save_pretrained(tmp_path)
    encoder = T5EncoderModel.from_pretrained(tmp_path)
    model = TextToSign.from_parts(tiny_sign_mae(), tmp_path, **TINY_DECODER).eval()
    inputs, _ = batch()
    torch.testing.assert_close(model.text_model(**inputs).last_hidden_state, encoder(**inputs).last_hidden_state)


def test_the_default_is_the_papers(tmp_path):
    config = TextToSignConfig()
    assert (config.max_segments, config.num_hidden_layers, config.hidden_size, config.num_attention_heads) == (128, 3, 512, 8)
    assert (config.text_config.model_type, config.text_config.hidden_size, config.text_pooling) == ("bert", 512, "token")
    assert (config.latent_loss_weight, config.length_loss_weight, config.keypoint_loss_weight) == (1.0, 1.0, 0.0)
    config.save_pretrained(tmp_path)
    assert TextToSignConfig.from_pretrained(tmp_path).to_dict() == config.to_dict()


# --- Pipeline ---------------------------------------------------------------------------------------------------------------------


def test_the_pipeline_signs_a_text(tiny_text_to_sign):
    pipe = tiny_text_to_sign()
    pipe.model.sign_mae.keypoint_presence[0] = 0
    answer = pipe("morgen regnet es .", num_segments=3)
    assert answer["keypoints"].shape == (45, 73, 2) and answer["keypoints"].dtype == np.float32
    assert answer["keypoint_mask"].shape == (45, 73) and not answer["keypoint_mask"][:, 0].any() and answer["keypoint_mask"][:, 1:].all()
    assert (answer["fps"], answer["layout"]) == (25.0, "uniglor73")
    encoded = pipe.tokenizer("morgen regnet es .", return_tensors="pt")
    generated = pipe.model.generate(encoded.input_ids, encoded.attention_mask, num_segments=3)
    np.testing.assert_array_equal(answer["keypoints"], generated.keypoints[0].numpy())


def test_lists_batches_and_generators_sign_what_single_texts_sign(tiny_text_to_sign):
    pipe = tiny_text_to_sign()
    single = [pipe(text) for text in TEXTS]
    for answers in (pipe(TEXTS), pipe(TEXTS, batch_size=2), list(pipe(text for text in TEXTS))):
        for answer, expected in zip(answers, single, strict=True):
            np.testing.assert_allclose(answer["keypoints"], expected["keypoints"], atol=1e-5)


def test_pixels_put_the_neck_on_the_picture_and_make_the_shoulders_a_quarter_of_it(tiny_text_to_sign):
    pipe = tiny_text_to_sign()
    shoulder = pipe("morgen regnet es .")["keypoints"]
    pixels = pipe("morgen regnet es .", units="pixels", width=640, height=480)["keypoints"]
    np.testing.assert_allclose(pixels, shoulder * 120 + np.array([320, 201.6]), rtol=1e-4)


def test_the_saved_folder_is_loaded_by_the_pipeline_function(tiny_text_to_sign, tmp_path):
    pipe = tiny_text_to_sign()
    pipe.save_pretrained(tmp_path)
    loaded = pipeline("text-to-sign", model=str(tmp_path), device="cpu")
    np.testing.assert_allclose(loaded(TEXTS[0])["keypoints"], pipe(TEXTS[0])["keypoints"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "text, message",
    [
        ("morgen blitzt es .", "1 of 4 tokens (25%) of the text 'morgen blitzt es .' are not in the model's vocabulary."),
        ("gewitter zieht", "2 of 2 tokens (100%) of the text 'gewitter zieht' are not in the model's vocabulary: what it signs"),
    ],
)
def test_unknown_words_are_counted_in_a_warning(text, message, tiny_text_to_sign, monkeypatch):
    pipe = tiny_text_to_sign()
    said = []
    monkeypatch.setattr(pipelines_uniglor.logger, "warning", said.append)
    assert np.isfinite(pipe(text)["keypoints"]).all()
    assert len(said) == 1 and said[0].startswith(message)


# --- Bad input --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "   ", "\n"])
def test_an_empty_text_is_refused(text, tiny_text_to_sign):
    with pytest.raises(ValueError, match="expected at least one word"):
        tiny_text_to_sign()(text)


def test_what_is_no_text_is_refused(tiny_text_to_sign):
    with pytest.raises(ValueError, match="Found a int, expected a text"):
        tiny_text_to_sign()([7])


@pytest.mark.parametrize("given", [0, -3, 9, 2.5, True, [1, 2, 3], [1, 0]])
def test_an_absurd_number_of_segments_is_refused(given, model):
    inputs, _ = batch()
    with pytest.raises(ValueError, match="expected one int or one for each of 2 texts, each from 1 to max_segments=8"):
        model.generate(**inputs, num_segments=given)


def test_a_clip_of_more_segments_than_queries_is_refused(model):
    inputs, _ = batch()
    with pytest.raises(ValueError, match="Found a clip of 9 segments, but the model has max_segments=8"):
        model(**inputs, latents=torch.zeros(2, 9, 16))


def test_latents_of_another_size_are_refused(model):
    inputs, _ = batch()
    with pytest.raises(ValueError, match=r"Found latents of shape \(2, 3, 12\), expected \(texts, segments, 16\)"):
        model(**inputs, latents=torch.zeros(2, 3, 12))


@pytest.mark.parametrize("seam_frames", [-1, 8])
def test_seams_wider_than_half_a_segment_are_refused(seam_frames, model):
    inputs, _ = batch()
    with pytest.raises(ValueError, match="expected 0 to 7, half of the 15 frames"):
        model.generate(**inputs, num_segments=2, seam_frames=seam_frames)


@pytest.mark.parametrize("kind, most", [("bert", 32), ("xlm-roberta", 30)])
def test_a_text_longer_than_the_text_models_positions_is_refused(kind, most, tiny_sign_mae):
    model = TextToSign(TextToSignConfig(sign_mae_config=tiny_sign_mae().config, text_config=PRETRAINED[kind], **TINY_DECODER)).eval()
    model.generate(torch.full((1, most), 5))
    with pytest.raises(ValueError, match=f"Found a text of {most + 1} tokens, but the text model reads {most}"):
        model.generate(torch.full((1, most + 1), 5))


def test_units_that_do_not_exist_and_pixels_without_a_picture_are_refused(tiny_text_to_sign):
    pipe = tiny_text_to_sign()
    with pytest.raises(ValueError, match="expected 'shoulder' or 'pixels'"):
        pipe("es", units="metres")
    with pytest.raises(ValueError, match="needs the picture's width and height; found width=640, height=None"):
        pipe("es", units="pixels", width=640)


def test_a_tokenizer_that_does_not_fit_is_refused(tiny_text_to_sign):
    from train.data.text_tokenizers import train_tokenizer

    pipe = tiny_text_to_sign()
    with pytest.raises(ValueError, match="this tokenizer puts none there"):
        pipe.model.check_tokenizer(train_tokenizer(TEXTS))
    pipe.tokenizer.padding_side = "left"
    with pytest.raises(ValueError, match="on the left, expected a pad token on the right"):
        pipe.model.check_tokenizer(pipe.tokenizer)
    pipe.tokenizer.add_tokens(["neues", "wort"])
    with pytest.raises(ValueError, match="but the text model's vocabulary 16"):
        pipe.model.check_tokenizer(pipe.tokenizer)


def test_a_model_or_processor_that_does_not_fit_is_refused(tiny_text_to_sign, tiny_sign_mae):
    pipe = tiny_text_to_sign()
    with pytest.raises(ValueError, match="found a model of type 'sign_mae', expected 'text_to_sign'"):
        type(pipe)(model=tiny_sign_mae(), tokenizer=pipe.tokenizer, feature_extractor=pipe.feature_extractor)
    pipe.feature_extractor.layout = "another"
    with pytest.raises(ValueError, match="gives layout 'another', but the model has 'uniglor73'"):
        type(pipe)(model=pipe.model, tokenizer=pipe.tokenizer, feature_extractor=pipe.feature_extractor)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"text_pooling": "cls"}, "text_pooling='cls' must be one of 'token', 'mean'"),
        ({"last_segment": "pad"}, "last_segment='pad' must be one of 'hold', 'drop'"),
        ({"max_segments": 0}, "max_segments=0 must be at least 1"),
        ({"length_loss_weight": -1.0}, "length_loss_weight=-1.0 must be at least 0"),
        ({"hidden_size": 20, "num_attention_heads": 8}, "must be an even multiple"),
    ],
)
def test_a_config_that_cannot_be_says_why(fields, message):
    with pytest.raises(ValueError, match=message):
        TextToSignConfig(**fields)
