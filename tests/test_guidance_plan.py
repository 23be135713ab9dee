"""Guidance along a run: where it counts, which evaluations are made then, and that nothing else changes."""

import dataclasses

import pytest
import torch

from mova import MovaError
from mova.__main__ import main
from mova.checkpoint.release import open_checkpoint
from mova.clip.pipeline import generate
from mova.clip.request import Request
from mova.clip.runtime import Runtime
from mova.model.joint import JointModel
from mova.sampling.guidance import Guidance
from mova.sampling.guidance_plan import GuidancePlan, Spans, per_step, step_of
from mova.sampling.schedule import sigmas
from mova.tools.info import describe

HALF = (0.0, 0.5)


@pytest.mark.parametrize(
    ("guidance", "spans", "evaluations"),
    [
        (Guidance(5.0), Spans(), 20),
        (Guidance(5.0), Spans(HALF), 15),
        (Guidance(5.0), Spans((0.0, 0.01)), 11),  # in the first step only
        (Guidance(5.0), Spans((0.5, 0.5)), 10),
        (Guidance(5.0), Spans(HALF, audio=(0.0, 0.8)), 18),
        (Guidance(5.0, bridge=3.0), Spans(HALF, bridge=(0.0, 0.3)), 18),
        (Guidance(5.0, bridge=3.0), Spans(), 30),
        (Guidance(5.0, bridge=5.0), Spans(HALF), 25),  # bridge and text alike need two, the bridge alone three
        (Guidance(1.0), Spans(HALF), 10),
        (Guidance(1.0), Spans(per_step=(5.0, 3.0, 1.0)), 12),
        (Guidance(5.0), Spans((0.1, 1.0), per_step=(5.0, 3.0, 1.0)), 11),
    ],
)
def test_no_evaluation_is_made_that_nobody_needs(guidance, spans, evaluations):
    assert GuidancePlan(guidance, spans).evaluations(10) == evaluations


def test_in_its_range_guidance_is_as_given_and_elsewhere_off():
    plan = GuidancePlan(Guidance(5.0, 2.0, 3.0), Spans((0.2, 0.6), (0.0, 0.4), (0.4, 1.0)))
    found = [plan.at(step, 5) for step in range(5)]
    assert [one.text for one in found] == [1.0, 5.0, 5.0, 1.0, 1.0]
    assert [one.audio for one in found] == [3.0, 3.0, 1.0, 1.0, 1.0]
    assert [one.bridge for one in found] == [1.0, 1.0, 2.0, 2.0, 2.0]


def test_without_ranges_the_guidance_is_the_same_in_all_steps():
    guidance = Guidance(4.0, 2.0, 3.0)
    assert {GuidancePlan(guidance).at(step, 7) for step in range(7)} == {guidance}


@pytest.mark.parametrize("shift", [1.0, 5.0, 13.0])
def test_each_evaluation_belongs_to_the_step_that_it_is_made_in(shift):
    schedule = sigmas(50, shift)
    assert [step_of(float(sigma), schedule) for sigma in schedule[:-1]] == list(range(50))
    between = (schedule[:-1] + schedule[1:]) / 2  # of samplers that look half a step ahead
    assert [step_of(float(sigma), schedule) for sigma in between] == list(range(50))


@pytest.mark.parametrize(
    ("text", "scales"), [("", ()), ("6, 4,1", (6.0, 4.0, 1.0)), ("5 1", (5.0, 1.0)), ("2.5", (2.5,))]
)
def test_scales_per_step_are_read_as_people_write_them(text, scales):
    assert per_step(text) == scales


MANY = {"a number of 400 digits": "1" * 400, "2000 of them": "x," * 2000}


@pytest.mark.parametrize("text", ["a", "1;2", "nan", "inf, 1", *MANY])
def test_other_scales_per_step_are_refused(text):
    with pytest.raises(MovaError, match=r"The guidance per step is .{1,150}; give numbers"):
        per_step(MANY.get(text, text))


def test_more_scales_than_any_run_has_steps_are_refused_as_that():
    with pytest.raises(MovaError, match="has 2000 values; give one for each step, at most 1000"):
        per_step("1," * 2000)


@pytest.mark.parametrize(("given", "steps", "told"), [(4, 4, ""), (5, 4, "the last does not"), (9, 4, "the last 5 do")])
def test_a_list_that_is_longer_than_the_run_is_told(given, steps, told):
    found = GuidancePlan(Guidance(), Spans(per_step=(1.0,) * given)).notice(steps)
    assert f"has {given} values, and the run {steps} step(s): {told}" in found if told else found is None


@pytest.mark.parametrize("span", [(0.5, 0.4), (-0.1, 1.0), (0.0, 1.1), (float("nan"), 1.0)])
def test_a_range_that_is_none_is_refused(span):
    for name in ("text", "audio", "bridge"):
        with pytest.raises(MovaError, match=f"The {name} guidance's range is .* percent"):
            Spans(**{name: span})


def test_a_negative_scale_per_step_is_refused():
    with pytest.raises(MovaError, match="must be 0 or more"):
        Spans(per_step=(5.0, -1.0))


def test_a_clip_is_made_with_as_many_evaluations_as_planned(tiny_checkpoint, monkeypatch):
    checkpoint, made = open_checkpoint(tiny_checkpoint), []
    forward = JointModel.forward
    monkeypatch.setattr(JointModel, "forward", lambda *given, **named: made.append(1) or forward(*given, **named))
    plain = Request("a cat", width=32, height=32, frames=5, steps=4, guidance=Guidance(3.0), boundary=0.9)
    latents = []
    for spans, evaluations in ((Spans(), 8), (Spans(HALF), 6), (Spans(per_step=(3.0,)), 8), (Spans((0.0, 1.0)), 8)):
        made.clear()
        request = dataclasses.replace(plain, spans=spans)
        result = generate(checkpoint, request, Runtime(torch.device("cpu"), torch.float32))
        assert len(made) == evaluations == request.plan.evaluations(4)
        latents.append(result.video_latent)
    assert torch.equal(latents[0], latents[2]) and torch.equal(latents[0], latents[3])
    assert not torch.equal(latents[0], latents[1])


def test_the_command_line_takes_ranges_and_writes_them_into_the_clip(tiny_checkpoint, tmp_path, capsys):
    out = tmp_path / "clip.mp4"
    command = ["generate", "--checkpoint", str(tiny_checkpoint), "--prompt", "a cat", "--out", str(out)]
    command += ["--width", "32", "--height", "32", "--frames", "5", "--steps", "2"]
    assert main([*command, "--guidance-range", "0:50", "--guidance-per-step", "6,4"]) == 0
    told = list(describe(out))
    assert "guidance_text: [0.0, 0.5]" in told and "guidance_per_step: [6.0, 4.0]" in told
    assert main([*command, "--guidance-range", "60:50"]) == 1
    assert "range is 60.0 to 50.0 percent" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*command, "--audio-guidance-range", "half"])
    assert "give two percentages, as in 0:50" in capsys.readouterr().err
