"""Trains the production baselines as `TextToSign` is trained, and scores what they sign by the same panel.

They have the sizes, steps, batch and schedule of experiments/signing.py's systems: those of phoenix_rendered_text_to_sign.yaml. NSLP-G's
autoencoder of frames is to it what a SignMAE is to `TextToSign`: it is trained once, for as many steps, before the seeds.
"""

import dataclasses
import hashlib
import inspect
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from experiments import signing, translation
from experiments.baselines import frame_signing, nslpg, progressive_transformer
from experiments.baselines.nslpg import NSLPG, SpatialVAE, SpatialVAEConfig
from experiments.baselines.progressive_transformer import ProgressiveTransformer, ProgressiveTransformerConfig
from experiments.pretraining import names as names_of_files
from experiments.readers import code_version, rate_that_is_best
from experiments.workplace import Workplace
from modeling_unigloR import KeypointProcessor, SignMAEDecoderModel, TextToSign
from modeling_unigloR.modeling_text_to_sign import segments_end_to_end
from train.data.clips import Clips, pad
from train.data.segments import SegmentDataset
from train.engine.arguments import TextToSignTrainingArguments, read_fields
from train.engine.checkpoints import checkpoints
from train.engine.loading import load_model, load_processor
from train.engine.runs import prepare, run
from train.engine.trainers import SegmentTrainer, TranslationTrainer
from train.evaluation.tables import without_nan
from train.evaluation.text_to_sign import (
    REAL,
    SYSTEM,
    compare_lengths,
    floor_clips,
    keypoints_of,
    load_readers,
    pose_and_motion,
    rows_and_panel,
    sign,
)
from train.evaluation.verdicts import verdict_of_rows
from train.metrics import production
from train.metrics.text_floors import share_verbatim
from train.pretrain import mean_pose
from train.train_text_to_sign import TextToSignArguments, make_tokenizer

NAMES = ("progressive_transformer", "progressive_transformer_gloss", "nslpg")
GLOSS = "_gloss"  # at the end of a name: the source is the corpus's glosses, in training and in the test
WEIGHTS = ("none", "fixed", "adaptive")
MODELS = {"progressive_transformer": ProgressiveTransformer, "nslpg": NSLPG}
CONFIG = "phoenix_rendered_text_to_sign.yaml"
VAE_RATE = 1e-3  # of NSLP-G's autoencoder, as a SignMAE's
VAE_SEGMENTS = 4  # of a clip and epoch, for the autoencoder
CALIBRATING_CLIPS = 2000  # whose latents' scale is taken
SAVE_STEPS = 250  # a training that is killed loses at most so many
REFERENCE = "system, length=reference"
ORACLE = "ceiling: oracle latents"


def reports(
    place: Workplace,
    files: dict[str, Path],
    name: str,
    sizes: dict,
    sign_mae: Path,
    judges: list[Path],
    weights: str = "none",
) -> tuple[list[dict], float, dict]:
    """Trains a baseline, and scores what it signs.

    Args:
        place: where pieces are kept; each is made once.
        files: {"train", "validation", "test"}: Parquet files with keypoints, text and, for a name with "_gloss" and for the choice of the
            rate, glosses.
        name: of `NAMES`, or "nslpg_gloss".
        sizes: `rates`, `seeds`, `steps` and `model` of experiments/signing.py's SIZES; fields of `model` that a baseline lacks are left.
        sign_mae: folder of the SignMAE, for the processor and the windows of the panel.
        judges: folders of frame-level readers.
        weights: of the reconstruction by part (Tab 5b).

    Returns:
        A report of each seed, as `evaluate_text_to_sign` makes them: without `latents`, and with oracle latents of NSLP-G only, which are
            those of its own autoencoder. Lengths are compared in segments, as there.
        The learning rate with the best LCS-F on held-out training sentences, by a reader of glosses that no table uses;
            found without weights and kept with them, so that what differs between rows of Tab 5b are the weights alone.
        {"parameters", "steps", "seconds"} of a training, the mean of the seeds; of NSLP-G also "vae_seconds".
    """
    if name.removesuffix(GLOSS) not in MODELS or weights not in WEIGHTS:
        raise ValueError(f"Found name={name!r}, weights={weights!r}, expected one of {', '.join(NAMES)}, and of {', '.join(WEIGHTS)}.")
    producer = Producer(place, files, name, sizes, sign_mae, weights)
    producer.check()
    rate = rate_that_is_best(sizes["rates"], dataclasses.replace(producer, weights="none").score_of_rate)
    pieces = [producer.report(judges, rate, seed) for seed in range(sizes["seeds"])]
    facts = {fact: float(np.mean([piece["facts"][fact] for piece in pieces])) for fact in pieces[0]["facts"]}
    facts |= {fact: int(facts[fact]) for fact in ("parameters", "steps")}
    return [piece["report"] for piece in pieces], rate, facts


