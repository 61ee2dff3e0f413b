"""The references compute what ours compute: a ratio between two different functions would mean nothing."""

import json

import pytest
import torch

from benchmarks import run, table
from benchmarks.measure import by_turns, growth_exponent
from benchmarks.reference import ReferenceGraphConv, ReferenceTemporalConv, reference_sign_mae


def random_weights(module):
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return module


@pytest.mark.parametrize("training", [True, False])
def test_reference_blocks_equal_ours(tiny_sign_mae, training):
    encoder = random_weights(tiny_sign_mae().encoder).train(training)
    features = torch.randn(5, 2, 73, 15)
    graph = encoder.graph(features)
    torch.testing.assert_close(ReferenceGraphConv(encoder.graph).train(training)(features), graph, atol=1e-4, rtol=1e-4)
    theirs = ReferenceTemporalConv(encoder.temporal).train(training)
    torch.testing.assert_close(theirs(graph), encoder.temporal(graph), atol=1e-4, rtol=1e-4)


def test_the_reference_model_has_our_loss_and_our_gradients(tiny_sign_mae):
    ours = tiny_sign_mae(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    theirs = reference_sign_mae(ours)
    keypoints, noise = torch.randn(6, 15, 73, 2) * 0.3, torch.rand(6, 15)
    losses = [model(keypoints, noise=noise).loss for model in (ours, theirs)]
    torch.testing.assert_close(*losses, atol=1e-5, rtol=1e-4)
    for loss in losses:
        loss.backward()
    for name in ("encoder.graph.adjacency", "encoder.input_norm.norm.weight", "decoder.views.weight"):
        torch.testing.assert_close(theirs.get_parameter(name).grad, ours.get_parameter(name).grad, atol=1e-5, rtol=1e-3)


def test_times_are_taken_by_turns():
    calls = []
    seconds, ratios = by_turns({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=2)
    assert "".join(calls) == "ababab" and set(seconds) == {"a", "b"} and set(ratios) == {"b"}


def test_growth_exponents():
    assert growth_exponent((1, 4, 16), (2, 8, 32)) == 1 and growth_exponent((1, 4, 16), (1, 16, 256)) == 2


def test_a_benchmark_writes_its_json(tmp_path, monkeypatch):
    monkeypatch.setitem(run.BENCHMARKS, "growth", lambda device, rounds: [{"case": "x", "ours": 1.0, "reference": 2.0, "ratio": 2.0}])
    run.main(["growth", "--json", str(tmp_path / "r.json")])
    written = json.loads((tmp_path / "r.json").read_text())
    assert written["results"] == [{"name": "growth", "unit": "s", "case": "x", "ours": 1.0, "reference": 2.0, "ratio": 2.0}]
    assert {"device", "torch", "date", "threads"} <= set(written)


def test_a_benchmark_that_does_not_fit_into_memory_ends_in_one_line(monkeypatch):
    monkeypatch.setitem(run.BENCHMARKS, "growth", lambda device, rounds: torch.empty(2**58))
    with pytest.raises(SystemExit, match="growth: does not fit into the memory of this cpu: .*can't allocate memory"):
        run.main(["growth"])


def test_the_readmes_tables_are_those_of_the_results():
    readme = table.README.read_text(encoding="utf-8")
    assert table.with_tables(readme) == readme, "run python -m benchmarks.table --write"


def test_unknown_names_and_a_missing_gpu_get_one_clear_line(capsys):
    with pytest.raises(SystemExit):
        run.main(["grwoth"])
    assert "unknown benchmark grwoth; expected graph_convolution" in capsys.readouterr().err
    if not torch.cuda.is_available():
        with pytest.raises(SystemExit):
            run.main(["growth", "--device", "cuda"])
        assert "torch finds no CUDA device here" in capsys.readouterr().err
