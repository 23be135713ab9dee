"""MOVA Model Options: the same clip, whatever is chosen, and a sentence where a choice cannot be had."""

from pathlib import Path

import pytest
from bench import Bench, Refused, differ
from beside_wan import BOTH
from graphs import ref
from inside import run_inside
from refused import says
from slow import slow


@pytest.mark.parametrize("chosen", [("torch", True), ("comfy_kitchen", False), ("comfy_kitchen", True)])
def test_a_run_gives_the_same_whatever_is_chosen(server, files, chosen):
    bench = Bench(server)
    elementwise, low_memory = chosen
    options = bench.add(
        "MOVAModelOptions", model_high=bench.plain_model, elementwise=elementwise, low_memory=low_memory
    )
    plain, found = bench.results(bench.sample(bench.plain_model), bench.sample(ref(options)))
    assert differ(found, plain) < 1e-5


NODE = (
    BOTH
    + """
from types import SimpleNamespace
import comfy.model_patcher
from pack.nodes import options as node
from pack.nodes.host import experts, kernels, model as host_model
from pack.nodes.host.kernels import OPTIONS, Options


class Patcher:
    def __init__(self):
        self.model_options = {"transformer_options": {}}
        self.model = SimpleNamespace(has_both=False)
        self.wrappers = {}

    def clone(self):
        return Patcher()

    add_wrapper_with_key = comfy.model_patcher.ModelPatcher.add_wrapper_with_key
    remove_wrappers_with_key = comfy.model_patcher.ModelPatcher.remove_wrappers_with_key


experts.check_expert = lambda *_: None
given = Patcher()
high, low = node.MOVAModelOptions.execute("comfy_kitchen", True, model_high=given).result
options = high.model_options["transformer_options"]
assert options[OPTIONS] == Options("comfy_kitchen", True) and low is None
assert not given.model_options["transformer_options"], "the model that came in is as it was"

# What the node leaves there is what the model works by.
seen = []
own = host_model.kernels_by_place
host_model.kernels_by_place = lambda options: seen.append(own(options)) or seen[-1]
of_mova(options, bridge=1.0)
for place in seen[0]:
    assert place.norm_and_rotate_ is kernels.NORMS["comfy_kitchen"] and (place.value_blocks, place.mlp_blocks) == (6, 2)
"""
)


def test_the_model_works_by_what_the_node_leaves_on_it(host_place):
    run_inside(host_place, NODE)


def refusal(server, elementwise="torch", **models):
    bench = Bench(server)
    models = {name: bench.model(file) for name, file in models.items()}
    options = bench.add("MOVAModelOptions", elementwise=elementwise, low_memory=False, **models)
    with pytest.raises(Refused) as refused:
        bench.results(bench.sample(ref(options, 0 if "model_high" in models else 1)))
    return str(refused.value)


def test_triton_without_a_gpu_is_refused_before_anything_is_sampled(server, files):
    found = refusal(server, "triton", model_high="mova_high")
    assert says(found, "Triton needs an NVIDIA or AMD GPU and the package triton (here: cpu); choose torch.")


def test_another_model_or_none_is_refused(server, files):
    assert "The model in model_high is WAN21, not MOVA" in refusal(server, model_high="wan")
    assert "Nothing is connected to model_high or model_low" in refusal(server)
    assert "(are the two swapped?)" in refusal(server, model_low="mova_high")


