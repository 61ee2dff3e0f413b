"""Pictures: a figure with hands that can be read, what was not seen is not drawn, and each format holds what its reader needs.

A browser opens the pages where chromium is installed; the tests that need it are skipped elsewhere.
"""

import base64
import dataclasses
import html
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET

import numpy as np
import pytest
import torch

from modeling_unigloR import KeypointClip, KeypointProcessor
from modeling_unigloR import rendering_uniglor as rendering
from modeling_unigloR.figure_uniglor import COLORS, close_ups, figure
from modeling_unigloR.keypoints_uniglor import FINGERS, LAYOUTS, edge_indices, point_index
from modeling_unigloR.rendering_uniglor import (
    GRID,
    attended_words,
    from_pose,
    player_html,
    render,
    to_animated_svg,
    to_gif,
    to_html,
    to_mp4,
    to_png,
    to_pose,
    to_svg,
)
from modeling_unigloR.scene_uniglor import MIN_VIEW, make_scene

from .conftest import REAL_DATA, random_signing

SVG = "{http://www.w3.org/2000/svg}"
PARTS = LAYOUTS["uniglor73"].parts
INDEX = point_index("uniglor73")
RIGHT = {f"right_{finger}" for finger in FINGERS}
LEFT = {f"left_{finger}" for finger in FINGERS}


def without(part, num_frames=30, frames=slice(None)):
    """A mask (T, 73) that misses a part in some frames."""
    mask = np.ones((num_frames, 73), bool)
    mask[frames, PARTS[part]] = False
    return mask


def upright(clip):
    """A copy (T, 73, 2) of the signing in which both hands are open, fingers up, the palms to the viewer."""
    clip = clip.copy()
    for side, inward in (("right", 1), ("left", -1)):
        root = np.array([-0.4 * inward, 0.2])
        clip[:, INDEX[f"{side}_hand_root"]] = root
        for number, finger in enumerate(FINGERS):
            for joint in (1, 2, 3, 4):
                across = inward * (2 - number) * 0.05
                clip[:, INDEX[f"{side}_hand_{finger}_{joint}"]] = root + [across, -0.15 - 0.06 * joint]
    return clip


def colors_of(picture):
    """Names of the colours that a picture's shapes have."""
    names = {color: name for name, color in COLORS.items()}
    used = {element.get("stroke") for element in ET.fromstring(picture).iter() if element.tag in (f"{SVG}g", f"{SVG}path")}
    return {names[color] for color in used if color in names}


def animations(picture):
    """The path strings, frame by frame, of each shape of an animated SVG, in the figure's order."""
    found = {}
    for path in ET.fromstring(picture).iter(f"{SVG}path"):
        clip, place = map(int, path.get("id").split("-")[1:])
        found[clip, place] = path.find(f"{SVG}animate").get("values").split(";")
    return [found[key] for key in sorted(found)]


def motion_of(page):
    """The player's data, its coordinates decoded to one (T, P, 2) for each shape of each clip, NaN where it is not drawn."""
    motion = json.loads(re.search(r'<script id="motion" type="application/json">(.*?)</script>', page, re.DOTALL).group(1))
    clips = []
    for clip in motion["clips"]:
        steps = np.frombuffer(base64.b64decode(clip["points"]), "<i2").reshape(motion["frames"], -1, 2)
        assert 2 * steps.shape[1] == clip["size"]
        values = np.where(steps == motion["missing"], np.nan, steps * motion["unit"])
        bounds = np.cumsum([shape[4] for shape in clip["shapes"]])[:-1]
        clips.append(np.split(values, bounds, axis=1))
    return motion | {"points": clips}


def has_color(image, name, tolerance=60):
    """Whether some pixel of an RGB image is about a colour of the figure: a video stores half of the colours' resolution."""
    pixels = np.asarray(image.convert("RGB")).astype(int)
    return bool((abs(pixels - rendering._rgb(COLORS[name])).sum(-1) < tolerance).any())


# --- The figure -------------------------------------------------------------------------------------------------------------------


def test_a_figure_has_a_torso_a_head_arms_palms_and_fingers(signing):
    shapes = figure(upright(signing(30)).astype(float), np.ones((30, 73), bool))
    names = [shape.color for shape in shapes]
    assert names.count("torso") == 1 and names.count("arm") == 4 and names.count("mouth") == 1
    assert RIGHT | LEFT | {"right_palm", "left_palm"} <= set(names) and not {"right_back", "left_back"} & set(names)
    assert names.index("torso") < names.index("head") < names.index("face") < names.index("arm") < names.index("right_thumb")


def test_a_hand_that_turns_shows_its_back_in_another_shade(signing):
    clip = upright(signing(30)).astype(float)
    clip[..., 0] *= -1  # thumbs outward, and right is left
    names = {shape.color for shape in figure(clip, np.ones((30, 73), bool))}
    assert {"right_back", "left_back"} <= names and not {"right_palm", "left_palm"} & names


def test_a_finger_runs_along_its_joints_and_is_drawn_where_all_of_them_were_seen(signing, rng):
    clip, mask = signing(30).astype(float), rng.random((30, 73)) > 0.05
    shapes = {shape.color: shape for shape in figure(np.where(mask[..., None], clip, 0), mask)}
    for side in ("left", "right"):
        for finger in FINGERS:
            columns = [INDEX[f"{side}_hand_{finger}_{joint}"] for joint in (1, 2, 3, 4)]
            shape = shapes[f"{side}_{finger}"]
            np.testing.assert_array_equal(shape.drawn, mask[:, columns].all(1))
            np.testing.assert_array_equal(shape.points[shape.drawn], clip[:, columns][shape.drawn])


