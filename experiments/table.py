"""The tables of docs/, from the results that are kept.

python -m experiments.table            # prints them
python -m experiments.table --write    # puts them between the documents' markers, and writes docs/reproduction.md
python -m experiments.table --check    # fails where a document shows another table than its result gives
"""

import json
import re
import sys
from functools import partial
from pathlib import Path

from experiments.paper import reproduction

RESULTS = Path(__file__).parent / "results"
SPEED = Path(__file__).parents[1] / "benchmarks" / "results"
ROOT = Path(__file__).parents[1]
DOCUMENTS = ("README.md", "docs/results.md", "docs/benchmarks.md")
RENDERING_AND_DATA = ("rendering", "openpose_json", "pose_file", "build_memory", "built_segments")  # names of `benchmarks.run`
IN_PER_CENT = (
    "top",
    "wer",
    "bleu",
    "rouge",
    "chrf",
    "recall",
    "gloss_",
    "lcs_f",
)  # how names of metrics begin; others are lengths and ratios
TINY = "Scale `tiny`: it shows that everything runs, and nothing may be concluded from it."


def result(name):
    """The tables of a kept result, folded away where nothing may be concluded from them; None where there is none."""
    path = RESULTS / f"{name}.json"
    if not path.exists():
        return None
    content = json.loads(path.read_text(encoding="utf-8"))
    made = format_result(content)
    return f"<details><summary>Only at scale tiny yet.</summary>\n\n{made}\n\n</details>" if content["scale"] == "tiny" else made


def format_result(content):
    """A result as Markdown: its rows, then what `pretrained` has more than others, each with its interval, then how it was made."""
    lines = [TINY, ""] if content["scale"] == "tiny" else []
    metrics = list(dict.fromkeys(metric for row in content["rows"].values() for metric in row))
    lines += [f"| | {' | '.join(metrics)} | seeds |", "| --- |" + " ---: |" * (len(metrics) + 1)]
    for name, row in content["rows"].items():
        seeds = max(cell["seeds"] for cell in row.values())
        lines.append(f"| {name} | {' | '.join(_cell(metric, row.get(metric)) for metric in metrics)} | {seeds} |")
    if content["contrasts"]:
        lines += ["", f"| difference | {' | '.join(metrics)} |", "| --- |" + " ---: |" * len(metrics)]
        for name, row in content["contrasts"].items():
            lines.append(f"| {name} | {' | '.join(_cell(metric, row.get(metric), sign='+') for metric in metrics)} |")
    lines += _of_documents(content.get("documents")) + _of_sets(content.get("sets"))
    lines += ["", f"In brackets 95 %: {content['unit']}. Test items: scored {content['scored']}."]
    lines += [f"`{content['command']}`, {content['date']}."]
    return "\n".join(lines)


def _of_documents(documents):
    """Every document of `dgs` by itself, with the share that permutations reach, of all sentences and of sentences of like length."""
    if not documents:
        return []
    chance = {name: next(iter(rows.values()))["chance"] for name, rows in documents.items()}
    heads = [f"{name}, chance {chance[name]:.1f}" for name in documents]
    lines = ["", f"| recall5 of a document | {' | '.join(heads)} |", "| --- |" + " ---: |" * len(heads)]
    for row in next(iter(documents.values())):
        cells = [
            f"{rows[row]['recall5']:.1f} (p = {rows[row]['p']:.3f}, {rows[row]['p_within_length']:.3f})" for rows in documents.values()
        ]
        lines.append(f"| {row} | {' | '.join(cells)} |")
    return lines + [
        "",
        "In brackets permutation tests of the first seed: of all sentences, and within blocks of ten sentences of like length.",
    ]


