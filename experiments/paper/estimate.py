"""What a table needs at scale `paper`, estimated before it starts: the order of magnitude, of the trainings alone.

Memory: 16 bytes for each parameter (float32 weights, gradients and Adam's two moments), and for each layer and token of a batch 34 hidden
sizes and 5 heads x tokens of activations (Korthikanti et al. 2022, equation 2, in float32 twice their 2 bytes). Time: 6 operations for
each parameter that computes and each token of a step, forth and back, at the rate that a matrix product reaches in a second of this
machine, times `EFFICIENCY`. Scoring, waiting for data and what is signed frame by frame come on top.
"""

import math
import os
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from experiments.paper import corpora, full
from experiments.workplace import Workplace

EFFICIENCY = 0.25  # of a matrix product's rate that a training of models of this size reaches
LATENT_TOKENS, FRAME_TOKENS = 32, 256  # of an average clip, padded: latents at stride 7, or frames
TEXT_ENCODER, ITS_LAYERS = 135e6, 43e6  # parameters of M-BERT-Distil: all, and without its embeddings
STAGES = {  # table: how many SignMAEs, readers of latents, readers of frames, and models that sign there are to train, for one seed
    "tab1": (1, 1, 4, 0), "tab2": (1, 0, 0, 6), "tab4a": (2, 2, 0, 0), "tab4b": (2, 2, 0, 0), "tab4c": (2, 2, 0, 0), "tab4d": (3, 3, 0, 0),
    "tab5a": (3, 3, 6, 0), "tab5b": (3, 0, 0, 9), "tab6": (1, 1, 2, 0), "tab8": (1, 1, 2, 0), "fig3": (1, 6, 0, 0), "fig4": (1, 0, 0, 3),
    "fig8": (1, 1, 2, 0), "fig9": (1, 0, 0, 3), "fig10": (1, 0, 0, 3),
}  # fmt: skip
JUDGED = ("tab2", "tab5b", "fig4", "fig9", "fig10")


@dataclass
class Stage:
    """One training: parameters, those of them that compute, tokens of a batch, steps, and the sizes that its activations have."""

    parameters: float
    computing: float
    sequences: int
    tokens: int  # of a sequence
    steps: int
    hidden_size: int
    layers: int
    heads: int

    @property
    def memory(self) -> float:
        per_token = 4 * self.layers * (17 * self.hidden_size + 2.5 * self.heads * self.tokens)
        return 16 * self.parameters + per_token * self.sequences * self.tokens

    @property
    def operations(self) -> float:
        return 6 * self.computing * self.sequences * self.tokens * self.steps


def transformer(hidden_size: int, intermediate_size: int, layers: int, cross: bool = False) -> float:
    """Parameters of a Transformer's layers."""
    return layers * ((8 if cross else 4) * hidden_size**2 + 2 * hidden_size * intermediate_size)


def stages(table: str, clips: int, pretraining_clips: int, seeds: int, judges: int) -> list[Stage]:
    """All trainings of a table, by the sizes in train/configs/paper*.yaml."""
    mae, reading, signing = (full.values_in(name) for name in ("paper.yaml", full.READING, full.SIGNING))
    sign_maes, of_latents, of_frames, signers = STAGES[table]
    batch, hidden, text = mae["per_device_train_batch_size"], mae["hidden_size"], reading["text_config"]
    both = mae["num_hidden_layers"] + mae["decoder_num_hidden_layers"]
    steps = math.ceil(pretraining_clips / batch) * mae["num_train_epochs"]
    size = transformer(hidden, mae["intermediate_size"], mae["num_hidden_layers"])
    size += transformer(hidden, mae["intermediate_size"], mae["decoder_num_hidden_layers"], cross=True)
    of_reader = transformer(text["d_model"], text["encoder_ffn_dim"], text["encoder_layers"])
    of_reader += transformer(text["d_model"], text["decoder_ffn_dim"], text["decoder_layers"], cross=True) + 3000 * text["d_model"]
    epochs = math.ceil(clips / reading["per_device_train_batch_size"])
    sizes = (text["d_model"], text["encoder_layers"] + text["decoder_layers"], text["encoder_attention_heads"])

    def reader(tokens):
        return Stage(of_reader, of_reader, reading["per_device_train_batch_size"], tokens, epochs * reading["num_train_epochs"], *sizes)

    of_decoder = transformer(signing["hidden_size"], signing["intermediate_size"], signing["num_hidden_layers"], cross=True)
    signer = Stage(
        TEXT_ENCODER + of_decoder, ITS_LAYERS + of_decoder,
        signing["per_device_train_batch_size"], signing["max_segments"], epochs * signing["num_train_epochs"], signing["hidden_size"],
        6 + signing["num_hidden_layers"], signing["num_attention_heads"],
    )  # fmt: skip
    made = [Stage(size, size, batch, mae["window_size"], steps, hidden, both, mae["num_attention_heads"])] * sign_maes
    made += ([reader(LATENT_TOKENS)] * of_latents + [reader(FRAME_TOKENS)] * of_frames + [signer] * signers) * seeds
    return made + [reader(FRAME_TOKENS)] * (judges if table in JUDGED else 0)


def operations_per_second(seconds: float = 1.0) -> float:
    """What a matrix product reaches on the device that the training will use."""
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else torch.device("cpu")
    size = 4096 if device.type != "cpu" else 512
    matrix, count = torch.randn(size, size, device=device), 0
    matrix @ matrix
    synchronize = torch.accelerator.synchronize if device.type != "cpu" else lambda: None
    synchronize()
    start = time.perf_counter()
    while time.perf_counter() - start < seconds:
        matrix @ matrix
        synchronize()
        count += 1
    return 2 * size**3 * count / (time.perf_counter() - start)


def memory_of_machine() -> float:
    """Bytes of the GPU, or where there is none, of the main memory that are free."""
    if torch.cuda.is_available():
        return float(torch.cuda.mem_get_info()[0])
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024.0 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def of_table(table: str, clips: int, pretraining_clips: int, sizes: dict) -> tuple[float, float]:
    """-> bytes that the largest training needs, and seconds that all of them take."""
    made = stages(table, clips, pretraining_clips, sizes["seeds"], sizes["judges"])
    return max(stage.memory for stage in made), sum(stage.operations for stage in made) / (EFFICIENCY * operations_per_second())


def announce(table: str, place: Workplace, dataset: str, sizes: dict) -> None:
    """Prints the estimate.

    Raises:
        SystemExit: the memory does not suffice; one line.
    """
    corpus = corpora.corpus_of(place, dataset, sizes)
    clips = len(corpora.glosses_of(corpus.parts[0]["train"]))
    pretraining = sum(len(corpora.glosses_of(path)) for path in corpus.pretraining)
    memory, seconds = of_table(table, clips, pretraining, sizes)
    free = memory_of_machine()
    device = "the GPU" if torch.cuda.is_available() else "this machine"
    print(
        f"{table} on {dataset}, scale paper, {sizes['seeds']} seeds: estimated {memory / 2**30:.1f} GiB of the {free / 2**30:.1f} GiB "
        f"that are free on {device}, and {seconds / 3600:.1f} hours of training "
        "(the order of magnitude; scoring comes on top, and what is trained already is not subtracted).",
        flush=True,
    )
    if memory > free:
        raise SystemExit(
            f"{table} at scale paper needs about {memory / 2**30:.1f} GiB, and {device} has {free / 2**30:.1f} GiB free. "
            "Free memory, or run it on a larger GPU; --scale small fits every machine."
        )
