"""ComfyUI's own nodes on MOVA, each tried on the real server: docs/compatibility.md is the table of what came out.

The table is written anew with MOVA_WRITE_TABLE=1, otherwise compared with what is in the file. Nodes and choices that a
version of ComfyUI lacks are left out.
"""

import functools
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from golden import error
from graphs import GIVEN, Graph, golden_model, headless, numbers, ref, to_model_scale
from PIL import Image
from safetensors.torch import save_file

from mova.guidance import Guidance

WRITE = bool(os.environ.get("MOVA_WRITE_TABLE"))
TABLE = Path(__file__).parents[2] / "docs/compatibility.md"
INTRODUCTION = """# ComfyUI's own nodes on MOVA

Made by `MOVA_WRITE_TABLE=1 python -m pytest tests/host/test_compatibility.py` on ComfyUI {version}; run without that
variable, the test compares. Each line is a workflow run on a real server, with a small model: **works** means that it
ends without an error and with the right result; **refuses** quotes what the user is told; **does not work** says why.

"Audio-video" is the latent that MOVA Conditioning makes and that samplers take and give; "video" and "audio" are its
parts (MOVA Separate Latent).
"""
VIDEO, AUDIO = (1, 16, 3, 8, 12), (1, 128, 11)


class Bench(Graph):
    """A graph that starts with the golden inputs, and the server to run it on."""

    def __init__(self, server) -> None:
        super().__init__()
        self.server = server
        self.given = self.add("ProbeGiven", **GIVEN)
        self.plain_model = self.model("mova_high")

    def run(self):
        result = self.server.run(self.nodes)
        if result.error is not None:
            raise Refused(result)
        return result

    def results(self, *outputs):
        """Run, and return the latents of these outputs: {"video", "audio"}, or {"samples"}; masks beside them."""
        saved = [self.save(output, f"compatibility{i}.safetensors") for i, output in enumerate(outputs)]
        result = self.run()
        found = [self.server.tensors(result, node) for node in saved]
        assert all(part.isfinite().all() for latent in found for part in latent.values()), "not finite"
        return found

    def sample(self, model, **settings):
        return ref(self.ksampler(model, self.given, **settings))

    def latent(self, **parts):
        """An audio-video latent of normal numbers; or of the given tensors."""
        name = f"compatibility_{'_'.join(parts) or 'latent'}.safetensors"
        drawn = parts or {"video": numbers("cv", *VIDEO), "audio": numbers("ca", *AUDIO)}
        save_file(drawn, self.server.base / "input" / name)
        return ref(self.add("ProbeGivenLatent", file=name))

    def joined(self, **parts):
        """The same as made by a node of the pack."""
        return self.together(*self.both_parts(self.latent(**parts)))

    def video(self, latent):
        return ref(self.add("MOVASeparateLatent", latent=latent))

    def audio(self, latent):
        return ref(self.add("MOVASeparateLatent", latent=latent), 1)

    def both_parts(self, latent):
        apart = self.add("MOVASeparateLatent", latent=latent)
        return ref(apart), ref(apart, 1)

    def together(self, video, audio):
        return ref(self.add("MOVACombineLatent", video=video, audio=audio))

    def wan_vae(self):
        return ref(self.add("ProbeWanVAE"))

    def audio_vae(self):
        return ref(self.add("MOVAAudioVAELoader", vae_name="MOVA-golden/audio_vae"))

    def pictures(self, *outputs):
        """Run, and return these IMAGEs [B, H, W, 3] in 0..255."""
        nodes = [self.add("PreviewImage", images=output) for output in outputs]
        result = self.run()
        found = []
        for node in nodes:
            files = [BytesIO(self.server.view(entry)) for entry in result.outputs[node]["images"]]
            found.append(torch.stack([pil_to_tensor(Image.open(file)) for file in files]))
        return found

    def sounds(self, *outputs):
        """Run, and return these AUDIOs' waveforms."""
        nodes = [self.add("ProbeSaveAudio", audio=o, name=f"compatibility{i}.st") for i, o in enumerate(outputs)]
        result = self.run()
        return [self.server.tensors(result, node)["waveform"] for node in nodes]


