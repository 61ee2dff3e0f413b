"""One way to configure every training script: a YAML file of fields, and `--field value` on the command line over it.

    python train/pretrain.py [CONFIG.yaml] [--field value ...]

A field belongs to whoever declares it: the model's config, the keypoint processor, the script's own arguments, or
`transformers.TrainingArguments`. Its default and its type stand there and nowhere else; a value of another type is refused. `--help`
lists the fields of our own, `--help_all` those of transformers too.

Neither `transformers.HfArgumentParser` nor `jsonargparse` does this: the first takes no type such as `list | str | dict`, no config of a
model and no field that two classes declare, and both need the classes for `--help`, whose import takes five seconds. So the reader is our
own; the types are checked by `huggingface_hub.dataclasses`, as those of transformers' configs.
"""

import contextlib
import dataclasses
import difflib
import enum
import inspect
import re
import types
import typing
from pathlib import Path

import torch
import yaml
from huggingface_hub.dataclasses import type_validator
from transformers import Seq2SeqTrainingArguments, TrainingArguments
from transformers.utils import is_torch_bf16_gpu_available, logging

from train.engine.help import NOT_SET

logger = logging.get_logger(__name__)

from train.evaluation.verdicts import lower_is_better

CONFIGS = Path(__file__).parents[1] / "configs"
NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")  # YAML 1.1 takes 1e-4 for a string

# What a message calls a type, and a value of it.
KINDS = {
    bool: ("true or false", "true"),
    int: ("a whole number", "100"),
    float: ("a number", "0.001"),
    str: ("text", "NAME"),
    dict: ("fields in braces", '"{name: value}"'),
    list: ("a list", '"[first, second]"'),
    type(None): ("null", "null"),
}


