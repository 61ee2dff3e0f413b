"""Configurations of the UniGloR models. Defaults are the paper's; what the paper leaves open is marked "ours"."""

from transformers import AutoConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec
from transformers.utils import logging

from .keypoints_uniglor import get_layout, layout_hash

VERSION = "0.1.0"  # of the package: here, since this file travels with every checkpoint

logger = logging.get_logger(__name__)


class UniGloRConfig(PreTrainedConfig):
    """What every configuration of this package does: check its values with `_validate`, say what made it, and travel without its
    pipeline's path.

    Attributes:
        uniglor_version: of the package that made the configuration, through every load and save; None where it was written before
            configurations said so.
    """

    def __post_init__(self, **kwargs):
        # What was saved has a model_type: without a version there, nobody knows which it was.
        self.uniglor_version = kwargs.pop("uniglor_version", None if "model_type" in kwargs else VERSION)
        self._warn_of_newer_version()  # before the checks, which may not know its values
        if not __name__.startswith("transformers_modules."):
            # Installed, the registered pipeline serves this checkpoint: no remote code is asked for.
            kwargs.pop("custom_pipelines", None)
        super().__post_init__(**kwargs)
        self._validate()

    def _warn_of_newer_version(self):
        if self.uniglor_version is not None and _major(self.uniglor_version) > _major(VERSION):
            logger.warning(
                f"This {type(self).__name__} was made by uniglor {self.uniglor_version}, and this is uniglor {VERSION}: its values may "
                "mean something else here. Upgrade the package, or load it where the package is not installed, with trust_remote_code=True."
            )

    def _validate(self):
        pass

    def _check_choice(self, field, choices):
        if getattr(self, field) not in choices:
            raise ValueError(f"{field}={getattr(self, field)!r} must be one of {', '.join(map(repr, choices))}.")

    def _check_at_least(self, minimum, *fields):
        for field in fields:
            if getattr(self, field) < minimum:
                raise ValueError(f"{field}={getattr(self, field)!r} must be at least {minimum}.")


def _major(version):
    try:
        return int(str(version).split(".")[0])
    except ValueError as error:
        raise ValueError(f"uniglor_version={version!r} must be a version such as {VERSION!r}.") from error


