"""ConSLT: contrasted tokens (Fu et al. 2023) on keypoints, without glosses.

Shapes: as in `frame_translator`; N negatives.
"""

from typing import Any

import torch
from torch.nn import functional as F
from transformers.utils import ModelOutput

from experiments.baselines.frame_translator import FrameTranslator, FrameTranslatorConfig
from modeling_unigloR.configuration_uniglor import checked, number
from modeling_unigloR.limits_uniglor import MAX_VOCABULARY
from modeling_unigloR.modeling_layers_uniglor import exact


@checked
class ConSLTConfig(FrameTranslatorConfig):
    """Configuration of `ConSLT`. Defaults are those of the authors' code."""

    model_type = "conslt"
    _auto_class = None

    contrastive_loss_weight: float | int = number(0.5)
    contrastive_negatives: int = number(500, 1, MAX_VOCABULARY)  # tokens that are drawn from the vocabulary
    contrastive_temperature: float | int = number(0.1, above=0)  # similarities are divided by it


class ConSLT(FrameTranslator):
    """A Transformer from frames to words, run twice with other units dropped out, which are to give a token the same state.

    Re-implementation from the paper; distances and weights are those of the authors' code.
    """

    config: ConSLTConfig
    config_class = ConSLTConfig

    def losses(
        self, outputs: ModelOutput, inputs: dict[str, Any], labels: torch.Tensor, negatives: torch.Tensor | None = None
    ) -> list[torch.Tensor]:
        """Cross-entropy, the mean of both passes, and the contrast of their tokens, of each clip.

        Args:
            negatives: (N,) token ids; by default drawn at random.
        """
        again = self.text_model(**inputs)
        translation = (self.token_losses(outputs.logits, labels) + self.token_losses(again.logits, labels)) / 2
        states = outputs.decoder_hidden_states[-1], again.decoder_hidden_states[-1]
        return [translation + self.config.contrastive_loss_weight * self.contrastive_losses(*states, labels, negatives)]

    def contrastive_losses(
        self, states: torch.Tensor, states_again: torch.Tensor, labels: torch.Tensor, negatives: torch.Tensor | None = None
    ) -> torch.Tensor:
        """InfoNCE: a token's states of both passes are to be nearer to each other than to tokens that its sentence does not have.

        The distance is the mean of both Kullback-Leibler divergences, in the mean over dimensions, of vectors as distributions. A negative
        token is represented by its embedding in the output layer. Summed over each clip's tokens: (B,).

        Args:
            states, states_again: (B, L, D), labels: (B, L), -100 where there is none, negatives: (N,) token ids.
        """
        embeddings = self.text_model.get_output_embeddings().weight  # (V, D)
        if negatives is None:
            negatives = torch.randperm(len(embeddings), device=labels.device)[: self.config.contrastive_negatives]
        inside = (labels[:, :, None] == negatives).any(1)  # (B, N): in the sentence, so no negative of it
        tokens, tokens_again = exact(states).log_softmax(-1), exact(states_again).log_softmax(-1)
        others = exact(embeddings[negatives]).log_softmax(-1)  # (N, D)
        positive = symmetric_divergence(tokens, tokens_again)[..., None]  # (B, L, 1)
        negative = divergences(tokens, others).masked_fill(inside[:, None], float("inf"))  # (B, L, N)
        similarity = -torch.cat([positive, negative], dim=-1) / self.config.contrastive_temperature
        target = torch.where(labels >= 0, 0, -100)  # the positive stands first
        return F.cross_entropy(similarity.transpose(1, 2), target, reduction="none").sum(1)


def symmetric_divergence(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Mean of both Kullback-Leibler divergences, in the mean over dimensions, of log-probabilities (..., D) -> (...)."""
    return ((one.exp() - other.exp()) * (one - other)).mean(-1) / 2


def divergences(ones: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """`symmetric_divergence` of each with each: (B, L, D), (N, D) -> (B, L, N), without a tensor of all dimensions."""
    p, q = ones.exp(), others.exp()
    own = (p * ones).sum(-1)[..., None] + (q * others).sum(-1)
    return (own - p @ others.T - ones @ q.T) / (2 * ones.shape[-1])
