"""The parts, the most valuable first, and the seconds that each may take."""

import sys
from dataclasses import dataclass

WHOLE = 480  # seconds


@dataclass(frozen=True)
class Part:
    """A process of its own: what it has measured when it fails, or is ended at its limit, stays."""

    name: str
    title: str
    seconds: float  # at most; what earlier parts have left over is added: of 0, that is all it gets
    beside: bool = False  # computed on the processor while the others run
    command: tuple[str, ...] = ()  # in place of `python -m gpu.part NAME`

    def begins(self) -> list[str]:
        return list(self.command) or [sys.executable, "-m", "gpu.part", self.name]


PARTS = [
    Part("computed", "Computed: one forward's activation memory and work", WHOLE, beside=True),
    Part("ceilings", "What the device can do", 40),
    Part("step", "A step of 640x352, 193 frames (two forwards)", 125),
    Part("profile", "Where a forward of 640x352, 193 frames spends its time", 40),
    Part("large", "A forward of 1280x720, 193 frames", 40),
    Part("formats", "Weights and products in 8 bits, 640x352, 193 frames", 55),
    Part("diffsynth", "diffsynth 2.1.12 on the same weights, 640x352, 193 frames", 60),
    Part("audio_vae", "The audio VAE on 8 seconds of sound, float32", 20),
    Part("comfyui", "MOVA Joint Sampler in ComfyUI, both experts in fp8, 640x352, 193 frames, cfg 1", 100),
    Part("whole", "A whole forward of 1280x720, 193 frames", 0),
]
