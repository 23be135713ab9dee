"""Prism on the host: its file as it is, and a prompt of the sound's own."""

import pytest
import torch
from client import ran, refusal
from golden import error, joint_inputs
from graphs import GIVEN, KIND, Graph, headless, numbers, ref, to_model_scale
from inside import run_inside
from loras import loader, spelling, write
from prism_files import write_prism
from safetensors.torch import save_file

from mova.sampling.guidance import Guidance
from mova.sampling.schedule import low_noise_start, sigmas


@pytest.fixture(scope="module")
def prism(server, files):
    """The golden experts in Prism's layout, among the diffusion models."""
    models = server.base / "models/diffusion_models"
    return write_prism(models / "MOVA-golden", models / "preview_beta").relative_to(models).as_posix()


def sampled(server, *graphs):
    """The latents that graphs end in: video in the model's scale, and audio."""
    graph, made = graphs[0], []
    saved = [graph.save(ref(node), f"{i}.safetensors") for i, node in enumerate(graphs[1:])]
    result = ran(server, graph)
    for node in saved:
        found = server.tensors(result, node)
        made.append((to_model_scale(found["video"]), found["audio"]))
    return made


def test_prism_s_file_as_it_is_gives_the_latents_of_the_same_weights_in_a_release(server, files, prism):
    graph = Graph()
    given = graph.add("ProbeGiven", **GIVEN)
    samplers = []
    for name in ("MOVA-golden", prism):
        loader = graph.add("MOVAModelLoader", high_noise=name, low_noise=name, weight_dtype="default")
        samplers.append(graph.joint(ref(loader), given, model_low=ref(loader, 1), noise=ref(given, 3)))
    release, ours = sampled(server, graph, *samplers)
    assert all(torch.equal(one, other) for one, other in zip(ours, release, strict=True))


def keeping(part):
    """A run in which the video or the audio of a latent is kept."""

    def run(graph, models, given):
        apart = graph.add("MOVASeparateLatent", latent=ref(graph.add("ProbeGivenLatent", file="to_keep.safetensors")))
        joined = graph.add("MOVACombineLatent", video=ref(apart), audio=ref(apart, 1), **{f"keep_{part}": True})
        return graph.joint(models[0], given, ref(joined), model_low=models[1], noise=ref(given, 3))

    return run


def with_lora(graph, models, given):
    node = loader(graph, "prism.safetensors", *models)
    return graph.joint(ref(node), given, model_low=ref(node, 1), noise=ref(given, 3))


def to_last_frame(graph, models, given):
    pictures = {
        name: ref(graph.add("EmptyImage", width=96, height=64, batch_size=1, color=0x3366CC)) for name in FRAMES
    }
    clip = graph.conditioning(**pictures)
    return graph.joint(models[0], clip, ref(clip, 2), model_low=models[1])


FRAMES = ("start_image", "end_image")
RUNS = {
    "a LoRA": with_lora,
    "a last frame": to_last_frame,
    "a sound for a video": keeping("video"),
    "a video for a sound": keeping("audio"),
}


@pytest.mark.parametrize("what", RUNS)
def test_what_works_on_a_release_works_on_prism_s_file_bit_for_bit(server, files, prism, what):
    write(files, "prism.safetensors", spelling("video_dit."))
    kept = {"video": numbers("kept video", 1, 16, 3, 8, 12), "audio": numbers("kept audio", 1, 128, 11)}
    save_file(kept, server.base / "input/to_keep.safetensors")
    graph = Graph()
    given = graph.add("ProbeGiven", **GIVEN)
    samplers = []
    for name in ("MOVA-golden", prism):
        node = graph.add("MOVAModelLoader", high_noise=name, low_noise=name, weight_dtype="default")
        samplers.append(RUNS[what](graph, (ref(node), ref(node, 1)), given))
    plain = graph.joint(ref(node), given, model_low=ref(node, 1), noise=ref(given, 3))
    release, ours, without = sampled(server, graph, *samplers, plain)
    assert all(torch.equal(one, other) for one, other in zip(ours, release, strict=True))
    assert ours[1].shape != without[1].shape or error(ours[0], without[0]) > 1e-3


def test_prism_s_file_that_is_no_whole_model_is_told_before_anything_is_built(server, files, prism):
    models = server.base / "models/diffusion_models"
    path = write_prism(models / "MOVA-golden", models / "cut", lambda name: "audio_block" not in name)
    graph = Graph()
    loader = graph.add("MOVAModelLoader", high_noise="cut/" + path.name, low_noise="none", weight_dtype="default")
    graph.add("PreviewAny", source=ref(loader))
    result = server.run(graph.nodes)
    assert "which are no whole model" in result.error and "over MOVA-360p with the command `convert`" in result.error


