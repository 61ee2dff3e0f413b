"""Hostile pickles through `convert_pickle`: every opcode, every allowed name with odd arguments, damaged real files, attacks by hand.

Each case goes through `load_plain_pickle` as users call it, so each is read by a process of its own. It must be refused by a
ValueError or give plain data; no code of the file may run (each attack would leave a canary), no process may crash or be slow.
"""

import builtins
import collections
import gzip
import io
import os
import pickle
import pickletools
import random
import resource
import struct
import sys
import time
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch

from datasets_scripts import pickle_machine
from datasets_scripts.convert_pickle import _Content, load_plain_pickle

from . import Row

MAX_SECONDS = 20.0  # of CPU time, for one case; what is legal and slow takes about two
PLAIN = {dict, list, tuple, set, frozenset, str, int, float, bool, complex, bytes, bytearray, type(None), np.ndarray}


def soak(scale, folder, seed):
    rng = random.Random(seed)
    canary = folder / "canary"
    cases = [*by_hand(canary, scale), *opcodes(rng), *names(rng, canary), *damaged(rng, canary, round(700 * scale))]
    if scale < 1:
        cases = rng.sample(cases, max(10, round(len(cases) * scale)))
    outcomes, bad, examples, slowest = collections.Counter(), 0, [], 0.0
    for number, (what, content) in enumerate(cases):
        path = folder / f"{number}.pkl"
        path.write_bytes(content)
        start = _cpu_seconds()
        outcome = _try(path)
        seconds = _cpu_seconds() - start
        slowest = max(slowest, seconds)
        if canary.exists():
            outcome = "code run"
            canary.unlink()
        elif seconds > MAX_SECONDS:
            outcome = "over the limits"
        outcomes[outcome] += 1
        if outcome not in ("ValueError", "plain data"):
            bad += 1
            examples.append(f"{what}: {outcome}: {content[:200]!r}")
        path.unlink()
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / (1 << 20 if sys.platform != "darwin" else 1 << 30)
    note = f"slowest {slowest:.1f} s of CPU time, largest reading process {memory:.1f} GiB"
    rows = [Row("hostile pickles through convert_pickle: code run, crashes", len(cases), dict(outcomes), bad, "0", note, examples)]
    return [*rows, answers(rng, folder, round(2000 * scale))]


def answers(rng, folder, count):
    """What the reading process answers, damaged: as if a pickle had taken that process over."""
    seeds = []
    for content in real_pickles().values():
        target = io.BytesIO()
        pickle_machine.interpret(io.BytesIO(content), len(content), LIMITS, target)
        seeds.append(target.getvalue())
    outcomes, bad, examples = collections.Counter(), 0, []
    for _ in range(max(50, count)):
        content = mutate(rng.choice(seeds), rng)
        try:
            outcome = "plain data" if is_plain(_Content(io.BytesIO(content)).receive()) else "other data"
        except Exception:
            outcome = "refused"
        outcomes[outcome] += 1
        if outcome == "other data":
            bad += 1
            examples.append(repr(content[:200]))
    return Row("damaged answers of the process that reads pickles", max(50, count), dict(outcomes), bad, "0", "", examples)


LIMITS = dict(opcodes=10**6, bytes=1 << 30, unpacked=1 << 28, ratio=20, members=1000)


def _try(path):
    try:
        content = load_plain_pickle(path)
    except ValueError as error:
        if "the process that reads it ended" in str(error):
            return "crash"
        return "ValueError" if str(error).startswith(f"{path}: cannot be unpickled: ") else "ValueError without the file's name"
    except Exception as error:
        return type(error).__name__
    return "plain data" if is_plain(content) else "other data"


def is_plain(content):
    todo, seen = [content], set()
    while todo:
        value = todo.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if type(value) not in PLAIN and not (isinstance(value, np.generic) and value.dtype.kind in "biufcSU"):
            return False
        if isinstance(value, np.ndarray):
            if value.dtype.kind == "O":
                todo += value.ravel().tolist()
            elif value.dtype.kind not in "biufcSU" or not (value.flags.owndata or value.base is not None):
                return False
        elif isinstance(value, dict):
            todo += [*value, *value.values()]
        elif isinstance(value, (list, tuple, set, frozenset)):
            todo += value
    return True


def _cpu_seconds():
    of_children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + of_children.ru_utime + of_children.ru_stime


