"""GloFE: gloss-free translation with conceptual anchor words (Lin et al. 2023) on keypoints.

Shapes: as in `frame_translator`; N windows of all clips, S of a clip, W frames in a window, P parts of the body; A anchor words.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers import initialization as init
from transformers.utils import ModelOutput

from experiments.baselines.frame_translator import FrameTranslator, FrameTranslatorConfig
from modeling_unigloR.configuration_uniglor import checked, number
from modeling_unigloR.keypoints_uniglor import get_layout
from modeling_unigloR.limits_uniglor import MAX_LABELS
from modeling_unigloR.modeling_layers_uniglor import (
    ChannelTopologyGraphConv,
    KeypointNorm,
    MultiScaleTemporalConv,
    check_ids,
    check_numbers,
    check_padding,
)

ANCHOR_HEADS = 4  # of the attention that looks anchor words up
ANCHOR_STD = 0.35  # about that of the GloVe vectors that the authors start from
LEAST_LETTERS, LEAST_CLIPS, LARGEST_SHARE = 4, 5, 0.25  # of an anchor word, see `anchor_words`


def anchor_words(texts: Sequence[str]) -> list[str]:
    """The anchor words of training texts, sorted: words of at least 4 letters in at least 5 clips and at most a quarter of all.

    GloFE-VN's are verbs and nouns, which a tagger finds. Without one, frequency stands in: articles, pronouns and most prepositions are
    short or stand in many sentences. Adverbs remain; names and typing mistakes are too rare.
    """
    clips = Counter(word for text in texts for word in words_of(text))
    return sorted(
        word for word, count in clips.items() if len(word) >= LEAST_LETTERS and LEAST_CLIPS <= count <= LARGEST_SHARE * len(texts)
    )


def words_of(text: str) -> set[str]:
    """The words of a text, lower-cased: what stands between spaces and has only letters."""
    return {word for word in text.lower().split() if word.isalpha()}


@checked
class GloFEConfig(FrameTranslatorConfig):
    """Configuration of `GloFE`; the sizes of its visual backbone are sign_mae_config's. Defaults are those of the authors' code."""

    model_type = "glofe"
    _auto_class = None

    anchors: list[str] | tuple[str, ...] | None = None  # the anchor words, in the order of their embeddings
    anchor_loss_weight: float | int = number(1.0)
    anchor_margin: float | int = number(0.4)
    least_anchors: int = number(3, 1, MAX_LABELS)  # a clip with fewer anchor words is not contrasted
    label_smoothing: float | int = number(0.2, below=1)

    def validate_architecture(self) -> None:
        super().validate_architecture()
        if not self.anchors:
            raise ValueError("anchors is empty. Expected the anchor words of the training texts, as `anchor_words` finds them.")
        if self.reconstruction_loss_weight:
            raise ValueError("GloFE encodes windows, and has no state for a frame to be reconstructed from. Leave the weight at 0.")


class GraphBackbone(nn.Module):
    """A graph block and a temporal block as SignMAE's, a mean over frames and over the points of each part: (N, W, K, C) -> (N, P C')."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.parts = list(get_layout(config.layout).parts.values())
        self.norm = KeypointNorm(config.num_keypoints, config.num_channels, config.block_norm)
        sizes = config.graph_channels, config.relation_channels
        self.graph = ChannelTopologyGraphConv(config.num_channels, *sizes, config.layout, config.block_norm)
        self.temporal = MultiScaleTemporalConv(
            config.graph_channels,
            config.temporal_branch_channels,
            config.temporal_kernel_size,
            config.temporal_dilations,
            config.block_norm,
        )
        self.size = len(self.parts) * self.temporal.out_channels

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        features = self.norm(windows).permute(0, 3, 2, 1)  # (N, C, K, W)
        features = self.temporal(self.graph(features)).mean(-1)  # (N, C', K)
        return torch.cat([features[:, :, part].mean(-1) for part in self.parts], dim=1)  # (N, P C')


