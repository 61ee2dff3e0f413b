"""The translation baselines as rows of a table: trained, tuned and scored as the other rows of `experiments.translation`.

What is theirs: after training, the number of beams and the length penalty are chosen on the held-out training sentences, as slt does.
"""

import hashlib
import inspect
import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
from transformers import AutoModel, AutoTokenizer

from experiments import translation
from experiments.baselines import conslt, frame_translator, glofe, joint_slt
from experiments.pretraining import names
from experiments.readers import code_version, rate_that_is_best
from experiments.workplace import Workplace, words
from modeling_unigloR import KeypointProcessor, SignToText
from train import train_sign_to_text
from train.data.clips import Clips, TranslationCollator, TranslationDataset, pad
from train.engine.loading import with_ids_of
from train.engine.runs import padding_of, prepare, run
from train.engine.trainers import TranslationTrainer, check_amount
from train.evaluation.translation import translate_inputs
from train.metrics.text import text_scores

MODELS = {
    "joint_slt": joint_slt.JointSLT,
    "joint_slt_glosses": joint_slt.JointSLT,
    "conslt": conslt.ConSLT,
    "glofe": glofe.GloFE,
}
NAMES = tuple(MODELS)
WEIGHTS = ("none", "fixed", "adaptive")
GLOSS_LOSS_WEIGHT = 5.0  # translated best in Joint-SLT's paper, beside a translation loss of weight 1
WINDOW_SIZE = STRIDE = 8  # of GloFE's backbone: as its authors' variant that reads windows, which lie 6 apart there; end to end costs less
# slt divides a text's log-probability by ((5 + length) / 6) ** alpha, alpha from -1, which means not at all, to 5; transformers by
# length ** penalty. For the dozen words of a sentence penalties from 0 to 2 reach as far.
DECODINGS = [{"num_beams": 1, "length_penalty": 0.0}, *({"num_beams": 5, "length_penalty": value} for value in (0.0, 0.5, 1.0, 2.0))]
MOST_TUNED = 150  # held-out clips that choose among them: five times as many beams take five times as long


