"""Several audio steps in each video step: what the audio then sees is the video's tokens of that step, held."""

import dataclasses

import pytest
import torch
from golden import error, joint_inputs, joint_model
from peak_memory import with_layers
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from mova import PRESETS, JointModel, MovaError
from mova.checkpoint.release import open_checkpoint
from mova.clip import velocity
from mova.clip.pipeline import generate
from mova.clip.request import Request
from mova.clip.runtime import Runtime
from mova.model import video_memory
from mova.model.joint import run_layer
from mova.model.kernels import Kernels
from mova.model.video_memory import VideoMemory, in_ram, joined, on_disk
from mova.sampling.audio_steps import apart, between, counts, together
from mova.sampling.euler import euler
from mova.sampling.guidance import Guidance
from mova.sampling.guidance_plan import Spans
from mova.sampling.schedule import sigmas

KIND = "head128"
FLOAT = Runtime(torch.device("cpu"), torch.float32)
FEW = Request("a cat", width=32, height=32, frames=5, steps=3, guidance=Guidance(3.0), audio_steps=4)


@pytest.fixture(scope="module")
def model():
    return joint_model(KIND, "video_dit")


@pytest.fixture(scope="module")
def checkpoint(tiny_checkpoint):
    return open_checkpoint(tiny_checkpoint)


def held(tokens):
    """A run_layer in which the video's tokens in front of each layer are these, whatever came before."""
    return lambda index, layer, video, audio: run_layer(index, layer, tokens[index].clone(), audio)


def seen(model, *inputs, **named):
    """The velocities of a forward, and the video's tokens in front of each of its layers."""
    tokens = []

    def look(index, layer, video, audio):
        tokens.append(video.clone())
        return run_layer(index, layer, video, audio)

    return model(*inputs, run_layer=look, **named), tokens


@torch.no_grad()
@pytest.mark.parametrize("v2a", [1.0, 0.3, 0.0])
def test_the_audio_alone_is_what_the_whole_model_gives_with_the_video_s_tokens_held(model, v2a):
    given = joint_inputs(KIND)
    text, fps = model.embed_text(given["text"]), 24.0
    times, memory = (torch.tensor([900.0]), torch.tensor([700.0])), VideoMemory()
    _, tokens = seen(model, given["video"], given["audio"], *times, text, fps, 1.0, v2a, memory=memory)
    audio, later = torch.randn(given["audio"].shape), torch.tensor([650.0])
    _, wanted = model(given["video"], audio, times[0], later, text, fps, 1.0, v2a, run_layer=held(tokens))
    rotations = model.last_rotations[1]
    assert error(model.audio_velocity(audio, later, text.audio, memory, rotations, v2a), wanted) < 1e-6


@torch.no_grad()
def test_keeping_changes_nothing_of_the_evaluation_itself(model):
    given, time = joint_inputs(KIND), torch.tensor([500.0])
    inputs = given["video"], given["audio"], time, time, given["text"]
    for one, other in zip(model(*inputs), model(*inputs, memory=VideoMemory()), strict=True):
        assert torch.equal(one, other)


@torch.no_grad()
def test_in_ram_and_on_disk_it_is_the_same_and_in_fp8_near_it(model, tmp_path):
    given, time = joint_inputs(KIND), torch.tensor([500.0])
    text, found = model.embed_text(given["text"]), {}
    places = {"here": {}, "ram": {"place": in_ram}, "disk": {"place": on_disk(tmp_path)}, "fp8": {"fp8": True}}
    for name, how in {**places, "fp8 on disk": {"fp8": True, "place": on_disk(tmp_path)}}.items():
        for _ in range(2):  # the second evaluation is written over the first
            memory = VideoMemory(**how)
            model(given["video"], given["audio"], time, time, text, memory=memory)
        found[name] = model.audio_velocity(given["audio"], time, text.audio, memory, model.last_rotations[1])
    assert torch.equal(found["here"], found["ram"]) and torch.equal(found["here"], found["disk"])
    assert torch.equal(found["fp8"], found["fp8 on disk"])
    assert 0 < error(found["fp8"], found["here"]) < 0.01


@torch.no_grad()
def test_rows_of_a_batch_can_be_kept_apart_and_joined_again(model):
    given, time = joint_inputs(KIND), torch.tensor([500.0, 500.0])
    video, audio = (torch.cat([given[name], given[name].flip(-1)]) for name in ("video", "audio"))
    text, memory = model.embed_text(torch.cat([given["text"], given["negative_text"]])), VideoMemory(fp8=True)
    model(video, audio, time, time, text, memory=memory)
    whole = model.audio_velocity(audio, time, text.audio, memory, model.last_rotations[1])
    again = joined([memory.rows(slice(1, 2)), memory.rows(slice(0, 1))])
    assert (
        error(
            model.audio_velocity(audio.flip(0), time, text.audio.flip(0), again, model.last_rotations[1]), whole.flip(0)
        )
        < 1e-6
    )


