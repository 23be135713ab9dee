"""Nine packs that users of Wan have, loaded together with ours: nothing of theirs changes what MOVA makes."""

import pytest
import torch
from bring_packs import PINS
from client import ran
from compatibility import assert_golden
from golden import drawn
from graphs import CONFIG, GIVEN, Graph, ref
from packs import pack_server
from safetensors.torch import save_file

LORA = "packs.safetensors"


@pytest.fixture(scope="module")
def server(host_place, tmp_path_factory):
    base = tmp_path_factory.mktemp("many_packs")
    with pack_server(host_place, base, *PINS) as server:
        width, layer = CONFIG["video_dit"]["dim"], "diffusion_model.blocks.0.self_attn.q"
        halves = {"lora_A": drawn("down", (4, width)), "lora_B": drawn("up", (width, 4))}
        (base / "models/loras").mkdir(exist_ok=True)
        weights = {f"{layer}.{name}.weight": torch.from_numpy(half).float() for name, half in halves.items()}
        save_file(weights, base / "models/loras" / LORA)
        yield server


def made(server, sample):
    """The latents of a workflow; `sample(graph, given)` is the output that it ends with."""
    graph = Graph()
    saved = graph.save(sample(graph, graph.add("ProbeGiven", **GIVEN)))
    result = ran(server, graph)
    return server.tensors(result, saved)


def sampled(graph, model, given, latent=None):
    """Three steps on the golden noise, by the nodes for which there are golden numbers."""
    conds = {"positive": ref(given), "negative": ref(given, 1)}
    guider = ref(graph.add("CFGGuider", model=model, cfg=2.0, **conds))
    sigmas = ref(graph.add("MOVAScheduler", steps=3, shift=5.0, denoise=1.0))
    return ref(graph.custom(guider, sigmas, ref(given, 3), latent or ref(given, 2)))


def test_all_packs_load_beside_ours(server):
    modules = {info["python_module"].split(".")[-1] for info in server.get_json("/object_info").values()}
    assert {"comfyui-mova", *PINS} <= modules, set(PINS) - modules


def test_with_all_of_them_loaded_the_numbers_are_the_same(server):
    assert_golden(made(server, lambda graph, given: sampled(graph, graph.model("mova_high"), given)), 2.0)


def test_rgthree_s_context_carries_models_conditionings_and_latents(server):
    def sample(graph, given):
        carried = {"model": graph.model("mova_high"), "latent": ref(given, 2)}
        carried |= {"positive": ref(given), "negative": ref(given, 1)}
        context = graph.add("Context (rgthree)", **carried)
        outputs = server.get_json("/object_info")["Context (rgthree)"]["output_name"]
        at = {name.lower(): i for i, name in enumerate(outputs)}
        return sampled(graph, ref(context, at["model"]), given, ref(context, at["latent"]))

    assert_golden(made(server, sample), 2.0)


def test_rgthree_s_power_lora_loader_does_what_the_core_loader_does(server):
    def core(graph, given):
        settings = {"lora_name": LORA, "strength_model": 0.7}
        model = graph.add("LoraLoaderModelOnly", model=graph.model("mova_high"), **settings)
        return sampled(graph, ref(model), given)

    def power(graph, given):
        row = {"on": True, "lora": LORA, "strength": 0.7, "strengthTwo": None}
        model = graph.add("Power Lora Loader (rgthree)", model=graph.model("mova_high"), lora_1=row)
        return sampled(graph, ref(model), given)

    def plain(graph, given):
        return sampled(graph, graph.model("mova_high"), given)

    wanted, found, without = (made(server, sample) for sample in (core, power, plain))
    for name in ("video", "audio"):
        assert torch.equal(found[name], wanted[name]) and not torch.equal(found[name], without[name])


def test_easy_use_s_sampler_which_makes_noise_for_the_video_only_is_refused_in_a_sentence(server):
    graph = Graph()
    given = graph.add("ProbeGiven", **GIVEN)
    parts = {"pos": ref(given), "neg": ref(given, 1), "latent": ref(given, 2), "model": graph.model("mova_high")}
    parts |= {"vae": ref(graph.add("ProbeWanVAE")), "clip": ref(graph.add("ProbeClip"))}
    pipe = graph.add("easy pipeIn", **parts)
    steps = {"steps": 3, "cfg": 2.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0, "seed": 7}
    pipe = graph.add("easy preSampling", pipe=ref(pipe), **steps)
    graph.add("easy kSampler", pipe=ref(pipe), image_output="None", link_id=0, save_prefix="x")
    told = server.run(graph.nodes).error
    assert told.startswith("The noise does not fit the audio-video latent") and "\n" not in told
