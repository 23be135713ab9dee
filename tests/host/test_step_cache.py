"""MOVA Step Cache on a real run: what is left out is counted where the model is called."""

import re

import torch
from client import ran
from golden import error
from graphs import GIVEN, Graph, ref
from inside import run_inside


def runs(server, *caches, **settings):
    """Latents and the sampler's notices of a run for each cache's inputs; None: without."""
    graph = Graph()
    given = graph.add("ProbeGiven", **GIVEN)
    samplers, saved = [], []
    for cache in caches:
        models = [graph.model("mova_high"), graph.model("mova_low")]
        if cache is not None:
            node = graph.add("MOVAStepCache", model_high=models[0], model_low=models[1], **cache)
            models = [ref(node), ref(node, 1)]
        settings = {"steps": 12, "cfg": 2.0, **settings}
        samplers.append(graph.joint(models[0], given, model_low=models[1], noise=ref(given, 3), **settings))
        saved.append(graph.save(ref(samplers[-1]), f"{len(saved)}.safetensors"))
    result = ran(server, graph)
    told = ["\n".join(text for node, text in result.notices if node == sampler) for sampler in samplers]
    return [(server.tensors(result, node), text) for node, text in zip(saved, told, strict=True)]


def cache(video, audio, alone=False):
    return {"video_threshold": video, "audio_threshold": audio, "audio_alone": alone}


def counted(text):
    """Steps reused, and all, of both experts."""
    found = re.findall(r"Step cache: (\d+) of (\d+) steps reused", text)
    return [tuple(map(int, pair)) for pair in dict.fromkeys(found)]


def test_with_thresholds_of_0_it_is_the_run_without_and_with_others_steps_are_left_out(server, files):
    (plain, _), (never, none), (some, told) = runs(server, None, cache(0.0, 0.0), cache(0.5, 0.5))
    assert all(torch.equal(plain[name], never[name]) for name in ("video", "audio"))
    assert counted(none) and all(reused == 0 for reused, _ in counted(none))
    assert any(reused > 0 for reused, _ in counted(told)) and all(
        reused <= steps - 2 for reused, steps in counted(told)
    )
    assert 0 < error(some["video"], plain["video"]) < 1 and 0 < error(some["audio"], plain["audio"]) < 1


def test_what_the_audio_does_not_allow_is_not_left_out_or_computed_alone(server, files):
    (plain, _), (strict, none), (alone, told) = runs(server, None, cache(5.0, 0.0), cache(5.0, 0.0, True))
    assert all(torch.equal(plain[name], strict[name]) for name in ("video", "audio"))
    assert all(reused == 0 for reused, _ in counted(none))
    assert "with the audio computed alone" in told
    assert error(alone["audio"], plain["audio"]) > 0 and error(alone["video"], plain["video"]) > 0


def test_with_audio_steps_a_cache_says_that_it_is_not_used(server, files):
    ((_, told),) = runs(server, cache(5.0, 5.0), steps=4, audio_steps=2)
    assert "Step cache: not used; with audio_steps or context windows" in told and not counted(told)


def test_a_threshold_that_is_none_is_told_before_the_weights_load(server, files):
    graph = Graph()
    node = graph.add("MOVAStepCache", model_high=graph.model("mova_high"), **cache(-1.0, 0.1))
    graph.save(ref(graph.joint(ref(node), graph.add("ProbeGiven", **GIVEN))))
    told = server.run(graph.nodes)
    assert told.error and "video_threshold" in told.error


PROBED = """
import re
import comfy.sample
import comfy.samplers
import comfy.sd
from pack.mova import JointModel
from pack.mova.sampling.schedule import sigmas
from pack.mova.sampling.step_cache import StepCache
from pack.mova.tools import tiny
from pack.nodes.host import family, step_cache
from pack.nodes.host.audio_steps import KEY
from pack.nodes.host.model import HostModel
from pack.nodes.host.nested import AudioVideoLatent

torch.manual_seed(0)
joint = JointModel(tiny.CONFIG)
for name, parameter in joint.named_parameters():
    parameter.data.normal_(0, 0.02 if parameter.ndim > 1 else 0.5)
family.register()
model = comfy.sd.load_diffusion_model_state_dict(joint.state_dict())
made, own, told = {"both": set(), "audio": set()}, HostModel.velocities, []


def velocities(self, x, timestep, context, clip_fea, time_dim_concat, transformer_options, **named):
    memories = transformer_options.get(KEY)
    alone = memories is not None and not memories.recording
    made["audio" if alone else "both"].add(float(timestep[0]))
    return own(self, x, timestep, context, clip_fea, time_dim_concat, transformer_options, **named)


HostModel.velocities, step_cache.notice.show = velocities, told.append
latent = AudioVideoLatent([torch.zeros(1, 16, 2, 4, 6), torch.zeros(1, 128, 8)])
noise = AudioVideoLatent([torch.randn_like(part) for part in latent.unbind()])
entries = {"concat_mask": torch.ones(1, 4, 2, 4, 6), "concat_latent_image": torch.zeros(1, 16, 2, 4, 6)}
conds = [[[torch.randn(1, 7, 4096), entries]] for _ in range(2)]
seen = set()
for thresholds in ((0.0, 0.0, False), (0.6, 0.6, False), (2.0, 0.3, True)):
    cached = step_cache.with_step_cache(model, StepCache(*thresholds), False)
    for steps in made.values():
        steps.clear()
    sampler = comfy.samplers.sampler_object("euler")
    with torch.inference_mode():
        comfy.sample.sample_custom(cached, noise, 2.0, sampler, sigmas(12), *conds, latent, seed=1)
    counts = [int(number) for number in re.findall(r"(\\d+)(?= of| steps| with)", told[-1])]
    reused, steps, alone = [*counts, 0][:3]
    assert steps == 12 and len(made["both"]) == steps - reused - alone and len(made["audio"]) == alone, (told[-1], made)
    seen.add((reused > 0, alone > 0))
assert (False, False) in seen and any(reused for reused, _ in seen) and any(alone for _, alone in seen), seen
"""


def test_what_the_node_says_it_left_out_is_what_was_not_evaluated(host_place):
    run_inside(host_place, PROBED)
