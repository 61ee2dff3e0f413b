"""SignToText: what it reads, what it says, what is trained, what travels."""

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForSeq2SeqLM, BartConfig, MarianConfig, MBartConfig, MT5Config, T5Config, pipeline

from modeling_unigloR import KeypointClip, KeypointProcessor, SignMAE, SignToText, SignToTextConfig, pipelines_uniglor
from tests.conftest import TINY, TINY_TEXT, standardised

PRETRAINED = {
    "bart": BartConfig(**TINY_TEXT, vocab_size=40),
    "mbart": MBartConfig(**TINY_TEXT, vocab_size=40),
    "marian": MarianConfig(**TINY_TEXT, vocab_size=40, pad_token_id=39, decoder_start_token_id=39),
    "t5": T5Config(d_model=16, d_kv=8, num_layers=1, num_heads=2, d_ff=32, vocab_size=40, decoder_start_token_id=0),
    "mt5": MT5Config(d_model=16, d_kv=8, num_layers=1, num_heads=2, d_ff=32, vocab_size=40, decoder_start_token_id=0),
}


def batch(lengths=(40, 25), seed=0):
    torch.manual_seed(seed)
    keypoints = torch.randn(len(lengths), max(lengths), 73, 2) * 0.3
    attention_mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    labels = torch.randint(4, 12, (len(lengths), 4))
    labels[:, -1] = 2
    return {"keypoints": keypoints * attention_mask[..., None, None], "attention_mask": attention_mask}, labels


@pytest.fixture(params=["segments", "frames"])
def model(request, tiny_sign_to_text):
    return tiny_sign_to_text(sign_encoder=request.param).model


def test_batch_equals_single(model):
    inputs, labels = batch((40, 25, 9))
    together = model(**inputs, labels=labels)
    for index, length in enumerate((40, 25, 9)):
        alone = {name: value[index : index + 1, :length] for name, value in inputs.items()}
        torch.testing.assert_close(model(**alone, labels=labels[index : index + 1]).logits[0], together.logits[index], atol=1e-5, rtol=1e-5)


def test_what_stands_in_the_padding_changes_nothing(model):
    inputs, labels = batch()
    filled = inputs["keypoints"] + 7 * (1 - inputs["attention_mask"])[..., None, None]
    torch.testing.assert_close(
        model(filled, inputs["attention_mask"], labels=labels).logits, model(**inputs, labels=labels).logits, atol=1e-5, rtol=1e-5
    )


def test_cached_latents_give_the_logits_of_the_keypoints(tiny_sign_to_text):
    model = tiny_sign_to_text().model
    inputs, labels = batch()
    latents, latent_mask = model.encode_sequence(**inputs)
    cached = model(latents=latents, latent_mask=latent_mask, labels=labels)
    torch.testing.assert_close(cached.logits, model(**inputs, labels=labels).logits, atol=1e-5, rtol=1e-5)
    assert torch.equal(model.generate(latents=latents, latent_mask=latent_mask), model.generate(**inputs))


def test_saved_and_loaded_it_says_the_same_and_stays_frozen(model, tmp_path):
    inputs, labels = batch()
    model.save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path)
    torch.testing.assert_close(loaded(**inputs, labels=labels).logits, model(**inputs, labels=labels).logits)
    assert torch.equal(loaded.generate(**inputs), model.generate(**inputs))
    assert loaded.generation_config.num_beams == 5
    if model.config.sign_encoder == "segments":
        assert not any(p.requires_grad for p in loaded.train().sign_mae.parameters())
        assert not loaded.sign_mae.training


def test_a_checkpoint_holds_no_decoder_of_sign_mae_and_no_path(tiny_sign_to_text, tmp_path, tiny_sign_mae):
    tiny_sign_mae().save_pretrained(tmp_path / "sign-mae")
    model = SignToText.from_parts(tmp_path / "sign-mae", text_config=TINY_TEXT | {"vocab_size": 20})
    model.save_pretrained(tmp_path / "out")
    assert not any("decoder" in name for name in model.sign_mae.state_dict())
    assert str(tmp_path) not in (tmp_path / "out" / "config.json").read_text()


def test_latents_are_those_of_the_sign_mae_it_was_made_from(tiny_sign_mae):
    sign_mae = tiny_sign_mae(3)
    sign_mae.set_latent_statistics(torch.ones(16), 2 * torch.ones(16))
    model = SignToText.from_parts(sign_mae, text_config=TINY_TEXT | {"vocab_size": 20}).eval()
    inputs, _ = batch()
    torch.testing.assert_close(model.encode_sequence(**inputs), sign_mae.encode_sequence(**inputs, stride=7))