def test_points_that_were_not_seen_are_not_drawn(signing):
    assert not LEFT & colors_of(to_svg((signing(30), without("left_hand"))))
    assert not {"face", "mouth"} & colors_of(to_svg((signing(30), without("face"))))
    assert RIGHT | LEFT | {"head", "mouth", "arm"} <= colors_of(to_svg(signing(30)))


def test_both_hands_have_fingers_of_one_width_however_they_are_held(signing):
    """A hand that points to the viewer looks short in the picture; the other tells how large it is."""
    clip = upright(signing(30)).astype(float)
    root = clip[:, INDEX["left_hand_root"]][:, None]
    clip[:, PARTS["left_hand"]] = root + 0.2 * (clip[:, PARTS["left_hand"]] - root)
    widths = {shape.color: shape.width for shape in figure(clip, np.ones((30, 73), bool))}
    assert widths["left_index"] == widths["right_index"]


def test_a_layout_without_hands_of_ours_is_drawn_by_its_edges(signing, monkeypatch):
    ours = LAYOUTS["uniglor73"]
    names = tuple(name.replace("hand", "paw") for name in ours.names)
    edges = tuple(tuple(name.replace("hand", "paw") for name in edge) for edge in ours.drawn_edges)
    monkeypatch.setitem(LAYOUTS, "paws", dataclasses.replace(ours, names=names, drawn_edges=edges))
    shapes = figure(signing(5).astype(float), np.ones((5, 73), bool), "paws")
    assert len(shapes) == len(ours.drawn_edges) and all(shape.points.shape == (5, 2, 2) for shape in shapes)


def test_a_close_up_holds_its_hand_and_follows_it_when_it_is_lost(signing):
    clip, mask = signing(80).astype(float), without("right_hand", 80, slice(30, 40))
    clip += np.linspace(0, 3, 80)[:, None, None]
    close_up = close_ups(np.where(mask[..., None], clip, 0), mask)["right_hand"]
    own = [INDEX[name] for name in LAYOUTS["uniglor73"].names if name.startswith("right_hand") and not name.endswith(("wrist", "elbow"))]
    inside = (abs(clip[:, own] - close_up.centers[:, None]) <= close_up.side / 2).all((1, 2))
    assert inside[np.r_[0:30, 40:80]].mean() > 0.94  # its size is that of 95 % of the frames
    assert abs(np.diff(close_up.centers, axis=0)).max() < 0.2  # no jump to the corner and back


def test_a_hand_that_is_hardly_ever_seen_has_no_close_up(signing):
    mask = without("left_hand", 60, slice(3, None))
    assert set(close_ups(signing(60).astype(float), mask)) == {"right_hand", "face"}


# --- SVG --------------------------------------------------------------------------------------------------------------------------


def test_a_strip_has_a_row_for_each_clip_and_eight_frames(signing):
    clip = signing(60)
    picture = to_svg([(clip, None), (clip[..., :2], np.ones((60, 73)))], titles=["truth <1>", "reconstruction"])
    root = ET.fromstring(picture)
    assert len(root.findall(f"{SVG}svg")) == 16
    assert [text.text for text in root.findall(f"{SVG}text")] == ["truth <1>", "reconstruction"]


def test_an_animated_svg_draws_the_points_of_every_shape_in_every_frame(signing, rng):
    clip, mask = signing(20).astype(float), rng.random((20, 73)) > 0.1
    clip[~mask] = 0
    scene = make_scene((clip, mask), "uniglor73")
    drawn = animations(to_animated_svg((clip, mask)))
    assert len(drawn) == len(scene.figures[0]) > 20
    for shape, frames in zip(scene.figures[0], drawn):
        assert len(frames) == 20
        for points, there, path in zip(shape.points, shape.drawn, frames):
            if not there:
                assert path == "M0 0"
                continue
            expected = np.rint((points - scene.view[:2]) * GRID / scene.view[2]).astype(int)
            numbers = np.array(re.findall(r"-?\d+", path), int)[: 2 * len(points)].reshape(-1, 2)
            np.testing.assert_array_equal(np.cumsum(numbers, 0), expected)
            assert path.endswith("z") == shape.closed


def test_an_animated_svg_lasts_as_long_as_its_clip(signing):
    animation = next(ET.fromstring(to_animated_svg(signing(30), fps=12.5)).iter(f"{SVG}animate"))
    assert animation.get("dur") == "2.4s" and animation.get("repeatCount") == "indefinite"
    assert animation.get("values").count(";") == 29


def test_an_animated_svg_shows_hands_and_face_large_beside_the_signer(signing):
    for close, count in ((True, 4), (False, 1)):
        root = ET.fromstring(to_animated_svg(signing(30), size=100, close_ups=close))
        assert len(root.findall(f"{SVG}svg")) == count and root.get("width") == str(100 * count + rendering.GAP * (count - 1))
    boxes = ET.fromstring(to_animated_svg(signing(30))).findall(f"{SVG}svg")[1].find(f"{SVG}animate").get("values").split(";")
    sides = {float(box.split()[2]) for box in boxes}
    assert len(boxes) == 30 and len(sides) == 1 and sides.pop() < GRID / 2.5