def translations(
    place: Workplace,
    files: dict[str, Path],
    name: str,
    sizes: dict,
    processor: KeypointProcessor,
    weights: str = "none",
    fields: dict = translation.READER,
) -> tuple[list[list[str]], float, dict]:
    """What a baseline's trainings make of the test sentences, the learning rate that was chosen, and what it took.

    Args:
        place, files, sizes: as of `experiments.translation.translations`.
        name: one of `NAMES`.
        processor: of the keypoints, which the baselines read themselves.
        weights: of the parts of the body in an auxiliary loss that reconstructs the keypoints, "fixed" or "adaptive"; "none": no such loss.
        fields: of the trainings.

    Returns:
        [texts] of each seed, in the order of the test clips; a number; {"parameters", "steps", "seconds" of one training, "num_beams",
        "length_penalty"}, these two chosen with the first seed.

    Raises:
        ValueError: see `check`.
    """
    check(name, files, weights)
    facts = [_code_version(), names(files.values()), name, weights, fields]

    def score(rate: float) -> list[float]:
        def make() -> list[float]:
            folder = train(place, files, name, rate, 0, max(1, sizes["steps"] // 4), processor, weights, fields, files["validation"])
            scores = json.loads((folder / "report.json").read_text(encoding="utf-8"))["validation"]
            shutil.rmtree(folder)
            return [scores["eval_bleu4"], scores["eval_chrf"]]

        return place.once(place.path("baseline-rate", *facts, rate, sizes["steps"]), make)

    rate = rate_that_is_best(sizes["rates"], score)
    made: list[dict] = []
    for seed in range(sizes["seeds"]):

        def make(seed: int = seed) -> dict:
            folder = train(place, files, name, rate, seed, sizes["steps"], processor, weights, fields)
            report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
            model, tokenizer = AutoModel.from_pretrained(folder).to(_device(fields)), AutoTokenizer.from_pretrained(folder)
            decoding = (
                made[0]["decoding"] if made else best_decoding(model, tokenizer, translation.clips_of(files["validation"], processor))
            )
            texts = _translate(model, tokenizer, translation.clips_of(files["test"], processor), decoding)
            shutil.rmtree(folder)
            parameters, seconds = model.num_parameters(), report["compute"]["hours"] * 3600
            return {"texts": texts, "decoding": decoding, "parameters": parameters, "steps": report["steps"], "seconds": seconds}

        made.append(place.once(place.path("baseline-translations", *facts, rate, seed, sizes["steps"]), make))
    first = made[0]
    seconds = sum(piece["seconds"] for piece in made) / len(made)
    taken = {"parameters": first["parameters"], "steps": first["steps"], "seconds": round(seconds, 1), **first["decoding"]}
    return [piece["texts"] for piece in made], rate, taken


def check(name: str, files: dict[str, Path], weights: str = "none") -> None:
    """Raises `ValueError` where a baseline cannot be trained on a corpus, before anything takes time."""
    if name not in NAMES:
        raise ValueError(f"Unknown baseline {name!r}. Expected one of {', '.join(NAMES)}.")
    if weights not in WEIGHTS:
        raise ValueError(f"Unknown weights {weights!r}. Expected one of {', '.join(WEIGHTS)}.")
    if name == "glofe" and weights != "none":
        raise ValueError(f"Found weights={weights!r} for glofe, expected 'none': it has no state for a frame to be reconstructed from.")
    if name == "joint_slt_glosses":
        rows = pq.read_table(files["train"], columns=["gloss"]).column("gloss") if "gloss" in pq.read_schema(files["train"]).names else []
        without = sum(not (row.as_py() or "").strip() for row in rows)
        if not len(rows) or without:
            found = f"{without} of {len(rows)} clips have no gloss" if len(rows) else "it has no column 'gloss'"
            raise ValueError(f"joint_slt_glosses needs a gloss line for every clip of {files['train']}, but {found}. Use joint_slt there.")
    texts = pq.read_table(files["train"], columns=["text"]).column("text").to_pylist() if name == "glofe" else []
    if name == "glofe" and not glofe.anchor_words([text or "" for text in texts]):
        raise ValueError(
            f"glofe needs anchor words, but the texts of {files['train']} have none: words of at least {glofe.LEAST_LETTERS} letters in at "
            f"least {glofe.LEAST_CLIPS} clips and at most {glofe.LARGEST_SHARE:.0%} of all. Take more clips."
        )


def best_decoding(model: Any, tokenizer: Any, clips: Clips) -> dict[str, float]:
    """The entry of `DECODINGS` whose translations of some clips have the best BLEU-4, and of equal ones the best chrF."""
    chosen = range(0, len(clips), -(-len(clips) // MOST_TUNED))
    references = [clips.texts[index] for index in chosen]

    def score(decoding: dict) -> tuple[float, float]:
        scores = text_scores(_translate(model, tokenizer, clips, decoding, chosen), references, families=("slt", "chrf"))
        return scores["bleu4"], scores["chrf"]

    return max(DECODINGS, key=score)


def train(
    place: Workplace,
    files: dict[str, Path],
    name: str,
    rate: float,
    seed: int,
    steps: int,
    processor: KeypointProcessor,
    weights: str = "none",
    fields: dict = translation.READER,
    validation: Path | None = None,
) -> Path:
    """-> the folder of a trained baseline. A training that was killed goes on from its last checkpoint."""
    facts = [_code_version(), names([files["train"]]), name, weights, rate, seed, steps, validation is not None, fields]
    folder = place.path("baseline", *facts)
    if (folder / "report.json").exists():
        return folder
    options = {"use_cpu": True} | fields | {"learning_rate": rate, "max_steps": steps, "seed": seed, "output_dir": folder}
    options |= {"save_strategy": "steps", "save_steps": max(1, min(250, steps)), "save_total_limit": 1, "resume_from_checkpoint": True}
    options |= {"sign_encoder": "frames", "sign_mae": None, "datasets": files["train"]}
    arguments = ["paper_sign_to_text.yaml", *words(options), "--validation", str(validation) if validation else "[]"]
    data, model_fields, _, args = train_sign_to_text.parse(arguments)
    prepare(args, data)
    clips = translation.clips_of(files["train"], processor)
    held_out = translation.clips_of(validation, processor) if validation else None
    tokenizer = train_sign_to_text.make_tokenizer(data, clips.texts)
    model = make_model(name, with_ids_of(tokenizer, model_fields), clips, processor, weights)
    model.generation_config.max_new_tokens = data.max_new_tokens
    check_amount(args, len(clips))
    trainer = TranslationTrainer(
        model=model,
        args=args,
        train_dataset=BaselineDataset(clips, tokenizer, model.config, data.max_target_length),
        eval_dataset=BaselineDataset(held_out, tokenizer, model.config, data.max_target_length) if held_out else None,
        data_collator=BaselineCollator(None, padding_of(args.device, model.config.text_config.max_position_embeddings)),
        processing_class=tokenizer,
        references=held_out.texts if held_out else (),
        final_dot=data.final_dot,
    )
    parts = {"model": model, "tokenizer": tokenizer, "feature_extractor": processor}
    run(trainer, Checkpoint, parts, data.datasets, clips, held_out, data)
    return folder


def make_model(
    name: str, fields: dict, clips: Clips, processor: KeypointProcessor, weights: str = "none"
) -> frame_translator.FrameTranslator:
    """A new model of a baseline.

    Args:
        fields: of its configuration, with a `text_config` that has the tokenizer's ids.
        clips: of the training, whose glosses or words the baseline may need.
    """
    signing: dict[str, Any] = {"layout": processor.layout, "num_channels": processor.num_channels}
    if name == "joint_slt_glosses":
        glosses = sorted({gloss for line in clips.glosses for gloss in line.split()})
        fields = fields | {"gloss_loss_weight": GLOSS_LOSS_WEIGHT, "glosses": glosses}
    if name == "glofe":
        fields = fields | {"anchors": glofe.anchor_words(clips.texts), "stride": STRIDE}
        size = fields["text_config"]["d_model"]  # channels in proportion to it, as in the paper's SignMAE: 64, 8 and 16 of 512
        signing |= {"graph_channels": max(1, size // 8), "relation_channels": max(1, size // 64)}
        signing |= {"temporal_branch_channels": max(1, size // 32), "window_size": WINDOW_SIZE, "block_norm": "batch"}
    if weights != "none":
        fields = fields | {"reconstruction_loss_weight": 1.0}
        signing["keypoint_weighting"] = weights
    model_class = MODELS[name]
    return model_class(model_class.config_class(**fields | {"sign_mae_config": signing}))


@dataclass
class Checkpoint:
    """What a training leaves, in the place of a pipeline: the package's pipelines take its own models only."""

    model: frame_translator.FrameTranslator
    tokenizer: Any
    feature_extractor: KeypointProcessor

    def save_pretrained(self, folder: Path) -> None:
        for part in (self.model, self.tokenizer, self.feature_extractor):
            part.save_pretrained(folder)


class BaselineDataset(TranslationDataset):
    """A `TranslationDataset` of keypoints whose items hold what a baseline's losses need: its targets, and the mask of the keypoints."""

    def __init__(self, clips: Clips, tokenizer: Any, config: frame_translator.FrameTranslatorConfig, max_target_length: int | None = None):
        super().__init__(clips, tokenizer, None, getattr(config, "glosses", None), max_target_length)
        self.with_mask = bool(config.reconstruction_loss_weight)
        self.anchor_labels = None
        if anchors := getattr(config, "anchors", None):
            index = {word: number for number, word in enumerate(anchors)}
            lines = [sorted(index[word] for word in glofe.words_of(text) if word in index) for text in clips.texts]
            self.anchor_labels = [torch.tensor(line, dtype=torch.long) for line in lines]

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        item = super().__getitem__(index)
        if self.with_mask:
            item["keypoint_mask"] = torch.from_numpy(self.clips.keypoints(index)[1])
        if self.anchor_labels is not None:
            item["anchor_labels"] = self.anchor_labels[index]
        return item


class BaselineCollator(TranslationCollator):
    """Pads items of `BaselineDataset` into a batch of a baseline's `forward`."""

    def __call__(self, items: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        batch = super().__call__(items)
        for name, padding in (("keypoint_mask", False), ("anchor_labels", -100)):
            if name in items[0]:
                batch[name], _ = pad([item[name] for item in items], padding, self.multiple)
        return batch


def _translate(model: Any, tokenizer: Any, clips: Clips, decoding: dict, chosen: Iterable[int] | None = None) -> list[str]:
    chosen = range(len(clips)) if chosen is None else chosen
    return translate_inputs(model, tokenizer, [clips.keypoints(index)[0] for index in chosen], **decoding)


def _device(fields: dict) -> str:
    return "cpu" if fields.get("use_cpu", True) or not torch.cuda.is_available() else "cuda"


def _code_version() -> str:
    """A string that changes with the code of the baselines too."""
    sources = "".join(inspect.getsource(module) for module in (frame_translator, joint_slt, conslt, glofe))
    return code_version(SignToText) + hashlib.sha256(sources.encode()).hexdigest()[:16]