@dataclass
class Producer:
    """Models of one baseline with one weighting, one for each learning rate and seed."""

    place: Workplace
    files: dict[str, Path]
    name: str
    sizes: dict
    sign_mae: Path
    weights: str

    def check(self) -> None:
        """Raises `ValueError` where clips lack glosses that are needed, before anything is trained."""
        processor = load_processor(str(self.sign_mae), "sign_mae")
        for part in ("train", "validation", "test"):
            clips = translation.clips_of(self.files[part], processor)
            self.sources(clips)
            if len(self.sizes["rates"]) > 1 and part != "test" and not all(clips.glosses):
                raise ValueError(
                    f"{self.files[part].name} has clips without glosses, by which the learning rate is chosen. Give a single rate, or a "
                    "corpus with glosses."
                )

    def score_of_rate(self, rate: float) -> float:
        """LCS-F on the held-out training sentences, of the first seed, by a reader of every second training clip."""

        def make():
            model, tokenizer, processor = load(self.trained(rate, 0))
            held_out, train = (translation.clips_of(self.files[part], processor) for part in ("validation", "train"))
            return signing.held_out_lcs(sign(model, tokenizer, self.sources(held_out)), held_out, train)

        return self.place.once(self.place.path("producer-rate", *self._facts(rate, 0)), make)

    def report(self, judges: list[Path], rate: float, seed: int) -> dict:
        """{"report", "facts"} of a training; see `reports`."""

        def make():
            folder = self.trained(rate, seed)
            model, tokenizer, processor = load(folder)
            test, train = (translation.clips_of(self.files[part], processor) for part in ("test", "train"))
            readers = load_readers([str(path) for path in judges], "cpu")
            common = self._common(judges, processor, test, train, readers)
            report = evaluate(model, tokenizer, processor, self.sources(test), test, train, readers, self._panel(), common)
            facts = {"parameters": sum(parameter.numel() for parameter in model.parameters()), **compute_of(folder)}
            facts |= {"vae_seconds": compute_of(self.vae_folder(processor))["seconds"]} if isinstance(model, NSLPG) else {}
            for _, checkpoint in checkpoints(folder):  # the model itself stays, for figures of what it signs
                shutil.rmtree(checkpoint)
            return plain({"report": report, "facts": facts})

        return self.place.once(self.place.path("producer", *self._facts(rate, seed), self._names(judges)), make)

    def trained(self, rate: float, seed: int) -> Path:
        """The folder of a trained model, its tokenizer and its processor. A training that was killed goes on from its last checkpoint."""
        folder = self.place.path("producer-model", *self._facts(rate, seed))
        if not (folder / "report.json").exists():
            train(self, folder, rate, seed)
        return folder

    def sources(self, clips: Clips) -> list[str]:
        """What the model reads of each clip.

        Raises:
            ValueError: a clip without glosses, where these are the source.
        """
        if not self.name.endswith(GLOSS):
            return clips.texts
        without = [name for name, glosses in zip(clips.ids, clips.glosses) if not (glosses or "").strip()]
        if without:
            raise ValueError(
                f"{self.name} signs glosses, but {len(without)} of {len(clips)} clips have none, the first {without[0]!r}. Give a corpus "
                f"with a gloss for each clip, or train {self.name.removesuffix(GLOSS)}, which signs texts."
            )
        return clips.glosses

    def fields(self, kind: type) -> dict[str, Any]:
        """Those of the settings that a configuration or the training arguments declare, with the sizes over them."""
        declared = {field.name for field in dataclasses.fields(kind)}
        settings = dict(read_fields([CONFIG], CONFIG)) | self.sizes["model"]
        if isinstance(settings["max_segments"], int):  # and not "auto"
            settings.setdefault("max_frames", settings["max_segments"] * SpatialVAEConfig.window_size)  # as long as TextToSign's clips
        return {name: value for name, value in settings.items() if name in declared}

    def _common(self, judges, processor, test, train, readers):
        """Rows and panel of real clips and floors, which are the same for all baselines."""

        def make():
            real, _ = keypoints_of(test)
            floors = floor_clips(real, test.texts, *keypoints_of(train), train.texts, processor.layout)
            systems = {REAL: real} | {name: draws[0] for name, draws in floors.items()}
            again = {name: draws[1] for name, draws in floors.items() if len(draws) > 1}
            _, rows, panel, _ = rows_and_panel(systems, again, test, train, readers, *self._panel())
            return plain({"rows": rows, "panel": panel})

        facts = code_version(), names_of_files(self.files.values()), self.sign_mae.name, self._names(judges)
        return self.place.once(self.place.path("producer-floors", *facts), make)

    def _panel(self):
        """The SignMAE's configuration and the points that it knows: what the panel cuts windows by, and what it scores."""
        sign_mae = load_model(str(self.sign_mae), SignMAEDecoderModel, "sign_mae")
        return sign_mae.config, sign_mae.keypoint_presence.bool().numpy()

    def vae_folder(self, processor: KeypointProcessor) -> Path:
        """The folder of NSLP-G's autoencoder, which all seeds and rates share."""
        facts = baselines_version(), names_of_files([self.files["train"]]), self.sign_mae.name, self.sizes["steps"], self.weights
        folder = self.place.path("spatial-vae", *facts)
        if not (folder / "report.json").exists():
            train_vae(self, folder, processor)
        return folder

    def _facts(self, rate, seed):
        sizes = self.sizes["steps"], self.sizes["model"]
        return baselines_version(), names_of_files(self.files.values()), self.sign_mae.name, *sizes, self.name, self.weights, rate, seed

    @staticmethod
    def _names(judges):
        return [f"{path.parent.name}/{path.name}" for path in judges]


