"""Two stages: the picture in half size, then enlarged and begun anew, while the sound goes on or is kept."""

import pytest
import torch
from client import ran
from clips import read_clip
from golden import error, joint_inputs
from graphs import GIVEN, KIND, Graph, golden_model, ref, to_model_scale
from safetensors.torch import save_file

from mova.sampling.euler import euler
from mova.sampling.guidance import Guidance, guided
from mova.sampling.schedule import sigmas

STEPS, SPLIT, CFG, SEED = 4, 2, 2.0, 7
SCHEDULE = sigmas(STEPS)


def levels(graph):
    node = graph.add(
        "SplitSigmas", sigmas=ref(graph.add("MOVAScheduler", steps=STEPS, shift=5.0, denoise=1.0)), step=SPLIT
    )
    return ref(node), ref(node, 1)


def stage(graph, expert, given, noise, sigmas, latent, **settings):
    """A stage by ComfyUI's own sampling nodes."""
    texts = {"positive": ref(given), "negative": ref(given, 1)}
    guider = graph.add("MOVAGuider", model=graph.model(f"mova_{expert}"), **texts, cfg=CFG, **settings)
    return graph.custom(ref(guider), sigmas, noise, latent)


def enlarged(graph, first, scale_by):
    small = graph.add("MOVASeparateLatent", latent=ref(first, 1))
    large = graph.add("LatentUpscaleBy", samples=ref(small), upscale_method="bicubic", scale_by=scale_by)
    return ref(graph.add("MOVACombineLatent", video=ref(large), audio=ref(first)))


def two_stages(graph, first_given, second_given, scale_by, **settings):
    """As workflow 12: both stages' samplers, and the noise of the second."""
    high, low = levels(graph)
    noise = ref(graph.add("RandomNoise", noise_seed=SEED))
    first = stage(graph, "high", first_given, noise, high, ref(first_given, 2), **settings)
    alone = ref(graph.add("MOVAVideoNoise", noise=noise))
    second = stage(graph, "low", second_given, alone, low, enlarged(graph, first, scale_by), **settings)
    return first, second


@torch.no_grad()
def velocity_of(expert):
    inputs, model = joint_inputs(KIND), golden_model(expert)
    texts = inputs["negative_text"], inputs["text"]

    def velocity(video, audio, video_time, audio_time):
        times = torch.tensor([video_time]), torch.tensor([audio_time])
        x = torch.cat([video, inputs["video"][:, 16:]], dim=1)
        return guided(lambda text, bridge: model(x, audio, *times, texts[text], 24.0), Guidance(CFG))

    return velocity


@torch.no_grad()
def test_the_second_stage_begins_the_picture_anew_and_the_sound_goes_on_as_in_our_own_loop(server, files):
    """In one size, where the golden inputs give all that is needed."""
    graph = Graph()
    given = graph.add("ProbeGiven", **GIVEN)
    first, second = two_stages(graph, given, given, 1.0)
    saved = [
        graph.save(latent, f"{i}.safetensors") for i, latent in enumerate((ref(first, 1), ref(first), ref(second)))
    ]
    result = ran(server, graph)
    expected, noisy, found = ({k: v.float() for k, v in server.tensors(result, node).items()} for node in saved)
    sigma = float(SCHEDULE[SPLIT])
    shapes = [expected["video"].shape, expected["audio"].shape]
    generator = torch.manual_seed(SEED)
    noise, _ = (torch.randn(shape, generator=generator) for shape in shapes)
    video = sigma * noise + (1 - sigma) * to_model_scale(expected["video"])
    audio = (1 - sigma) * noisy["audio"]  # ComfyUI divides by it what still has noise
    wanted = euler(velocity_of("low"), video, audio, SCHEDULE[SPLIT:], SCHEDULE[SPLIT:])
    assert error(to_model_scale(found["video"]), wanted[0]) < 1e-4 and error(found["audio"], wanted[1]) < 1e-4
    assert error(found["audio"], noisy["audio"]) > 1e-2


def test_a_sound_that_does_not_see_the_picture_is_the_one_that_is_made_in_one_stage(server, files):
    """What it is made of (its noise, where it is between the experts) comes over unchanged, whatever size follows."""
    graph, deaf = Graph(), {"v2a_scale": 0.0}
    small, large = (graph.conditioning(width=width, height=height) for width, height in ((48, 32), (96, 64)))
    first, second = two_stages(graph, small, large, 2.0, **deaf)
    low = ref(stage(graph, "low", small, ref(graph.add("DisableNoise")), levels(graph)[1], ref(first), **deaf))
    saved = [graph.save(latent, f"{i}.safetensors") for i, latent in enumerate((ref(second), low))]
    result = ran(server, graph)
    staged, plain = (server.tensors(result, node) for node in saved)
    assert staged["video"].shape == (1, 16, 3, 8, 12) and plain["video"].shape == (1, 16, 3, 4, 6)
    assert staged["audio"].shape == plain["audio"].shape and error(staged["audio"], plain["audio"]) < 1e-5
    assert staged["video"].isfinite().all() and staged["video"].std() > 0.1