class SignMAEConfig(UniGloRConfig):
    """Configuration of `SignMAE` (paper sections 3.2, 3.3, appendix B.2)."""

    model_type = "sign_mae"

    # Keypoints
    layout: str = "uniglor73"
    layout_hash: str | None = None  # filled in; a checkpoint whose layout's points changed since is refused
    num_channels: int = 2

    # Segments
    window_size: int = 15  # frames in a segment: about one sign (section 4.2)
    stride: int = 7  # frames between segment starts in sign-to-text (Fig 3)

    # Features: CTR-GC block, then multi-scale temporal block
    graph_channels: int = 64
    relation_channels: int = 8  # ours, as CTR-GCN for a first layer
    temporal_branch_channels: int = 16  # ours: six branches, 96 channels
    temporal_kernel_size: int = 3
    temporal_dilations: list[int] | None = None  # [1, 2, 3, 4]
    block_norm: str = "calibrated"  # ours: statistics are set before training; "batch" is as cited; or "layer"

    # Transformers, as Joint-SLT (appendix B.2)
    hidden_size: int = 512
    num_hidden_layers: int = 3
    decoder_num_hidden_layers: int = 3
    num_attention_heads: int = 8
    intermediate_size: int = 2048
    hidden_act: str = "relu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    layer_norm_eps: float = 1e-6
    initializer_range: float = 0.02

    # Masking (appendix B.2)
    mask_ratio: float = 0.25
    mask_stage: str = "tokens"  # "keypoints" hides a frame before the graph block too
    mask_strategy: str = "replace"  # by a learned token; or "drop" the tokens, as MAE

    # Decoder
    decoding: str = "parallel"  # or "autoregressive" (Tab 4a)
    query_type: str = "learned"  # or "sinusoidal" (Tab 4b)
    latent_views: int | None = None  # ours: window_size views of z, one for each frame; 1 is the reading of the paper's text

    # Loss (section 3.3)
    keypoint_weighting: str = "adaptive"  # ours: minus sign; "adaptive_as_printed" is Eq 1; "fixed" (Tab 5), "none"
    weight_variance: str = "pooled"  # over frames and points; or "temporal": of each point over frames, then the mean
    fixed_body_weight: float = 1.0
    fixed_face_weight: float = 1.17  # section 6
    fixed_hand_weight: float = 1.18

    def __post_init__(self, **kwargs):
        if self.temporal_dilations is None:
            self.temporal_dilations = [1, 2, 3, 4]
        if self.latent_views is None:
            self.latent_views = self.window_size
        saved_hash, self.layout_hash = self.layout_hash, layout_hash(self.layout)
        if saved_hash not in (None, self.layout_hash):
            raise ValueError(
                f"This checkpoint was trained on layout {self.layout!r} with hash {saved_hash}, but the installed package's has hash "
                f"{self.layout_hash}: its points differ. Load it with the version that wrote it, or without this package and with "
                "trust_remote_code=True."
            )
        super().__post_init__(**kwargs)

    @property
    def num_keypoints(self):
        return len(get_layout(self.layout).names)

    @property
    def num_masked_frames(self):
        return round(self.mask_ratio * self.window_size)

    def _validate(self):
        self._check_choice("num_channels", (2, 3))
        self._check_choice("block_norm", ("calibrated", "batch", "layer"))
        self._check_choice("mask_stage", ("tokens", "keypoints"))
        self._check_choice("mask_strategy", ("replace", "drop"))
        self._check_choice("decoding", ("parallel", "autoregressive"))
        self._check_choice("query_type", ("learned", "sinusoidal"))
        self._check_choice("keypoint_weighting", ("adaptive", "adaptive_as_printed", "fixed", "none"))
        self._check_choice("weight_variance", ("pooled", "temporal"))
        self._check_at_least(1, "window_size", "stride", "graph_channels", "relation_channels", "temporal_branch_channels")
        self._check_at_least(1, "num_hidden_layers", "decoder_num_hidden_layers", "num_attention_heads")
        if self.hidden_size % (2 * self.num_attention_heads):
            raise ValueError(
                f"hidden_size={self.hidden_size} must be an even multiple of num_attention_heads={self.num_attention_heads} "
                "(sinusoidal positions come in pairs)."
            )
        if not 0 <= self.mask_ratio < 1 or self.num_masked_frames >= self.window_size:
            raise ValueError(f"mask_ratio={self.mask_ratio} must leave at least one of window_size={self.window_size} frames visible.")
        if self.latent_views not in (1, self.window_size):
            raise ValueError(f"latent_views={self.latent_views} must be 1 or window_size={self.window_size} (None chooses the latter).")


# The text model of sign-to-text where no pretrained one is given: Joint-SLT's sizes (appendix B.2), and as there pre-norm layers,
# which is mBART's architecture; init_std is d_model ** -0.5, as Xavier's. Ids are those of the tokenizers that the training script
# makes; mBART's decoder starts with the end of a sentence.
TEXT_DEFAULTS = {
    "model_type": "mbart",
    "vocab_size": 3000,
    "d_model": 512,
    "encoder_layers": 3,
    "decoder_layers": 3,
    "encoder_attention_heads": 8,
    "decoder_attention_heads": 8,
    "encoder_ffn_dim": 2048,
    "decoder_ffn_dim": 2048,
    "dropout": 0.1,
    "attention_dropout": 0.1,
    "activation_function": "relu",
    "max_position_embeddings": 1024,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 2,
    "forced_eos_token_id": None,
}


