"""ComfyUI's context windows: a window of latent frames goes with the audio latents that sound in it."""

import json
from itertools import pairwise

import pytest
import torch
from bench import Bench, Refused, differ
from golden import error
from graphs import numbers, ref
from inside import COMPILED, run_inside
from slow import slow

from mova.sampling.conditioning import audio_latents

FRAMES, FPS = 33, 24.0
LATENT_FRAMES, SOUNDS = 9, 69
MANUAL = {"context_length": 4, "context_overlap": 2, "context_schedule": "standard_static", "context_stride": 1,
          "closed_loop": False, "fuse_method": "pyramid", "dim": 2, "freenoise": False, "cond_retain_index_list": "",
          "split_conds_to_windows": False, "latent_retain_index_list": "", "causal_window_fix": True}  # fmt: skip
WAN = {"context_length": 13, "context_overlap": 8, "context_schedule": "standard_uniform", "context_stride": 1,
       "closed_loop": False, "fuse_method": "pyramid", "freenoise": True, "retain_first_frame": False,
       "split_conds_to_windows": False}  # fmt: skip
LTXV = WAN | {"context_length": 33, "context_overlap": 8}
NODES = {"ContextWindowsManual": MANUAL, "WanContextWindowsManual": WAN, "LTXVContextWindows": LTXV}
WHOLE = {"ContextWindowsManual": 9, "WanContextWindowsManual": 33, "LTXVContextWindows": 65}


def windowed(bench, model=None, node="ContextWindowsManual", **settings):
    return ref(bench.add(node, model=model or bench.plain_model, **{**NODES[node], **settings}))


def clip(bench, frames=FRAMES, batch=1):
    """positive, negative, latent of MOVA Conditioning; no frame is given, so that a part of it is like a short clip."""
    voice = ref(bench.add("ProbeClip"))
    texts = [ref(bench.add("CLIPTextEncode", clip=voice, text=text)) for text in ("a cat sings", "a dog")]
    size = {"width": 48, "height": 32, "length": frames, "fps": FPS, "batch_size": batch}
    given = {"positive": texts[0], "negative": texts[1], "vae": bench.wan_vae(), "text_only_frame": "none"}
    return bench.add("MOVAConditioning", **given, **size)


def start(bench, frames=LATENT_FRAMES, sounds=SOUNDS):
    video, audio = numbers("window", 1, 16, LATENT_FRAMES, 4, 6), numbers("sounds", 1, 128, SOUNDS)
    return bench.latent(video=video[:, :, :frames].contiguous(), audio=audio[:, :, :sounds].contiguous())


def test_the_clip_has_the_sound_of_its_length():
    assert audio_latents(FRAMES, FPS) == SOUNDS


@pytest.mark.parametrize("node", NODES)
def test_a_window_as_long_as_the_clip_changes_nothing(server, files, node):
    bench = Bench(server)
    given = clip(bench)
    patched = windowed(bench, node=node, context_length=WHOLE[node], freenoise=False)
    outputs = [ref(bench.ksampler(model, given)) for model in (bench.plain_model, patched)]
    plain, found = bench.results(*outputs)
    assert differ(found, plain) == 0


@pytest.mark.parametrize("node", NODES)
def test_shorter_windows_sample_the_whole_clip(server, files, node):
    bench = Bench(server)
    given = clip(bench)
    sampled = [ref(bench.ksampler(model, given)) for model in (bench.plain_model, windowed(bench, node=node))]
    plain, found = bench.results(*sampled)
    assert found["video"].shape == (1, 16, LATENT_FRAMES, 4, 6) and found["audio"].shape == (1, 128, SOUNDS)
    assert differ(found, plain) > 1e-4 and all(0.05 < float(part.std()) < 20 for part in found.values())


@pytest.mark.parametrize(  # the host's own overlap-linear fails, on any model, where the last window is shorter
    ("schedule", "fuse"),
    [
        ("standard_static", "overlap-linear"),
        ("standard_uniform", "relative"),
        ("looped_uniform", "flat"),
        ("batched", "pyramid"),
    ],
)
def test_all_schedules_and_fusions_of_the_host_run(server, files, schedule, fuse):
    bench = Bench(server)
    model = windowed(bench, context_schedule=schedule, fuse_method=fuse, context_stride=2, closed_loop=True)
    (found,) = bench.results(ref(bench.ksampler(model, clip(bench), steps=2)))
    assert all(0.05 < float(part.std()) < 20 for part in found.values())


