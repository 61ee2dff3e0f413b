"""Pretrains a SignMAE on canonical data sets.

    python train/pretrain.py                                          # small, on the built-in fingerspelling corpus
    python train/pretrain.py small.yaml --datasets DIR                # 50 to 5,000 clips, on a CPU
    python train/pretrain.py paper.yaml --datasets DIR --output_dir OUT
    python train/pretrain.py adapt.yaml --init_from outputs/sign-mae --datasets DIR --output_dir OUT    # to your signing
    python train/pretrain.py paper.yaml --resume_from_checkpoint true --bf16 true
    accelerate launch --config_file train/configs/accelerate/ddp.yaml train/pretrain.py ...    # several GPUs; every training takes it

Writes a folder that `AutoModel.from_pretrained` and `AutoFeatureExtractor.from_pretrained` load, and `report.json`: error by
part, motion, floors and the state of the latents.
"""

from train.engine.help import answer_help

if __name__ == "__main__":
    answer_help(__file__)  # before the imports that take seconds

import json
import sys
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from datasets import interleave_datasets
from transformers.utils import logging

from modeling_unigloR import KeypointProcessor, SignFeatureExtractionPipeline, SignMAE, SignMAEConfig
from modeling_unigloR.keypoints_uniglor import paths_to_center
from train.data.data_arguments import DataArguments
from train.data.segments import FrameStore, SegmentDataset, SegmentSampler, SegmentStream, consecutive_segments, describe, load_rows, names
from train.engine.arguments import UniGloRTrainingArguments, config_names, parse_training, read_fields
from train.engine.checkpoints import results
from train.engine.loading import check_finite, load_model, make_processor
from train.engine.runs import (
    REPORT,
    data_behind,
    finished_report,
    mark_finished,
    one_builds,
    prepare,
    run_script,
    say_goodbye,
    train,
    training_used,
)
from train.engine.trainers import SegmentTrainer, check_amount
from train.evaluation.closing import NOT_SCORED, config_for, training_command
from train.evaluation.reconstruction import latents_of_training, scored_points, unstandardised_latents
from train.evaluation.verdicts import verdict_of_reconstruction
from train.metrics import reconstruction

logger = logging.get_logger(__name__)

CALIBRATING_SEGMENTS = 4096  # that statistics and principal axes of the encoder's input are taken from


@dataclass
class PretrainArguments(DataArguments):
    """What to pretrain on.

    Attributes:
        datasets: entries of `segments.load_rows`; with `weight`, segments of a clip and epoch relative to the others.
        validation: see `DataArguments`.
        segments_per_clip: random segments of a clip and epoch.
        max_eval_segments: how many validation segments are scored.
        bank_clips: training clips whose every window the nearest-segment floor may give back.
        cache_dir: where processed frames are kept; by default in the cache of `datasets`.
        init_from: a SignMAE checkpoint to go on from with new data (its config is kept).
    """

    segments_per_clip: float = 1
    max_eval_segments: int = 2048
    bank_clips: int = 500
    cache_dir: str | None = None
    init_from: str | None = None


OWNERS = {"data": PretrainArguments, "model": SignMAEConfig, "processor": KeypointProcessor, "training": UniGloRTrainingArguments}


def parse(argv, default_config="demo.yaml"):
    """-> PretrainArguments, SignMAEConfig fields, KeypointProcessor, UniGloRTrainingArguments."""
    fields = read_fields(argv, default_config)
    own = [f"--{name}" for name in ("datasets", "init_from") if name in fields.words]
    if fields.config is None and own:
        raise ValueError(
            f"Found {' and '.join(own)} without a config file. Without one this is the demo, whose high learning rate and small model are "
            "for its fingerspelling alone. Name the settings first: small.yaml (few clips) or paper.yaml trains a SignMAE from its start, "
            "adapt.yaml goes on from "
            f"--init_from. There are {', '.join(config_names())}; a path is taken too."
        )
    data, shares = parse_training(fields, OWNERS)
    training = shares["training"]
    if training.get("load_best_model_at_end"):
        training.setdefault("metric_for_best_model", "mpjpe")
    processor = make_processor(data.init_from, shares["processor"], "--init_from")
    return data, shares["model"], processor, UniGloRTrainingArguments(**training)


