"""Pictures of attention."""

import sys
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from tests.conftest import random_signing
from train.figures import attention as draw_attention
from train.figures.plots import new_figure, plain, save_figure


def test_the_command_draws_several_checkpoints_side_by_side(tiny_sign_to_text, tmp_path):
    np.savez(tmp_path / "clip.npz", keypoints=random_signing(40), confidence=np.ones((40, 73)))
    for name in ("segments", "frames"):
        tiny_sign_to_text(sign_encoder=name).save_pretrained(tmp_path / name)
    checkpoints = [str(tmp_path / name) for name in ("segments", "frames")]
    argv = ["--checkpoint", *checkpoints, "--clip", str(tmp_path / "clip.npz"), "--layout", "uniglor73", "--fps", "25"]
    draw_attention.main([*argv, "--output", str(tmp_path / "a.svg")])
    drawn = (tmp_path / "a.svg").read_text()
    ET.fromstring(drawn)
    assert "0 to 1.4 s, 4 inputs" in drawn and "0 to 1.6 s, 40 inputs" in drawn


def test_a_row_of_a_data_set_is_named_by_its_id(tiny_sign_to_text, corpus, tmp_path):
    tiny_sign_to_text().save_pretrained(tmp_path / "reader")
    argv = ["--checkpoint", str(tmp_path / "reader"), "--datasets", corpus, "--output", str(tmp_path / "a.svg"), "--clip"]
    draw_attention.main([*argv, "train-3"])
    ET.fromstring((tmp_path / "a.svg").read_text())
    with pytest.raises(ValueError, match=r"No clip 'trian-3' in .*, train, which begins with 'train-0'\. Did you mean train-"):
        draw_attention.main([*argv, "trian-3"])


def test_the_largest_weight_of_a_row_is_darkest():
    image = draw_attention.heat_map(new_figure(1, 1).add_subplot(), np.array([[0.1, 0.4], [0.0, 1.0]]), 2.0)
    np.testing.assert_allclose(image.get_array(), [[0.25, 1.0], [0.0, 1.0]])
    assert image.get_clim() == (0, 1) and tuple(image.get_extent()) == (0, 2.0, 1.5, -0.5)


@pytest.mark.parametrize("suffix, start", [(".svg", b"<?xml"), (".pdf", b"%PDF"), (".png", b"\x89PNG")])
def test_a_plot_is_written_as_its_name_says_and_always_alike(suffix, start, tmp_path):
    written = []
    for name in ("a", "b"):
        figure = new_figure(2, 2)
        figure.add_subplot().set_title(plain("costs $5 or $6"))
        save_figure(figure, tmp_path / name / f"plot{suffix}")
        written.append((tmp_path / name / f"plot{suffix}").read_bytes())
    assert written[0] == written[1] and written[0].startswith(start)
    assert suffix != ".svg" or b"costs $5 or $6" in written[0]


def test_without_matplotlib_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match="pip install 'matplotlib"):
        new_figure(1, 1)
