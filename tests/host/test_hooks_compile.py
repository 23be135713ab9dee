"""torch.compile through the host's sampler: the core's way (the whole model) and KJNodes' (block by block)."""

import json
import time

import client
import pytest
from bench import Bench, differ
from graphs import ref
from inside import run_inside
from packs import pack_server
from slow import few, slow

COMPILED = """
import json
from dataclasses import asdict
import comfy.nested_tensor
import comfy.sample
from comfy_api.torch_helpers import set_torch_compile_wrapper
from comfy_extras.nodes_model_advanced import ModelSamplingSD3
from torch._dynamo.utils import counters
from pack.mova import JointModel
from pack.mova.tools import tiny
from pack.nodes.host.family import register
from pack.nodes.loaders import Expert, build_expert

register()
state = tiny.random_state(JointModel(tiny.CONFIG, device="meta"), torch.Generator().manual_seed(0))
model = build_expert(Expert("tiny", state, asdict(tiny.CONFIG), {}), "default")
latent = comfy.nested_tensor.NestedTensor([torch.zeros(1, 16, 2, 4, 4), torch.zeros(1, 128, 11)])
text = torch.randn(1, 7, 4096)


def sample(model, seed, cfg, shift, **said):
    entries = {"concat_mask": torch.ones(1, 4, 2, 4, 4), "concat_latent_image": torch.zeros(1, 16, 2, 4, 4)}
    given = [[text, {**entries, "frame_rate": 24.0, **{f"mova_{name}": value for name, value in said.items()}}]]
    (model,) = ModelSamplingSD3().patch(model, shift)
    noise = comfy.sample.prepare_noise(latent, seed)
    return comfy.sample.sample(
        model, noise, 1, cfg, "euler", "simple", given, given, latent, seed=seed, disable_pbar=True
    ).unbind()


def guards(entries):
    # As comfy_extras/nodes_torch_compile.py and KJNodes' TorchCompileModelAdvanced.
    return ["transformer_options" not in guard.name for guard in entries]


blocks = [f"diffusion_model.blocks.{i}" for i in range(3)]
keys, options = {
    "whole": (["diffusion_model"], {"guard_filter_fn": guards}),
    "blocks": (blocks, {"guard_filter_fn": guards}),
    "blocks, all guards": (blocks, None),  # as TorchCompileModelWanVideoV2
}[arguments[0]]
compiled = model.clone()
set_torch_compile_wrapper(model=compiled, backend="eager", keys=keys, options=options)
graphs = []
for run in (
    dict(seed=1, cfg=5.0, shift=5.0),
    dict(seed=2, cfg=3.0, shift=4.0, a2v_scale=0.5),
    dict(seed=3, cfg=2.0, shift=3.0, a2v_scale=0.25, v2a_scale=0.75, audio_shift_ratio=0.4),
):
    found = sample(compiled, **run)
    graphs.append(counters["stats"]["unique_graphs"])
for one, other in zip(found, sample(model, **run)):
    assert (one - other).abs().max() < 0.05 * other.abs().max()  # bf16
print(json.dumps(graphs))
"""


@pytest.mark.parametrize("way", few(["whole", "blocks", "blocks, all guards"], "blocks"))
def test_a_compiled_model_is_not_compiled_again_for_other_settings(host_place, way):
    """Seed, cfg, shift, a sound's shift of its own, the bridge's scales: the first run's graphs do for all."""
    first, *others = json.loads(run_inside(host_place, COMPILED, way).splitlines()[-1])
    assert first > 0 and others == [first, first]


BLOCKS = {"backend": "inductor", "fullgraph": False, "mode": "default", "dynamo_cache_size_limit": 64}
ADVANCED = {**BLOCKS, "dynamic": "false", "compile_transformer_blocks_only": True, "debug_compile_keys": False}
WAYS = {
    "TorchCompileModelAdvanced": ADVANCED,
    "TorchCompileModelWanVideoV2": {**BLOCKS, "dynamic": False, "compile_transformer_blocks_only": True},
    "TorchCompileModel": {"backend": "inductor"},
}


@pytest.fixture
def compiling(host_place, tmp_path, monkeypatch):
    """A server that says in its log when something is compiled again; with the attention that graphics cards have."""
    monkeypatch.setenv("TORCH_LOGS", "recompiles")
    monkeypatch.setattr(client, "RUN_SECONDS", 1200)
    with pack_server(host_place, tmp_path, "ComfyUI-KJNodes", arguments=["--use-pytorch-cross-attention"]) as server:
        yield server


@slow("minutes")
def test_the_nodes_compile_once_and_give_the_same(compiling):
    """With inductor, as people have it. Prints the seconds of a first run, of one with other settings, and without."""

    def run(node, inputs, **settings):
        bench, start = Bench(compiling), time.monotonic()
        model = ref(bench.add(node, model=bench.plain_model, **inputs)) if node else bench.plain_model
        (found,) = bench.results(bench.sample(model, **settings))
        return found, time.monotonic() - start

    given = {"seed": 1, "cfg": 5.0}, {"seed": 2, "cfg": 3.0}
    run(None, {}, **given[0])  # loads the model
    plain = [run(None, {}, **settings) for settings in given]
    for node, inputs in WAYS.items():
        seconds, logged = [], []
        for settings, (wanted, _) in zip(given, plain, strict=True):
            found, took = run(node, inputs, **settings)
            seconds.append(round(took, 1))
            assert differ(found, wanted) < 1e-4, node
            logged.append(len(compiling.logged()))
        print(f"{node}: {seconds}, without {plain[1][1]:.1f}", flush=True)
        assert "Recompiling" not in compiling.logged()[logged[0] :], node
