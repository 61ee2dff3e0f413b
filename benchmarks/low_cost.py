"""Inference at low cost: int8, lists of clips, text-to-sign, onnxruntime; one thread, CPU time, random weights of the paper's size.

They say nothing of quality: `python -m train.evaluate_checkpoint --dtype int8` does.
"""

import copy
import functools
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.measure import compare
from benchmarks.reference import reference_signing, reference_translations

NUM_FRAMES = 116  # of a clip: PHOENIX14T's mean
NUM_TOKENS = 30  # of a translation
LONGEST_CLIP = 32  # segments end to end, as PHOENIX14T's; the paper's model has 128 queries
NUM_SEGMENTS = 8  # of the clip that is generated: 120 frames


def one_thread(benchmark):
    """Decorates a benchmark: it runs on the CPU, in one thread and without gradients."""

    @functools.wraps(benchmark)
    def wrapper(device, rounds):
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with torch.no_grad():
                return benchmark(device, rounds)
        finally:
            torch.set_num_threads(threads)

    return wrapper


def cpu_seconds(ours, reference, rounds):
    return compare(ours, reference, rounds, clock=time.process_time)


def sign_to_text():
    """A random SignToText of the default size, whose graph refinement is switched on."""
    from modeling_unigloR import SignMAEConfig, SignToText, SignToTextConfig

    torch.manual_seed(0)
    model = SignToText(SignToTextConfig(sign_mae_config=SignMAEConfig())).eval()
    model.sign_mae.encoder.graph.alpha.fill_(0.5)
    return model


def clips(num_clips, num_frames=NUM_FRAMES):
    return torch.randn(num_clips, num_frames, 73, 2, generator=torch.Generator().manual_seed(0)) * 0.3


@one_thread
def low_cost_translation(device, rounds):
    """Keypoints to text, encoding counted: int8, and bfloat16, against float32."""
    from modeling_unigloR import quantize

    exact = sign_to_text()
    half, cheap = _in_bfloat16(exact), quantize(copy.deepcopy(exact))

    def translate(model, keypoints):
        model.generate(keypoints.to(model.dtype), num_beams=5, min_new_tokens=NUM_TOKENS, max_new_tokens=NUM_TOKENS)

    rows = []
    for name, model, num_clips, times in (("int8", cheap, 32, min(rounds, 3)), ("int8", cheap, 1, rounds), ("bfloat16", half, 1, rounds)):
        keypoints = clips(num_clips)
        sides = [functools.partial(translate, side, keypoints) for side in (model, exact)]
        rows.append({"case": f"{name}, {num_clips} clips" if num_clips > 1 else f"{name}, 1 clip"} | cpu_seconds(*sides, times))
    return rows


def _in_bfloat16(model):
    """As `from_pretrained(..., dtype=torch.bfloat16)` loads it: statistics and norms over keypoints stay in float32."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return type(model).from_pretrained(folder, dtype=torch.bfloat16).eval()


@one_thread
def list_of_clips(device, rounds):
    """A list of 8 clips given to the pipeline, against one by one with a second pass for the score."""
    from modeling_unigloR import KeypointProcessor, SignToTextPipeline
    from tests.conftest import random_signing
    from train.data.text_tokenizers import train_tokenizer

    tokenizer = train_tokenizer(["am sonntag regnet es ."])
    pipe = SignToTextPipeline(model=sign_to_text(), tokenizer=tokenizer, feature_extractor=KeypointProcessor(), device="cpu")
    lengths = [NUM_FRAMES + 8 * number for number in range(-4, 4)]
    signing = [random_signing(length, seed) * 100 + 300 for seed, length in enumerate(lengths)]
    decoding = dict(layout="uniglor73", fps=25.0, max_new_tokens=NUM_TOKENS)
    sides = [lambda: pipe(signing, **decoding), lambda: reference_translations(pipe, signing, **decoding)]
    return [{"case": "8 clips of 84 to 140 frames"} | cpu_seconds(*sides, min(rounds, 3))]


@one_thread
def text_to_sign(device, rounds):
    """A sentence, 120 frames, against the code before: 128 queries, all of them in every layer."""
    from modeling_unigloR import SignMAEConfig, TextToSign, TextToSignConfig, quantize

    def model_of(max_segments):
        torch.manual_seed(0)
        return TextToSign(TextToSignConfig(max_segments=max_segments, sign_mae_config=SignMAEConfig())).eval()

    before, auto = model_of(128), model_of(LONGEST_CLIP)
    ids = torch.randint(4, 3000, (1, 15))
    rows = []
    for case, model in (
        ("max_segments: auto, 32 queries", auto),
        ("max_segments: auto, 32 queries, int8", quantize(copy.deepcopy(auto))),
        ("128 queries, int8", quantize(copy.deepcopy(before))),
        ("128 queries: a trained model, the same output", before),
    ):
        ours = functools.partial(model.generate, ids, num_segments=NUM_SEGMENTS)
        rows.append({"case": case} | cpu_seconds(ours, lambda: reference_signing(before, ids, NUM_SEGMENTS), rounds))
    return rows


@one_thread
def onnx_encode(device, rounds):
    """16 segments encoded by onnxruntime, from the file that `train.export` writes, against torch."""
    from modeling_unigloR import SignMAEConfig, SignMAEEncoderModel
    from train.export import check_libraries, export_encoder, open_session

    check_libraries()
    torch.manual_seed(0)
    sign_mae = SignMAEEncoderModel(SignMAEConfig()).eval()
    sign_mae.encoder.graph.alpha.fill_(0.5)
    segments = clips(16, sign_mae.config.window_size)
    with tempfile.TemporaryDirectory() as folder:
        export_encoder(sign_mae, Path(folder) / "encoder.onnx")
        session = open_session(Path(folder) / "encoder.onnx", num_threads=1)
    latents = torch.from_numpy(session.run(None, {"segments": segments.numpy()})[0])
    torch.testing.assert_close(latents, sign_mae.encode(segments), atol=1e-4, rtol=1e-4)
    sides = [lambda: session.run(None, {"segments": segments.numpy()}), lambda: sign_mae.encode(segments)]
    return [{"case": "16 segments"} | cpu_seconds(*sides, max(rounds, 9))]
