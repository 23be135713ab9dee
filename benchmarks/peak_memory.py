"""Peak activation memory and FLOPs of one joint forward of the released size, worked out on fake tensors (no GPU).

    python benchmarks/peak_memory.py

The peak is that of the live tensors made during the forward; weights are left out.
"""

import argparse
import sys
from pathlib import Path

import torch
from peakmem import PeakMem
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from mova import PRESETS, JointModel
from mova.conditioning import audio_latents, latent_frames
from mova.config import Preset


def measure(preset: Preset, dtype: torch.dtype = torch.bfloat16) -> tuple[float, float, PeakMem]:
    """Peak GiB and FLOPs of one forward at the preset's clip size, and what was alive at the peak."""
    size = latent_frames(preset.frames), preset.height // 8, preset.width // 8
    with FakeTensorMode(), torch.no_grad():
        model = JointModel(preset.model, dtype, "cpu")
        video = torch.empty(1, preset.model.video_dit.in_dim, *size, dtype=dtype)
        audio = torch.empty(1, 128, audio_latents(preset.frames, preset.fps), dtype=dtype)
        text = torch.empty(1, 512, preset.model.video_dit.text_dim, dtype=dtype)
        timestep = torch.empty(1)
        with FlopCounterMode(display=False) as flops, PeakMem(model) as memory:
            model(video, audio, timestep, timestep, text, preset.fps)
    return memory.peak / 2**30, flops.get_total_flops(), memory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--report", action="store_true", help="list what is alive at the peak")
    options = parser.parse_args()
    for name, preset in PRESETS.items():
        peak, flops, memory = measure(preset)
        print(f"{name} {preset.width}x{preset.height}x{preset.frames}: peak {peak:.2f} GiB, {flops:.3e} FLOPs")
        if options.report:
            memory.report()


if __name__ == "__main__":
    main()
