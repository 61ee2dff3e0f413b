"""Converts pickles, in which some corpora come, to Parquet, without running the code that a pickle may contain.

    python -m datasets_scripts.convert_pickle FILE_OR_FOLDER ... --output_dir converted [--width 1920 --height 1080] [--language csl]

It reads plain or gzip-compressed pickles of dict, list, tuple, set, str, numbers, NumPy arrays and torch tensors, also as torch.save
writes them. A pickle that names any other class or function is refused. Nothing that a pickle names is imported or called: its
opcodes are interpreted in a process of their own, which has no rights, and arrays are copied from bytes.

- a clip per file: a dict with keypoints and scores (Uni-Sign's poses; their coordinates are relative: pass --width and --height);
- {id: such a dict}, or a list of dicts with a name: one row each, canonical if there are keypoints;
- a list of dicts with name, signer, gloss and text but no keypoints (the annotations of the slt code): a table of annotations, with
  num_frames from the length of the features `sign`, which are left out.
"""

# ruff: noqa: E402 (--help and mistakes are answered before the imports that take seconds)

import argparse
from pathlib import Path

from .commands import FILE, CommandParser, check_new, existing_path, language_code, output_folder, parse_early, print_written, run_command

SUFFIXES = (".pkl", ".pickle", ".gzip", ".gz", ".train", ".dev", ".test")  # the slt code names a file after its split


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = CommandParser(__doc__, prog="python -m datasets_scripts.convert_pickle")
    suffixes = ", ".join(SUFFIXES)
    parser.add_argument("files", nargs="+", metavar="FILE", help=f"pickles, or folders of them ({suffixes})")
    parser.add_argument("--output_dir", required=True, help="datasets.load_dataset(output_dir) reads the rows")
    parser.add_argument(
        "--language", default="und", type=language_code, metavar="CODE", help="ISO 639-3 code of the sign language (default und, unknown)"
    )
    parser.add_argument("--layout", help="layout of the keypoints, where their shape leaves it open")
    parser.add_argument("--width", type=int, help="of the image in pixels, where coordinates are relative to it")
    parser.add_argument("--height", type=int)
    parser.add_argument("--fps", type=float, help="frames per second, where the files do not say")
    return parser.parse_args(argv)


def checked(argv: list[str] | None = None) -> argparse.Namespace:
    """The arguments of a command line, after a look at its files and folders."""
    arguments = parse(argv)
    arguments.files = [existing_path(path, "file") for path in arguments.files]
    arguments.output_dir = output_folder(arguments.output_dir)
    check_new(arguments.output_dir / FILE)
    return arguments


if __name__ == "__main__":
    parse_early(checked)

import array
import functools
import importlib.util
import json
import math
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any

import datasets
import numpy as np
import pyarrow.parquet
from tqdm import tqdm

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

from .extract import write_parquet
from .pickle_machine import ITEM_SIZES, extent
from .schema import Row, check_row, features

NAME_KEYS = ("id", "name", "video_name", "video_id")
ANNOTATIONS = datasets.Features(
    {key: datasets.Value("string") for key in ("id", "text", "gloss", "signer", "language")} | {"num_frames": datasets.Value("int32")}
)


# --- Unpickling ---------------------------------------------------------------------------------------------------------------------


