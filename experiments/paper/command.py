"""Runs one of the paper's tables: looks whether it can be finished, trains what is not there yet, and writes its result."""

import json
from pathlib import Path

from experiments.paper.values import DATASETS
from experiments.workplace import Workplace

FORM = 1  # of a kept result; one of another form is not read
KEPT = Path(__file__).parents[1] / "results" / "paper"
NEEDS_GLOSSES = ("tab1", "tab2", "fig8")  # where the paper's table has rows with glosses for a corpus that has them


def dataset_for(table: str, dataset: str | None) -> str:
    """The data set of a table; one that has only one need not be told.

    Raises:
        SystemExit: none, or one that the table cannot be run on.
    """
    known = DATASETS[table]
    if dataset is None and len(known) == 1:
        return known[0]
    if dataset not in known:
        asked = "no --dataset" if dataset is None else f"--dataset {dataset}"
        raise SystemExit(f"Found {asked} for {table}, expected one of {', '.join(known)}.")
    return dataset


def check(table: str, dataset: str, scale: str, place: Workplace, expect: bool = False, kept: Path = KEPT) -> None:
    """Refuses, before anything runs and in one line, what could not be finished.

    Raises:
        SystemExit: no such data or glosses; a kept result to compare with that is missing, or of another form or scale.
    """
    from experiments.paper import corpora

    if scale != "paper" and dataset in corpora.BUILT:
        raise SystemExit(f"{table} on {dataset} has the scale paper alone. Give --scale paper, or another --dataset.")
    if scale == "paper" and dataset == "include":
        raise SystemExit(f"{table} has no scale paper on INCLUDE: the paper's is on KSL-Guide-Word. Give --scale small.")
    if dataset == "how2sign" and table == "fig8":
        raise SystemExit("fig8 compares a reader with glosses, and how2sign has none. Give another --dataset.")
    corpora.check(place, dataset, needs_glosses=table in NEEDS_GLOSSES and dataset != "how2sign")
    if expect:
        content = read_kept(table, dataset, kept)
        if content is None:
            raise SystemExit(f"No result of {table} on {dataset} is kept to compare with. Leave --expect out.")
        if content["scale"] != scale:
            raise SystemExit(f"The kept result of {table} on {dataset} is of scale {content['scale']}. Give --scale {content['scale']}.")


def name_of(table: str, dataset: str) -> str:
    """The name of a result's files."""
    return f"{table}-{dataset}"


def read_kept(table: str, dataset: str, folder: Path = KEPT) -> dict | None:
    """A kept result, or None.

    Raises:
        SystemExit: it is of another form.
    """
    path = folder / f"{name_of(table, dataset)}.json"
    if not path.exists():
        return None
    content = json.loads(path.read_text(encoding="utf-8"))
    if content.get("form") != FORM:
        raise SystemExit(
            f"{path.name} is a result of form {content.get('form')} (commit {content.get('commit')}), and this is form {FORM}: "
            f"make it again with {content.get('command')}."
        )
    return content


def run(table: str, dataset: str, scale: str, seeds: int | None, place: Workplace, folder: Path) -> dict:
    """Runs a table whose needs are checked; returns what stands in its JSON."""
    from experiments import results
    from experiments.paper import estimate, figures, orderings, sizes, tables
    from experiments.readers import code_version

    made_of = sizes.sizes_of(table, dataset, scale, seeds)
    if scale == "paper":
        estimate.announce(table, place, dataset, made_of)
    result = getattr(figures if table.startswith("fig") else tables, table)(place, made_of, dataset)
    verdicts = orderings.judged(table, dataset, result.rows, result.contrasts)
    result.more |= {"form": FORM, "table": table, "dataset": dataset, "code": code_version(), "orderings": verdicts} | device_of(made_of)
    return results.write(name_of(table, dataset), result, folder, scale, results.command_line())


def device_of(sizes: dict) -> dict:
    """The device of a result, where it is not the threads of a CPU that `results.write` says."""
    import torch

    return {"device": torch.cuda.get_device_name()} if not sizes.get("use_cpu", True) and torch.cuda.is_available() else {}
