"""Time of a denoising step through ComfyUI's sampler, against the bare forwards of the joint model in it, in turn.

    COMFYUI_PATH=~/comfy/ComfyUI python tests/host/launch.py benchmarks/host_overhead.py --threads 2

with the Python of that ComfyUI. The pack is imported as ComfyUI imports it. After each step of MOVA Joint Sampler (two
progress reports apart, previews on) the forwards that the step has made are made once more, with the same inputs.
"""

import argparse
import asyncio
import json
import os
import platform
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch

PACK = Path(__file__).resolve().parents[1]
COMFYUI = Path(os.environ.get("COMFYUI_PATH") or "~/comfy/ComfyUI").expanduser()
GUIDANCES = ({"cfg": 1.0}, {"cfg": 5.0}, {"cfg": 5.0, "bridge_cfg": 2.0})


def start_host() -> None:
    """Make ComfyUI's modules importable, told of the CPU where there is nothing else, with previews."""
    sys.path.insert(0, str(COMFYUI))
    sys.argv = [sys.argv[0], "--preview-method", "latent2rgb", *([] if torch.cuda.is_available() else ["--cpu"])]
    import comfy.options

    comfy.options.enable_args_parsing()


def load_pack() -> tuple[type, Any]:
    """The node MOVAJointSampler and the pack's own copy of mova.model.config."""
    import nodes

    if not asyncio.run(nodes.load_custom_node(str(PACK))):
        raise SystemExit("ComfyUI did not take the pack.")
    sampler = nodes.NODE_CLASS_MAPPINGS["MOVAJointSampler"]
    return sampler, sys.modules[sampler.__module__.removesuffix("nodes.sampling") + "mova.model.config"]


def sizes(config: Any, width: int, layers: int) -> Any:
    """The released proportions at another width."""
    heads, audio_heads = width // 128, max(1, width * 3 // 10 // 128)
    audio = audio_heads * 128
    video = config.TowerConfig(width, 36, int(width * 2.7), 16, 4096, heads, layers, (1, 2, 2))
    tower = config.TowerConfig(audio, 128, audio * 35 // 6, 128, 4096, audio_heads, layers * 3 // 4, (1,))
    bridge = config.BridgeConfig(layers, layers * 3 // 4, width, audio, 50.0, 128, "full", True)
    return config.MovaConfig(video, tower, bridge)


def load_model(config: Any) -> Any:
    """An expert with random weights, loaded by the host."""
    import comfy.sd

    shapes = sys.modules[type(config).__module__.removesuffix("config") + "joint"].JointModel(config, device="meta")
    generator = torch.Generator().manual_seed(0)
    state = {
        name: torch.randn(like.shape, generator=generator) / max(like.shape[-1], 100) ** 0.5
        for name, like in shapes.state_dict().items()
    }
    metadata = {"config": json.dumps({"transformer": config.to_dict()})}
    return comfy.sd.load_diffusion_model_state_dict(state, metadata=metadata)


class Recorder:
    """Notes the inputs of each forward, and makes the forwards of the last step once more."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.model, self.calls = model, []
        model.register_forward_pre_hook(lambda _, given, named: self.calls.append((given, named)), with_kwargs=True)

    def again(self) -> int:
        calls, self.calls = self.calls, []
        for given, named in calls:
            self.model.forward(*given, **named)  # past the hook
        return len(calls)


def measure(sampler: type, model: Any, inputs: dict[str, Any], steps: int, guidance: dict[str, float]) -> str:
    import comfy.utils

    recorder = Recorder(model.model.diffusion_model)
    through_host: list[float] = []
    bare: list[float] = []
    counts = set()

    def now() -> float:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter()

    def after_step(*_: Any, **__: Any) -> None:
        nonlocal start
        through_host.append(now() - start)
        start = now()
        counts.add(recorder.again())
        bare.append(now() - start)
        start = now()

    comfy.utils.set_progress_bar_global_hook(after_step)
    start = now()
    settings = {"seed": 1, "steps": steps, "video_shift": 5.0, "audio_shift": 4.0, "boundary": 0.9, **guidance}
    with torch.inference_mode():
        sampler.execute(model_high=model, **inputs, **settings)
    hosts, alone = through_host[1:], bare[1:]  # the first step also loads the model
    ratios = [a / b for a, b in zip(hosts, alone, strict=True)]
    setting = ", ".join(f"{name} {value:g}" for name, value in guidance.items())
    return (
        f"{setting:21} {counts.pop()} forward(s)  step {statistics.median(hosts):.4f} s  "
        f"bare {statistics.median(alone):.4f} s  overhead {statistics.median(ratios) - 1:+.2%} "
        f"(of the fastest {min(hosts) / min(alone) - 1:+.2%}; {len(hosts)} steps)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--latent", type=int, nargs=3, default=(5, 40, 32), metavar=("T", "H", "W"))
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    start_host()
    sampler, config = load_pack()
    from comfy.nested_tensor import NestedTensor

    model = load_model(sizes(config, args.width, args.layers))
    t, h, w = args.latent
    audio_length = (4 * t - 3) * 50 // 24
    generator = torch.Generator().manual_seed(1)
    image, mask = torch.randn(1, 16, t, h, w, generator=generator), torch.ones(1, 1, t, h, w)
    entries = {"concat_latent_image": image, "concat_mask": mask}
    texts = [[[torch.randn(1, 512, 4096, generator=generator), entries]] for _ in range(2)]
    latent = {"samples": NestedTensor([torch.zeros(1, 16, t, h, w), torch.zeros(1, 128, audio_length)])}
    inputs = {"positive": texts[0], "negative": texts[1], "latent": latent}
    machine = platform.processor() or platform.machine()
    print(f"{machine}, {torch.get_num_threads()} threads, torch {torch.__version__}, {model.model.get_dtype()}")
    print(f"width {args.width}, {args.layers} layers, {t * h * w // 4} video and {audio_length} audio tokens")
    for guidance in GUIDANCES:
        print(measure(sampler, model, inputs, args.steps, guidance), flush=True)


if __name__ == "__main__":
    main()
