"""Rendered PHOENIX14T: the corpus' real sentences, signed by procedural motion.

    python -m experiments.rendered_phoenix --annotations train.parquet --output rendered/train.parquet [--variation 1.2]

Text, gloss, signer, timing, and for each frame the sign's state, the hand shape and the mouth shape are real: forced alignments that
were published with the annotations of neccam/slt. The coordinates are not: each sign hashes to a place, an orientation and a path for each
hand, each hand shape to bends of the fingers, each mouth shape to lips, each signer to a body. So the language is as hard as PHOENIX14T's,
and results compare methods; they are never results on PHOENIX14T.

`--variation 0` signs every token of a sign alike: a linear classifier names 98 % of the signs, and there is nothing for a representation to
find. `--variation 1.2` is as hard as real signs. Signers have a style (place, size, turn, bends, view; some are left-handed), and
tokens have their own place, path, orientation and bends. One hand may be dropped, arms are smoother, jitter lasts a few frames, and
fingers are guessed and hands lost in bursts. It was calibrated on real clips: of 43 signs with 7 to 8 training tokens each and an
unseen signer, ridge regression on keypoints names 59 % (INCLUDE across recording sessions: 61 %), the nearest mean 36 % (36 %).

Rows are canonical, of layout `openpose137`, in pixels of 210 x 260 frames.

Shapes: T frames, 137 keypoints of OpenPose (25 body, 70 face, 21 left hand, 21 right hand), all in shoulder lengths about the neck
until they are put on the picture.
"""

import contextlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from datasets_scripts.whole import whole_file
from train.engine.commands import CommandParser

FPS, WIDTH, HEIGHT = 25.0, 210, 260
NUM_BODY, NUM_FACE, NUM_HAND = 25, 70, 21
LEFT_HAND, RIGHT_HAND = slice(95, 116), slice(116, 137)
NEVER_SEEN = [10, 11, 13, 14, *range(19, 25)]  # knees and feet
MIRRORED_BODY = ((2, 5), (3, 6), (4, 7), (9, 12), (10, 13), (11, 14), (15, 16), (17, 18), (19, 22), (20, 23), (21, 24))
TO_SIGNERS_RIGHT = np.array([-1, 1])  # the signer's right hand is at negative x

# What a random stream is for; a stream depends on the corpus' seed, this number and what it is of.
SIGN, HAND_SHAPE, MOUTH_SHAPE, BODY, PICTURE, STYLE, TOKENS = 1, 2, 3, 4, 5, 6, 7


def random_stream(*key):
    """A generator that depends on whole numbers alone; Python hashes those alike in every process."""
    return np.random.default_rng(abs(hash(key)) % 2**32)


# --- Signs ------------------------------------------------------------------------------------------------------------------------


@dataclass
class Sign:
    """How a sign is made. Places are of the dominant hand, as if it were the left: x grows outward.

    Attributes:
        two_handed, symmetric: whether the other hand moves, and whether as a mirror image.
        start, end, curl: the path and how much it bends; cycles, radius: circles on the way.
        other_start, other_end: the other hand's path, where it is no mirror image.
        angle, turn: (2,) of both hands, at the start and over the sign, in radians.
        other_shape: (6,) five bends and a spread.
        brow, head: how far the brows are raised, and where the head is (2,).
    """

    two_handed: bool
    symmetric: bool
    start: np.ndarray
    end: np.ndarray
    curl: float
    cycles: int
    radius: float
    other_start: np.ndarray
    other_end: np.ndarray
    angle: np.ndarray
    turn: np.ndarray
    other_shape: np.ndarray
    brow: float
    head: np.ndarray


