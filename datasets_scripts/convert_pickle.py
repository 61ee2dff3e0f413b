"""Pickles in which some corpora come, to Parquet, without running what a pickle could run.

    python -m datasets_scripts.convert_pickle FILE_OR_FOLDER ... --output_dir converted [--width 1920 --height 1080] [--language csl]

What it reads: plain or gzip-compressed pickles of dict, list, tuple, set, str, numbers, NumPy arrays and torch tensors. Any other
class or function that a pickle names is refused by its name; nothing of it runs.

- one clip a file: a dict with keypoints and scores (Uni-Sign's poses; its coordinates are relative: give --width and --height);
- {id: such a dict}, or a list of dicts with a name: one row each, canonical where there are keypoints;
- a list of dicts with name, signer, gloss and text but no keypoints (the annotations of the slt code): a table of annotations, with
  num_frames from the length of the features `sign`, which are left out.
"""

import argparse
import gzip
import io
import pickle
from pathlib import Path

import datasets
import numpy as np

from modeling_unigloR.keypoint_readers_uniglor import KEYPOINT_KEYS, clip_from_arrays

from .extract import FILE, write_parquet
from .schema import check_row, features

SUFFIXES = (".pkl", ".pickle", ".gzip", ".gz", ".train", ".dev", ".test")  # the slt code names a file after its split
NAME_KEYS = ("id", "name", "video_name", "video_id")
ANNOTATIONS = datasets.Features(
    {key: datasets.Value("string") for key in ("id", "text", "gloss", "signer", "language")} | {"num_frames": datasets.Value("int32")}
)


# --- Unpickling ---------------------------------------------------------------------------------------------------------------------


def _latin1(text, encoding):
    """Bytes, as pickles of protocol 2 spell them."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes in encoding {encoding!r}, expected latin1")
    return text.encode("latin1")


def _storage(content):
    """A tensor's numbers: torch's own function here would unpickle whatever is inside."""
    import torch

    return torch.load(io.BytesIO(content), weights_only=True)


def _tensor(storage, offset, size, stride, *rest):
    """A tensor as a NumPy array; gradients and hooks are not wanted."""
    import torch

    return torch._utils._rebuild_tensor_v2(storage, offset, size, stride, False, {}).numpy()


def _numpy_globals():
    """NumPy's names for making arrays, as versions 1 and 2 write them."""
    multiarray = np.ndarray.__reduce__(np.zeros(0))[0], np.float64(0).__reduce__()[0]  # _reconstruct, scalar
    frombuffer = np.zeros(1).__reduce_ex__(5)[0]
    return {
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        **{(f"numpy.{core}.multiarray", made.__name__): made for core in ("core", "_core") for made in multiarray},
        **{(f"numpy.{core}.numeric", "_frombuffer"): frombuffer for core in ("core", "_core")},
    }


GLOBALS = {
    **{("builtins", kind.__name__): kind for kind in (dict, list, tuple, set, frozenset, str, int, float, bool, complex, bytes, bytearray)},
    ("collections", "OrderedDict"): dict,
    ("_codecs", "encode"): _latin1,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch.storage", "_load_from_bytes"): _storage,
    **_numpy_globals(),
}


class PlainUnpickler(pickle.Unpickler):
    """Loads containers, numbers, arrays and tensors; refuses every other name before anything of it runs."""

    def find_class(self, module, name):
        module = "builtins" if module == "__builtin__" else module  # Python 2
        if (module, name) not in GLOBALS:
            raise pickle.UnpicklingError(
                f"it names {module}.{name}, which is refused: expected dict, list, tuple, set, str, numbers, NumPy arrays, torch tensors"
            )
        return GLOBALS[module, name]


def load_plain_pickle(path):
    """The content of a pickle, plain or gzip-compressed, made of nothing but `GLOBALS`; tensors become NumPy arrays.

    Raises:
        ValueError: not a whole pickle, or one that names anything else, which the message says.
    """
    try:
        with open(path, "rb") as file:
            compressed = file.read(2) == b"\x1f\x8b"
        with gzip.open(path) if compressed else open(path, "rb") as file:
            return PlainUnpickler(file).load()
    except FileNotFoundError:
        raise
    except Exception as error:  # a broken pickle fails in whatever it was about to make
        raise ValueError(f"{path}: cannot be unpickled: {error or type(error).__name__}.") from error


