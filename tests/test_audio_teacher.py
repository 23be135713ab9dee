"""A teacher of the audio: its own steps see the picture as another model, without a LoRA, makes it."""

import dataclasses

import pytest
import torch
from distilled_files import pair
from golden import error, joint_inputs, joint_model
from lora_files import saved
from sentences import refusal

from mova import JointModel
from mova.checkpoint.release import open_checkpoint
from mova.clip import runtime
from mova.clip.denoise import denoise
from mova.clip.request import Request
from mova.clip.runtime import Runtime
from mova.clip.velocity import Teacher, Velocities
from mova.lora.plan import LoraChoice, plan
from mova.model.joint import run_layer
from mova.model.teacher import check_first
from mova.sampling.audio_steps import apart, between, counts, of_video, together
from mova.sampling.euler import euler
from mova.sampling.guidance import Guidance, guided
from mova.sampling.schedule import sigmas

KIND, COUNT = "head128", 3
FLOAT = Runtime(torch.device("cpu"), torch.float32)
GIVEN = joint_inputs(KIND)
VIDEO, CONDITION, AUDIO = GIVEN["video"][:, :16], GIVEN["video"][:, 16:], GIVEN["audio"]
LAST = 1  # layer in which the audio of these models attends to the video


@pytest.fixture(scope="module")
def models():
    """The run's own, and the teacher: their video towers differ."""
    return joint_model(KIND, "video_dit_2"), joint_model(KIND, "video_dit")


def texts_of(model):
    return [model.embed_text(GIVEN[name]) for name in ("text", "negative_text")]


def velocities(model, teacher, guidance, first, steps=4, audio_steps=COUNT):
    request = Request("a", steps=steps, guidance=guidance, audio_steps=audio_steps)
    made = Velocities(model, texts_of(model), CONDITION, request, sigmas(steps))
    if teacher is not None:
        made.teacher = Teacher(teacher, texts_of(teacher), first)
    return made


def noting(tokens, before=lambda index, video, audio: (video, audio)):
    """A run_layer that notes the tokens of both in front of each layer, which `before` may exchange."""

    def run(index, layer, video, audio):
        video, audio = before(index, video, audio)
        tokens.append((video.clone(), audio.clone()))
        return run_layer(index, layer, video, audio)

    return run


def held(tokens):
    return lambda index, layer, video, audio: run_layer(index, layer, tokens[index][0].clone(), audio)


@torch.no_grad()
@pytest.mark.parametrize("first", range(LAST + 1))
@pytest.mark.parametrize(
    "guidance", [Guidance(1.0, 1.0, 5.0), Guidance(3.0), Guidance(4.0, 2.0, 2.5), Guidance(0.0, 1.0, 3.0)]
)
def test_the_sound_is_that_of_the_whole_model_with_the_teacher_s_tokens_held(models, guidance, first):
    model, teacher = models
    assert max(model.dual_tower_bridge.config.layers) == LAST
    work = velocities(model, teacher, guidance, first)
    found = *work.joint(VIDEO, AUDIO, 1000.0, 1000.0), work.audio(AUDIO, 950.0)

    time, mine = torch.tensor([1000.0]), texts_of(model)
    positive = guidance.text != 0
    inputs = (GIVEN["video"], AUDIO, time, time)
    own, taught = [], []
    model(*inputs, mine[0 if positive else 1], run_layer=noting(own))

    def from_the_model(index, video, audio):
        return (own[index][0].clone(), own[index][1].clone()) if index <= first and first else (video, audio)

    teacher(*inputs, texts_of(teacher)[0 if positive else 1], run_layer=noting(taught, from_the_model))

    def whole(audio_time):
        def evaluate(text, bridge):
            scales = float(bridge), float(bridge)
            context = mine[0 if text else 1]
            alone = model(GIVEN["video"], AUDIO, time, audio_time, context, 24.0, *scales, run_layer=held(taught))
            return model(*inputs, context, 24.0, *scales)[0], alone[1]

        return evaluate

    video = guided(whole(time), of_video(guidance))[0]
    sounds = [guided(whole(torch.tensor([moment])), apart(guidance))[1] for moment in (1000.0, 950.0)]
    for one, other in zip(found, (video, *sounds), strict=True):
        assert error(one, other) < 1e-6
    untaught = velocities(model, None, guidance, first).joint(VIDEO, AUDIO, 1000.0, 1000.0)[1]
    assert first == LAST or error(untaught, sounds[0]) > 1e-3


