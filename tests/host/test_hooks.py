"""What packs plug into ComfyUI's Wan does on the video tower what it does there: both get the same, in one process.

A MOVA model whose bridge brings nothing to the video is a Wan model beside a sound, so ComfyUI's own class says what
every hook is called with, and what comes out.
"""

from inside import run_inside

BOTH = """
import types
import comfy.ldm.wan.model as wan_code
import comfy.ops
import comfy.patcher_extension
from pack.mova import tiny
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


REPLACED = (
    BOTH
    + """
core = {
    "self_attn": wan_code.WanSelfAttention, "cross_attn": wan_code.WanT2VCrossAttention, "ffn": torch.nn.Sequential,
    "": wan_code.WanAttentionBlock,
}
bridged = of_mova(bridge=1.0)


def places(blocks, name):
    return [getattr(block, name) if name else block for block in blocks]


def put(module, method):
    module.forward = types.MethodType(method, module)


def put_back(module):
    own = type(module).forward
    module.forward = types.MethodType(own, module)  # as the host's patcher does: an attribute stays


for name, cls in core.items():
    calls = []

    def replacement(self, *args, **kwargs):
        calls.append(self)
        return cls.forward(self, *args, **kwargs)

    for module in places(mova.blocks, name):
        put(module, replacement)
    found = of_mova(bridge=1.0)
    assert len(calls) == len(mova.blocks), "the core's own method ran in every video block, and in no other"
    same(found[0], bridged[0]); same(found[1], bridged[1])

    def twice(self, *args, **kwargs):
        return 2 * cls.forward(self, *args, **kwargs)

    for module in places(mova.blocks, name)[:1] + places(wan.blocks, name)[:1]:
        put(module, twice)
    changed, wanted = of_mova(), of_wan()
    same(changed[0], wanted)
    assert error(changed[0], plain[0]) > 1e-4, name
    for module in places(mova.blocks, name) + places(wan.blocks, name):
        put_back(module)

    # Wrapped: what was there is called as the host's Wan calls it, with others in their places or not.
    def wrapped(original):
        def method(self, *args, **kwargs):
            calls.append(self)
            return original(*args, **kwargs)
        return method

    calls = []
    originals = [module.forward for module in places(mova.blocks, name)]
    for module, original in zip(places(mova.blocks, name), originals):
        put(module, wrapped(original))
    found = of_mova(bridge=1.0)
    assert len(calls) == len(mova.blocks)
    same(found[0], bridged[0]); same(found[1], bridged[1])
    for module in places(mova.blocks, name):
        put_back(module)
    again = of_mova(bridge=1.0)
    assert all(map(torch.equal, again, bridged)), "as before, now that nothing is replaced"

# A hook of torch's on a module hears of its calls.
heard = []
handle = mova.blocks[1].ffn.register_forward_hook(lambda module, args, out: heard.append(out.shape))
same(of_mova(bridge=1.0)[0], bridged[0])
assert heard == [(2, 36, video.dim)]
handle.remove()

for module in mova.audio_dit.blocks:
    put(module.self_attn, core["self_attn"].forward)
found = of_mova(bridge=1.0)
same(found[0], bridged[0]); same(found[1], bridged[1])
"""
)


def test_the_core_s_own_methods_put_in_the_place_of_ours_give_the_same(host_place):
    """Self-attention, cross-attention, feed-forward and whole blocks, replaced or wrapped; nothing stays behind."""
    run_inside(host_place, REPLACED)


PATCHES = (
    BOTH
    + """
def recorded(names, calls):
    def keep(args):
        kept = {name: v.clone() if isinstance(v, torch.Tensor) else v for name, v in args.items()}
        calls.append((kept, kept.pop("transformer_options")["block_index"]))

    def attn1(args):
        keep(args)
        return args["x"].roll(1, -1) * 2

    def attn2(args):
        keep(args)
        return args["x"].roll(1, -1)

    def double_block(args):
        keep(args)
        return {"img": args["img"] * 0.75}

    functions = {"attn1_patch": attn1, "attn2_patch": attn2, "double_block": double_block}
    return {"patches": {name: [functions[name]] for name in names}}


