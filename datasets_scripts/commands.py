"""The command lines: a mistake is one line, which says what was meant, and exit status 2.

A script builds and calls its parser before the imports that take seconds, so that help and complaints come at once:

    if __name__ == "__main__":
        parse_early(checked)

    import datasets
    ...

    if __name__ == "__main__":
        run_command(main)
"""

import argparse
import difflib
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

FILE = Path("data") / "train-00000-of-00001.parquet"  # below the output_dir of commands that write one split
WAITING = ".unfinished"  # below the output_dir of commands that go on where they stopped
ENGINES = ("processes", "ray")  # of `shards.make_shards`
LOCAL_FOLDERS = ("outputs", "data")  # where the configs of train/ write to and read from
ARCHIVES = (".zip", ".gz", ".tar", ".tgz", ".xz", ".rar", ".7z")
MISTAKES = (
    ValueError, ImportError, FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError, PermissionError, ConnectionError,
)  # fmt: skip


class CommandParser(argparse.ArgumentParser):
    """A parser that describes itself by its module's docstring, takes no abbreviations, and ends with status 2 on a mistake."""

    def __init__(self, description: str | None = None, **kwargs: Any) -> None:
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(description=description, allow_abbrev=False, **kwargs)
        self._words: list[str] = []

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        self._words = list(sys.argv[1:] if args is None else args)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> Any:
        known = sorted(self._option_string_actions)
        unknown = [word.split("=")[0] for word in self._words if word.startswith("--") and word.split("=")[0] not in known]
        hints = [f" {word}:{hint.replace('D', 'd', 1)}" for word in dict.fromkeys(unknown) if (hint := did_you_mean(word, known, 2))]
        choice = re.search(r"invalid choice: '(.*)' \(choose from (.*)\)", message)
        if choice:
            hints.append(did_you_mean(choice[1], re.findall(r"[\w.-]+", choice[2])))
        end = "" if message.endswith((".", "?")) else "."
        self.exit(2, f"{self.prog}: {message}{end}{''.join(hints)} --help lists all options.\n")


def did_you_mean(word: str, names: Iterable[str], most: int = 1) -> str:
    """The hint "Did you mean X?" after a space, if some of the names are close to a word; else nothing."""
    near = difflib.get_close_matches(word, list(names), n=most, cutoff=0.7)
    return f" Did you mean {' or '.join(near)}?" if near else ""


def near_files(path: Path) -> str:
    """The hint "Did you mean X?", if the folder of a path that does not exist holds a similar name; else nothing."""
    parent = path.absolute().parent
    return did_you_mean(path.name, sorted(os.listdir(parent))) if parent.is_dir() and os.access(parent, os.R_OK) else ""


def existing_path(path: str | Path, option: str) -> Path:
    """A path that the user names with an option, if it exists; raises `FileNotFoundError` otherwise."""
    path = Path(path).expanduser()
    if not path.exists():
        raise FileNotFoundError(f"{option} {path} does not exist.{near_files(path)}")
    return path


def existing_folder(path: str | Path, option: str) -> Path:
    """A folder that the user names with an option, if it exists; raises `FileNotFoundError` or `NotADirectoryError` otherwise."""
    path = existing_path(path, option)
    if not path.is_dir():
        remedy = "Unpack it, and pass" if path.suffix.lower() in ARCHIVES else "Pass"
        raise NotADirectoryError(f"{option} {path} is a file. {remedy} the folder.")
    return path


def output_folder(path: str | Path, option: str = "--output_dir") -> Path:
    """A folder that exists or can be made; raises `NotADirectoryError` otherwise."""
    path = Path(path).expanduser()
    file = next((place for place in (path, *path.parents) if place.exists() and not place.is_dir()), None)
    if file is not None:
        raise NotADirectoryError(f"{option} {file} is a file. Pass the path of a folder, which may be new.")
    return path


