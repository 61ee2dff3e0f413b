"""The place of an experiment, and pieces of its work that are done once.

A piece is a file or a folder. Its name is a hash of what it is made from, and it appears only when it is whole. So a run that was killed
goes on with the pieces that are done, and a run with other settings never reads them.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from datasets_scripts.whole import remove_unfinished, whole_folder, write_whole


class MissingDataError(SystemExit):
    """Real data are needed but missing. The message is one line."""


@dataclass
class Workplace:
    """Where an experiment reads and writes.

    Attributes:
        data_dir: real keypoints and annotations, or None.
        output_dir: what is made.
    """

    data_dir: Path | None
    output_dir: Path

    def data(self, *names: str) -> Path:
        """A folder or file of the real data.

        Raises:
            MissingDataError: it is not there.
        """
        path = Path(self.data_dir or "", *names)
        if self.data_dir is None or not path.exists():
            problem = f"{path} is missing" if self.data_dir is not None else "No real data are named"
            raise MissingDataError(
                f"{problem}. Set UNIGLOR_DATA or give --data_dir: the folder that holds real/ and phoenix14t_annotations/."
            )
        return path

    def path(self, kind: str, *facts) -> Path:
        """The place of a piece: `kind`, and a hash of what else it depends on."""
        return self.output_dir / f"{kind}-{hashlib.sha256(json.dumps(facts, default=str).encode()).hexdigest()[:10]}"

    def once(self, path: Path, make: Callable):
        """What `make()` returns, as JSON; it is read from `path` where an earlier run has written it."""
        path = path.with_name(f"{path.name}.json")
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, json.dumps(make(), ensure_ascii=False))
        return json.loads(path.read_text(encoding="utf-8"))

    def folder_once(self, path: Path, write: Callable[[Path], None]) -> Path:
        """`path`, a folder that `write(folder)` fills where it is not there yet."""
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            remove_unfinished(path.parent)
            with whole_folder(path) as folder:
                write(folder)
        return path


def words(fields: dict) -> list[str]:
    """A training's fields as words of its command line."""
    strings = {name: value if isinstance(value, str) else json.dumps(value, default=str) for name, value in fields.items()}
    return [word for name, value in strings.items() for word in (f"--{name}", value)]
