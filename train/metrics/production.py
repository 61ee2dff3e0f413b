"""How near generated clips come to real ones, whether they move as much, and the floors that stand beside them.

An error alone flatters signing that does not move: the mean pose has a small error. So the motion panel stands beside it. The floors
are clips too, and are scored by the same errors, the same panel and the same judges. `production_panel` is the table of results;
docs/metrics.md says what each floor scores in it.

Clips are arrays of floats in shoulder lengths. Masks are 1 where the reference was seen; what stands at the other points is not read.
Errors are means over clips, so that a long clip weighs no more than a short one.

Shapes: T, S frames of two clips, K keypoints, C channels, P aligned pairs of frames.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from modeling_unigloR.keypoints_uniglor import get_layout, layout_hash
from train.metrics.reconstruction import hands_and_wrists
from train.metrics.windows import WindowFeatures, frechet_distance

if TYPE_CHECKING:
    from train.metrics.gloss_reader import GlossReader  # which needs rapidfuzz

OTHERS = 1000  # seed of the other sentences that clips are compared with; unlike the seeds of the floor `another_clip`
HELD = 0.25  # of the real hands' mean speed: below it, a hand is held
Clips = Sequence[np.ndarray]
MOVES = np.array([(-1, -1), (-1, 0), (0, -1)])  # of `align`, from a pair to the one before it


def pose_errors(generated, references, masks, layout="uniglor73", presence=None):
    """Distances between generated and real points, over the points that were seen.

    Args:
        generated: list of (T, K, C), in shoulder lengths.
        references: list of (S, K, C), as many.
        masks: list of (S, K), 1 where a reference point was seen.
        layout: name of the points' layout.
        presence: (K,), 0 where a point is not scored (`SignMAE.keypoint_presence`); by default all are.

    Returns:
        A dict of floats, in shoulder lengths, each a mean over clips; NaN for a part that no clip shows.
        `mpjpe_resampled`: mean over seen points, once the generated clip is resampled to the reference's length.
        `mpjpe_truncated`: the same up to the end of the shorter clip.
        `dtw_mje`: mean over pairs of frames that `align` finds, of a pair's mean over seen points. Frames of which nothing was seen
        have no pair.
        Each also as `..._body`, `..._face`, `..._hands`, and as `..._hand_shape`: hands relative to their wrists. All parts are read
        off the one alignment of the whole body.

    Raises:
        ValueError: no clips, or lists, clips or masks that do not fit together.
    """
    clips = [_errors_of_clip(*clip, layout) for clip in _checked(generated, references, masks, layout, presence)]
    return {name: _mean([clip[name] for clip in clips]) for name in clips[0]}


def motion_panel(generated, references, masks, window_size=15, layout="uniglor73", presence=None):
    """How much generated clips move, as ratios generated / reference of means over all frames of all clips.

    A generated clip has no mask: it counts where its reference was seen, stretched to its length, so that points that are seldom
    seen weigh the same on both sides.

    Args:
        generated, references, masks, layout, presence: as for `pose_errors`.
        window_size: frames between the seams of generated clips.

    Returns:
        A dict of floats; 1 is the truth, NaN where references have nothing to compare with.
        `speed_ratio`: mean displacement from frame to frame. 0 is a static pose for each clip.
        `motion_ratio`: the same inside segments alone. 0 is a static pose for each segment.
        `border_jump`: the same over seams alone. Seams are visible where it is far above 1.
        `variance_ratio_body`, `_face`, `_hands`, `_hand_shape`: variance over a clip's frames, per point, coordinates summed.
        `duration_ratio`: frames. `jitter_ratio`: size of the third difference.
        `seam_speed`, `elsewhere_speed`: of the generated clips, in shoulder lengths a frame: no ratios.

    Raises:
        ValueError: as for `pose_errors`; a window_size below 1.
    """
    if window_size < 1:
        raise ValueError(f"found window_size={window_size}, expected the frames of a segment, at least 1")
    sums = defaultdict(lambda: np.zeros(2)), defaultdict(lambda: np.zeros(2))  # name -> sum, count; of generated and of references
    for generated_clip, reference, seen in _checked(generated, references, masks, layout, presence):
        stretched = seen[np.linspace(0, len(seen) - 1, len(generated_clip)).round().astype(int)]
        for total, clip, counted in zip(sums, (generated_clip, reference), (stretched, seen)):
            for name, values in _motion(clip, counted, window_size, layout).items():
                total[name] += values.sum(), values.size
            total["duration_ratio"] += len(clip), 1
    made, real = ({name: _divide(*counts) for name, counts in total.items()} for total in sums)
    ratios = {name: _divide(made[name], real[name]) for name in made}
    return ratios | {"seam_speed": made["border_jump"], "elsewhere_speed": made["motion_ratio"]}


def production_panel(
    generated: Clips,
    references: Clips,
    masks: Clips,
    features: WindowFeatures,
    lines: Sequence[Sequence[str]] | None = None,
    reader: "GlossReader | None" = None,
    again: Clips | None = None,
    window_size: int = 15,
    layout: str = "uniglor73",
    presence: np.ndarray | None = None,
) -> dict[str, float]:
    """All numbers of one row of a table of production, under the names that results have.

    Args:
        generated, references, masks, layout, presence: as for `pose_errors`.
        features: `WindowFeatures` of real training clips, never of a system's own latents.
        lines: list of lists of true glosses, and reader: a `GlossReader`; without them there are no scores of glosses.
        again: list of clips, a second sample of each; without it there is no `diversity`.
        window_size: frames between the seams of generated clips.

    Returns:
        A dict of floats, NaN for what the clips do not say. Ratios are generated / reference, 1 is the truth.
        `speed`, `motion`, `border_jump`: ratios of the displacement from frame to frame, everywhere, inside segments and over seams.
        `seams`: displacement over seams / elsewhere, over the same quotient of the references. `variance_hands`: ratio.
        `frechet`, `frechet_seams`, `frechet_velocity`, `path_hands`, `extent_hands`, `hold_hands`, `dtw_hands`, `dtw_hands_minus_other`:
        see `frechet_panel`, `hands_panel`, `hand_warping`. `diversity`: see there.
        `lcs_f`, `gloss_wer`, `gloss_f1`, `order`: see `gloss_scores`.
    """
    motion = motion_panel(generated, references, masks, window_size, layout, presence)
    scores = {
        "speed": motion["speed_ratio"],
        "motion": motion["motion_ratio"],
        "border_jump": motion["border_jump"],
        "seams": _divide(motion["border_jump"], motion["motion_ratio"]),
        "variance_hands": motion["variance_ratio_hands"],
        **frechet_panel(generated, references, features),
        **hands_panel(generated, references, masks, layout, presence),
        **hand_warping(generated, references, masks, layout, presence),
    }
    if again is not None:
        scores["diversity"] = diversity(generated, again, references, features)
    if reader is not None and lines is not None:
        scores |= reader.scores(generated, lines)
    return scores


def frechet_panel(generated: Clips, references: Clips, features: WindowFeatures) -> dict[str, float]:
    """Fréchet distances of windows, as shares of the variance of the references' windows: 0 is the truth, the mean pose has 1 or more.

    Args:
        generated, references: lists of (T, K, C), not necessarily as many: distributions are compared, not pairs.
        features: `WindowFeatures`.

    Returns:
        `frechet`: of windows laid end to end from the first frame, as a generator with segments makes them.
        `frechet_seams`: of windows that start half a window later, so that each has a seam of the generator in its middle.
        `frechet_velocity`: of differences between neighbours of the windows that are laid end to end, over their variance.
    """
    size, distances = features.window_size, {}
    for name, offset, order in (("frechet", 0, 0), ("frechet_seams", size // 2, 0), ("frechet_velocity", 0, 1)):
        made, real = (
            np.concatenate([np.diff(features(clip, range(offset, len(clip) - size + 1, size)), n=order, axis=0) for clip in clips])
            for clips in (generated, references)
        )
        distances[name] = _divide(frechet_distance(made, real), real.var(0).sum()) if len(real) > 1 else float("nan")
    return distances


def frechet_of_halves(references: Clips, features: WindowFeatures, seed: int = 0) -> dict[str, float]:
    """`frechet_panel` of one random half of real clips against the other: the distances that equal distributions have with so few clips."""
    order = np.random.default_rng(seed).permutation(len(references))
    halves = [[references[index] for index in half] for half in (order[::2], order[1::2])]
    return frechet_panel(*halves, features)


def hands_panel(
    generated: Clips, references: Clips, masks: Clips, layout: str = "uniglor73", presence: np.ndarray | None = None
) -> dict[str, float]:
    """How far hands go, how much room they take and how long they are held, as ratios generated / reference.

    Args:
        as for `pose_errors`.

    Returns:
        `path_hands`: length of a hand's path in a clip. `extent_hands`: from the 5th to the 95th percentile of its places, the mean of
        both axes. `hold_hands`: share of frame steps in which a hand is slower than a quarter of the references' mean speed.
    """
    roots = [get_layout(layout).parts[part].start for part in ("left_hand", "right_hand")]
    sides = [], []
    for made, real, seen in _checked(generated, references, masks, layout, presence):
        stretched = seen[np.linspace(0, len(seen) - 1, len(made)).round().astype(int)]
        for hands, clip, counted in zip(sides, (made, real), (stretched, seen)):
            for root in roots:
                steps, moving = (values[:, 0] for values in _differences(clip[:, [root]], counted[:, [root]], order=1))
                places = clip[counted[:, root], root]
                low, high = np.percentile(places, [5, 95], axis=0) if len(places) else (np.nan, np.nan)
                hands.append((steps[moving].sum() if moving.any() else np.nan, np.mean(high - low), steps[moving]))
    speeds = [np.concatenate([steps for _, _, steps in hands]) for hands in sides]
    held = [_mean(speed < HELD * _mean(speeds[1])) if len(speed) else float("nan") for speed in speeds]
    (paths, extents), (real_paths, real_extents) = ([_mean([hand[index] for hand in hands]) for index in (0, 1)] for hands in sides)
    return {
        "path_hands": _divide(paths, real_paths),
        "extent_hands": _divide(extents, real_extents),
        "hold_hands": _divide(*held),
    }


def hand_warping(
    generated: Clips, references: Clips, masks: Clips, layout: str = "uniglor73", presence: np.ndarray | None = None, seed: int = OTHERS
) -> dict[str, float]:
    """Distance of hands relative to their wrists after time warping: it compares hand shapes, wherever and whenever they are shown.

    Args:
        as for `pose_errors`; seed: of the other sentences.

    Returns:
        `dtw_hands`: mean distance in shoulder lengths over the aligned frames, without those in which the reference showed no hand.
        `dtw_hands_minus_other`: the same minus the distance to another clip's reference. It is 0 for a clip that is no nearer to its own
        sentence than to another, and below 0 for signing; `dtw_hands` alone rewards stillness. NaN for a single clip.
    """
    hands, wrists = hands_and_wrists(layout)
    clips = []
    for made, real, seen in _checked(generated, references, masks, layout, presence):
        counted = seen[:, hands] & seen[:, wrists]
        visible = counted.any(1)
        kept = visible[np.linspace(0, len(seen) - 1, len(made)).round().astype(int)]  # of the generated clip, as in the motion panel
        shapes = [clip[:, hands] - clip[:, wrists] for clip in (made[kept] if kept.any() else made, real[visible])]
        clips.append((*shapes, counted[visible]))
    own = np.array([_warped_distance(made, real, counted) for made, real, counted in clips])
    if len(clips) < 2:
        return {"dtw_hands": _mean(own), "dtw_hands_minus_other": float("nan")}
    others = np.array([_warped_distance(made, *other[1:]) for (made, _, _), other in zip(clips, another_clip(clips, seed))])
    return {"dtw_hands": _mean(own), "dtw_hands_minus_other": _mean(own - others)}


def diversity(generated: Clips, again: Clips, references: Clips, features: WindowFeatures, seed: int = OTHERS) -> float:
    """The distance between two samples of one text, divided by that between two real clips of different sentences.

    It is 0 for a generator that always signs a text alike, and 1 for one whose samples have no more in common than any two clips.

    Args:
        generated, again: lists of (T, K, C), two samples of each text.
        references: list of real (T, K, C).
        features: `WindowFeatures`; windows at the same place of both clips are compared, up to the end of the shorter.
    """
    if len(references) < 2:
        return float("nan")
    return _divide(_mean_distance(generated, again, features), _mean_distance(references, another_clip(references, seed), features))


def signature(layout, fps, normalize):
    """What every number of this module depends on besides the clips.

    Args:
        layout: name of the keypoint layout.
        fps: frames a second of the clips; None: as they were recorded.
        normalize: the processor's, "clip" or "frame".
    """
    rate = "source" if fps is None else f"{fps:g}"
    return f"keypoints:{layout}@{layout_hash(layout)}|normalize:{normalize}|fps:{rate}|unit:shoulder_length"


# --- Alignment ------------------------------------------------------------------------------------------------------------------------


def resample(keypoints, num_frames):
    """The clip at another length, interpolated linearly, with the same first and last frame: (T, K, C) -> (num_frames, K, C)."""
    place = np.linspace(0, len(keypoints) - 1, num_frames)
    before = np.floor(place).astype(int)
    after = np.minimum(before + 1, len(keypoints) - 1)
    share = (place - before)[:, None, None]
    return keypoints[before] * (1 - share) + keypoints[after] * share


def frame_distances(generated, reference, seen):
    """Mean distance over a reference frame's seen points, of every frame to every other: (T, K, C), (S, K, C), (S, K) -> (T, S)."""
    total = np.zeros((len(generated), len(reference)))
    made, real = (np.moveaxis(clip, 0, 2).copy() for clip in (generated, reference))  # (K, C, T), (K, C, S): frames adjacent, for speed
    for point in np.flatnonzero(seen.any(0)):  # point by point: all at once would be K times the memory
        squares = sum(np.square(a[:, None] - b) for a, b in zip(made[point], real[point]))  # (T, S)
        total += np.sqrt(squares) * seen[:, point]
    return total / seen.sum(1)


