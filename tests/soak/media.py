"""Hostile and damaged videos through MediaPipe, extraction that is killed, and uploads that fail half way.

Videos are read by processes of their own, which a crash or a hang ends and which are then replaced. Skipped, with a line, where
PyAV or MediaPipe is not installed: pip install -e .[video]. Uploads go to a Hub on the loopback, which fails as it is told.
"""

import collections
import contextlib
import http.server
import importlib.util
import json
import os
import random
import re
import select
import signal
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np

from . import Row

ROOT = Path(__file__).parents[2]
MAX_SECONDS = 120.0  # for one video, on a busy machine
PLAIN_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}


def soak(scale, folder, seed):
    rows = []
    if all(importlib.util.find_spec(name) for name in ("av", "mediapipe")):
        rows += [hostile_videos(scale, folder / "videos", seed), killed_extractions(scale, folder / "extraction", seed)]
    else:
        print("media: PyAV or MediaPipe is not installed, so no video was tried: pip install -e .[video]", file=sys.stderr)
    return [*rows, failing_uploads(scale, folder / "uploads")]


def _counted(what, outcomes, is_bad, asked, note=""):
    """A row of [(case, outcome)]."""
    bad = [f"{case}: {outcome}" for case, outcome in outcomes if is_bad(case, outcome)]
    counts = collections.Counter(re.sub(r":.*| of \d+ frames| [\d.]+$", "", outcome) for _, outcome in outcomes)
    return Row(what, len(outcomes), dict(counts.most_common()), len(bad), asked, note, bad)


# --- Videos ---------------------------------------------------------------------------------------------------------------------------


def hostile_videos(scale, folder, seed):
    folder.mkdir()
    rng = random.Random(seed)
    with _listener() as asked:
        cases = [*by_hand(folder, asked.url, scale), *damaged(folder, rng, round(220 * scale))]
        if scale < 1:
            cases = rng.sample(cases, max(10, round(len(cases) * scale)))
        outcomes = [(path.name, outcome) for path, outcome in zip(cases, read_all(cases))]
        requests = asked.count
    if requests:
        outcomes.append(("requests to a server that a file named", f"network: {requests}"))
    slowest = max(float(outcome.rpartition(" ")[2]) for _, outcome in outcomes if re.search(r" [\d.]+$", outcome))
    return _counted(
        "hostile videos: other exceptions, crashes, hangs, other files or addresses read", outcomes, _is_bad, "0",
        f"slowest {slowest:.0f} s",
    )  # fmt: skip


def _is_bad(name, outcome):
    if outcome.startswith("clip"):
        return name.startswith("reads-")
    return not re.fullmatch(r"no person [\d.]+" if name.startswith("good-") else r"(no person|ValueError) [\d.]+", outcome)


class _listener(contextlib.AbstractContextManager):
    """A server on the loopback that counts who asks."""

    def __enter__(self):
        me = self
        me.count = 0

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                me.count += 1
                self.send_error(404)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def read_all(paths):
    """Yields what came of each: "clip ...", "ValueError ...", another exception, "crash" or "hang"."""
    process = None
    for number, path in enumerate(paths):
        if process is None or process.poll() is not None:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.soak.media", "read"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL, cwd=ROOT, env=os.environ | PLAIN_ENVIRONMENT,
            )  # fmt: skip
        whole = "whole" if number % 25 == 0 else "shared"
        process.stdin.write(f"{whole} {path}\n".encode())
        process.stdin.flush()
        if not select.select([process.stdout], [], [], MAX_SECONDS)[0]:
            process.kill()
            process.wait()
            yield "hang"
            continue
        yield process.stdout.readline().decode().strip() or f"crash: {process.wait()}"
    if process is not None:
        process.stdin.close()
        process.wait()


