"""What a GPU makes of it, in one go: speed, memory and use of the GPU, the kernels' results, a whole pretraining, encoding and decoding.

    python -m benchmarks.gpu [part ...] [--annotations DIR] [--json FILE]     # make gpu
    python -m benchmarks.gpu --device cpu --scale tiny                        # tries the command, and measures nothing of interest

Parts, all by default:
    speed        pretraining steps in bfloat16: the published order of operations, ours, with the Triton kernels, compiled, compiled with
                 them; segments a second, peak memory, and MFU: the share of the GPU's peak that the model's operations come to
    kernels      the Triton kernels' results and gradients against the plain form's
    pretraining  the paper's pretraining, 50 epochs of rendered PHOENIX14T (`experiments.rendered_phoenix`), from its first step to its last
    throughput   latents of clips, clips to text, text to clips

Results go to benchmarks/results/run-<device>.json as they come; `python -m experiments.table --write` puts them into docs/benchmarks.md.
"""

from train.engine.commands import CommandParser

PARTS = ("speed", "kernels", "pretraining", "throughput")


def parse(argv=None):
    parser = CommandParser(__doc__)
    parser.add_argument("parts", nargs="*", metavar="part", help=f"of {', '.join(PARTS)}; by default all")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="where it runs")
    parser.add_argument("--scale", choices=("paper", "tiny"), default="paper", help="tiny: only to try the command")
    parser.add_argument("--rounds", type=int, default=5, help="how often each form is timed")
    parser.add_argument("--steps", type=int, default=20, help="training steps of a round")
    parser.add_argument(
        "--annotations", metavar="DIR", help="train.parquet and dev.parquet of PHOENIX14T's annotations; else invented ones"
    )
    parser.add_argument("--peak_tflops", type=float, help="the GPU's peak in bfloat16, dense, where its name is not known here")
    parser.add_argument("--json", metavar="FILE", help="where results go; on a CPU only printed by default")
    arguments = parser.parse_args(argv)
    if unknown := sorted(set(arguments.parts) - set(PARTS)):
        parser.error(f"unknown part {', '.join(unknown)}; expected {', '.join(PARTS)}")
    for name in ("rounds", "steps"):
        if getattr(arguments, name) < 1:
            parser.error(f"--{name} {getattr(arguments, name)}: expected at least 1")
    return arguments


if __name__ == "__main__":
    parse()  # answers --help and mistakes before the imports that take seconds

import json
import re
import statistics
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.measure import by_turns, machine, timed
from benchmarks.reference import reference_sign_mae
from modeling_unigloR import SignMAE, SignMAEConfig, SignToText, TextToSign, fast_layers_uniglor, graph_mixing_uniglor
from modeling_unigloR.graph_mixing_triton_uniglor import related_plain, related_points
from train.engine.runs import run_script
from train.engine.trainers import is_out_of_memory

RESULTS = Path(__file__).parent / "results"
SIZES = {"paper": (64, 256, 1024, 2048, 4096), "tiny": (4, 8)}  # segments of a batch
TINY = dict(
    hidden_size=16, num_hidden_layers=1, decoder_num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, graph_channels=4,
    relation_channels=2, temporal_branch_channels=2,
)  # fmt: skip
TINY_TEXT = dict(d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=32,
                 decoder_ffn_dim=32)  # fmt: skip
TINY_SIGNING = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
NUM_WORDS, NUM_FRAMES, NUM_CLIPS = 3000, 116, 7096  # PHOENIX14T's words, its mean clip and its training clips
PAPER_STEPS = 29_860  # PHOENIX14T and How2Sign, 38,224 clips, 50 epochs in batches of 64

# Dense TFLOPS in bfloat16 with sums in float32, by the makers' data sheets. The longest name that fits is taken.
PEAK_TFLOPS = {
    "A10": 125, "A100": 312, "A30": 165, "A40": 149.7, "B200": 2250, "GH200": 989, "H100": 989, "H100 NVL": 835, "H100 PCIe": 756,
    "H200": 989, "H200 NVL": 835, "L4": 121, "L40S": 362, "RTX 3090": 71, "RTX 4090": 165, "RTX A6000": 154.8,
}  # fmt: skip


def peak_of(device_name: str) -> float | None:
    """TFLOPS of a GPU, None where its name is not known."""
    fitting = [name for name in PEAK_TFLOPS if re.search(rf"\b{re.escape(name)}\b", device_name)]
    return PEAK_TFLOPS[max(fitting, key=len)] if fitting else None


# --- speed ------------------------------------------------------------------------------------------------------------------------


@contextmanager
def kernels(enabled: bool) -> Iterator[None]:
    """Inside it, the graph convolution's Triton kernels are in use, or not; without, the model decides."""
    with mock.patch.object(graph_mixing_uniglor, "_kernels_run", lambda device: enabled):
        yield


