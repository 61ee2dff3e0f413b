"""Videos to clips and rows: decoding, following, refusing; MediaPipe itself where it is installed."""

import json
import multiprocessing
import os
import subprocess
import sys
import time
import types
import warnings

import datasets
import numpy as np
import pytest

from datasets_scripts import commands, extract
from datasets_scripts.commands import num_processors
from datasets_scripts.schema import check_row
from datasets_scripts.whole import scratch_folder
from modeling_unigloR import KeypointProcessor, read_keypoints
from modeling_unigloR.video_extraction_uniglor import HolisticExtractor, RTMPoseExtractor, _frame_rate, extract_video

from .conftest import REAL_DATA

av = pytest.importorskip("av", reason="video needs PyAV: pip install av")


def write_video(path, images, fps=20, rotation=0, codec="mpeg4"):
    """(T, H, W, 3) uint8 as a video."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps)
        stream.height, stream.width = images.shape[1:3]
        stream.pix_fmt = "yuv420p"
        if rotation:
            stream.set_display_rotation(rotation)
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return path


def squares(places, height=120, width=160):
    """A video of black frames with a white square of 20 pixels at each (x, y) of `places`, a list of lists."""
    images = np.zeros((len(places), height, width, 3), np.uint8)
    for image, squares_of_frame in zip(images, places):
        for x, y in squares_of_frame:
            image[y : y + 20, x : x + 20] = 255
    return images


class SquareExtractor:
    """Finds white squares in the left and right half: 133 points within each."""

    layout = "wholebody133"
    num_keypoints, num_channels = 133, 2
    facts = {"extractor": "squares", "version": "1", "layout": layout}

    def __init__(self):
        self.starts = 0

    def start(self):
        self.starts += 1

    def __call__(self, image):
        found = []
        for half in (0, image.shape[1] // 2):
            y, x = np.nonzero(image[:, half : half + image.shape[1] // 2, 0] > 128)
            if len(x):
                spread = np.linspace(-9, 9, 133)
                found.append(np.c_[x.mean() + half + spread, y.mean() + spread])
        return np.array(found, np.float32).reshape(-1, 133, 2), np.full((len(found), 133), 0.8, np.float32)


def test_a_clip_has_the_videos_size_rate_and_time(tmp_path):
    path = write_video(tmp_path / "a.mp4", squares([[(100, 40)], [(104, 40)], [], [(112, 40)]]), fps=20)
    clip = extract_video(path, SquareExtractor())
    assert (clip.width, clip.height, clip.layout) == (160, 120, "wholebody133") and clip.fps == pytest.approx(20)
    assert clip.keypoints.shape == (4, 133, 2) and clip.keypoints.dtype == np.float32
    assert np.isnan(clip.keypoints[2]).all() and not clip.confidence[2].any()
    np.testing.assert_allclose(clip.keypoints[[0, 1, 3], :, 0].mean(1), [109.5, 113.5, 121.5], atol=1.5)


def test_the_person_in_the_middle_is_followed(tmp_path):
    path = write_video(tmp_path / "a.mp4", squares([[(2, 10), (84, 50)]] * 3))
    clip = extract_video(path, SquareExtractor())
    np.testing.assert_allclose(clip.keypoints.mean((0, 1)), (93.5, 59.5), atol=1.5)


def test_a_turned_phone_gives_an_upright_clip(tmp_path):
    """Phones store the picture as the sensor sees it, and a mark how to turn it."""
    turned = np.stack([np.rot90(image, -1) for image in squares([[(100, 20)]] * 2)])
    path = write_video(tmp_path / "a.mp4", turned, rotation=90)
    clip = extract_video(path, SquareExtractor())
    assert (clip.width, clip.height) == (160, 120)
    np.testing.assert_allclose(clip.keypoints.mean((0, 1)), (109.5, 29.5), atol=1.5)


def test_every_video_starts_the_extractor_anew(tmp_path):
    extractor = SquareExtractor()
    for name in ("a.mp4", "b.mp4"):
        extract_video(write_video(tmp_path / name, squares([[(100, 40)]])), extractor)
    assert extractor.starts == 2


def test_frame_rates_come_from_the_frames_where_the_container_is_wrong():
    assert _frame_rate(25, [0, 0.04, 0.08]) == 25
    assert _frame_rate(1000, [0, 0.04, 0.08]) == pytest.approx(25)  # browsers' recordings
    assert _frame_rate(30, [0.0]) == 30 and _frame_rate(None, [0.0]) is None and _frame_rate(30, [None, None]) == 30


def test_videos_that_cannot_be_used_say_why(tmp_path):
    with pytest.raises(ValueError, match="no person in any of its 2 frames"):
        extract_video(write_video(tmp_path / "black.mp4", squares([[], []])), SquareExtractor())
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(ValueError, match="text.mp4: not a video that can be decoded"):
        extract_video(tmp_path / "text.mp4", SquareExtractor())
    (tmp_path / "empty.mp4").write_bytes(b"")
    with pytest.raises(ValueError, match="empty.mp4: not a video that can be decoded"):
        extract_video(tmp_path / "empty.mp4", SquareExtractor())
    with av.open(str(tmp_path / "none.avi"), "w") as container:
        container.add_stream("mpeg4", rate=20)
        container.start_encoding()
    with pytest.raises(ValueError, match="none.avi: a video without frames"):
        extract_video(tmp_path / "none.avi", SquareExtractor())
    with pytest.raises(FileNotFoundError, match="nowhere.mp4 does not exist"):
        extract_video(tmp_path / "nowhere.mp4", SquareExtractor())


def test_only_the_file_itself_is_opened(tmp_path):
    """A list of files is a video to FFmpeg, whatever its name: such a clip.mp4 gave the frames of the file beside it."""
    write_video(tmp_path / "secret.mp4", squares([[(100, 40)]] * 3))
    for name, content in {
        "concat": "ffconcat version 1.0\nfile 'secret.mp4'\n",
        "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nsecret.mp4\n#EXT-X-ENDLIST\n",
        "subtitles": "1\n00:00:01,000 --> 00:00:02,000\ntext\n",
    }.items():
        (tmp_path / f"{name}.mp4").write_text(content)
        with pytest.raises(ValueError, match=f"{name}.mp4: not a video that can be decoded .*Expected MP4, MOV, .*ffmpeg -i FILE clip.mp4"):
            extract_video(tmp_path / f"{name}.mp4", SquareExtractor())


def test_a_name_with_a_colon_is_no_address(tmp_path, monkeypatch):
    (tmp_path / "concat:a").mkdir()
    monkeypatch.chdir(tmp_path)
    path = write_video("plain.mp4", squares([[(100, 40)]]))
    os.rename(path, "concat:a/b|c.mp4")
    assert len(extract_video("concat:a/b|c.mp4", SquareExtractor()).keypoints) == 1


def test_pipes_folders_and_devices_are_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "zero.mp4").symlink_to("/dev/zero")
    for name in ("pipe", "folder", "zero"):
        with pytest.raises(ValueError, match=f"{name}.mp4: no regular file. Expected a video"):
            extract_video(tmp_path / f"{name}.mp4", SquareExtractor())


def test_frames_of_two_sizes_are_refused(tmp_path):
    """Their keypoints would be in pixels of different sizes."""
    parts = [squares([[(10, 10)]] * 2, height, width) for height, width in ((64, 64), (128, 128))]
    content = b"".join(write_video(tmp_path / "part.ts", part, codec="mpeg2video", fps=25).read_bytes() for part in parts)
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(ValueError, match="a.mp4: frame . has 128 x 128 pixels, the first one 64 x 64. Expected one size"):
        extract_video(tmp_path / "a.mp4", SquareExtractor())


@pytest.mark.parametrize(
    "limit, value, message",
    [
        ("MAX_VIDEO_PIXELS", 160 * 120 - 1, "frames of 160 x 120 pixels, expected at most 19,199 pixels. Make it smaller"),
        ("MAX_CLIP_FRAMES", 3, "more than 3 frames, which is the most that is read here. Cut it"),
        ("MAX_CLIP_SECONDS", 0.1, "more than 0.1 s, which is the most that is read here. Cut it"),
    ],
)
def test_large_and_long_videos_are_refused(tmp_path, monkeypatch, limit, value, message):
    monkeypatch.setattr(f"modeling_unigloR.video_extraction_uniglor.{limit}", value)
    with pytest.raises(ValueError, match=f"a.mp4: .*{message}"):
        extract_video(write_video(tmp_path / "a.mp4", squares([[(100, 40)]] * 4)), SquareExtractor())


def test_absurd_frame_rates_are_refused(tmp_path):
    with pytest.raises(ValueError, match="a.mkv: 5000 frames a second, expected 1 to 1000. Give it times of its own"):
        extract_video(write_video(tmp_path / "a.mkv", squares([[(100, 40)]] * 6), fps=5000), SquareExtractor())


def test_what_fails_inside_ffmpeg_is_an_error_of_the_file(tmp_path, monkeypatch):
    path = write_video(tmp_path / "a.mp4", squares([[(100, 40)]]))
    for error in (IndexError("tuple index out of range"), MemoryError(), UnicodeDecodeError("utf-8", b"x", 0, 1, "no text")):

        def fail(*_, error=error, **__):
            raise error

        monkeypatch.setattr(av, "open", fail)
        with pytest.raises(ValueError, match="a.mp4: not a video that can be decoded"):
            extract_video(path, SquareExtractor())


def test_a_video_that_is_cut_off_is_told_of(tmp_path):
    rng = np.random.default_rng(0)
    whole = write_video(tmp_path / "whole.avi", squares([[(100, 40)]] * 40) | rng.integers(0, 100, (40, 120, 160, 3), dtype=np.uint8))
    content = whole.read_bytes()
    (tmp_path / "half.avi").write_bytes(content[: len(content) // 2])
    with pytest.warns(UserWarning, match=r"half.avi: .* were there. It may be cut off"):
        clip = extract_video(tmp_path / "half.avi", SquareExtractor())
    assert 0 < len(clip.keypoints) < 40
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        extract_video(whole, SquareExtractor())


def test_a_missing_mediapipe_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "mediapipe", None)
    with pytest.raises(ImportError, match='pip install "mediapipe==0.10.14" av'):
        HolisticExtractor()
    monkeypatch.setitem(sys.modules, "mediapipe", types.SimpleNamespace(__version__="1.2.2"))
    with pytest.raises(ImportError, match="mediapipe 1.2.2 has no Holistic models inside; 0.10.14 has"):
        HolisticExtractor()


# --- RTMPose ------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def rtmlib(monkeypatch):
    """A stand-in with the calls of rtmlib 0.0.16: boxes of bright places, 133 points in a box, sizes that callers must know."""

    class Model:
        shape, made = None, []

        def __init__(self, path, backend, device):
            print("load", path)
            self.session = types.SimpleNamespace(get_inputs=lambda: [types.SimpleNamespace(shape=["batch", 3, *self.shape])])
            self.model_input_size = None
            self.made.append(self)

    class YOLOX(Model):
        shape = (640, 416)

        def __call__(self, image):
            assert image.flags.c_contiguous and image[..., 0].max() < 128  # BGR: what is red here is in the last channel
            y, x = np.nonzero(image[..., 2] > 128)
            return np.array([[x.min(), y.min(), x.max(), y.max()]]) if len(x) else np.zeros((0, 4))

    class RTMPose(Model):
        shape = (384, 288)

        def __call__(self, image, bboxes):
            points = np.stack([np.linspace(box[:2], box[2:], 133) for box in bboxes])
            scores = np.full(points.shape[:2], 1.3)  # peaks, no probabilities
            scores[:, 0] = -0.1
            return points, scores

    module = types.ModuleType("rtmlib")
    module.YOLOX, module.RTMPose, module.made = YOLOX, RTMPose, Model.made
    Model.made.clear()
    monkeypatch.setitem(sys.modules, "rtmlib", module)
    monkeypatch.setattr("modeling_unigloR.video_extraction_uniglor.version", lambda name: "0.0.16")
    return module


@pytest.fixture
def weights(tmp_path):
    for name in ("yolox.onnx", "rtmw.onnx"):
        (tmp_path / name).write_bytes(name.encode())
    return tmp_path / "yolox.onnx", tmp_path / "rtmw.onnx"


def red(images):
    return images * np.array([1, 0, 0], np.uint8)


def test_rtmpose_models_read_a_video(tmp_path, rtmlib, weights, capsys):
    extractor = RTMPoseExtractor(*weights)
    assert [model.model_input_size for model in rtmlib.made] == [(640, 416), (288, 384)]  # height first, then width first
    clip = extract_video(write_video(tmp_path / "a.mp4", red(squares([[(100, 40)], []]))), extractor)
    assert clip.keypoints.shape == (2, 133, 2) and clip.layout == "wholebody133" and not clip.confidence[1].any()
    assert clip.confidence[0, 0] == 0 and clip.confidence[0, 1] == pytest.approx(1.3)
    assert extractor.facts["version"] == "0.0.16" and set(extractor.facts["models"]) == {"yolox.onnx", "rtmw.onnx"}
    assert capsys.readouterr().out == ""


def test_missing_weights_are_not_downloaded(tmp_path, rtmlib):
    with pytest.raises(FileNotFoundError, match="nowhere.onnx does not exist. Expected an ONNX file"):
        RTMPoseExtractor(tmp_path / "nowhere.onnx", tmp_path / "nowhere.onnx")
    assert not rtmlib.made


# --- The script ---------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def with_squares(monkeypatch):
    monkeypatch.setattr(extract, "HolisticExtractor", SquareExtractor)


def test_the_script_writes_rows_and_how_they_were_made(tmp_path, with_squares, capsys):
    (tmp_path / "clips" / "day").mkdir(parents=True)
    write_video(tmp_path / "clips" / "b.mp4", squares([[(100, 40)]] * 3))
    write_video(tmp_path / "clips" / "day" / "a.avi", squares([[(100, 40)]] * 5), fps=25)
    write_video(tmp_path / "clips" / "nobody.mp4", squares([[]]))
    write_video(tmp_path / "single.mp4", squares([[(100, 40)]] * 2))
    (tmp_path / "clips" / "notes.txt").write_text("no video")
    output = tmp_path / "out"
    facts = extract.main([str(tmp_path / "clips"), str(tmp_path / "single.mp4"), "--output_dir", str(output), "--language", "ase"])
    rows = datasets.load_dataset(str(output), split="train", cache_dir=str(tmp_path / "cache")).with_format("numpy")
    assert list(rows["id"]) == ["b", "day/a", "single"] and [len(row["keypoints"]) for row in rows] == [3, 5, 2]
    first = rows.with_format(None)[0]
    check_row(first)
    assert (first["language"], first["layout"], first["width"], first["fps"]) == ("ase", "wholebody133", 160, 20.0)
    assert json.loads((output / "extraction.json").read_text()) == facts
    assert facts["extractor"] == "squares" and (facts["clips"], facts["frames"]) == (3, 10)
    assert list(facts["skipped"]) == ["nobody"] and "no person" in capsys.readouterr().err
    assert sorted(path.name for path in output.rglob("*")) == ["data", "extraction.json", "train-00000-of-00001.parquet"]


def test_bad_videos_are_left_out_and_counted(tmp_path, with_squares):
    clips = tmp_path / "clips"
    clips.mkdir()
    good = write_video(clips / "good.mp4", squares([[(100, 40)]] * 3)).read_bytes()
    (clips / "cut.mp4").write_bytes(good[: len(good) // 2])
    (clips / "list.mp4").write_text("ffconcat version 1.0\nfile 'good.mp4'\n")
    (clips / "broken.mp4").symlink_to(tmp_path / "nowhere.mp4")
    (clips / "folder.mp4").mkdir()
    os.mkfifo(clips / "pipe.mp4")
    facts = extract.main([str(clips), "--output_dir", str(tmp_path / "out")])
    assert facts["clips"] == 1 and set(facts["skipped"]) == {"broken", "cut", "folder", "list", "pipe"}
    assert all(f"{name}.mp4" in reason for name, reason in facts["skipped"].items())


def opened_of(monkeypatch, log):
    """Lets `extract` note the name of each video that it opens in a file, from any process."""
    read = extract.extract_video

    def note(path, *rest):
        with open(log, "a", encoding="utf-8") as file:
            file.write(f"{path.stem}\n")
        return read(path, *rest)

    monkeypatch.setattr(extract, "extract_video", note)
    return lambda: log.read_text(encoding="utf-8").split() if log.exists() else []


@pytest.fixture
def ten_videos(tmp_path):
    (tmp_path / "clips").mkdir()
    for number in range(10):
        write_video(tmp_path / "clips" / f"clip_{number}.mp4", squares([[(100, 40)]] * (3 + number % 3)))
    (tmp_path / "clips" / "clip_3.mp4").write_text("no video")
    return tmp_path / "clips"


def files_of(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_any_number_of_processes_extracts_the_same_files(tmp_path, ten_videos, with_squares):
    for num_proc in (1, 2):
        name = str(tmp_path / str(num_proc))
        extract.main([str(ten_videos), "--output_dir", name, "--num_proc", str(min(num_proc, num_processors())), "--clips_per_shard", "4"])
    assert files_of(tmp_path / "1") == files_of(tmp_path / "2")
    assert sorted(path.name for path in (tmp_path / "2" / "data").iterdir()) == [f"train-0000{n}-of-00003.parquet" for n in range(3)]
    rows = datasets.load_dataset(str(tmp_path / "2"), split="train", cache_dir=str(tmp_path / "cache"))
    assert rows["id"] == [f"clip_{number}" for number in range(10) if number != 3]
    assert list(json.loads((tmp_path / "2" / "extraction.json").read_text())["skipped"]) == ["clip_3"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no POSIX here")
def test_a_killed_extraction_opens_no_finished_video_again(tmp_path, ten_videos, with_squares, monkeypatch):
    """All was lost: one Parquet file was written at the end. Its workers end with it, so that none reads a video beside its successor."""
    opened, arguments = opened_of(monkeypatch, tmp_path / "log"), [str(ten_videos), "--output_dir"]
    find = SquareExtractor.__call__

    def slow(self, image):
        time.sleep(0.05)
        return find(self, image)

    alive, held = os.pipe()  # the kernel closes `held` when the last process that has it ends
    with monkeypatch.context() as patch:
        patch.setattr(SquareExtractor, "__call__", slow)
        patch.setattr(commands, "num_processors", lambda: 2)
        process = multiprocessing.get_context("fork").Process(
            target=extract.main, args=([*arguments, str(tmp_path / "out"), "--num_proc", "2"],)
        )
        process.start()
    os.close(held)
    waiting, deadline = tmp_path / "out" / ".unfinished", time.monotonic() + 60
    while len(list(waiting.glob("[!.]*"))) < 5 and process.is_alive() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.join()
    os.read(alive, 1)
    os.close(alive)
    finished = [json.loads(path.read_text())["id"] for path in waiting.glob("[!.]*/report.json")]
    assert 5 <= len(finished) < 10 and set(finished) <= set(opened())
    (tmp_path / "log").unlink()
    extract.main([*arguments, str(tmp_path / "out")])
    assert sorted([*finished, *opened()]) == [f"clip_{number}" for number in range(10)]
    extract.main([*arguments, str(tmp_path / "whole")])
    assert files_of(tmp_path / "out") == files_of(tmp_path / "whole")


def killed_before_its_end(arguments, monkeypatch, name):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(extract, name, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        extract.main(arguments)


def test_a_row_that_was_torn_while_it_waited_is_named_and_made_again(tmp_path, ten_videos, with_squares, monkeypatch, capsys):
    """A disk that is full or loses its power can leave a Parquet file without its end."""
    arguments = [str(ten_videos), "--output_dir", str(tmp_path / "out")]
    killed_before_its_end(arguments, monkeypatch, "_make_ready")
    torn = next((tmp_path / "out" / ".unfinished").glob("*/row.parquet"))
    name = json.loads((torn.parent / "report.json").read_text())["id"]
    os.truncate(torn, torn.stat().st_size - 9)
    opened = opened_of(monkeypatch, tmp_path / "log")
    extract.main(arguments)
    assert opened() == [name] and f"{torn} has " in capsys.readouterr().err
    extract.main([str(ten_videos), "--output_dir", str(tmp_path / "whole")])
    assert files_of(tmp_path / "out") == files_of(tmp_path / "whole")


@pytest.mark.parametrize("moved", [(), ("data",), ("data", "extraction.json")])
def test_an_extraction_that_was_killed_while_its_results_moved_is_completed(tmp_path, ten_videos, with_squares, monkeypatch, moved):
    arguments = [str(ten_videos), "--output_dir", str(tmp_path / "out")]
    killed_before_its_end(arguments, monkeypatch, "publish")
    for name in moved:
        (tmp_path / "out" / ".unfinished" / "ready" / name).rename(tmp_path / "out" / name)
    opened = opened_of(monkeypatch, tmp_path / "log")
    assert extract.main(arguments)["clips"] == 9 and opened() == []
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["data", "extraction.json"]


def test_other_options_and_a_video_that_was_replaced_are_read_anew(tmp_path, ten_videos, with_squares, monkeypatch):
    arguments = [str(ten_videos), "--output_dir", str(tmp_path / "out")]
    killed_before_its_end(arguments, monkeypatch, "_make_ready")
    opened = opened_of(monkeypatch, tmp_path / "log")
    write_video(ten_videos / "clip_5.mp4", squares([[(100, 40)]] * 8))
    killed_before_its_end(arguments, monkeypatch, "_make_ready")
    assert opened() == ["clip_5"]
    extract.main([*arguments, "--language", "ase"])
    assert len(opened()) == 11


def test_what_a_killed_run_left_behind_goes_with_the_next(tmp_path, with_squares):
    """A process that was killed deletes nothing; its folder has its number, which no process has any more."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    waiting = tmp_path / "out" / ".unfinished"
    with scratch_folder(waiting / "0123") as mine:
        waiting.joinpath(mine.name.replace(f"-{os.getpid()}-", f"-{ended.pid}-")).mkdir()
    extract.main([str(write_video(tmp_path / "a.mp4", squares([[(100, 40)]]))), "--output_dir", str(tmp_path / "out")])
    assert sorted(path.name for path in (tmp_path / "out").rglob("*")) == ["data", "extraction.json", extract.FILE.name]


