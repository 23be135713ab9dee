"""The velocities that the sampler follows: of both modalities, and of the audio alone."""

from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from ..model.joint import JointModel, RunLayer, Text, run_layer
from ..model.teacher import Tokens
from ..model.video_memory import Shelf, VideoMemory, byte_count, free_on
from ..sampling.audio_steps import apart, of_video, shown, together
from ..sampling.guidance import Guidance, guided
from ..sampling.guidance_plan import step_of
from ..sampling.schedule import TIMESTEPS
from .request import Request


@dataclass
class Velocities:
    """`texts`: the positive and the negative prompt; `sigmas`: the video's, of the whole run."""

    model: JointModel
    texts: list[Text]
    condition: Tensor
    request: Request
    sigmas: Tensor
    kept: dict[tuple[bool, bool], VideoMemory] = field(default_factory=dict)
    guidance: Guidance = field(default_factory=Guidance)  # of the step
    shelf: Shelf = field(default_factory=lambda: Shelf(free_on))
    teacher: "Teacher | None" = None

    def joint(self, video: Tensor, audio: Tensor, video_time: float, audio_time: float) -> tuple[Tensor, Tensor]:
        """Of both, for euler. What the audio's own steps attend to is kept, if there are any."""
        request = self.request
        self.guidance = request.plan.at(step_of(video_time / TIMESTEPS, self.sigmas), request.steps)
        x = torch.cat([video, self.condition], dim=1)
        timesteps = [torch.tensor([time], device=video.device) for time in (video_time, audio_time)]
        self.kept.clear()
        if self.teacher is not None:
            return self.taught(self.teacher, x, video, audio, timesteps)
        needed = self.guidance.needed()
        both = needed if request.audio_steps == 1 else together(self.guidance)

        def evaluate(positive: bool, bridge: bool) -> tuple[Tensor, Tensor]:
            if (positive, bridge) not in both:
                return torch.zeros_like(video), self.alone(audio, timesteps[1], positive, bridge)
            scale = float(bridge)
            prompt = self.texts[0] if positive else self.texts[1]
            memory = self.memory(positive, x, len(both)) if bridge and request.audio_steps > 1 else None
            made = self.model(x, audio, *timesteps, prompt, request.fps, scale, scale, memory=memory)
            self.kept[positive, bridge] = memory or VideoMemory()
            return made

        found = {kind: evaluate(*kind) for kind in sorted(needed, key=lambda kind: kind not in both)}
        return guided(lambda *kind: found[kind], self.guidance)

    def taught(
        self, teacher: "Teacher", x: Tensor, video: Tensor, audio: Tensor, timesteps: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """As joint, where the audio sees the picture as the teacher does, from its first step on."""
        both, asked = of_video(self.guidance), shown(self.guidance)

        def evaluate(positive: bool, bridge: bool) -> tuple[Tensor, Tensor]:
            scale, tokens = float(bridge), Tokens(teacher.first, run_layer)
            prompt, mine = self.texts[0 if positive else 1], (positive, bridge) == asked
            memory = self.memory(positive, x, 1) if mine else None
            if memory is not None:
                memory.until = teacher.first
            given = (x, audio, timesteps[0], timesteps[1])
            run: RunLayer = tokens if mine and teacher.first else run_layer
            made = self.model(*given, prompt, self.request.fps, scale, scale, memory=memory, run_layer=run)
            if memory is not None:
                memory.until = None
                text, fps = teacher.texts[0 if positive else 1], self.request.fps
                look = partial(teacher.model.look, first=teacher.first, tokens=tokens.take())
                look(*given, text, memory, fps, scale, scale)
                self.kept[asked] = memory
            return made

        found = {kind: evaluate(*kind) for kind in together(self.guidance)}
        needed = both if set(both.needed()) <= set(found) else self.guidance
        return guided(lambda *kind: found[kind], needed)[0], self.audio(audio, float(timesteps[1]))

    def audio(self, audio: Tensor, time: float) -> Tensor:
        """Of the audio alone, against what the last evaluation of both has kept of the video."""
        timestep = torch.tensor([time], device=audio.device)

        def evaluate(positive: bool, bridge: bool) -> tuple[Tensor, Tensor]:
            velocity = self.alone(audio, timestep, positive, bridge)
            return velocity, velocity

        return guided(evaluate, apart(self.guidance))[1]

    def alone(self, audio: Tensor, timestep: Tensor, positive: bool, bridge: bool) -> Tensor:
        """One evaluation of it, which sees the video as the same of both did, else as another did."""
        rotations = self.model.rotations(self.grid(), audio.shape[-1], self.request.fps, audio.device)
        memory = self.kept.get((positive, bridge)) or next(kept for kept in self.kept.values() if kept.layers)
        text = self.texts[0 if positive else 1]
        return self.model.audio_velocity(audio, timestep, text.audio, memory, rotations, float(bridge))

    def grid(self) -> tuple[int, ...]:
        """Of the video's tokens."""
        return tuple(n // p for n, p in zip(self.condition.shape[2:], self.model.sizes.patch_size, strict=True))

    def memory(self, positive: bool, x: Tensor, evaluations: int) -> VideoMemory:
        fp8, name = self.request.audio_memory == "fp8", "positive" if positive else "negative"
        bridge = self.model.dual_tower_bridge.config
        tokens, item = torch.Size(self.grid()).numel(), 1 if fp8 else self.texts[0].audio.element_size()
        size = byte_count(tokens, bridge.audio_hidden_dim, len(bridge.layers), item)
        return VideoMemory(self.shelf.place(x.device, size * evaluations), fp8, name)

    def close(self) -> None:
        """Drop what is kept, on the disk too."""
        self.kept.clear()
        self.shelf.close()


@dataclass(eq=False)
class Teacher:
    """An expert without LoRAs, which is asked from a layer on. `texts`: as of Velocities, embedded by it."""

    model: JointModel
    texts: list[Text]
    first: int = 0