def _read_worker():
    """Reads the videos named on stdin, each line with "whole" (a path alone) or "shared" (by one extractor for all)."""
    import resource
    import warnings

    from modeling_unigloR.keypoint_readers_uniglor import read_keypoints
    from modeling_unigloR.video_extraction_uniglor import HolisticExtractor, extract_video

    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (12 << 30, 12 << 30))
    answers, extractor = os.fdopen(os.dup(1), "w"), HolisticExtractor()
    os.dup2(2, 1)
    for line in sys.stdin:
        whole, _, path = line.strip().partition(" ")
        start = time.perf_counter()
        try:
            clip = read_keypoints(path) if whole == "whole" else extract_video(path, extractor)
            seen = clip.keypoints[~np.isnan(clip.keypoints).all((1, 2))]
            finite = np.isfinite(seen).all() and np.isfinite(clip.confidence).all() and (clip.fps is None or 1 <= clip.fps <= 1000)
            outcome = f"clip of {len(clip.keypoints)} frames" if finite else "not finite"
        except ValueError as error:
            text = str(error)
            clear = Path(path).name in text and re.search(r"[Ee]xpected|Cut it|Make it", text)
            kind = "no person" if "no person" in text else "ValueError"
            outcome = kind if clear else f"ValueError without file or remedy: {text[:200]}"
        except Exception as error:
            outcome = f"{type(error).__name__}: {str(error)[:200]}"
        print(" ".join(outcome.split()), f"{time.perf_counter() - start:.1f}", file=answers, flush=True)


# --- Videos, made here ----------------------------------------------------------------------------------------------------------------


def images(count=8, height=240, width=240):
    """Frames of a real person where there are any, else of moving stripes."""
    import av

    from ..conftest import REAL_DATA

    path = REAL_DATA / "video" / "hand_raised.mp4"
    if path.exists():
        with av.open(str(path)) as container:
            frames = [frame for frame, _ in zip(container.decode(video=0), range(count))]
            return np.stack([frame.reformat(width, height, "rgb24").to_ndarray() for frame in frames])
    rows, columns = np.mgrid[:height, :width]
    stripes = [(rows + 3 * columns + 9 * number) % 256 for number in range(count)]
    return np.repeat(np.stack(stripes)[..., None], 3, -1).astype(np.uint8)


def write(path, frames, codec="mpeg4", pixels="yuv420p", rate=25, container=None):
    import av

    with av.open(str(path), "w", format=container) as file:
        stream = file.add_stream(codec, rate=rate)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pixels
        for frame in frames:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        file.mux(stream.encode())
    return path


FORMATS = {
    "mpeg4.mp4": {}, "h264.mp4": {"codec": "libx264"}, "mpeg4.mov": {}, "mpeg4.avi": {}, "h264.mkv": {"codec": "libx264"},
    "mjpeg.avi": {"codec": "mjpeg", "pixels": "yuvj420p"}, "vp8.webm": {"codec": "libvpx"},
    "ts.mp4": {"codec": "mpeg2video", "container": "mpegts"},
}  # fmt: skip


def good(folder):
    frames = images()
    return [write(folder / f"good-{name}", frames, **kind) for name, kind in FORMATS.items()]


def damaged(folder, rng, count):
    sources = [path.read_bytes() for path in sorted(folder.glob("good-*"))]
    names = [path.name.removeprefix("good-") for path in sorted(folder.glob("good-*"))]
    for number in range(count):
        content, name = bytearray(sources[number % len(sources)]), names[number % len(names)]
        kind = rng.choice(("cut", "bits", "bits", "zeros", "repeated", "fields", "fields", "tables", "tables"))
        if kind == "cut":
            del content[rng.randrange(len(content)) :]
        elif kind == "bits":
            for _ in range(rng.choice((1, 3, 30, 300))):
                content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        elif kind == "zeros":
            place, size = rng.randrange(len(content)), rng.randrange(1, 5000)
            content[place : place + size] = bytes(len(content[place : place + size]))
        elif kind == "repeated":
            place, size = rng.randrange(len(content)), rng.randrange(1, 5000)
            content[place:place] = content[place : place + size] * rng.randrange(1, 20)
        else:  # numbers of the head, or of the tables at the end, where sizes, rates and durations stand
            for _ in range(rng.randrange(1, 5)):
                place = (
                    rng.randrange(min(1500, len(content) - 4))
                    if kind == "fields"
                    else len(content) - rng.randrange(4, min(1500, len(content)))
                )
                value = rng.choice((0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 0x80000000, 16384, 65535, rng.getrandbits(32)))
                content[place : place + 4] = struct.pack(rng.choice(("<I", ">I")), value)
        path = folder / f"damaged-{number}-{kind}-{name}"
        path.write_bytes(content)
        yield path


def patched(path, source, atom, *fields):
    """A copy of an MP4 whose `atom` has other 32-bit numbers at the given distances from its name."""
    content = bytearray(source)
    place = content.find(atom)
    assert place > 0, atom
    for distance, value in fields:
        content[place + distance : place + distance + 4] = struct.pack(">I", value)
    path.write_bytes(content)
    return path


