"""Strips of frames: what the models make, under the ground truth."""

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from modeling_unigloR.rendering_uniglor import STRIP_HEADER
from tests.conftest import TEXTS
from train.figures import spelling
from train.figures import strips as draw_strips
from train.figures.strips import Strip, add_row

SVG = "{http://www.w3.org/2000/svg}"


def lines_of(drawn):
    return [path.get("d") for path in ET.fromstring(drawn).iter(f"{SVG}path") if path.get("stroke") == draw_strips.BORDER]


def test_a_sign_mae_is_drawn_with_its_reconstruction_error_and_segments(sign_mae_dir, corpus, tmp_path):
    output = tmp_path / "new" / "a.svg"
    argv = ["--checkpoint", sign_mae_dir, "--datasets", corpus, "--num_frames", "7", "--num_clips", "2"]
    strips = draw_strips.main([*argv, "--output", str(output)])
    drawn = output.read_text()
    assert re.search(r"reconstruction, error \d\.\d{3} shoulder widths", drawn)
    assert all(text in drawn for text in ("test-0", "test-1", "ground truth"))
    assert len(list(ET.fromstring(drawn).iter(f"{SVG}svg"))) == 1 + 2 * (1 + 2 * 7)  # the page, of each clip a strip and its frames
    assert strips[0].borders == [[5], [5]]  # 20 frames, of which 0, 3, 6, 10, 13, 16, 19 are shown
    assert len(lines_of(drawn)) == sum(len(columns) for strip in strips for columns in strip.borders)


def test_a_text_to_sign_is_drawn_under_its_sentence_with_both_durations(tiny_text_to_sign, corpus, tmp_path):
    tiny_text_to_sign().save_pretrained(tmp_path / "model")
    argv = ["--checkpoint", str(tmp_path / "model"), "--datasets", corpus, "--ids", "test-1", "--output", str(tmp_path / "a.svg")]
    (strip,) = draw_strips.main(argv)
    assert strip.title == TEXTS[1] and strip.labels[0] == "ground truth, 1.0 s" and re.fullmatch(r"generated, \d+\.\d s", strip.labels[1])
    assert strip.borders[0] == []  # nobody cut the ground truth
    assert len(strip.clips[0][0]) == len(strip.clips[1][0])
    assert TEXTS[1] in (tmp_path / "a.svg").read_text()


def test_systems_and_retrieval_are_played_beside_the_ground_truth(tiny_text_to_sign, corpus, tmp_path):
    for name in ("first", "second"):
        tiny_text_to_sign().save_pretrained(tmp_path / name)
    argv = ["--checkpoint", str(tmp_path / "first"), str(tmp_path / "second"), "--datasets", corpus, "--num_clips", "2"]
    strips = draw_strips.main([*argv, "--train_datasets", corpus, "--output", str(tmp_path / "a.html")])
    rows = [label.split(",")[0] for label in strips[1].labels]
    assert rows == ["ground truth", "first", "second", "retrieval of training clips"]
    assert all(len(keypoints) >= len(shown) for (keypoints, _), (shown, _) in zip(strips[1].whole, strips[1].clips))
    page = (tmp_path / "a.html").read_text()
    assert page.count("<iframe") == 2 and all(strip.title in page for strip in strips)
    with pytest.raises(ValueError, match="one folder name twice"):
        draw_strips.main([*argv[:2], str(tmp_path / "first"), *argv[3:], "--output", str(tmp_path / "a.svg")])


def test_the_png_has_the_svgs_lines_at_the_svgs_places(sign_mae_dir, corpus, tmp_path):
    image = pytest.importorskip("PIL.Image")
    argv = ["--checkpoint", sign_mae_dir, "--datasets", corpus, "--num_frames", "7", "--num_clips", "1", "--size", "40"]
    for suffix in (".svg", ".png"):
        draw_strips.main([*argv, "--output", str(tmp_path / f"a{suffix}")])
    drawn = (tmp_path / "a.svg").read_text()
    picture = image.open(tmp_path / "a.png")
    assert picture.size == (7 * 40, draw_strips.TITLE + 2 * (40 + STRIP_HEADER))
    assert f'width="{picture.width}" height="{picture.height}"' in drawn
    for line in lines_of(drawn):
        x, y = map(int, re.match(r"M(\d+) (\d+)", line).groups())
        assert picture.getpixel((x, y + 2)) == (0x88, 0x88, 0x88)


def test_frames_are_spread_over_each_rows_own_length():
    strip = Strip("a")
    for length in (31, 61):
        add_row(strip, "row", np.arange(length, dtype=float)[:, None, None] * np.ones((1, 73, 2)), np.ones((length, 73)), 4, window=15)
    assert [keypoints[:, 0, 0].tolist() for keypoints, _ in strip.clips] == [[0, 10, 20, 30], [0, 20, 40, 60]]
    assert strip.borders == [[2, 3], [1, 2, 3]]


def test_a_clip_with_fewer_frames_than_asked_for_is_shown_whole():
    strip = Strip("a")
    add_row(strip, "row", np.zeros((3, 73, 2)), np.ones((3, 73)), 16)
    assert len(strip.clips[0][0]) == 3


def test_what_cannot_be_drawn_says_why(sign_mae_dir, corpus, tiny_sign_to_text, tmp_path, capsys):
    argv = ["--datasets", corpus, "--output", str(tmp_path / "a.svg")]
    with pytest.raises(ValueError, match="has no clip nobody; its first is 'test-0'"):
        draw_strips.main([*argv, "--checkpoint", sign_mae_dir, "--ids", "nobody"])
    tiny_sign_to_text().save_pretrained(tmp_path / "model")
    with pytest.raises(ValueError, match="type 'sign_to_text', expected 'sign_mae' or 'text_to_sign'"):
        draw_strips.main([*argv, "--checkpoint", str(tmp_path / "model")])
    with pytest.raises(SystemExit):
        draw_strips.main(["--checkpoint", sign_mae_dir, "--datasets", corpus, "--output", "a.gif"])
    assert "expected a name that ends in .svg, .png or .html" in capsys.readouterr().err


def test_a_word_is_drawn_beside_what_a_text_to_sign_makes_of_it(tiny_text_to_sign, tmp_path):
    pytest.importorskip("spoken_to_signed", reason="the letter clips are not installed: pip install spoken-to-signed")
    tiny_text_to_sign().save_pretrained(tmp_path / "signer")
    moving, still = spelling.main(["--checkpoint", str(tmp_path / "signer"), "--word", "ab", "--output", str(tmp_path / "a" / "demo.svg")])
    assert [path.name for path in (moving, still)] == ["demo.svg", "demo-still.svg"]
    titles = [[node.text for node in ET.parse(path).getroot() if node.tag.endswith("text")] for path in (moving, still)]
    assert titles[1] == ["ab: recorded letters, joined", "generated from the text"] and set(titles[1]) < set(titles[0])
    assert "<animate" in moving.read_text() and "<animate" not in still.read_text()
