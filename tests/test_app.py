"""The page: a server of its own on loopback, asked by gradio's client, with tiny random checkpoints."""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import xml.etree.ElementTree as ET
import zipfile
from html import escape, unescape
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from transformers import pipeline

from modeling_unigloR.rendering_uniglor import from_pose
from modeling_unigloR.video_extraction_uniglor import extract_video
from train import embed

from .browser import PROGRAM, Browser
from .conftest import REAL_DATA, random_signing
from .soak import serving

pytest.importorskip("gradio", reason="the page needs gradio: pip install -e '.[demo]'")
av = pytest.importorskip("av", reason="the page reads and writes video: pip install -e '.[demo]'")

from gradio_client import Client, handle_file  # noqa: E402

import app  # noqa: E402

from .test_extract import SquareExtractor, squares, write_video  # noqa: E402

ROOT = Path(__file__).parents[1]
NOT_SAID = ("", None, None, None)  # layout, fps, width, height


@pytest.fixture(scope="module")
def running():
    """What is started once for all tests, and ended after them."""
    started = {}
    yield started
    if started:
        started["process"].terminate()
        started["process"].wait(120)
        assert not [path for path in started["temporary"].rglob("*") if path.is_file()]  # its folder went with it


@pytest.fixture
def server(running, tiny_sign_to_text, tiny_text_to_sign, sign_mae_dir, corpus, tmp_path_factory):
    """A client of the running page, its checkpoints and its temporary folder."""
    if not running:
        folder = tmp_path_factory.mktemp("page")
        tiny_sign_to_text().save_pretrained(folder / "reader")
        tiny_text_to_sign().save_pretrained(folder / "signer")
        (folder / "reader" / "report.json").write_text('{"num_train_clips": 1234, "steps": 56}')
        embed.embed(sign_mae_dir, corpus, ["train"], folder / "latents")
        (folder / "temporary").mkdir()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        argv = ["--sign_to_text", str(folder / "reader"), "--text_to_sign", str(folder / "signer"), "--latents", str(folder / "latents")]
        with open(folder / "log.txt", "w") as log:
            running["process"] = subprocess.Popen(
                [sys.executable, str(ROOT / "app.py"), *argv, "--server_port", str(port)],
                stdout=log, stderr=log, env=os.environ | {"TMPDIR": str(folder / "temporary")},
            )  # fmt: skip
        url = f"http://127.0.0.1:{port}"
        running |= {
            "url": url,
            "page": serving.Page(running["process"], port, folder / "log.txt"),
            "reader": str(folder / "reader"),
            "signer": str(folder / "signer"),
            "temporary": folder / "temporary",
        }
        for _ in range(1200):  # ten minutes: it starts slowly on a busy machine, and a process that ended is noticed at once
            assert running["process"].poll() is None, (folder / "log.txt").read_text()[-3000:]
            try:
                urllib.request.urlopen(url, timeout=5)
                break
            except OSError:
                time.sleep(0.5)
        running["client"] = Client(url, verbose=False, download_files=str(folder / "downloads"))
    return running


def read(server, path, given=NOT_SAID):
    """-> text, note, player, attention."""
    return server["client"].predict(server["reader"], handle_file(str(path)), *given, api_name="/sign_to_text")


def kept(server):
    """Names of the files with anything in them that the server holds, but those that text-to-sign made."""
    paths = [path for path in server["temporary"].rglob("*") if path.is_file() and path.stat().st_size]
    return [path.name for path in paths if path.stem != "signing"]


@pytest.fixture
def clip(tmp_path):
    path = tmp_path / "clip.npz"
    np.savez(path, keypoints=random_signing(60) * 100 + 300, confidence=np.ones((60, 73)), fps=25.0, layout="uniglor73")
    return path


# --- Sign to text -----------------------------------------------------------------------------------------------------------------


def test_a_clip_is_read_as_the_pipeline_reads_it(server, clip):
    text, note, player, attention = read(server, clip)
    expected = pipeline("sign-to-text", model=server["reader"], device="cpu")(str(clip))
    assert text == expected["translation_text"]
    assert f"{expected['score']:.2f}" in note and "left hand 100%" in note
    page = unescape(re.search(r'srcdoc="([^"]*)"', player).group(1))
    assert "<canvas" in page and '"frames":60' in page and "<video" not in page
    drawing = ET.fromstring(attention)
    assert any(node.text == "2.28 s" for node in drawing.iter("{http://www.w3.org/2000/svg}text"))


def test_nothing_is_left_of_what_was_read(server, clip, tmp_path):
    read(server, clip)
    (tmp_path / "no.npz").write_bytes(b"no clip at all")
    assert "No answer" in read(server, tmp_path / "no.npz")[1]
    assert kept(server) == []


