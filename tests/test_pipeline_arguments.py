"""Pipelines check at the door: whatever they are given, a finite answer comes out, or a `ValueError` that says what is expected."""

import json

import numpy as np
import pytest
import torch

from modeling_unigloR import SignFeatureExtractionPipeline, pipelines_uniglor
from modeling_unigloR.keypoint_processing_uniglor import KeypointProcessor
from tests.conftest import random_signing


@pytest.fixture
def reader(tiny_sign_to_text):
    return tiny_sign_to_text()


@pytest.fixture
def signer(tiny_text_to_sign):
    return tiny_text_to_sign()


@pytest.fixture
def recogniser(tiny_sign_recognition):
    return tiny_sign_recognition()


@pytest.fixture
def encoder(tiny_sign_mae):
    return SignFeatureExtractionPipeline(model=tiny_sign_mae(), feature_extractor=KeypointProcessor(), device="cpu")


@pytest.fixture
def said(monkeypatch):
    """Lines that the pipelines logged; what was said once before is said again here."""
    lines, logger = [], pipelines_uniglor.logger
    type(logger).warning_once.cache_clear()
    monkeypatch.setattr(logger, "warning", lines.append)
    yield lines
    type(logger).warning_once.cache_clear()


CLIP = random_signing(20) * 100 + 300
EXPECTED = "[Ee]xpected|Leave it out|must be"


@pytest.mark.parametrize(
    "given",
    [
        dict(max_new_tokens=200), dict(max_new_tokens=0), dict(max_new_tokens=-1), dict(max_new_tokens=10**9), dict(max_new_tokens="5"),
        dict(max_new_tokens=True), dict(max_new_tokens=2.5), dict(max_length=0), dict(max_length=10**9), dict(num_beams=0),
        dict(num_beams=10**6), dict(num_beams="a"), dict(num_return_sequences=2), dict(temperature="a"), dict(temperature=0),
        dict(top_k="a", do_sample=True), dict(top_p="a", do_sample=True), dict(length_penalty="a"), dict(repetition_penalty=0),
        dict(latents=np.zeros((1, 1, 16))), dict(attention_mask=[1]), dict(return_dict_in_generate=True), dict(fps=0), dict(fps=1e-9),
        dict(fps="25"), dict(fps=[25.0]), dict(fps=True), dict(fps=float("inf")), dict(width=-5, height=3), dict(width="640"),
        dict(aspect=float("nan")), dict(aspect=-1), dict(layout=7), dict(layout=["uniglor73"]), dict(missing=[]), dict(batch_size=0),
        dict(batch_size="a"), dict(num_workers=-1),
        dict(calibration="a", causal=True), dict(calibration=(np.zeros(2), -1.0, False), causal=True),
    ],
)  # fmt: skip
def test_wrong_arguments_of_sign_to_text_say_what_is_expected(reader, given):
    with pytest.raises(ValueError, match=EXPECTED):
        reader(CLIP, **given)


@pytest.mark.parametrize("given", [dict(top_k=True), dict(top_k=0), dict(top_k="a"), dict(top_k=1.0), dict(fps="25"), dict(batch_size=0)])
def test_wrong_arguments_of_recognition_say_what_is_expected(recogniser, given):
    with pytest.raises(ValueError, match=EXPECTED):
        recogniser(CLIP, **given)


@pytest.mark.parametrize("given", [dict(stride=True), dict(stride=0), dict(stride="a"), dict(fps=[25]), dict(height=1e300)])
def test_wrong_arguments_of_feature_extraction_say_what_is_expected(encoder, given):
    with pytest.raises(ValueError, match=EXPECTED):
        encoder(CLIP, **given)


@pytest.mark.parametrize(
    "given",
    [
        dict(num_segments="3"), dict(num_segments=0), dict(num_segments=10**9), dict(num_segments=True), dict(num_segments=2.0),
        dict(num_segments=["a"]), dict(num_segments=[0]), dict(seam_frames="a"), dict(seam_frames=-1), dict(seam_frames=8),
        dict(seam_frames=True), dict(units="metres"), dict(units=["pixels"]), dict(units="pixels"),
        dict(units="pixels", width="a", height=3), dict(units="pixels", width=float("nan"), height=3),
        dict(units="pixels", width=1e300, height=1e300), dict(batch_size=0),
    ],
)  # fmt: skip
def test_wrong_arguments_of_text_to_sign_say_what_is_expected(signer, given):
    with pytest.raises(ValueError, match=EXPECTED + "|needs the picture's"):
        signer("morgen regnet es", **given)


