"""A training from its first step, or where it was stopped, to the folder that a pipeline loads. docs/training.md tells how to use it."""

import contextlib
import hashlib
import json
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Iterator
from dataclasses import asdict
from logging import basicConfig
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedModel, TrainerCallback, set_seed
from transformers.utils import logging

from datasets_scripts.whole import remove_unfinished, write_whole
from train.data import caches
from train.data.segments import names
from train.engine.checkpoints import (
    SavingError,
    Terminated,
    checkpoints,
    damage,
    damage_with_best,
    newest_whole,
    on_main,
    read_manifest,
    results,
    saving,
    stop_behind,
)
from train.engine.loading import check_finite
from train.engine.trainers import BatchTooLargeError, LoaderMemoryError, NonFiniteLossError
from train.evaluation.closing import NOT_SCORED, closing
from train.publishing.upload import push

logger = logging.get_logger(__name__)

RECORD = "training_run.json"  # what the run is, and where it ended
REPORT = "report.json"
WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "pytorch_model*.bin")

# Training arguments that may change when a run is resumed: how long, how often, where and by what means it trains, not what it learns.
MAY_DIFFER = {
    "max_steps", "num_train_epochs", "output_dir", "overwrite_output_dir", "resume_from_checkpoint", "load_best_model_at_end",
    "restore_callback_states_from_checkpoint", "per_device_eval_batch_size", "prediction_loss_only", "batch_eval_metrics",
    "include_for_metrics", "do_train", "do_eval", "do_predict", "use_cpu", "local_rank", "disable_tqdm", "report_to", "run_name",
    "project", "push_to_hub", "debug", "skip_memory_metrics", "enable_jit_checkpoint", "torch_empty_cache_steps",
    "per_device_train_batch_size", "gradient_accumulation_steps",  # their product with the number of processes may not
}  # fmt: skip
MAY_DIFFER_BY_PREFIX = ("eval_", "save_", "log_", "logging_", "hub_", "trackio_", "dataloader_", "ddp_")
MAY_NOT = {"dataloader_drop_last"}  # in spite of its prefix
NOT_OF_THE_MODEL = {
    "_name_or_path", "transformers_version", "architectures", "auto_map", "custom_pipelines", "dtype", "feature_extractor_type",
    "processor_class",
}  # fmt: skip
MISTAKES = (ValueError, FileNotFoundError, FileExistsError, NotADirectoryError, PermissionError, ConnectionError)  # a user's

_current = None  # the Trainer that is at work, for the message that is printed if it is stopped


# --- A whole training -------------------------------------------------------------------------------------------------------------


def run(trainer, pipeline_class, parts, specs, clips, validation=None, data=None, assess=None, next_command=None, **facts):
    """Trains a task's model and writes its pipeline, with `report.json`, into output_dir.

    Args:
        trainer: a Trainer of the model.
        pipeline_class, parts: what is saved, and what it is made of: {"model", "feature_extractor" and maybe "tokenizer"}.
        specs: entries of `segments.load_rows`, for the report.
        clips, validation: `Clips`; without validation nothing is scored.
        data: the script's own arguments, a dataclass.
        assess: function of the trainer and of `clips`, after the last evaluation -> what the report says of it, see `closing`.
        next_command: what the user may do then.
        **facts: that the report says too.

    Returns:
        The report, on every process.
    """
    args, model = trainer.args, parts["model"]
    training = train(trainer, data, parts["feature_extractor"])
    if training is None:
        return say_goodbye(trainer, finished_report(args), next_command)
    report = {"datasets": names(specs), "num_train_clips": len(clips), "num_validation_clips": len(validation or ()), **facts}
    report |= {"steps": trainer.state.global_step, "selection": trainer.selection_report(), **training_used(trainer, training)}
    if earlier := data_behind(getattr(data, "sign_mae", None)) if getattr(model.config, "sign_encoder", "") != "frames" else []:
        report["earlier_datasets"] = earlier
    check_finite(model, "The trained model")
    if validation is not None:
        scores = trainer.evaluate()
        report["validation"] = {name: value for name, value in scores.items() if not name.endswith(("runtime", "second"))}
        report |= assess(trainer, clips) if assess is not None else {}
    report.setdefault("verdict", [NOT_SCORED])
    if getattr(model.config, "lora_rank", 0):
        model.merge_adapters()
    with results(trainer) as folder:
        if trainer.is_world_process_zero():
            pipeline = pipeline_class(**parts)  # not earlier: it moves the model to the first device
            pipeline.save_pretrained(folder)
            (folder / REPORT).write_text(json.dumps(report, indent=2) + "\n")
    if trainer.is_world_process_zero() and args.push_to_hub:
        repo_id = args.hub_model_id or Path(args.output_dir).name
        push(pipeline, repo_id, args.output_dir, private=args.hub_private_repo, token=args.hub_token)
    mark_finished(trainer)
    return say_goodbye(trainer, report, next_command)


