"""The other nodes: loaders, text, conditioning, latents, sound and video."""

import pytest
import torch
from client import ran
from graphs import GIVEN, Graph, ref

from mova.clip.reading import read_clip_info
from mova.sampling import schedule

CONTRACT = {
    "MOVAModelLoader": (["high_noise", "low_noise", "weight_dtype"], [], ["MODEL", "MODEL"]),
    "MOVALoraLoader": (
        ["lora_name", "strength_video", "strength_audio", "strength_bridge"],
        ["model_high", "model_low"],
        ["MODEL", "MODEL", "STRING"],
    ),
    "MOVAAudioVAELoader": (["vae_name"], [], ["VAE"]),
    "MOVATextEncode": (["clip", "prompt", "negative_prompt"], [], ["CONDITIONING", "CONDITIONING"]),
    "MOVAConditioning": (
        ["positive", "negative", "vae", "width", "height", "length", "fps", "batch_size"],
        ["start_image", "end_image", "text_only_frame"],
        ["CONDITIONING", "CONDITIONING", "LATENT"],
    ),
    "MOVAScheduler": (["steps", "shift", "denoise"], [], ["SIGMAS"]),
    "MOVAGuider": (["model", "positive", "negative", "cfg"], ["bridge_cfg", "audio_cfg"], ["GUIDER"]),
    "MOVAJointSampler": (
        [
            *["model_high", "positive", "negative", "latent", "seed", "steps", "cfg"],
            "video_shift",
            "audio_shift",
            "boundary",
        ],
        ["model_low", "noise", "bridge_cfg", "denoise", "a2v_scale", "v2a_scale"],
        ["LATENT"],
    ),
    "MOVASeparateLatent": (["latent"], [], ["LATENT", "LATENT"]),
    "MOVACombineLatent": (["video", "audio"], [], ["LATENT"]),
    "MOVAAudioDecode": (["samples", "audio_vae"], [], ["AUDIO"]),
    "MOVAAudioEncode": (["audio", "audio_vae", "length", "fps"], [], ["LATENT"]),
    "MOVACombineVideo": (["images", "fps"], ["audio"], ["VIDEO"]),
}


@pytest.mark.parametrize("node", CONTRACT)
def test_a_node_has_the_inputs_and_outputs_of_the_contract(server, node):
    required, optional, outputs = CONTRACT[node]
    info = server.get_json(f"/object_info/{node}")[node]
    assert list(info["input"]["required"]) == required
    assert set(optional) <= set(info["input"].get("optional", {}))
    assert info["output"] == outputs
    assert info["category"] == "MOVA"
    assert info["description"]
    assert server.get(f"/extensions/comfyui-mova/docs/{node}.md").startswith(f"# {info['display_name']}\n".encode())


@pytest.mark.parametrize("node", ["MOVAScheduler", "MOVAJointSampler"])
def test_the_smallest_denoise_that_can_be_chosen_works(server, node):
    inputs = server.get_json(f"/object_info/{node}")[node]["input"]
    _, options = {**inputs["required"], **inputs.get("optional", {})}["denoise"]
    assert len(schedule.sigmas(2, denoise=options["min"])) == 3


def test_the_scheduler_gives_the_released_schedule(server, files):
    graph = Graph()
    sigmas = graph.add("MOVAScheduler", steps=3, shift=3.0, denoise=0.5)
    node = graph.add("ProbeSigmas", sigmas=ref(sigmas), name="sigmas.safetensors")
    assert torch.equal(server.tensors(ran(server, graph), node)["sigmas"], schedule.sigmas(3, 3.0, 0.5))


def test_the_prompt_is_cleaned_as_the_published_code_does(server, files):
    graph = Graph()
    clip = ref(graph.add("ProbeClip"))
    encoded = graph.add(
        "MOVATextEncode", clip=clip, prompt=" a &amp;lt;cafÃ©&gt; \n\n sings ", negative_prompt="\tno  dog"
    )
    nodes = [graph.add("ProbeSaveConditioning", conditioning=ref(encoded, i), name=f"{i}.st") for i in range(2)]
    result = ran(server, graph)
    assert [result.outputs[node]["entries"][0]["text"] for node in nodes] == ["a <café> sings", "no dog"]


def test_a_long_prompt_is_cut_as_in_the_published_code_and_it_is_said(server, files):
    graph = Graph()
    clip = ref(graph.add("ProbeTokenizer"))
    encoded = graph.add("MOVATextEncode", clip=clip, prompt="the red rocket " * 300, negative_prompt="the rain")
    nodes = [graph.add("ProbeSaveConditioning", conditioning=ref(encoded, i), name=f"{i}.st") for i in range(2)]
    result = ran(server, graph)
    long, short = (result.outputs[node]["entries"][0] for node in nodes)
    count = len(long["whole"])
    assert count > 900 and long["tokens"] == [*long["whole"][:511], 1]
    assert short["tokens"] == short["whole"] + [0] * (512 - len(short["whole"]))
    told = f"The prompt has {count} tokens; all beyond the first 512 are left out."
    assert [text for node, text in result.notices if node == encoded] == [told]


