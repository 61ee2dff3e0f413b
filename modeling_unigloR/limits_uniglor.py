"""Limits on what a file, a row, a config or a call may ask for: every input below them is answered in bounded time and memory.

They are far above what sign-language corpora hold, and stand here alone, so that `SECURITY.md` and all error messages say the same.
"""

import numbers

# Time
MIN_FPS = 1.0  # frames a second
MAX_FPS = 1000.0
MAX_CLIP_FRAMES = 100_000  # of one clip, read or resampled: 66 minutes at 25 frames a second
MAX_CLIP_SECONDS = 4 * 3600.0
MAX_WAITING_FRAMES = 500  # of a stream in which no shoulders have been seen yet: 20 seconds at 25 frames a second
MAX_STREAM_SEGMENTS = 512  # that a stream's text is made of, where the text model has no positions

# Files
MAX_PEOPLE = 20  # in one frame; only one of them is followed
MAX_FILE_BYTES = 2 << 30  # of one keypoint file
MAX_ARCHIVE_BYTES = 1 << 30  # unpacked, of the members that are read
MAX_ARCHIVE_MEMBERS = 10_000

# Coordinates
MAX_COORDINATE = 1e6  # in shoulder lengths from the neck
MAX_IMAGE_SIDE = 1_000_000  # pixels; also of width / height

# Texts
MAX_TEXT_LETTERS = 10_000  # of a text to sign
MAX_NEW_TOKENS = 4096  # of a translation, where the text model has no positions
MAX_BEAMS = 256

# Configs
MAX_LAYERS = 1000
MAX_HIDDEN_SIZE = 65_536
MAX_LABELS = 1_000_000


def checked_number(name, value, least, most, whole=False):
    """`value`, or `ValueError` where it is no plain number (no int, with `whole`) from `least` to `most`."""
    kind = numbers.Integral if whole else numbers.Real
    if not isinstance(value, kind) or isinstance(value, bool) or not least <= value <= most:
        raise ValueError(f"Found {name}={value!r}, expected {'an int' if whole else 'a number'} from {least:,g} to {most:,g}.")
    return value
