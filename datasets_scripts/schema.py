"""The canonical row: what every builder yields and every script reads.

A row is one clip: `id`; `keypoints` (T, K, C) and `confidence` (T, K), in source units and in the source's layout or already in the
model's; `layout`, the name of that layout; `fps`, frames a second; `width` and `height` of the image in pixels; `text`, `gloss`,
`label` and `signer` where the corpus has them; `language`, the sign language's ISO 639-3 code. A point is present where its
confidence is above 0.

Shapes: T frames of a clip, K keypoints of its layout, C channels (x, y or x, y, z).
"""

import math
import numbers
import re

import datasets
import numpy as np

from modeling_unigloR.keypoints_uniglor import get_source_layout

STRINGS = ("text", "gloss", "signer")  # or None
COUNTS = ("width", "height")  # ints above 0, or None


def features(num_keypoints, num_channels):
    """`datasets.Features` of rows with K = `num_keypoints` and C = `num_channels`; T is free, row by row."""
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


FEATURES = features(73, 2)  # rows in `uniglor73` with x and y, such as the fingerspelling corpus yields


def check_row(row):
    """Returns the row, or raises `ValueError` that says which row, what was found and what was expected."""

    def expect(truth, found, expected):
        if not truth:
            raise ValueError(f"Row {row.get('id')!r}: found {found}, expected {expected}.")

    expect(set(row) == set(FEATURES), f"columns {sorted(row)}", f"{sorted(FEATURES)}")
    for key in ("id", "layout", "language"):
        expect(isinstance(row[key], str) and row[key], f"{key}={row[key]!r}", "a string that is not empty")
    expect(re.fullmatch("[a-z]{3}", row["language"]), f"language={row['language']!r}", "an ISO 639-3 code: three letters, lower-case")
    sizes = sorted(get_source_layout(row["layout"]).blocks)

    keypoints, confidence = np.asarray(row["keypoints"]), np.asarray(row["confidence"])
    shape = keypoints.shape
    expect(
        len(shape) == 3 and shape[0] > 0 and shape[1] in sizes and shape[2] in (2, 3),
        f"keypoints of shape {shape}",
        f"(T, K, C) with T > 0, K of {' or '.join(map(str, sizes))} ({row['layout']}) and C of 2 or 3",
    )
    expect(confidence.shape == shape[:2], f"confidence of shape {confidence.shape}", f"{shape[:2]}, as the keypoints have")
    expect((confidence >= 0).all() and np.isfinite(confidence).all(), "a confidence that is negative or not finite", "0 or above")
    expect(np.isfinite(keypoints[confidence > 0]).all(), "a present keypoint that is not finite", "numbers where confidence is above 0")

    fps = row["fps"]
    expect(fps is None or (isinstance(fps, numbers.Real) and math.isfinite(fps) and fps > 0), f"fps={fps!r}", "a number above 0, or None")
    for key in COUNTS:
        positive = isinstance(row[key], numbers.Integral) and row[key] > 0
        expect(positive or row[key] is None, f"{key}={row[key]!r}", "an int above 0, or None")
    for key in STRINGS:
        expect(row[key] is None or isinstance(row[key], str), f"{key}={row[key]!r}", "a string, or None")
    expect(row["label"] is None or isinstance(row["label"], numbers.Integral), f"label={row['label']!r}", "an int, or None")
    return row
