"""A page to try checkpoints on: sign to text, text to sign, and the training segments that are nearest to a clip's.

    pip install "uniglor[demo,video]"
    python app.py                                                     # what `make demo` trained
    python app.py --sign_to_text DIR [DIR ...] --text_to_sign DIR [DIR ...] --latents DIR [--server_port 7860]

Checkpoints are folders or Hub ids, latents what `python -m train.embed` wrote. The page is served on this machine alone
(GRADIO_SERVER_NAME=0.0.0.0 opens it to the network) and loads nothing from elsewhere. An upload is deleted as soon as it is read;
of a clip in the explorer, its keypoints stay in memory for ten minutes.
"""

import argparse
import contextlib
import functools
import json
import os
import re
import signal
import sys
import tempfile
import zipfile
from html import escape
from pathlib import Path

import gradio as gr
import numpy as np
import torch
from huggingface_hub import ModelCard
from transformers import AutoFeatureExtractor, AutoModel, pipeline
from transformers.utils import cached_file, logging

from modeling_unigloR.keypoint_readers_uniglor import VIDEO_SUFFIXES, read_keypoints
from modeling_unigloR.keypoints_uniglor import SOURCE_LAYOUTS, get_layout
from modeling_unigloR.pipelines_uniglor import span_seconds
from modeling_unigloR.rendering_uniglor import player_html, to_mp4, to_pose, to_svg
from modeling_unigloR.video_extraction_uniglor import extract_video
from train.clips import _weights_hash
from train.draw_attention import heat_map
from train.embed import EmbeddedSegments, nearest_segments

logger = logging.get_logger(__name__)

MAX_BYTES = 200 * 2**20  # of an upload, and of what a .zip or .npz holds
MAX_SECONDS = 120  # of a clip
MAX_TEXT = 500  # letters of a text
KEPT_SECONDS = 600  # made files, the explorer's keypoints, and uploads that nobody asked to have read
SEAM_FRAMES = 3
DEMO = Path("outputs/demo")
TITLE = "UniGloR: sign languages from keypoints"
WARNING = (
    "Research models: what they say or sign is a machine's guess. **This is no interpreter**, and must not stand in for one where a "
    "person relies on being understood."
)
KINDS = "a video, .pose, .npy, .npz, .json, .skels, or a .zip of OpenPose's JSON files"