def test_every_trainable_parameter_gets_a_gradient(tiny_sign_to_text):
    for fields in ({}, {"sign_encoder": "frames"}, {"freeze_sign_mae": False}):
        model = tiny_sign_to_text(**fields).model.train()
        inputs, labels = batch()
        model(**inputs, labels=labels).loss.backward()
        without = {name for name, p in model.named_parameters() if p.requires_grad and p.grad is None}
        assert without <= {"sign_mae.encoder.mask_token"}, without  # only pretraining masks


def test_the_loss_is_the_mean_over_real_tokens(model):
    inputs, labels = batch()
    labels[1, 2:] = -100
    output = model(**inputs, labels=labels)
    log_probs = output.logits.log_softmax(-1)
    expected = -torch.stack([log_probs[b, t, labels[b, t]] for b in range(2) for t in range(4) if labels[b, t] >= 0]).mean()
    torch.testing.assert_close(output.loss, expected)
    total, count = model.score(labels, **inputs)
    torch.testing.assert_close(-total.sum() / count.sum(), expected.detach())
    assert count.tolist() == [4, 2]


@pytest.mark.parametrize("sign_encoder", ["segments", "frames"])
def test_it_learns_a_batch(sign_encoder, tiny_sign_to_text, tiny_sign_mae):
    inputs, labels = batch((30, 30, 30, 30))
    no_dropout = {"dropout": 0.0, "attention_dropout": 0.0}  # whose noise hides what the last step knows
    sign_mae = standardised(tiny_sign_mae(), inputs["keypoints"])
    model = tiny_sign_to_text(sign_mae=sign_mae, text_config=no_dropout, sign_encoder=sign_encoder).model
    optimizer = torch.optim.AdamW([p for p in model.train().parameters() if p.requires_grad], lr=1e-2)
    losses = []
    for _ in range(100):
        loss = model(**inputs, labels=labels).loss
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < losses[0] / 5


@pytest.mark.parametrize("kind", PRETRAINED)
def test_a_pretrained_text_model_is_taken_whole(kind, tiny_sign_mae, tmp_path):
    torch.manual_seed(0)
    text_model = AutoModelForSeq2SeqLM.from_config(PRETRAINED[kind]).eval()
    text_model.save_pretrained(tmp_path / "text")
    model = SignToText.from_parts(tiny_sign_mae(), tmp_path / "text").eval()
    ids = torch.tensor([[5, 6, 7, 1]])
    torch.testing.assert_close(
        model.text_model(input_ids=ids, decoder_input_ids=ids).logits, text_model(input_ids=ids, decoder_input_ids=ids).logits
    )
    inputs, labels = batch()
    alone = {name: value[1:, :25] for name, value in inputs.items()}
    torch.testing.assert_close(model(**alone, labels=labels[1:]).logits[0], model(**inputs, labels=labels).logits[1], atol=1e-5, rtol=1e-4)
    model.save_pretrained(tmp_path / "out")
    loaded = AutoModel.from_pretrained(tmp_path / "out")
    assert torch.equal(loaded.generate(**inputs, max_new_tokens=5), model.generate(**inputs, max_new_tokens=5))


def test_adapters_train_alone_survive_loading_and_merge_away(tiny_sign_mae, tmp_path):
    pytest.importorskip("peft")
    AutoModelForSeq2SeqLM.from_config(PRETRAINED["mt5"]).save_pretrained(tmp_path / "text")
    model = SignToText.from_parts(tiny_sign_mae(), tmp_path / "text", lora_rank=4)
    trained = {name for name, p in model.train().named_parameters() if p.requires_grad}
    assert trained == {name for name, _ in model.named_parameters() if "lora_" in name or name.startswith("projection")}
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    inputs, labels = batch()
    logits = model.eval()(**inputs, labels=labels).logits
    model.save_pretrained(tmp_path / "unmerged")
    loaded = AutoModel.from_pretrained(tmp_path / "unmerged")
    torch.testing.assert_close(loaded(**inputs, labels=labels).logits, logits)
    assert {name for name, p in loaded.train().named_parameters() if p.requires_grad} == trained
    model.merge_adapters()
    assert not any("lora" in name for name, _ in model.named_parameters())
    model.save_pretrained(tmp_path / "merged")
    torch.testing.assert_close(AutoModel.from_pretrained(tmp_path / "merged")(**inputs, labels=labels).logits, logits, atol=1e-4, rtol=1e-4)


