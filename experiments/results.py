"""What is kept of an experiment: rows of scores with their intervals and seeds, contrasts, what made them, and the predictions beside it.

    rows:      {row: {metric: {"mean": x, "interval": [low, high], "seeds": n}}}
    contrasts: {"pretrained - pca": {metric: {"mean": x, "interval": [low, high]}}}
    unit:      what is drawn for the intervals, or what they are a t interval over
    scored:    how often the test items were scored
    command, commit, versions, device, scale, config, date

The predictions, for each row, seed and test item, are in NAME.predictions.json.gz, so that any interval can be computed again.
"""

import gzip
import json
import platform
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import transformers

from datasets_scripts.whole import write_whole
from train.evaluation.tables import without_nan

RESULTS = Path(__file__).parent / "results"
ROOT = Path(__file__).parents[1]


@dataclass
class Result:
    """What an experiment found.

    Attributes:
        rows, contrasts, unit, scored: see the module.
        config: everything that decides the numbers.
        predictions: of each test item; anything that JSON knows.
        more: further facts.
        picture: an SVG document that stands beside it as NAME.svg, or None.
    """

    what: str
    rows: dict
    contrasts: dict
    unit: str
    scored: str
    config: dict
    predictions: dict
    more: dict = field(default_factory=dict)
    picture: str | None = None


def write(name: str, result: Result, folder: Path, scale: str, command: str) -> dict:
    """NAME.json and NAME.predictions.json.gz; returns what stands in the first."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "name": name,
        "what": result.what,
        "scale": scale,
        "rows": _rounded(result.rows),
        "contrasts": _rounded(result.contrasts),
        "unit": result.unit,
        "scored": result.scored,
        "config": _plain(result.config),
        **_rounded(result.more),
        "command": command,
        "commit": commit(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "transformers": transformers.__version__},
        "device": result.more.get("device") or f"{torch.get_num_threads()} threads of a CPU",
        "date": time.strftime("%Y-%m-%d"),
    }
    packed = json.dumps(without_nan(_plain(result.predictions)), ensure_ascii=False, separators=(",", ":")).encode()
    write_whole(folder / f"{name}.predictions.json.gz", gzip.compress(packed, mtime=0))
    if result.picture is not None:
        write_whole(folder / f"{name}.svg", result.picture)
    write_whole(folder / f"{name}.json", json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    return content


def read(name: str, folder: Path | None = None) -> dict:
    folder = RESULTS if folder is None else folder
    return json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))


def read_predictions(name: str, folder: Path | None = None) -> dict:
    folder = RESULTS if folder is None else folder
    return json.loads(gzip.decompress((folder / f"{name}.predictions.json.gz").read_bytes()))


def commit() -> str:
    """Of the code, with a mark where files differ from it."""
    try:
        asked = dict(cwd=ROOT, capture_output=True, text=True, check=True)
        name = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], **asked).stdout.strip()
        changed = subprocess.run(["git", "status", "--porcelain", "--untracked-files=no"], **asked).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{name} with changes" if changed else name


def differences(found: dict, expected: dict) -> list[str]:
    """The differences between a run's rows and the kept result's: a line for each mean that lies outside of the kept interval.

    Where there is no interval, the kept result's `tolerance` of the metric counts, or else a hundredth of the value.
    """
    lines = []
    if found["scale"] != expected["scale"]:
        return [f"Found scale {found['scale']}, but the kept result is of scale {expected['scale']}. Run with --scale {expected['scale']}."]
    for name, metrics in expected["rows"].items():
        for metric, kept in metrics.items():
            mine = found["rows"].get(name, {}).get(metric)
            if mine is None:
                lines.append(f"{name}, {metric}: missing")
                continue
            low, high = kept["interval"] or (None, None)
            if low is None or high is None:
                tolerance = expected.get("tolerance", {}).get(metric, abs(kept["mean"]) / 100)
                low, high = kept["mean"] - tolerance, kept["mean"] + tolerance
            if not low <= mine["mean"] <= high:
                lines.append(f"{name}, {metric}: found {mine['mean']:.4g}, expected {low:.4g} to {high:.4g} (kept {kept['mean']:.4g})")
    return lines


def command_line() -> str:
    """The command line of this run, without the options that name folders of this machine."""
    words, arguments = iter(sys.argv[1:]), []
    for word in words:
        if word.split("=")[0] in ("--output_dir", "--data_dir", "--results_dir"):
            next(words, None) if "=" not in word else None
        else:
            arguments.append(word)
    return " ".join(["python -m experiments.run", *arguments])


def _rounded(value):
    """Rounds numbers to six digits; those that are not finite become None."""
    if isinstance(value, dict):
        return {str(name): _rounded(item) for name, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_rounded(item) for item in value]
    if isinstance(value, (float, np.floating)):
        return float(f"{value:.6g}") if np.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value


def _plain(value):
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value