@dataclasses.dataclass
class UniGloRTrainingArguments(TrainingArguments):
    """`TrainingArguments` with the paper's optimiser (appendix B.2).

    Attributes:
        output_dir: folder of the trained model, of its checkpoints and of report.json.
        max_steps: steps of the optimiser in all; -1 trains for num_train_epochs.
        learning_rate: highest learning rate, which the warm-up leads to.
        adam_beta2: decay of Adam's second moment.
        weight_decay: of AdamW, on all weights but biases and those of norms.
        lr_scheduler_type: a schedule of transformers, by its name.
        per_device_train_batch_size: segments, or clips, in a batch of one process.
        per_device_eval_batch_size: the same, of an evaluation.
        num_train_epochs: how often training goes through the data, where max_steps does not say.
        save_strategy: when a checkpoint is written: epoch, steps (see save_steps) or no.
        logging_strategy: when the loss is logged: epoch, steps (see logging_steps) or no.
        eval_strategy: when the validation data are scored: epoch, steps (see eval_steps) or no.
        save_total_limit: how many checkpoints are kept, the best one among them.
    """

    output_dir: str | None = None
    max_steps: int = -1
    learning_rate: float = 1e-4
    adam_beta2: float = 0.98
    weight_decay: float = 1e-3
    lr_scheduler_type: str = "cosine_with_min_lr"
    lr_scheduler_kwargs: dict | str | None = dataclasses.field(default_factory=lambda: {"min_lr_rate": 0.5})  # to 5e-5
    warmup_steps: float = 0.1  # ours: a tenth of the run, and at most max_warmup_steps
    max_warmup_steps: int = 10_000  # the paper's warm-up, longer than some of its own runs
    per_device_train_batch_size: int = 64
    per_device_eval_batch_size: int = 256
    num_train_epochs: float = 50
    eval_strategy: str | bool = "epoch"  # false: "no", as YAML reads the word
    save_strategy: str | bool = "epoch"
    logging_strategy: str | bool = "steps"
    logging_nan_inf_filter: bool = False  # it waits for the GPU in every step; `trainers.FiniteLoss` stops at such a loss instead
    save_total_limit: int | None = 2
    ddp_find_unused_parameters: bool | None = False  # there are none
    remove_unused_columns: bool = False  # our data sets hold exactly what the models take
    dataloader_pin_memory: bool | None = None  # batches in memory that a GPU reads faster; by default where there is a GPU
    resume_from_checkpoint: str | bool | None = None  # a checkpoint folder, or true: the newest whole one in output_dir
    overwrite_output_dir: bool = False  # delete the run that output_dir holds, and start again
    restore_callback_states_from_checkpoint: bool = True  # a resumed run stops early where it would have stopped
    hub_strategy: str = "end"  # push_to_hub uploads once; the other strategies upload states of the training, which are pickles
    hub_private_repo: bool | None = True  # for its owner alone, until train/publish.py has asked what the data's terms allow

    def __post_init__(self):
        for name in ("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"Found {name}={getattr(self, name)}, expected at least 1.")
        for name in ("eval_strategy", "save_strategy", "logging_strategy"):
            if getattr(self, name) is False:
                setattr(self, name, "no")  # as YAML reads the word
        if self.bf16 or self.bf16_full_eval:
            self._choose_precision()
        if self.dataloader_pin_memory is None:
            self.dataloader_pin_memory = torch.accelerator.is_available() and not self.use_cpu
        if self.greater_is_better is None and self.metric_for_best_model is not None:
            self.greater_is_better = not lower_is_better(self.metric_for_best_model)
        super().__post_init__()
        if self.push_to_hub and self.hub_strategy != "end":
            raise ValueError(
                f"Found hub_strategy={str(self.hub_strategy.value)!r}, expected 'end': the others upload states of the training, which are "
                "pickles."
            )

    def _choose_precision(self):
        """Keeps bfloat16 where the GPU, or without one the CPU, computes in it; elsewhere trains in float32, with a warning."""
        on_cpu = self.use_cpu or not torch.accelerator.is_available()
        if not on_cpu and is_torch_bf16_gpu_available():
            return
        if on_cpu and cpu_knows_bf16():
            self.use_cpu = True  # transformers refuses bfloat16 on a CPU unless this is set
        else:
            self.bf16 = self.bf16_full_eval = False
            logger.warning(f"This {'CPU' if on_cpu else 'GPU'} does not compute in bfloat16: training in float32, as without --bf16.")

    def get_warmup_steps(self, num_training_steps):
        return min(super().get_warmup_steps(num_training_steps), self.max_warmup_steps)


def cpu_knows_bf16():
    """Whether this CPU has instructions for bfloat16; others imitate them, slower than float32."""
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()  # an older torch does not have it
    return any(supported for name, supported in capabilities.items() if "bf16" in name)


@dataclasses.dataclass
class TranslationTrainingArguments(UniGloRTrainingArguments, Seq2SeqTrainingArguments):
    """The same for the text tasks: evaluation translates, and the model that translated best is kept.

    Attributes:
        predict_with_generate: whether an evaluation translates; without, only its loss is known.
        load_best_model_at_end: whether the weights of the best evaluation are kept.
        metric_for_best_model: the score that says which evaluation was best.
    """

    num_train_epochs: float = 75  # the paper's, with early stopping on BLEU-4
    per_device_eval_batch_size: int = 64
    predict_with_generate: bool = True
    load_best_model_at_end: bool | None = True
    metric_for_best_model: str | None = "bleu4"
    early_stopping_patience: int | None = 10  # ours: evaluations without a better score; none trains to the end


@dataclasses.dataclass
class TextToSignTrainingArguments(TranslationTrainingArguments):
    """The same for text-to-sign: `generation_num_beams` is the judge's.

    Attributes:
        metric_for_best_model: with a judge, the BLEU-4 of what it reads; without, the loss on validation clips of latent_decoder
            codes_flow, and latent_frechet of regression, whose loss is least where hardly anything moves.
    """

    num_train_epochs: float = 100
    metric_for_best_model: str | None = "loss"


class Fields(dict):
    """{name: value} of a config file with the command line over it.

    Attributes:
        config: the config file that the command line names, or None.
        words: {name: [word, ...]} of the command line, as they were written.
    """

    def __init__(self, values, config, words):
        super().__init__(values)
        self.config, self.words = config, words


def read_fields(argv, default_config):
    """The YAML file's fields with the command line's over them: ["file.yaml", "--a", "1"] -> `Fields`.

    The file may be a path, or the name of one in `train/configs`. A value is read as YAML; several make a list. `--datasets` on the
    command line takes the file's `validation` away: it belongs to the file's own data sets.
    """
    argv = list(argv)
    config = argv.pop(0) if argv and not argv[0].startswith("-") else None
    path = Path(config or default_config)
    path = path if path.is_file() else CONFIGS / path
    if not path.is_file():
        raise ValueError(f"No config file {config!r}. Expected a path or one of {', '.join(config_names())}.")
    fields = _with_numbers(_read_yaml(path.read_text(encoding="utf-8"), str(path)) or {})
    if not isinstance(fields, dict):
        raise ValueError(f"Config file {str(path)!r} holds {_kind_of(fields)}, expected lines of `name: value`.")
    words_of_fields, values = {}, None
    for word in argv:
        if re.match(r"--[A-Za-z_]", word):
            key, separator, value = word[2:].partition("=")
            values = words_of_fields[key.replace("-", "_")] = [value] if separator else []
        elif values is None:
            raise ValueError(f"Found {word!r} before any --field. Usage: [config.yaml] [--field value ...]")
        else:
            values.append(word)
    if "datasets" in words_of_fields and "validation" not in words_of_fields:
        fields.pop("validation", None)
    return Fields(fields | {key: _parsed(key, values) for key, values in words_of_fields.items()}, config, words_of_fields)


def config_names():
    return sorted(path.name for path in CONFIGS.glob("*.yaml"))


def distribute(fields, owners):
    """Gives every field to each owner that declares it.

    Args:
        fields: {name: value}.
        owners: {owner name: a class}; a dataclass (its own fields, not those of transformers' base config) or any class
            (the parameters of its `__init__`).

    Returns:
        {owner name: {field: value}}.

    Raises:
        ValueError: a field that nobody declares, with the names that are near to it; a value of another type than is declared.
    """
    declared = {owner: declared_fields(kind) for owner, kind in owners.items()}
    expected = {owner: declared_types(kind) for owner, kind in owners.items()}
    words = getattr(fields, "words", {})
    shares = {owner: {} for owner in owners}
    for name, value in fields.items():
        takers = [owner for owner, names in declared.items() if name in names]
        if not takers:
            near = difflib.get_close_matches(name, sorted(set().union(*declared.values())), n=3)
            raise ValueError(f"Unknown field {name!r}." + (f" Did you mean {', '.join(near)}?" if near else "") + " --help_all lists all.")
        for owner in takers:
            shares[owner][name] = _checked(name, value, expected[owner].get(name), words.get(name))
    return shares


def parse_training(fields, owners):
    """Turns the fields of a training into its arguments.

    Args:
        fields: of `read_fields`.
        owners: see `distribute`; the one called data is a `DataArguments`.

    Returns:
        The data arguments, checked, and {owner: {field: value}} of the others. With `--validation []`, nothing is evaluated.
    """
    shares = distribute(fields, owners)
    data = owners["data"](**shares.pop("data"))
    data.check_entries()
    if data.validation == []:
        shares["training"] |= {"eval_strategy": "no", "load_best_model_at_end": False}
    return data, shares


def declared_fields(kind):
    """{field: default} that a class takes."""
    if "transformers" not in kind.__module__ and hasattr(kind, "model_type"):  # a model's config: what it adds to the base
        own = [cls for cls in kind.__mro__ if cls.__module__ == kind.__module__]
        names = {name for cls in own for name in cls.__annotations__} - NOT_SET
        return {name: getattr(kind, name, None) for name in names}
    if dataclasses.is_dataclass(kind):
        return {field.name: field.default for field in dataclasses.fields(kind) if field.init}
    parameters = inspect.signature(kind.__init__).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is not p.VAR_KEYWORD and p.name not in {"self", *NOT_SET}}


