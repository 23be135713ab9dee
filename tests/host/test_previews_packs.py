"""Other packs' previews, and samplers that report steps in their own way, with the packs themselves."""

import base64
import itertools
from io import BytesIO

import pytest
import torch
from client import ran
from graphs import GIVEN, Graph, ref
from packs import pack_server
from PIL import Image

FRAMES = 3  # of the golden latent
PACKS = ("ComfyUI-KJNodes", "ComfyUI-VideoHelperSuite", "RES4LYF")
seeds = itertools.count(7000)


@pytest.fixture(scope="module")
def server(host_place, tmp_path_factory):
    with pack_server(host_place, tmp_path_factory.mktemp("previews"), *PACKS) as server:
        yield server


def begin():
    graph = Graph()
    return graph, graph.add("ProbeGiven", **GIVEN)


def ksampler(graph, given, model):
    return graph.ksampler(model, given, steps=4)


def custom(graph, given, model):
    conds = {"positive": ref(given), "negative": ref(given, 1)}
    guider = graph.add("MOVAGuider", model=model, cfg=2.0, audio_shift_ratio=0.5, **conds)
    sigmas = graph.add("MOVAScheduler", steps=4, shift=5.0, denoise=1.0)
    return graph.custom(ref(guider), ref(sigmas), ref(given, 3), ref(given, 2))


def joint(graph, given, model):
    return graph.joint(model, given)


def pictures(result):
    """What is in previews, behind the head that each pack gives them."""
    return [Image.open(BytesIO(data[data.index(b"\xff\xd8") :])) for data in result.previews]


VHS = {"extra_pnginfo": {"workflow": {"extra": {"VHS_latentpreview": True, "VHS_latentpreviewrate": 1000}}}}


@pytest.mark.parametrize("sample", [ksampler, custom, joint])
def test_animated_previews_of_videohelpersuite_show_all_frames(server, sample):
    graph, given = begin()
    latent = sample(graph, given, graph.model("mova_high"))
    saved = graph.save(ref(latent))
    plain = server.run(graph.nodes)
    graph.nodes[given]["inputs"]["file"] = "./golden.safetensors"  # the same again, not from the cache
    animated = server.run(graph.nodes, **VHS)
    assert animated.error is None, animated.error
    assert len(animated.previews) >= (1 if sample is joint else FRAMES)
    assert {picture.size for picture in pictures(animated)} <= {(12, 8)} or sample is joint
    tensors = [server.tensors(result, saved) for result in (plain, animated)]
    assert all(torch.equal(tensors[0][name], tensors[1][name]) for name in ("video", "audio"))
    assert "goes on without" not in server.logged(), "a preview failed"


@pytest.mark.parametrize("sample", [ksampler, custom, joint])
def test_kjnodes_preview_override_keeps_all_frames_and_all_steps(server, sample):
    graph, given = begin()
    settings = {"max_resolution": 1024, "jpeg_quality": 80, "suppress_default_preview": True}
    settings |= {"preview_frames": 8, "preview_fps": 12}
    model = ref(graph.add("ModelPreviewOverrideKJ", model=graph.model("mova_high"), **settings))
    latent = ref(sample(graph, given, model))
    kept = graph.add("GetPreviewOverrideFramesKJ", model=model, after_sample=latent)
    shown = graph.add("PreviewImage", images=ref(kept))
    result = ran(server, graph)
    assert len(result.outputs[shown]["images"]) == 4, "a picture for each step"
    sent = [data for kind, data in result.others if kind == "kj_preview_override" and data.get("mime") == "image/webp"]
    assert sent, "no animation was sent"
    for data in sent:
        assert Image.open(BytesIO(base64.b64decode(data["image"]))).n_frames == FRAMES


@pytest.mark.parametrize("name", ["multistep/res_2m", "exponential/res_2s", "linear/euler"])
@pytest.mark.parametrize("eta", [0.0, 0.5])
def test_res4lyf_samplers_run_in_the_joint_sampler_with_previews(server, name, eta):
    graph, given = begin()
    settings = {"eta": eta, "sampler_name": name, "seed": next(seeds), "bongmath": True}
    sampler = ref(graph.add("ClownSampler_Beta", **settings))
    models = graph.model("mova_high"), graph.model("mova_low")
    made = graph.joint(models[0], given, model_low=models[1], sampler=sampler, steps=6)
    saved = graph.save(ref(made))
    result = ran(server, graph)
    assert result.previews and result.progress[-1][1:] == (6, 6)
    tensors = server.tensors(result, saved)
    assert all(part.isfinite().all() and part.std() > 0.05 for part in tensors.values())
    assert "goes on without" not in server.logged()


def test_res4lyf_without_added_noise_makes_what_euler_makes(server):
    def made(**more):
        graph, given = begin()
        if more:
            more["sampler"] = ref(graph.add("ClownSampler_Beta", **more["sampler"]))
        saved = graph.save(ref(graph.joint(graph.model("mova_high"), given, steps=6, cfg=2.0, **more)))
        result = ran(server, graph)
        return server.tensors(result, saved)

    plain, found = made(), made(sampler={"eta": 0.0, "sampler_name": "linear/euler", "seed": 1, "bongmath": False})
    for name in ("video", "audio"):
        torch.testing.assert_close(found[name], plain[name], rtol=1e-3, atol=1e-3)
