"""LoRAs on the host: what it makes of them is what merging them by hand makes, in every spelling and module."""

import pytest
import torch
from bench import differ
from client import ran
from distilled_files import distilled
from golden import CASES
from graphs import EXPERTS, GIVEN, Graph, golden_model, numbers, ref
from loras import (
    AUDIO,
    BRIDGE,
    LAYERS,
    LOW_RESOURCE,
    VIDEO,
    by_hand,
    forwards,
    halves,
    loader,
    merged,
    pair,
    spelling,
    write,
)

MODULATION, UP = "blocks.0.modulation", numbers("modulation", 1, 2)


@pytest.fixture(scope="module")
def plain(server, files):
    graph = Graph()
    high, low = forwards(server, graph, graph.model("mova_high"), graph.model("mova_low"))
    assert differ(high, by_hand("high", {})) < 1e-5
    return {"high": high, "low": low}


SPELLINGS = {
    # file: (contents, whether the core loader's LoraLoaderModelOnly applies it, too)
    "accelerate/lora_weights.pt": (spelling("video_dit."), False),
    "default/lora_weights.pt": (spelling("video_dit.", ".lora_A.default.weight", ".lora_B.default.weight"), False),
    "low_resource/lora_weights.pt": (LOW_RESOURCE, False),
    "modules.safetensors": (spelling("video_dit."), False),
    "diffsynth.safetensors": (spelling("", ".lora_A.default.weight", ".lora_B.default.weight"), False),
    "peft.safetensors": (spelling("base_model.model."), False),
    "transformer.safetensors": (spelling("transformer."), False),
    "wan.safetensors": (spelling("diffusion_model."), True),
    "wan_default.safetensors": (spelling("diffusion_model.", ".lora_A.default.weight", ".lora_B.default.weight"), True),
    "wan_up_down.safetensors": (spelling("diffusion_model.", ".lora_down.weight", ".lora_up.weight"), True),
    "wan_bare_halves.pt": (spelling("diffusion_model.", ".lora_A", ".lora_B"), True),
    "kohya.safetensors": (spelling("lora_unet_", ".lora_down.weight", ".lora_up.weight", flat=True), True),
    "kohya_ab.safetensors": (spelling("lora_unet_", flat=True), True),
    "wan_fun.safetensors": (spelling("lora_unet__", ".lora_down.weight", ".lora_up.weight", flat=True), False),
    "lycoris.safetensors": (spelling("lycoris_", ".lora_down.weight", ".lora_up.weight", flat=True), False),
}  # fmt: skip


@pytest.mark.parametrize("name", SPELLINGS)
def test_a_spelling_gives_what_merging_by_hand_gives(server, files, plain, name):
    contents, by_core = SPELLINGS[name]
    write(files, name, contents)
    graph = Graph()
    model = graph.model("mova_high")
    ours = loader(graph, name, model)
    core = graph.add("LoraLoaderModelOnly", model=model, lora_name=name, strength_model=1.0)
    log_before = len(server.log.read_text())
    found, from_core, report = forwards(server, graph, ref(ours), ref(core), report=ours)
    wanted = by_hand("high", merged(*LAYERS))
    assert differ(found, wanted) < 1e-5 < 1e-3 < differ(found, plain["high"])
    listed = (f"{module} 1 layers at strength 1" for module in ("video", "audio", "bridge"))
    assert all(text in report for text in listed) and "left out" not in report, report
    if by_core:
        assert differ(from_core, wanted) < 1e-5
    else:  # dropped by the core loader, which tells of it in the log only
        assert differ(from_core, plain["high"]) < 1e-6
        assert "lora key not loaded" in server.log.read_text()[log_before:]


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("strength", [-1.0, 0.0, 0.5])
def test_each_module_has_its_strength(server, files, plain, layer, strength):
    name = write(files, "strengths.pt", spelling("video_dit."))
    graph = Graph()
    at = {"video": 0.0, "audio": 0.0, "bridge": 0.0} | {("video", "audio", "bridge")[LAYERS.index(layer)]: strength}
    node = loader(graph, name, graph.model("mova_high"), **at)
    found, report = forwards(server, graph, ref(node), report=node)
    if strength:
        assert differ(found, by_hand("high", merged(layer, strength=strength))) < 1e-5 < differ(found, plain["high"])
    else:
        assert differ(found, plain["high"]) < 1e-6
    assert "video 1 layers at strength 0" in report or layer == VIDEO


