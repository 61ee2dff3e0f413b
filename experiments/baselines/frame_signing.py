"""What the production baselines share: a text in, frames of keypoints out, and their error weighted by part of the body.

Both have a text encoder and a Transformer decoder of the sizes that `TextToSign` has, and sign frame by frame where it signs segments.

Shapes: B clips, L text tokens, T frames, W frames in a window, K keypoints, C channels, H hidden size.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec
from transformers.utils import ModelOutput

from modeling_unigloR import keypoint_weights
from modeling_unigloR.configuration_uniglor import TEXT_ENCODER_DEFAULTS, TransformerConfig, UniGloRConfig, choice, inner, number
from modeling_unigloR.keypoints_uniglor import get_layout, stand_ins
from modeling_unigloR.limits_uniglor import MAX_CLIP_FRAMES, MAX_WINDOW_SIZE
from modeling_unigloR.modeling_layers_uniglor import UniGloRPreTrainedModel, check_ids, check_numbers, check_padding, exact
from modeling_unigloR.modeling_text_to_sign import text_encoder


class KeypointsConfig(UniGloRConfig):
    """Base class of the configurations of models whose loss is an error of keypoints: which, and how much each part counts."""

    layout: str = "uniglor73"  # a key of keypoints_uniglor.LAYOUTS
    num_channels: int = choice(2, 3)  # x and y, or x, y and z
    # Tab 5b; a weight is that of a window, as SignMAE's: windows of a clip lie end to end
    keypoint_weighting: str = choice("none", "fixed", "adaptive", "adaptive_as_printed")
    window_size: int = number(15, 1, MAX_WINDOW_SIZE)
    weight_variance: str = choice("pooled", "temporal")
    fixed_body_weight: float | int = number(1.0)
    fixed_face_weight: float | int = number(1.17)
    fixed_hand_weight: float | int = number(1.18)

    @property
    def num_keypoints(self) -> int:
        return len(get_layout(self.layout).names)

    @property
    def num_coordinates(self) -> int:
        return self.num_keypoints * self.num_channels


class TextFramesConfig(TransformerConfig):
    """Base class of the configurations of models from text to frames."""

    sub_configs_defaults = {"text_config": SubConfigSpec(AutoConfig, model_type="bert")}

    text_config: dict | PreTrainedConfig | None = inner()  # of the text encoder; a bert's missing fields are those of TextToSign's
    max_frames: int = number(600, 1, MAX_CLIP_FRAMES)  # of the longest clip: TextToSign's 40 segments of 15
    length_loss_weight: float | int = number(1.0)  # of what decides the length

    def __post_init__(self, **kwargs) -> None:
        if self.text_config is None or isinstance(self.text_config, dict):
            self.text_config = TEXT_ENCODER_DEFAULTS | (self.text_config or {})
        super().__post_init__(**kwargs)


@dataclass
class SigningOutput(ModelOutput):
    """What the models' `forward` returns.

    Attributes:
        loss: (), the weighted sum of the losses below.
        keypoint_loss: (), weighted squared error by present coordinates. length_loss: (). latent_loss: (), of NSLP-G only.
        keypoints: (B, T, K, C), the frames that are predicted.
        loss_sums: (B, terms), of each text, for `mean_loss`; no gradient.
    """

    loss: torch.Tensor | None = None
    keypoint_loss: torch.Tensor | None = None
    length_loss: torch.Tensor | None = None
    latent_loss: torch.Tensor | None = None
    keypoints: torch.Tensor | None = None
    loss_sums: torch.Tensor | None = None


class TextFramesModel(UniGloRPreTrainedModel):
    """Base class of the two models: encodes the text, and checks what it is given."""

    main_input_name = "input_ids"

    def __init__(self, config: TextFramesConfig) -> None:
        super().__init__(config)
        self.text_model = text_encoder(AutoModel.from_config(config.text_config))
        self.memory_projection = nn.Linear(config.text_config.hidden_size, config.hidden_size)

    def get_input_embeddings(self) -> nn.Module:
        return self.text_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.text_model.set_input_embeddings(value)

    def encode_text(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """What the text encoder says of each token (B, L, H'), and the tokens' mask (B, L)."""
        text_config = self.config.text_config
        check_ids("input_ids", input_ids, ("texts", "tokens"), text_config.vocab_size)
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        check_padding("attention_mask", attention_mask, input_ids.shape)
        longest = text_config.max_position_embeddings
        if input_ids.shape[1] > longest:
            raise ValueError(f"Found a text of {input_ids.shape[1]} tokens, but the text model reads {longest}. Cut the text in two.")
        around = torch.tensor([text_config.bos_token_id, text_config.eos_token_id], device=input_ids.device)
        words = (attention_mask != 0) & ~torch.isin(input_ids, around)
        if input_ids.device.type == "cpu" and not words.any(1).all():
            raise ValueError(f"Found an empty text in row {int((~words.any(1)).nonzero()[0])}, expected at least one word. Leave it out.")
        return self.text_model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state, attention_mask

    def check_clips(self, keypoints: torch.Tensor, keypoint_mask: torch.Tensor, frame_mask: torch.Tensor, num_texts: int) -> None:
        """Raises `ValueError` unless there is a clip for each text, none longer than the model signs."""
        config = getattr(self.config, "vae_config", self.config)
        check_numbers("keypoints", keypoints, ("clips", "frames", config.num_keypoints, config.num_channels))
        check_padding("frame_mask", frame_mask, keypoints.shape[:2])
        if len(keypoints) != num_texts or keypoint_mask.shape != keypoints.shape[:3]:
            raise ValueError(
                f"Found keypoints {tuple(keypoints.shape)} and keypoint_mask {tuple(keypoint_mask.shape)} for {num_texts} texts, expected "
                "a clip for each text, and a mask of its frames and points."
            )
        if keypoints.shape[1] > self.config.max_frames:
            raise ValueError(
                f"Found a clip of {keypoints.shape[1]} frames, but the model has max_frames={self.config.max_frames}. Leave the clip out, "
                "or train with a larger max_frames."
            )

    def check_num_frames(self, num_frames: int | Sequence[int] | torch.Tensor, num_texts: int) -> torch.Tensor:
        """(B,) int64 lengths that are asked for."""
        counts = torch.as_tensor(num_frames)
        inside = counts.dtype == torch.int64 and counts.shape in ((), (num_texts,))
        if not inside or (counts < 1).any() or (counts > self.config.max_frames).any():
            raise ValueError(
                f"Found num_frames={num_frames!r}, expected one int or one for each of {num_texts} texts, each from 1 to "
                f"max_frames={self.config.max_frames}."
            )
        return counts.expand(num_texts).to(self.device)


def frame_weights(keypoints: torch.Tensor, keypoint_mask: torch.Tensor, config: KeypointsConfig) -> torch.Tensor:
    """The pose weights (`keypoint_weights`) of whole clips: each frame has those of its window; (B, T, K, C), (B, T, K) -> (B, T, K)."""
    num_frames, missing = keypoints.shape[1], -keypoints.shape[1] % config.window_size
    windows = F.pad(keypoints, (0, 0, 0, 0, 0, missing)).unflatten(1, (-1, config.window_size))  # (B, S, W, K, C)
    masks = F.pad(keypoint_mask, (0, 0, 0, missing)).unflatten(1, (-1, config.window_size))
    weights = keypoint_weights(windows.flatten(0, 1), masks.flatten(0, 1), config)  # (B S, 1, K)
    return weights.unflatten(0, windows.shape[:2]).expand(-1, -1, config.window_size, -1).flatten(1, 2)[:, :num_frames]


def squared_error(predicted: torch.Tensor, keypoints: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Squared errors times the weights of their points, summed over all but the first dimension: (B, ..., K, C), (B, ..., K) -> (B,)."""
    return ((exact(predicted) - exact(keypoints)).square().sum(-1) * weights).flatten(1).sum(1)


def place_unseen(keypoints: torch.Tensor, presence: torch.Tensor, layout: str) -> torch.Tensor:
    """Puts points that the training clips never show where `KeypointProcessor` puts them, as judges expect: (..., K, C), (K,) -> same."""
    return keypoints[..., torch.from_numpy(stand_ins(layout, presence.bool().cpu().numpy())).to(keypoints.device), :]
