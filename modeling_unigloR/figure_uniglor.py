"""The signer as a figure of filled shapes: one geometry for every renderer.

Keypoints become a torso, a head with brows, eyes and mouth, tapering arms, palms and five fingers each. A shape is a polygon or
a polyline with round joins, and nothing else, so that SVG, a canvas and Pillow draw the same picture. What was not seen is not
drawn. A palm that faces the viewer is lighter than the back of a hand.

Shapes: T frames, K keypoints, P points of a shape.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from .keypoints_uniglor import FINGERS, HAND_POINTS, SIDES, edge_indices, get_layout, point_index

# Colours on a light and on a dark page. Fingers go from the thumb to the little finger, dark to light.
COLORS = {
    "torso": "#e3e6ea", "arm": "#b4bac2", "head": "#d5dae0", "body": "#6b737d", "face": "#4a3a28", "mouth": "#b5534a", "tongue": "#5e1f1b",
    "left_hand": "#1f77b4", "left_back": "#7fa8c9", "left_palm": "#cfe3f2",
    "left_thumb": "#0b3c6f", "left_index": "#12599e", "left_middle": "#2b7fc9", "left_ring": "#5a9fdb", "left_pinky": "#8fbfe8",
    "right_hand": "#d62728", "right_back": "#d39a9a", "right_palm": "#f8d9d6",
    "right_thumb": "#6e0d12", "right_index": "#a3161d", "right_middle": "#d0342f", "right_ring": "#e4665c", "right_pinky": "#ee958b",
}  # fmt: skip
DARK_COLORS = {
    "torso": "#2c3036", "arm": "#565d66", "head": "#454b54", "body": "#9aa2ac", "face": "#e7d3b4", "mouth": "#d98078", "tongue": "#5e1f1b",
    "left_hand": "#6cb6f5", "left_back": "#3c6285", "left_palm": "#24415c",
    "left_thumb": "#d3eaff", "left_index": "#a5d3fb", "left_middle": "#74b8f3", "left_ring": "#4c99de", "left_pinky": "#2f7ac0",
    "right_hand": "#ff8078", "right_back": "#8a4a48", "right_palm": "#5c2b2b",
    "right_thumb": "#ffe1dd", "right_index": "#ffbcb5", "right_middle": "#fb8f86", "right_ring": "#ea6a60", "right_pinky": "#c94a43",
}  # fmt: skip
LEGEND = ("body", "face", "left_hand", "right_hand")  # colours that a legend names; parts without a figure are stroked in them

RIM = 0.018  # of the page's colour around a limb or the head, in shoulder lengths
HAND_RIM = 0.055  # the same around fingers and palms, in palm lengths
STROKE = 0.025  # of the lines of a layout that has no figure

# Widths in shoulder lengths, where the arm begins and ends.
UPPER_ARM, FOREARM, NECK = (0.26, 0.17), (0.17, 0.1), (0.2, 0.2)
TORSO_LENGTH, HIP_WIDTH = 1.5, 0.62
HEAD_HEIGHT, HEAD_WIDTH = 1.55, 1.12  # half axes, in distances from the eyes to the mouth
HEAD_POINTS = 24
EYES_TO_MOUTH = 0.2  # shoulder lengths, where a clip has no face
FINGER, PALM_ROUNDING = 0.17, 0.2  # widths in palm lengths, from the wrist to the middle finger's first joint
PALM_LENGTH = 0.24  # shoulder lengths, where it cannot be measured

CLOSE_UPS = {"right_hand": "right hand", "left_hand": "left hand", "face": "face"}
CLOSE_UP_MARGIN = {"right_hand": 1.2, "left_hand": 1.2, "face": 1.4}  # of the part's extent
FINGER_MARGIN = 0.03  # shoulder lengths around its points that a close-up does not cut off, where it is large enough
MIN_CLOSE_UP = 0.25  # shoulder lengths
MIN_SHARE_SEEN = 0.1  # of the frames; a part that was seen more rarely has no close-up
SMOOTHING = 7  # frames over which a close-up's centre is averaged, so that it does not shake


class Shape(NamedTuple):
    """One polygon or polyline of the figure over time, in the order in which they are drawn.

    Attributes:
        part: of the layout; what a legend and a close-up call it.
        color: a key of `COLORS`.
        width: of the stroke, in shoulder lengths, with round ends and joins. A closed shape has it too, around its filling.
        closed: whether it is filled.
        rim: of the page's colour, which sets it apart from what lies below; 0 where there is none. Shoulder lengths.
        points: (T, P, 2) in shoulder lengths.
        drawn: (T,) bool.
    """

    part: str
    color: str
    width: float
    closed: bool
    rim: float
    points: np.ndarray
    drawn: np.ndarray


def figure(points: np.ndarray, seen: np.ndarray, layout_name: str = "uniglor73") -> list[Shape]:
    """The shapes of one clip, the farthest first.

    Args:
        points: (T, K, 2) in shoulder lengths about the neck, y downwards; finite.
        seen: (T, K) bool.
        layout_name: of the keypoints. A layout without this package's names for body, hands and face is drawn as its edges.

    Returns:
        list of `Shape`; those that are never drawn are left out.
    """
    index = point_index(layout_name)
    needed = {"nose", "neck"} | {f"{side}_{joint}" for side in SIDES for joint in ("shoulder", "elbow", "wrist", "hand_root")}
    if not needed <= set(index):
        shapes = list(_edges(points, seen, layout_name))
    else:
        at = _Places(points, seen, index)
        palm = max(at.typical_distance(f"{side}_hand_root", f"{side}_hand_middle_1") for side in SIDES) or PALM_LENGTH
        shapes = [*_torso(at), *_head(at), *_arms(at), *(shape for side in SIDES for shape in _hand(at, side, palm))]
    return [shape for shape in shapes if shape.drawn.any()]


class _Places:
    """Points by their names: `places("neck")` -> (T, 2), `places.seen("neck", "nose")` -> (T,)."""

    def __init__(self, points: np.ndarray, seen: np.ndarray, index: dict[str, int]) -> None:
        self.points, self._seen, self.index = points, seen, index

    def __call__(self, *names: str) -> np.ndarray:
        columns = [self.index[name] for name in names]
        return self.points[:, columns[0]] if len(names) == 1 else self.points[:, columns]

    def seen(self, *names: str) -> np.ndarray:
        return np.asarray(self._seen[:, [self.index[name] for name in names]].all(1))

    def typical_distance(self, a: str, b: str) -> float:
        """A length that is often foreshortened: the 90th percentile of the distance of two points; 0 where they were never seen."""
        if not {a, b} <= set(self.index) or not self.seen(a, b).any():
            return 0.0
        there = self.seen(a, b)
        return float(np.percentile(np.linalg.norm(self(a)[there] - self(b)[there], axis=-1), 90))

    def mean(self, names: Sequence[str]) -> np.ndarray:
        return self.points[:, [self.index[name] for name in names]].mean(1)


def _torso(at: _Places) -> Iterator[Shape]:
    shoulders = at("right_shoulder", "left_shoulder")  # (T, 2, 2)
    hips = at("neck")[:, None] + [[HIP_WIDTH / 2, TORSO_LENGTH], [-HIP_WIDTH / 2, TORSO_LENGTH]]
    yield Shape("body", "torso", 0.2, True, 0, np.concatenate([shoulders, hips], 1), at.seen("right_shoulder", "left_shoulder", "neck"))


def _head(at: _Places) -> Iterator[Shape]:
    eyes = [name for name in at.index if "_eye_" in name]
    mouth = [name for name in at.index if name.startswith("mouth_")]
    with_face = at.seen(*eyes, *mouth) if eyes and mouth else np.zeros(len(at.points), bool)
    size, neck, nose = EYES_TO_MOUTH, at("neck"), at("nose")  # the distance from the eyes to the mouth
    up = nose - neck  # where there is no face, a head that stands on its neck
    if with_face.any():
        middle, lips = at.mean(eyes), at.mean(mouth)
        size = float(np.median(np.linalg.norm(middle - lips, axis=-1)[with_face])) or EYES_TO_MOUTH
        up = np.where(with_face[:, None], middle - lips, up)
    up = _unit(up)
    centre = nose + up * 0.15 * size
    if with_face.any():
        centre = np.where(with_face[:, None], middle + up * 0.1 * size, centre)
    across = np.stack([-up[:, 1], up[:, 0]], -1)
    # A polygon that is smaller by its stroke's half: the round joins make a smooth outline of a few points.
    rounding = 0.6 * size
    angles = np.linspace(0, 2 * np.pi, HEAD_POINTS, endpoint=False)
    height, width = (HEAD_HEIGHT * size - rounding / 2) * np.cos(angles), (HEAD_WIDTH * size - rounding / 2) * np.sin(angles)
    outline = centre[:, None] + height[:, None] * up[:, None] + width[:, None] * across[:, None]  # (T, P, 2)
    there = at.seen("nose", "neck") | with_face
    yield Shape("body", "head", NECK[0] * 0.3, True, 0, _taper(centre, neck, *NECK, 0.3 * NECK[0]), at.seen("neck") & there)
    yield Shape("body", "head", rounding, True, RIM, outline, there)
    if not with_face.any():
        return
    line = 0.12 * size
    for side in SIDES:
        eye = [f"{side}_eye_outer", f"{side}_eye_inner"]
        outer, inner = at(eye[0]), at(eye[1])
        lids = up * 0.16 * np.linalg.norm(outer - inner, axis=-1, keepdims=True)  # corners alone do not tell whether an eye is open
        middle = (outer + inner) / 2
        yield Shape("face", "face", 0.5 * line, True, 0, np.stack([outer, middle + lids, inner, middle - lids], 1), at.seen(*eye))
        brow = [f"{side}_eyebrow_{place}" for place in ("outer", "middle", "inner")]
        yield Shape("face", "face", line, False, 0, at(*brow), at.seen(*brow))
    tip = at("nose")[:, None] + np.stack([-across, across], 1) * 0.12 * size  # a line: a canvas draws nothing of a single point
    yield Shape("face", "face", 0.7 * line, False, 0, tip, at.seen("nose") & with_face)
    mouth_outline = ["mouth_right", "mouth_upper_right", "mouth_upper_left", "mouth_left", "mouth_lower_left", "mouth_lower_right"]
    yield Shape("face", "mouth", 0.5 * line, True, 0, at(*mouth_outline), at.seen(*mouth_outline))
    opening = ["lip_upper", "lip_lower_left", "lip_lower_right"]
    yield Shape("face", "tongue", 0.2 * line, True, 0, at(*opening), at.seen(*opening))


def _arms(at: _Places) -> Iterator[Shape]:
    for side in SIDES:
        for near, far, widths in (("shoulder", "elbow", UPPER_ARM), ("elbow", "wrist", FOREARM)):
            names = f"{side}_{near}", f"{side}_{far}"
            rounding = 0.9 * min(widths)
            limb = _taper(at(names[0]), at(names[1]), *widths, rounding)
            yield Shape("body", "arm", rounding, True, RIM, limb, at.seen(*names))


def _hand(at: _Places, side: str, palm: float) -> Iterator[Shape]:
    part, root = f"{side}_hand", f"{side}_hand_root"
    joints = {finger: [f"{part}_{finger}_{joint}" for joint in (1, 2, 3, 4)] for finger in FINGERS}
    if not {root, *(name for names in joints.values() for name in names)} <= set(at.index):
        return
    outline = [root, *(joints[finger][0] for finger in FINGERS)]
    there = at.seen(*outline)
    # With the fingers up and the palm to the viewer, a signer's right index finger lies right of the little finger in the picture.
    index, pinky = (at(joints[finger][0]) - at(root) for finger in ("index", "pinky"))
    turn = index[:, 0] * pinky[:, 1] - index[:, 1] * pinky[:, 0]
    shows_palm = turn > 0 if side == "left" else turn < 0
    rounding, rim = PALM_ROUNDING * palm, HAND_RIM * palm
    yield Shape(part, f"{side}_palm", rounding, True, rim, at(*outline), there & shows_palm)
    yield Shape(part, f"{side}_back", rounding, True, rim, at(*outline), there & ~shows_palm)
    for finger in reversed(FINGERS):
        yield Shape(part, f"{side}_{finger}", FINGER * palm, False, rim, at(*joints[finger]), at.seen(*joints[finger]))


def _edges(points: np.ndarray, seen: np.ndarray, layout_name: str) -> Iterator[Shape]:
    """A layout's edges as lines in the colours of its parts."""
    edges = edge_indices(layout_name, drawn=True)
    for part, span in get_layout(layout_name).parts.items():
        for a, b in edges[(edges[:, 0] >= span.start) & (edges[:, 0] < span.stop)]:
            color = part if part in LEGEND else "body"
            yield Shape(part, color, STROKE, False, 0, points[:, [a, b]], seen[:, a] & seen[:, b])


