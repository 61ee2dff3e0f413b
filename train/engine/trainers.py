"""Trainers: `transformers.Trainer` with what pretraining on segments needs."""

import copy
import json
import math
import shutil
import time
from pathlib import Path

import numpy as np
import torch
from accelerate.utils.memory import should_reduce_batch_size
from torch.distributed.fsdp import FSDPModule, register_fsdp_forward_method
from torch.utils.data import get_worker_info
from transformers import Seq2SeqTrainer, Trainer, TrainerCallback
from transformers.trainer_utils import speed_metrics
from transformers.utils import logging

from modeling_unigloR.modeling_layers_uniglor import mean_loss
from train.data.clips import ClipSampler
from train.data.segments import SegmentDataset, SegmentSampler
from train.engine.checkpoints import WholeCheckpoints
from train.engine.selection import SelectsTheBest
from train.evaluation.reconstruction import reconstruction_report
from train.metrics.production import latent_scores
from train.metrics.recognition import recognition_scores
from train.metrics.text import text_scores

logger = logging.get_logger(__name__)

SELECTING = ("slt", "chrf", "error_rates")  # families of text scores that an evaluation measures while training
FEW_STEPS = 300  # in which small_sign_to_text.yaml learns 48 sentences by heart, docs/training.md


class NonFiniteLossError(RuntimeError):
    """Training met a loss that is not a number; the last checkpoint was saved before it."""


class BatchTooLargeError(RuntimeError):
    """A training step asked for more memory than there is."""


class LoaderMemoryError(RuntimeError):
    """A worker of the data loader found no room in the memory that it shares with the training."""

    REMEDY = (
        "The data loader's workers find no room in shared memory. Give --dataloader_num_workers 0, or more room (docker run --shm-size 1g)."
    )

    def __init__(self, message=REMEDY):
        super().__init__(message.rstrip().rsplit("LoaderMemoryError: ", 1)[-1])  # torch passes a worker's error on with its traceback


class InSharedMemory:
    """A collator that moves its batches into shared memory by itself where a worker calls it.

    Otherwise torch does so in a thread of the worker, whose errors are lost: without room in /dev/shm the training would wait for ever.
    """

    def __init__(self, collator):
        self.collator = collator

    def __call__(self, items):
        batch = self.collator(items)
        if get_worker_info() is not None:
            try:
                for value in batch.values():
                    value.share_memory_()
            except (RuntimeError, OSError) as error:
                room = f" ({shutil.disk_usage('/dev/shm').free / 1e6:,.1f} MB are free)" if Path("/dev/shm").is_dir() else ""
                raise LoaderMemoryError(LoaderMemoryError.REMEDY.replace("shared memory", f"/dev/shm{room}", 1)) from error
        return batch


def _already_a_batch(batch):
    return batch


class BatchesThatFit:
    """For a Trainer: a training step or a batch that does not fit into memory ends in one line that says what to change."""

    def get_train_dataloader(self):
        self._share_batches()
        return super().get_train_dataloader()

    def get_eval_dataloader(self, *args, **kwargs):
        self._share_batches()
        return super().get_eval_dataloader(*args, **kwargs)

    def _share_batches(self):
        if self.args.dataloader_num_workers and not isinstance(self.data_collator, InSharedMemory):
            self.data_collator = InSharedMemory(self.data_collator)

    def training_step(self, *args, **kwargs):
        try:
            return super().training_step(*args, **kwargs)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error) or self.args.auto_find_batch_size:  # which tries a smaller one by itself
                raise
            size, reason = self.args.per_device_train_batch_size, str(error).split("\n")[0].split(": ", 1)[-1] or type(error).__name__
            raise BatchTooLargeError(
                f"A training step with a batch of {size} does not fit into memory ({reason}). "
                "Lower --per_device_train_batch_size and raise --gradient_accumulation_steps by the same factor; "
                "--activation_checkpointing true and --bf16 true save memory too."
            ) from error


