"""MOVA Joint Sampler on the golden models, against the published outputs, our own loop, and the core samplers."""

import json
import re

import pytest
import torch
from client import WebSocket, ran
from golden import CASES, error, expected
from graphs import GIVEN, KIND, Graph, headless, numbers, ref, to_model_scale
from safetensors.torch import save_file

from mova.sampling.guidance import Guidance
from mova.sampling.schedule import low_noise_start, sigmas

LOOPS = CASES[f"joint_{KIND}"]["loops"]
VIDEO, AUDIO = (1, 16, 3, 8, 12), (1, 128, 11)


def latents(server, graph, *nodes):
    """Run, and return what these nodes, or (node, output), made: (video in the model's scale, audio) of each."""
    outputs = [ref(*node) if isinstance(node, tuple) else ref(node) for node in nodes]
    saved = [graph.save(output, f"{i}.safetensors") for i, output in enumerate(outputs)]
    result = ran(server, graph)
    found = [server.tensors(result, node) for node in saved]
    return [(to_model_scale(part["video"]), part["audio"]) for part in found]


def differ(a, b):
    return max(error(x, y) for x, y in zip(a, b, strict=True))


def both(graph):
    given = graph.add("ProbeGiven", **GIVEN)
    return given, graph.model("mova_high"), graph.model("mova_low")


@pytest.mark.parametrize("name", LOOPS)
def test_a_whole_loop_equals_the_published_code_and_our_own(server, files, name):
    loop, graph = LOOPS[name], Graph()
    given, high, low = both(graph)
    settings = {key: loop[key] for key in ("steps", "cfg", "boundary", "video_shift", "audio_shift")}
    (found,) = latents(server, graph, graph.joint(high, given, model_low=low, noise=ref(given, 3), **settings))
    wanted = expected(f"joint_{KIND}")
    assert differ(found, (wanted[f"{name}.video_latent"], wanted[f"{name}.audio_latent"])) < 1e-3
    switch = low_noise_start(sigmas(loop["steps"], loop["video_shift"]), loop["boundary"])
    assert 0 < switch < loop["steps"]
    shifts = loop["video_shift"], loop["audio_shift"]
    assert differ(found, headless(loop["steps"], switch, Guidance(loop["cfg"]), *shifts)) < 1e-5


@pytest.mark.parametrize(
    ("settings", "guidance"),
    [
        ({"cfg": 5.0, "bridge_cfg": 3.0}, Guidance(5.0, 3.0)),
        ({"cfg": 4.0, "bridge_cfg": 4.0}, Guidance(4.0, 4.0)),
        ({"cfg": 5.0, "audio_cfg": 2.0}, Guidance(5.0, 1.0, 2.0)),
        ({"cfg": 1.0, "audio_cfg": 2.0, "bridge_cfg": 1.5, "audio_shift": 3.0}, Guidance(1.0, 1.5, 2.0)),
    ],
)
def test_guidance_of_bridge_and_audio(server, files, settings, guidance):
    graph = Graph()
    given, high, low = both(graph)
    (found,) = latents(server, graph, graph.joint(high, given, model_low=low, noise=ref(given, 3), **settings))
    switch = low_noise_start(sigmas(4), 0.9)
    assert differ(found, headless(4, switch, guidance, 5.0, settings.get("audio_shift", 5.0))) < 1e-5


def test_the_bridge_scales_reach_the_model(server, files):
    graph = Graph()
    given, high, low = both(graph)
    joint = graph.joint(high, given, model_low=low, noise=ref(given, 3), a2v_scale=0.5, v2a_scale=0.0)
    (found,) = latents(server, graph, joint)
    assert differ(found, headless(4, low_noise_start(sigmas(4), 0.9), Guidance(2.0), scales=(0.5, 0.0))) < 1e-5


