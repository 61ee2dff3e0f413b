"""A stranger's process: the package cannot be imported, the folder's own code is trusted, the outputs are the same."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from modeling_unigloR import KeypointProcessor, SignFeatureExtractionPipeline

STRANGER = """
import sys
sys.modules["modeling_unigloR"] = None  # as if it were not installed
import numpy as np, torch
from transformers import AutoConfig, AutoFeatureExtractor, AutoModel
folder = sys.argv[1]
model = AutoModel.from_pretrained(folder, trust_remote_code=True)
processor = AutoFeatureExtractor.from_pretrained(folder, trust_remote_code=True)
assert type(model).__module__.startswith("transformers_modules"), type(model).__module__
batch = processor([np.load(folder + "/a.npy"), np.load(folder + "/b.npy")], fps=50.0, return_tensors="pt")
with torch.no_grad():
    latents, mask = model.encode_sequence(batch["keypoints"], batch["attention_mask"])
np.savez(folder + "/out.npz", latents=latents.numpy(), mask=mask.numpy())
model.save_pretrained(folder + "/again")
"""


def test_a_process_without_the_package_gets_equal_latents(tiny_sign_mae, signing, tmp_path):
    model, processor = tiny_sign_mae(), KeypointProcessor()
    model.set_latent_statistics(torch.randn(16), torch.rand(16) + 0.5)
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    clips = [signing(90, seed=1) * 100, signing(60, seed=2) * 100]
    for name, clip in zip("ab", clips):
        np.save(tmp_path / f"{name}.npy", clip)
    (tmp_path / "stranger.py").write_text(STRANGER)
    done = subprocess.run([sys.executable, str(tmp_path / "stranger.py"), str(tmp_path)], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    batch = processor(clips, fps=50.0, return_tensors="pt")
    with torch.no_grad():
        latents, mask = model.encode_sequence(batch["keypoints"], batch["attention_mask"])
    found = np.load(tmp_path / "out.npz")
    np.testing.assert_array_equal(found["mask"], mask.numpy())
    np.testing.assert_allclose(found["latents"], latents.numpy(), atol=1e-6)
    assert (tmp_path / "again" / "modeling_sign_mae.py").exists()


def test_importing_the_package_needs_nothing_optional():
    """torch, transformers and numpy are enough: no reader, renderer or data set library may be pulled in."""
    blocked = (
        "import sys\n"
        "for name in ('datasets', 'evaluate', 'pose_format', 'PIL', 'av', 'cv2', 'spoken_to_signed', 'gradio'): sys.modules[name] = None\n"
        "import modeling_unigloR; modeling_unigloR.SignMAE; print('ok')"
    )
    done = subprocess.run([sys.executable, "-c", blocked], capture_output=True, text=True)
    assert done.stdout.strip() == "ok", done.stderr[-2000:]


PIPELINES_STRANGER = """
import sys, json
sys.modules["modeling_unigloR"] = None
import numpy as np
from transformers import AutoModelForSequenceClassification, pipeline
folder = sys.argv[1]

def load(task):
    pipe = pipeline(task, model=f"{folder}/{task}", trust_remote_code=True, device="cpu")
    for part in (pipe, pipe.model):
        assert type(part).__module__.startswith("transformers_modules"), type(part).__module__
    pipe.save_pretrained(f"{folder}/{task}/again")
    return pipe

clip, path, facts = np.load(folder + "/a.npy"), folder + "/a.npz", dict(layout="uniglor73", fps=50.0)
read, recognise, extract, sign = map(load, ("sign-to-text", "sign-recognition", "sign-feature-extraction", "text-to-sign"))
classifier = AutoModelForSequenceClassification.from_pretrained(folder + "/sign-recognition", trust_remote_code=True)
assert type(classifier).__name__ == "SignRecognition"
latents = extract(path, stride=3, **facts)
answers = [read(clip, **facts), read(path, **facts), recognise(clip, **facts), latents | {"latents": latents["latents"].tolist()}]
json.dump(answers, open(folder + "/answers.json", "w"))
np.save(folder + "/signed.npy", sign("morgen regnet es .", seam_frames=4)["keypoints"])
for pipe in (read, recognise, sign):  # frozen once, and no more where the user trains it
    model = pipe.model.train()
    assert not any(parameter.requires_grad for parameter in model.sign_mae.parameters()) and not model.sign_mae.training
    model.sign_mae.requires_grad_(True)
    assert all(parameter.requires_grad for parameter in model.train().sign_mae.parameters()) and model.sign_mae.training
"""


def test_the_pipelines_say_the_same_without_the_package(
    tiny_sign_mae, tiny_sign_to_text, tiny_sign_recognition, tiny_text_to_sign, signing, tmp_path
):
    """One process for all, since it is mostly imports."""
    extract = SignFeatureExtractionPipeline(model=tiny_sign_mae(), feature_extractor=KeypointProcessor(), device="cpu")
    pipes = {
        "sign-to-text": tiny_sign_to_text(),
        "sign-recognition": tiny_sign_recognition(),
        "sign-feature-extraction": extract,
        "text-to-sign": tiny_text_to_sign(),
    }
    for task, pipe in pipes.items():
        pipe.save_pretrained(tmp_path / task)
    clip, facts = signing(90, seed=1) * 100, dict(layout="uniglor73", fps=50.0)
    np.save(tmp_path / "a.npy", clip)
    np.savez(tmp_path / "a.npz", keypoints=clip, confidence=np.ones(clip.shape[:2]))
    (tmp_path / "stranger.py").write_text(PIPELINES_STRANGER)
    done = subprocess.run([sys.executable, str(tmp_path / "stranger.py"), str(tmp_path)], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    *readings, labels, segments = json.loads((tmp_path / "answers.json").read_text())
    expected = pipes["sign-to-text"](clip, **facts)
    for reading in readings:
        assert reading == expected | {"score": pytest.approx(expected["score"], abs=1e-5)}
    for label, known in zip(labels, pipes["sign-recognition"](clip, **facts), strict=True):
        assert label == known | {"score": pytest.approx(known["score"], abs=1e-6)}
    known = extract(clip, stride=3, **facts)
    assert segments.keys() == known.keys() and segments["end"] == pytest.approx(known["end"])
    np.testing.assert_allclose(segments["latents"], known["latents"], atol=1e-5)
    signed = pipes["text-to-sign"]("morgen regnet es .", seam_frames=4)["keypoints"]
    np.testing.assert_allclose(np.load(tmp_path / "signed.npy"), signed, atol=1e-6)
    for task, name in {"sign-to-text": "sign_to_text", "sign-recognition": "sign_recognition", "text-to-sign": "text_to_sign"}.items():
        assert (tmp_path / task / "again" / f"modeling_{name}.py").exists()