class SignToTextConfig(UniGloRConfig):
    """Configuration of `SignToText` (paper section 3.4): a SignMAE that reads, and any encoder-decoder of `AutoModelForSeq2SeqLM`."""

    model_type = "sign_to_text"
    sub_configs_defaults = {
        "sign_mae_config": SignMAEConfig,
        "text_config": SubConfigSpec(AutoConfig, model_type="mbart"),
    }

    sign_mae_config: dict | PreTrainedConfig | None = None  # with sign_encoder="frames", only its layout and channels are read
    text_config: dict | PreTrainedConfig | None = None  # an mbart's missing fields are TEXT_DEFAULTS
    is_encoder_decoder: bool = True

    # Signing
    sign_encoder: str = "segments"  # or "frames": Joint-SLT's way, each frame's keypoints (Tab 1)
    stride: int | None = None  # frames between segment starts; sign_mae_config's by default
    frame_stride: int = 1  # of "frames": every how manieth frame is read
    freeze_sign_mae: bool = True

    # Text model
    freeze_text_model: bool = False  # only what leads the signing into it is trained
    lora_rank: int = 0  # above 0: low-rank adapters in the text model are trained, in place of its weights (needs peft)
    lora_alpha: int = 32
    lora_dropout: float = 0.1
    lora_targets: list[str] | None = None  # names of linear layers; queries and values by default
    label_smoothing: float = 0.0

    # Baselines (Tab 1)
    gloss_loss_weight: float = 0.0  # CTC on glosses, "frames" only: Joint-SLT with glosses (Camgoz et al. 2020)
    glosses: list[str] | None = None  # the annotators' labels, in the order of the CTC head; its output 0 is the blank
    contrastive_loss_weight: float = 0.0  # ConSLT (Fu et al. 2023)
    contrastive_negatives: int = 500  # tokens drawn from the vocabulary, not in the sentence
    contrastive_temperature: float = 0.1

    def __post_init__(self, **kwargs):
        if self.text_config is None or isinstance(self.text_config, dict):
            given = self.text_config or {}
            if given.get("model_type", "mbart") == "mbart":
                given = {**TEXT_DEFAULTS, **given}
                given.setdefault("init_std", given["d_model"] ** -0.5)
            self.text_config = given
        super().__post_init__(**kwargs)
        if self.stride is None:
            self.stride = self.sign_mae_config.stride

    @property
    def layout(self):
        return self.sign_mae_config.layout

    def _validate(self):
        self._check_choice("sign_encoder", ("segments", "frames"))
        self._check_at_least(1, "frame_stride")
        self._check_at_least(0, "lora_rank", "gloss_loss_weight", "contrastive_loss_weight", "label_smoothing")
        if not self.text_config.is_encoder_decoder:
            raise ValueError(
                f"text_config is a {self.text_config.model_type!r}, expected an encoder-decoder such as bart, mbart, marian, mt5."
            )
        if self.gloss_loss_weight and self.sign_encoder != "frames":
            raise ValueError("gloss_loss_weight needs sign_encoder='frames': glosses have no place in a segment (Joint-SLT only).")
        if self.gloss_loss_weight and not self.glosses:
            raise ValueError("gloss_loss_weight is above 0, but glosses is empty. Expected the list of the training set's glosses.")
        if self.freeze_text_model and self.lora_rank:
            raise ValueError(f"freeze_text_model=True and lora_rank={self.lora_rank} exclude each other.")


# The text encoder of text-to-sign where no pretrained one is given, ours: a BERT of the other Transformers' sizes. Ids are those of the
# tokenizers that the training script makes.
TEXT_ENCODER_DEFAULTS = {
    "model_type": "bert",
    "vocab_size": 3000,
    "hidden_size": 512,
    "num_hidden_layers": 3,
    "num_attention_heads": 8,
    "intermediate_size": 2048,
    "hidden_act": "relu",
    "type_vocab_size": 1,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}

# Their tokenizers put no token before a text.
TEXT_ENCODERS_WITHOUT_HEAD_TOKEN = ("t5", "mt5", "umt5", "longt5", "mbart", "m2m_100", "marian", "pegasus")


