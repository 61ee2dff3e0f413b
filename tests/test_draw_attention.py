"""Pictures of attention."""

import xml.etree.ElementTree as ET

import numpy as np

from tests.conftest import random_signing
from train.figures import attention as draw_attention


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


def test_the_largest_weight_of_a_row_is_darkest():
    drawn = draw_attention.heat_map(np.array([[0.1, 0.4], [0.0, 1.0]]), 0, 0, 20, 20)
    assert drawn.count('fill-opacity="1.00"') == 2 and 'fill-opacity="0.25"' in drawn