def test_clips_stand_side_by_side_with_the_close_ups_that_are_asked_for(signing):
    root = ET.fromstring(to_animated_svg([signing(5), signing(5, 1)], size=100, titles=["a", "b"], close_ups=["right_hand"], columns=2))
    panels = root.findall(f"{SVG}svg")
    assert [text.text for text in root.findall(f"{SVG}text")] == ["a", "right hand", "b", "right hand"]
    assert len({panel.get("y") for panel in panels}) == 1
    places = [int(panel.get("x")) for panel in panels]
    assert min(np.diff(places)) >= 100 and int(root.get("width")) == places[-1] + 100


def test_two_animations_on_one_page_do_not_share_names(signing):
    pictures = [to_animated_svg(signing(5, seed)) for seed in (0, 1)]
    names = [set(re.findall(r' id="([^"]+)"', picture)) for picture in pictures]
    assert names[0] and not names[0] & names[1]


def test_a_part_that_is_lost_for_some_frames_does_not_stop_the_animation(signing):
    """Browsers drop an animation of which one value is empty: a hand that was lost once would then stand still throughout."""
    drawn = animations(to_animated_svg((signing(30), without("right_hand", frames=slice(10, 15)))))
    thumb = drawn[-1]
    assert all(map(all, drawn)) and thumb[12] == "M0 0" != thumb[9]


def test_pictures_load_nothing(signing):
    for picture in (to_svg(signing(5)), to_animated_svg(signing(5)), to_html(signing(5)), player_html(signing(5))):
        own = re.sub(r'href="#[\w-]+"|[A-Za-z0-9+/]{20,}', "", picture)  # references inside the picture, and packed numbers
        own = own.replace('xmlns="http://www.w3.org/2000/svg"', "")
        assert not re.search(r"\b(?:src|href)\s*=|url\(|@import|//\w", own)


# --- What is drawn ----------------------------------------------------------------------------------------------------------------


def test_the_view_is_that_of_the_motion_and_stays_the_same_over_the_clip(signing):
    clip = signing(30).astype(float)
    assert MIN_VIEW <= make_scene(clip, "uniglor73").view[2] < 2.6  # the signer fills it
    clip[20, 7] = (4.0, 0.5)  # a wrist, far outside in one frame
    left, top, side = make_scene(clip, "uniglor73").view
    assert (clip >= (left, top)).all() and (clip <= (left + side, top + side)).all()
    assert {panel.get("viewBox") for panel in ET.fromstring(to_svg(clip)).findall(f"{SVG}svg")} == {f"0 0 {GRID} {GRID}"}


def test_the_head_is_inside_the_view(signing):
    scene = make_scene(signing(30), "uniglor73")
    heads = np.concatenate([shape.points.reshape(-1, 2) for shape in scene.figures[0] if shape.color == "head"])
    left, top, side = scene.view
    assert (heads >= (left, top)).all() and (heads <= (left + side, top + side)).all()


def test_points_that_were_not_seen_do_not_grow_the_view(signing):
    clip, mask = signing(30), without("left_hand")
    clip[:, PARTS["left_hand"]] = 1000
    assert make_scene((clip, mask), "uniglor73").view[2] < 3


def test_keypoints_in_3d_are_drawn_by_x_and_y(signing, rng):
    clip = signing(10)
    deep = np.concatenate([clip, rng.normal(size=(10, 73, 1))], -1)
    assert to_svg(deep) == to_svg(clip) and to_animated_svg(deep) == to_animated_svg(clip) and to_html(deep) == to_html(clip)


def test_a_shorter_clip_holds_its_last_frame_beside_a_longer_one(signing):
    short, long = signing(10), signing(25)
    for shape in motion_of(to_html([short, long]))["points"][0]:
        assert len(shape) == 25
        np.testing.assert_array_equal(shape[10:], shape[9:10].repeat(15, 0))


def test_what_a_model_gives_is_drawn_as_it_is(signing):
    """Tensors that require a gradient, in half precision, with a mask that is a tensor too."""
    tensor = torch.tensor(signing(10), dtype=torch.bfloat16, requires_grad=True)
    assert to_svg((tensor, torch.ones(10, 73))) == to_svg(tensor.detach().float().numpy())


def test_what_is_drawn_is_left_as_it_was(signing, tmp_path):
    clip, mask = signing(10), without("face", 10)
    clip[~mask] = np.nan
    before = clip.copy(), mask.copy()
    to_html((clip, mask))
    to_gif((clip, mask), tmp_path / "a.gif", size=32)
    to_pose((clip, mask), tmp_path / "a.pose")
    np.testing.assert_array_equal(clip, before[0])
    np.testing.assert_array_equal(mask, before[1])


@pytest.mark.skipif(not REAL_DATA.exists(), reason="real keypoints are not here: set UNIGLOR_DATA to their folder")
def test_a_real_clip_is_drawn_with_the_parts_that_its_corpus_has():
    """The DGS sentences have no face, and lose hands for many frames."""
    path = min((REAL_DATA / "dgs_sentences" / "motion").glob("*.npz"))
    raw = np.load(path)["keypoints"].reshape(-1, 67, 2)
    clip = KeypointProcessor().process(KeypointClip(raw, layout="openpose67", fps=50.0, aspect=16 / 9))
    shapes = {shape.color: shape for shape in make_scene((clip.keypoints, clip.keypoint_mask), "uniglor73").figures[0]}
    assert RIGHT | LEFT | {"head", "torso", "arm"} <= set(shapes) and not {"face", "mouth"} & set(shapes)
    for side in ("left", "right"):
        thumb = [INDEX[f"{side}_hand_thumb_{joint}"] for joint in (1, 2, 3, 4)]
        np.testing.assert_array_equal(shapes[f"{side}_thumb"].drawn, clip.keypoint_mask[:, thumb].all(-1))
    assert "right hand" in to_animated_svg((clip.keypoints, clip.keypoint_mask))