class TextToSignConfig(UniGloRConfig):
    """Configuration of `TextToSign` (paper section 3.4): any text encoder of `AutoModel`, and a SignMAE that moves."""

    model_type = "text_to_sign"
    sub_configs_defaults = {
        "sign_mae_config": SignMAEConfig,
        "text_config": SubConfigSpec(AutoConfig, model_type="bert"),
    }

    sign_mae_config: dict | PreTrainedConfig | None = None
    text_config: dict | PreTrainedConfig | None = None  # a bert's missing fields are TEXT_ENCODER_DEFAULTS

    # Text encoder
    head: str | None = None  # what leads the length: "token", the first; "mean" of all; None chooses by the text model's type
    freeze_text_model: bool = False

    # Latents
    max_segments: int = 128  # learned queries, the longest clip in segments (appendix B.2)
    last_segment: str = "hold"  # ours: the frames that do not fill a last segment are held at the last; or "drop" them

    # Transformer decoder, as Joint-SLT (appendix B.2)
    hidden_size: int = 512
    num_hidden_layers: int = 3
    num_attention_heads: int = 8
    intermediate_size: int = 2048
    hidden_act: str = "relu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    layer_norm_eps: float = 1e-6
    initializer_range: float = 0.02

    # Loss (Eq 4 to 6)
    latent_loss_weight: float = 1.0
    length_loss_weight: float = 1.0
    keypoint_loss_weight: float = 0.0  # ours: squared error of what the frozen decoder makes of the latents

    def __post_init__(self, **kwargs):
        if self.text_config is None or isinstance(self.text_config, dict):
            given = self.text_config or {}
            if given.get("model_type", "bert") == "bert":
                given = {**TEXT_ENCODER_DEFAULTS, **given}
            self.text_config = given
        super().__post_init__(**kwargs)

    @property
    def layout(self):
        return self.sign_mae_config.layout

    def _validate(self):
        if self.head is None:
            self.head = "mean" if self.text_config.model_type in TEXT_ENCODERS_WITHOUT_HEAD_TOKEN else "token"
        self._check_choice("head", ("token", "mean"))
        self._check_choice("last_segment", ("hold", "drop"))
        self._check_at_least(1, "max_segments", "num_hidden_layers", "num_attention_heads", "intermediate_size")
        self._check_at_least(0, "latent_loss_weight", "length_loss_weight", "keypoint_loss_weight")
        if self.hidden_size % (2 * self.num_attention_heads):
            raise ValueError(
                f"hidden_size={self.hidden_size} must be an even multiple of num_attention_heads={self.num_attention_heads} "
                "(sinusoidal positions come in pairs)."
            )


class SignRecognitionConfig(UniGloRConfig):
    """Configuration of `SignRecognition` (paper section 5, Tab 3): a SignMAE that reads, a Transformer encoder, one linear layer.

    The classes are `id2label`, as everywhere in transformers.
    """

    model_type = "sign_recognition"
    sub_configs_defaults = {"sign_mae_config": SignMAEConfig}

    sign_mae_config: dict | PreTrainedConfig | None = None  # with sign_encoder="frames", only its layout and channels are read

    # Signing
    sign_encoder: str = "segments"  # or "frames": each frame's keypoints, the baseline
    stride: int | None = None  # frames between segment starts; sign_mae_config's by default
    frame_stride: int = 1  # of "frames": every how manieth frame is read
    freeze_sign_mae: bool = True

    # Transformer encoder, SignMAE's sizes (section 5)
    hidden_size: int = 512
    num_hidden_layers: int = 3
    num_attention_heads: int = 8
    intermediate_size: int = 2048
    hidden_act: str = "relu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    layer_norm_eps: float = 1e-6
    initializer_range: float = 0.02

    # Loss
    label_smoothing: float = 0.0

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        if self.stride is None:
            self.stride = self.sign_mae_config.stride

    @property
    def layout(self):
        return self.sign_mae_config.layout

    def _validate(self):
        self._check_choice("sign_encoder", ("segments", "frames"))
        self._check_at_least(1, "frame_stride", "num_hidden_layers", "num_attention_heads", "intermediate_size")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing={self.label_smoothing} must be at least 0 and below 1.")
        if self.hidden_size % (2 * self.num_attention_heads):
            raise ValueError(
                f"hidden_size={self.hidden_size} must be an even multiple of num_attention_heads={self.num_attention_heads} "
                "(sinusoidal positions come in pairs)."
            )
        if sorted(self.id2label) != list(range(self.num_labels)):
            raise ValueError(
                f"id2label has the keys {sorted(self.id2label)[:8]} ..., expected 0 to {self.num_labels - 1}, one for each output of the "
                "head. Number the labels anew, or name those that are missing."
            )


SignMAEConfig.register_for_auto_class("AutoConfig")
SignToTextConfig.register_for_auto_class("AutoConfig")
TextToSignConfig.register_for_auto_class("AutoConfig")
SignRecognitionConfig.register_for_auto_class("AutoConfig")