def test_what_the_file_does_not_say_is_given(server, tmp_path):
    frames = np.zeros((60, 137, 2))
    frames[:, :8] = random_signing(60)[:, :8] * 0.1 + 0.5
    np.save(tmp_path / "clip.npy", frames)
    text, note, *_ = read(server, tmp_path / "clip.npy")
    assert text == "" and "relative to the image" in note
    text, note, player, _ = read(server, tmp_path / "clip.npy", ("openpose137", 50, 640, 480))
    assert "No answer" not in note and "&quot;frames&quot;:30" in player  # 60 frames at 50 a second, resampled to 25


def relative(path):
    """A clip of 137 points whose coordinates go from 0 to 1."""
    frames = np.zeros((60, 137, 2))
    frames[:, :8] = random_signing(60)[:, :8] * 0.1 + 0.5
    path.parent.mkdir()  # which goes with the upload
    np.save(path, frames)
    return path


def test_a_clip_stays_until_another_takes_its_place(tmp_path, monkeypatch):
    """After an error the upload was gone: whoever gave the size that was asked for had to choose the file again."""
    seen = []
    monkeypatch.setattr(app, "translate_clip", lambda checkpoint, clip: (seen.append(clip), "read", "", "", "")[1:])
    upload, other = relative(tmp_path / "a" / "clip.npy"), relative(tmp_path / "b" / "other.npy")
    text, note, *_, held = app.translate("reader", str(upload))
    assert text == "" and "No answer" in note and "How large was the picture?" in held["question"] and not upload.exists()
    text, *_, held = app.translate("reader", str(upload), held, "openpose137", 25.0, 640, 480)
    assert text == "read" and held["question"] == "" and (seen[0].width, seen[0].fps) == (640, 25)
    key = held["key"]
    *_, held = app.translate("reader", str(other), held, "openpose137", None, 640, 480)
    assert app.HELD.get(key) is None and "How many frames a second?" in held["question"]
    app.forget(held)
    assert not app.HELD.clips


def test_the_same_file_can_be_uploaded_again(tmp_path):
    """Gradio names an upload after its content, so a file that is chosen a second time comes under the path of the first."""
    *_, held = app.translate("reader", str(relative(tmp_path / "a" / "clip.npy")))
    app.forget(held)  # as when it is cleared, or after ten minutes
    assert "Choose the file again" in app.translate("reader", held["upload"], held)[1]
    *_, held = app.translate("reader", str(relative(tmp_path / "a" / "clip.npy")), held)
    assert "How large was the picture?" in held["question"]
    app.forget(held)


def test_a_clip_that_fits_other_layouts_is_asked_about(tmp_path):
    *_, held = app.translate("reader", str(relative(tmp_path / "a" / "clip.npy")), None, "mediapipe75", None, 640, 480)
    assert "Which layout do its keypoints have? They fit" in held["question"] and "openpose137" in held["question"]
    (tmp_path / "broken.npy").write_bytes(b"no array")
    *_, held = app.translate("reader", str(tmp_path / "broken.npy"), held)
    assert held["question"] == ""
    assert "No answer" in app.translate("reader", str(tmp_path / "broken.npy"), held)[1]


def test_held_clips_have_an_age_and_a_sum(monkeypatch):
    held, now = app.HeldClips(), time.time()
    monkeypatch.setattr(app, "MAX_HELD_BYTES", 1000)
    keys = [held.put(f"{number}.npy", bytes(400)) for number in range(3)]
    assert held.get(keys[0]) is None and held.get(keys[2]) == ("2.npy", bytes(400))
    monkeypatch.setattr(app.time, "time", lambda: now + app.KEPT_SECONDS + 60)
    assert held.get(keys[2]) is None
    held.put("late.npy", b"")
    assert len(held.clips) == 1


def test_the_example_clip_shows_nobody_and_is_read(tiny_sign_to_text, tmp_path):
    tiny_sign_to_text().save_pretrained(tmp_path / "reader")
    clip = app.example_clip([], "hello")
    text, said, player, _ = app.translate_clip(str(tmp_path / "reader"), clip)
    assert "right hand 100%" in said and "left hand 0%" in said and "<iframe" in player


def test_openpose_files_come_in_a_zip(server, tmp_path):
    points = np.concatenate([random_signing(20, layout_name="uniglor73")[:, :8] * 100 + 300, np.ones((20, 8, 1))], axis=-1)
    with zipfile.ZipFile(tmp_path / "clip.zip", "w") as archive:
        archive.writestr("clip/readme.txt", "OpenPose's files of one clip")
        for number, frame in enumerate(points):
            person = {"pose_keypoints_2d": np.pad(frame, ((0, 17), (0, 0))).ravel().tolist()}
            archive.writestr(f"clip/clip_{number:012}_keypoints.json", json.dumps({"people": [person]}))
    text, note, player, _ = read(server, tmp_path / "clip.zip", ("openpose137", 25, None, None))
    assert "body 100%, face 0%" in note and "&quot;frames&quot;:20" in player


