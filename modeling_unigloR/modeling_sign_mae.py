"""SignMAE: a masked autoencoder over windows of sign keypoints (paper sections 3.2 and 3.3).

Shapes: B sequences, S segments of a sequence, N segments in all, T frames in a sequence, W frames in a window, V of them
visible, K keypoints, C channels, D hidden size.
"""

from dataclasses import dataclass
from typing import Any, overload

import torch
from torch import nn
from transformers import initialization as init
from transformers.masking_utils import create_causal_mask
from transformers.utils import ModelOutput
from transformers.utils.output_capturing import OutputRecorder

from .configuration_uniglor import SignMAEConfig
from .keypoint_weighting_uniglor import keypoint_weights
from .keypoints_uniglor import paths_to_center
from .modeling_layers_uniglor import (
    RECORDED,
    RECORDED_WITH_MEMORY,
    Attention,
    ChannelTopologyGraphConv,
    FrameWhitening,
    KeypointNorm,
    KeypointStreams,
    MultiScaleTemporalConv,
    SinusoidalPositions,
    TransformerLayer,
    UniGloRPreTrainedModel,
    calibrate,
    check_mask,
    check_numbers,
    check_padding,
    exact,
    interpolate_hidden,
    mean_loss,
    principal_axes,
    records_layers,
    sinusoids,
)

OFFSET_FLOOR = 0.01  # shoulder lengths; so that a point that did not move in the training data can still be moved
MOST_WINDOWS = 2**31 - 1  # of a batch: all of them together
CALIBRATING = 512  # segments that norms are calibrated on; more would be more exact than a norm needs, and take memory
NEARLY_LINEAR = 0.1  # what the encoder's network adds at first to a latent with a linear part, whose standard deviation is 1
STD_FLOOR = 1e-6  # a dead dimension of the latent is not divided by 0


@dataclass
class SignMAEOutput(ModelOutput):
    """What `SignMAE.forward` returns.

    Attributes:
        loss: (), weighted squared error in shoulder lengths squared (Eq 2).
        latent: (N, D), the implicit gloss-level representation z, not standardised.
        reconstruction: (N, W, K, C) in shoulder lengths.
        masked: (N, W) bool, True where the encoder did not see the frame's token.
        hidden_states, attentions: of the encoder's Transformer layers, if asked for: (N, 1 + W, D) before the first layer and after
            each, and (N, heads, 1 + W, 1 + W). The first position is the class token [GloR].
    """

    loss: torch.Tensor | None = None
    latent: torch.Tensor | None = None
    reconstruction: torch.Tensor | None = None
    masked: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


@dataclass
class SignMAEEncoderOutput(ModelOutput):
    """What `SignMAEEncoderModel.forward` returns.

    Attributes:
        latents: (B, S, D), standardised, 0 where there is no window.
        latent_mask: (B, S) int64, 1 where there is one.
        hidden_states, attentions: of the Transformer layers, if asked for, for each of the N real windows: (N, 1 + W, D) before the
            first layer and after each, and (N, heads, 1 + W, 1 + W). The first position is the class token.
    """

    latents: torch.Tensor | None = None
    latent_mask: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


@dataclass
class SignMAEDecoderOutput(ModelOutput):
    """What `SignMAEDecoderModel.forward` returns.

    Attributes:
        keypoints: (..., W, K, C) in shoulder lengths.
        hidden_states, attentions, cross_attentions: of the Transformer layers, if asked for, for each of N latents: (N, W, D) before the
            first layer and after each, (N, heads, W, W), and (N, heads, W, W) to the latent; the last is empty with one memory token.
    """

    keypoints: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None
    cross_attentions: tuple[torch.Tensor, ...] | None = None