def compiled(model: torch.nn.Module) -> Callable:
    return torch.compile(model, mode="reduce-overhead", dynamic=False)  # CUDA graphs: launches cost the host nothing


FORMS = {  # name: (published order of operations, compiled, Triton kernels)
    "published": (True, False, False),
    "eager": (False, False, False),
    "Triton": (False, False, True),
    "compiled": (False, True, False),
    "compiled, Triton": (False, True, True),
}


def training(form: str, num_segments: int, arguments) -> Callable[[], None]:
    """-> a call of `arguments.steps` training steps in bfloat16, as `train/pretrain.py --bf16 true` takes them."""
    published, is_compiled, with_kernels = FORMS[form]
    torch.manual_seed(0)
    model = SignMAE(SignMAEConfig(**(TINY if arguments.scale == "tiny" else {}))).to(arguments.device)
    keypoints = torch.randn(num_segments, *model.segment_shape, device=arguments.device) * 0.3
    model = reference_sign_mae(model) if published else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=not published)
    forward = compiled(model) if is_compiled else model

    def steps() -> None:
        with kernels(with_kernels):
            for _ in range(arguments.steps):
                torch.compiler.cudagraph_mark_step_begin()
                optimizer.zero_grad(set_to_none=True)
                with torch.autocast(arguments.device, torch.bfloat16):
                    loss = forward(keypoints).loss
                loss.backward()
                optimizer.step()

    return steps


def flops_of_a_segment(scale: str) -> float:
    """Operations of a training step for each segment. Nothing counts twice that a backward computes again, as it does on a CPU."""
    model = SignMAE(SignMAEConfig(**(TINY if scale == "tiny" else {})))
    keypoints = torch.randn(2, *model.segment_shape)
    at_once = mock.patch.object(fast_layers_uniglor, "in_chunks", lambda function, features, *weights: function(features, *weights))
    in_memory = mock.patch.object(fast_layers_uniglor, "mix", graph_mixing_uniglor.mix_plain)
    with at_once, in_memory, FlopCounterMode(display=False) as counter:
        model(keypoints).loss.backward()
    return counter.get_total_flops() / len(keypoints)


def speed(arguments, peak: float | None) -> Iterator[dict]:
    """Forms after each other, and not by turns: the memory of CUDA graphs is their own, and several forms of a large batch do not fit."""
    flops = flops_of_a_segment(arguments.scale)
    forms = [form for form, (_, _, with_kernels) in FORMS.items() if not with_kernels or kernels_are_there(arguments.device)]
    for size in SIZES[arguments.scale]:
        published = None
        for form in forms:
            row = {"name": "gpu_pretrain", "case": f"{size} segments, {form}", "unit": "segments/s"}
            try:
                seconds, memory = measured_alone(form, size, arguments)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                yield row | {"case": f"{row['case']}: does not fit into the memory"}
                continue
            rate = size * arguments.steps / seconds
            row |= {"ours": round(rate, 1), "tflops": round(rate * flops / 1e12, 3)}
            if peak:
                row["mfu"] = round(rate * flops / 1e12 / peak, 4)
            if memory:
                row["mib"] = [memory]
            if form == "published":
                published = rate, memory
            elif published:
                row |= {"reference": round(published[0], 1), "ratio": round(rate / published[0], 2)}
                if memory:
                    row |= {"ours_mib": memory, "reference_mib": published[1], "memory_ratio": round(published[1] / memory, 2)}
            yield row


def measured_alone(form: str, size: int, arguments) -> tuple[float, float | None]:
    """Median seconds of a call of `training`, after two that are not counted, and the MiB that all need at most; None on a CPU."""
    on_gpu = arguments.device == "cuda"
    torch.compiler.reset()
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    call = training(form, size, arguments)
    for _ in range(2):  # the first compiles, the second records CUDA graphs
        call()
    seconds = statistics.median(timed(call, arguments.device) for _ in range(arguments.rounds))
    return seconds, round((torch.cuda.max_memory_allocated() - before) / 2**20, 1) if on_gpu else None


def kernels_are_there(device: str) -> bool:
    return device == "cuda" and graph_mixing_uniglor._kernels_run(torch.device("cuda", torch.cuda.current_device()))


# --- kernels ----------------------------------------------------------------------------------------------------------------------

TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 2e-2}  # of the largest value; TF32 is off, and bfloat16 rounds to 8 bits


