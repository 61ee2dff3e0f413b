"""docs/reproduction.md, from the results that are kept: every table and figure of the paper, run or not.

`python -m experiments.table` prints, writes and checks it with the other documents' tables.
"""

import re
from collections import Counter
from pathlib import Path

from experiments.paper.command import KEPT, name_of, read_kept
from experiments.paper.orderings import AGREES, CONTRADICTS, beaten_by
from experiments.paper.values import CORPUS_OF, DATASETS, PHOENIX, SIGN_METRICS, TABLES, TITLES, values_for

DOCUMENT = Path(__file__).parents[2] / "docs" / "reproduction.md"
TINY = "Scale `tiny`: it shows that everything runs, and nothing may be concluded from it."
IN_PER_CENT = ("top", "wer", "bleu", "rouge", "gloss_", "lcs_f", "same_gloss")  # how names of metrics begin; others are lengths and ratios
WEIGHED = (
    "Here the SignMAE has the paper's form (`PAPER` in experiments/pretraining.py): the project's own has a linear part beside its "
    "networks, which would carry most of what is decoded in any row."
)
HOW = {  # table: what is done otherwise than in the paper, whatever the data
    "tab1": (
        "Beams and length penalty of each row are chosen on held-out training sentences. GloFE-VN's visual encoder was pretrained with "
        "glosses in the paper; here it is trained from its start, see docs/baselines.md."
    ),
    "tab2": (
        "`ours` predicts all latents at once, as the paper's; `codes_flow` samples them. Back-translation is by frame-level judges on "
        "keypoints. `..._gloss` signs the corpus' glosses, and all others the text. "
        "MPJPE is in shoulder lengths, of clips resampled to the real length; a resting pose has a low one, so read it beside `speed`."
    ),
    "tab3": (
        "INCLUDE in the place of KSL-Guide-Word: other signs, words and cameras, and 432 clips. `untrained` and `pca` are what the paper "
        "leaves out: a SignMAE that no step has changed, and principal components of the same windows. See "
        "[results](results.md#isolated-words-include)."
    ),
    "tab4a": WEIGHED,
    "tab4b": WEIGHED,
    "tab4c": f"{WEIGHED} Clips that are shorter than a window are not pretrained on, which are more with 32 frames.",
    "tab4d": (
        f"{WEIGHED} The second corpus is the real clips of six small sets where How2Sign is not at hand. The paper does not say whether "
        "its rows have equally many steps or epochs."
    ),
    "tab5a": (
        f"{WEIGHED} Joint-SLT and ConSLT reconstruct nothing: an auxiliary head gives back the keypoints, so `none` and the others differ "
        "by that head too. The adaptive weights hardly adapt, see [results](results.md#what-earlier-results-show-and-what-they-do-not)."
    ),
    "tab5b": f"{WEIGHED} Weights count in the SignMAE's loss, and in the baselines' own.",
    "tab6": "Sentences at even distances in the test set, whatever they are. Words that the reference has are bold.",
    "tab8": "As Table 6, with other sentences.",
    "fig3": "One SignMAE, read at six strides. The paper draws a curve whose peak is at 7, without its numbers.",
    "fig4": "Sentences and frames at even distances, whatever they show.",
    "fig5": (
        "INCLUDE in the place of KSL-Guide-Word. t-SNE finds groups in anything: so it stands beside principal components and an untrained "
        "SignMAE, with the share of windows whose nearest one of another clip has the same gloss."
    ),
    "fig8": (
        "`near` is the share of attention within half a second of what attends, divided by that of even attention: 1 is even. The paper "
        "shows one map of each model and no number."
    ),
    "fig9": "As Figure 4, with other sentences.",
    "fig10": "As Figure 4, with other sentences.",
}
NOTES: dict[tuple[str, str], str] = {}  # (table, data set): what does not agree, and why, where that is known