# --- HTML -------------------------------------------------------------------------------------------------------------------------


def test_the_player_holds_the_figure(signing):
    clip, mask = signing(40), without("left_hand", 40, slice(5, 9))
    motion = motion_of(to_html([(clip, mask), clip], fps=30))
    assert motion["fps"] == 30 and motion["frames"] == 40
    scene = make_scene([(clip, mask), clip], "uniglor73")
    for shapes, points, packed in zip(scene.figures, motion["points"], motion["clips"]):
        assert [shape.color for shape in shapes] == [name for name, *_ in packed["shapes"]]
        for shape, values in zip(shapes, points):
            np.testing.assert_array_equal(np.isnan(values).any((1, 2)), ~shape.drawn)
            np.testing.assert_allclose(values[shape.drawn], shape.points[shape.drawn], atol=1e-4)


def test_words_carry_their_times(signing):
    page = to_html(signing(30), words=[("Guten", 0, 0.5), ("<Tag>", 0.5, 1.2)])
    assert '<span data-start="0.000" data-end="0.500">Guten</span> <span data-start="0.500" data-end="1.200">&lt;Tag&gt;</span>' in page


def test_titles_and_texts_cannot_break_out_of_the_page(signing):
    evil = "</script></title><script>alert('\"1')</script>"
    page = to_html([signing(3)] * 2, titles=[evil, "b"], text=[evil, evil])
    assert evil not in page and page.count("<script") == 2 and page.count(html.escape(evil)) == 8
    fragment = player_html([signing(3)] * 2, titles=[evil, "b"], text=evil)
    assert fragment.count("<") == 2 and fragment.startswith("<iframe ") and fragment.endswith("</iframe>")


CONTROLS = "".join(map(chr, [*range(32), 127, 0x85, 0xD800, 0xDFFF, 0xFFFE, 0xFFFF])) + "Grüße 👋"


def test_titles_of_any_letters_give_whole_xml_and_utf_8(signing, tmp_path):
    """Control characters are no XML, and half of a surrogate pair was a UnicodeEncodeError when the file was written."""
    for make in (to_svg, to_animated_svg):
        drawing = make(signing(3), titles=CONTROLS)
        title = next(node.text for node in ET.fromstring(drawing.encode("utf-8")).iter() if node.tag.endswith("text"))
        assert title.endswith("\ufffd\ufffd\ufffd\ufffdGrüße 👋") and title.count("\ufffd") == 33
    for suffix in (".svg", ".html"):
        render(signing(3), tmp_path / f"clip{suffix}", titles=CONTROLS)
    for page in (to_html, player_html):
        assert "Grüße 👋" in page(signing(3), titles=CONTROLS, text=CONTROLS).encode("utf-8").decode("utf-8")


def test_a_fragment_holds_the_whole_page(signing):
    page, fragment = (make(signing(5), titles=["a & b"], text="two\nlines") for make in (to_html, player_html))
    assert html.unescape(re.search(r'srcdoc="(.*?)"', fragment, re.DOTALL).group(1)) == page
    assert 'title="a &amp; b"' in fragment


def test_controls_and_pictures_have_names(signing):
    page = to_html([signing(3)] * 2, titles=["truth", "generated"])
    assert page.count("<canvas role=") == 8 and 'aria-label="generated: moving figure of a signer"' in page
    assert 'aria-label="generated: right hand, large"' in page
    for control in re.findall(r"<(?:input|select)[^>]*>", page):
        identity = re.search(r'id="(\w+)"', control).group(1)
        assert "aria-label" in control or re.search(rf'<label>[^<]*<\w+ id="{identity}"', page)