def _of_sets(sets):
    """`mpjpe` of every set of `real_mix` by itself."""
    if not sets:
        return []
    lines = ["", f"| mpjpe of a set | {' | '.join(sets)} |", "| --- |" + " ---: |" * len(sets)]
    for row in next(iter(sets.values()))["rows"]:
        lines.append(f"| {row} | {' | '.join(format(entry['rows'][row]['mpjpe'], '.3f') for entry in sets.values())} |")
    return lines


def _cell(metric, score, sign=""):
    if score is None or score["mean"] is None:
        return ""
    mean, digits = score["mean"], 1 if metric.startswith(IN_PER_CENT) else 3
    value = f"{mean:{sign}.{digits}f}"
    low, high = score.get("interval") or (None, None)
    return value if low is None or high is None else f"{value} ({low:.{digits}f} to {high:.{digits}f})"


def speed():
    """The speed of models and of training: one table for each results file that `benchmarks.run` wrote."""
    return _benchmarks(lambda name: name not in RENDERING_AND_DATA, "memory, reference / ours")


def rendering_and_data():
    """The speed of drawing, reading and building, in tables like those of `speed`."""
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
    """The last column of a row: the memory or file size that it was measured with, and the share of a GPU's peak."""
    return ", ".join(filter(None, (_memory(row), f"MFU {100 * row['mfu']:.0f} %" if "mfu" in row else "")))


def _memory(row):
    if "memory_ratio" in row:
        return f"{row['reference_mib']:.0f} / {row['ours_mib']:.0f} MiB = {row['memory_ratio']}"
    if "memory_exponent" in row:
        return f"exponent {row['memory_exponent']}"
    if "mib" in row:
        return f"{' / '.join(map(str, row['mib']))} MiB"
    if "reference_kib" in row:
        return f"{row['reference_kib']:.0f} / {row['kib']:.0f} KiB"
    return f"{row['kib']:.0f} KiB" if "kib" in row else ""


TABLES = {"benchmarks": speed, "rendering and data": rendering_and_data} | {
    name: partial(result, name)
    for name in (
        "include", "real_mix", "dgs", "bsl", "gloss_probe", "phoenix_rendered", "phoenix_rendered_varied", "spliced_signs", "signing",
        "signing_varied", "signing_spliced",
    )
}  # fmt: skip
MARKER = "<!-- {}: python -m experiments.table --write -->"


def with_tables(text):
    """A document's text with what stands between its markers replaced; a table without markers, or without a result, is left out."""
    for name, table in TABLES.items():
        start, end = MARKER.format(name), f"<!-- /{name} -->"
        if start in text and (made := table()) is not None:
            before, rest = text.split(start)
            text = f"{before}{start}\n\n{made}\n\n{end}{rest.split(end)[1]}"
    return text


def differing():
    """The documents that show another table than the kept results give, or one that has no result."""
    documents = []
    for name in DOCUMENTS:
        text = (ROOT / name).read_text(encoding="utf-8")
        without = [table for table in re.findall(MARKER.format("(.*?)"), text) if table not in TABLES or TABLES[table]() is None]
        if with_tables(text) != text or without:
            documents.append(f"{name}{f': no result of {without}' if without else ''}")
    made = reproduction.DOCUMENT
    if not made.exists() or made.read_text(encoding="utf-8") != reproduction.document():
        documents.append(f"docs/{made.name}")
    return documents


def main(argv=None):
    argv = sys.argv[1:] if argv is None else argv
    if "--check" in argv:
        if documents := differing():
            raise SystemExit(f"Not the tables of the kept results: {', '.join(documents)}. Run python -m experiments.table --write.")
    elif "--write" in argv:
        for name in DOCUMENTS:
            (ROOT / name).write_text(with_tables((ROOT / name).read_text(encoding="utf-8")), encoding="utf-8")
        reproduction.DOCUMENT.write_text(reproduction.document(), encoding="utf-8")
    else:
        print("\n\n".join(made for table in TABLES.values() if (made := table()) is not None))


def _number(value):
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


if __name__ == "__main__":
    main()
