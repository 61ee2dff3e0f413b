"""SignRecognition: what it reads, what it answers, what is trained, what travels; and its scores."""

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoModelForSequenceClassification, pipeline

from modeling_unigloR import KeypointClip, KeypointProcessor, SignRecognition, SignRecognitionConfig, SignRecognitionPipeline
from tests.conftest import TINY_ENCODER, assert_same_weights, random_signing, standardised
from train.figures.confusion import draw_confusion
from train.metrics.recognition import confusion_matrix, nearest_class_mean, ranks, recognition_scores, top1_interval

LABELS = ("REGEN", "SONNE", "SCHNEE")


def batch(lengths=(40, 25), seed=0):
    torch.manual_seed(seed)
    keypoints = torch.randn(len(lengths), max(lengths), 73, 2) * 0.3
    attention_mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    labels = torch.arange(len(lengths)) % len(LABELS)
    return {"keypoints": keypoints * attention_mask[..., None, None], "attention_mask": attention_mask}, labels


@pytest.fixture(params=["segments", "frames"])
def model(request, tiny_sign_recognition):
    return tiny_sign_recognition(sign_encoder=request.param).model


# --- Model ------------------------------------------------------------------------------------------------------------------------


def test_batch_equals_single(model):
    inputs, _ = batch((40, 25, 9))
    together = model(**inputs).logits
    assert together.shape == (3, 3)
    for index, length in enumerate((40, 25, 9)):
        alone = {name: value[index : index + 1, :length] for name, value in inputs.items()}
        torch.testing.assert_close(model(**alone).logits[0], together[index], atol=1e-5, rtol=1e-5)


def test_what_stands_in_the_padding_changes_nothing(model):
    inputs, _ = batch()
    filled = inputs["keypoints"] + 7 * (1 - inputs["attention_mask"])[..., None, None]
    torch.testing.assert_close(model(filled, inputs["attention_mask"]).logits, model(**inputs).logits, atol=1e-5, rtol=1e-5)


def test_cached_latents_give_the_logits_of_the_keypoints(tiny_sign_recognition):
    model = tiny_sign_recognition().model
    inputs, labels = batch()
    latents, latent_mask = model.encode_sequence(**inputs)
    cached = model(latents=latents, latent_mask=latent_mask, labels=labels)
    found = model(**inputs, labels=labels)
    torch.testing.assert_close((cached.loss, cached.logits), (found.loss, found.logits), atol=1e-5, rtol=1e-5)


def test_the_order_of_the_signing_counts(model):
    inputs, _ = batch((40,))
    backwards = {name: value.flip(1) for name, value in inputs.items()}
    assert not torch.allclose(model(**backwards).logits, model(**inputs).logits, atol=1e-3)


def test_a_clip_may_be_of_any_length(tiny_sign_recognition):
    model = tiny_sign_recognition(sign_encoder="frames").model
    assert model(torch.zeros(1, 2000, 73, 2)).logits.isfinite().all()


def test_frame_stride_reads_every_nth_frame(tiny_sign_recognition):
    every, third = (tiny_sign_recognition(sign_encoder="frames", frame_stride=step).model for step in (1, 3))
    inputs, _ = batch()
    torch.testing.assert_close(third(**inputs).logits, every(**{name: value[:, ::3] for name, value in inputs.items()}).logits)


def test_the_loss_is_the_mean_over_labelled_clips(model):
    inputs, labels = batch((30, 30, 20))
    labels[1] = -100
    output = model(**inputs, labels=labels)
    log_probs = output.logits.log_softmax(-1)
    torch.testing.assert_close(output.loss, -(log_probs[0, 0] + log_probs[2, 2]) / 2)


def test_label_smoothing_gives_other_labels_their_share(tiny_sign_recognition):
    model = tiny_sign_recognition(label_smoothing=0.3).model
    inputs, labels = batch((30,))
    output = model(**inputs, labels=labels)
    torch.testing.assert_close(output.loss, -(output.logits.log_softmax(-1)[0] * torch.tensor([0.8, 0.1, 0.1])).sum())


def test_saved_and_loaded_it_answers_the_same_and_stays_frozen(model, tmp_path):
    inputs, _ = batch()
    model.save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path)
    torch.testing.assert_close(loaded(**inputs).logits, model(**inputs).logits)
    assert_same_weights(model, loaded)
    assert loaded.config.id2label == dict(enumerate(LABELS)) and loaded.config.label2id["SCHNEE"] == 2
    if model.config.sign_encoder == "segments":
        assert not any(p.requires_grad for p in loaded.train().sign_mae.parameters())
        assert not loaded.sign_mae.training


