"""ClipReadingModel: the part that `SignToText` and `SignRecognition` share, from a clip's keypoints to the input of a Transformer.

Shapes: B clips, T frames, S segments (or frames that are read), K keypoints, C channels, D size of a latent, or of the Transformer.
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import nn
from transformers import initialization as init
from transformers.utils import logging

from .configuration_uniglor import SignRecognitionConfig, SignToTextConfig
from .modeling_layers_uniglor import KeypointNorm, UniGloRPreTrainedModel, check_numbers, check_padding, exact
from .modeling_sign_mae import SignMAEEncoderModel, SignMAEPreTrainedModel

logger = logging.get_logger(__name__)

WHITENING_FLOOR = 1e-4  # of the mean variance: smaller ones count as so large, because they may be mere roundings
DISTANCE_FLOOR = 0.01  # added to variances whose mean is 1, so that directions of very small variance do not decide a distance
DISTANCE_BUFFERS = ["distance_mean", "distance_axes", "distance_quantiles"]
DISTANCE_QUANTILES = 101  # of training clips' distances, one for each per cent


def norm_of_real(norm: nn.BatchNorm1d, frames: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """A BatchNorm whose statistics are those of the real frames alone: (B, T, F), (B, T, 1) -> (B, T, F).

    Selecting the real frames first gives the same, but waits for a GPU to count them, and ends a compiled graph.
    """
    running_mean, running_var, counter, momentum = norm.running_mean, norm.running_var, norm.num_batches_tracked, norm.momentum
    assert running_mean is not None and running_var is not None and counter is not None and momentum is not None  # as in `KeypointNorm`
    mean, variance = running_mean, running_var
    if norm.training:
        exactly = exact(frames)
        count = real.sum()
        mean = (exactly * real).sum((0, 1)) / count
        variance = ((exactly - mean).square() * real).sum((0, 1)) / count
        with torch.no_grad():
            counter.add_(1)
            running_mean.lerp_(mean.to(running_mean.dtype), momentum)
            running_var.lerp_((variance * count / (count - 1).clamp_min(1)).to(running_var.dtype), momentum)
    return (frames - mean) * (torch.rsqrt(variance + norm.eps) * norm.weight) + norm.bias


class ClipReadingModel(UniGloRPreTrainedModel):
    """Base class of models that encode a whole clip: `SignToText` and `SignRecognition`.

    With `config.sign_encoder="segments"` a clip becomes the latents of a frozen SignMAE, with "frames" every frame's keypoints; one
    linear layer makes them vectors of the size that the task's Transformer reads.

    This is a base class and no module of its own so that the names of a checkpoint's tensors stay: `sign_mae`, `projection`, ...
    """

    main_input_name = "keypoints"
    sign_mae: SignMAEEncoderModel  # with sign_encoder="segments"
    latent_whitening: torch.Tensor
    distance_mean: torch.Tensor
    distance_axes: torch.Tensor
    distance_quantiles: torch.Tensor
    # Checkpoints from before them have none: no whitening, and no distances.
    _keys_to_ignore_on_load_missing = ["latent_whitening", *DISTANCE_BUFFERS]

    def __init__(self, config: SignToTextConfig | SignRecognitionConfig, size: int) -> None:
        super().__init__(config)
        signing = config.sign_mae_config
        if config.sign_encoder == "segments":
            self.sign_mae = SignMAEEncoderModel._from_config(signing)
            self.register_buffer("latent_whitening", torch.eye(signing.hidden_size))
            # 0 until `set_training_distances`
            self.register_buffer("distance_mean", torch.zeros(signing.hidden_size))
            self.register_buffer("distance_axes", torch.zeros(signing.hidden_size, signing.hidden_size))
            self.register_buffer("distance_quantiles", torch.zeros(DISTANCE_QUANTILES))
            self.projection = nn.Linear(signing.hidden_size, size)
        else:
            self.frame_norm = KeypointNorm(signing.num_keypoints, signing.num_channels)
            self.projection = nn.Linear(signing.num_keypoints * signing.num_channels, size)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, ClipReadingModel) and self.config.sign_encoder == "segments":
            init.copy_(module.latent_whitening, torch.eye(len(module.latent_whitening)))
            for name in DISTANCE_BUFFERS:
                init.zeros_(getattr(module, name))

    def _read_with(self, sign_mae: SignMAEPreTrainedModel) -> None:
        """Takes the weights of a pretrained encoder."""
        names = self.sign_mae.state_dict().keys()
        self.sign_mae.load_state_dict({name: value for name, value in sign_mae.state_dict().items() if name in names})
        if (self.sign_mae.latent_std == 1).all():
            # Measured: with latents that are not standardised a model of 128 dimensions does not learn 16 clips by heart in 100 steps.
            logger.warning(
                "The SignMAE has no statistics of its latents (latent_std is 1 everywhere). What distinguishes clips is then a small "
                "part of them, and training starts slowly or not at all. train/pretrain.py sets the statistics at its end; for a SignMAE "
                "made by hand call sign_mae.set_latent_statistics(mean, std) of the latents of the training clips first."
            )

    def embed(
        self,
        keypoints: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        latents: torch.Tensor | None = None,
        latent_mask: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The input of the task's Transformer: (B, S, D), and its mask (B, S)."""
        frames = self.config.sign_encoder == "frames"
        if keypoints is not None and latents is None:
            if frames:
                return self._embed_frames(keypoints, attention_mask)
            latents, latent_mask = self.encode_sequence(keypoints, attention_mask)
        elif latents is not None and keypoints is None:
            if frames:
                raise ValueError("Found latents, but this model has sign_encoder='frames': it reads keypoints (B, T, K, C).")
            check_numbers("latents", latents, ("clips", "segments", len(self.latent_whitening)), self.projection.weight)
            if latent_mask is None:
                latent_mask = torch.ones(latents.shape[:2], dtype=torch.long, device=latents.device)
            check_padding("latent_mask", latent_mask, latents.shape[:2])
        else:
            raise ValueError("Give either keypoints (B, T, K, C) with attention_mask, or latents (B, S, D) with latent_mask.")
        whitened = latents.to(self.latent_whitening.dtype) @ self.latent_whitening
        return self.projection(whitened.to(latents.dtype)), latent_mask

    @torch.no_grad()
    def set_latent_whitening(self, latents: torch.Tensor) -> None:
        """Sets the whitening: latents are rotated to their principal axes, and each is divided by the square root of its deviation.

        Standardised latents are far from white: a few directions hold nearly all of their variance, and the differences between signs
        lie in directions of small variance, which a Transformer learns to use late. Divided by all of its deviation, noise would count as
        much as what latents mostly say. Measured on isolated words, half is better than either.

        Args:
            latents: (N, D), standardised, of the clips that the model is trained on.
        """
        latents = latents.double()
        variances, axes = torch.linalg.eigh(torch.cov(latents.T))
        whitening = axes * variances.clamp_min(WHITENING_FLOOR * float(variances.mean())) ** -0.25  # (D, D)
        self.latent_whitening.copy_(whitening / (latents @ whitening).std())

    @property
    def has_distances(self) -> bool:
        """Whether it knows how far clips lie from its training clips, see `distance_percentile`."""
        return self.config.sign_encoder == "segments" and bool(self.distance_axes.any())

    @torch.no_grad()
    def set_training_distances(self, latents: Sequence[torch.Tensor]) -> None:
        """From now on the model can say how far a clip lies from what it was trained on.

        Mean and covariance are those of four fifths of the clips; the others give the distances of clips like them. Of fewer than 20
        clips all do both.

        Args:
            latents: (S, D) of each training clip, standardised.
        """
        held_out = range(0, len(latents), 5) if len(latents) >= 20 else range(0)
        fitted = torch.cat([clip for index, clip in enumerate(latents) if index not in held_out]).double()
        variances, axes = torch.linalg.eigh(torch.cov(fitted.T))
        scale = variances.mean().clamp_min(1e-12)
        self.distance_mean.copy_(fitted.mean(0))
        self.distance_axes.copy_(axes * torch.rsqrt((variances / scale).clamp_min(0) + DISTANCE_FLOOR) * torch.rsqrt(scale))
        measured = [latents[index] for index in held_out] or latents
        distances = torch.stack([self.latent_distance(clip[None].to(self.distance_mean))[0] for clip in measured]).double()
        self.distance_quantiles.copy_(
            torch.quantile(distances, torch.linspace(0, 1, DISTANCE_QUANTILES, dtype=torch.float64).to(distances.device))
        )

    def latent_distance(self, latents: torch.Tensor, latent_mask: torch.Tensor | None = None) -> torch.Tensor:
        """Squared Mahalanobis distance from the training clips' latents by dimension, a mean over a clip's segments: (B, S, D) -> (B,).

        Near 1 for clips like those of the training.
        """
        if not self.has_distances:
            raise ValueError(
                "This model does not know how far clips lie from its training clips: it reads frames, was trained before distances were "
                "kept, or without cached latents. Train it with sign_encoder='segments' and cache_latents, or call "
                "set_training_distances(latents of its training clips)."
            )
        mask = torch.ones(latents.shape[:2], device=latents.device) if latent_mask is None else (latent_mask != 0).float()
        centred = latents.to(self.distance_mean.dtype) - self.distance_mean
        by_segment = (centred @ self.distance_axes).square().mean(-1)  # (B, S)
        return (by_segment * mask).sum(1) / mask.sum(1).clamp_min(1)

    def distance_percentile(self, latents: torch.Tensor, latent_mask: torch.Tensor | None = None) -> torch.Tensor:
        """How many per cent of the training clips lie nearer to the others than this clip does: (B, S, D) -> (B,) from 0 to 100."""
        distances = self.latent_distance(latents, latent_mask).double()
        quantiles = self.distance_quantiles.double()
        above = torch.searchsorted(quantiles, distances, right=True).clamp(1, len(quantiles) - 1)  # (B,) the next quantile
        low, high = quantiles[above - 1], quantiles[above]
        share = ((distances - low) / (high - low).clamp_min(1e-12)).clamp(0, 1)
        return (above - 1 + share) * (100 / (len(quantiles) - 1))

    def encode_sequence(self, keypoints: torch.Tensor, attention_mask: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Latents and their mask: (B, T, K, C), (B, T) -> (B, S, D), (B, S). Training scripts cache them."""
        if self.config.sign_encoder == "frames":
            raise ValueError("This model has sign_encoder='frames': it reads keypoints, and has no latents.")
        encoded = self.sign_mae(keypoints, attention_mask, self.config.stride)
        return encoded.latents, encoded.latent_mask

    def _embed_frames(self, keypoints: torch.Tensor, attention_mask: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        points = self.config.sign_mae_config.num_keypoints, self.config.sign_mae_config.num_channels
        check_numbers("keypoints", keypoints, ("clips", "frames", *points), self.projection.weight)
        if attention_mask is None:
            attention_mask = torch.ones(keypoints.shape[:2], dtype=torch.long, device=keypoints.device)
        check_padding("attention_mask", attention_mask, keypoints.shape[:2])
        keypoints, attention_mask = keypoints[:, :: self.config.frame_stride], attention_mask[:, :: self.config.frame_stride]
        real = attention_mask.bool()[..., None]  # (B, T, 1)
        frames = torch.where(real, keypoints.flatten(2), 0)  # (B, T, K C)
        tokens = self.projection(norm_of_real(cast(nn.BatchNorm1d, self.frame_norm.norm), frames, real).to(keypoints.dtype))
        return torch.where(real, tokens, 0), attention_mask

    def _frozen_parts(self) -> list[nn.Module]:
        return [self.sign_mae] if self.config.sign_encoder == "segments" and self.config.freeze_sign_mae else []
