"""Skeletons as pictures that need nothing but numpy.

Shapes: T frames, K keypoints, C channels.
"""

from html import escape

import numpy as np

from .keypoints_uniglor import edge_indices, get_layout

COLORS = {"body": "#444444", "face": "#8a6d3b", "left_hand": "#1f77b4", "right_hand": "#d62728"}
VIEW = (-1.5, -1.3, 3.0, 3.0)  # x, y, width, height in shoulder lengths, about the neck: head to hips, elbows out


def to_svg(rows, layout="uniglor73", num_frames=8, size=150, labels=None):
    """A still strip of skeletons: one row for each clip, frames evenly spaced, parts coloured, missing points not drawn.

    Args:
        rows: list of (keypoints (T, K, 2 or 3) in shoulder lengths, keypoint_mask (T, K) or None), all of the same T.
        layout: name of the keypoints' layout.
        num_frames: how many frames to show.
        size: pixels of a frame's side.
        labels: a title for each row.

    Returns:
        str, a whole SVG document.
    """
    labels = labels or [""] * len(rows)
    header = 18
    pictures = []
    for row, ((keypoints, mask), label) in enumerate(zip(rows, labels)):
        keypoints = np.asarray(keypoints)
        if keypoints.ndim != 3 or keypoints.shape[1] != len(get_layout(layout).names):
            expected = len(get_layout(layout).names)
            raise ValueError(f"Found keypoints of shape {keypoints.shape}, expected (frames, {expected}, 2 or 3) of layout {layout!r}.")
        mask = np.ones(keypoints.shape[:2], bool) if mask is None else np.asarray(mask, bool)
        if not mask.any():
            raise ValueError(f"Row {row} ({label!r}) has no keypoint to draw: its mask is 0 everywhere.")
        top = row * (size + header)
        pictures.append(f'<text x="4" y="{top + 13}">{escape(label)}</text>')
        for column, frame in enumerate(np.linspace(0, len(keypoints) - 1, num_frames).round().astype(int)):
            paths = _frame_paths(keypoints[frame], mask[frame], layout)
            box = f'x="{column * size}" y="{top + header}" width="{size}" height="{size}" viewBox="{" ".join(map(str, VIEW))}"'
            pictures.append(f"<svg {box}>{paths}</svg>")
    width, height = size * num_frames, len(rows) * (size + header)
    style = "<style>text{font:12px sans-serif}path{fill:none;stroke-width:.025;stroke-linecap:round}</style>"
    background = '<rect width="100%" height="100%" fill="#ffffff"/>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">'
        f"{style}{background}{''.join(pictures)}</svg>\n"
    )


def _frame_paths(points, seen, layout_name):
    """One path for each part: the strokes whose two ends were seen."""
    layout = get_layout(layout_name)
    strokes = {part: [] for part in layout.parts}
    for a, b in edge_indices(layout_name, drawn=True):
        if seen[a] and seen[b]:
            part = next(part for part, span in layout.parts.items() if span.start <= a < span.stop)
            strokes[part].append("M{:.2f} {:.2f}L{:.2f} {:.2f}".format(*points[a, :2], *points[b, :2]))
    return "".join(f'<path stroke="{COLORS.get(part, "#444444")}" d="{"".join(lines)}"/>' for part, lines in strokes.items() if lines)