@pytest.fixture
def browser(tmp_path):
    """`browser(page, script)`: the document after the script and a virtual second and a half in chromium, as HTML."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
    if program is None:
        pytest.skip("no chromium on the path: pages are not opened")

    def open_page(page, script):
        # Virtual time draws few frames by itself: the page's clock is tied to timers.
        clock = "<script>window.requestAnimationFrame = call => setTimeout(() => call(performance.now()), 16)</script>"
        path = tmp_path / "page.html"
        path.write_text(page.replace("<body>", f"<body>{clock}", 1).replace("</body>", f"<script>{script}</script></body>"), "utf-8")
        flags = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
                 "--disable-component-update", "--disable-sync", "--window-size=900,700", "--virtual-time-budget=1500")  # fmt: skip
        command = [program, *flags, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", path.as_uri()]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout

    return open_page


PROBE = """
const at = () => Number(document.getElementById("seek").value);
const key = name => document.dispatchEvent(new KeyboardEvent("keydown", {key: name, cancelable: true}));
const note = (name, value) => document.body.setAttribute("data-" + name, value);
"""


def noted(document, name):
    return re.search(rf'<body[^>]* data-{name}="([^"]*)"', document).group(1)


def test_a_browser_plays_the_clip_at_its_speed(browser, signing):
    document = browser(to_html(signing(100), fps=25), PROBE + "setTimeout(() => note('frame', at()), 1000)")
    assert 15 <= int(noted(document, "frame")) <= 26  # a second, less the time that the page took to load
    assert re.search(r"\d\.\d\d / 4.00 s, frame \d+ / 100", document)


PIXELS = """
const colorsOf = canvas => {
  const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data, seen = new Set();
  for (let i = 0; i < pixels.length; i += 4) {
    if (pixels[i + 3] === 255) seen.add("#" + [0, 1, 2].map(c => pixels[i + c].toString(16).padStart(2, "0")).join(""));
  }
  return [...seen].join(" ");
};
"""


def test_a_browser_draws_each_part_in_its_colour_and_no_missing_part(browser, signing):
    script = """setTimeout(() => document.querySelectorAll("div.whole canvas").forEach(
      (canvas, number) => note("colors" + number, colorsOf(canvas))), 500)"""
    document = browser(to_html([signing(30), (signing(30), without("left_hand"))]), PROBE + PIXELS + script)
    whole, part = (set(noted(document, f"colors{number}").split()) for number in (0, 1))
    fingers = {COLORS[name] for name in RIGHT | LEFT}
    assert fingers | {COLORS["torso"], COLORS["arm"], COLORS["mouth"]} <= whole
    assert whole & fingers - part == {COLORS[name] for name in LEFT}


def test_the_hand_fills_its_close_up_on_a_phone(browser, signing):
    """A hand of fingerspelling was 20 pixels high on a screen of 390: no one could read its shape."""
    page = f'<!DOCTYPE html><html><body><div style="width: 390px">{player_html(upright(signing(30)))}</div></body></html>'
    script = """setTimeout(() => {
      const canvas = document.querySelector("iframe").contentDocument.querySelector("div.right_hand canvas");
      const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data, colors = FINGERS;
      let low = canvas.height, high = 0;
      for (let i = 0; i < pixels.length; i += 4) {
        const color = "#" + [0, 1, 2].map(c => pixels[i + c].toString(16).padStart(2, "0")).join("");
        if (colors.includes(color)) { const y = Math.floor(i / 4 / canvas.width); low = Math.min(low, y); high = Math.max(high, y); }
      }
      note("height", (high - low) * canvas.clientWidth / canvas.width);
    }, 600)"""
    script = script.replace("FINGERS", json.dumps([COLORS[name] for name in RIGHT | {"right_palm"}]))
    assert float(noted(browser(page, PROBE + script), "height")) >= 120


def test_the_mirror_shows_the_other_side(browser, signing):
    script = """
    document.getElementById("loop").checked = false; key(" ");
    const side = () => {
      const canvas = document.querySelector("div.whole canvas"), colors = FINGERS, seen = [];
      const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
      for (let i = 0; i < pixels.length; i += 4) {
        const color = "#" + [0, 1, 2].map(c => pixels[i + c].toString(16).padStart(2, "0")).join("");
        if (colors.includes(color)) seen.push(i / 4 % canvas.width / canvas.width);
      }
      return seen.reduce((sum, x) => sum + x, 0) / seen.length;
    };
    setTimeout(() => { const before = side(); key("m"); note("sides", [before, side()]); }, 300)"""
    script = script.replace("FINGERS", json.dumps([COLORS[name] for name in RIGHT]))
    before, after = map(float, noted(browser(to_html(upright(signing(5))), PROBE + script), "sides").split(","))
    assert before < 0.5 < after and abs(before + after - 1) < 0.02


def test_one_hand_alone_is_shown_three_times_as_large_as_on_the_whole_signer(browser, signing):
    """By the pixels of a shoulder length, in a window of 1,280 pixels; on a phone the hand has two thirds of the width."""
    page = to_html((upright(signing(30)), without("left_hand")))
    script = """setTimeout(() => {
      const side = selector => document.querySelector(selector).clientWidth;
      note("sides", [side(".whole canvas"), side(".right_hand canvas"), side(".face canvas")]);
    }, 300)"""
    motion = motion_of(page)
    for width, least in ((900, 3), (390, 2)):
        whole, hand, face = map(
            int, noted(browser(page.replace("<main>", f'<main style="width:{width}px">'), PROBE + script), "sides").split(",")
        )
        assert hand / motion["sides"]["right_hand"] >= least * whole / motion["view"][2] and hand >= 1.9 * face


def test_a_part_loops_between_two_marked_frames(browser, signing):
    script = """
    key("Home"); for (let i = 0; i < 10; i++) key("ArrowRight"); key("[");
    for (let i = 0; i < 5; i++) key("ArrowRight"); key("]");
    const visited = new Set(); key(" ");
    const watch = setInterval(() => visited.add(at()), 15);
    setTimeout(() => {
      note("visited", [Math.min(...visited), Math.max(...visited)]);
      note("said", document.getElementById("part").textContent);
    }, 1100)"""
    document = browser(to_html(signing(60), fps=25), PROBE + script)
    assert noted(document, "visited") == "10,15" and noted(document, "said") == "loops 0.40 to 0.64 s"


def test_the_word_of_the_moment_is_marked(browser, signing):
    script = """key("Home"); for (let i = 0; i < 15; i++) key("ArrowRight");
    note("now", [...document.querySelectorAll("#words .now")].map(word => word.textContent));"""
    page = to_html(signing(40), fps=25, words=[("eins", 0, 0.5), ("zwei", 0.5, 1), ("drei", 1, 1.6)])
    assert noted(browser(page, PROBE + script), "now") == "zwei"


def attention_of(tokens, rows):
    """Attentions of a pipeline's answer with one layer and one head; a segment lasts a second."""
    seconds = np.stack([np.arange(len(rows[0])), np.arange(1, len(rows[0]) + 1)], -1).astype(float)
    return {"tokens": tokens, "cross": np.array(rows, float)[None, None], "seconds": seconds}