def broken(folder):
    """Uploads that are no clips: {name: what is said of them}."""
    np.save(folder / "nobody.npy", np.full((20, 73, 2), np.nan))
    np.save(folder / "pickled.npy", np.array([{"a": 1}]), allow_pickle=True)
    np.save(folder / "long.npy", np.random.default_rng(0).random((4000, 73, 2), np.float32) * 300)
    np.savez_compressed(folder / "bomb.npz", keypoints=np.zeros((260, 2**20), np.uint8))
    (folder / "text.txt").write_text("hello")
    (folder / "empty.pose").write_bytes(b"")
    (folder / "text.mp4").write_text("no video")
    (folder / "deep.json").write_text("[" * 200_000)
    with zipfile.ZipFile(folder / "other.zip", "w") as archive:
        archive.writestr("holiday.txt", "no keypoints")
    (folder / "<b>_name_.npy").write_text("hello")
    return {
        "nobody.npy": "nobody is seen in any of its 20 frames",
        "pickled.npy": "a pickle can run any code",
        "long.npy": "4,000 frames, 160 s; at most 120 s are read",
        "bomb.npz": "260 MB when unpacked, at most 200 MB are read",
        "text.txt": "text.txt: unknown kind of keypoint file",
        "empty.pose": "empty.pose",
        "text.mp4": "text.mp4: not a video|pip install",
        "deep.json": "RecursionError|not a whole JSON",
        "other.zip": "no *_keypoints.json inside",
        "<b>_name_.npy": "name_.npy: not plain numbers",
    }


def test_what_is_no_clip_gets_a_message_and_the_page_goes_on(server, clip, tmp_path):
    for name, told in broken(tmp_path).items():
        text, note, player, attention = read(server, tmp_path / name, ("uniglor73" if name.endswith("npy") else "", None, None, None))
        assert (text, player, attention) == ("", "", ""), name
        assert any(escape(part) in note for part in told.split("|")), (name, note)
        assert str(server["temporary"]) not in note and "<b>_name" not in note
    assert kept(server) == []
    assert "No answer" not in read(server, clip)[1]


def test_no_upload_at_all_gets_a_message(server):
    answer = server["client"].predict(server["reader"], None, *NOT_SAID, api_name="/sign_to_text")
    assert "Choose a clip first" in answer[1]


def test_a_large_upload_is_refused_while_it_is_sent(server, tmp_path):
    """The limit holds before anything is read: the file would be a valid clip but for its size."""
    with open(tmp_path / "large.npy", "wb") as file:
        file.truncate(app.MAX_BYTES + 1)
    with pytest.raises(Exception, match="413|exceed"):
        read(server, tmp_path / "large.npy")
    assert kept(server) == []


def test_only_the_given_checkpoints_are_loaded(server, tmp_path):
    with pytest.raises(Exception, match="not in the list of choices"):
        server["client"].predict(str(tmp_path), "regen", api_name="/text_to_sign")


@pytest.mark.skipif(not REAL_DATA.exists(), reason="real videos are not here: set UNIGLOR_DATA to their folder")
def test_a_real_video_is_read_and_not_kept(server):
    pytest.importorskip("mediapipe", reason="MediaPipe is not installed: pip install mediapipe==0.10.14")
    path = REAL_DATA / "video" / "hand_raised.mp4"
    for api_name, given in (("/sign_to_text", NOT_SAID), ("/sign_to_text_camera", ())):
        _, note, player, _ = server["client"].predict(server["reader"], handle_file(str(path)), *given, api_name=api_name)
        assert "body 100%, face 100%, left hand 0%" in note and "<iframe" in player and kept(server) == []


# --- Text to sign -----------------------------------------------------------------------------------------------------------------


def test_a_text_is_signed_and_can_be_downloaded(server):
    player, note, files = server["client"].predict(server["signer"], "morgen regnet es", api_name="/text_to_sign")
    expected = pipeline("text-to-sign", model=server["signer"], device="cpu")("morgen regnet es", seam_frames=app.SEAM_FRAMES)
    keypoints, mask, fps = from_pose(files[0])
    np.testing.assert_allclose(keypoints, np.where(expected["keypoint_mask"][..., None], expected["keypoints"], 0), atol=1e-3)
    assert fps == 25 and "<iframe" in player and f"{len(keypoints) / 25:.1f} s" in note
    with av.open(files[1]) as video:
        assert sum(1 for _ in video.decode(video=0)) == len(keypoints)
    assert kept(server) == []


def test_a_text_that_cannot_be_signed_gets_a_message(server):
    for text, told in (("  ", "expected at least one word"), ("regen " * 60, "Cut the text in two")):
        player, note, files = server["client"].predict(server["signer"], text, api_name="/text_to_sign")
        assert (player, files) == ("", None) or (player, files) == ("", [])
        assert told in note
    note = server["client"].predict(server["signer"], "quark regnet", api_name="/text_to_sign")[1]
    assert "1 of 2 tokens are not in the model" in note


# --- In a browser -----------------------------------------------------------------------------------------------------------------

BUTTON = "[...document.querySelectorAll('button')].find(b => b.offsetParent && b.textContent.trim() === '{}')"


