"""What the readers of all experiments share: the model that carries vectors of any size, and the search for a learning rate."""

import hashlib
import inspect
from collections.abc import Callable
from pathlib import Path

import torch

from experiments import encoders
from experiments.workplace import Workplace
from modeling_unigloR import KeypointProcessor, SignMAE, SignMAEConfig
from modeling_unigloR.fingerprint_uniglor import code_hash, processing_hash

MOST_RATES = 7


def code_version(*models: type) -> str:
    """A string that changes with the code of SignMAE, of other models, of keypoints and rows, so that pieces made by other code are made
    again."""
    return (
        code_hash(SignMAE.__module__, *(model.__module__ for model in models))
        + processing_hash()
        + hashlib.sha256(inspect.getsource(encoders).encode()).hexdigest()[:16]
    )


def carrier(place: Workplace, size: int, processor: KeypointProcessor) -> Path:
    """The folder of a SignMAE that is never run: a reader takes from it how large the vectors are, and which processor made the clips."""

    def write(folder):
        torch.manual_seed(0)
        config = SignMAEConfig(
            layout=processor.layout, num_channels=processor.num_channels, hidden_size=size, num_hidden_layers=1,
            decoder_num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, graph_channels=4, relation_channels=2,
            temporal_branch_channels=1,
        )  # fmt: skip
        model = SignMAE(config)
        model.set_latent_statistics(torch.zeros(size), torch.full((size,), 2.0))  # 1 would mean that the statistics are missing
        model.save_pretrained(folder)
        processor.save_pretrained(folder)

    return place.folder_once(place.path("carrier", code_version(), size, processor.to_json_string()), write)


def rate_that_is_best(rates: list[float], score: Callable) -> float:
    """The learning rate with the best `score(rate)`; where that is the largest or the smallest that was tried, the grid grows by a factor
    of 2, to at most `MOST_RATES`. A single rate is not tried."""
    rates = sorted(rates)
    if len(rates) == 1:
        return rates[0]
    scores = {rate: score(rate) for rate in rates}
    while True:
        best = max(sorted(scores), key=scores.get)
        further = best * 2 if best == max(scores) else best / 2 if best == min(scores) else None
        if further is None or len(scores) >= MOST_RATES:
            return best
        scores[further] = score(further)