def sign_of(seed, gloss):
    """The `Sign` that a gloss, a whole number, hashes to."""
    draw = random_stream(seed, SIGN, gloss)
    two_handed, symmetric = draw.random() < 0.55, draw.random() < 0.6
    start = np.array([draw.uniform(-0.15, 0.75), draw.uniform(-0.75, 0.9)])
    kind = draw.integers(4)
    end = start + (draw.normal(0, 0.35, 2) if kind else draw.normal(0, 0.05, 2))
    curl = draw.normal(0, 0.3)
    cycles = draw.integers(1, 4) if kind == 3 else 0
    radius = draw.uniform(0.06, 0.18)
    other_start = np.array([draw.uniform(-0.75, 0.1), draw.uniform(-0.3, 0.95)])
    other_end = other_start + draw.normal(0, 0.15, 2)
    angle, turn = draw.uniform(-np.pi, np.pi, 2), draw.normal(0, 0.8, 2)
    other_shape = draw.uniform(0, 1, 6)
    brow, head = draw.normal(0, 0.03), draw.normal(0, 0.05, 2)
    return Sign(
        two_handed, symmetric, start, end, curl, cycles, radius, other_start, other_end, angle, turn, other_shape, brow, head
    )  # fmt: skip


@dataclass
class Style:
    """How a signer signs: shift of all places, size of movements, turn and bends of hands, smoothness, side, and view."""

    place: np.ndarray
    size: float
    turn: float
    bends: np.ndarray
    smoothness: float
    left_handed: bool
    yaw: float
    roll: float


def style_of(seed, signer, variation):
    draw = random_stream(seed, STYLE, signer)
    return Style(
        place=draw.normal(0, 0.12 * variation, 2),
        size=np.exp(draw.normal(0, 0.2 * variation)),
        turn=draw.normal(0, 0.3 * variation),
        bends=draw.normal(0, 0.12 * variation, 6),
        smoothness=(2.4 if variation else 1.6) * np.exp(draw.normal(0, 0.15 * variation)),
        left_handed=draw.random() < 0.11 * min(variation, 1),
        yaw=draw.normal(0, 0.25 * variation),
        roll=draw.normal(0, 0.05 * variation),
    )


def token_of(sign, style, chance, variation):
    """One token of a sign: moved by the signer's style and by chance, as no two tokens are alike."""
    shift = style.place + chance.normal(0, 0.13 * variation, 2)
    size = style.size * np.exp(chance.normal(0, 0.3 * variation))
    start = sign.start + shift
    way = (sign.end - sign.start) * size + chance.normal(0, 0.09 * variation, 2)
    token = replace(
        sign,
        start=start,
        end=start + way,
        curl=sign.curl + chance.normal(0, 0.3 * variation),
        radius=sign.radius * size,
        other_start=sign.other_start + shift * TO_SIGNERS_RIGHT + chance.normal(0, 0.09 * variation, 2),
        other_end=sign.other_end + shift * TO_SIGNERS_RIGHT + chance.normal(0, 0.13 * variation, 2),
        angle=sign.angle + style.turn + chance.normal(0, 0.45 * variation, 2),
        turn=sign.turn * size + chance.normal(0, 0.3 * variation, 2),
        other_shape=sign.other_shape + chance.normal(0, 0.17 * variation, 6),
    )
    if token.cycles:
        token.cycles = max(1, token.cycles + (chance.random() < 0.4 * variation) * chance.choice([-1, 1]))
    if token.two_handed and token.symmetric and chance.random() < 0.15 * variation:
        token.two_handed = False
    return token


def tokens_in(states):
    """(T,) sign states, 0 for none, else three of each gloss in order -> (start, end, gloss) of each token."""
    frame = 0
    while frame < len(states):
        if states[frame] == 0:
            frame += 1
            continue
        gloss, start, last = (states[frame] - 1) // 3, frame, states[frame]
        while frame < len(states) and states[frame] != 0 and (states[frame] - 1) // 3 == gloss and states[frame] >= last:
            last = states[frame]
            frame += 1
        yield start, frame, int(gloss)


def progress(states):
    """(T,) from 0 to 1: how far a token is, from its three states."""
    state, along = (states - 1) % 3, np.zeros(len(states))
    for number in range(3):
        frames = np.flatnonzero(state == number)
        if len(frames):
            along[frames] = (number + (np.arange(len(frames)) + 0.5) / len(frames)) / 3
    return along


