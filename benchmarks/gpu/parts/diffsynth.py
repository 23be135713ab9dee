"""DiffSynth-Studio's forward of MOVA (diffsynth 2.1.12) beside ours, in turn, on one copy of the weights."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mova import JointModel, MovaConfig

from .. import clock, expert, kernels
from ..kernels import Kernel
from ..place import DTYPE, Place
from ..task import Figures, NotMeasured, Task
from ..variants import EAGER, VARIANTS
from .step import weights

VERSION = "2.1.12"
TOWERS = {"video_dit": "WanModel", "audio_dit": "MovaAudioDit"}
FIELDS = ["dim", "in_dim", "ffn_dim", "out_dim", "text_dim", "freq_dim", "eps", "patch_size", "num_heads", "num_layers"]


def load() -> Any:
    """Their pipeline's module. Raises NotMeasured without the package."""
    if importlib.util.find_spec("diffsynth") is None:
        raise NotMeasured("diffsynth is not installed, nor carried")
    if not torch.cuda.is_available():  # torchvision's compiled part is built for CUDA, but only its names are needed
        sys.path.append(str(Path(__file__).resolve().parents[3] / "tests/host"))
        import launch

        sys.meta_path.insert(0, launch.Finder())
    import diffsynth.pipelines.mova_audio_video as pipeline

    return pipeline


def sharing(pipeline: Any, config: MovaConfig, ours: JointModel) -> dict[str, Any]:
    """Their modules, with our model's very tensors."""
    built = {}
    for part, name in TOWERS.items():
        cls, options = getattr(pipeline, name), {field: getattr(getattr(config, part), field) for field in FIELDS}
        with torch.device("meta"):
            built[part] = cls(**options, has_image_input=False)
        head = options["dim"] // options["num_heads"]
        # The position tables are no parameters: those of a small tower with the same heads.
        small = {**options, "dim": head, "num_heads": 1, "num_layers": 1, "ffn_dim": 8, "text_dim": 8}
        built[part].freqs = cls(**small, has_image_input=False).freqs
    bridge = config.dual_tower_bridge
    sizes = bridge.visual_layers, bridge.audio_layers, bridge.visual_hidden_dim, bridge.audio_hidden_dim
    with torch.device("meta"):
        built["dual_tower_bridge"] = pipeline.DualTowerConditionalBridge(*sizes)
    rotary = built["dual_tower_bridge"].rotary
    built["dual_tower_bridge"].rotary = type(rotary)(base=rotary.base, dim=rotary.dim)
    state = ours.state_dict()
    for part, module in built.items():
        prefix = "" if part == "video_dit" else f"{part}."
        module.load_state_dict({name: state[prefix + name] for name in module.state_dict()}, assign=True)
        module.requires_grad_(False)
    return built


def compared(place: Place, kernel: Kernel) -> Figures:
    """A warm-up and a forward of each, both with the same kernel."""
    pipeline = load()
    weighted, given = weights(place)
    ours = VARIANTS[EAGER](weighted, place.small.model, kernel.attention)
    built = sharing(pipeline, place.small.model, weighted)

    def theirs() -> Any:
        # They compute the sinusoid in the timestep's dtype, and their timestep layers in the model's.
        return pipeline.model_fn_mova_audio_video(
            **built, video_latents=given.video, audio_latents=given.audio, timestep=given.video_timestep.to(DTYPE),
            context=given.text, frame_rate=given.fps,
        )  # fmt: skip

    outputs: dict[str, Any] = {}
    with kernel.alone():
        expert.warm_up(ours, given)
        with expert.shortened(built["video_dit"], built["audio_dit"], 1, 1):
            theirs()
        (our_time,), our_peak = clock.timed(place, lambda: outputs.update(ours=ours(*given)), 1, ours)
        (their_time,), their_peak = clock.timed(place, lambda: outputs.update(theirs=theirs()), 1, *built.values())
    expert.checked(outputs["theirs"])
    apart = (difference(a, b) for a, b in zip(outputs["ours"], outputs["theirs"], strict=True))
    return {
        "kernel": kernel.name,
        "ours, forward s": our_time,
        "diffsynth, forward s": their_time,
        "ratio": our_time / their_time,
        "ours, peak GiB": our_peak,
        "diffsynth, peak GiB": their_peak,
        "outputs apart, of the largest": max(apart),
    }


def difference(a: Tensor, b: Tensor) -> float:
    return float((a.float() - b.float()).abs().max() / b.float().abs().max())


def tasks(place: Place) -> list[Task]:
    return [Task("a forward of each, bf16, eager", lambda: compared(place, kernels.fastest(place)), 25)]
