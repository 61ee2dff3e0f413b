"""Limits on what a file, a row, a config or a call may ask for: every input below them is answered in bounded time and memory.

They are far above what sign-language corpora hold, and stand here alone, so that `SECURITY.md` and all error messages say the same.
"""

# Time
MIN_FPS = 1.0  # frames a second
MAX_FPS = 1000.0
MAX_CLIP_FRAMES = 100_000  # of one clip, read or resampled: 66 minutes at 25 frames a second
MAX_CLIP_SECONDS = 4 * 3600.0

# Files
MAX_PEOPLE = 20  # in one frame; only one of them is followed
MAX_FILE_BYTES = 2 << 30  # of one keypoint file
MAX_ARCHIVE_BYTES = 1 << 30  # unpacked, of the members that are read
MAX_ARCHIVE_MEMBERS = 10_000

# Coordinates
MAX_COORDINATE = 1e6  # in shoulder lengths from the neck

# Configs
MAX_LAYERS = 256  # of one Transformer; the deepest text models have about a hundred
MAX_HIDDEN_SIZE = 65_536
MAX_LABELS = 100_000
MAX_WINDOW_SIZE = 1000  # frames
MAX_DILATIONS = 32
MAX_SEGMENTS = 10_000  # of a generated clip
MAX_VOCABULARY = 10_000_000  # tokens
MAX_POSITIONS = 1_048_576  # of a text model
