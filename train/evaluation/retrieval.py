"""Signing by retrieval: phrases of training clips whose sentences share words with the text, stitched where the hands rest.

It needs no model, and it is what is in use where signing has to look natural. It needs the training clips whenever it signs, so it is made
from a data set each time and cannot be saved or uploaded: people who agreed to a data set did not agree to be replayed from a checkpoint.

Shapes: T frames, K keypoints, C channels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from modeling_unigloR.keypoints_uniglor import get_layout
from train.metrics.production import NearestSentences

SMOOTHED = 5  # frames over which hand speed is averaged before its minima are looked for
REACH = 12  # how many frames a cut may be moved to reach a rest point
MIN_WORDS = 2  # of a run: a single word hardly says where in a clip its sign is
TRANSITION = (2, 15)  # least and most frames of the motion between two phrases


@dataclass
class Phrase:
    """A part of a training clip.

    Attributes:
        clip: index of the clip. start, end: its frames, the end excluded. words: those of the text that it stands for.
    """

    clip: int
    start: int
    end: int
    words: list[str]


class RetrievalSigner:
    """Signs a text with phrases of training clips.

    The text is cut into the longest runs of words that training sentences have, and each run is signed by the part of such a sentence's
    clip at the same share of its length, between rest points. Of sentences that have a run, the nearest to the text (TF-IDF of words) comes
    first. A text without such a run is signed by the whole clip of its nearest sentence.

    Args:
        clips: list of (T, K, C), training clips in shoulder lengths.
        texts: their sentences.
        layout: name of the points' order.
    """

    def __init__(self, clips: Sequence[np.ndarray], texts: Sequence[str], layout: str = "uniglor73"):
        if not len(clips) or len(clips) != len(texts):
            raise ValueError(
                f"Found {len(clips)} training clips and {len(texts)} sentences, expected at least one clip, each with a sentence, since "
                "retrieval replays them. Give --train_datasets with rows that have a text."
            )
        self.clips = clips
        self.nearest_sentences = NearestSentences(texts)
        self.sentences = [text.split() for text in texts]
        self.places: dict[str, list[tuple[int, int]]] = {}  # word: (sentence, place) of each time it is said
        for number, words in enumerate(self.sentences):
            for place, word in enumerate(words):
                self.places.setdefault(word, []).append((number, place))
        parts = get_layout(layout).parts
        self.wrists = [parts["left_hand"].start, parts["right_hand"].start]
        speeds = [self._hand_speed(clip).mean() for clip in clips if len(clip) > 1]
        self.speed = max(float(np.mean(speeds)) if speeds else 0.0, 1e-3)  # of hands, in shoulder lengths a frame

    def sign(self, text: str) -> np.ndarray:
        """(T, K, C) for a text."""
        phrases = self.phrases(text)
        signed = self.clips[phrases[0].clip][phrases[0].start : phrases[0].end]
        for phrase in phrases[1:]:
            following = self.clips[phrase.clip][phrase.start : phrase.end]
            signed = np.concatenate([signed, self._transition(signed[-1], following[0]), following])
        return signed

    def phrases(self, text: str) -> list[Phrase]:
        """The parts of training clips that sign a text, in its order."""
        nearest, words = int(self.nearest_sentences([text])[0]), text.split()
        runs = [run for run in self._runs(words, nearest) if run[3] >= min(MIN_WORDS, len(words))]
        phrases = []
        for number, (start, sentence, place, length) in enumerate(runs):
            first, last = self._part(sentence, place, length, is_first=number == 0, is_last=number == len(runs) - 1)
            phrases.append(Phrase(sentence, first, last, words[start : start + length]))
        return phrases or [Phrase(nearest, 0, len(self.clips[nearest]), words)]

    def _runs(self, words: list[str], nearest: int) -> list[tuple[int, int, int, int]]:
        """The longest runs of a text's words, from the left: (place in the text, sentence, place in the sentence, words)."""
        runs, start = [], 0
        while start < len(words):
            places, length = self.places.get(words[start], []), 1
            if not places:
                start += 1
                continue
            while start + length < len(words):
                longer = [at for at in places if words[start + length] in self.sentences[at[0]][at[1] + length : at[1] + length + 1]]
                if not longer:
                    break
                places, length = longer, length + 1
            # of equally long runs, the nearest sentence's, or else that of the shortest sentence: least else is said around it
            sentence, place = min(places, key=lambda at: (at[0] != nearest, len(self.sentences[at[0]]), at))
            runs.append((start, sentence, place, length))
            start += length
        return runs

    def _part(self, sentence: int, place: int, length: int, is_first: bool, is_last: bool) -> tuple[int, int]:
        """The frames of a run of words: at the same share of the clip, moved to rest points."""
        clip, num_words = self.clips[sentence], len(self.sentences[sentence])
        rests = self._rest_points(clip)
        first, last = (round(len(clip) * share / num_words) for share in (place, place + length))
        first = 0 if place == 0 and is_first else _nearest(rests, first)
        last = len(clip) if place + length == num_words and is_last else _nearest(rests, last)
        return (first, last) if last - first >= 2 else (max(0, first - 1), min(len(clip), max(last, first) + 1))

    def _rest_points(self, clip: np.ndarray) -> np.ndarray:
        """The frames at which the hands are slower than shortly before and after, and both ends."""
        if len(clip) < 3:
            return np.array([0, len(clip)])
        speed = np.convolve(self._hand_speed(clip), np.ones(SMOOTHED) / SMOOTHED, mode="same")
        inner = np.flatnonzero((speed[1:-1] <= speed[:-2]) & (speed[1:-1] < speed[2:])) + 1
        return np.concatenate([[0], inner, [len(clip)]])

    def _hand_speed(self, clip: np.ndarray) -> np.ndarray:
        """(T, K, C) -> (T - 1,), the mean of both wrists."""
        return np.linalg.norm(np.diff(clip[:, self.wrists], axis=0), axis=-1).mean(1)

    def _transition(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """The motion between two poses (K, C), as fast as people move, beginning and ending slowly: (frames, K, C)."""
        distance = np.linalg.norm(after[self.wrists] - before[self.wrists], axis=-1).max()
        num_frames = int(np.clip(round(distance / self.speed), *TRANSITION))
        step = np.arange(1, num_frames + 1) / (num_frames + 1)
        share = ((1 - np.cos(np.pi * step)) / 2)[:, None, None]
        return (before + share * (after - before)).astype(before.dtype)


def _nearest(rests: np.ndarray, frame: int) -> int:
    """The rest point that is nearest to a frame, or the frame itself where none is within reach."""
    best = int(rests[np.abs(rests - frame).argmin()])
    return best if abs(best - frame) <= REACH else frame
