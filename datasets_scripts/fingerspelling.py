"""Fingerspelling corpus: words spelled by real recordings of letters, with no download beyond a Python package.

    pip install spoken-to-signed pose-format
    python -m datasets_scripts.fingerspelling --output_dir fingerspelling --languages ase gsg --num_words 1000

What it is: the citation letters of twenty manual alphabets, one recording for each letter, which the package `spoken-to-signed`
carries (MIT, ZurichNLP; its clips carry no licence of their own). Nothing of it is copied here; the clips are read from the
installed package. A word is its letters' clips joined by interpolated transitions, so pairs of text and keypoints are real hand
shapes in an order that nobody signed. It is fingerspelling, not sign-language sentences: scores on it say that a model learns,
not that it translates.

How a word comes about: every clip is read into `uniglor73`, laid on one neck and one shoulder length, brought to 25 frames a second
and cut to its active core (the hand's way up and down goes, holds are shortened, movement stays); letters are joined by transitions
that ease in and out and take longer over longer ways; the last letter is held. An `Augmentation` varies all of it from a seed.

Shapes: T frames, K = 73 keypoints, C = 2 channels. Inside: shoulder lengths, the neck at the origin. Outside: pixels.
"""

# ruff: noqa: E402 (--help and mistakes are answered before the imports that take seconds)

import argparse
import json

from .commands import CommandParser, existing_path, output_folder, parse_early, positive, print_written, run_command

LANGUAGES = {  # sign language -> the spoken language whose letters it spells, both as the lexicon's index names them
    "ase": "en", "asq": "de", "bzs": "pt", "cse": "cs", "csq": "hr", "eso": "et", "fsl": "fr", "gsg": "de", "gss": "el", "ise": "it",
    "jos": "ar", "lls": "lt", "mfs": "es", "psr": "pt", "sgg": "de", "ssp": "es", "svk": "sk", "swl": "sv", "tsm": "tr", "ukl": "uk",
}  # fmt: skip
UNITS = ("word", "letter")


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = CommandParser(__doc__, prog="python -m datasets_scripts.fingerspelling")
    parser.add_argument("--output_dir", required=True, help="datasets.load_dataset(output_dir) reads the rows")
    parser.add_argument("--languages", nargs="+", default=["ase"], choices=LANGUAGES, metavar="CODE", help=f"of {' '.join(LANGUAGES)}")
    parser.add_argument(
        "--held_out_languages", nargs="+", default=[], choices=LANGUAGES, metavar="CODE", help="for the split held_out only"
    )
    parser.add_argument("--num_words", type=positive, help="for each language in the train split")
    parser.add_argument("--num_evaluation_words", type=positive, help="in each other split; by default an eighth of num_words")
    parser.add_argument("--words", metavar="FILE", help="a text file with one word per line, to spell instead of generated ones")
    parser.add_argument("--unit", choices=UNITS, default="word")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--augmentation", type=json.loads, help="""JSON of Augmentation's fields, '{}' for its defaults""")
    return parser.parse_args(argv)


def checked(argv: list[str] | None = None) -> argparse.Namespace:
    """The arguments of a command line, after a look at its file and folder."""
    arguments = parse(argv)
    arguments.output_dir = output_folder(arguments.output_dir)
    arguments.words = arguments.words and existing_path(arguments.words, "--words")
    return arguments


if __name__ == "__main__":
    parse_early(checked)

import csv
import dataclasses
import functools
import hashlib
import importlib.util
import math
import re
import unicodedata
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import numpy as np

from modeling_unigloR.fingerprint_uniglor import processing_hash
from modeling_unigloR.keypoint_clip_uniglor import KeypointClip
from modeling_unigloR.keypoint_processing_uniglor import map_layout
from modeling_unigloR.keypoints_uniglor import (
    HAND_POINTS,
    SIDES,
    copy_pairs,
    get_layout,
    mirror_permutation,
    point_index,
)
from modeling_unigloR.limits_uniglor import is_number, short

from .corpus import read_lines
from .schema import Row, check_row, features
from .whole import whole_file

Arrays = tuple[np.ndarray, np.ndarray]  # keypoints (T, K, C), confidence (T, K)
Words = Sequence[str] | dict[str, Sequence[str]]  # for all languages, or by language

LAYOUT = "uniglor73"
SOURCE_LAYOUT = "mediapipe543"
FPS = 25.0
WIDTH = HEIGHT = 512  # pixels of the canvas that words are laid on
SHOULDER_PIXELS = 128.0
NECK_PIXELS = np.array([256.0, 215.0], np.float32)

SPLITS = ("train", "validation", "test")
MAX_LETTERS = 1000  # of one clip