def baselines_version() -> str:
    """As `code_version`, and it changes with the code of these baselines too."""
    sources = "".join(inspect.getsource(module) for module in (frame_signing, progressive_transformer, nslpg))
    return code_version(TextToSign) + hashlib.sha256(sources.encode()).hexdigest()[:16]


# --- Training ---------------------------------------------------------------------------------------------------------------------


class FramesDataset(Dataset):
    """A source and a clip in each item: `input_ids` (L,), `keypoints` (T, K, C) and `keypoint_mask` (T, K).

    Args:
        clips: `Clips`.
        sources: a text, or a line of glosses, for each.
        tokenizer: its special tokens are added.
        max_frames: of the model; a longer clip is refused.
    """

    def __init__(self, clips: Clips, sources: Sequence[str], tokenizer: PreTrainedTokenizerBase, max_frames: int) -> None:
        longest = int(clips.num_frames.argmax())
        if clips.num_frames[longest] > max_frames:
            raise ValueError(
                f"Clip {clips.ids[longest]!r} has {clips.num_frames[longest]} frames, but the model has max_frames={max_frames}. Leave the "
                "clip out, or raise max_frames."
            )
        self.clips, self.lengths = clips, clips.num_frames  # lengths: for batches of like length
        self.input_ids = [torch.tensor(ids) for ids in tokenizer(list(sources)).input_ids]

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        keypoints, mask = self.clips.keypoints(index)
        return {
            "input_ids": self.input_ids[index],
            "keypoints": torch.from_numpy(keypoints),
            "keypoint_mask": torch.from_numpy(mask).to(torch.float32),
        }