QUESTION_THAT_STAYS = """(() => {
  const asked = document.querySelector('[role=alert]')?.textContent
  window.since = asked ? window.since ?? Date.now() : undefined
  return asked && Date.now() - window.since > 1500 ? asked : ''
})()"""


@pytest.mark.skipif(PROGRAM is None, reason="no chromium on the path: the page is not opened")
def test_the_page_in_a_browser(server, tmp_path):
    """On a phone: an example in one click, then a clip whose size is asked for beside it, and which stays until it is answered."""
    with Browser(tmp_path / "profile") as browser:
        browser.screen(390, 844, dark=True)
        browser.open(server["url"])
        browser.wait(f"!!{BUTTON.format('Try an example')}")
        assert browser.evaluate("document.documentElement.scrollWidth") <= 390
        assert server["reader"] not in browser.evaluate("document.body.innerHTML")
        browser.evaluate(f"{BUTTON.format('Try an example')}.click()")
        browser.wait("!!document.querySelector('#answer iframe')?.contentDocument?.querySelector('canvas')")
        browser.wait("document.querySelector('#answer textarea, #answer input').getBoundingClientRect().bottom < 844")
        rows = browser.evaluate("[...document.querySelectorAll('#answer svg text')].map(node => node.textContent)")
        assert not {"</s>", "[EOS]"} & set(rows)
        browser.upload("input[type=file]", relative(tmp_path / "upload" / "clip.npy"))
        browser.wait("!!document.querySelector('a[href*=\"clip.npy\"]')")  # it has arrived
        browser.evaluate(f"{BUTTON.format('Translate')}.click()")  # once, and at once: no answer to the upload may come after it
        assert browser.wait(QUESTION_THAT_STAYS).startswith("How large was the picture?")
        assert browser.evaluate("document.body.innerText.includes('clip.npy')")
        for label, value in (("width", "640"), ("height", "480")):
            field = browser.wait(
                f"[...document.querySelectorAll('label')].some(e => e.offsetParent && e.textContent.trim() === `Picture's {label}`)"
                f" && (window.field = [...document.querySelectorAll('label')].find(e => e.offsetParent && e.textContent.trim() ==="
                f" `Picture's {label}`).querySelector('input, textarea')).value === ''"
            )
            assert field  # open, and not filled in advance
            browser.evaluate("window.field.focus()")
            browser.send("Input.insertText", text=value)
        browser.evaluate(f"{BUTTON.format('Translate')}.click()")
        browser.wait("(document.querySelector('[role=alert]')?.textContent ?? '').startsWith('How many frames a second?')")
        browser.wait("document.querySelector('#answer').innerText.includes('body 100%')")


# --- Explorer ---------------------------------------------------------------------------------------------------------------------


def titles_of(player):
    """Titles above the clips of a player."""
    page = unescape(re.search(r'srcdoc="([^"]*)"', player).group(1))
    return [unescape(title) for title in re.findall(r"<figcaption[^>]*>(.*?)</figcaption>", page, re.DOTALL)]


def test_the_nearest_segment_of_a_training_clip_is_itself(server, tmp_path):
    rows = [random_signing(20 + 5 * (index % 4), index) * 100 + 300 for index in range(12)]
    np.savez(tmp_path / "train-3.npz", keypoints=rows[3].astype(np.float32), fps=25.0, layout="uniglor73")
    client = Client(server["url"], verbose=False)
    slider, note = client.predict(handle_file(str(tmp_path / "train-3.npz")), *NOT_SAID, api_name="/read_clip")
    assert slider["maximum"] == 2 and note == ""
    titles = titles_of(client.predict(1, 4, api_name="/nearest"))
    assert titles[0] == "your segment, 0.28 to 0.88 s" and titles[1].startswith("the same")
    assert titles[2].startswith("cosine similarity 1.00: train-3, 0.28 to 0.88 s") and len(titles) == 6
    assert kept(server) == []
    _, note = client.predict(None, *NOT_SAID, api_name="/read_clip")
    assert "Choose a clip first" in note and client.predict(0, 4, api_name="/nearest") == ""


def test_latents_of_another_model_are_refused(sign_mae_dir, corpus, tiny_sign_mae, tmp_path):
    embed.embed(sign_mae_dir, corpus, ["test"], tmp_path / "latents")
    other = tiny_sign_mae(seed=5)
    other.save_pretrained(tmp_path / "other")
    app.AutoFeatureExtractor.from_pretrained(sign_mae_dir).save_pretrained(tmp_path / "other")
    with pytest.raises(ValueError, match="written by another model"):
        app.Explorer(tmp_path / "latents", str(tmp_path / "other"))


# --- What it says of itself -------------------------------------------------------------------------------------------------------


def test_the_page_says_what_its_checkpoints_were_trained_on(server):
    told = server["client"].predict(server["reader"], server["signer"], api_name="/trained_on")
    assert "**reader** was trained on: unknown. By its report, 1,234 clips and 56 steps." in told
    assert "**signer** was trained on: unknown." in told