class SignMAEEncoder(nn.Module):
    """Graph block, temporal block, one token for each frame, a Transformer that pools them into [GloR] (Fig 2a, left)."""

    def __init__(self, config: SignMAEConfig) -> None:
        super().__init__()
        self.config = config
        if config.graph_channels:
            self.streams = KeypointStreams(config.input_streams or (), config.layout)
            num_channels = config.num_channels * len(self.streams.streams)
            self.input_norm = KeypointNorm(config.num_keypoints, num_channels, config.block_norm)
            self.graph = ChannelTopologyGraphConv(
                num_channels, config.graph_channels, config.relation_channels, config.layout, config.block_norm
            )
            self.temporal = MultiScaleTemporalConv(
                config.graph_channels,
                config.temporal_branch_channels,
                config.temporal_kernel_size,
                config.temporal_dilations or (),
                config.block_norm,
            )
            self.frame_projection = nn.Linear(config.num_keypoints * self.temporal.out_channels, config.hidden_size)
        if config.input_whitening:
            self.whitening = FrameWhitening(config.input_whitening, config.num_keypoints, config.num_channels, config.layout)
            self.whitened_projection = nn.Linear(config.input_whitening, config.hidden_size)
        self.positions = SinusoidalPositions(config.window_size, config.hidden_size)
        if config.mask_strategy == "replace":
            self.mask_token = nn.Parameter(torch.zeros(config.hidden_size))
        self.class_token = nn.Parameter(torch.zeros(config.hidden_size))  # [GloR]
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.layers = nn.ModuleList(TransformerLayer(config) for _ in range(config.num_hidden_layers))
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        if config.linear_skip:
            self.window_projection = nn.Linear(config.window_size * config.num_keypoints * config.num_channels, config.hidden_size)

    def forward(self, keypoints: torch.Tensor, masked: torch.Tensor | None = None) -> torch.Tensor:
        """(N, W, K, C), (N, W) bool or None -> latent (N, D)."""
        tokens = self.embed(keypoints, masked)  # (N, W, D)
        latent = self.pool(tokens, masked)
        return latent + self.linear_part(keypoints, masked).to(latent.dtype) if self.config.linear_skip else latent

    def linear_part(self, keypoints: torch.Tensor, masked: torch.Tensor | None = None) -> torch.Tensor:
        """What of the latent is linear in the keypoints: (N, W, K, C) -> (N, D). Masked frames count as interpolated ones, because as gaps
        they would change the whole latent."""
        with torch.autocast(keypoints.device.type, enabled=False):  # small variances count as much as large ones
            window = interpolate_hidden(keypoints, masked).flatten(1)
            return self.window_projection(window.to(self.window_projection.weight.dtype))

    def embed(self, keypoints: torch.Tensor, masked: torch.Tensor | None = None) -> torch.Tensor:
        """One token for each frame, of the convolutions, of the whitened frame, or of both: (N, W, K, C) -> (N, W, D)."""
        tokens = [self.convolve(keypoints, masked)] if self.config.graph_channels else []
        if self.config.input_whitening:
            tokens.append(self.whitened_projection(self.whitening(keypoints)))
        return sum(tokens[1:], tokens[0])

    def convolve(self, keypoints: torch.Tensor, masked: torch.Tensor | None = None) -> torch.Tensor:
        """Graph block, temporal block, and a linear layer over all points: (N, W, K, C) -> (N, W, D)."""
        hidden = masked if self.config.mask_stage == "keypoints" else None
        features = self.input_norm(self.streams(keypoints, hidden))  # (N, W, K, C x streams)
        if hidden is not None:  # the mean of the data, so that the convolutions give neighbours no information on the frame
            features = features * ~hidden[:, :, None, None]
        features = features.permute(0, 3, 2, 1)  # (N, C, K, W)
        features = self.temporal(self.graph(features))  # (N, C', K, W)
        return self.frame_projection(features.flatten(1, 2).transpose(1, 2))

    def pool(self, tokens: torch.Tensor, masked: torch.Tensor | None = None) -> torch.Tensor:
        """Tokens, those of masked frames replaced or dropped, to the latent at [GloR]: (N, W, D) -> (N, D)."""
        if masked is not None and self.config.mask_strategy == "replace":
            tokens = torch.where(masked[..., None], self.mask_token, tokens)
        tokens = self.positions(tokens)
        if masked is not None and self.config.mask_strategy == "drop":
            num_visible = self.config.window_size - self.config.num_masked_frames
            visible = masked.int().argsort(dim=1, stable=True)[:, :num_visible, None]  # (N, V, 1)
            tokens = tokens.gather(1, visible.expand(-1, -1, tokens.shape[-1]))  # (N, V, D)
        hidden = torch.cat([self.class_token.expand(len(tokens), 1, -1), tokens], dim=1)
        hidden = self.dropout(hidden)
        for layer in self.layers:
            hidden = layer(hidden)
        return self.norm(hidden[:, 0])


