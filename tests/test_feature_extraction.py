"""pipeline("sign-feature-extraction"): the latents of SignMAE, from every kind of clip, with and without the package."""

import json

import numpy as np
import pytest
import torch
from transformers import pipeline

from modeling_unigloR import (
    KeypointClip,
    KeypointProcessor,
    SignFeatureExtractionPipeline,
    SignMAEEncoderModel,
    SignToTextPipeline,
    read_keypoints,
)

from .conftest import REAL_DATA


@pytest.fixture
def extract(tiny_sign_mae):
    model = tiny_sign_mae()
    torch.manual_seed(1)
    model.set_latent_statistics(torch.randn(16), torch.rand(16) + 0.5)
    return SignFeatureExtractionPipeline(model=model, feature_extractor=KeypointProcessor(), device="cpu")


def same(found, expected):
    np.testing.assert_allclose(found["latents"], expected["latents"], atol=1e-5)
    assert found["start"] == pytest.approx(expected["start"]) and found["end"] == pytest.approx(expected["end"])


def test_latents_are_standardised_and_say_what_they_saw(extract, signing):
    clip = signing(40) * 100
    found = extract(clip, layout="uniglor73", fps=25.0)
    processed = extract.feature_extractor.process(KeypointClip(clip, layout="uniglor73", fps=25.0))
    with torch.no_grad():
        expected = extract.model.encode_sequence(torch.from_numpy(processed.keypoints)[None])[0][0]
    assert found["latents"].shape == (4, 16) and found["latents"].dtype == np.float32
    np.testing.assert_allclose(found["latents"], expected.numpy(), atol=1e-6)
    assert found["start"] == pytest.approx([0, 0.28, 0.56, 0.84]) and found["end"] == pytest.approx([0.6, 0.88, 1.16, 1.44])


def test_the_stride_is_chosen_for_each_call(extract, signing):
    clip = signing(40) * 100
    every, default = extract(clip, layout="uniglor73", fps=25.0, stride=1), extract(clip, layout="uniglor73", fps=25.0)
    assert len(every["latents"]) == len(every["start"]) == 26
    np.testing.assert_allclose(every["latents"][::7], default["latents"], atol=1e-5)
    assert every["start"][::7] == pytest.approx(default["start"])


def test_times_are_those_of_the_source(extract, signing):
    """Latents are of 25 frames a second, whatever the camera's rate was; of an unknown rate, frames are all that can be said."""
    clip = signing(80) * 100
    assert extract(clip, layout="uniglor73", fps=50.0)["end"][0] == pytest.approx(0.6)
    assert extract(clip, layout="uniglor73")["end"][0] == 15
    short = extract(signing(6) * 100, layout="uniglor73", fps=25.0)  # held at its last frame, which it still ends with
    assert len(short["latents"]) == 1 and (short["start"], short["end"]) == ([0], pytest.approx([0.24]))


def test_arrays_rows_files_lists_and_generators_give_the_same(extract, signing, tmp_path):
    clips = [(signing(length, seed) * 100).astype(np.float32) for seed, length in enumerate((40, 25, 61))]
    expected = [extract(clip, layout="uniglor73", fps=25.0) for clip in clips]
    rows = [dict(id=str(n), keypoints=clip, layout="uniglor73", fps=25.0, text="a", label=None) for n, clip in enumerate(clips)]
    for number, clip in enumerate(clips):
        np.savez(tmp_path / f"{number}.npz", keypoints=clip, fps=25.0)
    paths = [str(tmp_path / f"{number}.npz") for number in range(3)]
    for inputs in (clips, rows, paths, [read_keypoints(path) for path in paths]):
        for batch_size in (1, 3):
            found = extract(inputs, layout="uniglor73", fps=25.0, batch_size=batch_size)
            assert [len(one["latents"]) for one in found] == [4, 2, 7]
            for one, other in zip(found, expected):
                same(one, other)
    for one, other in zip(extract(row for row in rows), expected):
        same(one, other)


def test_the_half_that_reads_is_enough(extract, signing, tmp_path):
    extract.model.save_pretrained(tmp_path)
    half = SignMAEEncoderModel.from_pretrained(tmp_path)
    found = pipeline("sign-feature-extraction", model=half, feature_extractor=KeypointProcessor(), device="cpu")
    clip = dict(keypoints=signing(40) * 100, layout="uniglor73", fps=25.0)
    same(found(clip), extract(clip))


def test_what_does_not_fit_says_so(extract, tiny_sign_to_text, tiny_sign_mae):
    with pytest.raises(ValueError, match="stride=0"):
        extract(np.zeros((20, 73, 2)), stride=0)
    with pytest.raises(ValueError, match="Unknown argument top_k. Expected stride"):
        extract(np.zeros((20, 73, 2)), top_k=2)
    reader = tiny_sign_to_text()
    with pytest.raises(
        ValueError, match=r"pipeline\('sign-feature-extraction'\) found a model of type 'sign_to_text', expected 'sign_mae'"
    ):
        SignFeatureExtractionPipeline(model=reader.model, feature_extractor=reader.feature_extractor)
    with pytest.raises(ValueError, match=r"pipeline\('sign-to-text'\) found a model of type 'sign_mae'.* train/train_sign_to_text.py"):
        SignToTextPipeline(model=extract.model, tokenizer=reader.tokenizer, feature_extractor=reader.feature_extractor)
    with pytest.raises(ValueError, match="gives 3 channels, but the model reads 2"):
        SignFeatureExtractionPipeline(model=tiny_sign_mae(), feature_extractor=KeypointProcessor(num_channels=3))


def test_a_saved_folder_says_the_same(extract, signing, tmp_path):
    extract.save_pretrained(tmp_path)
    assert "sign-feature-extraction" in json.loads((tmp_path / "config.json").read_text())["custom_pipelines"]
    np.savez(tmp_path / "a.npz", keypoints=signing(40) * 100, fps=50.0)
    expected = extract(str(tmp_path / "a.npz"), layout="uniglor73", stride=3)
    same(
        pipeline("sign-feature-extraction", model=str(tmp_path), device="cpu")(str(tmp_path / "a.npz"), layout="uniglor73", stride=3),
        expected,
    )


@pytest.mark.skipif(not REAL_DATA.exists(), reason="real keypoints are not here: set UNIGLOR_DATA to their folder")
def test_a_real_openpose_sentence(extract):
    folder = next((REAL_DATA / "how2sign_openpose" / "json").iterdir())
    found = extract(str(folder), fps=24.0)
    assert found["latents"].shape == (8, 16) and np.isfinite(found["latents"]).all() and found["end"][-1] < 62 / 24 + 0.01
