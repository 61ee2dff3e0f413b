"""SignRecognition: keypoints of a clip that shows one sign to its label (paper section 5, Tab 3).

Shapes: B clips, T frames, S segments (or frames that are read), K keypoints, C channels, D hidden size, L labels.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers import initialization as init
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_outputs import SequenceClassifierOutput

from .configuration_uniglor import SignRecognitionConfig
from .modeling_clip_reader import ClipReadingModel
from .modeling_layers_uniglor import RECORDED, TransformerLayer, check_ids, exact, mean_loss, records_layers, sinusoids
from .modeling_sign_mae import SignMAEEncoderModel, SignMAEPreTrainedModel


@dataclass
class SignRecognitionOutput(SequenceClassifierOutput):
    """What `SignRecognition.forward` returns.

    Attributes:
        loss: (), mean cross-entropy of the clips that have a label.
        logits: (B, L).
        hidden_states, attentions: of the Transformer layers, if asked for: (B, 1 + S, D) before the first layer and after each, and
            (B, heads, 1 + S, 1 + S). The first position is the class token.
        loss_sums: (B, 1), of each clip, for `mean_loss`; no gradient.
    """

    loss_sums: torch.Tensor | None = None


class SignRecognition(ClipReadingModel):
    """A frozen SignMAE encoder over windows, a projection, a Transformer encoder like SignMAE's, one linear layer to the labels.

    With `sign_encoder="frames"` the same Transformer reads every frame's keypoints through one linear layer: the baseline.
    """

    config: SignRecognitionConfig
    config_class = SignRecognitionConfig
    base_model_prefix = "sign_recognition"
    _can_record_outputs = RECORDED

    def __init__(self, config: SignRecognitionConfig) -> None:
        super().__init__(config, config.hidden_size)
        self.class_token = nn.Parameter(torch.zeros(config.hidden_size))
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.layers = nn.ModuleList(TransformerLayer(config) for _ in range(config.num_hidden_layers))
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels or 0)
        self.post_init()
        self._freeze()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, SignRecognition):
            init.normal_(module.class_token, std=self.config.initializer_range)
            init.normal_(module.classifier.weight, std=self.config.initializer_range)  # start near equal probabilities of all labels

    @classmethod
    def from_parts(
        cls, sign_mae: str | os.PathLike | SignMAEPreTrainedModel, id2label: dict[int, str] | Sequence[str], **fields: Any
    ) -> "SignRecognition":
        """Joins a pretrained SignMAE with a new Transformer and head.

        Args:
            sign_mae: a `SignMAE` or `SignMAEEncoderModel`, or the folder or Hub id of one.
            id2label: {0: name, 1: name, ...}, or the list of names in that order.
            **fields: of `SignRecognitionConfig`.
        """
        loaded = SignMAEEncoderModel.from_pretrained(sign_mae) if isinstance(sign_mae, (str, os.PathLike)) else sign_mae
        id2label = dict(id2label if isinstance(id2label, dict) else enumerate(id2label))
        label2id = {name: label for label, name in id2label.items()}
        if len(label2id) < len(id2label):
            twice = sorted({name for name in id2label.values() if list(id2label.values()).count(name) > 1})
            raise ValueError(f"id2label gives {', '.join(map(repr, twice[:5]))} to more than one label. Expected one label for each name.")
        fields["sign_mae_config"] = loaded.config.to_dict() | {"_name_or_path": ""}  # no path of this machine travels
        model = cls(SignRecognitionConfig(id2label=id2label, label2id=label2id, **fields))
        if model.config.sign_encoder == "segments":
            model._read_with(loaded)
        return model

    # --- Recognition --------------------------------------------------------------------------------------------------------------

    @records_layers
    def forward(
        self,
        keypoints: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        latents: torch.Tensor | None = None,
        latent_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
    ) -> SignRecognitionOutput:
        """Logits of the labels, and the loss where there are labels.

        Args:
            keypoints: (B, T, K, C) in shoulder lengths, from `KeypointProcessor`, and attention_mask (B, T); or
            latents: (B, S, D) as `SignMAE.encode_sequence` gives them, and latent_mask (B, S).
            labels: (B,) int64; -100 where there is none.
            num_items_in_batch: where these clips are a part of a batch, how many clips with a label there are in all of it; the loss is
                then their share in the batch's.
            output_hidden_states, output_attentions: whether to return what the Transformer layers compute.

        Returns:
            `SignRecognitionOutput`.
        """
        embeddings, input_mask = self.embed(keypoints, attention_mask, latents, latent_mask)  # (B, S, D), (B, S)
        if labels is not None:
            check_ids("labels", labels, embeddings.shape[:1], self.config.num_labels, padding=-100)
        logits = self.classifier(self.pool(embeddings, input_mask))  # (B, L)
        if labels is None:
            return SignRecognitionOutput(logits=logits)
        sums = F.cross_entropy(exact(logits), labels, label_smoothing=self.config.label_smoothing, reduction="none")[:, None]
        loss = mean_loss(sums, self.count_items(labels), num_items_in_batch)
        return SignRecognitionOutput(loss=loss, logits=logits, loss_sums=sums.detach())

    def count_items(self, labels: torch.Tensor, **inputs: Any) -> torch.Tensor:
        """What the loss is a mean over: (B, 1) int64, 1 where a clip has a label. Other inputs are not read."""
        return (labels != -100).long()[:, None]

    def pool(self, embeddings: torch.Tensor, input_mask: torch.Tensor) -> torch.Tensor:
        """One vector of a clip, the output at the class token: (B, S, D), (B, S) -> (B, D)."""
        num_inputs, size = embeddings.shape[1:]
        # Positions are computed for the clip at hand; a table of them would limit the length of clips.
        tokens = embeddings + sinusoids(num_inputs, size).to(embeddings)
        hidden = torch.cat([self.class_token.to(tokens.dtype).expand(len(tokens), 1, -1), tokens], dim=1)  # (B, 1 + S, D)
        hidden = self.dropout(hidden)
        attention_mask = create_bidirectional_mask(self.config, hidden, F.pad(input_mask != 0, (1, 0), value=True))
        for layer in self.layers:
            hidden = layer(hidden, attention_mask=attention_mask)
        return self.norm(hidden[:, 0])

    def save_pretrained(self, *args: Any, **kwargs: Any) -> None:
        # A class is saved under the one Auto class that it is registered for below. Users without the package look for a classifier here.
        auto_map = getattr(self.config, "auto_map", None) or {}
        self.config.auto_map = auto_map | {"AutoModelForSequenceClassification": "modeling_sign_recognition.SignRecognition"}
        super().save_pretrained(*args, **kwargs)


SignRecognition.register_for_auto_class("AutoModel")
