"""Every wrong size, picture, latent and sound that we know of, through the nodes before and after the samplers."""

import pytest
import torch
from bench import AUDIO, VIDEO
from graphs import numbers, ref
from refused import check, latent, number, refusals, shown, tensors, text, zeros

CASES, refused = refusals()

# The clip's size, rate and pictures


def clip(bench, vae=None, linked=False, **settings):
    size = {"width": 96, "height": 64, "length": 9, "fps": 24.0, "batch_size": 1}
    settings = {name: number(bench, value) if linked else value for name, value in settings.items()}
    conds = {"positive": text(bench), "negative": text(bench)}
    node = bench.add("MOVAConditioning", vae=vae or bench.wan_vae(), **{**conds, **size, **settings})
    shown(bench, ref(node))


for setting, value, sentence in (
    ("width", 100, "The width 100 is not a multiple of 16; the nearest that works is 96."),
    ("height", 7, "The height 7 is not a multiple of 16; the nearest that works is 16."),
    ("length", 10, "10 frames do not make whole latent frames (4k + 1); the nearest that work: 9 or 13."),
    ("length", 0, "0 frames do not make whole latent frames (4k + 1); the nearest that work: 1."),
    ("fps", 0.0, "The frame rate 0.0 is out of range; it must be from 1 to 120 a second (24 is the release's)."),
):

    @refused(sentence, *((setting, value, how) for how in ("typed in", "from another node")))
    def a_size_or_rate_that_does_not_work(bench, setting, value, how):
        clip(bench, linked=how != "typed in", **{setting: value})


@refused("The VAE in vae is MOVA's audio VAE, but MOVA's video needs the Wan 2.1 VAE; load wan_2.1_vae there.")
def the_audio_vae_for_the_video(bench):
    clip(bench, bench.audio_vae())


@refused("The VAE in vae is missing, but MOVA's video needs the Wan 2.1 VAE; load wan_2.1_vae there.")
def no_vae_for_the_video(bench):
    clip(bench, ref(bench.add("ProbeNothing"), 2))


@refused("The pictures in start_image have the shape [1, 64, 96, 1], not [pictures, height, width, 3 colours];")
def a_picture_of_one_channel(bench):
    name = tensors(bench, "grey", images=torch.zeros(1, 64, 96, 1))
    picture = ref(bench.add("ProbeImages", file=name, sample_rate=48000))
    node = bench.add(
        "MOVAConditioning", vae=bench.wan_vae(), positive=text(bench), start_image=picture,
        negative=text(bench), width=96, height=64, length=9, fps=24.0, batch_size=1,
    )  # fmt: skip
    shown(bench, ref(node))


# Latents apart and together


@refused("take the latent of MOVA Conditioning, or put video and audio together with MOVA Combine Latent.",
         "image", "video", "audio")  # fmt: skip
def a_latent_that_cannot_be_separated(bench, kind):
    if kind == "image":
        given = ref(bench.add("EmptyLatentImage", width=96, height=64, batch_size=1))
    else:
        given = latent(bench, f"only_{kind}", video=zeros()[kind])
    shown(bench, ref(bench.add("MOVASeparateLatent", latent=given)))


@refused("MOVA Combine Latent needs a video latent [B, 16, T, H, W] and an audio latent [B, 128, L], not [1, 128, 11] "
         "and [1, 16, 3, 8, 12]; are the two swapped?")  # fmt: skip
def swapped_latents(bench):
    video, audio = bench.both_parts(bench.latent())
    bench.save(bench.together(audio, video))


@refused("MOVA Combine Latent needs a video latent [B, 16, T, H, W] and an audio latent [B, 128, L], not [1, 4, 8, 12] "
         "and [1, 128, 11]")  # fmt: skip
def an_image_latent_with_sound(bench):
    image = ref(bench.add("EmptyLatentImage", width=96, height=64, batch_size=1))
    bench.save(bench.together(image, bench.audio(bench.latent())))


@refused("The video mask has the shape [1, 3, 3, 8, 12], which does not fit the video latent [1, 16, 3, 8, 12];")
def a_mask_of_the_wrong_shape_in_combine(bench):
    masks = {"video_mask": torch.ones(1, 3, *VIDEO[2:]), "audio_mask": torch.ones(1, 1, AUDIO[2])}
    bench.save(bench.together(*bench.both_parts(latent(bench, "video_mask", **zeros(**masks)))))


# Sound and video


def sound(bench, rate=48000, **parts):
    return ref(bench.add("ProbeImages", file=tensors(bench, "refused_sound", **parts), sample_rate=rate), 1)


def encoded(bench, audio, vae=None, **settings):
    values = {"length": 9, "fps": 24.0, **settings}
    vae = vae or bench.audio_vae()
    shown(bench, ref(bench.add("MOVAAudioEncode", audio=audio, audio_vae=vae, **values)))


@refused("The VAE in audio_vae is one for video with 16 latent channels, not MOVA's audio VAE; load that with MOVA "
         "Audio VAE Loader.", "decode", "encode")  # fmt: skip
