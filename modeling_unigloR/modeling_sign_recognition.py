"""SignRecognition: keypoints of a clip that shows one sign to its label (paper section 5, Tab 3).

Shapes: B clips, T frames, S segments (or frames that are read), K keypoints, C channels, D hidden size, L labels.
"""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F
from transformers import initialization as init
from transformers.modeling_outputs import SequenceClassifierOutput

from .configuration_uniglor import SignRecognitionConfig
from .modeling_layers_uniglor import Dropout, TransformerLayer, check_ids, exact, mean_loss, sinusoids
from .modeling_sign_mae import ClipReadingModel, SignMAEEncoderModel


@dataclass
class SignRecognitionOutput(SequenceClassifierOutput):
    """What `SignRecognition.forward` returns.

    Attributes:
        loss: (), mean cross-entropy of the clips that have a label.
        logits: (B, L).
        loss_sums: (B, 1), of each clip, for `mean_loss`; no gradient.
    """

    loss_sums: torch.FloatTensor | None = None


class SignRecognition(ClipReadingModel):
    """A frozen SignMAE encoder over windows, a projection, a Transformer encoder like SignMAE's, one linear layer to the labels.

    With `sign_encoder="frames"` the same Transformer reads every frame's keypoints through one linear layer: what the segments are
    compared with.
    """

    config: SignRecognitionConfig
    config_class = SignRecognitionConfig
    base_model_prefix = "sign_recognition"

    def __init__(self, config):
        super().__init__(config)
        self._add_sign_encoder(config.hidden_size)
        self.pooling_token = nn.Parameter(torch.zeros(config.hidden_size))
        self.dropout = Dropout(config.hidden_dropout_prob)
        self.layers = nn.ModuleList(TransformerLayer(config) for _ in range(config.num_hidden_layers))
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()
        self._freeze()

    @torch.no_grad()
    def _init_weights(self, module):
        super()._init_weights(module)
        if module is self:
            init.normal_(module.pooling_token, std=self.config.initializer_range)
        elif module is self.classifier:
            init.normal_(module.weight, std=self.config.initializer_range)  # start near the same probability for every label

    @classmethod
    def from_parts(cls, sign_mae, id2label, **fields):
        """Joins a pretrained SignMAE with a new Transformer and head.

        Args:
            sign_mae: a `SignMAE` or `SignMAEEncoderModel`, or the folder or Hub id of one.
            id2label: {0: name, 1: name, ...}, or the list of names in that order.
            **fields: of `SignRecognitionConfig`.
        """
        if isinstance(sign_mae, str) or hasattr(sign_mae, "__fspath__"):
            sign_mae = SignMAEEncoderModel.from_pretrained(sign_mae)
        id2label = dict(id2label if isinstance(id2label, dict) else enumerate(id2label))
        label2id = {name: label for label, name in id2label.items()}
        if len(label2id) < len(id2label):
            twice = sorted({name for name in id2label.values() if list(id2label.values()).count(name) > 1})
            raise ValueError(f"id2label gives {', '.join(map(repr, twice[:5]))} to more than one label. Expected one label for each name.")
        sign_mae_config = sign_mae.config.to_dict() | {"_name_or_path": ""}  # no path of this machine travels
        model = cls(SignRecognitionConfig(sign_mae_config=sign_mae_config, id2label=id2label, label2id=label2id, **fields))
        if model.config.sign_encoder == "segments":
            model._read_with(sign_mae)
        return model

    # --- Recognition --------------------------------------------------------------------------------------------------------------

    def forward(
        self,
        keypoints=None,
        attention_mask=None,
        latents=None,
        latent_mask=None,
        labels=None,
        keypoint_mask=None,
        num_items_in_batch=None,
    ):
        """Logits of the labels, and the loss where there are labels.

        Args:
            keypoints: (B, T, K, C) in shoulder lengths, from `KeypointProcessor`, and attention_mask (B, T); or
            latents: (B, S, D) as `SignMAE.encode_sequence` gives them, and latent_mask (B, S).
            labels: (B,) int64; -100 where there is none.
            keypoint_mask: (B, T, K), not read.
            num_items_in_batch: where these clips are a part of a batch, how many clips with a label there are in all of it; the loss is
                then their share in the batch's.

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

    def count_items(self, labels, **inputs):
        """What the loss is a mean over: (B, 1) int64, 1 where a clip has a label. Other inputs are not read."""
        return (labels != -100).long()[:, None]

    def pool(self, embeddings, input_mask):
        """One vector of a clip, the output at the pooling token: (B, S, D), (B, S) -> (B, D)."""
        num_inputs, size = embeddings.shape[1:]
        # Computed for the clip at hand rather than kept: a table would set a longest clip.
        tokens = embeddings + sinusoids(num_inputs, size).to(embeddings)
        hidden = torch.cat([self.pooling_token.to(tokens.dtype).expand(len(tokens), 1, -1), tokens], dim=1)  # (B, 1 + S, D)
        padding = F.pad(input_mask == 0, (1, 0))  # the pooling token is always there
        attention_mask = torch.zeros_like(padding, dtype=hidden.dtype).masked_fill(padding, torch.finfo(hidden.dtype).min)
        hidden = self.dropout(hidden)
        for layer in self.layers:
            hidden = layer(hidden, attention_mask=attention_mask[:, None, None])
        return self.norm(hidden[:, 0])

    def save_pretrained(self, *args, **kwargs):
        # A class is saved under the one Auto class that it is registered for below; strangers look for a classifier under this one too.
        auto_map = getattr(self.config, "auto_map", None) or {}
        self.config.auto_map = auto_map | {"AutoModelForSequenceClassification": "modeling_sign_recognition.SignRecognition"}
        super().save_pretrained(*args, **kwargs)


SignRecognition.register_for_auto_class("AutoModel")