def test_a_file_for_all_of_mova_goes_to_both_experts(server, files, plain):
    shared = halves(AUDIO, AUDIO) | halves(BRIDGE, BRIDGE)
    video = halves(VIDEO, f"video_dit.{VIDEO}") | halves(VIDEO, f"video_dit_2.{VIDEO}", seed="low")
    name = write(files, "whole/lora_weights.pt", shared | video)
    torch.save({"rank": 16, "alpha": 8.0, "target_modules": []}, files / "models/loras/whole/lora_config.pt")
    graph = Graph()
    node = loader(graph, name, graph.model("mova_high"), graph.model("mova_low"))
    high, low, report = forwards(server, graph, ref(node), ref(node, 1), report=node)
    for expert, found, seed in (("high", high, ""), ("low", low, "low")):
        changes = merged(AUDIO, BRIDGE, scale=0.5) | merged(VIDEO, scale=0.5, seed=seed)
        assert differ(found, by_hand(expert, changes)) < 1e-5 < 1e-3 < differ(found, plain[expert])
    assert report.splitlines() == [
        "whole/lora_weights.pt, alpha / rank: 0.5 (from lora_config.pt)",
        "high-noise expert: audio 1 layers at strength 1, bridge 1 layers at strength 1, video 1 layers at strength 1",
        "low-noise expert: audio 1 layers at strength 1, bridge 1 layers at strength 1, video 1 layers at strength 1",
    ]


def test_a_pair_of_wan_files_goes_on_with_two_nodes_and_the_wrong_slot_is_told(server, files, plain):
    names = [
        write(files, f"style_{e}_noise.safetensors", halves(VIDEO, f"diffusion_model.{VIDEO}", seed=e)) for e in EXPERTS
    ]
    graph = Graph()
    models = graph.model("mova_high"), graph.model("mova_low")
    first = loader(graph, names[0], high=models[0])
    second = loader(graph, names[1], low=models[1])
    both = loader(graph, names[1], *models)
    nodes = ref(first), ref(second, 1), ref(both), ref(both, 1)
    high, low, wrong, right, report = forwards(server, graph, *nodes, report=both)
    assert differ(high, by_hand("high", merged(VIDEO, seed="high"))) < 1e-5
    assert differ(low, by_hand("low", merged(VIDEO, seed="low"))) < 1e-5
    assert differ(wrong, by_hand("high", merged(VIDEO, seed="low"))) < 1e-5
    assert differ(right, low) < 1e-6
    assert "the file's name says low-noise, but it is on the high-noise expert, too: connect only" in report


def test_two_loras_stack_with_each_other_and_with_the_core_loader_s(server, files, plain):
    names = [write(files, f"stack{i}.safetensors", halves(VIDEO, f"diffusion_model.{VIDEO}", seed=i)) for i in "123"]
    graph = Graph()
    model = graph.model("mova_high")
    two = ref(loader(graph, names[1], ref(loader(graph, names[0], model)), video=0.5))
    three = graph.add("LoraLoaderModelOnly", model=two, lora_name=names[2], strength_model=-1.0)
    found = forwards(server, graph, two, ref(three), model)
    changes = [
        merged(VIDEO, strength=s, seed=i)[f"{VIDEO}.weight"] for i, s in zip("123", (1.0, 0.5, -1.0), strict=True)
    ]
    for result, parts in zip(found, (changes[:2], changes, [0 * changes[0]]), strict=True):
        assert differ(result, by_hand("high", {f"{VIDEO}.weight": sum(parts)})) < 1e-5