def _taper(start: np.ndarray, end: np.ndarray, start_width: float, end_width: float, rounding: float) -> np.ndarray:
    """(T, 5, 2): a limb that is `start_width` wide and round at (T, 2) `start`, less the stroke that rounds it."""
    along = _unit(end - start)
    across = np.stack([-along[:, 1], along[:, 0]], -1)
    near, far = across * max(start_width - rounding, 0.0) / 2, across * max(end_width - rounding, 0.0) / 2
    behind = start - along * max(start_width - rounding, 0.0) / 2
    return np.stack([start + near, end + far, end - far, start - near, behind], 1)


def _unit(vectors: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.divide(vectors, length, out=np.tile([0.0, -1.0], (len(vectors), 1)), where=length > 1e-9)


# --- Close-ups --------------------------------------------------------------------------------------------------------------------


class CloseUp(NamedTuple):
    """A part of one clip, followed: `title`, `centers` (T, 2) and `side`, in shoulder lengths, of the square that holds it."""

    title: str
    centers: np.ndarray
    side: float


def close_ups(points: np.ndarray, seen: np.ndarray, layout_name: str = "uniglor73") -> dict[str, CloseUp]:
    """{part: `CloseUp`} of a clip's hands and face, where they are seen at all.

    Args:
        points: (T, K, 2), seen: (T, K) bool.
    """
    index, found = point_index(layout_name), {}
    for part, title in CLOSE_UPS.items():
        own = [f"{part}_{point}" for point in HAND_POINTS] if part != "face" else _face_names(layout_name)
        columns = [index[name] for name in own if name in index]
        there = seen[:, columns].any(1) if columns else np.zeros(len(points), bool)
        if there.mean() < MIN_SHARE_SEEN:
            continue
        shown = seen[there][:, columns, None]
        low = np.where(shown, points[there][:, columns], np.inf).min(1)
        high = np.where(shown, points[there][:, columns], -np.inf).max(1)
        side = max(float(np.percentile((high - low).max(1), 95)) * CLOSE_UP_MARGIN[part], MIN_CLOSE_UP)
        frames = np.arange(len(points))
        centers = _smooth(np.stack([np.interp(frames, frames[there], channel) for channel in ((low + high) / 2).T], -1))
        # What moves fast is followed at once rather than cut off; what is larger than the square stays in its middle.
        slack = np.maximum(side / 2 - FINGER_MARGIN - (high - low) / 2, 0)
        centers[there] = np.clip(centers[there], (low + high) / 2 - slack, (low + high) / 2 + slack)
        found[part] = CloseUp(title, centers, side)
    return found


def _face_names(layout_name: str) -> Sequence[str]:
    layout = get_layout(layout_name)
    return layout.names[layout.parts["face"]] if "face" in layout.parts else ()


def _smooth(centers: np.ndarray) -> np.ndarray:
    """Moving average over `SMOOTHING` frames; the ends are held."""
    half = SMOOTHING // 2
    padded = np.pad(centers, ((half, half), (0, 0)), mode="edge")
    return np.stack([np.convolve(channel, np.full(SMOOTHING, 1 / SMOOTHING), "valid") for channel in padded.T], -1)
