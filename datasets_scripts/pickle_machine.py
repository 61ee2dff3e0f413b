"""A pickle's opcodes, interpreted into plain data without importing, calling or building anything that the file names.

It runs as a process of its own, `python -I -S pickle_machine.py LIMITS`, with the standard library alone: it reads files from its stdin
and writes their content to its stdout as frames (`write_frame`), which `convert_pickle.PickleReader` reads.

Names (GLOBAL) are records that can only be compared. REDUCE, NEWOBJ and BUILD apply rules to such records (`RULES`) and call nothing.
Arrays and tensors stay bytes with a dtype of `ITEM_SIZES`, a shape and strides, which the reader checks and copies.
"""

import array
import codecs
import gc
import gzip
import io
import json
import math
import re
import struct
import sys
import time
import zipfile
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import IO, Any, BinaryIO

ITEM_SIZES = {
    "b1": 1, "i1": 1, "i2": 2, "i4": 4, "i8": 8, "u1": 1, "u2": 2, "u4": 4, "u8": 8, "f2": 2, "f4": 4, "f8": 8, "c8": 8, "c16": 16,
}  # fmt: skip
STORAGES = {
    "BoolStorage": "b1", "CharStorage": "i1", "ByteStorage": "u1", "ShortStorage": "i2", "IntStorage": "i4", "LongStorage": "i8",
    "HalfStorage": "f2", "FloatStorage": "f4", "DoubleStorage": "f8", "ComplexFloatStorage": "c8", "ComplexDoubleStorage": "c16",
}  # fmt: skip
EXPECTED = "expected dict, list, tuple, set, str, numbers, NumPy arrays, torch tensors"
MAX_DIMENSIONS, MAX_SIZE = 32, 1 << 48
MAX_MARKS = 10_000  # that wait for the end of their list
MAX_INTEGER_BYTES = 1024  # of a pickled integer; Python prints no longer ones
MAX_STRING_ITEM = 1024  # characters of an item of an array of strings
BATCH = 500
SHORT_TEXT = 64  # longer strings are sent once, however often the pickle refers to them
TORCH_MAGIC, TORCH_PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # what torch.save wrote first before it wrote zip files
INTEGERS = {
    (size, signed): struct.Struct("<" + (code.lower() if signed else code)).unpack_from
    for size, code in {1: "B", 2: "H", 4: "I", 8: "Q"}.items()
    for signed in (False, True)
}
FLOAT = struct.Struct(">d").unpack_from
NEW, WAITING = -1, -2  # numbers of records that are not sent yet; those that wait contain what is being sent

Value = Any  # None, bool, int, float, str or a Record; every rule checks what it gets
Buffer = bytes | bytearray | memoryview
Limits = dict[str, Any]


class Refused(ValueError):
    pass


# --- Records: all that a pickle can make besides None, bool, int, float and str -------------------------------------------------------


class Record:
    __slots__ = ("number",)

    def __init__(self) -> None:
        self.number = NEW

    items: Any = ()


class Node(Record):
    """A list, tuple, set or frozenset of `items`, a dict of keys and values in turns, or the two parts of a complex number."""

    __slots__ = ("kind", "items")

    def __init__(self, kind: str, items: list[Value]) -> None:
        self.number, self.kind, self.items = NEW, kind, items


class Bytes(Record):
    __slots__ = ("kind", "view")

    def __init__(self, view: Buffer, kind: str = "bytes") -> None:
        self.number, self.kind, self.view = NEW, kind, view


class Name(Record):
    """A class or function of `NAMES`, of which only the name is known here."""

    __slots__ = ("module", "name")

    def __init__(self, module: str, name: str) -> None:
        self.number, self.module, self.name = NEW, module, name


class DType(Record):
    __slots__ = ("code", "order")

    def __init__(self, code: str, order: str = "<" if sys.byteorder == "little" else ">") -> None:
        self.number, self.code, self.order = NEW, code, order

    @property
    def item_size(self) -> int:
        if self.code == "O":
            raise Refused("it holds Python objects as bytes, " + EXPECTED)
        return ITEM_SIZES.get(self.code) or int(self.code[1:]) * (4 if self.code[0] == "U" else 1)

    def __str__(self) -> str:
        return ("|" if self.code in ("b1", "i1", "u1", "O") or self.code[0] == "S" else self.order) + self.code


class Array(Record):
    """An ndarray, empty until BUILD sets its state. `data` are bytes, or a list if the dtype is object."""

    __slots__ = ("dtype", "shape", "strides", "data")

    def __init__(
        self, dtype: Value = None, shape: tuple[int, ...] | None = None, strides: tuple[int, ...] | None = None, data: Value = None
    ) -> None:
        self.number, self.dtype, self.shape, self.strides, self.data = NEW, dtype, shape, strides, data

    @property
    def items(self) -> Any:
        return self.data.items if isinstance(self.data, Node) else ()


class Scalar(Record):
    __slots__ = ("dtype", "data")

    def __init__(self, dtype: DType, data: Buffer) -> None:
        self.number, self.dtype, self.data = NEW, dtype, data