def test_a_frozen_text_model_stays_frozen_after_loading(tiny_sign_to_text, tmp_path):
    tiny_sign_to_text(freeze_text_model=True).model.save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path).train()
    assert {name for name, p in loaded.named_parameters() if p.requires_grad} == {"projection.weight", "projection.bias"}


@pytest.mark.parametrize("sign_encoder", ["segments", "frames"])
@pytest.mark.parametrize("scale_embedding", [False, True])
def test_what_a_new_model_reads_is_as_large_as_its_token_embeddings(tiny_sign_mae, sign_encoder, scale_embedding):
    text_config = dict(d_model=128, encoder_layers=1, decoder_layers=1, encoder_ffn_dim=8, decoder_ffn_dim=8, vocab_size=16)
    model = SignToText.from_parts(
        tiny_sign_mae(), text_config=text_config | {"scale_embedding": scale_embedding}, sign_encoder=sign_encoder
    )
    projected = model.projection(torch.randn(200, model.projection.in_features)).std()
    embedded = model.text_model.get_encoder().embed_tokens(torch.arange(4, 16)).std()
    torch.testing.assert_close(projected, embedded, rtol=0.3, atol=0)  # 1,500 random numbers


# --- Baselines --------------------------------------------------------------------------------------------------------------------


def test_frame_stride_reads_every_nth_frame(tiny_sign_to_text):
    every = tiny_sign_to_text(sign_encoder="frames").model
    third = tiny_sign_to_text(sign_encoder="frames", frame_stride=3).model
    inputs, labels = batch()
    skipped = {name: value[:, ::3] for name, value in inputs.items()}
    torch.testing.assert_close(third(**inputs, labels=labels).logits, every(**skipped, labels=labels).logits)


# --- Pipeline ---------------------------------------------------------------------------------------------------------------------


def clip(num_frames=40, seed=0):
    from tests.conftest import random_signing

    return random_signing(num_frames, seed) * 100 + 300


def test_the_pipeline_takes_arrays_rows_clips_and_files(tiny_sign_to_text, tmp_path):
    pipe = tiny_sign_to_text()
    keypoints = clip()
    confidence = np.ones(keypoints.shape[:2], np.float32)
    np.savez(tmp_path / "clip.npz", keypoints=keypoints, confidence=confidence)
    expected = pipe(keypoints, layout="uniglor73", fps=25.0)
    row = {"id": "a", "keypoints": keypoints.tolist(), "confidence": confidence, "layout": "uniglor73", "fps": 25.0, "width": None}
    assert pipe(row) == expected
    assert pipe(KeypointClip(keypoints, confidence, "uniglor73", 25.0)) == expected
    assert pipe(str(tmp_path / "clip.npz"), layout="uniglor73", fps=25.0) == expected
    assert set(expected) == {"translation_text", "score"} and expected["score"] < 0


def test_lists_batches_and_generators_say_what_single_clips_say(tiny_sign_to_text):
    pipe = tiny_sign_to_text()
    clips = [clip(20 + 9 * index, index) for index in range(4)]
    single = [pipe(keypoints) for keypoints in clips]
    for answers in (pipe(clips), pipe(clips, batch_size=3), list(pipe(keypoints for keypoints in clips))):
        assert [answer["translation_text"] for answer in answers] == [answer["translation_text"] for answer in single]
        np.testing.assert_allclose([answer["score"] for answer in answers], [answer["score"] for answer in single], atol=1e-4)


def test_the_score_is_the_mean_log_probability_of_the_tokens(tiny_sign_to_text):
    pipe = tiny_sign_to_text()
    answer = pipe(clip(), num_beams=1, max_new_tokens=6)
    batch = pipe.feature_extractor(clip(), return_tensors="pt")
    generated = pipe.model.generate(
        batch["keypoints"], batch["attention_mask"], num_beams=1, max_new_tokens=6, output_scores=True, return_dict_in_generate=True
    )
    chosen = generated.sequences[0, 1:]
    values = [float(scores[0].log_softmax(-1)[token]) for scores, token in zip(generated.scores, chosen)]
    assert answer["score"] == pytest.approx(np.mean(values), abs=1e-4)


