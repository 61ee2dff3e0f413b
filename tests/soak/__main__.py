"""Runs the parts of the soak and writes their table.

    python -m tests.soak                                   # all parts, under 40 minutes on 2 cores
    python -m tests.soak --only pickles streams --scale 0.1

The outcomes of each part go to OUT/soak/PART.json as soon as it has ended; `benchmarks/results/reliability.md` is written
from all that are there.
"""

import argparse
import importlib
import json
import os
import platform
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

PARTS = ("pickles", "checkpoints", "inputs", "serving", "streams", "caches", "media")
RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"


def main(argv=None):
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="parts to run")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the cases; results are written at 1 alone")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    os.environ["HF_HUB_OFFLINE"] = "1"
    failed = False
    for part in arguments.only:
        start = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix=f"soak-{part}-") as folder:
            rows = importlib.import_module(f"tests.soak.{part}").soak(arguments.scale, Path(folder), arguments.seed)
        facts = dict(part=part, seed=arguments.seed, seconds=round(time.perf_counter() - start), machine=machine())
        facts["rows"] = [asdict(row) for row in rows]
        print(table([facts]), flush=True)
        failed |= any(row.bad for row in rows)
        if arguments.scale == 1:
            folder = RESULTS / "reliability"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{part}.json").write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
            write_table(folder)
    return int(failed)


def write_table(folder):
    """`reliability.md` from all parts' outcomes that are there."""
    facts = [json.loads(path.read_text(encoding="utf-8")) for path in (folder / f"{part}.json" for part in PARTS) if path.exists()]
    (RESULTS / "reliability.md").write_text(
        "# Reliability\n\nWritten by `make soak`; the outcomes of each part, with examples of what failed, are in `reliability/`.\n\n"
        + table(facts),
        encoding="utf-8",
    )


def table(facts):
    lines = ["| what | tried | outcomes | failures | asked | |", "| --- | ---: | --- | ---: | --- | --- |"]
    for part in facts:
        for row in part["rows"]:
            outcomes = ", ".join(f"{count:,} {name}" for name, count in row["outcomes"].items())
            lines.append(f"| {row['what']} | {row['tried']:,} | {outcomes} | {row['bad']:,} | {row['asked']} | {row['note']} |")
            for example in row["examples"][:10]:
                print(f"  {row['what']}: {example}", file=sys.stderr)
    times = "; ".join(f"{part['part']} {part['seconds'] / 60:.1f} min on {part['machine']}, seed {part['seed']}" for part in facts)
    return "\n".join([*lines, "", times, ""])


def machine():
    return f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, Python {platform.python_version()}"


if __name__ == "__main__":
    sys.exit(main())
