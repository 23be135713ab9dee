"""ComfyUI's text encoding and Wan conditioning."""

from bench import differ
from graphs import ref

from . import tried


def texts(bench):
    clip = ref(bench.add("ProbeClip"))
    both = [bench.add("CLIPTextEncode", clip=clip, text=text) for text in ("a cat sings", "a dog")]
    return {"positive": ref(both[0]), "negative": ref(both[1])}


def sampled_with(bench, conds, latent):
    sampler = bench.ksampler(bench.plain_model, bench.given, latent)
    bench.nodes[sampler]["inputs"] |= {"positive": ref(conds), "negative": ref(conds, 1)}
    return ref(sampler)


def clip_sized(bench, **pictures):
    size = {"width": 96, "height": 64, "length": 9, "batch_size": 1}
    return {**texts(bench), "vae": bench.wan_vae(), **size, **pictures}


def as_mova_conditioning(bench, node, **pictures):
    inputs = clip_sized(bench, **pictures)
    wanted, found = bench.add("MOVAConditioning", **inputs, fps=24.0), bench.add(node, **inputs)
    latent = ref(wanted, 2)
    found, wanted, none = bench.results(*(sampled_with(bench, c, latent) for c in (found, wanted, bench.given)))
    assert differ(found, wanted) < 1e-4 < differ(found, none)


@tried("Conditioning", "CLIPTextEncode", "behind it MOVA Conditioning")
def _(bench):
    conds = bench.add("MOVAConditioning", **clip_sized(bench), fps=24.0)
    bench.results(sampled_with(bench, conds, ref(conds, 2)))


@tried("Conditioning", "CLIPTextEncode", "straight into a sampler")
def _(bench):
    sampler = bench.ksampler(bench.plain_model, bench.given)
    bench.nodes[sampler]["inputs"] |= texts(bench)
    bench.results(ref(sampler))


@tried("Conditioning", "WanImageToVideo", "start_image; the latent from MOVA Conditioning")
def _(bench):
    picture = ref(bench.add("EmptyImage", width=96, height=64, batch_size=1, color=0x3366CC))
    as_mova_conditioning(bench, "WanImageToVideo", start_image=picture)


@tried("Conditioning", "WanImageToVideo", "without start_image")
def _(bench):
    as_mova_conditioning(bench, "WanImageToVideo")


@tried("Conditioning", "WanImageToVideo", "its own latent, which has no audio")
def _(bench):
    picture = ref(bench.add("EmptyImage", width=96, height=64, batch_size=1, color=0x3366CC))
    conds = bench.add("WanImageToVideo", **clip_sized(bench, start_image=picture))
    bench.results(sampled_with(bench, conds, ref(conds, 2)))


@tried("Conditioning", "WanFirstLastFrameToVideo", "both pictures; the latent from MOVA Conditioning")
def _(bench):
    colours = {"start_image": 0x3366CC, "end_image": 0xCC6633}
    pictures = {
        name: ref(bench.add("EmptyImage", width=96, height=64, batch_size=1, color=colour))
        for name, colour in colours.items()
    }
    as_mova_conditioning(bench, "WanFirstLastFrameToVideo", **pictures)
