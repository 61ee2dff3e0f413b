"""The app in a process of its own, asked over HTTP by many at once and by people who mean no good; and pipelines, called for long.

Judged are answers (each request gets one, the right one where there is one), resident memory and open files.
"""

import gc
import http.client
import io
import json
import os
import socket
import subprocess
import sys
import time
import uuid
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

import numpy as np
import torch

from modeling_unigloR import KeypointProcessor, SignMAE, SignMAEConfig, SignToText, SignToTextPipeline, TextToSign, TextToSignPipeline
from tests.conftest import TEXTS, TINY, TINY_DECODER, TINY_TEXT, TINY_TEXT_ENCODER, random_signing
from tests.soak import Row
from tests.soak.streams import open_files, resident
from train.data.text_tokenizers import train_tokenizer
from train.train_text_to_sign import TextToSignArguments, make_tokenizer

ROOT = Path(__file__).parents[2]
NUM_PEOPLE = 20
NUM_CALLS = 700
WARM = 50  # calls after which memory is read for the first time
NUM_THREADS, CALLS_OF_EACH = 8, 24
MAX_GROWTH = 30.0  # MB
TIMEOUT = 120.0  # seconds in which a request must be answered


def soak(scale, folder, seed):
    torch.set_num_threads(1)
    reader, signer = make_reader(seed), make_signer(seed)
    rows = []
    with serving(folder, reader, signer) as page:
        for number in range(max(round(3 * scale), 1)):
            rows.append(together(page, [clip(seed)] * NUM_PEOPLE, f"identical uploads at once, round {number + 1}"))
        rows.append(together(page, [clip(seed + number) for number in range(max(int(NUM_PEOPLE * scale), 2))], "different uploads at once"))
        rows.append(hostile_uploads(page, seed))
        rows.append(hostile_texts(page))
        rows.append(host_headers(page))
        rows[-1].examples += ["the server ended"] if page.process.poll() is not None else []
    rows.append(many_calls(reader, signer, max(int(NUM_CALLS * scale), 2 * WARM // 5)))
    rows.append(many_threads(reader, max(int(CALLS_OF_EACH * scale), 2)))
    for row in rows:
        row.bad = len(row.examples)
    return rows


# --- The server -------------------------------------------------------------------------------------------------------------------


class Page:
    """A running app: its `process`, `port`, and requests to it, each of which ends within `TIMEOUT`."""

    def __init__(self, process, port, log):
        self.process, self.port, self.log = process, port, log

    def request(self, method, path, body=None, **headers):
        """-> status, content."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT)) as connection:
            connection.putrequest(method, path, skip_host="Host" in headers)
            if body is not None:
                headers["Content-Length"] = str(len(body))
            for name, value in headers.items():
                if value is not None:
                    connection.putheader(name.replace("_", "-"), value)
            connection.endheaders(body)
            answer = connection.getresponse()
            return answer.status, answer.read()

    def upload(self, name, content):
        """-> the path that the server gives the file."""
        boundary = uuid.uuid4().hex
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
        body = head.encode() + content + f"\r\n--{boundary}--\r\n".encode()
        status, told = self.request("POST", "/gradio_api/upload", body, Content_Type=f"multipart/form-data; boundary={boundary}")
        if status != 200:
            raise RuntimeError(f"upload refused with {status}: {told[:200]!r}")
        return json.loads(told)[0]

    def call(self, api_name, *values):
        """-> what the function answered, or RuntimeError with the error's words."""
        body = json.dumps({"data": values}).encode()
        status, told = self.request("POST", f"/gradio_api/call/{api_name}", body, Content_Type="application/json")
        if status != 200:
            raise RuntimeError(f"refused with {status}: {told[:200]!r}")
        _, events = self.request("GET", f"/gradio_api/call/{api_name}/{quote(json.loads(told)['event_id'])}")
        event, data = events.decode().strip().split("\n\n")[-1].split("\n", 1)
        if event != "event: complete":
            raise RuntimeError(f"{event}: {data[:300]}")
        return json.loads(data.removeprefix("data: "))

    def read(self, name, content, given=("", None, None, None)):
        """Uploads a clip and has it read -> text, note, player, attention."""
        file = {"path": self.upload(name, content), "meta": {"_type": "gradio.FileData"}}
        return self.call("sign_to_text", "reader", file, *given)


@contextmanager
def serving(folder, reader, signer, *argv):
    """Runs app.py with these pipelines' checkpoints; yields its `Page`, and ends it in any case."""
    reader.save_pretrained(folder / "reader")
    signer.save_pretrained(folder / "signer")
    (folder / "temporary").mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    argv = ["--sign_to_text", str(folder / "reader"), "--text_to_sign", str(folder / "signer"), "--server_port", str(port), *argv]
    environment = os.environ | {"TMPDIR": str(folder / "temporary"), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with open(folder / "log.txt", "w") as log:
        process = subprocess.Popen([sys.executable, str(ROOT / "app.py"), *argv], stdout=log, stderr=log, env=environment)
    page = Page(process, port, folder / "log.txt")
    try:
        for _ in range(240):
            if process.poll() is not None:
                raise RuntimeError(page.log.read_text()[-3000:])
            try:
                page.request("GET", "/config")
                break
            except OSError:
                time.sleep(0.5)
        yield page
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()


# --- What is asked of it ----------------------------------------------------------------------------------------------------------


def clip(seed, num_frames=60):
    """A clip as the bytes of an .npz file."""
    file = io.BytesIO()
    np.savez(file, keypoints=random_signing(num_frames, seed) * 100 + 300, fps=25.0, layout="uniglor73")
    return file.getvalue()


def together(page, clips, what):
    """All of them at the same time: each must get the answer that it gets alone."""
    outcomes, examples = {"right": 0}, []

    def alone(content):
        return page.read("clip.npz", content)[:2]

    expected = {content: alone(content) for content in set(clips)}
    with ThreadPoolExecutor(len(clips)) as threads:
        futures = [threads.submit(alone, content) for content in clips]
    for content, future in zip(clips, futures):
        try:
            answer = future.result()
        except Exception as error:
            examples.append(f"{type(error).__name__}: {error}"[:200])
            continue
        if answer == expected[content] and "No answer" not in answer[1]:
            outcomes["right"] += 1
        else:
            examples.append(f"{answer} instead of {expected[content]}"[:200])
    return Row(what, len(clips), outcomes, len(examples), f"{len(clips)} of {len(clips)} answered", "", examples)


def hostile_files(seed, num_flipped):
    """{name: content} of uploads that are broken, too large, or made to cost time."""
    rng = np.random.default_rng(seed)
    good = clip(seed)

    def arrays(compressed=True, **values):
        file = io.BytesIO()
        (np.savez_compressed if compressed else np.savez)(file, **values)
        return file.getvalue()

    def archive(members):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as opened:
            for name, content in members:
                opened.writestr(name, content)
        return file.getvalue()

    def person(shift=0.0):
        return {"pose_keypoints_2d": [float(number) + shift for number in rng.random(75) * 300 + 100]}

    signing = random_signing(10, seed) * 100 + 300
    frame = json.dumps({"people": [person()]})
    files = {
        "empty.npz": b"",
        "half.npz": good[: len(good) // 2],
        "bomb.npz": arrays(keypoints=np.zeros((260, 2**20), np.uint8)),
        "members.npz": arrays(keypoints=signing, layout="uniglor73", **{f"other{number}": np.zeros(2**23) for number in range(3)}),
        "long.npz": arrays(keypoints=np.zeros((170_000, 73, 2), np.float16), fps=1e6, layout="uniglor73"),
        "long.npy": _npy(np.zeros((170_000, 73, 2), np.float16)),
        "header.npy": b"\x93NUMPY\x01\x00\x76\x00"
        + b"{'descr': '<f8', 'fortran_order': False, 'shape': (10**9, 73, 2), }".ljust(117)
        + b"\n",
        "pickled.npy": _npy(np.array([{"a": 1}], object)),
        "infinite.npz": arrays(keypoints=np.full((20, 73, 2), np.inf), layout="uniglor73", fps=25.0),
        "huge.npz": arrays(keypoints=np.where(rng.random((20, 73, 1)) > 0.9, 3e38, signing[:1]), layout="uniglor73", fps=25.0),
        "nobody.npz": arrays(keypoints=np.full((20, 73, 2), np.nan), layout="uniglor73", fps=25.0),
        "slow.npz": arrays(keypoints=signing, fps=1e-9, layout="uniglor73"),
        "fast.npz": arrays(keypoints=signing, fps=1e9, layout="uniglor73"),
        "norate.npz": arrays(keypoints=signing, fps=np.array([]), layout="uniglor73"),
        "layout.npz": arrays(keypoints=signing, layout="../../etc/passwd"),
        "deep.json": b"[" * 200_000,
        "bigints.json": json.dumps({"people": [{"pose_keypoints_2d": [10**400] * 75}]}).encode(),
        "types.json": b'{"people": [{"pose_keypoints_2d": 7}]}',
        "shape.json": b'{"keypoints": [[[1, 2]]], "fps": []}',
        "frames.json": b'[{"frame_id": "a", "instances": null}]',
        "gaps.zip": archive([(f"x_{number * 10_000:012}_keypoints.json", frame) for number in range(60)]),
        "crowd.zip": archive(
            [
                (f"x_{number:012}_keypoints.json", json.dumps({"people": [person(1000 * (15 * number + k)) for k in range(15)]}))
                for number in range(30)
            ]
        ),
        "slip.zip": archive([("../../../tmp/evil_0_keypoints.json", frame)]),
        "many.zip": archive([(f"x_{number}_keypoints.json", "{}") for number in range(11_000)]),
        "nested.zip": archive([("inner.zip", archive([("a_0_keypoints.json", frame)]))]),
        "text.mp4": b"no video",
        "words.skels": b"nan " * 200_000,
        "binary.skels": bytes(range(256)) * 40,
        "header.pose": b"\x00\x00\x80?" + b"\xff" * 200,
        "name'; rm -rf.npz": good,
        "..%2f..%2fclip.npz": good,
        "ü" * 100 + ".npz": good,
    }
    for number in range(num_flipped):  # bytes
        broken = bytearray(good)
        for place in rng.integers(len(broken), size=rng.integers(1, 30)):
            broken[place] = rng.integers(256)
        files[f"flipped{number}.npz"] = bytes(broken)
    return files


def hostile_uploads(page, seed, num_flipped=20):
    outcomes, examples, slowest = {"read": 0, "refused with a reason": 0}, [], (0.0, "")
    for name, content in hostile_files(seed, num_flipped).items():
        start = time.perf_counter()
        try:
            text, note, *_ = page.read(name, content)
        except Exception as error:
            examples.append(f"{name}: {type(error).__name__}: {error}"[:200])
            continue
        slowest = max(slowest, (time.perf_counter() - start, name))
        outcomes["refused with a reason" if "No answer" in note else "read"] += 1
        if "nan" in note.split() or str(page.log.parent) in note:
            examples.append(f"{name}: {note}"[:200])
    for given in (("", 1e6, None, None), ("", 1e-9, None, None), ("", -5, None, None), ("", None, -3, 1e300), ("", 1e308, 5, 5)):
        text, note, *_ = page.read("clip.npz", clip(seed), given)
        outcomes["refused with a reason" if "No answer" in note else "read"] += 1
        if "No answer" not in note:
            examples.append(f"fields {given} were taken")
    for path in ("/etc/passwd", "http://127.0.0.1:1/x.npz", "http://localhost/x.npz", "file:///etc/passwd", str(ROOT / "app.py"), "", "\0"):
        try:
            told = str(page.call("sign_to_text", "reader", {"path": path, "meta": {"_type": "gradio.FileData"}}, "", None, None, None))
            if "No answer" not in told or "root:" in told:
                examples.append(f"path {path!r} was read: {told}"[:200])
        except RuntimeError as error:
            told = str(error)
        outcomes["refused with a reason"] += 1
    good = page.read("clip.npz", clip(seed))
    examples += [] if "No answer" not in good[1] else ["a good clip is no longer read"]
    asked = "every one answered, the page goes on"
    return Row(
        "hostile uploads and fields",
        sum(outcomes.values()),
        outcomes,
        len(examples),
        asked,
        f"slowest {slowest[1]}: {slowest[0]:.1f} s",
        examples,
    )


def hostile_texts(page, every=1):
    outcomes, examples = {"signed": 0, "refused with a reason": 0}, []
    texts = [
        "", "  ", "\n\n", "regen " * 84, "a" * 501, "regen " * 100_000, "<script>alert(1)</script>", "\0", "\x1b[31m", "\ud800", "\u202e",
        "Ω" * 400, "👩‍👩‍👧" * 60, "'; DROP TABLE", "{{7*7}}", "../../etc/passwd", None, 5, [], {},
    ]  # fmt: skip
    for text in texts[::every]:
        try:
            player, note, _ = page.call("text_to_sign", "signer", text)
            outcomes["refused with a reason" if "No answer" in note else "signed"] += 1
            if "<script>alert" in player + note:
                examples.append(f"{text!r} came back as markup")
        except Exception as error:
            if isinstance(text, str) and text != "\ud800":  # no text at all: Gradio says so
                examples.append(f"{text[:50]!r}: {type(error).__name__}: {error}"[:200])
            outcomes["refused with a reason"] += 1
    player, note, _ = page.call("text_to_sign", "signer", TEXTS[0])
    examples += [] if "<iframe" in player else ["a good text is no longer signed"]
    return Row("hostile texts", len(texts[::every]), outcomes, len(examples), "every one answered, the page goes on", "", examples)


def host_headers(page):
    """Names that are not this machine's are answered nowhere: neither the page, nor its files, queue, uploads or sockets."""
    outcomes, examples = {"answered": 0, "refused": 0}, []
    paths = [
        ("GET", "/"), ("GET", "/config"), ("GET", "/gradio_api/info"), ("POST", "/gradio_api/upload"), ("POST", "/gradio_api/queue/join"),
        ("GET", "/gradio_api/queue/data?session_hash=a"), ("POST", "/gradio_api/call/sign_to_text"), ("GET", "/gradio_api/heartbeat/a"),
        ("GET", "/gradio_api/file=/etc/passwd"), ("OPTIONS", "/config"), ("HEAD", "/"),
    ]  # fmt: skip
    foreign = [
        "evil.example",
        "evil.example:7860",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "127.0.0.1@evil.example",
        "",
        "192.0.2.7",
    ]
    for method, path in paths:
        for host in foreign:
            status, _ = page.request(method, path, b"" if method == "POST" else None, Host=host)
            outcomes["refused" if status in (400, 421) else "answered"] += 1
            examples += [] if status in (400, 421) else [f"{method} {path} was answered with {status} for Host {host!r}"]
    for host in foreign:
        status, _ = page.request(
            "GET", "/gradio_api/queue/join", None, Host=host, Connection="Upgrade", Upgrade="websocket", Sec_WebSocket_Version="13",
            Sec_WebSocket_Key="dGhlIHNhbXBsZSBub25jZQ==",
        )  # fmt: skip
        outcomes["refused" if status in (400, 403, 421) else "answered"] += 1
        examples += [] if status in (400, 403, 421) else [f"a websocket was answered with {status} for Host {host!r}"]
    for host in (f"127.0.0.1:{page.port}", f"localhost:{page.port}", "LOCALHOST", "[::1]:80", "localhost."):
        status, content = page.request("GET", "/config", Host=host)
        outcomes["answered" if status == 200 else "refused"] += 1
        examples += [] if status == 200 else [f"Host {host!r} was refused with {status}"]
        if str(page.log.parent).encode() in content:
            examples.append("/config shows the checkpoints' folders")
    return Row("Host headers", sum(outcomes.values()), outcomes, len(examples), "only names of this machine are answered", "", examples)


def _npy(array):
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


# --- Pipelines --------------------------------------------------------------------------------------------------------------------


def many_calls(reader, signer, num_calls):
    """Both directions in turn: memory and open files do not grow."""
    outcomes, examples, measured = {"finite": 0}, [], {}
    warm = min(WARM, num_calls // 2)
    for number in range(num_calls):
        if number % 2:
            answer = signer(TEXTS[number % 3], seam_frames=3)
            finite = np.isfinite(answer["keypoints"]).all()
        else:
            answer = reader({"keypoints": random_signing(20 + number % 50, number) * 100 + 300, "fps": 25.0}, max_new_tokens=10)
            finite = np.isfinite(answer["score"])
        outcomes["finite"] += bool(finite)
        examples += [] if finite else [f"call {number}: not finite"]
        if number + 1 in (warm, num_calls):
            gc.collect()
            measured[number + 1] = resident(), open_files()
    (memory, files), (memory_after, files_after) = measured[warm], measured[num_calls]
    if num_calls >= 10 * WARM and memory_after - memory > MAX_GROWTH:
        examples.append(f"memory grew by {memory_after - memory:.1f} MB")
    if files_after > files:
        examples.append(f"open files grew from {files} to {files_after}")
    note = f"memory {memory:.0f} MB after {warm} calls, {memory_after - memory:+.1f} MB at the end; open files {files}, {files_after}"
    asked = f"all finite; memory < +{MAX_GROWTH:.0f} MB; no more files"
    return Row("pipeline calls, both directions in turn", num_calls, outcomes, len(examples), asked, note, examples)


def many_threads(reader, calls_of_each):
    """Several threads on one pipeline get what one gets."""
    clips = [{"keypoints": random_signing(20 + 7 * number, number) * 100 + 300, "fps": 25.0} for number in range(NUM_THREADS)]

    def call(number):
        return reader(clips[number % len(clips)], max_new_tokens=8, num_beams=2, return_attentions=number % 3 == 0)

    expected = [call(3 * number)["translation_text"] for number in range(len(clips))]
    expected = {3 * number % len(clips): text for number, text in enumerate(expected)}
    scores = {place: reader(clips[place], max_new_tokens=8, num_beams=2)["score"] for place in range(len(clips))}
    outcomes, examples = {"right": 0}, []
    num_calls = NUM_THREADS * calls_of_each
    with ThreadPoolExecutor(NUM_THREADS) as threads:
        futures = [threads.submit(call, number) for number in range(num_calls)]
    for number, future in enumerate(futures):
        place = number % len(clips)
        try:
            answer = future.result()
            # Attentions switch all threads to another kernel for a while, which rounds otherwise.
            right = answer["translation_text"] == expected[place] and abs(answer["score"] - scores[place]) < 1e-4
            outcomes["right"] += right
            examples += [] if right else [f"call {number}: {answer['translation_text']!r} instead of {expected[place]!r}"]
        except Exception as error:
            examples.append(f"call {number}: {type(error).__name__}: {error}"[:200])
    return Row(f"{NUM_THREADS} threads on one pipeline", num_calls, outcomes, len(examples), "0 wrong", "", examples)


def make_reader(seed):
    torch.manual_seed(seed)
    tokenizer = train_tokenizer(TEXTS)
    text_config = TINY_TEXT | {"vocab_size": len(tokenizer)}
    model = SignToText.from_parts(SignMAE(SignMAEConfig(**TINY)).eval(), text_config=text_config).eval()
    return SignToTextPipeline(model=model, tokenizer=tokenizer, feature_extractor=KeypointProcessor(), device="cpu")


def make_signer(seed):
    torch.manual_seed(seed)
    tokenizer = make_tokenizer(TextToSignArguments(), TEXTS)
    fields = TINY_DECODER | {"text_config": TINY_TEXT_ENCODER | {"vocab_size": len(tokenizer)}}
    model = TextToSign.from_parts(SignMAE(SignMAEConfig(**TINY)).eval(), **fields).eval()
    return TextToSignPipeline(model=model, tokenizer=tokenizer, feature_extractor=KeypointProcessor(), device="cpu")
