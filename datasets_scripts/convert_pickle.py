"""Pickles in which some corpora come, to Parquet, without running what a pickle could run.

    python -m datasets_scripts.convert_pickle FILE_OR_FOLDER ... --output_dir converted [--width 1920 --height 1080] [--language csl]

What it reads: plain or gzip-compressed pickles of dict, list, tuple, set, str, numbers, NumPy arrays and torch tensors, also as
torch.save writes them. Any other class or function that a pickle names is refused by its name. Nothing that a pickle names is
imported or called: its opcodes are interpreted in a process of their own, which has no rights, and arrays are copied from bytes.

- one clip a file: a dict with keypoints and scores (Uni-Sign's poses; its coordinates are relative: give --width and --height);
- {id: such a dict}, or a list of dicts with a name: one row each, canonical where there are keypoints;
- a list of dicts with name, signer, gloss and text but no keypoints (the annotations of the slt code): a table of annotations, with
  num_frames from the length of the features `sign`, which are left out.
"""

import argparse
import array
import functools
import importlib.util
import json
import math
import os
import subprocess
import sys
import warnings
from pathlib import Path

import datasets
import numpy as np

from modeling_unigloR.keypoint_readers_uniglor import KEYPOINT_KEYS, clip_from_arrays
from modeling_unigloR.limits_uniglor import (
    MAX_ARCHIVE_BYTES,
    MAX_ARCHIVE_MEMBERS,
    MAX_PICKLE_BYTES,
    MAX_PICKLE_DEPTH,
    MAX_PICKLE_MEMORY,
    MAX_PICKLE_OPCODES,
    MAX_PICKLE_RATIO,
    MAX_PICKLE_SECONDS,
)

from .extract import FILE, write_parquet
from .pickle_machine import ITEM_SIZES, extent
from .schema import check_row, features

SUFFIXES = (".pkl", ".pickle", ".gzip", ".gz", ".train", ".dev", ".test")  # the slt code names a file after its split
NAME_KEYS = ("id", "name", "video_name", "video_id")
ANNOTATIONS = datasets.Features(
    {key: datasets.Value("string") for key in ("id", "text", "gloss", "signer", "language")} | {"num_frames": datasets.Value("int32")}
)


# --- Unpickling ---------------------------------------------------------------------------------------------------------------------


class PickleReader:
    """Reads pickles by a process of its own (`pickle_machine`), which interprets them without files, other processes or environment.

    with PickleReader() as reader:
        content = reader.read("poses.pkl")  # also gzip-compressed, and both formats of torch.save

    What comes back is checked again here, as if it came from a stranger: a JSON description and plain bytes, no pickle.
    """

    def __init__(self):
        self._process = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._process is not None:
            self._process.kill()
            self._process.communicate()  # closes the pipes
            self._process = None

    def read(self, path):
        """The content of a pickle in dicts, lists, tuples, sets, strings, numbers and NumPy arrays.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: not a whole pickle, one that names anything else, which the message says, or one above a limit.
        """
        path = Path(path)
        try:
            if path.exists() and not path.is_file():
                raise ValueError("it is no regular file")
            with open(path, "rb") as file:
                size = os.fstat(file.fileno()).st_size
                if size > MAX_PICKLE_BYTES:
                    raise ValueError(f"it has {size} bytes, and at most {MAX_PICKLE_BYTES} are read")
                self._start()
                self._send(file, size)
            return _Content(self._process.stdout).receive()
        except FileNotFoundError:
            raise
        except EOFError as error:
            code = self._process.wait()
            self.__exit__()
            raise ValueError(
                f"{path}: cannot be unpickled: the process that reads it ended ({code}). One pickle may take {MAX_PICKLE_SECONDS:.0f} s "
                f"of CPU time and {MAX_PICKLE_MEMORY >> 30} GiB of memory; a larger one has to be cut into several."
            ) from error
        except Exception as error:  # a broken pickle fails in whatever it was about to make
            self.__exit__()  # half of its content may stand in the pipe
            raise ValueError(f"{path}: cannot be unpickled: {error or type(error).__name__}.") from error

    def _start(self):
        if self._process is not None:
            return
        if importlib.util.find_spec("resource") is None:
            warnings.warn(
                "This system has no `resource` module: pickles are interpreted as everywhere, but without bounds of memory and CPU time.",
                stacklevel=4,
            )
        limits = dict(
            opcodes=MAX_PICKLE_OPCODES, bytes=MAX_PICKLE_BYTES, unpacked=MAX_ARCHIVE_BYTES, ratio=MAX_PICKLE_RATIO,
            members=MAX_ARCHIVE_MEMBERS, memory=MAX_PICKLE_MEMORY, seconds=MAX_PICKLE_SECONDS,
        )  # fmt: skip
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(Path(__file__).with_name("pickle_machine.py")), json.dumps(limits)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=os.path.abspath(os.sep),
            env={name: os.environ[name] for name in ("LD_LIBRARY_PATH", "SYSTEMROOT") if name in os.environ},  # no tokens
        )

    def _send(self, file, size):
        try:
            self._process.stdin.write(size.to_bytes(8, "little"))
            while size:
                block = file.read(min(size, 1 << 20))
                if not block:
                    raise ValueError("it was shortened while it was read")
                self._process.stdin.write(block)
                size -= len(block)
            self._process.stdin.flush()
        except (BrokenPipeError, OSError):
            pass  # it refused the file before its end, and has said why


