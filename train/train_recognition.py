"""Trains a SignRecognition on canonical data sets whose rows have a label.

    accelerate launch train/train_recognition.py --sign_mae outputs/sign-mae --datasets data/ksl_guide --output_dir OUT
    ... --sign_encoder frames                                         # every frame's keypoints: what the segments are compared with
    ... --cache_latents false --augmentation {}                       # other speeds and views in every epoch

Writes one folder, model and keypoint processor, that `pipeline("sign-recognition", model=DIR)` loads.
"""

import hashlib
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset
from tqdm import tqdm
from transformers import AutoConfig, EarlyStoppingCallback, set_seed
from transformers.utils import logging

from modeling_unigloR import KeypointProcessor, SignMAEConfig, SignMAEEncoderModel, SignRecognition, SignRecognitionConfig
from modeling_unigloR.pipelines_uniglor import SignRecognitionPipeline
from train.arguments import UniGloRTrainingArguments, distribute, print_help, read_fields
from train.augmentation import KeypointAugmentation
from train.clips import Clips, LatentStore, TranslationCollator, pad
from train.metrics.recognition import confusion_matrix, nearest_class_mean, recognition_scores, top1_interval
from train.pretrain import last_checkpoint
from train.segments import describe, load_rows
from train.train_sign_to_text import make_processor
from train.trainers import RecognitionTrainer

logger = logging.get_logger(__name__)

NUM_PREDICTED = 10  # labels of each clip that an evaluation gives, as many as its largest top-k counts


@dataclass
class RecognitionArguments:
    """What to recognise, and with what.

    Attributes:
        datasets: entries of `segments.load_rows`; their rows have a label, and its name as gloss or, without one, as text.
        validation: the same, for early stopping on top-1; none is fine.
        sign_mae: checkpoint of a SignMAE; with sign_encoder="frames", only its processor and layout are used, and it may be left out.
        cache_latents: latents are computed once; false encodes anew in every step, for an augmentation or a SignMAE that is trained.
        augmentation: fields of `KeypointAugmentation`; needs cache_latents false, or sign_encoder="frames".
        frames_dir: where processed frames and latents are kept; by default in the cache of `datasets`.
    """

    datasets: list = field(default_factory=list)
    validation: list = field(default_factory=list)
    sign_mae: str | None = None
    cache_latents: bool = True
    augmentation: dict | None = None
    frames_dir: str | None = None


@dataclass
class RecognitionTrainingArguments(UniGloRTrainingArguments):
    """The paper's optimiser; the model that recognised best is kept."""

    num_train_epochs: float = 75  # ours, as sign-to-text; the paper does not say
    load_best_model_at_end: bool | None = True
    metric_for_best_model: str | None = "top1"
    early_stopping_patience: int | None = 10  # ours: evaluations without a better score; none trains to the end

    def __post_init__(self):
        super().__post_init__()
        self.greater_is_better = not self.metric_for_best_model.endswith("loss")


OWNERS = {
    "data": RecognitionArguments,
    "model": SignRecognitionConfig,
    "processor": KeypointProcessor,
    "training": RecognitionTrainingArguments,
}


def parse(argv, default_config="paper_recognition.yaml"):
    """-> RecognitionArguments, fields of SignRecognitionConfig, fields of KeypointProcessor, RecognitionTrainingArguments."""
    shares = distribute(read_fields(argv, default_config), OWNERS)
    data = RecognitionArguments(**shares["data"])
    data.datasets, data.validation = ([entry] if isinstance(entry, (str, dict)) else entry for entry in (data.datasets, data.validation))
    if not data.datasets:
        raise ValueError("No data set to train on. Give `datasets:` in the config or --datasets PATH ...")
    frames = shares["model"].get("sign_encoder") == "frames"
    if data.sign_mae is None and not frames:
        raise ValueError(
            "No SignMAE to read the signing with. Give --sign_mae DIR (train/pretrain.py makes one), or --sign_encoder frames."
        )
    frozen = shares["model"].get("freeze_sign_mae", True)
    if data.cache_latents and not frames and (data.augmentation is not None or not frozen):
        raise ValueError("An augmentation, or a SignMAE that is trained, changes the latents in every step: give --cache_latents false.")
    if not data.validation:
        shares["training"] |= {"eval_strategy": "no", "load_best_model_at_end": False}
    return data, shares["model"], shares["processor"], RecognitionTrainingArguments(**shares["training"])