class SignMAEDecoder(nn.Module):
    """Queries, one for each frame, that attend to each other and to the latent (Fig 2a, right): (N, D) -> (N, W, K, C).

    The latent becomes `config.num_memory_tokens` memory tokens, each a linear function of it. A single one would give every frame the
    same vector; the decoder then settles on one static pose for each segment.
    """

    offset_mean: torch.Tensor
    offset_std: torch.Tensor
    paths: torch.Tensor

    def __init__(self, config: SignMAEConfig) -> None:
        super().__init__()
        self.config, self.num_memory_tokens = config, config.num_memory_tokens or config.window_size
        self.autoregressive = config.decoding == "autoregressive"
        self.memory_projection = nn.Linear(config.hidden_size, self.num_memory_tokens * config.hidden_size)
        if self.autoregressive:
            self.start_token = nn.Parameter(torch.zeros(config.hidden_size))
            self.frame_embedding = nn.Linear(config.num_keypoints * config.num_channels, config.hidden_size)
        self.queries: torch.Tensor
        queries = sinusoids(config.window_size, config.hidden_size, torch.get_default_dtype())
        if config.query_type == "learned":
            self.queries = nn.Parameter(queries)
        else:
            self.register_buffer("queries", queries, persistent=True)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.layers = nn.ModuleList(
            TransformerLayer(config, memory_size=self.num_memory_tokens, is_causal=self.autoregressive)
            for _ in range(config.decoder_num_hidden_layers)
        )
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        # The last projection predicts the offset of each point from its parent, in units of its standard deviation. It can express the
        # same functions as a projection to positions, but the small motion of a finger is not lost beside that of the whole arm.
        self.keypoint_projection = nn.Linear(config.hidden_size, config.num_keypoints * config.num_channels)
        if config.linear_skip:
            self.window_projection = nn.Linear(config.hidden_size, config.window_size * config.num_keypoints * config.num_channels)
        self.register_buffer("offset_mean", torch.zeros(config.num_keypoints, config.num_channels))
        self.register_buffer("offset_std", torch.ones(config.num_keypoints, config.num_channels))
        self.register_buffer("paths", torch.from_numpy(paths_to_center(config.layout)), persistent=False)

    def forward(self, latent: torch.Tensor, previous_keypoints: torch.Tensor | None = None) -> torch.Tensor:
        """Reconstructs segments.

        Args:
            latent: (N, D), not standardised.
            previous_keypoints: (N, W, K, C) true frames, for teacher forcing; read by autoregressive decoding only, which
                without them feeds itself its own frames.
        """
        memory = self.memory_projection(latent).unflatten(-1, (self.num_memory_tokens, -1))  # (N, W or 1, D)
        linear = self.linear_part(latent) if self.config.linear_skip else None  # (N, W, K, C)
        if not self.autoregressive:
            return self._decode(self.queries.expand(len(latent), -1, -1), memory, linear)
        if previous_keypoints is not None:
            return self._decode(self._shifted(previous_keypoints[:, :-1]), memory, linear)
        reconstruction = self.offset_mean.new_zeros(len(latent), 0, *self.offset_mean.shape)
        for _ in range(self.config.window_size):
            newest = self._decode(self._shifted(reconstruction), memory, linear)[:, -1:]
            reconstruction = torch.cat([reconstruction, newest], dim=1)
        return reconstruction

    def linear_part(self, latent: torch.Tensor) -> torch.Tensor:
        """What of the reconstruction is linear in the latent: (N, D) -> (N, W, K, C)."""
        with torch.autocast(latent.device.type, enabled=False):
            window = self.window_projection(latent.to(self.window_projection.weight.dtype))
            return window.view(-1, self.config.window_size, *self.offset_mean.shape).to(self.offset_mean.dtype)

    def _shifted(self, keypoints: torch.Tensor) -> torch.Tensor:
        """Start token and the frames so far, at their positions: (N, W', K, C) -> (N, W' + 1, D)."""
        frames = self.frame_embedding(keypoints.flatten(2).to(self.frame_embedding.weight.dtype))
        frames = torch.cat([self.start_token.expand(len(frames), 1, -1), frames], dim=1)
        return frames + self.queries[: frames.shape[1]]

    def _decode(self, queries: torch.Tensor, memory: torch.Tensor, linear: torch.Tensor | None) -> torch.Tensor:
        hidden = self.dropout(queries + memory[:, : queries.shape[1]])  # (N, W, D)
        mask = create_causal_mask(self.config, hidden, attention_mask=None, past_key_values=None) if self.autoregressive else None
        for layer in self.layers:
            hidden = layer(hidden, memory, attention_mask=mask)
        offsets = self.keypoint_projection(self.norm(hidden)).unflatten(-1, self.offset_mean.shape)  # (N, W, K, C)
        with torch.autocast(offsets.device.type, enabled=False):  # positions are sums of offsets, which half precision would make inexact
            paths = self.paths.to(self.offset_mean.dtype)
            positions = paths @ (offsets.to(self.offset_mean.dtype) * self.offset_std + self.offset_mean)
            return positions if linear is None else positions + linear[:, : queries.shape[1]]


