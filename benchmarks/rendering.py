"""Drawing a clip: ours against matplotlib's FuncAnimation.

    pip install matplotlib    # the reference; its MP4 also needs the program ffmpeg
    python -m benchmarks.run rendering

Both sides draw the same 100 frames of moving keypoints on as many pixels, by turns in one process: ours a figure of filled shapes, the
reference its lines alone, with matplotlib at its best: one `LineCollection` whose segments are replaced, no axes. What needs no
picture of each frame (SVG, HTML) is set against the faster of matplotlib's writers, the rest against the writer of the same format.
"""

import tempfile
from pathlib import Path

from benchmarks.measure import compare

NUM_FRAMES, FPS = 100, 25


def rendering(device, rounds):
    """Rows for `benchmarks.run`. The device does not matter."""
    try:
        from matplotlib.animation import writers
    except ImportError as error:
        raise ImportError("The reference of the benchmark `rendering` is matplotlib: pip install matplotlib") from error
    from modeling_unigloR import rendering_uniglor as ours
    from tests.conftest import random_signing

    clip = random_signing(NUM_FRAMES)
    video = writers.is_available("ffmpeg")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)

        def matplotlib_to(suffix, size):
            return lambda: matplotlib_animation(clip, folder / f"reference{suffix}", size)

        fastest = matplotlib_to(".mp4" if video else ".gif", 512)
        fastest_name = f"matplotlib's {'MP4' if video else 'GIF'} of 512 pixels"
        cases = [
            (f"animated SVG, against {fastest_name}", lambda: ours.to_animated_svg(clip, FPS), fastest),
            (f"HTML player, against {fastest_name}", lambda: ours.to_html(clip, FPS), fastest),
            (
                "GIF of 256 pixels",
                lambda: ours.to_gif(clip, folder / "ours.gif", FPS, size=256, close_ups=False),
                matplotlib_to(".gif", 256),
            ),
        ]
        if video:
            cases.append(
                (
                    "MP4 of 512 pixels",
                    lambda: ours.to_mp4(clip, folder / "ours.mp4", FPS, size=512, close_ups=False),
                    matplotlib_to(".mp4", 512),
                )
            )
        for case, call, reference in cases:
            rows.append({"case": f"{NUM_FRAMES} frames, {case}"} | compare(call, reference, rounds))
        for row, picture in zip(rows, (ours.to_animated_svg(clip, FPS), ours.to_html(clip, FPS))):
            row["kib"] = round(len(picture) / 1024, 1)
        for row, suffix in zip(rows[2:], (".gif", ".mp4")):
            row["kib"], row["reference_kib"] = (
                round((folder / f"{side}{suffix}").stat().st_size / 1024, 1) for side in ("ours", "reference")
            )
    return rows


def matplotlib_animation(clip, path, size):
    """A clip (T, 73, 2) as matplotlib draws and writes it."""
    from matplotlib.animation import FuncAnimation
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.collections import LineCollection
    from matplotlib.figure import Figure

    from modeling_unigloR.figure_uniglor import COLORS, STROKE
    from modeling_unigloR.keypoints_uniglor import LAYOUTS, edge_indices
    from modeling_unigloR.scene_uniglor import make_scene

    edges = edge_indices("uniglor73", drawn=True)
    parts = [next(part for part, span in LAYOUTS["uniglor73"].parts.items() if span.start <= edge[0] < span.stop) for edge in edges]
    dpi = 100
    figure = Figure(figsize=(size / dpi, size / dpi), dpi=dpi)
    FigureCanvasAgg(figure)
    left, top, side = make_scene(clip, "uniglor73").view
    axes = figure.add_axes((0, 0, 1, 1), xlim=(left, left + side), ylim=(top + side, top))
    axes.axis("off")
    width = STROKE / side * size * 72 / dpi  # in points
    lines = axes.add_collection(LineCollection(clip[0, edges], colors=[COLORS[part] for part in parts], linewidths=width))
    animation = FuncAnimation(figure, lambda frame: (lines.set_segments(clip[frame, edges]),), frames=len(clip))
    animation.save(path, writer="pillow" if path.suffix == ".gif" else "ffmpeg", fps=FPS, dpi=dpi)