def test_more_processes_than_processors_are_refused(tmp_path, ten_videos, capsys):
    message = f"--num_proc 4096: found {num_processors()} processors, expected at most one process for each. Pass --num_proc "
    with pytest.raises(ValueError, match=message):
        extract.main([str(ten_videos), "--output_dir", str(tmp_path / "out"), "--num_proc", "4096"])
    assert not (tmp_path / "out").exists()


def test_a_worker_that_the_system_ends_is_one_line(tmp_path, ten_videos, with_squares, monkeypatch):
    monkeypatch.setattr(SquareExtractor, "__call__", lambda *_: os._exit(9))
    monkeypatch.setattr(commands, "num_processors", lambda: 2)
    with pytest.raises(OSError, match="One of 2 processes was ended from outside, .* Pass a smaller --num_proc"):
        extract.main([str(ten_videos), "--output_dir", str(tmp_path / "out"), "--num_proc", "2"])


def test_old_rows_are_not_replaced_and_a_run_that_fails_leaves_none(tmp_path, with_squares, monkeypatch):
    """A build's train split has the same name of a file, and would have been replaced without a question."""
    video = str(write_video(tmp_path / "a.mp4", squares([[(100, 40)]])))
    output, fresh = tmp_path / "out", tmp_path / "fresh"
    extract.main([video, "--output_dir", str(output)])
    old = (output / extract.FILE).read_bytes()
    calls = SquareExtractor.__call__

    def fail(self, image):
        if self.starts == 2:
            raise RuntimeError("out of luck")
        return calls(self, image)

    monkeypatch.setattr(SquareExtractor, "__call__", fail)
    other = str(write_video(tmp_path / "b.mp4", squares([[(100, 40)]])))
    with pytest.raises(FileExistsError, match="out/data holds rows already. Remove them, or choose another output_dir"):
        extract.main([video, other, "--output_dir", str(output)])
    with pytest.raises(RuntimeError, match="out of luck"):
        extract.main([video, other, "--output_dir", str(fresh)])
    assert (output / extract.FILE).read_bytes() == old and not (fresh / "data").exists()