# Trimming, in shoulder lengths a second and frames at 25 fps; chosen by looking at the speed of the hand in all 600 clips.
STILL_SPEED = 1.5  # the hand has arrived, or not yet left
ARRIVAL_SPEED = 5.0  # below this, a dip in speed also counts as arrival: letters that move (J, Z) never come to rest
MOVING_SPEED = 0.8  # a movement is a run above this that reaches MOVEMENT_PEAK or leads over MOVEMENT_LENGTH
MOVEMENT_PEAK, MOVEMENT_LENGTH = 2.0, 0.2
TRAVEL_SPEED, TRAVEL_FRAMES = 10.0, 4  # so fast for so long the hand has left: two recordings go on with the letters that follow
HELD_FRAMES = 7  # of a letter that does not move
MARGIN_FRAMES = 2  # before and after the movement of one that does
MIN_FRAMES = 6  # shorter letters (the Greek recordings) are stretched to it
RECORDING_FRAMES = 15  # a letter alone has at least so many, where its recording does
FINAL_FRAMES = 4  # the last letter of a word is held for so many more
TRANSITION_FRAMES = (4, 10)
TRANSITION_FRAMES_PER_LENGTH = 7.0  # frames for each shoulder length that the farthest point travels

_POINTS = point_index(LAYOUT)
_COPIES, _ORIGINALS = copy_pairs(LAYOUT)
_HANDS = {side: slice(_POINTS[f"{side}_hand_root"], _POINTS[f"{side}_hand_root"] + len(HAND_POINTS)) for side in SIDES}
_WRISTS = {side: _POINTS[f"{side}_wrist"] for side in SIDES}
_ELBOWS = {side: _POINTS[f"{side}_elbow"] for side in SIDES}


# --- Texts ------------------------------------------------------------------------------------------------------------------------


def normalize_text(text: str, language: str | None = None) -> str:
    """The text composed (NFC) and in lower case; Turkish I and İ have their own rule, and a final sigma becomes a sigma."""
    if not isinstance(text, str):
        raise ValueError(f"Found a text that is a {type(text).__name__}, {short(text)}. Expected a str.")
    text = unicodedata.normalize("NFC", text)
    if language == "tsm":
        text = text.replace("I", "ı").replace("İ", "i")
    return unicodedata.normalize("NFC", text.lower()).replace("ς", "σ")


def split_letters(text: str, language: str) -> list[str]:
    """The letters that spell a text, keys of `alphabet(language)`: the longest match at each place, from left to right.

    Raises:
        ValueError: empty text, or a character that the alphabet lacks, which it names.
    """
    normal, pattern, place = normalize_text(text, language), _letter_pattern(language), 0
    letters: list[str] = []
    while place < len(normal):
        match = pattern.match(normal, place)
        if match is None:
            raise ValueError(
                f"No letter for {normal[place]!r} of {text!r} in the alphabet of {language!r}. "
                f"Expected only: {' '.join(_letter_paths(language))}."
            )
        letters.append(match.group())
        place = match.end()
    if not letters:
        raise ValueError(f"Cannot spell the empty text {text!r} in {language!r}. Expected at least one letter.")
    return letters


def split_of_word(word: str) -> str:
    """The split that a word belongs to, by its own letters alone: "train" (0.8), "validation" (0.1) or "test" (0.1).

    The same in every language and for every seed and number of words, so that splits stay disjoint whatever is generated.
    """
    share = int.from_bytes(hashlib.sha256(normalize_text(word).encode("utf-8", "surrogatepass")).digest()[:4], "big") / 2**32
    return "train" if share < 0.8 else "validation" if share < 0.9 else "test"


def generate_words(
    num_words: int, language: str, seed: int = 0, min_letters: int = 3, max_letters: int = 8, split: str | None = None
) -> list[str]:
    """Distinct random words in which every letter of the alphabet, digraphs too, is about equally frequent.

    Letters are dealt from a shuffled deck; one that would merge with its neighbours (b after b where bb is a letter) waits.
    `split_letters` gives back the letters that were dealt.

    Args:
        split: one of `SPLITS` to which the words belong, or None for all.
    """
    if not 1 <= min_letters <= max_letters:
        raise ValueError(f"min_letters={min_letters} and max_letters={max_letters} must satisfy 1 <= min_letters <= max_letters.")
    if split not in (None, *SPLITS):
        raise ValueError(f"Unknown split {split!r}. Expected one of {SPLITS}, or None.")
    if not is_number(num_words, 0, 10_000_000):
        raise ValueError(f"Found num_words={short(num_words)}. Expected how many words to generate.")
    rng = _rng(seed, "words", language)
    alphabet_letters, misses = list(_letter_paths(language)), 0
    deck: list[str] = []
    words: dict[str, None] = {}
    while len(words) < num_words:
        num_letters = rng.integers(min_letters, max_letters + 1)
        letters: list[str] = []
        while len(letters) < num_letters:
            fits = (i for i, letter in enumerate(deck) if split_letters("".join(letters) + letter, language) == [*letters, letter])
            position = next(fits, None)
            if position is None:
                deck += [alphabet_letters[i] for i in rng.permutation(len(alphabet_letters))]
            else:
                letters.append(deck.pop(position))
        word = "".join(letters)
        if word in words or split not in (None, split_of_word(word)):
            misses += 1
            if misses > 20_000:
                raise ValueError(
                    f"Found only {len(words)} of num_words={num_words} distinct words of {min_letters} to {max_letters} letters "
                    f"in {language!r}, split {split}. Ask for fewer, or for longer ones."
                )
        else:
            words[word], misses = None, 0
    return list(words)


