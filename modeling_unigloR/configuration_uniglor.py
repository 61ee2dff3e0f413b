"""Configurations of the UniGloR models. Defaults are the paper's; what the paper leaves open is marked "ours"."""

import dataclasses
import functools
import inspect
import re
import reprlib
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from huggingface_hub.dataclasses import strict, validated_field
from huggingface_hub.errors import StrictDataclassError, StrictDataclassFieldValidationError
from transformers import AutoConfig, PreTrainedConfig
from transformers.activations import ACT2FN
from transformers.configuration_utils import SubConfigSpec
from transformers.utils import logging

from .keypoints_uniglor import get_layout, layout_hash
from .limits_uniglor import (
    MAX_CLIP_FRAMES,
    MAX_CODEBOOK_SIZE,
    MAX_CODEBOOKS,
    MAX_DILATIONS,
    MAX_HIDDEN_SIZE,
    MAX_LABELS,
    MAX_LAYERS,
    MAX_POSITIONS,
    MAX_SEGMENTS,
    MAX_VOCABULARY,
    MAX_WINDOW_SIZE,
)

VERSION = "0.1.0"  # of the package: here, since this file travels with every checkpoint

logger = logging.get_logger(__name__)

Config = TypeVar("Config", bound=PreTrainedConfig)


# --- Checks -----------------------------------------------------------------------------------------------------------------------


def number(
    default: float | None, at_least: float = 0, at_most: float = sys.float_info.max, above: float | None = None, below: float | None = None
) -> Any:
    """A field for a number, or for a list of numbers, within limits; None is accepted where the type of the field allows it."""
    limits = [f"above {above}" if above is not None else f"at least {at_least}"]
    if below is not None:
        limits.append(f"below {below}")
    elif at_most != sys.float_info.max:
        limits.append(f"at most {at_most}")

    def check(value: Any) -> None:
        for each in value if isinstance(value, (list, tuple)) else () if value is None else (value,):
            inside = (at_least <= each if above is None else above < each) and (each <= at_most if below is None else each < below)
            if not inside:  # NaN is not inside either
                raise ValueError(f"must be {' and '.join(limits)}.")

    return validated_field(check, default=default)


def choice(default: str | int | None, *others: str | int) -> Any:
    """A field for its default or one of the others; None is accepted where the type of the field allows it."""
    choices = others if default is None else (default, *others)

    def check(value: Any) -> None:
        if value is not None and value not in choices:
            raise ValueError(f"must be one of {', '.join(map(repr, choices))}.")

    return validated_field(check, default=default)


def activation(default: str) -> Any:
    """A field for the name of an activation function of transformers."""

    def check(value: Any) -> None:
        if value not in ACT2FN:
            raise ValueError("must be the name of an activation of transformers, such as 'relu' or 'gelu'.")

    return validated_field(check, default=default)


def inner() -> Any:
    """A field for the configuration of a part: a dict or a configuration when it is set, a configuration afterwards."""
    return dataclasses.field(default=None)


def checked(config_class: type[Config]) -> type[Config]:
    """Decorates a configuration: `@strict`, as transformers' own, but errors are `ValueError`s that say what was expected."""
    kind: Any = strict(config_class)
    make, assign, validate = kind.__init__, kind.__setattr__, kind.validate
    types = {field.name: getattr(field.type, "__name__", str(field.type)) for field in dataclasses.fields(kind)}

    @functools.wraps(make)
    def checked_init(self: Config, *args: Any, **kwargs: Any) -> None:
        try:
            _warn_of_newer_version(config_class, kwargs.get("uniglor_version"))  # before the checks, which may not know its values
            _refuse_reserved_names(config_class, kwargs)
            _refuse_huge(kwargs)  # before entries are checked one by one, and before anything is made of them
            make(self, *args, **kwargs)
        except (StrictDataclassError, TypeError, AttributeError, LookupError, ArithmeticError, RecursionError) as error:
            raise ValueError(f"{config_class.__name__} cannot be made of these values. {error}") from error

    @functools.wraps(assign)
    def checked_setattr(self: Config, name: str, value: Any) -> None:
        try:
            assign(self, name, value)
        except StrictDataclassFieldValidationError as error:
            reason = str(error.__cause__) if isinstance(error.__cause__, ValueError) else f"must be of type {types.get(name, '')}."
            raise ValueError(f"{name}={reprlib.repr(value)} {reason}") from error

    @functools.wraps(validate)
    def checked_validate(self: Config) -> None:
        try:
            validate(self)
        except StrictDataclassError as error:
            raise ValueError(str(error.__cause__)) from error

    kind.__init__, kind.__setattr__, kind.validate = checked_init, checked_setattr, checked_validate
    return kind


