import pytest
import torch
from golden import CASES, KINDS, error, expected, joint_inputs, joint_model

from mova import Cancelled
from mova.sampling.euler import euler
from mova.sampling.guidance import Guidance, guided
from mova.sampling.schedule import TIMESTEPS, low_noise_start, shifted, sigmas

LOOPS = [(kind, name) for kind in KINDS for name in CASES[f"joint_{kind}"]["loops"]]


def snapped(sigmas, shift=5.0):
    """Each sigma but the last replaced by the nearest of the 1000 training sigmas.

    The published loop moves the latents by these, while the model sees the exact timesteps: an accident of its
    scheduler (FlowMatchPairScheduler.timestep_to_sigma), which the product does not have.
    """
    training = shifted(torch.linspace(1.0, 0.0, TIMESTEPS + 1)[:-1], shift)
    nearest = (training[None] * TIMESTEPS - sigmas[:-1, None] * TIMESTEPS).abs().argmin(dim=1)
    return torch.cat([training[nearest], sigmas[-1:]])


def test_the_published_loop_s_accident_moves_a_sigma_by_less_than_a_thousandth():
    exact = sigmas(50)
    assert 0 < (snapped(exact) - exact).abs().max() < 1e-3


@torch.no_grad()
def denoise(kind, name, snap):
    """The two stages of a generation on the golden models: the high-noise expert's steps, then the low-noise one's."""
    loop, inputs = CASES[f"joint_{kind}"]["loops"][name], joint_inputs(kind)
    video, audio, condition = inputs["video"][:, :16], inputs["audio"], inputs["video"][:, 16:]
    schedule = [sigmas(loop["steps"], loop[f"{modality}_shift"]) for modality in ("video", "audio")]
    moves = [snapped(column) if snap else column for column in schedule]
    switch = low_noise_start(schedule[0], loop["boundary"])
    assert 0 < switch < loop["steps"], "the loop must use both experts"
    for expert, part in (("video_dit", slice(0, switch + 1)), ("video_dit_2", slice(switch, None))):
        model = joint_model(kind, expert)

        exact = iter(torch.stack([column[part][:-1] * TIMESTEPS for column in schedule], dim=1)[:, :, None])

        def velocity(video, audio, video_time, audio_time, model=model, exact=exact):
            times = torch.tensor([[video_time], [audio_time]])
            if snap:
                moved_by, times = times, next(exact)
                assert (moved_by - times).abs().max() < 1
            x = torch.cat([video, condition], dim=1)
            return guided(
                lambda positive, _: model(x, audio, *times, inputs["text" if positive else "negative_text"]),
                Guidance(text=loop["cfg"]),
            )

        video, audio = euler(velocity, video, audio, *(column[part] for column in moves))
    return video, audio


@pytest.mark.parametrize(("kind", "name"), LOOPS)
@pytest.mark.parametrize(("snap", "tolerance"), [(True, 1e-5), (False, 1e-3)])
def test_a_whole_loop_equals_the_published_code(kind, name, snap, tolerance):
    video, audio = denoise(kind, name, snap)
    wanted = expected(f"joint_{kind}")
    assert error(video, wanted[f"{name}.video_latent"]) < tolerance
    assert error(audio, wanted[f"{name}.audio_latent"]) < tolerance


def test_the_callback_sees_every_step_and_a_cancelled_run_stops_before_the_next():
    seen = []
    zero = torch.zeros(1)

    def velocity(video, audio, video_time, audio_time):
        return torch.ones(1), torch.ones(1)

    euler(velocity, zero, zero, sigmas(4), sigmas(4), callback=lambda step, video, audio: seen.append(step))
    assert seen == [0, 1, 2, 3]
    seen.clear()
    with pytest.raises(Cancelled, match="step 3 of 4"):
        euler(
            velocity, zero, zero, sigmas(4), sigmas(4),
            callback=lambda step, video, audio: seen.append(step),
            cancelled=lambda: len(seen) == 2,
        )  # fmt: skip
    assert seen == [0, 1]


def test_a_constant_velocity_moves_from_noise_to_data_exactly():
    noise, data = torch.randn(3), torch.randn(3)
    video, audio = euler(lambda *_: (noise - data, data - noise), noise, data, sigmas(7, 5.0), sigmas(7, 3.0))
    torch.testing.assert_close(video, data)
    torch.testing.assert_close(audio, noise)
