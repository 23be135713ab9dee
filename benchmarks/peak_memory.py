"""Peak activation memory and FLOPs of one joint forward of the released size, worked out on fake tensors (no GPU).

    python benchmarks/peak_memory.py

The peak is that of the live tensors made during the forward; weights are left out. With --prism at the sizes that Prism
was trained at: minutes, of which --layers 2 spares most.
"""

import argparse
import contextlib
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from peakmem import PeakMem
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from mova import JointModel, MovaConfig
from mova.model.kernels import LOW_MEMORY, Kernels
from mova.model.presets import PRESETS, PRISM, Preset
from mova.model.video_memory import VideoMemory
from mova.sampling.conditioning import audio_latents, latent_frames


def with_layers(config: MovaConfig, layers: int, sound: int | None = None) -> MovaConfig:
    """The released width with fewer layers, so many of them with sound (None: all but the last)."""
    sound = layers - 1 if sound is None else sound
    towers = replace(config.video_dit, num_layers=layers), replace(config.audio_dit, num_layers=sound)
    return MovaConfig(*towers, replace(config.dual_tower_bridge, visual_layers=layers, audio_layers=sound))


def forward_of(
    preset: Preset,
    kernels: Kernels,
    dtype: torch.dtype,
    layers: int | None = None,
    memory: VideoMemory | None = None,
) -> tuple[JointModel, Callable[[], object]]:
    """The model without values, and one forward of it at the preset's clip size; to be used under FakeTensorMode."""
    size = latent_frames(preset.frames), preset.height // 8, preset.width // 8
    config = preset.model if layers is None else with_layers(preset.model, layers)
    model = JointModel(config, dtype, "cpu", kernels=kernels)
    video = torch.empty(1, preset.model.video_dit.in_dim, *size, dtype=dtype)
    audio = torch.empty(1, 128, audio_latents(preset.frames, preset.fps), dtype=dtype)
    text = torch.empty(1, 512, preset.model.video_dit.text_dim, dtype=dtype)
    timestep = torch.empty(1)
    return model, lambda: model(video, audio, timestep, timestep, text, preset.fps, memory=memory)


def measure(
    preset: Preset,
    kernels: Kernels | None = None,
    dtype: torch.dtype = torch.bfloat16,
    layers: int | None = None,
    counted: bool = True,
) -> tuple[float, float, PeakMem]:
    """Peak GiB and FLOPs of one forward at the preset's clip size, and what was alive at the peak.

    layers: in place of the release's. The peak is the same from 2 on, and is found in seconds. counted: whether FLOPs
    are, which takes as long again.
    """
    with FakeTensorMode(), torch.no_grad():
        model, forward = forward_of(preset, kernels or Kernels(), dtype, layers)
        flops = FlopCounterMode(display=False)
        with flops if counted else contextlib.nullcontext(), PeakMem(model) as memory:
            forward()
    return memory.peak / 2**30, flops.get_total_flops(), memory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--report", action="store_true", help="list what is alive at the peak")
    parser.add_argument("--low-memory", action="store_true", help="the model's option")
    parser.add_argument("--layers", type=int, help="fewer than the release has: the same peak, sooner")
    parser.add_argument("--prism", action="store_true", help="Prism's sizes, and 289 frames, in place of MOVA's")
    options = parser.parse_args()
    longer = {"Prism 1080p, longer": replace(PRISM["Prism 1080p"], frames=289)}
    for name, preset in ({**PRISM, **longer} if options.prism else PRESETS).items():
        peak, flops, memory = measure(preset, LOW_MEMORY if options.low_memory else Kernels(), layers=options.layers)
        print(f"{name} {preset.width}x{preset.height}x{preset.frames}: peak {peak:.2f} GiB, {flops:.3e} FLOPs")
        if options.report:
            memory.report()


if __name__ == "__main__":
    main()
