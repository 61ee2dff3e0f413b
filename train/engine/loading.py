"""Loads the checkpoints that a command line names, or refuses them at once: they must exist, be of the expected kind, and be whole.

`from_pretrained` asks the Hub for a folder that is missing, and gives random values to tensors that a checkpoint lacks. Here both are
errors that name the folder or the tensors. Nothing here runs code that travels with a checkpoint.
"""

import logging
import re
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import AutoFeatureExtractor, AutoTokenizer, PreTrainedConfig, pipeline

from modeling_unigloR import KeypointProcessor, SignMAE, SignRecognition, SignToText, TextToSign, quantize
from modeling_unigloR.quantization_uniglor import check_int8
from train.data.text_tokenizers import KINDS

SCRIPTS = {
    "sign_mae": "train/pretrain.py",
    "sign_to_text": "train/train_sign_to_text.py",
    "text_to_sign": "train/train_text_to_sign.py",
    "sign_recognition": "train/train_recognition.py",
}
MODELS = {
    "sign-feature-extraction": SignMAE,
    "sign-to-text": SignToText,
    "text-to-sign": TextToSign,
    "sign-recognition": SignRecognition,
}
DATASETS_BY = "python -m datasets_scripts.build"
LOCAL_FOLDERS = ("outputs", "data")  # what train/configs writes to and reads from
SHOWN = 3  # tensors that a message names


def check_path(name, option, single_names=False, made_by=None):
    """A path or Hub id as it is loaded; a folder of this machine that is missing is refused, and not looked for on the Hub.

    What is there is taken from here. What is not there is a Hub id only if it reads `owner/name`, and neither starts with `.`, `~` or
    `outputs/` or `data/`, nor names a folder `owner` that is here. URLs and patterns with `*` are passed on.

    Args:
        name: str or Path.
        option: what the message calls it, such as "--sign_mae".
        single_names: whether a name without a slash may be a Hub id, as those of some text models are.
        made_by: the command that makes such a folder, for the message.
    """
    name = str(Path(name).expanduser()) if str(name).startswith("~") else str(name)
    if not name.strip():
        raise ValueError(f"{option} is empty. Expected a folder, or a Hub id owner/name.")
    if "://" in name or any(letter in name for letter in "*?[") or Path(name).exists():
        return name
    parts = name.split("/")
    on_hub = re.fullmatch(r"[\w][\w.-]*(/[\w][\w.-]*)?", name) and len(parts) <= 2 and parts[0] not in LOCAL_FOLDERS
    if on_hub and (single_names if len(parts) == 1 else not Path(parts[0]).is_dir()):
        return name
    remedy = f"make one with {made_by}, or check the path" if made_by else "check the path"
    raise ValueError(f"{option} {name!r} does not exist. Expected a folder or file that is there, or a Hub id owner/name: {remedy}.")


def read_model_type(name, option, expected):
    """The model type of a checkpoint; one that is not expected is refused.

    Args:
        name: folder or Hub id.
        option: what the message calls it, such as "--sign_mae".
        expected: model types that are taken.
    """
    name = check_path(name, option, made_by=_scripts(expected))
    if Path(name).exists() and not (Path(name) / "config.json").is_file():
        raise ValueError(f"{option} {name!r} is no checkpoint: it has no config.json. Give a folder that {_scripts(expected)} wrote.")
    try:
        model_type = PreTrainedConfig.get_config_dict(name)[0].get("model_type")  # its values alone: no class, no code of the checkpoint
    except (OSError, ValueError) as error:
        raise ValueError(f"{option} {name!r} cannot be loaded: {_first_line(error)} Check the name, or give a folder.") from error
    if model_type not in expected:
        raise ValueError(
            f"{option} {name!r} holds a model of type {model_type!r}, expected {' or '.join(map(repr, expected))}: a folder that "
            f"{_scripts(expected)} wrote."
        )
    return model_type


def load_model(name, model_class, option="--checkpoint", dtype=None):
    """A model of one of our classes, in eval mode, whose every tensor stands in the checkpoint and is finite.

    Args:
        name: folder or Hub id.
        model_class: `SignMAE`, `SignMAEEncoderModel`, `SignToText`, ...: says what type of checkpoint is expected.
        option: what messages call it, such as "--sign_mae".
        dtype: of the weights; by default as they were saved. Statistics and the norms over keypoints stay in float32.

    Raises:
        ValueError: nothing is there; another type; tensors that are missing, too many, of another size or not finite, by name.
    """
    read_model_type(name, option, [model_class.config_class.model_type])
    name = check_path(name, option)
    with _without_warnings("transformers.modeling_utils"):  # the report of what is missing, 60 to 120 lines, which one error says here
        try:
            model, report = model_class.from_pretrained(
                name, output_loading_info=True, ignore_mismatched_sizes=True, use_safetensors=True, **{"dtype": dtype} if dtype else {}
            )
        except (OSError, SafetensorError, RuntimeError) as error:
            raise ValueError(
                f"{option} {name!r}: its weights cannot be read ({_first_line(error)}). Expected a whole model.safetensors; save or copy "
                "the checkpoint again."
            ) from error
    wrong = {
        "lacks": report["missing_keys"],
        "has, but its config does not name,": report["unexpected_keys"],
        "has in other sizes than its config names": [
            f"{key} ({tuple(shape)}, expected {tuple(expected)})" for key, shape, expected in report["mismatched_keys"]
        ],
    }
    for problem, tensors in wrong.items():
        if tensors:
            raise ValueError(
                f"{option} {name!r} {problem} {_some(tensors)}. Expected the weights of the {model_class.__name__} of its config.json: "
                f"save or copy the checkpoint again, or train it anew with {_scripts([model_class.config_class.model_type])}."
            )
    check_finite(model, f"{option} {name!r}")
    return model