def test_it_is_an_auto_model_for_sequence_classification(tiny_sign_recognition, tmp_path):
    tiny_sign_recognition().model.save_pretrained(tmp_path)
    assert type(AutoModelForSequenceClassification.from_pretrained(tmp_path)) is SignRecognition


def test_latents_are_those_of_the_sign_mae_it_was_made_from(tiny_sign_mae, tmp_path):
    sign_mae = tiny_sign_mae(3)
    sign_mae.set_latent_statistics(torch.ones(16), 2 * torch.ones(16))
    sign_mae.save_pretrained(tmp_path / "sign-mae")
    model = SignRecognition.from_parts(tmp_path / "sign-mae", {0: "A", 1: "B"}, **TINY_ENCODER).eval()
    inputs, _ = batch()
    torch.testing.assert_close(model.encode_sequence(**inputs), sign_mae.encode_sequence(**inputs, stride=7))
    assert not any("decoder" in name for name in model.sign_mae.state_dict())
    model.save_pretrained(tmp_path / "out")
    assert str(tmp_path) not in (tmp_path / "out" / "config.json").read_text()


def test_every_trainable_parameter_gets_a_gradient(tiny_sign_recognition):
    for fields in ({}, {"sign_encoder": "frames"}, {"freeze_sign_mae": False}):
        model = tiny_sign_recognition(**fields).model.train()
        inputs, labels = batch()
        model(**inputs, labels=labels).loss.backward()
        without = {name for name, p in model.named_parameters() if p.requires_grad and p.grad is None}
        assert without <= {"sign_mae.encoder.mask_token"}, without  # only pretraining masks


@pytest.mark.parametrize("sign_encoder", ["segments", "frames"])
def test_it_learns_a_batch(sign_encoder, tiny_sign_mae):
    inputs, labels = batch((30, 30, 30, 30))
    no_dropout = dict(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)  # whose noise hides what the last step knows
    sign_mae = standardised(tiny_sign_mae(), inputs["keypoints"])
    model = SignRecognition.from_parts(sign_mae, LABELS, **TINY_ENCODER, **no_dropout, sign_encoder=sign_encoder)
    optimizer = torch.optim.AdamW([p for p in model.train().parameters() if p.requires_grad], lr=3e-3)
    losses = []
    for _ in range(100):
        loss = model(**inputs, labels=labels).loss
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < losses[0] / 5


def test_a_sign_mae_without_statistics_is_named(tiny_sign_mae, caplog):
    sign_mae = tiny_sign_mae()
    for expected in (True, False):
        with caplog.at_level("WARNING"):
            SignRecognition.from_parts(sign_mae, LABELS, **TINY_ENCODER)
        assert ("no statistics of its latents" in caplog.text) == expected
        caplog.clear()
        standardised(sign_mae, batch()[0]["keypoints"])


def test_a_new_head_finds_every_label_about_as_probable(tiny_sign_mae):
    torch.manual_seed(0)
    model = SignRecognition.from_parts(tiny_sign_mae(), [f"word {n}" for n in range(50)], **TINY_ENCODER).eval()
    assert model(**batch()[0]).logits.softmax(-1).max() < 1.5 / 50


# --- Pipeline ---------------------------------------------------------------------------------------------------------------------


def clip(num_frames=40, seed=0):
    return random_signing(num_frames, seed) * 100 + 300


def test_the_pipeline_takes_arrays_rows_clips_and_files(tiny_sign_recognition, tmp_path):
    pipe = tiny_sign_recognition()
    keypoints = clip()
    confidence = np.ones(keypoints.shape[:2], np.float32)
    np.savez(tmp_path / "clip.npz", keypoints=keypoints, confidence=confidence)
    expected = pipe(keypoints, layout="uniglor73", fps=25.0)
    assert (
        pipe({"id": "a", "keypoints": keypoints, "confidence": confidence, "layout": "uniglor73", "fps": 25.0, "width": None}) == expected
    )
    assert pipe(KeypointClip(keypoints, confidence, "uniglor73", 25.0)) == expected
    assert pipe(str(tmp_path / "clip.npz"), layout="uniglor73", fps=25.0) == expected
    assert {answer["label"] for answer in expected} == set(LABELS)
    assert sum(answer["score"] for answer in expected) == pytest.approx(1)