def test_a_model_card_is_believed(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "README.md").write_text("---\ndatasets:\n- me/weather\n---\n# A model\n")
    assert app.trained_on(str(tmp_path / "set")) == "me/weather."
    (tmp_path / "card").mkdir()
    (tmp_path / "card" / "README.md").write_text("# A model\n\n## Training data\n\nWeather, 8 hours.\n\n## Scores\n\nNone.\n")
    assert app.trained_on(str(tmp_path / "card")).strip() == "Weather, 8 hours."
    assert app.trained_on(str(tmp_path)) == "unknown."


def test_the_page_warns_and_loads_nothing_from_elsewhere(server):
    page = urllib.request.urlopen(server["url"]).read().decode()
    assert "This is no interpreter" in page
    linked = re.findall(r'<(?:script|link|img)[^>]*(?:src|href)="(https?://[^"]*)"', page)
    assert [url for url in linked if not url.startswith(server["url"])] == []
    assert 'analytics_enabled":true' not in page.replace(" ", "")


def test_without_a_checkpoint_it_says_what_to_give(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        app.main([])
    assert "make demo" in capsys.readouterr().err


# --- Many people, and strangers -----------------------------------------------------------------------------------------------------


def failures(row):
    return row.examples


def test_people_who_send_the_same_clip_at_once_are_all_answered(server, clip):
    """Uploads are named by their content: the first one's reading deleted the file of all others, and 9 of 10 got no answer."""
    row = serving.together(server["page"], [clip.read_bytes()] * 10, "identical uploads")
    assert failures(row) == [] and row.outcomes["right"] == 10
    assert kept(server) == []


def test_hostile_uploads_are_answered_and_the_page_goes_on(server):
    assert failures(serving.hostile_uploads(server["page"], 0, num_flipped=3)) == []
    assert kept(server) == []


def test_hostile_texts_are_answered_and_the_page_goes_on(server):
    assert failures(serving.hostile_texts(server["page"], every=3)) == []


def test_names_that_are_not_this_machines_are_answered_nowhere(server):
    """A page of elsewhere whose name leads to 127.0.0.1 could read everything that the app says, and upload."""
    assert failures(serving.host_headers(server["page"])) == []


def test_a_small_soak_of_pipelines_holds(tiny_sign_to_text, tiny_text_to_sign):
    assert failures(serving.many_calls(tiny_sign_to_text(), tiny_text_to_sign(), 12)) == []
    assert failures(serving.many_threads(tiny_sign_to_text(), 3)) == []


@pytest.mark.parametrize(
    "opened, given, host, answered",
    [
        ("", [], "localhost:7860", True), ("", [], "127.0.0.1", True), ("", [], "[::1]:7860", True), ("", [], "LocalHost.", True),
        ("", [], "192.0.2.7", False), ("", [], "evil.example", False), ("", [], "", False), ("", [], "localhost:7860/", False),
        ("", [], "a@localhost", False), ("", [], "localhost:a", False), ("", ["lab.example"], "lab.example:80", True),
        ("", ["lab.example"], "x.lab.example", False), ("lab.example", [], "LAB.example", True), ("0.0.0.0", [], "192.0.2.7:7860", True),
        ("0.0.0.0", [], "evil.example", False), ("0.0.0.0", ["lab.example"], "lab.example", True), ("[::]", [], "[2001:db8::1]:80", True),
        ("192.0.2.7", [], "192.0.2.7", True), ("192.0.2.7", [], "192.0.2.8", False),
    ],
)  # fmt: skip
def test_only_names_of_this_machine_and_those_given_are_answered(opened, given, host, answered, monkeypatch):
    monkeypatch.setenv("GRADIO_SERVER_NAME", opened)
    assert app.Doorkeeper(None, given).answers(host) == answered


def test_the_page_names_checkpoints_and_shows_no_folders(server):
    folder = str(Path(server["reader"]).parent)
    for path in ("/", "/config", "/gradio_api/info"):
        status, content = server["page"].request("GET", path)
        assert status == 200 and folder not in content.decode() and str(ROOT) not in content.decode()
    text, *_ = server["page"].call("text_to_sign", "signer", "morgen regnet es")
    assert "<iframe" in text


def test_checkpoints_of_one_name_can_be_told_apart(tmp_path):
    folders = [str(tmp_path / parent / "reader") for parent in "ab"]
    for folder in folders:
        Path(folder).mkdir(parents=True)
    dropdown = app.checkpoint_choice([*folders, "owner/reader"])
    names = [name for name, _ in dropdown.choices]
    assert names == ["reader", "reader (2)", "owner/reader"]
    assert [dropdown.preprocess(name) for name in names] == [*folders, "owner/reader"]
    assert dropdown.preprocess(None) is None
    with pytest.raises(Exception, match="not in the list"):
        dropdown.preprocess(str(tmp_path))


def test_the_text_limit_is_the_servers(server):
    note = server["page"].call("text_to_sign", "signer", "regen " * 84)[1]
    assert "504" not in note and "Found a text of 503 letters, expected at most 500" in note


def test_kept_files_have_an_age_and_a_sum(tmp_path, monkeypatch):
    monkeypatch.setattr(app, "MAX_KEPT_BYTES", 1000)
    for number in range(5):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "clip.npz").write_bytes(bytes(300))
        os.utime(tmp_path / str(number) / "clip.npz", (time.time() - 10 * number,) * 2)
    (tmp_path / "broken-off").write_bytes(bytes(5))
    os.utime(tmp_path / "broken-off", (1, 1))
    (tmp_path / "being-sent").write_bytes(bytes(5))
    app.make_room(tmp_path)
    assert sorted(path.parent.name for path in tmp_path.glob("*/*")) == ["0", "1", "2"]
    assert not (tmp_path / "broken-off").exists() and (tmp_path / "being-sent").exists()
    app.make_room(tmp_path, 500)
    assert [path.parent.name for path in tmp_path.glob("*/*")] == ["0"]
    os.utime(tmp_path / "0" / "clip.npz", (1, 1))
    app.make_room(tmp_path)
    assert list(tmp_path.glob("*/*")) == []


