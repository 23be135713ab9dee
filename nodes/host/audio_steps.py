"""Several audio steps in each step of the video, under the host's guidance and masks: mova/sampling/audio_steps.py."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.samplers
import folder_paths
import torch
from comfy.k_diffusion.sampling import to_d, trange
from torch import Tensor

from ...mova import MovaError
from ...mova.model.joint import RunLayer
from ...mova.model.teacher import Tokens
from ...mova.model.video_memory import Shelf, VideoMemory, joined
from ...mova.sampling.audio_steps import between, check_audio_steps
from .audio_teacher import Teacher, teacher_of

KEY = "mova_video_memory"  # in transformer_options


def shelf() -> Shelf:
    """By what the host counts as free, and in its folder of temporary files, which it empties if a process dies."""
    return Shelf(comfy.model_management.get_free_memory, Path(folder_paths.get_temp_directory()))


@dataclass
class Memories:
    """What the evaluations of a video step have kept of the video, by their conditioning (the host's uuid)."""

    fp8: bool = False
    recording: bool = True
    teacher: Teacher | None = None
    teaching: bool = False  # its pass is at work
    pupils: Sequence[Any] = ()  # uuids of the conditionings that it is asked for
    tokens: dict[Any, tuple[Tensor, Tensor]] = field(default_factory=dict)  # of these, in front of its first layer
    found: dict[Any, VideoMemory] = field(default_factory=dict)
    shelf: Shelf = field(default_factory=shelf)

    def begin(self) -> None:
        """A video step: what the last one has kept is dropped."""
        self.found.clear()
        self.tokens.clear()
        self.recording = True

    def close(self) -> None:
        """A run has ended: all of it is dropped, on the disk too."""
        self.begin()
        self.shelf.close()

    def new(self, device: torch.device, size: int, uuids: Sequence[Any]) -> VideoMemory:
        """For an evaluation of these conditionings that will keep so many bytes; what they have kept is dropped."""
        for uuid in uuids:
            self.found.pop(uuid, None)
        return VideoMemory(self.shelf.place(device, size), self.fp8, "_".join(map(str, uuids)) + "_")

    def take(self, memory: VideoMemory, uuids: Sequence[Any], batch: int) -> None:
        """Keep what an evaluation of several conditionings has kept, apart."""
        rows = batch // len(uuids)
        for i, uuid in enumerate(uuids):
            self.found[uuid] = memory.rows(slice(i * rows, i * rows + rows))

    def taught(self) -> None:
        """The teacher has been asked: what it saw is all that is kept."""
        self.found = {uuid: self.found[uuid] for uuid in self.pupils}
        self.tokens.clear()
        self.teaching = self.recording = False

    def tokens_at(self, first: int, run: RunLayer, uuids: Sequence[Any], batch: int) -> Tokens:
        """Around run_layer: what keeps the tokens of those whom the teacher is asked for."""
        each = batch // len(uuids)
        rows = [i * each + row for i, uuid in enumerate(uuids) if uuid in self.pupils for row in range(each)]
        return Tokens(first, run, rows)

    def take_tokens(self, tokens: Tokens, uuids: Sequence[Any]) -> None:
        mine = [uuid for uuid in uuids if uuid in self.pupils]
        if mine and (kept := tokens.take()) is not None:
            parts = zip(*(part.chunk(len(mine)) for part in kept), strict=True)
            self.tokens |= {uuid: (video, audio) for uuid, (video, audio) in zip(mine, parts, strict=True)}

    def given_tokens(self, uuids: Sequence[Any]) -> tuple[Tensor, Tensor]:
        """For the teacher, who uses them up."""
        found = [self.tokens[uuid] for uuid in uuids]
        return torch.cat([video for video, _ in found]), torch.cat([audio for _, audio in found])

    def of(self, uuids: Sequence[Any]) -> VideoMemory:
        """Of one that was not evaluated with the video: what another has kept."""
        other = next((memory for memory in self.found.values() if memory.layers), None)
        return joined([self.found.get(uuid) or other or VideoMemory() for uuid in uuids])


def with_audio_steps(sampler: Any, count: int, shift: float, latent: Any, fp8: bool, euler: Any) -> Any:
    """The host's Euler, or with more than one audio step ours. shift: the video's. Raises MovaError for others."""
    check_audio_steps(count)
    if count == 1:
        return sampler
    if getattr(sampler, "sampler_function", None) is not euler:
        raise MovaError("audio_steps needs the sampler euler; leave the socket sampler open, or set audio_steps to 1.")
    audio = latent.unbind()[-1]
    options = {"audio_steps": count, "shift": shift, "numbers": audio[0].numel(), "fp8": fp8}
    return comfy.samplers.KSAMPLER(sample_euler, options, sampler.inpaint_options)


@torch.no_grad()
def sample_euler(
    model: Any,
    x: Tensor,
    sigmas: Tensor,
    extra_args: dict[str, Any],
    callback: Any = None,
    disable: bool | None = None,
    audio_steps: int = 1,
    shift: float = 1.0,
    numbers: int = 0,
    fp8: bool = False,
) -> Tensor:
    """As the host's; the last `numbers` of each row of x [B, 1, N] are the audio, which takes steps of its own."""
    options = extra_args["model_options"]
    if "context_handler" in options:
        raise MovaError("audio_steps does not work with context windows; set it to 1.")
    memories = Memories(fp8, teacher=teacher_of(options))
    told = {**options.get("transformer_options", {}), KEY: memories}
    args = {**extra_args, "model_options": {**options, "transformer_options": told}}
    ones, start, table = x.new_ones([len(x)]), x.shape[2] - numbers, sigmas.cpu()
    own = [between(table, i, audio_steps, shift).to(sigmas) for i in range(len(sigmas) - 1)]
    try:
        for i in trange(len(sigmas) - 1, disable=disable):
            memories.begin()
            denoised = model(x, sigmas[i] * ones, **args)
            direction = to_d(x, sigmas[i], denoised)
            if callback is not None:
                callback({"x": x, "i": i, "sigma": sigmas[i], "sigma_hat": sigmas[i], "denoised": denoised})
            memories.recording, audio, inner = False, x[..., start:], own[i]
            if memories.teacher is None:
                audio, inner = audio + direction[..., start:] * (inner[1] - inner[0]), inner[1:]
            else:
                memories.teaching = True
                model(x, sigmas[i] * ones, **args)
                memories.taught()
            for now, after in pairwise(inner):
                alone = model(torch.cat([x[..., :start], audio], dim=2), now * ones, **args)[..., start:]
                audio = audio + to_d(audio, now, alone) * (after - now)
            video = x[..., :start] + direction[..., :start] * (sigmas[i + 1] - sigmas[i])
            x = torch.cat([video, audio], dim=2)
        return x
    finally:
        memories.close()
