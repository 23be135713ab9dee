"""Time of one joint forward, ours against DiffSynth-Studio's (diffsynth==2.1.12), in turn, on the same weights.

    python -m pip install diffsynth==2.1.12
    python benchmarks/speed.py

On a CPU build of torch, which has no matching torchvision, install diffsynth's requirements except torchvision, then
torchvision and diffsynth with --no-deps.
"""

import argparse
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "host")]
from launch import OPERATORS

from mova import JointModel, MovaConfig
from mova.clip.runtime import Runtime, layers_for
from mova.model.config import BridgeConfig, TowerConfig


def load_diffsynth() -> Any:
    if not torch.cuda.is_available():  # torchvision's compiled part is built for CUDA, but only its names are needed
        for name, signature in OPERATORS.items():
            torch.library.define(f"torchvision::{name}", signature)
    import diffsynth.pipelines.mova_audio_video as diffsynth

    return diffsynth


def sizes(width: int, layers: int) -> MovaConfig:
    """The released proportions at another width."""
    heads, audio_heads = width // 128, max(1, width * 3 // 10 // 128)
    audio = audio_heads * 128
    video = TowerConfig(width, 36, int(width * 2.7), 16, 4096, heads, layers, (1, 2, 2))
    tower = TowerConfig(audio, 128, audio * 35 // 6, 128, 4096, audio_heads, layers * 3 // 4, (1,))
    return MovaConfig(video, tower, BridgeConfig(layers, layers * 3 // 4, width, audio, 50.0, 128, "full", True))


def theirs(diffsynth: Any, config: MovaConfig, ours: JointModel) -> Callable[..., Any]:
    """DiffSynth's forward on our model's weights."""
    parts = {"video_dit": diffsynth.WanModel, "audio_dit": diffsynth.MovaAudioDit}
    names = ("dim", "in_dim", "ffn_dim", "out_dim", "text_dim", "freq_dim", "eps", "patch_size", "num_heads")
    built = {}
    for part, cls in parts.items():
        tower = getattr(config, part)
        options = {name: getattr(tower, name) for name in (*names, "num_layers")}
        built[part] = cls(**options, has_image_input=False)
    bridge = config.dual_tower_bridge
    built["dual_tower_bridge"] = diffsynth.DualTowerConditionalBridge(
        bridge.visual_layers, bridge.audio_layers, bridge.visual_hidden_dim, bridge.audio_hidden_dim
    )
    state = ours.state_dict()
    for part, module in built.items():
        prefix = "" if part == "video_dit" else f"{part}."
        module.load_state_dict({name: state[prefix + name] for name in module.state_dict()})
        module.to(ours.head.modulation).requires_grad_(False)

    def forward(video: Any, audio: Any, timestep: Any, context: Any) -> Any:
        return diffsynth.model_fn_mova_audio_video(
            **built, video_latents=video, audio_latents=audio, timestep=timestep, context=context, frame_rate=24
        )

    return forward


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--latent", type=int, nargs=3, default=(5, 40, 36), metavar=("T", "H", "W"))
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    diffsynth = load_diffsynth()
    t, h, w = args.latent
    audio_length = (4 * t - 3) * 50 // 24
    print(f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print(
        f"width {args.width}, {args.layers} layers, {t * h * w // 4} video and {audio_length} audio tokens, 512 of text"
    )
    for dtype in (torch.float32, torch.bfloat16):
        torch.manual_seed(0)
        config = sizes(args.width, args.layers)
        operations, kernels = layers_for(Runtime(torch.device(args.device), dtype))
        ours = JointModel(config, dtype, args.device, operations, kernels).requires_grad_(False)
        for name, parameter in ours.named_parameters():
            if name.endswith("modulation"):  # made without values, as they come from checkpoints
                torch.nn.init.normal_(parameter, std=args.width**-0.5)
        rival = theirs(diffsynth, config, ours)
        factory = {"device": args.device, "dtype": dtype}
        video, audio = torch.randn(1, 36, t, h, w, **factory), torch.randn(1, 128, audio_length, **factory)
        text, timestep = torch.randn(1, 512, 4096, **factory), torch.tensor([900.0], device=args.device)
        # The rival computes the sinusoid in the timestep's dtype, and its timestep layers in the model's.
        forwards = {
            "ours": lambda: ours(video, audio, timestep, timestep, text),  # noqa: B023
            "diffsynth": lambda: rival(video, audio, timestep.to(dtype), text),  # noqa: B023
        }
        times: dict[str, list[float]] = {name: [] for name in forwards}
        outputs = {}
        with torch.inference_mode():
            for run in range(args.runs + 1):
                for name, forward in forwards.items():
                    start = time.perf_counter()
                    outputs[name] = forward()
                    if args.device != "cpu":
                        torch.cuda.synchronize()
                    if run:  # the first is a warm-up
                        times[name].append(time.perf_counter() - start)
        ratios = [a / b for a, b in zip(times["ours"], times["diffsynth"], strict=True)]
        apart = max(
            float((a.float() - b.float()).abs().max() / b.float().abs().max())
            for a, b in zip(*outputs.values(), strict=True)
        )
        print(
            f"{str(dtype).removeprefix('torch.'):9} ours {statistics.median(times['ours']):.3f} s, "
            f"diffsynth {statistics.median(times['diffsynth']):.3f} s, ratio {statistics.median(ratios):.3f} "
            f"({min(ratios):.3f} to {max(ratios):.3f}), outputs apart by {apart:.1e}"
        )


if __name__ == "__main__":
    main()
