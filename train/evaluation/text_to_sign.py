"""Scores generated signing with several judges, beside a ceiling and floors, with pose errors and motion in one table.

Run by `python -m train.evaluate_checkpoint --task text-to-sign --checkpoint DIR --datasets D --judges DIR --train_datasets D`.

Shapes: T frames, K keypoints, C channels.
"""

import numpy as np
import torch
from sacrebleu.metrics import CHRF

from modeling_unigloR import SignMAEConfig, SignMAEEncoderModel, TextToSign
from train.data.clips import Clips, LatentStore
from train.engine.loading import load_model, load_pipeline
from train.evaluation.retrieval import RetrievalSigner
from train.evaluation.translation import translate_inputs
from train.evaluation.verdicts import verdict_of_rows
from train.metrics import production
from train.metrics.gloss_reader import GlossReader
from train.metrics.production import latent_scores
from train.metrics.text import text_scores
from train.metrics.text_floors import share_verbatim
from train.metrics.windows import WindowFeatures

MENDED = 3  # frames on either side of a seam
FAMILIES = ("slt", "rouge_l", "chrf", "error_rates")
SYSTEM, REAL = "system, length=predicted", "ceiling: real keypoints"
PHRASES = "floor: phrases of training clips, stitched"
INTERVALS = (50, 90)  # per cent, of the predicted distribution of lengths
HALVES = "zero: halves of the real clips"
PANEL_COLUMNS = (
    "speed", "motion", "variance_hands", "border_jump", "frechet", "frechet_seams", "frechet_velocity", "path_hands", "extent_hands",
    "hold_hands", "dtw_hands", "dtw_hands_minus_other", "lcs_f", "gloss_wer", "gloss_f1", "order", "bleu4", "diversity",
)  # fmt: skip


def evaluate_text_to_sign(
    model,
    tokenizer,
    processor,
    sign_mae,
    clips,
    train,
    judges,
    final_dot="keep",
    seam_frames=None,
    shared_encoder=None,
    cache_dir=None,
    seed=0,
    best_of=None,
    sampling=None,
):
    """Signs the texts of clips, lets judges read the result, and compares it with the real clips.

    Args:
        model, tokenizer, processor: a `TextToSign`, its tokenizer and its keypoint processor.
        sign_mae: a `SignMAEEncoderModel` of the same SignMAE, for oracle latents.
        clips: `train.data.clips.Clips` whose texts are signed.
        train: `Clips` of the training set, for the floors.
        judges: list of (model, tokenizer) of frame-level readers, none of which chose the model.
        final_dot: see `metrics.text`.
        seam_frames: see `TextToSign.generate`.
        seed: of a model that samples, which also gets another one, for `diversity`. sampling: further arguments of its `generate`.
        best_of: (n, model, tokenizer) of a judge that does not report: of n samples of each text it chooses one, see `best_samples`;
            their row says so.
        shared_encoder: (model, tokenizer) of a segment-level reader on the same SignMAE; its score is printed as `shared_encoder` only.

    Returns:
        report: `rows` (name -> means over the judges of `text_scores`, with `std`), `panel` (the same names -> `production_panel` and
            `bleu4`, and the Fréchet distances of two halves of the real clips), `reader` (`GlossReader.power` of the reader that the panel
            has where all clips have glosses, else None), `pose` and `motion` of the system, `latents` (see `latent_report`), `lengths` (see
            `length_report`), `judges`, `verdict` in words.
        generated: list of (T, K, C), with the predicted lengths.
    """
    real, masks = keypoints_of(clips)
    lengths = torch.tensor([model.num_segments(len(clip)) for clip in real]).clamp_max(model.config.max_segments)
    seam_frames = model.default_seam_frames if seam_frames is None else seam_frames
    options = {"seam_frames": seam_frames} | (sampling or {})
    seeds = [{"seed": seed}, {"seed": seed + 1}] if model.samples else [{}, {}]
    generated = sign(model, tokenizer, clips.texts, **options, **seeds[0])
    with_length = [
        clip[: len(truth)] for clip, truth in zip(sign(model, tokenizer, clips.texts, lengths, **options, **seeds[0]), real)
    ]  # the last segment may be held past the end
    hold = model.config.last_segment == "hold"
    targets = LatentStore.build(clips, sign_mae, sign_mae.config.window_size, cache_dir, hold_last=hold)
    oracle = [clip[: len(truth)] for clip, truth in zip(decode_all(model, targets, seam_frames), real)]
    floors = floor_clips(real, clips.texts, *keypoints_of(train), train.texts, model.config.layout)
    systems = {
        SYSTEM: generated,
        "system, length=reference": with_length,
        REAL: list(real),
        "ceiling: oracle latents": oracle,
        **{name: draws[0] for name, draws in floors.items()},
    }
    again = {name: draws[1] for name, draws in floors.items() if len(draws) > 1}
    again[SYSTEM] = sign(model, tokenizer, clips.texts, **options, **seeds[1])
    if best_of is not None:
        name = f"system, length=predicted, best of {best_of[0]} by a judge"
        systems[name] = best_samples(model, tokenizer, clips.texts, *best_of, **options, **seeds[0])
    presence = model.sign_mae.keypoint_presence.bool().cpu().numpy()
    texts, rows, panel, power = rows_and_panel(systems, again, clips, train, judges, model.config.sign_mae_config, presence, final_dot)
    if shared_encoder is not None:
        latents = [encode(shared_encoder[0], clip) for clip in generated]
        scores = text_scores(translate_inputs(*shared_encoder, latents), clips.texts, final_dot, families=FAMILIES)
        rows["system, read by a reader with the same SignMAE (shared_encoder)"] = _over_judges([scores])
    made = {"predicted": generated, "reference": with_length, "oracle": oracle}
    if not seam_frames:  # shows how much blending over the seams would mend
        made[f"predicted, seam_frames={MENDED}"] = sign(model, tokenizer, clips.texts, **options | {"seam_frames": MENDED}, **seeds[0])
    pose, motion = pose_and_motion(made, real, masks, model.config.sign_mae_config, presence)
    return {
        "rows": rows,
        "verdict": verdict_of_rows(rows),
        "num_scored": len(clips),
        "judges": len(judges),
        "seam_frames": seam_frames,
        "panel": panel,
        "reader": power,
        "pose": pose,
        "motion": motion,
        "latents": latent_report(model, tokenizer, clips.texts, targets, sampling=(sampling or {}) | seeds[0]),
        "lengths": length_report(model, tokenizer, clips.texts, lengths.numpy()),
        "share_verbatim": share_verbatim(texts[SYSTEM][0], train.texts),
        "signature": production.signature(processor.layout, processor.fps, processor.normalize),
    }, generated


