"""A teacher of the audio on the host: the expert without its LoRA, asked once a step (mova/model/teacher.py)."""

import contextlib
from collections.abc import Iterator
from typing import Any

import comfy.model_management
from torch import Tensor

from .identity import FEW, digest, weights_of

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


def with_teacher(model: Any, teacher: Any, first: int) -> Any:
    """A clone of the MODEL that has this one as a teacher."""
    model = model.clone()
    model.model_options["transformer_options"][TEACHER] = Teacher(teacher, first)
    return model


def teacher_of(options: dict[str, Any]) -> Teacher | None:
    """That of a MODEL's options, if it has one."""
    return options.get("transformer_options", {}).get(TEACHER)
