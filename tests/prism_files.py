"""Files in Prism's layout, made of a release's folder: both experts in one, by layers of both towers."""

from safetensors.torch import save_file

from mova.checkpoint.prism import TOGETHER
from mova.checkpoint.weights import open_weights


def prism_names(name, layers):
    """Prism's name of a tensor that a release calls `part.name`; `layers`: how many have sound."""
    part, kind, *rest = name.split(".")
    if kind == "blocks" and part in ("video_dit", "audio_dit"):
        layer, rest = int(rest[0]), ".".join(rest[1:])
        if layer >= layers:
            return f"remaining_video_blocks.{layer - layers}.{rest}"
        return f"fusion_blocks.{layer}.{'video' if part == 'video_dit' else 'audio'}_block.{rest}"
    ways = {"audio_to_video_conditioners": "a2v", "video_to_audio_conditioners": "v2a"}
    if kind in ways:
        return f"fusion_blocks.{rest[0]}.{ways[kind]}_conditioner.{'.'.join(rest[1:])}"
    return name


def prism_state(release, layers=2):
    """The tensors of a release's folder, under Prism's names."""
    state = {}
    for part in TOGETHER:
        weights = open_weights(release / part)
        state |= {prism_names(f"{part}.{name}", layers): tensor for name, tensor in weights.read(weights.tensors)}
    return state


def write_prism(release, folder, keep=lambda name: True, more=None, layers=2):
    """Prism's file in a folder, of those tensors that are to be kept, and others."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.clone() for name, tensor in prism_state(release, layers).items() if keep(name)}
    path = folder / "diffusion_pytorch_model.safetensors"
    save_file({**state, **(more or {})}, path)
    return path