def check_amount(args, num_items, unit="clips", least=1):
    """Refuses data that make no training step, or too few items; says in one line where they make few steps.

    Args:
        args: training arguments.
        num_items: what an epoch holds.
        unit: what the items are.
        least: items that are needed whatever the batch.
    """
    batch = args.train_batch_size * args.world_size
    if num_items < least:
        raise ValueError(f"Found {num_items} {unit[:-1] if num_items == 1 else unit} to train on, expected at least {least}. Add clips.")
    batches = num_items // batch if args.dataloader_drop_last else math.ceil(num_items / batch)
    if not batches:
        raise ValueError(
            f"Found {num_items} {unit} an epoch, expected at least {batch}, a batch of all processes: dataloader_drop_last leaves out "
            f"smaller ones, so that there would be no step. Lower --per_device_train_batch_size to {max(num_items // args.world_size, 1)}, "
            "or give --dataloader_drop_last false."
        )
    if args.max_steps <= 0 and args.num_train_epochs <= 0:
        raise ValueError(f"Found num_train_epochs={args.num_train_epochs}, expected more than 0: there would be no step. Raise it.")
    an_epoch = math.ceil(batches / args.gradient_accumulation_steps)
    steps = args.max_steps if args.max_steps > 0 else math.ceil(args.num_train_epochs * an_epoch)
    if args.max_steps <= 0 and steps < FEW_STEPS:
        logger.warning(
            f"Few steps: {num_items} {unit} in batches of {batch} make {an_epoch} step{'s' * (an_epoch > 1)} an epoch, {steps} in all. A "
            "model that is trained from its start needs hundreds, and thousands for many clips: raise --num_train_epochs, or lower "
            "--per_device_train_batch_size."
        )
    warmup = args.get_warmup_steps(steps)
    if steps > 1 and warmup >= steps:
        logger.warning(
            f"The warm-up takes {warmup} of {steps} steps: the learning rate never reaches {args.learning_rate}. Lower --warmup_steps; "
            "below 1 it is a share of the training."
        )


def is_out_of_memory(error):
    """Whether torch, on a GPU or a CPU, or Python found no memory."""
    return isinstance(error, MemoryError) or should_reduce_batch_size(error) or "not enough memory" in str(error)


class FiniteLoss:
    """For a Trainer: a loss that is not a number stops the training, before a checkpoint is saved.

    The losses of several steps are looked at together, so that a GPU never waits. Therefore `logging_nan_inf_filter`, which looks at
    every one and hides what it finds, is off by default.
    """

    _clips = None  # of the step that is computed now

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._unchecked = []  # (loss, clips, step) since the last look

    def training_step(self, model, inputs, num_items_in_batch=None):
        loss = super().training_step(model, inputs, num_items_in_batch)
        loss_of_step = loss.detach().clone()  # what CUDA graphs return (reduce-overhead) is overwritten by the next step
        self._unchecked.append((loss_of_step, self._clips, self.state.global_step))
        if loss.device.type == "cpu" or len(self._unchecked) >= self.args.logging_steps:  # a GPU would have to be waited for
            self.check_loss()
        return loss

    def check_loss(self):
        """Raises `NonFiniteLossError` with the clips of the batch if a loss since the last look was not finite."""
        unchecked, self._unchecked = self._unchecked, []
        if not unchecked or torch.stack([loss for loss, _, _ in unchecked]).isfinite().all():
            return
        loss, clips, step = next(entry for entry in unchecked if not entry[0].isfinite().all())
        raise NonFiniteLossError(
            f"The loss of step {step + 1} is {loss.item()}: training stopped, and no checkpoint was saved since. Lower learning_rate, "
            f"or look at the clips of its batch: {self.clips_of_step(clips)}."
        )

    def clips_of_step(self, clips):
        """Names of the clips of a batch, for a message."""
        return "unknown"

    def log(self, logs, *args, **kwargs):
        self.check_loss()  # a mean that is not a number is explained, not logged
        super().log(logs, *args, **kwargs)

    def _save_checkpoint(self, model, trial):
        self.check_loss()  # what is saved is never newer than the last good step
        super()._save_checkpoint(model, trial)