def test_the_most_probable_labels_come_first_and_top_k_says_how_many(tiny_sign_recognition):
    pipe = tiny_sign_recognition(labels=[f"word {n}" for n in range(9)])
    batch = pipe.feature_extractor(clip(), return_tensors="pt")
    logits = pipe.model(batch["keypoints"], batch["attention_mask"]).logits[0]
    probabilities, order = logits.softmax(-1).sort(descending=True)
    answers = pipe(clip())
    assert [answer["label"] for answer in answers] == [f"word {n}" for n in order[:5].tolist()]
    np.testing.assert_allclose([answer["score"] for answer in answers], probabilities[:5].detach(), atol=1e-5)
    assert pipe(clip(), top_k=2) == answers[:2] and len(pipe(clip(), top_k=100)) == 9


@pytest.mark.parametrize("sign_encoder", ["segments", "frames"])
def test_lists_batches_and_generators_say_what_single_clips_say(tiny_sign_recognition, sign_encoder):
    pipe = tiny_sign_recognition(sign_encoder=sign_encoder)
    clips = [clip(20 + 9 * index, index) for index in range(4)]
    single = [pipe(keypoints) for keypoints in clips]
    for answers in (pipe(clips), pipe(clips, batch_size=3), list(pipe(keypoints for keypoints in clips))):
        assert [[one["label"] for one in answer] for answer in answers] == [[one["label"] for one in answer] for answer in single]
        np.testing.assert_allclose(*([[one["score"] for one in answer] for answer in some] for some in (answers, single)), atol=1e-5)


def test_the_saved_folder_is_loaded_by_the_pipeline_function(tiny_sign_recognition, tmp_path):
    pipe = tiny_sign_recognition()
    pipe.save_pretrained(tmp_path)
    loaded = pipeline("sign-recognition", model=str(tmp_path), device="cpu")
    assert type(loaded) is SignRecognitionPipeline
    for found, expected in zip(loaded(clip()), pipe(clip()), strict=True):
        assert found == expected | {"score": pytest.approx(expected["score"], rel=1e-5)}


# --- Scores -----------------------------------------------------------------------------------------------------------------------


def test_top_k_by_hand():
    logits = np.tile(np.arange(12.0), (4, 1))  # the order of the labels is 11, 10, ..., 0
    labels = np.array([11, 11, 8, 1])
    scores = recognition_scores(logits, labels)
    assert (scores["top1"], scores["top5"], scores["top10"]) == (50, 75, 75)
    assert scores["top1_class"] == pytest.approx(100 / 3) and scores["top5_class"] == pytest.approx(200 / 3)
    assert scores["num_scored"] == 4 and scores["num_labels"] == 3
    assert scores["signatures"]["top1"] == "top1|mean:clips|ties:last|labels:3 of 12|n:4"


def test_a_model_that_cannot_decide_is_not_right():
    assert recognition_scores(np.zeros((5, 20)), np.arange(5))["top10"] == 0


def test_logits_that_are_no_number_are_refused():
    """A comparison with NaN is false: every clip of a broken model would be right."""
    with pytest.raises(ValueError, match="1 of 2 clips have logits that are no number"):
        ranks([[np.nan, 0.0], [1.0, 0.0]], [0, 1])


@pytest.mark.parametrize(
    "logits, labels, message",
    [
        (np.zeros((0, 3)), [], "expected \\(clips, labels\\) and \\(clips,\\)"),
        (np.zeros((2, 3)), [0], "labels of shape \\(1,\\)"),
        (np.zeros((2, 3)), [0, 3], "Found labels 0 to 3, expected 0 to 2"),
    ],
)
def test_scores_without_meaning_are_refused(logits, labels, message):
    with pytest.raises(ValueError, match=message):
        recognition_scores(logits, labels)


def test_the_interval_holds_the_score_and_groups_widen_it(rng):
    labels = np.repeat(np.arange(20) % 4, 10)
    hit = np.repeat(rng.random(20) < 0.6, 10)  # takes of a group are right or wrong together
    logits = np.eye(4)[np.where(hit, labels, (labels + 1) % 4)]
    clips, groups = top1_interval(logits, labels), top1_interval(logits, labels, np.repeat(np.arange(20), 10))
    assert clips["low"] <= clips["score"] == groups["score"] <= clips["high"]
    assert groups["high"] - groups["low"] > 2 * (clips["high"] - clips["low"])
    assert groups["signature"].endswith("bs:1000 of 20 groups|seed:0")


def test_the_confusion_matrix_counts_what_was_taken_for_what():
    logits = np.eye(3)[[0, 1, 1, 2]]
    np.testing.assert_array_equal(confusion_matrix(logits, [0, 0, 1, 2]), [[1, 1, 0], [0, 1, 0], [0, 0, 1]])


