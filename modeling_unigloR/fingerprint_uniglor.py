"""Hashes for the names of caches: they change with the tables and the code that process keypoints.

Sources are read through Python's own loaders, so that a folder, a zip archive and the code of a checkpoint are all alike.
"""

import functools
import hashlib
import importlib
import inspect
import re
from collections.abc import Iterable

from .keypoint_processing_uniglor import map_layout
from .keypoint_readers_uniglor import read_keypoints

LIBRARIES = ("builtins", "torch", "transformers")  # base classes of theirs are not followed


def processing_hash(processor: object = None) -> str:
    """Sixteen digits that change with the layouts, the source tables, and the code that reads and processes keypoints.

    Args:
        processor: a `KeypointProcessor`, whose own code counts too: it may be a subclass, or come from a checkpoint.
    """
    names = modules_of(read_keypoints.__module__, map_layout.__module__, *_modules_of_class(processor))
    facts = [code_hash(*names)]
    for name in names:  # as they are now, since entries may be added to them
        module = importlib.import_module(name)
        facts += [repr(getattr(module, table)) for table in ("LAYOUTS", "SOURCE_LAYOUTS") if hasattr(module, table)]
    return _digest(facts)


def code_hash(*names: str, of: object = None) -> str:
    """Sixteen digits that change with the source of modules and of what they import from their own package.

    Args:
        *names: of modules.
        of: an object whose class's modules, and those of its base classes, count too.
    """
    return _digest(_source(name) for name in modules_of(*names, *_modules_of_class(of)))


def modules_of(*names: str) -> list[str]:
    """Sorted names of modules and of all that they import from their own package, directly or not."""
    reached: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            package = importlib.import_module(name).__package__
            waiting += [f"{package}.{sibling}" for sibling in re.findall(r"^\s*from \.(\w+) import", _source(name), re.MULTILINE)]
    return sorted(reached)


def _modules_of_class(instance: object) -> list[str]:
    modules = () if instance is None else (cls.__module__ for cls in type(instance).__mro__)
    return [name for name in modules if name.partition(".")[0] not in LIBRARIES]


@functools.cache  # of this process: what is running, whatever happens to the files meanwhile
def _source(name: str) -> str:
    return inspect.getsource(importlib.import_module(name))


def _digest(facts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]
