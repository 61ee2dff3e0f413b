"""The decoder of latents of `latent_decoder="codes_flow"`: segment by segment, each sampled as codes and then as a latent. Ours.

A regression predicts the mean of all ways to sign a text, which hardly moves. Here the next segment is first chosen among codes, by
cross-entropy, which learns what the text says; a small flow then adds what the codes leave of the latent, which moves as people do.

Shapes: B texts, L text tokens, S segments of a clip, D size of a latent, F principal components, Q codebooks of E codes each,
R draws of noise, H hidden size, N steps of the flow.
"""

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import nn
from torch.nn import functional as F
from transformers import initialization as init
from transformers.activations import ACT2FN
from transformers.masking_utils import create_bidirectional_mask, create_causal_mask

from .configuration_uniglor import TextToSignConfig
from .modeling_layers_uniglor import AttentionCache, AttentionMask, SinusoidalPositions, TransformerLayer, exact

NEAREST_TO_DATA = 0.05  # least 1 - time that the flow's error is divided by; nearer to the data the quotient grows without bound


class LatentCodes(nn.Module):
    """Latents as principal components, and these as codes and a remainder. What is fitted here on training latents is not trained.

        components = (latent - component_mean) component_axes / component_scales
        components = the sum of the codes' vectors + remainder_scales * remainder

    Each component is divided by the root of its deviation, which weighs fine ones more than their variance does, and noise less than
    whitening would.
    """

    component_mean: torch.Tensor
    component_axes: torch.Tensor
    component_scales: torch.Tensor
    codebooks: torch.Tensor
    remainder_scales: torch.Tensor

    def __init__(self, config: TextToSignConfig) -> None:
        super().__init__()
        size, num_components = config.sign_mae_config.hidden_size, config.num_components
        self.register_buffer("component_mean", torch.zeros(size))
        self.register_buffer("component_axes", torch.eye(size, num_components))
        self.register_buffer("component_scales", torch.ones(num_components))
        self.register_buffer("codebooks", torch.zeros(config.num_codebooks, config.codebook_size, num_components))
        self.register_buffer("remainder_scales", torch.ones(num_components))

    def components(self, latents: torch.Tensor) -> torch.Tensor:
        """(..., D) -> (..., F) float32, also where the model computes in half precision: the nearest code depends on it."""
        with torch.autocast(latents.device.type, enabled=False):
            return (latents.float() - self.component_mean) @ self.component_axes / self.component_scales

    def latents(self, components: torch.Tensor) -> torch.Tensor:
        """The inverse of `components`, but for what lies outside of them: (..., F) -> (..., D)."""
        with torch.autocast(components.device.type, enabled=False):
            return components.float() * self.component_scales @ self.component_axes.T + self.component_mean

    def encode(self, components: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The codes, each nearest to what the ones before it leave, and the remainder: (..., F) -> (..., Q) int64, (..., F)."""
        codes, left = [], components
        with torch.autocast(components.device.type, enabled=False):
            for codebook in self.codebooks:
                distances = codebook.square().sum(-1) - 2 * left @ codebook.T  # and what all codes have in common: (..., E)
                codes.append(distances.argmin(-1))
                left = left - codebook[codes[-1]]
        return torch.stack(codes, dim=-1), left / self.remainder_scales

    def vectors(self, codes: torch.Tensor) -> torch.Tensor:
        """The sum of the codes' vectors: (..., Q) -> (..., F)."""
        vectors = [codebook[codes[..., index]] for index, codebook in enumerate(self.codebooks)]
        return torch.stack(vectors).sum(0)


class FlowLayer(nn.Module):
    """A residual feed-forward layer whose norm is shifted and scaled, and whose output is gated, by a condition (DiT's adaLN)."""

    def __init__(self, size: int, layer_norm_eps: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(size, eps=layer_norm_eps, elementwise_affine=False)
        self.modulation = nn.Linear(size, 3 * size)
        self.up_proj = nn.Linear(size, size)
        self.down_proj = nn.Linear(size, size)

    def modulate(self, condition: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Shift, factor and gate of a condition: (..., H) three times."""
        shift, scale, gate = self.modulation(condition).chunk(3, dim=-1)
        return shift, 1 + scale, gate

    def forward(self, hidden: torch.Tensor, shift: torch.Tensor, factor: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
        feed_forward = self.down_proj(F.silu(self.up_proj(self.norm(hidden) * factor + shift)))
        return hidden + gate * feed_forward


class FlowHead(nn.Module):
    """Flow matching with a prediction of the data (Lipman et al. 2023): at time t a point lies t of the way from noise to data, straight.

    A small network says from there which data are expected. Sampling follows it from noise at time 0 to data at time 1.
    """

    def __init__(self, config: TextToSignConfig) -> None:
        super().__init__()
        size = config.hidden_size
        self.input_projection = nn.Linear(config.num_components, size)
        self.time_projection = nn.Linear(size, size)
        self.layers = nn.ModuleList(FlowLayer(size, config.layer_norm_eps) for _ in range(config.flow_layers))
        self.norm = nn.LayerNorm(size, eps=config.layer_norm_eps)
        self.output_projection = nn.Linear(size, config.num_components)

    def embed_time(self, time: torch.Tensor) -> torch.Tensor:
        """(..., 1) -> (..., H)."""
        half = self.time_projection.in_features // 2
        frequencies = torch.exp(torch.arange(half, device=time.device) * (-math.log(1000.0) / half))
        angles = 1000 * exact(time) * frequencies
        return self.time_projection(torch.cat([angles.sin(), angles.cos()], dim=-1).to(self.norm.weight.dtype))

    def modulations(self, condition: torch.Tensor, times: torch.Tensor) -> list[tuple[torch.Tensor, ...]]:
        """What a condition (..., H) and embedded times (..., H) make of each layer: see `FlowLayer.modulate`."""
        condition = F.silu(condition + times)
        return [cast(FlowLayer, layer).modulate(condition) for layer in self.layers]

    def forward(self, points: torch.Tensor, modulations: Sequence[tuple[torch.Tensor, ...]]) -> torch.Tensor:
        """The expected data: points (..., F) -> (..., F)."""
        hidden = self.input_projection(points)
        for layer, modulation in zip(self.layers, modulations):
            hidden = layer(hidden, *modulation)
        return self.output_projection(self.norm(hidden))

    def error(self, condition: torch.Tensor, data: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Squared error of the velocity along the way, the mean over draws and components, of each segment.

        (B, S, H), (B, S, F), (R, B, S, F + 1) -> (B, S). The last number of the noise decides the time.
        """
        start, time = noise[..., :-1], noise[..., -1:].sigmoid()
        points = time * data + (1 - time) * start  # (R, B, S, F)
        expected = exact(self(points.to(condition.dtype), self.modulations(condition, self.embed_time(time))))
        return ((expected - data) / (1 - time).clamp_min(NEAREST_TO_DATA)).square().mean((0, -1))

    def step_times(self, num_steps: int) -> torch.Tensor:
        """The embedded times at which `sample` looks: (N, 1, H)."""
        return self.embed_time(torch.arange(num_steps, device=self.norm.weight.device)[:, None, None] / num_steps)

    def sample(self, condition: torch.Tensor, noise: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        """Data from noise in N steps: (B, H), (B, F), times (N, 1, H) of `step_times` -> (B, F)."""
        modulations = self.modulations(condition, times)  # of all steps at once: (N, B, H)
        points, num_steps = noise, len(times)
        for step, modulations_of_step in enumerate(zip(*(zip(*(values.unbind() for values in modulation)) for modulation in modulations))):
            points = points + (self(points, modulations_of_step) - points) / (num_steps - step)  # the last step arrives at what is expected
        return points


class CodesFlowDecoder(nn.Module):
    """A causal Transformer over segments that reads the text; for each segment, codes one after the other, then a flow.

    A segment's inputs are the latents before it, its place, and how many segments are still to come: the length is known first.
    """

    def __init__(self, config: TextToSignConfig) -> None:
        super().__init__()
        self.config = config
        size = config.hidden_size
        self.codes = LatentCodes(config)
        self.start = nn.Parameter(torch.zeros(size))
        self.null_memory = nn.Parameter(torch.zeros(size)) if config.text_dropout else None
        self.history_projection = nn.Linear(config.num_components, size)
        self.places = SinusoidalPositions(config.max_segments + 1, size)
        self.remaining_projection = nn.Linear(size, size)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.layers = nn.ModuleList(TransformerLayer(config, memory_size=math.inf, is_causal=True) for _ in range(config.num_hidden_layers))
        self.norm = nn.LayerNorm(size, eps=config.layer_norm_eps)
        self.code_heads = nn.ModuleList(
            nn.Sequential(nn.Linear(size, size), ACT2FN[config.hidden_act], nn.Linear(size, config.codebook_size))
            for _ in range(config.num_codebooks)
        )
        self.code_embeddings = nn.ModuleList(nn.Embedding(config.codebook_size, size) for _ in range(config.num_codebooks))
        self.vector_projection = nn.Linear(config.num_components, size)
        self.flow = FlowHead(config)

    def init_weights(self) -> None:
        """Initial values beside those of the layers."""
        init.normal_(self.start, std=self.config.initializer_range)
        if self.null_memory is not None:
            init.normal_(self.null_memory, std=self.config.initializer_range)
        for head in self.code_heads:
            init.zeros_(cast(nn.Sequential, head)[-1].get_parameter("weight"))  # all codes are equally probable
        init.zeros_(self.flow.output_projection.weight)  # the remainder's mean
        for layer in self.flow.layers:
            init.zeros_(cast(FlowLayer, layer).modulation.weight)  # as DiT: a layer of the flow begins as no change
        init.copy_(self.codes.component_axes, torch.eye(*self.codes.component_axes.shape))
        init.ones_(self.codes.component_scales)
        init.ones_(self.codes.remainder_scales)
        for statistics in (self.codes.component_mean, self.codes.codebooks):
            init.zeros_(statistics)

    def forward(
        self, memory: torch.Tensor, memory_mask: torch.Tensor, latents: torch.Tensor, real: torch.Tensor, noise: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Errors of each segment: of its codes, the mean cross-entropy, and of its flow.

        Args:
            memory: (B, L, H), memory_mask: (B, L). latents: (B, S, D), real: (B, S) bool.
            noise: (R, B, S, F + 1), see `FlowHead.error`; by default it is drawn.

        Returns:
            (B, S) twice.
        """
        components = self.codes.components(latents)  # (B, S, F)
        codes, remainder = self.codes.encode(components)  # (B, S, Q), (B, S, F)
        history = self.add_history_noise(components)[:, :-1].to(memory.dtype)
        hidden, memory = self.embed(history, self.place_embeddings(real.sum(1), real.shape[1])), self.hide_texts(memory)
        states = self.states(hidden, memory, self.text_mask(hidden, memory, memory_mask))  # (B, S, H)
        logits, states = self.code_logits(states, codes)  # (B, S, E) of each codebook, (B, S, H)
        code_errors = [
            F.cross_entropy(
                exact(each).flatten(0, 1), codes[..., index].flatten(), reduction="none", label_smoothing=self.config.code_smoothing
            )
            for index, each in enumerate(logits)
        ]
        if noise is None:
            noise = torch.randn(self.config.flow_draws, *remainder.shape[:2], remainder.shape[2] + 1, device=remainder.device)
        condition = states + self.vector_projection(self.codes.vectors(codes).to(states.dtype))
        flow_error = self.flow.error(condition, remainder, noise)
        return torch.stack(code_errors).mean(0).view(codes.shape[:2]), flow_error

    def hide_texts(self, memory: torch.Tensor) -> torch.Tensor:
        """In training, some texts without a word in them, so that the model also learns how people sign whatever they say."""
        if not self.training or self.null_memory is None:
            return memory
        hidden = torch.rand(len(memory), 1, 1, device=memory.device) < self.config.text_dropout
        return torch.where(hidden, self.null_memory, memory)

    def add_history_noise(self, components: torch.Tensor) -> torch.Tensor:
        """In training, noise on earlier latents, of another size for each text: generated ones are not exact either."""
        if not self.training or not self.config.history_noise:
            return components
        size = self.config.history_noise * torch.rand(len(components), 1, 1, device=components.device)
        return components + size * torch.randn_like(components)

    def place_embeddings(self, lengths: torch.Tensor, num_segments: int) -> torch.Tensor:
        """Of each segment's place, and of how many segments are still to come: (B,) -> (B, S, H)."""
        table, place = self.places.table.to(self.start.dtype), torch.arange(num_segments, device=lengths.device)
        return table[place] + self.remaining_projection(table[(lengths[:, None] - place).clamp_min(0)])

    def embed(self, history: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        """The inputs of segments at `places` (B, S, H), from the latents before each of them (B, S or, from the first on, S - 1, F)."""
        tokens = self.history_projection(history)
        if tokens.shape[1] < places.shape[1]:
            tokens = torch.cat([self.start.expand(len(tokens), 1, -1), tokens], dim=1)
        return self.dropout(tokens + places)

    def text_mask(self, hidden: torch.Tensor, memory: torch.Tensor, memory_mask: torch.Tensor) -> AttentionMask:
        """Where inputs (B, S, H) may attend to the text (B, L, H), (B, L)."""
        return create_bidirectional_mask(self.config, hidden, memory_mask != 0, encoder_hidden_states=memory)

    def states(
        self, hidden: torch.Tensor, memory: torch.Tensor, text_mask: AttentionMask, cache: AttentionCache | None = None
    ) -> torch.Tensor:
        """What the layers make of each segment, those before it and the text: (B, S, H) -> same; a cache knows the earlier ones."""
        causal = create_causal_mask(self.config, hidden, attention_mask=None, past_key_values=None) if cache is None else None
        for layer in self.layers:
            hidden = layer(hidden, memory, attention_mask=causal, memory_mask=text_mask, cache=cache)
        return self.norm(hidden)

    def code_logits(self, states: torch.Tensor, codes: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
        """(..., H), (..., Q) -> logits (..., E) of each codebook, given the codes before it; and the states that know all codes."""
        logits = []
        for index, (head, embedding) in enumerate(zip(self.code_heads, self.code_embeddings)):
            logits.append(head(states))
            states = states + embedding(codes[..., index])
        return logits, states

    def sample(
        self,
        memory: torch.Tensor,
        memory_mask: torch.Tensor,
        lengths: torch.Tensor,
        uniforms: torch.Tensor,
        noise: torch.Tensor,
        temperature: float,
        guidance: float,
        flow_steps: int,
        use_cache: bool = True,
    ) -> torch.Tensor:
        """Latents of clips.

        Args:
            memory: (B, L, H), memory_mask: (B, L). lengths: (B,), of the clips.
            uniforms: (B, S, Q) numbers from 0 to 1 that choose codes. noise: (B, S, F), where the flow starts.
            temperature, guidance, flow_steps, use_cache: see `TextToSign.generate`.

        Returns:
            (B, S, D).
        """
        num_texts, num_segments, num_copies = len(memory), uniforms.shape[1], 1
        if guidance != 1 and self.null_memory is not None:  # the same clips without their texts behind them
            num_copies = 2
            memory = torch.cat([memory, self.null_memory.expand_as(memory)])
            memory_mask, lengths = memory_mask.repeat(2, 1), lengths.repeat(2)
        cache = AttentionCache() if use_cache else None
        text_mask = self.text_mask(memory[:, :1], memory, memory_mask)  # of one segment, the only one that a cache leaves to compute
        places, times = self.place_embeddings(lengths, num_segments), self.flow.step_times(flow_steps)
        components = noise.new_zeros(num_texts, 0, noise.shape[-1])  # (B, segments so far, F)
        for segment in range(num_segments):
            first = segment if use_cache else 0
            history = components[:, max(first - 1, 0) :].repeat(num_copies, 1, 1).to(memory.dtype)
            inputs = self.embed(history, places[:, first : segment + 1])
            mask = text_mask if use_cache else self.text_mask(inputs, memory, memory_mask)
            state = self.states(inputs, memory, mask, cache)[:, -1]  # (B, H)
            codes = []
            for index, (head, embedding) in enumerate(zip(self.code_heads, self.code_embeddings)):
                codes.append(choose(guided(head(state), guidance), uniforms[:, segment, index], temperature))
                state = state + embedding(codes[-1]).repeat(num_copies, 1)
            vectors = self.codes.vectors(torch.stack(codes, dim=-1))  # (B, F)
            condition = state[:num_texts] + self.vector_projection(vectors.to(state.dtype))  # guidance leads the codes, not the flow
            remainder = self.flow.sample(condition, noise[:, segment].to(state.dtype), times)
            sampled = vectors + exact(remainder) * self.codes.remainder_scales
            components = torch.cat([components, sampled[:, None].to(components.dtype)], dim=1)
        return self.codes.latents(components).to(memory.dtype)


def guided(values: torch.Tensor, guidance: float) -> torch.Tensor:
    """Classifier-free guidance (Ho and Salimans 2021): from what is without the text, `guidance` times as far as the text leads.

    (2 B, ...) with those without the text behind the others -> (B, ...); with a guidance of 1 nothing is behind, and nothing changes.
    """
    if guidance == 1:
        return values
    given, free = values.chunk(2)
    return free + guidance * (given - free)


def choose(logits: torch.Tensor, uniforms: torch.Tensor, temperature: float) -> torch.Tensor:
    """The code at which the cumulative probability passes a number from 0 to 1: (B, E), (B,) -> (B,); the likeliest at temperature 0."""
    if temperature == 0:
        return logits.argmax(-1)
    logits = logits.double() - logits.double().max(-1, keepdim=True).values  # so that no temperature makes an infinite number of them
    cumulative = (logits / temperature).softmax(-1).cumsum(-1)
    return (cumulative <= uniforms[:, None]).sum(-1).clamp_max(logits.shape[-1] - 1)
