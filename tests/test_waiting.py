"""What a training does not wait for: a GPU in every step, a barrier while data are built, an encoder on the CPU, new shapes."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from modeling_unigloR import SignToText
from modeling_unigloR.modeling_clip_reader import norm_of_real
from train import train_recognition, train_sign_to_text, train_text_to_sign
from train.data.clips import LatentStore, TextToSignCollator, TranslationCollator
from train.engine import runs
from train.engine.arguments import UniGloRTrainingArguments
from train.engine.runs import padding_of
from train.engine.trainers import NonFiniteLossError

from .test_sign_to_text import batch as clips_and_labels
from .test_train_recognition import arguments as recognition_arguments
from .test_train_recognition import corpus as labelled  # noqa: F401 (a fixture)
from .test_train_sign_to_text import arguments as sign_to_text_arguments
from .test_train_text_to_sign import arguments as text_to_sign_arguments

# --- Before training --------------------------------------------------------------------------------------------------------------


class Built(Exception):
    pass


@pytest.mark.parametrize("script", [train_sign_to_text, train_recognition, train_text_to_sign])
def test_latents_are_encoded_on_the_trainings_device_and_no_process_waits_at_a_barrier(
    script,
    corpus,
    labelled,  # noqa: F811
    sign_mae_dir,
    tmp_path,
    monkeypatch,
):
    """Latents of a large corpus were encoded on the CPU beside a GPU, and took longer than the half hour after which a barrier gives up."""
    moved = []
    monkeypatch.setattr(
        torch.nn.Module, "to", lambda self, *args, to=nn.Module.to, **kwargs: moved.append(args) or to(self, *args, **kwargs)
    )
    monkeypatch.setattr(UniGloRTrainingArguments, "main_process_first", None)
    device = torch.device("cpu")
    monkeypatch.setattr(UniGloRTrainingArguments, "device", device)  # the very object

    def build(*args, **kwargs):
        assert any(given and given[0] is device for given in moved)
        raise Built

    monkeypatch.setattr(LatentStore, "build", build)
    argv = {
        train_sign_to_text: lambda: sign_to_text_arguments(corpus, tmp_path / "out", "--sign_mae", sign_mae_dir),
        train_recognition: lambda: recognition_arguments(labelled, tmp_path / "out", "--sign_mae", sign_mae_dir),
        train_text_to_sign: lambda: text_to_sign_arguments((corpus, corpus), sign_mae_dir, tmp_path / "out"),
    }
    with pytest.raises(Built):
        script.main(argv[script]())


def test_a_digest_of_clips_is_that_of_their_json_whatever_its_pieces():
    """A checkpoint's digest of ten million clips was made of gigabytes of Python objects; older checkpoints keep theirs."""
    facts = [[np.array(["a", "bé"]), np.array([3, 4])], [np.array([], str), np.array([], int)], ["x", None, "y", "z"], [], 7]
    plain = [[["a", "bé"], [3, 4]], [[], []], ["x", None, "y", "z"], [], 7]
    assert "".join(runs._json_pieces(facts, size=3)) == "".join(runs._json_pieces(plain, size=1)) == json.dumps(plain)


# --- In a step --------------------------------------------------------------------------------------------------------------------


def test_a_text_task_too_stops_at_a_loss_that_is_not_a_number(corpus, sign_mae_dir, tmp_path, monkeypatch):
    """transformers would have logged a mean without it, and trained on with weights that are not numbers."""
    calm, calls = SignToText.forward, []

    def forward(self, *args, **kwargs):
        output = calm(self, *args, **kwargs)
        calls.append(1)
        if len(calls) == 2:
            output.loss = output.loss * float("nan")
        return output

    monkeypatch.setattr(SignToText, "forward", forward)
    with pytest.raises(NonFiniteLossError, match="The loss of step 2 is nan"):
        train_sign_to_text.main(sign_to_text_arguments(corpus, tmp_path / "out", "--sign_mae", sign_mae_dir))
    assert not list((tmp_path / "out").glob("checkpoint-*"))


def test_by_default_transformers_looks_at_no_loss(tmp_path):
    assert not UniGloRTrainingArguments(output_dir=str(tmp_path)).logging_nan_inf_filter