def say_goodbye(trainer, report: dict, next_command: str | None = None) -> dict:
    """Prints the closing text of a training, once, and returns its report."""
    if trainer.is_world_process_zero():
        print(closing(report, trainer.args.output_dir, next_command), flush=True)
    return report


def train(trainer, data=None, processor=None):
    """Trains, from the first step or from where the run in output_dir was stopped.

    Args:
        trainer: a Trainer with `WholeCheckpoints`, before its first step.
        data: the script's own arguments, a dataclass.
        processor: the keypoint processor.

    Returns:
        What `Trainer.train` returns; None where the run had finished, and nothing was done.

    Raises:
        ValueError: there is no whole checkpoint to go on from, or it is one of another run.
    """
    global _current
    _current = trainer
    trainer.resumed_from = None
    trainer.run, checkpoint, finished = on_main(lambda: _start(trainer, describe_run(trainer, data, processor)))
    if finished:
        _current = None
        return None
    if checkpoint is not None:
        trainer.add_callback(_SaysWhereItStarts(trainer))
    return trainer.train(resume_from_checkpoint=checkpoint)


def mark_finished(trainer):
    """Notes that all is done, so that resuming does not do it again. On every process, at the very end."""
    global _current
    _current = None
    state, args = trainer.state, trainer.args
    if trainer.is_world_process_zero():
        finished = {"step": state.global_step, "max_steps": args.max_steps, "num_train_epochs": args.num_train_epochs}
        finished["stopped_early"] = state.global_step < state.max_steps
        _write_record(args, {"run": trainer.run, "finished": finished})
    trainer.accelerator.wait_for_everyone()


def finished_report(args):
    """The report of the finished run in output_dir, on every process."""
    return on_main(lambda: json.loads(Path(args.output_dir, REPORT).read_text(encoding="utf-8")))


def data_behind(folder: str | Path | None) -> list[str]:
    """Names of the data sets that a checkpoint's weights have seen, by its report.json; [] where it has none."""
    path = Path(folder or "", REPORT)
    if folder is None or not path.is_file():
        return []
    report = json.loads(path.read_text(encoding="utf-8"))
    return list(dict.fromkeys([*report.get("datasets", ()), *report.get("earlier_datasets", ())]))


def training_used(trainer, training) -> dict:
    """What a training took, for its report: `compute` and, of one that was resumed, `resumed_from`, the step that it is counted from.

    Args:
        training: what `Trainer.train` returned.
    """
    args, threads = trainer.args, torch.get_num_threads()
    on_gpu = args.device.type == "cuda"
    device = torch.cuda.get_device_name(args.device) if on_gpu else f"{threads} CPU thread{'s' * (threads > 1)}"
    compute = {"device": device, "processes": args.world_size, "hours": training.metrics["train_runtime"] / 3600}
    return {"compute": compute} | ({} if trainer.resumed_from is None else {"resumed_from": trainer.resumed_from})


class _SaysWhereItStarts(TrainerCallback):
    def __init__(self, trainer):
        self.trainer = trainer

    def on_train_begin(self, args, state, control, **kwargs):
        self.trainer.resumed_from = state.global_step
        if state.is_world_process_zero:
            logger.warning(f"Resuming {args.output_dir} from step {state.global_step} of {state.max_steps}.")


# --- Where to start ---------------------------------------------------------------------------------------------------------------


def prepare(args, data):
    """What every training does before it reads its data: looks at output_dir, fixes the seed, and finds the validation data.

    Args:
        args: training arguments.
        data: a `DataArguments`.
    """
    check_folder(args)
    set_seed(args.seed)
    data.find_validation(args)


def one_builds(args) -> contextlib.AbstractContextManager:
    """Around the building of frames and latents: one process does it, the others wait for it at the lock of the folder (`caches`).

    `main_process_first` would let them wait at a barrier, which ends the run after `ddp_timeout`, half an hour: fewer than 500,000 clips.
    It is the way only where files have no locks, on Windows.

    Args:
        args: training arguments.
    """
    return args.main_process_first(desc="processing clips") if caches.fcntl is None else contextlib.nullcontext()


