"""How large a table is at each scale.

`small` and `tiny` take the sizes of the project's other experiments, so that what both need is trained once. `paper` leaves all to
train/configs/paper*.yaml: sizes, epochs, batch, early stopping and beam stand there.
"""

import torch

from experiments import sentences, signing, spliced_translation
from experiments.include import SIZES as INCLUDE_SIZES
from experiments.pretraining import PAPER

SEEDS = {"small": 2, "tiny": 1, "paper": 3}
# At scale small, about 100 CPU minutes at most: less of what costs most. A CPU second is 11 steps of a reader of latents at stride 7, 3 of
# a reader of frames (ConSLT's and GloFE's take two to three times as long), 3.4 of the project's SignMAE and 2 of the paper's form.
OF_TABLE = {
    "tab1": {"seeds": 1},
    "tab5a": {"seeds": 1, "weights": ["none", "adaptive"]},
    "tab5b": {"seeds": 1, "weights": ["none", "adaptive"]},
}
WEIGHTS = ["none", "fixed", "adaptive"]
PAPER_SCALE = {"sign_mae": {}, "pretrain_steps": -1, "rates": [1e-4], "steps": -1, "limit": None, "corpus": "small", "mix_limit": None}


def sizes_of(table: str, dataset: str, scale: str, seeds: int | None = None) -> dict:
    """What a table's function takes: `sign_mae` (fields), `pretrain_steps`, `rates`, `seeds`, `steps`, `limit`, ..., `scale`."""
    if dataset == "include":
        sizes = dict(INCLUDE_SIZES["small" if scale == "paper" else scale])
    elif scale == "paper":
        sizes = dict(PAPER_SCALE, use_cpu=not torch.accelerator.is_available(), judges=3)
    elif dataset == "spliced_signs":
        sizes = dict(spliced_translation.SIZES[scale])
    else:
        sizes = dict(sentences.SIZES[scale])
    made_for_signing = ("judges", "judge_steps", "model", "judge_text_config")
    if scale != "paper":
        sizes = {name: signing.SIZES[scale][name] for name in made_for_signing} | sizes
        if table in ("tab2", "tab5b", "fig4", "fig9", "fig10"):
            sizes["steps"] = signing.SIZES[scale]["steps"]
        sizes["mix_limit"] = sizes["limit"] and 12 if dataset == "spliced_signs" else (12 if scale == "tiny" else None)
    sizes["weights"] = WEIGHTS
    if dataset != "include" or table == "fig5":
        sizes["seeds"] = SEEDS[scale]
    if scale == "small":
        sizes |= OF_TABLE.get(table, {})
    return sizes | {"scale": scale} | ({"seeds": seeds} if seeds else {})


def ablated(sizes: dict) -> dict:
    """The fields of the SignMAE that Tables 4 and 5 change: those of the paper's form.

    The project's own has a linear part beside its networks, which would carry most of what is decoded in any row.
    """
    return sizes["sign_mae"] | ({} if sizes["scale"] == "paper" else PAPER)
