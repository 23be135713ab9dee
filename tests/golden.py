"""The published code's exact outputs for small models, and the weights and inputs they were computed from.

Every tensor comes from NumPy's legacy generator (its stream is frozen), seeded by the tensor's own name.
"""

import json
import math
import zlib
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from mova import AudioVAE, AudioVAEConfig, JointModel, MovaConfig

FIXTURES = Path(__file__).parent / "fixtures"
GOLDEN = FIXTURES / "golden"
CASES = json.loads((GOLDEN / "cases.json").read_text())
KINDS = ("small", "head128")


def drawn(name: str, shape: tuple[int, ...]) -> np.ndarray:
    seed = zlib.crc32(name.encode()) & 0x7FFFFFFF
    return np.random.RandomState(seed).standard_normal(math.prod(shape)).reshape(shape)


def weight(name: str, shape: tuple[int, ...]) -> Tensor:
    values = drawn(name, shape)
    if name.endswith("alpha") or (len(shape) == 1 and "norm" in name and name.endswith("weight")):
        values = 1 + 0.1 * values
    elif len(shape) == 1:
        values = 0.1 * values
    else:
        values = values / math.sqrt(math.prod(shape[1:]))
    return torch.from_numpy(values).float()


def joint_name(name: str, expert: str) -> str:
    """The released component and parameter that a name of the joint state dict stands for."""
    return name if name.startswith(("audio_dit.", "dual_tower_bridge.")) else f"{expert}.{name}"


def joint_model(kind: str, expert: str = "video_dit", layers: tuple = (), **bridge: object) -> JointModel:
    """layers: (operations, kernels), if not torch's own."""
    config = json.loads(json.dumps(CASES[f"joint_{kind}"]["config"]))
    config["dual_tower_bridge"].update(bridge)
    model = JointModel(MovaConfig.from_dict(config), None, None, *layers).requires_grad_(False)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    model.load_state_dict({name: weight(joint_name(name, expert), shape) for name, shape in shapes.items()})
    return model


def audio_vae() -> AudioVAE:
    vae = AudioVAE(AudioVAEConfig.from_dict(CASES["dac"]["config"])).requires_grad_(False)
    vae.load_state_dict(
        {name: weight(f"audio_vae.{name}", tuple(tensor.shape)) for name, tensor in vae.state_dict().items()}
    )
    return vae


def joint_inputs(kind: str) -> dict[str, Tensor]:
    shapes = CASES[f"joint_{kind}"]["inputs"]
    return {key: torch.from_numpy(drawn(f"input.{kind}.{key}", tuple(shape))).float() for key, shape in shapes.items()}


def expected(name: str) -> dict[str, Tensor]:
    return load_file(GOLDEN / f"{name}.safetensors")


def error(found: Tensor, wanted: Tensor) -> float:
    """Largest difference, relative to the largest value."""
    assert found.shape == wanted.shape
    return float((found.float() - wanted).abs().max() / wanted.abs().max())