def main(argv=None):
    argv = sys.argv[1:] if argv is None else argv
    answer_help(__file__, argv)
    data, model_fields, processor, args = parse(argv)
    prepare(args, data)
    model = start_from(data.init_from, model_fields) if data.init_from else SignMAE(SignMAEConfig(**model_fields))
    with one_builds(args):
        train_set, train_stores = training_segments(data, processor, model.config.window_size, args.seed)
        validation = validation_segments(data, processor, model.config.window_size)
    if train_stores:
        check_amount(args, len(train_set), "segments", least=2)  # one has no spread
    elif args.max_steps <= 0:
        raise ValueError("A streamed data set says no length, so an epoch has none. Give --max_steps, such as 100000.")
    if not data.init_from:
        if train_stores:
            set_keypoint_statistics(model, train_stores)
        model.calibrate(first_segments(train_set, CALIBRATING_SEGMENTS))
    if args.world_size > 1 and args.device.type == "cuda" and model.config.block_norm == "batch":
        model = torch.nn.SyncBatchNorm.convert_sync_batchnorm(model)
    trainer = SegmentTrainer(model=model, args=args, train_dataset=train_set, eval_dataset=validation, processing_class=processor)
    training = train(trainer, data, processor)
    next_command = what_is_next(args.output_dir, data.datasets, argv)
    if training is None:
        return say_goodbye(trainer, finished_report(args), next_command)
    trainer.check_loss()
    selection = trainer.selection_report()
    report = finish(trainer, model, train_set, train_stores, validation, data) | training_used(trainer, training)
    report |= {"earlier_datasets": earlier} if (earlier := data_behind(data.init_from)) else {}
    report |= {"steps": trainer.state.global_step, "selection": selection, "validation_data": data.validation_source}
    if not trainer.is_fsdp_enabled:
        check_finite(model, "The trained SignMAE")
    with results(trainer) as folder:
        if trainer.is_world_process_zero():
            (folder / REPORT).write_text(json.dumps(report, indent=2) + "\n")
            if not trainer.is_fsdp_enabled:  # whose parameters are in pieces; what AutoModel loads is whole either way
                SignFeatureExtractionPipeline(model=model, feature_extractor=processor).save_pretrained(folder)
        trainer.save_model(str(folder), _internal_call=True)
    if args.push_to_hub:
        trainer.push_to_hub(commit_message="Model save", revision=args.hub_revision)  # all of output_dir, without its checkpoints
    mark_finished(trainer)
    return say_goodbye(trainer, report, next_command)


def start_from(checkpoint, fields):
    """The SignMAE of a checkpoint, with its config; fields that say otherwise are named and left out."""
    model = load_model(checkpoint, SignMAE, "--init_from").train()
    differing = {name: value for name, value in fields.items() if value is not None and getattr(model.config, name) != value}
    if differing:
        kept = ", ".join(f"{name} {getattr(model.config, name)!r} (not {value!r})" for name, value in differing.items())
        logger.warning(f"The config of --init_from {checkpoint!r} is kept: {kept}.")
    return model


# --- Data -------------------------------------------------------------------------------------------------------------------------


def training_segments(data, processor, window_size, seed):
    """-> the training set, and its `FrameStore`s (none where it is streamed)."""
    rows = [load_rows(spec, "train") for spec in data.datasets]
    weights = [float(spec.get("weight", 1)) if isinstance(spec, dict) else 1.0 for spec in data.datasets]
    if any(not hasattr(dataset, "__len__") for dataset in rows):
        rows = [dataset if not hasattr(dataset, "__len__") else dataset.to_iterable_dataset() for dataset in rows]
        shares = [weight / sum(weights) for weight in weights]
        mixed = rows[0] if len(rows) == 1 else interleave_datasets(rows, shares, seed=seed, stopping_strategy="all_exhausted")
        return SegmentStream(mixed, processor, window_size, seed), []
    stores = [FrameStore.build(dataset, processor, description=describe(spec), **data.frames) for dataset, spec in zip(rows, data.datasets)]
    return SegmentDataset(stores, window_size, weights, data.segments_per_clip, seed), stores


def validation_segments(data, processor, window_size):
    """(keypoints, keypoint_mask, follows) of all validation sets together, or None."""
    parts = []
    for spec in data.validation:
        store = FrameStore.build(load_rows(spec, "validation"), processor, description=describe(spec), **data.frames)
        parts.append(consecutive_segments(store, window_size, data.max_eval_segments))
    return tuple(torch.cat(tensors) for tensors in zip(*parts)) if parts else None


def first_segments(train_set, count=512):
    """Keypoints (N, W, K, C) of the first random segments that training would see: the same on every process."""
    if isinstance(train_set, SegmentStream):
        segments = [item["keypoints"] for item in islice(train_set.one_pass(0), count)]
        if not segments:
            raise ValueError(f"The stream has no clip of at least window_size={train_set.window_size} frames: nothing to train on.")
        return torch.stack(segments)
    return train_set.__getitems__(list(islice(SegmentSampler(train_set), count)))["keypoints"]


