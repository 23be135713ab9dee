"""NaN and infinite values, told where they arose, and what to do: in what is given, and in a run at the step."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import torch
from comfy.quant_ops import QuantizedTensor
from torch import Tensor

from ...mova import MovaError
from ...mova.model.stored_config import EXPERT_NAMES
from ...mova.sampling.finite import NotFinite, all_finite
from ...mova.shorten import first_names

NAN = "NaN or infinite values"

AUDIO_TEXT = "mova_audio_text"  # a conditioning's entry: text features of the audio tower's own [B, tokens, width]


def check(tensor: Any, whose: str, remedy: str) -> None:
    """Raise MovaError if a tensor (also a nested one) holds NaN or infinite values. Waits for its device."""
    if not all(map(all_finite, tensor.unbind() if getattr(tensor, "is_nested", False) else [tensor])):
        raise MovaError(f"{whose} holds {NAN}; {remedy}.")


def check_latent(parts: Any, whose: str) -> None:
    """check() for the video and the audio of a latent; `whose` latent it is begins the sentence."""
    for part in parts:
        kind = {5: "video", 3: "audio"}.get(part.ndim, "picture")
        check(part, f"The {kind} latent {whose}", "look at the node that made it")


def check_entries(text: Tensor | None, entries: dict[str, Any]) -> None:
    """check() for the tensors of a conditioning, before the weights are loaded for it."""
    named = {
        "text": text,
        "audio prompt": entries.get(AUDIO_TEXT),
        "picture": entries.get("concat_latent_image"),
        "mask": entries.get("concat_mask"),
    }
    for what, tensor in named.items():
        if isinstance(tensor, Tensor):
            remedy = "encode the text again" if what in ("text", "audio prompt") else "look at the VAE and the picture"
            check(tensor, f"The conditioning's {what}", remedy)


def look(model: Any, wait: bool = False) -> None:
    """Raise MovaError if an evaluation of this MOVA model has left NaN behind; with `wait`, none stays unasked."""
    try:
        model.watch.check(wait)
    except NotFinite as error:
        raise MovaError(told(model, error)) from None


def told(model: Any, error: NotFinite) -> str:
    """What the user is told of an evaluation that was not finite."""
    step, first = step_of(*error.step)
    who = f"the {EXPERT_NAMES[model.expert]} expert" if model.expert in EXPERT_NAMES else "the model"
    if "given" in error.parts and first:
        return f"What {who} starts from (the latent, or its noise) holds {NAN}; look at the node that made it."
    if "given" in error.parts:
        return (
            f"The sampler made {NAN} before {step} of {who}, of outputs that were finite; lower cfg, or take another "
            "sampler or other sigmas."
        )
    return f"{who[0].upper()}{who[1:]} made {NAN} in {step}: {cause(model)}."


def step_of(sigma: Tensor, sigmas: Tensor | None) -> tuple[str, bool]:
    """Which step of its stage an evaluation at this sigma belongs to, in words, and whether it is the first."""
    at = float(sigma.max())
    if sigmas is None:
        return f"a step at sigma {at:.3g}", False
    steps = list(pairwise(float(value) for value in sigmas))
    inside = [i for i, (start, end) in enumerate(steps) if start * (1 + 1e-5) >= at > end * (1 + 1e-5)]
    index = inside[0] if inside else 0
    return f"step {index + 1} of its {len(steps)} (sigma {at:.3g})", index == 0


def cause(model: Any) -> str:
    """Where the NaN comes from, and the way out. Only now, when there is one, is everything looked through."""
    patcher = model.current_patcher
    patches = getattr(patcher, "patches", None) or {}
    if broken := [key for key, given in patches.items() if not all(map(all_finite, tensors_in(given)))]:
        return f"a LoRA on it holds them (for {first_names(broken)}); leave that LoRA out"
    faulty = [f"diffusion_model.{name}" for name in not_finite_weights(model.diffusion_model)]
    if changed := [name for name in faulty if name in patches]:
        return f"LoRAs drive its weights there ({first_names(changed)}); lower their strength"
    if faulty:
        names = [name.removeprefix("diffusion_model.") for name in faulty]
        return f"its weights hold them ({first_names(names)}); download or convert the file again"
    dtype = str(model.get_dtype_inference()).removeprefix("torch.")
    loras = "lower the strength of its LoRAs, or " if patches else ""
    if dtype == "float16":
        return f"numbers grow too large for fp16; {loras}put ModelComputeDtype with bf16 or fp32 behind the loader"
    return (
        f"its weights are finite, so it is what is plugged into it, or numbers too large for {dtype}; {loras}try it "
        "without other nodes on the model, or with ModelComputeDtype at fp32"
    )


def tensors_in(value: Any) -> Iterator[Tensor]:
    """The floating tensors in what the host keeps for a patch: tuples, lists and adapters, nested."""
    if isinstance(value, Tensor):
        if value.is_floating_point():
            yield value
    elif isinstance(value, tuple | list):
        for item in value:
            yield from tensors_in(item)
    elif hasattr(value, "weights"):
        yield from tensors_in(value.weights)


def not_finite_weights(module: torch.nn.Module) -> list[str]:
    """Names of weights that hold NaN or infinite values; of quantised ones, when they are unpacked."""
    found = []
    for prefix, layer in module.named_modules():
        for name, parameter in layer.named_parameters(prefix, recurse=False):
            try:
                value = unpacked(layer, parameter)
                if value.is_floating_point() and not all_finite(value):
                    found.append(name)
            except Exception:  # of a loader's own class of tensors, or weights that are not in memory now
                continue
    return found


def unpacked(layer: Any, parameter: Tensor) -> Tensor:
    """A weight as numbers: the host's quantised ones, and those of GGUF files, which their loader's layers unpack."""
    if isinstance(parameter, QuantizedTensor):
        return parameter.dequantize()
    if hasattr(parameter, "tensor_type") and hasattr(layer, "get_weight"):
        return layer.get_weight(parameter, torch.float32)
    return parameter