def parse(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sign_to_text", nargs="*", default=_demo("sign-to-text"), metavar="DIR")
    parser.add_argument("--text_to_sign", nargs="*", default=_demo("text-to-sign"), metavar="DIR")
    parser.add_argument("--latents", metavar="DIR", help="a folder that python -m train.embed wrote")
    parser.add_argument("--sign_mae", metavar="DIR", help="the SignMAE that made the latents, where it is no longer where it was")
    parser.add_argument("--server_port", type=int)
    arguments = parser.parse_args(argv)
    if not (arguments.sign_to_text or arguments.text_to_sign or arguments.latents):
        parser.error(f"no checkpoint: {DEMO} is not there (make demo). Give --sign_to_text, --text_to_sign or --latents")
    return arguments


def _demo(name):
    return [str(DEMO / name)] if (DEMO / name).is_dir() else []


def main(argv=None):
    arguments = parse(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # so that the folder goes in any case
    with tempfile.TemporaryDirectory(prefix="uniglor-app-") as folder:
        os.environ["GRADIO_TEMP_DIR"], tempfile.tempdir = (f"{folder}/{name}" for name in ("gradio", "work"))
        os.mkdir(tempfile.tempdir)
        page = build(arguments.sign_to_text, arguments.text_to_sign, arguments.latents, arguments.sign_mae)
        page.launch(
            server_port=arguments.server_port,
            share=False,
            max_file_size=MAX_BYTES,  # refused while it is sent
            show_error=True,
            run_history=False,  # browsers would keep what was read
            ssr_mode=False,
            footer_links=[],
            theme=gr.themes.Base(font=["system-ui", "sans-serif"], font_mono=["monospace"]),  # no fonts from elsewhere
        )


# --- The page ---------------------------------------------------------------------------------------------------------------------


def build(sign_to_text=(), text_to_sign=(), latents=None, sign_mae=None):
    """The page of these checkpoints (folders or Hub ids) and latents: a `gradio.Blocks` with a tab for each that is given."""
    explorer = Explorer(latents, sign_mae) if latents else None
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(60, KEPT_SECONDS)) as page:
        gr.Markdown(f"# {TITLE}\n{WARNING}")
        notice = gr.Markdown()
        chosen = []
        with gr.Tabs():
            if sign_to_text:
                with gr.Tab("Sign to text"):
                    chosen.append(sign_to_text_tab(sign_to_text))
            if text_to_sign:
                with gr.Tab("Text to sign"):
                    chosen.append(text_to_sign_tab(text_to_sign))
            if explorer:
                with gr.Tab("Explorer"):
                    explorer_tab(explorer)

        def tell(*checkpoints):
            models = [*checkpoints, *([explorer.checkpoint] if explorer else [])]
            return "\n\n".join(f"**{Path(model).name}** was trained on: {trained_on(model)}" for model in models)

        for dropdown in chosen:
            dropdown.change(tell, chosen, notice, api_name=False)
        page.load(tell, chosen, notice, api_name="trained_on")
    return page


def sign_to_text_tab(checkpoints):
    with gr.Row():
        with gr.Column(scale=2):
            checkpoint = gr.Dropdown(list(checkpoints), label="Checkpoint")
            with gr.Tabs():
                with gr.Tab("File"):
                    upload, facts = clip_inputs()
                    read_upload = gr.Button("Translate", variant="primary")
                with gr.Tab("Webcam"):
                    camera = gr.Video(
                        sources=["webcam"],
                        label="Record one signer, both hands in the picture",
                        webcam_options=gr.WebcamOptions(mirror=False),
                    )
                    # What the browser recorded is read as it is: Gradio would convert it first, for which it needs ffmpeg.
                    camera.preprocess = lambda recorded: recorded.path if recorded else None
                    read_camera = gr.Button("Translate", variant="primary")
        with gr.Column(scale=3):
            text = gr.Textbox(label="Text: a guess", lines=2, interactive=False)
            note = gr.HTML(padding=False)
            player = gr.HTML(label="What the model saw", padding=False)
            attention = gr.HTML(label="Attention", padding=False)
    outputs = [text, note, player, attention]
    # Uploads do not outlive their reading, so the page does not go on to show them either.
    read_upload.click(translate, [checkpoint, upload, *facts], outputs, api_name="sign_to_text").then(
        lambda: None, None, upload, api_name=False
    )
    read_camera.click(translate, [checkpoint, camera], outputs, api_name="sign_to_text_camera").then(
        lambda: None, None, camera, api_name=False
    )
    return checkpoint


def text_to_sign_tab(checkpoints):
    with gr.Row():
        with gr.Column(scale=2):
            checkpoint = gr.Dropdown(list(checkpoints), label="Checkpoint")
            text = gr.Textbox(label="Text", lines=2, max_length=MAX_TEXT)
            button = gr.Button("Sign", variant="primary")
        with gr.Column(scale=3):
            player = gr.HTML(label="Signing", padding=False)
            note = gr.HTML(padding=False)
            files = gr.File(label="Download", file_count="multiple", interactive=False)
    gr.on([button.click, text.submit], sign, [checkpoint, text], [player, note, files], api_name="text_to_sign")
    return checkpoint


def explorer_tab(explorer):
    facts = explorer.embedded.facts
    gr.Markdown(
        f"Segments of {facts['window_size']} frames that SignMAE takes for alike: the nearest of {len(explorer.embedded):,} segments of "
        f"`{facts['dataset']}` ({', '.join(facts['splits'])}), by the cosine of their latents. Theirs are drawn from their latents alone."
    )
    clip = gr.State(time_to_live=KEPT_SECONDS)
    with gr.Row():
        with gr.Column(scale=1):
            upload, given = clip_inputs()
            button = gr.Button("Read", variant="primary")
            segment = gr.Slider(0, 1, 0, step=1, label="Segment", interactive=True)
            top = gr.Slider(1, 20, 5, step=1, label="How many")
        with gr.Column(scale=2):
            note = gr.HTML(padding=False)
            strips = gr.HTML(label="Nearest segments", padding=False)
    read = button.click(explorer.read, [upload, *given], [clip, segment, note], api_name="read_clip")
    read.then(lambda: None, None, upload, api_name=False)
    read.then(explorer.nearest, [clip, segment, top], strips, api_name=False)
    gr.on([segment.release, top.release], explorer.nearest, [clip, segment, top], strips, api_name="nearest")


def clip_inputs():
    """An upload, and what its file may not say: layout, fps, width, height."""
    gr.Markdown(f"{KINDS[0].upper()}{KINDS[1:]}; at most {MAX_BYTES >> 20} MB and {MAX_SECONDS} s.")
    upload = gr.File(label="A clip of one signer", height=150)
    with gr.Accordion("What the file does not say", open=False):
        layout = gr.Dropdown(["", *SOURCE_LAYOUTS], value="", label="Layout of the keypoints")
        fps, width, height = (gr.Number(label=label) for label in ("Frames a second", "Width of the picture", "Height of the picture"))
    return upload, [layout, fps, width, height]


# --- Checkpoints ------------------------------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=4)
def load(task, checkpoint):
    return pipeline(task, model=checkpoint)


@functools.lru_cache(maxsize=32)
def trained_on(checkpoint):
    """What a checkpoint says of its training data: its card's section or data sets, else its report's counts, else "unknown"."""
    told = "unknown."
    if (path := _file_of(checkpoint, "README.md")) is not None:
        card = ModelCard.load(path, ignore_metadata_errors=True)
        section = re.search(r"^## Training data\s*\n(.*?)(?=^## |\Z)", card.text, re.MULTILINE | re.DOTALL)
        if section and section.group(1).strip():
            return "\n\n" + section.group(1).strip()
        if card.data.datasets:
            told = ", ".join(map(str, card.data.datasets)) + "."
    if (path := _file_of(checkpoint, "report.json")) is not None:
        report = json.loads(Path(path).read_text(encoding="utf-8"))
        if "datasets" in report:
            told = ", ".join(report["datasets"]) + "."
        if clips := report.get("num_train_clips"):
            told += f" By its report, {clips:,} clips and {report.get('steps', 0):,} steps."
    return told


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
    """What stands in the place of an answer, as HTML."""

    def __init__(self, message):
        super().__init__(f"<b>No answer.</b> {escape(message)}")


@contextlib.contextmanager
def taken(upload):
    """The path of an upload in a folder of its own, which is gone afterwards, whatever happened.

    Raises:
        RefusedError: instead of any other error: what is wrong with the upload, or that something is.
    """
    if upload is None:
        raise RefusedError(f"Choose a clip first: {KINDS}.")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / Path(upload).name
        try:
            os.replace(upload, path)
        except FileNotFoundError as error:
            raise RefusedError("This upload was read and deleted before. Choose the file again.") from error
        with contextlib.suppress(OSError):
            os.rmdir(Path(upload).parent)
        try:
            size = path.stat().st_size
            if size > MAX_BYTES:
                raise ValueError(f"{path.name}: {size / 2**20:,.0f} MB, at most {MAX_BYTES >> 20} MB are read. Cut the clip.")
            yield path
        except (ValueError, ImportError) as error:
            raise RefusedError(str(error).replace(f"{folder}{os.sep}", "")) from error
        except Exception as error:
            logger.exception("A clip could not be read")
            raise RefusedError(f"This clip could not be read ({type(error).__name__}).") from error


def read_clip(path, layout=None, fps=None, width=None, height=None):
    """`KeypointClip` of a file of any accepted kind; `ValueError` where it is none, too long, or shows nobody."""
    suffix = path.suffix.lower()
    if suffix in VIDEO_SUFFIXES:
        return extract_video(path, max_seconds=MAX_SECONDS)
    if suffix == ".zip":
        path = unpacked(path)
    elif suffix == ".npz":
        check_archive(path)
    clip = read_keypoints(path, layout or None, *(int(size) if size else None for size in (width, height)), fps or None)
    seconds = len(clip.keypoints) / (clip.fps or 25)
    if seconds > MAX_SECONDS:
        raise ValueError(f"{path.name}: {len(clip.keypoints):,} frames, {seconds:,.0f} s; at most {MAX_SECONDS} s are read. Cut the clip.")
    return clip


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
        found = f"{len(folders)} folders of *_keypoints.json" if folders else "no *_keypoints.json"
        raise ValueError(f"{path.name}: {found} inside, expected the JSON files of one clip, as OpenPose's --write_json writes them.")
    folder = path.with_suffix("")
    folder.mkdir()
    with zipfile.ZipFile(path) as archive:
        for member in inside:
            (folder / Path(member.filename).name).write_bytes(archive.read(member))  # by its name alone: no way out of the folder
    return folder


# --- What the buttons do ----------------------------------------------------------------------------------------------------------


def translate(checkpoint, upload, layout=None, fps=None, width=None, height=None):
    """-> text, what is to be said of it, the player, the picture of the attention."""
    pipe = load("sign-to-text", checkpoint)
    try:
        with taken(upload) as path:
            clip = read_clip(path, layout, fps, width, height)
            processed = pipe.feature_extractor.process(**vars(clip), name=path.name)
            answer = pipe(clip, return_attentions=True)
    except RefusedError as refused:
        return "", str(refused), "", ""
    attentions = answer["attentions"]
    said = (
        f"Mean log-probability of a token: {answer['score']:.2f} (0 is sure; it says nothing of clips unlike those of training). "
        f"Seen in the clip: {parts_seen(processed, pipe.model.config.layout)}."
    )
    player = player_html(
        (processed.keypoints, processed.keypoint_mask), pipe.feature_extractor.fps or clip.fps or 25, pipe.model.config.layout
    )
    return answer["translation_text"], said, player, attention_svg(attentions, "s" if clip.fps else "frames")


def parts_seen(processed, layout_name):
    """ "body 100 %, face 98 %, ...": in how many frames anything of each part was seen."""
    layout = get_layout(layout_name)
    shares = []
    for part, span in layout.parts.items():
        own = [index for index in range(span.start, span.stop) if layout.names[index] not in layout.copies]
        shares.append(f"{part.replace('_', ' ')} {processed.keypoint_mask[:, own].any(1).mean():.0%}")
    return ", ".join(shares)


def attention_svg(attentions, unit):
    """Which part of the clip each token came from: cross-attention of the last layer, mean over heads, time from left to right."""
    weights = attentions["cross"][-1].mean(0)  # (L, S)
    left, top, width, row = 90, 24, 560, 20
    height = row * len(weights)
    labels = [
        f'<text x="{left - 6}" y="{top + (index + 0.7) * row:.0f}" text-anchor="end">{escape(token)}</text>'
        for index, token in enumerate(attentions["tokens"])
    ]
    start, end = attentions["seconds"][0, 0], attentions["seconds"][-1, 1]
    for share, anchor in ((0, "start"), (0.5, "middle"), (1, "end")):
        x, y = left + share * width, top + height + 16
        labels.append(f'<text x="{x:.0f}" y="{y}" text-anchor="{anchor}">{start + share * (end - start):.3g} {unit}</text>')
    total = left + width + 10
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="Attention over time" width="100%" '
        f'viewBox="0 0 {total} {top + height + 24}" style="max-width:{total}px"><rect width="100%" height="100%" fill="#ffffff"/>'
        '<g font-family="sans-serif" font-size="12" fill="#222222">'
        f'<text x="{left}" y="14">Where each token was read: the darker, the more attention</text>{"".join(labels)}</g>'
        f"{heat_map(weights, left, top, width, height)}</svg>"
    )