# --- Letters ----------------------------------------------------------------------------------------------------------------------


class Letter(NamedTuple):
    """One recording of a letter at 25 fps, in shoulder lengths with the neck at the origin; its arrays are read-only.

    Attributes:
        keypoints, confidence: (T, K, C) and (T, K), the part that a word uses: the active core with shortened holds.
        held_keypoints, held_confidence: the `FINAL_FRAMES` frames that follow, for the end of a word.
        recorded_keypoints, recorded_confidence: real frames only, cut less tightly: the letter alone.
    """

    keypoints: np.ndarray
    confidence: np.ndarray
    held_keypoints: np.ndarray
    held_confidence: np.ndarray
    recorded_keypoints: np.ndarray
    recorded_confidence: np.ndarray


def alphabet(language: str) -> dict[str, Letter]:
    """The letters of a sign language, in the order of the lexicon; a process reads each clip once."""
    return {letter: _read_letter(path) for letter, path in _letter_paths(language).items()}


def letter_clip(letter: str, language: str) -> Arrays:
    """One letter as it was recorded, trimmed loosely (15 frames or more, where the recording has them), on the canvas at 25 fps.

    Returns:
        keypoints (T, K, C) float32 in pixels, 0 where not seen; confidence (T, K) float32.
    """
    clip = _letter(letter, language)
    return _on_canvas(clip.recorded_keypoints, clip.recorded_confidence), clip.recorded_confidence.copy()


def _letter(letter: str, language: str) -> Letter:
    paths, normal = _letter_paths(language), normalize_text(letter, language)
    if normal not in paths:
        raise ValueError(f"Unknown letter {letter!r} of {language!r}. Expected one of: {' '.join(paths)}.")
    return _read_letter(paths[normal])


def _lexicon_dir() -> Path:
    package = importlib.util.find_spec("spoken_to_signed")  # looked up, not imported: its import takes seconds and is not needed
    if package is None or package.origin is None:
        raise ImportError("The fingerspelling corpus reads the letters of spoken-to-signed: pip install spoken-to-signed pose-format")
    return Path(package.origin).parent / "assets" / "fingerspelling_lexicon"


@functools.cache
def _letter_paths(language: str) -> dict[str, str]:
    """{letter: path of its clip in the lexicon} of a sign language."""
    if language not in LANGUAGES:
        raise ValueError(f"Unknown sign language {language!r}. Expected one of {', '.join(LANGUAGES)}.")
    with open(_lexicon_dir() / "index.csv", encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if (row["signed_language"], row["spoken_language"]) == (language, LANGUAGES[language])]
    if not rows:
        raise ValueError(f"The installed spoken-to-signed has no letters of {language!r}. Expected version 0.4 or newer.")
    return {normalize_text(row["words"], language): row["path"] for row in rows}


@functools.cache
def _letter_pattern(language: str) -> re.Pattern[str]:
    return re.compile("|".join(re.escape(letter) for letter in sorted(_letter_paths(language), key=len, reverse=True)))


