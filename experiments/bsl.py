"""The British manual alphabet: letters of signers that neither the SignMAE nor the recogniser has seen."""

from experiments import corpora
from experiments.include import SIZES as INCLUDE_SIZES
from experiments.include import table
from experiments.results import Result
from experiments.workplace import Workplace

SIZES = {
    "small": INCLUDE_SIZES["small"],
    "tiny": INCLUDE_SIZES["tiny"] | {"folds": 2},
}


def run(place: Workplace, sizes: dict) -> Result:
    """Scores the rows of `include` in folds of signers. The clips have hands only: see `corpora.bsl_folds`."""
    data, mixed, signer_of, labels = corpora.bsl_folds(place, sizes["folds"], sizes["limit"])
    return table(
        place, sizes, data, mixed, signer_of, labels,
        what="British manual alphabet, 15 letters and words; tested on signers that the recogniser has not seen; hands only",
        unit=f"t interval over {len(set(signer_of.values()))} signers, each the mean over seeds",
    )  # fmt: skip
