"""JointSLT: Sign Language Transformers (Camgoz et al. 2020) on keypoints, without glosses or with them.

Shapes: as in `frame_translator`; G glosses of a clip.
"""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers.utils import ModelOutput

from experiments.baselines.frame_translator import FrameTranslator, FrameTranslatorConfig
from modeling_unigloR.configuration_uniglor import checked, choice, number
from modeling_unigloR.modeling_layers_uniglor import check_ids, exact


@checked
class JointSLTConfig(FrameTranslatorConfig):
    """Configuration of `JointSLT`."""

    model_type = "joint_slt"
    _auto_class = None

    gloss_loss_weight: float | int = number(0.0)  # 5 where there are glosses, which translated best in the paper; 0: no recognition
    translation_loss_weight: float | int = number(1.0)
    # Of a clip's glosses: slt's torch.nn.CTCLoss divides by their number, while its translation loss is a sum over words
    gloss_loss_reduction: str = choice("mean", "sum")
    glosses: list[str] | tuple[str, ...] | None = None  # the annotators' labels, in the order of the head, whose output 0 is the blank

    def validate_architecture(self) -> None:
        super().validate_architecture()
        if self.gloss_loss_weight and not self.glosses:
            raise ValueError("gloss_loss_weight is above 0, but glosses is empty. Expected the list of the training set's glosses.")


class JointSLT(FrameTranslator):
    """A Transformer encoder-decoder from frames to words, which with glosses recognises them by CTC on the encoder's outputs.

    Re-implementation from the paper, section 3; its losses are normalised as by the authors' code, slt.
    """

    config: JointSLTConfig
    config_class = JointSLTConfig

    def __init__(self, config: JointSLTConfig) -> None:
        super().__init__(config)
        if config.gloss_loss_weight:
            self.gloss_head = nn.Linear(config.text_config.hidden_size, 1 + len(config.glosses or ()))  # the blank, then the glosses
            self._init_weights(self.gloss_head)

    def losses(
        self, outputs: ModelOutput, inputs: dict[str, Any], labels: torch.Tensor, gloss_labels: torch.Tensor | None = None
    ) -> list[torch.Tensor]:
        """The weighted sum of both losses (section 3.3), of each clip.

        Args:
            gloss_labels: (B, G) indices into `config.glosses`, -100 where there is none; None leaves out the recognition.
        """
        joint = self.config.translation_loss_weight * self.token_losses(outputs.logits, labels)
        if self.config.gloss_loss_weight and gloss_labels is not None:
            recognition = self.gloss_losses(outputs.encoder_last_hidden_state, inputs["attention_mask"], gloss_labels)
            joint = joint + self.config.gloss_loss_weight * recognition
        return [joint]

    def gloss_losses(self, hidden: torch.Tensor, input_mask: torch.Tensor, gloss_labels: torch.Tensor) -> torch.Tensor:
        """CTC over the encoder's outputs (section 3.2): (B, S, D), (B, S), (B, G) -> (B,)."""
        check_ids("gloss_labels", gloss_labels, (len(hidden), "glosses"), len(self.config.glosses or ()), padding=-100)
        log_probs = exact(self.gloss_head(hidden)).log_softmax(-1).transpose(0, 1)  # (S, B, 1 + glosses)
        present = gloss_labels >= 0
        num_glosses = present.sum(1)
        targets = torch.where(present, gloss_labels + 1, 0)
        losses = F.ctc_loss(log_probs, targets, input_mask.sum(1), num_glosses, blank=0, reduction="none", zero_infinity=True)
        return losses / num_glosses.clamp_min(1) if self.config.gloss_loss_reduction == "mean" else losses