def _warn_of_newer_version(config_class: type, version: object) -> None:
    if version is not None and _major(version) > _major(VERSION):
        logger.warning(
            f"This {config_class.__name__} was made by uniglor {version}, and this is uniglor {VERSION}: its values may mean something "
            "else here. Upgrade the package, or load it where the package is not installed, with trust_remote_code=True."
        )


def _major(version: object) -> int:
    try:
        return int(str(version).split(".")[0])
    except ValueError as error:
        raise ValueError(f"uniglor_version={version!r} must be a version such as {VERSION!r}.") from error


def _refuse_reserved_names(config_class: type, fields: Mapping[str, Any]) -> None:
    """Fields of a config.json become attributes: none of them may replace a method or a computed property."""
    for name in fields:
        own = inspect.getattr_static(config_class, name, None)
        computed = isinstance(own, property) and own.fset is None
        if name.startswith("__") or computed or isinstance(own, (staticmethod, classmethod)) or inspect.isfunction(own):
            raise ValueError(f"{config_class.__name__} computes {name!r} itself. Leave this field out.")


# Upper limits of fields with such names, in any configuration of transformers. Layers and labels are Python objects that are made before
# any weight is read, and tables of positions need not be in a checkpoint.
MOST = (
    (re.compile(r"(layers?|blocks|groups?|group_num|experts|depth)$"), MAX_LAYERS),
    (re.compile(r"num_labels$"), MAX_LABELS),
    (re.compile(r"vocab_size$"), MAX_VOCABULARY),
    (re.compile(r"position"), MAX_POSITIONS),
    (re.compile(r"^d_|dim$|hidden_size$|intermediate_size$|embedding_size$|heads$"), MAX_HIDDEN_SIZE),
)
LONGEST = {"id2label": MAX_LABELS, "label2id": MAX_LABELS, "glosses": MAX_LABELS, "temporal_dilations": MAX_DILATIONS}


def _refuse_huge(fields: Mapping[str, Any], place: str = "") -> None:
    """Raises `ValueError` where a field, also of an inner configuration, is larger than in any sensible model."""
    for name, value in fields.items():
        if isinstance(value, PreTrainedConfig):
            value = vars(value)
        if name in LONGEST and hasattr(value, "__len__"):
            if len(value) > LONGEST[name]:
                raise ValueError(f"{place}{name} has {len(value)} entries, expected at most {LONGEST[name]}.")
        elif isinstance(value, dict):
            _refuse_huge(value, f"{place}{name}.")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            most = next((most for pattern, most in MOST if pattern.search(str(name))), value)
            if value > most:
                raise ValueError(f"{place}{name}={reprlib.repr(value)} must be at most {most}.")


class UniGloRConfig(PreTrainedConfig):
    """Base class of the configurations of this package: it checks values and notes the version of the package.

    Types and ranges are checked whenever a field is set. Conditions on several fields are checked by `validate`, which runs when a
    configuration is made, when it is saved and when a model is made of it. So fields may be set one after the other:
    `config.update({"hidden_size": 96, "num_attention_heads": 6})`, then `config.validate()`.

    Attributes:
        uniglor_version: of the package that made the configuration; loading and saving keep it. None where a configuration was saved
            before this field existed.
    """

    keys_to_ignore_at_inference = ["past_key_values", "loss_sums"]

    def __post_init__(self, **kwargs: Any) -> None:
        # Saved configurations have a model_type; without a version there, the version is unknown.
        self.uniglor_version = kwargs.pop("uniglor_version", None if "model_type" in kwargs else VERSION)
        if not __name__.startswith("transformers_modules."):
            # Where the package is installed, its registered pipeline is used, and no remote code is asked for.
            kwargs.pop("custom_pipelines", None)
        super().__post_init__(**kwargs)

    def _check_sign_mae(self) -> None:
        if self.sign_mae_config.model_type != "sign_mae":
            raise ValueError(f"sign_mae_config is a {self.sign_mae_config.model_type!r}, expected a 'sign_mae'.")