def test_the_confusion_figure_shows_shares_and_names_its_errors():
    matrix = np.array([[3, 1, 0], [0, 2, 0], [0, 0, 4]])
    (axes,) = draw_confusion(matrix, ["a & $b", "<c>", "d"]).axes
    assert axes.get_title() == "10 clips, 90.0 % right"
    assert axes.get_xlabel().splitlines() == ["predicted label", r"a & \$b taken for <c>: 1 of 4"]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == [r"a & \$b", "<c>", "d"]
    cells = axes.images[0].get_array()  # red, green, blue, opacity
    np.testing.assert_allclose(cells[..., 3], matrix / matrix.sum(1, keepdims=True))
    assert cells[0, 1, 0] > cells[0, 1, 2] and cells[0, 0, 0] < cells[0, 0, 2]  # wrong answers are red, right ones blue


def test_a_large_confusion_figure_keeps_the_labels_with_the_most_errors():
    matrix = 5 * np.eye(200, dtype=int)
    matrix[150, 151] = 9
    (axes,) = draw_confusion(matrix, [f"word {n}" for n in range(200)], max_labels=10).axes
    assert "word 150 taken for word 151: 9 of 14" in axes.get_xlabel()
    assert axes.get_title().endswith("10 of 200 labels, those with the most errors")
    assert {"word 150", "word 151"} <= {tick.get_text() for tick in axes.get_yticklabels()} and axes.images[0].get_array().shape[0] == 10


def test_the_nearest_class_mean_is_found_on_standardised_features():
    train = np.array([[0.0, 0.0], [0.2, 1000.0], [5.0, 0.0], [5.2, 1000.0]])
    logits = nearest_class_mean(train, np.array([0, 0, 2, 2]), np.array([[0.3, 900.0], [4.9, 10.0]]), num_labels=3)
    assert logits.argmax(1).tolist() == [0, 2] and (logits.argmin(1) == 1).all()  # label 1 has no training clip
    assert np.isfinite(logits).all()


# --- Bad input --------------------------------------------------------------------------------------------------------------------


def test_latents_for_a_frame_model_and_both_inputs_are_refused(tiny_sign_recognition):
    with pytest.raises(ValueError, match="reads keypoints"):
        tiny_sign_recognition(sign_encoder="frames").model(latents=torch.zeros(1, 2, 16))
    with pytest.raises(ValueError, match="Give either keypoints"):
        tiny_sign_recognition().model()


def test_keypoints_of_another_layout_are_refused(model):
    with pytest.raises(ValueError, match="Found .* of shape"):
        model(torch.zeros(1, 40, 50, 2))


def test_a_model_of_another_type_is_refused(tiny_sign_recognition, tiny_sign_mae):
    with pytest.raises(ValueError, match=r"pipeline\('sign-recognition'\) found a model of type 'sign_mae', expected 'sign_recognition'"):
        SignRecognitionPipeline(model=tiny_sign_mae(), feature_extractor=KeypointProcessor())


def test_a_processor_of_other_channels_is_refused(tiny_sign_recognition):
    with pytest.raises(ValueError, match="gives 3 channels, but the model reads 2"):
        SignRecognitionPipeline(model=tiny_sign_recognition().model, feature_extractor=KeypointProcessor(num_channels=3))


@pytest.mark.parametrize("given, message", [({"top_k": 0}, "Found top_k=0"), ({"topk": 3}, "Unknown argument topk. Expected top_k")])
def test_arguments_that_the_pipeline_does_not_know_are_refused(tiny_sign_recognition, given, message):
    with pytest.raises(ValueError, match=message):
        tiny_sign_recognition()(clip(), **given)


def test_a_name_for_two_labels_is_refused(tiny_sign_mae):
    with pytest.raises(ValueError, match="id2label gives 'A' to more than one label"):
        SignRecognition.from_parts(tiny_sign_mae(), ["A", "B", "A"], **TINY_ENCODER)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"sign_encoder": "words"}, "sign_encoder='words' must be one of 'segments', 'frames'"),
        ({"label_smoothing": 1.0}, "label_smoothing=1.0 must be at least 0 and below 1"),
        ({"hidden_size": 20, "num_attention_heads": 8}, "hidden_size=20 must be an even multiple"),
        ({"id2label": {0: "A", 2: "B"}}, r"id2label has the keys \[0, 2\] ..., expected 0 to 1"),
    ],
)
def test_a_config_that_cannot_be_says_why(fields, message):
    with pytest.raises(ValueError, match=message):
        SignRecognitionConfig(**fields)
