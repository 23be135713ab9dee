"""MOVA Conditioning: pictures in their places, and what is said of them; latents apart and together."""

import pytest
import torch
from client import ran
from golden import drawn, error
from graphs import Graph, numbers, ref
from safetensors.torch import save_file

from mova.sampling.conditioning import audio_latents, condition_mask


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
    node = graph.conditioning(vae, batch_size=2, **images)
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
    node = graph.conditioning(width=clip[0], height=clip[1], length=1, start_image=image)
    graph.add("ProbeSaveConditioning", conditioning=ref(node), name="c.st")
    notices = [text for number, text in ran(server, graph).notices if number == node]
    assert len(notices) == (said is not None) and all(text.startswith(said) for text in notices)


@pytest.mark.parametrize("slot", ["start_image", "end_image"])
def test_it_is_said_if_several_pictures_are_given_for_one(server, files, slot):
    graph = Graph()
    picture = ref(graph.add("EmptyImage", width=96, height=64, batch_size=3, color=0x3366CC))
    node = graph.conditioning(**{slot: picture})
    graph.add("ProbeSaveConditioning", conditioning=ref(node), name="c.st")
    told = f"Of the 3 pictures in {slot} only the first is used."
    assert [text for number, text in ran(server, graph).notices if number == node] == [told]


def test_it_is_said_if_the_vae_is_another_model_s(server, files):
    graph = Graph()
    node = graph.conditioning(ref(graph.add("ProbeHunyuanVAE")))
    graph.add("ProbeSaveConditioning", conditioning=ref(node), name="c.st")
    told = (
        "The VAE in vae is of the kind AutoencodingEngine, not Wan's; with another"
        " than wan_2.1_vae the picture may be noise."
    )
    assert told in next(text for number, text in ran(server, graph).notices if number == node)


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