def pil_to_tensor(image):
    return torch.from_numpy(np.array(image.convert("RGB"))).float()


class Refused(Exception):
    """The run ended with an error."""

    def __init__(self, result) -> None:
        super().__init__(result.error)
        self.result = result


def differ(one, other):
    return max(error(one[name], other[name]) for name in ("video", "audio"))


@dataclass(frozen=True)
class Try:
    """One line of the table. `check` runs the workflow, and asserts what must come out."""

    part: str
    node: str
    on: str
    check: Callable[[Bench], None]
    does_not: str = ""  # why, in plain words, where the run fails with an error of ComfyUI's own or does nothing
    note: str = ""
    slow: bool = False  # minutes: only tried when the table is written, or with MOVA_SLOW_TESTS=1


TRIES: list[Try] = []


def tried(part: str, node: str, on: str, **more):
    def keep(check):
        TRIES.append(Try(part, node, on, check, **more))
        return check

    return keep


def changes(node: str, on: str, does_not: str = "", note: str = "", settings: dict | None = None, **inputs):
    """A node that patches the model: it runs, and the result is another than without it."""

    def check(bench: Bench) -> None:
        patched = ref(bench.add(node, model=bench.plain_model, **inputs))
        both = [bench.sample(model, **(settings or {})) for model in (bench.plain_model, patched)]
        plain, found = bench.results(*both)
        assert differ(found, plain) > 1e-6, "without effect"

    TRIES.append(Try("Models", node, on, check, does_not, note))


# Models


@tried("Models", "UNETLoader", "a file of one expert")
def _(bench):
    """As our own loop outside ComfyUI does it."""
    guider = bench.add("BasicGuider", model=bench.plain_model, conditioning=ref(bench.given))
    sigmas = ref(bench.add("MOVAScheduler", steps=3, shift=5.0, denoise=1.0))
    (found,) = bench.results(ref(bench.custom(ref(guider), sigmas, ref(bench.given, 3), ref(bench.given, 2))))
    assert_golden(found, 1.0)


@tried("Models", "UNETLoader", "weight_dtype fp8_e4m3fn", note="weights are rounded")
def _(bench):
    model = ref(bench.add("UNETLoader", unet_name="mova_high.safetensors", weight_dtype="fp8_e4m3fn"))
    found, plain = bench.results(bench.sample(model), bench.sample(bench.plain_model))
    assert 1e-6 < differ(found, plain) < 0.5


@tried("Models", "LoraLoaderModelOnly", "a LoRA for Wan 2.1 14B or for MOVA, by tensor names")
def _(bench):
    folder = bench.server.base / "models/loras"
    folder.mkdir(exist_ok=True)
    names = "diffusion_model.blocks.0.cross_attn.v", "diffusion_model.audio_dit.blocks.0.self_attn.q"
    state = golden_model("high").state_dict()
    lora = {}
    for name in names:
        wide, high = state[f"{name.removeprefix('diffusion_model.')}.weight"].shape[::-1]
        lora |= {f"{name}.lora_A.weight": numbers(f"{name}a", 4, wide) / 16}
        lora |= {f"{name}.lora_B.weight": numbers(f"{name}b", high, 4)}
    save_file(lora, folder / "compatibility.safetensors")
    models = [bench.plain_model]
    for strength in (0.5, 1.0):
        inputs = {"lora_name": "compatibility.safetensors", "strength_model": strength}
        models.append(ref(bench.add("LoraLoaderModelOnly", model=bench.plain_model, **inputs)))
    plain, half, whole = bench.results(*map(bench.sample, models))
    assert min(differ(half, plain), differ(whole, plain), differ(whole, half)) > 1e-6