def test_the_script_says_what_it_cannot_use(tmp_path, with_squares, capsys):
    with pytest.raises(ValueError, match="No video"):
        extract.main([str(tmp_path), "--output_dir", str(tmp_path / "out")])
    video = str(write_video(tmp_path / "a.mp4", squares([[]])))
    with pytest.raises(ValueError, match="None of 1 videos could be used"):
        extract.main([video, "--output_dir", str(tmp_path / "out")])
    with pytest.raises(ValueError, match="would both have the id 'a'"):
        extract.main([video, str(tmp_path), "--output_dir", str(tmp_path / "out")])
    with pytest.raises(SystemExit):
        extract.main([video, "--output_dir", str(tmp_path / "out"), "--extractor", "rtmpose", "--pose", video])
    assert "needs --detector and --pose" in capsys.readouterr().err


# --- MediaPipe itself ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def holistic():
    pytest.importorskip("mediapipe", reason="MediaPipe is not installed: pip install mediapipe==0.10.14")
    return HolisticExtractor()


def test_holistic_finds_nobody_in_a_black_video(tmp_path, holistic, capfd):
    with pytest.raises(ValueError, match="no person in any of its 3 frames"):
        extract_video(write_video(tmp_path / "black.mp4", squares([[], [], []])), holistic)
    assert capfd.readouterr().err == ""  # nothing from C++


