"""A training from its first step, or where it was stopped, to the folder that a pipeline loads."""

import json
from pathlib import Path

import torch
from transformers.trainer_utils import get_last_checkpoint
from transformers.utils import logging

from train.publish import push
from train.segments import names

logger = logging.get_logger(__name__)


def run(trainer, pipeline_class, parts, specs, clips, validation=None, **facts):
    """Trains a task's model and writes its pipeline, with `report.json`, into output_dir.

    Args:
        trainer: a Trainer of the model.
        pipeline_class, parts: what is saved, and what it is made of: {"model", "feature_extractor" and maybe "tokenizer"}.
        specs: entries of `segments.load_rows`, for the report.
        clips, validation: `Clips`; without validation nothing is scored.
        **facts: that the report says too.

    Returns:
        The report, on every process.
    """
    args, model = trainer.args, parts["model"]
    training = trainer.train(resume_from_checkpoint=last_checkpoint(args))
    report = {"datasets": names(specs), "num_train_clips": len(clips), "num_validation_clips": len(validation or ()), **facts}
    report |= {"steps": trainer.state.global_step, "compute": compute_used(args, training)}
    if validation is not None:
        scores = trainer.evaluate()
        report["validation"] = {name: value for name, value in scores.items() if not name.endswith(("runtime", "second"))}
    if getattr(model.config, "lora_rank", 0):
        model.merge_adapters()
    if trainer.is_world_process_zero():
        pipeline = pipeline_class(**parts)  # not earlier: it moves the model to the first device
        pipeline.save_pretrained(args.output_dir)
        Path(args.output_dir, "report.json").write_text(json.dumps(report, indent=2) + "\n")
        if args.push_to_hub:
            repo_id = args.hub_model_id or Path(args.output_dir).name
            push(pipeline, repo_id, args.output_dir, private=args.hub_private_repo, token=args.hub_token)
    trainer.accelerator.wait_for_everyone()
    return report


def last_checkpoint(args):
    """What `resume_from_checkpoint` asks for: None, a path, or for true the last checkpoint of output_dir."""
    resume = args.resume_from_checkpoint
    if resume is True or str(resume).lower() == "true":
        found = get_last_checkpoint(args.output_dir) if Path(args.output_dir).is_dir() else None
        if found is None:
            logger.warning(f"No checkpoint in {args.output_dir!r} to resume from: starting at step 0.")
        return found
    return None if resume is None or str(resume).lower() in ("false", "none") else resume


def compute_used(args, training):
    """What a training took, for the model card; one that was resumed is counted from there.

    Args:
        args: its training arguments.
        training: what `Trainer.train` returned.
    """
    device = torch.cuda.get_device_name(args.device) if args.device.type == "cuda" else f"{torch.get_num_threads()} threads of a CPU"
    return {"device": device, "processes": args.world_size, "hours": training.metrics["train_runtime"] / 3600}
