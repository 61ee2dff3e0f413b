"""SignToText: keypoints of a whole clip to a sentence (paper section 3.4).

Shapes: B clips, T frames, S segments (or frames that are read), K keypoints, C channels, D hidden size of the text model,
L text tokens, V tokens in the vocabulary.
"""

import copy
import itertools
import os
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers import AutoModelForSeq2SeqLM, GenerationConfig, GenerationMixin, PreTrainedModel, PreTrainedTokenizerBase
from transformers import initialization as init
from transformers.utils import ModelOutput, can_return_tuple

from .configuration_uniglor import SignToTextConfig
from .limits_uniglor import MAX_BEAMS, MAX_NEW_TOKENS, check_vocabulary, checked_number
from .modeling_clip_reader import ClipReadingModel
from .modeling_layers_uniglor import check_ids, exact, mean_loss
from .modeling_sign_mae import SignMAEEncoderModel, SignMAEPreTrainedModel

NUM_BEAMS = 5  # section 3.4
DEFAULT_NEW_TOKENS = 100
LORA_TARGETS = ("q_proj", "v_proj", "q", "v")  # queries and values in bart and t5; what peft chooses for the models that it knows


@dataclass
class SignToTextOutput(ModelOutput):
    """What `SignToText.forward` returns.

    Attributes:
        loss: (), mean cross-entropy of the label tokens.
        logits: (B, L, V).
        encoder_last_hidden_state: (B, S, D).
        encoder_hidden_states, decoder_hidden_states: (B, S, D) and (B, L, D) before the first layer and after each, if asked for.
        encoder_attentions: one (B, heads, S, S) for each encoder layer (Fig 8), if asked for.
        decoder_attentions: one (B, heads, L, L) for each decoder layer, if asked for.
        cross_attentions: one (B, heads, L, S) for each decoder layer, if asked for.
        input_mask: (B, S), 1 where the text model's encoder read a segment or frame.
        loss_sums: (B, terms), of each clip, for `mean_loss`; no gradient.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    encoder_last_hidden_state: torch.Tensor | None = None
    encoder_attentions: tuple[torch.Tensor, ...] | None = None
    cross_attentions: tuple[torch.Tensor, ...] | None = None
    input_mask: torch.Tensor | None = None
    loss_sums: torch.Tensor | None = None
    encoder_hidden_states: tuple[torch.Tensor, ...] | None = None
    decoder_hidden_states: tuple[torch.Tensor, ...] | None = None
    decoder_attentions: tuple[torch.Tensor, ...] | None = None


class SignToText(ClipReadingModel, GenerationMixin):
    """A frozen SignMAE encoder over windows, a projection, and any encoder-decoder for text.

    With `sign_encoder="frames"` the same text model reads every frame's keypoints through one linear layer: Joint-SLT without
    glosses (Camgoz et al. 2020), the baseline of Tab 1 and the judge of Tab 2.
    """

    config: SignToTextConfig
    config_class = SignToTextConfig
    base_model_prefix = "sign_to_text"
    _keys_to_ignore_on_load_unexpected = ["gloss_head"]  # of a baseline that was trained with glosses: translation does without

    def __init__(self, config: SignToTextConfig) -> None:
        text_size = config.text_config.hidden_size
        super().__init__(config, text_size)
        self.text_model = AutoModelForSeq2SeqLM.from_config(config.text_config)
        self.generation_config.update(num_beams=NUM_BEAMS, max_new_tokens=DEFAULT_NEW_TOKENS, max_length=None)
        self.post_init()
        if config.lora_rank:
            self._add_adapters()
        self._freeze()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        # Not where `module` is the model itself: transformers passes over a model that holds no tensor of its own, as with "frames".
        if module is self.projection:
            # As large as the token embeddings of the text model, so that its position embeddings, which are added, keep their weight.
            text_config = self.config.text_config
            size = getattr(text_config, "init_std", 1.0)
            if getattr(text_config, "scale_embedding", False):
                size *= text_config.hidden_size**0.5
            init.normal_(module.weight, std=size / module.in_features**0.5)

    @classmethod
    def from_parts(
        cls, sign_mae: str | os.PathLike | SignMAEPreTrainedModel, text_model: str | os.PathLike | None = None, **fields: Any
    ) -> "SignToText":
        """Joins a pretrained SignMAE with a pretrained text model, or with a new one.

        Args:
            sign_mae: a `SignMAE` or the folder or Hub id of one.
            text_model: folder or Hub id of an `AutoModelForSeq2SeqLM`; None makes a new model by `text_config`.
            **fields: of `SignToTextConfig`.
        """
        loaded = SignMAEEncoderModel.from_pretrained(sign_mae) if isinstance(sign_mae, (str, os.PathLike)) else sign_mae
        pretrained = AutoModelForSeq2SeqLM.from_pretrained(text_model) if text_model else None
        if pretrained is not None:
            fields["text_config"] = pretrained.config.to_dict() | {"_name_or_path": ""}  # no path of this machine travels
        lora_rank = fields.pop("lora_rank", 0)
        fields["sign_mae_config"] = loaded.config.to_dict() | {"_name_or_path": ""}
        model = cls(SignToTextConfig(**fields))
        if model.config.sign_encoder == "segments":
            model._read_with(loaded)
        if pretrained is not None:
            model.text_model.load_state_dict(pretrained.state_dict())
            model.generation_config = copy.deepcopy(pretrained.generation_config)
            model.generation_config.update(num_beams=NUM_BEAMS, max_new_tokens=DEFAULT_NEW_TOKENS, max_length=None)
        if lora_rank:
            model.config.lora_rank = lora_rank
            model._add_adapters()
            model._freeze()
        return model

    def get_encoder(self, *args: Any, **kwargs: Any) -> PreTrainedModel:
        return self.text_model.get_encoder()

    def get_decoder(self) -> PreTrainedModel:
        return self.text_model.get_decoder()

    def get_input_embeddings(self) -> nn.Module:
        return self.text_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.text_model.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        return self.text_model.get_output_embeddings()

    def resize_token_embeddings(self, new_num_tokens: int | None = None, *args: Any, **kwargs: Any) -> nn.Embedding:
        """As the base class, of the text model."""
        embeddings = self.text_model.resize_token_embeddings(new_num_tokens, *args, **kwargs)
        self.config.text_config.vocab_size = embeddings.num_embeddings
        return embeddings

    # --- Translation --------------------------------------------------------------------------------------------------------------

    @can_return_tuple
    def forward(
        self,
        keypoints: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        latents: torch.Tensor | None = None,
        latent_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        decoder_input_ids: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
    ) -> SignToTextOutput:
        """Teacher-forced logits, and the loss where there are labels.

        Args:
            keypoints: (B, T, K, C) in shoulder lengths, from `KeypointProcessor`, and attention_mask (B, T); or
            latents: (B, S, D) as `SignMAE.encode_sequence` gives them, and latent_mask (B, S).
            labels: (B, L) token ids, -100 where there is none.
            decoder_input_ids: (B, L); by default the labels, shifted right.
            num_items_in_batch: where these clips are a part of a batch, what `count_items` counts in all of it; the loss is then their
                share in the batch's.
            output_hidden_states, output_attentions: whether to return what the text model's layers compute; the latter needs the
                attention implementation "eager", see `attentions`.

        Returns:
            `SignToTextOutput`.
        """
        options = self._recorded(output_hidden_states, output_attentions)
        embeddings, input_mask = self.embed(keypoints, attention_mask, latents, latent_mask)  # (B, S, D), (B, S)
        decoder_input_ids = self.decoder_inputs(len(embeddings), labels, decoder_input_ids)  # (B, L)
        outputs = self.text_model(
            inputs_embeds=embeddings, attention_mask=input_mask, decoder_input_ids=decoder_input_ids, use_cache=False, **options
        )
        loss = sums = None
        if labels is not None:
            sums = self.token_losses(outputs.logits, labels)[:, None]  # (B, 1)
            loss = mean_loss(sums, self.count_items(labels), num_items_in_batch)
        return SignToTextOutput(
            loss=loss,
            logits=outputs.logits,
            encoder_last_hidden_state=outputs.encoder_last_hidden_state,
            encoder_hidden_states=outputs.encoder_hidden_states,
            decoder_hidden_states=outputs.decoder_hidden_states,
            encoder_attentions=outputs.encoder_attentions,
            decoder_attentions=outputs.decoder_attentions,
            cross_attentions=outputs.cross_attentions,
            input_mask=input_mask,
            loss_sums=None if sums is None else sums.detach(),
        )

    def decoder_inputs(
        self, num_clips: int, labels: torch.Tensor | None = None, decoder_input_ids: torch.Tensor | None = None
    ) -> torch.Tensor:
        """What the text model's decoder reads, checked: `decoder_input_ids` (B, L), or else the labels (B, L), shifted right."""
        vocab_size = self.config.text_config.vocab_size
        if labels is not None:
            check_ids("labels", labels, (num_clips, "tokens"), vocab_size, padding=-100)
        if decoder_input_ids is None:
            if labels is None:
                raise ValueError("Found neither labels nor decoder_input_ids. Give one of them, or call generate.")
            decoder_input_ids = self.text_model.prepare_decoder_input_ids_from_labels(labels)
        num_tokens = "tokens" if labels is None else labels.shape[1]
        check_ids("decoder_input_ids", decoder_input_ids, (num_clips, num_tokens), vocab_size)
        return decoder_input_ids

    def token_losses(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Cross-entropy of the label tokens, summed over each clip's: (B, L, V), (B, L) -> (B,)."""
        smoothing = self.config.label_smoothing
        return F.cross_entropy(exact(logits).transpose(1, 2), labels, label_smoothing=smoothing, reduction="none").sum(1)

    def count_items(self, labels: torch.Tensor, **inputs: Any) -> torch.Tensor:
        """What the loss is a mean over: (B, 1) int64, the tokens of each clip. Other inputs are not read."""
        return (labels != -100).sum(1, keepdim=True)

    def _recorded(self, output_hidden_states: bool | None, output_attentions: bool | None) -> dict[str, bool | None]:
        """What the text model is to return of its layers: as the caller says, or else the configuration."""
        output_hidden_states = self.config.output_hidden_states if output_hidden_states is None else output_hidden_states
        output_attentions = self.config.output_attentions if output_attentions is None else output_attentions
        implementation = self.text_model.config._attn_implementation
        if output_attentions and implementation != "eager":
            raise ValueError(
                f"Found output_attentions=True with a text model whose attn_implementation={implementation!r} computes no attention "
                "weights. Call model.attentions, or load the model with attn_implementation='eager'."
            )
        return {"output_hidden_states": output_hidden_states, "output_attentions": output_attentions}

    def embed(
        self,
        keypoints: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        latents: torch.Tensor | None = None,
        latent_mask: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The input of the text model's encoder: (B, S, D), and its mask (B, S)."""
        embeddings, input_mask = super().embed(keypoints, attention_mask, latents, latent_mask)
        longest = getattr(self.config.text_config, "max_position_embeddings", None)
        if longest and embeddings.shape[1] > longest:
            raise ValueError(
                f"Found {embeddings.shape[1]} {self.config.sign_encoder} in a clip, but the text model has {longest} positions. Cut the "
                "clip, or train with a larger text_config max_position_embeddings, stride or frame_stride."
            )
        return embeddings, input_mask

    # --- Use ----------------------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def generate(  # type: ignore[override]  # its inputs are clips, and it has no use for the streamers and processors of others
        self,
        keypoints: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        latents: torch.Tensor | None = None,
        latent_mask: torch.Tensor | None = None,
        generation_config: GenerationConfig | None = None,
        labels: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> torch.Tensor | ModelOutput:
        """Token ids of the translations, as `GenerationMixin.generate` gives them: (B, L).

        Args:
            keypoints, attention_mask, latents, latent_mask: as in `forward`.
            generation_config: by default the model's own: 5 beams.
            labels: not read; `Seq2SeqTrainer` passes the whole batch of an evaluation.
            **kwargs: of `GenerationMixin.generate`, such as num_beams or max_new_tokens.
        """
        embeddings, input_mask = self.embed(keypoints, attention_mask, latents, latent_mask)
        generation_config = copy.deepcopy(self.generation_config if generation_config is None else generation_config)
        positions = getattr(self.config.text_config, "max_position_embeddings", None) or MAX_NEW_TOKENS
        for name, least, most in (("max_new_tokens", 1, positions), ("max_length", 2, positions + 1), ("num_beams", 1, MAX_BEAMS)):
            if kwargs.get(name) is not None:
                checked_number(name, kwargs[name], least, most, whole=True)
        if kwargs.get("max_length") is not None and kwargs.get("max_new_tokens") is None:
            generation_config.max_new_tokens = None  # a default may not take precedence over what the caller says
        kwargs = generation_config.update(**kwargs)
        return self.text_model.generate(inputs_embeds=embeddings, attention_mask=input_mask, generation_config=generation_config, **kwargs)

    @torch.no_grad()
    def score(self, labels: torch.Tensor, **inputs: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-probabilities of texts: (B,) sum of log p(token | tokens before, signing), and (B,) number of tokens.

        Args:
            labels: (B, L) token ids, -100 where there is none.
            **inputs: keypoints or latents and their mask, as in `forward`.
        """
        log_probs = self(labels=labels, **inputs).logits.float().log_softmax(-1)
        real = labels >= 0
        chosen = log_probs.gather(-1, labels.clamp_min(0)[..., None])[..., 0]
        return (chosen * real).sum(1), real.sum(1)

    @torch.no_grad()
    def attentions(self, decoder_input_ids: torch.Tensor, **inputs: Any) -> SignToTextOutput:
        """`SignToTextOutput` with the attentions of the text model, whatever its attention implementation.

        A copy of the model that shares its weights computes them, since other threads may be using this model.
        """
        tensors = itertools.chain(self.parameters(), self.buffers())
        eager = copy.deepcopy(self, memo={id(tensor): tensor for tensor in tensors})
        eager.text_model.set_attn_implementation("eager")
        return eager(decoder_input_ids=decoder_input_ids, output_attentions=True, **inputs)

    def input_frames(self, num_inputs: int) -> torch.Tensor:
        """Start and end (exclusive) frame of each input of the text model: (S, 2) int, for a clip with S = `num_inputs` real inputs."""
        step = self.config.frame_stride if self.config.sign_encoder == "frames" else self.config.stride
        assert step is not None  # None means sign_mae_config.stride until a configuration is made
        length = 1 if self.config.sign_encoder == "frames" else self.config.sign_mae_config.window_size
        starts = torch.arange(num_inputs) * step
        return torch.stack([starts, starts + length], dim=1)

    def check_tokenizer(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Raises `ValueError` unless the tokenizer fits the model."""
        check_vocabulary(len(tokenizer), self.config.text_config.vocab_size)
        if tokenizer.pad_token_id is None or tokenizer.eos_token_id is None:
            raise ValueError("The tokenizer has no pad or no end-of-sentence token; set tokenizer.pad_token and tokenizer.eos_token.")

    # --- What is trained ----------------------------------------------------------------------------------------------------------

    def _frozen_parts(self) -> list[nn.Module]:
        return super()._frozen_parts() + ([self.text_model] if self.config.freeze_text_model else [])

    def _freeze(self) -> None:
        if self.config.lora_rank:
            for name, parameter in self.text_model.named_parameters():
                parameter.requires_grad_("lora_" in name)
        super()._freeze()

    def _add_adapters(self) -> None:
        try:
            from peft import LoraConfig, inject_adapter_in_model
        except ImportError as error:
            raise ImportError(f"lora_rank={self.config.lora_rank} needs peft: pip install peft") from error
        adapters = LoraConfig(
            r=self.config.lora_rank,
            lora_alpha=self.config.lora_alpha,  # type: ignore[arg-type]  # peft takes fractions too
            lora_dropout=self.config.lora_dropout,
            target_modules=list(self.config.lora_targets or LORA_TARGETS),
            task_type="SEQ_2_SEQ_LM",
        )
        self.text_model = inject_adapter_in_model(adapters, self.text_model)

    def merge_adapters(self) -> "SignToText":
        """Merges trained adapters into the weights that they adapt, so that the model loads and runs without peft."""
        from peft.tuners.lora import LoraLayer

        for name, module in list(self.text_model.named_modules()):
            if isinstance(module, LoraLayer):
                module.merge()
                self.text_model.set_submodule(name, module.get_base_layer())
        self.config.lora_rank = 0
        self.requires_grad_(True)._freeze()
        return self


SignToText.register_for_auto_class("AutoModel")