def main(argv=None):
    argv = sys.argv[1:] if argv is None else argv
    if "--help" in argv or "-h" in argv:
        return print_help(__doc__, OWNERS)
    data, model_fields, processor_fields, args = parse(argv)
    set_seed(args.seed)
    sign_mae = load_sign_mae(data.sign_mae) if data.sign_mae is not None else None
    processor = make_processor(data.sign_mae, processor_fields)
    with args.main_process_first(desc="processing clips"):
        clips = LabelledClips(data.datasets, "train", processor, data.frames_dir)
        validation = LabelledClips(data.validation, "validation", processor, data.frames_dir) if data.validation else None
        model = make_model(sign_mae, model_fields, processor, clips.label_names())
        for some in (clips, validation):
            if some is not None:
                some.check_labels(model.config.id2label)
        train_set, validation_set = (make_dataset(some, data, model) for some in (clips, validation))
    trainer = RecognitionTrainer(
        model=model,
        args=args,
        train_dataset=train_set,
        eval_dataset=validation_set,
        data_collator=RecognitionCollator(KeypointAugmentation(**data.augmentation) if data.augmentation is not None else None),
        processing_class=processor,
        callbacks=[EarlyStoppingCallback(args.early_stopping_patience)]
        if args.early_stopping_patience and validation is not None
        else None,
    )
    trainer.train(resume_from_checkpoint=last_checkpoint(args))
    report = {"num_train_clips": len(clips), "num_validation_clips": len(validation or ()), "num_labels": model.config.num_labels}
    report["steps"] = trainer.state.global_step
    if validation is not None:
        scores = trainer.evaluate()
        report["validation"] = {name: value for name, value in scores.items() if not name.endswith(("runtime", "second"))}
    if trainer.is_world_process_zero():
        pipeline = SignRecognitionPipeline(model=model, feature_extractor=processor)
        pipeline.save_pretrained(args.output_dir)
        Path(args.output_dir, "report.json").write_text(json.dumps(report, indent=2) + "\n")
        if args.push_to_hub:
            pipeline.push_to_hub(args.hub_model_id or Path(args.output_dir).name, private=args.hub_private_repo, token=args.hub_token)
    trainer.accelerator.wait_for_everyone()
    return report


def load_sign_mae(folder):
    kind = AutoConfig.from_pretrained(folder).model_type
    if kind != "sign_mae":
        raise ValueError(
            f"--sign_mae {folder!r} holds a model of type {kind!r}, expected 'sign_mae': a folder that train/pretrain.py wrote."
        )
    return SignMAEEncoderModel.from_pretrained(folder)


def make_model(sign_mae, fields, processor, id2label):
    if sign_mae is None:
        sign_mae = SignMAEEncoderModel(SignMAEConfig(layout=processor.layout, num_channels=processor.num_channels))
    return SignRecognition.from_parts(sign_mae, id2label, **fields)


def make_dataset(clips, data, model):
    if clips is None:
        return None
    latents = None
    if data.cache_latents and model.config.sign_encoder == "segments":
        latents = LatentStore.build(clips, model.sign_mae, model.config.stride, data.frames_dir)
    return RecognitionDataset(clips, latents)


# --- Data -------------------------------------------------------------------------------------------------------------------------


class LabelledClips(Clips):
    """`Clips` whose rows have a label.

    Attributes:
        labels: (clips,) int64.
        names: of each clip's label, its gloss or else its text; None where it has neither.
    """

    def __init__(self, specs, split, processor, frames_dir=None):
        super().__init__(specs, split, processor, frames_dir, needs_text=False)
        self.specs, labels = specs, []
        for spec, store in zip(specs, self.stores):
            rows = load_rows(spec, split)
            if "label" not in rows.column_names:
                raise ValueError(f"Data set {describe(spec)!r} has no column 'label', only {rows.column_names}.")
            label_of = {str(row["id"]): row["label"] for row in rows.select_columns(["id", "label"])}
            for name in map(str, store.ids):
                if label_of[name] is None:
                    raise ValueError(f"Data set {describe(spec)!r}: clip {name!r} has no label. Remove it, or give it one.")
                labels.append(label_of[name])
        self.labels = np.array(labels, np.int64)
        self.names = [gloss or text or None for gloss, text in zip(self.glosses, self.texts)]

    def label_names(self):
        """{label: name} of 0 to the largest label; one without a name, or without a clip, is called LABEL_n.

        Raises:
            ValueError: a negative label, or a label with two names.
        """
        if self.labels.min() < 0:
            raise ValueError(
                f"{self._said}: clip {self.ids[self.labels.argmin()]!r} has the label {self.labels.min()}, expected at least 0."
            )
        found = {}
        for name, label, called in zip(self.ids, self.labels.tolist(), self.names):
            if called is not None and found.setdefault(label, called) != called:
                raise ValueError(
                    f"{self._said}: label {label} is called {found[label]!r}, but clip {name!r} calls it {called!r}. Expected one name "
                    "(gloss, or text) for each label."
                )
        return {label: found.get(label, f"LABEL_{label}") for label in range(int(self.labels.max()) + 1)}

    def check_labels(self, id2label):
        """Raises `ValueError` where a clip's label is not in a model's label map, or is called otherwise there."""
        for name, label, called in zip(self.ids, self.labels.tolist(), self.names):
            if label not in id2label:
                raise ValueError(
                    f"{self._said}: clip {name!r} has the label {label} ({called!r}), but the model's head has the labels 0 to "
                    f"{len(id2label) - 1}. Leave the clip out, or train on a data set that has its label."
                )
            if called is not None and id2label[label] not in (called, f"LABEL_{label}"):
                raise ValueError(
                    f"{self._said}: clip {name!r} calls its label {label} {called!r}, but the model's head calls it {id2label[label]!r}: "
                    "the numbers of the labels differ. Number them as in the data set that the model was trained on."
                )

    @property
    def _said(self):
        return f"Data set {', '.join(repr(describe(spec)) for spec in self.specs)}"


