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

# Configs
MAX_LAYERS = 1000
MAX_HIDDEN_SIZE = 65_536
MAX_LABELS = 1_000_000