@tried("Models", "ModelSamplingSD3", "shift of both modalities")
def _(bench):
    shifted = ref(bench.add("ModelSamplingSD3", model=bench.plain_model, shift=3.0))
    joint = bench.joint(bench.plain_model, bench.given, steps=5, video_shift=3.0, audio_shift=3.0)
    models = shifted, bench.plain_model
    found, plain, wanted = bench.results(*(bench.sample(model, steps=5) for model in models), ref(joint))
    assert differ(found, wanted) < 1e-5 < differ(found, plain)


CACHE = {"reuse_threshold": 3.0, "start_percent": 0.0, "end_percent": 1.0, "verbose": False}
changes("EasyCache", "skips steps of both modalities", settings={"steps": 8}, **CACHE)
changes("LazyCache", "skips steps of both modalities", settings={"steps": 8}, **CACHE)


@tried("Models", "TorchCompileModel", "backend inductor", slow=True)
def _(bench):
    compiled = ref(bench.add("TorchCompileModel", model=bench.plain_model, backend="inductor"))
    found, plain = bench.results(bench.sample(compiled, steps=2), bench.sample(bench.plain_model, steps=2))
    assert differ(found, plain) < 1e-4


@tried(
    "Models",
    "ModelMergeSimple",
    "two experts",
    note="the blocks' modulation vectors stay those of model1, as ComfyUI's patches leave out Wan's, too",
)
def _(bench):
    high, low = (golden_model(name).state_dict() for name in ("high", "low"))
    mixed = {name: 0.25 * value + 0.75 * low[name] for name, value in high.items()}
    mixed |= {name: value for name, value in high.items() if name.endswith(".modulation")}
    save_file(mixed, bench.server.base / "models/diffusion_models/compatibility_mixed.safetensors")
    other = bench.model("mova_low")
    merged = ref(bench.add("ModelMergeSimple", model1=bench.plain_model, model2=other, ratio=0.25))
    models = merged, bench.model("compatibility_mixed"), bench.plain_model
    found, wanted, plain = bench.results(*map(bench.sample, models))
    assert differ(found, wanted) < 1e-4 < differ(found, plain)


@tried("Models", "ModelSave", "one expert", note="the file no longer says which of the two experts it is")
def _(bench):
    bench.add("ModelSave", model=bench.plain_model, filename_prefix="diffusion_models/compatibility")
    bench.run()
    again = Bench(bench.server)
    saved = again.model("compatibility_00001_")
    found, plain = again.results(again.sample(saved), again.sample(again.plain_model))
    assert differ(found, plain) == 0


changes("SkipLayerGuidanceDiT", "double_layers; a skipped layer is skipped in both towers", double_layers="1",
        single_layers="", scale=3.0, start_percent=0.0, end_percent=1.0, rescaling_scale=0.0)  # fmt: skip
changes("SkipLayerGuidanceDiTSimple", "double_layers; a skipped layer is skipped in both towers", double_layers="1",
        single_layers="", start_percent=0.0, end_percent=1.0)  # fmt: skip
changes("CFGZeroStar", "one factor for video and audio together")
changes("Epsilon Scaling", "scaling_factor 1.02", scaling_factor=1.02)
changes(
    "RescaleCFG",
    "multiplier 0.7",
    multiplier=0.7,
    does_not="it measures over the dimensions of a picture, and video and audio reach it packed in one row of numbers",
)
changes(
    "NAGuidance",
    "its defaults",
    nag_scale=5.0,
    nag_alpha=0.5,
    nag_tau=1.5,
    does_not="it runs without effect: MOVA, like ComfyUI's Wan, does not call what it plugs in (attn1_output_patch)",
)
changes(
    "ScaleROPE",
    "scale_t 2",
    **{"scale_x": 1.0, "shift_x": 0.0, "scale_y": 1.0, "shift_y": 0.0, "scale_t": 2.0, "shift_t": 0.0},
    does_not="it runs without effect: its setting is read by ComfyUI's own Wan code only",
)