def kernel_results(arguments, peak=None) -> list[dict]:
    """The kernels' largest errors, and their time against the plain form's, forward and backward."""
    interpreted = related_points is not related_plain and "Interpreted" in type(graph_mixing_triton_kernel()).__name__
    if not kernels_are_there(arguments.device) and not interpreted:
        return [{"name": "gpu_kernels", "case": "not run: Triton's kernels need a GPU of compute capability 8, or TRITON_INTERPRET=1"}]
    rows = []
    for dtype in TOLERANCE:
        for num_segments, num_relations, num_points, num_columns in (
            ((64, 24, 73, 31), (3, 24, 128, 128)) if not interpreted else ((2, 3, 73, 31),)
        ):
            generator = torch.Generator().manual_seed(0)
            shapes = ((num_segments, num_relations, num_points),) * 2 + ((num_segments, num_points, num_columns),)
            values = [torch.randn(shape, generator=generator).to(arguments.device, dtype) for shape in shapes]
            slopes = torch.randn((num_segments, num_relations, num_points, num_columns), generator=generator).to(arguments.device, dtype)

            def results(function, values=values, slopes=slopes):
                inputs = [value.clone().requires_grad_() for value in values]
                related = function(*inputs)
                return [related.detach(), *torch.autograd.grad(related, inputs, slopes.to(related.dtype))]

            exact = [value.float() for value in values]
            errors = [
                ((found.float() - expected).abs().max() / expected.abs().max()).item()
                for found, expected in zip(results(related_points), results(related_plain, exact))
            ]
            case = f"{num_segments} segments, {num_points} points, {str(dtype).removeprefix('torch.')}"
            row = {"name": "gpu_kernels", "case": f"{case}: largest error {max(errors):.1e} of the largest value", "unit": "s"}
            if max(errors) > TOLERANCE[dtype]:
                raise ValueError(
                    f"Triton kernels, {case}: found errors of {max(errors):.1e} of the largest value, expected at most {TOLERANCE[dtype]}."
                )
            sides = {"ours": lambda results=results: results(related_points), "reference": lambda results=results: results(related_plain)}
            seconds, ratios = by_turns(sides, arguments.rounds, arguments.device)
            rows.append(row | {"ours": seconds["ours"], "reference": seconds["reference"], "ratio": round(ratios["reference"], 2)})
    return rows


def graph_mixing_triton_kernel():
    from modeling_unigloR import graph_mixing_triton_uniglor

    return graph_mixing_triton_uniglor._forward_kernel


# --- pretraining ------------------------------------------------------------------------------------------------------------------


def invented_annotations(count: int, seed: int = 0) -> list[dict]:
    """Sentences of invented signs, of PHOENIX14T's lengths, in the form of its annotations."""
    rng = np.random.default_rng(seed)
    records = []
    for number in range(count):
        states, signs = [], rng.zipf(1.5, rng.integers(4, 12)) % 1000
        for sign in signs:
            for part in range(3):  # its start, middle and end
                states += [1 + 3 * int(sign) + part] * int(rng.integers(2, 7))
        shapes, words = (np.array(states) % 60).tolist(), " ".join(map(str, signs))
        record = dict(id=f"invented-{number}", signer=f"Signer{number % 9:02}", text=words, gloss=words)
        records.append(record | dict(sign_state=states, mouth_shape=shapes[::-1], hand_shape=shapes))
    return records


def pretraining(arguments, peak=None) -> list[dict]:
    """Wall time of a whole pretraining, from its first step to its last; rendering and processing the clips are not counted."""
    from experiments.rendered_phoenix import write
    from train import pretrain

    tiny = arguments.scale == "tiny"
    with tempfile.TemporaryDirectory() as folder:
        sets = {"train": invented_annotations(12 if tiny else NUM_CLIPS), "validation": invented_annotations(3 if tiny else 519, seed=1)}
        if arguments.annotations:
            import pyarrow.parquet as parquet

            for split, name in (("train", "train"), ("validation", "dev")):
                sets[split] = parquet.read_table(Path(arguments.annotations) / f"{name}.parquet").to_pylist()[: 12 if tiny else None]
        for split, records in sets.items():
            write(records, Path(folder) / f"{split}.parquet", variation=1.2)
        fields = {
            "datasets": f"{folder}/train.parquet", "validation": f"{folder}/validation.parquet", "output_dir": f"{folder}/out",
            "cache_dir": f"{folder}/cache", "bf16": "true", "save_strategy": "no", "eval_strategy": "no", "logging_steps": 100,
        }  # fmt: skip
        if tiny:
            fields |= TINY | {"max_steps": 4, "per_device_train_batch_size": 4, "use_cpu": str(arguments.device == "cpu").lower()}
        elif arguments.device == "cuda":
            fields |= {"torch_compile": "true", "torch_compile_mode": "reduce-overhead"}
        report = pretrain.main(["paper.yaml", *(word for name, value in fields.items() for word in (f"--{name}", str(value)))])
    seconds, steps = report["compute"]["hours"] * 3600, report["steps"]
    kind = "rendered PHOENIX14T" if arguments.annotations else "invented sentences, rendered,"
    mpjpe = {"mpjpe": report["validation"]["eval_mpjpe"]}
    return [
        {"name": "gpu_pretraining", "case": f"{kind} {steps} steps of {4 if tiny else 64}", "unit": "s", "ours": round(seconds, 1)} | mpjpe,
        {"name": "gpu_pretraining", "case": f"the paper's {PAPER_STEPS:,} steps at this rate", "unit": "s",
         "ours": round(seconds / steps * PAPER_STEPS, 1)},
    ]  # fmt: skip


