"""`python -m benchmarks.gpu` on a CPU, in a tiny size: what it counts, and that each part runs to its end."""

import json

import pytest
import torch

from benchmarks import gpu

TRIED = ["--device", "cpu", "--scale", "tiny", "--rounds", "1", "--steps", "1"]


def test_without_a_gpu_one_line_says_how_to_try_it():
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="No GPU is here.*--device cpu --scale tiny"):
            gpu.main([])


def test_the_peak_of_a_gpu_is_found_by_the_longest_name_that_fits():
    assert gpu.peak_of("NVIDIA H100 80GB HBM3") == 989 and gpu.peak_of("NVIDIA H100 PCIe") == 756
    assert gpu.peak_of("NVIDIA A100-SXM4-80GB") == 312 and gpu.peak_of("NVIDIA L40S") == 362 and gpu.peak_of("NVIDIA L4") == 121
    assert gpu.peak_of("A card of next year") is None


def test_the_operations_of_a_step_are_those_counted_by_hand():
    """0.85 GFLOP forward for each segment, of which the Transformers' dense layers are nearly all, and twice that backward."""
    assert gpu.flops_of_a_segment("paper") == pytest.approx(2.5e9, rel=0.1)


def test_steps_are_timed_in_every_form_that_runs_here(monkeypatch, tmp_path):
    monkeypatch.setattr(gpu, "compiled", lambda model: model)  # compiling takes longer than the rest of these tests
    monkeypatch.setitem(gpu.SIZES, "tiny", (4,))
    path = tmp_path / "run.json"
    rows = gpu.main(["speed", *TRIED, "--peak_tflops", "1", "--json", str(path)])
    assert [row["case"] for row in rows] == ["4 segments, published", "4 segments, eager", "4 segments, compiled"]
    assert all(row["ours"] > 0 and 0 < row["mfu"] == pytest.approx(row["tflops"], abs=1e-3) for row in rows)
    assert all(row["ratio"] > 0 for row in rows[1:])
    gpu.main(["kernels", *TRIED, "--json", str(path)])
    kept = json.loads(path.read_text())
    assert [row["name"] for row in kept["results"]] == ["gpu_pretrain"] * 3 + ["gpu_kernels"] and kept["device"]


def test_a_size_that_does_not_fit_is_left_out_by_name(monkeypatch):
    monkeypatch.setitem(gpu.SIZES, "tiny", (4,))
    monkeypatch.setattr(gpu, "training", lambda form, size, arguments: lambda: torch.empty(2**58))
    rows = gpu.main(["speed", *TRIED])
    assert [row["case"] for row in rows] == [
        f"4 segments, {form}: does not fit into the memory" for form in ("published", "eager", "compiled")
    ]


def test_a_pretraining_and_all_directions_run_in_a_tiny_size(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path))
    rows = gpu.main(["pretraining", "throughput", *TRIED])
    assert [row["name"] for row in rows] == ["gpu_pretraining"] * 2 + ["gpu_throughput"] * 4
    assert rows[0]["case"].endswith("4 steps of 4") and rows[0]["mpjpe"] > 0 and all(row["ours"] > 0 for row in rows)