@torch.no_grad()
@pytest.mark.parametrize("first", range(LAST + 1))
def test_a_teacher_of_the_same_weights_changes_nothing(models, first):
    schedule, found = sigmas(3), []
    for teacher in (None, models[0]):
        work = velocities(models[0], teacher, Guidance(1.0, 1.0, 5.0), first, steps=3)
        alone = (lambda step: between(schedule, step, COUNT, 5.0), work.audio)
        found.append(euler(work.joint, VIDEO, AUDIO, schedule, schedule, alone=alone))
    for one, other in zip(*found, strict=True):
        assert error(one, other) < 1e-6


@torch.no_grad()
def test_a_teacher_is_asked_once_a_step_and_as_many_evaluations_are_made_as_are_told(models, monkeypatch):
    made = {"forward": 0, "audio_velocity": 0, "look": 0}

    def counted(name):
        whole = getattr(JointModel, name)

        def counting(self, *given, **named):
            made[name] += 1
            return whole(self, *given, **named)

        return counting

    for name in made:
        monkeypatch.setattr(JointModel, name, counted(name))
    schedule = sigmas(3)
    for guidance in (Guidance(1.0, 1.0, 5.0), Guidance(3.0), Guidance(4.0, 2.0, 2.5)):
        made |= dict.fromkeys(made, 0)
        work = velocities(*models, guidance, 0, steps=3)
        alone = (lambda step: between(schedule, step, COUNT, 5.0), work.audio)
        euler(work.joint, VIDEO, AUDIO, schedule, schedule, alone=alone)
        assert (made["forward"], made["audio_velocity"]) == counts(work.request.plan, 3, COUNT, taught=range(3))
        assert made["look"] == 3 and made["forward"] == 3 * len(together(guidance))


@pytest.fixture(scope="module")
def checkpoint(tiny_checkpoint):
    return open_checkpoint(tiny_checkpoint)


def run(checkpoint, path, strength, **changes):
    """The latents of a run without text encoder and decoders."""
    request = Request("a", width=32, height=32, frames=5, steps=2, guidance=Guidance(1.0, 1.0, 4.0), seed=1)
    request = dataclasses.replace(request, loras=(LoraChoice(path, strength),), **changes)
    request.check()
    generator = torch.Generator().manual_seed(0)
    prompts = [torch.randn(1, 16, 4096, generator=generator) for _ in range(2)]
    condition = torch.randn(1, 20, 2, 4, 4, generator=generator)
    with torch.inference_mode():
        return denoise(checkpoint, request, FLOAT, prompts, condition, plan(request.loras, checkpoint.config)[0])


def test_without_audio_steps_a_teacher_is_not_asked_and_of_a_lora_of_strength_0_it_says_nothing_new(
    checkpoint, tmp_path, monkeypatch
):
    monkeypatch.setattr(runtime, "release_memory", lambda *_: None)  # takes most of the time of so small a run
    path = saved(tmp_path / "both.safetensors", pair("blocks.0.self_attn.q", 256, 256, ""))
    runs = ((1.0, 1, None), (1.0, 1, 0), (0.0, 3, None), (0.0, 3, 1), (1.0, 3, None), (1.0, 3, 0))
    made = [run(checkpoint, path, strength, audio_steps=n, audio_teacher=first) for strength, n, first in runs]
    assert all(torch.equal(one, other) for one, other in zip(*made[:2], strict=True))
    assert all(error(one, other) < 1e-6 for one, other in zip(*made[2:4], strict=True))
    assert error(made[5][1], made[4][1]) > 1e-5


def test_a_layer_in_which_the_sound_sees_nothing_and_a_teacher_without_a_lora_are_refused(models):
    sees = "it must be from 0 (all) to 1, the last in which the sound sees the picture"
    for first in (-1, LAST + 1, float("nan")):
        assert sees in refusal(check_first, first, models[0].dual_tower_bridge.config)
    assert "give a LoRA, or leave the teacher out" in refusal(Request("a", audio_teacher=0).check)
