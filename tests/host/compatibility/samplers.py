"""ComfyUI's samplers, schedulers and guiders."""

from bench import AUDIO, VIDEO, differ
from graphs import ref

from . import TRIES, Try, assert_golden, tried


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


def low(bench, latent, **settings):
    """KSamplerAdvanced with the other expert."""
    node = advanced(bench, latent, **settings)
    bench.nodes[node[0]]["inputs"]["model"] = bench.model("mova_low")
    return node


@tried("Samplers", "KSamplerAdvanced", "the graph of Wan 2.2: high-noise expert, then low-noise (add_noise disable)")
def _(bench):
    first = advanced(bench, ref(bench.given, 2), end_at_step=2, return_with_leftover_noise="enable")
    second = low(bench, first, start_at_step=2, add_noise="disable")
    sigmas = core_sigmas(bench, 4)
    once = bench.joint(bench.plain_model, bench.given, model_low=bench.model("mova_low"), sigmas=sigmas)
    found, wanted = bench.results(second, ref(once))
    assert differ(found, wanted) < 1e-5


WINDOWS = {"context_overlap": 1, "context_schedule": "standard_static", "context_stride": 1, "closed_loop": False}
WINDOWS |= {"fuse_method": "pyramid", "freenoise": False, "split_conds_to_windows": False}
RETAINED = {"cond_retain_index_list": "", "latent_retain_index_list": "", "causal_window_fix": True}
CONTEXT_NODES = {  # the shorter windows, and those as long as the clip of 3 latent frames
    "ContextWindowsManual": (2, 3, {"dim": 2, **RETAINED}),
    "WanContextWindowsManual": (5, 9, {"context_overlap": 4, "retain_first_frame": False}),
    "LTXVContextWindows": (9, 17, {"context_overlap": 8, "retain_first_frame": False}),
}


def windows(node, short, whole, settings):
    @tried("Samplers", node, "windows of latent frames, each with its sound; as long as the clip: as without")
    def _(bench):
        inputs = {**WINDOWS, **settings}
        models = [ref(bench.add(node, model=bench.plain_model, context_length=n, **inputs)) for n in (short, whole)]
        runs = [bench.sample(model) for model in (*models, bench.plain_model)]
        cut, uncut, plain = bench.results(*runs)
        assert differ(cut, plain) > 1e-4 and differ(uncut, plain) == 0


for context_node, (short, whole, settings) in CONTEXT_NODES.items():
    windows(context_node, short, whole, settings)