def test_uploads_at_once_have_a_sum(monkeypatch, tmp_path):
    """Four uploads of 190 MB that nobody reads were taken and kept, and as many more as one likes."""
    monkeypatch.setattr(app, "MAX_KEPT_BYTES", 1000)
    inside, door = [], None

    async def upload(size):
        scope = {"type": "http", "method": "POST", "path": "/gradio_api/upload", "headers": [(b"host", b"localhost")]}
        scope["headers"] += [(b"content-length", str(size).encode())] if size else []
        sent = []

        async def send(message):
            sent.append(message)

        await door(scope, None, send)
        return sent[0]["status"] if sent else "inside"

    async def behind(scope, receive, send):
        inside.append(await upload(700) if not inside else None)  # while the first is being sent

    door = app.Doorkeeper(behind, folder=tmp_path)
    assert asyncio.run(upload(600)) == "inside" and inside == [503]
    assert door.arriving == 0
    assert asyncio.run(upload(None)) == 503  # no length is told: as much as is allowed


# --- Strangers' cards -------------------------------------------------------------------------------------------------------------

LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join(['*' + before] * 9)}]\n" for before, name in zip("abcdefghi", "bcdefghij")
)


@pytest.mark.parametrize(
    "card, told",
    [
        (f"---\n{LAUGHS}datasets: *j\n---\n", "no plain YAML: aliases are not read"),
        ("---\ndatasets: [" + "[" * 50_000 + "\n---\n", "no plain YAML"),
        ("---\ndatasets: " + "x" * 100_000 + "\n---\n", "its front matter has 100,01"),
        ("---\n" + "x" * 2 * 2**20, "2.0 MB, at most 1 MB are read"),
        ("---\ndatasets: !!python/object/apply:os.system [id]\n---\n", "no plain YAML"),
        ("---\n\0\n---\n", "no plain YAML"),
        ("---\n- 1\n- 2\n---\n", "no plain YAML"),
        ("---\ndatasets: {a: b}\n---\n", "unknown."),
        ("---\nno end", "unknown."),
        ("", "unknown."),
        ("---\r\ndatasets:\r\n- me/weather\r\n---\r\n", "me/weather."),
        (
            "# A model\n\n## Training data\n\n![x](https://elsewhere/x.png) <img src=https://elsewhere>",
            "[x](https://elsewhere/x.png) &lt;img",
        ),
    ],
    ids=range(12),
)
def test_a_strangers_card_is_read_in_bounded_time(tmp_path, card, told):
    """Nine lines of YAML aliases make a billion values: the page stood still while it loaded."""
    (tmp_path / "README.md").write_text(card, newline="")
    assert told in app.trained_on(str(tmp_path))
    assert "\n" not in app.trained_on(str(tmp_path)).strip()


@pytest.mark.parametrize(
    "report", ["{", "[" * 100_000, "[]", "5", '{"datasets": 5}', '{"num_train_clips": "many"}', '{"steps": {}}', "\udcff", " " * 2**21]
)
def test_a_broken_report_is_said_to_be_so(tmp_path, report):
    """The page did not load: JSONDecodeError."""
    (tmp_path / "report.json").write_text(report, errors="surrogateescape")
    told = app.trained_on(str(tmp_path))
    assert told.startswith("unknown. Its report.json cannot be read (") and "\n" not in told


# --- A hostile folder of latents --------------------------------------------------------------------------------------------------


@pytest.fixture
def latents(sign_mae_dir, corpus, tmp_path):
    embed.embed(sign_mae_dir, corpus, ["test"], tmp_path / "latents")
    return tmp_path / "latents"


