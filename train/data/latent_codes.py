"""The principal components and codes of training latents that `latent_decoder="codes_flow"` models, fitted before its first step.

Shapes: N latents, D size of a latent, F components.
"""

import numpy as np
import torch
from transformers.utils import logging

from modeling_unigloR import TextToSign
from train.data.clips import LatentStore

logger = logging.get_logger(__name__)

LEAST_REMAINDER = 1e-3  # a component that the codes give back exactly; their mean variance is 1
LEAST_VARIANCE = 1e-6  # of a component, over that of the first


def fit_codes(model: TextToSign, latents: LatentStore, seed: int = 0, most: int = 50_000) -> dict[str, float]:
    """Fits a model's components and residual k-means codebooks on the latents of training clips.

    Args:
        model: with latent_decoder="codes_flow"; `set_codes` is called.
        latents: of the training clips; about `most` of them are read, evenly spread over clips.
        seed: of the k-means.

    Returns:
        For report.json: `num_latents`, and the shares of their variance that remain: `kept_by_components` and, of these components,
        `kept_by_codes`.
    """
    try:
        from sklearn.cluster import MiniBatchKMeans
    except ImportError as error:
        raise ImportError("latent_decoder='codes_flow' needs `pip install scikit-learn`") from error
    config = model.config
    step = -(-int(latents.lengths.sum()) // most)
    values = np.concatenate([latents[index] for index in range(0, len(latents), step)]).astype(np.float64)  # (N, D)
    if len(values) < config.codebook_size:
        raise ValueError(
            f"Found {len(values)} latents in the training clips, but codebooks of {config.codebook_size} codes, expected at least one for "
            "each code, better ten. Give more clips, or set a smaller codebook_size."
        )
    mean = values.mean(0)
    variances, axes = np.linalg.eigh(np.cov((values - mean).T, bias=True).reshape(len(mean), -1))
    best = np.argsort(variances)[::-1][: config.num_components]
    kept = np.maximum(variances[best], LEAST_VARIANCE * max(variances.max(), 1e-12))
    scales = kept**0.25 * np.sqrt(np.sqrt(kept).mean())  # variances become square roots of the old ones, with mean 1
    components = (values - mean) @ axes[:, best] / scales
    left, codebooks = components, []
    for _ in range(config.num_codebooks):
        means = MiniBatchKMeans(config.codebook_size, batch_size=4096, n_init=1, random_state=seed).fit(left)
        codebooks.append(means.cluster_centers_)
        left = left - codebooks[-1][means.predict(left)]
    remainder_scales = np.maximum(left.std(0), LEAST_REMAINDER)
    fitted = (mean, axes[:, best], scales, np.stack(codebooks), remainder_scales)
    model.set_codes(*(torch.from_numpy(np.ascontiguousarray(each)).float() for each in fitted))
    facts = {
        "num_latents": len(values),
        "kept_by_components": float(variances[best].sum() / max(variances.sum(), 1e-12)),
        "kept_by_codes": float(1 - left.var(0).sum() / max(components.var(0).sum(), 1e-12)),
    }
    logger.warning(
        f"{config.num_components} components keep {facts['kept_by_components']:.1%} of the latents' variance, and {config.num_codebooks} "
        f"codes of {config.codebook_size} keep {facts['kept_by_codes']:.1%} of that; the flow adds the rest."
    )
    return facts