class PickleReader:
    """Reads pickles in a process of its own (`pickle_machine`), which has no access to files, other processes or the environment.

    with PickleReader() as reader:
        content = reader.read("poses.pkl")  # also gzip-compressed, and both formats of torch.save

    That process answers with a JSON description and plain bytes, which are checked here again.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "PickleReader":
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()  # closes the pipes
            self._process = None

    def read(self, path: str | Path) -> Any:
        """The content of a pickle in dicts, lists, tuples, sets, strings, numbers and NumPy arrays.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is no whole pickle, names any other class or function, or exceeds a limit.
        """
        path = Path(path)
        try:
            if path.exists() and not path.is_file():
                raise ValueError("it is no regular file")
            with open(path, "rb") as file:
                size = os.fstat(file.fileno()).st_size
                if size > MAX_PICKLE_BYTES:
                    raise ValueError(f"it has {size} bytes, and at most {MAX_PICKLE_BYTES} are read")
                process = self._start()
                self._send(file, size, process)
            return _Content(process.stdout).receive()
        except FileNotFoundError:
            raise
        except EOFError as error:
            code = process.wait()
            self.__exit__()
            raise ValueError(
                f"{path}: cannot be unpickled: the process that reads it ended ({code}). One pickle may take {MAX_PICKLE_SECONDS:.0f} s "
                f"of CPU time and {MAX_PICKLE_MEMORY >> 30} GiB of memory; a larger one has to be cut into several."
            ) from error
        except Exception as error:  # a broken pickle can fail at any step
            self.__exit__()  # the pipe may hold half of its content
            raise ValueError(f"{path}: cannot be unpickled: {error or type(error).__name__}.") from error

    def _start(self) -> "subprocess.Popen[bytes]":
        if self._process is not None:
            return self._process
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
        return self._process

    @staticmethod
    def _send(file: IO[bytes], size: int, process: "subprocess.Popen[bytes]") -> None:
        assert process.stdin is not None
        try:
            process.stdin.write(size.to_bytes(8, "little"))
            while size:
                block = file.read(min(size, 1 << 20))
                if not block:
                    raise ValueError("it was shortened while it was read")
                process.stdin.write(block)
                size -= len(block)
            process.stdin.flush()
        except (BrokenPipeError, OSError):
            pass  # it refused the file before reading all of it; its reason is read next


class _Content:
    """Puts together what `pickle_machine.send` wrote. Objects contain only earlier ones, so none contains itself."""

    def __init__(self, file: Any) -> None:
        self.file, self.left = file, MAX_PICKLE_BYTES
        self.objects: list[Any] = []
        self.sizes: list[int] = []  # as if nothing were shared
        self.depths: list[int] = []

    def receive(self) -> Any:
        while True:
            kind, content = self.frame()
            if kind == b"N":
                for head in json.loads(content):
                    self.add(*head)
            elif kind == b"R":
                return self.value(json.loads(content))
            else:
                raise ValueError(content.decode("utf-8"))

    def frame(self) -> tuple[bytes, bytearray]:
        head = self.file.read(9)
        if len(head) < 9:
            raise EOFError
        return head[:1], self.blob(int.from_bytes(head[1:], "little"))

    def blob(self, size: int) -> bytearray:
        self.spend(size)
        content = bytearray(size)
        if self.file.readinto(content) < size:
            raise EOFError
        return content

    def spend(self, size: int) -> None:
        self.left -= size
        if self.left < 0:
            raise ValueError(f"more than {MAX_PICKLE_BYTES} bytes come out of it")

    def value(self, item: Any) -> Any:
        return self.objects[item[0]] if type(item) is list else item

    def add(self, kind: str, *about: Any) -> None:
        made = getattr(self, f"make_{kind}")(*about)
        if len(self.objects) == len(self.sizes):  # not a container
            self.sizes.append(made.nbytes if isinstance(made, np.ndarray) else 16 * len(made) if hasattr(made, "__len__") else 64)
            self.depths.append(0)
        self.objects.append(made)

    def inside(self, items: list[Any]) -> list[Any]:
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

    def make_tuple(self, items: list[Any]) -> tuple[Any, ...]:
        return tuple(self.inside(items))

    def make_set(self, items: list[Any]) -> set[Any]:
        return set(_with_spread_hashes(self.inside(items)))

    def make_frozenset(self, items: list[Any]) -> frozenset[Any]:
        return frozenset(_with_spread_hashes(self.inside(items)))

    def make_dict(self, items: list[Any]) -> dict[Any, Any]:
        values = self.inside(items)
        return dict(zip(_with_spread_hashes(values[::2]), values[1::2]))

    def make_complex(self, parts: list[float]) -> complex:
        return complex(*parts)

    def make_str(self, text: str) -> str:
        return text

    def make_floats(self, size: int) -> list[float]:
        return array.array("d", bytes(self.blob(size))).tolist()

    def make_bytes(self, size: int) -> bytes:
        return bytes(self.blob(size))

    make_bytearray = blob

    def make_scalar(self, size: int, dtype: str) -> Any:
        content = self.blob(size)
        return _array(content, dtype, (), None)[()] if content else _known_dtype(dtype).type()

    def make_array(self, size: int, dtype: str, shape: list[int], strides: list[int] | None) -> np.ndarray:
        made = _array(self.blob(size), dtype, shape, strides)
        self.spend(made.nbytes if strides else 0)  # a tensor may repeat its numbers
        return made

    def make_objects(self, shape: list[int], items: list[Any]) -> np.ndarray:
        values = self.inside(items)
        made = np.empty(len(values), object)
        for number, value in enumerate(values):
            made[number] = value
        return made.reshape(shape)


def _with_spread_hashes(keys: list[Any]) -> list[Any]:
    """The keys, unless many collide: a dict of them would take time that grows with the square of their number."""
    if len(set(map(hash, keys))) < len(keys) - 100:
        raise ValueError("the keys of a dict or set are equal or collide")
    return keys


@functools.lru_cache(1000)
def _known_dtype(text: str) -> np.dtype:
    kind = text[1:]
    if text[0] not in "<>|" or (kind not in ITEM_SIZES and not (kind[0] in "SU" and kind[1:].isascii() and kind[1:].isdigit())):
        raise ValueError(f"it has the dtype {text!r}")
    return np.dtype(text)


def _array(content: bytes | bytearray, dtype_name: str, shape: Sequence[int], strides: Sequence[int] | None) -> np.ndarray:
    """An array of copied bytes: the dtype is in the machine's list, `strides` (in items) stay within the content."""
    dtype = _known_dtype(dtype_name)
    values = np.frombuffer(content, dtype) if content else np.zeros(0, dtype)
    if values.dtype.kind == "b":
        values = values.view(np.uint8) != 0
    if values.dtype.kind == "U" and values.size and values.view(dtype.str[0] + "u4").max() > sys.maxunicode:
        raise ValueError("it has a string of letters that do not exist")
    if strides is None:
        return values.reshape(shape)
    if math.prod(shape) * values.itemsize > MAX_PICKLE_BYTES:
        raise ValueError(f"more than {MAX_PICKLE_BYTES} bytes come out of it")
    if min(*shape, *strides) < 0 or extent(shape, strides) > values.size:
        raise ValueError(f"an array of shape {shape} and strides {strides} of {values.size} numbers")
    return np.lib.stride_tricks.as_strided(values, shape, [stride * values.itemsize for stride in strides]).copy(order="K")