@tried(
    "Models",
    "CFGNorm",
    "strength 1",
    does_not="it runs, but scales each number by itself, not all channels of a place alike: video and audio reach it "
    "packed in one row of numbers",
)
def _(bench):
    """With one step the result is what guidance gave."""
    patched = ref(bench.add("CFGNorm", model=bench.plain_model, strength=1.0))
    found, plain = bench.results(*(bench.sample(model, steps=1) for model in (patched, bench.plain_model)))
    factors = to_model_scale(found["video"]) / to_model_scale(plain["video"])
    assert float(factors.std(dim=1).max()) < 1e-2


# Samplers


def all_choices(name, choices, **more):
    def check(bench):
        latents = bench.results(*(bench.sample(bench.plain_model, **{name: choice}) for choice in choices))
        assert all(latent["video"].shape == VIDEO and latent["audio"].shape == AUDIO for latent in latents)
        assert all(float(part.std()) > 0.05 for latent in latents for part in latent.values())

    TRIES.append(Try("Samplers", "KSampler", f"{name}: {', '.join(choices)}", check, **more))


all_choices("sampler_name", ["euler", "euler_ancestral", "heun", "heunpp2", "dpm_2", "dpm_2_ancestral", "lms"])
all_choices(
    "sampler_name", ["dpmpp_2s_ancestral", "dpmpp_sde", "dpmpp_2m", "dpmpp_2m_sde", "dpmpp_3m_sde", "ddpm", "lcm"]
)
all_choices("sampler_name", ["ipndm", "ipndm_v", "deis", "res_multistep", "gradient_estimation", "er_sde", "seeds_2"])
all_choices("sampler_name", ["dpm_fast", "dpm_adaptive", "sa_solver", "ddim", "uni_pc", "uni_pc_bh2", "euler_cfg_pp"])
all_choices("scheduler", ["simple", "normal", "sgm_uniform", "ddim_uniform", "beta", "linear_quadratic", "kl_optimal"])
all_choices("scheduler", ["karras", "exponential"])


def assert_golden(found, cfg):
    video, audio = headless(3, 3, Guidance(cfg))
    assert error(to_model_scale(found["video"]), video) < 1e-5 and error(found["audio"], audio) < 1e-5


ADVANCED = {"noise_seed": 7, "steps": 4, "cfg": 2.0, "sampler_name": "euler", "scheduler": "simple"}


def advanced(bench, latent, **settings):
    conds = {"positive": ref(bench.given), "negative": ref(bench.given, 1)}
    whole = {"start_at_step": 0, "end_at_step": 10000, "return_with_leftover_noise": "disable", "add_noise": "enable"}
    inputs = {**ADVANCED, **conds, **whole, **settings}
    return ref(bench.add("KSamplerAdvanced", model=bench.plain_model, latent_image=latent, **inputs))


@tried("Samplers", "KSamplerAdvanced", "add_noise enable")
def _(bench):
    node = advanced(bench, ref(bench.given, 2))
    found, wanted = bench.results(node, bench.sample(bench.plain_model, steps=4))
    assert differ(found, wanted) < 1e-6


@tried("Samplers", "KSamplerAdvanced", "add_noise disable, to go on where another ended")
def _(bench):
    first = advanced(bench, ref(bench.given, 2), end_at_step=2, return_with_leftover_noise="enable")
    second = advanced(bench, first, start_at_step=2, add_noise="disable")
    found, wanted = bench.results(second, bench.sample(bench.plain_model, steps=4))
    assert differ(found, wanted) < 1e-5


def core_sigmas(bench, steps=3):
    return ref(bench.add("BasicScheduler", model=bench.plain_model, scheduler="simple", steps=steps, denoise=1.0))


