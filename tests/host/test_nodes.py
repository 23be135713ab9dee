"""The other nodes: loaders, text, conditioning, latents, sound and video."""

import pytest
import torch
from client import ran
from golden import CASES, drawn, error, expected
from graphs import GIVEN, Graph, numbers, ref, released_audio_vae
from safetensors.torch import save_file

from mova import schedule
from mova.conditioning import audio_latents, condition_mask
from mova.media import read_clip_info

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


def conditioning(graph, vae=None, **settings):
    clip = ref(graph.add("ProbeClip"))
    texts = graph.add("MOVATextEncode", clip=clip, prompt="a cat sings", negative_prompt="a dog")
    values = {"width": 96, "height": 64, "length": 9, "fps": 24.0, "batch_size": 1, **settings}
    vae = vae or ref(graph.add("ProbeWanVAE"))
    return graph.add("MOVAConditioning", positive=ref(texts), negative=ref(texts, 1), vae=vae, **values)


@pytest.mark.parametrize(("first", "last"), [(True, False), (False, True), (True, True)])
def test_pictures_are_encoded_in_their_places(server, files, first, last):
    pictures = torch.from_numpy(drawn("pictures", (2, 64, 96, 3))).float().sigmoid().mul(255).round() / 255
    clip = torch.full((9, 64, 96, 3), 0.5)
    images, graph = {}, Graph()
    for i, (given, name, place) in enumerate([(first, "start_image", 0), (last, "end_image", -1)]):
        if given:
            clip[place] = pictures[i]
            save_file({"images": pictures[i : i + 1].contiguous()}, files / f"input/{name}.safetensors")
            images[name] = ref(graph.add("ProbeImages", file=f"{name}.safetensors", sample_rate=48000))
    save_file({"images": clip}, files / "input/clip.safetensors")
    vae = ref(graph.add("ProbeWanVAE"))
    node = conditioning(graph, vae, batch_size=2, **images)
    whole = graph.add(
        "VAEEncode", pixels=ref(graph.add("ProbeImages", file="clip.safetensors", sample_rate=48000)), vae=vae
    )
    saved = graph.add("ProbeSaveConditioning", conditioning=ref(node), name="c.st"), graph.save(ref(whole), "v.st")
    latent = graph.save(ref(node, 2), "l.st")
    result = ran(server, graph)
    found, wanted = (server.tensors(result, n) for n in saved)
    assert torch.equal(1 - found["concat_mask"], condition_mask(9, 8, 12, first, last))
    assert error(found["concat_latent_image"], wanted["samples"]) < 1e-5
    assert result.outputs[saved[0]]["entries"][0]["frame_rate"] == 24.0
    empty = server.tensors(result, latent)
    assert empty["video"].shape == (2, 16, 3, 8, 12) and empty["audio"].shape == (2, 128, audio_latents(9, 24.0))


@pytest.mark.parametrize(
    ("picture", "clip", "said"),
    [
        (
            (720, 1280),
            (640, 352),
            "69% of the first picture (720 x 1280) is cropped away; for all of it take width 352",
        ),
        ((768, 768), (640, 352), "45% of the first picture (768 x 768) is cropped away; for all of it take width 480"),
        (
            (1280, 720),
            (352, 640),
            "69% of the first picture (1280 x 720) is cropped away; for all of it take width 640",
        ),
        ((3840, 2160), (640, 352), None),
        ((1024, 768), (640, 352), None),
    ],
)
def test_it_is_said_if_much_of_a_picture_is_cropped_away(server, files, picture, clip, said):
    save_file({"images": torch.zeros(1, picture[1], picture[0], 3)}, files / "input/start_image.safetensors")
    graph = Graph()
    image = ref(graph.add("ProbeImages", file="start_image.safetensors", sample_rate=48000))
    node = conditioning(graph, width=clip[0], height=clip[1], length=1, start_image=image)
    graph.add("ProbeSaveConditioning", conditioning=ref(node), name="c.st")
    notices = [text for number, text in ran(server, graph).notices if number == node]
    assert len(notices) == (said is not None) and all(text.startswith(said) for text in notices)


