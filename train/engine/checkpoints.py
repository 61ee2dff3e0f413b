"""Writes checkpoints that are either whole or absent, and finds the one that a training may go on from.

A checkpoint is written beside its place, listed in its `checkpoint.json` (size and SHA-256 of every file), forced to the disk, and
renamed. A training never resumes from a checkpoint that differs from its list. A checkpoint of an older version has no list;
`python -m train.checkpoints --accept` writes one for those who trust it.
"""

import errno
import hashlib
import json
import os
import re
import shutil
from contextlib import contextmanager
from pathlib import Path

from accelerate.utils import broadcast_object_list
from safetensors import SafetensorError
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_callback import TrainerState
from transformers.utils import logging

from datasets_scripts.whole import sync_entry, whole_folder, write_whole

logger = logging.get_logger(__name__)

MANIFEST = "checkpoint.json"
_NAME = re.compile(r"checkpoint-(\d+)")
_WRITE_ERRORS = re.compile(r"inline_container|PytorchStreamWriter|iostream error|No space left|os error|quota")
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_WRITING = {errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM, errno.ESTALE}


class SavingError(RuntimeError):
    """A file could not be written, most often for want of room; nothing half-written was left."""


class Terminated(BaseException):
    """The process was asked to end by SIGTERM; as KeyboardInterrupt, it is no error that anything should catch."""


# --- One checkpoint ---------------------------------------------------------------------------------------------------------------


def write_manifest(folder, run=None):
    """Lists all files of a folder in its `checkpoint.json`.

    Args:
        run: what the training is, see `runs.describe_run`.
    """
    folder = Path(folder)
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / MANIFEST)
    files = {path.relative_to(folder).as_posix(): {"size": path.stat().st_size, "sha256": _sha256(path)} for path in paths}
    content = {"files": files, "run": run}
    write_whole(folder / MANIFEST, json.dumps(content | {"sha256": _sha256_of(content)}, indent=1) + "\n")


def read_manifest(folder):
    """What `write_manifest` wrote; None where there is none, or it was changed since."""
    try:
        content = json.loads((Path(folder) / MANIFEST).read_text(encoding="utf-8"))
        checksum = content.pop("sha256")
        return content if checksum == _sha256_of(content) and isinstance(content["files"], dict) else None
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return None


def damage(folder):
    """What is wrong with a checkpoint, in words; None where every file is as it was written."""
    folder = Path(folder)
    if not (folder / MANIFEST).is_file():
        return f"has no {MANIFEST}: it was never finished, or an older version wrote it"
    manifest = read_manifest(folder)
    if manifest is None:
        return f"its {MANIFEST} is damaged"
    for name, listed in manifest["files"].items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != listed["size"]:
            return f"{name} has {path.stat().st_size} bytes, expected {listed['size']}"
        try:
            if _sha256(path) != listed["sha256"]:
                return f"{name} is not as it was written"
        except OSError as error:  # a disk that cannot read it any more
            return f"{name}: {os.strerror(error.errno)}"
    return None


def damage_with_best(folder):
    """As `damage`, and of the checkpoint whose weights are kept at the end of its training, which stands beside it."""
    reason = damage(folder)
    if reason is None and (best := best_of(folder)) is not None and best != Path(folder):
        reason = damage(best) if best.is_dir() else "is missing"
        reason = reason and f"{best.name}, the best so far, {reason}"
    return reason


def best_of(folder):
    """The checkpoint beside this one whose score is the best so far, or None."""
    recorded = TrainerState.load_from_json(Path(folder) / TRAINER_STATE_NAME).best_model_checkpoint
    return None if recorded is None else Path(folder).parent / re.split(r"[/\\]", recorded)[-1]  # the folder may have moved


def checkpoints(output_dir):
    """[(step, folder)] of the checkpoints in a run's folder, the oldest first."""
    folders = ((_NAME.fullmatch(path.name), path) for path in Path(output_dir).glob("checkpoint-*") if path.is_dir())
    return sorted((int(match[1]), path) for match, path in folders if match)