@functools.cache
def _read_letter(path: str) -> Letter:
    """`Letter` of a clip of the lexicon. Two languages that share a clip share the `Letter`."""
    try:
        from pose_format import Pose
    except ImportError as error:
        raise ImportError("The fingerspelling corpus reads .pose files: pip install pose-format") from error
    pose = Pose.read((_lexicon_dir() / path).read_bytes())
    points, certainty = np.asarray(pose.body.data.filled(0))[:, 0, :, :2], np.asarray(pose.body.confidence)[:, 0]
    clip = map_layout(KeypointClip(points, certainty, SOURCE_LAYOUT, id=path), LAYOUT)
    keypoints, confidence = clip.keypoints, clip.confidence

    num_frames = round((len(keypoints) - 1) * FPS / pose.body.fps) + 1
    keypoints, confidence = _sample(keypoints, confidence, np.linspace(0, len(keypoints) - 1, num_frames))
    right, left = (_POINTS[name] for name in get_layout(LAYOUT).scale)
    shoulder = np.median(np.linalg.norm(keypoints[:, right] - keypoints[:, left], axis=-1))
    speed = _hand_speed(keypoints / shoulder, confidence, path)
    start, stop, end = _active_core(speed)
    first, last = _spelled_part(speed, start, stop)

    # Every clip on one neck and one shoulder length, so that bodies do not jump where letters join.
    core = keypoints[start:stop]
    neck = np.median(core[:, _POINTS["neck"]], axis=0)
    shoulder = np.median(np.linalg.norm(core[:, right] - core[:, left], axis=-1))
    keypoints = np.where(confidence[..., None] > 0, (keypoints - neck) / shoulder, 0).astype(np.float32)

    spelled = np.linspace(first, last - 1, max(last - first, MIN_FRAMES))
    held = np.minimum(np.arange(last, last + FINAL_FRAMES), stop - 1)
    margin = max(3, math.ceil((RECORDING_FRAMES - (stop - start)) / 2))
    begin = max(0, min(start - margin, end - RECORDING_FRAMES))
    recorded = np.arange(begin, min(end, max(stop + margin, begin + RECORDING_FRAMES)))
    parts = [keypoints[held], confidence[held], keypoints[recorded], confidence[recorded]]
    letter = Letter(*_sample(keypoints, confidence, spelled), *parts)
    for array in letter:
        array.flags.writeable = False
    return letter


def _hand_speed(keypoints: np.ndarray, confidence: np.ndarray, name: str) -> np.ndarray:
    """Mean speed of the points of the faster hand from frame to frame, (T - 1,), in shoulder lengths per second.

    It is inf before the hand is first seen and after it is last seen. A hand that is seen in less than 0.4 of the frames is idle.
    """
    speeds = []
    for hand in _HANDS.values():
        seen = np.all(confidence[:, hand] > 0, axis=1)
        steps = np.flatnonzero(seen[1:] & seen[:-1])
        if seen.mean() >= 0.4 and len(steps):
            speed = np.linalg.norm(np.diff(keypoints[:, hand], axis=0), axis=-1).mean(1) * FPS  # (T - 1,)
            speeds.append(np.interp(np.arange(len(speed)), steps, speed[steps], left=np.inf, right=np.inf))
    if not speeds:
        raise ValueError(f"{name}: neither hand is seen in 0.4 of the frames. Expected a letter that a hand signs.")
    return np.max(speeds, axis=0)


def _active_core(speed: np.ndarray) -> tuple[int, int, int]:
    """(start, stop) of the frames between the hand's arrival and its leaving, and the end of the recording of this letter."""
    slow = speed < STILL_SPEED
    dips = (speed < ARRIVAL_SPEED) & (speed <= np.r_[np.inf, speed[:-1]]) & (speed <= np.r_[speed[1:], np.inf])
    arrived = slow | dips
    if not arrived.any():
        arrived = speed <= speed.min()
    start = int(np.argmax(arrived))
    travels = np.convolve(speed > TRAVEL_SPEED, np.ones(TRAVEL_FRAMES), "valid") == TRAVEL_FRAMES  # (T - TRAVEL_FRAMES,) starts of a run
    travels = np.flatnonzero(travels[start:]) + start
    end = int(travels[0]) + 1 if len(travels) else len(speed) + 1
    stop = int(np.flatnonzero(arrived[: end - 1])[-1]) + 2
    return start, stop, end


def _spelled_part(speed: np.ndarray, start: int, stop: int) -> tuple[int, int]:
    """(first, last) of the core that a word uses: its movement with a margin, or the stillest few frames of a held letter."""
    inside = speed[start : stop - 1]
    moving = np.r_[False, inside > MOVING_SPEED, False]
    begins, ends = np.flatnonzero(moving[1:] & ~moving[:-1]), np.flatnonzero(moving[:-1] & ~moving[1:])  # steps [begin, end)
    runs = [
        (int(begin), int(end)) for begin, end in zip(begins, ends)
        if inside[begin:end].max() > MOVEMENT_PEAK or inside[begin:end].sum() / FPS > MOVEMENT_LENGTH
    ]  # fmt: skip
    if runs:
        first, last = start + runs[0][0] - MARGIN_FRAMES, start + runs[-1][1] + 1 + MARGIN_FRAMES
        spare = HELD_FRAMES - (min(last, stop) - max(first, start))
        return max(first - max(spare, 0), start), min(last + max(spare, 0), stop)
    if stop - start <= HELD_FRAMES:
        return start, stop
    path = np.r_[0, np.cumsum(inside)]  # way up to each frame of the core
    first = start + int(np.argmin(path[HELD_FRAMES - 1 :] - path[: len(path) - HELD_FRAMES + 1]))
    return first, first + HELD_FRAMES