@pytest.mark.parametrize("slot", ["start_image", "end_image"])
def test_it_is_said_if_several_pictures_are_given_for_one(server, files, slot):
    graph = Graph()
    picture = ref(graph.add("EmptyImage", width=96, height=64, batch_size=3, color=0x3366CC))
    node = conditioning(graph, **{slot: picture})
    graph.add("ProbeSaveConditioning", conditioning=ref(node), name="c.st")
    told = f"Of the 3 pictures in {slot} only the first is used."
    assert [text for number, text in ran(server, graph).notices if number == node] == [told]


def test_it_is_said_if_the_vae_is_another_model_s(server, files):
    graph = Graph()
    node = conditioning(graph, ref(graph.add("ProbeHunyuanVAE")))
    graph.add("ProbeSaveConditioning", conditioning=ref(node), name="c.st")
    told = (
        "The VAE in vae is of the kind AutoencodingEngine, not Wan's; with another"
        " than wan_2.1_vae the picture may be noise."
    )
    assert [text for number, text in ran(server, graph).notices if number == node] == [told]


def test_latents_come_apart_and_together_with_their_masks(server, files):
    parts = {"video": numbers("v", 1, 16, 3, 8, 12), "audio": numbers("a", 1, 128, 11)}
    masks = {"video_mask": torch.rand(1, 1, 3, 8, 12), "audio_mask": torch.rand(1, 1, 11)}
    save_file({**parts, **masks}, files / "input/masked.safetensors")
    graph = Graph()
    apart = graph.add("MOVASeparateLatent", latent=ref(graph.add("ProbeGivenLatent", file="masked.safetensors")))
    nodes = [graph.save(ref(apart, i), f"{i}.st") for i in range(2)]
    together = graph.add("MOVACombineLatent", video=ref(apart), audio=ref(apart, 1))
    nodes.append(graph.save(ref(together), "t.st"))
    result = ran(server, graph)
    video, audio, both = (server.tensors(result, node) for node in nodes)
    assert torch.equal(video["samples"], parts["video"]) and torch.equal(audio["samples"], parts["audio"])
    assert torch.equal(video["mask0"], masks["video_mask"]) and torch.equal(audio["mask0"], masks["audio_mask"])
    assert all(torch.equal(both[name], parts[name]) for name in parts)
    assert torch.equal(both["mask0"], masks["video_mask"]) and torch.equal(both["mask1"], masks["audio_mask"])


def golden_sound(files):
    case = CASES["dac"]["inputs"]
    assert "6620" in case["waveform"]
    waveform = 0.3 * torch.from_numpy(drawn("input.dac.wave", (1, 1, 6620))).float().tanh()
    latent = torch.from_numpy(drawn("input.dac.latent", (1, 16, 7))).float()
    save_file({"waveform": waveform}, files / "input/wave.safetensors")
    save_file({"video": latent}, files / "input/sound_latent.safetensors")
    return waveform, expected("dac")


def test_sound_is_coded_as_the_published_code_does_by_our_nodes_and_the_core_s(server, files):
    _, wanted = golden_sound(files)
    graph = Graph()
    vae = ref(graph.add("MOVAAudioVAELoader", vae_name="golden_audio.safetensors"))
    sound = ref(graph.add("ProbeImages", file="wave.safetensors", sample_rate=48000), 1)
    latent = ref(graph.add("ProbeGivenLatent", file="sound_latent.safetensors"))
    encoded = graph.save(ref(graph.add("VAEEncodeAudio", audio=sound, vae=vae)), "e.st")
    ours = graph.add("MOVAAudioDecode", samples=latent, audio_vae=vae)
    core = graph.add("VAEDecodeAudio", samples=latent, vae=vae)
    nodes = [graph.add("ProbeSaveAudio", audio=ref(node), name=f"{node}.st") for node in (ours, core)]
    result = ran(server, graph)
    assert error(server.tensors(result, encoded)["samples"], wanted["encode.mean"]) < 1e-4
    ours, core = (server.tensors(result, node) for node in nodes)
    assert ours["sample_rate"] == core["sample_rate"] == 48000
    assert error(ours["waveform"], wanted["decode.waveform"]) < 2e-2  # what float32 is worth in this random net
    # The core node turns loud sound down.
    assert error(core["waveform"] * max(1.0, 5 * float(ours["waveform"].std())), ours["waveform"]) < 1e-5


