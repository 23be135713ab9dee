"""What the host sets aside for an evaluation where the model works in less memory than the family's factor says."""

import math
from collections.abc import Sequence
from typing import Any

import comfy.patcher_extension

from .kernels import OPTIONS, Options

KEY = "mova_estimate"
# Of ACTIVATION_FACTOR's bytes, with low memory and no attention of a pack's, which would get all heads at once:
# 29.8 GiB in place of 35.8 at 2560x1440x205, and the same at every size (benchmarks/peak_memory.py).
LOW_MEMORY_SHARE = 0.84


def as_needed(model: Any, packed: Sequence[int]) -> list[int]:
    """The shape [B, 1, N] of packed latents, with N as large as the host's estimate should take it for."""
    options = model.model_options.get("transformer_options", {})
    less = options.get(OPTIONS, Options()).low_memory and "optimized_attention_override" not in options
    share = LOW_MEMORY_SHARE if less else 1.0
    return [*packed[:-1], math.ceil(packed[-1] * share)]


def tell_host(model: Any) -> None:
    """Have the host's estimate of a run of this MODEL follow its options. It asks the network, which has none."""

    def prepare(executor: Any, patcher: Any, noise_shape: Sequence[int], *args: Any, **kwargs: Any) -> Any:
        return executor(patcher, as_needed(patcher, noise_shape), *args, **kwargs)

    wrapper = comfy.patcher_extension.WrappersMP.PREPARE_SAMPLING
    model.remove_wrappers_with_key(wrapper, KEY)
    model.add_wrapper_with_key(wrapper, KEY, prepare)