def test_words_have_the_moment_that_holds_half_of_their_attention():
    rows = [[0.9, 0.1, 0, 0], [0, 0.3, 0.4, 0.3], [0, 0, 0.1, 0.9], [0.25] * 4]
    assert attended_words(attention_of(["▁guten", "▁mor", "gen", "</s>"], rows), ["</s>"]) == [("guten", 0, 1), ("morgen", 3, 4)]
    assert attended_words(attention_of(["h", "e", "y", "</s>"], rows), ["</s>"]) == [("h", 0, 1), ("e", 1, 3), ("y", 3, 4)]
    assert [word for word, *_ in attended_words(attention_of(["play", "##ing", "now", "[SEP]"], rows), ["[SEP]"])] == ["playing", "now"]
    assert attended_words(attention_of(["</s>"], rows[:1]), ["</s>"]) == []


def test_keys_pause_step_and_jump(browser, signing):
    script = """
    setTimeout(() => {
      key(" "); const paused = at();
      key("ArrowRight"); key("ArrowRight"); key("ArrowLeft"); const stepped = at() - paused;
      key("End"); key("ArrowRight"); const last = at();
      key("Home"); key("ArrowLeft"); note("keys", [paused > 0, stepped, last, at()]);
      setTimeout(() => note("still", at()), 300);
    }, 500)"""
    document = browser(to_html(signing(40)), PROBE + script)
    assert noted(document, "keys") == "true,1,39,0" and noted(document, "still") == "0"


def test_without_loop_the_player_stops_at_the_last_frame(browser, signing):
    script = """
    document.getElementById("loop").checked = false; document.getElementById("speed").value = "2";
    setTimeout(() => note("end", [at(), document.getElementById("play").textContent]), 1200)"""
    assert noted(browser(to_html(signing(30)), PROBE + script), "end") == "29,Play"


def test_a_fragment_plays_inside_another_page_and_takes_its_height(browser, signing):
    page = f"<!DOCTYPE html><html><body><h1>Page</h1>{player_html(signing(30), size=200)}</body></html>"
    script = (
        PROBE
        + """
    setTimeout(() => {
      const frame = document.querySelector("iframe"), inner = frame.contentDocument;
      note("inside", [inner.getElementById("play").textContent, frame.clientHeight >= inner.querySelector("main").offsetHeight,
        inner.documentElement.scrollHeight <= frame.clientHeight]);
    }, 500)"""
    )
    assert noted(browser(page, script), "inside") == "Pause,true,true"


def test_a_browser_animates_an_svg_in_which_a_hand_is_lost_for_a_while(browser, signing):
    """The still picture is the middle frame, where the hand is lost: a hand that shows is animated."""
    clip, mask = signing(100).astype(float), without("right_hand", 100, slice(40, 60))
    picture = to_animated_svg((clip, mask))
    last = max(int(path.get("id").split("-")[2]) for path in ET.fromstring(picture).iter(f"{SVG}path"))
    thumb = next(path.get("id") for path in ET.fromstring(picture).iter(f"{SVG}path") if path.get("id").endswith(f"-0-{last}"))
    script = f"""
    setTimeout(() => {{
      const box = document.getElementById("{thumb}").getBBox();
      note("box", [box.x, box.y, box.width, box.height]);
    }}, 1000)"""
    document = browser(f"<!DOCTYPE html><html><body>{picture}</body></html>", PROBE + script)
    scene = make_scene((clip, mask), "uniglor73")
    places = (scene.figures[0][-1].points - scene.view[:2]) * GRID / scene.view[2]
    boxes = np.concatenate([places.min(1), places.max(1) - places.min(1)], 1)[:40]  # (T, 4)
    box = np.array(noted(document, "box").split(","), float)
    assert abs(boxes - box).max(1).min() < 2 and box[2:].any()


# --- PNG, GIF, MP4 ----------------------------------------------------------------------------------------------------------------


def test_a_png_is_the_strip_or_one_picture(signing, tmp_path):
    Image = pytest.importorskip("PIL.Image")
    to_png([signing(30)] * 2, tmp_path / "strip.png", num_frames=5, size=60, titles=["a", "b"])
    to_png(signing(30), tmp_path / "one.png", num_frames=1, size=200)
    with Image.open(tmp_path / "strip.png") as strip, Image.open(tmp_path / "one.png") as one:
        assert strip.size == (300, 2 * 78) and one.size == (200, 200)
        assert all(has_color(one, name) for name in RIGHT | LEFT | {"arm", "mouth", "torso"})


def test_a_gif_keeps_its_colours_and_its_length_at_any_rate(signing, tmp_path):
    Image = pytest.importorskip("PIL.Image")
    to_gif((signing(31), without("left_hand", 31)), tmp_path / "a.gif", fps=30, size=128, titles=["Grüße"])
    milliseconds = 0
    with Image.open(tmp_path / "a.gif") as gif:
        for frame in range(gif.n_frames):
            gif.seek(frame)
            milliseconds += gif.info["duration"]
        assert gif.info["loop"] == 0
        assert all(has_color(gif, name, 30) for name in RIGHT | {"arm", "mouth"})
        assert not any(has_color(gif, name, 30) for name in LEFT - {"left_pinky"})
    assert milliseconds == 1030  # 31 / 30 s in hundredths; 33 ms a frame would be rounded to 30 each


