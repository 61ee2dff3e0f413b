"""The data sets that the paper's tables are run on here, and what a table needs of them, checked before anything runs.

Rendered PHOENIX14T has real sentences and procedural motion, spliced signs are real signs in made-up sentences: neither is a corpus of the
paper, and none is called by its name alone. `phoenix14t` and `how2sign` are the corpora themselves, built by `datasets_scripts.build` into
folders of these names in --data_dir.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from experiments import corpora, spliced_signs
from experiments.intervals import NUM_SAMPLES, times_of_parts
from experiments.workplace import MissingDataError, Workplace

SPLITS = ("train", "validation", "test")
BUILT = ("phoenix14t", "how2sign")
WHAT = {
    "phoenix_rendered_varied": "PHOENIX14T's sentences with rendered, procedural motion, variation 1.2; no PHOENIX14T result",
    "spliced_signs": "sentences spliced of real INCLUDE clips, tested on recording sessions that were never trained on; nobody signed them",
    "phoenix14t": "PHOENIX14T, built from the corpus",
    "how2sign": "How2Sign, built from the corpus",
    "include": "INCLUDE, 43 words of its official training part; tested on recording sessions that the recogniser has not seen",
}


@dataclass
class Corpus:
    """Sentences to translate, or to sign.

    Attributes:
        name: a key of `WHAT`.
        parts: {"train", "validation", "test"} Parquet files of each fold; their test sentences are scored together.
        pretraining: files that the SignMAE learns from, and held_out: those that it is validated on.
        second: files of another corpus, for Tab 4d; held_out_second.
        times_of: ids -> how often each draw of an interval holds each item, where something else than sentences is drawn.
        unit: what is drawn.
    """

    name: str
    parts: list[dict[str, Path]]
    pretraining: list[Path]
    held_out: list[Path]
    second: list[Path]
    times_of: Callable = lambda ids: None
    unit: str = "sentences drawn with replacement, means over seeds; the seed of the SignMAE is one"

    @property
    def what(self) -> str:
        return WHAT[self.name]


def corpus_of(place: Workplace, dataset: str, sizes: dict) -> Corpus:
    """The corpus of a data set of sentences; what is rendered or spliced is built where it is not there yet."""
    if dataset == "spliced_signs":
        mix = corpora.real_mix(place, sizes["mix_limit"])
        held_out = [files["validation"] for name, files in mix.items() if "validation" in files and name not in corpora.NEVER_TRAINED_ON]
        source = place.data("real", "include43")
        folders = [spliced_signs.build(source, place.output_dir, fold, sizes["corpus"]) for fold in spliced_signs.FOLDS]
        parts = [{split: next(folder.glob(f"{split}-*.parquet")) for split in SPLITS} for folder in folders]
        return Corpus(
            dataset, parts, corpora.training_files(mix), held_out, [],
            times_of=lambda ids: times_of_parts([spliced_signs.takes_of(id) for id in ids], NUM_SAMPLES),
            unit="test takes drawn with replacement, means over seeds; the seed of the SignMAE is one",
        )  # fmt: skip
    if dataset == "phoenix_rendered_varied":
        files = corpora.rendered(place, 1.2, sizes["limit"])
        return Corpus(dataset, [files], [files["train"]], [files["validation"]], [])
    built = {name: {split: whole_split(place, name, split) for split in SPLITS} for name in BUILT}
    return Corpus(
        dataset, [built[dataset]], [files["train"] for files in built.values()], [files["validation"] for files in built.values()], []
    )


def whole_split(place: Workplace, name: str, split: str) -> Path:
    """The Parquet file of a split of a built corpus; of several files one is made."""
    paths = sorted(place.data(name, "data").glob(f"{split}-*.parquet"))
    if len(paths) == 1:
        return paths[0]

    def write(folder):
        with pq.ParquetWriter(folder / f"{split}.parquet", pq.read_schema(paths[0])) as writer:
            for path in paths:
                for batch in pq.ParquetFile(path).iter_batches(64):
                    writer.write_batch(batch)

    facts = [name, split, [(path.name, path.stat().st_size) for path in paths]]
    return place.folder_once(place.path("whole-split", *facts), write) / f"{split}.parquet"


def of_two(place: Workplace, corpus: Corpus, sizes: dict) -> tuple[list[Path], list[Path], list[Path]]:
    """For Tab 4d: training files of the corpus alone, those of another corpus beside it, and the validation files of the first."""
    if corpus.name in BUILT:
        here = corpus.parts[0]["train"]
        return [here], [path for path in corpus.pretraining if path != here], [corpus.parts[0]["validation"]]
    one, held_out = [files["train"] for files in corpus.parts[:1]], [files["validation"] for files in corpus.parts[:1]]
    return one, corpora.training_files(corpora.real_mix(place, sizes["mix_limit"])), held_out


def check(place: Workplace, dataset: str, needs_glosses: bool = False) -> None:
    """Looks whether a data set is there, with what a table needs.

    Raises:
        MissingDataError: it is not there. SystemExit: it has no glosses; both in one line.
    """
    if dataset == "phoenix_rendered_varied":
        for part in ("train", "dev"):
            place.data("phoenix14t_annotations", f"{part}.parquet")
    elif dataset in ("spliced_signs", "include"):
        place.data("real", "include43", "labels.csv")
    else:
        for name in BUILT:  # the SignMAE learns from both, as the paper's
            check_built(place, name)
        if needs_glosses:
            check_glosses(place, dataset)


def check_built(place: Workplace, name: str) -> None:
    for split in SPLITS:
        folder = place.data(name, "data")
        if not list(folder.glob(f"{split}-*.parquet")):
            raise MissingDataError(
                f"{folder} has no {split}-*.parquet. Build {name} with python -m datasets_scripts.build, see its README."
            )


def check_glosses(place: Workplace, name: str) -> None:
    for split in SPLITS:
        lines = [line for path in sorted(place.data(name, "data").glob(f"{split}-*.parquet")) for line in glosses_of(path)]
        if without := sum(not (line or "").strip() for line in lines):
            raise SystemExit(
                f"{name}, split {split}: {without} of {len(lines)} rows have no gloss, which this table reads. Add its glosses."
            )


def glosses_of(path: Path) -> list[str | None]:
    """The glosses of all rows of a file, None where it has none; as many as there are rows."""
    file = pq.ParquetFile(path)
    if "gloss" not in file.schema_arrow.names:
        return [None] * file.metadata.num_rows
    return pq.read_table(path, columns=["gloss"])["gloss"].to_pylist()