# --- Cases ----------------------------------------------------------------------------------------------------------------------------


def real_content():
    rng = np.random.default_rng(0)
    arrays = {
        "keypoints": [rng.normal(size=(1, 9, 2)) for _ in range(3)], "scores": np.ones((3, 9), np.float32), "ids": np.array(["a", "bc"]),
        "fortran": np.asfortranarray(np.arange(6, dtype=np.int16).reshape(2, 3)), "swapped": np.arange(3, dtype=">i4"),
        "objects": np.array(["a", None], object), "turned": np.arange(24).reshape(2, 3, 4).transpose(1, 0, 2), "flags": np.array([True]),
    }  # fmt: skip
    plain = {"a": [1, 2.5, "ß", b"b\xff", None, True, (1, 2), {3}, frozenset([4]), bytearray(b"c"), 3j, 10**20, "x" * 100]}
    return plain | arrays | {"f": np.float32(3), "o": collections.OrderedDict(a=1), np.str_("key"): np.int64(7)}


def real_pickles():
    """{name: bytes} of every format that is read."""
    content, tensors = real_content(), {"sign": torch.arange(6.0).reshape(2, 3)[:, 1:], "long": torch.arange(3), "name": "a"}
    files = {f"protocol {number}": pickle.dumps(content, number) for number in range(6)}
    files |= {f"tensors, protocol {number}": pickle.dumps(tensors, number) for number in (2, 4, 5)}
    for kind in (True, False):
        file = io.BytesIO()
        torch.save(tensors, file, _use_new_zipfile_serialization=kind)
        files[f"torch.save, {'zip' if kind else 'old'}"] = file.getvalue()
    return files | {f"gzip, {name}": gzip.compress(files[name], 1) for name in ("protocol 4", "tensors, protocol 4")}


def damaged(rng, canary, count):
    files = list(real_pickles().items())
    for number in range(count):
        name, content = files[number % len(files)]
        if name.startswith("gzip") and rng.random() < 0.7:
            content = gzip.compress(mutate(gzip.decompress(content), rng, canary), 1)
        elif name.endswith("zip") and rng.random() < 0.7:
            content = _repack(content, rng, canary)
        else:
            content = mutate(content, rng, canary)
        yield f"damaged {name}", content


def mutate(content, rng, canary=None):
    """Bits, opcodes, lengths, names, repeated and missing parts: one to four changes."""
    content = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        place, kind = rng.randrange(len(content)), rng.randrange(8)
        if kind == 0:
            content[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            content[place] = ord(rng.choice(pickletools.opcodes).code)
        elif kind == 2:
            del content[place : place + rng.choice((1, 4, 20, len(content)))]
        elif kind == 3:
            content[place:place] = content[place : place + rng.randrange(40)]
        elif kind == 4:
            content[place : place + 4] = struct.pack("<i", rng.choice((-1, 0, 2**31 - 1, -(2**31), 255, 65536)))
        elif kind == 5:
            content[place:place] = rng.choice(attacks(canary)) if canary else b"0"
        elif kind == 6:
            other = rng.randrange(len(content))
            content[place : place + 8], content[other : other + 8] = content[other : other + 8], content[place : place + 8]
        elif kind == 7:
            content[place:place] = struct.pack("<q", rng.choice((-1, 2**63 - 1, 2**40)))
        content = content or bytearray(b"\x80")
    return bytes(content)


def _repack(content, rng, canary):
    """A zip file of torch.save with one member damaged, missing, doubled or packed."""
    target, source = io.BytesIO(), zipfile.ZipFile(io.BytesIO(content))
    chosen, kind = rng.choice(source.namelist()), rng.randrange(4)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED if rng.random() < 0.3 else zipfile.ZIP_STORED) as archive:
        for name in source.namelist():
            member = source.read(name)
            if name != chosen or kind != 0:
                damaged_ = name == chosen or name.endswith(".pkl")
                archive.writestr(name, mutate(member or b"0", rng, canary) if damaged_ and kind in (1, 2) else member)
            if name == chosen and kind == 3:
                archive.writestr(name + "x", member)
    return target.getvalue()


