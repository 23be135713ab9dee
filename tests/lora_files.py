"""LoRA files, with random pairs for the golden model."""

import torch
from golden import joint_model
from safetensors.torch import save_file

from mova.lora.merge import merged
from mova.model.shapes import expected_shapes

SHAPES = expected_shapes(joint_model("head128"))
LAYER = "blocks.1.self_attn.q"
BRIDGE = "dual_tower_bridge.audio_to_video_conditioners.0.inner.k"


def pair(name=f"{LAYER}.weight", rank=4, seed=0):
    """Random halves for a weight of the model."""
    generator = torch.Generator().manual_seed(seed)
    rows, columns = SHAPES[name]
    return torch.randn(rank, columns, generator=generator), torch.randn(rows, rank, generator=generator)


def saved(path, tensors):
    path.parent.mkdir(exist_ok=True, parents=True)
    if path.suffix == ".safetensors":
        save_file({key: tensor.clone() for key, tensor in tensors.items()}, path)
    else:
        torch.save(tensors, path)
    return path


def wan(path, layer=LAYER, **more):
    down, up = pair()
    keys = {f"diffusion_model.{layer}.lora_A.weight": down, f"diffusion_model.{layer}.lora_B.weight": up}
    return saved(path, keys | {f"diffusion_model.{layer}.{part}": value for part, value in more.items()})


def update(lora, shape):
    """What a change adds to a weight of this shape."""
    return merged(torch.zeros(shape), [(lora, 1.0)])
