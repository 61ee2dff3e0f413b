"""Pipelines: `pipeline(TASK, model=DIR)` for sign-to-text, text-to-sign, sign-recognition and sign-feature-extraction.

Shapes: T frames, S segments (or frames that are read), K keypoints, C channels, L text tokens or labels, D size of a latent.
"""

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from transformers import Pipeline, PreTrainedModel
from transformers.utils import logging

from .keypoint_clip_uniglor import KeypointClip, as_own, check_facts
from .keypoint_processing_uniglor import Calibration, check_calibration
from .keypoint_readers_uniglor import read_keypoints
from .keypoints_uniglor import get_layout
from .limits_uniglor import (
    MAX_BATCH_COORDINATES,
    MAX_BEAMS,
    MAX_NEW_TOKENS,
    MAX_TEXT_LETTERS,
    checked_number,
)
from .quantization_uniglor import check_saving

logger = logging.get_logger(__name__)

# The steps of a pipeline take the arguments of its task and give dicts, against what transformers' base class declares:
# mypy: disable-error-code="override"

CLIP_FACTS = ("layout", "fps", "width", "height", "confidence", "aspect", "missing", "relative")  # fields of a `KeypointClip`
CLIP_PARAMETERS = (*CLIP_FACTS, "causal", "calibration")
# Limits of arguments of `generate`: least, most, and whether they are whole numbers.
GENERATION_LIMITS = {
    "num_beams": (1, MAX_BEAMS, True),
    "num_return_sequences": (1, 1, True),  # a pipeline gives one text for each clip
    "min_length": (0, MAX_NEW_TOKENS, True),
    "min_new_tokens": (0, MAX_NEW_TOKENS, True),
    "no_repeat_ngram_size": (0, MAX_NEW_TOKENS, True),
    "top_k": (0, 10**6, True),
    "top_p": (0, 1, False),
    "temperature": (0.01, 100, False),
    "repetition_penalty": (0.01, 100, False),
    "length_penalty": (-100, 100, False),
}
OWN_ARGUMENTS = (  # of `generate`, which the pipeline sets itself
    "inputs", "inputs_embeds", "input_ids", "keypoints", "latents", "attention_mask", "latent_mask", "decoder_input_ids", "encoder_outputs",
    "labels", "return_dict_in_generate",
)  # fmt: skip

# Fields of a generation configuration, and values of some, with which decoding adds up the model's own log-probabilities of the tokens.
PLAIN_FIELDS = frozenset((
    "num_beams", "max_new_tokens", "max_length", "early_stopping", "use_cache", "pad_token_id", "bos_token_id", "eos_token_id",
    "decoder_start_token_id", "_from_model_config", "transformers_version",
))  # fmt: skip
PLAIN_VALUES: dict[str, Any] = {"length_penalty": 1, "do_sample": False, "num_return_sequences": 1}
PLAIN_VALUES |= {"output_attentions": False, "output_hidden_states": False}
MOST_STEP_SCORES = 64_000_000  # numbers that decoding may keep for the score, one for each step, beam and token of the vocabulary: 256 MB

Parameters = tuple[dict[str, Any], dict[str, Any], dict[str, Any]]  # of preprocess, _forward and postprocess
Array = TypeVar("Array", np.ndarray, torch.Tensor)

# A list of clips without a batch_size. Measured, paper size, one thread: 8 are 2.7 times as fast as one by one, 32 no faster than 8.
LIST_BATCH_SIZE = 8
SORTED_COORDINATES = 32_000_000  # of the clips that wait to be sorted by length: 128 MB
SORTED_CLIPS = 1024

ABSTAIN_ABOVE = 99.0  # per cent of the training clips that lie nearer
# Where generated signing stands on a picture, ours: a raised hand, both elbows and the waist are within it.
SHOULDER_SHARE = 1 / 4  # of the shorter side
NECK_PLACE = 0.5, 0.42  # of width and height