def align(distances):
    """Dynamic time warping: the cheapest way from the first pair of frames to the last that meets every frame and never goes back.

    Among equally cheap ways it takes one with the fewest pairs, so that their mean does not depend on which clip comes first.

    Args:
        distances: (T, S) between frames.

    Returns:
        (P, 2) int array of frames that belong together.
    """
    rows, columns = distances.shape
    distances = distances + 1j  # numpy orders complex numbers by real part, then imaginary: here by sum, then number of pairs
    moves = np.empty((rows, columns), np.int8)
    two_before, before = np.full((2, rows + 1), np.inf, complex)  # totals of the last diagonals by row, behind one for row -1
    two_before[0] = 0
    for diagonal in range(rows + columns - 1):
        row = np.arange(max(0, diagonal - columns + 1), min(diagonal, rows - 1) + 1)
        totals = np.stack([two_before[row], before[row], before[row + 1]])  # in the order of MOVES
        moves[row, diagonal - row] = totals.argmin(0)
        here = np.full(rows + 1, np.inf, complex)
        here[row + 1] = totals.min(0) + distances[row, diagonal - row]
        two_before, before = before, here
    pairs = [np.array([rows - 1, columns - 1])]
    while pairs[-1].any():
        pairs.append(pairs[-1] + MOVES[moves[tuple(pairs[-1])]])
    return np.array(pairs[::-1])