@pytest.mark.parametrize(("channels", "rate", "seconds"), [(1, 48000, 0.375), (2, 44100, 1.0), (6, 16000, 0.1)])
def test_any_sound_becomes_a_latent_of_the_clip_s_length(server, files, channels, rate, seconds):
    save_file({"waveform": numbers("w", 1, channels, int(rate * seconds))}, files / "input/any.safetensors")
    graph = Graph()
    vae = ref(graph.add("MOVAAudioVAELoader", vae_name="MOVA-golden/audio_vae"))
    sound = ref(graph.add("ProbeImages", file="any.safetensors", sample_rate=rate), 1)
    node = graph.save(ref(graph.add("MOVAAudioEncode", audio=sound, audio_vae=vae, length=9, fps=24.0)))
    found = server.tensors(ran(server, graph), node)["samples"]
    assert found.shape == (1, 128, audio_latents(9, 24.0)) and found.isfinite().all()


def test_a_long_sound_is_cut_before_it_is_resampled_and_gives_the_same_latent(server, files):
    save_file({"waveform": 0.1 * numbers("long", 1, 1, 441000)}, files / "input/long_sound.safetensors")
    graph = Graph()
    vae = ref(graph.add("MOVAAudioVAELoader", vae_name="golden_audio.safetensors"))
    sound = ref(graph.add("ProbeImages", file="long_sound.safetensors", sample_rate=44100), 1)
    sounds = sound, ref(graph.add("ProbeResample", audio=sound))
    nodes = [
        graph.save(ref(graph.add("MOVAAudioEncode", audio=sound, audio_vae=vae, length=9, fps=24.0)), f"{i}.st")
        for i, sound in enumerate(sounds)
    ]
    result = ran(server, graph)
    cut, whole = (server.tensors(result, node)["samples"] for node in nodes)
    assert error(cut, whole) < 1e-6


@pytest.mark.parametrize(("frames", "heard"), [(18, ["one", "two"]), (17, ["one"])])
def test_a_batch_becomes_one_video_in_which_each_clip_has_its_own_sound(server, files, frames, heard):
    sounds = {"one": 0.1 * numbers("one", 1, 17000), "two": 0.1 * numbers("two", 1, 17000)}
    given = {"images": torch.zeros(frames, 64, 96, 3), "waveform": torch.stack(list(sounds.values()))}
    save_file(given, files / "input/batch.safetensors")
    graph = Graph()
    batch = graph.add("ProbeImages", file="batch.safetensors", sample_rate=48000)
    video = graph.add("MOVACombineVideo", images=ref(batch), audio=ref(batch, 1), fps=24.0)
    apart = graph.add("GetVideoComponents", video=ref(video))
    node = graph.add("ProbeSaveAudio", audio=ref(apart, 1), name="batch.st")
    found = server.tensors(ran(server, graph), node)["waveform"]
    wanted = torch.zeros(1, 1, frames * 2000)
    for start, name in zip((0, 18000), heard, strict=False):
        wanted[0, :, start : start + 17000] = sounds[name]
    assert torch.equal(found, wanted)