def collate(items: list[dict[str, torch.Tensor]], pad_token_id: int = 0) -> dict[str, torch.Tensor]:
    """Pads items of `FramesDataset` into a batch of the models' `forward`."""
    input_ids, attention_mask = pad([item["input_ids"] for item in items], pad_token_id)
    keypoints, frame_mask = pad([item["keypoints"] for item in items])
    keypoint_mask, _ = pad([item["keypoint_mask"] for item in items])
    source = {"input_ids": input_ids, "attention_mask": attention_mask}
    return source | {"keypoints": keypoints, "keypoint_mask": keypoint_mask, "frame_mask": frame_mask}


class Checkpoint:
    """What `run` saves in the place of a pipeline: a model and what reads and makes its inputs."""

    def __init__(self, **parts: Any) -> None:
        self.parts = parts

    def save_pretrained(self, folder: Path) -> None:
        for part in self.parts.values():
            part.save_pretrained(folder)


def train(producer: Producer, folder: Path, rate: float, seed: int) -> dict:
    """Trains a baseline into a folder by the trainer of the text tasks; what it returns is report.json's."""
    processor = load_processor(str(producer.sign_mae), "sign_mae")
    if producer.name.removesuffix(GLOSS) == "nslpg":
        producer.vae_folder(processor)  # before the seed is set: its training draws random numbers
    data, args = _arguments(producer, folder, rate, seed)
    prepare(args, data)
    clips = translation.clips_of(producer.files["train"], processor)
    sources = producer.sources(clips)
    tokenizer = make_tokenizer(data, sources)
    model = make_model(producer, clips, processor, tokenizer)
    trainer = TranslationTrainer(
        model=model,
        args=args,
        train_dataset=FramesDataset(clips, sources, tokenizer, model.config.max_frames),
        data_collator=partial(collate, pad_token_id=tokenizer.pad_token_id),
        processing_class=tokenizer,
    )
    parts = {"model": model, "tokenizer": tokenizer, "feature_extractor": processor}
    return run(trainer, Checkpoint, parts, data.datasets, clips, None, data, source="glosses" if sources is clips.glosses else "texts")