# --- Floors ---------------------------------------------------------------------------------------------------------------------------


def mean_pose_clips(train_clips, num_frames):
    """The mean pose of training frames, held.

    Args:
        train_clips: an iterable of (keypoints (T, K, C), keypoint_mask (T, K)). A point that was never seen stands at the mean of
            where it was placed.
        num_frames: length of each clip that is wanted.

    Returns:
        List of (num_frames, K, C) float32.
    """
    placed = seen_sum = seen_count = num_placed = 0
    for keypoints, mask in train_clips:
        mask = np.asarray(mask, bool)[..., None]  # (T, K, 1)
        placed, num_placed = placed + keypoints.sum(0, dtype=np.float64), num_placed + len(keypoints)
        seen_sum = seen_sum + np.where(mask, keypoints, 0).sum(0, dtype=np.float64)
        seen_count = seen_count + mask.sum(0)
    if not num_placed:
        raise ValueError("found no training frames; give at least one training clip")
    pose = np.where(seen_count > 0, seen_sum / np.maximum(seen_count, 1), placed / num_placed).astype(np.float32)
    return [np.repeat(pose[None], length, axis=0) for length in num_frames]


def time_reversed(clips):
    """The same clips, with the last frame first: all poses are real, their order is not."""
    return [clip[::-1].copy() for clip in clips]  # torch takes no view that runs backwards


