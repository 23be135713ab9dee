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


def changed(bench, node, **inputs):
    """KSampler with a positive conditioning that a node has changed, and without."""
    made = ref(bench.add(node, **inputs))
    sampler = bench.ksampler(bench.plain_model, bench.given)
    bench.nodes[sampler]["inputs"]["positive"] = made
    return bench.results(ref(sampler), bench.sample(bench.plain_model))


@tried("Conditioning", "ConditioningCombine", "two of MOVA Conditioning")
def _(bench):
    both = {"conditioning_1": ref(bench.given), "conditioning_2": ref(bench.given, 1)}
    found, plain = changed(bench, "ConditioningCombine", **both)
    assert differ(found, plain) > 1e-3


@tried("Conditioning", "ConditioningAverage", "two of MOVA Conditioning")
def _(bench):
    both = {"conditioning_to": ref(bench.given), "conditioning_from": ref(bench.given, 1)}
    found, plain = changed(bench, "ConditioningAverage", **both, conditioning_to_strength=0.5)
    assert differ(found, plain) > 1e-3


@tried("Conditioning", "ConditioningSetTimestepRange", "two ranges, combined")
def _(bench):
    ranges = [
        ref(bench.add("ConditioningSetTimestepRange", conditioning=ref(bench.given), start=start, end=end))
        for start, end in ((0.0, 0.5), (0.5, 1.0))
    ]
    found, plain = changed(bench, "ConditioningCombine", conditioning_1=ranges[0], conditioning_2=ranges[1])
    assert differ(found, plain) < 1e-5


@tried("Conditioning", "ConditioningZeroOut", "as the negative one")
def _(bench):
    found, plain = changed(bench, "ConditioningZeroOut", conditioning=ref(bench.given))
    assert differ(found, plain) > 1e-3


@tried("Conditioning", "ConditioningSetArea", "behind MOVA Conditioning")
def _(bench):
    area = {"width": 64, "height": 64, "x": 0, "y": 0, "strength": 1.0}
    changed(bench, "ConditioningSetArea", conditioning=ref(bench.given), **area)


@tried("Conditioning", "ConditioningSetAreaPercentage", "behind MOVA Conditioning")
def _(bench):
    area = {"width": 0.5, "height": 0.5, "x": 0, "y": 0, "strength": 1.0}
    changed(bench, "ConditioningSetAreaPercentage", conditioning=ref(bench.given), **area)


@tried("Conditioning", "ConditioningSetMask", "behind MOVA Conditioning")
def _(bench):
    mask = ref(bench.add("SolidMask", value=1.0, width=96, height=64))
    more = {"strength": 1.0, "set_cond_area": "default", "mask": mask}
    changed(bench, "ConditioningSetMask", conditioning=ref(bench.given), **more)


@tried("Conditioning", "ConditioningSetAreaStrength", "behind MOVA Conditioning")
def _(bench):
    found, plain = changed(bench, "ConditioningSetAreaStrength", conditioning=ref(bench.given), strength=0.5)
    assert differ(found, plain) < 1e-5  # there is no other that it could be weighed against
