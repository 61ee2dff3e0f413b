"""NSLP-G (Hwang, Kim, Park 2021, "Non-Autoregressive Sign Language Production with Gaussian Space").

A re-implementation in two phases, as there: a variational autoencoder of single frames makes a Gaussian space of poses; then a Transformer
finds, for all frames of a clip at once, the place in that space that the text asks for, and the frozen decoder turns it into keypoints.
docs/baselines.md says what is open, and which parts are taken from the authors' published settings.

Shapes: B clips, L text tokens, T frames, N segments, W frames in a window, K keypoints, C channels, Z size of a frame's latent, H hidden
size, M the most frames (`max_frames`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers import PreTrainedConfig
from transformers import initialization as init
from transformers.configuration_utils import SubConfigSpec
from transformers.masking_utils import create_bidirectional_mask
from transformers.utils import ModelOutput

from experiments.baselines.frame_signing import (
    KeypointsConfig,
    SigningOutput,
    TextFramesConfig,
    TextFramesModel,
    frame_weights,
    place_unseen,
    squared_error,
)
from modeling_unigloR import GeneratedSigning, LengthRegulator, keypoint_weights
from modeling_unigloR.configuration_uniglor import checked, inner, number
from modeling_unigloR.limits_uniglor import MAX_HIDDEN_SIZE
from modeling_unigloR.modeling_layers_uniglor import (
    SinusoidalPositions,
    TransformerLayer,
    UniGloRPreTrainedModel,
    check_numbers,
    exact,
    mean_loss,
)

FIRST_LOG_VARIANCE = -4.0  # of the latents: training starts near a plain autoencoder


# --- First phase: the space of poses ----------------------------------------------------------------------------------------------


@checked
class SpatialVAEConfig(KeypointsConfig):
    """Configuration of `SpatialVAE`."""

    model_type = "nslpg_spatial_vae"

    hidden_size: int = number(512, 1, MAX_HIDDEN_SIZE)  # hidden units of encoder and decoder
    latent_size: int = number(64, 1, MAX_HIDDEN_SIZE)
    kl_weight: float | int = number(1e-5)  # of the divergence from a standard Gaussian, summed over a latent's numbers


@dataclass
class SpatialVAEOutput(ModelOutput):
    """What `SpatialVAE.forward` returns: losses (), latent_mean (N, W, Z), reconstruction (N, W, K, C), loss_sums (N, 2)."""

    loss: torch.Tensor | None = None
    keypoint_loss: torch.Tensor | None = None
    kl_loss: torch.Tensor | None = None
    latent_mean: torch.Tensor | None = None
    reconstruction: torch.Tensor | None = None
    loss_sums: torch.Tensor | None = None


class ResidualLayer(nn.Module):
    """Two fully connected layers beside their input, so that what is linear in a pose is learnt at once: (..., H) -> (..., H)."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.up_proj = nn.Linear(size, size)
        self.down_proj = nn.Linear(size, size)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden + self.down_proj(F.relu(self.up_proj(hidden)))


