"""int8 on a CPU: `quantize(model)` makes a trained model about twice as fast, with a small loss of accuracy.

Weights are integers with one scale for each output; inputs are quantised as they come, with one scale for all of a layer's input.
Measured with torch 2.13 on a CPU with VNNI: `quantized::linear_dynamic` is 3 to 6 times as fast as float32. It takes quantised tensors,
which torch is giving up, and `Int8Linear` alone knows of them. What will remain is slower today: oneDNN's operators on plain integers by
a tenth where rows are many and by half where a text is decoded token by token; torchao 0.18 without compilation is slower than float32
where rows are few.
"""

import copy
import warnings
from typing import Any, Self, TypeVar

import torch
from torch import nn

# Layers whose output is an answer, and not a feature that others read: positions, lengths, labels. They are small, and stay in float32; and
# so does the linear part of a latent, in which small differences of positions count.
ANSWERS = ("keypoint_projection", "window_projection", "length_regulator", "classifier")
# Instructions that multiply 8-bit numbers and add them up in 32 bits; without them sums may overflow, and nothing is gained.
INSTRUCTIONS = ("avx512_vnni", "avx_vnni", "amx_int8")

Model = TypeVar("Model", bound=nn.Module)


class Int8Linear(nn.Module):
    """What a trained `nn.Linear` computes, with 8-bit weights and inputs. On a CPU, in float32 otherwise; it is not trained.

    Attributes:
        weight: without values, of the weights' shape and int8: models compare the types of inputs and weights.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        weight = linear.weight.detach()
        if not weight.isfinite().all():
            raise ValueError("Found weights with NaN or infinite numbers, expected a whole model: they cannot be quantised.")
        scale = (weight.abs().amax(1) / 127).clamp_min(torch.finfo(torch.float32).tiny)  # (D_out,)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that quantised tensors are deprecated
            values = torch.quantize_per_channel(weight, scale.double(), torch.zeros(len(scale), dtype=torch.long), 0, torch.qint8)
            self._packed = torch.ops.quantized.linear_prepack(values, None if linear.bias is None else linear.bias.detach())
        self.weight = torch.empty(weight.shape, dtype=torch.int8, device="meta")

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        if features.device.type != "cpu" or features.dtype != torch.float32:
            raise ValueError(
                f"Found {features.dtype} on {features.device.type!r}, expected float32 on 'cpu': an int8 model stays where it was "
                "quantised. Load it again for another device or type."
            )
        try:
            return torch.ops.quantized.linear_dynamic(features, self._packed, False)  # all 8 bits of an input, which VNNI adds up exactly
        except RuntimeError as error:
            if features.isfinite().all():
                raise
            raise ValueError("Found NaN in what an int8 layer reads, expected numbers: are the inputs damaged?") from error

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}"

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        memo[id(self)] = shared = copy.copy(self)  # nothing of it ever changes
        return shared

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        """What tells this layer from others, as for the names of caches. `check_saving` refuses to save it."""
        values, bias = torch.ops.quantized.linear_unpack(self._packed)
        destination |= {f"{prefix}weight": values.int_repr(), f"{prefix}weight_scale": values.q_per_channel_scales()}
        if bias is not None:
            destination[f"{prefix}bias"] = bias


def quantize(model: Model) -> Model:
    """Turns the linear layers of a loaded model into int8, in place, and returns it; for inference on a CPU.

        pipe = pipeline("sign-to-text", model=DIR, device="cpu")
        quantize(pipe.model)

    Convolutions, norms, embeddings and all statistics stay in float32, and so do the layers that give positions, lengths and labels. A
    quantised model is neither trained nor saved: save it before, and quantise it after each loading.

    Raises:
        ValueError: a machine without the instructions; a model that is quantised, not in float32, not on the CPU, or has adapters.
    """
    check_int8()
    if is_int8(model):
        raise ValueError("This model is quantised already. Load it again for another form.")
    tensor = next(model.parameters())
    dtype = getattr(model, "dtype", tensor.dtype)
    if tensor.device.type != "cpu" or dtype != torch.float32:
        raise ValueError(f"Found a model of {dtype} on {tensor.device.type!r}, expected float32 on 'cpu'. Load it with device='cpu' first.")
    if getattr(getattr(model, "config", None), "lora_rank", 0):
        raise ValueError("Found a model with adapters (lora_rank above 0), expected plain weights. Call model.merge_adapters() first.")
    made: dict[int, Int8Linear] = {}  # of layers that stand in a model twice
    for name, module in list(model.named_modules(remove_duplicate=False)):
        if type(module) is nn.Linear and not set(name.split(".")) & set(ANSWERS):
            if id(module) not in made:
                made[id(module)] = Int8Linear(module)
            model.set_submodule(name, made[id(module)])
    if not made:
        raise ValueError(f"Found a {type(model).__name__} without linear layers: nothing can be quantised.")
    model.eval().requires_grad_(False)
    return model


def is_int8(model: nn.Module) -> bool:
    return any(isinstance(module, Int8Linear) for module in model.modules())


def check_int8() -> None:
    """Raises `ValueError` unless this machine computes in int8."""
    known: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # an older torch does not have it
    operators = hasattr(torch.ops.quantized, "linear_dynamic") and torch.backends.quantized.engine in ("x86", "fbgemm")
    if not operators or not any(known.get(name) for name in INSTRUCTIONS):
        raise ValueError(
            f"This machine cannot run int8 models: found {known.get('cpu_name', 'a CPU')} without {', '.join(INSTRUCTIONS)}, or a torch "
            "without quantized::linear_dynamic. Expected an x86 CPU with VNNI. Use float32, or dtype=torch.bfloat16."
        )


def check_saving(model: nn.Module) -> None:
    """Raises `ValueError` where a model is quantised."""
    if is_int8(model):
        raise ValueError(
            "An int8 model is not saved: its weights are rounded, and no checkpoint holds them. Save the model in float32 before "
            "quantize(model), and quantise it after each loading."
        )