def another_clip(clips, seed=0):
    """For each clip another one of the list, each used once; the same seed exchanges lists of one length alike (clips and masks)."""
    if len(clips) < 2:
        raise ValueError(f"found {len(clips)} clips; give at least 2, so that each can have another one")
    order = np.random.default_rng(seed).permutation(len(clips))
    source = np.empty_like(order)
    source[order] = np.roll(order, 1)  # one cycle through all clips, so that no clip gets itself
    return [clips[index] for index in source]


def random_training_clip(train_clips, num_clips, seed=0):
    """A list of `num_clips` training clips, drawn with replacement."""
    if not len(train_clips):
        raise ValueError("found no training clips; give at least one")
    return [train_clips[index] for index in np.random.default_rng(seed).integers(len(train_clips), size=num_clips)]


class NearestSentences:
    """Finds the training text that is most like a text, by the cosine of their TF-IDF vectors of words.

    Args:
        train_texts: list of training texts.
    """

    def __init__(self, train_texts: Sequence[str]):
        try:
            from sklearn.feature_extraction.text import TfidfVectorizer
        except ImportError as error:
            raise ImportError("the floor of the nearest training sentence needs `pip install scikit-learn`") from error
        if not len(train_texts) or not any(text.split() for text in train_texts):
            raise ValueError(f"found {len(train_texts)} training texts; give at least one that has words")
        self.vectorizer = TfidfVectorizer(token_pattern=r"\S+")  # a word is what stands between spaces, even a single letter
        self.train_vectors = self.vectorizer.fit_transform(train_texts)

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Indices into the training texts, one for each text."""
        return (self.vectorizer.transform(texts) @ self.train_vectors.T).toarray().argmax(1)


def nearest_sentences(train_texts: Sequence[str], texts: Sequence[str]) -> np.ndarray:
    """The training text that is most like each text: indices into `train_texts`.

    Replaying that text's clip needs no model. It is the floor that is hardest to pass: all its motion is real.
    """
    return NearestSentences(train_texts)(texts)


# --- One clip -------------------------------------------------------------------------------------------------------------------------


def _errors_of_clip(generated, reference, seen, layout):
    errors = {}
    shorter = min(len(generated), len(reference))
    for name, frames in (("mpjpe_resampled", resample(generated, len(reference))), ("mpjpe_truncated", generated[:shorter])):
        for part, (error, counted) in _errors_by_part(frames, reference[: len(frames)], seen[: len(frames)], layout).items():
            errors[name + part] = _mean(error[counted])
    visible = seen.any(1)  # a frame of which nothing was seen would be near to every other
    reference, seen = reference[visible], seen[visible]
    first, second = align(frame_distances(generated, reference, seen)).T
    for part, (error, counted) in _errors_by_part(generated[first], reference[second], seen[second], layout).items():
        shows_part = counted.any(1)
        errors["dtw_mje" + part] = _mean((error * counted).sum(1)[shows_part] / counted.sum(1)[shows_part])
    return errors


def _errors_by_part(generated, reference, seen, layout):
    """Suffix of a part's name -> its points' distances (T, its points) and where they count."""
    parts = zip(_by_part(generated, seen, layout).items(), _by_part(reference, seen, layout).values())
    return {name: (np.linalg.norm(made - real, axis=-1), counted) for (name, (made, counted)), (real, _) in parts}


def _warped_distance(generated, reference, seen):
    """Mean over aligned pairs of frames of the mean distance over seen points; NaN where the reference shows none."""
    if not len(reference):
        return float("nan")
    distances = frame_distances(generated, reference, seen)
    return float(distances[tuple(align(distances).T)].mean())


def _mean_distance(clips, others, features):
    """Mean distance of the features of windows at the same places of two clips, over all windows."""
    size, distances = features.window_size, []
    for clip, other in zip(clips, others):
        starts = range(0, max(min(len(clip), len(other)) - size, 0) + 1, size)
        distances.append(np.linalg.norm(features(clip, starts) - features(other, starts), axis=1))
    return _mean(np.concatenate(distances))


def _by_part(keypoints, seen, layout):
    """Suffix of a part's name -> its points (T, its points, C) and where they were seen."""
    parts = get_layout(layout).parts
    hands, wrists = hands_and_wrists(layout)
    both = np.r_[parts["left_hand"], parts["right_hand"]]
    points_of_part = {"": slice(None), "_body": parts["body"], "_face": parts["face"], "_hands": both}
    by_part = {name: (keypoints[:, points], seen[:, points]) for name, points in points_of_part.items()}
    return by_part | {"_hand_shape": (keypoints[:, hands] - keypoints[:, wrists], seen[:, hands] & seen[:, wrists])}


