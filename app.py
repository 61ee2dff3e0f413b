"""A page to try checkpoints on: sign to text, text to sign, and the training segments that are nearest to a clip's.

    pip install -e '.[demo,video]'        # in a checkout
    python app.py                                                     # what `make demo` trained
    python app.py --sign_to_text DIR [DIR ...] --text_to_sign DIR [DIR ...] --latents DIR [--server_port 7860]

Checkpoints are folders or Hub ids, latents what `python -m train.embed` wrote. The page is served on this machine alone
(GRADIO_SERVER_NAME=0.0.0.0 opens it to the network, `--host_name` says under which names) and loads nothing from elsewhere. An upload is
deleted as soon as it is read; its keypoints stay in memory until another takes its place, at most for ten minutes.
"""

# ruff: noqa: E402 (--help and mistakes are answered before the imports that take seconds)

from pathlib import Path

from train.engine.commands import CommandParser

DEMO = Path("outputs/demo")
EXAMPLE_TEXT = "hello"


def parse(argv=None):
    parser = CommandParser(__doc__, prog="app.py")
    parser.add_argument("--sign_to_text", nargs="*", default=_demo("sign-to-text"), metavar="DIR")
    parser.add_argument("--text_to_sign", nargs="*", default=_demo("text-to-sign"), metavar="DIR")
    parser.add_argument("--latents", metavar="DIR", help="a folder that python -m train.embed wrote")
    parser.add_argument("--sign_mae", metavar="DIR", help="the SignMAE that made the latents, where it is no longer where it was")
    parser.add_argument("--example_text", default=EXAMPLE_TEXT, metavar="TEXT", help="what the page offers to sign")
    parser.add_argument("--server_port", type=int)
    parser.add_argument(
        "--host_name", nargs="*", default=[], metavar="NAME", help="names under which browsers may ask for the page, beside localhost"
    )
    arguments = parser.parse_args(argv)
    if arguments.server_port is not None and not 0 < arguments.server_port < 2**16:
        parser.error(f"found --server_port {arguments.server_port}, expected 1 to 65535")
    if not (arguments.sign_to_text or arguments.text_to_sign or arguments.latents):
        parser.error(f"no checkpoint: {DEMO} is not there (make demo). Give --sign_to_text, --text_to_sign or --latents")
    return arguments


def _demo(name):
    return [str(DEMO / name)] if (DEMO / name).is_dir() else []


if __name__ == "__main__":
    parse()  # answers --help and mistakes before the imports that take seconds
    print("Starting the page: importing torch, transformers and gradio ...", flush=True)

import contextlib
import functools
import ipaddress
import json
import os
import re
import signal
import sys
import tempfile
import threading
import time
import zipfile
from dataclasses import replace

import gradio as gr
import gradio.route_utils
import numpy as np
import torch
import yaml
from gradio_client.utils import is_http_url_like
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from transformers import AutoFeatureExtractor, AutoModel
from transformers.utils import cached_file, logging
from transformers.utils.logging import disable_progress_bar

from modeling_unigloR.keypoint_clip_uniglor import KeypointClip
from modeling_unigloR.keypoint_readers_uniglor import VIDEO_SUFFIXES, read_keypoints
from modeling_unigloR.keypoints_uniglor import FINGERS, SOURCE_LAYOUTS, get_layout, point_index
from modeling_unigloR.limits_uniglor import MAX_FPS, MAX_IMAGE_SIDE, MIN_FPS, checked_number, short
from modeling_unigloR.pipelines_uniglor import span_seconds
from modeling_unigloR.rendering_uniglor import attended_words, escape, player_html, to_mp4, to_pose
from modeling_unigloR.video_extraction_uniglor import extract_video
from train.data.clips import weights_hash
from train.embed import EmbeddedSegments, nearest_segments
from train.engine.loading import load_pipeline, read_model_type

logger = logging.get_logger(__name__)

MAX_BYTES = 200 * 2**20  # of an upload, and of what a .zip or .npz holds
MAX_SECONDS = 120  # of a clip
MAX_FRAMES = 10_000  # of a clip, whatever its frame rate
MAX_TEXT = 500  # letters of a text
KEPT_SECONDS = 600  # made files, the explorer's keypoints, and uploads that nobody asked to have read
MAX_KEPT_BYTES = 2**30  # of them all; the oldest go first
MAX_HELD_BYTES = 256 * 2**20  # of uploads that are held in memory
MAX_QUESTIONED_BYTES = 20 * 2**20  # of a file that is read again to find out what it lacks
MAX_SESSIONS = 100  # whose explorer's keypoints are kept; the oldest go first
MAX_TOP = 20  # nearest segments
MAX_CARD_BYTES = 2**20  # of a checkpoint's README.md and report.json
MAX_FRONT_MATTER = 2**16  # letters of the YAML above a README.md
MAX_TOLD = 5000  # letters of what a card says of its training data
MAX_TITLE = 300  # letters above a segment
SEAM_FRAMES = 3
ATTENTION = "#3b8fd9"  # seen on white and on black
TITLE = "UniGloR: sign languages from keypoints"
WARNING = (
    "Research models: what they say or sign is a machine's guess. **This is no interpreter**, and must not stand in for one where a "
    "person relies on being understood."
)
STYLE = """<style>
.gradio-container { max-width: 1280px !important }
#top h1 { font-size: 1.3rem; margin: 0 }
#top p { margin: 2px 0 0 }
.small p { font-size: 0.8rem; opacity: 0.8; margin: 0 }
.question { border-left: 4px solid #d9822b; padding: 6px 10px; font-weight: 600 }
.html-container { padding: 0 !important }
iframe { display: block }
@media (max-width: 640px) {
  .gradio-container .main.app { padding: 8px !important }
  .gradio-container .tabitem { padding: 8px 0 0 !important }
  #top h1 { font-size: 1rem; letter-spacing: -0.01em }
  #top p { font-size: 0.8rem; line-height: 1.3 }
}
</style>"""
# On a phone the answer may be below the screen's edge.
SHOW_ANSWER = "() => { document.getElementById('answer').scrollIntoView({block: 'nearest'}) }"
NOTHING_SAID = "() => ['', '', null, null, null]"  # of a clip: no question, and each of its facts
KINDS = "a video, .pose, .npy, .npz, .json, .skels, or a .zip of OpenPose's JSON files"