def hands_of(sign, along):
    """Paths (T, 2) of the right and the left hand and their angles (T,); the left hand's are None where it rests."""
    way = sign.end - sign.start
    path = sign.start + along[:, None] * way + sign.curl * np.sin(np.pi * along)[:, None] * np.array([-way[1], way[0]])
    if sign.cycles:
        around = 2 * np.pi * sign.cycles * along
        path += sign.radius * np.stack([np.cos(around), np.sin(around)], -1)
    right, right_angle = path * TO_SIGNERS_RIGHT, -(sign.angle[0] + sign.turn[0] * along)
    if not sign.two_handed:
        return right, right_angle, None, None
    if sign.symmetric:
        return right, right_angle, path, np.pi - right_angle
    other = (sign.other_start + along[:, None] * (sign.other_end - sign.other_start)) * TO_SIGNERS_RIGHT
    return right, right_angle, other, sign.angle[1] + sign.turn[1] * along


# --- Bodies -----------------------------------------------------------------------------------------------------------------------


def hand_points(wrist, angle, shape, size, side):
    """(T, 2), (T,), (T, 6) five bends in 0..1 and a spread, size in shoulder lengths, side 1 or -1 -> (T, 21, 2)."""
    points = np.zeros((len(wrist), NUM_HAND, 2))
    points[:, 0] = wrist
    directions = np.array([-0.9, -0.35, -0.08, 0.18, 0.45]) * side
    bones = np.array(
        [[0.35, 0.3, 0.25, 0.2], [0.5, 0.25, 0.17, 0.13], [0.52, 0.28, 0.18, 0.14], [0.5, 0.26, 0.17, 0.13], [0.46, 0.2, 0.14, 0.12]]
    )
    for finger in range(5):
        outward = angle + directions[finger] * (0.6 + 0.8 * shape[:, 5])
        end = wrist.copy()
        for joint in range(4):
            foreshortening = 1 - 0.75 * shape[:, finger] * (joint > 0)
            bent = outward + side * shape[:, finger] * 1.1 * joint * 0.5
            end = end + (bones[finger, joint] * size * foreshortening)[:, None] * np.stack([np.cos(bent), np.sin(bent)], -1)
            points[:, 1 + 4 * finger + joint] = end
    return points


def elbow(shoulder, wrist, upper, lower, side):
    """(T, 2) where two bones of these lengths meet; an arm that is too short points at the wrist."""
    way = wrist - shoulder
    distance = np.linalg.norm(way, axis=-1, keepdims=True).clip(1e-3)
    reach = np.minimum(distance, upper + lower - 1e-3)
    along = (upper**2 - lower**2 + reach**2) / (2 * reach)
    beside = np.sqrt(np.maximum(upper**2 - along**2, 0))
    forward = way / distance
    return shoulder + along * forward + beside * np.stack([-forward[:, 1], forward[:, 0]], -1) * side


def face_points(center, mouth, brow, size):
    """(T, 2), (T, 3) how wide, open and low the lips are, (T,) raised brows -> (T, 70, 2)."""
    points = np.zeros((len(center), NUM_FACE, 2))
    jaw = np.linspace(0.08 * np.pi, 0.92 * np.pi, 17)
    points[:, 0:17] = np.stack([-np.cos(jaw) * 0.22, np.sin(jaw) * 0.30], -1)
    for first, start in ((17, -0.17), (22, 0.05)):
        points[:, first : first + 5, 0] = np.linspace(start, start + 0.12, 5)
        points[:, first : first + 5, 1] = -0.12 - 0.02 * np.sin(np.linspace(0, np.pi, 5)) - brow[:, None]
    points[:, 27:31] = np.stack([np.zeros(4), np.linspace(-0.06, 0.05, 4)], -1)
    points[:, 31:36] = np.stack([np.linspace(-0.04, 0.04, 5), np.full(5, 0.07)], -1)
    lids = np.linspace(0, 2 * np.pi, 7)[:6]
    for first, start in ((36, -0.10), (42, 0.10)):
        points[:, first : first + 6] = np.stack([start + 0.035 * np.cos(lids + np.pi), -0.06 + 0.015 * np.sin(lids)], -1)
    outer, inner = np.linspace(0, 2 * np.pi, 13)[:12], np.linspace(0, 2 * np.pi, 9)[:8]
    wide, opened, low = (channel[:, None] for channel in mouth.T)
    points[:, 48:60, 0] = -(0.05 + 0.05 * wide) * np.cos(outer)
    points[:, 48:60, 1] = 0.15 + (0.015 + 0.05 * opened) * -np.sin(outer) + 0.02 * low
    points[:, 60:68, 0] = -(0.035 + 0.04 * wide) * np.cos(inner)
    points[:, 60:68, 1] = 0.15 + (0.005 + 0.04 * opened) * -np.sin(inner) + 0.02 * low
    points[:, 68], points[:, 69] = [-0.10, -0.06], [0.10, -0.06]
    return center[:, None] + points * size