def declared_types(kind):
    """{field: type} of the fields of `declared_fields`, as annotated, else that of the default; fields with neither are left out."""
    fields = declared_fields(kind)
    if hasattr(kind, "model_type"):
        hints = {name: hint for cls in reversed(kind.__mro__) for name, hint in vars(cls).get("__annotations__", {}).items()}
    elif dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
    else:
        hints = {p.name: p.annotation for p in inspect.signature(kind.__init__).parameters.values() if p.annotation is not p.empty}
    hints = {name: hint for name, hint in hints.items() if not isinstance(hint, str)}
    plain = {name: type(default) | None for name, default in fields.items() if type(default) in KINDS and default is not None}
    return {name: hints.get(name, plain.get(name)) for name in fields if name in hints or name in plain}


def _parsed(name, words):
    """The words after a --field: none is true, one is its value, several are a list."""
    values = [_with_numbers(_read_yaml(word, f"--{name} {word}")) for word in words]
    return True if not values else values[0] if len(values) == 1 else values


def _read_yaml(text, source):
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        problem = " ".join(str(error).split())
        raise ValueError(f"{source} cannot be read as YAML: {problem}. Close every bracket, and quote what has a colon.") from error


def _checked(name, value, kind, words):
    """The value as its declared type takes it; any other is refused."""
    if kind is None:
        return value
    if isinstance(value, float) and value.is_integer() and not _fits(value, kind) and _fits(int(value), kind):
        return int(value)  # 1e3
    if words is not None and len(words) == 1 and isinstance(value, (bool, int, float)) and not _fits(value, kind) and _fits(words[0], kind):
        return words[0]  # a text that YAML takes for something else, such as a folder that is called 2024
    if not _fits(value, kind):
        names, examples = zip(*_described(kind))
        setting = f"{name}: {value!r} in the config file" if words is None else " ".join([f"--{name}", *words])
        raise ValueError(
            f"{setting}: found {_kind_of(value)}, expected {' or '.join(names)}. Give for example --{name} {examples[0]}"
            + (", quoted in the file." if words is None and KINDS[str][0] in names else ".")
        )
    return value