def _motion(keypoints, seen, window_size, layout):
    """Name in the panel -> the values (any number) whose mean is compared."""
    speed, moving = _differences(keypoints, seen, order=1)  # (T - 1, K)
    jitter, steady = _differences(keypoints, seen, order=3)
    seam = np.arange(1, len(keypoints)) % window_size == 0
    parts = _by_part(keypoints, seen, layout)
    values = {
        "speed_ratio": speed[moving],
        "motion_ratio": speed[~seam][moving[~seam]],
        "border_jump": speed[seam][moving[seam]],
        "jitter_ratio": jitter[steady],
    }
    for part in ("_body", "_face", "_hands", "_hand_shape"):
        points, counted = parts[part]
        mean = (points * counted[..., None]).sum(0) / np.maximum(counted.sum(0), 1)[:, None]
        values["variance_ratio" + part] = np.square(points - mean).sum(-1)[counted]
    return values


def _differences(keypoints, seen, order):
    """Sizes of differences over time of that order, and where all their frames were seen: (T - order, K) twice."""
    for _ in range(order):
        keypoints, seen = np.diff(keypoints, axis=0), seen[1:] & seen[:-1]
    return np.linalg.norm(keypoints, axis=-1), seen


def _mean(values):
    """The mean of the values that are numbers; NaN where there are none."""
    values = np.asarray(values)[~np.isnan(values)]
    return float(values.mean()) if values.size else float("nan")