def sign(checkpoint, text):
    """-> the player, what is to be said, [.pose, .mp4]; a generator, so that its folder goes once the files are handed over."""
    pipe = load("text-to-sign", checkpoint)
    text = (text or "").strip()
    ids = pipe.tokenizer(text, add_special_tokens=False).input_ids
    try:
        signing = pipe(text, seam_frames=SEAM_FRAMES)
    except ValueError as error:  # an empty text, or one that is too long
        yield "", str(RefusedError(str(error))), None
        return
    unknown = sum(token == pipe.tokenizer.unk_token_id for token in ids)
    clip = signing["keypoints"], signing["keypoint_mask"]
    drawn = {"fps": signing["fps"] or 25, "layout": signing["layout"]}
    note = f"{len(ids)} tokens, {len(clip[0]) / drawn['fps']:.1f} s."
    if unknown:
        note += f" <b>{unknown} of {len(ids)} tokens are not in the model's vocabulary</b>: it signs something else for them."
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"signing{suffix}" for suffix in (".pose", ".mp4")]
        to_pose(clip, paths[0], **drawn)
        to_mp4(clip, paths[1], **drawn)
        yield player_html(clip, **drawn, text=text), note, [str(path) for path in paths]


class Explorer:
    """Finds the segments of a `train.embed` folder that are nearest to a clip's.

    Args:
        latents: the folder.
        sign_mae: the checkpoint that made them; by default where the folder says it was.
    """

    def __init__(self, latents, sign_mae=None):
        self.embedded = EmbeddedSegments(latents)
        self.checkpoint = sign_mae or self.embedded.facts["model"]
        self.model = AutoModel.from_pretrained(self.checkpoint).eval()
        self.processor = AutoFeatureExtractor.from_pretrained(self.checkpoint)
        if _weights_hash(self.model) != self.embedded.facts["weights"]:
            raise ValueError(f"{latents} was written by another model than {self.checkpoint}. Give --sign_mae, or embed anew.")

    @torch.no_grad()
    def read(self, upload, layout=None, fps=None, width=None, height=None):
        """-> what is kept of the clip, the slider over its segments, and why there is neither."""
        try:
            with taken(upload) as path:
                clip = self.processor.process(**vars(read_clip(path, layout, fps, width, height)), name=path.name)
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
        """-> strips: the clip's segment, what its latent holds, and the nearest segments, drawn from theirs."""
        if kept is None:
            return ""
        segment = min(int(segment), len(kept["latents"]) - 1)
        query = kept["latents"][segment]
        indices, similarities = nearest_segments(self.embedded.latents, query, int(top))
        decoded = self.model.decode(torch.from_numpy(np.concatenate([query[None], self.embedded.latents[indices]]))).numpy()
        presence = np.broadcast_to(self.model.keypoint_presence.bool().numpy(), decoded.shape[1:3])
        start, end = kept["seconds"][segment]
        titles = [f"yours, {start:.2f} to {end:.2f} s", "the same, drawn from its latent"]
        for index, similarity in zip(indices, similarities):
            span = f"{self.embedded.starts[index]:.2f} to {self.embedded.ends[index]:.2f} s"
            titles.append(f"{similarity:.2f}  {self.embedded.ids[index]}, {span}: {self.embedded.texts[index] or ''}")
        clips = [kept["segments"][segment], *((points, presence) for points in decoded)]
        return to_svg(clips, self.model.config.layout, num_frames=6, size=110, titles=titles)


if __name__ == "__main__":
    main()