class Storage(Record):
    """The numbers of tensors; in the older format of torch they come after the tensors."""

    __slots__ = ("dtype", "length", "view")

    def __init__(self, dtype: DType, length: int, view: Buffer | None = None) -> None:
        self.number, self.dtype, self.length, self.view = NEW, dtype, length, view


class Tensor(Record):
    __slots__ = ("storage", "offset", "shape", "strides")

    def __init__(self, storage: Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> None:
        self.number, self.storage, self.offset, self.shape, self.strides = NEW, storage, offset, shape, strides


# --- Rules of the names that a pickle may call -----------------------------------------------------------------------------------------


def _expect(condition: object, what: str) -> None:
    if not condition:
        raise Refused(f"{what} has other arguments than NumPy, torch or Python write")


def _sizes(value: Value, what: str) -> tuple[int, ...]:
    _expect(isinstance(value, Node) and value.kind in ("tuple", "list") and len(value.items) <= MAX_DIMENSIONS, what)
    for size in value.items:
        _expect(type(size) is int and 0 <= size < MAX_SIZE, what)
    return tuple(value.items)


def _container(kind: str) -> Callable[..., Value]:
    def rule(machine: "Machine", *arguments: Value) -> Node:
        _expect(len(arguments) <= 1, kind)
        if not arguments:
            return Node(kind, [])
        (content,) = arguments
        _expect(isinstance(content, Node) and content.kind in ("list", "tuple", "set", "frozenset"), kind)
        return Node(kind, list(content.items))

    return rule


def _dict(machine: "Machine", *arguments: Value) -> Node:
    """An empty dict, or one from a list of pairs, as Python 2 wrote an OrderedDict."""
    _expect(len(arguments) <= 1, "dict")
    items: list[Value] = []
    if arguments:
        _expect(isinstance(arguments[0], Node) and arguments[0].kind in ("list", "tuple"), "dict")
        for pair in arguments[0].items:
            _expect(isinstance(pair, Node) and pair.kind in ("list", "tuple") and len(pair.items) == 2, "dict")
            items += pair.items
    return Node("dict", items)


def _bytes(kind: str) -> Callable[..., Value]:
    def rule(machine: "Machine", content: Value = None, *encoding: Value) -> Bytes:
        if content is None and not encoding:
            return Bytes(b"", kind)
        if isinstance(content, str):
            _expect(encoding in (("latin1",), ("latin-1",)), kind)
            return Bytes(content.encode("latin-1"), kind)
        _expect(isinstance(content, Bytes) and not encoding, kind)
        return Bytes(content.view, kind)

    return rule


def _number(kind: type, empty: Value) -> Callable[..., Value]:
    def rule(machine: "Machine", value: Value = empty) -> Value:
        _expect(type(value) is kind, kind.__name__)
        return value

    return rule


def _complex(machine: "Machine", real: Value, imaginary: Value) -> Node:
    _expect(type(real) is float and type(imaginary) is float, "complex")
    return Node("complex", [real, imaginary])


def _encode(machine: "Machine", text: Value, encoding: Value = "utf-8") -> Bytes:
    """Bytes, as pickles of protocol 2 and older spell them."""
    _expect(isinstance(text, str), "_codecs.encode")
    if encoding not in ("latin1", "latin-1"):
        raise Refused(f"bytes in encoding {shown(encoding)}, expected latin1")
    return Bytes(text.encode("latin-1"))


def _dtype(machine: "Machine", spec: Value, align: Value = False, copy: Value = True) -> DType:
    match = re.fullmatch(r"([<>|=]?)(?:([biufc]\d{1,2})|([SU])(\d{1,6})|(O)8?)", spec) if isinstance(spec, str) else None
    if match is None or (match[2] and match[2] not in ITEM_SIZES) or (match[4] and int(match[4]) > MAX_STRING_ITEM):
        raise Refused(f"it names the dtype {shown(spec)}, which is refused: expected numbers, bool, strings or objects")
    dtype = DType(match[2] or (match[3] and match[3] + str(int(match[4]))) or "O")
    return _order(dtype, match[1]) if match[1] else dtype


def _order(dtype: DType, order: str) -> DType:
    if order in ("<", ">"):
        dtype.order = order
    return dtype


def _reconstruct(machine: "Machine", kind: Value, shape: Value, code: Value) -> Array:
    _expect(isinstance(kind, Name) and (kind.module, kind.name) == ("numpy", "ndarray"), "_reconstruct")
    return Array()


def _scalar(machine: "Machine", dtype: Value, data: Value) -> Scalar:
    _expect(isinstance(dtype, DType), "scalar")
    view = _view(data)
    _expect(len(view) == dtype.item_size, "scalar")
    return Scalar(dtype, view)


def _frombuffer(machine: "Machine", data: Value, dtype: Value, shape: Value, order: Value, axes: Value = None) -> Array:
    _expect(isinstance(dtype, DType), "_frombuffer")
    shape = _sizes(shape, "_frombuffer")
    axes = range(len(shape)) if axes is None else _sizes(axes, "_frombuffer")
    _expect(order in ("C", "F", "K") and (order == "K" or type(axes) is range) and sorted(axes) == list(range(len(shape))), "_frombuffer")
    strides = strides_of(shape, order)
    return _checked(Array(dtype, tuple(shape[axis] for axis in axes), tuple(strides[axis] for axis in axes), Bytes(_view(data))))


def _tensor(
    machine: "Machine",
    storage: Value,
    offset: Value,
    shape: Value,
    strides: Value,
    requires_grad: Value,
    hooks: Value,
    metadata: Value = None,
) -> Tensor:
    _expect(isinstance(storage, Storage) and type(offset) is int and 0 <= offset < MAX_SIZE, "_rebuild_tensor_v2")
    shape, strides = _sizes(shape, "_rebuild_tensor_v2"), _sizes(strides, "_rebuild_tensor_v2")
    if len(shape) != len(strides) or offset + extent(shape, strides) > storage.length:
        raise Refused(f"a tensor of shape {shape}, strides {strides} from {offset} leaves its storage of {storage.length} numbers")
    return Tensor(storage, offset, shape, strides)


def _load_storage(machine: "Machine", data: Value) -> Storage:
    """The storage of a pickled tensor: bytes in torch's older file format."""
    if machine.storage is not None:
        raise Refused("a storage inside a storage")
    if id(data) not in machine.inner:  # read once, however often the pickle refers to the same bytes
        inner = Machine(_view(data), machine.inner_opcodes)
        value = torch_file(inner)
        _expect(isinstance(value, Storage), "_load_from_bytes")
        machine.inner_opcodes = inner.opcodes
        machine.inner[id(data)] = value, data  # as long as data exists, no other object has its id
    return machine.inner[id(data)][0]


RULES: dict[tuple[str, str], Callable[..., Value]] = {
    ("builtins", "dict"): _dict,
    ("collections", "OrderedDict"): _dict,
    **{("builtins", kind): _container(kind) for kind in ("list", "tuple", "set", "frozenset")},
    **{("builtins", kind): _bytes(kind) for kind in ("bytes", "bytearray")},
    **{("builtins", kind.__name__): _number(kind, kind()) for kind in (str, int, float, bool)},
    ("builtins", "complex"): _complex,
    ("_codecs", "encode"): _encode,
    ("numpy", "dtype"): _dtype,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _reconstruct for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _scalar for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _frombuffer for core in ("core", "_core")},
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch.storage", "_load_from_bytes"): _load_storage,
}
NAMES = {*RULES, ("numpy", "ndarray"), *(("torch", name) for name in STORAGES)}