def one_step(bench, model, given, latent):
    """The last of two steps, without noise: the same for a clip and a part of it."""
    conds = {"positive": ref(given), "negative": ref(given, 1), "latent_image": latent, "noise_seed": 7, "steps": 2}
    steps = {"start_at_step": 1, "end_at_step": 2, "add_noise": "disable", "return_with_leftover_noise": "disable"}
    kind = {"cfg": 2.0, "sampler_name": "euler", "scheduler": "simple"}
    return ref(bench.add("KSamplerAdvanced", model=model, **conds, **steps, **kind))


def test_the_first_window_is_made_as_a_clip_of_its_length(server, files):
    """Video, sound and the clock of the bridge. Its last audio latent also sounds in the next window."""
    bench = Bench(server)
    model = windowed(bench, context_length=3, context_overlap=0, context_schedule="batched", fuse_method="flat")
    long = one_step(bench, model, clip(bench), start(bench))
    unbroken = one_step(bench, bench.plain_model, clip(bench), start(bench))
    found, whole = bench.results(long, unbroken)
    # The short clip has other tensors of the same file's name: a run of its own.
    bench = Bench(server)
    (short,) = bench.results(one_step(bench, bench.plain_model, clip(bench, 9), start(bench, 3, 19)))
    assert error(found["video"][:, :, :3], short["video"]) < 1e-4
    assert error(found["audio"][:, :, :18], short["audio"][:, :, :18]) < 1e-4
    assert error(found["video"], whole["video"]) > 1e-3


def test_with_bridge_guidance_and_both_experts_and_kept_sound(server, files):
    bench = Bench(server)
    given = clip(bench)
    video, audio = bench.both_parts(start(bench))
    kept = ref(bench.add("MOVACombineLatent", video=video, audio=audio, keep_audio=True))
    high, low = windowed(bench), windowed(bench, bench.model("mova_low"))
    guidance = {"bridge_cfg": 1.5, "audio_cfg": 3.0, "audio_shift": 3.0}
    models = (bench.plain_model, bench.model("mova_low")), (high, low)
    runs = [ref(bench.joint(one, given, kept, model_low=other, **guidance)) for one, other in models]
    plain, found, before = bench.results(*runs, start(bench))
    assert torch.equal(found["audio"], before["audio"])
    assert error(found["video"], plain["video"]) > 1e-4


@pytest.mark.parametrize("way", ["whole", "windows"])
def test_with_the_guider(server, files, way):
    bench = Bench(server)
    given = clip(bench)
    length = LATENT_FRAMES if way == "whole" else 4
    settings = {"cfg": 2.0, "bridge_cfg": 1.5, "audio_cfg": 3.0, "audio_shift_ratio": 0.6}
    conds = {"positive": ref(given), "negative": ref(given, 1)}
    models = bench.plain_model, windowed(bench, context_length=length)
    sigmas, noise = (
        ref(bench.add("MOVAScheduler", steps=2, shift=5.0, denoise=1.0)),
        ref(bench.add("RandomNoise", noise_seed=7)),
    )
    guiders = [ref(bench.add("MOVAGuider", model=model, **conds, **settings)) for model in models]
    plain, found = bench.results(*(ref(bench.custom(guider, sigmas, noise, ref(given, 2))) for guider in guiders))
    assert (differ(found, plain) == 0) == (way == "whole")


@pytest.mark.parametrize(
    ("settings", "batch", "sentence"),
    [
        ({"dim": 4, "context_length": 2}, 1, "The context windows are along dimension 4, but a clip's frames are "),
        ({"dim": 5, "context_length": 2}, 1, "The context windows are along dimension 5, but a clip's frames are "),
        ({"dim": 1, "context_length": 2}, 1, "The context windows are along dimension 1, but a clip's frames are "),
        ({}, 2, "Context windows take one clip at a time, not 2; set batch_size to 1, or "),
    ],
)
def test_windows_that_the_host_cannot_cut_are_refused(server, files, settings, batch, sentence):
    bench = Bench(server)
    with pytest.raises(Refused, match=sentence):
        bench.results(ref(bench.ksampler(windowed(bench, **settings), clip(bench, batch=batch))))


def test_a_batch_within_one_window_is_sampled(server, files):
    bench = Bench(server)
    given = clip(bench, batch=2)
    models = bench.plain_model, windowed(bench, context_length=LATENT_FRAMES)
    plain, found = bench.results(*(ref(bench.ksampler(model, given)) for model in models))
    assert differ(found, plain) == 0 and len(found["video"]) == 2