def attacks(canary):
    """Parts of pickles that would run code if a name were looked up and called."""
    touch = f"touch {canary}".encode()
    python = f"open({str(canary)!r}, 'w')".encode()
    return [
        b"cos\nsystem\n(V" + touch + b"\ntR0",
        b"cposix\nsystem\n(V" + touch + b"\ntR0",
        b"(ios\nsystem\n0",
        b"(V" + touch + b"\nios\nsystem\n0",
        b"(cos\nsystem\nV" + touch + b"\no0",
        b"cbuiltins\neval\nV" + python + b"\n\x85R0",
        b"c__builtin__\neval\nV" + python + b"\n\x85R0",
        b"\x8c\x08builtins\x8c\x04exec\x93V" + python + b"\n\x85R0",
        b"\x8c\x05numpy\x8c\x12ndarray.__class__\x93)R0",
        b"csubprocess\nPopen\n(V" + touch + b"\nK\x00tR0",
        b"cos\nsystem\nV" + touch + b"\n\x85\x810",
        b"cos\nsystem\nV" + touch + b"\n\x85}\x920",
        b"ctorch.storage\n_load_from_bytes\nC" + bytes([len(touch) + 20]) + b"cos\nsystem\nV" + touch + b"\n\x85R.\x85R0",
        b"cnumpy\nload\nV/etc/hostname\n\x85R0",
    ]


def opcodes(rng):
    """Every opcode, known or not, alone and after values that it could take, with odd arguments."""
    before = (b"", b"(", b"]", b"}", b"K\x01K\x02", b"(]}K\x03", b"cnumpy\nndarray\n)", b"cnumpy\ndtype\nVf8\n\x85R")
    after = (b"", b"\xff" * 9, b"0\n1\n", b"\x00\x00\x00\x00")
    known = [ord(opcode.code) for opcode in pickletools.opcodes]
    for code in [*known, *known, *known, *rng.sample(sorted(set(range(256)) - set(known)), 30)]:
        content = b"\x80\x04" + rng.choice(before) + bytes([code]) + rng.choice(after) + rng.choice((b".", b"0N.", b"\x94."))
        yield f"opcode {bytes([code])!r}", content


ODD = (
    b"", b"N", b"]", b"}", b")", b"\x8f", b"\x88", b"K\x00", b"J\xff\xff\xff\xff", b"\x8a\x08" + b"\xff" * 7 + b"\x7f",
    b"\x8a\x09" + b"\xff" * 8 + b"\x7f", b"G\x7f\xf8" + bytes(6), b"Vlatin1\n", b"VO8\n", b"Vf8\n", b"VV8\n", b"V(2,)O\n", b"V<U999999\n",
    b"VM8[ns]\n", b"C\x08AAAAAAAA", b"C\x00", b"(K\x02K\x03t", b"(J\xff\xff\xff\xfft", b"(\x8a\x06\xff\xff\xff\xff\xff\x7ft",
    b"(K\x01K\x01K\x01K\x01K\x01K\x01t", b"]N\x85a", b"cnumpy\nndarray\n", b"cnumpy\ndtype\nVf8\n\x85R", b"cnumpy\ndtype\nVO8\n\x85R",
    b"cbuiltins\nint\n", b"ctorch\nFloatStorage\n", b"Vstorage\n", b"VF\n", b"\x96\x04\0\0\0\0\0\0\0abcd",
)  # fmt: skip


def names(rng, canary):
    """Every allowed name, and each other built-in one, called in every way with odd arguments, its result with odd states."""
    allowed = sorted(pickle_machine.NAMES) * 8
    refused = [("builtins", name) for name in dir(builtins)] + [("os", "system"), ("posix", "system"), ("numpy", "frombuffer")]
    refused += [
        ("numpy", "ndarray.__setstate__"),
        ("numpy", "memmap"),
        ("torch", "load"),
        ("copyreg", "_reconstructor"),
        ("pickle", "loads"),
    ]
    refused += [("operator", "attrgetter"), ("types", "FunctionType"), ("functools", "partial"), ("numpy.core.multiarray", "fromfile")]
    for module, name in allowed + refused:
        written = f"c{module}\n{name}\n".encode()
        arguments = b"".join(rng.choice(ODD) for _ in range(rng.randrange(8)))
        if rng.random() < 0.1:
            arguments = f"V{canary}\nVw\n".encode()
        state = b"(" + b"".join(rng.choices(ODD, k=rng.choice((2, 5, 8)))) + b"tb" if rng.random() < 0.5 else b""
        calls = (
            written + b"(" + arguments + b"tR", written + b"(" + arguments + b"t\x81", written + b"(" + arguments + b"t}\x92",
            b"(" + arguments + f"i{module}\n{name}\n".encode(), b"(" + written + arguments + b"o",
        )  # fmt: skip
        yield f"{module}.{name}", b"\x80\x04" + rng.choice(calls) + state + b"."