def _fits(value, kind):
    """Whether a value is of a declared type; a whole number is a number too, and NaN is none."""
    for candidate in (value, float(value)) if type(value) is int else (value,):
        with contextlib.suppress(TypeError):
            type_validator("", candidate, kind)
            return candidate == candidate
    return False


def _described(kind):
    """What a message calls the values of a declared type, and an example of each: [(name, example), ...], null last."""
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        descriptions = dict.fromkeys(description for part in parts for description in _described(part))
        return sorted(descriptions, key=lambda description: description == KINDS[type(None)])
    if origin in (list, tuple) and parts:
        name, example = _described(parts[0])[0] if _described(parts[0]) else KINDS[str]
        return [(f"a list, each {name}", f'"[{example}, {example}]"')]
    if origin is typing.Literal:
        return [(f"one of {', '.join(map(str, parts))}", str(parts[0]))]
    if isinstance(kind, type) and issubclass(kind, (enum.Enum, Path)):
        return [KINDS[str]]
    kind = origin or kind
    return [KINDS[kind]] if kind in KINDS else []


def _kind_of(value):
    """What a message calls a value."""
    if isinstance(value, str):
        return f"the text {value!r}"
    if isinstance(value, (list, dict)):
        return f"the {'list' if isinstance(value, list) else 'fields'} {value!r}"
    return "null" if value is None else f"{str(value).lower() if isinstance(value, bool) else value}"


def _with_numbers(value):
    if isinstance(value, str) and NUMBER.fullmatch(value):
        return float(value)
    if isinstance(value, list):
        return [_with_numbers(item) for item in value]
    if isinstance(value, dict):
        return {key: _with_numbers(item) for key, item in value.items()}
    return value