import inspect
has_double_block = '"double_block" in patches' in inspect.getsource(wan_code.WanModel.forward_orig)
for names in ("attn1_patch",), ("attn2_patch",), ("double_block",), ("attn1_patch", "attn2_patch", "double_block"):
    if "double_block" in names and not has_double_block:
        ours = []
        found = of_mova(recorded(names, ours))
        assert error(found[0], plain[0]) > 1e-4
        continue
    ours, theirs = [], []
    found, wanted = of_mova(recorded(names, ours)), of_wan(recorded(names, theirs))
    same(found[0], wanted)
    assert error(found[0], plain[0]) > 1e-4, (names, error(found[0], plain[0]))
    assert len(ours) == len(theirs) == len(names) * video.num_layers
    for (mine, index), (core, core_index) in zip(ours, theirs):
        assert index == core_index and set(mine) == set(core), (set(mine), set(core))
        for name, value in core.items():
            if isinstance(value, torch.Tensor):
                same(mine[name], value)
            else:
                assert mine[name] == value

# The same patches leave the sound alone when the bridge brings it nothing.
with torch.inference_mode():
    quiet = [
        mova([latents, sound], timestep, context=context, condition=condition, a2v_scale=0.0, v2a_scale=0.0,
             transformer_options=options)[1]
        for options in ({}, recorded(("attn1_patch", "attn2_patch", "double_block"), []))
    ]
assert torch.equal(*quiet)


# Replaced layers: the same arguments, and what is passed on changed is taken.
def replace(calls, changes):
    def function(args, extra):
        calls.append({k: v for k, v in args.items() if isinstance(v, torch.Tensor)})
        out = extra["original_block"]({**args, **changes(args)})
        return {"img": out["img"]}
    return {"patches_replace": {"dit": {("double_block", 1): function}}}


def attention(function, *args, **kwargs):
    return function(*args, **kwargs) * 0.5


for changes in (
    lambda args: {}, lambda args: {"txt": args["txt"] * 2}, lambda args: {"vec": args["vec"] + 0.5},
    lambda args: {"pe": args["pe"].flip(1)}, lambda args: {"img": args["img"] * 2},
    lambda args: {"transformer_options": {**args["transformer_options"], "optimized_attention_override": attention}},
):
    ours, theirs = [], []
    found, wanted = of_mova(replace(ours, changes)), of_wan(replace(theirs, changes))
    same(found[0], wanted)
    (mine,), (core,) = ours, theirs
    assert set(mine) == {*core, "audio"}
    for name in core:
        same(mine[name], core[name])


# Who wraps the model finds what it looks for where the host's Wan has it, and may pass on others.
def wrapper(executor, *args, **kwargs):
    assert len(args) == 6 and args[5]["mark"] == 1 and args[3] is None and args[4] is None
    seen.append(args[5])
    return executor(*args[:1], args[1] * 0.5, *args[2:], **kwargs)


def options():
    wrappers = {comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL: {"test": [wrapper]}}
    return {"mark": 1, "wrappers": wrappers}


seen = []
found, wanted = of_mova(options()), of_wan(options())
same(found[0], wanted)
assert len(seen) == 2 and error(found[0], plain[0]) > 1e-4
"""
)


def test_attention_and_block_patches_get_and_do_what_they_do_on_wan(host_place):
    """attn1_patch, attn2_patch, double_block, patches_replace and DIFFUSION_MODEL wrappers."""
    run_inside(host_place, PATCHES)


ROPE = (
    BOTH
    + """
from comfy.ldm.flux.layers import EmbedND

for chosen in (
    {"scale_t": 2.0}, {"scale_x": 0.5, "scale_y": 1.5, "shift_t": 1.0, "shift_y": 4.0, "shift_x": 7.0},
    {"scale_x": 1.0, "scale_y": 1.0, "scale_t": 1.0, "shift_x": 0.0, "shift_y": 0.0, "shift_t": 0.0},
):
    found, wanted = of_mova({"rope_options": chosen}), of_wan({"rope_options": chosen})
    same(found[0], wanted)
    trivial = set(chosen.values()) == {1.0, 0.0}
    assert (error(found[0], plain[0]) < 1e-6) == trivial, chosen


class Slower(EmbedND):
    # As RIFLEx: another embedder, put in the place of the model's by an object patch.
    def forward(self, ids):
        return super().forward(ids * 0.5)


