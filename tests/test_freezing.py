"""What the configuration freezes is frozen once: when a model is made, and when it is loaded. What a user changes later lasts."""

import pytest
import torch
from transformers import AutoModel

FACTORIES = {
    "sign_to_text": ("tiny_sign_to_text", {"freeze_text_model": True}),
    "text_to_sign": ("tiny_text_to_sign", {"freeze_text_model": True}),
    "sign_recognition": ("tiny_sign_recognition", {}),
}
KINDS = pytest.mark.parametrize("kind", FACTORIES)


@pytest.fixture
def make(request):
    def make(kind):
        factory, fields = FACTORIES[kind]
        return request.getfixturevalue(factory)(**fields).model

    return make


def frozen_parts(model):
    return [part for part in (model.sign_mae, getattr(model, "text_model", None)) if part is not None]


def is_trained(part):
    return {parameter.requires_grad for parameter in part.parameters()}


@KINDS
def test_made_or_loaded_the_frozen_parts_are_frozen_and_in_eval_mode(kind, make, tmp_path):
    made = make(kind)
    made.save_pretrained(tmp_path)
    for model in (made, type(made).from_pretrained(tmp_path), AutoModel.from_pretrained(tmp_path)):
        for mode in (True, False, True):
            model.train(mode)
            assert all(is_trained(part) == {False} and not part.training for part in frozen_parts(model))
            assert model.training == mode and all(child.training == mode for child in model.children() if child not in frozen_parts(model))
        assert any(parameter.requires_grad for parameter in model.parameters())


@KINDS
def test_what_a_user_unfreezes_stays_so_and_gets_a_gradient(kind, make, tmp_path):
    make(kind).save_pretrained(tmp_path)
    model = AutoModel.from_pretrained(tmp_path)
    for part in frozen_parts(model):
        part.requires_grad_(True)
    model.train().eval()
    model.train()
    assert all(is_trained(part) == {True} and part.training for part in frozen_parts(model))
    keypoints, labels = torch.randn(2, 30, 73, 2), torch.randint(4, 9, (2, 4))
    if kind == "text_to_sign":
        model.config.keypoint_loss_weight = 1.0  # what reads the frozen decoder
        output = model(labels, latents=torch.randn(2, 3, 16))
    else:
        output = model(keypoints, labels=labels if kind == "sign_to_text" else torch.tensor([0, 1]))
    output.loss.backward()
    for part in frozen_parts(model):
        assert sum(parameter.grad is not None and bool(parameter.grad.any()) for parameter in part.parameters()) > 5


@KINDS
def test_what_a_user_freezes_stays_so(kind, make):
    model = make(kind)
    model.requires_grad_(False)
    assert is_trained(model.train().eval().train()) == {False}


def test_adapters_are_trained_after_loading_and_what_is_unfrozen_beside_them_stays_so(tiny_sign_to_text, tmp_path):
    pytest.importorskip("peft")
    tiny_sign_to_text(lora_rank=2).model.save_pretrained(tmp_path)
    model = AutoModel.from_pretrained(tmp_path)
    trained = {name for name, parameter in model.text_model.named_parameters() if parameter.requires_grad}
    assert trained and all("lora_" in name for name in trained)
    model.text_model.requires_grad_(True)
    assert is_trained(model.train().text_model) == {True}