def by_hand(folder, url, scale):
    """Every kind of file that is no video, or an odd one; those called reads-* name another file or address."""
    yield from good(folder)
    frames = images(count=2, height=64, width=64)
    plain = (folder / "good-mpeg4.mp4").read_bytes()
    for name, content in {
        "empty": b"", "zeros": bytes(5000), "text": b"no video\n" * 50, "json": b'{"people": []}', "archive": b"PK\3\4" + bytes(300),
        "subtitles": b"1\n00:00:01,000 --> 00:00:02,000\nno\n", "html": b"<html><video src='good-mpeg4.mp4'></html>",
        "noise": random.Random(0).randbytes(20_000),
    }.items():  # fmt: skip
        for suffix in (".mp4", ".avi", ".mkv", ".webm"):
            path = folder / f"{name}-{suffix[1:]}{suffix}"
            path.write_bytes(content)
            yield path
    secret = folder / "good-mpeg4.mp4"
    for number, address in enumerate((secret.name, str(secret), secret.as_uri(), f"{url}/a.ts")):
        for name, content in {
            "hls": f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{address}\n#EXT-X-ENDLIST\n",
            "concat": f"ffconcat version 1.0\nfile '{address}'\n",
            "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT1S">'
            '<Period><AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="1">'
            f"<BaseURL>{address}</BaseURL></Representation></AdaptationSet></Period></MPD>",
            "rtsp": f"[Reference]\nRef1={address}\n",
            "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=a\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
        }.items():  # fmt: skip
            for suffix in (".mp4", ".mkv"):
                path = folder / f"reads-{name}-{number}-{suffix[1:]}{suffix}"
                path.write_text(content)
                yield path
    yield _audio(folder / "audio.mp4")
    yield _no_frames(folder / "no-frames.avi")
    for name, distance, value in (
        ("rate-0", 8, 0), ("rate-0-again", 16, 0), ("rate-absurd", 16, 1), ("rate-slow", 16, 0x7FFFFFFF), ("count-absurd", 12, 0x7FFFFFFF),
    ):  # fmt: skip
        yield patched(folder / f"{name}.mp4", plain, b"stts", (distance, value))
    for scale_, duration in ((0, 100), (1, 0x7FFFFFFF), (0xFFFFFFFF, 1), (1, 100_000)):
        yield patched(folder / f"mdhd-{scale_}-{duration}.mp4", plain, b"mdhd", (16, scale_), (20, duration))
        yield patched(folder / f"mvhd-{scale_}-{duration}.mp4", plain, b"mvhd", (16, scale_), (20, duration))
    for width, height in ((0, 0), (1, 1), (16384, 16384), (65535, 65535)):
        yield patched(folder / f"size-{width}-{height}.mp4", plain, b"mp4v", (28, width << 16 | height))
    for table in (b"stsz", b"stsc", b"stco"):
        for value in (0, 0x7FFFFFFF, 0xFFFFFFFF):
            yield patched(folder / f"{table.decode()}-{value}.mp4", plain, table, (8, value))
    yield write(folder / "pixel.mov", frames[:, :1, :1], "png", "rgb24")
    yield write(folder / "thin.mov", np.repeat(frames[:1, :1, :1], 4000, 1), "png", "rgb24")
    yield write(folder / "fast.mkv", frames, rate=5000)
    small, large = (write(folder / f"part-{size}.ts", images(3, size, size), "mpeg2video") for size in (64, 240))
    (folder / "sizes.mp4").write_bytes(small.read_bytes() + large.read_bytes())
    yield folder / "sizes.mp4"
    if scale >= 1:
        yield write(folder / "huge.mov", np.zeros((1, 7000, 7000, 3), np.uint8), "png", "rgb24")
        yield write(folder / "largest.mov", np.zeros((2, 4320, 7680, 3), np.uint8), "png", "rgb24")
    os.mkfifo(folder / "pipe.mp4")
    (folder / "folder.mp4").mkdir()
    (folder / "concat:a").mkdir()
    (folder / "concat:a" / "b|c.mp4").write_bytes(plain)
    for name, target in (("link", secret), ("zero", "/dev/zero"), ("process", "/proc/self/mem"), ("itself-folder", ".")):
        (folder / f"{name}.mp4").symlink_to(target)
    yield from (
        folder / name for name in ("pipe.mp4", "folder.mp4", "concat:a/b|c.mp4", "link.mp4", "zero.mp4", "process.mp4", "itself-folder.mp4")
    )


