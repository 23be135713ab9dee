"""MOVA Guidance Schedule: evaluations are counted where they are made, and what is off changes nothing."""

import pytest
import torch
from client import ran
from graphs import GIVEN, Graph, headless_plan, ref, to_model_scale

from mova.sampling.guidance import Guidance
from mova.sampling.guidance_plan import GuidancePlan, Spans

ALL = {"text_start": 0.0, "text_end": 100.0, "audio_start": -1.0, "audio_end": -1.0}
ALL |= {"bridge_start": 0.0, "bridge_end": 100.0, "cfg_per_step": ""}


def made(server, *runs):
    """Latents, and what the sampler's line says, of runs: (inputs of the schedule or None, those of the sampler)."""
    graph = Graph()
    given = graph.add("ProbeGiven", **GIVEN)
    high, low = graph.model("mova_high"), graph.model("mova_low")
    samplers, saved = [], []
    for schedule, settings in runs:
        extra = {} if schedule is None else {"guidance": ref(graph.add("MOVAGuidanceSchedule", **{**ALL, **schedule}))}
        samplers.append(graph.joint(high, given, model_low=low, noise=ref(given, 3), **extra, **settings))
        saved.append(graph.save(ref(samplers[-1]), f"{len(saved)}.safetensors"))
    result = ran(server, graph)
    last = dict(result.notices)
    return [(server.tensors(result, save), last[sampler]) for sampler, save in zip(samplers, saved, strict=True)]


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in ("video", "audio"))


def test_off_it_is_the_run_without_it_and_a_range_leaves_evaluations_out(server, files):
    cfg = {"cfg": 3.0}
    plain, whole, half, first = made(
        server, (None, cfg), ({}, cfg), ({"text_end": 50.0}, cfg), ({"cfg_per_step": "3, 1"}, cfg)
    )
    assert same(plain[0], whole[0]) and "; 8 evaluations; " in plain[1] and "; 8 evaluations; " in whole[1]
    assert "; 6 evaluations; " in half[1] and "; 5 evaluations; " in first[1]
    assert not same(plain[0], half[0]) and not same(half[0], first[0])


def test_per_step_scales_and_ranges_of_both_experts_are_those_of_the_command_line(server, files):
    """The second expert's steps are counted from the run's beginning: 3 of 4 here."""
    plan = GuidancePlan(Guidance(4.0, 2.0, 3.0), Spans((0.0, 0.75), (0.25, 1.0), (0.5, 1.0)))
    schedule = {"text_end": 75.0, "audio_start": 25.0, "audio_end": 100.0, "bridge_start": 50.0}
    ((found, line),) = made(server, (schedule, {"cfg": 4.0, "bridge_cfg": 2.0, "audio_cfg": 3.0}))
    video, audio = headless_plan(4, plan)
    torch.testing.assert_close(to_model_scale(found["video"]), video, rtol=0, atol=2e-5)
    torch.testing.assert_close(found["audio"], audio, rtol=0, atol=2e-5)
    assert f"; {plan.evaluations(4)} evaluations; " in line


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"text_start": 60.0, "text_end": 50.0}, "text guidance's range is 60.0 to 50.0 percent"),
        ({"cfg_per_step": "high, low"}, "with commas between, such as 6, 4, 1"),
        ({"cfg_per_step": "5, -1"}, "must be 0 or more"),
        ({"cfg_per_step": "1," * 2000}, "The guidance per step has 2000 values"),
    ],
)
def test_a_schedule_that_is_none_is_told_before_the_weights_load(server, files, wrong, told):
    graph = Graph()
    given = graph.add("ProbeGiven", **GIVEN)
    schedule = ref(graph.add("MOVAGuidanceSchedule", **{**ALL, **wrong}))
    graph.save(ref(graph.joint(graph.model("mova_high"), given, guidance=schedule)))
    assert told in server.run(graph.nodes).error


def test_a_list_that_is_longer_than_the_run_is_told(server, files):
    (_, told), (_, fits) = made(
        server, ({"cfg_per_step": "5,4,3,2,1"}, {"steps": 3}), ({"cfg_per_step": "5,4,3"}, {"steps": 3})
    )
    assert "has 5 values, and the run 3 step(s): the last 2 do not count" in told and "do not count" not in fits


def test_a_guider_that_comes_from_the_cache_counts_the_steps_of_the_run_it_is_given_to(server, files):
    """The node's inputs are the same, so it is not run again when the sampler has other sigmas."""
    found = []
    for steps, shift in ((2, 1.0), (8, 5.0)):
        graph = Graph()
        given = graph.add("ProbeCached", **GIVEN)
        schedule = ref(graph.add("MOVAGuidanceSchedule", **{**ALL, "text_end": 50.0}))
        texts = {"positive": ref(given), "negative": ref(given, 1)}
        guider = graph.add("MOVAGuider", model=graph.model("mova_high"), cfg=3.0, guidance=schedule, **texts)
        sigmas = ref(graph.add("MOVAScheduler", steps=steps, shift=shift, denoise=1.0))
        saved = graph.save(ref(graph.custom(ref(guider), sigmas, ref(given, 3), ref(given, 2))), f"{steps}.safetensors")
        result = ran(server, graph)
        found.append(server.tensors(result, saved))
    assert guider in result.cached
    video, audio = headless_plan(8, GuidancePlan(Guidance(3.0), Spans((0.0, 0.5))), switch=8)
    torch.testing.assert_close(to_model_scale(found[1]["video"]), video, rtol=0, atol=2e-5)
    torch.testing.assert_close(found[1]["audio"], audio, rtol=0, atol=2e-5)
