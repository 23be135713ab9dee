"""What each weight format costs in exactness, and which layers are worth keeping in bf16: video and audio apart.

    python benchmarks/quantization.py                 # one forward: every format, every choice of kept layers
    python benchmarks/quantization.py --latents --kept "audio tower" --as-files   # 20 guided steps, as the files are

The model is random, with the outliers that large diffusion transformers have (see `outliers`); errors are of the whole
tensor, |found - wanted| / |wanted| in the Euclidean norm, against the same weights (rounded to bf16, as they are
released) computed in float32. "weights": only the weights are rounded, as on a GPU without the format's own matrix
units. "both": the layers' inputs too, as ComfyUI does on a GPU that has them.
"""

import argparse
import contextlib
import copy
import functools
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from mova import JointModel, MovaConfig
from mova.checkpoint.formats import QUANTISED, Quantised
from mova.checkpoint.quantize import format_of
from mova.model.config import BridgeConfig, TowerConfig
from mova.sampling.euler import euler
from mova.sampling.guidance import Guidance, guided
from mova.sampling.schedule import sigmas

SIZES = MovaConfig(
    TowerConfig(1024, 36, 2816, 16, 512, 8, 6, (1, 2, 2)),
    TowerConfig(512, 128, 2816, 128, 512, 4, 5, (1,)),
    BridgeConfig(6, 5, 1024, 512, 50.0, 128, "full", True),
)
TIMESTEPS = (980.0, 800.0, 300.0)
STEPS = 20
BLOCKS = r"(audio_dit\.)?blocks\.|dual_tower_bridge\."
AUDIO, BRIDGE = r"audio_dit\.blocks", r"dual_tower_bridge"
EDGES = r"(blocks\.(0|5)|audio_dit\.blocks\.(0|4)|dual_tower_bridge\..*\.(0|4))\."
KEPT = {  # beside all that is no matrix of a block or of the bridge
    "nothing at all": None,  # also embeddings, the timestep's layers and heads are rounded
    "nothing more": None,
    "first and last blocks": EDGES,
    "audio tower": AUDIO,
    "bridge": BRIDGE,
    "bridge, to audio only": r"dual_tower_bridge\.video_to_audio",
    "audio tower and bridge": f"{AUDIO}|{BRIDGE}",
    "ffn.2": r".*ffn\.2\.",
    "ffn.2 of the audio tower": r"audio_dit.*ffn\.2\.",
    "self_attn.o, cross_attn.o": r".*_attn\.o\.",
    "cross_attn.k, cross_attn.v": r".*cross_attn\.[kv]\.",
}