def test_a_gif_of_every_second_frame_plays_at_the_same_speed(signing, tmp_path):
    Image = pytest.importorskip("PIL.Image")
    to_gif(signing(40), tmp_path / "a.gif", fps=25, size=64, every=2)
    with Image.open(tmp_path / "a.gif") as gif:
        assert gif.n_frames <= 20 and gif.info["duration"] % 80 == 0


@pytest.mark.parametrize("fps", [25, np.float32(29.97)])
def test_an_mp4_is_one_that_browsers_play(signing, tmp_path, fps):
    av = pytest.importorskip("av")
    to_mp4([signing(20), signing(12)], tmp_path / "a.mp4", fps=fps, size=127, titles=["truth", ""], close_ups=False)
    with av.open(str(tmp_path / "a.mp4")) as video:
        stream = video.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (stream.width, stream.height) == (256, 128 + 22)
        assert abs(float(stream.average_rate) - fps) < 0.01
        frames = [frame.to_image() for frame in video.decode(stream)]
    assert len(frames) == 20
    data = (tmp_path / "a.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")  # the index first: a page can start to play before all is there


def test_an_mp4_shows_the_parts_in_their_colours(signing, tmp_path):
    av = pytest.importorskip("av")
    to_mp4((signing(10), without("left_hand", 10)), tmp_path / "a.mp4", size=512)
    with av.open(str(tmp_path / "a.mp4")) as video:
        frame = next(video.decode(video=0)).to_image()
    assert all(has_color(frame, name) for name in RIGHT | {"arm", "mouth"})
    assert not any(has_color(frame, name) for name in ("left_thumb", "left_index", "left_middle"))


def ink(text, tmp_path):
    """How many pixels the title of a PNG darkens."""
    Image = pytest.importorskip("PIL.Image")
    to_png(random_signing(1), tmp_path / "a.png", num_frames=1, size=150, titles=[text])
    with Image.open(tmp_path / "a.png") as picture:
        return int((np.asarray(picture.convert("L"))[: rendering.STRIP_HEADER] < 128).sum())


def test_umlauts_are_written_in_pictures(tmp_path):
    assert ink("Grüße", tmp_path) > ink("Gru", tmp_path) > 0
    assert rendering._font_for("Du hattest Glück", 12)[1] == ""


def test_a_title_that_no_font_can_write_is_left_out_with_one_warning(tmp_path, monkeypatch):
    """Hangul was a row of boxes on a machine without such a font."""
    told = []
    monkeypatch.setattr(rendering.logger, "warning_once", told.append)
    assert ink("word \U0010fffd", tmp_path) == 0
    assert len(told) == 1 and told[0].startswith(f"No font of this machine has {chr(0x10FFFD)!r}")


def test_fonts_of_the_system_are_tried_where_the_usual_ones_lack_a_letter(tmp_path, monkeypatch):
    pytest.importorskip("PIL.Image")
    found = [path for path in rendering._installed_fonts() if "DejaVuSans.ttf" in path]
    if not found:
        pytest.skip("DejaVu Sans is not installed")
    monkeypatch.setattr(rendering, "FONTS", ())
    rendering._font_for.cache_clear()
    assert rendering._font_for("Ա", 12)[1] == ""  # Armenian, which Pillow's own font does not have


@pytest.mark.parametrize(
    "module, write, package",
    [("PIL", to_png, "pillow"), ("PIL", to_gif, "pillow"), ("PIL", to_mp4, "pillow"), ("av", to_mp4, "av")]
    + [("pose_format", to_pose, "pose-format")],
)
def test_a_missing_library_is_named_with_its_package_and_leaves_no_file(signing, tmp_path, monkeypatch, module, write, package):
    monkeypatch.setitem(sys.modules, module, None)
    path = tmp_path / f"a.{write.__name__.removeprefix('to_')}"
    with pytest.raises(ImportError, match=rf"pip install .*{package}"):
        write(signing(3), path)
    assert not path.exists()


# --- .pose ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_channels", [2, 3])
@pytest.mark.parametrize("reach", [1, 5])
def test_pose_files_give_back_what_was_written(signing, rng, tmp_path, num_channels, reach):
    pytest.importorskip("pose_format")
    clip = np.concatenate([signing(15), rng.normal(0, 0.2, (15, 73, 1))], -1)[..., :num_channels].astype(np.float32) * reach
    mask = rng.random((15, 73)) > 0.2
    clip[~mask] = np.nan
    to_pose((clip, mask), tmp_path / "a.pose", fps=24.5)
    keypoints, found, fps = from_pose(tmp_path / "a.pose")
    assert keypoints.dtype == np.float32 and fps == 24.5
    np.testing.assert_array_equal(found, mask)
    np.testing.assert_allclose(keypoints[mask], clip[mask], rtol=0, atol=reach * 2.0**-22)  # half a unit in the last place on the canvas
    assert not keypoints[~mask].any()


