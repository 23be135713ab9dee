"""LoRA files as those that are distilled of Wan 2.2 I2V A14B are written, for a model of any size.

Spellings: of lightx2v's files of 2025 ("x2v": pairs for large matrices, whole differences of norms, biases and
modulations) and of its first, Lightning's ("lightning": pairs with alpha, nothing else).
"""

import math

import torch
from golden import drawn

OURS = ("audio_dit.", "dual_tower_bridge.")
# Layers that Wan 2.1's image-to-video model has beside Wan 2.2's, and files made from it are for.
ONLY_WAN_2_1 = ("img_emb.proj.1", "blocks.0.cross_attn.k_img", "blocks.0.cross_attn.v_img")
RANK, ALPHA = 4, 2.0


def random(name, *shape):
    return torch.from_numpy(drawn(name, shape)).float() / math.sqrt(shape[-1])


def pair(layer, rows, columns, seed):
    down, up = random(f"{layer}{seed}down", RANK, columns), random(f"{layer}{seed}up", rows, RANK)
    return {f"diffusion_model.{layer}.lora_down.weight": down, f"diffusion_model.{layer}.lora_up.weight": up}


def distilled(shapes, kind, seed="", wan_2_1=False):
    """The tensors of a file for a video tower of these shapes, and what each of its weights gains at strength 1."""
    tensors, gains = {}, {}
    for name, shape in shapes.items():
        if name.startswith(OURS):
            continue
        layer, _, leaf = name.rpartition(".")
        if len(shape) == 2 and leaf == "weight":
            halves = pair(layer, *shape, seed)
            down, up = halves.values()
            tensors |= halves
            scale = 1.0
            if kind == "lightning":
                tensors[f"diffusion_model.{layer}.alpha"] = torch.tensor(ALPHA)
                scale = ALPHA / RANK
            gains[name] = scale * (up.double() @ down.double())
        elif kind == "x2v":
            part = {"weight": "diff", "bias": "diff_b", "modulation": "diff_m"}[leaf]
            gains[name] = random(name + seed, *shape)
            tensors[f"diffusion_model.{layer}.{part}"] = gains[name]
    if wan_2_1:
        for layer in ONLY_WAN_2_1:
            tensors |= pair(layer, 8, 8, seed)
            tensors[f"diffusion_model.{layer}.diff_b"] = torch.ones(8)
        tensors["diffusion_model.blocks.0.cross_attn.norm_k_img.diff"] = torch.ones(8)
        tensors["diffusion_model.img_emb.proj.0.diff"] = torch.ones(8)
    return tensors, gains
