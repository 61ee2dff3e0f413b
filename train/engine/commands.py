"""The command line of what is no training: argparse, whose complaints are one line that says which option was meant."""

import argparse
import difflib
import os
import sys

PASSIVE_WAIT = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}


def wait_passively(environment=os.environ):
    """Lets this process's idle threads sleep, unless the user chose otherwise; to be called before torch is imported.

    OpenMP's threads spin by default while they wait for each other. Where other work wants their cores, a training of two threads then
    takes up to a hundred times as long.
    """
    if not {*PASSIVE_WAIT, "KMP_BLOCKTIME"} & environment.keys():
        environment.update(PASSIVE_WAIT)


class CommandParser(argparse.ArgumentParser):
    """A parser that describes itself by its module's docstring, takes no abbreviations, and ends with status 2 on a mistake.

    A script builds and calls it before the imports that take seconds, so that help and complaints come at once.
    """

    def __init__(self, description=None, **kwargs):
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        kwargs.setdefault("prog", _how_it_is_called())
        super().__init__(description=description, allow_abbrev=False, **kwargs)
        wait_passively()
        self._words = []

    def parse_known_args(self, args=None, namespace=None):
        self._words = list(sys.argv[1:] if args is None else args)
        return super().parse_known_args(args, namespace)

    def error(self, message):
        known = sorted(self._option_string_actions)
        unknown = [word.split("=")[0] for word in self._words if word.startswith("--") and word.split("=")[0] not in known]
        meant = [(word, difflib.get_close_matches(word, known, n=2)) for word in dict.fromkeys(unknown)]
        hints = [f" {word}: did you mean {' or '.join(near)}?" for word, near in meant if near]
        self.exit(2, f"{self.prog}: {message}.{''.join(hints)} --help lists all options.\n")


def _how_it_is_called():
    """`python -m train.embed`; None leaves the file's name, where the command is one."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return spec and f"python -m {spec.name.removesuffix('.__main__')}"