class UniGloRPipeline(Pipeline):
    """What all pipelines of this package share: a model of one type, with a keypoint processor and maybe a tokenizer."""

    task_name: str  # that it is registered under
    model_type: str
    script: str  # what trains such models

    # They may be of a checkpoint's own code, and then of other classes than ours.
    model: Any
    feature_extractor: Any  # a `KeypointProcessor`
    tokenizer: Any

    _load_feature_extractor: Any = True  # transformers declares the type of these as None
    _load_tokenizer: Any = False
    _load_processor: Any = False
    _load_image_processor: Any = False
    _load_video_processor: Any = False
    _pipeline_calls_generate: Any = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        config = self.model.config
        if getattr(config, "model_type", None) != self.model_type:
            raise ValueError(
                f"pipeline({self.task_name!r}) found a model of type {config.model_type!r}, expected {self.model_type!r}: a folder that "
                f"{self.script} wrote."
            )
        if self.feature_extractor.layout != config.layout:
            raise ValueError(
                f"The keypoint processor gives layout {self.feature_extractor.layout!r}, but the model has {config.layout!r}. "
                "Use the processor that was saved with the model."
            )

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:
        return [] if _checked_call(inputs, kwargs) == 0 else super().__call__(inputs, **kwargs)

    def save_pretrained(self, save_directory: str | os.PathLike, **kwargs: Any) -> None:
        """As the base class; an int8 model is refused before anything is written."""
        check_saving(self.model)
        super().save_pretrained(save_directory, **kwargs)