def batches_read(pipe, monkeypatch):
    """(clips, frames) of each batch that the model will read."""
    sizes, forward = [], pipe._forward
    monkeypatch.setattr(pipe, "_forward", lambda batch, **rest: sizes.append(tuple(batch["keypoints"].shape[:2])) or forward(batch, **rest))
    return sizes


def test_a_list_is_read_in_batches_of_like_length_and_answered_in_its_order(tiny_sign_to_text, monkeypatch):
    pipe = tiny_sign_to_text()
    lengths = [20, 80, 22, 82, 24, 84, 26, 86, 28]
    clips = [clip(length, index) for index, length in enumerate(lengths)]
    single = [pipe(keypoints) for keypoints in clips]
    sizes = batches_read(pipe, monkeypatch)
    for arguments, expected in (
        ({}, [(8, 84), (1, 86)]),
        ({"batch_size": 5}, [(5, 28), (4, 86)]),
        ({"batch_size": 1}, [(1, length) for length in lengths]),
        ({"batch_size": 5, "num_workers": 1}, [(5, 82), (4, 86)]),  # transformers' own way, in the order of the list
    ):
        sizes.clear()
        answers = pipe(clips, **arguments)
        assert sizes == expected
        assert [answer["translation_text"] for answer in answers] == [answer["translation_text"] for answer in single]
        np.testing.assert_allclose([answer["score"] for answer in answers], [answer["score"] for answer in single], atol=1e-4)


def test_long_lists_and_long_clips_are_read_within_bounded_memory(tiny_sign_to_text, monkeypatch):
    pipe = tiny_sign_to_text()
    clips = [clip(20 + index, index) for index in range(6)]
    expected = [answer["translation_text"] for answer in pipe(clips)]
    sizes, numbers = batches_read(pipe, monkeypatch), clips[0].size
    monkeypatch.setattr(pipelines_uniglor, "SORTED_COORDINATES", 4 * numbers)  # four clips wait, at the least
    assert [answer["translation_text"] for answer in pipe(clips)] == expected and [size[0] for size in sizes] == [4, 2]
    sizes.clear()
    monkeypatch.setattr(pipelines_uniglor, "MAX_BATCH_COORDINATES", 2 * clips[-1].size)
    assert [answer["translation_text"] for answer in pipe(clips)] == expected and [size[0] for size in sizes] == [2, 2, 2]


def second_pass(pipe, keypoints, **arguments):
    """The score as it was computed before: decoded, then all tokens read again."""
    batch = pipe.feature_extractor(keypoints, return_tensors="pt")
    inputs = {"keypoints": batch["keypoints"], "attention_mask": batch["attention_mask"]}
    ids = pipe.model.generate(**inputs, **arguments)
    log_prob, num_tokens = pipe.model.score(ids[:, 1:], decoder_input_ids=ids[:, :-1], **inputs)
    return float(log_prob / num_tokens)


def count_calls(module, monkeypatch):
    calls, forward = [], module.forward
    monkeypatch.setattr(module, "forward", lambda *args, **kwargs: calls.append(1) or forward(*args, **kwargs))
    return calls


@pytest.mark.parametrize("sign_encoder", ["segments", "frames"])
@pytest.mark.parametrize("arguments", [{}, {"num_beams": 1}, {"early_stopping": True, "max_new_tokens": 4}])
def test_the_score_is_that_of_decoding_without_a_second_pass(tiny_sign_to_text, monkeypatch, sign_encoder, arguments):
    pipe = tiny_sign_to_text(sign_encoder=sign_encoder)
    expected = second_pass(pipe, clip(), **arguments)
    calls = count_calls(pipe.model.text_model.get_encoder(), monkeypatch)
    assert pipe(clip(), **arguments)["score"] == pytest.approx(expected, rel=1e-5)
    assert len(calls) == 1


@pytest.mark.parametrize(
    "arguments",
    [{"length_penalty": 2.0}, {"repetition_penalty": 1.5}, {"no_repeat_ngram_size": 1, "max_new_tokens": 6}, {"min_new_tokens": 3}],
)
def test_where_decoding_changes_log_probabilities_the_score_is_of_a_second_pass(tiny_sign_to_text, monkeypatch, arguments):
    pipe = tiny_sign_to_text()
    expected = second_pass(pipe, clip(), **arguments)
    calls = count_calls(pipe.model.text_model.get_encoder(), monkeypatch)
    assert pipe(clip(), **arguments)["score"] == pytest.approx(expected, rel=1e-5)
    assert len(calls) == 2
    monkeypatch.undo()
    pipe.model.generation_config.update(**arguments)  # the same where the checkpoint says it
    assert pipe(clip())["score"] == pytest.approx(second_pass(pipe, clip()), rel=1e-5)