KITCHEN = (
    BOTH
    + """
import comfy.quant_ops
from pack.mova.model import attention
from pack.mova.model import elementwise
from pack.nodes.host.kernels import OPTIONS, Options

calls = []
for name in ("apply_rope1", "apply_rope_split_half1"):
    def counted(*args, name=name, own=getattr(comfy.quant_ops.ck, name)):
        calls.append(name)
        return own(*args)
    setattr(comfy.quant_ops.ck, name, counted)

attention.LONG = 0  # as in a large clip: all is done in parts
elementwise.NUMBERS = 5 * mova.dim  # a few rows at a time, and a rest
bridged = of_mova(bridge=1.0)
assert not calls
found = of_mova({OPTIONS: Options("comfy_kitchen", True)}, bridge=1.0)
assert {"apply_rope1", "apply_rope_split_half1"} <= set(calls)
same(found[0], bridged[0]); same(found[1], bridged[1])
same(of_mova({OPTIONS: Options("comfy_kitchen", True)})[0], plain_wan)

# A pack's attention gets all heads at once, and as often as there are layers.
# One that is put in for a layer only, too.
heads = []
def override(own, q, k, v, n, **kwargs):
    heads.append(n)
    return own(q, k, v, n, **kwargs)
of_mova({"optimized_attention_override": override}, bridge=1.0)
assert set(heads) == {mova.num_heads, mova.audio_dit.sizes.num_heads}, heads
heads.clear()
def replaced(args, extra):
    options = {**args["transformer_options"], "optimized_attention_override": override}
    return extra["original_block"]({**args, "transformer_options": options})
of_mova({"patches_replace": {"dit": {("double_block", 0): replaced}}}, bridge=1.0)
assert set(heads) == {mova.num_heads}, heads

# A hook on a layer sees all rows at once, and may keep them.
kept = []
def keep(module, args, out):
    kept.append((args[0], args[0].clone()))
hook = mova.blocks[0].self_attn.v.register_forward_hook(keep)
hooked = of_mova(bridge=1.0)
hook.remove()
same(hooked[0], bridged[0])
assert len(kept) == 1 and torch.equal(*kept[0])
"""
)


def test_comfy_kitchen_turns_towers_and_bridge_and_a_long_clip_is_done_in_parts(host_place):
    run_inside(host_place, KITCHEN)


WEIGHT = """
import comfy.ops
from pack.nodes.host.elementwise import host_weight

for operations in (comfy.ops.manual_cast, comfy.ops.disable_weight_init):
    norm = operations.RMSNorm(8, eps=1e-6, dtype=torch.bfloat16)
    norm.weight = torch.nn.Parameter(torch.randn(8, dtype=torch.bfloat16), requires_grad=False)
    x = torch.randn(1, 3, 8)
    x = x if operations is comfy.ops.manual_cast else x.bfloat16()
    for changes in ([], [lambda weight: weight * 3 + 1]):  # as of a LoRA on offloaded weights
        norm.weight_function = changes
        with torch.inference_mode(), host_weight(norm, x) as weight:
            assert weight.dtype == x.dtype
            found = torch.nn.functional.rms_norm(x, (8,), weight, 1e-6)
            torch.testing.assert_close(found, norm(x))
"""


def test_a_norm_s_weight_is_the_one_that_its_own_forward_uses(host_place):
    run_inside(host_place, WEIGHT)


INT8 = """
import comfy.ops
from comfy.quant_ops import QUANT_ALGOS, QuantizedTensor
from pack.mova.model.elementwise import gelu_linear
from pack.nodes.host.elementwise import host_gelu_linear

layer = comfy.ops.mixed_precision_ops({}, torch.bfloat16).Linear(256, 384, bias=True)
layer.weight = torch.nn.Parameter(torch.randn(384, 256).bfloat16() / 16, requires_grad=False)
layer.bias = torch.nn.Parameter(torch.randn(384).bfloat16(), requires_grad=False)
calls = []
if hasattr(comfy.ops, "linear_input_act"):
    def counted(*args, own=comfy.ops.linear_input_act):
        calls.append(args)
        return own(*args)
    comfy.ops.linear_input_act = counted
x = torch.randn(1, 64, 256).bfloat16()
with torch.inference_mode():
    plain = gelu_linear(layer, x.clone())
    assert torch.equal(host_gelu_linear(layer, x.clone()), plain) and not calls
    if "int8_tensorwise" not in QUANT_ALGOS:  # before v0.28, where such files are refused
        sys.exit()
    layer.weight = torch.nn.Parameter(QuantizedTensor.from_float(layer.weight, "TensorWiseINT8Layout"), False)
    wanted, found = gelu_linear(layer, x.clone()), host_gelu_linear(layer, x.clone())
    assert len(calls) == hasattr(comfy.ops, "linear_input_act")
    for one in (wanted, found):
        assert (one - plain).float().norm() < 0.05 * plain.float().norm()
    assert (found - wanted).float().norm() < 0.01 * plain.float().norm()
    hooked = []
    hook = layer.register_forward_hook(lambda *_: hooked.append(1))
    host_gelu_linear(layer, x.clone())
    assert hooked == [1]
    hook.remove()
    layer.forward = lambda x: x + 1  # as packs do
    assert torch.equal(host_gelu_linear(layer, x.clone()), gelu_linear(layer, x.clone()))
"""


