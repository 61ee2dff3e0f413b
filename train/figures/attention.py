"""Draws where a SignToText looks (Fig 8): self-attention of its first encoder layer, and which segment each word came from.

    python -m train.figures.attention --checkpoint DIR [DIR ...] --clip FILE [--layout L --fps 25] --output attention.svg

Several checkpoints stand side by side: frames, frames with glosses, segments. A clip is anything that the pipeline reads.
"""

import argparse
from pathlib import Path

import numpy as np

from modeling_unigloR.rendering_uniglor import escape
from train.engine.loading import load_pipeline

SIZE = 260  # pixels of a picture's side
MARGIN = 90


def parse(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--checkpoint", nargs="+", required=True)
    parser.add_argument("--clip", required=True)
    parser.add_argument("--layout")
    parser.add_argument("--fps", type=float)
    parser.add_argument("--output", type=Path, required=True)
    return parser.parse_args(argv)


def main(argv=None):
    arguments = parse(argv)
    given = {name: value for name in ("layout", "fps") if (value := getattr(arguments, name)) is not None}
    answers = {
        Path(folder).name: load_pipeline("sign-to-text", folder, "cpu")(arguments.clip, return_attentions=True, **given)
        for folder in arguments.checkpoint
    }
    arguments.output.write_text(draw(answers), encoding="utf-8")
    print(f"Wrote {arguments.output}")


def draw(answers):
    """Answers of the pipeline with attentions {title: answer} -> SVG: self-attention above, cross-attention below, mean over heads."""
    columns = []
    for index, (title, answer) in enumerate(answers.items()):
        attentions, left = answer["attentions"], MARGIN + index * (SIZE + MARGIN)
        duration = attentions["seconds"][-1, 1]
        axis = f"0 to {duration:.1f} s, {len(attentions['seconds'])} inputs"
        columns += [
            f'<text x="{left}" y="20" style="font-weight:bold">{escape(title)}</text>',
            f'<text x="{left}" y="36">encoder layer 1, {axis}</text>',
            heat_map(attentions["encoder"][0].mean(0), left, 44, SIZE, SIZE),
            f'<text x="{left}" y="{SIZE + 74}">cross-attention, last layer</text>',
        ]
        cross = attentions["cross"][-1].mean(0)
        height = min(SIZE, 16 * len(cross))
        columns.append(heat_map(cross, left, SIZE + 82, SIZE, height))
        for row, token in enumerate(attentions["tokens"]):
            y = SIZE + 82 + (row + 0.7) * height / len(cross)
            columns.append(f'<text x="{left - 4}" y="{y:.1f}" text-anchor="end">{escape(token)}</text>')
    width, total = MARGIN + len(answers) * (SIZE + MARGIN), 2 * SIZE + 100
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{total}" viewBox="0 0 {width} {total}">'
        '<style>text{font:11px sans-serif}</style><rect width="100%" height="100%" fill="#ffffff"/>' + "".join(columns) + "</svg>\n"
    )


def heat_map(weights, left, top, width, height):
    """(rows, columns) -> one rectangle a cell, the row's largest weight darkest: who attends stands on the left, to whom below."""
    shade = weights / np.maximum(weights.max(1, keepdims=True), 1e-9)
    rows, columns = weights.shape
    cell_width, cell_height = width / columns, height / rows
    cells = [
        f'<rect x="{left + column * cell_width:.2f}" y="{top + row * cell_height:.2f}" width="{cell_width:.2f}" height="{cell_height:.2f}" '
        f'fill="#08306b" fill-opacity="{shade[row, column]:.2f}"/>'
        for row in range(rows)
        for column in range(columns)
        if shade[row, column] >= 0.02
    ]
    return "".join(cells) + f'<rect x="{left}" y="{top}" width="{width}" height="{height}" fill="none" stroke="#888888"/>'


if __name__ == "__main__":
    main()