def test_alpha_in_the_file_scales_by_both_loaders(server, files, plain):
    name = write(
        files, "alpha.safetensors", halves(VIDEO, f"lora_unet_{VIDEO.replace('.', '_')}", ".lora_down.weight",
        ".lora_up.weight") | {f"lora_unet_{VIDEO.replace('.', '_')}.alpha": torch.tensor(2.0)},
    )  # fmt: skip
    graph = Graph()
    model = graph.model("mova_high")
    core = graph.add("LoraLoaderModelOnly", model=model, lora_name=name, strength_model=1.0)
    for found in forwards(server, graph, ref(loader(graph, name, model)), ref(core)):
        assert differ(found, by_hand("high", merged(VIDEO, scale=0.5))) < 1e-5


def other_kinds():
    """Changes that are no pairs: parts by suffix, and what they add."""
    a, b, c, d = numbers("a", 256, 4), numbers("b", 4, 256) / 16, numbers("c", 256, 4), numbers("d", 4, 256) / 16
    yield {"hada_w1_a": a, "hada_w1_b": b, "hada_w2_a": c, "hada_w2_b": d}, {".weight": (a @ b) * (c @ d)}
    w1, w2 = numbers("w1", 8, 8) / 4, numbers("w2", 32, 32) / 4
    yield {"lokr_w1": w1, "lokr_w2": w2}, {".weight": torch.kron(w1, w2)}
    weight, bias = numbers("w", 256, 256) / 16, numbers("bias", 256)
    yield {"diff": weight, "diff_b": bias}, {".weight": weight, ".bias": bias}
    state = golden_model("high").state_dict()
    (down, up), magnitude = pair(VIDEO), 1 + numbers("m", 256, 1).abs()
    old = state[f"{VIDEO}.weight"]
    new = (old + up @ down) * magnitude / old.norm(dim=1, keepdim=True)  # as the host has it
    yield {"lora_A.weight": down, "lora_B.weight": up, "dora_scale": magnitude}, {".weight": new - old}
    yield {"lora_A.weight": down, "lora_B.weight": up, "lora_magnitude_vector": magnitude[:, 0]}, {".weight": new - old}


@pytest.mark.parametrize("index", range(5), ids=["loha", "lokr", "differences", "dora", "peft dora"])
def test_other_kinds_of_change_are_the_host_s(server, files, plain, index):
    parts, adds = list(other_kinds())[index]
    name = write(files, f"kind{index}.safetensors", {f"diffusion_model.{VIDEO}.{p}": t for p, t in parts.items()})
    graph = Graph()
    (found,) = forwards(server, graph, ref(loader(graph, name, graph.model("mova_high"))))
    wanted = by_hand("high", {VIDEO + leaf: update for leaf, update in adds.items()})
    assert differ(found, wanted) < 1e-5 < 1e-3 < differ(found, plain["high"])


def test_modulation_is_changed_by_our_loader_and_not_by_the_core_s(server, files, plain):
    shape = golden_model("high").state_dict()[MODULATION].shape
    one, two, down = numbers("one", *shape), numbers("two", *shape), numbers("three", 2, 1536)
    names = [
        write(files, "diff_m.safetensors", {"diffusion_model.blocks.0.diff_m": one}),
        write(files, "modulation.safetensors", {"diffusion_model.blocks.0.modulation.diff": two}),
        write(files, "modulation_pair.pt", {f"{MODULATION}.lora_A": down, f"{MODULATION}.lora_B": UP}),
    ]
    graph = Graph()
    model = graph.model("mova_high")
    ours = model
    for name, strength in zip(names, (1.0, 0.5, 2.0), strict=True):
        ours = ref(loader(graph, name, ours, video=strength))
    core = graph.add("LoraLoaderModelOnly", model=model, lora_name=names[1], strength_model=1.0)
    found, from_core, after = forwards(server, graph, ours, ref(core), model)
    wanted = by_hand("high", {MODULATION: one + 0.5 * two + (2 * UP @ down).view(shape)})
    assert differ(found, wanted) < 1e-5 < 1e-3 < differ(found, plain["high"])
    assert differ(from_core, plain["high"]) < 1e-6
    assert differ(after, plain["high"]) < 1e-6  # nothing stays behind in the model that all of them share


