"""What a checkpoint scores when its keypoints are worse than those it was trained on, or come from somebody or something else.

Run by `python -m train.evaluate_checkpoint --robustness --task sign-to-text --checkpoint DIR --datasets D`.

Each row changes the same clips in one respect and reads them as any data set is read, from a file of canonical rows. Of a corpus that
already lacks what a row takes away, the row changes little: see what the corpus looks like before it is called robust.

Shapes: T frames, K keypoints, C channels.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from datasets.arrow_writer import ParquetWriter

from datasets_scripts.schema import features
from modeling_unigloR.keypoints_uniglor import get_layout, source_table
from train.data.augmentation import KeypointAugmentation
from train.data.clips import Clips, LabelledClips
from train.evaluation.recognition import recognise
from train.evaluation.translation import translate
from train.metrics.recognition import recognition_scores
from train.metrics.text import text_scores

NOISE = 0.02  # shoulder lengths in each frame, about four times that of a good estimator
LOST_RATE, LOST_FRAMES = 0.02, 8.0  # bursts in which a hand is lost: how likely one begins in a frame, and how long it lasts on average
CROP = 0.9  # shoulder lengths to either side of the neck and below it, that a cropped picture shows
CANVAS, PIXELS = 1000, 100.0  # rows stand in a square picture, the neck in its middle, so many pixels a shoulder length
FAMILIES = ("slt", "rouge_l", "error_rates")
COLUMNS = {"sign-to-text": ("bleu4", "rouge_l", "wer"), "sign-recognition": ("top1", "top5")}

# Changes: keypoints (T, K, C) in shoulder lengths, seen (T, K), fps -> keypoints, seen, fps, layout that another camera would have given


def with_noise(keypoints, seen, fps, processor, rng, size=NOISE):
    """Every point trembles in every frame."""
    tremble = KeypointAugmentation(speed=(1, 1), rotation=0, stretch=(1, 1), noise=size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(2**31)))
        return tremble(torch.from_numpy(keypoints)).numpy(), seen, fps, processor.layout


def with_lost_hands(keypoints, seen, fps, processor, rng):
    """Each hand is lost in bursts, in about one frame of seven."""
    seen = seen.copy()
    for part in ("left_hand", "right_hand"):
        for start in np.flatnonzero(rng.random(len(seen)) < LOST_RATE):
            seen[start : start + rng.geometric(1 / LOST_FRAMES), get_layout(processor.layout).parts[part]] = False
    return keypoints, seen, fps, processor.layout


def at_half_the_rate(keypoints, seen, fps, processor, rng):
    """Keeps every second frame alone."""
    return keypoints[::2], seen[::2], fps and fps / 2, processor.layout


def from_a_cropped_picture(keypoints, seen, fps, processor, rng):
    """Points that are far to the side or low lie outside the picture, and were not seen."""
    inside = (np.abs(keypoints[..., 0]) < CROP) & (keypoints[..., 1] < CROP)
    return keypoints, seen & inside, fps, processor.layout


def by_another_estimator(keypoints, seen, fps, processor, rng):
    """MediaPipe's pose and hands, without a face: the points that it has, as far as the model's layout tells them."""
    table = source_table("mediapipe75", 75, processor.layout)
    points, shown = np.zeros((len(keypoints), 75, keypoints.shape[2]), keypoints.dtype), np.zeros((len(keypoints), 75), bool)
    for target, sources in enumerate(table):
        if len(sources) == 1:  # means of several, such as the neck, follow from their points
            points[:, sources[0]], shown[:, sources[0]] = keypoints[:, target], seen[:, target]
    return points, shown, fps, "mediapipe75"


def by_the_other_hand(keypoints, seen, fps, processor, rng):
    """The mirror image: a left-handed signer."""
    return *processor.mirror(keypoints, seen), fps, processor.layout


def unchanged(keypoints, seen, fps, processor, rng):
    return keypoints, seen, fps, processor.layout


CHANGES: dict[str, Callable] = {
    "as they are": unchanged,
    f"noise of {NOISE:g} shoulder lengths": with_noise,
    "hands lost in bursts": with_lost_hands,
    "half the frame rate": at_half_the_rate,
    "cropped picture": from_a_cropped_picture,
    "another estimator: MediaPipe without a face": by_another_estimator,
    "mirrored signer": by_the_other_hand,
}


def robustness(task: str, pipe, clips: Clips, batch_size: int = 32, seed: int = 0) -> dict[str, dict[str, float]]:
    """Scores of the same clips, changed in one respect each.

    Args:
        task: "sign-to-text" or "sign-recognition".
        pipe: its pipeline.
        clips: `Clips`, or `LabelledClips` of a recognition.

    Returns:
        {name of a change: scores}; the first is of clips that are unchanged.
    """
    if task not in COLUMNS:
        raise ValueError(f"found --task {task}, expected {' or '.join(COLUMNS)}: only what reads keypoints can be robust to theirs")
    rows = {}
    for name, change in CHANGES.items():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "clips.parquet"
            write_changed(path, clips, change, pipe.feature_extractor, seed)
            clips_class = LabelledClips if task == "sign-recognition" else Clips
            changed = clips_class([str(path)], "train", pipe.feature_extractor, Path(folder) / "frames")
            rows[name] = _scores(task, pipe, changed, batch_size, Path(folder) / "frames") | {"num_scored": len(clips)}
            del changed
    return rows


def write_changed(path: Path, clips: Clips, change: Callable, processor, seed: int = 0) -> None:
    """Canonical rows of changed clips; a clip of which nothing is left stays as it was."""
    rng, writer = np.random.default_rng(seed), None
    for index, name in enumerate(clips.ids):
        clean = clips.keypoints(index)
        keypoints, seen, fps, layout = change(*clean, processor.fps, processor, rng)
        shoulders = [get_layout(processor.layout).names.index(point) for point in get_layout(processor.layout).scale]
        if layout == processor.layout and not seen[:, shoulders].all(1).any():
            keypoints, seen, fps = *clean, processor.fps
        places = np.where(seen[..., None], keypoints * PIXELS, 0)
        places[..., :2] += np.where(seen[..., None], CANVAS / 2, 0)
        if writer is None:
            writer = ParquetWriter(path=str(path), features=features(*places.shape[1:]), writer_batch_size=100)
        label = clips.labels[index]
        writer.write(
            dict(
                id=name, keypoints=places.astype(np.float32), confidence=seen.astype(np.float32), layout=layout, fps=fps, width=CANVAS,
                height=CANVAS, text=clips.texts[index], gloss=clips.glosses[index], label=None if label is None else int(label),
                signer=None, language=clips.languages[index] or "und",
            )
        )  # fmt: skip
    writer.finalize()
    writer.close()


def _scores(task, pipe, clips, batch_size, cache_dir):
    if task == "sign-recognition":
        return recognition_scores(recognise(pipe.model, clips, batch_size, cache_dir), clips.labels)
    predictions = translate(pipe.model, pipe.tokenizer, clips, batch_size, cache_dir)
    return text_scores(predictions, clips.texts, families=FAMILIES)