class ClipPipeline(UniGloRPipeline):
    """What the pipelines that read clips share: the way from a clip to a batch."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        config = self.model.config
        num_channels = getattr(config, "sign_mae_config", config).num_channels
        if self.feature_extractor.num_channels != num_channels:
            raise ValueError(
                f"The keypoint processor gives {self.feature_extractor.num_channels} channels, but the model reads {num_channels}. Use "
                "the processor that was saved with the model."
            )

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:
        several = isinstance(inputs, list) and len(inputs) > 1
        if several and kwargs.get("batch_size") is None and self._batch_size is None:
            kwargs["batch_size"] = LIST_BATCH_SIZE
        return super().__call__(inputs, **kwargs)

    def get_iterator(
        self,
        inputs: Any,
        num_workers: int,
        batch_size: int,
        preprocess_params: dict[str, Any],
        forward_params: dict[str, Any],
        postprocess_params: dict[str, Any],
    ) -> Iterator[Any]:
        """Answers in the order of the inputs. A list is read in batches of clips of like length; the rest as in the base class."""
        parameters = preprocess_params, forward_params, postprocess_params
        if batch_size == 1 or num_workers or not isinstance(inputs, list):
            return super().get_iterator(inputs, num_workers, batch_size, *parameters)
        return self._answers(inputs, batch_size, *parameters)

    def _answers(self, inputs: list[Any], batch_size: int, *parameters: dict[str, Any]) -> Iterator[Any]:
        waiting: list[dict[str, torch.Tensor]] = []
        num_coordinates = 0
        for number, clip in enumerate(inputs, 1):
            waiting.append(self.preprocess(clip, **parameters[0]))
            num_coordinates += waiting[-1]["keypoints"].numel()
            if num_coordinates >= SORTED_COORDINATES or len(waiting) == max(SORTED_CLIPS, batch_size) or number == len(inputs):
                yield from self._answers_to(waiting, batch_size, *parameters[1:])
                waiting, num_coordinates = [], 0

    def _answers_to(
        self, clips: list[dict[str, torch.Tensor]], batch_size: int, forward_params: dict[str, Any], postprocess_params: dict[str, Any]
    ) -> list[Any]:
        """What `preprocess` gave of each clip -> what `postprocess` gives."""
        answers: list[Any] = [None] * len(clips)
        for batch in _batches([clip["keypoints"].shape[1:] for clip in clips], batch_size):
            padded = {
                name: torch.nn.utils.rnn.pad_sequence([clips[index][name][0] for index in batch], batch_first=True)
                for name in clips[batch[0]]
            }
            outputs = self.forward(padded, **forward_params)
            for row, index in enumerate(batch):
                own: Any = {name: values[row : row + 1] for name, values in outputs.items()}
                answers[index] = self.postprocess(own, **postprocess_params)
        return answers

    def _checked_parameters(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """Checks the arguments on clips before the first clip is read."""
        check_facts(parameters)
        if parameters.get("calibration") is not None:
            check_calibration(parameters["calibration"], self.feature_extractor.num_channels)
        return parameters

    def _say_guesses(self, clip: KeypointClip, num_frames: int) -> None:
        """Says, once in a process, what the caller left open and what is taken for it."""
        config, processor = self.model.config, self.feature_extractor
        if clip.layout is None:
            logger.warning_once(f"A clip without a layout is read as {processor.layout!r}, the model's own. Give layout= where it is not.")
        if clip.fps is None and processor.fps is not None:
            logger.warning_once(
                f"A clip without a frame rate is read as one of {processor.fps:g} frames a second. Give fps= where it has another: at a "
                "wrong one, signing is too fast or too slow for the model."
            )
        window_size = getattr(config, "sign_mae_config", config).window_size
        if num_frames < window_size and getattr(config, "sign_encoder", "segments") == "segments":
            logger.warning_once(
                f"A clip is shorter than one segment of {window_size} frames, at the model's frame rate: what the model says of it is a "
                "guess."
            )

    def preprocess(
        self, inputs: Any, causal: bool = False, calibration: Calibration | None = None, **known: Any
    ) -> dict[str, torch.Tensor]:
        source = as_clip(inputs, known)
        clip = self.feature_extractor.process(source, causal=causal, calibration=calibration)
        self._say_guesses(source, len(clip.keypoints))
        layout = get_layout(self.feature_extractor.layout)
        hands = [index for part, span in layout.parts.items() if part.endswith("_hand") for index in range(span.start, span.stop)]
        if not clip.keypoint_mask[:, [index for index in hands if layout.names[index] not in layout.copies]].any():
            logger.warning("No hand is visible in any frame of this clip: what the model says of it is a guess. See `score`.")
        batch = self.feature_extractor.pad([clip], return_tensors="pt")
        return {
            "keypoints": batch["keypoints"].to(self.model.dtype),
            "attention_mask": batch["attention_mask"],
            "frame_times": torch.from_numpy(np.asarray(clip.frame_times, np.float64))[None],  # a frame's duration is worked out later
        }


class SignToTextPipeline(ClipPipeline):
    """Translates clips into text.

    A clip is an array (T, K, C) with `layout=`; a canonical row or any dict with `keypoints`; a `KeypointClip`; or a path that
    `read_keypoints` reads (.npy, .npz, .pose, .skels, a folder of OpenPose JSON files, a video). A list of them is translated in
    batches of clips of like length, 8 by default; generators and data sets one clip after the other, or with `batch_size` together.

    Returns for each clip a dict:
        translation_text: str. A machine's guess from keypoints; it replaces no interpreter.
        score: mean log-probability of its tokens; nearer to 0 is surer.
        distance: how far the clip lies from those that the model was trained on, as the share of them that lie nearer, 0 to 100 per cent;
            where the model knows it, see `SignToText.distance_percentile`. With `abstain=True`, what lies beyond 99 has no
            `translation_text`: it is None. A small distance does not say that the text is right.
        attentions: with `return_attentions=True`, a dict with `tokens` (L), `cross` (layers, heads, L, S), `encoder` (layers, heads, S, S)
            and `seconds` (S, 2), the start and end of what each column saw (frames where the rate is not known).
    """

    task_name, model_type, script = "sign-to-text", "sign_to_text", "train/train_sign_to_text.py"

    _load_tokenizer: Any = True
    _pipeline_calls_generate = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.model.check_tokenizer(self.tokenizer)
        self._generate_kwargs = checked_generation(self.model, self._generate_kwargs)

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:
        """Translates one clip, or several.

        Args:
            inputs: a clip or several, see the class.
            layout, fps, width, height, confidence, aspect, missing, relative: fields of `KeypointClip`, where a clip does not have
                them itself.
            causal, calibration: see `KeypointProcessor.process`.
            return_attentions: whether to give attentions.
            abstain: whether to withhold the text of clips that are too far from the training's; a number is the per cent, by default 99.
            **kwargs: of `generate`, such as num_beams, and of `Pipeline`, such as batch_size.
        """
        return super().__call__(inputs, **kwargs)

    def _sanitize_parameters(self, return_attentions: bool | None = None, abstain: bool | float | None = None, **kwargs: Any) -> Parameters:
        clip = self._checked_parameters({name: kwargs.pop(name) for name in CLIP_PARAMETERS if name in kwargs})
        _check_generation(self.model, kwargs)
        chosen = {} if return_attentions is None else {"return_attentions": return_attentions}
        return clip, chosen | kwargs, {} if abstain is None else {"abstain_above": _abstain_above(abstain, self.model)}

    def _forward(
        self, model_inputs: dict[str, torch.Tensor], return_attentions: bool = False, **generate_kwargs: Any
    ) -> dict[str, torch.Tensor]:
        keypoints, attention_mask = model_inputs["keypoints"], model_inputs["attention_mask"]
        if self.model.config.sign_encoder == "frames":
            read = {"keypoints": keypoints, "attention_mask": attention_mask}
        else:  # encoded once, for decoding, score and attentions
            latents, latent_mask = self.model.encode_sequence(keypoints, attention_mask)
            read = {"latents": latents, "latent_mask": latent_mask}
        arguments = self._prepare_generate_kwargs(generate_kwargs)
        kept = _decoding_scores(self.model, arguments, self.tokenizer.eos_token_id, len(keypoints))
        generated = self.model.generate(**read, **arguments | {"return_dict_in_generate": True, "output_scores": kept})
        ids = generated.sequences  # (B, 1 + L)
        labels = ids[:, 1:]
        ended = (labels == self.tokenizer.eos_token_id).cumsum(1) - (labels == self.tokenizer.eos_token_id).long()
        labels = labels.masked_fill(ended > 0, -100)
        outputs = {
            "ids": labels,
            "score": _decoded_score(generated, labels) if kept else self._second_pass(labels, ids, read),
            "frame_times": model_inputs["frame_times"],
            "num_frames": attention_mask.sum(1),
        }
        if _has_distances(self.model):
            outputs["distance"] = self.model.distance_percentile(**read)
        if return_attentions:
            attentions = self.model.attentions(ids[:, :-1], **read)
            outputs["cross"] = torch.stack(attentions.cross_attentions, 1)  # (B, layers, heads, L, S)
            outputs["encoder"] = torch.stack(attentions.encoder_attentions, 1)
            outputs["input_mask"] = attentions.input_mask
        return outputs

    def _second_pass(self, labels: torch.Tensor, ids: torch.Tensor, read: dict[str, torch.Tensor]) -> torch.Tensor:
        """The mean log-probability of the tokens, all of them read at once: (B, L), (B, 1 + L) -> (B,)."""
        log_prob, num_tokens = self.model.score(labels, decoder_input_ids=ids[:, :-1], **read)
        return log_prob / num_tokens.clamp_min(1)

    def postprocess(self, outputs: dict[str, torch.Tensor], abstain_above: float | None = None) -> dict[str, Any]:
        ids = outputs["ids"][0]
        ids = ids[ids >= 0]
        answer = {
            "translation_text": self.tokenizer.decode(ids, skip_special_tokens=True).strip(),
            "score": float(_finite(outputs["score"][0])),
        }
        if "distance" in outputs:
            answer["distance"] = float(_finite(outputs["distance"][0]))
            if abstain_above is not None and answer["distance"] > abstain_above:
                answer["translation_text"] = None
        if "cross" in outputs:
            num_inputs, num_frames = int(outputs["input_mask"][0].sum()), int(outputs["num_frames"][0])
            times, frames = outputs["frame_times"][0, :num_frames].numpy(), self.model.input_frames(num_inputs).numpy()
            answer["attentions"] = {
                "tokens": self.tokenizer.convert_ids_to_tokens(ids.tolist()),
                "cross": outputs["cross"][0, :, :, : len(ids), :num_inputs].float().numpy(),
                "encoder": outputs["encoder"][0, :, :, :num_inputs, :num_inputs].float().numpy(),
                "seconds": span_seconds(times, frames),
            }
        return answer


class SignRecognitionPipeline(ClipPipeline):
    """Names the sign that a clip shows.

    A clip is whatever `SignToTextPipeline` takes. Returns for each clip a list of dicts, the most probable label first:
        label: str, its name.
        score: its probability among the labels that the model knows. "None of them" is no label, so a clip of another sign gets one too.
        distance: of the clip, the same for all labels; see `SignToTextPipeline`.
    """

    task_name, model_type, script = "sign-recognition", "sign_recognition", "train/train_recognition.py"

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:
        """Recognises one clip, or several.

        Args:
            inputs: a clip or several, see the class.
            layout, fps, width, height, confidence, aspect, missing, relative: fields of `KeypointClip`, where a clip does not have
                them itself.
            causal, calibration: see `KeypointProcessor.process`.
            top_k: how many labels to give, by default 5; of fewer labels all.
            **kwargs: of `Pipeline`, such as batch_size.
        """
        return super().__call__(inputs, **kwargs)

    def _sanitize_parameters(self, top_k: int | None = None, **clip: Any) -> Parameters:
        if unknown := sorted(set(clip) - set(CLIP_PARAMETERS)):
            raise ValueError(f"Unknown argument {', '.join(unknown)}. Expected top_k, or of the clip: {', '.join(CLIP_PARAMETERS)}.")
        chosen = {} if top_k is None else {"top_k": _at_least_1("top_k", top_k)}
        return self._checked_parameters(clip), {}, chosen

    def _forward(self, model_inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        keypoints, attention_mask = model_inputs["keypoints"], model_inputs["attention_mask"]
        if not _has_distances(self.model):
            return {"logits": self.model(keypoints, attention_mask).logits}
        latents, latent_mask = self.model.encode_sequence(keypoints, attention_mask)
        distance = self.model.distance_percentile(latents, latent_mask)
        return {"logits": self.model(latents=latents, latent_mask=latent_mask).logits, "distance": distance}

    def postprocess(self, outputs: dict[str, torch.Tensor], top_k: int = 5) -> list[dict[str, Any]]:
        probabilities = _finite(outputs["logits"][0].float()).softmax(-1)  # (L,)
        best = probabilities.topk(min(top_k, len(probabilities)))
        known = {"distance": float(_finite(outputs["distance"][0]))} if "distance" in outputs else {}
        return [
            {"label": self.model.config.id2label[label], "score": score, **known}
            for score, label in zip(best.values.tolist(), best.indices.tolist())
        ]


class SignFeatureExtractionPipeline(ClipPipeline):
    """Gives the latents of clips: SignMAE's vector, learned without labels, of every window of signing.

    A clip is whatever `SignToTextPipeline` takes. Returns for each clip a dict:
        latents: (S, D) float32, standardised over the data that the SignMAE was trained on.
        start, end: lists of S seconds, the span of each window (in frames where the rate is not known).
    """

    task_name, model_type, script = "sign-feature-extraction", "sign_mae", "train/pretrain.py"

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:
        """Encodes one clip, or several.

        Args:
            inputs: a clip or several, see the class.
            layout, fps, width, height, confidence, aspect, missing, relative: fields of `KeypointClip`, where a clip does not have
                them itself.
            causal, calibration: see `KeypointProcessor.process`.
            stride: frames between the starts of windows; by default the model's `config.stride`.
            **kwargs: of `Pipeline`, such as batch_size.
        """
        return super().__call__(inputs, **kwargs)

    def _sanitize_parameters(self, stride: int | None = None, **clip: Any) -> Parameters:
        if unknown := sorted(set(clip) - set(CLIP_PARAMETERS)):
            raise ValueError(f"Unknown argument {', '.join(unknown)}. Expected stride, or of the clip: {', '.join(CLIP_PARAMETERS)}.")
        chosen = {} if stride is None else {"stride": _at_least_1("stride", stride)}
        return self._checked_parameters(clip), chosen, chosen

    def _forward(self, model_inputs: dict[str, torch.Tensor], stride: int | None = None) -> dict[str, torch.Tensor]:
        attention_mask = model_inputs["attention_mask"]
        latents, latent_mask = self.model.encode_sequence(model_inputs["keypoints"], attention_mask, stride)
        return {
            "latents": latents,
            "num_segments": latent_mask.sum(1),
            "frame_times": model_inputs["frame_times"],
            "num_frames": attention_mask.sum(1),
        }

    def postprocess(self, outputs: dict[str, torch.Tensor], stride: int | None = None) -> dict[str, Any]:
        config = self.model.config
        num_segments, num_frames = int(outputs["num_segments"][0]), int(outputs["num_frames"][0])
        first = np.arange(num_segments) * (config.stride if stride is None else stride)
        frames = np.stack([first, first + config.window_size], axis=1)
        seconds = span_seconds(outputs["frame_times"][0, :num_frames].numpy(), frames)
        return {
            "latents": _finite(outputs["latents"][0, :num_segments].float()).numpy(),
            "start": seconds[:, 0].tolist(),
            "end": seconds[:, 1].tolist(),
        }


class TextToSignPipeline(UniGloRPipeline):
    """Signs texts: moving keypoints for a sentence, or for several.

    Returns for each text a dict:
        keypoints: (T, K, C) float32 in the requested units.
        keypoint_mask: (T, K) bool, False for the points that the model never learned: not to be drawn or scored.
        fps: frames a second; None where the model was trained on clips of any rate.
        layout: name of the points' order.
        width, height: of the picture, with `units="pixels"` only.

    `render(answer, "hello.mp4")` draws and saves it as it is, and `KeypointClip.from_row(answer)` is a clip.

    What it gives is a machine's guess at signing; it replaces no interpreter.
    """

    task_name, model_type, script = "text-to-sign", "text_to_sign", "train/train_text_to_sign.py"

    _load_tokenizer: Any = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.model.check_tokenizer(self.tokenizer)

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:
        """Signs one text, or several.

        Args:
            inputs: str, or several of them.
            num_segments: how many segments each clip has; by default the model says.
            seam_frames: frames on either side of a segment's border over which a jump is spread; by default as in `TextToSign.generate`.
            temperature, guidance, seed: of a model that samples, see `TextToSign.generate`; with a seed, a text is always signed alike.
            num_samples: of such a model, how many clips of each text; the answer to a text is then a list of them.
            units: "shoulder" (default): shoulder lengths about the neck; or "pixels" of a picture of `width` and `height`, on
                which shoulders are a quarter of the shorter side wide and the neck stands in the middle, at 0.42 of the height.
            width, height: of the picture.
            **kwargs: of `Pipeline`, such as batch_size.
        """
        return super().__call__(inputs, **kwargs)

    def _sanitize_parameters(
        self,
        num_segments: int | Sequence[int] | torch.Tensor | None = None,
        seam_frames: int | None = None,
        units: str | None = None,
        width: float | None = None,
        height: float | None = None,
        temperature: float | None = None,
        guidance: float | None = None,
        num_samples: int | None = None,
        seed: int | None = None,
    ) -> Parameters:
        sampling = _without_none({"temperature": temperature, "guidance": guidance, "num_samples": num_samples, "seed": seed})
        if sampling:
            self.model.check_sampling(sampling)
        several = isinstance(num_segments, (list, tuple)) or getattr(num_segments, "ndim", 0) > 0  # an array of no dimension is one number
        counts: Any = num_segments if several else [num_segments]
        for count in counts:
            if count is not None:
                count = count.item() if isinstance(count, torch.Tensor) else count
                checked_number("num_segments", count, 1, self.model.config.max_segments, whole=True)
        if seam_frames is not None:
            checked_number("seam_frames", seam_frames, 0, self.model.config.sign_mae_config.window_size // 2, whole=True)
        if units not in (None, "shoulder", "pixels"):
            raise ValueError(f"Found units={units!r}, expected 'shoulder' or 'pixels'.")
        check_facts({"width": width, "height": height})
        chosen = {"num_segments": num_segments, "seam_frames": seam_frames, **sampling}
        placed = {"units": units, "width": width, "height": height, "num_samples": num_samples}
        return {}, _without_none(chosen), _without_none(placed)

    def preprocess(self, inputs: Any) -> dict[str, torch.Tensor]:
        if not isinstance(inputs, str):
            raise ValueError(f"Found a {type(inputs).__name__}, expected a text (str).")
        if len(inputs) > MAX_TEXT_LETTERS:
            raise ValueError(f"Found a text of {len(inputs):,} letters, expected at most {MAX_TEXT_LETTERS:,}. Cut the text in two.")
        try:
            inputs.encode("utf-8")
        except UnicodeEncodeError as error:
            raise ValueError(
                f"Found a text whose letter {error.start} is half of a surrogate pair ({inputs[error.start]!r}), expected whole letters: "
                "was it cut in the middle of one?"
            ) from error
        ids = self.tokenizer(inputs, add_special_tokens=False).input_ids
        if not inputs.strip() or not ids:
            raise ValueError(f"Found the text {inputs!r}, expected at least one word.")
        unknown = sum(token == self.tokenizer.unk_token_id for token in ids)
        if unknown:
            logger.warning(
                f"{unknown} of {len(ids)} tokens ({unknown / len(ids):.0%}) of the text {inputs[:200]!r} are not in the model's vocabulary"
                + (": what it signs has nothing to do with the text." if unknown == len(ids) else ".")
            )
        encoded = self.tokenizer(inputs, return_tensors="pt")
        return {"input_ids": encoded["input_ids"], "attention_mask": encoded["attention_mask"]}

    def _forward(self, model_inputs: dict[str, torch.Tensor], **generate_kwargs: Any) -> dict[str, torch.Tensor]:
        generated = self.model.generate(**model_inputs, **generate_kwargs)
        by_text = len(model_inputs["input_ids"]), -1  # (texts, samples of each, ...)
        return {"keypoints": generated.keypoints.unflatten(0, by_text), "num_frames": generated.num_frames.unflatten(0, by_text)}

    def postprocess(
        self,
        outputs: dict[str, torch.Tensor],
        units: str = "shoulder",
        width: float | None = None,
        height: float | None = None,
        num_samples: int | None = None,
    ) -> dict[str, Any] | list[dict[str, Any]]:
        clips = zip(outputs["keypoints"][0], outputs["num_frames"][0].tolist())
        answers = [self._answer(keypoints[:length].float().numpy(), units, width, height) for keypoints, length in clips]
        return answers[0] if num_samples is None else answers

    def _answer(self, keypoints: np.ndarray, units: str, width: float | None, height: float | None) -> dict[str, Any]:
        """Of one clip (T, K, C), what the class says."""
        if units == "pixels":
            if not (width and height):
                raise ValueError(f"units='pixels' needs the picture's width and height; found width={width!r}, height={height!r}.")
            center = np.zeros(keypoints.shape[-1])
            center[:2] = NECK_PLACE[0] * width, NECK_PLACE[1] * height
            keypoints = self.feature_extractor.denormalize(keypoints, center, SHOULDER_SHARE * min(width, height))
        presence = self.model.sign_mae.keypoint_presence.bool().cpu().numpy()
        answer = {
            "keypoints": _finite(keypoints),
            "keypoint_mask": np.tile(presence, (len(keypoints), 1)),
            "fps": self.feature_extractor.fps,
            "layout": self.model.config.layout,
        }
        return answer | ({"width": width, "height": height} if units == "pixels" else {})


def _without_none(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def checked_generation(model: PreTrainedModel, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Arguments of `generate` within their limits; a default length that is beyond the text model's positions is cut to them."""
    _check_generation(model, kwargs)
    defaults = model.generation_config
    _check_generation(model, {name: getattr(defaults, name, None) for name in GENERATION_LIMITS})
    positions = _text_positions(model)
    if {"max_new_tokens", "max_length", "generation_config"} & kwargs.keys() or (defaults.max_new_tokens or 0) <= positions:
        return kwargs
    return kwargs | {"max_new_tokens": positions}