# --- throughput -------------------------------------------------------------------------------------------------------------------


def throughput(arguments, peak=None) -> list[dict]:
    """Clips to latents and back, to text, and from text, in bfloat16."""
    tiny, device = arguments.scale == "tiny", arguments.device
    num_clips, num_tokens, num_frames = (2, 3, 40) if tiny else (64, 30, NUM_FRAMES)
    torch.manual_seed(0)
    sign_mae = SignMAE(SignMAEConfig(**(TINY if tiny else {})))
    reader = SignToText.from_parts(sign_mae, text_config={"vocab_size": NUM_WORDS} | (TINY_TEXT if tiny else {}))
    text_model = {"vocab_size": NUM_WORDS} | (TINY_SIGNING if tiny else {})
    signer = TextToSign.from_parts(sign_mae, text_config=text_model, **(TINY_SIGNING | {"max_segments": 16} if tiny else {}))
    sign_mae, reader, signer = (model.eval().to(device, torch.bfloat16) for model in (sign_mae, reader, signer))
    clips = (torch.randn(num_clips, num_frames, 73, 2, device=device) * 0.3).to(torch.bfloat16)
    ids = torch.randint(5, NUM_WORDS, (num_clips, 15), device=device)
    with torch.no_grad():
        latents, latent_mask = sign_mae.encode_sequence(clips)
    num_segments = max(1, num_frames // 15)

    @torch.no_grad()
    def encode() -> None:
        sign_mae.encode_sequence(clips)

    @torch.no_grad()
    def decode() -> None:
        sign_mae.decode(latents[latent_mask.bool()])

    def translate() -> None:
        reader.generate(clips, num_beams=5, min_new_tokens=num_tokens, max_new_tokens=num_tokens)

    def sign() -> None:
        signer.generate(ids, num_segments=num_segments)

    num_windows = int(latent_mask.sum())
    cases = {
        f"encode_sequence, {num_clips} clips of {num_frames} frames": (encode, num_windows, "segments/s"),
        f"decode, {num_windows} latents": (decode, num_windows, "segments/s"),
        f"keypoints to text, {num_clips} clips, beam 5, {num_tokens} tokens": (translate, num_clips, "clips/s"),
        f"text to signing, {num_clips} texts": (sign, num_clips * num_segments * 15, "frames/s"),
    }
    rows = []
    for case, (call, amount, unit) in cases.items():
        call()
        seconds = statistics.median(timed(call, device) for _ in range(arguments.rounds))
        rows.append({"name": "gpu_throughput", "case": case, "unit": unit, "ours": round(amount / seconds, 1)})
    return rows


# --- The command ------------------------------------------------------------------------------------------------------------------

MEASURED = {"speed": speed, "kernels": kernel_results, "pretraining": pretraining, "throughput": throughput}


def main(argv=None) -> list[dict]:
    arguments = parse(argv)
    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("No GPU is here, or this torch is built without CUDA. To try the command on a CPU: --device cpu --scale tiny.")
    facts, results = machine(arguments.device), []
    peak = arguments.peak_tflops or (peak_of(facts["device"]) if arguments.device == "cuda" else None)
    if arguments.device == "cuda" and peak is None:
        print(f"The peak of {facts['device']!r} is not known here: no MFU without --peak_tflops.", flush=True)
    slug = re.sub(r"\W+", "-", facts["device"].lower()).strip("-")
    path = Path(arguments.json) if arguments.json else RESULTS / f"run-{slug}.json" if arguments.device == "cuda" else None
    kept = json.loads(path.read_text(encoding="utf-8"))["results"] if path is not None and path.exists() else []
    for part in arguments.parts or PARTS:
        for row in MEASURED[part](arguments, peak):
            print(json.dumps(row), flush=True)
            results.append(row)
            if path is not None:  # after each row: a machine that is lent may be taken back
                names = {row["name"] for row in results}
                others = [row for row in kept if row["name"] not in names]
                path.write_text(json.dumps(facts | {"peak_tflops": peak, "results": others + results}, indent=2) + "\n", encoding="utf-8")
    return results


if __name__ == "__main__":
    run_script(main)
