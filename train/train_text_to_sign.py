"""Trains a TextToSign on canonical data sets whose rows have a text.

    python train/train_text_to_sign.py demo_text_to_sign.yaml --sign_mae outputs/demo/sign-mae    # small
    python train/train_text_to_sign.py paper_text_to_sign.yaml --sign_mae outputs/sign-mae --datasets DIR --output_dir OUT
    ... --text_model distilbert/distilbert-base-multilingual-cased    # another pretrained text encoder
    ... --max_segments auto     # as many queries as the longest clip has segments: much less to compute than the paper's 128
    ... --judge outputs/judges/0                                      # early stopping on back-translated BLEU-4
    ... --latent_decoder codes_flow                                   # sampled segment by segment, in place of the paper's regression

Writes one folder, model, tokenizer and keypoint processor, that `pipeline("text-to-sign", model=DIR)` loads.
"""

from train.engine.help import answer_help

if __name__ == "__main__":
    answer_help(__file__)  # before the imports that take seconds

import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer
from transformers.utils import logging

from modeling_unigloR import SignMAEDecoderModel, SignMAEEncoderModel, SignToText, TextToSign, TextToSignConfig
from modeling_unigloR.modeling_text_to_sign import segments_end_to_end
from modeling_unigloR.pipelines_uniglor import TextToSignPipeline
from train.data.clips import Clips, LatentStore, TextToSignCollator, TextToSignDataset
from train.data.data_arguments import TextArguments
from train.data.latent_codes import fit_codes
from train.data.text_tokenizers import KINDS, share_unknown, train_tokenizer
from train.engine.arguments import TextToSignTrainingArguments, parse_training, read_fields
from train.engine.loading import check_path, load_model, load_processor, load_tokenizer, read_model_type, with_ids_of
from train.engine.runs import one_builds, padding_of, prepare, run, run_script
from train.engine.trainers import TextToSignTrainer, check_amount
from train.evaluation.closing import assess_signing, config_for, evaluation_command, judges_command

logger = logging.get_logger(__name__)

AUTO = "auto"  # in the place of max_segments


@dataclass
class TextToSignArguments(TextArguments):
    """What to sign, and with what.

    Attributes:
        datasets: entries of `segments.load_rows`; their rows have a text. Clips are not varied in speed: no text says how fast.
        validation: see `DataArguments`; for early stopping.
        text_model: checkpoint of a pretrained text encoder; none makes a new one by text_config.
        sign_mae: checkpoint of a SignMAE, which gives the latents and stays as it is.
        judge: folder of a frame-level SignToText, trained on real keypoints: it reads what is signed, and BLEU-4 chooses the model
            (metric_for_best_model: cer, another score). It selects, so it must not report. Without a judge, see metric_for_best_model.
        cache_dir: where processed frames and latents are kept; by default in the cache of `datasets`.
    """

    sign_mae: str | None = None
    judge: str | None = None
    cache_dir: str | None = None


OWNERS = {"data": TextToSignArguments, "model": TextToSignConfig, "training": TextToSignTrainingArguments}


def parse(argv, default_config="paper_text_to_sign.yaml"):
    """-> TextToSignArguments, fields of TextToSignConfig, TextToSignTrainingArguments."""
    fields = read_fields(argv, default_config)
    # A word, where the model's configuration has a number.
    auto = {"max_segments": fields.pop("max_segments")} if fields.get("max_segments") == AUTO else {}
    data, shares = parse_training(fields, OWNERS)
    if data.sign_mae is None:
        raise ValueError("No SignMAE to sign with. Give --sign_mae DIR (train/pretrain.py makes one).")
    selecting = "loss" if shares["model"].get("latent_decoder") == "codes_flow" else "latent_frechet"
    shares["training"].setdefault("metric_for_best_model", selecting if data.judge is None else "bleu4")
    return data, shares["model"] | auto, TextToSignTrainingArguments(**shares["training"])