def newest_whole(output_dir, with_best=False):
    """The newest checkpoint of a folder that is whole, and what was passed over.

    Args:
        with_best: whether the best checkpoint so far must be whole too.

    Returns:
        a folder or None, ["checkpoint-4 (optimizer.pt is missing)", ...].
    """
    passed_over = []
    for _, folder in reversed(checkpoints(output_dir)):
        reason = damage_with_best(folder) if with_best else damage(folder)
        if reason is None:
            return folder, passed_over
        passed_over.append(f"{folder.name} ({reason})")
    return None, passed_over


def _sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sha256_of(content):
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


# --- Saving -----------------------------------------------------------------------------------------------------------------------


class WholeCheckpoints:
    """For a Trainer: a checkpoint gets its name when it is whole, and training goes on from one exactly as it would have gone on.

    Attributes:
        run: what the training is, see `runs.describe_run`; stands in every checkpoint.
    """

    run = None
    _saving_into = None
    _stopped_early = False

    def _get_output_dir(self, trial):
        return self._saving_into or super()._get_output_dir(trial)

    def _save_checkpoint(self, model, trial):
        path = Path(self._get_output_dir(trial), f"checkpoint-{self.state.global_step}")
        main = self.is_world_process_zero()
        with saving(self, path.name, with_optimizer=True), shared_folder(self, path) as folder:
            self._saving_into = str(folder)
            try:
                super()._save_checkpoint(model, trial)
            finally:
                self._saving_into = None
            if self.state.best_model_checkpoint == str(folder / path.name):
                self.state.best_model_checkpoint = str(path)
            self.accelerator.wait_for_everyone()  # each process writes the state of its random numbers
            if main:
                for entry in list((folder / path.name).iterdir()):
                    entry.rename(folder / entry.name)
                (folder / path.name).rmdir()
                self.state.save_to_json(folder / TRAINER_STATE_NAME)
                write_manifest(folder, self.run)
                shutil.rmtree(path, ignore_errors=True)  # a damaged checkpoint of this step, if training went back to an earlier one
        self.accelerator.wait_for_everyone()
        if main:
            self._rotate(path)
        elif self.is_local_process_zero() and (folder / path.name).is_dir():  # on a machine that does not share its disk
            shutil.rmtree(path, ignore_errors=True)
            (folder / path.name).rename(path)
            folder.rmdir()

    def _rotate(self, newest):
        """Deletes old checkpoints over save_total_limit, and later ones from before training went back; never the newest or the best."""
        best = self.state.best_model_checkpoint
        kept = {newest.resolve()} | ({Path(best).resolve()} if best is not None else set())
        others = [(step, path) for step, path in checkpoints(newest.parent) if path.resolve() not in kept]
        stale = [path for step, path in others if step > self.state.global_step]
        old = [path for step, path in others if step < self.state.global_step]
        limit = self.args.save_total_limit
        if limit is not None and limit > 0:
            stale += old[: max(0, len(old) + len(kept) - limit)]
        for path in stale:
            shutil.rmtree(path, ignore_errors=True)

    def _load_best_model(self):
        best = Path(self.state.best_model_checkpoint)
        reason = on_main(lambda: damage(best))
        if reason is not None:
            raise ValueError(
                f"{best}, whose weights are to be kept, is not whole: {reason}. The same command with --resume_from_checkpoint true goes "
                "back to the newest checkpoint from before it."
            )
        super()._load_best_model()

    def _init_training_state(self, max_steps, num_update_steps_per_epoch, num_train_epochs, resume_from_checkpoint, trial):
        trained = super()._init_training_state(max_steps, num_update_steps_per_epoch, num_train_epochs, resume_from_checkpoint, trial)
        if resume_from_checkpoint is not None:
            stored = TrainerState.load_from_json(Path(resume_from_checkpoint) / TRAINER_STATE_NAME)
            self._stopped_early = self.control.should_training_stop and stored.global_step < stored.max_steps
            self.state.compute_steps(self.args, max_steps)  # this run says how often to log, evaluate and save, not the stored one
            best = best_of(resume_from_checkpoint)
            self.state.best_model_checkpoint = str(best) if best is not None and best.is_dir() else None
        return trained

    def _run_epoch(self, *args, **kwargs):
        """As the base class, but a resumed training that had already ended takes no further step."""
        if self._stopped_early or self.state.global_step >= self.state.max_steps:
            self.control.should_training_stop = True
        else:
            super()._run_epoch(*args, **kwargs)