def body_points(head, right, left, arm, head_size):
    """(T, 2) of the head and of both wrists, lengths of arm and head -> (T, 25, 2), BODY_25."""
    points = np.zeros((len(head), NUM_BODY, 2))
    nose = head + [0, -0.62 * head_size]
    points[:, 0] = nose
    points[:, 2], points[:, 5] = [-0.5, 0.03], [0.5, 0.03]
    points[:, 4], points[:, 7] = right * arm, left * arm
    points[:, 3] = elbow(points[:, 2], points[:, 4], 0.75 * arm, 0.72 * arm, -1)
    points[:, 6] = elbow(points[:, 5], points[:, 7], 0.75 * arm, 0.72 * arm, 1)
    points[:, 8], points[:, 9], points[:, 12] = [0, 1.6], [-0.3, 1.62], [0.3, 1.62]
    points[:, 15:17] = nose[:, None] + np.array([[-0.09, -0.06], [0.09, -0.06]])
    points[:, 17:19] = nose[:, None] + np.array([[-0.2, -0.02], [0.2, -0.02]])
    return points


def mirrored(points):
    """A left-handed signer: x changes its sign, left and right points change places."""
    order = np.arange(points.shape[1])
    for right, left in MIRRORED_BODY:
        order[[right, left]] = left, right
    order[LEFT_HAND], order[RIGHT_HAND] = np.arange(116, 137), np.arange(95, 116)
    return points[:, order] * TO_SIGNERS_RIGHT


def follow(targets, smoothness=1.6):
    """(T, N) -> (T, N): a critically damped arm that follows its target; neighbouring signs blend as they do in signing."""
    followed, rate = np.empty_like(targets), 1 / smoothness
    place, velocity = targets[0].copy(), np.zeros_like(targets[0])
    for frame in range(len(targets)):
        velocity += rate * rate * (targets[frame] - place) - 2 * rate * velocity * 0.9
        place = place + velocity
        followed[frame] = place
    return followed


# --- The estimator ----------------------------------------------------------------------------------------------------------------


def bursts(draw, num_frames, rate, mean):
    """(T,) bool: True in runs that begin with probability `rate` in a frame and last `mean` frames on average."""
    on = np.zeros(num_frames, bool)
    for frame in np.flatnonzero(draw.random(num_frames) < rate):
        on[frame : frame + draw.geometric(1 / mean)] = True
    return on


def estimator_noise(draw, num_frames, variation):
    """(T, 137, 2) pixels: jitter that lasts a few frames, and bursts in which a hand's fingers are guessed."""
    white = draw.normal(0, 1, (num_frames, 137, 2)) * np.where(draw.random((num_frames, 137, 1)) < 0.05, 3, 1)
    noise = np.empty_like(white)
    noise[0] = white[0]
    for frame in range(1, num_frames):
        noise[frame] = 0.6 * noise[frame - 1] + 0.8 * white[frame]
    noise[:, :95] *= 0.2
    noise[:, 95:] *= 0.45
    for hand in (LEFT_HAND, RIGHT_HAND):
        noise[bursts(draw, num_frames, 0.012 * variation, 5), hand.start + 1 : hand.stop] *= 5
    return noise


# --- Clips ------------------------------------------------------------------------------------------------------------------------


