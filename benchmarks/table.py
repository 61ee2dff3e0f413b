"""The benchmark tables of the README, from the results that are kept.

python -m benchmarks.table            # prints them
python -m benchmarks.table --write    # puts them between the README's markers
"""

import json
import sys
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
README = Path(__file__).parents[1] / "README.md"
MARKERS = "<!-- benchmarks: python -m benchmarks.table --write -->", "<!-- /benchmarks -->"


def markdown():
    """One table for each results file that `benchmarks.run` wrote, in order of their names."""
    tables = []
    for path in sorted(RESULTS.glob("run-*.json")):
        report = json.loads(path.read_text(encoding="utf-8"))
        lines = [
            f"{report['device']}, {report['threads']} threads, torch {report['torch']}, {report['date']}:",
            "",
            "| benchmark | case | ours | reference | ratio | memory, reference / ours |",
            "| --- | --- | --- | --- | --- | --- |",
        ]
        for row in report["results"]:
            ours, reference = (f"{_number(row[side])} {row['unit']}" if side in row else "" for side in ("ours", "reference"))
            memory = f"{row['reference_mib']:.0f} / {row['ours_mib']:.0f} MiB = {row['memory_ratio']}" if "memory_ratio" in row else ""
            if "memory_exponent" in row:
                memory = f"exponent {row['memory_exponent']}"
            ratio = _number(row["ratio"]) if "ratio" in row else ""
            lines.append(f"| {row['name']} | {row['case']} | {ours} | {reference} | {ratio} | {memory} |")
        tables.append("\n".join(lines))
    return "\n\n".join(tables)


def with_tables(readme):
    """The README's text with what stands between its markers replaced."""
    before, rest = readme.split(MARKERS[0])
    return f"{before}{MARKERS[0]}\n\n{markdown()}\n\n{MARKERS[1]}{rest.split(MARKERS[1])[1]}"


def _number(value):
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


if __name__ == "__main__":
    if "--write" in sys.argv:
        README.write_text(with_tables(README.read_text(encoding="utf-8")), encoding="utf-8")
    else:
        print(markdown())