@pytest.mark.parametrize(("guider", "audio_shift"), [("CFGGuider", 5.0), ("MOVAGuider", 5.0), ("MOVAGuider", 3.0)])
def test_it_equals_two_core_samplers_split_at_the_boundary(server, files, guider, audio_shift):
    graph = Graph()
    given, high, low = both(graph)
    more = {"bridge_cfg": 2.0, "audio_cfg": 3.0, "v2a_scale": 0.5} if guider == "MOVAGuider" else {}
    joint = graph.joint(high, given, model_low=low, steps=6, cfg=4.0, audio_shift=audio_shift, **more)
    if guider == "MOVAGuider":
        more["audio_shift_ratio"] = audio_shift / 5.0
    schedule = graph.add("MOVAScheduler", steps=6, shift=5.0, denoise=1.0)
    split = graph.add("SplitSigmas", sigmas=ref(schedule), step=low_noise_start(sigmas(6), 0.9))
    latent = ref(given, 2)
    noises = ref(graph.add("RandomNoise", noise_seed=7)), ref(graph.add("DisableNoise"))
    for i, model in enumerate((high, low)):
        conds = {"positive": ref(given, 0), "negative": ref(given, 1)}
        guide = graph.add(guider, model=model, cfg=4.0, **conds, **more)
        stage = graph.custom(ref(guide), ref(split, i), noises[i], latent)
        latent = ref(stage)
    found, wanted, x0 = latents(server, graph, joint, stage, (stage, 1))
    assert differ(found, wanted) < 1e-5
    assert differ(x0, wanted) < 1e-5, "the last step of Euler ends at what the model took for clean"


def test_one_expert_alone_equals_ksampler(server, files):
    graph = Graph()
    given, high, _ = both(graph)
    found, wanted = latents(server, graph, graph.joint(high, given, steps=5), graph.ksampler(high, given, steps=5))
    assert differ(found, wanted) < 1e-5


@pytest.mark.parametrize("sampler_name", ["heun", "dpmpp_2m", "uni_pc", "euler_ancestral"])
def test_other_samplers_run(server, files, sampler_name):
    graph = Graph()
    given, high, low = both(graph)
    sampler = ref(graph.add("KSamplerSelect", sampler_name=sampler_name))
    joint = graph.joint(high, given, model_low=low, sampler=sampler, audio_shift=3.0)
    (found,) = latents(server, graph, joint)
    assert all(part.isfinite().all() for part in found)


@pytest.mark.parametrize("settings", [{}, {"bridge_cfg": 2.0}, {"audio_cfg": 3.0}])
def test_what_works_on_the_result_of_guidance_takes_effect_with_any_guidance(server, files, settings):
    graph = Graph()
    given, high, _ = both(graph)
    patched = ref(graph.add("ProbePatch", model=high, what="post cfg"))
    steps = {"steps": 1, "noise": ref(given, 3), **settings}
    plain, halved = latents(server, graph, *(graph.joint(model, given, **steps) for model in (high, patched)))
    assert differ(halved, [part / 2 for part in plain]) < 1e-5, "one step of Euler ends at the result of guidance"


@pytest.mark.parametrize("what", ["pre cfg", "cfg"])
@pytest.mark.parametrize(("settings", "said"), [({}, False), ({"bridge_cfg": 2.0}, True), ({"audio_cfg": 3.0}, True)])
def test_other_changes_of_cfg_are_said_to_have_no_effect_where_they_have_none(server, files, what, settings, said):
    graph = Graph()
    given, high, low = both(graph)
    patched = ref(graph.add("ProbePatch", model=high, what=what))
    node = graph.joint(patched, given, model_low=low, **settings)
    graph.save(ref(node))
    result = ran(server, graph)
    text = (
        "With bridge_cfg or audio_cfg, what is plugged into the model to change its cfg has no effect, unless it works "
        "on the result of guidance."
    )
    assert {number for number, told in result.notices if text in told} == ({node} if said else set())
    assert (text in result.notices[-1][1]) == said  # it stays while the line of the run changes