class _Content:
    """What `pickle_machine.send` wrote, put together: objects are made of what came before, so nothing contains itself."""

    def __init__(self, file):
        self.file, self.left = file, MAX_PICKLE_BYTES
        self.objects, self.sizes, self.depths = [], [], []  # sizes as if nothing were shared

    def receive(self):
        while True:
            kind, content = self.frame()
            if kind == b"N":
                for head in json.loads(content):
                    self.add(*head)
            elif kind == b"R":
                return self.value(json.loads(content))
            else:
                raise ValueError(content.decode("utf-8"))

    def frame(self):
        head = self.file.read(9)
        if len(head) < 9:
            raise EOFError
        return head[:1], self.blob(int.from_bytes(head[1:], "little"))

    def blob(self, size):
        self.spend(size)
        content = bytearray(size)
        if self.file.readinto(content) < size:
            raise EOFError
        return content

    def spend(self, size):
        self.left -= size
        if self.left < 0:
            raise ValueError(f"more than {MAX_PICKLE_BYTES} bytes come out of it")

    def value(self, item):
        return self.objects[item[0]] if type(item) is list else item

    def add(self, kind, *about):
        made = getattr(self, f"make_{kind}")(*about)
        if len(self.objects) == len(self.sizes):  # nothing inside
            self.sizes.append(made.nbytes if isinstance(made, np.ndarray) else 16 * len(made) if hasattr(made, "__len__") else 64)
            self.depths.append(0)
        self.objects.append(made)

    def inside(self, items):
        """The values of a container, within the limits."""
        numbers = [item[0] for item in items if type(item) is list]
        size = 64 + 16 * len(items) + sum(self.sizes[number] for number in numbers)
        depth = 1 + max((self.depths[number] for number in numbers), default=0)
        if size > MAX_PICKLE_BYTES:
            raise ValueError(f"more than {MAX_PICKLE_BYTES} bytes come out of it")
        if depth > MAX_PICKLE_DEPTH:
            raise ValueError(f"more than {MAX_PICKLE_DEPTH} lists or dicts within each other")
        self.sizes.append(size)
        self.depths.append(depth)
        return list(map(self.value, items))

    make_list = inside

    def make_tuple(self, items):
        return tuple(self.inside(items))

    def make_set(self, items):
        return set(_with_spread_hashes(self.inside(items)))

    def make_frozenset(self, items):
        return frozenset(_with_spread_hashes(self.inside(items)))

    def make_dict(self, items):
        values = self.inside(items)
        return dict(zip(_with_spread_hashes(values[::2]), values[1::2]))

    def make_complex(self, parts):
        return complex(*parts)

    def make_str(self, text):
        return text

    def make_floats(self, size):
        return array.array("d", bytes(self.blob(size))).tolist()

    def make_bytes(self, size):
        return bytes(self.blob(size))

    make_bytearray = blob

    def make_scalar(self, size, dtype):
        content = self.blob(size)
        return _array(content, dtype, (), None)[()] if content else _known_dtype(dtype).type()

    def make_array(self, size, dtype, shape, strides):
        made = _array(self.blob(size), dtype, shape, strides)
        self.spend(made.nbytes if strides else 0)  # a tensor may repeat its numbers
        return made

    def make_objects(self, shape, items):
        values = self.inside(items)
        made = np.empty(len(values), object)
        for number, value in enumerate(values):
            made[number] = value
        return made.reshape(shape)


def _with_spread_hashes(keys):
    """Keys; those chosen to collide would take time by the square of their number."""
    if len(set(map(hash, keys))) < len(keys) - 100:
        raise ValueError("the keys of a dict or set are equal or collide")
    return keys


@functools.lru_cache(1000)
def _known_dtype(text):
    kind = text[1:]
    if text[0] not in "<>|" or (kind not in ITEM_SIZES and not (kind[0] in "SU" and kind[1:].isascii() and kind[1:].isdigit())):
        raise ValueError(f"it has the dtype {text!r}")
    return np.dtype(text)


def _array(content, dtype, shape, strides):
    """An array of copied bytes: `dtype` is one of the machine's list, `strides` (in items) stay within the content."""
    dtype = _known_dtype(dtype)
    content = np.frombuffer(content, dtype) if content else np.zeros(0, dtype)
    if content.dtype.kind == "b":
        content = content.view(np.uint8) != 0
    if content.dtype.kind == "U" and content.size and content.view(dtype.str[0] + "u4").max() > sys.maxunicode:
        raise ValueError("it has a string of letters that do not exist")
    if strides is None:
        return content.reshape(shape)
    if math.prod(shape) * content.itemsize > MAX_PICKLE_BYTES:
        raise ValueError(f"more than {MAX_PICKLE_BYTES} bytes come out of it")
    if min(*shape, *strides) < 0 or extent(shape, strides) > content.size:
        raise ValueError(f"an array of shape {shape} and strides {strides} of {content.size} numbers")
    return np.lib.stride_tricks.as_strided(content, shape, [stride * content.itemsize for stride in strides]).copy(order="K")


def load_plain_pickle(path):
    """The content of one pickle: see `PickleReader.read`."""
    with PickleReader() as reader:
        return reader.read(path)


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
    with PickleReader() as reader:
        return _convert(reader.read, paths, output_path, language, **given)


def _convert(read, paths, output_path, language, **given):
    first = records(read(paths[0]), paths[0].stem)
    with_keypoints = any(key in first[0][1] for key in KEYPOINT_KEYS)

    def rows():
        seen = {}
        for path in paths:
            for name, record in first if path is paths[0] else records(read(path), path.stem):
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
