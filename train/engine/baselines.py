"""The losses of the baselines in Tab 1, for what trains a `SignToText`: CTC on glosses (Joint-SLT) and contrasted tokens (ConSLT).

Shapes: as in `modeling_sign_to_text`: B clips, S inputs of the text model's encoder, L text tokens, V tokens in the vocabulary, D hidden
size of the text model; G glosses of a clip, N negatives.
"""

from dataclasses import asdict, dataclass, fields

import torch
from torch import nn
from torch.nn import functional as F
from transformers.utils import can_return_tuple

from modeling_unigloR import SignToText, SignToTextOutput
from modeling_unigloR.limits_uniglor import MAX_VOCABULARY, checked_number
from modeling_unigloR.modeling_layers_uniglor import check_ids, exact, mean_loss


@dataclass
class BaselineArguments:
    """Losses that are added to the translation's.

    Attributes:
        gloss_loss_weight: of CTC on glosses: Joint-SLT with glosses (Camgoz et al. 2020). Needs sign_encoder="frames".
        contrastive_loss_weight: of the contrast between a token's states and other tokens: ConSLT (Fu et al. 2023).
        contrastive_negatives: how many tokens are drawn from the vocabulary; those in a sentence are not its negatives.
        contrastive_temperature: similarities are divided by it.
    """

    gloss_loss_weight: float = 0.0
    contrastive_loss_weight: float = 0.0
    contrastive_negatives: int = 500
    contrastive_temperature: float = 0.1

    def __post_init__(self):
        checked_number("gloss_loss_weight", self.gloss_loss_weight, 0, 1e6)
        checked_number("contrastive_loss_weight", self.contrastive_loss_weight, 0, 1e6)
        checked_number("contrastive_negatives", self.contrastive_negatives, 1, MAX_VOCABULARY, whole=True)
        checked_number("contrastive_temperature", self.contrastive_temperature, 1e-6, 1e6)

    def check_baseline(self, model_fields):
        """Raises `ValueError` where a model with these fields of `SignToTextConfig` has no place for the losses."""
        if self.gloss_loss_weight and model_fields.get("sign_encoder") != "frames":
            raise ValueError("gloss_loss_weight needs sign_encoder='frames': a segment is no place for a gloss (Joint-SLT only).")

    def model_of(self, model_fields, glosses):
        """The class to train, and the fields of its configuration.

        Args:
            model_fields: of `SignToTextConfig`.
            glosses: names of the glosses in the training data, in any order; a function, called only if they are needed.
        """
        if not self.gloss_loss_weight and not self.contrastive_loss_weight:
            return SignToText, model_fields
        own = {name: value for name, value in asdict(self).items() if name in LOSS_FIELDS}
        return BaselineSignToText, model_fields | own | ({"glosses": sorted(glosses())} if self.gloss_loss_weight else {})


LOSS_FIELDS = {field.name for field in fields(BaselineArguments)}