def outliers(model: JointModel, massive: float) -> None:
    """Random weights as large transformers have them.

    Matrices: Student's t with 4 degrees of freedom, rows of lognormal scale (0.3), one column in 128 six times larger;
    the rest is scaled to keep the size of its input. In each block's modulation 3 channels multiply the normed tokens
    by 15, gates are 0.5; 3 channels of the MLP's hidden layer have a bias of `massive`, with columns of the next matrix
    as much smaller. Affine norms have 3 channels of 8.
    """
    generator = torch.Generator().manual_seed(1)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    def some(width: int, count: int) -> Tensor:
        return torch.randperm(width, generator=generator)[:count]

    state = model.state_dict()
    for name, tensor in state.items():
        if tensor.ndim >= 2 and "modulation" not in name:
            matrix = tensor.flatten(1)
            heavy = normal(*matrix.shape) / (normal(4, *matrix.shape).square().mean(0)).sqrt()
            heavy *= (0.3 * normal(len(matrix), 1)).exp()
            heavy[:, some(matrix.shape[1], max(1, matrix.shape[1] // 128))] *= 6
            tensor.copy_((heavy / heavy.norm(dim=1).mean()).view_as(tensor))
        elif "modulation" in name:
            tensor.copy_(0.1 * normal(*tensor.shape))
            if tensor.shape[1] == 6:
                tensor[:, 2::3] += 0.5
                for scale in (1, 4):
                    tensor[:, scale, some(tensor.shape[-1], 3)] = 15.0
        elif name.endswith("weight"):
            tensor.copy_(1 + 0.2 * normal(*tensor.shape))
            if "norm3" in name or "y_norm" in name:
                tensor[some(len(tensor), 3)] = 8.0
        else:
            tensor.copy_(0.05 * normal(*tensor.shape))
    for name, tensor in state.items():
        if name.endswith("ffn.0.bias"):
            channels = some(len(tensor), 3)
            tensor[channels] = massive
            state[name.replace("0.bias", "2.weight")][:, channels] /= massive
    for tensor in state.values():
        tensor.copy_(tensor.bfloat16())


def inputs(grid: tuple[int, int, int] = (3, 16, 16)) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(2)
    shapes = {"video": (1, 36, *grid), "audio": (1, 128, 24), "text": (1, 32, 512), "negative": (1, 32, 512)}
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


Chosen = Callable[[str], Quantised]  # the format of a layer's matrix, by the matrix's name


def rounded_inputs(chosen: Quantised, x: Tensor) -> Tensor:
    """What the host's matrix units see of a layer's input."""
    if chosen is QUANTISED["fp8_e4m3_scaled"]:  # the host's scale is 1 if the file gives none
        return x.clamp(-448, 448).to(torch.float8_e4m3fn).float()
    return chosen.decode(chosen.encode(x.flatten(0, -2))).view_as(x)


def rounded_weights(model: JointModel, chosen: Chosen) -> dict[str, Tensor]:
    """Every linear layer's matrix as its format stores it."""
    found = {}
    for name, layer in model.named_modules():
        stored_as = chosen(f"{name}.weight")
        if isinstance(layer, nn.Linear) and layer.weight.shape[1] % stored_as.divisors[1] == 0:
            found[name] = stored_as.decode(stored_as.encode(layer.weight))
    return found


@contextlib.contextmanager
def quantised(
    model: JointModel, chosen: Chosen, weights: dict[str, Tensor], wanted: str, kept: str | None, both: bool
) -> Iterator[JointModel]:
    """The model while those layers of `wanted` that do not match `kept` are rounded; both: their inputs, too."""
    before, hooks = {}, []
    for name, rounded in weights.items():
        if not re.match(wanted, f"{name}.weight") or (kept and re.match(kept, f"{name}.weight")):
            continue
        layer = model.get_submodule(name)
        before[name], layer.weight.data = layer.weight.data, rounded
        if both:
            seen = functools.partial(rounded_inputs, chosen(f"{name}.weight"))
            hooks.append(layer.register_forward_pre_hook(lambda _, args, seen=seen: (seen(args[0]),)))
    yield model
    for name, weight in before.items():
        model.get_submodule(name).weight.data = weight
    for hook in hooks:
        hook.remove()


Run = Callable[[JointModel], tuple[Tensor, Tensor]]


@torch.no_grad()
def velocities(model: JointModel) -> tuple[Tensor, Tensor]:
    """Of three timesteps, together."""
    given = inputs()
    found = []
    for timestep in TIMESTEPS:
        time = torch.tensor([timestep])
        found.append(model(given["video"], given["audio"], time, time, given["text"]))
    video, audio = (torch.cat(parts).float() for parts in zip(*found, strict=True))
    return video, audio


@torch.no_grad()
def latents(model: JointModel) -> tuple[Tensor, Tensor]:
    """After 20 steps with the released guidance and shift."""
    given, schedule = inputs((2, 12, 12)), sigmas(STEPS)
    condition = given["video"][:, 16:]

    def velocity(video: Tensor, audio: Tensor, video_time: float, audio_time: float) -> tuple[Tensor, Tensor]:
        times = torch.tensor([video_time]), torch.tensor([audio_time])

        def evaluate(text: bool, bridge: bool) -> tuple[Tensor, Tensor]:
            x = torch.cat([video, condition], dim=1)
            return model(x, audio, *times, given["text" if text else "negative"], 24.0, float(bridge), float(bridge))

        return guided(evaluate, Guidance())

    return euler(velocity, given["video"][:, :16], given["audio"], schedule, schedule)


def error(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


def row(name: str, run: Run, model: JointModel, wanted: tuple[Tensor, Tensor]) -> None:
    errors = [error(*pair) for pair in zip(run(model), wanted, strict=True)]
    print(f"| {name} | " + " | ".join(f"{value:.2g}" for value in errors) + " |", flush=True)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--latents", action="store_true", help="20 guided steps instead of one forward")
    arguments.add_argument("--formats", nargs="+", default=list(QUANTISED), choices=list(QUANTISED))
    arguments.add_argument("--kept", nargs="+", default=list(KEPT), choices=list(KEPT), help="which choices to try")
    arguments.add_argument("--as-files", action="store_true", help="int8 with the video's ffn.2 in fp8, as in files")
    arguments.add_argument("--massive", type=float, default=100.0, help="of the MLPs' hidden layers (see outliers)")
    options = arguments.parse_args()
    model = JointModel(SIZES).requires_grad_(False)
    outliers(model, options.massive)
    run = latents if options.latents else velocities
    wanted = run(model)
    print("| stored as, kept in bf16, rounded | video | audio |\n| --- | --- | --- |")
    row("bf16, all computed in bf16", run, copy.deepcopy(model).bfloat16(), wanted)
    for name in options.formats:
        chosen = functools.partial(format_of, name) if options.as_files else lambda _, name=name: QUANTISED[name]
        weights = rounded_weights(model, chosen)
        for both in (False, True):
            for choice in options.kept:
                layers = ".*" if choice == "nothing at all" else BLOCKS
                with quantised(model, chosen, weights, layers, KEPT[choice], both) as rounded:
                    row(f"{name}, {choice}, {'both' if both else 'weights'}", run, rounded, wanted)


if __name__ == "__main__":
    main()