def check_finite(model, what):
    """Raises `ValueError` where a model has a tensor with a NaN or an infinity, by name."""
    tensors = [key for key, value in model.state_dict().items() if value.is_floating_point() and not value.isfinite().all()]
    if tensors:
        raise ValueError(
            f"{what} has values that are not finite (NaN or infinite) in {_some(tensors)}. Such a model answers nothing. Train it again: "
            "on more clips where a statistic is concerned, else with a lower learning_rate."
        )


def load_processor(name, option="--checkpoint"):
    """The keypoint processor of a checkpoint."""
    name = check_path(name, option)
    try:
        processor = AutoFeatureExtractor.from_pretrained(name, trust_remote_code=False)
    except OSError as error:
        raise ValueError(
            f"{option} {name!r} has no keypoint processor that can be read ({_first_line(error)}). Expected preprocessor_config.json "
            "beside config.json."
        ) from error
    if not isinstance(processor, KeypointProcessor):
        raise ValueError(f"{option} {name!r} has a {type(processor).__name__}, expected a KeypointProcessor.")
    return processor


def make_processor(sign_mae, fields, option="--sign_mae"):
    """The SignMAE's own processor, so that its latents mean here what they meant there; else one by `fields`."""
    if sign_mae is None:
        return KeypointProcessor(**fields)
    read_model_type(sign_mae, option, ["sign_mae"])  # before anything takes time
    processor = load_processor(sign_mae, option)
    differing = {name: value for name, value in fields.items() if getattr(processor, name) != value}
    if differing:
        raise ValueError(f"{differing} differ from the processor of {sign_mae!r}, which its latents were learnt with. Leave them out.")
    return processor


def load_tokenizer(data):
    """The text model's own tokenizer, or the one that is named.

    Args:
        data: a `TextArguments`.
    """
    option, name = ("--text_model", data.text_model) if data.tokenizer in KINDS else ("--tokenizer", data.tokenizer)
    return AutoTokenizer.from_pretrained(check_path(name, option, single_names=True))


def with_ids_of(tokenizer, fields):
    """The fields of a config whose new text model is to have a tokenizer's size and special tokens."""
    ids = {name: getattr(tokenizer, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
    return fields | {"text_config": {"vocab_size": len(tokenizer), **ids, **(fields.get("text_config") or {})}}


def load_pipeline(task, name, device=None, option="--checkpoint", dtype=None):
    """The pipeline of a task on a checkpoint that `load_model` accepts; in "float32", "bfloat16", or "int8" on a CPU."""
    check_device(device)
    if dtype == "int8":
        check_int8()
        device = "cpu" if device is None else device
    model = load_model(name, MODELS[task], option, getattr(torch, dtype) if dtype in ("float32", "bfloat16") else None)
    if dtype == "int8":
        quantize(model.to(device))
    name = check_path(name, option)
    parts = {"feature_extractor": load_processor(name, option)}
    if task in ("sign-to-text", "text-to-sign"):
        parts["tokenizer"] = name
    return pipeline(task, model=model, device=device, trust_remote_code=False, **parts)


def check_device(device):
    """Raises `ValueError` where torch does not know a device, or has none of it here; None passes."""
    try:
        torch.empty(0, device=device)
    except (AssertionError, RuntimeError) as error:
        raise ValueError(f"--device {device!r} cannot be used: {_first_line(error)}. Leave it out, or give cpu.") from error


def _scripts(model_types):
    return " or ".join(SCRIPTS[model_type] for model_type in model_types)


def _some(names):
    names = sorted(names)
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more tensors" if len(names) > SHOWN else "")


def _first_line(error):
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


@contextmanager
def _without_warnings(name):
    """Hides the warnings of a logger meanwhile. It uses a filter, because at a higher level transformers warns of other things."""
    logger = logging.getLogger(name)

    def is_error(record):
        return record.levelno >= logging.ERROR

    logger.addFilter(is_error)
    try:
        yield
    finally:
        logger.removeFilter(is_error)