def _build(record: Value, state: Value) -> Record:
    """Sets the state of a dtype or an array; BUILD may do nothing else."""
    _expect(isinstance(state, Node) and state.kind == "tuple", "a state")
    items = state.items
    if isinstance(record, DType):
        # version, byte order, parts, names and fields of structures, item size, alignment, flags
        _expect(len(items) == 8 and type(items[0]) is int and items[1] in ("<", ">", "|", "="), "numpy.dtype")
        if items[2:5] != [None] * 3:
            raise Refused("it holds an array of structures, " + EXPECTED)
        size = items[5]
        _expect(type(size) is int and (size == -1 or (record.code[0] in "SU" and size == record.item_size)), "numpy.dtype")
        return _order(record, items[1])
    if isinstance(record, Array):
        _expect(len(items) == 5 and isinstance(items[2], DType) and type(items[3]) is bool, "numpy.ndarray")
        shape = _sizes(items[1], "numpy.ndarray")
        return _checked(Array(items[2], shape, strides_of(shape, "F" if items[3] else "C"), items[4]), record)
    raise Refused("it sets the state of something else than a dtype or an array")


def _checked(made: Array, record: Array | None = None) -> Array:
    """An array whose data fit its shape; it is written into `record`, if there is one."""
    count = math.prod(made.shape or ())
    if made.dtype.code == "O":
        fits = isinstance(made.data, Node) and made.data.kind == "list" and len(made.data.items) == count
    else:
        made.data = Bytes(_view(made.data))
        fits = made.dtype.item_size > 0 and len(made.data.view) == count * made.dtype.item_size
    if not fits:
        raise Refused(f"an array of {made.dtype} of shape {made.shape} has data of another size")
    if record is None:
        return made
    record.dtype, record.shape, record.strides, record.data = made.dtype, made.shape, made.strides, made.data
    return record


def _view(data: Value) -> Buffer:
    _expect(isinstance(data, Bytes), "an array")
    return data.view


def strides_of(shape: Iterable[int], order: str) -> tuple[int, ...]:
    """Strides in items, not in bytes."""
    shape, strides, step = tuple(shape), [], 1
    for size in shape if order == "F" else reversed(shape):
        strides.append(step)
        step *= size
    return tuple(strides if order == "F" else reversed(strides))


