"""Draws strips of frames, the ground truth above what models make: of a SignMAE its reconstruction, of one or more TextToSign their
signing of the sentence (Figs 4, 9 and 10).

    python -m train.figures.strips --checkpoint outputs/sign-mae --datasets D --split test --output reconstruction.svg
    python -m train.figures.strips --checkpoint outputs/text-to-sign --datasets D --split test --ids ID ID --output generated.png
    python -m train.figures.strips --checkpoint A B --datasets D --split test --train_datasets D --output beside_retrieval.html

Frames are evenly spaced over each row's own length. A line between two frames says that a new segment begins there. A .html plays the same
clips beside each other.
"""

from pathlib import Path

from train.engine.commands import CommandParser


def parse(argv=None):
    parser = CommandParser(__doc__)
    parser.add_argument("--checkpoint", nargs="+", required=True, help="of a SignMAE, or of one or more TextToSign: it says what is drawn")
    parser.add_argument("--datasets", nargs=1, required=True, help="a folder or Hub id of canonical rows")
    parser.add_argument("--split", default="test", help="of the data set; by default test")
    parser.add_argument("--ids", nargs="+", help="clips to draw; by default the split's first")
    parser.add_argument("--num_clips", type=int, default=3, help="how many of the first")
    parser.add_argument("--num_frames", type=int, default=16, help="shown of each row")
    parser.add_argument("--size", type=int, default=110, help="pixels of a frame's side")
    parser.add_argument("--seam_frames", type=int, help="of text-to-sign, see TextToSign.generate")
    parser.add_argument("--train_datasets", nargs="+", default=[], help="of text-to-sign: its training clips, for a row of retrieval")
    parser.add_argument("--output", type=Path, required=True, help=".svg or .png, or .html with players")
    arguments = parser.parse_args(argv)
    if arguments.output.suffix.lower() not in (".svg", ".png", ".html"):
        parser.error(f"--output {arguments.output}: expected a name that ends in .svg, .png or .html")
    if min(arguments.num_clips, arguments.num_frames) < 1:
        parser.error("--num_clips and --num_frames must be at least 1")
    return arguments


if __name__ == "__main__":
    parse()  # answers --help and mistakes before the imports that take seconds

import tempfile
from dataclasses import dataclass, field

import numpy as np
import torch

from modeling_unigloR import SignMAE
from modeling_unigloR.player_uniglor import player_html
from modeling_unigloR.rendering_uniglor import STRIP_HEADER, escape, to_png, to_svg, write_text
from train.data.clips import Clips
from train.data.segments import describe, load_rows, specs
from train.engine.loading import load_model, load_pipeline, load_processor, read_model_type
from train.engine.runs import run_script
from train.evaluation.reconstruction import reconstruct_segments
from train.evaluation.retrieval import RetrievalSigner
from train.metrics.reconstruction import mpjpe

TITLE = 22  # pixels of the line above a strip
BORDER = "#888888"


@dataclass
class Strip:
    """What is drawn of one clip: rows of equally many frames.

    Attributes:
        title: the line above it.
        labels: a line above each row.
        clips: (keypoints (F, K, C), keypoint_mask (F, K)) of each row, its F shown frames alone.
        borders: of each row, columns before which a segment begins.
        whole: (keypoints (T, K, C), keypoint_mask (T, K)) of each row, all frames.
    """

    title: str
    labels: list = field(default_factory=list)
    clips: list = field(default_factory=list)
    borders: list = field(default_factory=list)
    whole: list = field(default_factory=list)


def main(argv=None):
    arguments = parse(argv)
    rows = chosen_rows(arguments.datasets[0], arguments.split, arguments.ids, arguments.num_clips)
    kinds = {read_model_type(checkpoint, "--checkpoint", ["sign_mae", "text_to_sign"]) for checkpoint in arguments.checkpoint}
    if kinds == {"text_to_sign"}:
        strips = signed(arguments.checkpoint, rows, arguments.num_frames, arguments.seam_frames, arguments.train_datasets)
    elif len(arguments.checkpoint) == 1 and not arguments.train_datasets:
        strips = reconstructed(arguments.checkpoint[0], rows, arguments.num_frames)
    else:
        raise ValueError("Found a SignMAE among several --checkpoint, or with --train_datasets, expected TextToSign there. Draw it alone.")
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    suffix = arguments.output.suffix.lower()
    if suffix == ".png":
        draw_png(strips, arguments.output, arguments.size)
    else:
        processor = load_processor(arguments.checkpoint[0])
        drawn = players(strips, processor.fps or 25, processor.layout) if suffix == ".html" else draw(strips, arguments.size)
        arguments.output.write_text(drawn, encoding="utf-8")
    print(f"Wrote {arguments.output}: {', '.join(str(row['id']) for row in rows)}")
    return strips