@tried("Samplers", "SamplerCustom", "on sigmas of BasicScheduler")
def _(bench):
    inputs = {"positive": ref(bench.given), "negative": ref(bench.given, 1), "latent_image": ref(bench.given, 2)}
    inputs |= {"add_noise": True, "noise_seed": 7, "cfg": 2.0, "sigmas": core_sigmas(bench)}
    sampler = ref(bench.add("KSamplerSelect", sampler_name="euler"))
    node = bench.add("SamplerCustom", model=bench.plain_model, sampler=sampler, **inputs)
    found, wanted = bench.results(ref(node), bench.sample(bench.plain_model))
    assert differ(found, wanted) < 1e-6


@tried("Samplers", "SamplerCustomAdvanced", "with CFGGuider")
def _(bench):
    conds = {"positive": ref(bench.given), "negative": ref(bench.given, 1)}
    guider = ref(bench.add("CFGGuider", model=bench.plain_model, cfg=2.0, **conds))
    sigmas = ref(bench.add("MOVAScheduler", steps=3, shift=5.0, denoise=1.0))
    (found,) = bench.results(ref(bench.custom(guider, sigmas, ref(bench.given, 3), ref(bench.given, 2))))
    assert_golden(found, 2.0)


@tried("Samplers", "SamplerCustomAdvanced", "with BasicGuider, RandomNoise, BasicScheduler")
def _(bench):
    guider = ref(bench.add("BasicGuider", model=bench.plain_model, conditioning=ref(bench.given)))
    noise = ref(bench.add("RandomNoise", noise_seed=7))
    node = bench.custom(guider, core_sigmas(bench), noise, ref(bench.given, 2))
    found, wanted = bench.results(ref(node), bench.sample(bench.plain_model, cfg=1.0))
    assert differ(found, wanted) < 1e-6


@tried("Samplers", "SamplerCustomAdvanced", "with DualCFGGuider")
def _(bench):
    conds = {"cond1": ref(bench.given), "cond2": ref(bench.given, 1), "negative": ref(bench.given, 1)}
    inputs = {"cfg_conds": 2.0, "cfg_cond2_negative": 1.0, "style": "regular"}
    guider = ref(bench.add("DualCFGGuider", model=bench.plain_model, **conds, **inputs))
    noise = ref(bench.add("RandomNoise", noise_seed=7))
    node = bench.custom(guider, core_sigmas(bench), noise, ref(bench.given, 2))
    found, wanted = bench.results(ref(node), bench.sample(bench.plain_model))
    assert differ(found, wanted) < 1e-5  # the second condition is the negative one: ordinary guidance


@tried("Samplers", "SamplerCustomAdvanced", "with DisableNoise, to go on where another ended (SplitSigmas)")
def _(bench):
    conds = {"positive": ref(bench.given), "negative": ref(bench.given, 1)}
    guider = ref(bench.add("CFGGuider", model=bench.plain_model, cfg=2.0, **conds))
    parts = bench.add("SplitSigmas", sigmas=core_sigmas(bench, 4), step=2)
    first = bench.custom(guider, ref(parts), ref(bench.add("RandomNoise", noise_seed=7)), ref(bench.given, 2))
    second = bench.custom(guider, ref(parts, 1), ref(bench.add("DisableNoise")), ref(first))
    found, wanted = bench.results(ref(second), bench.sample(bench.plain_model, steps=4))
    assert differ(found, wanted) < 1e-5


@tried("Samplers", "KSampler", "denoise 0.5 on an audio-video latent")
def _(bench):
    given = bench.latent()
    found, plain, start = bench.results(
        bench.sample(bench.plain_model, latent=given, denoise=0.5), bench.sample(bench.plain_model), given
    )
    assert min(differ(found, plain), differ(found, start)) > 1e-3


@tried("Samplers", "KSampler", "a latent of another model (EmptyLatentImage)")
def _(bench):
    image = ref(bench.add("EmptyLatentImage", width=96, height=64, batch_size=1))
    bench.results(bench.sample(bench.plain_model, latent=image))


