"""Wrong tensors are refused at the door, by a `ValueError` that names them and says what was found and expected."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel

KEYPOINTS, IDS = torch.randn(2, 30, 73, 2), torch.randint(4, 9, (2, 5))
LATENTS, MASK = torch.randn(2, 3, 16), torch.tensor([[1, 1, 1], [1, 1, 0]])
CALLS = {  # what is given, each tensor of it right
    "sign_mae.forward": dict(keypoints=KEYPOINTS[:, :15], keypoint_mask=torch.ones(2, 15, 73), noise=torch.rand(2, 15)),
    "sign_mae.encode": dict(keypoints=KEYPOINTS[:, :15]),
    "sign_mae.encode_sequence": dict(keypoints=KEYPOINTS, attention_mask=torch.ones(2, 30)),
    "sign_mae.decode": dict(latents=LATENTS),
    "sign_to_text.forward": dict(keypoints=KEYPOINTS, attention_mask=torch.ones(2, 30), labels=IDS, decoder_input_ids=IDS),
    "sign_to_text.forward, latents": dict(latents=LATENTS, latent_mask=MASK, labels=IDS),
    "sign_to_text.generate": dict(latents=LATENTS, latent_mask=MASK),
    "frames.forward": dict(keypoints=KEYPOINTS, attention_mask=torch.ones(2, 30), labels=IDS),
    "text_to_sign.forward": dict(input_ids=IDS, attention_mask=torch.ones_like(IDS), latents=LATENTS, latent_mask=MASK),
    "text_to_sign.generate": dict(input_ids=IDS, attention_mask=torch.ones_like(IDS)),
    "text_to_sign.decode_sequence": dict(latents=LATENTS, latent_mask=MASK),
    "sign_recognition.forward": dict(keypoints=KEYPOINTS, attention_mask=torch.ones(2, 30), labels=torch.tensor([0, 2])),
    "sign_recognition.forward, latents": dict(latents=LATENTS, latent_mask=MASK),
}
NUMBERS, MASKS = ("keypoints", "latents", "noise"), ("attention_mask", "latent_mask")
FREE = {
    ("sign_mae.decode", "latents"): ("one rank less", "one rank more", "empty batch"),  # any shape (..., D) is decoded
    ("text_to_sign.forward", "latents"): ("doubles",),  # targets, which nothing is multiplied with
}


def wrong(name, tensor):
    """{what is wrong: the tensor}, each of which nothing can be made of."""
    yield "one rank less", tensor[0]
    yield "one rank more", tensor[None]
    yield "empty batch", tensor[:0]
    yield "a list", tensor.tolist()
    yield "complex", tensor.to(torch.complex64)
    if name != "noise":
        yield "other width", torch.cat([tensor, tensor], dim=-1) if tensor.ndim != 2 or name in MASKS else tensor[:, None]
    if name in NUMBERS:
        yield "integers", tensor.long()
        yield "bool", tensor > 0
        if name != "noise":
            yield "doubles", tensor.double()
    elif name in MASKS or name == "keypoint_mask":
        yield "of another batch", tensor[:1]
        yield "of other frames", tensor[:, :-1]
        if name in MASKS:
            yield "nothing real", tensor * 0
            if tensor.shape[1] != IDS.shape[1]:  # a text's padding may stand anywhere
                yield "a hole", tensor * (torch.arange(tensor.shape[1]) != 1)
    else:
        yield "floats", tensor.float()
        yield "bool", tensor > 0
        yield "out of range", tensor + 10**6
        yield "negative", tensor - 50
        yield "of another batch", tensor[:1]


@pytest.fixture
def models(tiny_sign_mae, tiny_sign_to_text, tiny_text_to_sign, tiny_sign_recognition):
    return {
        "sign_mae": tiny_sign_mae(),
        "sign_to_text": tiny_sign_to_text().model,
        "frames": tiny_sign_to_text(sign_encoder="frames").model,
        "text_to_sign": tiny_text_to_sign().model,
        "sign_recognition": tiny_sign_recognition().model,
    }


@pytest.mark.parametrize("call", CALLS)
def test_a_wrong_tensor_is_refused_by_its_name(call, models):
    model, method = call.split(",")[0].split(".")
    function, right = getattr(models[model], method), CALLS[call]
    with torch.no_grad():
        function(**right)
        for name, tensor in right.items():
            for what, other in wrong(name, tensor):
                if what in FREE.get((call, name), ()):
                    continue
                with pytest.raises(ValueError, match="Found") as refusal:
                    function(**right | {name: other})
                    pytest.fail(f"{name}, {what}, passed")
                assert "expected" in str(refusal.value) or "Give" in str(refusal.value) or "Leave" in str(refusal.value), what


def test_masks_of_any_type_mean_the_same(models):
    for call in ("sign_mae.encode_sequence", "frames.forward", "text_to_sign.forward", "sign_recognition.forward, latents"):
        model, method = call.split(",")[0].split(".")
        function, right = getattr(models[model], method), CALLS[call]
        name = "latent_mask" if "latent_mask" in right else "attention_mask"
        mask = right[name].clone()
        mask[0, -1] = 0
        answers = [function(**right | {name: mask.to(dtype)}) for dtype in (torch.long, torch.bool, torch.uint8, torch.float32)]
        first = answers[0][0] if isinstance(answers[0], tuple) else answers[0].to_tuple()[0]
        for answer in answers[1:]:
            torch.testing.assert_close(answer[0] if isinstance(answer, tuple) else answer.to_tuple()[0], first)


@pytest.mark.parametrize("stride", [0, -3, 2.5, "7"])
def test_a_stride_that_leads_nowhere_is_refused(stride, models):
    with pytest.raises(ValueError, match="stride=.* at least 1"):
        models["sign_mae"].encode_sequence(KEYPOINTS, stride=stride)


@pytest.mark.parametrize("fields", [{"num_segments": "3"}, {"num_segments": [[1], [2, 3]]}, {"seam_frames": "a"}, {"seam_frames": 1.5}])
def test_arguments_of_generate_that_are_no_numbers_are_refused(fields, models):
    with pytest.raises(ValueError, match=next(iter(fields))):
        models["text_to_sign"].generate(IDS, **fields)


# --- Checkpoints ------------------------------------------------------------------------------------------------------------------


def altered(folder, alter):
    weights = load_file(folder / "model.safetensors")
    alter(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def test_a_checkpoint_that_lacks_a_tensor_is_refused_by_its_name(tiny_sign_mae, tmp_path):
    model = tiny_sign_mae()
    model.save_pretrained(tmp_path)
    altered(tmp_path, lambda weights: (weights.pop("encoder.norm.weight"), weights.pop("latent_mean")))
    for load in (type(model).from_pretrained, AutoModel.from_pretrained):
        with pytest.raises(ValueError, match="encoder.norm.weight is missing; latent_mean is missing"):
            load(tmp_path)


def test_a_checkpoint_of_other_sizes_is_refused_by_the_names_of_its_tensors(tiny_sign_recognition, tmp_path):
    model = tiny_sign_recognition().model
    model.save_pretrained(tmp_path)
    altered(tmp_path, lambda weights: weights.update({"classifier.weight": torch.zeros(5, 16)}))
    with pytest.raises(ValueError, match=r"classifier.weight has shape \(5, 16\), expected \(3, 16\)"):
        AutoModel.from_pretrained(tmp_path)
    again = AutoModel.from_pretrained(tmp_path, ignore_mismatched_sizes=True)  # who asks for a new head gets one
    assert again.classifier.weight.shape == (3, 16) and torch.equal(again.norm.weight, model.norm.weight)


def test_a_config_of_more_layers_than_there_are_weights_is_refused_before_memory_is_taken(tiny_sign_mae, tmp_path, monkeypatch):
    tiny_sign_mae().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 20}))
    monkeypatch.setattr(torch, "empty_like", None)  # transformers takes it for what is missing
    with pytest.raises(ValueError, match="encoder.layers.10.attention.k_proj.bias is missing; .* and 283 more tensors"):
        AutoModel.from_pretrained(tmp_path)