class SignMAEPreTrainedModel(UniGloRPreTrainedModel):
    """Base class of `SignMAE` and its two halves: the statistics that standardise latents, and initial values."""

    config: SignMAEConfig
    config_class = SignMAEConfig
    base_model_prefix = "sign_mae"
    latent_mean: torch.Tensor
    latent_std: torch.Tensor

    def __init__(self, config: SignMAEConfig) -> None:
        super().__init__(config)
        self.register_buffer("latent_mean", torch.zeros(config.hidden_size))
        self.register_buffer("latent_std", torch.ones(config.hidden_size))

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, SignMAEEncoder):
            init.normal_(module.class_token, std=self.config.initializer_range)
            if self.config.mask_strategy == "replace":
                init.normal_(module.mask_token, std=self.config.initializer_range)
            if self.config.linear_skip:
                init.constant_(module.norm.weight, NEARLY_LINEAR)
        elif isinstance(module, SignMAEDecoder):
            init.copy_(module.queries, sinusoids(*module.queries.shape))  # amplitude 1, like the encoder's positions
            init.normal_(module.keypoint_projection.weight, std=self.config.initializer_range)  # start near the mean pose
            init.copy_(module.paths, torch.from_numpy(paths_to_center(self.config.layout)))
            init.zeros_(module.offset_mean)
            init.ones_(module.offset_std)
            if module.autoregressive:
                init.normal_(module.start_token, std=self.config.initializer_range)
        elif isinstance(module, SignMAEPreTrainedModel):
            init.zeros_(module.latent_mean)
            init.ones_(module.latent_std)
            if isinstance(module, DecodesSegments):
                init.ones_(module.keypoint_presence)

    @property
    def segment_shape(self) -> tuple[int, int, int]:
        """(W, K, C)."""
        return self.config.window_size, self.config.num_keypoints, self.config.num_channels


