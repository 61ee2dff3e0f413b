"""int8 on a CPU: `quantize(model)` makes a trained model about twice as fast, with a small loss of accuracy.

Weights are integers with one scale for each output; inputs are quantised as they come, with one scale for all of a layer's input. This is
computed with torch's plain integer tensors, by the operators that torch.compile uses for int8. torch's own `quantize_dynamic` and its
quantised tensor types are deprecated (torch 2.13); torchao 0.18, which replaces them, is slower without compilation than float32 here.
"""

import copy
import math
from typing import Any, Self, TypeVar

import torch
from torch import nn

LEVELS = 254  # of an input's numbers; one less than 8 bits hold, so that rounding the zero point never overflows
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
        self._scale = (weight.abs().amax(1) / 127).clamp_min(torch.finfo(torch.float32).tiny)  # (D_out,)
        self._values = (weight / self._scale[:, None]).round().to(torch.int8)  # (D_out, D_in)
        self._packed = torch.ops.onednn.qlinear_prepack(self._values, None)
        self._zero_points = torch.zeros(self.out_features, dtype=torch.int64)
        self._bias = None if linear.bias is None else linear.bias.detach().clone()
        self.weight = torch.empty(weight.shape, dtype=torch.int8, device="meta")

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        if features.device.type != "cpu" or features.dtype != torch.float32:
            raise ValueError(
                f"Found {features.dtype} on {features.device.type!r}, expected float32 on 'cpu': an int8 model stays where it was "
                "quantised. Load it again for another device or type."
            )
        low, high = torch.aminmax(features)
        least, most = min(low.item(), 0.0), max(high.item(), 0.0)  # 0 is a level, as zeros are common
        if not math.isfinite(most - least):  # as float32 would go on; pipelines refuse such answers
            return features.new_full((*features.shape[:-1], self.out_features), math.nan)
        scale = max((most - least) / LEVELS, 1e-30)
        zero_point = round(-least / scale)
        levels = torch.add(torch.tensor(zero_point + 0.5), features, alpha=1 / scale).to(torch.uint8)  # rounded: the cast cuts off
        return torch.ops.onednn.qlinear_pointwise(
            levels, scale, zero_point, self._packed, self._scale, self._zero_points, self._bias, 1.0, 0, torch.float32, "none", [], ""
        )

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self._bias is not None}"

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        memo[id(self)] = shared = copy.copy(self)  # nothing of it ever changes
        return shared

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        """What tells this layer from others, as for the names of caches. `check_saving` refuses to save it."""
        destination |= {f"{prefix}weight": self._values, f"{prefix}weight_scale": self._scale}
        if self._bias is not None:
            destination[f"{prefix}bias"] = self._bias


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
    operators = hasattr(torch.ops.onednn, "qlinear_pointwise") and torch.backends.mkldnn.is_available()
    if not operators or not any(known.get(name) for name in INSTRUCTIONS):
        raise ValueError(
            f"This machine cannot run int8 models: found {known.get('cpu_name', 'a CPU')} without {', '.join(INSTRUCTIONS)}, or a torch "
            "without oneDNN. Expected an x86 CPU with VNNI. Use float32, or dtype=torch.bfloat16."
        )


def check_saving(model: nn.Module) -> None:
    """Raises `ValueError` where a model is quantised."""
    if is_int8(model):
        raise ValueError(
            "An int8 model is not saved: its weights are rounded, and no checkpoint holds them. Save the model in float32 before "
            "quantize(model), and quantise it after each loading."
        )