@pytest.mark.parametrize("shift", [1.0, 5.0, 7.0])
def test_the_audio_s_sigmas_are_those_of_a_schedule_of_as_many_steps(shift):
    coarse, fine = sigmas(8, shift), sigmas(32, shift)
    for step in range(8):
        found = between(coarse, step, 4, shift)
        torch.testing.assert_close(found, fine[4 * step : 4 * step + 5], rtol=0, atol=1e-6)
        assert torch.equal(found[[0, -1]], coarse[step : step + 2])


def latents(checkpoint, **changes):
    made = generate(checkpoint, dataclasses.replace(FEW, **changes), FLOAT)
    return made.video_latent, made.audio_latent


def test_one_audio_step_is_the_run_without_and_more_change_the_sound(checkpoint):
    plain = latents(checkpoint, audio_steps=1)
    four = latents(checkpoint)
    assert error(four[1], plain[1]) > 1e-3 and error(four[0], plain[0]) > 0  # the picture hears the other sound


def test_a_run_with_audio_steps_is_that_of_the_whole_model_with_held_tokens(checkpoint, monkeypatch):
    """Also with guidance of three evaluations, and where guidance ends in the middle."""
    changes = {"guidance": Guidance(3.0, 2.0, 4.0), "spans": Spans(bridge=(0.0, 0.5)), "audio_shift": 3.0}
    found = latents(checkpoint, **changes)

    def whole(self, audio, time):
        """As Velocities.audio, by the joint model."""
        timestep = torch.tensor([time])

        def evaluate(positive, bridge):
            video, video_time, tokens = self.tokens[positive, bridge]
            scale, text = float(bridge), self.texts[0 if positive else 1]
            inputs = (video, audio, video_time, timestep, text, self.request.fps, scale, scale)
            return self.model(*inputs, run_layer=held(tokens))

        guidance = Guidance(self.guidance.audio, self.guidance.bridge)
        return velocity.guided(evaluate, guidance)[1]

    forward = JointModel.forward

    def remembering(self, video, audio, video_time, audio_time, text, fps, a2v, v2a, memory=None, run_layer=None):
        if run_layer is not None:
            return forward(self, video, audio, video_time, audio_time, text, fps, a2v, v2a, run_layer=run_layer)
        inputs = (video, audio, video_time, audio_time, text, fps, a2v, v2a)
        made, tokens = seen(lambda *given, **named: forward(self, *given, **named), *inputs)
        known.append((video, video_time, tokens))
        return made

    known = []
    joint = velocity.Velocities.joint

    def noting(self, *given):
        known.clear()
        made = joint(self, *given)
        self.tokens = dict(zip(self.guidance.needed(), known, strict=True))
        return made

    monkeypatch.setattr(JointModel, "forward", remembering)
    monkeypatch.setattr(velocity.Velocities, "joint", noting)
    monkeypatch.setattr(velocity.Velocities, "audio", whole)
    wanted = latents(checkpoint, **changes)
    assert all(error(one, other) < 1e-6 for one, other in zip(found, wanted, strict=True))


@torch.no_grad()
@pytest.mark.parametrize("guidance", [Guidance(1.0, 1.0, 5.0), Guidance(2.0, 2.0, 5.0), Guidance(0.0, 1.0, 3.0)])
def test_guidance_of_the_audio_alone_sees_the_video_as_the_picture_s_own_evaluation_had_it(model, guidance):
    """Where the video needs no second evaluation, that of the audio is the whole model's with its tokens."""
    given, schedule = joint_inputs(KIND), sigmas(4, 5.0)
    texts = [model.embed_text(given[name]) for name in ("text", "negative_text")]
    video, condition, audio = given["video"][:, :16], given["video"][:, 16:], given["audio"]
    request = Request("a", steps=4, guidance=guidance, audio_steps=3)
    velocities = velocity.Velocities(model, texts, condition, request, schedule)
    time, later = torch.tensor([1000.0]), torch.tensor([950.0])
    found = velocities.joint(video, audio, 1000.0, 1000.0), velocities.audio(audio, 950.0)

    both, known = together(guidance), {}
    for kind in both:
        inputs = (given["video"], audio, time, time, texts[0 if kind[0] else 1], 24.0, float(kind[1]), float(kind[1]))
        known[kind] = seen(model, *inputs)
    tokens = next(known[kind][1] for kind in both if kind[1])
    assert len(both) < len(guidance.needed())

    def whole(audio_time):
        def evaluate(positive, bridge):
            if (positive, bridge) in both and audio_time is time:
                return known[positive, bridge][0]
            mine = known[positive, bridge][1] if (positive, bridge) in both else tokens
            inputs = (given["video"], audio, time, audio_time, texts[0 if positive else 1], 24.0, 1.0, float(bridge))
            return torch.zeros_like(video), model(*inputs, run_layer=held(mine))[1]

        return evaluate

    wanted = velocity.guided(whole(time), guidance)
    alone = velocity.guided(whole(later), apart(guidance))[1]
    for one, other in zip((*found[0], found[1]), (*wanted, alone), strict=True):
        assert error(one, other) < 1e-6