def extent(shape: Iterable[int], strides: Iterable[int]) -> int:
    """How many items of the memory a strided array reaches."""
    shape = tuple(shape)
    return 1 + sum((size - 1) * stride for size, stride in zip(shape, strides)) if math.prod(shape) else 0


def shown(value: object, length: int = 100) -> str:
    """The start of a file's text for a message, in printable letters."""
    text = value if isinstance(value, str) else "of another kind"
    return "".join(letter if " " <= letter <= "~" else "?" for letter in text[:length])


# --- The machine ----------------------------------------------------------------------------------------------------------------------


class Machine:
    """A stack, a memo and a place in the data.

    Args:
        data: one pickle, or several of them in a row.
        opcodes: how many may be read.
        storage: a function of a persistent id -> Storage, in files of torch.
    """

    def __init__(self, data: Buffer, opcodes: int, storage: Callable[[Value], Storage] | None = None) -> None:
        self.view, self.place, self.opcodes, self.storage = memoryview(data), 0, opcodes, storage
        self.inner: dict[int, tuple[Storage, Value]] = {}  # storages that were read from bytes
        self.inner_opcodes = opcodes  # that further ones may take
        self.stack: list[Value] = []
        self.marked: list[list[Value]] = []
        self.memo: dict[int, Value] = {}

    def load(self) -> Value:
        """The next pickle of the data."""
        self.stack, self.marked, self.memo = [], [], {}
        data, rules, left = self.view, OPCODES, self.opcodes
        try:
            for left in range(self.opcodes - 1, -1, -1):  # noqa: B007 (what is left goes back to self.opcodes)
                opcode = data[self.place]
                self.place += 1
                if opcode == 46:  # STOP
                    return self.stack.pop()
                rules[opcode](self)
        except (IndexError, KeyError, struct.error, UnicodeError, TypeError, AttributeError) as error:
            raise Refused(f"damaged or cut off at byte {self.place} ({type(error).__name__})") from error
        finally:
            self.opcodes = left
        raise Refused("more opcodes than a file of this size may have")

    # Reading arguments

    def take(self, size: int) -> memoryview:
        start, end = self.place, self.place + size
        if end > len(self.view):
            raise Refused(f"damaged or cut off at byte {start}: {size} bytes are missing")
        self.place = end
        return self.view[start:end]

    def integer(self, size: int, signed: bool = False) -> int:
        (value,) = INTEGERS[size, signed](self.view, self.place)
        self.place += size
        return value

    def line(self) -> bytes:
        size, end = 256, -1
        while end < 0:
            part = bytes(self.view[self.place : self.place + size])
            end = part.find(b"\n")
            if end < 0 and len(part) < size:
                raise Refused(f"damaged or cut off at byte {self.place}: a line has no end")
            size *= 4
        self.place += end + 1
        return part[:end]

    def pop_to_mark(self) -> list[Value]:
        items, self.stack = self.stack, self.marked.pop()
        return items

    # Opcodes

    def mark(self) -> None:
        _expect(len(self.marked) < MAX_MARKS, "a list of lists")
        self.marked.append(self.stack)
        self.stack = []

    def pop(self) -> None:
        if self.stack:
            del self.stack[-1]
        else:
            self.pop_to_mark()

    def text(self, size: int) -> None:
        self.stack.append(str(self.take(self.integer(size)), "utf-8", "surrogatepass"))

    def old_text(self, size: int, signed: bool = False) -> None:
        length = self.integer(size, signed)
        _expect(length >= 0, "a string of Python 2")
        self.stack.append(str(self.take(length), "ascii"))

    def quoted(self) -> None:
        line = self.line().strip()
        _expect(len(line) >= 2 and line[0] == line[-1] and line[:1] in (b'"', b"'"), "a string of Python 2")
        self.stack.append(codecs.escape_decode(line[1:-1])[0].decode("ascii"))

    def bytes_(self, size: int, kind: str = "bytes") -> None:
        self.stack.append(Bytes(self.take(self.integer(size)), kind))

    def long(self, size: int) -> None:
        size = self.integer(size, signed=size == 4)
        _expect(0 <= size <= MAX_INTEGER_BYTES, "an integer")
        self.stack.append(int.from_bytes(self.take(size), "little", signed=True))

    def number(self) -> None:
        self.stack += FLOAT(self.view, self.place)
        self.place += 8

    def decimal(self) -> None:
        """An integer as text; 00 and 01 were the booleans of protocol 1."""
        line = self.line()
        if line in (b"00", b"01"):
            self.stack.append(line == b"01")
            return
        self.stack.append(self.parse(line.removesuffix(b"L"), int, 2 * MAX_INTEGER_BYTES))

    def decimal_float(self) -> None:
        self.stack.append(self.parse(self.line(), float, 1000))

    def parse(self, line: bytes, kind: type, max_length: int) -> Any:
        try:
            _expect(len(line) <= max_length, "a number")
            return kind(line)
        except ValueError as error:
            raise Refused(f"{shown(str(line, 'latin-1'))} is no number") from error

    def collect(self, kind: str, size: int | None = None) -> None:
        if size is None:
            items = self.pop_to_mark()
        else:
            _expect(size <= len(self.stack), f"a {kind}")
            items = self.stack[-size:]
            del self.stack[-size:]
        _expect(kind != "dict" or len(items) % 2 == 0, "a dict")
        self.stack.append(Node(kind, items))

    def extend(self, kind: str, items: list[Value]) -> None:
        target = self.stack[-1]
        _expect(isinstance(target, Node) and target.kind == kind and (kind != "dict" or len(items) % 2 == 0), f"a {kind}")
        target.items += items

    def extend_by(self, kind: str, size: int) -> None:
        _expect(len(self.stack) > size, f"a {kind}")
        items = self.stack[-size:]
        del self.stack[-size:]
        self.extend(kind, items)

    def put(self, size: int) -> None:
        self.memo[self.integer(size)] = self.stack[-1]

    def put_by_line(self) -> None:
        self.memo[self.parse(self.line(), int, 20)] = self.stack[-1]

    def memoize(self) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def get(self, size: int) -> None:
        self.stack.append(self.memo[self.integer(size)])

    def get_by_line(self) -> None:
        self.stack.append(self.memo[self.parse(self.line(), int, 20)])

    def name(self, module: Value, name: Value) -> None:
        _expect(type(module) is str and type(name) is str, "a name")
        module = "builtins" if module == "__builtin__" else module  # Python 2
        if (module, name) not in NAMES:
            raise Refused(f"it names {shown(module)}.{shown(name)}, which is refused: {EXPECTED}")
        self.stack.append(Name(module, name))

    def name_of_lines(self) -> None:
        self.name(str(self.line(), "utf-8"), str(self.line(), "utf-8"))

    def name_of_stack(self) -> None:
        name = self.stack.pop()
        self.name(self.stack.pop(), name)

    def call(self, name: Value, arguments: Value) -> None:
        rule = RULES.get((name.module, name.name)) if isinstance(name, Name) else None
        if rule is None:
            raise Refused("it calls something that is no function of NumPy, torch or Python that is expected here")
        _expect(isinstance(arguments, Node) and arguments.kind == "tuple" and len(arguments.items) < 10, name.name)
        try:
            value = rule(self, *arguments.items)
        except TypeError as error:  # too few or too many
            raise Refused(f"{name.module}.{name.name} has other arguments than NumPy, torch or Python write") from error
        self.stack.append(value)

    def reduce(self) -> None:
        arguments = self.stack.pop()
        self.call(self.stack.pop(), arguments)

    def reduce_with_names(self) -> None:
        keywords = self.stack.pop()
        _expect(isinstance(keywords, Node) and keywords.kind == "dict" and not keywords.items, "NEWOBJ_EX")
        self.reduce()

    def instance(self) -> None:
        self.name_of_lines()
        name = self.stack.pop()
        self.call(name, Node("tuple", self.pop_to_mark()))

    def object(self) -> None:
        name, *arguments = self.pop_to_mark()
        self.call(name, Node("tuple", arguments))

    def build(self) -> None:
        state = self.stack.pop()
        _build(self.stack[-1], state)

    def persistent(self, key: Value) -> None:
        if self.storage is None:
            raise Refused("it refers to something outside the file (a persistent id)")
        self.stack.append(self.storage(key))

    def protocol(self) -> None:
        _expect(self.view[self.place] <= 5, "a later protocol")
        self.place += 1

    def frame(self) -> None:
        size = self.integer(8)
        _expect(size <= len(self.view) - self.place, "a frame")

    def refuse(self, name: str) -> None:
        raise Refused(f"it uses the opcode {name}, which is refused")


