"""Every model and every half of one against the contract of transformers, see `ModelChecks`."""

import pytest
import torch

from modeling_unigloR import SignMAEDecoderModel, SignMAEEncoderModel
from tests.conftest import CODES_FLOW, random_signing
from tests.model_checks import ModelChecks, Stranger, TextModelChecks

LENGTHS = (40, 25)


def clips():
    """A padded batch of two clips."""
    keypoints = torch.zeros(2, max(LENGTHS), 73, 2)
    attention_mask = torch.zeros(2, max(LENGTHS), dtype=torch.long)
    for index, length in enumerate(LENGTHS):
        keypoints[index, :length] = torch.from_numpy(random_signing(length, seed=index))
        attention_mask[index, :length] = 1
    return {"keypoints": keypoints, "attention_mask": attention_mask}


def latents():
    """A padded batch of the latents of two clips."""
    values = torch.randn(2, 4, 16, generator=torch.Generator().manual_seed(0))
    return {"latents": values, "latent_mask": torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])}


def segments():
    keypoints = torch.from_numpy(random_signing(90)).view(6, 15, 73, 2)
    generator = torch.Generator().manual_seed(0)
    noise = torch.stack([torch.randperm(15, generator=generator) for _ in keypoints]) / 16  # the same order in every precision
    return {"keypoints": keypoints, "noise": noise}


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    """One process for all models: starting it takes longer than all that it does."""
    stranger = Stranger(tmp_path_factory.mktemp("stranger"))
    yield stranger
    stranger.stop()


LABELS = torch.tensor([[5, 6, 7, 2], [8, 2, -100, -100]])


class TestSignMAE(ModelChecks):
    hidden_states, attentions = {"hidden_states": 2}, {"attentions": 2}

    def make(self, request, **fields):
        return request.getfixturevalue("tiny_sign_mae")(**fields)

    def inputs(self, model):
        return segments()


class TestSignMAEOfWhitenedFrames(TestSignMAE):
    def make(self, request, **fields):
        model = super().make(request, graph_channels=0, input_whitening=12, linear_skip=True, **fields)
        model.calibrate(segments()["keypoints"])
        return model


class TestSignMAEEncoderModel(ModelChecks):
    hidden_states, attentions = {"hidden_states": 2}, {"attentions": 2}
    travels = False

    def make(self, request, **fields):
        sign_mae = request.getfixturevalue("tiny_sign_mae")(**fields)
        model = SignMAEEncoderModel(sign_mae.config).eval()
        model.load_state_dict(sign_mae.state_dict(), strict=False)
        return model

    def inputs(self, model):
        return clips()

    def compiled(self, model):
        return "encode", {"keypoints": segments()["keypoints"]}  # how many windows clips have depends on the data


class TestSignMAEDecoderModel(ModelChecks):
    hidden_states = {"hidden_states": 1}
    attentions = {"attentions": 1, "cross_attentions": 1}
    travels = False

    def make(self, request, **fields):
        sign_mae = request.getfixturevalue("tiny_sign_mae")(**fields)
        model = SignMAEDecoderModel(sign_mae.config).eval()
        model.load_state_dict(sign_mae.state_dict(), strict=False)
        return model

    def inputs(self, model):
        return {"latents": latents()["latents"]}


class TestSignToText(ModelChecks, TextModelChecks):
    hidden_states = {"encoder_hidden_states": 1, "decoder_hidden_states": 1}
    attentions = {"encoder_attentions": 1, "decoder_attentions": 1, "cross_attentions": 1}
    compiled_fields = {}  # its text model has one layer

    def make(self, request, **fields):
        return request.getfixturevalue("tiny_sign_to_text")(**fields).model

    def inputs(self, model):
        return clips() | {"labels": LABELS}

    def compiled(self, model):
        return "forward", latents() | {"labels": LABELS}


class TestSignToTextOfFrames(TestSignToText):
    def make(self, request, **fields):
        return super().make(request, sign_encoder="frames", **fields)

    def compiled(self, model):
        return "forward", clips() | {"labels": LABELS}


class TestTextToSign(ModelChecks, TextModelChecks):
    hidden_states = {"hidden_states": 2}
    attentions = {"attentions": 2, "cross_attentions": 2}

    def make(self, request, **fields):
        return request.getfixturevalue("tiny_text_to_sign")(**fields).model

    def inputs(self, model):
        ids = torch.tensor([[2, 5, 6, 7, 3], [2, 8, 3, 0, 0]])
        return {"input_ids": ids, "attention_mask": (ids != 0).long(), **latents()}


class TestTextToSignOfCodes(TestTextToSign):
    def make(self, request, **fields):
        return super().make(request, **CODES_FLOW, **fields)

    def inputs(self, model):
        return super().inputs(model) | {"noise": torch.randn(2, 2, 4, 17, generator=torch.Generator().manual_seed(0))}


class TestSignRecognition(ModelChecks):
    hidden_states, attentions = {"hidden_states": 2}, {"attentions": 2}

    def make(self, request, **fields):
        return request.getfixturevalue("tiny_sign_recognition")(**fields).model

    def inputs(self, model):
        return clips() | {"labels": torch.tensor([0, 2])}

    def compiled(self, model):
        return "forward", latents() | {"labels": torch.tensor([0, 2])}
