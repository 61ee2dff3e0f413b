"""Trainers: `transformers.Trainer` with what pretraining on segments needs."""

import json
import math
import time
from pathlib import Path

import torch
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback
from transformers.trainer_utils import speed_metrics

from train.metrics import reconstruction
from train.segments import SegmentDataset, SegmentSampler


class NonFiniteLossError(RuntimeError):
    """Training met a loss that is not a number; the last checkpoint was saved before it."""


class SegmentTrainer(Trainer):
    """Pretrains a `SignMAE` on a `SegmentDataset` or `SegmentStream`.

    `eval_dataset` is (keypoints, keypoint_mask, follows) as `segments.consecutive_segments` gives it; evaluation reconstructs
    them unmasked and logs errors by part and motion.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._unchecked = []  # (loss, clips, step) since the last look
        self.add_callback(_EpochOfSegments(self))

    def _get_train_sampler(self, train_dataset=None):
        if isinstance(self.train_dataset, SegmentDataset):
            self.segment_sampler = SegmentSampler(self.train_dataset)
            return self.segment_sampler
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

    def _save(self, output_dir=None, state_dict=None):
        """As the base class, but training arguments as JSON, without this machine's folders, instead of a pickle."""
        super()._save(output_dir, state_dict)
        if not self.args.should_save:  # another process does, and the folder may not be there yet
            return
        folder = Path(output_dir or self.args.output_dir)
        (folder / "training_args.bin").unlink(missing_ok=True)
        kept = {key: value for key, value in self.args.to_dict().items() if not key.endswith(("_dir", "_checkpoint", "_token"))}
        (folder / "training_args.json").write_text(json.dumps(kept, indent=2, sort_keys=True, default=str) + "\n", encoding="utf-8")

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


class _EpochOfSegments(TrainerCallback):
    """Tells the sampler its epoch: the data loader's own word does not reach it through every wrapper."""

    def __init__(self, trainer):
        self.trainer = trainer

    def on_epoch_begin(self, args, state, control, **kwargs):
        if hasattr(self.trainer, "segment_sampler"):
            self.trainer.segment_sampler.set_epoch(int(state.epoch or 0))


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