def _divide(a, b):
    return float(a / b) if b > 0 else float("nan")


# --- Checking the inputs --------------------------------------------------------------------------------------------------------------


def _checked(generated, references, masks, layout, presence):
    """Yields generated (T, K, C), reference (S, K, C), both float64, and where they are scored (S, K) bool; 0 elsewhere."""
    if not len(generated) == len(references) == len(masks) or not len(generated):
        raise ValueError(
            f"found {len(generated)} generated clips, {len(references)} references and {len(masks)} masks; give one of each for every "
            "clip, and at least one clip"
        )
    num_points = len(get_layout(layout).names)
    presence = np.ones(num_points, bool) if presence is None else np.asarray(presence, bool)
    if presence.shape != (num_points,):
        raise ValueError(f"found a presence of shape {presence.shape}, expected ({num_points},): one for each point of {layout!r}")
    for number, (made, real, mask) in enumerate(zip(generated, references, masks)):
        made, real = (_checked_clip(clip, f"{side} {number}", layout) for clip, side in ((made, "generated clip"), (real, "reference")))
        if made.shape[2] != real.shape[2]:
            raise ValueError(f"generated clip {number} has {made.shape[2]} coordinates, its reference {real.shape[2]}; give both the same")
        seen = np.asarray(mask, bool)
        if seen.shape != real.shape[:2]:
            raise ValueError(f"mask {number}: found shape {seen.shape}, expected {real.shape[:2]}, that of its reference's points")
        seen = seen & presence
        if not seen.any():
            raise ValueError(f"reference {number}: found no point that was seen and is scored, expected at least one; leave the clip out")
        made, real = np.where(presence[:, None], made, 0), np.where(seen[..., None], real, 0)
        for clip, side in ((made, "generated clip"), (real, "reference")):
            if not np.isfinite(clip).all():
                raise ValueError(
                    f"{side} {number}: found coordinates that are not finite, expected numbers; mask points that were not seen"
                )
        yield made, real, seen