def _constant(value: Value) -> Callable[["Machine"], None]:
    return lambda machine: machine.stack.append(value)


def _integer(size: int, signed: bool = False) -> Callable[["Machine"], None]:
    return lambda machine: machine.stack.append(machine.integer(size, signed))


def _refused(name: str) -> Callable[["Machine"], None]:
    return lambda machine: machine.refuse(name)


def _unknown(machine: Machine) -> None:
    raise Refused(f"damaged: byte {machine.place - 1} is no opcode of a pickle")


OPCODES: list[Callable[[Machine], Any]] = [_unknown] * 256
for _code, _rule in {
    b"\x80": Machine.protocol,
    b"\x95": Machine.frame,
    b"(": Machine.mark,
    b"0": Machine.pop,
    b"1": Machine.pop_to_mark,
    b"2": lambda machine: machine.stack.append(machine.stack[-1]),
    # Values
    b"N": _constant(None),
    b"\x88": _constant(True),
    b"\x89": _constant(False),
    b"I": Machine.decimal,
    b"L": Machine.decimal,
    b"J": _integer(4, signed=True),
    b"K": _integer(1),
    b"M": _integer(2),
    b"\x8a": lambda machine: machine.long(1),
    b"\x8b": lambda machine: machine.long(4),
    b"F": Machine.decimal_float,
    b"G": Machine.number,
    b"V": lambda machine: machine.stack.append(str(machine.line(), "raw-unicode-escape")),
    b"X": lambda machine: machine.text(4),
    b"\x8c": lambda machine: machine.text(1),
    b"\x8d": lambda machine: machine.text(8),
    b"S": Machine.quoted,
    b"T": lambda machine: machine.old_text(4, signed=True),
    b"U": lambda machine: machine.old_text(1),
    b"B": lambda machine: machine.bytes_(4),
    b"C": lambda machine: machine.bytes_(1),
    b"\x8e": lambda machine: machine.bytes_(8),
    b"\x96": lambda machine: machine.bytes_(8, "bytearray"),
    # Containers
    b"]": lambda machine: machine.stack.append(Node("list", [])),
    b"}": lambda machine: machine.stack.append(Node("dict", [])),
    b")": lambda machine: machine.stack.append(Node("tuple", [])),
    b"\x8f": lambda machine: machine.stack.append(Node("set", [])),
    b"l": lambda machine: machine.collect("list"),
    b"d": lambda machine: machine.collect("dict"),
    b"t": lambda machine: machine.collect("tuple"),
    b"\x91": lambda machine: machine.collect("frozenset"),
    b"\x85": lambda machine: machine.collect("tuple", 1),
    b"\x86": lambda machine: machine.collect("tuple", 2),
    b"\x87": lambda machine: machine.collect("tuple", 3),
    b"a": lambda machine: machine.extend_by("list", 1),
    b"e": lambda machine: machine.extend("list", machine.pop_to_mark()),
    b"s": lambda machine: machine.extend_by("dict", 2),
    b"u": lambda machine: machine.extend("dict", machine.pop_to_mark()),
    b"\x90": lambda machine: machine.extend("set", machine.pop_to_mark()),
    # Memo
    b"p": Machine.put_by_line,
    b"q": lambda machine: machine.put(1),
    b"r": lambda machine: machine.put(4),
    b"\x94": Machine.memoize,
    b"g": Machine.get_by_line,
    b"h": lambda machine: machine.get(1),
    b"j": lambda machine: machine.get(4),
    # Names and calls
    b"c": Machine.name_of_lines,
    b"\x93": Machine.name_of_stack,
    b"R": Machine.reduce,
    b"\x81": Machine.reduce,
    b"\x92": Machine.reduce_with_names,
    b"i": Machine.instance,
    b"o": Machine.object,
    b"b": Machine.build,
    b"P": lambda machine: machine.persistent(str(machine.line(), "ascii")),
    b"Q": lambda machine: machine.persistent(machine.stack.pop()),
    b"\x82": _refused("EXT1"),
    b"\x83": _refused("EXT2"),
    b"\x84": _refused("EXT4"),
    b"\x97": _refused("NEXT_BUFFER"),
    b"\x98": _refused("READONLY_BUFFER"),
}.items():
    OPCODES[_code[0]] = _rule