def both_ways(graph, name, dtype="default"):
    """(high, low) of MOVA Model Loader, and the one MODEL of the core loader."""
    two = graph.add("MOVAModelLoader", high_noise=name, low_noise=name, weight_dtype=dtype)
    return (ref(two), ref(two, 1)), ref(graph.add("UNETLoader", unet_name=name, weight_dtype=dtype))


@pytest.mark.parametrize(
    ("dtype", "settings"), [("default", {}), ("fp8_e4m3fn", {"audio_steps": 3, "audio_shift": 3.0})]
)
def test_the_core_loader_makes_one_model_of_prism_s_file_that_changes_its_expert_itself(server, prism, dtype, settings):
    graph = Graph()
    given = graph.add("ProbeGiven", **GIVEN)
    (high, low), both = both_ways(graph, prism, dtype)
    runs = graph.joint(high, given, model_low=low, **settings), graph.joint(both, given, **settings)
    two, one, alone = sampled(server, graph, *runs, graph.joint(high, given, **settings))
    assert all(error(*pair) < 1e-6 for pair in zip(one, two, strict=True))
    assert error(alone[0], one[0]) > 1e-3  # the low-noise expert has a share in it


def test_core_ksampler_on_that_model_is_two_of_them_one_for_each_expert(server, prism):
    graph = Graph()
    given = graph.add("ProbeGiven", **GIVEN)
    (high, low), both = both_ways(graph, prism)
    settings = {"steps": 4, "cfg": 2.0, "sampler_name": "euler", "scheduler": "simple", "noise_seed": 7}
    settings |= {"positive": ref(given), "negative": ref(given, 1)}
    first, second = {"start_at_step": 0, "end_at_step": 2}, {"start_at_step": 2, "end_at_step": 4}
    first |= {"add_noise": "enable", "return_with_leftover_noise": "enable"}
    second |= {"add_noise": "disable", "return_with_leftover_noise": "disable"}
    begun = graph.add("KSamplerAdvanced", model=high, latent_image=ref(given, 2), **settings, **first)
    two = graph.add("KSamplerAdvanced", model=low, latent_image=ref(begun), **settings, **second)
    one = graph.ksampler(both, given, steps=4)
    one, two = sampled(server, graph, one, two)
    assert all(error(*pair) < 1e-5 for pair in zip(one, two, strict=True))


def test_a_lora_for_one_expert_is_not_put_on_the_wrong_one_of_that_model(server, files, prism):
    write(files, "one_expert.safetensors", spelling("diffusion_model."))
    graph = Graph()
    given = graph.add("ProbeGiven", **GIVEN)
    both = both_ways(graph, prism)[1]
    with_it = ref(graph.add("LoraLoaderModelOnly", model=both, lora_name="one_expert.safetensors", strength_model=1.0))
    before = len(server.logged())
    plain, tried = sampled(server, graph, graph.ksampler(both, given), graph.ksampler(with_it, given))
    assert all(torch.equal(*pair) for pair in zip(plain, tried, strict=True))
    assert "lora key not loaded: diffusion_model." in server.logged()[before:]


def test_a_host_that_knows_prism_s_file_loads_it_as_it_does(host_place):
    """As core's newest does. Stood in for by a detection that knows the file's names."""
    assert run_inside(host_place, KNOWN).strip().splitlines()[-1] == "fusion_blocks.0.video_block.x"


KNOWN = """
import comfy.model_detection, comfy.sd
from pack.nodes.host import load_prism
comfy.sd.load_diffusion_model_state_dict = lambda sd, **options: print(*sd)
comfy.model_detection.detect_unet_config = lambda sd, prefix: {"image_model": "prism"}
load_prism.take_prism()
comfy.sd.load_diffusion_model_state_dict({"fusion_blocks.0.video_block.x": torch.zeros(1)})
"""


def test_what_core_modelsave_writes_of_that_model_loads_again(server, files, prism):
    graph = Graph()
    given = graph.add("ProbeGiven", **GIVEN)
    both = both_ways(graph, prism)[1]
    graph.add("ModelSave", model=both, filename_prefix="saved_prism")
    wanted = sampled(server, graph, graph.ksampler(both, given))[0]
    (written,) = (server.base / "output").glob("saved_prism*.safetensors")
    written.rename(server.base / "models/diffusion_models/saved_prism.safetensors")
    graph = Graph()
    again = sampled(server, graph, graph.ksampler(graph.model("saved_prism"), graph.add("ProbeGiven", **GIVEN)))[0]
    assert all(torch.equal(*pair) for pair in zip(again, wanted, strict=True))


