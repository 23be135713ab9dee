"""A step with the video blocks' and the bridge's matrices, and their inputs, in 8 bits: fp8 and int8.

The layers are those that `convert` quantises (mova.checkpoint.quantize). With PyTorch's own products, and with the
quantisers of ComfyUI's comfy_kitchen where it is installed or carried.
"""

import importlib.util
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from mova import JointModel
from mova.checkpoint.formats import QUANTISED
from mova.checkpoint.quantize import is_quantised

from .. import bound, clock, expert, kernels
from ..place import Place
from ..task import Figures, NotMeasured, Task
from ..variants import EAGER, VARIANTS
from .ceilings import product_rate

FP8, FP8_MAX, INT8_MAX = torch.float8_e4m3fn, 448.0, 127.0


class EightBit(nn.Module):
    """In the place of a Linear: its weight [m, n] in 8 bits, and a scale."""

    def __init__(self, layer: nn.Linear, quantise: Callable[[Tensor], tuple[Tensor, Tensor]], product: Any) -> None:
        super().__init__()
        self.product, self.bias = product, layer.bias
        weight, scale = quantise(layer.weight)
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale)

    def forward(self, x: Tensor) -> Tensor:
        return self.product(x.flatten(0, -2), self.weight, self.scale, self.bias).unflatten(0, x.shape[:-1])


def to_fp8(x: Tensor) -> tuple[Tensor, Tensor]:
    """One scale for the whole."""
    scale = (x.abs().amax().float() / FP8_MAX).clamp(min=1e-12)
    return (x / scale.to(x.dtype)).clamp_(-FP8_MAX, FP8_MAX).to(FP8), scale


def to_int8(x: Tensor) -> tuple[Tensor, Tensor]:
    """A scale for each row."""
    scale = (x.abs().amax(dim=1, keepdim=True).float() / INT8_MAX).clamp(min=1e-12)
    return (x / scale.to(x.dtype)).round_().clamp_(-INT8_MAX, INT8_MAX).to(torch.int8), scale


def scaled_product(x: Tensor, x_scale: Tensor, weight: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    return torch._scaled_mm(x, weight.t(), x_scale, scale, bias=bias, out_dtype=torch.bfloat16, use_fast_accum=True)


def fp8_product(x: Tensor, weight: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """The input's scale is found anew each time."""
    return scaled_product(*to_fp8(x), weight, scale, bias)


def int8_product(x: Tensor, weight: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    x, x_scale = to_int8(x)
    return (torch._int_mm(x, weight.t()) * x_scale).mul_(scale.t()).add_(bias).bfloat16()


def kitchen_fp8(x: Tensor, weight: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """As ComfyUI does it: the inputs' scale is 1."""
    import comfy_kitchen

    one = torch.ones((), device=x.device)
    return scaled_product(comfy_kitchen.quantize_per_tensor_fp8(x, one, FP8), one, weight, scale, bias)


def kitchen_int8(x: Tensor, weight: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """As ComfyUI does it for files of `convert`, whose inputs are rotated."""
    import comfy_kitchen

    return comfy_kitchen.int8_linear(x, weight, scale, bias, torch.bfloat16, convrot=True)


WAYS = {  # name -> format of mova.checkpoint.quantize, what rounds the weights, the product
    "fp8, torch": ("fp8_e4m3_scaled", to_fp8, fp8_product),
    "fp8, comfy_kitchen": ("fp8_e4m3_scaled", to_fp8, kitchen_fp8),
    "int8, comfy_kitchen": ("int8", to_int8, kitchen_int8),
    "int8, torch": ("int8", to_int8, int8_product),
}


def replace_layers(model: JointModel, way: str) -> int:
    """Put 8-bit layers in place of the Linears that the formats quantise; how many."""
    format_name, quantise, product = WAYS[way]
    kept = QUANTISED[format_name]
    layers = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    names = [
        name for name, layer in layers if is_quantised(kept, f"{name}.weight", tuple(layer.weight.shape), "high_noise")
    ]
    del layers  # which would keep the weights that are replaced
    for name in names:
        place, _, child = name.rpartition(".")
        owner = model.get_submodule(place)
        setattr(owner, child, EightBit(getattr(owner, child), quantise, product))
    return len(names)


def step(place: Place, way: str) -> Figures:
    if "comfy_kitchen" in way:
        if importlib.util.find_spec("comfy_kitchen") is None:
            raise NotMeasured("comfy_kitchen is not installed, nor carried")
        import comfy_kitchen

        comfy_kitchen.disable_backend("triton")  # as ComfyUI does
    kernel = kernels.fastest(place)
    model = VARIANTS[EAGER](expert.build(place), place.small.model, kernel.attention)
    layers = replace_layers(model, way)
    clock.make_room(place)
    given = expert.inputs(place, place.small)
    with kernel.alone():
        expert.warm_up(model, given)
        times, peak = clock.timed(place, lambda: expert.checked(model(*given)), 1, model)
    step, work = 2 * times[0], 2 * sum(bound.of_forward(place.small))
    return {
        "kernel": kernel.name,
        "layers in 8 bits": layers,
        "step s, two times a forward": step,
        "times the bound in bf16 at the measured product rate": step * product_rate(place) / work,
        "peak GiB beside weights": peak,
    }


def tasks(place: Place) -> list[Task]:
    return [Task(way, lambda way=way: step(place, way), 10) for way in WAYS]