def positive(text: str) -> int:
    """A whole number above 0, as the `type` of an argument."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0.")
    return int(text)


def add_engine_options(parser: CommandParser) -> None:
    parser.add_argument(
        "--num_proc", type=positive, metavar="N",
        help="processes (default 1), or with --engine ray processors of this machine (default all); the files are the same for any number",
    )  # fmt: skip
    parser.add_argument(
        "--engine", choices=ENGINES, help="of this machine (default), or Ray's cluster, which the variable RAY_ADDRESS names"
    )


def check_num_proc(num_proc: int | None, option: str = "--num_proc") -> None:
    """Raises `ValueError` for more processes than this machine has processors."""
    if num_proc is not None and not 1 <= num_proc <= num_processors():
        more = " To use several machines, pass --engine ray." if option == "--num_proc" else ""
        raise ValueError(
            f"{option} {num_proc}: found {num_processors()} processors, expected at most one process for each. Pass {option} "
            f"{num_processors()}, or fewer.{more}"
        )


def num_processors() -> int:
    """The processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def language_code(text: str) -> str:
    """An ISO 639-3 code, as the `type` of an argument."""
    if not re.fullmatch("[a-z]{3}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no ISO 639-3 code. Expected three small letters, such as ase or gsg.")
    return text


def local_or_hub(name: str, option: str) -> str:
    """The path of a folder or file that exists, or a Hub id `owner/name`; a path of this machine is not looked for on the Hub."""
    owner = name.split("/")[0]
    local = owner in LOCAL_FOLDERS or Path(owner).is_dir() or name.endswith(".parquet")
    on_hub = re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name) and not local
    return name if on_hub and not Path(name).exists() else str(existing_path(name, option))


def parse_early(parse: Callable[[], Any]) -> None:
    """Answers --help and mistakes of the command line; Ctrl-C during the imports that follow is no traceback either."""
    run_command(parse)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _stop)


def _stop(*_: object) -> None:
    os.write(2, b"Stopped by Ctrl-C.\n")
    os._exit(130)


def run_command(main: Callable[[], Any], again: str = "The same command starts again.") -> None:
    """Runs a command's `main`; what ends it early is said in one line, and by the exit status.

    130: stopped by Ctrl-C. 2: arguments or data that cannot be. 1: no room on the disk, or another error of the system. Any other error
    is a bug and shows its traceback, and UNIGLOR_TRACEBACK=1 shows that of all.

    Args:
        again: what the same command does after an interruption.
    """
    if signal.getsignal(signal.SIGINT) not in (signal.SIG_IGN, signal.default_int_handler):
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        main()
    except (OSError, *MISTAKES, KeyboardInterrupt) as error:
        if isinstance(error, KeyboardInterrupt):
            status, line = 130, f"Stopped by Ctrl-C. {again}"
        elif isinstance(error, MISTAKES):
            status, line = 2, in_words(error)
        else:
            status, line = 1, f"{in_words(error)} {again}"
        if os.environ.get("UNIGLOR_TRACEBACK", "0") not in ("", "0"):
            traceback.print_exc()
        print(line, file=sys.stderr, flush=True)
        sys.exit(status)


def in_words(error: BaseException) -> str:
    """An error in one line; of the system, the file and what is wrong with it instead of a number."""
    if isinstance(error, OSError) and error.strerror:
        return f"{f'{error.filename}: ' if error.filename is not None else ''}{error.strerror}."
    return " ".join(str(error).split()) or type(error).__name__


def check_new(path: Path) -> None:
    """Raises `FileExistsError` where a command would replace the rows of another one."""
    if any(path.parent.glob("[!.]*")):
        raise FileExistsError(f"{path.parent} holds rows already. Remove them, or choose another output_dir.")


def print_written(paths: Sequence[str | Path], next_command: str) -> None:
    """The last lines of a command: what it wrote, and what to do with it."""
    print(f"Written: {', '.join(map(str, paths))}")
    print(f"Next: {next_command}")