class BaselineSignToText(SignToText):
    """A `SignToText` that is trained with the losses of a baseline.

    Its configuration has the fields of `BaselineArguments` too, and `glosses`: the annotators' labels, in the order of the CTC head,
    whose output 0 is the blank. What it saves is a checkpoint of a `SignToText`, which leaves the head out when it is loaded; this class
    loads it with the head.
    """

    _keys_to_ignore_on_load_unexpected = []

    def __init__(self, config):
        super().__init__(config)
        self.losses = BaselineArguments(**{name: getattr(config, name) for name in LOSS_FIELDS if hasattr(config, name)})
        if self.losses.gloss_loss_weight:
            self.losses.check_baseline(config.to_dict())
            if not getattr(config, "glosses", None):
                raise ValueError("gloss_loss_weight is above 0, but glosses is empty. Expected the list of the training set's glosses.")
            self.gloss_head = nn.Linear(config.text_config.hidden_size, 1 + len(config.glosses))  # the blank, then the glosses
            self._init_weights(self.gloss_head)

    @can_return_tuple
    def forward(
        self,
        keypoints=None,
        attention_mask=None,
        latents=None,
        latent_mask=None,
        labels=None,
        decoder_input_ids=None,
        gloss_labels=None,
        negatives=None,
        num_items_in_batch=None,
        **options,
    ):
        """As `SignToText.forward`, with the losses of the baseline where there are labels.

        Args:
            gloss_labels: (B, G) indices into `config.glosses`, -100 where there is none.
            negatives: (N,) token ids of the contrastive loss; by default drawn at random.
        """
        if labels is None:
            return super().forward(keypoints, attention_mask, latents, latent_mask, None, decoder_input_ids, **options)
        embeddings, input_mask = self.embed(keypoints, attention_mask, latents, latent_mask)  # (B, S, D), (B, S)
        decoder_input_ids = self.decoder_inputs(len(embeddings), labels, decoder_input_ids)  # (B, L)
        inputs = dict(inputs_embeds=embeddings, attention_mask=input_mask, decoder_input_ids=decoder_input_ids, use_cache=False)
        outputs = self.text_model(**inputs, output_hidden_states=True)
        sums = [self.token_losses(outputs.logits, labels)]
        if self.losses.contrastive_loss_weight:
            again = self.text_model(**inputs, output_hidden_states=True)  # other units are dropped out
            states = outputs.decoder_hidden_states[-1], again.decoder_hidden_states[-1]
            sums[0] = sums[0] + self.losses.contrastive_loss_weight * self.contrastive_losses(*states, labels, negatives)
        if self._has_gloss_loss(gloss_labels):
            losses = self.gloss_losses(outputs.encoder_last_hidden_state, input_mask, gloss_labels)
            sums.append(self.losses.gloss_loss_weight * losses)
        sums = torch.stack(sums, dim=1)  # (B, terms)
        return SignToTextOutput(
            loss=mean_loss(sums, self.count_items(labels, gloss_labels), num_items_in_batch),
            logits=outputs.logits,
            encoder_last_hidden_state=outputs.encoder_last_hidden_state,
            input_mask=input_mask,
            loss_sums=sums.detach(),
        )

    def count_items(self, labels, gloss_labels=None, **inputs):
        """What the loss's terms are means over: (B, terms) int64, the tokens of each clip and, with glosses, 1. Others are not read."""
        counts = super().count_items(labels)
        return torch.cat([counts, torch.ones_like(counts)], dim=1) if self._has_gloss_loss(gloss_labels) else counts

    def generate(self, *args, gloss_labels=None, **kwargs):
        """As `SignToText.generate`; gloss_labels are not read, but come with the batch of an evaluation."""
        return super().generate(*args, **kwargs)

    def gloss_losses(self, hidden, input_mask, gloss_labels):
        """CTC over the encoder's outputs (Camgoz et al. 2020, equation 8), divided by the number of glosses: (B,).

        Args:
            hidden: (B, S, D), input_mask: (B, S), gloss_labels: (B, G), -100 where there is none.
        """
        width = gloss_labels.shape[-1] if isinstance(gloss_labels, torch.Tensor) and gloss_labels.ndim == 2 else "glosses"
        check_ids("gloss_labels", gloss_labels, (len(hidden), width), len(self.config.glosses), padding=-100)
        log_probs = exact(self.gloss_head(hidden)).log_softmax(-1).transpose(0, 1)  # (S, B, 1 + glosses)
        present = gloss_labels >= 0
        targets = torch.where(present, gloss_labels + 1, 0)
        num_glosses = present.sum(1)
        losses = F.ctc_loss(log_probs, targets, input_mask.sum(1), num_glosses, blank=0, reduction="none", zero_infinity=True)
        return losses / num_glosses.clamp_min(1)

    def contrastive_losses(self, hidden, hidden_again, labels, negatives=None):
        """Pulls a token's two states, made by two dropout masks, together, away from tokens that are not in its sentence.

        Token-level contrastive learning of ConSLT (Fu et al. 2023). Ours: a negative is represented by its embedding in the
        output layer, similarity is the cosine, and one draw of negatives serves a batch. Summed over each clip's tokens: (B,).

        Args:
            hidden, hidden_again: (B, L, D), labels: (B, L), -100 where there is none, negatives: (N,) token ids.
        """
        embeddings = self.text_model.get_output_embeddings().weight  # (V, D)
        if negatives is None:
            negatives = torch.randint(len(embeddings), (self.losses.contrastive_negatives,), device=labels.device)
        inside = (labels[:, :, None] == negatives).any(1)  # (B, N): not a negative of this sentence
        states, again = F.normalize(hidden, dim=-1), F.normalize(hidden_again, dim=-1)
        positive = (states * again).sum(-1, keepdim=True)  # (B, L, 1)
        negative = (states @ F.normalize(embeddings[negatives], dim=-1).T).masked_fill(inside[:, None], float("-inf"))  # (B, L, N)
        similarity = exact(torch.cat([positive, negative], dim=-1)) / self.losses.contrastive_temperature
        target = torch.where(labels >= 0, 0, -100)  # the positive stands first
        return F.cross_entropy(similarity.transpose(1, 2), target, reduction="none").sum(1)

    def _has_gloss_loss(self, gloss_labels):
        return bool(self.losses.gloss_loss_weight) and gloss_labels is not None


# A checkpoint names and carries the class that its users have.
BaselineSignToText.__name__, BaselineSignToText.__module__ = SignToText.__name__, SignToText.__module__
