"""Rows out of Arrow in batches: a clip's arrays are views of the buffer, where `datasets` would make each of them anew."""

from collections.abc import Iterator

import datasets
import numpy as np
import pyarrow

ARRAYS = {"keypoints": datasets.Array3D, "confidence": datasets.Array2D}
BATCH = 100  # rows; 32 MB of 116 frames of OpenPose's points


def iterate_rows(rows: datasets.Dataset) -> Iterator[dict]:
    """Yields the rows of a data set with arrays as numpy has them, and all else as Python has it.

    Rows of other features than those of `datasets_scripts.schema` come through `datasets`' own numpy format, in which a null is NaN.
    """
    features = rows.features
    if all(isinstance(features.get(name), kind) and features[name].dtype == "float32" for name, kind in ARRAYS.items()):
        for table in rows.with_format("arrow").iter(BATCH):
            arrays = {name: _arrays(table[name]) for name in ARRAYS}
            for place, row in enumerate(table.drop_columns(list(ARRAYS)).to_pylist()):
                yield row | {name: values[place] for name, values in arrays.items()}
    else:
        yield from rows.with_format("numpy")


def _arrays(column: pyarrow.ChunkedArray) -> list[np.ndarray | None]:
    """A (T, ...) float32 array of each row, of lists in lists whose first length alone differs from row to row; None of a null."""
    values = column.combine_chunks()
    values = values.storage if isinstance(values, pyarrow.ExtensionArray) else values
    lengths = np.asarray(values.value_lengths().fill_null(0))
    is_null, shape = np.asarray(values.is_null()), []
    values = values.flatten()
    while pyarrow.types.is_list(values.type):
        inner = values.value_lengths()
        shape.append(inner[0].as_py() if len(inner) else 0)
        if inner.null_count or (np.asarray(inner) != shape[-1]).any():
            raise ValueError(f"Found points of several lengths in column {column.type}, expected {shape[-1]}: the rows are damaged.")
        values = values.flatten()
    flat = values.to_numpy(zero_copy_only=False).reshape(-1, *shape)
    stops = np.cumsum(lengths)
    return [None if null else flat[stop - length : stop] for null, length, stop in zip(is_null, lengths, stops)]