def load_plain_pickle(path: str | Path) -> Any:
    """The content of one pickle: see `PickleReader.read`."""
    with PickleReader() as reader:
        return reader.read(path)


# --- Rows ---------------------------------------------------------------------------------------------------------------------------


def records(content: Any, name: str) -> list[tuple[str, Row]]:
    """[(id, dict)] of the content of a pickle: one dict of a clip, dicts by id, or a list of dicts with a name."""
    if isinstance(content, dict) and any(key in content for key in KEYPOINT_KEYS):
        return [(_name_of(content) or name, content)]
    if isinstance(content, dict) and content and all(isinstance(value, dict) for value in content.values()):
        return [(str(key), value) for key, value in content.items()]
    if isinstance(content, (list, tuple)) and content and all(isinstance(value, dict) for value in content):
        return [(_name_of(value) or f"{name}-{number}", value) for number, value in enumerate(content)]
    kind = f"{type(content).__name__} of {len(content)}" if hasattr(content, "__len__") else type(content).__name__
    raise ValueError(f"{name}: its content is a {kind}, expected a dict with keypoints, dicts by id, or a list of dicts.")


def _name_of(record: Row) -> str | None:
    return next((str(record[key]) for key in NAME_KEYS if record.get(key) is not None), None)


def keypoint_row(name: str, record: Row, language: str = "und", **known: Any) -> Row:
    """The canonical row of a dict with keypoints; `known` are layout, width, height and fps of `clip_from_arrays`."""
    clip = clip_from_arrays(record, name=name, **known)
    label = record.get("label")
    return check_row(clip.row(name, language, **_strings(record), label=None if label is None else int(label)))


def annotation_row(name: str, record: Row, language: str = "und") -> Row:
    """The row of `ANNOTATIONS` of a dict without keypoints."""
    num_frames = record.get("num_frames", len(record["sign"]) if hasattr(record.get("sign"), "__len__") else None)
    return dict(id=name, language=language, num_frames=None if num_frames is None else int(num_frames), **_strings(record))


def _strings(record: Row) -> dict[str, str | None]:
    values = {key: record.get(key) for key in ("text", "gloss", "signer")}
    return {
        key: None if value is None else " ".join(map(str, value)) if isinstance(value, list) else str(value).strip()
        for key, value in values.items()
    }


def convert(paths: Sequence[Path], output_path: Path, language: str = "und", **known: Any) -> int:
    """Writes all records of the pickles as one Parquet file of canonical rows, or of annotations; returns the number of rows."""
    with PickleReader() as reader:
        return _convert(reader.read, paths, output_path, language, **known)


def _convert(read: Callable[[Path], Any], paths: Sequence[Path], output_path: Path, language: str, **known: Any) -> int:
    first = records(read(paths[0]), paths[0].stem)
    with_keypoints = any(key in first[0][1] for key in KEYPOINT_KEYS)

    def rows() -> Iterator[Row]:
        seen: dict[str, Path] = {}
        for path in tqdm(paths, "Converting", unit=" files"):
            for name, record in first if path is paths[0] else records(read(path), path.stem):
                if name in seen:
                    raise ValueError(f"{path}: {name!r} is in {seen[name]} too. Expected each id once.")
                seen[name] = path
                yield keypoint_row(name, record, language, **known) if with_keypoints else annotation_row(name, record, language)

    if not with_keypoints:
        return write_parquet(rows(), ANNOTATIONS, output_path)
    return write_parquet(rows(), features(*np.shape(keypoint_row(*first[0], language, **known)["keypoints"])[1:]), output_path)


def main(argv: list[str] | None = None) -> None:
    arguments = vars(checked(argv))
    output_dir = arguments.pop("output_dir")
    output_path = output_dir / FILE
    paths: list[Path] = []
    for path in arguments.pop("files"):
        paths += sorted(inner for inner in path.rglob("*") if inner.suffix in SUFFIXES) if path.is_dir() else [path]
    if not paths:
        raise ValueError(f"No pickle ({', '.join(SUFFIXES)}) in these folders.")
    num_rows = convert(paths, output_path, **arguments)
    print(f"{num_rows:,} rows")
    if "keypoints" in pyarrow.parquet.read_schema(output_path).names:
        print_written([output_path], f"python -m datasets_scripts.inspect_dataset {output_dir}")
    else:
        print_written(
            [output_path], f"python -m datasets_scripts.build folder --data_dir CLIPS --annotations {output_path} --output_dir ROWS"
        )


if __name__ == "__main__":
    run_command(main)
