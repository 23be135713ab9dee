"""Every wrong setting, model, latent and noise that we know of, through the scheduler and both samplers."""

import shutil

import pytest
import torch
from bench import AUDIO, VIDEO, Bench
from graphs import CONFIG, ref
from refused import check, latent, number, refusals, shown, text, zeros
from safetensors.torch import load_file, save_file

CASES, refused = refusals()

# Schedule and guidance


@refused("The number of steps is 0; it must be at least 1 (50 is the release's).")
def no_steps(bench):
    shown(bench, ref(bench.add("MOVAScheduler", steps=number(bench, 0), shift=5.0, denoise=1.0)))


@refused("The shift is 0.0; it must be above 0")
def no_shift(bench):
    shown(bench, ref(bench.add("MOVAScheduler", steps=3, shift=number(bench, 0.0), denoise=1.0)))


@refused("Denoise is 0.0; it must be above 0 and at most 1 (1 starts from pure noise).")
def no_denoise(bench):
    shown(bench, ref(bench.add("MOVAScheduler", steps=3, shift=5.0, denoise=number(bench, 0.0))))


# The samplers: ours, and the core's custom one with our guider

WAYS = "joint", "guider"


def sampled(bench, way, model=None, latent=None, noise=None, sigmas=None, **inputs):
    """What the case gives, and else the golden inputs."""
    model, latent = model or bench.plain_model, latent or ref(bench.given, 2)
    conds = {"positive": ref(bench.given), "negative": ref(bench.given, 1)}
    if way == "joint":
        node = bench.joint(model, bench.given, latent, **({"noise": noise} if noise else {}))
        bench.nodes[node]["inputs"] |= inputs | ({"sigmas": sigmas} if sigmas else {})
    else:
        guider = bench.add("MOVAGuider", model=model, cfg=2.0, **{**conds, **inputs})
        sigmas = sigmas or ref(bench.add("MOVAScheduler", steps=2, shift=5.0, denoise=1.0))
        node = bench.custom(ref(guider), sigmas, noise or ref(bench.add("RandomNoise", noise_seed=7)), latent)
    bench.save(ref(node))


@refused("is WAN21, not MOVA; load a MOVA file there.", *WAYS, builds_models=True)
def another_model(bench, way):
    sampled(bench, way, bench.model("wan"))


@refused("There is no model in", *WAYS)
def no_model(bench, way):
    sampled(bench, way, ref(bench.add("ProbeNothing")))


for high, low, sentence in (
    ("mova_high", "wan", "The model in model_low is WAN21, not MOVA; load a MOVA file there."),
    ("mova_low", "mova_high", "The model in model_high is the low-noise expert, as its file says; connect the "),
    ("mova_high", "half_high", "The model in model_low is the high-noise expert, as its file says; connect the "),
    ("bare_high", "bare_high", "model_high and model_low are the same expert; load the low-noise file for model_low,"),
):

    @refused(sentence, (high, low), builds_models=True)
    def wrong_experts(bench, high, low):
        sampled(bench, "joint", bench.model(high), model_low=bench.model(low))


@refused("model_high and model_low are the same expert;", builds_models=True)
def the_same_model_for_both_inputs(bench):
    model = bench.model("bare_high")
    sampled(bench, "joint", model, model_low=model)


@refused("model_high and model_low are the same expert;", builds_models=True)
def copies_of_one_file_as_both_experts(bench):
    models = bench.server.base / "models/diffusion_models"
    shutil.copy(models / "bare_high.safetensors", models / "bare_copy.safetensors")
    sampled(bench, "joint", bench.model("bare_high"), model_low=bench.model("bare_copy"))


@refused("model_high and model_low are of different MOVA models; load both experts from the same release.",
         builds_models=True)  # fmt: skip
def experts_of_two_models(bench):
    models = bench.server.base / "models/diffusion_models"
    state = load_file(models / "bare_low.safetensors")
    last = f"blocks.{CONFIG['video_dit']['num_layers'] - 1}."
    save_file({n: t for n, t in state.items() if not n.startswith(last)}, models / "fewer_layers.safetensors")
    sampled(bench, "joint", model_low=bench.model("fewer_layers"))