def render_clip(record, seed=7, dropout=0.0, jitter=1.0, variation=0.0):
    """One sentence as an estimator would see it.

    Args:
        record: `id`, `signer`, and for each frame `sign_state`, `mouth_shape`, `hand_shape`, whole numbers.
        seed: of the language: which sign looks how.
        dropout: share of the frames in which a hand is lost.
        jitter: of the estimator, relative to what was calibrated.
        variation: of signers and tokens; 0, or 1.2 for motion as hard as real signs.

    Returns:
        (T, 137, 3) float32: x and y in pixels, and confidence; all 0 where a point was not seen.
    """
    alignments = [np.asarray(record[name], int) for name in ("sign_state", "mouth_shape", "hand_shape")]
    num_frames = min(map(len, alignments))
    states, mouth_shapes, hand_shapes = (values[:num_frames] for values in alignments)
    signer = int("".join(letter for letter in record["signer"] if letter.isdigit()) or 0)
    style = style_of(seed, signer, variation)
    name = sum(map(ord, record["id"]))
    chance = random_stream(seed, TOKENS, name, num_frames)
    body = random_stream(seed, BODY, signer)
    arm, hand_size, head_size = body.uniform(0.85, 1.1), body.uniform(0.38, 0.5), body.uniform(0.9, 1.1)
    scale = body.uniform(60, 80)  # pixels of a shoulder length

    moving = _move(states, mouth_shapes, hand_shapes, seed, style, chance, variation)
    right, left = moving[:, 0:2], moving[:, 2:4]
    right_angle, left_angle = np.arctan2(moving[:, 5], moving[:, 4]), np.arctan2(moving[:, 7], moving[:, 6])
    shape, other_shape, mouth = moving[:, 8:14].clip(0, 1), moving[:, 14:20].clip(0, 1), moving[:, 20:23].clip(0, 1.2)
    brow, head = moving[:, 23], moving[:, 24:26]

    whole = body_points(head, right, left, arm, head_size)
    face = face_points(whole[:, 0], mouth, brow, head_size)
    right_hand = hand_points(whole[:, 4], right_angle, shape, hand_size, 1)
    left_hand = hand_points(whole[:, 7], left_angle, other_shape, hand_size, -1)
    points = np.concatenate([whole, face, left_hand, right_hand], 1)  # (T, 137, 2)
    if style.left_handed:
        points = mirrored(points)
    rotation = [[np.cos(style.roll), np.sin(style.roll)], [-np.sin(style.roll), np.cos(style.roll)]]
    points = points * [np.cos(style.yaw), 1] @ rotation
    return _photograph(points, scale, random_stream(seed, PICTURE, name, num_frames), chance, dropout, jitter, variation)


def _move(states, mouth_shapes, hand_shapes, seed, style, chance, variation):
    """(T, 26): wrists, cosine and sine of both hands' angles, both hands' shapes, mouth, brow and head, as they follow the signs."""
    num_frames = len(states)
    right, left = np.tile([-0.55, 1.7], (num_frames, 1)), np.tile([0.55, 1.7], (num_frames, 1))  # at rest
    right_angle, left_angle = np.full(num_frames, np.pi / 2), np.full(num_frames, np.pi / 2)
    other_shape, bends = np.full((num_frames, 6), 0.4), np.zeros((num_frames, 6))
    brow, head = np.zeros(num_frames), np.zeros((num_frames, 2))
    for start, end, gloss in tokens_in(states):
        span, sign = slice(start, end), sign_of(seed, gloss)
        if variation:
            sign = token_of(sign, style, chance, variation)
            bends[span] = style.bends + chance.normal(0, 0.17 * variation, 6)
        right[span], right_angle[span], other, other_angle = hands_of(sign, progress(states[span]))
        if other is not None:
            left[span], left_angle[span] = other, other_angle
        other_shape[span], brow[span], head[span] = sign.other_shape, sign.brow, sign.head
    shape = np.stack([_shape_of(seed, HAND_SHAPE, number, np.full(6, 0.45)) for number in hand_shapes]) + bends
    mouth = np.stack([_shape_of(seed, MOUTH_SHAPE, number, np.array([0.3, 0.05, 0.0])) for number in mouth_shapes])
    angles = [call(angle)[:, None] for angle in (right_angle, left_angle) for call in (np.cos, np.sin)]
    targets = np.concatenate([right, left, *angles, shape, other_shape, mouth, brow[:, None], head], 1)
    return follow(targets, style.smoothness)


