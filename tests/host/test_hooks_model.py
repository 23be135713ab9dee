"""Positions, attention overrides, inputs and prefetching, beside ComfyUI's own Wan in one process."""

from beside_wan import BOTH
from inside import run_inside

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
from pack.mova.model.config import RELEASED

assert RELEASED.video_dit.head_dim == 128
calls = []


def override(function, q, k, v, heads, mask=None, **kwargs):
    options = kwargs["transformer_options"]
    for part in (q, k, v):  # heads are told apart without a copy
        part.view(len(part), -1, heads, part.shape[2] // heads)
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


BESIDE_THE_SOUND = (
    BOTH
    + """
calls = []


def override(function, q, k, v, heads, **named):
    calls.append((q.shape[1], named["transformer_options"]["block_type"]))
    return function(q, k, v, heads, **named)


def patch(name):
    def called(given):
        calls.append((given["x"].shape[1], name))
        return given["x"] * 2
    return called


def options():
    names = "attn1_patch", "attn2_patch"
    return {"patches": {name: [patch(name)] for name in names}, "optimized_attention_override": override}


wanted, before = of_mova(options()), calls
calls = []
for part in (mova.audio_dit.blocks[0].self_attn, mova.audio_dit.blocks[1].ffn):
    part.register_forward_hook(lambda *_: None)
found = of_mova(options())
assert calls == before, "other places, or other names for them"
sound_only = [name for length, name in calls if length == sound.shape[-1]]
assert sound_only and not {"double", "attn1_patch", "attn2_patch"} & set(sound_only), sound_only
for one, other in zip(found, wanted):
    same(one, other)
"""
)


def test_a_hook_on_a_block_of_the_sound_brings_it_none_of_the_video_s_patches(host_place):
    run_inside(host_place, BESIDE_THE_SOUND)


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
