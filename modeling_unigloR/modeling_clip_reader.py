"""ClipReadingModel: the part that `SignToText` and `SignRecognition` share, from a clip's keypoints to the input of a Transformer.

Shapes: B clips, T frames, S segments (or frames that are read), K keypoints, C channels, D size of a latent, or of the Transformer.
"""

import torch
from torch import nn
from transformers import initialization as init
from transformers.utils import logging

from .configuration_uniglor import SignRecognitionConfig, SignToTextConfig
from .modeling_layers_uniglor import KeypointNorm, UniGloRPreTrainedModel, check_numbers, check_padding
from .modeling_sign_mae import SignMAEEncoderModel, SignMAEPreTrainedModel

logger = logging.get_logger(__name__)

WHITENING_FLOOR = 0.01  # added to variances whose mean is 1, so that directions of very small variance are not blown up to the others' size


class ClipReadingModel(UniGloRPreTrainedModel):
    """Base class of models that encode a whole clip: `SignToText` and `SignRecognition`.

    With `config.sign_encoder="segments"` a clip becomes the latents of a frozen SignMAE, with "frames" every frame's keypoints; one
    linear layer makes them vectors of the size that the task's Transformer reads.

    This is a base class and no module of its own so that the names of a checkpoint's tensors stay: `sign_mae`, `projection`, ...
    """

    main_input_name = "keypoints"
    sign_mae: SignMAEEncoderModel  # with sign_encoder="segments"
    latent_whitening: torch.Tensor
    _keys_to_ignore_on_load_missing = ["latent_whitening"]  # checkpoints from before it have none: it is the identity

    def __init__(self, config: SignToTextConfig | SignRecognitionConfig, size: int) -> None:
        super().__init__(config)
        signing = config.sign_mae_config
        if config.sign_encoder == "segments":
            self.sign_mae = SignMAEEncoderModel._from_config(signing)
            self.register_buffer("latent_whitening", torch.eye(signing.hidden_size))
            self.projection = nn.Linear(signing.hidden_size, size)
        else:
            self.frame_norm = KeypointNorm(signing.num_keypoints, signing.num_channels)
            self.projection = nn.Linear(signing.num_keypoints * signing.num_channels, size)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, ClipReadingModel) and self.config.sign_encoder == "segments":
            init.copy_(module.latent_whitening, torch.eye(len(module.latent_whitening)))

    def _read_with(self, sign_mae: SignMAEPreTrainedModel) -> None:
        """Takes the weights of a pretrained encoder."""
        names = self.sign_mae.state_dict().keys()
        self.sign_mae.load_state_dict({name: value for name, value in sign_mae.state_dict().items() if name in names})
        if (self.sign_mae.latent_std == 1).all():
            # Measured: with latents that are not standardised a model of 128 dimensions does not learn 16 clips by heart in 100 steps.
            logger.warning(
                "The SignMAE has no statistics of its latents (latent_std is 1 everywhere). What distinguishes clips is then a small "
                "part of them, and training starts slowly or not at all. train/pretrain.py sets the statistics at its end; for a SignMAE "
                "made by hand call sign_mae.set_latent_statistics(mean, std) of the latents of the training clips first."
            )

    def embed(
        self,
        keypoints: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        latents: torch.Tensor | None = None,
        latent_mask: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The input of the task's Transformer: (B, S, D), and its mask (B, S)."""
        frames = self.config.sign_encoder == "frames"
        if keypoints is not None and latents is None:
            if frames:
                return self._embed_frames(keypoints, attention_mask)
            latents, latent_mask = self.encode_sequence(keypoints, attention_mask)
        elif latents is not None and keypoints is None:
            if frames:
                raise ValueError("Found latents, but this model has sign_encoder='frames': it reads keypoints (B, T, K, C).")
            check_numbers("latents", latents, ("clips", "segments", len(self.latent_whitening)), self.projection.weight)
            if latent_mask is None:
                latent_mask = torch.ones(latents.shape[:2], dtype=torch.long, device=latents.device)
            check_padding("latent_mask", latent_mask, latents.shape[:2])
        else:
            raise ValueError("Give either keypoints (B, T, K, C) with attention_mask, or latents (B, S, D) with latent_mask.")
        whitened = latents.to(self.latent_whitening.dtype) @ self.latent_whitening
        return self.projection(whitened.to(latents.dtype)), latent_mask

    @torch.no_grad()
    def set_latent_whitening(self, latents: torch.Tensor) -> None:
        """Sets the whitening: latents are rotated to their principal axes and scaled to similar variances before the Transformer.

        Standardised latents are far from white: a few directions hold nearly all of their variance, and the differences between signs
        lie in directions of small variance, which a Transformer learns to use late.

        Args:
            latents: (N, D), standardised, of the clips that the model is trained on.
        """
        latents = latents.double()
        variances, axes = torch.linalg.eigh(torch.cov(latents.T))
        whitening = axes * torch.rsqrt(variances.clamp_min(0) + WHITENING_FLOOR)  # (D, D)
        self.latent_whitening.copy_(whitening / (latents @ whitening).std())

    def encode_sequence(self, keypoints: torch.Tensor, attention_mask: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Latents and their mask: (B, T, K, C), (B, T) -> (B, S, D), (B, S). Training scripts cache them."""
        if self.config.sign_encoder == "frames":
            raise ValueError("This model has sign_encoder='frames': it reads keypoints, and has no latents.")
        encoded = self.sign_mae(keypoints, attention_mask, self.config.stride)
        return encoded.latents, encoded.latent_mask

    def _embed_frames(self, keypoints: torch.Tensor, attention_mask: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        points = self.config.sign_mae_config.num_keypoints, self.config.sign_mae_config.num_channels
        check_numbers("keypoints", keypoints, ("clips", "frames", *points), self.projection.weight)
        if attention_mask is None:
            attention_mask = torch.ones(keypoints.shape[:2], dtype=torch.long, device=keypoints.device)
        check_padding("attention_mask", attention_mask, keypoints.shape[:2])
        keypoints, attention_mask = keypoints[:, :: self.config.frame_stride], attention_mask[:, :: self.config.frame_stride]
        real = attention_mask.bool()
        frames = self.frame_norm(keypoints[real][:, None])  # padding must not enter the statistics of the norm
        tokens = self.projection(frames.flatten(1))
        return tokens.new_zeros(*real.shape, tokens.shape[-1]).index_put((real,), tokens), attention_mask

    def _frozen_parts(self) -> list[nn.Module]:
        return [self.sign_mae] if self.config.sign_encoder == "segments" and self.config.freeze_sign_mae else []
