"""Which data every training script reads, and where its validation clips come from.

They come from the data sets that are named for it, or else from the training data's own split `validation`: never from another corpus
that a config file happens to name, and never from a test split.
"""

import math
import typing
from dataclasses import dataclass, field, fields

import datasets
from transformers.utils import logging

from datasets_scripts.commands import check_num_proc
from train.data.augmentation import KeypointAugmentation
from train.data.segments import describe, names
from train.engine.loading import DATASETS_BY, check_path

logger = logging.get_logger(__name__)

SPLIT = "validation"
NOTHING_EVALUATED = "nothing is evaluated while training, and the last weights are kept."


@dataclass
class DataArguments:
    """What to train on.

    Attributes:
        datasets: entries of `segments.load_rows`.
        validation: the same, for evaluation; [] for none. By default the split `validation` of each data set that has one.
        preprocessing_num_workers: processes that process keypoints into frames; the frames are the same for any number.
        validation_source: what `find_validation` says of it.
    """

    datasets: list | str | dict = field(default_factory=list)
    validation: list | str | dict | None = None
    preprocessing_num_workers: int | None = None
    validation_source: dict = field(default_factory=dict, init=False)

    @property
    def frames(self):
        """How `FrameStore.build` and `Clips` are to process and keep frames."""
        return {"cache_dir": getattr(self, "cache_dir", None), "num_proc": self.preprocessing_num_workers}

    def check_entries(self):
        """Makes lists of both, and checks the number of processes; nothing is opened."""
        check_num_proc(self.preprocessing_num_workers, "--preprocessing_num_workers")
        self.datasets = data_entries(self.datasets, "--datasets")
        if not self.datasets:
            raise ValueError("No data set to train on. Give `datasets:` in the config or --datasets PATH ...")
        if self.validation is not None:
            self.validation = data_entries(self.validation, "--validation")

    def find_validation(self, args):
        """Finds the validation data where none is named, says where they come from, and without any evaluates nothing.

        Args:
            args: training arguments.
        """
        self.validation, self.validation_source = find_validation(self.datasets, self.validation)
        logger.warning(self.validation_source["why"])
        if not self.validation:
            args.eval_strategy, args.load_best_model_at_end = "no", False


@dataclass
class SigningArguments(DataArguments):
    """Data of a task that encodes signing.

    Attributes:
        sign_mae: checkpoint of a SignMAE; with sign_encoder="frames", only its processor and layout are used, and it may be left out.
        cache_latents: latents are computed once; false encodes anew in every step, for an augmentation or a SignMAE that is trained.
        augmentation: fields of `KeypointAugmentation`; needs cache_latents false, or sign_encoder="frames".
        cache_dir: where processed frames and latents are kept; by default in the cache of `datasets`.
    """

    sign_mae: str | None = None
    cache_latents: bool = True
    augmentation: dict | None = None
    cache_dir: str | None = None

    def check_encoder(self, model_fields):
        """Raises `ValueError` where the fields of a model's config ask for an encoder that these arguments do not give."""
        self.make_augmentation()  # whose fields are checked before anything takes time
        frames = model_fields.get("sign_encoder") == "frames"
        if self.sign_mae is None and not frames:
            raise ValueError(
                "No SignMAE to read the signing with. Give --sign_mae DIR (train/pretrain.py makes one), or --sign_encoder frames."
            )
        frozen = model_fields.get("freeze_sign_mae", True)
        if self.cache_latents and not frames and (self.augmentation is not None or not frozen):
            raise ValueError(
                "An augmentation, or a SignMAE that is trained, changes the latents in every step: give --cache_latents false."
            )

    def make_augmentation(self):
        """The `KeypointAugmentation` that is asked for, or None."""
        if self.augmentation is None:
            return None
        try:
            return KeypointAugmentation(**self.augmentation)
        except TypeError as error:
            names_of_fields = ", ".join(field.name for field in fields(KeypointAugmentation))
            raise ValueError(f"--augmentation {self.augmentation} cannot be: expected some of {names_of_fields}.") from error