class EncodesSegments(SignMAEPreTrainedModel):
    """Methods of models that have a `SignMAEEncoder` as `encoder`: whole clips to standardised latents."""

    encoder: SignMAEEncoder

    def encode(self, keypoints: torch.Tensor) -> torch.Tensor:
        """Standardised latents of segments, nothing masked: (N, W, K, C) -> (N, D)."""
        self._check_segments(keypoints)
        latent = self.encoder(keypoints)
        return ((latent - self.latent_mean) / self.latent_std).to(
            latent.dtype
        )  # the statistics may have a higher precision than the weights

    def encode_sequence(
        self, keypoints: torch.Tensor, attention_mask: torch.Tensor | None = None, stride: int | None = None, batch_size: int | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Latents of every window of whole clips. Padding never enters the convolutions.

        Args:
            keypoints: (B, T, K, C), padded after the last real frame.
            attention_mask: (B, T), 1 where a frame is real; by default everywhere.
            stride: frames between window starts; by default `config.stride`.
            batch_size: how many windows are encoded at a time; by default 64 on a CPU, because more do not fit its cache, else 1024.

        Returns:
            latents (B, S, D), 0 where there is no window; latent_mask (B, S) int64.
        """
        if torch.compiler.is_compiling() and not self.training:  # no shape may depend on the data: padding is encoded too, and left out
            windows, latent_mask = self._windows(keypoints, attention_mask, stride)
            encoded = self._encode_in_batches(windows.flatten(0, 1), batch_size)
            return torch.where(latent_mask[..., None] != 0, encoded.unflatten(0, windows.shape[:2]), 0), latent_mask
        segments, latent_mask = self.segment(keypoints, attention_mask, stride)  # (N, W, K, C), (B, S)
        encoded = self._encode_in_batches(segments, batch_size)
        latents = encoded.new_zeros(*latent_mask.shape, encoded.shape[-1])
        latents[latent_mask.bool()] = encoded
        return latents, latent_mask

    def _encode_in_batches(self, segments: torch.Tensor, batch_size: int | None) -> torch.Tensor:
        batch_size = batch_size or (64 if segments.device.type == "cpu" else 1024)
        return torch.cat([self.encode(batch) for batch in segments.split(batch_size)])

    def segment(
        self, keypoints: torch.Tensor, attention_mask: torch.Tensor | None = None, stride: int | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The real windows of a batch: (B, T, K, C), (B, T) -> segments (N, W, K, C), and latent_mask (B, S), 1 where a clip has one.

        A clip that is shorter than a window is held at its last frame.
        """
        windows, latent_mask = self._windows(keypoints, attention_mask, stride)
        return windows[latent_mask.bool()], latent_mask

    def _windows(
        self, keypoints: torch.Tensor, attention_mask: torch.Tensor | None, stride: int | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """All windows of a batch, those in the padding too: (B, T, K, C), (B, T) -> (B, S, W, K, C), a view, and latent_mask (B, S)."""
        check_numbers("keypoints", keypoints, ("clips", "frames", *self.segment_shape[1:]), self.encoder.class_token)
        num_clips, num_frames = keypoints.shape[:2]
        stride = self.config.stride if stride is None else stride
        if not isinstance(stride, int) or stride < 1:
            raise ValueError(f"Found stride={stride!r}, expected a whole number of frames, at least 1.")
        if attention_mask is None:
            attention_mask = torch.ones(num_clips, num_frames, dtype=torch.long, device=keypoints.device)
        check_padding("attention_mask", attention_mask, (num_clips, num_frames))
        lengths = (attention_mask != 0).sum(1)  # (B,)
        if num_frames < self.config.window_size or torch.compiler.is_compiling() or (lengths < self.config.window_size).any():
            frame = torch.arange(max(num_frames, self.config.window_size), device=keypoints.device)
            last = torch.where(lengths < self.config.window_size, lengths - 1, num_frames - 1)
            held = torch.minimum(frame, last[:, None])  # (B, T')
            keypoints = keypoints[torch.arange(num_clips, device=keypoints.device)[:, None], held]
        windows = keypoints.unfold(1, self.config.window_size, stride).movedim(-1, 2)  # (B, S, W, K, C), a view
        starts = torch.arange(windows.shape[1], device=keypoints.device)
        latent_mask = (starts < self.num_segments(lengths, stride)[:, None]).long()  # (B, S)
        return windows, latent_mask

    @overload
    def num_segments(self, num_frames: int, stride: int | None = None) -> int: ...

    @overload
    def num_segments(self, num_frames: torch.Tensor, stride: int | None = None) -> torch.Tensor: ...

    def num_segments(self, num_frames: int | torch.Tensor, stride: int | None = None) -> int | torch.Tensor:
        """How many windows a clip of `num_frames` (int or tensor) has: floor((T - w) / s) + 1, at least 1 (section 3.4)."""
        stride = self.config.stride if stride is None else stride
        later = (num_frames - self.config.window_size) // stride
        return later.clamp_min(0) + 1 if isinstance(later, torch.Tensor) else max(later, 0) + 1

    @torch.no_grad()
    def set_latent_statistics(self, mean: torch.Tensor, std: torch.Tensor) -> None:
        """Stores the mean and standard deviation (D,) of unstandardised latents over the training set."""
        self.latent_mean.copy_(mean)
        self.latent_std.copy_(std.clamp_min(STD_FLOOR))

    def _check_segments(self, keypoints: torch.Tensor) -> None:
        check_numbers(
            "segments",
            keypoints,
            ("segments", *self.segment_shape),
            self.encoder.class_token,
            f"These are window_size frames of layout {self.config.layout!r}, as KeypointProcessor(layout={self.config.layout!r}) gives "
            "them. Whole clips go through encode_sequence.",
        )


class DecodesSegments(SignMAEPreTrainedModel):
    """Methods of models that have a `SignMAEDecoder` as `decoder`: standardised latents to keypoints.

    Attributes:
        keypoint_presence: (K,), 0 for a point that was never learned, and so is never drawn or scored.
    """

    decoder: SignMAEDecoder
    keypoint_presence: torch.Tensor

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Undoes `encode`: standardised latents (..., D) -> keypoints (..., W, K, C) in shoulder lengths."""
        check_numbers("latents", latents, ("...", self.config.hidden_size), self.decoder.memory_projection.weight)
        latent = (latents * self.latent_std + self.latent_mean).to(latents.dtype).reshape(-1, latents.shape[-1])
        return self.decoder(latent).view(*latents.shape[:-1], *self.segment_shape)


class SignMAEEncoderModel(EncodesSegments):
    """Encoder-only SignMAE. It loads from the checkpoint of a `SignMAE` too."""

    main_input_name = "keypoints"
    _keys_to_ignore_on_load_unexpected = [r"decoder\..*", "keypoint_presence"]
    _can_record_outputs = RECORDED

    def __init__(self, config: SignMAEConfig) -> None:
        super().__init__(config)
        self.encoder = SignMAEEncoder(config)
        self.post_init()

    @records_layers
    def forward(
        self,
        keypoints: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        stride: int | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
    ) -> SignMAEEncoderOutput:
        """Latents of every window of whole clips; see `encode_sequence`.

        Args:
            keypoints: (B, T, K, C), and attention_mask (B, T).
            stride: frames between window starts; by default `config.stride`.
            output_hidden_states, output_attentions: whether to return what the Transformer layers compute of each window.
        """
        records = output_hidden_states or output_attentions  # they are recorded for all windows at once
        latents, latent_mask = self.encode_sequence(keypoints, attention_mask, stride, batch_size=MOST_WINDOWS if records else None)
        return SignMAEEncoderOutput(latents=latents, latent_mask=latent_mask)


class SignMAEDecoderModel(DecodesSegments):
    """Decoder-only SignMAE. It loads from the checkpoint of a `SignMAE` too."""

    main_input_name = "latents"
    _keys_to_ignore_on_load_unexpected = [r"encoder\..*"]
    _can_record_outputs = RECORDED_WITH_MEMORY

    def __init__(self, config: SignMAEConfig) -> None:
        super().__init__(config)
        self.decoder = SignMAEDecoder(config)
        self.register_buffer("keypoint_presence", torch.ones(config.num_keypoints))
        self.post_init()

    @records_layers
    def forward(
        self, latents: torch.Tensor, output_hidden_states: bool | None = None, output_attentions: bool | None = None
    ) -> SignMAEDecoderOutput:
        """Keypoints of standardised latents (..., D); see `decode`. The two options return what the Transformer layers compute."""
        return SignMAEDecoderOutput(keypoints=self.decode(latents))


class SignMAE(EncodesSegments, DecodesSegments):
    """Masked autoencoder that gives one vector for every window of signing, without glosses or labels.

    `forward` is pretraining. `encode`, `encode_sequence` and `decode` are what other models use: their latents are standardised
    by `latent_mean` and `latent_std`, which pretraining stores at its end.
    """

    main_input_name = "keypoints"
    _can_record_outputs = {
        "hidden_states": OutputRecorder(TransformerLayer, layer_name="encoder"),
        "attentions": OutputRecorder(Attention, index=1, layer_name="encoder"),
    }

    def __init__(self, config: SignMAEConfig) -> None:
        super().__init__(config)
        self.encoder = SignMAEEncoder(config)
        self.decoder = SignMAEDecoder(config)
        self.register_buffer("keypoint_presence", torch.ones(config.num_keypoints))
        self.post_init()

    # --- Pretraining --------------------------------------------------------------------------------------------------------------

    @records_layers
    def forward(
        self,
        keypoints: torch.Tensor,
        keypoint_mask: torch.Tensor | None = None,
        noise: torch.Tensor | None = None,
        return_loss: bool = True,
        num_items_in_batch: torch.Tensor | int | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
    ) -> SignMAEOutput:
        """One pretraining step's loss on segments whose frames are all real.

        Args:
            keypoints: (N, W, K, C) in shoulder lengths, from `KeypointProcessor`.
            keypoint_mask: (N, W, K), 1 where the point was seen; by default everywhere. Unseen points carry no loss.
            noise: (N, W); the frames with the smallest values are masked. Random by default.
            return_loss: False leaves out the loss.
            num_items_in_batch: where these segments are a part of a batch, what `count_items` counts in all of it; the loss is then
                their share in the batch's.
            output_hidden_states, output_attentions: whether to return what the encoder's Transformer layers compute.

        Returns:
            `SignMAEOutput`. With autoregressive decoding the reconstruction is teacher-forced; `decode` never is.
        """
        self._check_segments(keypoints)
        if keypoint_mask is not None:
            check_mask("keypoint_mask", keypoint_mask, keypoints.shape[:3])
        masked = self.mask_frames(keypoints, noise)  # (N, W)
        latent = self.encoder(keypoints, masked)  # (N, D)
        reconstruction = self.decoder(latent, previous_keypoints=keypoints)  # (N, W, K, C)
        loss = self.reconstruction_loss(reconstruction, keypoints, keypoint_mask, num_items_in_batch) if return_loss else None
        return SignMAEOutput(loss=loss, latent=latent, reconstruction=reconstruction, masked=masked)

    def mask_frames(self, keypoints: torch.Tensor, noise: torch.Tensor | None = None) -> torch.Tensor:
        """(N, W) bool, exactly `config.num_masked_frames` of them True in each segment."""
        if noise is None:
            noise = torch.rand(keypoints.shape[:2], device=keypoints.device)
        check_numbers("noise", noise, keypoints.shape[:2])
        hidden = noise.argsort(dim=1)[:, : self.config.num_masked_frames]
        return torch.zeros_like(noise, dtype=torch.bool).scatter(1, hidden, True)

    def reconstruction_loss(
        self,
        reconstruction: torch.Tensor,
        keypoints: torch.Tensor,
        keypoint_mask: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        """Squared error of all frames, weighted by part (Eq 2), divided by the number of present coordinates."""
        if keypoint_mask is None:
            keypoint_mask = keypoints.new_ones(keypoints.shape[:3])
        counts = self.count_items(keypoints, keypoint_mask)  # of the present coordinates; the weights do not count
        keypoint_mask = keypoint_mask.to(torch.float32)
        weights = keypoint_weights(keypoints, keypoint_mask, self.config) * keypoint_mask  # (N, W, K)
        error = (exact(reconstruction) - exact(keypoints)).square().sum(-1)
        return mean_loss((error * weights).sum((1, 2))[:, None], counts, num_items_in_batch)

    def count_items(self, keypoints: torch.Tensor, keypoint_mask: torch.Tensor | None = None, **inputs: Any) -> torch.Tensor:
        """What the loss is a mean over: the present coordinates of each segment, (N, 1) int64. Other inputs are not read."""
        if keypoint_mask is None:
            return torch.full((len(keypoints), 1), keypoints[0].numel(), device=keypoints.device)
        seen = exact(keypoint_mask) if keypoint_mask.is_floating_point() else keypoint_mask
        return seen.sum((1, 2))[:, None] * keypoints.shape[-1]

    # --- Use ----------------------------------------------------------------------------------------------------------------------

    def reconstruct(self, keypoints: torch.Tensor) -> torch.Tensor:
        """Segments through encoder and decoder, nothing masked: (N, W, K, C) -> (N, W, K, C)."""
        return self.decode(self.encode(keypoints))

    @torch.no_grad()
    def set_keypoint_statistics(self, presence: torch.Tensor, offset_mean: torch.Tensor, offset_std: torch.Tensor) -> None:
        """Stores the statistics of each point in the training frames, before training.

        Args:
            presence: (K,) share of frames that show the point. A point in less than half of them is neither drawn nor scored.
            offset_mean, offset_std: (K, C) of its offset from its parent; the decoder predicts offsets in these units.
        """
        self.keypoint_presence.copy_((presence >= 0.5).float())
        self.decoder.offset_mean.copy_(offset_mean)
        self.decoder.offset_std.copy_(offset_std.clamp_min(OFFSET_FLOOR))

    def calibrate(self, keypoints: torch.Tensor) -> None:
        """Sets what is taken from training segments (N, W, K, C) before training: the statistics of norms (with block_norm "calibrated"),
        the axes of `input_whitening`, and the linear parts of `linear_skip`, which start as principal components of the segments."""
        self._check_segments(keypoints)
        keypoints = keypoints.to(self.device)
        if self.config.input_whitening:
            self.encoder.whitening.fit(keypoints)
        if self.config.linear_skip:
            self._start_linear(keypoints)
        calibrate(self.encoder, keypoints[:CALIBRATING].to(self.dtype))

    @torch.no_grad()
    def _start_linear(self, keypoints: torch.Tensor) -> None:
        """The encoder's linear part gives principal components, each divided by the square root of its deviation, so that large ones stay
        larger; they are rotated, or else latents that are standardised would not keep that. The decoder's inverts it."""
        encoder, decoder = self.encoder.window_projection, self.decoder.window_projection
        mean, axes, variances = principal_axes(keypoints.flatten(1).double(), self.config.hidden_size)  # (W K C,), (W K C, A), (A,)
        deviations = variances.sqrt().clamp_min(STD_FLOOR)
        scale = deviations.rsqrt() / deviations.mean().sqrt()  # the components' variances are 1 in the mean
        generator = torch.Generator().manual_seed(0)
        rotation = torch.linalg.qr(torch.randn(self.config.hidden_size, len(scale), generator=generator, dtype=torch.float64)).Q
        rotation = rotation.to(axes.device)  # (D, A)
        encoder.weight.copy_(rotation @ (axes * scale).T)
        encoder.bias.copy_(-(encoder.weight.double() @ mean))
        decoder.weight.copy_((axes / scale) @ rotation.T)
        decoder.bias.zero_()


SignMAE.register_for_auto_class("AutoModel")
