"""Paired benchmarks: ours against a plain reference, by turns in one process; ratio = reference / ours.

    python -m benchmarks.run [name ...] [--device cpu|cuda] [--rounds 5] [--json FILE]    # results of other names in FILE stay

All names by default; --help lists them. Results that are kept stand in `benchmarks/results/`; `python -m experiments.table` prints them
for the README.
"""

from train.engine.commands import CommandParser

NAMES = (
    "graph_convolution", "pretrain_step", "encode_sequence", "segments", "growth", "keypoint_processor", "fingerspelling",
    "rendering", "openpose_json", "pose_file", "build_memory", "built_segments", "segment_index", "frame_store", "extraction",
    "nearest_segments", "low_cost_translation", "list_of_clips", "text_to_sign", "onnx_encode",
)  # fmt: skip


def parse(argv=None):
    parser = CommandParser(__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=f"of {', '.join(NAMES)}; by default all")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where both run")
    parser.add_argument("--rounds", type=int, default=5, help="how often each of the two runs, by turns")
    parser.add_argument("--json", metavar="FILE", help="write the results there too")
    arguments = parser.parse_args(argv)
    if unknown := sorted(set(arguments.names) - set(NAMES)):
        parser.error(f"unknown benchmark {', '.join(unknown)}; expected {', '.join(NAMES)}")
    if arguments.rounds < 1:
        parser.error(f"--rounds {arguments.rounds}: expected at least 1")
    return arguments


if __name__ == "__main__":
    parse()  # answers --help and mistakes before the imports that take seconds

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from benchmarks.building import build_memory, built_segments
from benchmarks.low_cost import list_of_clips, low_cost_translation, onnx_encode, text_to_sign
from benchmarks.measure import compare, growth_exponent, machine, peak_memory, timed
from benchmarks.readers import openpose_json, pose_file
from benchmarks.reference import ReferenceGraphConv, ReferenceTemporalConv, reference_sign_mae
from benchmarks.rendering import rendering
from benchmarks.scale import extraction, frame_store, nearest_segments, segment_index
from modeling_unigloR import KeypointClip, KeypointProcessor, SignMAE, SignMAEConfig
from modeling_unigloR.modeling_layers_uniglor import ChannelTopologyGraphConv, MultiScaleTemporalConv
from train.engine.loading import check_device
from train.engine.runs import run_script
from train.engine.trainers import is_out_of_memory

SIZES = (64, 512)  # segments


# --- graph_convolution ------------------------------------------------------------------------------------------------------------


def blocks(side, device, seed=0):
    """Graph and temporal block of the paper's size, with the refinement switched on."""
    torch.manual_seed(seed)
    config = SignMAEConfig()
    graph = ChannelTopologyGraphConv(2, config.graph_channels, config.relation_channels, config.layout, config.block_norm)
    for parameter in (graph.refine, graph.value, graph.refine_bias, graph.value_bias):
        torch.nn.init.normal_(parameter, std=0.2)
    torch.nn.init.constant_(graph.alpha, 0.5)
    temporal = MultiScaleTemporalConv(
        config.graph_channels, config.temporal_branch_channels, 3, config.temporal_dilations, config.block_norm
    )
    if side == "reference":
        graph, temporal = ReferenceGraphConv(graph), ReferenceTemporalConv(temporal)
    return torch.nn.Sequential(graph, temporal).to(device)


def block_call(side, what, num_segments, device):
    model = blocks(side, device)
    features = torch.randn(num_segments, 2, 73, 15, device=device)

    def forward():
        with torch.no_grad():
            model(features)

    def training_step():
        model.zero_grad(set_to_none=True)
        model(features).square().mean().backward()

    return forward if what == "forward" else training_step


def graph_convolution(device, rounds):
    rows = []
    for num_segments in SIZES:
        for what in ("forward", "training_step"):
            calls = [block_call(side, what, num_segments, device) for side in ("ours", "reference")]
            row = {"case": f"{what}, {num_segments} segments"} | compare(*calls, 1 if num_segments > 64 else rounds, device)
            if what == "training_step" and num_segments == SIZES[0]:
                peaks = {side: peak_memory(block_call, side, what, num_segments, device, device=device) for side in ("ours", "reference")}
                row |= {"ours_mib": peaks["ours"], "reference_mib": peaks["reference"]}
                row["memory_ratio"] = round(peaks["reference"] / peaks["ours"], 2)
            rows.append(row)
    return rows


# --- pretrain_step ----------------------------------------------------------------------------------------------------------------


