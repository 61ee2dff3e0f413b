"""The GRU of Tab 3: a recurrent net on every frame's normalised keypoints (Kim and Jung 2022), re-implemented from the one line that the
paper has on it. Its keypoints, steps, batch, loss and search for a learning rate are those of the other rows.

Shapes: B clips, T frames, D size of a frame's vector, L labels.
"""

from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence

from experiments import encoders, isolated
from experiments.readers import code_version
from experiments.workplace import Workplace
from modeling_unigloR import KeypointProcessor
from train.data.clips import pad

READER = {"hidden_size": 128, "num_layers": 2, "dropout": 0.3, "batch_size": 32, "label_smoothing": 0.1, "weight_decay": 1e-3}
WARMUP = 0.1  # share of the steps


class GRURecogniser(nn.Module):
    """(B, T, D) and the lengths (B,) -> logits (B, L), from the last state of each clip in both directions."""

    def __init__(self, size: int, num_labels: int):
        super().__init__()
        hidden, dropout = READER["hidden_size"], READER["dropout"]
        self.gru = nn.GRU(size, hidden, READER["num_layers"], batch_first=True, dropout=dropout, bidirectional=True)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(2 * hidden, num_labels)

    def forward(self, vectors: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        packed = pack_padded_sequence(vectors, lengths.cpu(), batch_first=True, enforce_sorted=False)
        _, states = self.gru(packed)  # (layers x 2, B, H)
        return self.classifier(self.dropout(torch.cat([states[-2], states[-1]], dim=-1)))


def read(
    place: Workplace, data: Path, row: list, encode: encoders.Encoder, test_fold: int, left_out: list[int], rate: float, seed: int,
    steps: int, processor: KeypointProcessor,
) -> dict:  # fmt: skip
    """As `isolated.read`: {id: [rank, labels]} of the clips of one fold, by a recogniser that was trained without `left_out`."""
    facts = [code_version(), data.name, row, test_fold, left_out, rate, seed, steps, READER, processor.to_json_string()]

    def make():
        training = isolated.clips_of(isolated.parts(data, left_out), processor)
        tested = isolated.clips_of([data / f"fold-{test_fold}.parquet"], processor)
        reading = encoders.Reading(encode, training)
        model = train(reading.build(training), torch.as_tensor(training.labels), rate, seed, steps)
        logits = predict(model, reading.build(tested))
        return dict(zip(tested.ids, isolated.kept(logits.numpy(), tested.labels)))

    return place.once(place.path("words-gru", facts), make)


def train(vectors: encoders.Vectors, labels: torch.Tensor, rate: float, seed: int, steps: int) -> GRURecogniser:
    """A recogniser after so many steps, the learning rate falling to 0 along a cosine after a warm-up."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = GRURecogniser(vectors[0].shape[1], int(labels.max()) + 1).train()
        optimizer = torch.optim.AdamW(model.parameters(), rate, weight_decay=READER["weight_decay"])
        warmup = max(1, round(WARMUP * steps))
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: min((step + 1) / warmup, 0.5 + 0.5 * torch.cos(torch.tensor(torch.pi * step / steps)).item())
        )
        order = torch.randperm(0)
        for _ in range(steps):
            if len(order) < READER["batch_size"]:
                order = torch.cat([order, torch.randperm(len(vectors))])
            chosen, order = order[: READER["batch_size"]], order[READER["batch_size"] :]
            loss = F.cross_entropy(model(*batch(vectors, chosen)), labels[chosen], label_smoothing=READER["label_smoothing"])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
    return model.eval()


@torch.no_grad()
def predict(model: GRURecogniser, vectors: encoders.Vectors, batch_size: int = 64) -> torch.Tensor:
    """Logits (clips, L)."""
    return torch.cat([model(*batch(vectors, indices)) for indices in torch.arange(len(vectors)).split(batch_size)])


def batch(vectors: encoders.Vectors, indices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Vectors (B, T, D) of some clips, and their lengths (B,)."""
    padded, mask = pad([torch.from_numpy(vectors[int(index)]) for index in indices])
    return padded, mask.sum(1)
