"""The graph of Wan 2.2, one sampler for each expert, and the packs that are that graph in one node."""

import pytest
from bench import AUDIO, VIDEO, Bench, differ
from graphs import numbers, ref
from packs import pack_server

SETTINGS = {"steps": 4, "cfg": 2.0, "sampler_name": "euler", "scheduler": "simple"}


def advanced(bench, model, latent, first, last, fresh, leftover):
    """KSamplerAdvanced from step `first` to `last` of 4, with new noise (fresh), what is left of it given on."""
    conds = {"positive": ref(bench.given), "negative": ref(bench.given, 1)}
    steps = {"start_at_step": first, "end_at_step": last, "noise_seed": 7, "latent_image": latent}
    noise = {"add_noise": fresh, "return_with_leftover_noise": leftover}
    inputs = {**conds, **SETTINGS, **steps, **{name: "enable" if yes else "disable" for name, yes in noise.items()}}
    return ref(bench.add("KSamplerAdvanced", model=model, **inputs))


def wan22(bench, latent, switch=2):
    high = advanced(bench, bench.plain_model, latent, 0, switch, fresh=True, leftover=True)
    return advanced(bench, bench.model("mova_low"), high, switch, 10000, fresh=False, leftover=False)


def at_once(bench, latent, boundary=0.9):
    """The same steps in one run."""
    conds = {"positive": ref(bench.given), "negative": ref(bench.given, 1), "latent": latent}
    sigmas = ref(bench.add("BasicScheduler", model=bench.plain_model, scheduler="simple", steps=4, denoise=1.0))
    inputs = {"seed": 7, "steps": 4, "cfg": 2.0, "video_shift": 5.0, "audio_shift": 5.0, "boundary": boundary}
    low = bench.model("mova_low")
    return ref(
        bench.add("MOVAJointSampler", model_high=bench.plain_model, model_low=low, sigmas=sigmas, **conds, **inputs)
    )


@pytest.mark.parametrize("batch", [1, 2, 3])
@pytest.mark.parametrize("given", ["empty", "a clip", "of a node of ours"])
def test_two_samplers_of_comfyui_make_what_one_run_of_both_experts_makes(server, files, batch, given):
    bench = Bench(server)
    if given == "empty":
        latent = ref(bench.given, 2)
        if batch > 1:
            latent = ref(bench.add("RepeatLatentBatch", samples=latent, amount=batch))
    else:
        parts = {"video": numbers("wv", batch, *VIDEO[1:]), "audio": numbers("wa", batch, *AUDIO[1:])}
        latent = bench.latent(**parts) if given == "a clip" else bench.joined(**parts)
    found, wanted = bench.results(wan22(bench, latent), at_once(bench, latent))
    assert found["video"].shape == (batch, *VIDEO[1:]) and found["audio"].shape == (batch, *AUDIO[1:])
    assert differ(found, wanted) < 1e-5


def test_without_noise_of_its_own_the_first_sampler_makes_something_else(server, files):
    """So that the comparison above would see it if the noise of zeros were taken for noise."""
    bench = Bench(server)
    latent = bench.latent()
    silent = advanced(bench, bench.plain_model, latent, 0, 10000, fresh=False, leftover=False)
    found, wanted = bench.results(silent, advanced(bench, bench.plain_model, latent, 0, 10000, True, False))
    assert differ(found, wanted) > 1e-2


@pytest.fixture(scope="module")
def packs(host_place, tmp_path_factory):
    names = "ComfyUI-TripleKSampler", "ComfyUI-WanMoeKSampler"
    with pack_server(host_place, tmp_path_factory.mktemp("samplers"), *names) as server:
        yield server


@pytest.mark.parametrize("batch", [1, 2])
def test_triple_ksampler_makes_what_the_samplers_of_comfyui_make(packs, batch):
    bench = Bench(packs)
    latent = bench.joined(video=numbers("tv", batch, *VIDEO[1:]), audio=numbers("ta", batch, *AUDIO[1:]))
    conds = {"positive": ref(bench.given), "negative": ref(bench.given, 1), "latent_image": latent}
    models = {"base_high": bench.plain_model, "lightning_high": bench.model("half_high")}
    stages = {"base_steps": 1, "base_quality_threshold": 4, "lightning_start": 1, "lightning_steps": 4}
    kinds = {f"{stage}_{kind}": value for stage in ("base", "lightning")
             for kind, value in (("cfg", 2.0), ("sampler", "euler"), ("scheduler", "simple"))}  # fmt: skip
    switch = {"switch_strategy": "Manual switch step", "switch_step": 2, "switch_boundary": 0.9, "dry_run": False}
    low = bench.model("mova_low")
    node = bench.add("TripleKSamplerWan22LightningAdvancedAlt", **models, lightning_low=low, **conds, seed=7,
                     sigma_shift=5.0, **stages, **kinds, **switch)  # fmt: skip
    first = advanced(bench, bench.plain_model, latent, 0, 1, fresh=True, leftover=True)
    second = advanced(bench, models["lightning_high"], first, 1, 2, fresh=False, leftover=True)
    third = advanced(bench, low, second, 2, 10000, fresh=False, leftover=False)
    found, wanted, once = bench.results(ref(node), third, at_once(bench, latent))
    assert found["audio"].shape == (batch, *AUDIO[1:])
    assert differ(found, wanted) < 1e-5
    assert 1e-5 < differ(found, once) < 0.5  # its second model is another, in half precision


@pytest.mark.parametrize("node", ["WanMoeKSampler", "WanMoeKSamplerAdvanced"])
def test_wan_moe_ksampler_makes_what_the_samplers_of_comfyui_make(packs, node):
    """It denoises fully where the experts change, and adds the same noise again."""
    bench = Bench(packs)
    latent, low = bench.latent(), bench.model("mova_low")
    inputs = {"positive": ref(bench.given), "negative": ref(bench.given, 1), "latent_image": latent, "boundary": 0.9}
    inputs |= {name: value for name, value in SETTINGS.items() if name != "cfg"}
    inputs |= {"cfg_high_noise": 2.0, "cfg_low_noise": 2.0, "sigma_shift": 5.0}
    if node == "WanMoeKSampler":
        inputs |= {"seed": 7, "denoise": 1.0}
    else:
        steps = {"start_at_step": 0, "end_at_step": 10000, "return_with_leftover_noise": "disable"}
        inputs |= {"noise_seed": 7, "add_noise": "enable", **steps}
    made = bench.add(node, model_high_noise=bench.plain_model, model_low_noise=low, **inputs)
    first = advanced(bench, bench.plain_model, latent, 0, 1, fresh=True, leftover=False)
    second = advanced(bench, low, first, 1, 10000, fresh=True, leftover=False)
    found, wanted = bench.results(ref(made), second)
    assert differ(found, wanted) < 1e-5