def _check_generation(model: PreTrainedModel, kwargs: Mapping[str, Any]) -> None:
    if own := sorted(set(OWN_ARGUMENTS) & set(kwargs)):
        raise ValueError(f"Found the argument {', '.join(own)}, which is worked out from the clip. Leave it out.")
    positions = _text_positions(model)
    limits = GENERATION_LIMITS | {"max_new_tokens": (1, positions, True), "max_length": (2, positions + 1, True)}
    config = kwargs.get("generation_config")
    for name, limit in limits.items():
        value = kwargs.get(name, getattr(config, name, None))
        if value is not None:
            checked_number(name, value, *limit)


def _text_positions(model: PreTrainedModel) -> int:
    """How many tokens a translation may have."""
    text_config = getattr(model.config, "text_config", None)  # a model of another type is refused later
    return getattr(text_config, "max_position_embeddings", None) or MAX_NEW_TOKENS


def _decoding_scores(model: Any, arguments: Mapping[str, Any], eos_token_id: int, num_clips: int) -> bool:
    """Whether decoding itself can say the mean log-probability of its tokens: nothing changes these, and there is memory for them."""
    configs = [getattr(model.text_model, "generation_config", None), model.generation_config, arguments.get("generation_config")]
    fields: dict[str, Any] = {"num_beams": 1}
    for own in [config.to_diff_dict() for config in configs if config is not None] + [dict(arguments)]:
        own.pop("generation_config", None)
        for name, value in own.items():
            if value is None or name in PLAIN_FIELDS or (name in PLAIN_VALUES and value == PLAIN_VALUES[name]):
                continue
            return False
        fields |= {name: value for name, value in own.items() if value is not None}
    if fields.get("eos_token_id") not in (eos_token_id, [eos_token_id]):  # it may end at a token that the tokenizer does not end at
        return False
    longest = fields.get("max_new_tokens") or fields.get("max_length") or MAX_NEW_TOKENS
    return num_clips * fields["num_beams"] * longest * model.config.text_config.vocab_size <= MOST_STEP_SCORES


