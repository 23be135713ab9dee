"""A teacher of the audio on the host: the expert without its LoRA, asked once a step (mova/model/teacher.py)."""

import contextlib
from collections.abc import Iterator
from typing import Any

import comfy.model_management
import torch
from torch import Tensor

from ...mova.checkpoint.release import JOINT
from .identity import FEW, digest, weights_before, weights_of

BF16 = 2**-7  # what its rounding changes at most, twice
TEACHER = "mova_audio_teacher"  # in transformer_options


class Teacher:
    """A MODEL, and the layer from which on it is asked."""

    def __init__(self, model: Any, first: int) -> None:
        self.first, self.known = first, digest(weights_of(model), FEW)  # by which a run is known again
        self._model = model

    @contextlib.contextmanager
    def at_work(self, pupil: Any, x: Tensor) -> Iterator[Any]:
        """Its weights are loaded, then the pupil's again: of clones of one MODEL the host has one at a time."""
        model = self._model
        needed = model.model.memory_required([*x.shape])
        comfy.model_management.load_models_gpu([model], memory_required=needed)
        model.model.current_patcher = model
        try:
            yield model.model
        finally:
            model.model.current_patcher = None
            comfy.model_management.load_models_gpu([pupil], memory_required=needed)
            pupil.model.current_patcher = pupil


def teacher_notice(model: Any, teacher: Any, slot: str, teacher_slot: str) -> str | None:
    """What to tell of a teacher from whom there is nothing to learn, or who knows another sound.

    A pupil's file may have its LoRA merged into it: so other weights are told, and not refused.
    """
    if teacher.model is model.model:
        same = teacher.patches_uuid == model.patches_uuid
        return f"The model in {slot} is its own teacher, which only takes time; put its LoRA there." if same else None
    theirs = dict(sound_of(teacher))
    if any(is_other(ours, theirs[name]) for name, ours in sound_of(model) if name in theirs):
        return (
            f"The audio tower or the bridge in {teacher_slot} is not that in {slot}: it is of another release, or one "
            "of the two has a LoRA in its file. A teacher is the same release's expert, without the LoRA."
        )
    return None


def sound_of(model: Any) -> Iterator[tuple[str, tuple[str, Tensor]]]:
    """Each weight of the audio tower and the bridge: how it is stored, and its first values, before LoRAs."""
    parts = tuple(f"diffusion_model.{part}." for part in JOINT)
    for name, dtype, shape, kind, stored in weights_before(model):
        if name.startswith(parts):
            with contextlib.suppress(RuntimeError, NotImplementedError):  # it has its values nowhere
                yield name, (f"{dtype} {kind} {shape}", stored.detach().as_subclass(Tensor).flatten()[:FEW].cpu())


def is_other(one: tuple[str, Tensor], other: tuple[str, Tensor]) -> bool:
    """Whether two weights differ by more than rounding does. Of those that are stored differently nobody knows."""
    return one[0] == other[0] and not torch.allclose(one[1].float(), other[1].float(), rtol=BF16, atol=1e-7)


def with_teacher(model: Any, teacher: Any, first: int) -> Any:
    """A clone of the MODEL that has this one as a teacher."""
    model = model.clone()
    model.model_options["transformer_options"][TEACHER] = Teacher(teacher, first)
    return model


def teacher_of(options: dict[str, Any]) -> Teacher | None:
    """That of a MODEL's options, if it has one."""
    return options.get("transformer_options", {}).get(TEACHER)
