"""Keypoint layouts as data: names, parts, edges, mirror pairs, and the tables that read other estimators' layouts.

A layout is a table; nothing in this package asks for a layout by name. To add one, add an entry to `LAYOUTS`; to read
another estimator, add an entry to `SOURCE_LAYOUTS`. Left and right are the signer's own: a signer who faces the camera
has the right shoulder at the smaller x.

Shapes: K keypoints of a layout, P points of a source layout.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .limits_uniglor import short

FINGERS = ("thumb", "index", "middle", "ring", "pinky")
HAND_POINTS = ("root",) + tuple(f"{finger}_{joint}" for finger in FINGERS for joint in (1, 2, 3, 4))  # 21, as every estimator orders them
SIDES = ("left", "right")


@dataclass(frozen=True)
class Layout:
    """The K points that a model sees.

    Attributes:
        names: name of each point, in order.
        parts: part name -> slice of the points.
        edges: (child, parent) names, a tree that leads inward to `center`: the graph of the graph convolution.
        drawn_edges: pairs of names that a picture joins.
        mirror_pairs: (left, right) names that change places in a mirror; all other points stay.
        copies: point -> the point that it repeats. A copy is present exactly where its original is.
        anchors: point -> where it is put when it was not seen (SPEC: hand on its wrist, wrist on its elbow, face on the nose).
        center: the point that is moved to the origin.
        scale: the two points whose distance becomes 1.
    """

    names: tuple[str, ...]
    parts: dict[str, slice]
    edges: tuple[tuple[str, str], ...]
    drawn_edges: tuple[tuple[str, str], ...]
    mirror_pairs: tuple[tuple[str, str], ...]
    copies: dict[str, str]
    anchors: dict[str, str]
    center: str
    scale: tuple[str, str]


Points = Mapping[str, int | tuple[int, ...]]  # our point: its index in a block, or the indices whose mean it is


@dataclass(frozen=True)
class SourceLayout:
    """How an estimator orders its points, and where each of ours is among them.

    Attributes:
        blocks: accepted number of points -> ((block name, number of points), ...) in order.
        table: block name -> {our point: index in the block, or a tuple of indices whose mean it is}.
        missing: how the source spells "not seen": "nan", "zero" (every coordinate is 0) or "confidence" (only that says so).
        image: True where coordinates are places in an image (pixels, or 0..1 of width and height), False where x and y
            already share one unit.
    """

    blocks: Mapping[int, tuple[tuple[str, int], ...]]
    table: Mapping[str, Points]
    missing: str
    image: bool = True


def _hand(side: str) -> tuple[str, ...]:
    return tuple(f"{side}_hand_{point}" for point in HAND_POINTS)


# --- uniglor73: 8 body, 19 face, 23 + 23 hands (paper section 4.2, Fig 6; the order inside a part is ours) -------------------------

_BODY = ("nose", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist")
_FACE = (
    "right_eyebrow_outer", "right_eyebrow_middle", "right_eyebrow_inner",
    "left_eyebrow_outer", "left_eyebrow_middle", "left_eyebrow_inner",
    "right_eye_outer", "right_eye_inner", "left_eye_outer", "left_eye_inner",
    "mouth_right", "mouth_upper_right", "mouth_upper_left", "mouth_left", "mouth_lower_left", "mouth_lower_right",
    "lip_upper", "lip_lower_left", "lip_lower_right",
)  # fmt: skip
_HANDS = {side: _hand(side) + (f"{side}_hand_wrist", f"{side}_hand_elbow") for side in SIDES}

_FINGER_EDGES = tuple(
    (f"{side}_hand_{finger}_{joint}", f"{side}_hand_{finger}_{joint - 1}" if joint > 1 else f"{side}_hand_root")
    for side in SIDES for finger in FINGERS for joint in (1, 2, 3, 4)
)  # fmt: skip
_BODY_EDGES = (("nose", "neck"),) + tuple(
    edge for side in SIDES
    for edge in ((f"{side}_shoulder", "neck"), (f"{side}_elbow", f"{side}_shoulder"), (f"{side}_wrist", f"{side}_elbow"))
)  # fmt: skip
_WRIST_EDGES = tuple((f"{side}_hand_root", f"{side}_wrist") for side in SIDES)
_BROW_EDGES = tuple((f"{side}_eyebrow_{a}", f"{side}_eyebrow_{b}") for side in SIDES for a, b in (("outer", "middle"), ("middle", "inner")))
_EYE_EDGES = tuple((f"{side}_eye_outer", f"{side}_eye_inner") for side in SIDES)
_MOUTH_EDGES = tuple(
    (a.format(side), b.format(side)) for side in SIDES for a, b in (("mouth_{}", "mouth_upper_{}"), ("mouth_lower_{}", "mouth_{}"))
)

LAYOUTS = {
    "uniglor73": Layout(
        names=_BODY + _FACE + _HANDS["left"] + _HANDS["right"],
        parts={"body": slice(0, 8), "face": slice(8, 27), "left_hand": slice(27, 50), "right_hand": slice(50, 73)},
        edges=_BODY_EDGES + _WRIST_EDGES + _FINGER_EDGES + _BROW_EDGES + _EYE_EDGES + _MOUTH_EDGES
        + tuple((f"{side}_hand_{joint}", f"{side}_{joint}") for side in SIDES for joint in ("wrist", "elbow"))
        + tuple((f"{side}_{point}", "nose") for side in SIDES for point in ("eyebrow_inner", "eye_inner"))
        + (("mouth_upper_right", "nose"), ("mouth_upper_left", "nose"), ("lip_upper", "nose"))
        + (("lip_lower_right", "mouth_lower_right"), ("lip_lower_left", "mouth_lower_left")),
        drawn_edges=_BODY_EDGES + _WRIST_EDGES + _FINGER_EDGES + _BROW_EDGES + _EYE_EDGES + _MOUTH_EDGES
        + (("mouth_upper_right", "mouth_upper_left"), ("mouth_lower_right", "mouth_lower_left"))
        + (("lip_upper", "lip_lower_right"), ("lip_lower_right", "lip_lower_left"), ("lip_lower_left", "lip_upper")),
        mirror_pairs=tuple(
            (name, name.replace("left", "right")) for name in _BODY + _FACE + _HANDS["left"] if "left" in name
        ),
        copies={f"{side}_hand_{joint}": f"{side}_{joint}" for side in SIDES for joint in ("wrist", "elbow")},
        anchors={"nose": "neck", **{name: "nose" for name in _FACE}}
        | {f"{side}_{joint}": anchor.format(side) for side in SIDES
           for joint, anchor in (("shoulder", "neck"), ("elbow", "{}_shoulder"), ("wrist", "{}_elbow"))}
        | {name: f"{side}_wrist" for side in SIDES for name in _hand(side)},
        center="neck",
        scale=("right_shoulder", "left_shoulder"),
    ),
}  # fmt: skip

# --- Source layouts ---------------------------------------------------------------------------------------------------------------

_OPENPOSE_BODY: Points = {name: index for index, name in enumerate(_BODY)}  # BODY_25 and the older COCO body agree on points 0 to 7
_FACE_68: Points = {  # the 68 (OpenPose: 70) points of the iBUG markup; 17-21 is the signer's right eyebrow, from outside in
    "right_eyebrow_outer": 17, "right_eyebrow_middle": 19, "right_eyebrow_inner": 21,
    "left_eyebrow_inner": 22, "left_eyebrow_middle": 24, "left_eyebrow_outer": 26,
    "right_eye_outer": 36, "right_eye_inner": 39, "left_eye_inner": 42, "left_eye_outer": 45,
    "mouth_right": 48, "mouth_upper_right": 50, "mouth_upper_left": 52, "mouth_left": 54, "mouth_lower_left": 56, "mouth_lower_right": 58,
    "lip_upper": 62, "lip_lower_left": 65, "lip_lower_right": 67,
}  # fmt: skip
_MESH: Points = {  # the same places on MediaPipe's 468-point face mesh
    "right_eyebrow_outer": 70, "right_eyebrow_middle": 105, "right_eyebrow_inner": 107,
    "left_eyebrow_inner": 336, "left_eyebrow_middle": 334, "left_eyebrow_outer": 300,
    "right_eye_outer": 33, "right_eye_inner": 133, "left_eye_inner": 362, "left_eye_outer": 263,
    "mouth_right": 61, "mouth_upper_right": 37, "mouth_upper_left": 267,
    "mouth_left": 291, "mouth_lower_left": 314, "mouth_lower_right": 84,
    "lip_upper": 13, "lip_lower_left": 317, "lip_lower_right": 87,
}  # fmt: skip
# pose-format's reduced face: the mesh points of lips, eyes, eyebrows and face oval, in ascending order.
POSE178_MESH = (
    0, 7, 10, 13, 14, 17, 21, 33, 37, 39, 40, 46, 52, 53, 54, 55, 58, 61, 63, 65, 66, 67, 70, 78, 80, 81, 82, 84, 87, 88, 91, 93,
    95, 103, 105, 107, 109, 127, 132, 133, 136, 144, 145, 146, 148, 149, 150, 152, 153, 154, 155, 157, 158, 159, 160, 161, 162, 163,
    172, 173, 176, 178, 181, 185, 191, 234, 246, 249, 251, 263, 267, 269, 270, 276, 282, 283, 284, 285, 288, 291, 293, 295, 296, 297,
    300, 308, 310, 311, 312, 314, 317, 318, 321, 323, 324, 332, 334, 336, 338, 356, 361, 362, 365, 373, 374, 375, 377, 378, 379, 380,
    381, 382, 384, 385, 386, 387, 388, 389, 390, 397, 398, 400, 402, 405, 409, 415, 454, 466,
)  # fmt: skip
_MEDIAPIPE_BODY: Points = {
    "nose": 0, "neck": (11, 12), "left_shoulder": 11, "right_shoulder": 12,
    "left_elbow": 13, "right_elbow": 14, "left_wrist": 15, "right_wrist": 16,
}  # fmt: skip
_COCO_BODY: Points = {
    "nose": 0, "neck": (5, 6), "left_shoulder": 5, "right_shoulder": 6,
    "left_elbow": 7, "right_elbow": 8, "left_wrist": 9, "right_wrist": 10,
}  # fmt: skip
_HAND_TABLES: dict[str, Points] = {f"{side}_hand": {name: index for index, name in enumerate(_hand(side))} for side in SIDES}
_HAND_BLOCKS = (("left_hand", 21), ("right_hand", 21))

SOURCE_LAYOUTS = {
    # OpenPose BODY_25, face 70, hands; what `--write_json` holds. Undetected points are 0, 0 with confidence 0.
    "openpose137": SourceLayout(
        blocks={137: (("body", 25), ("face", 70)) + _HAND_BLOCKS},
        table={"body": _OPENPOSE_BODY, "face": _FACE_68, **_HAND_TABLES},
        missing="zero",
    ),
    # OpenPose's older 18-point body, with hands, or with face and hands, where they were estimated.
    "openpose18": SourceLayout(
        blocks={18: (("body", 18),), 60: (("body", 18),) + _HAND_BLOCKS, 130: (("body", 18), ("face", 70)) + _HAND_BLOCKS},
        table={"body": _OPENPOSE_BODY, "face": _FACE_68, **_HAND_TABLES},
        missing="zero",
    ),
    "openpose67": SourceLayout(
        blocks={67: (("body", 25),) + _HAND_BLOCKS},
        table={"body": _OPENPOSE_BODY, **_HAND_TABLES},
        missing="zero",
    ),
    # MediaPipe Holistic: pose, face mesh (468, or 478 with irises), hands; pose-format adds 33 world landmarks at the end.
    "mediapipe543": SourceLayout(
        blocks={
            33 + face + 42 + world: (("body", 33), ("face", face)) + _HAND_BLOCKS + ((("world", 33),) if world else ())
            for face in (468, 478)
            for world in (0, 33)
        },
        table={"body": _MEDIAPIPE_BODY, "face": _MESH, **_HAND_TABLES},
        missing="zero",
    ),  # fmt: skip
    "mediapipe75": SourceLayout(
        blocks={75: (("body", 33),) + _HAND_BLOCKS},
        table={"body": _MEDIAPIPE_BODY, **_HAND_TABLES},
        missing="nan",
    ),
    # pose-format's reduced Holistic: shoulders, elbows, wrists, hips; 128 mesh points; hands. It has no nose: two thirds of
    # the way from the inner eye corners to the upper lip stand for it, so that the point goes on carrying the head's place.
    "pose178": SourceLayout(
        blocks={178: (("body", 8), ("face", 128)) + _HAND_BLOCKS},
        table={
            "body": {
                "neck": (0, 1),
                "left_shoulder": 0,
                "right_shoulder": 1,
                "left_elbow": 2,
                "right_elbow": 3,
                "left_wrist": 4,
                "right_wrist": 5,
            },
            "face": {name: POSE178_MESH.index(index) for name, index in _MESH.items()}
            | {"nose": tuple(POSE178_MESH.index(index) for index in (133, 362, 0, 0, 0, 0))},
            **_HAND_TABLES,
        },
        missing="confidence",
    ),  # fmt: skip
    # COCO-WholeBody: RTMPose, MMPose, Uni-Sign.
    "wholebody133": SourceLayout(
        blocks={133: (("body", 17), ("feet", 6), ("face", 68)) + _HAND_BLOCKS},
        table={"body": _COCO_BODY, "face": _FACE_68, **_HAND_TABLES},
        missing="confidence",
    ),
    # The 3D skeletons of Progressive Transformers (.skels). Joints 2-4 are at the larger x, so they are the signer's left
    # arm, and the first hand hangs on joint 7. The neck is at the origin and real.
    "skels50": SourceLayout(
        blocks={50: (("body", 8), ("right_hand", 21), ("left_hand", 21))},
        table={
            "body": {
                "nose": 0,
                "neck": 1,
                "left_shoulder": 2,
                "left_elbow": 3,
                "left_wrist": 4,
                "right_shoulder": 5,
                "right_elbow": 6,
                "right_wrist": 7,
            },
            **_HAND_TABLES,
        },
        missing="nan",
        image=False,
    ),  # fmt: skip
} | {
    # Each of our own layouts is a source too: rows that were mapped before, and what the models generate.
    name: SourceLayout(
        blocks={len(layout.names): ((name, len(layout.names)),)},
        table={name: {point: index for index, point in enumerate(layout.names)}},
        missing="nan",
        image=False,
    )
    for name, layout in LAYOUTS.items()
}


def get_layout(name: str | None) -> Layout:
    """The `Layout` of that name, or `ValueError` with the names there are."""
    if not isinstance(name, str) or name not in LAYOUTS:
        raise ValueError(f"Unknown keypoint layout {short(name)}. Expected one of {sorted(LAYOUTS)}.")
    return LAYOUTS[name]


def get_source_layout(name: str | None) -> SourceLayout:
    """The `SourceLayout` of that name, or `ValueError` with the names there are."""
    if not isinstance(name, str) or name not in SOURCE_LAYOUTS:
        raise ValueError(f"Unknown keypoint layout {short(name)}. Expected one of {sorted(SOURCE_LAYOUTS)}.")
    return SOURCE_LAYOUTS[name]


def layout_hash(name: str) -> str:
    """Twelve hexadecimal digits that change when the layout's points, order or graph do."""
    layout = get_layout(name)
    facts = [layout.names, layout.edges, layout.copies, layout.anchors, layout.center, layout.scale]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]