# --- Files of torch.save --------------------------------------------------------------------------------------------------------------


def torch_file(machine: Machine) -> Value:
    """torch.save's older format: five pickles, the fourth of the content, then the storages one after the other."""
    _expect(machine.load() == TORCH_MAGIC and machine.load() == TORCH_PROTOCOL, "torch.save")
    facts = machine.load()
    _expect(isinstance(facts, Node) and facts.kind == "dict", "torch.save")
    facts = dict(zip(filter(_is_text, facts.items[::2]), facts.items[1::2])) if all(map(_is_text, facts.items[::2])) else {}
    order = "<" if facts.get("little_endian") is True else ">"
    storages: dict[str, Storage] = {}

    def storage(key: Value) -> Storage:
        dtype, name, length = _storage_key(key, order)
        if name not in storages:
            storages[name] = Storage(dtype, length)
        _expect((str(storages[name].dtype), storages[name].length) == (str(dtype), length), "a storage of torch")
        return storages[name]

    machine.storage = storage
    value, keys = machine.load(), machine.load()
    _expect(isinstance(keys, Node) and keys.kind == "list" and all(map(_is_text, keys.items)), "torch.save")
    for name in keys.items:
        _expect(name in storages and storages[name].view is None, "torch.save")
        _expect(machine.integer(8, signed=True) == storages[name].length, "a storage of torch")
        storages[name].view = machine.take(storages[name].length * storages[name].dtype.item_size)
    return value