def test_in_int8_the_gelu_is_part_of_the_layer_where_the_host_has_it(host_place):
    run_inside(host_place, INT8)


TRITON = (
    BOTH
    + """
import os
os.environ["TRITON_INTERPRET"] = "1"
sys.path.append(arguments[0])
try:
    import triton
except ImportError as error:
    print("NOT TESTED", error)
    sys.exit()
from pack.mova.model import triton_kernels
from pack.nodes.host.kernels import OPTIONS, Options

calls = []
own = triton_kernels.norm_rope_
triton_kernels.norm_rope_ = lambda *args: calls.append(1) or own(*args)
bridged = of_mova(bridge=1.0)
assert not calls
found = of_mova({OPTIONS: Options("triton")}, bridge=1.0)
same(found[0], bridged[0]); same(found[1], bridged[1])
several = len(calls)
assert several >= 4 * (len(mova.blocks) + len(mova.audio_dit.blocks))
# Where a pack is at work in a norm, that is what works. The interpreter takes long, and is counted only.
triton_kernels.norm_rope_ = lambda *args: calls.append(1)
hooked = []
hook = mova.blocks[0].self_attn.norm_q.register_forward_hook(lambda *_: hooked.append(1))
of_mova({OPTIONS: Options("triton")}, bridge=1.0)
hook.remove()
assert hooked and len(calls) == 2 * several - 1
"""
)


@slow("test_kernels has the kernel itself")
def test_triton_s_kernel_gives_the_same_on_the_host(host_place, tmp_path):
    triton = pytest.importorskip("triton", reason="NOT TESTED: no triton here")
    (tmp_path / "triton").symlink_to(Path(triton.__file__).parent)  # by its interpreter, so that it needs no GPU
    said = run_inside(host_place, TRITON, str(tmp_path))
    if "NOT TESTED" in said:
        pytest.skip(f"NOT TESTED: this host's Python cannot import triton ({said.strip()})")


ESTIMATE = """
import comfy.model_management
import comfy.sampler_helpers
import comfy.sd
from pack.mova import JointModel
from pack.mova.tools import tiny
from pack.nodes.host import family, run_line
from pack.nodes.options import Options, with_options

state = JointModel(tiny.CONFIG).state_dict()
family.register()
high = comfy.sd.load_diffusion_model_state_dict(state)
told = []
comfy.model_management.load_models_gpu = lambda models, memory_required=0, **more: told.append(
    (memory_required, more["minimum_memory_required"])
)
PACKED = [1, 1, 47_977_984]  # of 2560 x 1440, 205 frames


def set_aside(model):
    model.model.extra_conds_shapes = lambda **entries: {}
    options = comfy.model_patcher.create_model_options_clone(model.model_options)
    options["transformer_options"]["wrappers"] = model.wrappers
    comfy.sampler_helpers.prepare_sampling(model, PACKED, {"positive": [{}]}, options)
    line = run_line.memory_line(model, [torch.empty(1, PACKED[2])[None]])
    assert line.startswith(f"{told[-1][1] / 2**30:.1f} GiB for the clip"), line
    return told[-1]


usual = set_aside(with_options(high, Options()))
assert usual == set_aside(high)
low = with_options(high, Options(low_memory=True))
for less, whole in zip(set_aside(low), usual, strict=True):
    assert abs(less / whole - 0.84) < 1e-6
assert set_aside(with_options(low, Options(low_memory=True))) == set_aside(low)
assert set_aside(with_options(low, Options())) == usual
low.model_options["transformer_options"]["optimized_attention_override"] = lambda *_, **__: None
assert set_aside(low) == usual  # it gets all heads at once
"""


def test_with_low_memory_the_host_sets_less_aside_and_the_line_says_so(host_place):
    run_inside(host_place, ESTIMATE)