def test_given_sigmas_take_the_place_of_the_steps(server, files):
    graph = Graph()
    given, high, low = both(graph)
    sigmas = ref(graph.add("MOVAScheduler", steps=6, shift=3.0, denoise=1.0))
    by_list = graph.joint(high, given, model_low=low, sigmas=sigmas, steps=50, denoise=0.3)
    by_steps = graph.joint(high, given, model_low=low, steps=6, video_shift=3.0, audio_shift=3.0)
    found, wanted = latents(server, graph, by_list, by_steps)
    assert differ(found, wanted) == 0


def test_progress_counts_the_steps_of_both_experts(server, files):
    graph = Graph()
    given, high, low = both(graph)
    joint = graph.joint(high, given, model_low=low, steps=6)
    graph.save(ref(joint))
    result = ran(server, graph)
    assert [(value, total) for node, value, total in result.progress if value and node == joint] == [
        (step, 6) for step in range(1, 7)
    ]
    assert len(result.previews) >= 6


@pytest.fixture
def encoded(files):
    """A latent as the VAEs would give it, and what is in it."""
    parts = {"video": numbers("kept video", *VIDEO), "audio": numbers("kept audio", *AUDIO)}
    save_file(parts, files / "input/encoded.safetensors")
    return parts


@pytest.mark.parametrize("kept", ["video", "audio"])
@pytest.mark.parametrize("audio_shift", [5.0, 3.0])
def test_a_kept_modality_comes_out_bit_for_bit_and_the_other_is_made(server, files, encoded, kept, audio_shift):
    graph = Graph()
    given, high, low = both(graph)
    source = graph.add("ProbeGivenLatent", file="encoded.safetensors")
    apart = graph.add("MOVASeparateLatent", latent=ref(source))
    together = graph.add(
        "MOVACombineLatent", video=ref(apart), audio=ref(apart, 1), **{f"keep_{kept}": True}
    )  # fmt: skip
    joint = graph.joint(high, given, ref(together), model_low=low, audio_shift=audio_shift)
    free = graph.joint(high, given, model_low=low, audio_shift=audio_shift)
    nodes = [graph.save(ref(node), f"{node}.safetensors") for node in (joint, free)]
    result = ran(server, graph)
    found, unguided = (server.tensors(result, node) for node in nodes)
    other = {"video": "audio", "audio": "video"}[kept]
    assert torch.equal(found[kept], encoded[kept])
    assert error(found[other], encoded[other]) > 0.1
    assert error(found[other], unguided[other]) > 1e-4, "what is kept guides what is made"


def test_a_time_range_is_kept_bit_for_bit(server, files, encoded):
    masks = {"video_mask": torch.ones(1, 1, *VIDEO[2:]), "audio_mask": torch.ones(1, 1, AUDIO[2])}
    masks["video_mask"][:, :, :2], masks["audio_mask"][:, :, :5] = 0, 0
    save_file({**encoded, **masks}, files / "input/range.safetensors")
    graph = Graph()
    given, high, low = both(graph)
    source = graph.add("ProbeGivenLatent", file="range.safetensors")
    saved = graph.save(ref(graph.joint(high, given, ref(source), model_low=low)))
    result = ran(server, graph)
    found = server.tensors(result, saved)
    assert torch.equal(found["video"][:, :, :2], encoded["video"][:, :, :2])
    assert torch.equal(found["audio"][:, :, :5], encoded["audio"][:, :, :5])
    assert error(found["video"][:, :, 2:], encoded["video"][:, :, 2:]) > 0.1
    assert error(found["audio"][:, :, 5:], encoded["audio"][:, :, 5:]) > 0.1