def chosen_rows(dataset, split, ids=None, num_clips=3):
    """Canonical rows of a split: those of the given ids, or the first."""
    (spec,) = specs([dataset])
    rows = load_rows(spec, split)
    if ids is None:
        return list(rows.select(range(min(num_clips, len(rows)))).with_format("numpy"))
    places = {str(name): place for place, name in enumerate(rows["id"])}
    missing = [name for name in ids if name not in places]
    if missing:
        raise ValueError(
            f"Data set {describe(spec)!r}, split {split!r} has no clip {', '.join(missing)}; its first is {next(iter(places))!r}."
        )
    return list(rows.select([places[name] for name in ids]).with_format("numpy"))


# --- What models make -------------------------------------------------------------------------------------------------------------


def reconstructed(checkpoint, rows, num_frames):
    """A `Strip` for each row: its keypoints, and what a SignMAE gives back of them in segments laid end to end, nothing masked."""
    model, processor = load_model(checkpoint, SignMAE), load_processor(checkpoint)
    presence, window = model.keypoint_presence.bool().numpy(), model.config.window_size
    strips = []
    for row in rows:
        clip = processor.process_row(row)
        real, length = torch.from_numpy(clip.keypoints), len(clip.keypoints)
        held = torch.arange(-(-length // window) * window).clamp_max(length - 1)  # the last segment is held at the last frame
        made = reconstruct_segments(model, real[held].unflatten(0, (-1, window))).flatten(0, 1)[:length]
        scored = torch.from_numpy(clip.keypoint_mask & presence)
        strip = Strip(str(row["id"]))
        add_row(strip, "ground truth", clip.keypoints, clip.keypoint_mask, num_frames, window)
        label = f"SignMAE's reconstruction, error {mpjpe(made, real, scored.float()):.3f} shoulder widths"
        add_row(strip, label, made.numpy(), np.tile(presence, (length, 1)), num_frames, window)
        strips.append(strip)
    return strips


def signed(checkpoints, rows, num_frames, seam_frames=None, train_datasets=()):
    """A `Strip` for each row: its keypoints, what each TextToSign makes of its text, and with training clips what retrieval does."""
    pipes = {Path(checkpoint).name: load_pipeline("text-to-sign", checkpoint, "cpu") for checkpoint in checkpoints}
    if len(pipes) < len(checkpoints):
        raise ValueError(f"Found --checkpoint {' '.join(checkpoints)} with one folder name twice; rows are called by it. Rename one.")
    processor = next(iter(pipes.values())).feature_extractor
    retrieval = retrieval_of(train_datasets, processor) if train_datasets else None
    strips = []
    for row in rows:
        if not (row["text"] or "").strip():
            raise ValueError(f"Clip {str(row['id'])!r} has no text to sign. Name others with --ids.")
        clip, text = processor.process_row(row), str(row["text"])
        made = {}
        for name, pipe in pipes.items():
            seeded = {"seed": 0} if pipe.model.samples else {}
            signing = pipe(text, **seeded, **({} if seam_frames is None else {"seam_frames": seam_frames}))
            window = pipe.model.config.sign_mae_config.window_size
            made["generated" if len(pipes) == 1 else name] = signing["keypoints"], signing["keypoint_mask"], window
        if retrieval is not None:
            phrases = retrieval.sign(text)
            made["retrieval of training clips"] = phrases, np.ones(phrases.shape[:2], bool), None
        strip = Strip(text)
        shown = min(num_frames, len(clip.keypoints), *(len(keypoints) for keypoints, *_ in made.values()))
        fps = processor.fps
        add_row(strip, f"ground truth, {_duration(clip.keypoints, fps)}", clip.keypoints, clip.keypoint_mask, shown)
        for name, (keypoints, mask, window) in made.items():
            add_row(strip, f"{name}, {_duration(keypoints, fps)}", keypoints, mask, shown, window)
        strips.append(strip)
    return strips


def retrieval_of(train_datasets, processor):
    """A `RetrievalSigner` of training clips."""
    clips = Clips(specs(train_datasets), "train", processor)
    return RetrievalSigner([clips.keypoints(index)[0] for index in range(len(clips))], clips.texts, processor.layout)


def add_row(strip, label, keypoints, keypoint_mask, num_frames, window=None):
    """Adds evenly spaced frames of (T, K, C), (T, K); with a window, the borders of its segments."""
    frames = np.linspace(0, len(keypoints) - 1, min(num_frames, len(keypoints))).round().astype(int)
    strip.labels.append(label)
    strip.clips.append((keypoints[frames], keypoint_mask[frames]))
    strip.whole.append((keypoints, keypoint_mask))
    strip.borders.append([] if window is None else (np.flatnonzero(np.diff(frames // window)) + 1).tolist())


def _duration(keypoints, fps):
    return f"{len(keypoints) / fps:.1f} s" if fps else f"{len(keypoints)} frames"


# --- Pictures ---------------------------------------------------------------------------------------------------------------------


def draw(strips, size):
    """`Strip`s under each other as an SVG document."""
    drawn, top, width = [], 0, 0
    for strip in strips:
        num_frames = len(strip.clips[0][0])
        inside = to_svg(strip.clips, num_frames=num_frames, size=size, titles=strip.labels)
        drawn.append(f'<text x="4" y="{top + 15}" style="font-weight:bold">{escape(strip.title)}</text>')
        drawn.append(inside.replace("<svg ", f'<svg y="{top + TITLE}" ', 1))
        drawn += [f'<path d="M{x} {y}v{size}" stroke="{BORDER}"/>' for x, y in _borders(strip, top, size)]
        top += _height(strip, size)
        width = max(width, size * num_frames)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{top}" viewBox="0 0 {width} {top}">'
        '<style>text{font:12px sans-serif}</style><rect width="100%" height="100%" fill="#ffffff"/>' + "".join(drawn) + "</svg>\n"
    )


def draw_png(strips, path, size):
    """The same as a PNG. Needs Pillow: pip install pillow."""
    pictures = []
    with tempfile.TemporaryDirectory() as folder:
        for strip in strips:
            file = Path(folder) / "strip.png"
            to_png(strip.clips, file, num_frames=len(strip.clips[0][0]), size=size, titles=strip.labels)
            pictures.append(_loaded(file))
    from PIL import Image, ImageDraw  # after to_png, which says how to install it

    page = Image.new("RGB", (max(picture.width for picture in pictures), sum(_height(strip, size) for strip in strips)), "#ffffff")
    pen, top = ImageDraw.Draw(page), 0
    for strip, picture in zip(strips, pictures):
        write_text(page, strip.title, (4, top + 4), color="#000000")
        page.paste(picture, (0, top + TITLE))
        for x, y in _borders(strip, top, size):
            pen.line((x, y, x, y + size), BORDER)
        top += _height(strip, size)
    page.save(path)


def players(strips, fps, layout):
    """A web page that plays the rows of each `Strip` in step; it loads nothing."""
    played = "".join(f"<h2>{escape(strip.title)}</h2>{player_html(strip.whole, fps, layout, 260, strip.labels)}" for strip in strips)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        "<title>Signing, and what models make of its sentences</title>"
        "<style>:root{color-scheme:light dark}body{font:16px sans-serif;margin:16px}h2{font-size:1.1em}</style></head>"
        f"<body>{played}</body></html>\n"
    )


def _loaded(file):
    from PIL import Image

    with Image.open(file) as picture:
        return picture.copy()


def _height(strip, size):
    return TITLE + len(strip.clips) * (size + STRIP_HEADER)


def _borders(strip, top, size):
    """Places (x, y) of the upper ends of the lines between segments; `top` is the strip's own."""
    for row, columns in enumerate(strip.borders):
        y = top + TITLE + STRIP_HEADER + row * (size + STRIP_HEADER)
        yield from ((column * size, y) for column in columns)


if __name__ == "__main__":
    run_script(main)