def torch_archive(data: bytes | bytearray, limits: Limits) -> Value:
    """torch.save's newer format: a zip file with a pickle and one member for each storage."""
    if data.count(b"PK\1\2") > limits["members"]:  # each member has one such mark in the table
        raise Refused(f"a zip file of more than {limits['members']} members")
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except (zipfile.BadZipFile, NotImplementedError, struct.error, ValueError) as error:
        raise Refused(f"a damaged zip file ({error})") from error
    left = unpacked_limit(len(data), limits)
    pickles = [name for name in archive.namelist() if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(pickles) != 1:
        raise Refused("a zip file without the data.pkl of torch.save")
    folder = pickles[0].removesuffix("data.pkl")

    def member(name: str) -> bytes:
        nonlocal left
        try:
            about = archive.getinfo(folder + name)
        except KeyError as error:
            raise Refused(f"a zip file without {shown(name)}") from error
        if about.file_size > left or about.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise Refused(f"{shown(name)} in a zip file unpacks to more than is read here, or is packed in an unusual way")
        left -= about.file_size
        with archive.open(about) as file:
            content = file.read(about.file_size)
        _expect(len(content) == about.file_size, "a zip file")
        return content

    order = ">" if folder + "byteorder" in archive.namelist() and member("byteorder") == b"big" else "<"
    storages: dict[str, Storage] = {}

    def storage(key: Value) -> Storage:
        dtype, name, length = _storage_key(key, order)
        if name not in storages:
            _expect(re.fullmatch(r"[0-9A-Za-z_]{1,40}", name), "a storage of torch")
            view = memoryview(member(f"data/{name}"))
            _expect(len(view) == length * dtype.item_size, "a storage of torch")
            storages[name] = Storage(dtype, length, view)
        _expect((str(storages[name].dtype), storages[name].length) == (str(dtype), length), "a storage of torch")
        return storages[name]

    return Machine(member("data.pkl"), opcode_limit(len(data), limits), storage).load()


def _is_text(value: Value) -> bool:
    return type(value) is str


def _storage_key(key: Value, order: str) -> tuple[DType, str, int]:
    """("storage", torch.FloatStorage, key, location, length[, view of another storage]) -> dtype, key, length."""
    what = "a storage of torch"
    _expect(isinstance(key, Node) and key.kind == "tuple" and len(key.items) in (5, 6), what)
    kind, name, key_, _, length, *view = key.items
    _expect(kind == "storage" and isinstance(name, Name) and name.module == "torch" and name.name in STORAGES, what)
    _expect(type(key_) is str and type(length) is int and 0 <= length < MAX_SIZE and view in ([], [None]), what)
    return DType(STORAGES[name.name], order), key_, length


# --- Sending --------------------------------------------------------------------------------------------------------------------------


def send(root: Value, file: IO[bytes]) -> None:
    """Writes a value as frames of kind N, JSON of up to BATCH records, numbered from 0, and one of kind R, the value itself.

    In JSON, None, bool, int, float and short str are themselves, and everything else is [number of an earlier record].
    A record with bytes says how many; the bytes of a batch follow its frame.
    """
    count, texts = 0, {}
    batch: list[Any] = []
    blobs: list[Any] = []

    def add(head: list[Any], blob: Any = None) -> None:
        nonlocal count
        batch.append(head)
        if blob is not None:
            blobs.append(blob)
        count += 1
        if len(batch) == BATCH:
            flush()

    def flush() -> None:
        write_frame(file, b"N", dump(batch))
        for blob in blobs:
            file.write(blob)
        batch.clear()
        blobs.clear()

    def encode(value: Value) -> Any:
        kind = type(value)
        if value is None or kind in (bool, int, float) or (kind is str and len(value) <= SHORT_TEXT):
            return value
        if kind is str:
            if id(value) not in texts:
                texts[id(value)] = count, value  # as long as the value exists, no other object has its id
                add(["str", value])
            return [texts[id(value)][0]]
        return [value.number]

    todo = [root] if isinstance(root, Record) else []
    while todo:  # no recursion: a pickle decides how deep it is
        record = todo[-1]
        if record.number >= 0:
            todo.pop()
        elif record.number == NEW and record.items:
            record.number = WAITING
            for item in record.items:
                if isinstance(item, Record):
                    if item.number == WAITING:
                        raise Refused("a list or dict that contains itself")
                    if item.number == NEW:
                        todo.append(item)
        else:
            described = _describe(record, encode)  # which adds long strings before it
            record.number = count
            add(*described)
            todo.pop()
    value = encode(root)
    flush()
    write_frame(file, b"R", dump(value))


def _describe(record: Record, encode: Callable[[Value], Any]) -> tuple[Any, ...]:
    """(head,) or (head, bytes) of a record."""
    if isinstance(record, Node):
        if record.kind == "list" and set(map(type, record.items)) == {float}:
            numbers = array.array("d", record.items)
            return ["floats", len(numbers) * numbers.itemsize], numbers
        return ([record.kind, [encode(item) for item in record.items]],)
    if isinstance(record, Bytes):
        return [record.kind, len(record.view)], record.view
    if isinstance(record, Scalar):
        return ["scalar", len(record.data), str(record.dtype)], record.data
    if isinstance(record, Array) and isinstance(record.data, Node):
        return (["objects", record.shape, [encode(item) for item in record.data.items]],)
    if isinstance(record, Array) and record.shape is not None:
        return _strided(record.dtype, record.shape, record.strides, record.data.view)
    if isinstance(record, Tensor) and record.storage.view is not None:
        size, length = record.storage.dtype.item_size, extent(record.shape, record.strides)
        view = record.storage.view[record.offset * size : (record.offset + length) * size]
        return _strided(record.storage.dtype, record.shape, record.strides, view)
    what = {Name: "a class or a function", DType: "a dtype", Array: "an array without data"}.get(
        type(record), "a storage without its numbers"
    )
    raise Refused(f"it holds {what}, {EXPECTED}")


def _strided(dtype: DType, shape: tuple[int, ...], strides: tuple[int, ...] | None, view: Buffer) -> tuple[Any, ...]:
    return ["array", len(view), str(dtype), shape, None if strides == strides_of(shape, "C") else strides], view


def dump(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode("ascii")


# --- The process ----------------------------------------------------------------------------------------------------------------------


def unpacked_limit(size: int, limits: Limits) -> int:
    """How many bytes compressed data of `size` bytes may unpack to."""
    return min(limits["bytes"], max(limits["unpacked"], limits["ratio"] * size))


def opcode_limit(size: int, limits: Limits) -> int:
    """How many opcodes a file of `size` bytes may have; each takes time and memory, however well it is compressed."""
    return min(limits["opcodes"], limits["opcodes"] // 50 + 2 * size)


def interpret(file: BinaryIO, size: int, limits: Limits, target: IO[bytes]) -> None:
    """Sends what one file holds, the next `size` bytes of `file`, to `target`."""
    head = file.read(min(size, 4))
    data: Any = head
    if head[:2] == b"\x1f\x8b":
        data = _unpack(_Part(file, size - len(head), head), unpacked_limit(size, limits))
    elif size > len(head):
        data = bytearray(size)
        data[: len(head)] = head
        file.readinto(memoryview(data)[len(head) :])  # type: ignore[attr-defined]
    if head == b"PK\3\4":
        return send(torch_archive(data, limits), target)
    machine = Machine(data, opcode_limit(size, limits))
    value = machine.load()
    if type(value) is int and value == TORCH_MAGIC:
        machine.place = 0
        value = torch_file(machine)
    send(value, target)


def _unpack(part: Any, limit: int) -> bytearray:
    data = bytearray()
    with gzip.GzipFile(fileobj=part) as file:
        while block := file.read(1 << 20):
            data += block
            if len(data) > limit:
                raise Refused(f"it unpacks to more than {limit} bytes")
    return data


class _Part:
    """The next bytes of a file, up to `size`, after `head`, which was read before."""

    def __init__(self, file: IO[bytes], size: int, head: bytes = b"") -> None:
        self.file, self.left, self.head = file, size, head

    def read(self, size: int = -1) -> bytes:
        if self.head:
            size = len(self.head) if size < 0 else size
            content, self.head = self.head[:size], self.head[size:]
            return content
        content = self.file.read(self.left if size < 0 else min(size, self.left))
        self.left -= len(content)
        return content


def drop_rights(limits: Limits) -> ModuleType | None:
    """Forbids files, processes and core files, and limits memory, as far as the system can."""
    for codec in ("utf-8", "ascii", "latin-1", "raw-unicode-escape", "cp437"):
        codecs.lookup(codec)  # later there is no file to load it from
    try:
        import resource
    except ImportError:
        return None
    for name, value in {"AS": limits["memory"], "FSIZE": 0, "CORE": 0, "NPROC": 0, "NOFILE": 0}.items():
        try:
            number = getattr(resource, f"RLIMIT_{name}")
            hard = resource.getrlimit(number)[1]
            value = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(number, (value, value))
        except (AttributeError, ValueError, OSError):
            continue
    return resource


def allow_seconds(resource: Any, seconds: float) -> None:
    """CPU seconds for one more file."""
    if resource is not None:
        hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
        soft = math.ceil(time.process_time() + seconds)
        resource.setrlimit(resource.RLIMIT_CPU, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))


def write_frame(file: IO[bytes], kind: bytes, content: bytes) -> None:
    """kind: N, R (see `send`) or E (the reason why a file is refused)."""
    file.write(kind + len(content).to_bytes(8, "little"))
    file.write(content)


def main() -> None:
    gc.disable()  # nothing here is made of cycles but what is refused, and its passes take half of the time
    limits = json.loads(sys.argv[1])
    source, target = sys.stdin.buffer, sys.stdout.buffer
    resource = drop_rights(limits)
    while head := source.read(8):
        size = int.from_bytes(head, "little")
        allow_seconds(resource, limits["seconds"])
        try:
            interpret(source, size, limits, target)
        except MemoryError:
            write_frame(target, b"E", b"it takes more memory than is given to one pickle")
            target.flush()
            return
        except Exception as error:  # a damaged file can fail at any step
            write_frame(target, b"E", shown(str(error) or type(error).__name__, 300).encode("ascii"))
            target.flush()
            return  # the pipe may still hold the rest of the file
        target.flush()


if __name__ == "__main__":
    main()
