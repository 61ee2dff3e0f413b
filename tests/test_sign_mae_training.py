"""SignMAE learns, and its training step compiles: what takes longest of its tests, in a file of its own that a second worker runs."""

import pytest
import torch

from modeling_unigloR import SignMAE, SignMAEConfig

from .conftest import TINY
from .test_sign_mae import ABLATIONS, segments


@pytest.mark.parametrize("fields", [{}, {"decoding": "autoregressive"}, {"block_norm": "batch"}, {"block_norm": "layer"}])
def test_one_batch_can_be_learnt_by_heart(signing, fields):
    """Loss to a fifth within 100 steps, and what was learnt moves: not one static pose for each segment."""
    torch.manual_seed(0)
    model = SignMAE(
        SignMAEConfig(
            **TINY | fields | dict(hidden_size=64, intermediate_size=128, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
        )
    )
    keypoints = torch.stack([torch.from_numpy(signing(15, seed=seed)) for seed in range(4)])
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []

    def step():
        loss = model(keypoints, noise=torch.rand(4, 15)).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())

    for _ in range(100):
        step()
    assert losses[-1] < losses[0] / 5
    if model.config.decoding == "parallel":
        for number in range(100):
            optimizer.param_groups[0]["lr"] = 3e-3 * (1 - number / 100)  # at a constant rate the last steps shake the motion
            step()
        with torch.no_grad():
            model.eval()
            inside = [points.diff(dim=1).norm(dim=-1).mean() for points in (model.reconstruct(keypoints), keypoints)]
        assert inside[0] / inside[1] > 0.5


@pytest.mark.parametrize("fields", ABLATIONS)
def test_a_training_step_compiles_into_one_graph(tiny_sign_mae, fields):
    """Without graph breaks; the tracing is what is tested, so the graph then runs eagerly."""
    model = tiny_sign_mae(**fields)
    keypoints, noise = segments(model), torch.rand(6, model.config.window_size)
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(keypoints, noise=noise).loss, model(keypoints, noise=noise).loss, atol=1e-5, rtol=1e-4)
