"""The nodes for sound, and for a video with its sound."""

import pytest
import torch
from client import ran
from golden import CASES, drawn, error, expected
from graphs import Graph, numbers, ref, released_audio_vae
from safetensors.torch import save_file

from mova.sampling.conditioning import audio_latents


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