HEAD = """# The paper's tables and figures

Made from kept results by `python -m experiments.table --write`; nothing here is written by hand but the remarks on method. Each section
comes from one command, which goes on where it was killed:

```bash
export UNIGLOR_DATA=data                                                  # real/, phoenix14t_annotations/; corpora that you built
python -m experiments.run tab1 --dataset spliced_signs --scale tiny       # minutes: shows that it runs
python -m experiments.run tab1 --dataset spliced_signs                    # scale small: at most 100 CPU minutes a table
python -m experiments.run tab1 --dataset phoenix14t --scale paper         # the paper's sizes: a GPU, and data/phoenix14t, data/how2sign
```

| data set | what it is |
| --- | --- |
| `phoenix_rendered_varied` | PHOENIX14T's sentences and timing with rendered, procedural motion: no PHOENIX14T result |
| `spliced_signs` | real signs of INCLUDE in made-up sentences that nobody signed, tested on other recording sessions |
| `include` | INCLUDE's isolated words, for the paper's KSL-Guide-Word |
| `phoenix14t`, `how2sign` | the corpora, which need their owners' agreement: not run here |

Every cell is what was measured here, with its 95 % interval, and after the stroke what the paper reports for its own corpus: the two are
not comparable as numbers, since data, sizes and training differ. What can be compared is the order of rows. An ordering *agrees* where
the difference has the paper's sign and its interval leaves out zero; it is *not resolved* where the interval holds zero, and
*contradicts* where it lies on the other side. Where neither row is above the floors that see no signing, both have learnt too little to
answer. Intervals go over test items, seeds of a reader are averaged, and a SignMAE has one seed: a difference between rows with different
SignMAEs holds for these two.
"""