def main(argv=None):
    arguments = parse(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # so that the folder goes in any case
    with tempfile.TemporaryDirectory(prefix="uniglor-app-") as folder:
        os.environ["GRADIO_TEMP_DIR"], tempfile.tempdir = (f"{folder}/{name}" for name in ("gradio", "work"))
        os.mkdir(tempfile.tempdir)
        disable_progress_bar()  # of weights that load within a second
        try:
            check_checkpoints(arguments)
            page = build(arguments.sign_to_text, arguments.text_to_sign, arguments.latents, arguments.sign_mae, arguments.example_text)
            serve(page, arguments.server_port, arguments.host_name, Path(folder, "gradio"))
        except ValueError as error:
            print(f"app.py: {error}", file=sys.stderr)
            sys.exit(2)


def check_checkpoints(arguments):
    """Names what is loaded; refuses what is not there or of another kind, before a page is made."""
    for option, task in (("sign_to_text", "sign-to-text"), ("text_to_sign", "text-to-sign")):
        checkpoints = getattr(arguments, option)
        for checkpoint in checkpoints:
            read_model_type(checkpoint, f"--{option}", [option])
        if checkpoints:
            print(f"Loading {checkpoints[0]}", flush=True)
            load(task, checkpoints[0])


def serve(page, port, hosts, folder):
    """Serves the page until the process is ended; `folder` is where Gradio keeps files."""
    try:
        page.launch(
            server_port=port,
            share=False,
            quiet=True,  # its own lines advertise a public link
            prevent_thread_lock=True,
            max_file_size=MAX_BYTES,  # refused while it is sent
            show_error=False,  # what is unexpected stands in the log: it may name folders of this machine
            run_history=False,  # browsers would keep what was read
            ssr_mode=False,
            footer_links=[],
            theme=gr.themes.Base(font=["system-ui", "sans-serif"], font_mono=["monospace"]),  # no fonts from elsewhere
            head=STYLE,  # as it is: Gradio rewrites the selectors of css
            state_session_capacity=MAX_SESSIONS,
            app_kwargs={"middleware": [Middleware(Doorkeeper, hosts=hosts, folder=folder)]},
        )
    except OSError as error:
        if "empty port" not in str(error):
            raise
        port = port or os.environ.get("GRADIO_SERVER_PORT") or "7860 to 7959"
        raise ValueError(f"port {port} is in use, or may not be opened. Give another one: --server_port PORT") from error
    print(f"The page is at {page.local_url} (Ctrl-C ends it).", flush=True)
    page.block_thread()


# --- The door ---------------------------------------------------------------------------------------------------------------------


class Doorkeeper:
    """ASGI middleware: answers requests for this machine's names alone, and keeps what uploads take together within a limit.

    In DNS rebinding, the name of a foreign page is made to lead to this machine. Its requests still carry that name, so they are refused.

    Args:
        app: what is behind it.
        hosts: names that are answered, in addition to those of loopback.
        folder: where Gradio keeps files.
    """

    def __init__(self, app, hosts=(), folder=None):
        opened = os.environ.get("GRADIO_SERVER_NAME", "").strip("[]").lower()
        self.app, self.folder = app, folder
        self.any_address = opened in ("0.0.0.0", "::")  # opened to the network; an address is no name that could lead elsewhere
        self.hosts = {"localhost", "127.0.0.1", "::1", *(host.lower().rstrip(".") for host in hosts)} | ({opened} - {""})
        self.arriving = 0  # bytes of uploads that are being sent

    async def __call__(self, scope, receive, send):
        if scope["type"] not in ("http", "websocket"):
            return await self.app(scope, receive, send)
        hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
        if len(hosts) != 1 or not self.answers(hosts[0]):
            if scope["type"] == "websocket":
                return await send({"type": "websocket.close", "code": 1008})
            return await PlainTextResponse("This page is not served under this name: see app.py --host_name.", 421)(scope, receive, send)
        if scope["type"] == "http" and scope["method"] == "POST" and scope["path"].rstrip("/").endswith("/upload"):
            return await self.upload(scope, receive, send)
        return await self.app(scope, receive, send)

    def answers(self, host):
        """Whether a Host header names this page: a name or an address, and maybe a port."""
        match = re.fullmatch(r"(?:\[([0-9a-f:.]+)\]|([^:\[\]/@\s]+))(?::\d*)?", host.strip().lower())
        if match is None:
            return False
        name = (match.group(1) or match.group(2)).rstrip(".")
        if self.any_address:
            with contextlib.suppress(ValueError):
                return bool(ipaddress.ip_address(name))
        return name in self.hosts

    async def upload(self, scope, receive, send):
        length = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
        size = int(length) if length.isdigit() and len(length) < 20 else MAX_BYTES
        if self.arriving + size > MAX_KEPT_BYTES:
            message = f"Uploads of more than {MAX_KEPT_BYTES >> 20} MB are being sent. Try again in a few minutes."
            return await PlainTextResponse(message, 503)(scope, receive, send)
        self.arriving += size
        try:
            make_room(self.folder, self.arriving)
            await self.app(scope, receive, send)
        finally:
            self.arriving -= size


def make_room(folder, size=0):
    """Deletes files in `folder` that are too old, and the oldest ones until `size` more bytes fit. Those being written are not counted."""
    files = []
    for path in Path(folder).glob("*/*") if folder else ():
        with contextlib.suppress(OSError):  # another thread was faster
            about = path.stat()
            files.append((about.st_mtime, about.st_size, path))
    for path in Path(folder).glob("*") if folder else ():  # what is left of uploads that broke off
        with contextlib.suppress(OSError):
            if path.is_file() and path.stat().st_mtime < time.time() - KEPT_SECONDS:
                path.unlink()
    total = sum(size for _, size, _ in files)
    for modified, number, path in sorted(files):
        if total + size <= MAX_KEPT_BYTES and modified > time.time() - KEPT_SECONDS:
            break
        with contextlib.suppress(OSError):
            path.unlink()
        total -= number


class OwnUpload(gradio.route_utils.GradioUploadFile):
    """An upload that lies in a folder of its own.

    Gradio names the folder after the content alone. Where people sent the same clip at the same time, the file was deleted for all of them
    once the first was answered.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.sha.update(os.urandom(16))


gradio.route_utils.GradioUploadFile = OwnUpload


def only_uploads(component):
    """Refuses addresses: Gradio would load what is there, of any size."""
    move = component.async_move_resource_to_block_cache

    async def checked(path):
        if path is not None and is_http_url_like(str(path)):
            raise gr.Error("Found an address, expected an uploaded file.")
        return await move(path)

    component.async_move_resource_to_block_cache = checked
    return component


# --- The page ---------------------------------------------------------------------------------------------------------------------


def build(sign_to_text=(), text_to_sign=(), latents=None, sign_mae=None, example_text=EXAMPLE_TEXT):
    """The page of these checkpoints (folders or Hub ids) and latents: a `gradio.Blocks` with a tab for each that is given."""
    explorer = Explorer(latents, sign_mae) if latents else None
    example = functools.cache(lambda: example_clip(text_to_sign, example_text))
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(60, KEPT_SECONDS)) as page:
        gr.Markdown(f"# {TITLE}\n{WARNING}", elem_id="top")
        chosen = []
        with gr.Tabs():
            if sign_to_text:
                with gr.Tab("Sign to text"):
                    chosen.append(sign_to_text_tab(sign_to_text, example))
            if text_to_sign:
                with gr.Tab("Text to sign"):
                    chosen.append(text_to_sign_tab(text_to_sign, example_text))
            if explorer:
                with gr.Tab("Explorer"):
                    explorer_tab(explorer, example)
        notice = gr.Markdown()  # at the bottom, so that a notice that comes late moves nothing

        def tell(*checkpoints):
            models = [*checkpoints, *([explorer.checkpoint] if explorer else [])]
            return "\n\n".join(f"**{Path(model).name}** was trained on: {trained_on(model)}" for model in models if model)

        for dropdown in chosen:
            dropdown.change(tell, chosen, notice, api_name=False)
        page.load(tell, chosen, notice, api_name="trained_on")
    return page


def checkpoint_choice(checkpoints):
    """A dropdown that shows names, so that paths of folders stay private, and gives the chosen folder or Hub id."""
    folders = {}
    for folder in map(str, checkpoints):
        name = Path(folder).name if Path(folder).is_dir() else folder
        folders[name if name not in folders else f"{name} ({len(folders) + 1})"] = folder
    names = {folder: name for name, folder in folders.items()}
    dropdown = gr.Dropdown(list(folders), label="Checkpoint")
    check = dropdown.preprocess
    dropdown.preprocess = lambda chosen: folders.get(check(names.get(chosen, chosen) if isinstance(chosen, str) else chosen))
    return dropdown


def sign_to_text_tab(checkpoints, example):
    with gr.Row():
        with gr.Column(scale=2):
            checkpoint = checkpoint_choice(checkpoints)
            with gr.Tabs():
                with gr.Tab("File"):
                    clip = ClipInputs()
                    with gr.Row():
                        read_upload = gr.Button("Translate", variant="primary", size="md", min_width=120)
                        try_example = gr.Button("Try an example", size="md", min_width=120)
                with gr.Tab("Webcam"):
                    camera = only_uploads(
                        gr.Video(
                            sources=["webcam"],
                            label="Record one signer, both hands in the picture",
                            webcam_options=gr.WebcamOptions(mirror=False),
                        )
                    )
                    # What the browser recorded is read as it is: Gradio would convert it first, for which it needs ffmpeg.
                    camera.preprocess = lambda recorded: recorded.path if recorded else None
                    read_camera = gr.Button("Translate", variant="primary", size="md", min_width=120)
        with gr.Column(scale=3, elem_id="answer"):
            text = gr.Textbox(label="Text: a guess", lines=1, max_lines=4, interactive=False)
            note = gr.HTML(padding=False)
            player = gr.HTML(padding=False)
            attention = gr.HTML(padding=False)
    outputs = [text, note, player, attention]
    read = read_upload.click(
        translate, [checkpoint, clip.upload, clip.held, *clip.facts], [*outputs, clip.held], api_name="sign_to_text", concurrency_id="read"
    )
    clip.ask(read).then(None, js=SHOW_ANSWER)
    # A recording does not outlive its reading, so the page does not go on to show it either.
    read_camera.click(
        lambda checkpoint, recorded: translate(checkpoint, recorded)[:-1],
        [checkpoint, camera],
        outputs,
        api_name="sign_to_text_camera",
        concurrency_id="read",
    ).then(lambda: None, None, camera, api_name=False).then(None, js=SHOW_ANSWER)
    try_example.click(
        lambda checkpoint: translate_clip(checkpoint, example()), checkpoint, outputs, api_name=False, concurrency_id="read"
    ).then(None, js=SHOW_ANSWER)
    return checkpoint


def text_to_sign_tab(checkpoints, example_text):
    with gr.Row():
        with gr.Column(scale=2):
            checkpoint = checkpoint_choice(checkpoints)
            text = gr.Textbox(label="Text", lines=2, max_length=MAX_TEXT)
            with gr.Row():
                button = gr.Button("Sign", variant="primary", size="md", min_width=120)
                try_example = gr.Button(f"Try: {example_text}", size="md", min_width=120)
        with gr.Column(scale=3, elem_id="signing"):
            note = gr.HTML(padding=False)
            player = gr.HTML(padding=False)
            files = gr.File(label="Download", file_count="multiple", interactive=False)
    signed = gr.on([button.click, text.submit], sign, [checkpoint, text], [player, note, files], api_name="text_to_sign")
    filled = try_example.click(lambda: example_text, None, text, api_name=False)
    tried = filled.then(sign, [checkpoint, text], [player, note, files], api_name=False)
    for done in (signed, tried):
        done.then(None, js=SHOW_ANSWER.replace("answer", "signing"))
    return checkpoint


def explorer_tab(explorer, example):
    facts = explorer.embedded.facts
    dataset = Path(str(facts["dataset"])).name  # without the path of its folder, which stays private
    gr.Markdown(
        f"Segments of {facts['window_size']} frames that SignMAE takes for alike: the nearest of {len(explorer.embedded):,} segments of "
        f"`{dataset}` ({', '.join(facts['splits'])}), by the cosine of their latents (1 is the same). Theirs are drawn from their latents "
        "alone."
    )
    segments = gr.State(time_to_live=KEPT_SECONDS)
    with gr.Row():
        with gr.Column(scale=1):
            clip = ClipInputs()
            with gr.Row():
                button = gr.Button("Find", variant="primary", size="md", min_width=120)
                try_example = gr.Button("Try an example", size="md", min_width=120)
            segment = gr.Slider(0, 1, 0, step=1, label="Segment", interactive=True)
            top = gr.Slider(1, MAX_TOP, 5, step=1, label="How many")
        with gr.Column(scale=3, elem_id="nearest"):
            note = gr.HTML(padding=False)
            player = gr.HTML(padding=False)
    read = button.click(explorer.read, [clip.upload, clip.held, *clip.facts], [segments, segment, note, clip.held], api_name="read_clip")
    tried = try_example.click(lambda: explorer.read_clip(example()), None, [segments, segment, note], api_name=False)
    for done in (clip.ask(read), tried):
        shown = done.then(explorer.nearest, [segments, segment, top], player, api_name=False)
        shown.then(None, js=SHOW_ANSWER.replace("answer", "nearest"))
    gr.on([segment.release, top.release], explorer.nearest, [segments, segment, top], player, api_name="nearest")


def number_field(label):
    """A field for a number that may stay empty: `gr.Number` shows 0 there."""
    field = gr.Textbox(label=label, max_lines=1, min_width=80)
    field.preprocess = number_of
    return field


def number_of(text):
    if text is None or not str(text).strip():
        return None
    try:
        return float(str(text).strip().replace(",", "."))
    except ValueError as error:
        raise gr.Error(f"Found {short(text)}, expected a number.") from error


class ClipInputs:
    """An upload, what its file may not say, and a question beside it where that is needed.

    Attributes:
        upload: the file's component.
        held: what the session knows of the upload, see `keep`.
        facts: components of layout, fps, width and height.
    """

    def __init__(self):
        self.held = gr.State(time_to_live=KEPT_SECONDS, delete_callback=forget)
        self.upload = only_uploads(gr.File(label="A clip of one signer", height=110))
        gr.Markdown(f"{KINDS[0].upper()}{KINDS[1:]}; at most {MAX_BYTES >> 20} MB and {MAX_SECONDS} s.", elem_classes="small")
        self.question = gr.HTML(visible=False, padding=False)
        with gr.Accordion("What the file does not say", open=False) as self.fold:
            layout = gr.Dropdown(["", *SOURCE_LAYOUTS], value="", label="Layout of the keypoints")
            with gr.Row():
                fps, width, height = map(number_field, ("Frames a second", "Picture's width", "Picture's height"))
        self.facts = [layout, fps, width, height]
        # Another clip: the question and the facts about the one before it are cleared, in the browser. From the server the answer could
        # come after a click on the button that reads the clip, and clear the new clip's question.
        gr.on([self.upload.upload, self.upload.clear], None, None, [self.question, *self.facts], js=NOTHING_SAID)
        self.upload.clear(forget, self.held, api_name=False)

    def ask(self, read):
        """After an event that read the clip: the question, if there is one, with its fields open."""

        def asked(held):
            question = (held or {}).get("question", "")
            alert = f'<div role="alert" class="question">{escape(question)}</div>' if question else ""
            return gr.HTML(alert, visible=bool(question)), gr.Accordion(open=True) if question else gr.skip()

        return read.then(asked, self.held, [self.question, self.fold], api_name=False)


# --- Checkpoints ------------------------------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=4)
def load(task, checkpoint):
    return load_pipeline(task, checkpoint, option=f"--{task.replace('-', '_')}")


@functools.lru_cache(maxsize=32)
def trained_on(checkpoint):
    """What a checkpoint says of its training data: its card's section or data sets, else its report's counts, else "unknown"."""
    description = "unknown."
    if (path := _file_of(checkpoint, "README.md")) is not None:
        try:
            section, names = read_card(path)
        except ValueError as error:
            return f"unknown: its README.md cannot be read ({error})."
        if section:
            return f"\n\n{section}"
        if names:
            description = ", ".join(names) + "."
    if (path := _file_of(checkpoint, "report.json")) is not None:
        try:
            report = json.loads(_text_of(path))
            names, clips, steps = report.get("datasets", []), report.get("num_train_clips", 0), report.get("steps", 0)
            if not (isinstance(names, list) and isinstance(clips, int) and isinstance(steps, int)):
                raise ValueError("datasets, num_train_clips or steps of another kind")
        except (ValueError, AttributeError, RecursionError) as error:
            return f"{description} Its report.json cannot be read ({_plain(str(error))})."
        if names:
            description = _plain(", ".join(map(str, names))) + "."
        if clips:
            description += f" By its report, {clips:,} clips and {steps:,} steps."
    return description


def read_card(path):
    """What the README.md of a checkpoint says of training data: its section, or "", and the names of data sets in its front matter."""
    text = _text_of(path)
    front, body = "", text
    if match := re.match(r"---[ \t]*\r?\n(.*?)^---[ \t]*$", text, re.MULTILINE | re.DOTALL):
        front, body = match.group(1), text[match.end() :]
    if len(front) > MAX_FRONT_MATTER:
        raise ValueError(f"its front matter has {len(front):,} letters, at most {MAX_FRONT_MATTER:,} are read")
    section = re.search(r"^## Training data[ \t]*$(.*?)(?=^## |\Z)", body, re.MULTILINE | re.DOTALL)
    if section and (content := section.group(1).strip()):
        return _plain(content, lines=True), []
    try:
        names = (yaml.load(front, PlainLoader) or {}).get("datasets") or []
    except (yaml.YAMLError, ValueError, AttributeError, RecursionError) as error:
        raise ValueError(f"its front matter is no plain YAML: {_plain(str(error))}") from error
    return "", [_plain(str(name)) for name in ([names] if isinstance(names, str) else names if isinstance(names, list) else [])]


class PlainLoader(yaml.SafeLoader):
    """Reads YAML without aliases, with which a few lines can make billions of values."""

    def compose_node(self, parent, index):
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases are not read")
        return super().compose_node(parent, index)


def _text_of(path):
    path = Path(path)
    if path.stat().st_size > MAX_CARD_BYTES:
        raise ValueError(f"{path.stat().st_size / 2**20:,.1f} MB, at most {MAX_CARD_BYTES >> 20} MB are read")
    return path.read_text(encoding="utf-8")


def _plain(text, lines=False):
    """Text of unknown origin as Markdown that loads no picture from elsewhere; on one line, unless `lines` is true."""
    text = text if len(text) <= MAX_TOLD else f"{text[:MAX_TOLD]} ..."
    text = text if lines else " ".join(text.split())
    return text.replace("![", "[").replace("<", "&lt;")


def _file_of(checkpoint, name):
    return cached_file(
        checkpoint,
        name,
        _raise_exceptions_for_gated_repo=False,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )


# --- Uploads ----------------------------------------------------------------------------------------------------------------------


class RefusedError(Exception):
    """A request that gets no answer; its message says why, as HTML."""

    def __init__(self, message):
        super().__init__(f"<b>No answer.</b> {escape(message)}")


@contextlib.contextmanager
def refusing(folder):
    """Errors of reading a file in `folder` become a `RefusedError`: what is wrong with the file, or that something is."""
    try:
        yield
    except (ValueError, ImportError) as error:
        raise RefusedError(str(error).replace(f"{folder}{os.sep}", "")) from error
    except RefusedError:
        raise
    except Exception as error:
        logger.exception("A clip could not be read")
        raise RefusedError(f"This clip could not be read ({type(error).__name__}).") from error


@contextlib.contextmanager
def taken(upload):
    """The path of an upload in a folder of its own, which is gone afterwards, whatever happened.

    Raises:
        RefusedError: instead of any other error.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / Path(upload).name
        try:
            os.replace(upload, path)
        except FileNotFoundError as error:
            raise RefusedError("This upload was read and deleted before. Choose the file again.") from error
        with contextlib.suppress(OSError):
            os.rmdir(Path(upload).parent)
        with refusing(folder):
            size = path.stat().st_size
            if size > MAX_BYTES:
                raise ValueError(f"{path.name}: {size / 2**20:,.0f} MB, at most {MAX_BYTES >> 20} MB are read. Cut the clip.")
            yield path


class HeldClips:
    """What was uploaded, in memory, so that a question about it is answered without a second upload. The oldest go first.

    For a video the keypoints are held, for other files their bytes.
    """

    def __init__(self):
        self.clips, self.lock = {}, threading.Lock()  # {key: (when, name, content, bytes)}

    def put(self, name, content):
        key = os.urandom(16).hex()
        size = len(content) if isinstance(content, bytes) else content.keypoints.nbytes + content.confidence.nbytes
        with self.lock:
            self.clips[key] = (time.time(), name, content, size)
            held = sum(size for *_, size in self.clips.values())
            for old, (when, *_, freed) in list(self.clips.items()):
                if old == key or (held <= MAX_HELD_BYTES and when > time.time() - KEPT_SECONDS):
                    break
                del self.clips[old]
                held -= freed
        return key

    def get(self, key):
        """-> name and content, or None where it is too old."""
        with self.lock:
            when, name, content, _ = self.clips.get(key, (0.0, "", None, 0))
        return (name, content) if when > time.time() - KEPT_SECONDS else None

    def drop(self, key):
        with self.lock:
            self.clips.pop(key, None)


HELD = HeldClips()


def keep(upload, held):
    """What a session knows of its upload: a dict with the upload's path, and the key of what is held, or why nothing is."""
    if upload is None:
        raise RefusedError(f"Choose a clip first: {KINDS}.")
    if held and held["upload"] == str(upload) and not Path(upload).exists():  # else it was uploaded again: what is read is deleted
        return held
    forget(held)
    try:
        with taken(upload) as path:
            video = path.suffix.lower() in VIDEO_SUFFIXES
            content = replace(extract_video(path, max_seconds=MAX_SECONDS), id=path.name) if video else path.read_bytes()
            return {"upload": str(upload), "key": HELD.put(path.name, content)}
    except RefusedError as refused:
        return {"upload": str(upload), "refused": refused}


def forget(held):
    """Drops what is held of an upload."""
    if held and "key" in held:
        HELD.drop(held["key"])


def read_held(held, *facts):
    """`KeypointClip` of what a session holds; facts are layout, fps, width and height where the file does not say them."""
    if "refused" in held:
        raise held["refused"]
    entry = HELD.get(held["key"])
    if entry is None:
        raise RefusedError(f"Clips are kept for {KEPT_SECONDS // 60} minutes. Choose the file again.")
    name, content = entry
    if not isinstance(content, bytes):
        return content
    with tempfile.TemporaryDirectory() as folder, refusing(folder):
        path = Path(folder) / name
        path.write_bytes(content)
        return replace(read_clip(path, *facts), id=name)


def question_about(held, layout, fps, width, height):
    """What to ask of a clip that could not be read: what would make it readable, or "" where nothing does."""
    entry = HELD.get(held.get("key"))
    if entry is None or len(entry[1]) > MAX_QUESTIONED_BYTES:
        return ""

    def readable(*facts):
        with contextlib.suppress(RefusedError):
            return read_held(held, *facts) is not None

    if not (width and height) and readable(layout, fps, 16, 9):
        return "How large was the picture? The file's coordinates go from 0 to 1. Give its width and height below."
    layouts = [name for name in SOURCE_LAYOUTS if name != layout and readable(name, fps, width or 16, height or 9)]
    if layouts:
        return f"Which layout do its keypoints have? They fit {', '.join(layouts)}. Choose it below."
    return ""


def read_clip(path, layout=None, fps=None, width=None, height=None):
    """`KeypointClip` of a file of any accepted kind; `ValueError` where it is none, too long, or shows nobody."""
    for name, value, least, most in (
        ("frames a second", fps, MIN_FPS, MAX_FPS),
        ("width of the picture", width, 1, MAX_IMAGE_SIDE),
        ("height of the picture", height, 1, MAX_IMAGE_SIDE),
    ):
        if value:
            checked_number(name, value, least, most)
    suffix = path.suffix.lower()
    if suffix in VIDEO_SUFFIXES:
        return extract_video(path, max_seconds=MAX_SECONDS)
    if suffix == ".zip":
        path = unpacked(path)
    elif suffix == ".npz":
        members = check_archive(path)
        with zipfile.ZipFile(path) as archive:
            for member in members[:100]:
                check_length(path.name, array_length(archive.open(member)), fps or MAX_FPS)  # the file may say its rate
    elif suffix == ".npy":
        check_length(path.name, array_length(path), fps)
    clip = read_keypoints(path, layout or None, *(int(size) if size else None for size in (width, height)), fps or None)
    check_length(path.name, len(clip.keypoints), clip.fps)
    return clip


def check_length(name, num_frames, fps=None):
    """Refuses a clip that is too long; before its arrays are made, where its file says how many frames it has."""
    seconds = num_frames / (fps or 25)
    if seconds > MAX_SECONDS or num_frames > MAX_FRAMES:
        raise ValueError(
            f"{name}: {num_frames:,} frames, {seconds:,.0f} s; at most {MAX_SECONDS} s are read, and {MAX_FRAMES:,} frames. Cut the clip."
        )


def array_length(file):
    """Frames of the array in a .npy file, from its header alone; 0 where that is left to the reader to judge."""
    with contextlib.suppress(Exception), open(file, "rb") if isinstance(file, Path) else file as content:
        version = np.lib.format.read_magic(content)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape = read(content)[0]
        return shape[0] if len(shape) > 1 else 0
    return 0


def check_archive(path):
    """The files of an archive, as `zipfile` lists them; refuses what is none, or grows beyond the limit when it is unpacked."""
    try:
        with zipfile.ZipFile(path) as archive:
            inside = [member for member in archive.infolist() if not member.is_dir()]
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise ValueError(f"{path.name}: not a whole archive ({error}).") from error
    size = sum(member.file_size for member in inside)
    if size > MAX_BYTES:
        raise ValueError(f"{path.name}: {size / 2**20:,.0f} MB when unpacked, at most {MAX_BYTES >> 20} MB are read. Cut the clip.")
    return inside


def unpacked(path):
    """The folder of OpenPose's JSON files that a .zip holds; other files stay where they are."""
    inside = [member for member in check_archive(path) if Path(member.filename).name.endswith("_keypoints.json")]
    inside = [member for member in inside if not Path(member.filename).name.startswith(".")]  # what other systems leave beside a file
    folders = {Path(member.filename).parent for member in inside}
    if len(folders) != 1:
        contents = f"{len(folders)} folders of *_keypoints.json" if folders else "no *_keypoints.json"
        raise ValueError(f"{path.name}: {contents} inside, expected the JSON files of one clip, as OpenPose's --write_json writes them.")
    numbers = [int(match.group()) for member in inside if (match := re.search(r"\d{1,18}(?=_keypoints\.json$)", member.filename))]
    check_length(path.name, max(len(inside), max(numbers, default=0) - min(numbers, default=0) + 1), MAX_FPS)
    folder = path.with_suffix("")
    folder.mkdir()
    with zipfile.ZipFile(path) as archive:
        for member in inside:
            (folder / Path(member.filename).name).write_bytes(archive.read(member))  # by its name alone: no way out of the folder
    return folder


# --- What the buttons do ----------------------------------------------------------------------------------------------------------


def read_upload(upload, held, *facts):
    """-> `KeypointClip` or None, a message where there is none, and what the session knows of the upload from now on."""
    try:
        held = keep(upload, held) | {"question": ""}
        clip = read_held(held, *facts)
    except RefusedError as refused:
        question = question_about(held, *facts) if upload is not None and "key" in held else ""
        return None, str(refused), held and held | {"question": question}
    if clip.fps is None:
        held["question"] = "How many frames a second? The file does not say, so the model's own rate was assumed."
    return clip, "", held


def translate(checkpoint, upload, held=None, layout=None, fps=None, width=None, height=None):
    """-> text, a message about it, the player, the picture of the attention, and what the session knows of the upload."""
    clip, message, held = read_upload(upload, held, layout, fps, width, height)
    return (*(translate_clip(checkpoint, clip) if clip is not None else ("", message, "", "")), held)


def translate_clip(checkpoint, clip):
    """-> text, a message about it, the player, the picture of the attention."""
    try:
        if checkpoint is None:
            raise RefusedError("Choose a checkpoint first.")
        pipe = load("sign-to-text", checkpoint)
        with refusing(""):
            processed = pipe.feature_extractor.process(clip)
            answer = pipe(clip, return_attentions=True)
    except RefusedError as refused:
        return "", str(refused), "", ""
    special = pipe.tokenizer.all_special_tokens
    message = (
        f"Mean log-probability of a token: {answer['score']:.2f} (0 is sure; it says nothing of clips unlike those of training). "
        f"Seen in the clip: {parts_seen(processed, pipe.model.config.layout)}."
    )
    player = player_html(processed, words=attended_words(answer["attentions"], special))
    return answer["translation_text"], message, player, attention_svg(answer["attentions"], "s" if clip.fps else "frames", special)


def example_clip(text_to_sign, text):
    """A clip that shows nobody: what a text-to-sign model makes of a text, or without one a figure that waves."""
    if not text_to_sign:
        return waving()
    made = load("text-to-sign", text_to_sign[0])(text, seam_frames=SEAM_FRAMES)
    confidence = made["keypoint_mask"].astype(np.float32)
    return KeypointClip(
        made["keypoints"], confidence, layout=made["layout"], fps=made["fps"], missing="confidence", relative=False, id="example"
    )


def waving(num_frames=50, fps=25.0):
    """A drawn figure that raises its right hand and waves."""
    index = point_index("uniglor73")
    points, seen = np.zeros((num_frames, len(index), 2)), np.zeros((num_frames, len(index)), np.float32)

    def place(name, where):
        points[:, index[name]], seen[:, index[name]] = where, 1

    turn = np.sin(np.arange(num_frames) / fps * 2 * np.pi * 1.5) * 0.35  # radians, three waves in two seconds
    up, across = np.stack([np.sin(turn), -np.cos(turn)], -1), np.stack([np.cos(turn), np.sin(turn)], -1)  # (T, 2)
    body = {"nose": (0, -0.75), "neck": (0, 0), "left_shoulder": (0.5, 0), "right_shoulder": (-0.5, 0), "left_elbow": (0.62, 0.75)}
    for name, where in (body | {"left_wrist": (0.55, 1.4), "right_elbow": (-0.75, 0.55)}).items():
        place(name, where)
    wrist = np.array([-0.75, 0.55]) + 0.7 * up
    place("right_wrist", wrist)
    place("right_hand_root", wrist)
    for number, finger in enumerate(FINGERS):
        side = (2 - number) * 0.05
        for joint in (1, 2, 3, 4):
            reach = 0.1 + 0.06 * joint if finger == "thumb" else 0.2 + 0.07 * joint
            place(f"right_hand_{finger}_{joint}", wrist + reach * up + side * (1 + 0.3 * joint) * across)
    return KeypointClip(points, seen, layout="uniglor73", fps=fps, missing="confidence", relative=False, id="example")


def parts_seen(processed, layout_name):
    """ "body 100 %, face 98 %, ...": in how many frames anything of each part was seen."""
    layout = get_layout(layout_name)
    shares = []
    for part, span in layout.parts.items():
        own = [index for index in range(span.start, span.stop) if layout.names[index] not in layout.copies]
        shares.append(f"{part.replace('_', ' ')} {processed.keypoint_mask[:, own].any(1).mean():.0%}")
    return ", ".join(shares)


def attention_svg(attentions, unit, special_tokens=()):
    """Which part of the clip each token came from: cross-attention of the last layer, mean over heads, time from left to right."""
    rows = [index for index, token in enumerate(attentions["tokens"]) if token not in special_tokens]
    if not rows:
        return ""
    weights = attentions["cross"][-1].mean(0)[rows]  # (L, S)
    left, top, width, row = 90, 8, 560, 20
    height = row * len(weights)
    labels = [
        f'<text x="{left - 6}" y="{top + (place + 0.7) * row:.0f}" text-anchor="end">{escape(attentions["tokens"][index])}</text>'
        for place, index in enumerate(rows)
    ]
    start, end = attentions["seconds"][0, 0], attentions["seconds"][-1, 1]
    for share, anchor in ((0, "start"), (0.5, "middle"), (1, "end")):
        x, y = left + share * width, top + height + 16
        labels.append(f'<text x="{x:.0f}" y="{y}" text-anchor="{anchor}">{start + share * (end - start):.3g} {unit}</text>')
    total = left + width + 10
    return (  # in the page's own colours, light or dark
        "<div><h3>Where each word was read</h3>"
        '<svg xmlns="http://www.w3.org/2000/svg" role="img" width="100%" aria-label="Attention over time: stronger where more was read" '
        f'viewBox="0 0 {total} {top + height + 24}" style="max-width:{total}px"><g font-size="12" fill="currentColor">{"".join(labels)}</g>'
        f"{heat_map(weights, left, top, width, height)}</svg></div>"
    )


def heat_map(weights, left, top, width, height):
    """(rows, columns) -> SVG, a rectangle for each cell; the largest weight of a row is darkest."""
    shade = weights / np.maximum(weights.max(1, keepdims=True), 1e-9)
    cell_width, cell_height = width / weights.shape[1], height / weights.shape[0]
    cells = [
        f'<rect x="{left + column * cell_width:.2f}" y="{top + row * cell_height:.2f}" width="{cell_width:.2f}" height="{cell_height:.2f}" '
        f'fill="{ATTENTION}" fill-opacity="{shade[row, column]:.2f}"/>'
        for row, column in np.argwhere(shade >= 0.02)
    ]
    return "".join(cells) + f'<rect x="{left}" y="{top}" width="{width}" height="{height}" fill="none" stroke="#888888"/>'


def sign(checkpoint, text):
    """-> the player, a message, [.pose, .mp4]; a generator, so that its folder is deleted once the files are handed over."""
    text = text.strip() if isinstance(text, str) else ""
    try:
        if checkpoint is None:
            raise ValueError("Choose a checkpoint first.")
        if not text:
            raise ValueError("Found no text, expected at least one word. Write what is to be signed.")
        if len(text) > MAX_TEXT:
            raise ValueError(f"Found a text of {len(text):,} letters, expected at most {MAX_TEXT}. Cut the text in two.")
        pipe = load("text-to-sign", checkpoint)
        signing = pipe(text, seam_frames=SEAM_FRAMES)
        ids = pipe.tokenizer(text, add_special_tokens=False).input_ids
    except ValueError as error:  # an empty text, or one that is too long
        yield "", str(RefusedError(str(error))), None
        return
    unknown = sum(token == pipe.tokenizer.unk_token_id for token in ids)
    note = f"{len(ids)} tokens, {len(signing['keypoints']) / (signing['fps'] or 25):.1f} s."
    if unknown:
        note += f" <b>{unknown} of {len(ids)} tokens are not in the model's vocabulary</b>: it signs something else for them."
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"signing{suffix}" for suffix in (".pose", ".mp4")]
        to_pose(signing, paths[0])
        to_mp4(signing, paths[1])
        yield player_html(signing, text=text), note, [str(path) for path in paths]


