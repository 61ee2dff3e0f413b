"""The command line of all commands but the trainings: argparse with errors of one line, which say which option was meant."""

import os
import sys

from datasets_scripts.commands import CommandParser as Parser

PASSIVE_WAIT = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}


def wait_passively(environment=os.environ):
    """Lets this process's idle threads sleep, unless the user chose otherwise; to be called before torch is imported.

    OpenMP's threads spin by default while they wait for each other. Where other work wants their cores, a training of two threads then
    takes up to a hundred times as long.
    """
    if not {*PASSIVE_WAIT, "KMP_BLOCKTIME"} & environment.keys():
        environment.update(PASSIVE_WAIT)


class CommandParser(Parser):
    """A parser of `datasets_scripts.commands` that is named as its command is called, and lets threads sleep."""

    def __init__(self, description=None, **kwargs):
        kwargs.setdefault("prog", _how_it_is_called())
        super().__init__(description, **kwargs)
        wait_passively()


def _how_it_is_called():
    """`python -m train.embed`; None leaves the file's name, where the command is one."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return spec and f"python -m {spec.name.removesuffix('.__main__')}"