def _audio(path):
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        for number in range(5):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 16000, 1024 * number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def _no_frames(path):
    import av

    with av.open(str(path), "w") as container:
        container.add_stream("mpeg4", rate=20)
        container.start_encoding()
    return path


# --- The script, killed ---------------------------------------------------------------------------------------------------------------


def killed_extractions(scale, folder, seed):
    """`datasets_scripts.extract` over good and bad videos, killed at some moment and started again: the rows of an undisturbed run."""
    clips, all_ = folder / "clips", folder / "all"
    clips.mkdir(parents=True)
    all_.mkdir()
    rng = random.Random(seed)
    bad = [path for path in by_hand(all_, "http://127.0.0.1:9", 0) if path.parent == all_ and not path.name.startswith(("good-", "link"))]
    bad = rng.sample(bad, 30)
    for path in (*bad, all_ / "good-mpeg4.mp4", all_ / "good-h264.mkv", all_ / "good-vp8.webm"):
        path.rename(clips / f"{path.stem}-{path.suffix[1:]}{path.suffix}")  # ids are names without their ends
    expected, seconds = _extract(clips, folder / "expected")
    outcomes = [("a folder with bad videos", _compare(expected, expected, len(bad)))]
    for number in range(max(1, round(4 * scale))):
        output = folder / f"killed-{number}"
        _extract(clips, output, kill_after=rng.uniform(0.3, 0.95) * seconds)
        again, _ = _extract(clips, output)
        outcomes.append((f"killed {number}", _compare(again, expected, len(bad))))
    return _counted("extraction over bad videos, killed and started again: rows that differ, files left over", outcomes,
                    lambda _, outcome: outcome != "equal", "0", f"{len(bad)} bad videos beside 3 good ones")  # fmt: skip