def test_weights_in_fp8_are_patched(server, files, plain):
    name = write(files, "fp8.safetensors", spelling("diffusion_model."))
    graph = Graph()
    model = ref(graph.add("UNETLoader", unet_name="mova_high.safetensors", weight_dtype="fp8_e4m3fn"))
    found, without = forwards(server, graph, ref(loader(graph, name, model)), model)
    wanted = by_hand("high", merged(*LAYERS))
    assert differ(found, wanted) < 0.3 < differ(found, plain["high"])
    assert differ(found, wanted) < 2 * differ(without, plain["high"])


def test_a_file_name_can_come_from_another_node(server, files, plain):
    name = write(files, "linked.safetensors", halves(VIDEO, f"diffusion_model.{VIDEO}"))
    graph, before = Graph(), len(server.logged())
    text = ref(graph.add("PrimitiveString", value=name))
    switch = ref(graph.add("ComfySwitchNode", switch=True, on_true=text, on_false=text))
    (found,) = forwards(server, graph, ref(loader(graph, switch, graph.model("mova_high"))))
    assert differ(found, by_hand("high", merged(VIDEO))) < 1e-5
    assert "NoneType" not in server.logged()[before:]


def test_what_is_left_out_is_named(server, files, plain):
    more = {f"blocks.{i}.cross_attn.k_img.lora_B.weight": torch.ones(256, 2) for i in range(4)}
    more |= {key.replace("lora_B", "lora_A"): torch.ones(2, 256) for key in more}
    more["blocks.9.self_attn.q.diff"] = torch.ones(2)
    half = {"blocks.0.self_attn.q.lora_A.weight": torch.ones(2, 256)}
    low = halves(VIDEO, f"video_dit_2.{VIDEO}")
    name = write(files, "partly.pt", {**spelling("video_dit."), **more, **half, **low, "text": torch.ones(1)})
    graph = Graph()
    node = loader(graph, name, graph.model("mova_high"))
    found, report = forwards(server, graph, ref(node), report=node)
    assert differ(found, by_hand("high", merged(*LAYERS))) < 1e-5
    assert (
        "4 layers are left out, as they are for the picture tokens of Wan 2.1 (img_emb, k_img, v_img, norm_k" in report
    )
    assert "1 layers are left out, as MOVA has none such: 'blocks.9.self_attn.q.diff'" in report
    assert "1 keys of unknown spelling are left out: 'text'" in report
    assert "a half of which is missing: 'blocks.0.self_attn.q.lora_A.weight'" in report
    assert "1 video layers are for the low-noise expert, which is not connected" in report


@pytest.mark.parametrize("kind", ["x2v", "lightning"])
def test_a_distilled_wan_file_changes_the_whole_video_tower_by_the_exact_sums(server, files, plain, kind):
    """At little strength, as all is random: pairs, whole differences of norms and biases, and modulations."""
    shapes = {name: tuple(tensor.shape) for name, tensor in golden_model("high").state_dict().items()}
    tensors, gains = distilled(shapes, kind, "high")
    name = write(files, f"distilled/{kind}_high_noise.safetensors", tensors)
    graph = Graph()
    node = loader(graph, name, graph.model("mova_high"), video=0.01)
    found, report = forwards(server, graph, ref(node), report=node)
    wanted = by_hand("high", {key: 0.01 * gain.float().view(shapes[key]) for key, gain in gains.items()})
    assert differ(found, wanted) < 1e-5 < 1e-3 < differ(found, plain["high"])
    layers = {key if key.endswith("modulation") else key.rpartition(".")[0] for key in gains}
    assert f"high-noise expert: video {len(layers)} layers at strength 0.01" in report and "left out" not in report


def test_joint_sampler_runs_with_both_outputs(server, files, plain):
    assert CASES  # the golden inputs
    name = write(files, "joint.pt", spelling("video_dit."))
    graph = Graph()
    given = graph.add("ProbeGiven", **GIVEN)
    models = graph.model("mova_high"), graph.model("mova_low")
    node = loader(graph, name, *models)
    saved = [
        graph.save(ref(graph.joint(high, given, model_low=low)), f"{i}.safetensors")
        for i, (high, low) in enumerate([(ref(node), ref(node, 1)), models])
    ]
    result = ran(server, graph)
    with_lora, without = (server.tensors(result, node) for node in saved)
    assert differ(with_lora, without) > 1e-3
