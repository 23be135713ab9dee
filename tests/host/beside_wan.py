"""A MOVA model beside ComfyUI's own Wan with the weights of its video tower, inside ComfyUI's process.

A MOVA model whose bridge brings nothing to the video is a Wan model beside a sound, so ComfyUI's own class says what
every hook is called with, and what comes out.
"""

BOTH = """
import types
import comfy.ldm.wan.model as wan_code
import comfy.ops
import comfy.patcher_extension
from pack.mova.tools import tiny
from pack.nodes.host.model import HostModel

torch.manual_seed(0)
video = tiny.CONFIG.video_dit
mova = HostModel(tiny.CONFIG, torch.float32, "cpu", comfy.ops.manual_cast).eval()
for name, parameter in mova.named_parameters():
    parameter.data.normal_(0, 0.02 if parameter.ndim > 1 else 0.5)
    if "norm_" in name:
        parameter.data.fill_(1.5)  # so that attention looks at some tokens more than at others
wan = wan_code.WanModel(
    "t2v", video.patch_size, 512, video.in_dim, video.dim, video.ffn_dim, video.freq_dim, video.text_dim, video.out_dim,
    video.num_heads, video.num_layers, cross_attn_norm=True, eps=video.eps, device="cpu", dtype=torch.float32,
    operations=comfy.ops.manual_cast,
).eval()
state = mova.state_dict()
wan.load_state_dict({name: state[name] for name in wan.state_dict()})
latents, condition, sound = torch.randn(2, 16, 3, 6, 8), torch.randn(2, 20, 3, 6, 8), torch.randn(2, 128, 11)
context, timestep = torch.randn(2, 7, 4096), torch.tensor([500.0, 500.0])


def of_mova(options=None, bridge=0.0):
    with torch.inference_mode():
        given = dict(context=context, control=None, transformer_options={} if options is None else options)
        return mova(
            [latents.clone(), sound.clone()], timestep, **given, condition=condition, a2v_scale=bridge, v2a_scale=1.0
        )


def of_wan(options=None):
    with torch.inference_mode():
        x = torch.cat([latents, condition], dim=1)
        return wan(x, timestep, context=context, transformer_options={} if options is None else options)


def error(found, wanted):
    return float((found - wanted).abs().max() / wanted.abs().max())


def same(found, wanted, limit=1e-5):
    assert found.shape == wanted.shape and error(found, wanted) < limit, error(found, wanted)


plain, plain_wan = of_mova(), of_wan()
same(plain[0], plain_wan)
"""
