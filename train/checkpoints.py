"""Says whether checkpoints of a training are whole, or what is wrong with them; see docs/training.md.

python -m train.checkpoints outputs/sign-mae/checkpoint-20
python -m train.checkpoints --accept outputs/sign-mae/checkpoint-20     # of an older version: lists its files as they are
"""

from pathlib import Path

from train.engine.commands import CommandParser


def parse(argv=None):
    parser = CommandParser(__doc__)
    parser.add_argument("checkpoint", type=Path, nargs="+", help="folders checkpoint-N")
    parser.add_argument("--accept", action="store_true", help="write checkpoint.json where there is none, for the files as they are")
    return parser.parse_args(argv)


if __name__ == "__main__":
    parse()  # answers --help and mistakes before the imports that take seconds

import sys

from transformers.trainer import TRAINER_STATE_NAME

from train.engine.checkpoints import MANIFEST, damage, write_manifest
from train.engine.runs import run_script


def main(argv=None):
    arguments = parse(argv)
    failed = False
    for folder in arguments.checkpoint:
        if not (folder / TRAINER_STATE_NAME).is_file():
            raise ValueError(f"{folder} is no checkpoint: it has no {TRAINER_STATE_NAME}.")
        if arguments.accept and not (folder / MANIFEST).exists():
            write_manifest(folder)
        reason = damage(folder)
        print(f"{folder}: " + (reason or "whole"))
        failed |= reason is not None
    return int(failed)


if __name__ == "__main__":
    run_script(lambda: sys.exit(main()))