class LossOfTheWhole:
    """For a Trainer: a loss is a mean over all items of a step or an evaluation, however they are divided into batches and processes.

    Terms that compare the items of a batch, such as negatives that are drawn once for each batch, still depend on the division.
    """

    def _get_num_items_in_batch(self, batch_samples, device):
        """(terms,) what the losses of one optimiser step are means over, in all its batches and processes."""
        if not batch_samples:
            return None
        count_items = self.accelerator.unwrap_model(self.model).count_items
        items = sum(count_items(**batch).sum(0) for batch in batch_samples).to(device)  # (terms,)
        if not self.args.average_tokens_across_devices:
            items = items / self.args.n_gpu
        elif self.args.world_size > 1:
            items = self.accelerator.gather(items[None]).sum(0)
        return items if self.args.n_gpu <= 1 else items.expand(self.args.n_gpu, -1)  # a row for each replica of DataParallel

    def prediction_step(self, model, inputs, *args, **kwargs):
        def counted(**inputs):
            output = model(**inputs)
            self.count_in_evaluation(output, inputs)
            return output

        return super().prediction_step(counted, inputs, *args, **kwargs)

    def count_in_evaluation(self, output, inputs):
        """Adds a batch's losses, of each clip once, to those of the evaluation."""
        if output.loss_sums is None:
            return
        counts = self.accelerator.unwrap_model(self.model).count_items(**inputs)
        sums, counts = self.accelerator.gather_for_metrics((output.loss_sums.contiguous(), counts.contiguous()))
        self._evaluated.append((sums.double().sum(0).cpu(), counts.sum(0).cpu()))

    def evaluation_loop(self, dataloader, description, prediction_loss_only=None, ignore_keys=None, metric_key_prefix="eval"):
        self._evaluated = []
        result = super().evaluation_loop(dataloader, description, prediction_loss_only, ignore_keys, metric_key_prefix)
        if self._evaluated:  # the base class's mean is over batches
            sums, counts = (torch.stack(values) for values in zip(*self._evaluated))
            result.metrics[f"{metric_key_prefix}_loss"] = mean_loss(sums, counts).item()
        return result


class WithoutPickles:
    """For a Trainer: its folders hold no pickle and no path of this machine."""

    def _save(self, output_dir=None, state_dict=None):
        """As the base class, but training arguments as JSON, without this machine's folders, instead of a pickle."""
        super()._save(output_dir, state_dict)
        if not self.args.should_save:  # another process does, and the folder may not be there yet
            return
        folder = Path(output_dir or self.args.output_dir)
        (folder / "training_args.bin").unlink(missing_ok=True)
        kept = {key: value for key, value in self.args.to_dict().items() if not key.endswith(("_dir", "_checkpoint", "_token"))}
        (folder / "training_args.json").write_text(json.dumps(kept, indent=2, sort_keys=True, default=str) + "\n", encoding="utf-8")


class SegmentTrainer(SelectsTheBest, FiniteLoss, BatchesThatFit, LossOfTheWhole, WholeCheckpoints, WithoutPickles, Trainer):
    """Pretrains a `SignMAE` on a `SegmentDataset` or `SegmentStream`.

    `eval_dataset` is (keypoints, keypoint_mask, follows) as `segments.consecutive_segments` gives it; evaluation reconstructs
    them unmasked and logs errors by part and motion.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.add_callback(_EpochOfSampler(self))

    def _get_train_sampler(self, train_dataset=None):
        if isinstance(self.train_dataset, SegmentDataset):
            self.epoch_sampler = SegmentSampler(self.train_dataset)
            return self.epoch_sampler
        return super()._get_train_sampler(train_dataset)

    def get_train_dataloader(self):
        if isinstance(self.train_dataset, SegmentDataset):
            self.data_collator = _already_a_batch
        return super().get_train_dataloader()

    def _prepare_for_training(self, *args, **kwargs):
        if self.is_fsdp_enabled:  # its own mixed precision rounds inputs, statistics of norms and the loss; autocast leaves them alone
            self.accelerator.state.fsdp_plugin.mixed_precision_policy = None
        prepared = super()._prepare_for_training(*args, **kwargs)
        if isinstance(self.model, FSDPModule):
            for method in ("encode", "decode"):  # evaluation calls them; FSDP gathers parameters for `forward` alone
                register_fsdp_forward_method(self.model, method)
            sharded, _, whole = type(self.model).__mro__[:3]  # a checkpoint names and carries the class that FSDP derived its own from
            sharded.__name__, sharded.__module__ = whole.__name__, whole.__module__
        return prepared

    def autocast_smart_context_manager(self, *args, **kwargs):
        return self.accelerator.autocast() if self.is_fsdp_enabled else super().autocast_smart_context_manager(*args, **kwargs)

    def training_step(self, model, inputs, num_items_in_batch=None):
        self._clips = inputs.get("clip_index")
        inputs = {key: value for key, value in inputs.items() if key != "clip_index"}
        return super().training_step(model, inputs, num_items_in_batch)

    def clips_of_step(self, clip_index):
        return super().clips_of_step(None) if clip_index is None else ", ".join(self.train_dataset.clip_ids(clip_index.tolist()))

    def evaluate(self, eval_dataset=None, ignore_keys=None, metric_key_prefix="eval"):
        start = time.time()
        keypoints, mask, follows = self.eval_dataset if eval_dataset is None else eval_dataset
        report = reconstruction_report(self.accelerator.unwrap_model(self.model), keypoints, mask, follows, self.args.eval_batch_size)
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in report.items()}
        steps = math.ceil(len(keypoints) / self.args.eval_batch_size)
        metrics |= speed_metrics(metric_key_prefix, start, num_samples=len(keypoints), num_steps=steps)
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics


class _EpochOfSampler(TrainerCallback):
    """Sets the sampler's epoch: the data loader does so too, but not through every wrapper."""

    def __init__(self, trainer):
        self.trainer = trainer

    def on_epoch_begin(self, args, state, control, **kwargs):
        if hasattr(self.trainer, "epoch_sampler"):
            self.trainer.epoch_sampler.set_epoch(int(state.epoch or 0))


