"""Peak activation memory of one training step of the released size, worked out on fake tensors (no GPU).

    python benchmarks/train_memory.py [--layers 3]

LoRA of rank 16 on all attention, in float32; frozen weights in bf16. Counted are the live tensors made during forward
and backward, gradients of the LoRA with them; weights and the optimizer's state are left out.
"""

import argparse
import sys
from pathlib import Path
from typing import NamedTuple

import torch
from peak_memory import with_layers
from peakmem import PeakMem
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from mova import PRESETS, JointModel
from mova.sampling.conditioning import audio_latents, latent_frames
from mova.train import add_lora, checkpointed, checkpointing, velocity_losses


class Clip(NamedTuple):
    width: int
    height: int
    frames: int

    def __str__(self) -> str:
        return "x".join(map(str, self))


CLIPS = Clip(448, 256, 49), Clip(640, 352, 49), Clip(640, 352, 193), Clip(1280, 720, 49)
WAYS = {
    "layers": {"layers": True},
    "layers, inputs in RAM": {"layers": True, "in_ram": True},
    "pieces, inputs in RAM": {"layers": True, "in_ram": True, "pieces": True},
}


def elsewhere(x: Tensor) -> tuple[torch.device, Tensor]:
    """checkpointing.to_ram, on a device that is not counted."""
    return x.device, x.to("meta")


def measure(clip: Clip, way: dict[str, bool], layers: int | None = None, rank: int = 16) -> PeakMem:
    """What was alive at the peak of one step. layers: in place of the release's; the peak differs little."""
    preset = PRESETS["MOVA-360p"]
    config = preset.model if layers is None else with_layers(preset.model, layers)
    checkpointing.to_ram = elsewhere
    with FakeTensorMode():
        model = JointModel(config, torch.bfloat16, "cpu")
        parameters = add_lora(model, "video_dit", "attention", rank, rank)
        size = latent_frames(clip.frames), clip.height // 8, clip.width // 8
        video, condition = torch.empty(1, 16, *size), torch.empty(1, 20, *size)
        audio = torch.empty(1, 128, audio_latents(clip.frames, preset.fps))
        text, timestep = torch.empty(1, 512, config.video_dit.text_dim, dtype=torch.bfloat16), torch.empty(1)
        seen = checkpointed(model, **way)
        with PeakMem(model) as memory:
            losses = velocity_losses(
                seen,
                video,
                audio,
                condition,
                text,
                torch.empty_like(video),
                torch.empty_like(audio),
                timestep,
                timestep,
            )
            sum(losses).backward()
        assert all(parameter.grad is not None for parameter in parameters.values())
    return memory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--report", action="store_true", help="list what is alive at the peak")
    parser.add_argument("--layers", type=int, help="fewer than the release has: nearly the same with inputs in RAM")
    options = parser.parse_args()
    for clip in CLIPS:
        for name, way in WAYS.items():
            memory = measure(clip, way, options.layers)
            print(f"{clip!s:12} {name:22} {memory.peak / 2**30:6.2f} GiB", flush=True)
            if options.report:
                memory.report()


if __name__ == "__main__":
    main()