def test_less_denoise_stays_nearer_to_the_given_latent(server, files, encoded):
    graph = Graph()
    given, high, low = both(graph)
    source = ref(graph.add("ProbeGivenLatent", file="encoded.safetensors"))
    nodes = [graph.joint(high, given, source, model_low=low, denoise=denoise) for denoise in (0.02, 0.3, 1.0)]
    found = latents(server, graph, *nodes)
    wanted = to_model_scale(encoded["video"]), encoded["audio"]
    for modality in range(2):
        distances = [error(parts[modality], wanted[modality]) for parts in found]
        assert distances[0] < 0.2 and distances == sorted(distances), distances


def test_a_batch_is_its_samples(server, files):
    batch = {"video": torch.zeros(2, *VIDEO[1:]), "audio": torch.zeros(2, *AUDIO[1:])}
    save_file(batch, files / "input/two.safetensors")
    graph = Graph()
    given, high, low = both(graph)
    source = ref(graph.add("ProbeGivenLatent", file="two.safetensors"))
    saved = graph.save(ref(graph.joint(high, given, source, model_low=low)))
    result = ran(server, graph)
    found = server.tensors(result, saved)
    assert found["video"].shape[0] == found["audio"].shape[0] == 2
    assert error(found["video"][0], found["video"][1]) > 0.01


def test_without_a_low_noise_expert_it_works_and_says_so_on_the_node(server, files):
    graph = Graph()
    given, high, low = both(graph)
    node = graph.joint(high, given, seed=21)
    graph.save(ref(node))
    result = ran(server, graph)
    text = "No low-noise expert is connected: the high-noise expert does all steps."
    assert {number for number, told in result.notices if text in told} == {node}
    assert text in result.notices[-1][1] and result.outputs[node]["mova_notice"] == [result.notices[-1][1]]
    assert f"[MOVA] {text}" in server.log.read_text()
    graph.nodes[node]["inputs"]["model_low"] = low
    result = server.run(graph.nodes)
    assert result.error is None and not [told for _, told in result.notices if text in told]
    assert text not in result.outputs[node]["mova_notice"][0]


def test_the_sampler_says_how_much_a_run_is_and_how_long_it_still_takes(server, files):
    graph = Graph()
    given, high, low = both(graph)
    node = graph.joint(high, given, model_low=low, steps=4, bridge_cfg=3.0)
    graph.save(ref(node))
    result = ran(server, graph)
    first, *steps, last = [told for number, told in result.notices if number == node]
    size = r"12 evaluations; \d+\.\d GiB for the clip, \d+\.\d GiB free"
    assert re.fullmatch(f"4 steps, {size}", first)
    assert len(steps) == 3
    for done, told in enumerate(steps, 1):
        assert re.fullmatch(rf"Step {done} of 4, about \d+:\d\d left; {size}", told), told
    assert re.fullmatch(rf"4 steps in \d+:\d\d; {size}", last)
    graph.nodes[node]["inputs"]["sampler"] = ref(graph.add("KSamplerSelect", sampler_name="heun"))
    said = [told for number, told in ran(server, graph).notices if number == node]
    assert said[0].startswith("4 steps, at least 12 evaluations; ")  # Heun evaluates the model twice in most steps
    del graph.nodes[node]["inputs"]["sampler"]
    last = [told for number, told in ran(server, graph).notices if number == node][-1]
    again = server.run(graph.nodes)  # from the cache, as in a new tab; where memory is short it is made again
    assert again.outputs[node]["mova_notice"] == [dict(again.notices).get(node, last)]


def test_a_run_that_nobody_watches_needs_no_notice(server, files):
    """A workflow posted by a program, with a browser open for something else."""
    graph = Graph()
    given, high, _ = both(graph)
    graph.save(ref(graph.joint(high, given, seed=22)))
    with WebSocket(server.port, "/ws?clientId=another") as browser:
        prompt, error = server.submit(graph.nodes)
        assert error is None
        while True:
            message = browser.read()
            assert isinstance(message, str), "a text or picture for somebody else"
            if json.loads(message)["type"] == "status" and prompt in server.get_json(f"/history/{prompt}"):
                break