own = mova.rope_embedder
mova.rope_embedder = wan.rope_embedder = Slower(video.dim // video.num_heads, 10000, wan.rope_embedder.axes_dim)
for options in {}, {"rope_options": {"scale_t": 3.0}}:
    found, wanted = of_mova(options), of_wan(options)
    same(found[0], wanted)
    assert error(found[0], plain[0]) > 1e-4, error(found[0], plain[0])

# The sound keeps its positions, and the bridge its times.
with torch.inference_mode():
    mute = [
        mova([latents, sound], timestep, context=context, condition=condition, a2v_scale=0.0, v2a_scale=0.0,
             transformer_options={})[1]
    ]
    mova.rope_embedder = own
    mute.append(mova([latents, sound], timestep, context=context, condition=condition, a2v_scale=0.0, v2a_scale=0.0,
                     transformer_options={})[1])
assert torch.equal(*mute)
assert all(map(torch.equal, of_mova(), plain))
"""
)


def test_positions_scaled_or_embedded_by_others_are_those_of_wan(host_place):
    """rope_options (ScaleROPE) and a replaced rope_embedder (RIFLEx)."""
    run_inside(host_place, ROPE)


LEFT_ALONE = (
    BOTH
    + """
# Since v0.44 a single conditioning reaches the model without a copy.
given = {
    "x": [latents, sound], "timestep": timestep, "context": context, "condition": condition,
}
before = {name: [v.clone() for v in value] if name == "x" else value.clone() for name, value in given.items()}
ones = {"patches_replace": {"dit": {("double_block", 0): lambda args, extra: extra["original_block"](args)}}}
same_x = {name: [lambda args: args["x"]] for name in ("attn1_patch", "attn2_patch")}
for options in {}, ones, {"patches": same_x}:
    for ratio in 1.0, 0.5:
        with torch.inference_mode():
            out = mova(**given, control=None, transformer_options=options, audio_shift_ratio=ratio)
            for part in out:
                part.fill_(7)  # and what comes out is not what went in
        for name, value in given.items():
            pairs = zip(value, before[name]) if name == "x" else [(value, before[name])]
            assert all(torch.equal(*pair) for pair in pairs), name
"""
)


def test_a_forward_leaves_what_it_is_given_as_it_was(host_place):
    run_inside(host_place, LEFT_ALONE)


ATTENTIONS = (
    BOTH
    + """
import dataclasses
from pack.mova.config import RELEASED

assert RELEASED.video_dit.head_dim == 128
calls = []


def override(function, q, k, v, heads, mask=None, **kwargs):
    options = kwargs["transformer_options"]
    calls.append((q.shape, k.shape, v.shape, heads, mask, options["block_index"], options["block_type"]))
    return function(q, k, v, heads, mask=mask, **kwargs)


found = of_mova({"optimized_attention_override": override}, bridge=1.0)
same(found[0], of_mova(bridge=1.0)[0])
assert all(mask is None for *_, mask, _, _ in calls)
tokens = 3 * 3 * 4
alike = [call for call in calls if call[0] == call[1] == call[2] and call[6] == "double"]
# One for each layer: the video to itself, of one shape, 128 wide, and the layer is said at the time of the call.
assert [call[5] for call in alike] == list(range(video.num_layers))
assert all(call[0] == (2, tokens, video.dim) and call[0][2] // call[3] == 128 for call in alike)
others = [call for call in calls if call not in alike]
text = [call for call in others if call[6] == "double"]
assert len(text) == video.num_layers and all(call[1][1] == context.shape[1] for call in text)
assert sorted(call[6] for call in others if call[6] != "double") == ["audio"] * 4 + ["bridge"] * 4
assert all(call[5] < 2 for call in others if call[6] != "double")
"""
)


def test_an_attention_override_can_tell_the_video_s_self_attention_from_all_others(host_place):
    """What the core's BlockSparseAttention asks for: head_dim 128, q and k of one shape, no mask, block_index."""
    run_inside(host_place, ATTENTIONS)


PREFETCH = (
    BOTH
    + """
from pack.nodes.host import model as host

if host.model_prefetch is not None:
    asked, popped = [], []

    def make(modules, device, options):
        asked.append(modules)
        return object()

    host.model_prefetch.make_prefetch_queue = make
    host.model_prefetch.prefetch_queue_pop = lambda queue, device, module: popped.append(module)
    of_mova()
    (modules,) = asked
    assert popped[-1] is None and len(popped) == len(modules) + 1 == video.num_layers + 1
    assert all(one is other for one, other in zip(popped, modules))
    for i, module in enumerate(modules):
        inside = set(module.modules())
        assert mova.blocks[i] in inside
        bridge = mova.dual_tower_bridge.audio_to_video_conditioners
        assert (i in bridge) == any(one in inside for one in bridge.values())
"""
)


def test_the_prefetch_queue_gets_each_layer_s_module_and_none_at_the_end(host_place):
    """As the core's own models call it; newer ones need the module for more than its weights."""
    run_inside(host_place, PREFETCH)