@contextmanager
def shared_folder(trainer, path):
    """As `whole_folder`, and every process gets the same folder; the first one renames it."""
    if not trainer.is_world_process_zero():
        yield Path(on_main(None))
        return
    with whole_folder(path) as folder:
        on_main(lambda: str(folder))
        yield folder


@contextmanager
def results(trainer):
    """Yields a folder, the same on every process; its files come to output_dir, the report last, when the block ends without an error."""
    output_dir = Path(trainer.args.output_dir)
    finished, main = output_dir / ".finished", trainer.is_world_process_zero()
    with saving(trainer, "the trained model"):
        if main:
            shutil.rmtree(finished, ignore_errors=True)
        with shared_folder(trainer, finished) as folder:
            yield folder
            trainer.accelerator.wait_for_everyone()
        if main:
            for entry in sorted(finished.iterdir(), key=lambda entry: entry.name == "report.json"):
                if (output_dir / entry.name).is_dir():
                    shutil.rmtree(output_dir / entry.name)
                entry.replace(output_dir / entry.name)
            finished.rmdir()
            sync_entry(output_dir)
    trainer.accelerator.wait_for_everyone()


@contextmanager
def saving(trainer, what, with_optimizer=False):
    """Turns a failure to write into a `SavingError` that says where, how much room is needed and how much there is."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        if (stop := stop_behind(error)) is not None:  # a writer that is interrupted complains that its file is not whole
            raise stop from None
        if (number := _write_error(error)) is None:
            raise
        folder = Path(trainer.args.output_dir)
        tensors = list(trainer.model.state_dict().values())
        if with_optimizer and trainer.optimizer is not None:
            tensors += [value for state in trainer.optimizer.state.values() for value in state.values() if hasattr(value, "element_size")]
        needed, free = sum(value.numel() * value.element_size() for value in tensors), shutil.disk_usage(folder).free
        left = checkpoints(folder)
        raise SavingError(
            f"Could not save {what} in {folder}: {os.strerror(number)}. About {needed / 1e6:,.1f} MB are needed there, "
            f"{free / 1e6:,.1f} MB are free{_file_limit()}. What was half-written is removed"
            + (f", {left[-1][1].name} is kept" if left else "")
            + f". {'Make room' if number in _NO_ROOM else 'Mend that'}, then give the same command and --resume_from_checkpoint true."
        ) from error


def stop_behind(error):
    """The KeyboardInterrupt or `Terminated` that led to an error, or None."""
    while error is not None and not isinstance(error, (KeyboardInterrupt, Terminated)):
        error = error.__cause__ or error.__context__
    return error


def _write_error(error):
    """The system's error number of a failure to write; None for any other error."""
    if isinstance(error, OSError):
        return error.errno if error.errno in _NO_ROOM | _NO_WRITING else None
    if not isinstance(error, SafetensorError) and _WRITE_ERRORS.search(str(error)) is None:
        return None
    if code := re.search(r"os error (\d+)", str(error)):
        return int(code[1])
    return errno.EFBIG if _file_limit() else errno.ENOSPC  # torch does not say why


def _file_limit():
    try:
        import resource
    except ImportError:  # Windows
        return ""
    limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    return "" if limit == resource.RLIM_INFINITY else f", and a file may have {limit / 1e6:,.1f} MB (ulimit -f)"


def on_main(function):
    """Calls a function on the first process, and returns its value on every process."""
    from accelerate import PartialState

    state = PartialState()
    return broadcast_object_list([function() if state.is_main_process else None])[0]