def _extract(clips, output, kill_after=None):
    """-> {"error", "rows", "facts", "left over"} of a run that ended, and how long it took."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "datasets_scripts.extract", str(clips), "--output_dir", str(output)], cwd=ROOT,
        env=os.environ | PLAIN_ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        _, errors = process.communicate(timeout=kill_after or 600)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.communicate()
        return None, kill_after
    if process.returncode:
        return {"error": errors.decode()[-300:]}, time.perf_counter() - start
    import pyarrow.parquet

    rows = pyarrow.parquet.read_table(output / "data" / "train-00000-of-00001.parquet").to_pydict()
    facts = json.loads((output / "extraction.json").read_text())
    left = sorted(path.name for path in output.rglob("*") if path.name not in ("data", "extraction.json", "train-00000-of-00001.parquet"))
    return {"rows": repr(rows), "ids": rows["id"], "facts": facts, "left over": left}, time.perf_counter() - start


def _compare(run, expected, num_bad):
    if "error" in run:
        return f"ended: {run['error']}"
    if run["left over"]:
        return f"files left over: {run['left over']}"
    if run["rows"] != expected["rows"] or run["facts"] != expected["facts"]:
        return "other rows"
    skipped = run["facts"]["skipped"]
    unexpected = [name for name in skipped if name.startswith("good-") and "no person" not in skipped[name]]
    if unexpected or any(name.startswith("reads-") for name in run["ids"]):
        return f"left out or read by mistake: {unexpected}"
    return "equal" if len(skipped) + len(run["ids"]) == num_bad + 3 else "not all counted"


# --- Uploads --------------------------------------------------------------------------------------------------------------------------

STAGES = {
    "whoami": r"/api/whoami", "create": r"/api/repos/create", "preupload": r"/preupload/", "lfs batch": r"/lfs/objects/batch",
    "lfs put": r"/lfs/[0-9a-f]{64}", "commit": r"/commit/",
}  # fmt: skip
FAILURES = ("500", "closed before the answer", "closed within the answer", "answer lost")


def failing_uploads(scale, folder):
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "tests.soak.media", "upload", str(folder), str(scale)], cwd=ROOT, capture_output=True, text=True,
        env=os.environ | PLAIN_ENVIRONMENT | {"HF_HUB_OFFLINE": "0"}, timeout=1200,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(done.stderr[-3000:])
    outcomes = [tuple(line) for line in json.loads(done.stdout.splitlines()[-1])]
    return _counted("uploads that fail half way, then again: unclear errors, half-published, not completed", outcomes,
                    lambda _, outcome: outcome not in GOOD_UPLOADS, "0")  # fmt: skip


GOOD_UPLOADS = ("clear error, nothing published, complete the second time", "complete the first time", "clear error, already complete")


def _upload_worker(folder, scale):
    """Publishes one checkpoint by `train.publish` and as trainings do by `push_to_hub`, while one kind of request always fails."""
    from ..hub_server import HubServer, _Handler

    class Handler(_Handler):
        stage = failure = None

        def _answer(self):
            if Handler.stage is None or not re.search(STAGES[Handler.stage], self.path):
                return super()._answer()
            if Handler.failure == "answer lost":
                self._send = lambda *_, **__: None
                super()._answer()
            else:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if Handler.failure == "500":
                    return _Handler._json(self, {"error": "Internal Error"}, 500)
                if Handler.failure == "closed within the answer":
                    self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 999\r\n\r\n{")
                    self.wfile.flush()
            self.close_connection = True
            self.connection.close()

        do_GET = do_HEAD = do_POST = do_PUT = _answer

    with HubServer(folder / "hub") as hub:
        hub._http.RequestHandlerClass = type("Failing", (Handler,), {"hub": hub})
        hub._http.handle_error = lambda *_: None  # of connections that are closed here
        os.environ.update(hub.environment(folder / "home"))
        wait = time.sleep
        time.sleep = lambda seconds: wait(min(seconds, 0.01))  # between the Hub library's own attempts
        publish, push = _publishers(folder)
        outcomes = []
        ways = {"train.publish": publish, "push_to_hub": push}
        cases = [(way, stage, failure) for way in ways for stage in STAGES for failure in FAILURES]
        cases = cases if scale >= 1 else random.Random(0).sample(cases, max(4, round(len(cases) * scale)))
        for number, (way, stage, failure) in enumerate(cases):
            name = f"me/name-{number}"
            Handler.stage, Handler.failure = stage, failure
            first = _attempt(ways[way], name)
            Handler.stage = None
            before = _state(hub, name)
            second = _attempt(ways[way], name)
            after = _state(hub, name)
            outcomes.append((f"{way}, {stage}, {failure}", _judge(first, before, second, after)))
        print(json.dumps(outcomes))


def _publishers(folder):
    import torch
    from huggingface_hub.utils import disable_progress_bars

    from modeling_unigloR import KeypointProcessor, SignFeatureExtractionPipeline, SignMAE, SignMAEConfig
    from train.publishing.model_cards import CardFields
    from train.publishing.upload import publish, push

    from ..conftest import TINY

    disable_progress_bars()
    torch.manual_seed(0)
    pipe = SignFeatureExtractionPipeline(model=SignMAE(SignMAEConfig(**TINY)).eval(), feature_extractor=KeypointProcessor(), device="cpu")
    pipe.save_pretrained(folder / "checkpoint")
    card = CardFields(license="cc-by-4.0", training_data=["Corpus A:CC BY 4.0:yes"], sign_language="gsg")
    return lambda name: publish(folder / "checkpoint", name, card), lambda name: push(pipe, name, folder / "checkpoint")


def _attempt(upload, name):
    """None, or the error in words; one that the scripts would show as a traceback is marked."""
    try:
        upload(name)
    except OSError as error:
        return str(error).strip() or "without a message"
    except Exception as error:
        return f"unclear: {type(error).__name__}: {error}"
    return None


def _state(hub, name):
    """ "nothing", "whole", or what is missing of a published model."""
    files = hub.files(name) if ("models", name) in hub.repos else {}
    if not files:
        return "nothing"
    needed = {"model.safetensors", "config.json", "preprocessor_config.json", "modeling_sign_mae.py"}
    return "whole" if needed <= set(files) and len(files["model.safetensors"]) > 1000 else f"half: {sorted(files)}"


def _judge(first, before, second, after):
    if second is not None or after != "whole":
        return f"not completed: {second} {after}"
    if first is None:
        return "complete the first time" if before == "whole" else f"counted as published: {before}"
    if first.startswith("unclear") or first == "without a message":
        return f"unclear error: {first[:200]}"
    if before == "whole":
        return "clear error, already complete"
    return "clear error, nothing published, complete the second time" if before == "nothing" else f"half-published: {before}"


if __name__ == "__main__":
    if sys.argv[1] == "read":
        _read_worker()
    else:
        _upload_worker(Path(sys.argv[2]), float(sys.argv[3]))
