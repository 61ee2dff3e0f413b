"""TextToSign: a sentence to keypoints of a whole clip (paper section 3.4).

Shapes: B texts, L text tokens, S segments of a clip, M the most that there can be (`max_segments`), W frames in a segment,
T = S W frames, K keypoints, C channels, D size of a latent.
"""

import hashlib
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, overload

import torch
from torch import nn
from torch.nn import functional as F
from transformers import AutoModel, PreTrainedModel, PreTrainedTokenizerBase
from transformers import initialization as init
from transformers.masking_utils import create_bidirectional_mask
from transformers.utils import ModelOutput

from .configuration_uniglor import TextToSignConfig
from .keypoints_uniglor import stand_ins
from .limits_uniglor import check_vocabulary, checked_number
from .modeling_latent_codes import CodesFlowDecoder
from .modeling_layers_uniglor import (
    RECORDED_WITH_MEMORY,
    TransformerLayer,
    UniGloRPreTrainedModel,
    check_ids,
    check_numbers,
    check_padding,
    exact,
    mean_loss,
    records_layers,
    sinusoids,
)
from .modeling_sign_mae import SignMAEDecoderModel, SignMAEPreTrainedModel

DECODED_TOGETHER = 1024  # segments that are decoded at a time, so that memory is bounded
SAMPLING = {"temperature": 0.7, "guidance": 2.0, "flow_steps": 3, "flow_temperature": 1.0, "num_samples": 1}  # of "codes_flow", by default
SAMPLING_LIMITS = {  # name: least, most, whether it is whole
    "temperature": (0, 10, False),
    "guidance": (0, 20, False),
    "flow_steps": (1, 1000, True),
    "flow_temperature": (0, 10, False),
    "num_samples": (1, 1000, True),
    "seed": (0, 2**63 - 1, True),
}
MENDED_FRAMES = 3  # on either side of a seam, of "codes_flow" by default: its seams jump three times as far as they should


@dataclass
class TextToSignOutput(ModelOutput):
    """What `TextToSign.forward` returns.

    Attributes:
        loss: (), weighted sum of the losses below (Eq 6).
        latent_loss: (), mean squared error of the latents of real segments (Eq 4); None of "codes_flow".
        length_loss: (), mean binary cross-entropy over all M positions (Eq 5).
        keypoint_loss: (), mean squared error in shoulder lengths squared of what the frozen decoder makes of the latents; None where
            its weight is 0.
        code_loss: (), mean cross-entropy of the codes of real segments, and flow_loss: (), mean squared error of their flow's velocity;
            of "codes_flow" only.
        latents: (B, M, D), standardised, before the length cuts them; None of "codes_flow", which samples them in `generate`.
        length_logits: (B, M), of position n being within the clip.
        hidden_states, attentions, cross_attentions: of the decoder of latents, if asked for: (B, M, D) before the first layer and after
            each, (B, heads, M, M), and (B, heads, M, L) to the text's tokens.
        loss_sums: (B, 2), of each text, for `mean_loss`; no gradient.
    """

    loss: torch.Tensor | None = None
    latent_loss: torch.Tensor | None = None
    length_loss: torch.Tensor | None = None
    keypoint_loss: torch.Tensor | None = None
    code_loss: torch.Tensor | None = None
    flow_loss: torch.Tensor | None = None
    latents: torch.Tensor | None = None
    length_logits: torch.Tensor | None = None
    loss_sums: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None
    cross_attentions: tuple[torch.Tensor, ...] | None = None


@dataclass
class GeneratedSigning(ModelOutput):
    """What `TextToSign.generate` returns; with several samples of each text, B counts them all, those of a text side by side.

    Attributes:
        keypoints: (B, T, K, C) in shoulder lengths about the neck, 0 after a clip's last frame.
        num_frames: (B,).
        latents: (B, S, D), standardised, 0 after a clip's last segment.
        num_segments: (B,).
    """

    keypoints: torch.Tensor | None = None
    num_frames: torch.Tensor | None = None
    latents: torch.Tensor | None = None
    num_segments: torch.Tensor | None = None


