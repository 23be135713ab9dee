"""What is asked for: a clip's settings, checked before anything is loaded, and as they stand in its metadata."""

import dataclasses
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from .. import __version__
from ..checkpoint.release import Checkpoint
from ..errors import MovaError
from ..lora.plan import LoraChoice
from ..model import text
from ..model.presets import DEFAULT
from ..sampling.audio_steps import check_audio_steps
from ..sampling.conditioning import check_fps, check_size
from ..sampling.guidance import Guidance
from ..sampling.guidance_plan import GuidancePlan, Spans
from ..sampling.schedule import is_boundary, sigmas
from ..shorten import short
from .runtime import Runtime

AUDIO_MEMORY = ("exact", "fp8")  # how what the audio's own steps attend to is kept
# Of the settings, how a run is carried out: another one goes on with it just as well, but for rounding.
HOW = ("mova", "torch", "device", "attention", "tiled_vae", "elementwise", "low_memory")


@dataclass(frozen=True)
class Request:
    """What to generate. Shifts and boundary: None takes the checkpoint's."""

    prompt: str
    typed_prompt: str | None = None  # what the user wrote, if a language model has made the prompt of it
    negative_prompt: str = text.NEGATIVE_PROMPT
    audio_prompt: str | None = None  # the audio tower's own; None: the prompt
    image: Image.Image | None = None
    end_image: Image.Image | None = None
    text_only_frame: str = "white"
    width: int = DEFAULT.width
    height: int = DEFAULT.height
    frames: int = DEFAULT.frames
    fps: float = DEFAULT.fps
    steps: int = DEFAULT.steps
    guidance: Guidance = dataclasses.field(default_factory=lambda: Guidance(DEFAULT.guidance))
    spans: Spans = dataclasses.field(default_factory=Spans)  # where guidance counts
    video_shift: float | None = None
    audio_shift: float | None = None
    boundary: float | None = None
    seed: int = 42
    audio_steps: int = 1  # of the audio in each step of the video
    audio_memory: str = AUDIO_MEMORY[0]  # how what these attend to is kept
    audio_teacher: int | None = None  # the layer from which on they see the picture as the model without LoRAs does
    loras: tuple[LoraChoice, ...] = ()

    @property
    def plan(self) -> GuidancePlan:
        return GuidancePlan(self.guidance, self.spans)

    def check(self) -> None:
        """Raise MovaError for a value out of range. Nothing needs to be loaded for that."""
        if not self.prompt.strip():
            raise MovaError("The prompt is empty; say what should be seen and heard.")
        if self.audio_prompt is not None and not self.audio_prompt.strip():
            raise MovaError("The audio prompt is empty; say what should be heard, or leave it out.")
        check_size(self.width, self.height, self.frames)
        check_fps(self.fps)
        for shift in (self.video_shift, self.audio_shift):
            sigmas(self.steps, DEFAULT.shift if shift is None else shift)
        check_audio_steps(self.audio_steps)
        if self.audio_memory not in AUDIO_MEMORY:
            raise MovaError(f"There is no audio memory {short(self.audio_memory)}; choose {' or '.join(AUDIO_MEMORY)}.")
        if self.audio_teacher is not None and not self.loras:
            raise MovaError(
                "The audio's teacher is the model without the LoRAs; give a LoRA, or leave the teacher out."
            )
        if self.boundary is not None and not is_boundary(self.boundary):
            raise MovaError(f"The boundary is {self.boundary}; it must be from 0 to 1, as {DEFAULT.boundary}.")
        if not 0 <= self.seed < 2**64:
            raise MovaError(f"The seed is {self.seed}; it must be from 0 to 2^64 - 1.")
        if self.end_image is not None and self.frames == 1:
            raise MovaError("A clip of one frame has no last frame apart from its first; leave the end image out.")
        for lora in self.loras:
            lora.check()


def settings_of(checkpoint: Checkpoint, request: Request, runtime: Runtime) -> dict[str, Any]:
    """All that is needed to make the same clip again, for its metadata."""
    kept = {field.name: getattr(request, field.name) for field in dataclasses.fields(request)}
    kept |= {name: kept[name] is not None for name in ("image", "end_image")}
    optional = {"audio_prompt": None, "typed_prompt": None, "audio_steps": 1, "audio_memory": AUDIO_MEMORY[0]}
    optional["audio_teacher"] = None
    for name, usual in optional.items():
        if kept[name] == usual:  # as in clips and kept runs of before there was such a setting
            del kept[name]
    kept["loras"] = [str(lora) for lora in request.loras]
    kept |= {name: checkpoint.schedule.shift for name in ("video_shift", "audio_shift") if kept[name] is None}
    kept["boundary"] = checkpoint.boundary if request.boundary is None else request.boundary
    guidance = kept.pop("guidance")
    spans = dataclasses.asdict(kept.pop("spans"))
    kept |= {
        f"guidance_{name}": spans[name] for name, usual in dataclasses.asdict(Spans()).items() if spans[name] != usual
    }
    kept |= {"guidance": guidance.text, "bridge_guidance": guidance.bridge, "audio_guidance": guidance.audio}
    kept |= {"checkpoint": checkpoint.name, "dtype": str(runtime.dtype).removeprefix("torch.")}
    kept |= {"device": runtime.device.type, "attention": runtime.attention, "tiled_vae": bool(runtime.tiled_vae)}
    kept |= {"elementwise": runtime.elementwise, "low_memory": runtime.low_memory}
    return kept | {"mova": __version__, "torch": str(torch.__version__)}


def identity(checkpoint: Checkpoint, request: Request, runtime: Runtime) -> dict[str, Any]:
    """settings_of, with what tells apart pictures, weights and LoRAs of the same names: another is another run."""
    files = [path for weights in checkpoint.weights.values() for path in weights.paths()]
    loras = [path for choice in request.loras for path in (choice.path, *choice.path.glob("*"))]
    pictures = {"image": request.image, "end_image": request.end_image}
    return {
        **settings_of(checkpoint, request, runtime),
        **{
            name: picture and digest([str(picture.size).encode(), picture.tobytes()])
            for name, picture in pictures.items()
        },
        "weights": digest(map(stamp, files)),
        "lora_files": digest(map(stamp, loras)),
    }


def stamp(path: Path) -> bytes:
    """Tells a file from another one that has its place: size and time."""
    try:
        found = path.stat()
    except OSError:  # told where the file is read
        return path.name.encode()
    return f"{path.name} {found.st_size} {found.st_mtime_ns}".encode()


def digest(parts: Iterable[bytes]) -> str:
    whole = hashlib.sha256()
    for part in parts:
        whole.update(part)
    return whole.hexdigest()[:16]