def document(folder: Path = KEPT) -> str:
    """The whole document."""
    kept = {table: [made for dataset in DATASETS[table] if (made := read_kept(table, dataset, folder))] for table in TABLES}
    lines = [
        HEAD,
        "## At a glance",
        "",
        "| | run on | scale | seeds | agree | not resolved | contradict |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for table, results in kept.items():
        lines += [_glance(table, content) for content in results] or [f"| {TITLES[table]} | not run | | | | | |"]
    lines += ["", "Orderings at scale `tiny` are not counted."]
    for table, results in kept.items():
        lines += ["", f"## {TITLES[table]}", "", HOW[table]]
        for content in results:
            lines += ["", f"### {TITLES[table].split(':')[0]} on {content['dataset']}", "", _folded(content, section(content, folder))]
        if not results:
            lines += ["", f"Nothing was run yet. `python -m experiments.run {table} --dataset {DATASETS[table][0]}` runs it."]
        if table in ("tab1", "tab2"):
            lines += ["", f"On {' and '.join(('phoenix14t', 'how2sign'))} nothing was run: the corpora are not at hand."]
    return "\n".join(lines) + "\n"


def section(content: dict, folder: Path | None = None) -> str:
    """A result as Markdown; that a baseline beats ours is its first line."""
    table, dataset = content["table"], content["dataset"]
    lines = [TINY, ""] if content["scale"] == "tiny" else []
    lines += [*beaten_by(content, table)[:6], ""] if content["scale"] != "tiny" and beaten_by(content, table) else []
    size = (
        f"{content['test_sentences']} test sentences"
        if "test_sentences" in content
        else f"{content['clips']} clips"
        if "clips" in content
        else ""
    )
    lines += [f"On {content['what']}. Scale `{content['scale']}`{', ' + size if size else ''}."]
    if "picture" in content or (folder is not None and (folder / f"{name_of(table, dataset)}.svg").exists()):
        lines += ["", f"![{TITLES[table]}, {dataset}](../experiments/results/paper/{name_of(table, dataset)}.svg)"]
    metrics = list(dict.fromkeys(metric for row in content["rows"].values() for metric in row))
    in_paper = (
        [metric for metric in metrics if metric in SIGN_METRICS] if "mpjpe" in metrics and len(metrics) > len(SIGN_METRICS) else metrics
    )
    lines += ["", *_rows(content, in_paper, values_for(table, dataset), CORPUS_OF.get(dataset, PHOENIX))]
    if rest := [metric for metric in metrics if metric not in in_paper]:
        lines += ["", *_rows(content, rest, {}, "")]
    lines += _orderings(content) + _systems(content.get("systems")) + _examples(content.get("examples"))
    if note := NOTES.get((table, dataset)):
        lines += ["", note]
    lines += ["", f"In brackets 95 %: {content['unit']}. Test items: scored {content['scored']}."]
    lines += [f"`{content['command']}`, {content['date']}, commit {content['commit']}, {content['device']}."]
    return "\n".join(lines)


def _glance(table, content):
    counts = Counter(ordering["verdict"] for ordering in content["orderings"]) if content["scale"] != "tiny" else None
    systems = [row for name, row in content["rows"].items() if not name.startswith(("floor", "ceiling"))]
    seeds = max((score["seeds"] for row in systems for score in row.values()), default=0)
    numbers = (
        ["", "", ""] if counts is None else [counts[AGREES], counts.total() - counts[AGREES] - counts[CONTRADICTS], counts[CONTRADICTS]]
    )
    return f"| {TITLES[table]} | `{content['dataset']}` | {content['scale']} | {seeds} | {' | '.join(map(str, numbers))} |"


def _folded(content, text):
    return f"<details><summary>Only at scale tiny yet.</summary>\n\n{text}\n\n</details>" if content["scale"] == "tiny" else text


def _rows(content, metrics, values, corpus):
    heads = [f"{metric}{' / ' + corpus if any(metric in row for row in values.values()) else ''}" for metric in metrics]
    lines = [f"| | {' | '.join(heads)} | seeds |", "| --- |" + " ---: |" * (len(metrics) + 1)]
    for name in dict.fromkeys((*content["rows"], *values)):
        row = content["rows"].get(name, {})
        cells = [cell(metric, row.get(metric), values.get(name, {}).get(metric)) for metric in metrics]
        if row and not any(cells):
            continue
        seeds = max((score["seeds"] for score in row.values()), default="not run")
        lines.append(f"| {name} | {' | '.join(cells)} | {seeds} |")
    return lines


def cell(metric: str, score: dict | None, paper: float | None = None, sign: str = "") -> str:
    """A score with its interval, and what the paper has: "5.4 (4.1 to 6.2) / 12.86"."""
    here = ""
    if score is not None and score["mean"] is not None:
        digits = 1 if metric.startswith(IN_PER_CENT) else 3
        low, high = score.get("interval") or (None, None)
        here = f"{score['mean']:{sign}.{digits}f}" + ("" if low is None or high is None else f" ({low:.{digits}f} to {high:.{digits}f})")
    return here if paper is None else f"{here} / {paper:g}".strip()


def _orderings(content):
    if not content["orderings"]:
        return []
    lines = ["", "| the paper has above | below | metric | its difference | here | |", "| --- | --- | --- | ---: | ---: | --- |"]
    for ordering in content["orderings"]:
        paper = "not given" if ordering["paper"] is None else f"{ordering['paper']:+g}"
        here = cell(ordering["metric"], {"mean": ordering["ours"], "interval": ordering["interval"]}, sign="+")
        verdict = ordering["verdict"] if content["scale"] != "tiny" else ""
        lines.append(f"| {ordering['above']} | {ordering['below']} | {ordering['metric']} | {paper} | {here} | {verdict} |")
    return lines


def _systems(systems):
    """What each system took, where it says so."""
    made = {row: facts for row, facts in (systems or {}).items() if "parameters" in facts}
    if not made:
        return []
    lines = ["", "| | parameters | steps | seconds of a training | beams | length penalty |", "| --- | ---: | ---: | ---: | ---: | ---: |"]
    for row, facts in made.items():
        seconds = "" if facts.get("seconds") is None else f"{facts['seconds']:.0f}"
        cells = [f"{facts['parameters']:,}", facts.get("steps", ""), seconds, facts.get("num_beams", ""), facts.get("length_penalty", "")]
        lines.append(f"| {row} | {' | '.join(map(str, cells))} |")
    return lines


def _examples(examples):
    lines = []
    for example in examples or []:
        lines += ["", "| | |", "| --- | --- |", f"| reference | {_escaped(example['reference'])} |"]
        systems = [name for name in example if name not in ("id", "reference")]
        lines += [f"| {name} | {marked(example['reference'], example[name])} |" for name in systems]
    return lines


def marked(reference: str, translation: str) -> str:
    """A translation with the words in bold that the reference has, each at most as often as there."""
    left, words = Counter(reference.lower().split()), []
    for word in translation.split():
        known = left[word.lower()] > 0 and re.search(r"\w", word) is not None
        left[word.lower()] -= known
        words.append(f"**{_escaped(word)}**" if known else _escaped(word))
    return " ".join(words) or "(nothing)"


def _escaped(text):
    return re.sub(r"([|*_<>`\\])", r"\\\1", text)
