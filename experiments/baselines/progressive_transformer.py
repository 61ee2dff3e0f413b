"""Progressive Transformer (Saunders, Camgoz, Bowden 2020, "Progressive Transformers for End-to-End Sign Language Production").

A re-implementation from the paper: its symbolic encoder of words, and its progressive, causal decoder, which reads the frame before, joined
with a counter from 0 to 1 that says how far the clip is, and predicts the next frame and its counter ("counter decoding"). The clip ends
where the counter reaches 1. Its three ways of data augmentation, against drift, are "just counter", "future prediction" and "Gaussian
noise". docs/baselines.md says what the paper leaves open. Nothing true is known when it signs, not even the first frame.

Shapes: B clips, L text tokens, T frames, F frames that are predicted at a time, K keypoints, C channels, H hidden size.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers import initialization as init
from transformers.masking_utils import create_bidirectional_mask, create_causal_mask

from experiments.baselines.frame_signing import (
    KeypointsConfig,
    SigningOutput,
    TextFramesConfig,
    TextFramesModel,
    frame_weights,
    place_unseen,
    squared_error,
)
from modeling_unigloR import GeneratedSigning
from modeling_unigloR.configuration_uniglor import checked, number
from modeling_unigloR.limits_uniglor import MAX_WINDOW_SIZE
from modeling_unigloR.modeling_layers_uniglor import AttentionCache, SinusoidalPositions, TransformerLayer, exact, mean_loss

MOMENTUM = 0.02  # of the running deviation of errors: about the last 50 steps, an epoch of a small corpus


@checked
class ProgressiveTransformerConfig(KeypointsConfig, TextFramesConfig):
    """Configuration of `ProgressiveTransformer`. The defaults of the augmentation are the paper's best, future prediction with noise."""

    model_type = "progressive_transformer"

    just_counter: bool = False  # the decoder reads the counter alone, and no frame
    future_frames: int = number(10, 1, MAX_WINDOW_SIZE)  # that are predicted at a time; the first of them is signed, 1 predicts no others
    noise_factor: float | int = number(5.0)  # r_n: of Gaussian noise on the frames that are read, in deviations of the model's own errors