class SpatialVAE(UniGloRPreTrainedModel):
    """A variational autoencoder of single frames, by fully connected layers. It is trained on segments, whose weights SignMAE knows."""

    config: SpatialVAEConfig
    config_class = SpatialVAEConfig
    main_input_name = "keypoints"
    base_model_prefix = "spatial_vae"

    frame_mean: torch.Tensor
    keypoint_presence: torch.Tensor

    def __init__(self, config: SpatialVAEConfig) -> None:
        super().__init__(config)
        size = config.hidden_size
        self.encoder = nn.Sequential(nn.Linear(config.num_coordinates, size), ResidualLayer(size))
        self.mean_head = nn.Linear(size, config.latent_size)
        self.log_variance_head = nn.Linear(size, config.latent_size)
        self.decoder = nn.Sequential(nn.Linear(config.latent_size, size), ResidualLayer(size), nn.Linear(size, config.num_coordinates))
        self.register_buffer("frame_mean", torch.zeros(config.num_keypoints, config.num_channels))
        self.register_buffer("keypoint_presence", torch.ones(config.num_keypoints))
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, SpatialVAE):
            init.zeros_(module.log_variance_head.weight)
            init.constant_(module.log_variance_head.bias, FIRST_LOG_VARIANCE)

    @torch.no_grad()
    def set_statistics(self, frame_mean: torch.Tensor, presence: torch.Tensor) -> None:
        """Sets the mean training frame (K, C), and which points the model knows from the share of frames that show each (K,)."""
        self.frame_mean.copy_(frame_mean)
        self.keypoint_presence.copy_((presence >= 0.5).float())

    def forward(
        self,
        keypoints: torch.Tensor,
        keypoint_mask: torch.Tensor,
        num_items_in_batch: torch.Tensor | None = None,
        noise: torch.Tensor | None = None,
    ) -> SpatialVAEOutput:
        """Frames given back from a latent that is drawn.

        Args:
            keypoints: (N, W, K, C) in shoulder lengths; keypoint_mask: (N, W, K), 1 where a point was seen.
            num_items_in_batch: see `mean_loss`.
            noise: (N, W, Z) standard normal numbers; by default drawn while training, and 0 otherwise.
        """
        check_numbers("keypoints", keypoints, ("segments", "frames", self.config.num_keypoints, self.config.num_channels))
        keypoint_mask = keypoint_mask.to(torch.float32)
        mean, log_variance = self.distribution(keypoints)  # (N, W, Z) twice
        if noise is None:
            noise = torch.randn_like(mean) if self.training else torch.zeros_like(mean)
        reconstruction = self.decode(mean + (log_variance / 2).exp() * noise)
        weights = keypoint_weights(keypoints, keypoint_mask, self.config) * keypoint_mask  # (N, W, K)
        keypoint_sums = squared_error(reconstruction, keypoints, weights)
        kl_sums = (exact(mean).square() + exact(log_variance).exp() - 1 - exact(log_variance)).sum((1, 2)) / 2
        sums = torch.stack([keypoint_sums, self.config.kl_weight * kl_sums], dim=1)
        counts = self.count_items(keypoints, keypoint_mask)
        num_coordinates, num_frames = counts.sum(0).clamp_min(1)
        return SpatialVAEOutput(
            loss=mean_loss(sums, counts, num_items_in_batch),
            keypoint_loss=keypoint_sums.sum() / num_coordinates,
            kl_loss=kl_sums.sum() / num_frames,
            latent_mean=mean,
            reconstruction=reconstruction,
            loss_sums=sums.detach(),
        )

    def count_items(self, keypoints: torch.Tensor, keypoint_mask: torch.Tensor, **inputs: Any) -> torch.Tensor:
        """What the loss's terms are means over: (N, 2) int64, present coordinates and frames."""
        coordinates = (keypoint_mask != 0).sum((1, 2)) * keypoints.shape[-1]
        return torch.stack([coordinates, torch.full_like(coordinates, keypoints.shape[1])], dim=1)

    def distribution(self, keypoints: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and logarithm of the variance of each frame's latent: (..., K, C) -> (..., Z) twice."""
        hidden = self.encoder((keypoints - self.frame_mean).flatten(-2))
        return self.mean_head(hidden), self.log_variance_head(hidden)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """(..., Z) -> (..., K, C)."""
        return self.decoder(latents).unflatten(-1, self.frame_mean.shape) + self.frame_mean


# --- Second phase: from text to the space -----------------------------------------------------------------------------------------


@checked
class NSLPGConfig(TextFramesConfig):
    """Configuration of `NSLPG`."""

    model_type = "nslpg"
    sub_configs_defaults = TextFramesConfig.sub_configs_defaults | {"vae_config": SubConfigSpec(SpatialVAEConfig)}

    vae_config: dict | PreTrainedConfig | None = inner()  # of the `SpatialVAE`, whose weighting holds here too
    keypoint_loss_weight: float | int = number(1.0)  # of the squared error of the decoded frames
    latent_loss_weight: float | int = number(0.1)  # of that of the latents, whose variance is 1: it makes both terms alike in size

    @property
    def layout(self) -> str:
        return self.vae_config.layout

    @property
    def keypoint_weighting(self) -> str:
        return self.vae_config.keypoint_weighting


class NSLPG(TextFramesModel):
    """Text to all frames at once: queries that only know their place attend to each other and to the text."""

    config: NSLPGConfig
    config_class = NSLPGConfig
    base_model_prefix = "nslpg"

    latent_scale: torch.Tensor

    def __init__(self, config: NSLPGConfig) -> None:
        super().__init__(config)
        size = config.hidden_size
        self.length_regulator = LengthRegulator(
            config.text_config.hidden_size, config.max_frames, config.hidden_dropout_prob, config.layer_norm_eps
        )
        self.positions = SinusoidalPositions(config.max_frames, size)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.layers = nn.ModuleList(TransformerLayer(config, memory_size=math.inf) for _ in range(config.num_hidden_layers))
        self.norm = nn.LayerNorm(size, eps=config.layer_norm_eps)
        self.latent_projection = nn.Linear(size, config.vae_config.latent_size)
        self.register_buffer("latent_scale", torch.tensor(1.0))
        self.vae = SpatialVAE(config.vae_config)
        self.post_init()
        self._freeze()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, NSLPG):
            init.normal_(module.latent_projection.weight, std=self.config.initializer_range)  # start near the mean latent

    @classmethod
    def from_parts(cls, vae: SpatialVAE, latent_scale: float, **fields: Any) -> "NSLPG":
        """Puts a text encoder and a decoder of latents before a trained `SpatialVAE`.

        Args:
            latent_scale: root of the mean variance of the latents of training frames.
            fields: of `NSLPGConfig`.
        """
        model = cls(NSLPGConfig(vae_config=vae.config.to_dict() | {"_name_or_path": ""}, **fields))
        model.vae.load_state_dict(vae.state_dict())
        model.latent_scale.fill_(latent_scale)
        return model

    def _frozen_parts(self) -> list[nn.Module]:
        return [self.vae]

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        keypoints: torch.Tensor | None = None,
        keypoint_mask: torch.Tensor | None = None,
        frame_mask: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | None = None,
    ) -> SigningOutput:
        """As `ProgressiveTransformer.forward`, without noise."""
        self.check_clips(keypoints, keypoint_mask, frame_mask, len(input_ids))
        hidden, memory_mask = self.encode_text(input_ids, attention_mask)
        length_logits = self.length_regulator(hidden[:, 0])  # (B, M)
        latents = self.predict_latents(hidden, memory_mask, frame_mask)  # (B, T, Z)
        frames = self.decode(latents)  # (B, T, K, C)

        real = frame_mask != 0
        with torch.no_grad():
            target = exact(self.vae.distribution(keypoints)[0]) / self.latent_scale
        latent_errors = (exact(latents) - target).square().mean(-1)  # (B, T)
        latent_sums = torch.where(real, latent_errors, 0).sum(1)
        seen = keypoint_mask * real[..., None].to(keypoint_mask.dtype)
        keypoint_sums = squared_error(frames, keypoints, frame_weights(keypoints, seen, self.config.vae_config) * seen)
        within = F.pad(real, (0, self.config.max_frames - real.shape[1]))  # (B, M)
        logits = exact(length_logits)
        length_sums = F.binary_cross_entropy_with_logits(logits, within.to(logits.dtype), reduction="none").mean(1)
        config = self.config
        sums = [config.keypoint_loss_weight * keypoint_sums, config.latent_loss_weight * latent_sums]
        sums = torch.stack([*sums, config.length_loss_weight * length_sums], dim=1)
        counts = self.count_items(keypoints, keypoint_mask, frame_mask)
        num_coordinates, num_frames, num_texts = counts.sum(0).clamp_min(1)
        return SigningOutput(
            loss=mean_loss(sums, counts, num_items_in_batch),
            keypoint_loss=keypoint_sums.sum() / num_coordinates,
            latent_loss=latent_sums.sum() / num_frames,
            length_loss=length_sums.sum() / num_texts,
            keypoints=frames,
            loss_sums=sums.detach(),
        )

    def count_items(self, keypoints: torch.Tensor, keypoint_mask: torch.Tensor, frame_mask: torch.Tensor, **inputs: Any) -> torch.Tensor:
        """What the loss's terms are means over: (B, 3) int64, present coordinates, frames, and 1."""
        real = frame_mask != 0
        num_frames = real.sum(1)
        coordinates = ((keypoint_mask != 0).sum(2) * real).sum(1) * keypoints.shape[-1]
        return torch.stack([coordinates, num_frames, torch.ones_like(num_frames)], dim=1)

    def predict_latents(self, hidden: torch.Tensor, memory_mask: torch.Tensor, frame_mask: torch.Tensor) -> torch.Tensor:
        """Latents of all frames, in units of `latent_scale`: (B, L, H'), (B, L), (B, T) -> (B, T, Z)."""
        memory = self.memory_projection(hidden)
        queries = self.positions.table[: frame_mask.shape[1]].to(memory.dtype).expand(len(memory), -1, -1)
        tokens = self.dropout(queries)
        frames = create_bidirectional_mask(self.config, tokens, frame_mask != 0)
        text = create_bidirectional_mask(self.config, tokens, memory_mask != 0, encoder_hidden_states=memory)
        for layer in self.layers:
            tokens = layer(tokens, memory, attention_mask=frames, memory_mask=text)
        return self.latent_projection(self.norm(tokens))

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """(..., Z) in units of `latent_scale` -> (..., K, C)."""
        return self.vae.decode(latents * self.latent_scale)

    @torch.no_grad()
    def generate(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        num_frames: int | Sequence[int] | torch.Tensor | None = None,
    ) -> GeneratedSigning:
        """Signing of texts.

        Args:
            input_ids, attention_mask: (B, L).
            num_frames: how long each clip is; by default the length regulator says. Report scores of clips with set lengths as
                `length=reference`.

        Returns:
            `GeneratedSigning`, keypoints and num_frames.
        """
        hidden, memory_mask = self.encode_text(input_ids, attention_mask)
        if num_frames is None:
            lengths = self.length_regulator.num_segments(self.length_regulator(hidden[:, 0]))
        else:
            lengths = self.check_num_frames(num_frames, len(input_ids))
        frame_mask = (torch.arange(int(lengths.max()), device=lengths.device) < lengths[:, None]).long()
        frames = self.decode(self.predict_latents(hidden, memory_mask, frame_mask))
        frames = place_unseen(frames, self.vae.keypoint_presence, self.config.layout)
        return GeneratedSigning(keypoints=frames * frame_mask[..., None, None], num_frames=lengths)
