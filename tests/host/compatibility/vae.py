"""ComfyUI's VAE nodes."""

import torch
from bench import VIDEO
from graphs import numbers, ref
from safetensors.torch import save_file

from . import NESTED, tried


@tried("VAE", "VAEDecode", "video; audio-video: its video (the Wan 2.1 VAE)")
def _(bench):
    latent, vae = bench.latent(), bench.wan_vae()
    outputs = [ref(bench.add("VAEDecode", samples=part, vae=vae)) for part in (bench.video(latent), latent)]
    part, whole = bench.pictures(*outputs)
    assert part.shape == (9, 64, 96, 3) and torch.equal(part, whole) and float(part.std()) > 1


TILES = {"tile_size": 64, "overlap": 32, "temporal_size": 64, "temporal_overlap": 8}


@tried("VAE", "VAEDecodeTiled", "video (the Wan 2.1 VAE)")
def _(bench):
    video, vae = bench.video(bench.latent()), bench.wan_vae()
    tiled = ref(bench.add("VAEDecodeTiled", samples=video, vae=vae, **TILES))
    found, whole = bench.pictures(tiled, ref(bench.add("VAEDecode", samples=video, vae=vae)))
    assert found.shape == whole.shape and float((found - whole).abs().mean()) < 0.5 * float(whole.std())


@tried("VAE", "VAEDecodeTiled", "audio-video: its video (the Wan 2.1 VAE)")
def _(bench):
    latent, vae = bench.joined(), bench.wan_vae()
    outputs = [
        ref(bench.add("VAEDecodeTiled", samples=part, vae=vae, **TILES)) for part in (latent, bench.video(latent))
    ]
    found, wanted = bench.pictures(*outputs)
    assert torch.equal(found, wanted)


@tried("VAE", "VAEEncode", "frames (the Wan 2.1 VAE)")
def _(bench):
    picture = ref(bench.add("EmptyImage", width=96, height=64, batch_size=9, color=0x3366CC))
    video = ref(bench.add("VAEEncode", pixels=picture, vae=bench.wan_vae()))
    together = bench.together(video, bench.audio(bench.latent()))
    found, made = bench.results(video, bench.sample(bench.plain_model, latent=together, denoise=0.5))
    assert found["samples"].shape == made["video"].shape == VIDEO


@tried("VAE", "VAEDecodeAudio", "audio; audio-video: its audio (MOVA's audio VAE)")
def _(bench):
    latent, vae = bench.latent(), bench.audio_vae()
    outputs = [ref(bench.add("VAEDecodeAudio", samples=part, vae=vae)) for part in (bench.audio(latent), latent)]
    part, whole = bench.sounds(*outputs)
    assert part.shape == (1, 1, 11 * 960) and torch.equal(part, whole)


@tried(
    "VAE",
    "VAEDecodeAudioTiled",
    "audio (MOVA's audio VAE)",
    note="it mixes the seams; VAEDecodeAudio and MOVA Audio Decode take long sound in pieces without any",
)
def _(bench):
    audio = bench.audio(bench.latent(video=numbers("lv", *VIDEO), audio=numbers("la", 1, 128, 80)))
    vae = bench.audio_vae()
    tiled = ref(bench.add("VAEDecodeAudioTiled", samples=audio, vae=vae, tile_size=40, overlap=8))
    found, whole = bench.sounds(tiled, ref(bench.add("VAEDecodeAudio", samples=audio, vae=vae)))
    assert found.shape == whole.shape
    before_the_seam = slice(0, 20 * 960)  # each of the two is turned down by its own loudness
    assert float(torch.cosine_similarity(found[0, 0, before_the_seam], whole[0, 0, before_the_seam], dim=0)) > 0.999


@tried("VAE", "VAEDecodeAudioTiled", "audio-video (MOVA's audio VAE)", does_not=NESTED)
def _(bench):
    bench.sounds(
        ref(bench.add("VAEDecodeAudioTiled", samples=bench.joined(), vae=bench.audio_vae(), tile_size=48, overlap=24))
    )


@tried("VAE", "VAEDecodeAudio", "video (MOVA's audio VAE)")
def _(bench):
    bench.sounds(ref(bench.add("VAEDecodeAudio", samples=bench.video(bench.latent()), vae=bench.audio_vae())))


@tried("VAE", "VAEDecode", "audio-video, with MOVA's audio VAE in place of Wan's")
def _(bench):
    bench.pictures(ref(bench.add("VAEDecode", samples=bench.latent(), vae=bench.audio_vae())))


@tried("VAE", "VAEDecodeAudio", "audio, with the Wan 2.1 VAE in place of MOVA's audio VAE", does_not=(
    "ComfyUI gives the sound to the video's VAE, which counts on five dimensions; MOVA Audio Decode refuses "
    "it in one sentence"
))  # fmt: skip
def _(bench):
    bench.sounds(ref(bench.add("VAEDecodeAudio", samples=bench.audio(bench.latent()), vae=bench.wan_vae())))


@tried(
    "VAE", "VAEEncodeAudio", "any sound (MOVA's audio VAE)", note="in its own length; MOVA Audio Encode fits the clip's"
)
def _(bench):
    save_file({"waveform": numbers("any", 1, 2, 18000) / 10}, bench.server.base / "input/compatibility_any.safetensors")
    sound = ref(bench.add("ProbeImages", file="compatibility_any.safetensors", sample_rate=44100), 1)
    (found,) = bench.results(ref(bench.add("VAEEncodeAudio", audio=sound, vae=bench.audio_vae())))
    assert found["samples"].shape == (1, 128, 21)  # 0.408 s at 50 a second