class TranslationTrainer(SelectsTheBest, FiniteLoss, BatchesThatFit, LossOfTheWhole, WholeCheckpoints, WithoutPickles, Seq2SeqTrainer):
    """Trains a `SignToText`; evaluation translates and scores every clip once, whatever the number of processes.

    Args:
        references: texts of the evaluation clips, in their order. What is scored is the text, not what the vocabulary has of it.
        final_dot: see `metrics.text`.

    Attributes:
        scored: (texts, references) of the last evaluation, or None.
    """

    scored = None

    def __init__(self, *args, references=(), final_dot="keep", **kwargs):
        super().__init__(*args, compute_metrics=self.scores, **kwargs)
        self.references, self.final_dot = list(references), final_dot
        self.add_callback(_EpochOfSampler(self))

    def _get_train_sampler(self, train_dataset=None):
        self.epoch_sampler = ClipSampler(self.train_dataset.lengths, self.args.train_batch_size, self.args.seed)
        return self.epoch_sampler

    def evaluation_loop(self, *args, **kwargs):
        self.gather_function = self.accelerator.gather_for_metrics  # Seq2SeqTrainer's own keeps the clips that fill the last batch
        return super().evaluation_loop(*args, **kwargs)

    def prediction_step(self, *args, **kwargs):
        """As the base class, which writes defaults into the model's generation config: with them, every later call warns of max_length."""
        own = self.model.generation_config
        self.model.generation_config = copy.deepcopy(own)
        try:
            return super().prediction_step(*args, **kwargs)
        finally:
            self.model.generation_config = own

    def scores(self, evaluation):
        """BLEU-1..4, chrF, character and word error rate of an evaluation's predictions."""
        ids = np.where(evaluation.predictions < 0, self.processing_class.pad_token_id, evaluation.predictions)
        predictions = self.processing_class.batch_decode(ids, skip_special_tokens=True)
        if len(predictions) != len(self.references):
            raise RuntimeError(f"Evaluation gave {len(predictions)} translations for {len(self.references)} clips.")
        self.scored = predictions, self.references
        scores = text_scores(predictions, self.references, self.final_dot, families=SELECTING)
        return {name: scores[name] for name in scores["signatures"]}


