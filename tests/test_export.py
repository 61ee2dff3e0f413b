"""The encoder in ONNX: equal to the model, any batch, nothing half-written, and a runner without torch."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from modeling_unigloR import KeypointProcessor, SignMAE, SignMAEConfig, SignToText
from train import export

from .conftest import TINY, TINY_TEXT, random_signing

DOCUMENT = Path(__file__).parents[1] / "docs" / "deployment.md"


@pytest.fixture(scope="module")
def sign_to_text_dir(tmp_path_factory):
    """A tiny SignToText with a stride of its own."""
    folder = tmp_path_factory.mktemp("reader")
    torch.manual_seed(0)
    sign_mae = SignMAE(SignMAEConfig(**TINY | {"num_hidden_layers": 1}))
    sign_mae.encoder.graph.alpha.data.fill_(0.5)
    sign_mae.encoder.graph.norm.weight.data.fill_(1.0)
    sign_mae.set_latent_statistics(torch.full((16,), 0.1), torch.full((16,), 0.5))
    SignToText.from_parts(sign_mae, text_config=TINY_TEXT | {"vocab_size": 20}, stride=5).save_pretrained(folder)
    KeypointProcessor().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def exported(sign_to_text_dir, tmp_path_factory):
    for library in export.LIBRARIES:
        pytest.importorskip(library)
    folder = tmp_path_factory.mktemp("exported") / "onnx"
    facts = export.main(["--checkpoint", str(sign_to_text_dir), "--output_dir", str(folder)])
    assert json.loads((folder / "export.json").read_text()) == facts
    return folder


def test_the_file_gives_the_models_latents_for_any_number_of_segments(exported, sign_to_text_dir):
    sign_mae, session = SignToText.from_pretrained(sign_to_text_dir).sign_mae, export.open_session(exported / "encoder.onnx")
    for size in (1, 3, 64, 150):
        segments = torch.randn(size, 15, 73, 2)
        with torch.no_grad():
            np.testing.assert_allclose(session.run(None, {"segments": segments.numpy()})[0], sign_mae.encode(segments), atol=1e-4)


@pytest.mark.parametrize("num_frames", [6, 15, 44])
def test_the_documented_runner_needs_no_torch_and_gives_the_pipelines_latents(exported, sign_to_text_dir, tmp_path, num_frames):
    script = next(
        block for block in re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.S) if "# encode.py" in block
    )
    (tmp_path / "encode.py").write_text(script, encoding="utf-8")
    keypoints = random_signing(num_frames)
    np.savez(tmp_path / "clip.npz", keypoints=keypoints)
    blocked = "import sys, runpy\nfor name in ('torch', 'transformers', 'modeling_unigloR'): sys.modules[name] = None\n"
    code = blocked + "sys.argv = sys.argv[1:]\nrunpy.run_path(sys.argv[0], run_name='__main__')"
    files = [str(tmp_path / "encode.py"), str(exported), str(tmp_path / "clip.npz"), str(tmp_path / "latents.npy")]
    subprocess.run([sys.executable, "-c", code, *files], check=True)
    with torch.no_grad():
        expected, _ = SignToText.from_pretrained(sign_to_text_dir).encode_sequence(torch.from_numpy(keypoints)[None])
    np.testing.assert_allclose(np.load(tmp_path / "latents.npy"), expected[0], atol=1e-4)


def test_a_file_that_differs_is_refused_and_nothing_is_left(sign_to_text_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "check_libraries", lambda: None)
    monkeypatch.setattr(export, "export_encoder", lambda sign_mae, path: path.write_bytes(b"half"))
    monkeypatch.setattr(export, "largest_error", lambda sign_mae, path: float("nan"))
    with pytest.raises(ValueError, match="The exported encoder differs from the model by nan .*Nothing was written"):
        export.main(["--checkpoint", str(sign_to_text_dir), "--output_dir", str(tmp_path / "onnx")])
    assert list(tmp_path.iterdir()) == []


def test_what_has_no_encoder_of_segments_is_refused_in_one_line(
    tiny_text_to_sign, tiny_sign_to_text, sign_to_text_dir, tmp_path, monkeypatch
):
    monkeypatch.setattr(export, "check_libraries", lambda: None)
    tiny_text_to_sign().save_pretrained(tmp_path / "signer")
    tiny_sign_to_text(sign_encoder="frames").save_pretrained(tmp_path / "frames")
    (tmp_path / "there").mkdir()
    for checkpoint, target, message in (
        (tmp_path / "signer", "out", "holds a model of type 'text_to_sign', expected 'sign_mae' or 'sign_to_text' or 'sign_recognition'"),
        (tmp_path / "frames", "out", "reads frames .* and has no encoder of segments"),
        (sign_to_text_dir, "there", "is there already. Give a new folder"),
    ):
        with pytest.raises(ValueError, match=message) as raised:
            export.main(["--checkpoint", str(checkpoint), "--output_dir", str(tmp_path / target)])
        assert "\n" not in str(raised.value) and not (tmp_path / "out").exists()


def test_without_the_libraries_the_error_says_what_to_install(sign_to_text_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "LIBRARIES", ("numpy", "no_such_library"))
    with pytest.raises(ImportError, match="needs no_such_library, which is not installed: pip install no_such_library"):
        export.main(["--checkpoint", str(sign_to_text_dir), "--output_dir", str(tmp_path / "onnx")])