def rewritten(folder, change):
    """Changes the columns of a folder of latents."""
    (path,) = (folder / "data").glob("*.parquet")
    table = {name: column.to_pylist() for name, column in zip(*(lambda t: (t.column_names, t.columns))(pyarrow.parquet.read_table(path)))}
    change(table)
    pyarrow.parquet.write_table(pyarrow.table(table), path)


def told_of(folder, facts):
    path = folder / "embedding.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | facts))


HOSTILE_LATENTS = {
    "no facts": lambda folder: (folder / "embedding.json").write_text("{}"),
    "a list of facts": lambda folder: (folder / "embedding.json").write_text("[]"),
    "deep facts": lambda folder: (folder / "embedding.json").write_text("[" * 100_000),
    "no model": lambda folder: told_of(folder, {"model": None}),
    "a model that is not there": lambda folder: told_of(folder, {"model": "/nowhere"}),
    "another model's weights": lambda folder: told_of(folder, {"weights": "0"}),
    "splits of numbers": lambda folder: told_of(folder, {"splits": [1, 2]}),
    "half a table": lambda folder: [path.write_bytes(path.read_bytes()[:200]) for path in (folder / "data").glob("*")],
    "no table": lambda folder: [path.unlink() for path in (folder / "data").glob("*")],
    "no ids": lambda folder: rewritten(folder, lambda table: table.pop("id")),
    "NaN latents": lambda folder: rewritten(folder, lambda table: table["latent"][0].__setitem__(0, float("nan"))),
    "short latents": lambda folder: rewritten(folder, lambda table: table["latent"].__setitem__(0, [1.0])),
    "latents of another size": lambda folder: rewritten(folder, lambda table: table.update(latent=[[1.0, 2.0]] * len(table["id"]))),
    "latents that are words": lambda folder: rewritten(folder, lambda table: table.update(latent=[["a"] * 16] * len(table["id"]))),
    "times that are none": lambda folder: rewritten(folder, lambda table: table.update(start=[None] * len(table["id"]))),
    "times that are NaN": lambda folder: rewritten(folder, lambda table: table.update(end=[float("nan")] * len(table["id"]))),
}


@pytest.mark.parametrize("what", HOSTILE_LATENTS)
def test_a_damaged_folder_of_latents_is_refused_with_its_name(latents, what):
    HOSTILE_LATENTS[what](latents)
    with pytest.raises(ValueError, match=re.escape(str(latents))):
        app.Explorer(latents)


def test_odd_numbers_in_the_explorer_are_brought_into_their_range(latents, tmp_path):
    """-1 showed the last segment without a word; a word was an error."""
    explorer = app.Explorer(latents)
    np.savez(tmp_path / "clip.npz", keypoints=random_signing(40) * 100 + 300, fps=25.0, layout="uniglor73")
    clip, slider, note, held = explorer.read(tmp_path / "clip.npz")
    assert note == "" and held["question"] == ""
    first, last = explorer.nearest(clip, 0, 1), explorer.nearest(clip, len(clip["latents"]) - 1, 1)
    for number in (-1, -1e300, float("-inf"), float("nan"), None, "a", []):
        assert explorer.nearest(clip, number, number) == first
    for number in (1e300, float("inf"), 10**400, 7.5e6):
        assert explorer.nearest(clip, number, 1) == last
    assert len(titles_of(explorer.nearest(clip, 0, 10**9))) == 2 + min(app.MAX_TOP, len(explorer.embedded))


def test_words_of_a_strangers_latents_do_not_break_the_picture(latents, tmp_path):
    rewritten(latents, lambda table: table.update(text=["\0\x1b</svg><script>" + "x" * 10_000] * len(table["id"])))
    explorer = app.Explorer(latents)
    np.savez(tmp_path / "clip.npz", keypoints=random_signing(40) * 100 + 300, fps=25.0, layout="uniglor73")
    titles = titles_of(explorer.nearest(explorer.read(tmp_path / "clip.npz")[0], 0, 5))
    assert all(len(title) <= app.MAX_TITLE and not {"\0", "\x1b"} & set(title) for title in titles)
    player = explorer.nearest(explorer.read_clip(app.waving())[0], 0, 5)
    page = unescape(re.search(r'srcdoc="([^"]*)"', player).group(1))
    assert player.count("<") == 2 and page.count("<script") == 2  # the player's own


