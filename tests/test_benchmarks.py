"""The references compute what ours compute: a ratio between two different functions would mean nothing."""

import json

import pytest
import torch

from benchmarks import building, readers, rendering, run, signing
from benchmarks.measure import by_turns, growth_exponent
from benchmarks.reference import (
    ReferenceGraphConv,
    ReferenceTemporalConv,
    reference_sign_mae,
    reference_signing,
    reference_translations,
)
from experiments import table

from .conftest import random_signing


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
    for name in ("encoder.graph.adjacency", "encoder.input_norm.norm.weight", "decoder.memory_projection.weight"):
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


def test_the_documents_tables_are_those_of_the_results():
    table.main(["--check"])


def test_every_kept_result_stands_in_a_document():
    texts = "".join((table.ROOT / name).read_text(encoding="utf-8") for name in table.DOCUMENTS)
    kept = [name for name, made in table.TABLES.items() if made() is not None]
    assert {"benchmarks", "rendering and data"} <= set(kept)
    assert all(table.MARKER.format(name) in texts for name in kept)


def test_rendering_and_data_have_a_table_of_their_own(tmp_path, monkeypatch):
    rows = [
        {"name": "growth", "unit": "growth exponent", "case": "g", "ours": 1.0, "memory_exponent": 0.2},
        {"name": "rendering", "unit": "s", "case": "GIF", "ours": 0.5, "reference": 2.0, "ratio": 4.0, "kib": 30.4, "reference_kib": 91.0},
        {"name": "build_memory", "unit": "times", "case": "10 clips over 1", "ours": 1.01, "mib": [400, 404]},
    ]
    facts = {"device": "a CPU", "threads": 2, "torch": "2", "date": "2026-01-01", "results": rows}
    (tmp_path / "run-cpu.json").write_text(json.dumps(facts))
    monkeypatch.setattr(table, "SPEED", tmp_path)
    assert table.speed().splitlines()[4:] == ["| growth | g | 1 growth exponent |  |  | exponent 0.2 |"]
    assert table.rendering_and_data().splitlines()[4:] == [
        "| rendering | GIF | 0.5 s | 2 s | 4 | 91 / 30 KiB |",
        "| build_memory | 10 clips over 1 | 1.01 times |  |  | 400 / 404 MiB |",
    ]
    facts["results"] = rows[:1]
    (tmp_path / "run-cpu.json").write_text(json.dumps(facts))
    assert table.rendering_and_data() == ""


def test_rendering_is_timed_by_its_name(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(rendering, "NUM_FRAMES", 3)
    written = run.main(["rendering", "--rounds", "1", "--json", str(tmp_path / "r.json")])["results"]
    assert {row["name"] for row in written} == {"rendering"} and len(written) >= 3
    assert all(row["ratio"] > 0 and row["kib"] > 0 for row in written)


def test_reading_is_timed_for_frames_that_were_written():
    pytest.importorskip("pose_format")
    for benchmark in (readers.openpose_json, readers.pose_file):
        (row,) = benchmark("cpu", 1, num_frames=2)
        assert "2 frames" in row["case"] and row["ours"] > 0 and row["frames_per_second"] > 0


def test_memory_of_builds_is_compared_between_a_corpus_and_ten_of_it(monkeypatch):
    counted = []
    monkeypatch.setattr(building, "peak_of_build", lambda data_dir, output_dir: counted.append(len(list(data_dir.iterdir()))) or 100)
    (row,) = building.build_memory("cpu", 1, num_clips=2)
    assert counted == [2, 20] and row["ours"] == 1 and row["mib"] == [100, 100]


def test_segments_are_drawn_from_a_data_set_that_was_built():
    (row,) = building.built_segments("cpu", 1, num_clips=4, batch_size=2)
    assert row["unit"] == "segments/s" and row["ratio"] > 0


def test_unknown_names_and_a_missing_gpu_get_one_clear_line(capsys):
    with pytest.raises(SystemExit):
        run.main(["grwoth"])
    assert "unknown benchmark grwoth; expected graph_convolution" in capsys.readouterr().err
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="--device 'cuda' cannot be used: .*, or give cpu"):
            run.main(["growth", "--device", "cuda"])
    assert tuple(run.BENCHMARKS) == run.NAMES


def test_references_of_low_cost_answer_what_ours_answer(tiny_sign_to_text, tiny_text_to_sign):
    pipe = tiny_sign_to_text()
    clips = [random_signing(20 + 9 * index, index) * 100 + 300 for index in range(3)]
    theirs = reference_translations(pipe, clips, layout="uniglor73", fps=25.0, max_new_tokens=5)
    for mine, other in zip(pipe(clips, layout="uniglor73", fps=25.0, max_new_tokens=5), theirs):
        assert mine == other | {"score": pytest.approx(other["score"], abs=1e-4)}
    model, ids = tiny_text_to_sign().model, torch.tensor([[1, 5, 6, 2]])
    torch.testing.assert_close(model.generate(ids, num_segments=3).keypoints, reference_signing(model, ids, 3), atol=1e-4, rtol=1e-4)


def test_signing_is_measured_beside_regression_and_by_its_growth():
    tiny = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    sign_mae = tiny | {"decoder_num_hidden_layers": 1, "graph_channels": 4, "relation_channels": 2, "temporal_branch_channels": 2}
    models = signing.make_models(sign_mae, tiny | {"max_position_embeddings": 32}, tiny | {"max_segments": 8}, codebook_size=4)
    one, with_cache, without = signing.run(models, batch_sizes=(1,), lengths=(2, 4), rounds=1)
    assert set(one["over_regression"]) == {"codes_flow", "codes_flow, guidance 1"} and one["ms_for_each"]["regression"] > 0
    assert with_cache["use_cache"] and not without["use_cache"] and isinstance(without["growth_exponent"], float)