def main(argv=None):
    argv = sys.argv[1:] if argv is None else argv
    answer_help(__file__, argv)
    data, model_fields, args = parse(argv)
    prepare(args, data)
    read_model_type(data.sign_mae, "--sign_mae", ["sign_mae"])  # before anything takes time
    processor = load_processor(data.sign_mae, "--sign_mae")  # the SignMAE's own, so that latents mean what they meant there
    judge, judge_tokenizer = load_judge(data.judge, processor) if data.judge is not None else (None, None)
    with one_builds(args):
        clips = Clips(data.datasets, "train", processor, **data.frames)
        validation = Clips(data.validation, "validation", processor, **data.frames) if data.validation else None
        tokenizer = make_tokenizer(data, clips.texts)
        longest = max(int(split_clips.num_frames.max()) for split_clips in (clips, validation) if split_clips is not None)
        model = make_model(data, model_fields, tokenizer, longest)
        sign_mae = load_model(data.sign_mae, SignMAEEncoderModel, "--sign_mae").to(args.device)
        train_set, validation_set = (make_dataset(split_clips, data, model, sign_mae, tokenizer) for split_clips in (clips, validation))
        del sign_mae  # the latents are kept; what encodes is not needed again
    codes = {"codes": fit_codes(model, train_set.latents, args.seed)} if model.samples else {}
    if validation is not None:
        unknown = share_unknown(tokenizer, validation.texts)
        logger.warning(f"{len(clips)} training clips, {len(validation)} for validation; {unknown:.1%} of its tokens are unknown.")
    check_amount(args, len(clips))
    multiple = padding_of(args.device, model.max_tokens, model.config.max_segments)
    trainer = TextToSignTrainer(
        model=model,
        args=args,
        train_dataset=train_set,
        eval_dataset=validation_set,
        data_collator=TextToSignCollator(tokenizer.pad_token_id, multiple),
        processing_class=tokenizer,
        judge=judge,
        judge_tokenizer=judge_tokenizer,
        references=validation.texts if validation is not None else (),
        final_dot=data.final_dot,
    )
    parts = {"model": model, "tokenizer": tokenizer, "feature_extractor": processor}
    assess = partial(assess_signing, judge=data.judge)
    facts = codes | {"assess": assess, "next_command": what_is_next(args.output_dir, data, argv), "validation_data": data.validation_source}
    return run(trainer, TextToSignPipeline, parts, data.datasets, clips, validation, data, **facts)


def what_is_next(output_dir: str | Path, data: TextToSignArguments, argv: list[str]) -> str:
    """The command that scores the model by judges; where there are none yet, the one that trains them."""
    judges = Path(data.judge).parent if data.judge is not None else Path(output_dir).parent / "judges"
    if not (judges / "judges.json").is_file():
        return judges_command(config_for("sign_to_text", argv), judges, data.datasets, data.sign_mae)
    options = {"judges": judges, "sign_mae": data.sign_mae}
    return evaluation_command("text-to-sign", output_dir, data.datasets, data.validation, **options)


def load_judge(folder, processor):
    """The judge and its tokenizer; what it reads must be what SignMAE's processor gives."""
    judge, reads = load_model(folder, SignToText, "--judge"), load_processor(folder, "--judge")
    if judge.config.sign_encoder != "frames":
        raise ValueError(f"The judge {folder!r} is no frame-level reader: expected a SignToText trained with --sign_encoder frames.")
    for name in ("layout", "num_channels", "fps"):
        if getattr(reads, name) != getattr(processor, name):
            raise ValueError(f"The judge reads {name}={getattr(reads, name)!r}, but the SignMAE gives {getattr(processor, name)!r}.")
    return judge, AutoTokenizer.from_pretrained(check_path(folder, "--judge"))


def make_tokenizer(data, texts):
    """The text model's tokenizer; or one of the training texts that puts a class token before each, which the length is read from."""
    if data.text_model is not None or data.tokenizer not in KINDS:
        return load_tokenizer(data)
    tokenizer = train_tokenizer(texts, data.tokenizer, data.vocab_size, data.lowercase)
    head, end = tokenizer.bos_token, tokenizer.eos_token
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{head} $A {end}", special_tokens=[(head, tokenizer.bos_token_id), (end, tokenizer.eos_token_id)]
    )
    return tokenizer


def make_model(data, fields, tokenizer, longest):
    """A TextToSign of the given parts, whose text model has the tokenizer's ids; `longest` are the frames of the longest clip."""
    sign_mae = load_model(data.sign_mae, SignMAEDecoderModel, "--sign_mae")
    if fields.get("max_segments") == AUTO:
        last_segment = fields.get("last_segment", TextToSignConfig.last_segment)
        fields = fields | {"max_segments": segments_end_to_end(longest, sign_mae.config.window_size, last_segment)}
        logger.warning(f"max_segments: {fields['max_segments']}, for the longest clip of {longest} frames.")
    if data.text_model is None:
        fields = with_ids_of(tokenizer, fields)
    text_model = data.text_model and check_path(data.text_model, "--text_model", single_names=True)
    model = TextToSign.from_parts(sign_mae, text_model, **fields)
    model.check_tokenizer(tokenizer)
    return model


def make_dataset(clips, data, model, sign_mae, tokenizer):
    if clips is None:
        return None
    hold = model.config.last_segment == "hold"
    latents = LatentStore.build(clips, sign_mae, sign_mae.config.window_size, data.cache_dir, hold_last=hold)
    return TextToSignDataset(clips, tokenizer, latents, model)


if __name__ == "__main__":
    run_script(main)