@pytest.mark.parametrize(
    ("keep", "told"),
    [
        (lambda name: "audio_block" not in name, "which are no whole model"),
        (lambda name: not name.startswith("video_dit_2."), "lacks 'video_dit_2."),
        (lambda name: not name.endswith("ffn.2.bias"), "lacks 'blocks.0.ffn.2.bias'"),
    ],
)
def test_the_core_loader_says_what_prism_s_file_lacks(server, files, prism, keep, told):
    models = server.base / "models/diffusion_models"
    path = write_prism(models / "MOVA-golden", models / "cut_for_core", keep)
    graph = Graph()
    name = path.relative_to(models).as_posix()
    graph.add("PreviewAny", source=ref(graph.add("UNETLoader", unet_name=name, weight_dtype="default")))
    found = refusal(server, graph)
    assert "The file is Prism's" in found and told in found and "over MOVA-360p with the command `convert`" in found


@pytest.mark.parametrize(
    ("node", "inputs"),
    [
        ("MOVAModelOptions", {"elementwise": "torch", "low_memory": True}),
        ("MOVALoraLoader", None),
        ("MOVAAudioTeacher", None),
        ("MOVAJointSampler", None),
    ],
)
def test_nodes_that_change_an_expert_say_where_to_get_each(server, files, prism, node, inputs):
    write(files, "prism.safetensors", spelling("video_dit."))
    graph = Graph()
    (high, _), both = both_ways(graph, prism)
    if node == "MOVAAudioTeacher":
        found = graph.add(node, model_high=high, teacher_high=both, from_layer=0)
    elif node == "MOVAJointSampler":
        found = graph.joint(both, graph.add("ProbeGiven", **GIVEN), model_low=both)
    elif node == "MOVALoraLoader":
        found = loader(graph, "prism.safetensors", both)
    else:
        found = graph.add(node, model_high=both, **inputs)
    graph.add("PreviewAny", source=ref(found))
    told = refusal(server, graph)
    assert "both experts" in told and "MOVA Model Loader, which makes a MODEL of each" in told


def test_the_audio_prompt_is_read_by_the_audio_tower_alone(server, files):
    inputs = joint_inputs(KIND)
    own = torch.randn(inputs["text"].shape, generator=torch.Generator().manual_seed(3))
    save_file({**inputs, "audio_text": own}, server.base / "input/own.safetensors")
    graph = Graph()
    high, low = graph.model("mova_high"), graph.model("mova_low")
    samplers = []
    for file in (GIVEN["file"], "own.safetensors"):
        given = graph.add("ProbeGiven", file=file)
        samplers.append(graph.joint(high, given, model_low=low, noise=ref(given, 3)))
    same, found = sampled(server, graph, *samplers)
    switch = low_noise_start(sigmas(4, 5.0), 0.9)
    wanted = headless(4, switch, Guidance(2.0), audio_text=own)
    assert all(error(one, other) < 1e-5 for one, other in zip(found, wanted, strict=True))
    assert error(found[1], same[1]) > 1e-3


def test_text_encode_gives_the_audio_prompt_to_the_prompt_alone(server, files):
    graph = Graph()
    clip = ref(graph.add("ProbeClip"))
    nodes = []
    for own in ("the sea", "  "):
        text = ref(graph.add("StringTrim", string=own, mode="Both"))
        texts = graph.add("MOVATextEncode", clip=clip, prompt="a cat", negative_prompt="a dog", audio_prompt=text)
        save = [graph.add("ProbeSaveConditioning", conditioning=ref(texts, i), name=f"{own}{i}.st") for i in range(2)]
        nodes.append(save)
    sea = ref(graph.add("MOVATextEncode", clip=clip, prompt="the sea", negative_prompt="a dog"))
    plain = graph.add("ProbeSaveConditioning", conditioning=sea, name="sea.st")
    result = ran(server, graph)
    (positive, negative), without = nodes[0], nodes[1]
    wanted = server.tensors(result, plain)
    assert torch.equal(server.tensors(result, positive)["mova_audio_text"], wanted["text_features"])
    assert "mova_audio_text" not in server.tensors(result, negative)
    assert "mova_audio_text" not in server.tensors(result, without[0])


@pytest.mark.parametrize(
    ("features", "told"),
    [
        (torch.zeros(1, 7, 33), "MOVA needs text features"),
        (torch.full((1, 7, 64), float("nan")), "The conditioning's audio prompt holds NaN"),
    ],
)
def test_a_wrong_audio_prompt_is_told_before_the_weights_load(server, files, features, told):
    inputs = joint_inputs(KIND)
    width = inputs["text"].shape[-1]
    features = features if features.shape[-1] == 33 else torch.full((1, 7, width), float("nan"))
    save_file({**inputs, "audio_text": features}, server.base / "input/wrong.safetensors")
    graph = Graph()
    given = graph.add("ProbeGiven", file="wrong.safetensors")
    graph.save(ref(graph.joint(graph.model("mova_high"), given)))
    assert told in server.run(graph.nodes).error
