"""Names of the Wan 2.1 VAE's tensors: from diffusers' spelling (the release's) to Wan's own (ComfyUI's).

Sources: AutoencoderKLWan of diffusers, and the names that comfy/ldm/wan/vae.py gives to the same modules.
"""

import re

# The parts of a residual block, and what stands alone at the ends of the encoder and decoder.
LEAVES = {
    "norm1": "residual.0",
    "conv1": "residual.2",
    "norm2": "residual.3",
    "conv2": "residual.6",
    "conv_shortcut": "shortcut",
}
ENDS = {"conv_in": "conv1", "norm_out": "head.0", "conv_out": "head.2"}
MIDDLE = {"resnets.0": "middle.0", "attentions.0": "middle.1", "resnets.1": "middle.2"}


def wan_name(name: str, resnets: int = 2) -> str:
    """The name in Wan's spelling of a tensor in diffusers'. `resnets`: num_res_blocks of the configuration."""
    if name.startswith(("quant_conv", "post_quant_conv")):
        return re.sub(r"^(quant|post_quant)_conv", lambda m: "conv1" if m[1] == "quant" else "conv2", name)
    side, rest = name.split(".", 1)
    rest = re.sub(r"^mid_block\.(\w+\.\d)", lambda m: MIDDLE[m[1]], rest)
    rest = re.sub(r"^down_blocks\.", "downsamples.", rest)
    # The decoder's blocks are lists of resnets and an upsampler; Wan has them all in one row.
    rest = re.sub(
        r"^up_blocks\.(\d+)\.(resnets|upsamplers)\.(\d+)",
        lambda m: f"upsamples.{int(m[1]) * (resnets + 2) + (int(m[3]) if m[2] == 'resnets' else resnets + 1)}",
        rest,
    )
    first, _, others = rest.partition(".")
    if first in ENDS:
        return f"{side}.{ENDS[first]}.{others}"
    return f"{side}." + re.sub(r"\.(norm1|conv1|norm2|conv2|conv_shortcut)\.", lambda m: f".{LEAVES[m[1]]}.", rest)