class TransformerConfig(UniGloRConfig):
    """Base class of the configurations with a Transformer of their own: the sizes of Joint-SLT's (appendix B.2)."""

    hidden_size: int = number(512, 2, MAX_HIDDEN_SIZE)  # of each token; an even multiple of num_attention_heads
    num_hidden_layers: int = number(3, 1, MAX_LAYERS)  # layers of the Transformer; of a SignMAE, those of its encoder
    num_attention_heads: int = number(8, 1, MAX_HIDDEN_SIZE)  # attention heads of each layer
    intermediate_size: int = number(2048, 1, MAX_HIDDEN_SIZE)  # hidden units of each layer's feed-forward network
    hidden_act: str = activation("relu")  # activation of the feed-forward networks, by its name in transformers
    hidden_dropout_prob: float | int = number(0.1, below=1)  # dropout of what the layers compute
    attention_probs_dropout_prob: float | int = number(0.1, below=1)  # dropout of the attention weights
    layer_norm_eps: float | int = number(1e-6)  # added to the variance in each layer norm
    initializer_range: float | int = number(0.02)  # standard deviation of the initial weights

    def validate_architecture(self) -> None:
        super().validate_architecture()
        if self.hidden_size % (2 * self.num_attention_heads):
            raise ValueError(
                f"hidden_size={self.hidden_size} must be an even multiple of num_attention_heads={self.num_attention_heads} "
                "(sinusoidal positions come in pairs)."
            )


# --- SignMAE ----------------------------------------------------------------------------------------------------------------------

STREAMS = ("position", "offset", "velocity")  # what a SignMAE may read of every keypoint


@checked
class SignMAEConfig(TransformerConfig):
    """Configuration of `SignMAE` (paper sections 3.2, 3.3, appendix B.2)."""

    model_type = "sign_mae"

    # Keypoints
    layout: str = "uniglor73"  # the keypoints that the model reads, a key of keypoints_uniglor.LAYOUTS
    layout_hash: str | None = None  # filled in; a checkpoint whose layout's points changed since is refused
    num_channels: int = choice(2, 3)  # coordinates of a keypoint: x and y, or x, y and z

    # Segments
    window_size: int = number(15, 1, MAX_WINDOW_SIZE)  # frames in a segment: about one sign (section 4.2)
    stride: int = number(7, 1, MAX_CLIP_FRAMES)  # frames between segment starts in sign-to-text (Fig 3)

    # What the encoder reads of a frame
    input_whitening: int = number(0, 0, MAX_HIDDEN_SIZE)  # ours: principal axes of a frame, each / its spread, in its token too; 0: none
    # Channels of the graph block: "position" is the paper's; ours: "offset" from the point that a point hangs on (a finger's from the
    # wrist), "velocity" from frame to frame
    input_streams: list[str] | tuple[str, ...] | None = None
    # Ours: latent and reconstruction have a linear part beside what the networks compute, which starts as principal components of windows
    linear_skip: bool = False

    # Features: CTR-GC block, then multi-scale temporal block
    graph_channels: int = number(64, 0, MAX_HIDDEN_SIZE)  # channels of the graph convolution, for each keypoint; ours: 0, neither block
    relation_channels: int = number(8, 1, MAX_HIDDEN_SIZE)  # ours, as CTR-GCN for a first layer
    temporal_branch_channels: int = number(16, 1, MAX_HIDDEN_SIZE)  # ours: six branches, 96 channels
    temporal_kernel_size: int = number(3, 1, MAX_WINDOW_SIZE)  # frames that a temporal convolution spans
    temporal_dilations: list[int] | tuple[int, ...] | None = number(None, 1, MAX_WINDOW_SIZE)  # of its branches; [1, 2, 3, 4]
    # Ours: statistics are set before training; "batch" is as cited; or "layer"
    block_norm: str = choice("calibrated", "batch", "layer")

    # Masking (appendix B.2)
    mask_ratio: float | int = number(0.25, at_most=1)  # share of a window's frames that the encoder does not see
    mask_stage: str = choice("tokens", "keypoints")  # "keypoints" hides a frame before the graph block too
    mask_strategy: str = choice("replace", "drop")  # masked tokens are replaced by a learned one; or dropped, as MAE does

    # Decoder
    decoder_num_hidden_layers: int = number(3, 1, MAX_LAYERS)  # layers of the decoder; its other sizes are the encoder's
    decoding: str = choice("parallel", "autoregressive")  # how frames are decoded, all at once or one after the other (Tab 4a)
    query_type: str = choice("learned", "sinusoidal")  # the decoder's queries (Tab 4b)
    # What the latent becomes for the decoder's cross-attention. Ours: window_size, one for each frame; 1 is the reading of the paper's text
    num_memory_tokens: int | None = number(None, 1, MAX_WINDOW_SIZE)

    # Loss (section 3.3)
    # Ours: minus sign; "adaptive_as_printed" is Eq 1; "fixed" (Tab 5), "none"
    keypoint_weighting: str = choice("adaptive", "adaptive_as_printed", "fixed", "none")
    # Over frames and points; ours: "temporal", of each point over frames, then the mean; "moving", the mean over the points that move
    weight_variance: str = choice("pooled", "temporal", "moving")
    fixed_body_weight: float | int = number(1.0)  # of the body's points with keypoint_weighting "fixed" (section 6)
    fixed_face_weight: float | int = number(1.17)  # of the face's points, the same
    fixed_hand_weight: float | int = number(1.18)  # of the hands' points, the same

    def __post_init__(self, **kwargs: Any) -> None:
        self.input_streams = ["position"] if self.input_streams is None else list(self.input_streams)
        self.temporal_dilations = [1, 2, 3, 4] if self.temporal_dilations is None else list(self.temporal_dilations)
        if self.num_memory_tokens is None:
            self.num_memory_tokens = self.window_size
        saved_hash, self.layout_hash = self.layout_hash, layout_hash(self.layout)
        if saved_hash not in (None, self.layout_hash):
            raise ValueError(
                f"This checkpoint was trained on layout {self.layout!r} with hash {saved_hash}, but the installed package's has hash "
                f"{self.layout_hash}: its points differ. Load it with the version that wrote it, or without this package and with "
                "trust_remote_code=True."
            )
        super().__post_init__(**kwargs)

    @property
    def num_keypoints(self) -> int:
        return len(get_layout(self.layout).names)

    @property
    def num_masked_frames(self) -> int:
        return round(self.mask_ratio * self.window_size)

    def validate_architecture(self) -> None:
        super().validate_architecture()
        get_layout(self.layout)
        if not 0 <= self.mask_ratio < 1 or self.num_masked_frames >= self.window_size:
            raise ValueError(f"mask_ratio={self.mask_ratio} must leave at least one of window_size={self.window_size} frames visible.")
        if not self.input_streams or set(self.input_streams) - set(STREAMS) or len(set(self.input_streams)) < len(self.input_streams):
            raise ValueError(f"input_streams={self.input_streams!r} must be one or more of {', '.join(map(repr, STREAMS))}, each once.")
        if not self.graph_channels and not self.input_whitening:
            raise ValueError("graph_channels=0 leaves out the convolutions, and input_whitening=0 the whitened frame: one must be above 0.")
        if self.num_memory_tokens not in (1, self.window_size):
            raise ValueError(
                f"num_memory_tokens={self.num_memory_tokens} must be 1 or window_size={self.window_size} (None chooses the latter)."
            )