def point_index(layout_name: str | None) -> dict[str, int]:
    """{point name: index} of a layout."""
    return {name: index for index, name in enumerate(get_layout(layout_name).names)}


def edge_indices(layout_name: str, drawn: bool = False) -> np.ndarray:
    """(E, 2) int array of (child, parent), or of the pairs that a picture joins."""
    layout, index = get_layout(layout_name), point_index(layout_name)
    return np.array([(index[a], index[b]) for a, b in (layout.drawn_edges if drawn else layout.edges)])


def mirror_permutation(layout_name: str) -> np.ndarray:
    """(K,) int array: point k of the mirrored skeleton is point `mirror_permutation[k]` of the original."""
    index = point_index(layout_name)
    permutation = np.arange(len(index))
    for left, right in get_layout(layout_name).mirror_pairs:
        permutation[index[left]], permutation[index[right]] = index[right], index[left]
    return permutation


def copy_pairs(layout_name: str | None) -> tuple[np.ndarray, np.ndarray]:
    """Index arrays (copies, originals) of the points that repeat another."""
    index = point_index(layout_name)
    copies = get_layout(layout_name).copies
    return np.array([index[name] for name in copies], int), np.array([index[name] for name in copies.values()], int)


def stand_ins(layout_name: str, present: np.ndarray) -> np.ndarray:
    """(K,) int array: each present point itself, each other one the nearest present point on its way along anchors to the centre.

    Args:
        present: (K,) bool.
    """
    layout, index = get_layout(layout_name), point_index(layout_name)
    chosen = []
    for name in layout.names:
        while not present[index[name]] and name != layout.center:
            name = layout.copies.get(name) or layout.anchors[name]
        chosen.append(index[name])
    return np.array(chosen)