def step_call(side, num_segments, device, fields=()):
    torch.manual_seed(0)
    model = SignMAE(SignMAEConfig(**dict(fields))).to(device)
    model = reference_sign_mae(model) if side == "reference" else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=side == "ours")
    keypoints = torch.randn(num_segments, *model.segment_shape, device=device) * 0.3

    def step():
        optimizer.zero_grad(set_to_none=True)
        model(keypoints).loss.backward()
        optimizer.step()

    return step


def pretrain_step(device, rounds):
    rows = []
    for case, fields in (("paper size, 64 segments", {}), ("demo size, 64 segments", demo_fields())):
        calls = [step_call(side, 64, device, fields) for side in ("ours", "reference")]
        row = {"case": case} | compare(*calls, rounds, device)
        rows.append(row | {"segments_per_second": round(64 / row["ours"], 1)})
    return rows + [transformer_share(device, rounds)]


def transformer_share(device, rounds):
    """What the two Transformers alone cost in a step, ours against torch's own layers on the same input."""
    sides = {}
    for side in ("ours", "reference"):
        torch.manual_seed(0)
        model = SignMAE(SignMAEConfig()).to(device)
        model = reference_sign_mae(model) if side == "reference" else model
        tokens = torch.randn(64, 15, model.config.hidden_size, device=device)

        def step(model=model, tokens=tokens):
            model.zero_grad(set_to_none=True)
            model.decoder(model.encoder.pool(tokens)).square().mean().backward()

        sides[side] = step
    return {"case": "both Transformers alone, 64 segments"} | compare(sides["ours"], sides["reference"], rounds, device)


def demo_fields():
    """The demo's model, from its config file."""
    from train.pretrain import parse

    return parse(["demo.yaml"])[1]


# --- encode_sequence --------------------------------------------------------------------------------------------------------------


def encode_sequence(device, rounds, num_frames=116):
    torch.manual_seed(0)
    model = SignMAE(SignMAEConfig()).to(device).eval()
    rows = []
    for num_clips in (1, 16, 64):
        clips = torch.randn(num_clips, num_frames, 73, 2, device=device) * 0.3

        @torch.no_grad()
        def ours(clips=clips):
            model.encode_sequence(clips)

        @torch.no_grad()
        def loop(clips=clips):
            for clip in clips:
                for start in range(0, num_frames - model.config.window_size + 1, model.config.stride):
                    model.encode(clip[None, start : start + model.config.window_size])

        rows.append(
            {"case": f"{num_clips} clips of {num_frames} frames, against a loop over windows"} | compare(ours, loop, rounds, device)
        )
    return rows


# --- segments ---------------------------------------------------------------------------------------------------------------------


def random_rows(num_clips, num_frames=116, seed=0):
    rng = np.random.default_rng(seed)
    body = rng.normal(0, 50, (73, 2)) + 250
    for number in range(num_clips):
        keypoints = (body + rng.normal(0, 5, (num_frames, 73, 2))).astype(np.float32)
        yield dict(
            id=str(number), keypoints=keypoints, confidence=np.ones(keypoints.shape[:2], np.float32), layout="uniglor73", fps=25.0,
            width=500, height=500, text=None, gloss=None, label=None, signer=None, language="und",
        )  # fmt: skip


def segments(device, rounds, num_clips=1000, batch_size=64):
    from datasets import Dataset, disable_progress_bars

    from datasets_scripts.schema import FEATURES
    from train.data.segments import FrameStore, SegmentDataset

    disable_progress_bars()
    with tempfile.TemporaryDirectory() as folder:
        rows = Dataset.from_generator(random_rows, features=FEATURES, gen_kwargs={"num_clips": num_clips}, cache_dir=folder)
        data = SegmentDataset([FrameStore.build(rows, KeypointProcessor(), folder)], 15)
        loader = torch.utils.data.DataLoader(data, batch_size=batch_size, shuffle=True, collate_fn=lambda batch: batch)
        table, rng = rows.with_format("numpy"), np.random.default_rng(0)

        def ours():
            for _ in loader:
                pass

        def one_by_one():
            for index in rng.integers(0, num_clips, 100).tolist():
                clip = table[index]["keypoints"]
                start = rng.integers(0, len(clip) - 14)
                clip[start : start + 15]

        row = {"case": "random segments a second, against dataset[i] and a slice"} | compare(ours, one_by_one, rounds)
        rates = len(data) / row["ours"], 100 / row["reference"]
        row |= {"ours": round(rates[0], 1), "reference": round(rates[1], 1), "ratio": round(rates[0] / rates[1], 1), "unit": "segments/s"}
    step = step_call("ours", batch_size, device)
    step()
    share = batch_size / rates[0] / min(timed(step, device) for _ in range(3))
    return [row, {"case": "share of a pretraining step that its batch takes to load", "ours": round(share, 4), "unit": "of a step"}]