def set_keypoint_statistics(model, stores, chunk=100_000):
    """How often the training frames show each point, and how it lies to its parent where they do."""
    to_offsets = np.linalg.inv(paths_to_center(model.config.layout))
    frames, seen, total, squares = 0, 0, 0.0, 0.0
    for store in stores:
        for start in range(0, len(store.keypoints), chunk):
            mask = np.asarray(store.keypoint_mask[start : start + chunk])
            offsets = (to_offsets @ store.keypoints[start : start + chunk]).astype(np.float64) * mask[..., None]
            frames, seen = frames + len(mask), seen + mask.sum(0)
            total, squares = total + offsets.sum(0), squares + np.square(offsets).sum(0)
    count = np.maximum(seen, 1)[:, None]
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 0))
    model.set_keypoint_statistics(*(torch.from_numpy(values) for values in (seen / frames, mean, std)))


# --- After training ---------------------------------------------------------------------------------------------------------------


def finish(trainer, model, train_set, train_stores, validation, data):
    """Stores the latents' statistics in the model and returns the report that stands beside it."""
    report = {"datasets": names(data.datasets), "verdict": [NOT_SCORED]}
    if train_stores:
        latents = latents_of_training(model, train_set, trainer.args.eval_batch_size)
        mean, std = latents.mean(0), latents.std(0)
        if not (mean.isfinite() & std.isfinite()).all():
            raise ValueError(
                f"The latents of {len(latents)} training segments have no finite mean and spread: no model is saved. Lower learning_rate, "
                "or add clips."
            )
        model.set_latent_statistics(mean, std)
        report["latents"] = {
            "effective_rank": reconstruction.effective_rank(latents),
            "dead_dimensions": int((std < 1e-3 * std.median()).sum()),
            "hidden_size": len(std),
        }
    else:
        segments = first_segments(train_set)  # a stream may be long; without statistics, models that read the latents hardly learn
        latents = unstandardised_latents(model, segments.split(trainer.args.eval_batch_size))
        model.set_latent_statistics(latents.mean(0), latents.std(0))
        logger.warning(f"The data set is streamed: latent_mean and latent_std are those of its first {len(latents)} segments.")
    if validation is not None:
        scores = trainer.evaluate()
        report["validation"] = {name: value for name, value in scores.items() if "mpjpe" in name or "motion" in name or "border" in name}
        report["floors"], report["linear_codes"] = {}, {}
        if train_stores:
            bank = segment_bank(train_stores, model.config.window_size, data.bank_clips)
            report["floors"] = floors(model, train_stores, validation, bank)
            keypoints, mask, _ = validation
            errors = reconstruction.linear_code_errors(keypoints, scored_points(mask, model), bank)
            report["linear_codes"] = {str(size): error for size, error in errors.items()}
        scored = {name.removeprefix("eval_"): value for name, value in report["validation"].items()}
        report["verdict"] = verdict_of_reconstruction(scored, report["floors"], report["linear_codes"])
    return report


def what_is_next(output_dir: str | Path, specs: list, argv: list[str]) -> str:
    """The command that trains a reader on what was pretrained; the demo's has data of its own."""
    config = config_for("sign_to_text", argv, default_config="demo.yaml")
    specs = () if config.startswith("demo") else specs
    folder = Path(output_dir).parent / "sign-to-text"
    return training_command("train_sign_to_text.py", config, folder, specs, sign_mae=output_dir)


def floors(model, stores, validation, bank):
    """Errors of three answers that know nothing of the segment, or only one pose of it, or only the training set."""
    keypoints, mask, _ = validation
    mask = scored_points(mask, model)
    mean = torch.from_numpy(mean_pose(stores))
    static = reconstruction.best_static_pose(keypoints, mask)
    return {
        "mean_pose": reconstruction.mpjpe(mean, keypoints, mask),
        "static": reconstruction.mpjpe(static, keypoints, mask),
        "nearest_segment": reconstruction.nearest_segment_error(keypoints, mask, bank),
        "bank_segments": len(bank),
    }


def mean_pose(stores, chunk=100_000):
    """(K, C): the mean of every point over the training frames that show it."""
    total, count = 0.0, 0
    for store in stores:
        for start in range(0, len(store.keypoints), chunk):
            seen = np.asarray(store.keypoint_mask[start : start + chunk])[..., None]
            total = total + (store.keypoints[start : start + chunk] * seen).sum(0, dtype=np.float64)
            count = count + seen.sum(0)
    return (total / np.maximum(count, 1)).astype(np.float32)


def segment_bank(stores, window_size, max_clips, seed=0):
    """Every stride-1 window of `max_clips` training clips, drawn from all stores: (F, W, K, C)."""
    candidates = [(store, clip) for store in stores for clip in np.flatnonzero(store.lengths >= window_size)]
    chosen = np.random.default_rng(seed).permutation(len(candidates))[:max_clips]
    windows = []
    for store, clip in (candidates[index] for index in chosen):
        frames = torch.from_numpy(np.array(store.keypoints[store.offsets[clip] : store.offsets[clip + 1]]))
        windows.append(frames.unfold(0, window_size, 1).movedim(-1, 1))
    return torch.cat(windows)


if __name__ == "__main__":
    run_script(main)
