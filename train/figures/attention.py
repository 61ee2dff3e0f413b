"""Draws where a SignToText looks (Fig 8): self-attention of its first encoder layer, and which segment each word came from.

    python -m train.figures.attention --checkpoint DIR [DIR ...] --clip FILE [--fps 25 --width 640 --height 480] --output attention.svg

Several checkpoints stand side by side: frames, frames with glosses, segments. A clip is anything that the pipeline reads.
"""

from pathlib import Path

from train.engine.commands import CommandParser

FORMATS = (".svg", ".pdf", ".png")


def parse(argv=None):
    parser = CommandParser(__doc__)
    parser.add_argument("--checkpoint", nargs="+", required=True, help="of SignToTexts, which stand side by side")
    parser.add_argument("--clip", required=True, metavar="FILE", help="keypoints or a video, whatever the pipeline reads")
    parser.add_argument("--layout", help="of the keypoints, where the file leaves it open")
    parser.add_argument("--fps", type=float, help="frames a second, where the file does not say")
    parser.add_argument("--width", type=int, help="of the image in pixels; coordinates relative to it need both")
    parser.add_argument("--height", type=int, help="of the image in pixels")
    parser.add_argument("--output", type=Path, required=True, help=".svg, .pdf or .png")
    arguments = parser.parse_args(argv)
    if arguments.output.suffix.lower() not in FORMATS:
        parser.error(f"--output {arguments.output}: expected a name that ends in {', '.join(FORMATS)}")
    return arguments


if __name__ == "__main__":
    parse()  # answers --help and mistakes before the imports that take seconds


import numpy as np

from train.engine.loading import load_pipeline
from train.engine.runs import run_script
from train.figures.plots import new_figure, plain, save_figure


def main(argv=None):
    arguments = parse(argv)
    options = {name: value for name in ("layout", "fps", "width", "height") if (value := getattr(arguments, name)) is not None}
    answers = {
        Path(folder).name: load_pipeline("sign-to-text", folder, "cpu")(arguments.clip, return_attentions=True, **options)
        for folder in arguments.checkpoint
    }
    save_figure(draw(answers), arguments.output)
    print(f"Wrote {arguments.output}")


def draw(answers):
    """Answers of the pipeline with attentions {title: answer} -> a figure: self-attention above, cross-attention below, mean over heads."""
    figure = new_figure(4 * len(answers), 7)
    for column, (title, answer) in enumerate(answers.items()):
        attentions = answer["attentions"]
        duration = attentions["seconds"][-1, 1]
        above = figure.add_subplot(2, len(answers), 1 + column)
        heat_map(above, attentions["encoder"][0].mean(0), duration)
        above.set_title(f"{plain(title)}\nencoder layer 1, 0 to {duration:.1f} s, {len(attentions['seconds'])} inputs", fontsize=9)
        above.set_ylabel("input that attends", fontsize=8)
        below = figure.add_subplot(2, len(answers), 1 + len(answers) + column)
        cross = attentions["cross"][-1].mean(0)
        heat_map(below, cross, duration)
        below.set_title("cross-attention, last layer", fontsize=9)
        below.set_xlabel("attended second of the clip", fontsize=8)
        below.set_yticks(range(len(cross)), [plain(token) for token in attentions["tokens"]], fontsize=8)
    return figure


def heat_map(axes, weights, duration):
    """(rows, columns) on axes: a row for each that attends, the row's largest weight darkest; columns span the clip's seconds."""
    shade = weights / np.maximum(weights.max(1, keepdims=True), 1e-9)
    num_rows = len(weights)
    return axes.imshow(
        shade, cmap="Blues", vmin=0, vmax=1, aspect="auto", interpolation="nearest", extent=(0, duration, num_rows - 0.5, -0.5)
    )


if __name__ == "__main__":
    run_script(main)
