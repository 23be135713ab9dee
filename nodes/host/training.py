"""Training on the experts of a graph: their weights where the host has them, its progress bar and its stop button."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.utils
import torch
from comfy.quant_ops import QuantizedTensor
from torch import Tensor

from ...mova import MovaConfig, MovaError
from ...mova.checkpoint.release import EXPERTS, JOINT
from ...mova.checkpoint.weights import open_file
from ...mova.files import alone
from ...mova.model.presets import DEFAULT
from ...mova.train.base import Base, loader
from ...mova.train.cache import Cache
from ...mova.train.experts import Tensors
from ...mova.train.frozen import MATRICES, Stored
from ...mova.train.loop import go
from ...mova.train.output import told_of
from ...mova.train.plot import draw_plot
from ...mova.train.run import Report, Run, differences, load_run, plan_run, state_path
from ...mova.train.settings import Settings
from . import identity, notice
from .accessory import harmless

PAUSE = 1.0  # seconds between two pictures of the losses
WIDEST = 800  # pixels of one
FP8 = "TensorCoreFP8E4M3Layout"  # the host's name of the format that Frozen stores


def check_trainable(model: Any, slot: str) -> None:
    """Raise MovaError if the MODEL is not what its file holds, or holds what cannot be read as numbers."""
    changed = [name for name in model.object_patches if name.startswith("diffusion_model.")]
    if model.patches or changed or getattr(model, "injections", None):
        raise MovaError(
            f"The model in {slot} has a LoRA or another patch on it, which would be trained against; connect MOVA "
            "Model Loader."
        )
    for name, weight in model.model.diffusion_model.named_parameters():
        if hasattr(weight, "tensor_type"):  # of the GGUF loader's tensors
            raise MovaError(
                f"The model in {slot} is GGUF, which cannot be trained on; load the safetensors file (base fp8 needs "
                "little more memory)."
            )
        if weight.is_meta:
            raise MovaError(f"The model in {slot} has no {name} in memory; load it again with MOVA Model Loader.")


def base_of(models: Mapping[str, Any]) -> Base:
    """The model that these ModelPatchers, by "high_noise" and "low_noise", are the experts of.

    Raises MovaError if their audio towers or bridges differ: only one of each is trained.
    """
    by_part = {EXPERTS[noise]: model for noise, model in models.items()}
    shared = [digest_of(model, True) for model in models.values()]
    if len(set(shared)) > 1:
        raise MovaError(
            "The audio tower and the bridge of model_high and model_low differ; load both experts of one release."
        )
    config: MovaConfig = next(iter(models.values())).model.mova_config
    keys = identity.digest([shared[0], [digest_of(model, False) for model in models.values()]])

    def read(part: str) -> Tensors:
        model = by_part.get(part, next(iter(by_part.values())))
        for name, weight in model.model.diffusion_model.named_parameters():
            if name.startswith(f"{part}.") if part in JOINT else not name.startswith(JOINT):
                yield name, stored(name, weight)

    return Base(config, DEFAULT.boundary, keys, loader(config, read))


def digest_of(model: Any, joint: bool) -> str:
    """By a few values of each weight in the audio tower and the bridge, or in all else, wherever they lie."""
    parts = tuple(f"diffusion_model.{part}." for part in JOINT)
    weights = [
        (name, dtype, shape, stored.detach().flatten()[: identity.FEW].cpu().as_subclass(Tensor))
        for name, dtype, shape, _, stored in identity.weights_before(model)
        if name.startswith(parts) == joint
    ]
    return identity.digest(weights)


def stored(name: str, weight: Any) -> Tensor | Stored:
    """A weight as plain numbers, where it lies; a matrix in scaled fp8 as it is, other formats decoded."""
    if not isinstance(weight, QuantizedTensor):
        return weight.detach().as_subclass(Tensor)
    if weight._layout_cls == FP8 and MATRICES.fullmatch(name.removesuffix(".weight")):
        scale = weight._params.scale
        if scale.numel() == 1:
            return {"": weight._qdata, "_scale": scale.float().reshape(())}
    return weight.dequantize()


class Shown:
    """A run on its node: a bar, the losses as its preview, and a line."""

    def __init__(self, steps: int) -> None:
        self.bar = comfy.utils.ProgressBar(steps)
        self.run: Run | None = None
        self.drawn = 0.0

    def report(self) -> Report:
        look: Callable[[], None] = comfy.model_management.throw_exception_if_processing_interrupted
        return Report(self.part, harmless(self.step, "The progress of MOVA Train LoRA"), notice.show, look)

    def part(self, text: str) -> None:
        steps = f"step {self.run.done} of {self.run.settings.steps}, " if self.run and self.run.done else ""
        notice.show_line(steps + text)

    def step(self, done: int, of: int) -> None:
        picture, now = None, time.monotonic()
        if self.run is not None and self.run.records and (now - self.drawn > PAUSE or done == of):
            self.drawn, picture = now, ("JPEG", draw_plot(self.run.records), WIDEST)
        self.bar.update_absolute(done, of, picture)


def train(base: Base, cache: Cache, settings: Settings, out: Path, device: torch.device, resume: bool) -> None:
    """Train to the end, so that the LoRA is at `out`; with `resume` no more of it than is left to do.

    What is loaded leaves the device first. Raises MovaError for what does not fit, or for a LoRA of that name of
    another run, and what the host raises for its stop button; then the steps that are done are kept.
    """
    shown = Shown(settings.steps)
    # Gradients: in a graph the host has switched them off, for good in what is made here.
    with alone(out), torch.inference_mode(False), torch.enable_grad():
        run = plan_run(base, cache, settings, out, device, shown.report())
        if is_finished(run, resume):
            notice.show(f"{out.name} is trained already; nothing was left to do.")
            return
        comfy.model_management.unload_all_models()
        comfy.model_management.soft_empty_cache()
        load_run(run, resume and state_path(out).exists())
        shown.run = run
        go(run)


def is_finished(run: Run, resume: bool) -> bool:
    """Whether the LoRA is there. Raises MovaError if one of another run is there that must not be replaced."""
    if not resume or not run.out.exists() or state_path(run.out).exists():  # loading tells whether that is of this run
        return False
    told = told_of(open_file(run.out))
    others = differences(run, told)
    if others or told.get("steps_done") != run.settings.steps:
        what = f" with another {' and another '.join(others)}" * bool(others)
        raise MovaError(
            f"{run.out} is there already, of a run{what}; give another lora_name, or switch resume off to replace it."
        )
    return True