def by_hand(canary, scale):
    """Attacks and bombs with a known aim."""
    for attack in attacks(canary):
        yield "a name that runs code", attack + b"N."
    yield from memory_attacks()
    yield from bombs(scale)


ARRAY = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tC\x01btR"
OBJECTS = b"cnumpy\ndtype\n(VO8\n\x89\x88tR(K\x03V|\nNNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x3ftb"
FLOATS = b"cnumpy\ndtype\n(Vf8\n\x89\x88tR(K\x03V<\nNNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"


def memory_attacks():
    """Names that are allowed, put together so that NumPy or torch themselves would give away memory."""
    words = b"cnumpy\ndtype\n(Vu8\n\x89\x88tR(K\x03V<\nNNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    objects = ARRAY + b"(K\x01(K\x01t" + OBJECTS + b"\x89](K\x01etb"
    yield "a view of an array of objects as numbers", b"cnumpy\nndarray\n((K\x01t" + words + objects + b"tR."
    yield "a view of bytes that can be written", b"cnumpy\nndarray\n((K\x01t" + words + b"C\x08AAAAAAAAtR."
    yield "objects from bytes", ARRAY + b"(K\x01(K\x01t" + OBJECTS + b"\x89C\x08AAAAAAAAtb."
    yield "objects from a buffer", b"cnumpy.core.numeric\n_frombuffer\n(C\x08AAAAAAAA" + OBJECTS + b"(K\x01tVC\ntR."
    yield "an object from bytes", b"cnumpy.core.multiarray\nscalar\n(" + OBJECTS + b"C\x08AAAAAAAAtR."
    fields = b"(VV8\n\x89\x88tR(K\x03V|\nN(Vx\nt}Vx\n(" + OBJECTS + b"K\x00tsK\x08K\x01K\x00tb"
    for state in (b"(K\x01(K\x01tcnumpy\ndtype\n" + fields + b"\x89C\x08AAAAAAAAtb", b""):
        yield "a structure with objects, flags 0", (ARRAY + state if state else b"cnumpy\ndtype\n" + fields) + b"."
    yield "a structure with objects as a scalar", b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n" + fields + b"C\x08AAAAAAAAtR."
    for shape in (b"(K\x7ft", b"(J\xff\xff\xff\xfft", b"(\x8a\x05\0\0\0\0\1K\x00t", b"(\x8a\x09" + b"\xff" * 8 + b"\x00t", b"(K\x01t"):
        yield "a shape beside its data", ARRAY + b"(K\x01" + shape + FLOATS + b"\x89C\x04AAAAtb."
    yield "the state of an array in itself", ARRAY + b"q\x01(K\x01(K\x01t" + OBJECTS + b"\x89]h\x01atb."
    yield "a state set twice", ARRAY + (b"(K\x01(K\x01t" + FLOATS + b"\x89C\x08AAAAAAAAtb") * 2 + b"."
    yield (
        "a dtype changed after its array",
        ARRAY + b"(K\x01(K\x01t" + FLOATS + b"q\x07\x89C\x08AAAAAAAAtbh\x07(K\x03V>\nNNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x86.",
    )
    storage = stored(4)
    load = b"ctorch._utils\n_rebuild_tensor_v2\n(ctorch.storage\n_load_from_bytes\nB" + struct.pack("<I", len(storage)) + storage + b"\x85R"
    for offset, shape, strides in (
        (b"K\x05", b"(K\x01t", b"(K\x01t"), (b"K\x00", b"(K\x05t", b"(K\x01t"), (b"K\x00", b"(K\x02t", b"(J\xff\xff\xff\xfft"),
        (b"J\xff\xff\xff\xff", b"(K\x01t", b"(K\x01t"), (b"K\x00", b"(\x8a\x06\xff\xff\xff\xff\xff\x0ft", b"(K\x00t"),
        (b"K\x00", b"(K\x02t", b"(\x8a\x06\xff\xff\xff\xff\xff\x0ft"), (b"K\x00", b"(K\x02t", b"(\x8a\x09" + b"\xff" * 8 + b"\x00t"),
        (b"K\x00", b"(K\x02K\x02t", b"(K\x01t"), (b"K\x00", b"(J\xff\xff\xff\xfft", b"(K\x01t"),
    ):  # fmt: skip
        yield "a tensor outside its storage", load + offset + shape + strides + b"\x89ccollections\nOrderedDict\n)RtR."


def stored(length):
    """A storage of torch as it stands inside a pickled tensor."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of torch, about its own class
        return torch.arange(float(length)).storage().__reduce__()[1][0]


def bombs(scale):
    """Small files that ask for much memory or time."""
    yield "lists 100,000 deep", b"]" * 100_000 + b"a" * 99_999 + b"."
    yield "tuples 100,000 deep", b")" + b"\x85" * 100_000 + b"."
    yield "a list that contains itself", b"]q\x00h\x00a."
    yield "a dict that contains itself", b"}q\x00K\x01h\x00s."
    yield "lists that double 60 times", b"]" + b"".join(b"q\x01]h\x01ah\x01a" for _ in range(60)) + b"."
    yield "strings that double 60 times", b"V" + b"x" * 1000 + b"\n" + b"".join(b"q\x01]h\x01ah\x01a" for _ in range(60)) + b"."
    yield "keys that collide", b"}(" + b"".join(b"\x8a" + bytes([len(key)]) + key + b"N" for key in map(_collide, range(20_000))) + b"u."
    yield "lengths of 2^63", b"\x8e" + b"\xff" * 7 + b"\x7f."
    yield "a string of 2^32 letters", b"X\xff\xff\xff\xffabc."
    yield "a memo index of 2^32", b"Nr\xff\xff\xff\xffj\xff\xff\xff\xff."
    yield "an integer of 2^31 bytes", b"\x8b\xff\xff\xff\x7fabc."
    yield "an integer of a million digits", b"L" + b"9" * 1_000_000 + b"L\n."
    yield "a float of a million digits", b"F" + b"9" * 1_000_000 + b"\n."
    yield "a line without an end", b"V" + b"a" * 1_000_000
    yield "a million empty lists", b"(" + b"]" * 1_000_000 + b"l."
    yield "a million letters that are lists, packed", gzip.compress(b"]" * 20_000_000)
    yield "marks alone", b"(" * 1_000_000 + b"."
    yield "a persistent id", b"Vx\nQ."
    yield "a frame of 2^63", b"\x80\x04\x95" + b"\xff" * 7 + b"\x7fN."
    inner = stored(4)
    nested = b"ctorch.storage\n_load_from_bytes\nB" + struct.pack("<I", len(inner)) + inner + b"\x85"
    yield "one storage read 100,000 times", nested + b"q\x01" + b"0ctorch.storage\n_load_from_bytes\nh\x01R" * 100_000 + b"."
    packed = zlib.compressobj(9, wbits=31)
    size = (1100 << 20) if scale >= 1 else (20 << 20)
    block = b"]" * (1 << 20)
    yield "a gzip bomb", b"".join(packed.compress(block) for _ in range(size >> 20)) + packed.flush()
    yield "a gzip file in a gzip file", gzip.compress(gzip.compress(b"N."))
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(
            "a/data.pkl", b"ctorch._utils\n_rebuild_tensor_v2\n((Vstorage\nctorch\nFloatStorage\nV0\nVcpu\n\x8a\x05\0\0\0\x10\0tQK\x00))."
        )
        with archive.open("a/data/0", "w", force_zip64=True) as member:
            for _ in range(size >> 20):
                member.write(block)
    yield "a zip bomb", file.getvalue()
    many = io.BytesIO()
    with zipfile.ZipFile(many, "w") as archive:
        for number in range(11_000):
            archive.writestr(f"a/{number}", b"")
    yield "a zip file of 11,000 members", many.getvalue()
    yield "a zip file that is none", b"PK\3\4" + os.urandom(100)
    yield "an empty zip file", b"PK\5\6" + bytes(18)
    yield "nothing", b""
    yield "a text", Path(__file__).read_bytes()


def _collide(number):
    value = (number + 1) * (2**61 - 1)  # all of them have the hash 0
    return value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
