"""Lists and cleans the folders of processed frames and latents that runs have kept; see docs/caches.md.

python -m train.cache list
python -m train.cache clean --older_than 30          # says what would be removed; --yes removes it
"""

from pathlib import Path

from train.engine.commands import CommandParser


def parse(argv=None):
    parser = CommandParser(__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    listing = commands.add_parser("list", help="what is kept, of what data, how large, and when it was used last")
    cleaning = commands.add_parser("clean", help="remove what was not used for some days; without --yes only say what would be removed")
    for command in (listing, cleaning):
        command.add_argument("--cache_dir", type=Path, help="where frames and latents are kept; by default in the cache of datasets")
    cleaning.add_argument("--older_than", type=float, default=30.0, metavar="DAYS", help="since the last use; by default 30, 0 for all")
    cleaning.add_argument("--kind", nargs="+", choices=("frames", "latents"), default=("frames", "latents"), help="by default both")
    cleaning.add_argument("--yes", action="store_true", help="remove it")
    arguments = parser.parse_args(argv)
    if arguments.command == "clean" and not arguments.older_than >= 0:
        parser.error(f"--older_than {arguments.older_than}: expected a number of days, 0 or more")
    return arguments


if __name__ == "__main__":
    parse()  # answers --help and mistakes before the imports that take seconds

import datasets

from train.data.caches import clean, describe, entries, size_of
from train.engine.runs import run_script


def main(argv=None):
    arguments = parse(argv)
    place = Path(arguments.cache_dir or datasets.config.HF_DATASETS_CACHE)
    if arguments.command == "list":
        folders = entries(arguments.cache_dir)
        print(f"{place}: {len(folders)} folders of frames and latents, {size_of(sum(entry.size for entry in folders))}")
    else:
        folders = clean(arguments.cache_dir, arguments.kind, arguments.older_than, arguments.yes)
        what = f"{len(folders)} folders, {size_of(sum(entry.size for entry in folders))}, not used for {arguments.older_than:g} days"
        print(f"{place}: {'removed' if arguments.yes else 'would remove'} {what}")
    for entry in folders:
        print(describe(entry))
    if arguments.command == "clean" and folders and not arguments.yes:
        print("Nothing was removed. Give --yes to remove them: they are built again when they are needed.")
    if arguments.command == "list" and arguments.cache_dir is None:
        print(f"Data sets as Arrow files, which `datasets` keeps for all projects, are in {place} too; they are left alone.")
    return folders


if __name__ == "__main__":
    run_script(main)