def adjacency(layout_name: str) -> np.ndarray:
    """(3, K, K) float32: itself, inward, outward, each normalised by the number of neighbours (CTR-GCN, section 3.1).

    `adjacency[s, v, u]` is what point v takes from point u: from its child (inward), from its parent (outward).
    """
    num_points = len(get_layout(layout_name).names)
    graph = np.zeros((3, num_points, num_points), np.float32)
    graph[0] = np.eye(num_points)
    for child, parent in edge_indices(layout_name):
        graph[1, parent, child] = 1
        graph[2, child, parent] = 1
    return graph / np.maximum(graph.sum(2, keepdims=True), 1)


def paths_to_center(layout_name: str) -> np.ndarray:
    """(K, K) float32: 1 where point u is v itself or lies on v's way to the centre, so that `paths @ offsets` are positions.

    Its inverse takes positions to each point's offset from its parent (the centre's, from the origin).
    """
    parent = dict(edge_indices(layout_name).tolist())
    paths = np.eye(len(get_layout(layout_name).names), dtype=np.float32)
    for point in range(len(paths)):
        ancestor = point
        while ancestor in parent:
            ancestor = parent[ancestor]
            paths[point, ancestor] = 1
    return paths


def anchor_indices(layout_name: str) -> list[int]:
    """(K,) the point that each point hangs on, see `Layout.anchors`: of a copy, that of its original; of the centre, itself."""
    layout, index = get_layout(layout_name), point_index(layout_name)
    originals = [layout.copies.get(name, name) for name in layout.names]
    return [index[layout.anchors.get(name, layout.center)] for name in originals]


def source_table(source_name: str, num_points: int, target_name: str) -> list[tuple[int, ...]]:
    """Where each point of a target layout is among a source's points.

    Args:
        source_name: a key of `SOURCE_LAYOUTS`.
        num_points: how many points the array has (some sources come in several sizes).
        target_name: a key of `LAYOUTS`.

    Returns:
        list of K tuples of source indices whose mean the point is; an empty tuple where the source has no such point.
    """
    source = get_source_layout(source_name)
    if num_points not in source.blocks:
        raise ValueError(f"Layout {source_name!r} has {' or '.join(map(str, source.blocks))} keypoints, found {num_points}.")
    indices_of: dict[str, tuple[int, ...]] = {}
    start = 0
    for block, size in source.blocks[num_points]:
        for name, indices in source.table.get(block, {}).items():
            of_block = indices if isinstance(indices, tuple) else (indices,)
            indices_of[name] = tuple(start + index for index in of_block)
        start += size
    target = get_layout(target_name)
    return [indices_of.get(target.copies.get(name, name), ()) for name in target.names]