def test_a_latent_with_video_in_it_is_not_said_to_be_audio(server, files):
    save_file({"waveform": numbers("w", 1, 1, 18000)}, files / "input/type.safetensors")
    save_file({"video": numbers("v", 1, 16, 3, 8, 12)}, files / "input/type_video.safetensors")
    graph = Graph()
    vae = ref(graph.add("MOVAAudioVAELoader", vae_name="MOVA-golden/audio_vae"))
    sound = ref(graph.add("ProbeImages", file="type.safetensors", sample_rate=48000), 1)
    audio = ref(graph.add("MOVAAudioEncode", audio=sound, audio_vae=vae, length=9, fps=24.0))
    video = ref(graph.add("ProbeGivenLatent", file="type_video.safetensors"))
    nodes = [graph.save(audio), graph.save(ref(graph.add("MOVACombineLatent", video=video, audio=audio)))]
    result = ran(server, graph)
    assert [result.outputs[node]["keys"] for node in nodes] == [["samples", "type"], ["samples"]]


def test_stereo_is_mixed_not_cut(server, files):
    left = numbers("left", 1, 1, 18000) * 0.1
    graph, nodes = Graph(), []
    vae = ref(graph.add("MOVAAudioVAELoader", vae_name="golden_audio.safetensors"))
    for name, wave in {"both": torch.cat([left, -0.5 * left], 1), "mono": 0.25 * left}.items():
        save_file({"waveform": wave}, files / f"input/{name}.safetensors")
        sound = ref(graph.add("ProbeImages", file=f"{name}.safetensors", sample_rate=48000), 1)
        nodes.append(
            graph.save(ref(graph.add("MOVAAudioEncode", audio=sound, audio_vae=vae, length=9, fps=24.0)), name)
        )
        nodes.append(graph.save(ref(graph.add("VAEEncodeAudio", audio=sound, vae=vae)), f"core {name}"))
    result = ran(server, graph)
    found = [server.tensors(result, node)["samples"] for node in nodes]
    assert all(error(other, found[2]) < 1e-4 for other in found)


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
    given = conditioning(graph, vae, start_image=picture, **settings)
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


def test_long_sound_is_decoded_in_pieces_without_seams(server, files):
    latent = 0.1 * numbers("long", 1, 128, 1100)
    save_file({"video": latent}, files / "input/long.safetensors")
    graph = Graph()
    vae = ref(graph.add("MOVAAudioVAELoader", vae_name="MOVA-golden/audio_vae"))
    given = ref(graph.add("ProbeGivenLatent", file="long.safetensors"))
    ours = graph.add("MOVAAudioDecode", samples=given, audio_vae=vae)
    core = graph.add("VAEDecodeAudioTiled", samples=given, vae=vae, tile_size=512, overlap=64)
    nodes = [graph.add("ProbeSaveAudio", audio=ref(node), name=f"{node}.st") for node in (ours, core)]
    result = ran(server, graph)
    found, tiled = (server.tensors(result, node)["waveform"] for node in nodes)
    assert found.shape == tiled.shape == (1, 1, 1100 * 960)
    seam = slice(960 * 990, 960 * 1010)
    with torch.no_grad():
        whole = released_audio_vae().decode(latent[..., 900:])[..., 90 * 960 : 110 * 960]
    assert error(found[..., seam], whole) < 2e-2  # what float32 is worth in this random net


def test_a_picture_mask_on_the_audio_is_read_along_time(server, files):
    parts = {"video": torch.zeros(1, 16, 3, 8, 12), "audio": numbers("sound", 1, 128, 20)}
    save_file(parts, files / "input/picture_mask.safetensors")
    graph = Graph()
    apart = graph.add("MOVASeparateLatent", latent=ref(graph.add("ProbeGivenLatent", file="picture_mask.safetensors")))
    left = graph.add("SolidMask", value=0.0, width=10, height=4)
    right = graph.add("SolidMask", value=1.0, width=20, height=4)
    mask = graph.add("MaskComposite", destination=ref(right), source=ref(left), x=0, y=0, operation="multiply")
    masked = graph.add("SetLatentNoiseMask", samples=ref(apart, 1), mask=ref(mask))
    node = graph.save(ref(graph.add("MOVACombineLatent", video=ref(apart), audio=ref(masked))))
    found = server.tensors(ran(server, graph), node)
    assert found["mask1"].flatten().tolist() == [0.0] * 10 + [1.0] * 10
    assert bool((found["mask0"] == 1).all())