def _sample(keypoints: np.ndarray, confidence: np.ndarray, positions: np.ndarray) -> Arrays:
    """A clip, interpolated at fractional frame positions (T',); a point is seen if the nearer of its two frames shows it."""
    before = np.floor(positions).astype(int)
    after = np.minimum(before + 1, len(keypoints) - 1)
    share = (positions - before)[:, None]
    before_weight, after_weight = (1 - share) * (confidence[before] > 0), share * (confidence[after] > 0)  # (T', K)
    total = before_weight + after_weight
    seen = total >= 0.5
    before_weight, after_weight = before_weight / np.where(seen, total, 1) * seen, after_weight / np.where(seen, total, 1) * seen
    sampled = keypoints[before] * before_weight[..., None] + keypoints[after] * after_weight[..., None]
    return sampled.astype(np.float32), (confidence[before] * before_weight + confidence[after] * after_weight).astype(np.float32)


# --- Augmentation -----------------------------------------------------------------------------------------------------------------

OFF = (1.0, 1.0)


@dataclass(frozen=True)
class Augmentation:
    """How much a spelled word may differ from its recordings. Lengths are in shoulder lengths, ranges are factors (low, high).

    A model that sees a hundred clips many times learns them by heart; varied is what differs between recordings of different people,
    cameras and alphabets.
    """

    # Once for each word
    speed: tuple = (0.8, 1.25)
    scale: tuple = (0.9, 1.1)
    stretch: tuple = (0.9, 1.1)  # of x against y
    rotation: float = 6.0  # degrees, to either side
    mirror: float = 0.3  # probability: the other hand signs
    shape_noise: float = 0.01  # standard deviation of each point's own place: another body
    # Once for each letter
    letter_speed: tuple = (0.85, 1.2)
    hand_scale: tuple = (0.85, 1.15)
    hand_stretch: tuple = (0.8, 1.25)  # along a random axis: a hand that turns away from the camera
    hand_rotation: float = 12.0  # degrees about the wrist, to either side
    hand_shift: float = 0.08  # standard deviation of the wrists' place; elbows follow by half
    # Through time
    smooth_noise: float = 0.012  # standard deviation of a slow drift of each point; hands follow their wrist
    noise: float = 0.004  # standard deviation in each frame
    dropped_points: float = 0.01  # probability of each point in each frame
    dropped_hands: float = 0.1  # probability for each hand of a word to be lost for one to five frames

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(field.default, tuple):
                object.__setattr__(self, field.name, tuple(value))  # lists come from YAML
                if len(value) != 2 or not 0 < value[0] <= value[1]:
                    raise ValueError(f"{field.name}={value} must be a range (low, high) with 0 < low <= high; {OFF} is off.")
            elif value < 0 or (field.name in ("mirror", "dropped_points", "dropped_hands") and value > 1):
                raise ValueError(f"{field.name}={value} must be at least 0{', and at most 1: a probability' if value > 1 else ''}.")

    @classmethod
    def off(cls, **fields: Any) -> "Augmentation":
        """An augmentation that changes nothing, except by the fields that are passed."""
        return cls(**{field.name: OFF if isinstance(field.default, tuple) else 0.0 for field in dataclasses.fields(cls)} | fields)


def _factor(bounds: tuple[float, float], rng: np.random.Generator) -> float:
    return math.exp(rng.uniform(math.log(bounds[0]), math.log(bounds[1])))


def _turn(degrees: float) -> np.ndarray:
    angle = math.radians(degrees)
    return np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])


def _vary_letter(keypoints: np.ndarray, confidence: np.ndarray, augmentation: Augmentation, rng: np.random.Generator) -> Arrays:
    """One letter with its hands turned, sized, foreshortened and moved, and its speed changed."""
    varied = keypoints.copy()
    shift = rng.normal(0, 1, 2) * augmentation.hand_shift  # both hands alike: hands that touch go on touching
    for side, hand in _HANDS.items():
        axis, wrist = _turn(rng.uniform(0, 180)), _WRISTS[side]
        stretch, scale = _factor(augmentation.hand_stretch, rng) ** 0.5, _factor(augmentation.hand_scale, rng)
        rotation = _turn(rng.uniform(-1, 1) * augmentation.hand_rotation)
        change = rotation @ axis @ np.diag([stretch * scale, scale / stretch]) @ axis.T  # (2, 2)
        pivot = np.where(confidence[:, wrist, None] > 0, keypoints[:, wrist], keypoints[:, hand.start])[:, None]  # (T, 1, 2)
        varied[:, hand] = (keypoints[:, hand] - pivot) @ change.T + pivot + shift
        varied[:, wrist] += shift
        varied[:, _ELBOWS[side]] += shift / 2
    varied[:, _COPIES] = varied[:, _ORIGINALS]
    num_frames = max(round(len(keypoints) / _factor(augmentation.letter_speed, rng)), 3)
    return _sample(varied, confidence, np.linspace(0, len(keypoints) - 1, num_frames))