class ProgressiveTransformer(TextFramesModel):
    """Text to frames, one after the other. `forward` is for training; `generate` reads nothing but the text."""

    config: ProgressiveTransformerConfig
    config_class = ProgressiveTransformerConfig
    base_model_prefix = "progressive_transformer"

    frame_mean: torch.Tensor
    keypoint_presence: torch.Tensor
    counter_step: torch.Tensor
    error_variance: torch.Tensor

    def __init__(self, config: ProgressiveTransformerConfig) -> None:
        super().__init__(config)
        shape = config.num_keypoints, config.num_channels
        self.frame_projection = nn.Linear((0 if config.just_counter else config.num_coordinates) + 1, config.hidden_size)
        self.positions = SinusoidalPositions(config.max_frames, config.hidden_size)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.layers = nn.ModuleList(TransformerLayer(config, memory_size=math.inf, is_causal=True) for _ in range(config.num_hidden_layers))
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.frame_head = nn.Linear(config.hidden_size, config.future_frames * config.num_coordinates)
        self.counter_head = nn.Linear(config.hidden_size, 1)
        self.register_buffer("frame_mean", torch.zeros(shape))
        self.register_buffer("keypoint_presence", torch.ones(config.num_keypoints))
        self.register_buffer("counter_step", torch.tensor(1 / config.max_frames))
        self.register_buffer("error_variance", torch.zeros(shape))
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, ProgressiveTransformer):
            init.normal_(module.frame_head.weight, std=self.config.initializer_range)  # start near the mean frame
            init.zeros_(module.counter_head.weight)  # and at the mean length

    @torch.no_grad()
    def set_statistics(self, frame_mean: torch.Tensor, presence: torch.Tensor, counter_step: float) -> None:
        """Sets what is taken from the training clips before training: the mean frame (K, C), with which every clip starts, the share of
        frames that show each point (K,), and the mean step of a clip's counter."""
        self.frame_mean.copy_(frame_mean)
        self.keypoint_presence.copy_((presence >= 0.5).float())
        self.counter_step.fill_(counter_step)

    # --- Training -----------------------------------------------------------------------------------------------------------------

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        keypoints: torch.Tensor | None = None,
        keypoint_mask: torch.Tensor | None = None,
        frame_mask: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | None = None,
        noise: torch.Tensor | None = None,
    ) -> SigningOutput:
        """Each frame from the true ones before it.

        Args:
            input_ids, attention_mask: (B, L).
            keypoints: (B, T, K, C) in shoulder lengths, keypoint_mask (B, T, K), 1 where a point was seen, and frame_mask (B, T).
            num_items_in_batch: see `mean_loss`.
            noise: (B, T, K, C) standard normal numbers; by default drawn while training, and none otherwise.
        """
        self.check_clips(keypoints, keypoint_mask, frame_mask, len(input_ids))
        memory, memory_mask = self.encode_text(input_ids, attention_mask)
        real = frame_mask != 0
        lengths = real.sum(1, keepdim=True)
        place = torch.arange(keypoints.shape[1], device=keypoints.device)
        counters = (place / lengths).clamp_max(1)  # (B, T), of the frame before each
        before = torch.cat([self.frame_mean.expand(len(keypoints), 1, -1, -1), self.with_noise(keypoints, noise)[:, :-1]], dim=1)
        hidden = self.states(self.embed(before, counters), self.memory_projection(memory), memory_mask)  # (B, T, H)
        frames, steps = self.predict(hidden)  # (B, T, F, K, C), (B, T)

        seen = keypoint_mask * real[..., None].to(keypoint_mask.dtype)
        weights = frame_weights(keypoints, seen, self.config) * seen  # (B, T, K)
        keypoint_sums = squared_error(frames, self.ahead(keypoints).movedim(-1, 2), self.ahead(weights).movedim(-1, 2))
        counter_errors = ((counters + steps - (place + 1) / lengths) / self.counter_step).square()  # in mean steps
        counter_sums = torch.where(real, exact(counter_errors), 0).sum(1)
        if self.training:
            self.notice_errors(frames[:, :, 0] - keypoints, seen)
        sums = torch.stack([keypoint_sums, self.config.length_loss_weight * counter_sums], dim=1)
        counts = self.count_items(keypoints, keypoint_mask, frame_mask)
        num_coordinates, num_frames = counts.sum(0).clamp_min(1)
        return SigningOutput(
            loss=mean_loss(sums, counts, num_items_in_batch),
            keypoint_loss=keypoint_sums.sum() / num_coordinates,
            length_loss=counter_sums.sum() / num_frames,
            keypoints=frames[:, :, 0],
            loss_sums=sums.detach(),
        )

    def count_items(self, keypoints: torch.Tensor, keypoint_mask: torch.Tensor, frame_mask: torch.Tensor, **inputs: Any) -> torch.Tensor:
        """What the loss's terms are means over: (B, 2) int64, present coordinates, as often as they are predicted, and frames."""
        times = torch.arange(1, keypoints.shape[1] + 1, device=keypoints.device).clamp_max(self.config.future_frames)  # (T,)
        seen = (keypoint_mask != 0).sum(2) * (frame_mask != 0)  # (B, T)
        return torch.stack([(seen * times).sum(1) * keypoints.shape[-1], (frame_mask != 0).sum(1)], dim=1)

    def with_noise(self, keypoints: torch.Tensor, noise: torch.Tensor | None = None) -> torch.Tensor:
        """Frames as the decoder reads them while training: those that it will have made itself are not exact either."""
        if not self.config.noise_factor or self.config.just_counter or (noise is None and not self.training):
            return keypoints
        noise = torch.randn_like(keypoints) if noise is None else noise
        return keypoints + self.config.noise_factor * self.error_variance.sqrt() * noise

    @torch.no_grad()
    def notice_errors(self, errors: torch.Tensor, seen: torch.Tensor) -> None:
        """Lets the running deviation of each coordinate's error follow a batch's errors: (B, T, K, C), seen (B, T, K)."""
        variance = (exact(errors).square() * seen[..., None]).sum((0, 1)) / seen.sum((0, 1))[:, None].clamp_min(1)
        self.error_variance.lerp_(variance.to(self.error_variance.dtype), MOMENTUM)

    def ahead(self, values: torch.Tensor) -> torch.Tensor:
        """For each frame the values of it and the ones after it, 0 past the end, at the end: (B, T, ...) -> (B, T, ..., F)."""
        padding = [0, 0] * (values.ndim - 2) + [0, self.config.future_frames - 1]
        return F.pad(values, padding).unfold(1, self.config.future_frames, 1)

    # --- Decoder ------------------------------------------------------------------------------------------------------------------

    def embed(self, frames: torch.Tensor, counters: torch.Tensor, first: int = 0) -> torch.Tensor:
        """The decoder's inputs from frames and their counters, the places of which begin at `first`: (B, T, K, C), (B, T) -> (B, T, H)."""
        inputs = counters[..., None].to(frames.dtype)
        if not self.config.just_counter:
            inputs = torch.cat([(frames - self.frame_mean).flatten(2), inputs], dim=2)
        tokens = self.frame_projection(inputs)
        return self.dropout(tokens + self.positions.table[first : first + tokens.shape[1]].to(tokens.dtype))

    def states(
        self, hidden: torch.Tensor, memory: torch.Tensor, memory_mask: torch.Tensor, cache: AttentionCache | None = None
    ) -> torch.Tensor:
        """What the layers make of each frame, those before it and the text: (B, T, H) -> same; a cache knows the earlier ones."""
        text = create_bidirectional_mask(self.config, hidden, memory_mask != 0, encoder_hidden_states=memory)
        causal = create_causal_mask(self.config, hidden, attention_mask=None, past_key_values=None) if cache is None else None
        for layer in self.layers:
            hidden = layer(hidden, memory, attention_mask=causal, memory_mask=text, cache=cache)
        return self.norm(hidden)

    def predict(self, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The next frames, and the counter's step: (..., H) -> (..., F, K, C), (...)."""
        frames = self.frame_head(hidden).unflatten(-1, (self.config.future_frames, *self.frame_mean.shape))
        return frames + self.frame_mean, self.counter_step * (1 + self.counter_head(hidden).squeeze(-1))

    # --- Use ----------------------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def generate(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        num_frames: int | Sequence[int] | torch.Tensor | None = None,
        use_cache: bool = True,
    ) -> GeneratedSigning:
        """Signing of texts, frame by frame from the mean frame on.

        Args:
            input_ids, attention_mask: (B, L).
            num_frames: how long each clip is; the counter then is the true one. By default a clip ends with the frame whose predicted
                counter is nearest to 1, or after `max_frames`. Report scores of clips with set lengths as `length=reference`.
            use_cache: whether keys and values of earlier frames are kept; without, they are computed again for each frame.

        Returns:
            `GeneratedSigning`, keypoints and num_frames.
        """
        memory, memory_mask = self.encode_text(input_ids, attention_mask)
        memory, count = self.memory_projection(memory), len(input_ids)
        lengths = None if num_frames is None else self.check_num_frames(num_frames, count)
        cache = AttentionCache() if use_cache else None
        frames = self.frame_mean.expand(count, 1, -1, -1)  # (B, 1 + frames so far, K, C)
        counters = frames.new_zeros(count, 1)
        ends = torch.zeros(count, dtype=torch.long, device=frames.device)  # 0: it goes on
        for place in range(self.config.max_frames if lengths is None else int(lengths.max())):
            first = place if use_cache else 0
            hidden = self.states(self.embed(frames[:, first:], counters[:, first:], first), memory, memory_mask, cache)
            made, step = self.predict(hidden[:, -1])  # (B, F, K, C), (B,)
            frame = place_unseen(made[:, 0], self.keypoint_presence, self.config.layout)
            step = step.clamp_min(0) if lengths is None else 1 / lengths
            counter = (counters[:, -1] + step).clamp_max(1)
            frames = torch.cat([frames, frame[:, None].to(frames.dtype)], dim=1)
            counters = torch.cat([counters, counter[:, None].to(counters.dtype)], dim=1)
            ended = (counter + step / 2 >= 1) if lengths is None else lengths <= place + 1
            ends = torch.where((ends == 0) & ended, place + 1, ends)
            if ends.all():
                break
        ends = torch.where(ends == 0, frames.shape[1] - 1, ends)
        real = torch.arange(frames.shape[1] - 1, device=frames.device) < ends[:, None]
        return GeneratedSigning(keypoints=frames[:, 1:] * real[..., None, None], num_frames=ends)