# --- Rows ---------------------------------------------------------------------------------------------------------------------------


def records(content, name):
    """[(id, dict)] of what a pickle held: one dict of a clip, dicts by id, or a list of dicts with a name."""
    if isinstance(content, dict) and any(key in content for key in KEYPOINT_KEYS):
        return [(_name_of(content) or name, content)]
    if isinstance(content, dict) and content and all(isinstance(value, dict) for value in content.values()):
        return [(str(key), value) for key, value in content.items()]
    if isinstance(content, (list, tuple)) and content and all(isinstance(value, dict) for value in content):
        return [(_name_of(value) or f"{name}-{number}", value) for number, value in enumerate(content)]
    kind = f"{type(content).__name__} of {len(content)}" if hasattr(content, "__len__") else type(content).__name__
    raise ValueError(f"{name}: found a {kind}, expected a dict with keypoints, dicts by id, or a list of dicts.")


def _name_of(record):
    return next((str(record[key]) for key in NAME_KEYS if record.get(key) is not None), None)


def keypoint_row(name, record, language="und", **given):
    """A canonical row of a dict that holds keypoints; `given` are layout, width, height and fps of `clip_from_arrays`."""
    clip = clip_from_arrays(record, name=name, **given)
    label = record.get("label")
    return check_row(clip.row(name, language, **_strings(record), label=None if label is None else int(label)))


def annotation_row(name, record, language="und"):
    """A row of `ANNOTATIONS` of a dict without keypoints."""
    num_frames = record.get("num_frames", len(record["sign"]) if hasattr(record.get("sign"), "__len__") else None)
    return dict(id=name, language=language, num_frames=None if num_frames is None else int(num_frames), **_strings(record))


def _strings(record):
    values = {key: record.get(key) for key in ("text", "gloss", "signer")}
    return {
        key: None if value is None else " ".join(map(str, value)) if isinstance(value, list) else str(value).strip()
        for key, value in values.items()
    }


def convert(paths, output_path, language="und", **given):
    """Writes all records of the pickles as one Parquet file of canonical rows, or of annotations; returns the number of rows."""
    first = records(load_plain_pickle(paths[0]), paths[0].stem)
    with_keypoints = any(key in first[0][1] for key in KEYPOINT_KEYS)

    def rows():
        seen = {}
        for path in paths:
            for name, record in first if path is paths[0] else records(load_plain_pickle(path), path.stem):
                if name in seen:
                    raise ValueError(f"{path}: {name!r} is in {seen[name]} too. Expected each id once.")
                seen[name] = path
                yield keypoint_row(name, record, language, **given) if with_keypoints else annotation_row(name, record, language)

    if not with_keypoints:
        return write_parquet(rows(), ANNOTATIONS, output_path)
    return write_parquet(rows(), features(*np.shape(keypoint_row(*first[0], language, **given)["keypoints"])[1:]), output_path)


def parse(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help=f"pickles, or folders of them ({', '.join(SUFFIXES)})")
    parser.add_argument("--output_dir", required=True, type=Path, help="read it back with datasets.load_dataset(output_dir)")
    parser.add_argument("--language", default="und", metavar="CODE", help="ISO 639-3 code of the sign language; by default undetermined")
    parser.add_argument("--layout", help="where the keypoints' shape leaves it open")
    parser.add_argument("--width", type=int, help="of the image in pixels, where coordinates are relative to it")
    parser.add_argument("--height", type=int)
    parser.add_argument("--fps", type=float, help="frames a second, where the files do not say")
    return parser.parse_args(argv)


def main(argv=None):
    arguments = vars(parse(argv))
    output_path = arguments.pop("output_dir") / FILE
    paths = []
    for path in arguments.pop("files"):
        paths += sorted(inner for inner in path.rglob("*") if inner.suffix in SUFFIXES) if path.is_dir() else [path]
    if not paths:
        raise ValueError(f"Found no pickle ({', '.join(SUFFIXES)}).")
    num_rows = convert(paths, output_path, **arguments)
    print(f"{output_path}: {num_rows} rows")


if __name__ == "__main__":
    main()
