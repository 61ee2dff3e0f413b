"""Trainers: `transformers.Trainer` with what pretraining on segments needs."""

import json
import math
import time
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader
from transformers import Seq2SeqTrainer, Trainer, TrainerCallback
from transformers.trainer_utils import speed_metrics

from train.clips import ClipSampler
from train.metrics import reconstruction
from train.metrics.text import text_scores
from train.segments import SegmentDataset, SegmentSampler


class NonFiniteLossError(RuntimeError):
    """Training met a loss that is not a number; the last checkpoint was saved before it."""


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


class SegmentTrainer(WithoutPickles, Trainer):
    """Pretrains a `SignMAE` on a `SegmentDataset` or `SegmentStream`.

    `eval_dataset` is (keypoints, keypoint_mask, follows) as `segments.consecutive_segments` gives it; evaluation reconstructs
    them unmasked and logs errors by part and motion.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._unchecked = []  # (loss, clips, step) since the last look
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

    def training_step(self, model, inputs, num_items_in_batch=None):
        clip_index = inputs.get("clip_index")
        inputs = {key: value for key, value in inputs.items() if key != "clip_index"}
        loss = super().training_step(model, inputs, num_items_in_batch)
        self._unchecked.append((loss.detach(), clip_index, self.state.global_step))
        if loss.device.type == "cpu" or len(self._unchecked) >= self.args.logging_steps:  # a GPU is not waited for at every step
            self.check_loss()
        return loss

    def check_loss(self):
        """Raises `NonFiniteLossError` with the clips of the batch if a loss since the last look was not finite."""
        unchecked, self._unchecked = self._unchecked, []
        if not unchecked or torch.stack([loss for loss, _, _ in unchecked]).isfinite().all():
            return
        loss, clip_index, step = next(entry for entry in unchecked if not entry[0].isfinite().all())
        clips = "unknown (streaming)" if clip_index is None else ", ".join(self.train_dataset.clip_ids(clip_index.tolist()))
        raise NonFiniteLossError(
            f"The loss of step {step + 1} is {loss.item()}: training stopped, and no checkpoint was saved since. Lower learning_rate, "
            f"or look at the clips of its batch: {clips}."
        )

    def _save_checkpoint(self, model, trial):
        self.check_loss()  # what is saved is never newer than the last good step
        super()._save_checkpoint(model, trial)

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
    """Tells the sampler its epoch: the data loader's own word does not reach it through every wrapper."""

    def __init__(self, trainer):
        self.trainer = trainer

    def on_epoch_begin(self, args, state, control, **kwargs):
        if hasattr(self.trainer, "epoch_sampler"):
            self.trainer.epoch_sampler.set_epoch(int(state.epoch or 0))


class TranslationTrainer(WithoutPickles, Seq2SeqTrainer):
    """Trains a `SignToText`; evaluation translates and scores every clip once, whatever the number of processes.

    Args:
        references: texts of the evaluation clips, in their order. What is scored is the text, not what the vocabulary has of it.
        final_dot: see `metrics.text`.
    """

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

    def scores(self, evaluation):
        """BLEU-1..4, character and word error rate of an evaluation's predictions."""
        ids = np.where(evaluation.predictions < 0, self.processing_class.pad_token_id, evaluation.predictions)
        predictions = self.processing_class.batch_decode(ids, skip_special_tokens=True)
        if len(predictions) != len(self.references):
            raise RuntimeError(f"Evaluation gave {len(predictions)} translations for {len(self.references)} clips.")
        found = text_scores(predictions, self.references, self.final_dot, families=("slt", "error_rates"))
        return {name: found[name] for name in found["signatures"]}


def _already_a_batch(batch):
    return batch


@torch.no_grad()
def reconstruct_segments(model, keypoints, batch_size=256):
    """(N, W, K, C) through encoder and decoder in eval mode, nothing masked, on the model's device; returned on the CPU."""
    was_training = model.training
    model.eval()
    reconstruction = torch.cat([model.reconstruct(some.to(model.device)).float().cpu() for some in keypoints.split(batch_size)])
    model.train(was_training)
    return reconstruction


def reconstruction_report(model, keypoints, mask, follows, batch_size=256):
    """Errors by part and motion of a model's reconstructions; points that it never learned are not scored."""
    mask = scored_points(mask, model)
    generated = reconstruct_segments(model, keypoints, batch_size)
    return reconstruction.errors_by_part(generated, keypoints, mask, model.config.layout) | reconstruction.motion(
        generated, keypoints, mask, follows
    )


def scored_points(mask, model):
    """(N, W, K) float: seen, and present in training."""
    return mask.float() * model.keypoint_presence.cpu()


@torch.no_grad()
def latents_of_training(model, dataset, batch_size=256, max_segments=20_000):
    """Unstandardised latents (N, D) of one segment of each training clip, at most `max_segments` of them."""
    model.eval()
    order = list(SegmentSampler(dataset))[:max_segments]
    loader = DataLoader(dataset, sampler=order, batch_size=batch_size, collate_fn=_already_a_batch)
    return torch.cat([model.encoder(batch["keypoints"].to(model.device)).float().cpu() for batch in loader])
