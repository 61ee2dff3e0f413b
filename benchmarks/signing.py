"""What a sentence costs by sampling, against the paper's regression, and how the cost grows with the clip.

python -m benchmarks.signing    # at the size of phoenix_rendered_text_to_sign.yaml, on random weights; under two minutes
"""

import json

import torch

from benchmarks.measure import by_turns, growth_exponent, machine
from modeling_unigloR import SignMAE, SignMAEConfig, TextToSign

SIGN_MAE = {
    "hidden_size": 256, "num_hidden_layers": 2, "decoder_num_hidden_layers": 2, "num_attention_heads": 8, "intermediate_size": 512,
    "graph_channels": 16, "relation_channels": 4, "temporal_branch_channels": 4,
}  # fmt: skip
TEXT = {"hidden_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 512, "max_position_embeddings": 128}
DECODER = {"hidden_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 512, "max_segments": 40}
NUM_SEGMENTS, NUM_TOKENS = 8, 14  # of a clip of 116 frames and of its sentence, the means of PHOENIX14T
LENGTHS = (8, 16, 32)  # segments, for the growth


def make_models(sign_mae=SIGN_MAE, text=TEXT, decoder=DECODER, **fields):
    """{decoder of latents: TextToSign} with random weights."""
    torch.manual_seed(0)
    parts = SignMAE(SignMAEConfig(**sign_mae))
    models = {}
    for name in ("regression", "codes_flow"):
        fields_of_model = decoder | fields | {"latent_decoder": name, "text_config": text | {"vocab_size": 3000}}
        models[name] = TextToSign.from_parts(parts, **fields_of_model).eval()
    codes = models["codes_flow"].latent_decoder.codes
    scales = torch.ones(codes.component_axes.shape[1])
    models["codes_flow"].set_codes(codes.component_mean, codes.component_axes, scales, torch.randn(codes.codebooks.shape), scales)
    return models


def run(models, batch_sizes=(1, 32), lengths=LENGTHS, rounds=9):
    """Rows of results: seconds and ratios of a batch of sentences, and by what power of the segments the time grows."""
    rows = []
    for batch_size in batch_sizes:
        ids = torch.randint(5, 3000, (batch_size, NUM_TOKENS))
        sides = {name: lambda model=model: model.generate(ids, num_segments=lengths[0]) for name, model in models.items()}  # noqa: B023
        sides["codes_flow, guidance 1"] = lambda: models["codes_flow"].generate(ids, num_segments=lengths[0], guidance=1)  # noqa: B023
        seconds, ratios = by_turns(sides, rounds)
        milliseconds = {name: round(1000 * value / batch_size, 2) for name, value in seconds.items()}
        rows.append(
            {"batch": batch_size, "ms_for_each": milliseconds, "over_regression": {name: round(each, 2) for name, each in ratios.items()}}
        )
    ids, model = torch.randint(5, 3000, (1, NUM_TOKENS)), models["codes_flow"]
    for use_cache in (True, False):
        sides = {
            count: lambda count=count: model.generate_latents(ids, num_segments=count, use_cache=use_cache)  # noqa: B023
            for count in lengths
        }
        seconds, _ = by_turns(sides, rounds)
        rows.append({"use_cache": use_cache, "growth_exponent": growth_exponent(lengths, [seconds[count] for count in lengths])})
    return rows


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(machine("cpu")))
    for row in run(make_models()):
        print(json.dumps(row), flush=True)
