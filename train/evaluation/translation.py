"""Translates whole data sets with a SignToText.

Shapes: T frames, S segments, K keypoints, C channels, D size of a latent.
"""

import numpy as np
import torch
from tqdm import tqdm

from train.data.clips import LatentStore, pad


def translate(model, tokenizer, clips, batch_size=32, cache_dir=None, **decoding):
    """Texts of `Clips`, in their order."""
    if model.config.sign_encoder == "segments":
        latents = LatentStore.build(clips, model.sign_mae, model.config.stride, cache_dir)
        return translate_inputs(model, tokenizer, [latents[index] for index in range(len(clips))], batch_size, **decoding)
    return translate_inputs(model, tokenizer, [clips.keypoints(index)[0] for index in range(len(clips))], batch_size, **decoding)


@torch.no_grad()
def translate_inputs(model, tokenizer, inputs, batch_size=32, **decoding):
    """Texts of latents (S, D) of each clip, or for a frame-level model of its keypoints (T, K, C); clips of like length together."""
    model.eval()
    texts = [None] * len(inputs)
    names = ("latents", "latent_mask") if model.config.sign_encoder == "segments" else ("keypoints", "attention_mask")
    order = np.argsort([len(values) for values in inputs], kind="stable")
    for start in tqdm(range(0, len(order), batch_size), desc="Translating", unit=f" x {batch_size} clips"):
        chosen = order[start : start + batch_size]
        padded = pad([torch.as_tensor(inputs[index], dtype=torch.float32) for index in chosen])
        ids = model.generate(**{name: values.to(model.device) for name, values in zip(names, padded)}, **decoding)
        for index, text in zip(chosen, tokenizer.batch_decode(ids, skip_special_tokens=True)):
            texts[index] = text.strip()
    return texts
