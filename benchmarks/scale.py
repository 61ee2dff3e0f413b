"""Ten million clips and a million latents: what grows with a data set, against the code that did each step anew."""

import numpy as np

from benchmarks.measure import compare


class MockStore:
    """What a `FrameStore` of many clips says of itself; every clip's frames are the same 64, so that memory holds them."""

    def __init__(self, num_clips, seed=0):
        self.lengths = np.random.default_rng(seed).integers(40, 64, num_clips)
        self.offsets = np.zeros(num_clips + 1, np.int64)
        self.keypoints, self.keypoint_mask = np.zeros((64, 73, 2), np.float32), np.ones((64, 73), bool)
        self.ids = np.zeros(num_clips, "S1")


def segment_index(device, rounds, num_clips=10_000_000, batch_size=64):
    """Which clips and frames a batch is made of, of clips with weight 1 and with weight 0.5."""
    from train.data.segments import SegmentDataset

    class WithoutMemory(SegmentDataset):
        """The code before: it computed lengths from the offsets, and a store's permutation, anew in every batch."""

        def __getitems__(self, indices):
            for store in self.stores:
                store.lengths = np.diff(starts)
            return super().__getitems__(indices)

        def _permuted(self, number, epoch):
            return np.random.default_rng((self.seed, number, epoch)).permutation(self.clips[number])

    rows = []
    for weight in (1.0, 0.5):
        store = MockStore(num_clips)
        starts = np.cumsum(np.concatenate([[0], store.lengths]))
        sides = [kind([store], 15, [weight]) for kind in (SegmentDataset, WithoutMemory)]
        indices = np.random.default_rng(1).integers(0, len(sides[0]), batch_size)
        case = f"batch of {batch_size} from {num_clips:,} clips, weight {weight:g}"
        rows.append({"case": case} | compare(*(lambda side=side: side.__getitems__(indices) for side in sides), rounds))  # noqa: B023
    return rows


def nearest_segments(device, rounds, num_latents=1_000_000, size=512):
    """The ten nearest of a latent, the norms of all being known, against norms and a full sort for each query."""
    from train.embed import nearest_segments, vector_lengths

    latents = np.random.default_rng(0).standard_normal((num_latents, size), np.float32)
    lengths = vector_lengths(latents)

    def before():
        similarity = latents @ latents[7] / (np.maximum(np.linalg.norm(latents, axis=1), 1e-12) * np.linalg.norm(latents[7]))
        return np.argsort(-similarity, kind="stable")[:10]

    def ours():
        return nearest_segments(latents, latents[7], 10, lengths=lengths)[0]

    if ours().tolist() != before().tolist():
        raise AssertionError("Both searches must find the same segments.")
    return [{"case": f"ten of {num_latents:,} latents of {size} numbers"} | compare(ours, before, rounds)]