@tried("Samplers", "KSampler", "a video latent without audio (EmptyHunyuanLatentVideo)")
def _(bench):
    video = ref(bench.add("EmptyHunyuanLatentVideo", width=96, height=64, length=9, batch_size=1))
    bench.results(bench.sample(bench.plain_model, latent=video))


# Conditioning


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


# Latents

NESTED = "it does not know latents of two parts; use it on the video and the audio of MOVA Separate Latent"


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

    @tried("Latents", node, "audio-video", does_not=NESTED)
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


@tried("Latents", "LatentUpscaleBy", "audio-video as KSampler gives it", does_not=NESTED)
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


@tried("Latents", "RepeatLatentBatch", "audio-video", does_not=NESTED)
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


@tried("Latents", "LatentFromBatch", "audio-video", does_not=NESTED)
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


@tried("Latents", "SaveLatent", "audio-video", does_not=NESTED)
def _(bench):
    bench.add("SaveLatent", samples=bench.joined(), filename_prefix="latents/both")
    bench.run()


# VAE


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


@tried("VAE", "VAEDecodeTiled", "audio-video (the Wan 2.1 VAE)", does_not=NESTED)
def _(bench):
    bench.pictures(ref(bench.add("VAEDecodeTiled", samples=bench.joined(), vae=bench.wan_vae(), **TILES)))


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


# The table


@functools.cache
def outcome(server, index: int) -> str | None:
    """The line of the table for one try; None if this ComfyUI lacks the node or the choice."""
    this = TRIES[index]
    try:
        this.check(Bench(server))
        result = f"**works**{this.note and f'; {this.note}'}"
    except Refused as refused:
        if not refused.result.traceback and re.search("not in list|not found|does not exist", str(refused)):
            return None
        if "custom_nodes/comfyui-mova/" in (refused.result.traceback or [""])[-1]:  # said by the pack itself
            assert "\n" not in str(refused)
            result = f"**refuses**: “{refused}”"
        else:
            assert this.does_not, f"an error that nobody understands: {refused}"
            result = f"**does not work**: {this.does_not}"
    except AssertionError:
        if not this.does_not:
            raise
        result = f"**does not work**: {this.does_not}"
    return f"{start(this)} {result} |"


def start(this: Try) -> str:
    return f"| {this.node} | {this.on} |"


def table(server) -> str:
    text = INTRODUCTION.format(version=server.get_json("/system_stats")["system"]["comfyui_version"])
    for part in dict.fromkeys(this.part for this in TRIES):
        lines = [outcome(server, i) for i, this in enumerate(TRIES) if this.part == part]
        text += f"\n## {part}\n\n| node | tried with | result |\n| --- | --- | --- |\n"
        text += "".join(f"{line}\n" for line in lines if line)
    return text


@pytest.mark.parametrize("index", range(len(TRIES)), ids=[f"{this.node} {this.on}" for this in TRIES])
def test_a_node_of_comfyui_does_what_the_table_says(server, files, index):
    if TRIES[index].slow and not (WRITE or os.environ.get("MOVA_SLOW_TESTS")):
        pytest.skip("takes minutes: set MOVA_SLOW_TESTS=1")
    line = outcome(server, index)
    if line is None:
        pytest.skip("not in this ComfyUI")
    as_written = WRITE or line in TABLE.read_text().splitlines()
    assert as_written, f"docs/compatibility.md does not say: {line}"


def test_the_table_has_a_line_for_each_try_and_no_other(server, files):
    if WRITE:
        TABLE.write_text(table(server))
    lines = [line for line in TABLE.read_text().splitlines() if line.startswith("| ")]
    found = [line for line in lines if not line.startswith(("| node ", "| --- "))]
    assert len(found) == len(TRIES)
    assert all(line.startswith(start(this)) for line, this in zip(found, TRIES, strict=True))