@refused("MOVA needs text features 4096 wide, not 64; load the text encoder umt5_xxl with the type wan.",
         *((way, which) for way in WAYS for which in ("positive", "negative")), builds_models=True)  # fmt: skip
def text_of_another_encoder(bench, way, which):
    sampled(bench, way, **{which: text(bench, 64)})


@refused("The conditioning has no image part; put MOVA Conditioning between the text and the sampler.",
         *WAYS, builds_models=True)  # fmt: skip
def text_straight_from_the_encoder(bench, way):
    sampled(bench, way, positive=text(bench))


@refused("take the latent of MOVA Conditioning, or put ", *((way, kind) for way in WAYS
         for kind in ("image", "video", "audio")), builds_models=True)  # fmt: skip
def a_latent_of_one_part(bench, way, kind):
    if kind == "image":
        given = ref(bench.add("EmptyLatentImage", width=96, height=64, batch_size=1))
    else:
        given = latent(bench, f"only_{kind}", video=zeros()[kind])
    sampled(bench, way, latent=given)


@refused("MOVA samples a video latent of 16 channels together with an audio latent of 128, not [1, 48, 3, 8, 12] and "
         "[1, 128, 11];", *WAYS, builds_models=True)  # fmt: skip
def a_video_latent_of_another_model(bench, way):
    sampled(bench, way, latent=latent(bench, "wide", **zeros(video=torch.zeros(1, 48, 3, 8, 12))))


@refused("The latent has 2 video(s) but 1 audio(s); give both the same batch size.", *WAYS, builds_models=True)
def two_videos_and_one_sound(bench, way):
    sampled(bench, way, latent=latent(bench, "two_videos", **zeros(video=torch.zeros(2, *VIDEO[1:]))))


@refused("The conditioning is for a video latent of [16, 3, 8, 12], but the latent is [16, 4, 8, 12] (they must be the "
         "same, of even height and width); give both the same width, height and length.",
         *WAYS, builds_models=True)  # fmt: skip
def a_latent_longer_than_the_conditioning(bench, way):
    sampled(bench, way, latent=latent(bench, "longer", **zeros(video=torch.zeros(1, 16, 4, 8, 12))))


@refused("The audio latent is 11 long, but 9 frames at 24 a second need 19; encode the audio with MOVA Audio Encode "
         "for that length and frame rate.", *WAYS, builds_models=True)  # fmt: skip
def sound_of_another_length_than_the_frames(bench, way):
    rated = [ref(bench.add("ProbeFrameRate", conditioning=ref(bench.given, i), fps=24.0)) for i in range(2)]
    sampled(bench, way, positive=rated[0], negative=rated[1])


@refused("The audio mask has the shape [2, 3, 4, 5, 6], which does not fit the audio latent [1, 128, 11]; make it from "
         "a mask of one channel and the same length.", *WAYS, builds_models=True)  # fmt: skip
def an_audio_mask_of_the_wrong_shape(bench, way):
    masks = {"video_mask": torch.ones(1, 1, *VIDEO[2:]), "audio_mask": torch.ones(2, 3, 4, 5, 6)}
    sampled(bench, way, latent=latent(bench, "audio_mask", **zeros(**masks)))


@refused("The video mask has the shape [1, 3, 3, 8, 12], which does not fit the video latent [1, 16, 3, 8, 12]; make "
         "it from a mask of one channel and the same length.", *WAYS, builds_models=True)  # fmt: skip
def a_video_mask_of_the_wrong_shape(bench, way):
    masks = {"video_mask": torch.ones(1, 3, *VIDEO[2:]), "audio_mask": torch.ones(1, 1, AUDIO[2])}
    sampled(bench, way, latent=latent(bench, "video_mask", **zeros(**masks)))


@refused("The noise is [1, 16, 3, 8, 12] and [1, 128, 11], but the latent is [1, 16, 3, 8, 12] and [1, 128, 20]; "
         "connect RandomNoise.", *WAYS, builds_models=True)  # fmt: skip
def noise_of_another_size(bench, way):
    sampled(
        bench,
        way,
        latent=latent(bench, "more_sound", **zeros(audio=torch.zeros(1, 128, 20))),
        noise=ref(bench.given, 3),
    )


