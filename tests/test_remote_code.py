"""A stranger's process: the package cannot be imported, the folder's own code is trusted, the outputs are the same."""

import json
import subprocess
import sys

import numpy as np
import torch

from modeling_unigloR import KeypointProcessor

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


PIPELINE_STRANGER = """
import sys, json
sys.modules["modeling_unigloR"] = None
import numpy as np
from transformers import pipeline
folder = sys.argv[1]
pipe = pipeline("sign-to-text", model=folder, trust_remote_code=True, device="cpu")
assert type(pipe).__module__.startswith("transformers_modules"), type(pipe).__module__
answers = [pipe(np.load(folder + "/a.npy"), layout="uniglor73", fps=50.0), pipe(folder + "/a.npz", layout="uniglor73", fps=50.0)]
json.dump(answers, open(folder + "/answers.json", "w"))
"""


def test_the_pipeline_says_the_same_without_the_package(tiny_sign_to_text, signing, tmp_path):
    pipe = tiny_sign_to_text()
    pipe.save_pretrained(tmp_path)
    clip = signing(90, seed=1) * 100
    np.save(tmp_path / "a.npy", clip)
    np.savez(tmp_path / "a.npz", keypoints=clip, confidence=np.ones(clip.shape[:2]))
    (tmp_path / "stranger.py").write_text(PIPELINE_STRANGER)
    done = subprocess.run([sys.executable, str(tmp_path / "stranger.py"), str(tmp_path)], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    for answer in json.loads((tmp_path / "answers.json").read_text()):
        expected = pipe(clip, layout="uniglor73", fps=50.0)
        assert answer["translation_text"] == expected["translation_text"]
        assert abs(answer["score"] - expected["score"]) < 1e-5