@pytest.mark.parametrize(
    "text", ["", "  ", "\ud800", "regen \udfff", "regen " * 60, "a" * 20_000, "regen " * 10**6, None, 5, b"regen", ["regen", 5]]
)
def test_what_is_no_text_says_so(signer, text):
    with pytest.raises(ValueError, match="expected|Cut the text in two"):
        signer(text)


@pytest.mark.parametrize(
    "clip", [None, 5, "", "no-such\0file", {"keypoints": None}, {"keypoints": [[1, 2], [3]]}, {}, object(), [CLIP, None]]
)
def test_what_is_no_clip_says_so(reader, clip):
    with pytest.raises((ValueError, FileNotFoundError)):
        reader(clip)


@pytest.mark.parametrize("row", [dict(fps="a"), dict(fps=[25, 30]), dict(fps=0.0), dict(width={}), dict(height=10**400), dict(fps=1e9)])
def test_a_row_of_wrong_facts_is_refused(reader, row):
    with pytest.raises(ValueError, match="expected numbers|expected a number"):
        reader({"keypoints": CLIP, "id": "clip-7", **row})


def test_good_and_bad_clips_together_raise_as_the_bad_one_alone(reader):
    for batch_size in (1, 3):
        with pytest.raises(ValueError, match="0 frames"):
            reader([CLIP, CLIP[:0], CLIP], batch_size=batch_size)
    answers = reader([CLIP, CLIP[:1], random_signing(90) * 100 + 300], batch_size=3)
    assert len(answers) == 3 and all(np.isfinite(answer["score"]) for answer in answers)


def test_no_clips_give_no_answers(reader, signer):
    assert reader([]) == [] and signer([]) == []


def test_a_default_length_beyond_the_positions_is_cut_to_them(tiny_sign_to_text):
    """The default of 100 new tokens ended in an IndexError with a text model of 16 positions that never says the end."""
    pipe = tiny_sign_to_text(text_config=dict(max_position_embeddings=16))
    pipe.model.text_model.final_logits_bias[0, pipe.tokenizer.eos_token_id] = -1e4
    answer = pipe(CLIP, num_beams=1, return_attentions=True)
    assert np.isfinite(answer["score"]) and len(answer["attentions"]["tokens"]) == 16
    assert len(pipe(CLIP, num_beams=2, max_new_tokens=16, return_attentions=True)["attentions"]["tokens"]) == 16
    with pytest.raises(ValueError, match="max_new_tokens=17, expected an int from 1 to 16"):
        pipe(CLIP, max_new_tokens=17)


def test_limits_hold_for_what_a_checkpoint_says_of_generation(tiny_sign_to_text, tmp_path):
    tiny_sign_to_text().save_pretrained(tmp_path)
    path = tmp_path / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"num_beams": 10**6}))
    from transformers import pipeline

    with pytest.raises(ValueError, match="num_beams=1000000, expected an int from 1 to"):
        pipeline("sign-to-text", model=str(tmp_path), device="cpu")


def test_a_model_of_damaged_weights_gives_no_nan(reader, signer, recogniser, encoder):
    for pipe, given in ((reader, CLIP), (signer, "morgen regnet es"), (recogniser, CLIP), (encoder, CLIP)):
        with torch.no_grad():
            for parameter in pipe.model.parameters():
                parameter.fill_(float("nan"))
        with pytest.raises(ValueError, match="NaN or infinite"):
            pipe(given)


# --- What is guessed --------------------------------------------------------------------------------------------------------------


def test_what_a_pipeline_takes_for_granted_it_says_once(reader, encoder, said):
    """An array without a rate was read at the model's, and a clip of a third of a segment translated to 30 words, without a word."""
    for _ in range(2):
        reader(CLIP)
    layout, rate = said
    assert layout.startswith("A clip without a layout is read as 'uniglor73'") and "Give layout=" in layout
    assert rate.startswith("A clip without a frame rate is read as one of 25 frames a second. Give fps=")
    encoder(CLIP[:5], layout="uniglor73", fps=25.0)
    assert said[2:] == ["A clip is shorter than one segment of 15 frames, at the model's frame rate: what the model says of it is a guess."]


def test_a_clip_that_says_all_is_read_without_a_word(reader, tiny_sign_to_text, said):
    reader(CLIP, layout="uniglor73", fps=25.0)
    tiny_sign_to_text(sign_encoder="frames")(CLIP[:5], layout="uniglor73", fps=25.0)  # which reads every frame
    assert said == []


def test_points_of_another_layout_name_the_one_that_fits(reader):
    with pytest.raises(ValueError, match=r"found 137 keypoints, but layout 'uniglor73' has 73\. Give layout='openpose137'"):
        reader(np.ones((20, 137, 3)))