SEEN = """
import json, types
from dataclasses import asdict
import comfy.context_windows as windows
import comfy.samplers
from pack.mova import JointModel
from pack.mova.tools import tiny
from pack.nodes.host.family import register
from pack.nodes.host.nested import AudioVideoLatent
from pack.nodes.loaders import Expert, build_expert

register()
state = tiny.random_state(JointModel(tiny.CONFIG, device="meta"), torch.Generator().manual_seed(0))
patcher = build_expert(Expert("tiny", state, asdict(tiny.CONFIG), {}), "default")
fps, T = 30.0, 9
from pack.mova.sampling.conditioning import audio_latents
L = audio_latents(4 * T - 3, fps)
seen = []
model = patcher.model.diffusion_model
forward = model.forward

def watch(x, timestep, **kwargs):
    seen.append({"video": x[0][0, 0, :, 0, 0].tolist(), "audio": x[1][0, 0].tolist(),
                 "condition": kwargs["condition"][0, 4, :, 0, 0].tolist(), "clock": asdict(kwargs["frame_rate"])})
    return [part * 0 + x_ for part, x_ in zip(forward(x, timestep, **kwargs), x)]

model.forward = watch
frames, sounds = (torch.arange(n, dtype=torch.float32) for n in (T, L))
latent = AudioVideoLatent([frames.view(1, 1, T, 1, 1).expand(1, 16, T, 4, 4).clone(), sounds.expand(1, 128, L).clone()])
image = latent.tensors[0] + 100
entries = {"concat_mask": torch.ones(1, 4, T, 4, 4), "concat_latent_image": image, "frame_rate": fps}
cond = [[torch.zeros(1, 7, tiny.CONFIG.video_dit.text_dim), entries]]
handler = windows.IndexListContextHandler(
    windows.get_matching_context_schedule(SCHEDULE), windows.get_matching_fuse_method("flat"), context_length=3,
    context_overlap=1, context_stride=2, dim=2, causal_window_fix=FIX)
patcher.model_options["context_handler"] = handler
guider = comfy.samplers.CFGGuider(patcher)
guider.set_conds(cond, cond)
guider.set_cfg(1.0)
with torch.inference_mode():
    guider.sample(latent * 0, latent, comfy.samplers.sampler_object("euler"), torch.tensor([0.0001, 0.0]))
print(json.dumps(seen))
if SCHEDULE == "standard_static":  # the host passes over windows as long as the clip: made to use one, it is the same
    model.forward, made = forward, []
    noise = AudioVideoLatent([torch.randn_like(part) for part in latent.tensors])
    for windows_of in (lambda *_: False), (lambda *_: True):
        handler.context_length, handler.should_use_context = T, windows_of
        with torch.inference_mode():
            euler, sigmas = comfy.samplers.sampler_object("euler"), torch.tensor([0.9, 0.5, 0.0])
            sampled = guider.sample(noise, latent, euler, sigmas)
        made.append(sampled.tensors)
    assert all(torch.equal(*parts) for parts in zip(*made))
    assert made[0][0].isfinite().all() and not torch.equal(made[0][0], latent.tensors[0])
"""


@pytest.mark.parametrize(("schedule", "fix"), [("standard_static", True), ("looped_uniform", False)])
def test_the_model_sees_the_latents_that_sound_in_the_window(host_place, schedule, fix):
    from test_audio_window import by_hand

    fps, length = 30.0, audio_latents(33, 30.0)
    seen = json.loads(run_inside(host_place, f"SCHEDULE, FIX = {schedule!r}, {fix}\n{SEEN}").splitlines()[-1])
    assert len(seen) > 3
    heard = set()
    for window in seen:
        # Latents are their own place in the clip, the image's are 100 more, in Wan's scale.
        sounds = [round(value) for value in window["audio"]]
        frames = window["clock"]["frames"]
        own = frames[1:] if fix and len(frames) == 4 else frames
        wanted = dict.fromkeys(a for frame in own for a in by_hand(frame, frame, fps, length))
        assert sounds == [*wanted] == window["clock"]["sounds"]
        steps = [b - a for a, b in pairwise(window["video"])]
        assert len(window["video"]) == len(window["condition"]) == len(frames)
        unit = [b - a for a, b in pairwise(frames)]
        ratio = {round(step / n, 2) for step, n in zip(steps, unit, strict=True)}
        assert len(ratio) == 1  # the same frames in the same order
        assert window["clock"]["fps"] == fps
        heard |= set(sounds)
    assert heard == {*range(length)}


WINDOWS = """
from pack.mova.model.rope import Window


def window(first):
    return Window(24.0, tuple(range(first, first + 2)), tuple(range(5 * first, 5 * first + 10)))


print(json.dumps(compile_counts({"frame_rate": window(first)} for first in range(4))))
"""


@slow("a model is compiled")
def test_a_compiled_model_is_compiled_once_for_all_windows(host_place):
    graphs = json.loads(run_inside(host_place, COMPILED + WINDOWS).splitlines()[-1])
    assert graphs[0] > 0 and len(set(graphs)) == 1
