"""Pictures: well-formed, parts coloured, what was not seen is not drawn."""

import xml.etree.ElementTree as ET

import numpy as np
import pytest

from modeling_unigloR.keypoints_uniglor import LAYOUTS
from modeling_unigloR.rendering_uniglor import COLORS, to_svg

SVG = "{http://www.w3.org/2000/svg}"


def paths(picture):
    return [path for frame in ET.fromstring(picture).findall(f"{SVG}svg") for path in frame.findall(f"{SVG}path")]


def test_a_strip_has_a_row_for_each_clip_and_eight_frames(signing):
    clip = signing(60)
    picture = to_svg([(clip, None), (clip[..., :2], np.ones((60, 73)))], labels=["truth <1>", "reconstruction"])
    root = ET.fromstring(picture)
    assert len(root.findall(f"{SVG}svg")) == 16
    assert [text.text for text in root.findall(f"{SVG}text")] == ["truth <1>", "reconstruction"]
    assert {path.get("stroke") for path in paths(picture)} == set(COLORS.values())


def test_points_that_were_not_seen_are_not_drawn(signing):
    mask = np.ones((30, 73), bool)
    mask[:, LAYOUTS["uniglor73"].parts["left_hand"]] = False
    drawn = {path.get("stroke") for path in paths(to_svg([(signing(30), mask)]))}
    assert drawn == set(COLORS.values()) - {COLORS["left_hand"]}


def test_a_clip_without_keypoints_cannot_be_drawn(signing):
    with pytest.raises(ValueError, match="no keypoint to draw"):
        to_svg([(signing(30), np.zeros((30, 73)))])
    with pytest.raises(ValueError, match=r"\(30, 70, 2\), expected \(frames, 73"):
        to_svg([(signing(30)[:, :70], None)])
