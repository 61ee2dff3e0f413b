"""Scores a SignRecognition beside the floors that learn next to nothing.

Run by `python -m train.evaluate_checkpoint --task sign-recognition --checkpoint DIR --datasets D --train_datasets D`.
"""

import numpy as np
import torch
from tqdm import tqdm

from train.data.clips import LatentStore, pad
from train.evaluation.verdicts import verdict_of_rows
from train.metrics.recognition import TOPS, confusion_matrix, nearest_class_mean, recognition_scores, top1_interval

NUM_PREDICTED = max(TOPS)  # labels of each clip that an evaluation gives


def evaluate_recognition(model, clips, train=None, sign_mae=None, batch_size=32, cache_dir=None):
    """Recognises clips and scores it beside the floors.

    Args:
        model: a `SignRecognition`.
        clips: `LabelledClips` that are scored.
        train: `LabelledClips` of its training set; without them there are no floors.
        sign_mae: whose mean latents the floor of class means compares; by default the model's own, where it has one.
        batch_size: clips that are recognised together.
        cache_dir: where latents are kept; by default in the cache of `datasets`.

    Returns:
        report: a dict with `rows` (name of a row -> `recognition_scores`), `interval` of top-1, `verdict` in words, and `labels`,
            their names.
        predictions: for each clip the names of its most probable labels, at most ten, the best first.
        confusion: (L, L) ints, see `metrics.recognition.confusion_matrix`, in the order of `labels`.

    Raises:
        ValueError: labels that are not those of the model's head.
    """
    id2label = model.config.id2label
    for labelled_clips in (clips, train):
        if labelled_clips is not None:
            labelled_clips.check_labels(id2label)
    logits = recognise(model, clips, batch_size, cache_dir)
    rows = {"system": recognition_scores(logits, clips.labels)}
    if train is not None:
        rows["floor: most frequent labels"] = most_frequent_floor(train.labels, clips.labels, model.config.num_labels)
        if sign_mae is None and model.config.sign_encoder == "segments":
            sign_mae = model.sign_mae
        if sign_mae is not None:
            means = [mean_latents(labelled_clips, sign_mae, cache_dir) for labelled_clips in (train, clips)]
            floor = nearest_class_mean(means[0], train.labels, means[1], model.config.num_labels)
            rows["floor: nearest class mean of mean latents"] = recognition_scores(floor, clips.labels)
    interval = top1_interval(logits, clips.labels) | {"metric": "top1"}
    report = {
        "rows": rows,
        "num_scored": len(clips),
        "interval": interval,
        "verdict": verdict_of_rows(rows, interval),
        "labels": [id2label[label] for label in range(model.config.num_labels)],
    }
    best = np.argsort(-logits, axis=1, kind="stable")[:, :NUM_PREDICTED]
    predictions = [[id2label[label] for label in row] for row in best.tolist()]
    return report, predictions, confusion_matrix(logits, clips.labels)


def most_frequent_floor(train_labels: np.ndarray, labels: np.ndarray, num_labels: int) -> dict:
    """`recognition_scores` of always giving the most frequent training labels, whatever the clip shows."""
    counts = np.bincount(train_labels, minlength=num_labels)
    first = -np.argsort(np.argsort(-counts, kind="stable"))  # all differ, so that equally frequent labels are no ties
    return recognition_scores(np.tile(first, (len(labels), 1)), labels)


@torch.no_grad()
def recognise(model, clips, batch_size=32, cache_dir=None):
    """Logits of `Clips`, in their order: (clips, labels) float32. Clips of like length are recognised together."""
    model.eval()
    segments = model.config.sign_encoder == "segments"
    latents = LatentStore.build(clips, model.sign_mae, model.config.stride, cache_dir) if segments else None
    logits = np.empty((len(clips), model.config.num_labels), np.float32)
    order = np.argsort(clips.num_frames, kind="stable")
    for start in tqdm(range(0, len(order), batch_size), desc="Recognising", unit=f" x {batch_size} clips"):
        chosen = order[start : start + batch_size]
        values = [torch.from_numpy(latents[index] if segments else clips.keypoints(index)[0]).to(model.dtype) for index in chosen]
        inputs, mask = (tensor.to(model.device) for tensor in pad(values))
        model_inputs = {"latents": inputs, "latent_mask": mask} if segments else {"keypoints": inputs, "attention_mask": mask}
        logits[chosen] = model(**model_inputs).logits.float().cpu().numpy()
    return logits


def mean_latents(clips, sign_mae, cache_dir=None):
    """(clips, D): the mean of each clip's latents, at the SignMAE's own stride."""
    store = LatentStore.build(clips, sign_mae, sign_mae.config.stride, cache_dir)
    return np.stack([store[index].mean(0) for index in range(len(store))])
