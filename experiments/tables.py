"""The tables of the README and of docs/, from the results that are kept.

python -m experiments.tables            # prints them
python -m experiments.tables --write    # puts them between the documents' markers
"""

import json
import sys
from pathlib import Path

from experiments.include import format_rows as format_include
from experiments.real_mix import format_rows as format_real_mix

RESULTS = Path(__file__).parent / "results"
SPEED = Path(__file__).parents[1] / "benchmarks" / "results"
ROOT = Path(__file__).parents[1]
DOCUMENTS = ("README.md", "docs/results.md", "docs/benchmarks.md")
RENDERING_AND_DATA = ("rendering", "openpose_json", "pose_file", "build_memory", "built_segments")  # names of `benchmarks.run`
TEXT_SCORES = ("bleu1", "bleu4", "rouge_l", "chrf", "wer")


def speed():
    """The models' and the training's, one table for each results file that `benchmarks.run` wrote."""
    return _benchmarks(lambda name: name not in RENDERING_AND_DATA, "memory, reference / ours")


def rendering_and_data():
    """The same of drawing, reading and building."""
    return _benchmarks(lambda name: name in RENDERING_AND_DATA, "size, reference / ours")


def _benchmarks(wanted, last_column):
    tables = []
    for path in sorted(SPEED.glob("run-*.json")):
        report = json.loads(path.read_text(encoding="utf-8"))
        rows = [row for row in report["results"] if wanted(row["name"])]
        if not rows:
            continue
        lines = [
            f"{report['device']}, {report['threads']} threads, torch {report['torch']}, {report['date']}:",
            "",
            f"| benchmark | case | ours | reference | ratio | {last_column} |",
            "| --- | --- | --- | --- | --- | --- |",
        ]
        for row in rows:
            ours, reference = (f"{_number(row[side])} {row['unit']}" if side in row else "" for side in ("ours", "reference"))
            ratio = _number(row["ratio"]) if "ratio" in row else ""
            lines.append(f"| {row['name']} | {row['case']} | {ours} | {reference} | {ratio} | {_size(row)} |")
        tables.append("\n".join(lines))
    return "\n\n".join(tables)


def _size(row):
    """Of memory or of a file, whatever a row holds of it."""
    if "memory_ratio" in row:
        return f"{row['reference_mib']:.0f} / {row['ours_mib']:.0f} MiB = {row['memory_ratio']}"
    if "memory_exponent" in row:
        return f"exponent {row['memory_exponent']}"
    if "mib" in row:
        return f"{' / '.join(map(str, row['mib']))} MiB"
    if "reference_kib" in row:
        return f"{row['reference_kib']:.0f} / {row['kib']:.0f} KiB"
    return f"{row['kib']:.0f} KiB" if "kib" in row else ""


def rendered_phoenix():
    """The table that `experiments.rendered_phoenix_grid sign-to-text` collected: systems, then floors."""
    report = json.loads((RESULTS / "phoenix-rendered-sign-to-text.json").read_text(encoding="utf-8"))
    lines = [
        f"| | {' | '.join(TEXT_SCORES)} | BLEU-4 interval | learning rate, seeds |",
        f"| --- |{' ---: |' * len(TEXT_SCORES)} --- | --- |",
    ]
    for name, row in (report["rows"] | report["floors"]).items():
        values = [f"{row[score]:.2f}" for score in TEXT_SCORES]
        if row.get("seeds", 1) > 1:
            values[1] += f" ± {row['std']['bleu4']:.2f}"
        interval = " / ".join(f"{some['low']:.1f} to {some['high']:.1f}" for some in row.get("intervals", []))
        chosen = f"{row['learning_rate']}, {row['seeds']}" if "learning_rate" in row else ""
        lines.append(f"| {name} | {' | '.join(values)} | {interval} | {chosen} |")
    return "\n".join(lines)


def rendered_phoenix_production():
    """What `train.evaluate_checkpoint --task text-to-sign` wrote: back-translation, means and deviations over the judges."""
    report = json.loads((RESULTS / "phoenix-rendered-text-to-sign.json").read_text(encoding="utf-8"))
    lines = [f"| | {' | '.join(TEXT_SCORES)} |", f"| --- |{' ---: |' * len(TEXT_SCORES)}"]
    for name, row in report["rows"].items():
        values = [f"{row[score]:.2f}" + (f" ± {row['std'][score]:.2f}" if score == "bleu4" else "") for score in TEXT_SCORES]
        lines.append(f"| {name} | {' | '.join(values)} |")
    return "\n".join(lines)


def include():
    """Isolated words of INCLUDE, in five folds of whole recordings."""
    return format_include(json.loads((RESULTS / "include.json").read_text(encoding="utf-8"))["rows"])


def real_mix():
    """One SignMAE on real keypoints of several kinds."""
    return format_real_mix(json.loads((RESULTS / "real-mix.json").read_text(encoding="utf-8"))["sets"])


TABLES = {
    "benchmarks": speed,
    "rendering and data": rendering_and_data,
    "rendered PHOENIX14T": rendered_phoenix,
    "rendered PHOENIX14T, text-to-sign": rendered_phoenix_production,
    "INCLUDE": include,
    "real keypoints": real_mix,
}


def with_tables(text):
    """A document's text with what stands between its markers replaced; a table without markers is left out."""
    for name, table in TABLES.items():
        start, end = f"<!-- {name}: python -m experiments.tables --write -->", f"<!-- /{name} -->"
        if start not in text:
            continue
        before, rest = text.split(start)
        text = f"{before}{start}\n\n{table()}\n\n{end}{rest.split(end)[1]}"
    return text


def _number(value):
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


if __name__ == "__main__":
    if "--write" in sys.argv:
        for name in DOCUMENTS:
            (ROOT / name).write_text(with_tables((ROOT / name).read_text(encoding="utf-8")), encoding="utf-8")
    else:
        print("\n\n".join(table() for table in TABLES.values()))