def test_the_scores_of_a_batch_are_those_of_decoding(tiny_sign_to_text):
    pipe = tiny_sign_to_text()
    clips = [clip(20 + 9 * index, index) for index in range(4)]
    expected = [second_pass(pipe, keypoints) for keypoints in clips]
    np.testing.assert_allclose([answer["score"] for answer in pipe(clips, batch_size=4)], expected, rtol=1e-5)


def test_step_scores_too_many_to_keep_are_not_kept(tiny_sign_to_text, monkeypatch):
    pipe = tiny_sign_to_text()
    expected = pipe(clip())["score"]
    monkeypatch.setattr(pipelines_uniglor, "MOST_STEP_SCORES", 100)
    calls = count_calls(pipe.model.text_model.get_encoder(), monkeypatch)
    assert pipe(clip())["score"] == pytest.approx(expected, rel=1e-5)
    assert len(calls) == 2


def test_what_a_caller_says_of_generation_takes_precedence_without_a_warning(tiny_sign_to_text, monkeypatch):
    """transformers warned of max_length beside the default max_new_tokens, which it took, and of arguments beside a generation config."""
    pipe, warned = tiny_sign_to_text(), []
    for name in ("warning", "warning_once"):
        monkeypatch.setattr(transformers.generation.utils.logger, name, warned.append)
    lengths = {
        name: pipe.model.generate(torch.randn(1, 40, 73, 2), **{name: 7}, num_beams=2).shape[1] for name in ("max_length", "max_new_tokens")
    }
    pipe(clip(), max_length=7, num_beams=1)
    assert lengths["max_length"] <= 7 and lengths["max_new_tokens"] <= 8 and not warned
    assert pipe.model.generation_config.num_beams == 5  # the model's own are left alone


def test_attentions_come_with_the_seconds_that_they_saw(tiny_sign_to_text):
    pipe = tiny_sign_to_text()
    answers = pipe([clip(40), clip(29, 1)], fps=25.0, batch_size=2, return_attentions=True, max_new_tokens=5)
    attentions = answers[1]["attentions"]
    num_tokens = len(attentions["tokens"])
    assert attentions["cross"].shape == (1, 2, num_tokens, 3)
    assert attentions["encoder"].shape == (1, 2, 3, 3)
    np.testing.assert_allclose(attentions["seconds"], [[0, 0.6], [0.28, 0.88], [0.56, 1.16]], atol=1e-6)
    np.testing.assert_allclose(attentions["encoder"].sum(-1), 1, atol=1e-5)
    assert pipe.model.text_model.config._attn_implementation == "sdpa"


def test_the_saved_folder_is_loaded_by_the_pipeline_function(tiny_sign_to_text, tmp_path):
    pipe = tiny_sign_to_text()
    pipe.save_pretrained(tmp_path)
    loaded = pipeline("sign-to-text", model=str(tmp_path), device="cpu")
    expected = pipe(clip())
    assert loaded(clip()) == expected | {"score": pytest.approx(expected["score"], rel=1e-5)}


def test_a_clip_without_hands_is_translated_with_a_warning(tiny_sign_to_text, monkeypatch):
    pipe = tiny_sign_to_text()
    confidence = np.ones((30, 73))
    confidence[:, 27:] = 0
    said = []
    monkeypatch.setattr(pipelines_uniglor.logger, "warning", said.append)
    answer = pipe({"keypoints": clip(30), "confidence": confidence})
    assert any("No hand is visible" in message for message in said)
    assert np.isfinite(answer["score"])


# --- Bad input --------------------------------------------------------------------------------------------------------------------


def test_an_empty_clip_is_refused(tiny_sign_to_text):
    pipe = tiny_sign_to_text()
    with pytest.raises(ValueError, match="found 0 frames, expected at least 1"):
        pipe(np.zeros((0, 73, 2)))


def test_a_processor_of_another_layout_is_refused(tiny_sign_to_text):
    pipe = tiny_sign_to_text()
    processor = KeypointProcessor()
    processor.layout = "another"
    with pytest.raises(ValueError, match="gives layout 'another', but the model has 'uniglor73'"):
        type(pipe)(model=pipe.model, tokenizer=pipe.tokenizer, feature_extractor=processor)


