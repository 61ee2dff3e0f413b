"""Spelling a word: ours against the package that the letters come from.

    python -m benchmarks.fingerspelling

Both sides spell the same American words from the same recordings, by turns, in one process, after a first round that is not counted
(so that ours has its letters in memory; the reference keeps none). The reference works on 178 points and low-pass filters its joins;
ours on the 73 of `uniglor73`.
"""

import contextlib
import io
import json
import statistics
import time

import numpy as np

from datasets_scripts.fingerspelling import Augmentation, spell

WORDS = ("hello", "jazz", "keypoint", "sign")
NUM_ROUNDS = 3


def run(words=WORDS, num_rounds=NUM_ROUNDS):
    """Median milliseconds a word: {"ours", "ours_augmented", "reference", "ratio", "ratio_augmented"}; ratio is reference / ours."""
    from spoken_to_signed.gloss_to_pose.lookup.fingerspelling_lookup import FingerspellingPoseLookup

    lookup, rng, augmentation = FingerspellingPoseLookup(), np.random.default_rng(0), Augmentation()
    sides = {
        "ours": lambda word: spell(word, "ase"),
        "ours_augmented": lambda word: spell(word, "ase", augmentation, rng),
        "reference": lambda word: lookup.lookup(word, word, "en", "ase"),
    }
    times = {side: [] for side in sides}
    for round_index in range(num_rounds + 1):
        for word in words:
            for side, call in sides.items():
                with contextlib.redirect_stdout(io.StringIO()):  # the reference prints its progress
                    start = time.perf_counter()
                    call(word)
                    elapsed = time.perf_counter() - start
                if round_index:
                    times[side].append(elapsed * 1000)
    result = {side: statistics.median(values) for side, values in times.items()}
    for side in ("ours", "ours_augmented"):
        ratios = [
            reference / ours for reference, ours in zip(times["reference"], times[side])
        ]  # of pairs, so that a busy machine slows both
        result[side.replace("ours", "ratio")] = statistics.median(ratios)
    return result


if __name__ == "__main__":
    print(json.dumps({key: round(value, 3) for key, value in run().items()}))
