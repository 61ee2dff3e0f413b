"""One way to configure every training script: a YAML file of fields, and `--field value` on the command line over it.

    accelerate launch train/pretrain.py [config.yaml] [--field value ...]

A field belongs to whoever declares it: the model's config, the keypoint processor, the script's own arguments, or
`transformers.TrainingArguments`. Its default stands there and nowhere else. `--help` lists them all.
"""

import dataclasses
import difflib
import inspect
import re
from pathlib import Path

import yaml
from transformers import Seq2SeqTrainingArguments, TrainingArguments

CONFIGS = Path(__file__).parent / "configs"
NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")  # YAML 1.1 takes 1e-4 for a string


@dataclasses.dataclass
class UniGloRTrainingArguments(TrainingArguments):
    """`TrainingArguments` with the paper's optimiser (appendix B.2)."""

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
    eval_strategy: str = "epoch"
    save_strategy: str = "epoch"
    save_total_limit: int | None = 2
    ddp_find_unused_parameters: bool | None = False  # there are none
    remove_unused_columns: bool = False  # our data sets hold exactly what the models take
    resume_from_checkpoint: str | None = None  # a checkpoint folder, or true: the newest whole one in output_dir
    overwrite_output_dir: bool = False  # delete the run that output_dir holds, and start again
    restore_callback_states_from_checkpoint: bool = True  # a resumed run stops early where it would have stopped
    hub_strategy: str = "end"  # push_to_hub uploads once; the other strategies upload states of the training, which are pickles
    hub_private_repo: bool | None = True  # for its owner alone, until train/publish.py has asked what the data's terms allow

    def __post_init__(self):
        for name in ("eval_strategy", "save_strategy", "logging_strategy"):
            if getattr(self, name) is False:
                setattr(self, name, "no")  # as YAML reads the word
        super().__post_init__()
        if self.push_to_hub and self.hub_strategy != "end":
            raise ValueError(
                f"Found hub_strategy={str(self.hub_strategy.value)!r}, expected 'end': the others upload states of the training, which are "
                "pickles."
            )

    def get_warmup_steps(self, num_training_steps):
        return min(super().get_warmup_steps(num_training_steps), self.max_warmup_steps)


@dataclasses.dataclass
class TranslationTrainingArguments(UniGloRTrainingArguments, Seq2SeqTrainingArguments):
    """The same for the text tasks: evaluation translates, and the model that translated best is kept."""

    num_train_epochs: float = 75  # the paper's, with early stopping on BLEU-4
    per_device_eval_batch_size: int = 64
    predict_with_generate: bool = True
    load_best_model_at_end: bool | None = True
    metric_for_best_model: str | None = "bleu4"
    early_stopping_patience: int | None = 10  # ours: evaluations without a better score; none trains to the end

    def __post_init__(self):
        super().__post_init__()
        self.greater_is_better = not self.metric_for_best_model.endswith(("loss", "wer", "cer"))


@dataclasses.dataclass
class TextToSignTrainingArguments(TranslationTrainingArguments):
    """The same for text-to-sign: `generation_num_beams` is the judge's, and without one the latents choose the model."""

    num_train_epochs: float = 100
    metric_for_best_model: str | None = "latent_r2"


def read_fields(argv, default_config):
    """The YAML file's fields with the command line's over them: ["file.yaml", "--a", "1"] -> {...}.

    The file may be a path, or the name of one in `train/configs`. A value is read as YAML; several make a list.
    """
    argv = list(argv)
    config = argv.pop(0) if argv and not argv[0].startswith("-") else default_config
    path = Path(config) if Path(config).exists() else CONFIGS / config
    if not path.exists():
        raise ValueError(f"No config file {config!r}. Expected a path or one of {sorted(p.name for p in CONFIGS.glob('*.yaml'))}.")
    fields = _with_numbers(yaml.safe_load(path.read_text(encoding="utf-8")) or {})
    given, values = {}, None
    for word in argv:
        if re.match(r"--[A-Za-z_]", word):
            key, separator, value = word[2:].partition("=")
            values = given[key.replace("-", "_")] = [value] if separator else []
        elif values is None:
            raise ValueError(f"Found {word!r} before any --field. Usage: [config.yaml] [--field value ...]")
        else:
            values.append(word)
    return fields | {key: _parsed(values) for key, values in given.items()}


def distribute(fields, owners):
    """Gives every field to each owner that declares it.

    Args:
        fields: {name: value}.
        owners: {owner name: a class}; a dataclass (its own fields, not those of transformers' base config) or any class
            (the parameters of its `__init__`).

    Returns:
        {owner name: {field: value}}.

    Raises:
        ValueError: a field that nobody declares, with the names that are near to it.
    """
    declared = {owner: declared_fields(kind) for owner, kind in owners.items()}
    shares = {owner: {} for owner in owners}
    for name, value in fields.items():
        takers = [owner for owner, names in declared.items() if name in names]
        if not takers:
            near = difflib.get_close_matches(name, sorted(set().union(*declared.values())), n=3)
            raise ValueError(f"Unknown field {name!r}." + (f" Did you mean {', '.join(near)}?" if near else "") + " --help lists all.")
        for owner in takers:
            shares[owner][name] = value
    return shares


def declared_fields(kind):
    """{field: default} that a class takes."""
    if "transformers" not in kind.__module__ and hasattr(kind, "model_type"):  # a model's config: what it adds to the base
        own = [cls for cls in kind.__mro__ if cls.__module__ == kind.__module__]
        names = {name for cls in own for name in cls.__annotations__} - {"model_type", "layout_hash"}
        return {name: getattr(kind, name, None) for name in names}
    if dataclasses.is_dataclass(kind):
        return {field.name: field.default for field in dataclasses.fields(kind) if field.init}
    parameters = inspect.signature(kind.__init__).parameters.values()
    skipped = {"self", "layout_hash", "padding_value"}
    return {p.name: p.default for p in parameters if p.kind is not p.VAR_KEYWORD and p.name not in skipped}


def print_help(doc, owners):
    """What `--help` prints: the script's first lines, then every field with its default."""
    print(doc.strip())
    for owner, kind in owners.items():
        print(f"\n{owner} ({kind.__name__}):")
        for name, default in sorted(declared_fields(kind).items()):
            print(f"  --{name}" + ("" if default is dataclasses.MISSING else f" (default {default!r})"))


def _parsed(words):
    """The words after a --field: none is true, one is its value, several are a list."""
    values = [_with_numbers(yaml.safe_load(word)) for word in words]
    return True if not values else values[0] if len(values) == 1 else values


def _with_numbers(value):
    if isinstance(value, str) and NUMBER.fullmatch(value):
        return float(value)
    if isinstance(value, list):
        return [_with_numbers(item) for item in value]
    if isinstance(value, dict):
        return {key: _with_numbers(item) for key, item in value.items()}
    return value
