"""ComfyUI's VAE Decode on a video that does not fit: it goes on in tiles by itself, and the picture is there."""

from inside import run_inside

DECODE = """
import comfy.ldm.wan.vae
import comfy.sd
from pack.nodes.host.nested import AudioVideoLatent
from pack.nodes.latents import MOVASeparateLatent

torch.manual_seed(0)
sizes = dict(dim=8, z_dim=16, dim_mult=[1, 2, 4, 4], num_res_blocks=2, attn_scales=[])
model = comfy.ldm.wan.vae.WanVAE(**sizes, temperal_downsample=[False, True, True])
for parameter in model.parameters():  # the host's layers leave their weights uninitialised
    scale = parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.1
    torch.nn.init.normal_(parameter, 1.0 if parameter.ndim == 4 else 0.0, scale)
vae = comfy.sd.VAE(sd=model.state_dict())
latent = AudioVideoLatent([torch.randn(1, 16, 1, 4, 36), torch.randn(1, 128, 5)])
video = MOVASeparateLatent.execute({"samples": latent}).result[0]["samples"]
whole = vae.decode(video)
assert whole.shape[-3:] == (4 * 8, 36 * 8, 3)

# What it sets aside at Prism's sizes, by which the documents tell when tiles are to be expected.
for (width, height), gib in {(1280, 720): 12.0, (1920, 1072): 26.8, (2560, 1440): 48.1}.items():
    needed = vae.memory_used_decode((1, 16, 52, height // 8, width // 8), torch.bfloat16) / 2**30
    assert abs(needed - gib) < 0.06, needed

first, asked = vae.first_stage_model.decode, []


def full(z, *args, **kwargs):
    asked.append(tuple(z.shape[-2:]))
    if z.shape[-1] == 36:
        raise torch.OutOfMemoryError("CUDA out of memory")
    return first(z, *args, **kwargs)


vae.first_stage_model.decode = full
with torch.inference_mode():  # as nodes are run
    tiled = vae.decode(video)
assert asked[0] == (4, 36) and len(asked) > 2 and max(width for _, width in asked[1:]) <= 32, asked
assert tiled.shape == whole.shape and tiled.isfinite().all() and not torch.equal(tiled, whole)
"""


def test_a_full_memory_makes_vae_decode_go_on_in_tiles(host_place):
    run_inside(host_place, DECODE)