@torch.no_grad()
@pytest.mark.parametrize("audio_steps", [1, 3])
@pytest.mark.parametrize(
    "changes",
    [
        {"guidance": Guidance(1.0)},
        {"guidance": Guidance(1.0, 1.0, 5.0)},
        {"guidance": Guidance(4.0, 2.0, 5.0), "spans": Spans((0.0, 0.5), (0.2, 1.0), (0.4, 1.0))},
        {"guidance": Guidance(1.0, 1.0, 5.0), "spans": Spans(per_step=(2.0, 1.0))},
        {"guidance": Guidance(0.0, 0.0, 2.0)},
    ],
)
def test_as_many_evaluations_are_made_as_are_told(model, monkeypatch, changes, audio_steps):
    made = {"forward": 0, "audio_velocity": 0}

    def counted(name):
        whole = getattr(JointModel, name)

        def counting(self, *given, **named):
            made[name] += 1
            return whole(self, *given, **named)

        return counting

    for name in made:
        monkeypatch.setattr(JointModel, name, counted(name))
    given, schedule = joint_inputs(KIND), sigmas(FEW.steps, 5.0)
    texts = [model.embed_text(given[name]) for name in ("text", "negative_text")]
    request = dataclasses.replace(FEW, audio_steps=audio_steps, **changes)
    video, condition = given["video"][:, :16], given["video"][:, 16:]
    velocities = velocity.Velocities(model, texts, condition, request, schedule)
    alone = None if audio_steps == 1 else (lambda step: between(schedule, step, audio_steps, 5.0), velocities.audio)
    for one in euler(velocities.joint, video, given["audio"], schedule, schedule, alone=alone):
        assert one.isfinite().all()
    assert tuple(made.values()) == counts(request.plan, request.steps, audio_steps)


@pytest.mark.parametrize("count", [0, -1, 65])
def test_a_number_of_audio_steps_that_makes_no_sense_is_refused(count):
    with pytest.raises(MovaError, match=f"audio_steps is {count}; it must be from 1"):
        dataclasses.replace(FEW, audio_steps=count).check()


def test_where_there_is_no_room_it_is_kept_on_disk_and_nothing_stays_there(checkpoint, monkeypatch, tmp_path):
    plain = latents(checkpoint)
    monkeypatch.setattr(video_memory, "free_ram", lambda: 0.0)
    monkeypatch.setattr(video_memory.tempfile, "tempdir", str(tmp_path))
    used = []
    monkeypatch.setattr(video_memory, "on_disk", lambda folder: used.append(folder) or on_disk(folder))
    found = latents(checkpoint)
    assert used and all(torch.equal(one, other) for one, other in zip(found, plain, strict=True))
    assert not [*tmp_path.iterdir()]


def test_three_audio_steps_more_cost_less_than_two_percent_of_a_video_step():
    """Released size, with guidance: two evaluations of the whole, and two of the audio for each step more."""
    preset = PRESETS["MOVA-360p"]
    layers = 4  # of 40: the share of the audio is that of 3 of 30 layers in 4 of 40
    with FakeTensorMode(), torch.no_grad():
        config = with_layers(preset.model, layers)
        without_norms = Kernels(norm_and_rotate_=lambda x, *_: x)
        model = JointModel(config, torch.bfloat16, "cpu", kernels=without_norms)
        video = torch.empty(1, 36, 49, 44, 80, dtype=torch.bfloat16)
        audio, text = torch.empty(1, 128, 403, dtype=torch.bfloat16), torch.empty(1, 512, 4096, dtype=torch.bfloat16)
        time, memory = torch.empty(1), VideoMemory()
        text = model.embed_text(text)
        with FlopCounterMode(display=False) as whole:
            model(video, audio, time, time, text, memory=memory)
        with FlopCounterMode(display=False) as alone:
            model.audio_velocity(audio, time, text.audio, memory, model.last_rotations[1])
    assert 0 < 3 * alone.get_total_flops() / whole.get_total_flops() < 0.02