def test_parentheses_are_weights_and_escaped_ones_are_text(server, files):
    graph = Graph()
    clip = ref(graph.add("ProbeTokenizer"))
    encoded = graph.add("MOVATextEncode", clip=clip, prompt="a (red) rocket", negative_prompt=r"a \(large\) rocket")
    nodes = [graph.add("ProbeSaveConditioning", conditioning=ref(encoded, i), name=f"{i}.st") for i in range(2)]
    result = ran(server, graph)
    weighted, plain = (result.outputs[node]["entries"][0] for node in nodes)
    assert set(weighted["weights"]) == {1.0, 1.1} and set(plain["weights"]) == {1.0}
    # The parentheses are in the text that is encoded: one token each more than without them.
    assert sum(map(bool, plain["tokens"])) == len(plain["whole"]) - 2


def test_the_negative_prompt_is_prefilled(server):
    info = server.get_json("/object_info/MOVATextEncode")["MOVATextEncode"]
    assert info["input"]["required"]["negative_prompt"][1]["default"].startswith("色调艳丽，过曝，静态，细节模糊不清")


def test_a_released_folder_and_single_files_are_the_same_models(server, files):
    graph, nodes = Graph(), []
    given = graph.add("ProbeGiven", **GIVEN)
    for high, low in (("MOVA-golden", "MOVA-golden"), ("mova_high.safetensors", "mova_low.safetensors")):
        loader = graph.add("MOVAModelLoader", high_noise=high, low_noise=low, weight_dtype="default")
        nodes.append(graph.save(ref(graph.joint(ref(loader), given, model_low=ref(loader, 1))), f"{high}.st"))
    result = ran(server, graph)
    one, other = (server.tensors(result, node) for node in nodes)
    assert all(torch.equal(one[name], other[name]) for name in ("video", "audio"))


def test_the_loader_offers_a_released_folder_but_not_the_files_in_it(server, files):
    info = server.get_json("/object_info/MOVAModelLoader")["MOVAModelLoader"]["input"]["required"]
    for expert in ("high_noise", "low_noise"):
        kind, *more = info[expert]
        names = kind if isinstance(kind, list) else more[0]["options"]
        assert "MOVA-golden" in names and "mova_high.safetensors" in names
        assert not [name for name in names if name.startswith(("MOVA-golden/", "MOVA-golden\\"))]


def clip(seed=1, **settings):
    """A whole workflow: picture and prompt to MP4. Returns the graph, the sampler's node and SaveVideo's."""
    graph = Graph()
    loader = graph.add("MOVAModelLoader", high_noise="MOVA-golden", low_noise="MOVA-golden", weight_dtype="default")
    vae = ref(graph.add("ProbeWanVAE"))
    picture = ref(graph.add("EmptyImage", width=120, height=64, batch_size=1, color=0x3366CC))
    given = graph.conditioning(vae, start_image=picture, **settings)
    latent = graph.joint(ref(loader), given, model_low=ref(loader, 1), seed=seed)
    apart = graph.add("MOVASeparateLatent", latent=ref(latent))
    images = graph.add("VAEDecode", samples=ref(apart), vae=vae)
    audio_vae = ref(graph.add("MOVAAudioVAELoader", vae_name="MOVA-golden/audio_vae"))
    sound = graph.add("MOVAAudioDecode", samples=ref(apart, 1), audio_vae=audio_vae)
    video = graph.add("MOVACombineVideo", images=ref(images), audio=ref(sound), fps=settings.get("fps", 24.0))
    saved = graph.add("SaveVideo", video=ref(video), filename_prefix="clip", format="mp4", codec="h264")
    return graph, latent, saved


def test_a_workflow_ends_as_an_mp4_and_only_what_changed_runs_again(server, files, tmp_path):
    graph, sampler, saved = clip()
    result = ran(server, graph)
    (entry,) = result.outputs[saved]["images"]
    (tmp_path / "clip.mp4").write_bytes(server.view(entry))
    info = read_clip_info(tmp_path / "clip.mp4")
    assert (info.frames, info.width, info.height, info.fps) == (9, 96, 64, 24.0)
    assert info.audio_codec == "aac" and info.sample_rate == 48000
    again = ran(server, graph)
    assert again.executed == [] and set(again.cached) == set(graph.nodes)
    other, sampler, saved = clip(seed=2)
    after = {node for node in other.nodes if int(node) >= int(sampler)} - {
        node for node, what in other.nodes.items() if what["class_type"] == "MOVAAudioVAELoader"
    }
    assert set(ran(server, other).executed) == after


def test_the_core_nodes_for_audio_video_latents_show_the_same_pictures(server, files):
    graph, sampler, _ = clip()
    ours = graph.add("MOVASeparateLatent", latent=ref(sampler))
    core = graph.add("LTXVSeparateAVLatent", av_latent=ref(sampler))
    joined = graph.add("LTXVConcatAVLatent", video_latent=ref(core), audio_latent=ref(core, 1))
    again = graph.add("MOVASeparateLatent", latent=ref(joined))
    nodes = [graph.save(ref(node), f"{node}.st") for node in (ours, core, again)]
    result = ran(server, graph)
    found = [server.tensors(result, node)["samples"] for node in nodes]
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])