# --- growth -----------------------------------------------------------------------------------------------------------------------


def growth_call(num_clips, num_frames, device):
    torch.manual_seed(0)
    model = SignMAE(SignMAEConfig()).to(device).eval()
    clips = torch.randn(num_clips, num_frames, 73, 2, device=device) * 0.3

    def call():
        with torch.no_grad():
            model.encode_sequence(clips)

    return call


def growth(device, rounds, num_clips=4, num_frames=116):
    rows = []
    for what in ("clips", "clip length"):
        sizes = [(num_clips * factor, num_frames) if what == "clips" else (num_clips, num_frames * factor) for factor in (1, 4, 16)]
        seconds = []
        for size in sizes:
            call = growth_call(*size, device)
            call()
            seconds.append(min(timed(call, device) for _ in range(3)))
        memory = [peak_memory(growth_call, *size, device, device=device) for size in sizes]
        rows.append(
            {
                "case": f"encode_sequence, 1x / 4x / 16x {what}",
                "ours": growth_exponent((1, 4, 16), seconds),
                "memory_exponent": growth_exponent((1, 4, 16), memory),
                "unit": "growth exponent",
                "seconds": [round(value, 3) for value in seconds],
                "mib": memory,
            }
        )
    return rows


# --- keypoints --------------------------------------------------------------------------------------------------------------------


def keypoint_processor(device, rounds):
    """The keypoint processor against the loop over frames that its tests compare it with."""
    from tests.conftest import random_signing
    from tests.test_keypoint_processing import holes, naive_process

    rows = []
    for case, share in (("nothing missing", 0.0), ("a tenth missing, in bursts, and jumps", 0.1)):
        points = random_signing(120).astype(np.float64) * 90 + 200
        present = holes(np.random.default_rng(0), 120, share) if share else np.ones((120, 73), bool)
        if share:
            points[40:42] += 500
        processor, confidence = KeypointProcessor(), present.astype(float)
        row = {"case": f"120 frames, {case}"} | compare(
            lambda: [processor.process(KeypointClip(points, confidence, fps=50.0)) for _ in range(10)],  # noqa: B023 (called within the turn)
            lambda: naive_process(points, present, fps=50.0),  # noqa: B023
            rounds,
        )
        row |= {"ours": round(row["ours"] / 10, 6), "ratio": round(row["ratio"] * 10, 1)}
        rows.append(row | {"frames_per_second": round(120 / row["ours"])})
    return rows


def fingerspelling(device, rounds):
    from benchmarks.fingerspelling import run

    result = run(num_rounds=rounds)
    rows = [
        {"case": "a word, letters read", "ours": result["ours"] / 1000, "reference": result["reference"] / 1000, "ratio": result["ratio"]}
    ]
    augmented = {"ours": result["ours_augmented"] / 1000, "reference": result["reference"] / 1000, "ratio": result["ratio_augmented"]}
    return rows + [{"case": "a word, augmented"} | augmented]


BENCHMARKS = {
    function.__name__: function
    for function in (
        graph_convolution, pretrain_step, encode_sequence, segments, growth, keypoint_processor, fingerspelling,
        rendering, openpose_json, pose_file, build_memory, built_segments,
        segment_index, frame_store, extraction, nearest_segments,
        low_cost_translation, list_of_clips, text_to_sign, onnx_encode,
    )
}  # fmt: skip


def main(argv=None):
    arguments = parse(argv)
    check_device(arguments.device)
    results = []
    for name in arguments.names or BENCHMARKS:
        try:
            rows = BENCHMARKS[name](arguments.device, arguments.rounds)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            sys.exit(f"{name}: does not fit into the memory of this {arguments.device}: {error}")
        for row in rows:
            results.append({"name": name, "unit": "s"} | row)
            print(json.dumps(results[-1]), flush=True)
    if arguments.json and Path(arguments.json).exists():
        ran = {row["name"] for row in results}
        old = json.loads(Path(arguments.json).read_text(encoding="utf-8"))["results"]
        results += [row for row in old if row["name"] not in ran]
        results.sort(key=lambda row: list(BENCHMARKS).index(row["name"]))
    report = machine(arguments.device) | {"results": results}
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return report


if __name__ == "__main__":
    run_script(main)
