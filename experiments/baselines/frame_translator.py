"""FrameTranslator: what the translation baselines share, a `SignToText` of frames whose loss has several terms.

Shapes: as in `modeling_sign_to_text`: B clips, T frames, S inputs of the text model's encoder, K keypoints, C channels, D hidden size of
the text model, L text tokens, V tokens in the vocabulary.
"""

from typing import Any

import torch
from torch import nn
from transformers import initialization as init
from transformers.utils import ModelOutput, can_return_tuple

from modeling_unigloR import SignToText, SignToTextConfig, SignToTextOutput, keypoint_weights
from modeling_unigloR.configuration_uniglor import checked, choice, number
from modeling_unigloR.modeling_layers_uniglor import exact, mean_loss

TARGETS = ("keypoint_mask", "gloss_labels", "anchor_labels")  # of the losses; they come with the batch of an evaluation too


@checked
class FrameTranslatorConfig(SignToTextConfig):
    """What the configurations of the translation baselines share."""

    _auto_class = None  # its code does not travel with a checkpoint

    sign_encoder: str = choice("frames")
    # Of the keypoints that a head reads off the encoder's states, by sign_mae_config.keypoint_weighting (Tab 5a); 0: there is no head
    reconstruction_loss_weight: float | int = number(0.0)


class FrameTranslator(SignToText):
    """Base class of the translation baselines. Its losses are sums over a clip, divided by the number of clips, as slt's are."""

    _auto_class = None
    _keys_to_ignore_on_load_unexpected: list[str] = []

    def __init__(self, config: FrameTranslatorConfig) -> None:
        super().__init__(config)
        if config.reconstruction_loss_weight:
            self.keypoint_head = nn.Linear(config.text_config.hidden_size, self.projection.in_features)
            init.normal_(self.keypoint_head.weight, std=0.02)  # start near the mean pose
            init.zeros_(self.keypoint_head.bias)

    @can_return_tuple
    def forward(  # type: ignore[override]  # it reads no latents
        self,
        keypoints: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        decoder_input_ids: torch.Tensor | None = None,
        keypoint_mask: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        **targets: Any,
    ) -> SignToTextOutput:
        """As `SignToText.forward`, with the losses of the baseline where there are labels.

        Args:
            keypoint_mask: (B, T, K), 1 where a point was seen, for a model that reconstructs keypoints; by default everywhere.
            **targets: of the baseline's own losses.
        """
        if labels is None:
            options = dict(output_hidden_states=output_hidden_states, output_attentions=output_attentions)
            return super().forward(keypoints, attention_mask, decoder_input_ids=decoder_input_ids, **options)
        embeddings, input_mask = self.embed(keypoints, attention_mask)  # (B, S, D), (B, S)
        inputs = dict(inputs_embeds=embeddings, attention_mask=input_mask, use_cache=False, output_hidden_states=True)
        inputs["decoder_input_ids"] = self.decoder_inputs(len(embeddings), labels, decoder_input_ids)  # (B, L)
        outputs = self.text_model(**inputs)
        sums = self.losses(outputs, inputs, labels, **targets)
        if self.config.reconstruction_loss_weight:
            hidden = outputs.encoder_last_hidden_state
            sums.append(self.config.reconstruction_loss_weight * self.reconstruction_losses(hidden, keypoints, input_mask, keypoint_mask))
        stacked = torch.stack(sums, dim=1)  # (B, terms)
        return SignToTextOutput(
            loss=mean_loss(stacked, self.count_items(labels, input_mask), num_items_in_batch),
            logits=outputs.logits,
            encoder_last_hidden_state=outputs.encoder_last_hidden_state,
            input_mask=input_mask,
            loss_sums=stacked.detach(),
        )

    def losses(self, outputs: ModelOutput, inputs: dict[str, Any], labels: torch.Tensor, **targets: Any) -> list[torch.Tensor]:
        """The terms of the loss, (B,) each: sums over a clip, which `count_items` says what to divide by.

        Args:
            outputs: of the text model on `inputs`.
            labels: (B, L) token ids, -100 where there is none.
        """
        return [self.token_losses(outputs.logits, labels)]

    def count_items(self, labels: torch.Tensor, attention_mask: torch.Tensor | None = None, **inputs: Any) -> torch.Tensor:
        """What the terms are means over: (B, terms) int64, 1 clip and, with a head, its frames. Other inputs are not read."""
        counts = [torch.ones(len(labels), dtype=torch.long, device=labels.device)]
        if self.config.reconstruction_loss_weight:
            assert attention_mask is not None
            counts.append((attention_mask[:, :: self.config.frame_stride] != 0).sum(1))
        return torch.stack(counts, dim=1)

    def reconstruction_losses(
        self, hidden: torch.Tensor, keypoints: torch.Tensor, input_mask: torch.Tensor, keypoint_mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Weighted squared error of the keypoints that a linear head reads off the encoder's states, summed as in Eq 2: (B,).

        A clip takes the place of SignMAE's segment: its parts have one weight each. The head says how far a point is from its mean place,
        in standard deviations, so that it need not learn the mean pose first.

        Args:
            hidden: (B, T, D), keypoints: (B, T, K, C), input_mask: (B, T), keypoint_mask: (B, T, K).
        """
        keypoints = keypoints[:, :: self.config.frame_stride]
        seen = input_mask[..., None] != 0
        if keypoint_mask is not None:
            seen = seen & (keypoint_mask[:, :: self.config.frame_stride] != 0)
        seen = seen.expand(keypoints.shape[:3])  # (B, T, K)
        targets = exact(torch.where(input_mask[..., None, None] != 0, keypoints, 0))
        norm = self.frame_norm.norm
        predicted = exact(self.keypoint_head(hidden)) * norm.running_var.sqrt() + norm.running_mean
        error = (predicted.view_as(targets) - targets).square().sum(-1)  # (B, T, K)
        return (error * keypoint_weights(targets, seen, self.config.sign_mae_config) * seen).sum((1, 2))

    def generate(self, *args: Any, **kwargs: Any) -> torch.Tensor | ModelOutput:  # type: ignore[override]
        """As `SignToText.generate`; the targets of the losses are not read."""
        return super().generate(*args, **{name: value for name, value in kwargs.items() if name not in TARGETS})