class GloFE(FrameTranslator):
    """A graph network over windows, a Transformer to words, and anchor words that look themselves up in the encoder's outputs.

    What an anchor word finds in a clip whose text has it is to be nearer to its embedding than what it finds in others. Re-implementation
    from the paper, section 3.
    """

    config: GloFEConfig
    config_class = GloFEConfig

    def __init__(self, config: GloFEConfig) -> None:
        super().__init__(config)
        size = config.text_config.hidden_size
        del self.frame_norm  # of a model that reads single frames
        self.backbone = GraphBackbone(config.sign_mae_config)
        self.projection = nn.Linear(self.backbone.size, size)
        self.anchors = nn.Embedding(len(config.anchors or ()), size)
        self.look_up = nn.MultiheadAttention(size, ANCHOR_HEADS, batch_first=True)
        for part in (self.backbone, self.projection, self.anchors, self.look_up):
            part.apply(self._init_weights)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if module is getattr(self, "anchors", None):
            init.normal_(module.weight, std=ANCHOR_STD)

    def _embed_frames(self, keypoints: torch.Tensor, attention_mask: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        """One token for each window of `window_size` frames, `stride` apart: (B, T, K, C), (B, T) -> (B, S, D), (B, S).

        The last window of a clip is held at its last frame until it is full.
        """
        signing, stride = self.config.sign_mae_config, self.config.stride
        check_numbers("keypoints", keypoints, ("clips", "frames", signing.num_keypoints, signing.num_channels), self.projection.weight)
        num_clips, num_frames = keypoints.shape[:2]
        if attention_mask is None:
            attention_mask = torch.ones(num_clips, num_frames, dtype=torch.long, device=keypoints.device)
        check_padding("attention_mask", attention_mask, (num_clips, num_frames))
        lengths = (attention_mask != 0).sum(1)  # (B,)
        num_windows = self.num_windows(lengths)
        starts = torch.arange(int(num_windows.max()), device=keypoints.device) * stride
        frames = starts[:, None] + torch.arange(signing.window_size, device=keypoints.device)  # (S, W)
        frames = torch.minimum(frames, lengths[:, None, None] - 1)  # (B, S, W)
        input_mask = (torch.arange(len(starts), device=keypoints.device) < num_windows[:, None]).long()  # (B, S)
        real = input_mask.bool()
        clip = torch.arange(num_clips, device=keypoints.device)[:, None].expand_as(real)[real]  # (N,)
        tokens = self.projection(self.backbone(keypoints[clip[:, None], frames[real]]))  # (N, D): padding never enters the convolutions
        embeddings = tokens.new_zeros(*real.shape, tokens.shape[-1])
        embeddings[real] = tokens
        return embeddings, input_mask

    def num_windows(self, num_frames: torch.Tensor) -> torch.Tensor:
        """How many windows hold all frames of clips: ceil((T - w) / s) + 1, at least 1."""
        assert self.config.stride is not None  # None means sign_mae_config.stride until a configuration is made
        beyond = (num_frames - self.config.sign_mae_config.window_size).clamp_min(0)
        return -(-beyond // self.config.stride) + 1

    def input_frames(self, num_inputs: int) -> torch.Tensor:
        """Start and end (exclusive) frame of each window: (S, 2) int."""
        assert self.config.stride is not None
        starts = torch.arange(num_inputs) * self.config.stride
        return torch.stack([starts, starts + self.config.sign_mae_config.window_size], dim=1)

    def losses(
        self, outputs: ModelOutput, inputs: dict[str, Any], labels: torch.Tensor, anchor_labels: torch.Tensor | None = None
    ) -> list[torch.Tensor]:
        """Cross-entropy of the tokens, and the contrast of the batch's anchor words, an equal share of it for each clip.

        Args:
            anchor_labels: (B, A) indices into `config.anchors` of the words of each text, -100 where there is none.
        """
        translation = self.token_losses(outputs.logits, labels)
        if anchor_labels is None:
            return [translation, torch.zeros_like(translation)]
        contrast = self.anchor_loss(outputs.encoder_last_hidden_state, inputs["attention_mask"], anchor_labels)
        return [translation, self.config.anchor_loss_weight * contrast.expand(len(translation))]

    def count_items(self, labels: torch.Tensor, *args: Any, **inputs: Any) -> torch.Tensor:
        """What the terms are means over: (B, 2) int64, the tokens of each clip, and 1 clip. Other inputs are not read."""
        tokens = (labels != -100).sum(1)
        return torch.stack([tokens, torch.ones_like(tokens)], dim=1)

    def anchor_loss(self, hidden: torch.Tensor, input_mask: torch.Tensor, anchor_labels: torch.Tensor) -> torch.Tensor:
        """Hinge of the cosine between an anchor word and what it finds, in clips with the word and in others: (B, S, D), ... -> ().

        Ours: the mean over all clips with a word and over all without it, where the authors draw one of each.
        """
        num_anchors = self.anchors.num_embeddings
        check_ids("anchor_labels", anchor_labels, (len(hidden), "anchors"), num_anchors, padding=-100)
        present = hidden.new_zeros(len(hidden), num_anchors + 1).scatter(1, anchor_labels.clamp_min(-1) + 1, 1.0)[:, 1:]  # (B, A)
        chosen = present.sum(1) >= self.config.least_anchors
        present, hidden, padding = present[chosen], hidden[chosen], input_mask[chosen] == 0
        compared = (present.sum(0) > 0) & (present.sum(0) < len(present))  # words that some of these clips have, and some have not
        if not compared.any():
            return hidden.new_zeros(())
        present, anchors = present[:, compared], self.anchors.weight[compared]  # (B, A), (A, D)
        queries = anchors.expand(len(hidden), -1, -1)
        found, _ = self.look_up(queries, hidden, hidden, key_padding_mask=padding, need_weights=False)  # (B, A, D)
        similarity = F.cosine_similarity(found, queries, dim=-1)  # (B, A)
        with_it = (similarity * present).sum(0) / present.sum(0)
        without_it = (similarity * (1 - present)).sum(0) / (1 - present).sum(0)
        return F.relu(self.config.anchor_margin + without_it.mean() - with_it.mean())