# --- Starting ---------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def started(tmp_path, monkeypatch):
    """`app.main` of this process, whose traces are removed."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("GRADIO_TEMP_DIR", "")
    handler = signal.getsignal(signal.SIGTERM)
    yield app.main
    signal.signal(signal.SIGTERM, handler)


def test_a_busy_port_is_one_line(started, tmp_path, capsys, tiny_sign_to_text):
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        tiny_sign_to_text().save_pretrained(tmp_path / "reader")
        capsys.readouterr()
        told = mistake(started, capsys, ["--sign_to_text", str(tmp_path / "reader"), "--server_port", str(port)])
    assert told == f"app.py: port {port} is in use, or may not be opened. Give another one: --server_port PORT\n"


def mistake(started, capsys, argv):
    """What is said on stderr of a start that ends with status 2."""
    with pytest.raises(SystemExit) as ended:
        started(argv)
    assert ended.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    "argv, told",
    [
        (["--latents", "."], "no whole folder of latents"),
        (["--sign_to_text", "outputs/nowhere"], "--sign_to_text 'outputs/nowhere' does not exist"),
        (["--text_to_sign", "."], "--text_to_sign '.' is no checkpoint: it has no config.json"),
        (["--text_to_sign", "reader"], "holds a model of type 'sign_to_text', expected 'text_to_sign'"),
    ],
)
def test_what_cannot_be_loaded_is_one_line(started, capsys, tmp_path, monkeypatch, argv, told):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "reader").mkdir()
    (tmp_path / "reader" / "config.json").write_text('{"model_type": "sign_to_text"}')
    said = mistake(started, capsys, argv)
    assert said.startswith("app.py: ") and told in said and said.count("\n") == 1


@pytest.mark.parametrize("port", ["0", "-1", "70000", "a"])
def test_a_port_that_is_none_is_refused(started, port, capsys):
    with pytest.raises(SystemExit):
        started(["--sign_to_text", "x", "--server_port", port])
    assert "--server_port" in capsys.readouterr().err


# --- Limits -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fps", [1e6, 1e-9, -5, float("nan")])
def test_a_frame_rate_has_limits(clip, fps):
    """1e6 in the field let 170,000 frames pass as a clip of 0.2 s, which were read for 25 s."""
    with pytest.raises(ValueError, match="frames a second=.*expected a number from 1 to 1,000"):
        app.read_clip(clip, fps=fps)


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".zip"])
def test_frames_are_counted_before_a_clip_is_read(tmp_path, monkeypatch, suffix):
    path = tmp_path / f"long{suffix}"
    frames = np.zeros((app.MAX_FRAMES + 1, 5, 2), np.float16)
    if suffix == ".npy":
        np.save(path, frames)
    elif suffix == ".npz":
        np.savez_compressed(path, keypoints=frames, fps=1000.0)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            for number in (0, 9_999, 20_000):
                archive.writestr(f"clip_{number:012}_keypoints.json", "{}")

    def unexpected(*_):
        raise AssertionError("it was read")

    monkeypatch.setattr(app, "read_keypoints", unexpected)
    with pytest.raises(ValueError, match=f"long{suffix}: (10|20),001 frames.*at most 120 s are read, and 10,000 frames"):
        app.read_clip(path)


class CountingExtractor(SquareExtractor):
    def __init__(self):
        super().__init__()
        self.frames = 0

    def __call__(self, image):
        self.frames += 1
        return super().__call__(image)


def test_a_video_that_is_too_long_is_refused_before_a_frame_is_looked_at(tmp_path):
    path, extractor = write_video(tmp_path / "long.mp4", squares([[(100, 40)]] * 40), fps=20), CountingExtractor()
    with pytest.raises(ValueError, match="long.mp4: a video of more than 1 s"):
        extract_video(path, extractor, max_seconds=1)
    assert extractor.frames == 0
    assert len(extract_video(path, extractor, max_seconds=2).keypoints) == 40


def test_a_video_that_does_not_say_its_length_is_refused_when_it_goes_on_too_long(tmp_path):
    """Browsers' recordings carry no duration."""
    with av.open(str(tmp_path / "live.mkv"), "w", format="matroska", options={"live": "1"}) as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        for image in squares([[(100, 40)]] * 60):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    extractor = CountingExtractor()
    with pytest.raises(ValueError, match="of more than 1 s"):
        extract_video(tmp_path / "live.mkv", extractor, max_seconds=1)
    assert 20 <= extractor.frames <= 26


# --- Archives ---------------------------------------------------------------------------------------------------------------------


def test_a_zip_cannot_write_outside_of_its_folder(tmp_path):
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        archive.writestr("../../evil_0_keypoints.json", "{}")
    folder = app.unpacked(tmp_path / "evil.zip")
    assert [path.name for path in folder.iterdir()] == ["evil_0_keypoints.json"]
    assert {path.name for path in tmp_path.parent.iterdir()} & {"evil_0_keypoints.json"} == set()


def test_two_clips_in_one_zip_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        for name in "ab":
            archive.writestr(f"{name}/0_keypoints.json", "{}")
    with pytest.raises(ValueError, match="2 folders of"):
        app.unpacked(tmp_path / "two.zip")


def test_the_limit_holds_for_what_reached_the_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(app, "MAX_BYTES", 2**20)
    (tmp_path / "large.npy").write_bytes(bytes(2**21))
    with pytest.raises(app.RefusedError, match="2 MB, at most 1 MB are read"), app.taken(tmp_path / "large.npy"):
        raise AssertionError("it was read")
    assert not (tmp_path / "large.npy").exists()
    with pytest.raises(app.RefusedError, match="was read and deleted before"), app.taken(tmp_path / "large.npy"):
        raise AssertionError("it was read")