class TextToSignTrainer(TranslationTrainer):
    """Trains a `TextToSign`; evaluation measures its latents and lengths, and with a judge reads back what it signs.

    Every evaluation draws the same random numbers, so that its scores differ by the weights alone, and training goes on as without it.

    Args:
        judge: a `SignToText` with sign_encoder="frames", trained on real keypoints only; it selects, and never reports.
        judge_tokenizer: the judge's.
        references: texts of the evaluation clips, in their order.
        final_dot: see `metrics.text`.
    """

    def __init__(self, *args, judge=None, judge_tokenizer=None, **kwargs):
        super().__init__(*args, **kwargs)
        self.judge, self.judge_tokenizer = judge, judge_tokenizer
        if judge is not None:
            judge.requires_grad_(False).eval().to(self.args.device)

    def evaluation_loop(self, *args, **kwargs):
        with torch.random.fork_rng(range(torch.cuda.device_count())):
            torch.manual_seed(self.args.seed)
            return super().evaluation_loop(*args, **kwargs)

    @torch.no_grad()
    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None, **kwargs):
        """-> loss, (sums over each clip's segments (B, 5, D), lengths (B,), the judge's token ids (B, L)), true lengths (B,)."""
        inputs = self._prepare_inputs(inputs)
        whole = self.accelerator.unwrap_model(model)
        with self.compute_loss_context_manager():
            output = model(**inputs)
        self.count_in_evaluation(output, inputs)
        target, mask = inputs["latents"], inputs["latent_mask"][..., None]
        if whole.samples:
            texts = inputs["input_ids"], inputs["attention_mask"]
            with self.compute_loss_context_manager():
                predicted = whole.generate_latents(*texts, num_segments=inputs["latent_mask"].sum(1))[0].float()
        else:
            predicted = output.latents[:, : target.shape[1]].float()
        values = (predicted - target).square(), predicted, predicted.square(), target, target.square()
        lengths = whole.length_regulator.num_segments(output.length_logits)
        predictions = torch.stack([(value * mask).sum(1) for value in values], dim=1), lengths
        if self.judge is not None:
            with self.compute_loss_context_manager():
                predictions += (self._read_back(whole.generate(inputs["input_ids"], inputs["attention_mask"])),)
        return output.loss.detach(), predictions, inputs["latent_mask"].sum(1)

    def _read_back(self, generated):
        """The judge's token ids (B, L); of a clip that is longer than it can read, those of its start."""
        text_config = self.judge.config.text_config
        longest = getattr(text_config, "max_position_embeddings", generated.keypoints.shape[1]) * self.judge.config.frame_stride
        keypoints = generated.keypoints[:, :longest].float()
        frames = torch.arange(keypoints.shape[1], device=keypoints.device)
        attention_mask = (frames < generated.num_frames[:, None]).long()
        beams = {} if self.args.generation_num_beams is None else {"num_beams": self.args.generation_num_beams}
        return self.judge.generate(keypoints, attention_mask, **beams)

    def scores(self, evaluation):
        """`latent_scores`, errors of the predicted lengths in segments and, with a judge, text scores of what it reads."""
        sums, lengths, *ids = evaluation.predictions
        true_lengths = evaluation.label_ids
        scores = latent_scores(sums, true_lengths.sum())
        error = np.abs(lengths - true_lengths)
        scores |= {"length_error": float(np.median(error)), "length_error_mean": float(error.mean())}
        if ids:
            tokenizer = self.judge_tokenizer
            texts = tokenizer.batch_decode(np.where(ids[0] < 0, tokenizer.pad_token_id, ids[0]), skip_special_tokens=True)
            if len(texts) != len(self.references):
                raise RuntimeError(f"Evaluation gave {len(texts)} clips for {len(self.references)} texts.")
            self.scored = texts, self.references
            judge_scores = text_scores(texts, self.references, self.final_dot, families=SELECTING)
            scores |= {name: judge_scores[name] for name in judge_scores["signatures"]}
        return scores


class RecognitionTrainer(SelectsTheBest, FiniteLoss, BatchesThatFit, LossOfTheWhole, WholeCheckpoints, WithoutPickles, Trainer):
    """Trains a `SignRecognition`; evaluation counts how often the true label is among the first k.

    Attributes:
        scored: (logits, labels) of the last evaluation, or None.
    """

    scored = None

    def __init__(self, *args, **kwargs):
        super().__init__(*args, compute_metrics=self.scores, **kwargs)
        self.add_callback(_EpochOfSampler(self))

    def _get_train_sampler(self, train_dataset=None):
        self.epoch_sampler = ClipSampler(self.train_dataset.lengths, self.args.train_batch_size, self.args.seed)
        return self.epoch_sampler

    def scores(self, evaluation):
        """Top-1, top-5 and top-10 over clips and over labels."""
        self.scored = evaluation.predictions, evaluation.label_ids
        scores = recognition_scores(evaluation.predictions, evaluation.label_ids)
        return {name: scores[name] for name in scores["signatures"]}