def rows_and_panel(
    systems: dict[str, list[np.ndarray]],
    again: dict[str, list[np.ndarray]],
    clips: Clips,
    train: Clips,
    judges: list,
    config: SignMAEConfig,
    presence: np.ndarray,
    final_dot: str = "keep",
) -> tuple[dict[str, list], dict[str, dict], dict[str, dict], dict | None]:
    """What judges read of each system, its scores, its panel and the gloss reader's power. However a clip was made, it is scored here.

    Args:
        systems, again, clips, train, config, presence: see `panel_of`.
        judges: list of (model, tokenizer) of frame-level readers.
        final_dot: see `metrics.text`.

    Returns:
        texts (name -> a list of texts of each judge); `rows`, `panel` and `reader` of `evaluate_text_to_sign`.
    """
    texts = {name: [translate_inputs(*judge, keypoints) for judge in judges] for name, keypoints in systems.items()}
    rows = {
        name: _over_judges([text_scores(predictions, clips.texts, final_dot, families=FAMILIES) for predictions in texts_of_judges])
        for name, texts_of_judges in texts.items()
    }
    panel, power = panel_of(systems, again, clips, train, config, presence)
    for name in systems:
        panel[name] |= {"bleu4": rows[name]["bleu4"], "num_scored": len(clips)}
    return texts, rows, panel, power


def pose_and_motion(
    made: dict[str, list[np.ndarray]], real: list[np.ndarray], masks: list[np.ndarray], config: SignMAEConfig, presence: np.ndarray
) -> tuple[dict[str, dict], dict[str, dict]]:
    """{name: `pose_errors`} and {name: `motion_panel`} of clips that were made, against the real ones."""
    pose = {name: production.pose_errors(keypoints, real, masks, config.layout, presence) for name, keypoints in made.items()}
    motion = {
        name: production.motion_panel(keypoints, real, masks, config.window_size, config.layout, presence)
        for name, keypoints in made.items()
    }
    return pose, motion


def panel_of(
    systems: dict[str, list[np.ndarray]],
    again: dict[str, list[np.ndarray]],
    clips: Clips,
    train: Clips,
    config: SignMAEConfig,
    presence: np.ndarray,
) -> tuple[dict[str, dict], dict[str, dict] | None]:
    """`production_panel` of each system and the Fréchet distances of two halves of the real clips; and the power of the gloss reader.

    Args:
        systems: name -> clips (T, K, C); again: a second sample of some of them, for their diversity.
        clips: the real clips; train: those that the windows' features and the reader of glosses are fitted on.
        config: of the SignMAE; presence: (K,) bool, the keypoints that it knows.
    """
    (real, masks), (train_keypoints, _) = keypoints_of(clips), keypoints_of(train)
    features = WindowFeatures(train_keypoints, config.window_size, presence=presence)
    lines, reader = gloss_reader(clips, train, train_keypoints, features)
    panel = {
        name: production.production_panel(
            keypoints, real, masks, features, lines, reader, again.get(name), config.window_size, config.layout, presence
        )
        for name, keypoints in systems.items()
    }
    panel[HALVES] = production.frechet_of_halves(real, features) | {"num_scored": len(clips)}
    return panel, None if reader is None else reader.power(real, lines)


