"""What packs plug into ComfyUI's Wan does on the video tower what it does there: both get the same, in one process."""

from beside_wan import BOTH
from inside import run_inside

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
