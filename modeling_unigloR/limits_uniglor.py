"""Limits on the size of files, rows, configurations and arguments: every input within them is answered in bounded time and memory.

They are far above the sizes in sign-language corpora. They are defined only here, so that `SECURITY.md` and all errors agree.
Together they keep the memory for one clip under 2 GB.
"""

import numbers
import reprlib
from typing import Any

# Time
MIN_FPS = 1.0  # frames a second
MAX_FPS = 1000.0
MAX_CLIP_FRAMES = 100_000  # of one clip, read or resampled: 66 minutes at 25 frames a second
MAX_CLIP_SECONDS = 4 * 3600.0
MAX_MISSING_FRAMES = 10_000  # of a clip of numbered frames, in all its gaps together
MAX_WAITING_FRAMES = 500  # of a stream in which no shoulders have been seen yet: 20 seconds at 25 frames a second
MAX_STREAM_SEGMENTS = 512  # that a stream's text is made of, where the text model has no positions

# Files
MAX_PEOPLE = 20  # in one frame; of more, those whose points are surest are kept. Only one of them is followed
MAX_TRACKS = 64  # people of earlier frames who may come back; of more, those who were away longest are given up
MAX_FILE_BYTES = 1 << 30  # of one clip, in one file or in a folder of them
MAX_TEXT_BYTES = 128 << 20  # of one JSON file, or of one line of .skels
MAX_TEXT_VALUES = 10_000_000  # of a JSON file or a table: numbers, lists, objects, cells
MAX_TABLE_BYTES = 256 << 20  # of a table of annotations
MAX_ARCHIVE_BYTES = 1 << 30  # unpacked, of the members that are read
MAX_ARCHIVE_MEMBERS = 10_000

# Videos
MAX_VIDEO_PIXELS = 40_000_000  # of one frame: 8K has 33 million

# Pickles: features of whole corpora come as one file
MAX_PICKLE_BYTES = 8 << 30  # unpacked, and of what comes out
MAX_PICKLE_RATIO = 20  # of unpacked to packed, above MAX_ARCHIVE_BYTES
MAX_PICKLE_MEMORY = 12 << 30  # of the process that reads them
MAX_PICKLE_SECONDS = 600.0  # of CPU time, one file
MAX_PICKLE_OPCODES = 50_000_000
MAX_PICKLE_DEPTH = 100  # lists within lists

# Coordinates
MAX_COORDINATE = 1e6  # in shoulder lengths from the neck
MAX_CLIP_COORDINATES = 64_000_000  # frames x people x keypoints x channels of one clip: 26 minutes of MediaPipe Holistic
MAX_BATCH_COORDINATES = 128_000_000  # of a padded batch
MAX_IMAGE_SIDE = 1_000_000  # pixels; also of width / height

# Texts
MAX_SPLIT_BYTES = 100  # of a split's name, which becomes part of a file's
MAX_TEXT_LETTERS = 10_000  # of a text to sign
MAX_NEW_TOKENS = 4096  # of a translation, where the text model has no positions
MAX_BEAMS = 256

# Configs
MAX_LAYERS = 256  # of one Transformer; the deepest text models have about a hundred
MAX_HIDDEN_SIZE = 65_536
MAX_LABELS = 100_000
MAX_WINDOW_SIZE = 1000  # frames
MAX_DILATIONS = 32
MAX_SEGMENTS = 10_000  # of a generated clip
MAX_CODEBOOKS = 16  # of a latent
MAX_CODEBOOK_SIZE = 65_536
MAX_VOCABULARY = 10_000_000  # tokens
MAX_POSITIONS = 1_048_576  # of a text model


def checked_number(name: str, value: Any, least: float, most: float, whole: bool = False) -> Any:
    """Returns `value`, or raises `ValueError` unless it is a number (with `whole`, an int) from `least` to `most`."""
    if not is_number(value, least, most) or (whole and not isinstance(value, numbers.Integral)):
        raise ValueError(f"Found {name}={short(value)}, expected {'an int' if whole else 'a number'} from {least:,g} to {most:,g}.")
    return value


def is_number(value: Any, least: float, most: float) -> bool:
    """Whether `value` is a single number within two limits; bools, strings, lists and NaN are not."""
    if getattr(value, "ndim", None) == 0:  # of numpy or torch
        value = value.item()
    real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    return real and bool(least <= value <= most)


def check_fps(fps: object, name: object = "clip") -> None:
    if fps is not None and not is_number(fps, MIN_FPS, MAX_FPS):
        raise ValueError(
            f"{name}: fps={short(fps)} must be above 0, from {MIN_FPS:g} to {MAX_FPS:g} frames a second, or None where it is not known."
        )


def check_image(name: object = "clip", **sides: Any) -> None:
    """Checks width, height or aspect."""
    for side, value in sides.items():
        if value is not None and not (is_number(value, 0, MAX_IMAGE_SIDE) and value > 0):
            raise ValueError(
                f"{name}: {side}={short(value)} must be above 0, a number up to {MAX_IMAGE_SIDE:,}, or None where it is not known."
            )


def check_length(num_frames: int, coordinates: int, name: object = "clip") -> None:
    """Checks the size of a clip before memory is allocated for it.

    Args:
        num_frames: of the clip.
        coordinates: numbers in all: frames x keypoints x channels.
    """
    if num_frames > MAX_CLIP_FRAMES:
        raise ValueError(f"{name}: {num_frames:,} frames, expected at most {MAX_CLIP_FRAMES:,} in one clip. Cut it into shorter ones.")
    if coordinates > MAX_CLIP_COORDINATES:
        raise ValueError(
            f"{name}: {num_frames:,} frames with {coordinates:,} coordinates in all, expected at most {MAX_CLIP_COORDINATES:,} in one "
            "clip. Cut it into shorter ones."
        )


def short(value: object) -> str:
    """A short text on any value, for an error message."""
    try:
        return reprlib.repr(value)
    except Exception:  # the repr of an unknown object, or of an integer of too many digits
        return f"a {type(value).__name__}"


def brief(error: object) -> str:
    """The text of an error, cut where it quotes a file at length."""
    text = str(error)
    return text if len(text) <= 300 else text[:300] + "..."


def check_vocabulary(num_tokens: int, size: int) -> None:
    """Raises `ValueError` where a tokenizer has more tokens than the text model's vocabulary."""
    if num_tokens > size:
        raise ValueError(
            f"The tokenizer has {num_tokens} tokens, but the text model's vocabulary {size}: ids would be out of range. Use the tokenizer "
            "that was saved with the model."
        )