class LengthRegulator(nn.Module):
    """Predicts for each of M positions whether the clip has a segment there: one vector of a text (B, D) -> logits (B, M) (Fig 7).

    A bottleneck with a residual connection, then one logit for each position. Its width, a quarter, is ours.
    """

    def __init__(self, size: int, max_segments: int, dropout: float, layer_norm_eps: float) -> None:
        super().__init__()
        self.down_proj = nn.Linear(size, size // 4)
        self.dropout = nn.Dropout(dropout)
        self.up_proj = nn.Linear(size // 4, size)
        self.norm = nn.LayerNorm(size, eps=layer_norm_eps)
        self.classifier = nn.Linear(size, max_segments)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        bottleneck = self.up_proj(self.dropout(F.gelu(self.down_proj(hidden))))
        return self.classifier(self.norm(hidden + bottleneck))

    @staticmethod
    def num_segments(length_logits: torch.Tensor) -> torch.Tensor:
        """The n >= 1 whose mask, n ones and then zeros, is the most probable: (B, M) -> (B,).

        Its log-probability is the sum of the first n logits, and a constant: log p - log(1 - p) is a position's logit.
        """
        return length_logits.float().cumsum(1).argmax(1) + 1


class TextToSign(UniGloRPreTrainedModel):
    """A text encoder, a length regulator, a decoder of latents, and a frozen SignMAE decoder (Fig 2c).

    The paper's decoder of latents is not autoregressive: learned queries, one for each segment, attend to each other and to the text's
    tokens; the predicted length only cuts the clip. Ours, with `latent_decoder="codes_flow"`, samples one segment after the other, see
    `CodesFlowDecoder`. `forward` is for training; `generate` reads nothing but the text.
    """

    config: TextToSignConfig
    config_class = TextToSignConfig
    main_input_name = "input_ids"
    base_model_prefix = "text_to_sign"
    _can_record_outputs = RECORDED_WITH_MEMORY

    def __init__(self, config: TextToSignConfig) -> None:
        super().__init__(config)
        text_size = config.text_config.hidden_size
        self.text_model = text_encoder(AutoModel.from_config(config.text_config))
        self.length_regulator = LengthRegulator(text_size, config.max_segments, config.hidden_dropout_prob, config.layer_norm_eps)
        self.memory_projection = nn.Linear(text_size, config.hidden_size)
        self.samples = config.latent_decoder == "codes_flow"
        if self.samples:
            self.latent_decoder = CodesFlowDecoder(config)
        else:
            self.queries = nn.Parameter(sinusoids(config.max_segments, config.hidden_size, torch.get_default_dtype()))
            self.dropout = nn.Dropout(config.hidden_dropout_prob)
            self.layers = nn.ModuleList(TransformerLayer(config, memory_size=math.inf) for _ in range(config.num_hidden_layers))
            self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
            self.latent_projection = nn.Linear(config.hidden_size, config.sign_mae_config.hidden_size)
        self.sign_mae = SignMAEDecoderModel._from_config(config.sign_mae_config)
        self.post_init()
        self._freeze()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, CodesFlowDecoder):
            module.init_weights()
        elif isinstance(module, TextToSign) and not module.samples:
            init.copy_(module.queries, sinusoids(*module.queries.shape))  # amplitude 1, as SignMAE's
            init.normal_(module.latent_projection.weight, std=self.config.initializer_range)  # start near the mean latent

    @classmethod
    def from_parts(
        cls, sign_mae: str | os.PathLike | SignMAEPreTrainedModel, text_model: str | os.PathLike | None = None, **fields: Any
    ) -> "TextToSign":
        """Joins a pretrained SignMAE with a pretrained text encoder, or with a new one.

        Args:
            sign_mae: a `SignMAE` or `SignMAEDecoderModel`, or the folder or Hub id of one.
            text_model: folder or Hub id of a model of `AutoModel` that has an encoder; None makes a new one by `text_config`.
            **fields: of `TextToSignConfig`.
        """
        loaded = SignMAEDecoderModel.from_pretrained(sign_mae) if isinstance(sign_mae, (str, os.PathLike)) else sign_mae
        pretrained = AutoModel.from_pretrained(text_model) if text_model else None
        if pretrained is not None:
            fields["text_config"] = pretrained.config.to_dict() | {"_name_or_path": ""}  # no path of this machine travels
        fields["sign_mae_config"] = loaded.config.to_dict() | {"_name_or_path": ""}
        model = cls(TextToSignConfig(**fields))
        names = model.sign_mae.state_dict().keys()
        model.sign_mae.load_state_dict({name: value for name, value in loaded.state_dict().items() if name in names})
        if pretrained is not None:
            model.text_model.load_state_dict(text_encoder(pretrained).state_dict())
        return model

    def get_encoder(self, *args: Any, **kwargs: Any) -> PreTrainedModel:
        return self.text_model

    def get_decoder(self) -> PreTrainedModel:
        return self.sign_mae

    def get_input_embeddings(self) -> nn.Module:
        return self.text_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.text_model.set_input_embeddings(value)

    def resize_token_embeddings(self, new_num_tokens: int | None = None, *args: Any, **kwargs: Any) -> nn.Embedding:
        """As the base class, of the text model."""
        embeddings = self.text_model.resize_token_embeddings(new_num_tokens, *args, **kwargs)
        self.config.text_config.vocab_size = embeddings.num_embeddings
        return embeddings

    # --- Training -----------------------------------------------------------------------------------------------------------------

    @records_layers
    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        latents: torch.Tensor | None = None,
        latent_mask: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | None = None,
        noise: torch.Tensor | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
    ) -> TextToSignOutput:
        """Latents of every position and the length's logits, and the losses where there are targets.

        Args:
            input_ids: (B, L), and attention_mask (B, L), 1 where a token is real; by default everywhere.
            latents: (B, S, D) standardised latents of segments laid end to end, as `SignMAE.encode_sequence` gives them with a stride of
                its window size, and latent_mask (B, S); by default all are real.
            num_items_in_batch: where these texts are a part of a batch, what `count_items` counts in all of it; `loss` is then their
                share in the batch's, while its three terms stay those of these texts.
            noise: of "codes_flow", (draws, B, S, components + 1) standard normal numbers, see `FlowHead.error`; by default drawn.
            output_hidden_states, output_attentions: whether to return what the layers of the decoder of latents compute.

        Returns:
            `TextToSignOutput`.
        """
        if self.samples and self.training and self.config.word_dropout:
            attention_mask = self.hide_words(input_ids, attention_mask)
        head, memory, memory_mask = self.encode_text(input_ids, attention_mask)  # (B, D'), (B, L', D'), (B, L')
        length_logits = self.length_regulator(head)  # (B, M)
        predicted = None if self.samples else self.predict_latents(memory, memory_mask)  # (B, M, D)
        if latents is None:
            return TextToSignOutput(latents=predicted, length_logits=length_logits)
        self._check_targets(latents, len(input_ids))
        if latent_mask is None:
            latent_mask = torch.ones(latents.shape[:2], dtype=torch.long, device=latents.device)
        check_padding("latent_mask", latent_mask, latents.shape[:2])
        real = latent_mask != 0
        if predicted is None:
            segment_sums, terms = self._code_losses(memory, memory_mask, latents, real, noise)
        else:
            segment_sums, terms = self._regression_losses(predicted[:, : latents.shape[1]], latents, real)
        within = F.pad(real, (0, self.config.max_segments - real.shape[1]))  # (B, M)
        logits = exact(length_logits)
        length_sums = F.binary_cross_entropy_with_logits(logits, within.to(logits.dtype), reduction="none").mean(1)  # (B,)
        sums = torch.stack([segment_sums, self.config.length_loss_weight * length_sums], dim=1)
        counts = self.count_items(latents, latent_mask)  # (B, 2)
        num_segments, num_texts = counts.sum(0).clamp_min(1)
        return TextToSignOutput(
            loss=mean_loss(sums, counts, num_items_in_batch),
            length_loss=length_sums.sum() / num_texts,
            **{name: total / num_segments for name, total in terms.items()},
            latents=predicted,
            length_logits=length_logits,
            loss_sums=sums.detach(),
        )

    def _regression_losses(
        self, predicted: torch.Tensor, latents: torch.Tensor, real: torch.Tensor
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Weighted sums over each clip's segments (B,), and each loss summed over all: latents (B, S, D) twice, real (B, S)."""
        difference = torch.where(real[..., None], exact(predicted) - latents.to(exact(predicted).dtype), 0)
        latent_sums = difference.square().mean(-1).sum(1)  # (B,)
        segment_sums, terms = self.config.latent_loss_weight * latent_sums, {"latent_loss": latent_sums.sum()}
        if self.config.keypoint_loss_weight:
            keypoint_sums = self._keypoint_losses(predicted, latents, real)
            segment_sums = segment_sums + self.config.keypoint_loss_weight * keypoint_sums
            terms["keypoint_loss"] = keypoint_sums.sum()
        return segment_sums, terms

    def _code_losses(
        self, memory: torch.Tensor, memory_mask: torch.Tensor, latents: torch.Tensor, real: torch.Tensor, noise: torch.Tensor | None
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """As `_regression_losses`, of codes and flow."""
        self._check_codes()
        errors = self.latent_decoder(self.memory_projection(memory), memory_mask, latents, real, noise)  # (B, S) twice
        code_sums, flow_sums = (torch.where(real, error, 0).sum(1) for error in errors)
        segment_sums = self.config.code_loss_weight * code_sums + self.config.flow_loss_weight * flow_sums
        return segment_sums, {"code_loss": code_sums.sum(), "flow_loss": flow_sums.sum()}

    def count_items(self, latents: torch.Tensor, latent_mask: torch.Tensor | None = None, **inputs: Any) -> torch.Tensor:
        """What the loss's terms are means over: (B, 2) int64, the real segments of each text's clip, and 1. Others are not read."""
        if latent_mask is None:
            latent_mask = torch.ones(latents.shape[:2], dtype=torch.long, device=latents.device)
        num_segments = (latent_mask != 0).sum(1)
        return torch.stack([num_segments, torch.ones_like(num_segments)], dim=1)

    def encode_text(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The text's one vector (B, D'), its tokens without the class token (B, L', D'), and their mask (B, L')."""
        check_ids("input_ids", input_ids, ("texts", "tokens"), self.config.text_config.vocab_size)
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        check_padding("attention_mask", attention_mask, input_ids.shape, only_after=False)
        longest = self.max_tokens
        if longest is not None and input_ids.shape[1] > longest:
            raise ValueError(f"Found a text of {input_ids.shape[1]} tokens, but the text model reads {longest}. Cut the text in two.")
        hidden = self.text_model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state  # (B, L, D')
        if self.config.text_pooling == "token":
            return hidden[:, 0], hidden[:, 1:], attention_mask[:, 1:]
        weights = attention_mask[..., None].to(hidden.dtype)
        return (hidden * weights).sum(1) / weights.sum(1), hidden, attention_mask

    def hide_words(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None) -> torch.Tensor:
        """The attention mask without some tokens at random; the first and the last of a text are never hidden: (B, L) -> (B, L)."""
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        last = mask.cumsum(1) == mask.sum(1, keepdim=True)
        hidden = (torch.rand(mask.shape, device=mask.device) < self.config.word_dropout) & (mask.cumsum(1) > 1) & ~last
        return mask.masked_fill(hidden, 0)

    def predict_latents(self, memory: torch.Tensor, memory_mask: torch.Tensor, num_latents: int | None = None) -> torch.Tensor:
        """Standardised latents of all M positions, or of the first `num_latents`, by regression: (B, L', D'), (B, L') -> (B, M, D).

        Queries attend to each other, also to those after a clip's end, so that only the last layer can leave positions out.
        """
        memory = self.memory_projection(memory)  # (B, L', hidden)
        hidden = self.dropout(self.queries.expand(len(memory), -1, -1))  # (B, M, hidden)
        mask = create_bidirectional_mask(self.config, hidden, memory_mask != 0, encoder_hidden_states=memory)
        *layers, last = self.layers
        for layer in layers:
            hidden = layer(hidden, memory, memory_mask=mask)
        if num_latents is not None:
            mask = create_bidirectional_mask(self.config, hidden[:, :num_latents], memory_mask != 0, encoder_hidden_states=memory)
        hidden = last(hidden, memory, memory_mask=mask, num_queries=num_latents)
        return self.latent_projection(self.norm(hidden))

    def _keypoint_losses(self, predicted: torch.Tensor, latents: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
        """Squared error of decoded latents against decoded targets, over the points that SignMAE learned: (B, S, D) twice -> (B,)."""
        latents = torch.where(real[..., None], latents, 0)  # padding is decoded too: its number of segments is not waited for
        with torch.no_grad():
            target = self.sign_mae(latents.flatten(0, 1)).keypoints  # (B S, W, K, C)
        error = (exact(self.sign_mae(predicted.flatten(0, 1)).keypoints) - exact(target)).square().mean((1, 3))  # (B S, K)
        presence = self.sign_mae.keypoint_presence
        by_segment = (error * presence).sum(1) / presence.sum().clamp_min(1)
        return torch.where(real, by_segment.view(real.shape), 0).sum(1)

    def _check_targets(self, latents: torch.Tensor, num_texts: int) -> None:
        check_numbers("latents", latents, ("texts", "segments", self.config.sign_mae_config.hidden_size))
        if len(latents) != num_texts:
            raise ValueError(f"Found latents of {len(latents)} clips for {num_texts} texts, expected one clip for each text.")
        if latents.shape[1] > self.config.max_segments:
            raise ValueError(
                f"Found a clip of {latents.shape[1]} segments, but the model has max_segments={self.config.max_segments}. Leave the clip "
                "out, or train with a larger max_segments."
            )

    # --- Use ----------------------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def generate(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        num_segments: int | Sequence[int] | torch.Tensor | None = None,
        seam_frames: int | None = None,
        temperature: float | None = None,
        guidance: float | None = None,
        flow_steps: int | None = None,
        flow_temperature: float | None = None,
        num_samples: int | None = None,
        generator: torch.Generator | None = None,
        seed: int | None = None,
        use_cache: bool = True,
    ) -> GeneratedSigning:
        """Signing of texts. All arguments from `temperature` on are of `latent_decoder="codes_flow"`; a regression refuses them.

        Args:
            input_ids, attention_mask: (B, L).
            num_segments: how many segments each clip has, an int or (B,) ints from 1 to `max_segments`; by default the length
                regulator predicts them. Report scores of clips with set lengths as `length=reference`.
            seam_frames: frames on either side of a segment's border over which a jump is spread, see `mend_seams`. 0 lays the segments
                end to end as they are (the paper's way); by default 0 of a regression, and 3 of "codes_flow".
            temperature: of the codes, by default 0.7. Lower ones are surer and move less. 0 takes the likeliest code, and starts the flow
                at the mean of its noise, 0: then a text is always signed alike.
            guidance: how far the text leads the codes, beyond what would be signed without one: 1 not at all, by default 2; of a model
                that was trained with text_dropout=0 by default 1, and nothing else.
            flow_steps: of the flow for each segment, by default 3.
            flow_temperature: of the flow, what its noise is multiplied with; by default 1, and 0 where the temperature is 0.
            num_samples: how many clips of each text, by default 1; those of a text are side by side.
            generator: where the random numbers come from.
            seed: in place of a generator. Its numbers are drawn on the CPU for each text by itself, so a text is signed alike whichever
                texts are beside it.
            use_cache: whether keys and values of earlier segments are kept; without, they are computed again for each segment.

        Returns:
            `GeneratedSigning`.
        """
        sampling = {"temperature": temperature, "guidance": guidance, "flow_steps": flow_steps, "flow_temperature": flow_temperature}
        sampling |= {"num_samples": num_samples, "seed": seed}
        latents, lengths = self.generate_latents(input_ids, attention_mask, num_segments, generator, use_cache, **sampling)
        seam_frames = self.default_seam_frames if seam_frames is None else seam_frames
        latent_mask = (torch.arange(latents.shape[1], device=latents.device) < lengths[:, None]).long()
        latents = latents * latent_mask[..., None]
        keypoints, num_frames = self.decode_sequence(latents, latent_mask, seam_frames)
        return GeneratedSigning(keypoints, num_frames, latents, lengths)

    @torch.no_grad()
    def generate_latents(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        num_segments: int | Sequence[int] | torch.Tensor | None = None,
        generator: torch.Generator | None = None,
        use_cache: bool = True,
        **sampling: Any,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """As `generate`, but standardised latents (B, S, D) alone, and how many of them are of each clip (B,)."""
        sampling = self.check_sampling(sampling, generator)
        head, memory, memory_mask = self.encode_text(input_ids, attention_mask)
        if num_segments is None:
            lengths = self.length_regulator.num_segments(self.length_regulator(head))  # (B,)
        else:
            lengths = self._checked_num_segments(num_segments, len(input_ids)).to(head.device)
        longest = int(lengths.max())
        if not self.samples:
            return self.predict_latents(memory, memory_mask, longest), lengths
        copies = sampling["num_samples"]
        uniforms, noise = self._draw(input_ids, attention_mask, longest, copies, generator, sampling["seed"])
        memory, memory_mask, lengths = (
            each.repeat_interleave(copies, 0) for each in (self.memory_projection(memory), memory_mask, lengths)
        )
        temperature = sampling["temperature"]
        noise = noise.to(head.device) * (sampling["flow_temperature"] if temperature else 0)
        steps = sampling["guidance"], sampling["flow_steps"], use_cache
        return self.latent_decoder.sample(memory, memory_mask, lengths, uniforms.to(head.device), noise, temperature, *steps), lengths

    def _draw(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None,
        num_segments: int,
        num_samples: int,
        generator: torch.Generator | None,
        seed: int | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Random numbers of `CodesFlowDecoder.sample`: uniform (B, S, Q) and normal (B, S, F), of all samples of all texts."""
        shape, num_codes = (len(input_ids) * num_samples, num_segments), self.config.num_codebooks
        if seed is None:
            device = self.device if generator is None else generator.device
            uniforms = torch.rand(*shape, num_codes, generator=generator, device=device)
            return uniforms, torch.randn(*shape, self.config.num_components, generator=generator, device=device)
        drawn = []
        for index, ids in enumerate(input_ids):
            real = ids if attention_mask is None else ids[attention_mask[index] != 0]
            for sample in range(num_samples):
                name = f"{seed} {sample} {real.tolist()}".encode()
                own = torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(name).digest()[:8], "big", signed=True))
                uniforms = torch.rand(self.config.max_segments, num_codes, generator=own)[:num_segments]  # a longer clip begins alike
                drawn.append((uniforms, torch.randn(self.config.max_segments, self.config.num_components, generator=own)[:num_segments]))
        return torch.stack([uniforms for uniforms, _ in drawn]), torch.stack([noise for _, noise in drawn])

    def check_sampling(self, given: dict[str, Any], generator: torch.Generator | None = None) -> dict[str, Any]:
        """The arguments of sampling, with defaults for those that are None; a regression refuses all that are not."""
        chosen = {name: value for name, value in given.items() if value is not None}
        if not self.samples:
            names = [*chosen, *([] if generator is None else ["generator"])]
            if names:
                raise ValueError(
                    f"Found {', '.join(names)}, but this model predicts one clip for "
                    "a text (latent_decoder='regression'). Leave it out, or train a model with latent_decoder='codes_flow'."
                )
            return given
        if unknown := sorted(set(chosen) - set(SAMPLING_LIMITS)):
            raise TypeError(f"Found the argument {', '.join(unknown)}, expected some of {', '.join(SAMPLING_LIMITS)}.")
        for name, value in chosen.items():
            checked_number(name, value, *SAMPLING_LIMITS[name])
        if generator is not None and "seed" in chosen:
            raise ValueError("Found both a generator and a seed, expected one of them.")
        has_null_text = self.config.text_dropout > 0
        if not has_null_text and chosen.get("guidance", 1) != 1:
            raise ValueError(
                f"Found guidance={chosen['guidance']}, but this model was trained with text_dropout=0, so it does not know what is signed "
                "without a text. Leave guidance out, or train with text_dropout=0.1."
            )
        self._check_codes()
        return SAMPLING | {"seed": None} | ({} if has_null_text else {"guidance": 1}) | chosen

    def decode_sequence(
        self, latents: torch.Tensor, latent_mask: torch.Tensor | None = None, seam_frames: int = 0
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Whole clips from standardised latents, their segments laid end to end.

        Args:
            latents: (B, S, D), latent_mask: (B, S), 1 where a segment is real; by default everywhere.
            seam_frames: see `mend_seams`.

        Returns:
            keypoints (B, T, K, C) in shoulder lengths, 0 after a clip's last frame; num_frames (B,) int64.
        """
        check_numbers("latents", latents, ("clips", "segments", self.config.sign_mae_config.hidden_size))
        if latent_mask is None:
            latent_mask = torch.ones(latents.shape[:2], dtype=torch.long, device=latents.device)
        check_padding("latent_mask", latent_mask, latents.shape[:2])
        real = latent_mask.bool()
        decoded = torch.cat([self.sign_mae(batch).keypoints for batch in latents[real].split(DECODED_TOGETHER)])  # (N, W, K, C)
        # Points that SignMAE never learned are put where `KeypointProcessor` puts points that were never seen, as judges expect.
        learned = self.sign_mae.keypoint_presence.bool().cpu().numpy()
        decoded = decoded.index_select(2, torch.from_numpy(stand_ins(self.config.layout, learned)).to(decoded.device))
        segments = decoded.new_zeros(*real.shape, *decoded.shape[1:])
        segments[real] = decoded
        segments = mend_seams(segments, latent_mask, seam_frames)
        return segments.flatten(1, 2), latent_mask.sum(1) * decoded.shape[1]

    @overload
    def num_segments(self, num_frames: int) -> int: ...

    @overload
    def num_segments(self, num_frames: torch.Tensor) -> torch.Tensor: ...

    def num_segments(self, num_frames: int | torch.Tensor) -> int | torch.Tensor:
        """How many segments a clip of `num_frames` (int or tensor) has end to end; at least 1. See `config.last_segment`."""
        return segments_end_to_end(num_frames, self.config.sign_mae_config.window_size, self.config.last_segment)

    @property
    def default_seam_frames(self) -> int:
        """What `generate` takes where it is not given seam_frames."""
        return min(MENDED_FRAMES, self.config.sign_mae_config.window_size // 2) if self.samples else 0

    @property
    def max_tokens(self) -> int | None:
        """The longest text that the text model's positions reach, in tokens; None where nothing bounds it."""
        positions = getattr(self.config.text_config, "max_position_embeddings", None)
        embeddings = getattr(self.text_model, "embeddings", None)
        padding = getattr(getattr(embeddings, "position_embeddings", None), "padding_idx", None)
        return positions if padding is None or positions is None else positions - padding - 1  # roberta counts from after the padding

    def check_tokenizer(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Raises `ValueError` unless the tokenizer fits the model."""
        check_vocabulary(len(tokenizer), self.config.text_config.vocab_size)
        if tokenizer.pad_token_id is None or tokenizer.padding_side != "right":
            raise ValueError(
                f"The tokenizer pads with {tokenizer.pad_token!r} on the {tokenizer.padding_side}, expected a pad token on the right; set "
                "tokenizer.pad_token and tokenizer.padding_side."
            )
        plain = tokenizer("a", add_special_tokens=False).input_ids
        if self.config.text_pooling == "token" and tokenizer("a").input_ids[: len(plain)] == plain:
            raise ValueError(
                "text_pooling='token' predicts the length from a token before the text, such as [CLS], but this tokenizer puts none there. "
                "Use the text model's own tokenizer, or train with text_pooling='mean'."
            )

    def _checked_num_segments(self, num_segments: int | Sequence[int] | torch.Tensor, num_texts: int) -> torch.Tensor:
        try:
            counts = torch.as_tensor(num_segments)
        except (TypeError, ValueError, RuntimeError):
            counts = torch.tensor(0.5)  # refused below
        whole = not (counts.is_floating_point() or counts.is_complex() or counts.dtype == torch.bool)
        if not whole or counts.shape not in ((), (num_texts,)) or (counts < 1).any() or (counts > self.config.max_segments).any():
            raise ValueError(
                f"Found num_segments={num_segments!r}, expected one int or one for each of {num_texts} texts, each from 1 to "
                f"max_segments={self.config.max_segments}. A segment is {self.config.sign_mae_config.window_size} frames."
            )
        return counts.long().expand(num_texts)

    @torch.no_grad()
    def set_codes(
        self, mean: torch.Tensor, axes: torch.Tensor, scales: torch.Tensor, codebooks: torch.Tensor, remainder_scales: torch.Tensor
    ) -> None:
        """Sets what `LatentCodes` says of the latents of training clips; `train/train_text_to_sign.py` fits it before the first step.

        Args:
            mean: (D,), axes: (D, F), scales: (F,), codebooks: (Q, E, F), remainder_scales: (F,).
        """
        if not self.samples:
            raise ValueError("Found latent_decoder='regression', which has no codes. Make the model with latent_decoder='codes_flow'.")
        names = "component_mean", "component_axes", "component_scales", "codebooks", "remainder_scales"
        for name, values in zip(names, (mean, axes, scales, codebooks, remainder_scales)):
            buffer = self.latent_decoder.codes.get_buffer(name)
            check_numbers(name, values, tuple(buffer.shape))
            if not values.isfinite().all() or (name.endswith("scales") and (values <= 0).any()):
                raise ValueError(
                    f"Found {name} with values that are not finite, or scales that are not above 0. Fit the codes on other latents."
                )
            buffer.copy_(values)

    def _check_codes(self) -> None:
        codebooks = self.latent_decoder.codes.codebooks
        if codebooks.device.type == "cpu" and not torch.compiler.is_compiling() and not codebooks.any():
            raise ValueError(
                "The codes of this model were not fitted yet. Call set_codes first, as train/train_text_to_sign.py does with the latents "
                "of training clips."
            )

    # --- What is trained ----------------------------------------------------------------------------------------------------------

    def _frozen_parts(self) -> list[nn.Module]:
        return [self.sign_mae, self.text_model] if self.config.freeze_text_model else [self.sign_mae]


def segments_end_to_end(num_frames: Any, window_size: int, last_segment: str) -> Any:
    """How many segments clips of `num_frames` (int or tensor) have end to end; at least 1. See `TextToSignConfig.last_segment`."""
    held = window_size - 1 if last_segment == "hold" else 0
    counted = (num_frames + held) // window_size
    return counted.clamp_min(1) if isinstance(counted, torch.Tensor) else max(counted, 1)


def text_encoder(text_model: PreTrainedModel) -> PreTrainedModel:
    """The text encoder of a model of `AutoModel`, without a decoder and without a pooling layer, whose output is not used."""
    if hasattr(text_model, "decoder"):
        return text_model.get_encoder()
    if getattr(text_model, "pooler", None) is not None:
        text_model.register_module("pooler", None)  # as transformers' add_pooling_layer=False, which not every class takes
    return text_model


def mend_seams(segments: torch.Tensor, latent_mask: torch.Tensor, seam_frames: int) -> torch.Tensor:
    """Spreads the jump between a segment's last frame and the next one's first over the frames around it.

    Ours. Segments are decoded one by one and do not overlap, so there is nothing to cross-fade: instead the step over a border is made
    the mean of the steps before and after it. What it is too large by is shared by both sides, and fades out over `seam_frames`
    frames by half a cosine. Frames further off stay as they are.

    Args:
        segments: (B, S, W, K, C).
        latent_mask: (B, S), 1 where a segment is real.
        seam_frames: frames on either side of a border, at most half a segment.

    Returns:
        (B, S, W, K, C).
    """
    window_size = segments.shape[2]
    if not isinstance(seam_frames, int) or not 0 <= seam_frames <= window_size // 2:
        raise ValueError(
            f"Found seam_frames={seam_frames!r}, expected 0 to {window_size // 2}, half of the {window_size} frames of a segment."
        )
    if not seam_frames:
        return segments
    before, after = segments[:, :-1], segments[:, 1:]
    jump = after[:, :, 0] - before[:, :, -1]  # (B, S - 1, K, C)
    expected = (before[:, :, -1] - before[:, :, -2] + after[:, :, 1] - after[:, :, 0]) / 2
    excess = (jump - expected) * (latent_mask[:, :-1] * latent_mask[:, 1:])[..., None, None]
    step = torch.arange(window_size, device=segments.device) / seam_frames
    fade = (torch.cos(math.pi * step.clamp_max(1)) + 1)[:, None, None].to(segments.dtype) / 4  # (W, 1, 1): a half at the border, then less
    change = torch.zeros_like(segments)
    change[:, :-1] += fade.flip(0) * excess[:, :, None]
    change[:, 1:] -= fade * excess[:, :, None]
    return segments + change


TextToSign.register_for_auto_class("AutoModel")
