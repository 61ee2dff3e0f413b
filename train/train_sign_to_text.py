"""Trains a SignToText on canonical data sets whose rows have a text.

    python train/train_sign_to_text.py demo_sign_to_text.yaml --sign_mae outputs/demo/sign-mae    # small
    python train/train_sign_to_text.py paper_sign_to_text.yaml --sign_mae outputs/sign-mae --datasets DIR --output_dir OUT
    ... --text_model google/mt5-small --lora_rank 16       # a pretrained text model
    ... --sign_encoder frames                              # Joint-SLT on keypoints: the baseline, and the judge of text-to-sign

Writes one folder, model, tokenizer and keypoint processor, that `pipeline("sign-to-text", model=DIR)` loads.
"""

from train.engine.help import answer_help

if __name__ == "__main__":
    answer_help(__file__)  # before the imports that take seconds

import sys
from dataclasses import dataclass

from transformers.utils import logging

from modeling_unigloR import KeypointProcessor, SignMAEConfig, SignMAEEncoderModel, SignToTextConfig
from modeling_unigloR.pipelines_uniglor import SignToTextPipeline
from train.data.clips import Clips, LatentStore, TranslationCollator, TranslationDataset, set_latent_whitening, set_training_distances
from train.data.data_arguments import SigningArguments, TextArguments
from train.data.text_tokenizers import KINDS, share_unknown, train_tokenizer
from train.engine.arguments import TranslationTrainingArguments, parse_training, read_fields
from train.engine.baselines import BaselineArguments
from train.engine.loading import check_path, load_model, load_tokenizer, make_processor, with_ids_of
from train.engine.runs import encoding_on, one_builds, padding_of, prepare, run, run_script
from train.engine.trainers import TranslationTrainer, check_amount
from train.evaluation.closing import assess_texts, evaluation_command

logger = logging.get_logger(__name__)


@dataclass
class SignToTextArguments(TextArguments, SigningArguments, BaselineArguments):
    """What to translate, and with what.

    Attributes:
        datasets: entries of `segments.load_rows`; their rows have a text.
        validation: see `DataArguments`; for early stopping on BLEU-4.
        text_model: checkpoint of a pretrained encoder-decoder; none makes a new one by text_config.
        target_language: of a multilingual text model's tokenizer, such as de_DE for mBART.
        max_target_length: longer training texts are cut to so many tokens.
        max_new_tokens: cap of decoding; part of every score's signature.
        whiten_latents: cached latents are read along their principal axes, see `SignToText.set_latent_whitening`.
    """

    target_language: str | None = None
    max_target_length: int = 200
    max_new_tokens: int = 100
    whiten_latents: bool = True


OWNERS = {
    "data": SignToTextArguments,
    "model": SignToTextConfig,
    "processor": KeypointProcessor,
    "training": TranslationTrainingArguments,
}


def parse(argv, default_config="paper_sign_to_text.yaml"):
    """-> SignToTextArguments, fields of SignToTextConfig, fields of KeypointProcessor, TranslationTrainingArguments."""
    data, shares = parse_training(read_fields(argv, default_config), OWNERS)
    data.check_encoder(shares["model"])
    data.check_baseline(shares["model"])
    return data, shares["model"], shares["processor"], TranslationTrainingArguments(**shares["training"])


def main(argv=None, latent_store=LatentStore):
    """Trains, and returns its report. A control may give another `latent_store`, which need only build as `LatentStore` does."""
    argv = sys.argv[1:] if argv is None else argv
    answer_help(__file__, argv)
    data, model_fields, processor_fields, args = parse(argv)
    prepare(args, data)
    processor = make_processor(data.sign_mae, processor_fields)
    with one_builds(args):
        clips = Clips(data.datasets, "train", processor, **data.frames)
        validation = Clips(data.validation, "validation", processor, **data.frames) if data.validation else None
        tokenizer = make_tokenizer(data, clips.texts)
        model = make_model(data, model_fields, processor, tokenizer, clips)
        with encoding_on(args.device, model):
            if data.whiten_latents and data.cache_latents and model.config.sign_encoder == "segments":
                set_latent_whitening(model, latent_store.build(clips, model.sign_mae, model.config.stride, data.cache_dir))
            train_set, validation_set = (
                make_dataset(split_clips, data, model, tokenizer, latent_store) for split_clips in (clips, validation)
            )
            if train_set.latents is not None:
                set_training_distances(model, train_set.latents)
    if validation is not None:
        unknown = share_unknown(tokenizer, validation.texts)
        logger.warning(f"{len(clips)} training clips, {len(validation)} for validation; {unknown:.1%} of its tokens are unknown.")
    check_amount(args, len(clips))
    positions = getattr(model.config.text_config, "max_position_embeddings", None)
    trainer = TranslationTrainer(
        model=model,
        args=args,
        train_dataset=train_set,
        eval_dataset=validation_set,
        data_collator=TranslationCollator(data.make_augmentation(), padding_of(args.device, positions)),
        processing_class=tokenizer,
        references=validation.texts if validation is not None else (),
        final_dot=data.final_dot,
    )
    parts = {"model": model, "tokenizer": tokenizer, "feature_extractor": processor}
    command = evaluation_command("sign-to-text", args.output_dir, data.datasets, data.validation)
    facts = {"assess": assess_texts, "next_command": command, "validation_data": data.validation_source}
    return run(trainer, SignToTextPipeline, parts, data.datasets, clips, validation, data, **facts)


def make_tokenizer(data, texts):
    if data.text_model is None and data.tokenizer in KINDS:
        return train_tokenizer(texts, data.tokenizer, data.vocab_size, data.lowercase)
    tokenizer = load_tokenizer(data)
    if data.target_language is not None:
        tokenizer.src_lang = tokenizer.tgt_lang = data.target_language
    return tokenizer


def make_model(data, fields, processor, tokenizer, clips):
    """A SignToText of the given parts, whose text model has the tokenizer's ids."""
    text_model = data.text_model and check_path(data.text_model, "--text_model", single_names=True)
    if data.text_model is None:
        fields = with_ids_of(tokenizer, fields)
    model_class, fields = data.model_of(fields, lambda: {gloss for line in clips.glosses for gloss in (line or "").split()})
    if data.sign_mae is not None:
        sign_mae = load_model(data.sign_mae, SignMAEEncoderModel, "--sign_mae")
        model = model_class.from_parts(sign_mae, text_model, **fields)
    else:
        config = SignMAEConfig(layout=processor.layout, num_channels=processor.num_channels)
        model = model_class.from_parts(SignMAEEncoderModel(config), text_model, **fields)
    model.check_tokenizer(tokenizer)
    model.generation_config.max_new_tokens = data.max_new_tokens
    if data.target_language is not None:
        model.generation_config.forced_bos_token_id = tokenizer.convert_tokens_to_ids(data.target_language)
    return model


def make_dataset(clips, data, model, tokenizer, latent_store):
    if clips is None:
        return None
    latents = None
    if data.cache_latents and model.config.sign_encoder == "segments":
        latents = latent_store.build(clips, model.sign_mae, model.config.stride, data.cache_dir)
    return TranslationDataset(clips, tokenizer, latents, getattr(model.config, "glosses", None), data.max_target_length)


if __name__ == "__main__":
    run_script(main)
