"""Trains a SignRecognition on canonical data sets whose rows have a label.

    python train/train_recognition.py --sign_mae outputs/sign-mae --datasets data/ksl_guide --output_dir OUT
    ... --sign_encoder frames                                         # every frame's keypoints: what the segments are compared with
    ... --cache_latents false --augmentation {}                       # other speeds and views in every epoch

Writes one folder, model and keypoint processor, that `pipeline("sign-recognition", model=DIR)` loads.
"""

from train.engine.help import answer_help

if __name__ == "__main__":
    answer_help(__file__)  # before the imports that take seconds

import sys
from dataclasses import dataclass

from transformers.utils import logging

from modeling_unigloR import KeypointProcessor, SignMAEConfig, SignMAEEncoderModel, SignRecognition, SignRecognitionConfig
from modeling_unigloR.pipelines_uniglor import SignRecognitionPipeline
from train.data.clips import (
    LabelledClips,
    LatentStore,
    RecognitionCollator,
    RecognitionDataset,
    set_latent_whitening,
    set_training_distances,
)
from train.data.data_arguments import SigningArguments
from train.engine.arguments import UniGloRTrainingArguments, parse_training, read_fields
from train.engine.loading import load_model, make_processor
from train.engine.runs import encoding_on, one_builds, padding_of, prepare, run, run_script
from train.engine.trainers import RecognitionTrainer, check_amount
from train.evaluation.closing import assess_recognition, evaluation_command

logger = logging.get_logger(__name__)


@dataclass
class RecognitionArguments(SigningArguments):
    """What to recognise, and with what.

    Attributes:
        datasets: entries of `segments.load_rows`; their rows have a label, and its name as gloss or, without one, as text.
        validation: see `DataArguments`; for early stopping on top-1.
        whiten_latents: cached latents are read along their principal axes, see `SignRecognition.set_latent_whitening`.
    """

    whiten_latents: bool = True


@dataclass
class RecognitionTrainingArguments(UniGloRTrainingArguments):
    """The paper's optimiser; the model that recognised best is kept.

    Attributes:
        load_best_model_at_end: whether the weights of the best evaluation are kept.
        metric_for_best_model: the score that says which evaluation was best.
    """

    num_train_epochs: float = 75  # ours, as sign-to-text; the paper does not say
    load_best_model_at_end: bool | None = True
    metric_for_best_model: str | None = "top1"
    early_stopping_patience: int | None = 10  # ours: evaluations without a better score; none trains to the end


OWNERS = {
    "data": RecognitionArguments,
    "model": SignRecognitionConfig,
    "processor": KeypointProcessor,
    "training": RecognitionTrainingArguments,
}


def parse(argv, default_config="paper_recognition.yaml"):
    """-> RecognitionArguments, fields of SignRecognitionConfig, fields of KeypointProcessor, RecognitionTrainingArguments."""
    data, shares = parse_training(read_fields(argv, default_config), OWNERS)
    data.check_encoder(shares["model"])
    return data, shares["model"], shares["processor"], RecognitionTrainingArguments(**shares["training"])


def main(argv=None, latent_store=LatentStore):
    """Trains, and returns its report. A control may give another `latent_store`, which need only build as `LatentStore` does."""
    argv = sys.argv[1:] if argv is None else argv
    answer_help(__file__, argv)
    data, model_fields, processor_fields, args = parse(argv)
    prepare(args, data)
    sign_mae = load_model(data.sign_mae, SignMAEEncoderModel, "--sign_mae") if data.sign_mae is not None else None
    processor = make_processor(data.sign_mae, processor_fields)
    with one_builds(args):
        clips = LabelledClips(data.datasets, "train", processor, **data.frames)
        validation = LabelledClips(data.validation, "validation", processor, **data.frames) if data.validation else None
        model = make_model(sign_mae, model_fields, processor, clips.label_names())
        for split_clips in (clips, validation):
            if split_clips is not None:
                split_clips.check_labels(model.config.id2label)
        with encoding_on(args.device, model):
            train_set, validation_set = (make_dataset(split_clips, data, model, latent_store) for split_clips in (clips, validation))
            if train_set.latents is not None:
                if data.whiten_latents:
                    set_latent_whitening(model, train_set.latents)
                set_training_distances(model, train_set.latents)
    check_amount(args, len(clips))
    trainer = RecognitionTrainer(
        model=model,
        args=args,
        train_dataset=train_set,
        eval_dataset=validation_set,
        data_collator=RecognitionCollator(data.make_augmentation(), padding_of(args.device)),
        processing_class=processor,
    )
    parts = {"model": model, "feature_extractor": processor}
    command = evaluation_command("sign-recognition", args.output_dir, data.datasets, data.validation)
    facts = {"num_labels": model.config.num_labels, "validation_data": data.validation_source}
    facts |= {"assess": assess_recognition, "next_command": command}
    return run(trainer, SignRecognitionPipeline, parts, data.datasets, clips, validation, data, **facts)


def make_model(sign_mae, fields, processor, id2label):
    if sign_mae is None:
        sign_mae = SignMAEEncoderModel(SignMAEConfig(layout=processor.layout, num_channels=processor.num_channels))
    return SignRecognition.from_parts(sign_mae, id2label, **fields)


def make_dataset(clips, data, model, latent_store):
    if clips is None:
        return None
    latents = None
    if data.cache_latents and model.config.sign_encoder == "segments":
        latents = latent_store.build(clips, model.sign_mae, model.config.stride, data.cache_dir)
    return RecognitionDataset(clips, latents)


if __name__ == "__main__":
    run_script(main)