class RecognitionDataset(Dataset):
    """A clip and its label in each item: `latents` (S, D) or `keypoints` (T, K, C), `label` int.

    Args:
        clips: `LabelledClips`.
        latents: a `LatentStore`, or None: the items hold keypoints.
    """

    def __init__(self, clips, latents=None):
        self.clips, self.latents = clips, latents

    def __len__(self):
        return len(self.clips)

    @property
    def lengths(self):
        """(clips,) how many inputs a clip gives, for batches of like length."""
        return self.clips.num_frames if self.latents is None else self.latents.lengths

    def __getitem__(self, index):
        label = int(self.clips.labels[index])
        if self.latents is None:
            return {"keypoints": torch.from_numpy(self.clips.keypoints(index)[0]), "label": label}
        return {"latents": torch.from_numpy(self.latents[index]), "label": label}


class RecognitionCollator(TranslationCollator):
    """Pads items of `RecognitionDataset` into a batch of `SignRecognition.forward`; with an augmentation, keypoints are varied first."""

    def __call__(self, items):
        return {**super().__call__(items), "labels": torch.tensor([item["label"] for item in items])}


# --- Scores -----------------------------------------------------------------------------------------------------------------------


def evaluate_recognition(model, clips, train=None, sign_mae=None, batch_size=32, frames_dir=None):
    """Recognises clips and scores it beside the floors.

    Args:
        model: a `SignRecognition`.
        clips: `LabelledClips` that are scored.
        train: `LabelledClips` of its training set; without them there are no floors.
        sign_mae: whose mean latents the floor of class means compares; by default the model's own, where it has one.
        batch_size: clips that are recognised together.
        frames_dir: where latents are kept; by default in the cache of `datasets`.

    Returns:
        report: a dict with `rows` (name of a row -> `recognition_scores`), `interval` of top-1, `confusion`, a matrix as nested lists
            in the order of `labels`, and `ids_sha256`.
        predictions: for each clip the names of its most probable labels, at most ten, the best first.

    Raises:
        ValueError: labels that are not those of the model's head.
    """
    id2label = model.config.id2label
    for some in (clips, train):
        if some is not None:
            some.check_labels(id2label)
    logits = recognise(model, clips, batch_size, frames_dir)
    rows = {"system": recognition_scores(logits, clips.labels)}
    if train is not None:
        counts = np.bincount(train.labels, minlength=model.config.num_labels)
        first = -np.argsort(np.argsort(-counts, kind="stable"))  # a guesser decides: equally frequent labels are no ties
        rows["floor: most frequent labels"] = recognition_scores(np.tile(first, (len(clips), 1)), clips.labels)
        if sign_mae is None and model.config.sign_encoder == "segments":
            sign_mae = model.sign_mae
        if sign_mae is not None:
            means = [mean_latents(some, sign_mae, frames_dir) for some in (train, clips)]
            floor = nearest_class_mean(means[0], train.labels, means[1], model.config.num_labels)
            rows["floor: nearest class mean of mean latents"] = recognition_scores(floor, clips.labels)
    report = {
        "rows": rows,
        "num_scored": len(clips),
        "ids_sha256": hashlib.sha256("\n".join(sorted(clips.ids)).encode()).hexdigest()[:16],
        "interval": top1_interval(logits, clips.labels),
        "labels": [id2label[label] for label in range(model.config.num_labels)],
        "confusion": confusion_matrix(logits, clips.labels).tolist(),
    }
    best = np.argsort(-logits, axis=1, kind="stable")[:, :NUM_PREDICTED]
    return report, [[id2label[label] for label in row] for row in best.tolist()]


@torch.no_grad()
def recognise(model, clips, batch_size=32, frames_dir=None):
    """Logits of `Clips`, in their order: (clips, labels) float32. Clips of like length are recognised together."""
    model.eval()
    segments = model.config.sign_encoder == "segments"
    latents = LatentStore.build(clips, model.sign_mae, model.config.stride, frames_dir) if segments else None
    logits = np.empty((len(clips), model.config.num_labels), np.float32)
    order = np.argsort(clips.num_frames, kind="stable")
    for start in tqdm(range(0, len(order), batch_size), desc="Recognising", unit=f" x {batch_size} clips"):
        chosen = order[start : start + batch_size]
        values = [torch.from_numpy(latents[index] if segments else clips.keypoints(index)[0]) for index in chosen]
        inputs, mask = (tensor.to(model.device) for tensor in pad(values))
        read = {"latents": inputs, "latent_mask": mask} if segments else {"keypoints": inputs, "attention_mask": mask}
        logits[chosen] = model(**read).logits.float().cpu().numpy()
    return logits


def mean_latents(clips, sign_mae, frames_dir=None):
    """(clips, D): the mean of each clip's latents, at the SignMAE's own stride."""
    store = LatentStore.build(clips, sign_mae, sign_mae.config.stride, frames_dir)
    return np.stack([store[index].mean(0) for index in range(len(store))])


if __name__ == "__main__":
    main()