@contextlib.contextmanager
def encoding_on(device: torch.device, model: PreTrainedModel) -> Iterator[None]:
    """Has a model on the accelerator while its SignMAE encodes the clips. A Trainer moves it only later, and FSDP wants it where it was."""
    before = model.device
    model.to(device)
    try:
        yield
    finally:
        model.to(before)


def padding_of(device: torch.device, *limits: int | None) -> int:
    """The multiple to which the lengths of a batch are padded: 8 on an accelerator, so that few shapes come, which are compiled once
    each and suit its matrix units; 1, no more than needed, on a CPU.

    Args:
        limits: lengths that the model takes at most, None for no limit. A limit that is no multiple would be passed: then 1, too.
    """
    return 8 if device.type != "cpu" and not any(limit % 8 for limit in limits if limit is not None) else 1


def check_folder(args):
    """Raises `ValueError` where output_dir holds a run, and the arguments do not say what is to become of it.

    Scripts call it before they process any data; `train` looks closer.
    """
    output_dir, asked = Path(args.output_dir), _asked_to_resume(args)
    if output_dir.exists() and not output_dir.is_dir():
        raise ValueError(f"--output_dir {args.output_dir} is a file, expected a folder, or none yet.")
    if asked is not None and args.overwrite_output_dir:
        raise ValueError("Found resume_from_checkpoint and overwrite_output_dir, expected one of them: to go on, or to start again.")
    held = [path.name for _, path in checkpoints(output_dir)] + [path.name for path in _results_in(output_dir)]
    inside = asked is True or (asked is not None and Path(asked).resolve().parent == output_dir.resolve())
    if held and not inside and not args.overwrite_output_dir:
        raise ValueError(
            f"{args.output_dir} holds a run ({', '.join(held)}). To go on with it, give --resume_from_checkpoint true; to delete it and "
            "start again, --overwrite_output_dir true; to keep it, another --output_dir."
        )


def _start(trainer, described):
    """-> the run's description, the checkpoint to go on from or None, whether all is done. For the first process."""
    args = trainer.args
    output_dir, asked = Path(args.output_dir), _asked_to_resume(args)
    check_folder(args)
    output_dir.mkdir(parents=True, exist_ok=True)
    remove_unfinished(output_dir)
    checkpoint = None
    if asked is not None:
        record = _read_record(output_dir)
        if asked is True and (finished := record.get("finished")):
            _refuse_differences(record["run"], described, args.output_dir)
            if not _is_longer(args, finished):
                early = ", where it got no better" if finished["stopped_early"] else ""
                logger.warning(
                    f"The run in {args.output_dir} finished at step {finished['step']}{early}: nothing is left to do. For more, raise "
                    "max_steps or num_train_epochs; to start again, give --overwrite_output_dir true."
                )
                return described, None, True
        checkpoint = _newest(args) if asked is True else _checkpoint_at(asked, args)
        if checkpoint is not None:
            stored = read_manifest(checkpoint)["run"]
            if stored is None:
                logger.warning(f"{checkpoint} does not say which arguments it was trained with; they are not compared.")
            else:
                _refuse_differences(stored, described, checkpoint)
    elif args.overwrite_output_dir:
        for path in [path for _, path in checkpoints(output_dir)] + _results_in(output_dir):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    with saving(trainer, RECORD):
        _write_record(args, {"run": described})
    return described, None if checkpoint is None else str(checkpoint), False


def _asked_to_resume(args):
    """What `resume_from_checkpoint` asks for: None, True (the newest checkpoint of output_dir), or a path."""
    asked = args.resume_from_checkpoint
    if asked is None or str(asked).lower() in ("false", "none"):
        return None
    return True if str(asked).lower() == "true" else str(asked)


def _newest(args):
    """The newest whole checkpoint of output_dir; None where there is none at all."""
    checkpoint, passed_over = newest_whole(args.output_dir, with_best=args.load_best_model_at_end)
    if checkpoint is not None:
        if passed_over:
            logger.warning(f"Passed over, because they are not whole: {'; '.join(passed_over)}.")
        return checkpoint
    if passed_over:
        raise ValueError(
            f"No checkpoint in {args.output_dir} can be resumed from: {'; '.join(passed_over)}. To start again from step 0, give "
            "--overwrite_output_dir true."
        )
    if held := _results_in(Path(args.output_dir)):
        raise ValueError(
            f"{args.output_dir} holds {', '.join(path.name for path in held)}, but no checkpoint to resume from. To start again from "
            "step 0, give --overwrite_output_dir true; to train its model further, give it as the start of another run."
        )
    logger.warning(f"No checkpoint in {args.output_dir!r} to resume from: starting at step 0.")
    return None