def _decoded_score(generated: Any, labels: torch.Tensor) -> torch.Tensor:
    """The mean log-probability of the tokens (B, L) that decoding added up, (B,); greedy decoding keeps the terms instead."""
    sums = getattr(generated, "sequences_scores", None)
    if sums is not None:
        return sums  # divided by the number of tokens already
    log_probs = torch.stack([scores.log_softmax(-1) for scores in generated.scores], dim=1)  # (B, L, V)
    real = labels >= 0
    chosen = log_probs.gather(-1, labels.clamp_min(0)[..., None])[..., 0]
    return (chosen * real).sum(1) / real.sum(1).clamp_min(1)


def _checked_call(inputs: Any, kwargs: Mapping[str, Any]) -> int | None:
    """The number of inputs, or None where it shows later; batch_size and num_workers are checked."""
    if kwargs.get("batch_size") is not None:
        _at_least_1("batch_size", kwargs["batch_size"])
    if kwargs.get("num_workers") is not None:
        checked_number("num_workers", kwargs["num_workers"], 0, (os.cpu_count() or 1) * 4, whole=True)
    return len(inputs) if isinstance(inputs, (list, tuple)) else None


def _batches(shapes: Sequence[tuple[int, ...]], batch_size: int) -> Iterator[list[int]]:
    """Which clips, of shapes (T, K, C), are read together: those of like length, and no more than memory is bounded by."""
    batch: list[int] = []
    for index in sorted(range(len(shapes)), key=lambda index: shapes[index][0]):
        too_large = (len(batch) + 1) * math.prod(shapes[index]) > MAX_BATCH_COORDINATES  # they come with growing length
        if batch and (len(batch) == batch_size or too_large):
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _has_distances(model: Any) -> bool:
    return getattr(model, "has_distances", False)  # a checkpoint's own code may be older