@pytest.mark.skipif(not REAL_DATA.exists(), reason="real videos are not here: set UNIGLOR_DATA to their folder")
@pytest.mark.parametrize("name, num_frames, hands", [("autsl_signer0_sample1000", 43, (36, 43)), ("hand_raised", 58, (0, 20))])
def test_holistic_reads_the_real_videos(holistic, name, num_frames, hands):
    path = REAL_DATA / "video" / f"{name}.mp4"
    clip = extract_video(path, holistic)
    parts = {"body": slice(33), "face": slice(33, 501), "left": slice(501, 522), "right": slice(522, 543)}
    found = {part: int((clip.confidence[:, points] > 0).any(1).sum()) for part, points in parts.items()}
    assert clip.keypoints.shape == (num_frames, 543, 3) and found["body"] == found["face"] == num_frames
    assert abs(found["left"] - hands[0]) <= 3 and abs(found["right"] - hands[1]) <= 3  # the version's own counts, on another machine
    assert clip.fps == pytest.approx(30, abs=0.1)
    shoulders = np.median(clip.keypoints[:, [12, 11], 0], axis=0)
    assert 0 < shoulders[0] < shoulders[1] < clip.width
    processed = KeypointProcessor().process(clip)
    assert processed.keypoint_mask[:, :8].all() and not processed.hands_swapped
    again = read_keypoints(path)  # from a path alone, and the same twice
    np.testing.assert_array_equal(np.nan_to_num(again.keypoints), np.nan_to_num(clip.keypoints))