def _shape_of(seed, kind, number, resting):
    return random_stream(seed, kind, int(number)).uniform(0, 1, len(resting)) if number else resting


def _photograph(points, scale, draw, chance, dropout, jitter, variation):
    """Shoulder lengths to pixels with an estimator's confidence and errors: (T, 137, 2) -> (T, 137, 3)."""
    num_frames = len(points)
    origin = np.array([105.0, 110.0]) + draw.normal(0, 4, 2)
    noise = draw.normal(0, 0.35 * jitter, points.shape)
    noise[:, NUM_BODY : NUM_BODY + NUM_FACE] *= 0.5
    if variation:
        noise = estimator_noise(chance, num_frames, variation) * jitter
    sway = follow(np.cumsum(draw.normal(0, 0.25, (num_frames, 1, 2)), 0), 6)
    pixels = points * scale + origin + noise + sway
    confidence = np.clip(draw.normal(0.8, 0.1, (num_frames, 137)), 0.05, 1)
    confidence[:, NEVER_SEEN] = 0
    if dropout:
        for hand in (LEFT_HAND, RIGHT_HAND):
            lost = bursts(chance, num_frames, dropout / 4, 4) if variation else draw.random(num_frames) < dropout
            confidence[lost, hand] = 0
    pixels[confidence == 0] = 0
    return np.concatenate([pixels, confidence[..., None]], -1).astype(np.float32)


def rows(records, seed=7, dropout=0.03, variation=0.0):
    """Canonical rows of records, see `render_clip`, that have a `text` and a `gloss` too."""
    for record in records:
        clip = render_clip(record, seed, dropout, variation=variation)
        yield dict(
            id=record["id"], keypoints=clip[..., :2], confidence=clip[..., 2], layout="openpose137", fps=FPS, width=WIDTH, height=HEIGHT,
            text=record["text"], gloss=record["gloss"], label=None, signer=record["signer"], language="gsg",
        )  # fmt: skip


def write(records, output, seed=7, dropout=0.03, variation=0.0, chunk=200):
    """Writes the rows as one Parquet file, which is there when it is whole."""
    import datasets
    import pyarrow.parquet as parquet

    from datasets_scripts.schema import features

    output = Path(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(output) as unfinished, contextlib.ExitStack() as opened:
        writer = None
        for start in range(0, len(records), chunk):  # all of PHOENIX14T at once is more than a gigabyte
            chunk_rows = list(rows(records[start : start + chunk], seed, dropout, variation))
            table = datasets.Dataset.from_list(chunk_rows, features=features(137, 2)).data.table
            writer = writer or opened.enter_context(parquet.ParquetWriter(unfinished, table.schema))
            writer.write_table(table)


def main(argv=None):
    parser = CommandParser(__doc__)
    parser.add_argument("--annotations", required=True, help="Parquet: id, text, gloss, signer, sign_state, mouth_shape, hand_shape")
    parser.add_argument("--output", required=True, help="the Parquet file to write")
    parser.add_argument("--limit", type=int, help="only so many sentences")
    parser.add_argument("--seed", type=int, default=7, help="of the language: which sign looks how")
    parser.add_argument("--dropout", type=float, default=0.03, help="share of the frames in which a hand is lost")
    parser.add_argument("--variation", type=float, default=0.0, help="1.2 is as hard as real signs; 0 signs every token alike")
    arguments = vars(parser.parse_args(argv))
    import pyarrow.parquet as parquet

    records = parquet.read_table(arguments.pop("annotations")).to_pylist()[: arguments.pop("limit")]
    write(records, **arguments)


if __name__ == "__main__":
    main()