@dataclass
class TextArguments(DataArguments):
    """Data of a task that reads or writes text.

    Attributes:
        text_model: checkpoint of a pretrained text model; none makes a new one by text_config.
        tokenizer: "words", "subwords" or "characters" of the training text, or a folder; a pretrained text model brings its own.
        vocab_size: of subwords.
        lowercase: whether the tokenizer that is made lower-cases.
        final_dot: what is done with a sentence's last dot before it is scored, see `metrics.text`.
    """

    text_model: str | None = None
    tokenizer: str = "words"
    vocab_size: int = 8000
    lowercase: bool = True
    final_dot: typing.Literal["keep", "strip", "add"] = "keep"


def data_entries(value, option):
    """What `datasets` or `validation` holds, as a list of names and of dicts with a `path`."""
    entries = value if isinstance(value, list) else [] if value is None else [value]
    for entry in entries:
        weight = entry.get("weight", 1) if isinstance(entry, dict) else 1
        if not isinstance(entry, str) and not (isinstance(entry, dict) and isinstance(entry.get("path"), str)):
            raise ValueError(f"{option} holds {entry!r}, expected a folder, a Hub id, or {{path: ...}} with one. Quote a number: '\"7\"'.")
        if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0 <= weight < math.inf:
            raise ValueError(f"{option} {entry['path']!r} has the weight {weight!r}, expected a number that is at least 0, such as 2.")
    return entries


def find_validation(specs, validation):
    """Entries of validation data, and where they come from.

    Args:
        specs: entries of training data, see `segments.load_rows`.
        validation: entries of validation data; [] asks for none, None for the split `validation` of each training data set that has one.

    Returns:
        entries: a list, see `segments.load_rows`.
        source: a dict for report.json: `from` ("named", "own split" or "none"), `datasets`, and `why`, a sentence.
    """
    if validation is not None:
        test = [describe(spec) for spec in validation if isinstance(spec, dict) and "test" in str(spec.get("split", ""))]
        why = f"Validation: {', '.join(names(validation))}, as named." if validation else f"No validation, as asked: {NOTHING_EVALUATED}"
        if test:
            why += f" Of {', '.join(test)} it is a test split: scores on it are no test any more."
        return validation, {"from": "named" if validation else "none", "datasets": names(validation), "why": why}
    entries, without = [], []
    for spec in specs:
        reason = why_none(spec)
        kept = {name: value for name, value in spec.items() if name not in ("split", "weight")} if isinstance(spec, dict) else spec
        if reason is not None:
            without.append(f"{names([spec])[0]} {reason}")
        elif kept not in entries:
            entries.append(kept)
    why = f"Validation: the split {SPLIT!r} of {', '.join(names(entries))}." if entries else f"No validation: {NOTHING_EVALUATED}"
    why += "".join(f" {sentence}." for sentence in dict.fromkeys(without))
    if not entries:
        why += " Name data with --validation to evaluate, and to keep the best weights."
    return entries, {"from": "own split" if entries else "none", "datasets": names(entries), "why": why}


def why_none(spec):
    """Why a training data set has no validation split of its own, to follow its name; None for one that has."""
    spec = {"path": spec} if isinstance(spec, str) else spec
    path = spec["path"]
    if SPLIT in str(spec.get("split", "")):
        return f"is trained on its split {SPLIT!r}"
    if spec.get("streaming"):
        return "is streamed"
    if path == "fingerspelling":
        return "has letters only, which belong to no split" if spec.get("unit") == "letter" else None
    if path.endswith(".parquet"):
        return "is one file"
    path = check_path(path, "Data set", made_by=DATASETS_BY)
    try:
        splits = datasets.get_dataset_split_names(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"Data set {path!r} cannot be read: {str(error).splitlines()[0]}") from error
    return None if SPLIT in splits else f"has no split {SPLIT!r}, only {', '.join(splits)}"