# What a made configuration has in the fields of its parts; before, they may be a dict or None.
if TYPE_CHECKING:
    SignMAEFields: TypeAlias = SignMAEConfig
    TextFields: TypeAlias = PreTrainedConfig
else:
    SignMAEFields = TextFields = dict | PreTrainedConfig | None


# The text model of sign-to-text where no pretrained one is given: Joint-SLT's sizes (appendix B.2), and as there pre-norm layers,
# which is mBART's architecture; init_std is d_model ** -0.5, as Xavier's. Ids are those of the tokenizers that the training script
# makes; mBART's decoder starts with the end of a sentence.
TEXT_DEFAULTS: dict[str, Any] = {
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


def _with_defaults(text_config: Any, defaults: dict[str, Any]) -> Any:
    """A text model's configuration as it is; of a dict, or None, the missing fields by default, where it is of the defaults' type."""
    if text_config is not None and not isinstance(text_config, dict):
        return text_config
    fields: dict[str, Any] = text_config or {}
    if fields.get("model_type", defaults["model_type"]) != defaults["model_type"]:
        return fields
    fields = {**defaults, **fields}
    if "d_model" in fields:
        fields.setdefault("init_std", fields["d_model"] ** -0.5)
    return fields


@checked
class SignToTextConfig(UniGloRConfig):
    """Configuration of `SignToText` (paper section 3.4): a SignMAE encoder, and any encoder-decoder of `AutoModelForSeq2SeqLM`."""

    model_type = "sign_to_text"
    sub_configs_defaults = {
        "sign_mae_config": SubConfigSpec(SignMAEConfig),
        "text_config": SubConfigSpec(AutoConfig, model_type="mbart"),
    }

    sign_mae_config: SignMAEFields = inner()  # with sign_encoder="frames", only its layout and channels are read
    text_config: TextFields = inner()  # an mbart's missing fields are TEXT_DEFAULTS
    is_encoder_decoder: bool = True

    # Signing
    sign_encoder: str = choice("segments", "frames")  # what is encoded; "frames" is Joint-SLT's way, each frame's keypoints (Tab 1)
    stride: int | None = number(None, 1, MAX_CLIP_FRAMES)  # frames between segment starts; sign_mae_config's by default
    frame_stride: int = number(1, 1, MAX_CLIP_FRAMES)  # of "frames": use every n-th frame
    freeze_sign_mae: bool = True  # the SignMAE stays as it was pretrained

    # Text model
    freeze_text_model: bool = False  # only the projection into the text model is trained
    # Above 0: low-rank adapters in the text model are trained, in place of its weights (needs peft)
    lora_rank: int = number(0, 0, MAX_HIDDEN_SIZE)
    lora_alpha: int | float = number(32)  # scale of the adapters, divided by lora_rank
    lora_dropout: float | int = number(0.1, below=1)  # dropout of what the adapters read
    lora_targets: list[str] | tuple[str, ...] | None = None  # names of linear layers; queries and values by default
    label_smoothing: float | int = number(0.0, below=1)  # share of the target's probability that is spread over all classes

    def __post_init__(self, **kwargs: Any) -> None:
        self.text_config = _with_defaults(self.text_config, TEXT_DEFAULTS)
        super().__post_init__(**kwargs)
        if self.stride is None:
            self.stride = self.sign_mae_config.stride

    @property
    def layout(self) -> str:
        return self.sign_mae_config.layout

    def validate_architecture(self) -> None:
        super().validate_architecture()
        self._check_sign_mae()
        if not self.text_config.is_encoder_decoder:
            raise ValueError(
                f"text_config is a {self.text_config.model_type!r}, expected an encoder-decoder such as bart, mbart, marian, mt5."
            )
        if self.freeze_text_model and self.lora_rank:
            raise ValueError(f"freeze_text_model=True and lora_rank={self.lora_rank} exclude each other.")


# The text encoder of text-to-sign where no pretrained one is given, ours: a BERT of the other Transformers' sizes. Ids are those of the
# tokenizers that the training script makes.
TEXT_ENCODER_DEFAULTS: dict[str, Any] = {
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

# Text encoders whose tokenizers put no class token before a text.
TEXT_ENCODERS_WITHOUT_CLASS_TOKEN = ("t5", "mt5", "umt5", "longt5", "mbart", "m2m_100", "marian", "pegasus")


@checked
class TextToSignConfig(TransformerConfig):
    """Configuration of `TextToSign` (paper section 3.4): any text encoder of `AutoModel`, and a SignMAE decoder."""

    model_type = "text_to_sign"
    sub_configs_defaults = {
        "sign_mae_config": SubConfigSpec(SignMAEConfig),
        "text_config": SubConfigSpec(AutoConfig, model_type="bert"),
    }

    sign_mae_config: SignMAEFields = inner()  # of the SignMAE whose decoder makes the keypoints
    text_config: TextFields = inner()  # a bert's missing fields are TEXT_ENCODER_DEFAULTS

    # Text encoder
    # How the text becomes the one vector that the length is predicted from: by its first "token", or the "mean" of all; None chooses by
    # the text model's type
    text_pooling: str | None = choice(None, "token", "mean")
    freeze_text_model: bool = False  # the text encoder stays as it was pretrained

    # Latents
    max_segments: int = number(128, 1, MAX_SEGMENTS)  # learned queries, the longest clip in segments (appendix B.2)
    # Ours: the frames that do not fill a last segment are held at the last; or "drop" them
    last_segment: str = choice("hold", "drop")

    # Loss (Eq 4 to 6)
    latent_loss_weight: float | int = number(1.0)  # of the squared error of the latents (Eq 4)
    length_loss_weight: float | int = number(1.0)  # of the length regulator's cross-entropy (Eq 5)
    keypoint_loss_weight: float | int = number(0.0)  # ours: squared error of the decoded keypoints, of "regression" only

    # Decoder of latents. "regression" is the paper's: all at once, by squared error, which a mean latent that hardly moves makes small.
    # "codes_flow" is ours: segment by segment, each sampled as codes and then as a latent. All fields below are of "codes_flow" only.
    latent_decoder: str = choice("regression", "codes_flow")
    latent_components: int | None = number(64, 1, MAX_HIDDEN_SIZE)  # principal components that are modelled, or as many as there are
    num_codebooks: int = number(2, 1, MAX_CODEBOOKS)  # codes of a latent; each after the first refines what is left of it
    codebook_size: int = number(512, 2, MAX_CODEBOOK_SIZE)  # codes to choose from
    code_smoothing: float | int = number(0.05, below=1)  # share of a code's probability that is spread over all codes in training
    flow_layers: int = number(3, 1, MAX_LAYERS)  # layers of the network that turns noise into what the codes leave of a latent
    flow_draws: int = number(2, 1, 64)  # draws of noise for a latent in a training step
    code_loss_weight: float | int = number(1.0)  # of the codes' cross-entropy
    flow_loss_weight: float | int = number(1.0)  # of the flow's squared error
    text_dropout: float | int = number(0.1, below=1)  # share of texts that are hidden whole in training; 0 allows no guidance
    word_dropout: float | int = number(0.05, below=1)  # share of tokens that are hidden from the text encoder in training
    history_noise: float | int = number(0.3)  # most noise on earlier latents in training, so that generated ones may be inexact too

    def __post_init__(self, **kwargs: Any) -> None:
        self.text_config = _with_defaults(self.text_config, TEXT_ENCODER_DEFAULTS)
        super().__post_init__(**kwargs)
        if self.text_pooling is None:
            self.text_pooling = "mean" if self.text_config.model_type in TEXT_ENCODERS_WITHOUT_CLASS_TOKEN else "token"

    @property
    def layout(self) -> str:
        return self.sign_mae_config.layout

    @property
    def num_components(self) -> int:
        """How many principal components of the latents "codes_flow" models."""
        size = self.sign_mae_config.hidden_size
        return min(self.latent_components or size, size)

    def validate_architecture(self) -> None:
        super().validate_architecture()
        self._check_sign_mae()
        if self.latent_decoder == "codes_flow" and self.keypoint_loss_weight:
            raise ValueError(
                f"keypoint_loss_weight={self.keypoint_loss_weight} needs a latent that is predicted, and latent_decoder='codes_flow' "
                "samples. Set it to 0, or train latent_decoder='regression'."
            )


@checked
class SignRecognitionConfig(TransformerConfig):
    """Configuration of `SignRecognition` (paper section 5, Tab 3): a SignMAE encoder, a Transformer encoder, one linear layer.

    The classes are `id2label`, as everywhere in transformers.
    """

    model_type = "sign_recognition"
    sub_configs_defaults = {"sign_mae_config": SubConfigSpec(SignMAEConfig)}

    sign_mae_config: SignMAEFields = inner()  # with sign_encoder="frames", only its layout and channels are read

    # Signing
    sign_encoder: str = choice("segments", "frames")  # what is encoded; "frames" is the baseline, each frame's keypoints
    stride: int | None = number(None, 1, MAX_CLIP_FRAMES)  # frames between segment starts; sign_mae_config's by default
    frame_stride: int = number(1, 1, MAX_CLIP_FRAMES)  # of "frames": use every n-th frame
    freeze_sign_mae: bool = True  # the SignMAE stays as it was pretrained

    # Loss
    label_smoothing: float | int = number(0.0, below=1)  # share of the target's probability that is spread over all classes

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        if self.stride is None:
            self.stride = self.sign_mae_config.stride

    @property
    def layout(self) -> str:
        return self.sign_mae_config.layout

    def validate_architecture(self) -> None:
        super().validate_architecture()
        self._check_sign_mae()
        keys, num_labels = sorted(map(int, self.id2label or ())), self.num_labels or 0
        if keys != list(range(num_labels)):
            raise ValueError(
                f"id2label has the keys {keys[:8]} ..., expected 0 to {num_labels - 1}, one for each output of the "
                "head. Number the labels anew, or name those that are missing."
            )


SignMAEConfig.register_for_auto_class("AutoConfig")
SignToTextConfig.register_for_auto_class("AutoConfig")
TextToSignConfig.register_for_auto_class("AutoConfig")
SignRecognitionConfig.register_for_auto_class("AutoConfig")
