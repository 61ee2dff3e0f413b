"""The corpora of `build`, and the options of each. Nothing here imports what takes time, so that --help is printed at once."""

from pathlib import Path
from typing import Any, NamedTuple


class CorpusOptions(NamedTuple):
    """Where a corpus' `Corpus` is, and the options that it alone takes.

    Attributes:
        module, attribute: `datasets_scripts.<module>.<attribute>` is the `Corpus`.
        about: what the overview says of it.
        options: {name: arguments of `add_argument`}; each is a parameter of the corpus' `list_clips`.
    """

    module: str
    attribute: str
    about: str
    options: dict[str, dict[str, Any]] = {}


COLUMNS = {  # option of `folder` -> the column that is read without the option, if the table has it
    "id_column": "id", "path_column": None, "text_column": "text", "gloss_column": "gloss", "label_column": "label",
    "signer_column": "signer", "split_column": "split", "language_column": "language", "fps_column": "fps", "start_column": None,
    "end_column": None,
}  # fmt: skip
_COLUMN_HELP = {option: f"of the {option.removesuffix('_column')}" for option in COLUMNS} | {
    "path_column": "of the clip's path below data_dir",
    "start_column": "of the second at which the clip starts in a longer file",
    "end_column": "of the second at which it ends",
}
_KEYPOINTS_DIR: dict[str, dict[str, Any]] = {
    "keypoints_dir": {"type": Path, "help": "where the keypoints are, with a folder for each split; by default below data_dir"}
}

CORPORA = {
    "folder": CorpusOptions("folder", "CORPUS", "your own clips, with or without a table of their texts or labels", {
        "annotations": {"nargs": "+", "metavar": "[SPLIT=]FILE", "help": "tables of texts or labels: .csv, .tsv, .jsonl or .parquet"},
        **{
            option: {"metavar": "NAME", "help": f"the table's column {_COLUMN_HELP[option]}" + (f" (default {default})" if default else "")}
            for option, default in COLUMNS.items()
        },
    }),
    "isolated": CorpusOptions("isolated", "ISOLATED", "isolated signs in a folder for each word"),
    "phoenix14t": CorpusOptions("phoenix14t", "CORPUS", "RWTH-PHOENIX-Weather 2014 T, German Sign Language", _KEYPOINTS_DIR),
    "how2sign": CorpusOptions("how2sign", "CORPUS", "How2Sign, American Sign Language", _KEYPOINTS_DIR),
    "ksl_guide": CorpusOptions("ksl_guide", "CORPUS", "KSL-Guide-Word, Korean Sign Language, isolated", {
        "annotations": {"metavar": "FILE", "help": "a table of the words, instead of morpheme files"},
        "views": {"nargs": "+", "help": "of F, U, D, L, R; by default F"},
        "validation_signers": {"nargs": "+", "metavar": "SIGNER", "help": "who are put into the validation split: REAL17 ..."},
        "test_signers": {"nargs": "+", "metavar": "SIGNER", "help": "who are put into the test split"},
    }),
    "wlasl": CorpusOptions("isolated", "WLASL", "WLASL, American Sign Language, isolated"),
    "include": CorpusOptions("isolated", "INCLUDE", "INCLUDE, Indian Sign Language, isolated"),
}  # fmt: skip