def _abstain_above(abstain: bool | float, model: Any) -> float | None:
    """The per cent beyond which a text is withheld; None where it never is."""
    if abstain is False:
        return None
    above = ABSTAIN_ABOVE if abstain is True else checked_number("abstain", abstain, 0, 100)
    if not _has_distances(model):
        raise ValueError(
            "abstain needs a model that knows how far clips lie from its training clips, which this checkpoint does not: see "
            "ClipReadingModel.set_training_distances."
        )
    return above


def _at_least_1(name: str, value: Any) -> int:
    return int(checked_number(name, value, 1, 10**9, whole=True))


def _finite(values: Array) -> Array:
    """Returns the values of an answer, or raises `ValueError` where they are not finite."""
    if not np.isfinite(values.cpu().numpy() if isinstance(values, torch.Tensor) else values).all():
        raise ValueError("The model's answer holds NaN or infinite numbers: its weights, or the coordinates, are damaged or far too large.")
    return values


def span_seconds(frame_times: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """Start and end of spans of frames, in the unit of the frames' times.

    Args:
        frame_times: (T,) where each frame starts, as `KeypointProcessor.process` gives them.
        frames: (S, 2) int, the first frame of each span and the one after its last; beyond the clip is its end.

    Returns:
        (S, 2) float64.
    """
    step = float(np.median(np.diff(frame_times))) if len(frame_times) > 1 else 0.0
    bounds = np.append(frame_times, frame_times[-1] + step)  # where each frame starts, and where the last ends
    return bounds[frames.clip(0, len(frame_times))]


def as_clip(inputs: Any, known: dict[str, Any]) -> KeypointClip:
    """The clip of whatever a pipeline takes: a path, a `KeypointClip`, a row or another mapping, or an array.

    Args:
        known: fields of the clip, used where it does not have them itself.
    """
    if isinstance(inputs, (str, os.PathLike)):
        clip = read_keypoints(inputs, **{name: known[name] for name in ("layout", "width", "height", "fps") if name in known})
        return KeypointClip.of(clip, **known)
    if isinstance(inputs, Mapping) or as_own(inputs) is not None:
        return KeypointClip.of(inputs, **known)
    keypoints = _array(inputs)
    if keypoints.ndim == 4 and len(keypoints) == 1:
        keypoints = keypoints[0]
    return KeypointClip.of(keypoints, **known)


def _array(keypoints: Any) -> np.ndarray:
    try:
        return np.asarray(keypoints)
    except (ValueError, TypeError, RuntimeError) as error:
        raise ValueError(f"Found a {type(keypoints).__name__} that is no array ({error}). Expected keypoints (T, K, C).") from error
