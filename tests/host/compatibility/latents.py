"""ComfyUI's latent nodes."""

import torch
from bench import AUDIO, VIDEO, Bench, differ
from golden import error
from graphs import numbers, ref

from . import tried


@tried("Latents", "LTXVSeparateAVLatent", "audio-video")
def _(bench):
    latent = bench.latent()
    core = bench.add("LTXVSeparateAVLatent", av_latent=latent)
    video, audio, whole = bench.results(ref(core), ref(core, 1), latent)
    assert torch.equal(video["samples"], whole["video"]) and torch.equal(audio["samples"], whole["audio"])


@tried("Latents", "LTXVConcatAVLatent", "video and audio")
def _(bench):
    latent = bench.latent()
    video, audio = bench.both_parts(latent)
    core = ref(bench.add("LTXVConcatAVLatent", video_latent=video, audio_latent=audio))
    found, wanted = bench.results(bench.sample(bench.plain_model, latent=core, denoise=0.5),
                                  bench.sample(bench.plain_model, latent=latent, denoise=0.5))  # fmt: skip
    assert differ(found, wanted) == 0


UPSCALES = {
    "LatentUpscaleBy": {"upscale_method": "bilinear", "scale_by": 2.0},
    "LatentUpscale": {"upscale_method": "bilinear", "width": 192, "height": 128, "crop": "disabled"},
}


def upscales(node, inputs):
    @tried("Latents", node, "video")
    def _(bench):
        video = bench.video(bench.latent())
        found, given = bench.results(ref(bench.add(node, samples=video, **inputs)), video)
        assert found["samples"].shape == (1, 16, 3, 16, 24)
        shrunk = torch.nn.functional.interpolate(found["samples"][0], scale_factor=0.5, mode="area")
        assert error(shrunk, given["samples"][0]) < 0.5

    @tried("Latents", node, "audio-video")
    def _(bench):
        bench.results(ref(bench.add(node, samples=bench.joined(), **inputs)))


for upscale, inputs in UPSCALES.items():
    upscales(upscale, inputs)


@tried(
    "Latents", "LatentUpscaleBy", "video, joined again, then MOVA Joint Sampler with the conditioning of the small clip"
)
def _(bench):
    video, audio = bench.both_parts(bench.latent())
    large = ref(bench.add("LatentUpscaleBy", samples=video, **UPSCALES["LatentUpscaleBy"]))
    bench.results(ref(bench.joint(bench.plain_model, bench.given, bench.together(large, audio), denoise=0.5)))


@tried("Latents", "LatentUpscaleBy", "audio-video as KSampler gives it")
def _(bench):
    sampled = bench.sample(bench.plain_model)
    bench.results(ref(bench.add("LatentUpscaleBy", samples=sampled, **UPSCALES["LatentUpscaleBy"])))


def mask(bench, value):
    return ref(bench.add("SolidMask", value=value, width=96, height=64))


@tried("Latents", "SetLatentNoiseMask", "audio-video; the mask is the video's")
def _(bench):
    latent = bench.latent()
    masked = ref(bench.add("SetLatentNoiseMask", samples=latent, mask=mask(bench, 0.0)))
    joint = ref(bench.joint(bench.plain_model, bench.given, masked))
    core = bench.sample(bench.plain_model, latent=masked)
    given, *made = bench.results(latent, joint, core)
    assert torch.equal(made[0]["video"], given["video"])
    assert error(made[1]["video"], given["video"]) < 1e-5
    assert all(error(latent["audio"], given["audio"]) > 0.1 for latent in made)


@tried("Latents", "SetLatentNoiseMask", "audio, joined again: it is kept, the video is made for it")
def _(bench):
    latent = bench.latent()
    video, audio = bench.both_parts(latent)
    kept = ref(bench.add("SetLatentNoiseMask", samples=audio, mask=mask(bench, 0.0)))
    joint = ref(bench.joint(bench.plain_model, bench.given, bench.together(video, kept)))
    given, made = bench.results(latent, joint)
    assert torch.equal(made["audio"], given["audio"]) and error(made["video"], given["video"]) > 0.1


@tried("Latents", "RepeatLatentBatch", "video and audio, joined again, into a sampler")
def _(bench):
    parts = [ref(bench.add("RepeatLatentBatch", samples=part, amount=2)) for part in bench.both_parts(bench.latent())]
    found, made = bench.results(bench.together(*parts), bench.sample(bench.plain_model, latent=bench.together(*parts)))
    assert found["video"].shape == made["video"].shape == (2, *VIDEO[1:])
    assert torch.equal(found["video"][0], found["video"][1]) and torch.equal(found["audio"][0], found["audio"][1])
    assert error(made["audio"][:1], made["audio"][1:]) > 1e-3  # each has its own noise


@tried("Latents", "RepeatLatentBatch", "audio-video")
def _(bench):
    (found,) = bench.results(ref(bench.add("RepeatLatentBatch", samples=bench.joined(), amount=2)))
    assert found["video"].shape[0] == found["audio"].shape[0] == 2


def batch_of_two(bench):
    return bench.latent(video=numbers("bv", 2, *VIDEO[1:]), audio=numbers("ba", 2, *AUDIO[1:]))