def _checked_clip(clip, name, layout):
    clip = np.asarray(clip, np.float64)
    num_points = len(get_layout(layout).names)
    if clip.ndim != 3 or clip.shape[1] != num_points:
        raise ValueError(
            f"{name}: found shape {clip.shape}, expected (frames, {num_points}, coordinates) of layout {layout!r}; a KeypointProcessor "
            "maps other layouts to it"
        )
    if not len(clip):
        raise ValueError(f"{name}: found 0 frames, expected at least 1; leave the clip out")
    return clip


def latent_scores(sums, num_segments):
    """How near predicted latents are to the true ones, and whether they vary as much.

    R² is not among these scores: the mean latent, which does not move, has a better one than another recording of the same text.

    Args:
        sums: (clips, 5, D) over each clip's segments: squared error, predicted, predicted squared, true, true squared.
        num_segments: of all clips.

    Returns:
        `latent_mse`: mean squared error. `latent_frechet`: squared Fréchet distance of the normal distributions of each dimension by
        itself, over the variance of the truth: 0 is the truth's distribution, whichever text has which latent; the mean latent has 1.
        `latent_variance_ratio`: variance, predicted / true; far below 1, the model falls back to the mean. `latent_bias`: root mean
        square over dimensions of the mean error.
    """
    error, predicted, predicted_square, true, true_square = sums.astype(np.float64).sum(0) / num_segments  # (D,) each
    variance, predicted_variance = true_square - true**2, predicted_square - predicted**2
    spread = np.sqrt(variance.clip(0)) - np.sqrt(predicted_variance.clip(0))
    return {
        "latent_mse": float(error.mean()),
        "latent_frechet": float((np.square(predicted - true) + np.square(spread)).sum() / max(variance.sum(), 1e-12)),
        "latent_variance_ratio": float(predicted_variance.sum() / max(variance.sum(), 1e-12)),
        "latent_bias": float(np.sqrt(np.square(predicted - true).mean())),
    }