def _checkpoint_at(path, args):
    if not Path(path).is_dir():
        raise FileNotFoundError(f"There is no checkpoint {path!r} to resume from. Give a folder checkpoint-N, or true for the newest one.")
    reason = damage_with_best(path) if args.load_best_model_at_end else damage(path)
    if reason is not None:
        raise ValueError(f"{path} cannot be resumed from: {reason}. Give --resume_from_checkpoint true for the newest whole checkpoint.")
    return Path(path)


def _is_longer(args, finished):
    if finished["stopped_early"]:
        return False
    if args.max_steps > 0 or finished["max_steps"] > 0:
        return args.max_steps > finished["step"]
    return args.num_train_epochs > finished["num_train_epochs"]


def _results_in(output_dir):
    return sorted({path for pattern in (REPORT, *WEIGHTS) for path in Path(output_dir).glob(pattern)})


def _read_record(output_dir):
    try:
        return json.loads((output_dir / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _write_record(args, record):
    write_whole(Path(args.output_dir) / RECORD, json.dumps(record, indent=1) + "\n")


# --- What a run is ----------------------------------------------------------------------------------------------------------------


def describe_run(trainer, data=None, processor=None):
    """Describes a run, apart from how long it trains and where it lies. Only a run with the same description may resume its checkpoints.

    It holds names of folders, and no path of this machine.
    """
    args, model = trainer.args, trainer.model
    described = {
        "training": {name: _named(value) for name, value in args.to_dict().items() if not _may_differ(name)},
        "model": _without(NOT_OF_THE_MODEL, model.config.to_dict()),
        "processor": None if processor is None else _without(NOT_OF_THE_MODEL, processor.to_dict()),
        "data": {} if data is None else {name: _named(value) for name, value in asdict(data).items() if name != "cache_dir"},
        "training_clips": _clips_of(trainer.train_dataset),
        "validation_clips": _clips_of(trainer.eval_dataset),
        "batch of all processes": args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size,
        "sharded (FSDP)": bool(trainer.is_fsdp_enabled),
        "sharing": {
            "processes": args.world_size,
            "per_device_train_batch_size": args.per_device_train_batch_size,
            "gradient_accumulation_steps": args.gradient_accumulation_steps,
        },
    }
    if hasattr(trainer.processing_class, "get_vocab"):
        described["tokenizer"] = _digest(sorted(trainer.processing_class.get_vocab().items()))
    return json.loads(json.dumps(described, default=str))


def _refuse_differences(stored, described, place):
    stored, described = dict(stored), dict(described)
    shared = _differences(stored.pop("sharing"), described.pop("sharing"))
    if differing := _differences(stored, described):
        raise ValueError(
            f"{place} was trained with other arguments: {'; '.join(differing)}. Give the same ones to go on with it, or another "
            "--output_dir for a run with these."
        )
    if shared:
        logger.warning(f"{place}: {'; '.join(shared)}. From here random numbers differ from those of an uninterrupted run.")


def _differences(stored, described, sections=("training", "model", "processor", "data")):
    """["hidden_size: 16 -> 32", ...]"""
    stored, described = (_flat(value, sections) for value in (stored, described))
    missing = "(not set)"
    return [
        f"{name}: {_short(stored.get(name, missing))} -> {_short(described.get(name, missing))}"
        for name in sorted({*stored, *described})
        if stored.get(name, missing) != described.get(name, missing)
    ]


def _flat(value, sections=(), prefix=""):
    flat = {}
    for name, inner in value.items():
        if isinstance(inner, dict) and inner:
            flat |= _flat(inner, (), prefix if name in sections else f"{prefix}{name}.")
        else:
            flat[prefix + name] = inner
    return flat


def _short(value):
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "..."


def _may_differ(name):
    return name in MAY_DIFFER or (name.startswith(MAY_DIFFER_BY_PREFIX) and name not in MAY_NOT)


def _without(names_left_out, value):
    if isinstance(value, dict):
        return {name: _without(names_left_out, inner) for name, inner in value.items() if name not in names_left_out}
    return value


def _named(value):
    """Replaces paths by their last name and a hash of the weights there: a folder may move, but its weights may not change."""
    if isinstance(value, dict):
        return {name: _named(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_named(inner) for inner in value]
    if not isinstance(value, (str, Path)) or not (os.path.exists(value) or os.path.isabs(value)):
        return value
    digest = hashlib.sha256()
    weights = sorted(Path(value).glob("*.safetensors"))
    for path in weights:
        with open(path, "rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return Path(value).name + (f" (weights {digest.hexdigest()[:12]})" if weights else "")


def _clips_of(dataset):
    """How many clips a data set has, and a digest of their ids, lengths and annotations; None where they are not known."""
    clips = dataset if hasattr(dataset, "stores") else getattr(dataset, "clips", None)
    if isinstance(dataset, tuple):
        return f"{len(dataset[0])} segments"
    if not hasattr(clips, "stores"):
        return None
    facts = [[store.ids, store.lengths] for store in clips.stores]
    facts += [[str(value) for value in getattr(clips, name, ())] for name in ("texts", "glosses", "labels")]
    return f"{sum(len(store.lengths) for store in clips.stores)} clips ({_digest(facts)})"


def _digest(facts):
    digest = hashlib.sha256()
    for piece in _json_pieces(facts):
        digest.update(piece.encode())
    return digest.hexdigest()[:12]


def _json_pieces(value, size=65536):
    """What json.dumps makes of nested lists and arrays, piece by piece: of ten million clips it is gigabytes as a whole."""
    nested = isinstance(value, list) and any(isinstance(inner, (list, np.ndarray)) for inner in value)
    if not nested and not isinstance(value, (list, np.ndarray)):
        yield json.dumps(value)
        return
    yield "["
    for start in range(0, len(value), 1 if nested else size):
        if start:
            yield ", "
        part = value[start : start + size]
        if nested:
            yield from _json_pieces(part[0], size)
        else:
            yield json.dumps(part.tolist() if isinstance(part, np.ndarray) else part)[1:-1]
    yield "]"


# --- How a script ends ------------------------------------------------------------------------------------------------------------


def run_script(main):
    """Runs a script's `main`. If it ends early, one line and the exit status say why.

    130 and 143: stopped by Ctrl-C or SIGTERM. 1: no room on the disk or in memory, or a loss that is not a number. 2: arguments or
    data that cannot be. Any other error is a bug and shows its traceback, and UNIGLOR_TRACEBACK=1 shows that of all.
    """
    process = os.getpid()

    def terminate(number, frame):
        signal.signal(number, signal.SIG_IGN)  # it may come twice, to the process and to its group; SIGKILL still ends the process
        if os.getpid() == process:
            raise Terminated
        os._exit(128 + number)  # a worker, which its parent ends by this signal

    signal.signal(signal.SIGTERM, terminate)
    basicConfig(format="%(message)s")  # libraries that are imported later would choose another
    try:
        main()
    except (Exception, KeyboardInterrupt, Terminated) as error:
        stop = stop_behind(error)
        if stop is not None:
            status, line = (130, "Ctrl-C") if isinstance(stop, KeyboardInterrupt) else (143, "SIGTERM")
            line = f"Stopped by {line}{_how_to_go_on()}" if os.environ.get("RANK", "0") == "0" else None
        elif isinstance(error, (SavingError, BatchTooLargeError, LoaderMemoryError, NonFiniteLossError)):
            status, line = 1, str(error)
        elif isinstance(error, RuntimeError) and "out of shared memory" in str(error):  # the system killed a worker
            status, line = 1, LoaderMemoryError.REMEDY
        elif isinstance(error, MISTAKES) or (isinstance(error, ImportError) and "pip install" in str(error)):  # an optional package
            status, line = 2, " ".join(str(error).split())
        else:
            raise
        if os.environ.get("UNIGLOR_TRACEBACK", "0") not in ("", "0"):
            traceback.print_exc()
        if line is not None:
            print(line, file=sys.stderr, flush=True)
        sys.exit(status)


def _how_to_go_on():
    if _current is None:
        return ", outside of a training: give the same command again."
    state, kept = _current.state, checkpoints(_current.args.output_dir)
    where = f" at step {state.global_step} of {state.max_steps}" if state.max_steps else ""
    if not kept:
        return f"{where}. No checkpoint was saved yet (save_steps says when): the same command starts again."
    return f"{where}. {kept[-1][1]} is kept: go on with the same command and --resume_from_checkpoint true."