def _vary_word(keypoints: np.ndarray, confidence: np.ndarray, augmentation: Augmentation, rng: np.random.Generator) -> Arrays:
    """A joined word with another body, drift, view, side and detector."""
    num_frames, num_points = confidence.shape
    keypoints = keypoints + rng.normal(0, 1, (num_points, 2)) * augmentation.shape_noise

    knots = rng.normal(0, 1, (num_frames // 8 + 2, num_points, 2)) * augmentation.smooth_noise  # a new direction every eight frames
    before, share = np.divmod(np.arange(num_frames) / 8, 1)
    before, share = before.astype(int), (share**2 * (3 - 2 * share))[:, None, None]
    drift = knots[before] * (1 - share) + knots[before + 1] * share  # (T, K, C)
    for side, hand in _HANDS.items():
        drift[:, hand] = drift[:, hand] / 2 + drift[:, _WRISTS[side], None]
    keypoints = keypoints + drift

    stretch, scale = _factor(augmentation.stretch, rng) ** 0.5, _factor(augmentation.scale, rng)
    view = _turn(rng.uniform(-1, 1) * augmentation.rotation) @ np.diag([stretch * scale, scale / stretch])
    keypoints = keypoints @ view.T
    if rng.random() < augmentation.mirror:
        permutation = mirror_permutation(LAYOUT)
        keypoints, confidence = keypoints[:, permutation] * [-1.0, 1.0], confidence[:, permutation]

    keypoints = keypoints + rng.normal(0, 1, keypoints.shape) * augmentation.noise
    kept = rng.random(confidence.shape) >= augmentation.dropped_points
    for hand in _HANDS.values():
        lost, start, length = rng.random(), rng.integers(num_frames), rng.integers(1, 6)
        if lost < augmentation.dropped_hands:
            kept[start : start + length, hand] = False
    kept[:, _COPIES], keypoints[:, _COPIES] = kept[:, _ORIGINALS], keypoints[:, _ORIGINALS]
    return keypoints, confidence * kept


# --- Words ------------------------------------------------------------------------------------------------------------------------


def spell(text: str, language: str, augmentation: Augmentation | None = None, rng: np.random.Generator | None = None) -> Arrays:
    """A text spelled by the letters of a sign language, at 25 fps on a canvas of `WIDTH` x `HEIGHT` pixels.

    Args:
        augmentation: an `Augmentation`, or None for the recordings as they are.
        rng: which an augmentation needs.

    Returns:
        keypoints (T, K, C) float32 in pixels, 0 where not seen; confidence (T, K) float32.

    Raises:
        ValueError: see `split_letters`; an augmentation without `rng`.
    """
    if augmentation is not None and rng is None:
        raise ValueError("An augmentation draws from rng, found None. Expected a np.random.Generator, such as np.random.default_rng(seed).")
    paths = _letter_paths(language)
    spelled = split_letters(text, language)
    if len(spelled) > MAX_LETTERS:
        raise ValueError(f"Found a text of {len(spelled):,} letters. Expected at most {MAX_LETTERS:,} in one clip.")
    letters = [_read_letter(paths[letter]) for letter in spelled]
    pieces = [(letter.keypoints, letter.confidence) for letter in letters]
    last = letters[-1]
    pieces[-1] = np.concatenate([last.keypoints, last.held_keypoints]), np.concatenate([last.confidence, last.held_confidence])
    speed = 1.0
    if augmentation is not None and rng is not None:
        pieces = [_vary_letter(*piece, augmentation, rng) for piece in pieces]
        speed = _factor(augmentation.speed, rng)
    keypoints, confidence = _join(pieces)
    if speed != 1:
        keypoints, confidence = _sample(keypoints, confidence, np.linspace(0, len(keypoints) - 1, max(round(len(keypoints) / speed), 2)))
    if augmentation is not None and rng is not None:
        keypoints, confidence = _vary_word(keypoints, confidence, augmentation, rng)
    return _on_canvas(keypoints, confidence), confidence.astype(np.float32)


def _join(pieces: list[Arrays]) -> Arrays:
    """One clip of several, with transitions between them."""
    joined = [pieces[0]]
    for piece in pieces[1:]:
        joined += [_transition(joined[-1][0][-1], joined[-1][1][-1], piece[0][0], piece[1][0]), piece]
    return np.concatenate([keypoints for keypoints, _ in joined]), np.concatenate([confidence for _, confidence in joined])


def _transition(start: np.ndarray, start_confidence: np.ndarray, goal: np.ndarray, goal_confidence: np.ndarray) -> Arrays:
    """A clip from one pose (K, C) to another, easing in and out; a point that one of them lacks stays unseen.

    Its length grows with the distance of the point that moves farthest.
    """
    seen = (start_confidence > 0) & (goal_confidence > 0)
    way = np.sqrt((((goal - start) ** 2).sum(-1) * seen).max())
    least, most = TRANSITION_FRAMES
    num_frames = min(max(math.ceil(way * TRANSITION_FRAMES_PER_LENGTH), least), most)
    share = np.arange(1, num_frames + 1, dtype=np.float32)[:, None] / (num_frames + 1)
    share = share**2 * (3 - 2 * share)  # (T, 1)
    keypoints = start + (goal - start) * share[..., None]
    return keypoints, (start_confidence + (goal_confidence - start_confidence) * share) * seen


def join_on_canvas(pieces: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Clips of any signs, [(keypoints, confidence), ..] in shoulder lengths about the neck, joined as letters are into a word.

    Returns:
        keypoints (T, K, C) float32 in pixels, 0 where not seen; confidence (T, K) float32.
    """
    keypoints, confidence = _join(pieces)
    return _on_canvas(keypoints, confidence), confidence.astype(np.float32)


def _on_canvas(keypoints: np.ndarray, confidence: np.ndarray) -> np.ndarray:
    return np.where(confidence[..., None] > 0, keypoints * SHOULDER_PIXELS + NECK_PIXELS, 0).astype(np.float32)


# --- Rows -------------------------------------------------------------------------------------------------------------------------


def rows(
    languages: str | Iterable[str],
    split: str | None = None,
    num_words: int | None = None,
    seed: int = 0,
    augmentation: Augmentation | None = None,
    words: Words | None = None,
    unit: str = "word",
) -> Iterator[Row]:
    """Canonical rows (`schema.py`), one for each word or letter clip; the same arguments give the same rows.

    Args:
        languages: a sign language, or several.
        split: one of `SPLITS`, or None for all words. Letters belong to no split (each is in words of all of them): to evaluate on
            unseen clips, hold out whole languages.
        num_words: how many words to generate for each language, all of them in `split`; with `words`, how many of them at most.
        seed: of the words and of the augmentation. A word with another seed is another variant of it.
        augmentation: an `Augmentation` or None.
        words: what to spell instead of generated words: a list for all languages, or {language: list}.
        unit: "word", or "letter" for each letter clip alone, as recorded.
    """
    languages = _checked_languages(languages)
    if unit not in UNITS:
        raise ValueError(f"Unknown unit {unit!r}. Expected one of {UNITS}.")
    if unit == "word" and words is None and num_words is None:
        raise ValueError("Found neither num_words nor words. Expected how many words to generate, or the words.")
    for language in languages:
        for text in _texts(language, split, num_words, seed, words, unit):
            rng = _rng(seed, language, unit, text)
            if unit == "word":
                keypoints, confidence = spell(text, language, augmentation, rng)
            elif augmentation is None:
                keypoints, confidence = letter_clip(text, language)
            else:
                clip = _letter(text, language)
                keypoints, confidence = _vary_letter(clip.recorded_keypoints, clip.recorded_confidence, augmentation, rng)
                keypoints, confidence = _vary_word(keypoints, confidence, augmentation, rng)
                keypoints, confidence = _on_canvas(keypoints, confidence), confidence.astype(np.float32)
            yield check_row(
                {
                    "id": f"{language}/{unit}/{text}/{seed}", "keypoints": keypoints, "confidence": confidence, "layout": LAYOUT,
                    "fps": FPS, "width": WIDTH, "height": HEIGHT, "text": text, "gloss": None, "label": None, "signer": None,
                    "language": language,
                }
            )  # fmt: skip


def check_held_out(languages: str | Iterable[str], held_out_languages: str | Iterable[str]) -> None:
    """Raises `ValueError` if a clip file would be both seen and held out: French uses the American clips."""
    languages, held_out_languages = _checked_languages(languages), _checked_languages(held_out_languages)
    for language in languages:
        for held_out in held_out_languages:
            shared = set(_letter_paths(language).values()) & set(_letter_paths(held_out).values())
            if shared:
                raise ValueError(
                    f"Held-out language {held_out!r} and language {language!r} share {len(shared)} letter clips. "
                    "Expected none: put both on one side."
                )


def _checked_languages(languages: str | Iterable[str]) -> list[str]:
    languages = [languages] if isinstance(languages, str) else list(languages)
    for language in languages:
        _letter_paths(language)
    if len(set(languages)) < len(languages):
        raise ValueError(f"Found languages {languages}. Expected each once.")
    return languages


def _texts(language: str, split: str | None, num_words: int | None, seed: int, words: Words | None, unit: str) -> list[str]:
    if unit == "letter":
        return list(_letter_paths(language))
    if words is None:
        assert num_words is not None  # `rows` checks it
        return generate_words(num_words, language, seed, split=split)
    texts = dict.fromkeys(normalize_text(word, language) for word in (words[language] if isinstance(words, dict) else words))
    return [text for text in texts if split in (None, split_of_word(text))][:num_words]


def _rng(seed: int, *names: str) -> np.random.Generator:
    return np.random.default_rng([seed, zlib.crc32("/".join(names).encode("utf-8", "surrogatepass"))])


# --- Data set ---------------------------------------------------------------------------------------------------------------------


@dataclass
class FingerspellingConfig(datasets.BuilderConfig):
    """What `build` takes."""

    languages: list | tuple | str = ("ase",)
    num_words: int | None = None  # for each language, in the train split; by default 1000 generated ones, or all of `words`
    num_evaluation_words: int | None = None  # in validation and test each, and for each held-out language; by default an eighth
    held_out_languages: list | tuple | str = ()
    seed: int = 0
    augmentation: Augmentation | dict | None = None  # of the train split
    words: list | dict | None = None
    unit: str = "word"


class Fingerspelling(datasets.GeneratorBasedBuilder):
    """Splits `train`, `validation` and `test` of disjoint words, and `held_out`: test words of languages that no other split has.

    With `unit="letter"` there are `train` and `held_out` only, since a letter has one recording.
    """

    VERSION = datasets.Version("1.0.0")
    BUILDER_CONFIG_CLASS = FingerspellingConfig

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(description=__doc__, features=features(73, 2))

    def _split_generators(self, dl_manager: Any) -> list[Any]:
        config = self.config
        check_held_out(config.languages, config.held_out_languages)
        num_words = 1000 if config.num_words is None and config.words is None else config.num_words
        fewer = config.num_evaluation_words
        if fewer is None and num_words is not None:
            fewer = max(num_words // 8, 1)
        plan = [("train", config.languages, "train", num_words)]
        if config.unit == "word":
            plan += [(split, config.languages, split, fewer) for split in SPLITS[1:]]
        if config.held_out_languages:
            plan.append(("held_out", config.held_out_languages, "test", fewer))
        generators = []
        for name, languages, split, count in plan:
            languages = _checked_languages(languages)
            spelled = config.unit == "word" and config.words is not None
            if spelled and not any(_texts(language, split, count, 0, config.words, "word") for language in languages):
                continue  # a split without words could not be read back by `datasets`
            arguments = {"languages": languages, "split": split, "num_words": count}
            generators.append(datasets.SplitGenerator(name, gen_kwargs=arguments))
        if not generators:
            raise ValueError(f"Found no words to spell in words={config.words!r}. Expected at least one.")
        return generators

    def _generate_examples(self, languages: list[str], split: str, num_words: int | None) -> Iterator[tuple[str, Row]]:
        config, augmentation = self.config, self.config.augmentation if split == "train" else None
        augmentation = Augmentation(**augmentation) if isinstance(augmentation, dict) else augmentation
        for row in rows(languages, split, num_words, config.seed, augmentation, config.words, config.unit):
            yield row["id"], row


def build(
    languages: str | Sequence[str] = ("ase",),
    num_words: int | None = None,
    cache_dir: str | Path | None = None,
    num_proc: int | None = None,
    **fields: Any,
) -> datasets.DatasetDict:
    """The corpus as a `datasets.DatasetDict` of canonical rows, built once and cached by its arguments, the code and the lexicon.

    Args:
        languages, num_words, **fields: of `FingerspellingConfig`.
        cache_dir: where it is kept; by default in the cache of `datasets`.
        num_proc: processes, at most one for each language.
    """
    facts = [
        Path(__file__).read_bytes(),
        (_lexicon_dir() / "index.csv").read_bytes(),
        processing_hash().encode(),
    ]
    version = hashlib.sha256(b"".join(facts)).hexdigest()[:16]
    builder = Fingerspelling(cache_dir=cache_dir, hash=version, languages=languages, num_words=num_words, **fields)
    builder.download_and_prepare(num_proc=num_proc)
    return builder.as_dataset()


def main(argv: list[str] | None = None) -> None:
    arguments = vars(checked(argv))
    folder = Path(arguments.pop("output_dir")) / "data"
    if arguments["words"] is not None:
        arguments["words"] = "\n".join(read_lines(arguments["words"])).split()
    corpus = build(**arguments)
    paths = {folder / f"{split}-00000-of-00001.parquet": split_rows for split, split_rows in corpus.items()}
    stale = set(folder.glob("*.parquet")) - set(paths)
    if stale:
        names = sorted(path.name for path in stale)
        raise ValueError(f"{folder} holds {names} of another corpus. Remove them, or choose another output_dir.")
    folder.mkdir(parents=True, exist_ok=True)
    for path, split_rows in paths.items():
        with whole_file(path) as unfinished:
            split_rows.to_parquet(unfinished)
        print(f"{path}: {len(split_rows)} rows")
    print_written([folder], f"python -m datasets_scripts.inspect_dataset {folder.parent}")


if __name__ == "__main__":
    run_command(main)