@pytest.mark.parametrize("by", ["latent", "picture"])
def test_a_finished_sound_is_kept_bit_for_bit_while_the_picture_is_made_again_in_full_size(server, files, by):
    graph = Graph()
    vae = ref(graph.add("ProbeWanVAE"))
    small, large = (graph.conditioning(vae, width=width, height=height) for width, height in ((48, 32), (96, 64)))
    models = {"model_high": graph.model("mova_high"), "model_low": graph.model("mova_low")}
    first = ref(graph.joint(given=small, **models))
    video = ref(graph.add("MOVASeparateLatent", latent=first))
    if by == "latent":
        method = {"upscale_method": "bicubic", "width": 96, "height": 64, "crop": "center"}
        bigger = ref(graph.add("LatentUpscale", samples=video, **method))
    else:
        frames = ref(graph.add("VAEDecode", samples=video, vae=vae))
        frames = ref(graph.add("ImageScaleBy", image=frames, upscale_method="lanczos", scale_by=2.0))
        bigger = ref(graph.add("VAEEncode", pixels=frames, vae=vae))
    latent = ref(graph.add("MOVACombineLatent", video=bigger, audio=first, keep_audio=True))
    second = ref(graph.joint(given=large, latent=latent, denoise=0.5, **models))
    saved = [graph.save(latent, f"{i}.safetensors") for i, latent in enumerate((first, latent, second))]
    result = ran(server, graph)
    one, given, made = (server.tensors(result, node) for node in saved)
    assert torch.equal(made["audio"], one["audio"]) and one["audio"].std() > 0.1
    assert made["video"].shape == given["video"].shape == (1, 16, 3, 8, 12)
    assert error(made["video"], given["video"]) > 1e-3


def test_twice_the_frames_by_comfyui_s_interpolation_stay_with_the_sound(server, files, tmp_path):
    """At 24 a second a flash and a tone begin with the fifth of nine frames; at 48 with the ninth of 17."""
    folder = server.base / "models/frame_interpolation"
    folder.mkdir(exist_ok=True, parents=True)
    save_file(halfway(), folder / "halfway.safetensors")
    frames = torch.zeros(9, 64, 96, 3)
    frames[4:] = 1.0
    sound = torch.zeros(1, 1, 18000)
    sound[..., 8000:] = 0.5 * torch.sin(torch.arange(10000) * 0.2)
    save_file({"images": frames, "waveform": sound}, server.base / "input/flash.safetensors")
    graph = Graph()
    given = graph.add("ProbeImages", file="flash.safetensors", sample_rate=48000)
    model = ref(graph.add("FrameInterpolationModelLoader", model_name="halfway.safetensors"))
    more = ref(graph.add("FrameInterpolate", interp_model=model, images=ref(given), multiplier=2))
    video = ref(graph.add("MOVACombineVideo", images=more, audio=ref(given, 1), fps=48.0))
    save = graph.add("SaveVideo", video=video, filename_prefix="flash", format="mp4", codec="h264")
    result = ran(server, graph)
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(server.view(result.outputs[save]["images"][0]))
    found, waveform, rate, fps = read_clip(clip)
    light = found.float().mean(dim=(1, 2, 3))
    assert len(found) == 17 and fps == 48 and rate == 48000
    assert light[6] < 20 < 100 < light[7] < 150 < 235 < light[8]  # the frame between is half as light
    loud = int((waveform[0].abs() > 0.05).nonzero()[0])
    assert abs(loud / rate - 8 / 48) < 0.005 and waveform.shape[1] / rate == pytest.approx(17 / 48, abs=2048 / rate)


def halfway():
    """A RIFE model of zeros: nothing moves, and a frame between two is their mean."""
    channels, head = 4, 4
    convolutions = {"encode.cnn0": (16, 3, 3, 3), "encode.cnn1": (16, 16, 3, 3), "encode.cnn2": (16, 16, 3, 3)}
    transposed = {"encode.cnn3": (16, head, 4, 4)}
    state = {}
    for block in range(5):
        name = f"blocks.{block}"
        given = 7 + 2 * head if block == 0 else 20 + 2 * head
        convolutions |= {f"{name}.conv0.0.0": (channels // 2, given, 3, 3)}
        convolutions |= {f"{name}.conv0.1.0": (channels, channels // 2, 3, 3)}
        convolutions |= {f"{name}.convblock.{i}.conv": (channels, channels, 3, 3) for i in range(8)}
        transposed |= {f"{name}.lastconv.0": (channels, 52, 4, 4)}
        state |= {f"{name}.convblock.{i}.beta": torch.ones(1, channels, 1, 1) for i in range(8)}
    for layers, outputs in ((convolutions, 0), (transposed, 1)):
        for name, shape in layers.items():
            state |= {f"{name}.weight": torch.zeros(shape), f"{name}.bias": torch.zeros(shape[outputs])}
    return state