def keypoints_of(clips: Clips) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Of `Clips`, the keypoints (T, K, C) of all and their masks (T, K): two lists."""
    keypoints, masks = zip(*(clips.keypoints(index) for index in range(len(clips))))
    return list(keypoints), list(masks)


def floor_clips(
    real: list[np.ndarray],
    texts: list[str],
    train_keypoints: list[np.ndarray],
    train_masks: list[np.ndarray],
    train_texts: list[str],
    layout: str = "uniglor73",
) -> dict[str, list[list[np.ndarray]]]:
    """{name of a floor: [clips]}, with one clip for each real one and its text; floors that are drawn at random have two such lists."""
    retrieval = RetrievalSigner(train_keypoints, train_texts, layout)
    return {
        "floor: mean pose": [production.mean_pose_clips(zip(train_keypoints, train_masks), [len(clip) for clip in real])],
        "floor: real keypoints backwards": [production.time_reversed(real)],
        "floor: another sentence's keypoints": [production.another_clip(real, seed) for seed in (0, 1)],
        "floor: a random training clip": [production.random_training_clip(train_keypoints, len(real), seed) for seed in (0, 1)],
        "floor: the training clip of the nearest sentence": [
            [train_keypoints[index] for index in production.nearest_sentences(train_texts, texts)]
        ],
        PHRASES: [[retrieval.sign(text) for text in texts]],
    }


def gloss_reader(
    clips: Clips, train: Clips, train_keypoints: list[np.ndarray], features: WindowFeatures
) -> tuple[list[list[str]] | None, GlossReader | None]:
    """The glosses of `Clips`, a list for each, and a `GlossReader` of the training clips; (None, None) where a clip has none."""
    if not all(clips.glosses) or not all(train.glosses):
        return None, None
    reader = GlossReader(train_keypoints, [line.split() for line in train.glosses], features=features)
    return [line.split() for line in clips.glosses], reader


def _over_judges(scores):
    """Means over judges of `text_scores`, with their standard deviation."""
    names = list(scores[0]["signatures"])
    values = np.array([[score[name] for name in names] for score in scores])
    spread = values.std(0, ddof=1) if len(scores) > 1 else np.zeros(len(names))
    return {**scores[0], **dict(zip(names, values.mean(0).tolist())), "std": dict(zip(names, spread.tolist())), "num_judges": len(scores)}


def sign(model, tokenizer, texts, num_segments=None, batch_size=32, num_frames=None, **options):
    """List of (T, K, C) float32, one for each text; `num_segments` (texts,) is the policy length=reference.

    Args:
        num_frames: (texts,), in the place of num_segments, of a model that signs frame by frame.
        options: of `TextToSign.generate`; with num_samples, the samples of a text are side by side.
    """
    clips = []
    set_lengths = {name: counts for name, counts in (("num_segments", num_segments), ("num_frames", num_frames)) if counts is not None}
    for start in range(0, len(texts), batch_size):
        batch = slice(start, start + batch_size)
        encoded = tokenizer(list(texts[batch]), padding=True, return_tensors="pt").to(model.device)
        lengths = {name: counts[batch] for name, counts in set_lengths.items()}
        generated = model.generate(encoded["input_ids"], encoded["attention_mask"], **lengths, **options)
        keypoints = generated.keypoints.float().cpu().numpy()
        clips += [clip[:length] for clip, length in zip(keypoints, generated.num_frames.tolist())]
    return clips


def best_samples(model: TextToSign, tokenizer, texts, num_samples: int, judge, judge_tokenizer, **options) -> list[np.ndarray]:
    """Of `num_samples` samples of each text the one whose translation by a judge has the best chrF with the text: list of (T, K, C).

    The judge has seen the text that it is compared with, so a judge that chooses must not report.
    """
    made = sign(model, tokenizer, texts, num_samples=num_samples, **options)
    read = translate_inputs(judge, judge_tokenizer, made)
    metric = CHRF()
    chosen = []
    for index, text in enumerate(texts):
        scores = [metric.sentence_score(read[place], [text]).score for place in range(index * num_samples, (index + 1) * num_samples)]
        chosen.append(made[index * num_samples + int(np.argmax(scores))])
    return chosen


@torch.no_grad()
def length_report(model: TextToSign, tokenizer, texts: list[str], lengths: np.ndarray, batch_size: int = 32) -> dict[str, float]:
    """How predicted lengths agree with the real ones, in segments.

    Args:
        lengths: (texts,), the real ones.

    Returns:
        `error_median`, `error_mean`: of the absolute differences. `bias`: mean predicted minus mean real. `correlation`.
        `predicted_p10`, `_p50`, `_p90` and `real_p10`, ...: percentiles. `coverage_50`, `coverage_90`: share of real lengths, in per cent,
        within the central 50 and 90 % of the predicted distribution; a calibrated one has 50 and 90, or more where lengths are few.
    """
    predicted, distributions = [], []
    for start in range(0, len(texts), batch_size):
        encoded = tokenizer(list(texts[start : start + batch_size]), padding=True, return_tensors="pt").to(model.device)
        head, _, _ = model.encode_text(encoded["input_ids"], encoded["attention_mask"])
        logits = model.length_regulator(head)
        predicted.append(model.length_regulator.num_segments(logits).cpu().numpy())
        distributions.append(logits.float().cumsum(1).softmax(1).cpu().numpy())  # of the masks: n ones, then zeros
    predicted, cumulative = np.concatenate(predicted), np.concatenate(distributions).cumsum(1)
    report = compare_lengths(predicted, lengths)
    for share in INTERVALS:
        low, high = ((cumulative < bound).sum(1) + 1 for bound in (0.5 - share / 200, 0.5 + share / 200))  # the lengths at both bounds
        report[f"coverage_{share}"] = float(100 * ((low <= lengths) & (lengths <= high)).mean())
    return report


def compare_lengths(predicted: np.ndarray, lengths: np.ndarray) -> dict[str, float]:
    """What `length_report` says of predicted lengths (texts,) without their distribution."""
    difference = predicted - lengths
    varies = predicted.std() > 0 and lengths.std() > 0
    report = {
        "error_median": float(np.median(np.abs(difference))),
        "error_mean": float(np.abs(difference).mean()),
        "bias": float(difference.mean()),
        "correlation": float(np.corrcoef(predicted, lengths)[0, 1]) if varies else float("nan"),
    }
    for name, values in (("predicted", predicted), ("real", lengths)):
        report |= {f"{name}_p{share}": float(np.percentile(values, share)) for share in (10, 50, 90)}
    return report


@torch.no_grad()
def decode_all(model, store, seam_frames=0):
    """Real clips through the frozen SignMAE, from a `LatentStore`: the best that any text model on it could do."""
    decoded = []
    for index in range(len(store)):
        latents = torch.from_numpy(store[index])[None].to(model.device)
        decoded.append(model.decode_sequence(latents, seam_frames=seam_frames)[0][0].float().cpu().numpy())
    return decoded


def latent_report(model, tokenizer, texts, store, batch_size=32, sampling=None):
    """`latent_scores` of the latents of texts against those of a `LatentStore`, at the reference's length."""
    sums = []
    for start in range(0, len(texts), batch_size):
        encoded = tokenizer(list(texts[start : start + batch_size]), padding=True, return_tensors="pt").to(model.device)
        lengths = torch.from_numpy(store.lengths[start : start + batch_size])
        generated, _ = model.generate_latents(encoded["input_ids"], encoded["attention_mask"], lengths, **sampling or {})
        for index, latents in enumerate(generated.float().cpu().numpy(), start):
            target = store[index]
            predicted = latents[: len(target)]
            sums.append([values.sum(0) for values in ((predicted - target) ** 2, predicted, predicted**2, target, target**2)])
    return latent_scores(np.array(sums), store.lengths.sum())


@torch.no_grad()
def encode(reader, keypoints):
    """(T, K, C) -> latents (S, D) of a segment-level reader."""
    return reader.encode_sequence(torch.as_tensor(keypoints)[None].to(reader.device))[0][0].cpu()


def load_readers(folders, device=None, option="--judges"):
    """[(model, tokenizer)] of SignToText folders."""
    pipes = [load_pipeline("sign-to-text", folder, device, option) for folder in folders]
    return [(pipe.model.eval(), pipe.tokenizer) for pipe in pipes]


def load_sign_mae(folder, model):
    """The encoder of the SignMAE that a TextToSign decodes with; another one is refused."""
    sign_mae = load_model(folder, SignMAEEncoderModel, "--sign_mae")
    if not torch.equal(sign_mae.latent_mean.cpu(), model.sign_mae.latent_mean.cpu()):
        raise ValueError(f"{folder} is not the SignMAE that this model decodes with: their latent statistics differ.")
    return sign_mae.to(model.device)
