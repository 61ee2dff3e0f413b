"""The canonical row: what every builder yields and every script reads.

A row is one clip: `id`; `keypoints` (T, K, C) and `confidence` (T, K), in source units and in the source's layout or already in the
model's; `layout`, the name of that layout; `fps`, frames per second; `width` and `height` of the image in pixels; `text`, `gloss`,
`label` and `signer` where the corpus has them; `language`, the sign language's ISO 639-3 code. A point is present where its
confidence is above 0.

Shapes: T frames of a clip, K keypoints of its layout, C channels (x, y or x, y, z).
"""

import numbers
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from modeling_unigloR.keypoints_uniglor import get_source_layout
from modeling_unigloR.limits_uniglor import (
    MAX_CLIP_COORDINATES,
    MAX_CLIP_FRAMES,
    MAX_FPS,
    MAX_IMAGE_SIDE,
    MAX_LABELS,
    MIN_FPS,
    is_number,
    short,
)

if TYPE_CHECKING:
    import datasets

Row = dict[str, Any]

COLUMNS = (
    "id", "keypoints", "confidence", "layout", "fps", "width", "height", "text", "gloss", "label", "signer", "language",
)  # fmt: skip
STRINGS = ("text", "gloss", "signer")  # or None
COUNTS = ("width", "height")  # ints above 0, or None


def features(num_keypoints: int, num_channels: int) -> "datasets.Features":
    """The features of rows with K = `num_keypoints` and C = `num_channels`; T differs from row to row."""
    import datasets  # takes a second, which a command that only reads does not need

    return datasets.Features(
        {
            "id": datasets.Value("string"),
            "keypoints": datasets.Array3D((None, num_keypoints, num_channels), "float32"),
            "confidence": datasets.Array2D((None, num_keypoints), "float32"),
            "layout": datasets.Value("string"),
            "fps": datasets.Value("float32"),
            "width": datasets.Value("int32"),
            "height": datasets.Value("int32"),
            "text": datasets.Value("string"),
            "gloss": datasets.Value("string"),
            "label": datasets.Value("int64"),
            "signer": datasets.Value("string"),
            "language": datasets.Value("string"),
        }
    )


def __getattr__(name: str) -> Any:
    """FEATURES, of rows in `uniglor73` with x and y: made where it is asked for, so that `datasets` is imported only then."""
    if name == "FEATURES":
        return features(73, 2)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def check_row(row: Row) -> Row:
    """Returns the row, or raises a `ValueError` that says which row, what it has and what is expected."""

    def expect(truth: object, fact: str, expected: str) -> None:
        if not truth:
            raise ValueError(f"Row {row.get('id')!r}: found {fact}, expected {expected}.")

    if not isinstance(row, dict):
        raise ValueError(f"Found {short(row)}, expected a row: a dict with the columns {sorted(COLUMNS)}.")
    expect(set(row) == set(COLUMNS), f"columns {sorted(map(str, row))}", f"{sorted(COLUMNS)}")
    for key in ("id", "layout", "language"):
        expect(isinstance(row[key], str) and row[key], f"{key}={short(row[key])}", "a string that is not empty")
    for key in ("id", *STRINGS):
        expect(row[key] is None or isinstance(row[key], str), f"{key}={short(row[key])}", "a string, or None")
        expect(
            row[key] is None or _is_text(row[key]), f"{key}={short(row[key])}", "letters that UTF-8 can hold: no half of a surrogate pair"
        )
    expect(re.fullmatch("[a-z]{3}", row["language"]), f"language={row['language']!r}", "an ISO 639-3 code: three letters, lower-case")
    sizes = sorted(get_source_layout(row["layout"]).blocks)

    try:
        keypoints, confidence = np.asarray(row["keypoints"]), np.asarray(row["confidence"])
    except Exception as error:  # ragged lists, and whatever an unknown object raises
        raise ValueError(f"Row {row['id']!r}: keypoints and confidence must be arrays ({error}).") from error
    shape = keypoints.shape
    expect(
        len(shape) == 3 and shape[0] > 0 and shape[1] in sizes and shape[2] in (2, 3),
        f"keypoints of shape {shape}",
        f"(T, K, C) with T > 0, K of {' or '.join(map(str, sizes))} ({row['layout']}) and C of 2 or 3",
    )
    kinds = keypoints.dtype.kind + confidence.dtype.kind
    expect(set(kinds) <= set("fiub"), f"arrays of {keypoints.dtype} and {confidence.dtype}", "numbers")
    expect(
        shape[0] <= MAX_CLIP_FRAMES and keypoints.size <= MAX_CLIP_COORDINATES,
        f"{shape[0]:,} frames with {keypoints.size:,} coordinates",
        f"at most {MAX_CLIP_FRAMES:,} and {MAX_CLIP_COORDINATES:,}",
    )
    expect(confidence.shape == shape[:2], f"confidence of shape {confidence.shape}", f"{shape[:2]}, as the keypoints have")
    expect((confidence >= 0).all() and np.isfinite(confidence).all(), "a confidence that is negative or not finite", "0 or above")
    with np.errstate(over="ignore"):  # rows are float32
        finite = np.isfinite(keypoints[confidence > 0].astype(np.float32, copy=False)).all()
    expect(finite, "a present keypoint that is not finite", "numbers where confidence is above 0")

    fps = row["fps"]
    expected = f"a number above 0, from {MIN_FPS:g} to {MAX_FPS:g} frames a second, or None"
    expect(fps is None or is_number(fps, MIN_FPS, MAX_FPS), f"fps={short(fps)}", expected)
    for key in COUNTS:
        positive = isinstance(row[key], numbers.Integral) and is_number(row[key], 1, MAX_IMAGE_SIDE)
        expect(positive or row[key] is None, f"{key}={short(row[key])}", f"an int above 0, at most {MAX_IMAGE_SIDE:,}, or None")
    label = row["label"]
    numbered = isinstance(label, numbers.Integral) and is_number(label, 0, MAX_LABELS - 1)
    expect(numbered or label is None, f"label={short(label)}", f"an int, from 0 to {MAX_LABELS - 1:,}, or None")
    return row


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