class Explorer:
    """Finds the segments of a `train.embed` folder that are nearest to a clip's.

    Args:
        latents: the folder.
        sign_mae: the checkpoint that made them; by default where the folder says it was.
    """

    def __init__(self, latents, sign_mae=None):
        try:
            self.embedded = EmbeddedSegments(latents)
            facts, num_segments = self.embedded.facts, len(self.embedded)
            missing = {"model", "weights", "window_size", "dataset", "splits"} - facts.keys()
            if missing or not isinstance(facts["model"], str) or not all(isinstance(split, str) for split in facts["splits"]):
                raise ValueError(f"embedding.json without {', '.join(sorted(missing)) or 'a model or splits of words'}")
            columns = self.embedded.ids, self.embedded.starts, self.embedded.ends, self.embedded.texts
            numbers = [*self.embedded.starts, *self.embedded.ends]
            if not all(len(column) == num_segments for column in columns) or not np.isfinite(np.array(numbers, np.float64)).all():
                raise ValueError("columns of other lengths, or times that are no numbers")
            self.embedded.latents = self.embedded.latents.astype(np.float32)
        except (ValueError, KeyError, TypeError, AttributeError, OSError, RecursionError) as error:
            raise ValueError(f"{latents}: no whole folder of latents, as python -m train.embed writes it ({error}).") from error
        self.checkpoint = sign_mae or facts["model"]
        try:
            self.model = AutoModel.from_pretrained(self.checkpoint, trust_remote_code=False).eval()
            self.processor = AutoFeatureExtractor.from_pretrained(self.checkpoint, trust_remote_code=False)
        except OSError as error:
            raise ValueError(f"The SignMAE {self.checkpoint} that made {latents} is not there. Give --sign_mae DIR.") from error
        if getattr(self.model.config, "model_type", None) != "sign_mae" or weights_hash(self.model) != facts["weights"]:
            raise ValueError(f"{latents} was written by another model than {self.checkpoint}. Give --sign_mae, or embed anew.")
        expected = self.model.config.hidden_size
        if self.embedded.latents.shape != (num_segments, expected) or not np.isfinite(self.embedded.latents).all():
            raise ValueError(
                f"{latents}: latents of shape {self.embedded.latents.shape}, expected {num_segments} x {expected} finite numbers."
            )

    def read(self, upload, held=None, *facts):
        """-> what is kept of the clip, the slider over its segments, why there is neither, and what the session knows of the upload."""
        clip, message, held = read_upload(upload, held, *facts)
        return (*(self.read_clip(clip) if clip is not None else (None, gr.Slider(0, 1, 0, step=1), message)), held)

    @torch.no_grad()
    def read_clip(self, clip):
        """-> what is kept of the clip, the slider over its segments, and why there is neither."""
        try:
            with refusing(""):
                clip = self.processor.process(clip)
        except RefusedError as refused:
            return None, gr.Slider(0, 1, 0, step=1), str(refused)
        segments, _ = self.model.segment(torch.from_numpy(clip.keypoints)[None])  # (S, W, K, C)
        latents, mask = self.model.encode(segments).numpy(), clip.keypoint_mask
        first = np.arange(len(latents)) * self.model.config.stride
        frames = np.stack([first, first + self.model.config.window_size], axis=1)
        kept = {
            "segments": [(points.numpy(), mask[np.minimum(np.arange(*span), len(mask) - 1)]) for points, span in zip(segments, frames)],
            "latents": latents,
            "seconds": span_seconds(clip.frame_times, frames),
        }
        return kept, gr.Slider(0, max(len(latents) - 1, 1), 0, step=1), ""

    @torch.no_grad()
    def nearest(self, kept, segment, top):
        """-> a player: the clip's segment, what its latent holds, and the nearest segments, drawn from theirs."""
        if kept is None:
            return ""
        segment, top = whole_number(segment, 0, len(kept["latents"]) - 1), whole_number(top, 1, MAX_TOP)
        query = kept["latents"][segment]
        indices, similarities = nearest_segments(self.embedded.latents, query, top)
        decoded = self.model.decode(torch.from_numpy(np.concatenate([query[None], self.embedded.latents[indices]]))).numpy()
        presence = np.broadcast_to(self.model.keypoint_presence.bool().numpy(), decoded.shape[1:3])
        start, end = kept["seconds"][segment]
        titles = [f"your segment, {start:.2f} to {end:.2f} s", "the same, drawn from its latent"]
        for index, similarity in zip(indices, similarities):
            span = f"{self.embedded.starts[index]:.2f} to {self.embedded.ends[index]:.2f} s"
            title = f"cosine similarity {similarity:.2f}: {self.embedded.ids[index]}, {span}"
            titles.append(" · ".join(filter(None, [title, self.embedded.texts[index]]))[:MAX_TITLE])
        clips = [kept["segments"][segment], *((points, presence) for points in decoded)]
        return player_html(clips, self.processor.fps or 25, self.model.config.layout, titles=titles)


def whole_number(value, least, most):
    """What a slider gave, or anything else that was sent in its place, as an int from `least` to `most`."""
    try:
        return int(min(max(value, least), most))
    except (TypeError, ValueError):  # no number, or NaN
        return least


if __name__ == "__main__":
    main()