def test_pose_files_open_in_viewers(signing, tmp_path):
    """Viewers draw what lies on the header's canvas, by components of points, limbs among them and a colour for each limb."""
    Pose = pytest.importorskip("pose_format").Pose
    clip, mask = signing(15) * 4, without("left_hand", 15)
    to_pose((clip, mask), tmp_path / "a.pose")
    pose = Pose.read((tmp_path / "a.pose").read_bytes())
    assert [part.name for part in pose.header.components] == ["POSE", "FACE", "LEFT_HAND", "RIGHT_HAND"]
    assert sum(len(part.limbs) for part in pose.header.components) == len(edge_indices("uniglor73", drawn=True))
    for part, color in zip(pose.header.components, (COLORS[name] for name in ("body", "face", "left_hand", "right_hand"))):
        assert np.max(part.limbs) < len(part.points) and len(part.limbs) == len(part.colors)
        assert {tuple(map(int, shade)) for shade in part.colors} == {rendering._rgb(color)}
    seen = pose.body.data.compressed()
    assert seen.size == mask.sum() * 2 and seen.min() >= 0
    assert seen.max() <= pose.header.dimensions.width == pose.header.dimensions.height


def test_pose_files_of_other_programs_are_refused_with_the_way_to_read_them(signing, tmp_path):
    pose_format = pytest.importorskip("pose_format")
    to_pose(signing(3), tmp_path / "a.pose")
    pose = pose_format.Pose.read((tmp_path / "a.pose").read_bytes())
    with open(tmp_path / "b.pose", "wb") as file:
        pose.get_components(["POSE"]).write(file)
    with pytest.raises(ValueError, match=r"found the components POSE \(8 points\), expected .* with KeypointProcessor"):
        from_pose(tmp_path / "b.pose")


# --- Files and errors -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "suffix, start",
    [(".svg", b"<svg"), (".HTML", b"<!DOCTYPE html>"), (".gif", b"GIF89a"), (".png", b"\x89PNG"), (".mp4", b"\0\0\0"), (".pose", b"")],
)
def test_render_writes_the_format_of_the_extension(signing, tmp_path, suffix, start):
    if suffix not in (".svg", ".HTML"):
        for module in ("PIL", "av", "pose_format"):
            pytest.importorskip(module)
    render(signing(4), tmp_path / f"a{suffix}", fps=10)
    assert (tmp_path / f"a{suffix}").read_bytes().startswith(start) and (tmp_path / f"a{suffix}").stat().st_size > 500


def test_an_unknown_extension_is_named(signing, tmp_path):
    with pytest.raises(ValueError, match=r"'\.avi', expected \.svg, \.html, \.gif, \.png, \.mp4 or \.pose"):
        render(signing(4), tmp_path / "a.avi")
    with pytest.raises(ValueError, match=r"a\.avi', expected one that ends in \.mp4"):
        to_mp4(signing(4), tmp_path / "a.avi")


def test_a_clip_without_keypoints_cannot_be_drawn(signing):
    with pytest.raises(ValueError, match="Clip 0 has no keypoint to draw"):
        to_svg([(signing(30), np.zeros((30, 73)))])
    with pytest.raises(ValueError, match="Clip 1 has no frames"):
        to_html([signing(30), signing(30)[:0]])
    with pytest.raises(ValueError, match="empty list, expected at least one clip"):
        to_html([])


def test_wrong_shapes_are_named(signing):
    with pytest.raises(ValueError, match=r"\(30, 70, 2\), expected \(frames, 73"):
        to_svg([(signing(30)[:, :70], None)])
    with pytest.raises(ValueError, match=r"\(30, 73, 1\), expected \(frames, 73, 2 or 3\)"):
        to_svg(signing(30)[..., :1])
    with pytest.raises(ValueError, match=r"mask of shape \(29, 73\), expected \(30, 73\)"):
        to_svg((signing(30), np.ones((29, 73))))
    with pytest.raises(ValueError, match="Found 1 titles for 2 clips"):
        to_svg([signing(30)] * 2, titles="truth")
    with pytest.raises(ValueError, match="Found 2 clips, expected one"):
        to_pose([signing(3)] * 2, "a.pose")


def test_nan_where_the_mask_says_seen_is_named_by_point_and_frame(signing):
    clip = signing(30)
    clip[4, 7] = np.nan
    with pytest.raises(ValueError, match=r"NaN or infinity in 1 keypoints .* left_wrist in frame 4\. Expected a mask"):
        to_html(clip)
    mask = np.ones((30, 73))
    mask[4, 7] = 0
    to_html((clip, mask))


@pytest.mark.parametrize("fps", [0, -25, float("nan"), float("inf"), None])
def test_a_rate_must_be_above_zero(signing, tmp_path, fps):
    for write in (to_animated_svg, to_html):
        with pytest.raises(ValueError, match="must be above 0, in frames a second"):
            write(signing(3), fps=fps)
    for write, path in ((to_gif, "a.gif"), (to_mp4, "a.mp4"), (to_pose, "a.pose")):
        with pytest.raises(ValueError, match="must be above 0, in frames a second"):
            write(signing(3), tmp_path / path, fps=fps)


def test_a_gif_that_browsers_would_slow_down_is_refused(signing, tmp_path):
    with pytest.raises(ValueError, match="fps / every <= 50"):
        to_gif(signing(3), tmp_path / "a.gif", fps=60)


# --- The benchmark ----------------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(importlib.util.find_spec("matplotlib") is None, reason="matplotlib, the benchmark's reference, is not installed")
def test_the_benchmarks_reference_draws_every_frame_in_our_colours(signing, tmp_path):
    from PIL import Image

    from benchmarks.rendering import matplotlib_animation

    matplotlib_animation(signing(6), tmp_path / "a.gif", 256)
    with Image.open(tmp_path / "a.gif") as gif:
        assert gif.n_frames == 6 and gif.size == (256, 256)
        assert all(has_color(gif, name, 90) for name in ("body", "face", "left_hand", "right_hand"))