def the_video_vae_for_the_sound(bench, what):
    if what == "encode":
        encoded(bench, sound(bench, waveform=numbers("w", 1, 1, 18000)), bench.wan_vae())
    else:
        shown(bench, ref(bench.add("MOVAAudioDecode", samples=bench.audio(bench.latent()), audio_vae=bench.wan_vae())))


@refused("The VAE in audio_vae is missing, not MOVA's audio VAE; load that with MOVA Audio VAE Loader.")
def no_vae_for_the_sound(bench):
    nothing = ref(bench.add("ProbeNothing"), 2)
    shown(bench, ref(bench.add("MOVAAudioDecode", samples=bench.audio(bench.latent()), audio_vae=nothing)))


@refused("MOVA's audio VAE decodes latents [batch, 128, length], not [1, ", "image", "video")
def a_latent_without_sound(bench, kind):
    image = ref(bench.add("EmptyLatentImage", width=96, height=64, batch_size=1))
    given = image if kind == "image" else bench.video(bench.latent())
    shown(bench, ref(bench.add("MOVAAudioDecode", samples=given, audio_vae=bench.audio_vae())))


@refused("There is no sound in audio (the video it is from may have none); leave this node out.")
def a_video_without_sound(bench):
    encoded(bench, ref(bench.add("ProbeNothing"), 3))


@refused("The sound in audio is in int16, not in floats from -1 to 1; load it with Load Audio.")
def a_sound_of_whole_numbers_in_combine_video(bench):
    images = ref(bench.add("EmptyImage", width=96, height=64, batch_size=9, color=0))
    audio = sound(bench, waveform=torch.ones(1, 2, 18000, dtype=torch.int16))
    video = bench.add("MOVACombineVideo", images=images, audio=audio, fps=24.0)
    bench.add("SaveVideo", video=ref(video), filename_prefix="whole", format="auto", codec="auto")


@refused("The sound in audio has the shape [1, 2, 0], not [batch, channels, samples]; load another.",
         "encode", "combine")  # fmt: skip
def a_sound_without_samples(bench, what):
    audio = sound(bench, waveform=torch.zeros(1, 2, 0))
    if what == "encode":
        encoded(bench, audio)
    else:
        picture = ref(bench.add("EmptyImage", width=96, height=64, batch_size=9, color=0))
        shown(bench, ref(bench.add("MOVACombineVideo", images=picture, fps=24.0, audio=audio)))


@refused("The sound holds NaN or infinite values (1, the first at 0.125 s); take another.",
         "encode", "combine")  # fmt: skip
def a_sound_that_is_not_numbers(bench, what):
    waveform = torch.zeros(1, 2, 18000)
    waveform[0, 1, 6000] = float("nan")
    audio = sound(bench, waveform=waveform)
    if what == "encode":
        encoded(bench, audio)
    else:
        picture = ref(bench.add("EmptyImage", width=96, height=64, batch_size=9, color=0))
        shown(bench, ref(bench.add("MOVACombineVideo", images=picture, fps=24.0, audio=audio)))


@refused("Frame 2 of 3 holds NaN or infinite values;")
def a_video_of_frames_that_are_not_numbers(bench):
    images = torch.zeros(3, 64, 96, 3)
    images[2, 5, 5, 1] = float("inf")
    pictures = ref(bench.add("ProbeImages", file=tensors(bench, "not_numbers", images=images), sample_rate=48000))
    shown(bench, ref(bench.add("MOVACombineVideo", images=pictures, fps=24.0)))


@refused("10 frames do not make whole latent frames (4k + 1); the nearest that work: 9 or 13.",
         "typed in", "from another node")  # fmt: skip
def a_sound_for_a_length_that_does_not_work(bench, how):
    length = 10 if how == "typed in" else number(bench, 10)
    encoded(bench, sound(bench, waveform=numbers("w", 1, 1, 18000)), length=length)


@refused("The frame rate 0.0 is out of range;", "typed in", "from another node")
def a_sound_at_a_rate_of_0(bench, how):
    fps = 0.0 if how == "typed in" else number(bench, 0.0)
    encoded(bench, sound(bench, waveform=numbers("w", 1, 1, 18000)), fps=fps)


@refused("The frame rate 0.0 is out of range;", "typed in", "from another node")
def a_video_at_a_rate_of_0(bench, how):
    picture = ref(bench.add("EmptyImage", width=96, height=64, batch_size=9, color=0))
    fps = 0.0 if how == "typed in" else number(bench, 0.0)
    shown(bench, ref(bench.add("MOVACombineVideo", images=picture, fps=fps)))


@refused("The pictures in images have the shape [0, 64, 96, 3], not [pictures, height, width, 3 colours];")
def a_video_of_no_pictures(bench):
    name = tensors(bench, "no_pictures", images=torch.zeros(0, 64, 96, 3))
    pictures = ref(bench.add("ProbeImages", file=name, sample_rate=48000))
    shown(bench, ref(bench.add("MOVACombineVideo", images=pictures, fps=24.0)))


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_it_is_refused_in_one_sentence_and_nothing_is_loaded(server, files, case):
    check(server, case)