@tried("Latents", "LatentFromBatch", "video and audio, joined again")
def _(bench):
    batch = batch_of_two(bench)
    parts = [ref(bench.add("LatentFromBatch", samples=p, batch_index=1, length=1)) for p in bench.both_parts(batch)]
    found, whole = bench.results(bench.together(*parts), batch)
    assert all(torch.equal(found[name], whole[name][1:]) for name in whole)


@tried("Latents", "LatentFromBatch", "audio-video")
def _(bench):
    batch = bench.together(*bench.both_parts(batch_of_two(bench)))
    found, whole = bench.results(ref(bench.add("LatentFromBatch", samples=batch, batch_index=1, length=1)), batch)
    assert all(torch.equal(found[name], whole[name][1:]) for name in whole)


@tried("Latents", "LatentMultiply", "audio-video")
def _(bench):
    latent = bench.latent()
    found, given = bench.results(ref(bench.add("LatentMultiply", samples=latent, multiplier=0.5)), latent)
    assert all(torch.equal(found[name], 0.5 * given[name]) for name in given)


@tried("Latents", "SaveLatent, LoadLatent", "video, audio")
def _(bench):
    parts = bench.both_parts(bench.latent())
    saved = [bench.add("SaveLatent", samples=p, filename_prefix=f"latents/part{i}") for i, p in enumerate(parts)]
    kept = [bench.save(part, f"part{i}.safetensors") for i, part in enumerate(parts)]
    result = bench.run()
    again = Bench(bench.server)
    names = ["{subfolder}/{filename} [output]".format(**result.outputs[node]["latents"][0]) for node in saved]
    found = again.results(*(ref(again.add("LoadLatent", latent=name)) for name in names))
    wanted = [bench.server.tensors(result, node) for node in kept]
    assert all(torch.equal(a["samples"], b["samples"]) for a, b in zip(found, wanted, strict=True))


@tried("Latents", "SaveLatent, LoadLatent", "audio-video; what is loaded goes into both inputs of MOVA Combine Latent")
def _(bench):
    saved = [bench.add("SaveLatent", samples=latent, filename_prefix="latents/both") for latent in sources(bench)]
    kept = [bench.save(latent, f"both{i}.safetensors") for i, latent in enumerate(sources(bench))]
    result = bench.run()
    again = Bench(bench.server)
    names = ["{subfolder}/{filename} [output]".format(**result.outputs[node]["latents"][0]) for node in saved]
    loaded = [ref(again.add("LoadLatent", latent=name)) for name in names]
    found = again.results(*(again.together(latent, latent) for latent in loaded))
    wanted = [bench.server.tensors(result, node) for node in kept]
    assert all(torch.equal(a[name], b[name]) for a, b in zip(found, wanted, strict=True) for name in b)


def sources(bench):
    """An audio-video latent from a node of ours, and one from KSampler."""
    return bench.joined(), bench.sample(bench.plain_model)


def with_both(node, function, on="two of audio-video", slots=("samples1", "samples2"), **inputs):
    @tried("Latents", node, on)
    def _(bench):
        one, other = sources(bench)
        made = ref(bench.add(node, **dict(zip(slots, (one, other), strict=True)), **inputs))
        found, a, b = bench.results(made, one, other)
        assert all(error(found[name], function(a[name], b[name])) < 1e-5 for name in a)


def between(a, b):
    lengths = [part.norm(dim=1, keepdim=True) for part in (a, b)]
    direction = a / lengths[0] * 0.5 + b / lengths[1] * 0.5
    return direction / direction.norm(dim=1, keepdim=True) * (lengths[0] + lengths[1]) / 2


with_both("LatentAdd", lambda a, b: a + b)
with_both("LatentSubtract", lambda a, b: a - b)
with_both("LatentBlend", lambda a, b: a * 0.25 + b * 0.75, blend_factor=0.25)
with_both("LatentInterpolate", between, ratio=0.5)
with_both("LatentBatch", lambda a, b: torch.cat([a, b]))


@tried("Latents", "LatentBatchSeedBehavior", "audio-video")
def _(bench):
    latent = bench.joined()
    found, given = bench.results(
        ref(bench.add("LatentBatchSeedBehavior", samples=latent, seed_behavior="fixed")), latent
    )
    assert differ(found, given) == 0


OF_ONE_PART = {
    "LatentCut": {"dim": "t", "index": 0, "amount": 1},
    "LatentFlip": {"flip_method": "x-axis: vertically"},
    "LatentRotate": {"rotation": "90 degrees"},
    "TrimVideoLatent": {"trim_amount": 1},
}


def refused(node, inputs):
    @tried("Latents", node, "audio-video")
    def _(bench):
        bench.results(*(ref(bench.add(node, samples=latent, **inputs)) for latent in sources(bench)))


for one_part, inputs in OF_ONE_PART.items():
    refused(one_part, inputs)


@tried("Latents", "RebatchLatents", "audio-video")
def _(bench):
    bench.results(ref(bench.add("RebatchLatents", latents=bench.joined(), batch_size=1)))


@tried("Latents", "LatentConcat", "two of audio-video")
def _(bench):
    one, other = sources(bench)
    bench.results(ref(bench.add("LatentConcat", samples1=one, samples2=other, dim="t")))
