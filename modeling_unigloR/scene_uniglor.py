"""What every renderer draws: clips as figures, on one scale, in one view, with close-ups of hands and face.

Shapes: N clips, T frames, K keypoints, C channels.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from html import escape as escape_markup
from typing import Any, NamedTuple

import numpy as np

from .figure_uniglor import CLOSE_UPS, CloseUp, Shape, close_ups, figure
from .keypoint_clip_uniglor import KeypointClip, as_own
from .keypoint_processing_uniglor import KeypointProcessor, ProcessedClip
from .keypoints_uniglor import LAYOUTS, get_layout

VIEW_MARGIN = 0.12  # shoulder lengths beyond the motion
NO_XML = re.compile("[^\\t\\n\\r\\x20-\\ud7ff\\ue000-\\ufffd\\U00010000-\\U0010ffff]")
DEFAULT_FPS, DEFAULT_LAYOUT = 25, "uniglor73"  # of clips that do not say
MIN_VIEW = 1.6  # shoulder lengths; a motion that is smaller than a torso is not enlarged further


class Scene(NamedTuple):
    """Clips ready to be drawn; all have the same number of frames.

    Attributes:
        figures: N lists of `figure_uniglor.Shape`.
        view: (x, y, side) of the square that holds all motion of all clips, in shoulder lengths.
        close_ups: N dicts {part: `figure_uniglor.CloseUp`}; a part has the same side in all clips.
        titles: N str.
        num_frames: T.
    """

    figures: list[list[Shape]]
    view: tuple[float, float, float]
    close_ups: list[dict[str, CloseUp]]
    titles: list[str]
    num_frames: int


def drawable(clips: Any, fps: float | str = "auto", layout: str | None = None) -> tuple[list[Any], float, str]:
    """Clips in the form that `make_scene` draws, their frame rate, and the name of their layout.

    Args:
        clips: a clip, or a list of them. Each is a `KeypointClip` or a canonical row, which is normalised first; a `ProcessedClip`; what
            the text-to-sign pipeline returns; keypoints (T, K, 2 or 3) in shoulder lengths; or a pair with their mask (T, K) or None.
        fps: frames a second; "auto" is what the clips say, or 25.
        layout: None is what the clips say, or uniglor73.

    Raises:
        ValueError: clips of several layouts or frame rates, or a frame rate that is not above 0.
    """
    forms = [_drawable(clip, layout) for clip in (clips if isinstance(clips, list) else [clips])]
    rates = {form[1] for form in forms if form[1] is not None}
    names: set[str] = {name for name in (layout, *(form[2] for form in forms)) if name is not None}
    if fps == "auto" and len(rates) > 1:
        raise ValueError(
            f"Found clips of {' and '.join(f'{rate:g}' for rate in sorted(rates))} frames a second. Pass fps, or draw each alone."
        )
    if len(names) > 1:
        raise ValueError(f"Found clips of the layouts {', '.join(sorted(names))}, expected one layout in a picture.")
    rate = next(iter(rates), DEFAULT_FPS) if fps == "auto" else fps
    if rate is None or isinstance(rate, str) or not 0 < rate < float("inf"):
        raise ValueError(f"fps={rate} must be above 0, in frames a second.")
    return [form[0] for form in forms], rate, layout or next(iter(names), DEFAULT_LAYOUT)


def _drawable(clip: Any, layout: str | None) -> tuple[Any, float | None, str | None]:
    """-> keypoints or a pair with their mask, frames a second or None, layout or None."""
    if isinstance(clip, Mapping) and clip.get("keypoint_mask") is not None and not clip.get("width"):  # in shoulder lengths already
        return (clip["keypoints"], clip["keypoint_mask"]), clip.get("fps"), clip.get("layout")
    if isinstance(clip, Mapping):
        clip = KeypointClip.from_row(clip)
    if (own := as_own(clip)) is not None:
        target = layout or (own.layout if own.layout in LAYOUTS else DEFAULT_LAYOUT)
        num_channels = 3 if np.shape(own.keypoints)[-1:] == (3,) else 2
        processor = KeypointProcessor(target, num_channels, fps=None, noisy_frame_threshold=None)  # frames as they are
        clip = processor.process(own)
    if type(clip).__name__ == ProcessedClip.__name__:  # it may be of a checkpoint's own code
        return (clip.keypoints, clip.keypoint_mask), clip.fps, clip.layout
    return clip, None, None


def make_scene(
    clips: Any,
    layout_name: str,
    titles: Sequence[str] | str | None = None,
    with_close_ups: bool | Collection[str] = False,
    frames: Callable[[int], np.ndarray] | None = None,
) -> Scene:
    """Clips of any accepted form -> `Scene`.

    Args:
        clips: keypoints (T, K, 2 or 3) in shoulder lengths, a pair with their mask (T, K) or None, or a list of these. A clip
            that is shorter than others holds its last frame.
        titles: a title for each clip.
        with_close_ups: whether hands and faces are followed, or which of `figure_uniglor.CLOSE_UPS`.
        frames: a function of the number of frames that gives the indices of those to draw; the view is of all of them.
    """
    clips = clips if isinstance(clips, list) else [clips]
    if not clips:
        raise ValueError("Found an empty list, expected at least one clip: keypoints (T, K, 2 or 3), or a pair (keypoints, mask).")
    checked = [check_clip(clip, layout_name, f"Clip {number}") for number, clip in enumerate(clips)]
    num_frames = max(len(seen) for _, seen in checked)
    held = [np.minimum(np.arange(num_frames), len(seen) - 1) for _, seen in checked]
    points = [keypoints[chosen, :, :2] for (keypoints, _), chosen in zip(checked, held)]
    seen = [mask[chosen] for (_, mask), chosen in zip(checked, held)]
    figures = [figure(*clip, layout_name) for clip in zip(points, seen)]
    view = _view(points, seen, figures)
    wanted = CLOSE_UPS if with_close_ups is True else with_close_ups or ()
    followed = [close_ups(*clip, layout_name) if wanted else {} for clip in zip(points, seen)]
    followed = [{part: close_up for part, close_up in parts.items() if part in wanted} for parts in followed]
    for part in {part for parts in followed for part in parts}:
        side = max(parts[part].side for parts in followed if part in parts)
        for parts in followed:
            if part in parts:
                parts[part] = parts[part]._replace(side=side)
    if frames is not None:
        chosen = frames(num_frames)
        figures = [[shape._replace(points=shape.points[chosen], drawn=shape.drawn[chosen]) for shape in shapes] for shapes in figures]
        num_frames = len(chosen)
    return Scene(figures, view, followed, one_for_each("titles", titles, len(clips)), num_frames)


def _view(points: list[np.ndarray], seen: list[np.ndarray], figures: list[list[Shape]]) -> tuple[float, float, float]:
    """(x, y, side) of the square that holds the points of all frames and the heads; the torso may be cut off below."""
    heads = [shape.points[shape.drawn].reshape(-1, 2) for shapes in figures for shape in shapes if shape.color == "head"]
    everything = np.concatenate([*(clip[there] for clip, there in zip(points, seen)), *heads])
    low, high = everything.min(0) - VIEW_MARGIN, everything.max(0) + VIEW_MARGIN
    side = max(float((high - low).max()), MIN_VIEW)
    x, y = (low + high - side) / 2
    return float(x), float(y), side


def check_clip(clip: Any, layout_name: str, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Keypoints, or a pair with their mask -> keypoints (T, K, C) float64, 0 where not seen; seen (T, K) bool."""
    keypoints, mask = clip if isinstance(clip, tuple) and len(clip) == 2 else (clip, None)
    keypoints = _array(keypoints)
    num_points = len(get_layout(layout_name).names)
    if keypoints.ndim != 3 or keypoints.shape[1] != num_points or keypoints.shape[2] not in (2, 3):
        raise ValueError(
            f"{name}: found keypoints of shape {keypoints.shape}, expected (frames, {num_points}, 2 or 3) of layout {layout_name!r}; "
            "several clips go into a list."
        )
    if not len(keypoints):
        raise ValueError(f"{name} has no frames, expected at least one.")
    seen = np.ones(keypoints.shape[:2], bool) if mask is None else _array(mask) > 0
    if seen.shape != keypoints.shape[:2]:
        raise ValueError(f"{name}: found a mask of shape {seen.shape}, expected {keypoints.shape[:2]} as the keypoints have.")
    if not seen.any():
        raise ValueError(f"{name} has no keypoint to draw: its mask is 0 everywhere.")
    lost = seen & ~np.isfinite(keypoints).all(-1)
    if lost.any():
        frame, point = np.argwhere(lost)[0]
        raise ValueError(
            f"{name}: found NaN or infinity in {lost.sum()} keypoints that count as seen, first {get_layout(layout_name).names[point]} "
            f"in frame {frame}. Expected a mask (T, K) that is 0 there."
        )
    return np.where(seen[..., None], keypoints, 0.0), seen


def _array(values: Any) -> np.ndarray:
    """float64, of an array, a list or a tensor on any device."""
    return np.asarray(values.detach().float().cpu() if hasattr(values, "detach") else values, float)


def one_for_each(name: str, values: Sequence[str] | str | None, num_clips: int) -> list[str]:
    """One str for each clip; a str alone is that of a single clip."""
    values = [""] * num_clips if values is None else [values] if isinstance(values, str) else list(values)
    if len(values) != num_clips:
        raise ValueError(f"Found {len(values)} {name} for {num_clips} clips, expected one for each.")
    return [str(value) for value in values]


def name_of(titles: Sequence[str]) -> str:
    """What a reader's software calls the picture."""
    return ", ".join(filter(None, titles)) or "Figure of a signer"


def legible(text: str) -> str:
    """A text whose control characters and halves of surrogate pairs, which XML and HTML may not hold, are shown as U+FFFD."""
    return NO_XML.sub("\ufffd", text)


def escape(text: str) -> str:
    """Text for XML and HTML."""
    return escape_markup(legible(text))