# --- Shapes -----------------------------------------------------------------------------------------------------------------------


def test_lengths_are_padded_to_a_multiple_on_accelerators_where_the_models_limits_allow_it():
    assert padding_of(torch.device("cpu"), 1024) == 1
    assert padding_of(torch.device("cuda"), 1024, None, 128) == 8
    assert padding_of(torch.device("cuda"), 1024, 13) == 1


@pytest.mark.parametrize("sign_encoder", ["segments", "frames"])
def test_batches_padded_to_a_multiple_have_the_same_loss(sign_encoder, tiny_sign_to_text):
    model = tiny_sign_to_text(sign_encoder=sign_encoder).model
    inputs, labels = clips_and_labels((37, 25, 30))
    items = []
    for keypoints, mask, ids in zip(inputs["keypoints"], inputs["attention_mask"], labels):
        clip = keypoints[: mask.sum()]
        read = {"keypoints": clip} if sign_encoder == "frames" else {"latents": model.encode_sequence(clip[None])[0][0]}
        items.append(read | {"labels": ids})
    plain, padded = TranslationCollator()(items), TranslationCollator(pad_to_multiple_of=8)(items)
    assert padded["labels"].shape == (3, 8) and all(value.shape[1] % 8 == 0 for value in padded.values())
    model.eval()
    torch.testing.assert_close(model(**padded).loss, model(**plain).loss, atol=1e-6, rtol=1e-5)


def test_texts_and_latents_padded_to_a_multiple_have_the_same_losses(tiny_text_to_sign):
    model = tiny_text_to_sign(keypoint_loss_weight=1.0).model
    torch.manual_seed(0)
    items = [{"input_ids": torch.randint(4, 9, (length,)), "latents": torch.randn(length - 2, 16)} for length in (7, 5)]
    pad_token_id = model.config.text_config.pad_token_id
    plain, padded = (TextToSignCollator(pad_token_id, multiple)(items) for multiple in (1, 8))
    assert padded["input_ids"].shape == padded["latents"].shape[:2] == (2, 8)
    whole, found = model(**plain), model(**padded)
    for name in ("loss", "latent_loss", "length_loss", "keypoint_loss"):
        torch.testing.assert_close(found[name], whole[name], atol=1e-6, rtol=1e-5, msg=name)


# --- Masks in place of selecting --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [True, False])
def test_a_norm_over_real_frames_is_the_norm_of_the_selected_frames(training):
    """Output, gradients and running statistics."""
    torch.manual_seed(0)
    frames, real = torch.randn(3, 6, 4) * 2 + 1, (torch.arange(6) < torch.tensor([6, 2, 4])[:, None])[..., None]
    ours, torchs = nn.BatchNorm1d(4).train(training), nn.BatchNorm1d(4).train(training)
    for norm in (ours, torchs):
        nn.init.uniform_(norm.weight, 0.5, 2, generator=torch.Generator().manual_seed(1))
    slopes = torch.randn(3, 6, 4)
    found = norm_of_real(ours, torch.where(real, frames, 0), real)[real[..., 0]]
    expected = torchs(frames[real[..., 0]])
    for values in (found, expected):
        (values * slopes[real[..., 0]]).sum().backward()
    torch.testing.assert_close(found, expected)
    for name in ("weight", "bias"):
        torch.testing.assert_close(getattr(ours, name).grad, getattr(torchs, name).grad, atol=1e-5, rtol=1e-5)
    for name, value in torchs.named_buffers():
        torch.testing.assert_close(getattr(ours, name), value, msg=name)


def test_the_keypoint_loss_compiles_into_one_graph(tiny_text_to_sign):
    model = tiny_text_to_sign(keypoint_loss_weight=1.0).model
    torch.manual_seed(0)
    predicted, latents, real = torch.randn(2, 4, 16), torch.randn(2, 4, 16), torch.arange(4) < torch.tensor([[4], [2]])
    found = torch.compile(model._keypoint_losses, backend="eager", fullgraph=True)(predicted, latents, real)
    torch.testing.assert_close(found, model._keypoint_losses(predicted, latents, real))
