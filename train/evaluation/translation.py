"""Translates whole data sets with a SignToText.

Shapes: T frames, S segments, K keypoints, C channels, D size of a latent.
"""

import numpy as np
import torch
from tqdm import tqdm

from train.data.clips import LatentStore, pad


def translate(model, tokenizer, clips, batch_size=32, cache_dir=None, **decoding):
    """Texts of `Clips`, in their order. Only the clips of a batch are in memory together."""
    if model.config.sign_encoder == "segments":
        latents = LatentStore.build(clips, model.sign_mae, model.config.stride, cache_dir)
        return _translate(model, tokenizer, latents.__getitem__, latents.lengths, batch_size, decoding)
    return _translate(model, tokenizer, lambda index: clips.keypoints(index)[0], clips.num_frames, batch_size, decoding)


def translate_inputs(model, tokenizer, inputs, batch_size=32, **decoding):
    """Texts of latents (S, D) of each clip, or for a frame-level model of its keypoints (T, K, C)."""
    return _translate(model, tokenizer, inputs.__getitem__, [len(values) for values in inputs], batch_size, decoding)


@torch.no_grad()
def _translate(model, tokenizer, read, lengths, batch_size, decoding):
    """Texts of what `read(index)` gives of each clip, `lengths` long; clips of like length are read together."""
    model.eval()
    texts = [None] * len(lengths)
    names = ("latents", "latent_mask") if model.config.sign_encoder == "segments" else ("keypoints", "attention_mask")
    order = np.argsort(lengths, kind="stable").tolist()
    for start in tqdm(range(0, len(order), batch_size), desc="Translating", unit=f" x {batch_size} clips"):
        chosen = order[start : start + batch_size]
        padded = pad([torch.as_tensor(read(index)).to(model.dtype) for index in chosen])
        ids = model.generate(**{name: values.to(model.device) for name, values in zip(names, padded)}, **decoding)
        for index, text in zip(chosen, tokenizer.batch_decode(ids, skip_special_tokens=True)):
            texts[index] = text.strip()
    return texts