for setting, value, sentence in (
    ("steps", 0, "The number of steps is 0; it must be at least 1 (50 is the release's)."),
    ("video_shift", 0.0, "The shift is 0.0; it must be above 0"),
    ("audio_shift", 0.0, "The shift is 0.0; it must be above 0"),
    ("denoise", 0.0, "Denoise is 0.0; it must be above 0 and at most 1 (1 starts from pure noise)."),
    ("boundary", float("nan"), "boundary is nan; give a number."),
    ("a2v_scale", float("nan"), "a2v_scale is nan; give a number."),
    ("cfg", -1.0, "The guidance is -1.0; it must be 0 or more (the release's is 5, 1 turns it off)."),
    ("bridge_cfg", float("nan"), "The bridge guidance is nan; it must be 0 or more"),
):

    @refused(sentence, (setting, value), builds_models=True)
    def a_setting_out_of_range(bench, setting, value):
        sampled(bench, "joint", **{setting: number(bench, value) if value == value else value})


@refused("they must fall step by step from 1 or less to 0, as those of MOVA Scheduler do.", "flipped", "part", "none",
         builds_models=True)  # fmt: skip
def sigmas_that_are_no_schedule(bench, kind):
    sigmas = ref(bench.add("MOVAScheduler", steps=4, shift=5.0, denoise=1.0))
    if kind == "flipped":
        sigmas = ref(bench.add("FlipSigmas", sigmas=sigmas))
    else:
        sigmas = ref(bench.add("SplitSigmas", sigmas=sigmas, step=2 if kind == "part" else 0))
    if kind == "none":
        sigmas = ref(bench.add("SplitSigmas", sigmas=sigmas, step=0))
    sampled(bench, "joint", sigmas=sigmas)


@refused("which are no noise levels of MOVA's, from 1 to 0; take those of MOVA Scheduler.", "14, 2, 0", "1, 0.5, -0.5",
         builds_models=True)  # fmt: skip
@refused("The sigmas have no step, and begin where all is noise; give this sampler a step, or leave it out.", "1",
         builds_models=True)  # fmt: skip
def sigmas_that_no_flow_has(bench, values):
    sampled(bench, "guider", sigmas=ref(bench.add("ManualSigmas", sigmas=values)))


@refused("and of that nothing is left at the first sigma, 1; begin lower, with the second output of SplitSigmas, or "
         "connect RandomNoise.", *WAYS, builds_models=True)  # fmt: skip
def no_noise_for_the_sound_where_all_is_noise(bench, way):
    sampled(bench, way, noise=picture_s_noise(bench))


@refused("MOVA Video Noise has no noise for it, which the model expects to see; connect RandomNoise in its place.",
         *WAYS, builds_models=True)  # fmt: skip
def no_noise_for_a_sound_that_is_kept(bench, way):
    apart = bench.add("MOVASeparateLatent", latent=ref(bench.given, 2))
    kept = bench.add("MOVACombineLatent", video=ref(apart), audio=ref(apart, 1), keep_audio=True)
    sampled(bench, way, latent=ref(kept), noise=picture_s_noise(bench))


def picture_s_noise(bench):
    return ref(bench.add("MOVAVideoNoise", noise=ref(bench.add("RandomNoise", noise_seed=7))))


@refused("audio_shift_ratio is 0.0; it must be above 0 (1: as the video's).", ("audio_shift_ratio", 0.0),
         builds_models=True)  # fmt: skip
@refused("v2a_scale is nan; give a number.", ("v2a_scale", float("nan")), builds_models=True)
def a_setting_of_the_guider_out_of_range(bench, setting, value):
    sampled(bench, "guider", **{setting: number(bench, value) if value == value else value})


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_it_is_refused_in_one_sentence_and_nothing_is_loaded(server, files, case):
    check(server, case)


def test_a_run_that_works_does_load(server, files):
    """So that what the test above looks for in the log is there to be seen."""
    models, bench = server.base / "models/diffusion_models", Bench(server)
    shutil.copy(models / "mova_high.safetensors", models / "works.safetensors")
    sampled(bench, "joint", bench.model("works"))
    before = len(server.log.read_text())
    bench.run()
    log = server.log.read_text()[before:]
    assert "weights are asked for" in log and "model weight dtype" in log
