"""Inference at low cost: int8 on a CPU, bfloat16 through the pipelines."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from transformers import pipeline

from modeling_unigloR import SignFeatureExtractionPipeline, SignToTextStreamer, quantization_uniglor, quantize
from modeling_unigloR.quantization_uniglor import Int8Linear, check_int8
from train import evaluate_checkpoint

from .conftest import CODES_FLOW, TEXTS, random_signing, standardised

try:
    check_int8()
    has_int8 = True
except ValueError:
    has_int8 = False
needs_int8 = pytest.mark.skipif(not has_int8, reason="a CPU without instructions for int8")

CLIP = random_signing(40) * 100 + 300
READERS = ("tiny_sign_to_text", "tiny_sign_recognition", "tiny_text_to_sign")


def naive_int8(linear, features):
    """Both sides rounded, then an ordinary product."""
    scale = linear.weight.abs().amax(1, keepdim=True) / 127
    weight = (linear.weight / scale).round() * scale
    least, most = features.min().clamp_max(0), features.max().clamp_min(0)
    step = (most - least) / 255
    zero_point = (-least / step).round()
    rounded = ((features / step + zero_point).round().clamp(0, 255) - zero_point) * step
    return nn.functional.linear(rounded, weight, linear.bias)


@needs_int8
@pytest.mark.parametrize("shift", [0.0, 3.0, -3.0])
@torch.no_grad()
def test_a_layer_in_int8_is_one_of_rounded_weights_and_inputs(shift):
    torch.manual_seed(0)
    for bias in (True, False):
        linear, features = nn.Linear(48, 24, bias=bias), torch.randn(2, 5, 48) + shift
        layer = Int8Linear(linear)
        # An input halfway between two levels may be rounded the other way.
        torch.testing.assert_close(layer(features), naive_int8(linear, features), atol=0.02, rtol=0)
        assert (layer(features) - linear(features)).std() < 0.05 * linear(features).std()
    assert layer(torch.zeros(3, 48)).abs().max() == 0  # without a bias
    with pytest.raises(ValueError, match="Found NaN in what an int8 layer reads"):
        layer(torch.full((3, 48), float("nan")))
    linear.weight[0, 0] = float("nan")
    with pytest.raises(ValueError, match="Found weights with NaN or infinite numbers"):
        Int8Linear(linear)


def ask(pipe):
    if pipe.task_name == "text-to-sign":
        return torch.from_numpy(pipe(TEXTS[0], num_segments=2)["keypoints"])
    if pipe.task_name == "sign-recognition":
        return torch.tensor([answer["score"] for answer in sorted(pipe(CLIP), key=lambda answer: answer["label"])])
    return torch.tensor(pipe(CLIP)["score"])


@needs_int8
@pytest.mark.parametrize("kind", READERS)
def test_quantised_it_answers_nearly_the_same(kind, request, tiny_sign_mae):
    sign_mae = standardised(tiny_sign_mae(), torch.randn(8, 40, 73, 2) * 0.3)
    pipe = request.getfixturevalue(kind)(sign_mae=sign_mae)
    expected = ask(pipe)
    floats = {name: module for name, module in pipe.model.named_modules() if isinstance(module, nn.Linear)}
    statistics = {name: value.clone() for name, value in pipe.model.named_buffers()}
    assert quantize(pipe.model) is pipe.model
    left = {name for name, module in pipe.model.named_modules() if type(module) is nn.Linear}
    assert len(left) < len(floats) / 2 and all(
        any(part in name for part in ("keypoint_projection", "length_regulator", "classifier")) for name in left
    )
    for name, value in statistics.items():
        torch.testing.assert_close(pipe.model.get_buffer(name), value, rtol=0, atol=0)
    torch.testing.assert_close(ask(pipe), expected, rtol=0.2, atol=0.2)
    assert pipe.model.dtype == torch.float32


@needs_int8
def test_a_quantised_model_samples_too(tiny_text_to_sign):
    pipe = tiny_text_to_sign(**CODES_FLOW)
    quantize(pipe.model)
    assert np.isfinite(pipe(TEXTS[0], num_segments=2, seed=0)["keypoints"]).all()


@needs_int8
def test_a_quantised_model_gives_attentions_latents_and_streams(tiny_sign_to_text, tiny_sign_mae):
    pipe = tiny_sign_to_text()
    quantize(pipe.model)
    assert pipe(CLIP, return_attentions=True, max_new_tokens=3)["attentions"]["cross"].shape[:2] == (1, 2)
    streamer = SignToTextStreamer(pipe.model, pipe.feature_extractor, pipe.tokenizer, layout="uniglor73", fps=25.0)
    streamer.push(CLIP)
    assert isinstance(streamer.translate(max_new_tokens=3)["translation_text"], str)


@needs_int8
@pytest.mark.parametrize("kind", READERS)
def test_a_quantised_model_is_not_saved_and_leaves_nothing_behind(kind, request, tmp_path):
    pipe = request.getfixturevalue(kind)()
    quantize(pipe.model)
    for part in (pipe, pipe.model, pipe.model.sign_mae):
        with pytest.raises(ValueError, match="An int8 model is not saved.*Save the model in float32 before"):
            part.save_pretrained(tmp_path / "out")
    assert not (tmp_path / "out").exists()


@needs_int8
def test_what_cannot_be_quantised_says_why(tiny_sign_to_text, monkeypatch):
    model = tiny_sign_to_text().model
    with pytest.raises(ValueError, match="Found a model of torch.bfloat16 on 'cpu', expected float32"):
        quantize(copy.deepcopy(model).bfloat16())
    monkeypatch.setattr(model.config, "lora_rank", 2)
    with pytest.raises(ValueError, match="Found a model with adapters.*merge_adapters"):
        quantize(model)
    monkeypatch.undo()
    quantize(model)
    with pytest.raises(ValueError, match="quantised already"):
        quantize(model)
    with pytest.raises(ValueError, match="Found torch.float64 on 'cpu', expected float32"):
        model.projection(torch.zeros(1, 16, dtype=torch.float64))


@pytest.mark.parametrize("capabilities", [{}, {"avx2": True, "avx512_vnni": False, "cpu_name": "An Old One"}])
def test_a_machine_without_the_instructions_gets_one_line(tiny_sign_to_text, capabilities, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    model = tiny_sign_to_text().model
    with pytest.raises(
        ValueError, match="This machine cannot run int8 models: found .* Expected an x86 CPU with VNNI. Use float32"
    ) as raised:
        quantize(model)
    assert "\n" not in str(raised.value) and not quantization_uniglor.is_int8(model)


@pytest.mark.parametrize(
    "kind, task, fields",
    [
        ("tiny_sign_to_text", "sign-to-text", {}),
        ("tiny_sign_to_text", "sign-to-text", {"sign_encoder": "frames"}),
        ("tiny_sign_recognition", "sign-recognition", {}),
        ("tiny_sign_recognition", "sign-recognition", {"sign_encoder": "frames"}),
        ("tiny_text_to_sign", "text-to-sign", {}),
    ],
)
def test_pipelines_answer_in_bfloat16(kind, task, fields, request, tmp_path):
    pipe = request.getfixturevalue(kind)(**fields)
    pipe.save_pretrained(tmp_path)
    loaded = pipeline(task, model=str(tmp_path), device="cpu", dtype=torch.bfloat16)
    assert loaded.model.dtype == torch.bfloat16
    answer = ask(loaded)
    assert answer.isfinite().all()
    torch.testing.assert_close(answer.float(), ask(pipe).float(), rtol=0.1, atol=0.1)


def test_latents_come_in_bfloat16_too(tiny_sign_mae, tiny_sign_to_text):
    sign_mae, processor = tiny_sign_mae(), tiny_sign_to_text().feature_extractor
    whole = SignFeatureExtractionPipeline(model=sign_mae, feature_extractor=processor, device="cpu")(CLIP)["latents"]
    half = SignFeatureExtractionPipeline(model=sign_mae.bfloat16(), feature_extractor=processor, device="cpu")(CLIP)["latents"]
    assert half.dtype == np.float32
    np.testing.assert_allclose(half, whole, atol=0.1)


def test_a_stream_is_read_in_bfloat16(tiny_sign_to_text):
    pipe = tiny_sign_to_text()
    streamer = SignToTextStreamer(pipe.model.bfloat16(), pipe.feature_extractor, pipe.tokenizer, layout="uniglor73", fps=25.0)
    streamer.push(CLIP)
    assert streamer.translate(max_new_tokens=3)["num_segments"] == 4


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", pytest.param("int8", marks=needs_int8)])
@pytest.mark.parametrize("sign_encoder", ["segments", "frames"])
def test_a_checkpoint_is_scored_in_a_cheaper_form(dtype, sign_encoder, tiny_sign_to_text, corpus, tmp_path):
    tiny_sign_to_text(sign_encoder=sign_encoder).save_pretrained(tmp_path / "reader")
    argv = ["--checkpoint", str(tmp_path / "reader"), "--datasets", corpus, "--dtype", dtype, "--device", "cpu"]
    report = evaluate_checkpoint.main([*argv, "--max_new_tokens", "5", "--cache_dir", str(tmp_path / "cache")])
    assert report["dtype"] == dtype and report["num_scored"] == 5
    assert (tmp_path / "reader" / f"evaluation-test-{dtype}" / "scores.json").is_file()
