"""Exports the encoder of a checkpoint to ONNX, for machines without torch: windows of keypoints to latents, in batches of any size.

    python -m train.export --checkpoint outputs/sign-mae --output_dir outputs/sign-mae-onnx

The checkpoint is a SignMAE, or a SignToText or SignRecognition that reads segments. Writes `encoder.onnx`, which was compared with the
model on batches of several sizes, `export.json` with what a runner has to know, and `preprocessor_config.json`. See docs/deployment.md.
"""

from train.engine.commands import CommandParser


def parse(argv=None):
    parser = CommandParser(__doc__)
    parser.add_argument("--checkpoint", required=True, help="a folder that train/pretrain.py or another training wrote, or a Hub id")
    parser.add_argument("--output_dir", required=True, help="a new folder")
    return parser.parse_args(argv)


if __name__ == "__main__":
    parse()  # answers --help and mistakes before the imports that take seconds

import importlib.util
import logging
import warnings
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from datasets_scripts.whole import whole_folder, write_json
from modeling_unigloR import SignMAE, SignRecognition, SignToText
from train.engine.loading import load_model, load_processor, read_model_type
from train.engine.runs import run_script

ENCODERS = {"sign_mae": SignMAE, "sign_to_text": SignToText, "sign_recognition": SignRecognition}
LIBRARIES = ("onnx", "onnxscript", "onnxruntime")
CHECKED_BATCHES = (1, 2, 16, 33)  # segments; one of them is the batch that was traced
TRACED_BATCH = 2
TOLERANCE = 1e-4  # of the largest number of a latent: both compute in float32


class Encoder(nn.Module):
    """`encode` of a SignMAE as a module, which torch exports."""

    def __init__(self, sign_mae):
        super().__init__()
        self.sign_mae = sign_mae

    def forward(self, segments):
        return self.sign_mae.encode(segments)


def main(argv=None):
    arguments = parse(argv)
    check_libraries()
    kind = ENCODERS[read_model_type(arguments.checkpoint, "--checkpoint", list(ENCODERS))]
    if Path(arguments.output_dir).exists():
        raise ValueError(f"--output_dir {arguments.output_dir!r} is there already. Give a new folder, or remove it first.")
    model, processor = load_model(arguments.checkpoint, kind), load_processor(arguments.checkpoint)
    if getattr(model.config, "sign_encoder", "segments") != "segments":
        raise ValueError(
            f"--checkpoint {arguments.checkpoint!r} reads frames (sign_encoder='frames') and has no encoder of segments, which is what is "
            "exported. Give a checkpoint that was trained with sign_encoder='segments', or a SignMAE."
        )
    sign_mae = (model if kind is SignMAE else model.sign_mae).float().eval()
    with whole_folder(arguments.output_dir) as folder:
        export_encoder(sign_mae, folder / "encoder.onnx")
        error = largest_error(sign_mae, folder / "encoder.onnx")
        if not error <= TOLERANCE:
            raise ValueError(
                f"The exported encoder differs from the model by {error:.1e} of the latents' size, expected at most {TOLERANCE:g}. Nothing "
                "was written. Another version of torch or onnxruntime may do better."
            )
        window_size, num_keypoints, num_channels = sign_mae.segment_shape
        facts = {
            "window_size": window_size, "stride": getattr(model.config, "stride", None) or sign_mae.config.stride,
            "num_keypoints": num_keypoints, "num_channels": num_channels, "hidden_size": sign_mae.config.hidden_size,
            "layout": sign_mae.config.layout, "fps": processor.fps, "largest_error": error, "torch": torch.__version__,
        }  # fmt: skip
        write_json(facts, folder / "export.json")
        processor.save_pretrained(folder)
    print(f"Wrote {arguments.output_dir}: equal to the model within {error:.1e} on batches of {', '.join(map(str, CHECKED_BATCHES))}.")
    return facts


def check_libraries():
    """Raises `ImportError` where a library is missing."""
    if missing := [name for name in LIBRARIES if importlib.util.find_spec(name) is None]:
        raise ImportError(f"The export needs {', '.join(missing)}, which is not installed: pip install {' '.join(missing)}")


@torch.no_grad()
def export_encoder(sign_mae, path):
    """Writes segments (N, W, K, C) -> latents (N, D) of a SignMAE, for any N."""
    segments = torch.zeros(TRACED_BATCH, *sign_mae.segment_shape)
    with _quietly():
        torch.onnx.export(
            Encoder(sign_mae).eval(), (segments,), path, dynamo=True, input_names=["segments"], output_names=["latents"],
            dynamic_shapes={"segments": {0: torch.export.Dim.DYNAMIC}}, external_data=False, verbose=False,
        )  # fmt: skip


@torch.no_grad()
def largest_error(sign_mae, path):
    """The largest difference between file and model over batches of several sizes, in units of the largest number of a latent."""
    session, errors = open_session(path), []
    generator = torch.Generator().manual_seed(0)
    for size in CHECKED_BATCHES:
        segments = torch.randn(size, *sign_mae.segment_shape, generator=generator) * 0.3
        expected = sign_mae.encode(segments)
        found = torch.from_numpy(session.run(None, {"segments": segments.numpy()})[0])
        if found.shape != expected.shape:
            raise ValueError(f"The exported encoder gives {tuple(found.shape)} for {size} segments, expected {tuple(expected.shape)}.")
        errors.append(float((found - expected).abs().max() / expected.abs().max()))
    return max(errors)


def open_session(path, num_threads=0):
    """An onnxruntime session on the CPU; 0 threads are as many as it likes."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


@contextmanager
def _quietly():
    """Hides what the exporter says of torchvision, and of constants that it does not fold."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


if __name__ == "__main__":
    run_script(main)