def make_model(producer: Producer, clips: Clips, processor: KeypointProcessor, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """The untrained model, which knows the mean training frame."""
    model_class = MODELS[producer.name.removesuffix(GLOSS)]
    fields = producer.fields(model_class.config_class)
    ids = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    ids |= {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    fields["text_config"] = fields["text_config"] | ids
    if model_class is NSLPG:
        vae = SpatialVAE.from_pretrained(producer.vae_folder(processor)).eval()
        return NSLPG.from_parts(vae, latent_scale(vae, clips), **fields)
    layout = {"layout": processor.layout, "num_channels": processor.num_channels, "keypoint_weighting": producer.weights}
    model = ProgressiveTransformer(ProgressiveTransformerConfig(**fields | layout))
    model.set_statistics(*frame_statistics(clips), counter_step=float((1 / clips.num_frames).mean()))
    return model


def train_vae(producer: Producer, folder: Path, processor: KeypointProcessor) -> dict:
    """Trains NSLP-G's autoencoder on random segments, as a SignMAE is pretrained."""
    data, args = _arguments(producer, folder, VAE_RATE, 0)
    prepare(args, data)
    clips = translation.clips_of(producer.files["train"], processor)
    layout = {"layout": processor.layout, "num_channels": processor.num_channels, "keypoint_weighting": producer.weights}
    model = SpatialVAE(SpatialVAEConfig(**layout))
    model.set_statistics(*frame_statistics(clips))
    segments = SegmentDataset(clips.stores, model.config.window_size, segments_per_clip=VAE_SEGMENTS, seed=args.seed)
    trainer = SegmentTrainer(model=model, args=args, train_dataset=segments, processing_class=processor)
    return run(trainer, Checkpoint, {"model": model, "feature_extractor": processor}, data.datasets, clips, None, data)


def frame_statistics(clips: Clips) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean frame (K, C) of where each point is seen, and the share of frames that show it (K,)."""
    seen = sum(np.asarray(store.keypoint_mask).sum(0) for store in clips.stores)
    return torch.from_numpy(mean_pose(clips.stores)), torch.from_numpy(seen / clips.num_frames.sum())


@torch.no_grad()
def latent_scale(vae: SpatialVAE, clips: Clips) -> float:
    """The root of the mean variance of the latents of training frames."""
    chosen = range(0, len(clips), -(-len(clips) // CALIBRATING_CLIPS))
    latents = torch.cat([vae.distribution(torch.from_numpy(clips.keypoints(index)[0]))[0] for index in chosen])
    return float(latents.var(0).mean().sqrt())


def _arguments(producer, folder, rate, seed):
    data = TextToSignArguments(datasets=[str(producer.files["train"])], validation=[])
    data.check_entries()
    steps = producer.sizes["steps"]
    fields = producer.fields(TextToSignTrainingArguments) | {"output_dir": str(folder), "learning_rate": rate, "seed": seed}
    fields |= {"max_steps": steps, "save_steps": min(SAVE_STEPS, steps), "eval_strategy": "no", "load_best_model_at_end": False}
    return data, TextToSignTrainingArguments(**fields | {"resume_from_checkpoint": True})


# --- Scoring ----------------------------------------------------------------------------------------------------------------------


def load(folder: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, KeypointProcessor]:
    """The model of a folder in eval mode, its tokenizer and its processor."""
    model_type = json.loads((folder / "config.json").read_text())["model_type"]
    model = MODELS[model_type].from_pretrained(folder).eval()
    return model, AutoTokenizer.from_pretrained(folder), load_processor(str(folder), "baseline")


def evaluate(model, tokenizer, processor, sources, clips, train, judges, panel_facts, common) -> dict:
    """The report of `evaluate_text_to_sign` for a model that signs frames.

    Args:
        sources: what the model reads of each of `clips`, whose texts the judges' are compared with.
        judges: list of (model, tokenizer).
        panel_facts: see `Producer._panel`. common: see `Producer._common`.
    """
    config, presence = panel_facts
    real, masks = keypoints_of(clips)
    num_frames = torch.tensor([len(clip) for clip in real])
    generated = sign(model, tokenizer, sources)
    with_length = sign(model, tokenizer, sources, num_frames=num_frames.clamp_max(model.config.max_frames))
    systems = {SYSTEM: generated, REFERENCE: with_length}
    if isinstance(model, NSLPG):
        systems[ORACLE] = [through_vae(model.vae, clip) for clip in real]
    texts, rows, panel, power = rows_and_panel(systems, {SYSTEM: generated}, clips, train, judges, config, presence)
    order = [SYSTEM, REFERENCE, REAL, ORACLE]
    rows, panel = rows | common["rows"], panel | common["panel"]
    rows, panel = ({name: made[name] for name in [*order, *made] if name in made} for made in (rows, panel))
    made = {"predicted": generated, "reference": with_length} | ({"oracle": systems[ORACLE]} if ORACLE in systems else {})
    pose, motion = pose_and_motion(made, real, masks, config, presence)
    lengths = [segments_end_to_end(counts, config.window_size, "hold") for counts in (_lengths(generated), num_frames)]
    return {
        "rows": rows,
        "verdict": verdict_of_rows(rows),
        "num_scored": len(clips),
        "judges": len(judges),
        "panel": panel,
        "reader": power,
        "pose": pose,
        "motion": motion,
        "lengths": compare_lengths(*(counts.numpy() for counts in lengths)),
        "share_verbatim": share_verbatim(texts[SYSTEM][0], train.texts),
        "signature": production.signature(processor.layout, processor.fps, processor.normalize),
    }


@torch.no_grad()
def through_vae(vae: SpatialVAE, keypoints: np.ndarray) -> np.ndarray:
    """A clip given back frame by frame from its mean latents: (T, K, C) -> (T, K, C)."""
    frames = vae.decode(vae.distribution(torch.from_numpy(keypoints).to(vae.device))[0])
    return frame_signing.place_unseen(frames, vae.keypoint_presence, vae.config.layout).cpu().numpy()


def compute_of(folder: Path) -> dict[str, float]:
    """Steps and seconds of a training, by its report.json."""
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    return {"steps": report["steps"], "seconds": 3600 * report["compute"]["hours"]}


def plain(content: dict) -> dict:
    """As JSON gives it back."""
    return json.loads(json.dumps(without_nan(content), default=float))


def _lengths(clips):
    return torch.tensor([len(clip) for clip in clips])