def test_a_tokenizer_larger_than_the_text_model_is_refused(tiny_sign_to_text):
    pipe = tiny_sign_to_text()
    pipe.tokenizer.add_tokens(["neues", "wort"])
    with pytest.raises(ValueError, match="The tokenizer has 18 tokens, but the text model's vocabulary 16"):
        type(pipe)(model=pipe.model, tokenizer=pipe.tokenizer, feature_extractor=pipe.feature_extractor)


def test_a_model_of_another_type_is_refused(tiny_sign_to_text, tiny_sign_mae):
    pipe = tiny_sign_to_text()
    with pytest.raises(ValueError, match="found a model of type 'sign_mae', expected 'sign_to_text'"):
        type(pipe)(model=tiny_sign_mae(), tokenizer=pipe.tokenizer, feature_extractor=pipe.feature_extractor)


def test_a_clip_longer_than_the_text_model_has_positions_is_refused(tiny_sign_to_text):
    model = tiny_sign_to_text(sign_encoder="frames").model
    with pytest.raises(ValueError, match="Found 200 frames in a clip, but the text model has 128 positions"):
        model.generate(torch.zeros(1, 200, 73, 2))


def test_without_peft_the_error_says_what_to_install(tiny_sign_to_text, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    with pytest.raises(ImportError, match="pip install peft"):
        tiny_sign_to_text(lora_rank=4)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"sign_encoder": "words"}, "sign_encoder='words' must be one of 'segments', 'frames'"),
        ({"freeze_text_model": True, "lora_rank": 2}, "exclude each other"),
        ({"text_config": {"model_type": "gpt2"}}, "expected an encoder-decoder"),
    ],
)
def test_a_config_that_cannot_be_says_why(fields, message):
    with pytest.raises(ValueError, match=message):
        SignToTextConfig(**fields)


def test_keypoints_and_latents_exclude_each_other(tiny_sign_to_text):
    with pytest.raises(ValueError, match="either keypoints .* or latents"):
        tiny_sign_to_text().model.generate()
    with pytest.raises(ValueError, match="it reads keypoints"):
        tiny_sign_to_text(sign_encoder="frames").model.generate(latents=torch.zeros(1, 3, 16))


def test_the_default_is_the_papers(tmp_path):
    config = SignToTextConfig()
    text = config.text_config
    assert (text.encoder_layers, text.decoder_layers, text.d_model, text.encoder_attention_heads) == (3, 3, 512, 8)
    assert (config.sign_mae_config.window_size, config.stride) == (15, 7)
    config.save_pretrained(tmp_path)
    assert SignToTextConfig.from_pretrained(tmp_path).to_dict() == config.to_dict()
    assert SignMAE(config.sign_mae_config.__class__(**TINY)).config.stride == 7


def correlated(num, size, seed=0):
    generator = torch.Generator().manual_seed(seed)
    axes = torch.linalg.qr(torch.randn(size, size, generator=generator)).Q
    latents = torch.randn(num, size, generator=generator) * torch.logspace(0, -2.5, size) @ axes
    return (latents - latents.mean(0)) / latents.std(0)


def test_whitened_latents_have_no_covariance_and_the_square_roots_of_their_deviations(tiny_sign_to_text):
    model, latents = tiny_sign_to_text().model, correlated(2000, 16)
    assert torch.equal(model.latent_whitening, torch.eye(16))
    model.set_latent_whitening(latents)
    read = latents @ model.latent_whitening
    deviations, found = torch.linalg.eigvalsh(torch.cov(latents.T)).sqrt(), torch.cov(read.T)
    large = deviations > 0.05 * deviations.square().mean().sqrt()  # smaller ones count as a floor
    halved = found.diag().sqrt()[large] / deviations[large].sqrt()
    torch.testing.assert_close(halved / halved[-1], torch.ones(int(large.sum())), atol=0.02, rtol=0)
    assert (found - found.diag().diag()).abs().max() < 1e-2 * found.diag().max()
    assert read.std() == pytest.approx(1, abs=0.01)


def test_whitening_is_saved_and_an_older_checkpoint_has_none(tiny_sign_to_text, tmp_path):
    model = tiny_sign_to_text().model
    model.set_latent_whitening(correlated(2000, 16))
    model.save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path)
    assert torch.equal(loaded.latent_whitening, model.latent_whitening)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["latent_whitening"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert torch.equal(AutoModel.from_pretrained(tmp_path).latent_whitening, torch.eye(16))
